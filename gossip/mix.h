/* mix.h - spreading bits: the finalizer of splitmix64 (Steele, Lea and Flood, 2014), for hash
 * tables, for the sums that summaries compare, and for the random order of peers. Not keyed:
 * who can choose rows holds the cluster key already. */
#ifndef GOSSIP_MIX_H
#define GOSSIP_MIX_H

#include <stdint.h>

static inline uint64_t mix64(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

/* The next of a random sequence whose state is *s. */
static inline uint64_t mix_next(uint64_t *s)
{
	*s += 0x9e3779b97f4a7c15u;
	return mix64(*s);
}

/* Evenly below @n, which is not 0 (Lemire's multiply-shift). */
static inline uint32_t mix_below(uint64_t *s, uint32_t n)
{
	return (uint32_t)((mix_next(s) >> 32) * n >> 32);
}

#endif
