/* daemon.c - the daemon's options, and what they mean together. */
#include "cli/cli.h"
#include "cli/daemon_config.h"
#include "traphandler/cluster/seeds.h"
#include "traphandler/cluster/statedir.h"
#include "traphandler/daemon.h"

#include <appswitch/ctl.h>
#include <appswitch/keyring.h>
#include <appswitch/log.h>
#include <appswitch/util.h>

#include <ctype.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#define PATH_LEN 256 /* sun_path is shorter */

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

static int parse_fd(const char *s, int *ret)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(s, &end, 10);
	if (!isdigit((unsigned char)*s) || *end != '\0' || errno != 0 || n > INT_MAX ||
	    fcntl((int)n, F_GETFD) < 0)
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

/* ---- the cluster ---- */

/* An option that says something about a cluster, where none is asked for. */
static const char *needs_listen(const struct daemon_choice *c)
{
	if (c->listen != NULL)
		return NULL;
	if (c->n_joins > 0)
		return "--join";
	return c->advertise != NULL   ? "--advertise"
	       : c->key_file != NULL  ? "--key-file"
	       : c->zone != NULL      ? "--zone"
	       : c->guard != NULL     ? "--guard"
	       : c->state_dir != NULL ? "--state-dir"
				      : NULL;
}

/* Where others are looked for. @joins has room for all; it is checked that a file can be read now,
 * while there is somebody to be told. */
static int take_joins(const struct daemon_choice *c, struct as_endpoint *joins,
		      struct daemon_config *cfg)
{
	struct as_endpoint seeds[SEEDS_MAX];
	size_t n_seeds;
	char err[512];

	cfg->joins = joins;
	for (size_t i = 0; i < c->n_joins; i++) {
		if (c->joins[i][0] != '@') { /* was checked */
			(void)as_endpoint_parse(c->joins[i], DAEMON_CLUSTER_PORT,
						&joins[cfg->n_joins++]);
			continue;
		}
		if (cfg->join_file != NULL)
			return cli_usage_error("daemon", "--join @FILE can be given once");
		cfg->join_file = c->joins[i] + 1;
		if (seeds_read(cfg->join_file, DAEMON_CLUSTER_PORT, seeds, &n_seeds, err,
			       sizeof(err)) < 0)
			return cli_error("daemon", "%s", err);
	}
	return 0;
}

static int take_addresses(const struct daemon_choice *c, struct daemon_config *cfg)
{
	(void)as_endpoint_parse(c->listen, DAEMON_CLUSTER_PORT, &cfg->listen);
	if (c->advertise != NULL)
		(void)as_endpoint_parse(c->advertise, cfg->listen.port, &cfg->advertise);
	else if (as_addr_is_any(&cfg->listen.addr))
		return cli_usage_error(
			"daemon",
			"--listen %s does not say at which address others reach this host; "
			"give --advertise ADDR",
			c->listen);
	else
		cfg->advertise = cfg->listen;
	return 0;
}

/* Into @cfg, with @joins and @state_dir as the room for it. 0, or an exit status after a line;
 * nothing has been made. */
static int take_cluster(const struct daemon_choice *c, struct as_endpoint *joins,
			char state_dir[PATH_MAX], struct daemon_config *cfg)
{
	const char *lonely = needs_listen(c);
	struct keyring keys;
	char err[512];
	int status;

	if (lonely != NULL)
		return cli_usage_error(
			"daemon", "%s needs --listen: without it this host is in no cluster",
			lonely);
	if (c->listen == NULL)
		return 0;
	if (cfg->embedded)
		return cli_usage_error("daemon",
				       "--embedded and --listen: a cluster needs a daemon that "
				       "stays");
	cfg->clustered = true;
	cfg->key_file = c->key_file;
	cfg->zone = c->zone;
	cfg->guard_optional = c->guard != NULL && strcmp(c->guard, "optional") == 0;
	cfg->state_dir = c->state_dir != NULL ? c->state_dir : state_dir;
	status = take_addresses(c, cfg);
	if (status == 0)
		status = take_joins(c, joins, cfg);
	if (status != 0)
		return status;
	if (c->state_dir == NULL && statedir_default_path(state_dir, PATH_MAX) < 0)
		return cli_error("daemon",
				 "neither XDG_STATE_HOME nor HOME says where this node "
				 "can keep its identity; give --state-dir");
	if (c->key_file == NULL)
		return 0;
	if (keyring_load(c->key_file, &keys, err, sizeof(err)) < 0)
		return cli_error("daemon", "%s", err);
	keyring_wipe(&keys);
	return 0;
}

static int serve(const struct daemon_choice *c, bool embedded)
{
	struct daemon_config cfg = { .ready_fd = c->ready_fd, .embedded = embedded };
	_cleanup_free_ struct as_endpoint *joins = calloc(c->n_joins + 1, sizeof(*joins));
	char state_dir[PATH_MAX], node[NODE_NAME_MAX + 1];
	char path[PATH_LEN];
	int r;

	if (joins == NULL)
		return cli_error("daemon", "out of memory");
	node_name_default(node);
	cfg.node = c->node != NULL ? c->node : node;
	cfg.log = LOG_LVL_INFO;
	if (c->log != NULL)
		(void)log_level_parse(c->log, &cfg.log); /* was checked */
	if (ctl_socket_path(c->socket, path, sizeof(path)) < 0 || make_absolute(path) < 0)
		return cli_error("daemon", "the path of the control socket is too long");
	cfg.socket = path;
	r = take_cluster(c, joins, state_dir, &cfg);
	if (r != 0)
		return r;
	r = daemon_run(&cfg);
	if (r == -EADDRINUSE)
		return cli_error("daemon", "another daemon already answers at %s", path);
	return r < 0; /* it has said why */
}

/* ---- the options ---- */

static int check_given(struct daemon_choice *given)
{
	const char *wrong;

	for (size_t i = 0; i < DAEMON_KEYS; i++) {
		const char *value = *daemon_choice_text(given, &daemon_keys[i]);

		wrong = value != NULL ? daemon_value_error(daemon_keys[i].name, value) : NULL;
		if (wrong != NULL)
			return cli_usage_error("daemon", "--%s: '%s' %s", daemon_keys[i].name,
					       value, wrong);
	}
	for (size_t i = 0; i < given->n_joins; i++) {
		wrong = daemon_value_error("join", given->joins[i]);
		if (wrong != NULL)
			return cli_usage_error("daemon", "--join: '%s' %s", given->joins[i],
					       wrong);
	}
	return 0;
}

/* What was said in @over wins. */
static void merge(struct daemon_choice *c, struct daemon_choice *said)
{
	for (size_t i = 0; i < DAEMON_KEYS; i++) {
		const char *value = *daemon_choice_text(said, &daemon_keys[i]);

		if (value != NULL)
			*daemon_choice_text(c, &daemon_keys[i]) = value;
	}
	if (said->n_joins > 0) {
		c->joins = said->joins;
		c->n_joins = said->n_joins;
	}
	if (said->ready_fd >= 0)
		c->ready_fd = said->ready_fd;
}

struct daemon_args {
	struct daemon_choice given;
	const char *config;
	bool embedded, help;
};

/* @ret->given.joins has room for as many as there are arguments. 0 or an exit status. */
static int parse(int argc, char **argv, struct daemon_args *ret)
{
	enum { OPT_READY_FD = 256, OPT_CONFIG, OPT_EMBEDDED, OPT_JOIN, OPT_KEY };
	static const struct option others[] = {
		{ "ready-fd", required_argument, NULL, OPT_READY_FD },
		{ "config", required_argument, NULL, OPT_CONFIG },
		{ "embedded", no_argument, NULL, OPT_EMBEDDED }, /* how `run` starts it */
		{ "join", required_argument, NULL, OPT_JOIN },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct option options[DAEMON_KEYS + ARRAY_SIZE(others)];
	int c;

	for (int i = 0; i < DAEMON_KEYS; i++)
		options[i] = (struct option){ daemon_keys[i].name, required_argument, NULL,
					      OPT_KEY + i };
	memcpy(options + DAEMON_KEYS, others, sizeof(others));
	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (c) {
		case OPT_READY_FD:
			if (parse_fd(optarg, &ret->given.ready_fd) < 0)
				return cli_usage_error(
					"daemon", "--ready-fd: '%s' is no open fd", optarg);
			break;
		case OPT_CONFIG:
			ret->config = optarg;
			break;
		case OPT_EMBEDDED:
			ret->embedded = true;
			break;
		case OPT_JOIN:
			ret->given.joins[ret->given.n_joins++] = optarg;
			break;
		case 'h':
			ret->help = true;
			return 0;
		default:
			if (c < OPT_KEY)
				return cli_getopt_error(argv, c);
			*daemon_choice_text(&ret->given, &daemon_keys[c - OPT_KEY]) = optarg;
			break;
		}
	}
	if (optind < argc)
		return cli_usage_error("daemon", "unexpected argument '%s'", argv[optind]);
	return 0;
}

int cmd_daemon(int argc, char **argv)
{
	_cleanup_free_ const char **joins = calloc((size_t)argc + 1, sizeof(*joins));
	struct daemon_args args = { .given = { .joins = joins, .ready_fd = -1 } };
	struct daemon_choice chosen = { .ready_fd = -1 };
	const char **file_joins;
	json_t *root = NULL;
	int status;

	if (joins == NULL)
		return cli_error("daemon", "out of memory");
	status = parse(argc, argv, &args);
	if (status == 0 && args.help)
		return cli_help("daemon");
	if (status == 0)
		status = check_given(&args.given);
	if (status == 0 && args.config != NULL)
		status = daemon_config_load(args.config, &root, &chosen);
	file_joins = chosen.joins;
	if (status == 0) {
		merge(&chosen, &args.given);
		status = serve(&chosen, args.embedded);
	}
	free(file_joins);
	json_decref(root);
	return status;
}
