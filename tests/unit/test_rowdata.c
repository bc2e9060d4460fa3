/* The data of gossip rows: what is written is read back, and what others may send. */
#include "traphandler/cluster/rowdata.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct service_data service = {
	.network = "blue", .name = "web", .tags = "zone=a,tier=front", .pid = -4711, .lb = 6
};

static int get(const char *bytes, size_t len, struct service_data *ret)
{
	uint8_t *tight = malloc(len ? len : 1); /* exact: ASan sees one byte over */
	int r;

	assert_non_null(tight);
	memcpy(tight, bytes, len);
	r = rowdata_get_service(tight, len, ret);
	free(tight);
	return r;
}
#define GET(bytes, ret) get(bytes, sizeof(bytes) - 1, ret)

static void expect_refused(const char *bytes, size_t len)
{
	struct service_data d = { .pid = 99 };

	assert_int_equal(get(bytes, len, &d), -EBADMSG);
	assert_int_equal(d.pid, 99); /* untouched on failure */
	assert_string_equal(d.name, "");
}
#define REFUSED(bytes) expect_refused(bytes, sizeof(bytes) - 1)

static void test_the_bytes_are_as_described(void **state)
{
	static const char want[] = "\1\0\4blue\2\0\3web\3\0\21zone=a,tier=front"
				   "\4\0\4\xff\xff\xed\x99\5\0\4\0\0\0\6";
	uint8_t buf[ROWDATA_MAX];
	size_t len;

	(void)state;
	assert_int_equal(rowdata_put_service(&service, buf, sizeof(buf), &len), 0);
	assert_int_equal(len, sizeof(want) - 1);
	assert_memory_equal(buf, want, len);
}

static void test_a_service_is_read_back(void **state)
{
	struct service_data d;
	uint8_t buf[ROWDATA_MAX];
	size_t len;

	(void)state;
	memset(&d, 0xee, sizeof(d));
	assert_int_equal(rowdata_put_service(&service, buf, sizeof(buf), &len), 0);
	assert_int_equal(rowdata_get_service(buf, len, &d), 0);
	assert_memory_equal(&d, &service, sizeof(d));
}

static void test_a_node_is_read_back(void **state)
{
	struct node_data n = { .name = "n1",
			       .zone = "z",
			       .version = "0.1.0",
			       .apps = 3000000000u,
			       .started = -1700000000000 },
			 back;
	uint8_t buf[ROWDATA_MAX];
	size_t len;

	(void)state;
	memset(&back, 0xee, sizeof(back));
	assert_int_equal(rowdata_put_node(&n, buf, sizeof(buf), &len), 0);
	assert_int_equal(rowdata_get_node(buf, len, &back), 0);
	assert_string_equal(back.name, n.name);
	assert_string_equal(back.zone, n.zone);
	assert_string_equal(back.version, n.version);
	assert_int_equal(back.apps, n.apps);
	assert_true(back.started == n.started);
}

static void test_the_longest_fits_and_no_buffer_is_overrun(void **state)
{
	struct service_data d, back;
	uint8_t buf[ROWDATA_MAX];
	size_t len = 0, untouched = 77;

	(void)state;
	memset(&d, 'x', sizeof(d)); /* also without the NULs: what is there is bounded */
	assert_int_equal(rowdata_put_service(&d, buf, sizeof(buf), &len), 0);
	assert_int_equal(rowdata_get_service(buf, len, &back), 0);
	assert_int_equal(strlen(back.network), 64);
	assert_int_equal(strlen(back.name), 64);
	assert_int_equal(strlen(back.tags), 512);
	for (size_t cap = 0; cap < len; cap++) {
		uint8_t *tight = malloc(cap ? cap : 1);

		assert_int_equal(rowdata_put_service(&d, tight, cap, &untouched), -ENOSPC);
		assert_int_equal(untouched, 77);
		free(tight);
	}
	assert_int_equal(rowdata_put_service(&d, buf, len, &untouched), 0);
}

static void test_every_truncation_within_a_field_is_refused(void **state)
{
	uint8_t buf[ROWDATA_MAX];
	size_t len, ends[] = { 0, 7, 13, 33, 40 }, next = 0;

	(void)state;
	assert_int_equal(rowdata_put_service(&service, buf, sizeof(buf), &len), 0);
	for (size_t cut = 0; cut < len; cut++) {
		struct service_data d;

		if (next < 5 && cut == ends[next]) {
			assert_int_equal(get((char *)buf, cut, &d), 0);
			next++;
		} else {
			expect_refused((char *)buf, cut);
		}
	}
	assert_int_equal(next, 5);
}

static void test_what_is_missing_is_empty_and_what_is_unknown_is_skipped(void **state)
{
	struct service_data d;

	(void)state;
	memset(&d, 0xee, sizeof(d));
	assert_int_equal(GET("", &d), 0);
	assert_string_equal(d.name, "");
	assert_int_equal(d.pid, 0);
	assert_int_equal(GET("\xc8\0\3abc\2\0\1x\0\0\0\xc8\0\0", &d), 0);
	assert_string_equal(d.name, "x");
}

static void test_what_cannot_be_is_refused(void **state)
{
	char longer[3 + ROWDATA_NAME_MAX + 1] = { 2, 0, ROWDATA_NAME_MAX + 1 };

	(void)state;
	REFUSED("\2\0\1a\2\0\1b");   /* twice */
	REFUSED("\2\0\0\2\0\0");     /* also when empty */
	REFUSED("\4\0\3\0\0\1");     /* a number of three bytes, */
	REFUSED("\4\0\5\0\0\0\0\1"); /* of five, */
	REFUSED("\4\0\0");	     /* and of none */
	REFUSED("\2\xff\xff"
		"abc"); /* longer than what is there */
	memset(longer + 3, 'a', sizeof(longer) - 3);
	expect_refused(longer, sizeof(longer)); /* longer than it may be, */
	longer[2]--;
	assert_int_equal(get(longer, sizeof(longer) - 1, &(struct service_data){ 0 }), 0);
}

static void test_control_bytes_become_question_marks(void **state)
{
	struct service_data d;

	(void)state;
	assert_int_equal(GET("\2\0\12a\0b\n\33[\x7f\x1f ~", &d), 0);
	assert_string_equal(d.name, "a?b??[?? ~");
	/* U+009B is what begins a sequence of control on a terminal */
	assert_int_equal(GET("\2\0\4\xc2\x9b\xc2\xa0", &d), 0);
	assert_string_equal(d.name, "??\xc2\xa0");
}

/* JSON takes nothing else: a row with it would not be shown at all. */
static void test_what_is_no_utf8_becomes_question_marks(void **state)
{
	static const struct {
		const char *bytes, *want;
	} t[] = {
		{ "\xc3\xa9\xe2\x82\xac\xf0\x9f\x99\x82",
		  "\xc3\xa9\xe2\x82\xac\xf0\x9f\x99\x82" },
		{ "a\xc3", "a?" }, /* cut off */
		{ "a\xe2\x82", "a??" },
		{ "\xf0\x9f\x99", "???" },
		{ "\xc3z", "?z" },
		{ "\x80z\xbf", "?z?" },
		{ "\xc0\xaf", "??" }, /* longer than need be */
		{ "\xe0\x80\xaf", "???" },
		{ "\xed\xa0\x80", "???" },	/* half of a pair */
		{ "\xf4\x90\x80\x80", "????" }, /* beyond the last */
		{ "\xf8\xff", "??" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		size_t n = strlen(t[i].bytes);
		struct service_data d;
		char row[32] = { 2, 0, (char)n };

		memcpy(row + 3, t[i].bytes, n);
		assert_int_equal(get(row, 3 + n, &d), 0);
		assert_string_equal(d.name, t[i].want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_bytes_are_as_described),
		cmocka_unit_test(test_a_service_is_read_back),
		cmocka_unit_test(test_a_node_is_read_back),
		cmocka_unit_test(test_the_longest_fits_and_no_buffer_is_overrun),
		cmocka_unit_test(test_every_truncation_within_a_field_is_refused),
		cmocka_unit_test(test_what_is_missing_is_empty_and_what_is_unknown_is_skipped),
		cmocka_unit_test(test_what_cannot_be_is_refused),
		cmocka_unit_test(test_control_bytes_become_question_marks),
		cmocka_unit_test(test_what_is_no_utf8_becomes_question_marks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
