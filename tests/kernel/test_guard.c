/* What guard.h relies on: a socket that is guarded hears one other node, or its own node's port, and
 * nobody else, whatever is done with it afterwards.
 *
 * "The node" is a listener at one loopback address, "the victim" one at another: both of the host's
 * network, of which an app must reach only the first. */
#include "kern.h"

#include "traphandler/remote/guard.h"

#include <arpa/inet.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* How long an answer is waited for that must not come: loopback takes microseconds. */
#define SILENCE_MS 150

static const int one = 1;

static bool v6;

static struct as_endpoint endpoint(const char *v4_addr, const char *v6_addr, uint16_t port)
{
	struct as_endpoint e = { .port = port };
	char text[64];

	snprintf(text, sizeof(text), "%s", v6 ? v6_addr : v4_addr);
	assert_int_equal(as_addr_parse(text, &e.addr), 0);
	return e;
}

static struct as_endpoint node_at(uint16_t port)
{
	return endpoint("127.0.0.2", "fd99::2", port);
}

static struct as_endpoint victim_at(uint16_t port)
{
	return endpoint("127.0.0.3", "fd99::3", port);
}

static int tcp(void)
{
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	return fd;
}

static socklen_t sockaddr_of(const struct as_endpoint *e, struct sockaddr_storage *ret)
{
	return as_endpoint_to_sockaddr(e, v6 ? AF_INET6 : AF_INET, ret);
}

static int do_bind(int fd, const struct as_endpoint *e)
{
	struct sockaddr_storage ss;
	socklen_t len = sockaddr_of(e, &ss);

	return bind(fd, (struct sockaddr *)&ss, len) < 0 ? -errno : 0;
}

static int do_connect(int fd, const struct as_endpoint *e)
{
	struct sockaddr_storage ss;
	socklen_t len = sockaddr_of(e, &ss);

	return connect(fd, (struct sockaddr *)&ss, len) < 0 ? -errno : 0;
}

static int do_disconnect(int fd)
{
	struct sockaddr sa = { .sa_family = AF_UNSPEC };

	return connect(fd, &sa, sizeof(sa)) < 0 ? -errno : 0;
}

static uint16_t port_of(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct as_endpoint e;

	assert_int_equal(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
	assert_int_equal(as_endpoint_from_sockaddr(&ss, len, &e), 0);
	return e.port;
}

/* Listens at @at, whose port is chosen if it is 0. */
static int listener(struct as_endpoint *at, bool guarded)
{
	int fd = tcp();

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
	assert_int_equal(do_bind(fd, at), 0);
	at->port = port_of(fd);
	if (guarded)
		assert_int_equal(guard_listening(fd, at), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

/* The events of @fd within @ms. */
static short events(int fd, short want, int ms)
{
	struct pollfd p = { .fd = fd, .events = want };

	assert_true(poll(&p, 1, ms) >= 0);
	return p.revents;
}

static int state_of(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
	return info.tcpi_state;
}

static int accept_within(int fd, int ms)
{
	if (!(events(fd, POLLIN, ms) & POLLIN))
		return -1;
	return accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

static void assert_carries(int from, int to)
{
	char c = 0;

	assert_int_equal(write(from, "x", 1), 1);
	assert_true(events(to, POLLIN, 5000) & POLLIN);
	assert_int_equal(read(to, &c, 1), 1);
	assert_int_equal(c, 'x');
}

/* A connection to @node, guarded as an app gets it; its other end in *@ret_other. */
static int guarded_connection(const struct as_endpoint *node, int node_fd, int *ret_other)
{
	int fd = tcp(), r = do_connect(fd, node);

	assert_true(r == 0 || r == -EINPROGRESS);
	assert_int_equal(guard_outgoing(fd, node), 0);
	assert_true(events(fd, POLLOUT, 5000) & POLLOUT);
	*ret_other = accept_within(node_fd, 5000);
	assert_true(*ret_other >= 0);
	assert_carries(fd, *ret_other);
	assert_carries(*ret_other, fd);
	return fd;
}

/* @fd, which is nowhere, never gets into a connection with @to, nor does anybody there learn of more
 * than a SYN: no connection is ever whole. */
static void assert_no_answer(int fd, const struct as_endpoint *to, int to_fd)
{
	int r = do_connect(fd, to);

	assert_int_equal(r, -EINPROGRESS);
	assert_int_equal(events(fd, POLLOUT, SILENCE_MS) & POLLOUT, 0);
	assert_int_equal(state_of(fd), TCP_SYN_SENT);
	assert_int_equal(accept_within(to_fd, 0), -1);
}

/* The same with a socket that nobody guards: it is the guard that keeps it from it. */
static void assert_would_answer(const struct as_endpoint *to, int to_fd)
{
	int fd = tcp(), other;

	assert_true(do_connect(fd, to) >= -EINPROGRESS);
	assert_true(events(fd, POLLOUT, 5000) & POLLOUT);
	other = accept_within(to_fd, 5000);
	assert_true(other >= 0);
	close(other);
	close(fd);
}

static void test_a_guarded_socket_reaches_its_node(void **state)
{
	struct as_endpoint node = node_at(0);
	int l = listener(&node, true), other, fd = guarded_connection(&node, l, &other);

	(void)state;
	close(fd);
	close(other);
	close(l);
}

static void test_disconnected_and_connected_elsewhere_it_gets_no_answer(void **state)
{
	struct as_endpoint node = node_at(0), victim = victim_at(0), same_port;
	int l = listener(&node, true), v = listener(&victim, false), w, other;
	int fd = guarded_connection(&node, l, &other);

	(void)state;
	same_port = victim_at(node.port);
	w = listener(&same_port, false);
	assert_int_equal(do_disconnect(fd), 0);
	assert_no_answer(fd, &victim, v);
	assert_int_equal(do_disconnect(fd), 0);
	/* neither the address alone nor the port alone is enough */
	assert_no_answer(fd, &same_port, w);
	assert_int_equal(do_disconnect(fd), 0);
	assert_would_answer(&victim, v);
	assert_would_answer(&same_port, w);
	close(fd);
	close(other);
	close(l);
	close(v);
	close(w);
}

static void test_disconnected_it_reaches_its_own_node_only(void **state)
{
	struct as_endpoint node = node_at(0), other_port = node_at(0);
	int l = listener(&node, true), v = listener(&other_port, false), other;
	int fd = guarded_connection(&node, l, &other);

	(void)state;
	assert_int_equal(do_disconnect(fd), 0);
	assert_no_answer(fd, &other_port, v);
	assert_int_equal(do_disconnect(fd), 0);
	close(other);
	assert_true(do_connect(fd, &node) >= -EINPROGRESS);
	other = accept_within(l, 5000);
	assert_true(other >= 0);
	close(fd);
	close(other);
	close(l);
	close(v);
}

/* Nobody gets through to @fd at @at, and nothing comes to be accepted. */
static void assert_deaf(int fd, const struct as_endpoint *at)
{
	int c = tcp();

	assert_true(do_connect(c, at) == -EINPROGRESS);
	assert_int_equal(events(c, POLLOUT, SILENCE_MS) & POLLOUT, 0);
	assert_int_equal(accept_within(fd, 0), -1);
	close(c);
}

static void test_listening_an_outgoing_one_hears_nobody(void **state)
{
	struct as_endpoint node = node_at(0), mine = victim_at(0);
	int l = listener(&node, true), other, fd = guarded_connection(&node, l, &other);

	(void)state;
	assert_int_equal(do_disconnect(fd), 0);
	assert_int_equal(do_bind(fd, &mine), 0);
	assert_int_equal(listen(fd, 8), 0);
	mine.port = port_of(fd);
	assert_deaf(fd, &mine);
	close(fd);
	close(other);
	close(l);
}

static int accepted_connection(const struct as_endpoint *node, int l, int *ret_client)
{
	int fd;

	*ret_client = tcp();
	assert_true(do_connect(*ret_client, node) >= -EINPROGRESS);
	fd = accept_within(l, 5000);
	assert_true(fd >= 0);
	assert_int_equal(guard_accepted(fd), 0);
	assert_carries(*ret_client, fd);
	assert_carries(fd, *ret_client);
	return fd;
}

static void test_an_accepted_one_is_locked(void **state)
{
	struct as_endpoint node = node_at(0);
	int l = listener(&node, true), client, lock = 0;
	int fd = accepted_connection(&node, l, &client);
	socklen_t len = sizeof(lock);

	(void)state;
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &lock, &len), 0);
	assert_int_equal(lock, 1);
	close(fd);
	close(client);
	close(l);
}

static void test_an_accepted_one_that_leaves_loses_the_port_and_hears_nobody(void **state)
{
	struct as_endpoint node = node_at(0), mine = victim_at(0), victim = victim_at(0);
	int l = listener(&node, true), v = listener(&victim, false), client;
	int fd = accepted_connection(&node, l, &client);

	(void)state;
	assert_int_equal(do_disconnect(fd), 0);
	assert_no_answer(fd, &victim, v);
	assert_int_not_equal(port_of(fd), node.port);
	assert_int_equal(do_disconnect(fd), 0);
	assert_int_equal(do_bind(fd, &mine), 0);
	assert_int_equal(listen(fd, 8), 0);
	mine.port = port_of(fd);
	assert_int_not_equal(mine.port, node.port);
	assert_deaf(fd, &mine);
	close(fd);
	close(client);
	close(l);
	close(v);
}

static void test_an_accepted_one_never_gets_the_port_again(void **state)
{
	struct as_endpoint node = node_at(0), any = endpoint("0.0.0.0", "::", 0);
	int l = listener(&node, true), client;
	int fd = accepted_connection(&node, l, &client);

	(void)state;
	any.port = node.port;
	assert_int_equal(do_disconnect(fd), 0);
	assert_int_equal(do_bind(fd, &node), -EADDRINUSE);
	assert_int_equal(do_bind(fd, &any), -EADDRINUSE);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
	assert_int_equal(do_bind(fd, &node), -EADDRINUSE);
	assert_int_equal(do_bind(fd, &any), -EADDRINUSE);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)), 0);
	assert_int_equal(do_bind(fd, &node), -EADDRINUSE);
	assert_int_equal(do_bind(fd, &any), -EADDRINUSE);
	/* getsockname() still says the old one; what listen() takes is the truth */
	assert_int_equal(listen(fd, 8), 0);
	assert_int_not_equal(port_of(fd), node.port);
	close(fd);
	close(client);
	close(l);
}

/* The address counts too: the node's port at another address of the host leads nowhere. */
static void test_an_accepted_one_is_deaf_at_the_port_of_another_address(void **state)
{
	struct as_endpoint node = node_at(0), mine, victim = victim_at(0);
	int l = listener(&node, true), v = listener(&victim, false), client;
	int fd = accepted_connection(&node, l, &client);

	(void)state;
	mine = victim_at(node.port);
	assert_int_equal(do_disconnect(fd), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
	assert_int_equal(do_bind(fd, &mine), 0);
	assert_no_answer(fd, &victim, v);
	assert_int_equal(do_disconnect(fd), 0); /* it keeps what it was bound to itself */
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(port_of(fd), node.port);
	assert_deaf(fd, &mine);
	close(fd);
	close(client);
	close(l);
	close(v);
}

static void test_the_filter_cannot_be_removed_or_replaced(void **state)
{
	struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, ~0u);
	struct sock_fprog prog = { .len = 1, .filter = &all };
	struct as_endpoint node = node_at(0);
	int l = listener(&node, true), other, client;
	int fds[] = { guarded_connection(&node, l, &other),
		      accepted_connection(&node, l, &client) };

	(void)state;
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		int zero = 0;

		assert_int_equal(
			setsockopt(fds[i], SOL_SOCKET, SO_DETACH_FILTER, &one, sizeof(one)),
			-1);
		assert_int_equal(errno, EPERM);
		assert_int_equal(
			setsockopt(fds[i], SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)),
			-1);
		assert_int_equal(errno, EPERM);
		assert_int_equal(
			setsockopt(fds[i], SOL_SOCKET, SO_LOCK_FILTER, &zero, sizeof(zero)),
			-1);
		assert_int_equal(errno, EPERM);
	}
	close(fds[0]);
	close(fds[1]);
	close(other);
	close(client);
	close(l);
}

/* An AF_INET6 socket that is guarded for an IPv4 node must not take a segment of IPv6 for one of the
 * node's because the node's address is somewhere in its header. */
static void test_the_other_ip_version_is_not_let_in(void **state)
{
	struct as_endpoint node = { .port = 0 }, alike = { .port = 0 }, mine = victim_at(0);
	int l, fd, other, c;

	(void)state;
	if (!v6)
		return; /* an AF_INET socket has one version only */
	assert_int_equal(as_addr_parse("127.0.0.2", &node.addr), 0);
	/* bytes 4 to 7 are where the source address is in an IPv4 header */
	assert_int_equal(as_addr_parse("fd99:0:7f00:2::3", &alike.addr), 0);
	l = listener(&node, true); /* at ::ffff:127.0.0.2 */
	alike.port = node.port;
	fd = guarded_connection(&node, l, &other);
	assert_int_equal(do_disconnect(fd), 0);
	assert_int_equal(do_bind(fd, &mine), 0);
	assert_int_equal(listen(fd, 8), 0);
	mine.port = port_of(fd);
	c = tcp();
	assert_int_equal(do_bind(c, &alike), 0);
	assert_int_equal(do_connect(c, &mine), -EINPROGRESS);
	assert_int_equal(events(c, POLLOUT, SILENCE_MS) & POLLOUT, 0);
	assert_int_equal(accept_within(fd, 0), -1);
	close(c);
	close(fd);
	close(other);
	close(l);
}

/* --- in which ways ----------------------------------------------------------------------------- */

/* bpf(2) fails from now on, in this process. */
static void without_bpf(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_bpf, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = 4, .filter = code };

	assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	assert_int_equal(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog), 0);
}

static bool have_bpf(void)
{
	union bpf_attr attr = { 0 };
	struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int fd;

	attr.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
	attr.insns = (uint64_t)(uintptr_t)insns;
	attr.insn_cnt = 2;
	attr.license = (uint64_t)(uintptr_t) "";
	fd = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void network(void)
{
	static const char *const addrs[] = { "fd99::2", "fd99::3", "fd99:0:7f00:2::3" };
	struct ifreq ifr = { .ifr_name = "lo" };
	int fd = socket(AF_INET, SOCK_DGRAM, 0), fd6 = socket(AF_INET6, SOCK_DGRAM, 0);

	if (fd < 0 || fd6 < 0 || ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
		_exit(99);
	ifr.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
		_exit(99);
	for (size_t i = 0; i < sizeof(addrs) / sizeof(addrs[0]); i++) {
		/* struct in6_ifreq, <linux/ipv6.h> */
		struct {
			struct in6_addr addr;
			uint32_t prefix;
			int ifindex;
		} req = { .prefix = 128, .ifindex = (int)if_nametoindex("lo") };

		inet_pton(AF_INET6, addrs[i], &req.addr);
		if (ioctl(fd6, SIOCSIFADDR, &req) < 0)
			_exit(99);
	}
	close(fd);
	close(fd6);
}

/* guard.c remembers whether it may use bpf(2): a process for each way. */
static int in_this_way(const char *how, bool bpf, bool six)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_guarded_socket_reaches_its_node),
		cmocka_unit_test(test_disconnected_and_connected_elsewhere_it_gets_no_answer),
		cmocka_unit_test(test_disconnected_it_reaches_its_own_node_only),
		cmocka_unit_test(test_listening_an_outgoing_one_hears_nobody),
		cmocka_unit_test(test_an_accepted_one_is_locked),
		cmocka_unit_test(
			test_an_accepted_one_that_leaves_loses_the_port_and_hears_nobody),
		cmocka_unit_test(test_an_accepted_one_never_gets_the_port_again),
		cmocka_unit_test(test_an_accepted_one_is_deaf_at_the_port_of_another_address),
		cmocka_unit_test(test_the_filter_cannot_be_removed_or_replaced),
		cmocka_unit_test(test_the_other_ip_version_is_not_let_in),
	};
	pid_t pid = fork();
	int status = 99 << 8;

	if (pid == 0) {
		v6 = six;
		if (!bpf)
			without_bpf();
		_exit(cmocka_run_group_tests_name(how, tests, NULL, NULL));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 1;
	return status != 0;
}

static int all(void)
{
	int failed = 0;

	network();
	if (have_bpf()) {
		failed += in_this_way("bpf(2), IPv4", true, false);
		failed += in_this_way("bpf(2), IPv6", true, true);
	} else {
		printf("no bpf(2) here: only SO_ATTACH_FILTER\n");
		if (!kern_is_user())
			failed++; /* root has it, or half of the facts are not looked at */
	}
	failed += in_this_way("SO_ATTACH_FILTER, IPv4", false, false);
	failed += in_this_way("SO_ATTACH_FILTER, IPv6", false, true);
	return failed;
}

int main(int argc, char **argv)
{
	return kern_main(argc, argv, all);
}
