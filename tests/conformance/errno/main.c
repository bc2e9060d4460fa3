/* errno_table [SUBSTRING] - prints the result of every (call, state) of the table.
 * The output of a native run and of one under `appswitch run` is compared by errno.sh. */
#include "errno_table.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void *errno_bad(void)
{
	static void *p;

	if (!p) {
		p = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CONF_NEED(p != MAP_FAILED);
	}
	return p;
}

void *errno_edge(const void *p, size_t len)
{
	char *two =
		mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CONF_NEED(two != MAP_FAILED);
	CONF_NEED(mprotect(two + 4096, 4096, PROT_NONE) == 0);
	memcpy(two + 4096 - len, p, len);
	return two + 4096 - len;
}

int main(int argc, char **argv)
{
	static const struct errno_part *const parts[] = {
		&errno_connect,	 &errno_bind, &errno_listen, &errno_accept, &errno_names,
		&errno_shutdown, &errno_opts, &errno_io,     &errno_events, &errno_sharing,
	};
	static const char *const fam[] = { "v4", "v6", "mapped" };
	const char *only = argc > 1 ? argv[1] : NULL;
	char prefix[64];

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		const struct errno_part *p = parts[i];

		for (int f = CONF_V4; f <= CONF_MAPPED; f++) {
			snprintf(prefix, sizeof(prefix), "%s/%s", p->name, fam[f]);
			conf_run(prefix, f, p->generic, p->n_generic, only);
		}
		conf_run(p->name, CONF_V4, p->once, p->n_once, only);
	}
	return 0;
}
