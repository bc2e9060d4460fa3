/* doctor_lab.h - the kernel features that take two processes, tried in a *lab* that looks like
 * the real thing: a handler that is not the parent of the app, with a user namespace of its own
 * when not root, and an app in a namespace below it, with a filter whose traps the handler
 * answers. Both write what they saw into shared memory; the checks then only read it. */
#ifndef APPSWITCH_CLI_DOCTOR_LAB_H
#define APPSWITCH_CLI_DOCTOR_LAB_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* newer than the headers of Debian 12 */
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

#define LAB_SNDBUF 1048576 /* what is asked for */
#define NOT_TRIED  1

enum step {
	L_HANDLER_USERNS,
	L_HANDLER_NETNS,
	L_ENTER_USERNS,
	L_APP_USERNS,
	L_APP_NETNS,
	L_LOOPBACK,
	L_PORTS,
	L_PING,
	L_MOUNTNS,
	L_RESOLV,
	L_LISTENER,
	L_PIDFD_OPEN,
	L_PIDFD_THREAD,
	L_GETFD,
	L_READV,
	L_KCMP,
	L_SYNC,
	L_NOTIFY,
	L_ADDFD,
	L_ADDFD_SEND,
	L_UNIX_DIAG,
	L_STEPS,
};

struct lab {
	bool root;
	int start;	     /* -errno if the two processes could not be started */
	int result[L_STEPS]; /* 0, -errno, NOT_TRIED */
	int sndbuf, sndbuf_forced;
	long somaxconn;
	/* the app's, told to the handler */
	pid_t app;
	int listener, epoll, polled, target;
	uint32_t *word;
};

/* Fills @lab, which must be zero and in memory shared with children; what does not get so far
 * stays NOT_TRIED. Returns in some seconds, with no process left behind. */
void lab_run(struct lab *lab);

/* Unshares a user namespace in which the user is who it was. 0 or -errno. */
int lab_enter_userns(void);

/* A filter that traps getppid, which nothing here calls. An fd if @flags has NEW_LISTENER,
 * else 0; or -errno. */
int lab_install_filter(unsigned long flags);

/* The number in a file of /proc, -1 if there is none. */
long lab_read_number(const char *path);

#endif
