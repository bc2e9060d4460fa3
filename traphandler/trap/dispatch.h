/* dispatch.h - which handler a trapped call goes to. */
#ifndef TRAPHANDLER_DISPATCH_H
#define TRAPHANDLER_DISPATCH_H

#include "traphandler/trap/trap.h"

/* Ends or parks @t. */
void trap_dispatch(struct trap *t);

/* May the call wait for the target while it is serviced (ADDFD)? */
bool trap_may_wait(int nr);

#endif
