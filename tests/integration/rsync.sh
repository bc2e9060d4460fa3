#!/bin/bash
# rsync daemon: a tree there and back, with checksums.
. "${0%/*}/../lib/lib.sh"
need rsync jq
require_seccomp_notify
start_daemon
mkdir -p "$T/src/a/b" "$T/mod" "$T/back"
for i in {1..200}; do
	head -c $((i * 131)) /dev/urandom >"$T/src/a/f$i"
done
head -c 8000000 /dev/urandom >"$T/src/a/b/big"
ln -s f1 "$T/src/a/link"
touch -d '2020-02-02 02:02:02' "$T/src/a/f2"
cat >"$T/rsyncd.conf" <<END
pid file = $T/rsyncd.pid
lock file = $T/rsyncd.lock
use chroot = no
munge symlinks = no
log file = $T/rsyncd.txt
[m]
path = $T/mod
read only = no
$(if [ "$(id -u)" = 0 ]; then printf 'uid = 0\ngid = 0'; fi)
hosts allow = 10.0.0.0/24
END
app d --ip 10.0.0.5 -- rsync --daemon --no-detach --config="$T/rsyncd.conf" --port 873
wait_port 10.0.0.5 873

check "a tree to the daemon"
run --ip 10.0.0.6 -- rsync -a --timeout 30 "$T/src/" rsync://10.0.0.5/m/
diff -r "$T/src" "$T/mod"
check "back"
run --ip 10.0.0.6 -- rsync -a --timeout 30 rsync://10.0.0.5/m/ "$T/back/"
diff -r "$T/src" "$T/back"
assert_eq "$(stat -c %Y "$T/src/a/f2")" "$(stat -c %Y "$T/back/a/f2")" "time of a file"

check "only what changed is sent"
printf x | dd of="$T/src/a/b/big" bs=1 seek=4000000 conv=notrunc status=none
run --ip 10.0.0.6 -- rsync -ac --no-whole-file --stats --timeout 30 "$T/src/" rsync://10.0.0.5/m/ >"$T/stats"
diff -r "$T/src" "$T/mod"
sent=$(sed -n 's/^Literal data: \([0-9,]*\).*/\1/p' "$T/stats")
assert_between 1 200000 "${sent//,/}" "bytes of literal data"

check "4 at once, deleting"
rm "$T/src/a/f"1?
for n in 1 2 3 4; do
	app c$n --ip 10.0.0.2$n -- rsync -a --delete --timeout 30 "$T/src/" "rsync://10.0.0.5/m/c$n/"
done
for n in 1 2 3 4; do
	await c$n 30000
	assert_eq 0 "$STATUS" "c$n"
	diff -r "$T/src" "$T/mod/c$n"
done

check "the daemon judges by the client's virtual address"
expect_fail run --ip 10.0.1.6 -- rsync --timeout 30 rsync://10.0.0.5/m/
grep -q 'denied.*10\.0\.1\.6' "$T/rsyncd.txt" || fail "$(tail -n 3 "$T/rsyncd.txt")"
grep -q 'connect from .*10\.0\.0\.6' "$T/rsyncd.txt" || fail "no connect from 10.0.0.6 in the log"
