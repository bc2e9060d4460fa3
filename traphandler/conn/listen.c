/* listen() on a TCP socket of the app.
 *
 * A listener that serves no virtual IP (bound to loopback, or of an app without an address) is
 * left to the kernel: connections to it stay inside the namespace and are its own TCP.
 *
 * For the others: the app's own bound socket becomes the anchor: we keep a copy of it, in LISTEN with a filter
 * that drops everything, so the kernel keeps the port taken in the app's namespace and remembers
 * and answers its options. At the app's number goes a listening stand-in. The anchor's end is
 * the stand-in's: noticed by a connect that is refused, by a bind that would fail, by the sweep.
 *
 * bind() is the kernel's; it is trapped only to notice, just in time, that the port it wants
 * belonged to a listener that was closed. */
#include "traphandler/conn/listen.h"

#include "traphandler/conn/accept.h"
#include "traphandler/conn/closer.h"
#include "traphandler/conn/replace.h"
#include "traphandler/service/diag.h"
#include "traphandler/service/quota.h"
#include "traphandler/service/registry.h"
#include "traphandler/service/sockrec.h"
#include "traphandler/trap/pool.h"

#include <appswitch/log.h>
#include <appswitch/util.h>

#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

/* Ends the listeners of the app on @port that are no longer open; true if the port may be free now. */
static bool reap_port(struct trap *t, uint16_t port)
{
	struct switch_ctx *sw = t->sw;
	struct listener *ls[64];
	unsigned n = 0;
	bool reaped = false;

	pthread_mutex_lock(&sw->lock);
	for (unsigned i = 0; i < ST_LISTENERS && n < ARRAY_SIZE(ls); i++) {
		struct listener *l = sw->listeners[i];

		if (l != NULL && l->app == t->app && l->port == port) {
			listener_ref(l);
			ls[n++] = l;
		}
	}
	pthread_mutex_unlock(&sw->lock);
	for (unsigned i = 0; i < n; i++) {
		bool alive;

		accept_check_parked(sw, ls[i]);
		(void)closer_wait(sw, t->app);
		alive = standin_alive(ls[i]);
		pthread_mutex_lock(&sw->lock);
		if (!alive) {
			listener_end(sw, ls[i]);
			reaped = true;
		}
		listener_unref(sw, ls[i]);
		pthread_mutex_unlock(&sw->lock);
	}
	/* also one that somebody else has ended just now: the port is to be free */
	return closer_wait(sw, t->app) || reaped;
}

/* A stand-in has its address, as a connected or listening TCP socket has. */
static void bind_standin(struct trap *t)
{
	struct sockaddr_storage ss;
	int len = trap_int(t, 2), r = -EINVAL;

	if (len > 0 && len <= (int)sizeof(ss))
		r = trap_read(t, t->args[1], &ss, (size_t)len);
	if (r == -ENOENT)
		trap_drop(t);
	else
		trap_reply_errno(t, r < 0 ? -r : EINVAL);
}

void handle_bind(struct trap *t)
{
	struct sockaddr_storage ss;
	struct as_endpoint e;
	struct sock s = { .fd = -1 };
	int len = trap_int(t, 2), r;

	r = sock_get(t, trap_int(t, 0), &s);
	if (r == 0 && (s.kind == SOCK_CONNECTED || s.kind == SOCK_LISTENER ||
		       s.kind == SOCK_CARRIED || s.kind == SOCK_REMOTE)) {
		bind_standin(t);
		sock_done(&s);
		return;
	}
	/* on a native socket in an empty namespace the kernel's answer is the right one, and a
	 * caller that changes the address meanwhile gains nothing */
	if (r == 0 && s.kind == SOCK_NATIVE && len >= (int)sizeof(struct sockaddr_in) &&
	    len <= (int)sizeof(ss) && trap_read(t, t->args[1], &ss, (size_t)len) == 0 &&
	    as_endpoint_from_sockaddr(&ss, (size_t)len, &e) == 0 && e.port != 0)
		(void)reap_port(t, e.port);
	trap_reply_continue(t);
	if (r == 0)
		sock_done(&s);
}

/* Nothing can arrive at the anchor: connect() is trapped. The filter makes it certain. */
static int drop_all(int fd)
{
	struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog prog = { 1, &drop };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) < 0 ? -errno
										     : 0;
}

/* The socket stays the app's, for listen() again or connect(): it must hear. */
static void drop_none(int fd)
{
	setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &(int){ 0 }, sizeof(int));
}

static struct listener *listener_new(struct trap *t, const struct sock *s)
{
	struct listener *l = listener_alloc();
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct as_endpoint e;
	int v6only = 0;

	if (l == NULL || getsockname(s->fd, (struct sockaddr *)&ss, &len) < 0 ||
	    as_endpoint_from_sockaddr(&ss, len, &e) < 0) {
		listener_free(l);
		return NULL;
	}
	len = sizeof(v6only);
	if (s->domain == AF_INET6)
		getsockopt(s->fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, &len);
	l->app = t->app;
	l->anchor = sock_cookie(s->fd);
	l->anchor_fd = s->fd;
	l->bound = e.addr;
	l->port = e.port;
	l->face = (uint8_t)s->domain;
	l->v6only = v6only != 0;
	l->pid = worker_tgid(t->w, t->tid);
	l->fdno = trap_int(t, 0);
	return l;
}

/* Nobody outside the app's own namespace can reach it there: it stays the kernel's own TCP. */
static bool is_private(const struct app *app, const struct sock *s)
{
	struct listener l = { .app = (struct app *)app, .bound = s->bound.addr };
	struct as_addr vips[2];
	socklen_t len = sizeof(int);
	int v6only = 0;

	if (s->domain == AF_INET6)
		getsockopt(s->fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, &len);
	l.v6only = v6only != 0;
	return listener_vips(&l, vips) == 0;
}

/* The stand-in goes to the app, in place of @old. @ours: nobody else has it, so the listener ends if
 * the app does not get it. Ends @t. */
static void hand_over(struct trap *t, struct listener *l, int old, int *standin, bool ours)
{
	int r = replace_fd(t, trap_int(t, 0), old, *standin);

	if (r == -EAGAIN && trap_valid(t)) {
		/* the target gets no CPU; copies of the old file may be replaced already, so
		 * another round goes on with the same one */
		uint32_t slot = (uint32_t)(t->call - t->sw->st.calls);

		if (ours)
			t->call->fd = fd_steal(standin);
		trap_park(t);
		pool_resume_later(t->sw, slot);
		return;
	}
	/* our copy goes before the reply: the app may close its own at once and bind again */
	cleanup_close(standin);
	*standin = -1;
	if (r < 0 && ours) {
		pthread_mutex_lock(&t->sw->lock);
		if (l->anchor_fd >= 0)
			shutdown(l->anchor_fd, SHUT_RD);
		listener_end(t->sw, l);
		pthread_mutex_unlock(&t->sw->lock);
	}
	if (r == -ENOENT || r == -EAGAIN)
		trap_drop(t);
	else if (r < 0)
		trap_reply_errno(t, -r);
	else
		trap_reply_value(t, 0);
}

static void put_listener(struct trap *t, struct listener *l)
{
	pthread_mutex_lock(&t->sw->lock);
	listener_unref(t->sw, l);
	pthread_mutex_unlock(&t->sw->lock);
}

/* A copy (fork) of a socket that listens already gets the stand-in too; and so does the one for
 * which an earlier round made the stand-in @kept. False if there is none. Ends @t otherwise. */
static bool listen_again(struct trap *t, struct sock *s, int kept)
{
	_cleanup_close_ int standin = kept;
	struct listener *l;

	pthread_mutex_lock(&t->sw->lock);
	l = listener_find(t->sw, sock_cookie(s->fd));
	if (l != NULL)
		listener_ref(l);
	pthread_mutex_unlock(&t->sw->lock);
	if (l == NULL)
		return false;
	if (standin < 0)
		standin = listener_fetch(t, l);
	if (standin < 0) {
		/* an earlier daemon got no further than this */
		pthread_mutex_lock(&t->sw->lock);
		listener_end(t->sw, l);
		listener_unref(t->sw, l);
		pthread_mutex_unlock(&t->sw->lock);
		return false;
	}
	hand_over(t, l, s->fd, &standin, kept >= 0);
	put_listener(t, l);
	return true;
}

/* The app's socket becomes an anchor, with a stand-in for which connections come from now on. With
 * app->listen_lock held: an anchor hears nothing, so nobody may connect to one that is not known yet.
 * 0 and *ret_l, referenced; or -errno and everything as before. */
static int make_listener(struct trap *t, const struct sock *s, struct listener **ret_l,
			 int *ret_standin)
{
	struct listener *l;
	int r = drop_all(s->fd);

	if (r == 0 && listen(s->fd, 1) < 0)
		r = -errno;
	if (r == -EADDRINUSE && reap_port(t, s->bound.port))
		r = listen(s->fd, 1) < 0 ? -errno : 0;
	if (r < 0) {
		drop_none(s->fd);
		return r;
	}
	l = listener_new(t, s);
	r = l == NULL ? -ENOMEM : standin_listen(t->sw, l, ret_standin);
	if (r == 0) {
		replace_options(s->fd, *ret_standin, 0);
		pthread_mutex_lock(&t->sw->lock);
		r = listener_add(t->sw, l);
		if (r == 0)
			listener_ref(l);
		pthread_mutex_unlock(&t->sw->lock);
	}
	if (r < 0) {
		listener_free(l);
		if (r == -ENOBUFS)
			quota_tell(t->app, QUOTA_LISTENERS);
		else
			log_error_limited("app %u: no listener on port %u: %s", t->app->id,
					  s->bound.port, strerror(-r));
		/* out of LISTEN again, still bound */
		shutdown(s->fd, SHUT_RD);
		drop_none(s->fd);
		return r;
	}
	*ret_l = l;
	return 0;
}

static void listen_native(struct trap *t, struct sock *s, int kept)
{
	_cleanup_close_ int standin = -1;
	struct listener *l;
	int accepting = 0, old, r;
	socklen_t len = sizeof(accepting);

	if (getsockopt(s->fd, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &len) == 0 && accepting) {
		if (listen_again(t, s, kept))
			return;
	} else {
		cleanup_close(&kept);
	}
	if (is_private(t->app, s)) {
		t->app->has_private = true;
		trap_reply_continue(t);
		return;
	}
	pthread_mutex_lock(&t->app->listen_lock);
	r = make_listener(t, s, &l, &standin);
	pthread_mutex_unlock(&t->app->listen_lock);
	if (r < 0) {
		trap_reply_errno(t, r == -EMFILE || r == -ENFILE ? ENOBUFS : -r);
		return;
	}
	old = sock_steal(s); /* the listener's now */
	hand_over(t, l, old, &standin, true);
	put_listener(t, l);
}

void handle_listen(struct trap *t)
{
	_cleanup_close_ int kept = -1;
	struct sock s;
	int r = sock_get(t, trap_int(t, 0), &s);

	if (r == 0 && s.kind == SOCK_NATIVE && !pool_claim(t, sock_cookie(s.fd))) {
		sock_done(&s);
		return;
	}
	kept = fd_steal(&t->call->fd); /* of an earlier round, or -1 */
	if (r == -ENOENT) {
		trap_drop(t);
		return;
	}
	if (r < 0) {
		trap_reply_continue(t);
		return;
	}
	if (s.kind == SOCK_NATIVE) {
		listen_native(t, &s, fd_steal(&kept));
	} else if (s.kind == SOCK_LISTENER) {
		replace_resume(t, s.fd);
		trap_reply_value(t, 0);
	} else if (s.kind == SOCK_CONNECTED || s.kind == SOCK_CARRIED ||
		   s.kind == SOCK_REMOTE) {
		trap_reply_errno(t, EINVAL);
	} else {
		trap_reply_continue(t);
	}
	sock_done(&s);
}

void listen_shutdown(struct trap *t, struct sock *s, int kept)
{
	/* of an earlier round: meanwhile a connect that was refused may have ended the listener */
	_cleanup_close_ int anchor = kept;
	struct listener *l;
	int r;

	pthread_mutex_lock(&t->sw->lock);
	l = listener_find(t->sw, s->own.anchor);
	if (anchor < 0 && l != NULL && l->app == t->app)
		anchor = fcntl(l->anchor_fd, F_DUPFD_CLOEXEC, 3);
	pthread_mutex_unlock(&t->sw->lock);
	if (anchor < 0) {
		trap_reply_continue(t);
		return;
	}
	shutdown(anchor, SHUT_RD);
	/* the accepts that wait see the end of the queue */
	shutdown(s->fd, SHUT_RDWR);
	r = replace_fd(t, trap_int(t, 0), s->fd, anchor);
	if (r == -EAGAIN && trap_valid(t)) {
		/* the target gets no CPU: another round later */
		uint32_t slot = (uint32_t)(t->call - t->sw->st.calls);

		t->call->fd = fd_steal(&anchor);
		trap_park(t);
		pool_resume_later(t->sw, slot);
		return;
	}
	if (r == -ENOENT || r == -EAGAIN) {
		/* interrupted: the app has the stand-in, and the repeated call finds the listener */
		trap_drop(t);
		return;
	}
	pthread_mutex_lock(&t->sw->lock);
	l = listener_find(t->sw, s->own.anchor);
	if (l != NULL)
		listener_end(t->sw, l);
	pthread_mutex_unlock(&t->sw->lock);
	trap_reply_value(t, 0);
}

int listener_fetch(struct trap *t, struct listener *l)
{
	struct sock s;
	int pidfd, fd = -1;

	pthread_mutex_lock(&t->sw->lock);
	if (l->watch_fd >= 0)
		fd = fcntl(l->watch_fd, F_DUPFD_CLOEXEC, 3);
	pthread_mutex_unlock(&t->sw->lock);
	if (fd >= 0)
		return fd;
	pidfd = (int)syscall(SYS_pidfd_open, l->pid, 0);
	if (pidfd < 0)
		return -1;
	fd = (int)syscall(SYS_pidfd_getfd, pidfd, l->fdno, 0);
	close(pidfd);
	if (fd < 0)
		return -1;
	sock_classify(t->app, t->sw, fd, &s);
	if (s.kind != SOCK_LISTENER || s.own.anchor != l->anchor) {
		close(fd);
		return -1;
	}
	return fd;
}

void handle_dup(struct trap *t)
{
	struct sock s;

	if (sock_get(t, trap_int(t, 0), &s) == 0) {
		if (s.kind == SOCK_NATIVE)
			replace_note_dup(t, s.fd);
		sock_done(&s);
	}
	trap_reply_continue(t);
}

static int cmp_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

struct anchor {
	uint64_t anchor;
	uint32_t inode;
};

struct anchors {
	struct anchor *v;
	size_t n, cap;
	bool failed;
};

static void on_listening(void *arg, const struct diag_sock *d)
{
	struct anchors *a = arg;

	if (d->name.kind != NAME_LISTENER || !d->listening)
		return;
	if (a->n == a->cap) {
		size_t cap = a->cap ? a->cap * 2 : 64;
		struct anchor *v = realloc(a->v, cap * sizeof(*v));

		if (v == NULL) {
			a->failed = true;
			return;
		}
		a->v = v;
		a->cap = cap;
	}
	a->v[a->n++] = (struct anchor){ d->name.anchor, d->inode };
}

void listen_sweep(struct switch_ctx *sw)
{
	struct anchors a = { 0 };
	uint32_t serial;

	pthread_mutex_lock(&sw->lock);
	serial = sw->listener_serial;
	for (unsigned i = 0; i < ST_LISTENERS; i++) {
		struct listener *l = sw->listeners[i];

		if (l == NULL || l->accepts == NULL)
			continue;
		listener_ref(l);
		pthread_mutex_unlock(&sw->lock);
		accept_check_parked(sw, l);
		pthread_mutex_lock(&sw->lock);
		listener_unref(sw, l);
	}
	pthread_mutex_unlock(&sw->lock);
	if (diag_dump(sw->diag_fd, true, on_listening, &a) < 0 || a.failed) {
		free(a.v);
		return;
	}
	if (a.n > 0)
		qsort(a.v, a.n, sizeof(*a.v), cmp_u64);
	pthread_mutex_lock(&sw->lock);
	for (unsigned i = 0; i < ST_LISTENERS; i++) {
		struct listener *l = sw->listeners[i];

		const struct anchor *seen = NULL;

		/* one made after the dump is not in it */
		if (l == NULL || l->serial > serial)
			continue;
		if (a.n > 0)
			seen = bsearch(&l->anchor, a.v, a.n, sizeof(*a.v), cmp_u64);
		if (seen != NULL) {
			l->inode = seen->inode;
			l->missed = 0;
		} else if (l->inode != 0 ? !diag_exists(sw->diag_fd, l->inode)
					 : ++l->missed > 1) {
			listener_end(sw, l);
		}
	}
	pthread_mutex_unlock(&sw->lock);
	free(a.v);
}
