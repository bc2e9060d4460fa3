/* Rumour mongering with a counter (Demers et al. 1987): an item is sent to so many random peers
 * that the chance of any node missing it is small, and then forgotten. One slot per subject:
 * something newer about it starts again from the first send. Fewest sends first, liveness
 * before rows but never all of a packet. */
#include "gossip/core.h"

#include <appswitch/util.h>

#include <string.h>

void news_init(struct news *n)
{
	memset(n, 0, sizeof(*n));
	memset(n->first, 0xff, sizeof(n->first));
	memset(n->last, 0xff, sizeof(n->last));
	n->free = NONE;
}

void news_done(struct news *n)
{
	free(n->v);
}

static void unlink_item(struct news *n, uint32_t i)
{
	struct news_item *it = &n->v[i];

	if (it->prev != NONE)
		n->v[it->prev].next = it->next;
	else
		n->first[it->class][it->sent] = it->next;
	if (it->next != NONE)
		n->v[it->next].prev = it->prev;
	else
		n->last[it->class][it->sent] = it->prev;
}

static void link_item(struct news *n, uint32_t i, uint8_t sent)
{
	struct news_item *it = &n->v[i];
	uint32_t *last = &n->last[it->class][sent];

	it->sent = sent;
	it->next = NONE;
	it->prev = *last;
	if (*last != NONE)
		n->v[*last].next = i;
	else
		n->first[it->class][sent] = i;
	*last = i;
}

static uint32_t *ref_of(struct gossip *g, const struct news_item *it)
{
	return it->class == NEWS_MEMBER ? &g->members.m[it->what].news
					: &table_row(&g->table, it->what)->news;
}

static uint32_t new_item(struct news *n)
{
	struct news_item *v;
	uint32_t cap, i = n->free;

	if (i != NONE) {
		n->free = n->v[i].next;
		return i;
	}
	if (n->n == n->cap) {
		cap = n->cap ? n->cap * 2 : 16;
		v = realloc(n->v, cap * sizeof(*v));
		if (v == NULL)
			return NONE;
		n->v = v;
		n->cap = cap;
	}
	return n->n++;
}

static void drop_item(struct gossip *g, uint32_t i)
{
	struct news *n = &g->news;

	*ref_of(g, &n->v[i]) = NONE;
	unlink_item(n, i);
	n->count[n->v[i].class]--;
	n->v[i].next = n->free;
	n->free = i;
}

/* Without memory the item is not pushed; comparing summaries will spread it. */
static void add(struct gossip *g, enum news_class class, uint32_t what, uint32_t *ref)
{
	struct news *n = &g->news;
	uint32_t i = *ref;

	if (i != NONE) {
		unlink_item(n, i);
	} else {
		i = new_item(n);
		if (i == NONE)
			return;
		n->v[i] = (struct news_item){ .what = what, .class = (uint8_t) class };
		n->count[class]++;
		*ref = i;
	}
	link_item(n, i, 0);
}

void news_member(struct gossip *g, uint32_t i)
{
	add(g, NEWS_MEMBER, i, &g->members.m[i].news);
}

void news_row(struct gossip *g, uint32_t row)
{
	add(g, NEWS_ROW, row, &table_row(&g->table, row)->news);
}

void news_forget(struct gossip *g, uint32_t news)
{
	if (news != NONE)
		drop_item(g, news);
}

/* With c sends by everybody e^-c of the nodes are missed: ln(n) + 5 leaves one item in 150 with
 * one node to repair, one in 80 at 5 % loss. ln(n) from the number of bits. */
static uint8_t contacts(const struct gossip *g, enum news_class class)
{
	uint32_t bits = 0;

	while (g->members.n_live >> bits)
		bits++;
	bits = 5 + bits * 7 / 10;
	if (class == NEWS_ROW && g->news.count[class] > MANY && bits > CONTACT_MANY)
		bits = CONTACT_MANY;
	if (class == NEWS_MEMBER && g->news.count[class] > MANY_MEMBERS)
		bits = CONTACT_MANY / 2;
	return (uint8_t)bits;
}

/* It was sent once more: on to the next level, or done. */
static void sent(struct gossip *g, uint32_t i, uint8_t limit)
{
	struct news *n = &g->news;

	n->v[i].stamp = n->stamp;
	if (n->v[i].sent + 1 >= limit) {
		drop_item(g, i);
		return;
	}
	unlink_item(n, i);
	link_item(n, i, n->v[i].sent + 1);
}

static struct wire_member statement(const struct gossip *g, uint32_t i)
{
	return members_wire(&g->members, i, suspect_accuser(g, i));
}

static bool fill_members(struct gossip *g, struct wr *w)
{
	struct news *n = &g->news;
	uint8_t limit = contacts(g, NEWS_MEMBER);

	for (unsigned level = 0; level < NEWS_LEVELS; level++) {
		uint32_t i = n->first[NEWS_MEMBER][level], next;

		for (; i != NONE && n->v[i].stamp != n->stamp; i = next) {
			struct wire_member m = statement(g, n->v[i].what);

			next = n->v[i].next;
			if (!wire_put_member(w, &m))
				return true;
			sent(g, i, limit);
		}
	}
	return false;
}

static bool fill_rows(struct gossip *g, struct wr *w)
{
	struct news *n = &g->news;
	uint8_t limit = contacts(g, NEWS_ROW);
	uint8_t push = n->count[NEWS_ROW] > MANY ? PUSH_MANY : NEWS_LEVELS;
	struct wire_row_id offer[WIRE_UDP_MAX / WIRE_ID_LEN];
	size_t n_offer = 0;
	bool full = false;

	for (unsigned level = 0; level < NEWS_LEVELS && !full; level++) {
		uint32_t i = n->first[NEWS_ROW][level], next;

		for (; i != NONE && n->v[i].stamp != n->stamp; i = next) {
			const struct row *r = table_row(&g->table, n->v[i].what);
			struct wire_row row;
			size_t size = WIRE_ID_LEN;

			next = n->v[i].next;
			if (level < push) {
				row = table_wire(&g->table, n->v[i].what);
				size = wire_row_size(&row);
			}
			if (size > WIRE_ROW_PUSH_MAX)
				size = WIRE_ID_LEN;
			/* the offers collected so far need their place too */
			if (w->cap - w->len < size + 4 + n_offer * WIRE_ID_LEN) {
				full = true;
				break;
			}
			if (size > WIRE_ID_LEN)
				(void)wire_put_row(w, &row);
			else if (r->version >> 32 == g->table.owner[r->owner].generation)
				offer[n_offer++] =
					(struct wire_row_id){ g->table.owner[r->owner].id,
							      (uint32_t)r->version };
			sent(g, i, limit);
		}
	}
	if (n_offer > 0)
		(void)wire_put_ids(w, WIRE_OFFER, offer, n_offer);
	return full;
}

bool news_fill(struct gossip *g, struct wr *w)
{
	size_t cap = w->cap;
	bool full = false;

	if (g->news.count[NEWS_MEMBER] + g->news.count[NEWS_ROW] == 0)
		return false;
	if (++g->news.stamp == 0)
		g->news.stamp = 1;
	if (g->news.count[NEWS_ROW] > 0)
		w->cap = w->len + (w->cap - w->len) / 4 * 3;
	if (g->news.count[NEWS_MEMBER] > 0)
		full = fill_members(g, w);
	w->cap = cap;
	if (g->news.count[NEWS_ROW] > 0)
		full |= fill_rows(g, w);
	return full;
}

uint64_t news_deadline(const struct gossip *g)
{
	if (g->members.n_live == 0 || g->news.count[NEWS_MEMBER] + g->news.count[NEWS_ROW] == 0)
		return UINT64_MAX;
	return g->news.next;
}

void news_flush(struct gossip *g)
{
	bool full = true;

	if (news_deadline(g) > g->now)
		return;
	for (unsigned i = 0; i < NEWS_BURST && (i < NEWS_FAN || full); i++) {
		uint32_t to = g->members.live[mix_below(&g->rng, g->members.n_live)];
		struct as_endpoint addr = core_addr(g, to);
		uint8_t buf[WIRE_UDP_MAX];
		struct wr w = core_begin(g, buf, sizeof(buf));

		full = news_fill(g, &w);
		core_send(g, g->members.m[to].id, &addr, GOSSIP_DATAGRAM, buf, &w);
		if (g->news.count[NEWS_MEMBER] + g->news.count[NEWS_ROW] == 0)
			break;
	}
	g->news.next = g->now + NEWS_EVERY;
}
