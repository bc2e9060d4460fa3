/* The mark of a stand-in: several workers change bits of it at the same time. */
#include "traphandler/conn/standin.h"

#include <appswitch/util.h>

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>

#include <cmocka.h>

enum { ROUNDS = 20000 };

struct job {
	int fd;
	uint32_t bit;
	unsigned lost;
};

static void *toggle(void *arg)
{
	struct job *j = arg;

	for (int i = 0; i < ROUNDS; i++) {
		standin_change_mark(j->fd, 0, j->bit);
		j->lost += !(standin_mark(j->fd) & j->bit);
		standin_change_mark(j->fd, j->bit, 0);
		j->lost += (standin_mark(j->fd) & j->bit) != 0;
	}
	return NULL;
}

static void test_no_bit_is_lost_to_another_thread(void **state)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct job jobs[] = { { fd, STANDIN_PENDING, 0 }, { fd, STANDIN_NODELAY, 0 } };
	pthread_t threads[ARRAY_SIZE(jobs)];

	(void)state;
	standin_change_mark(fd, 0, STANDIN_FACE6);
	if (standin_mark(fd) != STANDIN_FACE6)
		skip(); /* SO_MARK needs CAP_NET_ADMIN */
	for (size_t i = 0; i < ARRAY_SIZE(jobs); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, toggle, &jobs[i]), 0);
	for (size_t i = 0; i < ARRAY_SIZE(jobs); i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(jobs[i].lost, 0);
	}
	assert_int_equal(standin_mark(fd), STANDIN_FACE6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_bit_is_lost_to_another_thread),
	};

	/* an ordinary user has the right in a namespace of his own */
	if (geteuid() != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
