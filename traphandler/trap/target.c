#include "traphandler/trap/target.h"

#include "traphandler/trap/pool.h"

#include <appswitch/util.h>

#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

#define MAX_EPOLLS 32

/* Items; more cost more than a connection by TCP does (tests/bench: connect, others). */
#define LARGE 128

struct proc {
	struct proc *next;
	int tgid;
	bool stale;
	int n;
	int epolls[MAX_EPOLLS];
	unsigned items[MAX_EPOLLS]; /* when last looked; 0: never */
	unsigned asked[MAX_EPOLLS]; /* since then */
};

void target_cache_init(struct target_cache *c)
{
	struct rlimit rl;

	c->n = TARGET_CACHE;
	/* at most an eighth of the descriptors for the caches of MAX_GROUPS workers */
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur / 512 < TARGET_CACHE)
		c->n = rl.rlim_cur < 1024 ? 2 : (int)(rl.rlim_cur / 512);
	for (int i = 0; i < TARGET_CACHE; i++)
		c->slot[i].pidfd = -1;
}

void target_cache_done(struct target_cache *c)
{
	for (int i = 0; i < TARGET_CACHE; i++)
		cleanup_close(&c->slot[i].pidfd);
}

static int read_tgid(int tid)
{
	char path[64], buf[512];
	const char *p;
	_cleanup_close_ int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, buf, sizeof(buf) - 1);
	if (n <= 0)
		return -ESRCH;
	buf[n] = '\0';
	p = strstr(buf, "\nTgid:");
	return p != NULL ? atoi(p + 6) : -ESRCH;
}

int target_pidfd(struct target_cache *c, int tid, bool fresh)
{
	int i = tid % c->n, fd;

	if (!fresh && c->slot[i].pidfd >= 0 && c->slot[i].tid == tid)
		return c->slot[i].pidfd;
	cleanup_close(&c->slot[i].pidfd);
	c->slot[i].pidfd = -1;
	fd = (int)syscall(SYS_pidfd_open, tid, PIDFD_THREAD);
	if (fd < 0 && errno == EINVAL) {
		/* before 6.9: only of a process, so the thread's process must be asked for */
		int tgid = read_tgid(tid);

		if (tgid < 0)
			return tgid;
		fd = (int)syscall(SYS_pidfd_open, tgid, 0);
	}
	if (fd < 0)
		return -errno;
	c->slot[i].tid = tid;
	c->slot[i].tgid = 0;
	c->slot[i].pidfd = fd;
	return fd;
}

int target_tgid(struct target_cache *c, int tid)
{
	int i = tid % c->n, tgid;

	if (c->slot[i].pidfd >= 0 && c->slot[i].tid == tid && c->slot[i].tgid > 0)
		return c->slot[i].tgid;
	tgid = read_tgid(tid);
	if (tgid > 0 && c->slot[i].tid == tid)
		c->slot[i].tgid = tgid;
	return tgid;
}

bool target_net_admin(struct trap *t)
{
	char path[64], buf[4096];
	const char *p;
	_cleanup_close_ int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/status", t->tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);
	if (n <= 0)
		return false;
	buf[n] = '\0';
	p = strstr(buf, "\nCapEff:");
	return p != NULL && (strtoull(p + 8, NULL, 16) >> CAP_NET_ADMIN & 1);
}

static struct proc *proc_get(struct app *app, int tgid, bool make)
{
	struct proc *p = app->procs;
	unsigned n = 0;

	for (; p != NULL; p = p->next, n++) {
		if (p->tgid == tgid)
			return p;
	}
	if (!make)
		return NULL;
	if (n > 256) {
		/* processes that ended are not told to us: start over, a scan each */
		target_forget_app(app);
	}
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		return NULL;
	p->tgid = tgid;
	p->stale = true;
	p->next = app->procs;
	app->procs = p;
	return p;
}

void target_forget_app(struct app *app)
{
	while (app->procs != NULL) {
		struct proc *p = app->procs;

		app->procs = p->next;
		free(p);
	}
}

void target_note_epoll(struct trap *t)
{
	t->app->has_epoll = true;
	target_epolls_stale(t);
}

void target_epolls_stale(struct trap *t)
{
	int tgid = worker_tgid(t->w, t->tid);
	struct proc *p;

	pthread_mutex_lock(&t->sw->lock);
	p = tgid > 0 ? proc_get(t->app, tgid, false) : NULL;
	if (p != NULL)
		p->stale = true;
	pthread_mutex_unlock(&t->sw->lock);
}

static int scan(int tgid, int *ret, int max)
{
	char path[64], link[32];
	struct dirent *d;
	DIR *dir;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", tgid);
	dir = opendir(path);
	if (dir == NULL)
		return -errno;
	while (n < max && (d = readdir(dir)) != NULL) {
		ssize_t len = readlinkat(dirfd(dir), d->d_name, link, sizeof(link));

		if (len == 22 && memcmp(link, "anon_inode:[eventpoll]", 22) == 0)
			ret[n++] = atoi(d->d_name);
	}
	closedir(dir);
	return n;
}

int target_epolls(struct trap *t, int *ret, int max)
{
	int found[MAX_EPOLLS], n, tgid = worker_tgid(t->w, t->tid);
	struct proc *p;
	bool stale;

	if (tgid < 0)
		return tgid;
	if (max > MAX_EPOLLS)
		max = MAX_EPOLLS;
	pthread_mutex_lock(&t->sw->lock);
	p = proc_get(t->app, tgid, true);
	stale = p == NULL || p->stale;
	n = p != NULL && p->n < max ? p->n : max;
	if (p != NULL && !stale)
		memcpy(ret, p->epolls, (size_t)n * sizeof(*ret));
	pthread_mutex_unlock(&t->sw->lock);
	if (!stale)
		return n;
	n = scan(tgid, found, MAX_EPOLLS);
	if (n < 0)
		return n;
	pthread_mutex_lock(&t->sw->lock);
	p = proc_get(t->app, tgid, true);
	if (p != NULL) {
		memset(p->items, 0, sizeof(p->items));
		memcpy(p->epolls, found, (size_t)n * sizeof(*found));
		p->n = n;
		p->stale = false;
	}
	pthread_mutex_unlock(&t->sw->lock);
	if (n > max)
		n = max;
	memcpy(ret, found, (size_t)n * sizeof(*ret));
	return n;
}

/* Under sw->lock: the index of @epfd in what is known of the calling process, or -1. */
static int find_epoll(struct trap *t, int epfd, struct proc **ret)
{
	int tgid = worker_tgid(t->w, t->tid);

	*ret = tgid > 0 ? proc_get(t->app, tgid, false) : NULL;
	for (int i = 0; *ret != NULL && i < (*ret)->n; i++) {
		if ((*ret)->epolls[i] == epfd)
			return i;
	}
	return -1;
}

void target_epoll_measured(struct trap *t, int epfd, unsigned items)
{
	struct proc *p;
	int i;

	if (items > LARGE)
		t->app->large_epoll = true;
	pthread_mutex_lock(&t->sw->lock);
	i = find_epoll(t, epfd, &p);
	if (i >= 0) {
		p->items[i] = items;
		p->asked[i] = 0;
	}
	pthread_mutex_unlock(&t->sw->lock);
}

bool target_epoll_large(struct trap *t, int epfd)
{
	struct proc *p;
	bool large = false;
	int i;

	pthread_mutex_lock(&t->sw->lock);
	i = find_epoll(t, epfd, &p);
	if (i >= 0 && p->items[i] > LARGE)
		large = p->asked[i]++ < p->items[i];
	pthread_mutex_unlock(&t->sw->lock);
	return large;
}
