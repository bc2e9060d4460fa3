/* Sealed packets: authentic, of a key we have, of a version we read, and each only once. */
#include "gossip/aead_openssl.h"
#include "gossip/packet.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint8_t keys[3][AEAD_KEY_LEN] = { { 1 }, { 2 }, { 3 } };

static struct aead_openssl *ring(const uint8_t (*k)[AEAD_KEY_LEN], size_t n)
{
	struct aead_openssl *a = NULL;

	assert_int_equal(aead_openssl_new(k, n, &a), 0);
	return a;
}

static struct packet_io end_with(struct aead_openssl *a, uint64_t session)
{
	struct gossip_aead ops = aead_openssl_ops(a);
	struct packet_io io;

	packet_init(&io, &ops, session);
	return io;
}

/* A packet that says @text. */
static size_t say(struct packet_io *io, const char *text, uint8_t buf[WIRE_UDP_MAX])
{
	struct wr w = packet_begin(buf, WIRE_UDP_MAX);
	long n;

	memcpy(w.p, text, strlen(text));
	w.len = strlen(text);
	n = packet_seal(io, buf, &w);
	assert_true(n == (long)(WIRE_HEADER_LEN + WIRE_TAG_LEN + strlen(text)));
	return (size_t)n;
}

static void test_a_packet_arrives_and_hides_what_it_says(void **state)
{
	struct aead_openssl *a = ring(keys, 1), *b = ring(keys, 1);
	struct packet_io from = end_with(a, 11), to = end_with(b, 22);
	uint8_t buf[WIRE_UDP_MAX], out[WIRE_UDP_MAX];
	struct rd body;
	size_t n = say(&from, "to whom it may concern", buf);

	(void)state;
	assert_null(memmem(buf, n, "whom", 4));
	assert_int_equal(packet_open(&to, buf, n, out, &body), 0);
	assert_int_equal(body.left, 22);
	assert_memory_equal(body.p, "to whom it may concern", 22);
	packet_done(&from);
	packet_done(&to);
	aead_openssl_free(a);
	aead_openssl_free(b);
}

static void test_any_changed_bit_is_refused(void **state)
{
	struct aead_openssl *a = ring(keys, 1), *b = ring(keys, 1);
	struct packet_io from = end_with(a, 11), to = end_with(b, 22);
	uint8_t buf[WIRE_UDP_MAX], out[WIRE_UDP_MAX];
	struct rd body;
	size_t n = say(&from, "abc", buf);

	(void)state;
	for (size_t bit = 0; bit < n * 8; bit++) {
		int r;

		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		r = packet_open(&to, buf, n, out, &body);
		assert_true(r == -EBADMSG || r == -ENOKEY || r == -EPROTO);
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	for (size_t cut = 0; cut < n; cut++)
		assert_true(packet_open(&to, buf, cut, out, &body) < 0);
	/* and none of that counted as seen */
	assert_int_equal(packet_open(&to, buf, n, out, &body), 0);
	packet_done(&from);
	packet_done(&to);
	aead_openssl_free(a);
	aead_openssl_free(b);
}

static void test_the_first_key_encrypts_and_all_decrypt(void **state)
{
	const uint8_t both[2][AEAD_KEY_LEN] = { { 2 }, { 1 } };
	struct aead_openssl *a = ring(keys, 1), *b = ring(keys + 1, 1);
	struct packet_io from = end_with(a, 11), to = end_with(b, 22);
	uint8_t buf[WIRE_UDP_MAX], out[WIRE_UDP_MAX];
	struct rd body;
	size_t n = say(&from, "old key", buf);

	(void)state;
	assert_int_equal(packet_open(&to, buf, n, out, &body), -ENOKEY);
	assert_int_equal(aead_openssl_set_keys(b, both, 2), 0);
	assert_int_equal(packet_open(&to, buf, n, out, &body), 0);
	/* the sender rotates: new key first, old one still known */
	assert_int_equal(aead_openssl_set_keys(a, both, 2), 0);
	n = say(&from, "new key", buf);
	assert_int_equal(aead_openssl_set_keys(b, keys + 1, 1), 0);
	assert_int_equal(packet_open(&to, buf, n, out, &body), 0);
	packet_done(&from);
	packet_done(&to);
	aead_openssl_free(a);
	aead_openssl_free(b);
}

static void test_a_ring_of_none_too_many_or_twice_the_same_is_refused(void **state)
{
	const uint8_t twice[2][AEAD_KEY_LEN] = { { 1 }, { 1 } };
	uint8_t many[AEAD_KEYS + 1][AEAD_KEY_LEN] = { { 0 } };
	struct aead_openssl *a = NULL;

	(void)state;
	for (size_t i = 0; i <= AEAD_KEYS; i++)
		many[i][0] = (uint8_t)i;
	assert_int_equal(aead_openssl_new(keys, 0, &a), -EINVAL);
	assert_int_equal(aead_openssl_new(twice, 2, &a), -EINVAL);
	assert_int_equal(
		aead_openssl_new((const uint8_t(*)[AEAD_KEY_LEN])many, AEAD_KEYS + 1, &a),
		-EINVAL);
	assert_null(a);
	assert_int_equal(aead_openssl_new((const uint8_t(*)[AEAD_KEY_LEN])many, AEAD_KEYS, &a),
			 0);
	aead_openssl_free(a);
}

static void test_a_packet_is_taken_once_in_any_order_within_the_window(void **state)
{
	enum { N = 200 };
	struct aead_openssl *a = ring(keys, 1), *b = ring(keys, 1);
	struct packet_io from = end_with(a, 11), to = end_with(b, 22);
	static uint8_t buf[N][WIRE_UDP_MAX];
	uint8_t out[WIRE_UDP_MAX];
	size_t len[N];
	struct rd body;

	(void)state;
	for (unsigned i = 0; i < N; i++)
		len[i] = say(&from, "x", buf[i]);
	for (unsigned i = 0; i < 100; i += 2)
		assert_int_equal(packet_open(&to, buf[i], len[i], out, &body), 0);
	/* 98 is the highest: 63 below it are still welcome, once; what is older is not */
	for (unsigned i = 1; i < 98; i += 2)
		assert_int_equal(packet_open(&to, buf[i], len[i], out, &body),
				 i < 98 - 63 ? -EALREADY : 0);
	for (unsigned i = 0; i < 99; i++)
		assert_int_equal(packet_open(&to, buf[i], len[i], out, &body), -EALREADY);
	assert_int_equal(packet_open(&to, buf[N - 1], len[N - 1], out, &body), 0);
	assert_int_equal(packet_open(&to, buf[N - 64], len[N - 64], out, &body), 0);
	assert_int_equal(packet_open(&to, buf[N - 65], len[N - 65], out, &body), -EALREADY);
	/* our own packet, reflected */
	len[0] = say(&to, "x", buf[0]);
	assert_int_equal(packet_open(&to, buf[0], len[0], out, &body), -ELOOP);
	packet_done(&from);
	packet_done(&to);
	aead_openssl_free(a);
	aead_openssl_free(b);
}

static void test_windows_of_many_sessions_do_not_mix(void **state)
{
	enum { SESSIONS = 500 };
	struct aead_openssl *a = ring(keys, 1), *b = ring(keys, 1);
	struct packet_io to = end_with(b, 7);
	uint8_t out[WIRE_UDP_MAX];
	struct rd body;

	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < SESSIONS; i++) {
			struct packet_io from = end_with(a, 1000 + i);
			uint8_t buf[WIRE_UDP_MAX];
			size_t n = say(&from, "x", buf); /* counter 1, each time */

			assert_int_equal(packet_open(&to, buf, n, out, &body),
					 round == 0 ? 0 : -EALREADY);
			packet_done(&from);
		}
	}
	packet_done(&to);
	aead_openssl_free(a);
	aead_openssl_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_packet_arrives_and_hides_what_it_says),
		cmocka_unit_test(test_any_changed_bit_is_refused),
		cmocka_unit_test(test_the_first_key_encrypts_and_all_decrypt),
		cmocka_unit_test(test_a_ring_of_none_too_many_or_twice_the_same_is_refused),
		cmocka_unit_test(test_a_packet_is_taken_once_in_any_order_within_the_window),
		cmocka_unit_test(test_windows_of_many_sessions_do_not_mix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
