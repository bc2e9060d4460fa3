/* thread.h - what the parts of remote/ share: the thread that waits, and its state. Internal. */
#ifndef REMOTE_THREAD_H
#define REMOTE_THREAD_H

#include "traphandler/service/passed_over.h"
#include "traphandler/remote/remote.h"
#include "traphandler/service/diag.h"

#include <appswitch/log.h>

struct dial;
struct half;
struct seen;

/* Where an event of the thread's epoll set belongs. */
enum watched { WATCH_WAKE = 1, WATCH_LISTENER, WATCH_HALF, WATCH_DIAL };

/* Nodes to which a SYN with data is lost on the way, as so many in a row seem to say. */
#define SYN_DATA_TRIES 3u
#define NO_SYN_DATA    64u
#define NO_SYN_DATA_S  3600u

/* Counts of connections are gossiped once a second; what this node has added since, it knows itself. */
#define DIALLED	   1024u
#define DIALLED_MS 1500u

struct remote {
	struct switch_ctx *sw;
	struct remote_config c;
	/* config's generation and, in the upper half, the one before: they change together */
	atomic_ullong generations;
	int64_t started_us;
	int epoll_fd, wake_fd;
	int diag_fd,
		view_diag_fd; /* NETLINK_SOCK_DIAG in the host's namespace: the thread's, the main thread's */
	pthread_t thread;
	atomic_bool stopping;
	atomic_bool idle; /* it sleeps for long: who wants its ticks wakes it, remote_busy() */
	/* the thread's own */
	struct half *halves;
	unsigned n_halves;
	struct seen *seen;
	/* the main thread's */
	uint64_t look_ns; /* not earlier it is looked again which sockets are open */
	/* from here on under lock; who takes sw->lock too takes that first */
	pthread_mutex_t lock;
	struct dial *dials;
	struct passed_over passed_over;
	struct {
		uint64_t key, version, since_ms;
		uint32_t n;
	} dialled[DIALLED]; /* by key: connections made since the version came */
	struct {
		uint64_t node;
		uint32_t until_s; /* sockrec_now() */
		uint32_t times;
	} no_syn_data[NO_SYN_DATA];
	unsigned no_syn_data_next;

	atomic_ullong accepted, bad_hellos, replays, refused;
};

/* There is something in @dials: the thread's ticks are wanted. */
void remote_busy(struct remote *r);
/* 0 or -errno. @id says which of its kind. */
int remote_watch(struct remote *r, int fd, enum watched what, uint32_t id, uint32_t events);

/* Thread: connections that come in (arrive.c). */
void arrive_accept(struct remote *r);
void arrive_ready(struct remote *r, uint32_t id);
void arrive_tick(struct remote *r, uint64_t now_ns);
void arrive_done(struct remote *r);

/* Thread: connections that go out (dial.c). */
void dial_ready(struct remote *r, uint32_t slot);
void dial_tick(struct remote *r, uint64_t now_ns);
void dial_done(struct remote *r);

/* A SYN with data to @node got no answer and one without did (@lost), or it got one. */
void dial_note_syn(struct remote *r, uint64_t node, bool lost);

#endif
