/* bench_gossip - the service table at size: bytes per row with all indexes, and the time of one
 * lookup by (network, VIP, protocol, port), of one merge, and of sealing and opening a packet.
 *
 *   bench_gossip [ROWS]      (a million; owners: one per hundred rows)
 *
 * Lookups are of rows in random order, so that caches do not help more than they do in life. */
#include "bench.h"

#include "gossip/aead_openssl.h"
#include "gossip/mix.h"
#include "gossip/packet.h"
#include "gossip/table.h"

#include <malloc.h>

static struct wire_row row(uint32_t k)
{
	struct wire_row w = {
		.version = k + 1, .network = k % 16, .port = 80, .proto = 6, .app = k
	};

	w.vip.b[0] = 0xfd;
	memcpy(&w.vip.b[12], &k, sizeof(k));
	return w;
}

static size_t used(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
}

static void bench_table(uint32_t rows)
{
	size_t before = used(), bytes;
	uint64_t rng = 1;
	uint32_t found = 0, at, n = 2000000;
	struct table t;
	double t0, per;

	if (table_init(&t) < 0)
		die("table_init");
	for (uint32_t o = 0; o < rows / 100 + 1; o++) {
		if (table_add_owner(&t, o + 1) == NONE)
			die("table_add_owner");
	}
	t0 = now_us();
	for (uint32_t k = 0; k < rows; k++) {
		struct wire_row w = row(k);

		if (table_merge(&t, k / 100, &w, &at) != 1)
			die("table_merge");
	}
	per = (now_us() - t0) / rows;
	bytes = used() - before;
	printf("rows %u  bytes/row %.1f  insert %.2f us", rows, (double)bytes / rows, per);
	t0 = now_us();
	for (uint32_t i = 0; i < n; i++) {
		struct wire_row key = row(mix_below(&rng, rows));

		at = table_lookup(&t, &key, NONE);
		found += at != NONE && table_row(&t, at)->weight == 0;
	}
	per = (now_us() - t0) / n;
	if (found != n)
		die("lookup");
	printf("  lookup %.3f us", per);
	t0 = now_us();
	for (uint32_t i = 0; i < n; i++) {
		uint32_t k = mix_below(&rng, rows);
		struct wire_row w = row(k);

		w.version = rows + i + 1;
		if (table_merge(&t, k / 100, &w, &at) != 1)
			die("table_merge");
	}
	printf("  update %.3f us\n", (now_us() - t0) / n);
	table_done(&t);
}

static void bench_packet(size_t len)
{
	enum { N = 200000 };
	static const uint8_t key[1][AEAD_KEY_LEN] = { { 1 } };
	uint8_t buf[WIRE_UDP_MAX], out[WIRE_UDP_MAX];
	struct aead_openssl *a;
	struct gossip_aead ops;
	struct packet_io from, to;
	double sealing = 0, opening = 0, t0;

	if (aead_openssl_new(key, 1, &a) < 0)
		die("aead");
	ops = aead_openssl_ops(a);
	packet_init(&from, &ops, 1);
	packet_init(&to, &ops, 2);
	memset(buf, 0, sizeof(buf));
	for (unsigned i = 0; i < N; i++) {
		struct wr w = packet_begin(buf, sizeof(buf));
		struct rd body;
		long n;

		w.len = len - WIRE_HEADER_LEN - WIRE_TAG_LEN;
		t0 = now_us();
		n = packet_seal(&from, buf, &w);
		sealing += now_us() - t0;
		t0 = now_us();
		if (n < 0 || packet_open(&to, buf, (size_t)n, out, &body) < 0)
			die("packet");
		opening += now_us() - t0;
	}
	printf("packet of %zu bytes: seal %.2f us  open %.2f us\n", len, sealing / N,
	       opening / N);
	packet_done(&from);
	packet_done(&to);
	aead_openssl_free(a);
}

int main(int argc, char **argv)
{
	uint32_t rows = argc > 1 ? (uint32_t)number(argv[1]) : 1000000;

	if (rows == 0)
		die("no rows");
	bench_table(rows);
	bench_packet(93);
	bench_packet(WIRE_UDP_MAX);
	return 0;
}
