#include "traphandler/state/adopt.h"

#include "traphandler/conn/deliver.h"
#include "traphandler/conn/kept.h"
#include "traphandler/conn/standin.h"
#include "traphandler/remote/seen.h"
#include "traphandler/service/registry.h"
#include "traphandler/service/sockrec.h"
#include "traphandler/state/privns.h"
#include "traphandler/trap/pool.h"

#include <appswitch/log.h>
#include <appswitch/util.h>

#include <dirent.h>
#include <stdio.h>
#include <string.h>

static int adopt_app(struct switch_ctx *sw, const struct adoption *a, const struct st_app *old)
{
	char err[160] = "";
	json_t *reg = json_loads(old->reg, 0, NULL);
	struct app *app = NULL;
	int r;

	if (reg == NULL)
		return -EPROTO;
	r = app_new(sw, reg, old->id, &app, err, sizeof(err));
	json_decref(reg);
	if (r < 0) {
		log_error("app %u cannot be taken over: %s", old->id, err);
		return r;
	}
	app->listener_fd = holder_take(a, old->listener_fd);
	app->probe_fd = holder_take(a, old->probe_fd);
	app->netns_cookie = old->netns_cookie;
	app->pid = old->pid;
	app->started = old->started;
	app->draining = old->draining;
	/* which processes have epoll sets, and whether any listens by itself, is not kept: look when
	 * it matters */
	app->has_epoll = app->has_private = true;
	if (app->listener_fd < 0) {
		r = app->listener_fd;
		app_unref(sw, app);
		return r;
	}
	app_publish(sw, app);
	return 0;
}

static int adopt_listener(struct switch_ctx *sw, const struct adoption *a,
			  const struct st_listener *old)
{
	struct listener *l = listener_alloc();
	int r;

	if (l == NULL)
		return -ENOMEM;
	l->app = app_find(sw, old->app);
	l->anchor = old->anchor;
	l->anchor_fd = holder_take(a, old->anchor_fd);
	l->bound = old->bound;
	l->port = old->port;
	l->face = old->face;
	l->v6only = old->v6only;
	l->pid = old->pid;
	l->fdno = old->fdno;
	l->serial = old->serial;
	r = l->app == NULL ? -ESRCH : l->anchor_fd < 0 ? l->anchor_fd : listener_add(sw, l);
	if (r < 0) {
		cleanup_close(&l->anchor_fd);
		listener_free(l);
	}
	return r;
}

/* In the order of listen(), so that instances keep their places. */
static void adopt_listeners(struct switch_ctx *sw, const struct adoption *a)
{
	uint32_t after = 0;

	for (;;) {
		const struct st_listener *next = NULL;

		for (unsigned i = 0; i < ST_LISTENERS; i++) {
			const struct st_listener *l = &a->old.listeners[i];

			if (l->anchor != 0 && l->serial > after &&
			    (next == NULL || l->serial < next->serial))
				next = l;
		}
		if (next == NULL)
			return;
		after = next->serial;
		if (adopt_listener(sw, a, next) < 0)
			log_debug("listener of app %u on port %u is gone", next->app,
				  next->port);
	}
}

/* A child of the dead daemon that is answering it right now comes to its end first: it works on
 * for an instant (trap_addfd_send()). All of them together have a second. */
static const struct st_call *settled(const struct st_call *call, int *ms)
{
	for (; *ms > 0; (*ms)--) {
		if (__atomic_load_n(&call->stage, __ATOMIC_ACQUIRE) != ST_TELLING)
			break;
		usleep(1000);
	}
	return call;
}

static void adopt_calls(struct switch_ctx *sw, const struct adoption *a)
{
	int ms = 1000;

	for (unsigned i = 0; i < ST_CALLS; i++) {
		const struct st_call *old = settled(&a->old.calls[i], &ms);
		struct st_call *call = &sw->st.calls[i];
		const struct app *app;

		if (old->notif.id == 0 || old->stage == ST_TOLD)
			continue;
		*call = *old;
		call->fd = -1;
		call->deadline_ns = 0;
		app = call->stage == ST_TELLING ? app_find(sw, call->app) : NULL;
		/* killed before there was a child: nothing was answered */
		if (app != NULL && call_valid(app, call))
			call->stage = ST_ACCEPTED;
		if (call->stage == ST_STANDIN || call->stage == ST_ACCEPTED ||
		    call->stage == ST_INSTALLED)
			call->fd = holder_take(a, old->fd);
		if (call->fd < 0 && call->stage != ST_CONNECTED && call->stage != ST_INSTALLED)
			call->stage = ST_RECEIVED;
	}
}

static int cmp_int(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return x < y ? -1 : x > y;
}

/* The fd numbers that calls name, sorted; the caller frees them. */
static int *fds_of_calls(const struct adoption *a, size_t *ret_n)
{
	int *fds = malloc(ST_CALLS * sizeof(*fds));
	size_t n = 0;

	for (unsigned i = 0; fds != NULL && i < ST_CALLS; i++) {
		const struct st_call *call = &a->old.calls[i];

		if (call->notif.id != 0 && call->fd >= 0)
			fds[n++] = call->fd;
	}
	if (n > 1)
		qsort(fds, n, sizeof(*fds), cmp_int);
	*ret_n = n;
	return fds;
}

/* The listener of an accepted connection; NULL if it is none. */
static struct listener *waits_for(struct switch_ctx *sw, const struct sock *s)
{
	struct st_sock rec;

	if (s->kind == SOCK_CONNECTED)
		return s->client ? NULL : listener_find(sw, s->own.anchor);
	if (s->kind == SOCK_REMOTE)
		return s->remote.server && s->remote.waits ? listener_find(sw, s->remote.anchor)
							   : NULL;
	if (s->domain == 0 || !sockrec_get_conn(sw->socks, sock_cookie(s->fd), &rec) ||
	    !rec.conn.carried)
		return NULL;
	return listener_find(sw, rec.conn.server_anchor);
}

/* Accepted connections that no call names were on their way from the queue to a slot, or waited
 * for the next accept(): they go to the next accept(). */
static void adopt_orphans(struct switch_ctx *sw, const struct adoption *a)
{
	_cleanup_free_ int *named = NULL;
	size_t n_named;
	char path[40];
	struct dirent *d;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", a->pid);
	dir = opendir(path);
	named = fds_of_calls(a, &n_named);
	if (dir == NULL)
		return;
	while (named != NULL && (d = readdir(dir)) != NULL) {
		int number = atoi(d->d_name);
		struct listener *l;
		struct sock s;
		int fd;

		if (number <= 0 ||
		    bsearch(&number, named, n_named, sizeof(*named), cmp_int) != NULL)
			continue;
		fd = holder_take(a, number);
		if (fd < 0)
			continue;
		sock_classify(NULL, sw, fd, &s);
		l = s.kind != SOCK_REMOTE && (standin_mark(fd) & STANDIN_GIVEN)
			    ? NULL
			    : waits_for(sw, &s);
		if (l != NULL && s.kind == SOCK_CONNECTED)
			standin_tune(sw, fd, true);
		if (l != NULL)
			deliver_requeue_locked(l, fd);
		else
			close(fd);
	}
	closedir(dir);
}

/* A server that waits in poll() must come for what is delivered to it now. */
static int ring_bells(struct switch_ctx *sw)
{
	for (unsigned i = 0; i < ST_LISTENERS; i++) {
		if (sw->listeners[i] != NULL && sw->listeners[i]->deliveries != NULL)
			standin_ring(sw->listeners[i]);
	}
	return 0;
}

/* Nonces of hellos that were accepted: mostly none, and then nothing is touched. */
static void adopt_seen(struct switch_ctx *sw, const struct adoption *a)
{
	for (uint32_t i = 0; a->old.h->node_id != 0 && i < ST_SEEN; i++) {
		if (a->old.seen[i].nonce != 0)
			sw->st.seen[i] = a->old.seen[i];
	}
}

int adopt_header(struct switch_ctx *sw, const struct adoption *a)
{
	struct st_header *h = sw->st.h;
	const struct st_header *old = a->old.h;

	if (old->socks_high > ST_SOCKS)
		return -EPROTO;
	h->socks_high = old->socks_high;
	memcpy(sw->st.socks, a->old.socks, old->socks_high * sizeof(*sw->st.socks));
	h->next_app = old->next_app;
	h->draining = old->draining;
	sw->draining = old->draining;
	h->pids_used = old->pids_used;
	memcpy(h->pids, old->pids, sizeof(h->pids));
	/* what comes to them while there is no daemon waits in them */
	h->node_tcp_fd = old->node_tcp_fd < 0 ? -1 : holder_take(a, old->node_tcp_fd);
	h->node_udp_fd = old->node_udp_fd < 0 ? -1 : holder_take(a, old->node_udp_fd);
	h->node_id = old->node_id;
	h->node_generation = old->node_generation;
	adopt_seen(sw, a);
	h->pns_fd = holder_take(a, old->pns_fd);
	h->holder_sock_fd = holder_take(a, old->holder_sock_fd);
	if (h->pns_fd < 0 || h->holder_sock_fd < 0)
		return h->pns_fd < 0 ? h->pns_fd : h->holder_sock_fd;
	return 0;
}

int adopt_state(struct switch_ctx *sw, const struct adoption *a)
{
	struct st_header *h = sw->st.h;
	const struct st_header *old = a->old.h;
	unsigned n = 0;

	for (unsigned i = 0; i < old->apps_high; i++) {
		const struct st_app *app = &a->old.apps[i];

		if (app->id != 0 && app->listener_fd >= 0 && adopt_app(sw, a, app) == 0)
			n++;
	}
	for (uint32_t i = 0; i < h->socks_high; i++) {
		const struct st_sock *rec = &sw->st.socks[i];
		struct app *app = NULL;

		if (rec->cookie != 0 && rec->kind == ST_SOCK_CONN && rec->conn.carried)
			app = app_find(sw, rec->app);
		if (app != NULL)
			app->carried = true;
	}
	adopt_listeners(sw, a);
	adopt_calls(sw, a);
	adopt_orphans(sw, a);
	(void)privns_run(sw, ring_bells);
	log_info("took over %u apps", n);
	return 0;
}

void adopt_resume(struct switch_ctx *sw)
{
	for (uint32_t i = 0; i < ST_CALLS; i++) {
		struct st_call *call = &sw->st.calls[i];
		struct app *app;

		if (call->notif.id == 0)
			continue;
		pthread_mutex_lock(&sw->lock);
		app = app_find(sw, call->app);
		/* a connection that was accepted must reach somebody, also if the call that
		 * wanted it is over */
		if (app != NULL && (call->stage == ST_ACCEPTED || !call_over(app, call))) {
			pool_resume_locked(sw, i);
		} else {
			if (app != NULL && call->stage == ST_STANDIN)
				kept_adopt(sw, app, call->cookie, fd_steal(&call->fd));
			pool_abandon_slot(sw, i);
		}
		pthread_mutex_unlock(&sw->lock);
	}
}
