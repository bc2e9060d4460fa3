#!/bin/bash
# What the daemon and keygen refuse about a cluster: one line, the right status, nothing made.
. "${0%/*}/../lib/lib.sh"
need jq
need_switch "about the command line"
require_seccomp_notify
umask 077
D=$T/d
mkdir "$D"
cd "$D"

# refused STATUS PART COMMAND...: one line with PART in it; no file is made
refused()
{
	local status=$1 part=$2 before
	shift 2
	before=$(find "$T" -name err -o -name out -o -print | sort)
	expect_status "$status" timeout 20 "$APPSWITCH" "$@"
	assert_eq 1 "$(wc -l <"$T/err")" "lines of the message of '$*': $(cat "$T/err")"
	assert_contains "$(cat "$T/err")" "$part" "what '$*' says"
	assert_eq "" "$(cat "$T/out")" "output of '$*'"
	assert_eq "$before" "$(find "$T" -name err -o -name out -o -print | sort)" "files after '$*'"
}
touch "$T/err" "$T/out"
own_apps() { get nodes | jq -e --argjson n "$1" 'map(.apps) == [$n]'; }

check "keygen: a key of 64 hex digits, for its owner only"
"$APPSWITCH" keygen "$D/keys"
assert_eq 600 "$(stat -c %a "$D/keys")"
grep -qxE '[0-9a-f]{64}' "$D/keys" || fail "no key: $(cat "$D/keys")"
assert_eq 1 "$(wc -l <"$D/keys")"
"$APPSWITCH" keygen - >>"$D/keys"
assert_eq 2 "$(sort -u "$D/keys" | grep -cxE '[0-9a-f]{64}')" "different keys in the file"

check "keygen: a file that is there is left as it is; wrong use"
before=$(cat "$D/keys")
refused 1 "there already" keygen "$D/keys"
assert_eq "$before" "$(cat "$D/keys")"
refused 1 "No such file" keygen "$D/none/keys"
refused 2 "where to" keygen
refused 2 "unexpected" keygen a b
refused 2 "empty" keygen ""
refused 2 "unknown option" keygen --force

check "what says something about a cluster needs --listen"
for o in "--join 127.0.0.1" "--advertise 127.0.0.1" "--key-file $D/keys" "--zone a" "--state-dir $D/st"; do
	# shellcheck disable=SC2086 # an option and its value
	refused 2 "${o%% *} needs --listen" daemon $o
done

check "--listen: an address, and one that others can reach"
for bad in localhost 10.0.0.1:0 10.0.0.1:65536 10.0.0.1:x 10.0.0 "[10.0.0.1]:80" "[fd00::1" "10.0.0.1:6660 "; do
	refused 2 "must be ADDR or ADDR:PORT" daemon --listen "$bad"
done
refused 2 "must not be empty" daemon --listen ""
refused 2 "must be required or optional" daemon --listen 127.0.0.1 --guard off
refused 2 "more than one host" daemon --listen 224.0.0.1
refused 2 "link-local" daemon --listen fe80::1
for any in 0.0.0.0 :: "[::]:7000"; do
	refused 2 "give --advertise" daemon --listen "$any"
done
refused 2 "names no host" daemon --listen 0.0.0.0 --advertise 0.0.0.0
refused 2 "must be ADDR" daemon --listen 0.0.0.0 --advertise host
refused 2 "a daemon that stays" daemon --embedded --listen 127.0.0.1

check "--join: an address, or one file of them that can be read"
refused 2 "must be ADDR" daemon --listen 127.0.0.1 --join host
refused 2 "names no host" daemon --listen 127.0.0.1 --join 127.0.0.1 --join ::
refused 2 "after the @" daemon --listen 127.0.0.1 --join @
refused 1 "No such file" daemon --listen 127.0.0.1 --join "@$D/none"
printf '# two\n127.0.0.1\n[::1]:7000\n' >"$D/seeds"
refused 2 "once" daemon --listen 127.0.0.1 --join "@$D/seeds" --join "@$D/seeds"
echo elsewhere >>"$D/seeds"
refused 1 "$D/seeds:4: 'elsewhere'" daemon --listen 127.0.0.1 --join "@$D/seeds"
mkfifo "$D/fifo"
refused 1 "not a regular file" daemon --listen 127.0.0.1 --join "@$D/fifo"
sed -i '$d' "$D/seeds"

check "--key-file: keys, and a file of the owner only"
refused 1 "No such file" daemon --listen 127.0.0.1 --key-file "$D/none"
(umask 0 && echo >"$D/open")
chmod 640 "$D/open"
refused 1 "chmod 600" daemon --listen 127.0.0.1 --key-file "$D/open"
echo "not a key" >"$D/bad"
refused 1 "$D/bad:1: a key is 64 hex digits" daemon --listen 127.0.0.1 --key-file "$D/bad"
refused 1 "$D/seeds:2: " daemon --listen 127.0.0.1 --key-file "$D/seeds"

check "--zone: a name"
for bad in "a b" a/b "$(printf 'z%.0s' {1..65})"; do
	refused 2 "at most 64" daemon --listen 127.0.0.1 --zone "$bad"
done

if [ "$(id -u)" != 0 ]; then
	check "no default for the state directory: --state-dir is asked for"
	(
		unset HOME XDG_STATE_HOME
		refused 1 "give --state-dir" daemon --listen 127.0.0.1
	)
fi

check "the same in the configuration, with the line"
try() # PART JSON
{
	echo "$2" >"$D/c.json"
	refused 1 "$D/c.json:2: '$1" daemon --config "$D/c.json"
}
try "listen' must be ADDR" '{
"listen": "host"}'
try "listen' must be a string" '{
"listen": 6660}'
try "join' must be ADDR" '{
"join": "host"}'
try "join' must be ADDR" '{
"join": ["127.0.0.1", "host"]}'
try "join' must be a string or an array" '{
"join": ["127.0.0.1", 7]}'
try "join' must be a string or an array" '{
"join": {}}'
try "zone' must be at most 64" '{
"zone": "a/b"}'
try "keyfile' is an unknown key" '{
"keyfile": "x"}'
try "guard' must be required or optional" '{
"guard": "no"}'
try "state-dir' must not be empty" '{
"state-dir": ""}'
echo '{"join": ["127.0.0.1"]}' >"$D/c.json"
refused 2 "--join needs --listen" daemon --config "$D/c.json"
echo '{"listen": "0.0.0.0", "join": []}' >"$D/c.json"
refused 2 "give --advertise" daemon --config "$D/c.json"

check "what is right starts, from the command line and from the configuration"
start_ready daemon "$APPSWITCH" daemon --ready-fd 3 --listen 127.0.0.1:17660 --join 127.0.0.1:17661 \
	--join '[::1]:17662' --join "@$D/seeds" --key-file "$D/keys" --zone a --state-dir "$D/st" \
	--guard optional
assert_eq 1 "$(get nodes | jq 'map(select(.state == "alive")) | length')" "nodes"

check "the own row counts the own apps; SIGHUP reads the keys again and says how many"
app sleeper -- sleep 60
wait_for "an app" own_apps 1
stop sleeper
wait_for "no app" own_apps 0
kill -HUP "${PID[daemon]}"
wait_line daemon.log "/keys was read again: 2 keys"
stop_daemon
cat >"$D/c.json" <<-EOF
	{"listen": "0.0.0.0:17660", "advertise": "127.0.0.1", "join": ["127.0.0.1:17661", "@$D/seeds"],
	 "key-file": "$D/keys", "zone": "a", "state-dir": "$D/st", "guard": "optional"}
EOF
start_daemon --config "$D/c.json"
stop_daemon

check "the command line wins: its --join replaces those of the configuration"
echo '{"listen": "127.0.0.1:17660", "join": "@/none", "state-dir": "'"$D/st"'", "guard": "optional"}' >"$D/c.json"
refused 1 "/none: No such file" daemon --config "$D/c.json"
start_daemon --config "$D/c.json" --join 127.0.0.1:17661
stop_daemon
