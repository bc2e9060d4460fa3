/* internal.h - what the parts of cluster/ share. */
#ifndef CLUSTER_INTERNAL_H
#define CLUSTER_INTERNAL_H

#include "gossip/aead_openssl.h"
#include "gossip/gossip_uv.h"
#include "traphandler/cluster/cluster.h"
#include "traphandler/cluster/rowdata.h"
#include "traphandler/cluster/statedir.h"

/* Of a gossip row (gossip.h): what it is about. A service's is its IP protocol. */
#define ROW_NODE 255u /* the node itself; vip and port are zero */
#define ROW_APP	 0u   /* an app with that VIP is there; port is zero */
#define ROW_TCP	 6u

/* gossip_row.state: bits 0 draining; 4 to 7 the policy of its owner. */
#define ROW_DRAINING 0x01u
#define ROW_LB_SHIFT 4u

/* What another node says of itself. Under the gossip lock. */
struct node_info {
	struct node_info *next;
	uint64_t id;
	bool doubted; /* since it was last said to be here */
	struct node_data data;
};

/* A change of the own rows on its way to the gossip core. */
struct change {
	struct change *next;
	bool live;
	bool soon; /* a deletion that a new row of the same key may overtake */
	uint64_t due_us;
	struct gossip_row row; /* .data is behind it */
	uint8_t data[];
};

#define NODE_BUCKETS 1024u

struct cluster {
	struct switch_ctx *sw;
	const struct daemon_config *cfg;
	uint64_t id;
	uint32_t generation;
	struct statedir *dir;
	struct aead_openssl *aead; /* under the gossip lock */
	struct mac *mac;
	struct gossip_uv *gossip;
	pthread_t thread;
	uv_loop_t loop;
	uv_async_t wake;
	uv_timer_t housekeeping, deletions;
	/* the loop thread's */
	unsigned ticks;
	struct change *held; /* deletions that wait, the earliest first */
	bool met, told_alone, disk_failed, node_told;
	uint32_t apps_told;	     /* in the node's row */
	uint32_t unsaved_generation; /* 0: none */
	struct {
		uv_work_t work;
		bool busy; /* then the rest, and dir, are the other thread's */
		uint32_t generation;
		struct as_endpoint peers[STATEDIR_PEERS];
		size_t n_peers;
		char err[300];
		int result;
	} disk;
	/* under queue_lock, which is taken after sw->lock, if both are */
	pthread_mutex_t queue_lock;
	struct change *first, **last;
	int *streams; /* for gossip_uv_adopt() */
	size_t n_streams;
	bool stopping, left;
	atomic_bool joined; /* or it has taken long enough */
	atomic_bool gone;   /* it has left: nobody is known any more */
	/* under the gossip lock */
	struct node_info *nodes[NODE_BUCKETS];
	uint32_t new_generation; /* to be stored; 0: none */
	int64_t started;
	uint64_t started_us;
	bool has_seeds;
};

/* rows.c: under sw->lock, everything there is; then only changes. */
void rows_tell_all(struct cluster *c);
/* Loop thread: what was told goes to the core. */
void rows_apply(struct cluster *c);
/* Loop thread: deletions that have waited long enough. */
void rows_apply_held(struct cluster *c);
/* The row of the node itself, if it has changed. Loop thread. */
void rows_put_node(struct cluster *c);
/* Loop thread: counts of connections, for services that are balanced by them. */
void rows_tell_counts(struct cluster *c);
/* A row of another node came or went; the sink's. */
void rows_on_row(struct cluster *c, const struct gossip_row *row, bool live);
/* NULL: it has not said yet. Under the gossip lock. */
const struct node_info *rows_node(const struct cluster *c, uint64_t id);

#endif
