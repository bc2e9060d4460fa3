/* The index is an open-addressing table of slot numbers with linear probing, at most half full;
 * removal moves the followers up (Knuth, TAOCP 6.4, algorithm R), so there are no tombstones. */
#include "traphandler/remote/seen.h"

#include <errno.h>
#include <stdlib.h>

struct seen {
	struct seen_entry *ring;
	uint32_t n;
	uint32_t head;	 /* the oldest entry, or the first empty one: the next to be written */
	uint32_t mask;	 /* of the index */
	uint32_t *index; /* slot + 1; 0: empty */
	struct seen_stats stats;
};

/* splitmix64's finalizer (Steele, Lea and Flood, 2014): senders choose their nonces */
static uint32_t home(const struct seen *s, uint64_t nonce)
{
	nonce = (nonce ^ (nonce >> 30)) * 0xbf58476d1ce4e5b9u;
	nonce = (nonce ^ (nonce >> 27)) * 0x94d049bb133111ebu;
	return (uint32_t)(nonce ^ nonce >> 31) & s->mask;
}

/* Where @nonce is in the index, or the empty place where it would be. */
static uint32_t place(const struct seen *s, uint64_t nonce)
{
	uint32_t i = home(s, nonce);

	while (s->index[i] != 0 && s->ring[s->index[i] - 1].nonce != nonce)
		i = (i + 1) & s->mask;
	return i;
}

static void index_remove(struct seen *s, uint64_t nonce)
{
	uint32_t hole = place(s, nonce), i = hole;

	for (;;) {
		uint32_t want;

		i = (i + 1) & s->mask;
		if (s->index[i] == 0)
			break;
		want = home(s, s->ring[s->index[i] - 1].nonce);
		/* it may go up only if that does not take it past its home */
		if (((i - want) & s->mask) >= ((i - hole) & s->mask)) {
			s->index[hole] = s->index[i];
			hole = i;
		}
	}
	s->index[hole] = 0;
}

int seen_new(struct seen_entry *ring, uint32_t n, struct seen **ret)
{
	struct seen *s;
	uint32_t cap = 2;

	if (n == 0 || n > SEEN_MAX)
		return -EINVAL;
	while (cap < 2 * n)
		cap *= 2;
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return -ENOMEM;
	s->index = calloc(cap, sizeof(*s->index));
	if (s->index == NULL) {
		free(s);
		return -ENOMEM;
	}
	s->ring = ring;
	s->n = n;
	s->mask = cap - 1;
	for (uint32_t i = 0; i < n; i++) {
		if (ring[i].nonce != 0)
			s->index[place(s, ring[i].nonce)] = i + 1;
	}
	/* Written in turn: behind the newest is an empty slot, in a ring that has not gone round
	 * or where the last write was cut off; else the oldest, where expiry steps back. */
	for (uint32_t i = 0; i < n; i++) {
		if (ring[i].nonce == 0) {
			s->head = i;
			break;
		}
		if (i > 0 && ring[i].expires_s < ring[i - 1].expires_s)
			s->head = i;
	}
	*ret = s;
	return 0;
}

struct seen *seen_free(struct seen *s)
{
	if (s != NULL)
		free(s->index);
	free(s);
	return NULL;
}

/* More than is ever kept is not ours, and must not keep the slot for long. */
static bool must_stay(const struct seen_entry *e, uint32_t now_s)
{
	return e->nonce != 0 && e->expires_s > now_s && e->expires_s - now_s <= SEEN_KEEP_S;
}

int seen_add(struct seen *s, uint64_t nonce, uint32_t now_s)
{
	struct seen_entry *e = &s->ring[s->head];

	if (nonce == 0)
		return -EINVAL;
	if (s->index[place(s, nonce)] != 0) {
		s->stats.replays++;
		return -EALREADY;
	}
	if (must_stay(e, now_s)) {
		s->stats.full++;
		return -ENOSPC;
	}
	/* two slots with one nonce are not made by us, but may be found: the index has the last */
	if (e->nonce != 0 && s->index[place(s, e->nonce)] == s->head + 1)
		index_remove(s, e->nonce);
	__atomic_store_n(&e->nonce, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&e->expires_s, now_s + SEEN_KEEP_S, __ATOMIC_RELEASE);
	__atomic_store_n(&e->nonce, nonce, __ATOMIC_RELEASE);
	s->index[place(s, nonce)] = s->head + 1;
	s->head = s->head + 1 == s->n ? 0 : s->head + 1;
	s->stats.added++;
	return 0;
}

struct seen_stats seen_stats(const struct seen *s)
{
	return s->stats;
}
