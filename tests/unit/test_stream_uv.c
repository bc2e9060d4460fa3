/* The connections that carry gossip frames: what is kept, what is given up, and when. */
#include "gossip/stream_uv.h"

#include <appswitch/util.h>

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define PATIENCE 30000u
#define SHORT	 200u /* milliseconds, for what takes minutes in use */

static uv_loop_t loop;
static struct streams s;
static bool closed, good;
static size_t frames, bytes, last_len;
static uint8_t seen[8]; /* the first byte of each frame */

static uint64_t ms_now(void)
{
	return uv_hrtime() / 1000000;
}

static bool wait_for(bool (*is)(void *arg), void *arg)
{
	uint64_t end = ms_now() + PATIENCE;

	while (!is(arg)) {
		if (ms_now() >= end)
			return false;
		uv_run(&loop, UV_RUN_ONCE);
	}
	return true;
}

static bool on_frame(void *ctx, const struct as_endpoint *from, const void *data, size_t len)
{
	assert_ptr_equal(ctx, &s);
	assert_true(as_addr_is_loopback(&from->addr));
	if (frames < sizeof(seen))
		seen[frames] = *(const uint8_t *)data;
	frames++;
	bytes += len;
	last_len = len;
	return good;
}

static void on_closed(void *ctx)
{
	(void)ctx;
	closed = true;
}

static int setup(void **state)
{
	(void)state;
	frames = bytes = 0;
	good = true;
	closed = false;
	s = (struct streams){
		.loop = &loop, .ctx = &s, .frame = on_frame, .closed = on_closed
	};
	if (uv_loop_init(&loop) < 0)
		return -1;
	streams_init(&s);
	s.sweep_ms = SHORT / 8;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	streams_close(&s);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_true(closed);
	assert_int_equal(s.n_out + s.n_in, 0);
	return uv_loop_close(&loop);
}

static int listener(int backlog, struct as_endpoint *ret)
{
	struct sockaddr_storage sa;
	socklen_t len;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	*ret = (struct as_endpoint){ .addr = as_addr_loopback(AF_INET) };
	len = as_endpoint_to_sockaddr(ret, AF_INET, &sa);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(listen(fd, backlog), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	assert_int_equal(as_endpoint_from_sockaddr(&sa, len, ret), 0);
	return fd;
}

/* From 127.0.0.@source; non-blocking. */
static int client(const struct as_endpoint *to, unsigned source)
{
	struct as_endpoint from = { .addr = as_addr_v4(0x7f000000 + source) };
	struct sockaddr_storage sa;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	assert_int_equal(
		bind(fd, (struct sockaddr *)&sa, as_endpoint_to_sockaddr(&from, AF_INET, &sa)),
		0);
	assert_true(connect(fd, (struct sockaddr *)&sa,
			    as_endpoint_to_sockaddr(to, AF_INET, &sa)) == 0 ||
		    errno == EINPROGRESS);
	return fd;
}

static void send_frame(const struct as_endpoint *to, uint8_t byte, size_t len)
{
	uint8_t *data = malloc(len);
	struct stream_frame *f;

	assert_non_null(data);
	memset(data, byte, len);
	f = stream_frame_new(to, data, len);
	assert_non_null(f);
	streams_send(&s, f);
	free(data);
}

static bool frames_are(void *arg)
{
	return frames == *(size_t *)arg;
}

static bool none_out(void *arg)
{
	(void)arg;
	return s.n_out == 0;
}

static bool none_in(void *arg)
{
	(void)arg;
	return s.n_in == 0;
}

static bool one_dropped(void *arg)
{
	(void)arg;
	return s.frames_dropped == 1;
}

static bool all_out(void *arg)
{
	return s.frames_out == *(uint64_t *)arg;
}

struct accepted {
	int listener, fd;
	size_t have;
	uint8_t data[64];
};

static bool is_accepted(void *arg)
{
	struct accepted *a = arg;

	a->fd = accept4(a->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	return a->fd >= 0;
}

static bool has_ended(void *arg)
{
	struct accepted *a = arg;
	ssize_t n = recv(a->fd, a->data + a->have, sizeof(a->data) - a->have, 0);

	if (n > 0)
		a->have += (size_t)n;
	return n == 0;
}

static bool has_magic(void *arg)
{
	struct accepted *a = arg;

	(void)has_ended(a);
	return a->have >= 4;
}

/* What a caller does: accept, read the magic, no more. */
static void take_over(struct accepted *a)
{
	uint8_t magic[4];

	assert_true(wait_for(is_accepted, a));
	while (recv(a->fd, magic, 4, 0) != 4)
		uv_run(&loop, UV_RUN_NOWAIT);
	assert_memory_equal(magic, GOSSIP_STREAM_MAGIC, 4);
	streams_adopt(&s, a->fd);
}

static void test_frames_of_all_sizes_share_one_connection_in_order(void **state)
{
	struct as_endpoint to;
	struct accepted a = { .listener = listener(1, &to) };
	size_t want = 3;

	(void)state;
	send_frame(&to, 1, 1);
	send_frame(&to, 2, 16384);
	send_frame(&to, 3, GOSSIP_FRAME_MAX);
	take_over(&a);
	assert_true(wait_for(frames_are, &want));
	assert_int_equal(bytes, 1 + 16384 + GOSSIP_FRAME_MAX);
	assert_int_equal(last_len, GOSSIP_FRAME_MAX);
	assert_memory_equal(seen, "\1\2\3", 3);
	assert_int_equal(s.connects, 1);
	assert_int_equal(s.adopted, 1);
	close(a.listener);
}

static void test_a_frame_that_is_refused_ends_the_connection(void **state)
{
	struct as_endpoint to;
	struct accepted a = { .listener = listener(1, &to) };
	size_t one = 1;

	(void)state;
	good = false;
	send_frame(&to, 1, 100);
	send_frame(&to, 2, 100);
	take_over(&a);
	assert_true(wait_for(none_in, NULL));
	assert_true(frames_are(&one));
	assert_true(wait_for(none_out, NULL)); /* the other end sees it too */
	close(a.listener);
}

static void test_a_frame_for_who_does_not_listen_is_dropped(void **state)
{
	struct as_endpoint to;

	(void)state;
	close(listener(1, &to));
	send_frame(&to, 1, 100);
	assert_int_equal(s.n_out, 1);
	assert_true(wait_for(none_out, NULL));
	assert_true(wait_for(one_dropped, NULL));
	assert_int_equal(s.frames_out, 0);
}

static void test_connecting_is_given_up_after_its_time(void **state)
{
	struct as_endpoint to;
	int fd = listener(0, &to), full[3];
	uint64_t begin;

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		full[i] = client(&to, 1); /* takes the places in the backlog */
	s.connect_ms = SHORT;
	uv_update_time(&loop);
	begin = ms_now();
	send_frame(&to, 1, 100);
	assert_true(wait_for(none_out, NULL));
	assert_true(ms_now() - begin >= SHORT - 1);
	assert_true(wait_for(one_dropped, NULL));
	for (unsigned i = 0; i < 3; i++)
		close(full[i]);
	close(fd);
}

static void test_an_idle_outgoing_connection_ends_and_the_next_frame_opens_another(void **state)
{
	struct as_endpoint to;
	struct accepted a = { .listener = listener(2, &to) };
	uint64_t begin, one = 1;

	(void)state;
	s.out_idle_ms = SHORT;
	send_frame(&to, 1, 5);
	assert_true(wait_for(all_out, &one));
	begin = ms_now();
	assert_true(wait_for(none_out, NULL));
	assert_true(ms_now() - begin >= SHORT / 2);
	assert_true(wait_for(is_accepted, &a));
	assert_true(wait_for(has_ended, &a));
	assert_int_equal(a.have, 4 + 4 + 5);
	assert_memory_equal(a.data, GOSSIP_STREAM_MAGIC "\0\0\0\5\1\1\1\1\1", 13);
	close(a.fd);
	send_frame(&to, 1, 5);
	assert_int_equal(s.connects, 2);
	one = 2;
	assert_true(wait_for(all_out, &one));
	assert_int_equal(s.frames_dropped, 0);
	close(a.listener);
}

static bool none_in_though_it_drips(void *arg)
{
	(void)send(*(int *)arg, "", 1, MSG_NOSIGNAL);
	return s.n_in == 0;
}

static void test_an_incoming_connection_needs_whole_frames_to_stay(void **state)
{
	struct as_endpoint to;
	struct accepted a = { .listener = listener(1, &to) };
	int fd = client(&to, 1);
	uint64_t begin;

	(void)state;
	s.in_idle_ms = SHORT;
	assert_int_equal(send(fd, GOSSIP_STREAM_MAGIC "\0\x0f\0\0", 8, 0), 8);
	take_over(&a);
	begin = ms_now();
	assert_true(wait_for(none_in_though_it_drips, &fd));
	assert_true(ms_now() - begin >= SHORT / 2);
	assert_int_equal(frames, 0);
	close(fd);
	close(a.listener);
}

static void test_the_65th_outgoing_connection_takes_the_place_of_the_most_idle(void **state)
{
	struct as_endpoint to[STREAM_OUT_MAX + 1];
	struct accepted a[STREAM_OUT_MAX + 1] = { 0 };
	uint64_t sent = 0;

	(void)state;
	for (unsigned i = 0; i <= STREAM_OUT_MAX; i++) {
		/* of the same millisecond none is more idle than another */
		uint64_t until = ms_now() + 2;

		while (i <= 1 && ms_now() < until)
			;
		uv_update_time(&loop);
		a[i].listener = listener(1, &to[i]);
		send_frame(&to[i], 1, 5);
		sent++;
		assert_true(wait_for(all_out, &sent));
		assert_int_equal(s.n_out, i < STREAM_OUT_MAX ? i + 1 : STREAM_OUT_MAX);
	}
	assert_true(wait_for(is_accepted, &a[0]));
	assert_true(wait_for(has_ended, &a[0]));
	assert_int_equal(a[0].have, 13);
	for (unsigned i = 1; i <= STREAM_OUT_MAX; i++) {
		assert_true(wait_for(is_accepted, &a[i]));
		assert_true(wait_for(has_magic, &a[i]));
		assert_false(has_ended(&a[i]));
	}
	for (unsigned i = 0; i <= STREAM_OUT_MAX; i++) {
		close(a[i].fd);
		close(a[i].listener);
	}
	assert_int_equal(s.frames_dropped, 0);
}

static void test_what_waits_for_one_that_does_not_read_is_bounded(void **state)
{
	struct as_endpoint to;
	int fd = listener(1, &to);
	unsigned n = 0;

	(void)state;
	for (; n < 100 && s.frames_dropped == 0; n++) {
		send_frame(&to, 1, GOSSIP_FRAME_MAX);
		uv_run(&loop, UV_RUN_NOWAIT);
	}
	/* four here, and what the kernel has taken */
	assert_true(n > 4 && n < 30);
	assert_int_equal(s.n_out, 1);
	close(fd);
}

static void test_incoming_connections_are_bounded(void **state)
{
	struct as_endpoint to;
	struct accepted a = { .listener = listener(4, &to) };
	int fd[STREAM_IN_MAX + 1];

	(void)state;
	for (unsigned i = 0; i <= STREAM_IN_MAX; i++) {
		fd[i] = client(&to, 1 + i / STREAM_PER_SOURCE);
		assert_int_equal(send(fd[i], GOSSIP_STREAM_MAGIC, 4, 0), 4);
		take_over(&a);
	}
	assert_int_equal(s.n_in, STREAM_IN_MAX);
	assert_int_equal(s.refused, 1);
	a.fd = fd[STREAM_IN_MAX];
	assert_true(wait_for(has_ended, &a));
	for (unsigned i = 0; i <= STREAM_IN_MAX; i++)
		close(fd[i]);
	assert_true(wait_for(none_in, NULL));
	close(a.listener);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_frames_of_all_sizes_share_one_connection_in_order),
		T(test_a_frame_that_is_refused_ends_the_connection),
		T(test_a_frame_for_who_does_not_listen_is_dropped),
		T(test_connecting_is_given_up_after_its_time),
		T(test_an_idle_outgoing_connection_ends_and_the_next_frame_opens_another),
		T(test_an_incoming_connection_needs_whole_frames_to_stay),
		T(test_the_65th_outgoing_connection_takes_the_place_of_the_most_idle),
		T(test_what_waits_for_one_that_does_not_read_is_bounded),
		T(test_incoming_connections_are_bounded),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
