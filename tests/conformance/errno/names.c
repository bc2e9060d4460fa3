/* getsockname(2), getpeername(2) */
#include "errno_table.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static void both(const char *step, int fd)
{
	char text[64];

	snprintf(text, sizeof(text), "%s-name", step);
	conf_say(text, "%s", conf_show_name(fd));
	snprintf(text, sizeof(text), "%s-peer", step);
	conf_say(text, "%s", conf_show_peer(fd));
}

static void states(void)
{
	union conf_addr a, me;
	socklen_t len = conf_addrlen();
	int fd = conf_tcp(0), l, c, s;

	both("fresh", fd);
	fd = conf_bound(CONF_VIP, &a);
	conf_name_port("bound", conf_port(&a));
	both("bound", fd);
	l = conf_listener(CONF_VIP, &a);
	conf_name_port("listener", conf_port(&a));
	both("listener", l);
	c = conf_client(&a);
	CONF_NEED(getsockname(c, &me.sa, &len) == 0);
	conf_name_port("client", conf_port(&me));
	both("client", c);
	s = conf_accept(l);
	both("accepted", s);
	close(l);
	both("client-listener-closed", c);
	both("accepted-listener-closed", s);
}

static void where(void)
{
	union conf_addr any, a, me;
	socklen_t len;
	int l = conf_listener(CONF_ANY, &any);

	conf_name_port("listener", conf_port(&any));
	both("listener", l);
	for (int w = CONF_LO; w <= CONF_ANY; w++) {
		static const char *const step[][2] = { { "lo", "lo-accepted" },
						       { "vip", "vip-accepted" },
						       { "any", "any-accepted" } };
		int c, s;

		len = conf_addr(&a, w, conf_port(&any));
		c = conf_client(&a);
		CONF_NEED(getsockname(c, &me.sa, &len) == 0);
		s = conf_accept(l);
		both(step[w][0], c);
		both(step[w][1], s);
		close(c);
		close(s);
	}
}

static void ended(void)
{
	int c, s;
	char x;

	conf_pair(&c, &s, NULL);
	CONF_RES("shutdown", shutdown(c, SHUT_WR));
	both("client-shut", c);
	conf_poll_until(s, POLLRDHUP);
	both("accepted-peer-shut", s);
	close(c);
	CONF_RES("recv", recv(s, &x, 1, 0));
	both("accepted-peer-closed", s);
	CONF_RES("shutdown-2", shutdown(s, SHUT_WR));
	both("accepted-all-closed", s);
	conf_pair(&c, &s, NULL);
	CONF_NEED(shutdown(s, SHUT_WR) == 0);
	conf_poll_until(c, POLLRDHUP);
	CONF_NEED(shutdown(c, SHUT_WR) == 0);
	conf_poll_until(c, POLLHUP);
	both("client-all-closed", c);
}

typedef int (*name_fn)(int, struct sockaddr *, socklen_t *);

static void lens_of(const char *what, name_fn fn, int fd)
{
	static const int lens[] = { 0, 1, 2, 4, 8, 15, 16, 17, 24, 27, 28, 29, 128, 4096 };
	static char buf[8192];
	char step[64];

	for (size_t i = 0; i < ERRNO_N(lens); i++) {
		socklen_t len = (socklen_t)lens[i];
		size_t touched = 0;
		int r;

		memset(buf, 0x5a, sizeof(buf));
		r = fn(fd, (struct sockaddr *)buf, &len);
		for (size_t k = 0; k < sizeof(buf); k++)
			if (buf[k] != 0x5a)
				touched = k + 1;
		snprintf(step, sizeof(step), "%s-%d", what, lens[i]);
		/* the last bytes of an address can be anything */
		conf_say(step, "%d %s len %u %s", r, r ? conf_errno(errno) : "-", len,
			 touched <= (size_t)lens[i] ? "no more" : "too much");
	}
}

static void lengths(void)
{
	int c, s, l;

	conf_pair(&c, &s, &l);
	lens_of("name-fresh", getsockname, conf_tcp(0));
	lens_of("name-bound", getsockname, conf_bound(CONF_VIP, NULL));
	lens_of("name-listener", getsockname, l);
	lens_of("name-client", getsockname, c);
	lens_of("peer-client", getpeername, c);
	lens_of("name-accepted", getsockname, s);
	lens_of("peer-accepted", getpeername, s);
}

static void pointers_of(const char *what, name_fn fn, int fd)
{
	char step[64];
	union conf_addr a;
	socklen_t len = sizeof(a);

#define STEP(name, addr, lenp)                                     \
	do {                                                       \
		snprintf(step, sizeof(step), "%s-%s", what, name); \
		CONF_RES(step, fn(fd, addr, lenp));                \
	} while (0)
	STEP("null-null", NULL, NULL);
	STEP("addr-null", &a.sa, NULL);
	STEP("addr-badlen", &a.sa, errno_bad());
	STEP("null-len", NULL, &len);
	len = sizeof(a);
	STEP("bad-len", errno_bad(), &len);
	len = 0;
	STEP("bad-len0", errno_bad(), &len);
	len = (socklen_t)-1;
	STEP("negative", &a.sa, &len);
	len = conf_addrlen();
	STEP("edge", errno_edge(&a, len), &len);
	len = conf_addrlen();
	STEP("crossing", errno_edge(&a, len - 1), &len);
	len = 4;
	STEP("edge-short", errno_edge(&a, 4), &len);
#undef STEP
}

static void pointers(void)
{
	int c, s, l;

	conf_pair(&c, &s, &l);
	pointers_of("name-fresh", getsockname, conf_tcp(0));
	pointers_of("peer-fresh", getpeername, conf_tcp(0));
	pointers_of("name-listener", getsockname, l);
	pointers_of("peer-listener", getpeername, l);
	pointers_of("name-client", getsockname, c);
	pointers_of("peer-client", getpeername, c);
	pointers_of("name-accepted", getsockname, s);
	pointers_of("peer-accepted", getpeername, s);
}

static const struct conf_case generic[] = {
	{ "states", states },	{ "where", where },	  { "ended", ended },
	{ "lengths", lengths }, { "pointers", pointers },
};

static void not_tcp(void)
{
	union conf_addr a = { 0 };
	struct sockaddr_un un = { 0 };
	socklen_t len = sizeof(a);
	int p[2] = { -1, -1 }, fd;

	CONF_NEED(pipe(p) == 0);
	CONF_RES("name-bad-fd", getsockname(-1, &a.sa, &len));
	CONF_RES("peer-bad-fd", getpeername(-1, &a.sa, &len));
	CONF_RES("name-pipe", getsockname(p[0], &a.sa, &len));
	CONF_RES("peer-pipe", getpeername(p[0], &a.sa, &len));
	fd = open("/", O_PATH);
	CONF_RES("name-o-path", getsockname(fd, &a.sa, &len));
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	both("udp", fd);
	CONF_NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
	len = sizeof(un);
	CONF_RES("name-unix", getsockname(p[0], (struct sockaddr *)&un, &len));
	conf_say("name-unix-len", "%u family %d", len, un.sun_family);
	len = sizeof(un);
	CONF_RES("peer-unix", getpeername(p[0], (struct sockaddr *)&un, &len));
	conf_say("peer-unix-len", "%u family %d", len, un.sun_family);
	fd = socket(AF_NETLINK, SOCK_RAW, 0);
	len = sizeof(a);
	CONF_RES("name-netlink", getsockname(fd, &a.sa, &len));
	conf_say("name-netlink-len", "%u family %d", len, a.sa.sa_family);
}

static const struct conf_case once[] = {
	{ "not-tcp", not_tcp },
};

const struct errno_part errno_names = { "names", generic, ERRNO_N(generic), once,
					ERRNO_N(once) };
