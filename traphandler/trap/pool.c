#include "traphandler/trap/pool.h"

#include "traphandler/conn/accept.h"
#include "traphandler/service/registry.h"
#include "traphandler/trap/dispatch.h"

#include <appswitch/log.h>
#include <appswitch/util.h>

#include <assert.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif
#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

#define MAX_WORKERS 8  /* that work */
#define MAX_THREADS 64 /* with those that are stuck */

/* epoll data: what the event is about, and which one */
#define EV_APP	 (1ull << 60)
#define EV_WAKE	 (2ull << 60)
#define EV_WAITQ (3ull << 60)
#define EV_KIND	 (15ull << 60)

/* Leader and followers (Schmidt et al., 2000): one worker waits; it hands the wait on before it
 * services a call that may take long, and not before a quick one. All waiting at once would wake
 * two for every trap. */
struct pool {
	sem_t leader;
	int epfd, wakefd;
	unsigned n, max_busy; /* workers wanted; of them in waiting calls of one app */
	int pns_fd;
	atomic_bool stop;
	atomic_uint started;
	struct worker workers[MAX_THREADS];
	/* under sw->lock */
	struct app *by_slot[ST_APPS];
	uint32_t free_calls[ST_CALLS];
	unsigned n_free;
	uint32_t *resume; /* a ring of ST_CALLS */
	unsigned res_head, res_n;
	uint32_t *later; /* at most ST_CALLS */
	unsigned n_later;
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

static bool unstick(struct worker *w, struct app *app);

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
	};

	w->app = app;
	trap_dispatch(&t);
	if (t.call != NULL) {
		log_error("app %u: call %d was not answered; answering ENOSYS", app->id, t.nr);
		trap_reply_errno(&t, ENOSYS);
	}
	if (unstick(w, app))
		w->surplus = true;
}

static bool defer(struct app *app, uint32_t slot)
{
	if (app->def_n == app->def_cap) {
		unsigned cap = app->def_cap ? app->def_cap * 2 : 16;
		uint32_t *p = malloc(cap * sizeof(*p));

		if (p == NULL)
			return false; /* serviced at once instead */
		for (unsigned i = 0; i < app->def_n; i++)
			p[i] = app->deferred[(app->def_head + i) % app->def_cap];
		free(app->deferred);
		app->deferred = p;
		app->def_cap = cap;
		app->def_head = 0;
	}
	app->deferred[(app->def_head + app->def_n++) % app->def_cap] = slot;
	return true;
}

void pool_service(struct worker *w, struct app *app, uint32_t slot)
{
	struct switch_ctx *sw = w->sw;
	bool waits = trap_may_wait(sw->st.calls[slot].notif.data.nr);
	bool more;

	if (waits) {
		bool deferred = false;

		pthread_mutex_lock(&sw->lock);
		if (app->busy >= sw->pool->max_busy)
			deferred = defer(app, slot);
		if (!deferred)
			app->busy++;
		pthread_mutex_unlock(&sw->lock);
		if (deferred)
			return;
	}
	do {
		run_one(w, app, slot);
		more = false;
		if (!waits)
			break;
		pthread_mutex_lock(&sw->lock);
		if (app->def_n > 0) {
			slot = app->deferred[app->def_head];
			app->def_head = (app->def_head + 1) % app->def_cap;
			app->def_n--;
			more = true;
		} else {
			app->busy--;
		}
		pthread_mutex_unlock(&sw->lock);
	} while (more);
}

static void on_app_hup(struct worker *w, struct app *app)
{
	struct switch_ctx *sw = w->sw;
	void (*ended)(struct switch_ctx *) = NULL;

	pthread_mutex_lock(&sw->lock);
	if (!app->ended) {
		epoll_ctl(sw->pool->epfd, EPOLL_CTL_DEL, app->listener_fd, NULL);
		sw->pool->by_slot[app->slot] = NULL;
		accept_app_gone(sw, app);
		app_end(sw, app);
		ended = sw->on_app_ended;
	}
	pthread_mutex_unlock(&sw->lock);
	if (ended != NULL)
		ended(sw);
}

/* RECV ignores O_NONBLOCK, but it cannot block here: epoll has just seen a notification, only the
 * leader receives, and one that is cancelled meanwhile makes RECV say ENOENT. */
static bool receive(struct worker *w, struct app *app, uint32_t *ret_slot)
{
	struct switch_ctx *sw = w->sw;
	struct pool *pool = sw->pool;
	struct st_call *call;
	uint32_t slot;
	int r;

	pthread_mutex_lock(&sw->lock);
	if (pool->n_free == 0) {
		pthread_mutex_unlock(&sw->lock);
		log_error("app %u: all %u calls in flight are taken; its call waits", app->id,
			  ST_CALLS);
		usleep(1000);
		return false;
	}
	slot = pool->free_calls[--pool->n_free];
	pthread_mutex_unlock(&sw->lock);
	call = &sw->st.calls[slot];
	memset(call, 0, sizeof(*call));
	call->app = app->id;
	call->fd = -1;
	r = ioctl(app->listener_fd, SECCOMP_IOCTL_NOTIF_RECV, &call->notif);
	if (r < 0) {
		/* ENOENT: interrupted in between. The kernel may have written to the slot */
		call->notif.id = 0;
		pthread_mutex_lock(&sw->lock);
		pool->free_calls[pool->n_free++] = slot;
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

/* By the worker itself, or by the watchdog for one that is stuck. */
static void pass_lead(struct worker *w)
{
	if (atomic_exchange(&w->leads, false))
		sem_post(&w->sw->pool->leader);
}

static void lead(struct worker *w)
{
	if (w->leads)
		return;
	while (sem_wait(&w->sw->pool->leader) < 0)
		; /* EINTR: the watchdog's signal */
	w->leads = true;
}

/* The memory came after all: the app's traps are watched again, and one worker is too many. */
static bool unstick(struct worker *w, struct app *app)
{
	struct switch_ctx *sw = w->sw;
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = EV_APP | app->slot };
	bool was;

	pthread_mutex_lock(&sw->lock);
	was = w->stuck;
	w->stuck = false;
	w->app = NULL;
	if (was && --app->stalled == 0 && !app->ended)
		epoll_ctl(sw->pool->epfd, EPOLL_CTL_ADD, app->listener_fd, &ev);
	pthread_mutex_unlock(&sw->lock);
	return was;
}

static void on_app_event(struct worker *w, uint32_t app_slot, uint32_t events)
{
	struct app *app = app_by_slot(w->sw, app_slot);
	uint32_t slot;

	if (app == NULL)
		return;
	if ((events & EPOLLIN) && receive(w, app, &slot)) {
		/* also if nobody else has work now: measured, a worker that keeps the lead through
		 * a hand-over is moved between CPUs with its targets and does a third less */
		if (trap_may_wait(w->sw->st.calls[slot].notif.data.nr))
			pass_lead(w);
		pool_service(w, app, slot);
	} else if (events & (EPOLLHUP | EPOLLERR)) {
		on_app_hup(w, app);
	}
	pool_put_app(w->sw, app);
}

static void on_wake(struct worker *w)
{
	struct switch_ctx *sw = w->sw;
	struct pool *pool = sw->pool;
	uint64_t n;

	if (read(pool->wakefd, &n, sizeof(n)) < 0) {
		/* another worker was faster */
	}
	for (;;) {
		struct app *app;
		uint32_t slot;

		pthread_mutex_lock(&sw->lock);
		if (pool->res_n == 0) {
			pthread_mutex_unlock(&sw->lock);
			return;
		}
		slot = pool->resume[pool->res_head];
		pool->res_head = (pool->res_head + 1) % ST_CALLS;
		pool->res_n--;
		app = app_find(sw, sw->st.calls[slot].app);
		if (app != NULL)
			app_ref(app);
		else
			pool_abandon_slot(sw, slot);
		pthread_mutex_unlock(&sw->lock);
		if (app == NULL)
			continue;
		pool_service(w, app, slot);
		pool_put_app(sw, app);
	}
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct pool *pool = w->sw->pool;
	sigset_t set;

	/* a signal in the middle of a hand-over could make the target's call return early;
	 * only the watchdog's may interrupt, and only ADDFD */
	sigfillset(&set);
	sigdelset(&set, SIGUSR2);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	if (setns(pool->pns_fd, CLONE_NEWNET) < 0)
		log_error("worker: cannot enter the private network namespace: %s",
			  strerror(errno));
	atomic_fetch_add(&pool->started, 1);
	while (!pool->stop) {
		struct epoll_event ev;
		int n;

		if (w->surplus)
			break;
		lead(w);
		n = pool->stop ? 0 : epoll_wait(pool->epfd, &ev, 1, -1);
		if (n < 1)
			continue;
		if ((ev.data.u64 & EV_KIND) != EV_APP)
			pass_lead(w);
		switch (ev.data.u64 & EV_KIND) {
		case EV_APP:
			on_app_event(w, (uint32_t)ev.data.u64, ev.events);
			break;
		case EV_WAKE:
			on_wake(w);
			break;
		case EV_WAITQ:
			accept_ready(w, (uint32_t)ev.data.u64);
			break;
		}
	}
	pass_lead(w);
	target_cache_done(&w->targets);
	pthread_mutex_lock(&w->sw->lock);
	if (w->surplus) {
		pthread_detach(pthread_self());
		w->used = false;
	}
	pthread_mutex_unlock(&w->sw->lock);
	return NULL;
}

static void on_sigusr2(int sig)
{
	(void)sig; /* its delivery is its effect: an ioctl returns EINTR */
}

/* One more thread; at the start, or under sw->lock. */
static int start_worker(struct switch_ctx *sw)
{
	struct pool *pool = sw->pool;
	pthread_attr_t attr;
	struct worker *w;
	unsigned i = 0;
	int r;

	while (i < MAX_THREADS && pool->workers[i].used)
		i++;
	if (i == MAX_THREADS)
		return -EAGAIN;
	w = &pool->workers[i];
	memset(w, 0, sizeof(*w));
	w->sw = sw;
	w->seed = (unsigned)now_ns() * 2654435761u + i + 1;
	if (w->seed == 0)
		w->seed = 1;
	target_cache_init(&w->targets);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 * 1024);
	w->used = true;
	r = pthread_create(&w->thread, &attr, worker_main, w);
	pthread_attr_destroy(&attr);
	if (r != 0)
		w->used = false;
	return -r;
}

int pool_start(struct switch_ctx *sw, int pns_fd)
{
	struct sigaction sa = { .sa_handler = on_sigusr2 };
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = EV_WAKE };
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	struct pool *pool = calloc(1, sizeof(*pool));

	if (pool == NULL)
		return -ENOMEM;
	sem_init(&pool->leader, 0, 1);
	pool->resume = malloc(ST_CALLS * sizeof(*pool->resume));
	pool->later = malloc(ST_CALLS * sizeof(*pool->later));
	pool->epfd = epoll_create1(EPOLL_CLOEXEC);
	pool->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pool->pns_fd = pns_fd;
	if (pool->resume == NULL || pool->later == NULL || pool->epfd < 0 || pool->wakefd < 0 ||
	    epoll_ctl(pool->epfd, EPOLL_CTL_ADD, pool->wakefd, &ev) < 0)
		return -errno;
	for (uint32_t i = ST_CALLS; i-- > 0;) {
		if (sw->st.calls[i].notif.id == 0)
			pool->free_calls[pool->n_free++] = i;
	}
	pool->n = cpus < 2 ? 2 : cpus > MAX_WORKERS ? MAX_WORKERS : (unsigned)cpus;
	pool->max_busy = pool->n / 2;
	sigaction(SIGUSR2, &sa, NULL);
	sw->pool = pool;
	for (unsigned i = 0; i < pool->n; i++) {
		int r = start_worker(sw);

		if (r < 0)
			return r;
	}
	while (pool->started < pool->n)
		sched_yield();
	return 0;
}

static void wake(struct pool *pool)
{
	uint64_t one = 1;

	if (write(pool->wakefd, &one, sizeof(one)) < 0) {
		/* full: it is readable anyway */
	}
}

void pool_stop(struct switch_ctx *sw)
{
	struct pool *pool = sw->pool;
	bool stuck = false;

	if (pool == NULL)
		return;
	pool->stop = true;
	for (unsigned i = 0; i < MAX_THREADS; i++) {
		struct worker *w = &pool->workers[i];

		/* a stuck one goes with the process */
		stuck |= w->used && w->stuck;
		while (w->used && !w->stuck) {
			struct timespec until;

			/* it may be in an ADDFD, or between two looks at stop */
			wake(pool);
			clock_gettime(CLOCK_REALTIME, &until);
			until.tv_nsec += 20000000;
			if (until.tv_nsec >= 1000000000) {
				until.tv_nsec -= 1000000000;
				until.tv_sec++;
			}
			if (pthread_timedjoin_np(w->thread, NULL, &until) == 0)
				break;
			pthread_kill(w->thread, SIGUSR2);
			pool_watchdog(sw);
		}
	}
	if (stuck)
		return;
	close(pool->epfd);
	close(pool->wakefd);
	free(pool->resume);
	free(pool->later);
	free(pool);
	sw->pool = NULL;
}

int pool_add_app_locked(struct switch_ctx *sw, struct app *app)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = EV_APP | app->slot };
	int r = 0;

	/* 6.6+: the target is woken on the worker's CPU, which costs a tenth of the time;
	 * without it everything works, slower */
	(void)ioctl(app->listener_fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS,
		    SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	sw->pool->by_slot[app->slot] = app;
	if (epoll_ctl(sw->pool->epfd, EPOLL_CTL_ADD, app->listener_fd, &ev) < 0) {
		r = -errno;
		sw->pool->by_slot[app->slot] = NULL;
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
	struct pool *pool = sw->pool;

	pool->resume[(pool->res_head + pool->res_n++) % ST_CALLS] = slot;
	wake(pool);
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
	sw->pool->later[sw->pool->n_later++] = slot;
	pthread_mutex_unlock(&sw->lock);
}

void pool_free_slot(struct switch_ctx *sw, uint32_t slot)
{
	assert(sw->pool->n_free < ST_CALLS);
	__atomic_store_n(&sw->st.calls[slot].notif.id, 0, __ATOMIC_RELEASE);
	sw->pool->free_calls[sw->pool->n_free++] = slot;
}

void pool_abandon_slot(struct switch_ctx *sw, uint32_t slot)
{
	/* no fd was left open for a call that is over: its peer would wait for ever */
	cleanup_close(&sw->st.calls[slot].fd);
	sw->st.calls[slot].fd = -1;
	pool_free_slot(sw, slot);
}

int pool_watch(struct switch_ctx *sw, int fd, uint32_t listener_slot, bool again)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLONESHOT,
				  .data.u64 = EV_WAITQ | listener_slot };

	return epoll_ctl(sw->pool->epfd, again ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev) < 0
		       ? -errno
		       : 0;
}

void pool_unwatch(struct switch_ctx *sw, int fd)
{
	epoll_ctl(sw->pool->epfd, EPOLL_CTL_DEL, fd, NULL);
}

/* Under sw->lock: the worker waits for memory that does not come. */
static void give_up(struct worker *w)
{
	struct switch_ctx *sw = w->sw;

	w->stuck = true;
	if (w->app->stalled++ == 0) {
		log_warn("app %u: its memory does not come; its traps wait", w->app->id);
		epoll_ctl(sw->pool->epfd, EPOLL_CTL_DEL, w->app->listener_fd, NULL);
	}
	if (start_worker(sw) < 0)
		log_error("app %u: no thread for the worker it holds", w->app->id);
	pass_lead(w);
}

void pool_watchdog(struct switch_ctx *sw)
{
	uint64_t now = now_ms();

	pthread_mutex_lock(&sw->lock);
	for (unsigned i = 0; i < MAX_THREADS; i++) {
		struct worker *w = &sw->pool->workers[i];
		uint64_t addfd = w->addfd_since_ms, memory = w->memory_since_ms;

		if (!w->used || w->stuck)
			continue;
		if (addfd != 0 && now - addfd > POOL_LEAD_MAX_MS)
			pass_lead(w);
		if (addfd != 0 && now - addfd > POOL_ADDFD_MAX_MS)
			pthread_kill(w->thread, SIGUSR2);
		if (memory != 0 && now - memory > POOL_MEMORY_MAX_MS && w->app != NULL)
			give_up(w);
	}
	while (sw->pool->n_later > 0)
		pool_resume_locked(sw, sw->pool->later[--sw->pool->n_later]);
	pthread_mutex_unlock(&sw->lock);
}
