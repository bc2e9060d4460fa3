/* cli.h - the subcommands, and the few things they say in the same way.
 *
 * Every cmd_X() gets its own name as argv[0] and returns the exit status of the program. The
 * table of all of them, from which dispatch and help are made, is in main.c. */
#ifndef APPSWITCH_CLI_H
#define APPSWITCH_CLI_H

#define CLI_FAILED 1 /* the thing asked for did not work */
#define CLI_USAGE  2 /* it was asked for in a wrong way */

int cmd_run(int argc, char **argv);
int cmd_daemon(int argc, char **argv);
int cmd_get(int argc, char **argv);
int cmd_leave(int argc, char **argv);
int cmd_drain(int argc, char **argv); /* undrain, too */
int cmd_keygen(int argc, char **argv);
int cmd_doctor(int argc, char **argv);

/* Prints what `appswitch help CMD` prints; returns the exit status. */
int cli_help(const char *cmd);

/* One line "appswitch CMD: …" on stderr; returns CLI_FAILED. */
int cli_error(const char *cmd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The same with a pointer to the help of CMD; returns CLI_USAGE. */
int cli_usage_error(const char *cmd, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Says what getopt_long(3) did not like when it returned @c, '?' or ':', with opterr 0 and an
 * option string that starts with ':' (or "+:"). argv[0] is the subcommand. Returns CLI_USAGE. */
int cli_getopt_error(char *const *argv, int c);

/* Flushes stdout: @status if everything was written, else a line and CLI_FAILED. */
int cli_flush(const char *cmd, int status);

#endif
