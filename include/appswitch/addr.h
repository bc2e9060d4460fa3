/* addr.h - an IP address in one canonical form, and its faces.
 *
 * An address is 16 bytes; IPv4 is kept v4-mapped (::ffff:a.b.c.d, RFC 4291 2.5.5.2), so one
 * key type serves both families. The *face* is the family of the socket that asks: a v4
 * address is shown to an AF_INET6 socket as v4-mapped and to an AF_INET socket as sockaddr_in.
 * Plain values, no ownership. Ports are in host order everywhere but in struct sockaddr. */
#ifndef APPSWITCH_ADDR_H
#define APPSWITCH_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct as_addr {
	uint8_t b[16];
};

struct as_endpoint {
	struct as_addr addr;
	uint16_t port; /* host order */
};

#define AS_ADDR_STRLEN	   48
#define AS_ENDPOINT_STRLEN 56

struct as_addr as_addr_v4(uint32_t host_order);
struct as_addr as_addr_any(int family);	     /* 0.0.0.0 or :: */
struct as_addr as_addr_loopback(int family); /* 127.0.0.1 or ::1 */
bool as_addr_is_v4(const struct as_addr *a);
bool as_addr_is_any(const struct as_addr *a);	   /* 0.0.0.0 or :: */
bool as_addr_is_loopback(const struct as_addr *a); /* 127.0.0.0/8 or ::1 */
bool as_addr_is_multicast(const struct as_addr *a);
bool as_addr_eq(const struct as_addr *a, const struct as_addr *b);
/* AF_INET for v4-mapped, else AF_INET6 */
int as_addr_family(const struct as_addr *a);

/* "10.0.0.5", "fd00::5"; 0 or -EINVAL */
int as_addr_parse(const char *s, struct as_addr *ret);
const char *as_addr_format(const struct as_addr *a, char buf[AS_ADDR_STRLEN]);
/* "10.0.0.5:80", "[fd00::5]:80" */
const char *as_endpoint_format(const struct as_endpoint *e, char buf[AS_ENDPOINT_STRLEN]);

/* "10.0.0.5:80", "10.0.0.5", "[fd00::5]:80", "[fd00::5]", "fd00::5"; no names. A port is a number
 * from 1 to 65535; where none is said it is @default_port, and with that 0 one must be said.
 * 0 or -EINVAL, with *@ret untouched. */
int as_endpoint_parse(const char *s, uint16_t default_port, struct as_endpoint *ret);

/* From a sockaddr of AF_INET or AF_INET6. 0, -EINVAL (short), -EAFNOSUPPORT. */
int as_endpoint_from_sockaddr(const void *sa, size_t len, struct as_endpoint *ret);
/* As a socket of family @face shows it; returns the sockaddr's length. */
socklen_t as_endpoint_to_sockaddr(const struct as_endpoint *e, int face,
				  struct sockaddr_storage *ret);

#endif
