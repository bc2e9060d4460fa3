/* netns.h - the app's network namespace: empty but for a loopback that carries its addresses. */
#ifndef TRAPGEN_NETNS_H
#define TRAPGEN_NETNS_H

struct netns_config {
	const char *ipv4;
	const char *ipv6;
	int userns; /* the daemon's user namespace to enter first; -1: none, we are root */
};

/* Moves the calling, single-threaded process into new namespaces and sets them up. On failure
 * *ret_what says which step failed ("static" text) and the process is in an undefined mixture
 * of namespaces: it can only end. 0 or -errno. */
int netns_enter(const struct netns_config *cfg, const char **ret_what);

#endif
