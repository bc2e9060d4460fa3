/* connect.h - connect(): find the service, make the stand-in, put it in the app's place. */
#ifndef TRAPHANDLER_CONNECT_H
#define TRAPHANDLER_CONNECT_H

#include "traphandler/conn/standin.h"
#include "traphandler/trap/trap.h"

void handle_connect(struct trap *t);

/* For SO_ERROR: what became of an interrupted connect() of this socket. A connection that was made, or is
 * under way to another node, is put in place: 0, and the kernel answers. One that waited for room in a backlog is refused, as that of a
 * non-blocking socket is: ECONNREFUSED. -EINPROGRESS: another worker is about to replace the socket, or the
 * app gets no CPU; the call is put off, and @t is over. */
int connect_outcome(struct trap *t, struct sock *s);

/* Housekeeping: deadlines, and stand-ins whose connect() was interrupted and never repeated. */
void connect_tick(struct switch_ctx *sw);

#endif
