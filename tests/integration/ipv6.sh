#!/bin/bash
# IPv6: alone, beside IPv4, dual-stack listeners and v4-mapped addresses.
. "${0%/*}/../lib/lib.sh"
need python3 jq
require_seccomp_notify
start_daemon

app six --ip fd00::5 -- "$TCP" serve 80 six --bind ::
app both --ip 10.0.0.6 --ip fd00::6 -- "$TCP" serve 80 both --bind :: --v6only 0
app only --ip 10.0.0.7 --ip fd00::7 -- "$TCP" serve 80 only --bind :: --v6only 1
wait_port fd00::5 80
wait_port fd00::6 80
wait_port fd00::7 80
client=(--ip 10.0.0.9 --ip fd00::9)

ask() # ADDR -> $GOT
{
	GOT=$(run "${client[@]}" -- "$TCP" ask "$1" 80) || fail "ask $1: $GOT"
}

check "IPv6 only"
ask fd00::5
assert_contains "$GOT" "six peer=fd00::9,"
assert_contains "$GOT" " local=fd00::5,80 server=fd00::5,80 me=fd00::9,"

check "curl by an IPv6 URL"
app web --ip fd00::8 -- /usr/bin/python3 -m http.server --bind :: --directory "$LIB" 80
wait_port fd00::8 80
run "${client[@]}" -- curl -sSg --max-time 20 'http://[fd00::8]/lib.sh' | cmp - "$LIB/lib.sh"

check "dual stack serves both VIPs; an IPv4 client is shown v4-mapped"
ask fd00::6
assert_contains "$GOT" "both peer=fd00::9,"
ask 10.0.0.6
assert_contains "$GOT" "both peer=::ffff:10.0.0.9,"
assert_contains "$GOT" " local=::ffff:10.0.0.6,80 server=10.0.0.6,80 me=10.0.0.9,"

check "an AF_INET6 client connects to a v4-mapped address"
ask ::ffff:10.0.0.6
assert_contains "$GOT" "both peer=::ffff:10.0.0.9,"
assert_contains "$GOT" " server=::ffff:10.0.0.6,80 me=::ffff:10.0.0.9,"

check "IPV6_V6ONLY: IPv4 is refused"
ask fd00::7
assert_contains "$GOT" "only peer=fd00::9,"
assert_eq "connect ECONNREFUSED" "$(run "${client[@]}" -- "$TCP" ask 10.0.0.7 80 || :)"

check "calls and errors of the two families"
run --ip 10.0.0.10 --ip fd00::10 -- /usr/bin/python3 - <<'END'
import errno, socket
from socket import AF_INET, AF_INET6, SOCK_STREAM, IPPROTO_IPV6, IPV6_V6ONLY

def fails(want, f, *args):
    try:
        f(*args)
    except OSError as e:
        assert e.errno == want, (f, args, e)
        return
    raise AssertionError(f"{f} {args} did not fail")

def six(v6only=0):
    s = socket.socket(AF_INET6, SOCK_STREAM)
    s.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, v6only)
    return s

d = six(); d.bind(("::", 81)); d.listen()
assert d.getsockname() == ("::", 81, 0, 0), d.getsockname()
f = socket.socket(AF_INET, SOCK_STREAM)
fails(errno.EADDRINUSE, f.bind, ("0.0.0.0", 81))
o = six(1); o.bind(("::", 82)); o.listen()
f.bind(("0.0.0.0", 82)); f.listen()
for family, addr, want in ((AF_INET, "127.0.0.1", f), (AF_INET6, "::1", o)):
    c = socket.socket(family, SOCK_STREAM); c.connect((addr, 82))
    want.settimeout(10)
    a, peer = want.accept()
    assert peer[0] == addr and peer == c.getsockname(), (peer, c.getsockname())
    assert a.family == family
    a.close(); c.close()
# accept on a dual-stack listener, through every way to learn an address
for family, addr, shown in ((AF_INET, "127.0.0.1", "::ffff:127.0.0.1"), (AF_INET6, "::1", "::1"),
                            (AF_INET, "10.0.0.10", "::ffff:10.0.0.10"),
                            (AF_INET6, "fd00::10", "fd00::10")):
    c = socket.socket(family, SOCK_STREAM); c.connect((addr, 81))
    d.settimeout(10)
    a, peer = d.accept()
    assert peer[0] == shown, (peer, shown)
    assert a.getpeername()[:2] == peer[:2] and a.getsockname()[:2] == (shown, 81), a
    assert c.getpeername()[:2] == (addr, 81) and c.getsockname()[1] == peer[1]
    assert a.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) == AF_INET6
    assert c.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) == family
    a.close(); c.close()
fails(errno.EADDRNOTAVAIL, six().bind, ("fd00::11", 0))
fails(errno.ECONNREFUSED, six(1).connect, ("fd00::10", 83))
fails(errno.ENETUNREACH, six(1).connect, ("::ffff:10.0.0.10", 81))
x = six(); x.bind(("::", 0)); assert x.getsockname()[1] != 0
print("ok")
END
