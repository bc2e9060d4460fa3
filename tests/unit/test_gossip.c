/* The core in small clusters on a virtual clock: what SWIM, Lifeguard and the service table
 * promise, each with its edge hit from both sides. */
#include "tests/sim/sim.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct sim *cluster(uint32_t n)
{
	struct sim *s = sim_new(n, 0xc0ffee);

	sim_start_all(s);
	sim_run(s, s->now + 2 * SIM_S);
	return s;
}

static enum gossip_state state_of(struct sim *s, uint32_t observer, uint32_t whom)
{
	struct gossip_member m;
	uint32_t it = 0;

	while (gossip_members(s->node[observer].g, &it, &m)) {
		if (m.id == s->node[whom].id)
			return m.state;
	}
	return (enum gossip_state)99;
}

static struct gossip_row row(uint32_t app)
{
	struct gossip_row r = {
		.network = 1, .port = 80, .proto = 6, .app = app, .since = 100
	};

	r.vip = sim_addr(1).addr;
	return r;
}

static unsigned count_rows(struct sim *s, uint32_t observer)
{
	struct gossip_row r;
	uint32_t it = 0;
	unsigned n = 0;

	while (gossip_rows(s->node[observer].g, &it, &r))
		n++;
	return n;
}

static void test_one_address_is_enough_to_join(void **state)
{
	struct sim *s = sim_new(5, 1);

	(void)state;
	sim_start(s, 0, SIM_NOBODY);
	for (uint32_t i = 1; i < 5; i++)
		sim_start(s, i, i - 1);
	sim_run(s, s->now + 3 * SIM_S);
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(gossip_stats(s->node[i].g).live, 4);
	sim_free(s);
}

static void test_a_seed_that_comes_up_later_is_found(void **state)
{
	struct sim *s = sim_new(2, 1);

	(void)state;
	sim_start(s, 1, 0);
	sim_run(s, s->now + 600 * SIM_S);
	assert_int_equal(gossip_stats(s->node[1].g).live, 0);
	sim_start(s, 0, SIM_NOBODY);
	sim_run(s, s->now + 3 * SIM_S);
	assert_int_equal(gossip_stats(s->node[1].g).live, 1);
	sim_free(s);
}

static void test_a_dead_node_is_suspected_first_and_dead_no_sooner_than_the_minimum(
	void **state)
{
	struct sim *s = cluster(10);
	uint64_t killed, suspected = 0, dead = 0;

	(void)state;
	sim_kill(s, 3);
	killed = s->now;
	while (dead == 0 && s->now < killed + 10 * SIM_S) {
		sim_run(s, s->now + 5 * SIM_MS);
		if (suspected == 0 && state_of(s, 0, 3) == GOSSIP_SUSPECT)
			suspected = s->now;
		if (state_of(s, 0, 3) == GOSSIP_DEAD)
			dead = s->now;
	}
	assert_true(suspected > killed && dead > 0);
	assert_true(dead - suspected >= 1900 * SIM_MS);
	assert_true(dead - killed <= 5 * SIM_S);
	sim_free(s);
}

static void test_two_nodes_alone_still_find_out(void **state)
{
	struct sim *s = cluster(2);

	(void)state;
	sim_kill(s, 1);
	sim_run(s, s->now + 4 * SIM_S);
	assert_int_equal(state_of(s, 0, 1), GOSSIP_DEAD);
	sim_free(s);
}

static unsigned suspicions;

static void on_member(struct sim *s, uint32_t node, const struct gossip_member *m)
{
	(void)s, (void)node;
	suspicions += m->state == GOSSIP_SUSPECT;
}

static void test_helpers_bridge_a_cut_between_two(void **state)
{
	struct sim *s = cluster(6);

	(void)state;
	s->on_member = on_member;
	sim_cut(s, 0, 1);
	sim_cut(s, 1, 0);
	sim_run(s, s->now + 120 * SIM_S);
	assert_int_equal(suspicions, 0);
	assert_int_equal(s->false_positives, 0);
	assert_int_equal(state_of(s, 0, 1), GOSSIP_ALIVE);
	assert_int_equal(state_of(s, 1, 0), GOSSIP_ALIVE);
	sim_free(s);
}

static void test_a_short_stall_is_refuted_and_a_long_one_is_a_death_that_is_taken_back(
	void **state)
{
	struct sim *s = cluster(10);

	(void)state;
	sim_freeze(s, 4, 1500 * SIM_MS);
	sim_run(s, s->now + 10 * SIM_S);
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(gossip_stats(s->node[i].g).live, 9);
	sim_freeze(s, 4, 8 * SIM_S);
	sim_run(s, s->now + 7 * SIM_S);
	assert_int_equal(state_of(s, 0, 4), GOSSIP_DEAD);
	sim_run(s, s->now + 6 * SIM_S);
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(gossip_stats(s->node[i].g).live, 9);
	assert_int_equal(s->false_positives, 0); /* the sleeper accused nobody on waking */
	sim_free(s);
}

/* The refutation lies unread when the sleeper's own clock says that time is up. */
static void test_who_slept_through_a_refutation_declares_nobody_dead(void **state)
{
	struct sim *s = cluster(2); /* where the shortest time counts: nobody can confirm */
	uint64_t limit = s->now + 5 * SIM_S;

	(void)state;
	sim_freeze(s, 1, 1200 * SIM_MS);
	while (state_of(s, 0, 1) != GOSSIP_SUSPECT && s->now < limit)
		sim_run(s, s->now + 5 * SIM_MS);
	assert_int_equal(state_of(s, 0, 1), GOSSIP_SUSPECT);
	sim_freeze(s, 0, 2500 * SIM_MS);
	sim_run(s, s->now + 10 * SIM_S);
	assert_int_equal(state_of(s, 0, 1), GOSSIP_ALIVE);
	assert_int_equal(s->false_positives, 0);
	sim_free(s);
}

/* The news of it are long over when the accused can hear again. */
static void test_the_accused_is_told_by_whoever_talks_to_it(void **state)
{
	struct sim *s = cluster(2);

	(void)state;
	s->node[1].side = 1;
	sim_run(s, s->now + 1200 * SIM_MS);
	assert_int_equal(state_of(s, 0, 1), GOSSIP_SUSPECT);
	sim_heal(s);
	sim_run(s, s->now + 5 * SIM_S);
	assert_int_equal(s->false_positives, 0);
	sim_free(s);
}

static void test_a_restarted_node_wins_over_its_own_death(void **state)
{
	struct sim *s = cluster(5);

	(void)state;
	sim_kill(s, 2);
	sim_run(s, s->now + 60 * SIM_S);
	assert_int_equal(state_of(s, 0, 2), GOSSIP_DEAD);
	sim_start(s, 2, 0);
	sim_run(s, s->now + SIM_S);
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(gossip_stats(s->node[i].g).live, 4);
	sim_free(s);
}

static void test_a_node_whose_generation_went_back_takes_a_new_one(void **state)
{
	struct sim *s = cluster(5);
	struct gossip_row r = row(1);

	(void)state;
	assert_int_equal(sim_put(s, 2, &r), 0);
	sim_run(s, s->now + SIM_S);
	sim_kill(s, 2);
	sim_run(s, s->now + 10 * SIM_S);
	s->node[2].generation = 3; /* was above 1000 */
	sim_start(s, 2, 0);
	r = row(2);
	assert_int_equal(sim_put(s, 2, &r), 0);
	sim_settled(s, 2);
	sim_run(s, s->now + 10 * SIM_S);
	assert_true(s->node[2].generation > 1000);
	for (uint32_t i = 0; i < 5; i++) {
		assert_int_equal(gossip_stats(s->node[i].g).live, 4);
		assert_int_equal(count_rows(s, i), 1); /* the old life's row is gone */
	}
	sim_free(s);
}

static void test_who_left_is_not_retried_nor_suspected_and_may_return(void **state)
{
	struct sim *s = cluster(5);
	struct gossip_row r = row(1);

	(void)state;
	assert_int_equal(sim_put(s, 2, &r), 0);
	sim_run(s, s->now + SIM_S);
	sim_leave(s, 2);
	sim_run(s, s->now + SIM_S / 2);
	for (uint32_t i = 0; i < 5; i++) {
		if (i != 2) {
			assert_int_equal(state_of(s, i, 2), GOSSIP_LEFT);
			assert_int_equal(count_rows(s, i), 0);
		}
	}
	sim_start(s, 2, 0);
	sim_run(s, s->now + SIM_S);
	assert_int_equal(state_of(s, 0, 2), GOSSIP_ALIVE);
	sim_free(s);
}

static void test_a_partition_heals_however_long_it_was(void **state)
{
	struct sim *s = cluster(8);

	(void)state;
	for (uint32_t i = 0; i < 8; i++)
		s->node[i].side = i < 3;
	sim_run(s, s->now + 3600 * SIM_S);
	assert_int_equal(gossip_stats(s->node[0].g).live, 2);
	assert_int_equal(gossip_stats(s->node[7].g).live, 4);
	sim_heal(s);
	sim_run(s, s->now + 10 * SIM_S);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(gossip_stats(s->node[i].g).live, 7);
	sim_free(s);
}

/* Members that came back together must not be probed last together. */
static void test_a_second_partition_is_noticed_as_soon_as_the_first(void **state)
{
	struct sim *s = cluster(200);

	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < 200; i++)
			s->node[i].side = i & 1;
		sim_run(s, s->now + 10 * SIM_S);
		for (uint32_t i = 0; i < 200; i++)
			assert_int_equal(gossip_stats(s->node[i].g).live, 99);
		sim_heal(s);
		sim_run(s, s->now + 5 * SIM_S);
		for (uint32_t i = 0; i < 200; i++)
			assert_int_equal(gossip_stats(s->node[i].g).live, 199);
	}
	assert_int_equal(s->false_positives, 0);
	sim_free(s);
}

static void test_who_left_is_forgotten_after_a_day(void **state)
{
	struct sim *s = cluster(3);

	(void)state;
	sim_leave(s, 2);
	sim_run(s, s->now + 86000 * SIM_S);
	assert_int_equal(gossip_stats(s->node[0].g).gone, 1);
	sim_run(s, s->now + 500 * SIM_S);
	assert_int_equal(gossip_stats(s->node[0].g).gone, 0);
	assert_int_equal(gossip_stats(s->node[0].g).live, 1);
	sim_free(s);
}

static void test_rows_of_the_dead_are_hidden_and_return_with_them(void **state)
{
	struct sim *s = cluster(5);
	struct gossip_row r = row(1), got;
	uint32_t it = 0;

	(void)state;
	assert_int_equal(sim_put(s, 2, &r), 0);
	sim_run(s, s->now + SIM_S);
	assert_true(gossip_lookup(s->node[0].g, &r, &it, &got));
	assert_true(got.owner == s->node[2].id && got.app == 1);
	s->node[2].side = 1;
	sim_run(s, s->now + 8 * SIM_S);
	it = 0;
	assert_false(gossip_lookup(s->node[0].g, &r, &it, &got));
	assert_true(gossip_has(s->node[0].g, &r));
	assert_int_equal(count_rows(s, 0), 0);
	sim_heal(s);
	sim_run(s, s->now + 5 * SIM_S);
	it = 0;
	assert_true(gossip_lookup(s->node[0].g, &r, &it, &got));
	assert_true(gossip_has(s->node[0].g, &r));
	assert_int_equal(gossip_del(s->node[2].g, s->now, &r), 0);
	sim_run(s, s->now + SIM_S);
	assert_false(gossip_has(s->node[0].g, &r));
	sim_free(s);
}

static void test_deletions_are_forgotten_in_the_end_and_do_not_come_back(void **state)
{
	struct sim *s = cluster(4);
	struct gossip_row r;

	(void)state;
	r = row(1000);
	assert_int_equal(sim_put(s, 1, &r), 0);
	for (uint32_t k = 0; k < 300; k++) {
		r = row(k);
		assert_int_equal(sim_put(s, 1, &r), 0);
		sim_run(s, s->now + 5 * SIM_MS);
		assert_int_equal(sim_del(s, 1, &r), 0);
		assert_int_equal(sim_del(s, 1, &r), -ENOENT);
		if (k == 100)
			s->node[3].side = 1; /* away with old rows */
		sim_run(s, s->now + 20 * SIM_MS);
	}
	sim_run(s, s->now + 10 * SIM_S);
	assert_true(gossip_stats(s->node[0].g).buried <= 40);
	sim_heal(s);
	sim_run(s, s->now + 10 * SIM_S);
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(count_rows(s, i), 1);
		assert_true(gossip_stats(s->node[i].g).buried <= 40);
	}
	sim_free(s);
}

static void test_rows_of_any_size_arrive(void **state)
{
	static uint8_t data[GOSSIP_ROW_DATA_MAX + 1];
	static const uint32_t sizes[] = {
		0, 1, 400, 600, 1200, 8000, 20000, GOSSIP_ROW_DATA_MAX
	};
	struct sim *s = cluster(4);
	struct gossip_row r, got;

	(void)state;
	for (uint32_t k = 0; k < sizeof(data); k++)
		data[k] = (uint8_t)(k * 7);
	for (uint32_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
		r = row(k);
		r.data = data;
		r.data_len = sizes[k];
		assert_int_equal(sim_put(s, 1, &r), 0);
	}
	r.data_len = sizeof(data);
	assert_int_equal(sim_put(s, 1, &r), -EMSGSIZE);
	/* by offers: summaries are not compared that soon */
	sim_run(s, s->now + 400 * SIM_MS);
	for (uint32_t i = 0; i < 4; i++) {
		uint32_t it = 0;

		assert_int_equal(count_rows(s, i), sizeof(sizes) / sizeof(sizes[0]));
		while (gossip_rows(s->node[i].g, &it, &got)) {
			assert_int_equal(got.data_len, sizes[got.app]);
			assert_memory_equal(got.data, data, got.data_len);
		}
	}
	sim_free(s);
}

static void test_a_newcomer_gets_a_large_table_in_steps(void **state)
{
	struct sim *s = sim_new(3, 7);

	(void)state;
	sim_start(s, 0, SIM_NOBODY);
	sim_start(s, 1, 0);
	sim_run(s, s->now + 2 * SIM_S);
	for (uint32_t k = 0; k < 20000; k++) {
		struct gossip_row r = row(k);

		assert_int_equal(sim_put(s, 0, &r), 0);
		if (k % 100 == 0)
			sim_run(s, s->now + 10 * SIM_MS);
	}
	sim_start(s, 2, 1);
	sim_run(s, s->now + 10 * SIM_S);
	assert_int_equal(gossip_stats(s->node[1].g).rows, 20000);
	assert_int_equal(gossip_stats(s->node[2].g).rows, 20000);
	sim_free(s);
}

static void test_the_first_claim_wins_everywhere(void **state)
{
	struct sim *s = cluster(5);
	struct gossip_row early = row(9), late = row(1), got;

	(void)state;
	early.since = 50;
	assert_int_equal(gossip_claim(s->node[0].g, &early, &got), -ENOENT);
	assert_int_equal(sim_put(s, 1, &late), 0);
	assert_int_equal(sim_put(s, 4, &late), 0);
	sim_run(s, s->now + SIM_S);
	for (uint32_t i = 0; i < 5; i++) {
		uint64_t low = s->node[1].id < s->node[4].id ? s->node[1].id : s->node[4].id;

		assert_int_equal(gossip_claim(s->node[i].g, &late, &got), 0);
		assert_true(got.owner == low);
	}
	assert_int_equal(sim_put(s, 3, &early), 0);
	sim_run(s, s->now + SIM_S);
	for (uint32_t i = 0; i < 5; i++) {
		assert_int_equal(gossip_claim(s->node[i].g, &late, &got), 0);
		assert_true(got.owner == s->node[3].id && got.app == 9);
	}
	sim_free(s);
}

static void test_converged_nodes_say_nothing_but_pings_and_acks(void **state)
{
	struct sim *s = cluster(20);
	struct gossip_row r = row(1);
	uint64_t packets = 0;

	(void)state;
	assert_int_equal(sim_put(s, 1, &r), 0);
	sim_run(s, s->now + 10 * SIM_S);
	s->count_types = true;
	packets = s->sent;
	sim_run(s, s->now + 60 * SIM_S);
	packets = s->sent - packets;
	for (unsigned type = 3; type < 16; type++)
		assert_int_equal(s->bytes_of[type], 0);
	/* four pings and four acks a second and node */
	assert_in_range(packets, 20 * 60 * 8 - 200, 20 * 60 * 8 + 200);
	sim_free(s);
}

static void test_one_stale_owner_is_repaired_with_little(void **state)
{
	struct sim *s = cluster(50);
	uint64_t before;

	(void)state;
	for (uint32_t k = 0; k < 500; k++) {
		struct gossip_row r = row(k);

		assert_int_equal(sim_put(s, k % 50, &r), 0);
		sim_run(s, s->now + 5 * SIM_MS);
	}
	sim_run(s, s->now + 5 * SIM_S);
	s->node[9].side = 1; /* a moment, too short to be declared dead */
	for (uint32_t k = 0; k < 3; k++) {
		struct gossip_row r = row(k * 50);

		r.connections = 5;
		assert_int_equal(sim_put(s, 0, &r), 0);
	}
	sim_run(s, s->now + 600 * SIM_MS);
	sim_heal(s);
	s->count_types = true;
	before = gossip_stats(s->node[9].g).root_rows;
	sim_run(s, s->now + 4 * SIM_S);
	assert_int_not_equal(gossip_stats(s->node[9].g).root_rows, before);
	assert_int_equal(gossip_stats(s->node[9].g).root_rows,
			 gossip_stats(s->node[0].g).root_rows);
	/* the rows, and summaries of the buckets that differ; no table */
	assert_true(s->bytes_of[11] < 4096 * 4 && s->bytes_of[5] < 4096);
	sim_free(s);
}

static void test_another_process_with_our_id_is_noticed(void **state)
{
	struct sim *s = cluster(3);
	uint8_t dummy[4] = { 0 };
	struct as_endpoint from = sim_addr(1);

	(void)state;
	assert_int_equal(gossip_input(s->node[0].g, s->now, &from, GOSSIP_DATAGRAM, dummy,
				      sizeof(dummy)),
			 -EBADMSG);
	assert_int_equal(gossip_stats(s->node[0].g).dropped, 1);
	sim_free(s);
	s = sim_new(2, 5);
	s->node[1].id = s->node[0].id;
	sim_start(s, 0, SIM_NOBODY);
	sim_start(s, 1, 0);
	sim_run(s, s->now + SIM_S);
	assert_true(gossip_stats(s->node[0].g).dropped > 0);
	assert_int_equal(gossip_stats(s->node[0].g).live, 0);
	sim_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_address_is_enough_to_join),
		cmocka_unit_test(test_a_seed_that_comes_up_later_is_found),
		cmocka_unit_test(
			test_a_dead_node_is_suspected_first_and_dead_no_sooner_than_the_minimum),
		cmocka_unit_test(test_two_nodes_alone_still_find_out),
		cmocka_unit_test(test_helpers_bridge_a_cut_between_two),
		cmocka_unit_test(
			test_a_short_stall_is_refuted_and_a_long_one_is_a_death_that_is_taken_back),
		cmocka_unit_test(test_who_slept_through_a_refutation_declares_nobody_dead),
		cmocka_unit_test(test_the_accused_is_told_by_whoever_talks_to_it),
		cmocka_unit_test(test_a_restarted_node_wins_over_its_own_death),
		cmocka_unit_test(test_a_node_whose_generation_went_back_takes_a_new_one),
		cmocka_unit_test(test_who_left_is_not_retried_nor_suspected_and_may_return),
		cmocka_unit_test(test_a_partition_heals_however_long_it_was),
		cmocka_unit_test(test_a_second_partition_is_noticed_as_soon_as_the_first),
		cmocka_unit_test(test_who_left_is_forgotten_after_a_day),
		cmocka_unit_test(test_rows_of_the_dead_are_hidden_and_return_with_them),
		cmocka_unit_test(test_deletions_are_forgotten_in_the_end_and_do_not_come_back),
		cmocka_unit_test(test_rows_of_any_size_arrive),
		cmocka_unit_test(test_a_newcomer_gets_a_large_table_in_steps),
		cmocka_unit_test(test_the_first_claim_wins_everywhere),
		cmocka_unit_test(test_converged_nodes_say_nothing_but_pings_and_acks),
		cmocka_unit_test(test_one_stale_owner_is_repaired_with_little),
		cmocka_unit_test(test_another_process_with_our_id_is_noticed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
