/* gossip.h - membership of a cluster and its replicated service table, as one pure machine.
 *
 * Packets, time and changes of the own rows go in; packets, changes of members and changes of
 * rows come out through the sink. The core knows no socket, clock, thread or file, and needs
 * libc only. What the protocol is and why: docs/gossip.md.
 *
 * Driving it: call gossip_input() for every datagram and every frame that arrives,
 * gossip_tick() at gossip_deadline() (earlier does nothing), and the rest when there is
 * something to say. Each takes the monotonic time in microseconds; it must not run backwards.
 * A tick that comes late is taken as a sign that this host was held up and nobody else.
 *
 * One thread at a time. The sink is called from inside these functions and must not call back.
 * What it is given is borrowed until it returns. 0 or -errno; never logs. */
#ifndef GOSSIP_GOSSIP_H
#define GOSSIP_GOSSIP_H

#include "gossip/aead.h"

#include <appswitch/addr.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gossip; /* opaque; the caller's until gossip_free() */

enum gossip_state { GOSSIP_ALIVE, GOSSIP_SUSPECT, GOSSIP_DEAD, GOSSIP_LEFT };

/* How a packet has to travel. Datagrams are at most 1232 bytes. A stream is any reliable
 * ordered connection to the node: the driver opens one (or has one), sends the frame behind a
 * four-byte length, and may give up silently; the core asks again. Frames are at most
 * GOSSIP_FRAME_MAX; one of 16 KiB is in flight per transfer, the next is asked for when it
 * has been taken in, which is all the flow control there is. */
enum gossip_via { GOSSIP_DATAGRAM, GOSSIP_STREAM };

#define GOSSIP_DATAGRAM_MAX 1232u
#define GOSSIP_ROW_DATA_MAX (1u << 20)
#define GOSSIP_FRAME_MAX    (GOSSIP_ROW_DATA_MAX + 512u)

struct gossip_member {
	uint64_t id;
	uint32_t generation, incarnation;
	enum gossip_state state;
	struct as_endpoint addr;
	uint32_t rtt_us; /* 0: not measured */
};

/* A row of the service table. Its key is (owner, network, vip, proto, port, app); the owner is
 * the only one who writes it. Everything below the key is the caller's meaning, except that
 * claims (gossip_claim()) are decided by @since. */
struct gossip_row {
	uint64_t owner;	  /* ignored by put and delete: always this node */
	uint64_t version; /* ignored likewise */
	uint32_t network;
	struct as_addr vip;
	uint16_t port;
	uint8_t proto;
	uint32_t app;
	uint8_t state; /* serving, draining, … */
	uint16_t weight;
	uint32_t since; /* wall clock, seconds */
	uint32_t connections;
	uint64_t tags;	  /* digest */
	const void *data; /* a name, tags in full, …; up to GOSSIP_ROW_DATA_MAX */
	uint32_t data_len;
};

struct gossip_sink {
	void *ctx;
	/* @to is 0 when only the address is known (a seed). */
	void (*send)(void *ctx, uint64_t to, const struct as_endpoint *addr,
		     enum gossip_via via, const void *data, size_t len);
	/* A member is new or changed state or address. Rows of a dead one stop being found in
	 * the same moment and are found again when it is back; no row() is called for that. */
	void (*member)(void *ctx, const struct gossip_member *m);
	/* A row of another node came, changed (@live) or went. */
	void (*row)(void *ctx, const struct gossip_row *row, bool live);
	/* This node had to take a new generation: another process had said more under its id
	 * (lost or copied state). Store it, as at the start. */
	void (*generation)(void *ctx, uint32_t generation);
};

struct gossip_config {
	uint64_t id;		 /* random, not 0, kept on disk */
	uint32_t generation;	 /* higher at each start: max(wall clock, stored + 1) */
	uint64_t session;	 /* 64 fresh random bits at each start, not kept */
	uint64_t seed;		 /* any random number; decides order, protects nothing */
	struct as_endpoint addr; /* where others reach this node */
	struct gossip_aead aead;
	struct gossip_sink sink;
	uint32_t expect; /* members to make room for; 0: grows as needed */
	bool plain_swim; /* for comparison: no local health, fixed suspicion, no buddies */
};

/* 0, -EINVAL, -ENOMEM. */
int gossip_new(const struct gossip_config *c, uint64_t now, struct gossip **ret);
struct gossip *gossip_free(struct gossip *g); /* accepts NULL, returns NULL */

/* @from: the address it came from, where a probe is answered. Of a stream it says nothing; the
 * sender's own address counts there.
 * 0, or why the packet was dropped: -EBADMSG (malformed or not authentic), -EPROTO (a version
 * we cannot read), -ENOKEY (a key we have not), -EALREADY (seen before), -ELOOP (our own),
 * -EADDRINUSE (another process uses our id), -ENOMEM. */
int gossip_input(struct gossip *g, uint64_t now, const struct as_endpoint *from,
		 enum gossip_via via, const void *data, size_t len);
void gossip_tick(struct gossip *g, uint64_t now);
/* UINT64_MAX: never again. */
uint64_t gossip_deadline(const struct gossip *g);

/* Where to look for the cluster: from the command line, from a file of peers. Tried at once
 * when nobody is known and at a low rate for ever. Copies; at most GOSSIP_SEEDS, the first
 * ones stay. 0, -ENOSPC. */
#define GOSSIP_SEEDS 256
int gossip_seed(struct gossip *g, uint64_t now, const struct as_endpoint *addr);
/* The caller has reason to think that @id is down (a refused connection, ICMP): probe it now
 * instead of when its turn comes. Says nothing about the verdict. */
void gossip_hint_down(struct gossip *g, uint64_t now, uint64_t id);
/* Another address for this node from now on. */
void gossip_set_addr(struct gossip *g, uint64_t now, const struct as_endpoint *addr);
/* Tells some peers at once; then gossip_free() whenever the packets are out. */
void gossip_leave(struct gossip *g, uint64_t now);

/* Own rows. put makes or replaces the row of that key; both are pushed at once.
 * 0, -EMSGSIZE, -ENOMEM; delete: 0, -ENOENT. */
int gossip_put(struct gossip *g, uint64_t now, const struct gossip_row *row);
int gossip_del(struct gossip *g, uint64_t now, const struct gossip_row *key);
/* All rows that this start has to put are put: whatever is left of a former generation is gone
 * everywhere. Until then the old rows stay visible, so a restart withdraws nothing. */
void gossip_settled(struct gossip *g, uint64_t now);

/* Live rows by (network, vip, proto, port): *it starts as 0, false at the end. Rows of gone
 * members are passed over. @ret is borrowed until the next call that takes a time. */
bool gossip_lookup(const struct gossip *g, const struct gossip_row *key, uint32_t *it,
		   struct gossip_row *ret);
/* Is there a row of that service, be its owner gone or not? Those of who left are not. */
bool gossip_has(const struct gossip *g, const struct gossip_row *key);
/* Of several rows that claim the same thing (same network, vip, proto, port): the one that
 * counts, the same on every node: the earliest since, then the lowest owner, then app.
 * -ENOENT: nobody. */
int gossip_claim(const struct gossip *g, const struct gossip_row *key, struct gossip_row *ret);
/* All live rows, in no order; as lookup. */
bool gossip_rows(const struct gossip *g, uint32_t *it, struct gossip_row *ret);
/* All members, this node first; as lookup. */
bool gossip_members(const struct gossip *g, uint32_t *it, struct gossip_member *ret);

/* The member @id, which may be this node. 0, -ENOENT. */
int gossip_member_of(const struct gossip *g, uint64_t id, struct gossip_member *ret);

struct gossip_stats {
	uint32_t live, gone;		  /* members without this node */
	uint32_t rows, buried;		  /* live rows; kept deletions */
	uint32_t suspects, local_health;  /* 0: healthy … 8 */
	uint32_t root_members, root_rows; /* equal on two nodes: they agree */
	uint64_t syncs, dropped;
	bool agreed; /* had equal tables with another node once since the start */
};
struct gossip_stats gossip_stats(const struct gossip *g);

#endif
