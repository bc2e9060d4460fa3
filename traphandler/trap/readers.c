#include "traphandler/trap/readers.h"

#include "traphandler/conn/accept.h"
#include "traphandler/trap/pool.h"

#include <appswitch/log.h>
#include <appswitch/util.h>

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#define STACK_SIZE (256 * 1024)

static int shutfd = -1; /* EPOLLHUP of listeners on which accepts wait */

struct readers {
	int stopfd, pns_fd;
	atomic_bool stop;
	struct group groups[MAX_GROUPS];
	struct worker workers[MAX_THREADS];
	unsigned high; /* workers from here on were never used */
	struct worker *spares;
	unsigned n_spares;
};

/* ---- a thread's life ---- */

/* False: it is one too many. */
static bool wait_as_spare(struct worker *w)
{
	struct readers *rd = w->sw->readers;
	bool keep;

	pthread_mutex_lock(&w->sw->lock);
	keep = rd->n_spares < MAX_SPARES && !rd->stop;
	if (keep) {
		w->next_spare = rd->spares;
		rd->spares = w;
		rd->n_spares++;
	}
	pthread_mutex_unlock(&w->sw->lock);
	while (keep && sem_wait(&w->go) < 0)
		; /* EINTR: the watchdog's signal */
	return keep;
}

/* Is there something? In @p[0] the set, in @p[1] the only app. */
static int look(struct group *g, const struct app *one, struct pollfd p[2], int timeout_ms)
{
	p[0] = (struct pollfd){ .fd = g->epfd, .events = POLLIN };
	p[1] = (struct pollfd){ .fd = one != NULL ? one->listener_fd : -1, .events = POLLIN };
	return poll(p, 2, timeout_ms);
}

/* Waits for one thing and does it. */
static void read_group(struct worker *w, struct group *g)
{
	/* it stays while we wait: an app's end is seen by its group's reader */
	const struct app *one = g->one;
	uint64_t slot = one != NULL ? one->slot : 0;
	struct epoll_event ev;
	struct pollfd p[2];

	if (look(g, one, p, -1) <= 0)
		return;
	if (p[0].revents == 0)
		pool_event(w, EV_APP | slot, (uint32_t)p[1].revents);
	else if (epoll_wait(g->epfd, &ev, 1, 0) == 1)
		pool_event(w, ev.data.u64, ev.events);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct readers *rd = w->sw->readers;
	sigset_t set;

	/* a signal in the middle of a hand-over could make the target's call return early;
	 * only the watchdog's may interrupt, and only ADDFD */
	sigfillset(&set);
	sigdelset(&set, SIGUSR2);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	if (setns(rd->pns_fd, CLONE_NEWNET) < 0)
		log_error("worker: cannot enter the private network namespace: %s",
			  strerror(errno));
	while (!rd->stop) {
		struct group *g = w->group;

		if (g == NULL && !wait_as_spare(w))
			break;
		if (g != NULL)
			read_group(w, g);
	}
	target_cache_done(&w->targets);
	pthread_mutex_lock(&w->sw->lock);
	if (!rd->stop) {
		pthread_detach(pthread_self());
		sem_destroy(&w->go);
		w->used = false;
	}
	pthread_mutex_unlock(&w->sw->lock);
	return NULL;
}

static int start_worker(struct switch_ctx *sw, struct group *g)
{
	struct readers *rd = sw->readers;
	pthread_attr_t attr;
	struct worker *w;
	unsigned i = 0;
	int r;

	while (i < MAX_THREADS && rd->workers[i].used)
		i++;
	if (i == MAX_THREADS)
		return -EAGAIN;
	w = &rd->workers[i];
	memset(w, 0, sizeof(*w));
	w->sw = sw;
	w->group = g;
	w->seed = (unsigned)now_ns() * 2654435761u + i + 1;
	if (w->seed == 0)
		w->seed = 1;
	target_cache_init(&w->targets);
	sem_init(&w->go, 0, 0);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	w->used = true;
	if (i >= rd->high)
		rd->high = i + 1;
	r = pthread_create(&w->thread, &attr, worker_main, w);
	pthread_attr_destroy(&attr);
	if (r != 0)
		w->used = false;
	return -r;
}

/* ---- who reads what ---- */

/* A spare, or a new thread, reads @g from now on. */
static void find_reader(struct switch_ctx *sw, struct group *g)
{
	struct readers *rd = sw->readers;
	struct worker *w = rd->spares;

	if (rd->stop)
		return; /* whoever starts now is joined by nobody */
	g->read = true;
	if (w != NULL) {
		rd->spares = w->next_spare;
		rd->n_spares--;
		w->group = g;
		sem_post(&w->go);
	} else if (start_worker(sw, g) < 0) {
		g->read = false; /* the watchdog tries again */
	}
}

/* By the worker itself, or by the watchdog for one that waits. */
static void hand_on(struct worker *w)
{
	struct group *g = atomic_exchange(&w->group, NULL);

	if (g == NULL)
		return;
	/* of what there is to resume it was told, and may never come to the rest */
	if (g->resume.first != 0)
		group_wake(g);
	find_reader(w->sw, g);
}

void reader_hand_on_if_more(struct worker *w)
{
	struct group *g = w->group;
	struct pollfd p[2];

	/* if nothing is there, nobody is woken: that costs more than most calls */
	if (g == NULL || look(g, g->one, p, 0) <= 0)
		return;
	pthread_mutex_lock(&w->sw->lock);
	hand_on(w);
	pthread_mutex_unlock(&w->sw->lock);
}

bool readers_service(struct switch_ctx *sw, const struct worker *but, int tid, uint64_t sock)
{
	for (unsigned i = 0; i < sw->readers->high; i++) {
		const struct worker *w = &sw->readers->workers[i];

		if (w != but && w->used && (w->tid == tid || (sock != 0 && w->sock == sock)))
			return true;
	}
	return false;
}

/* ---- groups ---- */

static int add_to_set(struct app *app)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = EV_APP | app->slot };

	return epoll_ctl(app->group->epfd, EPOLL_CTL_ADD, app->listener_fd, &ev) < 0 ? -errno
										     : 0;
}

static int open_group(struct readers *rd, struct group *g)
{
	struct epoll_event stop = { .events = EPOLLIN, .data.u64 = EV_STOP };
	struct epoll_event wake = { .events = EPOLLIN, .data.u64 = EV_WAKE };
	_cleanup_close_ int epfd = epoll_create1(EPOLL_CLOEXEC);
	_cleanup_close_ int wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (epfd < 0 || wakefd < 0 || epoll_ctl(epfd, EPOLL_CTL_ADD, rd->stopfd, &stop) < 0 ||
	    epoll_ctl(epfd, EPOLL_CTL_ADD, wakefd, &wake) < 0)
		return -errno;
	g->epfd = fd_steal(&epfd);
	g->wakefd = fd_steal(&wakefd);
	return 0;
}

/* One whose set may be locked for long (group_begin_install()) comes after all others. */
static unsigned crowd(const struct group *g)
{
	return g->n_apps > 0 && g->n_installing > 0 ? g->n_apps + ST_APPS : g->n_apps;
}

int group_join(struct switch_ctx *sw, struct app *app)
{
	struct readers *rd = sw->readers;
	struct group *g = &rd->groups[0];

	if (app->group != NULL)
		return 0;
	for (unsigned i = 1; i < MAX_GROUPS && g->n_apps > 0; i++) {
		if (crowd(&rd->groups[i]) < crowd(g))
			g = &rd->groups[i];
	}
	if (g->epfd < 0) {
		int r = open_group(rd, g);

		if (r < 0)
			return r;
	}
	if (g->one != NULL) {
		int r = add_to_set(g->one);

		if (r < 0)
			return r;
		g->one = NULL;
		group_wake(g);
	}
	g->n_apps++;
	app->group = g;
	if (!g->read)
		find_reader(sw, g);
	return 0;
}

int group_watch(struct app *app)
{
	if (app->group->n_apps > 1)
		return add_to_set(app);
	app->group->one = app;
	group_wake(app->group);
	return 0;
}

void group_begin_install(struct app *app)
{
	app->group->n_installing++;
	app->installing++;
	if (app->group->n_apps < 2 || app->unwatched || app->ended)
		return;
	group_unwatch(app);
	app->unwatched = true;
}

void group_end_install(struct app *app)
{
	app->group->n_installing--;
	app->installing--;
	group_rewatch(app);
}

void group_rewatch(struct app *app)
{
	if (!app->unwatched || app->stalled > 0 || app->installing > 0 || app->ended)
		return;
	app->unwatched = false;
	(void)group_watch(app);
}

void readers_shut_downs(struct switch_ctx *sw)
{
	struct epoll_event ev[16];
	int n = epoll_wait(shutfd, ev, 16, 0);

	for (int i = 0; i < n; i++)
		accept_shut_down(sw, (uint32_t)ev[i].data.u64);
}

void group_unwatch(struct app *app)
{
	struct group *g = app->group;

	if (g->one == app) {
		g->one = NULL;
		group_wake(g);
	} else {
		epoll_ctl(g->epfd, EPOLL_CTL_DEL, app->listener_fd, NULL);
	}
}

int group_watch_listener(const struct listener *l)
{
	/* EPOLLHUP is always told */
	struct epoll_event ev = { .events = 0, .data.u64 = l->slot };

	return epoll_ctl(shutfd, EPOLL_CTL_ADD, l->watch_fd, &ev) < 0 ? -errno : 0;
}

void group_unwatch_listener(const struct listener *l)
{
	epoll_ctl(shutfd, EPOLL_CTL_DEL, l->watch_fd, NULL);
}

void group_leave(struct worker *w, struct app *app)
{
	struct group *g = app->group;

	/* one that still has calls to look at, or another reader meanwhile, stays for the next app */
	if (--g->n_apps > 0 || w->group != g || g->resume.first != 0)
		return;
	w->group = NULL;
	g->read = false;
	close(g->epfd);
	close(g->wakefd);
	g->epfd = -1;
}

void group_wake(struct group *g)
{
	uint64_t one = 1;

	if (write(g->wakefd, &one, sizeof(one)) < 0) {
		/* full: it is readable anyway */
	}
}

/* ---- workers that wait for an app ---- */

/* The app holds up the call, with its memory or an epoll set. */
static void give_up(struct worker *w)
{
	if (!w->stuck && w->app->stalled++ == 0) {
		log_warn_limited("app %u: it holds up its own call; its traps wait",
				 w->app->id);
	}
	w->stuck = true;
	/* a reader may wait for the listener's lock, with that of the set: another time */
	if (w->app->installing > 0 && !w->app->unwatched)
		return;
	if (!w->app->unwatched)
		group_unwatch(w->app);
	w->app->unwatched = true;
	hand_on(w);
}

void reader_unstick(struct worker *w, struct app *app)
{
	struct switch_ctx *sw = w->sw;

	pthread_mutex_lock(&sw->lock);
	if (w->stuck) {
		app->stalled--;
		group_rewatch(app);
	}
	w->stuck = false;
	w->app = NULL;
	pthread_mutex_unlock(&sw->lock);
}

void readers_watchdog(struct switch_ctx *sw)
{
	struct readers *rd = sw->readers;
	uint64_t now = now_ms();

	for (unsigned i = 0; i < rd->high; i++) {
		struct worker *w = &rd->workers[i];
		uint64_t addfd = w->addfd_since_ms, call = w->call_since_ms;

		if (!w->used || (w->stuck && w->group == NULL))
			continue;
		/* it may have begun after we looked at the clock */
		if (addfd != 0 && now > addfd + POOL_READ_MAX_MS)
			hand_on(w);
		if (addfd != 0 && now > addfd + POOL_ADDFD_MAX_MS && !w->telling)
			pthread_kill(w->thread, SIGUSR2);
		if (rd->stop && addfd != 0 && now > addfd + POOL_ADDFD_MAX_MS && w->telling) {
			w->stuck = true; /* the child goes on without us */
			w->app->stalled++;
		}
		if (addfd == 0 && call != 0 && now > call + POOL_CALL_MAX_MS && w->app != NULL)
			give_up(w);
	}
	for (unsigned i = 0; i < MAX_GROUPS; i++) {
		struct group *g = &rd->groups[i];

		if (g->n_apps > 0 && !g->read && !rd->stop) {
			find_reader(sw, g);
			if (!g->read)
				log_error_limited("no thread to read traps with; trying again");
		}
	}
}

/* ---- start and end ---- */

static void on_sigusr2(int sig)
{
	(void)sig; /* its delivery is its effect: an ioctl returns EINTR */
}

int readers_start(struct switch_ctx *sw, int pns_fd)
{
	struct sigaction sa = { .sa_handler = on_sigusr2 };
	struct readers *rd = calloc(1, sizeof(*rd));

	if (rd == NULL)
		return -ENOMEM;
	rd->pns_fd = pns_fd;
	rd->stopfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	shutfd = epoll_create1(EPOLL_CLOEXEC);
	if (rd->stopfd < 0 || shutfd < 0) {
		free(rd);
		return -errno;
	}
	for (unsigned i = 0; i < MAX_GROUPS; i++)
		rd->groups[i].epfd = -1;
	sigaction(SIGUSR2, &sa, NULL);
	sw->readers = rd;
	return 0;
}

static void stop_all(struct switch_ctx *sw)
{
	struct readers *rd = sw->readers;
	uint64_t one = 1;

	pthread_mutex_lock(&sw->lock);
	rd->stop = true;
	if (write(rd->stopfd, &one, sizeof(one)) < 0) {
		/* full: it is readable anyway */
	}
	for (struct worker *w = rd->spares; w != NULL; w = w->next_spare)
		sem_post(&w->go);
	pthread_mutex_unlock(&sw->lock);
}

static void join(struct switch_ctx *sw, struct worker *w)
{
	while (w->used && !w->stuck) {
		struct timespec until;

		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += 20000000;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		if (pthread_timedjoin_np(w->thread, NULL, &until) == 0)
			return;
		/* it may be in an ADDFD */
		pthread_kill(w->thread, SIGUSR2);
		pthread_mutex_lock(&sw->lock);
		readers_watchdog(sw);
		pthread_mutex_unlock(&sw->lock);
	}
}

bool readers_stop(struct switch_ctx *sw)
{
	struct readers *rd = sw->readers;
	bool stuck = false;

	if (rd == NULL)
		return true;
	stop_all(sw);
	for (unsigned i = 0; i < rd->high; i++) {
		join(sw, &rd->workers[i]);
		/* a stuck one goes with the process */
		stuck |= rd->workers[i].used && rd->workers[i].stuck;
	}
	if (stuck)
		return false;
	for (unsigned i = 0; i < MAX_GROUPS; i++) {
		if (rd->groups[i].epfd >= 0) {
			close(rd->groups[i].epfd);
			close(rd->groups[i].wakefd);
		}
	}
	close(rd->stopfd);
	free(rd);
	sw->readers = NULL;
	return true;
}
