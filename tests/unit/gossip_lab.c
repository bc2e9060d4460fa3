#include "gossip_lab.h"

#include <appswitch/util.h>

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

const uint8_t LAB_KEY[1][AEAD_KEY_LEN] = { "the key of the cluster" };
const uint8_t LAB_OTHER_KEY[1][AEAD_KEY_LEN] = { "the key of somebody else" };

uv_loop_t lab_loop;
struct lab_node lab_nodes[LAB_NODES_MAX];
unsigned lab_n_nodes;
static unsigned closed;
bool lab_plain;
struct aead_openssl *lab_aead;

uint64_t lab_ms_now(void)
{
	return gossip_uv_now() / 1000;
}

/* Drivers have something to do several times a second, so the loop never waits long. */
bool lab_wait_for(bool (*is)(void *arg), void *arg, uint64_t ms)
{
	uint64_t end = lab_ms_now() + ms;

	while (!is(arg)) {
		if (lab_ms_now() >= end)
			return false;
		uv_run(&lab_loop, UV_RUN_ONCE);
	}
	return true;
}

/* A connection accepted, whose first bytes are awaited. */
struct greeting {
	uv_poll_t poll;
	struct lab_node *n;
	int fd;
};

static void on_greeting_closed(uv_handle_t *h)
{
	struct greeting *w = container_of(h, struct greeting, poll);

	if (w->fd >= 0)
		gossip_uv_adopt(w->n->g, w->fd);
	free(w);
}

static void on_greeting(uv_poll_t *p, int status, int events)
{
	struct greeting *w = container_of(p, struct greeting, poll);
	char magic[4];

	(void)events;
	if (status < 0 || recv(w->fd, magic, 4, 0) != 4 ||
	    memcmp(magic, GOSSIP_STREAM_MAGIC, 4) != 0) {
		close(w->fd);
		w->fd = -1;
	}
	uv_close((uv_handle_t *)p, on_greeting_closed);
}

static void on_accept(uv_poll_t *p, int status, int events)
{
	struct greeting *w = calloc(1, sizeof(*w));

	(void)events;
	assert_int_equal(status, 0);
	w->n = container_of(p, struct lab_node, listener);
	w->fd = accept4(w->n->tcp, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	assert_true(w->fd >= 0);
	assert_int_equal(uv_poll_init(&lab_loop, &w->poll, w->fd), 0);
	uv_poll_start(&w->poll, UV_READABLE, on_greeting);
}

struct as_endpoint lab_at_loopback(int family, uint16_t port)
{
	return (struct as_endpoint){ .addr = as_addr_loopback(family), .port = port };
}

int lab_bound(int family, int type, const struct as_addr *ip, uint16_t *port)
{
	struct as_endpoint e = { .addr = *ip, .port = *port };
	struct sockaddr_storage sa;
	socklen_t len = as_endpoint_to_sockaddr(&e, family, &sa);
	int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), zero = 0;

	assert_true(fd >= 0);
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (bind(fd, (struct sockaddr *)&sa, len) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	assert_int_equal(as_endpoint_from_sockaddr(&sa, len, &e), 0);
	*port = e.port;
	return fd;
}

static void on_row(void *ctx, const struct gossip_row *row, bool live)
{
	struct lab_node *n = ctx;

	(void)row;
	n->rows += live;
}

static void on_rejected(void *ctx, const struct as_endpoint *from, int error)
{
	struct lab_node *n = ctx;

	(void)from;
	assert_true(error < 0 && error > -256);
	n->rejected[-error]++;
}

struct gossip_config lab_core_config(uint64_t id, const struct as_endpoint *addr,
				     struct aead_openssl *aead)
{
	static uint64_t session = 0x5e5510;

	return (struct gossip_config){ .id = id,
				       .generation = 1,
				       .session = session++,
				       .seed = id,
				       .addr = *addr,
				       .aead = aead_openssl_ops(aead) };
}

struct lab_node *lab_node_at(int family, const struct as_addr *on, const struct as_addr *said,
			     const uint8_t (*key)[AEAD_KEY_LEN], bool loopback_only)
{
	struct lab_node *n = &lab_nodes[lab_n_nodes++];
	struct gossip_config core;
	struct gossip_uv_config c = { .loop = &lab_loop,
				      .core = &core,
				      .loopback_only = loopback_only,
				      .rejected = on_rejected };

	memset(n, 0, sizeof(*n));
	do {
		uint16_t port = 0;

		n->tcp = lab_bound(family, SOCK_STREAM, on, &port);
		n->udp = lab_bound(family, SOCK_DGRAM, on, &port);
		n->addr = (struct as_endpoint){ .addr = *said, .port = port };
		if (n->udp < 0)
			close(n->tcp);
	} while (n->udp == -EADDRINUSE);
	assert_true(n->tcp >= 0 && n->udp >= 0);
	assert_int_equal(listen(n->tcp, 64), 0);
	assert_int_equal(aead_openssl_new(key, 1, &n->aead), 0);
	core = lab_core_config(lab_n_nodes, &n->addr, n->aead);
	core.plain_swim = lab_plain;
	core.sink.ctx = n;
	core.sink.row = on_row;
	c.udp_fd = n->udp;
	assert_int_equal(gossip_uv_new(&c, &n->g), 0);
	assert_int_equal(uv_poll_init(&lab_loop, &n->listener, n->tcp), 0);
	uv_poll_start(&n->listener, UV_READABLE, on_accept);
	return n;
}

struct lab_node *lab_node_new(void)
{
	struct as_addr lo = as_addr_loopback(AF_INET);

	return lab_node_at(AF_INET, &lo, &lo, LAB_KEY, true);
}

void lab_node_seed(struct lab_node *n, const struct lab_node *seed)
{
	struct gossip *core = gossip_uv_lock(n->g);

	assert_int_equal(gossip_seed(core, gossip_uv_now(), &seed->addr), 0);
	gossip_uv_unlock(n->g);
}

struct gossip_stats lab_core_stats(struct lab_node *n)
{
	struct gossip_stats s = gossip_stats(gossip_uv_lock(n->g));

	gossip_uv_unlock(n->g);
	return s;
}

struct gossip_uv_stats lab_stats(struct lab_node *n)
{
	struct gossip_uv_stats s;

	gossip_uv_stats(n->g, &s);
	return s;
}

struct gossip_row lab_row_of(uint32_t i)
{
	return (struct gossip_row){ .network = 1,
				    .vip = as_addr_v4(0xf0000000 + i),
				    .port = 80,
				    .proto = IPPROTO_TCP,
				    .app = 1,
				    .weight = 1 };
}

void lab_put(struct lab_node *n, const struct gossip_row *row)
{
	struct gossip *core = gossip_uv_lock(n->g);

	assert_int_equal(gossip_put(core, gossip_uv_now(), row), 0);
	gossip_uv_unlock(n->g);
}

bool lab_has(struct lab_node *n, const struct gossip_row *key)
{
	struct gossip_row found;
	uint32_t it = 0;
	bool r = gossip_lookup(gossip_uv_lock(n->g), key, &it, &found);

	gossip_uv_unlock(n->g);
	return r;
}

bool lab_all_know_all(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < lab_n_nodes; i++) {
		if (lab_core_stats(&lab_nodes[i]).live != lab_n_nodes - 1)
			return false;
	}
	return true;
}

bool lab_all_have(void *arg)
{
	for (unsigned i = 0; i < lab_n_nodes; i++) {
		if (!lab_has(&lab_nodes[i], arg))
			return false;
	}
	return true;
}

bool lab_none_has(void *arg)
{
	for (unsigned i = 0; i < lab_n_nodes; i++) {
		if (lab_has(&lab_nodes[i], arg))
			return false;
	}
	return true;
}

void lab_cluster(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		lab_node_new();
		if (i > 0)
			lab_node_seed(&lab_nodes[i], &lab_nodes[0]);
	}
	assert_true(lab_wait_for(lab_all_know_all, NULL, LAB_PATIENCE));
}

int lab_setup(void **state)
{
	(void)state;
	lab_n_nodes = closed = 0;
	return uv_loop_init(&lab_loop);
}

static void on_done(void *arg)
{
	struct lab_node *n = arg;
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);

	/* the socket was borrowed */
	assert_int_equal(getsockname(n->udp, (struct sockaddr *)&sa, &len), 0);
	close(n->udp);
	close(n->tcp);
	aead_openssl_free(n->aead);
	closed++;
}

int lab_teardown(void **state)
{
	(void)state;
	for (unsigned i = 0; i < lab_n_nodes; i++) {
		uv_close((uv_handle_t *)&lab_nodes[i].listener, NULL);
		gossip_uv_close(lab_nodes[i].g, on_done, &lab_nodes[i]);
	}
	uv_run(&lab_loop, UV_RUN_DEFAULT);
	assert_int_equal(closed, lab_n_nodes);
	return uv_loop_close(&lab_loop);
}

static void played_send(void *ctx, uint64_t to, const struct as_endpoint *addr,
			enum gossip_via via, const void *data, size_t len)
{
	struct lab_played *p = ctx;
	struct sockaddr_storage sa;
	socklen_t sa_len = as_endpoint_to_sockaddr(addr, p->family, &sa);

	(void)to;
	if (via == GOSSIP_DATAGRAM && addr->port == p->only.port)
		(void)sendto(p->fd, data, len, 0, (struct sockaddr *)&sa, sa_len);
}

void lab_played_new(struct lab_played *p, uint64_t id, int family, int fd, uint16_t port,
		    const struct as_endpoint *to)
{
	struct as_endpoint addr = lab_at_loopback(family, port);
	struct gossip_config c = lab_core_config(id, &addr, lab_aead);

	*p = (struct lab_played){ .fd = fd, .family = family, .only = *to };
	c.sink = (struct gossip_sink){ .ctx = p, .send = played_send };
	assert_int_equal(gossip_new(&c, gossip_uv_now(), &p->core), 0);
	assert_int_equal(gossip_seed(p->core, gossip_uv_now(), to), 0);
}

static bool look(struct lab_awaited *a)
{
	struct gossip *core = gossip_uv_lock(a->by->g);
	struct gossip_member m;
	uint32_t it = 0;

	a->there = false;
	while (!a->there && gossip_members(core, &it, &m)) {
		a->there = m.id == a->id;
		a->state = m.state;
	}
	gossip_uv_unlock(a->by->g);
	return a->there;
}

bool lab_is_suspected(void *arg)
{
	struct lab_awaited *a = arg;

	return look(a) && a->state != GOSSIP_ALIVE;
}

bool lab_is_alive(void *arg)
{
	struct lab_awaited *a = arg;

	return look(a) && a->state == GOSSIP_ALIVE;
}

int lab_stream_to(const struct lab_node *n)
{
	struct sockaddr_storage sa;
	socklen_t len = as_endpoint_to_sockaddr(&n->addr, AF_INET, &sa);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(send(fd, GOSSIP_STREAM_MAGIC, 4, 0), 4);
	return fd;
}

bool lab_has_ended(void *arg)
{
	char byte;
	ssize_t n = recv(*(int *)arg, &byte, 1, MSG_DONTWAIT);

	return n == 0 || (n < 0 && errno == ECONNRESET);
}

bool lab_incoming_is(void *arg)
{
	struct lab_incoming *w = arg;

	return lab_stats(w->n).incoming == w->is;
}
