/* quota.h - how much of a table that all apps share one of them may hold.
 *
 * As much as is free (dynamic thresholds: Choudhury and Hahne, 1998): one that wants all gets half,
 * n of them get 1/(n+1) each, and who holds nothing always finds room. Nothing to configure. */
#ifndef TRAPHANDLER_QUOTA_H
#define TRAPHANDLER_QUOTA_H

#include "traphandler/state/state.h"

#include <stdbool.h>
#include <stddef.h>

struct app;

/* Counts by app; two apps whose ids are ST_APPS apart share one. */
#define QUOTA_OF(app_id) ((app_id) % ST_APPS)

static inline bool quota_allows(size_t held, size_t room)
{
	return held < room;
}

enum quota_table { QUOTA_CALLS, QUOTA_LISTENERS, QUOTA_SOCKS, QUOTA_KEPT };

/* One line for the operator, the first time that @app is refused more of @table. Any thread. */
void quota_tell(struct app *app, enum quota_table table);

#endif
