#include "traphandler/conn/waiting.h"

#include "traphandler/conn/closer.h"
#include "traphandler/conn/standin.h"
#include "traphandler/service/quota.h"
#include "traphandler/service/registry.h"

#include <errno.h>
#include <stdlib.h>

#define WAITING_MAX \
	4096u /* of one app's connections inside its namespace, or of other nodes' */

/* under sw->lock */
static unsigned n_inside, n_outside;

bool waiting_has_room(const struct app *app, const struct listener *l)
{
	if (app != NULL)
		return quota_allows(app->carrying, WAITING_MAX - n_inside);
	return n_outside < WAITING_MAX && quota_allows(l->n_outside, WAITING_MAX - n_outside);
}

static void count(struct listener *l, const struct waiting *w, int by)
{
	if (w->from_app != NULL) {
		w->from_app->carrying += (unsigned)by;
		n_inside += (unsigned)by;
	} else {
		l->n_outside += (unsigned)by;
		n_outside += (unsigned)by;
	}
}

static int enlist(struct switch_ctx *sw, struct listener *l, const struct waiting *w)
{
	struct waiting *copy = malloc(sizeof(*copy)), **p;
	int r = copy == NULL ? -ENOMEM : 0;

	pthread_mutex_lock(&sw->lock);
	if (r == 0 && l->gone)
		r = -ECONNREFUSED;
	if (r == 0) {
		*copy = *w;
		copy->next = NULL;
		if (w->from_app != NULL)
			app_ref(w->from_app);
		count(l, w, 1);
		for (p = &l->waiting; *p != NULL; p = &(*p)->next)
			;
		*p = copy;
	}
	pthread_mutex_unlock(&sw->lock);
	if (r < 0)
		free(copy);
	return r;
}

/* Under sw->lock: *@p goes; its descriptor is the caller's. */
static int delist(struct switch_ctx *sw, struct listener *l, struct waiting **p)
{
	struct waiting *w = *p;
	int fd = w->fd;

	*p = w->next;
	count(l, w, -1);
	if (w->from_app != NULL)
		app_unref(sw, w->from_app);
	free(w);
	return fd;
}

bool waiting_take(struct switch_ctx *sw, struct listener *l, uint64_t id, int *ret_fd,
		  struct as_endpoint *ret_client)
{
	struct waiting **p;

	*ret_fd = -1;
	pthread_mutex_lock(&sw->lock);
	for (p = &l->waiting; *p != NULL && (*p)->id != id; p = &(*p)->next)
		;
	if (*p != NULL) {
		*ret_client = (*p)->from;
		*ret_fd = delist(sw, l, p);
	}
	pthread_mutex_unlock(&sw->lock);
	return *ret_fd >= 0;
}

int waiting_add(struct switch_ctx *sw, struct listener *l, const struct waiting *w)
{
	struct as_endpoint from;
	int fd, r = enlist(sw, l, w);

	if (r < 0)
		return r;
	r = standin_announce(l, w->id);
	/* one that is gone by now was closed with the listener: there is nothing left to announce */
	if (r < 0 && waiting_take(sw, l, w->id, &fd, &from))
		return r;
	return 0;
}

void waiting_listener_gone(struct switch_ctx *sw, struct listener *l)
{
	while (l->waiting != NULL) {
		int fd = delist(sw, l, &l->waiting);

		closer_put(sw, l->app, fd);
	}
}
