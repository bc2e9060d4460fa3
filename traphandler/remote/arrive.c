/* Connections from other nodes: accepted, the hello read and checked, handed to a listener.
 *
 * What is wrong with a hello is nobody's business but ours: the connection is reset, a counter goes up, and
 * at most a line a second is logged. What waits for its hello is bounded, in all and for each source. */
#include "traphandler/remote/thread.h"

#include "traphandler/conn/accept.h"
#include "traphandler/conn/waiting.h"
#include "traphandler/remote/guard.h"
#include "traphandler/remote/mac.h"
#include "traphandler/remote/seen.h"
#include "traphandler/service/lookup.h"
#include "traphandler/service/registry.h"
#include "traphandler/service/sockrec.h"

#include <appswitch/util.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define MAGIC_LEN      4u
#define HALVES_MAX     1024u
#define HALVES_SOURCE  128u /* of one address */
#define HELLO_LIMIT_NS (5ull * 1000000000u)
#define ACCEPT_BATCH   64
#define NO_FD_US       10000

/* One whose hello is not whole yet. */
struct half {
	struct half *next;
	uint32_t id;
	int fd;
	struct as_addr from;
	uint64_t until_ns;
	size_t got;
	uint8_t bytes[HELLO_SIZE];
};

/* RST, nothing else. */
static void reset(int fd)
{
	static const struct linger now = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

static void bad_hello(struct remote *r, int fd, const char *why)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct as_endpoint from = { 0 };
	char text[AS_ENDPOINT_STRLEN];

	if (getpeername(fd, (struct sockaddr *)&ss, &len) == 0)
		(void)as_endpoint_from_sockaddr(&ss, len, &from);
	atomic_fetch_add(&r->bad_hellos, 1);
	log_warn_limited("a connection from %s was reset: %s", as_endpoint_format(&from, text),
			 why);
	reset(fd);
}

/* 0, or why not (a text). */
static const char *check(struct remote *r, const uint8_t bytes[HELLO_SIZE], struct hello *ret)
{
	uint64_t generations = r->generations;
	struct hello_self self = {
		.id = r->c.id,
		.generation = (uint32_t)generations,
		.previous_generation = (uint32_t)(generations >> 32),
		.started_us = r->started_us,
	};
	enum hello_verdict verdict;
	struct timespec now;
	int error = hello_decode(bytes, HELLO_SIZE, ret);

	if (error < 0)
		return error == -EPROTO ? "its version is newer than ours" : "it is no hello";
	error = mac_verify(r->c.mac, bytes);
	if (error < 0)
		return error == -ENOKEY ? "it is signed with a key that we have not"
					: "it is not authentic";
	clock_gettime(CLOCK_REALTIME, &now);
	verdict = hello_check(ret, &self, (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000);
	if (verdict != HELLO_OK)
		return hello_verdict_name(verdict);
	error = seen_add(r->seen, ret->nonce, sockrec_now());
	if (error == -EALREADY) {
		atomic_fetch_add(&r->replays, 1);
		return "it was seen before";
	}
	return error < 0 ? "too many at once to remember" : NULL;
}

static int remember(struct remote *r, const struct listener *l, const struct hello *h, int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);
	struct st_remote rec = {
		.local = h->server,
		.peer = h->client,
		.face = l->face,
		.server = 1,
		.waits = 1,
		.anchor = l->anchor,
		.node = h->src_id,
		.app = h->client_app,
		.network = h->network,
	};

	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) < 0)
		return -errno;
	return sockrec_add_remote(r->sw->socks, cookie, l->app->id, &rec);
}

/* To @l. 0, or why not; then @fd is still the caller's. */
static int hand_to(struct remote *r, struct listener *l, const struct hello *h, int fd)
{
	struct switch_ctx *sw = r->sw;
	struct waiting w = { .from = h->client, .fd = fd };
	socklen_t len = sizeof(w.id);
	bool room;
	int error;

	pthread_mutex_lock(&sw->lock);
	room = waiting_has_room(NULL, l);
	if (room && !l->gone)
		inherit_apply_protocol(&l->inherit, l->anchor_fd,
				       l->face == AF_INET ? sw->tmpl4 : sw->tmpl6, fd);
	pthread_mutex_unlock(&sw->lock);
	if (!room)
		return -EAGAIN;
	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &w.id, &len) < 0)
		return -errno;
	error = remember(r, l, h, fd);
	if (error == 0 && !accept_give(sw, l, fd))
		error = waiting_add(sw, l, &w);
	if (error < 0) {
		sockrec_forget(sw->socks, w.id);
		return error;
	}
	atomic_fetch_add_explicit(&l->accepted_since, 1, memory_order_relaxed);
	accept_arrived(sw, l);
	return 0;
}

/* To the instance that was chosen, or another one of this node's. */
static void deliver(struct remote *r, const struct hello *h, int fd)
{
	struct switch_ctx *sw = r->sw;
	struct listener *ls[MAX_INSTANCES];
	int n, error = -ECONNREFUSED;

	pthread_mutex_lock(&sw->lock);
	n = service_arrivals(sw, h->network, &h->vip, &h->server, h->server_app, ls,
			     MAX_INSTANCES);
	pthread_mutex_unlock(&sw->lock);
	for (int i = 0; i < n && error < 0; i++) {
		accept_check_parked(sw, ls[i]);
		error = hand_to(r, ls[i], h, fd);
		if (error == -ECONNREFUSED) {
			pthread_mutex_lock(&sw->lock);
			listener_end(sw, ls[i]);
			pthread_mutex_unlock(&sw->lock);
		}
	}
	pthread_mutex_lock(&sw->lock);
	for (int i = 0; i < n; i++)
		listener_unref(sw, ls[i]);
	pthread_mutex_unlock(&sw->lock);
	if (error == 0) {
		atomic_fetch_add(&r->accepted, 1);
		return;
	}
	atomic_fetch_add(&r->refused, 1);
	log_debug("a connection from node %016llx found nobody: %s",
		  (unsigned long long)h->src_id, strerror(-error));
	reset(fd);
}

/* ---- reading ---- */

/* 0: @fd is no longer ours; -EAGAIN: more is to come. */
static int read_some(struct remote *r, struct half *h)
{
	const char *why;
	struct hello hello;

	for (;;) {
		/* not a byte more than the hello: what follows is the app's */
		size_t want = h->got < MAGIC_LEN ? MAGIC_LEN : HELLO_SIZE;
		ssize_t n = recv(h->fd, h->bytes + h->got, want - h->got, MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return -EAGAIN;
		if (n <= 0) {
			/* who has said nothing looked whether anybody is here */
			if (h->got > 0)
				bad_hello(r, h->fd, "it ended within its hello");
			else
				reset(h->fd);
			return 0;
		}
		h->got += (size_t)n;
		if (h->got == MAGIC_LEN && memcmp(h->bytes, r->c.magic, MAGIC_LEN) == 0) {
			r->c.stream(r->c.arg, h->fd);
			return 0;
		}
		if (h->got == HELLO_SIZE)
			break;
	}
	why = check(r, h->bytes, &hello);
	if (why != NULL)
		bad_hello(r, h->fd, why);
	else
		deliver(r, &hello, h->fd);
	return 0;
}

static bool too_many(const struct remote *r, const struct as_addr *from)
{
	unsigned same = 0;

	for (const struct half *h = r->halves; h != NULL; h = h->next)
		same += as_addr_eq(&h->from, from);
	return r->n_halves >= HALVES_MAX || same >= HALVES_SOURCE;
}

/* The hello has not come with the connection: it is waited for. */
static void keep(struct remote *r, const struct half *h)
{
	static uint32_t ids;
	struct half *copy;

	copy = too_many(r, &h->from) ? NULL : malloc(sizeof(*copy));
	if (copy == NULL) {
		bad_hello(r, h->fd, "too many wait for their hellos");
		return;
	}
	*copy = *h;
	copy->id = ++ids;
	copy->until_ns = now_ns() + HELLO_LIMIT_NS;
	copy->next = r->halves;
	r->halves = copy;
	r->n_halves++;
	if (remote_watch(r, copy->fd, WATCH_HALF, copy->id, EPOLLIN | EPOLLRDHUP) < 0)
		copy->until_ns = 0;
}

static struct half **find(struct remote *r, uint32_t id)
{
	struct half **p = &r->halves;

	while (*p != NULL && (*p)->id != id)
		p = &(*p)->next;
	return p;
}

static void forget(struct remote *r, struct half **p)
{
	struct half *h = *p;

	*p = h->next;
	r->n_halves--;
	free(h);
}

void arrive_ready(struct remote *r, uint32_t id)
{
	struct half **p = find(r, id);
	int fd;

	if (*p == NULL)
		return;
	/* before it is somebody else's: the set would go on telling us about it */
	fd = (*p)->fd;
	(void)epoll_ctl(r->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	if (read_some(r, *p) == 0)
		forget(r, p);
	else if (remote_watch(r, fd, WATCH_HALF, id, EPOLLIN | EPOLLRDHUP) < 0)
		(*p)->until_ns = 0;
}

void arrive_accept(struct remote *r)
{
	for (int i = 0; i < ACCEPT_BATCH; i++) {
		struct sockaddr_storage ss;
		socklen_t len = sizeof(ss);
		struct as_endpoint from = { 0 };
		struct half h = { .got = 0 };

		h.fd = accept4(r->sw->st.h->node_tcp_fd, (struct sockaddr *)&ss, &len,
			       SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (h.fd < 0) {
			if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
				log_error_limited("a connection from another node cannot be "
						  "accepted: %s",
						  strerror(errno));
				/* it stays readable: not a CPU for that */
				usleep(NO_FD_US);
			}
			return;
		}
		if (guard_accepted(h.fd) < 0) {
			reset(h.fd);
			continue;
		}
		(void)as_endpoint_from_sockaddr(&ss, len, &from);
		h.from = from.addr;
		if (r->c.loopback_only && !as_addr_is_loopback(&h.from))
			bad_hello(r, h.fd, "without --key-file only this host is heard");
		else if (read_some(r, &h) < 0)
			keep(r, &h);
	}
}

void arrive_tick(struct remote *r, uint64_t now)
{
	for (struct half **p = &r->halves; *p != NULL;) {
		if (now < (*p)->until_ns) {
			p = &(*p)->next;
			continue;
		}
		bad_hello(r, (*p)->fd, "no hello came in time");
		forget(r, p);
	}
}

void arrive_done(struct remote *r)
{
	while (r->halves != NULL) {
		reset(r->halves->fd);
		forget(r, &r->halves);
	}
}
