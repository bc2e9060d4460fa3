/* Instances are put into groups (whom to prefer), and the policy orders each group. */
#include "traphandler/service/lb.h"

#include <errno.h>
#include <string.h>

/* So many of the order are drawn by weight; who comes that far down takes the rest as it is. */
#define WEIGHTED_DRAWS 8

static const char *const names[] = {
	[LB_LOCAL_FIRST] = "local-first", [LB_ROUND_ROBIN] = "round-robin",
	[LB_RANDOM] = "random",		  [LB_LEAST_CONN] = "least-connections",
	[LB_SOURCE_HASH] = "source-hash", [LB_WEIGHTED] = "weighted",
	[LB_ZONE_FIRST] = "zone-first",
};

int lb_policy_parse(const char *s, enum lb_policy *ret)
{
	for (int i = 0; i < LB_POLICIES; i++) {
		if (strcmp(s, names[i]) == 0) {
			*ret = (enum lb_policy)i;
			return 0;
		}
	}
	return -EINVAL;
}

const char *lb_policy_name(enum lb_policy policy)
{
	return names[policy];
}

/* splitmix64's finalizer (Steele, Lea and Flood, 2014) */
static uint64_t scramble(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

/* The next of a random sequence whose state is *s, evenly below @n (Lemire's multiply-shift). */
static uint32_t below(uint64_t *s, uint32_t n)
{
	*s += 0x9e3779b97f4a7c15u;
	return (uint32_t)((scramble(*s) >> 32) * n >> 32);
}

static void swap(uint16_t *order, size_t i, size_t j)
{
	uint16_t t = order[i];

	order[i] = order[j];
	order[j] = t;
}

/* Smaller is better. */
static unsigned group_of(enum lb_policy policy, const struct lb_instance *i)
{
	bool second = (policy == LB_LOCAL_FIRST && !i->local) ||
		      (policy == LB_ZONE_FIRST && !i->local && !i->same_zone) ||
		      (policy == LB_WEIGHTED && i->weight == 0);

	return 2 * i->passed_over + second;
}

static void rotate(uint16_t *order, size_t k, uint64_t by)
{
	uint16_t copy[LB_INSTANCES_MAX];
	size_t at = by % k;

	memcpy(copy, order, k * sizeof(*order));
	for (size_t i = 0; i < k; i++, at = at + 1 == k ? 0 : at + 1)
		order[i] = copy[at];
}

/* Fisher and Yates (Knuth, TAOCP 3.4.2, algorithm P). */
static void shuffle(uint16_t *order, size_t k, uint64_t *random)
{
	for (size_t i = 0; i + 1 < k; i++)
		swap(order, i, i + below(random, (uint32_t)(k - i)));
}

/* Draws without putting back, each with the probability of its share of what is left. */
static void draw_by_weight(const struct lb_instance *inst, uint16_t *order, size_t k,
			   uint64_t *random)
{
	uint32_t total = 0; /* 1024 times 2^16 fits */

	for (size_t i = 0; i < k; i++)
		total += inst[order[i]].weight;
	for (size_t i = 0; i < k && i < WEIGHTED_DRAWS && total > 0; i++) {
		uint32_t at = below(random, total);
		size_t j = i;

		while (at >= inst[order[j]].weight)
			at -= inst[order[j++]].weight;
		swap(order, i, j);
		total -= inst[order[i]].weight;
	}
}

static void arrange(enum lb_policy policy, const struct lb_instance *inst, uint16_t *order,
		    size_t k, const struct lb_input *in, uint64_t *random)
{
	switch (policy) {
	case LB_LOCAL_FIRST:
	case LB_ZONE_FIRST:
	case LB_ROUND_ROBIN:
		rotate(order, k, in->seq);
		break;
	case LB_RANDOM:
		shuffle(order, k, random);
		break;
	case LB_LEAST_CONN:
		shuffle(order, k, random);
		if (k > 1 && inst[order[1]].connections < inst[order[0]].connections)
			swap(order, 0, 1);
		break;
	case LB_WEIGHTED:
		shuffle(order, k,
			random); /* for those behind the last draw, and for weight 0 */
		draw_by_weight(inst, order, k, random);
		break;
	case LB_SOURCE_HASH:
	case LB_POLICIES:
		break; /* all of them at once, below */
	}
}

/* Highest score first. Insertion sort: few instances, and ties keep their order. */
static void rendezvous(const struct lb_instance *inst, size_t n, uint64_t source,
		       uint16_t *order)
{
	uint64_t scores[LB_INSTANCES_MAX];

	for (size_t i = 0; i < n; i++) {
		uint64_t score = scramble(source ^ scramble(inst[i].id));
		size_t j = i;

		for (; j > 0 && scores[j - 1] < score; j--) {
			scores[j] = scores[j - 1];
			order[j] = order[j - 1];
		}
		scores[j] = score;
		order[j] = (uint16_t)i;
	}
}

/* Over all, also those that are passed over: else one that fails for a moment moves the sources of
 * others, and a table is built for each such set. */
static void by_source(const struct lb_instance *inst, size_t n, const struct lb_input *in,
		      uint16_t *order)
{
	uint64_t ids[LB_INSTANCES_MAX];
	const struct maglev *t = NULL;

	for (size_t i = 0; i < n; i++)
		ids[i] = inst[i].id;
	if (in->maglev != NULL)
		t = maglev_get(in->maglev, ids, n);
	if (t != NULL)
		maglev_order(t, ids, n, in->source, order);
	else
		rendezvous(inst, n, in->source, order);
}

void lb_order(enum lb_policy policy, const struct lb_instance *inst, size_t n,
	      const struct lb_input *in, uint16_t *order)
{
	uint16_t all[LB_INSTANCES_MAX];
	uint64_t random = in->random;
	size_t done = 0;

	if (n == 0)
		return;
	if (policy == LB_SOURCE_HASH) {
		by_source(inst, n, in, all);
	} else {
		for (size_t i = 0; i < n; i++)
			all[i] = (uint16_t)i;
	}
	for (unsigned group = 0; done < n; group++) {
		size_t begin = done;

		for (size_t i = 0; i < n; i++) {
			if (group_of(policy, &inst[all[i]]) == group)
				order[done++] = all[i];
		}
		if (done > begin)
			arrange(policy, inst, order + begin, done - begin, in, &random);
	}
}
