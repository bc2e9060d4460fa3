# shellcheck shell=bash
# lib.sh - what every integration test sources first.
#
#   . "${0%/*}/../lib/lib.sh"
#
# It runs the test again below supervise.py, which is the subreaper of everything the test starts:
# there it waits for the last process, and any that is left over fails the test. The test gets
# a private directory $T (removed at the end), its own control socket and XDG_RUNTIME_DIR in it.
#
#   MODE=root    as root (default)
#   MODE=user    as an ordinary user: uid 65533, no groups, no capability (or whoever starts it, if not root)
#   ACROSS=1     the apps of the test on several hosts: see across.sh
#   MODE=native  $APPSWITCH is a stand-in made of namespaces on a bridge: proves the test itself
#
# Exit status: 0 passed, 77 skipped (the reason is printed), anything else failed.

set -Eeuo pipefail
LIB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPO=$(cd "$LIB/../.." && pwd)
HERE=$(cd "$(dirname "$0")" && pwd)
MODE=${MODE:-root}
TEST_UID=65533

if [ -z "${TEST_SUPERVISED:-}" ]; then
	export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
	unset XDG_RUNTIME_DIR APPSWITCH_SOCKET
	export MODE
	APPSWITCH=${APPSWITCH:-$REPO/build/appswitch}
	if [ "$MODE" = root ] && [ "$(id -u)" != 0 ]; then
		echo "SKIP: not started by root"
		exit 77
	fi
	if [ "$MODE" = native ]; then
		APPSWITCH=$LIB/native
	fi
	APPSWITCH=$(realpath "$APPSWITCH")
	export APPSWITCH
	if [ ! -x "$APPSWITCH" ]; then
		echo "FAIL: no binary at $APPSWITCH"
		exit 1
	fi
	T=$(mktemp -d /tmp/as.XXXXXX)
	export T HOME=$T/home
	mkdir -m 700 "$T/home" "$T/run"
	again=(/usr/bin/python3 "$LIB/supervise.py" "$HERE/${0##*/}" "$@")
	if [ "$MODE" = user ] && [ "$(id -u)" = 0 ]; then
		# Whatever is not readable for everybody is copied.
		if ! setpriv --reuid $TEST_UID --regid $TEST_UID --clear-groups \
			test -x "$APPSWITCH" -a -r "$HERE/${0##*/}" -a -r "$LIB/lib.sh"; then
			mkdir -p "$T/repo/tests"
			cp -r "$LIB" "$HERE" "$T/repo/tests/"
			cp -r "$REPO/README.md" "$REPO/examples" "$T/repo/"
			cp "$APPSWITCH" "$T/repo/appswitch"
			chmod -R go+rX "$T/repo"
			again=(/usr/bin/python3 "$T/repo/tests/lib/supervise.py"
				"$T/repo/tests/${HERE##*/}/${0##*/}" "$@")
			export APPSWITCH=$T/repo/appswitch
		fi
		# A name for the uid, in a mount namespace of our own: ssh and initdb ask for one.
		{ cat /etc/passwd && echo "astest:x:$TEST_UID:$TEST_UID::$HOME:/bin/sh"; } >"$T/passwd"
		{ cat /etc/group && echo "astest:x:$TEST_UID:"; } >"$T/group"
		chown -R $TEST_UID:$TEST_UID "$T"
		cd /
		exec unshare -m --propagation private sh -c '
			mount --bind "$T/passwd" /etc/passwd && mount --bind "$T/group" /etc/group &&
			exec setpriv --reuid "$0" --regid "$0" --clear-groups "$@"
			' $TEST_UID "${again[@]}"
	fi
	if [ "$MODE" = native ]; then
		cd /
		exec unshare -n sh -c '
			ip link set lo up && ip link add br0 type bridge && ip link set br0 up &&
			exec "$@"' native "${again[@]}"
	fi
	exec "${again[@]}"
fi

export XDG_RUNTIME_DIR=$T/run APPSWITCH_SOCKET=$T/s TMPDIR=$T
TEST=${0##*/}
TEST=${TEST%.sh}
# The limit of one foreign program in the foreground; the whole test has supervise.py's.
LIMIT=${LIMIT:-60}
declare -A PID=()
ORDER=()
STATUS=0

say() { printf '# %s\n' "$*"; }
check() { printf 'check: %s\n' "$*"; }

skip()
{
	printf 'SKIP: %s\n' "$*"
	exit 77
}

fail()
{
	printf 'FAIL: %s\n' "$*"
	local i
	for ((i = 1; i < ${#FUNCNAME[@]}; i++)); do
		printf '  at %s:%s %s\n' "${BASH_SOURCE[i]##*/}" "${BASH_LINENO[i - 1]}" "${FUNCNAME[i]}"
	done
	exit 1
}

# need PROGRAM...: skips with the reason if one is missing.
need()
{
	local p
	for p in "$@"; do
		command -v "$p" >/dev/null || skip "$p is not installed (see tests/integration/packages.txt)"
	done
}

need_root()
{
	[ "$(id -u)" = 0 ] || skip "needs root: $*"
}

# The real thing: an empty namespace and no foreign bridge below.
need_switch()
{
	[ "$MODE" != native ] || skip "not on the native stand-in: $*"
}

assert_eq() # WANT GOT [WHAT]
{
	[ "$1" = "$2" ] || fail "${3:-value}: want '$1', got '$2'"
}

assert_contains() # TEXT PART [WHAT]
{
	[[ $1 == *"$2"* ]] || fail "${3:-text}: '$2' is not in '$1'"
}

assert_between() # LOW HIGH GOT [WHAT]
{
	if [ "$3" -lt "$1" ] || [ "$3" -gt "$2" ]; then
		fail "${4:-number}: want $1 to $2, got '$3'"
	fi
}

# expect_status N CMD...: stdout and stderr of the command are in $T/out and $T/err.
expect_status()
{
	local want=$1 got=0
	shift
	"$@" >"$T/out" 2>"$T/err" || got=$?
	[ "$got" = "$want" ] || fail "'$*': exit status want $want, got $got: $(tail -n 3 "$T/err")"
}

expect_fail()
{
	local got=0
	"$@" >"$T/out" 2>"$T/err" || got=$?
	[ "$got" != 0 ] || fail "'$*' was expected to fail"
	[ "$got" != 124 ] || fail "'$*' did not end"
}

now_ms() { date +%s%3N; }

# wait_for WHAT CMD...: polls until CMD succeeds, for at most 15 s.
wait_for()
{
	local what=$1 end=$(($(now_ms) + ${WAIT_MS:-15000}))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$(now_ms)" -lt "$end" ] || fail "timed out waiting for $what"
		sleep 0.02
	done
}

# bg NAME CMD...: in the background, output in $T/NAME.log; ends with the test.
bg()
{
	local name=$1
	shift
	"$@" >"$T/$name.log" 2>&1 </dev/null &
	PID[$name]=$!
	ORDER+=("$name")
}

# start_ready NAME CMD...: CMD gets fd 3 and writes to it when it is ready.
start_ready()
{
	local name=$1
	shift
	rm -f "$T/$name.ready"
	"$@" >>"$T/$name.log" 2>&1 </dev/null 3>"$T/$name.ready" &
	PID[$name]=$!
	ORDER+=("$name")
	until [ -s "$T/$name.ready" ]; do
		if ! alive "$name" && [ ! -s "$T/$name.ready" ]; then
			await "$name"
			fail "$name ended before it was ready, status $STATUS: $(tail -n 5 "$T/$name.log")"
		fi
		sleep 0.01
	done
	rm -f "$T/$name.ready"
}

alive() { kill -0 "${PID[$1]}" 2>/dev/null; }

# Bounded wait for one of ours; its exit status is in $STATUS.
await() # NAME [MS]
{
	local pid=${PID[$1]} end=$(($(now_ms) + ${2:-15000}))
	STATUS=0
	{ # the shell would report a job that was killed
		while [ -d "/proc/$pid" ] && ! grep -q '^State:.Z' "/proc/$pid/status"; do
			[ "$(now_ms)" -lt "$end" ] || fail "$1 (pid $pid) does not end"
			sleep 0.02
		done
		wait "$pid" || STATUS=$?
	} 2>/dev/null
	unset "PID[$1]"
}

# stop NAME [SIGNAL]: signals it and waits; its exit status is in $STATUS.
stop()
{
	kill -"${2:-TERM}" "${PID[$1]}"
	await "$1"
}

# start_daemon [OPTIONS]
start_daemon()
{
	start_ready daemon "$APPSWITCH" daemon --ready-fd 3 --log "${DAEMON_LOG:-info}" "$@"
}

stop_daemon()
{
	stop daemon
	assert_eq 0 "$STATUS" "exit status of the daemon after SIGTERM"
	[ ! -e "$APPSWITCH_SOCKET" ] || fail "the daemon left its socket behind"
}

# kill -9, as the kernel would: its socket file stays
kill_daemon()
{
	stop daemon KILL
}

no_apps() { get apps | jq -e 'length == 0'; }

# app NAME [OPTIONS] -- CMD...: an app in the background; $! is CMD's own pid.
app()
{
	local name=$1
	shift
	bg "$name" "$APPSWITCH" run "$@"
}

# run [OPTIONS] -- CMD...: an app in the foreground, bounded.
run()
{
	timeout --foreground -k 5 "$LIMIT" "$APPSWITCH" run "$@"
}

get() # WHAT: JSON on stdout
{
	timeout --foreground -k 5 20 "$APPSWITCH" get "$1" -o json
}

served() # VIP PORT [N]: at least N instances
{
	get services | jq -e --arg v "$1" --argjson p "$2" --argjson n "${3:-1}" \
		'[.[] | select(.vip == $v and .port == $p)] | length >= $n'
}

# wait_port VIP PORT [INSTANCES]
wait_port() { wait_for "a listener on $1 port $2" served "$1" "$2" "${3:-1}"; }

wait_line() { wait_for "'$2' in $1" grep -qe "$2" "$T/$1"; } # FILE PATTERN

ended() { ! "$APPSWITCH" get nodes; }

# The embedded daemon ends when its last app has ended.
wait_no_daemon()
{
	wait_for "the end of the embedded daemon" ended
	wait_for "the removal of the socket" test ! -e "$APPSWITCH_SOCKET"
}

require_seccomp_notify()
{
	[ "$MODE" != native ] || return 0
	"$APPSWITCH" doctor >"$T/doctor" 2>&1 ||
		skip "appswitch doctor says run cannot work here: $(head -n 1 "$T/doctor")"
}

tcp() { timeout --foreground -k 5 "$LIMIT" "$TCP" "$@"; }
TCP=$LIB/tcp.py

# Names from ORDER that end after the daemons.
ENDS_LAST=()

turn_of() # NAME
{
	case " ${ENDS_LAST[*]} " in
	*" $1 "*) echo last && return ;;
	esac
	case $1 in
	daemon | daemon[0-9]*) echo daemon ;;
	*) echo app ;;
	esac
}

on_exit()
{
	local rc=$? name i tries turn
	trap - EXIT ERR
	set +e
	if [ "$rc" != 0 ] && [ "$rc" != 77 ]; then
		for name in "$T"/*.log "$T/err"; do
			[ -s "$name" ] || continue
			echo "--- ${name##*/} (end)"
			tail -n "${TAIL:-15}" "$name" | cut -c 1-500
		done
	fi
	# The apps, then the daemons, then what both live in; of each the last one first.
	for turn in app daemon last; do
		for ((i = ${#ORDER[@]} - 1; i >= 0; i--)); do
			name=${ORDER[i]}
			[ -n "${PID[$name]:-}" ] || continue
			[ "$(turn_of "$name")" = $turn ] || continue
			if [ $turn = daemon ] && [ "$rc" = 0 ]; then
				# what an app does at its end may trap: without a daemon it would wait
				for ((tries = 0; tries < 250; tries++)); do
					if no_apps "${name#daemon}" >/dev/null 2>&1; then break; fi
					sleep 0.02
				done
				stop_daemon "${name#daemon}" || rc=1
				continue
			fi
			kill -TERM "${PID[$name]}" 2>/dev/null
			kill -CONT "${PID[$name]}" 2>/dev/null
		done
	done
	exit "$rc"
}
trap on_exit EXIT
trap 'fail "command failed (status $?): $BASH_COMMAND"' ERR

# nginx_temp DIR: the directives that keep nginx's temporary files in DIR.
nginx_temp()
{
	local d
	for d in client_body proxy fastcgi uwsgi scgi; do
		printf '%s_temp_path %s/%s; ' $d "$1" $d
	done
}

# shellcheck source=tests/lib/across.sh
[ -z "${ACROSS:-}" ] || . "$LIB/across.sh"
