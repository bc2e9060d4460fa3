#include "tests/sim/sim.h"

#include "gossip/mix.h"
#include "gossip/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A stream moves a frame at 1 Gbit/s. */
#define STREAM_BYTES_PER_US 125
/* As many packets as a socket buffer holds of ours. */
#define WAITING_MAX 256

struct sim_packet {
	struct sim_packet *next;
	uint32_t from, starts; /* for whom: a restarted node gets none of its former life's */
	uint32_t len;
	uint8_t via, pooled;
	uint8_t b[];
};

struct sim_event {
	uint64_t at, order;
	uint32_t node;
	struct sim_packet *p; /* NULL: timer */
};

static void *must(void *p)
{
	if (p == NULL) {
		fputs("sim: out of memory\n", stderr);
		exit(1);
	}
	return p;
}

uint32_t sim_random(struct sim *s, uint32_t below)
{
	return mix_below(&s->rng, below);
}

/* ---- the heap of events ---- */

static bool sooner(const struct sim_event *a, const struct sim_event *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void push(struct sim *s, uint64_t at, uint32_t node, struct sim_packet *p)
{
	struct sim_event e = { .at = at, .order = s->order++, .node = node, .p = p };
	size_t i;

	if (s->n_heap == s->cap_heap) {
		s->cap_heap = s->cap_heap ? s->cap_heap * 2 : 4096;
		s->heap = must(realloc(s->heap, s->cap_heap * sizeof(*s->heap)));
	}
	for (i = s->n_heap++; i > 0 && sooner(&e, &s->heap[(i - 1) / 4]); i = (i - 1) / 4)
		s->heap[i] = s->heap[(i - 1) / 4];
	s->heap[i] = e;
}

static struct sim_event pop(struct sim *s)
{
	struct sim_event top = s->heap[0], e = s->heap[--s->n_heap];
	size_t i = 0;

	for (;;) {
		size_t first = i * 4 + 1, best = first;

		if (first >= s->n_heap)
			break;
		for (size_t k = first + 1; k < first + 4 && k < s->n_heap; k++) {
			if (sooner(&s->heap[k], &s->heap[best]))
				best = k;
		}
		if (!sooner(&s->heap[best], &e))
			break;
		s->heap[i] = s->heap[best];
		i = best;
	}
	s->heap[i] = e;
	return top;
}

/* ---- identity ---- */

static uint64_t id_of(uint32_t i)
{
	/* spread like random ones, and the way back is cheap: odd constant, inverse below */
	return (uint64_t)(i + 1) * 0x9e3779b97f4a7c15u;
}

uint32_t sim_index(uint64_t id)
{
	return (uint32_t)(id * 0xf1de83e19937733du) - 1;
}

struct as_endpoint sim_addr(uint32_t i)
{
	struct as_endpoint e = { .port = 6660 };

	e.addr.b[10] = e.addr.b[11] = 0xff;
	e.addr.b[12] = 10;
	e.addr.b[13] = (uint8_t)(i >> 16);
	e.addr.b[14] = (uint8_t)(i >> 8);
	e.addr.b[15] = (uint8_t)i;
	return e;
}

static uint32_t addr_index(const struct as_endpoint *e)
{
	return (uint32_t)e->addr.b[13] << 16 | (uint32_t)e->addr.b[14] << 8 | e->addr.b[15];
}

/* ---- no encryption ---- */

static uint32_t null_key_id(void *ctx)
{
	(void)ctx;
	return 1;
}

/* The interface decides what is const. NOLINTBEGIN(readability-non-const-parameter) */
static int null_seal(void *ctx, uint64_t session, uint64_t counter, const uint8_t *ad,
		     size_t ad_len, uint8_t *buf, size_t len, uint8_t *tag)
{
	(void)ctx, (void)session, (void)counter, (void)ad, (void)ad_len, (void)buf, (void)len;
	memset(tag, 0, WIRE_TAG_LEN);
	return 0;
}
/* NOLINTEND(readability-non-const-parameter) */

static int null_open(void *ctx, uint32_t key_id, uint64_t session, uint64_t counter,
		     const uint8_t *ad, size_t ad_len, const uint8_t *in, size_t len,
		     const uint8_t *tag, uint8_t *out)
{
	(void)ctx, (void)key_id, (void)session, (void)counter, (void)ad, (void)ad_len,
		(void)tag;
	memcpy(out, in, len);
	return 0;
}

static const struct gossip_aead null_aead = { .key_id = null_key_id,
					      .seal = null_seal,
					      .open = null_open };

/* ---- the network ---- */

static struct sim_packet *new_packet(struct sim *s, size_t len)
{
	struct sim_packet *p = s->pool;

	if (len > WIRE_UDP_MAX) {
		p = must(malloc(sizeof(*p) + len));
		p->pooled = 0;
		return p;
	}
	if (p != NULL)
		s->pool = p->next;
	else
		p = must(malloc(sizeof(*p) + WIRE_UDP_MAX));
	p->pooled = 1;
	return p;
}

static void drop_packet(struct sim *s, struct sim_packet *p)
{
	if (!p->pooled) {
		free(p);
		return;
	}
	p->next = s->pool;
	s->pool = p;
}

static bool reaches(const struct sim *s, uint32_t from, uint32_t to)
{
	if (s->node[from].side != s->node[to].side)
		return false;
	for (uint32_t i = 0; i < s->n_cuts; i++) {
		if (s->cut[i].from == from && s->cut[i].to == to)
			return false;
	}
	return true;
}

/* What the sink of a node needs to know; one each, in one array. */
struct sink_ctx {
	struct sim *s;
	uint32_t node;
};
static struct sink_ctx *sinks;

static void count_types(struct sim *s, const uint8_t *data, size_t len)
{
	struct rd body = { .p = data + WIRE_HEADER_LEN,
			   .left = len - WIRE_HEADER_LEN - WIRE_TAG_LEN };
	struct wire_member m;
	struct rd v;
	uint8_t type;
	size_t before;

	(void)wire_get_sender(&body, &m);
	s->bytes_of[0] += 28 + len - body.left;
	for (before = body.left; wire_next(&body, &type, &v) == 1; before = body.left)
		s->bytes_of[type & 15] += before - body.left;
}

static void on_send(void *ctx, uint64_t to, const struct as_endpoint *addr, enum gossip_via via,
		    const void *data, size_t len)
{
	struct sink_ctx *c = ctx;
	struct sim *s = c->s;
	uint32_t i = addr_index(addr);
	uint64_t delay =
		s->latency_min + sim_random(s, (uint32_t)(s->latency_max - s->latency_min) + 1);
	struct sim_packet *p;

	(void)to;
	s->sent++;
	if (s->count_types)
		count_types(s, data, len);
	s->node[c->node].packets++;
	s->node[c->node].bytes +=
		via == GOSSIP_DATAGRAM ? len + 28 : len + 4 + 40 * (len / 1400 + 2);
	if (via == GOSSIP_DATAGRAM && len > WIRE_UDP_MAX) {
		fprintf(stderr, "sim: a datagram of %zu bytes\n", len);
		exit(1);
	}
	if (i >= s->n || !reaches(s, c->node, i) ||
	    (via == GOSSIP_STREAM && !reaches(s, i, c->node)) ||
	    (via == GOSSIP_DATAGRAM && s->loss_ppm > 0 &&
	     sim_random(s, 1000000) < s->loss_ppm)) {
		s->lost++;
		return;
	}
	if (via == GOSSIP_STREAM)
		delay += len / STREAM_BYTES_PER_US;
	p = new_packet(s, len);
	p->from = c->node;
	p->starts = s->node[i].starts;
	p->via = (uint8_t)via;
	p->len = (uint32_t)len;
	memcpy(p->b, data, len);
	push(s, s->now + delay, i, p);
}

static void on_member(void *ctx, const struct gossip_member *m)
{
	struct sink_ctx *c = ctx;
	struct sim *s = c->s;

	if (m->state == GOSSIP_DEAD) {
		struct sim_node *t = &s->node[sim_index(m->id)];
		uint64_t version = (uint64_t)m->generation << 32 | m->incarnation;

		if (t->g != NULL && t->frozen_until == 0 && t->generation == m->generation &&
		    t->side == s->node[c->node].side && t->false_dead != version + 1) {
			t->false_dead = version + 1;
			s->false_positives++;
		}
	}
	if (s->on_member != NULL)
		s->on_member(s, c->node, m);
}

static void on_row(void *ctx, const struct gossip_row *r, bool live)
{
	struct sink_ctx *c = ctx;

	if (c->s->on_row != NULL)
		c->s->on_row(c->s, c->node, r, live);
}

static void on_generation(void *ctx, uint32_t generation)
{
	struct sink_ctx *c = ctx;

	c->s->node[c->node].generation = generation;
}

/* ---- nodes ---- */

struct sim *sim_new(uint32_t n, uint64_t seed)
{
	struct sim *s = must(calloc(1, sizeof(*s)));

	s->n = n;
	s->rng = seed;
	s->now = SIM_S;
	s->latency_min = 250;
	s->latency_max = 750;
	s->node = must(calloc(n, sizeof(*s->node)));
	free(sinks);
	sinks = must(calloc(n, sizeof(*sinks)));
	for (uint32_t i = 0; i < n; i++) {
		s->node[i].id = id_of(i);
		s->node[i].generation = 1000;
		sinks[i] = (struct sink_ctx){ s, i };
	}
	return s;
}

static void drop_waiting(struct sim *s, struct sim_node *node)
{
	while (node->waiting != NULL) {
		struct sim_packet *p = node->waiting;

		node->waiting = p->next;
		drop_packet(s, p);
	}
	node->n_waiting = 0;
}

void sim_free(struct sim *s)
{
	for (uint32_t i = 0; i < s->n; i++) {
		gossip_free(s->node[i].g);
		drop_waiting(s, &s->node[i]);
	}
	while (s->n_heap > 0) {
		struct sim_event e = pop(s);

		if (e.p != NULL)
			free(e.p);
	}
	while (s->pool != NULL) {
		struct sim_packet *p = s->pool;

		s->pool = p->next;
		free(p);
	}
	free(s->heap);
	free(s->cut);
	free(s->node);
	free(sinks);
	sinks = NULL;
	free(s);
}

static void arm(struct sim *s, uint32_t i)
{
	struct sim_node *node = &s->node[i];
	uint64_t at = gossip_deadline(node->g);

	if (at < s->now)
		at = s->now;
	if (node->timer != 0 && node->timer <= at)
		return;
	node->timer = at;
	push(s, at, i, NULL);
}

static void create(struct sim *s, uint32_t i, uint32_t expect)
{
	struct sim_node *node = &s->node[i];
	struct gossip_config c = { .id = node->id,
				   .generation = ++node->generation,
				   .session = mix_next(&s->rng),
				   .seed = mix_next(&s->rng),
				   .addr = sim_addr(i),
				   .aead = null_aead,
				   .sink = { .ctx = &sinks[i],
					     .send = on_send,
					     .member = on_member,
					     .row = on_row,
					     .generation = on_generation },
				   .expect = expect,
				   .plain_swim = s->plain_swim };

	if (gossip_new(&c, s->now, &node->g) < 0)
		must(NULL);
	node->starts++;
	node->timer = 0;
	node->frozen_until = 0;
	node->waiting_end = &node->waiting;
	arm(s, i);
}

/* One frame of summaries, as another node would send it. Returns where to go on. */
static uint32_t peers_frame(const struct sim *s, uint32_t sender, uint32_t first, uint8_t *buf,
			    size_t *ret_len)
{
	struct wire_header h = { .version = WIRE_VERSION,
				 .compat = WIRE_VERSION_MIN,
				 .key_id = 1,
				 .session = 1 + sender,
				 .counter = 1 + first };
	struct wr w = { .p = buf + WIRE_HEADER_LEN, .cap = WIRE_CHUNK };
	struct wire_summary sum = { .answer = 1 };
	uint32_t i;

	wire_put_header(buf, &h);
	for (i = first; i < s->n; i++) {
		sum.member =
			(struct wire_member){ .id = s->node[i].id,
					      .version = (uint64_t)s->node[i].generation << 32,
					      .addr = sim_addr(i) };
		if (i == first) {
			struct wire_member from = sum.member;

			from.id = s->node[sender].id;
			from.version = (uint64_t)s->node[sender].generation << 32;
			from.addr = sim_addr(sender);
			(void)wire_put_sender(&w, &from);
		}
		if (!wire_put_summary(&w, &sum))
			break;
	}
	memset(w.p + w.len, 0, WIRE_TAG_LEN);
	*ret_len = WIRE_HEADER_LEN + w.len + WIRE_TAG_LEN;
	return i;
}

void sim_start_all(struct sim *s)
{
	uint8_t *buf = must(malloc(2 * WIRE_CHUNK));

	for (uint32_t i = 0; i < s->n; i++)
		create(s, i, s->n);
	for (uint32_t first = 0, next = 0; first < s->n; first = next) {
		for (uint32_t sender = 0; sender < 2 && sender < s->n; sender++) {
			struct as_endpoint from = sim_addr(sender);
			size_t len;

			next = peers_frame(s, sender, first, buf, &len);
			for (uint32_t i = 0; i < s->n; i++) {
				if ((i == 0) != (sender == 1) || i == sender)
					continue;
				(void)gossip_input(s->node[i].g, s->now, &from, GOSSIP_STREAM,
						   buf, len);
			}
		}
	}
	free(buf);
}

void sim_start(struct sim *s, uint32_t i, uint32_t seed)
{
	struct as_endpoint addr = sim_addr(seed);

	create(s, i, 0);
	if (seed != SIM_NOBODY)
		(void)gossip_seed(s->node[i].g, s->now, &addr);
	arm(s, i);
}

int sim_put(struct sim *s, uint32_t i, const struct gossip_row *row)
{
	int r = gossip_put(s->node[i].g, s->now, row);

	arm(s, i);
	return r;
}

int sim_del(struct sim *s, uint32_t i, const struct gossip_row *key)
{
	int r = gossip_del(s->node[i].g, s->now, key);

	arm(s, i);
	return r;
}

void sim_settled(struct sim *s, uint32_t i)
{
	gossip_settled(s->node[i].g, s->now);
	arm(s, i);
}

void sim_leave(struct sim *s, uint32_t i)
{
	gossip_leave(s->node[i].g, s->now);
	sim_kill(s, i);
}

void sim_kill(struct sim *s, uint32_t i)
{
	s->node[i].g = gossip_free(s->node[i].g);
	s->node[i].timer = 0;
	s->node[i].starts++;
	s->node[i].frozen_until = 0;
	drop_waiting(s, &s->node[i]);
}

void sim_freeze(struct sim *s, uint32_t i, uint64_t how_long)
{
	s->node[i].frozen_until = s->now + how_long;
	push(s, s->node[i].frozen_until, i, NULL);
}

void sim_heal(struct sim *s)
{
	for (uint32_t i = 0; i < s->n; i++)
		s->node[i].side = 0;
	s->n_cuts = 0;
}

void sim_cut(struct sim *s, uint32_t from, uint32_t to)
{
	s->cut = must(realloc(s->cut, (s->n_cuts + 1) * sizeof(*s->cut)));
	s->cut[s->n_cuts++] = (struct sim_cut){ from, to };
}

uint32_t sim_random_up(struct sim *s)
{
	uint32_t i;

	do
		i = sim_random(s, s->n);
	while (s->node[i].g == NULL);
	return i;
}

uint32_t sim_up(const struct sim *s)
{
	uint32_t up = 0;

	for (uint32_t i = 0; i < s->n; i++)
		up += s->node[i].g != NULL;
	return up;
}

/* ---- time ---- */

static void deliver(struct sim *s, uint32_t i, struct sim_packet *p)
{
	struct as_endpoint from = sim_addr(p->from);

	(void)gossip_input(s->node[i].g, s->now, &from, (enum gossip_via)p->via, p->b, p->len);
	drop_packet(s, p);
}

static void thaw(struct sim *s, uint32_t i)
{
	struct sim_node *node = &s->node[i];

	node->frozen_until = 0;
	node->timer = 0;
	gossip_tick(node->g, s->now);
	while (node->waiting != NULL) {
		struct sim_packet *p = node->waiting;

		node->waiting = p->next;
		deliver(s, i, p);
	}
	node->waiting_end = &node->waiting;
	node->n_waiting = 0;
	arm(s, i);
}

static void arrive(struct sim *s, uint32_t i, struct sim_packet *p)
{
	struct sim_node *node = &s->node[i];

	if (node->g == NULL || p->starts != node->starts ||
	    (node->frozen_until != 0 && node->n_waiting >= WAITING_MAX)) {
		drop_packet(s, p);
		return;
	}
	if (node->frozen_until != 0) {
		p->next = NULL;
		*node->waiting_end = p;
		node->waiting_end = &p->next;
		node->n_waiting++;
		return;
	}
	deliver(s, i, p);
	arm(s, i);
}

static void timer(struct sim *s, uint32_t i)
{
	struct sim_node *node = &s->node[i];

	if (node->g == NULL)
		return;
	if (node->frozen_until != 0) {
		if (s->now >= node->frozen_until)
			thaw(s, i);
		return;
	}
	if (node->timer != s->now)
		return; /* of a former arming */
	node->timer = 0;
	gossip_tick(node->g, s->now);
	arm(s, i);
}

void sim_run(struct sim *s, uint64_t until)
{
	while (s->n_heap > 0 && s->heap[0].at <= until) {
		struct sim_event e = pop(s);

		s->now = e.at;
		if (e.p != NULL)
			arrive(s, e.node, e.p);
		else
			timer(s, e.node);
	}
	s->now = until;
}

bool sim_run_until(struct sim *s, uint64_t until, uint64_t step, bool (*done)(struct sim *s))
{
	while (!done(s)) {
		if (s->now >= until)
			return false;
		sim_run(s, s->now + step < until ? s->now + step : until);
	}
	return true;
}
