/* ask.c - see the header. */
#include "cli/ask.h"

#include "cli/cli.h"

#include <appswitch/ctl.h>
#include <appswitch/util.h>

#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#define ANSWER_TIMEOUT_S 10

int ask_nonsense(const struct ask *a)
{
	cli_error(a->cmd, "the daemon sent an answer that is no answer");
	return -EBADMSG;
}

int ask_no_memory(const struct ask *a)
{
	cli_error(a->cmd, "out of memory");
	return -ENOMEM;
}

int ask_open(struct ask *a, const char *cmd, const char *socket_opt, const char *request)
{
	const struct timeval timeout = { .tv_sec = ANSWER_TIMEOUT_S };
	int r;

	*a = (struct ask){ .cmd = cmd, .fd = -1 };
	if (ctl_socket_path(socket_opt, a->path, sizeof(a->path)) < 0) {
		cli_error(cmd, "the path of the control socket is too long");
		return -ENAMETOOLONG;
	}
	a->buf = malloc(CTL_MSG_MAX + 1);
	if (a->buf == NULL)
		return ask_no_memory(a);
	a->fd = ctl_connect(a->path);
	if (a->fd == -ENOENT || a->fd == -ECONNREFUSED) {
		cli_error(cmd,
			  "no daemon at %s: nothing runs there (start 'appswitch daemon' or "
			  "'appswitch run', or give --socket)",
			  a->path);
		return a->fd;
	}
	if (a->fd < 0) {
		cli_error(cmd, "cannot reach the daemon at %s: %s", a->path, strerror(-a->fd));
		return a->fd;
	}
	(void)setsockopt(a->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	(void)setsockopt(a->fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	r = ctl_send(a->fd, request, strlen(request));
	if (r < 0)
		cli_error(cmd, "cannot ask the daemon at %s: %s", a->path, strerror(-r));
	return r;
}

static int parse(const struct ask *a, size_t len, json_t **ret)
{
	json_t *answer = json_loadb(a->buf, len, 0, NULL);
	const char *error = json_string_value(json_object_get(answer, "error"));
	const json_t *ok = json_object_get(answer, "ok");
	int r = -EREMOTEIO;

	if (json_is_true(ok)) {
		*ret = answer;
		return 0;
	}
	if (json_is_false(ok))
		cli_error(a->cmd, "%s", error != NULL ? error : "refused by the daemon");
	else
		r = ask_nonsense(a);
	json_decref(answer);
	return r;
}

int ask_answer(struct ask *a, json_t **ret)
{
	long n = ctl_recv(a->fd, a->buf, CTL_MSG_MAX + 1, NULL);

	if (n > 0)
		return parse(a, (size_t)n, ret);
	if (n == -EAGAIN)
		cli_error(a->cmd, "the daemon at %s does not answer", a->path);
	else if (n < 0)
		cli_error(a->cmd, "no answer from the daemon at %s: %s", a->path,
			  strerror((int)-n));
	else
		cli_error(a->cmd, "the daemon at %s closed the connection", a->path);
	return n < 0 ? (int)n : -ECONNRESET;
}

void ask_close(struct ask *a)
{
	cleanup_close(&a->fd);
	a->fd = -1;
	free(a->buf);
	a->buf = NULL;
}
