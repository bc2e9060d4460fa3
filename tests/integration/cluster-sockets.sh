#!/bin/bash
# What a program sees of a connection with another host: the same program runs between two plain hosts
# and between two with the switch, and what it prints is compared. What differs is in
# cluster-sockets.differences, which must hold exactly: a difference that is gone is an error as well.
#
#   cluster-sockets.sh [GROUP...]
. "${0%/*}/../lib/lib.sh"
. "${0%/*}/../lib/hosts.sh"
need python3 nft sysctl
need_cluster
ENDS=$LIB/both_ends.py
hosts 6
for k in 1 2 5 6; do
	start_daemon $k
done
wait_all_nodes 4

# Hosts 3 and 4 have the very addresses that the apps have.
on 3 ip -batch - <<-END
	addr add 10.0.1.1/16 dev eth0
	addr add fd00::1:1/64 dev eth0 nodad
END
on 4 ip -batch - <<-END
	addr add 10.0.0.5/16 dev eth0
	addr add fd00::5/64 dev eth0 nodad
END
bg_on 4 plain-server "$ENDS" server
app_on 2 server --ip 10.0.0.5 --ip fd00::5 -- "$ENDS" server
wait_all_services 10.0.0.5 7000
wait_all_services fd00::5 7000
listens() { on 4 ss -Hltn "sport = 7000" | grep -q .; }
wait_for "the plain server" listens
wire nft -f - <<-END
	add chain bridge hosts asked
	add rule bridge hosts forward jump asked
END

client() # plain|switch GROUP: what it prints goes to $T/GROUP.plain or .switch
{
	local cmd=("$ENDS" client "$2" 10.0.0.5 fd00::5) line to=2 pid
	if [ "$1" = plain ]; then
		at 3
		to=4
		cmd=("${AT[@]}" "${cmd[@]}")
	else
		at "$FROM"
		cmd=("${AT[@]}" "$SWITCH" run --no-embedded --ip 10.0.1.1 --ip fd00::1:1 --
			env "ASK_SERVICES=$SWITCH" "${cmd[@]}")
	fi
	[ "$2" != quick ] || {
		"${cmd[@]}"
		return
	}
	coproc CLIENT { exec timeout --foreground -k 5 "$LIMIT" "${cmd[@]}" 2>"$T/$2.$1.log"; }
	pid=$CLIENT_PID
	exec 4<&"${CLIENT[0]}" 5>&"${CLIENT[1]}"
	while read -r line <&4; do
		case $line in
		# SYNs to the server are lost, or not any more
		HUSH)
			wire nft flush chain bridge hosts asked
			wire nft add rule bridge hosts asked oifname "p$to" tcp flags syn / syn,ack drop
			echo >&5
			;;
		HEAL)
			wire nft flush chain bridge hosts asked
			echo >&5
			;;
		*) echo "$line" ;;
		esac
	done >"$T/$2.$1"
	exec 4<&- 5>&-
	wait "$pid" || fail "$1 $2: $(cat "$T/$2.$1.log")"
}

# A host that has seen SYNs with data get no answer sends no more of them to that node for an hour: what is
# about that has a host of its own.
FROM=1

# What differs, each line up to its value.
different() # GROUP
{
	sort "$T/$1.plain" >"$T/plain"
	sort "$T/$1.switch" >"$T/switch"
	comm -3 "$T/plain" "$T/switch" | sed 's/^\t//; s/ = .*//' | sort -u
}

[ $# -gt 0 ] || set -- names connect options data silent heals
for group; do
	check "$group: as between plain hosts"
	client plain "$group"
	FROM=1
	[ "$group" != heals ] || FROM=5
	client switch "$group"
	sed -n "s/^$group: //p" "$HERE/cluster-sockets.differences" | sort >"$T/listed"
	different "$group" >"$T/differs"

	assert_between 10 100000 "$(wc -l <"$T/$group.plain")" "lines to compare"
	diff -u "$T/listed" "$T/differs" >"$T/out" || {
		diff "$T/$group.plain" "$T/$group.switch" || :
		fail "listed are other differences than there are: $(cat "$T/out")"
	}
done

quick() # FIRST OTHERS: no connection takes longer, in ms
{
	read -r _ first others < <(FROM=6 client switch quick)
	say "the first $first ms, the others at most $others ms"
	[ "$first" -le "$1" ] || fail "the first connection took $first ms"
	[ "$others" -le "$2" ] || fail "a connection took $others ms"
}

check "fast open"
quick 200 200
check "fast open is off at the client's host"
on 6 sysctl -qw net.ipv4.tcp_fastopen=0
quick 200 200
on 6 sysctl -qw net.ipv4.tcp_fastopen=1
check "fast open is off at the server's host"
on 2 sysctl -qw net.ipv4.tcp_fastopen=0
quick 1500 200
on 2 sysctl -qw net.ipv4.tcp_fastopen=3
check "SYNs with data are lost on the way: all connect all the same, after a second"
wire nft add rule bridge hosts asked oifname p2 tcp flags syn / syn,ack ip length 120-65535 counter drop
quick 1500 1500
[ "$first" -ge 900 ] || fail "no SYN was lost"
for k in 1 5 6; do
	assert_eq "" "$(grep error: "$T/daemon$k.log" || :)" "errors in a daemon's log"
done
