#include <trapgen/trapgen.h>

#include <appswitch/util.h>
#include <trapgen/command.h>
#include <trapgen/fail.h>
#include <trapgen/filter.h>
#include <trapgen/netns.h>
#include <trapgen/session.h>

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int trapgen_fail(int status, const char *fmt, ...)
{
	char line[1024] = "appswitch run: ";
	size_t len = strlen(line);
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line + len, sizeof(line) - len - 1, fmt, ap);
	va_end(ap);
	if (n > 0)
		len = strlen(line);
	line[len++] = '\n';
	if (write(STDERR_FILENO, line, len) < 0) {
		/* the exit status still tells */
	}
	return status;
}

/* With one of fds 0 to 2 closed our own would land there, and a message to stderr in the
 * daemon's socket. The place holders close at exec, so the command finds what we found. */
static int hold_stdio(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (fd < 0)
			return -errno;
	} while (fd <= STDERR_FILENO);
	close(fd);
	return 0;
}

static int find_user(const char *spec, struct command_user *ret)
{
	int r;

	if (geteuid() != 0)
		return trapgen_fail(TRAPGEN_EXIT_SETUP,
				    "--user %s: only root can change the user; leave it out",
				    spec);
	r = command_user_find(spec, ret);
	if (r < 0)
		return trapgen_fail(TRAPGEN_EXIT_SETUP, "--user %s: %s; check the name", spec,
				    r == -ENOENT ? "no such user" : strerror(-r));
	return 0;
}

static int enter(const struct session *s)
{
	struct netns_config cfg = { .ipv4 = s->ipv4, .ipv6 = s->ipv6, .userns = s->userns };
	const char *what;
	int r = netns_enter(&cfg, &what);

	if (r < 0)
		return trapgen_fail(TRAPGEN_EXIT_SETUP, "%s: %s; %s", what, strerror(-r),
				    s->userns >= 0
					    ? "check that user namespaces are allowed"
					      " (user.max_user_namespaces) or run as root"
					    : "check that root has all capabilities here");
	return 0;
}

/* Puts the filter in force and hands it over. Nothing after seccomp_load() may trap until the
 * daemon has answered: there is nobody yet to serve it. */
static int attach(const struct session *s)
{
	_cleanup_close_ int probe = -1, listener = -1;
	scmp_filter_ctx ctx;
	int r;

	probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (probe < 0)
		return trapgen_fail(TRAPGEN_EXIT_SETUP, "make a socket: %s; check the limits",
				    strerror(errno));
	r = trapgen_filter_build(&ctx);
	if (r < 0)
		return trapgen_fail(TRAPGEN_EXIT_SETUP,
				    "build the filter: %s; check the version of libseccomp",
				    strerror(-r));
	r = trapgen_filter_load(ctx, &listener);
	seccomp_release(ctx);
	if (r < 0)
		return trapgen_fail(
			TRAPGEN_EXIT_SETUP, "install the filter: %s; %s", strerror(-r),
			r == -EBUSY ? "run it outside of other apps and supervisors"
				    : "seccomp user notification is needed (Linux 5.6)");
	return session_attach(s, listener, probe);
}

static int exec_command(char *const *argv)
{
	int err;

	execvp(argv[0], argv);
	err = errno;
	return trapgen_fail(err == ENOENT ? TRAPGEN_EXIT_NOT_FOUND : TRAPGEN_EXIT_NOT_EXEC,
			    "execute '%s': %s; check the command", argv[0], strerror(err));
}

static int become_and_exec(const struct trapgen_spec *spec, const struct command_user *user)
{
	int r = spec->user != NULL ? command_user_become(user) : 0;

	if (r < 0)
		return trapgen_fail(TRAPGEN_EXIT_SETUP,
				    "become user %s: %s; check root's capabilities", spec->user,
				    strerror(-r));
	return exec_command(spec->argv);
}

int trapgen_run(const struct trapgen_spec *spec)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN }, inherited;
	struct session s = { .fd = -1, .userns = -1 };
	struct command_user user = { 0 };
	int r;

	r = hold_stdio();
	if (r < 0) /* most likely there is no stderr either */
		return trapgen_fail(TRAPGEN_EXIT_SETUP, "open /dev/null: %s; check /dev",
				    strerror(-r));
	/* what can be refused without having started anything */
	r = command_check(spec->argv[0]);
	if (r == 0 && spec->user != NULL)
		r = find_user(spec->user, &user);
	if (r != 0)
		return r;

	/* a daemon that hangs up is an error to report, not a reason to die silently */
	sigaction(SIGPIPE, &ignore, &inherited);
	r = session_open(spec, &s);
	if (r == 0)
		r = enter(&s);
	if (r == 0)
		r = attach(&s);
	sigaction(SIGPIPE, &inherited, NULL);
	if (r == 0)
		r = become_and_exec(spec, &user);
	session_done(&s);
	command_user_done(&user);
	return r;
}
