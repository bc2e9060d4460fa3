#!/bin/bash
# Node: http server and client (libuv: epoll before connect, accept4, dual-stack listener).
. "${0%/*}/../lib/lib.sh"
need node curl jq
require_seccomp_notify
start_daemon
J=$HERE/node/app.js
app server --ip 10.0.0.5 --ip fd00::5 -- node "$J" serve 80
wait_port 10.0.0.5 80
wait_port fd00::5 80

check "addresses as the dual-stack server sees them"
assert_eq "::ffff:10.0.0.6 ::ffff:10.0.0.5 80" \
	"$(run --ip 10.0.0.6 -- curl -sSf --max-time 20 http://10.0.0.5/who)"
assert_eq "fd00::6 fd00::5 80" "$(run --ip fd00::6 -- curl -sSfg --max-time 20 'http://[fd00::5]/who')"

check "Node client, keep-alive"
got=$(run --ip 10.0.0.6 -- node "$J" get 10.0.0.5 80 2000 16 keep)
assert_contains "$got" "ok 2000 "
assert_between 1 40 "${got##* }" "connections"
check "Node client, a connection per request, by IPv6"
assert_eq "ok 600 600" "$(run --ip fd00::6 -- node "$J" get fd00::5 80 600 32 close)"

check "two clients at once"
app c1 -- node "$J" get 10.0.0.5 80 1000 16 keep
app c2 -- node "$J" get 10.0.0.5 80 500 16 close
for c in c1 c2; do
	await $c 60000
	assert_eq 0 "$STATUS" "$c: $(cat "$T/$c.log")"
done
stop server
assert_eq 0 "$STATUS"
assert_contains "$(cat "$T/server.log")" bye
