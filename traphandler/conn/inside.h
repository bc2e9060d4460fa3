/* inside.h - a connect() that stays within the app's own network namespace: its own loopback and
 * addresses, and refusals, which are the kernel's. */
#ifndef TRAPHANDLER_INSIDE_H
#define TRAPHANDLER_INSIDE_H

#include "traphandler/conn/standin.h"

/* Loopback, or an address of the app's. */
bool inside_is_own(const struct app *app, const struct as_addr *a);

/* What the app itself has bound to its loopback comes before what others serve there. False: it has
 * nothing there, or an anchor. Ends @t otherwise. */
bool inside_connect_private(struct trap *t, const struct sock *s,
			    const struct as_endpoint *dest);

/* No service is there: what listens natively in the app's namespace, or nobody. False: there is a
 * service now. Ends @t otherwise. */
bool inside_connect_own(struct trap *t, struct sock *s, const struct as_endpoint *dest);

/* The app's own, non-blocking socket meets a closed port, so that the refusal is the kernel's. Ends
 * @t. */
void inside_refuse(struct trap *t, const struct sock *s, const struct as_endpoint *dest);

#endif
