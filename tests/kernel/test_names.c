/* Abstract names carry the state: unique, private to a namespace, visible in the dump. */
#include "kern.h"

#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sched.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <fcntl.h>

static int bind_name(int fd, const char *name)
{
	struct sockaddr_un sa;
	socklen_t len = kern_abstract(&sa, name);

	return bind(fd, (struct sockaddr *)&sa, len) < 0 ? -errno : 0;
}

static int connect_name(int fd, const char *name)
{
	struct sockaddr_un sa;
	socklen_t len = kern_abstract(&sa, name);

	return connect(fd, (struct sockaddr *)&sa, len) < 0 ? -errno : 0;
}

static void test_a_second_bind_is_eaddrinuse(void **state)
{
	int a = kern_unix(SOCK_STREAM), b = kern_unix(SOCK_STREAM);

	(void)state;
	assert_int_equal(bind_name(a, "1.2.3.4:5-6.7.8.9:10"), 0);
	assert_int_equal(bind_name(b, "1.2.3.4:5-6.7.8.9:10"), -EADDRINUSE);
	close(a);
	assert_int_equal(bind_name(b, "1.2.3.4:5-6.7.8.9:10"), 0);
	close(b);
}

/* The name lives as long as the last copy of the socket, wherever it is. */
static void test_a_listener_lives_as_long_as_its_name_is_taken(void **state)
{
	int l = kern_listen("live"), copy = dup(l), probe;

	(void)state;
	for (int i = 0; i < 2; i++) {
		probe = kern_unix(SOCK_STREAM);
		assert_int_equal(bind_name(probe, "live"), -EADDRINUSE);
		close(probe);
		close(i ? copy : l);
	}
	probe = kern_unix(SOCK_STREAM);
	assert_int_equal(bind_name(probe, "live"), 0);
	close(probe);
}

/* The probe must not disturb: no connection appears on the listener. */
static void test_the_liveness_probe_is_invisible(void **state)
{
	int l = kern_listen("quiet"), probe = kern_unix(SOCK_STREAM);

	(void)state;
	assert_int_equal(fcntl(l, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(bind_name(probe, "quiet"), -EADDRINUSE);
	assert_int_equal(accept4(l, NULL, NULL, 0), -1);
	assert_int_equal(errno, EAGAIN);
	close(probe);
	close(l);
}

static void test_a_full_backlog_is_eagain_at_once(void **state)
{
	int l = kern_unix(SOCK_STREAM), fd[4], r = 0, n = 0;

	(void)state;
	assert_int_equal(bind_name(l, "full"), 0);
	assert_int_equal(listen(l, 1), 0);
	for (; n < 4 && r == 0; n++) {
		fd[n] = kern_unix(SOCK_STREAM | SOCK_NONBLOCK);
		r = connect_name(fd[n], "full");
	}
	assert_int_equal(r, -EAGAIN);
	while (n-- > 0)
		close(fd[n]);
	close(l);
}

/* In a child: another network namespace. Exits with the errno of what it tried. */
static int in_other_netns(const char *name, int (*try)(int fd, const char *name))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		if (unshare(CLONE_NEWNET) < 0)
			_exit(99);
		_exit(-try(socket(AF_UNIX, SOCK_STREAM, 0), name));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return -WEXITSTATUS(status);
}

static void test_abstract_names_do_not_cross_network_namespaces(void **state)
{
	int l = kern_listen("here");

	(void)state;
	assert_int_equal(in_other_netns("here", connect_name), -ECONNREFUSED);
	assert_int_equal(in_other_netns("here", bind_name), 0);
	close(l);
}

/* The namespace is the socket's, not the caller's: one made before unshare() still gets in.
 * This is why no socket made in the private namespace may reach an app unconnected. */
static int connect_from_other_netns(int fd, const char *name)
{
	if (unshare(CLONE_NEWNET) < 0)
		return -99;
	return connect_name(fd, name);
}

static void test_a_socket_keeps_the_namespace_it_was_made_in(void **state)
{
	int l = kern_listen("kept"), fd = kern_unix(SOCK_STREAM), status;
	pid_t pid = fork();

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(-connect_from_other_netns(fd, "kept"));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(fd);
	close(l);
}

struct seen {
	uint64_t cookie;
	uint32_t ino, peer;
	uint8_t state;
	char name[108];
	size_t namelen;
};

static void parse_diag(const struct nlmsghdr *h, struct seen *s)
{
	const struct unix_diag_msg *m = NLMSG_DATA(h);
	int left = (int)(h->nlmsg_len - NLMSG_LENGTH(sizeof(*m)));
	const struct nlattr *at = (const struct nlattr *)(m + 1);

	memset(s, 0, sizeof(*s));
	s->ino = m->udiag_ino;
	s->state = m->udiag_state;
	s->cookie = (uint64_t)m->udiag_cookie[1] << 32 | m->udiag_cookie[0];
	while (left >= (int)sizeof(*at) && at->nla_len >= sizeof(*at)) {
		const char *p = (const char *)(at + 1);
		size_t len = at->nla_len - sizeof(*at);

		if (at->nla_type == UNIX_DIAG_NAME && len <= sizeof(s->name)) {
			memcpy(s->name, p, len);
			s->namelen = len;
		} else if (at->nla_type == UNIX_DIAG_PEER) {
			memcpy(&s->peer, p, sizeof(s->peer));
		}
		left -= (int)NLA_ALIGN(at->nla_len);
		at = (const struct nlattr *)((const char *)at + NLA_ALIGN(at->nla_len));
	}
}

static size_t dump(uint32_t states, struct seen *out, size_t max)
{
	struct {
		struct nlmsghdr h;
		struct unix_diag_req r;
	} q = { .h = { .nlmsg_len = sizeof(q),
		       .nlmsg_type = SOCK_DIAG_BY_FAMILY,
		       .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.r = { .sdiag_family = AF_UNIX,
		       .udiag_states = states,
		       .udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_PEER } };
	union {
		char c[32768];
		struct nlmsghdr h;
	} buf;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	size_t n = 0;
	bool done = false;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, &q, sizeof(q)), sizeof(q));
	while (!done) {
		ssize_t len = read(fd, buf.c, sizeof(buf.c));

		assert_true(len > 0);
		for (struct nlmsghdr *h = &buf.h; NLMSG_OK(h, len); h = NLMSG_NEXT(h, len)) {
			assert_true(h->nlmsg_type != NLMSG_ERROR);
			done = h->nlmsg_type == NLMSG_DONE;
			if (done)
				break;
			assert_true(n < max);
			parse_diag(h, &out[n++]);
		}
	}
	close(fd);
	return n;
}

static const struct seen *by_cookie(const struct seen *s, size_t n, uint64_t cookie)
{
	for (size_t i = 0; i < n; i++)
		if (s[i].cookie == cookie)
			return &s[i];
	return NULL;
}

static bool named(const struct seen *s, const char *name)
{
	return s->namelen == strlen(name) + 1 && memcmp(s->name + 1, name, strlen(name)) == 0;
}

static void test_unix_diag_sees_names_peers_and_cookies(void **state)
{
	static struct seen s[64];
	int l = kern_listen("srv"), c = kern_unix(SOCK_STREAM), srv;
	const struct seen *sl, *sc, *sa;
	size_t n;

	(void)state;
	assert_int_equal(bind_name(c, "cli-srv"), 0);
	assert_int_equal(connect_name(c, "srv"), 0);
	srv = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	assert_true(srv >= 0);
	n = dump(0xffffffff, s, 64);
	sl = by_cookie(s, n, kern_cookie(l, SO_COOKIE));
	sc = by_cookie(s, n, kern_cookie(c, SO_COOKIE));
	sa = by_cookie(s, n, kern_cookie(srv, SO_COOKIE));
	assert_non_null(sl);
	assert_non_null(sc);
	assert_non_null(sa);
	assert_int_equal(sl->state, 10 /* TCP_LISTEN */);
	assert_int_equal(sc->state, 1 /* TCP_ESTABLISHED */);
	assert_true(named(sl, "srv") && named(sc, "cli-srv") && named(sa, "srv"));
	assert_int_equal(sc->peer, sa->ino);
	assert_int_equal(sa->peer, sc->ino);

	/* a dump of one state: the sweep over listeners */
	n = dump(1 << 10, s, 64);
	assert_non_null(by_cookie(s, n, kern_cookie(l, SO_COOKIE)));
	assert_null(by_cookie(s, n, kern_cookie(c, SO_COOKIE)));
	close(srv);
	close(c);
	close(l);
	n = dump(0xffffffff, s, 64);
	for (size_t i = 0; i < n; i++)
		assert_false(named(&s[i], "srv") || named(&s[i], "cli-srv"));
}

/* Both ends know both names: a connection's addresses need no table. */
static void test_both_ends_know_both_names(void **state)
{
	struct sockaddr_un sa;
	socklen_t len = sizeof(sa);
	int l = kern_listen("s"), c = kern_unix(SOCK_STREAM), srv;

	(void)state;
	assert_int_equal(bind_name(c, "c"), 0);
	assert_int_equal(connect_name(c, "s"), 0);
	close(l); /* also without the listener */
	len = sizeof(sa);
	assert_int_equal(getpeername(c, (struct sockaddr *)&sa, &len), 0);
	assert_int_equal(len, offsetof(struct sockaddr_un, sun_path) + 2);
	assert_int_equal(sa.sun_path[1], 's');
	close(c);

	l = kern_listen("s");
	c = kern_unix(SOCK_STREAM);
	assert_int_equal(bind_name(c, "c"), 0);
	assert_int_equal(connect_name(c, "s"), 0);
	srv = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	assert_true(srv >= 0);
	close(c);
	close(l);
	len = sizeof(sa);
	assert_int_equal(getpeername(srv, (struct sockaddr *)&sa, &len), 0);
	assert_int_equal(sa.sun_path[1], 'c');
	len = sizeof(sa);
	assert_int_equal(getsockname(srv, (struct sockaddr *)&sa, &len), 0);
	assert_int_equal(sa.sun_path[1], 's');
	close(srv);
}

static int tests(void)
{
	const struct CMUnitTest t[] = {
		cmocka_unit_test(test_a_second_bind_is_eaddrinuse),
		cmocka_unit_test(test_a_listener_lives_as_long_as_its_name_is_taken),
		cmocka_unit_test(test_the_liveness_probe_is_invisible),
		cmocka_unit_test(test_a_full_backlog_is_eagain_at_once),
		cmocka_unit_test(test_abstract_names_do_not_cross_network_namespaces),
		cmocka_unit_test(test_a_socket_keeps_the_namespace_it_was_made_in),
		cmocka_unit_test(test_unix_diag_sees_names_peers_and_cookies),
		cmocka_unit_test(test_both_ends_know_both_names),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}

int main(int argc, char **argv)
{
	return kern_main(argc, argv, tests);
}
