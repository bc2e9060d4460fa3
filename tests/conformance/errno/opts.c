/* getsockopt(2), setsockopt(2): arguments and lengths. The values are sockopt_table's subject. */
#include "errno_table.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
	const char *name;
	int level, opt;
} opts[] = {
	{ "keepalive", SOL_SOCKET, SO_KEEPALIVE },
	{ "reuseaddr", SOL_SOCKET, SO_REUSEADDR },
	{ "reuseport", SOL_SOCKET, SO_REUSEPORT },
	{ "type", SOL_SOCKET, SO_TYPE },
	{ "domain", SOL_SOCKET, SO_DOMAIN },
	{ "protocol", SOL_SOCKET, SO_PROTOCOL },
	{ "acceptconn", SOL_SOCKET, SO_ACCEPTCONN },
	{ "error", SOL_SOCKET, SO_ERROR },
	{ "nodelay", IPPROTO_TCP, TCP_NODELAY },
	{ "keepidle", IPPROTO_TCP, TCP_KEEPIDLE },
	{ "maxseg", IPPROTO_TCP, TCP_MAXSEG },
	{ "congestion", IPPROTO_TCP, TCP_CONGESTION },
	{ "tos", IPPROTO_IP, IP_TOS },
	{ "ttl", IPPROTO_IP, IP_TTL },
	{ "v6only", IPPROTO_IPV6, IPV6_V6ONLY },
	{ "tclass", IPPROTO_IPV6, IPV6_TCLASS },
	{ "no-such-tcp", IPPROTO_TCP, 9999 },
	{ "no-such-ip", IPPROTO_IP, 9999 },
	{ "no-such-ipv6", IPPROTO_IPV6, 9999 },
	{ "no-such-socket", SOL_SOCKET, 9999 },
	{ "level-99", 99, 1 },
	{ "level-minus", -1, 1 },
	{ "level-udp", IPPROTO_UDP, 1 },
	{ "level-icmp", IPPROTO_ICMP, 1 },
	{ "level-raw", IPPROTO_RAW, 1 },
	{ "level-sctp", IPPROTO_SCTP, 1 },
	{ "level-tls", 282, 1 },
	{ "level-mptcp", 284, 1 },
	{ "level-netlink", 270, 1 },
};

static void gets(int fd)
{
	static const int lens[] = { 0, 1, 2, 3, 4, 5, 8, 64, -1 };
	char step[64], buf[128];

	for (size_t i = 0; i < ERRNO_N(opts); i++) {
		for (size_t k = 0; k < ERRNO_N(lens); k++) {
			socklen_t len = (socklen_t)lens[k];
			size_t touched = 0;
			int r;

			memset(buf, 0x5a, sizeof(buf));
			r = getsockopt(fd, opts[i].level, opts[i].opt, buf, &len);
			for (size_t n = 0; n < sizeof(buf); n++)
				if (buf[n] != 0x5a)
					touched = n + 1;
			snprintf(step, sizeof(step), "%s-get-%d", opts[i].name, lens[k]);
			if (r < 0)
				conf_say(step, "-1 %s", conf_errno(errno));
			else
				conf_say(step, "len %d%s", (int)len,
					 lens[k] >= 0 && touched > (size_t)lens[k] ? " too much"
										   : "");
		}
		snprintf(step, sizeof(step), "%s-get-nolen", opts[i].name);
		CONF_RES(step, getsockopt(fd, opts[i].level, opts[i].opt, buf, NULL));
		snprintf(step, sizeof(step), "%s-get-badlen", opts[i].name);
		CONF_RES(step, getsockopt(fd, opts[i].level, opts[i].opt, buf, errno_bad()));
		socklen_t len = 4;

		snprintf(step, sizeof(step), "%s-get-bad", opts[i].name);
		CONF_RES(step, getsockopt(fd, opts[i].level, opts[i].opt, errno_bad(), &len));
		len = 4;
		snprintf(step, sizeof(step), "%s-get-null", opts[i].name);
		CONF_RES(step, getsockopt(fd, opts[i].level, opts[i].opt, NULL, &len));
	}
}

static void sets(int fd)
{
	static const int lens[] = { 0, 1, 2, 3, 4, 5, 8, 64, -1 };
	char step[64];

	for (size_t i = 0; i < ERRNO_N(opts); i++) {
		int value[32] = { opts[i].opt == TCP_MAXSEG && opts[i].level == IPPROTO_TCP
					  ? 1000
					  : 1 };

		for (size_t k = 0; k < ERRNO_N(lens); k++) {
			snprintf(step, sizeof(step), "%s-set-%d", opts[i].name, lens[k]);
			CONF_RES(step, setsockopt(fd, opts[i].level, opts[i].opt, value,
						  (socklen_t)lens[k]));
		}
		snprintf(step, sizeof(step), "%s-set-bad", opts[i].name);
		CONF_RES(step, setsockopt(fd, opts[i].level, opts[i].opt, errno_bad(), 4));
		snprintf(step, sizeof(step), "%s-set-null", opts[i].name);
		CONF_RES(step, setsockopt(fd, opts[i].level, opts[i].opt, NULL, 4));
		snprintf(step, sizeof(step), "%s-set-null-0", opts[i].name);
		CONF_RES(step, setsockopt(fd, opts[i].level, opts[i].opt, NULL, 0));
		snprintf(step, sizeof(step), "%s-set-crossing", opts[i].name);
		CONF_RES(step,
			 setsockopt(fd, opts[i].level, opts[i].opt, errno_edge(value, 2), 4));
	}
}

static int client(bool accepted)
{
	int c, s;

	conf_pair(&c, &s, NULL);
	return accepted ? s : c;
}

static void get_fresh(void)
{
	gets(conf_tcp(0));
}
static void get_listening(void)
{
	gets(conf_listener(CONF_VIP, NULL));
}
static void get_client(void)
{
	gets(client(false));
}
static void get_accepted(void)
{
	gets(client(true));
}
static void set_fresh(void)
{
	sets(conf_tcp(0));
}
static void set_listening(void)
{
	sets(conf_listener(CONF_VIP, NULL));
}
static void set_client(void)
{
	sets(client(false));
}
static void set_accepted(void)
{
	sets(client(true));
}

static void values(int fd)
{
	static const struct {
		const char *name;
		int level, opt, value;
	} t[] = {
		{ "keepidle-0", IPPROTO_TCP, TCP_KEEPIDLE, 0 },
		{ "keepidle-minus", IPPROTO_TCP, TCP_KEEPIDLE, -1 },
		{ "keepidle-huge", IPPROTO_TCP, TCP_KEEPIDLE, 40000 },
		{ "keepcnt-0", IPPROTO_TCP, TCP_KEEPCNT, 0 },
		{ "keepcnt-128", IPPROTO_TCP, TCP_KEEPCNT, 128 },
		{ "keepintvl-0", IPPROTO_TCP, TCP_KEEPINTVL, 0 },
		{ "maxseg-1", IPPROTO_TCP, TCP_MAXSEG, 1 },
		{ "maxseg-huge", IPPROTO_TCP, TCP_MAXSEG, 70000 },
		{ "syncnt-0", IPPROTO_TCP, TCP_SYNCNT, 0 },
		{ "syncnt-200", IPPROTO_TCP, TCP_SYNCNT, 200 },
		{ "user-timeout-minus", IPPROTO_TCP, TCP_USER_TIMEOUT, -1 },
		{ "window-clamp-0", IPPROTO_TCP, TCP_WINDOW_CLAMP, 0 },
		{ "tos-256", IPPROTO_IP, IP_TOS, 256 },
		{ "ttl-0", IPPROTO_IP, IP_TTL, 0 },
		{ "ttl-256", IPPROTO_IP, IP_TTL, 256 },
		{ "ttl-minus", IPPROTO_IP, IP_TTL, -1 },
		{ "mtu-discover-9", IPPROTO_IP, IP_MTU_DISCOVER, 9 },
		{ "tclass-256", IPPROTO_IPV6, IPV6_TCLASS, 256 },
		{ "hops-256", IPPROTO_IPV6, IPV6_UNICAST_HOPS, 256 },
		{ "domain", SOL_SOCKET, SO_DOMAIN, 1 },
		{ "type", SOL_SOCKET, SO_TYPE, 1 },
		{ "acceptconn", SOL_SOCKET, SO_ACCEPTCONN, 1 },
		{ "mtu-set", IPPROTO_IP, IP_MTU, 1500 },
	};
	char name[32];

	for (size_t i = 0; i < ERRNO_N(t); i++)
		CONF_RES(t[i].name,
			 setsockopt(fd, t[i].level, t[i].opt, &t[i].value, sizeof(int)));
	CONF_RES("congestion-none",
		 setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "no-such-thing", 13));
	memset(name, 'x', sizeof(name));
	CONF_RES("congestion-long", setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, 32));
	CONF_RES("congestion-reno", setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
}
static void values_fresh(void)
{
	values(conf_tcp(0));
}
static void values_listening(void)
{
	values(conf_listener(CONF_VIP, NULL));
}
static void values_client(void)
{
	values(client(false));
}
static void values_accepted(void)
{
	values(client(true));
}

static const struct conf_case generic[] = {
	{ "get-fresh", get_fresh },	    { "get-listening", get_listening },
	{ "get-client", get_client },	    { "get-accepted", get_accepted },
	{ "set-fresh", set_fresh },	    { "set-listening", set_listening },
	{ "set-client", set_client },	    { "set-accepted", set_accepted },
	{ "values-fresh", values_fresh },   { "values-listening", values_listening },
	{ "values-client", values_client }, { "values-accepted", values_accepted },
};

static void not_tcp(void)
{
	int p[2], v = 1;
	socklen_t len = sizeof(v);

	CONF_NEED(pipe(p) == 0);
	CONF_RES("get-bad-fd", getsockopt(-1, IPPROTO_TCP, TCP_NODELAY, &v, &len));
	CONF_RES("set-bad-fd", setsockopt(-1, IPPROTO_TCP, TCP_NODELAY, &v, len));
	CONF_RES("get-pipe", getsockopt(p[0], IPPROTO_TCP, TCP_NODELAY, &v, &len));
	CONF_RES("set-pipe", setsockopt(p[0], IPPROTO_TCP, TCP_NODELAY, &v, len));
	CONF_RES("get-type-bad-fd", getsockopt(-1, SOL_SOCKET, SO_TYPE, &v, &len));
	CONF_RES("get-type-pipe", getsockopt(p[0], SOL_SOCKET, SO_TYPE, &v, &len));
	int u = socket(AF_INET, SOCK_DGRAM, 0);

	CONF_RES("udp-nodelay", setsockopt(u, IPPROTO_TCP, TCP_NODELAY, &v, len));
	CONF_RES("udp-nodelay-get", getsockopt(u, IPPROTO_TCP, TCP_NODELAY, &v, &len));
	CONF_RES("udp-tos", setsockopt(u, IPPROTO_IP, IP_TOS, &v, sizeof(v)));
	len = sizeof(v);
	CONF_RES("udp-type", getsockopt(u, SOL_SOCKET, SO_TYPE, &v, &len));
	conf_say("udp-type-value", "%d", v);
	CONF_NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
	v = 1;
	CONF_RES("unix-nodelay", setsockopt(p[0], IPPROTO_TCP, TCP_NODELAY, &v, sizeof(v)));
	CONF_RES("unix-nodelay-get", getsockopt(p[0], IPPROTO_TCP, TCP_NODELAY, &v, &len));
	CONF_RES("unix-domain", getsockopt(p[0], SOL_SOCKET, SO_DOMAIN, &v, &len));
	conf_say("unix-domain-value", "%d", v);
	CONF_RES("unix-reuseport", setsockopt(p[0], SOL_SOCKET, SO_REUSEPORT, &v, sizeof(v)));
	struct ucred cred;

	len = sizeof(cred);
	CONF_RES("unix-peercred", getsockopt(p[0], SOL_SOCKET, SO_PEERCRED, &cred, &len));
	conf_say("unix-peercred-value", "%s %s", cred.pid == getpid() ? "me" : "other",
		 cred.uid == getuid() ? "me" : "other");
	v = 1;
	CONF_RES("unix-passcred", setsockopt(p[0], SOL_SOCKET, SO_PASSCRED, &v, sizeof(v)));
}

static const struct conf_case once[] = {
	{ "not-tcp", not_tcp },
};

const struct errno_part errno_opts = { "opts", generic, ERRNO_N(generic), once, ERRNO_N(once) };
