/* Notifications: ids, interruption, restart, other holders, hang-up, the wake-up flag. */
#include "kern.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void on_signal(int sig)
{
	(void)sig;
}

static int app_with_handler(int flags)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = flags };
	long r;

	sigaction(SIGUSR1, &sa, NULL);
	r = syscall(SYS_getsockname, 0, NULL, NULL);
	return r < 0 ? errno : (int)r;
}

static int app_eintr(int ctl)
{
	(void)ctl;
	return app_with_handler(0);
}

static int app_restart(int ctl)
{
	(void)ctl;
	return app_with_handler(SA_RESTART);
}

static bool wait_invalid(int listener, uint64_t id)
{
	for (int i = 0; i < 5000; i++) {
		if (kern_id_valid(listener, id) == -ENOENT)
			return true;
		usleep(1000);
	}
	return false;
}

static void test_a_signal_ends_the_id_and_the_call_with_eintr(void **state)
{
	struct kern_app a;
	struct seccomp_notif req;

	(void)state;
	kern_app_start(&a, SYS_getsockname, app_eintr);
	kern_recv(a.listener, &req);
	assert_int_equal(kern_id_valid(a.listener, req.id), 0);
	assert_int_equal(kill(a.pid, SIGUSR1), 0);
	assert_true(wait_invalid(a.listener, req.id));
	assert_int_equal(kern_send(a.listener, req.id, 1, 0), -ENOENT);
	assert_int_equal(WEXITSTATUS(kern_app_wait(&a)), EINTR);
}

static void test_a_restarted_call_is_a_new_notification(void **state)
{
	struct kern_app a;
	struct seccomp_notif req, again;

	(void)state;
	kern_app_start(&a, SYS_getsockname, app_restart);
	kern_recv(a.listener, &req);
	assert_int_equal(kill(a.pid, SIGUSR1), 0);
	kern_recv(a.listener, &again);
	assert_true(again.id != req.id);
	assert_int_equal(again.pid, req.pid);
	assert_memory_equal(&again.data, &req.data, sizeof(req.data));
	assert_int_equal(kern_id_valid(a.listener, req.id), -ENOENT);
	assert_int_equal(kern_send(a.listener, again.id, 7, 0), 0);
	assert_int_equal(WEXITSTATUS(kern_app_wait(&a)), 7);
}

/* A signal that comes before RECV: the notification is withdrawn, poll is quiet again. */
static void test_an_unreceived_notification_is_withdrawn(void **state)
{
	struct kern_app a;

	(void)state;
	kern_app_start(&a, SYS_getsockname, app_eintr);
	assert_true(kern_pending(a.listener, 5000));
	assert_int_equal(kill(a.pid, SIGUSR1), 0);
	assert_int_equal(WEXITSTATUS(kern_app_wait(&a)), EINTR);
}

/* A process with another fd number for the listener: 0 or -errno. */
static int in_other_holder(const struct kern_app *a, uint64_t id, int64_t val)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		int fd = fcntl(a->listener, F_DUPFD_CLOEXEC, 100), r;

		close(a->listener);
		r = fd < 0 ? -errno : kern_id_valid(fd, id);
		if (r == 0)
			r = kern_send(fd, id, val, 0);
		_exit(-r);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return -WEXITSTATUS(status);
}

static void test_another_holder_validates_and_answers_a_received_id(void **state)
{
	struct kern_app a;
	struct seccomp_notif req;

	(void)state;
	kern_app_start(&a, SYS_getsockname, app_eintr);
	kern_recv(a.listener, &req);
	/* received once: nobody is told again, also no new holder */
	assert_false(kern_pending(a.listener, 50));
	assert_int_equal(in_other_holder(&a, req.id, 9), 0);
	assert_int_equal(in_other_holder(&a, req.id, 9), -ENOENT);
	assert_int_equal(WEXITSTATUS(kern_app_wait(&a)), 9);
}

/* The receiver is killed; what it received is in shared memory, and can be answered. */
static void test_recv_into_a_memfd_survives_the_receiver(void **state)
{
	struct kern_app a;
	struct seccomp_notif *slot;
	int status, mfd = memfd_create("journal", MFD_CLOEXEC);
	pid_t pid;

	(void)state;
	assert_true(mfd >= 0);
	assert_int_equal(ftruncate(mfd, 4096), 0);
	kern_app_start(&a, SYS_getsockname, app_eintr);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		slot = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, mfd, 0);
		if (slot == MAP_FAILED || ioctl(a.listener, SECCOMP_IOCTL_NOTIF_RECV, slot) < 0)
			_exit(1);
		raise(SIGKILL);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	slot = mmap(NULL, 4096, PROT_READ, MAP_SHARED, mfd, 0);
	assert_true(slot != MAP_FAILED);
	assert_int_equal(slot->pid, a.pid);
	assert_int_equal(slot->data.nr, SYS_getsockname);
	assert_int_equal(kern_id_valid(a.listener, slot->id), 0);
	assert_int_equal(kern_send(a.listener, slot->id, 11, 0), 0);
	assert_int_equal(WEXITSTATUS(kern_app_wait(&a)), 11);
	munmap(slot, 4096);
	close(mfd);
}

static void test_recv_refuses_a_slot_that_is_not_zero(void **state)
{
	struct kern_app a;
	struct seccomp_notif req;

	(void)state;
	kern_app_start(&a, SYS_getsockname, app_eintr);
	assert_true(kern_pending(a.listener, 5000));
	memset(&req, 0, sizeof(req));
	req.id = 1;
	assert_int_equal(ioctl(a.listener, SECCOMP_IOCTL_NOTIF_RECV, &req), -1);
	assert_int_equal(errno, EINVAL);
	kern_recv(a.listener, &req);
	assert_int_equal(kern_send(a.listener, req.id, 3, 0), 0);
	assert_int_equal(WEXITSTATUS(kern_app_wait(&a)), 3);
}

static void *park(void *arg)
{
	(void)arg;
	syscall(SYS_getsockname, 1, NULL, NULL);
	return NULL;
}

static int app_thread(int ctl)
{
	pthread_t t;
	long r;

	(void)ctl;
	if (pthread_create(&t, NULL, park, NULL) != 0)
		return 1;
	r = syscall(SYS_getsockname, 0, NULL, NULL);
	pthread_join(t, NULL);
	return (int)r;
}

/* Two threads of one process are in a trapped call at once, and each has its own thread id. */
static void test_pid_of_a_notification_is_the_thread_id(void **state)
{
	struct kern_app a;
	struct seccomp_notif r1, r2;

	(void)state;
	kern_app_start(&a, SYS_getsockname, app_thread);
	kern_recv(a.listener, &r1);
	kern_recv(a.listener, &r2);
	assert_true(r1.pid != r2.pid);
	assert_true((pid_t)r1.pid == a.pid || (pid_t)r2.pid == a.pid);
	assert_int_equal(kern_send(a.listener, r1.id, 0, 0), 0);
	assert_int_equal(kern_send(a.listener, r2.id, 0, 0), 0);
	assert_int_equal(kern_app_wait(&a), 0);
}

static int app_fork(int ctl)
{
	if (fork() == 0) {
		kern_wait_poke(ctl); /* outlives its parent */
		_exit(0);
	}
	return 0;
}

static void test_listener_hangs_up_when_the_last_filtered_task_ended(void **state)
{
	struct kern_app a;
	struct pollfd p;
	int status;

	(void)state;
	kern_app_start(&a, SYS_getsockname, app_fork);
	assert_int_equal(waitpid(a.pid, &status, 0), a.pid);
	p = (struct pollfd){ .fd = a.listener, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 50), 0);
	assert_int_equal(p.revents, 0);
	kern_poke(a.ctl);
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_true(p.revents & POLLHUP);
	close(a.listener);
	close(a.pidfd);
	close(a.ctl);
}

static int app_nothing(int ctl)
{
	kern_wait_poke(ctl);
	return 0;
}

static void test_sync_wake_up_flag(void **state)
{
	struct kern_app a;
	bool ok;

	(void)state;
	kern_app_start(&a, SYS_getsockname, app_nothing);
	ok = ioctl(a.listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS,
		   SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP) == 0;
	if (!ok)
		print_message("no SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP here (Linux 6.6+)\n");
	/* without it everything works, slower: EINVAL, never another error */
	assert_true(ok || errno == EINVAL || errno == ENOTTY);
	if (ok) {
		assert_int_equal(ioctl(a.listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, 1UL << 40),
				 -1);
		assert_int_equal(errno, EINVAL);
	}
	kern_poke(a.ctl);
	assert_int_equal(kern_app_wait(&a), 0);
}

static int app_second_listener(int ctl)
{
	struct sock_filter code[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
	struct sock_fprog prog = { .len = 1, .filter = code };

	(void)ctl;
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
		    &prog) >= 0)
		return 1;
	return errno == EBUSY ? 0 : 2;
}

static void test_a_nested_listener_is_ebusy(void **state)
{
	struct kern_app a;

	(void)state;
	kern_app_start(&a, SYS_getsockname, app_second_listener);
	assert_int_equal(kern_app_wait(&a), 0);
}

static int tests(void)
{
	const struct CMUnitTest t[] = {
		cmocka_unit_test(test_a_signal_ends_the_id_and_the_call_with_eintr),
		cmocka_unit_test(test_a_restarted_call_is_a_new_notification),
		cmocka_unit_test(test_an_unreceived_notification_is_withdrawn),
		cmocka_unit_test(test_another_holder_validates_and_answers_a_received_id),
		cmocka_unit_test(test_recv_into_a_memfd_survives_the_receiver),
		cmocka_unit_test(test_recv_refuses_a_slot_that_is_not_zero),
		cmocka_unit_test(test_pid_of_a_notification_is_the_thread_id),
		cmocka_unit_test(test_listener_hangs_up_when_the_last_filtered_task_ended),
		cmocka_unit_test(test_sync_wake_up_flag),
		cmocka_unit_test(test_a_nested_listener_is_ebusy),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}

int main(int argc, char **argv)
{
	return kern_main(argc, argv, tests);
}
