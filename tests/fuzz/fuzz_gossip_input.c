/* The whole core against a peer that holds the key and says anything: the input is a sequence
 * of packets, each two bytes of length, one of sender and way, one of time that passed, and the
 * body behind the sender's record. Whatever they say, the tables must stay sound. */
#include "gossip/gossip.h"
#include "gossip/wire.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t key_id(void *ctx)
{
	(void)ctx;
	return 1;
}

/* The interface decides what is const. NOLINTBEGIN(readability-non-const-parameter) */
static int seal(void *ctx, uint64_t session, uint64_t counter, const uint8_t *ad, size_t ad_len,
		uint8_t *buf, size_t len, uint8_t *tag)
{
	(void)ctx, (void)session, (void)counter, (void)ad, (void)ad_len, (void)buf, (void)len;
	memset(tag, 0, WIRE_TAG_LEN);
	return 0;
}
/* NOLINTEND(readability-non-const-parameter) */

static int pass(void *ctx, uint32_t key, uint64_t session, uint64_t counter, const uint8_t *ad,
		size_t ad_len, const uint8_t *in, size_t len, const uint8_t *tag, uint8_t *out)
{
	(void)ctx, (void)key, (void)session, (void)counter, (void)ad, (void)ad_len, (void)tag;
	memcpy(out, in, len);
	return 0;
}

static void on_send(void *ctx, uint64_t to, const struct as_endpoint *addr, enum gossip_via via,
		    const void *data, size_t len)
{
	(void)ctx, (void)to, (void)addr, (void)data;
	if (len > (via == GOSSIP_DATAGRAM ? GOSSIP_DATAGRAM_MAX : GOSSIP_FRAME_MAX))
		abort();
}

static void feed(struct gossip *g, uint64_t now, uint8_t who, uint64_t counter,
		 const uint8_t *body, size_t len)
{
	static uint8_t buf[WIRE_CHUNK];
	struct wire_header h = { .version = WIRE_VERSION,
				 .compat = WIRE_VERSION_MIN,
				 .key_id = 1,
				 .session = 10 + who % 4,
				 .counter = counter };
	struct wire_member m = { .id = 2 + who % 4,
				 .version = (uint64_t)1 << 32 | (who >> 2 & 3),
				 .addr = { .port = 1 } };
	struct wr w = { .p = buf + WIRE_HEADER_LEN, .cap = sizeof(buf) - 64 };
	struct as_endpoint from = { .port = 1 };

	wire_put_header(buf, &h);
	(void)wire_put_sender(&w, &m);
	if (len > w.cap - w.len)
		len = w.cap - w.len;
	memcpy(w.p + w.len, body, len);
	w.len += len;
	memset(w.p + w.len, 0, WIRE_TAG_LEN);
	(void)gossip_input(g, now, &from, who & 0x80 ? GOSSIP_STREAM : GOSSIP_DATAGRAM, buf,
			   WIRE_HEADER_LEN + w.len + WIRE_TAG_LEN);
}

static void look(const struct gossip *g)
{
	struct gossip_stats st = gossip_stats(g);
	struct gossip_member m;
	struct gossip_row r;
	uint32_t it = 0, n = 0;

	while (gossip_members(g, &it, &m))
		n++;
	if (n != st.live + st.gone + 1)
		abort();
	it = n = 0;
	while (gossip_rows(g, &it, &r))
		n++;
	if (n > st.rows)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gossip_config c = { .id = 1,
				   .generation = 1,
				   .session = 1,
				   .seed = 1,
				   .addr = { .port = 1 },
				   .aead = { .key_id = key_id, .seal = seal, .open = pass },
				   .sink = { .send = on_send } };
	struct gossip_row own = { .port = 80, .app = 1 };
	struct rd r = { .p = data, .left = size };
	struct gossip *g;
	uint64_t now = 1000000, counter = 0;

	if (gossip_new(&c, now, &g) < 0)
		return 0;
	(void)gossip_put(g, now, &own);
	while (r.left > 4) {
		size_t len = rd_be(&r, 2);
		uint8_t who = (uint8_t)rd_be(&r, 1);
		uint64_t pause = rd_be(&r, 1);

		if (len > r.left)
			len = r.left;
		now += pause * pause * 1000;
		for (int i = 0; i < 20 && gossip_deadline(g) <= now; i++)
			gossip_tick(g, gossip_deadline(g));
		feed(g, now, who, ++counter, rd_bytes(&r, len), len);
	}
	look(g);
	gossip_free(g);
	return 0;
}
