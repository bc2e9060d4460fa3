#include "traphandler/trap/dispatch.h"

#include "traphandler/conn/accept.h"
#include "traphandler/conn/connect.h"
#include "traphandler/conn/face.h"
#include "traphandler/conn/listen.h"
#include "traphandler/conn/sockopt.h"
#include "traphandler/trap/target.h"

#include <sys/syscall.h>

bool trap_may_wait(int nr)
{
	return nr == SYS_connect || nr == SYS_accept || nr == SYS_accept4 || nr == SYS_listen;
}

void trap_dispatch(struct trap *t)
{
	switch (t->nr) {
	case SYS_connect:
		handle_connect(t);
		break;
	case SYS_accept:
	case SYS_accept4:
		handle_accept(t);
		break;
	case SYS_listen:
		handle_listen(t);
		break;
	case SYS_bind:
		handle_bind(t);
		break;
	case SYS_getsockname:
	case SYS_getpeername:
		handle_getname(t);
		break;
	case SYS_getsockopt:
		handle_getsockopt(t);
		break;
	case SYS_setsockopt:
		handle_setsockopt(t);
		break;
	case SYS_shutdown:
		handle_shutdown(t);
		break;
	case SYS_recvfrom:
	case SYS_recvmsg:
	case SYS_recvmmsg:
		handle_errqueue(t);
		break;
	case SYS_ioctl:
		handle_ioctl(t);
		break;
	case SYS_epoll_create:
	case SYS_epoll_create1:
		target_note_epoll(t);
		trap_reply_continue(t);
		break;
	case SYS_dup:
	case SYS_dup2:
	case SYS_dup3:
	case SYS_fcntl:
		handle_dup(t);
		break;
	default:
		trap_reply_continue(t);
		break;
	}
}
