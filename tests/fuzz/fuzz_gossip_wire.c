/* Every decoder of gossip/wire.h and packet_open(): the first byte says which. What was read is
 * written again and must read as the same. */
#include "gossip/packet.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void again(const struct wr *w)
{
	struct rd body = { .p = w->p, .left = w->len }, v;
	uint8_t type;

	if (wire_next(&body, &type, &v) != 1 || body.left != 0)
		abort();
}

static void one(uint8_t type, struct rd *v)
{
	static uint8_t buf[WIRE_FRAME_MAX + 64];
	struct wr w = { .p = buf, .cap = sizeof(buf) };
	struct wire_row_id id;
	union {
		struct wire_ping ping;
		struct wire_ack ack;
		struct wire_ping_req req;
		struct wire_member member;
		struct wire_row row;
		struct wire_bucket bucket;
		struct wire_pull pull;
		struct wire_summary summary;
		struct wire_fetch fetch;
	} u;

	switch (type % 16) {
	case WIRE_PING:
		if (wire_get_ping(v, &u.ping) == 0 && wire_put_ping(&w, &u.ping))
			again(&w);
		break;
	case WIRE_ACK:
		if (wire_get_ack(v, &u.ack) == 0 && wire_put_ack(&w, &u.ack))
			again(&w);
		break;
	case WIRE_PING_REQ:
		if (wire_get_ping_req(v, &u.req) == 0 && wire_put_ping_req(&w, &u.req))
			again(&w);
		break;
	case WIRE_MEMBER:
		if (wire_get_member(v, &u.member) == 0 && wire_put_member(&w, &u.member))
			again(&w);
		break;
	case WIRE_ROW:
		if (wire_get_row(v, &u.row) != 0)
			break;
		if (!wire_put_row(&w, &u.row) || w.len != wire_row_size(&u.row))
			abort();
		again(&w);
		break;
	case WIRE_OFFER:
	case WIRE_GET:
		while (wire_next_id(v, &id) == 1)
			continue;
		break;
	case WIRE_BUCKET:
		if (wire_get_bucket(v, &u.bucket) == 0 && wire_put_bucket(&w, &u.bucket))
			again(&w);
		break;
	case WIRE_PULL:
	case WIRE_MORE:
		if (wire_get_pull(v, &u.pull) == 0 && wire_put_pull(&w, WIRE_PULL, &u.pull))
			again(&w);
		break;
	case WIRE_SUMMARY:
		if (wire_get_summary(v, &u.summary) == 0 && wire_put_summary(&w, &u.summary))
			again(&w);
		break;
	case WIRE_FETCH:
	case WIRE_FETCHED:
		if (wire_get_fetch(v, &u.fetch) == 0 &&
		    wire_put_fetch(&w, WIRE_FETCH, &u.fetch))
			again(&w);
		break;
	default:
		if (wire_get_sender(v, &u.member) == 0 && !wire_put_sender(&w, &u.member))
			abort();
		break;
	}
}

/* Accepts what it is given, so that the checks before and after it are reached. */
static int pass(void *ctx, uint32_t key_id, uint64_t session, uint64_t counter,
		const uint8_t *ad, size_t ad_len, const uint8_t *in, size_t len,
		const uint8_t *tag, uint8_t *out)
{
	(void)ctx, (void)key_id, (void)session, (void)counter, (void)ad, (void)ad_len,
		(void)tag;
	memcpy(out, in, len);
	return 0;
}

static void packet(const uint8_t *data, size_t size)
{
	struct gossip_aead aead = { .open = pass };
	struct packet_io io;
	struct rd body;
	uint8_t *out = malloc(size + 1);

	if (out == NULL)
		return;
	packet_init(&io, &aead, 1);
	for (int i = 0; i < 2; i++) {
		if (packet_open(&io, data, size, out, &body) == 0 && i == 1)
			abort(); /* twice */
	}
	packet_done(&io);
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rd body, v;
	uint8_t type;

	if (size == 0)
		return 0;
	if (data[0] == 0xff) {
		packet(data + 1, size - 1);
	} else if (data[0] == 0xfe) {
		body = (struct rd){ .p = data + 1, .left = size - 1 };
		while (wire_next(&body, &type, &v) == 1)
			one(type, &v);
	} else {
		v = (struct rd){ .p = data + 1, .left = size - 1 };
		one(data[0], &v);
	}
	return 0;
}
