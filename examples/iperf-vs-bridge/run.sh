#!/bin/bash
# iperf3 between two namespaces on a Linux bridge, and between two programs on appswitch:
# the same iperf3, taking turns, over message sizes from 128 bytes to 1 MB.
#
#   examples/iperf-vs-bridge/run.sh            the full figure, about three minutes
#   examples/iperf-vs-bridge/run.sh --short    three sizes, one second each
#     --rounds N   turns of each (3)     --seconds N   of one iperf3 (2)
#     --out DIR    where iperf-vs-bridge.csv and .png go (the current directory)
#
# Needs root (for the bridge), iperf3, iproute2, python3, and gnuplot for the picture. The bridge
# and everything on it live in namespaces of their own, which are removed at the end.
# The binary is $APPSWITCH, else build/appswitch of this repository, else the installed one.
set -euo pipefail

here=$(cd "${BASH_SOURCE[0]%/*}" && pwd)
SIZES=(128 512 1024 4096 16384 65536 131072 262144 1048576)
ROUNDS=3 SECONDS_EACH=2 OUT=$PWD
SERVER=10.79.0.5 CLIENT=10.79.0.6 PORT=5201

usage() {
	sed -n '2,12s/^# \{0,1\}//p' "$0"
	exit "$1"
}
while [ $# -gt 0 ]; do
	case $1 in
	--short) SIZES=(1024 16384 131072) ROUNDS=1 SECONDS_EACH=1 ;;
	--rounds) ROUNDS=$2 && shift ;;
	--seconds) SECONDS_EACH=$2 && shift ;;
	--out) OUT=$2 && shift ;;
	-h | --help) usage 0 ;;
	*) usage 2 ;;
	esac
	shift
done

APPSWITCH=${APPSWITCH:-$here/../../build/appswitch}
[ -x "$APPSWITCH" ] || APPSWITCH=$(command -v appswitch) || {
	echo "no appswitch: build it first (cmake --preset gcc && cmake --build --preset gcc)"
	exit 1
}
[ "$(id -u)" = 0 ] || {
	echo "root is needed to build a bridge to compare with; appswitch itself needs none"
	exit 1
}
for tool in iperf3 ip python3; do
	command -v $tool >/dev/null || {
		echo "$tool is missing: apt-get install iperf3 iproute2 python3 gnuplot-nox"
		exit 1
	}
done

T=$(mktemp -d "${TMPDIR:-/tmp}/iperf-vs-bridge.XXXXXX")
SW=ivb$$s A=ivb$$a B=ivb$$b # three namespaces: the bridge, a server, a client
PIDS=()
on_exit() {
	local p n
	for p in "${PIDS[@]}"; do kill "$p" 2>/dev/null || true; done
	for p in "${PIDS[@]}"; do wait "$p" 2>/dev/null || true; done
	# the embedded daemon ends a moment after its last app
	for ((p = 0; p < 50; p++)); do [ -S "$T/appswitch.sock" ] && sleep 0.1; done
	for n in "$SW" "$A" "$B"; do ip netns del "$n" 2>/dev/null || true; done
	rm -rf "$T"
}
trap on_exit EXIT
trap 'exit 1' INT TERM HUP

make_bridge() {
	local n
	for n in "$SW" "$A" "$B"; do
		ip netns add "$n"
		ip -n "$n" link set lo up
	done
	ip -n $SW link add br0 type bridge
	ip -n $SW link set br0 up
	ip -n $SW link add pa type veth peer name eth0 netns "$A"
	ip -n $SW link add pb type veth peer name eth0 netns "$B"
	ip -n $SW link set pa master br0 up
	ip -n $SW link set pb master br0 up
	ip -n $A addr add $SERVER/24 dev eth0
	ip -n $B addr add $CLIENT/24 dev eth0
	ip -n $A link set eth0 up
	ip -n $B link set eth0 up
}

# What stands before a command on each side. All of them exec in place: $! is the command.
# shellcheck disable=SC2034 # used by name
bridge_server=(ip netns exec "$A") bridge_client=(ip netns exec "$B")
# shellcheck disable=SC2034
switch_server=("$APPSWITCH" run --ip "$SERVER" --) switch_client=("$APPSWITCH" run --ip "$CLIENT" --)

# The server of a side; returns when a client there can connect.
serve() {
	local i
	local -n server=$1_server client=$1_client
	"${server[@]}" timeout 3600 iperf3 -s -p $PORT >"$T/server.$1" 2>&1 &
	PIDS+=($!)
	for ((i = 0; i < 100; i++)); do
		"${client[@]}" bash -c "exec 3<>/dev/tcp/$SERVER/$PORT" 2>/dev/null && return
		sleep 0.1
	done
	echo "the iperf3 server does not answer ($1):"
	cat "$T/server.$1"
	exit 1
}

# Gbit/s as the receiver counted, appended to the side's file of that size.
measure() {
	local out=$T/iperf.json
	local -n client=$1_client
	"${client[@]}" timeout $((SECONDS_EACH + 20)) \
		iperf3 -J -c $SERVER -p $PORT -l "$2" -t "$SECONDS_EACH" >"$out" || {
		echo "iperf3 failed ($1, $2 bytes):"
		cat "$out"
		exit 1
	}
	python3 -c 'import json, sys
print(json.load(open(sys.argv[1]))["end"]["sum_received"]["bits_per_second"] / 1e9)' "$out" >>"$T/$1.$2"
}
median() { sort -g "$1" | awk '{v[NR] = $1} END {print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2}'; }
human() { if [ "$1" -ge 1048576 ]; then echo "$(($1 / 1048576))M"; elif [ "$1" -ge 1024 ]; then echo "$(($1 / 1024))K"; else echo "$1"; fi; }

export APPSWITCH_SOCKET=$T/appswitch.sock # a daemon of our own, which ends with the server
make_bridge
serve bridge
serve switch

csv=$OUT/iperf-vs-bridge.csv
echo "bytes,bridge_gbit_s,appswitch_gbit_s,ratio" >"$csv"
echo "iperf3, one stream, Gbit/s; the median of $ROUNDS turn(s) of $SECONDS_EACH s each"
printf '%10s %10s %10s %8s\n' message bridge appswitch ratio
for size in "${SIZES[@]}"; do
	for ((i = 0; i < ROUNDS; i++)); do
		if ((i % 2)); then
			measure switch "$size"
			measure bridge "$size"
		else
			measure bridge "$size"
			measure switch "$size"
		fi
	done
	b=$(median "$T/bridge.$size") s=$(median "$T/switch.$size")
	ratio=$(awk -v b="$b" -v s="$s" 'BEGIN {printf "%.2f", s / b}')
	printf '%10s %10.2f %10.2f %7sx\n' "$(human "$size")" "$b" "$s" "$ratio"
	echo "$size,$b,$s,$ratio" >>"$csv"
done
echo "numbers: $csv"

command -v gnuplot >/dev/null || {
	echo "no gnuplot, no picture: apt-get install gnuplot-nox"
	exit 0
}
png=$OUT/iperf-vs-bridge.png
gnuplot <<PLOT
set terminal pngcairo size 900,560 font "sans,12"
set output "$png"
set datafile separator ","
set title "Throughput against message size: appswitch and a Linux bridge, one host"
set xlabel "message size (bytes)"
set ylabel "Gbit/s"
set logscale x 2
set xtics ("128" 128, "512" 512, "1K" 1024, "4K" 4096, "16K" 16384, "64K" 65536, "128K" 131072, "256K" 262144, "1M" 1048576)
set yrange [0:*]
set grid
set key left top
plot "$csv" using 1:3 every ::1 with linespoints lw 2 pt 7 title "appswitch", \
     "$csv" using 1:2 every ::1 with linespoints lw 2 pt 5 title "Linux bridge"
PLOT
echo "picture: $png"
