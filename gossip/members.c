#include "gossip/members.h"

#include "gossip/mix.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint32_t statement_hash(const struct member *m)
{
	return members_is_live(m->state) ? (uint32_t)mix64(m->id ^ mix64(m->version)) : 0;
}

static void count_in(struct members *ms, const struct member *m)
{
	ms->hash[bucket_of(m->id)] += statement_hash(m);
	ms->root += statement_hash(m);
}

static void count_out(struct members *ms, const struct member *m)
{
	ms->hash[bucket_of(m->id)] -= statement_hash(m);
	ms->root -= statement_hash(m);
}

static uint32_t home(const struct members *ms, uint64_t id)
{
	return (uint32_t)mix64(id) & (ms->cap_index - 1);
}

static void index_put(struct members *ms, uint32_t i)
{
	uint32_t at = home(ms, ms->m[i].id);

	while (ms->index[at] != 0)
		at = (at + 1) & (ms->cap_index - 1);
	ms->index[at] = i + 1;
}

static int index_grow(struct members *ms, uint32_t cap)
{
	uint32_t *index = cap == 0 ? NULL : calloc(cap, sizeof(*index));

	if (index == NULL)
		return -ENOMEM;
	free(ms->index);
	ms->index = index;
	ms->cap_index = cap;
	for (uint32_t i = 0; i < ms->n; i++) {
		if (ms->m[i].id != 0)
			index_put(ms, i);
	}
	return 0;
}

/* Linear probing without tombstones: what follows moves up (Knuth, TAOCP 3, 6.4, algorithm R). */
static void index_del(struct members *ms, uint32_t i)
{
	uint32_t mask = ms->cap_index - 1, at = home(ms, ms->m[i].id), hole, next;

	while (ms->index[at] != i + 1)
		at = (at + 1) & mask;
	hole = at;
	for (next = (hole + 1) & mask; ms->index[next] != 0; next = (next + 1) & mask) {
		uint32_t want = home(ms, ms->m[ms->index[next] - 1].id);

		if (((next - want) & mask) < ((next - hole) & mask))
			continue;
		ms->index[hole] = ms->index[next];
		hole = next;
	}
	ms->index[hole] = 0;
}

int members_init(struct members *ms, uint32_t expect)
{
	uint32_t cap = 64;

	memset(ms, 0, sizeof(*ms));
	while (cap < expect / 3 * 4)
		cap *= 2;
	ms->cap = expect > 16 ? expect : 16;
	ms->m = malloc(ms->cap * sizeof(*ms->m));
	if (ms->m == NULL || index_grow(ms, cap) < 0) {
		members_done(ms);
		return -ENOMEM;
	}
	return 0;
}

void members_done(struct members *ms)
{
	free(ms->m);
	free(ms->index);
	free(ms->live);
	free(ms->gone);
	memset(ms, 0, sizeof(*ms));
}

uint32_t members_find(const struct members *ms, uint64_t id)
{
	uint32_t at = home(ms, id);

	while (ms->index[at] != 0) {
		if (ms->m[ms->index[at] - 1].id == id)
			return ms->index[at] - 1;
		at = (at + 1) & (ms->cap_index - 1);
	}
	return NONE;
}

static int grow_list(uint32_t **list, uint32_t *cap, uint32_t need)
{
	uint32_t n = *cap ? *cap : 16;
	uint32_t *bigger;

	if (need <= *cap)
		return 0;
	while (n < need)
		n *= 2;
	bigger = realloc(*list, n * sizeof(*bigger));
	if (bigger == NULL)
		return -ENOMEM;
	*list = bigger;
	*cap = n;
	return 0;
}

/* Both lists have room for everyone, so that a change of state cannot fail. */
static int make_room(struct members *ms)
{
	struct member *m;
	uint32_t cap;

	if (ms->n_free == 0 && ms->n == ms->cap) {
		cap = ms->cap + ms->cap / 2;
		m = realloc(ms->m, cap * sizeof(*m));
		if (m == NULL)
			return -ENOMEM;
		ms->m = m;
		ms->cap = cap;
	}
	if (grow_list(&ms->live, &ms->cap_live, ms->n + 1) < 0 ||
	    grow_list(&ms->gone, &ms->cap_gone, ms->n + 1) < 0)
		return -ENOMEM;
	if ((ms->n + 1) / 3 * 4 >= ms->cap_index)
		return index_grow(ms, ms->cap_index * 2);
	return 0;
}

static void list_put(struct members *ms, uint32_t i)
{
	bool live = members_is_live(ms->m[i].state);
	uint32_t *list = live ? ms->live : ms->gone;
	uint32_t *n = live ? &ms->n_live : &ms->n_gone;

	if (i == 0)
		return;
	ms->m[i].pos = *n;
	list[(*n)++] = i;
}

static void list_del(struct members *ms, uint32_t i)
{
	bool live = members_is_live(ms->m[i].state);
	uint32_t *list = live ? ms->live : ms->gone;
	uint32_t *n = live ? &ms->n_live : &ms->n_gone;
	uint32_t last;

	if (i == 0)
		return;
	last = list[--*n];
	list[ms->m[i].pos] = last;
	ms->m[last].pos = ms->m[i].pos;
}

/* A newcomer at the end would be the last that everybody probes; half a cluster that came back
 * would not be probed at all for as long as the other half takes. */
static void random_place(struct members *ms, uint32_t i, uint64_t *rng)
{
	uint32_t pos = ms->m[i].pos, other = mix_below(rng, ms->n_live), j = ms->live[other];

	ms->live[other] = i;
	ms->m[i].pos = other;
	ms->live[pos] = j;
	ms->m[j].pos = pos;
	ms->m[i].pos = other;
}

static uint32_t free_slot(struct members *ms)
{
	uint32_t i = 0;

	if (ms->n_free == 0)
		return ms->n++;
	while (ms->m[i].id != 0) /* forgetting a member is rare, so is this */
		i++;
	ms->n_free--;
	return i;
}

uint32_t members_add(struct members *ms, const struct wire_member *w, uint64_t *rng)
{
	uint32_t i;

	if (make_room(ms) < 0)
		return NONE;
	i = free_slot(ms);
	ms->m[i] = (struct member){ .id = w->id,
				    .version = w->version,
				    .floor = w->floor,
				    .ip = w->addr.addr,
				    .port = w->addr.port,
				    .state = w->state,
				    .owner = NONE,
				    .news = NONE };
	index_put(ms, i);
	count_in(ms, &ms->m[i]);
	list_put(ms, i);
	if (i != 0 && members_is_live(w->state))
		random_place(ms, i, rng);
	return i;
}

void members_set(struct members *ms, uint32_t i, const struct wire_member *w, uint64_t *rng)
{
	struct member *m = &ms->m[i];
	bool move = members_is_live(m->state) != members_is_live(w->state);

	count_out(ms, m);
	if (move)
		list_del(ms, i);
	m->version = w->version;
	m->floor = w->floor;
	m->ip = w->addr.addr;
	m->port = w->addr.port;
	m->state = w->state;
	if (move)
		list_put(ms, i);
	if (move && i != 0 && members_is_live(w->state))
		random_place(ms, i, rng);
	count_in(ms, m);
}

void members_remove(struct members *ms, uint32_t i)
{
	count_out(ms, &ms->m[i]);
	list_del(ms, i);
	index_del(ms, i);
	ms->m[i].id = 0;
	ms->n_free++;
}

struct wire_member members_wire(const struct members *ms, uint32_t i, uint64_t from)
{
	const struct member *m = &ms->m[i];

	return (struct wire_member){ .id = m->id,
				     .version = m->version,
				     .floor = m->floor,
				     .addr = { .addr = m->ip, .port = m->port },
				     .state = m->state,
				     .from = from };
}
