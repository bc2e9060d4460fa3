#!/bin/bash
# The verdict of doctor is what run does: its exit status against that of `run -- true`, in places
# and under limits where one of them fails.
. "${0%/*}/../lib/lib.sh"
need python3
need_switch "about the host"

# agree STATUS WHAT [PREFIX...]: doctor exits with STATUS, and run fails exactly if that is not 0
agree()
{
	local want=$1 what=$2 got=0
	shift 2
	check "$what"
	timeout --foreground -k 5 40 "$@" "$APPSWITCH" doctor >"$T/doctor" 2>"$T/err" </dev/null || got=$?
	assert_eq "$want" "$got" "status of doctor; $(grep ^missing "$T/doctor" || :)"
	got=0
	timeout --foreground -k 5 40 "$@" "$APPSWITCH" run -- true 2>"$T/err" </dev/null || got=$?
	assert_eq $((want == 0 ? 0 : 125)) "$got" "status of run: $(cat "$T/err")"
	wait_for "the end of the daemons" no_daemon
}

line() { grep -e "$1" "$T/doctor" || fail "no line '$1' in: $(cat "$T/doctor")"; }
no_daemon() { [ ! -e "$APPSWITCH_SOCKET" ] || [ ! -S "$APPSWITCH_SOCKET" ] || ended; }
in_place() { find "$T" -name 'appswitch-doctor*'; }

require_seccomp_notify
agree 0 "where run works"
line "^ok       run: "
line "^'appswitch run' can work here"
assert_eq "" "$(in_place)" "what doctor left behind"

check "a daemon that is there is looked at, and left alone"
start_daemon
"$APPSWITCH" doctor >"$T/doctor"
line "^ok       daemon: answers"
assert_eq 0 "$(get apps | python3 -c 'import json, sys; print(len(json.load(sys.stdin)))')" "apps"
stop_daemon

for file in s s.lock s.holder; do
	echo "somebody's own" >"$T/$file"
	agree 1 "an ordinary file at $file"
	line "^missing  socket: $T/$file exists"
	line "^ok       run: " # with a socket of its own it works
	assert_eq "somebody's own" "$(cat "$T/$file")" "what is in $file"
	rm -f "$T/s" "$T/s.lock" "$T/s.holder"
done

APPSWITCH_SOCKET=$T/none/../s.file/s
mkdir "$T/none"
touch "$T/s.file"
agree 1 "a directory that is none"
APPSWITCH_SOCKET=$T/s

for n in 20 32; do
	agree 1 "a limit of $n fds" prlimit --nofile=$n
	line "^missing  run: "
	line "^limited  open files: "
	assert_eq "" "$(in_place)" "what doctor left behind"
	rm -f "$T/s" "$T/s.lock" "$T/s.holder"
done

check "a run that never ends"
mkdir "$T/bin"
printf '#!/bin/sh\nexec sleep 1000\n' >"$T/bin/true"
chmod +x "$T/bin/true"
expect_status 1 timeout --foreground -k 5 60 env PATH="$T/bin:$PATH" "$APPSWITCH" doctor
cp "$T/out" "$T/doctor"
line "^missing  run: does not end"
assert_eq "" "$(in_place)" "what doctor left behind"

# shellcheck disable=SC2016
no_mounts=(unshare -U --map-root-user sh -c 'echo 0 >/proc/sys/user/max_mnt_namespaces && exec "$@"' sh)
if "${no_mounts[@]}" true 2>/dev/null; then
	agree 0 "no mount namespaces, which run does not use" "${no_mounts[@]}"
	line "^limited  mount namespaces: "
else
	say "no user namespace to try this in"
fi
