/* bench_conn - connect, one byte each way, close; one at a time.
 *
 *   bench_conn serve ADDR blocking|epoll OTHER_FDS     until killed
 *   bench_conn call ADDR blocking|epoll OTHER_FDS N    prints: median p99 (µs)
 *   bench_conn hold ADDR N    opens N connections, says "ready", holds them until stdin ends
 *
 * OTHER_FDS more files are open meanwhile; with epoll they are in the set as well. The epoll
 * client adds its socket to the set before it connects, as nginx, libevent and Java do. */
#include <stddef.h>

#include "bench.h"

#include <fcntl.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

static void raise_nofile(void)
{
	struct rlimit r;

	must(getrlimit(RLIMIT_NOFILE, &r), "getrlimit");
	r.rlim_cur = r.rlim_max;
	must(setrlimit(RLIMIT_NOFILE, &r), "setrlimit");
}

static int make_set(bool use_epoll, long others)
{
	int ep = use_epoll ? must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1") : -1;

	for (long i = 0; i < others; i++) {
		int fd = must(eventfd(0, EFD_CLOEXEC), "eventfd");
		struct epoll_event ev = { .events = EPOLLIN, .data.fd = fd };

		if (use_epoll)
			must(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), "epoll_ctl");
	}
	return ep;
}

/* Answers the bytes that come, closes when the peer did. False: the connection is over. */
static bool echo(int fd)
{
	char buf[16];
	ssize_t n = read(fd, buf, sizeof(buf));

	if (n > 0 && write(fd, buf, (size_t)n) == n)
		return true;
	return n < 0 && errno == EAGAIN;
}

__attribute__((noreturn)) static void serve_blocking(int l)
{
	for (;;) {
		int fd = must(accept(l, NULL, NULL), "accept");

		while (echo(fd))
			;
		close(fd);
	}
}

static void accept_all(int ep, int l)
{
	for (;;) {
		int fd = accept4(l, NULL, NULL, SOCK_NONBLOCK);
		struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP, .data.fd = fd };

		if (fd < 0 && (errno == EAGAIN || errno == ECONNABORTED))
			return;
		must(fd, "accept4");
		must(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), "epoll_ctl");
	}
}

__attribute__((noreturn)) static void serve_epoll(int l, int ep)
{
	struct epoll_event ev[64] = { { .events = EPOLLIN, .data.fd = l } };

	must(fcntl(l, F_SETFL, O_NONBLOCK), "fcntl");
	must(epoll_ctl(ep, EPOLL_CTL_ADD, l, ev), "epoll_ctl");
	for (;;) {
		int n = must(epoll_wait(ep, ev, 64, -1), "epoll_wait");

		for (int i = 0; i < n; i++) {
			if (ev[i].data.fd == l)
				accept_all(ep, l);
			else if (!echo(ev[i].data.fd))
				close(ev[i].data.fd);
		}
	}
}

static void wait_for(int ep, uint32_t events)
{
	struct epoll_event ev;

	do {
		must(epoll_wait(ep, &ev, 1, 5000), "epoll_wait");
	} while (!(ev.events & events));
}

static void call_once(const struct sockaddr_storage *sa, socklen_t len, int ep)
{
	int type = SOCK_STREAM | SOCK_CLOEXEC | (ep < 0 ? 0 : SOCK_NONBLOCK);
	int fd = must(socket(sa->ss_family, type, 0), "socket");
	struct epoll_event ev = { .events = EPOLLOUT | EPOLLET, .data.fd = fd };
	char c = 'x';

	if (ep >= 0)
		must(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), "epoll_ctl");
	if (connect(fd, (const struct sockaddr *)sa, len) < 0) {
		if (ep < 0 || errno != EINPROGRESS)
			die("connect");
		wait_for(ep, EPOLLOUT);
	}
	if (write(fd, &c, 1) != 1)
		die("write");
	if (ep >= 0) {
		ev.events = EPOLLIN;
		must(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &ev), "epoll_ctl");
		wait_for(ep, EPOLLIN);
	}
	if (read(fd, &c, 1) != 1)
		die("read");
	close(fd);
}

static void call(const char *where, int ep, long n)
{
	struct sockaddr_storage sa;
	socklen_t len = address(where, &sa);
	double *us = calloc((size_t)n, sizeof(*us));

	if (!us || n < 1)
		die("calloc");
	for (int i = 0; i < 50; i++)
		call_once(&sa, len, ep);
	for (long i = 0; i < n; i++) {
		double t0 = now_us();

		call_once(&sa, len, ep);
		us[i] = now_us() - t0;
	}
	qsort(us, (size_t)n, sizeof(*us), by_value);
	printf("%.2f %.2f\n", us[n / 2], us[n * 99 / 100]);
	free(us);
}

static void hold(const char *where, long n)
{
	struct sockaddr_storage sa;
	socklen_t len = address(where, &sa);
	char c;

	alarm(60);
	for (long i = 0; i < n; i++) {
		int fd = must(socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");

		must(connect(fd, (struct sockaddr *)&sa, len), "connect");
		/* one at a time, or a backlog of somaxconn is the measure */
		if (write(fd, "x", 1) != 1 || read(fd, &c, 1) != 1)
			die("echo");
	}
	alarm(0);
	printf("ready\n");
	fflush(stdout);
	while (read(0, &c, 1) > 0)
		;
}

int main(int argc, char **argv)
{
	bool use_epoll = argc > 3 && strcmp(argv[3], "epoll") == 0;

	raise_nofile();
	if (argc == 5 && strcmp(argv[1], "serve") == 0) {
		int ep = make_set(use_epoll, number(argv[4])), l = listen_on(argv[2]);

		if (use_epoll)
			serve_epoll(l, ep);
		serve_blocking(l);
	} else if (argc == 6 && strcmp(argv[1], "call") == 0) {
		call(argv[2], make_set(use_epoll, number(argv[4])), number(argv[5]));
	} else if (argc == 4 && strcmp(argv[1], "hold") == 0) {
		hold(argv[2], number(argv[3]));
	} else {
		fprintf(stderr, "usage: bench_conn serve ADDR blocking|epoll FDS | "
				"call ADDR blocking|epoll FDS N | hold ADDR N\n");
		return 2;
	}
	return 0;
}
