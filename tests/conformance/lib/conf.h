/* conf.h - what the conformance programs share: cases, their output, TCP sockets to try things on.
 *
 * A case runs in a process of its own and prints one line per step, "CASE.STEP: RESULT ERRNO".
 * Nothing it prints depends on time, process ids or the number of an ephemeral port, so that
 * the output of two runs can be compared line by line. A case that does not end is killed with
 * everything it has started and prints "CASE: hang".
 *
 * The helpers that make sockets end the case with a line "CASE.setup: ..." when they fail. */
#ifndef CONF_H
#define CONF_H

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

struct conf_case {
	const char *name;
	void (*fn)(void);
};

/* Which addresses a case uses; set by conf_run() for its variants. */
enum conf_family { CONF_V4, CONF_V6, CONF_MAPPED };
extern enum conf_family conf_fam;

/* VIPs of the app; the same addresses are on lo in the native run. */
#define CONF_VIP4 "10.0.0.5"
#define CONF_VIP6 "fd00::5"

/* Runs @n cases, named PREFIX/NAME, that match @only (a substring; NULL: all). */
void conf_run(const char *prefix, enum conf_family fam, const struct conf_case *c, size_t n,
	      const char *only);

/* Prints "CASE.STEP: TEXT" as one write. */
void conf_say(const char *step, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

const char *conf_errno(int err);
/* Value and errno of a call just made: "0 -", "-1 EINVAL". */
#define CONF_RES(step, expr)                                                              \
	do {                                                                              \
		errno = 0;                                                                \
		long conf_r_ = (long)(expr);                                              \
		conf_say(step, "%ld %s", conf_r_, conf_r_ < 0 ? conf_errno(errno) : "-"); \
	} while (0)
/* The same for a call that returns a descriptor: "fd -". It is left open. */
#define CONF_FD(step, expr)                                        \
	do {                                                       \
		errno = 0;                                         \
		int conf_r_ = (expr);                              \
		conf_say(step, "%s %s", conf_r_ < 0 ? "-1" : "fd", \
			 conf_r_ < 0 ? conf_errno(errno) : "-");   \
	} while (0)
/* Ends the case unless @ok: for what is not the subject of it. */
#define CONF_NEED(expr)                             \
	do {                                        \
		if (!(expr))                        \
			conf_give_up(#expr, errno); \
	} while (0)
void conf_give_up(const char *what, int err) __attribute__((noreturn));

/* --- addresses --- */
union conf_addr {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_storage ss;
	char bytes[256];
};

enum conf_where { CONF_LO, CONF_VIP, CONF_ANY };
/* Address in the running family (CONF_MAPPED: an IPv6 one), its length. */
socklen_t conf_addr(union conf_addr *a, enum conf_where where, int port);
socklen_t conf_addr_of(union conf_addr *a, int af, const char *ip, int port);
socklen_t conf_addrlen(void); /* of a full address of the running family */
int conf_port(const union conf_addr *a);

/* From now on this case prints the port under this name instead of "P". */
void conf_name_port(const char *name, int port);
/* "10.0.0.5:listener 16"; what does not look like an address is shown as bytes. */
const char *conf_show(const union conf_addr *a, socklen_t len);
const char *conf_show_name(int fd); /* of getsockname */
const char *conf_show_peer(int fd); /* of getpeername */

/* --- sockets --- */
int conf_af(void);
int conf_tcp(int flags); /* TCP socket of the running family; flags as for socket(2) */
int conf_bound(enum conf_where where, union conf_addr *a);    /* to a port of its own */
int conf_listener(enum conf_where where, union conf_addr *a); /* the same, listening */
int conf_client(const union conf_addr *a);		      /* connected */
/* A connected pair over a listener on the VIP, which is closed unless @l. */
void conf_pair(int *client, int *server, int *l);
/* Accepts, waiting at most 2 s for someone to come. */
int conf_accept(int l);

/* --- events --- */
const char *conf_events(uint32_t ev); /* "IN|OUT", "-"; poll and epoll have the same bits */
/* Events of one poll(2) for "everything", without waiting. */
const char *conf_poll_now(int fd);
/* Waits at most 2 s until all of @ev are there; then the same. */
const char *conf_poll_until(int fd, uint32_t ev);
int conf_so_error(int fd); /* SO_ERROR, which clears it */
void conf_say_so_error(const char *step, int fd);

void conf_nonblock(int fd, bool on);
/* One byte each way between connected sockets; prints "ok" or what went wrong. */
void conf_talk(const char *step, int a, int b);
/* A signal handler that does nothing; SA_RESTART if @restart. SIGALRM. */
void conf_alarm_handler(bool restart);
void conf_alarm_in(int ms);
/* Waits until thread @tid of this process is asleep in a call (bounded). */
void conf_wait_asleep(pid_t pid, pid_t tid);
/* Sends @fd over the UNIX socket / takes one from it; -errno. */
int conf_send_fd(int sock, int fd);
int conf_recv_fd(int sock);

#endif
