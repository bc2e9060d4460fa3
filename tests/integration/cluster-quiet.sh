#!/bin/bash
# Nodes that have nothing to say agree and exchange nothing but probes.
. "${0%/*}/../lib/lib.sh"
. "${0%/*}/../lib/hosts.sh"
need python3
need_cluster
hosts 3
for k in 1 2 3; do
	start_daemon $k
done
wait_all_nodes 3
app_on 1 server --ip 10.0.0.5 -- "$TCP" serve 80 server
wait_all_services 10.0.0.5 80

bytes() { on 2 ip -s -j link show eth0 | jq '.[0].stats64.tx.bytes'; }
quiet() # less than 4 kB in a second: a ping and an ack of 150 bytes to and from each, four times a second
{
	local before
	before=$(bytes)
	sleep 1
	sent=$(($(bytes) - before))
	[ "$sent" -lt 4000 ]
}
check "a host with nothing new sends less than 4 kB a second"
wait_for "host 2 to be quiet" quiet
for ((i = 0; i < 3; i++)); do
	quiet || fail "$sent bytes in a second"
done
say "$sent bytes in a second"
