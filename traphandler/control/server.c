/* A client's life: accepted -> any number of requests -> closed. A registration makes an app
 * that is the client's own until `attach` publishes it; a client that closes before that takes
 * the app with it. Messages are whole (SOCK_SEQPACKET), so there is no partial state to keep.
 * uv_poll is used because libuv has no SOCK_SEQPACKET. */
#include "traphandler/control/server.h"

#include "traphandler/cluster/cluster.h"
#include "traphandler/cluster/node.h"
#include "traphandler/control/views.h"
#include "traphandler/service/registry.h"
#include "traphandler/trap/pool.h"

#include <appswitch/ctl.h>
#include <appswitch/log.h>
#include <appswitch/util.h>

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#define MAX_CLIENTS   1024
#define MAX_INSIDE    512 /* of them from inside apps: the rest is for those who may register */
#define MAX_PER_APP   32  /* of them from one */
#define QUIET_MS      5000 /* to ask something; and from inside, between questions */
#define ROWS_PER_PART 100

struct client {
	struct client *next;
	struct server *server;
	uv_poll_t poll;
	int fd, pidfd;
	struct ucred cred;
	bool outside; /* its socket was made in the namespace we serve, not inside an app */
	uint32_t inside_app; /* whose namespace it was; 0: outside, or one made by an app */
	bool asked;	     /* anything yet */
	bool closing;
	uint64_t heard_ms; /* it last asked, or read an answer */
	struct app *app;   /* registered, not yet attached */
	json_t *rows;	   /* being sent, from .at on */
	size_t at;
};

static void on_readable(uv_poll_t *poll, int status, int events);

struct server {
	struct switch_ctx *sw;
	uv_loop_t *loop;
	uv_poll_t poll;
	int fd;
	struct client *clients;
	unsigned n_clients;
	bool closing;
	bool paused; /* no fd for the next connection: tried again by the tick */
	char buf[CTL_MSG_MAX + 1];
};

static void server_maybe_free(struct server *s)
{
	if (s->closing && s->clients == NULL && s->fd < 0)
		free(s);
}

static void on_client_closed(uv_handle_t *h)
{
	struct client *c = h->data;
	struct server *s = c->server;
	struct client **p = &s->clients;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	s->n_clients--;
	json_decref(c->rows);
	close(c->fd);
	cleanup_close(&c->pidfd);
	free(c);
	if (!s->closing && s->sw->on_app_ended != NULL)
		s->sw->on_app_ended(s->sw);
	server_maybe_free(s);
}

static void client_close(struct client *c)
{
	if (c->closing)
		return;
	c->closing = true;
	if (c->app != NULL) {
		pthread_mutex_lock(&c->server->sw->lock);
		app_unref(c->server->sw, c->app);
		pthread_mutex_unlock(&c->server->sw->lock);
		c->app = NULL;
	}
	uv_close((uv_handle_t *)&c->poll, on_client_closed);
}

static void send_json(struct client *c, json_t *answer, int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	_cleanup_free_ char *text = answer != NULL ? json_dumps(answer, JSON_COMPACT) : NULL;
	struct iovec iov = { text, text != NULL ? strlen(text) : 0 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	json_decref(answer);
	if (text == NULL) {
		client_close(c);
		return;
	}
	if (fd >= 0) {
		struct cmsghdr *h;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.buf;
		msg.msg_controllen = sizeof(control.buf);
		h = CMSG_FIRSTHDR(&msg);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(h), &fd, sizeof(int));
	}
	if (sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		log_debug("control: answer to pid %d not sent: %s", c->cred.pid,
			  strerror(errno));
		client_close(c);
	}
}

static void refuse(struct client *c, const char *why)
{
	send_json(c, json_pack("{s:b,s:s}", "ok", 0, "error", why), -1);
}

/* Only programs of the daemon's own user (or root), from the namespace it serves. */
static bool may_change(struct client *c)
{
	if (!c->outside) {
		refuse(c, "this process is inside an app (or in another network namespace than "
			  "the "
			  "daemon); apps do not nest");
		return false;
	}
	if (c->cred.uid != geteuid() && c->cred.uid != 0) {
		refuse(c, "the daemon belongs to another user");
		return false;
	}
	return true;
}

static void do_register(struct client *c, const json_t *req)
{
	struct switch_ctx *sw = c->server->sw;
	char err[200] = "", ip4[AS_ADDR_STRLEN], ip6[AS_ADDR_STRLEN];
	struct app *app;
	bool userns = sw->st.h->userns_fd >= 0;
	int r;

	if (!may_change(c))
		return;
	if (c->app != NULL) {
		refuse(c, "this connection has registered already");
		return;
	}
	if (sw->stopping) {
		client_close(c); /* run starts over, with a daemon of its own */
		return;
	}
	pthread_mutex_lock(&sw->lock);
	r = app_new(sw, req, 0, &app, err, sizeof(err));
	if (r == 0) {
		/* the slot is taken from now on; the id makes it so also in the state */
		sw->st.apps[app->slot].listener_fd = -1;
		__atomic_store_n(&sw->st.apps[app->slot].id, app->id, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&sw->lock);
	if (r < 0) {
		refuse(c, err);
		return;
	}
	app->pid = c->cred.pid;
	c->app = app;
	send_json(c,
		  json_pack("{s:b,s:i,s:s,s:s,s:b}", "ok", 1, "app", (int)app->id, "ipv4",
			    as_addr_format(&app->ip4, ip4), "ipv6",
			    as_addr_format(&app->ip6, ip6), "userns", userns),
		  sw->st.h->userns_fd);
}

static int take_fd(const struct client *c, const json_t *number, int *ret)
{
	int fd;

	if (!json_is_integer(number))
		return -EINVAL;
	fd = (int)syscall(SYS_pidfd_getfd, c->pidfd, (int)json_integer_value(number), 0);
	if (fd < 0)
		return -errno;
	*ret = fd;
	return 0;
}

static bool is_seccomp_listener(int fd)
{
	char path[40], link[40];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, link, sizeof(link) - 1);
	if (n <= 0)
		return false;
	link[n] = '\0';
	return strcmp(link, "anon_inode:seccomp notify") == 0;
}

static void do_attach(struct client *c, const json_t *req)
{
	struct switch_ctx *sw = c->server->sw;
	_cleanup_close_ int listener = -1;
	_cleanup_close_ int probe = -1;
	struct app *app = c->app;
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);
	struct timespec now;
	char err[160];
	int r;

	if (!may_change(c))
		return;
	if (app == NULL) {
		refuse(c, "attach without register");
		return;
	}
	r = take_fd(c, json_object_get(req, "listener"), &listener);
	if (r == 0)
		r = take_fd(c, json_object_get(req, "probe"), &probe);
	if (r < 0) {
		snprintf(err, sizeof(err), "cannot take the app's file descriptors: %s",
			 strerror(-r));
		refuse(c, err);
		return;
	}
	if (!is_seccomp_listener(listener) ||
	    getsockopt(probe, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) < 0 ||
	    cookie == sw->st.h->host_cookie) {
		refuse(c, "attach wants a seccomp listener and a socket of the app's own "
			  "namespace");
		return;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	app->listener_fd = fd_steal(&listener);
	app->probe_fd = fd_steal(&probe);
	app->netns_cookie = cookie;
	app->started = now.tv_sec;
	pthread_mutex_lock(&sw->lock);
	app_publish(sw, app);
	pthread_mutex_unlock(&sw->lock);
	c->app = NULL;
	log_info("app %u: pid %d: %s", app->id, app->pid, app->command);
	/* from here on it may end, and be freed, at any moment */
	r = pool_add_app(sw, app);
	if (r < 0) {
		pthread_mutex_lock(&sw->lock);
		app_end(sw, app);
		pthread_mutex_unlock(&sw->lock);
		snprintf(err, sizeof(err), "the app's traps cannot be watched: %s",
			 strerror(-r));
		refuse(c, err);
		return;
	}
	send_json(c, json_pack("{s:b}", "ok", 1), -1);
}

/* As much as the client's socket takes; the rest when it has read. The next request is not
 * looked at before. */
static void send_rows(struct client *c)
{
	size_t n = json_array_size(c->rows);

	while (c->rows != NULL && !c->closing) {
		size_t end = c->at + ROWS_PER_PART < n ? c->at + ROWS_PER_PART : n;
		json_t *part = json_array(), *msg;
		_cleanup_free_ char *text = NULL;
		int r;

		for (size_t i = c->at; i < end; i++)
			json_array_append(part, json_array_get(c->rows, i));
		msg = json_pack("{s:b,s:o}", "ok", 1, "rows", part);
		if (end < n)
			json_object_set_new(msg, "more", json_true());
		text = json_dumps(msg, JSON_COMPACT);
		json_decref(msg);
		r = text == NULL ? -ENOMEM : 0;
		if (r == 0 && send(c->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			r = -errno;
		if (r == -EAGAIN || r == -ENOBUFS) {
			uv_poll_start(&c->poll, UV_WRITABLE | UV_DISCONNECT, on_readable);
			return;
		}
		if (r < 0)
			client_close(c);
		c->at = end;
		if (end == n) {
			json_decref(c->rows);
			c->rows = NULL;
		}
	}
	if (!c->closing)
		uv_poll_start(&c->poll, UV_READABLE | UV_DISCONNECT, on_readable);
}

static char *network_of(struct switch_ctx *sw, uint32_t app_id)
{
	const struct app *app;
	char *name;

	pthread_mutex_lock(&sw->lock);
	app = app_find(sw, app_id);
	name = app != NULL ? strdup(app->network) : NULL;
	pthread_mutex_unlock(&sw->lock);
	return name;
}

static void do_get(struct client *c, const json_t *req)
{
	const char *what = json_string_value(json_object_get(req, "what"));
	struct switch_ctx *sw = c->server->sw;
	_cleanup_free_ char *network = NULL;
	json_t *rows;

	/* an app has no business with what other networks do */
	if (!c->outside) {
		network = network_of(sw, c->inside_app);
		if (network == NULL) {
			refuse(c, "this process is in a network namespace that is no app's and "
				  "not the daemon's: there is nothing to show");
			return;
		}
	}
	rows = what != NULL ? view_rows(sw, what, network) : NULL;
	if (rows == NULL || json_object_size(req) != 2) {
		json_decref(rows);
		refuse(c, "get wants \"what\": services, apps, connections or nodes");
		return;
	}
	c->rows = rows;
	c->at = 0;
	send_rows(c);
}

/* Nothing but the op and, with @ret_app, perhaps an app; 0: none was named. */
static bool only_app(const json_t *req, uint32_t *ret_app)
{
	const json_t *app = json_object_get(req, "app");
	json_int_t id = json_integer_value(app);

	if (ret_app == NULL || app == NULL)
		return json_object_size(req) == 1;
	*ret_app = (uint32_t)id;
	return json_is_integer(app) && id > 0 && id <= UINT32_MAX && json_object_size(req) == 2;
}

static void do_leave(struct client *c, const json_t *req)
{
	char err[200] = "";

	if (!may_change(c))
		return;
	if (!only_app(req, NULL))
		refuse(c, "leave takes nothing else");
	else if (node_leave(c->server->sw, err, sizeof(err)) < 0)
		refuse(c, err);
	else
		send_json(c, json_pack("{s:b}", "ok", 1), -1);
}

static void do_drain(struct client *c, const json_t *req, bool on)
{
	char err[200] = "";
	uint32_t app = 0;

	if (!may_change(c))
		return;
	if (!only_app(req, &app))
		refuse(c, "drain and undrain take \"app\", the number of one, or nothing");
	else if (node_drain(c->server->sw, app, on, err, sizeof(err)) < 0)
		refuse(c, err);
	else
		send_json(c,
			  json_pack("{s:b,s:i}", "ok", 1, "settle_ms",
				    c->server->sw->cluster != NULL ? CLUSTER_SETTLE_MS : 0),
			  -1);
}

static void handle(struct client *c, const char *msg, size_t len)
{
	json_error_t why;
	json_t *req = json_loadb(msg, len, JSON_REJECT_DUPLICATES, &why);
	const char *op = json_string_value(json_object_get(req, "op"));
	char err[160];

	if (op == NULL) {
		snprintf(err, sizeof(err), "not a request: %.80s",
			 req == NULL ? why.text : "no \"op\"");
		refuse(c, err);
	} else if (strcmp(op, "register") == 0) {
		do_register(c, req);
	} else if (strcmp(op, "attach") == 0) {
		do_attach(c, req);
	} else if (strcmp(op, "get") == 0) {
		do_get(c, req);
	} else if (strcmp(op, "leave") == 0) {
		do_leave(c, req);
	} else if (strcmp(op, "drain") == 0 || strcmp(op, "undrain") == 0) {
		do_drain(c, req, *op == 'd');
	} else {
		snprintf(err, sizeof(err), "unknown op '%.40s'", op);
		refuse(c, err);
	}
	json_decref(req);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct client *c = poll->data;
	struct server *s = c->server;
	ssize_t n;

	c->heard_ms = now_ms();
	if (status < 0 || (c->rows != NULL && (events & UV_DISCONNECT))) {
		client_close(c);
		return;
	}
	if (c->rows != NULL) {
		send_rows(c);
		return;
	}
	n = recv(c->fd, s->buf, sizeof(s->buf), MSG_DONTWAIT | MSG_TRUNC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		client_close(c);
	else if (n > CTL_MSG_MAX)
		refuse(c, "the request is too long");
	else
		handle(c, s->buf, (size_t)n);
	c->asked = true;
}

/* An app may ask, but not keep others from it. */
static bool has_room(const struct server *s, bool outside, uint32_t inside_app)
{
	unsigned inside = 0, same = 0;

	for (const struct client *c = s->clients; c != NULL; c = c->next) {
		inside += !c->outside;
		same += !c->outside && c->inside_app == inside_app;
	}
	return s->n_clients < MAX_CLIENTS &&
	       (outside || (inside < MAX_INSIDE && same < MAX_PER_APP));
}

static uint32_t app_of_namespace(struct switch_ctx *sw, uint64_t cookie)
{
	const struct app *app;
	uint32_t id;

	pthread_mutex_lock(&sw->lock);
	app = app_find_netns(sw, cookie);
	id = app != NULL ? app->id : 0;
	pthread_mutex_unlock(&sw->lock);
	return id;
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
	struct server *s = poll->data;
	uint64_t cookie = 0;
	uint32_t inside_app = 0;
	struct client *c = NULL;
	socklen_t len;
	bool outside;
	int fd;

	(void)status;
	(void)events;
	fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
			return;
		/* it stays in the queue, and readable: without a pause this would spin */
		log_error_limited("control: a connection waits: %s", strerror(errno));
		uv_poll_stop(&s->poll);
		s->paused = true;
		return;
	}
	/* the accepted end belongs to the namespace of the socket that connected */
	len = sizeof(cookie);
	outside = getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) == 0 &&
		  cookie == s->sw->st.h->host_cookie;
	if (!outside)
		inside_app = app_of_namespace(s->sw, cookie);
	if (has_room(s, outside, inside_app))
		c = calloc(1, sizeof(*c));
	if (c == NULL) {
		log_warn_limited("control: too many connections (%u, of app %u); one refused",
				 s->n_clients, inside_app);
		close(fd);
		return;
	}
	c->server = s;
	c->fd = fd;
	c->pidfd = -1;
	c->outside = outside;
	c->inside_app = inside_app;
	c->heard_ms = now_ms();
	len = sizeof(c->cred);
	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c->cred, &len);
	len = sizeof(c->pidfd);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &c->pidfd, &len) < 0)
		c->pidfd = (int)syscall(SYS_pidfd_open, c->cred.pid, 0);
	c->next = s->clients;
	s->clients = c;
	s->n_clients++;
	uv_poll_init(s->loop, &c->poll, fd);
	c->poll.data = c;
	uv_poll_start(&c->poll, UV_READABLE | UV_DISCONNECT, on_readable);
}

void server_tick(struct server *s)
{
	uint64_t now = now_ms();

	if (s->paused) {
		s->paused = false;
		uv_poll_start(&s->poll, UV_READABLE, on_connection);
	}
	for (struct client *c = s->clients; c != NULL; c = c->next) {
		if ((!c->asked || !c->outside) && now - c->heard_ms > QUIET_MS)
			client_close(c);
	}
}

struct server *server_new(struct switch_ctx *sw, uv_loop_t *loop, int listen_fd)
{
	struct server *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->sw = sw;
	s->loop = loop;
	s->fd = listen_fd;
	if (uv_poll_init(loop, &s->poll, listen_fd) < 0) {
		free(s);
		return NULL;
	}
	s->poll.data = s;
	uv_poll_start(&s->poll, UV_READABLE, on_connection);
	return s;
}

static void on_listener_closed(uv_handle_t *h)
{
	struct server *s = h->data;

	close(s->fd);
	s->fd = -1;
	server_maybe_free(s);
}

void server_free(struct server *s)
{
	s->closing = true;
	uv_close((uv_handle_t *)&s->poll, on_listener_closed);
	for (struct client *c = s->clients; c != NULL; c = c->next)
		client_close(c);
}

unsigned server_clients(const struct server *s)
{
	return s->n_clients;
}
