/* ctl.h - the control protocol between the commands and the daemon.
 *
 * A SOCK_SEQPACKET UNIX socket; every message is one JSON object of at most CTL_MSG_MAX bytes.
 * A request is answered by one message, or by several of which all but the last carry
 * "more": true. {"ok": true, …} or {"ok": false, "error": "one line for a person"}.
 * Unknown keys and unknown ops are errors. A request that is refused changes nothing.
 *
 *   {"op":"register", "ips":["10.0.0.5"], "name":"db", "network":"default",
 *    "tags":["k=v"], "lb":"local-first", "weight":1, "command":"nginx -g …"}
 *      weight: 1 to 1000, how many clients this instance is to get beside the others.
 *      -> {"ok":true, "app":7, "ipv4":"10.0.0.5", "ipv6":"fd…", "userns":false}
 *      ipv4 and ipv6 are always given: what the user did not choose is invented by the daemon.
 *      With "userns":true the message carries one fd (SCM_RIGHTS): the user namespace to enter
 *      with setns() before the app's own is unshared (a daemon without privileges).
 *   {"op":"attach", "listener":FD, "probe":FD}
 *      on the same connection, after the filter is in force: numbers of fds in the sender's own
 *      table, which the daemon takes with pidfd_getfd(2): the seccomp listener, and any AF_INET
 *      stream socket made inside the app's network namespace. It must be sent with write(2) and
 *      its answer read with read(2).
 *      -> {"ok":true}; from now on traps are serviced. Closing the connection before that
 *      forgets the app.
 *   {"op":"get", "what":"services"|"apps"|"connections"|"nodes"}
 *      -> {"ok":true, "rows":[{…flat…}, …], "more":true}… -> {"ok":true, "rows":[…]}
 *      services: those of all nodes. connections: those with an end on this node.
 *      nodes: "name" ("" of one that has not said it), "id" (16 hex digits), "state" ("alive",
 *      "suspect", "dead", "left"), "address" ("ADDR:PORT"), "zone", "apps", "version", "rtt_us" and
 *      "age_s" (numbers; null: not known); of this node also "accepted",
 *      "refused", "bad_hellos" and "replays" (struct remote_stats). Of a daemon that is in no cluster, and for an app, there is
 *      one row: name, state, apps and version of this node.
 *   {"op":"drain", "app":7}, {"op":"undrain", "app":7}
 *      -> {"ok":true, "settle_ms":500}; without "app" it is about the whole node: those it serves, and
 *      who comes. After settle_ms the other nodes know, unless packets were lost; 0: there are none.
 *      An instance that drains gets no new connections from other apps.
 *   {"op":"leave"}
 *      -> {"ok":true}; this node says good-bye to its cluster and knows nobody from then on; its next
 *      daemon joins again. It is an error without a cluster, and the second time.
 *
 * Who asks is taken from the kernel (SO_PEERPIDFD, SO_PEERCRED and the socket's network
 * namespace), never from the message: all but get is refused from inside an app, and get
 * shows an app only what is of its own network. */
#ifndef APPSWITCH_CTL_H
#define APPSWITCH_CTL_H

#include <stddef.h>

#define CTL_MSG_MAX 65536

/* The path to use: @opt if given, else $APPSWITCH_SOCKET, else the default of the user
 * (/run/appswitch/appswitch.sock for root, $XDG_RUNTIME_DIR/appswitch/appswitch.sock otherwise,
 * /tmp/appswitch-UID/appswitch.sock without that variable).
 * 0, -ENAMETOOLONG (does not fit a sockaddr_un). */
int ctl_socket_path(const char *opt, char *ret_path, size_t size);

/* A connected, close-on-exec fd, or -errno: -ENOENT and -ECONNREFUSED mean nobody serves. */
int ctl_connect(const char *path);

/* One request message; whole or -errno. write(2), so it also works below the filter. */
int ctl_send(int fd, const char *msg, size_t len);

/* One answer into @buf (NUL-terminated). Returns its length, 0 at end of stream, -errno.
 * *@ret_fd, if not NULL, gets an fd that came with it (the caller's), or -1. */
long ctl_recv(int fd, char *buf, size_t size, int *ret_fd);

#endif
