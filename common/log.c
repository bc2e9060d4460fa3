#include <appswitch/log.h>

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

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

void log_msg(enum log_level level, const char *fmt, ...)
{
	static const int priorities[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
	char line[1024];
	va_list ap;
	int n, saved = errno;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	if (use_syslog) {
		vsyslog(priorities[level], fmt, ap);
	} else {
		n = snprintf(line, sizeof(line), "appswitch: %s: ", level_names[level]);
		n += vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
		if (n > (int)sizeof(line) - 2)
			n = (int)sizeof(line) - 2;
		line[n++] = '\n';
		/* one write per line, so lines of several threads do not mix */
		if (write(STDERR_FILENO, line, (size_t)n) < 0) {
			/* nowhere left to say it */
		}
	}
	va_end(ap);
	errno = saved;
}
