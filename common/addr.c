#include <appswitch/addr.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const uint8_t mapped_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

struct as_addr as_addr_v4(uint32_t host_order)
{
	struct as_addr a;
	uint32_t be = htonl(host_order);

	memcpy(a.b, mapped_prefix, 12);
	memcpy(a.b + 12, &be, 4);
	return a;
}

struct as_addr as_addr_any(int family)
{
	struct as_addr a = { 0 };

	return family == AF_INET ? as_addr_v4(0) : a;
}

struct as_addr as_addr_loopback(int family)
{
	struct as_addr a = { .b[15] = 1 };

	return family == AF_INET ? as_addr_v4(INADDR_LOOPBACK) : a;
}

bool as_addr_is_v4(const struct as_addr *a)
{
	return memcmp(a->b, mapped_prefix, 12) == 0;
}

bool as_addr_is_any(const struct as_addr *a)
{
	struct as_addr any = as_addr_any(as_addr_family(a));

	return as_addr_eq(a, &any);
}

bool as_addr_is_loopback(const struct as_addr *a)
{
	struct as_addr lo6 = as_addr_loopback(AF_INET6);

	return as_addr_is_v4(a) ? a->b[12] == 127 : as_addr_eq(a, &lo6);
}

bool as_addr_is_multicast(const struct as_addr *a)
{
	return as_addr_is_v4(a) ? (a->b[12] & 0xf0) == 0xe0 : a->b[0] == 0xff;
}

bool as_addr_eq(const struct as_addr *a, const struct as_addr *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

int as_addr_family(const struct as_addr *a)
{
	return as_addr_is_v4(a) ? AF_INET : AF_INET6;
}

int as_addr_parse(const char *s, struct as_addr *ret)
{
	struct in_addr v4;
	struct in6_addr v6;

	if (inet_pton(AF_INET, s, &v4) == 1) {
		*ret = as_addr_v4(ntohl(v4.s_addr));
		return 0;
	}
	if (inet_pton(AF_INET6, s, &v6) == 1) {
		memcpy(ret->b, v6.s6_addr, 16);
		return 0;
	}
	return -EINVAL;
}

const char *as_addr_format(const struct as_addr *a, char buf[AS_ADDR_STRLEN])
{
	if (as_addr_is_v4(a))
		inet_ntop(AF_INET, a->b + 12, buf, AS_ADDR_STRLEN);
	else
		inet_ntop(AF_INET6, a->b, buf, AS_ADDR_STRLEN);
	return buf;
}

const char *as_endpoint_format(const struct as_endpoint *e, char buf[AS_ENDPOINT_STRLEN])
{
	char ip[AS_ADDR_STRLEN];

	as_addr_format(&e->addr, ip);
	snprintf(buf, AS_ENDPOINT_STRLEN, as_addr_is_v4(&e->addr) ? "%s:%u" : "[%s]:%u", ip,
		 (unsigned)e->port);
	return buf;
}

static int parse_port(const char *s, uint16_t *ret)
{
	unsigned long port = 0;
	size_t n = strspn(s, "0123456789");

	if (n == 0 || n > 5 || s[n] != '\0')
		return -EINVAL;
	for (; *s != '\0'; s++)
		port = 10 * port + (unsigned long)(*s - '0');
	if (port == 0 || port > UINT16_MAX)
		return -EINVAL;
	*ret = (uint16_t)port;
	return 0;
}

int as_endpoint_parse(const char *s, uint16_t default_port, struct as_endpoint *ret)
{
	struct as_endpoint e = { .port = default_port };
	bool bracket = *s == '[';
	/* of a bare IPv6 address every colon is its own */
	const char *end = bracket ? strchr(++s, ']') : strchr(s, ':');
	char ip[AS_ADDR_STRLEN];
	size_t len;

	if (bracket && end == NULL)
		return -EINVAL;
	if (!bracket && end != NULL && strchr(end + 1, ':') != NULL)
		end = NULL;
	len = end != NULL ? (size_t)(end - s) : strlen(s);
	if (len >= sizeof(ip))
		return -EINVAL;
	memcpy(ip, s, len);
	ip[len] = '\0';
	/* brackets are for what has colons in it */
	if (as_addr_parse(ip, &e.addr) < 0 || (bracket && strchr(ip, ':') == NULL))
		return -EINVAL;
	if (bracket)
		end++;
	if (end != NULL && *end != '\0' && (*end != ':' || parse_port(end + 1, &e.port) < 0))
		return -EINVAL;
	if (e.port == 0)
		return -EINVAL;
	*ret = e;
	return 0;
}

int as_endpoint_from_sockaddr(const void *sa, size_t len, struct as_endpoint *ret)
{
	sa_family_t family;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	if (len < sizeof(family))
		return -EINVAL;
	memcpy(&family, sa, sizeof(family));
	if (family == AF_INET) {
		if (len < sizeof(in))
			return -EINVAL;
		memcpy(&in, sa, sizeof(in));
		ret->addr = as_addr_v4(ntohl(in.sin_addr.s_addr));
		ret->port = ntohs(in.sin_port);
		return 0;
	}
	if (family == AF_INET6) {
		/* the kernel accepts RFC 2133's 24 bytes without a scope id */
		if (len < offsetof(struct sockaddr_in6, sin6_scope_id))
			return -EINVAL;
		memset(&in6, 0, sizeof(in6));
		memcpy(&in6, sa, len < sizeof(in6) ? len : sizeof(in6));
		memcpy(ret->addr.b, in6.sin6_addr.s6_addr, 16);
		ret->port = ntohs(in6.sin6_port);
		return 0;
	}
	return -EAFNOSUPPORT;
}

socklen_t as_endpoint_to_sockaddr(const struct as_endpoint *e, int face,
				  struct sockaddr_storage *ret)
{
	struct sockaddr_in *in = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;

	memset(ret, 0, sizeof(*ret));
	if (face == AF_INET) {
		in->sin_family = AF_INET;
		in->sin_port = htons(e->port);
		memcpy(&in->sin_addr, e->addr.b + 12, 4);
		return sizeof(*in);
	}
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(e->port);
	memcpy(&in6->sin6_addr, e->addr.b, 16);
	return sizeof(*in6);
}
