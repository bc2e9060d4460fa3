#include "traphandler/conn/attempt.h"

#include "traphandler/conn/accept.h"
#include "traphandler/conn/carry.h"
#include "traphandler/conn/inside.h"
#include "traphandler/remote/dial.h"
#include "traphandler/service/lookup.h"
#include "traphandler/service/registry.h"
#include "traphandler/trap/pool.h"

#include <appswitch/log.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#define PORT_TRIES	   64
#define PORT_FIRST	   32768u /* net.ipv4.ip_local_port_range's default */
#define PORT_COUNT	   28232u
#define CONNECT_TIMEOUT_NS (127ull * 1000000000u) /* TCP's with tcp_syn_retries 6 */

bool non_blocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && (flags & O_NONBLOCK);
}

/* connect() that runs into SO_SNDTIMEO says EINPROGRESS (socket(7)). */
static uint64_t sndtimeo_ns(int fd)
{
	struct timeval tv = { 0 };
	socklen_t len = sizeof(tv);

	if (getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, &len) < 0)
		return 0;
	return (uint64_t)tv.tv_sec * 1000000000u + (uint64_t)tv.tv_usec * 1000u;
}

uint64_t attempt_deadline(int fd)
{
	uint64_t ns = sndtimeo_ns(fd);

	return now_ns() + (ns != 0 ? ns : CONNECT_TIMEOUT_NS);
}

/* ---- on this node ---- */

static struct as_addr source_address(const struct app *app, const struct sock *s,
				     const struct as_addr *dest)
{
	int family = as_addr_family(dest);

	if (!as_addr_is_any(&s->bound.addr) && as_addr_family(&s->bound.addr) == family)
		return s->bound.addr;
	if (as_addr_is_loopback(dest))
		return as_addr_loopback(family);
	return family == AF_INET ? app->ip4 : app->ip6;
}

static uint16_t random_port(struct trap *t)
{
	return (uint16_t)(PORT_FIRST + worker_random(t->w) % PORT_COUNT);
}

/* A stand-in connected to @l, in the call's slot; picks a free source port unless the app bound one. */
static int connect_by_standin(struct trap *t, const struct sock *s, const struct listener *l,
			      const struct as_endpoint *dest, const struct as_addr *vip)
{
	struct standin_name name = {
		.kind = NAME_CLIENT,
		.network = t->app->network_id,
		.vip = *vip,
		.client.addr = source_address(t->app, s, &dest->addr),
		.client.port = s->bound.port,
		.server = *dest,
	};
	int r;

	if (s->bound.port != 0) {
		r = standin_connect(t->sw, l, &name, &t->call->fd);
		return r == -EADDRINUSE ? -EADDRNOTAVAIL : r;
	}
	for (int i = 0; i < PORT_TRIES; i++) {
		name.client.port = random_port(t);
		r = standin_connect(t->sw, l, &name, &t->call->fd);
		if (r != -EADDRINUSE)
			return r;
	}
	return -EADDRNOTAVAIL;
}

/* A connection to @l: a stand-in in the call's slot, or (*@carry stays true) of the app's own socket. */
static int connect_instance(struct trap *t, const struct sock *s, struct listener *l,
			    const struct as_endpoint *dest, const struct as_addr *vip,
			    bool *carry)
{
	if (*carry) {
		int r = carry_connect(t, s, l, dest);

		if (r != -EOPNOTSUPP)
			return r;
		*carry = false;
	}
	t->call->stage = ST_STANDIN;
	return connect_by_standin(t, s, l, dest, vip);
}

static void listener_refused(struct trap *t, struct listener *l)
{
	log_debug("app %u: the listener on port %u is gone", l->app->id, l->port);
	pthread_mutex_lock(&t->sw->lock);
	listener_end(t->sw, l);
	pthread_mutex_unlock(&t->sw->lock);
}

static int try_listener(struct trap *t, struct attempt *a, struct listener *l,
			const struct as_addr *vip)
{
	int r;

	accept_check_parked(t->sw, l);
	r = connect_instance(t, a->s, l, a->dest, vip, &a->carry);
	if (r == -ECONNREFUSED)
		listener_refused(t, l);
	return r;
}

/* ---- on another ---- */

/* It is connected, or will be without us. */
static int give(struct trap *t, struct attempt *a, struct dial *d, bool later)
{
	a->carry = false;
	a->remote = true;
	a->later = later;
	t->call->fd = dial_steal(d);
	t->call->stage = ST_STANDIN;
	return 0;
}

/* What became of the one that is under way. */
static int look(struct trap *t, struct attempt *a, struct dial **d, bool others)
{
	bool waits = !non_blocking(a->s->fd) || !dial_is_ahead(*d);
	int r = waits ? dial_outcome(t, *d) : 0;

	if (r == 0)
		return give(t, a, *d, !waits);
	if (r != -EINPROGRESS)
		return r;
	if (non_blocking(a->s->fd)) {
		dial_park(t, *d, dial_nonblock_deadline(*d), others);
	} else {
		if (t->call->deadline_ns == 0)
			t->call->deadline_ns = attempt_deadline(a->s->fd);
		dial_park(t, *d, t->call->deadline_ns, others);
	}
	*d = NULL; /* the list's */
	return -EINPROGRESS;
}

static int try_far(struct trap *t, struct attempt *a, const struct far *f,
		   const struct as_addr *vip, struct dial **d, bool others)
{
	struct as_endpoint client = {
		.addr = source_address(t->app, a->s, &a->dest->addr),
		.port = a->s->bound.port != 0 ? a->s->bound.port : random_port(t),
	};
	int r = dial_begin(t, a->s, f, &client, a->dest, vip, d);

	if (r == -EAGAIN)
		r = -EADDRNOTAVAIL;
	return r == 0 ? look(t, a, d, others) : r;
}

/* ---- one after the other ---- */

/* As attempt_connect(). */
static int try_all(struct trap *t, struct attempt *a, const struct instance *inst, int n,
		   const struct as_addr *vip, struct dial **d)
{
	struct listener *full = NULL;
	int last = -ECONNREFUSED;

	for (int i = 0; i < n; i++) {
		int r;

		if (inst[i].l != NULL) {
			r = try_listener(t, a, inst[i].l, vip);
			if (r == 0)
				a->l = inst[i].l;
			else if (r == -EAGAIN && full == NULL)
				full = inst[i].l;
			if (r != -ECONNREFUSED && r != -EAGAIN)
				return r;
			continue;
		}
		if (dial_tried(*d, &inst[i].far))
			continue;
		r = try_far(t, a, &inst[i].far, vip, d, n > 1);
		if (r == 0 || r == -EINPROGRESS)
			return r;
		if (last == -ECONNREFUSED)
			last = r;
	}
	a->l = full;
	return full != NULL ? -EAGAIN : last;
}

int attempt_connect(struct trap *t, struct attempt *a)
{
	struct instance inst[MAX_INSTANCES];
	struct switch_ctx *sw = t->sw;
	struct as_addr vip;
	struct dial *d;
	int n, r = dial_take(t, a->s, a->dest, &d);

	if (r < 0)
		return r;
	pthread_mutex_lock(&sw->lock);
	n = service_lookup(sw, t->app, a->dest, inst, MAX_INSTANCES, &vip);
	pthread_mutex_unlock(&sw->lock);
	r = n;
	if (n == -EBUSY && !inside_is_own(t->app, &a->dest->addr)) {
		/* the daemon has just started: soon it knows what the others have */
		uint32_t slot = (uint32_t)(t->call - sw->st.calls);

		dial_free(d);
		trap_park(t);
		pool_resume_later(sw, slot);
		return -EINPROGRESS;
	}
	if (n == -EBUSY)
		r = n = -ECONNREFUSED;
	if (d != NULL && n >= 0)
		r = look(t, a, &d, n > 1);
	if (n >= 0 && (d == NULL || r < 0) && r != -EINPROGRESS) {
		do {
			r = try_all(t, a, inst, n, &vip, &d);
		} while (r < 0 && r != -EINPROGRESS && r != -EAGAIN && d != NULL &&
			 dial_again(d, !non_blocking(a->s->fd)));
	}
	dial_free(d);
	pthread_mutex_lock(&sw->lock);
	service_put(sw, inst, n, a->l);
	pthread_mutex_unlock(&sw->lock);
	return r;
}

int attempt_expired(struct trap *t, struct attempt *a)
{
	bool goes_on = sndtimeo_ns(a->s->fd) != 0;
	int r = goes_on ? -EINPROGRESS : -ETIMEDOUT;
	struct dial *d;

	if (dial_take(t, a->s, a->dest, &d) == 0 && d != NULL && goes_on && dial_is_ahead(d))
		r = give(t, a, d, true);
	dial_free(d);
	return r;
}
