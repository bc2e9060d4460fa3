/* log.h - one line per event, to stderr (daemon) or syslog (embedded daemon).
 * Thread-safe; never fails, never blocks on anything but the sink.
 * The core (…_core.c) never logs: the loop, the CLI and main do, once, with the id. */
#ifndef APPSWITCH_LOG_H
#define APPSWITCH_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LVL_ERROR, LOG_LVL_WARN, LOG_LVL_INFO, LOG_LVL_DEBUG };

void log_set_level(enum log_level level);
void log_to_syslog(void);
/* "error", "warn", "info", "debug" -> level; 0 or -EINVAL */
int log_level_parse(const char *s, enum log_level *ret_level);
bool log_enabled(enum log_level level);
void log_msg(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* For what an app can cause as often as it likes: each place that logs may say LOG_BURST lines
 * at once and then one in LOG_EVERY_MS; the next line after a gap tells how many were left out. */
#define LOG_BURST    10u
#define LOG_EVERY_MS 1000u

struct log_limit {		  /* zero: nothing said yet */
	_Atomic uint64_t paid_ms; /* the lines said so far are paid for at this time */
	atomic_uint left_out;
};

/* May another line be said at @now_ms? If so, how many were left out before it. Pure. */
bool log_limit_take(struct log_limit *l, uint64_t now_ms, unsigned *ret_left_out);
void log_msg_limited(struct log_limit *l, enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#define log_limited(level, ...)                                   \
	do {                                                      \
		static struct log_limit limit_here;               \
		log_msg_limited(&limit_here, level, __VA_ARGS__); \
	} while (0)
#define log_error_limited(...) log_limited(LOG_LVL_ERROR, __VA_ARGS__)
#define log_warn_limited(...)  log_limited(LOG_LVL_WARN, __VA_ARGS__)

#define log_error(...) log_msg(LOG_LVL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_msg(LOG_LVL_WARN, __VA_ARGS__)
#define log_info(...)  log_msg(LOG_LVL_INFO, __VA_ARGS__)
#define log_debug(...)                                       \
	do {                                                 \
		if (log_enabled(LOG_LVL_DEBUG))              \
			log_msg(LOG_LVL_DEBUG, __VA_ARGS__); \
	} while (0)

#endif
