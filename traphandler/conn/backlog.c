#include "traphandler/conn/backlog.h"

#include "traphandler/service/registry.h"
#include "traphandler/trap/pool.h"

#include <errno.h>
#include <stdlib.h>

#define LOOK_NS	   (1000u * 1000000u) /* between two looks for calls that were interrupted */
#define GAVE_UP_NS (5ull * 1000000000u)
#define GAVE_UP	   256u

struct parked {
	struct parked *next;
	uint32_t slot;
	uint64_t native; /* cookie of the app's socket */
};

/* all under sw->lock */
static unsigned n_waiting; /* of all listeners */
static struct {
	uint64_t native, until_ns;
} gave_up[GAVE_UP]; /* of calls that were interrupted; a ring */
static unsigned gave_up_next;
static uint64_t gave_up_until; /* the last one's end */

static void park(struct trap *t, struct listener *l, bool in_front)
{
	struct parked *p = malloc(sizeof(*p)), **at = &l->full;

	if (p == NULL) {
		trap_reply_errno(t, ENOBUFS);
		return;
	}
	p->native = t->call->cookie;
	t->call->cookie = l->anchor;
	p->slot = (uint32_t)(t->call - t->sw->st.calls);
	trap_park(t);
	pthread_mutex_lock(&t->sw->lock);
	while (!in_front && *at != NULL)
		at = &(*at)->next;
	p->next = *at;
	*at = p;
	n_waiting++;
	if (l->gone)
		backlog_retry_all(t->sw, l);
	pthread_mutex_unlock(&t->sw->lock);
}

void backlog_park(struct trap *t, struct listener *l, uint64_t deadline_ns)
{
	t->call->deadline_ns = deadline_ns;
	park(t, l, false);
}

void backlog_park_again(struct trap *t, struct listener *l)
{
	park(t, l, true);
}

static bool was_interrupted(struct switch_ctx *sw, const struct parked *p)
{
	const struct st_call *call = &sw->st.calls[p->slot];
	const struct app *app = app_find(sw, call->app);

	return app == NULL || call_over(app, call);
}

/* Under sw->lock: *@p tries again, or is forgotten (and false) if nobody waits for it. */
static bool retry(struct switch_ctx *sw, struct parked **p)
{
	struct parked *gone = *p;
	bool waits = !was_interrupted(sw, gone);

	if (waits) {
		pool_resume_locked(sw, gone->slot);
	} else {
		gave_up[gave_up_next].native = gone->native;
		gave_up[gave_up_next].until_ns = gave_up_until = now_ns() + GAVE_UP_NS;
		gave_up_next = (gave_up_next + 1) % GAVE_UP;
		pool_free_slot(sw, gone->slot);
	}
	*p = gone->next;
	n_waiting--;
	free(gone);
	return waits;
}

void backlog_retry_all(struct switch_ctx *sw, struct listener *l)
{
	while (l->full != NULL)
		(void)retry(sw, &l->full);
}

void backlog_retry_next(struct switch_ctx *sw, struct listener *l)
{
	while (l->full != NULL && !retry(sw, &l->full))
		;
}

void backlog_pass_on(struct trap *t, uint64_t anchor)
{
	struct listener *l;

	/* not of the listener that took it: another instance may have, and the others wait here */
	pthread_mutex_lock(&t->sw->lock);
	l = listener_find(t->sw, anchor);
	if (l != NULL)
		backlog_retry_next(t->sw, l);
	pthread_mutex_unlock(&t->sw->lock);
}

bool backlog_gave_up(struct switch_ctx *sw, uint64_t native)
{
	bool found = false, waits = false;

	if (n_waiting == 0 && now_ns() >= gave_up_until)
		return false;
	pthread_mutex_lock(&sw->lock);
	for (unsigned i = 0; n_waiting > 0 && i < ST_LISTENERS; i++) {
		struct listener *l = sw->listeners[i];
		struct parked **p = l != NULL ? &l->full : NULL;

		while (p != NULL && *p != NULL) {
			if ((*p)->native == native && was_interrupted(sw, *p)) {
				(void)retry(sw, p);
			} else {
				waits |= (*p)->native == native;
				p = &(*p)->next;
			}
		}
	}
	for (unsigned i = 0; i < GAVE_UP; i++) {
		if (gave_up[i].native != native)
			continue;
		gave_up[i].native = 0;
		found |= now_ns() < gave_up[i].until_ns;
	}
	pthread_mutex_unlock(&sw->lock);
	return found && !waits;
}

void backlog_tick(struct switch_ctx *sw, uint64_t now)
{
	static uint64_t looked_ns;
	bool look = now - looked_ns > LOOK_NS;

	if (look)
		looked_ns = now;
	for (unsigned i = 0; n_waiting > 0 && i < ST_LISTENERS; i++) {
		struct listener *l = sw->listeners[i];
		struct parked **p = l != NULL ? &l->full : NULL;

		while (p != NULL && *p != NULL) {
			if (sw->st.calls[(*p)->slot].deadline_ns <= now ||
			    (look && was_interrupted(sw, *p)))
				(void)retry(sw, p);
			else
				p = &(*p)->next;
		}
		/* an accept that is not ours, or another instance, may have made room: one looks,
		 * and if it gets through the next one does */
		if (l != NULL)
			backlog_retry_next(sw, l);
	}
}
