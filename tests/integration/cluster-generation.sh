#!/bin/bash
# A node whose disk and clock went back is known to the others under a generation that it does not
# remember: it takes a higher one while it runs, and is reached under that from then on.
. "${0%/*}/../lib/lib.sh"
. "${0%/*}/../lib/hosts.sh"
need python3
need_cluster
hosts 2

generation() { sed -n 's/^generation //p' "$T/h2/state/node"; }
set_generation() { sed -i "s/^generation .*/generation $1/" "$T/h2/state/node"; }
higher_than() { [ "$(generation)" -gt "$1" ]; }

start_daemon 1
start_daemon 2
wait_all_nodes 2
stop_daemon 2
now=$(generation)

check "a generation far in the future becomes known to the other"
set_generation $((now + 1000000))
start_daemon 2
wait_all_nodes 2
stop_daemon 2
future=$(generation)
assert_between $((now + 1000000)) $((now + 2000000)) "$future" "the generation of the next start"

check "the disk goes back: the node hears of it and takes a higher one"
set_generation "$now"
start_daemon 2
wait_for "a generation above $future" higher_than "$future"
wait_all_nodes 2

check "connections are taken under the generation that was taken"
app_on 2 web --ip 10.0.0.5 -- "$TCP" serve 80 web
wait_all_services 10.0.0.5 80
assert_eq "web=20" "$(run_on 1 -- "$TCP" count 10.0.0.5 80 20)"

check "and the node's own are taken by the other"
app_on 1 other --ip 10.0.0.6 -- "$TCP" serve 80 other
wait_all_services 10.0.0.6 80
assert_eq "other=20" "$(run_on 2 -- "$TCP" count 10.0.0.6 80 20)"
