#include "gossip/aead_openssl.h"

#include "gossip/wire.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

/* Derived keys are cached, direct-mapped: peers are met again and again, and deriving costs
 * more than the packet. 48 bytes each. */
#define CACHE 4096u

struct ring_key {
	uint32_t id;
	uint8_t key[AEAD_KEY_LEN];
};

struct derived {
	uint64_t session;
	uint32_t key_id;
	bool set;
	uint8_t key[AEAD_KEY_LEN];
};

struct aead_openssl {
	EVP_CIPHER_CTX *seal, *open;
	size_t n;
	struct ring_key keys[AEAD_KEYS];
	struct derived own; /* what we send with */
	struct derived cache[CACHE];
};

static int hmac(const uint8_t *key, const void *msg, size_t len, uint8_t out[32])
{
	unsigned n = 32;

	return HMAC(EVP_sha256(), key, AEAD_KEY_LEN, msg, len, out, &n) != NULL && n == 32
		       ? 0
		       : -EIO;
}

static int derive(const struct ring_key *k, uint64_t session, struct derived *ret)
{
	uint8_t msg[] = "appswitch gossip session\0\0\0\0\0\0\0\0\1";

	for (unsigned i = 0; i < 8; i++)
		msg[sizeof(msg) - 10 + i] = (uint8_t)(session >> 8 * (7 - i));
	if (hmac(k->key, msg, sizeof(msg) - 1, ret->key) < 0)
		return -EIO;
	ret->session = session;
	ret->key_id = k->id;
	ret->set = true;
	return 0;
}

static void nonce_of(uint64_t counter, uint8_t nonce[12])
{
	memset(nonce, 0, 4);
	for (unsigned i = 0; i < 8; i++)
		nonce[4 + i] = (uint8_t)(counter >> 8 * (7 - i));
}

static uint32_t key_id(void *ctx)
{
	const struct aead_openssl *a = ctx;

	return a->keys[0].id;
}

static int seal(void *ctx, uint64_t session, uint64_t counter, const uint8_t *ad, size_t ad_len,
		uint8_t *buf, size_t len, uint8_t *tag)
{
	struct aead_openssl *a = ctx;
	uint8_t nonce[12];
	int n;

	if (!a->own.set || a->own.session != session || a->own.key_id != a->keys[0].id) {
		a->own.set = false;
		if (derive(&a->keys[0], session, &a->own) < 0)
			return -EIO;
	}
	nonce_of(counter, nonce);
	if (EVP_EncryptInit_ex(a->seal, NULL, NULL, a->own.key, nonce) != 1 ||
	    EVP_EncryptUpdate(a->seal, NULL, &n, ad, (int)ad_len) != 1 ||
	    EVP_EncryptUpdate(a->seal, buf, &n, buf, (int)len) != 1 ||
	    EVP_EncryptFinal_ex(a->seal, buf + n, &n) != 1 ||
	    EVP_CIPHER_CTX_ctrl(a->seal, EVP_CTRL_AEAD_GET_TAG, WIRE_TAG_LEN, tag) != 1)
		return -EIO;
	return 0;
}

static int open_packet(void *ctx, uint32_t id, uint64_t session, uint64_t counter,
		       const uint8_t *ad, size_t ad_len, const uint8_t *in, size_t len,
		       const uint8_t *tag, uint8_t *out)
{
	struct aead_openssl *a = ctx;
	struct derived *slot = &a->cache[(session ^ session >> 32) % CACHE];
	struct derived fresh, *use = slot;
	const struct ring_key *k = NULL;
	uint8_t nonce[12], copy[WIRE_TAG_LEN];
	int n;

	for (size_t i = 0; i < a->n; i++) {
		if (a->keys[i].id == id)
			k = &a->keys[i];
	}
	if (k == NULL)
		return -ENOKEY;
	if (!slot->set || slot->session != session || slot->key_id != id) {
		if (derive(k, session, &fresh) < 0)
			return -EBADMSG;
		use = &fresh;
	}
	nonce_of(counter, nonce);
	memcpy(copy, tag, sizeof(copy));
	if (EVP_DecryptInit_ex(a->open, NULL, NULL, use->key, nonce) != 1 ||
	    EVP_DecryptUpdate(a->open, NULL, &n, ad, (int)ad_len) != 1 ||
	    EVP_DecryptUpdate(a->open, out, &n, in, (int)len) != 1 ||
	    EVP_CIPHER_CTX_ctrl(a->open, EVP_CTRL_AEAD_SET_TAG, WIRE_TAG_LEN, copy) != 1 ||
	    EVP_DecryptFinal_ex(a->open, out + n, &n) != 1)
		return -EBADMSG;
	/* only what proved authentic may push another session out */
	if (use == &fresh)
		*slot = fresh;
	return 0;
}

int aead_openssl_set_keys(struct aead_openssl *a, const uint8_t (*keys)[AEAD_KEY_LEN], size_t n)
{
	static const char label[] = "appswitch gossip key id";
	struct ring_key ring[AEAD_KEYS];
	uint8_t digest[32];

	if (n == 0 || n > AEAD_KEYS)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (hmac(keys[i], label, sizeof(label) - 1, digest) < 0)
			return -EIO;
		memcpy(ring[i].key, keys[i], AEAD_KEY_LEN);
		memcpy(&ring[i].id, digest, sizeof(ring[i].id));
		for (size_t j = 0; j < i; j++) {
			if (ring[j].id == ring[i].id)
				return -EINVAL;
		}
	}
	OPENSSL_cleanse(a->keys, sizeof(a->keys));
	OPENSSL_cleanse(&a->own, sizeof(a->own));
	OPENSSL_cleanse(a->cache, sizeof(a->cache));
	memcpy(a->keys, ring, n * sizeof(ring[0]));
	OPENSSL_cleanse(ring, sizeof(ring));
	a->n = n;
	return 0;
}

int aead_openssl_new(const uint8_t (*keys)[AEAD_KEY_LEN], size_t n, struct aead_openssl **ret)
{
	struct aead_openssl *a = calloc(1, sizeof(*a));
	int r;

	if (a == NULL)
		return -ENOMEM;
	a->seal = EVP_CIPHER_CTX_new();
	a->open = EVP_CIPHER_CTX_new();
	if (a->seal == NULL || a->open == NULL) {
		aead_openssl_free(a);
		return -ENOMEM;
	}
	r = aead_openssl_set_keys(a, keys, n);
	if (r == 0 && (EVP_EncryptInit_ex(a->seal, EVP_aes_256_gcm(), NULL, NULL, NULL) != 1 ||
		       EVP_DecryptInit_ex(a->open, EVP_aes_256_gcm(), NULL, NULL, NULL) != 1))
		r = -EIO;
	if (r < 0) {
		aead_openssl_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

struct aead_openssl *aead_openssl_free(struct aead_openssl *a)
{
	if (a == NULL)
		return NULL;
	EVP_CIPHER_CTX_free(a->seal);
	EVP_CIPHER_CTX_free(a->open);
	OPENSSL_cleanse(a, sizeof(*a));
	free(a);
	return NULL;
}

struct gossip_aead aead_openssl_ops(struct aead_openssl *a)
{
	return (struct gossip_aead){
		.ctx = a, .key_id = key_id, .seal = seal, .open = open_packet
	};
}
