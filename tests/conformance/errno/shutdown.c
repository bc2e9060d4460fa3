/* shutdown(2) and what it leaves behind */
#include "errno_table.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static const char *const how_name[] = { "rd", "wr", "rdwr" };

static void fresh(void)
{
	for (int how = SHUT_RD; how <= SHUT_RDWR; how++) {
		int fd = conf_tcp(0);

		CONF_RES(how_name[how], shutdown(fd, how));
		conf_say("poll", "%s %s", how_name[how], conf_poll_now(fd));
		CONF_RES("again", shutdown(fd, how));
	}
	CONF_RES("bad-3", shutdown(conf_tcp(0), 3));
	CONF_RES("bad-minus", shutdown(conf_tcp(0), -1));
}

static void bound(void)
{
	for (int how = SHUT_RD; how <= SHUT_RDWR; how++)
		CONF_RES(how_name[how], shutdown(conf_bound(CONF_VIP, NULL), how));
}

static void listening(void)
{
	union conf_addr a;

	for (int how = SHUT_RD; how <= SHUT_RDWR; how++) {
		int l = conf_listener(CONF_VIP, &a), v = -1;
		socklen_t len = sizeof(v);
		char step[32];

		CONF_RES(how_name[how], shutdown(l, how));
		CONF_NEED(getsockopt(l, SOL_SOCKET, SO_ACCEPTCONN, &v, &len) == 0);
		conf_say("state", "%s acceptconn %d poll %s", how_name[how], v,
			 conf_poll_now(l));
		snprintf(step, sizeof(step), "%s-client", how_name[how]);
		CONF_RES(step, connect(conf_tcp(0), &a.sa, conf_addrlen()));
		conf_nonblock(l, true);
		snprintf(step, sizeof(step), "%s-accept", how_name[how]);
		CONF_RES(step, accept(l, NULL, NULL) < 0 ? -1 : 0);
	}
	CONF_RES("bad-3", shutdown(conf_listener(CONF_VIP, NULL), 3));
	CONF_RES("bad-minus", shutdown(conf_listener(CONF_VIP, NULL), -1));
}

static void connected(void)
{
	for (int how = SHUT_RD; how <= SHUT_RDWR; how++) {
		int c, s;
		char step[32];

		conf_pair(&c, &s, NULL);
		CONF_RES(how_name[how], shutdown(c, how));
		snprintf(step, sizeof(step), "%s-again", how_name[how]);
		CONF_RES(step, shutdown(c, how));
		snprintf(step, sizeof(step), "%s-accepted", how_name[how]);
		CONF_RES(step, shutdown(s, how));
		close(c);
		close(s);
		conf_pair(&c, &s, NULL);
		snprintf(step, sizeof(step), "%s-by-accepted", how_name[how]);
		CONF_RES(step, shutdown(s, how));
	}
}

static void connected_bad(void)
{
	int c, s;

	conf_pair(&c, &s, NULL);
	CONF_RES("bad-3", shutdown(c, 3));
	CONF_RES("bad-minus", shutdown(c, -1));
	CONF_RES("bad-accepted", shutdown(s, 77));
	conf_talk("talk", c, s);
}

static void write_side(void)
{
	int c, s;
	char x = 0;

	conf_pair(&c, &s, NULL);
	CONF_RES("send", send(c, "a", 1, 0));
	CONF_RES("wr", shutdown(c, SHUT_WR));
	CONF_RES("send-after", send(c, "b", 1, MSG_NOSIGNAL));
	conf_say("own-poll", "%s", conf_poll_now(c));
	conf_say("peer-poll", "%s", conf_poll_until(s, POLLRDHUP));
	CONF_RES("peer-recv", recv(s, &x, 1, MSG_DONTWAIT));
	CONF_RES("peer-eof", recv(s, &x, 1, MSG_DONTWAIT));
	CONF_RES("peer-eof-again", recv(s, &x, 1, MSG_DONTWAIT));
	CONF_RES("peer-send", send(s, "c", 1, MSG_NOSIGNAL));
	conf_poll_until(c, POLLIN);
	CONF_RES("own-recv", recv(c, &x, 1, MSG_DONTWAIT));
	CONF_RES("own-empty", recv(c, &x, 1, MSG_DONTWAIT));
	CONF_RES("peer-wr", shutdown(s, SHUT_WR));
	conf_say("own-poll-end", "%s", conf_poll_until(c, POLLHUP));
	conf_say("peer-poll-end", "%s", conf_poll_until(s, POLLHUP));
	CONF_RES("own-eof", recv(c, &x, 1, MSG_DONTWAIT));
	CONF_RES("after-rdwr", shutdown(c, SHUT_RDWR));
}

static void read_side(void)
{
	int c, s;
	char x = 0;

	conf_pair(&c, &s, NULL);
	CONF_RES("rd", shutdown(c, SHUT_RD));
	CONF_RES("own-recv", recv(c, &x, 1, MSG_DONTWAIT));
	conf_say("own-poll", "%s", conf_poll_now(c));
	conf_say("peer-poll", "%s", conf_poll_now(s));
	CONF_RES("own-send", send(c, "a", 1, MSG_NOSIGNAL));
	conf_poll_until(s, POLLIN);
	CONF_RES("peer-recv", recv(s, &x, 1, MSG_DONTWAIT));
	CONF_RES("peer-empty", recv(s, &x, 1, MSG_DONTWAIT));
	CONF_RES("peer-send", send(s, "b", 1, MSG_NOSIGNAL));
	CONF_RES("peer-send-again", send(s, "b", 1, MSG_NOSIGNAL));
}

static void sigpipe(void)
{
	int c, s;

	conf_pair(&c, &s, NULL);
	CONF_NEED(shutdown(c, SHUT_WR) == 0);
	signal(SIGPIPE, SIG_DFL);
	CONF_RES("nosignal", send(c, "x", 1, MSG_NOSIGNAL));
	CONF_RES("signal", write(c, "x", 1));
}

static const struct conf_case generic[] = {
	{ "fresh", fresh },	    { "bound", bound },	      { "listening", listening },
	{ "connected", connected }, { "bad", connected_bad }, { "write-side", write_side },
	{ "read-side", read_side }, { "sigpipe", sigpipe },
};

static void not_tcp(void)
{
	int p[2], u;

	CONF_NEED(pipe(p) == 0);
	CONF_RES("bad-fd", shutdown(-1, SHUT_RD));
	CONF_RES("pipe", shutdown(p[0], SHUT_RD));
	u = socket(AF_INET, SOCK_DGRAM, 0);
	CONF_RES("udp", shutdown(u, SHUT_RD));
	CONF_NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
	CONF_RES("unix-rd", shutdown(p[0], SHUT_RD));
	CONF_RES("unix-peer-send", send(p[1], "x", 1, MSG_NOSIGNAL));
}

static const struct conf_case once[] = {
	{ "not-tcp", not_tcp },
};

const struct errno_part errno_shutdown = { "shutdown", generic, ERRNO_N(generic), once,
					   ERRNO_N(once) };
