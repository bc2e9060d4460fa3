#!/bin/bash
# Five hosts: what one serves the others reach, with both addresses right, and all know the same.
. "${0%/*}/../lib/lib.sh"
. "${0%/*}/../lib/hosts.sh"
need python3 curl redis-server redis-cli
need_cluster
hosts 5
for k in {1..5}; do
	start_daemon "$k" --zone "z$((k % 2))"
done

check "every node sees all five, with address, zone and version"
wait_all_nodes 5
for k in {1..5}; do
	get_on "$k" nodes >"$T/json"
	for n in {1..5}; do
		jq -e --arg n "h$n" --arg a "10.99.0.$n" --arg z "z$((n % 2))" '[.[] | select(.name == $n)] |
			length == 1 and (.[0] | (.address | contains($a)) and .zone == $z and .version != null)' \
			"$T/json" >/dev/null || fail "host $k about h$n: $(jq -c . "$T/json")"
	done
done

mkdir "$T/www"
head -c 300000 /dev/urandom >"$T/www/file"
app_on 1 web --ip 10.0.0.5 --ip fd00::5 -- /usr/bin/python3 -m http.server --bind :: \
	--directory "$T/www" 80
app_on 2 redis --ip 10.0.0.6 -- redis-server --port 6379 --bind 0.0.0.0 --save '' \
	--protected-mode no --dir "$T"
app_on 3 names --ip 10.0.0.7 --ip fd00::7 -- "$TCP" serve 8000 names --bind ::
wait_all_services 10.0.0.5 80
wait_all_services 10.0.0.6 6379
wait_all_services 10.0.0.7 8000

check "a file by HTTP, from every host, IPv4 and IPv6"
for k in {1..5}; do
	run_on "$k" -- curl -sSf --max-time 20 http://10.0.0.5/file | cmp - "$T/www/file"
	run_on "$k" -- curl -sSfg --max-time 20 'http://[fd00::5]/file' | cmp - "$T/www/file"
done

check "redis: 1 MB set from one host, read from another"
assert_eq OK "$(run_on 3 -- redis-cli -h 10.0.0.6 -x set blob <"$T/www/file")"
run_on 4 -- redis-cli -h 10.0.0.6 get blob | head -c 300000 | cmp - "$T/www/file"
assert_contains "$(run_on 5 --ip 10.0.1.5 -- redis-cli -h 10.0.0.6 client list)" "addr=10.0.1.5:"

check "getpeername and getsockname at both ends, from every host"
for k in {1..5}; do
	for vips in "10.0.0.7 10.0.1.$k" "fd00::7 fd00::1:$k"; do
		read -r to me <<<"$vips"
		got=$(run_on "$k" --ip "$me" -- "$TCP" ask "$to" 8000) || fail "host $k: $got"
		[[ ${got//::ffff:/} =~ ^"names peer=$me,"([0-9]+)" local=$to,8000 server=$to,8000 me=$me,"([0-9]+)$ ]] ||
			fail "host $k: $got"
		assert_eq "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}" "the client's port as both see it"
	done
done

check "connections all the time from all hosts at once, what comes back compared"
for k in {1..5}; do
	app_on "$k" "load$k" -- "$TCP" loop 10.0.0.7 8000 --seconds 2
done
for k in {1..5}; do
	await "load$k" 30000
	assert_eq 0 "$STATUS" "$(cat "$T/load$k.log")"
	say "host $k: $(cat "$T/load$k.log")"
done

check "one VIP on two hosts is one virtual host: 127.0.0.1 reaches both from a third"
app_on 1 a --ip 10.0.0.8 -- "$TCP" serve 8001 a
app_on 2 b --ip 10.0.0.8 -- "$TCP" serve 8002 b
wait_all_services 10.0.0.8 8001
wait_all_services 10.0.0.8 8002
for to in "8001 a" "8002 b"; do
	got=$(run_on 3 --ip 10.0.0.8 -- "$TCP" ask 127.0.0.1 "${to% *}") || fail "$to: $got"
	assert_eq "${to#* }" "${got%% *}" "$to"
	assert_contains "$got" "server=127.0.0.1,${to% *} "
done
assert_eq "connect ECONNREFUSED" "$(run_on 3 --ip 10.0.0.8 -- "$TCP" ask 127.0.0.1 8003 || :)"
assert_eq "connect ECONNREFUSED" "$(run_on 3 --ip 10.0.0.9 -- "$TCP" ask 127.0.0.1 8001 || :)" \
	"another VIP's loopback"
assert_eq "connect ECONNREFUSED" "$(run_on 3 -- "$TCP" ask 10.0.0.8 8003 || :)" "a port nobody has"

check "two instances: the own host's is preferred, others share"
app_on 4 four --ip 10.0.0.10 -- "$TCP" serve 80 four
app_on 5 five --ip 10.0.0.10 -- "$TCP" serve 80 five
wait_all_services 10.0.0.10 80 2
assert_eq "four=30" "$(run_on 4 -- "$TCP" count 10.0.0.10 80 30)"
assert_eq "five=30" "$(run_on 5 -- "$TCP" count 10.0.0.10 80 30)"
got=$(run_on 1 -- "$TCP" count 10.0.0.10 80 30)
[[ $got =~ ^five=([0-9]+)\ four=([0-9]+)$ ]] || fail "from host 1: $got"
assert_between 5 25 "${BASH_REMATCH[1]}" "of 30 from host 1 at host 5"

check "all five say the same about services"
table() { get_on "$1" services | jq -S 'map({vip, port, node, state, network}) | sort_by(.vip, .port, .node)'; }
same() { table "$1" >"$T/services$1.log" && cmp -s "$T/services1.log" "$T/services$1.log"; }
table 1 >"$T/services1.log"
assert_eq 9 "$(jq length "$T/services1.log")" "services"
for k in {2..5}; do
	wait_for "host $k to say what host 1 says" same "$k"
done

check "networks whose names have the same hash do not meet"
app_on 1 other --ip 10.0.0.20 --network n512789 -- "$TCP" serve 80 other
wait_service 2 10.0.0.20 80
assert_eq "other=1" "$(run_on 2 --network n512789 -- "$TCP" count 10.0.0.20 80 1)"
assert_eq "connect-ECONNREFUSED=1" "$(run_on 3 --network n749192 -- "$TCP" count 10.0.0.20 80 1)"
stop other

check "an instance that ends is forgotten everywhere, and clients go to the other"
stop five
wait_all_services 10.0.0.10 80 1
assert_eq "four=20" "$(run_on 5 -- "$TCP" count 10.0.0.10 80 20)"

check "nobody but an app reaches a service, on its host or elsewhere"
expect_fail on 1 curl -sS --max-time 2 http://10.0.0.5/file
expect_fail on 2 curl -sS --max-time 2 http://10.0.0.5/file

check "bytes that are no hello to the port of a node: ended, and the app is not bothered"
before=$(wc -l <"$T/web.log")
for bytes in 'GET / HTTP/1.0\r\n\r\n' "$(printf 'x%.0s' {1..300})" ''; do
	on 2 timeout 20 bash -c 'exec 3<>/dev/tcp/10.99.0.1/6660; printf "$0" >&3; cat <&3 || :' "$bytes" \
		>"$T/out" 2>/dev/null || [ $? != 124 ] || fail "the connection stays open"
	assert_eq "" "$(cat "$T/out")" "what the node answers"
done
assert_eq "$before" "$(wc -l <"$T/web.log")" "lines in the server's log"

check "a node that leaves is gone at once, with its services, and the others go on"
on 3 "$APPSWITCH" leave
for k in 1 2 4 5; do
	wait_nodes "$k" 4
	wait_service "$k" 10.0.0.7 8000 0
done
run_on 4 -- curl -sSf --max-time 20 http://10.0.0.5/file | cmp - "$T/www/file"
