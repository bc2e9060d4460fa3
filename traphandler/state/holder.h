/* holder.h - the process that keeps everything while there is no daemon.
 *
 * A child that shares the daemon's file descriptor table (clone(2) with CLONE_FILES and without
 * CLONE_VM) and sleeps until the daemon is gone. Every fd the daemon had at that moment, down to
 * a connection accepted an instant before, is then still open in it. A new daemon connects to
 * the holder's socket, gets the state memfd (and the user namespace to enter), takes the fds it
 * names with pidfd_getfd(2), starts a holder of its own and sends this one away. Alone, the
 * holder ends when the last app has ended.
 *
 * The port for other nodes (remote/remote.h) goes on as if there were a daemon for a second after one
 * that was told to end, and not at all after one that was killed; then it gives no answer; ten seconds
 * after the end of the daemon it refuses. */
#ifndef TRAPHANDLER_HOLDER_H
#define TRAPHANDLER_HOLDER_H

#include "traphandler/state/state.h"

#include <stdbool.h>
#include <sys/types.h>

struct adoption {
	int conn;  /* to the old holder */
	int pidfd; /* of it */
	pid_t pid;
	int userns_fd; /* to enter, or -1 */
	struct state old;
};

/* Starts the holder of this process; before any thread. @a, if any, is the state that is being
 * taken over: until its holder is dismissed, that one is in charge and the new one is nothing.
 * Its pid or -errno. */
pid_t holder_start(struct state *st, const struct adoption *a);

/* Connects to the holder at @path. 1 and *ret if there is one, 0 if not, -errno. */
int holder_find(const char *path, struct adoption *ret);
/* A copy of its fd number @fd; the caller's, or -errno. */
int holder_take(const struct adoption *a, int fd);
/* Everything was taken: it may go. One store into its state decides. Waits until it has gone. */
void holder_dismiss(struct adoption *a);

#endif
