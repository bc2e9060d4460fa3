/* readers.h - the worker threads, and whose traps each of them reads.
 *
 * Apps are in groups, each group is read by one worker: of one app, as long as there are no more than
 * MAX_GROUPS. A trap wakes its reader on the CPU it comes from, and the reply wakes the app there
 * (SYNC_WAKE_UP), so that an app and its worker share a CPU; measured, seven times as fast as from
 * one CPU to another. One worker for several apps would be pulled to and fro between them.
 *
 * A reader that services a call which may wait hands its group on: at once if more is there to be
 * read, else the watchdog does it after a while. Those who come back find the group taken and wait as
 * spares; too many of them end.
 * Everything here is under sw->lock, except for what a worker does with itself. */
#ifndef TRAPHANDLER_READERS_H
#define TRAPHANDLER_READERS_H

#include "traphandler/trap/target.h"

#include <semaphore.h>

#define MAX_GROUPS  64
#define MAX_SPARES  2
#define MAX_THREADS 192 /* with those that are stuck */

/* What happened: kind, and which one. */
#define EV_APP	(1ull << 60)
#define EV_WAKE (2ull << 60) /* there is something to resume */
#define EV_STOP (3ull << 60)
#define EV_KIND (15ull << 60)

struct group {
	int epfd, wakefd;
	/* Its app, if it has only one: its traps are waited for with poll(2), and come there before
	 * the set. The kernel wakes who polls on the CPU of the trap; who waits in an epoll set, on any
	 * that is idle (ep_poll_callback() knows "sync", not "on the current CPU"). */
	_Atomic(struct app *) one;
	unsigned n_apps;
	unsigned n_installing; /* workers in an ADDFD for one of them */
	bool read;	       /* some worker reads it, or is about to */
	struct slot_list resume;
};

struct worker {
	struct switch_ctx *sw;
	pthread_t thread;
	struct target_cache targets;
	_Atomic(struct group *) group;	 /* that it reads; NULL: a spare, or it handed it on */
	_Atomic uint64_t addfd_since_ms; /* in an ADDFD; 0: not */
	atomic_bool telling; /* a child does, and no signal ends it (trap_addfd_send()) */
	_Atomic uint64_t call_since_ms; /* in a call, or past its last ADDFD; 0: not */
	unsigned seed;
	sem_t go; /* a spare waits here */
	/* under sw->lock */
	bool used;
	bool stuck;	 /* it was given up: another one works in its place */
	struct app *app; /* whose call it services */
	int tid;	 /* whose, if the call may wait; else 0 */
	uint64_t sock;	 /* cookie of the socket that the call is to replace, or 0 */
	struct worker *next_spare;
};

/* Threads start in the namespace @pns_fd. 0 or -errno. */
int readers_start(struct switch_ctx *sw, int pns_fd);
/* True: all have ended. False: one is stuck, and what it may use must stay. */
bool readers_stop(struct switch_ctx *sw);

/* Puts the app into a group; its traps are not read yet. 0 or -errno. */
int group_join(struct switch_ctx *sw, struct app *app);
/* Reads its traps, or no longer. */
int group_watch(struct app *app);
void group_unwatch(struct app *app);
/* Again, if nothing is against it any more. */
void group_rewatch(struct app *app);
/* Around an ADDFD. The target does it with the lock of its listener taken, for as long as a file that
 * it closes stalls (FUSE), and who looks at the listener waits: that be nobody who reads others' traps. */
void group_begin_install(struct app *app);
void group_end_install(struct app *app);
/* l->watch_fd is looked at by readers_shut_downs(). */
int group_watch_listener(const struct listener *l);
void group_unwatch_listener(const struct listener *l);
/* Its last app's leaving ends the group. By the group's reader. */
void group_leave(struct worker *w, struct app *app);
void group_wake(struct group *g);

/* Before a call that may wait, without the lock. */
void reader_hand_on_if_more(struct worker *w);
/* Is a call of that thread, or one that replaces that socket (0: none), being serviced by another
 * worker? */
bool readers_service(struct switch_ctx *sw, const struct worker *but, int tid, uint64_t sock);
/* After a call: if it was held up, that is over. */
void reader_unstick(struct worker *w, struct app *app);

/* Of listeners on which accepts wait, those that were shut down; without the lock. Not in a group's set:
 * that is locked while its reader waits for the app. */
void readers_shut_downs(struct switch_ctx *sw);
/* Frees workers that wait for an app too long, finds readers for groups that have none. */
void readers_watchdog(struct switch_ctx *sw);

/* What a reader does with an event of its group (pool.c). */
void pool_event(struct worker *w, uint64_t what, uint32_t events);

#endif
