#include <appswitch/ctl.h>
#include <appswitch/util.h>

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

int ctl_socket_path(const char *opt, char *ret_path, size_t size)
{
	const char *env = getenv("APPSWITCH_SOCKET");
	const char *run = getenv("XDG_RUNTIME_DIR");
	char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
	int n;

	if (opt != NULL && *opt != '\0')
		n = snprintf(path, sizeof(path), "%s", opt);
	else if (env != NULL && *env != '\0')
		n = snprintf(path, sizeof(path), "%s", env);
	else if (geteuid() == 0)
		n = snprintf(path, sizeof(path), "/run/appswitch/appswitch.sock");
	else if (run != NULL && *run == '/')
		n = snprintf(path, sizeof(path), "%s/appswitch/appswitch.sock", run);
	else
		n = snprintf(path, sizeof(path), "/tmp/appswitch-%u/appswitch.sock",
			     (unsigned)geteuid());
	if (n < 0 || (size_t)n >= sizeof(path) - 1 || (size_t)n >= size)
		return -ENAMETOOLONG;
	memcpy(ret_path, path, (size_t)n + 1);
	return 0;
}

int ctl_connect(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = -1;

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	while (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return fd_steal(&fd);
}

int ctl_send(int fd, const char *msg, size_t len)
{
	for (;;) {
		ssize_t n = write(fd, msg, len);

		if (n == (ssize_t)len)
			return 0;
		if (n >= 0)
			return -EMSGSIZE;
		if (errno != EINTR)
			return -errno;
	}
}

long ctl_recv(int fd, char *buf, size_t size, int *ret_fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { .iov_base = buf, .iov_len = size - 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;
	ssize_t n;
	int got = -1;

	msg.msg_control = control.buf;
	msg.msg_controllen = sizeof(control.buf);
	do {
		n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	c = CMSG_FIRSTHDR(&msg);
	if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
	    c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&got, CMSG_DATA(c), sizeof(int));
	if (msg.msg_flags & MSG_TRUNC) {
		if (got >= 0)
			close(got);
		return -EMSGSIZE;
	}
	buf[n] = '\0';
	if (ret_fd != NULL)
		*ret_fd = got;
	else if (got >= 0)
		close(got);
	return n;
}
