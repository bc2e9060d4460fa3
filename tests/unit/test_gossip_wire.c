/* Gossip's records: what is written is read back, every truncation is refused, what a later
 * version adds is skipped, and nothing is written by halves. */
#include "gossip/wire.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct wire_member member = {
	.id = 0x1122334455667788,
	.version = 0x3e800000002,
	.floor = 0x3e800000000,
	.addr = { .addr = { { [10] = 0xff, [11] = 0xff, 192, 0, 2, 1 } }, .port = 6660 },
	.state = 2,
	.from = 77
};
static const struct wire_row row = { .owner = 9,
				     .version = 0x100000007,
				     .network = 3,
				     .vip = { { 0xfd, [15] = 5 } },
				     .port = 80,
				     .proto = 6,
				     .app = 41,
				     .tags = 0xabcdef,
				     .since = 1700000000,
				     .connections = 5,
				     .weight = 100,
				     .state = 1,
				     .data = (const uint8_t *)"name=web",
				     .data_len = 8 };

/* One record of each kind into @w. */
static bool put_kind(struct wr *w, unsigned kind)
{
	static const struct wire_ping ping = { 1, 2, 3, 4 };
	static const struct wire_ack ack = { 1, WIRE_ACK_RELAYED, 2, 3 };
	static const struct wire_row_id ids[3] = { { 1, 2 }, { 3, 4 }, { 5, 6 } };
	static const struct wire_bucket bucket = { .of_rows = 1,
						   .brief = 1,
						   .hash = { 5, [255] = 7 } };
	static const struct wire_pull pull = { .set = { 1, [31] = 0x80 }, .cursor = 99 };
	static const struct wire_fetch fetch = { 1, 2, 1 };
	struct wire_ping_req req = { .seq = 1, .target = 2, .addr = member.addr };
	struct wire_summary summary = { .member = member, .answer = 1, .high = 8, .hash = 9 };

	switch (kind) {
	case WIRE_PING:
		return wire_put_ping(w, &ping);
	case WIRE_ACK:
		return wire_put_ack(w, &ack);
	case WIRE_PING_REQ:
		return wire_put_ping_req(w, &req);
	case WIRE_MEMBER:
		return wire_put_member(w, &member);
	case WIRE_ROW:
		return wire_put_row(w, &row);
	case WIRE_OFFER:
	case WIRE_GET:
		return wire_put_ids(w, (enum wire_type)kind, ids, 3);
	case WIRE_BUCKET:
		return wire_put_bucket(w, &bucket);
	case WIRE_PULL:
	case WIRE_MORE:
		return wire_put_pull(w, (enum wire_type)kind, &pull);
	case WIRE_SUMMARY:
		return wire_put_summary(w, &summary);
	default:
		return wire_put_fetch(w, (enum wire_type)kind, &fetch);
	}
}

/* Reads the value of a record into whatever it is; the bytes of the result, to compare. */
static int get_kind(unsigned kind, struct rd *v, uint8_t out[2048])
{
	struct wire_row_id id;
	int r;

	memset(out, 0x5a, 2048);
	switch (kind) {
	case WIRE_PING:
		return wire_get_ping(v, (struct wire_ping *)out);
	case WIRE_ACK:
		return wire_get_ack(v, (struct wire_ack *)out);
	case WIRE_PING_REQ:
		return wire_get_ping_req(v, (struct wire_ping_req *)out);
	case WIRE_MEMBER:
		return wire_get_member(v, (struct wire_member *)out);
	case WIRE_ROW:
		return wire_get_row(v, (struct wire_row *)out);
	case WIRE_OFFER:
	case WIRE_GET:
		while ((r = wire_next_id(v, &id)) == 1)
			continue;
		return r;
	case WIRE_BUCKET:
		return wire_get_bucket(v, (struct wire_bucket *)out);
	case WIRE_PULL:
	case WIRE_MORE:
		return wire_get_pull(v, (struct wire_pull *)out);
	case WIRE_SUMMARY:
		return wire_get_summary(v, (struct wire_summary *)out);
	default:
		return wire_get_fetch(v, (struct wire_fetch *)out);
	}
}

static void test_every_record_is_read_back(void **state)
{
	_Alignas(16) uint8_t buf[2048], out[2048];

	(void)state;
	for (unsigned kind = WIRE_PING; kind <= WIRE_FETCHED; kind++) {
		struct wr w = { .p = buf, .cap = sizeof(buf) };
		struct rd body, v;
		uint8_t type;

		assert_true(put_kind(&w, kind));
		body = (struct rd){ .p = buf, .left = w.len };
		assert_int_equal(wire_next(&body, &type, &v), 1);
		assert_int_equal(type, kind);
		assert_int_equal(body.left, 0);
		assert_int_equal(get_kind(kind, &v, out), 0);
		assert_int_equal(v.left, 0);
		assert_int_equal(wire_next(&body, &type, &v), 0);
	}
}

static void test_a_member_and_a_row_keep_every_field(void **state)
{
	uint8_t buf[256];
	struct wr w = { .p = buf, .cap = sizeof(buf) };
	struct wire_member m;
	struct wire_row r;
	struct rd body, v;
	uint8_t type;

	(void)state;
	assert_true(wire_put_member(&w, &member) && wire_put_row(&w, &row));
	body = (struct rd){ .p = buf, .left = w.len };
	assert_int_equal(wire_next(&body, &type, &v), 1);
	assert_int_equal(wire_get_member(&v, &m), 0);
	assert_true(m.id == member.id && m.version == member.version &&
		    m.floor == member.floor && m.state == member.state &&
		    m.from == member.from);
	assert_memory_equal(&m.addr, &member.addr, sizeof(m.addr));
	assert_int_equal(wire_next(&body, &type, &v), 1);
	assert_int_equal(wire_get_row(&v, &r), 0);
	assert_true(r.owner == row.owner && r.version == row.version && !r.deleted &&
		    r.network == row.network && r.port == row.port && r.proto == row.proto &&
		    r.app == row.app && r.tags == row.tags && r.since == row.since &&
		    r.connections == row.connections && r.weight == row.weight &&
		    r.state == row.state && r.data_len == row.data_len);
	assert_memory_equal(&r.vip, &row.vip, sizeof(r.vip));
	assert_memory_equal(r.data, row.data, row.data_len);
	assert_int_equal(wire_row_size(&row) + 2 + 31 + 9, w.len);
}

static void test_every_truncation_is_refused(void **state)
{
	_Alignas(16) uint8_t buf[2048], out[2048];

	(void)state;
	for (unsigned kind = WIRE_PING; kind <= WIRE_FETCHED; kind++) {
		struct wr w = { .p = buf, .cap = sizeof(buf) };
		struct rd body, v;
		uint8_t type;

		assert_true(put_kind(&w, kind));
		/* the record cut short: exact allocations, so that ASan sees one byte over */
		for (size_t cut = 1; cut < w.len; cut++) {
			uint8_t *tight = memcpy(malloc(cut), buf, cut);

			body = (struct rd){ .p = tight, .left = cut };
			assert_int_equal(wire_next(&body, &type, &v), -EBADMSG);
			free(tight);
		}
		/* a whole record whose value is too short */
		body = (struct rd){ .p = buf, .left = w.len };
		assert_int_equal(wire_next(&body, &type, &v), 1);
		for (size_t cut = 0; cut < v.left; cut++) {
			uint8_t *tight = memcpy(malloc(cut + 1), v.p, cut);
			struct rd less = { .p = tight, .left = cut };

			if ((kind == WIRE_OFFER || kind == WIRE_GET) &&
			    cut % WIRE_ID_LEN == 0) {
				free(tight);
				continue; /* fewer ids, all whole */
			}
			tight = realloc(tight, cut ? cut : 1);
			less.p = tight;
			assert_int_equal(get_kind(kind, &less, out), -EBADMSG);
			if (kind != WIRE_OFFER && kind != WIRE_GET)
				assert_int_equal(out[0], 0x5a); /* untouched on failure */
			free(tight);
		}
	}
}

static void test_no_record_is_written_by_halves(void **state)
{
	uint8_t buf[2048];

	(void)state;
	for (unsigned kind = WIRE_PING; kind <= WIRE_FETCHED; kind++) {
		struct wr w = { .p = buf, .cap = sizeof(buf) };
		size_t need;

		assert_true(put_kind(&w, kind));
		need = w.len;
		w = (struct wr){ .p = buf, .cap = need };
		assert_true(put_kind(&w, kind));
		w = (struct wr){ .p = buf, .cap = need - 1 };
		assert_false(put_kind(&w, kind));
		assert_int_equal(w.len, 0);
	}
}

static void test_what_a_later_version_adds_is_skipped(void **state)
{
	/* an unknown record, then a ping with two bytes more than we know, then an ack */
	static const uint8_t body_bytes[] = { 200, 3, 1, 2, 3, WIRE_PING, 22, 0,    0,	 0,
					      9,   0, 0, 0, 1, 0,	  0,  0,    2,	 0,
					      0,   0, 0, 0, 0, 0,	  4,  0xee, 0xee };
	struct rd body = { .p = body_bytes, .left = sizeof(body_bytes) }, v;
	struct wire_ping p;
	uint8_t type;

	(void)state;
	assert_int_equal(wire_next(&body, &type, &v), 1);
	assert_int_equal(type, 200);
	assert_int_equal(wire_next(&body, &type, &v), 1);
	assert_int_equal(wire_get_ping(&v, &p), 0);
	assert_true(p.seq == 9 && p.root_members == 1 && p.root_rows == 2 && p.target == 4);
	assert_int_equal(wire_next(&body, &type, &v), 0);
}

static void test_lengths_beyond_any_frame_are_refused(void **state)
{
	static const uint8_t huge[] = { WIRE_ROW, 0xff, 0xff, 0xff, 0xff, 0x0f, 0 };
	struct rd body = { .p = huge, .left = sizeof(huge) }, v;
	uint8_t type;

	(void)state;
	assert_int_equal(wire_next(&body, &type, &v), -EBADMSG);
}

static void test_a_header_says_which_versions_can_read_it(void **state)
{
	struct wire_header h = { .version = WIRE_VERSION + 3,
				 .compat = WIRE_VERSION,
				 .key_id = 5,
				 .session = 6,
				 .counter = 7 },
			   got = { 0 };
	uint8_t buf[WIRE_HEADER_LEN];

	(void)state;
	wire_put_header(buf, &h);
	assert_int_equal(wire_get_header(buf, sizeof(buf), &got), 0);
	assert_true(got.version == h.version && got.key_id == 5 && got.session == 6 &&
		    got.counter == 7);
	for (size_t cut = 0; cut < sizeof(buf); cut++)
		assert_int_equal(wire_get_header(buf, cut, &got), -EBADMSG);
	h.compat = WIRE_VERSION + 1;
	wire_put_header(buf, &h);
	assert_int_equal(wire_get_header(buf, sizeof(buf), &got), -EPROTO);
	h.version = WIRE_VERSION_MIN - 1;
	h.compat = 0;
	wire_put_header(buf, &h);
	assert_int_equal(wire_get_header(buf, sizeof(buf), &got), -EPROTO);
	buf[0] ^= 1;
	assert_int_equal(wire_get_header(buf, sizeof(buf), &got), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_record_is_read_back),
		cmocka_unit_test(test_a_member_and_a_row_keep_every_field),
		cmocka_unit_test(test_every_truncation_is_refused),
		cmocka_unit_test(test_no_record_is_written_by_halves),
		cmocka_unit_test(test_what_a_later_version_adds_is_skipped),
		cmocka_unit_test(test_lengths_beyond_any_frame_are_refused),
		cmocka_unit_test(test_a_header_says_which_versions_can_read_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
