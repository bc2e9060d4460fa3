"""netns.py - network namespaces without names, for the benchmarks.

Each lives as long as a sleeper that belongs to it, and all end with the block:

  with Namespaces() as ns:
      a, b = ns.make("a"), ns.make("b")
      a.veth("eth0", b, "eth0")
      a.up("eth0", "10.99.0.1/24")

As root, or in one user namespace where its processes are uid 0 (and no other uid is there)."""

import os
import subprocess

from measure import Failed, run, stop


class Namespace:
    """A network and UTS namespace; @at is what stands before a command in it."""

    def __init__(self, base, hostname):
        self.hostname = hostname
        self.sleeper = subprocess.Popen(
            base + ["unshare", "-n", "-u", "sh", "-c",
                    'hostname "$0" && ip link set lo up && echo ok && exec sleep infinity', hostname],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.at = base + ["nsenter", "-t", str(self.sleeper.pid), "-n", "-u", "--"]
        if self.sleeper.stdout.readline() != "ok\n":
            raise Failed(f"no namespace for {hostname}")

    def ip(self, *args):
        return run(self.at + ["ip", *args])

    def bridge(self, name):
        self.ip("link", "add", name, "type", "bridge")
        self.ip("link", "set", name, "up")

    def veth(self, name, peer, peer_name, bridge=None):
        """One end here, up, the other there. Here it can be a port of a bridge."""
        self.ip("link", "add", name, "type", "veth", "peer", "name", peer_name,
                "netns", str(peer.sleeper.pid))
        self.ip("link", "set", name, *(["master", bridge] if bridge else []), "up")

    def up(self, name, *addresses, mtu=1500):
        for a in addresses:
            self.ip("addr", "add", a, "dev", name, *(["nodad"] if ":" in a else []))
        self.ip("link", "set", name, "mtu", str(mtu), "up")


class Namespaces:
    def __init__(self):
        self.made, self.base, self.keeper = [], [], None
        self.only_user = "" if os.geteuid() == 0 else "root"

    def __enter__(self):
        if os.geteuid() != 0:
            self.keeper = subprocess.Popen(
                ["unshare", "-Urmn", "--propagation", "private", "sh", "-c",
                 "echo ok && exec sleep infinity"],
                stdout=subprocess.PIPE, text=True, start_new_session=True)
            if self.keeper.stdout.readline() != "ok\n":
                stop(self.keeper)
                raise Failed("neither root nor user namespaces: no hosts to measure between")
            self.base = ["nsenter", "-t", str(self.keeper.pid), "-U", "-m", "-n",
                         "--preserve-credentials", "--"]
        return self

    def make(self, hostname):
        n = Namespace(self.base, hostname)
        self.made.append(n)
        return n

    def __exit__(self, *_):
        for n in reversed(self.made):
            stop(n.sleeper)
        if self.keeper:
            stop(self.keeper)
