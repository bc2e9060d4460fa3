/* The rate limit of log lines: log_limit_take() with a virtual clock. */
#include <appswitch/log.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define T0 1000000u

static void test_a_burst_and_no_more(void **state)
{
	struct log_limit l = { 0 };
	unsigned left_out = 99;

	(void)state;
	for (unsigned i = 0; i < LOG_BURST; i++) {
		assert_true(log_limit_take(&l, T0, &left_out));
		assert_int_equal(left_out, 0);
	}
	left_out = 99;
	assert_false(log_limit_take(&l, T0, &left_out));
	assert_int_equal(left_out, 99); /* untouched on failure */
}

static void test_then_one_in_each_interval(void **state)
{
	struct log_limit l = { 0 };
	unsigned left_out, said = 0;

	(void)state;
	while (log_limit_take(&l, T0, &left_out))
		;
	assert_false(log_limit_take(&l, T0 + LOG_EVERY_MS - 1, &left_out));
	assert_true(log_limit_take(&l, T0 + LOG_EVERY_MS, &left_out));
	assert_int_equal(left_out, 2);
	assert_false(log_limit_take(&l, T0 + LOG_EVERY_MS, &left_out));
	for (unsigned ms = 1; ms <= 100 * LOG_EVERY_MS; ms++)
		said += log_limit_take(&l, T0 + LOG_EVERY_MS + ms, &left_out);
	assert_int_equal(said, 100);
}

static void test_quiet_earns_one_burst_at_most(void **state)
{
	struct log_limit l = { 0 };
	unsigned left_out, said = 0;

	(void)state;
	assert_true(log_limit_take(&l, T0, &left_out));
	for (unsigned i = 0; i < 100; i++)
		said += log_limit_take(&l, T0 + 1000 * LOG_EVERY_MS, &left_out);
	assert_int_equal(said, LOG_BURST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_burst_and_no_more),
		cmocka_unit_test(test_then_one_in_each_interval),
		cmocka_unit_test(test_quiet_earns_one_burst_at_most),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
