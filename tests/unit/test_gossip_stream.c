/* Streams to a driver, from who is not a member or not well. */
#include "gossip_lab.h"

#include "gossip/stream_uv.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* The first packet of a core: what would make @to know a member @id. */
struct packet {
	uint8_t len[4], data[GOSSIP_DATAGRAM_MAX];
	size_t n;
};

static void keep_packet(void *ctx, uint64_t to, const struct as_endpoint *addr,
			enum gossip_via via, const void *data, size_t len)
{
	struct packet *p = ctx;

	(void)to;
	(void)addr;
	(void)via;
	memcpy(p->data, data, len);
	p->n = len;
	p->len[0] = p->len[1] = 0;
	p->len[2] = (uint8_t)(len >> 8);
	p->len[3] = (uint8_t)len;
}

static void first_packet(struct packet *p, uint64_t id, uint16_t port,
			 const uint8_t (*key)[AEAD_KEY_LEN])
{
	struct as_endpoint addr = lab_at_loopback(AF_INET, port);
	struct aead_openssl *aead;
	struct gossip_config c;
	struct gossip *core;

	assert_int_equal(aead_openssl_new(key, 1, &aead), 0);
	c = lab_core_config(id, &addr, aead);
	c.sink = (struct gossip_sink){ .ctx = p, .send = keep_packet };
	assert_int_equal(gossip_new(&c, gossip_uv_now(), &core), 0);
	assert_int_equal(gossip_seed(core, gossip_uv_now(), &addr), 0);
	gossip_free(core);
	aead_openssl_free(aead);
}

static bool is_readable(void *arg)
{
	struct pollfd p = { .fd = *(int *)arg, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void test_a_frame_in_single_bytes_is_taken_and_its_ping_answered(void **state)
{
	struct as_addr lo = as_addr_loopback(AF_INET);
	struct packet p;
	struct lab_awaited a = { .by = lab_node_new(), .id = 77 };
	struct lab_incoming one = { &lab_nodes[0], 1 };
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	struct as_endpoint self;
	int fd = lab_stream_to(&lab_nodes[0]), udp, wrong;
	uint16_t port = 0;

	(void)state;
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	assert_int_equal(as_endpoint_from_sockaddr(&sa, len, &self), 0);
	wrong = lab_bound(AF_INET, SOCK_DGRAM, &lo, &self.port);
	assert_true(wrong >= 0);
	udp = lab_bound(AF_INET, SOCK_DGRAM, &lo, &port);
	assert_true(udp >= 0);
	first_packet(&p, 77, port, LAB_KEY);
	assert_true(lab_wait_for(lab_incoming_is, &one, LAB_PATIENCE));
	for (size_t i = 0; i < 4 + p.n; i++) {
		const uint8_t *byte = i < 4 ? &p.len[i] : &p.data[i - 4];

		assert_int_equal(lab_stats(&lab_nodes[0]).frames_in, 0);
		assert_int_equal(send(fd, byte, 1, 0), 1);
		uv_run(&lab_loop, UV_RUN_NOWAIT);
	}
	assert_true(lab_wait_for(lab_is_alive, &a, LAB_PATIENCE));
	assert_int_equal(lab_stats(&lab_nodes[0]).frames_in, 1);
	assert_true(lab_incoming_is(&one)); /* the connection stays */
	assert_true(is_readable(&udp));
	assert_false(is_readable(&wrong));
	close(wrong);
	close(fd);
	one.is = 0;
	assert_true(lab_wait_for(lab_incoming_is, &one, LAB_PATIENCE));
	close(udp);
}

static void garbage(const void *data, size_t len, int error)
{
	int fd = lab_stream_to(&lab_nodes[0]);

	assert_int_equal(send(fd, data, len, 0), len);
	assert_true(lab_wait_for(lab_has_ended, &fd, LAB_PATIENCE));
	close(fd);
	if (error != 0)
		assert_int_equal(lab_nodes[0].rejected[error], 1);
}

static void test_garbage_on_a_stream_ends_that_connection_only(void **state)
{
	struct lab_incoming none = { NULL, 0 };
	struct gossip_row row = lab_row_of(1);
	struct packet p;
	uint8_t junk[104] = { 0, 0, 0, 100, 'x' };
	int fd;

	(void)state;
	lab_cluster(2);
	none.n = &lab_nodes[0];
	garbage("\xff\xff\xff\xff", 4, 0); /* too long */
	garbage("\x00\x10\x02\x01", 4, 0); /* by one byte */
	garbage("\0\0\0", 4, 0);	   /* nothing */
	garbage(junk, sizeof(junk), EBADMSG);
	first_packet(&p, 78, 9, LAB_OTHER_KEY);
	garbage(p.len, 4 + p.n, ENOKEY);
	fd = lab_stream_to(&lab_nodes[0]);
	assert_int_equal(send(fd, junk, 50, 0), 50); /* half a frame, then the end */
	none.is = 1;
	assert_true(lab_wait_for(lab_incoming_is, &none, LAB_PATIENCE));
	close(fd);
	none.is = 0;
	assert_true(lab_wait_for(lab_incoming_is, &none, LAB_PATIENCE));
	assert_int_equal(lab_stats(&lab_nodes[0]).frames_in, 2);
	lab_put(&lab_nodes[0], &row);
	assert_true(lab_wait_for(lab_all_have, &row, LAB_PATIENCE));
	assert_int_equal(lab_core_stats(&lab_nodes[0]).live, 1);
}

static void test_the_longest_frame_is_taken_by_its_length(void **state)
{
	static uint8_t frame[4 + GOSSIP_FRAME_MAX] = { 0, 0x10, 0x02, 0x00 };
	size_t done = 0;
	int fd;

	(void)state;
	assert_int_equal(GOSSIP_FRAME_MAX, 0x100200);
	lab_node_new();
	fd = lab_stream_to(&lab_nodes[0]);
	while (done < sizeof(frame)) {
		ssize_t n = send(fd, frame + done, sizeof(frame) - done, MSG_DONTWAIT);

		assert_true(n > 0 || errno == EAGAIN);
		done += n > 0 ? (size_t)n : 0;
		uv_run(&lab_loop, UV_RUN_NOWAIT);
	}
	assert_true(lab_wait_for(lab_has_ended, &fd, LAB_PATIENCE));
	assert_int_equal(lab_stats(&lab_nodes[0]).frames_in, 1); /* whole, and no member's */
	assert_int_equal(lab_nodes[0].rejected[EBADMSG], 1);
	close(fd);
}

static void test_streams_from_one_address_are_bounded(void **state)
{
	int fd[STREAM_PER_SOURCE + 1];
	struct lab_incoming full = { lab_node_new(), STREAM_PER_SOURCE };

	(void)state;
	for (unsigned i = 0; i < STREAM_PER_SOURCE; i++)
		fd[i] = lab_stream_to(&lab_nodes[0]);
	assert_true(lab_wait_for(lab_incoming_is, &full, LAB_PATIENCE));
	fd[STREAM_PER_SOURCE] = lab_stream_to(&lab_nodes[0]);
	assert_true(lab_wait_for(lab_has_ended, &fd[STREAM_PER_SOURCE], LAB_PATIENCE));
	assert_int_equal(lab_stats(&lab_nodes[0]).refused, 1);
	for (unsigned i = 0; i < STREAM_PER_SOURCE; i++)
		assert_false(lab_has_ended(&fd[i]));
	close(fd[0]);
	full.is--;
	assert_true(lab_wait_for(lab_incoming_is, &full, LAB_PATIENCE));
	fd[0] = lab_stream_to(&lab_nodes[0]);
	full.is++;
	assert_true(lab_wait_for(lab_incoming_is, &full, LAB_PATIENCE));
	for (unsigned i = 0; i <= STREAM_PER_SOURCE; i++)
		close(fd[i]);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, lab_setup, lab_teardown)
	const struct CMUnitTest tests[] = {
		T(test_a_frame_in_single_bytes_is_taken_and_its_ping_answered),
		T(test_garbage_on_a_stream_ends_that_connection_only),
		T(test_the_longest_frame_is_taken_by_its_length),
		T(test_streams_from_one_address_are_bounded),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
