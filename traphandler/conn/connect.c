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
#include "traphandler/conn/attempt.h"
#include "traphandler/conn/backlog.h"
#include "traphandler/conn/carry.h"
#include "traphandler/conn/inside.h"
#include "traphandler/conn/kept.h"
#include "traphandler/conn/replace.h"
#include "traphandler/remote/dial.h"
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

static uint32_t face_mark(const struct sock *s, const struct as_endpoint *dest)
{
	return s->domain == AF_INET6 && as_addr_is_v4(&dest->addr) ? STANDIN_FACE6 : 0;
}

/* Gives the stand-in @fd the flags, options and face of the socket it is for. True if that one is
 * non-blocking. A TCP socket has its options since it was made, and no marks. */
static bool dress(const struct sock *s, int fd, const struct as_endpoint *dest, bool remote)
{
	int flags = remote ? replace_flags(s->fd, fd, O_NONBLOCK)
			   : replace_options(s->fd, fd, O_NONBLOCK);
	bool later = flags >= 0 && (flags & O_NONBLOCK);
	uint32_t mark;

	if (remote)
		return later;
	mark = face_mark(s, dest) | (later ? STANDIN_PENDING : 0);
	if (mark != 0)
		standin_set_mark(fd, mark);
	return later;
}

/* Is it of a connection with another node? */
static bool is_remote(const struct trap *t, int fd)
{
	struct st_remote rec;

	return sockrec_any_remote(t->sw->socks) &&
	       sockrec_get_remote(t->sw->socks, sock_cookie(fd), &rec);
}

/* The program does not know that its socket with this cookie is connected: the next connect() tells. */
static void mark_pending(struct trap *t, int fdno, uint64_t cookie)
{
	int pidfd = target_pidfd(&t->w->targets, t->tid, false);
	_cleanup_close_ int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, fdno, 0);

	if (fd >= 0 && sock_cookie(fd) == cookie && !is_remote(t, fd))
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

/* The stand-in (or TCP socket) in call->fd goes to the app; @s is what the app has now. @later: it is not
 * connected yet. */
static void deliver(struct trap *t, struct sock *s, const struct as_endpoint *dest, bool later)
{
	int fd = t->call->fd, fdno = trap_int(t, 0), r;
	bool remote = is_remote(t, fd);

	later = dress(s, fd, dest, remote) || later;

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
	/* a TCP socket holds its options itself */
	if (r == 0 && !remote && sockrec_any_opts(t->sw->socks))
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
	if (mine.kind != SOCK_REMOTE &&
	    (mine.kind != SOCK_CONNECTED || !standin_connected(fd))) {
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
		struct as_endpoint dest = standin_remote(&mine);

		deliver(t, s, &dest, false);
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

static void connect_native(struct trap *t, struct sock *s);

/* Somebody serves it, and has the connection. */
static void on_connected(struct trap *t, struct attempt *a, struct sock *s, uint64_t waited_for)
{
	int fd = t->call->fd;

	if (a->l != NULL) {
		atomic_fetch_add_explicit(&a->l->accepted_since, 1, memory_order_relaxed);
		if (!a->carry)
			sockrec_add_conn(t->sw->socks, sock_cookie(fd), t->app->id,
					 a->l->app->id, a->l->anchor);
		accept_arrived(t->sw, a->l);
		if (t->call->deadline_ns != 0)
			backlog_pass_on(t, waited_for);
	}
	if (a->carry)
		answer_connected(t, s);
	else
		deliver(t, s, a->dest, a->later);
}

/* Nobody has it. */
static void on_refused(struct trap *t, struct attempt *a, struct sock *s, int r)
{
	bool later = non_blocking(s->fd);

	if (r == -ECONNREFUSED && s->kind == SOCK_NATIVE &&
	    inside_is_own(t->app, &a->dest->addr)) {
		if (!inside_connect_own(t, s, a->dest))
			connect_native(t, s);
		return;
	}
	if (r == -EAGAIN && !later) {
		/* the backlog is full: the server's next accept makes room */
		if (t->call->deadline_ns == 0)
			backlog_park(t, a->l, attempt_deadline(s->fd));
		else
			backlog_park_again(t, a->l);
		return;
	}
	if (r == -EAGAIN)
		r = -ECONNREFUSED;
	if (r == -ETIMEDOUT && later)
		r = -EHOSTUNREACH; /* all were asked for as long as such a call may wait */
	if (r == -ECONNREFUSED && later && s->kind == SOCK_NATIVE) {
		inside_refuse(t, s, a->dest);
		return;
	}
	if (r == -EMFILE || r == -ENFILE) {
		log_error_limited("app %u: no file descriptors left for a connection "
				  "(raise the daemon's RLIMIT_NOFILE)",
				  t->app->id);
		r = -ENOBUFS;
	}
	trap_reply_errno(t, -r);
}

static void connect_by_attempt(struct trap *t, struct attempt *a, struct sock *s)
{
	uint64_t waited_for = t->call->cookie;
	int r;

	t->call->cookie = sock_cookie(s->fd);
	a->carry = s->kind == SOCK_NATIVE && carry_wanted(t, s, a->dest);
	r = attempt_connect(t, a);
	if (r == -EINPROGRESS)
		return; /* parked */
	if (r == 0) {
		on_connected(t, a, s, waited_for);
		return;
	}
	t->call->stage = ST_RECEIVED;
	on_refused(t, a, s, r);
}

static void connect_native(struct trap *t, struct sock *s)
{
	struct as_endpoint dest;
	struct attempt a = { .s = s, .dest = &dest };
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
	if (s->kind == SOCK_NATIVE && s->bound.port != 0 && connect_again(t, s))
		return;
	if (t->call->deadline_ns != 0 && now_ns() >= t->call->deadline_ns) {
		r = attempt_expired(t, &a);
		if (r < 0)
			trap_reply_errno(t, -r);
		else
			deliver(t, s, &dest, true);
		return;
	}
	if (s->kind == SOCK_NATIVE && inside_connect_private(t, s, &dest))
		return;
	fd = kept_take(t->sw, s->fd, &dest);
	if (fd >= 0) {
		t->call->fd = fd;
		t->call->stage = ST_STANDIN;
		deliver(t, s, &dest, false);
		return;
	}
	connect_by_attempt(t, &a, s);
	if (a.l != NULL) {
		pthread_mutex_lock(&t->sw->lock);
		listener_unref(t->sw, a.l);
		pthread_mutex_unlock(&t->sw->lock);
	}
}

/* A connection with another node that a signal left to itself: *@ret_fd is the socket, which the kernel
 * goes on to connect, or -1. 0, or the errno of one that cannot go on. */
static int left_dial(struct trap *t, const struct sock *s, int *ret_fd)
{
	struct dial *d;
	int r = 0;

	*ret_fd = -1;
	if (dial_take(t, s, NULL, &d) < 0 || d == NULL)
		return 0;
	if (!dial_is_ahead(d))
		r = dial_outcome(t, d);
	if (r == 0)
		*ret_fd = dial_steal(d);
	dial_free(d);
	/* without its hello it is nobody's */
	return r == -EINPROGRESS ? ETIMEDOUT : -r;
}

int connect_outcome(struct trap *t, struct sock *s)
{
	bool gave_up = backlog_gave_up(t->sw, sock_cookie(s->fd));
	struct sock mine;
	uint32_t slot;
	int fd, r;

	r = left_dial(t, s, &fd);
	if (r > 0)
		return r;
	if (fd < 0 && !kept_has(t->sw, s->fd))
		return gave_up ? ECONNREFUSED : 0;
	/* another thread may connect it again meanwhile */
	if (!pool_claim(t, sock_cookie(s->fd))) {
		cleanup_close(&fd);
		return -EINPROGRESS;
	}
	if (fd >= 0)
		(void)replace_flags(s->fd, fd, O_NONBLOCK);
	else
		fd = kept_take(t->sw, s->fd, NULL);
	if (fd < 0)
		return 0;
	r = replace_fd(t, trap_int(t, 0), s->fd, fd);
	if (r == -EAGAIN || r == -ENOENT) {
		struct as_endpoint dest;

		sock_classify(NULL, t->sw, fd, &mine);
		dest = standin_remote(&mine);
		kept_put(t, sock_cookie(s->fd), &dest, fd);
		if (r == -ENOENT || !trap_valid(t))
			return 0;
		/* the target gets no CPU: another round later */
		slot = (uint32_t)(t->call - t->sw->st.calls);
		trap_park(t);
		pool_resume_later(t->sw, slot);
		return -EINPROGRESS;
	}
	if (r == 0 && !is_remote(t, fd)) {
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

/* connect() on a socket that is connected with another node, or is about to be, or has failed. What the
 * kernel would do here is done on our copy, to the address it has: the caller's must not reach it. */
static void connect_remote(struct trap *t, struct sock *s)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(struct tcp_info);
	struct tcp_info info = { 0 };
	uint16_t family;
	int r, error = 0;

	if (trap_int(t, 2) < (int)sizeof(family) || trap_int(t, 2) > (int)sizeof(peer)) {
		trap_reply_errno(t, EINVAL);
		return;
	}
	r = trap_read(t, t->args[1], &family, sizeof(family));
	if (r == 0 && family == AF_UNSPEC)
		r = -EINVAL; /* as a stand-in: it cannot be fresh again */
	if (r < 0) {
		if (r == -ENOENT)
			trap_drop(t);
		else
			trap_reply_errno(t, -r);
		return;
	}
	(void)getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &len);
	if (info.tcpi_state == TCP_SYN_SENT || info.tcpi_state == TCP_SYN_RECV) {
		trap_reply_errno(t, EALREADY);
		return;
	}
	len = sizeof(peer);
	if (info.tcpi_state == TCP_CLOSE ||
	    getpeername(s->fd, (struct sockaddr *)&peer, &len) < 0) {
		len = sizeof(error);
		(void)getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len);
		if (error != 0)
			trap_reply_errno(t, error);
		else if (s->remote.server)
			trap_reply_errno(t, EISCONN);
		else
			connect_native(t, s); /* another one in its place */
		return;
	}
	if (answered_same(t, sock_cookie(s->fd)))
		answer(t, sock_cookie(s->fd), false);
	else if (connect(s->fd, (struct sockaddr *)&peer, len) == 0)
		trap_reply_value(t, 0);
	else
		trap_reply_errno(t, errno);
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
	if ((s.kind == SOCK_NATIVE || s.kind == SOCK_REMOTE) &&
	    !pool_claim(t, sock_cookie(s.fd))) {
		/* another thread connects it; what it is then, the next look shows */
	} else if (t->call->stage == ST_CONNECTED &&
		   (s.kind == SOCK_NATIVE || s.kind == SOCK_CONNECTED ||
		    s.kind == SOCK_REMOTE)) {
		answer_connected(t, &s);
	} else if (t->call->stage == ST_STANDIN) {
		resume(t, &s);
	} else if (s.kind == SOCK_NATIVE) {
		connect_native(t, &s);
	} else if (s.kind == SOCK_REMOTE) {
		connect_remote(t, &s);
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
