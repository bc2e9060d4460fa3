/* From accusation to verdict: SWIM's suspicion with Lifeguard's timeout (Dadgar, Phillips,
 * Currey 2017, LHA-Suspicion): the more independent nodes accuse, the sooner it is believed. */
#include "gossip/core.h"

/* 1 - log(accusers beyond the first + 1) / log(K + 1), in 1/1024, for K confirmers. */
static const uint16_t remaining[CONFIRMERS + 1][CONFIRMERS + 1] = {
	{ 0, 0, 0, 0 }, { 1024, 0, 0, 0 }, { 1024, 378, 0, 0 }, { 1024, 512, 213, 0 }
};

static uint64_t deadline(const struct gossip *g, const struct suspicion *s)
{
	uint32_t able = g->members.n_live > g->n_suspect ? g->members.n_live - g->n_suspect : 0;
	uint32_t k = able < CONFIRMERS ? able : CONFIRMERS;
	uint32_t n = s->n - 1u < k ? s->n - 1u : k;
	uint64_t min = SUSPECT_MIN, max = SUSPECT_BETA * (uint64_t)SUSPECT_MIN;

	if (g->plain)
		return s->start + min;
	return s->start + min + (max - min) * remaining[k][n] / 1024;
}

static void earlier(struct gossip *g, uint64_t t)
{
	if (t < g->suspect_next)
		g->suspect_next = t;
}

uint64_t suspect_accuser(const struct gossip *g, uint32_t i)
{
	const struct suspicion *s;

	if (g->members.m[i].state != GOSSIP_SUSPECT)
		return 0;
	s = &g->suspect[g->members.m[i].aux];
	return s->from[s->n - 1];
}

static void confirm(struct gossip *g, struct suspicion *s, uint64_t from)
{
	if (s->n > CONFIRMERS)
		return;
	for (unsigned i = 0; i < s->n; i++) {
		if (s->from[i] == from)
			return;
	}
	s->from[s->n++] = from;
	news_member(g, s->member);
	earlier(g, deadline(g, s));
}

void suspect_accuse(struct gossip *g, uint32_t i, uint64_t from)
{
	struct member *m = &g->members.m[i];
	struct wire_member w = members_wire(&g->members, i, from);
	struct suspicion *s;

	if (m->state == GOSSIP_SUSPECT) {
		confirm(g, &g->suspect[m->aux], from);
		return;
	}
	if (m->state != GOSSIP_ALIVE || i == 0)
		return;
	if (g->n_suspect == g->cap_suspect) {
		uint32_t cap = g->cap_suspect ? g->cap_suspect * 2 : 8;

		s = realloc(g->suspect, cap * sizeof(*s));
		if (s == NULL)
			return; /* somebody else's verdict will do */
		g->suspect = s;
		g->cap_suspect = cap;
	}
	w.state = GOSSIP_SUSPECT;
	g->suspect[g->n_suspect] =
		(struct suspicion){ .member = i, .n = 1, .from = { from }, .start = g->now };
	m->aux = g->n_suspect++;
	core_set(g, i, &w, true);
	earlier(g, deadline(g, &g->suspect[m->aux]));
}

void suspect_clear(struct gossip *g, uint32_t i)
{
	struct member *m = &g->members.m[i];
	uint32_t at = m->aux;

	if (m->state != GOSSIP_SUSPECT)
		return;
	g->suspect[at] = g->suspect[--g->n_suspect];
	g->members.m[g->suspect[at].member].aux = at;
	m->aux = 0;
}

void suspect_tick(struct gossip *g)
{
	uint64_t next = UINT64_MAX;

	if (g->now < g->suspect_next)
		return;
	for (uint32_t i = 0; i < g->n_suspect;) {
		const struct suspicion *s = &g->suspect[i];
		uint64_t d = deadline(g, s);

		if (d <= g->now) {
			struct wire_member w = members_wire(&g->members, s->member, 0);

			w.state = GOSSIP_DEAD;
			core_set(g, s->member, &w, true); /* takes it out: look at i again */
			continue;
		}
		if (d < next)
			next = d;
		i++;
	}
	/* after a mass failure verdicts share a scan */
	if (next < g->now + 20 * MS)
		next = g->now + 20 * MS;
	g->suspect_next = next;
}

/* Nobody could refute to a node that was not listening. */
void suspect_held_up(struct gossip *g, uint64_t late)
{
	for (uint32_t i = 0; i < g->n_suspect; i++)
		g->suspect[i].start += late;
	g->suspect_next = g->now;
}
