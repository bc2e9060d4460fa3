/* Sockets, clock and timer around the core. Streams are in stream_uv.c.
 *
 * The mutex guards the core and the list of frames that wait for the loop; it is never held
 * across a callback of the caller's that is not the sink's. */
#include "gossip/gossip_uv.h"

#include "gossip/stream_uv.h"

#include <appswitch/util.h>

#include <linux/errqueue.h>
#include <linux/icmp.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

/* Datagrams taken in, and errors looked at, in one turn of the loop: a flood must not make the
 * timer late, which the core takes as a sign that this host was held up. */
#define BATCH  32u
#define ERRORS 8u
/* Frames that wait for the loop thread, in bytes. */
#define WAITING_MAX (16u << 20)

struct datagrams {
	struct mmsghdr msg[BATCH];
	struct iovec iov[BATCH];
	struct sockaddr_storage from[BATCH];
	/* one byte more than allowed: a longer datagram is seen to be longer */
	uint8_t data[BATCH][GOSSIP_DATAGRAM_MAX + 1];
};

struct gossip_uv {
	struct gossip *core;
	pthread_mutex_t lock;
	uint64_t armed;			    /* what the timer is set to; under the lock */
	struct stream_frame *first, **last; /* frames for the loop; under the lock */
	size_t waiting;

	struct gossip_sink user;
	void (*rejected)(void *ctx, const struct as_endpoint *from, int error);
	bool loopback_only;
	int fd, family; /* the UDP socket */

	uv_loop_t *loop;
	uv_poll_t poll;
	uv_timer_t timer;
	uv_async_t async;
	struct streams streams;
	unsigned open; /* handles owed a close callback; the streams count as one */
	bool closing;
	void (*done)(void *arg);
	void *done_arg;

	struct datagrams in;
	atomic_uint_least64_t sent, received, unsent, rejects, hints, frames_in, overflow;
};

uint64_t gossip_uv_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* The sink: on any thread, with the lock held. */

static void send_datagram(struct gossip_uv *g, const struct as_endpoint *to, const void *data,
			  size_t len)
{
	struct sockaddr_storage sa;
	socklen_t sa_len;
	ssize_t n = -1;

	if ((g->loopback_only && !as_addr_is_loopback(&to->addr)) ||
	    (g->family == AF_INET && !as_addr_is_v4(&to->addr))) {
		g->unsent++;
		return;
	}
	sa_len = as_endpoint_to_sockaddr(to, g->family, &sa);
	/* The first call may say what happened to an earlier datagram, to somebody else: the
	 * error queue keeps that, and this one was not sent. */
	for (unsigned tries = 0; tries < 2 && n < 0; tries++)
		n = sendto(g->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL,
			   (struct sockaddr *)&sa, sa_len);
	if (n < 0)
		g->unsent++;
	else
		g->sent++;
}

static void queue_frame(struct gossip_uv *g, const struct as_endpoint *to, const void *data,
			size_t len)
{
	struct stream_frame *f = NULL;

	if (g->waiting + len <= WAITING_MAX)
		f = stream_frame_new(to, data, len);
	if (f == NULL) {
		g->overflow++;
		return;
	}
	g->waiting += f->len;
	*g->last = f;
	g->last = &f->next;
}

static void sink_send(void *ctx, uint64_t to, const struct as_endpoint *addr,
		      enum gossip_via via, const void *data, size_t len)
{
	(void)to;
	if (via == GOSSIP_STREAM)
		queue_frame(ctx, addr, data, len);
	else
		send_datagram(ctx, addr, data, len);
}

static void sink_member(void *ctx, const struct gossip_member *m)
{
	const struct gossip_uv *g = ctx;

	g->user.member(g->user.ctx, m);
}

static void sink_row(void *ctx, const struct gossip_row *row, bool live)
{
	const struct gossip_uv *g = ctx;

	g->user.row(g->user.ctx, row, live);
}

static void sink_generation(void *ctx, uint32_t generation)
{
	const struct gossip_uv *g = ctx;

	g->user.generation(g->user.ctx, generation);
}

struct gossip *gossip_uv_lock(struct gossip_uv *g)
{
	pthread_mutex_lock(&g->lock);
	return g->core;
}

void gossip_uv_unlock(struct gossip_uv *g)
{
	bool wake = g->first != NULL || gossip_deadline(g->core) < g->armed;

	pthread_mutex_unlock(&g->lock);
	if (wake)
		uv_async_send(&g->async);
}

static void on_timer(uv_timer_t *t);

/* The loop thread after anything happened: what is due, the timer, the frames. */
static void go_on(struct gossip_uv *g)
{
	struct stream_frame *f, *next;
	uint64_t now, ms;

	if (g->closing)
		return;
	pthread_mutex_lock(&g->lock);
	now = gossip_uv_now();
	if (now >= gossip_deadline(g->core))
		gossip_tick(g->core, now);
	g->armed = gossip_deadline(g->core);
	f = g->first;
	g->first = NULL;
	g->last = &g->first;
	g->waiting = 0;
	now = gossip_uv_now();
	/* not before it is due; libuv counts from the start of this turn of the loop, which does not
	 * end while a timer is due at once */
	ms = g->armed > now ? (g->armed - now + 999) / 1000 : 1;
	pthread_mutex_unlock(&g->lock);
	uv_update_time(g->loop);
	uv_timer_start(&g->timer, on_timer, ms, 0);
	for (; f != NULL; f = next) {
		next = f->next;
		streams_send(&g->streams, f);
	}
}

static void on_timer(uv_timer_t *t)
{
	go_on(container_of(t, struct gossip_uv, timer));
}

static void on_async(uv_async_t *a)
{
	go_on(container_of(a, struct gossip_uv, async));
}

static void reject(struct gossip_uv *g, const struct as_endpoint *from, int error)
{
	g->rejects++;
	if (g->rejected != NULL && !g->closing)
		g->rejected(g->user.ctx, from, error);
}

/* A frame that is whole. True: the connection may stay. */
static bool on_frame(void *ctx, const struct as_endpoint *from, const void *data, size_t len)
{
	struct gossip_uv *g = ctx;
	int r;

	g->frames_in++;
	pthread_mutex_lock(&g->lock);
	r = gossip_input(g->core, gossip_uv_now(), from, GOSSIP_STREAM, data, len);
	pthread_mutex_unlock(&g->lock);
	if (r < 0)
		reject(g, from, r);
	go_on(g);
	/* a member's frame can come twice, or late; not so one that is not a member's */
	return r != -EBADMSG && r != -ENOKEY && r != -EPROTO;
}

static void take_datagrams(struct gossip_uv *g, unsigned n)
{
	struct as_endpoint from[BATCH];
	int r[BATCH];

	pthread_mutex_lock(&g->lock);
	for (unsigned i = 0; i < n; i++) {
		const struct msghdr *m = &g->in.msg[i].msg_hdr;

		r[i] = as_endpoint_from_sockaddr(m->msg_name, m->msg_namelen, &from[i]);
		if (r[i] == 0 && g->loopback_only && !as_addr_is_loopback(&from[i].addr))
			r[i] = -EPERM;
		if (r[i] == 0)
			r[i] = gossip_input(g->core, gossip_uv_now(), &from[i], GOSSIP_DATAGRAM,
					    g->in.data[i], g->in.msg[i].msg_len);
	}
	pthread_mutex_unlock(&g->lock);
	g->received += n;
	for (unsigned i = 0; i < n; i++) {
		if (r[i] < 0)
			reject(g, &from[i], r[i]);
	}
}

static void on_datagrams(struct gossip_uv *g)
{
	int n = -1;

	for (unsigned i = 0; i < BATCH; i++) {
		g->in.iov[i] = (struct iovec){ .iov_base = g->in.data[i],
					       .iov_len = sizeof(g->in.data[i]) };
		g->in.msg[i].msg_hdr = (struct msghdr){ .msg_name = &g->in.from[i],
							.msg_namelen = sizeof(g->in.from[i]),
							.msg_iov = &g->in.iov[i],
							.msg_iovlen = 1 };
	}
	/* as with sendto(): the first call may only tell of an ICMP error */
	for (unsigned tries = 0; tries < 2 && n < 0; tries++)
		n = recvmmsg(g->fd, g->in.msg, BATCH, MSG_DONTWAIT, NULL);
	if (n > 0)
		take_datagrams(g, (unsigned)n);
}

/* One entry of the error queue. 1: an ICMP error of what was sent to @ret; 0: something else;
 * -EAGAIN: none left. */
static int read_error(int fd, struct as_endpoint *ret)
{
	struct sockaddr_storage to;
	char control[512] __attribute__((aligned(8)));
	struct msghdr m = { .msg_name = &to,
			    .msg_namelen = sizeof(to),
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	struct sock_extended_err e;

	if (recvmsg(fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
		return -EAGAIN;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c != NULL; c = CMSG_NXTHDR(&m, c)) {
		if (!(c->cmsg_level == SOL_IP && c->cmsg_type == IP_RECVERR) &&
		    !(c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_RECVERR))
			continue;
		memcpy(&e, CMSG_DATA(c), sizeof(e));
		if (e.ee_origin != SO_EE_ORIGIN_ICMP && e.ee_origin != SO_EE_ORIGIN_ICMP6)
			continue;
		if (e.ee_errno != ECONNREFUSED && e.ee_errno != EHOSTUNREACH)
			continue;
		return as_endpoint_from_sockaddr(&to, m.msg_namelen, ret) == 0;
	}
	return 0;
}

/* Who is there is asked, out of turn. Only one that is held for alive: the pings to others
 * bring errors too, and would be answered with pings. A forged error costs one ping. */
static void hint(struct gossip_uv *g, const struct as_endpoint *addr, unsigned n)
{
	struct gossip_member m;
	uint64_t ids[ERRORS];
	unsigned found = 0;
	uint32_t it = 0;

	pthread_mutex_lock(&g->lock);
	while (found < ERRORS && gossip_members(g->core, &it, &m)) {
		if (m.state != GOSSIP_ALIVE)
			continue;
		for (unsigned i = 0; i < n; i++) {
			if (addr[i].port != m.addr.port ||
			    !as_addr_eq(&addr[i].addr, &m.addr.addr))
				continue;
			ids[found++] = m.id;
			break;
		}
	}
	for (unsigned i = 0; i < found; i++)
		gossip_hint_down(g->core, gossip_uv_now(), ids[i]);
	pthread_mutex_unlock(&g->lock);
	g->hints += found;
}

static void on_errors(struct gossip_uv *g)
{
	struct as_endpoint addr[ERRORS];
	unsigned n = 0;
	int r;

	for (unsigned i = 0; i < ERRORS; i++) {
		bool again = false;

		r = read_error(g->fd, &addr[n]);
		if (r < 0)
			break;
		for (unsigned k = 0; k < n; k++)
			again |= addr[k].port == addr[n].port &&
				 as_addr_eq(&addr[k].addr, &addr[n].addr);
		n += r == 1 && !again;
	}
	if (n > 0)
		hint(g, addr, n);
}

static void on_poll(uv_poll_t *p, int status, int events)
{
	struct gossip_uv *g = container_of(p, struct gossip_uv, poll);

	if (status < 0 || (events & UV_PRIORITIZED))
		on_errors(g);
	on_datagrams(g);
	/* libuv stops the handle at an error that is not in the queue, as when that is full; it
	 * is taken away by the call above */
	if (status < 0 && !g->closing)
		uv_poll_start(p, UV_READABLE | UV_PRIORITIZED, on_poll);
	go_on(g);
}

void gossip_uv_adopt(struct gossip_uv *g, int fd)
{
	streams_adopt(&g->streams, fd);
}

void gossip_uv_stats(struct gossip_uv *g, struct gossip_uv_stats *ret)
{
	const struct streams *s = &g->streams;

	*ret = (struct gossip_uv_stats){ .sent = g->sent,
					 .received = g->received,
					 .unsent = g->unsent,
					 .rejected = g->rejects,
					 .hints = g->hints,
					 .frames_out = s->frames_out,
					 .frames_in = g->frames_in,
					 .frames_dropped = s->frames_dropped + g->overflow,
					 .connects = s->connects,
					 .adopted = s->adopted,
					 .refused = s->refused,
					 .outgoing = s->outgoing,
					 .incoming = s->incoming };
}

static void release(struct gossip_uv *g)
{
	struct stream_frame *f, *next;

	for (f = g->first; f != NULL; f = next) {
		next = f->next;
		free(f);
	}
	gossip_free(g->core);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

static void closed(void *ctx)
{
	struct gossip_uv *g = ctx;
	void (*done)(void *arg) = g->done;
	void *arg = g->done_arg;

	if (--g->open > 0)
		return;
	release(g);
	if (done != NULL)
		done(arg);
}

static void on_closed(uv_handle_t *h)
{
	closed(h->data);
}

static void close_handle(struct gossip_uv *g, uv_handle_t *h)
{
	h->data = g;
	g->open++;
	uv_close(h, on_closed);
}

void gossip_uv_close(struct gossip_uv *g, void (*done)(void *arg), void *arg)
{
	g->closing = true;
	g->done = done;
	g->done_arg = arg;
	g->open = 1;
	close_handle(g, (uv_handle_t *)&g->poll);
	close_handle(g, (uv_handle_t *)&g->timer);
	close_handle(g, (uv_handle_t *)&g->async);
	streams_close(&g->streams);
}

/* Errors of what was sent are kept in a queue and wake the loop as urgent, not as an error:
 * libuv knows only the former. */
static int socket_options(struct gossip_uv *g)
{
	int one = 1, r;
	socklen_t len = sizeof(g->family);

	if (getsockopt(g->fd, SOL_SOCKET, SO_DOMAIN, &g->family, &len) < 0)
		return -errno;
	if (g->family != AF_INET && g->family != AF_INET6)
		return -EINVAL;
	r = setsockopt(g->fd, SOL_SOCKET, SO_SELECT_ERR_QUEUE, &one, sizeof(one));
	/* an IPv6 socket sends to IPv4 addresses too */
	if (r == 0)
		r = setsockopt(g->fd, SOL_IP, IP_RECVERR, &one, sizeof(one));
	if (r == 0 && g->family == AF_INET6)
		r = setsockopt(g->fd, SOL_IPV6, IPV6_RECVERR, &one, sizeof(one));
	return r < 0 ? -errno : 0;
}

static int core_new(struct gossip_uv *g, const struct gossip_config *c)
{
	struct gossip_config own = *c;

	g->user = c->sink;
	own.sink = (struct gossip_sink){
		.ctx = g,
		.send = sink_send,
		.member = c->sink.member != NULL ? sink_member : NULL,
		.row = c->sink.row != NULL ? sink_row : NULL,
		.generation = c->sink.generation != NULL ? sink_generation : NULL,
	};
	return gossip_new(&own, gossip_uv_now(), &g->core);
}

static int start(struct gossip_uv *g)
{
	int r = uv_poll_init(g->loop, &g->poll, g->fd);

	if (r < 0) {
		release(g);
		return r;
	}
	r = uv_async_init(g->loop, &g->async, on_async);
	if (r < 0) {
		g->closing = true;
		close_handle(g, (uv_handle_t *)&g->poll);
		return r;
	}
	uv_timer_init(g->loop, &g->timer);
	streams_init(&g->streams);
	r = uv_poll_start(&g->poll, UV_READABLE | UV_PRIORITIZED, on_poll);
	if (r < 0)
		gossip_uv_close(g, NULL, NULL);
	else
		go_on(g);
	return r;
}

int gossip_uv_new(const struct gossip_uv_config *c, struct gossip_uv **ret)
{
	struct gossip_uv *g;
	int r;

	if (c->loop == NULL || c->core == NULL || c->udp_fd < 0)
		return -EINVAL;
	g = calloc(1, sizeof(*g));
	if (g == NULL)
		return -ENOMEM;
	g->fd = c->udp_fd;
	g->loop = c->loop;
	g->rejected = c->rejected;
	g->loopback_only = c->loopback_only;
	g->last = &g->first;
	g->streams.loop = c->loop;
	g->streams.loopback_only = c->loopback_only;
	g->streams.ctx = g;
	g->streams.frame = on_frame;
	g->streams.closed = closed;
	pthread_mutex_init(&g->lock, NULL);
	r = socket_options(g);
	if (r == 0)
		r = core_new(g, c->core);
	if (r < 0) {
		release(g);
		return r;
	}
	r = start(g);
	if (r < 0)
		return r;
	*ret = g;
	return 0;
}
