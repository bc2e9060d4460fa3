#include "traphandler/service/lookup.h"

#include "traphandler/remote/dial.h"
#include "traphandler/service/registry.h"

#include <appswitch/util.h>

#include <string.h>
#include <sys/random.h>

#define FAR_MAX 512u /* instances of other nodes that are looked at */

/* Large arrays are static: everything here is under sw->lock, and threads have small stacks. */

/* Listeners of this node. A private one (of an app without an address of its own) is there for its own
 * app only, or through loopback for those of its VIP (@own). */
static unsigned collect(struct switch_ctx *sw, const struct app *client,
			const struct svc_key *key, bool own, uint64_t start,
			struct listener **ret, unsigned n, unsigned max)
{
	size_t count;
	const uint32_t *ids = svc_table_get(sw->svc, key, &count);

	/* more than are tried: another part each time, or no one would come to the others */
	if (count <= max)
		start = 0;
	for (size_t i = 0; i < count && n < max; i++) {
		struct listener *l = sw->listeners[ids[(start + i) % count]];
		bool shared = as_addr_is_v4(&key->vip) ? l->app->own4 : l->app->own6;

		if (l->app == client || shared || own)
			ret[n++] = l;
	}
	return n;
}

/* The same through loopback, if @key is of it: a port of 0.0.0.0 is reached at every loopback address; one
 * bound to the VIP alone is too, but only where nobody else has the port. */
static unsigned collect_all(struct switch_ctx *sw, const struct app *client, struct svc_key key,
			    uint64_t start, struct listener **ret, unsigned max)
{
	bool loopback = as_addr_is_loopback(&key.addr);
	unsigned n = collect(sw, client, &key, loopback, start, ret, 0, max);

	if (!loopback)
		return n;
	key.addr = as_addr_any(as_addr_family(&key.vip));
	n = collect(sw, client, &key, true, start, ret, n, max);
	if (n == 0) {
		key.addr = key.vip;
		n = collect(sw, client, &key, true, start, ret, n, max);
	}
	return n;
}

static bool vip_known(struct switch_ctx *sw, const struct app *client, const struct as_addr *a)
{
	for (const struct app *app = sw->apps; app != NULL; app = app->next) {
		if (app->network_id != client->network_id)
			continue;
		/* also an invented one: it is somebody's, but serves nobody else */
		if (as_addr_eq(&app->ip4, a) || as_addr_eq(&app->ip6, a))
			return true;
	}
	return as_addr_eq(&client->ip4, a) || as_addr_eq(&client->ip6, a) ||
	       cluster_has_vip(sw, client->network_id, a);
}

static uint64_t addr_hash(const struct as_addr *a)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (int i = 0; i < 16; i++)
		h = (h ^ a->b[i]) * 0x100000001b3u;
	return h;
}

/* The same on every node. @nth: of an app's listeners for the same port, of which other nodes see one. */
static uint64_t instance_id(uint64_t node, uint32_t app, unsigned nth)
{
	uint64_t h = (node ^ app) * 0x9e3779b97f4a7c15u;

	return (h ^ h >> 29) + nth;
}

static unsigned nth_of_app(const struct instance *inst, unsigned i)
{
	unsigned nth = 0;

	for (unsigned k = 0; k < i; k++)
		nth += inst[k].l != NULL && inst[k].l->app == inst[i].l->app;
	return nth;
}

static void order(struct switch_ctx *sw, const struct as_addr *source, uint64_t seq,
		  struct instance *inst, unsigned n, unsigned max, struct instance *ret)
{
	static struct lb_instance lb[MAX_INSTANCES + FAR_MAX];
	static uint16_t idx[MAX_INSTANCES + FAR_MAX];
	struct lb_input in = { .seq = seq, .source = addr_hash(source), .maglev = sw->maglev };
	enum lb_policy policy = inst[0].l != NULL ? inst[0].l->app->lb : inst[0].far.lb;

	for (unsigned i = 0; i < n; i++) {
		const struct listener *l = inst[i].l;
		const struct far *f = &inst[i].far;

		lb[i] = l != NULL ? (struct lb_instance){
			.id = instance_id(cluster_id(sw), l->app->id, nth_of_app(inst, i)),
			.connections = l->connections + l->accepted_since,
			.weight = (uint16_t)l->app->weight,
			.local = true,
			.same_zone = true,
		} : (struct lb_instance){
			.id = instance_id(f->node, f->app, 0),
			.connections = f->connections + dial_recent(sw, f),
			.weight = f->weight,
			.same_zone = f->same_zone,
			.passed_over = f->suspect || dial_passed_over(sw, f),
		};
	}
	if (getrandom(&in.random, sizeof(in.random), GRND_INSECURE) < 0)
		in.random = now_ns() * 0x9e3779b97f4a7c15u;
	lb_order(policy, lb, n, &in, idx);
	for (unsigned i = 0; i < n && i < max; i++)
		ret[i] = inst[idx[i]];
}

int service_lookup(struct switch_ctx *sw, struct app *client, const struct as_endpoint *dest,
		   struct instance *ret, unsigned max, struct as_addr *ret_vip)
{
	static struct instance all[MAX_INSTANCES + FAR_MAX];
	static struct far far[FAR_MAX];
	bool v4 = as_addr_is_v4(&dest->addr);
	const struct as_addr *mine = v4 ? &client->ip4 : &client->ip6;
	bool loopback = as_addr_is_loopback(&dest->addr);
	struct svc_key key = {
		.network = client->network_id,
		.vip = loopback ? *mine : dest->addr,
		.addr = dest->addr,
		.port = dest->port,
	};
	uint64_t h =
		addr_hash(&key.vip) ^ (uint64_t)key.port * 0x9e3779b97f4a7c15u ^ key.network;
	uint32_t *seq = &sw->lb_seq[(h ^ h >> 32) % ARRAY_SIZE(sw->lb_seq)];
	struct listener *ls[MAX_INSTANCES];
	unsigned n = 0, n_local, n_far;

	*ret_vip = key.vip;
	/* with source-hash a source keeps its part */
	n_local = collect_all(sw, client, key,
			      client->lb == LB_SOURCE_HASH ? addr_hash(mine) : *seq, ls,
			      MAX_INSTANCES);
	for (unsigned i = 0; i < n_local; i++) {
		if (!app_drains(sw, ls[i]->app) || ls[i]->app == client)
			all[n++].l = ls[i];
	}
	n_far = cluster_find(sw, client, &key.vip, key.port, far, FAR_MAX);
	for (unsigned i = 0; i < n_far; i++) {
		if (!far[i].draining)
			all[n++] = (struct instance){ .far = far[i] };
	}
	if (n == 0 && cluster_is_joining(sw))
		return -EBUSY;
	if (n == 0) {
		if (loopback || n_local + n_far > 0 || vip_known(sw, client, &dest->addr))
			return -ECONNREFUSED;
		return -ENETUNREACH;
	}
	order(sw, mine, (*seq)++, all, n, max, ret);
	if (n > max)
		n = max;
	for (unsigned i = 0; i < n; i++) {
		if (ret[i].l != NULL)
			listener_ref(ret[i].l);
	}
	return (int)n;
}

void service_put(struct switch_ctx *sw, struct instance *inst, int n,
		 const struct listener *but)
{
	for (int i = 0; i < n; i++) {
		if (inst[i].l != NULL && inst[i].l != but)
			listener_unref(sw, inst[i].l);
	}
}

int service_arrivals(struct switch_ctx *sw, uint32_t network, const struct as_addr *vip,
		     const struct as_endpoint *dest, uint32_t app, struct listener **ret,
		     unsigned max)
{
	struct svc_key key = {
		.network = network,
		.vip = *vip,
		.addr = dest->addr,
		.port = dest->port,
	};
	unsigned n = collect_all(sw, NULL, key, 0, ret, max), first = 0;

	/* only what others may reach: not an identity that was invented here */
	for (unsigned i = 0; i < n;) {
		if (as_addr_is_v4(vip) ? ret[i]->app->own4 : ret[i]->app->own6)
			i++;
		else
			ret[i] = ret[--n];
	}
	for (unsigned i = 0; i < n; i++) {
		if (ret[i]->app->id == app) {
			struct listener *l = ret[i];

			ret[i] = ret[first];
			ret[first++] = l;
		}
	}
	for (unsigned i = 0; i < n; i++)
		listener_ref(ret[i]);
	return (int)n;
}
