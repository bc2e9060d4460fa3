/* differences - what AF_UNIX stand-ins are known to do otherwise than TCP (docs/architecture.md).
 * Prints what is seen, one line per item; differences.sh compares both ways of running it
 * with the expected values in differences.table, so that a change on either side is noticed. */
#include "../lib/conf.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
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

static void proc_net_tcp(void)
{
	char line[256];
	union conf_addr a;
	int found = 0;
	FILE *f;

	conf_listener(CONF_VIP, &a);
	f = fopen(conf_af() == AF_INET ? "/proc/net/tcp" : "/proc/net/tcp6", "r");
	CONF_NEED(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned port = 0;

		if (sscanf(line, " %*d: %*x:%x", &port) == 1 && (int)port == conf_port(&a))
			found = 1;
	}
	fclose(f);
	conf_say("listener", "%s", found ? "listed" : "not listed");
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
		{ "siocoutq", siocoutq },
		{ "small-writes", small_writes },
		{ "urgent", urgent },
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
		{ "proc-net-tcp", proc_net_tcp },
	};

	conf_run("v4", CONF_V4, cases, sizeof(cases) / sizeof(cases[0]),
		 argc > 1 ? argv[1] : NULL);
	conf_run("v6", CONF_V6, cases, sizeof(cases) / sizeof(cases[0]),
		 argc > 1 ? argv[1] : NULL);
	return 0;
}
