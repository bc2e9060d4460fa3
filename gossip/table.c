#include "gossip/table.h"

#include "gossip/mix.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct blob {
	uint32_t len, next_free;
	uint8_t b[];
};

/* table_find_version() gives up after so many steps; summaries find what it missed. */
#define WALK_MAX 64

static uint64_t service_hash(uint32_t network, const struct as_addr *vip, uint8_t proto,
			     uint16_t port)
{
	uint64_t a, b;

	memcpy(&a, vip->b, 8);
	memcpy(&b, vip->b + 8, 8);
	a = mix64(a ^ ((uint64_t)network << 24 | (uint64_t)proto << 16 | port));
	return mix64(a ^ b);
}

static uint64_t key_hash(uint64_t service, uint32_t owner, uint32_t app)
{
	return mix64(service ^ ((uint64_t)owner << 32 | app));
}

static uint64_t row_service(const struct row *r)
{
	return service_hash(r->network, &r->vip, r->proto, r->port);
}

static bool same_service(const struct row *r, const struct wire_row *k)
{
	return r->port == k->port && r->network == k->network && r->proto == k->proto &&
	       memcmp(&r->vip, &k->vip, sizeof(r->vip)) == 0;
}

/* What an owner adds to the sums that are compared: nothing while it has no rows or is hidden,
 * so that it does not matter who has heard of it. */
static uint32_t owner_sum(const struct owner *o)
{
	return o->hidden || o->hash == 0 ? 0 : (uint32_t)mix64(o->id ^ mix64(o->hash));
}

static void add_sum(struct table *t, const struct owner *o, uint32_t sum)
{
	t->hash[bucket_of(o->id)] += sum;
	t->root += sum;
}

int table_init(struct table *t)
{
	memset(t, 0, sizeof(*t));
	t->free_row = NONE;
	t->cap_key = t->cap_service = 64;
	t->key = calloc(t->cap_key, sizeof(*t->key));
	t->service = calloc(t->cap_service, sizeof(*t->service));
	t->n_blobs = 1; /* 0 means none */
	if (t->key == NULL || t->service == NULL) {
		table_done(t);
		return -ENOMEM;
	}
	return 0;
}

void table_done(struct table *t)
{
	for (uint32_t i = 0; i < t->n_slabs; i++)
		free(t->slab[i]);
	for (uint32_t i = 1; t->blob != NULL && i < t->n_blobs; i++)
		free(t->blob[i]);
	free(t->slab);
	free(t->owner);
	free(t->blob);
	free(t->key);
	free(t->service);
	memset(t, 0, sizeof(*t));
}

uint32_t table_add_owner(struct table *t, uint64_t id)
{
	if (t->n_owners == t->cap_owners) {
		uint32_t cap = t->cap_owners ? t->cap_owners * 2 : 8;
		struct owner *o = realloc(t->owner, cap * sizeof(*o));

		if (o == NULL)
			return NONE;
		t->owner = o;
		t->cap_owners = cap;
	}
	t->owner[t->n_owners] = (struct owner){ .id = id, .oldest = NONE, .newest = NONE };
	return t->n_owners++;
}

void table_hide(struct table *t, uint32_t owner, bool hidden)
{
	struct owner *o = &t->owner[owner];

	add_sum(t, o, -owner_sum(o));
	o->hidden = hidden;
	add_sum(t, o, owner_sum(o));
}

static uint32_t *key_slot(const struct table *t, uint64_t hash, uint32_t owner, uint32_t app,
			  const struct wire_row *k)
{
	uint32_t mask = t->cap_key - 1, at = (uint32_t)hash & mask;

	for (; t->key[at] != 0; at = (at + 1) & mask) {
		const struct row *r = table_row(t, t->key[at] - 1);

		if (r->owner == owner && r->app == app && same_service(r, k))
			break;
	}
	return &t->key[at];
}

static void key_del(struct table *t, uint32_t i)
{
	const struct row *r = table_row(t, i);
	uint32_t mask = t->cap_key - 1, hole, next;

	hole = (uint32_t)key_hash(row_service(r), r->owner, r->app) & mask;
	while (t->key[hole] != i + 1)
		hole = (hole + 1) & mask;
	for (next = (hole + 1) & mask; t->key[next] != 0; next = (next + 1) & mask) {
		uint32_t want;

		r = table_row(t, t->key[next] - 1);
		want = (uint32_t)key_hash(row_service(r), r->owner, r->app) & mask;
		if (((next - want) & mask) < ((next - hole) & mask))
			continue;
		t->key[hole] = t->key[next];
		hole = next;
	}
	t->key[hole] = 0;
}

static int grow_keys(struct table *t)
{
	uint32_t cap = t->cap_key * 2, *key = calloc(cap, sizeof(*key));

	if (key == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->cap_key; i++) {
		const struct row *r;
		uint32_t at;

		if (t->key[i] == 0)
			continue;
		r = table_row(t, t->key[i] - 1);
		at = (uint32_t)key_hash(row_service(r), r->owner, r->app) & (cap - 1);
		while (key[at] != 0)
			at = (at + 1) & (cap - 1);
		key[at] = t->key[i];
	}
	free(t->key);
	t->key = key;
	t->cap_key = cap;
	return 0;
}

static int grow_services(struct table *t)
{
	uint32_t cap = t->cap_service * 2, *service = calloc(cap, sizeof(*service));

	if (service == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->cap_service; i++) {
		uint32_t at = t->service[i];

		while (at != 0) {
			struct row *r = table_row(t, at - 1);
			uint32_t next = r->next;
			uint32_t *head = &service[row_service(r) & (cap - 1)];

			r->next = *head;
			*head = at;
			at = next;
		}
	}
	free(t->service);
	t->service = service;
	t->cap_service = cap;
	return 0;
}

static int make_slot(struct table *t)
{
	struct row **slab;

	if (t->free_row != NONE || t->n_slots < t->n_slabs * SLAB_ROWS)
		return 0;
	slab = realloc(t->slab, (t->n_slabs + 1) * sizeof(struct row *));
	if (slab == NULL)
		return -ENOMEM;
	t->slab = slab;
	slab[t->n_slabs] = malloc(SLAB_ROWS * sizeof(struct row));
	if (slab[t->n_slabs] == NULL)
		return -ENOMEM;
	t->n_slabs++;
	return 0;
}

static int make_room(struct table *t)
{
	if (t->n_rows + 1 > t->cap_key / 4 * 3 && grow_keys(t) < 0)
		return -ENOMEM;
	if (t->n_rows + 1 > t->cap_service && grow_services(t) < 0)
		return -ENOMEM;
	return make_slot(t);
}

/* 0 and *ret 0 for no data. */
static int blob_put(struct table *t, const void *data, uint32_t len, uint32_t *ret)
{
	struct blob *b;
	uint32_t i;

	*ret = 0;
	if (len == 0)
		return 0;
	if (t->free_blob == 0 && (t->n_blobs == t->cap_blobs || t->blob == NULL)) {
		uint32_t cap = t->cap_blobs ? t->cap_blobs * 2 : 16;
		struct blob **bigger = realloc(t->blob, cap * sizeof(struct blob *));

		if (bigger == NULL)
			return -ENOMEM;
		for (i = t->cap_blobs; i < cap; i++)
			bigger[i] = NULL;
		t->blob = bigger;
		t->cap_blobs = cap;
	}
	b = malloc(sizeof(*b) + len);
	if (b == NULL)
		return -ENOMEM;
	b->len = len;
	memcpy(b->b, data, len);
	if (t->free_blob != 0) {
		/* a free slot keeps a header that says which slot is free next */
		i = t->free_blob;
		t->free_blob = t->blob[i]->next_free;
		free(t->blob[i]);
	} else {
		i = t->n_blobs++;
	}
	t->blob[i] = b;
	*ret = i;
	return 0;
}

static void blob_del(struct table *t, uint32_t i)
{
	struct blob *small;

	if (i == 0)
		return;
	small = realloc(t->blob[i], sizeof(*small));
	if (small != NULL)
		t->blob[i] = small;
	t->blob[i]->len = 0;
	t->blob[i]->next_free = t->free_blob;
	t->free_blob = i;
}

static void order_out(struct table *t, const struct row *r)
{
	struct owner *o = &t->owner[r->owner];

	if (r->older != NONE)
		table_row(t, r->older)->newer = r->newer;
	else
		o->oldest = r->newer;
	if (r->newer != NONE)
		table_row(t, r->newer)->older = r->older;
	else
		o->newest = r->older;
}

/* Nearly always the newest; a late one finds its place from that end. */
static void order_in(struct table *t, uint32_t i)
{
	struct row *r = table_row(t, i);
	struct owner *o = &t->owner[r->owner];
	uint32_t at = o->newest;

	while (at != NONE && table_row(t, at)->version > r->version)
		at = table_row(t, at)->older;
	r->older = at;
	if (at == NONE) {
		r->newer = o->oldest;
		o->oldest = i;
	} else {
		r->newer = table_row(t, at)->newer;
		table_row(t, at)->newer = i;
	}
	if (r->newer == NONE)
		o->newest = i;
	else
		table_row(t, r->newer)->older = i;
}

/* Adds or takes away what a row adds to its owner's sums and counts. */
static void count_row(struct table *t, const struct row *r, bool in)
{
	struct owner *o = &t->owner[r->owner];
	uint32_t one = in ? 1 : UINT32_MAX;

	add_sum(t, o, -owner_sum(o));
	o->hash += in ? mix64(r->version) : -mix64(r->version);
	add_sum(t, o, owner_sum(o));
	if (r->deleted) {
		o->n_buried += one;
		t->n_buried += one;
	} else {
		o->n_live += one;
		t->n_live += one;
	}
}

static uint32_t take_slot(struct table *t)
{
	uint32_t i = t->free_row;

	if (i != NONE)
		t->free_row = table_row(t, i)->next;
	else
		i = t->n_slots++;
	t->n_rows++;
	return i;
}

int table_merge(struct table *t, uint32_t owner, const struct wire_row *w, uint32_t *ret_row)
{
	uint64_t service = service_hash(w->network, &w->vip, w->proto, w->port);
	struct owner *o = &t->owner[owner];
	uint64_t hash = key_hash(service, owner, w->app);
	uint32_t known, i, data;
	struct row *r;

	if (w->version <= o->floor)
		return 0;
	known = *key_slot(t, hash, owner, w->app, w);
	if (known != 0 && table_row(t, known - 1)->version >= w->version)
		return 0;
	if (known == 0 && make_room(t) < 0)
		return -ENOMEM;
	if (blob_put(t, w->data, w->deleted ? 0 : w->data_len, &data) < 0)
		return -ENOMEM;
	if (known != 0) {
		i = known - 1;
		r = table_row(t, i);
		count_row(t, r, false);
		order_out(t, r);
		blob_del(t, r->data);
	} else {
		i = take_slot(t);
		r = table_row(t, i);
		*r = (struct row){ .owner = owner,
				   .network = w->network,
				   .vip = w->vip,
				   .port = w->port,
				   .proto = w->proto,
				   .app = w->app,
				   .news = NONE,
				   .next = t->service[service & (t->cap_service - 1)] };
		t->service[service & (t->cap_service - 1)] = i + 1;
		*key_slot(t, hash, owner, w->app, w) = i + 1;
	}
	r->version = w->version;
	r->deleted = w->deleted;
	r->tags = w->tags;
	r->since = w->since;
	r->connections = w->connections;
	r->weight = w->weight;
	r->state = w->state;
	r->data = data;
	if (o->high < r->version)
		o->high = r->version;
	order_in(t, i);
	count_row(t, r, true);
	*ret_row = i;
	return 1;
}

static void remove_row(struct table *t, uint32_t i)
{
	struct row *r = table_row(t, i);
	uint32_t *at = &t->service[row_service(r) & (t->cap_service - 1)];

	count_row(t, r, false);
	order_out(t, r);
	blob_del(t, r->data);
	key_del(t, i);
	while (*at != i + 1)
		at = &table_row(t, *at - 1)->next;
	*at = r->next;
	r->next = t->free_row;
	t->free_row = i;
	t->n_rows--;
}

void table_raise_floor(struct table *t, uint32_t owner, uint64_t floor,
		       void (*gone)(void *ctx, uint32_t row), void *ctx)
{
	struct owner *o = &t->owner[owner];

	if (floor <= o->floor)
		return;
	o->floor = floor;
	while (o->oldest != NONE && table_row(t, o->oldest)->version <= floor) {
		uint32_t i = o->oldest;

		gone(ctx, i);
		remove_row(t, i);
	}
}

void table_reversion(struct table *t, uint32_t i, uint64_t version)
{
	struct row *r = table_row(t, i);

	count_row(t, r, false);
	order_out(t, r);
	r->version = version;
	if (t->owner[r->owner].high < version)
		t->owner[r->owner].high = version;
	order_in(t, i);
	count_row(t, r, true);
}

uint32_t table_find(const struct table *t, uint32_t owner, const struct wire_row *k)
{
	uint64_t service = service_hash(k->network, &k->vip, k->proto, k->port);

	return *key_slot(t, key_hash(service, owner, k->app), owner, k->app, k) - 1;
}

uint32_t table_find_version(const struct table *t, uint32_t owner, uint64_t version,
			    bool *ret_past)
{
	const struct owner *o = &t->owner[owner];
	uint32_t i = o->newest;
	unsigned steps = 0;

	while (i != NONE && table_row(t, i)->version > version && steps++ < WALK_MAX)
		i = table_row(t, i)->older;
	if (i != NONE && table_row(t, i)->version == version) {
		*ret_past = false;
		return i;
	}
	*ret_past = version <= o->floor || steps > WALK_MAX;
	return NONE;
}

uint32_t table_above(const struct table *t, uint32_t owner, uint64_t version)
{
	const struct owner *o = &t->owner[owner];
	uint32_t i;

	if (version < o->floor || version == 0)
		return o->oldest;
	/* from whichever end is likely nearer: peers ask for the newest, or go through all */
	if (o->high - version < o->n_live + o->n_buried) {
		uint32_t found = NONE;

		for (i = o->newest; i != NONE && table_row(t, i)->version > version;
		     i = table_row(t, i)->older)
			found = i;
		return found;
	}
	for (i = o->oldest; i != NONE && table_row(t, i)->version <= version;)
		i = table_row(t, i)->newer;
	return i;
}

bool table_has_service(const struct table *t, const struct wire_row *k)
{
	uint32_t at = t->service[service_hash(k->network, &k->vip, k->proto, k->port) &
				 (t->cap_service - 1)];

	for (; at != 0; at = table_row(t, at - 1)->next) {
		const struct row *r = table_row(t, at - 1);

		if (same_service(r, k) && !r->deleted)
			return true;
	}
	return false;
}

uint32_t table_lookup(const struct table *t, const struct wire_row *k, uint32_t row)
{
	uint32_t at;

	if (row == NONE)
		at = t->service[service_hash(k->network, &k->vip, k->proto, k->port) &
				(t->cap_service - 1)];
	else
		at = table_row(t, row)->next;
	while (at != 0) {
		const struct row *r = table_row(t, at - 1);

		if (same_service(r, k) && table_visible(t, r))
			return at - 1;
		at = r->next;
	}
	return NONE;
}

struct wire_row table_wire(const struct table *t, uint32_t i)
{
	const struct row *r = table_row(t, i);
	struct wire_row w = { .owner = t->owner[r->owner].id,
			      .version = r->version,
			      .deleted = r->deleted,
			      .network = r->network,
			      .vip = r->vip,
			      .port = r->port,
			      .proto = r->proto,
			      .app = r->app,
			      .tags = r->tags,
			      .since = r->since,
			      .connections = r->connections,
			      .weight = r->weight,
			      .state = r->state };

	if (r->data != 0) {
		w.data = t->blob[r->data]->b;
		w.data_len = t->blob[r->data]->len;
	}
	return w;
}
