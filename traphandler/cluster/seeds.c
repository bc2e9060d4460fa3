#include "traphandler/cluster/seeds.h"

#include <appswitch/textfile.h>
#include <appswitch/util.h>

#include <stdio.h>
#include <string.h>

const char *seeds_wrong(const struct as_endpoint *e)
{
	const struct as_addr *a = &e->addr;

	if (as_addr_is_any(a))
		return "names no host";
	if (as_addr_is_multicast(a) ||
	    (as_addr_is_v4(a) && memcmp(a->b + 12, "\xff\xff\xff\xff", 4) == 0))
		return "names more than one host";
	if (!as_addr_is_v4(a) && a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80)
		return "is link-local: it means nothing without an interface";
	return NULL;
}

/* NULL, or what is wrong with the line. */
static const char *add(const char *line, size_t len, uint16_t default_port,
		       struct as_endpoint *seeds, size_t *n)
{
	struct as_endpoint e;

	if (len == 0 || *line == '#')
		return NULL;
	if (strlen(line) != len || as_endpoint_parse(line, default_port, &e) < 0)
		return "not ADDR[:PORT]";
	if (seeds_wrong(&e) != NULL)
		return seeds_wrong(&e);
	if (*n == SEEDS_MAX)
		return "more than 256 addresses";
	seeds[(*n)++] = e;
	return NULL;
}

int seeds_read(const char *path, uint16_t default_port, struct as_endpoint *ret, size_t *ret_n,
	       char *err, size_t err_size)
{
	struct as_endpoint seeds[SEEDS_MAX];
	_cleanup_free_ char *text = NULL;
	size_t len, line_len, n = 0;
	unsigned number = 1;
	char *at, *line;
	int r;

	r = textfile_read(path, SEEDS_FILE_MAX, false, &text, &len, err, err_size);
	if (r < 0)
		return r;
	at = text;
	for (; (line = textfile_line(&at, &len, &line_len)) != NULL; number++) {
		const char *wrong = add(line, line_len, default_port, seeds, &n);

		if (wrong != NULL) {
			snprintf(err, err_size, "%s:%u: '%.60s': %s", path, number, line,
				 wrong);
			return -EINVAL;
		}
	}
	if (n > 0)
		memcpy(ret, seeds, n * sizeof(*seeds));
	*ret_n = n;
	return 0;
}
