/* epoll items are keyed by (file, fd number): a replaced file can be added under the old
 * number from a helper with its own fd table, and the app cannot tell. */
#include "kern.h"

#include <linux/kcmp.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NUM_EP = 70, NUM_SOCK = 71 }; /* the numbers in the app */

struct reg {
	uint64_t data;
	uint32_t events;
};

static bool epoll_says(int ep, uint64_t data, uint32_t events)
{
	struct epoll_event ev;

	return epoll_wait(ep, &ev, 1, 2000) == 1 && ev.data.u64 == data &&
	       (ev.events & events) == events;
}

/* A TCP socket in an epoll set; connect() replaces the file; then the app's own DEL and MOD
 * must work on it, and events carry the data given before. */
static int app_client(int ctl)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.u64 = 0xfeed0001 };
	int ep = epoll_create1(EPOLL_CLOEXEC), s = socket(AF_INET, SOCK_STREAM, 0);
	char buf[16];

	if (dup2(ep, NUM_EP) < 0 || dup2(s, NUM_SOCK) < 0)
		return 1;
	close(ep);
	close(s);
	if (epoll_ctl(NUM_EP, EPOLL_CTL_ADD, NUM_SOCK, &ev) < 0)
		return 2;
	if (epoll_wait(NUM_EP, &ev, 1, 0) < 0) /* an unconnected socket says HUP: drained */
		return 3;
	if (syscall(SYS_connect, NUM_SOCK, NULL, 0) != 0)
		return 4;
	kern_poke(ctl); /* the peer writes now */
	if (!epoll_says(NUM_EP, 0xfeed0001, EPOLLIN))
		return 5;
	if (read(NUM_SOCK, buf, sizeof(buf)) != 1)
		return 6;
	ev = (struct epoll_event){ .events = EPOLLOUT, .data.u64 = 0xfeed0002 };
	if (epoll_ctl(NUM_EP, EPOLL_CTL_MOD, NUM_SOCK, &ev) < 0)
		return 7;
	if (!epoll_says(NUM_EP, 0xfeed0002, EPOLLOUT))
		return 8;
	if (epoll_ctl(NUM_EP, EPOLL_CTL_DEL, NUM_SOCK, &ev) < 0)
		return 9;
	return epoll_ctl(NUM_EP, EPOLL_CTL_DEL, NUM_SOCK, &ev) < 0 && errno == ENOENT ? 0 : 10;
}

/* How many items of @num the set has. */
static int fdinfo_find(pid_t pid, int epfd, int num, struct reg *ret)
{
	char path[64], line[256];
	int found = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", pid, epfd);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long long data;
		unsigned events;
		int tfd;

		if (sscanf(line, "tfd: %d events: %x data: %llx", &tfd, &events, &data) == 3 &&
		    tfd == num) {
			*ret = (struct reg){ .data = data, .events = events };
			found++;
		}
	}
	fclose(f);
	return found;
}

/* 0: the set has the file behind @num. Several items of one number are told apart by their
 * order (toff) only, so one has to ask for each. */
static int kcmp_tfd(pid_t pid, int num, int ep)
{
	struct kcmp_epoll_slot slot = { .efd = (unsigned)ep, .tfd = (unsigned)num };
	int r;

	do {
		r = (int)syscall(SYS_kcmp, pid, pid, KCMP_EPOLL_TFD, num, &slot);
		slot.toff++;
	} while (r > 0);
	return r;
}

struct readd {
	int ep, fd, num;
	struct reg reg;
	int result;
};

/* Own fd table: the number is free to use, and nothing of the others' changes. */
static void *readd_thread(void *arg)
{
	struct readd *r = arg;
	struct epoll_event ev = { .events = r->reg.events, .data.u64 = r->reg.data };
	int ep;

	r->result = -1;
	if (unshare(CLONE_FILES) < 0)
		return NULL;
	ep = r->ep;
	if (ep == r->num) {
		ep = dup(ep);
		if (ep < 0)
			return NULL;
	}
	if (dup2(r->fd, r->num) != r->num)
		return NULL;
	r->result = epoll_ctl(ep, EPOLL_CTL_ADD, r->num, &ev);
	return NULL;
}

static void test_readding_under_the_same_number(void **state)
{
	struct kern_app a;
	struct seccomp_notif req;
	struct readd r = { .num = NUM_SOCK };
	pthread_t t;
	int sv[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	kern_app_start(&a, SYS_connect, app_client);
	kern_recv(a.listener, &req);
	assert_int_equal(req.data.args[0], NUM_SOCK);

	/* the set knows the old file, and says with what */
	assert_int_equal(kcmp_tfd(a.pid, NUM_SOCK, NUM_EP), 0);
	assert_int_equal(fdinfo_find(a.pid, NUM_EP, NUM_SOCK, &r.reg), 1);
	assert_int_equal(r.reg.data, 0xfeed0001);
	assert_true((r.reg.events & (EPOLLIN | EPOLLET)) == (EPOLLIN | EPOLLET));

	/* The old file, and its item, go when the target returns to user mode (the last fput
	 * is its task work), not with ADDFD: for a moment the set has both. */
	assert_int_equal(
		kern_addfd(a.listener, req.id, sv[1], NUM_SOCK, 0, SECCOMP_ADDFD_FLAG_SETFD),
		NUM_SOCK);

	r.ep = kern_pidfd_getfd(a.pidfd, NUM_EP);
	r.fd = sv[1];
	assert_true(r.ep >= 0);
	assert_int_equal(pthread_create(&t, NULL, readd_thread, &r), 0);
	pthread_join(t, NULL);
	assert_int_equal(r.result, 0);
	assert_int_equal(kcmp_tfd(a.pid, NUM_SOCK, NUM_EP), 0);

	assert_int_equal(kern_send(a.listener, req.id, 0, 0), 0);
	close(sv[1]); /* only the app has it now */
	close(r.ep);
	kern_wait_poke(a.ctl);
	assert_int_equal(fdinfo_find(a.pid, NUM_EP, NUM_SOCK, &r.reg),
			 1); /* the new one only */
	assert_int_equal(r.reg.data, 0xfeed0001);
	kern_poke(sv[0]);
	assert_int_equal(kern_app_wait(&a), 0);
	close(sv[0]);
}

/* Added from the table of the host under another number, the app's DEL would not find it:
 * this is why the number matters. */
static void test_another_number_is_another_item(void **state)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = epoll_create1(EPOLL_CLOEXEC), sv[2], other;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	other = dup(sv[0]);
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, other, &ev), 0);
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_MOD, sv[0], &ev), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, sv[0], &ev), 0);
	close(other);
	close(sv[0]);
	close(sv[1]);
	close(ep);
}

static void test_kcmp_tells_whether_a_set_has_a_file(void **state)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = epoll_create1(EPOLL_CLOEXEC), sv[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(kcmp_tfd(getpid(), sv[0], ep), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, sv[0], &ev), 0);
	assert_int_equal(kcmp_tfd(getpid(), sv[0], ep), 0);
	close(sv[0]);
	close(sv[1]);
	close(ep);
}

static int tests(void)
{
	const struct CMUnitTest t[] = {
		cmocka_unit_test(test_readding_under_the_same_number),
		cmocka_unit_test(test_another_number_is_another_item),
		cmocka_unit_test(test_kcmp_tells_whether_a_set_has_a_file),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}

int main(int argc, char **argv)
{
	return kern_main(argc, argv, tests);
}
