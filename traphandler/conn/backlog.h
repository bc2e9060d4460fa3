/* backlog.h - blocking connects that wait for room in a listener's backlog.
 *
 * They wait in the order of their first attempt. Whoever makes room lets one try, and one that gets
 * through lets the next: what is spent is in proportion to what gets on. Parks calls (trap.h). */
#ifndef TRAPHANDLER_BACKLOG_H
#define TRAPHANDLER_BACKLOG_H

#include "traphandler/trap/trap.h"

/* Parks @t, with the cookie of its socket in t->call->cookie, behind the others; it tries again at @deadline_ns at the latest. */
void backlog_park(struct trap *t, struct listener *l, uint64_t deadline_ns);
/* It tried in vain: parks it in front of the others. */
void backlog_park_again(struct trap *t, struct listener *l);
/* @t, which waited for the listener with that anchor (t->call->cookie when it was resumed), got through. */
void backlog_pass_on(struct trap *t, uint64_t anchor);

/* Was the last connect() of the socket with that cookie interrupted here within 5 s, and is not made
 * again? True once. */
bool backlog_gave_up(struct switch_ctx *sw, uint64_t native);

/* Under sw->lock: one tries again; all do, since @l is gone. */
void backlog_retry_next(struct switch_ctx *sw, struct listener *l);
void backlog_retry_all(struct switch_ctx *sw, struct listener *l);

/* Under sw->lock, on each tick: deadlines, and room that nobody told us of. */
void backlog_tick(struct switch_ctx *sw, uint64_t now);

#endif
