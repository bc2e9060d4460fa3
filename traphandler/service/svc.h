/* svc.h - the service table: which listeners serve an address and port.
 *
 * A pure map from key to an ordered set of ids; it knows nothing of sockets. The address part
 * has two levels because loopback means "my own distributed app": @vip says whose port space,
 * @addr which address in it (the VIP itself, a loopback address, or the family's any).
 * Not thread-safe: the caller locks. Owns its memory. 0 or -ENOMEM. */
#ifndef TRAPHANDLER_SVC_H
#define TRAPHANDLER_SVC_H

#include <appswitch/addr.h>

#include <stddef.h>
#include <stdint.h>

struct svc_key {
	uint32_t network;
	struct as_addr vip, addr;
	uint16_t port;
};

struct svc_table;

struct svc_table *svc_table_new(void);
struct svc_table *svc_table_free(struct svc_table *t); /* accepts NULL, returns NULL */

/* Adds @id behind the others of @key; an id that is there already stays where it is. */
int svc_table_add(struct svc_table *t, const struct svc_key *key, uint32_t id);
void svc_table_remove(struct svc_table *t, const struct svc_key *key, uint32_t id);

/* Borrowed until the next change; *ret_n is 0 and the result NULL if nobody serves it. */
const uint32_t *svc_table_get(const struct svc_table *t, const struct svc_key *key,
			      size_t *ret_n);

#endif
