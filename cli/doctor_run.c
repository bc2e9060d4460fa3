/* doctor_run.c - see the header. */
#include "cli/doctor_run.h"

#include "cli/doctor_lab.h"

#include <appswitch/util.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#define RUN_MS 15000 /* more than run itself waits for a daemon: it is to say why */
#define END_MS 3000  /* for a daemon whose only app has ended */

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (long long)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* A directory that is short enough for a socket's path. */
static int make_place(char *dir, size_t size)
{
	const char *const places[] = { getenv("TMPDIR"), "/tmp" };
	int r = -ENOENT;

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		if (places[i] == NULL || *places[i] != '/' ||
		    (size_t)snprintf(dir, size, "%s/appswitch-doctor-XXXXXX", places[i]) >=
			    size)
			continue;
		if (mkdtemp(dir) != NULL)
			return 0;
		r = -errno;
	}
	return r;
}

static void exec_run(const char *socket, int err)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (null >= 0 && dup2(null, 0) >= 0 && dup2(null, 1) >= 0 && dup2(err, 2) >= 0)
		execl("/proc/self/exe", "appswitch", "run", "--socket", socket, "--", "true",
		      (char *)NULL);
	dprintf(err, "%s\n", strerror(errno));
}

/* Reads until the end of @fd; the last line, without what every line of run begins with, is
 * left in @line. False: there was no end in time. */
static bool read_last_line(int fd, char *line, size_t size)
{
	static const char prefix[] = "appswitch run: ";
	long long until = now_ms() + RUN_MS;
	char buf[4096], *last;
	size_t len = 0;
	ssize_t n = 1;

	while (n != 0) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		long long left = until - now_ms();

		if (left <= 0)
			return false;
		if (poll(&p, 1, (int)left) <= 0)
			continue;
		if (len == sizeof(buf) - 1) { /* the end is what counts */
			memmove(buf, buf + len / 2, len - len / 2);
			len -= len / 2;
		}
		n = read(fd, buf + len, sizeof(buf) - 1 - len);
		if (n < 0 && errno != EINTR)
			break;
		len += n > 0 ? (size_t)n : 0;
	}
	while (len > 0 && buf[len - 1] == '\n')
		len--;
	buf[len] = '\0';
	last = strrchr(buf, '\n');
	last = last != NULL ? last + 1 : buf;
	if (strncmp(last, prefix, strlen(prefix)) == 0)
		last += strlen(prefix);
	snprintf(line, size, "%s", last);
	return true;
}

/* Waits until we have no child any more. */
static bool all_ended(void)
{
	long long until = now_ms() + END_MS;

	while (now_ms() < until) {
		pid_t pid = waitpid(-1, NULL, WNOHANG | __WALL);

		if (pid < 0 && errno == ECHILD)
			return true;
		if (pid == 0)
			(void)poll(NULL, 0, 2);
	}
	return false;
}

/* The daemon that run has started is our child once run's half-way process has ended, for we
 * are the subreaper: so its pid, which is in its lock file, is its own until we wait for it. */
static void end_daemon(const char *lock)
{
	static const int signals[] = { SIGTERM, SIGKILL };

	for (size_t i = 0; i < ARRAY_SIZE(signals) && !all_ended(); i++) {
		pid_t pid = (pid_t)lab_read_number(lock);

		if (pid > 0 && waitpid(pid, NULL, WNOHANG | __WALL) == 0)
			kill(pid, signals[i]);
	}
}

static int run_at(const char *socket, char *ret_why, size_t size)
{
	_cleanup_close_ int rd = -1;
	int fds[2], status = 0;
	pid_t pid;
	bool ended;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	rd = fds[0];
	(void)fflush(stdout); /* or a child that fails before exec has it, too */
	pid = fork();
	if (pid == 0) {
		exec_run(socket, fds[1]);
		_exit(1);
	}
	close(fds[1]);
	if (pid < 0)
		return -errno;
	ended = read_last_line(rd, ret_why, size);
	if (!ended)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!ended)
		snprintf(ret_why, size, "does not end within %d s", RUN_MS / 1000);
	else if (WIFSIGNALED(status))
		snprintf(ret_why, size, "killed by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0 && *ret_why == '\0')
		snprintf(ret_why, size, "exit status %d", WEXITSTATUS(status));
	return ended && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : TRY_RUN_FAILED;
}

int doctor_try_run(char *ret_why, size_t size)
{
	static const char *const files[] = { "s", "s.lock", "s.holder" };
	char dir[80], path[96];
	int r = make_place(dir, sizeof(dir)), subreaper = 0;

	if (r < 0)
		return r;
	(void)prctl(PR_GET_CHILD_SUBREAPER, &subreaper, 0, 0, 0);
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	snprintf(path, sizeof(path), "%s/s", dir);
	r = run_at(path, ret_why, size);
	snprintf(path, sizeof(path), "%s/s.lock", dir);
	end_daemon(path);
	(void)prctl(PR_SET_CHILD_SUBREAPER, subreaper, 0, 0, 0);
	/* a daemon that ended as it should has removed them */
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		(void)unlink(path);
	}
	(void)rmdir(dir);
	return r;
}
