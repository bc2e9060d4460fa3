/* gossip_measure - how fast and at what price the gossip core spreads things, simulated.
 *
 *   gossip_measure WHAT --nodes N [--runs R] [--seed S] [--loss PERCENT] [--seconds T]
 *                       [--rate U] [--rows R] [--sick PERCENT] [--plain]
 *
 * WHAT: update | death | idle | load | heal | false. One line of key=value pairs per run of the
 * program; tests/sim/run makes the table. Exit 1 if what was measured did not come to an end. */
#include "gossip/mix.h"
#include "tests/sim/sim.h"

#include <getopt.h>
#include <malloc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
	const char *what;
	uint32_t nodes, runs, rate, rows;
	uint64_t seed, seconds;
	double loss, sick;
	bool plain;
};

static struct options opt = {
	.nodes = 100, .runs = 20, .seed = 1, .seconds = 20, .rate = 1000, .rows = 1000
};

/* What is being watched, and who has seen it. */
static struct {
	uint32_t app, subject, generation;
	uint64_t since, t99, t999, t100;
	uint32_t seen, total;
	uint8_t *by; /* per node */
	uint64_t applied;
} watch;

static void saw(struct sim *s, uint32_t node)
{
	uint64_t t = s->now - watch.since;

	if (watch.by[node])
		return;
	watch.by[node] = 1;
	watch.seen++;
	if (watch.t99 == 0 && watch.seen * 100ull >= watch.total * 99ull)
		watch.t99 = t;
	if (watch.t999 == 0 && watch.seen * 1000ull >= watch.total * 999ull)
		watch.t999 = t;
	if (watch.seen == watch.total)
		watch.t100 = t;
}

static void on_row(struct sim *s, uint32_t node, const struct gossip_row *r, bool live)
{
	watch.applied++;
	if (live && r->app == watch.app)
		saw(s, node);
}

static void on_member(struct sim *s, uint32_t node, const struct gossip_member *m)
{
	if (m->state == GOSSIP_DEAD && watch.subject != SIM_NOBODY &&
	    m->id == s->node[watch.subject].id && m->generation == watch.generation)
		saw(s, node);
}

static void watch_from(struct sim *s, uint32_t total)
{
	watch.since = s->now;
	watch.t99 = watch.t999 = watch.t100 = 0;
	watch.seen = 0;
	watch.total = total;
	memset(watch.by, 0, s->n);
}

static bool all_seen(struct sim *s)
{
	(void)s;
	return watch.seen == watch.total;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double quantile(double *v, uint32_t n, double q)
{
	uint32_t i = (uint32_t)ceil(q * n);

	qsort(v, n, sizeof(*v), by_size);
	return v[i > 0 ? i - 1 : 0];
}

static void report(const char *name, double *v, uint32_t n)
{
	printf(" %s_p50_ms=%.0f %s_p99_ms=%.0f", name, quantile(v, n, 0.5), name,
	       quantile(v, n, 0.99));
}

static struct gossip_row some_row(uint32_t app)
{
	struct gossip_row r = {
		.network = 1, .port = 80, .proto = 6, .app = app, .weight = 100
	};

	r.vip.b[10] = r.vip.b[11] = 0xff;
	r.vip.b[12] = 10;
	r.vip.b[13] = (uint8_t)(app >> 16);
	r.vip.b[14] = (uint8_t)(app >> 8);
	r.vip.b[15] = (uint8_t)app;
	return r;
}

static struct sim *start(void)
{
	struct sim *s = sim_new(opt.nodes, opt.seed);

	s->loss_ppm = (uint32_t)(opt.loss * 10000);
	s->plain_swim = opt.plain;
	s->on_row = on_row;
	s->on_member = on_member;
	watch.subject = SIM_NOBODY;
	watch.app = UINT32_MAX;
	watch.by = calloc(opt.nodes, 1);
	sim_start_all(s);
	sim_run(s, s->now + 3 * SIM_S);
	return s;
}

/* Each run: a new row at a random node, until everybody has it. */
static int measure_spread(struct sim *s, bool death)
{
	double *t99 = calloc(opt.runs, sizeof(*t99)), *t999 = calloc(opt.runs, sizeof(*t999)),
	       *t100 = calloc(opt.runs, sizeof(*t100));
	uint32_t late = 0;

	for (uint32_t run = 0; run < opt.runs; run++) {
		uint32_t i = sim_random_up(s);

		if (death) {
			watch.subject = i;
			watch.generation = s->node[i].generation;
			sim_kill(s, i);
			watch_from(s, sim_up(s));
		} else {
			struct gossip_row r = some_row(run + 1);

			watch.app = run + 1;
			watch_from(s, s->n - 1);
			(void)sim_put(s, i, &r);
		}
		if (!sim_run_until(s, s->now + 60 * SIM_S, 10 * SIM_MS, all_seen))
			late++;
		t99[run] = watch.t99 ? (double)watch.t99 / 1e3 : 60e3;
		t999[run] = watch.t999 ? (double)watch.t999 / 1e3 : 60e3;
		t100[run] = watch.t100 ? (double)watch.t100 / 1e3 : 60e3;
		if (death) {
			watch.subject = SIM_NOBODY;
			sim_start(s, i, sim_random_up(s));
			sim_run(s, s->now + 2 * SIM_S);
		} else {
			sim_run(s, s->now + SIM_S + sim_random(s, 250) * SIM_MS);
		}
	}
	report("t99", t99, opt.runs);
	report("t99.9", t999, opt.runs);
	report("t100", t100, opt.runs);
	printf(" unfinished=%u false_positives=%llu", late,
	       (unsigned long long)s->false_positives);
	free(t99);
	free(t999);
	free(t100);
	return late > 0;
}

static uint64_t total_bytes(const struct sim *s)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < s->n; i++)
		bytes += s->node[i].bytes;
	return bytes;
}

static uint32_t disagreeing(const struct sim *s)
{
	struct gossip_stats first = { 0 };
	uint32_t n = 0;
	bool any = false;

	for (uint32_t i = 0; i < s->n; i++) {
		struct gossip_stats st;

		if (s->node[i].g == NULL)
			continue;
		st = gossip_stats(s->node[i].g);
		if (!any)
			first = st;
		any = true;
		n += st.root_members != first.root_members || st.root_rows != first.root_rows;
	}
	return n;
}

static bool agreed(struct sim *s)
{
	return disagreeing(s) == 0;
}

/* Bytes over a while without any change, or with --rate updates a second, each of a random
 * one of --rows rows. */
static int measure_traffic(struct sim *s, bool load)
{
	uint64_t end, bytes, t0, last_applied;
	uint32_t rows = load ? opt.rows : 0, done = 0;
	double kbit;

	for (uint32_t k = 0; k < rows; k++) {
		struct gossip_row r = some_row(k + 1);

		(void)sim_put(s, k % s->n, &r);
		if (k % 10 == 9)
			sim_run(s, s->now + 10 * SIM_MS);
	}
	sim_run(s, s->now + 5 * SIM_S);
	bytes = total_bytes(s);
	t0 = s->now;
	end = s->now + opt.seconds * SIM_S;
	watch.applied = 0;
	s->count_types = true;
	while (load && s->now < end) {
		uint32_t k = sim_random(s, rows);
		struct gossip_row r = some_row(k + 1);

		r.connections = ++done;
		(void)sim_put(s, k % s->n, &r);
		sim_run(s, s->now + SIM_S / opt.rate);
	}
	sim_run(s, end);
	s->count_types = false;
	kbit = (double)(total_bytes(s) - bytes) * 8 / 1e3 / ((double)(s->now - t0) / 1e6) /
	       s->n;
	last_applied = watch.applied;
	printf(" kbit_s=%.2f bytes_s=%.0f", kbit, kbit * 125);
	for (unsigned type = 0; type < 16; type++) {
		if (s->bytes_of[type] > 0)
			printf(" type%u=%.0f", type,
			       (double)s->bytes_of[type] / (double)opt.seconds / s->n);
	}
	if (load) {
		bool ok = sim_run_until(s, s->now + 60 * SIM_S, 50 * SIM_MS, agreed);

		printf(" updates=%u applied_during=%.4f settle_ms=%llu agreed=%d", done,
		       (double)last_applied / done / (s->n - 1),
		       (unsigned long long)((s->now - end) / SIM_MS), ok);
	}
	printf(" false_positives=%llu", (unsigned long long)s->false_positives);
	return 0;
}

static bool healed(struct sim *s)
{
	for (uint32_t i = 0; i < s->n; i++) {
		struct gossip_stats st = gossip_stats(s->node[i].g);

		if (st.live != s->n - 1)
			return false;
	}
	return agreed(s);
}

/* Two halves apart until each holds the other for dead, both writing; then together again. */
static int measure_heal(struct sim *s)
{
	double *t = calloc(opt.runs, sizeof(*t));
	uint32_t late = 0;

	for (uint32_t run = 0; run < opt.runs; run++) {
		uint64_t t0;

		for (uint32_t i = 0; i < s->n; i++)
			s->node[i].side = i & 1;
		sim_run(s, s->now + 10 * SIM_S);
		for (uint32_t k = 0; k < 20; k++) {
			struct gossip_row r = some_row(run * 20 + k + 1);

			(void)sim_put(s, k % s->n, &r);
		}
		sim_run(s, s->now + opt.seconds * SIM_S);
		sim_heal(s);
		t0 = s->now;
		if (!sim_run_until(s, s->now + 120 * SIM_S, 50 * SIM_MS, healed))
			late++;
		t[run] = (double)(s->now - t0) / 1e3;
		sim_run(s, s->now + 2 * SIM_S);
	}
	report("heal", t, opt.runs);
	printf(" unfinished=%u", late);
	free(t);
	return late > 0;
}

/* Nothing happens but loss and, with --sick, nodes that stall again and again; whoever is
 * declared dead while it runs is a false positive. */
static int measure_false(struct sim *s)
{
	uint64_t end = s->now + opt.seconds * SIM_S;
	uint32_t sick = (uint32_t)ceil(opt.sick / 100 * s->n);
	double hours = (double)opt.seconds / 3600 * s->n;

	s->false_positives = 0;
	while (s->now < end) {
		for (uint32_t i = 0; i < sick; i++) {
			if (s->node[i].frozen_until == 0 && sim_random(s, 4) == 0)
				sim_freeze(s, i, (200 + sim_random(s, 1800)) * SIM_MS);
		}
		sim_run(s, s->now + SIM_S);
	}
	printf(" node_hours=%.1f false_positives=%llu per_node_hour=%.6f", hours,
	       (unsigned long long)s->false_positives, (double)s->false_positives / hours);
	return 0;
}

static double number(const char *arg)
{
	char *end;
	double d = strtod(arg, &end);

	if (*end || end == arg || d < 0) {
		fprintf(stderr, "gossip_measure: not a number: %s\n", arg);
		exit(2);
	}
	return d;
}

static void options(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "nodes", 1, NULL, 'n' },   { "runs", 1, NULL, 'r' },
		{ "seed", 1, NULL, 's' },    { "loss", 1, NULL, 'l' },
		{ "rate", 1, NULL, 'u' },    { "rows", 1, NULL, 'w' },
		{ "seconds", 1, NULL, 't' }, { "sick", 1, NULL, 'k' },
		{ "plain", 0, NULL, 'p' },   { NULL, 0, NULL, 0 }
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) >= 0) {
		switch (c) {
		case 'n':
			opt.nodes = (uint32_t)number(optarg);
			break;
		case 'r':
			opt.runs = (uint32_t)number(optarg);
			break;
		case 's':
			opt.seed = (uint64_t)number(optarg);
			break;
		case 'l':
			opt.loss = number(optarg);
			break;
		case 'u':
			opt.rate = (uint32_t)number(optarg);
			break;
		case 'w':
			opt.rows = (uint32_t)number(optarg);
			break;
		case 't':
			opt.seconds = (uint64_t)number(optarg);
			break;
		case 'k':
			opt.sick = number(optarg);
			break;
		case 'p':
			opt.plain = true;
			break;
		default:
			exit(2);
		}
	}
	if (optind != argc - 1 || opt.nodes < 3 || opt.runs == 0 || opt.rate == 0 ||
	    opt.rows == 0) {
		fputs("usage: gossip_measure update|death|idle|load|heal|false [options]\n",
		      stderr);
		exit(2);
	}
	opt.what = argv[optind];
}

int main(int argc, char **argv)
{
	struct sim *s;
	int r = 2;

	/* one thread, large arrays that grow: what is freed goes back at once */
	mallopt(M_MMAP_THRESHOLD, 65536);
	options(argc, argv);
	s = start();
	printf("what=%s nodes=%u seed=%llu loss=%g%s memory_per_node=%zu", opt.what, opt.nodes,
	       (unsigned long long)opt.seed, opt.loss, opt.plain ? " plain" : "",
	       (mallinfo2().uordblks + mallinfo2().hblkhd) / opt.nodes);
	fflush(stdout);
	if (strcmp(opt.what, "update") == 0)
		r = measure_spread(s, false);
	else if (strcmp(opt.what, "death") == 0)
		r = measure_spread(s, true);
	else if (strcmp(opt.what, "idle") == 0)
		r = measure_traffic(s, false);
	else if (strcmp(opt.what, "load") == 0)
		r = measure_traffic(s, true);
	else if (strcmp(opt.what, "heal") == 0)
		r = measure_heal(s);
	else if (strcmp(opt.what, "false") == 0)
		r = measure_false(s);
	else
		fputs(" unknown", stderr);
	putchar('\n');
	free(watch.by);
	sim_free(s);
	return r;
}
