#include "traphandler/state/holder.h"

#include "traphandler/remote/guard.h"

#include <appswitch/util.h>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

/* ---- the holder itself: no allocation, no locks, little memory ---- */

/* Sockets bound to a path are the control socket and its connections: a client must see that
 * nobody serves it. */
static bool is_control(const struct state *st, int fd)
{
	struct sockaddr_un un = { 0 };
	socklen_t len = sizeof(un);

	if (fd == st->h->holder_sock_fd || getsockname(fd, (struct sockaddr *)&un, &len) < 0)
		return false;
	return un.sun_family == AF_UNIX && len > sizeof(sa_family_t) && un.sun_path[0] != '\0';
}

static void let_go(const struct state *st)
{
	char buf[4096];
	int dir = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	long n;

	for (int i = 0; i < 3 && null >= 0; i++)
		dup2(null, i);
	/* closing while reading is fine for /proc: it goes by number */
	while (dir >= 0 && (n = syscall(SYS_getdents64, dir, buf, sizeof(buf))) > 0) {
		for (long at = 0; at < n;) {
			const struct dirent64 *d = (const struct dirent64 *)(buf + at);

			at += d->d_reclen;
			if (d->d_name[0] >= '0' && d->d_name[0] <= '9' &&
			    is_control(st, atoi(d->d_name)))
				close(atoi(d->d_name));
		}
	}
	cleanup_close(&dir);
	if (st->h->statedir_fd >= 0)
		close(st->h->statedir_fd);
	/* last: who gets the lock finds nobody at the control socket */
	if (st->h->lock_fd >= 0)
		close(st->h->lock_fd);
}

static int send_state(int conn, const struct state *st)
{
	union {
		char buf[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control;
	int32_t pid = getpid();
	struct iovec iov = { &pid, sizeof(pid) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fds[2] = { st->fd, st->h->userns_fd };
	size_t n = fds[1] >= 0 ? 2 : 1;
	struct cmsghdr *c;

	msg.msg_control = control.buf;
	msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
	memset(&control, 0, sizeof(control));
	c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	return sendmsg(conn, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* A new daemon of the same user, from the host's network and not from inside an app. */
static bool may_adopt(int conn, const struct state *st)
{
	struct ucred cred;
	uint64_t cookie = 0;
	socklen_t len = sizeof(cred);

	if (getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 ||
	    (cred.uid != geteuid() && cred.uid != 0))
		return false;
	len = sizeof(cookie);
	return getsockopt(conn, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) == 0 &&
	       cookie == st->h->host_cookie;
}

static void serve(const struct state *st)
{
	int conn = accept4(st->h->holder_sock_fd, NULL, NULL, SOCK_CLOEXEC);
	struct timeval limit = { .tv_sec = 60 };
	char done;

	if (conn < 0)
		return;
	setsockopt(conn, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (may_adopt(conn, st) && send_state(conn, st) == 0) {
		while (read(conn, &done, 1) < 0 && errno == EINTR)
			;
	}
	if (__atomic_load_n(&st->h->dismissed, __ATOMIC_ACQUIRE))
		_exit(0); /* the new daemon, or its holder, has it all */
	close(conn);	  /* it died over it: nothing is lost, the next one may try */
}

static bool hung_up(int fd)
{
	struct pollfd p = { .fd = fd };

	return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLNVAL));
}

static bool any_app(const struct state *st)
{
	for (unsigned i = 0; i < st->h->apps_high; i++) {
		if (st->apps[i].id != 0 && st->apps[i].listener_fd >= 0 &&
		    !hung_up(st->apps[i].listener_fd))
			return true;
	}
	return false;
}

/* ---- the port for other nodes ---- */

#define MUTE_AFTER_MS	1000u  /* a daemon that was told to end: the next one is on its way */
#define REFUSE_AFTER_MS 10000u /* other nodes know by then that there is none */

static uint64_t clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

/* A connection that is taken in without a daemon would keep its client waiting though another node may
 * serve it: there is no way back from "connected". Without an answer a connect() goes elsewhere, or waits
 * for the next daemon. What was taken in before waits a while and is then reset. The socket stays bound:
 * see remote/guard.h. */
static void tend_port(const struct state *st, uint64_t alone_ms)
{
	int fd = st->h->node_tcp_fd;

	if (fd < 0)
		return;
	if (alone_ms >= REFUSE_AFTER_MS)
		(void)shutdown(fd, SHUT_RDWR);
	else if (!st->h->ended || alone_ms >= MUTE_AFTER_MS)
		(void)guard_mute(fd);
}

static void hold(const struct state *st, const struct adoption *a, int daemon_pidfd)
{
	struct pollfd p = { .fd = daemon_pidfd, .events = POLLIN };
	uint64_t since;

	while (poll(&p, 1, -1) != 1)
		;
	since = clock_ms();
	if (a != NULL && !__atomic_load_n(&a->old.h->dismissed, __ATOMIC_ACQUIRE))
		_exit(0);
	if (a != NULL)
		close(a->conn); /* the old holder waits for its end */
	let_go(st);
	p.fd = st->h->holder_sock_fd;
	while (any_app(st)) {
		tend_port(st, clock_ms() - since);
		/* an app's end is looked for each second, a daemon is served at once */
		if (poll(&p, 1, 1000) == 1)
			serve(st);
	}
	unlink(st->h->holder_path);
	_exit(0);
}

pid_t holder_start(struct state *st, const struct adoption *a)
{
	static const int ignored[] = { SIGHUP,	SIGINT,	 SIGTERM, SIGQUIT,
				       SIGPIPE, SIGUSR1, SIGUSR2 };
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	pid_t pid;

	if (pidfd < 0)
		return -errno;
	fcntl(pidfd, F_SETFD, FD_CLOEXEC);
	pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid < 0)
		return -errno;
	if (pid > 0)
		return pid; /* the pidfd stays open: it is the holder's */
	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
	prctl(PR_SET_NAME, "appswitch-hold");
	setsid();
	if (chdir("/") < 0) {
		/* it only keeps a directory busy */
	}
	hold(st, a, pidfd);
	_exit(1);
}

/* ---- the new daemon's side ---- */

static int ask(const char *path, struct adoption *ret)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	union {
		char buf[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control;
	int32_t pid;
	struct iovec iov = { &pid, sizeof(pid) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct timeval limit = { .tv_sec = 5 };
	_cleanup_close_ int conn = -1;
	struct ucred cred;
	socklen_t cred_len = sizeof(cred);
	struct cmsghdr *c;
	int fds[2] = { -1, -1 }, r;
	ssize_t n;

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, path, strlen(path) + 1);
	conn = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (conn < 0)
		return -errno;
	if (connect(conn, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return errno == ENOENT || errno == ECONNREFUSED ? 0 : -errno;
	/* anybody may have made a socket there; a state is believed */
	if (getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &cred, &cred_len) < 0 ||
	    (cred.uid != geteuid() && cred.uid != 0))
		return -EPERM;
	setsockopt(conn, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	msg.msg_control = control.buf;
	msg.msg_controllen = sizeof(control.buf);
	n = recvmsg(conn, &msg, MSG_CMSG_CLOEXEC);
	if (n != sizeof(pid))
		return n < 0 ? -errno : -ECONNRESET;
	c = CMSG_FIRSTHDR(&msg);
	if (c == NULL || c->cmsg_type != SCM_RIGHTS || c->cmsg_len < CMSG_LEN(sizeof(int)))
		return -EPROTO;
	memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	ret->userns_fd = fds[1];
	r = state_map(fds[0], &ret->old);
	if (r < 0)
		return r;
	ret->pid = pid;
	ret->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (ret->pidfd < 0)
		return -errno;
	ret->conn = fd_steal(&conn);
	return 1;
}

int holder_find(const char *path, struct adoption *ret)
{
	int r;

	/* reset: it ended, with its last app, while we asked; then nobody is there now */
	for (int tries = 0; tries < 200; tries++) {
		r = ask(path, ret);
		if (r != -ECONNRESET && r != -EPIPE && r != -ESRCH)
			break;
		usleep(5000);
	}
	return r;
}

int holder_take(const struct adoption *a, int fd)
{
	int copy = fd >= 0 ? (int)syscall(SYS_pidfd_getfd, a->pidfd, fd, 0) : -1;

	return copy < 0 ? -errno : copy;
}

void holder_dismiss(struct adoption *a)
{
	struct pollfd p = { .fd = a->pidfd, .events = POLLIN };

	__atomic_store_n(&a->old.h->dismissed, 1, __ATOMIC_RELEASE);
	if (write(a->conn, "d", 1) == 1)
		poll(&p, 1, 5000);
	state_unmap(&a->old);
	close(a->old.fd);
	close(a->conn);
	close(a->pidfd);
	cleanup_close(&a->userns_fd);
}
