"""Any process of a cell killed at any moment: the rest works on or the cell ends, nothing hangs, nothing stays behind.
A hundred cells here; `./run soak` makes it 1,000."""
import concurrent.futures
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from leftovers import Watch  # noqa: E402

CELLS = int(os.environ.get("IRONCLAW_SOAK_CELLS", "100"))
ALONE = "PYTEST_XDIST_WORKER" not in os.environ  # no other worker has sandboxes meanwhile
AT_ONCE = 4
# What a cell does when it is killed: options, and a shell's words.
WORKLOADS = {
    "computes": ([], "while :; do :; done"),
    "pipes": ([], "while :; do seq 1000 | cat | wc -l; done"),
    "forks": (["--pids", "48"], "f() { f & f & wait; }; f"),
    "writes": (["--workspace", "workspace"], "while :; do for i in 1 2 3 4 5 6; do head -c 100000 /dev/zero >$i; echo $i >/tmp/$i; mv $i x$i; rm x$i; done; done"),
    "sleeps": ([], "exec sleep 600"),
    "talks": ([], "while :; do nc -l -p 5000 >/dev/null </dev/null & sleep 0.02; head -c 1000000 /dev/zero | nc 127.0.0.1 5000; wait; done"),
    "ends by itself": (["--workspace", "workspace"], "for i in $(seq 20); do (echo $i >/tmp/$i; sleep 0.005) & ls / >/dev/null; wait; done"),
    "was ready": (["--memory", "96M"], "while :; do sleep 0.01; done"),
}
KILLED = ["ironclaw run", "warden", "pid 1", "workload", "workload", "file server", "anything", "SIGTERM", "--timeout"]
# What may be said of an end that came from outside: who was killed decides.
SENTENCES = ("the cell cannot go on: thread ", "the sandbox ended while it was being built", "Killed", "the cell's kernel was killed",
             "still running after --timeout", "cannot map uids for the sandbox: ")


def children(pid):
    try:
        return [int(p) for task in pathlib.Path("/proc/%d/task" % pid).iterdir() for p in (task / "children").read_text().split()]
    except OSError:
        return []


def descendants(pid):
    found = children(pid)
    return found + [p for child in found for p in descendants(child)]


def name(pid):
    try:
        return pathlib.Path("/proc/%d/comm" % pid).read_text().strip()
    except OSError:
        return ""


def parts(top):
    """{what: pids} of the cells that `top` has built."""
    every = descendants(top)
    wardens = [p for p in every if name(p) == "ironclaw-warden"]
    cells = [p for w in wardens for p in children(w) if name(p) == "ironclaw-cell"]
    return {"warden": wardens, "pid 1": cells, "workload": [p for c in cells for p in descendants(c)],
            "file server": [p for p in every if name(p) == "ironclaw-files"], "anything": every}


def one_cell(box, watch, server, number):
    """Starts a cell, kills something of it, waits for the end. Returns what was killed, "" if the cell was done first."""
    rnd = random.Random(number)
    (what, (options, script)), victim = rnd.choice(list(WORKLOADS.items())), rnd.choice(KILLED)
    if options[:1] == ["--workspace"]:
        options = ["--workspace", box.base / ("workspace-%d" % (number % AT_ONCE))]
    limit = ["--timeout", "%dms" % rnd.randrange(50, 400) if victim == "--timeout" else "30s"]
    run = box.start(*options, *limit, "--", "sh", "-c", "exec 2>/dev/null; " + script, stdout=subprocess.DEVNULL)
    top, killed = server.pid if what == "was ready" else run.pid, ""
    time.sleep(rnd.random() * 0.35)
    there = parts(top)
    watch.note(run.pid, there["anything"])
    if top == server.pid:
        for keeper in children(top):
            watch.note(keeper, [])
    pids = [run.pid] if victim in ("ironclaw run", "SIGTERM") else there.get(victim) or there["anything"] or [run.pid]
    if victim != "--timeout":
        try:
            os.kill(rnd.choice(pids), signal.SIGTERM if victim == "SIGTERM" else signal.SIGKILL)
            killed = victim
        except ProcessLookupError:
            pass
    started = time.monotonic()
    if what == "was ready" and pids != [run.pid]:  # perhaps another's
        time.sleep(0.1)
        run.kill()
    elif victim not in ("--timeout", "ironclaw run", "SIGTERM", "warden", "pid 1"):
        time.sleep(0.1)  # the rest may live on, and need not
        run.send_signal(rnd.choice([signal.SIGKILL, signal.SIGTERM]))
    _, errors = run.communicate(timeout=30)  # a hang fails here
    assert time.monotonic() - started < 15, (what, victim, errors)
    for line in errors.splitlines():
        assert any(s in line for s in SENTENCES), (what, victim, errors)
    return killed or ("--timeout" if victim == "--timeout" and run.returncode == 137 else "")


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: a sandbox's processes belong to another uid")
def test_cells_killed_at_any_moment_leave_the_host_as_it_was(boxes):
    box = boxes("cell", "root")
    for i in range(AT_ONCE):
        box.directory("workspace-%d" % i)
    assert box.run("--", "echo", "works").stdout == "works\n"  # makes the image
    watch = Watch(box, ALONE)
    server = box.start("--standby", 2, "--memory", "96M")
    assert "2 cell" in server.stdout.readline()
    try:
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            killed = list(pool.map(lambda n: one_cell(box, watch, server, n), range(CELLS)))
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)
    for i in range(AT_ONCE):  # what a program was writing when it was killed
        for path in (box.base / ("workspace-%d" % i)).iterdir():
            path.unlink()
    done = box.run("--", "echo", "still works")  # a start clears away what those left that were killed themselves
    assert done.stdout == "still works\n", done.stderr
    counts = {victim: killed.count(victim) for victim in KILLED}
    print("%d cells: %s" % (CELLS, ", ".join("%s %d" % count for count in counts.items())))
    assert killed.count("") < CELLS / 3 and (CELLS < 100 or all(counts.values())), counts
    left = watch.nothing_is_left()
    assert not left, "\n".join(left)


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: a sandbox's processes belong to another uid")
def test_what_is_left_is_noticed(boxes):
    """The comparison itself: a cell that runs on is all that a leak may be."""
    box = boxes("cell", "root")
    assert box.run("--", "echo", "works").stdout == "works\n"
    watch = Watch(box, ALONE)
    path = box.base / "state" / "forgotten"
    run = box.start("--", "sh", "-c", "echo started; exec sleep 600")
    try:
        assert run.stdout.readline() == "started\n"
        watch.note(run.pid, descendants(run.pid))
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(str(path))
            left = watch.left()
    finally:
        run.kill()
        run.communicate(timeout=20)
        path.unlink(missing_ok=True)
    for words in ("ironclaw run --wall cell", "(ironclaw-warden: run-%d" % run.pid, "holds /memfd:cell (deleted)", "maps a sandbox's memory: ",
                  "the control group /sys/fs/cgroup", "the file %s is new" % path, "the unix socket %s is new" % path,
                  *(["(ironclaw-cell) is still there", "is in the namespace net:", "is in the namespace mnt:"] if ALONE else [])):
        assert any(words in line for line in left), (words, left)
    assert box.run("--", "echo", "works").stdout == "works\n"
    assert not watch.nothing_is_left()


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


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: a sandbox's processes belong to another uid")
@pytest.mark.parametrize("how,count", [("vfork", 3), ("fork", 50)])
def test_a_parent_is_told_of_children_that_the_host_kills(boxes, tmp_path, how, count):
    box = boxes("cell", "root")
    box.sh("true")  # makes the base image
    tree = tmp_path / "rootfs"
    shutil.copytree(box.base / "state" / "images" / "base" / "rootfs", tree, symlinks=True)
    subprocess.run(["cc", "-D_GNU_SOURCE", "-static", "-O1", "-o", tree / "usr/bin/killed_children", pathlib.Path(__file__).parent / "killed_children.c", "-lpthread"],
                   check=True, timeout=60)
    run = box.start("--rootfs", tree, "--timeout", "60s", "--", "killed_children", how, str(count))
    try:
        assert run.stdout.readline() == "begins\n"
        main = children(parts(run.pid)["pid 1"][0])[0]
        while run.poll() is None:
            for child in children(main):
                time.sleep(0.003)  # it waits by then, and does not hold the kernel's lock
                try:
                    os.kill(child, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.001)
        assert (run.stdout.read(), run.returncode) == ("all were told\n", 0), run.stderr.read()
    finally:
        run.kill()
        run.communicate(timeout=20)


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: a sandbox's processes belong to another uid")
def test_a_workload_that_the_host_kills_at_its_very_beginning_ends_the_cell(boxes):
    """Before its process has told the cell's kernel which one of the host's it is, too."""
    box = boxes("cell", "root")
    assert box.run("--", "true").returncode == 0
    for _ in range(20):
        run = box.start("--timeout", "30s", "--", "sleep", "600", stdout=subprocess.DEVNULL)
        workload = []
        while run.poll() is None and not workload:
            workload = [p for warden in children(run.pid) for cell in children(warden) for p in children(cell) if name(cell) == "ironclaw-cell"]
        for pid in workload:
            os.kill(pid, signal.SIGKILL)
        _, errors = run.communicate(timeout=60)
        assert workload and run.returncode == 137 and "still running" not in errors, errors
