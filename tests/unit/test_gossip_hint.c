/* ICMP errors of what a driver sent: who is gone is asked out of turn. */
#include "gossip_lab.h"

#include <appswitch/util.h>

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* Played members, so that only the node under test finds out who is gone. */
#define CROWD 40

static struct lab_played crowd[CROWD];
static uv_poll_t crowd_poll;

static void on_crowd(uv_poll_t *p, int status, int events)
{
	uint8_t buf[GOSSIP_DATAGRAM_MAX];
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	struct as_endpoint from;
	ssize_t n;

	(void)p;
	(void)events;
	assert_int_equal(status, 0);
	while ((n = recvfrom(crowd[0].fd, buf, sizeof(buf), 0, (struct sockaddr *)&sa, &len)) >=
	       0) {
		assert_int_equal(as_endpoint_from_sockaddr(&sa, len, &from), 0);
		for (unsigned i = 0; i < CROWD; i++) /* the one who is meant knows */
			(void)gossip_input(crowd[i].core, gossip_uv_now(), &from,
					   GOSSIP_DATAGRAM, buf, (size_t)n);
	}
}

static bool knows_crowd(void *arg)
{
	return lab_core_stats(arg).live >= CROWD;
}

static int crowd_setup(void **state)
{
	struct as_addr lo = as_addr_loopback(AF_INET);
	uint16_t port = 0;
	int fd;

	if (lab_setup(state) < 0)
		return -1;
	lab_plain = true; /* its patience must not grow with each silent one */
	lab_node_new();
	lab_plain = false;
	assert_int_equal(aead_openssl_new(LAB_KEY, 1, &lab_aead), 0);
	fd = lab_bound(AF_INET, SOCK_DGRAM, &lo, &port);
	assert_true(fd >= 0);
	for (unsigned i = 0; i < CROWD; i++)
		lab_played_new(&crowd[i], 1000 + i, AF_INET, fd, port, &lab_nodes[0].addr);
	uv_poll_init(&lab_loop, &crowd_poll, fd);
	uv_poll_start(&crowd_poll, UV_READABLE, on_crowd);
	assert_true(lab_wait_for(knows_crowd, &lab_nodes[0], LAB_PATIENCE));
	return 0;
}

static int crowd_teardown(void **state)
{
	int r;

	uv_close((uv_handle_t *)&crowd_poll, NULL);
	r = lab_teardown(state);
	for (unsigned i = 0; i < CROWD; i++)
		gossip_free(crowd[i].core);
	close(crowd[0].fd);
	aead_openssl_free(lab_aead);
	return r;
}

/* One that joins and is never heard of again, its socket closed or only mute. Returns the
 * milliseconds until the node under test suspects it, at most @limit and a little.
 * @ret_fd: the socket of a mute one; NULL: close it. */
static uint64_t silent_one(uint64_t id, uint64_t limit, int *ret_fd)
{
	struct as_addr lo = as_addr_loopback(AF_INET);
	struct lab_awaited a = { .by = &lab_nodes[0], .id = id };
	struct lab_played p;
	uint16_t port = 0;
	uint64_t begin;
	int fd = lab_bound(AF_INET, SOCK_DGRAM, &lo, &port);

	assert_true(fd >= 0);
	lab_played_new(&p, id, AF_INET, fd, port, &lab_nodes[0].addr);
	if (ret_fd == NULL)
		close(fd);
	else
		*ret_fd = fd;
	begin = lab_ms_now();
	assert_true(lab_wait_for(lab_is_alive, &a, LAB_PATIENCE));
	(void)lab_wait_for(lab_is_suspected, &a, limit);
	begin = lab_ms_now() - begin;
	gossip_free(p.core);
	return begin;
}

/* The turn of one among forty comes within ten seconds. The answer to a closed one's packet
 * brings an ICMP error, and it is asked at once. A mute one has to wait for its turn; by chance
 * that may come soon, but not to most. */
static void test_a_closed_socket_is_suspected_before_its_turn(void **state)
{
	uint64_t worst = 0, hints;
	unsigned later = 0;
	int mute[5];

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		uint64_t ms;

		hints = lab_stats(&lab_nodes[0]).hints;
		ms = silent_one(5000 + i, LAB_PATIENCE, NULL);
		assert_true(lab_stats(&lab_nodes[0]).hints > hints);
		worst = ms > worst ? ms : worst;
	}
	for (unsigned i = 0; i < 5; i++) {
		hints = lab_stats(&lab_nodes[0]).hints;
		later += silent_one(6000 + i, worst + 50, &mute[i]) >= worst + 50;
		assert_int_equal(lab_stats(&lab_nodes[0]).hints, hints);
	}
	printf("closed: suspected within %u ms; mute: %u of 5 were not by then\n",
	       (unsigned)worst, later);
	assert_true(later >= 3);
	for (unsigned i = 0; i < 5; i++)
		close(mute[i]);
}

static bool hinted(void *arg)
{
	return lab_stats(arg).hints > 0;
}

static void hint_over(int family, const struct as_addr *node_said, int peer_family)
{
	struct as_addr lo = as_addr_loopback(peer_family);
	struct as_addr on = family == AF_INET6 ? as_addr_any(family) : lo;
	struct lab_node *n = lab_node_at(family, &on, node_said, LAB_KEY, true);
	struct lab_played p;
	uint16_t port = 0;
	int fd = lab_bound(peer_family, SOCK_DGRAM, &lo, &port);

	assert_true(fd >= 0);
	assert_int_equal(aead_openssl_new(LAB_KEY, 1, &lab_aead), 0);
	lab_played_new(&p, 5000, peer_family, fd, port, &n->addr);
	close(fd);
	assert_true(lab_wait_for(hinted, n, LAB_PATIENCE));
	gossip_free(p.core);
	aead_openssl_free(lab_aead);
}

static void test_icmp_is_understood_on_ipv4_ipv6_and_both(void **state)
{
	struct as_addr v4 = as_addr_loopback(AF_INET), v6 = as_addr_loopback(AF_INET6);

	(void)state;
	hint_over(AF_INET, &v4, AF_INET);
	hint_over(AF_INET6, &v4, AF_INET);
	hint_over(AF_INET6, &v6, AF_INET6);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, lab_setup, lab_teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_a_closed_socket_is_suspected_before_its_turn, crowd_setup,
			crowd_teardown),
		T(test_icmp_is_understood_on_ipv4_ipv6_and_both),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
