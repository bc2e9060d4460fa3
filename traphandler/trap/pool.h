/* pool.h - the trap workers: receive, dispatch, park, resume.
 *
 * Workers live in the private network namespace, so every socket they make is a stand-in's.
 * None of them makes a call that can block on an app, but one: ADDFD waits until the target
 * installs the fd. So of the calls that may do that, at most half the workers are in those of
 * one app (the rest are deferred), and a worker that waits longer than POOL_ADDFD_MAX_MS is
 * interrupted and the call tried again later. A target's memory can stall too (userfaultfd, FUSE),
 * and nothing interrupts that: after POOL_MEMORY_MAX_MS another worker takes the place, and the
 * app's traps wait until its memory is there.
 * Notifications are received straight into a slot of the state memfd (state.h). */
#ifndef TRAPHANDLER_POOL_H
#define TRAPHANDLER_POOL_H

#include "traphandler/trap/target.h"
#include "traphandler/trap/trap.h"

#define POOL_LEAD_MAX_MS   5
#define POOL_ADDFD_MAX_MS  100
#define POOL_MEMORY_MAX_MS 100

struct worker {
	struct switch_ctx *sw;
	pthread_t thread;
	struct target_cache targets;
	_Atomic uint64_t addfd_since_ms;  /* in an ADDFD; 0: not */
	_Atomic uint64_t memory_since_ms; /* in the target's memory; 0: not */
	unsigned seed;
	atomic_bool leads; /* this worker waits for events, or may */
	/* under sw->lock */
	bool used;
	struct app *app; /* whose call it services */
	bool surplus;	 /* its own: to end */
	bool stuck;	 /* it was given up: another one works in its place */
};

/* Threads start in the namespace @pns_fd. 0 or -errno. */
int pool_start(struct switch_ctx *sw, int pns_fd);
void pool_stop(struct switch_ctx *sw);

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

/* Services the call in @slot, then those of the same app that had to wait for it. The caller
 * holds a reference to @app. */
void pool_service(struct worker *w, struct app *app, uint32_t slot);
/* Drops a reference. */
void pool_put_app(struct switch_ctx *sw, struct app *app);

/* When @fd (which stays the caller's) becomes readable, a worker calls accept_ready() with
 * @listener_slot, once; @again re-arms. 0 or -errno. */
int pool_watch(struct switch_ctx *sw, int fd, uint32_t listener_slot, bool again);
void pool_unwatch(struct switch_ctx *sw, int fd);

/* Housekeeping from the main thread: frees stuck workers, resumes what was put off. */
void pool_watchdog(struct switch_ctx *sw);

int worker_tgid(struct worker *w, int tid);
uint32_t worker_random(struct worker *w);

#endif
