#include "traphandler/remote/thread.h"

#include "traphandler/remote/guard.h"
#include "traphandler/remote/seen.h"
#include "traphandler/remote/supply.h"
#include "traphandler/service/sockrec.h"

#include <appswitch/util.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define BACKLOG	     4096
#define DEFER_S	     5 /* a connection is ours to accept when its hello is there */
#define FASTOPEN_LEN 1024
#define BUSY_MS	     20
#define IDLE_MS	     1000

/* ---- the node's sockets ---- */

static bool is_bound_to(int fd, const struct as_endpoint *at)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct as_endpoint e;

	return fd >= 0 && getsockname(fd, (struct sockaddr *)&ss, &len) == 0 &&
	       as_endpoint_from_sockaddr(&ss, len, &e) == 0 && e.port == at->port &&
	       as_addr_eq(&e.addr, &at->addr);
}

static int bind_to(int type, const struct as_endpoint *at, int *ret_fd)
{
	static const int one = 1, zero = 0;
	int family = as_addr_family(&at->addr);
	struct sockaddr_storage ss;
	socklen_t len = as_endpoint_to_sockaddr(at, family, &ss);
	_cleanup_close_ int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (type == SOCK_STREAM)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (family == AF_INET6 && as_addr_is_any(&at->addr))
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (bind(fd, (struct sockaddr *)&ss, len) < 0)
		return -errno;
	*ret_fd = fd_steal(&fd);
	return 0;
}

static int open_tcp(const struct as_endpoint *at, int *ret_fd)
{
	static const int defer = DEFER_S, qlen = FASTOPEN_LEN;
	_cleanup_close_ int fd = -1;
	int r = bind_to(SOCK_STREAM, at, &fd);

	if (r < 0)
		return r;
	setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &defer, sizeof(defer));
	/* of use where net.ipv4.tcp_fastopen lets servers take data in a SYN */
	setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, &qlen, sizeof(qlen));
	*ret_fd = fd_steal(&fd);
	return 0;
}

/* Also one that the holder has muted, or that listens no more (state/holder.c). */
static int begin_to_listen(int fd, const struct as_endpoint *at)
{
	int r = guard_listening(fd, at);

	if (r == 1)
		log_warn(
			"this kernel lets no ordinary user guard a socket: an app that goes to "
			"lengths can get at the host's network (--guard optional)");
	if (r == -EPERM)
		log_error("this kernel lets no ordinary user attach a filter to a socket, "
			  "without "
			  "which an app that goes to lengths could get at the host's network: "
			  "start "
			  "the daemon as root, or trust the apps and give --guard optional");
	return r >= 0 && listen(fd, BACKLOG) < 0 ? -errno : r;
}

int remote_open(struct switch_ctx *sw, const struct as_endpoint *at)
{
	struct st_header *h = sw->st.h;
	int fd = -1, r;

	if (!is_bound_to(h->node_tcp_fd, at)) {
		cleanup_close(&h->node_tcp_fd);
		h->node_tcp_fd = -1;
		r = open_tcp(at, &fd);
		if (r < 0)
			return r;
		h->node_tcp_fd = fd;
	}
	r = begin_to_listen(h->node_tcp_fd, at);
	if (r < 0)
		return r;
	if (!is_bound_to(h->node_udp_fd, at)) {
		cleanup_close(&h->node_udp_fd);
		h->node_udp_fd = -1;
		r = bind_to(SOCK_DGRAM, at, &fd);
		if (r < 0)
			return r;
		h->node_udp_fd = fd;
	}
	return 0;
}

void remote_close(struct switch_ctx *sw)
{
	struct st_header *h = sw->st.h;

	cleanup_close(&h->node_tcp_fd);
	cleanup_close(&h->node_udp_fd);
	h->node_tcp_fd = h->node_udp_fd = -1;
}

/* ---- the thread ---- */

int remote_watch(struct remote *r, int fd, enum watched what, uint32_t id, uint32_t events)
{
	struct epoll_event ev = {
		.events = events,
		.data.u64 = (uint64_t)what << 32 | id,
	};

	return epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

static void on_event(struct remote *r, const struct epoll_event *ev)
{
	uint32_t id = (uint32_t)ev->data.u64;
	uint64_t n;

	switch ((enum watched)(ev->data.u64 >> 32)) {
	case WATCH_LISTENER:
		arrive_accept(r);
		break;
	case WATCH_HALF:
		arrive_ready(r, id);
		break;
	case WATCH_DIAL:
		dial_ready(r, id);
		break;
	case WATCH_WAKE:
		if (read(r->wake_fd, &n, sizeof(n)) < 0)
			log_debug("woken without a reason");
		break;
	}
}

static void wake(struct remote *r)
{
	static const uint64_t one = 1;

	if (write(r->wake_fd, &one, sizeof(one)) < 0)
		log_debug("the remote thread goes on with its next tick");
}

void remote_busy(struct remote *r)
{
	if (atomic_exchange(&r->idle, false))
		wake(r);
}

/* For how long to sleep. For a second after there was something it is not long, so that who comes next
 * need not wake the thread. */
static int nap(struct remote *r, uint64_t *busy_ns)
{
	if (r->halves != NULL || __atomic_load_n(&r->dials, __ATOMIC_SEQ_CST) != NULL)
		*busy_ns = now_ns();
	if (now_ns() - *busy_ns < IDLE_MS * 1000000ull)
		return BUSY_MS;
	atomic_store(&r->idle, true);
	/* who came before that has not seen it */
	return __atomic_load_n(&r->dials, __ATOMIC_SEQ_CST) != NULL ? BUSY_MS : IDLE_MS;
}

static void *run(void *arg)
{
	struct remote *r = arg;
	struct epoll_event events[64];
	uint64_t busy_ns = 0;

	/* carriers are stand-ins: of the private namespace */
	if (setns(r->sw->st.h->pns_fd, CLONE_NEWNET) < 0) {
		log_error("connections from other nodes are not served: %s", strerror(errno));
		return NULL;
	}
	while (!r->stopping) {
		int n = epoll_wait(r->epoll_fd, events, ARRAY_SIZE(events), nap(r, &busy_ns));
		uint64_t now;

		atomic_store(&r->idle, false);
		for (int i = 0; i < n; i++)
			on_event(r, &events[i]);
		now = now_ns();
		arrive_tick(r, now);
		dial_tick(r, now);
	}
	return NULL;
}

static void free_all(struct remote *r)
{
	cleanup_close(&r->epoll_fd);
	cleanup_close(&r->wake_fd);
	cleanup_close(&r->diag_fd);
	seen_free(r->seen);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

static int set_up(struct remote *r)
{
	struct timespec now;
	int error;

	clock_gettime(CLOCK_REALTIME, &now);
	if (!r->c.generation_stored)
		r->started_us = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
	r->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->epoll_fd < 0 || r->wake_fd < 0)
		return -errno;
	r->diag_fd = diag_open();
	if (r->diag_fd < 0)
		return r->diag_fd;
	error = seen_new(r->sw->st.seen, ST_SEEN, &r->seen);
	if (error < 0)
		return error;
	error = remote_watch(r, r->wake_fd, WATCH_WAKE, 0, EPOLLIN);
	if (error == 0)
		error = remote_watch(r, r->sw->st.h->node_tcp_fd, WATCH_LISTENER, 0, EPOLLIN);
	if (error == 0)
		error = supply_start();
	return error;
}

int remote_start(struct switch_ctx *sw, const struct remote_config *c)
{
	struct remote *r = calloc(1, sizeof(*r));
	int error;

	if (r == NULL)
		return -ENOMEM;
	r->sw = sw;
	r->c = *c;
	r->generations = (uint64_t)c->previous_generation << 32 | c->generation;
	r->epoll_fd = r->wake_fd = r->diag_fd = -1;
	pthread_mutex_init(&r->lock, NULL);
	error = set_up(r);
	if (error == 0) {
		__atomic_store_n(&sw->remote, r, __ATOMIC_RELEASE);
		error = -pthread_create(&r->thread, NULL, run, r);
	}
	if (error < 0) {
		sw->remote = NULL;
		supply_stop();
		free_all(r);
	}
	return error;
}

void remote_set_generation(struct switch_ctx *sw, uint32_t generation)
{
	struct remote *r = __atomic_load_n(&sw->remote, __ATOMIC_ACQUIRE);

	if (r == NULL)
		return;
	/* what was said to the one before is still good: its nonces are known */
	r->generations = r->generations << 32 | generation;
	__atomic_store_n(&sw->st.h->node_generation, generation, __ATOMIC_RELAXED);
}

void remote_stop(struct switch_ctx *sw)
{
	struct remote *r = sw->remote;

	if (r == NULL)
		return;
	r->stopping = true;
	wake(r);
	pthread_join(r->thread, NULL);
}

void remote_free(struct switch_ctx *sw)
{
	struct remote *r = sw->remote;

	if (r == NULL)
		return;
	arrive_done(r);
	dial_done(r);
	supply_stop();
	sw->remote = NULL;
	free_all(r);
}

struct remote_stats remote_stats(const struct switch_ctx *sw)
{
	const struct remote *r = sw->remote;

	if (r == NULL)
		return (struct remote_stats){ 0 };
	return (struct remote_stats){ r->accepted, r->bad_hellos, r->replays, r->refused };
}
