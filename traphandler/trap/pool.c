#include "traphandler/trap/pool.h"

#include "traphandler/conn/accept.h"
#include "traphandler/conn/closer.h"
#include "traphandler/service/quota.h"
#include "traphandler/service/registry.h"
#include "traphandler/trap/dispatch.h"
#include "traphandler/trap/readers.h"

#include <appswitch/log.h>
#include <appswitch/util.h>

#include <assert.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif
#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

#define MAX_BUSY 8 /* workers in waiting calls of one app, at most */

struct pool {
	unsigned max_busy;
	/* under sw->lock */
	struct app *by_slot[ST_APPS];
	uint32_t free_calls[ST_CALLS];
	unsigned n_free;
	unsigned held[ST_APPS];	 /* call slots, by QUOTA_OF() */
	uint32_t next[ST_CALLS]; /* slot + 1: the list that a call slot is in (readers.h) */
	uint64_t waits_for[ST_CALLS]; /* deferred calls: the socket (pool_claim()), or 0 */
	struct slot_list later;
};

int worker_tgid(struct worker *w, int tid)
{
	return target_tgid(&w->targets, tid);
}

uint32_t worker_random(struct worker *w)
{
	/* xorshift32 (Marsaglia, 2003): port choice needs spread, not secrecy */
	w->seed ^= w->seed << 13;
	w->seed ^= w->seed >> 17;
	w->seed ^= w->seed << 5;
	return w->seed;
}

static void run_one(struct worker *w, struct app *app, uint32_t slot)
{
	struct st_call *call = &w->sw->st.calls[slot];
	struct trap t = {
		.sw = w->sw,
		.w = w,
		.app = app,
		.call = call,
		.nr = call->notif.data.nr,
		.args = (const uint64_t *)call->notif.data.args,
		.tid = (int)call->notif.pid,
		.copy = -1,
		.replaced = app->replaced,
	};

	w->app = app;
	atomic_store_explicit(&w->call_since_ms, now_ms(), memory_order_relaxed);
	trap_dispatch(&t);
	if (t.call != NULL) {
		log_error_limited("app %u: call %d was not answered; answering ENOSYS", app->id,
				  t.nr);
		trap_reply_errno(&t, ENOSYS);
	}
	atomic_store_explicit(&w->call_since_ms, 0, memory_order_relaxed);
	reader_unstick(w, app);
}

/* ---- lists of call slots, under sw->lock ---- */

static void list_push(struct pool *pool, struct slot_list *list, uint32_t slot)
{
	pool->next[slot] = 0;
	if (list->first == 0)
		list->first = slot + 1;
	else
		pool->next[list->last - 1] = slot + 1;
	list->last = slot + 1;
}

/* Takes the slot out to which *@at, a link of the list, points. */
static uint32_t list_take(struct pool *pool, struct slot_list *list, uint32_t *at)
{
	uint32_t slot = *at - 1;

	*at = pool->next[slot];
	if (list->last == slot + 1) {
		list->last = list->first;
		while (list->last != 0 && pool->next[list->last - 1] != 0)
			list->last = pool->next[list->last - 1];
	}
	return slot;
}

/* ---- one call after the other ---- */

/* A thread makes one call at a time. If its last one is still serviced, that was interrupted, and
 * what becomes of it (a connection that is kept for the next connect(), say) must be known first. */
static bool must_wait(const struct worker *w, const struct app *app, uint32_t slot)
{
	const struct st_call *call = &w->sw->st.calls[slot];

	if (app->busy == 0)
		return false;
	return (trap_may_wait(call->notif.data.nr) && app->busy >= w->sw->pool->max_busy) ||
	       readers_service(w->sw, w, (int)call->notif.pid, w->sw->pool->waits_for[slot]);
}

/* Under sw->lock. False: put off. */
static bool begin(struct worker *w, struct app *app, uint32_t slot)
{
	const struct st_call *call = &w->sw->st.calls[slot];

	if (must_wait(w, app, slot)) {
		list_push(w->sw->pool, &app->deferred, slot);
		return false;
	}
	if (trap_may_wait(call->notif.data.nr)) {
		app->busy++;
		w->tid = (int)call->notif.pid;
	}
	w->sw->pool->waits_for[slot] = 0;
	return true;
}

bool pool_claim(struct trap *t, uint64_t cookie)
{
	uint32_t slot = (uint32_t)(t->call - t->sw->st.calls);
	struct pool *pool = t->sw->pool;
	bool mine;

	pthread_mutex_lock(&t->sw->lock);
	if (t->w->tid == 0) {
		/* a call that rarely waits (SO_ERROR): from here on it is one that does */
		t->app->busy++;
		t->w->tid = t->tid;
	}
	/* what was looked at may have been replaced since */
	mine = t->app->replaced == t->replaced &&
	       (t->app->busy <= 1 || !readers_service(t->sw, t->w, -1, cookie));
	if (mine) {
		t->w->sock = cookie;
	} else {
		pool->waits_for[slot] = cookie;
		list_push(pool, &t->app->deferred, slot);
		trap_park(t);
	}
	pthread_mutex_unlock(&t->sw->lock);
	return mine;
}

/* Under sw->lock: ends the worker's call, and takes one that was put off and need not wait any more.
 * What waits for another worker's call is taken by that one. */
static bool end_and_next(struct worker *w, struct app *app, uint32_t *ret_slot)
{
	struct pool *pool = w->sw->pool;

	if (w->tid != 0) {
		w->tid = 0;
		w->sock = 0;
		app->busy--;
	}
	for (uint32_t *at = &app->deferred.first; *at != 0; at = &pool->next[*at - 1]) {
		if (must_wait(w, app, *at - 1))
			continue;
		*ret_slot = list_take(pool, &app->deferred, at);
		return begin(w, app, *ret_slot);
	}
	return false;
}

void pool_service(struct worker *w, struct app *app, uint32_t slot)
{
	struct switch_ctx *sw = w->sw;
	bool more;

	pthread_mutex_lock(&sw->lock);
	more = begin(w, app, slot);
	pthread_mutex_unlock(&sw->lock);
	while (more) {
		run_one(w, app, slot);
		pthread_mutex_lock(&sw->lock);
		more = end_and_next(w, app, &slot);
		pthread_mutex_unlock(&sw->lock);
	}
}

/* ---- events ---- */

/* Under sw->lock. */
static void abandon_deferred(struct switch_ctx *sw, struct app *app)
{
	while (app->deferred.first != 0)
		pool_abandon_slot(sw,
				  list_take(sw->pool, &app->deferred, &app->deferred.first));
}

static void on_app_hup(struct worker *w, struct app *app)
{
	struct switch_ctx *sw = w->sw;
	void (*ended)(struct switch_ctx *) = NULL;

	pthread_mutex_lock(&sw->lock);
	if (!app->ended) {
		group_unwatch(app);
		group_leave(w, app);
		sw->pool->by_slot[app->slot] = NULL;
		abandon_deferred(sw, app);
		app_end(sw, app);
		ended = sw->on_app_ended;
	}
	pthread_mutex_unlock(&sw->lock);
	if (ended != NULL)
		ended(sw);
}

/* RECV ignores O_NONBLOCK, but it cannot block here: its reader has just seen a notification, only the
 * group's reader receives, and one that is cancelled meanwhile makes RECV say ENOENT. */
static bool receive(struct worker *w, struct app *app, uint32_t *ret_slot,
		    bool *ret_share_taken)
{
	struct switch_ctx *sw = w->sw;
	struct pool *pool = sw->pool;
	struct st_call *call;
	uint32_t slot;
	unsigned room;
	int r;

	pthread_mutex_lock(&sw->lock);
	if (pool->n_free == 0) {
		pthread_mutex_unlock(&sw->lock);
		log_error_limited("app %u: all %u calls in flight are taken; its call waits",
				  app->id, ST_CALLS);
		usleep(1000);
		return false;
	}
	/* one for each thread is never given to a call that waits */
	room = pool->n_free > MAX_THREADS ? pool->n_free - MAX_THREADS : 0;
	*ret_share_taken = !quota_allows(pool->held[QUOTA_OF(app->id)]++, room);
	slot = pool->free_calls[--pool->n_free];
	pthread_mutex_unlock(&sw->lock);
	call = &sw->st.calls[slot];
	memset(call, 0, sizeof(*call));
	call->app = app->id;
	call->fd = -1;
	r = ioctl(app->listener_fd, SECCOMP_IOCTL_NOTIF_RECV, &call->notif);
	if (r < 0) {
		/* ENOENT: interrupted in between. The kernel may have written to the slot */
		app_note_interrupted(app);
		pthread_mutex_lock(&sw->lock);
		pool_free_slot(sw, slot);
		pthread_mutex_unlock(&sw->lock);
		return false;
	}
	*ret_slot = slot;
	return true;
}

static struct app *app_by_slot(struct switch_ctx *sw, uint32_t slot)
{
	struct app *app;

	pthread_mutex_lock(&sw->lock);
	app = sw->pool->by_slot[slot];
	if (app != NULL)
		app_ref(app);
	pthread_mutex_unlock(&sw->lock);
	return app;
}

void pool_put_app(struct switch_ctx *sw, struct app *app)
{
	pthread_mutex_lock(&sw->lock);
	app_unref(sw, app);
	pthread_mutex_unlock(&sw->lock);
}

/* A call that may wait, of an app with as many of them as it may have: as if memory were short. */
static void refuse(struct worker *w, struct app *app, uint32_t slot)
{
	struct trap t = {
		.sw = w->sw, .w = w, .app = app, .call = &w->sw->st.calls[slot], .copy = -1
	};

	quota_tell(app, QUOTA_CALLS);
	trap_reply_errno(&t, ENOBUFS);
}

static void on_app_event(struct worker *w, uint32_t app_slot, uint32_t events)
{
	struct app *app = app_by_slot(w->sw, app_slot);
	bool may_wait, share_taken;
	uint32_t slot;

	if (app == NULL)
		return;
	if ((events & EPOLLIN) && receive(w, app, &slot, &share_taken)) {
		may_wait = trap_may_wait(w->sw->st.calls[slot].notif.data.nr);
		if (may_wait && share_taken) {
			refuse(w, app, slot);
		} else {
			if (may_wait)
				reader_hand_on_if_more(w);
			pool_service(w, app, slot);
		}
	} else if (events & (EPOLLHUP | EPOLLERR)) {
		on_app_hup(w, app);
	}
	pool_put_app(w->sw, app);
}

static void on_wake(struct worker *w)
{
	struct switch_ctx *sw = w->sw;
	struct group *g = w->group;
	uint64_t n;

	if (g == NULL)
		return;
	if (read(g->wakefd, &n, sizeof(n)) < 0) {
		/* another worker was faster */
	}
	for (;;) {
		struct app *app = NULL;
		uint32_t slot = 0;

		pthread_mutex_lock(&sw->lock);
		while (g->resume.first != 0 && app == NULL) {
			slot = list_take(sw->pool, &g->resume, &g->resume.first);
			app = app_find(sw, sw->st.calls[slot].app);
			if (app == NULL)
				pool_abandon_slot(sw, slot);
			else
				app_ref(app);
		}
		pthread_mutex_unlock(&sw->lock);
		if (app == NULL)
			return;
		pool_service(w, app, slot);
		pool_put_app(sw, app);
	}
}

void pool_event(struct worker *w, uint64_t what, uint32_t events)
{
	if ((what & EV_KIND) == EV_APP)
		on_app_event(w, (uint32_t)what, events);
	else if ((what & EV_KIND) == EV_WAKE)
		on_wake(w);
}

/* ---- start and end ---- */

int pool_start(struct switch_ctx *sw, int pns_fd)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (pool == NULL)
		return -ENOMEM;
	for (uint32_t i = ST_CALLS; i-- > 0;) {
		if (sw->st.calls[i].notif.id == 0)
			pool->free_calls[pool->n_free++] = i;
		else
			pool->held[QUOTA_OF(sw->st.calls[i].app)]++;
	}
	pool->max_busy = cpus < 2 ? 2 : cpus > MAX_BUSY ? MAX_BUSY : (unsigned)cpus;
	sw->pool = pool;
	return readers_start(sw, pns_fd);
}

void pool_stop(struct switch_ctx *sw)
{
	if (sw->pool == NULL || !readers_stop(sw))
		return;
	free(sw->pool);
	sw->pool = NULL;
}

int pool_join_locked(struct switch_ctx *sw, struct app *app)
{
	return group_join(sw, app);
}

int pool_add_app_locked(struct switch_ctx *sw, struct app *app)
{
	int r = group_join(sw, app);

	if (r < 0)
		return r;
	/* 6.6+: the target is woken on the worker's CPU, which costs a tenth of the time;
	 * without it everything works, slower */
	(void)ioctl(app->listener_fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS,
		    SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	sw->pool->by_slot[app->slot] = app;
	r = group_watch(app);
	if (r < 0) {
		sw->pool->by_slot[app->slot] = NULL;
		app->group->n_apps--;
		app->group = NULL;
	}
	return r;
}

int pool_add_app(struct switch_ctx *sw, struct app *app)
{
	int r;

	pthread_mutex_lock(&sw->lock);
	r = pool_add_app_locked(sw, app);
	pthread_mutex_unlock(&sw->lock);
	return r;
}

void pool_resume_locked(struct switch_ctx *sw, uint32_t slot)
{
	struct app *app = app_find(sw, sw->st.calls[slot].app);

	if (app == NULL || app->group == NULL) {
		pool_abandon_slot(sw, slot);
		return;
	}
	list_push(sw->pool, &app->group->resume, slot);
	group_wake(app->group);
}

void pool_resume(struct switch_ctx *sw, uint32_t slot)
{
	pthread_mutex_lock(&sw->lock);
	pool_resume_locked(sw, slot);
	pthread_mutex_unlock(&sw->lock);
}

void pool_resume_later(struct switch_ctx *sw, uint32_t slot)
{
	pthread_mutex_lock(&sw->lock);
	list_push(sw->pool, &sw->pool->later, slot);
	pthread_mutex_unlock(&sw->lock);
}

void pool_free_slot(struct switch_ctx *sw, uint32_t slot)
{
	sw->pool->waits_for[slot] = 0;
	assert(sw->pool->n_free < ST_CALLS &&
	       sw->pool->held[QUOTA_OF(sw->st.calls[slot].app)] > 0);
	sw->pool->held[QUOTA_OF(sw->st.calls[slot].app)]--;
	__atomic_store_n(&sw->st.calls[slot].notif.id, 0, __ATOMIC_RELEASE);
	sw->pool->free_calls[sw->pool->n_free++] = slot;
}

void pool_abandon_slot(struct switch_ctx *sw, uint32_t slot)
{
	struct st_call *call = &sw->st.calls[slot];

	/* no fd is left open for a call that is over: its peer would wait for ever */
	if (call->fd >= 0)
		closer_put(sw, app_find(sw, call->app), fd_steal(&call->fd));
	pool_free_slot(sw, slot);
}

void pool_watchdog(struct switch_ctx *sw)
{
	struct slot_list *later = &sw->pool->later;

	pthread_mutex_lock(&sw->lock);
	readers_watchdog(sw);
	while (later->first != 0)
		pool_resume_locked(sw, list_take(sw->pool, later, &later->first));
	pthread_mutex_unlock(&sw->lock);
	readers_shut_downs(sw);
}
