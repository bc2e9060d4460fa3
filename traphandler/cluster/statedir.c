#include "traphandler/cluster/statedir.h"

#include <appswitch/util.h>

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#define PATH_LEN     4096
#define TEXT_MAX     (STATEDIR_PEERS * AS_ENDPOINT_STRLEN)
#define LOCK_WAIT_MS 2000 /* for the holder of a daemon that was killed */

struct statedir {
	char *path;
	int dir_fd, lock_fd;
	uint64_t id;
	uint32_t generation; /* the highest ever taken; 0: none */
	struct as_endpoint peers[STATEDIR_PEERS];
	size_t n_peers;
	bool peers_stored; /* the file says what @peers says */
};

int statedir_default_path(char *ret, size_t size)
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	int n;

	/* a relative path is to be taken for no path (XDG Base Directory Specification 0.8) */
	if (geteuid() == 0)
		n = snprintf(ret, size, "/var/lib/appswitch");
	else if (state != NULL && *state == '/')
		n = snprintf(ret, size, "%s/appswitch", state);
	else if (home != NULL && *home == '/')
		n = snprintf(ret, size, "%s/.local/state/appswitch", home);
	else
		return -ENOENT;
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* ---- files ---- */

static int say(const struct statedir *s, const char *name, const char *why, int r, char *err,
	       size_t err_size)
{
	snprintf(err, err_size, "%s/%s: %s", s->path, name, why);
	return r;
}

static int write_file(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENOSPC;
		text += n;
		len -= (size_t)n;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

/* The file @name says @text, now and after a power cut, or is as it was. */
static int replace(const struct statedir *s, const char *name, const char *text, size_t len,
		   char *err, size_t err_size)
{
	char aside[32];
	int fd, r;

	snprintf(aside, sizeof(aside), "%s.tmp", name);
	fd = openat(s->dir_fd, aside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
		    0600);
	if (fd < 0)
		return say(s, aside, strerror(errno), -errno, err, err_size);
	r = write_file(fd, text, len);
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && renameat(s->dir_fd, aside, s->dir_fd, name) < 0)
		r = -errno;
	if (r < 0) {
		(void)unlinkat(s->dir_fd, aside, 0);
		return say(s, name, strerror(-r), r, err, err_size);
	}
	if (fsync(s->dir_fd) < 0 && errno != EINVAL) /* some file systems have no such thing */
		return say(s, name, strerror(errno), -errno, err, err_size);
	return 0;
}

/* NUL-terminated into @buf. 0; -ENOENT; -EBADMSG: no file of ours; others: it cannot be read. */
static int read_file(const struct statedir *s, const char *name, char *buf, size_t size,
		     size_t *ret_len)
{
	_cleanup_close_ int fd =
		openat(s->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	size_t len = 0;
	ssize_t n;

	if (fd < 0)
		return errno == ELOOP ? -EBADMSG : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EBADMSG;
	do {
		n = read(fd, buf + len, size - len);
		if (n > 0)
			len += (size_t)n;
	} while (n > 0 || (n < 0 && errno == EINTR));
	if (n < 0)
		return -errno;
	if (len == size || memchr(buf, '\0', len) != NULL)
		return -EBADMSG;
	buf[len] = '\0';
	*ret_len = len;
	return 0;
}

/* Out of the way, but not lost; and said. */
static void set_aside(const struct statedir *s, const char *name, char *err, size_t err_size)
{
	size_t used = strlen(err);
	char bad[32];

	snprintf(bad, sizeof(bad), "%s.bad", name);
	snprintf(err + used, err_size - used,
		 renameat(s->dir_fd, name, s->dir_fd, bad) == 0
			 ? "%s%s/%s is damaged: kept as %s.bad and made anew"
			 : "%s%s/%s is damaged and made anew; it could not be kept as %s.bad",
		 used > 0 ? "; " : "", s->path, name, name);
}

/* ---- node ---- */

static int node_text(char *buf, size_t size, uint64_t id, uint32_t generation)
{
	return snprintf(buf, size, "id %016" PRIx64 "\ngeneration %" PRIu32 "\n", id,
			generation);
}

static int store_node(const struct statedir *s, char *err, size_t err_size)
{
	char text[64];
	int n = node_text(text, sizeof(text), s->id, s->generation);

	return replace(s, "node", text, (size_t)n, err, err_size);
}

/* What we would write is what is right: there is one form. */
static int parse_node(struct statedir *s, const char *text)
{
	uint64_t id;
	uint32_t generation;
	char again[64];

	if (sscanf(text, "id %" SCNx64 "\ngeneration %" SCNu32, &id, &generation) != 2)
		return -EBADMSG;
	node_text(again, sizeof(again), id, generation);
	/* the last generation has no next one */
	if (strcmp(text, again) != 0 || id == 0 || generation == UINT32_MAX)
		return -EBADMSG;
	s->id = id;
	s->generation = generation;
	return 0;
}

/* -errno only if there is a file that may be good, or there are no random numbers. */
static int load_node(struct statedir *s, char *err, size_t err_size)
{
	char text[64], why[512];
	size_t len;
	int r = read_file(s, "node", text, sizeof(text), &len);

	if (r == 0)
		r = parse_node(s, text);
	if (r == 0)
		return 0;
	if (r != -EBADMSG && r != -ENOENT)
		return say(s, "node", strerror(-r), r, err, err_size);
	if (r == -EBADMSG)
		set_aside(s, "node", err, err_size);
	while (s->id == 0) {
		if (getrandom(&s->id, sizeof(s->id), 0) != (ssize_t)sizeof(s->id))
			return say(s, "node", "no random numbers", -EIO, err, err_size);
	}
	if (store_node(s, why, sizeof(why)) < 0) {
		size_t used = strlen(err);

		snprintf(err + used, err_size - used,
			 "%s%s: at its next start this node is a new one", used > 0 ? "; " : "",
			 why);
	}
	return 0;
}

uint64_t statedir_id(const struct statedir *s)
{
	return s->id;
}

int statedir_next_generation(struct statedir *s, uint32_t *ret, char *err, size_t err_size)
{
	time_t now = time(NULL);
	uint32_t next = s->generation < UINT32_MAX ? s->generation + 1 : UINT32_MAX;

	if (now > 0 && now < UINT32_MAX && (uint32_t)now > next)
		next = (uint32_t)now;
	s->generation = next;
	*ret = next;
	return store_node(s, err, err_size);
}

int statedir_set_generation(struct statedir *s, uint32_t generation, char *err, size_t err_size)
{
	if (generation <= s->generation)
		return 0;
	s->generation = generation;
	return store_node(s, err, err_size);
}

/* ---- peers ---- */

static size_t peers_text(char *buf, const struct as_endpoint *peers, size_t n)
{
	char one[AS_ENDPOINT_STRLEN];
	size_t len = 0;

	for (size_t i = 0; i < n; i++)
		len += (size_t)sprintf(buf + len, "%s\n", as_endpoint_format(&peers[i], one));
	return len;
}

static int parse_peers(struct statedir *s, const char *text)
{
	char line[AS_ENDPOINT_STRLEN], again[AS_ENDPOINT_STRLEN];
	size_t n = 0;

	while (*text != '\0') {
		size_t len = strcspn(text, "\n");

		if (n == STATEDIR_PEERS || text[len] != '\n' || len >= sizeof(line))
			return -EBADMSG;
		memcpy(line, text, len);
		line[len] = '\0';
		if (as_endpoint_parse(line, 0, &s->peers[n]) < 0 ||
		    strcmp(as_endpoint_format(&s->peers[n], again), line) != 0)
			return -EBADMSG;
		n++;
		text += len + 1;
	}
	s->n_peers = n;
	return 0;
}

/* Without them the node still has its --join: nothing here is worth not to start for. */
static void load_peers(struct statedir *s, char *err, size_t err_size)
{
	char text[TEXT_MAX + 1];
	size_t len, used = strlen(err);
	int r;

	text[0] = '\0';
	r = read_file(s, "peers", text, sizeof(text), &len);

	if (r == 0)
		r = parse_peers(s, text);
	s->peers_stored = r == 0;
	if (r == -EBADMSG)
		set_aside(s, "peers", err, err_size);
	else if (r < 0 && r != -ENOENT)
		snprintf(err + used, err_size - used, "%s%s/peers: %s", used > 0 ? "; " : "",
			 s->path, strerror(-r));
}

size_t statedir_peers(const struct statedir *s, const struct as_endpoint **ret)
{
	*ret = s->peers;
	return s->n_peers;
}

static bool same_peers(const struct statedir *s, const struct as_endpoint *peers, size_t n)
{
	if (n != s->n_peers)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (peers[i].port != s->peers[i].port ||
		    !as_addr_eq(&peers[i].addr, &s->peers[i].addr))
			return false;
	}
	return true;
}

int statedir_set_peers(struct statedir *s, const struct as_endpoint *peers, size_t n, char *err,
		       size_t err_size)
{
	char text[TEXT_MAX + 1];
	int r;

	if (n > STATEDIR_PEERS)
		n = STATEDIR_PEERS;
	if (s->peers_stored && same_peers(s, peers, n))
		return 0;
	if (n > 0)
		memmove(s->peers, peers, n * sizeof(*peers));
	s->n_peers = n;
	r = replace(s, "peers", text, peers_text(text, s->peers, n), err, err_size);
	s->peers_stored = r == 0;
	return r;
}

/* ---- the directory ---- */

/* mkdir -p, but not for any depth: a wrong path is not to grow a tree. */
static int make_dirs(const char *path, int above)
{
	_cleanup_free_ char *parent = strdup(path);
	char *slash;
	int r;

	if (parent == NULL)
		return -ENOMEM;
	if (mkdir(path, 0700) == 0 || errno == EEXIST)
		return 0;
	if (errno != ENOENT || above == 0)
		return -errno;
	for (size_t n = strlen(parent); n > 1 && parent[n - 1] == '/'; n--)
		parent[n - 1] = '\0';
	slash = strrchr(parent, '/');
	if (slash == NULL || slash == parent)
		return -ENOENT;
	*slash = '\0';
	r = make_dirs(parent, above - 1);
	if (r < 0)
		return r;
	return mkdir(path, 0700) == 0 || errno == EEXIST ? 0 : -errno;
}

/* Of a daemon that was killed the lock is its holder's, which lets go of it at once. */
static bool owner_is_dead(int fd)
{
	char buf[16] = "";
	int pid;

	if (pread(fd, buf, sizeof(buf) - 1, 0) <= 0)
		return false;
	pid = atoi(buf);
	return pid > 0 && kill(pid, 0) < 0 && errno == ESRCH;
}

static int take_lock(struct statedir *s, char *err, size_t err_size)
{
	char pid[16];
	int n = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());

	s->lock_fd = openat(s->dir_fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (s->lock_fd < 0 && (errno == EROFS || errno == EACCES))
		s->lock_fd = openat(s->dir_fd, "lock", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (s->lock_fd < 0)
		return say(s, "lock", strerror(errno), -errno, err, err_size);
	for (int ms = 0; flock(s->lock_fd, LOCK_EX | LOCK_NB) < 0; ms++) {
		if (errno != EWOULDBLOCK)
			return say(s, "lock", strerror(errno), -errno, err, err_size);
		if (ms == LOCK_WAIT_MS || !owner_is_dead(s->lock_fd)) {
			snprintf(err, err_size,
				 "another daemon uses %s: give this one its own --state-dir",
				 s->path);
			return -EBUSY;
		}
		usleep(1000);
	}
	/* only for who finds it taken: a full disk is no reason not to start */
	if (ftruncate(s->lock_fd, 0) == 0)
		n = (int)pwrite(s->lock_fd, pid, (size_t)n, 0);
	(void)n;
	return 0;
}

static int open_dir(struct statedir *s, char *err, size_t err_size)
{
	int r = make_dirs(s->path, 2);
	struct stat st = { 0 };

	if (r == 0) {
		s->dir_fd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (s->dir_fd < 0 || fstat(s->dir_fd, &st) < 0)
			r = -errno;
	}
	if (r < 0) {
		snprintf(err, err_size, "%s: %s; choose another --state-dir", s->path,
			 strerror(-r));
		return r;
	}
	if ((st.st_mode & 022) != 0 || (st.st_uid != geteuid() && st.st_uid != 0)) {
		snprintf(err, err_size,
			 "%s: others may write into it; chmod 700 it, or choose another "
			 "--state-dir",
			 s->path);
		return -EPERM;
	}
	return 0;
}

int statedir_open(const char *path, struct statedir **ret, char *err, size_t err_size)
{
	struct statedir *s = calloc(1, sizeof(*s));
	int r = -ENOMEM;

	*err = '\0';
	if (s != NULL) {
		s->dir_fd = s->lock_fd = -1;
		s->path = strdup(path);
	}
	if (s == NULL || s->path == NULL) {
		snprintf(err, err_size, "%s: %s", path, strerror(ENOMEM));
	} else if (strlen(path) >= PATH_LEN) {
		r = -ENAMETOOLONG;
		snprintf(err, err_size, "the path of the state directory is too long");
	} else {
		r = open_dir(s, err, err_size);
		if (r == 0)
			r = take_lock(s, err, err_size);
		if (r == 0)
			r = load_node(s, err, err_size);
		if (r == 0)
			load_peers(s, err, err_size);
	}
	if (r < 0) {
		statedir_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

struct statedir *statedir_free(struct statedir *s)
{
	if (s == NULL)
		return NULL;
	cleanup_close(&s->lock_fd);
	cleanup_close(&s->dir_fd);
	free(s->path);
	free(s);
	return NULL;
}

int statedir_lock_fd(const struct statedir *s)
{
	return s->lock_fd;
}
