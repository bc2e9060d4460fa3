/* log.h - one line per event, to stderr (daemon) or syslog (embedded daemon).
 * Thread-safe; never fails, never blocks on anything but the sink.
 * The core (…_core.c) never logs: the loop, the CLI and main do, once, with the id. */
#ifndef APPSWITCH_LOG_H
#define APPSWITCH_LOG_H

#include <stdbool.h>

enum log_level { LOG_LVL_ERROR, LOG_LVL_WARN, LOG_LVL_INFO, LOG_LVL_DEBUG };

void log_set_level(enum log_level level);
void log_to_syslog(void);
/* "error", "warn", "info", "debug" -> level; 0 or -EINVAL */
int log_level_parse(const char *s, enum log_level *ret_level);
bool log_enabled(enum log_level level);
void log_msg(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_msg(LOG_LVL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_msg(LOG_LVL_WARN, __VA_ARGS__)
#define log_info(...)  log_msg(LOG_LVL_INFO, __VA_ARGS__)
#define log_debug(...)                                       \
	do {                                                 \
		if (log_enabled(LOG_LVL_DEBUG))              \
			log_msg(LOG_LVL_DEBUG, __VA_ARGS__); \
	} while (0)

#endif
