#include "traphandler/conn/inherit.h"

#include <appswitch/util.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#ifndef TCP_RTO_MAX_MS
#define TCP_RTO_MAX_MS 44 /* 6.15 */
#endif
#ifndef IP_MINTTL
#define IP_MINTTL 21
#endif
#ifndef IPV6_MINHOPCOUNT
#define IPV6_MINHOPCOUNT 73
#endif
#ifndef IPV6_AUTOFLOWLABEL
#define IPV6_AUTOFLOWLABEL 70
#endif
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

struct protocol_opt {
	int level, name;
};

static const struct protocol_opt protocol_opts[INHERIT_PROTOCOL] = {
	{ IPPROTO_TCP, TCP_NODELAY },
	{ IPPROTO_TCP, TCP_CORK },
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
	{ IPPROTO_TCP, TCP_SYNCNT },
	{ IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS },
	{ IPPROTO_TCP, TCP_RTO_MAX_MS },
	{ IPPROTO_IP, IP_MTU_DISCOVER },
	{ IPPROTO_IP, IP_MINTTL },
	{ IPPROTO_IP, IP_RECVTOS },
	{ IPPROTO_IP, IP_RECVTTL },
	{ IPPROTO_IP, IP_PKTINFO },
	{ IPPROTO_IPV6, IPV6_MTU_DISCOVER },
	{ IPPROTO_IPV6, IPV6_DONTFRAG },
	{ IPPROTO_IPV6, IPV6_MINHOPCOUNT },
	{ IPPROTO_IPV6, IPV6_RECVTCLASS },
	{ IPPROTO_IPV6, IPV6_RECVHOPLIMIT },
	{ IPPROTO_IPV6, IPV6_RECVPKTINFO },
};
_Static_assert(INHERIT_PROTOCOL <= 32, "one bit of protocol_set each");

/* What else decides how a connection is made. */
static const struct protocol_opt handshake_opts[] = {
	{ IPPROTO_TCP, TCP_MAXSEG },
	{ IPPROTO_TCP, TCP_WINDOW_CLAMP },
	{ IPPROTO_TCP, TCP_QUICKACK },
	{ IPPROTO_IPV6, IPV6_AUTOFLOWLABEL },
};

/* True if @from has it and @other's is another one: the value in @ret. */
static bool differs(const struct protocol_opt *o, int from, int other, char ret[16],
		    socklen_t *ret_len)
{
	char is[16] = { 0 };
	socklen_t len = sizeof(is);

	memset(ret, 0, 16);
	*ret_len = 16;
	return getsockopt(from, o->level, o->name, ret, ret_len) == 0 &&
	       getsockopt(other, o->level, o->name, is, &len) == 0 && memcmp(ret, is, 16) != 0;
}

static void copy_differing(const struct protocol_opt *o, size_t n, int from, int to)
{
	char value[16];
	socklen_t len;

	for (size_t i = 0; i < n; i++) {
		if (differs(&o[i], from, to, value, &len))
			setsockopt(to, o[i].level, o[i].name, value, len);
	}
}

void inherit_protocol(int anchor, int fd)
{
	copy_differing(protocol_opts, ARRAY_SIZE(protocol_opts), anchor, fd);
}

void inherit_unconnected(int old, int fd)
{
	inherit_protocol(old, fd);
	copy_differing(handshake_opts, ARRAY_SIZE(handshake_opts), old, fd);
}

static socklen_t protocol_size(int i)
{
	return protocol_opts[i].name == TCP_CONGESTION && protocol_opts[i].level == IPPROTO_TCP
		       ? 16
		       : sizeof(int);
}

void inherit_apply_protocol(struct inherit *in, int anchor, int usual, int fd)
{
	uint64_t now = clock_ms();
	socklen_t len;

	pthread_mutex_lock(&in->lock);
	if (in->protocol_read_ms == 0 || now - in->protocol_read_ms > MAX_AGE_MS) {
		in->protocol_set = 0;
		for (unsigned i = 0; i < INHERIT_PROTOCOL; i++) {
			if (differs(&protocol_opts[i], anchor, usual, in->protocol[i], &len))
				in->protocol_set |= 1u << i;
		}
		in->protocol_read_ms = now;
	}
	for (int i = 0; in->protocol_set >> i != 0; i++) {
		if (in->protocol_set & (1u << i))
			setsockopt(fd, protocol_opts[i].level, protocol_opts[i].name,
				   in->protocol[i], protocol_size(i));
	}
	pthread_mutex_unlock(&in->lock);
}
