/* bench_trap - what one system call costs, in ns (median of 21 batches).
 *
 *   bench_trap plain N          getppid and a 1-byte write to /dev/null: calls nobody traps
 *   bench_trap connected N      getsockname of a connected TCP socket (to itself, loopback)
 *   bench_trap unbound N        getsockname of a fresh TCP socket
 *   bench_trap floor N [async]  getsockname against a handler that does nothing: RECV and SEND
 *
 * The floor traps that one call only, in a child; the handler is this process. */
#include <stddef.h>

#include "bench.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1UL
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS	   SECCOMP_IOW(4, __u64)
#endif

enum { BATCHES = 21 };

static void do_getppid(int fd)
{
	(void)fd;
	(void)syscall(SYS_getppid);
}

static void do_write(int fd)
{
	if (write(fd, "x", 1) != 1)
		die("write");
}

static void do_getsockname(int fd)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);

	must(getsockname(fd, (struct sockaddr *)&sa, &len), "getsockname");
}

static double measure(void (*call)(int), int fd, long n)
{
	double ns[BATCHES];

	for (long i = 0; i < n / 10; i++)
		call(fd);
	for (int b = 0; b < BATCHES; b++) {
		double t0 = now_us();

		for (long i = 0; i < n; i++)
			call(fd);
		ns[b] = (now_us() - t0) * 1e3 / (double)n;
	}
	qsort(ns, BATCHES, sizeof(*ns), by_value);
	return ns[BATCHES / 2];
}

static int to_itself(void)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	int l = listen_on("127.0.0.1:0"), fd;

	must(getsockname(l, (struct sockaddr *)&sa, &len), "getsockname");
	fd = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
	must(connect(fd, (struct sockaddr *)&sa, len), "connect");
	must(accept(l, NULL, NULL), "accept");
	return fd;
}

static int trap_getsockname(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsockname, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = 4, .filter = code };

	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	return must((int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
				 SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog),
		    "seccomp");
}

static void handle_until_hup(int listener)
{
	struct seccomp_notif req;
	struct seccomp_notif_resp resp;

	for (;;) {
		memset(&req, 0, sizeof(req));
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &req) < 0) {
			if (errno == EINTR)
				continue;
			if (errno == ENOENT)
				return; /* the last filtered task has ended */
			die("RECV");
		}
		memset(&resp, 0, sizeof(resp));
		resp.id = req.id;
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp) < 0 && errno != ENOENT)
			die("SEND");
	}
}

static void floor_child(int ctl, long n)
{
	int listener = trap_getsockname(), fd = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
	char c;

	if (write(ctl, &listener, sizeof(listener)) != sizeof(listener) ||
	    read(ctl, &c, 1) != 1)
		die("handing the listener over");
	close(listener);
	printf("%.1f\n", measure(do_getsockname, fd, n));
	exit(0);
}

static void measure_floor(long n, bool sync_wake_up)
{
	int sv[2], num, listener, status;
	pid_t pid;

	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), "socketpair");
	pid = must(fork(), "fork");
	if (pid == 0)
		floor_child(sv[1], n);
	if (read(sv[0], &num, sizeof(num)) != sizeof(num))
		die("read");
	listener = must((int)syscall(SYS_pidfd_getfd,
				     must((int)syscall(SYS_pidfd_open, pid, 0), "pidfd_open"),
				     num, 0),
			"pidfd_getfd");
	if (sync_wake_up)
		must(ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS,
			   SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP),
		     "SYNC_WAKE_UP");
	if (write(sv[0], "x", 1) != 1)
		die("write");
	handle_until_hup(listener);
	must(waitpid(pid, &status, 0), "waitpid");
	if (status != 0)
		exit(1);
}

int main(int argc, char **argv)
{
	const char *what = argc >= 3 ? argv[1] : "";
	long n = argc >= 3 ? number(argv[2]) : 0;

	if (strcmp(what, "plain") == 0)
		printf("%.1f %.1f\n", measure(do_getppid, -1, n),
		       measure(do_write, must(open("/dev/null", O_WRONLY), "/dev/null"), n));
	else if (strcmp(what, "connected") == 0)
		printf("%.1f\n", measure(do_getsockname, to_itself(), n));
	else if (strcmp(what, "unbound") == 0)
		printf("%.1f\n", measure(do_getsockname,
					 must(socket(AF_INET, SOCK_STREAM, 0), "socket"), n));
	else if (strcmp(what, "floor") == 0)
		measure_floor(n, argc == 3);
	else {
		fprintf(stderr, "usage: bench_trap plain|connected|unbound|floor N [async]\n");
		return 2;
	}
	return 0;
}
