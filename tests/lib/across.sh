# shellcheck shell=bash
# across.sh - a test that was written for one host, with its apps on four.
#
#   ACROSS=1 tests/integration/redis.sh
#
# lib.sh sources it at its end. `app NAME` goes to host 1, 2 or 3 in turn (a name keeps its host), and
# `run`, `get` and whatever asks the daemon at $APPSWITCH_SOCKET are on host 4: no client in the
# foreground is ever on its server's host. `start_daemon` starts four daemons that know each other.

. "$LIB/hosts.sh"
need_cluster
ACROSS_HOSTS=3
ACROSS_CLIENT=4
declare -A APP_HOST=()

hosts $ACROSS_CLIENT
export APPSWITCH_SOCKET=$T/h$ACROSS_CLIENT/s
# What a test itself starts of appswitch is on host 4, executed in place.
cat >"$T/across" <<END
#!/bin/sh
exec nsenter -t ${PID[host$ACROSS_CLIENT]} -n -u -- env XDG_RUNTIME_DIR=$T/h$ACROSS_CLIENT/run $SWITCH "\$@"
END
chmod 755 "$T/across"
APPSWITCH=$T/across
eval "start_host_daemon() $(declare -f start_daemon | tail -n +2)"

start_daemon() # [OPTIONS]
{
	local k
	for ((k = 1; k <= HOSTS; k++)); do
		start_host_daemon $k "$@"
	done
	wait_all_nodes "$HOSTS"
}

app()
{
	APP_HOST[$1]=${APP_HOST[$1]:-$((${#APP_HOST[@]} % ACROSS_HOSTS + 1))}
	app_on "${APP_HOST[$1]}" "$@"
}
