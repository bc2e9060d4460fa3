/* pool.h - calls in flight: received, serviced, put off, parked, resumed. By whom: readers.h.
 *
 * Workers live in the private network namespace, so every socket they make is a stand-in's.
 * None of them makes a call that can block on an app, but one: ADDFD waits until the target
 * installs the fd. A worker that waits longer than POOL_READ_MAX_MS no longer reads; one that waits
 * longer than POOL_ADDFD_MAX_MS is interrupted and the call tried again later. A target's memory can
 * stall too (userfaultfd, FUSE), and whoever looks into its epoll set while that is copied there, and
 * nothing interrupts that. Every call is over soon otherwise, so one that takes longer than
 * POOL_CALL_MAX_MS is taken for such a stall: the app's traps wait until it returns.
 * Notifications are received straight into a slot of the state memfd (state.h). */
#ifndef TRAPHANDLER_POOL_H
#define TRAPHANDLER_POOL_H

#include "traphandler/trap/trap.h"

#define POOL_READ_MAX_MS  5
#define POOL_ADDFD_MAX_MS 100
#define POOL_CALL_MAX_MS  100

/* Threads start in the namespace @pns_fd. 0 or -errno. */
int pool_start(struct switch_ctx *sw, int pns_fd);
void pool_stop(struct switch_ctx *sw);

/* Its calls can be resumed from now on; its traps are not read yet. Under sw->lock. */
int pool_join_locked(struct switch_ctx *sw, struct app *app);
/* From now on the app's traps are serviced. */
int pool_add_app(struct switch_ctx *sw, struct app *app);
int pool_add_app_locked(struct switch_ctx *sw, struct app *app); /* sw->lock is held */

/* Goes on with a parked (or inherited) call; from any thread. */
void pool_resume(struct switch_ctx *sw, uint32_t slot);
void pool_resume_locked(struct switch_ctx *sw, uint32_t slot); /* sw->lock is held */

/* The same, not before the next housekeeping: the target gets no CPU now. */
void pool_resume_later(struct switch_ctx *sw, uint32_t slot);
/* Gives the slot of a call that is over back; sw->lock is held. */
void pool_free_slot(struct switch_ctx *sw, uint32_t slot);

/* The same for one that nobody will go on with: closes the fd it names. */
void pool_abandon_slot(struct switch_ctx *sw, uint32_t slot);

/* The socket with that cookie, which the call is to replace, is the worker's until the call ends. False:
 * another worker replaces it right now, or has since @t began; the call is put off until then, and @t
 * is over. */
bool pool_claim(struct trap *t, uint64_t cookie);

/* Services the call in @slot, then those of the same app that had to wait for it. The caller
 * holds a reference to @app. */
void pool_service(struct worker *w, struct app *app, uint32_t slot);
/* Drops a reference. */
void pool_put_app(struct switch_ctx *sw, struct app *app);

/* Housekeeping from the main thread: frees stuck workers, resumes what was put off. */
void pool_watchdog(struct switch_ctx *sw);

int worker_tgid(struct worker *w, int tid);
uint32_t worker_random(struct worker *w);

#endif
