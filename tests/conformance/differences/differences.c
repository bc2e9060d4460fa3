/* differences - what AF_UNIX stand-ins are known to do otherwise than TCP (docs/architecture.md).
 * Prints what is seen, one line per item; differences.sh compares both ways of running it
 * with the expected values in differences.table, so that a change on either side is noticed. */
#include "../lib/conf.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void shutdown_rd(void)
{
	int c, s;
	char x = 0;

	conf_pair(&c, &s, NULL);
	CONF_RES("shutdown", shutdown(c, SHUT_RD));
	CONF_RES("own-recv", recv(c, &x, 1, MSG_DONTWAIT));
	conf_say("own-poll", "%s", conf_poll_now(c));
	conf_say("peer-poll", "%s", conf_poll_now(s));
	CONF_RES("peer-send", send(s, "x", 1, MSG_NOSIGNAL));
	CONF_RES("peer-send-2", send(s, "x", 1, MSG_NOSIGNAL));
	conf_poll_until(c, POLLIN);
	CONF_RES("own-recv-data", recv(c, &x, 1, MSG_DONTWAIT));
	CONF_RES("own-send", send(c, "x", 1, MSG_NOSIGNAL));
	conf_poll_until(s, POLLIN);
	CONF_RES("peer-recv", recv(s, &x, 1, MSG_DONTWAIT));
}

static void shutdown_rd_data(void)
{
	int c, s;
	char x[4];

	conf_pair(&c, &s, NULL);
	CONF_NEED(send(s, "abc", 3, 0) == 3);
	conf_poll_until(c, POLLIN);
	CONF_RES("shutdown", shutdown(c, SHUT_RD));
	CONF_RES("recv", recv(c, x, sizeof(x), MSG_DONTWAIT));
	CONF_RES("recv-again", recv(c, x, sizeof(x), MSG_DONTWAIT));
}

static void recv_trunc(void)
{
	int c, s;
	char x[8] = "";

	conf_pair(&c, &s, NULL);
	CONF_NEED(send(c, "abcdef", 6, 0) == 6);
	conf_poll_until(s, POLLIN);
	CONF_RES("null", recv(s, NULL, 2, MSG_TRUNC | MSG_DONTWAIT));
	CONF_RES("buffer", recv(s, x, 2, MSG_TRUNC | MSG_DONTWAIT));
	memset(x, 0, sizeof(x));
	CONF_RES("rest", recv(s, x, sizeof(x), MSG_DONTWAIT));
	conf_say("rest-bytes", "%s", x);
}

static void sendto_address(void)
{
	union conf_addr a;
	struct iovec iov = { .iov_base = "x", .iov_len = 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_name = &a };
	int c, s;

	conf_pair(&c, &s, NULL);
	m.msg_namelen = conf_addr(&a, CONF_VIP, 9);
	CONF_RES("sendto", sendto(c, "x", 1, MSG_NOSIGNAL, &a.sa, m.msg_namelen));
	CONF_RES("sendmsg", sendmsg(c, &m, MSG_NOSIGNAL));
	CONF_RES("sendto-null", sendto(c, "x", 1, MSG_NOSIGNAL, NULL, 0));
}

static void recvfrom_address(void)
{
	union conf_addr a;
	char x;
	struct iovec iov = { .iov_base = &x, .iov_len = 1 };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_name = &a, .msg_namelen = sizeof(a)
	};
	socklen_t len = sizeof(a);
	int c, s;

	conf_pair(&c, &s, NULL);
	CONF_NEED(send(c, "xy", 2, 0) == 2);
	conf_poll_until(s, POLLIN);
	memset(&a, 0, sizeof(a));
	CONF_RES("recvfrom", recvfrom(s, &x, 1, MSG_DONTWAIT, &a.sa, &len));
	conf_say("address", "%s", len ? len > sizeof(a.in6) ? "long" : "some" : "none");
	CONF_RES("recvmsg", recvmsg(s, &m, MSG_DONTWAIT));
	conf_say("name", "%s",
		 m.msg_namelen ? m.msg_namelen > sizeof(a.in6) ? "long" : "some" : "none");
}

static void unspec(void)
{
	union conf_addr a = { 0 };
	int c, s;
	char x;

	conf_pair(&c, &s, NULL);
	CONF_RES("connect", connect(c, &a.sa, sizeof(a.in)));
	conf_say("peer", "%s", conf_show_peer(c));
	CONF_RES("send", send(c, "x", 1, MSG_NOSIGNAL));
	conf_poll_until(s, POLLIN);
	CONF_RES("peer-recv", recv(s, &x, 1, MSG_DONTWAIT));
}

static void after_peer_close(void)
{
	struct timespec nap = { .tv_nsec = 20000000 };
	int c, s;
	char x;

	conf_pair(&c, &s, NULL);
	close(c);
	conf_say("poll", "%s", conf_poll_until(s, POLLRDHUP));
	CONF_RES("recv", recv(s, &x, 1, MSG_DONTWAIT));
	CONF_RES("send-empty", send(s, "", 0, MSG_NOSIGNAL));
	CONF_RES("send", send(s, "x", 1, MSG_NOSIGNAL));
	nanosleep(&nap, NULL); /* natively the answer to it is a reset */
	CONF_RES("send-2", send(s, "x", 1, MSG_NOSIGNAL));
	conf_say("poll-2", "%s", conf_poll_now(s));
	conf_say_so_error("so-error", s);
	conf_say("peer", "%s", conf_show_peer(s));
}

static void linger_zero(void)
{
	struct linger l = { .l_onoff = 1, .l_linger = 0 };
	int c, s;
	char x;

	conf_pair(&c, &s, NULL);
	CONF_RES("set", setsockopt(c, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
	close(c);
	conf_say("poll", "%s", conf_poll_until(s, POLLHUP));
	CONF_RES("recv", recv(s, &x, 1, MSG_DONTWAIT));
	CONF_RES("recv-2", recv(s, &x, 1, MSG_DONTWAIT));
	conf_say_so_error("so-error", s);
}

static void linger_zero_data(void)
{
	struct linger l = { .l_onoff = 1, .l_linger = 0 };
	int c, s;
	char x[8];

	conf_pair(&c, &s, NULL);
	CONF_NEED(setsockopt(c, SOL_SOCKET, SO_LINGER, &l, sizeof(l)) == 0);
	CONF_NEED(send(c, "abc", 3, 0) == 3);
	conf_poll_until(s, POLLIN);
	close(c);
	conf_poll_until(s, POLLHUP);
	CONF_RES("recv", recv(s, x, sizeof(x), MSG_DONTWAIT));
	CONF_RES("recv-2", recv(s, x, sizeof(x), MSG_DONTWAIT));
}

/* Only half closed when data is left unread: TCP tells the end first, and the reset later. */
static void shut_wr_unread(void)
{
	int c, s;
	char x[8];

	conf_pair(&c, &s, NULL);
	CONF_NEED(send(s, "unread", 6, 0) == 6);
	conf_poll_until(c, POLLIN);
	CONF_RES("shutdown", shutdown(c, SHUT_WR));
	close(c);
	conf_poll_until(s, POLLHUP);
	CONF_RES("recv", recv(s, x, sizeof(x), MSG_DONTWAIT));
	CONF_RES("recv-2", recv(s, x, sizeof(x), MSG_DONTWAIT));
}

static void peer_shut_rdwr(void)
{
	struct timespec nap = { .tv_nsec = 20000000 };
	int c, s;
	char x;

	conf_pair(&c, &s, NULL);
	CONF_NEED(shutdown(c, SHUT_RDWR) == 0);
	conf_say("poll", "%s", conf_poll_until(s, POLLRDHUP));
	CONF_RES("recv", recv(s, &x, 1, MSG_DONTWAIT));
	CONF_RES("send", send(s, "x", 1, MSG_NOSIGNAL));
	nanosleep(&nap, NULL); /* natively the answer to it is a reset */
	CONF_RES("send-2", send(s, "x", 1, MSG_NOSIGNAL));
	conf_say("peer", "%s", conf_show_peer(s));
}

/* Closes a socket once the main thread sleeps in a call. */
static void *close_under_sleeper(void *fd)
{
	conf_wait_asleep(getpid(), getpid());
	close(*(int *)fd);
	return NULL;
}

static int pipes;

static void on_sigpipe(int sig)
{
	(void)sig;
	pipes++;
}

/* The peer closes while a blocking send waits that has sent a part: that one says how much,
 * the next one why. */
static void blocked_send(void)
{
	static char block[1 << 20];
	pthread_t thread;
	int c, s, left = 64;

	signal(SIGPIPE, on_sigpipe);
	conf_pair(&c, &s, NULL);
	CONF_NEED(pthread_create(&thread, NULL, close_under_sleeper, &s) == 0);
	while (left > 0 && write(c, block, sizeof(block)) > 0)
		left--;
	conf_say("then", "%s", left > 0 ? conf_errno(errno) : "-");
	conf_say("signal", "%s", pipes ? "SIGPIPE" : "none");
	CONF_RES("again", send(c, "x", 1, MSG_NOSIGNAL));
}

/* The same for one that has sent nothing. */
static void blocked_send_first(void)
{
	static char block[65536];
	pthread_t thread;
	int c, s;

	signal(SIGPIPE, on_sigpipe);
	conf_pair(&c, &s, NULL);
	conf_nonblock(c, true);
	for (size_t n = sizeof(block); n > 0; n /= 2)
		while (send(c, block, n, 0) > 0)
			;
	conf_nonblock(c, false);
	CONF_NEED(pthread_create(&thread, NULL, close_under_sleeper, &s) == 0);
	CONF_RES("send", send(c, "x", 1, 0));
	conf_say("signal", "%s", pipes ? "SIGPIPE" : "none");
}

static void reconnect_after_reset(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), c = conf_client(&a), s = conf_accept(l);
	char x;

	CONF_NEED(send(c, "x", 1, 0) == 1);
	conf_poll_until(s, POLLIN);
	close(s);
	conf_poll_until(c, POLLHUP);
	CONF_RES("recv", recv(c, &x, 1, MSG_DONTWAIT));
	CONF_RES("connect", connect(c, &a.sa, conf_addrlen()));
	CONF_RES("connect-2", connect(c, &a.sa, conf_addrlen()));
}

/* The program of a non-blocking connect() never asked connect() again. */
static void connect_after_reset(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), c = conf_tcp(SOCK_NONBLOCK), s;
	char x;

	CONF_NEED(connect(c, &a.sa, conf_addrlen()) < 0 && errno == EINPROGRESS);
	s = conf_accept(l);
	conf_poll_until(c, POLLOUT);
	CONF_NEED(send(c, "x", 1, 0) == 1);
	conf_poll_until(s, POLLIN);
	close(s);
	conf_poll_until(c, POLLHUP);
	CONF_RES("recv", recv(c, &x, 1, 0));
	CONF_RES("connect", connect(c, &a.sa, conf_addrlen()));
	CONF_RES("connect-2", connect(c, &a.sa, conf_addrlen()));
}

/* A port that is only the local end of a connection. */
static void port_of_connection(void)
{
	union conf_addr a;
	socklen_t len = sizeof(a);
	int c, s, one = 1, fd = conf_tcp(0), reuse = conf_tcp(0);

	conf_pair(&c, &s, NULL);
	CONF_NEED(getsockname(c, &a.sa, &len) == 0);
	CONF_RES("bind", bind(fd, &a.sa, len));
	CONF_NEED(setsockopt(reuse, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0);
	close(fd);
	CONF_RES("bind-reuse", bind(reuse, &a.sa, len));
}

static void time_wait(void)
{
	union conf_addr a;
	int c, s, l, fd = conf_tcp(0);
	socklen_t len = sizeof(a);
	char x;

	conf_pair(&c, &s, &l);
	CONF_NEED(getsockname(l, &a.sa, &len) == 0);
	close(s);
	CONF_NEED(recv(c, &x, 1, 0) == 0);
	close(c);
	close(l);
	CONF_RES("bind", bind(fd, &a.sa, len));
}

static void rcvlowat(void)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int c, s, v = 4, ep = epoll_create1(0);
	char x[8];

	conf_pair(&c, &s, NULL);
	CONF_RES("set", setsockopt(s, SOL_SOCKET, SO_RCVLOWAT, &v, sizeof(v)));
	CONF_NEED(ep >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, s, &ev) == 0);
	CONF_NEED(send(c, "ab", 2, 0) == 2);
	for (int i = 0; i < 2000 && (ioctl(s, FIONREAD, &v) < 0 || v < 2); i++)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	conf_say("poll", "%s", conf_poll_now(s));
	CONF_RES("epoll", epoll_wait(ep, &ev, 1, 0));
	CONF_NEED(send(c, "cd", 2, 0) == 2);
	conf_say("poll-4", "%s", conf_poll_until(s, POLLIN));
	CONF_RES("epoll-4", epoll_wait(ep, &ev, 1, 0));
	CONF_RES("recv", recv(s, x, sizeof(x), MSG_DONTWAIT));
}

static void peek_waitall(void)
{
	int c, s, st;
	char x[4];
	pid_t pid, reader = getpid();

	conf_pair(&c, &s, NULL);
	CONF_NEED(send(c, "12", 2, 0) == 2);
	conf_poll_until(s, POLLIN);
	pid = fork();
	if (pid == 0) {
		conf_wait_asleep(reader, reader);
		_exit(send(c, "34", 2, 0) == 2 ? 0 : 1);
	}
	CONF_RES("peek", recv(s, x, 4, MSG_PEEK | MSG_WAITALL));
	CONF_NEED(waitpid(pid, &st, 0) == pid && st == 0);
	CONF_RES("recv", recv(s, x, 4, MSG_WAITALL));
}

static void defer_accept(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), v = 5, c;

	CONF_RES("set", setsockopt(l, IPPROTO_TCP, TCP_DEFER_ACCEPT, &v, sizeof(v)));
	c = conf_client(&a);
	conf_nonblock(l, true);
	conf_say("poll", "%s", conf_poll_now(l));
	CONF_FD("accept", accept(l, NULL, NULL));
	CONF_NEED(send(c, "x", 1, MSG_NOSIGNAL) == 1);
	if (conf_poll_now(l)[0] == '-') /* the one that was deferred, or nobody any more */
		poll(&(struct pollfd){ .fd = l, .events = POLLIN }, 1, 200);
	CONF_FD("accept-with-data", accept(l, NULL, NULL));
}

static void cork(void)
{
	int c, s, v = 1;
	char x[8];

	conf_pair(&c, &s, NULL);
	CONF_RES("set", setsockopt(c, IPPROTO_TCP, TCP_CORK, &v, sizeof(v)));
	CONF_RES("send", send(c, "abc", 3, 0));
	conf_say("poll", "%s", conf_poll_now(s));
	v = 0;
	CONF_RES("unset", setsockopt(c, IPPROTO_TCP, TCP_CORK, &v, sizeof(v)));
	conf_say("poll-uncorked", "%s", conf_poll_until(s, POLLIN));
	CONF_RES("recv", recv(s, x, sizeof(x), MSG_DONTWAIT));
}

static void siocoutq(void)
{
	int c, s, v = -1;

	conf_pair(&c, &s, NULL);
	CONF_NEED(ioctl(c, SIOCOUTQ, &v) == 0);
	conf_say("empty", "%d", v);
	CONF_NEED(send(c, "0123456789", 10, 0) == 10);
	conf_poll_until(s, POLLIN);
	CONF_NEED(ioctl(c, SIOCOUTQ, &v) == 0);
	/* natively what is not acknowledged, here what is not read */
	conf_say("unread", "%s",
		 v == 0	   ? "none"
		 : v == 10 ? "bytes"
		 : v > 10  ? "more"
			   : "less");
	CONF_RES("siocoutqnsd", ioctl(c, SIOCOUTQNSD, &v));
	CONF_RES("siocinq", ioctl(s, SIOCINQ, &v));
	conf_say("siocinq-value", "%d", v);
}

/* How many small writes fit before anyone reads. */
static void small_writes(void)
{
	int c, s, n = 0;

	conf_pair(&c, &s, NULL);
	conf_nonblock(c, true);
	while (n < 200000 && send(c, "x", 1, 0) == 1)
		n++;
	conf_say("one-byte", "%s",
		 n < 200     ? "less than 200"
		 : n < 2000  ? "200 to 2,000"
		 : n < 20000 ? "2,000 to 20,000"
			     : "20,000 or more");
}

static void urgent(void)
{
	int c, s, mark = -1;
	char x = 0;

	conf_pair(&c, &s, NULL);
	CONF_RES("send", send(c, "!", 1, MSG_OOB));
	conf_say("poll", "%s", conf_poll_until(s, POLLPRI));
	CONF_RES("atmark", ioctl(s, SIOCATMARK, &mark));
	conf_say("atmark-value", "%d", mark);
	CONF_RES("recv-normal", recv(s, &x, 1, MSG_DONTWAIT));
	CONF_RES("recv", recv(s, &x, 1, MSG_OOB | MSG_DONTWAIT));
	conf_say("byte", "%c", x ? x : '-');
}

/* A second urgent byte before the first was read. */
static void urgent_twice(void)
{
	int c, s;
	char x = 0;

	conf_pair(&c, &s, NULL);
	CONF_NEED(send(c, "A", 1, MSG_OOB) == 1);
	conf_poll_until(s, POLLPRI);
	CONF_NEED(send(c, "B", 1, MSG_OOB) == 1);
	for (int i = 0; i < 2000 && x != 'B'; i++) {
		(void)recv(s, &x, 1, MSG_OOB | MSG_PEEK);
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	CONF_RES("recv-oob", recv(s, &x, 1, MSG_OOB));
	conf_say("byte", "%c", x);
	CONF_RES("recv", recv(s, &x, 1, MSG_DONTWAIT));
}

static void sigurg(void)
{
	struct timespec two = { .tv_sec = 2 };
	sigset_t set;
	int c, s;

	conf_pair(&c, &s, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGURG);
	sigprocmask(SIG_BLOCK, &set, NULL);
	CONF_RES("setown", fcntl(s, F_SETOWN, getpid()));
	CONF_NEED(send(c, "!", 1, MSG_OOB) == 1);
	conf_say("signal", "%s", sigtimedwait(&set, NULL, &two) == SIGURG ? "SIGURG" : "none");
}

static void reset_after_unread(void)
{
	int c, s;
	char x;

	conf_pair(&c, &s, NULL);
	CONF_NEED(send(s, "unread", 6, 0) == 6);
	conf_poll_until(c, POLLIN);
	close(c);
	conf_say("poll", "%s", conf_poll_until(s, POLLHUP));
	CONF_RES("recv", recv(s, &x, 1, MSG_DONTWAIT));
	CONF_RES("recv-2", recv(s, &x, 1, MSG_DONTWAIT));
	CONF_RES("send", send(s, "x", 1, MSG_NOSIGNAL));
}

/* Data that was on its way when the peer reset. */
static void reset_with_data_both_ways(void)
{
	int c, s;
	char x[8];

	conf_pair(&c, &s, NULL);
	CONF_NEED(send(s, "unread", 6, 0) == 6);
	conf_poll_until(c, POLLIN);
	CONF_NEED(send(c, "last", 4, 0) == 4);
	conf_poll_until(s, POLLIN);
	close(c);
	conf_poll_until(s, POLLHUP);
	CONF_RES("recv", recv(s, x, sizeof(x), MSG_DONTWAIT));
	CONF_RES("recv-2", recv(s, x, sizeof(x), MSG_DONTWAIT));
}

static void poll_wrband(void)
{
	struct pollfd p = { .events = POLLOUT | POLLWRNORM | POLLWRBAND };
	int c, s;

	conf_pair(&c, &s, NULL);
	p.fd = c;
	CONF_NEED(poll(&p, 1, 1000) >= 0);
	conf_say("events", "%s", conf_events((uint16_t)p.revents));
}

/* A listener that never accepts: natively the handshake stalls when the backlog is full. */
static void backlog(void)
{
	union conf_addr a;
	int l = conf_bound(CONF_VIP, &a), n = 0;
	struct timeval tv = { .tv_usec = 100000 };

	CONF_NEED(listen(l, 3) == 0);
	while (n < 64) {
		int c = conf_tcp(0);

		CONF_NEED(setsockopt(c, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) == 0);
		errno = 0;
		if (connect(c, &a.sa, conf_addrlen()) < 0)
			break;
		n++;
	}
	conf_say("connected", "%s", n < 64 ? "as the backlog says" : "64 or more");
	conf_say("then", "%s", n < 64 ? conf_errno(errno) : "-");
}

/* A connect() that waits for room and is interrupted: natively it goes on in the background. */
static void backlog_interrupted(void)
{
	union conf_addr a;
	int l = conf_bound(CONF_VIP, &a), n = 0, c;
	struct timeval tv = { .tv_usec = 100000 };

	CONF_NEED(listen(l, 3) == 0);
	for (bool full = false; !full; n++) {
		CONF_NEED(n < 70000);
		c = conf_tcp(0);
		CONF_NEED(setsockopt(c, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) == 0);
		full = connect(c, &a.sa, conf_addrlen()) < 0;
		close(c); /* its place in the queue stays taken */
	}
	c = conf_tcp(0);
	conf_alarm_handler(false);
	conf_alarm_in(200);
	CONF_RES("connect", connect(c, &a.sa, conf_addrlen()));
	conf_say("poll", "%s", conf_poll_now(c));
	conf_say_so_error("so-error", c);
	conf_say_so_error("so-error-2", c);
}

static void to_self(void)
{
	union conf_addr me;
	int fd = conf_bound(CONF_VIP, &me);

	CONF_RES("connect", connect(fd, &me.sa, conf_addrlen()));
}

static void nonblock(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), fd = conf_tcp(SOCK_NONBLOCK);

	(void)l;
	CONF_RES("connect", connect(fd, &a.sa, conf_addrlen()));
}

static void listener_gone_pending(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), fd = conf_client(&a);
	char c = 0;

	CONF_NEED(send(fd, "x", 1, 0) == 1);
	close(l);
	conf_say("poll", "%s", conf_poll_until(fd, POLLHUP));
	CONF_RES("recv", recv(fd, &c, 1, MSG_DONTWAIT));
}

/* Boundaries of writes: a stream has none. */
static void boundaries(void)
{
	int c, s, one = 1;
	char x[16];

	conf_pair(&c, &s, NULL);
	setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	CONF_NEED(send(c, "abc", 3, 0) == 3 && send(c, "def", 3, 0) == 3);
	for (int i = 0, v = 0; i < 2000 && v < 6; i++) {
		CONF_NEED(ioctl(s, FIONREAD, &v) == 0);
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	CONF_RES("recv", recv(s, x, sizeof(x), MSG_DONTWAIT));
}

static void msg_more(void)
{
	int c, s;
	char x[16];

	conf_pair(&c, &s, NULL);
	CONF_RES("more", send(c, "abc", 3, MSG_MORE));
	conf_say("more-poll", "%s", conf_poll_now(s));
	CONF_RES("last", send(c, "def", 3, 0));
	conf_poll_until(s, POLLIN);
	CONF_RES("recv", recv(s, x, 6, MSG_WAITALL));
}

static void zerocopy(void)
{
	int c, s, one = 1;

	conf_pair(&c, &s, NULL);
	CONF_RES("set", setsockopt(c, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)));
	CONF_RES("send", send(c, "x", 1, MSG_ZEROCOPY | MSG_NOSIGNAL));
}

/* The size of a receive buffer that nobody set. */
static void rcvbuf(void)
{
	int c, s, u = socket(AF_UNIX, SOCK_STREAM, 0), got, of_unix;
	socklen_t len = sizeof(int);

	conf_pair(&c, &s, NULL);
	CONF_NEED(getsockopt(u, SOL_SOCKET, SO_RCVBUF, &of_unix, &len) == 0);
	CONF_NEED(getsockopt(c, SOL_SOCKET, SO_RCVBUF, &got, &len) == 0);
	conf_say("client", "%s", got == of_unix ? "that of a UNIX socket" : "another");
	CONF_NEED(getsockopt(s, SOL_SOCKET, SO_RCVBUF, &got, &len) == 0);
	conf_say("accepted", "%s", got == of_unix ? "that of a UNIX socket" : "another");
}

/* Programs index arrays with it. */
static void incoming_cpu(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), c = conf_client(&a), s = conf_accept(l);
	const int fds[] = { c, s, l };
	static const char *const names[] = { "client", "accepted", "listener" };

	conf_talk("talk", c, s);
	for (int i = 0; i < 3; i++) {
		int v = -2;
		socklen_t len = sizeof(v);

		CONF_NEED(getsockopt(fds[i], SOL_SOCKET, SO_INCOMING_CPU, &v, &len) == 0);
		conf_say(names[i], "%s",
			 v == -1			   ? "none"
			 : v >= 0 && v < get_nprocs_conf() ? "a CPU"
							   : "nonsense");
	}
}

/* Some options make the kernel forget the route, until the next packet. */
static void mtu_without_route(void)
{
	int c, s, v;
	char buf[64];
	socklen_t len = sizeof(v), any = sizeof(buf);

	if (conf_af() != AF_INET6)
		return;
	conf_pair(&c, &s, NULL);
	CONF_RES("before", getsockopt(c, IPPROTO_IPV6, IPV6_MTU, &v, &len));
	CONF_NEED(getsockopt(c, IPPROTO_IPV6, IPV6_2292PKTOPTIONS, buf, &any) == 0);
	CONF_RES("set", setsockopt(c, IPPROTO_IPV6, IPV6_2292PKTOPTIONS, buf, any));
	CONF_RES("after", getsockopt(c, IPPROTO_IPV6, IPV6_MTU, &v, &len));
}

/* Is there a line with this local port in this state? */
static bool in_proc_net_tcp(int port, unsigned state)
{
	char line[256];
	bool found = false;
	FILE *f = fopen(conf_af() == AF_INET ? "/proc/net/tcp" : "/proc/net/tcp6", "r");

	CONF_NEED(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned p = 0, st = 0;

		if (sscanf(line, " %*d: %*[0-9A-F]:%x %*[0-9A-F]:%*x %x", &p, &st) == 2 &&
		    (int)p == port && st == state)
			found = true;
	}
	fclose(f);
	return found;
}

static void proc_net_tcp(void)
{
	union conf_addr a;
	socklen_t len = sizeof(a);
	int l = conf_listener(CONF_VIP, &a), c;

	conf_say("listener", "%s",
		 in_proc_net_tcp(conf_port(&a), TCP_LISTEN) ? "listed" : "not listed");
	c = conf_client(&a);
	conf_accept(l);
	conf_say("accepted", "%s",
		 in_proc_net_tcp(conf_port(&a), TCP_ESTABLISHED) ? "listed" : "not listed");
	CONF_NEED(getsockname(c, &a.sa, &len) == 0);
	conf_say("client", "%s",
		 in_proc_net_tcp(conf_port(&a), TCP_ESTABLISHED) ? "listed" : "not listed");
}

int main(int argc, char **argv)
{
	static const struct conf_case cases[] = {
		{ "shutdown-rd", shutdown_rd },
		{ "shutdown-rd-data", shutdown_rd_data },
		{ "recv-trunc", recv_trunc },
		{ "sendto-address", sendto_address },
		{ "recvfrom-address", recvfrom_address },
		{ "unspec", unspec },
		{ "after-peer-close", after_peer_close },
		{ "linger-zero", linger_zero },
		{ "linger-zero-data", linger_zero_data },
		{ "shut-wr-unread", shut_wr_unread },
		{ "peer-shut-rdwr", peer_shut_rdwr },
		{ "blocked-send", blocked_send },
		{ "blocked-send-first", blocked_send_first },
		{ "reconnect-after-reset", reconnect_after_reset },
		{ "connect-after-reset", connect_after_reset },
		{ "port-of-connection", port_of_connection },
		{ "time-wait", time_wait },
		{ "rcvlowat", rcvlowat },
		{ "peek-waitall", peek_waitall },
		{ "defer-accept", defer_accept },
		{ "cork", cork },
		{ "siocoutq", siocoutq },
		{ "small-writes", small_writes },
		{ "urgent", urgent },
		{ "urgent-twice", urgent_twice },
		{ "sigurg", sigurg },
		{ "reset-after-unread", reset_after_unread },
		{ "reset-with-data-both-ways", reset_with_data_both_ways },
		{ "poll-wrband", poll_wrband },
		{ "backlog", backlog },
		{ "backlog-interrupted", backlog_interrupted },
		{ "to-self", to_self },
		{ "nonblock-connect", nonblock },
		{ "listener-gone-pending", listener_gone_pending },
		{ "boundaries", boundaries },
		{ "msg-more", msg_more },
		{ "zerocopy", zerocopy },
		{ "rcvbuf", rcvbuf },
		{ "incoming-cpu", incoming_cpu },
		{ "mtu-without-route", mtu_without_route },
		{ "proc-net-tcp", proc_net_tcp },
	};

	conf_run("v4", CONF_V4, cases, sizeof(cases) / sizeof(cases[0]),
		 argc > 1 ? argv[1] : NULL);
	conf_run("v6", CONF_V6, cases, sizeof(cases) / sizeof(cases[0]),
		 argc > 1 ? argv[1] : NULL);
	return 0;
}
