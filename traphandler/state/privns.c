#include "traphandler/state/privns.h"

#include "traphandler/conn/sockopt.h"
#include "traphandler/conn/standin.h"
#include "traphandler/service/diag.h"

#include <appswitch/userns.h>
#include <appswitch/util.h>

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* AF_UNIX charges a sender for what is queued, so this is the window of a local connection:
 * with the kernel's default a stream does less than half. The kernel doubles the number. */
#define STANDIN_SNDBUF (1 << 20)

int privns_enter_user(int fd, int *ret_fd)
{
	const char *what;
	int r = 0;

	if (fd < 0)
		r = userns_new(&what);
	else if (setns(fd, CLONE_NEWUSER) < 0)
		r = -errno;
	if (r < 0)
		return r;
	*ret_fd = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
	return *ret_fd < 0 ? -errno : 0;
}

uint64_t privns_cookie(void)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) < 0)
		return 0;
	return cookie;
}

struct job {
	struct switch_ctx *sw;
	int (*fn)(struct switch_ctx *sw);
	int fd, result;
};

static int run_thread(void *(*fn)(void *), struct job *job)
{
	pthread_t thread;
	int r = pthread_create(&thread, NULL, fn, job);

	if (r != 0)
		return -r;
	pthread_join(thread, NULL);
	return job->result;
}

static void *new_net(void *arg)
{
	struct job *job = arg;
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	_cleanup_close_ int s = -1;

	if (unshare(CLONE_NEWNET) < 0) {
		job->result = -errno;
		return NULL;
	}
	s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s < 0 || ioctl(s, SIOCSIFFLAGS, &lo) < 0) {
		job->result = -errno;
		return NULL;
	}
	job->fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	job->result = job->fd < 0 ? -errno : 0;
	return NULL;
}

int privns_new_net(int *ret_fd)
{
	struct job job = { .fd = -1 };
	int r = run_thread(new_net, &job);

	if (r == 0)
		*ret_fd = job.fd;
	return r;
}

static void find_sndbuf(struct switch_ctx *sw)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	sw->sndbuf = STANDIN_SNDBUF;
	sw->sndbuf_force = setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &sw->sndbuf,
				      sizeof(sw->sndbuf)) == 0;
}

static void *run_inside(void *arg)
{
	struct job *job = arg;

	job->result =
		setns(job->sw->st.h->pns_fd, CLONE_NEWNET) < 0 ? -errno : job->fn(job->sw);
	return NULL;
}

int privns_run(struct switch_ctx *sw, int (*fn)(struct switch_ctx *sw))
{
	struct job job = { .sw = sw, .fn = fn };

	return run_thread(run_inside, &job);
}

static int furnish(struct switch_ctx *sw)
{
	int fd;

	fd = sw->diag_fd = diag_open();
	if (fd >= 0)
		fd = sw->tmpl4 = sockopt_template(AF_INET);
	if (fd >= 0)
		fd = sw->scratch4 = sockopt_template(AF_INET);
	/* a kernel without IPv6 has apps without it, too */
	sw->tmpl6 = sockopt_template(AF_INET6);
	sw->scratch6 = sockopt_template(AF_INET6);
	sw->pns_cookie = privns_cookie();
	find_sndbuf(sw);
	return fd < 0 ? fd : 0;
}

int privns_furnish(struct switch_ctx *sw)
{
	return privns_run(sw, furnish);
}
