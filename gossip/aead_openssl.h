/* aead_openssl.h - gossip's AEAD by libcrypto: AES-256-GCM (NIST SP 800-38D) under a key derived
 * per session, HMAC-SHA256(key, label || session), as in HKDF-Expand (RFC 5869) for one block.
 *
 * A ring holds up to AEAD_KEYS keys: the first encrypts, all decrypt. A key's id is the first
 * four bytes of HMAC-SHA256(key, another label), so it needs no configuration and tells nothing.
 * One thread at a time. Key bytes are wiped when replaced and at the end. */
#ifndef GOSSIP_AEAD_OPENSSL_H
#define GOSSIP_AEAD_OPENSSL_H

#include "gossip/aead.h"

#define AEAD_KEYS    8
#define AEAD_KEY_LEN 32

struct aead_openssl;

/* Copies @n keys. 0, -EINVAL (none, too many, or two with one id), -ENOMEM, -EIO (libcrypto). */
int aead_openssl_new(const uint8_t (*keys)[AEAD_KEY_LEN], size_t n, struct aead_openssl **ret);
struct aead_openssl *aead_openssl_free(struct aead_openssl *a); /* accepts and returns NULL */
/* Rotation: as new(), at any time; on failure the old keys stay. */
int aead_openssl_set_keys(struct aead_openssl *a, const uint8_t (*keys)[AEAD_KEY_LEN],
			  size_t n);
/* The interface over @a, which must outlive it. */
struct gossip_aead aead_openssl_ops(struct aead_openssl *a);

#endif
