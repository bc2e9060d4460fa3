/* state.h - what must outlive the daemon: one memfd, mapped shared.
 *
 * The memfd and every fd it names by number stay alive in the holder (holder.h), a process that
 * shares the daemon's file descriptor table. A new daemon reads the dead one's state, takes the
 * fds with pidfd_getfd(2) and goes on. Therefore:
 *  - seccomp notifications are received *into* it (struct st_call), so that there is no instant
 *    at which a received call is known to nobody;
 *  - an entry is valid from the store of its key (id, cookie) on, which is the last store of
 *    its making and the first of its undoing;
 *  - nothing in it is a pointer.
 * The file is sparse: only touched pages cost memory. Writers hold sw->lock, except for a call
 * slot, which belongs to the worker that services it. */
#ifndef TRAPHANDLER_STATE_H
#define TRAPHANDLER_STATE_H

#include <appswitch/addr.h>

#include <linux/seccomp.h>
#include <stdint.h>

#define ST_MAGIC     0x61737377u
#define ST_VERSION   4u
#define ST_APPS	     4096u
#define ST_LISTENERS 16384u
#define ST_CALLS     8192u
#define ST_SOCKS     262144u
#define ST_PIDS	     16u
#define ST_OPTS	     8u
#define ST_ITEMS     4u
#define ST_SEEN	     262144u

struct st_header {
	uint32_t magic, version;
	uint32_t next_app;
	uint32_t apps_high; /* app entries from here on were never used */
	uint32_t pids_used;
	uint32_t dismissed;    /* a new daemon has taken everything: the holder may go */
	int32_t pids[ST_PIDS]; /* of the daemons so far: whose stand-ins are genuine */
	/* fd numbers in the table that daemon and holder share, or -1 */
	int32_t userns_fd, pns_fd, holder_sock_fd, ctl_sock_fd, lock_fd;
	int32_t statedir_fd;  /* the lock of the state directory (cluster/statedir.h) */
	uint32_t draining;    /* the whole node */
	uint32_t socks_high;  /* records from here on were never used */
	uint64_t host_cookie; /* SO_NETNS_COOKIE of the namespace the daemon serves */
	int32_t node_tcp_fd, node_udp_fd; /* of the port for other nodes, or -1 */
	uint32_t node_generation;	  /* under which other nodes know the daemon ... */
	uint64_t node_id;		  /* ... and this is who it is; 0: nobody knows it */
	uint32_t ended; /* the daemon was told to end: the next one comes soon */
	char holder_path[108], ctl_path[108], lock_path[120];
	char node[64];
};

/* How far a call got: what a resumed or restarted one need not do again. */
enum st_stage {
	ST_RECEIVED,
	ST_READY,    /* accept: .fd is the listener it waited on; nothing taken yet */
	ST_STANDIN,  /* connect: .fd is the stand-in, perhaps connected, not yet with the app */
	ST_ACCEPTED, /* accept: .fd is the accepted connection, not yet with the app */
	ST_INSTALLED, /* accept: .fd is with the app at .at; perhaps it was told so */
	ST_TELLING,   /* accept: a child installs .fd and tells; then ST_ACCEPTED or ... */
	ST_TOLD,      /* ... this: the call is over */
	ST_CONNECTED, /* connect: the app has the connection at its number */
};

/* An epoll registration of the file that a call replaces. */
struct st_item {
	int32_t epfd, fdno;
	uint32_t events, pad;
	uint64_t data;
};

struct st_call {
	struct seccomp_notif notif; /* written by the kernel; .id == 0: free */
	uint32_t app;
	uint32_t stage;
	int32_t fd, at;
	uint64_t
		cookie; /* accept: of the anchor of the listener .fd is from; connect: of the app's own
			       * socket */
	uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0: none yet */
	/* connect, listen: what is lost with the old file until it is put back */
	uint32_t n_items;
	struct st_item items[ST_ITEMS];
};

struct st_app {
	uint32_t id;	     /* 0: free */
	int32_t listener_fd; /* -1: registered, but not attached; stored after the rest */
	int32_t probe_fd;
	int32_t pid;
	int64_t started; /* CLOCK_REALTIME, s */
	uint64_t netns_cookie;
	uint8_t draining;
	char reg[1983]; /* the registration, JSON */
};

struct st_listener {
	uint64_t anchor; /* SO_COOKIE of the anchor; 0: free */
	uint32_t app;
	int32_t anchor_fd;
	struct as_addr bound;
	uint16_t port;
	uint8_t face; /* AF_INET or AF_INET6 */
	uint8_t v6only;
	int32_t pid, fdno;
	uint32_t serial; /* order of listen() */
};

/* A record about one socket: the connection it is the client end of, or options. */
enum st_sock_kind {
	ST_SOCK_CONN = 1,
	ST_SOCK_OPTS,
	ST_SOCK_REFUSED,
	ST_SOCK_CONGESTION,
	ST_SOCK_REMOTE
};

struct st_opt {
	uint16_t level, name;
	int32_t value;
};

/* A TCP connection with another node (remote/remote.h), of which the socket is one end. */
struct st_remote {
	struct as_endpoint local, peer; /* as the program sees them */
	uint8_t face;			/* AF_INET or AF_INET6: what the program takes it for */
	uint8_t server : 1;		/* the server's end ... */
	uint8_t waits : 1;		/* ... which the app has not got yet */
	uint8_t unseen : 1;		/* client's end: nobody has looked how its SYN fared */
	uint8_t missed;			/* looks in a row that did not find it open */
	uint8_t pad;
	uint64_t anchor; /* server's end: of the listener */
	uint64_t node;	 /* the other end's */
	uint32_t app;	 /* the other end's, on its node */
	uint32_t network;
};

struct st_sock {
	uint64_t cookie; /* SO_COOKIE; 0: free */
	uint32_t next;	 /* further record of the same socket, index + 1; 0: none */
	uint16_t kind;
	uint16_t n;
	uint32_t since; /* CLOCK_BOOTTIME, s */
	uint32_t app;	/* conn: the client's; others: 1 if the socket is a stand-in */
	union {
		struct {
			uint32_t server_app;
			uint32_t carried; /* 1: by TCP, and announced (conn/carry.h) */
			uint64_t server_anchor;
		} conn;
		struct st_opt opts[ST_OPTS];
		char congestion[16];
		struct st_remote remote;
	};
};

struct seen_entry;

struct state {
	int fd;
	struct st_header *h;
	struct st_call *calls;
	struct st_app *apps;
	struct st_listener *listeners;
	struct st_sock *socks;
	struct seen_entry *seen; /* ST_SEEN of them (remote/seen.h) */
};

/* A new, empty one. 0 or -errno. */
int state_create(struct state *ret);
/* Maps an existing one. -EPROTO if it is not of this version. */
int state_map(int fd, struct state *ret);
void state_unmap(struct state *st);

#endif
