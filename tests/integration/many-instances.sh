#!/bin/bash
# Several apps with the same --ip and port are instances of one service.
. "${0%/*}/../lib/lib.sh"
need python3 jq
need_switch "load balancing"
require_seccomp_notify
start_daemon
VIP=10.0.0.5

instances() # POLICY: a, b and c
{
	local n
	for n in a b c; do
		app $n --ip $VIP --lb "$1" -- "$TCP" serve 80 $n
	done
	wait_port $VIP 80 3
}

stop_instances()
{
	local n
	for n in a b c; do
		[ -z "${PID[$n]:-}" ] || stop $n
	done
	wait_for "no instance is left" not_served
}

has_two() { get services | jq -e 'length == 2'; }
not_served() { get services | jq -e '. == []'; }

# the number after KEY= in the line of `tcp.py count`
of() { sed -n "s/.*\b$2=\([0-9]*\).*/\1/p" <<<"$1"; }

for lb in local-first round-robin random least-connections; do
	check "--lb $lb: 60 connections of one client go to all three"
	instances $lb
	got=$(run -- "$TCP" count $VIP 80 60)
	say "$got"
	assert_eq 3 "$(wc -w <<<"$got")" "different answers: $got"
	for n in a b c; do
		case $lb in
		local-first | round-robin) assert_eq 20 "$(of "$got" $n)" "share of $n" ;;
		*) assert_between 4 50 "$(of "$got" $n)" "share of $n" ;;
		esac
	done
	if [ $lb = least-connections ]; then
		check "--lb $lb: 60 connections held open are spread evenly"
		run -- /usr/bin/python3 -c '
import collections, socket, sys
cs = [socket.create_connection((sys.argv[1], 80)) for _ in range(60)]
seen = collections.Counter(c.makefile().readline().split()[0] for c in cs)
print(dict(seen))
assert len(seen) == 3 and max(seen.values()) - min(seen.values()) <= 10, seen' $VIP
	fi
	stop_instances
done

check "--lb source-hash: a client stays with its instance, clients are spread"
instances source-hash
for ((i = 1; i <= 24; i++)); do
	run --ip 10.1.0.$i -- "$TCP" count $VIP 80 4
done >"$T/got"
! grep -qv "^[abc]=4\$" "$T/got" || fail "a client was moved: $(sort "$T/got" | uniq -c)"
assert_eq 3 "$(sort -u "$T/got" | wc -l)" "instances used by 24 clients"
first=$(head -n 1 "$T/got")
assert_eq "$first" "$(run --ip 10.1.0.1 -- "$TCP" count $VIP 80 4)" "the first client, later"
check "... and keeps it when another instance ends"
for n in a b c; do
	[ "$n=4" = "$first" ] || break
done
stop "$n"
wait_for "two instances" has_two
assert_eq "$first" "$(run --ip 10.1.0.1 -- "$TCP" count $VIP 80 4)"
stop_instances

for how in KILL TERM; do
	check "one of three is ended by SIG$how: no connect fails"
	instances round-robin
	bg client timeout 60 "$APPSWITCH" run -- "$TCP" count $VIP 80 1500 --file "$T/started"
	wait_for "the client's first answer" test -e "$T/started"
	rm "$T/started"
	stop b $how
	await client 60000
	assert_eq 0 "$STATUS" "exit status of the client"
	got=$(cat "$T/client.log")
	say "$got"
	assert_eq "" "$(of "$got" connect-[A-Z]*)" "failed connects: $got"
	# What b had accepted, or had in its queue, when it was killed: at most the one under way.
	assert_between 1499 1500 $(($(of "$got" a) + $(of "$got" b) + $(of "$got" c)))
	assert_between 400 1400 "$(of "$got" a)" "share of a"
	stop_instances
done

check "an instance that closes its listener and lives on is passed over"
instances round-robin
bg client timeout 60 "$APPSWITCH" run -- "$TCP" count $VIP 80 1500 --file "$T/started"
wait_for "the client's first answer" test -e "$T/started"
kill -USR1 "${PID[b]}"
wait_line b.log '^closed'
await client 60000
assert_eq 0 "$STATUS" "exit status of the client"
got=$(cat "$T/client.log")
say "$got"
assert_between 1499 1500 $(($(of "$got" a) + $(of "$got" b) + $(of "$got" c))) "$got"
got=$(run -- "$TCP" count $VIP 80 60)
assert_eq "a=30 c=30" "$got" "after that"

check "the last one gone: refused"
stop a
stop c
assert_eq "connect ECONNREFUSED" "$(run -- "$TCP" ask $VIP 80 || :)"

check "a listener opened again serves again"
stop b
instances random
assert_eq 3 "$(run -- "$TCP" count $VIP 80 60 | wc -w)"
