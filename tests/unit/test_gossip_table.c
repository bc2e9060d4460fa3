/* The service table: any order of the same news gives the same table, nothing old returns,
 * lookups find what is there, and its size is what it says. */
#include "gossip/mix.h"
#include "gossip/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t rng = 0x5eed;

static struct wire_row row(uint32_t app, uint64_t version)
{
	struct wire_row w = {
		.version = version, .network = 1, .port = 80, .proto = 6, .app = app
	};

	w.vip.b[15] = (uint8_t)(app % 7); /* several share a service */
	w.connections = (uint32_t)version;
	return w;
}

static void nothing(void *ctx, uint32_t i)
{
	(void)ctx, (void)i;
}

static void count(void *ctx, uint32_t i)
{
	(void)i;
	++*(unsigned *)ctx;
}

/* The order list, the counts and the sums agree with the rows. */
static void check(const struct table *t, uint32_t owner)
{
	const struct owner *o = &t->owner[owner];
	uint64_t hash = 0, last = o->floor;
	uint32_t live = 0, buried = 0, before = NONE;

	for (uint32_t i = o->oldest; i != NONE; before = i, i = table_row(t, i)->newer) {
		const struct row *r = table_row(t, i);
		struct wire_row w = table_wire(t, i);

		assert_true(r->version > last);
		assert_int_equal(r->older, before);
		assert_int_equal(table_find(t, owner, &w), i);
		last = r->version;
		hash += mix64(r->version);
		live += !r->deleted;
		buried += r->deleted;
	}
	assert_int_equal(o->newest, before);
	assert_true(o->hash == hash && o->n_live == live && o->n_buried == buried);
}

static void test_any_order_gives_the_same_table(void **state)
{
	enum { NEWS = 400, APPS = 60 };

	(void)state;
	for (unsigned run = 0; run < 30; run++) {
		struct wire_row news[NEWS];
		struct table a, b;
		uint32_t oa, ob, at;

		assert_int_equal(table_init(&a), 0);
		assert_int_equal(table_init(&b), 0);
		oa = table_add_owner(&a, 42);
		(void)table_add_owner(&b, 41); /* indexes are each node's own */
		ob = table_add_owner(&b, 42);
		for (unsigned i = 0; i < NEWS; i++) {
			news[i] = row(mix_below(&rng, APPS), i + 1);
			news[i].deleted = mix_below(&rng, 3) == 0;
			assert_true(table_merge(&a, oa, &news[i], &at) == 1);
		}
		for (unsigned i = NEWS - 1; i > 0; i--) {
			unsigned j = mix_below(&rng, i + 1);
			struct wire_row t = news[i];

			news[i] = news[j];
			news[j] = t;
		}
		for (unsigned i = 0; i < 2 * NEWS; i++) {
			if (i == NEWS / 2)
				table_raise_floor(&b, ob, 100, nothing, NULL);
			(void)table_merge(&b, ob, &news[mix_below(&rng, 2) ? i % NEWS : i / 2],
					  &at);
		}
		for (unsigned i = 0; i < NEWS; i++)
			(void)table_merge(&b, ob, &news[i], &at);
		table_raise_floor(&a, oa, 100, nothing, NULL);
		check(&a, oa);
		check(&b, ob);
		assert_true(a.root == b.root && a.n_live == b.n_live &&
			    a.n_buried == b.n_buried);
		assert_memory_equal(a.hash, b.hash, sizeof(a.hash));
		table_done(&a);
		table_done(&b);
	}
}

static void test_nothing_at_or_below_the_floor_comes_back(void **state)
{
	struct wire_row w = row(1, 10), newer = row(2, 11);
	struct table t;
	uint32_t o, at;
	unsigned gone = 0;

	(void)state;
	assert_int_equal(table_init(&t), 0);
	o = table_add_owner(&t, 1);
	assert_int_equal(table_merge(&t, o, &w, &at), 1);
	assert_int_equal(table_merge(&t, o, &newer, &at), 1);
	table_raise_floor(&t, o, 10, count, &gone);
	assert_int_equal(gone, 1);
	assert_int_equal(table_merge(&t, o, &w, &at), 0);
	assert_int_equal(table_find(&t, o, &w), NONE);
	assert_int_equal(t.n_live, 1);
	/* a floor never goes back */
	table_raise_floor(&t, o, 5, count, &gone);
	assert_int_equal(t.owner[o].floor, 10);
	table_done(&t);
}

static void test_a_deletion_beats_the_row_and_a_newer_row_beats_the_deletion(void **state)
{
	struct wire_row w = row(1, 10);
	struct table t;
	uint32_t o, at;

	(void)state;
	assert_int_equal(table_init(&t), 0);
	o = table_add_owner(&t, 1);
	assert_int_equal(table_merge(&t, o, &w, &at), 1);
	w.version = 11;
	w.deleted = true;
	assert_int_equal(table_merge(&t, o, &w, &at), 1);
	assert_int_equal(table_lookup(&t, &w, NONE), NONE);
	w.version = 10;
	w.deleted = false;
	assert_int_equal(table_merge(&t, o, &w, &at), 0);
	w.version = 12;
	assert_int_equal(table_merge(&t, o, &w, &at), 1);
	assert_int_equal(table_lookup(&t, &w, NONE), at);
	table_done(&t);
}

static void test_hidden_owners_are_passed_over_and_add_nothing_to_the_root(void **state)
{
	struct wire_row w = row(1, 10);
	struct table t;
	uint32_t a, b, at, root;

	(void)state;
	assert_int_equal(table_init(&t), 0);
	a = table_add_owner(&t, 1);
	b = table_add_owner(&t, 2);
	assert_int_equal(table_merge(&t, a, &w, &at), 1);
	root = t.root;
	assert_int_equal(table_merge(&t, b, &w, &at), 1);
	assert_int_equal(table_lookup(&t, &w, NONE), at);
	table_hide(&t, b, true);
	assert_int_equal(t.root, root);
	at = table_lookup(&t, &w, NONE);
	assert_int_equal(table_row(&t, at)->owner, a);
	assert_int_equal(table_lookup(&t, &w, at), NONE);
	table_hide(&t, b, false);
	assert_int_not_equal(t.root, root);
	table_done(&t);
}

static void test_lookup_finds_every_instance_and_nothing_else(void **state)
{
	enum { APPS = 5000 };
	struct table t;
	unsigned found[7] = { 0 };
	uint32_t o, at;

	(void)state;
	assert_int_equal(table_init(&t), 0);
	o = table_add_owner(&t, 1);
	for (unsigned i = 0; i < APPS; i++) {
		struct wire_row w = row(i, i + 1);

		assert_int_equal(table_merge(&t, o, &w, &at), 1);
	}
	for (unsigned s = 0; s < 7; s++) {
		struct wire_row key = row(s, 0);

		for (at = table_lookup(&t, &key, NONE); at != NONE;
		     at = table_lookup(&t, &key, at)) {
			assert_int_equal(table_row(&t, at)->app % 7, s);
			found[s]++;
		}
		assert_int_equal(found[s], APPS / 7 + (s < APPS % 7));
		key.port = 81;
		assert_int_equal(table_lookup(&t, &key, NONE), NONE);
	}
	table_done(&t);
}

static void test_rows_above_a_version_come_in_order(void **state)
{
	struct table t;
	uint32_t o, at;

	(void)state;
	assert_int_equal(table_init(&t), 0);
	o = table_add_owner(&t, 1);
	for (unsigned i = 0; i < 100; i++) {
		struct wire_row w = row(i, (i * 37 % 100) * 2 + 2); /* 2, 4, … 200, shuffled */

		assert_int_equal(table_merge(&t, o, &w, &at), 1);
	}
	for (uint64_t above = 0; above <= 201; above++) {
		uint64_t want = above / 2 * 2 + 2;

		for (at = table_above(&t, o, above); at != NONE;
		     at = table_row(&t, at)->newer) {
			assert_int_equal(table_row(&t, at)->version, want);
			want += 2;
		}
		assert_int_equal(want, above >= 200 ? above / 2 * 2 + 2 : 202);
	}
	table_done(&t);
}

static void test_data_is_kept_replaced_and_given_back(void **state)
{
	static uint8_t big[WIRE_ROW_DATA_MAX];
	struct wire_row w = row(1, 1), got;
	struct table t;
	uint32_t o, at;

	(void)state;
	assert_int_equal(table_init(&t), 0);
	o = table_add_owner(&t, 1);
	for (unsigned i = 1; i < 200; i++) {
		w = row(i % 20, i);
		w.data = big;
		w.data_len = i == 150 ? sizeof(big) : i % 50;
		memset(big, (int)i, i == 150 ? sizeof(big) : 50);
		assert_int_equal(table_merge(&t, o, &w, &at), 1);
		got = table_wire(&t, at);
		assert_int_equal(got.data_len, w.data_len);
		if (w.data_len > 0)
			assert_memory_equal(got.data, big, w.data_len);
	}
	assert_true(t.n_blobs <= 22); /* places of old data are used again */
	table_raise_floor(&t, o, 1000, nothing, NULL);
	assert_int_equal(t.n_rows, 0);
	assert_int_equal(t.root, 0);
	table_done(&t);
}

static void test_a_row_takes_eighty_bytes(void **state)
{
	(void)state;
	assert_int_equal(sizeof(struct row), 80);
	assert_int_equal(sizeof(struct member), 64);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_any_order_gives_the_same_table),
		cmocka_unit_test(test_nothing_at_or_below_the_floor_comes_back),
		cmocka_unit_test(
			test_a_deletion_beats_the_row_and_a_newer_row_beats_the_deletion),
		cmocka_unit_test(
			test_hidden_owners_are_passed_over_and_add_nothing_to_the_root),
		cmocka_unit_test(test_lookup_finds_every_instance_and_nothing_else),
		cmocka_unit_test(test_rows_above_a_version_come_in_order),
		cmocka_unit_test(test_data_is_kept_replaced_and_given_back),
		cmocka_unit_test(test_a_row_takes_eighty_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
