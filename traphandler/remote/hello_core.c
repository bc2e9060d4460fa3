#include "traphandler/remote/hello.h"

#include <appswitch/util.h>

#include <string.h>

static const uint8_t magic[4] = { 'A', 'S', 'H', '1' };

static void put(uint8_t **p, uint64_t v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		*(*p)++ = (uint8_t)(v >> 8 * (bytes - 1 - i));
}

static uint64_t get(const uint8_t **p, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v = v << 8 | *(*p)++;
	return v;
}

static void put_addr(uint8_t **p, const struct as_addr *a)
{
	memcpy(*p, a->b, sizeof(a->b));
	*p += sizeof(a->b);
}

static void get_addr(const uint8_t **p, struct as_addr *ret)
{
	memcpy(ret->b, *p, sizeof(ret->b));
	*p += sizeof(ret->b);
}

void hello_encode(const struct hello *h, uint8_t out[HELLO_SIZE])
{
	uint8_t *p = out;

	memset(out, 0, HELLO_SIZE);
	memcpy(p, magic, sizeof(magic));
	p += sizeof(magic);
	put(&p, HELLO_VERSION, 1);
	put(&p, HELLO_VERSION_MIN, 1);
	put(&p, h->kind, 1);
	put(&p, h->face == AF_INET ? 4 : 6, 1);
	put(&p, h->key_id, 4);
	put(&p, h->network, 4);
	put(&p, h->dest_id, 8);
	put(&p, h->dest_generation, 4);
	put(&p, h->src_id, 8);
	put(&p, h->src_generation, 4);
	put(&p, h->client_app, 4);
	put(&p, h->server_app, 4);
	put(&p, (uint64_t)h->time, 8);
	put(&p, h->nonce, 8);
	put(&p, h->tags, 8);
	put_addr(&p, &h->vip);
	put_addr(&p, &h->client.addr);
	put(&p, h->client.port, 2);
	put_addr(&p, &h->server.addr);
	put(&p, h->server.port, 2);
}

int hello_decode(const uint8_t *buf, size_t len, struct hello *ret)
{
	const uint8_t *p = buf + sizeof(magic);
	struct hello h = { 0 };
	uint8_t compat, face;

	if (len < HELLO_SIZE || memcmp(buf, magic, sizeof(magic)) != 0)
		return -EBADMSG;
	h.version = (uint8_t)get(&p, 1);
	compat = (uint8_t)get(&p, 1);
	if (compat == 0 || compat > h.version)
		return -EBADMSG;
	if (compat > HELLO_VERSION)
		return -EPROTO; /* what follows may be anything */
	h.kind = (uint8_t)get(&p, 1);
	face = (uint8_t)get(&p, 1);
	h.key_id = (uint32_t)get(&p, 4);
	h.network = (uint32_t)get(&p, 4);
	h.dest_id = get(&p, 8);
	h.dest_generation = (uint32_t)get(&p, 4);
	h.src_id = get(&p, 8);
	h.src_generation = (uint32_t)get(&p, 4);
	h.client_app = (uint32_t)get(&p, 4);
	h.server_app = (uint32_t)get(&p, 4);
	h.time = (int64_t)get(&p, 8);
	h.nonce = get(&p, 8);
	h.tags = get(&p, 8);
	get_addr(&p, &h.vip);
	get_addr(&p, &h.client.addr);
	h.client.port = (uint16_t)get(&p, 2);
	get_addr(&p, &h.server.addr);
	h.server.port = (uint16_t)get(&p, 2);
	if ((face != 4 && face != 6) || h.nonce == 0 || h.server.port == 0)
		return -EBADMSG;
	h.face = face == 4 ? AF_INET : AF_INET6;
	/* an AF_INET socket cannot show an IPv6 address; the others show both (addr.h) */
	if (h.face == AF_INET &&
	    !(as_addr_is_v4(&h.client.addr) && as_addr_is_v4(&h.server.addr)))
		return -EBADMSG;
	*ret = h;
	return 0;
}

/* Their distance may be more than an int64_t holds. */
static uint64_t distance(int64_t a, int64_t b)
{
	return a > b ? (uint64_t)a - (uint64_t)b : (uint64_t)b - (uint64_t)a;
}

enum hello_verdict hello_check(const struct hello *h, const struct hello_self *self,
			       int64_t now_us)
{
	bool nonces_kept = self->previous_generation != 0;

	if (h->dest_id != self->id)
		return HELLO_NOT_FOR_US;
	if (h->dest_generation != self->generation &&
	    !(nonces_kept && h->dest_generation == self->previous_generation))
		return HELLO_STALE_GENERATION;
	if (distance(h->time, now_us) > HELLO_WINDOW_US)
		return HELLO_CLOCK;
	if (!nonces_kept && h->time < self->started_us)
		return HELLO_BEFORE_START;
	if (h->kind != HELLO_CONNECTION)
		return HELLO_UNKNOWN_KIND;
	return HELLO_OK;
}

const char *hello_verdict_name(enum hello_verdict verdict)
{
	static const char *const names[] = {
		[HELLO_OK] = "ok",
		[HELLO_NOT_FOR_US] = "not for this node",
		[HELLO_STALE_GENERATION] = "for a former start of this node",
		[HELLO_CLOCK] = "the clocks differ too much",
		[HELLO_BEFORE_START] = "older than this node's start",
		[HELLO_UNKNOWN_KIND] = "of an unknown kind",
	};

	if ((unsigned)verdict >= ARRAY_SIZE(names))
		return "unknown";
	return names[verdict];
}
