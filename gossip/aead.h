/* aead.h - the one thing gossip wants from cryptography: authenticated encryption of a packet.
 *
 * Passed in as functions, so that the core links libc only and the simulator can do without.
 * The implementation owns the keys: the newest encrypts, every one of them decrypts, chosen by
 * the key id in the packet's header. It must derive a key of its own from (key, session): a
 * session is 64 random bits drawn at each start of a node and its counter never repeats, so no
 * nonce is ever used twice even if a node's clock and disk go back in time. */
#ifndef GOSSIP_AEAD_H
#define GOSSIP_AEAD_H

#include <stddef.h>
#include <stdint.h>

struct gossip_aead {
	void *ctx;		       /* borrowed for as long as the gossip lives */
	uint32_t (*key_id)(void *ctx); /* of the key that seal() uses */
	/* In place: @len bytes at @buf become ciphertext, 16 bytes of tag go to @tag; @ad is
	 * authenticated only. 0 or -errno. */
	int (*seal)(void *ctx, uint64_t session, uint64_t counter, const uint8_t *ad,
		    size_t ad_len, uint8_t *buf, size_t len, uint8_t *tag);
	/* From @in to @out, which may be the same. 0, -ENOKEY (no such key), -EBADMSG (not
	 * authentic: @out is then undefined and must not be looked at). */
	int (*open)(void *ctx, uint32_t key_id, uint64_t session, uint64_t counter,
		    const uint8_t *ad, size_t ad_len, const uint8_t *in, size_t len,
		    const uint8_t *tag, uint8_t *out);
};

#endif
