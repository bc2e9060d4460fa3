#include "traphandler/control/views.h"

#include "traphandler/cluster/cluster.h"
#include "traphandler/conn/appns.h"
#include "traphandler/conn/listen.h"
#include "traphandler/remote/remote.h"
#include "traphandler/service/diag.h"
#include "traphandler/service/registry.h"
#include "traphandler/service/sockrec.h"

#include <appswitch/util.h>

#include <stdio.h>
#include <string.h>

/* So long after its last connection by TCP an app is no longer looked into, if it has none. */
#define CARRIED_FORGET_S 10u

/* @network is NULL for who may see all of them. */
static bool shows(const char *network, const char *of)
{
	return network == NULL || strcmp(network, of) == 0;
}

/* A server end of a connection by TCP (conn/carry.h) and its record. */
struct tcp_conn {
	struct diag_tcp d;
	struct st_sock rec;
};

struct dump {
	struct sockrec *socks;
	struct diag_sock *v;
	size_t n, cap;
	struct tcp_conn *tcp;
	size_t n_tcp, cap_tcp;
};

/* Room for one more of @size bytes, or false. */
static bool grow(void **v, size_t n, size_t *cap, size_t size)
{
	size_t more = *cap ? *cap * 2 : 256;
	void *p;

	if (n < *cap)
		return true;
	p = realloc(*v, more * size);
	if (p == NULL)
		return false;
	*v = p;
	*cap = more;
	return true;
}

static void on_sock(void *arg, const struct diag_sock *d)
{
	struct dump *dump = arg;

	if (grow((void **)&dump->v, dump->n, &dump->cap, sizeof(*d)))
		dump->v[dump->n++] = *d;
}

static void on_tcp(void *arg, const struct diag_tcp *d)
{
	struct dump *dump = arg;
	struct st_sock rec;

	/* the client's end, and what is the app's own, have none */
	if (sockrec_get_conn(dump->socks, d->cookie, &rec) && rec.conn.carried &&
	    grow((void **)&dump->tcp, dump->n_tcp, &dump->cap_tcp, sizeof(*dump->tcp)))
		dump->tcp[dump->n_tcp++] = (struct tcp_conn){ *d, rec };
}

static void done(struct dump *dump)
{
	free(dump->v);
	free(dump->tcp);
}

/* It has none now. One that is being made sets first the time and then the flag. */
static void forget_carried(struct app *app)
{
	if (sockrec_now() - app->carried_s <= CARRIED_FORGET_S)
		return;
	app->carried = false;
	if (sockrec_now() - app->carried_s <= CARRIED_FORGET_S)
		app->carried = true;
}

/* What is in the apps' own namespaces. False: not all could be seen. */
static bool dump_tcp(struct switch_ctx *sw, struct dump *dump)
{
	struct app *app, *next;
	bool all = true;

	pthread_mutex_lock(&sw->lock);
	for (app = sw->apps; app != NULL; app = next) {
		size_t before = dump->n_tcp;
		int r;

		if (!app->carried) {
			next = app->next;
			continue;
		}
		/* if it ends meanwhile it is on no list, and the others are looked at next time */
		app_ref(app);
		pthread_mutex_unlock(&sw->lock);
		r = appns_diag(app);
		if (r >= 0)
			r = diag_dump_tcp(r, on_tcp, dump);
		if (r < 0)
			app->carried = false; /* they are not shown, and not counted */
		else if (dump->n_tcp == before)
			forget_carried(app);
		all = r == 0 && all;
		pthread_mutex_lock(&sw->lock);
		next = app->ended ? NULL : app->next;
		all = all && !app->ended;
		app_unref(sw, app);
	}
	pthread_mutex_unlock(&sw->lock);
	return all;
}

static int cmp_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int cmp_inode(const void *a, const void *b)
{
	uint32_t x = ((const struct diag_sock *)a)->inode,
		 y = ((const struct diag_sock *)b)->inode;

	return x < y ? -1 : x > y;
}

/* The other end, in a dump sorted by inode; NULL if it was closed. */
static const struct diag_sock *peer_of(const struct dump *dump, const struct diag_sock *d)
{
	struct diag_sock key = { .inode = d->peer_inode };

	if (d->peer_inode == 0 || dump->n == 0)
		return NULL;
	return bsearch(&key, dump->v, dump->n, sizeof(*dump->v), cmp_inode);
}

static void count_remote(void *arg, const struct st_sock *rec)
{
	struct listener *l = rec->remote.server ? listener_find(arg, rec->remote.anchor) : NULL;

	if (l == NULL || rec->remote.missed > 0)
		return;
	l->connections++;
	l->connections6 += !as_addr_is_v4(&rec->remote.local.addr);
}

/* Takes the dump, sorted by inode, and brings everything that depends on it up to date. */
static void recount(struct switch_ctx *sw, struct dump *dump)
{
	uint32_t before = sockrec_now();
	uint64_t *cookies;
	bool all;

	dump->socks = sw->socks;
	if (diag_dump(sw->diag_fd, false, on_sock, dump) < 0)
		return;
	all = dump_tcp(sw, dump);
	if (dump->n > 1)
		qsort(dump->v, dump->n, sizeof(*dump->v), cmp_inode);
	cookies = malloc((dump->n + dump->n_tcp + 1) * sizeof(*cookies));
	if (cookies == NULL)
		return;
	pthread_mutex_lock(&sw->lock);
	for (unsigned i = 0; i < ST_LISTENERS; i++) {
		if (sw->listeners[i] != NULL) {
			sw->listeners[i]->connections = 0;
			sw->listeners[i]->connections6 = 0;
			sw->listeners[i]->accepted_since = 0;
		}
	}
	for (size_t i = 0; i < dump->n; i++) {
		const struct diag_sock *peer = peer_of(dump, &dump->v[i]);
		struct listener *l;

		cookies[i] = dump->v[i].cookie;
		if (dump->v[i].name.kind != NAME_LISTENER || dump->v[i].listening ||
		    peer == NULL)
			continue;
		l = listener_find(sw, dump->v[i].name.anchor);
		if (l == NULL)
			continue;
		l->connections++;
		if (peer->name.kind == NAME_CLIENT && !as_addr_is_v4(&peer->name.server.addr))
			l->connections6++;
	}
	for (size_t i = 0; i < dump->n_tcp; i++) {
		const struct tcp_conn *c = &dump->tcp[i];
		struct listener *l = listener_find(sw, c->rec.conn.server_anchor);

		cookies[dump->n + i] = c->d.cookie;
		if (l == NULL)
			continue;
		l->connections++;
		l->connections6 += !as_addr_is_v4(&c->d.local.addr);
	}
	sockrec_each_remote(sw->socks, count_remote, sw);
	pthread_mutex_unlock(&sw->lock);
	if (dump->n + dump->n_tcp > 1)
		qsort(cookies, dump->n + dump->n_tcp, sizeof(*cookies), cmp_u64);
	if (all)
		sockrec_sweep(sw->socks, cookies, dump->n + dump->n_tcp, before);
	free(cookies);
}

void view_recount(struct switch_ctx *sw)
{
	struct dump dump = { 0 };

	recount(sw, &dump);
	done(&dump);
}

struct rows {
	json_t *rows;
	const char *network;
};

static void add_far_service(void *arg, const struct cluster_service *s)
{
	const struct rows *to = arg;
	char vip[AS_ADDR_STRLEN];

	if (!shows(to->network, s->network))
		return;
	json_array_append_new(to->rows,
			      json_pack("{s:s,s:s,s:i,s:s,s:s,s:s,s:i,s:i,s:s,s:i}", "network",
					s->network, "vip", as_addr_format(&s->vip, vip), "port",
					s->port, "proto", "tcp", "name", s->name, "node",
					s->node, "app", (int)s->app, "pid", s->pid, "state",
					s->draining ? "draining" : "up", "connections",
					(int)s->connections));
}

static json_t *services(struct switch_ctx *sw, const char *network)
{
	json_t *rows = json_array();

	listen_sweep(sw);
	remote_refresh(sw, true);
	view_recount(sw);
	pthread_mutex_lock(&sw->lock);
	for (unsigned i = 0; i < ST_LISTENERS; i++) {
		const struct listener *l = sw->listeners[i];
		struct as_addr vips[2];
		char vip[AS_ADDR_STRLEN];
		unsigned n = l != NULL && shows(network, l->app->network)
				     ? listener_vips(l, vips)
				     : 0;

		for (unsigned v = 0; v < n; v++) {
			json_array_append_new(
				rows,
				json_pack("{s:s,s:s,s:i,s:s,s:s,s:s,s:i,s:i,s:s,s:i}",
					  "network", l->app->network, "vip",
					  as_addr_format(&vips[v], vip), "port", l->port,
					  "proto", "tcp", "name", l->app->name, "node",
					  sw->node, "app", (int)l->app->id, "pid", l->pid,
					  "state", app_drains(sw, l->app) ? "draining" : "up",
					  "connections",
					  (int)(as_addr_is_v4(&vips[v])
							? l->connections - l->connections6
							: l->connections6)));
		}
	}
	pthread_mutex_unlock(&sw->lock);
	cluster_each_service(sw, add_far_service,
			     &(struct rows){ .rows = rows, .network = network });
	return rows;
}

static void format_time(int64_t when, char *buf, size_t size)
{
	time_t t = (time_t)when;
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(buf, size, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static json_t *apps(struct switch_ctx *sw, const char *network)
{
	json_t *rows = json_array();

	pthread_mutex_lock(&sw->lock);
	for (const struct app *app = sw->apps; app != NULL; app = app->next) {
		char ips[2 * AS_ADDR_STRLEN + 2], a4[AS_ADDR_STRLEN] = "",
						  a6[AS_ADDR_STRLEN] = "";
		char when[32];

		if (!shows(network, app->network))
			continue;
		if (app->own4)
			as_addr_format(&app->ip4, a4);
		if (app->own6)
			as_addr_format(&app->ip6, a6);
		snprintf(ips, sizeof(ips), "%s%s%s", a4, app->own4 && app->own6 ? "," : "", a6);
		format_time(app->started, when, sizeof(when));
		/* listed newest first; shown oldest first */
		json_array_insert_new(rows, 0,
				      json_pack("{s:i,s:s,s:s,s:s,s:s,s:i,s:s,s:s}", "id",
						(int)app->id, "name", app->name, "network",
						app->network, "ips", ips, "tags", app->tags,
						"pid", app->pid, "command", app->command,
						"started", when));
	}
	pthread_mutex_unlock(&sw->lock);
	return rows;
}

static const char *network_name(const struct switch_ctx *sw, uint32_t id)
{
	for (unsigned i = 0; i < sw->n_networks; i++) {
		if (sw->networks[i].id == id)
			return sw->networks[i].name;
	}
	return "";
}

static void add_connection(json_t *rows, const struct switch_ctx *sw, const char *network,
			   const struct as_endpoint *from, const struct as_endpoint *to,
			   const char *kind, const struct st_sock *rec)
{
	char client[AS_ENDPOINT_STRLEN], server[AS_ENDPOINT_STRLEN];

	json_array_append_new(
		rows, json_pack("{s:s,s:s,s:s,s:s,s:i,s:s,s:i,s:i}", "network", network,
				"client", as_endpoint_format(from, client), "server",
				as_endpoint_format(to, server), "node", sw->node, "age_s",
				(int)(sockrec_now() - rec->since), "kind", kind, "client_app",
				(int)rec->app, "server_app", (int)rec->conn.server_app));
}

struct remote_rows {
	json_t *rows;
	const char *network;
	const struct switch_ctx *sw;
};

/* Each end shows it on its own node. */
static void add_remote(void *arg, const struct st_sock *rec)
{
	const struct remote_rows *to = arg;
	const struct st_remote *r = &rec->remote;
	const char *network = network_name(to->sw, r->network);
	struct st_sock as = { .since = rec->since };

	if (!shows(to->network, network) || r->missed > 0)
		return;
	as.app = r->server ? r->app : rec->app;
	as.conn.server_app = r->server ? rec->app : r->app;
	add_connection(to->rows, to->sw, network, r->server ? &r->peer : &r->local,
		       r->server ? &r->local : &r->peer, "tcp", &as);
}

static json_t *connections(struct switch_ctx *sw, const char *network)
{
	json_t *rows = json_array();
	struct dump dump = { 0 };
	uint32_t now = sockrec_now();

	remote_refresh(sw, true);
	recount(sw, &dump);
	pthread_mutex_lock(&sw->lock);
	for (size_t i = 0; i < dump.n; i++) {
		const struct diag_sock *d = &dump.v[i], *peer = peer_of(&dump, d);
		struct st_sock rec;

		if (d->name.kind != NAME_CLIENT || d->peer_inode == 0 ||
		    !shows(network, network_name(sw, d->name.network)))
			continue;
		if (!sockrec_get_conn(sw->socks, d->cookie, &rec)) {
			memset(&rec, 0, sizeof(rec));
			rec.since = now;
			if (peer != NULL && peer->name.kind == NAME_LISTENER)
				rec.conn.server_app = peer->name.app;
		}
		add_connection(rows, sw, network_name(sw, d->name.network), &d->name.client,
			       &d->name.server, "unix", &rec);
	}
	for (size_t i = 0; i < dump.n_tcp; i++) {
		const struct tcp_conn *c = &dump.tcp[i];
		const struct app *app = app_find(sw, c->rec.app);

		if (app != NULL && shows(network, app->network))
			add_connection(rows, sw, app->network, &c->d.remote, &c->d.local, "tcp",
				       &c->rec);
	}
	sockrec_each_remote(sw->socks, add_remote, &(struct remote_rows){ rows, network, sw });
	pthread_mutex_unlock(&sw->lock);
	done(&dump);
	return rows;
}

/* Connections from other nodes, since the daemon started: which it knows of itself only. */
static void add_counts(json_t *row, const struct switch_ctx *sw)
{
	struct remote_stats s = remote_stats(sw);

	json_object_set_new(row, "accepted", json_integer((json_int_t)s.accepted));
	json_object_set_new(row, "refused", json_integer((json_int_t)s.refused));
	json_object_set_new(row, "bad_hellos", json_integer((json_int_t)s.bad_hellos));
	json_object_set_new(row, "replays", json_integer((json_int_t)s.replays));
}

struct node_rows {
	json_t *rows;
	const struct switch_ctx *sw;
	unsigned own_apps;
};

static void add_node(void *arg, const struct cluster_node *n)
{
	const struct node_rows *to = arg;
	char addr[AS_ENDPOINT_STRLEN], id[17];
	json_t *row;

	snprintf(id, sizeof(id), "%016llx", (unsigned long long)n->id);
	row = json_pack("{s:s,s:s,s:s,s:s,s:s,s:i,s:s}", "name", n->name, "id", id, "state",
			n->state, "address", as_endpoint_format(&n->addr, addr), "zone",
			n->zone, "apps", (int)(n->self ? to->own_apps : n->apps), "version",
			n->version);
	/* what is not known has no value */
	json_object_set_new(row, "rtt_us",
			    n->rtt_us > 0 ? json_integer(n->rtt_us) : json_null());
	json_object_set_new(row, "age_s",
			    n->started > 0 ? json_integer(time(NULL) - n->started)
					   : json_null());
	if (n->self)
		add_counts(row, to->sw);
	json_array_append_new(to->rows, row);
}

static json_t *own_node(struct switch_ctx *sw, const char *network)
{
	json_t *rows;
	int n = 0;

	pthread_mutex_lock(&sw->lock);
	for (const struct app *app = sw->apps; app != NULL; app = app->next)
		n += shows(network, app->network);
	rows = json_pack("[{s:s,s:s,s:i,s:s}]", "name", sw->node, "state", "alive", "apps", n,
			 "version", APPSWITCH_VERSION);
	pthread_mutex_unlock(&sw->lock);
	return rows;
}

/* Where other nodes are is no app's business. */
static json_t *nodes(struct switch_ctx *sw, const char *network)
{
	struct node_rows to = { .sw = sw };

	if (sw->cluster == NULL || network != NULL)
		return own_node(sw, network);
	to.rows = json_array();
	pthread_mutex_lock(&sw->lock);
	to.own_apps = sw->n_apps;
	pthread_mutex_unlock(&sw->lock);
	cluster_each_node(sw, add_node, &to);
	return to.rows;
}

json_t *view_rows(struct switch_ctx *sw, const char *what, const char *network)
{
	static const struct {
		const char *what;
		json_t *(*fn)(struct switch_ctx *sw, const char *network);
	} views[] = {
		{ "services", services },
		{ "apps", apps },
		{ "connections", connections },
		{ "nodes", nodes },
	};

	for (size_t i = 0; i < ARRAY_SIZE(views); i++) {
		if (strcmp(what, views[i].what) == 0)
			return views[i].fn(sw, network);
	}
	return NULL;
}
