/* Records about sockets: what was put in comes out, also for the next daemon, and the records of
 * closed sockets give their room back. */
#include "traphandler/service/sockrec.h"

#include <appswitch/util.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define ALL_OLD UINT32_MAX /* a time before which every record was made */

static const uint64_t nobody[1];
static const char cubic[16] = "cubic";
#define APP 1

static const char name_of_16[16] = "0123456789abcdef";

struct fixture {
	struct state st;
	struct sockrec *s;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(state_create(&f->st), 0);
	f->s = sockrec_new(&f->st);
	assert_non_null(f->s);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	assert_null(sockrec_free(f->s));
	state_unmap(&f->st);
	close(f->st.fd);
	free(f);
	return 0;
}

/* The daemon ends and another one starts on the same memfd. */
static void next_daemon(struct fixture *f)
{
	int fd = f->st.fd;

	sockrec_free(f->s);
	state_unmap(&f->st);
	assert_int_equal(state_map(fd, &f->st), 0);
	f->s = sockrec_new(&f->st);
	assert_non_null(f->s);
}

/* Says that the records of @cookie were made at @since. */
static void backdate(struct fixture *f, uint64_t cookie, uint32_t since)
{
	for (uint32_t i = 0; i < f->st.h->socks_high; i++) {
		if (f->st.socks[i].cookie == cookie)
			f->st.socks[i].since = since;
	}
}

static void test_an_unknown_socket_has_nothing(void **state)
{
	struct fixture *f = *state;
	struct st_sock conn = { .app = 99 };
	char cong[16] = "before";
	int value = 99;

	for (int pass = 0; pass < 2; pass++) {
		assert_false(sockrec_get_conn(f->s, 1, &conn));
		assert_false(sockrec_get_opt(f->s, 1, 6, 1, &value));
		assert_false(sockrec_get_congestion(f->s, 1, cong));
		assert_false(sockrec_take_refused(f->s, 1));
		assert_int_equal(conn.app, 99); /* untouched */
		assert_int_equal(value, 99);
		assert_string_equal(cong, "before");
		/* the same where others have everything */
		sockrec_add_conn(f->s, 2, 1, 1, 1);
		assert_int_equal(sockrec_set_opt(f->s, APP, 2, true, 6, 1, 1), 0);
		assert_int_equal(sockrec_set_congestion(f->s, APP, 2, true, cubic), 0);
		sockrec_mark_refused(f->s, APP, 2);
	}
}

static void test_a_connection_is_found_by_its_cookie(void **state)
{
	struct fixture *f = *state;
	uint32_t before = sockrec_now();
	struct st_sock c;

	sockrec_add_conn(f->s, UINT64_MAX, 3, 4, 0x500000006);
	sockrec_add_conn(f->s, 1, 7, 8, 9);
	assert_true(sockrec_get_conn(f->s, UINT64_MAX, &c));
	assert_int_equal(c.app, 3);
	assert_int_equal(c.conn.server_app, 4);
	assert_int_equal(c.conn.server_anchor, 0x500000006);
	assert_in_range(c.since, before, sockrec_now());
	assert_true(sockrec_get_conn(f->s, 1, &c));
	assert_int_equal(c.app, 7);
	assert_int_equal(sockrec_add_carried(f->s, 2, 5, 6, 7), 0);
	assert_true(sockrec_get_conn(f->s, 2, &c));
	assert_int_equal(c.conn.carried, 0);
	sockrec_announced(f->s, 2);
	assert_true(sockrec_get_conn(f->s, 2, &c));
	assert_int_equal(c.conn.server_anchor, 7);
	assert_int_equal(c.conn.carried, 1);
}

static void test_set_then_get_for_more_options_than_one_record_holds(void **state)
{
	enum { N = ST_OPTS * 3 + 1 };
	struct fixture *f = *state;
	int v;

	for (int pass = 0; pass < 3; pass++) { /* first set, then changed */
		for (int i = 0; i < N; i++) {
			for (uint64_t cookie = 1; cookie <= 3; cookie++)
				assert_int_equal(sockrec_set_opt(f->s, APP, cookie, false, 6, i,
								 i * 10 + pass - (int)cookie),
						 0);
		}
		for (int i = 0; i < N; i++) {
			for (uint64_t cookie = 1; cookie <= 3; cookie++) {
				assert_true(sockrec_get_opt(f->s, cookie, 6, i, &v));
				assert_int_equal(v, i * 10 + pass - (int)cookie);
			}
		}
		/* changing takes no further room: 4 records for 13 options, of 3 sockets */
		assert_int_equal(sockrec_count(f->s), 3 * (N + ST_OPTS - 1) / ST_OPTS);
	}
	assert_false(sockrec_get_opt(f->s, 1, 6, N, &v));
	assert_false(sockrec_get_opt(f->s, 1, 0, 1, &v)); /* another level */
	assert_false(sockrec_get_opt(f->s, 4, 6, 1, &v)); /* another socket */
}

static void test_an_option_value_may_be_any_int(void **state)
{
	static const int values[] = { 0, 1, -1, INT32_MAX, INT32_MIN };
	struct fixture *f = *state;
	int v;

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		assert_int_equal(sockrec_set_opt(f->s, APP, 5, true, 0xffff, 0xffff, values[i]),
				 0);
		assert_true(sockrec_get_opt(f->s, 5, 0xffff, 0xffff, &v));
		assert_int_equal(v, values[i]);
	}
}

static void test_a_congestion_name_may_fill_its_sixteen_bytes(void **state)
{
	struct fixture *f = *state;
	char got[16];

	assert_int_equal(sockrec_set_congestion(f->s, APP, 5, false, cubic), 0);
	assert_int_equal(sockrec_set_congestion(f->s, APP, 5, false, name_of_16), 0);
	assert_true(sockrec_get_congestion(f->s, 5, got));
	assert_memory_equal(got, name_of_16, 16);
	assert_int_equal(sockrec_count(f->s), 1);
}

static void test_a_refusal_is_told_once(void **state)
{
	struct fixture *f = *state;

	sockrec_mark_refused(f->s, APP, 5);
	sockrec_mark_refused(f->s, APP, 5); /* refused again before it was told */
	assert_false(sockrec_take_refused(f->s, 6));
	assert_true(sockrec_take_refused(f->s, 5));
	assert_false(sockrec_take_refused(f->s, 5));
	sockrec_mark_refused(f->s, APP, 5); /* and the next refusal again */
	assert_true(sockrec_take_refused(f->s, 5));
	assert_int_equal(sockrec_count(f->s), 0);
}

static void test_moved_options_are_the_new_sockets_alone(void **state)
{
	struct fixture *f = *state;
	char cong[16];
	int v;

	for (int i = 0; i < 9; i++) {
		assert_int_equal(sockrec_set_opt(f->s, APP, 5, false, 6, i, i), 0);
		assert_int_equal(sockrec_set_opt(f->s, APP, 6, false, 6, i, -i), 0);
	}
	assert_int_equal(sockrec_set_congestion(f->s, APP, 5, false, cubic), 0);
	sockrec_move(f->s, 5, 7);
	sockrec_move(f->s, 99, 98); /* of nothing: nothing */
	for (int i = 0; i < 9; i++) {
		assert_false(sockrec_get_opt(f->s, 5, 6, i, &v));
		assert_true(sockrec_get_opt(f->s, 7, 6, i, &v));
		assert_int_equal(v, i);
		assert_true(sockrec_get_opt(f->s, 6, 6, i, &v)); /* the neighbour's stay */
		assert_int_equal(v, -i);
	}
	assert_false(sockrec_get_congestion(f->s, 5, cong));
	assert_true(sockrec_get_congestion(f->s, 7, cong));
	assert_string_equal(cong, "cubic");
}

static void test_moved_options_live_as_long_as_a_stand_ins(void **state)
{
	struct fixture *f = *state;
	uint32_t now = 10000;
	int v;

	assert_int_equal(sockrec_set_opt(f->s, APP, 5, false, 6, 1, 1), 0);
	backdate(f, 5, now - 1);
	sockrec_sweep(f->s, nobody, 0, now);
	assert_true(sockrec_get_opt(f->s, 5, 6, 1, &v)); /* native: not in any dump */
	sockrec_move(f->s, 5, 7);
	sockrec_sweep(f->s, nobody, 0, now);
	assert_false(sockrec_get_opt(f->s, 7, 6, 1, &v));
}

static void test_any_opts_is_true_exactly_while_there_are_some(void **state)
{
	struct fixture *f = *state;

	assert_false(sockrec_any_opts(f->s));
	sockrec_add_conn(f->s, 1, 1, 1, 1);
	assert_false(sockrec_any_opts(f->s));
	assert_int_equal(sockrec_set_opt(f->s, APP, 1, true, 6, 1, 1), 0);
	assert_true(sockrec_any_opts(f->s));
	next_daemon(f);
	assert_true(sockrec_any_opts(f->s));
	sockrec_sweep(f->s, nobody, 0, ALL_OLD);
	assert_false(sockrec_any_opts(f->s));
}

static void test_sweep_spares_the_living_and_the_young(void **state)
{
	struct fixture *f = *state;
	const uint64_t live[] = { 10, 20, 30 };
	const uint32_t t = 10000;
	struct st_sock c;

	for (uint64_t cookie = 9; cookie <= 31; cookie++) {
		sockrec_add_conn(f->s, cookie, (uint32_t)cookie, 0, 0);
		backdate(f, cookie, t - 1);
	}
	sockrec_add_conn(f->s, 40, 40, 0, 0);
	backdate(f, 40, t);
	sockrec_sweep(f->s, live, ARRAY_SIZE(live), t);
	for (uint64_t cookie = 9; cookie <= 31; cookie++)
		assert_int_equal(sockrec_get_conn(f->s, cookie, &c), cookie % 10 == 0);
	assert_true(sockrec_get_conn(f->s, 40, &c)); /* not before t... */
	assert_int_equal(sockrec_count(f->s), 4);
	sockrec_sweep(f->s, live, ARRAY_SIZE(live), t + 1);
	assert_false(sockrec_get_conn(f->s, 40, &c)); /* ...but before t + 1 */
	assert_int_equal(sockrec_count(f->s), 3);
}

static void test_options_of_a_native_socket_stay_an_hour(void **state)
{
	struct fixture *f = *state;
	const uint32_t t = 10000;
	const uint64_t live[] = { 6 };
	char cong[16];
	int v;

	for (uint64_t cookie = 5; cookie <= 6; cookie++) {
		assert_int_equal(sockrec_set_opt(f->s, APP, cookie, false, 6, 1, 1), 0);
		assert_int_equal(sockrec_set_congestion(f->s, APP, cookie, false, name_of_16),
				 0);
		sockrec_mark_refused(f->s, APP, cookie);
		backdate(f, cookie, t);
	}
	sockrec_sweep(f->s, live, 1, t + 3599);
	assert_int_equal(sockrec_count(f->s), 6); /* not early... */
	sockrec_sweep(f->s, live, 1, t + 3600);
	assert_int_equal(sockrec_count(f->s), 3); /* ...and not late */
	assert_false(sockrec_get_opt(f->s, 5, 6, 1, &v));
	assert_false(sockrec_get_congestion(f->s, 5, cong));
	assert_false(sockrec_take_refused(f->s, 5));
	assert_true(sockrec_get_opt(f->s, 6, 6, 1, &v));
	assert_true(sockrec_get_congestion(f->s, 6, cong));
	assert_true(sockrec_take_refused(f->s, 6));
}

static void test_the_next_daemon_knows_every_record(void **state)
{
	struct fixture *f = *state;
	struct st_sock c;
	char cong[16];
	int v;

	for (uint64_t cookie = 1; cookie <= 1000; cookie++) {
		sockrec_add_conn(f->s, cookie, (uint32_t)cookie, 2, 3);
		assert_int_equal(sockrec_set_opt(f->s, APP, cookie, true, 6, 7, (int)cookie),
				 0);
	}
	assert_int_equal(sockrec_set_congestion(f->s, APP, 5, true, name_of_16), 0);
	sockrec_mark_refused(f->s, APP, 5);
	next_daemon(f);
	assert_int_equal(sockrec_count(f->s), 2002);
	for (uint64_t cookie = 1; cookie <= 1000; cookie++) {
		assert_true(sockrec_get_conn(f->s, cookie, &c));
		assert_int_equal(c.app, cookie);
		assert_true(sockrec_get_opt(f->s, cookie, 6, 7, &v));
		assert_int_equal(v, cookie);
	}
	assert_true(sockrec_get_congestion(f->s, 5, cong));
	assert_true(sockrec_take_refused(f->s, 5));
	next_daemon(f);
	assert_false(sockrec_take_refused(f->s, 5));
}

static void test_one_app_gets_as_much_as_it_leaves(void **state)
{
	struct fixture *f = *state;
	uint64_t cookie = 1;
	struct st_sock c;

	/* native sockets: half of the table, and of that half */
	while (sockrec_set_opt(f->s, 7, cookie, false, 6, 1, 1) == 0)
		cookie++;
	assert_int_equal(cookie - 1, ST_SOCKS / 4);
	assert_int_equal(sockrec_set_congestion(f->s, 7, cookie, false, name_of_16), -ENOMEM);
	sockrec_mark_refused(f->s, 7, cookie);
	assert_false(sockrec_take_refused(f->s, cookie));
	/* stand-ins: half of the table */
	while (sockrec_set_opt(f->s, 7, cookie, true, 6, 1, 1) == 0)
		cookie++;
	assert_int_equal(cookie - 1, ST_SOCKS / 2);
	sockrec_add_conn(f->s, cookie, 7, 0, 0);
	assert_false(sockrec_get_conn(f->s, cookie, &c));
	/* another one has room */
	sockrec_add_conn(f->s, cookie, 8, 0, 0);
	assert_true(sockrec_get_conn(f->s, cookie, &c));
	for (int i = 0; i < 1000; i++)
		assert_int_equal(sockrec_set_opt(f->s, 8, ++cookie, i % 2, 6, 1, 1), 0);
	/* and the first, when its own are gone */
	sockrec_sweep(f->s, nobody, 0, ALL_OLD);
	assert_int_equal(sockrec_set_opt(f->s, 7, 1, true, 6, 1, 1), 0);
}

static void test_a_share_survives_the_daemon(void **state)
{
	struct fixture *f = *state;
	struct st_sock c;

	for (uint64_t cookie = 1; cookie <= ST_SOCKS / 2; cookie++)
		sockrec_add_conn(f->s, cookie, 7, 0, 0);
	next_daemon(f);
	sockrec_add_conn(f->s, ST_SOCKS, 7, 0, 0);
	assert_false(sockrec_get_conn(f->s, ST_SOCKS, &c));
	sockrec_add_conn(f->s, ST_SOCKS, 8, 0, 0);
	assert_true(sockrec_get_conn(f->s, ST_SOCKS, &c));
}

/* As many as there are apps: what stays free is as much as one of them has. */
static void test_a_full_table_says_so_and_goes_on(void **state)
{
	struct fixture *f = *state;
	struct st_sock c;
	size_t n;
	int v;

	for (uint64_t cookie = 1; cookie <= ST_SOCKS; cookie++)
		sockrec_add_conn(f->s, cookie, (uint32_t)cookie, 0, 0);
	n = sockrec_count(f->s);
	assert_in_range(n, ST_SOCKS - ST_SOCKS / ST_APPS, ST_SOCKS - 1);
	sockrec_add_conn(f->s, ST_SOCKS + 1, 1, 0, 0);
	assert_false(sockrec_get_conn(f->s, ST_SOCKS + 1, &c));
	assert_int_equal(sockrec_set_opt(f->s, APP, 1, true, 6, 1, 1), -ENOMEM);
	assert_int_equal(sockrec_set_congestion(f->s, APP, 1, true, name_of_16), -ENOMEM);
	sockrec_mark_refused(f->s, APP, 1);
	assert_false(sockrec_take_refused(f->s, 1));
	for (uint64_t cookie = 1; cookie <= n; cookie++)
		assert_true(sockrec_get_conn(f->s, cookie, &c) && c.app == cookie);
	uint64_t live[] = { 1, n };
	sockrec_sweep(f->s, live, ARRAY_SIZE(live), ALL_OLD);
	assert_int_equal(sockrec_count(f->s), 2);
	assert_true(sockrec_get_conn(f->s, n, &c)); /* the highest slot, behind holes */
	/* all of the room is there again; at its very end the order decides who is refused */
	for (uint64_t cookie = 2; cookie < n - ST_SOCKS / ST_APPS; cookie++)
		assert_int_equal(sockrec_set_opt(f->s, (uint32_t)cookie, cookie, true, 6, 1, 5),
				 0);
	assert_true(sockrec_get_opt(f->s, n - 1 - ST_SOCKS / ST_APPS, 6, 1, &v));
}

static void test_the_next_daemon_reuses_the_room_of_the_gone(void **state)
{
	struct fixture *f = *state;
	uint32_t high;

	for (uint64_t round = 1; round <= 10; round++) {
		for (uint64_t i = 0; i < 100; i++)
			sockrec_add_conn(f->s, round * 1000 + i, 1, 1, 1);
		sockrec_sweep(f->s, nobody, 0, ALL_OLD);
		next_daemon(f);
	}
	high = f->st.h->socks_high;
	assert_int_equal(high, 100);
}

static void test_moves_without_end_need_no_room(void **state)
{
	struct fixture *f = *state;
	int v;

	assert_int_equal(sockrec_set_opt(f->s, APP, 1, false, 6, 1, 5), 0);
	for (uint64_t i = 1; i < 100000; i++)
		sockrec_move(f->s, i, i + 1);
	assert_true(sockrec_get_opt(f->s, 100000, 6, 1, &v));
	assert_int_equal(v, 5);
}

/* --- random use against plain arrays --- */

enum { M_SOCKS = 600, M_OPTS = 6 };

struct model_sock {
	bool conn, refused, cong, has[M_OPTS];
	uint32_t app;
	int opt[M_OPTS];
	char name;
};

struct model {
	struct model_sock sock[M_SOCKS];
};

static uint64_t seed;

/* xorshift64 (Marsaglia, 2003) */
static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* Sparse as the kernel's cookies are, or dense. */
static uint64_t cookie_of(size_t i, bool dense)
{
	return dense ? i + 1 : (i + 1) * 0x100000000u + i;
}

static void assert_model(struct fixture *f, const struct model *m, size_t i, bool dense)
{
	uint64_t cookie = cookie_of(i, dense);
	struct st_sock c;
	char cong[16];
	int v;

	assert_int_equal(sockrec_get_conn(f->s, cookie, &c), m->sock[i].conn);
	if (m->sock[i].conn)
		assert_int_equal(c.app, m->sock[i].app);
	assert_int_equal(sockrec_get_congestion(f->s, cookie, cong), m->sock[i].cong);
	if (m->sock[i].cong)
		assert_int_equal(cong[0], m->sock[i].name);
	for (int o = 0; o < M_OPTS; o++) {
		assert_int_equal(sockrec_get_opt(f->s, cookie, 6, o, &v), m->sock[i].has[o]);
		if (m->sock[i].has[o])
			assert_int_equal(v, m->sock[i].opt[o]);
	}
}

static void model_sweep(struct fixture *f, struct model *m, bool dense)
{
	uint64_t live[M_SOCKS];
	size_t n = 0;

	for (size_t i = 0; i < M_SOCKS; i++) {
		if (rnd() % 3)
			live[n++] = cookie_of(i, dense);
		else
			memset(&m->sock[i], 0, sizeof(m->sock[i]));
	}
	sockrec_sweep(f->s, live, n, ALL_OLD);
}

static bool knows(const struct model_sock *s)
{
	bool any = s->conn || s->refused || s->cong;

	for (int o = 0; o < M_OPTS; o++)
		any |= s->has[o];
	return any;
}

static void model_step(struct fixture *f, struct model *m, bool dense)
{
	static const struct model_sock nothing;
	size_t i = rnd() % M_SOCKS, j = rnd() % M_SOCKS;
	uint64_t cookie = cookie_of(i, dense);
	int o = (int)(rnd() % M_OPTS), v = (int)rnd();
	char name[16] = { (char)('a' + rnd() % 26) };

	switch (rnd() % 8) {
	case 0:
		if (m->sock[i].conn) /* a cookie is a connection's once */
			break;
		sockrec_add_conn(f->s, cookie, (uint32_t)v, 0, 0);
		m->sock[i].conn = true;
		m->sock[i].app = (uint32_t)v;
		break;
	case 1:
		assert_int_equal(sockrec_set_congestion(f->s, APP, cookie, v & 1, name), 0);
		m->sock[i].cong = true;
		m->sock[i].name = name[0];
		break;
	case 2:
		sockrec_mark_refused(f->s, APP, cookie);
		m->sock[i].refused = true;
		break;
	case 3:
		assert_int_equal(sockrec_take_refused(f->s, cookie), m->sock[i].refused);
		m->sock[i].refused = false;
		break;
	case 4: /* a native socket is replaced by a stand-in of which nothing is known */
		while (j < M_SOCKS && knows(&m->sock[j]))
			j++;
		if (j == M_SOCKS || m->sock[i].conn || m->sock[i].refused)
			break;
		sockrec_move(f->s, cookie, cookie_of(j, dense));
		m->sock[j] = m->sock[i];
		m->sock[i] = nothing;
		assert_model(f, m, j, dense);
		break;
	default:
		assert_int_equal(sockrec_set_opt(f->s, APP, cookie, v & 1, 6, o, v), 0);
		m->sock[i].has[o] = true;
		m->sock[i].opt[o] = v;
		break;
	}
	assert_model(f, m, i, dense);
}

static void test_random_use_matches_a_plain_array(void **state)
{
	struct fixture *f = *state;
	struct model *m = malloc(sizeof(*m));

	for (uint64_t s = 1; s <= 4; s++) {
		bool dense = s % 2 == 0;

		memset(m, 0, sizeof(*m));
		seed = s;
		for (int step = 0; step < 40000; step++) {
			model_step(f, m, dense);
			if (rnd() % 4000 == 0)
				model_sweep(f, m, dense);
			if (rnd() % 2000 == 0)
				next_daemon(f);
		}
		for (size_t i = 0; i < M_SOCKS; i++)
			assert_model(f, m, i, dense);
		sockrec_sweep(f->s, nobody, 0, ALL_OLD);
		assert_int_equal(sockrec_count(f->s), 0);
	}
	free(m);
}

/* --- several threads --- */

enum { N_THREADS = 4, PER_THREAD = 300 };

struct job {
	struct sockrec *s;
	uint64_t base;
	unsigned wrong;
};

static void *use_own_sockets(void *arg)
{
	struct job *j = arg;

	for (uint64_t i = 0; i < PER_THREAD; i++) {
		uint64_t from = j->base + i, to = from + PER_THREAD;
		struct st_sock c;
		int v = 0;

		sockrec_set_opt(j->s, APP, from, false, 6, 1, (int)from);
		sockrec_mark_refused(j->s, APP, from);
		j->wrong += !sockrec_take_refused(j->s, from);
		sockrec_move(j->s, from, to);
		sockrec_add_conn(j->s, to, (uint32_t)to, 0, 0);
		j->wrong += !sockrec_get_opt(j->s, to, 6, 1, &v) || v != (int)from;
		j->wrong += !sockrec_get_conn(j->s, to, &c) || c.app != (uint32_t)to;
		j->wrong += sockrec_get_opt(j->s, from, 6, 1, &v);
	}
	return NULL;
}

static void test_threads_do_not_disturb_each_other(void **state)
{
	struct fixture *f = *state;
	pthread_t threads[N_THREADS];
	struct job jobs[N_THREADS];

	for (uint64_t i = 0; i < N_THREADS; i++) {
		jobs[i] = (struct job){ .s = f->s, .base = (i + 1) * 10000 };
		assert_int_equal(pthread_create(&threads[i], NULL, use_own_sockets, &jobs[i]),
				 0);
	}
	for (size_t i = 0; i < N_THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(jobs[i].wrong, 0);
	}
	assert_int_equal(sockrec_count(f->s), N_THREADS * PER_THREAD * 2);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_an_unknown_socket_has_nothing),
		TEST(test_a_connection_is_found_by_its_cookie),
		TEST(test_set_then_get_for_more_options_than_one_record_holds),
		TEST(test_an_option_value_may_be_any_int),
		TEST(test_a_congestion_name_may_fill_its_sixteen_bytes),
		TEST(test_a_refusal_is_told_once),
		TEST(test_moved_options_are_the_new_sockets_alone),
		TEST(test_moved_options_live_as_long_as_a_stand_ins),
		TEST(test_any_opts_is_true_exactly_while_there_are_some),
		TEST(test_sweep_spares_the_living_and_the_young),
		TEST(test_options_of_a_native_socket_stay_an_hour),
		TEST(test_the_next_daemon_knows_every_record),
		TEST(test_one_app_gets_as_much_as_it_leaves),
		TEST(test_a_share_survives_the_daemon),
		TEST(test_a_full_table_says_so_and_goes_on),
		TEST(test_the_next_daemon_reuses_the_room_of_the_gone),
		TEST(test_moves_without_end_need_no_room),
		TEST(test_random_use_matches_a_plain_array),
		TEST(test_threads_do_not_disturb_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
