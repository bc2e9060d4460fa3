/* names.h - the abstract names of stand-ins: where a local connection keeps its addresses.
 *
 * A stand-in is an AF_UNIX stream socket in the daemon's private network namespace. The client
 * end is bound to a name that is the 4-tuple, so binding makes the tuple unique (also across a
 * daemon restart); a listener's name says whose it is, and the accepted end inherits it
 * (unix(7): getsockname). So getsockname and getpeername need no table.
 *
 *   client   \0 a s 1 C | network u32 | vip 16 | client 16+2 | server 16+2
 *   listener \0 a s 1 L | network u32 | face u8 | app u32 | anchor u64
 *   bell     \0 a s 1 B | anchor u64 | random u64     a connection that carries nobody
 *   carrier  \0 a s 1 T | anchor u64 | random u64     says that TCP connections wait (waiting.h)
 *
 * vip is the server's virtual IP: for a connection through loopback it says whose loopback.
 * Integers are in host order: a name never leaves the host. Pure; no allocation. */
#ifndef TRAPHANDLER_NAMES_H
#define TRAPHANDLER_NAMES_H

#include <appswitch/addr.h>

#include <sys/un.h>

enum name_kind {
	NAME_NONE,
	NAME_CLIENT = 'C',
	NAME_LISTENER = 'L',
	NAME_BELL = 'B',
	NAME_CARRIER = 'T'
};

struct standin_name {
	enum name_kind kind;
	uint32_t network;
	/* client */
	struct as_addr vip;
	struct as_endpoint client, server;
	/* listener, bell, carrier */
	uint8_t face;
	uint32_t app;
	uint64_t anchor;
	uint64_t nonce;
};

/* Returns the sockaddr's length. */
socklen_t name_encode(const struct standin_name *name, struct sockaddr_un *ret);

/* NAME_NONE if @sa is no stand-in's; *ret is written only otherwise. */
enum name_kind name_decode(const struct sockaddr_un *sa, socklen_t len,
			   struct standin_name *ret);
/* The same from the bytes after sun_family, as unix_diag(7) gives them. */
enum name_kind name_decode_path(const char *path, size_t len, struct standin_name *ret);

#endif
