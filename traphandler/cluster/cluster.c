/* The node as one of many: its thread, its clock and timer, its keys, and what it keeps on disk. */
#include "traphandler/cluster/internal.h"

#include "traphandler/cluster/node.h"
#include "traphandler/cluster/seeds.h"
#include "traphandler/remote/guard.h"
#include "traphandler/remote/mac.h"
#include "traphandler/remote/remote.h"
#include "traphandler/service/registry.h"

#include <appswitch/keyring.h>
#include <appswitch/log.h>
#include <appswitch/util.h>

#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define HOUSEKEEPING_MS 1000u
#define SEEDS_EVERY	10u /* housekeepings */
#define ALONE_AFTER	5u
#define STREAMS_MAX	256u	 /* that wait for the loop; anybody can send four bytes */
#define JOIN_US		3000000u /* to hear what the others know, after a start */

/* ---- what comes out of the core; under the gossip lock ---- */

static void on_member(void *ctx, const struct gossip_member *m)
{
	static const char *const words[] = {
		[GOSSIP_ALIVE] = "is here",
		[GOSSIP_SUSPECT] = "does not answer",
		[GOSSIP_DEAD] = "is dead: its services are hidden",
		[GOSSIP_LEFT] = "has left",
	};
	struct cluster *c = ctx;
	struct node_info *info = (struct node_info *)rows_node(c, m->id);
	bool detail = m->state == GOSSIP_SUSPECT ||
		      (m->state == GOSSIP_ALIVE && info != NULL && info->doubted);
	char addr[AS_ENDPOINT_STRLEN];

	if (m->id == c->id)
		return;
	if (m->state == GOSSIP_ALIVE)
		c->met = true;
	if (info != NULL)
		info->doubted = m->state == GOSSIP_SUSPECT;
	log_msg(detail ? LOG_LVL_DEBUG : LOG_LVL_INFO, "node %s (%016llx) at %s %s",
		info != NULL ? info->data.name : "?", (unsigned long long)m->id,
		as_endpoint_format(&m->addr, addr), words[m->state]);
}

static void on_row(void *ctx, const struct gossip_row *row, bool live)
{
	rows_on_row(ctx, row, live);
}

static void on_generation(void *ctx, uint32_t generation)
{
	struct cluster *c = ctx;

	log_warn_limited(
		"others know a later life of this node (%016llx) than this one: its disk "
		"and clock went back, or its state directory was copied to another node, "
		"which must have one of its own",
		(unsigned long long)c->id);
	c->new_generation = generation;
	/* before anybody can hear of it and make a hello with it */
	remote_set_generation(c->sw, generation);
	uv_async_send(&c->wake);
}

static void on_rejected(void *ctx, const struct as_endpoint *from, int error)
{
	const struct cluster *c = ctx;
	char addr[AS_ENDPOINT_STRLEN];
	const char *why;

	switch (error) {
	case -ENOKEY:
		why = "it has a key that we have not (--key-file): it stays outside";
		break;
	case -EPROTO:
		why = "its version is too new, or too old";
		break;
	case -EADDRINUSE:
		why = "it has our node's id: was the state directory copied?";
		break;
	case -EBADMSG:
		why = "it is damaged or forged";
		break;
	default:
		return;
	}
	(void)c;
	log_warn_limited("a packet from %s was dropped: %s", as_endpoint_format(from, addr),
			 why);
}

/* ---- disk ---- */

static void tell_disk(struct cluster *c, int r, const char *err)
{
	if (r < 0 && !c->disk_failed)
		log_error("%s; the node goes on without", err);
	c->disk_failed = r < 0;
}

/* libuv's pool, or the loop thread when that is idle: a disk takes longer than a probe may. */
static void do_disk(uv_work_t *w)
{
	struct cluster *c = w->data;

	c->disk.result = 0;
	if (c->disk.generation != 0)
		c->disk.result = statedir_set_generation(c->dir, c->disk.generation,
							 c->disk.err, sizeof(c->disk.err));
	if (c->disk.result == 0 && c->disk.n_peers > 0)
		c->disk.result = statedir_set_peers(c->dir, c->disk.peers, c->disk.n_peers,
						    c->disk.err, sizeof(c->disk.err));
}

static void save(struct cluster *c, bool wait);

static void on_disk(uv_work_t *w, int status)
{
	struct cluster *c = w->data;

	(void)status;
	c->disk.busy = false;
	tell_disk(c, c->disk.result, c->disk.err);
	if (c->unsaved_generation != 0)
		save(c, false);
}

/* Where to look after the next start, and a generation that had to be taken. Written only if it is
 * not what is there. */
static void save(struct cluster *c, bool wait)
{
	struct gossip_member m;
	struct gossip *g;
	uint32_t it = 0;

	if (c->disk.busy)
		return;
	c->disk.generation = c->unsaved_generation;
	c->unsaved_generation = 0;
	c->disk.n_peers = 0;
	g = gossip_uv_lock(c->gossip);
	while (c->disk.n_peers < STATEDIR_PEERS && gossip_members(g, &it, &m)) {
		if (m.id != c->id && m.state != GOSSIP_LEFT)
			c->disk.peers[c->disk.n_peers++] = m.addr;
	}
	gossip_uv_unlock(c->gossip);
	c->disk.work.data = c;
	c->disk.busy = true;
	if (wait || uv_queue_work(&c->loop, &c->disk.work, do_disk, on_disk) < 0) {
		do_disk(&c->disk.work);
		on_disk(&c->disk.work, 0);
	}
}

/* ---- looking for the others ---- */

static void add_seeds(struct cluster *c, const struct as_endpoint *e, size_t n)
{
	struct gossip *g = gossip_uv_lock(c->gossip);

	for (size_t i = 0; i < n; i++)
		(void)gossip_seed(g, gossip_uv_now(), &e[i]);
	gossip_uv_unlock(c->gossip);
}

static void read_seeds(struct cluster *c)
{
	struct as_endpoint found[SEEDS_MAX];
	char err[300] = "";
	size_t n = 0;

	if (c->cfg->join_file == NULL)
		return;
	if (seeds_read(c->cfg->join_file, DAEMON_CLUSTER_PORT, found, &n, err, sizeof(err)) < 0)
		log_warn_limited("%s", err);
	else
		add_seeds(c, found, n);
}

static void tell_alone(struct cluster *c)
{
	if (c->met || c->told_alone || c->ticks < ALONE_AFTER ||
	    (c->cfg->n_joins == 0 && c->cfg->join_file == NULL))
		return;
	c->told_alone = true;
	log_warn(
		"no node has answered yet: is a daemon at --join, is its port open for UDP and "
		"TCP, and has it the same --key-file? It is tried for ever");
}

/* ---- the thread ---- */

static void take_streams(struct cluster *c)
{
	size_t n;
	int *fds;

	pthread_mutex_lock(&c->queue_lock);
	fds = c->streams;
	n = c->n_streams;
	c->streams = NULL;
	c->n_streams = 0;
	pthread_mutex_unlock(&c->queue_lock);
	for (size_t i = 0; i < n; i++)
		gossip_uv_adopt(c->gossip, fds[i]);
	free(fds);
}

static void on_closed(void *arg)
{
	struct cluster *c = arg;

	c->gossip = NULL;
	uv_stop(&c->loop);
}

static void say_good_bye(struct cluster *c)
{
	struct gossip *g = gossip_uv_lock(c->gossip);

	gossip_leave(g, gossip_uv_now());
	gossip_uv_unlock(c->gossip);
}

static void on_wake(uv_async_t *a)
{
	struct cluster *c = a->data;
	bool stopping, leave;
	uint32_t generation;

	take_streams(c);
	rows_apply(c);
	(void)gossip_uv_lock(c->gossip);
	generation = c->new_generation;
	c->new_generation = 0;
	gossip_uv_unlock(c->gossip);
	if (generation != 0) {
		c->unsaved_generation = generation;
		save(c, false);
	}
	pthread_mutex_lock(&c->queue_lock);
	stopping = c->stopping;
	leave = c->left && !c->gone;
	pthread_mutex_unlock(&c->queue_lock);
	if (leave) {
		c->gone = true;
		say_good_bye(c);
		log_info("this node has left the cluster");
	}
	if (stopping && !uv_is_closing((uv_handle_t *)&c->housekeeping)) {
		if (!c->gone)
			save(c, true);
		uv_close((uv_handle_t *)&c->housekeeping, NULL);
		uv_close((uv_handle_t *)&c->deletions, NULL);
		gossip_uv_close(c->gossip, on_closed, c);
	}
}

static void on_housekeeping(uv_timer_t *t)
{
	struct cluster *c = t->data;

	c->ticks++;
	if (c->gone)
		return;
	rows_tell_counts(c);
	rows_put_node(c);
	tell_alone(c);
	if (c->ticks % SEEDS_EVERY == 0)
		read_seeds(c);
	save(c, false);
}

static void *run(void *arg)
{
	struct cluster *c = arg;

	uv_run(&c->loop, UV_RUN_DEFAULT);
	uv_close((uv_handle_t *)&c->wake, NULL);
	uv_run(&c->loop, UV_RUN_DEFAULT);
	return NULL;
}

/* ---- start ---- */

/* Without a key file everybody on this host can speak, and nobody else is listened to. */
static int load_keys(const struct daemon_config *cfg, struct keyring *ret)
{
	char err[300];
	int r;

	if (cfg->key_file == NULL) {
		memset(ret, 0, sizeof(*ret));
		ret->n = 1;
		return 0;
	}
	r = keyring_load(cfg->key_file, ret, err, sizeof(err));
	if (r < 0)
		log_error("%s", err);
	return r;
}

static int fail(const char *what, int r)
{
	log_error("%s: %s", what, strerror(-r));
	return r;
}

static int open_state(struct cluster *c)
{
	char path[PATH_MAX], err[300] = "";
	int r = 0;

	if (c->cfg->state_dir != NULL)
		snprintf(path, sizeof(path), "%s", c->cfg->state_dir);
	else
		r = statedir_default_path(path, sizeof(path));
	if (r < 0)
		return fail("no place for the node's state: give --state-dir", r);
	r = statedir_open(path, &c->dir, err, sizeof(err));
	if (*err != '\0')
		log_msg(r < 0 ? LOG_LVL_ERROR : LOG_LVL_WARN, "%s", err);
	if (r < 0)
		return r;
	c->sw->st.h->statedir_fd = statedir_lock_fd(c->dir);
	c->id = statedir_id(c->dir);
	*err = '\0';
	tell_disk(c, statedir_next_generation(c->dir, &c->generation, err, sizeof(err)), err);
	return 0;
}

static int make_ciphers(struct cluster *c)
{
	struct keyring keys;
	int r = load_keys(c->cfg, &keys);

	if (r < 0)
		return r;
	r = aead_openssl_new((const uint8_t(*)[AEAD_KEY_LEN])keys.keys, keys.n, &c->aead);
	if (r == 0)
		r = mac_new((const uint8_t(*)[MAC_KEY_LEN])keys.keys, keys.n, &c->mac);
	keyring_wipe(&keys);
	return r < 0 ? fail("the cluster's keys", r) : 0;
}

static void on_stream(void *arg, int fd)
{
	struct cluster *c = arg;
	int *more = NULL;

	pthread_mutex_lock(&c->queue_lock);
	if (c->n_streams < STREAMS_MAX)
		more = realloc(c->streams, (c->n_streams + 1) * sizeof(*more));
	if (more != NULL) {
		c->streams = more;
		more[c->n_streams++] = fd;
	}
	pthread_mutex_unlock(&c->queue_lock);
	if (more == NULL)
		close(fd);
	else
		uv_async_send(&c->wake);
}

static int start_gossip(struct cluster *c)
{
	struct gossip_config core = {
		.id = c->id,
		.generation = c->generation,
		.addr = c->cfg->advertise,
		.aead = aead_openssl_ops(c->aead),
		.sink = { .ctx = c,
			  .member = on_member,
			  .row = on_row,
			  .generation = on_generation },
	};
	struct gossip_uv_config uv = {
		.loop = &c->loop,
		.udp_fd = c->sw->st.h->node_udp_fd,
		.core = &core,
		.loopback_only = c->cfg->key_file == NULL,
		.rejected = on_rejected,
	};

	if (getrandom(&core.session, sizeof(core.session), 0) < 0 ||
	    getrandom(&core.seed, sizeof(core.seed), 0) < 0)
		return fail("random numbers", -errno);
	return gossip_uv_new(&uv, &c->gossip);
}

static int start_loop(struct cluster *c)
{
	const struct as_endpoint *known;
	struct gossip *g;
	size_t n;
	int r = uv_loop_init(&c->loop);

	if (r < 0)
		return r;
	uv_async_init(&c->loop, &c->wake, on_wake);
	uv_timer_init(&c->loop, &c->housekeeping);
	uv_timer_init(&c->loop, &c->deletions);
	c->wake.data = c->housekeeping.data = c->deletions.data = c;
	r = start_gossip(c);
	if (r < 0)
		return fail("gossip", r);
	uv_timer_start(&c->housekeeping, on_housekeeping, HOUSEKEEPING_MS, HOUSEKEEPING_MS);
	rows_put_node(c);
	n = statedir_peers(c->dir, &known);
	/* before anybody else can see @c */
	c->has_seeds = n > 0 || c->cfg->n_joins > 0 || c->cfg->join_file != NULL;
	c->started_us = gossip_uv_now();
	pthread_mutex_lock(&c->sw->lock);
	c->sw->cluster = c;
	rows_tell_all(c);
	pthread_mutex_unlock(&c->sw->lock);
	rows_apply(c);
	g = gossip_uv_lock(c->gossip);
	gossip_settled(g, gossip_uv_now());
	gossip_uv_unlock(c->gossip);
	add_seeds(c, c->cfg->joins, c->cfg->n_joins);
	read_seeds(c);
	add_seeds(c, known, n);
	return 0;
}

static int start_remote(struct cluster *c)
{
	struct st_header *h = c->sw->st.h;
	struct remote_config remote = {
		.id = c->id,
		.generation = c->generation,
		.previous_generation = h->node_id == c->id ? h->node_generation : 0,
		.generation_stored = !c->disk_failed,
		.listen = c->cfg->listen,
		.mac = c->mac,
		.loopback_only = c->cfg->key_file == NULL,
		.magic = GOSSIP_STREAM_MAGIC,
		.stream = on_stream,
		.arg = c,
	};
	int r = remote_start(c->sw, &remote);

	h->node_id = c->id;
	h->node_generation = c->generation;
	return r;
}

int cluster_start(struct switch_ctx *sw, const struct daemon_config *cfg)
{
	struct cluster *c = calloc(1, sizeof(*c));
	char addr[AS_ENDPOINT_STRLEN];
	int r;

	if (c == NULL)
		return -ENOMEM;
	c->sw = sw;
	c->cfg = cfg;
	c->started = time(NULL);
	c->last = &c->first;
	pthread_mutex_init(&c->queue_lock, NULL);
	r = open_state(c);
	if (r == 0)
		r = make_ciphers(c);
	if (r < 0)
		return r;
	if (cfg->guard_optional)
		guard_is_optional();
	r = remote_open(sw, &cfg->listen);
	if (r < 0)
		return fail(as_endpoint_format(&cfg->listen, addr), r);
	r = start_loop(c);
	if (r < 0)
		return r;
	r = start_remote(c);
	if (r < 0)
		return fail("connections with other nodes", r);
	r = -pthread_create(&c->thread, NULL, run, c);
	if (r < 0)
		return fail("a thread", r);
	log_info("node %s (%016llx) is at %s", cfg->node, (unsigned long long)c->id,
		 as_endpoint_format(&cfg->advertise, addr));
	if (cfg->key_file == NULL)
		log_warn("no --key-file: only nodes on this host, at loopback addresses, are "
			 "spoken to");
	return 0;
}

/* After its threads. */
static void free_all(struct cluster *c)
{
	for (size_t i = 0; i < c->n_streams; i++)
		close(c->streams[i]);
	free(c->streams);
	while (c->first != NULL) {
		struct change *change = c->first;

		c->first = change->next;
		free(change);
	}
	for (unsigned i = 0; i < NODE_BUCKETS; i++) {
		while (c->nodes[i] != NULL) {
			struct node_info *n = c->nodes[i];

			c->nodes[i] = n->next;
			free(n);
		}
	}
	pthread_mutex_destroy(&c->queue_lock);
	free(c);
}

void cluster_stop(struct switch_ctx *sw)
{
	struct cluster *c = sw->cluster;

	if (c == NULL)
		return;
	remote_free(sw);
	pthread_mutex_lock(&c->queue_lock);
	c->stopping = true;
	pthread_mutex_unlock(&c->queue_lock);
	uv_async_send(&c->wake);
	pthread_join(c->thread, NULL);
	pthread_mutex_lock(&sw->lock);
	sw->cluster = NULL;
	pthread_mutex_unlock(&sw->lock);
	uv_loop_close(&c->loop);
	statedir_free(c->dir);
	sw->st.h->statedir_fd = -1;
	mac_free(c->mac);
	aead_openssl_free(c->aead);
	free_all(c);
}

/* ---- asked from outside ---- */

uint64_t cluster_id(const struct switch_ctx *sw)
{
	return sw->cluster != NULL ? sw->cluster->id : 0;
}

bool cluster_is_joining(struct switch_ctx *sw)
{
	struct cluster *c = sw->cluster;
	bool joined;

	if (c == NULL || c->gone || c->joined || !c->has_seeds)
		return false;
	joined = gossip_stats(gossip_uv_lock(c->gossip)).agreed;
	gossip_uv_unlock(c->gossip);
	if (joined || gossip_uv_now() - c->started_us > JOIN_US)
		c->joined = true;
	return !c->joined;
}

void cluster_doubt(struct switch_ctx *sw, uint64_t node)
{
	struct cluster *c = sw->cluster;

	if (c == NULL || c->gone)
		return;
	gossip_hint_down(gossip_uv_lock(c->gossip), gossip_uv_now(), node);
	gossip_uv_unlock(c->gossip);
}

void cluster_reload_keys(struct switch_ctx *sw)
{
	struct cluster *c = sw->cluster;
	struct keyring keys;
	size_t n;
	int r;

	if (c == NULL || c->cfg->key_file == NULL || load_keys(c->cfg, &keys) < 0)
		return;
	n = keys.n; /* wiped with the rest */
	(void)gossip_uv_lock(c->gossip);
	r = aead_openssl_set_keys(c->aead, (const uint8_t(*)[AEAD_KEY_LEN])keys.keys, keys.n);
	gossip_uv_unlock(c->gossip);
	if (r == 0)
		r = mac_set_keys(c->mac, (const uint8_t(*)[MAC_KEY_LEN])keys.keys, keys.n);
	if (r < 0)
		(void)fail(c->cfg->key_file, r);
	else
		log_info("%s was read again: %zu keys", c->cfg->key_file, n);
}

int cluster_leave(struct switch_ctx *sw)
{
	struct cluster *c = sw->cluster;
	bool before;

	if (c == NULL)
		return -ENOTCONN;
	pthread_mutex_lock(&c->queue_lock);
	before = c->left;
	c->left = true;
	pthread_mutex_unlock(&c->queue_lock);
	if (before)
		return -EALREADY;
	uv_async_send(&c->wake);
	return 0;
}
