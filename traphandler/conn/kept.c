#include "traphandler/conn/kept.h"

#include "traphandler/conn/closer.h"
#include "traphandler/conn/standin.h"
#include "traphandler/service/quota.h"
#include "traphandler/service/registry.h"

#include <appswitch/util.h>

#include <stdlib.h>

#define KEPT_NS	     (5ull * 1000000000u)
#define KEPT_MAX     256u
#define ANSWERED_MAX 256u

/* A connected stand-in whose connect() was interrupted before it got into place. */
struct kept {
	struct kept *next;
	struct app *app; /* referenced */
	uint64_t native; /* cookie of the socket it was for */
	struct as_endpoint dest;
	uint64_t until_ns;
	int fd;
};

static struct kept *kept_list; /* under sw->lock */
static unsigned kept_n;

/* Under sw->lock. */
static void put(struct switch_ctx *sw, struct app *app, uint64_t native,
		const struct as_endpoint *dest, int fd)
{
	struct kept *k = malloc(sizeof(*k));
	unsigned mine = 0;

	for (const struct kept *other = kept_list; other != NULL; other = other->next)
		mine += other->app == app;
	if (k == NULL || !quota_allows(mine, KEPT_MAX - kept_n)) {
		if (k != NULL)
			quota_tell(app, QUOTA_KEPT);
		closer_put(sw, app, fd);
		free(k);
		return;
	}
	*k = (struct kept){ .next = kept_list,
			    .app = app,
			    .native = native,
			    .dest = *dest,
			    .fd = fd,
			    .until_ns = now_ns() + KEPT_NS };
	kept_list = k;
	kept_n++;
	app_ref(app);
}

void kept_put(struct trap *t, uint64_t native, const struct as_endpoint *dest, int fd)
{
	pthread_mutex_lock(&t->sw->lock);
	put(t->sw, t->app, native, dest, fd);
	pthread_mutex_unlock(&t->sw->lock);
}

void kept_adopt(struct switch_ctx *sw, struct app *app, uint64_t native, int fd)
{
	struct sock s;

	sock_classify(app, sw, fd, &s);
	if (s.kind != SOCK_CONNECTED || !standin_connected(fd)) {
		closer_put(sw, app, fd);
		return;
	}
	/* if it got into place, the repeated connect() comes on it; else on the native socket */
	standin_change_mark(fd, 0, STANDIN_PENDING);
	put(sw, app, native, &s.own.server, fd);
}

bool kept_has(struct switch_ctx *sw, int old)
{
	uint64_t native;
	bool has = false;

	if (kept_n == 0)
		return false;
	native = sock_cookie(old);
	pthread_mutex_lock(&sw->lock);
	for (const struct kept *k = kept_list; k != NULL && !has; k = k->next)
		has = k->native == native;
	pthread_mutex_unlock(&sw->lock);
	return has;
}

/* The stand-in of an interrupted connect() of the same socket to the same place (or wherever, if
 * @dest is NULL), or -1. */
int kept_take(struct switch_ctx *sw, int old, const struct as_endpoint *dest)
{
	uint64_t native;
	int fd = -1;

	if (kept_n == 0)
		return -1;
	native = sock_cookie(old);
	pthread_mutex_lock(&sw->lock);
	for (struct kept **p = &kept_list; *p != NULL; p = &(*p)->next) {
		struct kept *k = *p;

		if (k->native != native)
			continue;
		*p = k->next;
		kept_n--;
		if (dest == NULL ||
		    (k->dest.port == dest->port && as_addr_eq(&k->dest.addr, &dest->addr)))
			fd = k->fd;
		else
			closer_put(sw, k->app, k->fd);
		app_unref(sw, k->app);
		free(k);
		break;
	}
	pthread_mutex_unlock(&sw->lock);
	return fd;
}

struct answered answered_make(const struct trap *t, uint64_t cookie)
{
	return (struct answered){
		.cookie = cookie,
		.ip = t->call->notif.data.instruction_pointer,
		.addr = t->args[1],
		.tid = t->tid,
		.fdno = trap_int(t, 0),
		.until_ns = now_ns() + KEPT_NS,
	};
}

static struct answered answered[ANSWERED_MAX]; /* a ring */
static unsigned answered_next;
static uint64_t answered_until; /* the last one's end */

void answered_put(struct switch_ctx *sw, const struct answered *a)
{
	pthread_mutex_lock(&sw->lock);
	answered[answered_next++ % ANSWERED_MAX] = *a;
	answered_until = a->until_ns;
	pthread_mutex_unlock(&sw->lock);
}

bool answered_same(struct trap *t, uint64_t cookie)
{
	const struct answered now = answered_make(t, cookie);
	uint64_t now_is = now_ns();
	bool same = false;

	pthread_mutex_lock(&t->sw->lock);
	for (unsigned i = 0; i < ANSWERED_MAX && !same && now_is < answered_until; i++) {
		const struct answered *a = &answered[i];

		same = a->cookie == cookie && a->tid == now.tid && a->fdno == now.fdno &&
		       a->ip == now.ip && a->addr == now.addr && now_is < a->until_ns;
	}
	pthread_mutex_unlock(&t->sw->lock);
	return same;
}

void kept_tick(struct switch_ctx *sw, uint64_t now)
{
	for (struct kept **p = &kept_list; *p != NULL;) {
		struct kept *k = *p;

		if (k->until_ns > now) {
			p = &k->next;
			continue;
		}
		*p = k->next;
		kept_n--;
		closer_put(sw, k->app, k->fd);
		app_unref(sw, k->app);
		free(k);
	}
}
