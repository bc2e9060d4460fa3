/* A chained hash table; entries hold their ids in one growing array. */
#include "traphandler/service/svc.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct svc_entry {
	struct svc_entry *next;
	struct svc_key key;
	uint64_t hash;
	size_t n, cap;
	uint32_t *ids;
};

struct svc_table {
	size_t n_buckets, n_entries;
	struct svc_entry **buckets;
};

static uint64_t mix(uint64_t h, const void *data, size_t len)
{
	const uint8_t *p = data;

	/* FNV-1a, then spread: keys differ in few bytes */
	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	return h ^ (h >> 29);
}

static uint64_t key_hash(const struct svc_key *key)
{
	uint64_t h = 0xcbf29ce484222325u;

	h = mix(h, &key->network, sizeof(key->network));
	h = mix(h, &key->vip, sizeof(key->vip));
	h = mix(h, &key->addr, sizeof(key->addr));
	return mix(h, &key->port, sizeof(key->port));
}

static bool key_eq(const struct svc_key *a, const struct svc_key *b)
{
	return a->network == b->network && a->port == b->port && as_addr_eq(&a->vip, &b->vip) &&
	       as_addr_eq(&a->addr, &b->addr);
}

static struct svc_entry **find(const struct svc_table *t, const struct svc_key *key,
			       uint64_t hash)
{
	struct svc_entry **p = &t->buckets[hash & (t->n_buckets - 1)];

	while (*p != NULL && ((*p)->hash != hash || !key_eq(&(*p)->key, key)))
		p = &(*p)->next;
	return p;
}

static int grow(struct svc_table *t)
{
	size_t n = t->n_buckets * 2;
	struct svc_entry **buckets = calloc(n, sizeof(struct svc_entry *));

	if (buckets == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < t->n_buckets; i++) {
		struct svc_entry *e = t->buckets[i];

		while (e != NULL) {
			struct svc_entry *next = e->next;

			e->next = buckets[e->hash & (n - 1)];
			buckets[e->hash & (n - 1)] = e;
			e = next;
		}
	}
	free(t->buckets);
	t->buckets = buckets;
	t->n_buckets = n;
	return 0;
}

struct svc_table *svc_table_new(void)
{
	struct svc_table *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->n_buckets = 64;
	t->buckets = calloc(t->n_buckets, sizeof(struct svc_entry *));
	if (t->buckets == NULL) {
		free(t);
		return NULL;
	}
	return t;
}

struct svc_table *svc_table_free(struct svc_table *t)
{
	if (t == NULL)
		return NULL;
	for (size_t i = 0; i < t->n_buckets; i++) {
		struct svc_entry *e = t->buckets[i];

		while (e != NULL) {
			struct svc_entry *next = e->next;

			free(e->ids);
			free(e);
			e = next;
		}
	}
	free(t->buckets);
	free(t);
	return NULL;
}

int svc_table_add(struct svc_table *t, const struct svc_key *key, uint32_t id)
{
	uint64_t hash = key_hash(key);
	struct svc_entry **p = find(t, key, hash);
	struct svc_entry *e = *p;

	if (e == NULL) {
		if (t->n_entries >= t->n_buckets && grow(t) < 0)
			return -ENOMEM;
		e = calloc(1, sizeof(*e));
		if (e == NULL)
			return -ENOMEM;
		e->key = *key;
		e->hash = hash;
		p = &t->buckets[hash & (t->n_buckets - 1)];
		e->next = *p;
		*p = e;
		t->n_entries++;
	}
	for (size_t i = 0; i < e->n; i++) {
		if (e->ids[i] == id)
			return 0;
	}
	if (e->n == e->cap) {
		size_t cap = e->cap ? e->cap * 2 : 2;
		uint32_t *ids = realloc(e->ids, cap * sizeof(*ids));

		if (ids == NULL)
			return -ENOMEM;
		e->ids = ids;
		e->cap = cap;
	}
	e->ids[e->n++] = id;
	return 0;
}

void svc_table_remove(struct svc_table *t, const struct svc_key *key, uint32_t id)
{
	struct svc_entry **p = find(t, key, key_hash(key));
	struct svc_entry *e = *p;

	if (e == NULL)
		return;
	for (size_t i = 0; i < e->n; i++) {
		if (e->ids[i] != id)
			continue;
		memmove(&e->ids[i], &e->ids[i + 1], (e->n - i - 1) * sizeof(*e->ids));
		e->n--;
		break;
	}
	if (e->n == 0) {
		*p = e->next;
		free(e->ids);
		free(e);
		t->n_entries--;
	}
}

const uint32_t *svc_table_get(const struct svc_table *t, const struct svc_key *key,
			      size_t *ret_n)
{
	const struct svc_entry *e = *find(t, key, key_hash(key));

	*ret_n = e != NULL && e->n > 0 ? e->n : 0;
	return *ret_n > 0 ? e->ids : NULL;
}
