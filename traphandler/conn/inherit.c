#include "traphandler/conn/inherit.h"

#include <appswitch/util.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif

/* A program may change its listener while it serves; a few accepts later is soon enough. */
#define MAX_AGE_MS 50

static const struct {
	int name;
	socklen_t size;
	int dflt;     /* as an int; the rest of the value is zero */
	int buf_lock; /* only if the app chose it: this bit of SO_BUF_LOCK; the value is doubled */
} opts[INHERIT_OPTS] = {
	{ SO_KEEPALIVE, sizeof(int), 0, 0 },
	{ SO_REUSEADDR, sizeof(int), 0, 0 },
	{ SO_OOBINLINE, sizeof(int), 0, 0 },
	{ SO_RCVLOWAT, sizeof(int), 1, 0 },
	{ SO_PRIORITY, sizeof(int), 0, 0 },
	{ SO_LINGER, sizeof(struct linger), 0, 0 },
	{ SO_RCVTIMEO, sizeof(struct timeval), 0, 0 },
	{ SO_SNDTIMEO, sizeof(struct timeval), 0, 0 },
	{ SO_SNDBUF, sizeof(int), 0, 1 },
	{ SO_RCVBUF, sizeof(int), 0, 2 },
};

static uint64_t clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

void inherit_init(struct inherit *in)
{
	memset(in, 0, sizeof(*in));
	pthread_mutex_init(&in->lock, NULL);
}

void inherit_done(struct inherit *in)
{
	pthread_mutex_destroy(&in->lock);
}

static void read_options(struct inherit *in, int listening)
{
	int locks = 0;
	socklen_t len = sizeof(locks);

	in->set = 0;
	(void)getsockopt(listening, SOL_SOCKET, SO_BUF_LOCK, &locks, &len);
	for (unsigned i = 0; i < INHERIT_OPTS; i++) {
		char dflt[16] = { 0 };

		if (opts[i].buf_lock != 0 && !(locks & opts[i].buf_lock))
			continue;
		memcpy(dflt, &opts[i].dflt, sizeof(int));
		len = opts[i].size;
		if (getsockopt(listening, SOL_SOCKET, opts[i].name, in->values[i], &len) < 0 ||
		    memcmp(in->values[i], dflt, len) == 0)
			continue;
		if (opts[i].buf_lock != 0) {
			int size;

			memcpy(&size, in->values[i], sizeof(size));
			size /= 2;
			memcpy(in->values[i], &size, sizeof(size));
		}
		in->set |= 1u << i;
	}
}

void inherit_apply(struct inherit *in, int listening, int fd)
{
	uint64_t now = clock_ms();

	pthread_mutex_lock(&in->lock);
	if (listening >= 0 && (in->read_ms == 0 || now - in->read_ms > MAX_AGE_MS)) {
		read_options(in, listening);
		in->read_ms = now;
	}
	for (unsigned i = 0; in->set >> i != 0; i++) {
		if (in->set & (1u << i))
			setsockopt(fd, SOL_SOCKET, opts[i].name, in->values[i], opts[i].size);
	}
	pthread_mutex_unlock(&in->lock);
}

void inherit_protocol(int anchor, int fd)
{
	static const struct {
		int level, name;
	} names[] = {
		{ IPPROTO_TCP, TCP_NODELAY },
		{ IPPROTO_TCP, TCP_KEEPIDLE },
		{ IPPROTO_TCP, TCP_KEEPINTVL },
		{ IPPROTO_TCP, TCP_KEEPCNT },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT },
		{ IPPROTO_TCP, TCP_LINGER2 },
		{ IPPROTO_TCP, TCP_NOTSENT_LOWAT },
		{ IPPROTO_TCP, TCP_CONGESTION },
		{ IPPROTO_IP, IP_TOS },
		{ IPPROTO_IP, IP_TTL },
		{ IPPROTO_IPV6, IPV6_TCLASS },
		{ IPPROTO_IPV6, IPV6_UNICAST_HOPS },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char has[16] = { 0 }, is[16] = { 0 };
		socklen_t len = sizeof(has), is_len = sizeof(is);

		if (getsockopt(anchor, names[i].level, names[i].name, has, &len) == 0 &&
		    getsockopt(fd, names[i].level, names[i].name, is, &is_len) == 0 &&
		    memcmp(has, is, sizeof(has)) != 0)
			setsockopt(fd, names[i].level, names[i].name, has, len);
	}
}
