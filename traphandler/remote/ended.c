/* Which connections with other nodes are still open: a dump of the host's TCP sockets (sock_diag(7)) now and
 * then. The records of the others go.
 *
 * The kernel would also tell the end of each socket (its groups of destroyed sockets), but then it does so for
 * every TCP socket of the host, through a work queue: that took a fifth of the connections a second. */
#include "traphandler/remote/thread.h"

#include "traphandler/service/sockrec.h"

#include <appswitch/util.h>

#include <stdlib.h>

#define COST 50u /* a dump takes at most this part of the time */
#define TELLS_END_S \
	5u /* a client's socket that failed is in no dump, but the app may still have it */

struct open_sockets {
	struct remote *r;
	uint64_t *v;
	size_t n, cap;
	bool failed;
};

static void on_open(void *arg, const struct diag_tcp *d)
{
	struct open_sockets *o = arg;
	struct st_remote rec;

	if (!sockrec_get_remote(o->r->sw->socks, d->cookie, &rec))
		return;
	if (rec.unseen && !d->connecting) {
		dial_note_syn(o->r, rec.node, d->syn_data_lost);
		sockrec_remote_seen(o->r->sw->socks, d->cookie);
	}
	if (o->n == o->cap) {
		size_t cap = o->cap ? o->cap * 2 : 256;
		uint64_t *v = realloc(o->v, cap * sizeof(*v));

		if (v == NULL) {
			o->failed = true;
			return;
		}
		o->v = v;
		o->cap = cap;
	}
	o->v[o->n++] = d->cookie;
}

void remote_refresh(struct switch_ctx *sw, bool now)
{
	struct remote *r = sw->remote;
	struct open_sockets o = { .r = r };
	uint64_t begin = now_ns();

	if (r == NULL || !sockrec_any_remote(sw->socks) || (!now && begin < r->look_ns))
		return;
	if (diag_dump_tcp_all(r->diag_fd, on_open, &o) == 0 && !o.failed)
		sockrec_remote_open(sw->socks, o.v, o.n, TELLS_END_S);
	free(o.v);
	r->look_ns = now_ns() + COST * (now_ns() - begin);
}
