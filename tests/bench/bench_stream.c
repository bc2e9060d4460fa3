/* bench_stream - one stream, writes and reads of one size; Gbit/s as the receiver saw it.
 *
 *   bench_stream serve ADDR           connections one after the other, until killed
 *   bench_stream send ADDR SIZE SECONDS [SNDBUF]
 *
 * ADDR is 10.0.0.5:80 or @name. The sender's first eight bytes are SIZE; after its shutdown the
 * server answers with the bytes and microseconds it counted. SNDBUF is set before connecting. */
#include <stddef.h>

#include "bench.h"

static void full(int fd, void *buf, size_t len)
{
	if (recv(fd, buf, len, MSG_WAITALL) != (ssize_t)len)
		die("read");
}

static void serve_one(int fd)
{
	uint64_t head, result[2] = { 0, 0 };
	double t0;
	char *buf;
	ssize_t n;

	if (recv(fd, &head, sizeof(head), MSG_WAITALL) != sizeof(head))
		return; /* somebody who only looked whether we are there */
	buf = malloc(head);
	if (!buf)
		die("malloc");
	t0 = now_us();
	while ((n = read(fd, buf, head)) > 0)
		result[0] += (uint64_t)n;
	result[1] = (uint64_t)(now_us() - t0);
	if (write(fd, result, sizeof(result)) != sizeof(result))
		die("write");
	free(buf);
}

__attribute__((noreturn)) static void serve(const char *where)
{
	int l = listen_on(where);

	for (;;) {
		int fd = must(accept(l, NULL, NULL), "accept");

		serve_one(fd);
		close(fd);
	}
}

static void send_all(const char *where, size_t size, double seconds, long sndbuf)
{
	struct sockaddr_storage sa;
	socklen_t len = address(where, &sa);
	int fd = must(socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
	uint64_t head = size, result[2];
	char *buf = calloc(1, size);
	double end;

	if (!buf)
		die("calloc");
	if (sndbuf) {
		int v = (int)sndbuf;

		if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &v, sizeof(v)) < 0)
			must(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &v, sizeof(v)), "SO_SNDBUF");
	}
	must(connect(fd, (struct sockaddr *)&sa, len), "connect");
	if (write(fd, &head, sizeof(head)) != sizeof(head))
		die("write");
	end = now_us() + seconds * 1e6;
	do { /* the clock costs as much as a small write: not each time */
		for (int i = 0; i < 16; i++)
			if (write(fd, buf, size) < 0)
				die("write");
	} while (now_us() < end);
	must(shutdown(fd, SHUT_WR), "shutdown");
	full(fd, result, sizeof(result));
	printf("%.3f\n", (double)result[0] * 8 / (double)result[1] / 1e3);
	free(buf);
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		serve(argv[2]);
	if (argc < 5 || argc > 6 || strcmp(argv[1], "send") != 0) {
		fprintf(stderr, "usage: bench_stream serve ADDR | "
				"send ADDR SIZE SECONDS [SNDBUF]\n");
		return 2;
	}
	send_all(argv[2], (size_t)number(argv[3]), (double)number(argv[4]),
		 argc == 6 ? number(argv[5]) : 0);
	return 0;
}
