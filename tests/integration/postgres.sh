#!/bin/bash
# PostgreSQL: initdb, psql, COPY, LISTEN/NOTIFY, cancel, pgbench. As root, run's --user drops to postgres.
. "${0%/*}/../lib/lib.sh"
need psql jq
bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
[ -x "$bin/initdb" ] || skip "postgresql is not installed (see tests/integration/packages.txt)"
require_seccomp_notify
as=() drop=()
if [ "$(id -u)" = 0 ]; then
	getent passwd postgres >/dev/null || skip "no user postgres"
	chmod 711 "$T"
	install -d -o postgres -g postgres "$T/pg" "$T/sock"
	as=(setpriv --reuid postgres --regid postgres --init-groups env "HOME=$T/pg")
	drop=(setpriv --reuid postgres --regid postgres --init-groups)
else
	mkdir "$T/pg" "$T/sock"
fi

check "initdb"
cd /
echo secret | "${as[@]}" tee "$T/pg/pw" >/dev/null
"${as[@]}" timeout 60 "$bin/initdb" -D "$T/pg/data" -U app -A scram-sha-256 --no-sync \
	--pwfile "$T/pg/pw" >"$T/initdb.log" 2>&1
"${as[@]}" tee -a "$T/pg/data/postgresql.conf" >/dev/null <<END
listen_addresses = '*'
unix_socket_directories = '$T/sock'
fsync = off
max_connections = 60
log_connections = on
END
echo 'host all app 10.0.0.0/24 scram-sha-256' | "${as[@]}" tee -a "$T/pg/data/pg_hba.conf" >/dev/null

start_daemon
app pg --ip 10.0.0.5 -- "${drop[@]}" "$bin/postgres" -D "$T/pg/data"
wait_port 10.0.0.5 5432
wait_line pg.log 'ready to accept connections'
export PGPASSWORD=secret PGUSER=app PGHOST=10.0.0.5 PGDATABASE=postgres PGCONNECT_TIMEOUT=20
psql() { run --ip 10.0.0.6 -- psql -XAtq -v ON_ERROR_STOP=1 "$@"; }

check "psql by VIP; the server knows both addresses"
assert_eq "10.0.0.6|10.0.0.5|5432" \
	"$(psql -c 'select host(inet_client_addr()), host(inet_server_addr()), inet_server_port()')"

check "a table in and out by COPY"
psql -c 'create table t (id int primary key, txt text)'
for ((i = 1; i <= 20000; i++)); do
	printf '%d\trow %d\n' $i $((i * 7919))
done >"$T/rows"
psql -c 'copy t from stdin' <"$T/rows"
psql -c 'copy (select * from t order by id) to stdout' | cmp - "$T/rows"

check "an address that pg_hba does not list is turned away by the server"
expect_status 2 run --ip 10.0.1.6 -- psql -XAtq -c 'select 1'
assert_contains "$(cat "$T/err")" 'no pg_hba.conf entry for host "10.0.1.6"'

check "LISTEN and NOTIFY between two apps"
mkfifo "$T/sql"
exec {sql}<>"$T/sql"
"$APPSWITCH" run --ip 10.0.0.7 -- psql -XAtq <"$T/sql" >"$T/listen.log" 2>&1 &
PID[listen]=$!
ORDER+=(listen)
echo "listen news; select 'listening';" >&"$sql"
wait_line listen.log '^listening'
psql -c "notify news, 'hello'"
heard()
{
	echo "select 1;" >&"$sql"
	grep -q 'Asynchronous notification "news" with payload "hello"' "$T/listen.log"
}
wait_for "the notification" heard
printf '%s\n' '\q' >&"$sql"
await listen
exec {sql}>&-

slow_runs() { psql -c "select 1/count(*) from pg_stat_activity where query like 'select pg_sleep%%'"; }
check "a query is cancelled over a second connection (SIGINT to psql)"
app slow --ip 10.0.0.8 -- psql -XAtq -c "select 'started'" -c 'select pg_sleep(100)'
wait_for "the query" slow_runs
stop slow INT
grep -q 'canceling statement due to user request' "$T/slow.log" || fail "$(cat "$T/slow.log")"

check "pgbench: 8 clients, 2 threads; no transaction fails, the sums agree"
run --ip 10.0.0.9 -- pgbench -i -s 1 -q >"$T/pgbench.log" 2>&1
run --ip 10.0.0.9 -- pgbench -c 8 -j 2 -t 200 >"$T/pgbench.log" 2>&1
grep -q 'number of transactions actually processed: 1600/1600' "$T/pgbench.log" || fail "not all"
grep -q 'number of failed transactions: 0 ' "$T/pgbench.log" || fail "failed transactions"
grep 'tps' "$T/pgbench.log"
assert_eq "1600|t" "$(psql -c 'select count(*), sum(delta) = (select sum(abalance) from pgbench_accounts)
	from pgbench_history')"

check "pgbench -C: a new connection per transaction"
run --ip 10.0.0.9 -- pgbench -C -S -c 8 -j 2 -t 25 >"$T/pgbench.log" 2>&1
grep -q 'number of transactions actually processed: 200/200' "$T/pgbench.log" || fail "not all"

stop pg INT
assert_eq 0 "$STATUS" "exit status of the server"
