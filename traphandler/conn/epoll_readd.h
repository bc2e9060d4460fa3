/* epoll_readd.h - adds a file to a target's epoll set under a given fd number.
 *
 * epoll(7) keys items by (file, number in the caller's table). So it is done by a thread with a
 * table of its own, in which the file can sit at any number. */
#ifndef TRAPHANDLER_EPOLL_READD_H
#define TRAPHANDLER_EPOLL_READD_H

#include <stdint.h>

int epoll_readd_start(void);
void epoll_readd_stop(void);

/* In the set at @epfd of thread @tid: an item for what @tid has at @fdno. 0 or -errno.
 * Waits for the helper thread, which waits for nobody. */
int epoll_readd(int tid, int epfd, int fdno, uint32_t events, uint64_t data);

#endif
