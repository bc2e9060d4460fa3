#include "conf.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CASE_MS 6000
#define WAIT_MS 2000

enum conf_family conf_fam;
static char case_name[128];

static struct {
	int port;
	const char *name;
} ports[16];
static int n_ports;

const char *conf_errno(int err)
{
	const char *s = err ? strerrorname_np(err) : "-";
	static char buf[16];

	if (s)
		return s;
	snprintf(buf, sizeof(buf), "%d", err);
	return buf;
}

void conf_say(const char *step, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int n = snprintf(line, sizeof(line), "%s%s%s: ", case_name, step[0] ? "." : "", step);

	va_start(ap, fmt);
	n += vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	if (n > (int)sizeof(line) - 2)
		n = (int)sizeof(line) - 2;
	line[n++] = '\n';
	if (write(STDOUT_FILENO, line, (size_t)n) != n)
		_exit(1);
}

void conf_give_up(const char *what, int err)
{
	conf_say("setup", "%s %s", what, conf_errno(err));
	_exit(1);
}

static long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void run_one(void (*fn)(void))
{
	sigset_t chld;
	struct timespec left = { .tv_sec = CASE_MS / 1000 };
	long end = now_ms() + CASE_MS;
	pid_t pid;
	int st = 0;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	pid = fork();
	if (pid < 0) {
		conf_say("", "fork %s", conf_errno(errno));
		return;
	}
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setpgid(0, 0);
		sigprocmask(SIG_UNBLOCK, &chld, NULL);
		signal(SIGPIPE, SIG_IGN);
		n_ports = 0;
		fn();
		_exit(0);
	}
	setpgid(pid, pid); /* both sides: whoever is first */
	while (waitpid(pid, &st, WNOHANG) == 0) {
		long ms = end - now_ms();

		if (ms <= 0) {
			kill(-pid, SIGKILL);
			waitpid(pid, &st, 0);
			conf_say("", "hang");
			return;
		}
		left.tv_sec = ms / 1000;
		left.tv_nsec = ms % 1000 * 1000000;
		sigtimedwait(&chld, NULL, &left);
	}
	kill(-pid, SIGKILL); /* children that the case left behind */
	if (WIFSIGNALED(st))
		conf_say("", "killed by SIG%s", sigabbrev_np(WTERMSIG(st)));
}

void conf_run(const char *prefix, enum conf_family fam, const struct conf_case *c, size_t n,
	      const char *only)
{
	conf_fam = fam;
	for (size_t i = 0; i < n; i++) {
		snprintf(case_name, sizeof(case_name), "%s/%s", prefix, c[i].name);
		if (!only || strstr(case_name, only))
			run_one(c[i].fn);
	}
}

/* --- addresses --- */

socklen_t conf_addr_of(union conf_addr *a, int af, const char *ip, int port)
{
	memset(a, 0, sizeof(*a));
	a->sa.sa_family = (sa_family_t)af;
	if (af == AF_INET) {
		a->in.sin_port = htons((uint16_t)port);
		CONF_NEED(inet_pton(af, ip, &a->in.sin_addr) == 1);
		return sizeof(a->in);
	}
	a->in6.sin6_port = htons((uint16_t)port);
	CONF_NEED(inet_pton(af, ip, &a->in6.sin6_addr) == 1);
	return sizeof(a->in6);
}

socklen_t conf_addr(union conf_addr *a, enum conf_where where, int port)
{
	static const char *const ip[][3] = {
		[CONF_V4] = { "127.0.0.1", CONF_VIP4, "0.0.0.0" },
		[CONF_V6] = { "::1", CONF_VIP6, "::" },
		[CONF_MAPPED] = { "::ffff:127.0.0.1", "::ffff:" CONF_VIP4, "::" },
	};

	return conf_addr_of(a, conf_af(), ip[conf_fam][where], port);
}

socklen_t conf_addrlen(void)
{
	return conf_af() == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

int conf_port(const union conf_addr *a)
{
	return ntohs(a->sa.sa_family == AF_INET ? a->in.sin_port : a->in6.sin6_port);
}

void conf_name_port(const char *name, int port)
{
	CONF_NEED(n_ports < 16);
	ports[n_ports].name = name;
	ports[n_ports++].port = port;
}

static const char *port_name(int port)
{
	for (int i = 0; i < n_ports; i++)
		if (ports[i].port == port)
			return ports[i].name;
	return port ? "P" : "0";
}

const char *conf_show(const union conf_addr *a, socklen_t len)
{
	static char buf[4][256];
	static int turn;
	char *out = buf[turn++ % 4], ip[INET6_ADDRSTRLEN];

	if (len == sizeof(a->in) && a->sa.sa_family == AF_INET) {
		inet_ntop(AF_INET, &a->in.sin_addr, ip, sizeof(ip));
		snprintf(out, sizeof(buf[0]), "%s:%s %u", ip, port_name(conf_port(a)), len);
	} else if (len == sizeof(a->in6) && a->sa.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &a->in6.sin6_addr, ip, sizeof(ip));
		snprintf(out, sizeof(buf[0]), "[%s]:%s %u%s", ip, port_name(conf_port(a)), len,
			 a->in6.sin6_flowinfo || a->in6.sin6_scope_id ? " flow/scope" : "");
	} else {
		snprintf(out, sizeof(buf[0]), "family %d len %u",
			 len >= 2 ? a->sa.sa_family : -1, len);
	}
	return out;
}

const char *conf_show_name(int fd)
{
	union conf_addr a = { 0 };
	socklen_t len = sizeof(a);

	if (getsockname(fd, &a.sa, &len) < 0)
		return conf_errno(errno);
	return conf_show(&a, len);
}

const char *conf_show_peer(int fd)
{
	union conf_addr a = { 0 };
	socklen_t len = sizeof(a);

	if (getpeername(fd, &a.sa, &len) < 0)
		return conf_errno(errno);
	return conf_show(&a, len);
}

/* --- sockets --- */

int conf_af(void)
{
	return conf_fam == CONF_V4 ? AF_INET : AF_INET6;
}

int conf_tcp(int flags)
{
	int fd = socket(conf_af(), SOCK_STREAM | flags, 0);

	CONF_NEED(fd >= 0);
	return fd;
}

int conf_bound(enum conf_where where, union conf_addr *a)
{
	union conf_addr tmp;
	socklen_t len;
	int fd = conf_tcp(0);

	a = a ? a : &tmp;
	len = conf_addr(a, where, 0);
	CONF_NEED(bind(fd, &a->sa, len) == 0);
	CONF_NEED(getsockname(fd, &a->sa, &len) == 0);
	return fd;
}

int conf_listener(enum conf_where where, union conf_addr *a)
{
	int fd = conf_bound(where, a);

	CONF_NEED(listen(fd, 16) == 0);
	return fd;
}

int conf_client(const union conf_addr *a)
{
	int fd = conf_tcp(0);

	CONF_NEED(connect(fd, &a->sa, conf_addrlen()) == 0);
	return fd;
}

int conf_accept(int l)
{
	int fd;

	if (!strstr(conf_poll_until(l, POLLIN), "IN"))
		conf_give_up("nobody to accept", 0);
	fd = accept4(l, NULL, NULL, 0);
	CONF_NEED(fd >= 0);
	return fd;
}

void conf_pair(int *client, int *server, int *l)
{
	union conf_addr a;
	int lfd = conf_listener(CONF_VIP, &a);

	conf_name_port("listener", conf_port(&a));
	*client = conf_client(&a);
	*server = conf_accept(lfd);
	if (l)
		*l = lfd;
	else
		close(lfd);
}

/* --- events --- */

const char *conf_events(uint32_t ev)
{
	static const struct {
		uint32_t bit;
		const char *name;
	} names[] = {
		{ EPOLLIN, "IN" },	   { EPOLLPRI, "PRI" },	      { EPOLLOUT, "OUT" },
		{ EPOLLERR, "ERR" },	   { EPOLLHUP, "HUP" },	      { POLLNVAL, "NVAL" },
		{ EPOLLRDNORM, "RDNORM" }, { EPOLLRDBAND, "RDBAND" }, { EPOLLWRNORM, "WRNORM" },
		{ EPOLLWRBAND, "WRBAND" }, { EPOLLRDHUP, "RDHUP" },
	};
	static char buf[4][96];
	static int turn;
	char *out = buf[turn++ % 4];

	int n = 0;

	out[0] = 0;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (ev & names[i].bit)
			n += snprintf(out + n, sizeof(buf[0]) - (size_t)n, "%s%s", n ? "|" : "",
				      names[i].name);
	return out[0] ? out : "-";
}

/* Without POLLWRBAND, which only AF_UNIX reports: the differences table has that. */
#define ALL_EVENTS \
	(POLLIN | POLLPRI | POLLOUT | POLLRDHUP | POLLRDNORM | POLLRDBAND | POLLWRNORM)

const char *conf_poll_now(int fd)
{
	struct pollfd p = { .fd = fd, .events = ALL_EVENTS };

	if (poll(&p, 1, 0) < 0)
		return conf_errno(errno);
	return conf_events((uint16_t)p.revents);
}

const char *conf_poll_until(int fd, uint32_t ev)
{
	long end = now_ms() + WAIT_MS;
	struct timespec nap = { .tv_nsec = 1000000 };
	struct pollfd p = { .fd = fd, .events = ALL_EVENTS };

	/* a plain poll first: an accept queue or data that is already there costs nothing */
	while (poll(&p, 1, 0) >= 0 && ((uint16_t)p.revents & ev) != ev && now_ms() < end)
		nanosleep(&nap, NULL);
	return conf_events((uint16_t)p.revents);
}

int conf_so_error(int fd)
{
	int err = -1;
	socklen_t len = sizeof(err);

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0 ? -errno : err;
}

void conf_say_so_error(const char *step, int fd)
{
	int err = conf_so_error(fd);

	conf_say(step, "%s%s", err < 0 ? "failed " : "", conf_errno(err < 0 ? -err : err));
}

void conf_nonblock(int fd, bool on)
{
	int fl = fcntl(fd, F_GETFL);

	CONF_NEED(fl >= 0);
	CONF_NEED(fcntl(fd, F_SETFL, on ? fl | O_NONBLOCK : fl & ~O_NONBLOCK) == 0);
}

static const char *one_way(int from, int to)
{
	char c = 'x';

	if (send(from, &c, 1, MSG_DONTWAIT) != 1)
		return conf_errno(errno);
	conf_poll_until(to, POLLIN);
	c = 0;
	if (recv(to, &c, 1, MSG_DONTWAIT) != 1)
		return conf_errno(errno);
	return c == 'x' ? NULL : "wrong byte";
}

void conf_talk(const char *step, int a, int b)
{
	const char *there = one_way(a, b), *back = one_way(b, a);

	if (!there && !back)
		conf_say(step, "ok");
	else
		conf_say(step, "%s %s", there ? there : "ok", back ? back : "ok");
}

static void on_alarm(int sig)
{
	(void)sig;
}

void conf_alarm_handler(bool restart)
{
	struct sigaction sa = { .sa_handler = on_alarm, .sa_flags = restart ? SA_RESTART : 0 };

	CONF_NEED(sigaction(SIGALRM, &sa, NULL) == 0);
}

void conf_alarm_in(int ms)
{
	struct itimerval it = { .it_value = { .tv_sec = ms / 1000,
					      .tv_usec = ms % 1000 * 1000 } };

	CONF_NEED(setitimer(ITIMER_REAL, &it, NULL) == 0);
}

void conf_wait_asleep(pid_t pid, pid_t tid)
{
	char path[64], buf[512];
	long end = now_ms() + WAIT_MS;
	struct timespec nap = { .tv_nsec = 1000000 };

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	while (now_ms() < end) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = fd >= 0 ? read(fd, buf, sizeof(buf) - 1) : -1;
		char *p;

		if (fd >= 0)
			close(fd);
		if (n <= 0)
			return;
		buf[n] = 0;
		p = strrchr(buf, ')');
		/* twice asleep, a moment apart: not just in passing */
		if (p && p[2] == 'S') {
			nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
			fd = open(path, O_RDONLY | O_CLOEXEC);
			n = fd >= 0 ? read(fd, buf, sizeof(buf) - 1) : -1;
			if (fd >= 0)
				close(fd);
			if (n <= 0)
				return;
			buf[n] = 0;
			p = strrchr(buf, ')');
			if (p && p[2] == 'S')
				return;
		}
		nanosleep(&nap, NULL);
	}
}

int conf_send_fd(int sock, int fd)
{
	char byte = 'f';
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} u = { .h = { .cmsg_level = SOL_SOCKET,
		       .cmsg_type = SCM_RIGHTS,
		       .cmsg_len = CMSG_LEN(sizeof(int)) } };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = u.space,
			    .msg_controllen = sizeof(u.space) };

	memcpy(CMSG_DATA(&u.h), &fd, sizeof(fd));
	return sendmsg(sock, &m, 0) == 1 ? 0 : -errno;
}

int conf_recv_fd(int sock)
{
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} u;
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = u.space,
			    .msg_controllen = sizeof(u.space) };
	int fd = -1;

	if (recvmsg(sock, &m, 0) <= 0)
		return errno ? -errno : -EPIPE;
	if (m.msg_controllen < CMSG_LEN(sizeof(int)) || u.h.cmsg_type != SCM_RIGHTS)
		return -ENOMSG;
	memcpy(&fd, CMSG_DATA(&u.h), sizeof(fd));
	return fd;
}
