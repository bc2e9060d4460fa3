/* daemon_config.h - what the user chose for the daemon, and the file in which that may stand.
 *
 * A choice has the words as they were given; daemon_value_error() has looked at each of them by
 * itself. What they mean together is for cli/daemon.c. */
#ifndef CLI_DAEMON_CONFIG_H
#define CLI_DAEMON_CONFIG_H

#include <jansson.h>
#include <stddef.h>

#define NODE_NAME_MAX 64
#define DAEMON_KEYS   9

/* NULL, 0 and -1: not said. All borrowed: from the arguments, or from the file's JSON. */
struct daemon_choice {
	const char *socket, *node, *log;
	const char *listen, *advertise, *key_file, *zone, *state_dir, *guard;
	const char **joins; /* the array is the choice's own: free() */
	size_t n_joins;
	int ready_fd;
};

/* The names of the options that have one text for a value, without "--"; the same in the file. */
extern const struct daemon_key {
	const char *name;
	size_t offset; /* of a const char * in struct daemon_choice */
} daemon_keys[DAEMON_KEYS];

const char **daemon_choice_text(struct daemon_choice *c, const struct daemon_key *key);

/* NULL, or what is wrong with the value: the rest of a sentence that begins with its name. */
const char *daemon_value_error(const char *name, const char *value);

/* 0, or an exit status after one line. What *@ret points to lives as long as *@ret_root, which is
 * the caller's in any case. */
int daemon_config_load(const char *path, json_t **ret_root, struct daemon_choice *ret);

#endif
