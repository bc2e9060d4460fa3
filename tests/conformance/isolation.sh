#!/bin/bash
# isolation.sh [SUBSTRING] - everything that is known for getting out of an app's namespace is
# tried from inside, beside a canary on the host that counts who comes: it must be nobody. Then the
# other way round: from the host to an app's listener. First all of it natively, where it must work.
# shellcheck source-path=SCRIPTDIR/../lib
. "${0%/*}/../lib/lib.sh"
# shellcheck source-path=SCRIPTDIR
. "$HERE/lib/table.sh"

need_switch "tests the switch"
require_seccomp_notify
bin=$(conformance_bin escape)
canary=(/usr/bin/python3 "$HERE/isolation/canary.py")
LIMIT=100

check "natively the attacks reach the canary"
native "${canary[@]}" "$bin" "$@" >"$T/native.txt" 2>"$T/err" ||
	fail "status $?: $(tail -n 3 "$T/err")"
if [ $# = 0 ]; then
	for attack in plain.connect fastopen.sendto fastopen.sendmsg fastopen.sendmmsg \
		abstract.stream filter-again.allow-all protocol.mptcp rewrite; do
		grep -q "^escape/$attack: ESCAPED" "$T/native.txt" ||
			fail "$attack does not work even natively: $(grep "/$attack:" "$T/native.txt")"
	done
	contacts=$(sed -n 's/^contacts: //p' "$T/native.txt")
	assert_between 10 1000000 "$contacts" "contacts natively"
fi

check "under appswitch every attack is refused or stays inside"
timeout --foreground -k 5 "$LIMIT" "${canary[@]}" "$APPSWITCH" run --ip "$VIP4" --ip "$VIP6" -- "$bin" \
	"$@" >"$T/run.txt" 2>"$T/err" || fail "status $?: $(tail -n 3 "$T/err")"
[ -z "${SAVE:-}" ] || cp "$T/native.txt" "$T/run.txt" "$SAVE/"
bad=$(grep -Ev '^escape/[^:]+: (refused [A-Z0-9]+|inside|skipped .*)$|^contacts: 0$' "$T/run.txt" || :)
[ -z "$bad" ] || fail "not refused and not inside:"$'\n'"$bad"
grep -q '^contacts: 0$' "$T/run.txt" || fail "the canary's count is missing"
# an attack that was not tried proves nothing
lost=$(comm -23 <(sed -n 's|^escape/\([^.:]*\).*|\1|p' "$T/native.txt" | sort -u) \
	<(sed -n 's|^escape/\([^.:]*\).*|\1|p' "$T/run.txt" | sort -u))
[ -z "$lost" ] || fail "not tried: $lost"
echo "$(grep -c ': refused' "$T/run.txt") refused, $(grep -c ': inside' "$T/run.txt") inside"
grep ': skipped' "$T/run.txt" || :
[ $# = 0 ] || exit 0

check "an app inside an app is refused with one line"
expect_status 125 run --ip "$VIP4" -- "$APPSWITCH" run --ip 10.0.0.9 -- true
assert_eq 1 "$(wc -l <"$T/err")" "lines of the message"

check "from outside nobody gets at a listener"
timeout --foreground -k 5 60 /usr/bin/python3 "$HERE/isolation/outside.py" \
	"$APPSWITCH" run --ip "$VIP4" -- >"$T/outside.txt" 2>"$T/err" ||
	fail "somebody came in: $(cat "$T/outside.txt" "$T/err")"
if grep -q ESCAPED "$T/outside.txt"; then
	fail "$(grep ESCAPED "$T/outside.txt")"
fi
cat "$T/outside.txt"
