#!/bin/bash
# Many apps on one host, each with its own VIP, all on the same port.
. "${0%/*}/../lib/lib.sh"
need jq
require_seccomp_notify
N=20
start_daemon
for ((i = 1; i <= N; i++)); do
	app "s$i" --ip "10.0.1.$i" -- "$TCP" serve 80 "server$i"
done
for ((i = 1; i <= N; i++)); do
	wait_port "10.0.1.$i" 80
done

check "each of $N servers answers on its own VIP, with the right addresses on both ends"
run --ip 10.0.1.200 -- bash -c '
	for ((i = 1; i <= $1; i++)); do "$0" ask "10.0.1.$i" 80; done' "$TCP" $N >"$T/got"
assert_eq $N "$(wc -l <"$T/got")"
i=0
while read -r who peer lcl server me; do
	i=$((i + 1))
	assert_eq "server$i" "$who"
	assert_eq "peer=10.0.1.200" "${peer%,*}"
	assert_eq "me=${peer#peer=}" "$me" "what the client and the server call the client"
	assert_eq "local=10.0.1.$i,80" "$lcl"
	assert_eq "server=10.0.1.$i,80" "$server"
done <"$T/got"

check "each server reaches every other one"
run --ip 10.0.1.7 -- bash -c 'for ((i = 1; i <= $1; i++)); do "$0" ask "10.0.1.$i" 80; done' \
	"$TCP" $N >"$T/got"
assert_eq $N "$(sort -u "$T/got" | wc -l)"

check "an ended server is refused, the others go on"
stop s3
assert_eq "connect ECONNREFUSED" "$(run --ip 10.0.1.3 -- "$TCP" ask 10.0.1.3 80 || :)"
assert_contains "$(run -- "$TCP" ask 10.0.1.4 80)" "server4 "

check "a socket whose listen() failed is as good as before"
assert_eq "EADDRINUSE well" "$(run --ip 10.0.2.1 -- timeout 20 /usr/bin/python3 -c '
import errno, socket
private = socket.create_server(("127.0.0.1", 90))
a, b = socket.socket(), socket.socket()
for s in a, b:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("", 80))
a.listen()
try:
    b.listen()
except OSError as e:
    print(errno.errorcode[e.errno], end=" ")
b.connect(("127.0.0.1", 90))
private.accept()[0].sendall(b"well")
print(b.recv(10).decode())
')"
