/* packet.h - sealing packets, opening them, and refusing what was seen before.
 *
 * The replay window is per session (RFC 6479's idea with one 64-bit word): the highest counter
 * seen and which of the 63 below it were. What is too old or seen is refused. Sessions are
 * remembered up to REPLAY_MAX, then all are forgotten at once. A replay of a forgotten session
 * does no harm beyond its bytes: every record is versioned and only news change anything.
 *
 * Owns its memory; borrows the AEAD. */
#ifndef GOSSIP_PACKET_H
#define GOSSIP_PACKET_H

#include "gossip/aead.h"
#include "gossip/wire.h"

#define REPLAY_MAX 65536u

struct replay {
	uint64_t session, highest, seen; /* bit i of seen: highest - i was here; 0: free slot */
};

struct packet_io {
	struct gossip_aead aead;
	uint64_t session, counter;
	struct replay *replay; /* open addressing, a power of two */
	uint32_t n_replay, cap_replay;
};

void packet_init(struct packet_io *io, const struct gossip_aead *aead, uint64_t session);
void packet_done(struct packet_io *io);

/* A writer over @buf that leaves room for header and tag within @cap bytes. */
struct wr packet_begin(uint8_t *buf, size_t cap);
/* Seals what @w wrote into @buf. The packet's whole length, or -errno from the AEAD. */
long packet_seal(struct packet_io *io, uint8_t *buf, const struct wr *w);
/* Decrypts into @out (at least @len bytes); *ret covers the body there.
 * 0, -EBADMSG (malformed or not authentic), -EPROTO (version), -ENOKEY, -EALREADY (replay),
 * -ELOOP (our own), -ENOMEM. */
int packet_open(struct packet_io *io, const uint8_t *buf, size_t len, uint8_t *out,
		struct rd *ret);

#endif
