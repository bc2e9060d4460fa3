#!/bin/bash
# The first thing anyone tries: a server with a virtual IP, curl to it, nothing set up before.
. "${0%/*}/../lib/lib.sh"
need python3 curl jq
require_seccomp_notify

mkdir "$T/www"
head -c 300000 /dev/urandom | base64 >"$T/www/file.txt"

check "no daemon runs and 'get' says so"
if [ "$MODE" != native ]; then
	expect_fail "$APPSWITCH" get services
	assert_eq 1 "$(wc -l <"$T/err")" "lines of the message"
fi

app web --ip 10.0.0.5 -- /usr/bin/python3 -m http.server --directory "$T/www" 80
wait_port 10.0.0.5 80

check "curl by VIP gets the content"
run -- curl -sS --max-time 20 -o "$T/got" http://10.0.0.5/file.txt
cmp "$T/www/file.txt" "$T/got"

check "10 times more, from a client with an address of its own"
for _ in {1..10}; do
	run --ip 10.0.0.6 -- curl -sS --max-time 20 http://10.0.0.5/file.txt | cmp - "$T/www/file.txt"
done

check "the server saw the client's virtual address"
grep -q '^10\.0\.0\.6 ' "$T/web.log" || fail "10.0.0.6 is not in the server's log"

check "nothing of it is reachable from the host"
expect_fail timeout 10 bash -c 'exec 3<>/dev/tcp/127.0.0.1/80'

[ "$MODE" != native ] || exit 0
check "the embedded daemon ends with its last app and leaves no file"
stop web
assert_eq 143 "$STATUS" "exit status of the server"
wait_no_daemon
assert_eq "" "$(ls -A "$T/run")" "files in XDG_RUNTIME_DIR"
