#include "traphandler/service/sockrec.h"

#include "traphandler/service/quota.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A chained hash: heads by cookie, and the next record of a chain by slot (both slot + 1). */
struct sockrec {
	struct state *st;
	pthread_mutex_t lock;
	uint32_t *heads;
	unsigned bits; /* log2 of the number of heads */
	uint32_t *next;
	uint16_t *owner;	    /* QUOTA_OF() the app it counts for, or NOBODY */
	size_t cap_next;	    /* of both */
	uint32_t held[ST_APPS + 1]; /* records by owner */
	size_t n_used;
	uint32_t *free_list;
	size_t n_free, cap_free;
	_Atomic size_t n_opts, n_remote;
	size_t n_native; /* option records of sockets that no dump shows; by the last sweep, plus new */
};

#define NOBODY ST_APPS

uint32_t sockrec_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint32_t)t.tv_sec;
}

/* Fibonacci hashing (Knuth, TAOCP 3, 6.4): the top bits are the good ones. */
static size_t hash(const struct sockrec *s, uint64_t cookie)
{
	return (size_t)((cookie * 0x9e3779b97f4a7c15u) >> (64 - s->bits));
}

static void index_put(struct sockrec *s, uint64_t cookie, uint32_t slot)
{
	uint32_t *head = &s->heads[hash(s, cookie)];

	s->next[slot] = *head;
	*head = slot + 1;
	s->n_used++;
}

static int index_reserve(struct sockrec *s, uint32_t slot)
{
	uint32_t *heads, *old = s->heads;
	size_t n_old = (size_t)1 << s->bits;

	if (slot >= s->cap_next) {
		size_t cap = s->cap_next ? s->cap_next * 2 : 256;
		uint32_t *p;
		uint16_t *o;

		while (cap <= slot)
			cap *= 2;
		p = realloc(s->next, cap * sizeof(*p));
		if (p == NULL)
			return -ENOMEM;
		s->next = p;
		o = realloc(s->owner, cap * sizeof(*o));
		if (o == NULL)
			return -ENOMEM;
		s->owner = o;
		s->cap_next = cap;
	}
	if (s->n_used < n_old)
		return 0;
	heads = calloc(n_old * 2, sizeof(*heads));
	if (heads == NULL)
		return -ENOMEM;
	s->heads = heads;
	s->bits++;
	s->n_used = 0;
	for (size_t i = 0; i < n_old; i++) {
		for (uint32_t r = old[i]; r != 0;) {
			uint32_t after = s->next[r - 1];

			index_put(s, s->st->socks[r - 1].cookie, r - 1);
			r = after;
		}
	}
	free(old);
	return 0;
}

/* The first record of @cookie of kind @kind (0: any), or the next one after *@at. */
static struct st_sock *find(struct sockrec *s, uint64_t cookie, int kind, uint32_t *at)
{
	uint32_t r = at != NULL && *at != 0 ? s->next[*at - 1] : s->heads[hash(s, cookie)];

	for (; r != 0; r = s->next[r - 1]) {
		struct st_sock *rec = &s->st->socks[r - 1];

		if (rec->cookie != cookie || (kind != 0 && rec->kind != kind))
			continue;
		if (at != NULL)
			*at = r;
		return rec;
	}
	return NULL;
}

static void index_remove(struct sockrec *s, uint64_t cookie, uint32_t slot)
{
	uint32_t *p = &s->heads[hash(s, cookie)];

	while (*p != slot + 1)
		p = &s->next[*p - 1];
	*p = s->next[slot];
	s->n_used--;
}

static void give_back(struct sockrec *s, uint32_t slot)
{
	if (s->n_free == s->cap_free) {
		size_t cap = s->cap_free ? s->cap_free * 2 : 64;
		uint32_t *p = realloc(s->free_list, cap * sizeof(*p));

		if (p == NULL)
			return; /* the slot is lost until the next daemon */
		s->free_list = p;
		s->cap_free = cap;
	}
	s->free_list[s->n_free++] = slot;
}

static void count(struct sockrec *s, int kind, int by)
{
	if (kind == ST_SOCK_REMOTE)
		s->n_remote += (size_t)by;
	else if (kind != ST_SOCK_CONN)
		s->n_opts += (size_t)by;
}

static void drop(struct sockrec *s, struct st_sock *r)
{
	uint32_t slot = (uint32_t)(r - s->st->socks);

	count(s, r->kind, -1);
	index_remove(s, r->cookie, slot);
	s->held[s->owner[slot]]--;
	__atomic_store_n(&r->cookie, 0, __ATOMIC_RELEASE);
	give_back(s, slot);
}

static void own(struct sockrec *s, uint32_t slot, uint32_t owner)
{
	s->owner[slot] = (uint16_t)owner;
	s->held[owner]++;
}

/* Records of a socket that no dump shows live on: they are half of the table at most. */
static size_t room_for(const struct sockrec *s, bool native)
{
	size_t room = ST_SOCKS - s->n_used, other;

	other = s->n_native < ST_SOCKS / 2 ? ST_SOCKS / 2 - s->n_native : 0;
	return native && other < room ? other : room;
}

static struct st_sock *add(struct sockrec *s, uint32_t app, uint64_t cookie, int kind,
			   bool native)
{
	struct st_sock *r;
	uint32_t slot;

	if (!quota_allows(s->held[QUOTA_OF(app)], room_for(s, native)))
		return NULL;
	if (s->n_free > 0)
		slot = s->free_list[--s->n_free];
	else if (s->st->h->socks_high < ST_SOCKS)
		slot = s->st->h->socks_high++;
	else
		return NULL;
	if (index_reserve(s, slot) < 0)
		return NULL;
	r = &s->st->socks[slot];
	memset(r, 0, sizeof(*r));
	r->kind = (uint16_t)kind;
	r->since = sockrec_now();
	__atomic_store_n(&r->cookie, cookie, __ATOMIC_RELEASE);
	index_put(s, cookie, slot);
	own(s, slot, QUOTA_OF(app));
	count(s, kind, 1);
	s->n_native += native;
	return r;
}

static bool of_connection(const struct st_sock *r)
{
	return r->kind == ST_SOCK_CONN || r->kind == ST_SOCK_REMOTE;
}

struct sockrec *sockrec_new(struct state *st)
{
	struct sockrec *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->st = st;
	s->bits = 8;
	s->heads = calloc((size_t)1 << s->bits, sizeof(*s->heads));
	if (s->heads == NULL) {
		free(s);
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	for (uint32_t i = 0; i < st->h->socks_high; i++) {
		if (st->socks[i].cookie == 0) {
			give_back(s, i);
			continue;
		}
		if (index_reserve(s, i) < 0)
			return sockrec_free(s);
		index_put(s, st->socks[i].cookie, i);
		own(s, i, of_connection(&st->socks[i]) ? QUOTA_OF(st->socks[i].app) : NOBODY);
		count(s, st->socks[i].kind, 1);
	}
	return s;
}

struct sockrec *sockrec_free(struct sockrec *s)
{
	if (s == NULL)
		return NULL;
	pthread_mutex_destroy(&s->lock);
	free(s->heads);
	free(s->next);
	free(s->owner);
	free(s->free_list);
	free(s);
	return NULL;
}

int sockrec_add_carried(struct sockrec *s, uint64_t cookie, uint32_t app, uint32_t server_app,
			uint64_t server_anchor)
{
	struct st_sock *r;

	pthread_mutex_lock(&s->lock);
	r = add(s, app, cookie, ST_SOCK_CONN, false);
	if (r != NULL) {
		r->app = app;
		r->conn.server_app = server_app;
		r->conn.server_anchor = server_anchor;
	}
	pthread_mutex_unlock(&s->lock);
	return r != NULL ? 0 : -ENOMEM;
}

void sockrec_announced(struct sockrec *s, uint64_t cookie)
{
	struct st_sock *r;

	pthread_mutex_lock(&s->lock);
	r = find(s, cookie, ST_SOCK_CONN, NULL);
	if (r != NULL)
		r->conn.carried = 1;
	pthread_mutex_unlock(&s->lock);
}

void sockrec_add_conn(struct sockrec *s, uint64_t cookie, uint32_t app, uint32_t server_app,
		      uint64_t server_anchor)
{
	(void)sockrec_add_carried(s, cookie, app, server_app, server_anchor);
}

bool sockrec_get_conn(struct sockrec *s, uint64_t cookie, struct st_sock *ret)
{
	struct st_sock *r;

	pthread_mutex_lock(&s->lock);
	r = find(s, cookie, ST_SOCK_CONN, NULL);
	if (r != NULL)
		*ret = *r;
	pthread_mutex_unlock(&s->lock);
	return r != NULL;
}

int sockrec_add_remote(struct sockrec *s, uint64_t cookie, uint32_t app,
		       const struct st_remote *remote)
{
	struct st_sock *r;

	pthread_mutex_lock(&s->lock);
	r = add(s, app, cookie, ST_SOCK_REMOTE, false);
	if (r != NULL) {
		r->app = app;
		r->remote = *remote;
	}
	pthread_mutex_unlock(&s->lock);
	return r != NULL ? 0 : -ENOMEM;
}

bool sockrec_get_remote(struct sockrec *s, uint64_t cookie, struct st_remote *ret)
{
	struct st_sock *r;

	if (s->n_remote == 0)
		return false;
	pthread_mutex_lock(&s->lock);
	r = find(s, cookie, ST_SOCK_REMOTE, NULL);
	if (r != NULL)
		*ret = r->remote;
	pthread_mutex_unlock(&s->lock);
	return r != NULL;
}

void sockrec_remote_waits(struct sockrec *s, uint64_t cookie, bool waits)
{
	struct st_sock *r;

	pthread_mutex_lock(&s->lock);
	r = find(s, cookie, ST_SOCK_REMOTE, NULL);
	if (r != NULL)
		r->remote.waits = waits;
	pthread_mutex_unlock(&s->lock);
}

void sockrec_remote_seen(struct sockrec *s, uint64_t cookie)
{
	struct st_sock *r;

	pthread_mutex_lock(&s->lock);
	r = find(s, cookie, ST_SOCK_REMOTE, NULL);
	if (r != NULL)
		r->remote.unseen = 0;
	pthread_mutex_unlock(&s->lock);
}

bool sockrec_any_remote(struct sockrec *s)
{
	return s->n_remote > 0;
}

void sockrec_each_remote(struct sockrec *s, void (*fn)(void *arg, const struct st_sock *rec),
			 void *arg)
{
	if (s->n_remote == 0)
		return;
	pthread_mutex_lock(&s->lock);
	for (uint32_t i = 0; i < s->st->h->socks_high; i++) {
		const struct st_sock *r = &s->st->socks[i];

		if (r->cookie != 0 && r->kind == ST_SOCK_REMOTE)
			fn(arg, r);
	}
	pthread_mutex_unlock(&s->lock);
}

static int cmp_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Everything about a socket. */
static void drop_all(struct sockrec *s, uint64_t cookie)
{
	struct st_sock *r;

	while ((r = find(s, cookie, 0, NULL)) != NULL)
		drop(s, r);
}

void sockrec_remote_open(struct sockrec *s, uint64_t *cookies, size_t n, uint32_t client_s)
{
	uint32_t now = sockrec_now();

	if (n > 1)
		qsort(cookies, n, sizeof(*cookies), cmp_u64);
	pthread_mutex_lock(&s->lock);
	for (uint32_t i = 0; i < s->st->h->socks_high; i++) {
		struct st_sock *r = &s->st->socks[i];

		if (r->cookie == 0 || r->kind != ST_SOCK_REMOTE)
			continue;
		if (n > 0 && bsearch(&r->cookie, cookies, n, sizeof(*cookies), cmp_u64) != NULL)
			r->remote.missed = 0;
		else if (++r->remote.missed >= SOCKREC_MISSES &&
			 (r->remote.server || now - r->since > client_s))
			drop_all(s, r->cookie);
		else if (r->remote.missed > SOCKREC_MISSES)
			r->remote.missed = SOCKREC_MISSES;
	}
	pthread_mutex_unlock(&s->lock);
}

void sockrec_forget(struct sockrec *s, uint64_t cookie)
{
	if (s->n_remote == 0)
		return;
	pthread_mutex_lock(&s->lock);
	if (find(s, cookie, ST_SOCK_REMOTE, NULL) != NULL)
		drop_all(s, cookie);
	pthread_mutex_unlock(&s->lock);
}

static struct st_opt *find_opt(struct sockrec *s, uint64_t cookie, int level, int name)
{
	uint32_t at = 0;
	struct st_sock *r;

	while ((r = find(s, cookie, ST_SOCK_OPTS, &at)) != NULL) {
		for (int i = 0; i < r->n; i++) {
			if (r->opts[i].level == level && r->opts[i].name == name)
				return &r->opts[i];
		}
	}
	return NULL;
}

int sockrec_set_opt(struct sockrec *s, uint32_t app, uint64_t cookie, bool standin, int level,
		    int name, int value)
{
	uint32_t at = 0;
	struct st_sock *r;
	struct st_opt *o;
	int result = 0;

	pthread_mutex_lock(&s->lock);
	o = find_opt(s, cookie, level, name);
	if (o == NULL) {
		while ((r = find(s, cookie, ST_SOCK_OPTS, &at)) != NULL && r->n == ST_OPTS)
			;
		if (r == NULL)
			r = add(s, app, cookie, ST_SOCK_OPTS, !standin);
		if (r != NULL) {
			r->app = standin;
			o = &r->opts[r->n];
			o->level = (uint16_t)level;
			o->name = (uint16_t)name;
			r->n++;
		}
	}
	if (o != NULL)
		o->value = value;
	else
		result = -ENOMEM;
	pthread_mutex_unlock(&s->lock);
	return result;
}

bool sockrec_get_opt(struct sockrec *s, uint64_t cookie, int level, int name, int *ret)
{
	struct st_opt *o;

	if (s->n_opts == 0)
		return false;
	pthread_mutex_lock(&s->lock);
	o = find_opt(s, cookie, level, name);
	if (o != NULL)
		*ret = o->value;
	pthread_mutex_unlock(&s->lock);
	return o != NULL;
}

int sockrec_set_congestion(struct sockrec *s, uint32_t app, uint64_t cookie, bool standin,
			   const char name[16])
{
	struct st_sock *r;

	pthread_mutex_lock(&s->lock);
	r = find(s, cookie, ST_SOCK_CONGESTION, NULL);
	if (r == NULL)
		r = add(s, app, cookie, ST_SOCK_CONGESTION, !standin);
	if (r != NULL) {
		r->app = standin;
		memcpy(r->congestion, name, 16);
	}
	pthread_mutex_unlock(&s->lock);
	return r != NULL ? 0 : -ENOMEM;
}

bool sockrec_get_congestion(struct sockrec *s, uint64_t cookie, char ret[16])
{
	struct st_sock *r;

	if (s->n_opts == 0)
		return false;
	pthread_mutex_lock(&s->lock);
	r = find(s, cookie, ST_SOCK_CONGESTION, NULL);
	if (r != NULL)
		memcpy(ret, r->congestion, 16);
	pthread_mutex_unlock(&s->lock);
	return r != NULL;
}

void sockrec_move(struct sockrec *s, uint64_t from, uint64_t to)
{
	struct st_sock *r;

	if (s->n_opts == 0)
		return;
	pthread_mutex_lock(&s->lock);
	while ((r = find(s, from, 0, NULL)) != NULL) {
		uint32_t slot = (uint32_t)(r - s->st->socks);

		index_remove(s, from, slot);
		r->cookie = to;
		r->app = 1;
		index_put(s, to, slot);
	}
	pthread_mutex_unlock(&s->lock);
}

bool sockrec_has_opts(struct sockrec *s, uint64_t cookie)
{
	bool has;

	if (s->n_opts == 0)
		return false;
	pthread_mutex_lock(&s->lock);
	has = find(s, cookie, ST_SOCK_OPTS, NULL) != NULL ||
	      find(s, cookie, ST_SOCK_CONGESTION, NULL) != NULL;
	pthread_mutex_unlock(&s->lock);
	return has;
}

bool sockrec_any_opts(struct sockrec *s)
{
	return s->n_opts > 0;
}

void sockrec_mark_refused(struct sockrec *s, uint32_t app, uint64_t cookie)
{
	pthread_mutex_lock(&s->lock);
	if (find(s, cookie, ST_SOCK_REFUSED, NULL) == NULL)
		(void)add(s, app, cookie, ST_SOCK_REFUSED, true);
	pthread_mutex_unlock(&s->lock);
}

bool sockrec_take_refused(struct sockrec *s, uint64_t cookie)
{
	struct st_sock *r;

	if (s->n_opts == 0)
		return false;
	pthread_mutex_lock(&s->lock);
	r = find(s, cookie, ST_SOCK_REFUSED, NULL);
	if (r != NULL)
		drop(s, r);
	pthread_mutex_unlock(&s->lock);
	return r != NULL;
}

void sockrec_sweep(struct sockrec *s, const uint64_t *live, size_t n, uint32_t before_s)
{
	size_t n_native = 0;
	uint32_t keep;

	pthread_mutex_lock(&s->lock);
	/* whether such a socket is still open cannot be seen; connect() mostly follows at once */
	keep = s->n_native < ST_SOCKS / 16 ? 3600 : s->n_native < ST_SOCKS / 4 ? 60 : 5;
	for (uint32_t i = 0; i < s->st->h->socks_high; i++) {
		struct st_sock *r = &s->st->socks[i];

		if (r->cookie == 0 || r->since >= before_s || r->kind == ST_SOCK_REMOTE)
			continue;
		if (s->n_remote > 0 && find(s, r->cookie, ST_SOCK_REMOTE, NULL) != NULL)
			continue;
		if (r->kind != ST_SOCK_CONN && r->app == 0) {
			n_native++;
			if (before_s - r->since < keep)
				continue;
		}
		if (n == 0 || bsearch(&r->cookie, live, n, sizeof(*live), cmp_u64) == NULL)
			drop(s, r);
	}
	s->n_native = n_native;
	pthread_mutex_unlock(&s->lock);
}

size_t sockrec_count(struct sockrec *s)
{
	return s->n_used;
}
