"""measure.py - what the benchmark programs here have in common: running programs on sides that
take turns, the medians and ratios, the table and the JSON."""

import argparse
import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
APPSWITCH = os.path.abspath(os.environ.get("APPSWITCH", os.path.join(ROOT, "build/appswitch")))
LIMIT = 120  # seconds for any one program

# The command line, and tmp: a directory for this run
OPTS = argparse.Namespace()


class Failed(Exception):
    pass


def log(text):
    print(text, file=sys.stderr, flush=True)


def run(cmd, timeout=LIMIT, **kw):
    """Its stdout; an error ends the measurement, with what the program said."""
    try:
        p = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                           timeout=timeout, stdin=subprocess.DEVNULL, check=False, **kw)
    except subprocess.TimeoutExpired as e:
        raise Failed(f"{' '.join(cmd)}: no end after {timeout} s") from e
    if p.returncode != 0:
        raise Failed(f"{' '.join(cmd)}: exit {p.returncode}: {(p.stderr or p.stdout)[-400:]}")
    return p.stdout


def stop(p):
    """Ends a process we started, and its group."""
    if p.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(p.pid, signal.SIGTERM)
        try:
            p.wait(5)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(p.pid, signal.SIGKILL)
            p.wait()
    for f in (p.stdin, p.stdout):
        if f:
            f.close()


class Side:
    """Where programs run: a name, the server's address, and what stands before a command."""

    def __init__(self, name, ip, server, client):
        self.name, self.ip, self.prefix = name, ip, {"server": server, "client": client}
        self.nginx_user = ""  # of its workers; empty: what nginx takes by itself
        self.owner = None  # uid of what its programs write to; None: ours

    def call(self, cmd, timeout=LIMIT):
        return run(self.prefix["client"] + cmd, timeout)

    @contextlib.contextmanager
    def serve(self, cmd, port, role="server", **kw):
        """A server, from when its port answers until the block ends."""
        with tempfile.TemporaryFile("w+") as err:
            p = subprocess.Popen(self.prefix[role] + cmd, stdin=subprocess.DEVNULL,
                                 stdout=err, stderr=err, start_new_session=True, **kw)
            try:
                self.wait_port(p, port, err)
                yield p
            finally:
                stop(p)

    def wait_port(self, p, port, err):
        probe = ["bash", "-c", f"exec 3<>/dev/tcp/{self.ip}/{port}"]
        for _ in range(100):
            if p.poll() is not None:
                err.seek(0)
                raise Failed(f"{self.name}: server ended with {p.returncode}: {err.read()[-400:]}")
            if subprocess.run(self.prefix["client"] + probe, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              timeout=10, check=False).returncode == 0:
                return
            time.sleep(0.05)
        err.seek(0)
        raise Failed(f"{self.name}: port {port} does not answer: {err.read()[-400:]}")


class Results:
    """Rows of medians. @sides are the columns; the one that is judged is @subject, and it is
    compared with each of @bases."""

    def __init__(self, sides, subject, bases):
        self.sides, self.subject, self.bases = sides, subject, bases
        self.rows, self.failed = [], []

    def add(self, name, unit, values, want=None, lower=False):
        """values: {side: [..]}, any side absent; want: {base: the ratio to reach}."""
        med = {k: statistics.median(v) for k, v in values.items() if v}
        row = {"name": name, "unit": unit, "better": "lower" if lower else "higher",
               "samples": values, "median": med}
        ok = []
        for base in self.bases:
            if self.subject in med and med.get(base):
                ratio = med[self.subject] / med[base]
                row[f"ratio_{base}"] = round(ratio, 3)
                if (want or {}).get(base) is not None:
                    row[f"target_{base}"] = want[base]
                    ok.append(ratio <= want[base] if lower else ratio >= want[base])
        if ok:
            row["reached"] = all(ok)
        self.append(row)

    def absolute(self, name, unit, value, target=None):
        row = {"name": name, "unit": unit, "better": "lower", "median": {self.subject: value}}
        if target is not None:
            row["target_max"] = target
            row["reached"] = value <= target
        self.append(row)

    def append(self, row):
        self.rows.append(row)
        log(f"  {row['name']}: " +
            " ".join(f"{k} {num(v)}" for k, v in row["median"].items()) + f" {row['unit']} ratio " +
            (" ".join(f"{row[f'ratio_{b}']:.2f}" for b in self.bases if f"ratio_{b}" in row) or "-"))

    def cells(self, row):
        sign = "<=" if row["better"] == "lower" else ">="
        want = [f"{sign}{row[f'target_{b}']:g} {b}" for b in self.bases if f"target_{b}" in row]
        if "target_max" in row:
            want.append(f"<={row['target_max']:g}")
        return ([row["name"], row["unit"]] +
                [num(row["median"].get(s)) for s in self.sides] +
                [f"{row[f'ratio_{b}']:.2f}" if f"ratio_{b}" in row else "" for b in self.bases] +
                [" ".join(want), {True: "yes", False: "NO", None: ""}[row.get("reached")]])

    def table(self):
        head = ["what", "unit", *self.sides, *("/" + b for b in self.bases), "to reach", ""]
        t = [head] + [self.cells(r) for r in self.rows]
        w = [max(len(r[i]) for r in t) for i in range(len(head))]
        left = (0, 1, len(head) - 2, len(head) - 1)
        out = ["  ".join(c.ljust(w[i]) if i in left else c.rjust(w[i])
                         for i, c in enumerate(r)).rstrip() for r in t]
        out.insert(1, "  ".join("-" * x for x in w))
        return "\n".join(out)

    def report(self, **about):
        """The table to stdout, all of it to --json. The exit status, with --check by the targets."""
        doc = {"kernel": platform.release(), "cpus": os.cpu_count(), "uid": os.geteuid(), **about,
               "rounds": OPTS.rounds, "seconds": OPTS.seconds, "results": self.rows,
               "failed": self.failed}
        print(self.table(), flush=True)
        for f in self.failed:
            print(f"FAILED: {f}")
        if OPTS.json == "-":
            json.dump(doc, sys.stdout, indent=1)
            print()
        elif OPTS.json:
            with open(OPTS.json, "w", encoding="ascii") as f:
                json.dump(doc, f, indent=1)
        missed = OPTS.check and any(r.get("reached") is False for r in self.rows)
        return 1 if self.failed or missed or not self.rows else 0

    def group(self, name, function, sides):
        log(f"{name}:")
        try:
            function(self, sides)
        except (Failed, OSError, KeyError, ValueError, subprocess.SubprocessError) as e:
            self.failed.append(f"{name}: {e}")
            log(f"  FAILED: {e}")


def num(v):
    if v is None:
        return "-"
    return f"{v:,.0f}" if v >= 1000 else f"{v:.1f}" if v >= 100 else f"{v:.2f}"


def alternate(measures, rounds=None):
    """{side: callable} in turns, so that what drifts drifts for all; the order alternates."""
    values = {k: [] for k in measures}
    for i in range(rounds or OPTS.rounds):
        for k in list(measures) if i % 2 == 0 else list(measures)[::-1]:
            values[k].append(measures[k]())
    return values


def helper(name):
    """A program from this folder: of the build of the binary, else compiled here."""
    out = os.path.join(OPTS.tmp, name)
    if not os.path.exists(out):
        run(["cc", "-std=gnu11", "-O2", "-D_GNU_SOURCE", "-o", out, f"{HERE}/{name}.c"])
        os.chmod(out, 0o755)
    return out


def both(stack, sides, cmd, port, **kw):
    for s in sides:
        stack.enter_context(s.serve(cmd, port, **kw))


def both(stack, sides, cmd, port, **kw):
    for s in sides:
        stack.enter_context(s.serve(cmd, port, **kw))


# --- the programs --------------------------------------------------------------------------------

SIZES = ((1024, "1K"), (16384, "16K"), (131072, "128K"))


def iperf3_gbit(side, size):
    out = side.call(["iperf3", "-J", "-c", side.ip, "-l", str(size), "-t", str(OPTS.seconds)])
    answer = json.loads(out)
    if "error" in answer:
        raise RuntimeError("iperf3: " + answer["error"])
    return answer["end"]["sum_received"]["bits_per_second"] / 1e9


def wrk_rate(side, close):
    cmd = ["wrk", "-t1", "-c16", f"-d{OPTS.seconds}s"]
    if close:
        cmd += ["-H", "Connection: close"]
    out = side.call(cmd + [f"http://{side.ip}/"])
    if "Socket errors" in out or "Non-2xx" in out:
        raise Failed(f"{side.name}: wrk: {out}")
    return float(out.split("Requests/sec:")[1].split()[0])


def nginx_conf(side, workers):
    d = os.path.join(OPTS.tmp, f"nginx-{side.name}-{workers}")
    os.mkdir(d)
    user = f"user {side.nginx_user};" if side.nginx_user else ""
    with open(f"{d}/nginx.conf", "w", encoding="ascii") as f:
        f.write(f"""{user} daemon off; pid {d}/pid; worker_processes {workers};
error_log stderr error;
events {{ worker_connections 2048; }}
http {{
 access_log off; keepalive_requests 1000000000;
 client_body_temp_path {d}/b; proxy_temp_path {d}/p; fastcgi_temp_path {d}/f;
 uwsgi_temp_path {d}/u; scgi_temp_path {d}/s;
 server {{ listen 80; location / {{ return 200 "hello\\n"; }} }}
}}
""")
    if side.owner is not None:
        os.chown(d, side.owner, side.owner)
    return ["nginx", "-e", "stderr", "-p", d, "-c", f"{d}/nginx.conf"]


def redis_rates(side):
    out = side.call(["redis-benchmark", "-h", side.ip, "-n", "60000", "-c", "50", "-t",
                     "set,get", "--csv"])
    rows = [r.replace('"', "").split(",") for r in out.splitlines()]
    return {r[0]: float(r[1]) for r in rows if r[0] in ("SET", "GET")}


REDIS = ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "",
         "--appendonly", "no", "--dir", "/tmp"]


# --- the command line ----------------------------------------------------------------------------

def options(doc, groups=()):
    """A parser with what all have."""
    p = argparse.ArgumentParser(description=doc,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    if groups:
        p.add_argument("--only", action="append", choices=list(groups), metavar="NAME",
                       help="only this group: " + ", ".join(groups))
        p.add_argument("--list", action="store_true", help="name the groups")
    p.add_argument("--rounds", type=int, default=5, help="turns of each side (5)")
    p.add_argument("--seconds", type=int, default=2, help="of one iperf3 or wrk run (2)")
    p.add_argument("--json", metavar="FILE", help="where the JSON goes (- is stdout)")
    p.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    return p


def main(body):
    """Runs @body with a directory for the run; returns or exits with its status."""
    for s in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, lambda *_: sys.exit(1))
    try:
        with tempfile.TemporaryDirectory(prefix="appswitch-bench.") as OPTS.tmp:
            os.chmod(OPTS.tmp, 0o755)
            sys.exit(body())
    except Failed as e:
        log(f"bench: {e}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
