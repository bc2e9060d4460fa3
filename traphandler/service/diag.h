/* diag.h - what the kernel knows of sockets: a dump over NETLINK_SOCK_DIAG (sock_diag(7)).
 *
 * It is of the namespace in which the netlink socket was made: the private one has only stand-ins,
 * all of them; an app's has its TCP.
 * One dump at a time: the caller serializes (main thread). */
#ifndef TRAPHANDLER_DIAG_H
#define TRAPHANDLER_DIAG_H

#include "traphandler/conn/names.h"

#include <stdbool.h>

struct diag_sock {
	uint64_t cookie;
	uint32_t inode, peer_inode; /* 0: no peer (left) */
	bool listening;
	struct standin_name name;
};

/* A socket for the calling thread's network namespace; fd or -errno. */
int diag_open(void);

/* Calls @fn for every stand-in (or only the listening ones). 0 or -errno. */
int diag_dump(int fd, bool listening_only, void (*fn)(void *arg, const struct diag_sock *d),
	      void *arg);

/* A connected TCP socket. */
struct diag_tcp {
	uint64_t cookie;
	struct as_endpoint local, remote;
	bool connecting;
	bool syn_data_lost; /* diag_dump_tcp_all(): a SYN with data got no answer, one without did */
};

/* Calls @fn for every one of the namespace. 0 or -errno. */
int diag_dump_tcp(int fd, void (*fn)(void *arg, const struct diag_tcp *d), void *arg);
/* The same with those that are being connected or closed. */
int diag_dump_tcp_all(int fd, void (*fn)(void *arg, const struct diag_tcp *d), void *arg);

/* SO_COOKIE of the TCP socket that hears who connects to @at; 0 if there is none. */
uint64_t diag_listener(int fd, const struct as_endpoint *at);

/* Is the socket with this inode number still there? Exact; a dump may miss one while another of
 * its hash bucket is closed. True if that cannot be told. */
bool diag_exists(int fd, uint32_t inode);

#endif
