#include "traphandler/conn/sockopt.h"

#include "traphandler/conn/appns.h"
#include "traphandler/conn/connect.h"
#include "traphandler/conn/standin.h"
#include "traphandler/service/quota.h"
#include "traphandler/service/registry.h"
#include "traphandler/service/sockrec.h"
#include "traphandler/trap/target.h"

#include <appswitch/util.h>

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif
#ifndef SOL_MPTCP
#define SOL_MPTCP 284
#endif
#ifndef TCP_AO_ADD_KEY
#define TCP_AO_ADD_KEY	38
#define TCP_AO_DEL_KEY	39
#define TCP_AO_INFO	40
#define TCP_AO_GET_KEYS 41
#define TCP_AO_REPAIR	42
#endif
#ifndef SO_INQ
#define SO_INQ 84
#endif
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#define OPT_MAX	   1024
#define NATIVE_MAX 16 /* what is noted of a native socket: an int, a name */

static pthread_mutex_t scratch_lock = PTHREAD_MUTEX_INITIALIZER;

int sockopt_template(int family)
{
	struct as_endpoint any = { .addr = as_addr_loopback(family) };
	struct sockaddr_storage ss;
	socklen_t len = as_endpoint_to_sockaddr(&any, family, &ss);
	_cleanup_close_ int listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	_cleanup_close_ int client = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (listener < 0 || client < 0 || bind(listener, (struct sockaddr *)&ss, len) < 0 ||
	    listen(listener, 1) < 0 ||
	    getsockname(listener, (struct sockaddr *)&ss, &len) < 0 ||
	    connect(client, (struct sockaddr *)&ss, len) < 0)
		return -errno;
	/* the accepted end must stay open or the client would leave ESTABLISHED; nothing else
	 * ever uses it */
	if (accept4(listener, NULL, NULL, SOCK_CLOEXEC) < 0)
		return -errno;
	return fd_steal(&client);
}

/* What AF_UNIX cannot do and a library would rely on: kernel TLS, repair, zero copy, ... */
static bool denied(int level, int name)
{
	if (level == SOL_TLS || level == SOL_MPTCP)
		return true;
	if (level == SOL_SOCKET)
		return name == SO_ZEROCOPY || name == SO_INQ;
	if (level == IPPROTO_IPV6)
		return name == IPV6_ADDRFORM;
	if (level != IPPROTO_TCP)
		return false;
	switch (name) {
	case TCP_ULP:
	case TCP_REPAIR:
	case TCP_REPAIR_QUEUE:
	case TCP_REPAIR_OPTIONS:
	case TCP_REPAIR_WINDOW:
	case TCP_QUEUE_SEQ:
	case TCP_INQ:
	case TCP_ZEROCOPY_RECEIVE:
	case TCP_MD5SIG:
	case TCP_MD5SIG_EXT:
	case TCP_FASTOPEN_CONNECT:
	case TCP_AO_ADD_KEY:
	case TCP_AO_DEL_KEY:
	case TCP_AO_INFO:
	case TCP_AO_GET_KEYS:
	case TCP_AO_REPAIR:
		return true;
	default:
		return false;
	}
}

/* What only tells something is answered: the family of an IPv6 socket, flags of SOL_SOCKET. */
static bool denied_to_read(int level, int name)
{
	return denied(level, name) && level != SOL_SOCKET && level != IPPROTO_IPV6;
}

/* State of a connection, not a setting: never inherited from the listener. */
static bool of_connection(int level, int name)
{
	if (level == SOL_SOCKET)
		return name != SO_REUSEPORT && name != SO_INCOMING_CPU && name != SO_MARK;
	if (level == IPPROTO_TCP)
		return name == TCP_INFO || name == TCP_MAXSEG || name == TCP_CC_INFO;
	return (level == IPPROTO_IP && name == IP_MTU) ||
	       (level == IPPROTO_IPV6 && (name == IPV6_MTU || name == IPV6_ADDRFORM));
}

/* -ENOENT means that the target is gone; this, that a call of ours said ENOENT. */
#define OWN_ENOENT 4000

static int own_errno(void)
{
	return errno == ENOENT ? -OWN_ENOENT : -errno;
}

/* Values that hold a pointer of the app's (and what undoes them): not for a call of ours. */
static bool holds_pointer(int level, int name)
{
	return level == SOL_SOCKET &&
	       (name == SO_ATTACH_REUSEPORT_CBPF || name == SO_ATTACH_REUSEPORT_EBPF ||
		name == SO_DETACH_REUSEPORT_BPF);
}

/* Tables of the namespace (netfilter, IPsec policy), not of the socket. */
static bool of_namespace(int level, int name)
{
	if (level == IPPROTO_IP)
		return (name >= 64 && name <= 67) || (name >= 80 && name <= 84) ||
		       (name >= 96 && name <= 99) || (name >= 128 && name <= 131) ||
		       name == IP_IPSEC_POLICY || name == IP_XFRM_POLICY;
	return level == IPPROTO_IPV6 &&
	       (name == 64 || name == 65 || name == 68 || name == 69 || name == 80 ||
		name == IPV6_IPSEC_POLICY || name == IPV6_XFRM_POLICY);
}

/* Options that take a right which we may have and the app not. */
static bool needs_right(int level, int name)
{
	return (level == SOL_SOCKET && name == SO_MARK) ||
	       (level == IPPROTO_IP && name == IP_TRANSPARENT) ||
	       (level == IPPROTO_IPV6 && name == IPV6_TRANSPARENT);
}

/* Where segments go, other than to the peer: a source route, headers with one in it. */
static bool steers(int level, int name)
{
	if (level == IPPROTO_IP)
		return name == IP_OPTIONS;
	return level == IPPROTO_IPV6 &&
	       (name == IPV6_RTHDR || name == IPV6_RTHDRDSTOPTS || name == IPV6_HOPOPTS ||
		name == IPV6_DSTOPTS || name == IPV6_2292PKTOPTIONS);
}

/* Of a connection with another node: what tells of the host's network, or is of another family than
 * the program's. */
static bool shows_host(const struct sock *s, int level, int name)
{
	if (level == SOL_SOCKET)
		return name == SO_MARK || name == SO_NETNS_COOKIE || name == SO_BINDTODEVICE ||
		       name == SO_BINDTOIFINDEX || name == SO_PEERNAME ||
		       name == SO_LOCK_FILTER ||
		       (name == SO_DOMAIN && s->domain != s->remote.face);
	if (level == IPPROTO_TCP) /* that of fast open is ours; the SYN has real addresses */
		return name == TCP_FASTOPEN_NO_COOKIE || name == TCP_SAVED_SYN;
	if (level == IPPROTO_IP)
		return name == IP_TRANSPARENT || name == IP_PKTOPTIONS || name == IP_OPTIONS ||
		       name == IP_UNICAST_IF || name == IP_RECVERR || of_namespace(level, name);
	if (level == IPPROTO_TCP)
		return name == TCP_FASTOPEN_KEY;
	return level == IPPROTO_IPV6 &&
	       (s->domain == AF_INET || name == IPV6_TRANSPARENT || name == IPV6_UNICAST_IF ||
		name == IPV6_RECVERR || steers(level, name) || of_namespace(level, name));
}

/* Of a TCP connection of carry.h, what would show where it comes from, or take it away. */
static bool shows_seam(const struct sock *s, int level, int name)
{
	bool marked = level == SOL_SOCKET && name == SO_MARK;

	if (s->kind == SOCK_NATIVE)
		return marked && appns_marked(s->fd);
	if (s->kind == SOCK_REMOTE)
		return shows_host(s, level, name);
	return s->kind == SOCK_CARRIED &&
	       (marked || of_namespace(level, name) ||
		(level == SOL_SOCKET && (name == SO_NETNS_COOKIE || name == SO_BINDTODEVICE)) ||
		(level == IPPROTO_IP && name == IP_TRANSPARENT) ||
		(level == IPPROTO_IPV6 && name == IPV6_TRANSPARENT));
}

/* The kernel's own answer is the right one. */
static bool is_tcp(const struct sock *s, int level, int name)
{
	return (s->kind == SOCK_NATIVE || s->kind == SOCK_CARRIED || s->kind == SOCK_REMOTE) &&
	       !shows_seam(s, level, name);
}

static void end(struct trap *t, int r)
{
	if (r == -ENOENT)
		trap_drop(t);
	else if (r < 0)
		trap_reply_errno(t, r == -OWN_ENOENT ? ENOENT : -r);
	else
		trap_reply_value(t, r);
}

static int template_of(const struct switch_ctx *sw, const struct sock *s)
{
	return sock_face(s) == AF_INET ? sw->tmpl4 : sw->tmpl6;
}

/* A copy of the anchor of @s's listener; the caller's fd, or -1. */
static int anchor_of(struct trap *t, const struct sock *s)
{
	uint64_t anchor = s->kind == SOCK_REMOTE ? s->remote.anchor : s->own.anchor;
	struct listener *l;
	int fd = -1;

	pthread_mutex_lock(&t->sw->lock);
	l = listener_find(t->sw, anchor);
	if (l != NULL && l->app == t->app && l->anchor_fd >= 0)
		fd = dup(l->anchor_fd);
	pthread_mutex_unlock(&t->sw->lock);
	return fd;
}

/* What the app set on this connected stand-in itself. */
static bool own_value(struct trap *t, const struct sock *s, int level, int name, int *ret)
{
	if (level == IPPROTO_TCP && name == TCP_NODELAY) {
		uint32_t mark = standin_mark(s->fd);

		if (mark & STANDIN_NODELAY_SET) {
			*ret = (mark & STANDIN_NODELAY) != 0;
			return true;
		}
	}
	return sockrec_any_opts(t->sw->socks) &&
	       sockrec_get_opt(t->sw->socks, sock_cookie(s->fd), level, name, ret);
}

static int get_connected(struct trap *t, const struct sock *s, int level, int name, void *buf,
			 socklen_t *len)
{
	_cleanup_close_ int anchor = -1;
	bool client = s->kind == SOCK_REMOTE ? !s->remote.server : s->client;
	int source = template_of(t->sw, s), value;
	socklen_t asked = *len;

	if (level == SOL_SOCKET && name == SO_COOKIE)
		return getsockopt(s->fd, level, name, buf, len) < 0 ? own_errno() : 0;
	if (level == SOL_SOCKET && name == SO_NETNS_COOKIE)
		return getsockopt(t->app->probe_fd, level, name, buf, len) < 0 ? own_errno()
									       : 0;
	if (!client && !of_connection(level, name)) {
		anchor = anchor_of(t, s);
		if (anchor >= 0)
			source = anchor;
	}
	if (s->kind == SOCK_REMOTE && sock_face(s) == AF_INET6 && level == IPPROTO_IPV6 &&
	    name == IPV6_MTU) {
		level = IPPROTO_IP; /* the path's, whatever it is made of */
		name = IP_MTU;
		source = s->fd;
	}
	if (getsockopt(source, level, name, buf, len) < 0)
		return own_errno();
	if (own_value(t, s, level, name, &value)) {
		/* the kernel's way with short buffers, our value */
		memcpy(buf, &value, *len < sizeof(value) ? *len : sizeof(value));
	} else if (level == IPPROTO_TCP && name == TCP_CONGESTION) {
		char cc[16];

		if (sockrec_any_opts(t->sw->socks) &&
		    sockrec_get_congestion(t->sw->socks, sock_cookie(s->fd), cc)) {
			*len = asked < sizeof(cc) ? asked : sizeof(cc);
			memcpy(buf, cc, *len);
		}
	} else if (level == SOL_SOCKET && name == SO_INCOMING_CPU) {
		/* nothing comes in; but programs use it as an index, so it must be a CPU. This
		 * one is most likely the app's: it has just woken us */
		value = sched_getcpu();
		if (value >= 0)
			memcpy(buf, &value, *len < sizeof(value) ? *len : sizeof(value));
	}
	return 0;
}

/* The value of an option to the app. */
static int give(struct trap *t, const void *value, int len)
{
	int r = len > 0 ? trap_write(t, t->args[3], value, (size_t)len) : 0;

	return r < 0 ? r : trap_write(t, t->args[4], &len, sizeof(len));
}

static int get(struct trap *t, const struct sock *s, int level, int name)
{
	char buf[OPT_MAX];
	socklen_t len;
	int user_len, r;

	if (denied_to_read(level, name))
		return -ENOPROTOOPT;
	r = trap_read(t, t->args[4], &user_len, sizeof(user_len));
	if (r < 0)
		return r;
	if (user_len < 0)
		return -EINVAL;
	len = user_len > OPT_MAX ? OPT_MAX : (socklen_t)user_len;
	memset(buf, 0, sizeof(buf));
	if (s->kind == SOCK_LISTENER) {
		_cleanup_close_ int anchor = anchor_of(t, s);

		r = getsockopt(anchor, level, name, buf, &len) < 0 ? own_errno() : 0;
	} else {
		r = get_connected(t, s, level, name, buf, &len);
	}
	if (r < 0)
		return r;
	return give(t, buf, (int)len);
}

/* The address as getpeername() gives it, or (SO_PEERNAME) its beginning. */
static int give_peer(struct trap *t, const struct sock *s)
{
	struct as_endpoint e = standin_remote(s);
	struct sockaddr_storage ss;
	int have = (int)as_endpoint_to_sockaddr(&e, sock_face(s), &ss);
	int len, r = trap_read(t, t->args[4], &len, sizeof(len));

	if (r < 0)
		return r;
	return len < 0 || len > have ? -EINVAL : give(t, &ss, len);
}

static int give_error(struct trap *t, int err)
{
	int len, r = trap_read(t, t->args[4], &len, sizeof(len));

	if (r < 0)
		return r;
	if (len < 0)
		return -EINVAL;
	return give(t, &err, len < (int)sizeof(err) ? len : (int)sizeof(err));
}

static bool to_kernel(struct trap *t, struct sock *s)
{
	if (!sock_look(t, s))
		return true;
	if (s->kind != SOCK_KERNEL && s->kind != SOCK_HOST)
		return false;
	sock_done(s);
	trap_reply_continue(t);
	return true;
}

void handle_getsockopt(struct trap *t)
{
	int level = trap_int(t, 1), name = trap_int(t, 2);
	struct sock s;

	if (to_kernel(t, &s))
		return;
	if (level == SOL_SOCKET && name == SO_ERROR) {
		/* what poll() and this make of an interrupted connect(): it went on meanwhile */
		int err = s.kind == SOCK_NATIVE ? connect_outcome(t, &s) : 0;

		if (err > 0)
			end(t, give_error(t, err));
		else if (err == 0)
			trap_reply_continue(t);
		sock_done(&s);
		return;
	}
	if (level == SOL_SOCKET && name == SO_GET_FILTER &&
	    (s.kind == SOCK_CARRIED || s.kind == SOCK_REMOTE))
		end(t, give(t, NULL, 0)); /* the one it has is ours, and names the nodes */
	else if (level == SOL_SOCKET && name == SO_PEERNAME &&
		 (s.kind == SOCK_CONNECTED || s.kind == SOCK_REMOTE))
		end(t, give_peer(t, &s));
	else if (is_tcp(&s, level, name) && !denied_to_read(level, name))
		trap_reply_continue(t);
	else if (of_namespace(level, name))
		trap_reply_errno(t, target_net_admin(t) ? ENOPROTOOPT : EPERM);
	else if (level == SOL_SOCKET && (name == SO_GET_FILTER || name == SO_DETACH_FILTER))
		trap_reply_continue(t);
	else
		end(t, get(t, &s, level, name));
	sock_done(&s);
}

/* Tries a value on the scratch socket and remembers what it became. */
static int try_and_record(struct trap *t, const struct sock *s, int level, int name,
			  const void *value, socklen_t len)
{
	int scratch = sock_face(s) == AF_INET ? t->sw->scratch4 : t->sw->scratch6;
	bool standin = s->kind != SOCK_NATIVE;
	bool congestion = level == IPPROTO_TCP && name == TCP_CONGESTION;
	char now[16] = { 0 };
	socklen_t now_len = congestion ? sizeof(now) : sizeof(int);
	int r = 0, v;

	pthread_mutex_lock(&scratch_lock);
	if (setsockopt(scratch, level, name, value, len) < 0)
		r = own_errno();
	else if (getsockopt(scratch, level, name, now, &now_len) < 0)
		now_len = 0;
	pthread_mutex_unlock(&scratch_lock);
	if (r < 0 || now_len == 0)
		return r;
	memcpy(&v, now, sizeof(v));
	if (congestion)
		r = sockrec_set_congestion(t->sw->socks, t->app->id, sock_cookie(s->fd),
					   standin, now);
	else
		r = sockrec_set_opt(t->sw->socks, t->app->id, sock_cookie(s->fd), standin,
				    level, name, v);
	if (r == -ENOMEM)
		quota_tell(t->app, QUOTA_SOCKS);
	return r;
}

static int set(struct trap *t, const struct sock *s, int level, int name)
{
	char buf[OPT_MAX];
	int len = trap_int(t, 4), r, v;

	if (len < 0)
		return -EINVAL;
	if (len > OPT_MAX)
		len = OPT_MAX;
	r = len > 0 ? trap_read(t, t->args[3], buf, (size_t)len) : 0;
	if (r < 0)
		return r;
	if (s->kind == SOCK_LISTENER) {
		_cleanup_close_ int anchor = anchor_of(t, s);

		return setsockopt(anchor, level, name, buf, (socklen_t)len) < 0 ? own_errno()
										: 0;
	}
	if (level == IPPROTO_TCP && name == TCP_NODELAY && s->kind == SOCK_CONNECTED) {
		if (len < (int)sizeof(v))
			return -EINVAL;
		memcpy(&v, buf, sizeof(v));
		standin_change_mark(s->fd, STANDIN_NODELAY,
				    STANDIN_NODELAY_SET | (v ? STANDIN_NODELAY : 0));
		return 0;
	}
	return try_and_record(t, s, level, name, buf, (socklen_t)len);
}

/* On a native socket the kernel sets the option; what it will be is noted for the stand-in that
 * may follow. */
static void set_native(struct trap *t, const struct sock *s, int level, int name)
{
	int v;

	/* not for a call of ours: the kernel judges by the app's own rights and memory */
	if (of_namespace(level, name) || holds_pointer(level, name) ||
	    needs_right(level, name) || trap_int(t, 4) > NATIVE_MAX) {
		trap_reply_continue(t);
		return;
	}

	if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY &&
	    trap_read(t, t->args[3], &v, sizeof(v)) == 0)
		(void)sockrec_set_opt(t->sw->socks, t->app->id, sock_cookie(s->fd), false,
				      level, name, v != 0);
	else if (level != SOL_SOCKET || name == SO_REUSEPORT || name == SO_INCOMING_CPU)
		(void)set(t, s, level, name);
	trap_reply_continue(t);
}

void handle_setsockopt(struct trap *t)
{
	int level = trap_int(t, 1), name = trap_int(t, 2);
	struct sock s;

	/* Of whatever file: it may be exchanged for a connection with another node, whose segments a source
	 * route would take past its guard. To take one away (no bytes) is always right. */
	if (steers(level, name) && trap_int(t, 4) != 0) {
		trap_reply_errno(t, EPERM);
		return;
	}
	if (to_kernel(t, &s))
		return;
	if (denied(level, name))
		trap_reply_errno(t, ENOPROTOOPT);
	else if ((s.kind == SOCK_CARRIED || s.kind == SOCK_REMOTE) && level == SOL_SOCKET &&
		 (name == SO_ATTACH_FILTER || name == SO_DETACH_FILTER))
		trap_reply_value(t,
				 0); /* it has one of ours, locked (carry.c, remote/guard.h) */
	else if ((s.kind == SOCK_CARRIED || s.kind == SOCK_REMOTE) && is_tcp(&s, level, name))
		trap_reply_continue(t);
	else if (s.kind != SOCK_NATIVE && holds_pointer(level, name))
		trap_reply_errno(t, EINVAL);
	else if (s.kind != SOCK_NATIVE && of_namespace(level, name))
		trap_reply_errno(t, target_net_admin(t) ? ENOPROTOOPT : EPERM);
	else if (!is_tcp(&s, level, name) && needs_right(level, name) && !target_net_admin(t))
		trap_reply_errno(t, EPERM);
	else if (is_tcp(&s, level, name))
		set_native(t, &s, level, name);
	else if (level == SOL_SOCKET && (name == SO_ATTACH_FILTER || name == SO_DETACH_FILTER))
		trap_reply_continue(t); /* takes a pointer; on AF_UNIX without effect */
	else
		end(t, set(t, &s, level, name));
	sock_done(&s);
}
