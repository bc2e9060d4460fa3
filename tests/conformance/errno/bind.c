/* bind(2) */
#include "errno_table.h"

#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

static void names(void)
{
	union conf_addr a;
	int fd;

	for (int w = CONF_LO; w <= CONF_ANY; w++) {
		static const char *const step[] = { "lo", "vip", "any" };
		socklen_t len = conf_addr(&a, w, 0);

		fd = conf_tcp(0);
		CONF_RES(step[w], bind(fd, &a.sa, len));
		conf_say("name", "%s %s", step[w], conf_show_name(fd));
		conf_say("peer", "%s %s", step[w], conf_show_peer(fd));
	}
}

static void twice(void)
{
	union conf_addr a, b;
	int fd = conf_bound(CONF_VIP, &a);
	socklen_t len = conf_addr(&b, CONF_VIP, 0);

	conf_name_port("first", conf_port(&a));
	CONF_RES("other", bind(fd, &b.sa, len));
	CONF_RES("same", bind(fd, &a.sa, len));
	conf_say("name", "%s", conf_show_name(fd));
	CONF_RES("listen", listen(fd, 5));
	CONF_RES("listening", bind(fd, &b.sa, len));
	CONF_RES("listening-same", bind(fd, &a.sa, len));
}

static void set_reuse(int fd, int opt)
{
	int one = 1;

	CONF_NEED(setsockopt(fd, SOL_SOCKET, opt, &one, sizeof(one)) == 0);
}

static void in_use(void)
{
	union conf_addr a, b;
	socklen_t len;
	int first, fd;

	first = conf_bound(CONF_VIP, &a);
	len = conf_addrlen();
	CONF_RES("bound", bind(conf_tcp(0), &a.sa, len));
	conf_addr(&b, CONF_ANY, conf_port(&a));
	CONF_RES("bound-any", bind(conf_tcp(0), &b.sa, len));
	conf_addr(&b, CONF_LO, conf_port(&a));
	CONF_RES("bound-lo", bind(conf_tcp(0), &b.sa, len));
	CONF_RES("listen", listen(first, 5));
	fd = conf_tcp(0);
	CONF_RES("listening", bind(fd, &a.sa, len));
	conf_say("name", "%s", conf_show_name(fd));
	conf_addr(&b, CONF_ANY, conf_port(&a));
	CONF_RES("listening-any", bind(conf_tcp(0), &b.sa, len));
	fd = conf_tcp(0);
	set_reuse(fd, SO_REUSEADDR);
	CONF_RES("listening-reuseaddr", bind(fd, &a.sa, len));
	fd = conf_tcp(0);
	set_reuse(fd, SO_REUSEPORT);
	CONF_RES("listening-reuseport", bind(fd, &a.sa, len));
	close(first);
	fd = conf_tcp(0);
	CONF_RES("closed", bind(fd, &a.sa, len));
	CONF_RES("closed-listen", listen(fd, 5));
	CONF_RES("closed-connect", connect(conf_tcp(0), &a.sa, len));
}

static void reuseaddr(void)
{
	union conf_addr a;
	socklen_t len;
	int x = conf_tcp(0), y = conf_tcp(0), z = conf_tcp(0);

	set_reuse(x, SO_REUSEADDR);
	set_reuse(y, SO_REUSEADDR);
	len = conf_addr(&a, CONF_VIP, 0);
	CONF_RES("first", bind(x, &a.sa, len));
	CONF_NEED(getsockname(x, &a.sa, &len) == 0);
	CONF_RES("second", bind(y, &a.sa, len));
	CONF_RES("without", bind(z, &a.sa, len));
	CONF_RES("listen-first", listen(x, 5));
	CONF_RES("listen-second", listen(y, 5));
	z = conf_tcp(0);
	set_reuse(z, SO_REUSEADDR);
	CONF_RES("third", bind(z, &a.sa, len));
	close(x);
	CONF_RES("listen-second-again", listen(y, 5));
	CONF_RES("connect", connect(conf_tcp(0), &a.sa, len));
}

static void reuseaddr_any(void)
{
	union conf_addr a, b;
	socklen_t len;
	int x = conf_tcp(0), y = conf_tcp(0);

	set_reuse(x, SO_REUSEADDR);
	set_reuse(y, SO_REUSEADDR);
	len = conf_addr(&a, CONF_VIP, 0);
	CONF_RES("vip", bind(x, &a.sa, len));
	CONF_NEED(getsockname(x, &a.sa, &len) == 0);
	CONF_RES("vip-listen", listen(x, 5));
	conf_addr(&b, CONF_LO, conf_port(&a));
	CONF_RES("lo", bind(y, &b.sa, len));
	CONF_RES("lo-listen", listen(y, 5));
	y = conf_tcp(0);
	set_reuse(y, SO_REUSEADDR);
	conf_addr(&b, CONF_ANY, conf_port(&a));
	CONF_RES("any", bind(y, &b.sa, len));
}

static void reuseport(void)
{
	union conf_addr a;
	socklen_t len;
	int x = conf_tcp(0), y = conf_tcp(0), z = conf_tcp(0);

	set_reuse(x, SO_REUSEPORT);
	set_reuse(y, SO_REUSEPORT);
	len = conf_addr(&a, CONF_VIP, 0);
	CONF_RES("first", bind(x, &a.sa, len));
	CONF_NEED(getsockname(x, &a.sa, &len) == 0);
	CONF_RES("second", bind(y, &a.sa, len));
	CONF_RES("without", bind(z, &a.sa, len));
	CONF_RES("listen-first", listen(x, 5));
	CONF_RES("listen-second", listen(y, 5));
	CONF_RES("connect", connect(conf_tcp(0), &a.sa, len));
	close(x);
	CONF_RES("connect-2", connect(conf_tcp(0), &a.sa, len));
	CONF_RES("connect-3", connect(conf_tcp(0), &a.sa, len));
	close(y);
	CONF_RES("connect-4", connect(conf_tcp(0), &a.sa, len));
}

static void connection_alive(void)
{
	union conf_addr a;
	socklen_t len = conf_addrlen();
	int c, s, l, fd;

	conf_pair(&c, &s, &l);
	CONF_NEED(getsockname(l, &a.sa, &len) == 0);
	close(l);
	CONF_RES("without", bind(conf_tcp(0), &a.sa, len));
	fd = conf_tcp(0);
	set_reuse(fd, SO_REUSEADDR);
	CONF_RES("reuseaddr", bind(fd, &a.sa, len));
	conf_talk("talk", c, s);
}

static void efault(void)
{
	union conf_addr a;
	socklen_t len = conf_addr(&a, CONF_VIP, 0);
	int fd = conf_tcp(0);

	CONF_RES("null", bind(fd, NULL, len));
	CONF_RES("bad", bind(fd, errno_bad(), len));
	CONF_RES("null-len0", bind(fd, NULL, 0));
	CONF_RES("bad-len0", bind(fd, errno_bad(), 0));
	CONF_RES("crossing", bind(fd, errno_edge(&a, len - 4), len));
	CONF_RES("edge", bind(fd, errno_edge(&a, len), len));
}

static void length(void)
{
	static const int lens[] = { 0, 1, 2, 8, 15, 16, 17, 24, 27, 28, 29, 64, 128, 129 };
	static char big[8192];
	union conf_addr a;
	char step[32];

	conf_addr(&a, CONF_VIP, 0);
	memcpy(big, &a, sizeof(a));
	for (size_t i = 0; i < ERRNO_N(lens); i++) {
		int fd = conf_tcp(0);

		snprintf(step, sizeof(step), "%d", lens[i]);
		CONF_RES(step, bind(fd, (struct sockaddr *)big, (socklen_t)lens[i]));
		close(fd);
	}
	CONF_RES("negative", bind(conf_tcp(0), &a.sa, (socklen_t)-1));
}

static void family(void)
{
	union conf_addr a, b;
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "/tmp/conf-not-made" };
	socklen_t len = conf_addr(&a, CONF_VIP, 0);

	CONF_RES("unix", bind(conf_tcp(0), (struct sockaddr *)&un, sizeof(un)));
	b = a;
	b.sa.sa_family = AF_UNSPEC;
	CONF_RES("unspec", bind(conf_tcp(0), &b.sa, len));
	conf_addr(&b, CONF_ANY, 0);
	b.sa.sa_family = AF_UNSPEC;
	CONF_RES("unspec-any", bind(conf_tcp(0), &b.sa, len));
	b.sa.sa_family = 99;
	CONF_RES("99", bind(conf_tcp(0), &b.sa, len));
	if (conf_af() == AF_INET)
		len = conf_addr_of(&b, AF_INET6, "::ffff:" CONF_VIP4, 0);
	else
		len = conf_addr_of(&b, AF_INET, CONF_VIP4, 0);
	CONF_RES("other", bind(conf_tcp(0), &b.sa, len));
	CONF_RES("other-long", bind(conf_tcp(0), &b.sa, sizeof(b.ss)));
}

static void connected(void)
{
	union conf_addr a;
	socklen_t len = conf_addr(&a, CONF_VIP, 0);
	int c, s;

	conf_pair(&c, &s, NULL);
	CONF_RES("client", bind(c, &a.sa, len));
	CONF_RES("accepted", bind(s, &a.sa, len));
}

static void no_port(void)
{
	union conf_addr a, l;
	socklen_t len = conf_addr(&a, CONF_VIP, 0);
	int fd = conf_tcp(0), one = 1;

	conf_listener(CONF_VIP, &l);
	CONF_RES("set", setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one)));
	CONF_RES("bind", bind(fd, &a.sa, len));
	conf_say("name", "%s", conf_show_name(fd));
	CONF_RES("connect", connect(fd, &l.sa, len));
	conf_say("name-connected", "%s", conf_show_name(fd));
}

static void same_client_port(void)
{
	union conf_addr l1, l2, me;
	socklen_t len = conf_addr(&me, CONF_VIP, 0);
	int x = conf_tcp(0), y = conf_tcp(0);

	conf_listener(CONF_VIP, &l1);
	conf_listener(CONF_VIP, &l2);
	set_reuse(x, SO_REUSEADDR);
	set_reuse(y, SO_REUSEADDR);
	CONF_RES("first", bind(x, &me.sa, len));
	CONF_NEED(getsockname(x, &me.sa, &len) == 0);
	conf_name_port("mine", conf_port(&me));
	CONF_RES("second", bind(y, &me.sa, len));
	CONF_RES("connect-first", connect(x, &l1.sa, len));
	CONF_RES("connect-second", connect(y, &l2.sa, len));
	conf_say("name", "%s", conf_show_name(y));
	y = conf_tcp(0);
	set_reuse(y, SO_REUSEADDR);
	CONF_RES("third", bind(y, &me.sa, len));
	CONF_RES("connect-same-four", connect(y, &l1.sa, len));
}

static const struct conf_case generic[] = {
	{ "names", names },
	{ "twice", twice },
	{ "in-use", in_use },
	{ "reuseaddr", reuseaddr },
	{ "reuseaddr-any", reuseaddr_any },
	{ "reuseport", reuseport },
	{ "connection-alive", connection_alive },
	{ "efault", efault },
	{ "length", length },
	{ "family", family },
	{ "connected", connected },
	{ "no-port", no_port },
	{ "same-client-port", same_client_port },
};

static void at(int af, const char *ip, int port, const char *step)
{
	union conf_addr a;
	socklen_t len = conf_addr_of(&a, af, ip, port);
	int fd = socket(af, SOCK_STREAM, 0);

	CONF_RES(step, bind(fd, &a.sa, len));
	close(fd);
}

static void addresses(void)
{
	at(AF_INET, "192.0.2.1", 0, "not-local");
	at(AF_INET, "10.0.0.6", 0, "next-to-vip");
	at(AF_INET, "255.255.255.255", 0, "broadcast");
	at(AF_INET, "224.0.0.1", 0, "multicast");
	at(AF_INET6, "2001:db8::1", 0, "not-local6");
	at(AF_INET6, "fe80::1", 0, "link-local6");
	at(AF_INET6, "ff02::1", 0, "multicast6");
	at(AF_INET6, "::ffff:192.0.2.1", 0, "mapped-not-local");
	at(AF_INET, CONF_VIP4, 80, "port-80");
	at(AF_INET, CONF_VIP4, 1, "port-1");
	at(AF_INET, CONF_VIP4, 65535, "port-65535");
	at(AF_INET, "0.0.0.0", 443, "any-443");
}

static void not_tcp(void)
{
	union conf_addr a;
	socklen_t len = conf_addr(&a, CONF_VIP, 0);
	int p[2], fd;

	CONF_NEED(pipe(p) == 0);
	CONF_RES("bad-fd", bind(-1, &a.sa, len));
	CONF_RES("bad-fd-efault", bind(-1, errno_bad(), len));
	CONF_RES("pipe", bind(p[0], &a.sa, len));
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	CONF_RES("udp", bind(fd, &a.sa, len));
	conf_say("udp-name", "%s", conf_show_name(fd));
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	CONF_RES("unix-autobind", bind(fd, &(struct sockaddr){ .sa_family = AF_UNIX }, 2));
	CONF_RES("unix-listen", listen(fd, 1));
}

/* Which pairs of IPv4 and IPv6 sockets can have one port. */
static void dual(void)
{
	static const struct {
		const char *step, *first, *second;
		int v6only, af2;
	} t[] = {
		{ "any6-any4", "::", "0.0.0.0", 0, AF_INET },
		{ "any6only-any4", "::", "0.0.0.0", 1, AF_INET },
		{ "any6-vip4", "::", CONF_VIP4, 0, AF_INET },
		{ "any6only-vip4", "::", CONF_VIP4, 1, AF_INET },
		{ "vip6-any4", CONF_VIP6, "0.0.0.0", 0, AF_INET },
		{ "vip6-vip4", CONF_VIP6, CONF_VIP4, 0, AF_INET },
		{ "any6-lo6", "::", "::1", 0, AF_INET6 },
		{ "mapped-vip4", "::ffff:" CONF_VIP4, CONF_VIP4, 0, AF_INET },
		{ "mapped-lo4", "::ffff:" CONF_VIP4, "127.0.0.1", 0, AF_INET },
		{ "mappedonly", "::ffff:" CONF_VIP4, CONF_VIP4, 1, AF_INET },
	};

	for (size_t i = 0; i < ERRNO_N(t); i++) {
		union conf_addr a, b;
		int x = socket(AF_INET6, SOCK_STREAM, 0), y = socket(t[i].af2, SOCK_STREAM, 0);
		socklen_t len = conf_addr_of(&a, AF_INET6, t[i].first, 0);

		CONF_NEED(setsockopt(x, IPPROTO_IPV6, IPV6_V6ONLY, &t[i].v6only, sizeof(int)) ==
			  0);
		CONF_RES(t[i].step, bind(x, &a.sa, len));
		if (getsockname(x, &a.sa, &len) == 0 && conf_port(&a)) {
			char step[64];

			snprintf(step, sizeof(step), "%s-second", t[i].step);
			len = conf_addr_of(&b, t[i].af2, t[i].second, conf_port(&a));
			CONF_RES(step, bind(y, &b.sa, len));
			snprintf(step, sizeof(step), "%s-listen", t[i].step);
			CONF_RES(step, listen(x, 5));
			snprintf(step, sizeof(step), "%s-second-listen", t[i].step);
			CONF_RES(step, listen(y, 5));
			close(y);
			y = socket(t[i].af2, SOCK_STREAM, 0);
			snprintf(step, sizeof(step), "%s-third", t[i].step);
			CONF_RES(step, bind(y, &b.sa, len));
		}
		close(x);
		close(y);
	}
}

static void dual_option(void)
{
	union conf_addr a;
	int fd, on = 1, off = 0;
	socklen_t len;

	conf_fam = CONF_V6;
	fd = conf_bound(CONF_ANY, NULL);
	CONF_RES("after-bind", setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)));
	CONF_RES("after-bind-off",
		 setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)));
	fd = conf_listener(CONF_ANY, NULL);
	CONF_RES("after-listen", setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)));
	fd = conf_tcp(0);
	CONF_RES("v6only", setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)));
	len = conf_addr_of(&a, AF_INET6, "::ffff:" CONF_VIP4, 0);
	CONF_RES("v6only-mapped", bind(fd, &a.sa, len));
}

static const struct conf_case once[] = {
	{ "addresses", addresses },
	{ "not-tcp", not_tcp },
	{ "dual", dual },
	{ "dual-option", dual_option },
};

const struct errno_part errno_bind = { "bind", generic, ERRNO_N(generic), once, ERRNO_N(once) };
