#!/bin/bash
# Java: HttpServer and HttpClient, blocking sockets and NIO selectors.
. "${0%/*}/../lib/lib.sh"
need javac java curl jq
require_seccomp_notify
check "build"
timeout 60 javac -d "$T/classes" "$HERE/java/App.java"
# No files in /tmp/hsperfdata_*, a small heap.
java=(java -XX:-UsePerfData -XX:+UseSerialGC -Xmx200m -XX:TieredStopAtLevel=1 -cp "$T/classes" App)

start_daemon
app server --ip 10.0.0.5 --ip fd00::5 -- "${java[@]}" serve
wait_line server.log listening
wait_port 10.0.0.5 80
wait_port fd00::5 7

check "addresses as the server sees them"
assert_eq "10.0.0.6 10.0.0.5 80" "$(run --ip 10.0.0.6 -- curl -sSf --max-time 20 http://10.0.0.5/who)"
assert_contains "$(run --ip fd00::6 -- curl -sSfg --max-time 20 'http://[fd00::5]/who')" "6 "

for to in 10.0.0.5 fd00::5; do
	check "HttpClient, Socket and NIO against $to"
	got=$(run --ip 10.0.0.6 --ip fd00::6 -- "${java[@]}" get $to 400 2>&1) || fail "$got"
	assert_eq "ok 400" "$got"
done

check "IPv4 sockets only (preferIPv4Stack)"
got=$(run --ip 10.0.0.6 -- "${java[0]}" -Djava.net.preferIPv4Stack=true "${java[@]:1}" get 10.0.0.5 200 2>&1) ||
	fail "$got"
assert_eq "ok 200" "$got"
