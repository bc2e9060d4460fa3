#include "traphandler/state/state.h"

#include "traphandler/remote/seen.h"

#include <appswitch/util.h>

#include <assert.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static_assert(sizeof(struct st_app) == 2016, "st_app is part of the state's format");
static_assert(sizeof(struct st_sock) == 88, "st_sock is part of the state's format");

#define PAGE_UP(n)    (((n) + 4095u) & ~(size_t)4095u)
#define OFF_CALLS     PAGE_UP(sizeof(struct st_header))
#define OFF_APPS      (OFF_CALLS + PAGE_UP(ST_CALLS * sizeof(struct st_call)))
#define OFF_LISTENERS (OFF_APPS + PAGE_UP(ST_APPS * sizeof(struct st_app)))
#define OFF_SOCKS     (OFF_LISTENERS + PAGE_UP(ST_LISTENERS * sizeof(struct st_listener)))
#define OFF_SEEN      (OFF_SOCKS + PAGE_UP(ST_SOCKS * sizeof(struct st_sock)))
#define STATE_SIZE    (OFF_SEEN + PAGE_UP(ST_SEEN * sizeof(struct seen_entry)))

static int map(int fd, struct state *st)
{
	char *p = mmap(NULL, STATE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	st->fd = fd;
	st->h = (void *)p;
	st->calls = (void *)(p + OFF_CALLS);
	st->apps = (void *)(p + OFF_APPS);
	st->listeners = (void *)(p + OFF_LISTENERS);
	st->socks = (void *)(p + OFF_SOCKS);
	st->seen = (void *)(p + OFF_SEEN);
	return 0;
}

int state_create(struct state *ret)
{
	_cleanup_close_ int fd = memfd_create("appswitch-state", MFD_CLOEXEC);
	int r;

	if (fd < 0 || ftruncate(fd, (off_t)STATE_SIZE) < 0)
		return -errno;
	r = map(fd, ret);
	if (r < 0)
		return r;
	ret->h->magic = ST_MAGIC;
	ret->h->version = ST_VERSION;
	ret->h->next_app = 1;
	ret->h->userns_fd = ret->h->pns_fd = -1;
	ret->h->holder_sock_fd = ret->h->ctl_sock_fd = ret->h->lock_fd = -1;
	ret->h->statedir_fd = -1;
	ret->h->node_tcp_fd = ret->h->node_udp_fd = -1;
	fd_steal(&fd);
	return 0;
}

int state_map(int fd, struct state *ret)
{
	struct stat sb;
	int r;

	if (fstat(fd, &sb) < 0)
		return -errno;
	if ((size_t)sb.st_size != STATE_SIZE)
		return -EPROTO;
	r = map(fd, ret);
	if (r < 0)
		return r;
	if (ret->h->magic != ST_MAGIC || ret->h->version != ST_VERSION) {
		state_unmap(ret);
		return -EPROTO;
	}
	return 0;
}

void state_unmap(struct state *st)
{
	if (st->h != NULL)
		munmap(st->h, STATE_SIZE);
	st->h = NULL;
}
