/* The driver of the gossip core: nodes that find each other and share rows, other threads, and
 * who is kept out. */
#include "gossip_lab.h"

#include <appswitch/userns.h>
#include <appswitch/util.h>

#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include <cmocka.h>

static void test_nodes_find_each_other_by_one_seed_and_share_rows(void **state)
{
	struct as_addr any = as_addr_any(AF_INET6), lo = as_addr_loopback(AF_INET);
	struct gossip_row row = lab_row_of(7);

	(void)state;
	lab_cluster(4);
	/* one with a socket of both families among those with an IPv4 socket */
	lab_node_seed(lab_node_at(AF_INET6, &any, &lo, LAB_KEY, true), &lab_nodes[1]);
	assert_true(lab_wait_for(lab_all_know_all, NULL, LAB_PATIENCE));
	lab_put(&lab_nodes[0], &row);
	assert_true(lab_wait_for(lab_all_have, &row, LAB_PATIENCE));
	assert_int_equal(lab_nodes[4].rows, 1);
	assert_int_equal(gossip_del(gossip_uv_lock(lab_nodes[0].g), gossip_uv_now(), &row), 0);
	gossip_uv_unlock(lab_nodes[0].g);
	assert_true(lab_wait_for(lab_none_has, &row, LAB_PATIENCE));
	assert_int_equal(lab_stats(&lab_nodes[0]).rejected, 0);
}

static bool has_20000(void *arg)
{
	return lab_core_stats(arg).rows == 20000;
}

static void test_a_newcomer_gets_20000_rows_over_a_stream(void **state)
{
	struct lab_node *n;

	(void)state;
	lab_cluster(2);
	for (uint32_t i = 0; i < 20000; i++) {
		struct gossip_row row = lab_row_of(i);

		lab_put(&lab_nodes[0], &row);
	}
	n = lab_node_new();
	lab_node_seed(n, &lab_nodes[0]);
	assert_true(lab_wait_for(has_20000, n, LAB_PATIENCE));
	/* a step is 16 kB and a row at least 30 bytes: not all of it can have been news */
	assert_true(lab_stats(n).frames_in >= 10);
	assert_true(lab_stats(n).adopted >= 1);
	/* one of each other node, used again and again */
	assert_true(lab_stats(n).incoming <= 2);
	assert_int_equal(lab_stats(n).frames_dropped, 0);
	assert_true(lab_wait_for(has_20000, &lab_nodes[1], LAB_PATIENCE));
}

static void test_a_row_of_200_kB_arrives_whole(void **state)
{
	static uint8_t data[200000];
	struct gossip_row row = lab_row_of(1), found;
	uint32_t it;

	(void)state;
	lab_cluster(3);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 131 >> 4);
	row.data = data;
	row.data_len = sizeof(data);
	lab_put(&lab_nodes[0], &row);
	assert_true(lab_wait_for(lab_all_have, &row, LAB_PATIENCE));
	for (unsigned i = 1; i < lab_n_nodes; i++) {
		it = 0;
		assert_true(gossip_lookup(gossip_uv_lock(lab_nodes[i].g), &row, &it, &found));
		assert_int_equal(found.data_len, sizeof(data));
		assert_memory_equal(found.data, data, sizeof(data));
		gossip_uv_unlock(lab_nodes[i].g);
		assert_true(lab_stats(&lab_nodes[i]).frames_in >= 1);
	}
}

static bool rejected_twice_for_the_key(void *arg)
{
	const struct lab_node *n = arg;

	return n->rejected[ENOKEY] >= 2;
}

static void test_a_node_with_another_key_stays_outside(void **state)
{
	struct as_addr lo = as_addr_loopback(AF_INET);
	struct gossip_row row = lab_row_of(1);

	(void)state;
	lab_cluster(2);
	lab_node_at(AF_INET, &lo, &lo, LAB_OTHER_KEY, true);
	lab_node_seed(&lab_nodes[2], &lab_nodes[0]);
	lab_put(&lab_nodes[0], &row);
	assert_true(lab_wait_for(rejected_twice_for_the_key, &lab_nodes[0], LAB_PATIENCE));
	assert_int_equal(lab_core_stats(&lab_nodes[0]).live, 1);
	assert_int_equal(lab_core_stats(&lab_nodes[1]).live, 1);
	assert_int_equal(lab_core_stats(&lab_nodes[2]).live, 0);
	assert_true(lab_has(&lab_nodes[0], &row));
	assert_false(lab_has(&lab_nodes[2], &row));
}

/* Other threads. */

static void *put_and_look(void *arg)
{
	struct lab_node *n = arg;

	for (uint32_t i = 0; i < 500; i++) {
		struct gossip_row row = lab_row_of(i);

		lab_put(n, &row);
		if (!lab_has(n, &row) || lab_core_stats(n).rows < i + 1 ||
		    lab_stats(n).sent == 0)
			return NULL;
	}
	return n;
}

static bool has_500(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < lab_n_nodes; i++) {
		if (lab_core_stats(&lab_nodes[i]).rows != 500)
			return false;
	}
	return true;
}

static void test_changes_of_another_thread_are_seen(void **state)
{
	pthread_t thread;
	void *good;

	(void)state;
	lab_cluster(3);
	assert_int_equal(pthread_create(&thread, NULL, put_and_look, &lab_nodes[1]), 0);
	assert_true(lab_wait_for(has_500, NULL, LAB_PATIENCE));
	assert_int_equal(pthread_join(thread, &good), 0);
	assert_non_null(good);
}

static void *put_one(void *arg)
{
	struct gossip_row row = lab_row_of(1);

	lab_put(arg, &row);
	return arg;
}

static bool is_quiet(void *arg)
{
	struct lab_node *n = arg;
	uint64_t deadline = gossip_deadline(gossip_uv_lock(n->g));
	struct pollfd backend = { .fd = uv_backend_fd(&lab_loop), .events = POLLIN };

	gossip_uv_unlock(n->g);
	return deadline > gossip_uv_now() + 60000 && poll(&backend, 1, 0) == 0;
}

/* Timers do not show on the loop's descriptor and nobody sends, so what shows is the wake-up. */
static void test_a_change_of_another_thread_wakes_the_loop(void **state)
{
	struct as_addr lo = as_addr_loopback(AF_INET);
	struct pollfd backend = { .fd = uv_backend_fd(&lab_loop), .events = POLLIN };
	struct lab_awaited a = { .by = lab_node_new(), .id = 5000 };
	struct lab_played p;
	uint16_t port = 0;
	int fd = lab_bound(AF_INET, SOCK_DGRAM, &lo, &port);
	pthread_t thread;
	uint64_t took = UINT64_MAX;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(aead_openssl_new(LAB_KEY, 1, &lab_aead), 0);
	lab_played_new(&p, 5000, AF_INET, fd, port, &lab_nodes[0].addr);
	assert_true(lab_wait_for(lab_is_alive, &a, LAB_PATIENCE));
	/* a busy host may take so long that the loop's own deadline came as near meanwhile */
	for (unsigned i = 0; i < 20 && took >= 30; i++) {
		assert_true(lab_wait_for(is_quiet, &lab_nodes[0], LAB_PATIENCE));
		took = lab_ms_now();
		assert_int_equal(pthread_create(&thread, NULL, put_one, &lab_nodes[0]), 0);
		assert_int_equal(pthread_join(thread, NULL), 0);
		took = lab_ms_now() - took;
	}
	assert_true(took < 30);
	assert_int_equal(poll(&backend, 1, 0), 1);
	gossip_free(p.core);
	aead_openssl_free(lab_aead);
	close(fd);
}

/* An address that is not loopback, in a namespace of the test's own. */

static bool outside; /* there is one */
static struct as_addr outside_addr;

static bool add_outside(void)
{
	struct ifreq up = { .ifr_name = "lo" }, address = { .ifr_name = "lo:1" };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr = { htonl(0xc0000201) } };
	_cleanup_close_ int fd = -1;
	const char *what;

	if ((geteuid() != 0 && userns_new(&what) < 0) || unshare(CLONE_NEWNET) < 0)
		return false;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	up.ifr_flags = IFF_UP | IFF_RUNNING;
	memcpy(&address.ifr_addr, &in, sizeof(in));
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &up) < 0 ||
	    ioctl(fd, SIOCSIFADDR, &address) < 0) {
		fprintf(stderr, "no second address: %s\n", strerror(errno));
		exit(1);
	}
	outside_addr = as_addr_v4(0xc0000201);
	return true;
}

static bool rejected_for_its_address(void *arg)
{
	const struct lab_node *n = arg;

	return n->rejected[EPERM] > 0;
}

static void test_without_a_key_nothing_but_loopback_is_heard_or_told(void **state)
{
	struct as_addr any = as_addr_any(AF_INET), lo = as_addr_loopback(AF_INET);
	struct lab_node *open, *only;
	struct sockaddr_storage sa;
	struct as_endpoint out;
	struct gossip *core;
	socklen_t len;
	int fd;

	(void)state;
	if (!outside) {
		print_message("no network namespace to be had\n");
		skip();
	}
	only = lab_node_at(AF_INET, &any, &lo, LAB_KEY, true);
	open = lab_node_at(AF_INET, &any, &outside_addr, LAB_KEY, false);
	out = (struct as_endpoint){ .addr = outside_addr, .port = only->addr.port };
	core = gossip_uv_lock(open->g);
	assert_int_equal(gossip_seed(core, gossip_uv_now(), &out), 0);
	gossip_uv_unlock(open->g);
	assert_true(lab_wait_for(rejected_for_its_address, only, LAB_PATIENCE));
	assert_int_equal(lab_core_stats(only).live, 0);
	assert_int_equal(lab_stats(only).unsent, 0);
	out.port = open->addr.port;
	core = gossip_uv_lock(only->g);
	assert_int_equal(gossip_seed(core, gossip_uv_now(), &out), 0);
	gossip_uv_unlock(only->g);
	assert_int_equal(lab_stats(only).unsent, 1);
	assert_int_equal(lab_stats(only).sent, 0);
	/* a stream from there */
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	out.port = only->addr.port;
	len = as_endpoint_to_sockaddr(&out, AF_INET, &sa);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(send(fd, GOSSIP_STREAM_MAGIC, 4, 0), 4);
	assert_true(lab_wait_for(lab_has_ended, &fd, LAB_PATIENCE));
	assert_int_equal(lab_stats(only).refused, 1);
	close(fd);
	/* the same is welcome to one with a key */
	out.port = open->addr.port;
	len = as_endpoint_to_sockaddr(&out, AF_INET, &sa);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(send(fd, GOSSIP_STREAM_MAGIC, 4, 0), 4);
	assert_true(
		lab_wait_for(lab_incoming_is, &(struct lab_incoming){ open, 1 }, LAB_PATIENCE));
	close(fd);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, lab_setup, lab_teardown)
	const struct CMUnitTest tests[] = {
		T(test_nodes_find_each_other_by_one_seed_and_share_rows),
		T(test_a_newcomer_gets_20000_rows_over_a_stream),
		T(test_a_row_of_200_kB_arrives_whole),
		T(test_a_node_with_another_key_stays_outside),
		T(test_changes_of_another_thread_are_seen),
		T(test_a_change_of_another_thread_wakes_the_loop),
		T(test_without_a_key_nothing_but_loopback_is_heard_or_told),
	};

	signal(SIGPIPE, SIG_IGN);
	outside = add_outside();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
