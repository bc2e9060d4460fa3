/* The service table: apps and listeners of this node become gossip rows, those of others are looked up. */
#include "traphandler/cluster/internal.h"

#include "traphandler/service/registry.h"

#include <appswitch/log.h>

#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* ---- own rows ---- */

static uint64_t digest(const char *tags)
{
	uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */

	for (; *tags != '\0'; tags++)
		h = (h ^ (uint8_t)*tags) * 0x100000001b3u;
	return h;
}

/* @live: the row is so; else it is gone, perhaps (@soon) to come again. */
static void tell(struct cluster *c, const struct gossip_row *row, const void *data, size_t len,
		 bool live, bool soon)
{
	struct change *change = malloc(sizeof(*change) + len);

	if (change == NULL) {
		log_error_limited("other nodes are not told of a service: out of memory");
		return;
	}
	change->next = NULL;
	change->live = live;
	change->soon = soon;
	change->row = *row;
	change->row.data_len = (uint32_t)len;
	if (len > 0)
		memcpy(change->data, data, len);
	pthread_mutex_lock(&c->queue_lock);
	*c->last = change;
	c->last = &change->next;
	pthread_mutex_unlock(&c->queue_lock);
	uv_async_send(&c->wake);
}

static struct gossip_row row_of_app(const struct switch_ctx *sw, const struct app *app,
				    const struct as_addr *vip)
{
	return (struct gossip_row){
		.network = app->network_id,
		.vip = *vip,
		.proto = ROW_APP,
		.app = app->id,
		.state = (uint8_t)((uint8_t)app->lb << ROW_LB_SHIFT |
				   (app_drains(sw, app) ? ROW_DRAINING : 0)),
		.weight = (uint16_t)app->weight,
		.since = (uint32_t)app->started,
		.tags = digest(app->tags),
	};
}

static size_t data_of_app(const struct app *app, int32_t pid, uint8_t buf[ROWDATA_MAX])
{
	size_t len = 0;
	struct service_data d = { .pid = pid, .lb = (uint32_t)app->lb };

	snprintf(d.network, sizeof(d.network), "%s", app->network);
	snprintf(d.name, sizeof(d.name), "%s", app->name);
	snprintf(d.tags, sizeof(d.tags), "%s", app->tags);
	(void)rowdata_put_service(&d, buf, ROWDATA_MAX, &len);
	return len;
}

void cluster_tell_app(struct switch_ctx *sw, const struct app *app, bool up)
{
	struct as_addr vips[2];
	uint8_t data[ROWDATA_MAX];
	unsigned n = 0;

	if (sw->cluster == NULL)
		return;
	if (app->own4)
		vips[n++] = app->ip4;
	if (app->own6)
		vips[n++] = app->ip6;
	for (unsigned i = 0; i < n; i++) {
		struct gossip_row row = row_of_app(sw, app, &vips[i]);

		tell(sw->cluster, &row, data, up ? data_of_app(app, app->pid, data) : 0, up,
		     false);
	}
}

/* Has the app another listener that serves this address and port? It is one row for both. */
static bool served_otherwise(const struct switch_ctx *sw, const struct listener *l,
			     const struct as_addr *vip)
{
	for (unsigned i = 0; i < ST_LISTENERS; i++) {
		const struct listener *other = sw->listeners[i];
		struct as_addr vips[2];
		unsigned n;

		if (other == NULL || other == l || other->app != l->app ||
		    other->port != l->port)
			continue;
		n = listener_vips(other, vips);
		for (unsigned v = 0; v < n; v++) {
			if (as_addr_eq(&vips[v], vip))
				return true;
		}
	}
	return false;
}

void cluster_tell_listener(struct switch_ctx *sw, const struct listener *l, bool up)
{
	struct as_addr vips[2];
	uint8_t data[ROWDATA_MAX];
	unsigned n;

	if (sw->cluster == NULL)
		return;
	n = listener_vips(l, vips);
	for (unsigned i = 0; i < n; i++) {
		struct gossip_row row = row_of_app(sw, l->app, &vips[i]);

		if (!up && served_otherwise(sw, l, &vips[i]))
			continue;
		row.proto = ROW_TCP;
		row.port = l->port;
		row.connections = l->connections + l->accepted_since;
		tell(sw->cluster, &row, data, up ? data_of_app(l->app, l->pid, data) : 0, up,
		     !l->app->ended);
	}
}

void rows_tell_all(struct cluster *c)
{
	struct switch_ctx *sw = c->sw;

	for (const struct app *app = sw->apps; app != NULL; app = app->next)
		cluster_tell_app(sw, app, true);
	for (unsigned i = 0; i < ST_LISTENERS; i++) {
		if (sw->listeners[i] != NULL)
			cluster_tell_listener(sw, sw->listeners[i], true);
	}
}

void rows_tell_counts(struct cluster *c)
{
	struct switch_ctx *sw = c->sw;

	pthread_mutex_lock(&sw->lock);
	for (unsigned i = 0; i < ST_LISTENERS; i++) {
		struct listener *l = sw->listeners[i];
		uint32_t now;

		if (l == NULL || l->app->lb != LB_LEAST_CONN)
			continue;
		now = l->connections + l->accepted_since;
		if (now == l->told)
			continue;
		l->told = now;
		cluster_tell_listener(sw, l, true);
	}
	pthread_mutex_unlock(&sw->lock);
}

static void apply(struct gossip *g, struct change *change)
{
	int r;

	change->row.data = change->data;
	r = change->live ? gossip_put(g, gossip_uv_now(), &change->row)
			 : gossip_del(g, gossip_uv_now(), &change->row);
	if (r < 0 && r != -ENOENT)
		log_error_limited("other nodes are not told of a service: %s", strerror(-r));
	free(change);
}

/* A server that closes its listener and listens again at once (iperf3 between two tests) is not taken
 * out of the table in between: whoever comes just then is refused by this node. */
#define HOLD_US 50000u

static void hold(struct cluster *c, struct change *change)
{
	struct change **p = &c->held;

	change->due_us = gossip_uv_now() + HOLD_US;
	while (*p != NULL)
		p = &(*p)->next;
	*p = change;
}

static bool same_key(const struct gossip_row *a, const struct gossip_row *b)
{
	return a->network == b->network && a->port == b->port && a->proto == b->proto &&
	       a->app == b->app && as_addr_eq(&a->vip, &b->vip);
}

/* What is said of the key now counts. */
static void drop_held(struct cluster *c, const struct gossip_row *row)
{
	struct change **p = &c->held;

	while (*p != NULL) {
		struct change *h = *p;

		if (!same_key(&h->row, row)) {
			p = &h->next;
			continue;
		}
		*p = h->next;
		free(h);
	}
}

static void on_deletions(uv_timer_t *t)
{
	rows_apply_held(t->data);
}

static void arm(struct cluster *c)
{
	uint64_t now = gossip_uv_now();

	if (c->held != NULL)
		uv_timer_start(&c->deletions, on_deletions,
			       c->held->due_us > now ? (c->held->due_us - now) / 1000 + 1 : 1,
			       0);
}

void rows_apply_held(struct cluster *c)
{
	struct gossip *g = gossip_uv_lock(c->gossip);

	while (c->held != NULL && gossip_uv_now() >= c->held->due_us) {
		struct change *change = c->held;

		c->held = change->next;
		apply(g, change);
	}
	gossip_uv_unlock(c->gossip);
	arm(c);
}

void rows_apply(struct cluster *c)
{
	struct change *change;
	struct gossip *g;

	pthread_mutex_lock(&c->queue_lock);
	change = c->first;
	c->first = NULL;
	c->last = &c->first;
	pthread_mutex_unlock(&c->queue_lock);
	if (change == NULL)
		return;
	g = gossip_uv_lock(c->gossip);
	while (change != NULL) {
		struct change *next = change->next;

		change->next = NULL;
		drop_held(c, &change->row);
		if (!change->live && change->soon)
			hold(c, change);
		else
			apply(g, change);
		change = next;
	}
	gossip_uv_unlock(c->gossip);
	arm(c);
}

void rows_put_node(struct cluster *c)
{
	struct gossip_row row = { .proto = ROW_NODE };
	struct node_data d = { .started = c->started };
	size_t len = 0;
	uint8_t data[ROWDATA_MAX];
	struct gossip *g;

	pthread_mutex_lock(&c->sw->lock);
	d.apps = c->sw->n_apps;
	pthread_mutex_unlock(&c->sw->lock);
	/* what is put is news, also if it says the same: nodes that have nothing new must agree */
	if (c->node_told && d.apps == c->apps_told)
		return;
	c->node_told = true;
	c->apps_told = d.apps;
	snprintf(d.name, sizeof(d.name), "%s", c->cfg->node);
	snprintf(d.zone, sizeof(d.zone), "%s", c->cfg->zone != NULL ? c->cfg->zone : "");
	snprintf(d.version, sizeof(d.version), "%s", APPSWITCH_VERSION);
	(void)rowdata_put_node(&d, data, sizeof(data), &len);
	row.data = data;
	row.data_len = (uint32_t)len;
	g = gossip_uv_lock(c->gossip);
	(void)gossip_put(g, gossip_uv_now(), &row);
	gossip_uv_unlock(c->gossip);
}

/* ---- rows of others ---- */

static struct node_info **bucket(struct cluster *c, uint64_t id)
{
	return &c->nodes[(id * 0x9e3779b97f4a7c15u) >> 54];
}

const struct node_info *rows_node(const struct cluster *c, uint64_t id)
{
	const struct node_info *n = *bucket((struct cluster *)c, id);

	while (n != NULL && n->id != id)
		n = n->next;
	return n;
}

void rows_on_row(struct cluster *c, const struct gossip_row *row, bool live)
{
	struct node_info **p, *n;
	struct node_data d;

	if (row->proto != ROW_NODE)
		return;
	p = bucket(c, row->owner);
	while (*p != NULL && (*p)->id != row->owner)
		p = &(*p)->next;
	if (!live) {
		n = *p;
		if (n != NULL)
			*p = n->next;
		free(n);
		return;
	}
	if (rowdata_get_node(row->data, row->data_len, &d) < 0)
		return;
	n = *p;
	if (n == NULL) {
		n = calloc(1, sizeof(*n));
		if (n == NULL)
			return;
		n->id = row->owner;
		*p = n;
		if (strcmp(d.name, c->cfg->node) == 0)
			log_warn("another node (%016llx) is called %s, too: give one of them "
				 "another --node name",
				 (unsigned long long)row->owner, d.name);
	}
	n->data = d;
}

/* One that a later version has is as good as none. */
static enum lb_policy policy_of(uint8_t state)
{
	unsigned policy = state >> ROW_LB_SHIFT;

	return policy < LB_POLICIES ? (enum lb_policy)policy : LB_LOCAL_FIRST;
}

static bool same_zone(const struct cluster *c, uint64_t node)
{
	const struct node_info *n;

	if (c->cfg->zone == NULL)
		return false;
	n = rows_node(c, node);
	return n != NULL && strcmp(n->data.zone, c->cfg->zone) == 0;
}

/* Networks have a hash of their name for an id; of two with the same one only the name tells. */
static bool is_of(const struct gossip_row *row, const char *network)
{
	struct service_data d;

	return rowdata_get_service(row->data, row->data_len, &d) == 0 &&
	       strcmp(d.network, network) == 0;
}

unsigned cluster_find(struct switch_ctx *sw, const struct app *client,
		      const struct as_addr *vip, uint16_t port, struct far *ret, unsigned max)
{
	struct cluster *c = sw->cluster;
	struct gossip_row key = {
		.network = client->network_id, .vip = *vip, .proto = ROW_TCP, .port = port
	};
	struct gossip_row row;
	struct gossip *g;
	uint32_t it = 0;
	unsigned n = 0;

	if (c == NULL || c->gone)
		return 0;
	g = gossip_uv_lock(c->gossip);
	while (n < max && gossip_lookup(g, &key, &it, &row)) {
		struct gossip_member m;

		if (row.owner == c->id || gossip_member_of(g, row.owner, &m) < 0 ||
		    !is_of(&row, client->network))
			continue;
		ret[n++] = (struct far){
			.node = m.id,
			.generation = m.generation,
			.addr = m.addr,
			.rtt_us = m.rtt_us,
			.suspect = m.state == GOSSIP_SUSPECT,
			.app = row.app,
			.connections = row.connections,
			.version = row.version,
			.weight = row.weight,
			.port = port,
			.draining = (row.state & ROW_DRAINING) != 0,
			.lb = policy_of(row.state),
			.same_zone = same_zone(c, m.id),
		};
	}
	gossip_uv_unlock(c->gossip);
	return n;
}

bool cluster_has_vip(struct switch_ctx *sw, uint32_t network, const struct as_addr *vip)
{
	struct cluster *c = sw->cluster;
	struct gossip_row key = { .network = network, .vip = *vip, .proto = ROW_APP };
	bool found;

	if (c == NULL || c->gone)
		return false;
	found = gossip_has(gossip_uv_lock(c->gossip), &key);
	gossip_uv_unlock(c->gossip);
	return found;
}

void cluster_each_service(struct switch_ctx *sw,
			  void (*fn)(void *arg, const struct cluster_service *s), void *arg)
{
	struct cluster *c = sw->cluster;
	struct gossip_row row;
	struct gossip *g;
	uint32_t it = 0;

	if (c == NULL || c->gone)
		return;
	g = gossip_uv_lock(c->gossip);
	while (gossip_rows(g, &it, &row)) {
		const struct node_info *n;
		struct service_data d;
		struct cluster_service s;
		char id[17];

		if (row.proto != ROW_TCP || row.owner == c->id ||
		    rowdata_get_service(row.data, row.data_len, &d) < 0)
			continue;
		n = rows_node(c, row.owner);
		snprintf(id, sizeof(id), "%016llx", (unsigned long long)row.owner);
		s = (struct cluster_service){
			.network = d.network,
			.name = d.name,
			.node = n != NULL ? n->data.name : id,
			.vip = row.vip,
			.port = row.port,
			.app = row.app,
			.pid = d.pid,
			.connections = row.connections,
			.draining = (row.state & ROW_DRAINING) != 0,
		};
		fn(arg, &s);
	}
	gossip_uv_unlock(c->gossip);
}

void cluster_each_node(struct switch_ctx *sw,
		       void (*fn)(void *arg, const struct cluster_node *n), void *arg)
{
	struct cluster *c = sw->cluster;
	struct gossip_member m;
	struct gossip *g;
	uint32_t it = 0;

	if (c == NULL)
		return;
	g = gossip_uv_lock(c->gossip);
	while (gossip_members(g, &it, &m)) {
		static const char *const states[] = { "alive", "suspect", "dead", "left" };
		const struct node_info *info = rows_node(c, m.id);
		struct cluster_node n = {
			.id = m.id,
			.self = m.id == c->id,
			.state = states[m.state],
			.addr = m.addr,
			.rtt_us = m.rtt_us,
			.name = info != NULL ? info->data.name : "",
			.zone = info != NULL ? info->data.zone : "",
			.version = info != NULL ? info->data.version : "",
			.apps = info != NULL ? info->data.apps : 0,
			.started = info != NULL ? info->data.started : 0,
		};

		if (n.self) {
			n.name = c->cfg->node;
			n.zone = c->cfg->zone != NULL ? c->cfg->zone : "";
			n.version = APPSWITCH_VERSION;
			n.started = c->started;
		}
		fn(arg, &n);
	}
	gossip_uv_unlock(c->gossip);
}
