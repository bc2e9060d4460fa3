/* doctor_lab.c - see the header. */
#include "cli/doctor_lab.h"

#include <appswitch/userns.h>
#include <appswitch/util.h>

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/kcmp.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

/* newer than the headers of Debian 12 */
#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS	   SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

#define LAB_TIMEOUT_MS 5000
#define MAGIC	       0x61707073

long lab_read_number(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char buf[32], *end;
	ssize_t n = fd >= 0 ? read(fd, buf, sizeof(buf) - 1) : -1;
	long number;

	if (n <= 0)
		return -1;
	buf[n] = '\0';
	number = strtol(buf, &end, 10);
	return end == buf || (*end != '\0' && *end != '\n') ? -1 : number;
}

/* ---- system calls ---- */

static int sys_pidfd_open(pid_t pid, unsigned flags)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, flags);

	return fd < 0 ? -errno : fd;
}

static int sys_pidfd_getfd(int pidfd, int fd)
{
	int got = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);

	return got < 0 ? -errno : got;
}

int lab_install_filter(unsigned long flags)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = ARRAY_SIZE(code), .filter = code };
	long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);

	return fd < 0 ? -errno : (int)fd;
}

int lab_enter_userns(void)
{
	const char *what;

	return userns_new(&what);
}

/* ---- the two sides ---- */

/* The app's words to the handler and back: one byte each. @theirs at end of file: false. */
static bool tell(int fd)
{
	return write(fd, "x", 1) == 1;
}

static bool await(int fd)
{
	char c;
	ssize_t n;

	do {
		n = read(fd, &c, 1);
	} while (n < 0 && errno == EINTR);
	return n == 1;
}

static int loopback_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo" };
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
		return -errno;
	ifr.ifr_flags |= IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &ifr) < 0 ? -errno : 0;
}

static int private_resolv_conf(void)
{
	char path[64];
	_cleanup_close_ int fd = -1;

	if (mount("none", "/tmp", "tmpfs", 0, "mode=0700") < 0)
		return -errno;
	snprintf(path, sizeof(path), "/tmp/resolv.conf");
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0 || mount(path, "/etc/resolv.conf", NULL, MS_BIND, NULL) < 0)
		return -errno;
	return 0;
}

static int private_mounts(void)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return -errno;
	return 0;
}

/* Is the file behind @fd a pipe? That is what the handler puts there. */
static bool is_pipe(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode);
}

static void lab_app(struct lab *lab, int userns, int to_handler, int from_handler)
{
	int *result = lab->result;
	uint32_t word = MAGIC;
	char group[64];
	struct epoll_event ev = { .events = EPOLLIN };
	int pipe_fds[2];
	long r;

	if (!lab->root) {
		result[L_ENTER_USERNS] = setns(userns, CLONE_NEWUSER) < 0 ? -errno : 0;
		result[L_APP_USERNS] = lab_enter_userns();
		/* the capabilities of a new user namespace allow a filter; without them, this */
		if (result[L_APP_USERNS] < 0)
			(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	}
	snprintf(group, sizeof(group), "%u %u", getegid(), getegid());
	result[L_APP_NETNS] = unshare(CLONE_NEWNET) < 0 ? -errno : 0;
	if (result[L_APP_NETNS] == 0) {
		result[L_LOOPBACK] = loopback_up();
		result[L_PORTS] =
			write_file("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
		result[L_PING] = write_file("/proc/sys/net/ipv4/ping_group_range", group);
	}
	result[L_MOUNTNS] = private_mounts();
	if (result[L_MOUNTNS] == 0)
		result[L_RESOLV] = private_resolv_conf();

	lab->target = open("/dev/null", O_RDONLY | O_CLOEXEC);
	lab->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (lab->target < 0 || lab->epoll < 0 || pipe2(pipe_fds, O_CLOEXEC) < 0)
		return;
	lab->polled = pipe_fds[0];
	if (epoll_ctl(lab->epoll, EPOLL_CTL_ADD, lab->polled, &ev) < 0)
		return;
	lab->word = &word;
	lab->app = getpid();
	lab->listener = lab_install_filter(SECCOMP_FILTER_FLAG_NEW_LISTENER);
	result[L_LISTENER] = lab->listener < 0 ? lab->listener : 0;
	if (!tell(to_handler) || !await(from_handler) || lab->listener < 0)
		return;
	/* the handler has it now; with ours closed, a handler that dies cannot leave us waiting */
	close(lab->listener);
	r = syscall(SYS_getppid);
	result[L_NOTIFY] = r == MAGIC ? 0 : r < 0 ? -errno : -EPROTO;
	if (r != MAGIC)
		return;
	if (result[L_ADDFD] == 0 && !is_pipe(lab->target))
		result[L_ADDFD] = -EPROTO;
	r = syscall(SYS_getppid);
	if (result[L_ADDFD_SEND] == 0 && !(r >= 0 && is_pipe((int)r)))
		result[L_ADDFD_SEND] = -EPROTO;
}

/* Receives the next trap into @req. */
static int next_trap(int listener, struct seccomp_notif *req)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };

	if (poll(&p, 1, LAB_TIMEOUT_MS) <= 0)
		return -ETIMEDOUT;
	memset(req, 0, sizeof(*req));
	return ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, req) < 0 ? -errno : 0;
}

static int answer_trap(int listener, uint64_t id, int64_t val)
{
	struct seccomp_notif_resp resp = { .id = id, .val = val };

	return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp) < 0 ? -errno : 0;
}

static void lab_answer(struct lab *lab, int listener)
{
	struct seccomp_notif_addfd addfd;
	struct seccomp_notif req;
	int pipe_fds[2];

	if (pipe2(pipe_fds, O_CLOEXEC) < 0 || next_trap(listener, &req) < 0)
		return;
	addfd = (struct seccomp_notif_addfd){ .id = req.id,
					      .flags = SECCOMP_ADDFD_FLAG_SETFD,
					      .srcfd = (uint32_t)pipe_fds[0],
					      .newfd = (uint32_t)lab->target };
	lab->result[L_ADDFD] =
		ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &addfd) < 0 ? -errno : 0;
	if (answer_trap(listener, req.id, MAGIC) < 0 || next_trap(listener, &req) < 0)
		return;
	addfd = (struct seccomp_notif_addfd){ .id = req.id,
					      .flags = SECCOMP_ADDFD_FLAG_SEND,
					      .srcfd = (uint32_t)pipe_fds[0] };
	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &addfd) >= 0) {
		lab->result[L_ADDFD_SEND] = 0;
	} else {
		lab->result[L_ADDFD_SEND] = -errno;
		(void)answer_trap(listener, req.id, 0);
	}
}

static int read_app_word(const struct lab *lab)
{
	uint32_t got = 0;
	struct iovec local = { .iov_base = &got, .iov_len = sizeof(got) };
	struct iovec remote = { .iov_base = lab->word, .iov_len = sizeof(got) };

	if (process_vm_readv(lab->app, &local, 1, &remote, 1, 0) < 0)
		return -errno;
	return got == MAGIC ? 0 : -EPROTO;
}

/* Finds the app's epoll item by comparing with our copy of the file in it. */
static int find_epoll_item(const struct lab *lab, int pidfd)
{
	struct kcmp_epoll_slot slot = { .efd = (uint32_t)lab->epoll,
					.tfd = (uint32_t)lab->polled };
	_cleanup_close_ int copy = sys_pidfd_getfd(pidfd, lab->polled);
	long r;

	if (copy < 0)
		return copy;
	r = syscall(SYS_kcmp, getpid(), lab->app, KCMP_EPOLL_TFD, copy, &slot);
	return r < 0 ? -errno : r == 0 ? 0 : -EPROTO;
}

/* An AF_UNIX listener must show up in the socket dump of this namespace. */
static int dump_unix_sockets(void)
{
	struct {
		struct nlmsghdr nl;
		struct unix_diag_req diag;
	} req = { .nl = { .nlmsg_len = sizeof(req),
			  .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			  .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		  .diag = { .sdiag_family = AF_UNIX,
			    .udiag_states = UINT32_MAX,
			    .udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_PEER } };
	_cleanup_close_ int nl = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	_cleanup_close_ int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un any = { .sun_family = AF_UNIX };
	struct timeval timeout = { .tv_sec = 2 };
	struct stat st;
	bool seen = false;

	if (nl < 0 || s < 0 || bind(s, (struct sockaddr *)&any, sizeof(sa_family_t)) < 0 ||
	    listen(s, 1) < 0 || fstat(s, &st) < 0 ||
	    setsockopt(nl, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
	    send(nl, &req, sizeof(req), 0) < 0)
		return -errno;
	for (;;) {
		_Alignas(struct nlmsghdr) char buf[32768];
		ssize_t n = recv(nl, buf, sizeof(buf), 0);
		unsigned left = n > 0 ? (unsigned)n : 0;
		struct nlmsghdr *h = (struct nlmsghdr *)buf;

		if (n <= 0)
			return n < 0 ? -errno : -EPROTO;
		for (; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
			const struct unix_diag_msg *m = NLMSG_DATA(h);

			if (h->nlmsg_type == NLMSG_DONE)
				return seen ? 0 : -ENOENT;
			if (h->nlmsg_type == NLMSG_ERROR)
				return ((const struct nlmsgerr *)NLMSG_DATA(h))->error;
			seen |= m->udiag_ino == (uint32_t)st.st_ino;
		}
	}
}

/* What a stand-in gets when @name (SO_SNDBUF, SO_SNDBUFFORCE) asks for what we want. */
static int try_sndbuf(int name)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int val = LAB_SNDBUF;
	socklen_t len = sizeof(val);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, name, &val, sizeof(val)) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &val, &len) < 0)
		return -errno;
	return val / 2; /* the kernel doubles what was asked for */
}

static void lab_handler(struct lab *lab, int to_main, int to_app, int from_app)
{
	_cleanup_close_ int pidfd = -1;
	_cleanup_close_ int listener = -1;
	uint64_t flags = SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP;
	int *result = lab->result;
	int fd;

	if (!lab->root)
		result[L_HANDLER_USERNS] = lab_enter_userns();
	result[L_HANDLER_NETNS] = unshare(CLONE_NEWNET) < 0 ? -errno : 0;
	result[L_UNIX_DIAG] = dump_unix_sockets();
	lab->sndbuf = try_sndbuf(SO_SNDBUF);
	lab->sndbuf_forced = try_sndbuf(SO_SNDBUFFORCE);
	lab->somaxconn = lab_read_number("/proc/sys/net/core/somaxconn");
	if (!tell(to_main) || !await(from_app))
		return;
	pidfd = sys_pidfd_open(lab->app, 0);
	result[L_PIDFD_OPEN] = pidfd < 0 ? pidfd : 0;
	fd = sys_pidfd_open(lab->app, PIDFD_THREAD);
	result[L_PIDFD_THREAD] = fd < 0 ? fd : 0;
	if (fd >= 0)
		close(fd);
	result[L_READV] = read_app_word(lab);
	if (pidfd >= 0) {
		result[L_KCMP] = find_epoll_item(lab, pidfd);
		/* getfd is tried on any fd, the listener may be missing for its own reasons */
		fd = sys_pidfd_getfd(pidfd, lab->target);
		result[L_GETFD] = fd < 0 ? fd : 0;
		if (fd >= 0)
			close(fd);
		if (lab->listener >= 0)
			listener = sys_pidfd_getfd(pidfd, lab->listener);
	}
	if (listener < 0)
		return;
	/* the flags are the argument itself, not a pointer to them */
	result[L_SYNC] = ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, flags) < 0 ? -errno : 0;
	if (tell(to_app))
		lab_answer(lab, listener);
}

static void close_all(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

static pid_t lab_fork(void)
{
	pid_t pid = fork();

	if (pid == 0)
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

void lab_run(struct lab *lab)
{
	/* handler -> main, handler -> app, app -> handler; main learns the end by hang-up */
	int p[6] = { -1, -1, -1, -1, -1, -1 };
	_cleanup_close_ int userns = -1;
	struct pollfd end = { .events = POLLIN };
	pid_t handler = -1, app = -1;
	char path[64];

	lab->root = geteuid() == 0;
	for (int i = 0; i < L_STEPS; i++)
		lab->result[i] = NOT_TRIED;
	lab->sndbuf = lab->sndbuf_forced = NOT_TRIED;
	lab->somaxconn = -1;
	if (pipe2(&p[0], O_CLOEXEC) < 0 || pipe2(&p[2], O_CLOEXEC) < 0 ||
	    pipe2(&p[4], O_CLOEXEC) < 0) {
		lab->start = -errno;
		goto out;
	}
	handler = lab_fork();
	if (handler == 0) {
		close_all((int[]){ p[0], p[2], p[5] }, 3);
		lab_handler(lab, p[1], p[3], p[4]);
		_exit(0);
	}
	if (handler < 0)
		lab->start = -errno;
	end.fd = p[0];
	if (handler < 0 || poll(&end, 1, LAB_TIMEOUT_MS) <= 0 || !await(p[0]))
		goto out;
	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)handler);
	userns = open(path, O_RDONLY | O_CLOEXEC);
	app = lab_fork();
	if (app == 0) {
		close_all((int[]){ p[0], p[3], p[4] }, 3);
		lab_app(lab, userns, p[5], p[2]);
		_exit(0);
	}
	if (app < 0)
		lab->start = -errno;
	close_all(&p[1], 5);
	(void)poll(&end, 1, LAB_TIMEOUT_MS); /* hang-up: both have ended */
out:
	close_all(p, 6);
	if (app > 0) {
		kill(app, SIGKILL);
		waitpid(app, NULL, 0);
	}
	if (handler > 0) {
		kill(handler, SIGKILL);
		waitpid(handler, NULL, 0);
	}
}
