/* closer.h - closes files that an app may have put into an epoll set.
 *
 * The last close of a file takes it out of such sets and waits for the lock of each, which the app
 * can hold for as long as it likes (epoll_readd.h). So nobody closes one with sw->lock held: it is
 * handed to a thread that does nothing else. Who finds none idle gets another, and of one app at
 * most CLOSER_PER_APP files are being closed at a time: what it holds up is its own. */
#ifndef TRAPHANDLER_CLOSER_H
#define TRAPHANDLER_CLOSER_H

#include "traphandler/switch.h"

#define CLOSER_PER_APP 2

/* Takes @fd; sw->lock is held. @app is NULL if it has ended: all such count as one. */
void closer_put(struct switch_ctx *sw, struct app *app, int fd);

/* Until all of @app's are closed, for who depends on the effect (a port, a name). Only in a call of
 * that app; sw->lock is not held. False if there were none. */
bool closer_wait(struct switch_ctx *sw, struct app *app);

#endif
