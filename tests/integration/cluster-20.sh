#!/bin/bash
# Twenty hosts: they find each other, one death is known everywhere, an app moves to another host.
. "${0%/*}/../lib/lib.sh"
. "${0%/*}/../lib/hosts.sh"
need python3
need_cluster
N=20
hosts $N

check "$N daemons, each told one address, find each other"
t0=$(now_ms)
for ((k = 1; k <= N; k++)); do
	start_daemon $k
done
wait_all_nodes $N
say "$(($(now_ms) - t0)) ms from the start of the first"

check "a service is known on all, and each host's client reaches it"
app_on 3 three --ip 10.0.0.5 -- "$TCP" serve 80 three
wait_all_services 10.0.0.5 80
for ((k = 1; k <= N; k++)); do
	got=$(run_on $k --ip "10.0.1.$k" -- "$TCP" ask 10.0.0.5 80) || fail "host $k: $got"
	assert_contains "$got" "three peer=10.0.1.$k,"
done

check "started again on another host with the same --ip: found by all clients within a second"
clients=()
for ((k = 1; k <= N; k++)); do
	[ $k != 7 ] || continue
	app_on $k "client$k" -- "$TCP" until 10.0.0.5 80 seven
	clients+=("$k")
done
stop three
app_on 7 seven --ip 10.0.0.5 -- "$TCP" serve 80 seven
wait_service 7 10.0.0.5 80
t0=$(now_ms)
last=0
for k in "${clients[@]}"; do
	await "client$k" 20000
	assert_eq 0 "$STATUS" "client $k"
	at=$(cat "$T/client$k.log")
	[ "$at" -le "$last" ] || last=$at
done
say "the last client found it $((last - t0)) ms after it was served"
assert_between -1000000 1000 $((last - t0)) "ms"

check "one host crashes: all others know"
t0=$(now_ms)
crash_host $N
for ((k = 1; k < N; k++)); do
	WAIT_MS=60000 wait_for "host $k to know" node_gone $k "h$N"
done
say "$(($(now_ms) - t0)) ms until the last knew"
for ((k = 1; k < N; k++)); do
	wait_nodes $k $((N - 1))
done

check "and comes back as the one it was"
boot_host $N
start_daemon $N
wait_all_nodes $N
for ((k = 1; k <= N; k++)); do
	assert_eq 1 "$(get_on $k nodes | jq --arg n "h$N" '[.[] | select(.name == $n)] | length')" \
		"rows of h$N on host $k"
done
assert_contains "$(run_on $N -- "$TCP" ask 10.0.0.5 80)" "seven "
