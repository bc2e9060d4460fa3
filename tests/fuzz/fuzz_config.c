/* The daemon's configuration file: it is taken, and then every value is one that the command line would have
 * taken; or it is refused with one line. */
#include "cli/cli.h"
#include "cli/daemon_config.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned said;

/* In place of the one that writes: the program's main() is not here. */
int cli_error(const char *cmd, const char *fmt, ...)
{
	char line[8192];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (strcmp(cmd, "daemon") != 0 || *line == '\0' || strchr(line, '\n') != NULL)
		abort();
	said++;
	return CLI_FAILED;
}

static void check(struct daemon_choice *c)
{
	for (size_t i = 0; i < DAEMON_KEYS; i++) {
		const char *value = *daemon_choice_text(c, &daemon_keys[i]);

		if (value != NULL && daemon_value_error(daemon_keys[i].name, value) != NULL)
			abort();
	}
	for (size_t i = 0; i < c->n_joins; i++) {
		if (daemon_value_error("join", c->joins[i]) != NULL)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct daemon_choice choice = { .ready_fd = -1 };
	json_t *root = NULL;
	static char path[64];
	static int fd = -1;
	int status;

	if (fd < 0) {
		fd = memfd_create("config", MFD_CLOEXEC);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	}
	if (fd < 0 || ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
	said = 0;
	status = daemon_config_load(path, &root, &choice);
	if (said != (status != 0))
		abort();
	if (status == 0)
		check(&choice);
	free(choice.joins);
	json_decref(root);
	return 0;
}
