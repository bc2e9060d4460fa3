/* connect() on a TCP socket of the app.
 *
 *   choose   the service's instances in the policy's order
 *   connect  a new stand-in to the first whose listener lives (ST_STANDIN from here on: the
 *            call slot names the fd, so whoever resumes the call goes on from here)
 *   replace  the app's socket by it
 *   reply    0, or EINPROGRESS to a non-blocking caller, as TCP does even on loopback
 *
 * Where the replacement would cost too much the app's own socket is connected instead (carry.h).
 * Interrupted before the replacement: the stand-in is kept for the connect() that is likely to be
 * repeated on the same socket. Interrupted after it: the stand-in is marked, and the next
 * connect() on it answers 0. Refused: a blocking caller is told; for a non-blocking one the
 * app's own socket runs into a closed port of its own namespace, so that poll, SO_ERROR and the
 * next connect() are the kernel's. */
#include "traphandler/conn/connect.h"

#include "traphandler/conn/accept.h"
#include "traphandler/conn/appns.h"
#include "traphandler/conn/backlog.h"
#include "traphandler/conn/carry.h"
#include "traphandler/conn/inside.h"
#include "traphandler/conn/kept.h"
#include "traphandler/conn/replace.h"
#include "traphandler/conn/standin.h"
#include "traphandler/service/registry.h"
#include "traphandler/service/sockrec.h"
#include "traphandler/trap/pool.h"
#include "traphandler/trap/readers.h"

#include <appswitch/log.h>
#include <appswitch/util.h>

#include <assert.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/syscall.h>

#define PORT_TRIES	   64
#define PORT_FIRST	   32768u /* net.ipv4.ip_local_port_range's default */
#define PORT_COUNT	   28232u
#define CONNECT_TIMEOUT_NS (127ull * 1000000000u) /* TCP's with tcp_syn_retries 6 */

static bool non_blocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && (flags & O_NONBLOCK);
}

/* Reads and checks the address. Returns 0; 1 if the kernel itself finds the fault in it (on the
 * native socket, which reaches nothing); -errno. */
static int read_dest(struct trap *t, const struct sock *s, struct as_endpoint *ret)
{
	struct sockaddr_storage ss;
	int len = trap_int(t, 2), r;

	if (len < (int)sizeof(struct sockaddr_in) || len > (int)sizeof(ss))
		return 1;
	r = trap_read(t, t->args[1], &ss, (size_t)len);
	if (r < 0)
		return r;
	if (ss.ss_family != s->domain || as_endpoint_from_sockaddr(&ss, (size_t)len, ret) < 0)
		return 1;
	/* the kernel's own complaints: a link-local address without a scope, a mapped source */
	if (s->domain == AF_INET6 &&
	    ((ret->addr.b[0] == 0xfe && (ret->addr.b[1] & 0xc0) == 0x80) ||
	     (as_addr_is_v4(&s->bound.addr) && !as_addr_is_v4(&ret->addr))))
		return 1;
	if (s->domain == AF_INET6 && as_addr_is_v4(&ret->addr)) {
		int v6only = 0;
		socklen_t l = sizeof(v6only);

		getsockopt(s->fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, &l);
		if (v6only)
			return -ENETUNREACH;
	}
	if (as_addr_is_any(&ret->addr))
		ret->addr = as_addr_loopback(as_addr_family(&ret->addr));
	return 0;
}

static struct as_addr source_address(const struct app *app, const struct sock *s,
				     const struct as_addr *dest)
{
	int family = as_addr_family(dest);

	if (!as_addr_is_any(&s->bound.addr) && as_addr_family(&s->bound.addr) == family)
		return s->bound.addr;
	if (as_addr_is_loopback(dest))
		return as_addr_loopback(family);
	return family == AF_INET ? app->ip4 : app->ip6;
}

/* A stand-in connected to @l, in the call's slot; picks a free source port unless the app bound one. */
static int connect_by_standin(struct trap *t, const struct sock *s, const struct listener *l,
			      const struct as_endpoint *dest, const struct as_addr *vip)
{
	struct standin_name name = {
		.kind = NAME_CLIENT,
		.network = t->app->network_id,
		.vip = *vip,
		.client.addr = source_address(t->app, s, &dest->addr),
		.client.port = s->bound.port,
		.server = *dest,
	};
	int r;

	if (s->bound.port != 0) {
		r = standin_connect(t->sw, l, &name, &t->call->fd);
		return r == -EADDRINUSE ? -EADDRNOTAVAIL : r;
	}
	for (int i = 0; i < PORT_TRIES; i++) {
		name.client.port = (uint16_t)(PORT_FIRST + worker_random(t->w) % PORT_COUNT);
		r = standin_connect(t->sw, l, &name, &t->call->fd);
		if (r != -EADDRINUSE)
			return r;
	}
	return -EADDRNOTAVAIL;
}

/* A connection to @l: a stand-in in the call's slot, or (*@carry stays true) of the app's own socket. */
static int connect_instance(struct trap *t, const struct sock *s, struct listener *l,
			    const struct as_endpoint *dest, const struct as_addr *vip,
			    bool *carry)
{
	if (*carry) {
		int r = carry_connect(t, s, l, dest);

		if (r != -EOPNOTSUPP)
			return r;
		*carry = false;
	}
	t->call->stage = ST_STANDIN;
	return connect_by_standin(t, s, l, dest, vip);
}

static void listener_refused(struct trap *t, struct listener *l)
{
	log_debug("app %u: the listener on port %u is gone", l->app->id, l->port);
	pthread_mutex_lock(&t->sw->lock);
	listener_end(t->sw, l);
	pthread_mutex_unlock(&t->sw->lock);
}

/* Tries the instances in order. 0 with the connected stand-in in the slot and whose it is (or, if
 * *@carry still is true, the app's own socket connected); -EAGAIN with
 * *ret_l one that lives but has a full backlog; else -errno. *ret_l is referenced. */
static int connect_service(struct trap *t, const struct sock *s, const struct as_endpoint *dest,
			   struct listener **ret_l, bool *carry)
{
	struct listener *ls[MAX_INSTANCES], *full = NULL;
	struct switch_ctx *sw = t->sw;
	struct as_addr vip;
	int n, r = -ECONNREFUSED;

	pthread_mutex_lock(&sw->lock);
	n = service_lookup(sw, t->app, dest, ls, MAX_INSTANCES, &vip);
	pthread_mutex_unlock(&sw->lock);
	if (n < 0)
		return n;
	*ret_l = NULL;
	for (int i = 0; i < n; i++) {
		accept_check_parked(sw, ls[i]);
		r = connect_instance(t, s, ls[i], dest, &vip, carry);
		if (r == -ECONNREFUSED) {
			listener_refused(t, ls[i]);
			continue;
		}
		if (r == -EAGAIN && full == NULL)
			full = ls[i];
		if (r == -EAGAIN)
			continue;
		if (r == 0)
			*ret_l = ls[i];
		break;
	}
	if (*ret_l == NULL && full != NULL && (r == -EAGAIN || r == -ECONNREFUSED)) {
		*ret_l = full;
		r = -EAGAIN;
	}
	pthread_mutex_lock(&sw->lock);
	for (int i = 0; i < n; i++) {
		if (ls[i] != *ret_l)
			listener_unref(sw, ls[i]);
	}
	pthread_mutex_unlock(&sw->lock);
	return r;
}

/* connect() that runs into SO_SNDTIMEO says EINPROGRESS (socket(7)). */
static bool has_sndtimeo(int fd)
{
	struct timeval tv = { 0 };
	socklen_t len = sizeof(tv);

	return getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, &len) == 0 &&
	       (tv.tv_sec != 0 || tv.tv_usec != 0);
}

static uint64_t connect_deadline(int fd)
{
	struct timeval tv = { 0 };
	socklen_t len = sizeof(tv);

	if (getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, &len) < 0 ||
	    (tv.tv_sec == 0 && tv.tv_usec == 0))
		return now_ns() + CONNECT_TIMEOUT_NS;
	return now_ns() + (uint64_t)tv.tv_sec * 1000000000u + (uint64_t)tv.tv_usec * 1000u;
}

static uint32_t face_mark(const struct sock *s, const struct as_endpoint *dest)
{
	return s->domain == AF_INET6 && as_addr_is_v4(&dest->addr) ? STANDIN_FACE6 : 0;
}

/* Gives the stand-in @fd the flags, options and face of the socket it is for. True if that one is
 * non-blocking. */
static bool dress(const struct sock *s, int fd, const struct as_endpoint *dest)
{
	int flags = replace_options(s->fd, fd, O_NONBLOCK);
	bool later = flags >= 0 && (flags & O_NONBLOCK);
	uint32_t mark;

	mark = face_mark(s, dest) | (later ? STANDIN_PENDING : 0);
	if (mark != 0)
		standin_set_mark(fd, mark);
	return later;
}

/* The program does not know that its socket with this cookie is connected: the next connect() tells. */
static void mark_pending(struct trap *t, int fdno, uint64_t cookie)
{
	int pidfd = target_pidfd(&t->w->targets, t->tid, false);
	_cleanup_close_ int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, fdno, 0);

	if (fd >= 0 && sock_cookie(fd) == cookie)
		standin_change_mark(fd, 0, STANDIN_PENDING);
}

/* The app has the connection at its number and is told so. We have no copy of it any more: the app
 * may close its own at once, and with the last copy go its epoll items. */
static void answer(struct trap *t, uint64_t cookie, bool later)
{
	struct answered a = answered_make(t, cookie);
	int fdno = trap_int(t, 0); /* not the call's any more, after the reply */

	t->call->stage = ST_CONNECTED;
	if (later) {
		trap_reply_errno(t, EINPROGRESS);
		return;
	}
	/* a program that asks again finds EISCONN: only where a repetition is to be expected */
	if (app_was_interrupted(t->app))
		answered_put(t->sw, &a);
	/* it is soon enough: the thread's next call waits for the end of this one */
	if (trap_reply_value(t, 0) < 0)
		mark_pending(t, fdno, cookie);
}

/* The stand-in in call->fd is in place: only the answer is missing. */
static void answer_standin(struct trap *t, bool later)
{
	uint64_t cookie = sock_cookie(t->call->fd);

	t->call->stage = ST_CONNECTED; /* before it names no descriptor */
	close(t->call->fd);
	t->call->fd = -1;
	answer(t, cookie, later);
}

/* The stand-in in call->fd goes to the app; @s is what the app has now. */
static void deliver(struct trap *t, struct sock *s, const struct as_endpoint *dest)
{
	int fd = t->call->fd, fdno = trap_int(t, 0), r;
	bool later = dress(s, fd, dest);

	r = replace_fd(t, fdno, s->fd, fd);
	if (r == -EAGAIN && trap_valid(t)) {
		/* the target gets no CPU: nothing was changed, another round later */
		uint32_t slot = (uint32_t)(t->call - t->sw->st.calls);

		log_debug("app %u: thread %d did not take its connection in time; again",
			  t->app->id, t->tid);
		trap_park(t);
		pool_resume_later(t->sw, slot);
		return;
	}
	if (r == 0 && sockrec_any_opts(t->sw->socks))
		sockrec_move(t->sw->socks, sock_cookie(s->fd), sock_cookie(fd));
	if (r == -ENOENT || r == -EAGAIN) {
		t->call->fd = -1;
		kept_put(t, sock_cookie(s->fd), dest, fd);
		trap_drop(t);
		return;
	}
	/* the last copy of the old file but the target's: with it go its epoll items */
	sock_done(s);
	if (r < 0) {
		trap_reply_errno(t, -r);
		close(fd);
		return;
	}
	answer_standin(t, later);
}

/* An earlier round, or an earlier daemon, got as far as the stand-in. */
static void resume(struct trap *t, struct sock *s)
{
	struct sock mine;
	int fd = t->call->fd;

	sock_classify(t->app, t->sw, fd, &mine);
	if (mine.kind != SOCK_CONNECTED || !standin_connected(fd)) {
		/* made but not connected yet: begin again */
		close(fd);
		t->call->fd = -1;
		t->call->stage = ST_RECEIVED;
		sock_done(s);
		handle_connect(t);
		return;
	}
	replace_resume(t, fd);
	if (s->kind == SOCK_NATIVE) {
		deliver(t, s, &mine.own.server);
		return;
	}
	if (sock_cookie(s->fd) == sock_cookie(fd)) {
		sock_done(s);
		answer_standin(t, non_blocking(fd));
		return;
	}
	trap_reply_errno(t, EISCONN);
	close(fd);
}

/* The app's own socket is connected, or the stand-in in its place is. */
static void answer_connected(struct trap *t, const struct sock *s)
{
	/* also one that was PENDING, or UNSURE when a daemon died */
	if (s->kind == SOCK_NATIVE)
		standin_set_mark(s->fd, APPNS_MARK);
	answer(t, sock_cookie(s->fd), non_blocking(s->fd));
}

/* A bound socket may be one that is connected, or listens. False: it is not. Ends @t otherwise. */
static bool connect_again(struct trap *t, const struct sock *s)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);
	uint32_t mark = standin_mark(s->fd);
	bool ours = (mark & APPNS_MARK_MASK) == APPNS_MARK;

	if (ours && (mark & STANDIN_UNSURE)) {
		carry_undo(s->fd); /* an earlier daemon got no further */
		return false;
	}
	if (getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 ||
	    info.tcpi_state == TCP_CLOSE)
		return false;
	if (info.tcpi_state == TCP_LISTEN)
		trap_reply_errno(t, EISCONN);
	else if (ours && ((mark & STANDIN_PENDING) || answered_same(t, sock_cookie(s->fd))))
		answer_connected(t, s);
	else
		trap_reply_continue(t);
	return true;
}

static void connect_native(struct trap *t, struct sock *s)
{
	struct as_endpoint dest;
	struct listener *l = NULL;
	bool carry;
	int fd, r;

	if (sockrec_take_refused(t->sw->socks,
				 sockrec_any_opts(t->sw->socks) ? sock_cookie(s->fd) : 0)) {
		trap_reply_continue(t);
		return;
	}
	r = read_dest(t, s, &dest);
	if (r > 0) {
		trap_reply_continue(t);
		return;
	}
	if (r < 0) {
		if (r == -ENOENT)
			trap_drop(t);
		else
			trap_reply_errno(t, -r);
		return;
	}
	if (s->bound.port != 0 && connect_again(t, s))
		return;
	if (t->call->deadline_ns != 0 && now_ns() >= t->call->deadline_ns) {
		trap_reply_errno(t, has_sndtimeo(s->fd) ? EINPROGRESS : ETIMEDOUT);
		return;
	}
	if (inside_connect_private(t, s, &dest))
		return;
	fd = kept_take(t->sw, s->fd, &dest);
	if (fd < 0) {
		uint64_t waited_for = t->call->cookie;

		t->call->cookie = sock_cookie(s->fd);
		carry = carry_wanted(t, s, &dest);
		r = connect_service(t, s, &dest, &l, &carry);
		if (r < 0)
			t->call->stage = ST_RECEIVED;
		if (r == -ECONNREFUSED && inside_is_own(t->app, &dest.addr)) {
			if (!inside_connect_own(t, s, &dest))
				connect_native(t, s);
			goto out;
		}
		if (r == -EAGAIN && !non_blocking(s->fd)) {
			assert(l != NULL);
			/* the backlog is full: the server's next accept makes room */
			if (t->call->deadline_ns == 0)
				backlog_park(t, l, connect_deadline(s->fd));
			else
				backlog_park_again(t, l);
			goto out;
		}
		if (r == -EAGAIN)
			r = -ECONNREFUSED;
		if (r == -ECONNREFUSED && non_blocking(s->fd)) {
			inside_refuse(t, s, &dest);
			goto out;
		}
		if (r < 0) {
			if (r == -EMFILE || r == -ENFILE) {
				log_error_limited(
					"app %u: no file descriptors left for a connection "
					"(raise the daemon's RLIMIT_NOFILE)",
					t->app->id);
				r = -ENOBUFS;
			}
			trap_reply_errno(t, -r);
			goto out;
		}
		assert(l != NULL);
		fd = t->call->fd;
		atomic_fetch_add_explicit(&l->accepted_since, 1, memory_order_relaxed);
		if (!carry)
			sockrec_add_conn(t->sw->socks, sock_cookie(fd), t->app->id, l->app->id,
					 l->anchor);
		accept_arrived(t->sw, l);
		if (t->call->deadline_ns != 0)
			backlog_pass_on(t, waited_for);
		if (carry) {
			answer_connected(t, s);
			goto out;
		}
	} else {
		t->call->fd = fd;
		t->call->stage = ST_STANDIN;
	}
	deliver(t, s, &dest);
out:
	if (l != NULL) {
		pthread_mutex_lock(&t->sw->lock);
		listener_unref(t->sw, l);
		pthread_mutex_unlock(&t->sw->lock);
	}
}

int connect_outcome(struct trap *t, struct sock *s)
{
	bool gave_up = backlog_gave_up(t->sw, sock_cookie(s->fd));
	struct sock mine;
	uint32_t slot;
	int fd, r;

	if (!kept_has(t->sw, s->fd))
		return gave_up ? ECONNREFUSED : 0;
	/* another thread may connect it again meanwhile */
	if (!pool_claim(t, sock_cookie(s->fd)))
		return -EINPROGRESS;
	fd = kept_take(t->sw, s->fd, NULL);
	if (fd < 0)
		return 0;
	r = replace_fd(t, trap_int(t, 0), s->fd, fd);
	if (r == -EAGAIN || r == -ENOENT) {
		sock_classify(NULL, t->sw, fd, &mine);
		kept_put(t, sock_cookie(s->fd), &mine.own.server, fd);
		if (r == -ENOENT || !trap_valid(t))
			return 0;
		/* the target gets no CPU: another round later */
		slot = (uint32_t)(t->call - t->sw->st.calls);
		trap_park(t);
		pool_resume_later(t->sw, slot);
		return -EINPROGRESS;
	}
	if (r == 0) {
		standin_change_mark(fd, STANDIN_PENDING, 0);
		sockrec_move(t->sw->socks, sock_cookie(s->fd), sock_cookie(fd));
	}
	close(fd);
	return 0;
}

static void connect_standin(struct trap *t, struct sock *s)
{
	uint16_t family;
	int r;

	if (trap_int(t, 2) < (int)sizeof(family) || trap_int(t, 2) > 128) {
		trap_reply_errno(t, EINVAL);
		return;
	}
	r = trap_read(t, t->args[1], &family, sizeof(family));
	if (r == -ENOENT) {
		trap_drop(t);
	} else if (r < 0) {
		trap_reply_errno(t, -r);
	} else if (family == AF_UNSPEC) {
		/* TCP would disconnect and be fresh again; a stand-in cannot (see the table of
		 * differences): it says so */
		trap_reply_errno(t, EINVAL);
	} else if (s->kind == SOCK_CONNECTED && ((standin_mark(s->fd) & STANDIN_PENDING) ||
						 answered_same(t, sock_cookie(s->fd)))) {
		standin_change_mark(s->fd, STANDIN_PENDING, 0);
		answer(t, sock_cookie(s->fd), false);
	} else {
		trap_reply_errno(t, EISCONN);
	}
}

void handle_connect(struct trap *t)
{
	struct sock s;
	int r = sock_get(t, trap_int(t, 0), &s);

	if (r == -ENOENT || r == -EMFILE) {
		/* gone, or we have no fd to look with: the kernel answers on the native socket */
		if (r == -ENOENT)
			trap_drop(t);
		else
			trap_reply_errno(t, ENOBUFS);
		return;
	}
	if (r < 0) {
		trap_reply_continue(t);
		return;
	}
	if (s.kind == SOCK_NATIVE && !pool_claim(t, sock_cookie(s.fd))) {
		/* another thread connects it; what it is then, the next look shows */
	} else if (t->call->stage == ST_CONNECTED &&
		   (s.kind == SOCK_NATIVE || s.kind == SOCK_CONNECTED)) {
		answer_connected(t, &s);
	} else if (t->call->stage == ST_STANDIN) {
		resume(t, &s);
	} else if (s.kind == SOCK_NATIVE) {
		connect_native(t, &s);
	} else if (s.kind == SOCK_CONNECTED || s.kind == SOCK_LISTENER ||
		   s.kind == SOCK_CARRIED) {
		connect_standin(t, &s);
	} else if (s.kind == SOCK_HOST) {
		log_warn_limited("app %u: connect() on a socket of the host's network refused",
				 t->app->id);
		trap_reply_errno(t, ENETUNREACH);
	} else {
		trap_reply_continue(t);
	}
	sock_done(&s);
}

void connect_tick(struct switch_ctx *sw)
{
	uint64_t now = now_ns();

	pthread_mutex_lock(&sw->lock);
	kept_tick(sw, now);
	backlog_tick(sw, now);
	pthread_mutex_unlock(&sw->lock);
}
