/* daemon.h - the daemon as one call: wires the parts together and runs until it is told to end
 * (SIGTERM, SIGINT) or, embedded, until its last app has ended. */
#ifndef TRAPHANDLER_DAEMON_H
#define TRAPHANDLER_DAEMON_H

#include <appswitch/log.h>

#include <stdbool.h>

struct daemon_config {
	const char *socket; /* path of the control socket */
	const char *node;   /* this node's name */
	enum log_level log;
	int ready_fd; /* gets one byte when traps and requests are served; -1: none */
	bool embedded;
};

/* 0, or -errno after one logged line; -EADDRINUSE: another daemon has the socket. */
int daemon_run(const struct daemon_config *cfg);

#endif
