/* sim.h - many nodes of the gossip core in one process, on a clock that only jumps.
 *
 * Everything random comes from one seed: the same seed gives the same run, byte for byte. What
 * can be done to the network: latency, loss, partitions, one-way cuts, frozen nodes (their
 * timers and packets wait), kills, restarts with or without their memory. Streams are reliable,
 * take their time by size, and break with the path. Packets are not encrypted here: the AEAD
 * has its own test. Times are microseconds. Running out of memory ends the process. */
#ifndef SIM_H
#define SIM_H

#include "gossip/gossip.h"

#include <stdio.h>

#define SIM_MS UINT64_C(1000)
#define SIM_S  UINT64_C(1000000)

struct sim_packet;

struct sim_node {
	struct gossip *g; /* NULL: down */
	uint64_t id;
	uint32_t generation;
	uint32_t side;	       /* of a partition: sides do not hear each other */
	uint64_t frozen_until; /* 0: runs */
	uint64_t timer;	       /* armed for, 0: not */
	uint32_t starts;
	struct sim_packet *waiting, **waiting_end; /* arrived while frozen */
	uint32_t n_waiting;
	uint64_t bytes, packets; /* sent, with IP and UDP or TCP headers */
	uint64_t false_dead;	 /* version at which it was wrongly declared dead last */
};

struct sim_cut {
	uint32_t from, to;
};

struct sim {
	uint64_t now, rng;
	uint32_t n;
	struct sim_node *node;
	/* network */
	uint64_t latency_min, latency_max; /* one way */
	uint32_t loss_ppm;
	struct sim_cut *cut;
	uint32_t n_cuts;
	bool plain_swim;
	/* observation; any may be NULL */
	void *ctx;
	void (*on_member)(struct sim *s, uint32_t node, const struct gossip_member *m);
	void (*on_row)(struct sim *s, uint32_t node, const struct gossip_row *r, bool live);
	uint64_t
		false_positives; /* living, reachable nodes declared dead, once per accusation */
	uint64_t sent, lost;
	bool count_types;
	uint64_t bytes_of[16]; /* by type of record; 0: everything around them */
	/* events */
	struct sim_event *heap;
	size_t n_heap, cap_heap;
	uint64_t order;
	struct sim_packet *pool;
};

struct sim *sim_new(uint32_t n, uint64_t seed);
void sim_free(struct sim *s);

/* Starts every node, each knowing all others as if from its file of peers. */
void sim_start_all(struct sim *s);
/* Starts one node that knows nobody but @seed (NONE: nobody). */
#define SIM_NOBODY UINT32_MAX
void sim_start(struct sim *s, uint32_t i, uint32_t seed);
void sim_kill(struct sim *s, uint32_t i);
void sim_freeze(struct sim *s, uint32_t i, uint64_t how_long);
void sim_heal(struct sim *s); /* no partition, no cuts */
void sim_cut(struct sim *s, uint32_t from, uint32_t to);

/* As gossip_put() and gossip_del() at a node that is up. */
int sim_put(struct sim *s, uint32_t i, const struct gossip_row *row);
int sim_del(struct sim *s, uint32_t i, const struct gossip_row *key);
void sim_settled(struct sim *s, uint32_t i);
void sim_leave(struct sim *s, uint32_t i); /* and is down */

void sim_run(struct sim *s, uint64_t until);
/* Runs until @done says so, looked at every @step; false: not by @until. */
bool sim_run_until(struct sim *s, uint64_t until, uint64_t step, bool (*done)(struct sim *s));

uint32_t sim_random(struct sim *s, uint32_t below);
uint32_t sim_random_up(struct sim *s);
struct as_endpoint sim_addr(uint32_t i);
uint32_t sim_index(uint64_t id);
uint32_t sim_up(const struct sim *s);

#endif
