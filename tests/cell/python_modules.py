#!/usr/bin/env python3
"""The tests that Python has of itself, module by module, once on the host's kernel (the container wall) and once on the cell's: prints every
test whose result differs. `./run pythontests [MODULE]...`"""
import os
import pathlib
import subprocess
import sys
import xml.etree.ElementTree as xml

ROOT = pathlib.Path(__file__).resolve().parents[2]
IRONCLAW = os.environ.get("IRONCLAW", ROOT / "out" / "ironclaw")
MODULES = ["os", "io", "subprocess", "threading", "socket", "select", "signal", "mmap", "tempfile", "shutil", "time"]
LIMIT_S = 900


def suite():
    return subprocess.run(["/usr/bin/python3", "-c", "import os, test.test_os; print(os.path.dirname(test.test_os.__file__))"],
                          capture_output=True, text=True, check=True).stdout.strip()


def results(wall, module, tests):
    """What became of each test: "ok", "skipped: why" or the first line of its failure."""
    script = "cd /tmp && timeout %d python3 -m test --junit-xml /tmp/results.xml test_%s >/tmp/log 2>&1; cat /tmp/results.xml" % (LIMIT_S, module)
    done = subprocess.run([IRONCLAW, "run", "--wall", wall, "--image", "tools", "--memory", "2G", "--pids", "1024", "--timeout", "20m", "--env", "HOME=/tmp",
                           "--mount", tests + ":" + tests, "--", "bash", "-c", script], capture_output=True, text=True, errors="replace")
    try:
        cases = xml.fromstring(done.stdout).iter("testcase")
    except xml.ParseError:
        raise SystemExit("test_%s, %s: no results: exit status %d %s" % (module, wall, done.returncode, done.stderr.strip()[-300:]))
    found = {}
    for case in cases:
        word = "ok"
        for child in case:
            if child.tag in ("failure", "error"):
                word = "failed: " + ((child.text or "").strip().splitlines() or [""])[-1][:150]
            elif child.tag == "skipped":
                word = "skipped: " + (child.text or "").strip()[:150]
        found[case.get("name") or "(a module's own step)"] = word
    if len(found) < 2:
        raise SystemExit("test_%s, %s: no tests ran: %s" % (module, wall, found))
    return found


def kind(word):
    return word.split(":")[0]


def main(modules):
    tests, worst = suite(), 0
    for module in modules:
        outside, inside = results("container", module, tests), results("cell", module, tests)
        names = sorted(set(outside) | set(inside))
        different = [n for n in names if kind(outside.get(n, "missing")) != kind(inside.get(n, "missing"))]
        both = sum(1 for n in names if n not in different and kind(inside[n]) == "failed")
        print("test_%s: %d tests, %d differ, %d fail on both" % (module, len(names), len(different), both), flush=True)
        for name in different:
            print("  %s\n    container: %s\n    cell:      %s" % (name, outside.get(name, "missing"), inside.get(name, "missing")), flush=True)
            worst = worst or kind(inside.get(name, "missing")) == "failed"
    return int(worst)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or MODULES))
