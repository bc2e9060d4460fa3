/* gossip_schedules - random schedules of failures, and what must hold during and after each.
 *
 *   gossip_schedules [--count N] [--seed S] [--verbose]
 *
 * Each seed is a schedule of its own: a few nodes that join, write, delete, freeze, die, restart
 * (also with their memory lost), leave, are cut off one way or parted, under changing loss. Then
 * the network is whole and quiet for a while, and
 *   1. every node that is up holds every other that is up for alive, and nobody else;
 *   2. all roots are equal, and every table is exactly what the living owners last wrote;
 * and at all times
 *   3. what a node sees of a row goes forward only: no deleted or older row returns.
 * Exit 1 and the seed of the first schedule that fails. */
#include "gossip/mix.h"
#include "tests/sim/sim.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define NODES 12
#define APPS  24
#define QUIET (40 * SIM_S)

struct cell {
	bool live;
	uint32_t value, data_len;
};

static struct {
	struct cell truth[NODES][APPS];
	uint64_t seen[NODES][NODES][APPS]; /* observer, owner, app: highest version */
	bool left[NODES];
	uint64_t seed;
	bool failed, verbose;
	uint32_t value;
} world;

static void fail(const struct sim *s, const char *what, uint32_t a, uint32_t b, uint32_t c)
{
	if (!world.failed)
		printf("seed %llu: at %llu ms: %s (%u %u %u)\n", (unsigned long long)world.seed,
		       (unsigned long long)(s->now / SIM_MS), what, a, b, c);
	world.failed = true;
}

static void on_row(struct sim *s, uint32_t node, const struct gossip_row *r, bool live)
{
	uint32_t owner = sim_index(r->owner);
	uint64_t *seen;

	if (owner >= s->n || r->app >= APPS) {
		fail(s, "a row that nobody wrote", node, owner, r->app);
		return;
	}
	seen = &world.seen[node][owner][r->app];
	if (live ? r->version <= *seen : r->version < *seen)
		fail(s, "an older row returns: node, owner, app", node, owner, r->app);
	*seen = r->version;
}

static struct gossip_row row_of(uint32_t app)
{
	struct gossip_row r = { .network = 7, .port = 80, .proto = 6, .app = app };

	/* some share their service, some have one each */
	r.vip = sim_addr(app % 5).addr;
	return r;
}

static void put(struct sim *s, uint32_t i, uint32_t app)
{
	static uint8_t data[100000];
	struct gossip_row r = row_of(app);
	struct cell *c = &world.truth[i][app];

	r.connections = ++world.value;
	r.data = data;
	switch (sim_random(s, 40)) {
	case 0:
		r.data_len = sim_random(s, sizeof(data));
		break;
	case 1:
		r.data_len = sim_random(s, 3000);
		break;
	case 2:
		r.data_len = sim_random(s, 30);
		break;
	default:
		break;
	}
	if (sim_put(s, i, &r) < 0)
		fail(s, "put failed", i, app, 0);
	*c = (struct cell){ true, world.value, r.data_len };
}

static void del(struct sim *s, uint32_t i, uint32_t app)
{
	struct gossip_row r = row_of(app);
	int want = world.truth[i][app].live ? 0 : -1, got = sim_del(s, i, &r);

	if ((got < 0) != (want < 0))
		fail(s, "delete disagrees with what is there", i, app, 0);
	world.truth[i][app].live = false;
}

static void start(struct sim *s, uint32_t i)
{
	memset(world.truth[i], 0, sizeof(world.truth[i]));
	memset(world.seen[i], 0, sizeof(world.seen[i]));
	world.left[i] = false;
	if (sim_random(s, 10) == 0)
		s->node[i].generation = s->node[i].starts * 4; /* disk lost, clock back */
	sim_start(s, i, SIM_NOBODY);
	for (uint32_t k = 0; k < s->n; k++) { /* the file of peers */
		struct as_endpoint addr = sim_addr(k);

		if (k != i)
			(void)gossip_seed(s->node[i].g, s->now, &addr);
	}
	for (uint32_t k = sim_random(s, 8); k > 0; k--)
		put(s, i, sim_random(s, APPS));
	sim_settled(s, i);
}

static void step(struct sim *s)
{
	uint32_t i = sim_random(s, s->n), j = sim_random(s, s->n), what = sim_random(s, 100);
	bool up = s->node[i].g != NULL && s->node[i].frozen_until == 0;

	if (s->node[i].g == NULL) {
		if (what < 40)
			start(s, i);
		return;
	}
	if (!up)
		return;
	if (what < 40) {
		put(s, i, sim_random(s, APPS));
	} else if (what < 65) {
		del(s, i, sim_random(s, APPS));
	} else if (what < 70) {
		sim_kill(s, i);
	} else if (what < 72) {
		world.left[i] = true;
		sim_leave(s, i);
	} else if (what < 78) {
		sim_freeze(s, i, sim_random(s, 6000) * SIM_MS);
	} else if (what < 81) {
		for (uint32_t k = 0; k < s->n; k++)
			s->node[k].side = sim_random(s, 2);
	} else if (what < 85) {
		if (i != j)
			sim_cut(s, i, j);
	} else if (what < 92) {
		sim_heal(s);
	} else if (what < 96) {
		s->loss_ppm = sim_random(s, 4) * 100000;
	} else {
		struct as_endpoint addr = sim_addr(i);

		gossip_set_addr(s->node[i].g, s->now, &addr);
	}
}

static void check_members(struct sim *s, uint32_t i)
{
	struct gossip_member m;
	uint32_t it = 0;
	bool live[NODES] = { false };

	while (gossip_members(s->node[i].g, &it, &m)) {
		if (m.state <= GOSSIP_SUSPECT)
			live[sim_index(m.id)] = true;
	}
	for (uint32_t k = 0; k < s->n; k++) {
		if (live[k] != (s->node[k].g != NULL))
			fail(s,
			     live[k] ? "holds a dead node for alive: node, whom"
				     : "misses a living node: node, whom",
			     i, k, 0);
	}
}

static void check_rows(struct sim *s, uint32_t i)
{
	struct gossip_row r;
	uint32_t it = 0, have[NODES][APPS];

	memset(have, 0, sizeof(have));
	while (gossip_rows(s->node[i].g, &it, &r)) {
		const struct cell *c = &world.truth[sim_index(r.owner)][r.app];

		have[sim_index(r.owner)][r.app]++;
		if (c->live && (r.connections != c->value || r.data_len != c->data_len))
			fail(s, "has an old row: node, owner, app", i, sim_index(r.owner),
			     r.app);
	}
	for (uint32_t k = 0; k < s->n; k++) {
		for (uint32_t app = 0; app < APPS; app++) {
			bool want = s->node[k].g != NULL && world.truth[k][app].live;

			if (have[k][app] != want)
				fail(s,
				     have[k][app] > want
					     ? "has a row too many: node, owner, app"
					     : "misses a row: node, owner, app",
				     i, k, app);
		}
	}
	for (uint32_t app = 0; app < APPS; app++) {
		struct gossip_row key = row_of(app);

		it = 0;
		while (gossip_lookup(s->node[i].g, &key, &it, &r))
			have[sim_index(r.owner)][r.app] |= r.app == app ? 2 : 0;
	}
	for (uint32_t k = 0; k < s->n; k++) {
		for (uint32_t app = 0; app < APPS; app++) {
			if (have[k][app] == 1)
				fail(s, "has a row that lookup does not find", i, k, app);
		}
	}
}

static void check(struct sim *s)
{
	struct gossip_stats first = { 0 };
	bool any = false;

	for (uint32_t i = 0; i < s->n; i++) {
		struct gossip_stats st;

		if (s->node[i].g == NULL)
			continue;
		check_members(s, i);
		check_rows(s, i);
		st = gossip_stats(s->node[i].g);
		if (any &&
		    (st.root_members != first.root_members || st.root_rows != first.root_rows))
			fail(s, "roots differ", i, st.root_rows != first.root_rows, 0);
		if (!any)
			first = st;
		any = true;
	}
}

static bool schedule(uint64_t seed)
{
	struct sim *s = sim_new(3 + (uint32_t)(mix64(seed) % (NODES - 2)), seed);
	uint32_t steps;

	memset(world.truth, 0, sizeof(world.truth));
	memset(world.seen, 0, sizeof(world.seen));
	memset(world.left, 0, sizeof(world.left));
	world.seed = seed;
	s->on_row = on_row;
	for (uint32_t i = 0; i < s->n; i++)
		start(s, i);
	steps = 20 + sim_random(s, 300);
	for (uint32_t k = 0; k < steps; k++) {
		step(s);
		/* bursts, and times long enough for verdicts */
		sim_run(s, s->now + sim_random(s, sim_random(s, 8) ? 60 : 4000) * SIM_MS);
	}
	sim_heal(s);
	s->loss_ppm = 0;
	sim_run(s, s->now + 7 * SIM_S); /* the last frozen one is back */
	sim_run(s, s->now + QUIET);
	check(s);
	if (world.verbose)
		printf("seed %llu: %u nodes, %u up, %u steps, %llu packets: %s\n",
		       (unsigned long long)seed, s->n, sim_up(s), steps,
		       (unsigned long long)s->sent, world.failed ? "FAILED" : "ok");
	sim_free(s);
	return !world.failed;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = { { "count", 1, NULL, 'c' },
					       { "seed", 1, NULL, 's' },
					       { "verbose", 0, NULL, 'v' },
					       { NULL, 0, NULL, 0 } };
	uint64_t count = 100, seed = 1, failed = 0;
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) >= 0) {
		switch (c) {
		case 'c':
			count = strtoull(optarg, NULL, 10);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 10);
			break;
		case 'v':
			world.verbose = true;
			break;
		default:
			return 2;
		}
	}
	for (uint64_t k = 0; k < count; k++) {
		world.failed = false;
		failed += !schedule(seed + k);
	}
	printf("%llu schedules from seed %llu: %llu failed\n", (unsigned long long)count,
	       (unsigned long long)seed, (unsigned long long)failed);
	return failed > 0;
}
