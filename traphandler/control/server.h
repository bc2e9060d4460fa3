/* server.h - the control socket: registrations and questions (ctl.h), on the main loop. */
#ifndef TRAPHANDLER_SERVER_H
#define TRAPHANDLER_SERVER_H

#include "traphandler/switch.h"

#include <uv.h>

struct server;

/* Serves @listen_fd (ours until server_free). NULL: no memory. */
struct server *server_new(struct switch_ctx *sw, uv_loop_t *loop, int listen_fd);
/* On each tick of the loop: who says nothing is let go, and a pause for want of fds ends. */
void server_tick(struct server *s);
/* Closes everything; the memory goes with the loop's last close callbacks. */
void server_free(struct server *s);
/* Connections now: somebody may be about to register. */
unsigned server_clients(const struct server *s);

#endif
