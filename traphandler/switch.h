/* switch.h - the daemon's one shared object: apps, listeners, and the lock over them.
 *
 * Threads: the main thread runs the control socket and timers; trap workers (trap/pool.h)
 * service notifications. What is below "under lock" is touched only with sw->lock held, and the
 * lock is never held across a system call that can wait.
 * An app is freed only when its seccomp listener hung up and no worker uses it (refs). */
#ifndef TRAPHANDLER_SWITCH_H
#define TRAPHANDLER_SWITCH_H

#include "traphandler/conn/inherit.h"
#include "traphandler/conn/names.h"
#include "traphandler/service/lb.h"
#include "traphandler/service/svc.h"
#include "traphandler/state/state.h"

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

struct proc;
struct parked;
struct delivery;
struct worker;
struct waiting;
struct remote;
struct cluster;
struct maglev_cache;

/* Call slots; each is in at most one list (trap/pool.c). Zero: empty. */
struct slot_list {
	uint32_t first, last; /* slot + 1 */
};

/* The app's namespace, for work of ours inside it (conn/appns.h). */
enum appns_state { APPNS_UNKNOWN, APPNS_READY, APPNS_UNABLE };

struct app {
	uint32_t id;
	uint32_t slot; /* in state.apps */
	int listener_fd, probe_fd;
	uint64_t netns_cookie;
	int32_t pid;
	int64_t started;
	/* the registration */
	char *name, *network, *command, *tags;
	uint32_t network_id;
	enum lb_policy lb;
	unsigned weight; /* 1 to 1000 */
	struct as_addr ip4, ip6;
	bool own4, own6; /* chosen by the user: a service address; else only an identity */

	atomic_bool has_epoll;
	atomic_bool large_epoll; /* one of its sets was seen to be (trap/target.h) */
	atomic_bool has_private; /* it has listened where only it is heard (conn/listen.h) */
	atomic_bool carried;	 /* it has had TCP connections of carry.h */
	atomic_uint carried_s;	 /* ... the last one at this time (sockrec_now()) */
	pthread_mutex_t
		listen_lock;  /* listening and connecting in its own namespace, in turn */
	atomic_uint replaced; /* files so far (conn/replace.h) */
	_Atomic uint64_t
		careful_until_ms; /* signals interrupt its calls (app_interrupted_lately()) */
	atomic_bool interrupted;  /* ever */
	atomic_uint quota_told;	  /* tables it was refused more of, a bit each (quota.h) */
	/* under listen_lock */
	_Atomic enum appns_state appns;
	int ns_fd;   /* its network namespace, or -1 */
	int diag_fd; /* main thread: NETLINK_SOCK_DIAG in it, or -1 */
	/* under lock */
	unsigned carrying; /* connections of carry.h that wait for their accept() */
	struct app *next;
	struct group *group; /* with whom its traps are read (trap/readers.h) */
	unsigned refs;
	bool ended;
	bool draining; /* see app_drains() */
	unsigned n_listeners;
	unsigned to_close, closing; /* files at the closer; of them in close() */
	unsigned stalled;	    /* workers stuck in its memory: its traps wait */
	/* workers in an ADDFD. The target does it with the lock of its listener taken, and it may close a
	 * file that stalls (FUSE): nobody else may use the listener under sw->lock meanwhile */
	unsigned installing;
	bool unwatched;		   /* its traps are not looked at (trap/readers.h) */
	unsigned busy;		   /* workers in a call that may wait for this app */
	struct slot_list deferred; /* calls that wait for that, or for one of the same thread */
	struct proc *procs;	   /* what is known about its processes' epoll sets */
};

struct listener {
	uint32_t slot; /* in state.listeners; also its id in the service table */
	struct app *app;
	uint64_t anchor;
	int anchor_fd;
	struct as_addr bound;
	uint16_t port;
	uint8_t face;
	bool v6only;
	int32_t pid, fdno; /* who called listen(), and on which number */
	uint32_t serial;
	uint32_t inode;		     /* of the stand-in; 0: not known yet */
	uint8_t missed;		     /* sweeps that did not see it */
	pthread_mutex_t accept_lock; /* look, then take: one at a time */
	struct inherit inherit;	     /* options of its accepted sockets */
	/* under lock */
	unsigned refs;
	bool gone;
	atomic_uint accepted_since;  /* connections made since the last count */
	uint32_t told;		     /* of both, to other nodes */
	uint32_t connections;	     /* by the last count */
	uint32_t connections6;	     /* of them over IPv6 */
	struct delivery *deliveries; /* accepted, but not yet known to the app */
	struct waiting *waiting;     /* TCP, announced, but not accepted yet (conn/waiting.h) */
	unsigned n_outside;	     /* of them from other nodes */
	bool announced;		     /* a carrier in the queue stands for them */
	struct parked *accepts;	     /* blocking accepts that wait, first come first */
	int watch_fd;		     /* the stand-in listener while accepts wait, or -1 */
	struct parked *full;	     /* blocking connects that wait for room in the backlog */
};

struct switch_ctx {
	struct state st;
	uint64_t pns_cookie; /* of the private namespace of the stand-ins */
	int diag_fd;	     /* NETLINK_SOCK_DIAG in it */
	int tmpl4, tmpl6;    /* connected TCP sockets in it: what a fresh connection answers */
	int scratch4, scratch6; /* like them; options are tried on them */
	int sndbuf;		/* what every stand-in gets */
	bool sndbuf_force;
	bool embedded, stopping;
	char node[64];

	pthread_mutex_t lock;
	/* under lock */
	struct app *apps;
	unsigned n_apps;
	bool draining; /* all of them (cluster/node.h) */
	struct listener *listeners[ST_LISTENERS];
	unsigned n_listeners, max_listeners; /* as many as there are fds for */
	struct listener *by_anchor[4096];    /* open hash by anchor; chained by hnext below */
	struct listener *hnext[ST_LISTENERS];
	struct svc_table *svc;
	struct maglev_cache *maglev;
	struct {
		char *name;
		uint32_t id;
	} * networks;
	unsigned n_networks;
	uint32_t listener_serial;
	uint32_t lb_seq[4096]; /* choices so far, by hash of the service */

	struct pool *pool;
	struct readers *readers;
	struct sockrec *socks;
	struct remote *remote;	 /* connections with other nodes; NULL: there are none */
	struct cluster *cluster; /* ... and what is known of them */
	void (*on_app_ended)(struct switch_ctx *sw); /* from a worker thread */
};

static inline uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t now_ms(void)
{
	return now_ns() / 1000000u;
}

/* Signals come in bursts and from timers: an app that had one will have more. Of a new one nobody
 * knows, so it counts as one that had for a moment: who lives with a timer shows it in that time. */
#define INTERRUPTED_MS 60000u
#define UNKNOWN_MS     1000u

static inline void app_note_interrupted(struct app *app)
{
	app->interrupted = true;
	atomic_store_explicit(&app->careful_until_ms, now_ms() + INTERRUPTED_MS,
			      memory_order_relaxed);
}

static inline bool app_interrupted_lately(const struct app *app)
{
	return now_ms() < atomic_load_explicit(&app->careful_until_ms, memory_order_relaxed);
}

/* The same of one that is known to: a new one does not count. */
static inline bool app_was_interrupted(const struct app *app)
{
	return app_interrupted_lately(app) && app->interrupted;
}

#endif
