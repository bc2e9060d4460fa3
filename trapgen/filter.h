/* filter.h - the seccomp filter: which syscalls trap, which fail at once, which pass.
 *
 * The filter is not the boundary (the empty network namespace is), so what it does not know
 * passes. It decides on numbers only and sees no memory. */
#ifndef TRAPGEN_FILTER_H
#define TRAPGEN_FILTER_H

#include <seccomp.h>

/* The caller owns *ret_ctx: seccomp_release(). 0 or -errno. */
int trapgen_filter_build(scmp_filter_ctx *ret_ctx);

/* Puts the filter in force for this process and its children and gives the listener, which is
 * close-on-exec. From here on a trapped call sleeps until somebody serves the listener.
 * -EACCES: neither CAP_SYS_ADMIN nor no_new_privs. -EBUSY: already inside an app. */
int trapgen_filter_load(scmp_filter_ctx ctx, int *ret_listener);

#endif
