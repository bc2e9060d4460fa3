#!/bin/bash
# Which instance a client gets, with instances on several hosts: every policy of --lb.
. "${0%/*}/../lib/lib.sh"
. "${0%/*}/../lib/hosts.sh"
need python3
need_cluster
hosts 4
start_daemon 1 --zone left
start_daemon 2 --zone left
start_daemon 3 --zone right
start_daemon 4 --zone right
wait_all_nodes 4

serve_on() # VIP POLICY HOST...: an instance on each; its name is the host's number; WEIGHTS by position
{
	local vip=$1 policy=$2 k n=0 weights
	read -ra weights <<<"${WEIGHTS:-}"
	shift 2
	for k in "$@"; do
		app_on "$k" "$policy$k" --ip "$vip" --lb "$policy" --weight "${weights[n]:-1}" -- \
			"$TCP" serve 80 "h$k"
		n=$((n + 1))
	done
	wait_all_services "$vip" 80 $#
}
share() # COUNTS NAME: "h1=10 h2=20" -> the number, 0 if it is not there
{
	local n
	n=$(tr ' ' '\n' <<<"$1" | sed -n "s/^$2=//p")
	echo "${n:-0}"
}
shares_between() # COUNTS LOW HIGH NAME...
{
	local got=$1 low=$2 high=$3 name
	shift 3
	for name in "$@"; do
		assert_between "$low" "$high" "$(share "$got" "$name")" "share of $name in '$got'"
	done
}

check "round-robin: every instance in turn, from a host that has none and from one that has"
serve_on 10.1.0.1 round-robin 1 2 3
shares_between "$(run_on 4 -- "$TCP" count 10.1.0.1 80 30)" 10 10 h1 h2 h3
shares_between "$(run_on 1 -- "$TCP" count 10.1.0.1 80 30)" 10 10 h1 h2 h3

check "random: all of them"
serve_on 10.1.0.2 random 1 2 3
shares_between "$(run_on 4 -- "$TCP" count 10.1.0.2 80 90)" 12 54 h1 h2 h3

check "weighted: 1 to 3 to 6"
WEIGHTS="1 3 6" serve_on 10.1.0.3 weighted 1 2 3
got=$(run_on 4 -- "$TCP" count 10.1.0.3 80 300)
say "$got"
shares_between "$got" 10 60 h1
shares_between "$got" 55 130 h2
shares_between "$got" 140 225 h3

check "zone-first: the own zone, and the others when nobody is left there"
serve_on 10.1.0.4 zone-first 1 2 3
assert_eq "h3=20" "$(run_on 4 -- "$TCP" count 10.1.0.4 80 20)"
shares_between "$(run_on 1 -- "$TCP" count 10.1.0.4 80 20)" 10 10 h1 h2
stop zone-first3
wait_all_services 10.1.0.4 80 2
shares_between "$(run_on 4 -- "$TCP" count 10.1.0.4 80 20)" 10 10 h1 h2

check "source-hash: an address has its instance, whatever host the client is on"
serve_on 10.1.0.5 source-hash 1 2 3
seen=
for x in 1 2 3 4 5 6 7 8; do
	a=$(run_on 4 --ip "10.2.0.$x" -- "$TCP" count 10.1.0.5 80 5)
	b=$(run_on 1 --ip "10.2.0.$x" -- "$TCP" count 10.1.0.5 80 5)
	assert_eq "$a" "$b" "10.2.0.$x from hosts 4 and 1"
	[[ $a =~ ^h[123]=5$ ]] || fail "10.2.0.$x: $a"
	seen+="$a "
done
[ "$(tr ' ' '\n' <<<"$seen" | sort -u | grep -c h)" -ge 2 ] || fail "all of eight addresses at one: $seen"

check "least-connections: those that are open count, the client's own at once"
serve_on 10.1.0.6 least-connections 2 3
cat >"$T/open.py" <<'EOF2'
import collections, socket, sys, time
held = []
for _ in range(int(sys.argv[1])):
    s = socket.create_connection(("10.1.0.6", 80), timeout=20)
    held.append((s, s.makefile().readline().split()[0]))
n = collections.Counter(name for _, name in held)
print(" ".join(f"{k}={n[k]}" for k in sorted(n)), flush=True)
if len(sys.argv) > 2:
    only = [s for s, name in held if name == sys.argv[2]]
    for s, name in held:
        if name != sys.argv[2]:
            s.close()
    print("holds", len(only), flush=True)
    sys.stdin.read()
EOF2
shares_between "$(run_on 4 -- /usr/bin/python3 "$T/open.py" 40)" 10 30 h2 h3
mkfifo "$T/held"
# shellcheck disable=SC2034 # it is open, that is all
exec {held}<>"$T/held"
at 4
"${AT[@]}" "$APPSWITCH" run --no-embedded -- /usr/bin/python3 "$T/open.py" 40 h2 <"$T/held" >"$T/held.log" 2>&1 &
PID[held]=$!
ORDER+=(held)
wait_line held.log '^holds'
all_to_h3() { [ "$(run_on 1 -- "$TCP" count 10.1.0.6 80 8)" = "h3=8" ]; }
wait_for "host 1 to know of the connections at h2" all_to_h3
