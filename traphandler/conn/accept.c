/* accept() on a stand-in listener.
 *
 *   take     a connection out of the listener's queue, or one that an earlier accept() could
 *            not be given (ST_ACCEPTED from here on)
 *   tell     write the client's virtual address to the caller
 *   hand     over (deliver.h)
 * A blocking accept() that finds nothing is parked: its call slot waits on the listener, a copy
 * of which is watched (as natively, where the call holds the file). */
#include "traphandler/conn/accept.h"

#include "traphandler/conn/backlog.h"
#include "traphandler/conn/closer.h"
#include "traphandler/conn/deliver.h"
#include "traphandler/conn/face.h"
#include "traphandler/conn/listen.h"
#include "traphandler/conn/replace.h"
#include "traphandler/conn/standin.h"
#include "traphandler/conn/waiting.h"
#include "traphandler/service/registry.h"
#include "traphandler/trap/readers.h"

#include <appswitch/log.h>
#include <appswitch/util.h>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

struct parked {
	struct parked *next;
	uint32_t slot;
};

static atomic_uint n_deadlines;

/* ---- taking from the queue ---- */

/* Who is at the other end of an accepted connection. */
static struct as_endpoint client_of(const struct switch_ctx *sw, int fd)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);
	struct as_endpoint e = { 0 };
	struct sock conn;

	sock_classify(NULL, sw, fd, &conn);
	if (conn.kind == SOCK_CONNECTED || conn.kind == SOCK_REMOTE)
		return standin_remote(&conn);
	/* TCP; the client may have reset it meanwhile, then nobody knows */
	if (getpeername(fd, (struct sockaddr *)&ss, &len) == 0)
		(void)as_endpoint_from_sockaddr(&ss, len, &e);
	return e;
}

#define RUNG 1 /* no connection came, but something that says: look at the deliveries */

/* The next client's connection from @listening. 0, RUNG, -EAGAIN, -EINVAL (shut down), -EMFILE, … */
static int take_connection(struct switch_ctx *sw, struct listener *l, int listening, int flags,
			   int *ret_fd, struct as_endpoint *ret_client)
{
	for (;;) {
		struct pollfd p = { .fd = listening, .events = POLLIN };
		struct standin_name name;
		struct sockaddr_un un;
		socklen_t len = sizeof(un);
		_cleanup_close_ int fd = -1;
		int r = -EAGAIN;

		/* the file's blocking mode is the app's to choose, so accept4() may block:
		 * look first, and let nobody in between */
		pthread_mutex_lock(&l->accept_lock);
		if (poll(&p, 1, 0) == 1) {
			fd = accept4(listening, (struct sockaddr *)&un, &len,
				     flags | SOCK_CLOEXEC);
			r = fd < 0 ? -errno : 0;
		}
		pthread_mutex_unlock(&l->accept_lock);
		if (r < 0)
			return r == -EINTR ? -EAGAIN : r;
		if (l->full != NULL) {
			pthread_mutex_lock(&sw->lock);
			backlog_retry_next(sw, l);
			pthread_mutex_unlock(&sw->lock);
		}
		if (name_decode(&un, len, &name) == NAME_NONE || !standin_genuine(sw, fd))
			continue;
		if (name.kind == NAME_CARRIER)
			waiting_carrier_taken(sw, l);
		if (name.kind != NAME_CLIENT)
			return RUNG; /* for what was delivered before that */
		standin_tune(sw, fd, true);
		*ret_client = name.client;
		*ret_fd = fd_steal(&fd);
		return 0;
	}
}

/* ---- handing over ---- */

/* @at: see deliver.h */
static void tell_and_hand_over(struct trap *t, struct listener *l, int listening, int at,
			       const struct as_endpoint *client)
{
	int fd = t->call->fd, r = 0;

	if (t->args[1] != 0)
		r = face_write_addr(t, t->args[1], t->args[2], client, l->face);
	if (r == -ENOENT) {
		t->call->fd = -1;
		trap_drop(t);
		deliver_put_back(t, l, at, fd);
		return;
	}
	if (r < 0) {
		/* as the kernel does: the connection is lost with the bad pointer */
		t->call->fd = -1;
		if (at >= 0)
			shutdown(fd, SHUT_RDWR); /* the app has it, and will never know */
		close(fd);
		trap_reply_errno(t, -r);
		return;
	}
	inherit_apply(&l->inherit, listening, fd);
	deliver_connection(t, l, at);
}

/* ---- waiting ---- */

static uint64_t accept_deadline(int fd)
{
	struct timeval tv = { 0 };
	socklen_t len = sizeof(tv);

	if (getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, &len) < 0 ||
	    (tv.tv_sec == 0 && tv.tv_usec == 0))
		return 0;
	return now_ns() + (uint64_t)tv.tv_sec * 1000000000u + (uint64_t)tv.tv_usec * 1000u;
}

/* Under sw->lock: the first that waits. The file that those who wait hold goes to the last in
 * *ret_fd; else that is -1. */
static uint32_t pop_parked(struct switch_ctx *sw, struct listener *l, int *ret_fd)
{
	struct parked *p = l->accepts;
	uint32_t slot = p->slot;

	__atomic_store_n(&l->accepts, p->next, __ATOMIC_RELAXED);
	free(p);
	if (sw->st.calls[slot].deadline_ns != 0)
		atomic_fetch_sub(&n_deadlines, 1);
	*ret_fd = -1;
	if (l->accepts == NULL && l->watch_fd >= 0) {
		group_unwatch_listener(l);
		*ret_fd = l->watch_fd;
		l->watch_fd = -1;
	}
	return slot;
}

/* The same, of which only the slot is wanted. */
static uint32_t drop_parked(struct switch_ctx *sw, struct listener *l)
{
	int fd;
	uint32_t slot = pop_parked(sw, l, &fd);

	if (fd >= 0)
		closer_put(sw, l->app, fd);
	return slot;
}

/* Under sw->lock: the first that waits and was not interrupted, ready to be serviced; or -1. */
static int take_parked(struct switch_ctx *sw, struct listener *l)
{
	while (l->accepts != NULL) {
		struct st_call *call = &sw->st.calls[l->accepts->slot];
		uint32_t slot;

		if (call_over(l->app, call)) {
			app_note_interrupted(l->app);
			pool_free_slot(sw, drop_parked(sw, l));
			continue;
		}
		/* the call needs the file even if the app has closed its number */
		slot = pop_parked(sw, l, &call->fd);
		if (call->fd < 0 && l->watch_fd >= 0)
			call->fd = fcntl(l->watch_fd, F_DUPFD_CLOEXEC, 3);
		call->stage = ST_READY;
		return (int)slot;
	}
	return -1;
}

/* Under sw->lock: if something is in the queue, one that waits comes for it. */
static void wake_for_queue(struct switch_ctx *sw, struct listener *l)
{
	struct pollfd p = { .fd = l->watch_fd, .events = POLLIN };
	int slot;

	if (l->accepts == NULL || poll(&p, 1, 0) <= 0)
		return;
	slot = take_parked(sw, l);
	if (slot >= 0)
		pool_resume_locked(sw, (uint32_t)slot);
}

/* Takes @listening (ours) if it becomes the one that those who wait hold. */
static void park_accept(struct trap *t, struct listener *l, struct sock *listening)
{
	struct parked *p = malloc(sizeof(*p));
	struct parked **tail;
	int r = 0;

	if (p == NULL || (t->call->deadline_ns != 0 && now_ns() >= t->call->deadline_ns)) {
		trap_reply_errno(t, p == NULL ? ENOMEM : EAGAIN);
		free(p);
		return;
	}
	if (t->call->deadline_ns == 0)
		t->call->deadline_ns = accept_deadline(listening->fd);
	t->call->cookie = l->anchor;
	p->slot = (uint32_t)(t->call - t->sw->st.calls);
	p->next = NULL;
	pthread_mutex_lock(&t->sw->lock);
	if (l->gone) {
		pthread_mutex_unlock(&t->sw->lock);
		free(p);
		trap_reply_errno(t, EINVAL);
		return;
	}
	if (t->call->deadline_ns != 0)
		atomic_fetch_add(&n_deadlines, 1);
	trap_park(t);
	for (tail = &l->accepts; *tail != NULL;) {
		struct parked *old = *tail;
		const struct st_call *call = &t->sw->st.calls[old->slot];

		if ((int)call->notif.pid != t->tid) {
			tail = &old->next;
			continue;
		}
		/* a thread makes one call at a time: that one was interrupted. Behind one that waits
		 * on nobody else looks at it, and each signal leaves another */
		if (call->deadline_ns != 0)
			atomic_fetch_sub(&n_deadlines, 1);
		app_note_interrupted(l->app);
		pool_free_slot(t->sw, old->slot);
		__atomic_store_n(tail, old->next, __ATOMIC_RELAXED);
		free(old);
	}
	__atomic_store_n(tail, p, __ATOMIC_SEQ_CST); /* nobody_waits() */
	if (l->watch_fd < 0) {
		l->watch_fd = sock_steal(listening);
		r = group_watch_listener(l);
	}
	/* one that came after the look and before this: whoever connected saw nobody wait */
	wake_for_queue(t->sw, l);
	pthread_mutex_unlock(&t->sw->lock);
	if (r < 0)
		log_error_limited("app %u: its accept() would not notice a shutdown(): %s",
				  t->app->id, strerror(-r));
}

void accept_shut_down(struct switch_ctx *sw, uint32_t listener)
{
	struct listener *l;
	int slot;

	pthread_mutex_lock(&sw->lock);
	l = sw->listeners[listener];
	while (l != NULL && (slot = take_parked(sw, l)) >= 0)
		pool_resume_locked(sw, (uint32_t)slot);
	pthread_mutex_unlock(&sw->lock);
}

/* A look without the lock: who parks looks at the queue afterwards (wake_for_queue()), so one of the two sees
 * the other. */
static bool nobody_waits(const struct listener *l)
{
	return __atomic_load_n(&l->accepts, __ATOMIC_SEQ_CST) == NULL;
}

void accept_arrived(struct switch_ctx *sw, struct listener *l)
{
	int slot;

	if (nobody_waits(l))
		return;
	pthread_mutex_lock(&sw->lock);
	slot = take_parked(sw, l);
	if (slot >= 0)
		pool_resume_locked(sw, (uint32_t)slot);
	pthread_mutex_unlock(&sw->lock);
}

static bool wants_nonblock(const struct seccomp_notif *n)
{
	return n->data.nr == SYS_accept4 && (n->data.args[3] & SOCK_NONBLOCK);
}

bool accept_give(struct switch_ctx *sw, struct listener *l, int fd)
{
	struct st_call *call;

	if (l->accepts == NULL)
		return false;
	accept_check_parked(sw, l);
	pthread_mutex_lock(&sw->lock);
	if (l->accepts == NULL || l->gone || l->deliveries != NULL) {
		pthread_mutex_unlock(&sw->lock);
		return false;
	}
	inherit_apply(&l->inherit, l->watch_fd, fd);
	call = &sw->st.calls[drop_parked(sw, l)];
	fcntl(fd, F_SETFL, wants_nonblock(&call->notif) ? O_NONBLOCK : 0);
	call->fd = fd;
	call->cookie = l->anchor;
	call->stage = ST_ACCEPTED;
	pool_resume_locked(sw, (uint32_t)(call - sw->st.calls));
	pthread_mutex_unlock(&sw->lock);
	return true;
}

void accept_check_parked(struct switch_ctx *sw, struct listener *l)
{
	if (nobody_waits(l))
		return;
	pthread_mutex_lock(&sw->lock);
	while (l->accepts != NULL && call_over(l->app, &sw->st.calls[l->accepts->slot])) {
		app_note_interrupted(l->app);
		pool_free_slot(sw, drop_parked(sw, l));
	}
	pthread_mutex_unlock(&sw->lock);
}

bool accept_has_deadlines(void)
{
	return n_deadlines > 0;
}

void accept_tick(struct switch_ctx *sw)
{
	uint64_t now = now_ns();

	for (unsigned i = 0; n_deadlines > 0 && i < ST_LISTENERS; i++) {
		struct listener *l;

		pthread_mutex_lock(&sw->lock);
		l = sw->listeners[i];
		for (struct parked **p = l != NULL ? &l->accepts : NULL;
		     p != NULL && *p != NULL; p = &(*p)->next) {
			struct st_call *call = &sw->st.calls[(*p)->slot];
			struct parked *gone = *p;

			if (call->deadline_ns == 0 || call->deadline_ns > now)
				continue;
			/* a worker looks once more and answers: the main thread waits for no app */
			if (l->watch_fd >= 0)
				call->fd = fcntl(l->watch_fd, F_DUPFD_CLOEXEC, 3);
			call->stage = ST_READY;
			pool_resume_locked(sw, (uint32_t)(call - sw->st.calls));
			atomic_fetch_sub(&n_deadlines, 1);
			__atomic_store_n(p, gone->next, __ATOMIC_RELAXED);
			free(gone);
			if (l->accepts == NULL && l->watch_fd >= 0) {
				group_unwatch_listener(l);
				closer_put(sw, l->app, l->watch_fd);
				l->watch_fd = -1;
			}
			i--; /* this listener may have more */
			break;
		}
		pthread_mutex_unlock(&sw->lock);
	}
}

void accept_listener_gone(struct switch_ctx *sw, struct listener *l)
{
	while (l->accepts != NULL) {
		uint32_t slot = drop_parked(sw, l);

		/* a listener that was shut down: its accepts look again and see it */
		if (l->app->ended)
			pool_free_slot(sw, slot);
		else
			pool_resume_locked(sw, slot);
	}
	deliver_listener_gone(sw, l);
	waiting_listener_gone(sw, l);
	backlog_retry_all(sw, l);
}

/* ---- the call ---- */

/* What was delivered, else TCP that waits, else what is in the queue. Once more after a bell: it rang for a delivery that
 * was made after the first look. */
static int take_next(struct trap *t, struct listener *l, int listening, int flags, int *ret_fd,
		     int *ret_at, struct as_endpoint *ret_client)
{
	int r;

	do {
		if (deliver_take(t, l, ret_fd, ret_at)) {
			*ret_client = client_of(t->sw, *ret_fd);
			fcntl(*ret_fd, F_SETFL, flags & SOCK_NONBLOCK ? O_NONBLOCK : 0);
			return 0;
		}
		*ret_at = -1;
		if (waiting_take(t->sw, l, listening, ret_fd, ret_client)) {
			fcntl(*ret_fd, F_SETFL, flags & SOCK_NONBLOCK ? O_NONBLOCK : 0);
			return 0;
		}
		r = take_connection(t->sw, l, listening, flags, ret_fd, ret_client);
	} while (r == RUNG);
	return r;
}

/* False: it failed, and whatever is in the queue is still there. */
static bool accept_from(struct trap *t, struct listener *l, struct sock *listening)
{
	int flags = t->nr == SYS_accept4 ? trap_int(t, 3) & SOCK_NONBLOCK : 0;
	struct as_endpoint client;
	int fd, at = -1, r = take_next(t, l, listening->fd, flags, &fd, &at, &client);

	if (r == -EAGAIN) {
		int mode = fcntl(listening->fd, F_GETFL);

		if (mode >= 0 && (mode & O_NONBLOCK))
			trap_reply_errno(t, EAGAIN);
		else
			park_accept(t, l, listening);
		return true;
	}
	if (r == -EMFILE || r == -ENFILE) {
		log_error_limited(
			"app %u: no file descriptors left for a connection (raise the "
			"daemon's RLIMIT_NOFILE)",
			t->app->id);
		r = -ENFILE;
	}
	if (r < 0) {
		trap_reply_errno(t, -r);
		return false;
	}
	t->call->fd = fd;
	t->call->cookie = l->anchor;
	t->call->stage = ST_ACCEPTED;
	tell_and_hand_over(t, l, listening->fd, at, &client);
	return true;
}

/* The listener behind a copy of a stand-in listener, referenced; NULL if it is not this app's. */
static struct listener *listener_of(struct trap *t, uint64_t anchor)
{
	struct listener *l;

	pthread_mutex_lock(&t->sw->lock);
	l = listener_find(t->sw, anchor);
	if (l != NULL && l->app == t->app)
		listener_ref(l);
	else
		l = NULL;
	pthread_mutex_unlock(&t->sw->lock);
	return l;
}

/* An earlier round, or an earlier daemon, took a connection already. */
static void resume_accepted(struct trap *t)
{
	struct listener *l = listener_of(t, t->call->cookie);
	struct as_endpoint client;

	if (deliver_resume(t, l)) {
		/* the app has it */
	} else if (l == NULL) {
		cleanup_close(&t->call->fd);
		t->call->fd = -1;
		trap_reply_errno(t, ECONNABORTED); /* it may still wait */
	} else {
		/* the address may not have been written yet */
		client = client_of(t->sw, t->call->fd);
		tell_and_hand_over(t, l, -1, -1, &client);
	}
	if (l != NULL) {
		pthread_mutex_lock(&t->sw->lock);
		listener_unref(t->sw, l);
		pthread_mutex_unlock(&t->sw->lock);
	}
}

static void accept_native(struct trap *t, struct sock *s, int fdno)
{
	struct listener *l = NULL;
	int accepting = 0, standin = -1;
	socklen_t len = sizeof(accepting);

	/* the app's first process listened through another copy of the file: this is the anchor */
	if (s->kind == SOCK_NATIVE &&
	    getsockopt(s->fd, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &len) == 0 && accepting)
		l = listener_of(t, sock_cookie(s->fd));
	if (l != NULL)
		standin = listener_fetch(t, l);
	if (standin < 0) {
		trap_reply_continue(t);
	} else {
		struct sock copy = { .fd = standin };

		replace_fd(t, fdno, s->fd, standin);
		(void)accept_from(t, l, &copy);
		standin = copy.fd;
	}
	cleanup_close(&standin);
	if (l != NULL) {
		pthread_mutex_lock(&t->sw->lock);
		listener_unref(t->sw, l);
		pthread_mutex_unlock(&t->sw->lock);
	}
}

/* One that waited was called for a connection and did not take it: it is the next one's. */
static void pass_on(struct switch_ctx *sw, uint64_t anchor)
{
	struct listener *l;

	pthread_mutex_lock(&sw->lock);
	l = listener_find(sw, anchor);
	if (l != NULL)
		wake_for_queue(sw, l);
	pthread_mutex_unlock(&sw->lock);
}

void handle_accept(struct trap *t)
{
	bool called = t->call->stage == ST_READY, served = false;
	uint64_t waited_on = t->call->cookie;
	int fdno = trap_int(t, 0), r;
	struct listener *l = NULL;
	struct sock s;

	if (t->call->stage == ST_ACCEPTED || t->call->stage == ST_INSTALLED) {
		resume_accepted(t);
		return;
	}
	if (t->call->stage == ST_READY && t->call->fd >= 0) {
		sock_classify(t->app, t->sw, t->call->fd, &s);
		s.owner = t;
		t->copy = t->call->fd;
		t->call->fd = -1;
		t->call->stage = ST_RECEIVED;
	} else if ((r = sock_get(t, fdno, &s)) < 0) {
		if (r == -ENOENT)
			trap_drop(t);
		else if (r == -EMFILE)
			trap_reply_errno(t, ENFILE);
		else
			trap_reply_continue(t);
		if (called)
			pass_on(t->sw, waited_on);
		return;
	}
	if (t->nr == SYS_accept4 && (trap_int(t, 3) & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) != 0) {
		trap_reply_errno(t, EINVAL);
	} else if (s.kind == SOCK_CONNECTED || s.kind == SOCK_REMOTE) {
		trap_reply_errno(t, EINVAL);
	} else if (s.kind != SOCK_LISTENER) {
		accept_native(t, &s, fdno);
	} else {
		l = listener_of(t, s.own.anchor);
		if (l == NULL)
			trap_reply_errno(t, EINVAL);
		else
			served = accept_from(t, l, &s);
	}
	if (called && !served)
		pass_on(t->sw, waited_on);
	if (l != NULL) {
		pthread_mutex_lock(&t->sw->lock);
		listener_unref(t->sw, l);
		pthread_mutex_unlock(&t->sw->lock);
	}
	sock_done(&s);
}
