/* Addresses: one canonical form, the ranges at their edges, and sockaddrs of every length. */
#include <appswitch/addr.h>
#include <appswitch/util.h>

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define ROUNDS 20000

static uint64_t seed = 0x1d872b41;

/* xorshift64 (Marsaglia, 2003) */
static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static struct as_addr addr(const char *s)
{
	struct as_addr a;

	if (as_addr_parse(s, &a) < 0)
		fail_msg("'%s' is not taken for an address", s);
	return a;
}

/* Random, but often of a kind with a form of its own: mapped, with runs of zeros. */
static struct as_addr any_addr(void)
{
	struct as_addr a;

	for (size_t i = 0; i < sizeof(a.b); i += 2) {
		uint16_t half = rnd() % 3 ? (uint16_t)rnd() : 0;

		memcpy(a.b + i, &half, 2);
	}
	return rnd() % 3 ? a : as_addr_v4((uint32_t)rnd());
}

static void test_a_v4_address_has_one_form_however_it_is_written(void **state)
{
	struct as_addr a = addr("10.0.0.5"), b = addr("::ffff:10.0.0.5");
	struct as_addr c = addr("::ffff:a00:5"), d = as_addr_v4(0x0a000005);
	char buf[AS_ADDR_STRLEN];

	(void)state;
	assert_true(as_addr_eq(&a, &b) && as_addr_eq(&a, &c) && as_addr_eq(&a, &d));
	assert_string_equal(as_addr_format(&b, buf), "10.0.0.5");
	assert_int_equal(as_addr_family(&b), AF_INET);
	a = addr("::10.0.0.5"); /* "compatible" is not "mapped" */
	assert_int_equal(as_addr_family(&a), AF_INET6);
	assert_false(as_addr_eq(&a, &b));
}

static void test_parse_rejects_what_is_not_exactly_one_address(void **state)
{
	static const char *const bad[] = {
		"",
		" ",
		"10.0.0",
		"10.0.0.256",
		"10.0.0.5 ",
		" 10.0.0.5",
		"10.0.0.5.6",
		"10.0.0.-1",
		"0x0a.0.0.5",
		"10.0.0.5:80",
		"[fd00::5]",
		"fd00::5%lo",
		"fd00::5/64",
		"10.0.0.0/8",
		"fd00:::5",
		"fd00::5::",
		"1:2:3:4:5:6",
		"12345::",
		"::ffff:1.2.3",
		"localhost",
		":",
		"g::",
		"10.0.0.5\n::",
		"*",
		"1.2.3.4,5.6.7.8",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct as_addr a, before;

		memset(&a, 0x5a, sizeof(a));
		before = a;
		if (as_addr_parse(bad[i], &a) != -EINVAL)
			fail_msg("'%s' is taken for an address", bad[i]);
		assert_true(as_addr_eq(&a, &before)); /* untouched on failure */
	}
}

static void test_every_address_reads_back_as_written(void **state)
{
	(void)state;
	for (int i = 0; i < ROUNDS; i++) {
		char *buf = malloc(AS_ADDR_STRLEN); /* exact: ASan sees one over */
		struct as_addr a = any_addr(), b;

		assert_ptr_equal(as_addr_format(&a, buf), buf);
		if (as_addr_parse(buf, &b) < 0 || !as_addr_eq(&a, &b))
			fail_msg("%s does not read back", buf);
		free(buf);
	}
}

static void test_only_the_exact_mapped_prefix_is_v4(void **state)
{
	struct as_addr v4 = addr("10.0.0.5");

	(void)state;
	assert_true(as_addr_is_v4(&v4));
	for (size_t bit = 0; bit < 128; bit++) {
		struct as_addr a = v4;

		a.b[bit / 8] ^= (uint8_t)(0x80u >> bit % 8);
		assert_int_equal(as_addr_is_v4(&a), bit >= 96);
		assert_int_equal(as_addr_family(&a), bit >= 96 ? AF_INET : AF_INET6);
		assert_false(as_addr_eq(&a, &v4));
	}
}

static void test_ranges_end_where_the_rfcs_say(void **state)
{
	static const struct {
		const char *s;
		bool any, loopback, multicast;
	} rows[] = {
		{ "0.0.0.0", .any = true },
		{ "0.0.0.1" },
		{ "::", .any = true },
		{ "::1", .loopback = true },
		{ "::2" },
		{ "8000::1" },
		{ "126.255.255.255" },
		{ "127.0.0.0", .loopback = true },
		{ "127.0.0.1", .loopback = true },
		{ "127.255.255.255", .loopback = true },
		{ "128.0.0.0" },
		{ "::127.0.0.1" },
		{ "7f00::" },
		{ "223.255.255.255" },
		{ "224.0.0.0", .multicast = true },
		{ "239.255.255.255", .multicast = true },
		{ "240.0.0.0" },
		{ "255.255.255.255" },
		{ "feff:ffff::" },
		{ "ff00::", .multicast = true },
		{ "ffff::ffff", .multicast = true },
		{ "e000::" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct as_addr a = addr(rows[i].s);

		if (as_addr_is_any(&a) != rows[i].any ||
		    as_addr_is_loopback(&a) != rows[i].loopback ||
		    as_addr_is_multicast(&a) != rows[i].multicast)
			fail_msg("%s is in the wrong range", rows[i].s);
	}
}

static void test_constructors_give_the_addresses_they_name(void **state)
{
	struct as_addr a = as_addr_any(AF_INET), b = addr("0.0.0.0");

	(void)state;
	assert_true(as_addr_eq(&a, &b));
	a = as_addr_any(AF_INET6), b = addr("::");
	assert_true(as_addr_eq(&a, &b));
	a = as_addr_loopback(AF_INET), b = addr("127.0.0.1");
	assert_true(as_addr_eq(&a, &b));
	a = as_addr_loopback(AF_INET6), b = addr("::1");
	assert_true(as_addr_eq(&a, &b));
	a = as_addr_v4(0x01020304), b = addr("1.2.3.4");
	assert_true(as_addr_eq(&a, &b));
}

static void test_equality_looks_at_every_bit(void **state)
{
	struct as_addr a = any_addr();

	(void)state;
	for (size_t bit = 0; bit < 128; bit++) {
		struct as_addr b = a;

		assert_true(as_addr_eq(&a, &b));
		b.b[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_false(as_addr_eq(&a, &b));
	}
}

static void test_an_endpoint_is_written_with_brackets_only_for_v6(void **state)
{
	struct as_endpoint e = { .addr = addr("10.0.0.5"), .port = 80 };
	char *buf = malloc(AS_ENDPOINT_STRLEN);

	(void)state;
	assert_string_equal(as_endpoint_format(&e, buf), "10.0.0.5:80");
	e.addr = addr("::ffff:10.0.0.5");
	assert_string_equal(as_endpoint_format(&e, buf), "10.0.0.5:80");
	e.addr = addr("fd00::5");
	assert_string_equal(as_endpoint_format(&e, buf), "[fd00::5]:80");
	/* the longest there are */
	e = (struct as_endpoint){ addr("255.255.255.255"), 65535 };
	assert_string_equal(as_endpoint_format(&e, buf), "255.255.255.255:65535");
	e.addr = addr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
	assert_string_equal(as_endpoint_format(&e, buf),
			    "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
	e.port = 0;
	assert_string_equal(as_endpoint_format(&e, buf),
			    "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:0");
	free(buf);
}

static void test_from_sockaddr_takes_the_lengths_the_kernel_takes(void **state)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(80) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(443) };
	const struct {
		const void *sa;
		size_t size, least;
		const char *addr;
		uint16_t port;
	} rows[] = {
		{ &in, sizeof(in), 16, "10.0.0.5", 80 },
		{ &in6, sizeof(in6), 24, "fd00::5", 443 }, /* 24: RFC 2133, no scope id */
	};

	(void)state;
	inet_pton(AF_INET, "10.0.0.5", &in.sin_addr);
	inet_pton(AF_INET6, "fd00::5", &in6.sin6_addr);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct as_addr want = addr(rows[i].addr);

		for (size_t len = 0; len <= sizeof(struct sockaddr_storage); len++) {
			struct as_endpoint e = { .port = 99 };
			uint8_t *tight = calloc(1, len ? len : 1);
			int r;

			memcpy(tight, rows[i].sa, len < rows[i].size ? len : rows[i].size);
			r = as_endpoint_from_sockaddr(tight, len, &e);
			if (len < rows[i].least) {
				assert_int_equal(r, -EINVAL);
				assert_int_equal(e.port, 99); /* untouched on failure */
				assert_int_equal(e.addr.b[15], 0);
			} else {
				assert_int_equal(r, 0);
				assert_int_equal(e.port, rows[i].port);
				assert_true(as_addr_eq(&e.addr, &want));
			}
			free(tight);
		}
	}
}

static void test_from_sockaddr_refuses_every_other_family(void **state)
{
	struct sockaddr_storage ss = { 0 };
	struct as_endpoint e = { .port = 99 };

	(void)state;
	for (unsigned family = 0; family <= 0xffff; family++) {
		ss.ss_family = (sa_family_t)family;
		if (family == AF_INET || family == AF_INET6)
			continue;
		assert_int_equal(as_endpoint_from_sockaddr(&ss, sizeof(ss), &e), -EAFNOSUPPORT);
		assert_int_equal(as_endpoint_from_sockaddr(&ss, sizeof(ss.ss_family), &e),
				 -EAFNOSUPPORT);
		assert_int_equal(as_endpoint_from_sockaddr(&ss, 1, &e), -EINVAL);
		assert_int_equal(e.port, 99);
	}
}

static void test_from_sockaddr_reads_at_any_alignment(void **state)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(7) };
	uint8_t buf[sizeof(in6) + 8];

	(void)state;
	for (size_t off = 0; off < 8; off++) {
		struct as_endpoint e = { 0 };

		memcpy(buf + off, &in6, sizeof(in6));
		assert_int_equal(as_endpoint_from_sockaddr(buf + off, sizeof(in6), &e), 0);
		assert_int_equal(e.port, 7);
	}
}

/* What a socket of the asking family sees; the rest of the storage says nothing. */
static void test_to_sockaddr_shows_the_face_that_asks(void **state)
{
	struct as_endpoint e = { .addr = addr("10.0.0.5"), .port = 0x1234 };
	struct sockaddr_storage ss, zero = { 0 };
	struct sockaddr_in *in = (struct sockaddr_in *)&ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ss;

	(void)state;
	memset(&ss, 0xff, sizeof(ss));
	assert_int_equal(as_endpoint_to_sockaddr(&e, AF_INET, &ss), sizeof(*in));
	assert_int_equal(in->sin_family, AF_INET);
	assert_int_equal(in->sin_port, htons(0x1234));
	assert_int_equal(in->sin_addr.s_addr, htonl(0x0a000005));
	assert_memory_equal((char *)&ss + 8, (char *)&zero + 8, sizeof(ss) - 8);

	memset(&ss, 0xff, sizeof(ss));
	assert_int_equal(as_endpoint_to_sockaddr(&e, AF_INET6, &ss), sizeof(*in6));
	assert_int_equal(in6->sin6_family, AF_INET6);
	assert_int_equal(in6->sin6_port, htons(0x1234));
	assert_int_equal(in6->sin6_flowinfo, 0);
	assert_int_equal(in6->sin6_scope_id, 0);
	assert_true(IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr));
	assert_memory_equal((char *)&ss + sizeof(*in6), (char *)&zero + sizeof(*in6),
			    sizeof(ss) - sizeof(*in6));
}

static void test_every_endpoint_survives_a_sockaddr_of_its_family(void **state)
{
	(void)state;
	for (int i = 0; i < ROUNDS; i++) {
		struct as_endpoint e = { .addr = any_addr(), .port = (uint16_t)rnd() }, back;
		int family = as_addr_family(&e.addr);
		struct sockaddr_storage ss;
		socklen_t len;

		for (int pass = 0; pass < 2; pass++) { /* its own face, then the v6 one */
			len = as_endpoint_to_sockaddr(&e, pass ? AF_INET6 : family, &ss);
			assert_int_equal(as_endpoint_from_sockaddr(&ss, len, &back), 0);
			assert_int_equal(back.port, e.port);
			assert_true(as_addr_eq(&back.addr, &e.addr));
		}
	}
}

static void test_an_endpoint_is_read_with_and_without_a_port(void **state)
{
	static const struct {
		const char *text, *addr;
		uint16_t port;
	} good[] = {
		{ "10.0.0.5", "10.0.0.5", 6660 },
		{ "10.0.0.5:1", "10.0.0.5", 1 },
		{ "10.0.0.5:65535", "10.0.0.5", 65535 },
		{ "fd00::5", "fd00::5", 6660 },
		{ "::1", "::1", 6660 },
		{ "::", "::", 6660 },
		{ "[::]:80", "::", 80 },
		{ "[fd00::5]", "fd00::5", 6660 },
		{ "[fd00::5]:80", "fd00::5", 80 },
		{ "fd00::5:80", "fd00::5:80", 6660 }, /* the colon is the address's */
		{ "::ffff:10.0.0.5", "10.0.0.5", 6660 },
		{ "[::ffff:10.0.0.5]:80", "10.0.0.5", 80 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct as_addr want = addr(good[i].addr);
		struct as_endpoint e;

		if (as_endpoint_parse(good[i].text, 6660, &e) < 0)
			fail_msg("'%s' is not taken for an endpoint", good[i].text);
		assert_true(as_addr_eq(&e.addr, &want));
		assert_int_equal(e.port, good[i].port);
	}
}

static void test_what_is_no_endpoint_is_refused_and_nothing_written(void **state)
{
	static const char *const bad[] = {
		"",
		":",
		"[",
		"]",
		"[]",
		"[]:80",
		":80",
		"10.0.0.5:",
		"10.0.0.5:0",
		"10.0.0.5:65536",
		"10.0.0.5:65537",
		"10.0.0.5:99999",
		"10.0.0.5:100000",
		"10.0.0.5:+80",
		"10.0.0.5:-1",
		"10.0.0.5: 80",
		"10.0.0.5:80 ",
		"10.0.0.5:8x",
		"10.0.0.5:80:80",
		"[10.0.0.5]:80",
		"[fd00::5",
		"[fd00::5]80",
		"[fd00::5]:",
		"[fd00::5]:0",
		"[fd00::5]]:80",
		"fd00::5]:80",
		"[[fd00::5]]",
		"[fe80::1%lo]:80",
		"localhost",
		"localhost:80",
		"10.0.0:80",
		" 10.0.0.5",
		"10.0.0.5/8",
		"fd00::5::",
		"10.0.0.5:000080",
		"[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc]:80",
	};
	struct as_endpoint e = { .port = 99 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (as_endpoint_parse(bad[i], 6660, &e) != -EINVAL)
			fail_msg("'%s' is taken for an endpoint", bad[i]);
		assert_int_equal(e.port, 99);
	}
}

static void test_without_a_default_the_port_must_be_said(void **state)
{
	struct as_endpoint e;

	(void)state;
	assert_int_equal(as_endpoint_parse("10.0.0.5", 0, &e), -EINVAL);
	assert_int_equal(as_endpoint_parse("[fd00::5]", 0, &e), -EINVAL);
	assert_int_equal(as_endpoint_parse("10.0.0.5:6660", 0, &e), 0);
}

static void test_an_endpoint_that_was_written_is_read_as_the_same(void **state)
{
	(void)state;
	for (int i = 0; i < ROUNDS; i++) {
		struct as_endpoint a = { any_addr(), (uint16_t)(1 + rnd() % 65535) }, b;
		char text[AS_ENDPOINT_STRLEN];

		as_endpoint_format(&a, text);
		if (as_endpoint_parse(text, 0, &b) < 0 || !as_addr_eq(&a.addr, &b.addr) ||
		    a.port != b.port)
			fail_msg("%s is read as something else", text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_v4_address_has_one_form_however_it_is_written),
		cmocka_unit_test(test_parse_rejects_what_is_not_exactly_one_address),
		cmocka_unit_test(test_every_address_reads_back_as_written),
		cmocka_unit_test(test_only_the_exact_mapped_prefix_is_v4),
		cmocka_unit_test(test_ranges_end_where_the_rfcs_say),
		cmocka_unit_test(test_constructors_give_the_addresses_they_name),
		cmocka_unit_test(test_equality_looks_at_every_bit),
		cmocka_unit_test(test_an_endpoint_is_written_with_brackets_only_for_v6),
		cmocka_unit_test(test_from_sockaddr_takes_the_lengths_the_kernel_takes),
		cmocka_unit_test(test_from_sockaddr_refuses_every_other_family),
		cmocka_unit_test(test_from_sockaddr_reads_at_any_alignment),
		cmocka_unit_test(test_to_sockaddr_shows_the_face_that_asks),
		cmocka_unit_test(test_every_endpoint_survives_a_sockaddr_of_its_family),
		cmocka_unit_test(test_an_endpoint_is_read_with_and_without_a_port),
		cmocka_unit_test(test_what_is_no_endpoint_is_refused_and_nothing_written),
		cmocka_unit_test(test_without_a_default_the_port_must_be_said),
		cmocka_unit_test(test_an_endpoint_that_was_written_is_read_as_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
