#!/usr/bin/python3
"""semantics.py APPSWITCH - what a parent can see of `appswitch run CMD`, against CMD alone.

Every check runs natively too, so that a wrong expectation shows up as such."""
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import ctypes

RUN = [sys.argv[1], "run", "--"]
PY = "/usr/bin/python3"


def ok(what):
    print("  " + what, flush=True)


def wait_until(what, f, seconds=15):
    end = time.monotonic() + seconds
    while True:
        r = f()
        if r:
            return r
        assert time.monotonic() < end, f"timed out: {what}"
        time.sleep(0.02)


def killed_by():
    for prefix in ([], RUN):
        for sig in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGUSR1):
            p = subprocess.run([*prefix, "sh", "-c", f"kill -{int(sig)} $$"], check=False)
            assert p.returncode == -sig, (prefix, sig, p.returncode)
        p = subprocess.Popen([*prefix, "sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE)
        p.stdout.readline()
        p.send_signal(signal.SIGHUP)
        assert p.wait(20) == -signal.SIGHUP
        p.stdout.close()
    ok("a signal from inside and from outside ends CMD, and the parent sees which")


STATUS = r"""
import os, resource, re
s = open('/proc/self/status').read()
for k in ('SigBlk', 'SigIgn', 'SigCgt', 'Umask', 'Groups'):
    print(k, re.search('^' + k + r':[ \t]*(.*)', s, re.M).group(1))
for n in dir(resource):
    if n.startswith('RLIMIT_'):
        print(n, resource.getrlimit(getattr(resource, n)))
print(os.nice(0), os.getuid(), os.getgid(), os.geteuid(), os.sched_getaffinity(0))
print(open('/proc/self/oom_score_adj').read().strip(), os.sched_getscheduler(0))
print(open('/proc/self/comm').read())
"""


def inherited():
    def before():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (345, 1000))
        os.umask(0o27)
        os.nice(3)

    def look(prefix):
        return subprocess.run([*prefix, PY, "-c", STATUS], check=True, preexec_fn=before,
                              restore_signals=False, capture_output=True, text=True).stdout

    a, b = look([]), look(RUN)
    assert a == b, f"natively:\n{a}\nunder run:\n{b}"
    ok("signal mask and dispositions, umask, limits, niceness, user, name")


def descriptors():
    r, w = os.pipe()
    code = ("import os; print(sorted((int(f), os.readlink('/proc/self/fd/' + f))"
            " for f in os.listdir('/proc/self/fd') if os.path.lexists('/proc/self/fd/' + f)))")

    def look(prefix):
        return subprocess.run([*prefix, PY, "-c", code], check=True, pass_fds=(w,),
                              stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, text=True).stdout

    a, b = (re.sub(r"pipe:\[\d+\]", "pipe", look(x)) for x in ([], RUN))
    assert a == b, f"natively {a} under run {b}"

    def closed():
        os.close(0)

    p = subprocess.run([*RUN, "sh", "-c", "ls -l /proc/self/fd | grep -c ' 0 ->' || :"], check=True,
                       preexec_fn=closed, stdout=subprocess.PIPE, text=True)
    assert p.returncode == 0
    # The write end must not be kept open by anything that run left behind.
    p = subprocess.Popen([*RUN, "sh", "-c", "echo; exec sleep 60"], pass_fds=(w,),
                         stdout=subprocess.PIPE)
    p.stdout.readline()
    os.close(w)
    p.kill()
    p.wait()
    assert select.select([r], [], [], 10)[0], "an inherited pipe end is still open somewhere"
    assert os.read(r, 1) == b""
    assert select.select([p.stdout], [], [], 10)[0], "stdout is still open somewhere"
    assert p.stdout.read() == b""
    os.close(r)
    p.stdout.close()
    ok("the same descriptors as natively; nothing else keeps them open")


def no_stray_child():
    code = ("import os, ctypes\n"
            "ctypes.CDLL(None).prctl(36, {}, 0, 0, 0)\n"
            "try:\n os.waitpid(-1, os.WNOHANG); raise SystemExit('there is a child')\n"
            "except ChildProcessError: pass\n"
            "print(open('/proc/self/task/%d/children' % os.getpid()).read() if os.path.exists("
            "'/proc/self/task/%d/children' % os.getpid()) else '')")
    for sub in (0, 1):
        def become():
            ctypes.CDLL(None).prctl(36, sub, 0, 0, 0)
        p = subprocess.run([*RUN, PY, "-c", code.format(sub)], preexec_fn=become, check=True,
                           capture_output=True, text=True)
        assert p.stdout.strip() == "", p.stdout
    # A subreaper that execs run and becomes CMD: what it inherited natively stays its own.
    code = ("import os, subprocess\n"
            "p = subprocess.Popen(['sh', '-c', 'exit 7'])\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(-1, 0)[1]))\n"
            "try:\n os.waitpid(-1, 0)\nexcept ChildProcessError: print('none')\n")
    p = subprocess.run([*RUN, PY, "-c", code], check=True, capture_output=True, text=True)
    assert p.stdout.split() == ["7", "none"], p.stdout
    ok("wait(-1) sees CMD's own children only, also as a subreaper")


def job_control():
    """As an interactive shell does it: own group in the foreground of a terminal."""
    for prefix in ([], RUN):
        pid, tty = pty.fork()
        if pid == 0:
            # session leader: the "shell"
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            job = os.fork()
            if job == 0:
                os.setpgid(0, 0)
                os.tcsetpgrp(0, os.getpgrp())
                signal.signal(signal.SIGTTOU, signal.SIG_DFL)
                cmd = [*prefix, "sh", "-c", "echo ready; read x; echo got $x; exec cat"]
                os.execvp(cmd[0], cmd)
            try:
                os.setpgid(job, job)
            except OSError:
                pass
            _, st = os.waitpid(job, os.WUNTRACED)
            assert os.WIFSTOPPED(st) and os.WSTOPSIG(st) == signal.SIGTSTP, hex(st)
            os.tcsetpgrp(0, os.getpgrp())
            os.write(1, b"stopped\n")
            # In the background it may not read the terminal.
            os.kill(-job, signal.SIGCONT)
            _, st = os.waitpid(job, os.WUNTRACED)
            assert os.WIFSTOPPED(st) and os.WSTOPSIG(st) == signal.SIGTTIN, hex(st)
            os.write(1, b"ttin\n")
            os.tcsetpgrp(0, job)
            os.kill(-job, signal.SIGCONT)
            _, st = os.waitpid(job, os.WUNTRACED)
            assert os.WIFSIGNALED(st) and os.WTERMSIG(st) == signal.SIGINT, hex(st)
            os.tcsetpgrp(0, os.getpgrp())
            os.write(1, b"interrupted\n")
            os._exit(0)
        seen = b""

        def expect(text):
            nonlocal seen
            end = time.monotonic() + 20
            while text not in seen:
                assert select.select([tty], [], [], max(0, end - time.monotonic()))[0], (
                    f"{prefix}: no {text!r} in {seen!r}")
                try:
                    more = os.read(tty, 4096)
                except OSError:
                    more = b""
                assert more, f"{prefix}: no {text!r} in {seen!r}"
                seen += more

        expect(b"ready")
        os.write(tty, b"\x1a")
        expect(b"stopped")
        expect(b"ttin")
        os.write(tty, b"hello\n")
        expect(b"got hello")
        os.write(tty, b"\x03")
        expect(b"interrupted")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        os.close(tty)
    ok("stop, background, continue and interrupt from a terminal")


def hangup():
    """Closing the terminal ends CMD and nothing of run holds the terminal."""
    pid, tty = pty.fork()
    if pid == 0:
        cmd = [*RUN, "sh", "-c", "echo ready; exec sleep 60"]
        os.execvp(cmd[0], cmd)
    seen = b""
    while b"ready" not in seen:
        assert select.select([tty], [], [], 20)[0], "no output"
        seen += os.read(tty, 100)
    os.close(tty)
    st = os.waitpid(pid, 0)[1]
    assert os.waitstatus_to_exitcode(st) == -signal.SIGHUP, st
    ok("hang-up of the terminal ends CMD")


def stopped_group():
    """A group in the background: SIGTERM to the group ends CMD and its children."""
    p = subprocess.Popen([*RUN, "sh", "-c", "sleep 60 & sleep 60 & echo; wait"],
                         stdout=subprocess.PIPE, start_new_session=True)
    p.stdout.readline()
    assert os.getpgid(p.pid) == p.pid
    os.killpg(p.pid, signal.SIGTERM)
    assert p.wait(20) == -signal.SIGTERM
    assert select.select([p.stdout], [], [], 10)[0]
    assert p.stdout.read() == b"", "a process of the group lives on"
    p.stdout.close()
    ok("a signal to the group reaches CMD and its children")


for check in (killed_by, inherited, descriptors, no_stray_child, job_control, hangup,
              stopped_group):
    try:
        check()
    except (AssertionError, subprocess.CalledProcessError) as e:
        sys.exit(f"FAIL: {check.__name__}: {e} {getattr(e, 'stderr', '') or ''}")
