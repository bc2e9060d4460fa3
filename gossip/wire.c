#include "gossip/wire.h"

#include <errno.h>
#include <string.h>

uint64_t rd_be(struct rd *r, unsigned bytes)
{
	uint64_t v = 0;

	if (r->bad || r->left < bytes) {
		r->bad = true;
		return 0;
	}
	for (unsigned i = 0; i < bytes; i++)
		v = v << 8 | r->p[i];
	r->p += bytes;
	r->left -= bytes;
	return v;
}

const uint8_t *rd_bytes(struct rd *r, size_t n)
{
	const uint8_t *p = r->p;

	if (r->bad || r->left < n) {
		r->bad = true;
		return NULL;
	}
	r->p += n;
	r->left -= n;
	return p;
}

static uint32_t rd_varint(struct rd *r)
{
	uint32_t v = 0;

	for (unsigned shift = 0; shift <= 21; shift += 7) {
		uint8_t b = (uint8_t)rd_be(r, 1);

		v |= (uint32_t)(b & 0x7f) << shift;
		if (!(b & 0x80))
			return v;
	}
	r->bad = true; /* 2^28 is more than any frame */
	return 0;
}

static void wr_be(struct wr *w, uint64_t v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		w->p[w->len++] = (uint8_t)(v >> 8 * (bytes - 1 - i));
}

static void wr_bytes(struct wr *w, const void *p, size_t n)
{
	if (n > 0)
		memcpy(w->p + w->len, p, n);
	w->len += n;
}

static size_t varint_size(size_t v)
{
	size_t n = 1;

	while (v >>= 7)
		n++;
	return n;
}

static void wr_varint(struct wr *w, size_t v)
{
	while (v >= 0x80) {
		w->p[w->len++] = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	w->p[w->len++] = (uint8_t)v;
}

/* Type and length, if the whole record fits; after it the value is written without checks. */
static bool begin(struct wr *w, enum wire_type type, size_t len)
{
	if (w->cap - w->len < 1 + varint_size(len) + len)
		return false;
	wr_be(w, type, 1);
	wr_varint(w, len);
	return true;
}

static int done(const struct rd *r)
{
	return r->bad ? -EBADMSG : 0;
}

int wire_get_header(const uint8_t *buf, size_t len, struct wire_header *ret)
{
	struct rd r = { .p = buf, .left = len };
	struct wire_header h;

	if (rd_be(&r, 1) != WIRE_MAGIC)
		return -EBADMSG;
	h.version = (uint8_t)rd_be(&r, 1);
	h.compat = (uint8_t)rd_be(&r, 1);
	(void)rd_be(&r, 1);
	h.key_id = (uint32_t)rd_be(&r, 4);
	h.session = rd_be(&r, 8);
	h.counter = rd_be(&r, 8);
	if (r.bad)
		return -EBADMSG;
	if (h.version < WIRE_VERSION_MIN || h.compat > WIRE_VERSION)
		return -EPROTO;
	*ret = h;
	return 0;
}

void wire_put_header(uint8_t buf[WIRE_HEADER_LEN], const struct wire_header *h)
{
	uint8_t bytes[WIRE_HEADER_LEN];
	struct wr w = { .p = bytes, .cap = sizeof(bytes) };

	wr_be(&w, WIRE_MAGIC, 1);
	wr_be(&w, h->version, 1);
	wr_be(&w, h->compat, 1);
	wr_be(&w, 0, 1);
	wr_be(&w, h->key_id, 4);
	wr_be(&w, h->session, 8);
	wr_be(&w, h->counter, 8);
	memcpy(buf, bytes, sizeof(bytes));
}

int wire_next(struct rd *body, uint8_t *ret_type, struct rd *ret_value)
{
	uint8_t type;
	uint32_t len;
	const uint8_t *p;

	if (body->left == 0)
		return 0;
	type = (uint8_t)rd_be(body, 1);
	len = rd_varint(body);
	p = rd_bytes(body, len);
	if (p == NULL)
		return -EBADMSG;
	*ret_type = type;
	*ret_value = (struct rd){ .p = p, .left = len };
	return 1;
}

/* Addresses: length 4 or 16, the bytes, the port. */
static void get_addr(struct rd *r, struct as_endpoint *ret)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	uint64_t len = rd_be(r, 1);
	const uint8_t *p;

	if (len != 4 && len != 16) {
		r->bad = true;
		return;
	}
	p = rd_bytes(r, len);
	if (p == NULL)
		return;
	memcpy(ret->addr.b, mapped, sizeof(mapped));
	memcpy(ret->addr.b + 16 - len, p, len);
	ret->port = (uint16_t)rd_be(r, 2);
}

static bool mapped_v4(const struct as_addr *a)
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };

	return memcmp(a->b, prefix, sizeof(prefix)) == 0;
}

static size_t addr_len(const struct as_addr *a)
{
	return mapped_v4(a) ? 4 : 16;
}

static void put_addr(struct wr *w, const struct as_endpoint *e)
{
	size_t len = addr_len(&e->addr);

	wr_be(w, len, 1);
	wr_bytes(w, e->addr.b + 16 - len, len);
	wr_be(w, e->port, 2);
}

static size_t sender_size(const struct wire_member *m)
{
	return 8 + 8 + 8 + 1 + addr_len(&m->addr.addr) + 2;
}

int wire_get_sender(struct rd *r, struct wire_member *ret)
{
	struct wire_member m = { 0 };

	m.id = rd_be(r, 8);
	m.version = rd_be(r, 8);
	m.floor = rd_be(r, 8);
	get_addr(r, &m.addr);
	if (r->bad || m.id == 0)
		return -EBADMSG;
	*ret = m;
	return 0;
}

bool wire_put_sender(struct wr *w, const struct wire_member *m)
{
	if (w->cap - w->len < sender_size(m))
		return false;
	wr_be(w, m->id, 8);
	wr_be(w, m->version, 8);
	wr_be(w, m->floor, 8);
	put_addr(w, &m->addr);
	return true;
}

int wire_get_member(struct rd *r, struct wire_member *ret)
{
	struct wire_member m;

	if (wire_get_sender(r, &m) < 0)
		return -EBADMSG;
	m.state = (uint8_t)rd_be(r, 1);
	m.from = rd_be(r, 8);
	if (r->bad || m.state > 3)
		return -EBADMSG;
	*ret = m;
	return 0;
}

static void member_value(struct wr *w, const struct wire_member *m)
{
	(void)wire_put_sender(w, m);
	wr_be(w, m->state, 1);
	wr_be(w, m->from, 8);
}

bool wire_put_member(struct wr *w, const struct wire_member *m)
{
	if (!begin(w, WIRE_MEMBER, sender_size(m) + 9))
		return false;
	member_value(w, m);
	return true;
}

int wire_get_ping(struct rd *r, struct wire_ping *ret)
{
	struct wire_ping p;

	p.seq = (uint32_t)rd_be(r, 4);
	p.root_members = (uint32_t)rd_be(r, 4);
	p.root_rows = (uint32_t)rd_be(r, 4);
	p.target = rd_be(r, 8);
	if (!r->bad)
		*ret = p;
	return done(r);
}

bool wire_put_ping(struct wr *w, const struct wire_ping *p)
{
	if (!begin(w, WIRE_PING, 20))
		return false;
	wr_be(w, p->seq, 4);
	wr_be(w, p->root_members, 4);
	wr_be(w, p->root_rows, 4);
	wr_be(w, p->target, 8);
	return true;
}

int wire_get_ack(struct rd *r, struct wire_ack *ret)
{
	struct wire_ack a;

	a.seq = (uint32_t)rd_be(r, 4);
	a.kind = (uint8_t)rd_be(r, 1);
	a.root_members = (uint32_t)rd_be(r, 4);
	a.root_rows = (uint32_t)rd_be(r, 4);
	if (!r->bad)
		*ret = a;
	return done(r);
}

bool wire_put_ack(struct wr *w, const struct wire_ack *a)
{
	if (!begin(w, WIRE_ACK, 13))
		return false;
	wr_be(w, a->seq, 4);
	wr_be(w, a->kind, 1);
	wr_be(w, a->root_members, 4);
	wr_be(w, a->root_rows, 4);
	return true;
}

int wire_get_ping_req(struct rd *r, struct wire_ping_req *ret)
{
	struct wire_ping_req p = { 0 };

	p.seq = (uint32_t)rd_be(r, 4);
	p.target = rd_be(r, 8);
	get_addr(r, &p.addr);
	if (!r->bad)
		*ret = p;
	return done(r);
}

bool wire_put_ping_req(struct wr *w, const struct wire_ping_req *p)
{
	if (!begin(w, WIRE_PING_REQ, 4 + 8 + 1 + addr_len(&p->addr.addr) + 2))
		return false;
	wr_be(w, p->seq, 4);
	wr_be(w, p->target, 8);
	put_addr(w, &p->addr);
	return true;
}

#define ROW_DELETED 1u

int wire_get_row(struct rd *r, struct wire_row *ret)
{
	struct wire_row row = { 0 };
	struct as_endpoint e = { 0 };
	uint64_t flags;

	row.owner = rd_be(r, 8);
	row.version = rd_be(r, 8);
	flags = rd_be(r, 1);
	row.deleted = flags & ROW_DELETED;
	row.proto = (uint8_t)rd_be(r, 1);
	row.network = (uint32_t)rd_be(r, 4);
	row.app = (uint32_t)rd_be(r, 4);
	get_addr(r, &e);
	row.vip = e.addr;
	row.port = e.port;
	if (!row.deleted) {
		row.tags = rd_be(r, 8);
		row.since = (uint32_t)rd_be(r, 4);
		row.connections = (uint32_t)rd_be(r, 4);
		row.weight = (uint16_t)rd_be(r, 2);
		row.state = (uint8_t)rd_be(r, 1);
		row.data_len = rd_varint(r);
		row.data = rd_bytes(r, row.data_len);
	}
	if (r->bad || row.data_len > WIRE_ROW_DATA_MAX)
		return -EBADMSG;
	*ret = row;
	return 0;
}

static size_t row_value_size(const struct wire_row *row)
{
	size_t n = 8 + 8 + 1 + 1 + 4 + 4 + 1 + addr_len(&row->vip) + 2;

	if (!row->deleted)
		n += 8 + 4 + 4 + 2 + 1 + varint_size(row->data_len) + row->data_len;
	return n;
}

size_t wire_row_size(const struct wire_row *row)
{
	size_t n = row_value_size(row);

	return 1 + varint_size(n) + n;
}

bool wire_put_row(struct wr *w, const struct wire_row *row)
{
	struct as_endpoint e = { .addr = row->vip, .port = row->port };

	if (!begin(w, WIRE_ROW, row_value_size(row)))
		return false;
	wr_be(w, row->owner, 8);
	wr_be(w, row->version, 8);
	wr_be(w, row->deleted ? ROW_DELETED : 0, 1);
	wr_be(w, row->proto, 1);
	wr_be(w, row->network, 4);
	wr_be(w, row->app, 4);
	put_addr(w, &e);
	if (row->deleted)
		return true;
	wr_be(w, row->tags, 8);
	wr_be(w, row->since, 4);
	wr_be(w, row->connections, 4);
	wr_be(w, row->weight, 2);
	wr_be(w, row->state, 1);
	wr_varint(w, row->data_len);
	wr_bytes(w, row->data, row->data_len);
	return true;
}

int wire_next_id(struct rd *r, struct wire_row_id *ret)
{
	struct wire_row_id id;

	if (r->left == 0)
		return 0;
	id.owner = rd_be(r, 8);
	id.seq = (uint32_t)rd_be(r, 4);
	if (r->bad)
		return -EBADMSG;
	*ret = id;
	return 1;
}

size_t wire_ids_room(const struct wr *w)
{
	size_t room = w->cap - w->len;

	return room < 4 ? 0 : (room - 4) / WIRE_ID_LEN;
}

bool wire_put_ids(struct wr *w, enum wire_type type, const struct wire_row_id *ids, size_t n)
{
	if (!begin(w, type, n * WIRE_ID_LEN))
		return false;
	for (size_t i = 0; i < n; i++) {
		wr_be(w, ids[i].owner, 8);
		wr_be(w, ids[i].seq, 4);
	}
	return true;
}

int wire_get_bucket(struct rd *r, struct wire_bucket *ret)
{
	uint8_t of_rows = (uint8_t)rd_be(r, 1), brief = (uint8_t)rd_be(r, 1);
	const uint8_t *p = rd_bytes(r, sizeof(ret->hash));
	struct rd h = { .p = p, .left = sizeof(ret->hash) };

	if (p == NULL || of_rows > 1)
		return -EBADMSG;
	ret->of_rows = of_rows;
	ret->brief = brief;
	for (unsigned i = 0; i < WIRE_BUCKETS; i++)
		ret->hash[i] = (uint32_t)rd_be(&h, 4);
	return 0;
}

bool wire_put_bucket(struct wr *w, const struct wire_bucket *b)
{
	if (!begin(w, WIRE_BUCKET, 2 + sizeof(b->hash)))
		return false;
	wr_be(w, b->of_rows, 1);
	wr_be(w, b->brief, 1);
	for (unsigned i = 0; i < WIRE_BUCKETS; i++)
		wr_be(w, b->hash[i], 4);
	return true;
}

int wire_get_pull(struct rd *r, struct wire_pull *ret)
{
	const uint8_t *set = rd_bytes(r, sizeof(ret->set));
	uint32_t cursor = (uint32_t)rd_be(r, 4);

	if (r->bad || set == NULL)
		return -EBADMSG;
	memcpy(ret->set, set, sizeof(ret->set));
	ret->cursor = cursor;
	return 0;
}

bool wire_put_pull(struct wr *w, enum wire_type type, const struct wire_pull *p)
{
	if (!begin(w, type, sizeof(p->set) + 4))
		return false;
	wr_bytes(w, p->set, sizeof(p->set));
	wr_be(w, p->cursor, 4);
	return true;
}

int wire_get_summary(struct rd *r, struct wire_summary *ret)
{
	struct wire_summary s;

	if (wire_get_member(r, &s.member) < 0)
		return -EBADMSG;
	s.answer = (uint8_t)rd_be(r, 1);
	s.high = rd_be(r, 8);
	s.hash = rd_be(r, 8);
	if (!r->bad)
		*ret = s;
	return done(r);
}

bool wire_put_summary(struct wr *w, const struct wire_summary *s)
{
	if (!begin(w, WIRE_SUMMARY, sender_size(&s->member) + 9 + 17))
		return false;
	member_value(w, &s->member);
	wr_be(w, s->answer, 1);
	wr_be(w, s->high, 8);
	wr_be(w, s->hash, 8);
	return true;
}

int wire_get_fetch(struct rd *r, struct wire_fetch *ret)
{
	struct wire_fetch f;

	f.owner = rd_be(r, 8);
	f.version = rd_be(r, 8);
	f.more = (uint8_t)rd_be(r, 1);
	if (!r->bad)
		*ret = f;
	return done(r);
}

bool wire_put_fetch(struct wr *w, enum wire_type type, const struct wire_fetch *f)
{
	if (!begin(w, type, 17))
		return false;
	wr_be(w, f->owner, 8);
	wr_be(w, f->version, 8);
	wr_be(w, f->more, 1);
	return true;
}
