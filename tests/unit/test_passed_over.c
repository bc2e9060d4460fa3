/* Who refused lately: for how long it is passed over, and when that is forgotten. */
#include "traphandler/service/passed_over.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct passed_over p;

static int setup(void **state)
{
	(void)state;
	memset(&p, 0, sizeof(p));
	return 0;
}

/* Passed over from @now for exactly @ms. */
static void assert_for(uint64_t key, uint64_t now, uint64_t ms)
{
	assert_true(passed_over_now(&p, key, now));
	assert_true(passed_over_now(&p, key, now + ms - 1));
	assert_false(passed_over_now(&p, key, now + ms));
}

static void test_nobody_is_passed_over_at_first(void **state)
{
	(void)state;
	for (uint64_t key = 0; key < 1000; key++)
		assert_false(passed_over_now(&p, key, 0));
}

static void test_the_time_doubles_up_to_its_limit(void **state)
{
	static const unsigned want[] = {
		250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000
	};
	uint64_t now = 1000;

	(void)state;
	for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		passed_over_note(&p, 7, now);
		assert_for(7, now, want[i]);
		assert_false(passed_over_now(&p, 8, now)); /* somebody else is not */
		now += want[i];
	}
}

static void test_failures_of_one_moment_count_once(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++)
		passed_over_note(&p, 7, 1000);
	passed_over_note(&p, 7, 1249);
	assert_for(7, 1000, 250);
	passed_over_note(&p, 7, 1250);
	assert_for(7, 1250, 500);
}

static void test_a_success_clears(void **state)
{
	(void)state;
	passed_over_note(&p, 7, 1000);
	passed_over_note(&p, 9, 1000);
	passed_over_ok(&p, 7);
	passed_over_ok(&p, 7);
	passed_over_ok(&p, 8); /* never failed */
	assert_int_equal(p.used, 1);
	assert_false(passed_over_now(&p, 7, 1000));
	assert_for(9, 1000, 250);
	passed_over_note(&p, 7, 1001);
	assert_for(7, 1001, 250);
}

static void test_failures_of_a_minute_ago_are_forgotten(void **state)
{
	(void)state;
	passed_over_note(&p, 7, 1000);
	passed_over_note(&p, 7, 1250);
	passed_over_note(&p, 7, 1250 + 59999);
	assert_for(7, 1250 + 59999, 1000);
	passed_over_note(&p, 7, 1250 + 59999 + 60000);
	assert_for(7, 1250 + 59999 + 60000, 250);
	/* one that was noted while passed over is a failure, too */
	passed_over_note(&p, 7, 1250 + 59999 + 60000 + 249);
	passed_over_note(&p, 7, 1250 + 59999 + 60000 + 60248);
	assert_for(7, 1250 + 59999 + 60000 + 60248, 500);
}

static void test_more_than_fit_replace_those_that_failed_longest_ago(void **state)
{
	uint64_t n = PASSED_OVER_PLACES * PASSED_OVER_WAYS * 10, known = 0;

	(void)state;
	for (uint64_t i = 0; i < n; i++) {
		passed_over_note(&p, i * 0x9e3779b97f4a7c15u + 1, 1000 + i / 1024);
		assert_true(passed_over_now(&p, i * 0x9e3779b97f4a7c15u + 1, 1000 + i / 1024));
	}
	for (uint64_t i = 0; i < n; i++) {
		bool now = passed_over_now(&p, i * 0x9e3779b97f4a7c15u + 1, 1010);

		known += now;
		if (i < n / 2) /* old ones gave way to new ones */
			assert_false(now);
	}
	assert_true(known == PASSED_OVER_PLACES * PASSED_OVER_WAYS);
	assert_int_equal(p.used, known);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_nobody_is_passed_over_at_first, setup),
		cmocka_unit_test_setup(test_the_time_doubles_up_to_its_limit, setup),
		cmocka_unit_test_setup(test_failures_of_one_moment_count_once, setup),
		cmocka_unit_test_setup(test_a_success_clears, setup),
		cmocka_unit_test_setup(test_failures_of_a_minute_ago_are_forgotten, setup),
		cmocka_unit_test_setup(test_more_than_fit_replace_those_that_failed_longest_ago,
				       setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
