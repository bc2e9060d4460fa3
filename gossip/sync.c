/* Anti-entropy. Converged nodes exchange two root hashes on pings and acks and nothing else.
 * Where they differ, the asking node sends one hash per bucket of owners; the other answers with
 * summaries of the members in the buckets that differ (by datagram, or by stream in steps); and
 * for every owner whose rows differ the rows above a version are fetched. The receiver drives:
 * one step is in flight per transfer, and a node runs one transfer at a time.
 *
 * An old death in a summary is a reason to ask the accused, never a verdict: after a partition
 * each side holds the other for dead, and believing it would kill the living. */
#include "gossip/core.h"

#include <string.h>

#define WANT_BATCH 48 /* owners asked for at once: fits a datagram */

bool reply_grow(void **array, uint32_t *cap, size_t size)
{
	uint32_t n = *cap ? *cap * 2 : 16;
	void *bigger = realloc(*array, n * size);

	if (bigger == NULL)
		return false;
	*array = bigger;
	*cap = n;
	return true;
}

void replies_done(struct replies *re)
{
	free(re->get);
	free(re->newer);
	free(re->fetch);
	free(re->row);
}

static void end_transfer(struct gossip *g)
{
	for (uint32_t i = 0; i < g->xfer.n_want; i++)
		g->members.m[g->xfer.want[i].member].wanted = 0;
	g->xfer.n_want = g->xfer.batch = 0;
	g->xfer.active = false;
}

void sync_done(struct gossip *g)
{
	free(g->xfer.want);
}

void sync_tick(struct gossip *g)
{
	if (g->xfer.active && g->now >= g->xfer.deadline)
		end_transfer(g);
}

static void begin_transfer(struct gossip *g, const struct wire_member *peer)
{
	g->xfer.active = true;
	g->xfer.peer = peer->id;
	g->xfer.addr = peer->addr;
	g->xfer.next.cursor = NONE;
	g->xfer.via = GOSSIP_DATAGRAM;
	g->xfer.deadline = g->now + DATAGRAM_STALL;
	g->syncs++;
}

/* The next step: rows that are wanted before more summaries. */
static void go_on(struct gossip *g)
{
	struct transfer *x = &g->xfer;
	uint8_t buf[WIRE_UDP_MAX];
	struct wr w = core_begin(g, buf, sizeof(buf));

	if (x->n_want > 0) {
		x->batch = x->n_want < WANT_BATCH ? x->n_want : WANT_BATCH;
		for (uint32_t i = 0; i < x->batch; i++) {
			struct wire_fetch f = { .owner = g->members.m[x->want[i].member].id,
						.version = x->want[i].above };

			if (!wire_put_fetch(&w, WIRE_FETCH, &f)) {
				x->batch = i;
				break;
			}
		}
	} else if (x->next.cursor != NONE) {
		x->via = GOSSIP_STREAM;
		(void)wire_put_pull(&w, WIRE_PULL, &x->next);
	} else {
		end_transfer(g);
		g->joined = true;
		/* what is left shows on the next ack */
		g->sync_at = g->now + SYNC_EVERY / 4;
		return;
	}
	x->deadline = g->now + (x->via == GOSSIP_STREAM ? STREAM_STALL : DATAGRAM_STALL);
	core_send(g, x->peer, &x->addr, x->via, buf, &w);
}

static void want(struct gossip *g, uint32_t member, uint64_t above)
{
	struct transfer *x = &g->xfer;
	struct member *m = &g->members.m[member];

	if (m->wanted || core_owner(g, member) == NONE)
		return;
	if (x->n_want == x->cap_want &&
	    !reply_grow((void **)&x->want, &x->cap_want, sizeof(*x->want)))
		return;
	m->wanted = 1;
	x->want[x->n_want++] = (struct want){ .member = member, .above = above };
}

void sync_on_root(struct gossip *g, uint32_t peer, uint32_t root_members, uint32_t root_rows)
{
	bool members = root_members == g->members.root, rows = root_rows == g->table.root;
	struct wire_bucket b = { 0 };
	struct as_endpoint addr = core_addr(g, peer);
	uint8_t buf[WIRE_UDP_MAX];
	struct wr w;
	bool patient, calm;

	if (members && rows) {
		g->differ_since = 0;
		g->joined = g->agreed = true;
		return;
	}
	if (g->differ_since == 0)
		g->differ_since = g->now;
	if (g->now < g->sync_at || g->xfer.active || g->left)
		return;
	patient = g->now - g->differ_since < SYNC_PATIENCE && g->joined;
	calm = g->now - g->changed_members >= SYNC_QUIET || !g->joined;
	if (members || (patient && !calm)) {
		b.of_rows = 1;
		calm = g->now - g->changed_rows >= SYNC_QUIET || !g->joined;
		if (rows || (patient && !calm))
			return;
	}
	b.brief = !calm;
	memcpy(b.hash, b.of_rows ? g->table.hash : g->members.hash, sizeof(b.hash));
	g->sync_at = g->now + SYNC_EVERY * 3 / 4 + mix_below(&g->rng, SYNC_EVERY / 2);
	if (b.brief)
		g->sync_at += SYNC_EVERY;
	g->syncs++;
	w = core_begin(g, buf, sizeof(buf));
	(void)wire_put_bucket(&w, &b);
	core_send(g, g->members.m[peer].id, &addr, GOSSIP_DATAGRAM, buf, &w);
}

static bool in_set(const uint8_t *set, uint64_t id)
{
	unsigned b = bucket_of(id);

	return set[b / 8] >> b % 8 & 1;
}

static struct wire_summary summary_of(struct gossip *g, uint32_t i, bool answer)
{
	const struct member *m = &g->members.m[i];
	struct wire_summary s = { .member = members_wire(&g->members, i, 0), .answer = answer };

	/* a suspicion is this moment's, and spreads by itself */
	if (s.member.state == GOSSIP_SUSPECT)
		s.member.state = GOSSIP_ALIVE;
	if (m->owner != NONE) {
		s.high = g->table.owner[m->owner].high;
		s.hash = g->table.owner[m->owner].hash;
	}
	return s;
}

/* Summaries of the set's members in at most @packets datagrams. */
static void send_summaries(struct gossip *g, const uint8_t *set, unsigned packets,
			   const struct wire_member *peer)
{
	uint8_t buf[WIRE_UDP_MAX];
	struct wr w = core_begin(g, buf, sizeof(buf));

	for (uint32_t i = 0; i < g->members.n; i++) {
		struct wire_summary s;

		if (g->members.m[i].id == 0 || !in_set(set, g->members.m[i].id))
			continue;
		s = summary_of(g, i, false);
		if (wire_put_summary(&w, &s))
			continue;
		core_send(g, peer->id, &peer->addr, GOSSIP_DATAGRAM, buf, &w);
		if (--packets == 0)
			return;
		w = core_begin(g, buf, sizeof(buf));
		(void)wire_put_summary(&w, &s);
	}
	core_send(g, peer->id, &peer->addr, GOSSIP_DATAGRAM, buf, &w);
}

/* Of the buckets in @set, from a random one on, those whose members fit so many datagrams. */
static void thin_out(struct gossip *g, uint8_t *set, uint32_t entries)
{
	uint32_t size[WIRE_BUCKETS] = { 0 }, have = 0;
	unsigned first = mix_below(&g->rng, WIRE_BUCKETS);

	for (uint32_t i = 0; i < g->members.n; i++) {
		if (g->members.m[i].id != 0)
			size[bucket_of(g->members.m[i].id)]++;
	}
	for (unsigned k = 0; k < WIRE_BUCKETS; k++) {
		unsigned b = (first + k) % WIRE_BUCKETS;

		if (!(set[b / 8] >> b % 8 & 1))
			continue;
		if (have > 0 && have + size[b] > entries)
			set[b / 8] &= (uint8_t) ~(1u << b % 8);
		else
			have += size[b];
	}
}

#define SUMMARIES_PER_PACKET 19u

void sync_on_bucket(struct gossip *g, const struct wire_bucket *b,
		    const struct wire_member *peer)
{
	const uint32_t *mine = b->of_rows ? g->table.hash : g->members.hash;
	struct wire_pull more = { 0 };
	uint32_t entries = 0;
	uint8_t buf[WIRE_UDP_MAX];
	struct wr w;

	for (unsigned i = 0; i < WIRE_BUCKETS; i++)
		more.set[i / 8] |= (uint8_t)((mine[i] != b->hash[i]) << i % 8);
	for (uint32_t i = 0; i < g->members.n; i++)
		entries += g->members.m[i].id != 0 && in_set(more.set, g->members.m[i].id);
	if (entries == 0)
		return;
	if (b->brief)
		thin_out(g, more.set, SYNC_BRIEF * SUMMARIES_PER_PACKET);
	if (b->brief || entries <= SYNC_PACKETS * SUMMARIES_PER_PACKET) {
		send_summaries(g, more.set, SYNC_PACKETS, peer);
		return;
	}
	w = core_begin(g, buf, sizeof(buf));
	(void)wire_put_pull(&w, WIRE_MORE, &more);
	core_send(g, peer->id, &peer->addr, GOSSIP_DATAGRAM, buf, &w);
}

static void send_pulled(struct gossip *g, const struct wire_pull *p,
			const struct wire_member *peer)
{
	struct wire_pull more = *p;
	uint8_t buf[WIRE_CHUNK];
	/* room for the record that says where to go on */
	struct wr w = core_begin(g, buf, sizeof(buf) - sizeof(more) - 4);
	uint32_t i;

	for (i = p->cursor; i < g->members.n; i++) {
		struct wire_summary s;

		if (g->members.m[i].id == 0 || !in_set(p->set, g->members.m[i].id))
			continue;
		s = summary_of(g, i, false);
		if (!wire_put_summary(&w, &s))
			break;
	}
	more.cursor = i < g->members.n ? i : NONE;
	w.cap += sizeof(more) + 4;
	(void)wire_put_pull(&w, WIRE_MORE, &more);
	core_send(g, peer->id, &peer->addr, GOSSIP_STREAM, buf, &w);
}

void sync_on_pull(struct gossip *g, const struct wire_pull *p, const struct wire_member *peer)
{
	send_pulled(g, p, peer);
}

void sync_on_more(struct gossip *g, const struct wire_pull *p, const struct wire_member *peer,
		  struct replies *re)
{
	if (g->xfer.active && g->xfer.peer != peer->id)
		return;
	if (!g->xfer.active)
		begin_transfer(g, peer);
	g->xfer.next = *p;
	if (g->xfer.batch == 0)
		re->go_on = true;
}

void sync_on_summary(struct gossip *g, const struct wire_summary *s,
		     const struct wire_member *peer, struct replies *re)
{
	const struct member *m;
	struct wire_summary mine;
	uint32_t i;

	core_said(g, &s->member, SAID_SUMMARY);
	i = members_find(&g->members, s->member.id);
	if (i == NONE)
		return;
	if (i == 0)
		core_heard_of_own_rows(g, s->high);
	m = &g->members.m[i];
	mine = summary_of(g, i, true);
	if (mine.high != s->high || mine.hash != s->hash) {
		/* a gone owner's rows count for nothing until it is back */
		bool rows = members_is_live(m->state) && members_is_live(s->member.state);

		if (rows && i != 0 && s->high >= mine.high &&
		    (!g->xfer.active || g->xfer.peer == peer->id)) {
			if (!g->xfer.active)
				begin_transfer(g, peer);
			/* with the same highest version one of us has a hole below it */
			want(g, i, s->high > mine.high ? mine.high : 0);
			if (g->xfer.batch == 0)
				re->go_on = true;
		}
		if (rows && s->high <= mine.high && !s->answer) {
			reply_add(re->newer, re->n_newer, re->cap_newer, i);
			return;
		}
	}
	if (!s->answer &&
	    (m->version > s->member.version ||
	     (m->version == s->member.version && mine.member.state > s->member.state)))
		reply_add(re->newer, re->n_newer, re->cap_newer, i);
}

void sync_on_fetched(struct gossip *g, const struct wire_fetch *f,
		     const struct wire_member *peer, struct replies *re)
{
	struct transfer *x = &g->xfer;
	uint32_t i = members_find(&g->members, f->owner);

	if (!x->active || x->peer != peer->id || i == NONE)
		return;
	for (uint32_t k = 0; k < x->batch; k++) {
		if (x->want[k].member != i)
			continue;
		if (f->more) {
			x->want[k].above = f->version;
			x->via = GOSSIP_STREAM;
			x->batch = 0;
		} else {
			g->members.m[i].wanted = 0;
			/* keep the batch in front */
			x->want[k] = x->want[--x->batch];
			x->want[x->batch] = x->want[--x->n_want];
		}
		break;
	}
	if (x->batch == 0)
		re->go_on = true;
}

void sync_on_offer(struct gossip *g, const struct wire_row_id *id, struct replies *re)
{
	uint32_t i = members_find(&g->members, id->owner);
	uint32_t hash = (uint32_t)mix64(id->owner ^ mix64(id->seq));
	uint32_t now_ms = (uint32_t)(g->now / MS), owner;
	uint64_t version;
	bool past = false;

	if (i == NONE || i == 0 || g->members.m[i].state == GOSSIP_LEFT)
		return;
	owner = core_owner(g, i);
	if (owner == NONE)
		return;
	version = (uint64_t)g->table.owner[owner].generation << 32 | id->seq;
	if (table_find_version(&g->table, owner, version, &past) != NONE || past)
		return;
	/* several offer at once; ask one, and again only when its answer is late */
	if (g->asked[hash & 255] == hash && now_ms - g->asked_at[hash & 255] < ASK_AGAIN_MS)
		return;
	g->asked[hash & 255] = hash;
	g->asked_at[hash & 255] = now_ms;
	reply_add(re->get, re->n_get, re->cap_get, *id);
}

struct out {
	const struct wire_member *peer;
	enum gossip_via via;
	uint8_t *buf;
	struct wr w;
	size_t cap;
	unsigned packets; /* left */
};

static void out_begin(struct gossip *g, struct out *o)
{
	o->w = core_begin(g, o->buf, o->cap);
}

/* Sends what is there and begins anew; false when no packet is left. */
static bool out_next(struct gossip *g, struct out *o)
{
	core_send(g, o->peer->id, &o->peer->addr, o->via, o->buf, &o->w);
	if (--o->packets == 0)
		return false;
	out_begin(g, o);
	return true;
}

/* A row too large for a usual frame goes in one of its own size. */
static void send_big_row(struct gossip *g, const struct wire_member *peer,
			 const struct wire_row *row, const struct wire_fetch *f)
{
	size_t cap = wire_row_size(row) + WIRE_CHUNK;
	uint8_t *buf = malloc(cap);
	struct wr w;

	if (buf == NULL)
		return;
	w = core_begin(g, buf, cap);
	(void)wire_put_row(&w, row);
	if (f != NULL)
		(void)wire_put_fetch(&w, WIRE_FETCHED, f);
	core_send(g, peer->id, &peer->addr, GOSSIP_STREAM, buf, &w);
	free(buf);
}

/* Where the answer begins. A peer that goes on where its last answer ended, as in the transfer
 * of a large owner, is spared the walk there. */
static uint32_t first_row(struct gossip *g, const struct out *o, uint32_t owner,
			  uint64_t version)
{
	uint32_t at = g->resume[o->peer->id % RESUMES];
	const struct row *r;

	if (at < g->table.n_slots && version > g->table.owner[owner].floor) {
		r = table_row(&g->table, at);
		if (r->owner == owner && r->version == version)
			return r->newer;
	}
	return table_above(&g->table, owner, version);
}

#define FETCHED_SIZE 19u

/* Rows of one owner above a version. False: it stopped early and said so. */
static bool put_rows(struct gossip *g, struct out *o, const struct wire_fetch *f,
		     uint32_t owner)
{
	struct wire_fetch end = { .owner = f->owner, .version = f->version };
	uint32_t i = first_row(g, o, owner, f->version);

	for (; i != NONE; i = table_row(&g->table, i)->newer) {
		struct wire_row row = table_wire(&g->table, i);
		size_t size = wire_row_size(&row);

		if (o->via == GOSSIP_STREAM && size > WIRE_CHUNK / 2) {
			end.version = row.version;
			end.more = 1;
			if (o->w.len > 0)
				core_send(g, o->peer->id, &o->peer->addr, o->via, o->buf,
					  &o->w);
			send_big_row(g, o->peer, &row, &end);
			o->packets = 0;
			return false;
		}
		if (o->w.cap - o->w.len < size + FETCHED_SIZE &&
		    (o->packets == 1 || size > WIRE_ROW_PUSH_MAX || !out_next(g, o))) {
			end.more = 1;
			(void)wire_put_fetch(&o->w, WIRE_FETCHED, &end);
			return false;
		}
		(void)wire_put_row(&o->w, &row);
		end.version = row.version;
		g->resume[o->peer->id % RESUMES] = i;
	}
	if (o->w.cap - o->w.len < 2 * FETCHED_SIZE && o->packets > 1)
		(void)out_next(g, o);
	if (o->w.cap - o->w.len < 2 * FETCHED_SIZE) {
		end.more = 1;
		(void)wire_put_fetch(&o->w, WIRE_FETCHED, &end);
		return false;
	}
	return wire_put_fetch(&o->w, WIRE_FETCHED, &end);
}

static void answer_fetches(struct gossip *g, struct out *o, const struct replies *re)
{
	for (uint32_t k = 0; k < re->n_fetch; k++) {
		uint32_t i = members_find(&g->members, re->fetch[k].owner);
		uint32_t owner = i == NONE ? NONE : core_owner(g, i);

		if (owner != NONE && !put_rows(g, o, &re->fetch[k], owner))
			break;
	}
}

static void answer_gets(struct gossip *g, struct out *o, const struct replies *re)
{
	for (uint32_t k = 0; k < re->n_row; k++) {
		uint32_t i = members_find(&g->members, re->row[k].owner);
		uint32_t owner = i == NONE ? NONE : g->members.m[i].owner, at;
		struct wire_row row;
		bool past;

		if (owner == NONE)
			continue;
		at = table_find_version(&g->table, owner,
					(uint64_t)g->table.owner[owner].generation << 32 |
						re->row[k].seq,
					&past);
		if (at == NONE)
			continue;
		row = table_wire(&g->table, at);
		if (wire_row_size(&row) > WIRE_ROW_PUSH_MAX)
			send_big_row(g, o->peer, &row, NULL);
		else if (!wire_put_row(&o->w, &row) &&
			 (!out_next(g, o) || !wire_put_row(&o->w, &row)))
			return;
	}
}

void sync_reply(struct gossip *g, const struct wire_member *peer, enum gossip_via via,
		struct replies *re)
{
	bool stream = via == GOSSIP_STREAM;
	uint8_t buf[WIRE_CHUNK];
	struct out o = { .peer = peer,
			 .via = via,
			 .buf = buf,
			 .cap = stream ? WIRE_CHUNK : WIRE_UDP_MAX,
			 .packets = stream ? 1 : SYNC_PACKETS };

	out_begin(g, &o);
	answer_fetches(g, &o, re);
	if (o.packets > 0)
		answer_gets(g, &o, re);
	if (o.packets > 0)
		core_send(g, peer->id, &peer->addr, via, buf, &o.w);
	o.packets = stream ? 1 : SYNC_PACKETS;
	out_begin(g, &o);
	for (uint32_t k = 0; k < re->n_newer; k++) {
		struct wire_summary s = summary_of(g, re->newer[k], true);

		if (!wire_put_summary(&o.w, &s) &&
		    (!out_next(g, &o) || !wire_put_summary(&o.w, &s)))
			break;
	}
	for (uint32_t k = 0; k < re->n_get && o.packets > 0;) {
		size_t n = wire_ids_room(&o.w), left = re->n_get - k;

		n = n < left ? n : left;
		if (n > 0)
			(void)wire_put_ids(&o.w, WIRE_GET, &re->get[k], n);
		k += (uint32_t)n;
		if (k < re->n_get && !out_next(g, &o))
			break;
	}
	if (o.packets > 0)
		core_send(g, peer->id, &peer->addr, via, buf, &o.w);
	if (re->go_on && g->xfer.active)
		go_on(g);
}
