/* sockrec.h - small records about sockets, by SO_COOKIE, kept in the state memfd.
 *
 * One kind says since when a connection exists and between whom; another holds the values of
 * options that an AF_UNIX socket cannot hold itself; a third the addresses of a TCP connection with
 * another node. A dense array in the memfd plus an index
 * in private memory, rebuilt by a new daemon: 88 + 10 bytes a record.
 * Each record counts for the app (an id) that caused it, which has no more than its share (quota.h);
 * who caused an option record is forgotten with the daemon.
 * Thread-safe (a lock of its own). Records of closed sockets go by sockrec_sweep(). */
#ifndef TRAPHANDLER_SOCKREC_H
#define TRAPHANDLER_SOCKREC_H

#include "traphandler/state/state.h"

#include <stdbool.h>

struct sockrec;

struct sockrec *sockrec_new(struct state *st); /* NULL: no memory; indexes what is there */
struct sockrec *sockrec_free(struct sockrec *s);

/* A connection's record; silently nothing if there is no room (it is only for display). */
void sockrec_add_conn(struct sockrec *s, uint64_t cookie, uint32_t app, uint32_t server_app,
		      uint64_t server_anchor);
/* The same of a TCP connection (conn/carry.h), whose server end has @cookie. 0 or -ENOMEM: it is
 * needed. It counts from the second call on. */
int sockrec_add_carried(struct sockrec *s, uint64_t cookie, uint32_t app, uint32_t server_app,
			uint64_t server_anchor);
void sockrec_announced(struct sockrec *s, uint64_t cookie);
bool sockrec_get_conn(struct sockrec *s, uint64_t cookie, struct st_sock *ret);

/* One end of a TCP connection with another node. 0 or -ENOMEM: it is needed. Sweeps leave it alone. */
int sockrec_add_remote(struct sockrec *s, uint64_t cookie, uint32_t app,
		       const struct st_remote *remote);
bool sockrec_get_remote(struct sockrec *s, uint64_t cookie, struct st_remote *ret);
/* Has the app got the server's end @cookie? */
void sockrec_remote_waits(struct sockrec *s, uint64_t cookie, bool waits);
/* It was looked how its SYN fared. */
void sockrec_remote_seen(struct sockrec *s, uint64_t cookie);
bool sockrec_any_remote(struct sockrec *s);
/* These (sorted here) were found open. A record goes when it was not found so for SOCKREC_MISSES times in a
 * row: a dump may miss one while others of its hash bucket are closed. That of a client's end must also be
 * older than @client_s. */
#define SOCKREC_MISSES 3
void sockrec_remote_open(struct sockrec *s, uint64_t *cookies, size_t n, uint32_t client_s);
/* Calls @fn for each of them, with all that is known; it must not call back. */
void sockrec_each_remote(struct sockrec *s, void (*fn)(void *arg, const struct st_sock *rec),
			 void *arg);
/* Everything about a socket that was closed. */
void sockrec_forget(struct sockrec *s, uint64_t cookie);

/* Option values. 0 or -ENOMEM. */
int sockrec_set_opt(struct sockrec *s, uint32_t app, uint64_t cookie, bool standin, int level,
		    int name, int value);
bool sockrec_get_opt(struct sockrec *s, uint64_t cookie, int level, int name, int *ret);
int sockrec_set_congestion(struct sockrec *s, uint32_t app, uint64_t cookie, bool standin,
			   const char name[16]);
bool sockrec_get_congestion(struct sockrec *s, uint64_t cookie, char ret[16]);
/* What was set on the old socket is now the new one's, a stand-in. */
void sockrec_move(struct sockrec *s, uint64_t from, uint64_t to);
/* Was anything set on that very socket? */
bool sockrec_has_opts(struct sockrec *s, uint64_t cookie);
/* True if there is any option record at all: most sockets cost no look-up. */
bool sockrec_any_opts(struct sockrec *s);

/* A native socket on which a refused non-blocking connect is still to be told. */
void sockrec_mark_refused(struct sockrec *s, uint32_t app, uint64_t cookie);
bool sockrec_take_refused(struct sockrec *s, uint64_t cookie);

/* Frees the records of sockets not in @live (sorted) that are older than @before_s and, for
 * sockets that are no stand-ins, older than an hour. */
void sockrec_sweep(struct sockrec *s, const uint64_t *live, size_t n, uint32_t before_s);
size_t sockrec_count(struct sockrec *s);
uint32_t sockrec_now(void);

#endif
