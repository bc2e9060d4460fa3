/* kern.c - see kern.h */
#include "kern.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static bool is_user;

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = write(fd, text, strlen(text));
	close(fd);
	return n < 0 ? -errno : 0;
}

static int enter_user_ns(void)
{
	char map[64];
	unsigned uid = geteuid(), gid = getegid();

	if (unshare(CLONE_NEWUSER) < 0)
		return -errno;
	(void)write_file("/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "%u %u 1", uid, uid);
	if (write_file("/proc/self/uid_map", map) < 0)
		return -EPERM;
	snprintf(map, sizeof(map), "%u %u 1", gid, gid);
	return write_file("/proc/self/gid_map", map);
}

bool kern_is_user(void)
{
	return is_user;
}

int kern_main(int argc, char **argv, int (*tests)(void))
{
	if (argc > 1 && strcmp(argv[1], "--user") == 0 && geteuid() == 0) {
		if (setgroups(0, NULL) < 0 || setresgid(65534, 65534, 65534) < 0 ||
		    setresuid(65534, 65534, 65534) < 0) {
			perror("dropping root");
			return 1;
		}
		/* a change of uid makes /proc/self root's, and hides us from pidfd_getfd */
		prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	}
	is_user = geteuid() != 0;
	if (is_user && enter_user_ns() < 0) {
		fprintf(stderr, "no user namespaces here: skipped\n");
		return 77;
	}
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	if (unshare(CLONE_NEWNET) < 0) {
		fprintf(stderr, "no network namespaces here: skipped\n");
		return 77;
	}
	return tests();
}

int kern_pidfd_open(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	assert_true(fd >= 0);
	return fd;
}

int kern_pidfd_getfd(int pidfd, int fd)
{
	int r = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);

	return r < 0 ? -errno : r;
}

void kern_poke(int fd)
{
	assert_int_equal(write(fd, "x", 1), 1);
}

void kern_wait_poke(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char c;

	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(read(fd, &c, 1), 1);
}

static int filter_install(int nr)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = 4, .filter = code };

	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			    SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog);
}

/* No no_new_privs: CAP_SYS_ADMIN in the user namespace is enough, as in the design. */
static void app_child(int nr, int ctl, int (*fn)(int ctl))
{
	int fd = filter_install(nr);
	char c;

	if (fd < 0 || write(ctl, &fd, sizeof(fd)) != sizeof(fd) || read(ctl, &c, 1) != 1)
		_exit(99);
	close(fd);
	_exit(fn(ctl));
}

void kern_app_start(struct kern_app *a, int nr, int (*fn)(int ctl))
{
	int sv[2], remote;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
	a->pid = fork();
	assert_true(a->pid >= 0);
	if (a->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* when an assertion fails */
		close(sv[0]);
		app_child(nr, sv[1], fn);
	}
	close(sv[1]);
	a->ctl = sv[0];
	a->pidfd = kern_pidfd_open(a->pid);
	assert_int_equal(read(a->ctl, &remote, sizeof(remote)), sizeof(remote));
	a->listener = kern_pidfd_getfd(a->pidfd, remote);
	assert_true(a->listener >= 0);
	kern_poke(a->ctl);
}

int kern_app_wait(struct kern_app *a)
{
	int status;

	assert_int_equal(waitpid(a->pid, &status, 0), a->pid);
	close(a->listener);
	close(a->pidfd);
	close(a->ctl);
	return status;
}

bool kern_pending(int listener, int ms)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };

	return poll(&p, 1, ms) == 1 && (p.revents & POLLIN);
}

void kern_recv(int listener, struct seccomp_notif *req)
{
	assert_true(kern_pending(listener, 5000));
	memset(req, 0, sizeof(*req)); /* the kernel insists */
	assert_int_equal(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, req), 0);
}

int kern_send(int listener, uint64_t id, int64_t val, int error)
{
	struct seccomp_notif_resp resp = { .id = id, .val = val, .error = error };

	return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp) < 0 ? -errno : 0;
}

int kern_addfd(int listener, uint64_t id, int fd, int newfd, uint32_t flags,
	       uint32_t addfd_flags)
{
	struct seccomp_notif_addfd add = { .id = id,
					   .flags = addfd_flags,
					   .srcfd = (unsigned)fd,
					   .newfd = (unsigned)newfd,
					   .newfd_flags = flags };
	int r = ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add);

	return r < 0 ? -errno : r;
}

int kern_id_valid(int listener, uint64_t id)
{
	return ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) < 0 ? -errno : 0;
}

socklen_t kern_abstract(struct sockaddr_un *sa, const char *name)
{
	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	memcpy(sa->sun_path + 1, name, strlen(name));
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
}

int kern_unix(int type)
{
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	return fd;
}

int kern_listen(const char *name)
{
	struct sockaddr_un sa;
	socklen_t len = kern_abstract(&sa, name);
	int fd = kern_unix(SOCK_STREAM);

	assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(listen(fd, 16), 0);
	return fd;
}

uint64_t kern_cookie(int fd, int opt)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, opt, &cookie, &len), 0);
	return cookie;
}
