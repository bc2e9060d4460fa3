/* daemon.h - the daemon as one call: wires the parts together and runs until it is told to end
 * (SIGTERM, SIGINT) or, embedded, until its last app has ended. */
#ifndef TRAPHANDLER_DAEMON_H
#define TRAPHANDLER_DAEMON_H

#include <appswitch/addr.h>
#include <appswitch/log.h>

#include <stdbool.h>
#include <stddef.h>

#define DAEMON_CLUSTER_PORT 6660 /* UDP and TCP, where none is said */

struct daemon_config {
	const char *socket; /* path of the control socket */
	const char *node;   /* this node's name */
	enum log_level log;
	int ready_fd; /* gets one byte when traps and requests are served; -1: none */
	bool embedded;
	/* the cluster; the rest is 0 and NULL without it */
	bool clustered;
	struct as_endpoint listen;    /* of this host; may be any address */
	struct as_endpoint advertise; /* where the others reach it */
	const struct as_endpoint *joins;
	size_t n_joins;
	const char *join_file; /* more of them (cluster/seeds.h), or NULL */
	const char *key_file;  /* keyring.h; NULL: loopback addresses only */
	const char *zone;      /* NULL: none */
	bool guard_optional;   /* remote/guard.h */
	const char *state_dir; /* cluster/statedir.h */
};

/* 0, or -errno after one logged line; -EADDRINUSE: another daemon has the socket. */
int daemon_run(const struct daemon_config *cfg);

#endif
