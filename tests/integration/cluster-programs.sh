#!/bin/bash
# The programs of the one-host tests with client and server on different hosts: those tests
# themselves, unchanged, with their apps on four hosts (see tests/lib/across.sh).
#
#   cluster-programs.sh [TEST...]
set -u
cd "${0%/*}" || exit 1
[ $# -gt 0 ] || set -- redis nginx memcached haproxy iperf postgres ssh rsync go node java virtual-host
passed=0
failed=()
for t; do
	echo "== $t"
	rc=0
	ACROSS=1 TEST_TIMEOUT=${TEST_TIMEOUT:-180} "./$t.sh" || rc=$?
	case $rc in
	0) passed=$((passed + 1)) ;;
	77) ;; # says why
	*) failed+=("$t") ;;
	esac
done
[ ${#failed[@]} = 0 ] || {
	echo "FAIL: ${failed[*]}"
	exit 1
}
[ $passed -gt 0 ] || exit 77
