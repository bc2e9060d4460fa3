#include "traphandler/conn/appns.h"

#include "traphandler/service/diag.h"
#include "traphandler/trap/readers.h"

#include <appswitch/log.h>
#include <appswitch/netlink.h>
#include <appswitch/util.h>

#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define TABLE	   0x41
#define LO_IFINDEX 1 /* the kernel makes it first, in every namespace */

static int add_rule(int nl, int family)
{
	struct {
		struct nlmsghdr hdr;
		struct fib_rule_hdr rule;
		char attrs[2 * RTA_SPACE(4)];
	} req = {
		.hdr = { .nlmsg_len = NLMSG_LENGTH(sizeof(req.rule)),
			 .nlmsg_type = RTM_NEWRULE,
			 .nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL },
		.rule = { .family = (uint8_t)family, .table = TABLE, .action = FR_ACT_TO_TBL },
	};
	uint32_t mark = APPNS_MARK, mask = APPNS_MARK_MASK;
	int r;

	netlink_attr(&req.hdr, FRA_FWMARK, &mark, sizeof(mark));
	netlink_attr(&req.hdr, FRA_FWMASK, &mask, sizeof(mask));
	r = netlink_transact(nl, &req.hdr);
	return r == -EEXIST ? 0 : r; /* of an earlier daemon */
}

/* @source is what a socket that was not bound gets. */
static int add_route(int nl, const struct as_addr *source)
{
	struct {
		struct nlmsghdr hdr;
		struct rtmsg rtm;
		char attrs[RTA_SPACE(4) + RTA_SPACE(16)];
	} req = {
		.hdr = { .nlmsg_len = NLMSG_LENGTH(sizeof(req.rtm)),
			 .nlmsg_type = RTM_NEWROUTE,
			 .nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL },
		.rtm = { .rtm_family = (uint8_t)as_addr_family(source),
			 .rtm_table = TABLE,
			 .rtm_type = RTN_LOCAL,
			 .rtm_scope = RT_SCOPE_HOST,
			 .rtm_protocol = RTPROT_BOOT },
	};
	size_t len = as_addr_is_v4(source) ? 4 : 16;
	int lo = LO_IFINDEX, r;

	netlink_attr(&req.hdr, RTA_OIF, &lo, sizeof(lo));
	netlink_attr(&req.hdr, RTA_PREFSRC, source->b + 16 - len, len);
	r = netlink_transact(nl, &req.hdr);
	return r == -EEXIST ? 0 : r;
}

static int make_routes(const struct app *app)
{
	_cleanup_close_ int nl = netlink_open();
	int r = nl < 0 ? nl : add_rule(nl, AF_INET);

	if (r == 0)
		r = add_route(nl, &app->ip4);
	if (r == 0)
		r = add_rule(nl, AF_INET6);
	/* a kernel without IPv6 has no sockets either that would need it */
	if (r == -EAFNOSUPPORT || r == -EOPNOTSUPP)
		return 0;
	return r == 0 ? add_route(nl, &app->ip6) : r;
}

static int enter(struct app *app)
{
	if (app->ns_fd < 0)
		app->ns_fd = ioctl(app->probe_fd, SIOCGSKNS);
	return app->ns_fd < 0 || setns(app->ns_fd, CLONE_NEWNET) < 0 ? -errno : 0;
}

int appns_enter(struct trap *t)
{
	struct app *app = t->app;
	int r = app->appns == APPNS_UNABLE ? -EOPNOTSUPP : enter(app);

	if (r < 0 || app->appns == APPNS_READY)
		return r;
	r = make_routes(app);
	app->appns = r == 0 ? APPNS_READY : APPNS_UNABLE;
	if (r < 0) {
		log_warn("app %u: no routes of ours in its namespace (%s); its connects with "
			 "large epoll sets are slow",
			 app->id, strerror(-r));
		appns_leave(t);
	}
	return r;
}

void appns_leave(struct trap *t)
{
	/* only memory can be missing, and a worker that stays would make stand-ins there */
	while (setns(t->sw->st.h->pns_fd, CLONE_NEWNET) < 0)
		usleep(1000);
}

uint64_t appns_listener(struct trap *t, const struct as_endpoint *at)
{
	uint64_t cookie = 0;
	int diag;

	if (enter(t->app) < 0)
		return 0;
	diag = diag_open();
	if (diag >= 0)
		cookie = diag_listener(diag, at);
	cleanup_close(&diag);
	appns_leave(t);
	return cookie;
}

int appns_connect(struct trap *t, const struct sock *s, const struct as_endpoint *dest)
{
	struct sockaddr_storage ss;
	socklen_t len = as_endpoint_to_sockaddr(dest, s->domain, &ss);
	int r;

	/* the app may make the file blocking in this very moment, and its loopback may drop all:
	 * then the watchdog interrupts */
	t->w->addfd_since_ms = now_ms();
	r = connect(s->fd, (struct sockaddr *)&ss, len) < 0 ? errno : 0;
	t->w->addfd_since_ms = 0;
	return r;
}

bool appns_marked(int fd)
{
	return (standin_mark(fd) & APPNS_MARK_MASK) == APPNS_MARK;
}

struct diag_job {
	int probe_fd, result;
};

static void *make_diag(void *arg)
{
	struct diag_job *job = arg;
	_cleanup_close_ int ns = ioctl(job->probe_fd, SIOCGSKNS);

	job->result = ns < 0 || setns(ns, CLONE_NEWNET) < 0 ? -errno : diag_open();
	return NULL;
}

int appns_diag(struct app *app)
{
	struct diag_job job = { .probe_fd = app->probe_fd };
	pthread_t thread;
	int r;

	if (app->diag_fd >= 0)
		return app->diag_fd;
	r = pthread_create(&thread, NULL, make_diag, &job);
	if (r != 0)
		return -r;
	pthread_join(thread, NULL);
	if (job.result >= 0)
		app->diag_fd = job.result;
	return job.result;
}

void appns_forget(struct app *app)
{
	cleanup_close(&app->ns_fd);
	cleanup_close(&app->diag_fd);
}
