#!/bin/bash
# Nothing runs, and 200 `run` start at once: one embedded daemon serves them all, and ends.
. "${0%/*}/../lib/lib.sh"
need_switch "about the embedded daemon"
require_seccomp_notify
N=200

# A connect is a trap: it proves that each is serviced, not only started.
refused='exec 3<>/dev/tcp/127.0.0.1/9'

check "$N at once"
pids=()
for ((i = 0; i < N; i++)); do
	timeout -k 5 100 "$APPSWITCH" run -- bash -c "$refused" >"$T/race.$i" 2>&1 &
	pids+=($!)
done
bad=0
for ((i = 0; i < N; i++)); do
	rc=0
	wait "${pids[i]}" || rc=$?
	if [ $rc != 1 ] || ! grep -q 'Connection refused' "$T/race.$i"; then
		bad=$((bad + 1))
		echo "run $i: status $rc: $(head -n 3 "$T/race.$i")"
	fi
done
assert_eq 0 $bad "runs that failed"
wait_no_daemon

check "two at once that stay: the one that finds the other's daemon does not wait for its end"
for ((r = 0; r < 5; r++)); do
	t0=$SECONDS
	pids=()
	for ((i = 0; i < 2; i++)); do
		timeout -k 5 60 "$APPSWITCH" run --name "stay$i" -- sleep 50 &
		pids+=($!)
	done
	for ((i = 0; i < 2; i++)); do
		wait_for "stay$i" bash -c "'$APPSWITCH' get apps | grep -q stay$i"
	done
	[ $((SECONDS - t0)) -le 3 ] || fail "round $r: $((SECONDS - t0)) s until both ran"
	kill "${pids[@]}"
	wait "${pids[@]}" || true
	wait_no_daemon
done

check "100 one after the other: each starts a daemon or meets one that is about to end"
for ((i = 0; i < 100; i++)); do
	expect_status 1 timeout -k 5 60 "$APPSWITCH" run -- bash -c "$refused"
	assert_contains "$(cat "$T/err")" 'Connection refused' "run $i"
done
wait_no_daemon

check "20 rounds of 5 at once, each round after the daemon's end or during it"
for ((r = 0; r < 20; r++)); do
	pids=()
	for ((i = 0; i < 5; i++)); do
		timeout -k 5 60 "$APPSWITCH" run -- bash -c "$refused" >"$T/race.$i" 2>&1 &
		pids+=($!)
	done
	for ((i = 0; i < 5; i++)); do
		rc=0
		wait "${pids[i]}" || rc=$?
		grep -q 'Connection refused' "$T/race.$i" ||
			fail "round $r: status $rc: $(cat "$T/race.$i")"
	done
	[ $((r % 2)) = 0 ] || wait_no_daemon
done
wait_no_daemon
assert_eq "" "$(ls -A "$T/run")" "files in XDG_RUNTIME_DIR"
