#include "traphandler/service/lb.h"

#include <errno.h>
#include <string.h>

static const char *const names[] = {
	[LB_LOCAL_FIRST] = "local-first", [LB_ROUND_ROBIN] = "round-robin",
	[LB_RANDOM] = "random",		  [LB_LEAST_CONN] = "least-connections",
	[LB_SOURCE_HASH] = "source-hash",
};

int lb_policy_parse(const char *s, enum lb_policy *ret)
{
	for (int i = LB_LOCAL_FIRST; i <= LB_SOURCE_HASH; i++) {
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

static void swap_first(uint16_t *order, size_t i)
{
	uint16_t t = order[0];

	order[0] = order[i];
	order[i] = t;
}

void lb_order(enum lb_policy policy, const struct lb_instance *inst, size_t n,
	      const struct lb_input *in, uint16_t *order)
{
	size_t a, b;

	if (n == 0)
		return;
	for (size_t i = 0; i < n; i++)
		order[i] = (uint16_t)i;
	switch (policy) {
	case LB_LOCAL_FIRST:
	case LB_ROUND_ROBIN:
		for (size_t i = 0; i < n; i++)
			order[i] = (uint16_t)((in->seq + i) % n);
		break;
	case LB_RANDOM:
		swap_first(order, in->random % n);
		break;
	case LB_LEAST_CONN:
		if (n == 1)
			break;
		a = (in->random & 0xffffffffu) % n;
		b = (a + 1 + (in->random >> 32) % (n - 1)) % n;
		swap_first(order, inst[b].connections < inst[a].connections ? b : a);
		break;
	case LB_SOURCE_HASH:
		/* highest score first; insertion sort: few instances, and ties keep their order */
		for (size_t i = 1; i < n; i++) {
			uint16_t x = order[i];
			uint64_t score = scramble(in->source ^ scramble(inst[x].id));
			size_t j = i;

			while (j > 0 &&
			       scramble(in->source ^ scramble(inst[order[j - 1]].id)) < score) {
				order[j] = order[j - 1];
				j--;
			}
			order[j] = x;
		}
		break;
	}
}
