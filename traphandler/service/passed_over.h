/* passed_over.h - instances that refused lately, which are passed over for a growing while.
 *
 * The first failure counts for 250 ms, and each one after that for twice as long, up to 30 s.
 * Failures while an instance is passed over are those of connects that were under way, or of
 * clients that had nobody else: they say nothing new and do not make it longer. After 60 s
 * without a failure, or a success, it starts over.
 *
 * A key names an instance: a hash of (node, app, port), well spread. A table of fixed size; of
 * those that share a place the one that failed longest ago is forgotten first: then it is just tried
 * again. Pure: time is passed in, in ms of a clock that is never set. The caller locks. */
#ifndef SERVICE_PASSED_OVER_H
#define SERVICE_PASSED_OVER_H

#include <stdbool.h>
#include <stdint.h>

#define PASSED_OVER_FIRST_MS  250
#define PASSED_OVER_MAX_MS    30000
#define PASSED_OVER_FORGET_MS 60000
#define PASSED_OVER_WAYS      8 /* keys that share a place */
#define PASSED_OVER_PLACES    128

/* Zero: nobody is passed over. */
struct passed_over {
	struct passed_over_entry {
		uint64_t key;
		uint64_t failed_ms; /* last */
		uint64_t until_ms;
		uint32_t delay_ms; /* 0: the entry is empty */
	} entries[PASSED_OVER_PLACES][PASSED_OVER_WAYS];
	unsigned used; /* entries: mostly none, and then there is nothing to look for */
};

void passed_over_note(struct passed_over *p, uint64_t key, uint64_t now_ms); /* it refused */
void passed_over_ok(struct passed_over *p, uint64_t key);		     /* it did not */
bool passed_over_now(const struct passed_over *p, uint64_t key, uint64_t now_ms);

#endif
