/* connect.h - connect(): find the service, make the stand-in, put it in the app's place. */
#ifndef TRAPHANDLER_CONNECT_H
#define TRAPHANDLER_CONNECT_H

#include "traphandler/conn/standin.h"
#include "traphandler/trap/trap.h"

void handle_connect(struct trap *t);

/* If an interrupted connect() of this socket made a connection that is not in place yet, puts it
 * there now. False: not yet (another worker is about to replace the socket, or the app gets no CPU); the call
 * is put off, and @t is over. */
bool connect_complete_kept(struct trap *t, struct sock *s);

/* Housekeeping: deadlines, and stand-ins whose connect() was interrupted and never repeated. */
void connect_tick(struct switch_ctx *sw);

#endif
