/* connect(2) */
#include "errno_table.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static int unused_port(void)
{
	union conf_addr a;

	conf_bound(CONF_ANY, &a); /* bound and not listening, as long as the case lasts */
	conf_name_port("nobody", conf_port(&a));
	return conf_port(&a);
}

static void nobody(enum conf_where where)
{
	union conf_addr a, l;
	socklen_t len = conf_addr(&a, where, unused_port());
	int fd = conf_tcp(0);

	conf_listener(CONF_VIP, &l);
	CONF_RES("connect", connect(fd, &a.sa, len));
	conf_say_so_error("so-error", fd);
	conf_say("name", "%s", conf_show_name(fd));
	conf_say("peer", "%s", conf_show_peer(fd));
	CONF_RES("again", connect(fd, &a.sa, len));
	CONF_RES("then-listener", connect(fd, &l.sa, len));
	conf_say("then-poll", "%s", conf_poll_now(fd));
}

static void nobody_vip(void)
{
	nobody(CONF_VIP);
}
static void nobody_lo(void)
{
	nobody(CONF_LO);
}
static void nobody_any(void)
{
	nobody(CONF_ANY);
}

static void listening_elsewhere(void)
{
	union conf_addr a, b;
	socklen_t len = conf_addrlen();

	/* on the VIP only: loopback has nobody, and the other way round */
	conf_listener(CONF_VIP, &a);
	conf_addr(&b, CONF_LO, conf_port(&a));
	CONF_RES("vip-listener-by-lo", connect(conf_tcp(0), &b.sa, len));
	conf_listener(CONF_LO, &a);
	conf_addr(&b, CONF_VIP, conf_port(&a));
	CONF_RES("lo-listener-by-vip", connect(conf_tcp(0), &b.sa, len));
	conf_listener(CONF_ANY, &a);
	conf_addr(&b, CONF_VIP, conf_port(&a));
	CONF_RES("any-listener-by-vip", connect(conf_tcp(0), &b.sa, len));
	conf_addr(&b, CONF_LO, conf_port(&a));
	CONF_RES("any-listener-by-lo", connect(conf_tcp(0), &b.sa, len));
	conf_addr(&b, CONF_ANY, conf_port(&a));
	CONF_RES("any-listener-by-any", connect(conf_tcp(0), &b.sa, len));
}

static void efault(void)
{
	union conf_addr a;
	socklen_t len = conf_addrlen();
	int fd = conf_tcp(0);

	conf_listener(CONF_VIP, &a);
	CONF_RES("null", connect(fd, NULL, len));
	CONF_RES("bad", connect(fd, errno_bad(), len));
	CONF_RES("null-len0", connect(fd, NULL, 0));
	CONF_RES("bad-len0", connect(fd, errno_bad(), 0));
	CONF_RES("crossing", connect(fd, errno_edge(&a, len - 4), len));
	conf_say("poll", "%s", conf_poll_now(fd));
	CONF_RES("edge", connect(fd, errno_edge(&a, len), len));
}

static void length(void)
{
	static const int lens[] = { 0,	1,  2,	7,  8,	15, 16,	 17,  23,
				    24, 27, 28, 29, 64, 80, 128, 129, 4096 };
	static char big[8192];
	union conf_addr a;
	char step[32];

	conf_listener(CONF_VIP, &a);
	memcpy(big, &a, sizeof(a));
	for (size_t i = 0; i < ERRNO_N(lens); i++) {
		int fd = conf_tcp(0);

		snprintf(step, sizeof(step), "%d", lens[i]);
		CONF_RES(step, connect(fd, (struct sockaddr *)big, (socklen_t)lens[i]));
		close(fd);
	}
	CONF_RES("negative", connect(conf_tcp(0), &a.sa, (socklen_t)-1));
	CONF_RES("most-negative", connect(conf_tcp(0), &a.sa, (socklen_t)1 << 31));
}

static void unspec(void)
{
	union conf_addr a = { 0 };
	int fd = conf_tcp(0), c, s;

	CONF_RES("fresh", connect(fd, &a.sa, sizeof(a.in)));
	CONF_RES("fresh-len2", connect(fd, &a.sa, 2));
	CONF_RES("fresh-len1", connect(fd, &a.sa, 1));
	fd = conf_bound(CONF_VIP, NULL);
	CONF_RES("bound", connect(fd, &a.sa, sizeof(a.in)));
	conf_say("bound-name", "%s", conf_show_name(fd));
	conf_pair(&c, &s, NULL);
	CONF_RES("connected", connect(c, &a.sa, sizeof(a.in)));
	conf_say("connected-peer", "%s", conf_show_peer(c));
	conf_say("connected-name", "%s", conf_show_name(c));
}

static void unspec_listening(void)
{
	union conf_addr a = { 0 }, b;
	int l = conf_listener(CONF_VIP, &b), one = 0;
	socklen_t len = sizeof(one);

	conf_name_port("listener", conf_port(&b));
	CONF_RES("connect", connect(l, &a.sa, sizeof(a.in)));
	CONF_RES("acceptconn", getsockopt(l, SOL_SOCKET, SO_ACCEPTCONN, &one, &len));
	conf_say("acceptconn-value", "%d", one);
	CONF_RES("client", connect(conf_tcp(0), &b.sa, conf_addrlen()));
	conf_say("name", "%s", conf_show_name(l));
	CONF_RES("listen-again", listen(l, 5));
	CONF_RES("client-again", connect(conf_tcp(0), &b.sa, conf_addrlen()));
}

static void reconnect(void)
{
	union conf_addr un = { 0 }, b;
	int c, s, l;

	conf_pair(&c, &s, &l);
	CONF_RES("disconnect", connect(c, &un.sa, sizeof(un.in)));
	conf_listener(CONF_VIP, &b);
	CONF_RES("connect", connect(c, &b.sa, conf_addrlen()));
	conf_say("poll", "%s", conf_poll_now(c));
}

static void family(void)
{
	union conf_addr a, b;
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "/nonexistent" };
	socklen_t len = conf_addrlen();

	conf_listener(CONF_VIP, &a);
	CONF_RES("unix", connect(conf_tcp(0), (struct sockaddr *)&un, sizeof(un)));
	b = a;
	b.sa.sa_family = 99;
	CONF_RES("99", connect(conf_tcp(0), &b.sa, len));
	b.sa.sa_family = 0xffff;
	CONF_RES("65535", connect(conf_tcp(0), &b.sa, len));
	b.sa.sa_family = AF_NETLINK;
	CONF_RES("netlink", connect(conf_tcp(0), &b.sa, len));
	if (conf_af() == AF_INET)
		len = conf_addr_of(&b, AF_INET6, "::ffff:" CONF_VIP4, conf_port(&a));
	else
		len = conf_addr_of(&b, AF_INET, CONF_VIP4, conf_port(&a));
	CONF_RES("other", connect(conf_tcp(0), &b.sa, len));
	CONF_RES("other-long", connect(conf_tcp(0), &b.sa, sizeof(b.ss)));
}

static void port0(void)
{
	union conf_addr a;
	socklen_t len = conf_addr(&a, CONF_VIP, 0);

	CONF_RES("vip", connect(conf_tcp(0), &a.sa, len));
	conf_addr(&a, CONF_LO, 0);
	CONF_RES("lo", connect(conf_tcp(0), &a.sa, len));
	conf_addr(&a, CONF_ANY, 0);
	CONF_RES("any", connect(conf_tcp(0), &a.sa, len));
}

static void connected(void)
{
	union conf_addr a, b;
	socklen_t len = conf_addrlen();
	int c, s, l;

	conf_pair(&c, &s, &l);
	CONF_NEED(getsockname(l, &a.sa, &len) == 0);
	conf_listener(CONF_VIP, &b);
	CONF_RES("same", connect(c, &a.sa, len));
	CONF_RES("other", connect(c, &b.sa, len));
	CONF_RES("accepted", connect(s, &b.sa, len));
	CONF_RES("short", connect(c, &b.sa, 2));
	CONF_RES("efault", connect(c, errno_bad(), len));
	conf_addr(&b, CONF_VIP, unused_port());
	CONF_RES("nobody", connect(c, &b.sa, len));
	b.sa.sa_family = 99;
	CONF_RES("family", connect(c, &b.sa, len));
	CONF_RES("shutdown", shutdown(c, SHUT_WR));
	CONF_RES("after-shutdown", connect(c, &a.sa, len));
	conf_say("peer", "%s", conf_show_peer(c));
}

static void listening(void)
{
	union conf_addr a, b;
	int l = conf_listener(CONF_VIP, &a);

	conf_listener(CONF_VIP, &b);
	CONF_RES("other", connect(l, &b.sa, conf_addrlen()));
	CONF_RES("self", connect(l, &a.sa, conf_addrlen()));
	CONF_RES("short", connect(l, &a.sa, 2));
	CONF_RES("efault", connect(l, errno_bad(), conf_addrlen()));
	CONF_RES("client-still", connect(conf_tcp(0), &a.sa, conf_addrlen()));
}

static void nonblock(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), fd = conf_tcp(SOCK_NONBLOCK), s;

	CONF_RES("connect", connect(fd, &a.sa, conf_addrlen()));
	conf_say("poll", "%s", conf_poll_until(fd, POLLOUT));
	conf_say_so_error("so-error", fd);
	CONF_RES("second", connect(fd, &a.sa, conf_addrlen()));
	CONF_RES("third", connect(fd, &a.sa, conf_addrlen()));
	s = conf_accept(l);
	conf_talk("talk", fd, s);
}

static void nonblock_refused(void)
{
	union conf_addr a;
	socklen_t len = conf_addr(&a, CONF_VIP, unused_port());
	int fd = conf_tcp(SOCK_NONBLOCK);

	CONF_RES("connect", connect(fd, &a.sa, len));
	conf_say("poll", "%s", conf_poll_until(fd, POLLOUT));
	conf_say_so_error("so-error", fd);
	conf_say_so_error("so-error-again", fd);
	conf_say("poll-again", "%s", conf_poll_now(fd));
	CONF_RES("second", connect(fd, &a.sa, len));
}

static void nonblock_refused_unread(void)
{
	union conf_addr a;
	socklen_t len = conf_addr(&a, CONF_VIP, unused_port());
	int fd = conf_tcp(SOCK_NONBLOCK);

	CONF_RES("connect", connect(fd, &a.sa, len));
	conf_say("poll", "%s", conf_poll_until(fd, POLLOUT));
	CONF_RES("second", connect(fd, &a.sa, len));
	conf_say("poll-again", "%s", conf_poll_until(fd, POLLOUT));
	conf_listener(CONF_VIP, &a);
	CONF_RES("to-listener", connect(fd, &a.sa, len));
	conf_say("poll-last", "%s", conf_poll_until(fd, POLLOUT));
	conf_say_so_error("so-error", fd);
}

/* How libraries find out what became of it other than by SO_ERROR. */
static void nonblock_refused_io(void)
{
	union conf_addr a;
	socklen_t len = conf_addr(&a, CONF_VIP, unused_port());
	int fd = conf_tcp(SOCK_NONBLOCK);
	char c = 0;

	CONF_RES("connect", connect(fd, &a.sa, len));
	conf_poll_until(fd, POLLOUT);
	conf_say("peer", "%s", conf_show_peer(fd));
	CONF_RES("send", send(fd, "x", 1, MSG_NOSIGNAL));
	CONF_RES("send-again", send(fd, "x", 1, MSG_NOSIGNAL));
	fd = conf_tcp(SOCK_NONBLOCK);
	CONF_RES("connect-2", connect(fd, &a.sa, len));
	conf_poll_until(fd, POLLOUT);
	CONF_RES("recv", recv(fd, &c, 1, 0));
	CONF_RES("recv-again", recv(fd, &c, 1, 0));
}

static void bound_client(void)
{
	union conf_addr a, me, from;
	socklen_t len = conf_addrlen(), flen = sizeof(from);
	int l = conf_listener(CONF_ANY, &a), fd, s;

	conf_name_port("listener", conf_port(&a));
	for (int w = CONF_LO; w <= CONF_ANY; w++) {
		static const char *const step[] = { "lo", "vip", "any" };
		union conf_addr to;

		fd = conf_bound(w, &me);
		conf_name_port(step[w], conf_port(&me));
		conf_addr(&to, w == CONF_ANY ? CONF_VIP : w, conf_port(&a));
		CONF_RES(step[w], connect(fd, &to.sa, len));
		conf_say("name", "%s %s", step[w], conf_show_name(fd));
		conf_say("peer", "%s %s", step[w], conf_show_peer(fd));
		conf_poll_until(l, POLLIN);
		flen = sizeof(from);
		s = accept(l, &from.sa, &flen);
		conf_say("accepted", "%s from %s", step[w], conf_show(&from, flen));
		conf_say("accepted-name", "%s %s", step[w], conf_show_name(s));
		conf_say("accepted-peer", "%s %s", step[w], conf_show_peer(s));
	}
}

static void bound_refused(void)
{
	union conf_addr me, a;
	int fd = conf_bound(CONF_VIP, &me);

	conf_name_port("mine", conf_port(&me));
	conf_addr(&a, CONF_VIP, unused_port());
	CONF_RES("connect", connect(fd, &a.sa, conf_addrlen()));
	conf_say("name", "%s", conf_show_name(fd));
}

static void to_self(void)
{
	union conf_addr me;
	int fd = conf_bound(CONF_VIP, &me);
	char c = 0;

	conf_name_port("mine", conf_port(&me));
	CONF_RES("connect", connect(fd, &me.sa, conf_addrlen()));
	conf_say("peer", "%s", conf_show_peer(fd));
	CONF_RES("send", send(fd, "x", 1, MSG_NOSIGNAL));
	CONF_RES("recv", recv(fd, &c, 1, MSG_DONTWAIT));
}

static void after_shutdown_fresh(void)
{
	union conf_addr a;
	int fd = conf_tcp(0);

	conf_listener(CONF_VIP, &a);
	CONF_RES("shutdown", shutdown(fd, SHUT_WR));
	CONF_RES("connect", connect(fd, &a.sa, conf_addrlen()));
	conf_say("poll", "%s", conf_poll_now(fd));
}

static void listener_gone(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a);

	CONF_RES("before", connect(conf_tcp(0), &a.sa, conf_addrlen()));
	close(l);
	CONF_RES("after", connect(conf_tcp(0), &a.sa, conf_addrlen()));
	CONF_RES("after-nonblock", connect(conf_tcp(SOCK_NONBLOCK), &a.sa, conf_addrlen()));
}

static void listener_gone_pending(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), fd = conf_client(&a);
	char c = 0;

	close(l);
	conf_say("poll", "%s", conf_poll_until(fd, POLLIN));
	CONF_RES("recv", recv(fd, &c, 1, MSG_DONTWAIT));
	CONF_RES("recv-again", recv(fd, &c, 1, MSG_DONTWAIT));
	CONF_RES("send", send(fd, "x", 1, MSG_NOSIGNAL));
}

static void with_sndtimeo(void)
{
	union conf_addr a;
	struct timeval tv = { .tv_usec = 300000 };
	int fd = conf_tcp(0);

	conf_listener(CONF_VIP, &a);
	CONF_RES("set", setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)));
	CONF_RES("connect", connect(fd, &a.sa, conf_addrlen()));
	conf_addr(&a, CONF_VIP, unused_port());
	fd = conf_tcp(0);
	CONF_RES("set-2", setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)));
	CONF_RES("refused", connect(fd, &a.sa, conf_addrlen()));
}

static const struct conf_case generic[] = {
	{ "nobody-vip", nobody_vip },
	{ "nobody-lo", nobody_lo },
	{ "nobody-any", nobody_any },
	{ "listening-elsewhere", listening_elsewhere },
	{ "efault", efault },
	{ "length", length },
	{ "unspec", unspec },
	{ "unspec-listening", unspec_listening },
	{ "reconnect", reconnect },
	{ "family", family },
	{ "port0", port0 },
	{ "connected", connected },
	{ "listening", listening },
	{ "nonblock", nonblock },
	{ "nonblock-refused", nonblock_refused },
	{ "nonblock-refused-unread", nonblock_refused_unread },
	{ "nonblock-refused-io", nonblock_refused_io },
	{ "bound-client", bound_client },
	{ "bound-refused", bound_refused },
	{ "to-self", to_self },
	{ "after-shutdown-fresh", after_shutdown_fresh },
	{ "listener-gone", listener_gone },
	{ "listener-gone-pending", listener_gone_pending },
	{ "with-sndtimeo", with_sndtimeo },
};

static void not_tcp(void)
{
	union conf_addr a;
	socklen_t len = conf_addr(&a, CONF_VIP, 9);
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "/nonexistent" };
	int p[2], fd;

	CONF_NEED(pipe(p) == 0);
	CONF_RES("bad-fd", connect(-1, &a.sa, len));
	CONF_RES("closed-fd", connect(1000, &a.sa, len));
	CONF_RES("bad-fd-efault", connect(-1, errno_bad(), len));
	CONF_RES("pipe", connect(p[0], &a.sa, len));
	CONF_RES("pipe-efault", connect(p[0], errno_bad(), len));
	fd = open("/", O_PATH);
	CONF_RES("o-path", connect(fd, &a.sa, len));
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	CONF_RES("udp", connect(fd, &a.sa, len));
	conf_name_port("9", 9);
	conf_say("udp-peer", "%s", conf_show_peer(fd));
	CONF_RES("udp-again", connect(fd, &a.sa, len));
	a.sa.sa_family = AF_UNSPEC;
	CONF_RES("udp-unspec", connect(fd, &a.sa, len));
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	CONF_RES("unix", connect(fd, (struct sockaddr *)&un, sizeof(un)));
	CONF_RES("unix-inet", connect(fd, &a.sa, len));
}

static void to(int af, const char *ip, const char *step)
{
	union conf_addr a;
	socklen_t len = conf_addr_of(&a, af, ip, 9);
	int fd = socket(af, SOCK_STREAM, 0);

	CONF_RES(step, connect(fd, &a.sa, len));
	conf_say_so_error("so-error", fd);
	close(fd);
}

static void unreachable(void)
{
	to(AF_INET, "192.0.2.1", "test-net");
	to(AF_INET, "10.0.0.77", "no-vip");
	to(AF_INET, "8.8.8.8", "internet");
	to(AF_INET, "169.254.169.254", "link-local");
	to(AF_INET, "255.255.255.255", "broadcast");
	to(AF_INET, "224.0.0.1", "multicast");
	to(AF_INET, "240.0.0.1", "class-e");
	to(AF_INET, "0.0.0.1", "zero-net");
	to(AF_INET6, "2001:db8::1", "doc6");
	to(AF_INET6, "fd00::77", "no-vip6");
	to(AF_INET6, "fe80::1", "link-local6-no-scope");
	to(AF_INET6, "ff02::1", "multicast6");
	to(AF_INET6, "::ffff:192.0.2.1", "mapped-test-net");
	to(AF_INET6, "::ffff:224.0.0.1", "mapped-multicast");
	to(AF_INET6, "::10.0.0.5", "compatible");
}

static void loopback_net(void)
{
	union conf_addr a, b;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t len = conf_addr_of(&a, AF_INET, "127.0.0.1", 0);

	CONF_NEED(bind(fd, &a.sa, len) == 0 && listen(fd, 5) == 0);
	CONF_NEED(getsockname(fd, &a.sa, &len) == 0);
	conf_addr_of(&b, AF_INET, "127.0.0.2", conf_port(&a));
	CONF_RES("127.0.0.2-by-127.0.0.1-listener", connect(conf_tcp(0), &b.sa, len));
	conf_listener(CONF_ANY, &a);
	conf_name_port("listener", conf_port(&a));
	conf_addr_of(&b, AF_INET, "127.1.2.3", conf_port(&a));
	fd = conf_tcp(0);
	CONF_RES("127.1.2.3-by-any-listener", connect(fd, &b.sa, len));
	conf_say("peer", "%s", conf_show_peer(fd));
	conf_say("name", "%s", conf_show_name(fd));
	conf_addr_of(&a, AF_INET, "127.9.9.9", 0);
	fd = conf_tcp(0);
	CONF_RES("bind-127.9.9.9", bind(fd, &a.sa, len));
	CONF_RES("listen-127.9.9.9", listen(fd, 5));
	CONF_NEED(getsockname(fd, &a.sa, &len) == 0);
	CONF_RES("connect-127.9.9.9", connect(conf_tcp(0), &a.sa, len));
}

static void v6only(void)
{
	union conf_addr a, b;
	int one = 1, fd, l;
	socklen_t len;

	conf_fam = CONF_V6;
	l = conf_listener(CONF_ANY, &a);
	conf_name_port("listener", conf_port(&a));
	len = conf_addr_of(&b, AF_INET6, "::ffff:" CONF_VIP4, conf_port(&a));
	fd = conf_tcp(0);
	CONF_RES("set", setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)));
	CONF_RES("v6only-client-to-mapped", connect(fd, &b.sa, len));
	fd = conf_tcp(0);
	CONF_RES("client-to-mapped", connect(fd, &b.sa, len));
	conf_say("name", "%s", conf_show_name(fd));
	conf_say("peer", "%s", conf_show_peer(fd));
	fd = conf_accept(l);
	conf_say("accepted-name", "%s", conf_show_name(fd));
	conf_say("accepted-peer", "%s", conf_show_peer(fd));
	fd = socket(AF_INET, SOCK_STREAM, 0);
	len = conf_addr_of(&b, AF_INET, CONF_VIP4, conf_port(&a));
	CONF_RES("v4-client", connect(fd, &b.sa, len));
	fd = conf_accept(l);
	conf_say("v4-accepted-name", "%s", conf_show_name(fd));
	conf_say("v4-accepted-peer", "%s", conf_show_peer(fd));
	fd = conf_tcp(0);
	CONF_RES("set-2", setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)));
	len = conf_addr(&a, CONF_ANY, 0);
	CONF_RES("bind-2", bind(fd, &a.sa, len));
	CONF_RES("listen-2", listen(fd, 5));
	CONF_NEED(getsockname(fd, &a.sa, &len) == 0);
	len = conf_addr_of(&b, AF_INET, CONF_VIP4, conf_port(&a));
	CONF_RES("v4-to-v6only-listener", connect(socket(AF_INET, SOCK_STREAM, 0), &b.sa, len));
	len = conf_addr_of(&b, AF_INET6, CONF_VIP6, conf_port(&a));
	CONF_RES("v6-to-v6only-listener", connect(conf_tcp(0), &b.sa, len));
}

static void mixed(void)
{
	union conf_addr a, b;
	socklen_t len;
	int fd;

	conf_fam = CONF_MAPPED;
	fd = conf_bound(CONF_VIP, NULL);
	conf_fam = CONF_V6;
	conf_listener(CONF_VIP, &a);
	CONF_RES("bound-mapped-to-v6", connect(fd, &a.sa, conf_addrlen()));
	fd = conf_bound(CONF_VIP, NULL);
	conf_fam = CONF_MAPPED;
	conf_listener(CONF_VIP, &a);
	CONF_RES("bound-v6-to-mapped", connect(fd, &a.sa, conf_addrlen()));
	/* the only listener is AF_INET */
	conf_fam = CONF_V4;
	conf_listener(CONF_ANY, &a);
	conf_name_port("listener", conf_port(&a));
	fd = socket(AF_INET6, SOCK_STREAM, 0);
	len = conf_addr_of(&b, AF_INET6, CONF_VIP6, conf_port(&a));
	CONF_RES("v6-to-v4-listener", connect(fd, &b.sa, len));
	len = conf_addr_of(&b, AF_INET6, "::ffff:" CONF_VIP4, conf_port(&a));
	CONF_RES("mapped-to-v4-listener", connect(fd, &b.sa, len));
	conf_say("name", "%s", conf_show_name(fd));
	conf_say("peer", "%s", conf_show_peer(fd));
}

static void scope(void)
{
	union conf_addr a;
	int fd;

	conf_fam = CONF_V6;
	conf_listener(CONF_VIP, &a);
	a.in6.sin6_scope_id = 1;
	fd = conf_tcp(0);
	CONF_RES("scope", connect(fd, &a.sa, conf_addrlen()));
	conf_name_port("listener", conf_port(&a));
	conf_say("scope-peer", "%s", conf_show_peer(fd));
	a.in6.sin6_scope_id = 0;
	a.in6.sin6_flowinfo = 0x12345600;
	fd = conf_tcp(0);
	CONF_RES("flowinfo", connect(fd, &a.sa, conf_addrlen()));
	conf_say("flowinfo-peer", "%s", conf_show_peer(fd));
	a.in6.sin6_flowinfo = 0;
	CONF_RES("short-24", connect(conf_tcp(0), &a.sa, 24));
}

static const struct conf_case once[] = {
	{ "not-tcp", not_tcp },
	{ "unreachable", unreachable },
	{ "loopback-net", loopback_net },
	{ "v6only", v6only },
	{ "mixed", mixed },
	{ "scope", scope },
};

const struct errno_part errno_connect = { "connect", generic, ERRNO_N(generic), once,
					  ERRNO_N(once) };
