#include "traphandler/remote/supply.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#define AHEAD 32 /* sockets of one family at most */

/* One family's. A socket that could not be made is an error for who asks next. */
struct shelf {
	int fds[AHEAD];
	unsigned n;
	bool wanted; /* somebody has asked for one */
	int error;
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t low, filled;
	struct shelf shelves[2]; /* AF_INET, AF_INET6 */
	bool running, stopping;
	pthread_t thread;
} supply = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.low = PTHREAD_COND_INITIALIZER,
	.filled = PTHREAD_COND_INITIALIZER,
};

static struct shelf *shelf_of(int family)
{
	return &supply.shelves[family == AF_INET6];
}

static bool is_low(const struct shelf *s)
{
	return s->wanted && s->n <= AHEAD / 2 && s->error == 0;
}

/* With the lock, which it lets go of meanwhile. */
static void fill(struct shelf *s, int family)
{
	int fds[AHEAD], error = 0;
	unsigned n = 0, want = AHEAD - s->n;

	pthread_mutex_unlock(&supply.lock);
	while (n < want && error == 0) {
		fds[n] = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		error = fds[n] < 0 ? errno : 0;
		n += error == 0;
	}
	pthread_mutex_lock(&supply.lock);
	while (n > 0)
		s->fds[s->n++] = fds[--n];
	s->error = error;
	pthread_cond_broadcast(&supply.filled);
}

static void *run(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&supply.lock);
	while (!supply.stopping) {
		if (is_low(shelf_of(AF_INET)))
			fill(shelf_of(AF_INET), AF_INET);
		else if (is_low(shelf_of(AF_INET6)))
			fill(shelf_of(AF_INET6), AF_INET6);
		else
			pthread_cond_wait(&supply.low, &supply.lock);
	}
	pthread_mutex_unlock(&supply.lock);
	return NULL;
}

int supply_start(void)
{
	int r;

	supply.stopping = false;
	r = pthread_create(&supply.thread, NULL, run, NULL);
	supply.running = r == 0;
	return -r;
}

void supply_stop(void)
{
	if (!supply.running)
		return;
	pthread_mutex_lock(&supply.lock);
	supply.stopping = true;
	pthread_cond_broadcast(&supply.low);
	pthread_cond_broadcast(&supply.filled);
	pthread_mutex_unlock(&supply.lock);
	pthread_join(supply.thread, NULL);
	supply.running = false;
	for (unsigned i = 0; i < 2; i++) {
		while (supply.shelves[i].n > 0)
			close(supply.shelves[i].fds[--supply.shelves[i].n]);
	}
}

int supply_take(int family)
{
	struct shelf *s = shelf_of(family);
	int fd;

	pthread_mutex_lock(&supply.lock);
	s->wanted = true;
	while (s->n == 0 && s->error == 0 && supply.running && !supply.stopping) {
		pthread_cond_signal(&supply.low);
		pthread_cond_wait(&supply.filled, &supply.lock);
	}
	if (s->n > 0) {
		fd = s->fds[--s->n];
	} else {
		fd = s->error != 0 ? -s->error : -ESHUTDOWN;
		s->error = 0; /* the next one tries again */
	}
	/* in batches: not a wake-up for each */
	if (s->n == AHEAD / 2)
		pthread_cond_signal(&supply.low);
	pthread_mutex_unlock(&supply.lock);
	return fd;
}
