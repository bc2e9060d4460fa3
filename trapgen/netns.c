#include <trapgen/netns.h>

#include <appswitch/addr.h>
#include <appswitch/netlink.h>
#include <appswitch/userns.h>
#include <appswitch/util.h>

#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#define LO_IFINDEX 1 /* the kernel makes it first, in every namespace */
#define GID_LIMIT  2147483647

/* One of our own below the daemon's: that one's owner keeps its capabilities over this one. */
static int enter_userns(int parent, const char **ret_what)
{
	*ret_what = "enter the daemon's user namespace";
	if (setns(parent, CLONE_NEWUSER) < 0)
		return -errno;
	return userns_new(ret_what);
}

static int lo_up(int nl)
{
	struct {
		struct nlmsghdr hdr;
		struct ifinfomsg ifi;
	} req = {
		.hdr = { .nlmsg_len = sizeof(req), .nlmsg_type = RTM_NEWLINK },
		.ifi = { .ifi_index = LO_IFINDEX, .ifi_flags = IFF_UP, .ifi_change = IFF_UP },
	};

	return netlink_transact(nl, &req.hdr);
}

static int lo_add(int nl, const char *text)
{
	struct {
		struct nlmsghdr hdr;
		struct ifaddrmsg ifa;
		char attrs[RTA_SPACE(16)];
	} req = { 0 };
	struct as_addr addr;
	unsigned len;

	if (as_addr_parse(text, &addr) < 0)
		return -EINVAL;
	len = as_addr_is_v4(&addr) ? 4 : 16;
	req.ifa.ifa_family = (unsigned char)as_addr_family(&addr);
	req.ifa.ifa_prefixlen = (unsigned char)(8 * len);
	/* usable at once: nobody to collide with, and bind() must not fail as tentative */
	req.ifa.ifa_flags = IFA_F_NODAD;
	req.ifa.ifa_index = LO_IFINDEX;
	req.hdr.nlmsg_type = RTM_NEWADDR;
	req.hdr.nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL;
	req.hdr.nlmsg_len = NLMSG_LENGTH(sizeof(req.ifa));
	netlink_attr(&req.hdr, IFA_LOCAL, addr.b + 16 - len, len);
	return netlink_transact(nl, &req.hdr);
}

static int setup_lo(const struct netns_config *cfg, const char **ret_what)
{
	_cleanup_close_ int nl = -1;
	int r;

	*ret_what = "open a netlink socket";
	nl = netlink_open();
	if (nl < 0)
		return nl;
	*ret_what = "bring the namespace's loopback up";
	r = lo_up(nl);
	if (r < 0)
		return r;
	*ret_what = "add the IPv4 address to the namespace";
	r = lo_add(nl, cfg->ipv4);
	if (r < 0)
		return r;
	*ret_what = "add the IPv6 address to the namespace";
	r = lo_add(nl, cfg->ipv6);
	/* a kernel without IPv6 has no sockets either that would need the address */
	return r == -EAFNOSUPPORT || r == -EOPNOTSUPP ? 0 : r;
}

static int setup_sysctls(bool rootless, const char **ret_what)
{
	char own[64], all[64];
	int r;

	/* port 80 belongs to the app, whoever it runs as */
	*ret_what = "set net.ipv4.ip_unprivileged_port_start";
	r = write_file("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
	if (r < 0)
		return r;
	*ret_what = "set net.ipv4.ping_group_range";
	snprintf(own, sizeof(own), "%u %u", (unsigned)getegid(), (unsigned)getegid());
	snprintf(all, sizeof(all), "0 %d", GID_LIMIT);
	r = write_file("/proc/sys/net/ipv4/ping_group_range", rootless ? own : all);
	if (r == -EINVAL && !rootless) /* root of a container: not all groups are mapped */
		r = write_file("/proc/sys/net/ipv4/ping_group_range", own);
	if (r < 0)
		return r;
	/* connections by TCP inside it (conn/carry.h): or 28,000 a minute to one server use up the ports */
	*ret_what = "set net.ipv4.tcp_tw_reuse";
	r = write_file("/proc/sys/net/ipv4/tcp_tw_reuse", "1");
	if (r < 0 && r != -ENOENT)
		return r;
	/* programs that ask for MPTCP then fall back to TCP, which is what we stand in for */
	*ret_what = "set net.mptcp.enabled";
	r = write_file("/proc/sys/net/mptcp/enabled", "0");
	return r == -ENOENT ? 0 : r;
}

int netns_enter(const struct netns_config *cfg, const char **ret_what)
{
	int r;

	if (cfg->userns >= 0) {
		r = enter_userns(cfg->userns, ret_what);
		if (r < 0)
			return r;
	}
	*ret_what = "make a network namespace";
	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	r = setup_lo(cfg, ret_what);
	if (r < 0)
		return r;
	return setup_sysctls(cfg->userns >= 0, ret_what);
}
