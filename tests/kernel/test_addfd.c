/* Handing a file over: ADDFD, then SEND with the number as the value. */
#include "kern.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The app "accepts" and writes into what it got. */
static int app_accept(int ctl)
{
	long fd = syscall(SYS_accept4, 0, NULL, NULL, 0);
	char buf[8];

	kern_wait_poke(ctl);
	if (fd <= 2 || (fcntl((int)fd, F_GETFD) & FD_CLOEXEC) == 0)
		return 1;
	return write((int)fd, "hello", 5) == 5 && read((int)fd, buf, 5) == 5 ? 0 : 2;
}

static void serve_accept(bool with_send)
{
	struct kern_app a;
	struct seccomp_notif req;
	char buf[8];
	int sv[2], fd;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	kern_app_start(&a, SYS_accept4, app_accept);
	kern_recv(a.listener, &req);
	assert_int_equal(req.data.nr, SYS_accept4);
	assert_int_equal(req.pid, a.pid);
	fd = kern_addfd(a.listener, req.id, sv[1], 0, O_CLOEXEC,
			with_send ? SECCOMP_ADDFD_FLAG_SEND : 0);
	assert_true(fd > 2);
	if (with_send) {
		assert_int_equal(kern_send(a.listener, req.id, fd, 0), -ENOENT);
	} else {
		assert_int_equal(kern_id_valid(a.listener, req.id), 0);
		assert_int_equal(kern_send(a.listener, req.id, fd, 0), 0);
	}
	close(sv[1]);
	assert_int_equal(write(sv[0], "world", 5), 5);
	kern_poke(a.ctl);
	assert_int_equal(kern_app_wait(&a), 0);
	assert_int_equal(read(sv[0], buf, 5), 5);
	assert_memory_equal(buf, "hello", 5);
	close(sv[0]);
}

static void test_addfd_then_send_gives_the_fd_as_value(void **state)
{
	(void)state;
	serve_accept(false);
}

static void test_addfd_with_send_answers_at_once(void **state)
{
	(void)state;
	serve_accept(true);
}

/* Calls under a storm of signals, each of which is to return a new fd. */
#define STORM_CALLS 20000

static void on_alarm(int sig)
{
	(void)sig;
}

static int app_storm(int ctl)
{
	struct sigaction sa = { .sa_handler = on_alarm };
	struct itimerval every = { { 0, 100 }, { 0, 100 } };
	int32_t got = 0;

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
	for (int i = 0; i < STORM_CALLS; i++) {
		long fd = syscall(SYS_accept4, 0, NULL, NULL, 0);

		if (fd == 0)
			return 1; /* an answer without an fd */
		if (fd > 0) {
			got++;
			close((int)fd);
		}
	}
	memset(&every, 0, sizeof(every));
	setitimer(ITIMER_REAL, &every, NULL);
	return write(ctl, &got, sizeof(got)) == sizeof(got) ? 0 : 2;
}

/* What the one who answers counts as done is what the app has seen: no more, no less. (SEND alone
 * does not hold this: an acknowledged answer can be dropped when a signal has just woken the app.) */
static void test_addfd_with_send_is_all_or_nothing_under_signals(void **state)
{
	struct kern_app a;
	struct seccomp_notif req;
	struct pollfd p[2];
	int32_t got = -1, done = 0;

	(void)state;
	kern_app_start(&a, SYS_accept4, app_storm);
	p[0] = (struct pollfd){ .fd = a.listener, .events = POLLIN };
	p[1] = (struct pollfd){ .fd = a.ctl, .events = POLLIN };
	while (poll(p, 2, 20000) > 0 && !(p[1].revents & POLLIN)) {
		memset(&req, 0, sizeof(req));
		if (ioctl(a.listener, SECCOMP_IOCTL_NOTIF_RECV, &req) == 0 &&
		    kern_addfd(a.listener, req.id, a.ctl, 0, 0, SECCOMP_ADDFD_FLAG_SEND) > 0)
			done++;
	}
	assert_int_equal(read(a.ctl, &got, sizeof(got)), sizeof(got));
	assert_int_equal(got, done);
	assert_int_equal(kern_app_wait(&a), 0);
}

/* The app keeps its number, the file behind it is another one. */
static int app_connect(int ctl)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), keep = -1;
	long r;
	int domain = 0;
	socklen_t len = sizeof(domain);

	if (write(ctl, &fd, sizeof(fd)) != sizeof(fd))
		return 1;
	keep = dup(fd);
	r = syscall(SYS_connect, fd, NULL, 0);
	if (r != 0)
		return 2;
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0 || domain != AF_UNIX)
		return 3;
	if (getsockopt(keep, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0 || domain != AF_INET)
		return 4;
	return 0;
}

static void test_setfd_replaces_the_file_behind_a_number(void **state)
{
	struct kern_app a;
	struct seccomp_notif req;
	int num, fd = kern_unix(SOCK_STREAM);

	(void)state;
	kern_app_start(&a, SYS_connect, app_connect);
	assert_int_equal(read(a.ctl, &num, sizeof(num)), sizeof(num));
	kern_recv(a.listener, &req);
	assert_int_equal(req.data.args[0], num);
	assert_int_equal(kern_addfd(a.listener, req.id, fd, num, 0, SECCOMP_ADDFD_FLAG_SETFD),
			 num);
	assert_int_equal(kern_send(a.listener, req.id, 0, 0), 0);
	assert_int_equal(kern_app_wait(&a), 0);
	close(fd);
}

/* SETFD|SEND cannot answer a connect(): its value is the fd number. */
static int app_connect_value(int ctl)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (write(ctl, &fd, sizeof(fd)) != sizeof(fd))
		return 1;
	return syscall(SYS_connect, fd, NULL, 0) == fd ? 0 : 2;
}

static void test_setfd_with_send_returns_the_number(void **state)
{
	struct kern_app a;
	struct seccomp_notif req;
	int num, fd = kern_unix(SOCK_STREAM);

	(void)state;
	kern_app_start(&a, SYS_connect, app_connect_value);
	assert_int_equal(read(a.ctl, &num, sizeof(num)), sizeof(num));
	kern_recv(a.listener, &req);
	assert_int_equal(kern_addfd(a.listener, req.id, fd, num, 0,
				    SECCOMP_ADDFD_FLAG_SETFD | SECCOMP_ADDFD_FLAG_SEND),
			 num);
	assert_int_equal(kern_app_wait(&a), 0);
	close(fd);
}

/* A stopped target cannot hold the worker up: ENOENT, and the call comes again after CONT. */
static int app_accept_value(int ctl)
{
	(void)ctl;
	return syscall(SYS_accept4, 0, NULL, NULL, 0) == 42 ? 0 : 1;
}

static long elapsed_ms(const struct timespec *t0)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (t.tv_sec - t0->tv_sec) * 1000 + (t.tv_nsec - t0->tv_nsec) / 1000000;
}

static void test_stopped_target_gives_enoent_at_once(void **state)
{
	struct kern_app a;
	struct seccomp_notif req, again;
	struct timespec t0;
	int status, fd = kern_unix(SOCK_STREAM);

	(void)state;
	kern_app_start(&a, SYS_accept4, app_accept_value);
	kern_recv(a.listener, &req);
	assert_int_equal(kill(a.pid, SIGSTOP), 0);
	assert_int_equal(waitpid(a.pid, &status, WUNTRACED), a.pid);
	assert_true(WIFSTOPPED(status));
	clock_gettime(CLOCK_MONOTONIC, &t0);
	assert_int_equal(kern_addfd(a.listener, req.id, fd, 0, 0, 0), -ENOENT);
	assert_int_equal(kern_send(a.listener, req.id, 0, 0), -ENOENT);
	assert_true(elapsed_ms(&t0) < 1000);
	assert_int_equal(kill(a.pid, SIGCONT), 0);
	kern_recv(a.listener, &again);
	assert_true(again.id != req.id);
	assert_int_equal(kern_send(a.listener, again.id, 42, 0), 0);
	assert_int_equal(kern_app_wait(&a), 0);
	close(fd);
}

static void test_killed_target_gives_enoent(void **state)
{
	struct kern_app a;
	struct seccomp_notif req;
	struct pollfd p;
	int fd = kern_unix(SOCK_STREAM), status;

	(void)state;
	kern_app_start(&a, SYS_accept4, app_accept_value);
	kern_recv(a.listener, &req);
	assert_int_equal(kill(a.pid, SIGKILL), 0);
	p = (struct pollfd){ .fd = a.pidfd, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(kern_addfd(a.listener, req.id, fd, 0, 0, 0), -ENOENT);
	assert_int_equal(kern_send(a.listener, req.id, 0, 0), -ENOENT);
	status = kern_app_wait(&a);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	close(fd);
}

static int tests(void)
{
	const struct CMUnitTest t[] = {
		cmocka_unit_test(test_addfd_then_send_gives_the_fd_as_value),
		cmocka_unit_test(test_addfd_with_send_answers_at_once),
		cmocka_unit_test(test_addfd_with_send_is_all_or_nothing_under_signals),
		cmocka_unit_test(test_setfd_replaces_the_file_behind_a_number),
		cmocka_unit_test(test_setfd_with_send_returns_the_number),
		cmocka_unit_test(test_stopped_target_gives_enoent_at_once),
		cmocka_unit_test(test_killed_target_gives_enoent),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}

int main(int argc, char **argv)
{
	return kern_main(argc, argv, tests);
}
