#include "traphandler/conn/inside.h"

#include "traphandler/conn/appns.h"
#include "traphandler/conn/closer.h"
#include "traphandler/service/lookup.h"
#include "traphandler/service/registry.h"
#include "traphandler/service/sockrec.h"

#include <errno.h>

bool inside_is_own(const struct app *app, const struct as_addr *a)
{
	return as_addr_is_loopback(a) || as_addr_eq(a, &app->ip4) || as_addr_eq(a, &app->ip6);
}

/* What appns_connect() said goes to the app. */
static void answer_inside(struct trap *t, int r)
{
	if (r == EINTR)
		trap_reply_continue(t); /* it is under way, and the app waits for it itself */
	else if (r != 0)
		trap_reply_errno(t, r);
	else
		trap_reply_value(t, 0);
}

bool inside_connect_private(struct trap *t, const struct sock *s,
			    const struct as_endpoint *dest)
{
	uint64_t cookie;
	bool found;
	int r = 0;

	if (!t->app->has_private || !as_addr_is_loopback(&dest->addr))
		return false;
	pthread_mutex_lock(&t->app->listen_lock);
	cookie = appns_listener(t, dest);
	pthread_mutex_lock(&t->sw->lock);
	found = cookie != 0 && listener_find(t->sw, cookie) == NULL;
	pthread_mutex_unlock(&t->sw->lock);
	if (found)
		r = appns_connect(t, s, dest);
	pthread_mutex_unlock(&t->app->listen_lock);
	if (found)
		answer_inside(t, r);
	return found;
}

bool inside_connect_own(struct trap *t, struct sock *s, const struct as_endpoint *dest)
{
	struct instance inst[MAX_INSTANCES];
	struct as_addr vip;
	int n, r = 0;

	/* what was closed must be so: the anchor of a listener that has ended refuses */
	(void)closer_wait(t->sw, t->app);
	/* and between the look and the connect() no anchor may begin to listen: it hears nothing,
	 * so we would wait for it for ever */
	pthread_mutex_lock(&t->app->listen_lock);
	pthread_mutex_lock(&t->sw->lock);
	n = service_lookup(t->sw, t->app, dest, inst, MAX_INSTANCES, &vip);
	service_put(t->sw, inst, n, NULL);
	pthread_mutex_unlock(&t->sw->lock);
	if (n <= 0)
		r = appns_connect(t, s, dest);
	pthread_mutex_unlock(&t->app->listen_lock);
	if (n > 0)
		return false;
	answer_inside(t, r);
	return true;
}

void inside_refuse(struct trap *t, const struct sock *s, const struct as_endpoint *dest)
{
	struct as_endpoint closed = { .addr = as_addr_loopback(as_addr_family(&dest->addr)) };
	int r = appns_connect(t, s, &closed);

	if (r == EINPROGRESS || r == EINTR) {
		sockrec_mark_refused(t->sw->socks, t->app->id, sock_cookie(s->fd));
		trap_reply_errno(t, EINPROGRESS);
	} else {
		trap_reply_errno(t, ECONNREFUSED);
	}
}
