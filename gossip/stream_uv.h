/* stream_uv.h - the TCP connections that carry gossip frames. For gossip_uv.c only, which has
 * the format; loop thread only, but for the counters.
 *
 * Every number is bounded: connections out and in, in from one address, bytes that wait for one
 * connection, time to connect, time without a whole frame. What is beyond a bound is dropped. */
#ifndef GOSSIP_STREAM_UV_H
#define GOSSIP_STREAM_UV_H

#include "gossip/gossip_uv.h"

#include <stdatomic.h>

#define STREAM_OUT_MAX	  64u
#define STREAM_IN_MAX	  256u
#define STREAM_PER_SOURCE 8u
/* Bytes that wait in one connection: a few of the largest frames. One step of 16 kB is in
 * flight per transfer, so only a peer that has stopped reading gets there. */
#define STREAM_QUEUE_MAX (4u * (GOSSIP_FRAME_MAX + 4u))
/* milliseconds, looked at each STREAM_SWEEP */
#define STREAM_CONNECT	5000u
#define STREAM_OUT_IDLE 30000u
#define STREAM_IN_IDLE	60000u
#define STREAM_SWEEP	1000u

/* A frame on its way out, its length in front. */
struct stream_frame {
	struct stream_frame *next;
	struct as_endpoint to;
	size_t len;
	uint8_t data[];
};
/* A copy of the bytes; NULL: no memory. */
struct stream_frame *stream_frame_new(const struct as_endpoint *to, const void *data,
				      size_t len);

struct stream_conn;
struct streams {
	uv_loop_t *loop;
	bool loopback_only, closing;
	uint32_t connect_ms, out_idle_ms, in_idle_ms,
		sweep_ms; /* as above; tests are quicker */
	uint32_t n_out, n_in, n_handles;
	struct stream_conn *conns;
	uv_timer_t sweep;
	void *ctx;
	/* @data is borrowed. False: end the connection. */
	bool (*frame)(void *ctx, const struct as_endpoint *from, const void *data, size_t len);
	void (*closed)(void *ctx);
	atomic_uint_least64_t frames_out, frames_dropped, connects, adopted, refused;
	atomic_uint_least32_t outgoing, incoming; /* n_out and n_in for other threads */
};

/* The fields loop, loopback_only, ctx, frame and closed are the caller's to fill before. */
void streams_init(struct streams *s);
void streams_send(struct streams *s, struct stream_frame *f); /* takes @f */
void streams_adopt(struct streams *s, int fd);		      /* takes @fd */
/* closed() is called once, later, when no handle is left. */
void streams_close(struct streams *s);

#endif
