#!/bin/bash
# redis-server with redis-cli, MONITOR, pub/sub, a replica, pipelining and redis-benchmark.
. "${0%/*}/../lib/lib.sh"
need redis-server redis-cli redis-benchmark jq
require_seccomp_notify
start_daemon
mkdir "$T/r1" "$T/r2"
opts=(--save '' --protected-mode no --bind '0.0.0.0 -::' --appendonly no --repl-diskless-sync-delay 0)
app r1 --ip 10.0.0.5 -- redis-server --port 6379 --dir "$T/r1" "${opts[@]}"
wait_port 10.0.0.5 6379
cli() { run --ip 10.0.0.6 -- redis-cli -h 10.0.0.5 "$@"; }

check "set and get, 1 MB of it binary"
assert_eq PONG "$(cli ping)"
head -c 1000000 /dev/urandom >"$T/blob"
assert_eq OK "$(run -- redis-cli -h 10.0.0.5 -x set blob <"$T/blob")"
run -- redis-cli -h 10.0.0.5 get blob | head -c 1000000 | cmp - "$T/blob"

check "the server knows its client by virtual address"
assert_contains "$(cli client list)" "addr=10.0.0.6:"
assert_contains "$(cli client list)" "laddr=10.0.0.5:6379"

check "MONITOR shows every command of another app"
app monitor --ip 10.0.0.7 -- redis-cli -h 10.0.0.5 monitor
wait_line monitor.log '^OK'
for i in {1..5}; do
	cli set "key$i" "value$i" >/dev/null
done
wait_line monitor.log '"key5" "value5"'
for i in {1..5}; do
	assert_eq 1 "$(grep -c "10\.0\.0\.6:[0-9]*\] \"set\" \"key$i\" \"value$i\"" "$T/monitor.log")"
done
stop monitor

check "publish and subscribe"
app sub -- redis-cli -h 10.0.0.5 --csv subscribe news
wait_line sub.log '"subscribe","news",1'
assert_eq 1 "$(cli publish news hello)"
wait_line sub.log '"message","news","hello"'
stop sub

check "a replica follows, and survives its own restart"
app r2 --ip 10.0.0.8 -- redis-server --port 6379 --dir "$T/r2" "${opts[@]}" --replicaof 10.0.0.5 6379
synced() { run -- redis-cli -h 10.0.0.8 info replication | grep -q 'master_link_status:up'; }
wait_for "the replica" synced
cli set late 42 >/dev/null
follows() { [ "$(run -- redis-cli -h 10.0.0.8 get late)" = 42 ]; }
wait_for "the new key on the replica" follows
assert_contains "$(cli info replication)" "ip=10.0.0.8,port=6379,state=online"
stop r2

check "redis-benchmark, plain, pipelined, many connections: every command done"
for args in "-c 50 -n 20000" "-c 50 -n 100000 -P 16" "-c 500 -n 20000" "-c 20 -n 20000 --threads 2" \
	"-c 20 -n 2000 -k 0"; do
	before=$(cli info stats | sed -n 's/total_commands_processed:\([0-9]*\).*/\1/p')
	# shellcheck disable=SC2086
	run -- redis-benchmark -h 10.0.0.5 -q -t set,get,incr $args >"$T/bench"
	tr '\r' '\n' <"$T/bench" | grep 'requests per second' | sed 's/^/  /'
	! grep -iE 'error|refused|reset' "$T/bench" || fail "redis-benchmark $args: errors"
	assert_eq 3 "$(tr '\r' '\n' <"$T/bench" | grep -c 'requests per second')" "results"
	after=$(cli info stats | sed -n 's/total_commands_processed:\([0-9]*\).*/\1/p')
	n=${args#*-n }
	n=${n%% *}
	assert_between $((3 * n)) $((3 * n + 2000)) $((after - before)) "commands seen by the server"
done
cli debug sleep 0 >/dev/null
check "shutdown by command"
cli shutdown nosave >/dev/null 2>&1 || :
await r1
assert_eq 0 "$STATUS"
expect_fail cli ping
