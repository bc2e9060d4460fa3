/* lb.h - which instance of a service the client gets, and which is next if it is refused.
 *
 * Pure: counts, a sequence number and randomness are passed in. On one host local-first is
 * round-robin. source-hash is rendezvous hashing (Thaler and Ravishankar, 1998): the choice for
 * one source moves only if its own instance comes or goes. least-connections is the power of
 * two choices (Mitzenmacher, 2001). */
#ifndef TRAPHANDLER_LB_H
#define TRAPHANDLER_LB_H

#include <stddef.h>
#include <stdint.h>

enum lb_policy { LB_LOCAL_FIRST, LB_ROUND_ROBIN, LB_RANDOM, LB_LEAST_CONN, LB_SOURCE_HASH };

struct lb_instance {
	uint64_t id;	      /* stable name of the instance */
	uint32_t connections; /* open ones */
};

struct lb_input {
	uint64_t seq;	 /* advances by one with every choice for the service */
	uint64_t random; /* fresh */
	uint64_t source; /* hash of the client's address */
};

/* "local-first", … ; 0 or -EINVAL */
int lb_policy_parse(const char *s, enum lb_policy *ret);
const char *lb_policy_name(enum lb_policy policy);

/* Writes the indexes 0..n-1 into @order, best first. @n >= 1. */
void lb_order(enum lb_policy policy, const struct lb_instance *inst, size_t n,
	      const struct lb_input *in, uint16_t *order);

#endif
