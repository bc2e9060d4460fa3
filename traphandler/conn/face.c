#include "traphandler/conn/face.h"

#include "traphandler/conn/listen.h"
#include "traphandler/conn/standin.h"
#include "traphandler/service/registry.h"

#include <appswitch/util.h>

#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

int face_write_addr(struct trap *t, uint64_t addr, uint64_t addrlen,
		    const struct as_endpoint *e, int face)
{
	struct sockaddr_storage ss;
	socklen_t full = as_endpoint_to_sockaddr(e, face, &ss);
	int len, r;

	r = trap_peek(t, addrlen, &len, sizeof(len)); /* the write validates it */
	if (r < 0)
		return r;
	if (len > (int)full)
		len = (int)full;
	if (len < 0)
		return -EINVAL;
	if (len == 0)
		return trap_write(t, addrlen, &full, sizeof(full));
	/* the length first: it is told even if the address cannot be */
	return trap_write2(t, addrlen, &full, sizeof(full), addr, &ss, (size_t)len);
}

static void end(struct trap *t, int r)
{
	if (r == -ENOENT)
		trap_drop(t);
	else if (r < 0)
		trap_reply_errno(t, -r);
	else
		trap_reply_value(t, r);
}

/* A listener's own address is the anchor's. */
static int listener_address(struct trap *t, uint64_t anchor, struct as_endpoint *ret)
{
	struct listener *l;

	pthread_mutex_lock(&t->sw->lock);
	l = listener_find(t->sw, anchor);
	if (l != NULL) {
		ret->addr = l->bound;
		ret->port = l->port;
	}
	pthread_mutex_unlock(&t->sw->lock);
	return l != NULL ? 0 : -EINVAL;
}

static bool has_peer(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	return getpeername(fd, (struct sockaddr *)&ss, &len) == 0;
}

void handle_getname(struct trap *t)
{
	bool peer = t->nr == SYS_getpeername;
	struct as_endpoint e;
	struct sock s;

	if (!sock_look(t, &s))
		return;
	if (s.kind == SOCK_CONNECTED || (s.kind == SOCK_REMOTE && (!peer || has_peer(s.fd)))) {
		e = peer ? standin_remote(&s) : standin_local(&s);
		end(t, face_write_addr(t, t->args[1], t->args[2], &e, sock_face(&s)));
	} else if ((s.kind == SOCK_LISTENER || s.kind == SOCK_REMOTE) && peer) {
		trap_reply_errno(t, ENOTCONN);
	} else if (s.kind == SOCK_LISTENER) {
		int r = listener_address(t, s.own.anchor, &e);

		if (r == 0)
			r = face_write_addr(t, t->args[1], t->args[2], &e, sock_face(&s));
		end(t, r);
	} else {
		trap_reply_continue(t);
	}
	sock_done(&s);
}

void handle_shutdown(struct trap *t)
{
	_cleanup_close_ int kept = fd_steal(&t->call->fd); /* of an earlier round, or -1 */
	struct sock s;

	if (!sock_look(t, &s))
		return;
	if (s.kind == SOCK_CONNECTED) {
		struct pollfd p = { .fd = s.fd, .events = POLLRDHUP };

		/* AF_UNIX would break the peer's writing; TCP does not. If the peer has ended
		 * its half already there is nothing left to break, and a blocked reader wakes */
		if (poll(&p, 1, 0) == 1 && (p.revents & (POLLRDHUP | POLLHUP)))
			trap_reply_continue(t);
		else
			trap_reply_value(t, 0);
	} else if (s.kind == SOCK_LISTENER) {
		listen_shutdown(t, &s, fd_steal(&kept));
	} else {
		trap_reply_continue(t);
	}
	sock_done(&s);
}

/* The error queue of a stand-in is empty, as that of a TCP socket which has asked for no
 * timestamps. Before it looks there the kernel copies the message header. */
static int read_errqueue(struct trap *t)
{
	struct msghdr m;
	int r;

	if (t->nr == SYS_recvmmsg && trap_int(t, 2) == 0)
		return 0; /* no message asked for */
	if (t->nr != SYS_recvfrom) {
		r = trap_read(t, t->args[1], &m, sizeof(m));
		if (r < 0)
			return r;
	}
	return -EAGAIN;
}

void handle_errqueue(struct trap *t)
{
	struct sock s;
	int r = sock_get(t, trap_int(t, 0), &s);

	if (r == -EBADF) {
		trap_reply_continue(t);
		return;
	}
	if (r < 0) {
		/* it may be a stand-in, whose data the kernel would give away */
		end(t, r == -ENOENT ? r : -EAGAIN);
		return;
	}
	if (s.kind == SOCK_CONNECTED || s.kind == SOCK_LISTENER)
		end(t, read_errqueue(t));
	else
		trap_reply_continue(t);
	sock_done(&s);
}

/* SIOCGIFCONF: a struct ifconf with a pointer in it. */
static int ifconf(struct trap *t)
{
	struct ifconf ifc;
	_cleanup_free_ char *buf = NULL;
	uint64_t user;
	int r = trap_read(t, t->args[2], &ifc, sizeof(ifc));

	if (r < 0)
		return r;
	if (ifc.ifc_len < 0 || ifc.ifc_len > 65536)
		ifc.ifc_len = 65536;
	user = (uint64_t)(uintptr_t)ifc.ifc_buf;
	if (user != 0) {
		buf = calloc(1, (size_t)ifc.ifc_len + 1);
		if (buf == NULL)
			return -ENOMEM;
	}
	ifc.ifc_buf = buf;
	if (ioctl(t->app->probe_fd, SIOCGIFCONF, &ifc) < 0)
		return -errno;
	if (user != 0) {
		r = trap_write(t, user, buf, (size_t)ifc.ifc_len);
		if (r < 0)
			return r;
	}
	return trap_write(t, t->args[2], &ifc.ifc_len, sizeof(ifc.ifc_len));
}

/* The rest that only reads: a struct ifreq in place. */
static int ifreq(struct trap *t, unsigned request)
{
	struct ifreq ifr;
	int r = trap_read(t, t->args[2], &ifr, sizeof(ifr));

	if (r < 0)
		return r;
	if (ioctl(t->app->probe_fd, request, &ifr) < 0)
		return -errno;
	return trap_write(t, t->args[2], &ifr, sizeof(ifr));
}

static int standin_ioctl(struct trap *t, unsigned request)
{
	switch (request) {
	case SIOCGIFCONF:
		return ifconf(t);
	case SIOCGIFNAME:
	case SIOCGIFFLAGS:
	case SIOCGIFADDR:
	case SIOCGIFDSTADDR:
	case SIOCGIFBRDADDR:
	case SIOCGIFNETMASK:
	case SIOCGIFMETRIC:
	case SIOCGIFMTU:
	case SIOCGIFHWADDR:
	case SIOCGIFINDEX:
	case SIOCGIFMAP:
	case SIOCGIFTXQLEN:
		return ifreq(t, request);
	default:
		/* SIOCGSKNS would hand out our namespace; the others change interfaces */
		return -EPERM;
	}
}

void handle_ioctl(struct trap *t)
{
	unsigned request = (unsigned)t->args[1];
	struct sock s;

	if (!sock_look(t, &s))
		return;
	if (request == SIOCGSKNS)
		trap_reply_errno(t, EPERM); /* of whatever socket: no namespace is handed out */
	else if (s.kind != SOCK_CONNECTED && s.kind != SOCK_LISTENER &&
		 s.kind != SOCK_CARRIED && s.kind != SOCK_REMOTE)
		trap_reply_continue(t);
	else if (request >= FIOSETOWN && request <= SIOCGPGRP)
		trap_reply_continue(t); /* of the file, not of the protocol */
	else if (request == SIOCOUTQNSD && s.domain != 0)
		trap_reply_continue(t); /* TCP's own */
	else if (request == SIOCGSTAMP_OLD || request == SIOCGSTAMPNS_OLD)
		trap_reply_errno(t, ENOENT); /* no packet has come yet */
	else
		end(t, standin_ioctl(t, request));
	sock_done(&s);
}
