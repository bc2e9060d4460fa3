#include "gossip/packet.h"

#include "gossip/mix.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

void packet_init(struct packet_io *io, const struct gossip_aead *aead, uint64_t session)
{
	*io = (struct packet_io){ .aead = *aead, .session = session };
}

void packet_done(struct packet_io *io)
{
	free(io->replay);
	io->replay = NULL;
}

static struct replay *slot_of(struct replay *tab, uint32_t cap, uint64_t session)
{
	uint32_t i = (uint32_t)mix64(session) & (cap - 1);

	while (tab[i].seen != 0 && tab[i].session != session)
		i = (i + 1) & (cap - 1);
	return &tab[i];
}

static int replay_grow(struct packet_io *io)
{
	uint32_t cap = io->cap_replay ? io->cap_replay * 2 : 16;
	struct replay *tab = calloc(cap, sizeof(*tab));

	if (tab == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < io->cap_replay; i++) {
		if (io->replay[i].seen != 0)
			*slot_of(tab, cap, io->replay[i].session) = io->replay[i];
	}
	free(io->replay);
	io->replay = tab;
	io->cap_replay = cap;
	return 0;
}

/* Was @counter of @session here before? Sessions are only remembered once authentic. */
static bool replay_seen(const struct packet_io *io, uint64_t session, uint64_t counter)
{
	const struct replay *s;

	if (io->cap_replay == 0)
		return false;
	s = slot_of(io->replay, io->cap_replay, session);
	if (s->seen == 0 || counter > s->highest)
		return false;
	return s->highest - counter >= 64 || (s->seen >> (s->highest - counter) & 1);
}

static int replay_note(struct packet_io *io, uint64_t session, uint64_t counter)
{
	struct replay *s;

	if ((io->n_replay + 1) * 4 > io->cap_replay * 3) {
		if (io->n_replay >= REPLAY_MAX) {
			/* a full table is 65536 restarts: begin again */
			memset(io->replay, 0, io->cap_replay * sizeof(*io->replay));
			io->n_replay = 0;
		} else if (replay_grow(io) < 0) {
			return -ENOMEM;
		}
	}
	s = slot_of(io->replay, io->cap_replay, session);
	if (s->seen == 0) {
		*s = (struct replay){ .session = session, .highest = counter, .seen = 1 };
		io->n_replay++;
	} else if (counter > s->highest) {
		uint64_t by = counter - s->highest;

		s->seen = by < 64 ? s->seen << by | 1 : 1;
		s->highest = counter;
	} else {
		s->seen |= (uint64_t)1 << (s->highest - counter);
	}
	return 0;
}

struct wr packet_begin(uint8_t *buf, size_t cap)
{
	return (struct wr){ .p = buf + WIRE_HEADER_LEN,
			    .cap = cap - WIRE_HEADER_LEN - WIRE_TAG_LEN };
}

long packet_seal(struct packet_io *io, uint8_t *buf, const struct wr *w)
{
	struct wire_header h = { .version = WIRE_VERSION,
				 .compat = WIRE_VERSION_MIN,
				 .key_id = io->aead.key_id(io->aead.ctx),
				 .session = io->session,
				 .counter = ++io->counter };
	int r;

	wire_put_header(buf, &h);
	r = io->aead.seal(io->aead.ctx, h.session, h.counter, buf, WIRE_HEADER_LEN, w->p,
			  w->len, w->p + w->len);
	return r < 0 ? r : (long)(WIRE_HEADER_LEN + w->len + WIRE_TAG_LEN);
}

int packet_open(struct packet_io *io, const uint8_t *buf, size_t len, uint8_t *out,
		struct rd *ret)
{
	struct wire_header h;
	size_t body;
	int r;

	if (len < WIRE_HEADER_LEN + WIRE_TAG_LEN)
		return -EBADMSG;
	r = wire_get_header(buf, len, &h);
	if (r < 0)
		return r;
	if (h.session == io->session)
		return -ELOOP;
	if (replay_seen(io, h.session, h.counter))
		return -EALREADY;
	body = len - WIRE_HEADER_LEN - WIRE_TAG_LEN;
	r = io->aead.open(io->aead.ctx, h.key_id, h.session, h.counter, buf, WIRE_HEADER_LEN,
			  buf + WIRE_HEADER_LEN, body, buf + WIRE_HEADER_LEN + body, out);
	if (r < 0)
		return r;
	r = replay_note(io, h.session, h.counter);
	if (r < 0)
		return r;
	*ret = (struct rd){ .p = out, .left = body };
	return 0;
}
