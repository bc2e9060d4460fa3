/* send(2), recv(2) and their kin by state */
#include "errno_table.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/sockios.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

static void everything(int fd, const union conf_addr *to)
{
	char x = 0;
	int v = -1;
	struct timespec ts;
	struct iovec iov = { .iov_base = &x, .iov_len = 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	CONF_RES("send", send(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT));
	CONF_RES("sendto",
		 sendto(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT, &to->sa, conf_addrlen()));
	CONF_RES("sendmsg", sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT));
	CONF_RES("send-empty", send(fd, "x", 0, MSG_NOSIGNAL | MSG_DONTWAIT));
	CONF_RES("send-efault", send(fd, errno_bad(), 1, MSG_NOSIGNAL | MSG_DONTWAIT));
	CONF_RES("send-oob", send(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT | MSG_OOB));
	conf_nonblock(fd, true);
	CONF_RES("write", write(fd, "x", 1));
	CONF_RES("write-empty", write(fd, "x", 0));
	CONF_RES("recv", recv(fd, &x, 1, 0));
	CONF_RES("recv-empty", recv(fd, &x, 0, 0));
	CONF_RES("recv-peek", recv(fd, &x, 1, MSG_PEEK));
	CONF_RES("recv-oob", recv(fd, &x, 1, MSG_OOB));
	CONF_RES("recv-errqueue", recv(fd, &x, 1, MSG_ERRQUEUE));
	CONF_RES("recvmsg", recvmsg(fd, &m, 0));
	CONF_RES("read", read(fd, &x, 1));
	CONF_RES("fionread", ioctl(fd, FIONREAD, &v));
	CONF_RES("siocatmark", ioctl(fd, SIOCATMARK, &v));
	CONF_RES("siocoutq", ioctl(fd, SIOCOUTQ, &v));
	CONF_RES("siocoutqnsd", ioctl(fd, SIOCOUTQNSD, &v));
	CONF_RES("siocgstamp", ioctl(fd, SIOCGSTAMP_OLD, &ts));
	CONF_RES("siocgstampns", ioctl(fd, SIOCGSTAMPNS_OLD, &ts));
	CONF_RES("no-such-ioctl", ioctl(fd, 0x89fe, &v));
	CONF_RES("tcgets", isatty(fd) ? 1 : -1);
	CONF_RES("lseek", lseek(fd, 0, SEEK_SET));
	CONF_RES("pread", pread(fd, &x, 1, 0));
	CONF_RES("fsync", fsync(fd));
	CONF_RES("ftruncate", ftruncate(fd, 0));
	conf_say_so_error("so-error", fd);
	conf_say("poll", "%s", conf_poll_now(fd));
}

static void fresh(void)
{
	union conf_addr to;

	conf_addr(&to, CONF_VIP, 9);
	everything(conf_tcp(0), &to);
}

static void bound(void)
{
	union conf_addr to;

	conf_addr(&to, CONF_VIP, 9);
	everything(conf_bound(CONF_VIP, NULL), &to);
}

static void listening(void)
{
	union conf_addr to;

	everything(conf_listener(CONF_VIP, &to), &to);
}

static void refused(void)
{
	union conf_addr to;
	int fd = conf_tcp(0);

	conf_bound(CONF_VIP, &to);
	CONF_RES("connect", connect(fd, &to.sa, conf_addrlen()));
	everything(fd, &to);
}

static void fresh_sigpipe(void)
{
	signal(SIGPIPE, SIG_DFL);
	CONF_RES("write", write(conf_tcp(0), "x", 1));
}

static void pair_basic(void)
{
	int c, s, v;
	char buf[16];
	struct timespec ts;
	struct timeval tv = { .tv_usec = 50000 };

	conf_pair(&c, &s, NULL);
	conf_talk("talk", c, s);
	CONF_RES("recv-empty-queue", recv(c, buf, 1, MSG_DONTWAIT));
	CONF_RES("peek-empty-queue", recv(c, buf, 1, MSG_DONTWAIT | MSG_PEEK));
	CONF_RES("send-0", send(c, "", 0, 0));
	CONF_RES("recv-after-send-0", recv(s, buf, 1, MSG_DONTWAIT));
	CONF_RES("efault-send", send(c, errno_bad(), 5, 0));
	CONF_RES("send", send(c, "hello", 5, 0));
	conf_poll_until(s, POLLIN);
	CONF_RES("fionread", ioctl(s, FIONREAD, &v));
	conf_say("fionread-value", "%d", v);
	CONF_RES("efault-recv", recv(s, errno_bad(), 5, MSG_DONTWAIT));
	CONF_RES("peek", recv(s, buf, 3, MSG_PEEK));
	CONF_RES("recv-2", recv(s, buf, 2, 0));
	conf_say("bytes", "%.2s", buf);
	CONF_RES("recv-rest", recv(s, buf, sizeof(buf), 0));
	conf_say("bytes-rest", "%.3s", buf);
	CONF_RES("siocgstamp", ioctl(s, SIOCGSTAMP_OLD, &ts));
	CONF_RES("siocgstampns", ioctl(c, SIOCGSTAMPNS_OLD, &ts));
	CONF_RES("set-rcvtimeo", setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	CONF_RES("recv-timeo", recv(s, buf, 1, 0));
	CONF_RES("send-2", send(c, "ab", 2, 0));
	CONF_RES("waitall-timeo", recv(s, buf, 3, MSG_WAITALL));
	conf_alarm_handler(false);
	tv.tv_usec = 0;
	CONF_RES("no-rcvtimeo", setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	conf_alarm_in(50);
	CONF_RES("recv-eintr", recv(s, buf, 1, 0));
}

/* The error queue is empty: never data of the stream, and no wait for it. */
static void errqueue_of(int fd, const char *what)
{
	static const char *const names[] = { "recv", "recvmsg", "recvmmsg" };
	char x, step[64];
	struct iovec iov = { .iov_base = &x, .iov_len = 1 };
	struct mmsghdr m = { .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } };

	for (int i = 0; i < 3; i++) {
		snprintf(step, sizeof(step), "%s-%s", what, names[i]);
		CONF_RES(step, i == 0	? recv(fd, &x, 1, MSG_ERRQUEUE)
			       : i == 1 ? recvmsg(fd, &m.msg_hdr, MSG_ERRQUEUE)
					: recvmmsg(fd, &m, 1, MSG_ERRQUEUE, NULL));
	}
}

static void errqueue(void)
{
	int c, s, p[2];
	union conf_addr a;
	char x[8];

	conf_pair(&c, &s, NULL);
	errqueue_of(s, "empty");
	CONF_NEED(send(c, "data", 4, 0) == 4);
	conf_poll_until(s, POLLIN);
	errqueue_of(s, "data");
	CONF_RES("peek", recv(s, x, 4, MSG_ERRQUEUE | MSG_PEEK | MSG_DONTWAIT));
	CONF_RES("waitall", recv(s, x, 4, MSG_ERRQUEUE | MSG_WAITALL));
	CONF_RES("null", recv(s, NULL, 4, MSG_ERRQUEUE));
	CONF_RES("efault", recv(s, errno_bad(), 4, MSG_ERRQUEUE));
	CONF_RES("recvmsg-efault", recvmsg(s, errno_bad(), MSG_ERRQUEUE));
	CONF_RES("recvmmsg-efault", recvmmsg(s, errno_bad(), 1, MSG_ERRQUEUE, NULL));
	CONF_RES("recvmmsg-none", recvmmsg(s, errno_bad(), 0, MSG_ERRQUEUE, NULL));
	CONF_RES("then", recv(s, x, sizeof(x), MSG_DONTWAIT));
	errqueue_of(c, "client");
	close(c);
	conf_poll_until(s, POLLRDHUP);
	errqueue_of(s, "peer-closed");
	errqueue_of(conf_listener(CONF_VIP, &a), "listener");
	errqueue_of(conf_tcp(0), "fresh");
	/* not our business */
	CONF_NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
	CONF_NEED(send(p[0], "abc", 3, 0) == 3);
	errqueue_of(p[1], "unix");
	CONF_NEED(pipe(p) == 0);
	errqueue_of(p[0], "pipe");
	errqueue_of(-1, "no-fd");
	errqueue_of(socket(conf_af(), SOCK_DGRAM, 0), "udp");
}

static void timeouts_kept(void)
{
	union conf_addr a;
	struct timeval tv = { .tv_usec = 50000 };
	int l = conf_listener(CONF_VIP, &a), c = conf_tcp(0), s;
	char x;

	CONF_RES("set-before-connect", setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	CONF_RES("set-on-listener", setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	CONF_RES("connect", connect(c, &a.sa, conf_addrlen()));
	s = conf_accept(l);
	CONF_RES("client-recv", recv(c, &x, 1, 0));
	CONF_RES("accepted-recv", recv(s, &x, 1, 0));
}

static void vectors(void)
{
	int c, s, p[2], f;
	char a[4] = "abc", b[4] = "def", buf[8] = "";
	struct iovec v[2] = { { a, 3 }, { b, 3 } };
	char path[] = "/tmp/conf-io.XXXXXX";
	off_t off = 0;

	conf_pair(&c, &s, NULL);
	CONF_RES("writev", writev(c, v, 2));
	conf_poll_until(s, POLLIN);
	CONF_RES("recv", recv(s, buf, sizeof(buf), MSG_WAITALL | MSG_DONTWAIT));
	conf_say("bytes", "%.6s", buf);
	f = mkstemp(path);
	CONF_NEED(f >= 0 && unlink(path) == 0 && write(f, "sendfile", 8) == 8);
	CONF_RES("sendfile", sendfile(c, f, &off, 8));
	conf_poll_until(s, POLLIN);
	CONF_RES("sendfile-recv", recv(s, buf, 8, MSG_DONTWAIT));
	conf_say("sendfile-bytes", "%.8s", buf);
	CONF_NEED(pipe(p) == 0);
	CONF_NEED(write(p[1], "splice", 6) == 6);
	CONF_RES("splice-in", splice(p[0], NULL, c, NULL, 6, 0));
	conf_poll_until(s, POLLIN);
	CONF_RES("splice-out", splice(s, NULL, p[1], NULL, 6, SPLICE_F_NONBLOCK));
	CONF_RES("splice-read", read(p[0], buf, 6));
	conf_say("splice-bytes", "%.6s", buf);
}

static void peer_closed(void)
{
	int c, s;
	char x;

	conf_pair(&c, &s, NULL);
	CONF_NEED(send(c, "x", 1, 0) == 1);
	close(c);
	conf_poll_until(s, POLLRDHUP);
	CONF_RES("recv", recv(s, &x, 1, MSG_DONTWAIT));
	CONF_RES("eof", recv(s, &x, 1, MSG_DONTWAIT));
	CONF_RES("eof-again", recv(s, &x, 1, MSG_DONTWAIT));
	conf_say_so_error("so-error", s);
}

static void peer_closed_unread(void)
{
	int c, s;
	char x;

	conf_pair(&c, &s, NULL);
	CONF_NEED(send(s, "x", 1, 0) == 1);
	conf_poll_until(c, POLLIN);
	close(c);
	conf_say("poll", "%s", conf_poll_until(s, POLLHUP));
	CONF_RES("recv", recv(s, &x, 1, MSG_DONTWAIT));
	CONF_RES("recv-again", recv(s, &x, 1, MSG_DONTWAIT));
	CONF_RES("send", send(s, "x", 1, MSG_NOSIGNAL));
	conf_say_so_error("so-error", s);
}

static void peer_closed_unread_so_error(void)
{
	int c, s;
	char x;

	conf_pair(&c, &s, NULL);
	CONF_NEED(send(s, "x", 1, 0) == 1);
	conf_poll_until(c, POLLIN);
	close(c);
	conf_poll_until(s, POLLHUP);
	conf_say_so_error("so-error", s);
	conf_say_so_error("so-error-again", s);
	CONF_RES("recv", recv(s, &x, 1, MSG_DONTWAIT));
}

static void urgent(void)
{
	int c, s, v = -1;
	char buf[8] = "";

	conf_pair(&c, &s, NULL);
	CONF_RES("atmark-empty", ioctl(s, SIOCATMARK, &v));
	conf_say("atmark-empty-value", "%d", v);
	CONF_RES("recv-none", recv(s, buf, 1, MSG_OOB));
	CONF_RES("send-ab", send(c, "ab", 2, 0));
	CONF_RES("send-oob", send(c, "!", 1, MSG_OOB));
	CONF_RES("send-cd", send(c, "cd", 2, 0));
	conf_say("poll", "%s", conf_poll_until(s, POLLPRI | POLLIN));
	CONF_RES("atmark", ioctl(s, SIOCATMARK, &v));
	conf_say("atmark-value", "%d", v);
	CONF_RES("recv-oob", recv(s, buf, 1, MSG_OOB));
	conf_say("oob-byte", "%c", buf[0] ? buf[0] : '-');
	CONF_RES("recv-oob-again", recv(s, buf, 1, MSG_OOB));
	memset(buf, 0, sizeof(buf));
	CONF_RES("recv-before", recv(s, buf, sizeof(buf), MSG_DONTWAIT));
	conf_say("before", "%.8s", buf);
	CONF_RES("atmark-2", ioctl(s, SIOCATMARK, &v));
	conf_say("atmark-2-value", "%d", v);
	memset(buf, 0, sizeof(buf));
	CONF_RES("recv-after", recv(s, buf, sizeof(buf), MSG_DONTWAIT));
	conf_say("after", "%.8s", buf);
}

static void urgent_inline(void)
{
	int c, s, one = 1;
	char buf[8] = "";

	conf_pair(&c, &s, NULL);
	CONF_RES("set", setsockopt(s, SOL_SOCKET, SO_OOBINLINE, &one, sizeof(one)));
	CONF_RES("send-a", send(c, "a", 1, 0));
	CONF_RES("send-oob", send(c, "!", 1, MSG_OOB));
	conf_say("poll", "%s", conf_poll_until(s, POLLPRI | POLLIN));
	CONF_RES("recv-oob", recv(s, buf, 1, MSG_OOB));
	CONF_RES("recv-1", recv(s, buf, sizeof(buf), MSG_DONTWAIT));
	conf_say("bytes-1", "%c", buf[0] ? buf[0] : '-');
	CONF_RES("recv-2", recv(s, buf, sizeof(buf), MSG_DONTWAIT));
	conf_say("bytes-2", "%c", buf[0] ? buf[0] : '-');
}

/* TCP carries no descriptors and no credentials: neither must a stand-in. */
static void no_ancillary(void)
{
	union {
		struct cmsghdr h;
		char space[256];
	} u;
	char x;
	struct iovec iov = { .iov_base = &x, .iov_len = 1 };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = sizeof(u)
	};
	int c, s, r;

	conf_pair(&c, &s, NULL);
	r = conf_send_fd(c, c);
	conf_say("send-fd", "%s", conf_errno(-r));
	CONF_RES("send-plain", send(c, "p", 1, 0));
	conf_poll_until(s, POLLIN);
	CONF_RES("recvmsg", recvmsg(s, &m, MSG_DONTWAIT));
	conf_say("control", "%zu%s", (size_t)m.msg_controllen,
		 m.msg_flags & MSG_CTRUNC ? " truncated" : "");
}

static void after_close(void)
{
	int c, s;
	char x;

	conf_pair(&c, &s, NULL);
	close(c);
	CONF_RES("send", send(c, "x", 1, MSG_NOSIGNAL));
	CONF_RES("recv", recv(c, &x, 1, 0));
	CONF_RES("close", close(c));
	CONF_RES("shutdown", shutdown(c, SHUT_RD));
}

static void fill(void)
{
	static char block[65536];
	int c, s;
	ssize_t n;
	size_t sent = 0, got = 0;

	conf_pair(&c, &s, NULL);
	conf_nonblock(c, true);
	while ((n = send(c, block, sizeof(block), 0)) > 0)
		sent += (size_t)n;
	conf_say("full", "%s", conf_errno(errno));
	conf_say("poll", "%s", conf_poll_now(c));
	shutdown(c, SHUT_WR);
	while ((n = recv(s, block, sizeof(block), 0)) > 0)
		got += (size_t)n;
	conf_say("all", "%s", n == 0 && sent == got ? "arrived" : "lost");
}

static const struct conf_case generic[] = {
	{ "fresh", fresh },
	{ "bound", bound },
	{ "listening", listening },
	{ "refused", refused },
	{ "fresh-sigpipe", fresh_sigpipe },
	{ "pair", pair_basic },
	{ "errqueue", errqueue },
	{ "timeouts-kept", timeouts_kept },
	{ "vectors", vectors },
	{ "peer-closed", peer_closed },
	{ "peer-closed-unread", peer_closed_unread },
	{ "peer-closed-unread-so-error", peer_closed_unread_so_error },
	{ "urgent", urgent },
	{ "urgent-inline", urgent_inline },
	{ "no-ancillary", no_ancillary },
	{ "after-close", after_close },
	{ "fill", fill },
};

const struct errno_part errno_io = { "io", generic, ERRNO_N(generic), NULL, 0 };
