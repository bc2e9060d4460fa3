/* adopt.h - goes on where a daemon that ended left off. */
#ifndef TRAPHANDLER_ADOPT_H
#define TRAPHANDLER_ADOPT_H

#include "traphandler/state/holder.h"
#include "traphandler/switch.h"

/* Takes the fds and the records of the old state into the new one: apps, listeners, sockets,
 * calls. @sw has an empty state, no thread runs yet, and the old holder loses nothing by it.
 * 0 or -errno. */
int adopt_header(struct switch_ctx *sw, const struct adoption *a);
int adopt_state(struct switch_ctx *sw, const struct adoption *a);

/* With the workers running: the calls that were in flight are serviced. */
void adopt_resume(struct switch_ctx *sw);

#endif
