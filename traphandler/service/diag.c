#include "traphandler/service/diag.h"

#include <appswitch/util.h>

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

int diag_open(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

	return fd < 0 ? -errno : fd;
}

static void parse(const struct nlmsghdr *nh, struct diag_sock *ret)
{
	const struct unix_diag_msg *m = NLMSG_DATA(nh);
	int len = (int)(nh->nlmsg_len - NLMSG_LENGTH(sizeof(*m)));
	const char *p = (const char *)m + NLMSG_ALIGN(sizeof(*m));

	memset(ret, 0, sizeof(*ret));
	ret->inode = m->udiag_ino;
	ret->cookie = (uint64_t)m->udiag_cookie[0] | (uint64_t)m->udiag_cookie[1] << 32;
	ret->listening = m->udiag_state == TCP_LISTEN;
	while (len >= (int)sizeof(struct nlattr)) {
		const struct nlattr *a = (const struct nlattr *)p;
		int payload = (int)a->nla_len - (int)NLA_HDRLEN;

		if (payload < 0 || a->nla_len > len)
			return;
		if (a->nla_type == UNIX_DIAG_NAME)
			name_decode_path(p + NLA_HDRLEN, (size_t)payload, &ret->name);
		else if (a->nla_type == UNIX_DIAG_PEER && payload >= 4)
			memcpy(&ret->peer_inode, p + NLA_HDRLEN, 4);
		p += NLA_ALIGN(a->nla_len);
		len -= (int)NLA_ALIGN(a->nla_len);
	}
}

/* Sends the request for a dump and calls @fn for each message of the answer. */
static int dump(int fd, const void *req, size_t len,
		void (*fn)(void *arg, const struct nlmsghdr *nh), void *arg)
{
	_cleanup_free_ char *buf = malloc(65536);

	if (buf == NULL)
		return -ENOMEM;
	if (send(fd, req, len, 0) < 0)
		return -errno;
	for (;;) {
		ssize_t n = recv(fd, buf, 65536, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		for (struct nlmsghdr *nh = (void *)buf; NLMSG_OK(nh, (size_t)n);
		     nh = NLMSG_NEXT(nh, n)) {
			if (nh->nlmsg_type == NLMSG_DONE)
				return 0;
			if (nh->nlmsg_type == NLMSG_ERROR)
				return ((struct nlmsgerr *)NLMSG_DATA(nh))->error;
			fn(arg, nh);
		}
	}
}

/* Sends the request for one socket: true with its message in @buf, or an error in *ret_error. */
static bool ask(int fd, const void *req, size_t len, char *buf, size_t size, int *ret_error)
{
	const struct nlmsghdr *nh = (const void *)buf;
	ssize_t n;

	*ret_error = -EIO;
	if (send(fd, req, len, 0) < 0)
		return false;
	do {
		n = recv(fd, buf, size, 0);
	} while (n < 0 && errno == EINTR);
	if (n >= (ssize_t)NLMSG_LENGTH(sizeof(struct nlmsgerr)) &&
	    nh->nlmsg_type == NLMSG_ERROR)
		*ret_error = ((const struct nlmsgerr *)NLMSG_DATA(nh))->error;
	return n >= (ssize_t)sizeof(*nh) && nh->nlmsg_type == SOCK_DIAG_BY_FAMILY;
}

/* ---- stand-ins ---- */

struct unix_request {
	struct nlmsghdr nh;
	struct unix_diag_req req;
};

/* For the sockets in @states; of one of them, or with NLM_F_DUMP of all. */
static struct unix_request unix_request(uint16_t flags, uint32_t states)
{
	return (struct unix_request){
		.nh = {
			.nlmsg_len = sizeof(struct unix_request),
			.nlmsg_type = SOCK_DIAG_BY_FAMILY,
			.nlmsg_flags = NLM_F_REQUEST | flags,
		},
		.req = {
			.sdiag_family = AF_UNIX,
			.udiag_states = states,
			.udiag_cookie = { ~0u, ~0u },
		},
	};
}

struct standins {
	void (*fn)(void *arg, const struct diag_sock *d);
	void *arg;
};

static void on_standin(void *arg, const struct nlmsghdr *nh)
{
	const struct standins *s = arg;
	struct diag_sock d;

	parse(nh, &d);
	if (d.name.kind != NAME_NONE)
		s->fn(s->arg, &d);
}

int diag_dump(int fd, bool listening_only, void (*fn)(void *arg, const struct diag_sock *d),
	      void *arg)
{
	struct unix_request msg =
		unix_request(NLM_F_DUMP, listening_only ? 1u << TCP_LISTEN : ~0u);
	struct standins s = { fn, arg };

	msg.req.udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_PEER;
	return dump(fd, &msg, sizeof(msg), on_standin, &s);
}

bool diag_exists(int fd, uint32_t inode)
{
	struct unix_request msg = unix_request(0, ~0u);
	char buf[4096];
	int error;

	msg.req.udiag_ino = inode;
	return ask(fd, &msg, sizeof(msg), buf, sizeof(buf), &error) || error != -ENOENT;
}

/* ---- TCP ---- */

struct tcp_request {
	struct nlmsghdr nh;
	struct inet_diag_req_v2 req;
};

static struct tcp_request tcp_request(int family, uint16_t flags, uint32_t states)
{
	return (struct tcp_request){
		.nh = {
			.nlmsg_len = sizeof(struct tcp_request),
			.nlmsg_type = SOCK_DIAG_BY_FAMILY,
			.nlmsg_flags = NLM_F_REQUEST | flags,
		},
		.req = {
			.sdiag_family = (uint8_t)family,
			.sdiag_protocol = IPPROTO_TCP,
			.idiag_states = states,
			.id.idiag_cookie = { INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE },
		},
	};
}

static uint64_t cookie_of(const struct inet_diag_msg *m)
{
	return (uint64_t)m->id.idiag_cookie[0] | (uint64_t)m->id.idiag_cookie[1] << 32;
}

static struct as_endpoint endpoint(int family, const __be32 *addr, __be16 port)
{
	struct as_endpoint e = { .port = ntohs(port) };

	if (family == AF_INET)
		e.addr = as_addr_v4(ntohl(addr[0]));
	else
		memcpy(e.addr.b, addr, sizeof(e.addr.b));
	return e;
}

struct tcps {
	void (*fn)(void *arg, const struct diag_tcp *d);
	void *arg;
};

/* tcpi_fastopen_client_fail is bits 1 and 2 of the eighth byte of the kernel's struct tcp_info (libc's has
 * not got it); 3: the SYN was sent again. */
#define TCPI_FLAGS_AT	  7
#define SYN_RETRANSMITTED 3

static bool syn_data_lost(const struct nlmsghdr *nh)
{
	const struct inet_diag_msg *m = NLMSG_DATA(nh);
	unsigned len = nh->nlmsg_len - NLMSG_LENGTH(sizeof(*m));

	for (const struct rtattr *a = (const struct rtattr *)(m + 1); RTA_OK(a, len);
	     a = RTA_NEXT(a, len)) {
		if (a->rta_type == INET_DIAG_INFO && RTA_PAYLOAD(a) > TCPI_FLAGS_AT)
			return (((const uint8_t *)RTA_DATA(a))[TCPI_FLAGS_AT] >> 1 & 3) ==
			       SYN_RETRANSMITTED;
	}
	return false;
}

static void on_tcp(void *arg, const struct nlmsghdr *nh)
{
	const struct inet_diag_msg *m = NLMSG_DATA(nh);
	const struct tcps *s = arg;
	struct diag_tcp d = {
		.cookie = cookie_of(m),
		.local = endpoint(m->idiag_family, m->id.idiag_src, m->id.idiag_sport),
		.remote = endpoint(m->idiag_family, m->id.idiag_dst, m->id.idiag_dport),
		.connecting = m->idiag_state == TCP_SYN_SENT || m->idiag_state == TCP_SYN_RECV,
		.syn_data_lost = syn_data_lost(nh),
	};

	s->fn(s->arg, &d);
}

static int dump_tcp(int fd, uint32_t states, bool info,
		    void (*fn)(void *arg, const struct diag_tcp *d), void *arg)
{
	static const int families[] = { AF_INET, AF_INET6 };
	struct tcps s = { fn, arg };
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(families) && r == 0; i++) {
		struct tcp_request msg = tcp_request(families[i], NLM_F_DUMP, states);

		if (info)
			msg.req.idiag_ext = 1u << (INET_DIAG_INFO - 1);
		r = dump(fd, &msg, sizeof(msg), on_tcp, &s);
	}
	return r;
}

int diag_dump_tcp(int fd, void (*fn)(void *arg, const struct diag_tcp *d), void *arg)
{
	return dump_tcp(fd,
			1u << TCP_ESTABLISHED | 1u << TCP_CLOSE_WAIT | 1u << TCP_FIN_WAIT1 |
				1u << TCP_FIN_WAIT2,
			false, fn, arg);
}

int diag_dump_tcp_all(int fd, void (*fn)(void *arg, const struct diag_tcp *d), void *arg)
{
	return dump_tcp(fd, ~(1u << TCP_LISTEN | 1u << TCP_TIME_WAIT), true, fn, arg);
}

uint64_t diag_listener(int fd, const struct as_endpoint *at)
{
	bool v4 = as_addr_is_v4(&at->addr);
	struct tcp_request msg = tcp_request(v4 ? AF_INET : AF_INET6, 0, 1u << TCP_LISTEN);
	char buf[4096];
	const struct inet_diag_msg *m = NLMSG_DATA((struct nlmsghdr *)(void *)buf);
	int error;

	msg.req.id.idiag_sport = htons(at->port);
	memcpy(msg.req.id.idiag_src, at->addr.b + (v4 ? 12 : 0), v4 ? 4 : 16);
	if (!ask(fd, &msg, sizeof(msg), buf, sizeof(buf), &error) ||
	    m->idiag_state != TCP_LISTEN)
		return 0;
	return cookie_of(m);
}
