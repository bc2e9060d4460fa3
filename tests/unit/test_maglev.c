/* Consistent hashing: even shares, the same on all nodes, and how little moves when an instance
 * goes. Prints what moved. */
#include "traphandler/service/maglev.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t ids[MAGLEV_IDS];

static int setup(void **state)
{
	*state = maglev_cache_new();
	for (uint64_t i = 0; i < MAGLEV_IDS; i++)
		ids[i] = i + 1; /* what counters give */
	return *state == NULL;
}

static int teardown(void **state)
{
	maglev_cache_free(*state);
	return 0;
}

static void test_shares_differ_by_one_place_at_most(void **state)
{
	static const size_t sizes[] = { 1, 2, 3, 20, 21, 50, 655, 1024 };

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		const struct maglev *t = maglev_get(*state, ids, sizes[s]);
		unsigned got[MAGLEV_IDS + 1] = { 0 };

		for (uint32_t i = 0; i < MAGLEV_SIZE; i++) {
			assert_in_range(maglev_at(t, i), 1, sizes[s]);
			got[maglev_at(t, i)]++;
		}
		for (size_t i = 1; i <= sizes[s]; i++)
			assert_in_range(got[i], MAGLEV_SIZE / sizes[s],
					MAGLEV_SIZE / sizes[s] + 1);
	}
}

static void test_sources_are_spread_within_two_percent(void **state)
{
	enum { N = 50, EACH = 40000 };
	const struct maglev *t = maglev_get(*state, ids, N);
	unsigned got[N] = { 0 };
	uint16_t order[N];

	for (uint64_t source = 0; source < N * EACH; source++) {
		maglev_order(t, ids, N, source, order);
		got[order[0]]++;
	}
	for (size_t i = 0; i < N; i++)
		assert_in_range(got[i], EACH * 98 / 100, EACH * 102 / 100);
}

static void test_the_order_of_ids_does_not_matter(void **state)
{
	uint64_t other[50];
	uint16_t a[50], b[50];
	struct maglev_cache *second = maglev_cache_new(); /* another node's */

	for (size_t i = 0; i < 50; i++)
		other[i] = ids[i * 7 % 50];
	for (uint64_t source = 0; source < 2000; source++) {
		maglev_order(maglev_get(*state, ids, 50), ids, 50, source, a);
		maglev_order(maglev_get(second, other, 50), other, 50, source, b);
		for (size_t i = 0; i < 50; i++)
			assert_true(ids[a[i]] == other[b[i]]);
	}
	maglev_cache_free(second);
}

static void test_an_instance_that_goes_moves_few_other_sources(void **state)
{
	static const size_t sizes[] = { 3, 10, 21, 50, 200, 1024 };

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		size_t n = sizes[s];
		uint64_t rest[MAGLEV_IDS], gone = ids[n / 2];
		const struct maglev *a, *b;
		unsigned moved = 0, others = 0;

		memcpy(rest, ids, sizeof(rest));
		rest[n / 2] = ids[n - 1];
		a = maglev_get(*state, ids, n);
		b = maglev_get(*state, rest, n - 1); /* a cache keeps more than one */
		for (uint32_t i = 0; i < MAGLEV_SIZE; i++) {
			others += maglev_at(a, i) != gone;
			moved += maglev_at(a, i) != gone && maglev_at(a, i) != maglev_at(b, i);
		}
		print_message("1 of %zu goes: %.2f %% of the others move\n", n,
			      100.0 * moved / others);
		assert_true(moved * 100 < others); /* 1 % */
	}
}

static void test_an_order_names_all_and_begins_with_the_owner_and_its_neighbours(void **state)
{
	static const size_t sizes[] = { 1, 2, 10, 64, 1024 };

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		size_t n = sizes[s];
		const struct maglev *t = maglev_get(*state, ids, n);
		unsigned heirs[MAGLEV_IDS] = { 0 };
		size_t different = 0;

		for (uint64_t source = 0; source < 300; source++) {
			uint16_t *order = malloc(n * sizeof(*order)); /* exact, for ASan */
			bool seen[MAGLEV_IDS] = { 0 };

			maglev_order(t, ids, n, source, order);
			for (size_t i = 0; i < n; i++) {
				assert_in_range(order[i], 0, n - 1);
				assert_false(seen[order[i]]);
				seen[order[i]] = true;
			}
			if (n > 1 && order[0] == 0 && heirs[order[1]]++ == 0)
				different++;
			free(order);
		}
		if (n == 10) /* those of one instance have different second choices */
			assert_true(different >= 5);
	}
}

static void test_equal_ids_have_one_place_and_the_first_has_it(void **state)
{
	static const uint64_t twice[5] = { 7, 8, 7, 8, 7 };
	unsigned sevens = 0;

	for (uint64_t source = 0; source < 100; source++) {
		uint16_t order[5];

		maglev_order(maglev_get(*state, twice, 5), twice, 5, source, order);
		assert_in_range(order[0], 0, 1);
		assert_in_range(order[1], 0, 1);
		assert_memory_equal(order + 2, ((uint16_t[]){ 2, 3, 4 }), 6);
	}
	for (uint32_t i = 0; i < MAGLEV_SIZE; i++)
		sevens += maglev_at(maglev_get(*state, twice, 5), i) == 7;
	assert_in_range(sevens, MAGLEV_SIZE / 2, MAGLEV_SIZE / 2 + 1);
}

static void test_a_table_is_kept_until_64_others_were_used_after_it(void **state)
{
	const struct maglev *first = maglev_get(*state, ids, 2);

	for (size_t n = 3; n < 3 + MAGLEV_TABLES - 1; n++) {
		const struct maglev *t = maglev_get(*state, ids, n);

		assert_ptr_equal(maglev_get(*state, ids, n), t);
	}
	assert_ptr_equal(maglev_get(*state, ids, 2), first);
	/* now the table of three is the oldest: one more takes its place, and not that of two */
	maglev_get(*state, ids, 100);
	assert_ptr_equal(maglev_get(*state, ids, 2), first);
	assert_ptr_equal(maglev_get(*state, ids, 4), maglev_get(*state, ids, 4));
	assert_true(maglev_at(maglev_get(*state, ids + 1, 1), 0) == 2); /* a set, not a count */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shares_differ_by_one_place_at_most),
		cmocka_unit_test(test_sources_are_spread_within_two_percent),
		cmocka_unit_test(test_the_order_of_ids_does_not_matter),
		cmocka_unit_test(test_an_instance_that_goes_moves_few_other_sources),
		cmocka_unit_test(
			test_an_order_names_all_and_begins_with_the_owner_and_its_neighbours),
		cmocka_unit_test(test_equal_ids_have_one_place_and_the_first_has_it),
		cmocka_unit_test(test_a_table_is_kept_until_64_others_were_used_after_it),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
