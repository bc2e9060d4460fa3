#!/bin/bash
# The port for other nodes belongs to the daemon that was told to listen there: one that is started without
# --listen, or with another address, has the old one no more, though apps live on from daemon to daemon.
. "${0%/*}/../lib/lib.sh"
. "${0%/*}/../lib/hosts.sh"
need python3 ss
need_cluster
hosts 2

listening() { on 1 ss -Htlun "sport = :$1" | wc -l; } # PORT: sockets of TCP and UDP
told() # PORT: what connect() to it from host 2 says
{
	on 2 timeout 5 bash -c 'exec 3<>/dev/tcp/10.99.0.1/$0' "$1" 2>&1 && echo connected
}
restart() # OPTIONS
{
	kill_daemon 1
	rm -f "$T/h1/s"
	start_ready daemon1 "${AT[@]}" "$SWITCH" daemon --ready-fd 3 --node h1 --log info "$@"
}

start_daemon 1
app_on 1 web --ip 10.0.0.5 -- "$TCP" serve 80 web
wait_service 1 10.0.0.5 80
assert_eq 2 "$(listening 6660)" "sockets of the node"
at 1

check "restarted with another port: the old one is free"
restart --listen 10.99.0.1:6661 --key-file "$T/key" --state-dir "$T/h1/state"
assert_eq 2 "$(listening 6661)" "sockets at the new port"
assert_eq 0 "$(listening 6660)" "sockets at the old port"

check "restarted without --listen: nothing listens, and who comes is refused"
restart
assert_eq 0 "$(listening 6661)" "sockets at the port"
assert_contains "$(told 6661 || :)" "refused" "connect()"
assert_eq "web=3" "$(run_on 1 -- "$TCP" count 10.0.0.5 80 3)"

check "and in the cluster again"
restart --listen 10.99.0.1 --key-file "$T/key" --state-dir "$T/h1/state"
start_daemon 2
wait_all_services 10.0.0.5 80
assert_eq "web=3" "$(run_on 2 -- "$TCP" count 10.0.0.5 80 3)"
