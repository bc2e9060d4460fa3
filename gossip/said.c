/* What is said of members and rows, by whomever, and what follows from it. */
#include "gossip/core.h"

#include <string.h>

struct gossip_member core_public_member(const struct gossip *g, uint32_t i)
{
	const struct member *m = &g->members.m[i];

	return (struct gossip_member){ .id = m->id,
				       .generation = (uint32_t)(m->version >> 32),
				       .incarnation = (uint32_t)m->version,
				       .state = (enum gossip_state)m->state,
				       .addr = core_addr(g, i),
				       .rtt_us = m->rtt * RTT_UNIT_US };
}

static void tell_member(struct gossip *g, uint32_t i)
{
	struct gossip_member m = core_public_member(g, i);

	if (g->sink.member != NULL)
		g->sink.member(g->sink.ctx, &m);
}

struct gossip_row core_public_row(const struct wire_row *w)
{
	return (struct gossip_row){ .owner = w->owner,
				    .version = w->version,
				    .network = w->network,
				    .vip = w->vip,
				    .port = w->port,
				    .proto = w->proto,
				    .app = w->app,
				    .state = w->state,
				    .weight = w->weight,
				    .since = w->since,
				    .connections = w->connections,
				    .tags = w->tags,
				    .data = w->data,
				    .data_len = w->data_len };
}

static void tell_row(struct gossip *g, uint32_t row, bool live)
{
	struct wire_row w = table_wire(&g->table, row);
	struct gossip_row r = core_public_row(&w);

	if (g->sink.row != NULL)
		g->sink.row(g->sink.ctx, &r, live);
}

/* A row fell below its owner's floor. */
void core_row_gone(void *ctx, uint32_t row)
{
	struct gossip *g = ctx;
	const struct row *r = table_row(&g->table, row);

	news_forget(g, r->news);
	if (r->owner != g->members.m[0].owner && table_visible(&g->table, r))
		tell_row(g, row, false);
}

uint32_t core_owner(struct gossip *g, uint32_t member)
{
	struct member *m = &g->members.m[member];

	if (m->owner != NONE || m->state == GOSSIP_LEFT)
		return m->owner;
	m->owner = table_add_owner(&g->table, m->id);
	if (m->owner != NONE) {
		g->table.owner[m->owner].generation = (uint32_t)(m->version >> 32);
		table_raise_floor(&g->table, m->owner, m->floor, core_row_gone, g);
		if (!members_is_live(m->state))
			table_hide(&g->table, m->owner, true);
	}
	return m->owner;
}

/* The rows of who left are gone for this generation; the next one may bring new ones. */
static uint64_t effective_floor(const struct wire_member *w)
{
	return w->state == GOSSIP_LEFT ? w->version | UINT32_MAX : w->floor;
}

static void follow_rows(struct gossip *g, uint32_t i, const struct wire_member *w)
{
	uint32_t owner = g->members.m[i].owner;

	if (owner == NONE)
		return;
	g->table.owner[owner].generation = (uint32_t)(w->version >> 32);
	table_raise_floor(&g->table, owner, effective_floor(w), core_row_gone, g);
	if (g->table.owner[owner].hidden == members_is_live(w->state))
		table_hide(&g->table, owner, !members_is_live(w->state));
}

void core_set(struct gossip *g, uint32_t i, const struct wire_member *w, bool news)
{
	struct member *m = &g->members.m[i];
	struct as_endpoint addr = core_addr(g, i);
	bool tell = m->state != w->state || memcmp(&addr, &w->addr, sizeof(addr)) != 0;

	if (m->state == GOSSIP_SUSPECT && w->state != GOSSIP_SUSPECT)
		suspect_clear(g, i);
	members_set(&g->members, i, w, &g->rng);
	if (!members_is_live(w->state))
		m->aux = (uint32_t)(g->now / S);
	follow_rows(g, i, w);
	if (news)
		news_member(g, i);
	if (tell)
		tell_member(g, i);
}

void core_new_incarnation(struct gossip *g)
{
	struct wire_member w = members_wire(&g->members, 0, 0);

	w.version++;
	members_set(&g->members, 0, &w, &g->rng);
	news_member(g, 0);
}

uint64_t core_row_version(struct gossip *g)
{
	return (g->members.m[0].version & ~(uint64_t)UINT32_MAX) | ++g->seq_row;
}

/* Gives every own row up to @last a new version and pushes it again. */
static void reversion_rows(struct gossip *g, uint64_t last)
{
	const struct owner *o = &g->table.owner[g->members.m[0].owner];

	while (o->oldest != NONE && table_row(&g->table, o->oldest)->version <= last) {
		uint32_t i = o->oldest;

		table_reversion(&g->table, i, core_row_version(g));
		news_row(g, i);
	}
}

/* A life that lost its disk and its clock may hear only of an older one than its last; a jump of
 * random width keeps it from taking the very generation that the last one took. */
void core_new_generation(struct gossip *g, uint32_t above)
{
	uint32_t generation;
	struct wire_member w = members_wire(&g->members, 0, 0);
	uint64_t last = g->table.owner[g->members.m[0].owner].high;

	if (above > UINT32_MAX - GENERATION_JUMP)
		return; /* whoever said that wants no answer */
	generation = above + 1 + mix_below(&g->rng, GENERATION_JUMP);
	w.version = (uint64_t)generation << 32;
	members_set(&g->members, 0, &w, &g->rng);
	g->table.owner[g->members.m[0].owner].generation = generation;
	reversion_rows(g, last);
	if (g->settled) {
		/* what that other process or life left behind goes too */
		g->floor_next = w.version;
		g->floor_at = g->now + FLOOR_DELAY;
	}
	news_member(g, 0);
	if (g->sink.generation != NULL)
		g->sink.generation(g->sink.ctx, generation);
}

/* Somebody has a row of ours that we did not write in this life, yet of this generation. */
void core_heard_of_own_rows(struct gossip *g, uint64_t high)
{
	const struct owner *o = &g->table.owner[g->members.m[0].owner];
	uint64_t generation = g->members.m[0].version >> 32;

	if (high > o->high && high >> 32 >= generation)
		core_new_generation(g, (uint32_t)(high >> 32));
}

static void said_of_self(struct gossip *g, const struct wire_member *w)
{
	uint64_t mine = g->members.m[0].version;

	if (w->version < mine || g->left)
		return;
	/* we never said that: another life of this node did, or a copy of it */
	if (w->version > mine) {
		core_new_generation(g, (uint32_t)(w->version >> 32));
		return;
	}
	if (w->state == GOSSIP_ALIVE)
		return;
	if (w->state == GOSSIP_SUSPECT)
		probe_health(g, 1);
	core_new_incarnation(g);
}

static void newcomer(struct gossip *g, const struct wire_member *w, enum said_how how)
{
	struct wire_member alive = *w;
	uint32_t i;

	/* an accusation of somebody we do not know is worth as much as any other */
	if (w->state == GOSSIP_SUSPECT)
		alive.state = GOSSIP_ALIVE;
	i = members_add(&g->members, &alive, &g->rng);
	if (i == NONE)
		return;
	if (!members_is_live(alive.state))
		g->members.m[i].aux = (uint32_t)(g->now / S);
	if (how != SAID_SUMMARY)
		news_member(g, i);
	tell_member(g, i);
	if (w->state == GOSSIP_SUSPECT)
		suspect_accuse(g, i, w->from);
}

static void said_newer(struct gossip *g, uint32_t i, const struct wire_member *w,
		       enum said_how how)
{
	struct wire_member set = *w;
	bool doubt = w->state == GOSSIP_DEAD && how == SAID_SUMMARY &&
		     members_is_live(g->members.m[i].state);

	if (w->state == GOSSIP_SUSPECT || doubt)
		set.state = GOSSIP_ALIVE;
	core_set(g, i, &set, how != SAID_SUMMARY);
	if (w->state == GOSSIP_SUSPECT)
		suspect_accuse(g, i, w->from);
	if (doubt)
		probe_ask(g, i);
}

void core_said(struct gossip *g, const struct wire_member *w, enum said_how how)
{
	uint32_t i = members_find(&g->members, w->id);
	const struct member *m;

	if (i == NONE) {
		newcomer(g, w, how);
		return;
	}
	if (i == 0) {
		said_of_self(g, w);
		return;
	}
	m = &g->members.m[i];
	if (w->version > m->version) {
		said_newer(g, i, w, how);
		return;
	}
	if (w->version < m->version)
		return;
	if (w->state == GOSSIP_LEFT && m->state != GOSSIP_LEFT) {
		core_set(g, i, w, true);
	} else if (w->state == GOSSIP_SUSPECT) {
		suspect_accuse(g, i, w->from);
	} else if (w->state == GOSSIP_DEAD && members_is_live(m->state)) {
		if (how == SAID_SUMMARY)
			probe_ask(g, i);
		else
			core_set(g, i, w, true);
	} else if (w->state == GOSSIP_ALIVE && m->state == GOSSIP_DEAD && how == SAID_SUMMARY) {
		probe_ask(g, i);
	}
}

void core_row(struct gossip *g, const struct wire_row *w)
{
	uint32_t i = members_find(&g->members, w->owner), owner, row;

	if (i == 0)
		core_heard_of_own_rows(g, w->version);
	if (i == NONE || i == 0)
		return;
	owner = core_owner(g, i);
	if (owner == NONE || table_merge(&g->table, owner, w, &row) != 1)
		return;
	news_row(g, row);
	if (!g->table.owner[owner].hidden)
		tell_row(g, row, !w->deleted);
}
