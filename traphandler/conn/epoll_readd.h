/* epoll_readd.h - adds a file to a target's epoll set under a given fd number.
 *
 * epoll(7) keys items by (file, number in the caller's table), so for a moment the file must sit
 * at that very number in a table of ours. Numbers below EPOLL_RESERVED are kept free for this in
 * the daemon's table (by placeholders, so its own fds are all above); for others there are helper
 * threads with a table of their own each, which cost two switches more.
 * A target can hold up whoever touches its set (it is locked while events are copied to memory that
 * never comes). So a number that is in use is not waited for, a helper serves one caller at a time,
 * and who finds none idle starts another: each caller waits for its own target only. */
#ifndef TRAPHANDLER_EPOLL_READD_H
#define TRAPHANDLER_EPOLL_READD_H

#include <stdint.h>

#define EPOLL_RESERVED 2048

/* Before the daemon opens anything that stays. 0 or -errno. */
int epoll_readd_reserve(void);

int epoll_readd_start(void);
void epoll_readd_stop(void);

/* In the set at @epfd of thread @tid (@pidfd): an item for @fd, a copy of what @tid has at @fdno.
 * 0 or -errno. Waits for as long as the target's set is locked. */
int epoll_readd(int tid, int pidfd, int epfd, int fdno, int fd, uint32_t events, uint64_t data);

#endif
