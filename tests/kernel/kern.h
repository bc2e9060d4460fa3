/* kern.h - what the kernel-assumption tests share: namespaces, a filter, its notifications.
 *
 * A test runs in the program itself (the "host side") and forks the "app", which is filtered.
 * Everything asserts: a helper that returns has succeeded. */
#ifndef KERN_H
#define KERN_H

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>
#include <cmocka.h>

#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1UL
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS	   _IOW('!', 4, __u64)
#endif
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

/* main() of a test program: --user drops root first, then everything works in a user
 * namespace of its own; a fresh, empty network namespace in both cases. Exit 77 where the
 * kernel allows neither. */
int kern_main(int argc, char **argv, int (*tests)(void));
bool kern_is_user(void); /* no privilege outside the user namespace */

struct kern_app {
	pid_t pid;
	int pidfd;
	int listener; /* ours, taken by pidfd_getfd(2) */
	int ctl;      /* a socketpair to the app */
};

/* Forks; the child traps syscall @nr and runs @fn(ctl end), whose value is its exit status.
 * The child's own copy of the listener is closed before @fn. */
void kern_app_start(struct kern_app *a, int nr, int (*fn)(int ctl));
int kern_app_wait(struct kern_app *a); /* its wait status; closes everything */

/* Waits at most 5 s for a notification. False: none came in @ms. */
void kern_recv(int listener, struct seccomp_notif *req);
bool kern_pending(int listener, int ms);
int kern_send(int listener, uint64_t id, int64_t val, int error); /* 0 or -errno */
int kern_addfd(int listener, uint64_t id, int fd, int newfd, uint32_t flags,
	       uint32_t addfd_flags);	      /* fd or -errno */
int kern_id_valid(int listener, uint64_t id); /* 0 or -errno */

int kern_pidfd_open(pid_t pid);
int kern_pidfd_getfd(int pidfd, int fd); /* fd or -errno */

/* One byte each way; asserts. */
void kern_poke(int fd);
void kern_wait_poke(int fd);

socklen_t kern_abstract(struct sockaddr_un *sa, const char *name);
int kern_unix(int type);
/* A listening socket of that abstract name in the caller's network namespace. */
int kern_listen(const char *name);
uint64_t kern_cookie(int fd, int opt);

#endif
