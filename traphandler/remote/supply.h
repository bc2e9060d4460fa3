/* supply.h - TCP sockets of the host's network namespace for threads that live in another.
 *
 * A trap worker lives in the private namespace of the stand-ins, and without privilege it cannot enter
 * the host's again. So a thread that never left it makes sockets ahead, a few of each family that is asked
 * for. One supply a process. */
#ifndef REMOTE_SUPPLY_H
#define REMOTE_SUPPLY_H

/* Starts the thread, in the caller's network namespace. 0 or -errno. */
int supply_start(void);
void supply_stop(void);

/* A fresh, non-blocking, close-on-exec TCP socket of @family, the caller's; or -errno. Any thread. */
int supply_take(int family);

#endif
