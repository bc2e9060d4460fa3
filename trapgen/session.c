#include <trapgen/session.h>

#include <appswitch/ctl.h>
#include <appswitch/util.h>
#include <trapgen/command.h>
#include <trapgen/embedded.h>
#include <trapgen/fail.h>

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#define OPEN_TIMEOUT_MS 10000 /* from nothing to a daemon that has answered */
#define RESTART_MS	1000  /* after a daemon of ours gave up: time for the other one */
#define RETRY_MS	20

#define fail(...) trapgen_fail(TRAPGEN_EXIT_SETUP, __VA_ARGS__)

static inline void cleanup_json(json_t **j)
{
	json_decref(*j);
}
#define _cleanup_json_ __attribute__((cleanup(cleanup_json)))

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (long long)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Takes @value (NULL: it could not be made, for its bytes are not UTF-8). */
static int put(json_t *msg, const char *key, json_t *value)
{
	if (json_object_set_new(msg, key, value) == 0)
		return 0;
	return fail("register: the %s is not valid UTF-8; use plain text", key);
}

static json_t *string_list(const char *const *items, unsigned n)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < n; i++) {
		if (json_array_append_new(list, json_string(items[i])) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

/* The register message, in *@ret_text (the caller frees it). */
static int register_text(const struct trapgen_spec *spec, char **ret_text)
{
	const struct {
		const char *key, *value;
	} strings[] = {
		{ "name", spec->name },
		{ "network", spec->network },
		{ "lb", spec->lb },
	};
	_cleanup_json_ json_t *msg = json_pack("{s:s}", "op", "register");
	char command[COMMAND_TEXT_MAX + 1];
	int r;

	command_text(spec->argv, command);
	r = put(msg, "command", json_string(command));
	if (r == 0)
		r = put(msg, "ips", string_list(spec->ips, spec->n_ips));
	if (r == 0)
		r = put(msg, "tags",
			string_list((const char *const *)spec->tags, spec->n_tags));
	if (r == 0 && spec->weight != 0)
		r = put(msg, "weight", json_integer(spec->weight));
	for (size_t i = 0; i < ARRAY_SIZE(strings) && r == 0; i++) {
		if (strings[i].value != NULL)
			r = put(msg, strings[i].key, json_string(strings[i].value));
	}
	if (r != 0)
		return r;
	*ret_text = json_dumps(msg, JSON_COMPACT);
	if (*ret_text == NULL)
		return fail("register: %s; try again", strerror(ENOMEM));
	if (strlen(*ret_text) > CTL_MSG_MAX) {
		free(*ret_text);
		return fail("register: %s; use fewer or shorter tags", strerror(EMSGSIZE));
	}
	return 0;
}

/* Parses an answer; *@ret (the caller's) only if it says ok. 0 or an exit status. */
static int parse_answer(const char *text, json_t **ret)
{
	_cleanup_json_ json_t *j = json_loads(text, 0, NULL);
	const char *error;

	if (json_is_true(json_object_get(j, "ok"))) {
		*ret = json_incref(j);
		return 0;
	}
	error = json_string_value(json_object_get(j, "error"));
	return fail("%s", error != NULL
				  ? error
				  : "talk to the daemon: its answer is none of this protocol;"
				    " check that it is of the same version");
}

static bool is_hangup(long r)
{
	return r == 0 || r == -EPIPE || r == -ECONNRESET;
}

/* 0, an exit status, or -EPIPE: the daemon hung up without a word, so it was just ending. */
static int do_register(struct session *s, const char *text)
{
	_cleanup_json_ json_t *answer = NULL;
	_cleanup_free_ char *buf = malloc(CTL_MSG_MAX + 1);
	const char *ipv4, *ipv6;
	long r;

	if (buf == NULL)
		return fail("register: %s; try again", strerror(ENOMEM));
	r = ctl_send(s->fd, text, strlen(text));
	if (r == 0) {
		r = ctl_recv(s->fd, buf, CTL_MSG_MAX + 1, &s->userns);
		if (r == 0 || is_hangup(r))
			return -EPIPE;
	}
	if (r < 0)
		return is_hangup(r) ? -EPIPE
				    : fail("register: %s; is the daemon in order?",
					   strerror((int)-r));
	r = parse_answer(buf, &answer);
	if (r != 0)
		return (int)r;
	ipv4 = json_string_value(json_object_get(answer, "ipv4"));
	ipv6 = json_string_value(json_object_get(answer, "ipv6"));
	if (ipv4 == NULL || ipv6 == NULL || strlen(ipv4) >= sizeof(s->ipv4) ||
	    strlen(ipv6) >= sizeof(s->ipv6) ||
	    json_is_true(json_object_get(answer, "userns")) != (s->userns >= 0))
		return fail("register: the answer lacks addresses or the user namespace;"
			    " check that the daemon is of the same version");
	memcpy(s->ipv4, ipv4, strlen(ipv4) + 1);
	memcpy(s->ipv6, ipv6, strlen(ipv6) + 1);
	return 0;
}

/* A daemon answers for all that the command does on the network, so it must be root's or our
 * own: anybody can make a socket in /tmp. */
static int check_daemon(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return fail("identify the daemon: %s; check the socket's path",
			    strerror(errno));
	if (peer.uid != 0 && peer.uid != geteuid())
		return trapgen_fail(
			TRAPGEN_EXIT_SETUP,
			"trust the daemon: it runs as user %u, neither root nor you;"
			" choose another --socket",
			(unsigned)peer.uid);
	return 0;
}

static void pause_ms(long ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	(void)nanosleep(&ts, NULL);
}

/* Nobody serves @path: starts a daemon. 1: it serves. 0: it gave up. -1: *@ret_status is final. */
static int start_daemon(const struct trapgen_spec *spec, const char *path, int timeout_ms,
			int *ret_status)
{
	struct stat st;
	char why[256];
	int r;

	if (spec->no_embedded) {
		*ret_status = fail("connect to the daemon: nobody serves %s; start"
				   " 'appswitch daemon' or leave --no-embedded out",
				   path);
		return -1;
	}
	if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode)) { /* a daemon might replace it */
		*ret_status = fail("start a daemon: %s exists and is no socket; choose another"
				   " --socket",
				   path);
		return -1;
	}
	r = timeout_ms > 0 ? embedded_start(path, timeout_ms, why, sizeof(why)) : -ETIMEDOUT;
	if (r == -ECANCELED) {
		*ret_status = fail("start a daemon: %s", why);
		return -1;
	}
	if (r < 0) {
		*ret_status = fail("start a daemon: %s; run 'appswitch daemon --socket %s' to"
				   " see more",
				   strerror(-r), path);
		return -1;
	}
	return r;
}

/* Of many runs that start a daemon at once one wins the socket; the daemons of the others give
 * up and those runs connect to the winner's. An embedded daemon may also end between our
 * connect and its answer. Either way the remedy is to begin again, until the deadline. */
static int open_loop(const struct trapgen_spec *spec, const char *path, const char *text,
		     struct session *s)
{
	long long now = now_ms(), deadline = now + OPEN_TIMEOUT_MS;
	long long next_daemon = now; /* not before then we start one (again) */

	for (;; now = now_ms()) {
		int r, status;

		s->fd = ctl_connect(path);
		if (s->fd >= 0) {
			r = check_daemon(s->fd);
			if (r == 0)
				r = do_register(s, text);
			if (r != -EPIPE)
				return r;
			session_done(s);
			if (now > deadline)
				return fail("register: the daemon at %s hangs up; see its log",
					    path);
			next_daemon = now; /* the one that served is going */
		} else if (s->fd != -ENOENT && s->fd != -ECONNREFUSED) {
			return fail("connect to the daemon at %s: %s; check the path and its"
				    " permissions",
				    path, strerror(-s->fd));
		} else if (now >= next_daemon || now > deadline) {
			r = start_daemon(spec, path, (int)(deadline - now), &status);
			if (r < 0)
				return status;
			next_daemon = now_ms() + RESTART_MS;
			if (r > 0)
				continue;
		}
		pause_ms(RETRY_MS);
	}
}

int session_open(const struct trapgen_spec *spec, struct session *ret)
{
	struct session s = { .fd = -1, .userns = -1 };
	_cleanup_free_ char *text = NULL;
	char path[PATH_MAX];
	int r;

	if (ctl_socket_path(spec->socket, path, sizeof(path)) < 0)
		return fail("find the daemon: the path of its socket is too long;"
			    " choose a shorter --socket");
	r = register_text(spec, &text);
	if (r == 0)
		r = open_loop(spec, path, text, &s);
	if (r != 0) {
		session_done(&s);
		return r;
	}
	*ret = s;
	return 0;
}

int session_attach(const struct session *s, int listener, int probe)
{
	_cleanup_json_ json_t *answer = NULL;
	char msg[128], buf[4096];
	long n;

	snprintf(msg, sizeof(msg), "{\"op\":\"attach\",\"listener\":%d,\"probe\":%d}", listener,
		 probe);
	n = ctl_send(s->fd, msg, strlen(msg));
	if (n == 0) {
		do {
			n = read(s->fd, buf, sizeof(buf) - 1);
		} while (n < 0 && errno == EINTR);
		n = n < 0 ? -errno : n > 0 ? n : -EPIPE;
	}
	if (n < 0)
		return fail("hand the traps to the daemon: %s; see its log", strerror((int)-n));
	buf[n] = '\0';
	return parse_answer(buf, &answer);
}

void session_done(struct session *s)
{
	if (s->fd >= 0)
		close(s->fd);
	if (s->userns >= 0)
		close(s->userns);
	s->fd = -1;
	s->userns = -1;
}
