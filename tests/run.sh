#!/bin/bash
# Installs what is needed, builds with gcc, clang and the sanitizers, checks, tests.
#
#   tests/run.sh            everything, about a quarter of an hour on two cores
#   tests/run.sh --quick    gcc build and its tests only, no checks of the source
#   tests/run.sh --full     everything, with the whole of the foreign test suites
#
# Exit 0 only if all of it held. The summaries of ctest are the last lines.
set -euo pipefail
cd "${BASH_SOURCE[0]%/*}/.."
ROOT=$PWD

BUILD_PACKAGES=(gcc clang cmake ninja-build pkg-config libc6-dev linux-libc-dev
	libseccomp-dev libuv1-dev libjansson-dev libssl-dev libcmocka-dev)
CHECK_PACKAGES=(clang-format clang-tidy shellcheck binutils)
TEST_PACKAGES=(python3 libpython3.11-testsuite curl nginx-light wrk redis-server redis-tools
	iperf iperf3 iproute2 procps util-linux gnuplot-nox)

MODE=normal
case ${1-} in
--quick) MODE=quick ;;
--full) MODE=full ;;
"") ;;
*)
	sed -n '2,9s/^# \{0,1\}//p' "$0"
	exit 2
	;;
esac
[ $# -le 1 ] || exit 2

T=$(mktemp -d "${TMPDIR:-/tmp}/appswitch-run.XXXXXX")
POLICY=
on_exit() {
	[ -z "$POLICY" ] || rm -f "$POLICY"
	rm -rf "$T"
}
trap on_exit EXIT
FAILED=()

say() { printf '== %s\n' "$*"; }

# step NAME COMMAND…: runs it, goes on after a failure, remembers it.
step() {
	local name=$1 t0=$SECONDS
	shift
	say "$name"
	if "$@"; then
		say "$name: ok, $((SECONDS - t0)) s"
	else
		say "$name: FAILED, $((SECONDS - t0)) s"
		FAILED+=("$name")
	fi
}
# must NAME COMMAND…: without it nothing after it makes sense.
must() {
	step "$@"
	[ ${#FAILED[@]} -eq 0 ] || exit 1
}

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# A package that only provides what is asked for (nginx for nginx-light) counts.
have_package() {
	case $1 in
	nginx-light) installed nginx-light || installed nginx || command -v nginx >/dev/null ;;
	*) installed "$1" ;;
	esac
}

install_packages() {
	local p file missing=() wanted=("${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}") sudo=()
	[ $MODE = quick ] || wanted+=("${CHECK_PACKAGES[@]}")
	for file in tests/integration/packages.txt tests/conformance/packages.txt; do
		[ -f $file ] || continue
		while read -r p _; do
			case $p in "" | \#*) ;; *) wanted+=("$p") ;; esac
		done <$file
	done
	command -v dpkg-query >/dev/null || {
		echo "not a Debian: install what these names stand for: ${wanted[*]}"
		return 0
	}
	for p in "${wanted[@]}"; do
		have_package "$p" || missing+=("$p")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	echo "missing: ${missing[*]}"
	if [ "$(id -u)" != 0 ]; then
		sudo -n true 2>/dev/null || {
			echo "as root: apt-get install --no-install-recommends ${missing[*]}"
			return 1
		}
		sudo=(sudo -n)
	elif [ ! -e /usr/sbin/policy-rc.d ]; then
		# the packages' own services must not start here
		POLICY=/usr/sbin/policy-rc.d
		printf '#!/bin/sh\nexit 101\n' >$POLICY
		chmod 755 $POLICY
	fi
	"${sudo[@]}" apt-get -qq update || return 1
	"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y \
		install --no-install-recommends "${missing[@]}" >"$T/apt" 2>&1 || {
		tail -20 "$T/apt"
		return 1
	}
	[ -z "$POLICY" ] || rm -f "$POLICY"
	POLICY=
}

build() {
	cmake --preset "$1" >"$T/cmake.$1" 2>&1 || {
		tail -40 "$T/cmake.$1"
		return 1
	}
	cmake --build --preset "$1" >"$T/build.$1" 2>&1 || {
		grep -vE '^\[[0-9]+/[0-9]+\]' "$T/build.$1" | tail -60
		return 1
	}
}

sources() { # .c and, with "all", .h
	local dirs=() d
	for d in common include cli trapgen traphandler gossip dns tests examples; do
		[ -d $d ] && dirs+=("$d")
	done
	if [ "${1-}" = all ]; then
		find "${dirs[@]}" -name '*.[ch]' | sort
	else
		find "${dirs[@]}" -name '*.c' | sort
	fi
}

check_format() { sources all | xargs clang-format --dry-run -Werror; }

# Only what the clang build compiles: a file in no target has no flags to check it with.
# One file a run: with several, version 14 sees uninitialised va_lists that are none.
check_tidy() {
	sources >"$T/src"
	grep -o '"file": "[^"]*"' build-clang/compile_commands.json |
		sed 's/.*: "//; s/"$//' | sort -u >"$T/compiled"
	sed "s|^|$ROOT/|" "$T/src" | grep -Fxf "$T/compiled" |
		xargs -P "$(nproc)" -n 1 clang-tidy --quiet -p build-clang 2>"$T/tidy.err" >"$T/tidy" ||
		{
			cat "$T/tidy"
			grep -v 'warnings generated\|treated as error' "$T/tidy.err" || true
			return 1
		}
}

scripts() {
	local f line
	find .ci examples tests -type f ! -name '*.[chp]*' | sort | while read -r f; do
		line=
		read -r line <"$f" 2>/dev/null || true
		case $f:$line in
		*.sh:* | *:'#!/bin/bash'* | *:'#!/bin/sh'* | *:'#!/usr/bin/env bash'*) echo "$f" ;;
		esac
	done
}
check_shell() { scripts | xargs shellcheck -x; }

# The cores are plain C: events and time go in, actions come out.
check_pure() {
	local bad lib=build/libas_core.a
	[ -f $lib ] || return 0
	bad=$(nm -u $lib 2>/dev/null |
		grep -E ' U (uv_.*|json_.*|socket|send.*|recv.*|connect|bind|read|write|ioctl|clock_gettime|time|gettimeofday|rand.*|getrandom|random)$') ||
		return 0
	echo "$lib must not use:"
	echo "$bad"
	return 1
}

# run_ctest BUILD ARGS…: the log stays in $T/ctest.BUILD.
run_ctest() {
	local b=$1 status t long=()
	shift
	[ $MODE = full ] || long=(-LE '^full$')
	# two at a time; those that judge by time are alone (RUN_SERIAL)
	APPSWITCH=$ROOT/$b/appswitch ctest --test-dir "$b" -j 2 --output-on-failure --timeout 900 \
		--no-tests=error "${long[@]}" "$@" 2>&1 | tee "$T/ctest.$b"
	status=${PIPESTATUS[0]} # errexit is off in what step calls
	# The feature is there if the kernel tests ran: then nothing that needs traps may skip.
	if grep -qE 'kernel\.notify(\.user)? \.+ +Passed' "$T/ctest.$b"; then
		t=$(grep -E '(integration|conformance)\.[^ ]* \.+\*\*\*Skipped' "$T/ctest.$b") || return "$status"
		echo "skipped although this kernel can run them:"
		echo "$t"
		return 1
	fi
	return "$status"
}

# What runs from our build folders now: pid and program.
our_processes() {
	local p exe
	for p in /proc/[0-9]*; do
		exe=$(readlink "$p/exe" 2>/dev/null) || continue
		case $exe in "$ROOT"/build*) echo "${p#/proc/} $exe" ;; esac
	done
}
leftovers() {
	local i now
	for ((i = 0; i < 50; i++)); do # an embedded daemon ends a moment after its last app
		now=$(our_processes)
		[ -n "$now" ] || break
		sleep 0.1
	done
	ip netns list 2>/dev/null | sort >"$T/netns.after" || true
	{
		[ -z "$now" ] || echo "$now"
		comm -13 "$T/netns.before" "$T/netns.after"
	} >"$T/left"
	[ ! -s "$T/left" ] || {
		echo "left behind:"
		cat "$T/left"
		return 1
	}
}

say "appswitch tests, $MODE, $(nproc) cores, Linux $(uname -r), uid $(id -u)"
[ $MODE != full ] || export APPSWITCH_TEST_FULL=1
must "install packages" install_packages
ip netns list 2>/dev/null | sort >"$T/netns.before" || true
must "build with gcc" build gcc
if [ $MODE != quick ]; then
	must "build with clang" build clang
	must "build with sanitizers" build sanitize
	step "clang-format" check_format
	step "clang-tidy" check_tidy
	step "shellcheck" check_shell
	step "cores are pure" check_pure
fi
step "tests" run_ctest build
[ $MODE != full ] || step "100,000 schedules" build/tests/sim/gossip_schedules --count 100000
[ $MODE = quick ] || step "tests under sanitizers" run_ctest build-sanitize -L asan
step "nothing left behind" leftovers

echo
say "took $((SECONDS / 60)) min $((SECONDS % 60)) s"
for f in "${FAILED[@]}"; do say "FAILED: $f"; done
for b in build-sanitize build; do
	[ -f "$T/ctest.$b" ] || continue
	say "$b"
	sed -n '/% tests passed/,$p' "$T/ctest.$b"
done
[ ${#FAILED[@]} -eq 0 ]
