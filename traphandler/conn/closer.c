#include "traphandler/conn/closer.h"

#include "traphandler/service/registry.h"

#include <appswitch/util.h>

#include <signal.h>

#define MAX_THREADS 64

struct closing {
	struct closing *next;
	struct app *app; /* referenced; NULL: of one that has ended */
	int fd;
};

/* all under sw->lock */
static struct closing *queue;
static unsigned ended_closing; /* files of ended apps in close() */
static unsigned n_threads, n_idle,
	n_called; /* idle ones that were called do not count as idle */
static pthread_cond_t called = PTHREAD_COND_INITIALIZER;
static pthread_cond_t closed = PTHREAD_COND_INITIALIZER;

static unsigned *closing_of(const struct closing *c)
{
	return c->app != NULL ? &c->app->closing : &ended_closing;
}

static struct closing *take(void)
{
	for (struct closing **p = &queue; *p != NULL; p = &(*p)->next) {
		struct closing *c = *p;

		if (*closing_of(c) < CLOSER_PER_APP) {
			*p = c->next;
			(*closing_of(c))++;
			return c;
		}
	}
	return NULL;
}

static void *closer_main(void *arg)
{
	struct switch_ctx *sw = arg;
	sigset_t set;

	sigfillset(&set);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	pthread_mutex_lock(&sw->lock);
	for (;;) {
		struct closing *c = take();

		if (c == NULL) {
			n_idle++;
			while (n_called == 0)
				pthread_cond_wait(&called, &sw->lock);
			n_called--;
			continue;
		}
		pthread_mutex_unlock(&sw->lock);
		close(c->fd);
		pthread_mutex_lock(&sw->lock);
		(*closing_of(c))--;
		if (c->app != NULL) {
			c->app->to_close--;
			pthread_cond_broadcast(&closed);
			app_unref(sw, c->app);
		}
		free(c);
	}
	return NULL;
}

static void start_thread(struct switch_ctx *sw)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 * 1024);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&thread, &attr, closer_main, sw) == 0)
		n_threads++;
	pthread_attr_destroy(&attr);
}

void closer_put(struct switch_ctx *sw, struct app *app, int fd)
{
	struct closing *c = malloc(sizeof(*c)), **p = &queue;

	if (n_idle == 0 && n_threads < MAX_THREADS)
		start_thread(sw);
	if (c == NULL || n_threads == 0) {
		close(fd);
		free(c);
		return;
	}
	*c = (struct closing){ .app = app, .fd = fd };
	if (app != NULL) {
		app_ref(app);
		app->to_close++;
	}
	while (*p != NULL)
		p = &(*p)->next;
	*p = c;
	if (n_idle > 0) {
		n_idle--;
		n_called++;
		pthread_cond_signal(&called);
	}
}

bool closer_wait(struct switch_ctx *sw, struct app *app)
{
	bool waited = false;

	pthread_mutex_lock(&sw->lock);
	for (; app->to_close > 0; waited = true)
		pthread_cond_wait(&closed, &sw->lock);
	pthread_mutex_unlock(&sw->lock);
	return waited;
}
