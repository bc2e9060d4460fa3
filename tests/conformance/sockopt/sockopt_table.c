/* sockopt_table [SUBSTRING] - every socket option in every state: its value, what setting it
 * says, its value then; what an accepted socket has from its listener and a connected one from
 * before. The output of a native run and of one under `appswitch run` is compared by sockopt.sh.
 *
 * Keys are FAMILY/OPTION/STATE.STEP. Each state has sockets of its own for each option. */
#include "../lib/conf.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

/* newer than the headers of Debian 12 */
enum {
	X_SO_PASSPIDFD = 76,
	X_SO_PEERPIDFD = 77,
	X_SO_RCVPRIORITY = 82,
	X_SO_PASSRIGHTS = 83,
	X_SO_INQ = 84,
	X_TCP_AO_ADD_KEY = 38,
	X_TCP_AO_DEL_KEY = 39,
	X_TCP_AO_INFO = 40,
	X_TCP_AO_GET_KEYS = 41,
	X_TCP_AO_REPAIR = 42,
	X_TCP_IS_MPTCP = 43,
	X_TCP_RTO_MAX_MS = 44,
	X_TCP_RTO_MIN_US = 45,
	X_TCP_DELACK_MAX_US = 46,
	X_IP_LOCAL_PORT_RANGE = 51,
	X_IP_PROTOCOL = 52,
	X_IPV6_FREEBIND = 78,
	X_IPV6_AUTOFLOWLABEL = 70,
};

enum kind {
	INT,	 /* an int */
	SIZE,	 /* an int whose default is a matter of tuning: only its sign is shown */
	BYTES,	 /* shown as its length */
	TIME,	 /* struct timeval */
	LINGER,	 /* struct linger */
	NAME,	 /* a string */
	CRED,	 /* struct ucred */
	INFO,	 /* struct tcp_info */
	FILTER,	 /* struct sock_fprog, set only */
	NOTHING, /* set without a value */
};

static const struct option {
	const char *name;
	int level, opt;
	enum kind kind;
	int value; /* to set; -1: none, only read */
	const char *text;
} options[] = {
	{ "SO_DOMAIN", SOL_SOCKET, SO_DOMAIN, INT, -1 },
	{ "SO_PROTOCOL", SOL_SOCKET, SO_PROTOCOL, INT, -1 },
	{ "SO_TYPE", SOL_SOCKET, SO_TYPE, INT, -1 },
	{ "SO_ACCEPTCONN", SOL_SOCKET, SO_ACCEPTCONN, INT, -1 },
	{ "SO_ERROR", SOL_SOCKET, SO_ERROR, INT, -1 },
	{ "SO_REUSEADDR", SOL_SOCKET, SO_REUSEADDR, INT, 1 },
	{ "SO_REUSEPORT", SOL_SOCKET, SO_REUSEPORT, INT, 1 },
	{ "SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE, INT, 1 },
	{ "SO_LINGER", SOL_SOCKET, SO_LINGER, LINGER, 7 },
	{ "SO_OOBINLINE", SOL_SOCKET, SO_OOBINLINE, INT, 1 },
	{ "SO_DONTROUTE", SOL_SOCKET, SO_DONTROUTE, INT, 1 },
	{ "SO_BROADCAST", SOL_SOCKET, SO_BROADCAST, INT, 1 },
	{ "SO_DEBUG", SOL_SOCKET, SO_DEBUG, INT, 0 },
	{ "SO_SNDBUF", SOL_SOCKET, SO_SNDBUF, SIZE, 100000 },
	{ "SO_RCVBUF", SOL_SOCKET, SO_RCVBUF, SIZE, 100000 },
	{ "SO_RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT, INT, 3 },
	{ "SO_SNDLOWAT", SOL_SOCKET, SO_SNDLOWAT, INT, 3 },
	{ "SO_RCVTIMEO", SOL_SOCKET, SO_RCVTIMEO, TIME, 3 },
	{ "SO_SNDTIMEO", SOL_SOCKET, SO_SNDTIMEO, TIME, 3 },
	{ "SO_PRIORITY", SOL_SOCKET, SO_PRIORITY, INT, 3 },
	{ "SO_MARK", SOL_SOCKET, SO_MARK, INT, 3 },
	{ "SO_BINDTODEVICE", SOL_SOCKET, SO_BINDTODEVICE, NAME, -1, "" },
	{ "SO_BINDTOIFINDEX", SOL_SOCKET, SO_BINDTOIFINDEX, INT, -1 },
	{ "SO_TIMESTAMP", SOL_SOCKET, SO_TIMESTAMP, INT, 1 },
	{ "SO_TIMESTAMPING", SOL_SOCKET, SO_TIMESTAMPING, INT, -1 },
	{ "SO_NO_CHECK", SOL_SOCKET, SO_NO_CHECK, INT, 1 },
	{ "SO_PEEK_OFF", SOL_SOCKET, SO_PEEK_OFF, INT, -1 },
	{ "SO_BUSY_POLL", SOL_SOCKET, SO_BUSY_POLL, INT, -1 },
	{ "SO_MAX_PACING_RATE", SOL_SOCKET, SO_MAX_PACING_RATE, INT, 100000000 },
	{ "SO_INCOMING_CPU", SOL_SOCKET, SO_INCOMING_CPU, BYTES, -1 },
	{ "SO_COOKIE", SOL_SOCKET, SO_COOKIE, BYTES, -1 },
	{ "SO_NETNS_COOKIE", SOL_SOCKET, SO_NETNS_COOKIE, BYTES, -1 },
	{ "SO_BUF_LOCK", SOL_SOCKET, SO_BUF_LOCK, INT, -1 },
	{ "SO_TXREHASH", SOL_SOCKET, SO_TXREHASH, INT, 0 },
	{ "SO_RCVMARK", SOL_SOCKET, SO_RCVMARK, INT, -1 },
	{ "SO_RCVPRIORITY", SOL_SOCKET, X_SO_RCVPRIORITY, INT, 1 },
	{ "SO_INQ", SOL_SOCKET, X_SO_INQ, INT, 1 },
	{ "SO_MEMINFO", SOL_SOCKET, SO_MEMINFO, BYTES, -1 },
	{ "SO_ATTACH_FILTER", SOL_SOCKET, SO_ATTACH_FILTER, FILTER, 0 },
	{ "SO_DETACH_FILTER", SOL_SOCKET, SO_DETACH_FILTER, NOTHING, 0 },
	{ "SO_ATTACH_REUSEPORT_CBPF", SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, FILTER, 0 },
	{ "SO_DETACH_REUSEPORT_BPF", SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, NOTHING, 0 },

	{ "SO_PEERCRED", SOL_SOCKET, SO_PEERCRED, CRED, -1 },
	{ "SO_PEERGROUPS", SOL_SOCKET, SO_PEERGROUPS, BYTES, -1 },
	{ "SO_PEERSEC", SOL_SOCKET, SO_PEERSEC, BYTES, -1 },
	{ "SO_PEERPIDFD", SOL_SOCKET, X_SO_PEERPIDFD, BYTES, -1 },
	{ "SO_PEERNAME", SOL_SOCKET, SO_PEERNAME, BYTES, -1 },
	{ "SO_PASSCRED", SOL_SOCKET, SO_PASSCRED, INT, 1 },
	{ "SO_PASSSEC", SOL_SOCKET, SO_PASSSEC, INT, 1 },
	{ "SO_PASSPIDFD", SOL_SOCKET, X_SO_PASSPIDFD, INT, 1 },
	{ "SO_PASSRIGHTS", SOL_SOCKET, X_SO_PASSRIGHTS, INT, 1 },

	{ "TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY, INT, 1 },
	{ "TCP_NODELAY-off", IPPROTO_TCP, TCP_NODELAY, INT, 0 },
	{ "TCP_MAXSEG", IPPROTO_TCP, TCP_MAXSEG, INT, 1000 },
	{ "TCP_CORK", IPPROTO_TCP, TCP_CORK, INT, 1 },
	{ "TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE, INT, 11 },
	{ "TCP_KEEPINTVL", IPPROTO_TCP, TCP_KEEPINTVL, INT, 12 },
	{ "TCP_KEEPCNT", IPPROTO_TCP, TCP_KEEPCNT, INT, 13 },
	{ "TCP_SYNCNT", IPPROTO_TCP, TCP_SYNCNT, INT, 4 },
	{ "TCP_LINGER2", IPPROTO_TCP, TCP_LINGER2, INT, 5 },
	{ "TCP_DEFER_ACCEPT", IPPROTO_TCP, TCP_DEFER_ACCEPT, INT, 0 },
	{ "TCP_WINDOW_CLAMP", IPPROTO_TCP, TCP_WINDOW_CLAMP, SIZE, 60000 },
	{ "TCP_INFO", IPPROTO_TCP, TCP_INFO, INFO, -1 },
	{ "TCP_QUICKACK", IPPROTO_TCP, TCP_QUICKACK, INT, 0 },
	{ "TCP_CONGESTION", IPPROTO_TCP, TCP_CONGESTION, NAME, 0, "reno" },
	{ "TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT, INT, 12345 },
	{ "TCP_FASTOPEN", IPPROTO_TCP, TCP_FASTOPEN, INT, 5 },
	{ "TCP_FASTOPEN_NO_COOKIE", IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, INT, 1 },
	{ "TCP_TIMESTAMP", IPPROTO_TCP, TCP_TIMESTAMP, BYTES, -1 },
	{ "TCP_NOTSENT_LOWAT", IPPROTO_TCP, TCP_NOTSENT_LOWAT, INT, 16384 },
	{ "TCP_SAVE_SYN", IPPROTO_TCP, TCP_SAVE_SYN, INT, 1 },
	{ "TCP_SAVED_SYN", IPPROTO_TCP, TCP_SAVED_SYN, BYTES, -1 },
	{ "TCP_CC_INFO", IPPROTO_TCP, TCP_CC_INFO, BYTES, -1 },
	{ "TCP_THIN_LINEAR_TIMEOUTS", IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, INT, 1 },
	{ "TCP_THIN_DUPACK", IPPROTO_TCP, TCP_THIN_DUPACK, INT, 1 },
	{ "TCP_TX_DELAY", IPPROTO_TCP, TCP_TX_DELAY, INT, -1 },
	{ "TCP_RTO_MAX_MS", IPPROTO_TCP, X_TCP_RTO_MAX_MS, INT, 5000 },
	{ "TCP_RTO_MIN_US", IPPROTO_TCP, X_TCP_RTO_MIN_US, INT, 5000 },
	{ "TCP_DELACK_MAX_US", IPPROTO_TCP, X_TCP_DELACK_MAX_US, INT, 5000 },
	{ "TCP_IS_MPTCP", IPPROTO_TCP, X_TCP_IS_MPTCP, INT, -1 },

	/* those with consequences */
	{ "TCP_ULP", IPPROTO_TCP, TCP_ULP, NAME, 0, "tls" },
	{ "TCP_REPAIR", IPPROTO_TCP, TCP_REPAIR, INT, 1 },
	{ "TCP_REPAIR_QUEUE", IPPROTO_TCP, TCP_REPAIR_QUEUE, INT, 1 },
	{ "TCP_QUEUE_SEQ", IPPROTO_TCP, TCP_QUEUE_SEQ, INT, 1 },
	{ "TCP_REPAIR_OPTIONS", IPPROTO_TCP, TCP_REPAIR_OPTIONS, INT, 1 },
	{ "TCP_REPAIR_WINDOW", IPPROTO_TCP, TCP_REPAIR_WINDOW, INT, 1 },
	{ "TCP_INQ", IPPROTO_TCP, TCP_INQ, INT, 1 },
	{ "TCP_ZEROCOPY_RECEIVE", IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, BYTES, 1 },
	{ "TCP_MD5SIG", IPPROTO_TCP, TCP_MD5SIG, INT, 1 },
	{ "TCP_MD5SIG_EXT", IPPROTO_TCP, TCP_MD5SIG_EXT, INT, 1 },
	{ "TCP_AO_ADD_KEY", IPPROTO_TCP, X_TCP_AO_ADD_KEY, INT, 1 },
	{ "TCP_AO_DEL_KEY", IPPROTO_TCP, X_TCP_AO_DEL_KEY, INT, 1 },
	{ "TCP_AO_INFO", IPPROTO_TCP, X_TCP_AO_INFO, INT, 1 },
	{ "TCP_AO_GET_KEYS", IPPROTO_TCP, X_TCP_AO_GET_KEYS, INT, -1 },
	{ "TCP_AO_REPAIR", IPPROTO_TCP, X_TCP_AO_REPAIR, INT, 1 },
	{ "TCP_FASTOPEN_KEY", IPPROTO_TCP, TCP_FASTOPEN_KEY, NAME, 0, "0123456789abcdef" },
	{ "TCP_FASTOPEN_CONNECT", IPPROTO_TCP, TCP_FASTOPEN_CONNECT, INT, 1 },
	{ "SO_ZEROCOPY", SOL_SOCKET, SO_ZEROCOPY, INT, 1 },
	{ "SO_TXTIME", SOL_SOCKET, SO_TXTIME, BYTES, -1 },

	{ "IP_TOS", IPPROTO_IP, IP_TOS, INT, 0x10 },
	{ "IP_TTL", IPPROTO_IP, IP_TTL, INT, 33 },
	{ "IP_MTU", IPPROTO_IP, IP_MTU, INT, -1 },
	{ "IP_MTU_DISCOVER", IPPROTO_IP, IP_MTU_DISCOVER, INT, IP_PMTUDISC_DO },
	{ "IP_OPTIONS", IPPROTO_IP, IP_OPTIONS, BYTES, -1 },
	{ "IP_RECVTTL", IPPROTO_IP, IP_RECVTTL, INT, 1 },
	{ "IP_RECVTOS", IPPROTO_IP, IP_RECVTOS, INT, 1 },
	{ "IP_PKTINFO", IPPROTO_IP, IP_PKTINFO, INT, 1 },
	{ "IP_RECVERR", IPPROTO_IP, IP_RECVERR, INT, 1 },
	{ "IP_FREEBIND", IPPROTO_IP, IP_FREEBIND, INT, 1 },
	{ "IP_TRANSPARENT", IPPROTO_IP, IP_TRANSPARENT, INT, -1 },
	{ "IP_MINTTL", IPPROTO_IP, IP_MINTTL, INT, 1 },
	{ "IP_BIND_ADDRESS_NO_PORT", IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, INT, 1 },
	{ "IP_LOCAL_PORT_RANGE", IPPROTO_IP, X_IP_LOCAL_PORT_RANGE, INT, -1 },
	{ "IP_PROTOCOL", IPPROTO_IP, X_IP_PROTOCOL, SIZE, -1 },

	{ "IP_MULTICAST_TTL", IPPROTO_IP, IP_MULTICAST_TTL, INT, -1 },
	{ "IP_MULTICAST_IF", IPPROTO_IP, IP_MULTICAST_IF, INT, -1 },
	{ "IP_IPSEC_POLICY", IPPROTO_IP, IP_IPSEC_POLICY, INT, 1 },

	{ "IPV6_V6ONLY", IPPROTO_IPV6, IPV6_V6ONLY, INT, 1 },
	{ "IPV6_TCLASS", IPPROTO_IPV6, IPV6_TCLASS, INT, 0x10 },
	{ "IPV6_UNICAST_HOPS", IPPROTO_IPV6, IPV6_UNICAST_HOPS, INT, 33 },
	{ "IPV6_MTU", IPPROTO_IPV6, IPV6_MTU, INT, -1 },
	{ "IPV6_MTU_DISCOVER", IPPROTO_IPV6, IPV6_MTU_DISCOVER, INT, IPV6_PMTUDISC_DO },
	{ "IPV6_RECVPKTINFO", IPPROTO_IPV6, IPV6_RECVPKTINFO, INT, 1 },
	{ "IPV6_RECVTCLASS", IPPROTO_IPV6, IPV6_RECVTCLASS, INT, 1 },
	{ "IPV6_DONTFRAG", IPPROTO_IPV6, IPV6_DONTFRAG, INT, 1 },
	{ "IPV6_MTU-set", IPPROTO_IPV6, IPV6_MTU, INT, 1500 },
	{ "IPV6_ADDRFORM", IPPROTO_IPV6, IPV6_ADDRFORM, INT, AF_INET },
	{ "IPV6_MULTICAST_HOPS", IPPROTO_IPV6, IPV6_MULTICAST_HOPS, INT, -1 },
	{ "IPV6_MULTICAST_IF", IPPROTO_IPV6, IPV6_MULTICAST_IF, INT, -1 },
	{ "IPV6_IPSEC_POLICY", IPPROTO_IPV6, IPV6_IPSEC_POLICY, INT, 1 },
	{ "IPV6_FREEBIND", IPPROTO_IPV6, X_IPV6_FREEBIND, INT, 1 },
	{ "IPV6_AUTOFLOWLABEL", IPPROTO_IPV6, X_IPV6_AUTOFLOWLABEL, INT, 0 },
};

static const struct option *now; /* the option of the running cases */

static const char *info_text(const struct tcp_info *t, socklen_t len)
{
	static const char *const state[] = { "0",	  "ESTABLISHED", "SYN_SENT",
					     "SYN_RECV",  "FIN_WAIT1",	 "FIN_WAIT2",
					     "TIME_WAIT", "CLOSE",	 "CLOSE_WAIT",
					     "LAST_ACK",  "LISTEN",	 "CLOSING" };
	static char buf[128];
	bool open = t->tcpi_state == TCP_ESTABLISHED;
	const char *bad = "";

	if (len < offsetof(struct tcp_info, tcpi_total_retrans) + 4)
		bad = ", short";
	else if (open && (!t->tcpi_snd_mss || !t->tcpi_rcv_mss || !t->tcpi_pmtu))
		bad = ", no mss";
	else if (open && !t->tcpi_snd_cwnd)
		bad = ", no window";
	else if (open && (!t->tcpi_rto || t->tcpi_rto > 120000000))
		bad = ", no rto";
	else if (open && t->tcpi_rtt > 10000000)
		bad = ", long rtt";
	else if (t->tcpi_lost || t->tcpi_retrans || t->tcpi_total_retrans || t->tcpi_backoff)
		bad = ", losses";
	snprintf(buf, sizeof(buf), "%s%s", t->tcpi_state < 12 ? state[t->tcpi_state] : "?",
		 bad);
	return buf;
}

static void say_value(const char *step, int fd, bool is_default)
{
	union {
		int i;
		struct timeval tv;
		struct linger l;
		struct ucred c;
		struct tcp_info t;
		char s[1024];
	} v = { .s = "" };
	socklen_t len;

	switch (now->kind) {
	case TIME:
		len = sizeof(v.tv);
		break;
	case LINGER:
		len = sizeof(v.l);
		break;
	case CRED:
		len = sizeof(v.c);
		break;
	case INT:
	case SIZE:
		len = sizeof(v.i);
		break;
	case FILTER:
	case NOTHING:
		return;
	default:
		len = sizeof(v);
	}
	if (getsockopt(fd, now->level, now->opt, &v, &len) < 0) {
		conf_say(step, "-1 %s", conf_errno(errno));
		return;
	}
	switch (now->kind) {
	case SIZE:
		if (is_default) {
			conf_say(step, "%s len %u",
				 v.i > 0 ? "positive"
				 : v.i	 ? "negative"
					 : "0",
				 len);
			break;
		}
		/* fallthrough */
	case INT:
		conf_say(step, "%d len %u", v.i, len);
		break;
	case TIME:
		conf_say(step, "%ld.%06ld len %u", (long)v.tv.tv_sec, (long)v.tv.tv_usec, len);
		break;
	case LINGER:
		conf_say(step, "%d %d len %u", v.l.l_onoff, v.l.l_linger, len);
		break;
	case NAME:
		conf_say(step, "'%.*s' len %u", (int)len, v.s, len);
		break;
	case CRED:
		conf_say(step, "pid %d uid %d gid %d", v.c.pid, (int)v.c.uid, (int)v.c.gid);
		break;
	case INFO:
		conf_say(step, "%s", info_text(&v.t, len));
		break;
	default:
		conf_say(step, "len %u", len);
	}
}

static void set_value(const char *step, int fd)
{
	static struct sock_filter pass = { BPF_RET | BPF_K, 0, 0, 0x7fffffff };
	struct sock_fprog prog = { .len = 1, .filter = &pass };
	struct timeval tv = { .tv_sec = now->value };
	struct linger l = { .l_onoff = 1, .l_linger = now->value };
	const void *p = &now->value;
	socklen_t len = sizeof(int);

	switch (now->kind) {
	case TIME:
		p = &tv;
		len = sizeof(tv);
		break;
	case LINGER:
		p = &l;
		len = sizeof(l);
		break;
	case NAME:
		p = now->text;
		len = (socklen_t)strlen(now->text);
		break;
	case FILTER:
		pass.k = now->opt == SO_ATTACH_FILTER ? 0x7fffffff : 0;
		p = &prog;
		len = sizeof(prog);
		break;
	default:
		break;
	}
	CONF_RES(step, setsockopt(fd, now->level, now->opt, p, len));
}

static void try_on(int fd)
{
	say_value("default", fd, true);
	if (now->value >= 0) {
		set_value("set", fd);
		say_value("then", fd, false);
	}
}

static void fresh(void)
{
	try_on(conf_tcp(0));
}

static void bound(void)
{
	try_on(conf_bound(CONF_VIP, NULL));
}

static void listening(void)
{
	try_on(conf_listener(CONF_VIP, NULL));
}

static void client(void)
{
	int c, s;

	conf_pair(&c, &s, NULL);
	try_on(c);
	if (now->kind != FILTER && now->kind != NOTHING && now->value >= 0)
		say_value("other-end", s, true);
}

static void accepted(void)
{
	int c, s;

	conf_pair(&c, &s, NULL);
	try_on(s);
}

static void refused(void)
{
	union conf_addr a;
	int fd = conf_tcp(0);

	conf_bound(CONF_VIP, &a);
	CONF_NEED(connect(fd, &a.sa, conf_addrlen()) < 0);
	try_on(fd);
}

static void before_listen(void)
{
	union conf_addr a;
	int l = conf_bound(CONF_VIP, &a), c;

	if (now->value < 0)
		return;
	set_value("set", l);
	CONF_RES("listen", listen(l, 5));
	say_value("listening", l, false);
	c = conf_client(&a);
	say_value("accepted", conf_accept(l), false);
	say_value("listening-after", l, false);
	say_value("client", c, true);
}

static void after_listen(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), c;

	if (now->value < 0)
		return;
	conf_client(&a);
	set_value("set", l);
	say_value("accepted-pending", conf_accept(l), true);
	c = conf_client(&a);
	say_value("accepted", conf_accept(l), false);
	close(c);
}

static void before_connect(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), c = conf_tcp(0);

	if (now->value < 0)
		return;
	set_value("set", c);
	CONF_RES("connect", connect(c, &a.sa, conf_addrlen()));
	say_value("connected", c, false);
	say_value("accepted", conf_accept(l), true);
}

int main(int argc, char **argv)
{
	static const struct conf_case states[] = {
		{ "fresh", fresh },
		{ "bound", bound },
		{ "listening", listening },
		{ "client", client },
		{ "accepted", accepted },
		{ "refused", refused },
		{ "before-listen", before_listen },
		{ "after-listen", after_listen },
		{ "before-connect", before_connect },
	};
	static const char *const fam[] = { "v4", "v6" };
	char prefix[64];

	for (int f = CONF_V4; f <= CONF_V6; f++)
		for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
			now = &options[i];
			snprintf(prefix, sizeof(prefix), "%s/%s", fam[f], now->name);
			conf_run(prefix, (enum conf_family)f, states,
				 sizeof(states) / sizeof(states[0]), argc > 1 ? argv[1] : NULL);
		}
	return 0;
}
