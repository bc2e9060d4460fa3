#include <appswitch/netlink.h>

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

int netlink_open(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	return fd < 0 ? -errno : fd;
}

int netlink_transact(int fd, struct nlmsghdr *req)
{
	struct {
		struct nlmsghdr hdr;
		struct nlmsgerr err;
		char more[256]; /* the request again, and the kernel's extended text */
	} ack;
	ssize_t n;

	req->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
	if (send(fd, req, req->nlmsg_len, 0) < 0)
		return -errno;
	do {
		n = recv(fd, &ack, sizeof(ack), 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n < (ssize_t)offsetof(__typeof__(ack), more) || ack.hdr.nlmsg_type != NLMSG_ERROR)
		return -EBADMSG;
	return ack.err.error;
}

void netlink_attr(struct nlmsghdr *req, unsigned short type, const void *value, size_t len)
{
	struct rtattr *a = (struct rtattr *)((char *)req + NLMSG_ALIGN(req->nlmsg_len));

	a->rta_type = type;
	a->rta_len = (unsigned short)RTA_LENGTH(len);
	memcpy(RTA_DATA(a), value, len);
	req->nlmsg_len = NLMSG_ALIGN(req->nlmsg_len) + (uint32_t)RTA_SPACE(len);
}
