/* target.h - the processes behind the notifications: pidfds of threads, epoll sets of processes.
 *
 * Thread pidfds are cached per worker (so no lock): a thread id that was given to another thread
 * shows as -ESRCH on the cached pidfd and is opened anew. */
#ifndef TRAPHANDLER_TARGET_H
#define TRAPHANDLER_TARGET_H

#include "traphandler/trap/trap.h"

#define TARGET_CACHE 64

struct target_cache {
	int n; /* slots in use: fewer where file descriptors are few */
	struct {
		int tid, tgid, pidfd;
	} slot[TARGET_CACHE];
};

void target_cache_init(struct target_cache *c);
void target_cache_done(struct target_cache *c);

/* A pidfd good for pidfd_getfd(2), owned by the cache; @fresh discards the cached one. */
int target_pidfd(struct target_cache *c, int tid, bool fresh);
/* The process of a thread, or -errno. */
int target_tgid(struct target_cache *c, int tid);

/* Has the calling thread CAP_NET_ADMIN (in its own user namespace)? */
bool target_net_admin(struct trap *t);

/* ---- epoll sets, under sw->lock inside ---- */

/* The process made an epoll set (or may have got one): look for it before the next swap. */
void target_note_epoll(struct trap *t);
/* The epoll fds of the calling process, at most @max; scans /proc only if something changed. */
int target_epolls(struct trap *t, int *ret, int max);
/* How many items one of them was just seen to have. */
void target_epoll_measured(struct trap *t, int epfd, unsigned items);
/* Has it so many that to read one costs too much? By the last measure, which is good for as many
 * questions as it had items: so measuring costs little on the average. */
bool target_epoll_large(struct trap *t, int epfd);
/* One of them was gone: scan again next time. */
void target_epolls_stale(struct trap *t);
void target_forget_app(struct app *app);

#endif
