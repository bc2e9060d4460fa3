/* mac.h - signs and verifies a hello (hello.h) under the cluster's keys, with libcrypto.
 *
 * The tag is HMAC-SHA256 (RFC 2104) over all bytes of the hello before it, cut to 16 bytes, under
 * a key of its own: HMAC-SHA256(cluster key, "appswitch hello" || 1), which is HKDF-Expand
 * (RFC 5869) for one block. So a cluster key is never used for two things. A key's id is the first
 * four bytes of HMAC-SHA256(cluster key, "appswitch hello key id"): it needs no configuration and
 * tells nothing about the key.
 *
 * Up to MAC_KEYS keys: the first signs, every one verifies, chosen by the id in the hello.
 * To rotate: add the new key as the last one everywhere, then make it the first, then drop the old.
 *
 * Any number of threads may sign and verify at once, also while keys are replaced. Key bytes
 * are wiped when they are replaced and at the end. 0 or -errno. */
#ifndef REMOTE_MAC_H
#define REMOTE_MAC_H

#include "traphandler/remote/hello.h"

#define MAC_KEYS    8
#define MAC_KEY_LEN 32

struct mac;

/* Copies @n keys. 0, -EINVAL (none, too many, or two with one id), -ENOMEM, -EIO (libcrypto). */
int mac_new(const uint8_t (*keys)[MAC_KEY_LEN], size_t n, struct mac **ret);
struct mac *mac_free(struct mac *m); /* accepts and returns NULL; nobody uses it any more */
/* As new(), at any time; on failure the old keys stay. */
int mac_set_keys(struct mac *m, const uint8_t (*keys)[MAC_KEY_LEN], size_t n);

/* Writes the key id and the tag into @hello. 0, -EIO or -ENOMEM. */
int mac_sign(struct mac *m, uint8_t hello[HELLO_SIZE]);
/* 0, -ENOKEY (no key with that id), -EBADMSG (not authentic), -EIO or -ENOMEM. The time it takes
 * does not depend on where the tag is wrong. */
int mac_verify(struct mac *m, const uint8_t hello[HELLO_SIZE]);

#endif
