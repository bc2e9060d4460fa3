#include "traphandler/conn/epoll_readd.h"

#include <appswitch/util.h>

#include <fcntl.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

/* As many as there can be workers that wait for one each. */
#define MAX_HELPERS 64

enum helper_state { UNUSED, STARTING, IDLE, ASKED, ANSWERED };

struct helper {
	pthread_t thread;
	pthread_cond_t changed;
	enum helper_state state;
	bool stop;
	int tid, epfd, fdno, result;
	struct epoll_event ev;
};

static struct helper helpers[MAX_HELPERS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* over them, but while one is ASKED */

static int null_fd = -1;
static bool reserved[EPOLL_RESERVED];	   /* numbers at which a placeholder sits */
static atomic_bool in_use[EPOLL_RESERVED]; /* of them: something else, for a moment */

/* A number other than @taken for @fd. */
static int move_off(int fd, int taken)
{
	int moved;

	if (fd != taken || fd < 0)
		return fd;
	moved = fcntl(fd, F_DUPFD, taken + 1);
	if (moved < 0)
		moved = dup(fd);
	close(fd);
	return moved;
}

static int readd(struct helper *h)
{
	int pidfd = (int)syscall(SYS_pidfd_open, h->tid, PIDFD_THREAD);
	int ep, file, r = 0;

	pidfd = move_off(pidfd, h->fdno);
	if (pidfd < 0)
		return -errno;
	ep = move_off((int)syscall(SYS_pidfd_getfd, pidfd, h->epfd, 0), h->fdno);
	file = (int)syscall(SYS_pidfd_getfd, pidfd, h->fdno, 0);
	if (ep < 0 || file < 0 || (file != h->fdno && dup2(file, h->fdno) < 0))
		r = -errno;
	else if (epoll_ctl(ep, EPOLL_CTL_ADD, h->fdno, &h->ev) < 0)
		r = -errno;
	if (file >= 0 && file != h->fdno)
		close(file);
	close(h->fdno);
	if (ep >= 0)
		close(ep);
	close(pidfd);
	return r;
}

static void *helper_main(void *arg)
{
	struct helper *h = arg;
	sigset_t set;
	int r;

	sigfillset(&set);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	/* a table of its own, and empty: also of stdio, the app's number may be 0, 1 or 2 */
	r = syscall(SYS_close_range, 0U, ~0U, CLOSE_RANGE_UNSHARE) < 0 ? -errno : 0;
	pthread_mutex_lock(&lock);
	h->result = r;
	h->stop = r < 0;
	for (;;) {
		h->state = ANSWERED;
		pthread_cond_broadcast(&h->changed);
		while (!h->stop && h->state != ASKED)
			pthread_cond_wait(&h->changed, &lock);
		if (h->stop)
			break;
		pthread_mutex_unlock(&lock);
		r = readd(h);
		pthread_mutex_lock(&lock);
		h->result = r;
	}
	pthread_mutex_unlock(&lock);
	return NULL;
}

/* Under lock: until @h is no more in @state. */
static void wait_while(struct helper *h, enum helper_state state)
{
	while (h->state == state)
		pthread_cond_wait(&h->changed, &lock);
}

/* Under lock. 0 or -errno. */
static int start(struct helper *h)
{
	int r;

	h->state = STARTING;
	h->stop = false;
	pthread_cond_init(&h->changed, NULL);
	r = pthread_create(&h->thread, NULL, helper_main, h);
	if (r != 0) {
		h->state = UNUSED;
		return -r;
	}
	wait_while(h, STARTING);
	if (h->result < 0) {
		pthread_detach(h->thread);
		h->state = UNUSED;
		return h->result;
	}
	return 0;
}

/* Under lock: one that is the caller's until it is IDLE again. 0 or -errno. */
static int take_helper(struct helper **ret)
{
	for (int i = 0; i < MAX_HELPERS; i++) {
		if (helpers[i].state == IDLE) {
			*ret = &helpers[i];
			return 0;
		}
	}
	for (int i = 0; i < MAX_HELPERS; i++) {
		if (helpers[i].state == UNUSED) {
			*ret = &helpers[i];
			return start(*ret);
		}
	}
	return -EAGAIN;
}

int epoll_readd_start(void)
{
	struct helper *h;
	int r;

	pthread_mutex_lock(&lock);
	r = take_helper(&h);
	if (r == 0)
		h->state = IDLE;
	pthread_mutex_unlock(&lock);
	return r;
}

void epoll_readd_stop(void)
{
	for (int i = 0; i < MAX_HELPERS; i++) {
		struct helper *h = &helpers[i];
		bool idle;

		pthread_mutex_lock(&lock);
		idle = h->state == IDLE; /* one that is held up goes with the process */
		if (idle) {
			h->stop = true;
			h->state = UNUSED;
			pthread_cond_broadcast(&h->changed);
		}
		pthread_mutex_unlock(&lock);
		if (idle)
			pthread_join(h->thread, NULL);
	}
}

static int readd_by_helper(int tid, int epfd, int fdno, const struct epoll_event *ev)
{
	struct helper *h;
	int r;

	pthread_mutex_lock(&lock);
	r = take_helper(&h);
	if (r == 0) {
		h->tid = tid;
		h->epfd = epfd;
		h->fdno = fdno;
		h->ev = *ev;
		h->state = ASKED;
		pthread_cond_broadcast(&h->changed);
		wait_while(h, ASKED);
		r = h->result;
		h->state = IDLE;
	}
	pthread_mutex_unlock(&lock);
	return r;
}

int epoll_readd_reserve(void)
{
	struct rlimit rl;
	int end = EPOLL_RESERVED;

	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd < 0)
		return -errno;
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur / 8 < (rlim_t)end)
		end = (int)(rl.rlim_cur / 8); /* a low limit: fewer of them */
	for (;;) {
		int fd = fcntl(null_fd, F_DUPFD_CLOEXEC, 3);

		if (fd < 0)
			return -errno;
		if (fd >= end) {
			close(fd);
			return 0;
		}
		reserved[fd] = true; /* what was open before keeps its number */
	}
}

/* The number @fdno of our own table, if it is reserved and nobody uses it now. */
static bool take_number(int fdno)
{
	return fdno >= 0 && fdno < EPOLL_RESERVED && reserved[fdno] &&
	       !atomic_exchange(&in_use[fdno], true);
}

int epoll_readd(int tid, int pidfd, int epfd, int fdno, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { .events = events, .data.u64 = data };
	int ep, r = 0;

	if (!take_number(fdno))
		return readd_by_helper(tid, epfd, fdno, &ev);
	ep = (int)syscall(SYS_pidfd_getfd, pidfd, epfd, 0);
	if (ep < 0 || dup3(fd, fdno, O_CLOEXEC) < 0 ||
	    epoll_ctl(ep, EPOLL_CTL_ADD, fdno, &ev) < 0)
		r = -errno;
	dup3(null_fd, fdno, O_CLOEXEC);
	atomic_store(&in_use[fdno], false);
	cleanup_close(&ep);
	return r;
}
