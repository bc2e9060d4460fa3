#include "traphandler/conn/deliver.h"

#include "traphandler/conn/accept.h"
#include "traphandler/conn/closer.h"
#include "traphandler/conn/standin.h"
#include "traphandler/trap/pool.h"

#include <appswitch/log.h>
#include <appswitch/util.h>

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

struct delivery {
	struct delivery *next;
	int fd; /* ours, for anybody; or -1: it sits in the process below */
	int tgid, at;
	uint64_t cookie;
};

static void add(struct listener *l, const struct delivery *d)
{
	struct delivery *copy = malloc(sizeof(*copy));

	if (copy == NULL || l->gone) {
		cleanup_close(&d->fd);
		free(copy);
		return;
	}
	*copy = *d;
	copy->next = NULL;
	struct delivery **p = &l->deliveries;
	while (*p != NULL)
		p = &(*p)->next;
	*p = copy;
}

void deliver_requeue_locked(struct listener *l, int fd)
{
	struct delivery d = { .fd = fd };

	add(l, &d);
}

void deliver_requeue(struct trap *t, struct listener *l, int fd)
{
	standin_note_given(t->sw, fd, false);
	pthread_mutex_lock(&t->sw->lock);
	deliver_requeue_locked(l, fd);
	pthread_mutex_unlock(&t->sw->lock);
	standin_ring(l);
	accept_arrived(t->sw, l);
}

static void remember_installed(struct trap *t, struct listener *l, int at, uint64_t cookie)
{
	struct delivery d = { .fd = -1, .at = at, .cookie = cookie };

	d.tgid = worker_tgid(t->w, t->tid);
	pthread_mutex_lock(&t->sw->lock);
	add(l, &d);
	pthread_mutex_unlock(&t->sw->lock);
	standin_ring(l);
	accept_arrived(t->sw, l);
}

void deliver_put_back(struct trap *t, struct listener *l, int at, int fd)
{
	if (at < 0) {
		deliver_requeue(t, l, fd);
		return;
	}
	remember_installed(t, l, at, sock_cookie(fd));
	close(fd);
}

/* The first that is for anybody or for @tgid, or NULL. */
static struct delivery *pop(struct switch_ctx *sw, struct listener *l, int tgid)
{
	struct delivery **p, *d;

	pthread_mutex_lock(&sw->lock);
	p = &l->deliveries;
	while (*p != NULL && (*p)->fd < 0 && (*p)->tgid != tgid)
		p = &(*p)->next;
	d = *p;
	if (d != NULL)
		*p = d->next;
	pthread_mutex_unlock(&sw->lock);
	return d;
}

bool deliver_take(struct trap *t, struct listener *l, int *ret_fd, int *ret_at)
{
	struct delivery *d;
	bool found = false;
	int tgid;

	if (l->deliveries == NULL)
		return false;
	tgid = worker_tgid(t->w, t->tid);
	while (!found && (d = pop(t->sw, l, tgid)) != NULL) {
		*ret_fd = d->fd;
		*ret_at = -1;
		if (d->fd < 0 && trap_getfd(t, d->at, ret_fd) == 0) {
			*ret_at = d->at;
			/* the app may have closed what it found, and opened something else */
			if (sock_cookie(*ret_fd) != d->cookie) {
				close(*ret_fd);
				*ret_fd = -1;
			}
		}
		found = *ret_fd >= 0;
		free(d);
	}
	return found;
}

/* An accept() that was interrupted between installation and answer, and is not made again: the app
 * does not know the number and so never closes it. The client shall not wait for that. */
static void end_installed(struct switch_ctx *sw, struct app *app, const struct delivery *d)
{
	_cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, d->tgid, 0);
	int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, d->at, 0);

	if (fd >= 0 && sock_cookie(fd) == d->cookie)
		shutdown(fd, SHUT_RDWR);
	/* the app may have put any file there */
	if (fd >= 0)
		closer_put(sw, app, fd);
}

void deliver_listener_gone(struct switch_ctx *sw, struct listener *l)
{
	while (l->deliveries != NULL) {
		struct delivery *d = l->deliveries;

		l->deliveries = d->next;
		if (d->fd < 0)
			end_installed(sw, l->app, d);
		cleanup_close(&d->fd);
		free(d);
	}
}

/* The number at which the target has the socket @fd, or -1. Only after a restart. */
static int find_installed(struct trap *t, int fd)
{
	char path[64], want[48], link[48];
	struct stat sb;
	struct dirent *d;
	DIR *dir;
	int found = -1;

	if (fstat(fd, &sb) < 0)
		return -1;
	snprintf(want, sizeof(want), "socket:[%lu]", (unsigned long)sb.st_ino);
	snprintf(path, sizeof(path), "/proc/%d/fd", t->tid);
	dir = opendir(path);
	while (dir != NULL && found < 0 && (d = readdir(dir)) != NULL) {
		ssize_t len = readlinkat(dirfd(dir), d->d_name, link, sizeof(link) - 1);

		if (len > 0 && (link[len] = '\0', strcmp(link, want) == 0))
			found = atoi(d->d_name);
	}
	if (dir != NULL)
		closedir(dir);
	return found;
}

/* The app has it at @at and is told so. Our copy goes first: the app may close its own at once, and
 * with the last copy go its epoll items and, for the client, the connection. */
static void tell_number(struct trap *t, struct listener *l, int at, int fd)
{
	uint64_t cookie = fd >= 0 ? sock_cookie(fd) : 0;

	t->call->at = at;
	t->call->stage = ST_INSTALLED; /* before it names no descriptor */
	t->call->fd = -1;
	cleanup_close(&fd);
	if (trap_send_value(t, at) == -ENOENT && l != NULL)
		remember_installed(t, l, at, cookie);
	trap_end(t);
}

static void try_later(struct trap *t)
{
	uint32_t slot = (uint32_t)(t->call - t->sw->st.calls);

	log_debug("app %u: thread %d did not take its connection in time; again", t->app->id,
		  t->tid);
	trap_park(t);
	pool_resume_later(t->sw, slot);
}

/* Nothing was installed: the connection stays with the listener. */
static void not_delivered(struct trap *t, struct listener *l, int error)
{
	int fd = t->call->fd;

	/* first the mark: with the slot gone it is all that a later daemon knows */
	standin_note_given(t->sw, fd, false);
	t->call->fd = -1;
	deliver_requeue(t, l, fd);
	if (error == -ENOENT || error == -EAGAIN)
		trap_drop(t);
	else
		trap_reply_errno(t, -error);
}

static void deliver_quick(struct trap *t, struct listener *l, bool cloexec)
{
	int fd = t->call->fd, at = trap_addfd(t, fd, -1, cloexec);

	if (at == -EAGAIN && trap_valid(t)) {
		try_later(t);
	} else if (at < 0) {
		not_delivered(t, l, at);
	} else {
		tell_number(t, l, at, fd);
	}
}

static void deliver_careful(struct trap *t, struct listener *l, int at, bool cloexec)
{
	int fd = t->call->fd, r = trap_addfd_send(t, fd, at, cloexec);

	if (r >= 0) {
		close(fd);
		trap_end(t);
	} else if (at >= 0 && r != -ENOENT) {
		tell_number(t, l, at, fd); /* it has it, and waits for the answer */
	} else if (r == -EAGAIN) {
		deliver_quick(t, l, cloexec);
	} else if (at >= 0) {
		remember_installed(t, l, at, sock_cookie(fd));
		close(fd);
		t->call->fd = -1;
		trap_drop(t);
	} else {
		not_delivered(t, l, r);
	}
}

void deliver_connection(struct trap *t, struct listener *l, int at)
{
	bool cloexec = t->nr == SYS_accept4 && (trap_int(t, 3) & SOCK_CLOEXEC);

	/* from here on a copy of it in a killed daemon is no connection that nobody has */
	standin_note_given(t->sw, t->call->fd, true);
	if (at >= 0 || app_interrupted_lately(t->app))
		deliver_careful(t, l, at, cloexec);
	else
		deliver_quick(t, l, cloexec);
}

bool deliver_resume(struct trap *t, struct listener *l)
{
	int fd = t->call->fd, at;

	if (t->call->stage == ST_INSTALLED) {
		/* told or not, it is the app's */
		tell_number(t, NULL, t->call->at, fd);
	} else if ((at = find_installed(t, fd)) >= 0) {
		tell_number(t, l, at, fd);
	} else {
		return false;
	}
	return true;
}
