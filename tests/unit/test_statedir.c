/* What a node keeps on disk: over restarts, on a full disk, when damaged, and with two users. */
#include "traphandler/cluster/statedir.h"

#include <appswitch/util.h>

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

static char root[] = "/tmp/test_statedir.XXXXXX", dir[64], err[512];

static void path_of(const char *name, char ret[128])
{
	snprintf(ret, 128, "%s/%s", dir, name);
}

static void put(const char *name, const char *text)
{
	char path[128];
	int fd;

	path_of(name, path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static const char *got(const char *name)
{
	static char text[16384];
	char path[128];
	ssize_t n;
	int fd;

	path_of(name, path);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return NULL;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	assert_true(n >= 0);
	text[n] = '\0';
	return text;
}

static struct statedir *opened(void)
{
	struct statedir *s = NULL;

	if (statedir_open(dir, &s, err, sizeof(err)) < 0)
		fail_msg("not opened: %s", err);
	return s;
}

static struct as_endpoint peer(unsigned i)
{
	struct as_endpoint e = { as_addr_v4(0x0a000000u + i), (uint16_t)(6660 + i % 3) };

	if (i % 2 != 0)
		as_addr_parse("fd00::5", &e.addr);
	return e;
}

static bool has_room_on_disk(bool room)
{
	struct rlimit l;

	getrlimit(RLIMIT_FSIZE, &l);
	l.rlim_cur = room ? l.rlim_max : 0;
	return setrlimit(RLIMIT_FSIZE, &l) == 0;
}

static void test_the_id_is_random_and_kept(void **state)
{
	struct statedir *s = opened();
	uint64_t id = statedir_id(s);
	char path[128];
	struct stat st;

	(void)state;
	assert_string_equal(err, "");
	assert_int_equal(stat(dir, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_true(id != 0);
	statedir_free(s);
	s = opened();
	assert_true(statedir_id(s) == id);
	statedir_free(s);
	path_of("node", path);
	assert_int_equal(unlink(path), 0);
	s = opened();
	assert_true(statedir_id(s) != id);
	statedir_free(s);
}

static void test_generations_grow_and_follow_the_clock(void **state)
{
	uint32_t now = (uint32_t)time(NULL), a, b;
	struct statedir *s = opened();
	char text[96];

	(void)state;
	assert_int_equal(statedir_next_generation(s, &a, err, sizeof(err)), 0);
	assert_in_range(a, now, now + 60);
	assert_int_equal(statedir_next_generation(s, &b, err, sizeof(err)), 0);
	assert_true(b > a);
	snprintf(text, sizeof(text), "generation %u\n", b);
	assert_non_null(strstr(got("node"), text)); /* before it is used */
	statedir_free(s);
	/* a clock that was far ahead once */
	put("node", "id 00000000000000ab\ngeneration 4000000000\n");
	s = opened();
	assert_true(statedir_id(s) == 0xab);
	assert_int_equal(statedir_next_generation(s, &a, err, sizeof(err)), 0);
	assert_int_equal(a, 4000000001u);
	assert_int_equal(statedir_set_generation(s, 4000000007u, err, sizeof(err)), 0);
	assert_int_equal(statedir_set_generation(s, 4000000003u, err, sizeof(err)), 0);
	statedir_free(s);
	assert_string_equal(got("node"), "id 00000000000000ab\ngeneration 4000000007\n");
	s = opened();
	assert_int_equal(statedir_next_generation(s, &a, err, sizeof(err)), 0);
	assert_int_equal(a, 4000000008u);
	statedir_free(s);
}

static void test_peers_are_kept_in_order_and_bounded(void **state)
{
	struct as_endpoint many[STATEDIR_PEERS + 1];
	const struct as_endpoint *p;
	struct statedir *s = opened();

	(void)state;
	assert_int_equal(statedir_peers(s, &p), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = peer(i);
	assert_int_equal(statedir_set_peers(s, many, 3, err, sizeof(err)), 0);
	assert_string_equal(got("peers"), "10.0.0.0:6660\n[fd00::5]:6661\n10.0.0.2:6662\n");
	assert_int_equal(statedir_set_peers(s, many, ARRAY_SIZE(many), err, sizeof(err)), 0);
	statedir_free(s);
	s = opened();
	assert_int_equal(statedir_peers(s, &p), STATEDIR_PEERS);
	for (unsigned i = 0; i < STATEDIR_PEERS; i++) {
		assert_true(as_addr_eq(&p[i].addr, &many[i].addr));
		assert_int_equal(p[i].port, many[i].port);
	}
	assert_int_equal(statedir_set_peers(s, NULL, 0, err, sizeof(err)), 0);
	assert_string_equal(got("peers"), "");
	statedir_free(s);
}

static void test_the_same_peers_are_not_written_again(void **state)
{
	struct as_endpoint p[2] = { peer(1), peer(2) };
	struct stat before, after;
	struct statedir *s = opened();
	char path[128];

	(void)state;
	path_of("peers", path);
	assert_int_equal(statedir_set_peers(s, p, 2, err, sizeof(err)), 0);
	statedir_free(s);
	s = opened();
	assert_int_equal(stat(path, &before), 0);
	assert_int_equal(statedir_set_peers(s, p, 2, err, sizeof(err)), 0);
	assert_int_equal(stat(path, &after), 0);
	assert_true(before.st_ino == after.st_ino &&
		    before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
	p[1].port++;
	assert_int_equal(statedir_set_peers(s, p, 2, err, sizeof(err)), 0);
	assert_string_equal(got("peers"), "[fd00::5]:6661\n10.0.0.2:6663\n");
	statedir_free(s);
}

static void test_a_full_disk_stops_nobody_and_spoils_nothing(void **state)
{
	struct as_endpoint p[2] = { peer(1), peer(2) };
	struct statedir *s = opened();
	uint32_t a, b, c;
	char before[128], tmp[128];

	(void)state;
	assert_int_equal(statedir_set_peers(s, p, 1, err, sizeof(err)), 0);
	assert_int_equal(statedir_next_generation(s, &a, err, sizeof(err)), 0);
	snprintf(before, sizeof(before), "%s", got("node"));
	assert_true(has_room_on_disk(false));
	assert_int_equal(statedir_next_generation(s, &b, err, sizeof(err)), -EFBIG);
	assert_true(has_room_on_disk(true));
	assert_true(b > a);
	assert_non_null(strstr(err, "/node: "));
	assert_string_equal(got("node"), before);
	assert_true(has_room_on_disk(false));
	assert_int_equal(statedir_set_peers(s, p, 2, err, sizeof(err)), -EFBIG);
	assert_true(has_room_on_disk(true));
	assert_string_equal(got("peers"), "[fd00::5]:6661\n");
	path_of("node.tmp", tmp);
	assert_int_equal(access(tmp, F_OK), -1);
	path_of("peers.tmp", tmp);
	assert_int_equal(access(tmp, F_OK), -1);
	/* and there is room again */
	assert_int_equal(statedir_set_peers(s, p, 2, err, sizeof(err)), 0);
	assert_string_equal(got("peers"), "[fd00::5]:6661\n10.0.0.2:6662\n");
	assert_int_equal(statedir_next_generation(s, &c, err, sizeof(err)), 0);
	assert_true(c > b);
	statedir_free(s);
}

static void test_a_full_disk_at_the_first_start_is_said(void **state)
{
	struct statedir *s;
	uint64_t id;

	(void)state;
	assert_true(has_room_on_disk(false));
	s = opened();
	assert_true(has_room_on_disk(true));
	id = statedir_id(s);
	assert_true(id != 0);
	assert_non_null(strstr(err, "at its next start this node is a new one"));
	statedir_free(s);
}

static void test_what_is_damaged_is_kept_aside_and_made_anew(void **state)
{
	static const char *const bad_nodes[] = {
		"",
		"id 00000000000000ab\n",
		"id 00000000000000ab\ngeneration 5",
		"id 00000000000000ab\ngeneration 5\n\n",
		"id 00000000000000ab\ngeneration 05\n",
		"id 00000000000000ab\ngeneration -1\n",
		"id 00000000000000ab\ngeneration 4294967295\n",
		"id 00000000000000ab\ngeneration 4294967296\n",
		"id 0000000000000000\ngeneration 5\n",
		"id 0x000000000000ab\ngeneration 5\n",
		"id 00000000000000AB\ngeneration 5\n",
		"id ab\ngeneration 5\n",
		"id 00000000000000ab\ngeneration 5\nand more than there may be in it\n",
	};
	static const char *const bad_peers[] = {
		"10.0.0.1:6660",
		"10.0.0.1\n",
		"\n",
		"10.0.0.1:6660\nlocalhost:6660\n",
		"10.0.0.1:06660\n",
		" 10.0.0.1:6660\n",
		"[fd00:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:5]:6660\n",
	};

	(void)state;
	statedir_free(opened());
	for (size_t i = 0; i < ARRAY_SIZE(bad_nodes); i++) {
		struct statedir *s;
		uint64_t id;

		put("node", bad_nodes[i]);
		s = opened();
		id = statedir_id(s);
		if (strstr(err, "/node is damaged: kept as node.bad") == NULL || id == 0xab)
			fail_msg("taken for good: '%s' (%s)", bad_nodes[i], err);
		assert_string_equal(got("node.bad"), bad_nodes[i]);
		statedir_free(s);
		s = opened();
		assert_string_equal(err, "");
		assert_true(statedir_id(s) == id);
		statedir_free(s);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad_peers); i++) {
		const struct as_endpoint *p;
		struct statedir *s;

		put("peers", bad_peers[i]);
		s = opened();
		if (strstr(err, "/peers is damaged: kept as peers.bad") == NULL)
			fail_msg("taken for good: '%s' (%s)", bad_peers[i], err);
		assert_int_equal(statedir_peers(s, &p), 0);
		assert_string_equal(got("peers.bad"), bad_peers[i]);
		assert_null(got("peers"));
		statedir_free(s);
	}
}

static void test_both_damaged_are_said_in_one_line(void **state)
{
	char link[128], other[128];
	struct statedir *s;

	(void)state;
	statedir_free(opened());
	put("node", "nonsense");
	put("other", "10.0.0.1:6660\n");
	path_of("other", other);
	path_of("peers", link);
	assert_int_equal(symlink(other, link), 0); /* a link is none of ours */
	s = opened();
	assert_non_null(strstr(err, "/node is damaged"));
	assert_non_null(strstr(err, "; "));
	assert_non_null(strstr(err, "/peers is damaged"));
	assert_null(strchr(err, '\n'));
	assert_int_equal(unlink(other), 0);
	statedir_free(s);
}

static void test_of_two_users_the_second_is_refused(void **state)
{
	struct statedir *s = opened(), *other = NULL;

	(void)state;
	assert_int_equal(statedir_open(dir, &other, err, sizeof(err)), -EBUSY);
	assert_null(other);
	assert_non_null(strstr(err, "another daemon uses"));
	assert_non_null(strstr(err, "--state-dir"));
	statedir_free(s);
	statedir_free(opened());
}

/* Its holder has the lock for a moment after a daemon was killed. */
static void test_the_lock_of_a_dead_daemon_is_waited_for(void **state)
{
	int ready[2], status;
	char path[128], text[16], c;
	pid_t dead, child;

	(void)state;
	statedir_free(opened());
	dead = fork();
	if (dead == 0)
		_exit(0);
	assert_int_equal(waitpid(dead, &status, 0), dead);
	assert_int_equal(pipe(ready), 0);
	path_of("lock", path);
	snprintf(text, sizeof(text), "%d\n", (int)dead);
	put("lock", text);
	child = fork();
	if (child == 0) {
		int fd = open(path, O_RDWR);

		if (flock(fd, LOCK_EX) < 0 || write(ready[1], "1", 1) != 1)
			_exit(1);
		usleep(100000); /* whoever comes before the end of it must wait */
		_exit(0);
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	statedir_free(opened());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	close(ready[0]);
	close(ready[1]);
}

static void test_a_directory_that_others_may_write_is_refused(void **state)
{
	struct statedir *s = NULL;

	(void)state;
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_int_equal(chmod(dir, 0720), 0);
	assert_int_equal(statedir_open(dir, &s, err, sizeof(err)), -EPERM);
	assert_int_equal(chmod(dir, 0702), 0);
	assert_int_equal(statedir_open(dir, &s, err, sizeof(err)), -EPERM);
	assert_int_equal(chmod(dir, 0755), 0);
	statedir_free(opened());
}

static void test_two_directories_above_are_made_and_no_more(void **state)
{
	char deep[128];
	struct statedir *s = NULL;

	(void)state;
	snprintf(deep, sizeof(deep), "%s/a/b/c", dir);
	assert_int_equal(statedir_open(deep, &s, err, sizeof(err)), -ENOENT);
	assert_int_equal(access(dir, F_OK), -1);
	snprintf(deep, sizeof(deep), "%s/a/b", dir);
	assert_int_equal(statedir_open(deep, &s, err, sizeof(err)), 0);
	statedir_free(s);
	/* leave only what tear_down() knows */
	snprintf(deep, sizeof(deep), "%s/a/b/node", dir);
	unlink(deep);
	snprintf(deep, sizeof(deep), "%s/a/b/lock", dir);
	unlink(deep);
	snprintf(deep, sizeof(deep), "%s/a/b", dir);
	assert_int_equal(rmdir(deep), 0);
	deep[strlen(deep) - 2] = '\0';
	assert_int_equal(rmdir(deep), 0);
	/* a file is in the way */
	assert_int_equal(rmdir(dir), 0);
	close(open(dir, O_WRONLY | O_CREAT, 0600));
	assert_int_equal(statedir_open(dir, &s, err, sizeof(err)), -ENOTDIR);
	assert_int_equal(unlink(dir), 0);
}

static void test_the_default_is_where_the_user_may_write(void **state)
{
	char path[256];

	(void)state;
	assert_int_equal(setenv("XDG_STATE_HOME", "/x/state", 1), 0);
	assert_int_equal(setenv("HOME", "/home/x", 1), 0);
	assert_int_equal(statedir_default_path(path, sizeof(path)), 0);
	if (geteuid() == 0) {
		assert_string_equal(path, "/var/lib/appswitch");
		return;
	}
	assert_string_equal(path, "/x/state/appswitch");
	assert_int_equal(setenv("XDG_STATE_HOME", "relative", 1), 0);
	assert_int_equal(statedir_default_path(path, sizeof(path)), 0);
	assert_string_equal(path, "/home/x/.local/state/appswitch");
	assert_int_equal(statedir_default_path(path, 10), -ENAMETOOLONG);
	assert_int_equal(unsetenv("HOME"), 0);
	assert_int_equal(statedir_default_path(path, sizeof(path)), -ENOENT);
}

static int set_up(void **state)
{
	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	if (mkdtemp(root) == NULL)
		return -1;
	snprintf(dir, sizeof(dir), "%s/state", root);
	return 0;
}

static int clean(void **state)
{
	static const char *const ours[] = { "lock", "node", "peers", "node.bad", "peers.bad" };
	char path[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ours); i++) {
		path_of(ours[i], path);
		unlink(path);
	}
	return rmdir(dir) == 0 || errno == ENOENT ? 0 : -1; /* nothing else was left */
}

static int tear_down(void **state)
{
	(void)state;
	return rmdir(root);
}

#define fresh(f) cmocka_unit_test_teardown(f, clean)

int main(void)
{
	const struct CMUnitTest tests[] = {
		fresh(test_the_id_is_random_and_kept),
		fresh(test_generations_grow_and_follow_the_clock),
		fresh(test_peers_are_kept_in_order_and_bounded),
		fresh(test_the_same_peers_are_not_written_again),
		fresh(test_a_full_disk_stops_nobody_and_spoils_nothing),
		fresh(test_a_full_disk_at_the_first_start_is_said),
		fresh(test_what_is_damaged_is_kept_aside_and_made_anew),
		fresh(test_both_damaged_are_said_in_one_line),
		fresh(test_of_two_users_the_second_is_refused),
		fresh(test_the_lock_of_a_dead_daemon_is_waited_for),
		fresh(test_a_directory_that_others_may_write_is_refused),
		fresh(test_two_directories_above_are_made_and_no_more),
		fresh(test_the_default_is_where_the_user_may_write),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
