#!/bin/bash
# Handled signals in the middle of calls: EINTR and restarts, no connection is lost, none invented.
. "${0%/*}/../lib/lib.sh"
need python3
require_seccomp_notify
start_daemon

LIMIT=40
check "with SA_RESTART: connect and accept are restarted by the kernel"
run --ip 10.9.2.1 -- /usr/bin/python3 "$LIB/robust.py" signals 1
# Python does then what POSIX says for an interrupted connect(): it waits for writability and asks
# for SO_ERROR. Meanwhile the connection must have been made, on this very socket.
check "without: EINTR, then poll and SO_ERROR"
run --ip 10.9.2.1 -- /usr/bin/python3 "$LIB/robust.py" signals 0

check "an interrupted connect() that one thread asks about and another repeats: one connection"
run --ip 10.9.2.1 -- /usr/bin/python3 "$LIB/robust.py" twice

check "a handler that closes the listener: a client that was being accepted sees the end"
run --ip 10.9.2.1 -- /usr/bin/python3 "$LIB/robust.py" closing
