/* The tag of a hello: who has the key, any changed bit, rotation, and many threads at once. */
#include "traphandler/remote/mac.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

static const uint8_t keys[MAC_KEYS + 1][MAC_KEY_LEN] = { "one",	  "two",   "three",
							 "four",  "five",  "six",
							 "seven", "eight", "nine" };

static void some(uint8_t out[HELLO_SIZE])
{
	for (unsigned i = 0; i < HELLO_SIZE; i++)
		out[i] = (uint8_t)(i * 7 + 1);
}

static struct mac *mac_of(const uint8_t (*k)[MAC_KEY_LEN], size_t n)
{
	struct mac *m = NULL;

	assert_int_equal(mac_new(k, n, &m), 0);
	return m;
}

/* The same by another interface of libcrypto and from the words of the header. */
static void test_the_tag_is_what_the_header_says(void **state)
{
	static const char label[] = "appswitch hello\1", id_label[] = "appswitch hello key id";
	uint8_t hello[HELLO_SIZE], derived[32], tag[32], id[32];
	struct mac *m = mac_of(keys, 1);
	unsigned n;

	(void)state;
	some(hello);
	assert_int_equal(mac_sign(m, hello), 0);
	HMAC(EVP_sha256(), keys[0], 32, (const uint8_t *)id_label, strlen(id_label), id, &n);
	assert_memory_equal(hello + HELLO_KEY_ID_AT, id, 4);
	HMAC(EVP_sha256(), keys[0], 32, (const uint8_t *)label, strlen(label), derived, &n);
	HMAC(EVP_sha256(), derived, 32, hello, HELLO_MAC_AT, tag, &n);
	assert_memory_equal(hello + HELLO_MAC_AT, tag, HELLO_MAC_LEN);
	mac_free(m);
}

static void test_any_changed_bit_is_seen(void **state)
{
	uint8_t hello[HELLO_SIZE];
	struct mac *m = mac_of(keys, 2);

	(void)state;
	some(hello);
	assert_int_equal(mac_sign(m, hello), 0);
	assert_int_equal(mac_verify(m, hello), 0);
	for (unsigned bit = 0; bit < HELLO_SIZE * 8; bit++) {
		bool id = bit / 8 >= HELLO_KEY_ID_AT && bit / 8 < HELLO_KEY_ID_AT + 4;

		hello[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(mac_verify(m, hello), id ? -ENOKEY : -EBADMSG);
		hello[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_int_equal(mac_verify(m, hello), 0);
	mac_free(m);
}

static void test_the_first_key_signs_and_every_key_verifies(void **state)
{
	struct mac *all = mac_of(keys, MAC_KEYS);
	uint8_t hello[HELLO_SIZE];

	(void)state;
	for (size_t i = 0; i <= MAC_KEYS; i++) {
		struct mac *one = mac_of(&keys[i], 1);

		some(hello);
		assert_int_equal(mac_sign(one, hello), 0);
		assert_int_equal(mac_verify(all, hello), i < MAC_KEYS ? 0 : -ENOKEY);
		some(hello);
		assert_int_equal(mac_sign(all, hello), 0);
		assert_int_equal(mac_verify(one, hello), i == 0 ? 0 : -ENOKEY);
		mac_free(one);
	}
	mac_free(all);
}

static void test_keys_are_replaced(void **state)
{
	struct mac *m = mac_of(keys, 1);
	uint8_t old[HELLO_SIZE], hello[HELLO_SIZE];

	(void)state;
	some(old);
	assert_int_equal(mac_sign(m, old), 0);
	assert_int_equal(mac_set_keys(m, &keys[1], 2), 0);
	assert_int_equal(mac_verify(m, old), -ENOKEY);
	some(hello);
	assert_int_equal(mac_sign(m, hello), 0);
	assert_int_equal(mac_verify(m, hello), 0);
	assert_memory_not_equal(hello + HELLO_MAC_AT, old + HELLO_MAC_AT, HELLO_MAC_LEN);
	mac_free(m);
}

static void test_bad_sets_of_keys_are_refused_and_change_nothing(void **state)
{
	uint8_t twice[3][MAC_KEY_LEN] = { "a", "b", "a" }, hello[HELLO_SIZE];
	struct mac *m = NULL;

	(void)state;
	assert_int_equal(mac_new(keys, 0, &m), -EINVAL);
	assert_int_equal(mac_new(keys, MAC_KEYS + 1, &m), -EINVAL);
	assert_int_equal(mac_new((const uint8_t(*)[MAC_KEY_LEN])twice, 3, &m), -EINVAL);
	assert_null(m);
	m = mac_of(keys, 1);
	some(hello);
	assert_int_equal(mac_sign(m, hello), 0);
	assert_int_equal(mac_set_keys(m, keys, 0), -EINVAL);
	assert_int_equal(mac_set_keys(m, keys, MAC_KEYS + 1), -EINVAL);
	assert_int_equal(mac_set_keys(m, (const uint8_t(*)[MAC_KEY_LEN])twice, 3), -EINVAL);
	assert_int_equal(mac_verify(m, hello), 0);
	mac_free(m);
	assert_null(mac_free(NULL));
}

struct shared {
	struct mac *m;
	atomic_uint bad, done;
	atomic_bool stop;
};

static void *sign_and_verify(void *arg)
{
	struct shared *s = arg;
	uint8_t hello[HELLO_SIZE];

	while (!s->stop) {
		some(hello);
		if (mac_sign(s->m, hello) != 0 || mac_verify(s->m, hello) != 0)
			s->bad++;
		s->done++;
	}
	return NULL;
}

static void test_threads_sign_while_keys_are_replaced(void **state)
{
	uint8_t set[2][2][MAC_KEY_LEN];
	struct shared s = { 0 };
	pthread_t threads[4];

	(void)state;
	/* both keys always verify; which one signs changes */
	for (int i = 0; i < 2; i++) {
		memcpy(set[i][0], keys[i], MAC_KEY_LEN);
		memcpy(set[i][1], keys[!i], MAC_KEY_LEN);
	}
	s.m = mac_of((const uint8_t(*)[MAC_KEY_LEN])set[0], 2);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, sign_and_verify, &s), 0);
	for (unsigned i = 0; i < 500 || s.done < 2000; i++)
		assert_int_equal(
			mac_set_keys(s.m, (const uint8_t(*)[MAC_KEY_LEN])set[i & 1], 2), 0);
	s.stop = true;
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(s.bad, 0);
	mac_free(s.m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_tag_is_what_the_header_says),
		cmocka_unit_test(test_any_changed_bit_is_seen),
		cmocka_unit_test(test_the_first_key_signs_and_every_key_verifies),
		cmocka_unit_test(test_keys_are_replaced),
		cmocka_unit_test(test_bad_sets_of_keys_are_refused_and_change_nothing),
		cmocka_unit_test(test_threads_sign_while_keys_are_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
