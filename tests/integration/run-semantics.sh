#!/bin/bash
# run is transparent: same process, same stdio, same status, same signals as without it.
. "${0%/*}/../lib/lib.sh"
need python3
require_seccomp_notify

check "CMD is run by exec: same pid, parent, group and session"
sh -c 'cut -d" " -f1,4,5,6 /proc/$$/stat; exec "$0" run -- cut -d" " -f1,4,5,6 /proc/self/stat' \
	"$APPSWITCH" >"$T/got"
assert_eq 2 "$(wc -l <"$T/got")"
assert_eq "$(head -n 1 "$T/got")" "$(tail -n 1 "$T/got")" "pid, ppid, pgrp, session"

check "stdin, stdout and stderr are CMD's own"
assert_eq "in" "$(echo in | run -- cat)"
run -- sh -c 'echo o; echo e >&2' >"$T/out" 2>"$T/err"
assert_eq o "$(cat "$T/out")"
assert_eq e "$(cat "$T/err")"

check "arguments, environment and directory arrive as they are"
assert_eq '<a b><><*>' "$(run -- printf '<%s>' 'a b' '' '*')"
assert_eq '<--ip><-x>' "$(run -- printf '<%s>' --ip -x)"
assert_eq '-n' "$(run printf '%s' -n)" "options of CMD without --"
(cd /usr/share && assert_eq /usr/share "$(run -- pwd)")
FOO='x y' run -- sh -c 'test "$FOO" = "x y"'

check "exit status"
for n in 0 1 3 125 255; do
	expect_status $n "$APPSWITCH" run -- sh -c "exit $n"
done
expect_status 127 "$APPSWITCH" run -- /no/such/program
assert_eq 1 "$(wc -l <"$T/err")" "lines of the message"
assert_contains "$(cat "$T/err")" /no/such/program
expect_status 127 "$APPSWITCH" run -- no-such-program
expect_status 126 "$APPSWITCH" run -- /etc/passwd
assert_eq 1 "$(wc -l <"$T/err")" "lines of the message"
if [ "$MODE" != native ]; then
	for bad in "--ip 1.2.3" "--ip 10.0.0.256" "--no-such-option" "--tag novalue" \
		"--lb no-such-policy" "--ip" "--weight 0" "--weight 1001" "--weight 10000" "--weight -1" \
		"--weight 2x" "--weight"; do
		# shellcheck disable=SC2086
		expect_status 125 "$APPSWITCH" run $bad -- true
	done
	expect_status 125 "$APPSWITCH" run --ip 10.0.0.1 --ip 10.0.0.2 -- true
	expect_status 125 "$APPSWITCH" run
	expect_status 125 "$APPSWITCH" run --socket /no/such/dir/s --no-embedded -- true
	assert_eq 1 "$(wc -l <"$T/err")" "lines of the message"
	for weight in 1 1000; do
		expect_status 0 "$APPSWITCH" run --weight $weight -- true
	done
fi

check "signals, masks, limits, descriptors, job control, children"
/usr/bin/python3 "$LIB/semantics.py" "$APPSWITCH"

check "a script as CMD, and one without #!"
printf '#!/bin/sh\necho script $1\n' >"$T/s1"
printf 'echo plain $1\n' >"$T/s2"
chmod +x "$T/s1" "$T/s2"
assert_eq "script x" "$(run -- "$T/s1" x)"
assert_eq "script x" "$(cd "$T" && run -- ./s1 x)"
assert_eq "script x" "$(PATH=$T:$PATH run -- s1 x)"
assert_eq "plain x" "$(run -- "$T/s2" x)"

if [ "$(id -u)" = 0 ]; then
	# With a daemon outside: an embedded one would be started in there, as a child of pid 1.
	check "CMD as pid 1 of a pid namespace sees no stray child"
	[ "$MODE" = native ] || wait_no_daemon
	start_daemon
	unshare --pid --fork --mount-proc "$APPSWITCH" run -- /usr/bin/python3 -c '
import os
assert os.getpid() == 1, os.getpid()
try:
    print(os.waitpid(-1, os.WNOHANG))
    raise SystemExit("there is a child")
except ChildProcessError:
    print("none")' >"$T/got" || fail "$(cat "$T/got")"
	assert_eq none "$(cat "$T/got")"
	if [ "$MODE" != native ]; then
		check "--user: CMD runs as that user, with its groups"
		assert_eq "$(id -u nobody)" "$(run --user nobody -- id -u)"
		assert_eq "$(id -G nobody)" "$(run --user nobody -- id -G)"
		expect_status 125 "$APPSWITCH" run --user no-such-user -- true
	fi
	check "set-uid programs still work: no_new_privs is not set"
	assert_eq "NoNewPrivs:	0" "$(run -- grep NoNewPrivs /proc/self/status)"
fi
