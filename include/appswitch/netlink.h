/* netlink.h - requests to rtnetlink(7), one at a time.
 *
 * A request is a struct that begins with a struct nlmsghdr whose type, own flags and length the
 * caller has set. */
#ifndef APPSWITCH_NETLINK_H
#define APPSWITCH_NETLINK_H

#include <linux/netlink.h>
#include <stddef.h>

/* A NETLINK_ROUTE socket of the calling thread's network namespace: fd or -errno. */
int netlink_open(void);

/* Sends the request and waits for its acknowledgement. 0 or -errno: the kernel's, or our own. */
int netlink_transact(int fd, struct nlmsghdr *req);

/* Appends an attribute (a struct rtattr) and makes the request longer by it; the caller saw to
 * the room. */
void netlink_attr(struct nlmsghdr *req, unsigned short type, const void *value, size_t len);

#endif
