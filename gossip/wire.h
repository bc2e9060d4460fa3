/* wire.h - what the bytes of gossip mean: a bounded reader and writer, and one codec per record.
 *
 * A packet is  header (24, in the clear) | sealed body | tag (16). The body is the sender's own
 * member record without a type, then records of type (1), length (unsigned LEB128,
 * at most four bytes) and value. Integers are big-endian.
 *
 * To live with later versions: a record of unknown type is skipped; a known one may be longer
 * than we know, the rest is skipped; one that is shorter is -EBADMSG and nothing of the packet
 * after it is used. Nothing here allocates, and nothing keeps a pointer into the input except
 * where a field is said to be borrowed. 0 or -EBADMSG; outputs are written only on success.
 * Every wire_put_*() writes the whole record or, if it does not fit, nothing and says false. */
#ifndef GOSSIP_WIRE_H
#define GOSSIP_WIRE_H

#include <appswitch/addr.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_MAGIC	 0xa9
#define WIRE_VERSION	 1 /* what we write */
#define WIRE_VERSION_MIN 1 /* the oldest we read */

#define WIRE_HEADER_LEN 24
#define WIRE_TAG_LEN	16
/* IPv6's least MTU of 1280 less 40 + 8 (RFC 8200, RFC 8085 3.2): never fragmented. */
#define WIRE_UDP_MAX 1232
/* A frame on a stream: rows of one transfer step, or one row of any legal size. */
#define WIRE_CHUNK	  16384
#define WIRE_ROW_DATA_MAX (1u << 20)
#define WIRE_FRAME_MAX	  (WIRE_ROW_DATA_MAX + 512)
/* Rows longer than this are offered and fetched, never pushed. */
#define WIRE_ROW_PUSH_MAX 512

#define WIRE_BUCKETS 256
#define WIRE_ID_LEN  12 /* of a struct wire_row_id */

enum wire_type {
	WIRE_PING = 1,
	WIRE_ACK = 2,
	WIRE_PING_REQ = 3,
	WIRE_MEMBER = 4,
	WIRE_ROW = 5,
	WIRE_OFFER = 6,	   /* list of row ids the sender has */
	WIRE_GET = 7,	   /* list of row ids the sender wants */
	WIRE_BUCKET = 8,   /* one hash per bucket of owners */
	WIRE_PULL = 9,	   /* summaries wanted: bucket set and where to go on */
	WIRE_MORE = 10,	   /* answer to BUCKET or PULL: there is more, pull from here */
	WIRE_SUMMARY = 11, /* a member and what the sender has of its rows */
	WIRE_FETCH = 12,   /* rows of an owner above a version are wanted */
	WIRE_FETCHED = 13, /* answer to FETCH: how far it got */
};

/* Reader: the first short read sticks, and every read after it gives 0. */
struct rd {
	const uint8_t *p;
	size_t left;
	bool bad;
};
uint64_t rd_be(struct rd *r, unsigned bytes);
/* Borrowed bytes of the input, NULL if there are fewer. */
const uint8_t *rd_bytes(struct rd *r, size_t n);

/* Writer into the caller's buffer. */
struct wr {
	uint8_t *p;
	size_t cap, len;
};

struct wire_header {
	uint8_t version; /* the sender's */
	uint8_t compat;	 /* the oldest version that can read this packet */
	uint32_t key_id;
	uint64_t session; /* random per start of the sender */
	uint64_t counter; /* never repeats in a session */
};

/* -EPROTO: a version we cannot read. */
int wire_get_header(const uint8_t *buf, size_t len, struct wire_header *ret);
void wire_put_header(uint8_t buf[WIRE_HEADER_LEN], const struct wire_header *h);

/* A member as its own statement (version) describes it. */
struct wire_member {
	uint64_t id;
	uint64_t version; /* generation << 32 | incarnation */
	uint64_t floor;	  /* rows of this owner at or below it do not exist */
	struct as_endpoint addr;
	uint8_t state; /* enum gossip_state; not sent in the sender's own record */
	uint64_t from; /* who says so, 0: the member itself */
};

struct wire_ping {
	uint32_t seq;
	uint32_t root_members, root_rows;
	uint64_t target; /* 0: whoever lives at this address */
};

enum wire_ack_kind { WIRE_ACK_DIRECT, WIRE_ACK_RELAYED, WIRE_ACK_NO_ANSWER };

struct wire_ack {
	uint32_t seq;
	uint8_t kind; /* enum wire_ack_kind; roots are the answering node's own if direct */
	uint32_t root_members, root_rows;
};

struct wire_ping_req {
	uint32_t seq;
	uint64_t target;
	struct as_endpoint addr;
};

struct wire_row {
	uint64_t owner, version; /* version: generation << 32 | per-owner sequence */
	bool deleted;		 /* then the key and these two are all that is sent */
	/* key, with the owner */
	uint32_t network;
	struct as_addr vip;
	uint16_t port;
	uint8_t proto;
	uint32_t app;
	/* value */
	uint64_t tags;
	uint32_t since;
	uint32_t connections;
	uint16_t weight;
	uint8_t state;
	const uint8_t *data; /* borrowed */
	uint32_t data_len;
};

/* A row by name: of the owner's present generation, which both sides know. 12 bytes. */
struct wire_row_id {
	uint64_t owner;
	uint32_t seq; /* lower half of the version */
};

struct wire_bucket {
	uint8_t of_rows; /* 0: hashes over members, 1: over rows */
	uint8_t brief;	 /* the sender's table is in motion: answer with a few packets only */
	uint32_t hash[WIRE_BUCKETS];
};

struct wire_pull { /* PULL and MORE */
	uint8_t set[WIRE_BUCKETS / 8];
	uint32_t cursor; /* the answering node's own; 0 starts */
};

struct wire_summary {
	struct wire_member member;
	uint8_t answer; /* answers a summary: is not answered again */
	uint64_t high;	/* highest row version, 0: none */
	uint64_t hash;	/* of all its rows, deleted ones too */
};

struct wire_fetch { /* FETCH: above version. FETCHED: up to version; more != 0: go on from there */
	uint64_t owner, version;
	uint8_t more;
};

/* Next record: its type and a reader over its value. 0 at the end, 1, or -EBADMSG. */
int wire_next(struct rd *body, uint8_t *ret_type, struct rd *ret_value);

int wire_get_sender(struct rd *r, struct wire_member *ret);
int wire_get_ping(struct rd *r, struct wire_ping *ret);
int wire_get_ack(struct rd *r, struct wire_ack *ret);
int wire_get_ping_req(struct rd *r, struct wire_ping_req *ret);
int wire_get_member(struct rd *r, struct wire_member *ret);
int wire_get_row(struct rd *r, struct wire_row *ret);
int wire_get_bucket(struct rd *r, struct wire_bucket *ret);
int wire_get_pull(struct rd *r, struct wire_pull *ret);
int wire_get_summary(struct rd *r, struct wire_summary *ret);
int wire_get_fetch(struct rd *r, struct wire_fetch *ret);
/* Of an OFFER or GET: one more id. 0 at the end, 1, or -EBADMSG. */
int wire_next_id(struct rd *r, struct wire_row_id *ret);

bool wire_put_sender(struct wr *w, const struct wire_member *m);
bool wire_put_ping(struct wr *w, const struct wire_ping *p);
bool wire_put_ack(struct wr *w, const struct wire_ack *a);
bool wire_put_ping_req(struct wr *w, const struct wire_ping_req *p);
bool wire_put_member(struct wr *w, const struct wire_member *m);
bool wire_put_row(struct wr *w, const struct wire_row *row);
bool wire_put_ids(struct wr *w, enum wire_type type, const struct wire_row_id *ids, size_t n);
bool wire_put_bucket(struct wr *w, const struct wire_bucket *b);
bool wire_put_pull(struct wr *w, enum wire_type type, const struct wire_pull *p);
bool wire_put_summary(struct wr *w, const struct wire_summary *s);
bool wire_put_fetch(struct wr *w, enum wire_type type, const struct wire_fetch *f);

size_t wire_row_size(const struct wire_row *row); /* with type and length */
/* How many ids wire_put_ids() can still write. */
size_t wire_ids_room(const struct wr *w);

#endif
