#!/bin/bash
# The shell completion offers what the command line takes.
. "${0%/*}/../lib/lib.sh"
# shellcheck source=cli/completion.bash
. "$REPO/cli/completion.bash"

# offers WANTED-WORD LINE...: the last word of the line is being typed
offers()
{
	local want=$1
	shift
	COMP_WORDS=("$@")
	COMP_CWORD=$(($# - 1))
	COMPREPLY=()
	_appswitch || : # a completion function may say anything
	[[ " ${COMPREPLY[*]} " == *" $want "* ]] ||
		fail "'$*' offers '${COMPREPLY[*]}', not '$want'"
}

check "every subcommand"
for c in run daemon get drain undrain leave keygen doctor version help; do
	offers $c appswitch "${c:0:1}"
done

check "every long option that --help names"
for c in run daemon get drain undrain leave doctor; do
	n=0
	for o in $("$APPSWITCH" "$c" --help | grep -oE '(^| )--[a-z-]+' | sort -u); do
		offers "$o" appswitch $c "${o:0:4}"
		n=$((n + 1))
	done
	[ $n -gt 0 ] || fail "$c --help names no option"
done

check "values: policies, levels, what to get, formats, users, the command after --"
for p in local-first round-robin random least-connections weighted source-hash zone-first; do
	offers $p appswitch run --lb "${p:0:2}"
done
offers warn appswitch daemon --log w
for w in services apps connections nodes; do
	offers $w appswitch get "${w:0:1}"
done
offers json appswitch get services -o j
offers root appswitch run --user roo
offers bash appswitch run -- bas
offers bash appswitch run --weight 3 -- bas
touch "$T/seeds"
offers "@$T/seeds" appswitch daemon --join "@$T/see"
offers "$T/seeds" appswitch daemon --key-file "$T/see"
offers "$T/seeds" appswitch keygen "$T/see"
offers bash appswitch run --ip 10.0.0.5 -- bas
