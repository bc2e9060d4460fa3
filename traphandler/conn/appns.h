/* appns.h - a worker at work inside an app's own network namespace.
 *
 * Workers live in the private namespace of the stand-ins; what has to be a socket of the app's
 * namespace is made by entering that for a moment. The switch needs CAP_SYS_ADMIN and CAP_NET_ADMIN
 * over it, which it has: as root, or because the app's user namespace is a child of its own.
 *
 * Routes of our own: a socket with a mark of APPNS_MARK finds every address on the app's loopback
 * (a rule and a table with one `local default` route, made when first wanted), so a virtual
 * IP can be connected to, and listened at, in a namespace that does not have it. The app's own sockets
 * have no such mark and see no difference. */
#ifndef TRAPHANDLER_APPNS_H
#define TRAPHANDLER_APPNS_H

#include "traphandler/conn/standin.h"

/* In the upper half of SO_MARK; the lower has the STANDIN_* bits. */
#define APPNS_MARK	0x41530000u
#define APPNS_MARK_MASK 0xffff0000u

/* Enters it, with the routes made; under app->listen_lock, and no stand-in may be made until
 * appns_leave(). 0, or -errno and where it was. */
int appns_enter(struct trap *t);
void appns_leave(struct trap *t);

/* SO_COOKIE of the socket in it that hears who connects to @at; 0: none. Under app->listen_lock. */
uint64_t appns_listener(struct trap *t, const struct as_endpoint *at);

/* connect() of the app's own socket. 0 or an errno; EINTR if it takes long. */
int appns_connect(struct trap *t, const struct sock *s, const struct as_endpoint *dest);

/* Is @fd a socket that these routes are for? */
bool appns_marked(int fd);

/* A NETLINK_SOCK_DIAG socket in it, the app's: fd or -errno. Main thread. */
int appns_diag(struct app *app);

/* Under sw->lock: the app is freed. */
void appns_forget(struct app *app);

#endif
