/* node.c - what is asked of this node as one of a cluster: leave, drain, undrain. */
#include "cli/ask.h"
#include "cli/cli.h"

#include <appswitch/util.h>

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What follows the name: at most @max words, *@ret_word the one (or NULL). 0, or -1 with an exit
 * status in *@ret_status. */
static int parse(int argc, char **argv, int max, const char **ret_word, const char **ret_socket,
		 int *ret_status)
{
	enum { OPT_SOCKET = 256 };
	static const struct option options[] = {
		{ "socket", required_argument, NULL, OPT_SOCKET },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		if (c == OPT_SOCKET) {
			*ret_socket = optarg;
			continue;
		}
		*ret_status = c == 'h' ? cli_help(argv[0]) : cli_getopt_error(argv, c);
		return -1;
	}
	*ret_word = optind < argc && max > 0 ? argv[optind] : NULL;
	if (argc - optind > max) {
		*ret_status = cli_usage_error(argv[0], "unexpected argument '%s'",
					      argv[optind + max]);
		return -1;
	}
	return 0;
}

static int ask_once(const char *cmd, const char *socket_opt, const char *request)
{
	struct ask ask;
	json_t *answer = NULL;
	json_int_t settle_ms;
	int r = ask_open(&ask, cmd, socket_opt, request);

	if (r == 0)
		r = ask_answer(&ask, &answer);
	settle_ms = json_integer_value(json_object_get(answer, "settle_ms"));
	json_decref(answer);
	ask_close(&ask);
	/* when the command ends, the others know */
	if (settle_ms > 0 && settle_ms <= 10000)
		usleep((useconds_t)settle_ms * 1000);
	return r < 0 ? CLI_FAILED : 0;
}

int cmd_leave(int argc, char **argv)
{
	const char *word, *socket_opt = NULL;
	int status;

	if (parse(argc, argv, 0, &word, &socket_opt, &status) < 0)
		return status;
	return ask_once("leave", socket_opt, "{\"op\":\"leave\"}");
}

static int parse_app(const char *s, uint32_t *ret)
{
	size_t n = strspn(s, "0123456789");
	unsigned long long id = n > 0 && n <= 10 && s[n] == '\0' ? strtoull(s, NULL, 10) : 0;

	if (id == 0 || id > UINT32_MAX)
		return -EINVAL;
	*ret = (uint32_t)id;
	return 0;
}

int cmd_drain(int argc, char **argv)
{
	const char *cmd = argv[0], *word, *socket_opt = NULL;
	char request[64];
	uint32_t app;
	int status;

	if (parse(argc, argv, 1, &word, &socket_opt, &status) < 0)
		return status;
	if (word == NULL) {
		snprintf(request, sizeof(request), "{\"op\":\"%s\"}", cmd);
		return ask_once(cmd, socket_opt, request);
	}
	if (parse_app(word, &app) < 0)
		return cli_usage_error(cmd, "'%s' is no app's number ('appswitch get apps')",
				       word);
	snprintf(request, sizeof(request), "{\"op\":\"%s\",\"app\":%" PRIu32 "}", cmd, app);
	return ask_once(cmd, socket_opt, request);
}
