#include "traphandler/service/registry.h"

#include "traphandler/cluster/cluster.h"
#include "traphandler/conn/accept.h"
#include "traphandler/conn/appns.h"
#include "traphandler/conn/closer.h"
#include "traphandler/service/quota.h"
#include "traphandler/service/registration.h"
#include "traphandler/service/sockrec.h"
#include "traphandler/trap/target.h"

#include <appswitch/log.h>
#include <appswitch/util.h>

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define BY_ANCHOR(sw, a) ((sw)->by_anchor[((a)*0x9e3779b97f4a7c15u) >> 52])

static int network_id(struct switch_ctx *sw, const char *name, uint32_t *ret)
{
	void *p;

	for (unsigned i = 0; i < sw->n_networks; i++) {
		if (strcmp(sw->networks[i].name, name) == 0) {
			*ret = sw->networks[i].id;
			return 0;
		}
	}
	p = realloc(sw->networks, (sw->n_networks + 1) * sizeof(*sw->networks));
	if (p == NULL)
		return -ENOMEM;
	sw->networks = p;
	sw->networks[sw->n_networks].name = strdup(name);
	if (sw->networks[sw->n_networks].name == NULL)
		return -ENOMEM;
	/* an id that a later daemon gives the same name: stand-in names carry it */
	uint32_t h = 2166136261u;
	for (const char *c = name; *c != '\0'; c++)
		h = (h ^ (uint8_t)*c) * 16777619u;
	for (bool again = true; again;) {
		again = false;
		for (unsigned i = 0; i < sw->n_networks; i++) {
			if (sw->networks[i].id == h) {
				h++;
				again = true;
			}
		}
	}
	*ret = sw->networks[sw->n_networks++].id = h;
	return 0;
}

/* The identity of an app without an address of its own: link-local (RFC 3927's range), and a
 * unique local IPv6 address; never service addresses. */
static void invent_addresses(struct app *app)
{
	uint32_t host = app->id % 65024u;

	if (!app->own4)
		app->ip4 = as_addr_v4(0xa9fe0100u + host);
	if (!app->own6) {
		memcpy(app->ip6.b, "\xfd\x61\x70\x70\x73\x77", 6);
		memset(app->ip6.b + 6, 0, 10);
		for (int i = 0; i < 4; i++)
			app->ip6.b[12 + i] = (uint8_t)(app->id >> (24 - 8 * i));
	}
}

static void app_free(struct app *app)
{
	free(app->name);
	free(app->network);
	free(app->command);
	free(app->tags);
	free(app);
}

int app_new(struct switch_ctx *sw, const json_t *reg, uint32_t id, struct app **ret, char *err,
	    size_t err_size)
{
	struct registration wish;
	uint32_t slot = 0;
	struct app *app;
	char *dump;
	int r;

	r = registration_parse(reg, &wish, err, err_size);
	if (r < 0)
		return r;
	app = calloc(1, sizeof(*app));
	if (app == NULL) {
		registration_done(&wish);
		return -ENOMEM;
	}
	app->listener_fd = app->probe_fd = app->ns_fd = app->diag_fd = -1;
	app->careful_until_ms = now_ms() + UNKNOWN_MS;
	pthread_mutex_init(&app->listen_lock, NULL);
	app->lb = wish.lb;
	app->weight = wish.weight;
	app->ip4 = wish.ip4;
	app->ip6 = wish.ip6;
	app->own4 = wish.own4;
	app->own6 = wish.own6;
	app->name = wish.name;
	app->network = wish.network;
	app->command = wish.command;
	app->tags = wish.tags;
	while (slot < ST_APPS && sw->st.apps[slot].id != 0)
		slot++;
	dump = json_dumps(reg, JSON_COMPACT);
	if (slot == ST_APPS || dump == NULL || strlen(dump) >= sizeof(sw->st.apps[0].reg)) {
		snprintf(err, err_size,
			 slot == ST_APPS ? "too many apps (%u)"
					 : "the registration is too long (%u bytes): shorten "
					   "the names and tags",
			 slot == ST_APPS ? ST_APPS : (unsigned)(dump ? strlen(dump) : 0));
		free(dump);
		r = -ENOSPC;
		goto fail;
	}
	app->id = id;
	while (app->id == 0) {
		app->id = sw->st.h->next_app++;
		if (app_find(sw, app->id) != NULL)
			app->id = 0;
	}
	app->slot = slot;
	if (slot >= sw->st.h->apps_high)
		sw->st.h->apps_high = slot + 1;
	r = network_id(sw, app->network, &app->network_id);
	if (r < 0) {
		free(dump);
		goto fail;
	}
	invent_addresses(app);
	memcpy(sw->st.apps[slot].reg, dump, strlen(dump) + 1);
	free(dump);
	app->refs = 1;
	*ret = app;
	return 0;
fail:
	if (r == -ENOMEM)
		snprintf(err, err_size, "the daemon is out of memory");
	app_free(app);
	return r;
}

void app_publish(struct switch_ctx *sw, struct app *app)
{
	struct st_app *sa = &sw->st.apps[app->slot];

	sa->probe_fd = app->probe_fd;
	sa->pid = app->pid;
	sa->started = app->started;
	sa->draining = app->draining;
	sa->netns_cookie = app->netns_cookie;
	/* the id of a registered app is there already: this is what makes it one to take over */
	__atomic_store_n(&sa->listener_fd, app->listener_fd, __ATOMIC_RELEASE);
	__atomic_store_n(&sa->id, app->id, __ATOMIC_RELEASE);
	app->next = sw->apps;
	sw->apps = app;
	sw->n_apps++;
	cluster_tell_app(sw, app, true);
}

struct app *app_find(struct switch_ctx *sw, uint32_t id)
{
	struct app *app = sw->apps;

	while (app != NULL && app->id != id)
		app = app->next;
	return app;
}

struct app *app_find_netns(struct switch_ctx *sw, uint64_t cookie)
{
	struct app *app = sw->apps;

	while (app != NULL && app->netns_cookie != cookie)
		app = app->next;
	return app;
}

void app_ref(struct app *app)
{
	app->refs++;
}

void app_unref(struct switch_ctx *sw, struct app *app)
{
	if (--app->refs > 0)
		return;
	target_forget_app(app);
	if (app->listener_fd >= 0)
		close(app->listener_fd);
	if (app->probe_fd >= 0)
		close(app->probe_fd);
	appns_forget(app);
	if (!app->ended) {
		/* never published: only its registration is to be forgotten */
		__atomic_store_n(&sw->st.apps[app->slot].id, 0, __ATOMIC_RELEASE);
	}
	app_free(app);
}

void app_end(struct switch_ctx *sw, struct app *app)
{
	struct app **p = &sw->apps;

	if (app->ended)
		return;
	app->ended = true;
	for (unsigned i = 0; i < ST_LISTENERS; i++) {
		if (sw->listeners[i] != NULL && sw->listeners[i]->app == app)
			listener_end(sw, sw->listeners[i]);
	}
	__atomic_store_n(&sw->st.apps[app->slot].id, 0, __ATOMIC_RELEASE);
	while (*p != NULL && *p != app)
		p = &(*p)->next;
	if (*p != NULL) {
		*p = app->next;
		sw->n_apps--;
		cluster_tell_app(sw, app, false);
	}
	app_unref(sw, app);
}

/* ---- listeners ---- */

static void for_each_key(const struct listener *l,
			 void (*fn)(void *arg, const struct svc_key *key), void *arg)
{
	const struct app *app = l->app;
	struct svc_key key = { .network = app->network_id, .port = l->port };
	bool any6 =
		l->face == AF_INET6 && as_addr_is_any(&l->bound) && !as_addr_is_v4(&l->bound);
	bool serves[2] = { as_addr_is_v4(&l->bound) || (any6 && !l->v6only),
			   !as_addr_is_v4(&l->bound) };

	for (int i = 0; i < 2; i++) {
		if (!serves[i])
			continue;
		key.vip = i == 0 ? app->ip4 : app->ip6;
		if (as_addr_is_any(&l->bound)) {
			key.addr = as_addr_any(i == 0 ? AF_INET : AF_INET6);
			fn(arg, &key);
			key.addr = key.vip;
		} else {
			key.addr = l->bound;
		}
		fn(arg, &key);
	}
}

struct key_op {
	struct switch_ctx *sw;
	uint32_t id;
	int error;
};

static void key_add(void *arg, const struct svc_key *key)
{
	struct key_op *op = arg;
	int r = svc_table_add(op->sw->svc, key, op->id);

	if (r < 0)
		op->error = r;
}

static void key_remove(void *arg, const struct svc_key *key)
{
	struct key_op *op = arg;

	svc_table_remove(op->sw->svc, key, op->id);
}

unsigned listener_vips(const struct listener *l, struct as_addr ret[2])
{
	const struct app *app = l->app;
	bool any = as_addr_is_any(&l->bound);
	bool v4 = as_addr_is_v4(&l->bound);
	unsigned n = 0;

	if (app->own4 && ((any && (v4 || !l->v6only)) || as_addr_eq(&l->bound, &app->ip4)))
		ret[n++] = app->ip4;
	if (app->own6 && ((any && !v4) || as_addr_eq(&l->bound, &app->ip6)))
		ret[n++] = app->ip6;
	return n;
}

struct listener *listener_alloc(void)
{
	struct listener *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return NULL;
	pthread_mutex_init(&l->accept_lock, NULL);
	inherit_init(&l->inherit);
	l->anchor_fd = l->watch_fd = -1;
	return l;
}

void listener_free(struct listener *l)
{
	if (l == NULL)
		return;
	pthread_mutex_destroy(&l->accept_lock);
	inherit_done(&l->inherit);
	free(l);
}

int listener_add(struct switch_ctx *sw, struct listener *l)
{
	struct key_op op = { .sw = sw };
	struct st_listener *sl;
	uint32_t slot = 0;

	/* one that is taken over was allowed before */
	if (l->serial == 0 &&
	    !quota_allows(l->app->n_listeners, sw->max_listeners > sw->n_listeners
						       ? sw->max_listeners - sw->n_listeners
						       : 0))
		return -ENOBUFS;
	while (slot < ST_LISTENERS && sw->listeners[slot] != NULL)
		slot++;
	if (slot == ST_LISTENERS)
		return -ENOBUFS;
	op.id = l->slot = slot;
	if (l->serial == 0)
		l->serial = ++sw->listener_serial;
	else if (l->serial > sw->listener_serial)
		sw->listener_serial = l->serial;
	for_each_key(l, key_add, &op);
	if (op.error < 0) {
		for_each_key(l, key_remove, &op);
		return op.error;
	}
	l->refs = 1;
	sw->listeners[slot] = l;
	sw->hnext[slot] = BY_ANCHOR(sw, l->anchor);
	BY_ANCHOR(sw, l->anchor) = l;
	sw->n_listeners++;
	l->app->n_listeners++;
	app_ref(l->app);

	sl = &sw->st.listeners[slot];
	sl->app = l->app->id;
	sl->anchor_fd = l->anchor_fd;
	sl->bound = l->bound;
	sl->port = l->port;
	sl->face = l->face;
	sl->v6only = l->v6only;
	sl->pid = l->pid;
	sl->fdno = l->fdno;
	sl->serial = l->serial;
	__atomic_store_n(&sl->anchor, l->anchor, __ATOMIC_RELEASE);
	cluster_tell_listener(sw, l, true);
	return 0;
}

struct listener *listener_find(struct switch_ctx *sw, uint64_t anchor)
{
	struct listener *l = BY_ANCHOR(sw, anchor);

	while (l != NULL && l->anchor != anchor)
		l = sw->hnext[l->slot];
	return l;
}

void listener_ref(struct listener *l)
{
	l->refs++;
}

void listener_unref(struct switch_ctx *sw, struct listener *l)
{
	struct app *app = l->app;

	if (--l->refs > 0)
		return;
	if (l->anchor_fd >= 0)
		close(l->anchor_fd);
	listener_free(l);
	app_unref(sw, app);
}

void listener_end(struct switch_ctx *sw, struct listener *l)
{
	struct key_op op = { .sw = sw, .id = l->slot };
	struct listener **p = &BY_ANCHOR(sw, l->anchor);

	if (l->gone)
		return;
	l->gone = true;
	for_each_key(l, key_remove, &op);
	while (*p != l)
		p = &sw->hnext[(*p)->slot];
	*p = sw->hnext[l->slot];
	sw->listeners[l->slot] = NULL;
	sw->n_listeners--;
	cluster_tell_listener(sw, l, false);
	l->app->n_listeners--;
	__atomic_store_n(&sw->st.listeners[l->slot].anchor, 0, __ATOMIC_RELEASE);
	accept_listener_gone(sw, l);
	/* the port is free soon, whoever still holds a reference; a process that kept a copy of
	 * the socket from before listen() has a native listener, which must hear its namespace */
	setsockopt(l->anchor_fd, SOL_SOCKET, SO_DETACH_FILTER, &(int){ 0 }, sizeof(int));
	closer_put(sw, l->app, l->anchor_fd);
	l->anchor_fd = -1;
	listener_unref(sw, l);
}

bool app_drains(const struct switch_ctx *sw, const struct app *app)
{
	return sw->draining || app->draining;
}
