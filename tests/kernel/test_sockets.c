/* AF_UNIX options, and fds that outlive the process that opened them. */
#include "kern.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/appswitch-kernel-XXXXXX";

static socklen_t path_addr(struct sockaddr_un *sa)
{
	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	snprintf(sa->sun_path, sizeof(sa->sun_path), "%s/s", dir);
	return sizeof(*sa);
}

static int path_listen(void)
{
	struct sockaddr_un sa;
	socklen_t len = path_addr(&sa);
	int fd = kern_unix(SOCK_SEQPACKET);

	(void)unlink(sa.sun_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(listen(fd, 4), 0);
	return fd;
}

/* Connects by path, then waits; @unshare_when: 0 never, 1 before socket(), 2 after it. */
static pid_t path_client(int unshare_when, int *ret_ctl)
{
	struct sockaddr_un sa;
	socklen_t len = path_addr(&sa);
	int sv[2], fd;
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		uint64_t cookie;

		close(sv[0]);
		if (unshare_when == 1 && unshare(CLONE_NEWNET) < 0)
			_exit(1);
		fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
		if (fd < 0 || (unshare_when == 2 && unshare(CLONE_NEWNET) < 0))
			_exit(1);
		if (connect(fd, (struct sockaddr *)&sa, len) < 0)
			_exit(2);
		cookie = kern_cookie(fd, SO_NETNS_COOKIE);
		if (write(sv[1], &cookie, sizeof(cookie)) != sizeof(cookie))
			_exit(3);
		kern_wait_poke(sv[1]);
		_exit(0);
	}
	close(sv[1]);
	*ret_ctl = sv[0];
	return pid;
}

static void check_netns_cookie(int unshare_when, bool same)
{
	int l = path_listen(), ctl, fd, status;
	uint64_t here = kern_cookie(l, SO_NETNS_COOKIE), theirs;
	pid_t pid = path_client(unshare_when, &ctl);

	fd = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(read(ctl, &theirs, sizeof(theirs)), sizeof(theirs));
	assert_int_equal(kern_cookie(fd, SO_NETNS_COOKIE), theirs);
	assert_int_equal(theirs == here, same);
	kern_poke(ctl);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(fd);
	close(l);
	close(ctl);
}

static void test_netns_cookie_of_an_accepted_socket_is_the_connectors(void **state)
{
	(void)state;
	check_netns_cookie(0, true);
	check_netns_cookie(1, false);
}

/* …and it is where the socket was *made*: one carried into a namespace shows its origin. */
static void test_netns_cookie_is_of_where_the_socket_was_made(void **state)
{
	(void)state;
	check_netns_cookie(2, true);
}

static void test_peerpidfd_names_the_connector(void **state)
{
	int l = path_listen(), ctl, fd, pidfd = -1, status;
	socklen_t len = sizeof(pidfd);
	struct pollfd p;
	uint64_t cookie;
	pid_t pid = path_client(0, &ctl);

	(void)state;
	fd = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(read(ctl, &cookie, sizeof(cookie)), sizeof(cookie));
	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len) < 0) {
		assert_int_equal(errno, ENOPROTOOPT); /* Linux 6.5+; SO_PEERCRED before */
		print_message("no SO_PEERPIDFD here\n");
	} else {
		p = (struct pollfd){ .fd = pidfd, .events = POLLIN };
		assert_int_equal(poll(&p, 1, 20), 0);
	}
	kern_poke(ctl);
	if (pidfd >= 0) {
		assert_int_equal(poll(&p, 1, 5000), 1);
		close(pidfd);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(fd);
	close(l);
	close(ctl);
}

static int send_fd(int sock, int fd)
{
	union {
		char c[CMSG_SPACE(sizeof(int))];
		struct cmsghdr h;
	} u;
	struct iovec io = { .iov_base = (char *)"x", .iov_len = 1 };
	struct msghdr m = { .msg_iov = &io,
			    .msg_iovlen = 1,
			    .msg_control = u.c,
			    .msg_controllen = sizeof(u.c) };

	memset(&u, 0, sizeof(u));
	u.h.cmsg_level = SOL_SOCKET;
	u.h.cmsg_type = SCM_RIGHTS;
	u.h.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&u.h), &fd, sizeof(fd));
	return sendmsg(sock, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void test_passrights_off_keeps_fds_out(void **state)
{
	int sv[2], zero = 0;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(send_fd(sv[0], 0), 0);
	if (setsockopt(sv[1], SOL_SOCKET, SO_PASSRIGHTS, &zero, sizeof(zero)) < 0) {
		assert_int_equal(errno, ENOPROTOOPT);
		print_message("no SO_PASSRIGHTS here (Linux 6.16+)\n");
	} else {
		assert_int_equal(send_fd(sv[0], 0), -EPERM);
		assert_int_equal(send_fd(sv[1], 0), 0); /* the receiver's option decides */
	}
	close(sv[0]);
	close(sv[1]);
}

static int get_int(int fd, int opt)
{
	int v = -1;
	socklen_t len = sizeof(v);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, opt, &v, &len), 0);
	return v;
}

static int wmem_max(void)
{
	char buf[32];
	int fd = open("/proc/sys/net/core/wmem_max", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	assert_true(n > 0);
	buf[n] = 0;
	return (int)strtol(buf, NULL, 10);
}

/* Privilege in the initial user namespace lifts the limit; without, wmem_max caps it. */
static void test_sndbufforce_and_its_limit(void **state)
{
	int fd = kern_unix(SOCK_STREAM), size = 32 << 20, max = wmem_max();
	int r = setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));

	(void)state;
	if (kern_is_user()) {
		assert_int_equal(r, -1);
		assert_int_equal(errno, EPERM);
	} else {
		assert_int_equal(r, 0);
		assert_int_equal(get_int(fd, SO_SNDBUF), 2 * size);
	}
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	if (max > 0 && max < size)
		assert_int_equal(get_int(fd, SO_SNDBUF), 2 * max);
	close(fd);
}

/* A writer's room is its own SO_SNDBUF, whatever the reader set. */
static void test_the_senders_sndbuf_is_the_room(void **state)
{
	static char buf[1 << 16];
	int sv[2], size = 150000, room[2] = { 0, 0 };

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv),
			 0);
	assert_int_equal(setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	size = 20000;
	assert_int_equal(setsockopt(sv[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	for (int i = 0; i < 2; i++) {
		ssize_t n;

		while ((n = write(sv[i], buf, 4096)) > 0)
			room[i] += (int)n;
		assert_int_equal(errno, EAGAIN);
	}
	assert_true(room[0] > 4 * room[1]);
	close(sv[0]);
	close(sv[1]);
}

__attribute__((noreturn)) static void keeper_main(void)
{
	alarm(20); /* when an assertion fails */
	for (;;)
		pause();
}

/* The app of the next test: accepts, tells the number, is killed while it blocks. */
__attribute__((noreturn)) static void victim_main(int listen_fd, int ctl)
{
	int msg[2];

	/* as fork(), but with one fd table for both and no shared memory */
	long keeper = syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);

	if (keeper == 0)
		keeper_main();
	if (keeper < 0)
		_exit(1);
	kern_wait_poke(ctl); /* the connection comes after the clone */
	msg[0] = (int)keeper;
	msg[1] = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	if (msg[1] < 0 || write(ctl, msg, sizeof(msg)) != sizeof(msg))
		_exit(2);
	for (;;)
		pause();
}

static void test_a_shared_fd_table_survives_sigkill(void **state)
{
	int sv[2], l = kern_listen("keep"), c = kern_unix(SOCK_STREAM), msg[2], status;
	int keeper, fd, lcopy, sink;
	struct sockaddr_un sa;
	socklen_t len = kern_abstract(&sa, "keep");
	struct pollfd p = { .fd = c, .events = POLLIN | POLLRDHUP };
	char buf[8];
	pid_t pid;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(c);
		close(sv[0]);
		victim_main(l, sv[1]);
	}
	close(sv[1]);
	lcopy = l;
	kern_poke(sv[0]);
	assert_int_equal(connect(c, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(read(sv[0], msg, sizeof(msg)), sizeof(msg));
	close(l); /* only the two of them hold it now */
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));

	/* the peer notices nothing */
	assert_int_equal(poll(&p, 1, 50), 0);
	assert_int_equal(write(c, "after", 5), 5);

	/* and we, a third process, take the socket and go on */
	keeper = kern_pidfd_open(msg[0]);
	fd = kern_pidfd_getfd(keeper, msg[1]);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, buf, sizeof(buf)), 5);
	assert_int_equal(write(fd, "reply", 5), 5);
	assert_int_equal(read(c, buf, sizeof(buf)), 5);

	/* the listener is alive as well: connect to it, take it, accept */
	sink = kern_unix(SOCK_STREAM);
	assert_int_equal(connect(sink, (struct sockaddr *)&sa, len), 0);
	l = kern_pidfd_getfd(keeper, lcopy);
	assert_true(l >= 0);
	close(fd);
	fd = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	assert_true(fd >= 0);
	close(l);
	close(fd);
	close(sink);

	/* with the last holder everything goes */
	assert_int_equal(poll(&p, 1, 50), 0);
	assert_int_equal(kill(msg[0], SIGKILL), 0);
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_true(p.revents & POLLHUP);
	close(keeper);
	close(sv[0]);
	close(c);
}

static int tests(void)
{
	const struct CMUnitTest t[] = {
		cmocka_unit_test(test_netns_cookie_of_an_accepted_socket_is_the_connectors),
		cmocka_unit_test(test_netns_cookie_is_of_where_the_socket_was_made),
		cmocka_unit_test(test_peerpidfd_names_the_connector),
		cmocka_unit_test(test_passrights_off_keeps_fds_out),
		cmocka_unit_test(test_sndbufforce_and_its_limit),
		cmocka_unit_test(test_the_senders_sndbuf_is_the_room),
		cmocka_unit_test(test_a_shared_fd_table_survives_sigkill),
	};
	char file[sizeof(dir) + 2];
	int r;

	if (!mkdtemp(dir))
		return 1;
	r = cmocka_run_group_tests(t, NULL, NULL);
	snprintf(file, sizeof(file), "%s/s", dir);
	(void)unlink(file);
	(void)rmdir(dir);
	return r;
}

int main(int argc, char **argv)
{
	return kern_main(argc, argv, tests);
}
