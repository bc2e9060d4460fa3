#include "traphandler/conn/standin.h"

#include "traphandler/service/sockrec.h"

#include <appswitch/util.h>

#include <netinet/in.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

/* TCP's accept queue would be the app's number; here a full queue is refused at once and not
 * waited for, so it is as long as it can be. The kernel cuts it to net.core.somaxconn. */
#define STANDIN_BACKLOG 65535

static int get_int(int fd, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);

	return getsockopt(fd, level, name, &v, &len) < 0 ? -1 : v;
}

static uint64_t get_u64(int fd, int name)
{
	uint64_t v = 0;
	socklen_t len = sizeof(v);

	return getsockopt(fd, SOL_SOCKET, name, &v, &len) < 0 ? 0 : v;
}

uint64_t sock_cookie(int fd)
{
	return get_u64(fd, SO_COOKIE);
}

uint32_t standin_mark(int fd)
{
	int v = get_int(fd, SOL_SOCKET, SO_MARK);

	return v < 0 ? 0 : (uint32_t)v;
}

void standin_set_mark(int fd, uint32_t mark)
{
	setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark));
}

void standin_change_mark(int fd, uint32_t clear, uint32_t set)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&lock);
	standin_set_mark(fd, (standin_mark(fd) & ~clear) | set);
	pthread_mutex_unlock(&lock);
}

static void classify_unix(const struct switch_ctx *sw, const struct sockaddr_storage *ss,
			  socklen_t len, int fd, struct sock *ret)
{
	struct sockaddr_un un;
	socklen_t peer_len = sizeof(un);
	struct standin_name name;

	/* anybody may give a socket of his own such a name, but not in our namespace */
	if (name_decode((const struct sockaddr_un *)ss, len, &name) == NAME_NONE ||
	    get_u64(fd, SO_NETNS_COOKIE) != sw->pns_cookie)
		return;

	switch (name_decode((const struct sockaddr_un *)ss, len, &ret->own)) {
	case NAME_CLIENT:
		ret->kind = SOCK_CONNECTED;
		ret->client = true;
		break;
	case NAME_LISTENER:
		if (getpeername(fd, (struct sockaddr *)&un, &peer_len) < 0)
			ret->kind = SOCK_LISTENER;
		else if (name_decode(&un, peer_len, &ret->peer) == NAME_CLIENT)
			ret->kind = SOCK_CONNECTED;
		break;
	default:
		break;
	}
}

void sock_classify(const struct app *app, const struct switch_ctx *sw, int fd, struct sock *ret)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);
	uint64_t ns;

	memset(ret, 0, sizeof(*ret));
	ret->kind = SOCK_KERNEL;
	ret->fd = fd;
	if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
		return;
	if (ss.ss_family == AF_UNIX) {
		classify_unix(sw, &ss, len, fd, ret);
		return;
	}
	if ((ss.ss_family != AF_INET && ss.ss_family != AF_INET6) ||
	    get_int(fd, SOL_SOCKET, SO_PROTOCOL) != IPPROTO_TCP)
		return;
	ns = get_u64(fd, SO_NETNS_COOKIE);
	if (app != NULL && ns == app->netns_cookie)
		ret->kind = SOCK_NATIVE;
	else if (ns == sw->st.h->host_cookie)
		ret->kind = sockrec_get_remote(sw->socks, get_u64(fd, SO_COOKIE), &ret->remote)
				    ? SOCK_REMOTE
				    : SOCK_HOST;
	else if (app != NULL && (standin_mark(fd) & STANDIN_GIVEN))
		ret->kind = SOCK_CARRIED;
	ret->domain = ss.ss_family;
	(void)as_endpoint_from_sockaddr(&ss, len, &ret->bound);
}

int sock_face(const struct sock *s)
{
	if (s->kind == SOCK_REMOTE)
		return s->remote.face;
	if (s->domain != 0)
		return s->domain;
	if (!s->client)
		return s->own.face;
	return as_addr_is_v4(&s->own.server.addr) && !(standin_mark(s->fd) & STANDIN_FACE6)
		       ? AF_INET
		       : AF_INET6;
}

int sock_get(struct trap *t, int fdno, struct sock *ret)
{
	int fd, r;

	r = trap_getfd(t, fdno, &fd);
	if (r < 0)
		return r;
	sock_classify(t->app, t->sw, fd, ret);
	ret->owner = t;
	t->copy = fd;
	return 0;
}

bool sock_look(struct trap *t, struct sock *ret)
{
	int r = sock_get(t, trap_int(t, 0), ret);

	if (r == -ENOENT)
		trap_drop(t);
	else if (r < 0)
		trap_reply_continue(t);
	return r == 0;
}

void sock_done(struct sock *s)
{
	int *fd = s->owner != NULL ? &s->owner->copy : &s->fd;

	cleanup_close(fd);
	*fd = -1;
	s->fd = -1;
}

int sock_steal(struct sock *s)
{
	if (s->owner != NULL)
		s->owner->copy = -1;
	return fd_steal(&s->fd);
}

struct as_endpoint standin_local(const struct sock *s)
{
	if (s->kind == SOCK_REMOTE)
		return s->remote.local;
	return s->client ? s->own.client : s->peer.server;
}

struct as_endpoint standin_remote(const struct sock *s)
{
	if (s->kind == SOCK_REMOTE)
		return s->remote.peer;
	return s->client ? s->own.server : s->peer.client;
}

void standin_note_given(const struct switch_ctx *sw, int fd, bool given)
{
	/* a mark would mean something to the host's routing */
	if (sockrec_any_remote(sw->socks) &&
	    get_u64(fd, SO_NETNS_COOKIE) == sw->st.h->host_cookie)
		sockrec_remote_waits(sw->socks, sock_cookie(fd), !given);
	else
		standin_set_mark(fd, given ? STANDIN_GIVEN : 0);
}

void standin_tune(const struct switch_ctx *sw, int fd, bool sndbuf)
{
	static const int zero;

	/* AF_UNIX accounts queued data to the sender: this one number is the window */
	if (sndbuf && (!sw->sndbuf_force || setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE,
						       &sw->sndbuf, sizeof(sw->sndbuf)) < 0))
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &sw->sndbuf, sizeof(sw->sndbuf));
	/* 6.16+; TCP cannot carry fds, so a stand-in must not */
	setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &zero, sizeof(zero));
}

static socklen_t listener_name(const struct listener *l, struct sockaddr_un *ret)
{
	struct standin_name name = {
		.kind = NAME_LISTENER,
		.network = l->app->network_id,
		.face = l->face,
		.app = l->app->id,
		.anchor = l->anchor,
	};

	return name_encode(&name, ret);
}

int standin_listen(const struct switch_ctx *sw, const struct listener *l, int *ret_fd)
{
	struct sockaddr_un un;
	socklen_t len = listener_name(l, &un);
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&un, len) < 0)
		return -errno;
	standin_tune(sw, fd, false);
	if (listen(fd, STANDIN_BACKLOG) < 0)
		return -errno;
	*ret_fd = fd_steal(&fd);
	return 0;
}

int standin_connect(const struct switch_ctx *sw, const struct listener *l,
		    const struct standin_name *client, int *ret_fd)
{
	struct sockaddr_un un;
	socklen_t len = name_encode(client, &un);
	int r = 0;

	*ret_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (*ret_fd < 0)
		return -errno;
	if (bind(*ret_fd, (struct sockaddr *)&un, len) < 0) {
		r = -errno;
	} else {
		standin_tune(sw, *ret_fd, true);
		len = listener_name(l, &un);
		if (connect(*ret_fd, (struct sockaddr *)&un, len) < 0)
			r = -errno;
	}
	if (r < 0) {
		int fd = *ret_fd;

		*ret_fd = -1;
		close(fd);
	}
	return r;
}

/* A connection of a socket with a random name of that kind. */
static int call_listener(const struct listener *l, enum name_kind kind)
{
	struct standin_name name = { .kind = kind, .anchor = l->anchor };
	struct sockaddr_un un;
	socklen_t len;
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (getrandom(&name.nonce, sizeof(name.nonce), GRND_INSECURE) < 0)
		name.nonce = now_ns();
	len = name_encode(&name, &un);
	if (fd < 0 || bind(fd, (struct sockaddr *)&un, len) < 0)
		return -errno;
	len = listener_name(l, &un);
	return connect(fd, (struct sockaddr *)&un, len) < 0 ? -errno : 0;
}

int standin_announce(const struct listener *l)
{
	return call_listener(l, NAME_CARRIER);
}

/* Only what a daemon of ours connected is a client; see unix(7), SO_PEERCRED. */
bool standin_genuine(const struct switch_ctx *sw, int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	/* pid 0 is who cannot be seen from here, and an unused entry of the table */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 || cred.pid <= 0)
		return false;
	for (unsigned i = 0; i < ST_PIDS; i++) {
		if (sw->st.h->pids[i] == cred.pid)
			return true;
	}
	return false;
}

bool standin_connected(int fd)
{
	struct sockaddr_un un;
	socklen_t len = sizeof(un);

	return getpeername(fd, (struct sockaddr *)&un, &len) == 0;
}

bool standin_alive(const struct listener *l)
{
	struct sockaddr_un un;
	socklen_t len = listener_name(l, &un);
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	/* no fd to ask with is no proof of death */
	return fd < 0 || bind(fd, (struct sockaddr *)&un, len) < 0;
}

void standin_ring(const struct listener *l)
{
	if (call_listener(l, NAME_BELL) < 0) {
		/* full means readable; refused means gone: both are as good */
	}
}
