/* guard.h - a TCP socket of the host's network namespace hears one other node, and nobody else, for good.
 *
 * An app gets such a socket connected. It might take it out of its connection again: it may exchange the
 * file behind a number between our look at it and a call that is then given to the kernel
 * (seccomp_unotify(2), CONTINUE), so one of a native socket's connect(), bind() or listen() may meet this one. It
 * must not lead into the host's network even then. So it has a locked socket filter (SO_ATTACH_FILTER,
 * SO_LOCK_FILTER, socket(7)):
 *
 *   outgoing  only segments from the other node's address and port pass. A connection to anybody else is
 *             never answered, a listener hears nobody. One program per node where bpf(2) may be used; else
 *             one per socket
 *   incoming  only segments to our node's own address and port pass. Accepted sockets inherit the filter,
 *             but not the port if they leave their connection (SOCK_BINDPORT_LOCK is not inherited), and
 *             as long as the node listens on it they do not get it again
 *
 * A SYN of such a socket still leaves: that is all that can be sent. */
#ifndef REMOTE_GUARD_H
#define REMOTE_GUARD_H

#include <appswitch/addr.h>

#include <stdbool.h>

/* Some kernels let only root attach a filter to a socket of the host's namespace. With this such a socket goes
 * without: what is below then does nothing. Before all others. */
void guard_is_optional(void);

/* For a socket that is being connected to @node. 0 or -errno. Any thread. */
int guard_outgoing(int fd, const struct as_endpoint *node);

/* For the socket that listens at @self, whose address may be the any-address, and again after
 * guard_mute(). It is never an app's, so its filter is not locked. 0; 1: it goes without; or -errno. */
int guard_listening(int fd, const struct as_endpoint *self);
/* For each that was accepted from it, before it is anybody's: locks what it has inherited. */
int guard_accepted(int fd);
/* The listening socket hears nobody: who calls gets no answer, and calls again until there is one
 * (RFC 9293, 3.8.1). What it had accepted before waits on. Calls setsockopt(2) and nothing else. */
int guard_mute(int fd);

#endif
