#include <appswitch/log.h>

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_LEN 1024

static const char *const level_names[] = { "error", "warn", "info", "debug" };
static _Atomic int log_level = LOG_LVL_INFO;
static _Atomic bool use_syslog;

void log_set_level(enum log_level level)
{
	log_level = (int)level;
}

void log_to_syslog(void)
{
	openlog("appswitch", LOG_PID, LOG_DAEMON);
	use_syslog = true;
}

int log_level_parse(const char *s, enum log_level *ret_level)
{
	for (int i = 0; i <= LOG_LVL_DEBUG; i++) {
		if (strcmp(s, level_names[i]) == 0) {
			*ret_level = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

bool log_enabled(enum log_level level)
{
	return (int)level <= log_level;
}

static void say(enum log_level level, const char *text)
{
	static const int priorities[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
	char line[LINE_MAX_LEN];
	int n;

	if (use_syslog) {
		syslog(priorities[level], "%s", text);
		return;
	}
	n = snprintf(line, sizeof(line) - 1, "appswitch: %s: %s", level_names[level], text);
	if (n > (int)sizeof(line) - 2)
		n = (int)sizeof(line) - 2;
	line[n++] = '\n';
	/* one write per line, so lines of several threads do not mix */
	if (write(STDERR_FILENO, line, (size_t)n) < 0) {
		/* nowhere left to say it */
	}
}

void log_msg(enum log_level level, const char *fmt, ...)
{
	char text[LINE_MAX_LEN];
	int saved = errno;
	va_list ap;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	say(level, text);
	errno = saved;
}

bool log_limit_take(struct log_limit *l, uint64_t now_ms, unsigned *ret_left_out)
{
	uint64_t paid = l->paid_ms, from;

	do {
		from = paid > now_ms ? paid : now_ms;
		if (from - now_ms > (LOG_BURST - 1) * LOG_EVERY_MS) {
			atomic_fetch_add(&l->left_out, 1);
			return false;
		}
	} while (!atomic_compare_exchange_weak(&l->paid_ms, &paid, from + LOG_EVERY_MS));
	*ret_left_out = atomic_exchange(&l->left_out, 0);
	return true;
}

void log_msg_limited(struct log_limit *l, enum log_level level, const char *fmt, ...)
{
	char text[LINE_MAX_LEN];
	int saved = errno, n;
	unsigned left_out;
	struct timespec t;
	va_list ap;

	clock_gettime(CLOCK_MONOTONIC, &t);
	if (log_enabled(level) &&
	    log_limit_take(l, (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u,
			   &left_out)) {
		va_start(ap, fmt);
		n = vsnprintf(text, sizeof(text), fmt, ap);
		va_end(ap);
		if (left_out > 0 && n >= 0 && n < (int)sizeof(text))
			snprintf(text + n, sizeof(text) - (size_t)n,
				 " (%u such lines left out before)", left_out);
		say(level, text);
	}
	errno = saved;
}
