#include "traphandler/service/maglev.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define NOBODY 0xffff

struct maglev {
	uint64_t key[2]; /* of the set: sums over its ids, which have no order */
	uint64_t used;	 /* the cache's clock */
	size_t n;	 /* different ids */
	uint64_t *ids;	 /* ascending */
	uint32_t mask;
	uint16_t *rank_of; /* open addressing by id: rank in @ids + 1; 0: empty */
	uint16_t *places;  /* rank of who has it */
};

struct maglev_cache {
	uint64_t clock;
	struct maglev *tables[MAGLEV_TABLES];
};

/* splitmix64's finalizer (Steele, Lea and Flood, 2014) */
static uint64_t spread(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

/* Two hashes of one value that have nothing to do with each other. */
static uint64_t hash1(uint64_t x)
{
	return spread(x + 0x9e3779b97f4a7c15u);
}

static uint64_t hash2(uint64_t x)
{
	return spread(x ^ 0xd1b54a32d192ed03u);
}

static struct maglev *table_free(struct maglev *t)
{
	if (t != NULL) {
		free(t->ids);
		free(t->rank_of);
		free(t->places);
	}
	free(t);
	return NULL;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The rank of @id, or -1. */
static int rank_find(const struct maglev *t, uint64_t id)
{
	for (uint32_t i = (uint32_t)hash1(id) & t->mask; t->rank_of[i] != 0;
	     i = (i + 1) & t->mask) {
		if (t->ids[t->rank_of[i] - 1] == id)
			return t->rank_of[i] - 1;
	}
	return -1;
}

static void fill(struct maglev *t)
{
	uint32_t at[MAGLEV_IDS], skip[MAGLEV_IDS], left = MAGLEV_SIZE;

	for (size_t r = 0; r < t->n; r++) {
		at[r] = (uint32_t)(hash1(t->ids[r]) % MAGLEV_SIZE);
		skip[r] = (uint32_t)(hash2(t->ids[r]) % (MAGLEV_SIZE - 1) + 1);
	}
	memset(t->places, 0xff, MAGLEV_SIZE * sizeof(*t->places));
	for (size_t r = 0;; r = r + 1 == t->n ? 0 : r + 1) {
		/* the size is a prime: every step but 0 comes to all places */
		while (t->places[at[r]] != NOBODY) {
			at[r] += skip[r];
			if (at[r] >= MAGLEV_SIZE)
				at[r] -= MAGLEV_SIZE;
		}
		t->places[at[r]] = (uint16_t)r;
		if (--left == 0)
			return;
	}
}

static struct maglev *table_new(const uint64_t *ids, size_t n)
{
	struct maglev *t = calloc(1, sizeof(*t));
	uint32_t cap = 2;

	while (cap < 2 * n)
		cap *= 2;
	if (t == NULL)
		return NULL;
	t->ids = malloc(n * sizeof(*ids));
	t->rank_of = calloc(cap, sizeof(*t->rank_of));
	t->places = malloc(MAGLEV_SIZE * sizeof(*t->places));
	if (t->ids == NULL || t->rank_of == NULL || t->places == NULL)
		return table_free(t);
	memcpy(t->ids, ids, n * sizeof(*ids));
	qsort(t->ids, n, sizeof(*ids), by_value);
	for (size_t i = 0; i < n; i++) {
		if (i == 0 || t->ids[i] != t->ids[t->n - 1])
			t->ids[t->n++] = t->ids[i];
	}
	t->mask = cap - 1;
	for (size_t r = 0; r < t->n; r++) {
		uint32_t i = (uint32_t)hash1(t->ids[r]) & t->mask;

		while (t->rank_of[i] != 0)
			i = (i + 1) & t->mask;
		t->rank_of[i] = (uint16_t)(r + 1);
	}
	fill(t);
	return t;
}

struct maglev_cache *maglev_cache_new(void)
{
	return calloc(1, sizeof(struct maglev_cache));
}

struct maglev_cache *maglev_cache_free(struct maglev_cache *c)
{
	if (c != NULL) {
		for (size_t i = 0; i < MAGLEV_TABLES; i++)
			table_free(c->tables[i]);
	}
	free(c);
	return NULL;
}

/* Of what was asked, not of the set: with an id twice it is another key for an equal table. */
static void key_of(const uint64_t *ids, size_t n, uint64_t key[2])
{
	key[0] = n;
	key[1] = 0;
	for (size_t i = 0; i < n; i++) {
		key[0] += hash1(ids[i]);
		key[1] += hash2(ids[i]);
	}
}

const struct maglev *maglev_get(struct maglev_cache *c, const uint64_t *ids, size_t n)
{
	struct maglev **slot = &c->tables[0], *fresh;
	uint64_t key[2];

	key_of(ids, n, key);
	c->clock++;
	for (size_t i = 0; i < MAGLEV_TABLES; i++) {
		struct maglev *t = c->tables[i];

		if (t != NULL && t->key[0] == key[0] && t->key[1] == key[1]) {
			t->used = c->clock;
			return t;
		}
		if (*slot != NULL && (t == NULL || t->used < (*slot)->used))
			slot = &c->tables[i];
	}
	fresh = table_new(ids, n);
	if (fresh == NULL)
		return NULL;
	fresh->key[0] = key[0];
	fresh->key[1] = key[1];
	fresh->used = c->clock;
	table_free(*slot);
	*slot = fresh;
	return fresh;
}

uint64_t maglev_at(const struct maglev *t, uint32_t place)
{
	return t->ids[t->places[place]];
}

void maglev_order(const struct maglev *t, const uint64_t *ids, size_t n, uint64_t source,
		  uint16_t *order)
{
	uint16_t index_of[MAGLEV_IDS];
	uint32_t place = (uint32_t)(spread(source) % MAGLEV_SIZE);
	size_t first = 0, last = n, distinct = 0;

	memset(index_of, 0xff, t->n * sizeof(*index_of));
	for (size_t i = n; i-- > 0;) {
		int r = rank_find(t, ids[i]);

		if (r >= 0)
			index_of[r] = (uint16_t)i; /* of equal ones the first comes last */
	}
	for (size_t r = 0; r < t->n; r++)
		distinct += index_of[r] != NOBODY;
	for (size_t i = n; i-- > 0;) {
		int r = rank_find(t, ids[i]);

		if (r < 0 || index_of[r] != i)
			order[--last] = (uint16_t)i;
	}
	/* Far down nobody looks: the rest by rank, when the walk would get long. */
	for (size_t steps = 0; first < distinct && steps < 4 * n + 16; steps++) {
		uint16_t r = t->places[place];

		if (index_of[r] != NOBODY) {
			order[first++] = index_of[r];
			index_of[r] = NOBODY;
		}
		if (++place == MAGLEV_SIZE)
			place = 0;
	}
	for (size_t r = 0; first < distinct && r < t->n; r++) {
		if (index_of[r] != NOBODY)
			order[first++] = index_of[r];
	}
}
