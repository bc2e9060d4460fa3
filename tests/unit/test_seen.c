/* The replay cache: what was accepted is refused, across wrap-around, expiry, a full ring, and a
 * daemon that was killed at any point. */
#include "traphandler/remote/seen.h"

#include <appswitch/util.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct seen *seen_of(struct seen_entry *ring, uint32_t n)
{
	struct seen *s = NULL;

	assert_int_equal(seen_new(ring, n, &s), 0);
	return s;
}

static void test_a_nonce_is_accepted_once(void **state)
{
	struct seen_entry ring[8] = { 0 };
	struct seen *s = seen_of(ring, 8);

	(void)state;
	assert_int_equal(seen_add(s, 5, 100), 0);
	assert_int_equal(seen_add(s, 5, 100), -EALREADY);
	assert_int_equal(seen_add(s, 6, 100), 0);
	assert_int_equal(seen_add(s, 5, 100 + SEEN_KEEP_S - 1), -EALREADY);
	assert_int_equal(seen_add(s, 0, 100), -EINVAL);
	assert_int_equal(seen_stats(s).added, 2);
	assert_int_equal(seen_stats(s).replays, 2);
	seen_free(s);
	assert_null(seen_free(NULL));
}

static void test_sizes_that_cannot_be_are_refused(void **state)
{
	struct seen_entry ring[1] = { 0 };
	struct seen *s = NULL;

	(void)state;
	assert_int_equal(seen_new(ring, 0, &s), -EINVAL);
	assert_int_equal(seen_new(ring, SEEN_MAX + 1, &s), -EINVAL);
	assert_null(s);
}

static void test_two_windows_are_kept(void **state)
{
	(void)state;
	assert_true((uint64_t)(SEEN_KEEP_S - 1) * 1000000 >= 2 * (uint64_t)HELLO_WINDOW_US);
}

static void test_a_full_ring_refuses_until_the_oldest_expires(void **state)
{
	static const uint32_t sizes[] = { 1, 2, 3, 8, 100 };

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(sizes); k++) {
		uint32_t n = sizes[k];
		struct seen_entry *ring = calloc(n, sizeof(*ring)); /* exact, for ASan */
		struct seen *s = seen_of(ring, n);

		for (uint32_t i = 0; i < n; i++) /* one a second */
			assert_int_equal(seen_add(s, 1000 + i, 50 + i / 8), 0);
		assert_int_equal(seen_add(s, 1, 50 + SEEN_KEEP_S - 1), -ENOSPC);
		assert_int_equal(seen_stats(s).full, 1);
		/* what was refused for want of room is not known */
		assert_int_equal(seen_add(s, 1, 50 + SEEN_KEEP_S), 0);
		assert_int_equal(seen_add(s, 1, 50 + SEEN_KEEP_S), -EALREADY);
		/* the one that made room is forgotten, the others are not */
		for (uint32_t i = 1; i < n; i++)
			assert_int_equal(seen_add(s, 1000 + i, 50 + SEEN_KEEP_S), -EALREADY);
		seen_free(s);
		free(ring);
	}
}

static uint64_t nonce_at(uint64_t i)
{
	return (i + 1) * 0x9e3779b97f4a7c15u;
}

/* Goes round many times; after each step exactly the last N are known. Now and then the daemon
 * starts anew over the same ring. */
static void around(unsigned n, unsigned steps, unsigned restart_every, bool crowded)
{
	struct seen_entry *ring = calloc(n, sizeof(*ring));
	struct seen *s = seen_of(ring, n);

	for (uint64_t i = 0; i < steps; i++) {
		uint32_t now = (uint32_t)(i / n * SEEN_KEEP_S + (crowded ? 0 : i % n));

		assert_int_equal(seen_add(s, nonce_at(i), now), 0);
		if (restart_every != 0 && i % restart_every == 0) {
			seen_free(s);
			s = seen_of(ring, n);
		}
		for (uint64_t j = i >= n ? i - n + 1 : 0; j <= i; j++)
			assert_int_equal(seen_add(s, nonce_at(j), now), -EALREADY);
	}
	seen_free(s);
	free(ring);
}

static void test_exactly_the_last_of_a_ring_are_known_as_it_goes_round(void **state)
{
	(void)state;
	around(1, 100, 0, true);
	around(7, 1000, 0, true);
	around(64, 3000, 0, true);
	around(20, 3000, 0, false);
}

/* The clock moves within a round, as the order of what is found is told by it. */
static void test_the_same_with_a_new_daemon_now_and_then(void **state)
{
	(void)state;
	around(1, 100, 1, true);
	around(7, 1000, 3, false);
	around(20, 3000, 7, false);
}

static void test_all_is_known_after_a_restart(void **state)
{
	struct seen_entry ring[16] = { 0 };
	struct seen *s = seen_of(ring, 16);

	(void)state;
	for (uint64_t i = 0; i < 10; i++)
		assert_int_equal(seen_add(s, nonce_at(i), 7), 0);
	seen_free(s);
	s = seen_of(ring, 16);
	for (uint64_t i = 0; i < 10; i++)
		assert_int_equal(seen_add(s, nonce_at(i), 8), -EALREADY);
	for (uint64_t i = 10; i < 16; i++) /* exactly the empty ones are used */
		assert_int_equal(seen_add(s, nonce_at(i), 8), 0);
	assert_int_equal(seen_add(s, nonce_at(16), 8), -ENOSPC);
	seen_free(s);
}

/* A write that was cut off: its slot is empty, with any expiry; the others are untouched. */
static void test_a_write_that_was_cut_off_loses_no_other(void **state)
{
	(void)state;
	for (uint32_t cut = 0; cut < 8; cut++) {
		struct seen_entry ring[8] = { 0 };
		struct seen *s = seen_of(ring, 8);

		for (uint64_t i = 0; i < 8 + cut; i++)
			assert_int_equal(seen_add(s, nonce_at(i), i < 8 ? 7 : 7 + SEEN_KEEP_S),
					 0);
		seen_free(s);
		ring[cut].nonce = 0;
		ring[cut].expires_s = 0xdeadbeef;
		s = seen_of(ring, 8);
		for (uint64_t i = cut + 1; i < 8 + cut; i++)
			assert_int_equal(seen_add(s, nonce_at(i), 7 + SEEN_KEEP_S), -EALREADY);
		/* it is the next that is written, and behind it is the oldest */
		assert_int_equal(seen_add(s, 1, 7 + SEEN_KEEP_S), 0);
		assert_true(ring[cut].nonce == 1);
		if (cut < 7) {
			assert_int_equal(seen_add(s, 2, 7 + SEEN_KEEP_S), 0);
			assert_true(ring[cut + 1].nonce == 2);
		}
		seen_free(s);
	}
}

static void test_garbage_in_the_ring_does_not_block_it(void **state)
{
	struct seen_entry ring[4] = {
		{ 9, UINT32_MAX, 0 }, { 9, UINT32_MAX, 0 }, { 9, 0, 0 }, { 8, 5, 0 }
	};
	struct seen *s = seen_of(ring, 4);

	(void)state;
	assert_int_equal(seen_add(s, 9, 100), -EALREADY);
	for (uint64_t i = 0; i < 4; i++)
		assert_int_equal(seen_add(s, nonce_at(i), 100), 0);
	for (uint64_t i = 0; i < 4; i++)
		assert_int_equal(seen_add(s, nonce_at(i), 100), -EALREADY);
	assert_int_equal(seen_add(s, nonce_at(4), 100), -ENOSPC);
	seen_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_nonce_is_accepted_once),
		cmocka_unit_test(test_sizes_that_cannot_be_are_refused),
		cmocka_unit_test(test_two_windows_are_kept),
		cmocka_unit_test(test_a_full_ring_refuses_until_the_oldest_expires),
		cmocka_unit_test(test_exactly_the_last_of_a_ring_are_known_as_it_goes_round),
		cmocka_unit_test(test_the_same_with_a_new_daemon_now_and_then),
		cmocka_unit_test(test_all_is_known_after_a_restart),
		cmocka_unit_test(test_a_write_that_was_cut_off_loses_no_other),
		cmocka_unit_test(test_garbage_in_the_ring_does_not_block_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
