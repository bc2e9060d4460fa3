#include "traphandler/conn/names.h"

#include <stddef.h>
#include <string.h>

static const char prefix[4] = { '\0', 'a', 's', '1' };

#define HEAD	     (sizeof(prefix) + 1)
#define CLIENT_LEN   (HEAD + 4 + 16 + 18 + 18)
#define LISTENER_LEN (HEAD + 4 + 1 + 4 + 8)
#define BELL_LEN     (HEAD + 8 + 8)

static char *put(char *p, const void *v, size_t n)
{
	memcpy(p, v, n);
	return p + n;
}

static const char *get(const char *p, void *v, size_t n)
{
	memcpy(v, p, n);
	return p + n;
}

socklen_t name_encode(const struct standin_name *name, struct sockaddr_un *ret)
{
	char *p = ret->sun_path;

	memset(ret, 0, sizeof(*ret));
	ret->sun_family = AF_UNIX;
	p = put(p, prefix, sizeof(prefix));
	*p++ = (char)name->kind;
	switch (name->kind) {
	case NAME_CLIENT:
		p = put(p, &name->network, 4);
		p = put(p, &name->vip, 16);
		p = put(p, &name->client.addr, 16);
		p = put(p, &name->client.port, 2);
		p = put(p, &name->server.addr, 16);
		p = put(p, &name->server.port, 2);
		break;
	case NAME_LISTENER:
		p = put(p, &name->network, 4);
		p = put(p, &name->face, 1);
		p = put(p, &name->app, 4);
		p = put(p, &name->anchor, 8);
		break;
	default:
		p = put(p, &name->anchor, 8);
		p = put(p, &name->nonce, 8);
		break;
	}
	return (socklen_t)(p - (char *)ret);
}

enum name_kind name_decode_path(const char *path, size_t len, struct standin_name *ret)
{
	struct standin_name name = { 0 };
	const char *p = path + HEAD;

	if (len < HEAD || memcmp(path, prefix, sizeof(prefix)) != 0)
		return NAME_NONE;
	switch (path[sizeof(prefix)]) {
	case NAME_CLIENT:
		if (len != CLIENT_LEN)
			return NAME_NONE;
		p = get(p, &name.network, 4);
		p = get(p, &name.vip, 16);
		p = get(p, &name.client.addr, 16);
		p = get(p, &name.client.port, 2);
		p = get(p, &name.server.addr, 16);
		get(p, &name.server.port, 2);
		name.kind = NAME_CLIENT;
		break;
	case NAME_LISTENER:
		if (len != LISTENER_LEN)
			return NAME_NONE;
		p = get(p, &name.network, 4);
		p = get(p, &name.face, 1);
		p = get(p, &name.app, 4);
		get(p, &name.anchor, 8);
		name.kind = NAME_LISTENER;
		break;
	case NAME_BELL:
	case NAME_CARRIER:
		if (len != BELL_LEN)
			return NAME_NONE;
		name.kind = (enum name_kind)path[sizeof(prefix)];
		p = get(p, &name.anchor, 8);
		get(p, &name.nonce, 8);
		break;
	default:
		return NAME_NONE;
	}
	*ret = name;
	return name.kind;
}

enum name_kind name_decode(const struct sockaddr_un *sa, socklen_t len,
			   struct standin_name *ret)
{
	if (len < offsetof(struct sockaddr_un, sun_path) || sa->sun_family != AF_UNIX)
		return NAME_NONE;
	return name_decode_path(sa->sun_path, len - offsetof(struct sockaddr_un, sun_path),
				ret);
}
