/* The public face: time, sending, what this node says of itself, and its rows. */
#include "gossip/core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct as_endpoint core_addr(const struct gossip *g, uint32_t member)
{
	const struct member *m = &g->members.m[member];

	return (struct as_endpoint){ .addr = m->ip, .port = m->port };
}

/* Every packet begins with its sender's own record: whoever hears anything from a node knows
 * its latest word about itself. */
struct wr core_begin(struct gossip *g, uint8_t *buf, size_t cap)
{
	struct wr w = packet_begin(buf, cap);
	struct wire_member self = members_wire(&g->members, 0, 0);

	(void)wire_put_sender(&w, &self);
	w.p += w.len;
	w.cap -= w.len;
	w.len = 0;
	return w;
}

void core_send(struct gossip *g, uint64_t to, const struct as_endpoint *addr,
	       enum gossip_via via, uint8_t *buf, struct wr *w)
{
	size_t sender = (size_t)(w->p - buf) - WIRE_HEADER_LEN;
	struct wr whole = { .p = buf + WIRE_HEADER_LEN, .len = sender + w->len };
	long n;

	if (w->len == 0)
		return;
	n = packet_seal(&g->io, buf, &whole);
	w->len = 0;
	if (n > 0)
		g->sink.send(g->sink.ctx, to, addr, via, buf, (size_t)n);
}

static struct wire_row wire_key(const struct gossip_row *r)
{
	return (struct wire_row){ .network = r->network,
				  .vip = r->vip,
				  .port = r->port,
				  .proto = r->proto,
				  .app = r->app };
}

static void note_roots(struct gossip *g)
{
	if (g->members.root != g->last_root_members)
		g->changed_members = g->now;
	if (g->table.root != g->last_root_rows)
		g->changed_rows = g->now;
	g->last_root_members = g->members.root;
	g->last_root_rows = g->table.root;
}

uint64_t gossip_deadline(const struct gossip *g)
{
	uint64_t t = probe_deadline(g), news = news_deadline(g);

	if (g->left)
		return UINT64_MAX;
	if (news < t)
		t = news;
	if (g->suspect_next < t)
		t = g->suspect_next;
	if (g->xfer.active && g->xfer.deadline < t)
		t = g->xfer.deadline;
	if (g->floor_at != 0 && g->floor_at < t)
		t = g->floor_at;
	return t;
}

/* Every entry comes through here. Being late means that this host stalled: what others did
 * meanwhile is still unread, so nobody is judged by the clock of a sleeper. */
void core_enter(struct gossip *g, uint64_t now)
{
	uint64_t due = gossip_deadline(g);

	if (now < g->now)
		now = g->now;
	if (due < g->now)
		due = g->now; /* up to there it has been counted */
	g->now = now;
	if (now > due + LATE && !g->plain) {
		suspect_held_up(g, now - due);
		probe_held_up(g, now - due);
		if (g->xfer.active)
			g->xfer.deadline += now - due;
	}
}

void core_leave(struct gossip *g)
{
	news_flush(g);
	note_roots(g);
}

static void forget_gone(struct gossip *g)
{
	uint32_t now_s = (uint32_t)(g->now / S), oldest = NONE;
	uint32_t many = g->members.n_live * 4 + GONE_MAX;

	for (uint32_t k = 0; k < g->members.n_gone; k++) {
		uint32_t i = g->members.gone[k];
		const struct member *m = &g->members.m[i];

		/* with its rows, if it ever had any, it stays: an owner's place is for ever */
		if (m->owner != NONE)
			continue;
		if (m->state == GOSSIP_LEFT && now_s - m->aux > FORGET_LEFT / S)
			oldest = i;
		else if (g->members.n_gone > many &&
			 (oldest == NONE || g->members.m[oldest].aux > m->aux))
			oldest = i;
	}
	if (oldest == NONE)
		return;
	news_forget(g, g->members.m[oldest].news);
	members_remove(&g->members, oldest);
}

/* Deletions are kept until they outnumber the rows; then the rows move past them, and a little
 * later the floor follows. So each deletion costs at most one more update, ever. */
static void house(struct gossip *g)
{
	const struct owner *o = &g->table.owner[g->members.m[0].owner];

	forget_gone(g);
	if (g->floor_at == 0 && o->n_buried > o->n_live + BURIED_FEW) {
		g->floor_next = o->high;
		for (uint32_t i = o->oldest, next; i != NONE; i = next) {
			struct row *r = table_row(&g->table, i);

			next = r->newer;
			if (r->version > g->floor_next)
				break;
			if (r->deleted)
				continue;
			table_reversion(&g->table, i, core_row_version(g));
			news_row(g, i);
		}
		g->floor_at = g->now + FLOOR_DELAY;
	}
}

static void raise_floor(struct gossip *g)
{
	struct wire_member w = members_wire(&g->members, 0, 0);

	g->floor_at = 0;
	if (g->floor_next <= w.floor)
		return;
	w.floor = g->floor_next;
	w.version++;
	members_set(&g->members, 0, &w, &g->rng);
	table_raise_floor(&g->table, g->members.m[0].owner, w.floor, core_row_gone, g);
	news_member(g, 0);
}

void gossip_tick(struct gossip *g, uint64_t now)
{
	core_enter(g, now);
	if (!g->left) {
		suspect_tick(g);
		probe_tick(g);
		sync_tick(g);
		if (g->floor_at != 0 && g->now >= g->floor_at)
			raise_floor(g);
		if (g->now >= g->house_at) {
			g->house_at = g->now + S;
			house(g);
		}
	}
	core_leave(g);
}

int gossip_new(const struct gossip_config *c, uint64_t now, struct gossip **ret)
{
	struct wire_member self = { .id = c->id,
				    .version = (uint64_t)c->generation << 32,
				    .addr = c->addr };
	struct gossip *g;

	if (c->id == 0 || c->generation == 0 || c->sink.send == NULL || c->aead.seal == NULL ||
	    c->aead.open == NULL || c->aead.key_id == NULL)
		return -EINVAL;
	g = calloc(1, sizeof(*g));
	if (g == NULL)
		return -ENOMEM;
	g->sink = c->sink;
	g->rng = c->seed;
	g->now = now;
	g->plain = c->plain_swim;
	packet_init(&g->io, &c->aead, c->session);
	news_init(&g->news);
	if (members_init(&g->members, c->expect) < 0 || table_init(&g->table) < 0 ||
	    members_add(&g->members, &self, &g->rng) != 0 || core_owner(g, 0) == NONE) {
		gossip_free(g);
		return -ENOMEM;
	}
	news_member(g, 0);
	g->seq = (uint32_t)mix_next(&g->rng);
	g->rtt_mean = 20 * MS / RTT_UNIT_US;
	g->probe_next = g->suspect_next = UINT64_MAX;
	/* nodes that start together must not ask together */
	g->probe_at = now + mix_below(&g->rng, PROBE_EVERY);
	g->retry_at = now + mix_below(&g->rng, RETRY_EVERY);
	g->house_at = now + mix_below(&g->rng, S);
	note_roots(g);
	g->changed_members = g->changed_rows = 0;
	*ret = g;
	return 0;
}

struct gossip *gossip_free(struct gossip *g)
{
	if (g == NULL)
		return NULL;
	members_done(&g->members);
	table_done(&g->table);
	news_done(&g->news);
	packet_done(&g->io);
	sync_done(g);
	free(g->suspect);
	free(g->seeds);
	free(g);
	return NULL;
}

int gossip_seed(struct gossip *g, uint64_t now, const struct as_endpoint *addr)
{
	struct as_endpoint *seeds;

	if (g->n_seeds >= GOSSIP_SEEDS)
		return -ENOSPC;
	seeds = realloc(g->seeds, (g->n_seeds + 1) * sizeof(*seeds));
	if (seeds == NULL)
		return -ENOMEM;
	g->seeds = seeds;
	seeds[g->n_seeds++] = *addr;
	core_enter(g, now);
	if (g->members.n_live == 0)
		probe_address(g, addr);
	core_leave(g);
	return 0;
}

void gossip_hint_down(struct gossip *g, uint64_t now, uint64_t id)
{
	uint32_t i = members_find(&g->members, id);

	if (i == NONE || i == 0)
		return;
	core_enter(g, now);
	probe_ask(g, i);
	core_leave(g);
}

void gossip_set_addr(struct gossip *g, uint64_t now, const struct as_endpoint *addr)
{
	struct wire_member w = members_wire(&g->members, 0, 0);

	core_enter(g, now);
	w.addr = *addr;
	members_set(&g->members, 0, &w, &g->rng);
	core_new_incarnation(g);
	core_leave(g);
}

void gossip_leave(struct gossip *g, uint64_t now)
{
	struct wire_member w;

	core_enter(g, now);
	core_new_incarnation(g);
	w = members_wire(&g->members, 0, 0);
	w.state = GOSSIP_LEFT;
	members_set(&g->members, 0, &w, &g->rng);
	g->left = true;
	for (unsigned round = 0; round < 3; round++) {
		g->news.next = g->now;
		news_flush(g);
	}
}

int gossip_put(struct gossip *g, uint64_t now, const struct gossip_row *row)
{
	struct wire_row w = wire_key(row);
	uint32_t i;
	int r;

	if (row->data_len > GOSSIP_ROW_DATA_MAX)
		return -EMSGSIZE;
	core_enter(g, now);
	w.owner = g->members.m[0].id;
	w.version = core_row_version(g);
	w.tags = row->tags;
	w.since = row->since;
	w.connections = row->connections;
	w.weight = row->weight;
	w.state = row->state;
	w.data = row->data;
	w.data_len = row->data_len;
	r = table_merge(&g->table, g->members.m[0].owner, &w, &i);
	if (r == 1)
		news_row(g, i);
	core_leave(g);
	return r < 0 ? r : 0;
}

int gossip_del(struct gossip *g, uint64_t now, const struct gossip_row *key)
{
	struct wire_row w = wire_key(key);
	uint32_t owner = g->members.m[0].owner, i = table_find(&g->table, owner, &w);
	int r;

	if (i == NONE || table_row(&g->table, i)->deleted)
		return -ENOENT;
	core_enter(g, now);
	w.owner = g->members.m[0].id;
	w.version = core_row_version(g);
	w.deleted = true;
	r = table_merge(&g->table, owner, &w, &i);
	if (r == 1)
		news_row(g, i);
	core_leave(g);
	return r < 0 ? r : 0;
}

void gossip_settled(struct gossip *g, uint64_t now)
{
	uint64_t floor = g->members.m[0].version & ~(uint64_t)UINT32_MAX;

	core_enter(g, now);
	g->settled = true;
	if (g->floor_at == 0 || g->floor_next < floor)
		g->floor_next = floor;
	g->floor_at = g->now + FLOOR_DELAY;
	core_leave(g);
}
