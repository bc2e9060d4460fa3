/* connect.h - connect(): find the service, make the stand-in, put it in the app's place. */
#ifndef TRAPHANDLER_CONNECT_H
#define TRAPHANDLER_CONNECT_H

#include "traphandler/trap/trap.h"

void handle_connect(struct trap *t);

/* Blocking connects that wait for room in @l's backlog try again; sw->lock is held. */
void connect_retry_full(struct switch_ctx *sw, struct listener *l);

/* Housekeeping: deadlines, and stand-ins whose connect() was interrupted and never repeated. */
void connect_tick(struct switch_ctx *sw);

#endif
