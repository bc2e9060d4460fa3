/* daemon.c - the daemon's options and its configuration file. */
#include "cli/cli.h"
#include "traphandler/daemon.h"

#include <appswitch/ctl.h>
#include <appswitch/log.h>
#include <appswitch/util.h>

#include <ctype.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#define CONFIG_MAX    (1 << 20)
#define NODE_NAME_MAX 64
#define PATH_LEN      256 /* sun_path is shorter */

/* What the user chose; NULL: not said. */
struct choice {
	const char *socket;
	const char *node;
	const char *log;
	int ready_fd; /* -1: not said */
};

static const struct {
	const char *key;
	size_t offset; /* of a const char * in struct choice */
} config_keys[] = {
	{ "socket", offsetof(struct choice, socket) },
	{ "node", offsetof(struct choice, node) },
	{ "log", offsetof(struct choice, log) },
};

/* A node name is a key in tables of other nodes and a word in their logs. */
static bool node_name_ok(const char *s)
{
	size_t len = strlen(s);

	for (size_t i = 0; i < len; i++) {
		if (!isalnum((unsigned char)s[i]) && strchr("-_.", s[i]) == NULL)
			return false;
	}
	return len > 0 && len <= NODE_NAME_MAX;
}

/* The host name, or the nearest thing to it that is a node name: "(none)" must not stop us. */
static void node_name_default(char ret[NODE_NAME_MAX + 1])
{
	if (gethostname(ret, NODE_NAME_MAX + 1) < 0)
		ret[0] = '\0';
	ret[NODE_NAME_MAX] = '\0';
	for (char *p = ret; *p != '\0'; p++) {
		if (!isalnum((unsigned char)*p) && strchr("-_.", *p) == NULL)
			*p = '-';
	}
	if (ret[0] == '\0')
		snprintf(ret, NODE_NAME_MAX + 1, "localhost");
}

/* NULL, or what is wrong with the value */
static const char *value_error(const char *key, const char *value)
{
	enum log_level level;

	if (*value == '\0')
		return "must not be empty";
	if (strcmp(key, "log") == 0 && log_level_parse(value, &level) < 0)
		return "must be error, warn, info or debug";
	if (strcmp(key, "node") == 0 && !node_name_ok(value))
		return "must be at most 64 of the characters A-Z a-z 0-9 - _ .";
	return NULL;
}

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

static int config_key(const char *path, unsigned line, const char *key, json_t *value,
		      struct choice *ret)
{
	const char *wrong, *text;

	if (strcmp(key, "ready-fd") == 0) {
		if (!json_is_integer(value) || !is_open(json_integer_value(value)))
			return cli_error("daemon",
					 "%s:%u: '%s' must be the number of an open fd", path,
					 line, key);
		ret->ready_fd = (int)json_integer_value(value);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(config_keys); i++) {
		if (strcmp(config_keys[i].key, key) != 0)
			continue;
		text = json_string_value(value);
		wrong = text == NULL ? "must be a string" : value_error(key, text);
		if (wrong != NULL)
			return cli_error("daemon", "%s:%u: '%s' %s", path, line, key, wrong);
		memcpy((char *)ret + config_keys[i].offset, &text, sizeof(text));
		return 0;
	}
	return cli_error("daemon", "%s:%u: unknown key '%s'", path, line, key);
}

/* 0, or an exit status after one line. What *@ret points to lives as long as *@ret_root. */
static int config_load(const char *path, json_t **ret_root, struct choice *ret)
{
	size_t len = 0;
	_cleanup_free_ char *text = read_text(path, &len);
	struct key_scan scan = { .p = text, .line = 1 };
	json_error_t err;
	const char *begin;
	json_t *root;
	int r;

	if (text == NULL)
		return cli_error("daemon", "%s: %s", path, strerror(errno));
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &err);
	if (root == NULL)
		return cli_error("daemon", "%s:%d: %s", path, err.line > 0 ? err.line : 1,
				 err.text);
	if (!json_is_object(root)) {
		json_decref(root);
		return cli_error("daemon", "%s:1: a JSON object is needed", path);
	}
	*ret_root = root;
	while (scan_key(&scan, &begin, &len)) {
		json_t *key = json_loadb(begin, len, JSON_DECODE_ANY, NULL);

		if (key == NULL)
			return cli_error("daemon", "%s: out of memory", path);
		r = config_key(path, scan.line, json_string_value(key),
			       json_object_get(root, json_string_value(key)), ret);
		json_decref(key);
		if (r != 0)
			return r;
	}
	return 0;
}

static int parse_fd(const char *s, int *ret)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(s, &end, 10);
	if (!isdigit((unsigned char)*s) || *end != '\0' || errno != 0 || !is_open(n))
		return -EBADF;
	*ret = (int)n;
	return 0;
}

/* The holder, which removes its socket at the end, works from the root directory. */
static int make_absolute(char path[PATH_LEN])
{
	char cwd[PATH_LEN], whole[2 * PATH_LEN];
	int n;

	if (path[0] == '/')
		return 0;
	if (getcwd(cwd, sizeof(cwd)) == NULL)
		return -errno;
	n = snprintf(whole, sizeof(whole), "%s/%s", cwd, path);
	if (n < 0 || n >= (int)sizeof(((struct sockaddr_un *)0)->sun_path))
		return -ENAMETOOLONG;
	memcpy(path, whole, (size_t)n + 1);
	return 0;
}

static int serve(const struct choice *c, bool embedded)
{
	struct daemon_config cfg = { .ready_fd = c->ready_fd, .embedded = embedded };
	char node[NODE_NAME_MAX + 1];
	char path[PATH_LEN];
	int r;

	node_name_default(node);
	cfg.node = c->node != NULL ? c->node : node;
	cfg.log = LOG_LVL_INFO;
	if (c->log != NULL)
		(void)log_level_parse(c->log, &cfg.log); /* was checked */
	if (ctl_socket_path(c->socket, path, sizeof(path)) < 0 || make_absolute(path) < 0)
		return cli_error("daemon", "the path of the control socket is too long");
	cfg.socket = path;
	r = daemon_run(&cfg);
	if (r == -EADDRINUSE)
		return cli_error("daemon", "another daemon already answers at %s", path);
	return r < 0; /* it has said why */
}

int cmd_daemon(int argc, char **argv)
{
	enum { OPT_SOCKET = 256, OPT_NODE, OPT_LOG, OPT_READY_FD, OPT_CONFIG, OPT_EMBEDDED };
	static const struct option options[] = {
		{ "socket", required_argument, NULL, OPT_SOCKET },
		{ "node", required_argument, NULL, OPT_NODE },
		{ "log", required_argument, NULL, OPT_LOG },
		{ "ready-fd", required_argument, NULL, OPT_READY_FD },
		{ "config", required_argument, NULL, OPT_CONFIG },
		{ "embedded", no_argument, NULL, OPT_EMBEDDED }, /* how `run` starts it */
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct choice given = { .ready_fd = -1 }, chosen = { .ready_fd = -1 };
	const char *config = NULL, *wrong;
	json_t *root = NULL;
	bool embedded = false;
	int c, status = 0;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (c) {
		case OPT_SOCKET:
			given.socket = optarg;
			break;
		case OPT_NODE:
			given.node = optarg;
			break;
		case OPT_LOG:
			given.log = optarg;
			break;
		case OPT_READY_FD:
			if (parse_fd(optarg, &given.ready_fd) < 0)
				return cli_usage_error(
					"daemon", "--ready-fd: '%s' is no open fd", optarg);
			break;
		case OPT_CONFIG:
			config = optarg;
			break;
		case OPT_EMBEDDED:
			embedded = true;
			break;
		case 'h':
			return cli_help("daemon");
		default:
			return cli_getopt_error(argv, c);
		}
	}
	if (optind < argc)
		return cli_usage_error("daemon", "unexpected argument '%s'", argv[optind]);
	for (size_t i = 0; i < ARRAY_SIZE(config_keys); i++) {
		const char *value;

		memcpy(&value, (char *)&given + config_keys[i].offset, sizeof(value));
		wrong = value != NULL ? value_error(config_keys[i].key, value) : NULL;
		if (wrong != NULL)
			return cli_usage_error("daemon", "--%s: '%s' %s", config_keys[i].key,
					       value, wrong);
	}
	if (config != NULL)
		status = config_load(config, &root, &chosen);
	if (status == 0) {
		chosen.socket = given.socket != NULL ? given.socket : chosen.socket;
		chosen.node = given.node != NULL ? given.node : chosen.node;
		chosen.log = given.log != NULL ? given.log : chosen.log;
		chosen.ready_fd = given.ready_fd >= 0 ? given.ready_fd : chosen.ready_fd;
		status = serve(&chosen, embedded);
	}
	json_decref(root);
	return status;
}
