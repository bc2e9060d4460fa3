/* listen.h - bind(), listen(), dup(): a listener's life from anchor to end. */
#ifndef TRAPHANDLER_LISTEN_H
#define TRAPHANDLER_LISTEN_H

#include "traphandler/conn/standin.h"

void handle_bind(struct trap *t);
void handle_listen(struct trap *t);
void handle_dup(struct trap *t);

/* A copy of @l's listening stand-in, from wherever it can be had. An fd (the caller's) or -1. */
int listener_fetch(struct trap *t, struct listener *l);

/* shutdown(SHUT_RD) of a listening stand-in: the app gets its own socket back, which the kernel has
 * out of LISTEN; who waited in the queue is reset. Takes @kept, what an earlier round of the call left
 * in its slot, or -1. Ends @t. */
void listen_shutdown(struct trap *t, struct sock *s, int kept);

/* Ends the listeners whose stand-ins are gone. Worker or a thread in the private namespace;
 * cheap: one dump of listening sockets. */
void listen_sweep(struct switch_ctx *sw);

#endif
