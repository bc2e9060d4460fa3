#!/bin/bash
# The first thing anyone tries with two hosts: the README's session, which examples/two-hosts.sh types.
. "${0%/*}/../lib/lib.sh"
need redis-server redis-cli ip nsenter unshare
need_switch "about daemons"
require_seccomp_notify
[ "$(id -u)" = 0 ] || unshare -Urnm true 2>/dev/null || skip "no user namespaces"

check "the example runs through, and leaves nothing in its directory"
timeout --foreground -k 5 60 "$REPO/examples/two-hosts.sh" >"$T/example.log" 2>&1 ||
	fail "exit status $?: $(cat "$T/example.log")"
assert_eq "" "$(find "$T" -maxdepth 1 -name 'appswitch-two-hosts.*')"

check "what it types is what the README says"
typed() { sed -nE 's/ +#.*//; s/^(host[AB]\$ .*[^ ]) *$/\1/p' "$1"; }
assert_eq "$(typed "$REPO/README.md")" "$(typed "$T/example.log")" "the session"
[ "$(typed "$T/example.log" | wc -l)" -ge 8 ] || fail "no session with two hosts"

after() { sed -n "/^\$ *$/d; /^host[AB]\\$ $1\$/,/^\$/p" "$T/example.log"; }

check "both nodes, the service and its node are shown"
nodes=$(after "appswitch get nodes")
[[ $nodes =~ hostA\ +alive\ +192\.0\.2\.1:6660 ]] || fail "no host A: $nodes"
[[ $nodes =~ hostB\ +alive\ +192\.0\.2\.2:6660 ]] || fail "no host B: $nodes"
services=$(after "appswitch get services")
[[ $services =~ default\ +10\.0\.0\.5\ +6379\ +tcp\ +db\ +hostA ]] || fail "no service: $services"

check "the clients get their answers, also by 127.0.0.1; while host A drains they are refused"
at() { grep -n -m1 -x -- "$1" "$T/example.log" | cut -d: -f1; }
for line in OK hello PONG "Could not connect to Redis at 10.0.0.5:6379: Connection refused"; do
	[ -n "$(at "$line")" ] || fail "nowhere: $line"
done
drained=$(at 'hostA$ appswitch drain')
refused=$(at 'Could not connect .*')
undrained=$(at 'hostA$ appswitch undrain')
if [ "$drained" -gt "$refused" ] || [ "$refused" -gt "$undrained" ]; then
	fail "drain in line $drained, refused in line $refused, undrain in line $undrained"
fi
