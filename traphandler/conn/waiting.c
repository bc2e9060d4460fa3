#include "traphandler/conn/waiting.h"

#include "traphandler/conn/closer.h"
#include "traphandler/conn/deliver.h"
#include "traphandler/conn/standin.h"
#include "traphandler/service/quota.h"
#include "traphandler/service/registry.h"

#include <appswitch/util.h>

#include <poll.h>
#include <sys/socket.h>

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

/* *ret_announce: nothing in the queue says that it waits. */
static int enlist(struct switch_ctx *sw, struct listener *l, const struct waiting *w,
		  bool *ret_announce)
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
		*ret_announce = !l->announced;
		l->announced = true;
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

/* Takes the carrier out of the queue. A client before it keeps its place: it is delivered next, and the
 * carrier stays for it. */
static void silence(struct switch_ctx *sw, struct listener *l, int listening)
{
	struct pollfd p = { .fd = listening, .events = POLLIN };
	struct standin_name name = { .kind = NAME_NONE };
	struct sockaddr_un un;
	socklen_t len = sizeof(un);
	_cleanup_close_ int fd = -1;
	bool look_again = false;

	pthread_mutex_lock(&l->accept_lock);
	if (poll(&p, 1, 0) == 1)
		fd = accept4(listening, (struct sockaddr *)&un, &len, SOCK_CLOEXEC);
	pthread_mutex_unlock(&l->accept_lock);
	if (fd < 0 || !standin_genuine(sw, fd))
		return;
	(void)name_decode(&un, len, &name);
	if (name.kind == NAME_CARRIER) {
		waiting_carrier_taken(sw, l);
		return;
	}
	pthread_mutex_lock(&sw->lock);
	if (name.kind == NAME_CLIENT) {
		standin_tune(sw, fd, true);
		deliver_requeue_locked(l, fd_steal(&fd));
	} else {
		look_again = l->deliveries != NULL; /* it was for one of these */
	}
	pthread_mutex_unlock(&sw->lock);
	if (look_again)
		standin_ring(l);
}

bool waiting_take(struct switch_ctx *sw, struct listener *l, int listening, int *ret_fd,
		  struct as_endpoint *ret_client)
{
	bool last = false;

	*ret_fd = -1;
	if (l->waiting == NULL)
		return false;
	pthread_mutex_lock(&sw->lock);
	if (l->waiting != NULL) {
		*ret_client = l->waiting->from;
		*ret_fd = delist(sw, l, &l->waiting);
		last = l->waiting == NULL && l->announced;
	}
	pthread_mutex_unlock(&sw->lock);
	if (last && listening >= 0)
		silence(sw, l, listening);
	return *ret_fd >= 0;
}

void waiting_carrier_taken(struct switch_ctx *sw, struct listener *l)
{
	bool more;

	pthread_mutex_lock(&sw->lock);
	more = l->waiting != NULL && !l->gone;
	l->announced = more;
	pthread_mutex_unlock(&sw->lock);
	if (more && standin_announce(l) < 0) {
		/* full means readable; refused means gone: both are as good */
	}
}

/* Takes @id out again: false if somebody else has. */
static bool take_back(struct switch_ctx *sw, struct listener *l, uint64_t id)
{
	struct waiting **p;
	bool found;

	pthread_mutex_lock(&sw->lock);
	for (p = &l->waiting; *p != NULL && (*p)->id != id; p = &(*p)->next)
		;
	found = *p != NULL;
	if (found)
		(void)delist(sw, l, p);
	l->announced = false;
	pthread_mutex_unlock(&sw->lock);
	return found;
}

int waiting_add(struct switch_ctx *sw, struct listener *l, const struct waiting *w)
{
	bool announce = false;
	int r = enlist(sw, l, w, &announce);

	if (r < 0 || !announce)
		return r;
	r = standin_announce(l);
	/* one that is gone by now was closed with the listener: there is nothing left to announce */
	return r < 0 && take_back(sw, l, w->id) ? r : 0;
}

void waiting_listener_gone(struct switch_ctx *sw, struct listener *l)
{
	while (l->waiting != NULL) {
		int fd = delist(sw, l, &l->waiting);

		closer_put(sw, l->app, fd);
	}
}
