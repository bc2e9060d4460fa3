/* doctor.c - tries each kernel feature, and says what works without it and how to get it.
 *
 * Nothing asks for a kernel version: doctor_lab.c or the check itself really uses the feature. In
 * the end `run` itself is tried, so that the verdict does not hang on what nobody thought of. */
#include "cli/cli.h"
#include "cli/doctor_lab.h"
#include "cli/doctor_run.h"

#include <appswitch/ctl.h>
#include <appswitch/util.h>

#include <fcntl.h>
#include <getopt.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define SOMAXCONN_GOOD 4096
#define NOFILE_GOOD    65536
#define NOFILE_LEAST   64 /* a daemon and one app take some 40 */

/* ---- reports ---- */

enum verdict { OK, LIMITED, MISSING };

static unsigned missing_count;

/* One line. @hint: what works without it and how to get it; unused when @v is OK. */
__attribute__((format(printf, 4, 5))) static void report(enum verdict v, const char *name,
							 const char *hint, const char *fmt, ...)
{
	static const char *const names[] = { "ok", "limited", "missing" };
	va_list ap;

	printf("%-8s %s: ", names[v], name);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	if (v != OK && hint != NULL)
		printf(" — %s", hint);
	printf("\n");
	if (v == MISSING)
		missing_count++;
}

/* The usual report of a feature that is there or not; @r is 0, -errno or NOT_TRIED. */
static void report_result(int r, enum verdict without, const char *name, const char *good,
			  const char *hint)
{
	if (r == 0)
		report(OK, name, NULL, "%s", good);
	else if (r == NOT_TRIED)
		report(without, name, NULL, "could not be tried, something it needs failed");
	else
		report(without, name, hint, "%s", strerror(-r));
}

/* Runs @fn in a child, which may change itself; what it returns: 0 or -errno. */
static int in_child(int (*fn)(void *arg), void *arg)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return -errno;
	if (pid == 0)
		_exit(-fn(arg));
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EFAULT;
}

/* ---- checks ---- */

#define HINT_USERNS                                                                           \
	"'run' works as root; for ordinary users: sysctl user.max_user_namespaces=10000, "    \
	"kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0 " \
	"as far as they exist; in a container, a seccomp profile that allows unshare"

static void check_start(const struct lab *lab)
{
	if (lab->start < 0)
		report(MISSING, "processes and pipes",
		       "most of what follows cannot be tried; raise the limits of this user "
		       "(ulimit -n, ulimit -u)",
		       "%s", strerror(-lab->start));
}

static int userns_as_nobody(void *arg)
{
	(void)arg;
	if (setgid(65534) < 0 || setuid(65534) < 0)
		return -errno;
	/* the change of ids took /proc/self away from us; exec would give it back */
	(void)prctl(PR_SET_DUMPABLE, 1);
	return lab_enter_userns();
}

static void check_userns(const struct lab *lab)
{
	const int *r = lab->result;
	const char *good = "can be made by the current user, one inside the other";
	int worst = r[L_HANDLER_USERNS];

	if (lab->root) {
		worst = in_child(userns_as_nobody, NULL);
		if (worst == 0)
			report(OK, "user namespaces", NULL,
			       "can be made by ordinary users (root needs none)");
		else
			report(LIMITED, "user namespaces", HINT_USERNS,
			       "ordinary users cannot make them (%s)", strerror(-worst));
		return;
	}
	if (worst == 0)
		worst = r[L_ENTER_USERNS];
	if (worst == 0)
		worst = r[L_APP_USERNS];
	report_result(worst, MISSING, "user namespaces", good, HINT_USERNS);
}

/* A sysctl that forbids user namespaces to ordinary users. */
static void check_userns_limit(const struct lab *lab, const char *path, bool forbidden_if_zero)
{
	char name[64], hint[160];
	long n = lab_read_number(path);

	snprintf(name, sizeof(name), "%s", path + strlen("/proc/sys/"));
	for (char *p = name; *p != '\0'; p++)
		*p = *p == '/' ? '.' : *p;
	if (n < 0)
		return; /* not on this system: no limit */
	if ((n == 0) != forbidden_if_zero) {
		report(OK, name, NULL, "%ld", n);
		return;
	}
	snprintf(hint, sizeof(hint),
		 "'run' works as root; for ordinary users write %s to %s (or a file in "
		 "/etc/sysctl.d)",
		 forbidden_if_zero ? "a number above 0" : "0", path);
	/* what it forbids is judged where it is tried; a profile may make an exception */
	report(LIMITED, name, hint, "%ld, which forbids them to ordinary users%s", n,
	       lab->root ? "" : " like this one");
}

static void check_userns_limits(const struct lab *lab)
{
	check_userns_limit(lab, "/proc/sys/user/max_user_namespaces", true);
	check_userns_limit(lab, "/proc/sys/kernel/unprivileged_userns_clone", true);
	check_userns_limit(lab, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
			   false);
}

static void check_netns(const struct lab *lab)
{
	const int *r = lab->result;
	int worst = r[L_HANDLER_NETNS];

	if (worst == 0)
		worst = r[L_APP_NETNS];
	if (worst == 0)
		worst = r[L_LOOPBACK];
	report_result(
		worst, MISSING, "network namespaces",
		"can be made, and their loopback brought up",
		"nothing works without; in a container, give it CAP_SYS_ADMIN or a seccomp "
		"profile that allows unshare; sysctl user.max_net_namespaces must not be 0; "
		"with kernel.apparmor_restrict_unprivileged_userns=1, set it to 0");
	if (worst != 0)
		return;
	report_result(r[L_PORTS], LIMITED, "ports below 1024",
		      "open to every app in its own namespace",
		      "apps that are not root cannot listen on them; make /proc/sys writable "
		      "(containers mount it read-only)");
	report_result(r[L_PING], LIMITED, "ping sockets", "can be allowed in the namespace",
		      "ping inside an app needs root; make /proc/sys writable");
}

static void check_mountns(const struct lab *lab)
{
	report_result(
		lab->result[L_MOUNTNS], LIMITED, "mount namespaces", "can be made",
		"everything works: only a resolv.conf of an app's own, which there is not "
		"yet, would need them; in a container, give it CAP_SYS_ADMIN");
	if (lab->result[L_MOUNTNS] == 0)
		report_result(lab->result[L_RESOLV], LIMITED, "private resolv.conf",
			      "can be mounted over /etc/resolv.conf",
			      "everything but names works; make /etc/resolv.conf a file that "
			      "exists (not a dangling link), and /tmp a directory");
}

static void check_notify(const struct lab *lab)
{
	static const char hint[] = "nothing works without; a kernel with CONFIG_SECCOMP_FILTER "
				   "(5.9 or later has all "
				   "that is needed); in a container, a seccomp profile that "
				   "allows seccomp(2); not "
				   "possible inside another program that already listens";
	const int *r = lab->result;
	struct seccomp_notif_sizes sizes;

	if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) < 0) {
		report(MISSING, "seccomp notification", hint, "%s", strerror(errno));
		return;
	}
	if (r[L_LISTENER] == -EBUSY)
		report(MISSING, "seccomp notification",
		       "this is inside an app already, or in a container that uses it: run it "
		       "outside",
		       "a listener is already installed");
	else
		report_result(r[L_LISTENER] != 0 ? r[L_LISTENER] : r[L_NOTIFY], MISSING,
			      "seccomp notification", "a trap was delivered and answered",
			      hint);
	report_result(r[L_ADDFD], MISSING, "seccomp fd injection",
		      "an fd of the app was replaced (ADDFD with SETFD)",
		      "nothing works without; needs a newer kernel");
	report_result(r[L_ADDFD_SEND], LIMITED, "seccomp ADDFD_FLAG_SEND",
		      "an fd was handed over and returned at once",
		      "everything works, the fast path does not use it; needs a newer kernel");
	report_result(r[L_SYNC], LIMITED, "seccomp sync wake-up",
		      "SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP can be set",
		      "everything works, but each trapped call takes several times as long; "
		      "needs a newer kernel");
}

static int try_filter_flags(void *arg)
{
	int r;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	r = lab_install_filter(*(unsigned long *)arg);
	return r < 0 ? r : 0;
}

static void check_filter_flag(unsigned long flag, const char *name, const char *hint)
{
	unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | flag;
	int r = in_child(try_filter_flags, &flags);

	/* busy: a listener is there already, which says nothing about the flag */
	report_result(r == -EBUSY ? NOT_TRIED : r, LIMITED, name, "can be set", hint);
}

static void check_filter_flags(const struct lab *lab)
{
	(void)lab;
	check_filter_flag(SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, "seccomp WAIT_KILLABLE_RECV",
			  "everything works: interrupted calls are handled without it; needs a "
			  "newer kernel");
	check_filter_flag(SECCOMP_FILTER_FLAG_SPEC_ALLOW, "seccomp SPEC_ALLOW",
			  "everything works, but filtered programs may be slowed down by "
			  "mitigations; needs a newer kernel");
}

static void check_process(const struct lab *lab)
{
	const int *r = lab->result;

	report_result(r[L_PIDFD_OPEN], MISSING, "pidfd_open", "works",
		      "nothing works without; needs a newer kernel, or a seccomp profile that "
		      "allows it");
	report_result(
		r[L_PIDFD_THREAD], LIMITED, "PIDFD_THREAD", "threads have pidfds",
		"everything works, but each trap of a second thread costs a look into /proc; "
		"needs a newer kernel");
	report_result(
		r[L_GETFD], MISSING, "pidfd_getfd", "an fd of the app was copied",
		"nothing works without; needs a newer kernel, a seccomp profile that allows "
		"it, and kernel.yama.ptrace_scope below 3");
	report_result(
		r[L_READV], MISSING, "process_vm_readv", "memory of the app was read",
		"nothing works without; needs CONFIG_CROSS_MEMORY_ATTACH, a seccomp profile "
		"that allows it, and kernel.yama.ptrace_scope below 3");
	report_result(
		r[L_KCMP], LIMITED, "kcmp KCMP_EPOLL_TFD", "an epoll item was found",
		"everything works, but a connect() of a program with epoll and many open fds "
		"is slow; needs CONFIG_KCMP, and a seccomp profile that allows it");
	report_result(
		r[L_UNIX_DIAG], LIMITED, "unix_diag", "shows the sockets of a namespace",
		"connections are not shown, and listeners that were closed are noticed later; "
		"needs CONFIG_UNIX_DIAG (modprobe unix_diag)");
}

static void check_yama(const struct lab *lab)
{
	long scope = lab_read_number("/proc/sys/kernel/yama/ptrace_scope");
	bool works = lab->result[L_GETFD] == 0 && lab->result[L_READV] == 0;

	if (scope < 0)
		report(OK, "Yama ptrace_scope", NULL, "Yama is not in this kernel");
	else if (works || scope == 0)
		report(OK, "Yama ptrace_scope", NULL, "%ld%s", scope,
		       scope > 0 ? ", and the handler may read apps all the same" : "");
	else
		report(LIMITED, "Yama ptrace_scope",
		       "the handler may not be able to read apps; sysctl "
		       "kernel.yama.ptrace_scope=1 (3 can only be left by a reboot)",
		       "%ld", scope);
}

/* 0 or -errno for getsockopt on one end of a UNIX socket pair or on a TCP socket */
static int try_getsockopt(int family, int name, void *ret, socklen_t len)
{
	int fds[2] = { -1, -1 };
	int r = 0;

	if (family == AF_UNIX) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
			return -errno;
	} else {
		fds[0] = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fds[0] < 0)
			return -errno;
	}
	if (getsockopt(fds[0], SOL_SOCKET, name, ret, &len) < 0)
		r = -errno;
	close(fds[0]);
	if (fds[1] >= 0)
		close(fds[1]);
	return r;
}

static void check_socket_options(const struct lab *lab)
{
	_cleanup_close_ int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int pidfd = -1, off = 0, r;
	uint64_t cookie;

	(void)lab;
	r = try_getsockopt(AF_UNIX, SO_PEERPIDFD, &pidfd, sizeof(pidfd));
	if (pidfd >= 0)
		close(pidfd);
	report_result(r, LIMITED, "SO_PEERPIDFD", "tells who registers",
		      "everything works: the pid of the peer is used, which could be reused "
		      "meanwhile; needs a newer kernel");
	report_result(try_getsockopt(AF_INET, SO_NETNS_COOKIE, &cookie, sizeof(cookie)),
		      MISSING, "SO_NETNS_COOKIE", "tells the namespace of a socket",
		      "nothing works without it; it came with Linux 5.14");
	r = setsockopt(s, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof(off)) < 0 ? -errno : 0;
	report_result(r, LIMITED, "SO_PASSRIGHTS", "local connections can refuse fds",
		      "everything works, but local apps that cooperate can pass fds over their "
		      "connection; needs a newer kernel");
}

static void check_buffers(const struct lab *lab)
{
	char hint[256];
	long max = lab_read_number("/proc/sys/net/core/wmem_max");
	bool forced = lab->sndbuf_forced >= LAB_SNDBUF;

	snprintf(
		hint, sizeof(hint),
		"everything works, but large transfers between local apps reach about half the "
		"speed; sysctl net.core.wmem_max=%d, or the daemon as root",
		LAB_SNDBUF);
	if (lab->sndbuf < 0 || lab->sndbuf == NOT_TRIED)
		report(LIMITED, "SO_SNDBUF", hint, "cannot be set");
	else
		report(forced || lab->sndbuf >= LAB_SNDBUF ? OK : LIMITED, "SO_SNDBUF", hint,
		       "an unprivileged daemon gets %d of %d bytes (net.core.wmem_max %ld)%s",
		       lab->sndbuf, LAB_SNDBUF, max,
		       forced ? ", this one all by SO_SNDBUFFORCE"
			      : ", SO_SNDBUFFORCE is not allowed");
	if (lab->somaxconn < 0)
		report(LIMITED, "net.core.somaxconn", "the default of the kernel holds",
		       "cannot be read in a new namespace");
	else
		report(lab->somaxconn >= SOMAXCONN_GOOD ? OK : LIMITED, "net.core.somaxconn",
		       "everything works, but bursts of connections wait or are refused "
		       "earlier; needs a newer kernel: the value of a new namespace is built "
		       "in",
		       "%ld waiting connections per listener", lab->somaxconn);
}

static void check_nofile(const struct lab *lab)
{
	struct rlimit lim;

	(void)lab;
	if (getrlimit(RLIMIT_NOFILE, &lim) < 0)
		return;
	if (lim.rlim_max == RLIM_INFINITY || lim.rlim_max >= NOFILE_GOOD)
		report(OK, "open files", NULL, "the daemon may have %llu",
		       (unsigned long long)lim.rlim_max);
	else if (lim.rlim_max < NOFILE_LEAST)
		report(LIMITED, "open files",
		       "'run' may fail: a daemon and one app need some 40; raise the hard "
		       "limit "
		       "(ulimit -Hn, /etc/security/limits.conf, LimitNOFILE=)",
		       "the daemon may have only %llu", (unsigned long long)lim.rlim_max);
	else
		report(LIMITED, "open files",
		       "everything works until that many apps and listeners are there; raise "
		       "the hard limit (ulimit -Hn, /etc/security/limits.conf, LimitNOFILE=)",
		       "the daemon may have only %llu", (unsigned long long)lim.rlim_max);
}

static void check_tun(const struct lab *lab)
{
	_cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	(void)lab;
	report_result(fd < 0 ? -errno : 0, LIMITED, "/dev/net/tun", "can be opened",
		      "only datagrams between apps would need it, TCP works; modprobe tun, "
		      "chmod 0666 /dev/net/tun");
}

/* ---- socket and daemon ---- */

/* The nearest directory above @path that exists; in place. */
static void existing_parent(char *path)
{
	struct stat st;
	char *slash;

	do {
		slash = strrchr(path, '/');
		if (slash == NULL) {
			memcpy(path, ".", 2); /* it is one character at least */
			return;
		}
		slash[slash == path ? 1 : 0] = '\0';
	} while (stat(path, &st) < 0 && errno == ENOENT && strcmp(path, "/") != 0);
}

/* Is @path an entry of @dir, which existing_parent() made of it? */
static bool is_parent(const char *dir, const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash == NULL || slash == path || (size_t)(slash - path) == strlen(dir);
}

/* Can something be made in @dir? Makes it, and removes it. */
static int try_directory(const char *dir)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/.appswitch-doctor-XXXXXX", dir);
	if (mkdtemp(path) == NULL)
		return -errno;
	return rmdir(path) < 0 ? -errno : 0;
}

static void report_place(const char *path)
{
	static const char hint[] =
		"a daemon of this user cannot serve there; use --socket PATH or "
		"$APPSWITCH_SOCKET, or set $XDG_RUNTIME_DIR to a directory of this user";
	char dir[256];
	struct stat st;
	int r;

	snprintf(dir, sizeof(dir), "%s", path);
	existing_parent(dir);
	r = try_directory(dir);
	if (r < 0)
		report(MISSING, "socket", hint, "%s: nothing can be made in %s: %s", path, dir,
		       strerror(-r));
	else if (stat(dir, &st) == 0 && st.st_uid != geteuid() && is_parent(dir, path))
		report(LIMITED, "socket",
		       "it works, but that user can put another one in its place; use a "
		       "directory of this user, mode 0700",
		       "%s would be in a directory of uid %u", path, (unsigned)st.st_uid);
	else
		report(OK, "socket", NULL, "%s%s", path,
		       is_parent(dir, path) ? "" : " (its directory will be made)");
}

/* Does @path hold what a daemon may have left there, or nothing? It replaces nothing else. */
static bool is_free(const char *path, mode_t type)
{
	_cleanup_close_ int fd = -1;
	char buf[16];
	struct stat st;
	ssize_t n;

	if (lstat(path, &st) < 0)
		return true; /* what else may be wrong is seen when the directory is tried */
	if ((st.st_mode & S_IFMT) != type)
		return false;
	if (type != S_IFREG)
		return true;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	n = fd >= 0 ? read(fd, buf, sizeof(buf)) : 0;
	for (ssize_t i = 0; i < n; i++) {
		if (strchr("0123456789\n", buf[i]) == NULL || buf[i] == '\0')
			return false; /* a pid is all that is in a lock file */
	}
	return n >= 0 && n < (ssize_t)sizeof(buf);
}

/* The socket and what a daemon has beside it. */
static bool report_files(const char *path)
{
	static const struct {
		const char *suffix, *what;
		mode_t type;
	} files[] = { { "", "socket", S_IFSOCK },
		      { ".lock", "lock file", S_IFREG },
		      { ".holder", "socket", S_IFSOCK } };
	char file[300];

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(file, sizeof(file), "%s%s", path, files[i].suffix);
		if (!is_free(file, files[i].type)) {
			report(MISSING, "socket",
			       "a daemon will not replace it: use another --socket or "
			       "$APPSWITCH_SOCKET, or remove it if nobody needs it",
			       "%s exists and is no %s", file, files[i].what);
			return false;
		}
	}
	return true;
}

/* As run judges it. */
static void report_answering(int fd)
{
	struct ucred peer = { 0 };
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid != 0 &&
	    peer.uid != geteuid())
		report(MISSING, "daemon",
		       "'run' trusts only root's and this user's own; use another --socket or "
		       "$APPSWITCH_SOCKET",
		       "runs as user %u", (unsigned)peer.uid);
	else
		report(OK, "daemon", NULL, "answers");
}

static void check_daemon(const char *socket_opt)
{
	_cleanup_close_ int fd = -1;
	char path[256];

	if (ctl_socket_path(socket_opt, path, sizeof(path)) < 0) {
		report(MISSING, "socket", "choose a shorter one", "the path is too long");
		return;
	}
	fd = ctl_connect(path);
	if (fd >= 0) {
		report(OK, "socket", NULL, "%s", path);
		report_answering(fd);
		return;
	}
	if (fd != -ENOENT && fd != -ECONNREFUSED && fd != -ENOTDIR) {
		report(MISSING, "daemon",
		       "'run' needs one that lets this user in: use another --socket or "
		       "$APPSWITCH_SOCKET, or be the user it belongs to",
		       "%s: %s", path, strerror(-fd));
		return;
	}
	if (!report_files(path))
		return;
	report_place(path);
	report(OK, "daemon", NULL, "none answers; 'run' starts an embedded one");
}

/* With a socket of its own: what may be wrong with the user's was judged before. */
static void check_run(void)
{
	char why[512] = "";
	int r = doctor_try_run(why, sizeof(why));

	if (r == 0)
		report(OK, "run", NULL, "'appswitch run -- true' works");
	else if (r == TRY_RUN_FAILED)
		report(MISSING, "run",
		       "that is what 'appswitch run -- true' says here; the lines above may "
		       "say "
		       "why",
		       "%s", why);
	else
		report(LIMITED, "run", "make /tmp writable, or set $TMPDIR",
		       "could not be tried: %s", strerror(-r));
}

int cmd_doctor(int argc, char **argv)
{
	enum { OPT_SOCKET = 256 };
	static const struct option options[] = {
		{ "socket", required_argument, NULL, OPT_SOCKET },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	static void (*const checks[])(const struct lab *lab) = {
		check_start,   check_userns,	     check_userns_limits, check_netns,
		check_mountns, check_notify,	     check_filter_flags,  check_process,
		check_yama,    check_socket_options, check_buffers,	  check_nofile,
		check_tun,
	};
	const char *socket_opt = NULL;
	struct lab *lab;
	int c;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (c) {
		case OPT_SOCKET:
			socket_opt = optarg;
			break;
		case 'h':
			return cli_help("doctor");
		default:
			return cli_getopt_error(argv, c);
		}
	}
	if (optind < argc)
		return cli_usage_error("doctor", "unexpected argument '%s'", argv[optind]);
	lab = mmap(NULL, sizeof(*lab), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		   0);
	if (lab == MAP_FAILED)
		return cli_error("doctor", "%s", strerror(errno));
	(void)signal(SIGPIPE, SIG_IGN); /* a half of the lab that died is a result */
	(void)signal(SIGCHLD, SIG_DFL); /* ignored, children would leave no status */
	lab_run(lab);
	for (size_t i = 0; i < ARRAY_SIZE(checks); i++)
		checks[i](lab);
	(void)munmap(lab, sizeof(*lab));
	check_daemon(socket_opt);
	check_run();
	if (missing_count == 0)
		printf("'appswitch run' can work here.\n");
	else
		printf("'appswitch run' cannot work here: %u missing.\n", missing_count);
	return cli_flush("doctor", missing_count == 0 ? 0 : CLI_FAILED);
}
