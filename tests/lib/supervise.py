#!/usr/bin/python3
"""supervise.py SCRIPT ARGS - runs one test as the subreaper of all it starts.

Double-forked and detached processes end up as our children, so "nothing is left" can be asked of
the kernel instead of guessed by name. Exit status: the script's, or 1 if a process or a control
socket is left over, or if it takes longer than $TEST_TIMEOUT seconds (115). Whatever is left is
ended by pid; it can only be ours."""
import ctypes
import os
import shutil
import signal
import stat
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
GRACE = 10.0


class Late(Exception):
    pass


def say(text):
    try:
        print(text, flush=True)
    except OSError:
        pass  # whoever read it is gone; the cleaning up goes on


def on_alarm(_sig, _frame):
    raise Late


def descendants():
    """Pids of all our descendants, children before grandchildren."""
    parent = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as f:
                    parent[int(name)] = int(f.read().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                pass
    found, todo = [], [os.getpid()]
    while todo:
        up = todo.pop(0)
        kids = [p for p, pp in parent.items() if pp == up]
        found += kids
        todo += kids
    return found


def describe(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            state = f.read().rsplit(")", 1)[1].split()[0]
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            cmd = f.read().replace(b"\0", b" ").decode(errors="replace")[:120]
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as f:
            comm = f.read().strip()
        tasks = []
        for tid in sorted(os.listdir(f"/proc/{pid}/task"), key=int)[:8]:
            try:
                with open(f"/proc/{pid}/task/{tid}/wchan", encoding="utf-8") as f:
                    tasks.append(f.read() or "?")
                with open(f"/proc/{pid}/task/{tid}/syscall", encoding="utf-8") as f:
                    tasks[-1] += "/" + f.read().split()[0]
            except OSError:
                pass
        cmd = cmd.replace("\n", " ")
        return f"{pid} {state} [{comm}] {' '.join(tasks)}: {cmd}"
    except OSError:
        return f"{pid} (gone)"


def wait_all(seconds, first=None):
    """Reaps until no child is left (or until @first has ended). Returns its status."""
    end = time.monotonic() + seconds
    status = None
    signal.signal(signal.SIGALRM, on_alarm)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(0.001, end - time.monotonic()), 0.2)
        while True:
            pid, st = os.waitpid(-1, 0)
            if pid == first:
                status = st
                return status
    except ChildProcessError:
        return status
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)


def end_all():
    # SIGSTOP first: nothing can fork away while we walk.
    for _ in range(50):
        pids = descendants()
        if not pids:
            return
        for sig in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                try:
                    os.kill(pid, sig)
                except OSError:
                    pass
        try:
            wait_all(0.2)
        except Late:
            pass


def main():
    tmp = os.environ["T"]
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.chdir(tmp)
    env = dict(os.environ, TEST_SUPERVISED="1")
    child = subprocess.Popen(["bash", *sys.argv[1:]], env=env, stdin=subprocess.DEVNULL)
    stopped = []

    def on_term(sig, _frame):
        for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(s, signal.SIG_IGN)
        stopped.append(sig)
        raise Late

    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sig, on_term)
    rc = 0
    try:
        st = wait_all(float(os.environ.get("TEST_TIMEOUT", "115")), child.pid)
        child.returncode = rc = os.waitstatus_to_exitcode(st)
        if rc < 0:
            say(f"FAIL: the test was killed by signal {-rc}")
            rc = 1
    except Late:
        say("FAIL: interrupted" if stopped else "FAIL: timed out; running:")
        for pid in descendants():
            say("  " + describe(pid))
        rc = 1
    failed = rc not in (0, 77)
    try:
        if child.returncode is None:
            child.terminate()
        wait_all(1.0 if failed else GRACE)
    except Late:
        left = descendants()
        if not failed:
            say("FAIL: processes left behind:")
            for pid in left:
                say("  " + describe(pid))
            rc = 1
        end_all()
    if not failed:
        for top, _dirs, files in os.walk(tmp):
            for name in files:
                path = os.path.join(top, name)
                keep = path.startswith(tmp + "/run/") or path == tmp + "/s"
                if keep or (stat.S_ISSOCK(os.lstat(path).st_mode) and path.startswith(tmp + "/s")):
                    say(f"FAIL: file left behind: {path}")
                    rc = 1
    if os.environ.get("KEEP"):
        say("kept: " + tmp)
    else:
        shutil.rmtree(tmp, ignore_errors=True)
        if os.path.exists(tmp):
            say(f"FAIL: could not remove {tmp}")
            rc = rc or 1
    sys.exit(rc)


main()
