/* privns.h - the daemon's own namespaces.
 *
 * The user namespace (only without privileges) makes it the master of the apps' namespaces; the
 * private network namespace is where every stand-in lives: empty, so that no one else can name
 * or reach a stand-in, and so that a socket handed to an app leads nowhere. */
#ifndef TRAPHANDLER_PRIVNS_H
#define TRAPHANDLER_PRIVNS_H

#include "traphandler/switch.h"

/* Enters @fd, or a new user namespace with the caller's ids mapped to themselves if @fd is -1.
 * Before any thread. 0 and an fd of it, or -errno. */
int privns_enter_user(int fd, int *ret_fd);

/* A new network namespace with loopback up; the caller stays where it is. 0 or -errno. */
int privns_new_net(int *ret_fd);

/* Calls @fn on a thread in the namespace @sw->st.h->pns_fd and waits for it: what it returned, or
 * -errno. */
int privns_run(struct switch_ctx *sw, int (*fn)(struct switch_ctx *sw));

/* Makes what is to live there: the sock_diag socket, the option
 * templates; finds out which buffer sizes are to be had. 0 or -errno. */
int privns_furnish(struct switch_ctx *sw);

/* SO_NETNS_COOKIE of the calling thread's network namespace; 0 if the kernel has none. */
uint64_t privns_cookie(void);

#endif
