/* remote.h - connections between nodes: one TCP port for all of them.
 *
 *   connect() at the client's node (dial.h): a socket of the host's namespace is connected to the
 *             node of the chosen instance; the hello (hello.h) goes ahead of the app's bytes, in the SYN
 *             if it may (RFC 7413). The socket is put in the app's place; nothing is read back
 *   accept()  at the server's node (arrive.h): the hello is read, checked, and the rest is the app's: the
 *             socket waits with the listener (conn/waiting.h)
 *
 * Both ends are kernel TCP sockets of the hosts' namespaces (SOCK_REMOTE). The addresses that the
 * programs see are in a record by SO_COOKIE (service/sockrec.h); each is guarded (guard.h).
 *
 * One thread, in the private namespace, waits for what takes time: hellos, handshakes, ends of sockets. */
#ifndef TRAPHANDLER_REMOTE_H
#define TRAPHANDLER_REMOTE_H

#include "traphandler/remote/hello.h"
#include "traphandler/switch.h"

struct mac;
struct remote;

struct remote_config {
	uint64_t id;
	uint32_t generation, previous_generation; /* hello.h */
	bool generation_stored;			  /* hello.h, started_us */
	struct as_endpoint listen;		  /* where node_tcp_fd is bound */
	struct mac *mac;			  /* borrowed */
	bool loopback_only; /* for a node without a secret key: what comes from elsewhere is reset */
	/* A connection that begins with @magic is no hello: @fd, of which these bytes were read, is
	 * the callee's. On the remote thread. */
	const char *magic;
	void (*stream)(void *arg, int fd);
	void *arg;
};

/* Opens the node's sockets, bound to @at, into the state, where a later daemon finds them; those of
 * an earlier one, bound to the same address, are kept. Main thread, in the host's namespace. 0 or -errno. */
int remote_open(struct switch_ctx *sw, const struct as_endpoint *at);

/* Closes what an earlier daemon opened, for one that is in no cluster: nobody would accept there. */
void remote_close(struct switch_ctx *sw);

/* Main thread, in the host's namespace. sw->remote is set on success. 0 or -errno. */
int remote_start(struct switch_ctx *sw, const struct remote_config *c);
/* Others know this node by another generation from now on (gossip.h). Any thread; accepts that there is no
 * remote. */
void remote_set_generation(struct switch_ctx *sw, uint32_t generation);
/* Ends the thread: what comes from now on is the next daemon's. Workers may still dial. */
void remote_stop(struct switch_ctx *sw);
/* After the workers. Accepts that there is none. */
void remote_free(struct switch_ctx *sw);

/* Looks which connections are open; @now: even if it was looked a moment ago. Main thread. */
void remote_refresh(struct switch_ctx *sw, bool now);

/* Since the start. Any thread. */
struct remote_stats {
	/* accepted: handed to a listener. bad_hellos: reset for what they said or did not say, replays are
	 * some of them. refused: of a good hello, but nobody here takes it */
	uint64_t accepted, bad_hellos, replays, refused;
};
struct remote_stats remote_stats(const struct switch_ctx *sw);

#endif
