/* carry.h - connections by TCP inside the client's own namespace, announced by a stand-in.
 *
 * A stand-in that takes the place of the client's socket must be put back into its epoll sets, and
 * what an item says (events, data) the kernel tells only together with all other items of the set
 * (proc(5), fdinfo): about 1 us for each. For a socket in a large set the app's own file is connected instead:
 *
 *   join      the app's own socket is connected by TCP to one that listens for the moment at the
 *             service's address, in the client's namespace (appns.h): both ends have their true
 *             addresses; the accepted end waits with the instance's listener
 *   announce  it waits with the listener and is announced there (waiting.h). Refused, or full: the socket
 *             is taken out of its connection again
 *   accept    comes upon it in the queue and gives that end to its app
 *
 * Both ends are the kernel's own TCP: the client's of its own namespace, the server's of the
 * client's (SOCK_CARRIED). The record of the connection (sockrec.h) and the call's stage are what a
 * later daemon needs to go on; before that the client's socket is marked UNSURE, and begins again.
 * PENDING: the program was not told, its next connect() will be. */
#ifndef TRAPHANDLER_CARRY_H
#define TRAPHANDLER_CARRY_H

#include "traphandler/conn/standin.h"

/* Would a stand-in in place of the caller's socket @s cost too much? @dest is nobody's own. */
bool carry_wanted(struct trap *t, const struct sock *s, const struct as_endpoint *dest);

/* Connects @s to @l. 0: it is, and the call's stage is ST_CONNECTED. -ECONNREFUSED, -EAGAIN: as
 * standin_connect(); -EOPNOTSUPP: not possible here, nothing was done. */
int carry_connect(struct trap *t, const struct sock *s, struct listener *l,
		  const struct as_endpoint *dest);

/* A socket that an earlier call got connected, but whose program was not told so; out of its
 * connection again. */
void carry_undo(int fd);

#endif
