/* views.h - what `get` shows, as arrays of flat JSON objects. Main thread. */
#ifndef TRAPHANDLER_VIEWS_H
#define TRAPHANDLER_VIEWS_H

#include "traphandler/switch.h"

/* Only of @network, unless that is NULL. A new reference, or NULL: @what is not known (or no
 * memory). */
json_t *view_rows(struct switch_ctx *sw, const char *what, const char *network);

/* Recounts connections and forgets the records of those that ended. */
void view_recount(struct switch_ctx *sw);

#endif
