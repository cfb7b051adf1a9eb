"""Any process of a cell killed at any moment: the rest works on or the cell ends, nothing hangs, nothing stays behind.
20 seconds here; `./run soak` gives it 5 minutes."""
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from sandbox import eventually  # noqa: E402

SECONDS = float(os.environ.get("IRONCLAW_SOAK_SECONDS", "20"))
WORKLOAD = "i=0; while [ $i -lt 30 ]; do (echo $i >/workspace/$i; sleep 0.01) & ls / >/dev/null; wait; i=$((i+1)); done"
# What may be said of an end that came from outside: who was killed decides.
SENTENCES = ("the cell cannot go on: thread ", "the sandbox ended while it was being built", "Killed", "the cell's kernel was killed")


def descendants(pid):
    found, todo = [], [pid]
    while todo:
        try:
            for task in pathlib.Path("/proc/%d/task" % todo.pop()).iterdir():
                children = [int(p) for p in (task / "children").read_text().split()]
                found += children
                todo += children
        except OSError:
            pass
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: a sandbox's processes belong to another uid")
def test_any_process_killed_at_any_moment(boxes):
    box, rnd, killed, runs = boxes("cell", "root"), random.Random(7), 0, 0
    marker = "/workspace/$i; sleep 0.01"
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        run = box.start("--timeout", "30s", "--", "sh", "-c", WORKLOAD)
        time.sleep(rnd.random() * 0.3)
        targets = descendants(run.pid)
        if targets:
            try:
                os.kill(rnd.choice(targets), signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                pass
        started = time.monotonic()
        _, errors = run.communicate(timeout=20)  # a hang fails here
        assert time.monotonic() - started < 15, errors
        for line in errors.splitlines():
            assert any(s in line for s in SENTENCES), errors
        runs += 1
    assert runs > 5 and killed > runs / 2, (runs, killed)
    eventually(lambda: not [p for p in pathlib.Path("/proc").glob("[0-9]*/cmdline") if marker.encode() in read(p)])
    done = box.run("--", "echo", "still works")
    assert done.stdout == "still works\n", done.stderr


def read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: no memory limit to run into")
@pytest.mark.parametrize("program", ["tail /dev/zero", "x=$(tr '\\0' x </dev/zero); echo never", "awk 'BEGIN {for (;;) x[n++] = n}'"])
def test_a_program_that_runs_out_of_memory_leaves_the_others(boxes, program):
    """Mostly: where the host kills the thread that is in the cell's kernel just then, the cell ends and says so."""
    survived = 0
    for _ in range(4):
        done = boxes("cell", "root").run("--memory", "32M", "--timeout", "60s", "--", "sh", "-c", "sh -c \"$1\"; echo survived", "sh", program, timeout=90)
        survived += done.stdout.endswith("survived\n")
        assert done.stdout.endswith("survived\n") or (done.returncode == 137 and "the cell cannot go on: " in done.stderr), (done.returncode, done.stdout, done.stderr)
    assert survived >= 2
