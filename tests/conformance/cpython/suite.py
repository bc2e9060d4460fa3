#!/usr/bin/python3
"""suite.py --out FILE [--skip FILE] [--only FILE] [--exclude REGEX] [--limit S]
         [--resources NAMES] MODULE

Runs one module of CPython's own test package and writes one JSON line per event to FILE:

    {"start": ID}                       a test begins
    {"id": ID, "outcome": OUTCOME}      ok fail error skip (with "why": the last line of it)
    {"done": N}                         the module came to its end

A test that takes longer than S seconds ends this process with a dump of all stacks: its "start"
is then the last line, and the caller starts us again with the ids seen so far in --skip.
Resources (network, cpu, walltime, ...) are off, as with `python3 -m test -u none`, unless named."""
import argparse
import faulthandler
import json
import os
import re
import sys
import unittest

PASSED = ("ok",)
WORST = {"ok": 0, "skip": 1, "fail": 2, "error": 3}


class Result(unittest.TestResult):
    """The events of a test in their final form when it has stopped."""

    def __init__(self, out, limit):
        super().__init__()
        self.out = out
        self.limit = limit
        self.now = None  # [id, outcome, why] of the running test

    def emit(self, **event):
        self.out.write(json.dumps(event) + "\n")
        self.out.flush()

    def startTest(self, test):
        super().startTest(test)
        self.now = [test.id(), None, ""]
        self.emit(start=test.id())
        if self.limit:
            faulthandler.dump_traceback_later(self.limit, exit=True)

    def stopTest(self, test):
        super().stopTest(test)
        faulthandler.cancel_dump_traceback_later()
        name, outcome, why = self.now
        self.now = None
        # no verdict at all happens when sub-tests failed: those were counted
        self.emit(id=name, outcome=outcome or "ok", why=why)

    def note(self, test, outcome, why=""):
        if self.now is None:  # setUpModule, setUpClass, tearDownClass
            self.emit(id=test.id(), outcome=outcome, why=why)
            return
        if self.now[1] is None or WORST[outcome] > WORST[self.now[1]]:
            self.now[1:] = [outcome, why]

    def complain(self, test, outcome, err):
        text = self._exc_info_to_string(err, test)
        print(f"== {test.id()}: {outcome}\n{text}", file=sys.stderr, flush=True)
        lines = text.strip().splitlines()
        self.note(test, outcome, lines[-1][:300] if lines else "")

    def addSuccess(self, test):
        self.note(test, "ok")

    def addFailure(self, test, err):
        self.complain(test, "fail", err)

    def addError(self, test, err):
        self.complain(test, "error", err)

    def addSkip(self, test, reason):
        self.note(test, "skip", str(reason)[:300])

    def addExpectedFailure(self, test, err):
        self.note(test, "ok", "expected failure")

    def addUnexpectedSuccess(self, test):
        self.note(test, "fail", "unexpected success")

    def addSubTest(self, test, subtest, err):
        if err is not None:
            kind = "fail" if issubclass(err[0], test.failureException) else "error"
            self.complain(subtest, kind, err)


def chosen(suite, keep):
    """The same suite without the tests that @keep does not want: class fixtures still work."""
    out = unittest.TestSuite()
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            out.addTest(chosen(item, keep))
        elif keep(item.id()):
            out.addTest(item)
    return out


def ids(path):
    if not path:
        return None
    with open(path, encoding="utf-8") as f:
        return set(f.read().split("\n")) - {""}


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", required=True)
    ap.add_argument("--skip")
    ap.add_argument("--only")
    ap.add_argument("--exclude")
    ap.add_argument("--limit", type=float, default=0)
    ap.add_argument("--resources", default="")
    ap.add_argument("module")
    args = ap.parse_args()
    out = open(args.out, "a", encoding="utf-8")
    skip, only = ids(args.skip) or set(), ids(args.only)
    exclude = re.compile(args.exclude) if args.exclude else None

    # as a child of a multiprocessing test imports this file, nothing above may have side effects
    faulthandler.enable()
    from test import support
    from test.support import os_helper

    support.use_resources = args.resources.split()
    support.verbose = 1
    sys.argv = sys.argv[:1]  # some tests pass our arguments on

    def keep(name):
        return (
            name not in skip
            and (only is None or name in only)
            and not (exclude and exclude.search(name))
        )

    with os_helper.temp_cwd(os.path.join(os.environ["TMPDIR"], "cwd")):
        suite = unittest.defaultTestLoader.loadTestsFromName("test." + args.module)
        result = Result(out, args.limit)
        suite = chosen(suite, keep)
        suite.run(result)
        result.emit(done=result.testsRun)
    # A thread that a test left behind must not keep us; children are the caller's to judge.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
