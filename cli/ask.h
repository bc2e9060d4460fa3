/* ask.h - a request to the daemon and its answers, for the subcommands that only ask.
 *
 * Every failure is one line "appswitch CMD: …" on stderr, and then -errno. ask_close() is right
 * after each of them, and needed after ask_open() in any case. */
#ifndef CLI_ASK_H
#define CLI_ASK_H

#include <jansson.h>

struct ask {
	const char *cmd;
	char path[256]; /* of the control socket */
	char *buf;
	int fd;
};

/* Sends @request (ctl.h) to the daemon at @socket_opt, or where it is by default. */
int ask_open(struct ask *a, const char *cmd, const char *socket_opt, const char *request);
/* One answer that says ok, the caller's; what the daemon refuses is said in its words. */
int ask_answer(struct ask *a, json_t **ret);
void ask_close(struct ask *a);

/* For an answer that lacks what was asked for, and for want of memory: say so. */
int ask_nonsense(const struct ask *a);
int ask_no_memory(const struct ask *a);

#endif
