/* core.h - what the files of the core share: the state of one node and its timing.
 *
 * gossip.c   the public face: time, sending, own rows    query.c  reading the tables
 * input.c    packets in                                  said.c   statements and rows merged
 * probe.c    who is asked when, acks, helpers, this node's own health, retries of the gone
 * suspect.c  from accusation to verdict
 * news.c     what is pushed on, to whom, how often
 * sync.c     comparing summaries and transferring what differs
 *
 * Times are microseconds. Every constant has its reason here; docs/gossip.md has the sums. */
#ifndef GOSSIP_CORE_H
#define GOSSIP_CORE_H

#include "gossip/gossip.h"
#include "gossip/members.h"
#include "gossip/mix.h"
#include "gossip/packet.h"
#include "gossip/table.h"

#include <stdlib.h>

#define MS 1000u
#define S  1000000u

/* Each node asks four others a second: about 1 kB/s, and a dead node is asked by somebody
 * within 1.2 s in 99 of 100 cases, whatever the size of the cluster (e^-4.6 periods). */
#define PROBE_EVERY (250 * MS)
/* A LAN answers in a millisecond; 100 ms is for a loaded host. Three measured round trips more. */
#define PROBE_DIRECT   (100 * MS)
#define PROBE_INDIRECT (200 * MS)
#define PROBE_HELPERS  3
#define PROBES	       16
#define RELAYS	       64
#define HEALTH_MAX     8
/* The accused hears of it within 0.3 s and its answer is everywhere 0.3 s later (simulated);
 * 2 s leaves room for lost packets and a host that stalls for a second. Without the agreement
 * of others six times that (Lifeguard's beta). */
#define SUSPECT_MIN  (2 * S)
#define SUSPECT_BETA 6
#define CONFIRMERS   3
/* An event loop that is later than this was held up itself. */
#define LATE (100 * MS)

/* News leave at once, then in rounds: time for many to share a packet, 5 rounds in 100 ms. */
#define NEWS_EVERY (20 * MS)
#define NEWS_FAN   3
/* At most 8 packets of 1232 a round: 3.9 Mbit/s, the ceiling of everything that is pushed. */
#define NEWS_BURST  8
#define NEWS_LEVELS 24
/* While few rows are news each travels whole every time. With many, only the first sends do;
 * later ones offer it by name, and who lacks it asks: less than half the bytes. */
#define MANY	     16
#define PUSH_MANY    1
#define CONTACT_MANY 8
#define ASK_AGAIN_MS 20
/* Half the cluster went or came: fewer sends each, summaries find the rest. */
#define MANY_MEMBERS 256

/* Roots that differ while the own table changes mean nothing: news are on their way. */
#define SYNC_QUIET     (500 * MS)
#define SYNC_PATIENCE  (2 * S)
#define SYNC_EVERY     (1 * S)
#define SYNC_PACKETS   8 /* datagrams in answer to one request; more goes by stream */
#define SYNC_BRIEF     3
#define DATAGRAM_STALL (500 * MS) /* a transfer without an answer is given up */
#define STREAM_STALL   (3 * S)
#define ASK_PER_S      20
#define RESUMES	       8

/* One gone member and, less often, one seed are asked each second, for ever. */
#define RETRY_EVERY (1 * S)
#define SEED_TURN   5 /* every so many retries */
/* Rows that were given new versions are everywhere before the floor takes the old ones. */
#define FLOOR_DELAY	(3 * S)
#define BURIED_FEW	32
#define GENERATION_JUMP 4096
/* Left members are remembered for a day: as long as anyone may be away with an older view. */
#define FORGET_LEFT (86400ull * S)
#define GONE_MAX    1024 /* and four times the live ones */

enum news_class { NEWS_MEMBER, NEWS_ROW, NEWS_CLASSES };

struct news_item {
	uint32_t what; /* member or row */
	uint32_t prev, next, stamp;
	uint8_t sent, class;
};

struct news {
	struct news_item *v;
	uint32_t n, cap, free, stamp;
	uint32_t first[NEWS_CLASSES][NEWS_LEVELS], last[NEWS_CLASSES][NEWS_LEVELS];
	uint32_t count[NEWS_CLASSES];
	uint64_t next; /* the next round */
};

struct probe {
	uint64_t target, sent, deadline;
	uint32_t seq;
	enum { PROBE_FREE, PROBE_ASKED, PROBE_HELPED } phase;
	uint8_t helpers, nacks;
};

struct relay {
	uint64_t origin, deadline;
	struct as_endpoint addr;
	uint32_t their_seq, seq; /* seq 0: free */
};

struct suspicion {
	uint32_t member;
	uint8_t n; /* accusers, the first included */
	uint64_t from[CONFIRMERS + 1], start;
};

struct want {
	uint32_t member;
	uint64_t above;
};

struct transfer {
	bool active;
	uint64_t peer, deadline;
	struct as_endpoint addr;
	struct wire_pull next; /* cursor NONE: no more summaries to pull */
	enum gossip_via via;
	struct want *want;
	uint32_t n_want, cap_want, batch; /* the first @batch are asked for */
};

struct gossip {
	struct gossip_sink sink;
	struct packet_io io;
	uint64_t rng, now;
	bool plain, left, settled;
	bool agreed; /* with another node, once */

	struct members members;
	struct table table;
	uint32_t seq_row;
	uint64_t floor_next, floor_at; /* at 0: none due */

	struct news news;

	struct probe probe[PROBES];
	struct relay relay[RELAYS];
	uint32_t cursor, seq, health, rtt_mean;
	uint64_t probe_at, probe_next, retry_at;
	uint32_t retries;

	struct suspicion *suspect;
	uint32_t n_suspect, cap_suspect;
	uint64_t suspect_next;

	bool joined;
	uint32_t last_root_members, last_root_rows;
	uint64_t changed_members, changed_rows, differ_since, sync_at, house_at;
	uint64_t ask_at; /* asking out of turn is paid for up to here */
	struct transfer xfer;
	uint32_t asked[256], asked_at[256]; /* rows asked for lately: hash, milliseconds */

	uint32_t resume[RESUMES]; /* by peer: the row that the last answer to it ended with */

	struct as_endpoint *seeds;
	uint32_t n_seeds;
	uint64_t syncs, dropped;
};

/* A packet to be: @w takes records. Sent, if there are any, to @addr. */
struct wr core_begin(struct gossip *g, uint8_t *buf, size_t cap);
void core_send(struct gossip *g, uint64_t to, const struct as_endpoint *addr,
	       enum gossip_via via, uint8_t *buf, struct wr *w);
struct as_endpoint core_addr(const struct gossip *g, uint32_t member);

/* Around every entry from outside. */
void core_enter(struct gossip *g, uint64_t now);
void core_leave(struct gossip *g);

enum said_how { SAID_NEWS, SAID_SENDER, SAID_SUMMARY };
/* Merges a statement about a member. */
void core_said(struct gossip *g, const struct wire_member *w, enum said_how how);
/* Sets the state of another member, with all that follows from it, and makes it news. */
void core_set(struct gossip *g, uint32_t i, const struct wire_member *w, bool news);
void core_row(struct gossip *g, const struct wire_row *w);
void core_row_gone(void *ctx, uint32_t row); /* for table_raise_floor(); @ctx: the gossip */
uint64_t core_row_version(struct gossip *g); /* for the next own row */
struct gossip_row core_public_row(const struct wire_row *w);
struct gossip_member core_public_member(const struct gossip *g, uint32_t i);
void core_new_incarnation(struct gossip *g);
void core_new_generation(struct gossip *g, uint32_t above);
void core_heard_of_own_rows(struct gossip *g, uint64_t high);
uint32_t core_owner(struct gossip *g, uint32_t member); /* in the table, or NONE */

void probe_tick(struct gossip *g);
void probe_held_up(struct gossip *g, uint64_t late);
uint64_t probe_deadline(const struct gossip *g);
void probe_on_ping(struct gossip *g, const struct wire_ping *p,
		   const struct wire_member *sender, const struct as_endpoint *from);
void probe_on_ack(struct gossip *g, const struct wire_ack *a, const struct wire_member *sender);
void probe_on_request(struct gossip *g, const struct wire_ping_req *p,
		      const struct wire_member *sender, const struct as_endpoint *from);
/* Asks a member out of turn, telling it what is said of it; rate-limited. */
void probe_ask(struct gossip *g, uint32_t i);
void probe_address(struct gossip *g, const struct as_endpoint *addr);
void probe_health(struct gossip *g, int by);

void suspect_accuse(struct gossip *g, uint32_t i, uint64_t from);
void suspect_clear(struct gossip *g, uint32_t i); /* before its state changes */
void suspect_tick(struct gossip *g);
void suspect_held_up(struct gossip *g, uint64_t late);
uint64_t suspect_accuser(const struct gossip *g, uint32_t i); /* the latest */

void news_init(struct news *n);
void news_done(struct news *n);
void news_member(struct gossip *g, uint32_t i);
void news_row(struct gossip *g, uint32_t row);
void news_forget(struct gossip *g, uint32_t news); /* member's or row's .news */
/* Appends what fits. True if something had to stay out. */
bool news_fill(struct gossip *g, struct wr *w);
void news_flush(struct gossip *g); /* if it is time */
uint64_t news_deadline(const struct gossip *g);

void sync_done(struct gossip *g);
void sync_tick(struct gossip *g);
void sync_on_root(struct gossip *g, uint32_t peer, uint32_t root_members, uint32_t root_rows);
void sync_on_bucket(struct gossip *g, const struct wire_bucket *b,
		    const struct wire_member *peer);
void sync_on_pull(struct gossip *g, const struct wire_pull *p, const struct wire_member *peer);

/* What one packet asks for is answered at its end, in one piece. */
struct replies {
	struct wire_row_id *get; /* offered rows we lack */
	uint32_t n_get, cap_get;
	uint32_t *newer; /* members of whom we know more than the sender's summary */
	uint32_t n_newer, cap_newer;
	struct wire_fetch *fetch; /* owners whose rows are wanted from us */
	uint32_t n_fetch, cap_fetch;
	struct wire_row_id *row; /* rows wanted from us */
	uint32_t n_row, cap_row;
	bool go_on; /* the transfer may ask for more */
};
void sync_on_summary(struct gossip *g, const struct wire_summary *s,
		     const struct wire_member *peer, struct replies *re);
void sync_on_more(struct gossip *g, const struct wire_pull *p, const struct wire_member *peer,
		  struct replies *re);
void sync_on_fetched(struct gossip *g, const struct wire_fetch *f,
		     const struct wire_member *peer, struct replies *re);
void sync_on_offer(struct gossip *g, const struct wire_row_id *id, struct replies *re);
void sync_reply(struct gossip *g, const struct wire_member *peer, enum gossip_via via,
		struct replies *re);
/* Appends to a growing array of a struct replies; what does not fit memory is left out. */
#define reply_add(array, n, cap, value)                                                     \
	do {                                                                                \
		if ((n) < (cap) || reply_grow((void **)&(array), &(cap), sizeof(*(array)))) \
			(array)[(n)++] = (value);                                           \
	} while (0)
bool reply_grow(void **array, uint32_t *cap, size_t size);
void replies_done(struct replies *re);

#endif
