/* dial.h - the client's side of a connection with another node.
 *
 *   begin    a socket of the host's namespace with the options of the app's; the hello and a SYN
 *   wait     a blocking connect() waits for the handshake, parked; its call is resumed when there is an
 *            outcome, or when it has waited long enough and there are others to try
 *   outcome  connected: it can take the app's place; else the next instance
 *
 * A non-blocking connect() does not wait: its socket takes the app's place at once, and the kernel tells
 * the rest. It waits only where the hello cannot go ahead of the handshake (net.ipv4.tcp_fastopen without
 * bit 0, a network that loses SYNs with data), and then not for long: a network that loses packets is
 * no reason to fail.
 *
 * What is tried is known by the app's socket, so a connect() that is repeated after a signal goes on with
 * it. Nothing of it outlives the daemon: the next one begins anew. Workers. */
#ifndef REMOTE_DIAL_H
#define REMOTE_DIAL_H

#include "traphandler/cluster/cluster.h"
#include "traphandler/conn/standin.h"

#define DIAL_PATIENCE_MS 250u /* for an answer while there are others to try */
#define DIAL_NONBLOCK_MS 200u /* for a connect() that should not wait at all, ... */
#define DIAL_INSIST_MS \
	3200u /* ... in its last attempt: the kernel repeats a SYN after 1 and 3 s */

struct dial; /* the worker's, between take or begin and park or free */

/* What was tried before for the connect() of @s to @dest (NULL: wherever it goes), or NULL. 0; -EALREADY: another call waits for
 * it. */
int dial_take(struct trap *t, const struct sock *s, const struct as_endpoint *dest,
	      struct dial **ret);
void dial_free(struct dial *d); /* accepts NULL; closes what it has */

/* Has it been tried without success? */
bool dial_tried(const struct dial *d, const struct far *f);
/* All that only did not answer may be tried again, with more patience; if the call does not wait, once
 * and with the hello in the SYN whatever is known of the way. False: there is none. */
bool dial_again(struct dial *d, bool waits);

/* Connects to @f for @s, from @client to @dest. *@d is made when it is NULL. 0: it is under way; else
 * -errno, and noted as tried. */
int dial_begin(struct trap *t, const struct sock *s, const struct far *f,
	       const struct as_endpoint *client, const struct as_endpoint *dest,
	       const struct as_addr *vip, struct dial **d);

/* 0: connected, and the hello is on its way; -EINPROGRESS; else -errno, noted as tried. */
int dial_outcome(struct trap *t, struct dial *d);
/* Is the hello in the socket, so that a non-blocking connect() need not wait? */
bool dial_is_ahead(const struct dial *d);
/* Until when may a call wait that should not wait at all? */
uint64_t dial_nonblock_deadline(const struct dial *d);
/* The socket, which is the caller's from then on. */
int dial_steal(struct dial *d);

/* @t waits for the outcome: at most until @deadline_ns, and not much longer than DIAL_PATIENCE_MS if there
 * are @others. Ends @t's round. */
void dial_park(struct trap *t, struct dial *d, uint64_t deadline_ns, bool others);

/* Connections that this node made to it since it last told how many it has. */
uint32_t dial_recent(struct switch_ctx *sw, const struct far *f);
/* Is this instance one that refused lately? */
bool dial_passed_over(struct switch_ctx *sw, const struct far *f);

#endif
