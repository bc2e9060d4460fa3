/* hello.h - what a node says first on a TCP connection to another node: who connects to whom.
 *
 * HELLO_SIZE bytes, big-endian, sent as the first bytes of the stream; what follows is the
 * app's. Nothing is read back. Signed with mac.h, which covers all bytes before the tag:
 *   magic "ASH1" 4 | version 1 | compat 1 | kind 1 | face 1 | key id 4 | network 4 |
 *   destination node 8, generation 4 | source node 8, generation 4 | client app 4 |
 *   server app 4 | time 8 | nonce 8 | tags 8 | virtual IP 16 | client address 16, port 2 |
 *   server address 16, port 2 | reserved 4 | tag 16
 * Reserved bytes are written as zero and not looked at, so that a later version may use them.
 *
 * Plain values, no ownership. Decoding and checking are pure; time is passed in. */
#ifndef REMOTE_HELLO_H
#define REMOTE_HELLO_H

#include <appswitch/addr.h>

#include <stddef.h>
#include <stdint.h>

#define HELLO_SIZE	  144
#define HELLO_KEY_ID_AT	  8
#define HELLO_MAC_AT	  128
#define HELLO_MAC_LEN	  16
#define HELLO_VERSION	  1 /* what we write */
#define HELLO_VERSION_MIN 1 /* the oldest that can read what we write */

/* How far the clocks of two nodes may be apart, with the time on the way. */
#define HELLO_WINDOW_US 15000000

enum hello_kind { HELLO_CONNECTION = 0 };

struct hello {
	uint8_t version;	  /* of the sender; read only: ours is written */
	uint8_t kind;		  /* enum hello_kind; later versions may have more */
	int face;		  /* AF_INET or AF_INET6: the client's socket */
	uint32_t key_id;	  /* read only: mac_sign() writes it */
	uint32_t network;	  /* whose addresses these are */
	uint64_t dest_id;	  /* the node this is for, */
	uint32_t dest_generation; /* ... as the sender knows it */
	uint64_t src_id;
	uint32_t src_generation;
	uint32_t client_app;
	uint32_t server_app; /* the instance that was chosen; 0: any */
	int64_t time;	     /* of the sender's wall clock, µs since 1970 */
	uint64_t nonce;	     /* random, not 0 */
	uint64_t tags;	     /* digest of the client's */
	struct as_addr vip;  /* of the service; @server differs from it for loopback */
	struct as_endpoint client, server; /* as the two apps see them */
};

void hello_encode(const struct hello *h, uint8_t out[HELLO_SIZE]); /* the tag is zero */

/* 0; -EBADMSG: short, or not a hello, or it says what cannot be; -EPROTO: only a later version
 * can read it. *@ret is written whole or not at all. More bytes than a hello are not looked at. */
int hello_decode(const uint8_t *buf, size_t len, struct hello *ret);

struct hello_self {
	uint64_t id;
	uint32_t generation;
	/* The one before this start, if the nonces that were accepted in it are still known
	 * (seen.h); 0: they are not. Peers learn of a new generation only by and by. */
	uint32_t previous_generation;
	/* Wall clock; 0: the generation was stored on the disk before it was used. Then a hello that
	 * names it cannot be older than the start, and the check would only refuse, for as long as
	 * the window, clients whose clocks are behind. */
	int64_t started_us;
};

/* What a hello that is authentic may still be. All checks together are what makes a recorded
 * hello worthless; the nonce, which needs memory, is checked after these (seen.h). */
enum hello_verdict {
	HELLO_OK,
	HELLO_NOT_FOR_US,	/* recorded on the way to another node, sent to this one */
	HELLO_STALE_GENERATION, /* meant for a former life of ours, whose nonces are gone */
	HELLO_CLOCK,	    /* older than the nonces that are kept, or a clock that is wrong */
	HELLO_BEFORE_START, /* said before we started (.started_us), by a clock within the window: it
			     * may have been accepted in a former life whose nonces are gone and whose
			     * generation was ours (a disk that went back in time) */
	HELLO_UNKNOWN_KIND, /* of a later version */
};

enum hello_verdict hello_check(const struct hello *h, const struct hello_self *self,
			       int64_t now_us);
/* "ok", "not for this node", … ; never NULL */
const char *hello_verdict_name(enum hello_verdict verdict);

#endif
