/* The hello between nodes: its bytes, what is refused, and what each check is against. */
#include "traphandler/remote/hello.h"

#include <appswitch/util.h>

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define NOW 1700000000000000

static struct hello some(void)
{
	struct hello h = { .version = HELLO_VERSION,
			   .face = AF_INET,
			   .key_id = 0x01020304,
			   .network = 0x11121314,
			   .dest_id = 0x2122232425262728,
			   .dest_generation = 0x31323334,
			   .src_id = 0x4142434445464748,
			   .src_generation = 0x51525354,
			   .client_app = 0x61626364,
			   .server_app = 0x71727374,
			   .time = NOW,
			   .nonce = 0x8182838485868788,
			   .tags = 0x9192939495969798,
			   .vip = as_addr_v4(0x0a000005),
			   .client = { as_addr_v4(0x0a000001), 0xa1a2 },
			   .server = { as_addr_v4(0x7f000001), 0xb1b2 } };

	return h;
}

static void test_the_bytes_are_as_described(void **state)
{
	static const uint8_t want[HELLO_SIZE] = {
		'A',  'S',  'H',  '1',	1,    1,    0,	  4, /* magic, version, compat, kind, face */
		1,    2,    3,	  4,	0x11, 0x12, 0x13, 0x14, /* key id, network */
		0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, /* destination */
		0x31, 0x32, 0x33, 0x34,				/* its generation */
		0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, /* source */
		0x51, 0x52, 0x53, 0x54,				/* its generation */
		0x61, 0x62, 0x63, 0x64, 0x71, 0x72, 0x73, 0x74, /* apps */
		0,    6,    0x0a, 0x24, 0x18, 0x1e, 0x40, 0,	/* time */
		0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, /* nonce */
		0x91, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, /* tags */
		0,    0,    0,	  0,	0,    0,    0,	  0,	0, 0, 0xff, 0xff,
		10,   0,    0,	  5, /* virtual IP */
		0,    0,    0,	  0,	0,    0,    0,	  0,	0, 0, 0xff, 0xff,
		10,   0,    0,	  1,	0xa1, 0xa2, 0,	  0,	0, 0, 0,    0,
		0,    0,    0,	  0,	0xff, 0xff, 127,  0,	0, 1, 0xb1, 0xb2,
	};
	struct hello h = some();
	uint8_t out[HELLO_SIZE];

	(void)state;
	memset(out, 0xee, sizeof(out)); /* reserved bytes and the tag are zero */
	hello_encode(&h, out);
	assert_memory_equal(out, want, sizeof(out));
}

static void test_what_is_written_is_read_back(void **state)
{
	struct hello h = some(), back;
	uint8_t out[HELLO_SIZE];

	(void)state;
	for (int face = 0; face < 2; face++) {
		memset(&back, 0, sizeof(back));
		h.face = face ? AF_INET6 : AF_INET;
		if (face) {
			h.vip = h.client.addr = h.server.addr = as_addr_loopback(AF_INET6);
			h.time = -5;
			h.server_app = 0;
		}
		hello_encode(&h, out);
		assert_int_equal(hello_decode(out, sizeof(out), &back), 0);
		assert_int_equal(back.version, h.version);
		assert_int_equal(back.kind, h.kind);
		assert_int_equal(back.face, h.face);
		assert_int_equal(back.key_id, h.key_id);
		assert_int_equal(back.network, h.network);
		assert_true(back.dest_id == h.dest_id);
		assert_int_equal(back.dest_generation, h.dest_generation);
		assert_true(back.src_id == h.src_id);
		assert_int_equal(back.src_generation, h.src_generation);
		assert_int_equal(back.client_app, h.client_app);
		assert_int_equal(back.server_app, h.server_app);
		assert_true(back.time == h.time);
		assert_true(back.nonce == h.nonce);
		assert_true(back.tags == h.tags);
		assert_true(as_addr_eq(&back.vip, &h.vip));
		assert_true(as_addr_eq(&back.client.addr, &h.client.addr));
		assert_true(as_addr_eq(&back.server.addr, &h.server.addr));
		assert_int_equal(back.client.port, h.client.port);
		assert_int_equal(back.server.port, h.server.port);
	}
}

static void expect(const uint8_t *buf, size_t len, int r)
{
	uint8_t *tight = malloc(len ? len : 1); /* exact: ASan sees one byte over */
	struct hello h = { .nonce = 99 };

	assert_non_null(tight);
	memcpy(tight, buf, len);
	assert_int_equal(hello_decode(tight, len, &h), r);
	assert_true(h.nonce == 99); /* untouched on failure */
	free(tight);
}

static void test_every_truncation_is_refused(void **state)
{
	struct hello h = some();
	uint8_t out[HELLO_SIZE];

	(void)state;
	hello_encode(&h, out);
	for (size_t cut = 0; cut < sizeof(out); cut++)
		expect(out, cut, -EBADMSG);
}

static void test_what_cannot_be_is_refused(void **state)
{
	static const struct {
		size_t at;
		uint8_t value;
		int r;
	} bad[] = {
		{ 0, 'a', -EBADMSG },	   /* magic */
		{ 3, '2', -EBADMSG },	   /* magic */
		{ 4, 0, -EBADMSG },	   /* version below compat */
		{ 5, 0, -EBADMSG },	   /* no version can read it */
		{ 7, 0, -EBADMSG },	   /* face */
		{ 7, 5, -EBADMSG },	   /* face */
		{ 88 + 10, 0, -EBADMSG },  /* client: IPv6 at an AF_INET socket */
		{ 106 + 10, 0, -EBADMSG }, /* server: the same */
	};
	struct hello h = some();
	uint8_t out[HELLO_SIZE];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		hello_encode(&h, out);
		out[bad[i].at] = bad[i].value;
		expect(out, sizeof(out), bad[i].r);
	}
	hello_encode(&h, out);
	memset(out + 122, 0, 2); /* the server's port */
	expect(out, sizeof(out), -EBADMSG);
	hello_encode(&h, out);
	memset(out + 56, 0, 8); /* the nonce */
	expect(out, sizeof(out), -EBADMSG);
}

static void test_a_later_version_is_read_if_it_says_so(void **state)
{
	struct hello h = some(), back;
	uint8_t out[HELLO_SIZE];

	(void)state;
	hello_encode(&h, out);
	out[4] = 7;
	out[5] = HELLO_VERSION;
	memset(out + 124, 0x55, 4); /* its reserved bytes may mean something */
	assert_int_equal(hello_decode(out, sizeof(out), &back), 0);
	assert_int_equal(back.version, 7);
	out[5] = HELLO_VERSION + 1;
	out[7] = 99; /* nothing behind it is judged */
	expect(out, sizeof(out), -EPROTO);
}

/* --- checks --- */

static const struct hello_self self = { .id = 7, .generation = 3, .started_us = NOW };

static struct hello good(void)
{
	struct hello h = some();

	h.dest_id = 7;
	h.dest_generation = 3;
	return h;
}

static void test_a_hello_for_another_node_is_refused(void **state)
{
	struct hello h = good();

	(void)state;
	assert_int_equal(hello_check(&h, &self, NOW), HELLO_OK);
	h.dest_id = 8;
	assert_int_equal(hello_check(&h, &self, NOW), HELLO_NOT_FOR_US);
}

static void test_only_generations_whose_nonces_are_known_are_accepted(void **state)
{
	struct hello_self known = self;
	struct hello h = good();

	(void)state;
	h.dest_generation = 2;
	assert_int_equal(hello_check(&h, &self, NOW), HELLO_STALE_GENERATION);
	known.previous_generation = 2;
	assert_int_equal(hello_check(&h, &known, NOW), HELLO_OK);
	h.dest_generation = 1;
	assert_int_equal(hello_check(&h, &known, NOW), HELLO_STALE_GENERATION);
	h.dest_generation = 4;
	assert_int_equal(hello_check(&h, &known, NOW), HELLO_STALE_GENERATION);
	h.dest_generation = 0; /* 0 says that there is none, and is none */
	assert_int_equal(hello_check(&h, &self, NOW), HELLO_STALE_GENERATION);
}

static void test_the_clock_window_is_exact_on_both_sides(void **state)
{
	struct hello h = good();

	(void)state;
	assert_int_equal(hello_check(&h, &self, NOW + HELLO_WINDOW_US), HELLO_OK);
	assert_int_equal(hello_check(&h, &self, NOW + HELLO_WINDOW_US + 1), HELLO_CLOCK);
	assert_int_equal(hello_check(&h, &self, NOW - HELLO_WINDOW_US), HELLO_OK);
	assert_int_equal(hello_check(&h, &self, NOW - HELLO_WINDOW_US - 1), HELLO_CLOCK);
	h.time = INT64_MIN;
	assert_int_equal(hello_check(&h, &self, INT64_MAX), HELLO_CLOCK);
	assert_int_equal(hello_check(&h, &self, NOW), HELLO_CLOCK);
	h.time = INT64_MAX;
	assert_int_equal(hello_check(&h, &self, INT64_MIN), HELLO_CLOCK);
	assert_int_equal(hello_check(&h, &self, -1), HELLO_CLOCK);
}

static void test_what_was_said_before_the_start_needs_the_nonces_of_then(void **state)
{
	struct hello_self known = self;
	struct hello h = good();

	(void)state;
	h.time = NOW - 1;
	assert_int_equal(hello_check(&h, &self, NOW), HELLO_BEFORE_START);
	known.previous_generation = 2;
	assert_int_equal(hello_check(&h, &known, NOW), HELLO_OK);
	h.time = NOW;
	assert_int_equal(hello_check(&h, &self, NOW), HELLO_OK);
}

static void test_of_a_stored_generation_nothing_is_older_than_the_start(void **state)
{
	struct hello_self stored = self;
	struct hello h = good();

	(void)state;
	stored.started_us = 0;
	h.time = NOW - HELLO_WINDOW_US; /* a clock that is behind */
	assert_int_equal(hello_check(&h, &self, NOW), HELLO_BEFORE_START);
	assert_int_equal(hello_check(&h, &stored, NOW), HELLO_OK);
}

static void test_an_unknown_kind_is_refused(void **state)
{
	struct hello h = good();

	(void)state;
	h.kind = 1;
	assert_int_equal(hello_check(&h, &self, NOW), HELLO_UNKNOWN_KIND);
}

static void test_every_verdict_has_a_name_of_its_own(void **state)
{
	(void)state;
	for (int i = HELLO_OK; i <= HELLO_UNKNOWN_KIND; i++) {
		const char *name = hello_verdict_name((enum hello_verdict)i);

		assert_string_not_equal(name, "unknown");
		for (int j = HELLO_OK; j < i; j++)
			assert_string_not_equal(name,
						hello_verdict_name((enum hello_verdict)j));
	}
	assert_string_equal(hello_verdict_name((enum hello_verdict)(HELLO_UNKNOWN_KIND + 1)),
			    "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_bytes_are_as_described),
		cmocka_unit_test(test_what_is_written_is_read_back),
		cmocka_unit_test(test_every_truncation_is_refused),
		cmocka_unit_test(test_what_cannot_be_is_refused),
		cmocka_unit_test(test_a_later_version_is_read_if_it_says_so),
		cmocka_unit_test(test_a_hello_for_another_node_is_refused),
		cmocka_unit_test(test_only_generations_whose_nonces_are_known_are_accepted),
		cmocka_unit_test(test_the_clock_window_is_exact_on_both_sides),
		cmocka_unit_test(test_what_was_said_before_the_start_needs_the_nonces_of_then),
		cmocka_unit_test(test_of_a_stored_generation_nothing_is_older_than_the_start),
		cmocka_unit_test(test_an_unknown_kind_is_refused),
		cmocka_unit_test(test_every_verdict_has_a_name_of_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
