/* sockopt.h - get/setsockopt where an AF_UNIX stand-in would answer otherwise than TCP.
 *
 * A listener's options are its anchor's, a real TCP socket. A connected stand-in has none, so:
 * what the app set is in a record (or, for TCP_NODELAY, in the socket's mark), what it inherited
 * is the anchor's, the rest is what a real connected TCP socket (the template) says. Values are
 * checked by setting them on another such socket (the scratch), so errors and normal forms are
 * the kernel's. Options that promise something a stand-in cannot keep answer ENOPROTOOPT. */
#ifndef TRAPHANDLER_SOCKOPT_H
#define TRAPHANDLER_SOCKOPT_H

#include "traphandler/trap/trap.h"

void handle_getsockopt(struct trap *t);
void handle_setsockopt(struct trap *t);

/* A pair of connected TCP sockets of @family over the calling thread's loopback; one of them
 * (the other stays open with it, unreachable). fd or -errno. */
int sockopt_template(int family);

#endif
