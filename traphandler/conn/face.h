/* face.h - what a program asks about a stand-in, answered as TCP would: addresses, ioctls,
 * shutdown of one half, the error queue. */
#ifndef TRAPHANDLER_FACE_H
#define TRAPHANDLER_FACE_H

#include "traphandler/trap/trap.h"

void handle_getname(struct trap *t);
void handle_shutdown(struct trap *t);
void handle_errqueue(struct trap *t); /* recvfrom, recvmsg, recvmmsg with MSG_ERRQUEUE */
void handle_ioctl(struct trap *t);

/* Writes an address as the kernel's move_addr_to_user() does: cut to the caller's length, the
 * true length told. 0, -EFAULT, -EINVAL, -ENOENT, -EACCES. */
int face_write_addr(struct trap *t, uint64_t addr, uint64_t addrlen,
		    const struct as_endpoint *e, int face);

#endif
