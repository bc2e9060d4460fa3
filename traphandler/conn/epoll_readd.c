#include "traphandler/conn/epoll_readd.h"

#include <appswitch/util.h>

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

static struct {
	pthread_t thread;
	pthread_mutex_t callers; /* one request at a time */
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool running, stop, pending, done;
	int tid, epfd, fdno, result;
	struct epoll_event ev;
} h = {
	.callers = PTHREAD_MUTEX_INITIALIZER,
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.cond = PTHREAD_COND_INITIALIZER,
};

static int null_fd = -1;
static bool reserved[EPOLL_RESERVED]; /* numbers at which a placeholder sits */

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

static int readd(void)
{
	int pidfd = (int)syscall(SYS_pidfd_open, h.tid, PIDFD_THREAD);
	int ep, file, r = 0;

	pidfd = move_off(pidfd, h.fdno);
	if (pidfd < 0)
		return -errno;
	ep = move_off((int)syscall(SYS_pidfd_getfd, pidfd, h.epfd, 0), h.fdno);
	file = (int)syscall(SYS_pidfd_getfd, pidfd, h.fdno, 0);
	if (ep < 0 || file < 0 || (file != h.fdno && dup2(file, h.fdno) < 0))
		r = -errno;
	else if (epoll_ctl(ep, EPOLL_CTL_ADD, h.fdno, &h.ev) < 0)
		r = -errno;
	if (file >= 0 && file != h.fdno)
		close(file);
	close(h.fdno);
	if (ep >= 0)
		close(ep);
	close(pidfd);
	return r;
}

static void *helper_main(void *arg)
{
	sigset_t set;

	(void)arg;
	sigfillset(&set);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	pthread_mutex_lock(&h.lock);
	if (unshare(CLONE_FILES) < 0) {
		h.result = -errno;
	} else {
		/* also stdio: the app's number may be 0, 1 or 2 */
		syscall(SYS_close_range, 0U, ~0U, 0U);
		h.running = true;
	}
	h.done = true;
	pthread_cond_broadcast(&h.cond);
	while (h.running && !h.stop) {
		if (!h.pending) {
			pthread_cond_wait(&h.cond, &h.lock);
			continue;
		}
		h.pending = false;
		h.result = readd();
		h.done = true;
		pthread_cond_broadcast(&h.cond);
	}
	pthread_mutex_unlock(&h.lock);
	return NULL;
}

int epoll_readd_start(void)
{
	int r = pthread_create(&h.thread, NULL, helper_main, NULL);

	if (r != 0)
		return -r;
	pthread_mutex_lock(&h.lock);
	while (!h.done)
		pthread_cond_wait(&h.cond, &h.lock);
	r = h.running ? 0 : h.result;
	pthread_mutex_unlock(&h.lock);
	return r;
}

void epoll_readd_stop(void)
{
	pthread_mutex_lock(&h.lock);
	if (!h.running) {
		pthread_mutex_unlock(&h.lock);
		return;
	}
	h.stop = true;
	pthread_cond_broadcast(&h.cond);
	pthread_mutex_unlock(&h.lock);
	pthread_join(h.thread, NULL);
	h.running = h.stop = h.done = false;
}

static int readd_by_helper(int tid, int epfd, int fdno, const struct epoll_event *ev)
{
	int r;

	pthread_mutex_lock(&h.callers);
	pthread_mutex_lock(&h.lock);
	h.tid = tid;
	h.epfd = epfd;
	h.fdno = fdno;
	h.ev = *ev;
	h.pending = true;
	h.done = false;
	pthread_cond_broadcast(&h.cond);
	while (!h.done)
		pthread_cond_wait(&h.cond, &h.lock);
	r = h.result;
	pthread_mutex_unlock(&h.lock);
	pthread_mutex_unlock(&h.callers);
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

static bool is_reserved(int fdno)
{
	return fdno >= 0 && fdno < EPOLL_RESERVED && reserved[fdno];
}

int epoll_readd(int tid, int pidfd, int epfd, int fdno, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { .events = events, .data.u64 = data };
	int ep, r = 0;

	if (!is_reserved(fdno))
		return readd_by_helper(tid, epfd, fdno, &ev);
	ep = (int)syscall(SYS_pidfd_getfd, pidfd, epfd, 0);
	if (ep < 0)
		return -errno;
	pthread_mutex_lock(&h.callers);
	if (dup3(fd, fdno, O_CLOEXEC) < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, fdno, &ev) < 0)
		r = -errno;
	dup3(null_fd, fdno, O_CLOEXEC);
	pthread_mutex_unlock(&h.callers);
	close(ep);
	return r;
}
