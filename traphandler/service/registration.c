#include "traphandler/service/registration.h"

#include <appswitch/util.h>

#include <stdio.h>
#include <string.h>

static int parse_ips(struct registration *r, const json_t *ips, char *err, size_t err_size)
{
	size_t i;
	const json_t *v;

	json_array_foreach(ips, i, v)
	{
		struct as_addr a;
		const char *s = json_string_value(v);

		if (s == NULL || as_addr_parse(s, &a) < 0 || as_addr_is_any(&a) ||
		    as_addr_is_loopback(&a) || as_addr_is_multicast(&a)) {
			snprintf(err, err_size, "'%.60s' cannot be an app's address",
				 s ? s : "(not a string)");
			return -EINVAL;
		}
		bool *own = as_addr_is_v4(&a) ? &r->own4 : &r->own6;
		if (*own) {
			snprintf(err, err_size, "more than one %s address given",
				 as_addr_is_v4(&a) ? "IPv4" : "IPv6");
			return -EINVAL;
		}
		*own = true;
		*(as_addr_is_v4(&a) ? &r->ip4 : &r->ip6) = a;
	}
	return 0;
}

static char *join(const json_t *array)
{
	size_t i, len = 1;
	const json_t *v;
	char *s, *p;

	json_array_foreach(array, i, v) len += json_string_length(v) + 1;
	s = p = malloc(len);
	if (s == NULL)
		return NULL;
	*p = '\0';
	json_array_foreach(array, i, v) p +=
		sprintf(p, "%s%s", i ? "," : "", json_string_value(v));
	return s;
}

static int check_keys(const json_t *reg, char *err, size_t err_size)
{
	static const struct {
		const char *key;
		json_type type;
	} keys[] = {
		{ "op", JSON_STRING },	    { "ips", JSON_ARRAY },	{ "name", JSON_STRING },
		{ "network", JSON_STRING }, { "tags", JSON_ARRAY },	{ "lb", JSON_STRING },
		{ "command", JSON_STRING }, { "weight", JSON_INTEGER },
	};
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)reg, key, value)
	{
		bool known = false;

		for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
			known |= strcmp(key, keys[i].key) == 0 &&
				 json_typeof(value) == keys[i].type;
		}
		if (!known) {
			snprintf(err, err_size, "key '%.40s' is unknown or of the wrong type",
				 key);
			return -EINVAL;
		}
	}
	value = json_object_get(reg, "weight");
	if (value != NULL &&
	    (json_integer_value(value) < 1 || json_integer_value(value) > 1000)) {
		snprintf(err, err_size, "a weight is a number from 1 to 1000");
		return -EINVAL;
	}
	size_t i;
	json_array_foreach(json_object_get(reg, "tags"), i, value)
	{
		const char *tag = json_string_value(value);

		if (tag == NULL || strchr(tag, '=') == NULL || tag[0] == '=') {
			snprintf(err, err_size, "tag '%.60s' is not KEY=VALUE", tag ? tag : "");
			return -EINVAL;
		}
	}
	return 0;
}

static const char *str_or(const json_t *reg, const char *key, const char *fallback)
{
	const char *s = json_string_value(json_object_get(reg, key));

	return s != NULL ? s : fallback;
}

int registration_parse(const json_t *reg, struct registration *ret, char *err, size_t err_size)
{
	const char *lb = str_or(reg, "lb", "local-first");
	const json_t *weight = json_object_get(reg, "weight");
	struct registration r = { 0 };

	if (!json_is_object(reg)) {
		snprintf(err, err_size, "a registration is a JSON object");
		return -EINVAL;
	}
	if (check_keys(reg, err, err_size) < 0)
		return -EINVAL;
	if (lb_policy_parse(lb, &r.lb) < 0) {
		snprintf(err, err_size,
			 "unknown balancing policy '%.40s'; one of local-first, round-robin, "
			 "random, least-connections, source-hash, weighted, zone-first",
			 lb);
		return -EINVAL;
	}
	if (parse_ips(&r, json_object_get(reg, "ips"), err, err_size) < 0)
		return -EINVAL;
	r.weight = weight != NULL ? (unsigned)json_integer_value(weight) : 1;
	r.name = strdup(str_or(reg, "name", ""));
	r.network = strdup(str_or(reg, "network", "default"));
	r.command = strdup(str_or(reg, "command", ""));
	r.tags = join(json_object_get(reg, "tags"));
	if (r.name == NULL || r.network == NULL || r.command == NULL || r.tags == NULL) {
		registration_done(&r);
		snprintf(err, err_size, "the daemon is out of memory");
		return -ENOMEM;
	}
	for (char *c = r.command; *c != '\0'; c++) {
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = ' '; /* it is shown and logged on one line */
	}
	*ret = r;
	return 0;
}

void registration_done(struct registration *r)
{
	free(r->name);
	free(r->network);
	free(r->command);
	free(r->tags);
}
