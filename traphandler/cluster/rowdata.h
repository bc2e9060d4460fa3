/* rowdata.h - what the data bytes of a gossip row say about a service or a node.
 *
 * Fields of type (1), length (2, big-endian) and value, in any order. A field of unknown type is
 * skipped, so that later versions can add some; one that is missing is empty or 0; a known one
 * that is longer than it may be, a number of another length, and a field that is there twice
 * are -EBADMSG. Strings are whatever bytes their owner chose; when read, the bytes of control characters and
 * those that are no UTF-8 become '?': they are shown on terminals, logged on one line, and JSON
 * holds nothing else.
 *
 * Plain values, no ownership. Outputs are written whole or not at all. */
#ifndef CLUSTER_ROWDATA_H
#define CLUSTER_ROWDATA_H

#include <stddef.h>
#include <stdint.h>

#define ROWDATA_NAME_MAX    64
#define ROWDATA_TAGS_MAX    512
#define ROWDATA_VERSION_MAX 32

/* A row of either kind fits into this many bytes. */
#define ROWDATA_MAX 704

struct service_data {
	char network[ROWDATA_NAME_MAX + 1], name[ROWDATA_NAME_MAX + 1];
	char tags[ROWDATA_TAGS_MAX + 1]; /* "KEY=VALUE,…" */
	int32_t pid;
	uint32_t lb; /* enum lb_policy; of a later version perhaps one that is not known */
};

struct node_data {
	char name[ROWDATA_NAME_MAX + 1], zone[ROWDATA_NAME_MAX + 1];
	char version[ROWDATA_VERSION_MAX + 1];
	uint32_t apps;
	int64_t started; /* s since 1970 */
};

/* 0 and the length, or -ENOSPC (never with ROWDATA_MAX). */
int rowdata_put_service(const struct service_data *d, uint8_t *buf, size_t cap,
			size_t *ret_len);
int rowdata_put_node(const struct node_data *d, uint8_t *buf, size_t cap, size_t *ret_len);

/* 0 or -EBADMSG. */
int rowdata_get_service(const uint8_t *buf, size_t len, struct service_data *ret);
int rowdata_get_node(const uint8_t *buf, size_t len, struct node_data *ret);

#endif
