/* kept.h - what became of a connect() that a signal interrupted, for when it is repeated.
 *
 *   kept      a stand-in that is connected and did not get into the app's place any more; it waits
 *             5 s for the connect() that is repeated on the same socket
 *   answered  a connect() that was answered, of an app that is interrupted now and then: the kernel
 *             may have thrown the answer away (deliver.h). The same thread's same call (instruction,
 *             number, address) within 5 s is its repetition and gets the same answer, 0; any other
 *             is told EISCONN
 *
 * One daemon a process: the lists are the module's own, under sw->lock. */
#ifndef TRAPHANDLER_KEPT_H
#define TRAPHANDLER_KEPT_H

#include "traphandler/trap/trap.h"

/* Takes @fd, the stand-in for the socket with the cookie @native, connected to @dest. */
void kept_put(struct trap *t, uint64_t native, const struct as_endpoint *dest, int fd);
/* The same for one that an earlier daemon made and that was interrupted since. Under sw->lock. */
void kept_adopt(struct switch_ctx *sw, struct app *app, uint64_t native, int fd);
/* Is there one for the socket @old? */
bool kept_has(struct switch_ctx *sw, int old);
/* The stand-in of an interrupted connect() of the socket @old to the same place (or wherever, if @dest
 * is NULL), or -1. */
int kept_take(struct switch_ctx *sw, int old, const struct as_endpoint *dest);

struct answered {
	uint64_t cookie; /* of the stand-in; 0: free */
	uint64_t ip, addr;
	int tid, fdno;
	uint64_t until_ns;
};

/* The call @t, which connects the stand-in with that cookie. To be made before the reply. */
struct answered answered_make(const struct trap *t, uint64_t cookie);
void answered_put(struct switch_ctx *sw, const struct answered *a);
bool answered_same(struct trap *t, uint64_t cookie);

/* Housekeeping: closes what nobody came for. Under sw->lock. */
void kept_tick(struct switch_ctx *sw, uint64_t now);

#endif
