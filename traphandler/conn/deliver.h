/* deliver.h - an accepted connection to the app: exactly once, whatever interrupts it.
 *
 * The number of a new descriptor is told by the reply to accept(). Two ways:
 *   quick    ADDFD, then SEND with the number: both wake the target on the worker's CPU. A signal
 *            between the two is noticed (SEND says ENOENT); but one that has just woken the target
 *            when SEND comes makes the kernel throw the reply away that it took
 *            (seccomp_do_user_notification() looks at its wait's result first), and nobody is told
 *   careful  ADDFD with SEND in it (seccomp_unotify(2)), which the target itself carries out: both
 *            or none. If the caller of that ioctl dies before, the target's accept() returns 0,
 *            that is stdin; so a child process calls it, which the end of the daemon does not end
 * Careful costs some 30 µs more. It is taken for an app that was seen to be interrupted lately.
 *
 * A connection that did not get there waits with its listener for the next accept(). One that is
 * in the app's table already, untold, waits for the next accept() of that process; if the listener is
 * closed before that, it is shut down, so that its client sees the end (natively: a reset), and the
 * number stays taken. */
#ifndef TRAPHANDLER_DELIVER_H
#define TRAPHANDLER_DELIVER_H

#include "traphandler/trap/trap.h"

/* The connection in t->call->fd (stage ST_ACCEPTED) goes to the caller of accept(); with @at >= 0
 * the app has it at that number already. Ends @t. */
void deliver_connection(struct trap *t, struct listener *l, int at);

/* Goes on with a connection that an earlier round or daemon took, and may have installed. False:
 * nothing is installed yet, and @t has not ended. */
bool deliver_resume(struct trap *t, struct listener *l);

/* What waits for this caller: true with a descriptor of ours in *ret_fd, and in *ret_at the
 * number that the app has for it already, or -1. */
bool deliver_take(struct trap *t, struct listener *l, int *ret_fd, int *ret_at);

/* @fd, which becomes the listener's, waits for any accept(). The first is for workers, who make
 * the listener readable too; the second is under sw->lock. */
void deliver_requeue(struct trap *t, struct listener *l, int fd);
void deliver_requeue_locked(struct listener *l, int fd);
/* The first for one that the app has at @at already, if that is >= 0. */
void deliver_put_back(struct trap *t, struct listener *l, int at, int fd);

/* Under sw->lock: closes what waits, or shuts it down. */
void deliver_listener_gone(struct switch_ctx *sw, struct listener *l);

#endif
