/* daemon_config.c - the values of the daemon's options, and its configuration file. */
#include "cli/daemon_config.h"

#include "cli/cli.h"
#include "traphandler/cluster/seeds.h"
#include "traphandler/daemon.h"

#include <appswitch/log.h>
#include <appswitch/util.h>

#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define CONFIG_MAX (1 << 20)

const struct daemon_key daemon_keys[DAEMON_KEYS] = {
	{ "socket", offsetof(struct daemon_choice, socket) },
	{ "node", offsetof(struct daemon_choice, node) },
	{ "log", offsetof(struct daemon_choice, log) },
	{ "listen", offsetof(struct daemon_choice, listen) },
	{ "advertise", offsetof(struct daemon_choice, advertise) },
	{ "key-file", offsetof(struct daemon_choice, key_file) },
	{ "zone", offsetof(struct daemon_choice, zone) },
	{ "guard", offsetof(struct daemon_choice, guard) },
	{ "state-dir", offsetof(struct daemon_choice, state_dir) },
};

const char **daemon_choice_text(struct daemon_choice *c, const struct daemon_key *key)
{
	return (const char **)(void *)((char *)c + key->offset);
}

/* ---- values ---- */

/* The name of a node or a zone is a key in tables of other nodes and a word in their logs. */
static bool name_ok(const char *s)
{
	size_t len = strlen(s);

	for (size_t i = 0; i < len; i++) {
		if (!isalnum((unsigned char)s[i]) && strchr("-_.", s[i]) == NULL)
			return false;
	}
	return len > 0 && len <= NODE_NAME_MAX;
}

/* Where this node is, or another one. */
static const char *endpoint_error(const char *value, bool any_ok)
{
	struct as_endpoint e;

	if (as_endpoint_parse(value, DAEMON_CLUSTER_PORT, &e) < 0)
		return "must be ADDR or ADDR:PORT, like 192.0.2.5:6660 or [2001:db8::5]:6660";
	return any_ok && as_addr_is_any(&e.addr) ? NULL : seeds_wrong(&e);
}

const char *daemon_value_error(const char *name, const char *value)
{
	enum log_level level;

	if (*value == '\0')
		return "must not be empty";
	if (strcmp(name, "log") == 0 && log_level_parse(value, &level) < 0)
		return "must be error, warn, info or debug";
	if (strcmp(name, "guard") == 0 && strcmp(value, "required") != 0 &&
	    strcmp(value, "optional") != 0)
		return "must be required or optional";
	if ((strcmp(name, "node") == 0 || strcmp(name, "zone") == 0) && !name_ok(value))
		return "must be at most 64 of the characters A-Z a-z 0-9 - _ .";
	if (strcmp(name, "listen") == 0)
		return endpoint_error(value, true);
	if (strcmp(name, "advertise") == 0)
		return endpoint_error(value, false);
	if (strcmp(name, "join") == 0 && *value == '@')
		return value[1] == '\0' ? "must have the name of a file after the @" : NULL;
	if (strcmp(name, "join") == 0)
		return endpoint_error(value, false);
	return NULL;
}

/* ---- the file ---- */

/* A NUL-terminated text the caller frees; NULL with errno. */
static char *read_text(const char *path, size_t *ret_len)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text = fd >= 0 ? malloc(CONFIG_MAX + 1) : NULL;
	size_t len = 0;
	ssize_t n;

	if (text == NULL)
		return NULL;
	do {
		n = read(fd, text + len, CONFIG_MAX + 1 - len);
		if (n > 0)
			len += (size_t)n;
	} while (n > 0 || (n < 0 && errno == EINTR));
	if (n < 0 || len > CONFIG_MAX) {
		if (n == 0)
			errno = EFBIG;
		free(text);
		return NULL;
	}
	text[len] = '\0';
	*ret_len = len;
	return text;
}

/* Jansson forgets where a key stood. This finds the keys of the outermost object again, in
 * a text that is known to be one valid object. */
struct key_scan {
	const char *p;
	unsigned line, depth;
	bool key_next;
};

static bool scan_key(struct key_scan *s, const char **ret_begin, size_t *ret_len)
{
	for (; *s->p != '\0'; s->p++) {
		const char *begin = s->p;

		switch (*s->p) {
		case '\n':
			s->line++;
			break;
		case '{':
		case '[':
			s->key_next = ++s->depth == 1;
			break;
		case '}':
		case ']':
			s->depth--;
			break;
		case ',':
			s->key_next = s->depth == 1;
			break;
		case '"':
			for (s->p++; *s->p != '"'; s->p++) {
				if (*s->p == '\\')
					s->p++;
			}
			if (!s->key_next)
				break;
			s->key_next = false;
			s->p++;
			*ret_begin = begin;
			*ret_len = (size_t)(s->p - begin);
			return true;
		default:
			break;
		}
	}
	return false;
}

static bool is_open(json_int_t fd)
{
	return fd >= 0 && fd <= INT_MAX && fcntl((int)fd, F_GETFD) >= 0;
}

/* NULL, or what is wrong with it: the rest of a sentence. */
static const char *take_joins(const json_t *value, struct daemon_choice *ret)
{
	size_t n = json_is_array(value) ? json_array_size(value) : 1;

	ret->joins = calloc(n + 1, sizeof(*ret->joins));
	if (ret->joins == NULL)
		return "needs more memory than there is";
	for (size_t i = 0; i < n; i++) {
		const json_t *one = json_is_array(value) ? json_array_get(value, i) : value;
		const char *text = json_string_value(one);
		const char *wrong;

		if (text == NULL)
			return "must be a string or an array of strings";
		wrong = daemon_value_error("join", text);
		if (wrong != NULL)
			return wrong;
		ret->joins[ret->n_joins++] = text;
	}
	return NULL;
}

static const char *take(const char *name, const json_t *value, struct daemon_choice *ret)
{
	const char *text = json_string_value(value), *wrong;

	if (strcmp(name, "ready-fd") == 0) {
		if (!json_is_integer(value) || !is_open(json_integer_value(value)))
			return "must be the number of an open fd";
		ret->ready_fd = (int)json_integer_value(value);
		return NULL;
	}
	if (strcmp(name, "join") == 0)
		return take_joins(value, ret);
	for (size_t i = 0; i < ARRAY_SIZE(daemon_keys); i++) {
		if (strcmp(daemon_keys[i].name, name) != 0)
			continue;
		wrong = text == NULL ? "must be a string" : daemon_value_error(name, text);
		if (wrong == NULL)
			*daemon_choice_text(ret, &daemon_keys[i]) = text;
		return wrong;
	}
	return "is an unknown key";
}

/* What jansson says quotes the file. */
static void one_line(char *s)
{
	for (; *s != '\0'; s++) {
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			*s = '?';
	}
}

int daemon_config_load(const char *path, json_t **ret_root, struct daemon_choice *ret)
{
	size_t len = 0;
	_cleanup_free_ char *text = read_text(path, &len);
	struct key_scan scan = { .p = text, .line = 1 };
	json_error_t why;
	const char *begin, *wrong;
	json_t *root;

	if (text == NULL)
		return cli_error("daemon", "%s: %s", path, strerror(errno));
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
	if (root == NULL) {
		one_line(why.text);
		return cli_error("daemon", "%s:%d: %s", path, why.line > 0 ? why.line : 1,
				 why.text);
	}
	*ret_root = root;
	if (!json_is_object(root))
		return cli_error("daemon", "%s:1: a JSON object is needed", path);
	while (scan_key(&scan, &begin, &len)) {
		json_t *key = json_loadb(begin, len, JSON_DECODE_ANY, NULL);
		const char *name = json_string_value(key);
		int status = 0;

		if (key == NULL)
			return cli_error("daemon", "%s: out of memory", path);
		wrong = take(name, json_object_get(root, name), ret);
		/* as it stands there: it may mean a newline */
		if (wrong != NULL)
			status = cli_error("daemon", "%s:%u: '%.*s' %s", path, scan.line,
					   (int)len - 2, begin + 1, wrong);
		json_decref(key);
		if (status != 0)
			return status;
	}
	return 0;
}
