#!/usr/bin/python3
"""compare.py NATIVE RUN DIFFERENCES [--only SUBSTRING] [--mode root|user]

Compares two outputs of a table program, lines "KEY: VALUE". Lines of one key keep their order,
those of different keys may come in any. DIFFERENCES lists the documented ones:

    # why it is so
    KEY-PATTERN: NATIVE VALUE => VALUE UNDER RUN

with * and ? in all three; "(missing)" stands for a line that is not there. Exit status 1 if
something differs and is not listed, or is listed and does not differ any more. What follows a
line "[root]" or "[user]" counts in that mode only, up to the next such line; "[all]" ends it."""
import collections
import fnmatch
import re
import sys

MISSING = "(missing)"


def load(path):
    table = collections.OrderedDict()
    with open(path, encoding="utf-8", errors="replace") as f:
        for line in f:
            key, _, value = line.rstrip("\n").partition(": ")
            table.setdefault(key, []).append(value)
    return table


def pattern(text):
    # only * and ? are special: addresses have brackets
    return re.compile(fnmatch.translate(re.sub(r"[\[]", "[[]", text.strip())))


def load_differences(path, mode):
    found, comment, section = [], False, "[all]"
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            line = line.rstrip("\n")
            if line.startswith("#"):
                comment = True
            elif line in ("[all]", "[root]", "[user]"):
                section, comment = line, False
            elif not line.strip():
                comment = False
            else:
                m = re.fullmatch(r"(\S+): (.*) => (.*)", line)
                if not m or not comment:
                    sys.exit(f"{path}:{number}: want a comment above and 'KEY: NATIVE => RUN'")
                if section not in ("[all]", f"[{mode}]"):
                    continue
                found.append((number, [pattern(g) for g in m.groups()], line))
    return found


def main():
    args = sys.argv[1:]
    only = None
    mode = "root"
    if "--mode" in args:
        at = args.index("--mode")
        mode = args[at + 1]
        del args[at : at + 2]
    if "--only" in args:
        at = args.index("--only")
        only = args[at + 1]
        del args[at : at + 2]
    native, run = load(args[0]), load(args[1])
    documented = load_differences(args[2], mode)
    used, new, same, known = set(), [], 0, 0
    for key in list(native) + [k for k in run if k not in native]:
        a, b = native.get(key, []), run.get(key, [])
        for i in range(max(len(a), len(b))):
            x = a[i] if i < len(a) else MISSING
            y = b[i] if i < len(b) else MISSING
            hits = [
                n for n, (k, p, q), _line in documented
                if k.match(key) and p.match(x) and q.match(y)
            ] if x != y else []
            if x == y:
                same += 1
            elif hits:
                used.update(hits)
                known += 1
            else:
                new.append(f"  {key}: {x} => {y}")
    stale = [
        f"  {args[2]}:{n}: {line}" for n, _p, line in documented
        if n not in used and (only is None or only in line)
    ]
    if not same:
        print("FAIL: nothing to compare")
        sys.exit(1)
    if new:
        print("different, native => run:")
        print("\n".join(new))
    if stale:
        print("documented, but not different any more:")
        print("\n".join(stale))
    print(f"{same} the same, {known} documented differences, {len(new)} others, {len(stale)} stale")
    sys.exit(1 if new or stale else 0)


main()
