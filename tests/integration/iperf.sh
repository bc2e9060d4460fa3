#!/bin/bash
# iperf and iperf3: parallel, reverse, bidirectional, zero copy; the byte counts agree.
. "${0%/*}/../lib/lib.sh"
need iperf iperf3 jq
require_seccomp_notify
start_daemon
app s3 --ip 10.0.0.5 --ip fd00::5 -- iperf3 -s --forceflush
wait_port 10.0.0.5 5201
app s2 --ip 10.0.0.6 -- iperf -s -p 5001
wait_port 10.0.0.6 5001

for args in "" "-P 8" "-R" "--bidir" "-Z" "-P 4 -R -Z" "-l 128" "-N" "-w 64K" "-M 1000" "-C cubic" \
	"-6"; do
	check "iperf3 ${args:-(plain)}"
	to=10.0.0.5
	[ "$args" != -6 ] || to=fd00::5
	# The server takes its next client a moment after it has reported the last one.
	for _ in {1..50}; do
		# shellcheck disable=SC2086
		run --ip 10.0.0.9 --ip fd00::9 -- iperf3 -c $to -J -t 1 $args >"$T/json" 2>"$T/err" || :
		grep -q 'server is busy' "$T/json" || break
		sleep 0.1
	done
	jq -e 'has("error") | not' "$T/json" >/dev/null || fail "$(jq -r .error "$T/json")"
	jq -e '.end.sum_sent.bytes > 1000000 and .end.sum_received.bytes > 1000000 and
		.end.sum_received.bytes <= .end.sum_sent.bytes + 1000000' "$T/json" >/dev/null ||
		fail "bytes: $(jq -c '[.end.sum_sent.bytes, .end.sum_received.bytes]' "$T/json")"
	streams=1
	[[ ! $args =~ -P\ ([0-9]+) ]] || streams=${BASH_REMATCH[1]}
	[ "$args" != --bidir ] || streams=2
	assert_eq "$streams" "$(jq '.end.streams | length' "$T/json")" "streams"
	assert_eq "$to:5201" "$(jq -r '.start.connected[0] | "\(.remote_host):\(.remote_port)"' "$T/json")"
	assert_eq "${to/%5/9}" "$(jq -r '.start.connected[0].local_host' "$T/json")"
	jq -e 'all(.end.streams[].sender; .retransmits == null or .retransmits >= 0)' "$T/json" >/dev/null ||
		fail "retransmits: $(jq -c '.end.streams[].sender' "$T/json")"
	say "$(jq -r '.end.sum_received.bits_per_second / 1e9 * 10 | floor / 10' "$T/json") Gbit/s"
done
assert_eq "" "$(grep -i error "$T/s3.log" || :)" "errors in the server's log"

check "iperf3 -n: the bytes that were asked for"
run -- iperf3 -c 10.0.0.5 -J -n 50M >"$T/json"
assert_between 52428800 52690944 "$(jq .end.sum_sent.bytes "$T/json")" "bytes sent"

for args in "" "-P 8" "-r" "-d" "-l 1K" "-e"; do
	check "iperf ${args:-(plain)}"
	# shellcheck disable=SC2086
	run --ip 10.0.0.9 -- iperf -c 10.0.0.6 -p 5001 -t 1 -f m $args >"$T/out" 2>&1 || fail "$(cat "$T/out")"
	# -d of iperf 2.1 ends with "write failed" or "shutdown failed" now and then natively, too.
	[ "$args" = -d ] || ! grep -iE 'failed|refused|error|reset' "$T/out" || fail "iperf $args: $(cat "$T/out")"
	results=1
	[[ $args != -[rd] ]] || results=2
	[ "$(grep -cE '[0-9.]+ Mbits/sec' "$T/out")" -ge $results ] || fail "no result: $(cat "$T/out")"
	grep -E 'bits/sec' "$T/out" | tail -n 1
done
stop s3
stop s2
