#!/bin/bash
# The hosts of the tests themselves (tests/lib/hosts.sh): what is cut is cut, what is not is not,
# and nothing is left of them.
. "${0%/*}/../lib/lib.sh"
. "${0%/*}/../lib/hosts.sh"
need ping ss python3

if [ "${1:-}" = inner ]; then # what the last check looks at from outside
	hosts 3
	bg_on 1 left sleep infinity
	[ "$3" = passes ] || bg_on 2 parent bash -c 'sleep infinity & sleep infinity & wait'
	for name in wire host1 host2 host3; do
		readlink "/proc/${PID[$name]}/ns/net"
	done >"$2"
	case $3 in
	fails) fail "as asked" ;;
	waits) sleep 100 ;;
	esac
	exit 0
fi

# Right after a cut it is up to a second until the kernel asks for the neighbour again.
hears() { on "$1" ping -q -n -c 1 -W "${3:-10}" "10.99.0.$2" >/dev/null; }
hears6() { on "$1" ping -q -n -c 1 -W 10 "fd99::$2" >/dev/null; }
deaf() { ! hears "$1" "$2" 1; }

hosts 4

check "four hosts with names and addresses of their own reach each other, by IPv4 and IPv6"
for a in 1 2 3 4; do
	assert_eq "h$a" "$(on $a hostname)"
	for b in 1 2 3 4; do
		hears $a $b || fail "host $a does not reach host $b"
		hears6 $a $b || fail "host $a does not reach host $b by IPv6"
	done
done
serve_on() # K NAME PORT
{
	at "$1"
	start_ready "$2" "${AT[@]}" "$TCP" serve "$3" "$2" --bind "10.99.0.$1" --ready 3
}
serve_on 2 two 8000
assert_contains "$(on 1 "$TCP" ask 10.99.0.2 8000)" "two peer=10.99.0.1,"
expect_fail timeout 5 "$TCP" ask 10.99.0.2 8000 --timeout 2 # nobody outside does

check "a cut: silence both ways between the two, and nowhere else"
cut_both_ways 1 2
deaf 1 2 || fail "1 reaches 2"
deaf 2 1 || fail "2 reaches 1"
for pair in "1 3" "3 1" "2 3" "3 2" "1 4"; do
	# shellcheck disable=SC2086
	hears $pair || fail "$pair is cut, too"
done
heal 1 2
hears 1 2 || fail "not healed"

# Datagrams to one receiver: it prints how many came, and from whom, until one says "end".
cat >"$T/count.py" <<'END'
import collections, os, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if sys.argv[1] == "send":
    for _ in range(int(sys.argv[3])):
        s.sendto(sys.argv[4].encode(), (sys.argv[2], 9000))
    sys.exit()
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 212992)
s.bind((sys.argv[2], 9000))
os.write(3, b"\n")
seen = collections.Counter()
while True:
    data, peer = s.recvfrom(100)
    if data == b"end":
        break
    seen[peer[0]] += 1
print(" ".join(f"{k}={v}" for k, v in sorted(seen.items())), flush=True)
END
receive_on()
{
	at "$1"
	: >"$T/receive$1.log"
	start_ready "receive$1" "${AT[@]}" /usr/bin/python3 "$T/count.py" receive "10.99.0.$1"
}
send_on() { on "$1" /usr/bin/python3 "$T/count.py" send "10.99.0.$2" "$3" "${4:-x}"; } # FROM TO N
received() # K: after "end" from host 3
{
	send_on 3 "$1" 1 end
	await "receive$1"
	cat "$T/receive$1.log"
}

check "one way only: nothing from 1 arrives at 2, all from 2 arrives at 1"
cut_one_way 1 2
receive_on 1
receive_on 2
send_on 1 2 20
send_on 2 1 20
send_on 3 2 1
assert_eq "10.99.0.3=1" "$(received 2)" "at host 2"
assert_eq "10.99.0.2=20" "$(received 1)" "at host 1"
heal
hears 1 2 || fail "not healed"

for percent in 10 30; do
	check "$percent % of 500 datagrams are lost, by the kernel's count and by the receiver's"
	receive_on 2
	loss 2 $percent
	send_on 1 2 500
	read -r packets lost <<<"$(packets_lost 2)"
	loss 2 0
	got=$(received 2)
	say "$packets packets, $lost lost"
	more=$((packets - 500)) # IPv6 has something to say now and then
	assert_between 0 20 $more "packets of the kernel's own"
	assert_between $((percent * 5 - 45)) $((percent * 5 + 45)) "$lost" "lost"
	assert_between $((500 - lost)) $((500 - lost + more)) "${got#10.99.0.1=}" "received"
done
receive_on 2
send_on 1 2 200
assert_eq "10.99.0.1=200" "$(received 2)" "after the losses"

check "a partition: in a group all hear each other, between groups nobody"
partition "1 2" "3 4"
for pair in "1 2" "2 1" "3 4" "4 3"; do
	# shellcheck disable=SC2086
	hears $pair || fail "$pair in one group"
done
for pair in "1 3" "1 4" "2 3" "2 4" "3 1" "4 2"; do
	# shellcheck disable=SC2086
	deaf $pair || fail "$pair across"
done
heal
for pair in "1 3" "4 2"; do
	# shellcheck disable=SC2086
	hears $pair || fail "$pair after healing"
done

check "a crash: all processes of the host are gone, its peers hear nothing, not even an end"
mkfifo "$T/lines"
exec {lines}<>"$T/lines"
at 1
"${AT[@]}" "$TCP" hold 10.99.0.2 8000 <"$T/lines" >"$T/hold.out" &
PID[hold]=$!
ORDER+=(hold)
wait_line hold.out '^two'
bg_on 2 detached setsid bash -c '(setsid sleep 1000 & setsid sleep 1001 &) ; exec sleep 1002'
of_host2() { # pids
	local p uts
	uts=$(readlink "/proc/${PID[host2]}/ns/uts")
	for p in /proc/[0-9]*; do
		[ "$(readlink "$p/ns/uts" 2>/dev/null)" != "$uts" ] || echo "${p#/proc/}"
	done
}
five() { [ "$(of_host2 | wc -l)" = 5 ]; } # its holder, the server, three sleepers
wait_for "the processes of host 2" five
crash_host 2
assert_eq "${PID[host2]}" "$(of_host2)" "what is left of host 2"
deaf 1 2 || fail "it answers"
echo "into the void" >&"$lines"
assert_contains "$(on 1 ss -Htn dst 10.99.0.2)" ESTAB "its connection"
alive hold || fail "the peer of a crashed host was told: $(cat "$T/hold.out")"
stop hold
exec {lines}>&-

check "and it boots again"
boot_host 2
hears 1 2 || fail "host 2 does not answer"
serve_on 2 two 8000
assert_contains "$(on 1 "$TCP" ask 10.99.0.2 8000)" "two peer=10.99.0.1,"

check "each host has a daemon of its own, and apps"
require_seccomp_notify
for k in 1 2; do
	at $k
	start_ready daemon$k "${AT[@]}" "$APPSWITCH" daemon --ready-fd 3
	assert_eq "h$k" "$(get_on $k nodes | jq -r '.[0].name')"
	app_on $k web$k --ip 10.0.0.5 -- "$TCP" serve 80 "web$k"
	wait_service $k 10.0.0.5 80
done
for k in 1 2; do
	assert_contains "$(run_on $k --ip 10.0.0.6 -- "$TCP" ask 10.0.0.5 80)" "web$k peer=10.0.0.6,"
done
check "apps go down with their host"
crash_host 2
assert_eq "${PID[host2]}" "$(of_host2)" "what is left of host 2"
alive web1 || fail "the app of host 1 ended"

# A namespace lives on in a process, or in a file of /run/netns or elsewhere.
kept() # FILE WITH NAMES
{
	local ns
	for ns in /proc/[0-9]*/ns/net; do
		readlink "$ns" 2>/dev/null || :
	done | grep -Fxf "$1" || :
	grep -hoFf "$1" /proc/self/mountinfo || :
}

for how in passes fails waits; do
	check "nothing is left of a test that $how"
	interfaces=$(ip -o link | wc -l)
	got=0
	: >"$T/names"
	env -u TEST_SUPERVISED -u TMPDIR MODE=root "$HERE/$TEST.sh" inner "$T/names" $how >"$T/inner.log" 2>&1 &
	inner=$!
	four() { [ "$(wc -l <"$T/names")" = 4 ]; }
	wait_for "its namespaces" four
	[ $how != waits ] || kill -TERM $inner # the supervisor: as ctest does at its limit
	wait $inner || got=$?
	case $how in
	passes) assert_eq 0 $got "$(tail -n 3 "$T/inner.log")" ;;
	*) assert_eq 1 $got "$(tail -n 3 "$T/inner.log")" ;;
	esac
	assert_eq "" "$(kept "$T/names")" "namespaces"
	assert_eq "$interfaces" "$(ip -o link | wc -l)" "interfaces outside"
done
