/* accept.h - accept(): from the stand-in listener's queue to the app, exactly once. */
#ifndef TRAPHANDLER_ACCEPT_H
#define TRAPHANDLER_ACCEPT_H

#include "traphandler/trap/pool.h"

void handle_accept(struct trap *t);

/* A connection has come to @l: the first accept() that waits goes on. Every connection is made by a
 * worker, who says so; the file is watched only for a shutdown(). */
void accept_arrived(struct switch_ctx *sw, struct listener *l);

/* Gives @fd, a connection that is in no queue, to an accept() that waits: true, and it is that one's. False:
 * nobody waits. */
bool accept_give(struct switch_ctx *sw, struct listener *l, int fd);

/* The stand-in of the listener in that slot was shut down: who waits on it looks again. */
void accept_shut_down(struct switch_ctx *sw, uint32_t listener);

/* Accepts that wait but were interrupted meanwhile are forgotten, so that they do not keep a
 * listener alive that the app has closed. */
void accept_check_parked(struct switch_ctx *sw, struct listener *l);

/* Deadlines (SO_RCVTIMEO). */
void accept_tick(struct switch_ctx *sw);
bool accept_has_deadlines(void);

/* Under sw->lock: everything that waits is over. */
void accept_listener_gone(struct switch_ctx *sw, struct listener *l);

#endif
