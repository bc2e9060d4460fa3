/* embedded.h - a daemon for those who did not start one. It ends with its last app. */
#ifndef TRAPGEN_EMBEDDED_H
#define TRAPGEN_EMBEDDED_H

#include <stddef.h>

/* Starts `appswitch daemon --embedded` on @socket and waits until it serves or gives up.
 * 1: it serves. 0: it ended without, most likely because another run's daemon was first.
 * -ECANCELED: it could not, and *ret_why says what it said. Other -errno: not started, or no word
 * from it within @timeout_ms.
 * Leaves no child and no signal behind; needs fds 0 to 2 to be open. */
int embedded_start(const char *socket, int timeout_ms, char *ret_why, size_t size);

#endif
