/* The hello of another node: what was read is written again as the same bytes, but for those
 * that are ours to write; and the checks say something about whatever was read. */
#include "traphandler/remote/hello.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct hello *h)
{
	struct hello_self self = { .id = h->dest_id,
				   .generation = h->dest_generation,
				   .started_us = h->time };
	static const int64_t times[] = { INT64_MIN, -1, 0, 1700000000000000, INT64_MAX };

	/* right in everything, and so refused for its kind only */
	if ((hello_check(h, &self, h->time) == HELLO_OK) != (h->kind == HELLO_CONNECTION))
		abort();
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		enum hello_verdict v = hello_check(h, &self, times[i]);

		if (v == HELLO_NOT_FOR_US || v == HELLO_STALE_GENERATION ||
		    strcmp(hello_verdict_name(v), "unknown") == 0)
			abort();
	}
	self.id++;
	if (hello_check(h, &self, h->time) != HELLO_NOT_FOR_US)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t want[HELLO_SIZE], out[HELLO_SIZE];
	struct hello h;

	if (hello_decode(data, size, &h) < 0)
		return 0;
	memcpy(want, data, HELLO_MAC_AT - 4);
	memset(want + HELLO_MAC_AT - 4, 0, 4 + HELLO_MAC_LEN);
	want[4] = HELLO_VERSION;
	want[5] = HELLO_VERSION_MIN;
	hello_encode(&h, out);
	if (memcmp(out, want, sizeof(out)) != 0)
		abort();
	check(&h);
	return 0;
}
