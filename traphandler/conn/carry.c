#include "traphandler/conn/carry.h"

#include "traphandler/conn/appns.h"
#include "traphandler/conn/closer.h"
#include "traphandler/conn/inside.h"
#include "traphandler/conn/replace.h"
#include "traphandler/service/quota.h"
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

#define CARRIED_MAX 4096u
#define JOIN_MS	    100

/* A server's end that waits for its accept(). */
struct carried {
	struct carried *next;
	struct app *app; /* the client's, referenced */
	uint64_t client; /* SO_COOKIE of its socket */
	struct as_endpoint from;
	int fd;
};

static unsigned n_carried; /* under sw->lock */

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
	room = quota_allows(t->app->carrying, CARRIED_MAX - n_carried);
	pthread_mutex_unlock(&t->sw->lock);
	return room;
}

/* @fd is @l's from now on. -ENOMEM, or -ECONNREFUSED if that has ended: it stays the caller's. */
static int enlist(struct trap *t, struct listener *l, uint64_t client, int fd)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);
	struct carried *c = malloc(sizeof(*c)), **p = &l->carried;
	bool gone;

	if (c == NULL)
		return -ENOMEM;
	*c = (struct carried){ .app = t->app, .client = client, .fd = fd };
	if (getpeername(fd, (struct sockaddr *)&ss, &len) == 0)
		(void)as_endpoint_from_sockaddr(&ss, len, &c->from);
	pthread_mutex_lock(&t->sw->lock);
	gone = l->gone;
	if (!gone) {
		app_ref(t->app);
		t->app->carrying++;
		n_carried++;
		while (*p != NULL)
			p = &(*p)->next;
		*p = c;
	}
	pthread_mutex_unlock(&t->sw->lock);
	if (gone)
		free(c);
	return gone ? -ECONNREFUSED : 0;
}

/* Under sw->lock: *@p goes; its descriptor is the caller's. */
static int delist(struct switch_ctx *sw, struct carried **p)
{
	struct carried *c = *p;
	int fd = c->fd;

	*p = c->next;
	c->app->carrying--;
	n_carried--;
	app_unref(sw, c->app);
	free(c);
	return fd;
}

static struct carried **find(struct listener *l, uint64_t client)
{
	struct carried **p = &l->carried;

	while (*p != NULL && (*p)->client != client)
		p = &(*p)->next;
	return *p != NULL ? p : NULL;
}

bool carry_take(struct switch_ctx *sw, struct listener *l, uint64_t client, int *ret_fd,
		struct as_endpoint *ret_client)
{
	struct carried **p;

	*ret_fd = -1;
	pthread_mutex_lock(&sw->lock);
	p = find(l, client);
	if (p != NULL) {
		*ret_client = (*p)->from;
		*ret_fd = delist(sw, p);
	}
	pthread_mutex_unlock(&sw->lock);
	return *ret_fd >= 0;
}

void carry_listener_gone(struct switch_ctx *sw, struct listener *l)
{
	while (l->carried != NULL) {
		int fd = delist(sw, &l->carried);

		closer_put(sw, l->app, fd);
	}
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

/* Not announced after all. */
static void take_back(struct trap *t, const struct sock *s, struct listener *l, uint64_t client)
{
	struct as_endpoint from;
	int fd;

	if (carry_take(t->sw, l, client, &fd, &from))
		close(fd);
	carry_undo(s->fd);
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
		r = enlist(t, l, client, fd);
	if (r < 0) {
		close(fd);
		carry_undo(s->fd);
		return r == -ECONNREFUSED ? r : -EOPNOTSUPP;
	}
	r = standin_announce(l, client);
	if (r < 0) {
		take_back(t, s, l, client);
		return r;
	}
	sockrec_announced(t->sw->socks, server);
	t->call->stage = ST_CONNECTED;
	standin_set_mark(s->fd, APPNS_MARK);
	return 0;
}
