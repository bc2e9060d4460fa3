#!/bin/bash
# differences.sh - what AF_UNIX stand-ins are known to do otherwise than TCP, pinned on both
# sides: the values natively and under `appswitch run` are in differences.table.
# shellcheck source-path=SCRIPTDIR/../lib
. "${0%/*}/../lib/lib.sh"
# shellcheck source-path=SCRIPTDIR
. "$HERE/lib/table.sh"

need_switch "compares the two"
require_seccomp_notify
bin=$(conformance_bin differences)
native "$bin" >"$T/native.txt"
run --ip "$VIP4" --ip "$VIP6" -- "$bin" >"$T/run.txt"
[ -z "${SAVE:-}" ] || cp "$T/native.txt" "$T/run.txt" "$SAVE/"
/usr/bin/python3 "$HERE/lib/expect.py" "$T/native.txt" "$T/run.txt" "$HERE/differences.table" ||
	fail "the known differences are not what they were (above)"
