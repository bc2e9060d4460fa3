/* attempt.h - connect() finds somebody who serves the address: instance after instance, of this node and
 * of others, until one takes the connection.
 *
 * On this node that is told at once. Another node's answer takes a while: the call is parked meanwhile and
 * made again when there is one (remote/dial.h). Workers. */
#ifndef TRAPHANDLER_ATTEMPT_H
#define TRAPHANDLER_ATTEMPT_H

#include "traphandler/conn/standin.h"

struct attempt {
	const struct sock *s; /* the app's socket, and where it is to go */
	const struct as_endpoint *dest;
	bool carry; /* in: by TCP of its own rather than a stand-in (carry.h); out: so it was */
	/* out */
	bool remote; /* with another node: a TCP socket of the host's */
	bool later;  /* ... and not yet: the program finds out */
	struct listener *
		l; /* of this node, whose it is or (-EAGAIN) who is full; referenced, or NULL */
};

/* 0: connected; the socket is in the call's slot, or it is the app's own (@carry). -EAGAIN: @l would take
 * it but for a full backlog. -EINPROGRESS: @t is parked, and over. Else -errno. */
int attempt_connect(struct trap *t, struct attempt *a);

/* The time of a blocking connect() is over. 0: it goes on without the program (SO_SNDTIMEO), as
 * attempt_connect(); else the errno to tell, negative. */
int attempt_expired(struct trap *t, struct attempt *a);

/* When a blocking connect() of @fd gives up, on the clock of now_ns(). */
uint64_t attempt_deadline(int fd);

bool non_blocking(int fd);

#endif
