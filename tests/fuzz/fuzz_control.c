/* A message on the control socket, as far as it is read without a daemon: the JSON, and a
 * registration in it. What is accepted is whole; what is refused says why. */
#include "traphandler/service/registration.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void accepted(const struct registration *r)
{
	if (r->name == NULL || r->network == NULL || r->tags == NULL ||
	    (unsigned)r->lb >= LB_POLICIES || r->weight < 1 || r->weight > 1000)
		abort();
	for (const char *c = r->command; *c != '\0'; c++) {
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			abort();
	}
	if ((r->own4 && (!as_addr_is_v4(&r->ip4) || as_addr_is_any(&r->ip4))) ||
	    (r->own6 && (as_addr_is_v4(&r->ip6) || as_addr_is_any(&r->ip6))))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *req = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
	struct registration r;
	char err[200] = "";

	if (req == NULL)
		return 0;
	if (registration_parse(req, &r, err, sizeof(err)) == 0) {
		accepted(&r);
		registration_done(&r);
	} else if (err[0] == '\0' || strlen(err) >= sizeof(err)) {
		abort();
	}
	json_decref(req);
	return 0;
}
