#include "traphandler/remote/guard.h"

#include <appswitch/util.h>

#include <linux/bpf.h>
#include <linux/filter.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>

#define MAX_INSNS 20

/* Offsets in a segment: the filter sees it from the TCP header on (tcp_filter()), the IP header is at
 * SKF_NET_OFF. */
#define AT_SOURCE_PORT 0
#define AT_DEST_PORT   2

struct program {
	struct sock_filter insns[MAX_INSNS];
	unsigned short n;
};

static void add(struct program *p, uint16_t code, uint8_t jt, uint8_t jf, uint32_t k)
{
	p->insns[p->n++] = (struct sock_filter){ code, jt, jf, k };
}

/* Segments with @e's port at @port_at and, if @address, its address at @addr4 or @addr6 of the IP header,
 * which is of @e's version: an AF_INET6 socket hears both, and in the other's header these bytes are something
 * else. */
static struct program match(const struct as_endpoint *e, uint32_t port_at, bool address,
			    uint32_t addr4, uint32_t addr6)
{
	bool v4 = as_addr_is_v4(&e->addr);
	unsigned words = !address ? 0 : v4 ? 1 : 4;
	const uint8_t *b = e->addr.b + (v4 ? 12 : 0);
	struct program p = { .n = 0 };

	add(&p, BPF_LD | BPF_H | BPF_ABS, 0, 0, port_at);
	add(&p, BPF_JMP | BPF_JEQ | BPF_K, 0, (uint8_t)(2 * words + (address ? 4 : 1)),
	    e->port);
	if (address) {
		add(&p, BPF_LD | BPF_B | BPF_ABS, 0, 0, (uint32_t)SKF_NET_OFF);
		add(&p, BPF_ALU | BPF_AND | BPF_K, 0, 0, 0xf0);
		add(&p, BPF_JMP | BPF_JEQ | BPF_K, 0, (uint8_t)(2 * words + 1),
		    v4 ? 0x40 : 0x60);
	}
	for (unsigned i = 0; i < words; i++) {
		uint32_t word = (uint32_t)b[4 * i] << 24 | (uint32_t)b[4 * i + 1] << 16 |
				(uint32_t)b[4 * i + 2] << 8 | b[4 * i + 3];

		add(&p, BPF_LD | BPF_W | BPF_ABS, 0, 0,
		    (uint32_t)SKF_NET_OFF + (v4 ? addr4 : addr6) + 4 * i);
		add(&p, BPF_JMP | BPF_JEQ | BPF_K, 0, (uint8_t)(2 * (words - i) - 1), word);
	}
	add(&p, BPF_RET | BPF_K, 0, 0, ~0u);
	add(&p, BPF_RET | BPF_K, 0, 0, 0);
	return p;
}

static bool optional;

void guard_is_optional(void)
{
	optional = true;
}

/* What a call said, if it matters. */
static int required(int r)
{
	return r == -EPERM && optional ? 0 : r;
}

static int lock_filter(int fd)
{
	static const int one = 1;

	return setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &one, sizeof(one)) < 0 ? -errno : 0;
}

static int attach(int fd, struct program *p)
{
	struct sock_fprog prog = { .len = p->n, .filter = p->insns };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) < 0 ? -errno
										     : 0;
}

int guard_listening(int fd, const struct as_endpoint *self)
{
	struct program p = match(self, AT_DEST_PORT, !as_addr_is_any(&self->addr), 16, 24);
	int r = attach(fd, &p);

	if (required(r) != r)
		return 1;
	return r;
}

int guard_accepted(int fd)
{
	return required(lock_filter(fd));
}

int guard_mute(int fd)
{
	struct program p = { .n = 0 };

	add(&p, BPF_RET | BPF_K, 0, 0, 0);
	return attach(fd, &p);
}

/* ---- one program for all sockets to one node ---- */

/* SO_ATTACH_FILTER translates, checks and compiles the program for each socket anew: 15 us. With bpf(2),
 * which takes CAP_BPF on most systems, it is made once. */
#define CACHE 256u

static struct {
	pthread_mutex_t lock;
	struct {
		struct as_endpoint node;
		int fd; /* 0: free */
	} programs[CACHE];
	unsigned next;
	bool unavailable;
} cache = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* The same program in the instructions of bpf(2): r6 is the packet, r0 the word loaded. */
static int load(const struct program *p)
{
	struct bpf_insn insns[2 * MAX_INSNS] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_X,
		  .dst_reg = BPF_REG_6,
		  .src_reg = BPF_REG_1 },
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_SOCKET_FILTER,
		.insns = (uint64_t)(uintptr_t)insns,
		.license = (uint64_t)(uintptr_t) "",
	};
	unsigned n = 1, reject;

	/* loads, masks and comparisons take one instruction each, so do the two ends together with the
	 * move before them */
	reject = 1 + (p->n - 2u) + 2;
	for (unsigned i = 0; i < p->n - 2u; i++) {
		const struct sock_filter *f = &p->insns[i];

		if (BPF_CLASS(f->code) == BPF_LD)
			insns[n] = (struct bpf_insn){ .code = (uint8_t)f->code,
						      .imm = (int32_t)f->k };
		else if (BPF_CLASS(f->code) == BPF_ALU)
			insns[n] = (struct bpf_insn){ .code = (uint8_t)f->code,
						      .dst_reg = BPF_REG_0,
						      .imm = (int32_t)f->k };
		else
			insns[n] = (struct bpf_insn){ .code = BPF_JMP32 | BPF_JNE | BPF_K,
						      .dst_reg = BPF_REG_0,
						      .off = (int16_t)(reject - n - 1),
						      .imm = (int32_t)f->k };
		n++;
	}
	insns[n++] = (struct bpf_insn){ .code = BPF_ALU | BPF_MOV | BPF_K,
					.dst_reg = BPF_REG_0,
					.imm = -1 };
	insns[n++] = (struct bpf_insn){ .code = BPF_JMP | BPF_EXIT };
	insns[n++] = (struct bpf_insn){ .code = BPF_ALU | BPF_MOV | BPF_K,
					.dst_reg = BPF_REG_0,
					.imm = 0 };
	insns[n++] = (struct bpf_insn){ .code = BPF_JMP | BPF_EXIT };
	attr.insn_cnt = n;
	return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
}

/* The program for @node: a descriptor of the cache's, or -1. Under the lock. */
static int cached(const struct as_endpoint *node, const struct program *p)
{
	unsigned slot;
	int fd;

	for (unsigned i = 0; i < CACHE; i++) {
		if (cache.programs[i].fd > 0 && cache.programs[i].node.port == node->port &&
		    as_addr_eq(&cache.programs[i].node.addr, &node->addr))
			return cache.programs[i].fd;
	}
	if (cache.unavailable)
		return -1;
	fd = load(p);
	if (fd < 0) {
		cache.unavailable = true;
		return -1;
	}
	slot = cache.next++ % CACHE;
	if (cache.programs[slot].fd > 0)
		close(cache.programs[slot].fd);
	cache.programs[slot].node = *node;
	cache.programs[slot].fd = fd;
	return fd;
}

int guard_outgoing(int fd, const struct as_endpoint *node)
{
	struct program p = match(node, AT_SOURCE_PORT, true, 12, 8);
	int prog, r = -EPERM;

	pthread_mutex_lock(&cache.lock);
	prog = cached(node, &p);
	if (prog >= 0)
		r = setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &prog, sizeof(prog)) < 0 ? -errno
										       : 0;
	pthread_mutex_unlock(&cache.lock);
	if (r < 0)
		r = attach(fd, &p);
	return required(r == 0 ? lock_filter(fd) : r);
}
