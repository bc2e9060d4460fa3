#include "traphandler/cluster/node.h"

#include "traphandler/cluster/cluster.h"
#include "traphandler/service/registry.h"

#include <appswitch/log.h>

#include <errno.h>
#include <stdio.h>

int node_leave(struct switch_ctx *sw, char *err, size_t err_size)
{
	int r = cluster_leave(sw);

	if (r == -EALREADY)
		snprintf(err, err_size, "this node has left already");
	else if (r < 0)
		snprintf(err, err_size,
			 "this daemon is alone (no --listen): there is nothing to leave");
	return r;
}

static int drain_app(struct switch_ctx *sw, uint32_t id, bool on, char *err, size_t err_size)
{
	struct app *app = app_find(sw, id);

	if (app == NULL) {
		snprintf(err, err_size, "there is no app %u here ('appswitch get apps')", id);
		return -ESRCH;
	}
	if (!on && sw->draining) {
		snprintf(err, err_size,
			 "the whole node drains, with app %u: 'appswitch undrain' ends that",
			 id);
		return -EBUSY;
	}
	app->draining = on;
	sw->st.apps[app->slot].draining = on;
	return 0;
}

/* The rows of the app (0: of all). */
static void tell(struct switch_ctx *sw, uint32_t id)
{
	for (const struct app *app = sw->apps; app != NULL; app = app->next) {
		if (id == 0 || app->id == id)
			cluster_tell_app(sw, app, true);
	}
	for (unsigned i = 0; i < ST_LISTENERS; i++) {
		const struct listener *l = sw->listeners[i];

		if (l != NULL && (id == 0 || l->app->id == id))
			cluster_tell_listener(sw, l, true);
	}
}

int node_drain(struct switch_ctx *sw, uint32_t app, bool on, char *err, size_t err_size)
{
	int r = 0;

	pthread_mutex_lock(&sw->lock);
	if (app != 0) {
		r = drain_app(sw, app, on, err, err_size);
	} else {
		sw->draining = on;
		sw->st.h->draining = on;
	}
	if (r == 0)
		tell(sw, app);
	pthread_mutex_unlock(&sw->lock);
	if (r == 0 && app != 0)
		log_info("app %u %s", app, on ? "drains" : "drains no more");
	else if (r == 0)
		log_info("this node %s", on ? "drains" : "drains no more");
	return r;
}
