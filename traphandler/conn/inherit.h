/* inherit.h - options that an accepted socket has from its listener.
 *
 * TCP's accepted sockets are copies of the listener with all that was set on it; AF_UNIX's start
 * from the defaults. What differs from the default is read from the listening stand-in now and
 * then, and set on each accepted one. Thread-safe. */
#ifndef TRAPHANDLER_INHERIT_H
#define TRAPHANDLER_INHERIT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define INHERIT_OPTS	 10
#define INHERIT_PROTOCOL 27

struct inherit {
	pthread_mutex_t lock;
	uint64_t read_ms; /* 0: never */
	uint32_t set;	  /* bit i: option i differs from its default */
	char values[INHERIT_OPTS][16];
	uint64_t protocol_read_ms;
	uint32_t protocol_set;
	char protocol[INHERIT_PROTOCOL][16];
};

void inherit_init(struct inherit *in);
void inherit_done(struct inherit *in);

/* Sets on @fd what @listening (-1: as last read) has. */
void inherit_apply(struct inherit *in, int listening, int fd);

/* The rest, for an accepted socket that is TCP: what the anchor has of TCP's and IP's options. */
void inherit_protocol(int anchor, int fd);
/* The same as last read: only what differs from @usual, a TCP socket on which nothing was set. */
void inherit_apply_protocol(struct inherit *in, int anchor, int usual, int fd);

/* What was set on @old, which was never connected, to @fd, which is not connected yet. */
void inherit_unconnected(int old, int fd);

#endif
