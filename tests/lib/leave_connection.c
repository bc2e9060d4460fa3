/* leave_connection - a server that tries to get from its end of a connection into the namespace of
 * its client (tests/integration/large-epoll.sh).
 *
 *   leave_connection PORT SECRET    accepts two connections on PORT; the second one is to be carried
 *
 * connect() and bind() are looked at by the daemon on the file at a number, and where the answer is
 * the kernel's, made on the file that is there then. A second thread exchanges the two with close()
 * and pidfd_getfd(), which nobody traps. Prints how far it got; "read: ..." if it read from the
 * client's 127.0.0.1:SECRET. */
#include <arpa/inet.h>
#include <fcntl.h>
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

#define TRIES 20000

static int self, carried, bait;
static atomic_int number;
static atomic_bool running;

static struct sockaddr_in loopback(int port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons((uint16_t)port),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static void *exchange(void *arg)
{
	int files[2] = { bait, carried };

	for (unsigned i = 0; running; i++) {
		close(number);
		syscall(SYS_pidfd_getfd, self, files[i % 2], 0);
		for (volatile int n = 0; n < 300; n++)
			;
	}
	return arg;
}

static int tcp_state(void)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	getsockopt(carried, IPPROTO_TCP, TCP_INFO, &info, &len);
	return info.tcpi_state;
}

static bool is_out(void)
{
	return tcp_state() == TCP_CLOSE;
}

static bool is_bound(void)
{
	struct sockaddr_in sa = { 0 };
	socklen_t len = sizeof(sa);

	getsockname(carried, (struct sockaddr *)&sa, &len);
	return sa.sin_addr.s_addr == htonl(INADDR_LOOPBACK);
}

static bool is_connected(void)
{
	return tcp_state() == TCP_ESTABLISHED || tcp_state() == TCP_CLOSE_WAIT;
}

/* True if the call was made on the connection at last. */
static bool race(const char *what, int (*call)(int, const struct sockaddr *, socklen_t),
		 const struct sockaddr *sa, socklen_t len, bool (*won)(void))
{
	time_t end = time(NULL) + 10;
	pthread_t thread;
	int i;

	number = dup(bait);
	running = true;
	pthread_create(&thread, NULL, exchange, NULL);
	for (i = 0; i < TRIES && time(NULL) < end && !won(); i++)
		call(number, sa, len);
	running = false;
	pthread_join(thread, NULL);
	close(number);
	printf("%s: %s after %d calls\n", what, won() ? "done" : "not done", i);
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

static int new_socket(void)
{
	return must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), "socket");
}

static int listen_on(const struct sockaddr_in *sa)
{
	int fd = must(socket(AF_INET, SOCK_STREAM, 0), "socket"), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	must(bind(fd, (const struct sockaddr *)sa, sizeof(*sa)), "bind");
	must(listen(fd, 8), "listen");
	return fd;
}

int main(int argc, char **argv)
{
	struct sockaddr any = { .sa_family = AF_UNSPEC };
	struct sockaddr_in at = { .sin_family = AF_INET }, secret, own = loopback(0);
	struct pollfd p = { .events = POLLIN };
	char buf[100];
	ssize_t n;
	int l;

	if (argc != 3)
		return 2;
	at.sin_port = htons((uint16_t)atoi(argv[1]));
	secret = loopback(atoi(argv[2]));
	l = listen_on(&at);
	must(accept(l, NULL, NULL), "accept");
	carried = must(accept(l, NULL, NULL), "accept");
	must((int)read(carried, buf, 1), "read");
	must(fcntl(carried, F_SETFL, O_NONBLOCK), "fcntl");
	self = must((int)syscall(SYS_pidfd_open, getpid(), 0), "pidfd_open");

	p.fd = carried;
	bait = new_socket();
	if (race("out of its connection", connect, &any, sizeof(any), is_out)) {
		close(bait);
		bait = new_socket();
		race("bound to the client's loopback", bind, (struct sockaddr *)&own,
		     sizeof(own), is_bound);
		close(bait);
		bait = new_socket();
		race("connected there", connect, (struct sockaddr *)&secret, sizeof(secret),
		     is_connected);
	}
	poll(&p, 1, 1000);
	n = recv(carried, buf, sizeof(buf), 0);
	if (n > 0)
		printf("read: %.*s\n", (int)n, buf);
	printf("end\n");
	return 0;
}
