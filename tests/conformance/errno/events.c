/* poll, select, epoll: masks by state, and what was set up before connect() or listen() */
#include "errno_table.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

static int ep_new(void)
{
	int e = epoll_create1(0);

	CONF_NEED(e >= 0);
	return e;
}

static void ep_ctl(const char *step, int e, int op, int fd, uint32_t ev, uint64_t data)
{
	struct epoll_event x = { .events = ev, .data.u64 = data };

	CONF_RES(step, epoll_ctl(e, op, fd, &x));
}

#define EP_ALL (EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP)

/* Waits until an event that has all of @ev comes, or at most 2 s; then says what there is. */
static void ep_say(const char *step, int e, uint32_t ev)
{
	struct epoll_event x[8];
	char text[256] = "";
	int n = 0;

	for (int i = 0; i < 200; i++) {
		n = epoll_wait(e, x, 8, ev ? 10 : 0);
		if (n < 0 || !ev || (n > 0 && (x[0].events & ev) == ev))
			break;
	}
	for (int i = 0; i < n; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), " %s/%llx",
			 conf_events(x[i].events), (unsigned long long)x[i].data.u64);
	conf_say(step, "%d%s", n, text);
}

static void say_select(const char *step, int fd)
{
	fd_set r, w, x;
	struct timeval tv = { 0 };
	int n;

	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_ZERO(&x);
	FD_SET(fd, &r);
	FD_SET(fd, &w);
	FD_SET(fd, &x);
	n = select(fd + 1, &r, &w, &x, &tv);
	conf_say(step, "%d%s%s%s", n, n > 0 && FD_ISSET(fd, &r) ? " r" : "",
		 n > 0 && FD_ISSET(fd, &w) ? " w" : "", n > 0 && FD_ISSET(fd, &x) ? " x" : "");
}

static void all_ways(const char *state, int fd)
{
	char step[64];
	int e = ep_new();
	struct epoll_event x = { .events = EP_ALL };

	conf_say(state, "poll %s", conf_poll_now(fd));
	snprintf(step, sizeof(step), "%s-select", state);
	say_select(step, fd);
	CONF_NEED(epoll_ctl(e, EPOLL_CTL_ADD, fd, &x) == 0);
	snprintf(step, sizeof(step), "%s-epoll", state);
	ep_say(step, e, 0);
	close(e);
}

static void states(void)
{
	union conf_addr a;
	int fd = conf_tcp(0), l, c, s;
	char x;

	all_ways("fresh", fd);
	all_ways("bound", conf_bound(CONF_VIP, NULL));
	l = conf_listener(CONF_VIP, &a);
	all_ways("listening", l);
	c = conf_client(&a);
	conf_poll_until(l, POLLIN);
	all_ways("pending", l);
	all_ways("client-not-accepted", c);
	s = conf_accept(l);
	all_ways("listening-again", l);
	all_ways("client", c);
	all_ways("accepted", s);
	CONF_NEED(send(c, "x", 1, 0) == 1);
	conf_poll_until(s, POLLIN);
	all_ways("data", s);
	CONF_NEED(recv(s, &x, 1, 0) == 1);
	all_ways("data-read", s);
	CONF_NEED(shutdown(c, SHUT_WR) == 0);
	conf_poll_until(s, POLLRDHUP);
	all_ways("peer-shut-wr", s);
	all_ways("own-shut-wr", c);
	CONF_NEED(shutdown(s, SHUT_WR) == 0);
	conf_poll_until(c, POLLHUP);
	all_ways("both-shut", c);
	fd = conf_tcp(0);
	close(l);
	CONF_NEED(connect(fd, &a.sa, conf_addrlen()) < 0);
	all_ways("refused", fd);
}

static void urgent(void)
{
	int c, s;

	conf_pair(&c, &s, NULL);
	CONF_NEED(send(c, "!", 1, MSG_OOB) == 1);
	conf_poll_until(s, POLLPRI);
	all_ways("urgent", s);
}

static void epoll_before_connect(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), fd = conf_tcp(SOCK_NONBLOCK), e = ep_new(), s;
	char x;

	ep_ctl("add", e, EPOLL_CTL_ADD, fd, EPOLLOUT | EPOLLIN, 0xabcdef0123456789);
	ep_say("fresh", e, 0);
	(void)connect(fd, &a.sa, conf_addrlen());
	ep_say("connected", e, EPOLLOUT);
	conf_say_so_error("so-error", fd);
	ep_ctl("add-again", e, EPOLL_CTL_ADD, fd, EPOLLIN, 1);
	ep_ctl("mod", e, EPOLL_CTL_MOD, fd, EPOLLIN, 2);
	ep_say("idle", e, 0);
	s = conf_accept(l);
	CONF_NEED(send(s, "x", 1, 0) == 1);
	ep_say("data", e, EPOLLIN);
	CONF_NEED(recv(fd, &x, 1, 0) == 1);
	ep_say("read", e, 0);
	ep_ctl("del", e, EPOLL_CTL_DEL, fd, 0, 0);
	ep_ctl("del-again", e, EPOLL_CTL_DEL, fd, 0, 0);
	CONF_NEED(send(s, "x", 1, 0) == 1);
	conf_poll_until(fd, POLLIN);
	ep_say("deleted", e, 0);
}

static void epoll_blocking_connect(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), fd = conf_tcp(0), e = ep_new(), s;

	ep_ctl("add", e, EPOLL_CTL_ADD, fd, EPOLLIN, 7);
	CONF_RES("connect", connect(fd, &a.sa, conf_addrlen()));
	s = conf_accept(l);
	ep_say("idle", e, 0);
	CONF_NEED(send(s, "x", 1, 0) == 1);
	ep_say("data", e, EPOLLIN);
	close(fd);
	ep_say("closed", e, 0);
}

static void epoll_edge(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), fd = conf_tcp(SOCK_NONBLOCK), e = ep_new(), s;
	char x;

	ep_ctl("add", e, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, 1);
	ep_say("fresh", e, 0);
	ep_say("fresh-again", e, 0);
	(void)connect(fd, &a.sa, conf_addrlen());
	ep_say("connected", e, EPOLLOUT);
	ep_say("connected-again", e, 0);
	s = conf_accept(l);
	CONF_NEED(send(s, "x", 1, 0) == 1);
	ep_say("data", e, EPOLLIN);
	ep_say("data-again", e, 0);
	CONF_NEED(send(s, "x", 1, 0) == 1);
	ep_say("more", e, EPOLLIN);
	CONF_NEED(recv(fd, &x, 1, 0) == 1);
	ep_say("read-one", e, 0);
}

static void epoll_oneshot(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), fd = conf_tcp(SOCK_NONBLOCK), e = ep_new();

	(void)l;
	ep_ctl("add", e, EPOLL_CTL_ADD, fd, EPOLLOUT | EPOLLONESHOT, 1);
	ep_say("fresh", e, EPOLLHUP);
	ep_say("fresh-again", e, 0);
	(void)connect(fd, &a.sa, conf_addrlen());
	conf_poll_until(fd, POLLOUT);
	ep_say("disarmed", e, 0);
	ep_ctl("mod", e, EPOLL_CTL_MOD, fd, EPOLLOUT | EPOLLONESHOT, 2);
	ep_say("armed", e, EPOLLOUT);
	ep_say("armed-again", e, 0);
}

static void epoll_two_sets(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), fd = conf_tcp(0), e = ep_new(), f = ep_new(), s;

	ep_ctl("add-first", e, EPOLL_CTL_ADD, fd, EPOLLIN, 1);
	ep_ctl("add-second", f, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT, 2);
	CONF_RES("connect", connect(fd, &a.sa, conf_addrlen()));
	s = conf_accept(l);
	ep_say("first", e, 0);
	ep_say("second", f, EPOLLOUT);
	CONF_NEED(send(s, "x", 1, 0) == 1);
	ep_say("first-data", e, EPOLLIN);
	ep_say("second-data", f, EPOLLIN);
}

static void epoll_nested(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), fd = conf_tcp(0), e = ep_new(), f = ep_new(), s;

	ep_ctl("add", e, EPOLL_CTL_ADD, fd, EPOLLIN, 1);
	ep_ctl("nest", f, EPOLL_CTL_ADD, e, EPOLLIN, 2);
	CONF_RES("connect", connect(fd, &a.sa, conf_addrlen()));
	s = conf_accept(l);
	while (epoll_wait(e, &(struct epoll_event){ 0 }, 1, 0) > 0)
		; /* what the fresh socket had raised */
	ep_say("idle", f, 0);
	CONF_NEED(send(s, "x", 1, 0) == 1);
	ep_say("data", f, EPOLLIN);
	ep_say("inner", e, EPOLLIN);
}

static void epoll_before_listen(void)
{
	union conf_addr a;
	int l = conf_bound(CONF_VIP, &a), e = ep_new(), fd;

	ep_ctl("add", e, EPOLL_CTL_ADD, l, EPOLLIN, 0x55);
	ep_say("bound", e, 0);
	CONF_RES("listen", listen(l, 5));
	ep_say("listening", e, 0);
	conf_client(&a);
	ep_say("pending", e, EPOLLIN);
	fd = accept(l, NULL, NULL);
	CONF_FD("accept", fd);
	ep_say("accepted", e, 0);
	ep_ctl("mod", e, EPOLL_CTL_MOD, l, EPOLLIN | EPOLLET, 0x66);
	conf_client(&a);
	ep_say("edge", e, EPOLLIN);
	ep_say("edge-again", e, 0);
	ep_ctl("del", e, EPOLL_CTL_DEL, l, 0, 0);
	conf_client(&a);
	ep_say("deleted", e, 0);
	ep_ctl("add-again", e, EPOLL_CTL_ADD, l, EPOLLIN, 0x77);
	ep_say("again", e, EPOLLIN);
}

static void epoll_exclusive(void)
{
	union conf_addr a;
	int l = conf_bound(CONF_VIP, &a), e = ep_new();

	ep_ctl("add", e, EPOLL_CTL_ADD, l, EPOLLIN | EPOLLEXCLUSIVE, 1);
	CONF_RES("listen", listen(l, 5));
	conf_client(&a);
	ep_say("pending", e, EPOLLIN);
	ep_ctl("mod", e, EPOLL_CTL_MOD, l, EPOLLIN, 1);
}

static void epoll_refused(void)
{
	union conf_addr a;
	int fd = conf_tcp(SOCK_NONBLOCK), e = ep_new();

	conf_bound(CONF_VIP, &a);
	ep_ctl("add", e, EPOLL_CTL_ADD, fd, EPOLLOUT | EPOLLIN | EPOLLRDHUP, 3);
	CONF_RES("connect", connect(fd, &a.sa, conf_addrlen()));
	ep_say("refused", e, EPOLLHUP | EPOLLERR);
	conf_say_so_error("so-error", fd);
	ep_say("read", e, EPOLLHUP);
	ep_ctl("mod", e, EPOLL_CTL_MOD, fd, EPOLLIN, 4);
	ep_say("modified", e, EPOLLHUP);
}

/* --- dup'd descriptors --- */

static void dup_before_connect(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), fd = conf_tcp(0), d = dup(fd), f, g, s;
	char x = 0;

	f = fcntl(fd, F_DUPFD_CLOEXEC, 100);
	g = dup2(fd, 200);
	CONF_NEED(d >= 0 && f >= 100 && g == 200);
	conf_name_port("listener", conf_port(&a));
	CONF_RES("connect", connect(fd, &a.sa, conf_addrlen()));
	s = conf_accept(l);
	conf_say("dup-peer", "%s", conf_show_peer(d));
	conf_say("dupfd-peer", "%s", conf_show_peer(f));
	conf_say("dup2-peer", "%s", conf_show_peer(g));
	conf_talk("dup-talk", d, s);
	conf_talk("dupfd-talk", f, s);
	conf_talk("dup2-talk", g, s);
	conf_say("dup-cloexec", "%d", fcntl(d, F_GETFD));
	conf_say("dupfd-cloexec", "%d", fcntl(f, F_GETFD));
	CONF_RES("connect-dup", connect(d, &a.sa, conf_addrlen()));
	close(fd);
	close(f);
	close(g);
	conf_talk("last-talk", d, s);
	conf_say("poll", "%s", conf_poll_now(s));
	close(d);
	conf_poll_until(s, POLLRDHUP);
	CONF_RES("eof", recv(s, &x, 1, MSG_DONTWAIT));
}

static void connect_by_dup(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), fd = conf_tcp(0), d = dup3(fd, 150, O_CLOEXEC), s;

	CONF_RES("connect", connect(d, &a.sa, conf_addrlen()));
	close(d);
	s = conf_accept(l);
	conf_talk("original-talk", fd, s);
	conf_nonblock(fd, true);
	conf_say("status", "%s", fcntl(fd, F_GETFL) & O_NONBLOCK ? "nonblock" : "block");
}

static void dup_before_listen(void)
{
	union conf_addr a;
	int l = conf_bound(CONF_VIP, &a), d = dup(l), v = -1;
	socklen_t len = sizeof(v);

	CONF_RES("listen", listen(l, 5));
	CONF_NEED(getsockopt(d, SOL_SOCKET, SO_ACCEPTCONN, &v, &len) == 0);
	conf_say("dup-acceptconn", "%d", v);
	conf_client(&a);
	conf_say("dup-poll", "%s", conf_poll_until(d, POLLIN));
	CONF_FD("dup-accept", accept(d, NULL, NULL));
	close(l);
	conf_client(&a);
	CONF_FD("dup-accept-2", accept(d, NULL, NULL));
	close(d);
	CONF_RES("connect-closed", connect(conf_tcp(0), &a.sa, conf_addrlen()));
}

static void dup_after(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), c, d, s;

	d = dup(l);
	close(l);
	c = conf_client(&a);
	s = conf_accept(d);
	l = dup(s);
	close(s);
	conf_talk("talk", c, l);
	close(d);
	CONF_RES("connect-closed", connect(conf_tcp(0), &a.sa, conf_addrlen()));
}

static void epoll_dup(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), fd = conf_tcp(0), d = dup(fd), e = ep_new(), s;

	ep_ctl("add-dup", e, EPOLL_CTL_ADD, d, EPOLLIN, 0xd);
	CONF_RES("connect", connect(fd, &a.sa, conf_addrlen()));
	s = conf_accept(l);
	ep_say("idle", e, 0);
	CONF_NEED(send(s, "x", 1, 0) == 1);
	ep_say("data", e, EPOLLIN);
	ep_ctl("mod", e, EPOLL_CTL_MOD, d, EPOLLIN | EPOLLOUT, 0xe);
	ep_say("modified", e, EPOLLIN);
	ep_ctl("add-original", e, EPOLL_CTL_ADD, fd, EPOLLIN, 0xf);
	ep_ctl("del-dup", e, EPOLL_CTL_DEL, d, 0, 0);
	ep_say("original", e, EPOLLIN);
}

/* --- flags of the descriptor and of the file --- */

static void say_flags(const char *step, int fd)
{
	int fl = fcntl(fd, F_GETFL), own = fcntl(fd, F_GETOWN);

	conf_say(step, "%s %s %s %s owner %s sig %d", fl & O_NONBLOCK ? "nonblock" : "block",
		 fcntl(fd, F_GETFD) & FD_CLOEXEC ? "cloexec" : "keep",
		 fl & O_ASYNC ? "async" : "-", (fl & O_ACCMODE) == O_RDWR ? "rdwr" : "other",
		 own == 0	   ? "none"
		 : own == getpid() ? "me"
				   : "other",
		 fcntl(fd, F_GETSIG));
}

static void flags_connect(void)
{
	static const struct {
		const char *step;
		int type;
	} t[] = {
		{ "none", 0 },
		{ "nonblock", SOCK_NONBLOCK },
		{ "cloexec", SOCK_CLOEXEC },
		{ "both", SOCK_NONBLOCK | SOCK_CLOEXEC },
	};
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a);

	(void)l;
	for (size_t i = 0; i < ERRNO_N(t); i++) {
		int fd = conf_tcp(t[i].type), l2 = conf_tcp(t[i].type);
		char step[64];

		(void)connect(fd, &a.sa, conf_addrlen());
		conf_poll_until(fd, POLLOUT);
		say_flags(t[i].step, fd);
		snprintf(step, sizeof(step), "%s-listen", t[i].step);
		CONF_RES(step, listen(l2, 5));
		say_flags(step, l2);
	}
}

static void flags_async(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), fd = conf_tcp(0), s;
	sigset_t set;
	struct timespec two = { .tv_sec = 2 }, none = { 0 };

	sigemptyset(&set);
	sigaddset(&set, SIGIO);
	sigprocmask(SIG_BLOCK, &set, NULL);
	CONF_RES("setown", fcntl(fd, F_SETOWN, getpid()));
	CONF_RES("async", fcntl(fd, F_SETFL, O_ASYNC));
	CONF_RES("connect", connect(fd, &a.sa, conf_addrlen()));
	say_flags("flags", fd);
	s = conf_accept(l);
	while (sigtimedwait(&set, NULL, &none) > 0)
		;
	CONF_NEED(send(s, "x", 1, 0) == 1);
	conf_say("signal", "%s", sigtimedwait(&set, NULL, &two) == SIGIO ? "SIGIO" : "none");
}

static const struct conf_case generic[] = {
	{ "states", states },
	{ "urgent", urgent },
	{ "epoll-before-connect", epoll_before_connect },
	{ "epoll-blocking-connect", epoll_blocking_connect },
	{ "epoll-edge", epoll_edge },
	{ "epoll-oneshot", epoll_oneshot },
	{ "epoll-two-sets", epoll_two_sets },
	{ "epoll-nested", epoll_nested },
	{ "epoll-before-listen", epoll_before_listen },
	{ "epoll-exclusive", epoll_exclusive },
	{ "epoll-refused", epoll_refused },
	{ "dup-before-connect", dup_before_connect },
	{ "connect-by-dup", connect_by_dup },
	{ "dup-before-listen", dup_before_listen },
	{ "dup-after", dup_after },
	{ "epoll-dup", epoll_dup },
	{ "flags-connect", flags_connect },
	{ "flags-async", flags_async },
};

const struct errno_part errno_events = { "events", generic, ERRNO_N(generic), NULL, 0 };
