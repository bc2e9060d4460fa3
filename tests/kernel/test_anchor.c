/* The anchor: a copy of the app's bound TCP socket, put into LISTEN by another process, keeps
 * the port taken, answers option questions, and is deaf. */
#include "kern.h"

#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static void lo_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &ifr), 0);
	close(fd);
}

static int tcp(int flags)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0), one = 1;

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
	return fd;
}

static struct sockaddr_in local(uint16_t port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons(port),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static int bind_port(int fd, uint16_t port)
{
	struct sockaddr_in sa = local(port);

	return bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ? -errno : 0;
}

static void deafen(int fd)
{
	struct sock_filter code[] = { BPF_STMT(BPF_RET | BPF_K, 0) };
	struct sock_fprog prog = { .len = 1, .filter = code };

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)), 0);
}

static void test_a_bound_port_can_be_bound_again_a_listening_one_cannot(void **state)
{
	int a = tcp(0), b = tcp(0), c = tcp(0);

	(void)state;
	assert_int_equal(bind_port(a, 7001), 0);
	assert_int_equal(bind_port(b, 7001), 0); /* SO_REUSEADDR: why the anchor listens */
	close(b);
	assert_int_equal(listen(a, 1), 0);
	assert_int_equal(bind_port(c, 7001), -EADDRINUSE);
	close(a);
	assert_int_equal(bind_port(c, 7001), 0);
	close(c);
}

static void test_a_deaf_listener_answers_nobody(void **state)
{
	struct sockaddr_in sa = local(7002);
	int l = tcp(0), c = tcp(SOCK_NONBLOCK);
	struct pollfd p[2] = { { .fd = l, .events = POLLIN }, { .fd = c, .events = POLLOUT } };

	(void)state;
	assert_int_equal(bind_port(l, 7002), 0);
	deafen(l);
	assert_int_equal(listen(l, 8), 0);
	assert_int_equal(connect(c, (struct sockaddr *)&sa, sizeof(sa)), -1);
	assert_int_equal(errno, EINPROGRESS);
	assert_int_equal(poll(p, 2, 100), 0);
	close(c);
	close(l);
}

static int app_replaced(int ctl)
{
	int fd = tcp(0), other;
	long r;

	if (bind_port(fd, 7003) != 0 || write(ctl, &fd, sizeof(fd)) != sizeof(fd))
		return 1;
	r = syscall(SYS_listen, fd, 5);
	if (r != 0)
		return 2;
	other = tcp(0);
	if (bind_port(other, 7003) != -EADDRINUSE)
		return 3;
	kern_poke(ctl);
	kern_wait_poke(ctl); /* the host side lets the anchor go */
	return bind_port(other, 7003) == 0 ? 0 : 4;
}

/* The whole of listen() as the design has it, over two processes. */
static void test_an_anchor_outlives_the_apps_own_copy(void **state)
{
	struct kern_app a;
	struct seccomp_notif req;
	int num, anchor, standin = kern_listen("anchor"), value = 0;
	socklen_t len = sizeof(value);

	(void)state;
	kern_app_start(&a, SYS_listen, app_replaced);
	assert_int_equal(read(a.ctl, &num, sizeof(num)), sizeof(num));
	kern_recv(a.listener, &req);
	anchor = kern_pidfd_getfd(a.pidfd, num);
	assert_true(anchor >= 0);
	deafen(anchor);
	assert_int_equal(listen(anchor, 5), 0);
	assert_int_equal(
		kern_addfd(a.listener, req.id, standin, num, 0, SECCOMP_ADDFD_FLAG_SETFD), num);
	assert_int_equal(kern_send(a.listener, req.id, 0, 0), 0);
	kern_wait_poke(a.ctl);
	assert_int_equal(getsockopt(anchor, SOL_SOCKET, SO_ACCEPTCONN, &value, &len), 0);
	assert_int_equal(value, 1);
	len = sizeof(value);
	assert_int_equal(getsockopt(anchor, IPPROTO_TCP, TCP_MAXSEG, &value, &len), 0);
	assert_true(value > 0);
	close(anchor);
	kern_poke(a.ctl);
	assert_int_equal(kern_app_wait(&a), 0);
	close(standin);
}

static int tests(void)
{
	const struct CMUnitTest t[] = {
		cmocka_unit_test(test_a_bound_port_can_be_bound_again_a_listening_one_cannot),
		cmocka_unit_test(test_a_deaf_listener_answers_nobody),
		cmocka_unit_test(test_an_anchor_outlives_the_apps_own_copy),
	};

	lo_up();
	return cmocka_run_group_tests(t, NULL, NULL);
}

int main(int argc, char **argv)
{
	return kern_main(argc, argv, tests);
}
