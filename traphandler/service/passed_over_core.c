#include "traphandler/service/passed_over.h"

#include <stddef.h>
#include <string.h>

static unsigned place_of(uint64_t key)
{
	return (unsigned)(key * 0x9e3779b97f4a7c15u >> 57); /* of 128 */
}

static const struct passed_over_entry *find(const struct passed_over *p, uint64_t key)
{
	const struct passed_over_entry *e = p->entries[place_of(key)];

	for (unsigned i = 0; i < PASSED_OVER_WAYS; i++) {
		if (e[i].delay_ms != 0 && e[i].key == key)
			return &e[i];
	}
	return NULL;
}

/* An empty entry, or the one whose failure is longest ago. */
static struct passed_over_entry *make_room(struct passed_over *p, uint64_t key)
{
	struct passed_over_entry *e = p->entries[place_of(key)], *oldest = e;

	for (unsigned i = 0; i < PASSED_OVER_WAYS; i++) {
		if (e[i].delay_ms == 0) {
			p->used++;
			return &e[i];
		}
		if (e[i].failed_ms < oldest->failed_ms)
			oldest = &e[i];
	}
	return oldest;
}

void passed_over_note(struct passed_over *p, uint64_t key, uint64_t now_ms)
{
	struct passed_over_entry *e = (struct passed_over_entry *)find(p, key);
	uint32_t delay = PASSED_OVER_FIRST_MS;

	if (e == NULL) {
		e = make_room(p, key);
	} else if (now_ms < e->until_ms) {
		e->failed_ms = now_ms;
		return;
	} else if (now_ms - e->failed_ms < PASSED_OVER_FORGET_MS) {
		delay = e->delay_ms * 2;
		if (delay > PASSED_OVER_MAX_MS)
			delay = PASSED_OVER_MAX_MS;
	}
	*e = (struct passed_over_entry){
		.key = key, .failed_ms = now_ms, .until_ms = now_ms + delay, .delay_ms = delay
	};
}

void passed_over_ok(struct passed_over *p, uint64_t key)
{
	struct passed_over_entry *e;

	if (p->used == 0)
		return;
	e = (struct passed_over_entry *)find(p, key);
	if (e == NULL)
		return;
	memset(e, 0, sizeof(*e));
	p->used--;
}

bool passed_over_now(const struct passed_over *p, uint64_t key, uint64_t now_ms)
{
	const struct passed_over_entry *e = p->used != 0 ? find(p, key) : NULL;

	return e != NULL && now_ms < e->until_ms;
}
