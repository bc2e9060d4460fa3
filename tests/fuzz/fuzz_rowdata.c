/* The data of a gossip row, as a service's and as a node's: what was read fits when it is
 * written, reads as the same again, and has no control bytes. */
#include "traphandler/cluster/rowdata.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void clean(const char *s, size_t max)
{
	if (strlen(s) > max)
		abort();
	for (; *s != '\0'; s++) {
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			abort();
	}
}

static void service(const uint8_t *data, size_t size)
{
	uint8_t a[ROWDATA_MAX], b[ROWDATA_MAX];
	size_t a_len, b_len;
	struct service_data d;

	if (rowdata_get_service(data, size, &d) < 0)
		return;
	clean(d.network, ROWDATA_NAME_MAX);
	clean(d.name, ROWDATA_NAME_MAX);
	clean(d.tags, ROWDATA_TAGS_MAX);
	if (rowdata_put_service(&d, a, sizeof(a), &a_len) < 0 ||
	    rowdata_get_service(a, a_len, &d) < 0 ||
	    rowdata_put_service(&d, b, sizeof(b), &b_len) < 0 || a_len != b_len ||
	    memcmp(a, b, a_len) != 0)
		abort();
}

static void node(const uint8_t *data, size_t size)
{
	uint8_t a[ROWDATA_MAX], b[ROWDATA_MAX];
	size_t a_len, b_len;
	struct node_data d;

	if (rowdata_get_node(data, size, &d) < 0)
		return;
	clean(d.name, ROWDATA_NAME_MAX);
	clean(d.zone, ROWDATA_NAME_MAX);
	clean(d.version, ROWDATA_VERSION_MAX);
	if (rowdata_put_node(&d, a, sizeof(a), &a_len) < 0 ||
	    rowdata_get_node(a, a_len, &d) < 0 ||
	    rowdata_put_node(&d, b, sizeof(b), &b_len) < 0 || a_len != b_len ||
	    memcmp(a, b, a_len) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	service(data, size);
	node(data, size);
	return 0;
}
