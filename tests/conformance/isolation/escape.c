/* escape [SUBSTRING] - tries to get out of an app's network namespace, in every way we know.
 *
 * Prints one line per attack, "escape/NAME: VERDICT":
 *   refused ERRNO   the attempt itself failed
 *   inside          it worked and led nowhere but into the app's own namespace
 *   skipped WHY     cannot be tried here (or, as root, is no boundary)
 *   ESCAPED WHAT    it led out
 * isolation.sh runs it beside a canary on the host: a TCP listener on 127.0.0.1:$CANARY_PORT and an
 * abstract UNIX one named $CANARY_NAME that send "C" to whoever comes. Run natively beside the
 * canary it must report escapes, which proves that the attacks are real. $GIFT_FD is a UNIX socket
 * to isolation.py, which sends sockets of the host. */
#include "../lib/conf.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <linux/userfaultfd.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SIOCGSKNS
#define SIOCGSKNS 0x894C
#endif
#define X_SO_PEERPIDFD 77

static int canary_port;
static const char *canary_name;
static int gift_fd = -1;

static void refused(const char *step)
{
	conf_say(step, "refused %s", conf_errno(errno));
}

static void inside(const char *step)
{
	conf_say(step, "inside");
}

static void skipped(const char *step, const char *why)
{
	conf_say(step, "skipped %s", why);
}

static void escaped(const char *step, const char *what)
{
	conf_say(step, "ESCAPED %s", what);
}

static socklen_t canary_addr(union conf_addr *a)
{
	return conf_addr_of(a, AF_INET, "127.0.0.1", canary_port);
}

/* Is the other end of @fd the canary? It speaks first. */
static bool is_canary(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char c = 0;

	return poll(&p, 1, 1000) == 1 && recv(fd, &c, 1, MSG_DONTWAIT) == 1 && c == 'C';
}

/* The verdict on an attempt to reach the canary that returned @r, with errno if negative. */
static void verdict(const char *step, int fd, long r)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	int err = r < 0 ? errno : 0;

	if (r < 0 && err != EINPROGRESS) {
		conf_say(step, "refused %s", conf_errno(err));
		return;
	}
	poll(&p, 1, 1000);
	err = conf_so_error(fd);
	if (err > 0)
		conf_say(step, "refused %s", conf_errno(err));
	else if (is_canary(fd))
		escaped(step, "reached the canary");
	else
		inside(step);
}

/* --- plain --- */

static void plain(void)
{
	union conf_addr a;
	socklen_t len = canary_addr(&a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	verdict("connect", fd, connect(fd, &a.sa, len));
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	verdict("nonblock", fd, connect(fd, &a.sa, len));
	len = conf_addr_of(&a, AF_INET, "0.0.0.0", canary_port);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	verdict("any", fd, connect(fd, &a.sa, len));
	len = conf_addr_of(&a, AF_INET6, "::ffff:127.0.0.1", canary_port);
	fd = socket(AF_INET6, SOCK_STREAM, 0);
	verdict("mapped", fd, connect(fd, &a.sa, len));
	len = conf_addr_of(&a, AF_INET6, "::1", canary_port);
	fd = socket(AF_INET6, SOCK_STREAM, 0);
	verdict("v6", fd, connect(fd, &a.sa, len));
	len = conf_addr_of(&a, AF_INET, "127.0.0.99", canary_port);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	verdict("loopback-net", fd, connect(fd, &a.sa, len));
}

/* --- io_uring --- */

static void uring(void)
{
	struct io_uring_params p = { 0 };
	int r = (int)syscall(SYS_io_uring_setup, 4, &p);
	union conf_addr a;
	socklen_t len = canary_addr(&a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct io_uring_sqe *sqe;
	char *sq;

	if (r < 0) {
		refused("setup");
		r = (int)syscall(SYS_io_uring_enter, 0, 0, 0, 0, NULL, 0);
		if (r < 0)
			refused("enter");
		else
			escaped("enter", "works");
		return;
	}
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * sizeof(__u32), PROT_READ | PROT_WRITE,
		  MAP_SHARED, r, IORING_OFF_SQ_RING);
	sqe = mmap(NULL, p.sq_entries * sizeof(*sqe), PROT_READ | PROT_WRITE, MAP_SHARED, r,
		   IORING_OFF_SQES);
	CONF_NEED(sq != MAP_FAILED && sqe != MAP_FAILED);
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_CONNECT;
	sqe->fd = fd;
	sqe->addr = (uintptr_t)&a;
	sqe->off = len;
	((__u32 *)(sq + p.sq_off.array))[0] = 0;
	__atomic_store_n((__u32 *)(sq + p.sq_off.tail), 1, __ATOMIC_RELEASE);
	syscall(SYS_io_uring_enter, r, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0);
	verdict("connect", fd, 0);
}

/* --- connecting without connect() --- */

static void fastopen(void)
{
	union conf_addr a;
	socklen_t len = canary_addr(&a);
	struct iovec iov = { .iov_base = "x", .iov_len = 1 };
	struct mmsghdr mm = { .msg_hdr = { .msg_name = &a,
					   .msg_namelen = len,
					   .msg_iov = &iov,
					   .msg_iovlen = 1 } };
	static const struct {
		const char *step[3];
		int flags;
	} t[] = {
		{ { "sendto", "sendmsg", "sendmmsg" }, MSG_FASTOPEN | MSG_NOSIGNAL },
		{ { "sendto-more", "sendmsg-more", "sendmmsg-more" },
		  MSG_FASTOPEN | MSG_NOSIGNAL | MSG_MORE | MSG_DONTWAIT },
		{ { "sendto-high", "sendmsg-high", "sendmmsg-high" },
		  MSG_FASTOPEN | MSG_NOSIGNAL | MSG_ZEROCOPY },
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		verdict(t[i].step[0], fd, sendto(fd, "x", 1, t[i].flags, &a.sa, len));
		fd = socket(AF_INET, SOCK_STREAM, 0);
		verdict(t[i].step[1], fd, sendmsg(fd, &mm.msg_hdr, t[i].flags));
		fd = socket(AF_INET, SOCK_STREAM, 0);
		verdict(t[i].step[2], fd, sendmmsg(fd, &mm, 1, (unsigned)t[i].flags));
	}
	/* upper bits of the register that the kernel ignores but a filter may compare */
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	verdict("sendto-64", fd,
		syscall(SYS_sendto, fd, "x", 1UL, 0xffffffff00000000UL | MSG_FASTOPEN, &a.sa,
			len));
	fd = socket(AF_INET, SOCK_STREAM, 0);
	verdict("sendmsg-64", fd,
		syscall(SYS_sendmsg, fd, &mm.msg_hdr, 0x100000000UL | MSG_FASTOPEN));
	fd = socket(AF_INET, SOCK_STREAM, 0);
	verdict("sendmmsg-64", fd,
		syscall(SYS_sendmmsg, fd, &mm, 1UL, 0x100000000UL | MSG_FASTOPEN));
	fd = socket(AF_INET6, SOCK_STREAM, 0);
	len = conf_addr_of(&a, AF_INET6, "::ffff:127.0.0.1", canary_port);
	verdict("sendto-mapped", fd, sendto(fd, "x", 1, MSG_FASTOPEN, &a.sa, len));
}

static void fastopen_connect(void)
{
	union conf_addr a;
	socklen_t len = canary_addr(&a);
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	if (setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof(one)) < 0)
		refused("set");
	else
		inside("set");
	if (connect(fd, &a.sa, len) < 0) {
		refused("connect");
		return;
	}
	verdict("send", fd, send(fd, "x", 1, MSG_NOSIGNAL));
}

/* --- other families and protocols --- */

static void try_family(const char *step, int family, int type, int protocol)
{
	int fd = socket(family, type, protocol);

	if (fd < 0)
		refused(step);
	else
		escaped(step, "the filter lets it through");
	close(fd);
}

static void families(void)
{
	try_family("vsock", AF_VSOCK, SOCK_STREAM, 0);
	try_family("vsock-dgram", AF_VSOCK, SOCK_DGRAM, 0);
	try_family("packet-raw", AF_PACKET, SOCK_RAW, 0x0300);
	try_family("packet-dgram", AF_PACKET, SOCK_DGRAM, 0x0300);
	try_family("packet-obsolete", AF_INET, SOCK_PACKET, 0x0300);
	try_family("xdp", 44, SOCK_RAW, 0);
	try_family("smc", 43, SOCK_STREAM, 0);
	try_family("tipc", 30, SOCK_STREAM, 0);
	try_family("rds", 21, SOCK_SEQPACKET, 0);
	try_family("kcm", 41, SOCK_SEQPACKET, 0);
	try_family("qipcrtr", 42, SOCK_DGRAM, 0);
	try_family("bluetooth", 31, SOCK_STREAM, 3);
	try_family("can", 29, SOCK_RAW, 1);
	try_family("key", 15, SOCK_RAW, 2);
	try_family("alg", 38, SOCK_SEQPACKET, 0);
	try_family("nfc", 39, SOCK_SEQPACKET, 0);
	try_family("vsock-64", (int)(0x100000000UL | AF_VSOCK), SOCK_STREAM, 0);
	int fd = (int)syscall(SYS_socket, 0x700000000UL | AF_VSOCK, SOCK_STREAM, 0);

	if (fd < 0)
		refused("vsock-high-bits");
	else
		escaped("vsock-high-bits", "the filter lets it through");
	int sv[2];

	if (socketpair(AF_VSOCK, SOCK_STREAM, 0, sv) < 0)
		refused("vsock-pair");
	else
		escaped("vsock-pair", "the filter lets it through");
}

static void protocols(void)
{
	static const struct {
		const char *step;
		int type, protocol;
	} t[] = {
		{ "mptcp", SOCK_STREAM, 262 },	     { "sctp", SOCK_STREAM, 132 },
		{ "sctp-seq", SOCK_SEQPACKET, 132 }, { "dccp", 6, 33 },
		{ "udp", SOCK_DGRAM, 17 },	     { "udplite", SOCK_DGRAM, 136 },
		{ "smc", SOCK_STREAM, 256 },
	};
	union conf_addr a;
	socklen_t len = canary_addr(&a);

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		int fd = socket(AF_INET, t[i].type | SOCK_NONBLOCK, t[i].protocol);

		if (fd < 0)
			refused(t[i].step);
		else
			verdict(t[i].step, fd, connect(fd, &a.sa, len));
	}
}

static void raw(void)
{
	unsigned char syn[20] = { 0x30,
				  0x39,
				  (unsigned char)(canary_port >> 8),
				  (unsigned char)canary_port,
				  [12] = 0x50,
				  [13] = 2 };
	union conf_addr a;
	socklen_t len = conf_addr_of(&a, AF_INET, "127.0.0.1", 0);
	int fd = socket(AF_INET, SOCK_RAW, IPPROTO_TCP);

	if (fd < 0) {
		refused("tcp");
	} else if (sendto(fd, syn, sizeof(syn), 0, &a.sa, len) < 0) {
		refused("tcp");
	} else {
		inside("tcp"); /* whether it got out is what the canary's namespace says */
	}
	fd = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
	if (fd < 0)
		refused("raw");
	else
		inside("raw");
	fd = socket(AF_INET6, SOCK_RAW, IPPROTO_TCP);
	if (fd < 0)
		refused("tcp6");
	else
		inside("tcp6");
}

/* --- other entries into the kernel --- */

static long int80(long nr, long a, long b, long c)
{
	long r;

	__asm__ volatile("int $0x80"
			 : "=a"(r)
			 : "a"(nr), "b"(a), "c"(b), "d"(c)
			 : "memory", "r8", "r9", "r10", "r11");
	return (int)r;
}

static void i386(void)
{
	struct low {
		union conf_addr a;
		__u32 args[3];
	} *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	socklen_t len;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	long r;

	CONF_NEED(low != MAP_FAILED);
	len = canary_addr(&low->a);
	low->args[0] = (__u32)fd;
	low->args[1] = (__u32)(uintptr_t)&low->a;
	low->args[2] = len;
	r = int80(102, 3, (long)(uintptr_t)low->args, 0); /* socketcall(SYS_CONNECT) */
	errno = r < 0 ? (int)-r : 0;
	verdict("socketcall-connect", fd, r < 0 ? -1 : 0);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	r = int80(362, fd, (long)(uintptr_t)&low->a, (long)len); /* connect */
	errno = r < 0 ? (int)-r : 0;
	verdict("connect", fd, r < 0 ? -1 : 0);
	low->args[0] = AF_VSOCK;
	low->args[1] = SOCK_STREAM;
	low->args[2] = 0;
	r = int80(102, 1, (long)(uintptr_t)low->args, 0);
	errno = r < 0 ? (int)-r : 0;
	if (r < 0)
		refused("socketcall-vsock");
	else
		escaped("socketcall-vsock", "the filter lets it through");
	r = int80(425, 4, (long)(uintptr_t)low, 0); /* io_uring_setup */
	errno = r < 0 ? (int)-r : 0;
	if (r < 0 && errno != EINVAL) /* EINVAL is io_uring itself speaking */
		refused("io-uring");
	else
		escaped("io-uring", "the filter lets it through");
	r = int80(20, 0, 0, 0); /* getpid */
	errno = r < 0 ? (int)-r : 0;
	if (r < 0)
		refused("getpid");
	else
		escaped("getpid", "i386 calls are not filtered");
}

static void x32(void)
{
	static const struct {
		const char *step;
		long nr;
	} t[] = {
		{ "connect", 0x40000000 | SYS_connect },
		{ "connect-64", (1L << 32) | SYS_connect },
	};
	union conf_addr a;
	socklen_t len = canary_addr(&a);

	for (size_t i = 0; i < 2; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		long r = syscall(t[i].nr, fd, &a, len);

		if (i == 1 && r == 0)
			verdict(t[i].step, fd, r);
		else
			verdict(t[i].step, fd, r);
	}
	if (syscall(0x40000000 | SYS_socket, AF_VSOCK, SOCK_STREAM, 0) < 0)
		refused("vsock");
	else
		escaped("vsock", "the filter lets it through");
	if (syscall(0x40000000 | 543, 4, NULL, 0, 0) < 0) /* sendmsg has a number of its own */
		refused("sendmsg");
	else
		escaped("sendmsg", "x32 calls are not filtered");
	if (syscall(0x40000000 | SYS_getpid) < 0)
		refused("getpid");
	else
		escaped("getpid", "x32 calls are not filtered");
}

/* --- a sockaddr that changes while it is read --- */

#define ROUNDS 3000

static union conf_addr racing;
static volatile bool race_over;

struct race {
	union conf_addr v[4];
	int n;
};

static void *racer(void *arg)
{
	const struct race *r = arg;

	for (unsigned i = 0; !race_over; i++) {
		const union conf_addr *a = &r->v[i % (unsigned)r->n];

		/* field by field, so that mixtures are seen as well */
		racing.in.sin_port = a->in.sin_port;
		racing.in.sin_addr = a->in.sin_addr;
		racing.sa.sa_family = a->sa.sa_family;
	}
	return NULL;
}

static void serve(int l, char byte)
{
	for (;;) {
		int fd = accept(l, NULL, NULL);

		if (fd < 0)
			continue;
		(void)!send(fd, &byte, 1, MSG_NOSIGNAL);
		close(fd);
	}
}

static void rewrite(void)
{
	struct race r = { .n = 4 };
	int l[2], won[2] = { 0, 0 }, failed = 0;
	/* a connect that the kernel itself does inside may wait for an answer that never comes */
	struct itimerval it = { .it_value.tv_usec = 50000, .it_interval.tv_usec = 50000 };
	time_t end = time(NULL) + 4;
	pthread_t t;

	for (int i = 0; i < 2; i++) {
		l[i] = conf_listener(CONF_VIP, &r.v[i]);
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			serve(l[i], (char)('0' + i));
		}
	}
	canary_addr(&r.v[2]);
	r.v[3] = r.v[0];
	r.v[3].sa.sa_family = AF_UNIX;
	racing = r.v[0];
	CONF_NEED(pthread_create(&t, NULL, racer, &r) == 0);
	conf_alarm_handler(false);
	CONF_NEED(setitimer(ITIMER_REAL, &it, NULL) == 0);
	for (int i = 0; i < ROUNDS && time(NULL) < end; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0), who;
		union conf_addr peer = { 0 };
		socklen_t len = sizeof(peer);
		struct pollfd p = { .fd = fd, .events = POLLIN };
		char c = 0;

		if (connect(fd, &racing.sa, sizeof(racing.in)) < 0) {
			failed++;
			close(fd);
			continue;
		}
		while (getpeername(fd, &peer.sa, &len) < 0)
			CONF_NEED(errno == EINTR);
		while (poll(&p, 1, 2000) < 0 && errno == EINTR)
			;
		CONF_NEED(recv(fd, &c, 1, MSG_DONTWAIT) == 1);
		if (c == 'C') {
			escaped("", "reached the canary");
			return;
		}
		who = c - '0';
		if (who < 0 || who > 1 || peer.in.sin_port != r.v[who].in.sin_port) {
			escaped("", "connected to one and told another");
			return;
		}
		won[who]++;
		close(fd);
	}
	race_over = true;
	pthread_join(t, NULL);
	if (won[0] && won[1] && failed)
		inside("");
	else
		conf_say("", "one-sided: %d %d %d", won[0], won[1], failed);
}

/* --- fds of the host --- */

static bool gift(const char *what)
{
	return gift_fd >= 0 && send(gift_fd, what, strlen(what), 0) > 0;
}

/* A socket of the host that the app was given by someone outside: what the kernel does with it is
 * the giver's decision, but the switch must not turn it into anything, nor answer for it. */
static void gift_unconnected(void)
{
	union conf_addr a, b;
	socklen_t len = canary_addr(&a);
	int fd, l, peer;

	if (!gift("fresh")) {
		skipped("", "no giver");
		return;
	}
	fd = conf_recv_fd(gift_fd);
	CONF_NEED(fd >= 0);
	/* the app's own service at the VIP must not be what a host socket connects to */
	l = conf_listener(CONF_VIP, &b);
	conf_nonblock(fd, true);
	if (connect(fd, &b.sa, sizeof(b.in)) == 0 || errno == EINPROGRESS) {
		conf_poll_until(fd, POLLOUT);
		conf_nonblock(l, true);
		peer = accept(l, NULL, NULL);
		if (peer >= 0)
			escaped("connect-vip", "a host socket became a client of the VIP");
		else
			inside("connect-vip");
	} else {
		refused("connect-vip");
	}
	if (!gift("fresh")) /* its connect is the kernel's: tried on the giver's own listener */
		return;
	fd = conf_recv_fd(gift_fd);
	len = conf_addr_of(&a, AF_INET, CONF_VIP4, 0);
	if (bind(fd, &a.sa, len) < 0)
		refused("bind-vip");
	else
		escaped("bind-vip", "a host socket has the VIP");
	len = conf_addr_of(&a, AF_INET, "127.0.0.1", 0);
	if (bind(fd, &a.sa, len) < 0 || listen(fd, 5) < 0) {
		refused("listen");
		return;
	}
	CONF_NEED(getsockname(fd, &a.sa, &len) == 0);
	l = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (connect(l, &a.sa, len) == 0)
		escaped("listen", "a host listener became a service of the VIP");
	else if (errno == EINPROGRESS && (conf_poll_until(l, POLLOUT), conf_so_error(l) == 0))
		escaped("listen", "a host listener became a service of the VIP");
	else
		inside("listen");
}

static uint64_t ns_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_ino : 0;
}

static void say_skns(const char *step, int fd)
{
	int ns = ioctl(fd, SIOCGSKNS);
	struct stat st;

	if (ns < 0) {
		refused(step);
		return;
	}
	if (fstat(ns, &st) == 0 && st.st_ino == ns_of("/proc/self/ns/net"))
		inside(step);
	else
		escaped(step, "an fd of another network namespace");
	close(ns);
}

static void gift_skns(void)
{
	if (!gift("fresh")) {
		skipped("", "no giver");
		return;
	}
	say_skns("", conf_recv_fd(gift_fd));
}

/* A connected host socket stays what it is. */
static void gift_connected(void)
{
	int fd;
	char c = 0;

	if (!gift("connected")) {
		skipped("", "no giver");
		return;
	}
	fd = conf_recv_fd(gift_fd);
	CONF_NEED(fd >= 0);
	CONF_NEED(send(fd, "p", 1, MSG_NOSIGNAL) == 1);
	conf_poll_until(fd, POLLIN);
	if (recv(fd, &c, 1, MSG_DONTWAIT) == 1 && c == 'p')
		inside(""); /* the giver's echo */
	else
		conf_say("", "broken");
}

/* --- UNIX names --- */

static socklen_t abstract(struct sockaddr_un *un, const char *name)
{
	memset(un, 0, sizeof(*un));
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path + 1, name, strlen(name));
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
}

static void abstract_names(void)
{
	struct sockaddr_un un;
	socklen_t len = abstract(&un, canary_name);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	verdict("stream", fd, connect(fd, (struct sockaddr *)&un, len));
	fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	verdict("seqpacket", fd, connect(fd, (struct sockaddr *)&un, len));
	fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	verdict("dgram", fd, connect(fd, (struct sockaddr *)&un, len));
}

/* Every UNIX socket that /proc and sock_diag show belongs to the app's own namespace; no stand-in
 * is among them, so none can be connected to by name. */
static void unix_names(void)
{
	struct {
		struct nlmsghdr h;
		struct unix_diag_req r;
	} req = { .h = { .nlmsg_len = sizeof(req),
			 .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		  .r = { .sdiag_family = AF_UNIX,
			 .udiag_states = ~0U,
			 .udiag_show = UDIAG_SHOW_NAME } };
	int nl = socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG), c, s, l;
	char line[512], buf[16384];
	bool found = false, named = false;
	ssize_t n;
	FILE *f;

	conf_pair(&c, &s, &l);
	f = fopen("/proc/net/unix", "r");
	CONF_NEED(f);
	while (fgets(line, sizeof(line), f))
		if (strchr(line, '@'))
			found = true;
	fclose(f);
	if (found)
		escaped("proc", "abstract names that are not ours");
	else
		inside("proc");
	if (nl < 0 || send(nl, &req, sizeof(req), 0) < 0) {
		refused("diag");
		return;
	}
	for (bool done = false; !done;) {
		n = recv(nl, buf, sizeof(buf), 0);
		if (n <= 0)
			break;
		for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, (unsigned)n);
		     h = NLMSG_NEXT(h, n)) {
			if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR) {
				done = true;
				break;
			}
			if (h->nlmsg_len > NLMSG_LENGTH(sizeof(struct unix_diag_msg)) + 5)
				named = true;
		}
	}
	if (named)
		escaped("diag", "names that are not ours");
	else
		inside("diag");
}

/* --- handed-over sockets: underneath they are something else, somewhere else --- */

struct handed {
	const char *name;
	int fd;
};

#define HANDED 7

static void handed_over(struct handed *h)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), c = conf_client(&a), s = conf_accept(l);
	int rc = conf_client(&a), rs = conf_accept(l), cc = conf_client(&a),
	    cs = conf_accept(l);

	/* reset: closed with unread data */
	CONF_NEED(send(rc, "x", 1, 0) == 1);
	conf_poll_until(rs, POLLIN);
	close(rs);
	conf_poll_until(rc, POLLHUP);
	close(cs);
	conf_poll_until(cc, POLLRDHUP);
	h[0] = (struct handed){ "fresh", conf_tcp(0) };
	h[1] = (struct handed){ "bound", conf_bound(CONF_VIP, NULL) };
	h[2] = (struct handed){ "listener", l };
	h[3] = (struct handed){ "client", c };
	h[4] = (struct handed){ "accepted", s };
	h[5] = (struct handed){ "reset", rc };
	h[6] = (struct handed){ "peer-closed", cc };
}

static void skns(void)
{
	struct handed h[HANDED];

	handed_over(h);
	for (int i = 0; i < HANDED; i++)
		say_skns(h[i].name, h[i].fd);
}

static void netns_cookie(void)
{
	struct handed h[HANDED];
	uint64_t mine = 0, v;
	socklen_t len = sizeof(mine);
	int u = socket(AF_INET, SOCK_DGRAM, 0);

	handed_over(h);
	CONF_NEED(getsockopt(u, SOL_SOCKET, SO_NETNS_COOKIE, &mine, &len) == 0);
	for (int i = 0; i < HANDED; i++) {
		len = sizeof(v);
		if (getsockopt(h[i].fd, SOL_SOCKET, SO_NETNS_COOKIE, &v, &len) < 0)
			refused(h[i].name);
		else if (v == mine)
			inside(h[i].name);
		else
			escaped(h[i].name, "the cookie of another namespace");
	}
}

/* What an interface ioctl says on a UDP socket of ours is what it must say on all of them. */
static void interfaces(void)
{
	static const struct {
		const char *name;
		unsigned long nr;
	} ctl[] = {
		{ "flags", SIOCGIFFLAGS },     { "mtu", SIOCGIFMTU },
		{ "index", SIOCGIFINDEX },     { "hwaddr", SIOCGIFHWADDR },
		{ "addr", SIOCGIFADDR },       { "txqlen", SIOCGIFTXQLEN },
		{ "private", SIOCDEVPRIVATE }, { "name", SIOCGIFNAME },
	};
	static const char *const dev[] = { "lo", "eth0", "app0", "ifb0", "docker0", "" };
	struct handed h[HANDED];
	int u = socket(AF_INET, SOCK_DGRAM, 0);

	handed_over(h);
	for (int i = 0; i < HANDED; i++) {
		const char *wrong = NULL;
		struct ifconf mine = { .ifc_len = 0 }, theirs = { .ifc_len = 0 };
		int r, t;

		for (size_t k = 0; k < sizeof(ctl) / sizeof(ctl[0]); k++)
			for (size_t d = 0; d < sizeof(dev) / sizeof(dev[0]); d++) {
				/* compared as bytes: the kernel fills a part of it */
				struct ifreq x = { 0 }, y;
				const char *p = (char *)&x, *q = (char *)&y;

				snprintf(x.ifr_name, sizeof(x.ifr_name), "%s", dev[d]);
				if (ctl[k].nr == SIOCGIFNAME)
					x.ifr_ifindex = (int)d + 1;
				y = x;
				r = ioctl(u, ctl[k].nr, &x);
				t = ioctl(h[i].fd, ctl[k].nr, &y);
				if (t >= 0 && (r < 0 || memcmp(p, q, sizeof(x)) != 0))
					wrong = ctl[k].name;
			}
		r = ioctl(u, SIOCGIFCONF, &mine);
		t = ioctl(h[i].fd, SIOCGIFCONF, &theirs);
		if (t >= 0 && (r < 0 || mine.ifc_len != theirs.ifc_len))
			wrong = "ifconf";
		if (wrong)
			conf_say(h[i].name, "ESCAPED %s of another namespace", wrong);
		else
			inside(h[i].name);
	}
}

/* A stand-in taken for what it is: UNIX addresses on it would be names of the daemon's namespace. */
static void as_unix(void)
{
	struct handed h[HANDED];
	struct sockaddr_un un;
	socklen_t len = abstract(&un, canary_name);
	struct iovec iov = { .iov_base = "x", .iov_len = 1 };
	struct msghdr m = {
		.msg_name = &un, .msg_namelen = len, .msg_iov = &iov, .msg_iovlen = 1
	};
	char step[64];

#define TRY_ELSE(what, expr, bad)                                    \
	do {                                                         \
		snprintf(step, sizeof(step), "%s-" what, h[i].name); \
		if ((expr) < 0)                                      \
			refused(step);                               \
		else if (bad)                                        \
			escaped(step, "taken for a UNIX socket");    \
		else                                                 \
			inside(step);                                \
	} while (0)
#define TRY(what, expr)	 TRY_ELSE(what, expr, true)
#define SEND(what, expr) TRY_ELSE(what, expr, false)
	handed_over(h);
	for (int i = 0; i < HANDED; i++) {
		TRY("connect", connect(h[i].fd, (struct sockaddr *)&un, len));
		TRY("bind", bind(h[i].fd, (struct sockaddr *)&un, len));
		TRY("autobind", bind(h[i].fd, (struct sockaddr *)&un, 2));
		/* TCP ignores the address of a connected socket: then it went to the peer */
		SEND("sendto", sendto(h[i].fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT,
				      (struct sockaddr *)&un, len));
		SEND("sendmsg", sendmsg(h[i].fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT));
	}
#undef TRY
#undef SEND
#undef TRY_ELSE
}

static void reconnect(void)
{
	struct handed h[HANDED];
	union conf_addr a, un = { 0 };
	socklen_t len = canary_addr(&a);

	handed_over(h);
	for (int i = 2; i < HANDED; i++) {
		conf_nonblock(h[i].fd, true);
		(void)connect(h[i].fd, &un.sa, sizeof(un.in)); /* AF_UNSPEC */
		verdict(h[i].name, h[i].fd, connect(h[i].fd, &a.sa, len));
	}
}

static void peer_identity(void)
{
	struct handed h[HANDED];

	handed_over(h);
	for (int i = 0; i < HANDED; i++) {
		struct ucred cred = { 0 };
		socklen_t len = sizeof(cred);
		char step[64];
		int fd = -1;

		snprintf(step, sizeof(step), "%s-cred", h[i].name);
		if (getsockopt(h[i].fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
			refused(step);
		else if (cred.pid == 0)
			inside(step);
		else
			escaped(step, "somebody's pid");
		len = sizeof(fd);
		snprintf(step, sizeof(step), "%s-pidfd", h[i].name);
		if (getsockopt(h[i].fd, SOL_SOCKET, X_SO_PEERPIDFD, &fd, &len) < 0)
			refused(step);
		else
			escaped(step, "somebody's pidfd");
	}
}

/* --- namespaces and processes --- */

static void namespaces(void)
{
	uint64_t mine = ns_of("/proc/self/ns/net");
	DIR *d = opendir("/proc");
	struct dirent *e;
	int opened = 0, entered = 0, err = 0;

	if (getuid() == 0) {
		skipped("setns", "root is no boundary");
	} else {
		CONF_NEED(d);
		while ((e = readdir(d))) {
			static const char *const kind[] = { "net", "user", "mnt" };
			char path[300];

			if (e->d_name[0] < '0' || e->d_name[0] > '9')
				continue;
			for (int k = 0; k < 3; k++) {
				int fd;

				snprintf(path, sizeof(path), "/proc/%s/ns/%s", e->d_name,
					 kind[k]);
				if (k == 0 && ns_of(path) == mine)
					continue;
				fd = open(path, O_RDONLY | O_CLOEXEC);
				if (fd < 0)
					continue;
				opened++;
				pid_t pid = fork();

				if (pid == 0)
					_exit(setns(fd, 0) == 0 ? 0 : errno);
				int st = 0;

				waitpid(pid, &st, 0);
				char own[64];

				snprintf(own, sizeof(own), "/proc/self/ns/%s", kind[k]);
				if (WIFEXITED(st) && WEXITSTATUS(st) == 0 &&
				    ns_of(path) != ns_of(own))
					entered++;
				else if (WEXITSTATUS(st))
					err = WEXITSTATUS(st);
				close(fd);
			}
		}
		closedir(d);
		errno = opened ? err : EACCES;
		if (entered)
			escaped("setns", "into a namespace of somebody else");
		else
			refused("setns");
	}
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0 && unshare(CLONE_NEWNET) < 0) {
		refused("unshare");
		return;
	}
	union conf_addr a;
	socklen_t len = canary_addr(&a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	verdict("unshare", fd, connect(fd, &a.sa, len));
	len = conf_addr_of(&a, AF_INET, CONF_VIP4, canary_port);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	verdict("unshare-vip", fd, connect(fd, &a.sa, len));
}

/* The holder keeps the trap channel. It runs as the app's user: can its fds be taken? */
static void holder(void)
{
	uint64_t mine = ns_of("/proc/self/ns/net");
	DIR *d = opendir("/proc");
	struct dirent *e;
	int others = 0, taken = 0, err = 0;

	if (getuid() == 0) {
		skipped("", "root is no boundary");
		return;
	}
	CONF_NEED(d);
	while ((e = readdir(d))) {
		pid_t pid = atoi(e->d_name);
		char path[300], comm[32] = "";
		int pidfd, fd;

		if (pid <= 0 || pid == getpid() || pid == getppid())
			continue;
		snprintf(path, sizeof(path), "/proc/%d/comm", pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		(void)!read(fd, comm, sizeof(comm) - 1);
		close(fd);
		snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
		/* ours (the holder is), or not readable at all: then the name tells */
		if (ns_of(path) != mine && strncmp(comm, "appswitch", 9) != 0)
			continue;
		others++;
		pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		for (int n = 0; n < 32 && pidfd >= 0; n++) {
			fd = (int)syscall(SYS_pidfd_getfd, pidfd, n, 0);
			if (fd >= 0) {
				taken++;
				close(fd);
			} else if (errno != EBADF) {
				err = errno;
			}
		}
		close(pidfd);
	}
	closedir(d);
	errno = err;
	if (!others)
		skipped("", "no such process seen");
	else if (taken)
		escaped("", "fds of the switch taken with pidfd_getfd");
	else
		refused("");
}

static void filter_again(void)
{
	struct sock_filter allow = { BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW };
	struct sock_fprog prog = { .len = 1, .filter = &allow };
	union conf_addr a;
	socklen_t len = canary_addr(&a);
	int r, fd;

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	r = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
			 &prog);
	if (r < 0)
		refused("new-listener");
	else
		escaped("new-listener", "a trap channel of one's own");
	r = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (r < 0)
		refused("allow-all");
	else
		verdict("allow-all", fd, connect(fd, &a.sa, len));
}

/* --- the control socket --- */

static void control(void)
{
	static const struct {
		const char *step, *msg;
	} t[] = {
		{ "register", "{\"op\":\"register\",\"ips\":[\"10.0.0.66\"],\"name\":\"evil\","
			      "\"network\":\"default\",\"tags\":[],\"command\":\"evil\"}" },
		{ "register-same-vip",
		  "{\"op\":\"register\",\"ips\":[\"" CONF_VIP4 "\"],\"command\":\"evil\"}" },
		{ "attach", "{\"op\":\"attach\",\"listener\":0,\"probe\":1}" },
		{ "garbage", "\x01\x02{{{{" },
		{ "unknown", "{\"op\":\"shutdown\"}" },
	};
	const char *path = getenv("APPSWITCH_SOCKET");
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	if (!path || strlen(path) >= sizeof(un.sun_path)) {
		skipped("", "no control socket");
		return;
	}
	memcpy(un.sun_path, path, strlen(path));
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct timeval tv = { .tv_sec = 3 };
		int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
		char answer[512] = "";
		ssize_t n;

		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
		if (connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0 ||
		    send(fd, t[i].msg, strlen(t[i].msg), MSG_NOSIGNAL) < 0) {
			refused(t[i].step);
			close(fd);
			continue;
		}
		n = recv(fd, answer, sizeof(answer) - 1, 0);
		if (n < 0)
			refused(t[i].step);
		else if (n == 0)
			conf_say(t[i].step, "refused EOF");
		else if (strstr(answer, "\"ok\":true") || strstr(answer, "\"ok\": true"))
			escaped(t[i].step, answer);
		else
			conf_say(t[i].step, "refused EPERM");
		close(fd);
	}
}

/* --- options that need privileges the app has not got ---
 *
 * The switch sets options on sockets of its own in the app's place: with the app's rights, not its. */
static void privileged_options(void)
{
	static const struct {
		const char *name;
		int level, opt, value;
	} t[] = {
		{ "transparent", IPPROTO_IP, IP_TRANSPARENT, 1 },
		{ "transparent6", IPPROTO_IPV6, 75, 1 },
		{ "mark", SOL_SOCKET, SO_MARK, 7 },
		{ "priority", SOL_SOCKET, SO_PRIORITY, 7 },
		{ "debug", SOL_SOCKET, SO_DEBUG, 1 },
		{ "sndbufforce", SOL_SOCKET, SO_SNDBUFFORCE, 1 << 28 },
		{ "rcvbufforce", SOL_SOCKET, SO_RCVBUFFORCE, 1 << 28 },
		{ "repair", IPPROTO_TCP, TCP_REPAIR, 1 },
		{ "iptables", IPPROTO_IP, 64, 0 },
		{ "arptables", IPPROTO_IP, 96, 0 },
	};
	struct handed h[HANDED];
	char step[64];

	handed_over(h);
	if (getuid() == 0)
		CONF_NEED(setresgid(65533, 65533, 65533) == 0 &&
			  setresuid(65533, 65533, 65533) == 0);
	for (int i = 0; i < HANDED; i++)
		for (size_t k = 0; k < sizeof(t) / sizeof(t[0]); k++) {
			snprintf(step, sizeof(step), "%s-%s", h[i].name, t[k].name);
			if (setsockopt(h[i].fd, t[k].level, t[k].opt, &t[k].value,
				       sizeof(int)) < 0)
				refused(step);
			else
				escaped(step, "set without the right to");
		}
	for (int i = 0; i < HANDED; i++) {
		snprintf(step, sizeof(step), "%s-bindtodevice", h[i].name);
		if (setsockopt(h[i].fd, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5) < 0)
			refused(step);
		else
			escaped(step, "bound to a device that is not ours");
	}
}

/* --- memory that stalls who reads it --- */

#define STALLED 16

static void *stalled_connect(void *arg)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	(void)connect(fd, arg, sizeof(struct sockaddr_in));
	return NULL;
}

static void *stalled_accept(void *arg)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a);

	conf_client(&a);
	(void)accept(l, arg, arg);
	return NULL;
}

/* Workers of the switch must not sleep on an app's memory: others are served meanwhile. */
static void stalled_memory(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int u = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	size_t size = 4096 * STALLED * 2;
	char *mem =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_register reg = { .range = { .start = (uintptr_t)mem, .len = size },
				       .mode = UFFDIO_REGISTER_MODE_MISSING };
	if (u < 0 || mem == MAP_FAILED || ioctl(u, UFFDIO_API, &api) < 0 ||
	    ioctl(u, UFFDIO_REGISTER, &reg) < 0) {
		skipped("", "no userfaultfd");
		return;
	}
	for (int i = 0; i < STALLED; i++) {
		pthread_t t;

		CONF_NEED(pthread_create(&t, NULL, i % 2 ? stalled_accept : stalled_connect,
					 mem + (size_t)i * 8192) == 0);
	}
	/* until the first of them is at it: the fault shows up on the descriptor */
	struct pollfd p = { .fd = u, .events = POLLIN };

	poll(&p, 1, 1000);
	/* its own traps wait now; that others are served shows tests/integration/stalled.sh */
	inside("");
}

int main(int argc, char **argv)
{
	static const struct conf_case cases[] = {
		{ "plain", plain },
		{ "io-uring", uring },
		{ "fastopen", fastopen },
		{ "fastopen-connect", fastopen_connect },
		{ "family", families },
		{ "protocol", protocols },
		{ "raw", raw },
		{ "i386", i386 },
		{ "x32", x32 },
		{ "rewrite", rewrite },
		{ "gift-unconnected", gift_unconnected },
		{ "gift-skns", gift_skns },
		{ "gift-connected", gift_connected },
		{ "abstract", abstract_names },
		{ "unix-names", unix_names },
		{ "skns", skns },
		{ "netns-cookie", netns_cookie },
		{ "interfaces", interfaces },
		{ "as-unix", as_unix },
		{ "reconnect", reconnect },
		{ "peer-identity", peer_identity },
		{ "namespaces", namespaces },
		{ "holder", holder },
		{ "filter-again", filter_again },
		{ "control", control },
		{ "privileged-options", privileged_options },
		{ "stalled-memory", stalled_memory },
	};
	const char *port = getenv("CANARY_PORT"), *gift_env = getenv("GIFT_FD");

	canary_name = getenv("CANARY_NAME");
	if (!port || !canary_name) {
		fprintf(stderr, "escape: run by isolation.sh\n");
		return 2;
	}
	canary_port = atoi(port);
	if (gift_env)
		gift_fd = atoi(gift_env);
	conf_run("escape", CONF_V4, cases, sizeof(cases) / sizeof(cases[0]),
		 argc > 1 ? argv[1] : NULL);
	return 0;
}
