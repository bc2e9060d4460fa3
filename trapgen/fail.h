/* fail.h - the one line a failed run says. */
#ifndef TRAPGEN_FAIL_H
#define TRAPGEN_FAIL_H

/* Prints "appswitch run: what failed: why; what to do" to stderr and returns @status. */
int trapgen_fail(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
