/* accept(2), accept4(2) */
#include "errno_table.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static void not_listening(void)
{
	int c, s;

	CONF_FD("fresh", accept(conf_tcp(0), NULL, NULL));
	CONF_FD("fresh-nonblock", accept(conf_tcp(SOCK_NONBLOCK), NULL, NULL));
	CONF_FD("bound", accept(conf_bound(CONF_VIP, NULL), NULL, NULL));
	conf_pair(&c, &s, NULL);
	CONF_FD("client", accept(c, NULL, NULL));
	CONF_FD("accepted", accept(s, NULL, NULL));
	CONF_FD("fresh-efault", accept(conf_tcp(0), errno_bad(), errno_bad()));
}

static void names(void)
{
	union conf_addr a, from, me;
	socklen_t len = conf_addrlen();
	int l = conf_listener(CONF_VIP, &a), c = conf_client(&a), fd;

	conf_name_port("listener", conf_port(&a));
	CONF_NEED(getsockname(c, &me.sa, &len) == 0);
	conf_name_port("client", conf_port(&me));
	conf_poll_until(l, POLLIN);
	len = sizeof(from);
	fd = accept(l, &from.sa, &len);
	CONF_NEED(fd >= 0);
	conf_say("from", "%s", conf_show(&from, len));
	conf_say("name", "%s", conf_show_name(fd));
	conf_say("peer", "%s", conf_show_peer(fd));
	conf_say("client-name", "%s", conf_show_name(c));
	conf_say("client-peer", "%s", conf_show_peer(c));
	conf_talk("talk", c, fd);
}

/* One connection for each, since natively a failing accept() consumes it. */
static void one(const char *step, struct sockaddr *sa, socklen_t *len)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), c = conf_client(&a);
	char text[64];

	conf_poll_until(l, POLLIN);
	CONF_FD(step, accept(l, sa, len));
	snprintf(text, sizeof(text), "%s-left", step);
	conf_say(text, "%s", conf_poll_now(l));
	close(c);
	close(l);
}

static void arguments(void)
{
	union conf_addr a;
	socklen_t len = 7;

	one("null-null", NULL, NULL);
	one("null-len", NULL, &len);
	conf_say("null-len-value", "%u", len);
	one("addr-null", &a.sa, NULL);
	one("addr-badlen", &a.sa, errno_bad());
	len = sizeof(a);
	one("badaddr", errno_bad(), &len);
	conf_say("badaddr-value", "%u", len);
	len = 0;
	one("badaddr-len0", errno_bad(), &len);
	conf_say("badaddr-len0-value", "%u", len);
	len = (socklen_t)-1;
	one("negative", &a.sa, &len);
	len = (socklen_t)1 << 31;
	one("most-negative", &a.sa, &len);
	len = 4096;
	one("long", &a.sa, &len);
	conf_say("long-value", "%u", len);
}

static void truncation(void)
{
	static const int lens[] = { 0, 1, 2, 4, 8, 15, 16, 17, 24, 27, 28, 29 };
	union conf_addr a, from;
	int l = conf_listener(CONF_VIP, &a);
	char step[32];

	for (size_t i = 0; i < ERRNO_N(lens); i++) {
		int c = conf_client(&a), fd;
		socklen_t len = (socklen_t)lens[i], n = conf_addrlen();
		union conf_addr me = { 0 };
		size_t same = 0, touched = 0;

		CONF_NEED(getsockname(c, &me.sa, &n) == 0);
		conf_poll_until(l, POLLIN);
		memset(&from, 0x5a, sizeof(from));
		fd = accept(l, &from.sa, &len);
		while (same < sizeof(from) && from.bytes[same] == me.bytes[same])
			same++;
		for (size_t k = 0; k < sizeof(from); k++)
			if (from.bytes[k] != 0x5a)
				touched = k + 1;
		snprintf(step, sizeof(step), "%d", lens[i]);
		if (fd < 0)
			conf_say(step, "-1 %s", conf_errno(errno));
		else
			conf_say(step, "len %u, %s, touched %s", len,
				 same >= (size_t)lens[i] || same >= n ? "right" : "wrong",
				 touched <= (size_t)lens[i] ? "no more" : "too much");
		close(c);
		close(fd);
	}
}

static void edge(void)
{
	union conf_addr a;
	socklen_t len = conf_addrlen();
	int l = conf_listener(CONF_VIP, &a), c = conf_client(&a);

	conf_poll_until(l, POLLIN);
	CONF_FD("edge", accept(l, errno_edge(&a, len), &len));
	close(c);
	conf_client(&a);
	conf_poll_until(l, POLLIN);
	len = conf_addrlen();
	CONF_FD("crossing", accept(l, errno_edge(&a, len - 1), &len));
	len = 4;
	conf_client(&a);
	conf_poll_until(l, POLLIN);
	CONF_FD("edge-short", accept(l, errno_edge(&a, len), &len));
	conf_say("edge-short-value", "%u", len);
}

static void nonblock(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), c, fd;

	conf_nonblock(l, true);
	CONF_FD("empty", accept(l, NULL, NULL));
	CONF_FD("empty-efault", accept(l, errno_bad(), errno_bad()));
	CONF_FD("empty-4", accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
	conf_say("poll", "%s", conf_poll_now(l));
	c = conf_client(&a);
	conf_say("poll-pending", "%s", conf_poll_until(l, POLLIN));
	fd = accept(l, NULL, NULL);
	CONF_NEED(fd >= 0);
	conf_say("inherits", "%s", fcntl(fd, F_GETFL) & O_NONBLOCK ? "nonblock" : "block");
	CONF_FD("empty-again", accept(l, NULL, NULL));
	conf_say("poll-again", "%s", conf_poll_now(l));
	close(c);
}

static void flags(void)
{
	static const struct {
		const char *step;
		int flags;
	} t[] = {
		{ "none", 0 },
		{ "nonblock", SOCK_NONBLOCK },
		{ "cloexec", SOCK_CLOEXEC },
		{ "both", SOCK_NONBLOCK | SOCK_CLOEXEC },
	};
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a);

	for (size_t i = 0; i < ERRNO_N(t); i++) {
		int c = conf_client(&a), fd;

		conf_poll_until(l, POLLIN);
		fd = accept4(l, NULL, NULL, t[i].flags);
		CONF_NEED(fd >= 0);
		conf_say(t[i].step, "%s %s %s",
			 fcntl(fd, F_GETFL) & O_NONBLOCK ? "nonblock" : "block",
			 fcntl(fd, F_GETFD) & FD_CLOEXEC ? "cloexec" : "keep",
			 (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR ? "rdwr" : "other");
		close(c);
		close(fd);
	}
	conf_client(&a);
	conf_poll_until(l, POLLIN);
	CONF_FD("bad-1", accept4(l, NULL, NULL, 1));
	CONF_FD("bad-all", accept4(l, NULL, NULL, -1));
	CONF_FD("bad-append", accept4(l, NULL, NULL, O_APPEND));
	CONF_FD("then-good", accept4(l, NULL, NULL, 0));
	CONF_FD("bad-on-fresh", accept4(conf_tcp(0), NULL, NULL, 1));
	CONF_FD("bad-on-bad-fd", accept4(-1, NULL, NULL, 1));
}

static void lowest_fd(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), c = conf_client(&a), hole = dup(c), fd;

	conf_client(&a);
	close(hole);
	conf_poll_until(l, POLLIN);
	fd = accept(l, NULL, NULL);
	conf_say("fd", "%s", fd == hole ? "lowest free" : "other");
}

static void rcvtimeo(void)
{
	union conf_addr a;
	struct timeval tv = { .tv_usec = 50000 };
	int l = conf_listener(CONF_VIP, &a);

	CONF_RES("set", setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	CONF_FD("accept", accept(l, NULL, NULL));
	CONF_FD("accept4", accept4(l, NULL, NULL, SOCK_CLOEXEC));
	conf_client(&a);
	CONF_FD("pending", accept(l, NULL, NULL));
	tv = (struct timeval){ 0 };
	CONF_RES("none", setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	conf_alarm_handler(false);
	conf_alarm_in(50);
	CONF_FD("interrupted", accept(l, NULL, NULL));
}

static void rcvtimeo_before_listen(void)
{
	union conf_addr a;
	struct timeval tv = { .tv_usec = 50000 };
	int l = conf_bound(CONF_VIP, &a);

	CONF_RES("set", setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	CONF_RES("listen", listen(l, 5));
	CONF_FD("accept", accept(l, NULL, NULL));
}

static void interrupted(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a);

	conf_alarm_handler(false);
	conf_alarm_in(50);
	CONF_FD("accept", accept(l, NULL, NULL));
	conf_alarm_in(50);
	CONF_FD("accept4", accept4(l, NULL, NULL, SOCK_CLOEXEC));
	conf_client(&a);
	CONF_FD("then", accept(l, NULL, NULL));
	conf_say("left", "%s", conf_poll_now(l));
}

static int restart_pipe[2];

static void on_alarm_tell(int sig)
{
	(void)sig;
	if (write(restart_pipe[1], "x", 1) != 1)
		_exit(1);
}

static void restarted(bool timeo)
{
	union conf_addr a;
	struct sigaction sa = { .sa_handler = on_alarm_tell, .sa_flags = SA_RESTART };
	struct timeval tv = { .tv_sec = 5 };
	int l = conf_listener(CONF_VIP, &a);
	char c;

	CONF_NEED(pipe(restart_pipe) == 0);
	if (fork() == 0) { /* connects once the signal has been handled */
		if (read(restart_pipe[0], &c, 1) == 1)
			conf_client(&a);
		pause();
	}
	if (timeo)
		CONF_NEED(setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == 0);
	CONF_NEED(sigaction(SIGALRM, &sa, NULL) == 0);
	conf_alarm_in(50);
	CONF_FD("accept", accept(l, NULL, NULL));
}
static void restart(void)
{
	restarted(false);
}
static void restart_timeo(void)
{
	restarted(true);
}

/* --- another thread --- */

struct blocked {
	int l;
	pid_t tid;
	int ret, err;
	pthread_t thread;
};

static void *blocked_main(void *arg)
{
	struct blocked *b = arg;

	__atomic_store_n(&b->tid, (pid_t)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
	b->ret = accept(b->l, NULL, NULL);
	b->err = errno;
	return NULL;
}

static void block(struct blocked *b, int l)
{
	b->l = l;
	b->tid = 0;
	CONF_NEED(pthread_create(&b->thread, NULL, blocked_main, b) == 0);
	while (!__atomic_load_n(&b->tid, __ATOMIC_SEQ_CST))
		;
	conf_wait_asleep(getpid(), b->tid);
}

static void join(const char *step, struct blocked *b)
{
	pthread_join(b->thread, NULL);
	conf_say(step, "%s %s", b->ret < 0 ? "-1" : "fd",
		 b->ret < 0 ? conf_errno(b->err) : "-");
}

static void shutdown_wakes(void)
{
	int l = conf_listener(CONF_VIP, NULL);
	struct blocked b;

	block(&b, l);
	CONF_RES("shutdown", shutdown(l, SHUT_RD));
	join("accept", &b);
	CONF_FD("again", accept(l, NULL, NULL));
	l = conf_listener(CONF_VIP, NULL);
	block(&b, l);
	CONF_RES("shutdown-both", shutdown(l, SHUT_RDWR));
	join("accept-both", &b);
}

static void after_shutdown(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), c;
	char x;

	c = conf_client(&a);
	conf_poll_until(l, POLLIN);
	CONF_RES("shutdown", shutdown(l, SHUT_RD));
	conf_say("poll", "%s", conf_poll_now(l));
	CONF_FD("accept", accept(l, NULL, NULL));
	CONF_RES("shutdown-again", shutdown(l, SHUT_RD));
	conf_poll_until(c, POLLIN);
	CONF_RES("client-recv", recv(c, &x, 1, MSG_DONTWAIT));
}

/* A close() elsewhere does not end a blocked accept(): the call holds the file. */
static void closed_elsewhere(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a);
	struct blocked b;

	block(&b, l);
	CONF_RES("close", close(l));
	CONF_RES("connect", connect(conf_tcp(0), &a.sa, conf_addrlen()));
	join("accept", &b);
}

static void two_threads(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a);
	struct blocked x, y;

	block(&x, l);
	block(&y, l);
	conf_client(&a);
	conf_client(&a);
	join("first", &x);
	join("second", &y);
	conf_say("different", "%s", x.ret != y.ret ? "yes" : "no");
}

/* O_NONBLOCK set while a call is blocked changes the next call only. */
static void nonblock_elsewhere(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a);
	struct blocked x;

	block(&x, l);
	conf_nonblock(l, true);
	CONF_FD("other", accept(l, NULL, NULL));
	conf_client(&a);
	join("blocked", &x);
}

static void client_gone(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), c = conf_client(&a), fd;
	char x;

	CONF_RES("send", send(c, "x", 1, 0));
	close(c);
	conf_poll_until(l, POLLIN);
	fd = accept(l, NULL, NULL);
	CONF_FD("accept", fd);
	conf_say("peer", "%s", conf_show_peer(fd));
	conf_poll_until(fd, POLLIN);
	CONF_RES("recv", recv(fd, &x, 1, MSG_DONTWAIT));
	conf_poll_until(fd, POLLRDHUP);
	CONF_RES("recv-2", recv(fd, &x, 1, MSG_DONTWAIT));
}

static void no_fds(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), c, fd, last = -1;
	struct rlimit rl;

	CONF_NEED(getrlimit(RLIMIT_NOFILE, &rl) == 0);
	rl.rlim_cur = 64;
	CONF_NEED(setrlimit(RLIMIT_NOFILE, &rl) == 0);
	c = conf_client(&a);
	conf_poll_until(l, POLLIN);
	while ((fd = dup(c)) >= 0)
		last = fd;
	CONF_FD("full", accept(l, NULL, NULL));
	conf_say("left", "%s", conf_poll_now(l));
	close(last);
	CONF_FD("then", accept(l, NULL, NULL));
}

static void forked(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), p[2], c;
	char x = 0;

	CONF_NEED(pipe(p) == 0);
	if (fork() == 0) {
		int fd = conf_accept(l);

		CONF_NEED(send(fd, "hi", 2, 0) == 2);
		CONF_NEED(write(p[1], "x", 1) == 1);
		pause();
	}
	c = conf_client(&a);
	CONF_RES("child", read(p[0], &x, 1));
	CONF_RES("recv", recv(c, &x, 1, 0));
	conf_client(&a);
	CONF_FD("parent", accept(l, NULL, NULL));
}

static const struct conf_case generic[] = {
	{ "not-listening", not_listening },
	{ "names", names },
	{ "arguments", arguments },
	{ "truncation", truncation },
	{ "edge", edge },
	{ "nonblock", nonblock },
	{ "flags", flags },
	{ "lowest-fd", lowest_fd },
	{ "rcvtimeo", rcvtimeo },
	{ "rcvtimeo-before-listen", rcvtimeo_before_listen },
	{ "interrupted", interrupted },
	{ "restart", restart },
	{ "restart-timeo", restart_timeo },
	{ "shutdown-wakes", shutdown_wakes },
	{ "after-shutdown", after_shutdown },
	{ "closed-elsewhere", closed_elsewhere },
	{ "two-threads", two_threads },
	{ "nonblock-elsewhere", nonblock_elsewhere },
	{ "client-gone", client_gone },
	{ "no-fds", no_fds },
	{ "forked", forked },
};

static void not_tcp(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int p[2], fd, c;
	socklen_t len = sizeof(un);

	CONF_NEED(pipe(p) == 0);
	CONF_FD("bad-fd", accept(-1, NULL, NULL));
	CONF_FD("pipe", accept(p[0], NULL, NULL));
	CONF_FD("udp", accept(socket(AF_INET, SOCK_DGRAM, 0), NULL, NULL));
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	CONF_FD("unix-fresh", accept(fd, NULL, NULL));
	CONF_NEED(bind(fd, (struct sockaddr *)&un, 2) == 0 && listen(fd, 5) == 0);
	CONF_NEED(getsockname(fd, (struct sockaddr *)&un, &len) == 0);
	c = socket(AF_UNIX, SOCK_STREAM, 0);
	CONF_RES("unix-connect", connect(c, (struct sockaddr *)&un, len));
	len = sizeof(un);
	CONF_FD("unix-accept", accept(fd, (struct sockaddr *)&un, &len));
	conf_say("unix-accept-len", "%u family %d", len, un.sun_family);
}

static void dual_stack(void)
{
	union conf_addr a, b;
	socklen_t len;
	int l, c, fd;

	conf_fam = CONF_V6;
	l = conf_listener(CONF_ANY, &a);
	conf_name_port("listener", conf_port(&a));
	c = socket(AF_INET, SOCK_STREAM, 0);
	len = conf_addr_of(&b, AF_INET, CONF_VIP4, conf_port(&a));
	CONF_RES("connect", connect(c, &b.sa, len));
	CONF_NEED(getsockname(c, &b.sa, &len) == 0);
	conf_name_port("client", conf_port(&b));
	len = sizeof(b);
	fd = accept(l, &b.sa, &len);
	conf_say("from", "%s", conf_show(&b, len));
	conf_say("name", "%s", conf_show_name(fd));
	conf_say("peer", "%s", conf_show_peer(fd));
	c = socket(AF_INET, SOCK_STREAM, 0);
	len = conf_addr_of(&b, AF_INET, "127.0.0.1", conf_port(&a));
	CONF_RES("connect-lo", connect(c, &b.sa, len));
	len = sizeof(b);
	fd = accept(l, &b.sa, &len);
	conf_say("lo-from", "%s", conf_show(&b, len));
	conf_say("lo-name", "%s", conf_show_name(fd));
}

static const struct conf_case once[] = {
	{ "not-tcp", not_tcp },
	{ "dual-stack", dual_stack },
};

const struct errno_part errno_accept = { "accept", generic, ERRNO_N(generic), once,
					 ERRNO_N(once) };
