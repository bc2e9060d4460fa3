/* listen(2) */
#include "errno_table.h"

#include <unistd.h>

static void say_acceptconn(const char *step, int fd)
{
	int v = -1;
	socklen_t len = sizeof(v);

	CONF_NEED(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &v, &len) == 0);
	conf_say(step, "%d", v);
}

static void unbound(void)
{
	union conf_addr a, b;
	socklen_t len = sizeof(a);
	int fd = conf_tcp(0), c, s;

	say_acceptconn("before", fd);
	CONF_RES("listen", listen(fd, 5));
	say_acceptconn("after", fd);
	conf_say("name", "%s", conf_show_name(fd));
	CONF_NEED(getsockname(fd, &a.sa, &len) == 0);
	conf_addr(&b, CONF_VIP, conf_port(&a));
	c = conf_client(&b);
	s = conf_accept(fd);
	conf_talk("talk", c, s);
	say_acceptconn("accepted", s);
}

static void twice(void)
{
	union conf_addr a;
	int fd = conf_listener(CONF_VIP, &a), c, s;

	CONF_RES("second", listen(fd, 5));
	CONF_RES("zero", listen(fd, 0));
	CONF_RES("huge", listen(fd, 1 << 30));
	c = conf_client(&a);
	CONF_RES("pending", listen(fd, 5));
	s = conf_accept(fd);
	conf_talk("talk", c, s);
}

static void backlog(int n)
{
	union conf_addr a;
	int fd = conf_bound(CONF_VIP, &a), c, s;

	CONF_RES("listen", listen(fd, n));
	c = conf_client(&a);
	s = conf_accept(fd);
	conf_talk("talk", c, s);
}
static void backlog_minus(void)
{
	backlog(-1);
}
static void backlog_zero(void)
{
	backlog(0);
}
static void backlog_min(void)
{
	backlog((int)0x80000000);
}

static void connected(void)
{
	int c, s;

	conf_pair(&c, &s, NULL);
	CONF_RES("client", listen(c, 5));
	CONF_RES("accepted", listen(s, 5));
	conf_talk("talk", c, s);
}

static void after_shutdown(void)
{
	union conf_addr a;
	int fd = conf_listener(CONF_VIP, &a), c, s;
	socklen_t len = conf_addrlen();

	conf_name_port("listener", conf_port(&a));
	CONF_RES("shutdown", shutdown(fd, SHUT_RD));
	say_acceptconn("acceptconn", fd);
	conf_say("name", "%s", conf_show_name(fd));
	CONF_RES("client", connect(conf_tcp(0), &a.sa, conf_addrlen()));
	CONF_RES("accept", accept(fd, NULL, NULL));
	CONF_RES("listen", listen(fd, 5));
	/* natively a port that the kernel chose was given back */
	CONF_NEED(getsockname(fd, &a.sa, &len) == 0);
	c = conf_client(&a);
	s = conf_accept(fd);
	conf_talk("talk", c, s);
}

static void after_refused(void)
{
	union conf_addr a, b;
	int fd = conf_tcp(0), c, s;
	socklen_t len = conf_addrlen();

	conf_bound(CONF_VIP, &a);
	CONF_RES("connect", connect(fd, &a.sa, len));
	CONF_RES("listen", listen(fd, 5));
	CONF_NEED(getsockname(fd, &a.sa, &len) == 0);
	conf_addr(&b, CONF_VIP, conf_port(&a));
	c = conf_client(&b);
	s = conf_accept(fd);
	conf_talk("talk", c, s);
}

static void while_connecting(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), fd = conf_tcp(SOCK_NONBLOCK);

	(void)l;
	(void)connect(fd, &a.sa, conf_addrlen());
	conf_poll_until(fd, POLLOUT);
	CONF_RES("listen", listen(fd, 5));
}

static const struct conf_case generic[] = {
	{ "unbound", unbound },
	{ "twice", twice },
	{ "backlog-minus", backlog_minus },
	{ "backlog-zero", backlog_zero },
	{ "backlog-min", backlog_min },
	{ "connected", connected },
	{ "after-shutdown", after_shutdown },
	{ "after-refused", after_refused },
	{ "while-connecting", while_connecting },
};

static void not_tcp(void)
{
	int p[2], fd;

	CONF_NEED(pipe(p) == 0);
	CONF_RES("bad-fd", listen(-1, 5));
	CONF_RES("pipe", listen(p[0], 5));
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	CONF_RES("udp", listen(fd, 5));
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	CONF_RES("unix-unbound", listen(fd, 5));
	fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	CONF_RES("unix-dgram", listen(fd, 5));
	fd = socket(AF_NETLINK, SOCK_RAW, 0);
	CONF_RES("netlink", listen(fd, 5));
}

static const struct conf_case once[] = {
	{ "not-tcp", not_tcp },
};

const struct errno_part errno_listen = { "listen", generic, ERRNO_N(generic), once,
					 ERRNO_N(once) };
