/* The key file: what it may hold, who may read it, and that it is taken whole or not at all. */
#include <appswitch/keyring.h>
#include <appswitch/util.h>

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define KEY_A "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define KEY_B "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef"

static char dir[] = "/tmp/test_keyring.XXXXXX", path[64], err[256];

static void put(const char *text, size_t len, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_int_equal(write(fd, text, len), len);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static int load(const char *text, struct keyring *ret)
{
	put(text, strlen(text), 0600);
	err[0] = '\0';
	return keyring_load(path, ret, err, sizeof(err));
}

static void test_keys_come_in_the_order_of_the_lines(void **state)
{
	struct keyring k;

	(void)state;
	assert_int_equal(load("# first\n\n" KEY_B "\n  \t\n \t" KEY_A " \r\n#" KEY_A "\n", &k),
			 0);
	assert_int_equal(k.n, 2);
	assert_memory_equal(k.keys[0], "\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23", 10);
	assert_memory_equal(k.keys[1], "\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb", 12);
	assert_int_equal(load(KEY_A, &k), 0); /* the last line need not end */
	assert_int_equal(k.n, 1);
}

static void test_what_is_wrong_is_said_with_its_line_and_nothing_is_taken(void **state)
{
	static const struct {
		const char *text, *said;
	} bad[] = {
		{ "", ":1: no key" },
		{ "# none\n\n", ":2: no key" },
		{ KEY_A "\n" KEY_A "0\n", ":2: a key is 64" },
		{ KEY_A KEY_B "\n", ":1: a key is 64" },
		{ KEY_A "\n#\nkey\n", ":3: a key is 64" },
		{ "00112233445566778899aabbccddeeff00112233445566778899aabbccddeefg\n",
		  ":1: not a hex" },
		{ "0x112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n",
		  ":1: not a hex" },
		{ KEY_A "\n" KEY_B "\n" KEY_A "\n", ":3: this key is there" },
	};
	struct keyring k;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		memset(&k, 0x5a, sizeof(k));
		assert_int_equal(load(bad[i].text, &k), -EINVAL);
		if (strstr(err, bad[i].said) == NULL || strncmp(err, path, strlen(path)) != 0 ||
		    strchr(err, '\n') != NULL)
			fail_msg("'%s' was to be said, not '%s'", bad[i].said, err);
		assert_int_equal(k.keys[0][0], 0x5a);
	}
}

static void test_no_more_than_eight(void **state)
{
	char text[9 * 65 + 1];
	struct keyring k;

	(void)state;
	for (int i = 0; i < 9; i++)
		snprintf(text + (size_t)i * 65, 66, "%064x\n", (unsigned)i + 1);
	put(text, 8 * 65, 0600);
	assert_int_equal(keyring_load(path, &k, err, sizeof(err)), 0);
	assert_int_equal(k.n, 8);
	assert_int_equal(k.keys[7][31], 8);
	put(text, 9 * 65, 0600);
	assert_int_equal(keyring_load(path, &k, err, sizeof(err)), -EINVAL);
	assert_non_null(strstr(err, ":9: more than 8"));
}

static void test_a_nul_ends_nothing(void **state)
{
	static const char text[] = KEY_A "\0" KEY_B "\n";
	struct keyring k;

	(void)state;
	put(text, sizeof(text) - 1, 0600);
	assert_int_equal(keyring_load(path, &k, err, sizeof(err)), -EINVAL);
	put("#\0\n" KEY_A "\n", 3 + 65, 0600);
	assert_int_equal(keyring_load(path, &k, err, sizeof(err)), 0);
}

static void test_a_file_that_others_may_use_is_refused(void **state)
{
	static const mode_t bad[] = { 0640, 0604, 0620, 0602, 0610, 0644 };
	struct keyring k;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		put(KEY_A "\n", 65, bad[i]);
		assert_int_equal(keyring_load(path, &k, err, sizeof(err)), -EPERM);
		assert_non_null(strstr(err, "chmod 600"));
	}
	put(KEY_A "\n", 65, 0400);
	assert_int_equal(keyring_load(path, &k, err, sizeof(err)), 0);
	unlink(path);
}

static void test_only_a_regular_file_of_bounded_size_is_read(void **state)
{
	static char big[KEYRING_FILE_MAX + 1];
	struct keyring k;

	(void)state;
	unlink(path);
	assert_int_equal(keyring_load(path, &k, err, sizeof(err)), -ENOENT);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(keyring_load(path, &k, err, sizeof(err)), -EINVAL);
	assert_non_null(strstr(err, "not a regular file"));
	unlink(path);
	assert_int_equal(keyring_load(dir, &k, err, sizeof(err)), -EINVAL);
	memset(big, '#', sizeof(big));
	for (size_t i = 0; i < 65; i++)
		big[i] = (KEY_A "\n")[i];
	put(big, KEYRING_FILE_MAX, 0600);
	assert_int_equal(keyring_load(path, &k, err, sizeof(err)), 0);
	put(big, KEYRING_FILE_MAX + 1, 0600);
	assert_int_equal(keyring_load(path, &k, err, sizeof(err)), -EFBIG);
}

static void test_a_new_file_is_its_owners_and_loads(void **state)
{
	struct keyring a, b;
	struct stat st;
	mode_t old = umask(0);

	(void)state;
	unlink(path);
	assert_int_equal(keyring_create(path, err, sizeof(err)), 0);
	umask(old);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(keyring_load(path, &a, err, sizeof(err)), 0);
	assert_int_equal(a.n, 1);
	unlink(path);
	assert_int_equal(keyring_create(path, err, sizeof(err)), 0);
	assert_int_equal(keyring_load(path, &b, err, sizeof(err)), 0);
	assert_memory_not_equal(a.keys[0], b.keys[0], KEYRING_KEY_SIZE);
}

static void test_a_file_that_is_there_is_not_touched(void **state)
{
	char elsewhere[80], text[8] = "";
	int fd;

	(void)state;
	put("mine", 4, 0600);
	assert_int_equal(keyring_create(path, err, sizeof(err)), -EEXIST);
	assert_non_null(strstr(err, "there already"));
	fd = open(path, O_RDONLY);
	assert_int_equal(read(fd, text, sizeof(text)), 4);
	assert_string_equal(text, "mine");
	close(fd);
	unlink(path);
	/* a link to nowhere must not be followed either */
	snprintf(elsewhere, sizeof(elsewhere), "%s/elsewhere", dir);
	assert_int_equal(symlink(elsewhere, path), 0);
	assert_int_equal(keyring_create(path, err, sizeof(err)), -EEXIST);
	assert_int_equal(access(elsewhere, F_OK), -1);
}

static void test_wiped_means_nothing_is_left(void **state)
{
	static const struct keyring nothing;
	struct keyring k;

	(void)state;
	unlink(path);
	assert_int_equal(load(KEY_A "\n", &k), 0);
	keyring_wipe(&k);
	assert_memory_equal(&k, &nothing, sizeof(k));
}

static int set_up(void **state)
{
	(void)state;
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/keys", dir);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir); /* fails if anything else was left */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys_come_in_the_order_of_the_lines),
		cmocka_unit_test(test_what_is_wrong_is_said_with_its_line_and_nothing_is_taken),
		cmocka_unit_test(test_no_more_than_eight),
		cmocka_unit_test(test_a_nul_ends_nothing),
		cmocka_unit_test(test_a_file_that_others_may_use_is_refused),
		cmocka_unit_test(test_only_a_regular_file_of_bounded_size_is_read),
		cmocka_unit_test(test_a_new_file_is_its_owners_and_loads),
		cmocka_unit_test(test_a_file_that_is_there_is_not_touched),
		cmocka_unit_test(test_wiped_means_nothing_is_left),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
