#!/bin/bash
# OpenSSH and dropbear: login by key, a file there and back, a forwarded port.
. "${0%/*}/../lib/lib.sh"
need ssh ssh-keygen jq
require_seccomp_notify
start_daemon
mkdir -m 700 "$T/home/.ssh" "$T/k"
ssh-keygen -q -t ed25519 -N '' -f "$T/k/id"
me=$(id -un)
home=$(getent passwd "$me" | cut -d: -f6)
head -c 5000000 /dev/urandom >"$T/file"
sum=$(sha256sum <"$T/file")
opts=(-F none -i "$T/k/id" -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no
	-o UserKnownHostsFile="$T/k/known" -o ConnectTimeout=20 -o LogLevel=ERROR)
servers=()

if [ -x /usr/sbin/sshd ]; then
	ssh-keygen -q -t ed25519 -N '' -f "$T/k/host"
	cp "$T/k/id.pub" "$T/k/authorized"
	cat >"$T/k/sshd_config" <<-END
		Port 22
		HostKey $T/k/host
		AuthorizedKeysFile $T/k/authorized
		PidFile none
		StrictModes no
		UsePAM no
		PermitRootLogin prohibit-password
		Subsystem sftp internal-sftp
	END
	wrap=()
	if [ "$(id -u)" = 0 ]; then
		# Its directory for privilege separation, in a mount namespace of its own.
		wrap=(unshare -m --propagation private sh -c
			'mount -t tmpfs -o mode=755 t /run && mkdir -m 755 /run/sshd && exec "$@"' sshd)
	fi
	app sshd --ip 10.0.0.5 -- "${wrap[@]}" /usr/sbin/sshd -D -e -f "$T/k/sshd_config"
	wait_port 10.0.0.5 22
	servers+=(10.0.0.5)
fi
if command -v dropbear >/dev/null && [ "$home" = "$HOME" ]; then
	# dropbear reads ~/.ssh/authorized_keys of the passwd entry: only where that is ours.
	cp "$T/k/id.pub" "$HOME/.ssh/authorized_keys"
	chmod 600 "$HOME/.ssh/authorized_keys"
	dropbearkey -t ed25519 -f "$T/k/db" >/dev/null 2>&1
	app dropbear --ip 10.0.0.6 -- dropbear -F -E -r "$T/k/db" -p 22 -P "$T/k/db.pid"
	wait_port 10.0.0.6 22
	servers+=(10.0.0.6)
fi
[ ${#servers[@]} -gt 0 ] || skip "neither sshd nor a usable dropbear (see tests/integration/packages.txt)"

for vip in "${servers[@]}"; do
	sh() { run --ip 10.0.0.9 -- ssh "${opts[@]}" "$me@$vip" "$@"; }
	check "$vip: login by key, exit status, addresses"
	assert_eq "hello" "$(sh echo hello </dev/null)"
	expect_status 7 sh 'exit 7'
	assert_contains "$(sh 'echo $SSH_CONNECTION' </dev/null)" "10.0.0.9 "
	assert_contains "$(sh 'echo $SSH_CONNECTION' </dev/null)" " $vip 22"

	check "$vip: 5 MB there and back"
	sh "cat >$T/there" <"$T/file"
	assert_eq "$sum" "$(sha256sum <"$T/there")" "checksum there"
	assert_eq "$sum" "$(sh "cat $T/there" </dev/null | sha256sum)" "checksum back"
	assert_eq "$sum" "$(sh sha256sum "<$T/there" </dev/null)"

	check "$vip: a command over the session is inside the server's app"
	assert_eq 1 "$(sh 'cat /proc/net/route | grep -c Iface' </dev/null)"

	check "$vip: a port forwarded to a third app"
	[ -n "${PID[echo]:-}" ] || app echo --ip 10.0.0.7 -- "$TCP" serve 80 third
	wait_port 10.0.0.7 80
	got=$(run --ip 10.0.0.9 -- bash -c '
		vip=$1; shift
		ssh "$@" -N -L 8080:10.0.0.7:80 "$vip" & p=$!
		for i in $(seq 200); do
			"$0" ask 127.0.0.1 8080 >"$T/fwd" 2>&1 && break
			sleep 0.05
		done
		kill $p; cat "$T/fwd"' "$TCP" "$me@$vip" "${opts[@]}")
	assert_contains "$got" "third peer=$vip,"
done
if [[ " ${servers[*]} " == *" 10.0.0.5 "* ]]; then
	check "sftp: put and get"
	printf 'put %s %s\nget %s %s\n' "$T/file" "$T/p1" "$T/p1" "$T/p2" |
		run -- sftp -q "${opts[@]}" -b - "$me@10.0.0.5" >/dev/null
	assert_eq "$sum" "$(sha256sum <"$T/p2")"
fi
if [[ " ${servers[*]} " == *" 10.0.0.6 "* ]]; then
	check "dropbear's own client"
	dropbearconvert openssh dropbear "$T/k/id" "$T/k/id.db" >/dev/null 2>&1
	assert_eq "$sum" "$(run -- dbclient -y -y -i "$T/k/id.db" "$me@10.0.0.6" cat "$T/file" 2>/dev/null | sha256sum)"
fi
