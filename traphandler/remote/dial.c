#include "traphandler/remote/dial.h"

#include "traphandler/conn/attempt.h"
#include "traphandler/conn/inherit.h"
#include "traphandler/conn/replace.h"
#include "traphandler/remote/guard.h"
#include "traphandler/remote/mac.h"
#include "traphandler/remote/supply.h"
#include "traphandler/remote/thread.h"
#include "traphandler/service/quota.h"
#include "traphandler/service/registry.h"
#include "traphandler/service/sockrec.h"
#include "traphandler/trap/pool.h"

#include <appswitch/util.h>

#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>

#define TRIED_MAX 64u
#define KEEP_NS	  (5ull * 1000000000u) /* for a connect() that is repeated after a signal */
#define IDLE_MAX  256u
#define GLANCE_US 200 /* a handshake in a local network */

#ifndef TCP_FASTOPEN_NO_COOKIE
#define TCP_FASTOPEN_NO_COOKIE 34
#endif
#define FASTOPEN_SYN_RETRANSMITTED 3u /* tcp_info.tcpi_fastopen_client_fail */

struct tried {
	uint64_t node;
	uint32_t app;
	bool refused; /* else: did not answer */
};

struct dial {
	struct dial *next;
	uint64_t cookie; /* of the app's socket */
	uint32_t slot;	 /* of the call that waits */
	uint32_t app;
	struct as_endpoint dest;
	int fd; /* of what is under way, or -1 */
	struct far to;
	bool said;		   /* the hello is in the socket */
	uint8_t hello[HELLO_SIZE]; /* until then */
	unsigned n_tried, round;
	struct tried tried[TRIED_MAX];
	bool insist;  /* the hello goes ahead, also where a SYN with data seems to be lost */
	bool resumed; /* there was an event since it waits */
	uint64_t until_ns; /* it is looked at then, in any case; 0: it has not waited yet */
	uint64_t idle_ns;  /* since then no call waits for it; 0: one does */
};

static struct remote *remote_of(const struct trap *t)
{
	return t->sw->remote;
}

/* ---- who refused lately ---- */

static uint64_t key_of(const struct far *f)
{
	uint64_t instance = (uint64_t)f->app << 16 | f->port;

	return (f->node ^ (instance + 1) * 0x9e3779b97f4a7c15u) | 1; /* 0 is nobody */
}

bool dial_passed_over(struct switch_ctx *sw, const struct far *f)
{
	struct remote *r = sw->remote;
	uint64_t now = now_ms();
	bool over;

	pthread_mutex_lock(&r->lock);
	over = passed_over_now(&r->passed_over, key_of(f), now);
	pthread_mutex_unlock(&r->lock);
	return over;
}

/* Under the lock. The count is over when the owner has told a new one, or told none for so long that these
 * must be closed again. */
static uint32_t *dialled(struct remote *r, const struct far *f)
{
	uint64_t key = key_of(f), now = now_ms();
	unsigned at = (unsigned)(key % DIALLED);

	if (r->dialled[at].key != key || r->dialled[at].version != f->version ||
	    now - r->dialled[at].since_ms >= DIALLED_MS) {
		r->dialled[at].key = key;
		r->dialled[at].version = f->version;
		r->dialled[at].since_ms = now;
		r->dialled[at].n = 0;
	}
	return &r->dialled[at].n;
}

uint32_t dial_recent(struct switch_ctx *sw, const struct far *f)
{
	struct remote *r = sw->remote;
	uint32_t n;

	pthread_mutex_lock(&r->lock);
	n = *dialled(r, f);
	pthread_mutex_unlock(&r->lock);
	return n;
}

static void note_dialled(struct remote *r, const struct far *f)
{
	pthread_mutex_lock(&r->lock);
	++*dialled(r, f);
	pthread_mutex_unlock(&r->lock);
}

static bool syn_data_is_lost(struct remote *r, uint64_t node)
{
	uint32_t now = sockrec_now();
	bool lost = false;

	pthread_mutex_lock(&r->lock);
	for (unsigned i = 0; i < NO_SYN_DATA && !lost; i++)
		lost = r->no_syn_data[i].node == node &&
		       r->no_syn_data[i].times >= SYN_DATA_TRIES &&
		       now < r->no_syn_data[i].until_s;
	pthread_mutex_unlock(&r->lock);
	return lost;
}

/* A SYN may be lost for many reasons: only several in a row say something about the way. */
void dial_note_syn(struct remote *r, uint64_t node, bool lost)
{
	uint32_t now = sockrec_now();
	unsigned at = 0, times = 0;

	if (!lost && __atomic_load_n(&r->no_syn_data_next, __ATOMIC_RELAXED) == 0)
		return; /* the usual case */
	pthread_mutex_lock(&r->lock);
	while (at < NO_SYN_DATA &&
	       !(r->no_syn_data[at].node == node && now < r->no_syn_data[at].until_s))
		at++;
	if (at == NO_SYN_DATA && lost) {
		at = r->no_syn_data_next++ % NO_SYN_DATA;
		r->no_syn_data[at].node = node;
		r->no_syn_data[at].times = 0;
		r->no_syn_data[at].until_s = now + NO_SYN_DATA_S;
	}
	if (lost && r->no_syn_data[at].times < SYN_DATA_TRIES)
		times = ++r->no_syn_data[at].times;
	else if (!lost && at < NO_SYN_DATA)
		r->no_syn_data[at].until_s = 0;
	pthread_mutex_unlock(&r->lock);
	if (times == SYN_DATA_TRIES)
		log_info("node %016llx: a SYN with data gets no answer; none for an hour",
			 (unsigned long long)node);
}

/* ---- the list of those that wait; under the lock ---- */

static struct dial **find(struct remote *r, uint64_t cookie)
{
	struct dial **p = &r->dials;

	while (*p != NULL && (*p)->cookie != cookie)
		p = &(*p)->next;
	return p;
}

static struct dial *unlink_dial(struct dial **p)
{
	struct dial *d = *p;

	/* the head is looked at without the lock, too */
	__atomic_store_n(p, d->next, __ATOMIC_RELAXED);
	d->next = NULL;
	return d;
}

void dial_free(struct dial *d)
{
	if (d == NULL)
		return;
	cleanup_close(&d->fd);
	free(d);
}

/* Under sw->lock: is the call that waits for it over? Then its slot is free. */
static bool forsaken(struct switch_ctx *sw, struct dial *d)
{
	const struct app *app;

	if (d->idle_ns != 0)
		return true;
	app = app_find(sw, d->app);
	if (app != NULL && !call_over(app, &sw->st.calls[d->slot]))
		return false;
	pool_free_slot(sw, d->slot);
	return true;
}

int dial_take(struct trap *t, const struct sock *s, const struct as_endpoint *dest,
	      struct dial **ret)
{
	struct remote *r = remote_of(t);
	struct dial *d = NULL, **p;
	uint64_t cookie;
	int error = 0;

	*ret = NULL;
	if (r == NULL || __atomic_load_n(&r->dials, __ATOMIC_RELAXED) == NULL)
		return 0;
	cookie = sock_cookie(s->fd);
	pthread_mutex_lock(&t->sw->lock);
	pthread_mutex_lock(&r->lock);
	p = find(r, cookie);
	if (*p != NULL && !forsaken(t->sw, *p))
		error = -EALREADY;
	else if (*p != NULL)
		d = unlink_dial(p);
	/* or it could not be watched when the next call waits for it */
	if (d != NULL && d->fd >= 0)
		(void)epoll_ctl(r->epoll_fd, EPOLL_CTL_DEL, d->fd, NULL);
	pthread_mutex_unlock(&r->lock);
	pthread_mutex_unlock(&t->sw->lock);
	if (d != NULL && dest != NULL &&
	    (d->dest.port != dest->port || !as_addr_eq(&d->dest.addr, &dest->addr))) {
		dial_free(d);
		d = NULL;
	}
	*ret = d;
	return error;
}

/* ---- what was tried ---- */

bool dial_tried(const struct dial *d, const struct far *f)
{
	for (unsigned i = 0; d != NULL && i < d->n_tried; i++) {
		if (d->tried[i].node == f->node && d->tried[i].app == f->app)
			return true;
	}
	return false;
}

bool dial_again(struct dial *d, bool waits)
{
	unsigned n = 0;

	/* a call that should not wait: once, and then the kernel does the waiting */
	if (!waits && d->insist)
		return false;
	d->insist = !waits;
	for (unsigned i = 0; i < d->n_tried; i++) {
		if (d->tried[i].refused)
			d->tried[n++] = d->tried[i];
	}
	if (n == d->n_tried)
		return false;
	d->n_tried = n;
	d->round++;
	return true;
}

static int note_tried(struct trap *t, struct dial *d, const struct far *f, int error)
{
	struct remote *r = remote_of(t);

	if (d->n_tried < TRIED_MAX) {
		d->tried[d->n_tried++] = (struct tried){
			.node = f->node,
			.app = f->app,
			.refused = error != -ETIMEDOUT,
		};
	}
	pthread_mutex_lock(&r->lock);
	passed_over_note(&r->passed_over, key_of(f), now_ms());
	pthread_mutex_unlock(&r->lock);
	cluster_doubt(t->sw, f->node);
	cleanup_close(&d->fd);
	d->fd = -1;
	return error;
}

/* ---- one attempt ---- */

static uint64_t tags_digest(const char *tags)
{
	uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */

	for (; *tags != '\0'; tags++)
		h = (h ^ (uint8_t)*tags) * 0x100000001b3u;
	return h;
}

static int make_hello(struct trap *t, const struct sock *s, const struct far *f,
		      const struct as_endpoint *client, const struct as_endpoint *dest,
		      const struct as_addr *vip, uint8_t out[HELLO_SIZE])
{
	const struct remote *r = remote_of(t);
	struct hello h = {
		.kind = HELLO_CONNECTION,
		.face = s->domain,
		.network = t->app->network_id,
		.dest_id = f->node,
		.dest_generation = f->generation,
		.src_id = r->c.id,
		.src_generation = (uint32_t)r->generations,
		.client_app = t->app->id,
		.server_app = f->app,
		.tags = tags_digest(t->app->tags),
		.vip = *vip,
		.client = *client,
		.server = *dest,
	};
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	h.time = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
	if (getrandom(&h.nonce, sizeof(h.nonce), 0) != (ssize_t)sizeof(h.nonce))
		return -errno;
	h.nonce |= 1;
	hello_encode(&h, out);
	return mac_sign(r->c.mac, out);
}

/* A socket like @s, but of the host's namespace. */
static int socket_like(struct trap *t, const struct sock *s, const struct far *f)
{
	int fd = supply_take(s->domain == AF_INET6 || !as_addr_is_v4(&f->addr.addr) ? AF_INET6
										    : AF_INET);

	if (fd < 0)
		return fd;
	replace_sockopts(s->fd, fd);
	if (sockrec_has_opts(t->sw->socks, sock_cookie(s->fd)))
		inherit_unconnected(s->fd, fd);
	return fd;
}

/* The SYN, and if it may the hello in it. 0 or -errno. */
static int call_node(struct remote *r, struct dial *d)
{
	static const int one = 1;
	struct sockaddr_storage ss;
	int domain = 0;
	socklen_t len = sizeof(domain);

	(void)getsockopt(d->fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
	len = as_endpoint_to_sockaddr(&d->to.addr, domain, &ss);
	d->said = false;
	if ((d->insist || !syn_data_is_lost(r, d->to.node)) &&
	    setsockopt(d->fd, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, &one, sizeof(one)) == 0) {
		ssize_t n = sendto(d->fd, d->hello, HELLO_SIZE,
				   MSG_FASTOPEN | MSG_DONTWAIT | MSG_NOSIGNAL,
				   (struct sockaddr *)&ss, len);

		d->said = n == HELLO_SIZE;
		if (d->said)
			return 0;
		if (n >= 0)
			return -EMSGSIZE; /* a send buffer that the app made smaller than the hello */
		if (errno != EOPNOTSUPP)
			return -errno;
	}
	return connect(d->fd, (struct sockaddr *)&ss, len) == 0 || errno == EINPROGRESS
		       ? 0
		       : -errno;
}

static int remember(struct trap *t, const struct sock *s, const struct dial *d,
		    const struct as_endpoint *client, const struct as_endpoint *dest)
{
	struct st_remote rec = {
		.local = *client,
		.peer = *dest,
		.face = (uint8_t)s->domain,
		.unseen = d->said && non_blocking(s->fd),
		.node = d->to.node,
		.app = d->to.app,
		.network = t->app->network_id,
	};

	return sockrec_add_remote(t->sw->socks, sock_cookie(d->fd), t->app->id, &rec);
}

int dial_begin(struct trap *t, const struct sock *s, const struct far *f,
	       const struct as_endpoint *client, const struct as_endpoint *dest,
	       const struct as_addr *vip, struct dial **dial)
{
	struct dial *d = *dial;
	int r;

	if (d == NULL) {
		d = *dial = calloc(1, sizeof(*d));
		if (d == NULL)
			return -ENOMEM;
		d->cookie = sock_cookie(s->fd);
		d->app = t->app->id;
		d->dest = *dest;
		d->fd = -1;
	}
	d->to = *f;
	d->until_ns = 0;
	d->resumed = false;
	d->fd = socket_like(t, s, f);
	if (d->fd < 0)
		return d->fd;
	r = make_hello(t, s, f, client, dest, vip, d->hello);
	if (r < 0) {
		cleanup_close(&d->fd);
		d->fd = -1;
		return r;
	}
	r = call_node(remote_of(t), d);
	if (r == 0)
		r = guard_outgoing(d->fd, &f->addr);
	/* last: what is recorded is in a dump of sockets (ended.c) */
	if (r == 0)
		r = remember(t, s, d, client, dest);
	if (r < 0)
		return note_tried(t, d, f, r);
	note_dialled(remote_of(t), f);
	return 0;
}

static bool syn_was_repeated(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
	       info.tcpi_fastopen_client_fail == FASTOPEN_SYN_RETRANSMITTED;
}

/* For connect() to say 0 to us once, so that it says EISCONN to the app. */
static void complete(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	if (getpeername(fd, (struct sockaddr *)&ss, &len) == 0)
		(void)connect(fd, (struct sockaddr *)&ss, len);
}

int dial_outcome(struct trap *t, struct dial *d)
{
	struct pollfd p = { .fd = d->fd, .events = POLLOUT };
	struct timespec glance = { .tv_nsec = d->resumed ? 0 : GLANCE_US * 1000 };
	int error = 0;
	socklen_t len = sizeof(error);

	if (d->fd < 0)
		return -EAGAIN;
	if (ppoll(&p, 1, &glance, NULL) != 1)
		return d->until_ns != 0 && now_ns() >= d->until_ns
			       ? note_tried(t, d, &d->to, -ETIMEDOUT)
			       : -EINPROGRESS;
	if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error != 0)
		return note_tried(t, d, &d->to, -error);
	if (!d->said &&
	    send(d->fd, d->hello, HELLO_SIZE, MSG_DONTWAIT | MSG_NOSIGNAL) != HELLO_SIZE)
		return note_tried(t, d, &d->to, -ECONNRESET);
	if (d->said)
		dial_note_syn(remote_of(t), d->to.node, syn_was_repeated(d->fd));
	d->said = true;
	complete(d->fd);
	pthread_mutex_lock(&remote_of(t)->lock);
	passed_over_ok(&remote_of(t)->passed_over, key_of(&d->to));
	pthread_mutex_unlock(&remote_of(t)->lock);
	return 0;
}

bool dial_is_ahead(const struct dial *d)
{
	return d->fd >= 0 && d->said;
}

uint64_t dial_nonblock_deadline(const struct dial *d)
{
	return now_ns() + (d->insist ? DIAL_INSIST_MS : DIAL_NONBLOCK_MS) * 1000000ull;
}

int dial_steal(struct dial *d)
{
	return fd_steal(&d->fd);
}

/* ---- waiting ---- */

static uint64_t patience_ns(const struct dial *d)
{
	uint64_t ms = DIAL_PATIENCE_MS;

	if (ms < d->to.rtt_us * 4u / 1000u)
		ms = d->to.rtt_us * 4u / 1000u;
	return (ms << (d->round < 8 ? 2 * d->round : 16)) * 1000000u;
}

void dial_park(struct trap *t, struct dial *d, uint64_t deadline_ns, bool others)
{
	struct remote *r = remote_of(t);
	uint64_t patient = now_ns() + patience_ns(d);
	int error;

	if (d->until_ns == 0)
		d->until_ns = others && patient < deadline_ns ? patient : deadline_ns;
	d->slot = (uint32_t)(t->call - t->sw->st.calls);
	d->resumed = false;
	d->idle_ns = 0;
	t->call->cookie = d->cookie;
	trap_park(t);
	pthread_mutex_lock(&r->lock);
	d->next = r->dials;
	__atomic_store_n(&r->dials, d, __ATOMIC_SEQ_CST);
	error = remote_watch(r, d->fd, WATCH_DIAL, d->slot,
			     EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLONESHOT);
	pthread_mutex_unlock(&r->lock);
	remote_busy(r);
	if (error < 0)
		log_error_limited("a connect() waits without being watched: %s",
				  strerror(-error));
}

/* Under both locks: its call goes on, and a worker takes it. */
static void resume(struct remote *r, struct dial *d)
{
	d->resumed = true;
	d->idle_ns = now_ns();
	(void)epoll_ctl(r->epoll_fd, EPOLL_CTL_DEL, d->fd, NULL);
	pool_resume_locked(r->sw, d->slot);
}

void dial_ready(struct remote *r, uint32_t slot)
{
	struct dial *d;

	pthread_mutex_lock(&r->sw->lock);
	pthread_mutex_lock(&r->lock);
	for (d = r->dials; d != NULL && (d->slot != slot || d->idle_ns != 0); d = d->next)
		;
	if (d != NULL)
		resume(r, d);
	pthread_mutex_unlock(&r->lock);
	pthread_mutex_unlock(&r->sw->lock);
}

/* Those that no call waits for: of @app, or (0) of all. */
static unsigned count_idle(const struct remote *r, uint32_t app)
{
	unsigned n = 0;

	for (const struct dial *d = r->dials; d != NULL; d = d->next)
		n += d->idle_ns != 0 && (app == 0 || d->app == app);
	return n;
}

/* May @d stay without a call? Each has a descriptor, and an app can make them by signals. */
static bool may_idle(const struct remote *r, const struct dial *d)
{
	unsigned n = count_idle(r, 0);

	return n < IDLE_MAX && quota_allows(count_idle(r, d->app), IDLE_MAX - n);
}

void dial_tick(struct remote *r, uint64_t now)
{
	struct dial *gone = NULL;

	if (__atomic_load_n(&r->dials, __ATOMIC_RELAXED) == NULL)
		return;
	pthread_mutex_lock(&r->sw->lock);
	pthread_mutex_lock(&r->lock);
	for (struct dial **p = &r->dials; *p != NULL;) {
		struct dial *d = *p;

		bool over = d->idle_ns != 0 && now - d->idle_ns > KEEP_NS;

		if (d->idle_ns == 0 && now >= d->until_ns) {
			resume(r, d);
		} else if (d->idle_ns == 0 && forsaken(r->sw, d)) {
			over = !may_idle(r, d);
			d->idle_ns = now;
		}
		if (!over) {
			p = &d->next;
			continue;
		}
		(void)unlink_dial(p);
		d->next = gone;
		gone = d;
	}
	pthread_mutex_unlock(&r->lock);
	pthread_mutex_unlock(&r->sw->lock);
	while (gone != NULL) {
		struct dial *d = gone;

		gone = d->next;
		dial_free(d);
	}
}

void dial_done(struct remote *r)
{
	while (r->dials != NULL)
		dial_free(unlink_dial(&r->dials));
}
