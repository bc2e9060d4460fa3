/* Both kinds are described by a table of fields: one reader and one writer serve them. */
#include "traphandler/cluster/rowdata.h"

#include <appswitch/util.h>

#include <errno.h>
#include <stdbool.h>
#include <string.h>

struct field {
	uint8_t type;
	bool number;
	uint16_t at, size; /* in the struct; of a string with its NUL */
};

#define STRING(type, s, member)                                                          \
	{                                                                                \
		type, false, offsetof(struct s, member), sizeof(((struct s *)0)->member) \
	}
#define NUMBER(type, s, member)                                                         \
	{                                                                               \
		type, true, offsetof(struct s, member), sizeof(((struct s *)0)->member) \
	}

static const struct field service_fields[] = {
	STRING(1, service_data, network), STRING(2, service_data, name),
	STRING(3, service_data, tags),	  NUMBER(4, service_data, pid),
	NUMBER(5, service_data, lb),
};

static const struct field node_fields[] = {
	STRING(1, node_data, name),    STRING(2, node_data, zone),
	STRING(3, node_data, version), NUMBER(4, node_data, apps),
	NUMBER(5, node_data, started),
};

static void copy_number(uint8_t *out, const void *from, size_t size)
{
	uint64_t v = 0;

	if (size == 4)
		v = *(const uint32_t *)from;
	else
		v = *(const uint64_t *)from;
	for (size_t i = 0; i < size; i++)
		out[i] = (uint8_t)(v >> 8 * (size - 1 - i));
}

static int put(const struct field *fields, size_t n, const void *d, uint8_t *buf, size_t cap,
	       size_t *ret_len)
{
	size_t len = 0;

	for (size_t i = 0; i < n; i++) {
		const struct field *f = &fields[i];
		const char *from = (const char *)d + f->at;
		size_t size = f->number ? f->size : strnlen(from, f->size - 1u);

		if (size == 0)
			continue;
		if (cap - len < 3 + size)
			return -ENOSPC;
		buf[len] = f->type;
		buf[len + 1] = (uint8_t)(size >> 8);
		buf[len + 2] = (uint8_t)size;
		if (f->number)
			copy_number(buf + len + 3, from, size);
		else
			memcpy(buf + len + 3, from, size);
		len += 3 + size;
	}
	*ret_len = len;
	return 0;
}

/* The length of the character of UTF-8 (RFC 3629) at @s, of which there are @left bytes; 0: it is none. */
static size_t utf8_len(const uint8_t *s, size_t left)
{
	size_t n = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	uint32_t c = n == 1 ? s[0] : s[0] & 0xffu >> (n + 1);
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };

	if ((s[0] >= 0x80 && s[0] < 0xc0) || s[0] >= 0xf8 || n > left)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	return c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n;
}

static bool is_control(const uint8_t *s, size_t n)
{
	return n == 1 ? s[0] < ' ' || s[0] == 0x7f : n == 2 && s[0] == 0xc2 && s[1] < 0xa0;
}

static void copy_text(const uint8_t *from, size_t size, char *to)
{
	for (size_t i = 0; i < size;) {
		size_t n = utf8_len(from + i, size - i);

		if (n == 0 || is_control(from + i, n)) {
			n = n == 0 ? 1 : n;
			memset(to + i, '?', n);
		} else {
			memcpy(to + i, from + i, n);
		}
		i += n;
	}
	to[size] = '\0';
}

static int get_field(const struct field *f, const uint8_t *value, size_t size, char *to)
{
	uint64_t v = 0;

	if (f->number) {
		if (size != f->size)
			return -EBADMSG;
		for (size_t i = 0; i < size; i++)
			v = v << 8 | value[i];
		if (size == 4)
			*(uint32_t *)to = (uint32_t)v;
		else
			*(uint64_t *)to = v;
		return 0;
	}
	if (size >= f->size)
		return -EBADMSG;
	copy_text(value, size, to);
	return 0;
}

/* @d is zero. */
static int get(const struct field *fields, size_t n, const uint8_t *buf, size_t len, void *d)
{
	uint32_t found = 0;

	while (len > 0) {
		size_t size;
		uint8_t type;

		if (len < 3)
			return -EBADMSG;
		type = buf[0];
		size = (size_t)buf[1] << 8 | buf[2];
		buf += 3;
		len -= 3;
		if (size > len)
			return -EBADMSG;
		for (size_t i = 0; i < n; i++) {
			if (fields[i].type != type)
				continue;
			if (found & 1u << i ||
			    get_field(&fields[i], buf, size, (char *)d + fields[i].at) < 0)
				return -EBADMSG;
			found |= 1u << i;
		}
		buf += size;
		len -= size;
	}
	return 0;
}

int rowdata_put_service(const struct service_data *d, uint8_t *buf, size_t cap, size_t *ret_len)
{
	return put(service_fields, ARRAY_SIZE(service_fields), d, buf, cap, ret_len);
}

int rowdata_put_node(const struct node_data *d, uint8_t *buf, size_t cap, size_t *ret_len)
{
	return put(node_fields, ARRAY_SIZE(node_fields), d, buf, cap, ret_len);
}

int rowdata_get_service(const uint8_t *buf, size_t len, struct service_data *ret)
{
	struct service_data d = { 0 };

	if (get(service_fields, ARRAY_SIZE(service_fields), buf, len, &d) < 0)
		return -EBADMSG;
	*ret = d;
	return 0;
}

int rowdata_get_node(const uint8_t *buf, size_t len, struct node_data *ret)
{
	struct node_data d = { 0 };

	if (get(node_fields, ARRAY_SIZE(node_fields), buf, len, &d) < 0)
		return -EBADMSG;
	*ret = d;
	return 0;
}
