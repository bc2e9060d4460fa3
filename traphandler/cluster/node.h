/* node.h - what a person asks of this node: to leave the cluster, or to drain.
 *
 * An instance that drains gets no new connections from other apps; those it has go on, and it
 * reaches itself as before. The mark is kept where it outlives the daemon. An app drains if it is
 * marked or the whole node is; apps that come later are part of the node.
 *
 * Without sw->lock held. 0 or -errno, then @err has one line for a person. */
#ifndef TRAPHANDLER_NODE_H
#define TRAPHANDLER_NODE_H

#include "traphandler/switch.h"

/* -ENOTCONN: this node is in no cluster. */
int node_leave(struct switch_ctx *sw, char *err, size_t err_size);

/* @app 0: the whole node. -ESRCH: no such app; -EBUSY: it cannot be taken out of the node that
 * drains. Asking for what is so already is no error. */
int node_drain(struct switch_ctx *sw, uint32_t app, bool on, char *err, size_t err_size);

#endif
