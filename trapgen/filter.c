#include <trapgen/filter.h>

#include <appswitch/util.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

/* Values of headers newer than Debian 12's; part of the kernel's ABI. */
#ifndef SO_INQ
#define SO_INQ 84
#endif
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#ifndef SOL_TLS
#define SOL_TLS 282
#endif
#ifndef SOL_MPTCP
#define SOL_MPTCP 284
#endif
#define IOC_SOCKET	0x8900U /* SIOC*: include/uapi/linux/sockios.h */
#define IOC_SOCKET_MASK 0xffffff00U
#define IOC_ATMARK	0x8905U

#define TRAP	SCMP_ACT_NOTIFY
#define FAIL(e) SCMP_ACT_ERRNO(e)

/* An int argument is the lower half of a 64-bit register; the kernel ignores the upper half and
 * the ABI lets it hold anything. So every comparison here is masked to 32 bits or fewer: a plain
 * EQ (or a range) would compare the garbage too and let the call slip past. */
#define BITS(n, m, v)                                                           \
	{                                                                       \
		.arg = (n), .op = SCMP_CMP_MASKED_EQ, .datum_a = (uint32_t)(m), \
		.datum_b = (uint32_t)(v)                                        \
	}
#define INT_IS(n, v)   BITS(n, 0xffffffffU, v)
#define HAS_FLAG(n, f) BITS(n, f, f)

static const struct rule {
	int nr; /* negative on an architecture without this call */
	uint32_t action;
	unsigned n_cmp; /* 0: whatever the arguments */
	struct scmp_arg_cmp cmp;
} rules[] = {
	{ SCMP_SYS(connect), TRAP },
	{ SCMP_SYS(bind), TRAP },
	{ SCMP_SYS(listen), TRAP },
	{ SCMP_SYS(accept), TRAP },
	{ SCMP_SYS(accept4), TRAP },
	{ SCMP_SYS(getsockname), TRAP },
	{ SCMP_SYS(getpeername), TRAP },
	/* on AF_UNIX it makes the peer's write fail, on TCP it does not */
	{ SCMP_SYS(shutdown), TRAP, 1, INT_IS(1, SHUT_RD) },
	/* AF_UNIX ignores the flag and gives away data of the stream */
	{ SCMP_SYS(recvfrom), TRAP, 1, HAS_FLAG(3, MSG_ERRQUEUE) },
	{ SCMP_SYS(recvmsg), TRAP, 1, HAS_FLAG(2, MSG_ERRQUEUE) },
	{ SCMP_SYS(recvmmsg), TRAP, 1, HAS_FLAG(3, MSG_ERRQUEUE) },

	/* fd bookkeeping: who has an epoll set, which sockets have copies */
	{ SCMP_SYS(epoll_create), TRAP },
	{ SCMP_SYS(epoll_create1), TRAP },
	{ SCMP_SYS(dup), TRAP },
	{ SCMP_SYS(dup2), TRAP },
	{ SCMP_SYS(dup3), TRAP },
	{ SCMP_SYS(fcntl), TRAP, 1, INT_IS(1, F_DUPFD) },
	{ SCMP_SYS(fcntl), TRAP, 1, INT_IS(1, F_DUPFD_CLOEXEC) },

	/* would do all of the above unseen */
	{ SCMP_SYS(io_uring_setup), FAIL(ENOSYS) },
	{ SCMP_SYS(io_uring_enter), FAIL(ENOSYS) },
	{ SCMP_SYS(io_uring_register), FAIL(ENOSYS) },
	/* connects without connect() */
	{ SCMP_SYS(sendto), FAIL(EOPNOTSUPP), 1, HAS_FLAG(3, MSG_FASTOPEN) },
	{ SCMP_SYS(sendmsg), FAIL(EOPNOTSUPP), 1, HAS_FLAG(2, MSG_FASTOPEN) },
	{ SCMP_SYS(sendmmsg), FAIL(EOPNOTSUPP), 1, HAS_FLAG(3, MSG_FASTOPEN) },
};

/* Both directions trap at these levels ... */
static const int trapped_levels[] = { IPPROTO_TCP, IPPROTO_IP, IPPROTO_IPV6, SOL_TLS,
				      SOL_MPTCP };

/* ... and for these options of SOL_SOCKET: those which an AF_UNIX stand-in would answer wrongly
 * or which would do something else on it. The rest is worth no trap. */
static const int trapped_options[] = {
	SO_DOMAIN,
	SO_PROTOCOL,
	SO_TYPE,
	SO_ERROR, /* where an interrupted connect() may be found done */
	SO_PEERCRED,
	SO_PEERNAME,
	SO_PEERGROUPS,
	SO_PEERSEC,
	SO_PEERPIDFD,
	SO_PASSCRED,
	SO_PASSSEC,
	SO_PASSPIDFD,
	SO_PASSRIGHTS,
	SO_REUSEPORT,
	SO_ZEROCOPY,
	SO_BINDTODEVICE,
	SO_BINDTOIFINDEX,
	SO_ATTACH_REUSEPORT_CBPF,
	SO_ATTACH_REUSEPORT_EBPF,
	SO_DETACH_REUSEPORT_BPF,
	SO_INCOMING_CPU,
	SO_INCOMING_NAPI_ID,
	SO_MARK,
	SO_COOKIE,
	SO_NETNS_COOKIE,
	SO_ATTACH_FILTER, /* = SO_GET_FILTER */
	SO_DETACH_FILTER, /* = SO_DETACH_BPF */
	SO_INQ,
};

/* AF_ALG is the kernel's crypto, no network. Everything else is either not bound to network
 * namespaces (AF_VSOCK) or a way around TCP and UDP. */
static const uint32_t allowed_families[] = { AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_ALG };

static const uint32_t untrapped_ioctls[] = { IOC_ATMARK };

/* @action for the values of int argument @arg whose bits under @mask are @val, except @except.
 *
 * libseccomp has no "not in this set": a rule may use an argument once, rules of one syscall are
 * joined by OR, a rule with the default action is refused, and overlapping rules with different
 * actions have no defined order. So the set is cut into disjoint blocks that avoid the
 * exceptions, each one masked comparison: follow the bits down from the top (@mask is a prefix)
 * and stop wherever a block contains no exception. At most 32 rules per exception. */
static int add_all_but(scmp_filter_ctx ctx, uint32_t action, int nr, unsigned arg,
		       uint32_t mask, uint32_t val, const uint32_t *except, size_t n_except)
{
	struct scmp_arg_cmp cmp = BITS(arg, mask, val);
	bool clear = true;
	uint32_t bit;
	int r;

	for (size_t i = 0; i < n_except; i++)
		clear = clear && (except[i] & mask) != val;
	if (clear)
		return seccomp_rule_add_array(ctx, action, nr, 1, &cmp);
	if (mask == 0xffffffffU)
		return 0; /* an exception itself */
	bit = 0x80000000U >> __builtin_popcount(mask);
	r = add_all_but(ctx, action, nr, arg, mask | bit, val, except, n_except);
	if (r < 0)
		return r;
	return add_all_but(ctx, action, nr, arg, mask | bit, val | bit, except, n_except);
}

static int add_sockopt_rules(scmp_filter_ctx ctx, int nr)
{
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(trapped_levels) && r == 0; i++) {
		struct scmp_arg_cmp level = INT_IS(1, trapped_levels[i]);

		r = seccomp_rule_add_array(ctx, TRAP, nr, 1, &level);
	}
	for (size_t i = 0; i < ARRAY_SIZE(trapped_options) && r == 0; i++) {
		struct scmp_arg_cmp both[] = { INT_IS(1, SOL_SOCKET),
					       INT_IS(2, trapped_options[i]) };

		r = seccomp_rule_add_array(ctx, TRAP, nr, ARRAY_SIZE(both), both);
	}
	return r;
}

static int add_rules(scmp_filter_ctx ctx)
{
	/* socket(AF_INET, SOCK_PACKET) is an old spelling of AF_PACKET */
	const struct scmp_arg_cmp old_packet[] = { INT_IS(0, AF_INET),
						   BITS(1, 0xf, SOCK_PACKET) };
	int r = seccomp_rule_add_array(ctx, FAIL(EAFNOSUPPORT), SCMP_SYS(socket),
				       ARRAY_SIZE(old_packet), old_packet);

	for (size_t i = 0; i < ARRAY_SIZE(rules) && r == 0; i++) {
		if (rules[i].nr >= 0)
			r = seccomp_rule_add_array(ctx, rules[i].action, rules[i].nr,
						   rules[i].n_cmp, &rules[i].cmp);
	}
	if (r == 0)
		r = add_sockopt_rules(ctx, SCMP_SYS(getsockopt));
	if (r == 0)
		r = add_sockopt_rules(ctx, SCMP_SYS(setsockopt));
	if (r == 0)
		r = add_all_but(ctx, TRAP, SCMP_SYS(ioctl), 1, IOC_SOCKET_MASK, IOC_SOCKET,
				untrapped_ioctls, ARRAY_SIZE(untrapped_ioctls));
	if (r == 0)
		r = add_all_but(ctx, FAIL(EAFNOSUPPORT), SCMP_SYS(socket), 0, 0, 0,
				allowed_families, ARRAY_SIZE(allowed_families));
	return r;
}

int trapgen_filter_build(scmp_filter_ctx *ret_ctx)
{
	static const struct {
		enum scmp_filter_attr attr;
		uint32_t value;
	} attrs[] = {
		/* su and sudo must keep working in the app; CAP_SYS_ADMIN is there instead */
		{ SCMP_FLTATR_CTL_NNP, 0 },
		/* no slowing of the whole app by the Spectre 4 mitigation */
		{ SCMP_FLTATR_CTL_SSB, 1 },
		/* a binary tree over syscall numbers instead of a list */
		{ SCMP_FLTATR_CTL_OPTIMIZE, 2 },
		/* i386 and x32: numbers mean something else there, and nobody translates them */
		{ SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS) },
	};
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	int r = ctx == NULL ? -ENOMEM : 0;

	for (size_t i = 0; i < ARRAY_SIZE(attrs) && r == 0; i++)
		r = seccomp_attr_set(ctx, attrs[i].attr, attrs[i].value);
	if (r == 0)
		r = add_rules(ctx);
	if (r < 0) {
		seccomp_release(ctx);
		return r;
	}
	*ret_ctx = ctx;
	return 0;
}

int trapgen_filter_load(scmp_filter_ctx ctx, int *ret_listener)
{
	int r;

	errno = 0;
	r = seccomp_load(ctx);
	if (r < 0) /* it has its own few codes, even for EBUSY; the kernel's is in errno */
		return errno > 0 ? -errno : r;
	r = seccomp_notify_fd(ctx);
	if (r < 0)
		return r;
	*ret_listener = r;
	return 0;
}
