/* Failure detection: SWIM's round robin of pings with helpers (4.1, 4.3), Lifeguard's local
 * health (a node that has reason to doubt itself waits longer) and buddies (who is accused is
 * told first), and the retries that let every partition heal. */
#include "gossip/core.h"

static uint64_t rtt_of(const struct gossip *g, const struct member *m)
{
	uint64_t units = m != NULL && m->rtt != 0 ? m->rtt : g->rtt_mean;

	return units * RTT_UNIT_US;
}

void probe_health(struct gossip *g, int by)
{
	if (g->plain)
		return;
	if (by < 0 && g->health > 0)
		g->health--;
	else if (by > 0 && g->health < HEALTH_MAX)
		g->health++;
}

static void schedule(struct gossip *g)
{
	uint64_t next = UINT64_MAX;

	for (unsigned i = 0; i < PROBES; i++) {
		if (g->probe[i].phase != PROBE_FREE && g->probe[i].deadline < next)
			next = g->probe[i].deadline;
	}
	for (unsigned i = 0; i < RELAYS; i++) {
		if (g->relay[i].seq != 0 && g->relay[i].deadline < next)
			next = g->relay[i].deadline;
	}
	g->probe_next = next;
}

static uint32_t next_seq(struct gossip *g)
{
	if (++g->seq == 0)
		g->seq = 1;
	return g->seq;
}

/* @target 0: whoever is at @addr. */
static void send_ping(struct gossip *g, uint64_t target, const struct as_endpoint *addr,
		      uint32_t seq)
{
	uint32_t i = target == 0 ? NONE : members_find(&g->members, target);
	const struct member *m = i == NONE ? NULL : &g->members.m[i];
	struct wire_ping p = { .seq = seq,
			       .root_members = g->members.root,
			       .root_rows = g->table.root,
			       .target = target };
	uint8_t buf[WIRE_UDP_MAX];
	struct wr w = core_begin(g, buf, sizeof(buf));

	if (m != NULL && m->state != GOSSIP_ALIVE && !g->plain) {
		struct wire_member said = members_wire(&g->members, i, suspect_accuser(g, i));

		(void)wire_put_member(&w, &said); /* before the ping: the ack can refute it */
	}
	(void)wire_put_ping(&w, &p);
	(void)news_fill(g, &w);
	core_send(g, p.target, addr, GOSSIP_DATAGRAM, buf, &w);
}

static void start(struct gossip *g, uint32_t i)
{
	const struct member *m = &g->members.m[i];
	struct as_endpoint addr = core_addr(g, i);
	struct probe *p = NULL;

	for (unsigned k = 0; k < PROBES; k++) {
		if (g->probe[k].phase == PROBE_FREE)
			p = &g->probe[k];
		else if (g->probe[k].target == m->id)
			return;
	}
	if (p == NULL)
		return;
	*p = (struct probe){ .target = m->id,
			     .seq = next_seq(g),
			     .sent = g->now,
			     .phase = PROBE_ASKED,
			     .deadline = g->now +
					 (PROBE_DIRECT + 3 * rtt_of(g, m)) * (g->health + 1) };
	if (p->deadline < g->probe_next)
		g->probe_next = p->deadline;
	send_ping(g, m->id, &addr, p->seq);
}

void probe_ask(struct gossip *g, uint32_t i)
{
	struct as_endpoint addr;

	if (g->ask_at > g->now)
		return;
	if (g->ask_at + S < g->now)
		g->ask_at = g->now - S; /* at most a second's worth at once */
	g->ask_at += S / ASK_PER_S;
	if (members_is_live(g->members.m[i].state)) {
		start(g, i);
		return;
	}
	addr = core_addr(g, i);
	send_ping(g, g->members.m[i].id, &addr, 0);
}

void probe_address(struct gossip *g, const struct as_endpoint *addr)
{
	send_ping(g, 0, addr, 0);
}

/* The list is a random permutation; shuffled anew after each turn (Fisher and Yates), so that
 * every member is asked once per turn and no two nodes keep step. */
static void ask_next(struct gossip *g)
{
	struct members *ms = &g->members;

	if (ms->n_live == 0)
		return;
	if (g->cursor >= ms->n_live) {
		g->cursor = 0;
		for (uint32_t i = ms->n_live - 1; i > 0; i--) {
			uint32_t j = mix_below(&g->rng, i + 1), t = ms->live[i];

			ms->live[i] = ms->live[j];
			ms->live[j] = t;
			ms->m[ms->live[i]].pos = i;
			ms->m[ms->live[j]].pos = j;
		}
	}
	start(g, ms->live[g->cursor++]);
}

static void ask_helpers(struct gossip *g, struct probe *p, uint32_t target)
{
	const struct members *ms = &g->members;
	struct wire_ping_req req = { .seq = p->seq, .target = p->target };
	uint64_t rtt = rtt_of(g, &ms->m[target]);
	uint32_t used[PROBE_HELPERS] = { NONE, NONE, NONE };

	req.addr = core_addr(g, target);
	for (unsigned tries = 0; tries < 4 * PROBE_HELPERS && p->helpers < PROBE_HELPERS;
	     tries++) {
		uint32_t h = ms->live[mix_below(&g->rng, ms->n_live)];
		struct as_endpoint addr = core_addr(g, h);
		uint8_t buf[WIRE_UDP_MAX];
		struct wr w;
		bool again = h == target || ms->m[h].state != GOSSIP_ALIVE;

		for (unsigned k = 0; k < p->helpers; k++)
			again |= used[k] == h;
		if (again)
			continue;
		used[p->helpers++] = h;
		w = core_begin(g, buf, sizeof(buf));
		(void)wire_put_ping_req(&w, &req);
		core_send(g, ms->m[h].id, &addr, GOSSIP_DATAGRAM, buf, &w);
	}
	p->phase = PROBE_HELPED;
	p->deadline = g->now + (PROBE_INDIRECT + 6 * rtt) * (g->health + 1);
}

static void failed(struct gossip *g, struct probe *p, uint32_t target)
{
	p->phase = PROBE_FREE;
	/* helpers who say that they got no answer either speak for this node's own health */
	if (p->helpers == 0 || p->nacks < p->helpers)
		probe_health(g, 1);
	suspect_accuse(g, target, g->members.m[0].id);
}

void probe_tick(struct gossip *g)
{
	if (g->now >= g->probe_next) {
		for (unsigned i = 0; i < PROBES; i++) {
			struct probe *p = &g->probe[i];
			uint32_t target;

			if (p->phase == PROBE_FREE || p->deadline > g->now)
				continue;
			target = members_find(&g->members, p->target);
			if (target == NONE || !members_is_live(g->members.m[target].state))
				p->phase = PROBE_FREE;
			else if (p->phase == PROBE_ASKED)
				ask_helpers(g, p, target);
			else
				failed(g, p, target);
		}
		for (unsigned i = 0; i < RELAYS; i++) {
			struct relay *r = &g->relay[i];
			struct wire_ack a = { .kind = WIRE_ACK_NO_ANSWER, .seq = r->their_seq };
			uint8_t buf[WIRE_UDP_MAX];
			struct wr w;

			if (r->seq == 0 || r->deadline > g->now)
				continue;
			r->seq = 0;
			w = core_begin(g, buf, sizeof(buf));
			(void)wire_put_ack(&w, &a);
			core_send(g, r->origin, &r->addr, GOSSIP_DATAGRAM, buf, &w);
		}
		schedule(g);
	}
	if (g->now >= g->probe_at) {
		g->probe_at = g->now + (uint64_t)PROBE_EVERY * (g->health + 1);
		ask_next(g);
	}
	if (g->now >= g->retry_at) {
		g->retry_at =
			g->now + RETRY_EVERY * 3 / 4 + mix_below(&g->rng, RETRY_EVERY / 2);
		g->retries++;
		for (unsigned tries = 0; tries < 4 && g->members.n_gone > 0; tries++) {
			uint32_t i = g->members.gone[mix_below(&g->rng, g->members.n_gone)];
			struct as_endpoint addr = core_addr(g, i);

			if (g->members.m[i].state != GOSSIP_DEAD)
				continue;
			send_ping(g, g->members.m[i].id, &addr, 0);
			break;
		}
		if (g->n_seeds > 0 && (g->members.n_live == 0 || g->retries % SEED_TURN == 0))
			probe_address(g, &g->seeds[mix_below(&g->rng, g->n_seeds)]);
	}
}

uint64_t probe_deadline(const struct gossip *g)
{
	uint64_t t = g->probe_next < g->probe_at ? g->probe_next : g->probe_at;

	return t < g->retry_at ? t : g->retry_at;
}

/* Answers to what was asked before may be waiting unread: those probes tell nothing. */
void probe_held_up(struct gossip *g, uint64_t late)
{
	for (unsigned i = 0; i < PROBES; i++)
		g->probe[i].phase = PROBE_FREE;
	for (unsigned i = 0; i < RELAYS; i++)
		g->relay[i].seq = 0;
	g->probe_next = UINT64_MAX;
	for (uint64_t t = 0; t < late && t < S; t += PROBE_EVERY)
		probe_health(g, 1);
}

void probe_on_ping(struct gossip *g, const struct wire_ping *p,
		   const struct wire_member *sender, const struct as_endpoint *from)
{
	struct wire_ack a = { .seq = p->seq,
			      .kind = WIRE_ACK_DIRECT,
			      .root_members = g->members.root,
			      .root_rows = g->table.root };
	uint32_t i = members_find(&g->members, sender->id);
	uint8_t buf[WIRE_UDP_MAX];
	struct wr w;

	/* another node had this address before: its silence is what the asker should hear */
	if (p->target != 0 && p->target != g->members.m[0].id)
		return;
	w = core_begin(g, buf, sizeof(buf));
	if (i != NONE && g->members.m[i].state != GOSSIP_ALIVE) {
		struct wire_member said = members_wire(&g->members, i, suspect_accuser(g, i));

		(void)wire_put_member(&w, &said);
	}
	(void)wire_put_ack(&w, &a);
	(void)news_fill(g, &w);
	core_send(g, sender->id, from, GOSSIP_DATAGRAM, buf, &w);
}

static void measure(struct gossip *g, uint32_t i, uint64_t us)
{
	uint64_t units = us / RTT_UNIT_US + 1;
	struct member *m = &g->members.m[i];

	if (units > UINT16_MAX)
		units = UINT16_MAX;
	/* as TCP does (RFC 6298 2.3), with a gain of 1/4: samples are rare */
	m->rtt = (uint16_t)(m->rtt == 0 ? units : (m->rtt * 3u + units + 3) / 4);
	g->rtt_mean = (uint32_t)((g->rtt_mean * 15u + units + 15) / 16);
}

static void pass_on(struct gossip *g, const struct wire_ack *a)
{
	for (unsigned i = 0; i < RELAYS; i++) {
		struct relay *r = &g->relay[i];
		struct wire_ack theirs = { .kind = WIRE_ACK_RELAYED, .seq = r->their_seq };
		uint8_t buf[WIRE_UDP_MAX];
		struct wr w;

		if (r->seq != a->seq)
			continue;
		r->seq = 0;
		w = core_begin(g, buf, sizeof(buf));
		(void)wire_put_ack(&w, &theirs);
		core_send(g, r->origin, &r->addr, GOSSIP_DATAGRAM, buf, &w);
		return;
	}
}

void probe_on_ack(struct gossip *g, const struct wire_ack *a, const struct wire_member *sender)
{
	uint32_t i = members_find(&g->members, sender->id);

	if (a->kind == WIRE_ACK_DIRECT && i != NONE)
		sync_on_root(g, i, a->root_members, a->root_rows);
	if (a->seq == 0)
		return;
	for (unsigned k = 0; k < PROBES; k++) {
		struct probe *p = &g->probe[k];

		if (p->phase == PROBE_FREE || p->seq != a->seq)
			continue;
		if (a->kind == WIRE_ACK_NO_ANSWER) {
			p->nacks++;
			return;
		}
		if (a->kind == WIRE_ACK_DIRECT && i != NONE && sender->id == p->target)
			measure(g, i, g->now - p->sent);
		p->phase = PROBE_FREE;
		probe_health(g, -1);
		return;
	}
	if (a->kind == WIRE_ACK_DIRECT)
		pass_on(g, a);
}

void probe_on_request(struct gossip *g, const struct wire_ping_req *p,
		      const struct wire_member *sender, const struct as_endpoint *from)
{
	uint32_t i = members_find(&g->members, p->target);
	const struct member *m = i == NONE ? NULL : &g->members.m[i];

	if (p->target == g->members.m[0].id)
		return;
	for (unsigned k = 0; k < RELAYS; k++) {
		struct relay *r = &g->relay[k];

		if (r->seq != 0)
			continue;
		/* four fifths of the asker's time, so that silence too is heard in time */
		*r = (struct relay){ .origin = sender->id,
				     .addr = *from,
				     .their_seq = p->seq,
				     .seq = next_seq(g),
				     .deadline = g->now + PROBE_INDIRECT * 4 / 5 +
						 3 * rtt_of(g, m) };
		if (r->deadline < g->probe_next)
			g->probe_next = r->deadline;
		send_ping(g, p->target, &p->addr, r->seq);
		return;
	}
}
