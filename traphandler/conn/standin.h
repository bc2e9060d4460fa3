/* standin.h - AF_UNIX sockets that stand in for TCP: making them, and knowing them again. */
#ifndef TRAPHANDLER_STANDIN_H
#define TRAPHANDLER_STANDIN_H

#include "traphandler/trap/trap.h"

#include <sys/un.h>

/* Kept in SO_MARK, which means nothing on an AF_UNIX socket and is not shown to the app. */
#define STANDIN_FACE6 0x1u /* client end: the app's socket is AF_INET6 */
#define STANDIN_PENDING \
	0x2u /* connected, but its connect() was not told so: the next one says 0 */
#define STANDIN_NODELAY	    0x4u  /* value of TCP_NODELAY ... */
#define STANDIN_NODELAY_SET 0x8u  /* ... if the app set it */
#define STANDIN_GIVEN	    0x10u /* server end: on its way to the app, or there */
#define STANDIN_UNSURE	    0x20u /* a TCP client's: on its way to be connected (carry.h) */

enum sock_kind {
	SOCK_KERNEL,	/* not ours to decide: not a socket, not TCP, another namespace's */
	SOCK_NATIVE,	/* a TCP socket of the app's own namespace */
	SOCK_HOST,	/* a TCP socket of the host's namespace, brought along by the app */
	SOCK_CONNECTED, /* a connected stand-in */
	SOCK_LISTENER,	/* a listening stand-in */
	SOCK_CARRIED,	/* a TCP server end in the namespace of its client (carry.h) */
	SOCK_REMOTE, /* an end of a TCP connection with another node, of the host's namespace */
};

struct sock {
	enum sock_kind kind;
	struct trap *owner; /* whose copy it is: the reply closes it; or NULL */
	int fd;		    /* our copy, or -1 */
	int domain;	    /* AF_INET or AF_INET6: of a TCP socket itself; 0: no TCP */
	bool client;	    /* connected: this is the client end */
	struct standin_name own, peer; /* of a stand-in; peer if server end */
	struct as_endpoint bound;      /* of a TCP socket */
	struct st_remote remote;       /* of one with another node */
};

/* What @fdno is in the target. 0 and a sock to be ended with sock_done(), whose fd is good until
 * @t is replied to; or -errno:
 * -EBADF and other errors that the kernel itself will give to the app; -ENOENT. */
int sock_get(struct trap *t, int fdno, struct sock *ret);
/* The same for the first argument of a call that the kernel answers on whatever we cannot look at.
 * False: @t is over. */
bool sock_look(struct trap *t, struct sock *ret);
/* The same for a descriptor of our own; @fd stays the caller's (ret->fd is @fd). Without @app
 * no socket is native. */
void sock_classify(const struct app *app, const struct switch_ctx *sw, int fd,
		   struct sock *ret);
void sock_done(struct sock *s);
/* Takes the fd out of it. */
int sock_steal(struct sock *s);

/* AF_INET or AF_INET6: what the app's program takes it for. */
int sock_face(const struct sock *s);

/* Addresses of a connected stand-in, from its names; or of a connection with another node. */
struct as_endpoint standin_local(const struct sock *s);
struct as_endpoint standin_remote(const struct sock *s);

uint64_t sock_cookie(int fd); /* SO_COOKIE; 0 on failure */
uint32_t standin_mark(int fd);
/* All of it: of a stand-in that no app has. */
void standin_set_mark(int fd, uint32_t mark);
/* Some bits of it; another worker may be changing others for another call of the app. */
void standin_change_mark(int fd, uint32_t clear, uint32_t set);

/* The server's end @fd is on its way to the app (or, not @given, back to wait for another accept()): what
 * a later daemon makes of a copy of it that no call names. */
void standin_note_given(const struct switch_ctx *sw, int fd, bool given);

/* Buffer size and fd-passing as every stand-in has them; not if the app chose a size. */
void standin_tune(const struct switch_ctx *sw, int fd, bool sndbuf);

/* A listening stand-in for @l. 0 or -errno. Worker threads (the namespace). */
int standin_listen(const struct switch_ctx *sw, const struct listener *l, int *ret_fd);

/* Connects a new non-blocking stand-in to @l; *ret_fd is set before it is connected, so that a
 * slot of the state can name it at any moment. On failure it is -1 again. 0, -ECONNREFUSED (the listener is gone),
 * -EAGAIN (its backlog is full), -EADDRINUSE (that 4-tuple exists), -errno. */
int standin_connect(const struct switch_ctx *sw, const struct listener *l,
		    const struct standin_name *client, int *ret_fd);

/* Connects a carrier to @l, which outlives this call in the queue. As standin_connect(). */
int standin_announce(const struct listener *l);

/* Is the other end of an accepted one a daemon's of this host? */
bool standin_genuine(const struct switch_ctx *sw, int fd);

/* Has it a peer (perhaps one that is gone)? */
bool standin_connected(int fd);

/* Is the listening stand-in still open somewhere? (a bind of its very name fails) */
bool standin_alive(const struct listener *l);

/* Makes @l readable without a client: a connection that accept drops. */
void standin_ring(const struct listener *l);

#endif
