/* Sockets shared with threads, children, after exec and by SCM_RIGHTS */
#include "errno_table.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void say_byte(int pipe_fd)
{
	CONF_NEED(write(pipe_fd, "x", 1) == 1);
}

static void wait_byte(int pipe_fd)
{
	char c;

	CONF_NEED(read(pipe_fd, &c, 1) == 1);
}

static void reap(const char *step, pid_t pid)
{
	int st = -1;

	CONF_NEED(waitpid(pid, &st, 0) == pid);
	conf_say(step, "%s %d", WIFEXITED(st) ? "exit" : "signal",
		 WIFEXITED(st) ? WEXITSTATUS(st) : WTERMSIG(st));
}

/* The child connects a socket made before the fork; the parent uses it afterwards. */
static void child_connects(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), fd = conf_tcp(0), s;
	pid_t pid = fork();

	conf_name_port("listener", conf_port(&a));
	if (pid == 0) {
		CONF_RES("connect", connect(fd, &a.sa, conf_addrlen()));
		_exit(0);
	}
	reap("child", pid);
	s = conf_accept(l);
	conf_say("parent-peer", "%s", conf_show_peer(fd));
	CONF_RES("parent-connect", connect(fd, &a.sa, conf_addrlen()));
	conf_talk("parent-talk", fd, s);
}

static void parent_connects(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), fd = conf_tcp(0), go[2], s;
	pid_t pid;

	CONF_NEED(pipe(go) == 0);
	conf_name_port("listener", conf_port(&a));
	pid = fork();
	if (pid == 0) {
		wait_byte(go[0]);
		conf_say("child-peer", "%s", conf_show_peer(fd));
		conf_say("child-poll", "%s", conf_poll_now(fd));
		CONF_RES("child-send", send(fd, "c", 1, MSG_NOSIGNAL));
		_exit(0);
	}
	CONF_RES("connect", connect(fd, &a.sa, conf_addrlen()));
	say_byte(go[1]);
	reap("child", pid);
	s = conf_accept(l);
	conf_say("arrived", "%s", conf_poll_until(s, POLLIN));
}

/* Without any call that traps first: the copy in the child itself must be the connection. */
static void parent_connects_child_reads(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), fd = conf_tcp(0), go[2], s;
	char x = 0;
	pid_t pid;

	CONF_NEED(pipe(go) == 0);
	pid = fork();
	if (pid == 0) {
		wait_byte(go[0]);
		CONF_RES("child-read", read(fd, &x, 1));
		CONF_RES("child-write", write(fd, "c", 1));
		_exit(0);
	}
	CONF_RES("connect", connect(fd, &a.sa, conf_addrlen()));
	s = conf_accept(l);
	CONF_NEED(send(s, "x", 1, 0) == 1);
	conf_poll_until(fd, POLLIN);
	say_byte(go[1]);
	reap("child", pid);
	conf_poll_until(s, POLLIN);
	CONF_RES("recv", recv(s, &x, 1, MSG_DONTWAIT));
}

static void parent_listens(void)
{
	union conf_addr a;
	int l = conf_bound(CONF_VIP, &a), go[2], c;
	char x = 0;
	pid_t pid;

	CONF_NEED(pipe(go) == 0);
	pid = fork();
	if (pid == 0) {
		int fd;

		wait_byte(go[0]);
		fd = accept(l, NULL, NULL);
		CONF_FD("child-accept", fd);
		CONF_RES("child-send", send(fd, "x", 1, MSG_NOSIGNAL));
		_exit(0);
	}
	CONF_RES("listen", listen(l, 5));
	say_byte(go[1]);
	c = conf_client(&a);
	reap("child", pid);
	CONF_RES("recv", recv(c, &x, 1, 0));
}

static void child_listens(void)
{
	union conf_addr a;
	int l = conf_bound(CONF_VIP, &a), fd;
	pid_t pid = fork();

	if (pid == 0) {
		CONF_RES("listen", listen(l, 5));
		_exit(0);
	}
	reap("child", pid);
	CONF_RES("connect", connect(conf_tcp(0), &a.sa, conf_addrlen()));
	fd = accept(l, NULL, NULL);
	CONF_FD("accept", fd);
}

static void listener_inherited(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), c;
	char x = 0;
	pid_t pid = fork();

	if (pid == 0) {
		int fd = accept(l, NULL, NULL);

		CONF_RES("child-send", send(fd, "x", 1, MSG_NOSIGNAL));
		_exit(0);
	}
	close(l); /* the child's copy keeps it listening */
	c = conf_client(&a);
	CONF_RES("recv", recv(c, &x, 1, 0));
	reap("child", pid);
	CONF_RES("connect-after", connect(conf_tcp(0), &a.sa, conf_addrlen()));
}

static void pass_fd(bool listener)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), sp[2], c, s, fd;
	char x = 0;
	pid_t pid;

	conf_name_port("listener", conf_port(&a));
	CONF_NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, sp) == 0);
	pid = fork();
	if (pid == 0) {
		close(l);
		close(sp[0]);
		fd = conf_recv_fd(sp[1]);
		conf_say("child-got", "%s", fd < 0 ? conf_errno(-fd) : "fd");
		conf_say("child-name", "%s", conf_show_name(fd));
		if (listener) {
			fd = accept(fd, NULL, NULL);
			CONF_FD("child-accept", fd);
		}
		CONF_RES("child-send", send(fd, "x", 1, MSG_NOSIGNAL));
		conf_poll_until(fd, POLLIN);
		CONF_RES("child-recv", recv(fd, &x, 1, MSG_DONTWAIT));
		_exit(0);
	}
	close(sp[1]);
	if (listener) {
		CONF_NEED(conf_send_fd(sp[0], l) == 0);
		close(l);
		c = conf_client(&a);
	} else {
		c = conf_client(&a);
		s = conf_accept(l);
		CONF_NEED(conf_send_fd(sp[0], s) == 0);
		close(s);
	}
	CONF_RES("recv", recv(c, &x, 1, 0));
	CONF_RES("send", send(c, "y", 1, MSG_NOSIGNAL));
	reap("child", pid);
	if (listener)
		CONF_RES("connect-after", connect(conf_tcp(0), &a.sa, conf_addrlen()));
}
static void pass_connected(void)
{
	pass_fd(false);
}
static void pass_listener(void)
{
	pass_fd(true);
}

/* Unconnected when it is passed, connected by who got it, used by who sent it. */
static void pass_fresh(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), sp[2], fd = conf_tcp(0), s;
	pid_t pid;

	conf_name_port("listener", conf_port(&a));
	CONF_NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, sp) == 0);
	pid = fork();
	if (pid == 0) {
		int got;

		close(fd);
		got = conf_recv_fd(sp[1]);
		CONF_RES("child-connect", connect(got, &a.sa, conf_addrlen()));
		_exit(0);
	}
	CONF_NEED(conf_send_fd(sp[0], fd) == 0);
	reap("child", pid);
	s = conf_accept(l);
	conf_say("sender-peer", "%s", conf_show_peer(fd));
	conf_talk("sender-talk", fd, s);
}

/* Taken from the child with pidfd_getfd(2) before the child connects it. */
static void getfd_fresh(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), fd = conf_tcp(0), go[2], copy, pidfd, s;
	pid_t pid;

	CONF_NEED(pipe(go) == 0);
	conf_name_port("listener", conf_port(&a));
	pid = fork();
	if (pid == 0) {
		wait_byte(go[0]);
		CONF_RES("connect", connect(fd, &a.sa, conf_addrlen()));
		_exit(0);
	}
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	CONF_NEED(pidfd >= 0);
	copy = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	CONF_NEED(copy >= 0);
	say_byte(go[1]);
	reap("child", pid);
	s = conf_accept(l);
	conf_say("copy-peer", "%s", conf_show_peer(copy));
	conf_talk("copy-talk", copy, s);
}

struct job {
	union conf_addr a;
	int fd, ret, err;
};

static void *connect_main(void *arg)
{
	struct job *j = arg;

	j->ret = connect(j->fd, &j->a.sa, conf_addrlen());
	j->err = errno;
	return NULL;
}

static void thread_connects(void)
{
	struct job j;
	pthread_t t;
	int l = conf_listener(CONF_VIP, &j.a), s;

	j.fd = conf_tcp(0);
	CONF_NEED(pthread_create(&t, NULL, connect_main, &j) == 0);
	pthread_join(t, NULL);
	conf_say("connect", "%d %s", j.ret, j.ret ? conf_errno(j.err) : "-");
	s = conf_accept(l);
	conf_talk("talk", j.fd, s);
}

/* A thread with a descriptor table of its own: fd numbers mean something else there. */
static void *unshared_main(void *arg)
{
	struct job *j = arg;

	CONF_NEED(unshare(CLONE_FILES) == 0);
	close(j->fd);
	int other = conf_tcp(0);

	CONF_NEED(other == j->fd);
	j->ret = connect(other, &j->a.sa, conf_addrlen());
	j->err = errno;
	conf_say("thread-poll", "%s", conf_poll_now(other));
	close(other);
	return NULL;
}

static void thread_unshared(void)
{
	struct job j;
	pthread_t t;

	conf_listener(CONF_VIP, &j.a);
	j.fd = conf_tcp(0);
	CONF_NEED(pthread_create(&t, NULL, unshared_main, &j) == 0);
	pthread_join(t, NULL);
	conf_say("connect", "%d %s", j.ret, j.ret ? conf_errno(j.err) : "-");
	conf_say("poll", "%s", conf_poll_now(j.fd));
	conf_say("peer", "%s", conf_show_peer(j.fd));
}

/* Two connect() at once on one socket make one connection. Natively both may say 0: one that comes
 * while the other waits for the handshake waits for the same one. */
static void thread_race(void)
{
	struct job a, b;
	pthread_t t, u;
	int l = conf_listener(CONF_VIP, &a.a), made = 0, err;

	b.a = a.a;
	a.fd = b.fd = conf_tcp(0);
	CONF_NEED(pthread_create(&t, NULL, connect_main, &a) == 0);
	CONF_NEED(pthread_create(&u, NULL, connect_main, &b) == 0);
	pthread_join(t, NULL);
	pthread_join(u, NULL);
	err = a.ret ? a.err : b.ret ? b.err : 0;
	conf_say("one-won", "%s", a.ret == 0 || b.ret == 0 ? "yes" : "no");
	conf_say("lost", "%s",
		 err == 0 || err == EISCONN ? "nobody, or EISCONN" : conf_errno(err));
	conf_nonblock(l, true);
	conf_poll_until(l, POLLIN);
	while (accept(l, NULL, NULL) >= 0)
		made++;
	conf_say("connections", "%d", made);
}

/* One thread accepts and closes, the other connects and asks: as CPython's test_socket does. */
static void *accepting_main(void *arg)
{
	const struct job *j = arg;

	for (int i = 0; i < j->ret; i++) {
		int fd = accept(j->fd, NULL, NULL);

		if (fd >= 0)
			close(fd);
	}
	return NULL;
}

#define ROUNDS 300

static void thread_accepts(void)
{
	struct job j = { .ret = ROUNDS };
	int bad[4] = { 0, 0, 0, 0 }, err = 0;
	pthread_t t;

	j.fd = conf_listener(CONF_VIP, &j.a);
	CONF_NEED(listen(j.fd, ROUNDS) == 0); /* who accepts may be late */
	CONF_NEED(pthread_create(&t, NULL, accepting_main, &j) == 0);
	for (int i = 0; i < ROUNDS; i++) {
		int fd = conf_bound(CONF_VIP, NULL);
		union conf_addr me;
		socklen_t len = sizeof(me);

		conf_nonblock(fd, true);
		if (connect(fd, &j.a.sa, conf_addrlen()) < 0 && errno != EINPROGRESS)
			bad[0]++;
		conf_poll_until(fd, POLLOUT);
		if (conf_so_error(fd) != 0)
			bad[1]++;
		if (getsockname(fd, &me.sa, &len) < 0) {
			bad[2]++;
			err = errno;
		}
		if (close(fd) < 0)
			bad[3]++;
	}
	conf_say("connect-failed", "%d", bad[0]);
	conf_say("so-error-failed", "%d", bad[1]);
	conf_say("name-failed", "%d %s", bad[2], conf_errno(err));
	conf_say("close-failed", "%d", bad[3]);
	pthread_join(t, NULL);
}

/* The same with a thread for each connection: thread ids come and go. */
static void *one_connection(void *arg)
{
	struct job *j = arg;
	union conf_addr me;
	socklen_t len = sizeof(me);
	int fd = conf_bound(CONF_VIP, NULL);

	j->ret = connect(fd, &j->a.sa, conf_addrlen());
	j->err = errno;
	if (j->ret == 0) {
		j->ret = getsockname(fd, &me.sa, &len);
		j->err = errno;
	}
	close(fd);
	return NULL;
}

static void threads_come_and_go(void)
{
	struct job acc = { .ret = ROUNDS }, j = { 0 };
	int bad = 0, err = 0;
	pthread_t t, u;

	acc.fd = conf_listener(CONF_VIP, &acc.a);
	CONF_NEED(listen(acc.fd, ROUNDS) == 0);
	CONF_NEED(pthread_create(&t, NULL, accepting_main, &acc) == 0);
	j.a = acc.a;
	for (int i = 0; i < ROUNDS; i++) {
		CONF_NEED(pthread_create(&u, NULL, one_connection, &j) == 0);
		pthread_join(u, NULL);
		if (j.ret < 0) {
			bad++;
			err = j.err;
		}
	}
	conf_say("failed", "%d %s", bad, conf_errno(err));
	if (!bad)
		pthread_join(t, NULL);
}

/* exec: what is inherited works, also for the first call of the new program. */
static void exec_inherited(void)
{
	union conf_addr a;
	int l = conf_listener(CONF_VIP, &a), c = conf_client(&a), s = conf_accept(l);
	char lnum[16], snum[16];
	int kept = fcntl(s, F_DUPFD, 50), gone = fcntl(s, F_DUPFD_CLOEXEC, 60);
	pid_t pid;

	CONF_NEED(kept >= 0 && gone >= 0);
	snprintf(lnum, sizeof(lnum), "%d", l);
	snprintf(snum, sizeof(snum), "%d", kept);
	pid = fork();
	if (pid == 0) {
		execl("/usr/bin/python3", "python3", "-I", "-S", "-c",
		      "import sys, socket\n"
		      "l = socket.socket(fileno=int(sys.argv[1]))\n"
		      "s = socket.socket(fileno=int(sys.argv[2]))\n"
		      "assert l.family == s.family and l.type == socket.SOCK_STREAM, l\n"
		      "assert l.getsockname()[1] == s.getsockname()[1], s\n"
		      "s.sendall(b'e')\n"
		      "a, _ = l.accept()\n"
		      "a.sendall(b'a')\n",
		      lnum, snum, (char *)NULL);
		_exit(127);
	}
	char x = 0;

	CONF_RES("recv", recv(c, &x, 1, 0));
	conf_say("byte", "%c", x ? x : '-');
	c = conf_client(&a);
	CONF_RES("recv-accepted", recv(c, &x, 1, 0));
	conf_say("byte-accepted", "%c", x ? x : '-');
	reap("child", pid);
}

static const struct conf_case generic[] = {
	{ "child-connects", child_connects },
	{ "parent-connects", parent_connects },
	{ "parent-connects-child-reads", parent_connects_child_reads },
	{ "parent-listens", parent_listens },
	{ "child-listens", child_listens },
	{ "listener-inherited", listener_inherited },
	{ "pass-connected", pass_connected },
	{ "pass-listener", pass_listener },
	{ "pass-fresh", pass_fresh },
	{ "getfd-fresh", getfd_fresh },
	{ "thread-connects", thread_connects },
	{ "thread-unshared", thread_unshared },
	{ "thread-race", thread_race },
	{ "thread-accepts", thread_accepts },
	{ "threads-come-and-go", threads_come_and_go },
	{ "exec-inherited", exec_inherited },
};

const struct errno_part errno_sharing = { "sharing", generic, ERRNO_N(generic), NULL, 0 };
