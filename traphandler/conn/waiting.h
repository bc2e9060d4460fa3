/* waiting.h - TCP connections that wait with a listener for their accept().
 *
 * A stand-in's listener can only queue AF_UNIX connections. The server's end of a TCP connection
 * waits in a list, and one carrier in the queue, an AF_UNIX connection that carries nobody, keeps the
 * listener readable for as long as the list has something: it is made for the first and taken out
 * with the last. */
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

/* The first that waits, if any: true with the descriptor in *ret_fd and where it comes from. With
 * the last of them the carrier goes out of @listening, a copy of the stand-in (or -1: it stays). */
bool waiting_take(struct switch_ctx *sw, struct listener *l, int listening, int *ret_fd,
		  struct as_endpoint *ret_client);

/* A carrier came out of the queue: if some still wait, another one is needed. */
void waiting_carrier_taken(struct switch_ctx *sw, struct listener *l);

/* Under sw->lock: closes what waits. */
void waiting_listener_gone(struct switch_ctx *sw, struct listener *l);

#endif
