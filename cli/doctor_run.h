/* doctor_run.h - `appswitch run -- true`, tried as a user would: with an embedded daemon, at a
 * socket in a directory of its own. */
#ifndef APPSWITCH_CLI_DOCTOR_RUN_H
#define APPSWITCH_CLI_DOCTOR_RUN_H

#include <stddef.h>

#define TRY_RUN_FAILED 1

/* 0: it works. TRY_RUN_FAILED: it does not, and @ret_why has the line that it said. -errno: it
 * could not be tried. Bounded; neither a process nor a file is left behind. The caller has no
 * children: who ends meanwhile is taken for one of run's. */
int doctor_try_run(char *ret_why, size_t size);

#endif
