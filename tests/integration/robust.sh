#!/bin/bash
# Hostile, dying, stopped and greedy apps: the daemon goes on and the others never notice.
. "${0%/*}/../lib/lib.sh"
need python3 jq
need_switch "about the daemon"
require_seccomp_notify
R=$LIB/robust.py
SEED=${SEED:-$RANDOM}
say "SEED=$SEED"
export SEED

healthy() # every step ends with it: another app is served promptly
{
	local t0 got
	t0=$(now_ms)
	got=$(run --ip 10.9.0.9 -- "$TCP" count 10.9.0.1 80 50)
	assert_eq "well=50" "$got" "a well-behaved client"
	assert_between 0 5000 $(($(now_ms) - t0)) "ms for it"
	alive daemon || fail "the daemon ended"
}

apps_are() { get apps | jq -e --argjson n "$1" 'length == $n'; }
fds() { find "/proc/${PID[daemon]}/fd" -mindepth 1 | wc -l; }
# A bounded cache of pidfds is fine: it holds at most 512.
fds_back() { [ "$(fds)" -le "$((FDS + 600))" ]; }

start_daemon
app well --ip 10.9.0.1 -- "$TCP" serve 80 well
wait_port 10.9.0.1 80
healthy
FDS=$(fds)
say "the daemon has $FDS fds"

check "garbage on the control socket"
timeout 60 /usr/bin/python3 "$R" garbage
healthy
check "clients that register and die, or attach what is not theirs"
timeout 60 /usr/bin/python3 "$R" halfway
wait_for "only the one app" apps_are 1
healthy
wait_for "the daemon's fds to be closed" fds_back

check "apps killed in the middle of calls"
for mode in connect accept mixed; do
	timeout 100 /usr/bin/python3 "$R" killed "$APPSWITCH" $mode 25
done
wait_for "only the one app" apps_are 1
healthy
wait_for "the daemon's fds to be closed" fds_back

check "apps stopped (SIGSTOP) in the middle of calls"
timeout 100 /usr/bin/python3 "$R" stopped "$APPSWITCH" 20
wait_for "only the one app" apps_are 1
healthy

cgroup=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
if [ -n "$cgroup" ] && mkdir "$cgroup/appswitch-test.$$" 2>/dev/null; then
	rmdir "$cgroup/appswitch-test.$$"
	check "apps frozen (cgroup freezer) in the middle of calls"
	timeout 100 /usr/bin/python3 "$R" stopped "$APPSWITCH" 20 "$cgroup/appswitch-test.$$"
	wait_for "only the one app" apps_are 1
	healthy
else
	say "no cgroup of its own to be had here: the freezer was not tried"
fi

check "a server starved of CPU (SCHED_IDLE, beside busy loops)"
timeout 100 /usr/bin/python3 "$R" starved "$APPSWITCH"
healthy

check "an app taken from its CPU in the middle of shutdown() of a listener"
timeout 100 /usr/bin/python3 "$R" off_cpu "$APPSWITCH" "${PID[daemon]}"
healthy

check "a port closed and bound again at once, under fire"
app hammer --ip 10.9.10.2 -- /usr/bin/python3 "$R" worker hammer 10.9.10.1
wait_line hammer.log ready
REBIND=$(run --ip 10.9.10.1 -- /usr/bin/python3 "$R" rebind 4 || :)
say "$REBIND"
stop hammer
healthy

check "a listener that never accepts, its backlog full"
app never --ip 10.9.1.1 -- /usr/bin/python3 "$R" never
wait_line never.log ready
app filler --ip 10.9.1.2 -- /usr/bin/python3 "$R" fill 10.9.1.1
wait_line filler.log full
cat "$T/filler.log"
after=$(sed 's/.*then \([A-Z]*\) after.*/\1/' "$T/filler.log")
healthy
app parked --ip 10.9.1.3 -- "$TCP" ask 10.9.1.1 80
healthy
check "... 300 connects that wait cost next to nothing"
app waiters --ip 10.9.1.4 -- /usr/bin/python3 "$R" waiters 10.9.1.1 300
wait_line waiters.log '^waiting'
cpu() { awk '{ print $14 + $15 }' "/proc/${PID[daemon]}/stat"; }
c0=$(cpu)
sleep 1
assert_between 0 $(($(getconf CLK_TCK) / 10)) $(($(cpu) - c0)) "ticks of CPU time in a second"
check "... and when it accepts at last, the parked connects come through"
kill -USR1 "${PID[never]}"
await parked 30000
assert_contains "$(cat "$T/parked.log")" "never peer=10.9.1.3,"
await waiters 30000
assert_contains "$(cat "$T/waiters.log")" "through 300"
stop filler
stop never
wait_for "only the one app" apps_are 1
healthy
wait_for "the daemon's fds to be closed" fds_back

check "an app with few fds: EMFILE is its own matter"
run --ip 10.9.3.1 -- bash -c 'ulimit -n 24; exec /usr/bin/python3 "$0" fewfds' "$R"
healthy

check "an accept that fails for want of the daemon's fds does not keep the others from the connection"
timeout 100 /usr/bin/python3 "$R" short_of_fds "${PID[daemon]}" "$APPSWITCH"
healthy

check "an app cannot fill the log"
timeout 60 /usr/bin/python3 "$R" noisy "$APPSWITCH"
n=$(grep -c "host's network refused" "$T/daemon.log" || :)
assert_between 1 30 "$n" "lines for 3,000 refused calls"
healthy

check "an app with more calls in flight than its share: an errno to it, nothing to others"
app accepts --ip 10.9.6.1 -- /usr/bin/python3 "$R" manyaccepts 4500
WAIT_MS=60000 wait_line accepts.log '^going on'
say "$(cat "$T/accepts.log")"
if ! grep -q skip "$T/accepts.log"; then
	grep -q "refused [0-9]* {'ENOBUFS'}" "$T/accepts.log" || fail "nothing was refused"
	assert_eq 1 "$(grep -c "its share of the daemon's calls in flight" "$T/daemon.log")" "lines"
fi
healthy
stop accepts
wait_for "only the one app" apps_are 1
healthy

check "5,000 connections open"
if [ "$(ulimit -Hn)" -ge 12000 ]; then
	app many --ip 10.9.4.1 -- bash -c 'ulimit -n 6000; exec /usr/bin/python3 "$0" manyserver' "$R"
	wait_port 10.9.4.1 80
	mkfifo "$T/go"
	app manyc --ip 10.9.4.2 -- bash -c \
		'ulimit -n 6000; exec /usr/bin/python3 "$0" manyclient 10.9.4.1 5000 "$1"' "$R" "$T/go"
	WAIT_MS=60000 wait_line manyc.log '^open 5000'
	have_5000() { get connections | jq -e '[.[] | select(.server == "10.9.4.1:80")] | length == 5000'; }
	wait_for "5,000 rows in get connections" have_5000
	healthy
	say "daemon: $(grep VmRSS "/proc/${PID[daemon]}/status" | xargs), $(fds) fds"
	echo >"$T/go"
	await manyc 30000
	cat "$T/manyc.log"
	assert_eq 0 "$STATUS"
	stop many
	wait_for "the daemon's fds to be closed" fds_back
else
	say "left out: the hard limit of fds is $(ulimit -Hn)"
fi
healthy
stop well
stop_daemon

check "a daemon with few fds: an errno to the app, no stall, and it recovers"
start_ready daemon bash -c 'ulimit -Sn 64; ulimit -Hn 64; exec "$@"' daemon \
	"$APPSWITCH" daemon --ready-fd 3
app well --ip 10.9.0.1 -- "$TCP" serve 80 well
wait_port 10.9.0.1 80
app greedy --ip 10.9.5.1 -- /usr/bin/python3 "$R" manylisten
wait_line greedy.log '^full'
cat "$T/greedy.log"
assert_eq 1 "$(grep -c "its share of the daemon's listeners" "$T/daemon.log")" "lines about it"
healthy # also while the greedy one has its share
app modest --ip 10.9.5.2 -- "$TCP" serve 80 modest
wait_port 10.9.5.2 80
stop modest
kill -USR1 "${PID[greedy]}"
await greedy
assert_eq 0 "$STATUS" "the greedy app: $(cat "$T/greedy.log")"
wait_for "recovery" run --ip 10.9.0.9 -- "$TCP" ask 10.9.0.1 80
healthy
check "... and out of fds for connections to its control socket it waits and does not spin"
bg crowd /usr/bin/python3 "$R" crowd 100
wait_line crowd.log '^ready'
c0=$(cpu)
sleep 1
assert_between 0 $(($(getconf CLK_TCK) / 3)) $(($(cpu) - c0)) "ticks of CPU time in a second"
grep -q "a connection waits" "$T/daemon.log" || fail "it had fds for all of them"
stop crowd
wait_for "recovery" run --ip 10.9.0.9 -- "$TCP" ask 10.9.0.1 80
healthy

check "the blocking connect with SO_SNDTIMEO to the full listener said what socket(7) says"
assert_eq EINPROGRESS "$after"
check "every bind of the closed port had succeeded"
[[ $REBIND != *FAIL* ]] || fail "$REBIND"
