/* gossip_lab.h - gossip drivers over real sockets on 127.0.0.1, all in one loop.
 *
 * Each node has a UDP socket and a listener of the same port number, which reads the magic and
 * gives the connection over, as a daemon does. A test program sets up and tears down the loop
 * around each test; what is here asserts by itself. One thread, unless it says so. */
#ifndef TESTS_GOSSIP_LAB_H
#define TESTS_GOSSIP_LAB_H

#include "gossip/aead_openssl.h"
#include "gossip/gossip_uv.h"

#define LAB_NODES_MAX 8
#define LAB_PATIENCE  30000u /* milliseconds; far more than needed, for slow builds */

extern const uint8_t LAB_KEY[1][AEAD_KEY_LEN], LAB_OTHER_KEY[1][AEAD_KEY_LEN];

struct lab_node {
	struct gossip_uv *g;
	struct aead_openssl *aead;
	struct as_endpoint addr;
	int udp, tcp;
	uv_poll_t listener;
	unsigned rejected[256]; /* by errno */
	unsigned rows;		/* came, by the sink */
};

extern uv_loop_t lab_loop;
extern struct lab_node lab_nodes[LAB_NODES_MAX];
extern unsigned lab_n_nodes;
extern bool lab_plain;		      /* the next nodes' plain_swim */
extern struct aead_openssl *lab_aead; /* of the members played; the test's to make and free */

int lab_setup(void **state);
int lab_teardown(void **state); /* also asserts that everything is closed */

uint64_t lab_ms_now(void);
/* Runs the loop until @is is true; false: it did not become so. */
bool lab_wait_for(bool (*is)(void *arg), void *arg, uint64_t ms);
struct as_endpoint lab_at_loopback(int family, uint16_t port);
/* A socket bound to @ip and a free port (*port 0), or to that port; -errno. */
int lab_bound(int family, int type, const struct as_addr *ip, uint16_t *port);

/* Listens at @on and says of itself that it is at @said. */
struct lab_node *lab_node_at(int family, const struct as_addr *on, const struct as_addr *said,
			     const uint8_t (*key)[AEAD_KEY_LEN], bool loopback_only);
struct lab_node *lab_node_new(void);
void lab_node_seed(struct lab_node *n, const struct lab_node *seed);
/* @n nodes that know each other. */
void lab_cluster(unsigned n);

/* Any thread. */
struct gossip_stats lab_core_stats(struct lab_node *n);
struct gossip_uv_stats lab_stats(struct lab_node *n);
struct gossip_row lab_row_of(uint32_t i); /* rows that differ in their key */
void lab_put(struct lab_node *n, const struct gossip_row *row);
bool lab_has(struct lab_node *n, const struct gossip_row *key);

/* For lab_wait_for(). */
bool lab_all_know_all(void *unused);
bool lab_all_have(void *row);
bool lab_none_has(void *row);

struct lab_awaited {
	struct lab_node *by;
	uint64_t id;
	bool there;
	enum gossip_state state;
};
bool lab_is_alive(void *awaited);
bool lab_is_suspected(void *awaited); /* or worse */

struct lab_incoming {
	struct lab_node *n;
	uint32_t is;
};
bool lab_incoming_is(void *incoming); /* so many connections */
bool lab_has_ended(void *fd);

/* A blocking connection that has said the magic. */
int lab_stream_to(const struct lab_node *n);

struct gossip_config lab_core_config(uint64_t id, const struct as_endpoint *addr,
				     struct aead_openssl *aead);

/* A member that the test plays itself: a core that answers what it is given and never asks. */
struct lab_played {
	struct gossip *core;
	int fd;
	struct as_endpoint only; /* packets to anybody else are dropped */
	int family;
};
/* Joins: @to hears of it and answers, when the loop runs. */
void lab_played_new(struct lab_played *p, uint64_t id, int family, int fd, uint16_t port,
		    const struct as_endpoint *to);

#endif
