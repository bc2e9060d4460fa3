#!/bin/bash
# kill -9 of the daemon at any moment, started again: nobody notices.
. "${0%/*}/../lib/lib.sh"
need python3 jq nginx wrk redis-server redis-cli
need_switch "about the daemon"
require_seccomp_notify
KILLS=${KILLS:-100}
SEED=${SEED:-$RANDOM}
say "SEED=$SEED KILLS=$KILLS"
RANDOM=$SEED
start_daemon --node n1

app server --ip 10.0.0.5 --name srv --tag role=x -- "$TCP" serve 80 server
wait_port 10.0.0.5 80
mkfifo "$T/lines" "$T/go"
exec {lines}<>"$T/lines"
"$APPSWITCH" run --ip 10.0.0.6 -- "$TCP" hold 10.0.0.5 80 <"$T/lines" >"$T/hold.out" &
PID[hold]=$!
ORDER+=(hold)
wait_line hold.out '^server'
app late --ip 10.0.0.7 -- bash -c \
	'echo inside; read -r _ <"$0"; exec "$1" ask 10.0.0.5 80' "$T/go" "$TCP"
wait_line late.log '^inside'

state()
{
	get services | jq -S 'map(del(.connections)) | sort_by(.vip, .port, .app)'
	get apps | jq -S 'sort_by(.id)'
	get connections | jq -S 'map(del(.age_s)) | sort_by(.client)'
}
state_is() { state >"$T/state2" && cmp -s "$T/state" "$T/state2"; }

check "an open connection, a parked accept and a connect meanwhile survive a kill"
state >"$T/state"
kill_daemon
echo "without a daemon" >&"$lines"
wait_line hold.out '^without a daemon$'
echo >"$T/go"
if [ "$(id -u)" = 0 ]; then
	trapped() { grep -q seccomp "/proc/${PID[late]}/wchan" ||
		grep -q '^42 ' "/proc/${PID[late]}/syscall"; }
	wait_for "the late client is in connect()" trapped
fi
alive late || fail "the late client did not wait: $(cat "$T/late.log")"
start_daemon --node n1
await late
assert_eq 0 "$STATUS" "the late client: $(cat "$T/late.log")"
assert_contains "$(cat "$T/late.log")" "server peer=10.0.0.7,"

check "get shows the same as before"
gone() { get apps | jq -e 'length == 2'; }
jq -s -S '.[0] | length' "$T/state" >/dev/null
wait_for "the late app to be gone" gone
# the late app was there before and has ended since
{
	jq -s -S '.[0]' "$T/state"
	jq -s -S '.[1] | map(select(.ips | tostring | contains("10.0.0.7") | not))' "$T/state"
	jq -s -S '.[2]' "$T/state"
} >"$T/state1" && mv "$T/state1" "$T/state"
state_is || fail "get differs: $(diff "$T/state" "$T/state2")"

check "10 kills in a row, as fast as it starts"
for _ in {1..10}; do
	kill_daemon
	start_daemon --node n1
done
state_is || fail "get differs: $(diff "$T/state" "$T/state2")"
assert_contains "$(run --no-embedded -- "$TCP" ask 10.0.0.5 80)" "server "
echo "and after" >&"$lines"
wait_line hold.out '^and after$'

check "killed before it is ready"
for _ in {1..10}; do
	kill_daemon
	"$APPSWITCH" daemon >>"$T/daemon.log" 2>&1 &
	PID[daemon]=$!
	sleep "0.00$((RANDOM % 10))"
done
kill_daemon
start_daemon --node n1
state_is || fail "get differs: $(diff "$T/state" "$T/state2")"

check "$KILLS kills at random instants under load: no call fails"
mkdir "$T/www" "$T/ng"
chmod 711 "$T" # root's nginx workers are another user
head -c 20000 /dev/urandom | base64 -w0 >"$T/www/page"
cat >"$T/nginx.conf" <<END
worker_processes 2; daemon off; pid $T/ng/pid; error_log stderr;
events { worker_connections 512; }
http { access_log off; root $T/www; $(nginx_temp "$T/ng")
	server { listen 80; } }
END
app nginx --ip 10.0.1.1 -- nginx -e stderr -p "$T/ng" -c "$T/nginx.conf"
app redis --ip 10.0.1.2 -- redis-server --port 6379 --bind 0.0.0.0 --save '' --protected-mode no \
	--dir "$T"
wait_port 10.0.1.1 80
wait_port 10.0.1.2 6379
app keep --ip 10.0.2.1 -- bash -c 'for ((;;)); do
	wrk -t1 -c8 -d2 --timeout 20s http://10.0.1.1/page || exit 1
	[ ! -e "$0/done" ] || break; done' "$T"
app close --ip 10.0.2.2 -- bash -c 'for ((;;)); do
	wrk -t1 -c4 -d2 --timeout 20s -H "Connection: close" http://10.0.1.1/page || exit 1
	[ ! -e "$0/done" ] || break; done' "$T"
app block1 --ip 10.0.2.3 -- "$TCP" loop 10.0.0.5 80 --until "$T/done"
app block2 --ip 10.0.2.4 -- "$TCP" loop 10.0.0.5 80 --until "$T/done"
app rcli --ip 10.0.2.5 -- bash -c 'n=0
	until [ -e "$0/done" ]; do
		n=$((n + 1)); got=$(redis-cli -h 10.0.1.2 incr k)
		[ "$got" = "$n" ] || { echo "want $n, got $got"; exit 1; }
	done; echo "ok $n"' "$T"
clients=(keep close block1 block2 rcli)
nine() { get apps | jq -e 'length == 9'; } # a run without a daemon would start an embedded one
wait_for "all apps" nine
for ((k = 1; k <= KILLS; k++)); do
	sleep "$(printf 0.%03d $((RANDOM % 400)))" # the random instant
	kill_daemon
	start_daemon --node n1
	for c in "${clients[@]}" nginx redis server hold; do
		alive "$c" || fail "kill $k: $c ended: $(tail -n 3 "$T/$c.log")"
	done
done
touch "$T/done"
for c in "${clients[@]}"; do
	await "$c" 30000
	assert_eq 0 "$STATUS" "$c: $(tail -n 3 "$T/$c.log")"
done
for c in keep close; do
	! grep -E 'Socket errors|Non-2xx' "$T/$c.log" || fail "wrk had errors"
	say "wrk ($c): $(awk '/requests in/ { n += $1 } END { print n }' "$T/$c.log") requests"
done
for c in block1 block2 rcli; do
	say "$c: $(cat "$T/$c.log")"
done
echo "to the end" >&"$lines"
wait_line hold.out '^to the end$'
say "daemon: $(grep -c . "$T/daemon.log") lines of log, $(find "/proc/${PID[daemon]}/fd" -mindepth 1 | wc -l) fds"
