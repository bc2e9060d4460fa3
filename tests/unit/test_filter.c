/* The filter, checked twice: its BPF is run in an interpreter over whole ranges of arguments
 * against a model written down independently, and it is put in force for a child whose calls
 * this process answers as the supervisor. */
#include <trapgen/filter.h>

#include <appswitch/util.h>

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#define N_SYSCALLS  1024
#define NOISE	    0xdeadbeef00000000ULL
#define MARK	    ENOTNAM /* what the supervisor answers; no call here gives it by itself */
#define CHILD_LIMIT 30	    /* seconds, if a call sleeps that should not */

static const uint64_t upper_halves[] = { 0, 0x100000000ULL, NOISE, 0xffffffff00000000ULL };

/* --- the BPF program, interpreted --- */

struct program {
	struct sock_filter insns[BPF_MAXINSNS];
	size_t n;
};

static int setup_program(void **state)
{
	struct program *p = calloc(1, sizeof(*p));
	_cleanup_close_ int fd = memfd_create("bpf", MFD_CLOEXEC);
	scmp_filter_ctx ctx;
	ssize_t len;

	assert_non_null(p);
	assert_true(fd >= 0);
	assert_int_equal(trapgen_filter_build(&ctx), 0);
	assert_int_equal(seccomp_export_bpf(ctx, fd), 0);
	seccomp_release(ctx);
	len = pread(fd, p->insns, sizeof(p->insns), 0);
	assert_true(len > 0);
	p->n = (size_t)len / sizeof(p->insns[0]);
	*state = p;
	return 0;
}

static int teardown_program(void **state)
{
	free(*state);
	return 0;
}

static bool jumps(const struct sock_filter *i, uint32_t a)
{
	switch (BPF_OP(i->code)) {
	case BPF_JEQ:
		return a == i->k;
	case BPF_JGT:
		return a > i->k;
	case BPF_JGE:
		return a >= i->k;
	default:
		assert_int_equal(BPF_OP(i->code), BPF_JSET);
		return (a & i->k) != 0;
	}
}

static uint32_t interpret(const struct program *p, const struct seccomp_data *data)
{
	uint32_t a = 0;

	for (size_t pc = 0; pc < p->n; pc++) {
		const struct sock_filter *i = &p->insns[pc];

		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			assert_true(i->k <= sizeof(*data) - sizeof(a));
			memcpy(&a, (const char *)data + i->k, sizeof(a));
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= i->k;
			break;
		case BPF_JMP | BPF_JA:
			pc += i->k;
			break;
		case BPF_RET | BPF_K:
			return i->k;
		default:
			assert_int_equal(BPF_CLASS(i->code), BPF_JMP);
			pc += jumps(i, a) ? i->jt : i->jf;
		}
	}
	fail_msg("the program ends without a verdict");
	return 0;
}

/* --- the model: the filter in numbers of the kernel's ABI --- */

static bool listed(uint32_t value, const uint32_t *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (list[i] == value)
			return true;
	}
	return false;
}

static uint32_t model_sockopt(uint32_t level, uint32_t name)
{
	static const uint32_t levels[] = { 0, 6, 41, 282, 284 };
	static const uint32_t names[] = { 3,  4,  15, 16, 17, 25, 26, 27, 28, 31,
					  34, 36, 38, 39, 49, 51, 52, 56, 57, 59,
					  60, 62, 68, 71, 76, 77, 83, 84 };

	if (listed(level, levels, ARRAY_SIZE(levels)) ||
	    (level == SOL_SOCKET && listed(name, names, ARRAY_SIZE(names))))
		return SCMP_ACT_NOTIFY;
	return SCMP_ACT_ALLOW;
}

static uint32_t notify_if(bool trapped)
{
	return trapped ? SCMP_ACT_NOTIFY : SCMP_ACT_ALLOW;
}

static uint32_t errno_if(bool refused, uint32_t err)
{
	return refused ? SCMP_ACT_ERRNO(err) : SCMP_ACT_ALLOW;
}

static uint32_t model(const struct seccomp_data *d)
{
	static const uint32_t families[] = { 1, 2, 10, 16, 38 };
	uint32_t a0 = (uint32_t)d->args[0], a1 = (uint32_t)d->args[1];
	uint32_t a2 = (uint32_t)d->args[2], a3 = (uint32_t)d->args[3];

	switch (d->nr) {
	case SYS_connect:
	case SYS_bind:
	case SYS_listen:
	case SYS_accept:
	case SYS_accept4:
	case SYS_getsockname:
	case SYS_getpeername:
	case SYS_epoll_create1:
	case SYS_dup:
	case SYS_dup3:
#ifdef SYS_dup2
	case SYS_dup2:
	case SYS_epoll_create:
#endif
		return SCMP_ACT_NOTIFY;
	case SYS_io_uring_setup:
	case SYS_io_uring_enter:
	case SYS_io_uring_register:
		return SCMP_ACT_ERRNO(ENOSYS);
	case SYS_shutdown:
		return notify_if(a1 == 0);
	case SYS_recvfrom:
	case SYS_recvmmsg:
		return notify_if((a3 & 0x2000) != 0);
	case SYS_recvmsg:
		return notify_if((a2 & 0x2000) != 0);
	case SYS_fcntl:
		return notify_if(a1 == 0 || a1 == 1030);
	case SYS_ioctl:
		return notify_if(a1 >= 0x8900 && a1 <= 0x89ff && a1 != 0x8905);
	case SYS_getsockopt:
	case SYS_setsockopt:
		return model_sockopt(a1, a2);
	case SYS_sendto:
	case SYS_sendmmsg:
		return errno_if((a3 & 0x20000000) != 0, EOPNOTSUPP);
	case SYS_sendmsg:
		return errno_if((a2 & 0x20000000) != 0, EOPNOTSUPP);
	case SYS_socket:
		return errno_if(!listed(a0, families, ARRAY_SIZE(families)) ||
					(a0 == 2 && (a1 & 0xf) == 10),
				EAFNOSUPPORT);
	default:
		return SCMP_ACT_ALLOW;
	}
}

/* Compares for one call whose arguments @args are ints, with every kind of upper half. */
static void check(const struct program *p, int nr, uint32_t a0, uint32_t a1, uint32_t a2,
		  uint32_t a3)
{
	for (size_t i = 0; i < ARRAY_SIZE(upper_halves); i++) {
		uint64_t up = upper_halves[i];
		struct seccomp_data d = {
			.nr = nr,
			.arch = seccomp_arch_native(),
			.instruction_pointer = NOISE,
			.args = { up | a0, up | a1, up | a2, up | a3, up, up },
		};
		uint32_t got = interpret(p, &d), want = model(&d);

		if (got != want)
			fail_msg("syscall %d(%#llx, %#llx, %#llx, %#llx): %#x instead of %#x",
				 nr, (unsigned long long)d.args[0],
				 (unsigned long long)d.args[1], (unsigned long long)d.args[2],
				 (unsigned long long)d.args[3], got, want);
	}
}

static void test_every_syscall_number_is_decided_as_stated(void **state)
{
	static const uint32_t values[] = { 0, 1, 2, 6, 0x7fffffff, 0xffffffff };

	for (int nr = 0; nr < N_SYSCALLS; nr++) {
		for (size_t i = 0; i < ARRAY_SIZE(values); i++)
			check(*state, nr, values[i], values[i], values[i], values[i]);
	}
	check(*state, -1, 0, 0, 0, 0);
}

static void test_ioctl_traps_the_socket_range_but_atmark(void **state)
{
	for (uint32_t req = 0; req <= 0x1ffff; req++)
		check(*state, SYS_ioctl, 3, req, 0, 0);
	for (unsigned bit = 16; bit < 32; bit++) { /* a neighbour in each higher bit */
		check(*state, SYS_ioctl, 3, 0x8905U | 1U << bit, 0, 0);
		check(*state, SYS_ioctl, 3, 0x8910U | 1U << bit, 0, 0);
	}
}

static void test_only_listed_families_make_sockets(void **state)
{
	for (uint32_t family = 0; family <= 0x1ffff; family++)
		check(*state, SYS_socket, family, SOCK_STREAM, 0, 0);
	for (unsigned bit = 16; bit < 32; bit++) {
		for (uint32_t family = 0; family < 64; family++)
			check(*state, SYS_socket, family | 1U << bit, SOCK_STREAM, 0, 0);
	}
}

static void test_socket_options_trap_by_level_and_name(void **state)
{
	for (int level = -2; level <= 300; level++) {
		for (int name = -2; name <= 130; name++) {
			check(*state, SYS_getsockopt, 3, (uint32_t)level, (uint32_t)name, 0);
			check(*state, SYS_setsockopt, 3, (uint32_t)level, (uint32_t)name, 0);
		}
	}
}

static void test_fcntl_and_shutdown_trap_by_command(void **state)
{
	for (uint32_t cmd = 0; cmd <= 0x1000; cmd++) {
		check(*state, SYS_fcntl, 3, cmd, 0, 0);
		check(*state, SYS_shutdown, 3, cmd, 0, 0);
	}
	check(*state, SYS_fcntl, 3, 0x80000000U, 0, 0);
	check(*state, SYS_shutdown, 3, 0x80000000U, 0, 0);
}

static void test_fastopen_is_refused_whatever_the_other_flags(void **state)
{
	static const int calls[] = { SYS_sendto, SYS_sendmsg, SYS_sendmmsg };

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		for (unsigned bit = 0; bit < 32; bit++) {
			uint32_t f = 1U << bit;

			check(*state, calls[i], 3, 0, f, 0);
			check(*state, calls[i], 3, 0, 0, f);
			check(*state, calls[i], 3, 0, f | MSG_FASTOPEN, 0);
			check(*state, calls[i], 3, 0, 0, f | MSG_FASTOPEN);
			check(*state, calls[i], 3, f, ~(uint32_t)MSG_FASTOPEN,
			      ~(uint32_t)MSG_FASTOPEN);
		}
	}
}

static void test_the_error_queue_traps_whatever_the_other_flags(void **state)
{
	static const int calls[] = { SYS_recvfrom, SYS_recvmsg, SYS_recvmmsg };

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		for (unsigned bit = 0; bit < 32; bit++) {
			uint32_t f = 1U << bit;

			check(*state, calls[i], 3, 0, f, 0);
			check(*state, calls[i], 3, 0, 0, f);
			check(*state, calls[i], 3, 0, f | MSG_ERRQUEUE, 0);
			check(*state, calls[i], 3, 0, 0, f | MSG_ERRQUEUE);
			check(*state, calls[i], 3, f, ~(uint32_t)MSG_ERRQUEUE,
			      ~(uint32_t)MSG_ERRQUEUE);
		}
	}
}

static void test_foreign_architectures_get_enosys(void **state)
{
	struct seccomp_data d = { .arch = AUDIT_ARCH_ARM };

	for (d.nr = 0; d.nr < N_SYSCALLS; d.nr++)
		assert_int_equal(interpret(*state, &d), SCMP_ACT_ERRNO(ENOSYS));
#ifdef __x86_64__
	d.arch = AUDIT_ARCH_I386;
	for (d.nr = 0; d.nr < N_SYSCALLS; d.nr++)
		assert_int_equal(interpret(*state, &d), SCMP_ACT_ERRNO(ENOSYS));
	d.arch = AUDIT_ARCH_X86_64; /* x32: the same architecture, a bit in the number */
	for (d.nr = 0x40000000; d.nr < 0x40000000 + N_SYSCALLS; d.nr++)
		assert_int_equal(interpret(*state, &d), SCMP_ACT_ERRNO(ENOSYS));
#endif
}

/* --- in force --- */

#define BAD_FD (NOISE | 0xffffffffU)

/* On a bad fd, so that EBADF means: the call went through to the kernel. */
static const struct live {
	const char *what;
	long nr;
	uint64_t args[5];
	int want; /* errno */
} live[] = {
	{ "connect", SYS_connect, { BAD_FD }, MARK },
	{ "bind", SYS_bind, { BAD_FD }, MARK },
	{ "listen", SYS_listen, { BAD_FD }, MARK },
	{ "accept", SYS_accept, { BAD_FD }, MARK },
	{ "accept4", SYS_accept4, { BAD_FD }, MARK },
	{ "getsockname", SYS_getsockname, { BAD_FD }, MARK },
	{ "getpeername", SYS_getpeername, { BAD_FD }, MARK },
	{ "epoll_create1", SYS_epoll_create1, { 0 }, MARK },
	{ "dup", SYS_dup, { BAD_FD }, MARK },
	{ "dup3", SYS_dup3, { BAD_FD, 50 }, MARK },
#ifdef SYS_dup2
	{ "epoll_create", SYS_epoll_create, { 1 }, MARK },
	{ "dup2", SYS_dup2, { BAD_FD, 50 }, MARK },
#endif
	{ "F_DUPFD", SYS_fcntl, { BAD_FD, NOISE | F_DUPFD }, MARK },
	{ "F_DUPFD_CLOEXEC", SYS_fcntl, { BAD_FD, NOISE | F_DUPFD_CLOEXEC }, MARK },
	{ "F_GETFD", SYS_fcntl, { BAD_FD, F_GETFD }, EBADF },
	{ "SHUT_RD", SYS_shutdown, { BAD_FD, NOISE | SHUT_RD }, MARK },
	{ "SHUT_WR", SYS_shutdown, { BAD_FD, SHUT_WR }, EBADF },
	{ "SHUT_RDWR", SYS_shutdown, { BAD_FD, SHUT_RDWR }, EBADF },
	{ "get TCP_NODELAY", SYS_getsockopt, { BAD_FD, NOISE | 6, 1 }, MARK },
	{ "set TCP_NODELAY", SYS_setsockopt, { BAD_FD, NOISE | 6, 1 }, MARK },
	{ "get IP", SYS_getsockopt, { BAD_FD, 0, 1 }, MARK },
	{ "set IPv6", SYS_setsockopt, { BAD_FD, 41, 1 }, MARK },
	{ "get SO_DOMAIN", SYS_getsockopt, { BAD_FD, NOISE | 1, NOISE | 39 }, MARK },
	{ "set SO_REUSEPORT", SYS_setsockopt, { BAD_FD, 1, 15 }, MARK },

	{ "set SO_REUSEADDR", SYS_setsockopt, { BAD_FD, 1, 2 }, EBADF },
	{ "set UDP_SEGMENT", SYS_setsockopt, { BAD_FD, 17, 103 }, EBADF },
	{ "SIOCINQ", SYS_ioctl, { BAD_FD, 0x541b }, EBADF },
	{ "SIOCGIFCONF", SYS_ioctl, { BAD_FD, NOISE | 0x8912 }, MARK },
	{ "SIOCGSKNS", SYS_ioctl, { BAD_FD, 0x894c }, MARK },
	{ "SIOCATMARK", SYS_ioctl, { BAD_FD, NOISE | 0x8905 }, EBADF },
	{ "sendto", SYS_sendto, { BAD_FD, 0, 0, 0 }, EBADF },
	{ "sendto FASTOPEN", SYS_sendto, { BAD_FD, 0, 0, NOISE | MSG_FASTOPEN }, EOPNOTSUPP },
	{ "sendmsg", SYS_sendmsg, { BAD_FD, 0, 0 }, EBADF },
	{ "sendmsg FASTOPEN", SYS_sendmsg, { BAD_FD, 0, MSG_FASTOPEN }, EOPNOTSUPP },
	{ "sendmmsg FASTOPEN", SYS_sendmmsg, { BAD_FD, 0, 1, MSG_FASTOPEN }, EOPNOTSUPP },
	{ "recvfrom", SYS_recvfrom, { BAD_FD, 0, 0, 0 }, EBADF },
	{ "recvfrom ERRQUEUE", SYS_recvfrom, { BAD_FD, 0, 0, NOISE | MSG_ERRQUEUE }, MARK },
	{ "recvmsg", SYS_recvmsg, { BAD_FD, 0, 0 }, EBADF },
	{ "recvmsg ERRQUEUE", SYS_recvmsg, { BAD_FD, 0, NOISE | MSG_ERRQUEUE }, MARK },
	{ "recvmmsg ERRQUEUE", SYS_recvmmsg, { BAD_FD, 0, 1, NOISE | MSG_ERRQUEUE }, MARK },
	{ "io_uring_setup", SYS_io_uring_setup, { 0, 0 }, ENOSYS },
	{ "io_uring_enter", SYS_io_uring_enter, { BAD_FD }, ENOSYS },
	{ "io_uring_register", SYS_io_uring_register, { BAD_FD }, ENOSYS },
	{ "AF_UNIX", SYS_socket, { NOISE | AF_UNIX, 99 }, EINVAL },
	{ "AF_INET", SYS_socket, { NOISE | AF_INET, 99 }, EINVAL },
	{ "AF_PACKET", SYS_socket, { AF_PACKET, SOCK_DGRAM }, EAFNOSUPPORT },
	{ "AF_VSOCK", SYS_socket, { NOISE | AF_VSOCK, SOCK_STREAM }, EAFNOSUPPORT },
	{ "read", SYS_read, { BAD_FD }, EBADF },
	{ "epoll_wait", SYS_epoll_pwait, { BAD_FD, 0, 1 }, EBADF },
	{ "close", SYS_close, { BAD_FD }, EBADF },
};

struct child_report {
	int load_error; /* -errno; then nothing else is valid */
	int listener;	/* its number in the child */
	bool nnp_added; /* the filter turned no_new_privs on */
	int cloexec;
};

/* What the child sends: the report, then (once acknowledged) the errno of every call. Only
 * calls that do not trap may be used for the talk itself. */
static void child(int talk)
{
	struct child_report rep = { 0 };
	int got[ARRAY_SIZE(live)] = { 0 };
	scmp_filter_ctx ctx;
	int before;
	char ack;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(CHILD_LIMIT);
	if (geteuid() != 0)
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	before = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
	rep.load_error = trapgen_filter_build(&ctx);
	if (rep.load_error == 0)
		rep.load_error = trapgen_filter_load(ctx, &rep.listener);
	rep.nnp_added = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != before;
	rep.cloexec = fcntl(rep.listener, F_GETFD);
	if (write(talk, &rep, sizeof(rep)) != sizeof(rep) || read(talk, &ack, 1) != 1)
		_exit(1);
	for (size_t i = 0; i < ARRAY_SIZE(live); i++) {
		const uint64_t *a = live[i].args;
		long r = syscall(live[i].nr, a[0], a[1], a[2], a[3], a[4]);

		got[i] = r < 0 ? errno : 0;
	}
	_exit(write(talk, got, sizeof(got)) == sizeof(got) ? 0 : 1);
}

/* Answers every trap with MARK until the child has sent its results. */
static void supervise(int listener, int talk, int *got, size_t size)
{
	struct pollfd p[] = { { .fd = listener, .events = POLLIN },
			      { .fd = talk, .events = POLLIN } };

	while (poll(p, ARRAY_SIZE(p), -1) >= 0) {
		struct seccomp_notif req = { 0 };
		struct seccomp_notif_resp resp = { .error = -MARK };

		if (p[1].revents != 0) {
			assert_int_equal(read(talk, got, size), size);
			return;
		}
		if ((p[0].revents & POLLIN) == 0)
			continue;
		assert_int_equal(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &req), 0);
		resp.id = req.id;
		assert_int_equal(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp), 0);
	}
	fail_msg("poll: %s", strerror(errno));
}

static void test_in_force_calls_trap_fail_or_pass_as_stated(void **state)
{
	_cleanup_close_ int listener = -1, pidfd = -1, talk = -1;
	struct child_report rep = { 0 };
	int got[ARRAY_SIZE(live)] = { 0 }, sv[2], status;
	pid_t pid;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(sv[0]);
		child(sv[1]);
	}
	close(sv[1]);
	talk = sv[0];
	assert_int_equal(read(talk, &rep, sizeof(rep)), sizeof(rep));
	if (rep.load_error == -EBUSY) {
		print_message("already below a supervisor\n");
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		skip();
	}
	assert_int_equal(rep.load_error, 0);
	assert_false(rep.nnp_added);
	assert_int_equal(rep.cloexec, FD_CLOEXEC);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	assert_true(pidfd >= 0);
	listener = (int)syscall(SYS_pidfd_getfd, pidfd, rep.listener, 0);
	assert_true(listener >= 0);
	assert_int_equal(write(talk, "", 1), 1);
	supervise(listener, talk, got, sizeof(got));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	for (size_t i = 0; i < ARRAY_SIZE(live); i++) {
		if (got[i] != live[i].want)
			fail_msg("%s: errno %d instead of %d", live[i].what, got[i],
				 live[i].want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_syscall_number_is_decided_as_stated),
		cmocka_unit_test(test_ioctl_traps_the_socket_range_but_atmark),
		cmocka_unit_test(test_only_listed_families_make_sockets),
		cmocka_unit_test(test_socket_options_trap_by_level_and_name),
		cmocka_unit_test(test_fcntl_and_shutdown_trap_by_command),
		cmocka_unit_test(test_fastopen_is_refused_whatever_the_other_flags),
		cmocka_unit_test(test_the_error_queue_traps_whatever_the_other_flags),
		cmocka_unit_test(test_foreign_architectures_get_enosys),
		cmocka_unit_test(test_in_force_calls_trap_fail_or_pass_as_stated),
	};

	return cmocka_run_group_tests(tests, setup_program, teardown_program);
}
