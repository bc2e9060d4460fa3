/* members.h - who is in the cluster, as far as this node knows. Data only: no timers, no sends.
 *
 * Members live at fixed indexes; index 0 is this node itself. Every other member is in exactly
 * one of two lists: live (alive or suspect), which is the random order in which peers are
 * probed and picked, or gone (dead or left). Owns its memory.
 *
 * A member's statement is ordered by (version, state): a higher version, which only the member
 * itself makes, beats anything said before; at one version ALIVE < SUSPECT < DEAD < LEFT.
 * (SWIM: Das, Gupta, Motivala 2002, 4.2; the generation in the version's upper half is what
 * makes a restarted node win over its own death.) */
#ifndef GOSSIP_MEMBERS_H
#define GOSSIP_MEMBERS_H

#include "gossip/gossip.h"
#include "gossip/wire.h"

#define NONE UINT32_MAX

struct member {
	uint64_t id, version, floor; /* id 0: free slot */
	struct as_addr ip;
	uint32_t aux;	/* suspect: its suspicion; gone: the second it went */
	uint32_t owner; /* in the service table, NONE: never had a row */
	uint32_t pos;	/* in its list */
	uint32_t news;	/* in the news queue, NONE: not there */
	uint16_t port;
	uint16_t rtt; /* smoothed, in units of RTT_UNIT_US; 0: not measured */
	uint8_t state;
	uint8_t wanted; /* its rows are to be fetched in the transfer under way */
};

#define RTT_UNIT_US 50u

struct members {
	struct member *m;
	uint32_t n, cap, n_free;
	uint32_t *index; /* open addressing over ids, holds index + 1 */
	uint32_t cap_index;
	uint32_t *live, n_live, cap_live;
	uint32_t *gone, n_gone, cap_gone;
	uint32_t hash[WIRE_BUCKETS], root; /* sums over live members and this node */
};

/* @expect: how many to make room for at once. 0 or -ENOMEM. */
int members_init(struct members *ms, uint32_t expect);
void members_done(struct members *ms);

uint32_t members_find(const struct members *ms, uint64_t id); /* or NONE */
/* A new member as @w says, at a random place of its list. Its index, or NONE (no memory). */
uint32_t members_add(struct members *ms, const struct wire_member *w, uint64_t *rng);
/* Takes over version, floor, address and state; moves it between the lists, to a random place
 * among the live. */
void members_set(struct members *ms, uint32_t i, const struct wire_member *w, uint64_t *rng);
void members_remove(struct members *ms, uint32_t i);
/* As it goes on the wire, said by @from. */
struct wire_member members_wire(const struct members *ms, uint32_t i, uint64_t from);

static inline bool members_is_live(uint8_t state)
{
	return state <= GOSSIP_SUSPECT;
}

static inline unsigned bucket_of(uint64_t id)
{
	return (unsigned)(id * 0x9e3779b97f4a7c15u >> 56);
}

#endif
