#!/usr/bin/python3
"""expect.py NATIVE RUN TABLE

Checks two outputs, lines "FAMILY/KEY: VALUE", against a table of what is expected of both:

    # comment
    KEY: VALUE                       the same in both
    KEY: NATIVE VALUE | RUN VALUE    a known difference

* and ? in the values are wildcards. A key of the table that is not printed, or a printed one that
is not in the table, is an error as well. Exit status 1 if anything is not as expected."""
import fnmatch
import sys


def load(path):
    out = {}
    with open(path, encoding="utf-8", errors="replace") as f:
        for line in f:
            key, _, value = line.rstrip("\n").partition(": ")
            out.setdefault(key, []).append(value)
    return out


def main():
    table = {}
    with open(sys.argv[3], encoding="utf-8") as f:
        for line in f:
            line = line.rstrip("\n")
            if line and not line.startswith("#"):
                key, _, value = line.partition(": ")
                both = value.split(" | ")
                table[key] = (both[0], both[-1])
    bad, seen, pinned = [], set(), 0
    for side, what in ((0, "natively"), (1, "under run")):
        got = load(sys.argv[1 + side])
        for full, values in got.items():
            key = full.split("/", 1)[1]
            seen.add((key, side))
            want = table.get(key)
            for value in values:
                if want is None:
                    bad.append(f"  {full} {what}: {value}, not in the table")
                elif not fnmatch.fnmatchcase(value, want[side].replace("[", "[[]")):
                    bad.append(f"  {full} {what}: want {want[side]}, got {value}")
                else:
                    pinned += want[0] != want[1]
        for key in table:
            if (key, side) not in seen:
                bad.append(f"  {key} {what}: not printed")
    if bad:
        print("not as differences.table says:")
        print("\n".join(bad))
    differ = sum(a != b for a, b in table.values())
    print(f"{len(table)} lines in the table, {differ} of them differ, {len(bad)} not as expected")
    sys.exit(1 if bad or not pinned else 0)


main()
