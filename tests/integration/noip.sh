#!/bin/bash
# An app without --ip is a client; what it listens on stays inside its own namespace.
. "${0%/*}/../lib/lib.sh"
need python3 jq
require_seccomp_notify
start_daemon
app server --ip 10.0.0.5 -- "$TCP" serve 80 server
wait_port 10.0.0.5 80

check "a listener works inside, by loopback and by the app's own address"
cat >"$T/inside.sh" <<'END'
exec 4>"$T/id.new"
"$TCP" ask 10.0.0.5 80 >&4
mv "$T/id.new" "$T/id"
"$TCP" serve 8080 inside & s=$!
"$TCP" serve 8081 v6 --bind :: & s="$s $!"
"$TCP" serve 8082 lo --bind 127.0.0.1 & s="$s $!"
me=$(sed 's/.* me=\([^,]*\),.*/\1/' "$T/id")
for i in $(seq 500); do
	"$TCP" ask 127.0.0.1 8080 && "$TCP" ask ::1 8081 && "$TCP" ask 127.0.0.1 8082 && break
	sleep 0.05
done >"$T/tries"
"$TCP" ask 127.0.0.1 8080
"$TCP" ask ::1 8081
"$TCP" ask 127.0.0.1 8081
"$TCP" ask 127.0.0.1 8082
"$TCP" ask "$me" 8080
echo done
read -r _ <"$T/go"
kill $s
END
export TCP
mkfifo "$T/go"
app noip -- bash "$T/inside.sh"
wait_line noip.log '^done'
assert_eq "inside inside lo v6 v6" \
	"$(grep -E '^(inside|v6|lo) ' "$T/noip.log" | cut -d' ' -f1 | sort | xargs)"
assert_contains "$(grep '^lo ' "$T/noip.log")" " server=127.0.0.1,8082 me=127.0.0.1,"

check "its identity is a link-local address that the server sees"
me=$(sed 's/.* me=\([^,]*\),.*/\1/' "$T/id")
assert_contains "$me" 169.254.
assert_contains "$(cat "$T/id")" "peer=$me,"

if [ "$MODE" != native ]; then
	check "nobody else reaches it: neither by that address nor by loopback"
	for at in "$me 8080" "127.0.0.1 8080" "::1 8081"; do
		# shellcheck disable=SC2086
		assert_eq "connect ECONNREFUSED" "$(run -- "$TCP" ask $at || :)" "no --ip, $at"
		# shellcheck disable=SC2086
		assert_eq "connect ECONNREFUSED" "$(run --ip 10.0.0.9 -- "$TCP" ask $at || :)" "--ip, $at"
	done
	check "and 'get services' does not offer it"
	assert_eq 80 "$(get services | jq -r '.[].port' | xargs)"
fi

check "from the host nothing is reachable"
for port in 80 8080 8081 8082; do
	expect_fail timeout 10 "$TCP" ask 127.0.0.1 $port
done

check "clients without --ip get different identities"
for _ in 1 2 3; do
	run -- "$TCP" ask 10.0.0.5 80 >>"$T/others"
done
if [ "$MODE" != native ]; then
	app hold1 -- "$TCP" ask 10.0.0.5 80 -n 5
	await hold1
fi
grep -q 'peer=169\.254\.' "$T/others"
echo >"$T/go"
await noip
