/* A packet from the outside: opened, checked, taken apart record by record, answered in one. */
#include "gossip/core.h"

#include <errno.h>
#include <stdlib.h>

struct incoming {
	struct wire_member sender;
	const struct as_endpoint *from;
	struct replies re;
};

static int take_ids(struct gossip *g, bool offer, struct rd *v, struct incoming *in)
{
	struct wire_row_id id;
	int r;

	while ((r = wire_next_id(v, &id)) == 1) {
		if (offer)
			sync_on_offer(g, &id, &in->re);
		else
			reply_add(in->re.row, in->re.n_row, in->re.cap_row, id);
	}
	return r;
}

static int take_probe(struct gossip *g, uint8_t type, struct rd *v, struct incoming *in)
{
	struct wire_ping ping;
	struct wire_ack ack;
	struct wire_ping_req req;
	int r;

	switch (type) {
	case WIRE_PING:
		r = wire_get_ping(v, &ping);
		if (r == 0)
			probe_on_ping(g, &ping, &in->sender, in->from);
		return r;
	case WIRE_ACK:
		r = wire_get_ack(v, &ack);
		if (r == 0)
			probe_on_ack(g, &ack, &in->sender);
		return r;
	default:
		r = wire_get_ping_req(v, &req);
		if (r == 0)
			probe_on_request(g, &req, &in->sender, in->from);
		return r;
	}
}

static int take_pull(struct gossip *g, uint8_t type, struct rd *v, struct incoming *in)
{
	struct wire_pull pull;
	int r = wire_get_pull(v, &pull);

	if (r == 0 && type == WIRE_PULL)
		sync_on_pull(g, &pull, &in->sender);
	else if (r == 0)
		sync_on_more(g, &pull, &in->sender, &in->re);
	return r;
}

static int take_fetch(struct gossip *g, uint8_t type, struct rd *v, struct incoming *in)
{
	struct wire_fetch fetch;
	int r = wire_get_fetch(v, &fetch);

	if (r == 0 && type == WIRE_FETCH)
		reply_add(in->re.fetch, in->re.n_fetch, in->re.cap_fetch, fetch);
	else if (r == 0)
		sync_on_fetched(g, &fetch, &in->sender, &in->re);
	return r;
}

static int take_record(struct gossip *g, uint8_t type, struct rd *v, struct incoming *in)
{
	struct wire_member member;
	struct wire_row row;
	struct wire_bucket bucket;
	struct wire_summary summary;
	int r = 0;

	switch (type) {
	case WIRE_PING:
	case WIRE_ACK:
	case WIRE_PING_REQ:
		return take_probe(g, type, v, in);
	case WIRE_MEMBER:
		r = wire_get_member(v, &member);
		if (r == 0)
			core_said(g, &member, SAID_NEWS);
		return r;
	case WIRE_ROW:
		r = wire_get_row(v, &row);
		if (r == 0)
			core_row(g, &row);
		return r;
	case WIRE_OFFER:
	case WIRE_GET:
		return take_ids(g, type == WIRE_OFFER, v, in);
	case WIRE_BUCKET:
		r = wire_get_bucket(v, &bucket);
		if (r == 0)
			sync_on_bucket(g, &bucket, &in->sender);
		return r;
	case WIRE_PULL:
	case WIRE_MORE:
		return take_pull(g, type, v, in);
	case WIRE_SUMMARY:
		r = wire_get_summary(v, &summary);
		if (r == 0)
			sync_on_summary(g, &summary, &in->sender, &in->re);
		return r;
	case WIRE_FETCH:
	case WIRE_FETCHED:
		return take_fetch(g, type, v, in);
	default: /* a later version's */
		return 0;
	}
}

/* Who brought an accusation hears the answer first, not when the news come round. */
static void contradict(struct gossip *g, const struct incoming *in)
{
	struct wire_member self = members_wire(&g->members, 0, 0);
	uint8_t buf[WIRE_UDP_MAX];
	struct wr w = core_begin(g, buf, sizeof(buf));

	(void)wire_put_member(&w, &self);
	core_send(g, in->sender.id, in->from, GOSSIP_DATAGRAM, buf, &w);
}

static int take_body(struct gossip *g, const struct as_endpoint *from, enum gossip_via via,
		     struct rd *body)
{
	struct incoming in = { .from = from };
	struct rd v;
	uint8_t type;
	uint64_t self = g->members.m[0].version;
	int r = wire_get_sender(body, &in.sender);

	if (r < 0)
		return r;
	if (in.sender.id == g->members.m[0].id)
		return -EADDRINUSE;
	/* nobody waits for datagrams at the port that a connection comes from */
	if (via == GOSSIP_STREAM)
		in.from = &in.sender.addr;
	core_said(g, &in.sender, SAID_SENDER);
	while ((r = wire_next(body, &type, &v)) == 1) {
		r = take_record(g, type, &v, &in);
		if (r < 0)
			break;
	}
	sync_reply(g, &in.sender, via, &in.re);
	replies_done(&in.re);
	if (g->members.m[0].version != self)
		contradict(g, &in);
	return r;
}

int gossip_input(struct gossip *g, uint64_t now, const struct as_endpoint *from,
		 enum gossip_via via, const void *data, size_t len)
{
	uint8_t small[WIRE_CHUNK], *out = small;
	struct rd body;
	int r = -EBADMSG;

	if (g->left)
		return 0;
	core_enter(g, now);
	if (len > WIRE_FRAME_MAX || (via == GOSSIP_DATAGRAM && len > WIRE_UDP_MAX))
		goto dropped;
	if (len > sizeof(small)) {
		out = malloc(len);
		if (out == NULL)
			return -ENOMEM;
	}
	r = packet_open(&g->io, data, len, out, &body);
	if (r == 0)
		r = take_body(g, from, via, &body);
	if (out != small)
		free(out);
dropped:
	if (r < 0)
		g->dropped++;
	core_leave(g);
	return r;
}
