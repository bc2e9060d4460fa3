/* bench.h - the few lines that every benchmark program needs. Any failure ends it. */
#ifndef BENCH_H
#define BENCH_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

__attribute__((noreturn)) static inline void die(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static inline double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static inline int must(int r, const char *what)
{
	if (r < 0)
		die(what);
	return r;
}

static inline long number(const char *s)
{
	char *end;
	long n = strtol(s, &end, 10);

	if (*end || end == s || n < 0) {
		fprintf(stderr, "bench: not a number: %s\n", s);
		exit(2);
	}
	return n;
}

/* "10.0.0.5:80", or "@name" for an abstract UNIX socket. */
static inline socklen_t address(const char *s, struct sockaddr_storage *ret)
{
	struct sockaddr_in *in = (struct sockaddr_in *)ret;
	struct sockaddr_un *un = (struct sockaddr_un *)ret;
	char host[64];
	const char *colon;

	memset(ret, 0, sizeof(*ret));
	if (*s == '@') {
		un->sun_family = AF_UNIX;
		snprintf(un->sun_path + 1, sizeof(un->sun_path) - 1, "%s", s + 1);
		return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(s));
	}
	colon = strchr(s, ':');
	if (!colon || colon - s >= (long)sizeof(host)) {
		fprintf(stderr, "bench: not an address: %s\n", s);
		exit(2);
	}
	memcpy(host, s, (size_t)(colon - s));
	host[colon - s] = 0;
	in->sin_family = AF_INET;
	in->sin_port = htons((uint16_t)number(colon + 1));
	if (inet_pton(AF_INET, host, &in->sin_addr) != 1)
		die(s);
	return sizeof(*in);
}

static inline int listen_on(const char *where)
{
	struct sockaddr_storage sa;
	socklen_t len = address(where, &sa);
	int fd = must(socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"), one = 1;

	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	must(bind(fd, (struct sockaddr *)&sa, len), "bind");
	must(listen(fd, 511), "listen");
	return fd;
}

static inline int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

#endif
