#include "traphandler/conn/carry.h"

#include "traphandler/conn/appns.h"
#include "traphandler/conn/closer.h"
#include "traphandler/conn/inside.h"
#include "traphandler/conn/replace.h"
#include "traphandler/conn/waiting.h"
#include "traphandler/service/registry.h"
#include "traphandler/service/sockrec.h"

#include <appswitch/log.h>
#include <appswitch/util.h>

#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define JOIN_MS 100

bool carry_wanted(struct trap *t, const struct sock *s, const struct as_endpoint *dest)
{
	/* the mark last: it takes a system call, and most connects end before. One of the app's stays */
	return t->app->appns != APPNS_UNABLE && !inside_is_own(t->app, &dest->addr) &&
	       replace_is_costly(t, trap_int(t, 0)) &&
	       (standin_mark(s->fd) == 0 || appns_marked(s->fd));
}

static bool has_room(struct trap *t)
{
	bool room;

	pthread_mutex_lock(&t->sw->lock);
	room = waiting_has_room(t->app, NULL);
	pthread_mutex_unlock(&t->sw->lock);
	return room;
}

/* Somebody who listens at @at in the namespace we are in; fd or -errno. */
static int listen_at(const struct as_endpoint *at, int face)
{
	static const int one = 1;
	struct sockaddr_storage ss;
	socklen_t len = as_endpoint_to_sockaddr(at, face, &ss);
	_cleanup_close_ int fd = socket(face, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	/* an address that the namespace does not have, and a port on which the app may listen
	 * itself: in repair mode (tcp(7), CAP_NET_ADMIN) bind() asks nobody */
	if (fd < 0 ||
	    (face == AF_INET
		     ? setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &one, sizeof(one))
		     : setsockopt(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, &one, sizeof(one))) < 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &one, sizeof(one)) < 0 ||
	    bind(fd, (struct sockaddr *)&ss, len) < 0 || listen(fd, 1) < 0)
		return -errno;
	return fd_steal(&fd);
}

static bool same_endpoint(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	struct as_endpoint x, y;

	return as_endpoint_from_sockaddr(a, sizeof(*a), &x) == 0 &&
	       as_endpoint_from_sockaddr(b, sizeof(*b), &y) == 0 && x.port == y.port &&
	       as_addr_eq(&x.addr, &y.addr);
}

/* Its app can do to @fd whatever the kernel lets a socket of the client's namespace do: it may exchange the
 * file behind the number between our look and a call that is given to the kernel (CONTINUE). So it hears its client
 * and nobody else, for good, whatever it is bound or connected to. */
static int hear_only(int fd, const struct sockaddr_storage *client,
		     const struct sockaddr_storage *own)
{
	struct sock_filter prog[2 + 2 * 8 + 2];
	struct sock_fprog fprog = { .filter = prog };
	struct as_endpoint from, to;
	uint8_t words[32];
	int n = 0, n_words, net, one = 1;

	if (as_endpoint_from_sockaddr(client, sizeof(*client), &from) < 0 ||
	    as_endpoint_from_sockaddr(own, sizeof(*own), &to) < 0)
		return -EINVAL;
	net = SKF_NET_OFF + (as_addr_is_v4(&from.addr) ? 12 : 8);
	n_words = as_addr_is_v4(&from.addr) ? 1 : 4;
	memcpy(words, from.addr.b + 16 - 4 * n_words, 4 * (size_t)n_words);
	memcpy(words + 4 * n_words, to.addr.b + 16 - 4 * n_words, 4 * (size_t)n_words);
	n_words *= 2;
	prog[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0); /* ports */
	prog[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
						 (uint32_t)from.port << 16 | to.port, 0,
						 (uint8_t)(2 * n_words + 1));
	for (int i = 0; i < n_words; i++) {
		const uint8_t *w = words + 4 * i;

		prog[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
							 (uint32_t)(net + 4 * i));
		prog[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
							 (uint32_t)w[0] << 24 |
								 (uint32_t)w[1] << 16 |
								 (uint32_t)w[2] << 8 | w[3],
							 0, (uint8_t)(2 * (n_words - i) - 1));
	}
	prog[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, ~0u);
	prog[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
	fprog.len = (unsigned short)n;
	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &fprog, sizeof(fprog)) < 0 ||
			       setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &one, sizeof(one)) < 0
		       ? -errno
		       : 0;
}

/* A client that has set TCP_DEFER_ACCEPT, or TCP_QUICKACK to 0, delays the last segment of the handshake. */
static void acknowledge(int fd)
{
	int quick = 1;
	socklen_t len = sizeof(quick);

	(void)getsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &quick, &len);
	setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &(int){ 1 }, sizeof(int));
	if (!quick)
		setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &(int){ 0 }, sizeof(int));
}

/* The connection of @s that @listening has; fd or -errno. */
static int accept_own(int listening, const struct sock *s)
{
	struct pollfd p = { .fd = listening, .events = POLLIN };
	struct sockaddr_storage peer = { 0 }, own = { 0 }, at = { 0 };
	socklen_t peer_len = sizeof(peer), own_len = sizeof(own), at_len = sizeof(at);
	_cleanup_close_ int fd = -1;
	int r;

	acknowledge(s->fd);
	if (poll(&p, 1, JOIN_MS) != 1)
		return -ETIMEDOUT;
	fd = accept4(listening, (struct sockaddr *)&peer, &peer_len, SOCK_CLOEXEC);
	if (fd < 0 || getsockname(s->fd, (struct sockaddr *)&own, &own_len) < 0)
		return -errno;
	if (!same_endpoint(&peer, &own) || getsockname(fd, (struct sockaddr *)&at, &at_len) < 0)
		return -EADDRNOTAVAIL;
	r = hear_only(fd, &peer, &at);
	if (r < 0)
		return r;
	return setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &(int){ 0 }, sizeof(int)) < 0
		       ? -errno
		       : fd_steal(&fd);
}

void carry_undo(int fd)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	int error;
	socklen_t len = sizeof(error);

	(void)connect(fd, &none, sizeof(none));
	(void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	standin_set_mark(fd, 0);
}

/* Connects @s to a socket of ours: that one's fd or -errno. */
static int join(struct trap *t, const struct sock *s, const struct listener *l,
		const struct as_endpoint *dest)
{
	_cleanup_close_ int listening = -1;
	int r;

	pthread_mutex_lock(&t->app->listen_lock);
	r = appns_enter(t);
	if (r == 0) {
		listening = r = listen_at(dest, l->face);
		appns_leave(t);
	}
	if (r >= 0) {
		standin_set_mark(s->fd, APPNS_MARK | STANDIN_UNSURE);
		r = appns_connect(t, s, dest);
		r = r == 0 || r == EINPROGRESS ? accept_own(listening, s) : -r;
		if (r < 0)
			carry_undo(s->fd);
	}
	pthread_mutex_unlock(&t->app->listen_lock);
	return r;
}

static void inherit(struct trap *t, const struct listener *l, int fd)
{
	_cleanup_close_ int anchor = -1;

	pthread_mutex_lock(&t->sw->lock);
	if (!l->gone)
		anchor = fcntl(l->anchor_fd, F_DUPFD_CLOEXEC, 3);
	pthread_mutex_unlock(&t->sw->lock);
	if (anchor >= 0)
		inherit_protocol(anchor, fd);
}

/* @fd is @l's from now on, or as waiting_add() says. */
static int announce(struct trap *t, struct listener *l, uint64_t client, int fd)
{
	struct waiting w = { .id = client, .from_app = t->app, .fd = fd };
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);

	if (getpeername(fd, (struct sockaddr *)&ss, &len) == 0)
		(void)as_endpoint_from_sockaddr(&ss, len, &w.from);
	return waiting_add(t->sw, l, &w);
}

int carry_connect(struct trap *t, const struct sock *s, struct listener *l,
		  const struct as_endpoint *dest)
{
	uint64_t client = sock_cookie(s->fd), server;
	int fd, r;

	if (!has_room(t))
		return -EOPNOTSUPP;
	fd = join(t, s, l, dest);
	if (fd < 0) {
		log_debug("app %u: no TCP of its own for fd %d: %s", t->app->id, trap_int(t, 0),
			  strerror(-fd));
		return -EOPNOTSUPP;
	}
	inherit(t, l, fd);
	server = sock_cookie(fd);
	/* first: a sweep that does not look there takes the record for that of a closed socket */
	t->app->carried_s = sockrec_now();
	t->app->carried = true;
	r = sockrec_add_carried(t->sw->socks, server, t->app->id, l->app->id, l->anchor);
	if (r == 0)
		r = announce(t, l, client, fd);
	if (r < 0) {
		close(fd);
		carry_undo(s->fd);
		return r == -ECONNREFUSED || r == -EAGAIN ? r : -EOPNOTSUPP;
	}
	sockrec_announced(t->sw->socks, server);
	t->call->stage = ST_CONNECTED;
	standin_set_mark(s->fd, APPNS_MARK);
	return 0;
}
