#!/bin/bash
# What goes wrong between five hosts: dead daemons, dead hosts, partitions, losses, wrong keys.
# Each part begins and ends with five nodes that see each other.
#
#   PARTS="loss clocks" cluster-failures.sh     these parts only
#
# shellcheck disable=SC2317 # what wait_for calls is reachable
. "${0%/*}/../lib/lib.sh"
. "${0%/*}/../lib/hosts.sh"
need python3
need_cluster
N=5
hosts $N
for ((k = 1; k <= N; k++)); do
	start_daemon $k
done
for k in 1 2; do # one service with two instances
	app_on $k "both$k" --ip 10.0.0.9 -- "$TCP" serve 80 "both$k"
done
for ((k = 1; k <= N; k++)); do # and one of each host's own
	app_on $k "own$k" --ip "10.0.2.$k" -- "$TCP" serve 80 "own$k"
done

healthy() # all five know all, and every host's client reaches every host's server
{
	local k n
	wait_all_nodes $N
	wait_all_services 10.0.0.9 80 2
	for ((n = 1; n <= N; n++)); do
		wait_all_services "10.0.2.$n" 80
	done
	for ((k = 1; k <= N; k++)); do
		for ((n = 1; n <= N; n++)); do
			assert_eq "own$n=2" "$(run_on $k -- "$TCP" count "10.0.2.$n" 80 2)" "from host $k to $n"
		done
	done
}

hold_on() # K NAME VIP: a connection that stays; tell NAME sends a line and waits for its echo
{
	local fd
	rm -f "$T/$2.in"
	mkfifo "$T/$2.in"
	exec {fd}<>"$T/$2.in"
	FIFO[$2]=$fd
	at "$1"
	"${AT[@]}" "$APPSWITCH" run --no-embedded -- "$TCP" hold "$3" 80 <"$T/$2.in" >"$T/$2.log" 2>&1 &
	PID[$2]=$!
	ORDER+=("$2")
	wait_line "$2.log" ' peer='
}
declare -A FIFO=()
tell()
{
	echo "$2" >&"${FIFO[$1]}"
	wait_line "$1.log" "^$2$"
}

# quick K VIP N WHAT: N connects from host K, none fails and none takes a second
quick()
{
	local got
	got=$(LIMIT=100 run_on "$1" -- "$TCP" count "$2" 80 "$3" --slowest) || fail "$4: $got"
	say "$4: $got"
	[[ $got != *connect-* && $got != *read-* ]] || fail "$4: a connect failed: $got"
	assert_between 0 999 "${got##*slowest=}" "$4: ms of the slowest connect"
}

is_app() # K PID
{
	get_on "$1" apps | jq -e --argjson p "$2" 'any(.[]; .pid == $p)'
}

restart_node() # K [OPTIONS]
{
	stop_daemon "$1"
	start_daemon "$@"
}

part_daemon()
{
	check "kill -9 of a daemon: open connections go on, calls on its host wait, others fail over"
	hold_on 3 hold 10.0.2.1
	kill_daemon 1
	tell hold "without a daemon"
	quick 3 10.0.0.9 20 "to a service with another instance"
	start_daemon 1
	wait_all_nodes $N
	wait_all_services 10.0.2.1 80
	kill_daemon 1
	app_on 3 waits -- "$TCP" ask 10.0.2.1 80
	wait_for "app waits" is_app 3 "${PID[waits]}"
	start_daemon 1
	await waits 20000
	assert_eq 0 "$STATUS" "to a service without another: $(cat "$T/waits.log")"
	wait_all_nodes $N
	tell hold "with a new one"
	stop hold
	for ((k = 1; k <= N; k++)); do
		assert_eq 1 "$(get_on $k nodes | jq '[.[] | select(.name == "h1")] | length')" "rows of h1"
	done

	check "an app that runs meanwhile: its connects wait for the daemon, none fails"
	app_on 1 loop -- "$TCP" loop 10.0.2.3 80 --until "$T/done.daemon"
	app_on 2 loop2 -- "$TCP" loop 10.0.2.3 80 --until "$T/done.daemon"
	# a run that finds no daemon would start one of its own
	wait_for "app loop" is_app 1 "${PID[loop]}"
	wait_for "app loop2" is_app 2 "${PID[loop2]}"
	for _ in 1 2 3; do
		kill_daemon 1
		start_daemon 1
		run_on 1 -- "$TCP" ask 10.0.2.3 80 >/dev/null
	done
	touch "$T/done.daemon"
	for c in loop loop2; do
		await $c 20000
		assert_eq 0 "$STATUS" "$c: $(cat "$T/$c.log")"
		say "$c: $(cat "$T/$c.log")"
	done
}

part_crash()
{
	check "a host crashes: a blocking connect goes to the other instance in less than a second"
	hold_on 3 hold 10.0.2.2
	for k in 3 4 5; do
		app_on $k "quick$k" -- bash -c 'until [ -e "$0" ]; do sleep 0.01; done
			exec "$1" count 10.0.0.9 80 20 --slowest' "$T/crashed" "$TCP"
	done
	wire ip link set p2 down # what others notice of a crash; to kill all that was there takes a while
	state=$(node_state 3 h2)
	touch "$T/crashed"
	[[ $state == *alive* || $state == *suspect* ]] || fail "h2 was declared dead too early to test it: $state"
	for k in 3 4 5; do
		await "quick$k" 40000
		assert_eq 0 "$STATUS" "quick$k"
		say "host $k: $(cat "$T/quick$k.log")"
		assert_contains "$(cat "$T/quick$k.log")" "both1=20 "
		got=$(cat "$T/quick$k.log")
		assert_between 0 999 "${got##*slowest=}" "ms of the slowest connect"
	done
	crash_host 2
	check "it is declared dead, and its services are gone"
	for k in 1 3 4 5; do
		WAIT_MS=60000 wait_for "host $k to know" node_gone $k h2
		wait_service $k 10.0.2.2 80 0
		wait_service $k 10.0.0.9 80 1
	done
	assert_eq "connect ECONNREFUSED" "$(run_on 3 -- "$TCP" ask 10.0.2.2 80 || :)" "nobody serves it"
	stop hold KILL
	boot_host 2
	start_daemon 2
	app_on 2 both2 --ip 10.0.0.9 -- "$TCP" serve 80 both2
	app_on 2 own2 --ip 10.0.2.2 -- "$TCP" serve 80 own2
}

part_partition()
{
	check "a partition: each side goes on with what it has"
	hold_on 1 hold 10.0.2.2
	partition "1 2" "3 4 5"
	for k in 1 2; do WAIT_MS=60000 wait_nodes $k 2; done
	for k in 3 4 5; do WAIT_MS=60000 wait_nodes $k 3; done
	for k in 3 4 5; do wait_service $k 10.0.0.9 80 0; done
	assert_eq "own2=5" "$(run_on 1 -- "$TCP" count 10.0.2.2 80 5)"
	assert_eq "own5=5" "$(run_on 4 -- "$TCP" count 10.0.2.5 80 5)"
	expect_fail run_on 4 -- "$TCP" ask 10.0.2.1 80 --timeout 2
	tell hold "on the same side"

	check "what changes meanwhile is known on both sides after healing"
	app_on 4 news --ip 10.0.3.1 -- "$TCP" serve 80 news
	app_on 1 news2 --ip 10.0.3.2 -- "$TCP" serve 80 news2
	wait_service 5 10.0.3.1 80
	wait_service 2 10.0.3.2 80
	heal
	for ((k = 1; k <= N; k++)); do WAIT_MS=60000 wait_nodes $k $N; done
	wait_all_services 10.0.3.1 80
	wait_all_services 10.0.3.2 80
	assert_eq "news=5" "$(run_on 2 -- "$TCP" count 10.0.3.1 80 5)"
	assert_eq "news2=5" "$(run_on 5 -- "$TCP" count 10.0.3.2 80 5)"
	stop hold
	stop news
	stop news2
	wait_all_services 10.0.3.1 80 0
	wait_all_services 10.0.3.2 80 0
}

# For @seconds no host calls another dead: the negative needs a span of time to look at.
none_dead() # SECONDS WHAT
{
	local end=$(($(now_ms) + $1 * 1000)) k
	while [ "$(now_ms)" -lt "$end" ]; do
		for ((k = 1; k <= N; k++)); do
			get_on $k nodes >"$T/nodes$k.log"
			jq -e --argjson n $N '[.[] | select(.state == "alive" or .state == "suspect")] | length == $n' \
				"$T/nodes$k.log" >/dev/null || fail "$2: host $k: $(jq -c . "$T/nodes$k.log")"
		done
	done
}

part_one_way()
{
	check "one way only is cut: others vouch for both, nobody is declared dead"
	cut_one_way 3 1
	none_dead 15 "one way cut"
	check "connects that cannot get through go to the other instance"
	quick 3 10.0.0.9 10 "from the host that is not heard"
	quick 4 10.0.0.9 10 "from another"
	heal
}

part_loss()
{
	local percent file k
	mkdir "$T/lossdir"
	head -c 200000 /dev/urandom >"$T/lossdir/file"
	# what TCP itself moves in some seconds where half of the round trips fail
	head -c 10000 "$T/lossdir/file" >"$T/lossdir/small"
	app_on 2 web --ip 10.0.3.5 -- /usr/bin/python3 -m http.server --directory "$T/lossdir" 80
	wait_all_services 10.0.3.5 80
	for percent in 1 10 30; do
		check "$percent % of the packets of host 2 are lost: it stays alive, what arrives is right"
		loss 2 $percent
		[ $percent = 30 ] || none_dead 10 "$percent % lost"
		file="file"
		[ $percent != 30 ] || file=small
		for k in 1 3 4; do
			LIMIT=100 run_on $k -- curl -sSf --retry 3 --retry-all-errors --max-time 40 \
				-o "$T/arrived" "http://10.0.3.5/$file"
			cmp "$T/arrived" "$T/lossdir/$file"
		done
		read -r packets lost <<<"$(packets_lost 2)"
		say "$lost of $packets packets were lost"
		[ "$lost" -gt 0 ] || fail "nothing was lost"
		loss 2 0
		for ((k = 1; k <= N; k++)); do WAIT_MS=60000 wait_nodes $k $N; done
	done
	stop web
}

part_key()
{
	check "a node with another key stays outside, and its log says so"
	"$APPSWITCH" keygen "$T/otherkey"
	restart_node 5 --key-file "$T/otherkey"
	for k in 1 2 3 4; do WAIT_MS=60000 wait_nodes $k 4; done
	for k in 1 2 3 4; do wait_service $k 10.0.2.5 80 0; done
	assert_eq 1 "$(get_on 5 nodes | jq '[.[] | select(.state == "alive")] | length')" "nodes it sees"
	wait_line daemon5.log 'has a key that we have not'
	wait_line daemon1.log 'packet from 10.99.0.5:6660 was dropped: it has a key that we have not'
	restart_node 5
}

# rotate N FILE...: the key file is these, one after the other, and every daemon has read it N times.
rotate()
{
	local n=$1 k
	shift
	cat "$@" >"$T/key.new"
	chmod 600 "$T/key.new"
	mv "$T/key.new" "$T/key"
	reread() { [ "$(grep -c 'key was read again' "$T/daemon$1.log")" = "$n" ]; }
	for ((k = 1; k <= N; k++)); do
		kill -HUP "${PID[daemon$k]}"
		wait_for "host $k to read its keys again" reread $k
	done
}

part_rotation()
{
	local k strangers
	check "a new key, node by node in three steps, under load: no connect fails, nobody is lost"
	strangers() { cat "$T"/daemon?.log | grep -c 'key that we have not'; }
	strangers=$(strangers || :)
	cp -p "$T/key" "$T/key.1"
	"$APPSWITCH" keygen "$T/key.2"
	for ((k = 1; k <= N; k++)); do
		app_on $k "loop$k" -- "$TCP" loop "10.0.2.$((k % N + 1))" 80 --until "$T/done.rotation"
		wait_for "app loop$k" is_app $k "${PID[loop$k]}"
	done
	rotate 1 "$T/key.1" "$T/key.2"
	rotate 2 "$T/key.2" "$T/key.1"
	rotate 3 "$T/key.2"
	none_dead 3 "keys rotated"
	touch "$T/done.rotation"
	for ((k = 1; k <= N; k++)); do
		await loop$k 20000
		assert_eq 0 "$STATUS" "host $k: $(cat "$T/loop$k.log")"
		say "host $k: $(cat "$T/loop$k.log")"
	done
	assert_eq "$strangers" "$(strangers || :)" "packets of strangers"
	check "who has only the old one stays outside"
	restart_node 5 --key-file "$T/key.1"
	for k in 1 2 3 4; do WAIT_MS=60000 wait_nodes $k 4; done
	restart_node 5
}

part_name()
{
	check "two nodes with one name: both work, and it is said"
	lines=$(cat "$T"/daemon[45].log | wc -l)
	restart_node 5 --node h4
	for k in 1 2 3; do wait_nodes $k $N; done
	said() { cat "$T"/daemon[45].log | tail -n "+$((lines + 1))" | grep -iE 'warn.*h4|h4.*(name|twice|same|two)'; }
	wait_for "a word about the name" said
	assert_eq "own4=5" "$(run_on 1 -- "$TCP" count 10.0.2.4 80 5)"
	assert_eq "own5=5" "$(run_on 1 -- "$TCP" count 10.0.2.5 80 5)"
	restart_node 5
}

part_copy()
{
	check "a state directory that was copied to another node: it is said, and goes away with the copy"
	stop_daemon 5
	cp -rp "$T/h4/state" "$T/copy"
	start_daemon 5 --state-dir "$T/copy"
	copied() { cat "$T"/daemon[45].log | grep -q 'state directory.* copied'; }
	wait_for "a word about the copy" copied
	restart_node 5
}

part_address()
{
	check "a node comes back with another address: the same node, there"
	# of another prefix: a second address of one prefix goes with the first
	on 5 ip addr add 10.99.0.105/25 dev eth0
	restart_node 5 --listen 10.99.0.105
	moved() { get_on "$1" nodes | jq -e '[.[] | select(.name == "h5" and .state == "alive")] |
		length == 1 and (.[0].address | contains("10.99.0.105"))'; }
	for ((k = 1; k <= N; k++)); do
		WAIT_MS=60000 wait_for "host $k to know h5's new address" moved $k
	done
	on 5 ip addr del 10.99.0.5/24 dev eth0
	for k in 1 2 3 4; do
		assert_eq "own5=5" "$(run_on $k -- "$TCP" count 10.0.2.5 80 5)"
	done
	on 5 ip addr add 10.99.0.5/24 dev eth0
	restart_node 5
	on 5 ip addr del 10.99.0.105/25 dev eth0
}

part_flapping()
{
	check "100 listeners come and go all the time: at the end all tables say what is"
	cat >"$T/flap.py" <<-'END'
		import signal, socket, time
		def listen(p):
		    s = socket.socket()
		    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
		    s.bind(("", p))
		    s.listen()
		    return s
		end = time.monotonic() + 5
		rounds = 0
		while time.monotonic() < end:
		    ls = [listen(p) for p in range(1000, 1100)]
		    for s in ls:
		        s.close()
		    rounds += 1
		ls = [listen(p) for p in range(1000, 1100) if p % 2 == 0]
		print("rounds", rounds, flush=True)
		signal.pause()
	END
	app_on 1 flap --ip 10.0.3.9 -- /usr/bin/python3 "$T/flap.py"
	wait_line flap.log '^rounds'
	say "$(cat "$T/flap.log")"
	fifty() { get_on "$1" services >"$T/services$1.log" &&
		jq -e '[.[] | select(.vip == "10.0.3.9" and .state == "up") | .port] | sort ==
			[range(1000; 1100; 2)]' "$T/services$1.log"; }
	for ((k = 1; k <= N; k++)); do
		wait_for "host $k to know which 50 are left" fifty $k
	done
	none_dead 1 "after the flapping"
	stop flap
	none() { get_on "$1" services | jq -e '[.[] | select(.vip == "10.0.3.9")] | length == 0'; }
	for ((k = 1; k <= N; k++)); do
		wait_for "host $k to forget them" none $k
	done
}

part_full_disk()
{
	check "the disk of --state-dir is full: the node works, and says so"
	stop_daemon 5
	local state=$T/full
	mkdir "$state"
	# in a mount namespace that ends with the daemon
	# shellcheck disable=SC2016
	DAEMON_WITH=(unshare -m --propagation private sh -c 'mount -t tmpfs -o size=16k,mode=700 full "$0" || exit 1
		head -c 100000 /dev/zero >"$0/fill" 2>/dev/null; exec "$@"' "$state")
	start_daemon 5 --state-dir "$state"
	DAEMON_WITH=()
	wait_all_nodes $N
	wait_line daemon5.log 'state\|space\|full'
	for k in 1 5; do
		assert_eq "own5=5" "$(run_on $k -- "$TCP" count 10.0.2.5 80 5)"
	done
	restart_node 5
}

part_clocks()
{
	local fake
	fake=$(find /usr/lib -name libfaketime.so.1 2>/dev/null | head -n 1)
	[ -n "$fake" ] || fail "faketime is not installed (see tests/integration/packages.txt)"
	check "clocks 10 s apart, either way: all works"
	for skew in +10 -10; do
		DAEMON_WITH=(env "LD_PRELOAD=$fake" "FAKETIME=$skew" FAKETIME_DONT_FAKE_MONOTONIC=1)
		restart_node 5
		DAEMON_WITH=()
		wait_all_nodes $N
		wait_service 1 10.0.2.5 80
		assert_eq "own5=5" "$(run_on 1 -- "$TCP" count 10.0.2.5 80 5)" "to the host $skew s off"
		assert_eq "own1=5" "$(run_on 5 -- "$TCP" count 10.0.2.1 80 5)" "from the host $skew s off"
	done
	check "two minutes apart: no connection, and the log says why"
	lines=$(cat "$T"/daemon[15].log | wc -l)
	DAEMON_WITH=(env "LD_PRELOAD=$fake" FAKETIME=+120 FAKETIME_DONT_FAKE_MONOTONIC=1)
	restart_node 5
	DAEMON_WITH=()
	wait_all_nodes $N
	wait_service 1 10.0.2.5 80
	got=$(run_on 1 -- "$TCP" count 10.0.2.5 80 3 || :)
	[[ $got != *own5* ]] || fail "a hello two minutes old was taken: $got"
	said() { cat "$T"/daemon[15].log | tail -n "+$((lines + 1))" | grep -i clock; }
	wait_for "a word about the clock" said
	restart_node 5
}

healthy
for part in ${PARTS:-daemon crash partition one_way loss key rotation name copy address flapping full_disk clocks}; do
	"part_$part"
	healthy
done
