/* Balancing: what each policy promises, over random tables of instances. */
#include "traphandler/service/lb.h"

#include <appswitch/util.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define N_MAX 64

static const enum lb_policy policies[] = { LB_LOCAL_FIRST, LB_ROUND_ROBIN, LB_RANDOM,
					   LB_LEAST_CONN,  LB_SOURCE_HASH, LB_WEIGHTED,
					   LB_ZONE_FIRST };

static uint64_t seed = 0x3c6ef372;

/* xorshift64* (Vigna, 2016): also its low bits are fit for a modulus */
static uint64_t rnd(void)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return seed * 0x2545f4914f6cdd1du;
}

static struct lb_input any_input(void)
{
	return (struct lb_input){ .seq = rnd() >> 8, .random = rnd(), .source = rnd() };
}

static void any_instances(struct lb_instance *inst, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		inst[i].id = rnd();
		inst[i].connections = (uint32_t)(rnd() % 4 ? rnd() % 10 : rnd());
		inst[i].weight = 1;
		inst[i].local = true;
		inst[i].same_zone = inst[i].passed_over = false;
	}
}

/* ... of any node and zone, some of them passed over or without weight. */
static void mixed_instances(struct lb_instance *inst, size_t n)
{
	any_instances(inst, n);
	for (size_t i = 0; i < n; i++) {
		inst[i].weight = (uint16_t)(rnd() % 3 ? rnd() % 5 : rnd());
		inst[i].local = rnd() % 3 == 0;
		inst[i].same_zone = rnd() % 2;
		inst[i].passed_over = rnd() % 3 == 0;
	}
}

static size_t first(enum lb_policy policy, const struct lb_instance *inst, size_t n,
		    const struct lb_input *in)
{
	uint16_t order[N_MAX];

	lb_order(policy, inst, n, in, order);
	return order[0];
}

static void test_policies_have_the_names_of_the_manual(void **state)
{
	static const char *const names[] = { "local-first",	  "round-robin", "random",
					     "least-connections", "source-hash", "weighted",
					     "zone-first" };

	(void)state;
	assert_int_equal(ARRAY_SIZE(names), LB_POLICIES);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		enum lb_policy p = (enum lb_policy)99;

		assert_int_equal(lb_policy_parse(names[i], &p), 0);
		assert_int_equal(p, policies[i]);
		assert_string_equal(lb_policy_name(p), names[i]);
	}
}

static void test_any_other_name_is_refused(void **state)
{
	static const char *const bad[] = {
		"",	    "local",	 "local-first ", "Random",
		"random\n", "leastconn", "source_hash",	 "round-robin2"
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		enum lb_policy p = LB_LEAST_CONN;

		assert_int_equal(lb_policy_parse(bad[i], &p), -EINVAL);
		assert_int_equal(p, LB_LEAST_CONN); /* untouched on failure */
	}
}

static void test_every_order_names_every_instance_once(void **state)
{
	struct maglev_cache *cache = maglev_cache_new();
	struct lb_instance inst[N_MAX];

	(void)state;
	for (size_t n = 1; n <= N_MAX; n++) {
		for (int round = 0; round < 100; round++) {
			uint16_t *order = malloc(n * sizeof(*order)); /* exact, for ASan */
			struct lb_input in = any_input();

			mixed_instances(inst, n);
			in.maglev = round == 0 ? cache : NULL; /* a table takes a while */
			for (size_t p = 0; p < ARRAY_SIZE(policies); p++) {
				uint64_t seen = 0;

				memset(order, 0xff, n * sizeof(*order));
				lb_order(policies[p], inst, n, &in, order);
				for (size_t i = 0; i < n; i++) {
					assert_in_range(order[i], 0, n - 1);
					seen |= (uint64_t)1 << order[i];
				}
				assert_true(seen == UINT64_MAX >> (64 - n));
			}
			free(order);
		}
	}
	maglev_cache_free(cache);
}

static void test_the_most_instances_are_ordered(void **state)
{
	static struct lb_instance inst[LB_INSTANCES_MAX];
	static uint16_t order[LB_INSTANCES_MAX];
	struct lb_input in = any_input();

	(void)state;
	in.maglev = maglev_cache_new();
	mixed_instances(inst, LB_INSTANCES_MAX);
	for (size_t i = 0; i < LB_INSTANCES_MAX; i++)
		inst[i].weight = UINT16_MAX; /* the sum of all fits */
	for (size_t p = 0; p < 2 * ARRAY_SIZE(policies); p++) {
		bool seen[LB_INSTANCES_MAX] = { 0 };

		lb_order(policies[p / 2], inst, LB_INSTANCES_MAX, &in, order);
		for (size_t i = 0; i < LB_INSTANCES_MAX; i++)
			seen[order[i]] = true;
		for (size_t i = 0; i < LB_INSTANCES_MAX; i++)
			assert_true(seen[i]);
	}
	maglev_cache_free(in.maglev);
}

static void test_who_is_passed_over_is_last_under_every_policy(void **state)
{
	struct lb_instance inst[N_MAX];
	uint16_t order[N_MAX];

	(void)state;
	for (int round = 0; round < 2000; round++) {
		size_t n = 1 + rnd() % N_MAX;
		struct lb_input in = any_input();

		mixed_instances(inst, n);
		for (size_t p = 0; p < ARRAY_SIZE(policies); p++) {
			lb_order(policies[p], inst, n, &in, order);
			for (size_t i = 1; i < n; i++)
				assert_true(inst[order[i - 1]].passed_over <=
					    inst[order[i]].passed_over);
		}
	}
}

static unsigned place_in(enum lb_policy policy, const struct lb_instance *i)
{
	switch (policy) {
	case LB_LOCAL_FIRST:
		return !i->local;
	case LB_ZONE_FIRST:
		return !i->local && !i->same_zone;
	case LB_WEIGHTED:
		return i->weight == 0;
	default:
		return 0;
	}
}

static void test_the_nearer_ones_are_first_and_weight_0_is_last(void **state)
{
	struct lb_instance inst[N_MAX];
	uint16_t order[N_MAX];

	(void)state;
	for (int round = 0; round < 2000; round++) {
		size_t n = 1 + rnd() % N_MAX;
		struct lb_input in = any_input();

		mixed_instances(inst, n);
		for (size_t p = 0; p < ARRAY_SIZE(policies); p++) {
			lb_order(policies[p], inst, n, &in, order);
			for (size_t i = 1; i < n; i++) {
				const struct lb_instance *a = &inst[order[i - 1]],
							 *b = &inst[order[i]];

				assert_true(a->passed_over != b->passed_over ||
					    place_in(policies[p], a) <=
						    place_in(policies[p], b));
			}
		}
	}
}

/* In turn among the near ones and, if these refuse, among the others; exact shares also where
 * near and far ones are mixed. */
static void test_near_and_far_ones_have_their_exact_shares_each(void **state)
{
	static const enum lb_policy nearest[] = { LB_LOCAL_FIRST, LB_ZONE_FIRST };
	struct lb_instance inst[10] = { 0 };
	uint16_t order[10];

	(void)state;
	inst[1].local = inst[2].local = inst[7].local = true;
	inst[1].same_zone = inst[2].same_zone = inst[7].same_zone = inst[3].same_zone = true;
	inst[5].passed_over = true;
	for (size_t p = 0; p < 2; p++) {
		size_t near = p == 0 ? 3 : 4, far = 9 - near;
		unsigned got_near[10] = { 0 }, got_far[10] = { 0 };
		struct lb_input in = any_input();

		for (size_t i = 0; i < near * far * 2; i++, in.seq++) {
			lb_order(nearest[p], inst, 10, &in, order);
			got_near[order[0]]++;
			got_far[order[near]]++;
			assert_int_equal(order[9], 5);
		}
		for (size_t i = 0; i < 10; i++) {
			bool is_near = inst[i].local || (p == 1 && inst[i].same_zone);

			assert_int_equal(got_near[i], is_near ? far * 2 : 0);
			assert_int_equal(got_far[i], is_near || i == 5 ? 0 : near * 2);
		}
	}
}

static void test_round_robin_gives_each_its_exact_share_in_turn(void **state)
{
	struct lb_instance inst[N_MAX];
	uint16_t order[N_MAX];

	(void)state;
	for (size_t n = 1; n <= N_MAX; n++) {
		unsigned got[N_MAX] = { 0 };
		struct lb_input in = any_input();

		any_instances(inst, n);
		for (size_t i = 0; i < n * 3; i++) {
			size_t turn;

			in.random = rnd();
			in.source = rnd();
			lb_order(LB_ROUND_ROBIN, inst, n, &in, order);
			in.seq++;
			turn = order[0];
			got[turn]++;
			assert_int_equal(first(LB_ROUND_ROBIN, inst, n, &in), (turn + 1) % n);
			/* refused by one: the next in turn, and so on around */
			for (size_t j = 1; j < n; j++)
				assert_int_equal(order[j], (turn + j) % n);
		}
		for (size_t i = 0; i < n; i++)
			assert_int_equal(got[i], 3);
	}
}

static void test_local_first_is_round_robin_where_all_are_local(void **state)
{
	struct lb_instance inst[N_MAX];
	uint16_t a[N_MAX], b[N_MAX];

	(void)state;
	for (int round = 0; round < 1000; round++) {
		size_t n = 1 + rnd() % N_MAX;
		struct lb_input in = any_input();

		any_instances(inst, n);
		lb_order(LB_LOCAL_FIRST, inst, n, &in, a);
		lb_order(LB_ROUND_ROBIN, inst, n, &in, b);
		assert_memory_equal(a, b, n * sizeof(*a));
	}
}

/* Expects about @want[i] hits of i, within five standard deviations of a fair
 * draw (at most sqrt(want)). The randomness is seeded: it cannot fail now and then. */
static void assert_about(const unsigned *got, const double *want, size_t n, const char *what)
{
	for (size_t i = 0; i < n; i++) {
		double off = (double)got[i] - want[i];

		if (off * off > 25 * want[i])
			fail_msg("%s: %zu of %zu was chosen %u times instead of %.0f", what, i,
				 n, got[i], want[i]);
	}
}

static void test_random_covers_all_evenly(void **state)
{
	static const size_t sizes[] = { 1, 2, 3, 7, 10, 64 };
	struct lb_instance inst[N_MAX];

	(void)state;
	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
		size_t n = sizes[s];
		unsigned got[N_MAX] = { 0 };
		double want[N_MAX];

		any_instances(inst, n);
		for (size_t i = 0; i < n; i++)
			want[i] = 1000;
		for (size_t i = 0; i < n * 1000; i++) {
			struct lb_input in = any_input();

			in.seq = 0;
			got[first(LB_RANDOM, inst, n, &in)]++;
		}
		assert_about(got, want, n, "random");
	}
}

static void test_least_connections_of_two_is_the_lesser(void **state)
{
	struct lb_instance inst[] = { { 1, 0 }, { 2, 0 } };
	static const uint32_t counts[][2] = {
		{ 0, 1 }, { 5, 6 }, { 0, UINT32_MAX }, { UINT32_MAX - 1, UINT32_MAX }
	};

	(void)state;
	for (size_t c = 0; c < ARRAY_SIZE(counts); c++) {
		for (int i = 0; i < 100; i++) {
			struct lb_input in = any_input();

			inst[0].connections = counts[c][0];
			inst[1].connections = counts[c][1];
			assert_int_equal(first(LB_LEAST_CONN, inst, 2, &in), 0);
			inst[0].connections = counts[c][1];
			inst[1].connections = counts[c][0];
			assert_int_equal(first(LB_LEAST_CONN, inst, 2, &in), 1);
		}
	}
}

/* The lesser of two different ones, all pairs equally likely: the one with k busier others is
 * the lesser in k of the n(n-1)/2 pairs; the busiest in none. */
static void test_least_connections_never_takes_the_busier_of_the_two(void **state)
{
	static const size_t sizes[] = { 2, 3, 4, 10, 33 };
	struct lb_instance inst[N_MAX];

	(void)state;
	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
		size_t n = sizes[s], pairs = n * (n - 1) / 2;
		unsigned got[N_MAX] = { 0 };
		double want[N_MAX];

		any_instances(inst, n);
		for (size_t i = 0; i < n; i++) {
			inst[i].connections = (uint32_t)((i * 37 + 11) % n); /* all differ */
			want[i] = 1000.0 * (double)(n - 1 - inst[i].connections);
		}
		for (size_t i = 0; i < pairs * 1000; i++) {
			struct lb_input in = any_input();

			got[first(LB_LEAST_CONN, inst, n, &in)]++;
		}
		assert_about(got, want, n,
			     "least-connections"); /* 0 of the busiest: exactly 0 */
	}
}

static void test_least_connections_among_equals_is_even(void **state)
{
	struct lb_instance inst[5] = { { 1, 3 }, { 2, 3 }, { 3, 3 }, { 4, 3 }, { 5, 3 } };
	static const double want[5] = { 1000, 1000, 1000, 1000, 1000 };
	unsigned got[5] = { 0 };

	(void)state;
	for (int i = 0; i < 5000; i++) {
		struct lb_input in = any_input();

		got[first(LB_LEAST_CONN, inst, 5, &in)]++;
	}
	assert_about(got, want, 5, "least-connections");
}

/* The second of the order by the shares of those that are left. */
static void test_weighted_draws_by_weight(void **state)
{
	static const uint16_t weights[] = { 10, 0, 30, 60 };
	struct lb_instance inst[4];
	unsigned first_got[4] = { 0 }, second_got[4] = { 0 };
	double first_want[4], second_want[4] = { 0 };
	uint16_t order[4];

	(void)state;
	any_instances(inst, 4);
	for (size_t i = 0; i < 4; i++)
		inst[i].weight = weights[i];
	for (size_t i = 0; i < 4; i++) {
		first_want[i] = weights[i] * 1000;
		for (size_t j = 0; j < 4; j++)
			if (i != j)
				second_want[i] +=
					weights[j] * 1000.0 * weights[i] / (100 - weights[j]);
	}
	for (int i = 0; i < 100000; i++) {
		struct lb_input in = any_input();

		lb_order(LB_WEIGHTED, inst, 4, &in, order);
		first_got[order[0]]++;
		second_got[order[1]]++;
		assert_int_equal(order[3], 1);
	}
	assert_about(first_got, first_want, 4, "weighted");
	assert_about(second_got, second_want, 4, "weighted, second");
}

static void test_only_weight_0_is_an_even_choice(void **state)
{
	static const double want[3] = { 1000, 1000, 1000 };
	struct lb_instance inst[3];
	unsigned got[3] = { 0 };

	(void)state;
	any_instances(inst, 3);
	for (size_t i = 0; i < 3; i++)
		inst[i].weight = 0;
	for (int i = 0; i < 3000; i++) {
		struct lb_input in = any_input();

		got[first(LB_WEIGHTED, inst, 3, &in)]++;
	}
	assert_about(got, want, 3, "weighted");
}

/* --- source-hash --- */

/* One that refuses for a moment: its sources go to their second choice and come back. */
static void test_passing_one_over_moves_no_other_source(void **state)
{
	struct maglev_cache *cache = maglev_cache_new();
	struct lb_instance inst[10];
	uint16_t before[10], after[10];

	(void)state;
	any_instances(inst, 10);
	for (int i = 0; i < 20000; i++) {
		struct lb_input in = { .source = rnd(), .maglev = i % 2 ? cache : NULL };

		inst[4].passed_over = false;
		lb_order(LB_SOURCE_HASH, inst, 10, &in, before);
		inst[4].passed_over = true;
		lb_order(LB_SOURCE_HASH, inst, 10, &in, after);
		assert_int_equal(after[0], before[0] == 4 ? before[1] : before[0]);
		assert_int_equal(after[9], 4);
	}
	maglev_cache_free(cache);
}

static void test_source_hash_is_by_the_table_where_there_is_one(void **state)
{
	struct maglev_cache *cache = maglev_cache_new();
	struct lb_instance inst[10];
	uint64_t ids[10];

	(void)state;
	any_instances(inst, 10);
	for (size_t i = 0; i < 10; i++)
		ids[i] = inst[i].id;
	for (int i = 0; i < 1000; i++) {
		struct lb_input in = { .source = rnd(), .maglev = cache };
		uint16_t order[10], want[10];

		lb_order(LB_SOURCE_HASH, inst, 10, &in, order);
		maglev_order(maglev_get(cache, ids, 10), ids, 10, in.source, want);
		assert_memory_equal(order, want, sizeof(want));
	}
	maglev_cache_free(cache);
}

static void test_a_source_keeps_its_instance_whatever_else_changes(void **state)
{
	struct lb_instance inst[N_MAX], other[N_MAX];
	uint16_t a[N_MAX], b[N_MAX];

	(void)state;
	for (int round = 0; round < 1000; round++) {
		size_t n = 1 + rnd() % N_MAX, turn = rnd() % n;
		struct lb_input in = any_input(), in2 = any_input();

		in2.source = in.source;
		any_instances(inst, n);
		for (size_t i = 0; i < n; i++) { /* rotated: places are not identities */
			other[i] = inst[(i + turn) % n];
			other[i].connections = (uint32_t)rnd();
		}
		lb_order(LB_SOURCE_HASH, inst, n, &in, a);
		lb_order(LB_SOURCE_HASH, other, n, &in2, b);
		for (size_t i = 0; i < n; i++)
			assert_true(inst[a[i]].id == other[b[i]].id);
	}
}

static void test_instances_of_equal_name_keep_their_order(void **state)
{
	struct lb_instance inst[4] = { { 7, 0 }, { 7, 0 }, { 7, 0 }, { 7, 0 } };
	struct lb_input in = any_input();
	uint16_t order[4];

	(void)state;
	lb_order(LB_SOURCE_HASH, inst, 4, &in, order);
	assert_memory_equal(order, ((uint16_t[]){ 0, 1, 2, 3 }), sizeof(order));
}

/* Consecutive names and sources: what counters and neighbouring addresses give. */
static void test_an_instance_that_goes_moves_only_its_own_sources(void **state)
{
	enum { N = 10, SOURCES = 20000 };
	struct lb_instance inst[N], rest[N];
	unsigned share[N] = { 0 }, heirs[N] = { 0 };
	double want[N];

	(void)state;
	for (size_t i = 0; i < N; i++) {
		inst[i] = (struct lb_instance){ .id = i + 1 };
		want[i] = SOURCES / (double)N;
	}
	for (size_t gone = 0; gone < N; gone++) {
		memset(share, 0, sizeof(share));
		memset(heirs, 0, sizeof(heirs));
		memcpy(rest, inst, sizeof(rest));
		memmove(&rest[gone], &rest[gone + 1], (N - 1 - gone) * sizeof(rest[0]));
		for (uint64_t src = 0; src < SOURCES; src++) {
			struct lb_input in = { .source = src };
			uint16_t order[N];
			uint64_t before, after;

			lb_order(LB_SOURCE_HASH, inst, N, &in, order);
			before = inst[order[0]].id;
			after = rest[first(LB_SOURCE_HASH, rest, N - 1, &in)].id;
			share[order[0]]++;
			if (order[0] != gone) {
				assert_true(before == after); /* not one more than must */
			} else {
				assert_true(after == inst[order[1]].id); /* its second choice */
				heirs[order[1]]++;
			}
		}
		assert_about(share, want, N, "source-hash");
		for (size_t i = 0; i < N; i++) /* no single one inherits it all */
			assert_true(i == gone || heirs[i] > SOURCES / N / N / 2);
	}
}

static void test_an_instance_that_comes_takes_only_its_share(void **state)
{
	enum { N = 9, SOURCES = 20000 };
	struct lb_instance inst[N + 1];
	unsigned moved = 0;

	(void)state;
	any_instances(inst, N + 1);
	for (uint64_t i = 0; i < SOURCES; i++) {
		struct lb_input in = { .source = rnd() };
		size_t before = first(LB_SOURCE_HASH, inst, N, &in);
		size_t after = first(LB_SOURCE_HASH, inst, N + 1, &in);

		assert_true(after == before || after == N);
		moved += after == N;
	}
	assert_in_range(moved, SOURCES / (N + 1) * 9 / 10, SOURCES / (N + 1) * 11 / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_policies_have_the_names_of_the_manual),
		cmocka_unit_test(test_any_other_name_is_refused),
		cmocka_unit_test(test_every_order_names_every_instance_once),
		cmocka_unit_test(test_the_most_instances_are_ordered),
		cmocka_unit_test(test_who_is_passed_over_is_last_under_every_policy),
		cmocka_unit_test(test_the_nearer_ones_are_first_and_weight_0_is_last),
		cmocka_unit_test(test_near_and_far_ones_have_their_exact_shares_each),
		cmocka_unit_test(test_round_robin_gives_each_its_exact_share_in_turn),
		cmocka_unit_test(test_local_first_is_round_robin_where_all_are_local),
		cmocka_unit_test(test_random_covers_all_evenly),
		cmocka_unit_test(test_least_connections_of_two_is_the_lesser),
		cmocka_unit_test(test_least_connections_never_takes_the_busier_of_the_two),
		cmocka_unit_test(test_least_connections_among_equals_is_even),
		cmocka_unit_test(test_weighted_draws_by_weight),
		cmocka_unit_test(test_only_weight_0_is_an_even_choice),
		cmocka_unit_test(test_passing_one_over_moves_no_other_source),
		cmocka_unit_test(test_source_hash_is_by_the_table_where_there_is_one),
		cmocka_unit_test(test_a_source_keeps_its_instance_whatever_else_changes),
		cmocka_unit_test(test_instances_of_equal_name_keep_their_order),
		cmocka_unit_test(test_an_instance_that_goes_moves_only_its_own_sources),
		cmocka_unit_test(test_an_instance_that_comes_takes_only_its_share),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
