/* errno_table.h - the parts of the table (call, state) -> result. */
#ifndef ERRNO_TABLE_H
#define ERRNO_TABLE_H

#include "../lib/conf.h"

struct errno_part {
	const char *name;
	const struct conf_case *generic; /* run with IPv4, IPv6 and v4-mapped addresses */
	size_t n_generic;
	const struct conf_case *once;
	size_t n_once;
};

extern const struct errno_part errno_connect, errno_bind, errno_listen, errno_accept,
	errno_names, errno_shutdown, errno_opts, errno_io, errno_events, errno_sharing;

#define ERRNO_N(a) (sizeof(a) / sizeof((a)[0]))

/* Memory that cannot be touched; @len bytes of @p that end where it begins. */
void *errno_bad(void);
void *errno_edge(const void *p, size_t len);

#endif
