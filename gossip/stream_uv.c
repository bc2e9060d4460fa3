#include "gossip/stream_uv.h"

#include <appswitch/util.h>

#include <fcntl.h>
#include <string.h>

#define LENGTH_LEN 4u
#define BODY_FIRST 16384u

/* Its memory belongs to libuv until on_closed(). */
struct stream_conn {
	uv_tcp_t tcp;
	struct streams *s;
	struct stream_conn *next, **link; /* who points to it; NULL: out of the list, closing */
	bool outgoing;
	struct as_endpoint peer;
	uint64_t until; /* uv_now() at which it is given up */
	uv_connect_t connect;
	/* incoming: the frame that is being read. The body grows with what has arrived, so that
	 * a length alone costs nothing. */
	uint8_t length[LENGTH_LEN];
	size_t have, want, cap; /* of length and body together; want 0: length not complete */
	uint8_t *body;
};

struct write {
	uv_write_t req;
	struct stream_conn *c;
	struct stream_frame *frame; /* NULL: the magic */
};

struct stream_frame *stream_frame_new(const struct as_endpoint *to, const void *data,
				      size_t len)
{
	struct stream_frame *f = malloc(sizeof(*f) + LENGTH_LEN + len);

	if (f == NULL)
		return NULL;
	f->next = NULL;
	f->to = *to;
	f->len = LENGTH_LEN + len;
	for (unsigned i = 0; i < LENGTH_LEN; i++)
		f->data[i] = (uint8_t)(len >> 8 * (3 - i));
	memcpy(f->data + LENGTH_LEN, data, len);
	return f;
}

static void handle_closed(struct streams *s)
{
	if (--s->n_handles == 0 && s->closing)
		s->closed(s->ctx);
}

static void on_closed(uv_handle_t *h)
{
	struct stream_conn *c = container_of(h, struct stream_conn, tcp);
	struct streams *s = c->s;

	free(c->body);
	free(c);
	handle_closed(s);
}

static void on_sweep_closed(uv_handle_t *h)
{
	handle_closed(container_of(h, struct streams, sweep));
}

static void conn_end(struct stream_conn *c) /* in any state, any number of times */
{
	struct streams *s = c->s;

	if (c->link == NULL)
		return;
	*c->link = c->next;
	if (c->next != NULL)
		c->next->link = c->link;
	c->link = NULL;
	if (c->outgoing)
		s->outgoing = --s->n_out;
	else
		s->incoming = --s->n_in;
	uv_close((uv_handle_t *)&c->tcp, on_closed);
	if (s->conns == NULL && !s->closing)
		uv_timer_stop(&s->sweep);
}

static void on_sweep(uv_timer_t *t)
{
	struct streams *s = container_of(t, struct streams, sweep);
	uint64_t now = uv_now(s->loop);

	for (struct stream_conn *c = s->conns, *next; c != NULL; c = next) {
		next = c->next;
		if (now >= c->until)
			conn_end(c);
	}
}

static struct stream_conn *conn_new(struct streams *s, bool outgoing,
				    const struct as_endpoint *peer, uint64_t limit)
{
	struct stream_conn *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	if (uv_tcp_init(s->loop, &c->tcp) < 0) {
		free(c);
		return NULL;
	}
	s->n_handles++;
	c->s = s;
	c->outgoing = outgoing;
	c->peer = *peer;
	c->until = uv_now(s->loop) + limit;
	if (s->conns == NULL)
		uv_timer_start(&s->sweep, on_sweep, s->sweep_ms, s->sweep_ms);
	c->next = s->conns;
	c->link = &s->conns;
	if (c->next != NULL)
		c->next->link = &c->next;
	s->conns = c;
	if (outgoing)
		s->outgoing = ++s->n_out;
	else
		s->incoming = ++s->n_in;
	return c;
}

/* Outgoing: the peer says nothing there, so whatever can be read is its end. */

static void on_write(uv_write_t *req, int status)
{
	struct write *w = container_of(req, struct write, req);
	struct stream_conn *c = w->c;

	if (w->frame != NULL && status == 0)
		c->s->frames_out++;
	else if (w->frame != NULL)
		c->s->frames_dropped++;
	if (status < 0)
		conn_end(c);
	else
		c->until = uv_now(c->s->loop) + c->s->out_idle_ms;
	free(w->frame);
	free(w);
}

/* Takes @f; NULL stands for the magic. */
static int conn_write(struct stream_conn *c, struct stream_frame *f)
{
	struct write *w = malloc(sizeof(*w));
	uv_buf_t buf;
	int r = -ENOMEM;

	if (w != NULL) {
		w->c = c;
		w->frame = f;
		buf = f != NULL ? uv_buf_init((char *)f->data, (unsigned)f->len)
				: uv_buf_init((char *)GOSSIP_STREAM_MAGIC, LENGTH_LEN);
		r = uv_write(&w->req, (uv_stream_t *)&c->tcp, &buf, 1, on_write);
	}
	if (r < 0) {
		free(w);
		free(f);
		c->s->frames_dropped += f != NULL;
	}
	return r;
}

static void on_alloc_nothing(uv_handle_t *h, size_t size, uv_buf_t *buf)
{
	struct stream_conn *c = container_of(h, struct stream_conn, tcp);

	(void)size;
	*buf = uv_buf_init((char *)c->length, LENGTH_LEN);
}

static void on_read_nothing(uv_stream_t *h, ssize_t n, const uv_buf_t *buf)
{
	(void)buf;
	if (n != 0)
		conn_end(container_of(h, struct stream_conn, tcp));
}

static void on_connect(uv_connect_t *req, int status)
{
	struct stream_conn *c = container_of(req, struct stream_conn, connect);

	if (c->link == NULL)
		return;
	if (status < 0 ||
	    uv_read_start((uv_stream_t *)&c->tcp, on_alloc_nothing, on_read_nothing) < 0) {
		conn_end(c);
		return;
	}
	c->until = uv_now(c->s->loop) + c->s->out_idle_ms;
}

/* Room for one more: the one that has been silent longest goes, if nothing waits in it. */
static bool make_room(struct streams *s)
{
	struct stream_conn *idle = NULL;

	if (s->n_out < STREAM_OUT_MAX)
		return true;
	for (struct stream_conn *c = s->conns; c != NULL; c = c->next) {
		if (c->outgoing &&
		    uv_stream_get_write_queue_size((uv_stream_t *)&c->tcp) == 0 &&
		    (idle == NULL || c->until < idle->until))
			idle = c;
	}
	if (idle == NULL)
		return false;
	conn_end(idle);
	return true;
}

static struct stream_conn *conn_to(struct streams *s, const struct as_endpoint *to)
{
	struct sockaddr_storage sa;
	struct stream_conn *c;

	for (c = s->conns; c != NULL; c = c->next) {
		if (c->outgoing && c->peer.port == to->port &&
		    as_addr_eq(&c->peer.addr, &to->addr))
			return c;
	}
	if (!make_room(s))
		return NULL;
	c = conn_new(s, true, to, s->connect_ms);
	if (c == NULL)
		return NULL;
	as_endpoint_to_sockaddr(to, as_addr_family(&to->addr), &sa);
	if (uv_tcp_connect(&c->connect, &c->tcp, (struct sockaddr *)&sa, on_connect) < 0 ||
	    conn_write(c, NULL) < 0) {
		conn_end(c);
		return NULL;
	}
	(void)uv_tcp_nodelay(&c->tcp, 1); /* a step of a transfer waits for the last */
	s->connects++;
	return c;
}

void streams_send(struct streams *s, struct stream_frame *f)
{
	struct stream_conn *c = NULL;

	if (!s->closing && (!s->loopback_only || as_addr_is_loopback(&f->to.addr)))
		c = conn_to(s, &f->to);
	if (c == NULL || uv_stream_get_write_queue_size((uv_stream_t *)&c->tcp) + f->len >
				 STREAM_QUEUE_MAX) {
		s->frames_dropped++;
		free(f);
		return;
	}
	if (conn_write(c, f) < 0)
		conn_end(c);
}

/* Incoming: a length, a body, and again. */

static void on_alloc(uv_handle_t *h, size_t size, uv_buf_t *buf)
{
	struct stream_conn *c = container_of(h, struct stream_conn, tcp);
	size_t got;

	(void)size;
	*buf = uv_buf_init(NULL, 0); /* no memory: the read fails and ends it */
	if (c->want == 0) {
		*buf = uv_buf_init((char *)c->length + c->have,
				   (unsigned)(LENGTH_LEN - c->have));
		return;
	}
	got = c->have - LENGTH_LEN;
	if (got == c->cap) {
		size_t cap = c->cap == 0 ? BODY_FIRST : c->cap * 2;
		uint8_t *body;

		if (cap > c->want - LENGTH_LEN)
			cap = c->want - LENGTH_LEN;
		body = realloc(c->body, cap);
		if (body == NULL)
			return;
		c->body = body;
		c->cap = cap;
	}
	*buf = uv_buf_init((char *)c->body + got, (unsigned)(c->cap - got));
}

static bool take_length(struct stream_conn *c)
{
	size_t len = 0;

	for (unsigned i = 0; i < LENGTH_LEN; i++)
		len = len << 8 | c->length[i];
	if (len == 0 || len > GOSSIP_FRAME_MAX)
		return false;
	c->want = LENGTH_LEN + len;
	return true;
}

static bool take_frame(struct stream_conn *c)
{
	bool good = c->s->frame(c->s->ctx, &c->peer, c->body, c->want - LENGTH_LEN);

	free(c->body);
	c->body = NULL;
	c->have = c->want = c->cap = 0;
	/* only a whole frame counts: a byte now and then keeps nobody's place */
	c->until = uv_now(c->s->loop) + c->s->in_idle_ms;
	return good;
}

static void on_read(uv_stream_t *h, ssize_t n, const uv_buf_t *buf)
{
	struct stream_conn *c = container_of(h, struct stream_conn, tcp);

	(void)buf;
	if (n < 0) {
		conn_end(c);
		return;
	}
	c->have += (size_t)n;
	if (c->want == 0 && c->have == LENGTH_LEN && !take_length(c))
		conn_end(c);
	else if (c->want != 0 && c->have == c->want && !take_frame(c))
		conn_end(c);
}

static bool welcome(const struct streams *s, const struct as_endpoint *from)
{
	unsigned n = 0;

	if (s->closing || s->n_in >= STREAM_IN_MAX ||
	    (s->loopback_only && !as_addr_is_loopback(&from->addr)))
		return false;
	for (const struct stream_conn *c = s->conns; c != NULL; c = c->next)
		n += !c->outgoing && as_addr_eq(&c->peer.addr, &from->addr);
	return n < STREAM_PER_SOURCE;
}

void streams_adopt(struct streams *s, int fd)
{
	_cleanup_close_ int mine = fd;
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	struct as_endpoint from;
	struct stream_conn *c;

	if (getpeername(fd, (struct sockaddr *)&sa, &len) < 0 ||
	    as_endpoint_from_sockaddr(&sa, len, &from) < 0 || !welcome(s, &from)) {
		s->refused++;
		return;
	}
	c = conn_new(s, false, &from, s->in_idle_ms);
	if (c == NULL || uv_tcp_open(&c->tcp, fd) < 0) {
		s->refused++;
		if (c != NULL)
			conn_end(c);
		return;
	}
	fd_steal(&mine);
	s->adopted++;
	if (uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) < 0)
		conn_end(c);
}

void streams_init(struct streams *s)
{
	(void)uv_timer_init(s->loop, &s->sweep); /* cannot fail */
	s->n_handles = 1;
	s->connect_ms = STREAM_CONNECT;
	s->out_idle_ms = STREAM_OUT_IDLE;
	s->in_idle_ms = STREAM_IN_IDLE;
	s->sweep_ms = STREAM_SWEEP;
}

void streams_close(struct streams *s)
{
	s->closing = true;
	while (s->conns != NULL)
		conn_end(s->conns);
	uv_close((uv_handle_t *)&s->sweep, on_sweep_closed);
}
