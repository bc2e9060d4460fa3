/* gossip_uv.h - drives a gossip core: datagrams, streams, clock and timer, over libuv.
 *
 * The loop thread runs it: it takes packets in, ticks the core, and carries frames. Any thread
 * may look into the core, or change it, between gossip_uv_lock() and gossip_uv_unlock(); what
 * the core then wants to send as a datagram is sent there and then, a frame is handed to the
 * loop. Everything else below is called on the loop thread, or before the loop runs.
 *
 * Datagrams and streams share one port number, so a frame for a member goes to a TCP connection
 * to the address that the member gives for itself. Such a connection carries frames one way:
 * four bytes GOSSIP_STREAM_MAGIC, then for each frame its length (four bytes, big-endian, 1 up
 * to GOSSIP_FRAME_MAX) and its bytes. The answer comes on a connection of the other side's. The
 * caller owns the listener, reads the first four bytes of what it accepts, and gives those
 * connections to gossip_uv_adopt(). Connections are opened on the loop thread, in whatever
 * network namespace that is.
 *
 * A frame or datagram that cannot be sent is dropped and counted: the core asks again.
 * An ICMP error for a member's address makes the core ask that member at once. The process has
 * to ignore SIGPIPE: libuv writes to connections without MSG_NOSIGNAL.
 *
 * Functions return 0 or -errno. Never logs. */
#ifndef GOSSIP_GOSSIP_UV_H
#define GOSSIP_GOSSIP_UV_H

#include "gossip/gossip.h"

#include <uv.h>

#define GOSSIP_STREAM_MAGIC "ASG1"

struct gossip_uv; /* opaque; freed by gossip_uv_close() */

struct gossip_uv_config {
	uv_loop_t *loop; /* the caller's */
	/* A bound UDP socket, AF_INET or AF_INET6, non-blocking. Borrowed: it stays open and is
	 * the caller's after gossip_uv_close(). Its error queue is switched on. */
	int udp_fd;
	/* Copied. @sink's member, row and generation are the caller's and run with the lock
	 * held, on whatever thread is in the core; send is not looked at. */
	const struct gossip_config *core;
	/* For a node without a secret key: nothing is sent to an address that is not loopback,
	 * and what comes from one is dropped. */
	bool loopback_only;
	/* A packet was dropped, and why: what gossip_input() said. Runs on the loop thread,
	 * without the lock, with core->sink.ctx. May be NULL. */
	void (*rejected)(void *ctx, const struct as_endpoint *from, int error);
};

/* 0, -EINVAL, -ENOMEM, or what the socket or libuv said. The loop has to run before memory
 * of a failed call is all free. */
int gossip_uv_new(const struct gossip_uv_config *c, struct gossip_uv **ret);
/* Nobody may use @g from here on, but for callbacks under way. @done (may be NULL) is called
 * on the loop thread when all handles are closed and @g is freed. To leave first, call
 * gossip_leave() under the lock: its packets are out when it returns. */
void gossip_uv_close(struct gossip_uv *g, void (*done)(void *arg), void *arg);

/* The core, for a look or a change, under the mutex that the loop thread takes too: short, no
 * waiting call inside, never from a sink callback. Take the time after the lock. */
struct gossip *gossip_uv_lock(struct gossip_uv *g);
/* Wakes the loop if it has to do something earlier than it knew. */
void gossip_uv_unlock(struct gossip_uv *g);
/* The core's clock: CLOCK_MONOTONIC, microseconds. Any thread. */
uint64_t gossip_uv_now(void);

/* A TCP connection whose first four bytes were GOSSIP_STREAM_MAGIC, already read. Takes @fd,
 * also when there are too many of them: then it is closed at once. No handle of the caller's
 * may watch it any more (uv_close() its uv_poll_t first). */
void gossip_uv_adopt(struct gossip_uv *g, int fd);

/* Counts since the start. Any thread. */
struct gossip_uv_stats {
	uint64_t sent, received;	/* datagrams */
	uint64_t unsent;		/* dropped: the socket refused it, or not loopback */
	uint64_t rejected;		/* dropped on arrival, datagrams and frames */
	uint64_t hints;			/* members asked because of an ICMP error */
	uint64_t frames_out, frames_in; /* taken by TCP; given to the core */
	uint64_t frames_dropped;	/* no connection, or too much waits for one */
	uint64_t connects, adopted;	/* connections begun and taken over */
	uint64_t refused;		/* adopt: too many, or not loopback */
	uint32_t outgoing, incoming;	/* connections now */
};
void gossip_uv_stats(struct gossip_uv *g, struct gossip_uv_stats *ret);

#endif
