#include "traphandler/conn/replace.h"

#include "traphandler/conn/epoll_readd.h"
#include "traphandler/service/quota.h"
#include "traphandler/service/sockrec.h"
#include "traphandler/trap/pool.h"
#include "traphandler/trap/readers.h"

#include <appswitch/log.h>
#include <appswitch/util.h>

#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif

/* In the option records of a socket: it has been dup'd. No real level has this number. */
#define LEVEL_OWN  0xffff
#define OWN_DUPPED 1

#define MAX_ITEMS  32
#define MAX_COPIES 16

static void copy_opt(int from, int to, int name, const void *dflt, socklen_t size)
{
	char v[64] = { 0 };
	socklen_t len = size;

	if (getsockopt(from, SOL_SOCKET, name, v, &len) == 0 && memcmp(v, dflt, size) != 0)
		setsockopt(to, SOL_SOCKET, name, v, len);
}

void replace_sockopts(int old, int fd)
{
	static const int zero, one = 1;
	static const struct linger no_linger;
	static const struct timeval no_time;
	int locks = 0;
	socklen_t len = sizeof(locks);

	copy_opt(old, fd, SO_KEEPALIVE, &zero, sizeof(int));
	copy_opt(old, fd, SO_REUSEADDR, &zero, sizeof(int));
	copy_opt(old, fd, SO_LINGER, &no_linger, sizeof(no_linger));
	copy_opt(old, fd, SO_RCVTIMEO, &no_time, sizeof(no_time));
	copy_opt(old, fd, SO_SNDTIMEO, &no_time, sizeof(no_time));
	copy_opt(old, fd, SO_RCVLOWAT, &one, sizeof(int));
	copy_opt(old, fd, SO_OOBINLINE, &zero, sizeof(int));
	copy_opt(old, fd, SO_PRIORITY, &zero, sizeof(int));
	/* sizes only if the app chose them: bit 0 send, bit 1 receive; the value read is
	 * twice the one set */
	if (getsockopt(old, SOL_SOCKET, SO_BUF_LOCK, &locks, &len) == 0 && locks != 0) {
		for (int i = 0; i < 2; i++) {
			int name = i == 0 ? SO_SNDBUF : SO_RCVBUF, v;

			len = sizeof(v);
			if ((locks & (1 << i)) &&
			    getsockopt(old, SOL_SOCKET, name, &v, &len) == 0) {
				v /= 2;
				setsockopt(fd, SOL_SOCKET, name, &v, sizeof(v));
			}
		}
	}
}

int replace_flags(int old, int fd, int mode)
{
	int flags = fcntl(old, F_GETFL);

	if (flags >= 0 && (flags & (O_NONBLOCK | O_ASYNC)) != mode)
		fcntl(fd, F_SETFL, flags & (O_NONBLOCK | O_ASYNC));
	if (flags >= 0 && (flags & O_ASYNC)) {
		struct f_owner_ex owner;

		if (fcntl(old, F_GETOWN_EX, &owner) == 0)
			fcntl(fd, F_SETOWN_EX, &owner);
		fcntl(fd, F_SETSIG, fcntl(old, F_GETSIG));
	}
	return flags;
}

int replace_options(int old, int fd, int mode)
{
	replace_sockopts(old, fd);
	return replace_flags(old, fd, mode);
}

/* The registration of @fdno in the target's epoll set @epfd: its "tfd:" line (proc(5)). */
static int read_item(struct trap *t, int epfd, int fdno, struct st_item *ret)
{
	char path[64], line[256];
	unsigned items = 0;
	FILE *f;
	int r = -ENOENT;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", t->tid, epfd);
	f = fopen(path, "re");
	if (f == NULL)
		return -errno;
	while (fgets(line, sizeof(line), f) != NULL) {
		int tfd;
		unsigned events;
		unsigned long long data;

		if (strncmp(line, "tfd:", 4) != 0)
			continue;
		items++;
		if (r < 0 &&
		    sscanf(line, "tfd: %d events: %x data: %llx", &tfd, &events, &data) == 3 &&
		    tfd == fdno) {
			*ret = (struct st_item){ epfd, fdno, events, 0, data };
			r = 0;
		}
	}
	fclose(f);
	target_epoll_measured(t, epfd, items);
	return r;
}

/* Is the file at @fdno in the set @epfd under that number? The set may for a moment hold items of
 * several files under one number (the old file goes when its last user returns from the kernel),
 * so all of them are asked for. */
static bool in_epoll(struct trap *t, int epfd, int fdno)
{
	struct kcmp_epoll_slot slot = { .efd = (uint32_t)epfd, .tfd = (uint32_t)fdno };
	long r;

	do {
		r = syscall(SYS_kcmp, t->tid, t->tid, KCMP_EPOLL_TFD, fdno, &slot);
		slot.toff++;
	} while (r > 0);
	if (r < 0 && errno != ENOENT)
		target_epolls_stale(t);
	return r == 0;
}

static int find_items(struct trap *t, int fdno, struct st_item *ret, int max)
{
	int epolls[MAX_ITEMS], n, found = 0;

	if (!t->app->has_epoll)
		return 0;
	n = target_epolls(t, epolls, MAX_ITEMS);
	for (int i = 0; i < n && found < max; i++) {
		if (in_epoll(t, epolls[i], fdno) &&
		    read_item(t, epolls[i], fdno, &ret[found]) == 0)
			found++;
	}
	return found;
}

bool replace_is_costly(struct trap *t, int fdno)
{
	int epolls[MAX_ITEMS], n;

	if (!t->app->large_epoll)
		return false;
	n = target_epolls(t, epolls, MAX_ITEMS);
	for (int i = 0; i < n; i++) {
		if (target_epoll_large(t, epolls[i]) && in_epoll(t, epolls[i], fdno))
			return true;
	}
	return false;
}

/* Other numbers in the target's table at which the same socket sits. */
static int find_copies(struct trap *t, int fdno, int old, int *ret, int max)
{
	char path[64], want[48], link[48];
	struct stat sb;
	struct dirent *d;
	DIR *dir;
	int n = 0;

	if (fstat(old, &sb) < 0)
		return 0;
	snprintf(want, sizeof(want), "socket:[%lu]", (unsigned long)sb.st_ino);
	snprintf(path, sizeof(path), "/proc/%d/fd", t->tid);
	dir = opendir(path);
	if (dir == NULL)
		return 0;
	while (n < max && (d = readdir(dir)) != NULL) {
		ssize_t len = readlinkat(dirfd(dir), d->d_name, link, sizeof(link) - 1);

		if (len <= 0)
			continue;
		link[len] = '\0';
		if (strcmp(link, want) == 0 && atoi(d->d_name) != fdno)
			ret[n++] = atoi(d->d_name);
	}
	closedir(dir);
	return n;
}

void replace_note_dup(struct trap *t, int fd)
{
	if (sockrec_set_opt(t->sw->socks, t->app->id, sock_cookie(fd), false, LEVEL_OWN,
			    OWN_DUPPED, 1) < 0)
		quota_tell(t->app, QUOTA_SOCKS);
}

static void put_back(struct trap *t, const struct st_item *item, int fd)
{
	int r = epoll_readd(t->tid, target_pidfd(&t->w->targets, t->tid, false), item->epfd,
			    item->fdno, fd, item->events, item->data);

	if (r < 0 && r != -EEXIST)
		log_warn_limited("app %u: fd %d could not be put back into epoll set %d: %s",
				 t->app->id, item->fdno, item->epfd, strerror(-r));
}

/* What a later daemon needs to go on from here. */
static void note_items(struct st_call *call, const struct st_item *items, int n)
{
	for (int i = 0; i < n && call->n_items < ST_ITEMS; i++) {
		call->items[call->n_items] = items[i];
		call->n_items++;
	}
}

static int replace_one(struct trap *t, int fdno, int fd)
{
	struct st_item items[MAX_ITEMS] = { 0 };
	int n = find_items(t, fdno, items, MAX_ITEMS);
	int cloexec = trap_fd_cloexec(t, fdno);
	int r;

	if (cloexec < 0)
		return trap_valid(t) ? cloexec : -ENOENT;
	note_items(t->call, items, n);
	r = trap_addfd(t, fd, fdno, cloexec);
	if (r < 0)
		return r;
	atomic_fetch_add(&t->app->replaced, 1);
	for (int i = 0; i < n; i++)
		put_back(t, &items[i], fd);
	return 0;
}

void replace_resume(struct trap *t, int fd)
{
	uint64_t cookie = t->call->n_items > 0 ? sock_cookie(fd) : 0;

	for (uint32_t i = 0; i < t->call->n_items && i < ST_ITEMS; i++) {
		const struct st_item *item = &t->call->items[i];
		int has;

		if (trap_getfd(t, item->fdno, &has) < 0)
			continue;
		if (sock_cookie(has) == cookie)
			put_back(t, item, fd);
		close(has);
	}
}

int replace_fd(struct trap *t, int fdno, int old, int fd)
{
	int copies[MAX_COPIES], n = 0, dupped, r;

	if (sockrec_any_opts(t->sw->socks) &&
	    sockrec_get_opt(t->sw->socks, sock_cookie(old), LEVEL_OWN, OWN_DUPPED, &dupped))
		n = find_copies(t, fdno, old, copies, MAX_COPIES);
	t->call->n_items = 0;
	/* the number of the call last: as long as that has the old file, another round finds
	 * the copies that are left */
	for (int i = 0; i < n; i++) {
		r = replace_one(t, copies[i], fd);
		if (r == -EAGAIN || r == -ENOENT)
			return r; /* others: it was closed meanwhile */
	}
	return replace_one(t, fdno, fd);
}

int replace_start(void)
{
	return epoll_readd_start();
}

void replace_stop(void)
{
	epoll_readd_stop();
}
