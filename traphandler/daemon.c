#include "traphandler/daemon.h"

#include "traphandler/cluster/cluster.h"
#include "traphandler/conn/accept.h"
#include "traphandler/conn/connect.h"
#include "traphandler/conn/epoll_readd.h"
#include "traphandler/conn/listen.h"
#include "traphandler/conn/replace.h"
#include "traphandler/control/server.h"
#include "traphandler/control/views.h"
#include "traphandler/remote/remote.h"
#include "traphandler/service/registry.h"
#include "traphandler/service/sockrec.h"
#include "traphandler/state/adopt.h"
#include "traphandler/state/holder.h"
#include "traphandler/state/privns.h"
#include "traphandler/trap/pool.h"

#include <appswitch/util.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#define TICK_MS		 20    /* deadlines, stuck workers */
#define SWEEP_MS	 1000  /* closed listeners, counts */
#define LOCK_WAIT_MS	 5000  /* for the holder of a killed daemon to let go */
#define EMBEDDED_IDLE_MS 10000 /* an embedded daemon that nobody came to */
#define GOOD_BYE_US	 50000 /* for packets to be out */

struct daemon {
	struct switch_ctx sw;
	const struct daemon_config *cfg;
	uv_loop_t loop;
	uv_timer_t tick;
	uv_async_t ended;
	uv_signal_t sigterm, sigint, sighup;
	struct server *server;
	pid_t holder;
	uint64_t started_ms, swept_ms;
	bool had_app;
};

/* Returns how many listeners there are fds for: each takes one, and one more while it is waited
 * on; half of them stay for everything else. */
static unsigned raise_nofile(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		return ST_LISTENERS;
	rl.rlim_cur = rl.rlim_max;
	setrlimit(RLIMIT_NOFILE, &rl);
	return rl.rlim_max / 4 < ST_LISTENERS ? (unsigned)(rl.rlim_max / 4) : ST_LISTENERS;
}

static int make_parent(const char *path)
{
	char dir[sizeof(((struct sockaddr_un *)0)->sun_path) + 8];
	char *slash;

	snprintf(dir, sizeof(dir), "%s", path);
	slash = strrchr(dir, '/');
	if (slash == NULL || slash == dir)
		return 0;
	*slash = '\0';
	if (mkdir(dir, geteuid() == 0 ? 0755 : 0700) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

/* Who has the lock wrote its pid into the file. Killed, its holder lets go of it soon. */
static bool owner_lives(int fd)
{
	char buf[16] = "";
	int pid;

	if (pread(fd, buf, sizeof(buf) - 1, 0) <= 0)
		return true;
	pid = atoi(buf);
	return pid <= 0 || kill(pid, 0) == 0 || errno != ESRCH;
}

/* Does anybody have this socket open, also one of another kind? */
static bool answers(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd =
		socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	return fd >= 0 && (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 ||
			   (errno != ECONNREFUSED && errno != ENOENT));
}

/* A lock file has nothing in it but a pid: anything else is somebody's own file. */
static bool is_lock(int fd, const struct stat *sb)
{
	char buf[16];
	ssize_t n = pread(fd, buf, sizeof(buf), 0);

	if (!S_ISREG(sb->st_mode) || n < 0 || n == (ssize_t)sizeof(buf))
		return false;
	for (ssize_t i = 0; i < n; i++) {
		if ((buf[i] < '0' || buf[i] > '9') && buf[i] != '\n')
			return false;
	}
	return true;
}

/* The lock file is removed by its owner; who locked a removed one tries again. An owner that lives
 * but does not answer at @ctl_path is about to end, or to begin. */
static int take_lock(const char *path, const char *ctl_path, int *ret_fd)
{
	uint64_t until = now_ms() + LOCK_WAIT_MS;

	for (;;) {
		_cleanup_close_ int fd =
			open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		struct stat mine, there;
		char pid[16];
		int n = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());

		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
			if (errno != EWOULDBLOCK)
				return -errno;
			if ((owner_lives(fd) && answers(ctl_path)) || now_ms() > until)
				return -EADDRINUSE;
			usleep(1000);
			continue;
		}
		if (fstat(fd, &mine) < 0 || stat(path, &there) < 0 ||
		    mine.st_ino != there.st_ino || mine.st_dev != there.st_dev)
			continue;
		if (!is_lock(fd, &mine))
			return -EEXIST;
		if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, (size_t)n, 0) != n)
			return -errno;
		*ret_fd = fd_steal(&fd);
		return 0;
	}
}

/* Under the lock: a socket file that is still there is nobody's. Anything else is left alone. */
static int listen_path(const char *path, int *ret_fd)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = -1;
	struct stat sb;
	mode_t old;
	int r = 0;

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, path, strlen(path) + 1);
	if (lstat(path, &sb) == 0) {
		if (!S_ISSOCK(sb.st_mode) || answers(path))
			return -EEXIST;
		if (unlink(path) < 0)
			return -errno;
	}
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	old = umask(0177);
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		r = -errno;
	umask(old);
	if (r == 0 && listen(fd, 1024) < 0)
		r = -errno;
	if (r == 0)
		*ret_fd = fd_steal(&fd);
	return r;
}

static char said[256]; /* why it does not start: for a `run` that waits for an embedded one */

static int say(const char *what, int r)
{
	snprintf(said, sizeof(said), "%s: %s", what, strerror(-r));
	log_error("%s", said);
	return r;
}

/* The same for a path that the user chose. */
static int say_path(const char *path, int r)
{
	if (r != -EEXIST)
		return say(path, r);
	snprintf(said, sizeof(said),
		 "%s: there is a file of somebody else; choose another --socket", path);
	log_error("%s", said);
	return r;
}

/* Only what we made: something else may be at such a path. */
static void unlink_all(const struct st_header *h, bool holder_stays)
{
	if (h->ctl_sock_fd >= 0)
		unlink(h->ctl_path);
	if (!holder_stays && h->holder_sock_fd >= 0)
		unlink(h->holder_path);
	unlink(h->lock_path);
}

/* ---- the loop ---- */

static void on_app_ended(struct switch_ctx *sw)
{
	struct daemon *d = container_of(sw, struct daemon, sw);

	uv_async_send(&d->ended);
}

static void stop(struct daemon *d)
{
	d->sw.stopping = true;
	uv_stop(&d->loop);
}

static bool any_app(struct daemon *d)
{
	bool any;

	pthread_mutex_lock(&d->sw.lock);
	any = d->sw.n_apps > 0;
	pthread_mutex_unlock(&d->sw.lock);
	if (any)
		d->had_app = true;
	return any;
}

static void maybe_end_embedded(struct daemon *d)
{
	if (!d->cfg->embedded || any_app(d) || server_clients(d->server) > 0)
		return;
	if (d->had_app || now_ms() - d->started_ms > EMBEDDED_IDLE_MS)
		stop(d);
}

static void on_ended(uv_async_t *a)
{
	struct daemon *d = a->data;

	/* the app may have come and gone between two looks */
	if (!any_app(d) && d->sw.st.h->next_app > 1)
		d->had_app = true;
	maybe_end_embedded(d);
}

static void on_tick(uv_timer_t *t)
{
	struct daemon *d = t->data;
	uint64_t now = now_ms();
	bool any = any_app(d);

	server_tick(d->server);
	if (any) {
		pool_watchdog(&d->sw);
		accept_tick(&d->sw);
		connect_tick(&d->sw);
	}
	if (now - d->swept_ms >= SWEEP_MS) {
		int status;

		d->swept_ms = now;
		if (any) {
			listen_sweep(&d->sw);
			remote_refresh(&d->sw, false);
			view_recount(&d->sw);
		}
		if (d->holder > 0 && waitpid(d->holder, &status, WNOHANG) == d->holder) {
			d->holder = 0; /* the number may be somebody else's soon */
			log_error(
				"the holder process ended; a restart of this daemon would now "
				"end the apps' network: restart them when convenient");
		}
		maybe_end_embedded(d);
	}
}

static void on_signal(uv_signal_t *s, int signum)
{
	struct daemon *d = s->data;

	(void)signum;
	d->sw.st.h->ended = 1;
	stop(d);
}

static void on_sighup(uv_signal_t *s, int signum)
{
	struct daemon *d = s->data;

	(void)signum;
	cluster_reload_keys(&d->sw);
}

static int run_loop(struct daemon *d)
{
	int r = uv_loop_init(&d->loop);

	if (r < 0)
		return say("the event loop", r);
	uv_timer_init(&d->loop, &d->tick);
	uv_async_init(&d->loop, &d->ended, on_ended);
	uv_signal_init(&d->loop, &d->sigterm);
	uv_signal_init(&d->loop, &d->sigint);
	uv_signal_init(&d->loop, &d->sighup);
	d->tick.data = d->ended.data = d->sigterm.data = d->sigint.data = d->sighup.data = d;
	uv_timer_start(&d->tick, on_tick, TICK_MS, TICK_MS);
	uv_signal_start(&d->sigterm, on_signal, SIGTERM);
	uv_signal_start(&d->sigint, on_signal, SIGINT);
	if (d->cfg->clustered)
		uv_signal_start(&d->sighup, on_sighup, SIGHUP);
	d->server = server_new(&d->sw, &d->loop, d->sw.st.h->ctl_sock_fd);
	if (d->server == NULL)
		return say("the control socket", -ENOMEM);
	d->sw.on_app_ended = on_app_ended;
	if (d->cfg->ready_fd >= 0) {
		if (write(d->cfg->ready_fd, "1", 1) < 0)
			log_warn("nobody reads --ready-fd %d", d->cfg->ready_fd);
		close(d->cfg->ready_fd);
	}
	uv_run(&d->loop, UV_RUN_DEFAULT);

	/* from here on clients see the end of their stream, and runs start a daemon anew */
	unlink(d->sw.st.h->ctl_path);
	server_free(d->server);
	uv_close((uv_handle_t *)&d->tick, NULL);
	uv_close((uv_handle_t *)&d->sigterm, NULL);
	uv_close((uv_handle_t *)&d->sigint, NULL);
	uv_close((uv_handle_t *)&d->sighup, NULL);
	uv_run(&d->loop, UV_RUN_NOWAIT);
	return 0;
}

static void end_loop(struct daemon *d)
{
	uv_close((uv_handle_t *)&d->ended, NULL);
	uv_run(&d->loop, UV_RUN_DEFAULT);
	uv_loop_close(&d->loop);
}

/* ---- start and end ---- */

static int set_paths(struct st_header *h, const char *socket)
{
	int a = snprintf(h->ctl_path, sizeof(h->ctl_path), "%s", socket);
	int b = snprintf(h->holder_path, sizeof(h->holder_path), "%s.holder", socket);

	snprintf(h->lock_path, sizeof(h->lock_path), "%s.lock", socket);
	return a >= (int)sizeof(h->ctl_path) || b >= (int)sizeof(h->holder_path) ? -ENAMETOOLONG
										 : 0;
}

/* Everything before the threads: the order is the point. */
static int set_up(struct daemon *d, struct adoption *a, bool *ret_adopting)
{
	struct switch_ctx *sw = &d->sw;
	struct st_header *h;
	int r;

	r = state_create(&sw->st);
	if (r < 0)
		return say("the state memfd", r);
	h = sw->st.h;
	r = set_paths(h, d->cfg->socket);
	if (r < 0)
		return say(d->cfg->socket, r);
	snprintf(h->node, sizeof(h->node), "%s", d->cfg->node);
	snprintf(sw->node, sizeof(sw->node), "%s", d->cfg->node);
	h->host_cookie = privns_cookie();
	if (h->host_cookie == 0)
		return say("SO_NETNS_COOKIE (Linux 5.14 or newer is needed)", -ENOPROTOOPT);
	r = make_parent(h->ctl_path);
	if (r == 0)
		r = take_lock(h->lock_path, h->ctl_path, &h->lock_fd);
	if (r == -EADDRINUSE)
		return r;
	if (r < 0)
		return say_path(h->lock_path, r);

	r = holder_find(h->holder_path, a);
	*ret_adopting = r != 0; /* also one that gives no answer has apps to keep */
	if (r < 0)
		return say("the holder of an earlier daemon", r);
	if (*ret_adopting && d->cfg->embedded && a->old.h->node_id != 0) {
		snprintf(said, sizeof(said),
			 "this host's daemon, a node of a cluster, has ended and its apps wait "
			 "for it: start it again");
		log_error("%s", said);
		return -EBUSY;
	}
	if (geteuid() != 0) {
		r = privns_enter_user(*ret_adopting ? a->userns_fd : -1, &h->userns_fd);
		if (r < 0)
			return say("a user namespace (see appswitch doctor)", r);
	}
	sw->svc = svc_table_new();
	sw->maglev = maglev_cache_new();
	if (sw->svc == NULL || sw->maglev == NULL)
		return say("start", -ENOMEM);
	if (*ret_adopting) {
		r = adopt_header(sw, a);
		if (r < 0)
			return say("taking over from the holder", r);
	} else {
		r = listen_path(h->holder_path, &h->holder_sock_fd);
		if (r < 0)
			return say_path(h->holder_path, r);
		r = privns_new_net(&h->pns_fd);
		if (r < 0)
			return say("a private network namespace (see appswitch doctor)", r);
	}
	r = privns_furnish(sw);
	if (r < 0)
		return say("the private network namespace", r);
	sw->socks = sockrec_new(&sw->st);
	if (sw->socks == NULL)
		return say("start", -ENOMEM);
	if (*ret_adopting) {
		r = adopt_state(sw, a);
		if (r < 0)
			return say("taking over from the holder", r);
	}
	h->pids[h->pids_used++ % ST_PIDS] = getpid();
	r = listen_path(h->ctl_path, &h->ctl_sock_fd);
	if (r < 0)
		return say_path(h->ctl_path, r);
	d->holder = holder_start(&sw->st, *ret_adopting ? a : NULL);
	if (d->holder < 0)
		return say("the holder process", d->holder);
	return 0;
}

static int start_workers(struct daemon *d, struct adoption *a, bool adopting)
{
	struct switch_ctx *sw = &d->sw;
	int r = replace_start();

	if (r < 0)
		return say("the epoll helper", r);
	if (adopting)
		holder_dismiss(a);
	r = pool_start(sw, sw->st.h->pns_fd);
	if (r < 0)
		return say("trap workers", r);
	/* first what was received before, then what is new: no slot is seen by both */
	pthread_mutex_lock(&sw->lock);
	for (struct app *app = sw->apps; app != NULL; app = app->next)
		(void)pool_join_locked(sw, app);
	pthread_mutex_unlock(&sw->lock);
	/* before any connect() is looked at, so that it finds the others */
	if (d->cfg->clustered) {
		r = cluster_start(sw, d->cfg);
		if (r < 0)
			return r;
	} else {
		remote_close(sw);
	}
	if (adopting)
		adopt_resume(sw);
	pthread_mutex_lock(&sw->lock);
	for (struct app *app = sw->apps; app != NULL; app = app->next)
		(void)pool_add_app_locked(sw, app);
	pthread_mutex_unlock(&sw->lock);
	return 0;
}

/* Apps that stay are served by the next daemon, soon; else the others need not wait for it. */
static void end_cluster(struct daemon *d)
{
	if (!any_app(d) && cluster_leave(&d->sw) == 0)
		usleep(GOOD_BYE_US);
	cluster_stop(&d->sw);
}

int daemon_run(const struct daemon_config *cfg)
{
	/* as long-lived as the process, which has one of it: what hangs on it needs no freeing */
	static struct daemon instance;
	struct daemon *d = &instance;
	struct adoption a = { .conn = -1, .pidfd = -1, .userns_fd = -1 };
	bool adopting = false, stays;
	int r;

	d->cfg = cfg;
	d->started_ms = d->swept_ms = now_ms();
	pthread_mutex_init(&d->sw.lock, NULL);
	log_set_level(cfg->log);
	if (cfg->embedded)
		log_to_syslog();
	signal(SIGPIPE, SIG_IGN);
	d->sw.max_listeners = raise_nofile();
	r = epoll_readd_reserve();
	r = r < 0 ? say("file descriptors", r) : set_up(d, &a, &adopting);
	if (r == 0)
		r = start_workers(d, &a, adopting);
	if (r == 0) {
		log_info("node %s serves %s%s", d->sw.node, cfg->socket,
			 adopting ? " (taken over)" : "");
		r = run_loop(d);
		/* in this order: nobody resumes a call that no worker will take, and no connect() is
		 * told that nobody is there */
		remote_stop(&d->sw);
		pool_stop(&d->sw);
		end_cluster(d);
		replace_stop();
		end_loop(d);
	}
	if (r == -EADDRINUSE)
		return r;
	if (r < 0 && cfg->embedded && cfg->ready_fd >= 0 &&
	    write(cfg->ready_fd, said, strlen(said)) < 0)
		log_warn("nobody waits for this daemon");
	/* apps that still live keep their network: the holder has everything */
	stays = d->sw.n_apps > 0;
	if (d->holder > 0 && !stays) {
		kill(d->holder, SIGKILL);
		waitpid(d->holder, NULL, 0);
	}
	if (d->sw.st.h != NULL && d->sw.st.h->lock_fd >= 0)
		unlink_all(d->sw.st.h, stays || (adopting && r < 0));
	return r;
}
