/* waiting.h - TCP connections that wait with a listener for their accept().
 *
 * A stand-in's listener can only queue AF_UNIX connections. The server's end of a TCP connection
 * waits in a list, and a carrier queues in its place: an AF_UNIX connection whose name says which
 * one it is for. So the listener is readable, and the order is that of arrival. */
#ifndef TRAPHANDLER_WAITING_H
#define TRAPHANDLER_WAITING_H

#include "traphandler/switch.h"

/* One that waits. */
struct waiting {
	struct waiting *next;
	uint64_t id; /* no other has it: SO_COOKIE of one of the connection's sockets */
	struct app *from_app;	 /* of the client, if it is one of ours: referenced; or NULL */
	struct as_endpoint from; /* the client's address, as the server sees it */
	int fd;
};

/* May @app, or (NULL) another node, have another one waiting with @l? Under sw->lock. */
bool waiting_has_room(const struct app *app, const struct listener *l);

/* Waits and is announced: @w->fd is @l's from then on. 0, -ECONNREFUSED (@l is gone), -EAGAIN (its
 * backlog is full), -ENOMEM: then it is still the caller's. Worker threads (the namespace). */
int waiting_add(struct switch_ctx *sw, struct listener *l, const struct waiting *w);

/* A carrier for @id came out of the queue: true with the descriptor in *ret_fd and where it comes
 * from. False: there is none. */
bool waiting_take(struct switch_ctx *sw, struct listener *l, uint64_t id, int *ret_fd,
		  struct as_endpoint *ret_client);

/* Under sw->lock: closes what waits. */
void waiting_listener_gone(struct switch_ctx *sw, struct listener *l);

#endif
