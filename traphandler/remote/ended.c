/* The ends of TCP sockets of the host's namespace: sock_diag(7)'s groups of destroyed sockets tell the
 * SO_COOKIE of each, when nothing of it is left to be asked. So its record can go. */
#include "traphandler/remote/thread.h"

#include "traphandler/service/sockrec.h"

#include <appswitch/util.h>

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <string.h>
#include <sys/socket.h>

#define SETTLED_S	  2u
#define SYN_RETRANSMITTED 3u /* tcp_info.tcpi_fastopen_client_fail */

int ended_open(void)
{
	struct sockaddr_nl sa = {
		.nl_family = AF_NETLINK,
		.nl_groups = 1u << (SKNLGRP_INET_TCP_DESTROY - 1) |
			     1u << (SKNLGRP_INET6_TCP_DESTROY - 1),
	};
	_cleanup_close_ int fd =
		socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
	static const int room = 1 << 20;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	return fd_steal(&fd);
}

static bool syn_data_was_lost(const struct nlmsghdr *nh)
{
	const struct inet_diag_msg *m = NLMSG_DATA(nh);
	unsigned len = nh->nlmsg_len - NLMSG_LENGTH(sizeof(*m));
	struct tcp_info info = { 0 };

	for (const struct rtattr *a = (const struct rtattr *)(m + 1); RTA_OK(a, len);
	     a = RTA_NEXT(a, len)) {
		if (a->rta_type != INET_DIAG_INFO)
			continue;
		memcpy(&info, RTA_DATA(a),
		       RTA_PAYLOAD(a) < sizeof(info) ? RTA_PAYLOAD(a) : sizeof(info));
	}
	return info.tcpi_fastopen_client_fail == SYN_RETRANSMITTED;
}

static void on_ended(struct remote *r, const struct nlmsghdr *nh)
{
	const struct inet_diag_msg *m = NLMSG_DATA(nh);
	struct st_remote rec;
	uint64_t cookie;

	if (nh->nlmsg_type != SOCK_DIAG_BY_FAMILY || nh->nlmsg_len < NLMSG_LENGTH(sizeof(*m)))
		return;
	cookie = (uint64_t)m->id.idiag_cookie[0] | (uint64_t)m->id.idiag_cookie[1] << 32;
	if (!sockrec_get_remote(r->sw->socks, cookie, &rec))
		return;
	if (!rec.server && syn_data_was_lost(nh))
		dial_note_end(r, rec.node);
	sockrec_forget(r->sw->socks, cookie);
}

void ended_read(struct remote *r)
{
	char buf[16384];

	for (int i = 0; i < 64; i++) {
		ssize_t n = recv(r->ended_fd, buf, sizeof(buf), MSG_DONTWAIT);
		const struct nlmsghdr *nh = (const struct nlmsghdr *)(const void *)buf;

		if (n < 0 && errno == ENOBUFS)
			r->resync = true; /* some were lost */
		if (n <= 0)
			return;
		for (int left = (int)n; NLMSG_OK(nh, left); nh = NLMSG_NEXT(nh, left))
			on_ended(r, nh);
	}
}

/* ---- what ended while nobody listened ---- */

struct cookies {
	uint64_t *v;
	size_t n, cap;
	bool failed;
};

static void add(struct cookies *c, uint64_t cookie)
{
	if (c->n == c->cap) {
		size_t cap = c->cap ? c->cap * 2 : 256;
		uint64_t *v = realloc(c->v, cap * sizeof(*v));

		if (v == NULL) {
			c->failed = true;
			return;
		}
		c->v = v;
		c->cap = cap;
	}
	c->v[c->n++] = cookie;
}

static void on_record(void *arg, const struct st_sock *rec)
{
	/* one that is being connected may not be in the dump yet */
	if (sockrec_now() - rec->since > SETTLED_S)
		add(arg, rec->cookie);
}

static void on_open(void *arg, const struct diag_tcp *d)
{
	add(arg, d->cookie);
}

static int cmp_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

void ended_resync(struct remote *r)
{
	struct cookies recorded = { 0 }, open = { 0 };

	r->resync = false;
	/* first the records: one made after this is of a socket that may not be in the dump */
	sockrec_each_remote(r->sw->socks, on_record, &recorded);
	if (recorded.n > 0 && diag_dump_tcp_all(r->diag_fd, on_open, &open) == 0 &&
	    !open.failed) {
		if (open.n > 1)
			qsort(open.v, open.n, sizeof(*open.v), cmp_u64);
		for (size_t i = 0; i < recorded.n; i++) {
			if (open.n == 0 || bsearch(&recorded.v[i], open.v, open.n,
						   sizeof(*open.v), cmp_u64) == NULL)
				sockrec_forget(r->sw->socks, recorded.v[i]);
		}
	}
	free(recorded.v);
	free(open.v);
}
