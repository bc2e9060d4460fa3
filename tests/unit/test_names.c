/* Names of stand-ins: they carry every field, tell every tuple apart, and nothing else that may
 * stand in the abstract namespace is taken for one. */
#include "traphandler/conn/names.h"

#include <appswitch/util.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define ROUNDS	   20000
#define PATH_OFF   offsetof(struct sockaddr_un, sun_path)
#define CLIENT_LEN (PATH_OFF + 5 + 4 + 16 + 18 + 18)
#define LISTEN_LEN (PATH_OFF + 5 + 4 + 1 + 4 + 8)
#define BELL_LEN   (PATH_OFF + 5 + 8 + 8)

static uint64_t seed = 0x6a09e667;

/* xorshift64 (Marsaglia, 2003) */
static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void fill(void *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)p)[i] = (uint8_t)rnd();
}

static const enum name_kind kinds[] = { NAME_CLIENT, NAME_LISTENER, NAME_BELL, NAME_CARRIER };

static const struct {
	enum name_kind kind;
	size_t off, size;
} fields[] = {
#define FIELD(kind, f)                                                                        \
	{                                                                                     \
		kind, offsetof(struct standin_name, f), sizeof(((struct standin_name *)0)->f) \
	}
	FIELD(NAME_CLIENT, network),	 FIELD(NAME_CLIENT, vip),
	FIELD(NAME_CLIENT, client.addr), FIELD(NAME_CLIENT, client.port),
	FIELD(NAME_CLIENT, server.addr), FIELD(NAME_CLIENT, server.port),
	FIELD(NAME_LISTENER, network),	 FIELD(NAME_LISTENER, face),
	FIELD(NAME_LISTENER, app),	 FIELD(NAME_LISTENER, anchor),
	FIELD(NAME_BELL, anchor),	 FIELD(NAME_BELL, nonce),
	FIELD(NAME_CARRIER, anchor),	 FIELD(NAME_CARRIER, nonce),
#undef FIELD
};

/* All fields of the kind random, the others zero. */
static struct standin_name any_name(enum name_kind kind)
{
	struct standin_name n;

	memset(&n, 0, sizeof(n));
	n.kind = kind;
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		if (fields[i].kind == kind)
			fill((char *)&n + fields[i].off, fields[i].size);
	}
	return n;
}

/* Of the fields of any kind: those of the wrong kind must be zero too. */
static void assert_same(const struct standin_name *a, const struct standin_name *b)
{
	assert_int_equal(a->kind, b->kind);
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		assert_memory_equal((const char *)a + fields[i].off,
				    (const char *)b + fields[i].off, fields[i].size);
}

static void test_every_kind_reads_back_whole(void **state)
{
	static const size_t lens[] = { CLIENT_LEN, LISTEN_LEN, BELL_LEN, BELL_LEN };

	(void)state;
	for (int round = 0; round < ROUNDS; round++) {
		for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
			struct standin_name n = any_name(kinds[k]), back;
			struct sockaddr_un sa;
			socklen_t len = name_encode(&n, &sa);

			assert_int_equal(len, lens[k]);
			assert_int_equal(sa.sun_family, AF_UNIX);
			assert_int_equal(sa.sun_path[0], '\0'); /* abstract */
			memset(&back, 0xff, sizeof(back));
			assert_int_equal(name_decode(&sa, len, &back), kinds[k]);
			assert_same(&n, &back);
			memset(&back, 0xff, sizeof(back));
			assert_int_equal(name_decode_path(sa.sun_path, len - PATH_OFF, &back),
					 kinds[k]);
			assert_same(&n, &back);
		}
	}
}

static void test_every_bit_of_every_field_makes_another_name(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		struct standin_name n = any_name(fields[i].kind);
		struct sockaddr_un a, b;
		socklen_t len = name_encode(&n, &a);

		for (size_t bit = 0; bit < fields[i].size * 8; bit++) {
			uint8_t *p = (uint8_t *)&n + fields[i].off + bit / 8;

			*p ^= (uint8_t)(1u << bit % 8);
			assert_int_equal(name_encode(&n, &b), len);
			*p ^= (uint8_t)(1u << bit % 8);
			assert_memory_not_equal(&a, &b, len);
		}
	}
}

static void test_the_same_fields_make_the_same_name(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct standin_name n = any_name(kinds[k]), m;
		struct sockaddr_un a, b;

		memset(&m, 0xff, sizeof(m)); /* padding and foreign fields do not count */
		m.kind = n.kind;
		for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
			if (fields[i].kind == n.kind)
				memcpy((char *)&m + fields[i].off, (char *)&n + fields[i].off,
				       fields[i].size);
		}
		memset(&a, 0x00, sizeof(a));
		memset(&b, 0xff, sizeof(b));
		assert_int_equal(name_encode(&n, &a), name_encode(&m, &b));
		assert_memory_equal(&a, &b, sizeof(a));
	}
}

/* @len bytes of @sa in exactly as many, so that ASan sees a read of one more. */
static enum name_kind decode_tight(const struct sockaddr_un *sa, size_t len,
				   struct standin_name *ret)
{
	void *tight = memcpy(malloc(len ? len : 1), sa, len);
	enum name_kind kind = name_decode(tight, (socklen_t)len, ret);

	free(tight);
	return kind;
}

static enum name_kind decode_path_tight(const char *path, size_t len, struct standin_name *ret)
{
	char *tight = memcpy(malloc(len ? len : 1), path, len);
	enum name_kind kind = name_decode_path(tight, len, ret);

	free(tight);
	return kind;
}

static void test_every_other_length_is_no_name(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct standin_name n = any_name(kinds[k]);
		struct sockaddr_un sa;
		size_t whole = name_encode(&n, &sa);

		for (size_t len = 0; len <= sizeof(sa); len++) {
			struct standin_name back, before;

			memset(&before, 0x5a, sizeof(before));
			back = before;
			assert_int_equal(decode_tight(&sa, len, &back),
					 len == whole ? kinds[k] : NAME_NONE);
			if (len != whole) /* untouched on failure */
				assert_memory_equal(&back, &before, sizeof(back));
			if (len < PATH_OFF)
				continue;
			back = before;
			assert_int_equal(decode_path_tight(sa.sun_path, len - PATH_OFF, &back),
					 len == whole ? kinds[k] : NAME_NONE);
			if (len != whole)
				assert_memory_equal(&back, &before, sizeof(back));
		}
	}
}

static void test_a_name_of_one_kind_is_none_of_another(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct standin_name n = any_name(kinds[k]), back;
		struct sockaddr_un sa;
		socklen_t len = name_encode(&n, &sa);

		for (int c = 0; c < 256; c++) {
			/* these two have the same form */
			bool rings = kinds[k] == NAME_BELL || kinds[k] == NAME_CARRIER;
			bool is = c == (int)kinds[k] ||
				  (rings && (c == NAME_BELL || c == NAME_CARRIER));

			sa.sun_path[4] = (char)c;
			assert_int_equal(name_decode(&sa, len, &back), is ? c : NAME_NONE);
		}
	}
}

static void test_every_byte_of_the_prefix_counts(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct standin_name n = any_name(kinds[k]), back;
		struct sockaddr_un sa;
		socklen_t len = name_encode(&n, &sa);

		for (size_t bit = 0; bit < 4 * 8; bit++) {
			sa.sun_path[bit / 8] ^= (char)(1u << bit % 8);
			assert_int_equal(name_decode(&sa, len, &back), NAME_NONE);
			sa.sun_path[bit / 8] ^= (char)(1u << bit % 8);
		}
		assert_int_equal(name_decode(&sa, len, &back), kinds[k]);
	}
}

static void test_only_unix_addresses_are_names(void **state)
{
	static const sa_family_t families[] = { AF_UNSPEC,  AF_INET, AF_INET6,
						AF_NETLINK, 0x101,   0xffff };
	struct standin_name n = any_name(NAME_CLIENT), back;
	struct sockaddr_un sa;
	socklen_t len = name_encode(&n, &sa);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		sa.sun_family = families[i];
		assert_int_equal(name_decode(&sa, len, &back), NAME_NONE);
	}
}

static void test_other_unix_sockets_are_no_names(void **state)
{
	static const char *const paths[] = { "/run/appswitch/appswitch.sock", "as1C", "as1L",
					     "" };
	struct standin_name back;
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		memset(sa.sun_path, 0, sizeof(sa.sun_path));
		memcpy(sa.sun_path, paths[i], strlen(paths[i]));
		for (size_t len = PATH_OFF; len <= sizeof(sa); len++)
			assert_int_equal(decode_tight(&sa, len, &back), NAME_NONE);
	}
	/* an autobound one: five hexadecimal digits (unix(7)) */
	memcpy(sa.sun_path, "\0as1C0", 6);
	assert_int_equal(decode_tight(&sa, PATH_OFF + 6, &back), NAME_NONE);
}

/* Whatever is taken for a name is the name of what it decodes to. */
static void test_what_decodes_encodes_to_the_same_bytes(void **state)
{
	static const char heads[][6] = { "\0as1C", "\0as1L", "\0as1B", "\0as2C", "\0as1D" };
	static const size_t lens[] = { CLIENT_LEN, LISTEN_LEN, BELL_LEN, BELL_LEN };
	unsigned n_taken = 0;

	(void)state;
	for (int round = 0; round < ROUNDS; round++) {
		struct sockaddr_un sa = { .sun_family = AF_UNIX }, again;
		struct standin_name n;
		size_t len = rnd() % 4 ? lens[rnd() % 3] : PATH_OFF + rnd() % 109;

		fill(sa.sun_path, sizeof(sa.sun_path));
		if (rnd() % 8)
			memcpy(sa.sun_path, heads[rnd() % ARRAY_SIZE(heads)], 5);
		if (decode_tight(&sa, len, &n) == NAME_NONE)
			continue;
		n_taken++;
		assert_int_equal(name_encode(&n, &again), len);
		assert_memory_equal(&sa, &again, len);
	}
	assert_in_range(n_taken, ROUNDS / 20, ROUNDS / 2); /* it was no empty test */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_kind_reads_back_whole),
		cmocka_unit_test(test_every_bit_of_every_field_makes_another_name),
		cmocka_unit_test(test_the_same_fields_make_the_same_name),
		cmocka_unit_test(test_every_other_length_is_no_name),
		cmocka_unit_test(test_a_name_of_one_kind_is_none_of_another),
		cmocka_unit_test(test_every_byte_of_the_prefix_counts),
		cmocka_unit_test(test_only_unix_addresses_are_names),
		cmocka_unit_test(test_other_unix_sockets_are_no_names),
		cmocka_unit_test(test_what_decodes_encodes_to_the_same_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
