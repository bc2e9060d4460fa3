/* keygen.c - makes a key of a cluster. */
#include "cli/cli.h"

#include <appswitch/keyring.h>
#include <appswitch/util.h>

#include <getopt.h>
#include <stdio.h>
#include <string.h>

int cmd_keygen(int argc, char **argv)
{
	static const struct option options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	char err[512], line[KEYRING_LINE];
	const char *path;
	int c;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		if (c == 'h')
			return cli_help("keygen");
		return cli_getopt_error(argv, c);
	}
	if (optind == argc)
		return cli_usage_error("keygen", "where to? give a FILE, or - for the output");
	path = argv[optind];
	if (optind + 1 < argc)
		return cli_usage_error("keygen", "unexpected argument '%s'", argv[optind + 1]);
	if (*path == '\0')
		return cli_usage_error("keygen", "the name of the file is empty");
	if (strcmp(path, "-") == 0) {
		if (keyring_line(line, err, sizeof(err)) < 0)
			return cli_error("keygen", "%s", err);
		fputs(line, stdout);
		explicit_bzero(line, sizeof(line));
		return cli_flush("keygen", 0);
	}
	if (keyring_create(path, err, sizeof(err)) < 0)
		return cli_error("keygen", "%s", err);
	return 0;
}
