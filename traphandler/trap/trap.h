/* trap.h - one trapped system call, from notification to reply.
 *
 * A handler gets a struct trap and ends it with exactly one trap_reply_*(), or gives it away
 * with trap_park() (somebody will end it later, from the same call slot). Worker threads only.
 * 0 or -errno; -ENOENT from any of them: the target was interrupted or died, the call is over
 * and the slot is free.
 *
 * Target memory is copied and the notification validated afterwards, so the bytes were this
 * call's; they may change at once, so decisions are made on the copy (seccomp_unotify(2)). */
#ifndef TRAPHANDLER_TRAP_H
#define TRAPHANDLER_TRAP_H

#include "traphandler/switch.h"

struct trap {
	struct switch_ctx *sw;
	struct worker *w;
	struct app *app; /* referenced while the trap is handled */
	struct st_call *call;
	unsigned replaced; /* app->replaced when it began */
	int copy; /* our copy of the fd that the call is about, or -1; closed before the reply */
	int nr;
	const uint64_t *args; /* of call->notif */
	int tid;
};

int trap_reply_continue(struct trap *t);
int trap_reply_value(struct trap *t, int64_t value);
int trap_reply_errno(struct trap *t, int err); /* > 0 */
/* Replies and leaves the slot to the caller, who ends it with trap_end(). */
int trap_send_value(struct trap *t, int64_t value);

/* The target is gone (-ENOENT): the call is over without a reply. */
void trap_drop(struct trap *t);
/* It was answered. */
void trap_end(struct trap *t);
/* The call slot stays in use and @t's worker goes on; resumed with pool_resume(). */
void trap_park(struct trap *t);

/* Still the call that was received? */
bool trap_valid(const struct trap *t);
bool call_valid(const struct app *app, const struct st_call *call);
/* Under sw->lock: is it known to be over? Does not wait for the app. */
bool call_over(const struct app *app, const struct st_call *call);

/* 0, -EFAULT, -EACCES (the process may not be read), -ENOENT */
int trap_read(struct trap *t, uint64_t addr, void *buf, size_t len);
/* Without the validation: only where a trap_write() that depends on it follows. */
int trap_peek(struct trap *t, uint64_t addr, void *buf, size_t len);
int trap_write(struct trap *t, uint64_t addr, const void *buf, size_t len);
/* Two places in one go; @len2 may be 0. */
int trap_write2(struct trap *t, uint64_t addr, const void *buf, size_t len, uint64_t addr2,
		const void *buf2, size_t len2);

/* A copy of the target's fd. -EBADF, -ENOENT, -EMFILE (ours ran out: logged), … */
int trap_getfd(struct trap *t, int fd, int *ret_fd);

/* Installs @fd in the target: at @at if >= 0 (replacing what is there), else at a free number,
 * which is returned. Waits for the target; -EAGAIN if it did not come in time (nothing was
 * installed), -EMFILE if it has no free number. */
int trap_addfd(struct trap *t, int fd, int at, bool cloexec);

/* The same and the reply in one: either the call returns that number, or nothing was installed. In
 * a child, whom the end of the daemon does not end; the call slot says how far it is (ST_TELLING).
 * The slot is still the caller's, who ends it with trap_end(). The number; -ENOENT, -EMFILE, ...;
 * -EAGAIN: there can be no child now. */
int trap_addfd_send(struct trap *t, int fd, int at, bool cloexec);

/* FD_CLOEXEC of the target's fd; 1, 0 or -errno */
int trap_fd_cloexec(struct trap *t, int fd);

/* An argument that the kernel takes as int. */
static inline int trap_int(const struct trap *t, int i)
{
	return (int)(uint32_t)t->args[i];
}

#endif
