/* command.h - what is to be run, and as whom. */
#ifndef TRAPGEN_COMMAND_H
#define TRAPGEN_COMMAND_H

#include <stddef.h>
#include <sys/types.h>

#define COMMAND_TEXT_MAX 1000

/* @argv joined by spaces, at most COMMAND_TEXT_MAX bytes, always valid UTF-8 ('?' for what is
 * not): what the daemon shows, not what is run. */
void command_text(char *const *argv, char ret[COMMAND_TEXT_MAX + 1]);

/* Finds @name as execvp() would and checks that it can live below the filter.
 * 0, or the exit status after having said why not. Anything it cannot tell is left to exec. */
int command_check(const char *name);

struct command_user {
	uid_t uid;
	gid_t gid;
	gid_t *groups; /* owned */
	int n_groups;
	char *name, *home; /* owned; NULL: no entry for this number */
};

/* @spec is a name or a number. A number without an entry gets a group of the same number.
 * Does not work below the filter (it may ask a name service). 0 or -errno, -ENOENT: no such. */
int command_user_find(const char *spec, struct command_user *ret);
void command_user_done(struct command_user *u);
/* Becomes @u for good, with HOME, USER and LOGNAME. 0 or -errno. */
int command_user_become(const struct command_user *u);

#endif
