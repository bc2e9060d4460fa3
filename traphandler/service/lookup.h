/* lookup.h - who serves an address and port, and in which order they are asked.
 *
 * All under sw->lock. Listeners that are given out are referenced. */
#ifndef TRAPHANDLER_LOOKUP_H
#define TRAPHANDLER_LOOKUP_H

#include "traphandler/cluster/cluster.h"

/* One of those who serve it: a listener of this node, or an app of another. */
struct instance {
	struct listener *l; /* or NULL, and: */
	struct far far;
};

/* As many are tried for one connect(). */
#define MAX_INSTANCES 64

/* Who serves @dest for @client, on this node and others: best first, at most @max; the VIP
 * whose port space it is in *ret_vip. -ECONNREFUSED, -ENETUNREACH, -EBUSY (nobody yet: this node is about
 * to hear of others) or the number. */
int service_lookup(struct switch_ctx *sw, struct app *client, const struct as_endpoint *dest,
		   struct instance *ret, unsigned max, struct as_addr *ret_vip);
/* Lets go of them, but for @but. */
void service_put(struct switch_ctx *sw, struct instance *inst, int n,
		 const struct listener *but);

/* Who serves @dest of @vip for a client on another node, which chose an instance of @app: that
 * one first. The number. */
int service_arrivals(struct switch_ctx *sw, uint32_t network, const struct as_addr *vip,
		     const struct as_endpoint *dest, uint32_t app, struct listener **ret,
		     unsigned max);

#endif
