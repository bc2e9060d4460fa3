/* lb.h - which instance of a service the client gets, and which is next if it is refused.
 *
 * Pure: counts, a sequence number and randomness are passed in. Every policy gives an order of
 * all instances; those that are passed over (they refused lately) are last under each, in the
 * order that the policy has for them.
 *   local-first       those of the own node in turn, then the others in turn
 *   round-robin       all in turn
 *   random            any
 *   least-connections the lesser of two random ones (Mitzenmacher, 2001)
 *   source-hash       one source keeps its instance, on whatever node it is asked (maglev.h)
 *   weighted          random by weight; weight 0: only if there is nobody else
 *   zone-first        those of the own zone or node in turn, then the others in turn */
#ifndef TRAPHANDLER_LB_H
#define TRAPHANDLER_LB_H

#include "traphandler/service/maglev.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LB_INSTANCES_MAX MAGLEV_IDS

/* The values are told to other nodes: new ones go to the end. */
enum lb_policy {
	LB_LOCAL_FIRST,
	LB_ROUND_ROBIN,
	LB_RANDOM,
	LB_LEAST_CONN,
	LB_SOURCE_HASH,
	LB_WEIGHTED,
	LB_ZONE_FIRST,
	LB_POLICIES /* how many there are */
};

struct lb_instance {
	uint64_t id;	      /* stable name of the instance */
	uint32_t connections; /* open ones */
	uint16_t weight;
	bool local;	  /* of the own node */
	bool same_zone;	  /* of the own zone; one of the own node is, too */
	bool passed_over; /* it refused lately (passed_over.h) */
};

struct lb_input {
	uint64_t seq;	 /* advances by one with every choice for the service */
	uint64_t random; /* fresh */
	uint64_t source; /* hash of the client's address */
	/* For source-hash; borrowed. Where it is NULL or out of memory the choice is by rendezvous
	 * hashing (Thaler and Ravishankar, 1998): as steady, but other nodes choose otherwise. */
	struct maglev_cache *maglev;
};

/* "local-first", … ; 0 or -EINVAL */
int lb_policy_parse(const char *s, enum lb_policy *ret);
const char *lb_policy_name(enum lb_policy policy);

/* Writes the indexes 0..n-1 into @order, best first. @n is 1 to LB_INSTANCES_MAX. */
void lb_order(enum lb_policy policy, const struct lb_instance *inst, size_t n,
	      const struct lb_input *in, uint16_t *order);

#endif
