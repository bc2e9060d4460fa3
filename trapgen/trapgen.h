/* trapgen.h - `run`: turns the calling process into an app.
 *
 * Registers with the daemon (starting an embedded one where nobody serves), enters a network
 * namespace of its own that reaches nothing, installs the seccomp filter, hands its listener to
 * the daemon and execs the command in place: pid, stdio, signals and exit status are the
 * command's own, and no helper process is left. Single-threaded callers only. */
#ifndef TRAPGEN_TRAPGEN_H
#define TRAPGEN_TRAPGEN_H

#include <stdbool.h>

/* What the user asked for; NULL and 0 leave the choice to the daemon. All borrowed. */
struct trapgen_spec {
	const char *ips[2]; /* at most one of each family, in canonical form */
	unsigned n_ips;
	const char *name;
	const char *network;
	const char *lb;
	unsigned weight;    /* 1 to 1000 */
	const char *user;   /* run the command as this user; root only */
	const char *socket; /* the daemon's; NULL: the user's default */
	char **tags;	    /* "key=value" */
	unsigned n_tags;
	bool no_embedded; /* fail instead of starting a daemon */
	char **argv;	  /* NULL-terminated, argv[0] is looked up in PATH */
};

/* Exit statuses of a run that did not get to its command, as env(1) and the shell have them. */
#define TRAPGEN_EXIT_SETUP     125
#define TRAPGEN_EXIT_NOT_EXEC  126
#define TRAPGEN_EXIT_NOT_FOUND 127

/* Returns only on failure: an exit status, one line has been printed to stderr. */
int trapgen_run(const struct trapgen_spec *spec);

#endif
