#include "traphandler/trap/trap.h"

#include "traphandler/trap/pool.h"
#include "traphandler/trap/readers.h"

#include <appswitch/log.h>
#include <appswitch/util.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#ifndef SECCOMP_ADDFD_FLAG_SEND
#define SECCOMP_ADDFD_FLAG_SEND (1UL << 1)
#endif

static void slot_done(struct trap *t)
{
	pthread_mutex_lock(&t->sw->lock);
	pool_free_slot(t->sw, (uint32_t)(t->call - t->sw->st.calls));
	pthread_mutex_unlock(&t->sw->lock);
	t->call = NULL;
}

static int send_reply(struct trap *t, int64_t val, int error, uint32_t flags)
{
	struct seccomp_notif_resp resp = {
		.id = t->call->notif.id,
		.val = val,
		.error = error,
		.flags = flags,
	};
	int r;

	/* the app may close its own at once, and then it must be the last */
	cleanup_close(&t->copy);
	t->copy = -1;
	do {
		r = ioctl(t->app->listener_fd, SECCOMP_IOCTL_NOTIF_SEND, &resp);
	} while (r < 0 && errno == EINTR);
	/* -EINPROGRESS: an earlier life of this daemon answered and died before it noted so */
	if (r < 0 && errno == ENOENT)
		app_note_interrupted(t->app);
	return r < 0 ? -errno : 0;
}

static int reply(struct trap *t, int64_t val, int error, uint32_t flags)
{
	int r = send_reply(t, val, error, flags);

	slot_done(t);
	return r;
}

int trap_send_value(struct trap *t, int64_t value)
{
	return send_reply(t, value, 0, 0);
}

int trap_reply_continue(struct trap *t)
{
	return reply(t, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
}

int trap_reply_value(struct trap *t, int64_t value)
{
	return reply(t, value, 0, 0);
}

int trap_reply_errno(struct trap *t, int err)
{
	return reply(t, 0, -err, 0);
}

void trap_drop(struct trap *t)
{
	app_note_interrupted(t->app);
	slot_done(t);
}

void trap_end(struct trap *t)
{
	slot_done(t);
}

void trap_park(struct trap *t)
{
	t->call = NULL;
}

bool call_valid(const struct app *app, const struct st_call *call)
{
	uint64_t id = call->notif.id;
	int r;

	if (id == 0)
		return false;
	do { /* EINTR (the watchdog's signal, the lock taken) is no answer, and a "no" drops the call */
		r = ioctl(app->listener_fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &id);
	} while (r < 0 && errno == EINTR);
	return r == 0;
}

bool call_over(const struct app *app, const struct st_call *call)
{
	return app->installing == 0 && !call_valid(app, call);
}

static void begin_install(struct trap *t)
{
	pthread_mutex_lock(&t->sw->lock);
	group_begin_install(t->app);
	pthread_mutex_unlock(&t->sw->lock);
}

static void end_install(struct trap *t)
{
	pthread_mutex_lock(&t->sw->lock);
	group_end_install(t->app);
	pthread_mutex_unlock(&t->sw->lock);
}

bool trap_valid(const struct trap *t)
{
	return call_valid(t->app, t->call);
}

static int access_error(struct trap *t, const char *what)
{
	int err = errno;

	if (err == EFAULT)
		return -EFAULT;
	if (err == ESRCH || !trap_valid(t))
		return -ENOENT;
	if (err == EPERM || err == EACCES) {
		log_warn_limited(
			"app %u: memory of thread %d may not be %s: %s; the call is refused "
			"(a binary that is not readable, or Yama's ptrace_scope 3)",
			t->app->id, t->tid, what, strerror(err));
		return -EACCES;
	}
	return -err;
}

int trap_peek(struct trap *t, uint64_t addr, void *buf, size_t len)
{
	struct iovec local = { buf, len };
	struct iovec remote = { (void *)(uintptr_t)addr, len };
	ssize_t n;

	n = process_vm_readv(t->tid, &local, 1, &remote, 1, 0);
	if (n < 0)
		return access_error(t, "read");
	return (size_t)n == len ? 0 : -EFAULT;
}

int trap_read(struct trap *t, uint64_t addr, void *buf, size_t len)
{
	int r = trap_peek(t, addr, buf, len);

	return r == 0 && !trap_valid(t) ? -ENOENT : r;
}

int trap_write2(struct trap *t, uint64_t addr, const void *buf, size_t len, uint64_t addr2,
		const void *buf2, size_t len2)
{
	struct iovec local[2] = { { (void *)(uintptr_t)buf, len },
				  { (void *)(uintptr_t)buf2, len2 } };
	struct iovec remote[2] = { { (void *)(uintptr_t)addr, len },
				   { (void *)(uintptr_t)addr2, len2 } };
	unsigned long n_parts = len2 > 0 ? 2 : 1;
	ssize_t n;

	if (!trap_valid(t))
		return -ENOENT;
	n = process_vm_writev(t->tid, local, n_parts, remote, n_parts, 0);
	if (n < 0)
		return access_error(t, "written");
	return (size_t)n == len + len2 ? 0 : -EFAULT;
}

int trap_write(struct trap *t, uint64_t addr, const void *buf, size_t len)
{
	return trap_write2(t, addr, buf, len, 0, NULL, 0);
}

int trap_getfd(struct trap *t, int fd, int *ret_fd)
{
	for (int attempt = 0; attempt < 2; attempt++) {
		int pidfd = target_pidfd(&t->w->targets, t->tid, attempt > 0);
		int copy;

		if (pidfd < 0) {
			if (pidfd == -EMFILE || pidfd == -ENFILE)
				log_error_limited(
					"app %u: no file descriptors left in the daemon "
					"(raise its RLIMIT_NOFILE)",
					t->app->id);
			return pidfd == -ESRCH ? -ENOENT : pidfd;
		}
		copy = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
		if (copy >= 0) {
			*ret_fd = copy;
			return 0;
		}
		if (errno == EMFILE || errno == ENFILE) {
			log_error_limited("app %u: no file descriptors left in the daemon "
					  "(raise its RLIMIT_NOFILE)",
					  t->app->id);
			return -EMFILE;
		}
		if (errno == ESRCH)
			continue; /* the thread id belongs to another thread now */
		if (errno == EBADF)
			return -EBADF;
		return access_error(t, "used (its file descriptors)");
	}
	return -ENOENT;
}

int trap_addfd(struct trap *t, int fd, int at, bool cloexec)
{
	struct seccomp_notif_addfd a = {
		.id = t->call->notif.id,
		.srcfd = (uint32_t)fd,
		.newfd = at >= 0 ? (uint32_t)at : 0,
		.flags = at >= 0 ? SECCOMP_ADDFD_FLAG_SETFD : 0,
		.newfd_flags = cloexec ? O_CLOEXEC : 0,
	};
	int r;

	begin_install(t);
	atomic_store_explicit(&t->w->addfd_since_ms, now_ms(), memory_order_relaxed);
	r = ioctl(t->app->listener_fd, SECCOMP_IOCTL_NOTIF_ADDFD, &a);
	if (r < 0) {
		/* ESRCH: interrupted while it waited; EINPROGRESS: answered already */
		r = errno == EINTR			     ? -EAGAIN
		    : errno == ESRCH || errno == EINPROGRESS ? -ENOENT
							     : -errno;
	}
	/* the time in it does not count against the call */
	atomic_store_explicit(&t->w->call_since_ms, now_ms(), memory_order_relaxed);
	atomic_store_explicit(&t->w->addfd_since_ms, 0, memory_order_release);
	end_install(t);
	return r;
}

struct teller {
	int listener_fd;
	struct seccomp_notif_addfd addfd;
	struct st_call *call;
};

/* In the child: the daemon's memory and descriptors, its thread waiting. */
static int tell(void *arg)
{
	struct teller *teller = arg;
	int r = ioctl(teller->listener_fd, SECCOMP_IOCTL_NOTIF_ADDFD, &teller->addfd);

	teller->call->at = r < 0 ? -errno : r;
	__atomic_store_n(&teller->call->stage, r < 0 ? ST_ACCEPTED : ST_TOLD, __ATOMIC_RELEASE);
	syscall(SYS_exit, 0);
	return 0;
}

int trap_addfd_send(struct trap *t, int fd, int at, bool cloexec)
{
	_Alignas(16) char stack[16384];
	struct teller teller = {
		.listener_fd = t->app->listener_fd,
		.call = t->call,
		.addfd = {
			.id = t->call->notif.id,
			.srcfd = (uint32_t)fd,
			.newfd = at >= 0 ? (uint32_t)at : 0,
			.flags = SECCOMP_ADDFD_FLAG_SEND | (at >= 0 ? SECCOMP_ADDFD_FLAG_SETFD : 0),
			.newfd_flags = cloexec ? O_CLOEXEC : 0,
		},
	};
	int pid, r;

	cleanup_close(&t->copy);
	t->copy = -1;
	t->call->at = -ENOENT;
	__atomic_store_n(&t->call->stage, ST_TELLING, __ATOMIC_RELEASE);
	begin_install(t);
	t->w->telling = true;
	atomic_store_explicit(&t->w->addfd_since_ms, now_ms(), memory_order_relaxed);
	pid = clone(tell, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD,
		    &teller);
	while (pid >= 0 && waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
		;
	atomic_store_explicit(&t->w->call_since_ms, now_ms(), memory_order_relaxed);
	atomic_store_explicit(&t->w->addfd_since_ms, 0, memory_order_release);
	t->w->telling = false;
	end_install(t);
	if (pid < 0) {
		t->call->stage = ST_ACCEPTED;
		return -EAGAIN; /* no process to be had: nothing was tried */
	}
	r = t->call->at;
	if (r == -ESRCH || r == -EINPROGRESS)
		r = -ENOENT;
	if (r == -ENOENT)
		app_note_interrupted(t->app);
	return r;
}

int trap_fd_cloexec(struct trap *t, int fd)
{
	char path[64], buf[128];
	const char *p;
	_cleanup_close_ int f = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", t->tid, fd);
	f = open(path, O_RDONLY | O_CLOEXEC);
	if (f < 0)
		return errno == ENOENT ? -EBADF : -errno;
	n = read(f, buf, sizeof(buf) - 1);
	if (n <= 0)
		return -EBADF;
	buf[n] = '\0';
	p = strstr(buf, "flags:");
	return p != NULL && (strtoul(p + 6, NULL, 8) & O_CLOEXEC) != 0;
}
