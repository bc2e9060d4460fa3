/* seen.h - the nonces of accepted hellos, so that none is accepted twice.
 *
 * The nonces are in a ring in memory that the caller gives and that outlives the daemon; an
 * index over it is ours and made anew by seen_new(). An entry is there from the store of its
 * nonce on, which is the last of it: the daemon may be killed at any point.
 *
 * A hello is accepted while its time is within one window of ours (hello.h), so its nonce must be
 * known for two. That is the least: a nonce is known for as long as its slot is not needed for
 * another, and a known one is refused whatever its age. So wall clocks that go back do no
 * harm until the ring has gone round; after that a hello of before could be accepted again.
 *
 * Time is in seconds of a clock that nobody sets and that goes on from one daemon to the next
 * (CLOCK_BOOTTIME). One thread at a time. 0 or -errno. */
#ifndef REMOTE_SEEN_H
#define REMOTE_SEEN_H

#include "traphandler/remote/hello.h"

/* Two windows, and one more as seconds are cut off. */
#define SEEN_KEEP_S (2 * HELLO_WINDOW_US / 1000000 + 1)
#define SEEN_MAX    (1u << 24)

struct seen_entry {
	uint64_t nonce;	    /* 0: empty */
	uint32_t expires_s; /* from then on the slot may be used for another */
	uint32_t pad;
};

struct seen_stats {
	uint64_t added, replays, full;
};

struct seen;

/* @ring is borrowed: @n entries, zero when new or as a former daemon left them. 0, -EINVAL
 * (@n is 0 or above SEEN_MAX), -ENOMEM. */
int seen_new(struct seen_entry *ring, uint32_t n, struct seen **ret);
struct seen *seen_free(struct seen *s); /* accepts and returns NULL; the ring stays */

/* 0: new, and known from now on. -EALREADY: a replay. -ENOSPC: every slot holds a nonce that
 * must still be known: the hello must be refused. -EINVAL: 0 is no nonce. */
int seen_add(struct seen *s, uint64_t nonce, uint32_t now_s);
struct seen_stats seen_stats(const struct seen *s);

#endif
