#!/bin/bash
# Two hosts, a service on one and its client on the other: what the README shows, typed by a script.
#
#   examples/two-hosts.sh      as root or as an ordinary user
#
# The hosts are network namespaces joined by a cable (a veth pair), each with a name, a /run and
# a /var/lib of its own. They end with the script, and nothing is left of them. Needs redis-server and
# redis-cli (Debian: redis-server redis-tools), iproute2 and util-linux.
# The binary is $APPSWITCH, else build/appswitch of this repository, else the installed one.
set -euo pipefail

if [ "$(id -u)" != 0 ]; then
	# root of a user namespace, and of nothing else
	exec unshare -Urnm --propagation private bash "$0" "$@"
fi
here=$(cd "${BASH_SOURCE[0]%/*}" && pwd)
APPSWITCH=${APPSWITCH:-$here/../build/appswitch}
[ -x "$APPSWITCH" ] || APPSWITCH=$(command -v appswitch) || {
	echo "no appswitch: build it first (cmake --preset gcc && cmake --build --preset gcc)"
	exit 1
}
for tool in redis-server redis-cli ip nsenter unshare; do
	command -v $tool >/dev/null || {
		echo "$tool is missing: apt-get install redis-server redis-tools iproute2 util-linux"
		exit 1
	}
done

bold() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || bold() { printf '\n%s\n' "$*"; }

T=$(mktemp -d "${TMPDIR:-/tmp}/appswitch-two-hosts.XXXXXX")
declare -A HOST=()
STARTED=()
on_exit() {
	local i
	# the app before its daemon, which then has nobody to keep a holder for
	for ((i = ${#STARTED[@]} - 1; i >= 0; i--)); do
		kill "${STARTED[i]}" 2>/dev/null || true
		wait "${STARTED[i]}" 2>/dev/null || true
	done
	rm -rf "$T"
}
trap on_exit EXIT
trap 'exit 1' INT TERM HUP

# at HOST: AT is what stands before a command of that host, which is then executed in place.
AT=()
at() { AT=(nsenter -t "${HOST[$1]}" -n -u -m --wdns="$T/$1" -- env "PATH=$T/bin:$PATH"); }
on() {
	at "$1"
	shift
	"${AT[@]}" "$@"
}
prompt() {
	local host=$1 words
	shift
	printf -v words ' %s' "$@"
	echo "host$host\$$words"
}
# Says what it runs, then runs it.
show() {
	prompt "$@"
	on "$@"
}
# The same in the background; what it prints is in a file.
start() {
	prompt "$@" '&'
	at "$1"
	shift
	"${AT[@]}" "$@" >>"$T/log" 2>&1 </dev/null &
	STARTED+=($!)
}
# until_says WHAT HOST COMMAND...: until its output has the pattern.
until_says() {
	local i what=$1
	shift
	for ((i = 0; i < 150; i++)); do
		if on "$@" 2>/dev/null | grep -qE "$what"; then return; fi
		sleep 0.1
	done
	echo "no '$what' from: ${*:2}"
	cat "$T/log"
	exit 1
}

new_host() {
	local host=$1
	mkdir "$T/$host"
	mkfifo "$T/$host.up"
	# shellcheck disable=SC2016 # for the inner shell
	unshare -n -u -m --propagation private sh -c '
		hostname "host$0" && ip link set lo up &&
		mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib &&
		echo up >"$1" && exec sleep infinity' "$host" "$T/$host.up" &
	HOST[$host]=$!
	STARTED+=($!)
	read -r -t 20 _ <>"$T/$host.up" || {
		echo "no namespaces for a host"
		exit 1
	}
}
unset APPSWITCH_SOCKET # each host has its own, at the default path
mkdir "$T/bin"
ln -s "$(realpath "$APPSWITCH")" "$T/bin/appswitch"
new_host A
new_host B
on A ip link add eth0 type veth peer name eth0 netns "${HOST[B]}"
on A ip addr add 192.0.2.1/24 dev eth0
on B ip addr add 192.0.2.2/24 dev eth0
on A ip link set eth0 up
on B ip link set eth0 up

bold "1. A key for the cluster, the same file on both hosts"
show A appswitch keygen cluster.key
cp -p "$T/A/cluster.key" "$T/B/cluster.key"

bold "2. A daemon on each; one address is enough to find the others"
start A appswitch daemon --listen 192.0.2.1 --key-file cluster.key
start B appswitch daemon --listen 192.0.2.2 --key-file cluster.key --join 192.0.2.1
until_says 'hostA +alive' B appswitch get nodes
until_says 'hostB +alive' A appswitch get nodes
show B appswitch get nodes

bold "3. A server on one host"
start A appswitch run --ip 10.0.0.5 --name db -- redis-server --protected-mode no
until_says '10\.0\.0\.5 +6379' B appswitch get services
show B appswitch get services

bold "4. Clients on the other; with the same address, by 127.0.0.1 too"
show B appswitch run -- redis-cli -h 10.0.0.5 set greeting hello
show B appswitch run --ip 10.0.0.5 -- redis-cli -h 127.0.0.1 get greeting

bold "5. No new connections to host A, the open ones go on"
show A appswitch drain
until_says '6379 .* draining' B appswitch get services
show B appswitch run -- redis-cli -h 10.0.0.5 ping || true
show A appswitch undrain
until_says '6379 .* up' B appswitch get services
show B appswitch run -- redis-cli -h 10.0.0.5 ping
