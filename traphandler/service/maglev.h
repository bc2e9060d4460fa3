/* maglev.h - consistent hashing of sources to instances (Eisenbud et al., NSDI 2016, section 3.4).
 *
 * A table of MAGLEV_SIZE places is filled by the instances in turn, each by an order of its
 * own over the places. Shares differ by at most one place (with 1024 instances: 1.6 %), and
 * when an instance comes or goes few of the other places change hands. The table depends on
 * the set of ids alone, so all nodes choose alike.
 *
 * One size for all sets: with a smaller table for small sets, the one instance that takes a
 * set over the border would move almost every source.
 *
 * Building takes milliseconds, so tables are cached by set. The cache owns them; the caller locks. */
#ifndef SERVICE_MAGLEV_H
#define SERVICE_MAGLEV_H

#include <stddef.h>
#include <stdint.h>

#define MAGLEV_SIZE   65537u /* a prime */
#define MAGLEV_IDS    1024   /* at most in a set */
#define MAGLEV_TABLES 64     /* in a cache; the one that was used longest ago gives way */

struct maglev;
struct maglev_cache;

struct maglev_cache *maglev_cache_new(void);			/* NULL only on OOM */
struct maglev_cache *maglev_cache_free(struct maglev_cache *c); /* accepts NULL, returns NULL */

/* The table of the set of @ids, in any order and each as often as it likes, 1 to MAGLEV_IDS of
 * them. Borrowed until the next call. NULL only on OOM. */
const struct maglev *maglev_get(struct maglev_cache *c, const uint64_t *ids, size_t n);

/* Which id has @place, below MAGLEV_SIZE. */
uint64_t maglev_at(const struct maglev *t, uint32_t place);

/* Writes the indexes 0..n-1 of @ids, with which @t was got, into @order, best first: the owner of
 * the source's place and then those of the places behind it, as they come. Of equal ids the first
 * has the place, the others are last. */
void maglev_order(const struct maglev *t, const uint64_t *ids, size_t n, uint64_t source,
		  uint16_t *order);

#endif
