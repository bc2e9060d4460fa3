/* What the caller may ask of the tables: reads only. */
#include "gossip/core.h"

#include <errno.h>
#include <string.h>

static struct gossip_row public_row(const struct gossip *g, uint32_t i)
{
	struct wire_row w = table_wire(&g->table, i);

	return core_public_row(&w);
}

bool gossip_lookup(const struct gossip *g, const struct gossip_row *key, uint32_t *it,
		   struct gossip_row *ret)
{
	struct wire_row k = {
		.network = key->network, .vip = key->vip, .port = key->port, .proto = key->proto
	};
	uint32_t i = table_lookup(&g->table, &k, *it == 0 ? NONE : *it - 1);

	if (i == NONE)
		return false;
	*it = i + 1;
	*ret = public_row(g, i);
	return true;
}

bool gossip_has(const struct gossip *g, const struct gossip_row *key)
{
	struct wire_row k = {
		.network = key->network, .vip = key->vip, .port = key->port, .proto = key->proto
	};

	return table_has_service(&g->table, &k);
}

static bool claims_before(const struct gossip_row *a, const struct gossip_row *b)
{
	if (a->since != b->since)
		return a->since < b->since;
	if (a->owner != b->owner)
		return a->owner < b->owner;
	return a->app < b->app;
}

int gossip_claim(const struct gossip *g, const struct gossip_row *key, struct gossip_row *ret)
{
	struct gossip_row row, best;
	uint32_t it = 0;
	bool any = false;

	while (gossip_lookup(g, key, &it, &row)) {
		if (!any || claims_before(&row, &best))
			best = row;
		any = true;
	}
	if (!any)
		return -ENOENT;
	*ret = best;
	return 0;
}

/* A free slot is told by its version: what is removed is below a floor and stays so. */
bool gossip_rows(const struct gossip *g, uint32_t *it, struct gossip_row *ret)
{
	for (uint32_t i = *it; i < g->table.n_slots; i++) {
		const struct row *r = table_row(&g->table, i);

		if (r->version <= g->table.owner[r->owner].floor ||
		    !table_visible(&g->table, r))
			continue;
		*it = i + 1;
		*ret = public_row(g, i);
		return true;
	}
	return false;
}

bool gossip_members(const struct gossip *g, uint32_t *it, struct gossip_member *ret)
{
	for (uint32_t i = *it; i < g->members.n; i++) {
		if (g->members.m[i].id == 0)
			continue;
		*it = i + 1;
		*ret = core_public_member(g, i);
		return true;
	}
	return false;
}

int gossip_member_of(const struct gossip *g, uint64_t id, struct gossip_member *ret)
{
	uint32_t i = members_find(&g->members, id);

	if (i == NONE)
		return -ENOENT;
	*ret = core_public_member(g, i);
	return 0;
}

struct gossip_stats gossip_stats(const struct gossip *g)
{
	return (struct gossip_stats){ .live = g->members.n_live,
				      .gone = g->members.n_gone,
				      .rows = g->table.n_live,
				      .buried = g->table.n_buried,
				      .suspects = g->n_suspect,
				      .local_health = g->health,
				      .root_members = g->members.root,
				      .root_rows = g->table.root,
				      .agreed = g->agreed,
				      .syncs = g->syncs,
				      .dropped = g->dropped };
}
