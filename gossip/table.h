/* table.h - the replicated service table: every row of every owner, 100 bytes each or less.
 *
 * A row exists if its version is above its owner's floor and no higher version of the same key
 * was seen; a deleted row is a row that says so (buried), until the owner raises its floor past
 * it. Since only the owner makes versions, any number of merges in any order gives the same
 * table. Before an owner raises its floor it gives the rows it keeps new versions, so nothing
 * at or below a floor can ever come back.
 *
 * Rows live in slabs at fixed indexes, chained three ways: by key (open addressing), by service
 * (for lookup), and per owner in order of version (for transfers). Owners are hidden and shown
 * again without touching their rows. Owns its memory, copies what it is given. */
#ifndef GOSSIP_TABLE_H
#define GOSSIP_TABLE_H

#include "gossip/members.h"
#include "gossip/wire.h"

struct row {
	uint64_t version, tags;
	struct as_addr vip;
	uint32_t network, app, owner, since, connections;
	uint32_t older, newer; /* of the same owner */
	uint32_t next;	       /* in the service's chain; of a free slot: the next free one */
	uint32_t data;	       /* index of a blob, 0: none */
	uint32_t news;	       /* in the news queue, NONE: not there */
	uint16_t port, weight;
	uint8_t proto, state;
	bool deleted;
};

struct owner {
	uint64_t id;
	uint64_t floor, high;
	uint64_t hash;	     /* sum over its rows; equal on two nodes: same rows */
	uint32_t generation; /* the owner's, as far as we know: names of rows mean this one */
	uint32_t oldest, newest;
	uint32_t n_live, n_buried;
	bool hidden;
};

struct blob;

struct table {
	struct row **slab;
	struct owner *owner;
	struct blob **blob;
	uint32_t *key;			    /* open addressing, holds row + 1 */
	uint32_t *service;		    /* chain heads, holds row + 1 */
	uint32_t n_rows, n_slots, free_row; /* rows in use, ever used, chain of free ones */
	uint32_t n_owners, cap_owners, n_slabs;
	uint32_t cap_key, cap_service;
	uint32_t n_blobs, cap_blobs, free_blob;
	uint32_t n_live, n_buried;
	uint32_t hash[WIRE_BUCKETS], root;
};

#define SLAB_ROWS 256u

static inline struct row *table_row(const struct table *t, uint32_t i)
{
	return &t->slab[i / SLAB_ROWS][i % SLAB_ROWS];
}

int table_init(struct table *t);
void table_done(struct table *t);

uint32_t table_add_owner(struct table *t, uint64_t id); /* its index, or NONE (no memory) */
void table_hide(struct table *t, uint32_t owner, bool hidden);

/* Merges a row of @owner. 1: it was news, *ret_row is where it is now; 0: known or superseded;
 * -ENOMEM. Flow of versions up to WIRE_ROW_DATA_MAX of data; the caller checked sizes. */
int table_merge(struct table *t, uint32_t owner, const struct wire_row *row, uint32_t *ret_row);
/* Removes every row at or below @floor; @gone is called for each that was live. */
void table_raise_floor(struct table *t, uint32_t owner, uint64_t floor,
		       void (*gone)(void *ctx, uint32_t row), void *ctx);
/* Gives row @i, one of ours, a new version, the highest. */
void table_reversion(struct table *t, uint32_t i, uint64_t version);

uint32_t table_find(const struct table *t, uint32_t owner, const struct wire_row *key);
/* The row with exactly that version, or NONE; *ret_past: it is superseded or otherwise not
 * needed as far as can be told cheaply. */
uint32_t table_find_version(const struct table *t, uint32_t owner, uint64_t version,
			    bool *ret_past);
/* The first row of the owner above @version; go on with ->newer. Or NONE. */
uint32_t table_above(const struct table *t, uint32_t owner, uint64_t version);
/* Next row of a service: @row NONE starts. Live ones of owners that are not hidden. */
uint32_t table_lookup(const struct table *t, const struct wire_row *key, uint32_t row);
/* Is there any live row of it, be its owner hidden or not? */
bool table_has_service(const struct table *t, const struct wire_row *key);
/* Borrowed until the row changes. */
struct wire_row table_wire(const struct table *t, uint32_t i);

static inline bool table_visible(const struct table *t, const struct row *r)
{
	return !r->deleted && !t->owner[r->owner].hidden;
}

#endif
