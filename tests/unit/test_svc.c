/* The service table against a model that is too simple to be wrong. */
#include "traphandler/service/svc.h"

#include <appswitch/util.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static uint64_t seed;

/* xorshift64 (Marsaglia, 2003) */
static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static struct svc_key key(uint32_t network, uint32_t vip, uint32_t addr, uint16_t port)
{
	return (struct svc_key){ network, as_addr_v4(vip), as_addr_v4(addr), port };
}

static void assert_ids(const struct svc_table *t, const struct svc_key *k, const uint32_t *ids,
		       size_t n)
{
	size_t got_n = 99;
	const uint32_t *got = svc_table_get(t, k, &got_n);

	assert_int_equal(got_n, n);
	if (n == 0)
		assert_null(got);
	else
		assert_memory_equal(got, ids, n * sizeof(*ids));
}

static void test_an_empty_table_serves_nobody(void **state)
{
	struct svc_table *t = svc_table_new();
	struct svc_key k = key(1, 2, 3, 4);

	(void)state;
	assert_non_null(t);
	assert_ids(t, &k, NULL, 0);
	svc_table_remove(t, &k, 7); /* of nothing: nothing */
	assert_ids(t, &k, NULL, 0);
	assert_null(svc_table_free(t));
	assert_null(svc_table_free(NULL));
}

static void test_ids_keep_the_order_they_came_in(void **state)
{
	struct svc_table *t = svc_table_new();
	struct svc_key k = key(1, 2, 3, 4);

	(void)state;
	for (uint32_t id = 0; id < 5; id++)
		assert_int_equal(svc_table_add(t, &k, 9 - id), 0);
	assert_ids(t, &k, (uint32_t[]){ 9, 8, 7, 6, 5 }, 5);
	assert_int_equal(svc_table_add(t, &k, 8), 0); /* again: where it was, once */
	assert_ids(t, &k, (uint32_t[]){ 9, 8, 7, 6, 5 }, 5);
	svc_table_remove(t, &k, 9); /* the first, */
	assert_ids(t, &k, (uint32_t[]){ 8, 7, 6, 5 }, 4);
	svc_table_remove(t, &k, 5); /* the last, */
	assert_ids(t, &k, (uint32_t[]){ 8, 7, 6 }, 3);
	svc_table_remove(t, &k, 7); /* one between, */
	assert_ids(t, &k, (uint32_t[]){ 8, 6 }, 2);
	svc_table_remove(t, &k, 7); /* one that is not there */
	assert_ids(t, &k, (uint32_t[]){ 8, 6 }, 2);
	assert_int_equal(svc_table_add(t, &k, 9), 0); /* who comes back is last */
	assert_ids(t, &k, (uint32_t[]){ 8, 6, 9 }, 3);
	svc_table_free(t);
}

static void test_the_id_zero_and_the_largest_are_ids_like_others(void **state)
{
	struct svc_table *t = svc_table_new();
	struct svc_key k = key(0, 0, 0, 0);

	(void)state;
	assert_int_equal(svc_table_add(t, &k, 0), 0);
	assert_int_equal(svc_table_add(t, &k, UINT32_MAX), 0);
	assert_ids(t, &k, (uint32_t[]){ 0, UINT32_MAX }, 2);
	svc_table_remove(t, &k, 0);
	assert_ids(t, &k, (uint32_t[]){ UINT32_MAX }, 1);
	svc_table_free(t);
}

static void test_every_bit_of_a_key_tells_services_apart(void **state)
{
	static const struct {
		size_t off, size;
	} fields[] = {
#define FIELD(f) { offsetof(struct svc_key, f), sizeof(((struct svc_key *)0)->f) }
		FIELD(network),
		FIELD(vip),
		FIELD(addr),
		FIELD(port),
#undef FIELD
	};
	struct svc_key k = key(1, 0x0a000001, 0x7f000001, 80);

	(void)state;
	for (size_t f = 0; f < ARRAY_SIZE(fields); f++) {
		for (size_t bit = 0; bit < fields[f].size * 8; bit++) {
			struct svc_table *t = svc_table_new();
			struct svc_key other = k;

			((uint8_t *)&other)[fields[f].off + bit / 8] ^=
				(uint8_t)(1u << bit % 8);
			assert_int_equal(svc_table_add(t, &k, 1), 0);
			assert_ids(t, &other, NULL, 0);
			svc_table_remove(t, &other, 1);
			assert_int_equal(svc_table_add(t, &other, 2), 0);
			assert_ids(t, &k, (uint32_t[]){ 1 }, 1);
			assert_ids(t, &other, (uint32_t[]){ 2 }, 1);
			svc_table_free(t);
		}
	}
}

static void test_padding_in_a_key_says_nothing(void **state)
{
	struct svc_table *t = svc_table_new();
	struct svc_key a, b;

	(void)state;
	memset(&a, 0x00, sizeof(a));
	memset(&b, 0xff, sizeof(b));
	a.network = b.network = 1;
	a.vip = b.vip = as_addr_v4(2);
	a.addr = b.addr = as_addr_v4(3);
	a.port = b.port = 4;
	assert_int_equal(svc_table_add(t, &a, 5), 0);
	assert_ids(t, &b, (uint32_t[]){ 5 }, 1);
	svc_table_free(t);
}

static void test_one_key_holds_ten_thousand_instances(void **state)
{
	enum { N = 10000 };
	struct svc_table *t = svc_table_new();
	struct svc_key k = key(1, 2, 3, 4);
	uint32_t *ids = malloc(N * sizeof(*ids));

	(void)state;
	for (uint32_t i = 0; i < N; i++) {
		ids[i] = i * 2654435761u;
		assert_int_equal(svc_table_add(t, &k, ids[i]), 0);
	}
	assert_ids(t, &k, ids, N);
	free(ids);
	svc_table_free(t);
}

/* All ports of one address: the keys that differ least. */
static void test_growth_loses_and_mixes_up_nothing(void **state)
{
	struct svc_table *t = svc_table_new();

	(void)state;
	for (uint32_t port = 0; port <= 0xffff; port++) {
		struct svc_key k = key(1, 2, 3, (uint16_t)port);

		assert_int_equal(svc_table_add(t, &k, port), 0);
	}
	for (uint32_t port = 0; port <= 0xffff; port++) {
		struct svc_key k = key(1, 2, 3, (uint16_t)port);

		assert_ids(t, &k, &port, 1);
		svc_table_remove(t, &k, port);
	}
	for (uint32_t port = 0; port <= 0xffff; port++) {
		struct svc_key k = key(1, 2, 3, (uint16_t)port);

		assert_ids(t, &k, NULL, 0);
	}
	svc_table_free(t);
}

/* --- random changes against a list of pairs --- */

enum { MODEL_MAX = 4096 };

struct model {
	struct {
		unsigned key;
		uint32_t id;
	} rows[MODEL_MAX];
	size_t n;
};

static size_t model_find(const struct model *m, unsigned k, uint32_t id)
{
	size_t i = 0;

	while (i < m->n && (m->rows[i].key != k || m->rows[i].id != id))
		i++;
	return i;
}

static size_t model_get(const struct model *m, unsigned k, uint32_t *ids)
{
	size_t n = 0;

	for (size_t i = 0; i < m->n; i++) {
		if (m->rows[i].key == k)
			ids[n++] = m->rows[i].id;
	}
	return n;
}

static void run_model(uint64_t s, unsigned n_keys, unsigned n_ids)
{
	struct svc_table *t = svc_table_new();
	struct model *m = calloc(1, sizeof(*m));
	uint32_t *ids = malloc(MODEL_MAX * sizeof(*ids));

	seed = s;
	for (int step = 0; step < 20000; step++) {
		unsigned which = (unsigned)(rnd() % n_keys);
		struct svc_key k = key(which % 3, which / 3 % 5, which % 2, (uint16_t)which);
		uint32_t id = (uint32_t)(rnd() % n_ids);
		size_t at = model_find(m, which, id);
		/* phases that mostly add and that mostly remove: it fills and drains */
		bool add = rnd() % 4 < (step / 2000 % 2 ? 1 : 3);
		const uint32_t *got;
		size_t n, got_n;

		if (add && (at < m->n || m->n < MODEL_MAX)) {
			assert_int_equal(svc_table_add(t, &k, id), 0);
			if (at == m->n) {
				m->rows[m->n].key = which;
				m->rows[m->n++].id = id;
			}
		} else if (!add) {
			svc_table_remove(t, &k, id);
			if (at < m->n)
				memmove(&m->rows[at], &m->rows[at + 1],
					(--m->n - at) * sizeof(m->rows[0]));
		}
		n = model_get(m, which, ids);
		got = svc_table_get(t, &k, &got_n);
		if (got_n != n || (n > 0 && memcmp(got, ids, n * sizeof(*ids)) != 0))
			fail_msg("seed %#llx, %u keys, %u ids: step %d differs",
				 (unsigned long long)s, n_keys, n_ids, step);
	}
	for (unsigned which = 0; which < n_keys; which++) { /* nobody was hit by mistake */
		struct svc_key k = key(which % 3, which / 3 % 5, which % 2, (uint16_t)which);

		assert_ids(t, &k, ids, model_get(m, which, ids));
	}
	free(ids);
	free(m);
	svc_table_free(t);
}

static void test_random_changes_match_a_list(void **state)
{
	(void)state;
	for (uint64_t s = 1; s <= 8; s++) {
		run_model(s, 1, 8);
		run_model(s, 5, 40);
		run_model(s, 1500, 3);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_empty_table_serves_nobody),
		cmocka_unit_test(test_ids_keep_the_order_they_came_in),
		cmocka_unit_test(test_the_id_zero_and_the_largest_are_ids_like_others),
		cmocka_unit_test(test_every_bit_of_a_key_tells_services_apart),
		cmocka_unit_test(test_padding_in_a_key_says_nothing),
		cmocka_unit_test(test_one_key_holds_ten_thousand_instances),
		cmocka_unit_test(test_growth_loses_and_mixes_up_nothing),
		cmocka_unit_test(test_random_changes_match_a_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
