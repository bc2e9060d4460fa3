/* replace.h - puts a stand-in at the app's fd number, losing nothing that hung on the old file.
 *
 * Carried over: O_NONBLOCK, O_ASYNC and owner (on the file), close-on-exec (per fd), SOL_SOCKET
 * options, epoll registrations (keyed by file and number: re-added under the same number),
 * copies made by dup in the same process. Its cost does not grow with the number of open fds
 * unless the socket was dup'd or the process just made an epoll set. */
#ifndef TRAPHANDLER_REPLACE_H
#define TRAPHANDLER_REPLACE_H

#include "traphandler/conn/standin.h"

/* Carries flags and options of @old over to @fd (both ours, @fd's flags being @mode). Returns @old's F_GETFL. */
int replace_options(int old, int fd, int mode);
/* Its two halves: options of SOL_SOCKET, and what is the file's. */
void replace_sockopts(int old, int fd);
int replace_flags(int old, int fd, int mode);

/* Puts @fd (ours, stays ours) at @fdno in the target, in place of @old (our copy of what is
 * there), and of its copies in the process. 0, -EBADF; -EAGAIN or -ENOENT: @fdno still has @old, but
 * copies may have @fd already, so another round with the same @fd must follow. */
int replace_fd(struct trap *t, int fdno, int old, int fd);

/* An earlier daemon may have died between replacement and epoll registrations: @fd (ours) is what the
 * app is to have, where it has it already. */
void replace_resume(struct trap *t, int fd);

/* Is @fdno in an epoll set so large that putting it back would cost too much? A guess. */
bool replace_is_costly(struct trap *t, int fdno);

/* A dup was seen: the socket may have copies in its process. */
void replace_note_dup(struct trap *t, int fd);

/* A thread with an fd table of its own, for re-adding to epoll sets. 0 or -errno. */
int replace_start(void);
void replace_stop(void);

#endif
