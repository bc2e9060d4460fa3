# shellcheck shell=bash
# hosts.sh - hosts for tests with several nodes: network namespaces on one bridge.
#
#   . "${0%/*}/../lib/lib.sh"
#   . "${0%/*}/../lib/hosts.sh"
#   hosts 3
#
# Host K has 10.99.0.K/24 and fd99::K/64 on eth0, the hostname hK, and in $T/hK what else is its own:
# control socket (s), XDG_RUNTIME_DIR (run), state directory (state). The bridge is in a namespace
# of its own, "the wire"; what goes wrong between hosts goes wrong there, so a cut is silence for
# all protocols, ARP too, and a host never gets an error for what it sends.
#
# The namespaces have no names: each lives as long as a process of the test that holds it, so
# nothing is left when the test ends in whatever way, and tests run beside each other.
# As an ordinary user everything is in one user namespace: the test is uid 0 there and nowhere else.
#
# A process belongs to a host by its UTS namespace: `run` makes a network namespace for each app,
# but leaves that one alone.

if [ "$(id -u)" != 0 ]; then
	unshare -Urnm true 2>/dev/null || skip "no user namespaces"
	exec unshare -Urnm --propagation private bash "$0" "$@"
fi
need unshare nsenter ip nft jq
[ "$MODE" != native ] || skip "hosts are of no use to the native stand-in"

SWITCH=$APPSWITCH
HOSTS=0
AT=()
# What a daemon is started with in front: DAEMON_WITH=(env NAME=VALUE)
DAEMON_WITH=()

wire() { nsenter -t "${PID[wire]}" -n -- "$@"; }

# at K: AT is what stands before a command of host K, which is then executed in place.
at()
{
	AT=(nsenter -t "${PID[host$1]}" -n -u -- env "XDG_RUNTIME_DIR=$T/h$1/run"
		"APPSWITCH_SOCKET=$T/h$1/s")
}

on() # K CMD...
{
	at "$1"
	shift
	timeout --foreground -k 5 "$LIMIT" "${AT[@]}" "$@"
}

bg_on() # K NAME CMD...: as bg; $! is CMD's own pid
{
	local name=$2
	at "$1"
	shift 2
	bg "$name" "${AT[@]}" "$@"
}

app_on() # K NAME [OPTIONS] -- CMD...: as app
{
	local k=$1 name=$2
	shift 2
	bg_on "$k" "$name" "$SWITCH" run "$@"
}

run_on() # K [OPTIONS] -- CMD...: as run
{
	local k=$1
	shift
	on "$k" "$SWITCH" run --no-embedded "$@"
}

get_on() # K WHAT: JSON on stdout
{
	LIMIT=20 on "$1" "$SWITCH" get "$2" -o json
}

# Carrier is noticed a while after the other end is set up.
link_up() # K
{
	on "$1" ip -o link show eth0 | grep -q 'state UP' &&
		wire ip -d -o link show "p$1" | grep 'state UP' | grep -q 'state forwarding'
}

# hosts N: makes hosts 1 to N. Once in a test.
hosts()
{
	local k
	[ "$HOSTS" = 0 ] || fail "hosts are made once"
	start_ready wire unshare -n sh -c 'echo >&3; exec sleep infinity 3>&-'
	ENDS_LAST+=(wire)
	wire ip link add br0 type bridge
	wire ip link set br0 up
	wire nft -f - <<-END
		table bridge hosts {
			set cut { type ifname . ifname; }
			chain forward { type filter hook forward priority 0; iifname . oifname @cut drop; }
		}
	END
	for ((k = 1; k <= $1; k++)); do
		mkdir -p "$T/h$k"
		mkdir -m 700 "$T/h$k/run"
		start_ready "host$k" unshare -n -u sh -c '
			hostname "$0" && ip link set lo up && echo >&3 && exec sleep infinity 3>&-' "h$k"
		ENDS_LAST+=("host$k")
		wire ip link add "p$k" type veth peer name eth0 netns "${PID[host$k]}"
		wire ip link set "p$k" master br0 up
		on "$k" ip -batch - <<-END
			addr add 10.99.0.$k/24 dev eth0
			addr add fd99::$k/64 dev eth0 nodad
			link set eth0 up
		END
		wire nft -f - <<-END
			add chain bridge hosts loss$k
			add rule bridge hosts forward iifname p$k jump loss$k
			add rule bridge hosts forward oifname p$k jump loss$k
		END
	done
	for ((k = 1; k <= $1; k++)); do
		wait_for "the link of host $k" link_up "$k"
	done
	HOSTS=$1
}

# --- what goes wrong on the wire ----------------------------------------------------------------

cut_one_way() { wire nft add element bridge hosts cut "{ p$1 . p$2 }"; } # FROM TO

cut_both_ways() # A B
{
	cut_one_way "$1" "$2"
	cut_one_way "$2" "$1"
}

# heal A B: undoes any cut between the two; heal: all cuts there are.
heal()
{
	[ $# -gt 0 ] || {
		wire nft flush set bridge hosts cut
		return
	}
	cut_both_ways "$1" "$2" # to delete what is not there is an error
	wire nft delete element bridge hosts cut "{ p$1 . p$2, p$2 . p$1 }"
}

# partition "1 2" "3 4 5": the groups do not hear each other, in a group all is well.
partition()
{
	local i j a b
	for ((i = 1; i < $#; i++)); do
		for ((j = i + 1; j <= $#; j++)); do
			for a in ${!i}; do
				for b in ${!j}; do cut_both_ways "$a" "$b"; done
			done
		done
	done
}

# loss K PERCENT: so many of the IP packets to and from host K are lost by chance; 0 ends it. The
# kernel hands large sends over as one packet of many segments: that is off on a host with losses,
# or one throw of the dice would lose 64 kB.
loss()
{
	wire nft flush chain bridge hosts "loss$1"
	[ "$2" != 0 ] || return 0
	on "$1" ip link set eth0 gso_max_segs 1
	wire ip link set "p$1" gso_max_segs 1
	wire nft -f - <<-END
		add rule bridge hosts loss$1 ether type { ip, ip6 } counter
		add rule bridge hosts loss$1 ether type { ip, ip6 } numgen random mod 100 < $2 counter drop
	END
}

# packets_lost K: "PACKETS LOST" since loss was called.
packets_lost()
{
	wire nft -j list chain bridge hosts "loss$1" |
		jq -r '[.nftables[].rule.expr // [] | .[] | .counter.packets // empty] | join(" ")'
}

# crash_host K: as if its power had failed. The link first, so that nobody hears a last word.
crash_host()
{
	local host=${PID[host$1]} uts pid name found pids i killed=" "
	wire ip link set "p$1" down
	uts=$(readlink "/proc/$host/ns/uts")
	{ # the shell would report each
		for ((i = 0; i < 100; i++)); do
			pids=()
			for found in /proc/[0-9]*; do
				pid=${found#/proc/}
				[ "$pid" != "$host" ] || continue
				[ "$(readlink "$found/ns/uts")" != "$uts" ] || pids+=("$pid")
			done
			[ ${#pids[@]} -gt 0 ] || break
			killed+="${pids[*]} "
			# Stopped first: nothing forks away while it is looked for.
			kill -STOP "${pids[@]}" || :
			kill -KILL "${pids[@]}" || :
		done
	} 2>/dev/null
	[ ${#pids[@]} = 0 ] || fail "host $1 does not die: ${pids[*]}"
	for name in "${!PID[@]}"; do
		[[ $killed != *" ${PID[$name]} "* ]] || await "$name"
	done
	rm -f "$T/h$1/s" # in /run, which is empty after a boot
}

boot_host() # K: after crash_host; its daemon is for start_daemon
{
	wire ip link set "p$1" up
	wait_for "the link of host $1" link_up "$1"
}

# --- daemons ------------------------------------------------------------------------------------

cluster_key() { [ -e "$T/key" ] || "$SWITCH" keygen "$T/key"; }

# need_cluster: for as long as a binary without it is tried, too.
need_cluster()
{
	require_seccomp_notify
	"$SWITCH" help keygen >/dev/null 2>&1 || skip "this appswitch has no cluster"
}

# start_daemon K [OPTIONS]: waits until it is ready. Options that are not given: host 1 starts
# alone, the others join it. --alone: no --join.
start_daemon()
{
	local k=$1 all
	shift
	all=" $* "
	cluster_key
	[[ $all == *" --listen "* ]] || set -- "$@" --listen "10.99.0.$k"
	[[ $all == *" --key-file "* ]] || set -- "$@" --key-file "$T/key"
	[[ $all == *" --state-dir "* ]] || set -- "$@" --state-dir "$T/h$k/state"
	[[ $all == *" --node "* ]] || set -- "$@" --node "h$k"
	[[ $all == *" --log "* ]] || set -- "$@" --log "${DAEMON_LOG:-info}"
	if [ "$1" = --alone ]; then
		shift
	elif [ "$k" != 1 ] && [[ $all != *" --join "* ]]; then
		set -- "$@" --join 10.99.0.1
	fi
	at "$k"
	start_ready "daemon$k" "${AT[@]}" "${DAEMON_WITH[@]}" "$SWITCH" daemon --ready-fd 3 "$@"
}

stop_daemon() # K
{
	stop "daemon$1"
	assert_eq 0 "$STATUS" "exit status of the daemon of host $1 after SIGTERM"
	[ ! -e "$T/h$1/s" ] || fail "the daemon of host $1 left its socket behind"
}

kill_daemon() { stop "daemon$1" KILL; } # K

no_apps() { get_on "$1" apps | jq -e 'length == 0'; } # K

# The answer is kept in a .log, which a failed test shows.
nodes_alive() # K N
{
	get_on "$1" nodes >"$T/nodes$1.log"
	jq -e --argjson n "$2" '[.[] | select(.state == "alive" and .name != "")] | length == $n' "$T/nodes$1.log"
}

node_state() # K NODE: its state as host K sees it
{
	get_on "$1" nodes >"$T/nodes$1.log"
	jq -r --arg n "$2" '[.[] | select(.name == $n) | .state] | join(" ")' "$T/nodes$1.log"
}

node_is() { [ "$(node_state "$1" "$2")" = "$3" ]; } # K NODE STATE

# A node that is not there any more: known as such, or forgotten
node_gone() { [[ $(node_state "$1" "$2") != *alive* && $(node_state "$1" "$2") != *suspect* ]]; }

served_at() # K VIP PORT N: exactly N instances that take connections
{
	get_on "$1" services >"$T/services$1.log"
	jq -e --arg v "$2" --argjson p "$3" --argjson n "$4" \
		'[.[] | select(.vip == $v and .port == $p and .state == "up")] | length == $n' \
		"$T/services$1.log"
}

wait_nodes() # K N: until host K sees N nodes alive
{
	WAIT_MS=${WAIT_MS:-30000} wait_for "host $1 to see $2 nodes" nodes_alive "$1" "$2"
}

wait_service() # K VIP PORT [N]: until host K sees N instances (1)
{
	WAIT_MS=${WAIT_MS:-30000} wait_for "host $1 to see ${4:-1} of $2 port $3" \
		served_at "$1" "$2" "$3" "${4:-1}"
}

wait_all_nodes() # N: until every host with a daemon sees N nodes alive
{
	local k
	for ((k = 1; k <= HOSTS; k++)); do
		[ -z "${PID[daemon$k]:-}" ] || wait_nodes "$k" "$1"
	done
}

wait_all_services() # VIP PORT [N]
{
	local k
	for ((k = 1; k <= HOSTS; k++)); do
		[ -z "${PID[daemon$k]:-}" ] || wait_service "$k" "$@"
	done
}
