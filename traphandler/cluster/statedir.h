/* statedir.h - what a node of a cluster keeps on disk: who it is, and whom it knew.
 *
 * A directory of its own (0700) with
 *   lock   held (flock(2)) while a daemon uses the directory; its pid, for a person
 *   node   "id " and 16 hex digits, "generation " and a number, a line each
 *   peers  an ADDR:PORT on each line: where to look for the cluster at the next start
 * A file is replaced as a whole (written aside, synced, renamed, the directory synced): after a
 * power cut there is the old one or the new one. One that is damaged is kept as NAME.bad and made
 * anew. A disk that cannot be written stops nobody: the values in memory go on, and the caller is
 * told so that it can say it once.
 *
 * An identity is of one process at a time; two with the same id would argue without end. The lock
 * is of the open file, so a process that shares the fd table (state/holder.h) keeps it: its number
 * belongs into st_header.statedir_fd as soon as the directory is open, and the holder closes it.
 *
 * Main thread only; waits for the disk. 0 or -errno, then @err has one line for a person. */
#ifndef TRAPHANDLER_STATEDIR_H
#define TRAPHANDLER_STATEDIR_H

#include <appswitch/addr.h>

#include <stddef.h>
#include <stdint.h>

#define STATEDIR_PEERS 256

struct statedir;

/* /var/lib/appswitch for root, $XDG_STATE_HOME/appswitch or ~/.local/state/appswitch for others.
 * 0, -ENAMETOOLONG, -ENOENT (neither variable says where). */
int statedir_default_path(char *ret, size_t size);

/* Makes the directory and at most two above it that are not there. -EBUSY: another daemon has it;
 * -EPERM: others may write into it. On success *@err is empty, or has a line about what was
 * damaged or could not be stored. */
int statedir_open(const char *path, struct statedir **ret, char *err, size_t err_size);
/* Ends the lock. Accepts NULL, returns NULL. */
struct statedir *statedir_free(struct statedir *s);
int statedir_lock_fd(const struct statedir *s); /* stays ours */

/* Never 0; random the first time, then always the same. */
uint64_t statedir_id(const struct statedir *s);

/* For a start of this node: more than every one before and not less than the wall clock in
 * seconds; on the disk before it is used. Always writes *@ret: on failure a later start may get the
 * same one if the clock goes back. */
int statedir_next_generation(struct statedir *s, uint32_t *ret, char *err, size_t err_size);
/* One that the node had to take while it ran. Less than what is stored is left out. */
int statedir_set_generation(struct statedir *s, uint32_t generation, char *err,
			    size_t err_size);

/* Those that were set last, also by an earlier daemon. Borrowed until the next change. */
size_t statedir_peers(const struct statedir *s, const struct as_endpoint **ret);
/* The first STATEDIR_PEERS of them; nothing is written if they are the same. After a failure the
 * next call tries again. */
int statedir_set_peers(struct statedir *s, const struct as_endpoint *peers, size_t n, char *err,
		       size_t err_size);

#endif
