/* cluster.h - this node among others: what it tells them, what it knows of them.
 *
 * Drives gossip (gossip/gossip_uv.h) on a thread of its own, so that neither traps nor dumps of
 * sockets keep a probe waiting. Apps and listeners of this node become rows; rows of others are looked
 * up at connect(). All of it does nothing, or finds nobody, while sw->cluster is NULL: a daemon that is
 * alone. Times as in the headers they come from; 0 or -errno. */
#ifndef TRAPHANDLER_CLUSTER_H
#define TRAPHANDLER_CLUSTER_H

#include "traphandler/daemon.h"
#include "traphandler/switch.h"

struct cluster;

/* An instance of a service on another node. */
struct far {
	uint64_t node;
	uint32_t generation;
	struct as_endpoint addr; /* of the node */
	uint32_t app, connections;
	uint64_t
		version; /* of what is said here: another one when its owner says something new */
	uint16_t weight, port;
	bool same_zone, draining;
	bool suspect;	   /* its node did not answer lately */
	enum lb_policy lb; /* what the service's owner asked for */
	uint32_t rtt_us;   /* to the node; 0: not measured */
};

/* Joins: @tcp_fd and @udp_fd are bound to the node's port (remote/remote.h). Main thread, with workers
 * running. On failure one line was logged. */
int cluster_start(struct switch_ctx *sw, const struct daemon_config *cfg);
/* Without a word to the others: a daemon that comes back soon is not missed. */
void cluster_stop(struct switch_ctx *sw);

/* Instances of @vip:@port of other nodes in the network of @client, at most @max, in no order. */
unsigned cluster_find(struct switch_ctx *sw, const struct app *client,
		      const struct as_addr *vip, uint16_t port, struct far *ret, unsigned max);
/* Has this node not yet heard all that the others know? Then a service that is not found may be there. */
bool cluster_is_joining(struct switch_ctx *sw);
/* Has any app of another node this address? Also of a dead one: it is still no address of the outer world. */
bool cluster_has_vip(struct switch_ctx *sw, uint32_t network, const struct as_addr *vip);
/* A connection to it failed: it is probed now instead of when its turn comes. */
void cluster_doubt(struct switch_ctx *sw, uint64_t node);

/* The same on every start of this node; 0 if it is alone. */
uint64_t cluster_id(const struct switch_ctx *sw);

/* Instances of other nodes, all of them. Borrowed; @fn must not call back. */
struct cluster_service {
	const char *network, *name, *node;
	struct as_addr vip;
	uint16_t port;
	uint32_t app, connections;
	int32_t pid;
	bool draining;
};
void cluster_each_service(struct switch_ctx *sw,
			  void (*fn)(void *arg, const struct cluster_service *s), void *arg);

/* All nodes ever met, this one first. Borrowed; @fn must not call back. */
struct cluster_node {
	uint64_t id;
	bool self;
	const char *name, *zone, *version, *state; /* name: empty if it has not said yet */
	struct as_endpoint addr;
	uint32_t rtt_us;
	uint32_t apps;	 /* of others: who asks knows its own */
	int64_t started; /* wall clock, s; 0: not known */
};
void cluster_each_node(struct switch_ctx *sw,
		       void (*fn)(void *arg, const struct cluster_node *n), void *arg);

/* The key file again (SIGHUP); on failure the old keys stay, and one line is logged. */
void cluster_reload_keys(struct switch_ctx *sw);
/* Says good-bye, and knows nobody from then on. 0, -ENOTCONN, -EALREADY. */
int cluster_leave(struct switch_ctx *sw);
/* For a command that wants its change to be known: how long that takes, at most, but for lost nodes. */
#define CLUSTER_SETTLE_MS 500

/* A listener of @app came, or its row changed, or it went; an app did. Under sw->lock. */
void cluster_tell_listener(struct switch_ctx *sw, const struct listener *l, bool up);
void cluster_tell_app(struct switch_ctx *sw, const struct app *app, bool up);

#endif
