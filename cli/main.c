/* main.c - one table of subcommands: dispatch, help and version come from it. */
#include "cli/cli.h"

#include <appswitch/util.h>

#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int cmd_version(int argc, char **argv);
static int cmd_help(int argc, char **argv);

struct command {
	const char *name;
	int (*fn)(int argc, char **argv);
	const char *summary;
	const char *usage; /* the arguments, after the name */
	const char *text;  /* what it does and every option; may be empty */
};

#define SOCKET_OPTION \
	"  --socket PATH     control socket of the daemon (see 'appswitch help')\n"

static const struct command commands[] = {
	{ "run", cmd_run, "run a program with a network identity of its own",
	  "[OPTION]... [--] CMD [ARG]...",
	  "Runs CMD in place (same pid, terminal, signals and exit status) in a network\n"
	  "of its own, in which the virtual addresses of the apps are reachable and\n"
	  "nothing else is. When no daemon answers, an embedded one is started; it ends\n"
	  "with its last app.\n"
	  "\n"
	  "  --ip ADDR         virtual address of the app (repeatable: one IPv4, one\n"
	  "                    IPv6); without one it can connect, not be connected to\n"
	  "  --name NAME       name of the app\n"
	  "  --tag K=V         tag of the app (repeatable)\n"
	  "  --network NET     network the app belongs to (default: default)\n"
	  "  --lb POLICY       how clients are spread over the instances of its services:\n"
	  "                    local-first (default), round-robin, random,\n"
	  "                    least-connections, weighted, source-hash, zone-first\n"
	  "  --weight N        how many clients an instance gets beside the others where\n"
	  "                    they are weighted: 1 (default) to 1000\n"
	  "  --user NAME       run CMD as this user (root only)\n" SOCKET_OPTION
	  "  --no-embedded     fail when no daemon answers\n"
	  "\n"
	  "Exit status: that of CMD; 127 CMD not found, 126 CMD cannot be executed,\n"
	  "125 the set-up failed.\n" },
	{ "daemon", cmd_daemon, "serve the apps of this host", "[OPTION]...",
	  "Runs in the foreground until SIGTERM or SIGINT. Apps keep their open\n"
	  "connections when it ends, and go on with the next one.\n"
	  "\n"
	  "  --socket PATH     control socket to serve (see 'appswitch help')\n"
	  "  --node NAME       name of this host (default: the host name)\n"
	  "  --log LEVEL       error, warn, info (default) or debug\n"
	  "  --ready-fd N      fd to write to and close once the socket answers (default:\n"
	  "                    none)\n"
	  "  --config FILE     JSON object whose keys are the other options' names; options\n"
	  "                    on the command line win\n"
	  "\n"
	  "A cluster of hosts; the port must be open between all of them, for UDP and TCP:\n"
	  "  --listen ADDR[:PORT]\n"
	  "                    be part of one, at this address of the host (default: be\n"
	  "                    alone; port 6660)\n"
	  "  --advertise ADDR[:PORT]\n"
	  "                    where the others reach it (default: --listen)\n"
	  "  --join ADDR[:PORT]\n"
	  "                    another host of the cluster, tried for ever (repeatable);\n"
	  "                    @FILE: a file with one on each line, read every 10 s\n"
	  "  --key-file FILE   keys of the cluster (see 'appswitch help keygen'; default:\n"
	  "                    none, only loopback addresses are spoken to); SIGHUP reads\n"
	  "                    it again\n"
	  "  --zone NAME       where this host is, for zone-first (default: nowhere)\n"
	  "  --guard WHEN      'required' (default): does not start where connections with\n"
	  "                    other nodes cannot be guarded against the app that has them\n"
	  "                    (an ordinary user's daemon on some kernels); 'optional': goes\n"
	  "                    on without, for apps that are trusted\n"
	  "  --state-dir DIR   what outlives the daemon: the node's identity, and its peers\n"
	  "                    (default: /var/lib/appswitch for root,\n"
	  "                    $XDG_STATE_HOME/appswitch or ~/.local/state/appswitch)\n"
	  "\n"
	  "Exit status: 0 ended as asked, 1 failed, 2 wrong usage.\n" },
	{ "get", cmd_get, "show services, apps, connections or nodes",
	  "services|apps|connections|nodes [OPTION]...",
	  "Services are those of all hosts of the cluster, apps those of this host,\n"
	  "connections those with an end on it.\n"
	  "\n"
	  "  -o, --output FORMAT\n"
	  "                    table (default), or json: an array of flat "
	  "objects\n" SOCKET_OPTION },
	{ "drain", cmd_drain, "give no new connections to an app, or to all apps of this host",
	  "[APP] [OPTION]...",
	  "Other apps get another instance of its services, or ECONNREFUSED where there is\n"
	  "none; open connections go on. APP is an id of 'appswitch get apps'; without it\n"
	  "the whole node drains, with the apps that start meanwhile. 'get services' shows\n"
	  "the state.\n"
	  "\n" SOCKET_OPTION },
	{ "undrain", cmd_drain, "end what 'drain' began", "[APP] [OPTION]...",
	  "Without APP: what was asked for the whole node. An app that was drained by\n"
	  "itself drains on.\n"
	  "\n" SOCKET_OPTION },
	{ "leave", cmd_leave, "take this host out of its cluster", "[OPTION]...",
	  "The others forget its services at once. Open connections go on. The daemon joins\n"
	  "again when it is restarted.\n"
	  "\n" SOCKET_OPTION },
	{ "keygen", cmd_keygen, "make a key for a cluster", "FILE",
	  "Writes a new file with one key, for its owner only; a file that is there is\n"
	  "never touched. '-' prints the line instead. The same file belongs on all hosts\n"
	  "of a cluster (daemon --key-file). The first key in it encrypts, all of them\n"
	  "decrypt. To replace a key:\n"
	  "\n"
	  "  1. add the new one as last line on all hosts; SIGHUP to the daemons\n"
	  "     (appswitch keygen - >>FILE)\n"
	  "  2. make it the first line on all hosts; SIGHUP\n"
	  "  3. remove the old one on all hosts; SIGHUP\n" },
	{ "doctor", cmd_doctor, "check what this host can do", "[OPTION]...",
	  "Tries every kernel feature that is used, as the current user, and says for\n"
	  "each one that is not there what works without it and how to get it. Then looks\n"
	  "at the control socket, and tries 'run -- true' with one of its own in $TMPDIR\n"
	  "or /tmp, for at most 15 s.\n"
	  "\n"
	  "  ok                it works\n"
	  "  limited           'run' works; the line says what does not, or is slower\n"
	  "  missing           'run' cannot work without it\n"
	  "\n" SOCKET_OPTION "\n"
	  "Exit status: 0 if 'run' can work, 1 if not.\n" },
	{ "version", cmd_version, "print the version", "", "" },
	{ "help", cmd_help, "print this, or the options of a subcommand", "[CMD]", "" },
};

static const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	}
	return NULL;
}

static bool is_help_option(const char *arg)
{
	return strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0;
}

static void print_overview(FILE *f)
{
	fprintf(f, "Usage: appswitch SUBCOMMAND [ARGUMENT]...\n"
		   "Runs unmodified programs on real sockets, each behind a network identity.\n"
		   "\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].summary);
	fprintf(f, "\n"
		   "The control socket is --socket PATH, else $APPSWITCH_SOCKET, else\n"
		   "/run/appswitch/appswitch.sock for root and\n"
		   "$XDG_RUNTIME_DIR/appswitch/appswitch.sock for others.\n"
		   "'appswitch help SUBCOMMAND' lists the options of a subcommand.\n");
}

static void verror(const char *cmd, const char *fmt, va_list ap)
{
	char line[1024];

	vsnprintf(line, sizeof(line), fmt, ap);
	/* names come from the user and may hold anything: it stays one line */
	for (char *p = line; *p != '\0'; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	}
	fprintf(stderr, "appswitch%s%s: %s", cmd != NULL ? " " : "", cmd != NULL ? cmd : "",
		line);
}

int cli_error(const char *cmd, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	verror(cmd, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return CLI_FAILED;
}

int cli_usage_error(const char *cmd, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	verror(cmd, fmt, ap);
	va_end(ap);
	fprintf(stderr, " (see 'appswitch help%s%s')\n", cmd != NULL ? " " : "",
		cmd != NULL ? cmd : "");
	return CLI_USAGE;
}

int cli_getopt_error(char *const *argv, int c)
{
	const char *arg = argv[optind > 1 ? optind - 1 : 1];

	if (c == ':')
		return cli_usage_error(argv[0], "option '%s' needs a value", arg);
	if (strncmp(arg, "--", 2) == 0 && optopt != 0)
		return cli_usage_error(argv[0], "option '%.*s' takes no value",
				       (int)strcspn(arg, "="), arg);
	if (strncmp(arg, "--", 2) == 0 || optopt == 0)
		return cli_usage_error(argv[0], "unknown option '%s'", arg);
	return cli_usage_error(argv[0], "unknown option '-%c'", optopt);
}

int cli_flush(const char *cmd, int status)
{
	if (fflush(stdout) != 0 || ferror(stdout))
		return cli_error(cmd, "cannot write the output: %s", strerror(errno));
	return status;
}

int cli_help(const char *cmd)
{
	const struct command *c = command_find(cmd);

	if (c == NULL)
		return cli_usage_error(NULL, "unknown subcommand '%s'", cmd);
	printf("Usage: appswitch %s%s%s\n", c->name, *c->usage != '\0' ? " " : "", c->usage);
	printf("%c%s.\n", c->summary[0] - 'a' + 'A', c->summary + 1);
	if (*c->text != '\0')
		printf("\n%s", c->text);
	return cli_flush("help", 0);
}

static int cmd_help(int argc, char **argv)
{
	if (argc > 2)
		return cli_usage_error(NULL, "help: unexpected argument '%s'", argv[2]);
	if (argc == 2)
		return cli_help(argv[1]);
	print_overview(stdout);
	return cli_flush("help", 0);
}

static int cmd_version(int argc, char **argv)
{
	if (argc > 1)
		return cli_usage_error(argv[0], "unexpected argument '%s'", argv[1]);
	printf("appswitch %s\n", APPSWITCH_VERSION);
	return cli_flush("version", 0);
}

int main(int argc, char **argv)
{
	const struct command *c;

	if (argc < 2) {
		print_overview(stderr);
		return CLI_USAGE;
	}
	if (is_help_option(argv[1])) {
		print_overview(stdout);
		return cli_flush("help", 0);
	}
	c = command_find(strcmp(argv[1], "--version") == 0 ? "version" : argv[1]);
	if (c == NULL)
		return cli_usage_error(NULL, "unknown subcommand '%s'", argv[1]);
	if (argc > 2 && is_help_option(argv[2]))
		return cli_help(c->name);
	opterr = 0; /* cli_getopt_error() speaks, in one line */
	return c->fn(argc - 1, argv + 1);
}
