/* session.h - the conversation of one run with the daemon.
 *
 * Until the command is exec'd the daemon forgets the app when the connection closes, so ending
 * the process is the only undo there is. Every function that fails has said why. */
#ifndef TRAPGEN_SESSION_H
#define TRAPGEN_SESSION_H

#include <appswitch/addr.h>
#include <trapgen/trapgen.h>

struct session {
	int fd;	    /* the connection; close-on-exec */
	int userns; /* the daemon's user namespace, -1 if it is root's; close-on-exec */
	char ipv4[AS_ADDR_STRLEN], ipv6[AS_ADDR_STRLEN];
};

/* Connects and registers; starts an embedded daemon where nobody serves. 0 or an exit status. */
int session_open(const struct trapgen_spec *spec, struct session *ret);

/* Tells the numbers of the two fds and waits until traps are serviced. Runs below the filter:
 * no call that traps, so read and write only. 0 or an exit status. */
int session_attach(const struct session *s, int listener, int probe);

/* Closes both fds; accepts an unopened one (fds -1). */
void session_done(struct session *s);

#endif
