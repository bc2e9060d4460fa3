/* registration.h - what `run` asks for an app (see ctl.h), checked whole, as values.
 *
 * Plain parsing: it knows neither the daemon nor its tables. */
#ifndef TRAPHANDLER_REGISTRATION_H
#define TRAPHANDLER_REGISTRATION_H

#include "traphandler/service/lb.h"

#include <appswitch/addr.h>

#include <jansson.h>
#include <stdbool.h>

struct registration {
	char *name, *network, *command, *tags; /* never NULL */
	enum lb_policy lb;
	unsigned weight; /* 1 to 1000 */
	struct as_addr ip4, ip6;
	bool own4, own6; /* the address is given */
};

/* @reg is any JSON value. 0; -EINVAL (not a registration) or -ENOMEM, with a line for a person in
 * @err. *@ret is written on success only; registration_done() frees what it owns. */
int registration_parse(const json_t *reg, struct registration *ret, char *err, size_t err_size);
void registration_done(struct registration *r);

#endif
