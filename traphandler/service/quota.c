#include "traphandler/service/quota.h"

#include "traphandler/switch.h"

#include <appswitch/log.h>

void quota_tell(struct app *app, enum quota_table table)
{
	static const char *const names[] = {
		[QUOTA_CALLS] = "calls in flight",
		[QUOTA_LISTENERS] = "listeners",
		[QUOTA_SOCKS] = "records about sockets",
		[QUOTA_KEPT] = "interrupted connects",
	};

	if ((atomic_fetch_or(&app->quota_told, 1u << table) & (1u << table)) == 0)
		log_warn("app %u: it holds its share of the daemon's %s and gets no more; "
			 "others are not affected",
			 app->id, names[table]);
}
