#include <trapgen/embedded.h>

#include <appswitch/util.h>

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define READY_FD 3

/* mkdir -p of the directory that is to hold @socket */
static int make_parents(const char *socket)
{
	char dir[PATH_MAX];

	if ((size_t)snprintf(dir, sizeof(dir), "%s", socket) >= sizeof(dir))
		return -ENAMETOOLONG;
	for (char *p = strchr(dir + 1, '/'); p != NULL; p = strchr(p + 1, '/')) {
		*p = '\0';
		if (mkdir(dir, 0700) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return 0;
}

/* A daemon starts from the defaults, whatever the shell that ran us had blocked or ignored. */
static void reset_signals(void)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		(void)sigaction(sig, &dfl, NULL); /* KILL, STOP: EINVAL */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void exec_daemon(const char *socket, int ready)
{
	char ready_text[] = { '0' + READY_FD, '\0' };
	int null = open("/dev/null", O_RDWR);

	/* @ready lies above 2, so it survives the first three */
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
		return;
	if (ready == READY_FD ? fcntl(ready, F_SETFD, 0) < 0 : dup2(ready, READY_FD) < 0)
		return;
	if (close_range(READY_FD + 1, ~0U, 0) < 0)
		return;
	if (*socket == '/' && chdir("/") < 0) /* hold no mount; a relative path needs the cwd */
		return;
	reset_signals();
	execl("/proc/self/exe", "appswitch", "daemon", "--embedded", "--socket", socket,
	      "--ready-fd", ready_text, (char *)NULL);
}

static int spawn(const char *socket, int ready)
{
	/* fork() with exit signal 0: the end of the intermediate process raises no SIGCHLD, which
	 * would stay pending across exec where the caller has it blocked. */
	int subreaper = 0;
	long pid;

	/* the daemon must not become CMD's child, also where CMD adopts orphans */
	(void)prctl(PR_GET_CHILD_SUBREAPER, &subreaper, 0, 0, 0);
	if (subreaper)
		(void)prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
	pid = syscall(SYS_clone, 0UL, NULL, NULL, NULL, NULL);
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		if (setsid() < 0)
			_exit(1);
		if (fork() == 0) {
			exec_daemon(socket, ready);
			_exit(1); /* the pipe's end tells */
		}
		_exit(0);
	}
	/* ECHILD where SIGCHLD is ignored: then it is gone all the same */
	while (waitpid((pid_t)pid, NULL, __WALL) < 0 && errno == EINTR)
		;
	if (subreaper)
		(void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	return 0;
}

int embedded_start(const char *socket, int timeout_ms, char *ret_why, size_t size)
{
	_cleanup_close_ int rd = -1;
	struct pollfd p = { .events = POLLIN };
	int fds[2], r;
	ssize_t n;

	r = make_parents(socket);
	if (r < 0)
		return r;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	rd = fds[0];
	r = spawn(socket, fds[1]);
	close(fds[1]);
	if (r < 0)
		return r;
	p.fd = rd;
	do {
		r = poll(&p, 1, timeout_ms);
	} while (r < 0 && errno == EINTR);
	if (r <= 0)
		return r < 0 ? -errno : -ETIMEDOUT;
	/* "1", or why not; nothing if another one was faster */
	n = read(rd, ret_why, size - 1);
	ret_why[n > 0 ? n : 0] = '\0';
	if (n > 1)
		return -ECANCELED;
	return n == 1;
}
