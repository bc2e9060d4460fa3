#!/bin/bash
# A static Go program (no libc, CGO_ENABLED=0) as server and as client: net, net/http, SIGURG.
. "${0%/*}/../lib/lib.sh"
need go curl jq
require_seccomp_notify
check "build, static"
(
	cd "$HERE/go"
	export GOCACHE=$T/gocache GOPATH=$T/gopath CGO_ENABLED=0 GOFLAGS="-mod=readonly -buildvcs=false" GOPROXY=off GOTOOLCHAIN=local
	timeout 100 go build -o "$T/gotest" .
)
chmod -R u+w "$T/gocache"
rm -rf "$T/gocache"
file=$(head -c 4 "$T/gotest" | tail -c 3)
assert_eq ELF "$file"
! ldd "$T/gotest" >/dev/null 2>&1 || fail "not static"
G=$T/gotest

start_daemon
app server --ip 10.0.0.5 --ip fd00::5 -- "$G" serve :80 10.0.0.5:81 '[fd00::5]:82'
wait_port 10.0.0.5 80
wait_port fd00::5 80
wait_port 10.0.0.5 81
wait_port fd00::5 82
wait_port 10.0.0.5 7

check "addresses as the server sees them, IPv4 and IPv6, by curl"
for at in 10.0.0.5:80 10.0.0.5:81; do
	got=$(run --ip 10.0.0.6 -- curl -sSf --max-time 20 http://$at/who)
	assert_contains "$got" "10.0.0.6:"
	assert_contains "$got" " $at"
done
for at in '[fd00::5]:80' '[fd00::5]:82'; do
	got=$(run --ip fd00::6 -- curl -sSfg --max-time 20 "http://$at/who")
	assert_contains "$got" "[fd00::6]:"
	assert_contains "$got" " $at"
done

check "Go client, keep-alive: content, and connections are reused"
got=$(run --ip 10.0.0.6 -- "$G" get http://10.0.0.5 2000 16 keep)
assert_contains "$got" "ok 2000 "
assert_between 1 40 "${got##* }" "connections"
check "Go client, a connection per request, 32 at a time, by IPv6"
got=$(run --ip fd00::6 -- "$G" get 'http://[fd00::5]' 600 32 close)
assert_contains "$got" "ok 600 "
check "raw TCP with half close"
assert_eq "ok 300" "$(run -- "$G" tcp 10.0.0.5:7 300)"
check "while the runtime preempts with SIGURG"
got=$(run --ip 10.0.0.7 -- "$G" preempt 10.0.0.5:7) || fail "$got"
assert_contains "$got" "ok "
say "$got connections"
check "refused and unknown addresses"
assert_contains "$(run -- "$G" tcp 10.0.0.5:9 1 || :)" "connection refused"
check "graceful shutdown"
stop server
assert_eq 0 "$STATUS"
assert_contains "$(cat "$T/server.log")" bye
