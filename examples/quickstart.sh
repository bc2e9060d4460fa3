#!/bin/bash
# Shows appswitch on a bare Debian 12 in two minutes: installs what it needs (as root), builds,
# runs a web server and a client with addresses of their own, and compares with a Linux bridge.
#
#   sudo examples/quickstart.sh      or, if the build tools are there: examples/quickstart.sh
#
# Nothing is installed but packages, and nothing is left running.
set -euo pipefail
cd "${BASH_SOURCE[0]%/*}/.."

BUILD=(gcc cmake ninja-build pkg-config libc6-dev libseccomp-dev libuv1-dev libjansson-dev
	libssl-dev)
DEMO=(python3 curl)
BRIDGE=(iperf3 iproute2 gnuplot-nox)
VIP=10.0.0.5 PORT=80

bold() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || bold() { printf '\n%s\n' "$*"; }
# Says what it runs, then runs it.
show() {
	local words
	words=$(printf ' %q' "$@")
	echo "\$${words//"$APPSWITCH"/appswitch}"
	"$@"
}

T=$(mktemp -d "${TMPDIR:-/tmp}/appswitch-quickstart.XXXXXX")
SERVER_PID=
on_exit() {
	if [ -n "$SERVER_PID" ]; then
		kill "$SERVER_PID" 2>/dev/null || true
		wait "$SERVER_PID" 2>/dev/null || true
	fi
	rm -rf "$T"
}
trap on_exit EXIT
trap 'exit 1' INT TERM HUP

packages() {
	local p missing=() wanted=("${BUILD[@]}" "${DEMO[@]}")
	[ "$(id -u)" != 0 ] || wanted+=("${BRIDGE[@]}")
	command -v dpkg-query >/dev/null || return 0
	for p in "${wanted[@]}"; do
		[ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] ||
			missing+=("$p")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$(id -u)" != 0 ]; then
		echo "These packages are missing; as root: apt-get install ${missing[*]}"
		exit 1
	fi
	echo "apt-get install ${missing[*]}"
	apt-get -qq update
	echo 'iperf3 iperf3/start_daemon boolean false' | debconf-set-selections 2>/dev/null || true
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends \
		"${missing[@]}" >"$T/log" 2>&1 || {
		tail -20 "$T/log"
		exit 1
	}
}

build() {
	local dir=${APPSWITCH_BUILD_DIR:-build}
	{
		cmake -S . -B "$dir" -G Ninja -DBUILD_TESTING=OFF &&
			cmake --build "$dir" --target appswitch
	} >"$T/log" 2>&1 || {
		tail -40 "$T/log"
		exit 1
	}
	APPSWITCH=$PWD/$dir/appswitch
}

bold "1. Packages and build"
packages
if [ -z "${APPSWITCH:-}" ]; then
	build
fi
export APPSWITCH APPSWITCH_SOCKET=$T/appswitch.sock
"$APPSWITCH" version

bold "2. Can this machine run it?"
show "$APPSWITCH" doctor || {
	echo "'run' cannot work here; the lines above say why."
	exit 1
}

bold "3. A web server that believes it is $VIP"
mkdir "$T/www"
echo "hello from $VIP" >"$T/www/index.html"
echo "\$ appswitch run --ip $VIP --name web -- python3 -m http.server $PORT &"
"$APPSWITCH" run --ip $VIP --name web -- \
	python3 -m http.server -d "$T/www" $PORT >"$T/server.log" 2>&1 &
SERVER_PID=$!
for ((i = 0; ; i++)); do
	"$APPSWITCH" get services 2>/dev/null | grep -q "$VIP" && break
	if [ $i -ge 100 ] || ! kill -0 $SERVER_PID 2>/dev/null; then
		echo "the server did not start:"
		cat "$T/server.log"
		exit 1
	fi
	sleep 0.1
done
bold "4. A client finds it by that address"
show "$APPSWITCH" run -- curl -sS "http://$VIP:$PORT/"

bold "5. The service table knows where it is"
show "$APPSWITCH" get services
echo
show "$APPSWITCH" get apps

bold "6. What is not there is refused as by a kernel"
for at in "$VIP 81" "10.0.0.99 80"; do # nobody listens there; nobody has that address
	read -r ip port <<<"$at"
	echo "connect to $ip:$port"
	"$APPSWITCH" run -- python3 -c 'import socket, sys
try: socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
except OSError as e: print(e.strerror)' "$ip" "$port"
done
echo "Port $PORT of the host itself was never touched: the server lives in an empty network."

kill $SERVER_PID
wait $SERVER_PID 2>/dev/null || true
SERVER_PID=

if [ "$(id -u)" = 0 ]; then
	bold "7. How fast? iperf3 against two namespaces on a Linux bridge"
	examples/iperf-vs-bridge/run.sh --short --out "$T"
	echo "The full figure with a picture: examples/iperf-vs-bridge/run.sh"
else
	bold "7. How fast?"
	echo "As root, examples/iperf-vs-bridge/run.sh compares with a Linux bridge."
fi
bold "Next"
echo "appswitch run [--ip ADDR] -- COMMAND   any program   (appswitch help run)"
echo "appswitch daemon                       one daemon for the whole host"
