# shellcheck shell=bash
# table.sh - runs a table program in both ways; sourced after tests/lib/lib.sh.

VIP4=10.0.0.5 VIP6=fd00::5

# The built programs: where ctest says, else beside the binary, else in the build folder.
conformance_bin()
{
	local d
	for d in "${CONFORMANCE_BIN:-}" "$T/bin" "${APPSWITCH%/*}/tests/conformance" \
		"$REPO/build/tests/conformance"; do
		if [ -n "$d" ] && [ -x "$d/$1" ]; then
			printf '%s\n' "$d/$1"
			return
		fi
	done
	fail "$1 is not built"
}

# native CMD...: in a fresh network namespace with only lo, which has the app's addresses.
# shellcheck disable=SC2016
native()
{
	local caps=() user=()
	if [ "$(id -u)" != 0 ]; then
		user=(-U --map-current-user --keep-caps)
		caps=(setpriv --ambient-caps=-all --inh-caps=-all)
	fi
	timeout --foreground -k 5 "$LIMIT" unshare "${user[@]}" -n sh -ec '
		ip link set lo up
		ip addr add "$1/32" dev lo
		ip addr add "$2/128" dev lo nodad
		echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start
		shift 2
		exec "$@"' native "$VIP4" "$VIP6" "${caps[@]}" "$@"
}

# compare_table PROGRAM DIFFERENCES [SUBSTRING]
compare_table()
{
	local bin only=() rc=0
	LIMIT=${TABLE_LIMIT:-220}
	bin=$(conformance_bin "$1")
	[ -z "${3:-}" ] || only=(--only "$3")
	only+=(--mode "$MODE")
	need_switch "compares the two"
	require_seccomp_notify
	native "$bin" "${@:3}" >"$T/native.txt"
	run --ip "$VIP4" --ip "$VIP6" -- "$bin" "${@:3}" >"$T/run.txt" 2>"$T/err" || rc=$?
	if [ -n "${SAVE:-}" ]; then
		cp "$T/native.txt" "$T/run.txt" "$SAVE/"
	fi
	/usr/bin/python3 "$HERE/lib/compare.py" "$T/native.txt" "$T/run.txt" "$2" "${only[@]}" ||
		fail "$1: the two outputs differ (above)"
	[ "$rc" = 0 ] || fail "$1 under run: status $rc: $(tail -n 3 "$T/err")"
}
