/* The file of addresses at which a cluster may be found. */
#include "traphandler/cluster/seeds.h"

#include <appswitch/util.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char path[] = "/tmp/test_seeds.XXXXXX", err[256];
static struct as_endpoint seeds[SEEDS_MAX];

static int read_text(const char *text, size_t *n)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	err[0] = '\0';
	*n = 99;
	memset(seeds, 0x5a, sizeof(seeds));
	return seeds_read(path, 6660, seeds, n, err, sizeof(err));
}

static void test_addresses_come_with_and_without_a_port(void **state)
{
	static const char *const want[] = { "10.0.0.1:6660", "10.0.0.2:7000", "[fd00::3]:6660",
					    "[fd00::4]:7000" };
	char text[AS_ENDPOINT_STRLEN];
	size_t n;

	(void)state;
	assert_int_equal(read_text("# ours\n10.0.0.1\n\n 10.0.0.2:7000\t\nfd00::3\r\n"
				   "#10.0.0.9\n[fd00::4]:7000",
				   &n),
			 0);
	assert_int_equal(n, ARRAY_SIZE(want));
	for (size_t i = 0; i < n; i++)
		assert_string_equal(as_endpoint_format(&seeds[i], text), want[i]);
}

static void test_an_empty_file_names_nobody_and_is_not_wrong(void **state)
{
	size_t n;

	(void)state;
	assert_int_equal(read_text("", &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(read_text("# nobody yet\n", &n), 0);
	assert_int_equal(n, 0);
}

static void test_what_is_wrong_is_said_with_its_line_and_nothing_is_taken(void **state)
{
	static const struct {
		const char *text, *said;
	} bad[] = {
		{ "10.0.0.1\nlocalhost\n", ":2: 'localhost': not ADDR" },
		{ "10.0.0.1 10.0.0.2\n", ":1: " },
		{ "10.0.0.1:0\n", ":1: " },
		{ "10.0.0.1 # ours\n", ":1: " },
		{ "0.0.0.0:6660\n", "names no host" },
		{ "[::]:6660\n", "names no host" },
		{ "224.0.0.1\n", "more than one host" },
		{ "255.255.255.255\n", "more than one host" },
		{ "ff02::1\n", "more than one host" },
		{ "10.0.0.1\n\nfe80::1\n", ":3: 'fe80::1': is link-local" },
	};
	size_t n;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(read_text(bad[i].text, &n), -EINVAL);
		if (strstr(err, bad[i].said) == NULL || strncmp(err, path, strlen(path)) != 0)
			fail_msg("'%s' was to be said, not '%s'", bad[i].said, err);
		assert_int_equal(n, 99);
		assert_int_equal(seeds[0].port, 0x5a5a);
	}
	unlink(path);
	assert_int_equal(seeds_read(path, 6660, seeds, &n, err, sizeof(err)), -ENOENT);
}

static void test_no_more_than_there_is_room_for(void **state)
{
	static char text[(SEEDS_MAX + 1) * 16];
	size_t len = 0, n;

	(void)state;
	for (unsigned i = 0; i < SEEDS_MAX; i++)
		len += (size_t)sprintf(text + len, "10.0.1.%u\n", i);
	assert_int_equal(read_text(text, &n), 0);
	assert_int_equal(n, SEEDS_MAX);
	snprintf(text + len, sizeof(text) - len, "10.0.2.1\n");
	assert_int_equal(read_text(text, &n), -EINVAL);
	assert_non_null(strstr(err, ":257: "));
}

static int set_up(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	return fd < 0 ? -1 : close(fd);
}

static int tear_down(void **state)
{
	(void)state;
	return unlink(path) == 0 || errno == ENOENT ? 0 : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses_come_with_and_without_a_port),
		cmocka_unit_test(test_an_empty_file_names_nobody_and_is_not_wrong),
		cmocka_unit_test(test_what_is_wrong_is_said_with_its_line_and_nothing_is_taken),
		cmocka_unit_test(test_no_more_than_there_is_room_for),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
