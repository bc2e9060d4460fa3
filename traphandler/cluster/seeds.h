/* seeds.h - a file of addresses at which a cluster may be found (daemon --join @FILE).
 *
 * An ADDR[:PORT] on each line; blank lines and lines that begin with '#' are left out. It is read
 * again whenever the cluster is looked for, so other programs may keep it up to date (rename a new
 * one into its place). */
#ifndef TRAPHANDLER_SEEDS_H
#define TRAPHANDLER_SEEDS_H

#include <appswitch/addr.h>

#include <stddef.h>

#define SEEDS_MAX      256
#define SEEDS_FILE_MAX 65536 /* bytes */

/* NULL, or why @e cannot be the address of another node: a part of a sentence about it. */
const char *seeds_wrong(const struct as_endpoint *e);

/* Fills @ret, which has room for SEEDS_MAX, and *@ret_n, whole or not at all. An empty file is none
 * that is wrong. 0 or -errno, then @err has one line for a person, with the line's number. */
int seeds_read(const char *path, uint16_t default_port, struct as_endpoint *ret, size_t *ret_n,
	       char *err, size_t err_size);

#endif
