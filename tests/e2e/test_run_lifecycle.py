"""The container wall: limits in the kernel's files, the terminal, and that nothing stays behind. What every wall promises is in test_wall_conformance.py."""
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import termios
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from sandbox import Terminal, cgroups, eventually, processes_of  # noqa: E402


# ---- processes


def test_an_orphan_is_reaped_and_ends_with_the_command(box):
    marker = "8%06d" % random.randrange(10**6)
    assert box.sh("(sleep %s &) ; (true &) ; echo done" % marker) == "done\n"
    eventually(lambda: not processes_of(marker))


# ---- limits


def test_the_memory_limit_kills_and_says_so(root_box):
    done = root_box.run("--memory", "16M", "--", "sh", "-c", "x=0123456789abcdef; while :; do x=$x$x; done")
    assert done.returncode == 137
    assert "memory limit was reached" in done.stderr


def pids_group(pid):
    """The directory of that run's sandbox in the hierarchy that counts processes."""
    def found():
        return [p for p in map(pathlib.Path, cgroups()) if p.name == "run-%d" % pid and (p / "pids.max").exists()]

    eventually(found)
    return found()[0]


def test_the_pids_limit_stops_a_fork_bomb(root_box):
    process = root_box.start("--pids", "12", "--", "sh", "-c", "(for i in $(seq 40); do sleep 60 & done; echo all); read wait", stdin=subprocess.PIPE)
    try:
        group = pids_group(process.pid)
        assert (group / "pids.max").read_text() == "12\n"
        # The kernel counts the forks it refused (pids.events); a shell that was refused one ends, so 12 may be seen only briefly.
        eventually(lambda: int((group / "pids.events").read_text().split()[1]) > 0)
        assert "can't fork" in process.stderr.readline()
        assert (group / "pids.current").read_text() in ("11\n", "12\n")  # the shell that could not fork has ended or is about to
    finally:
        process.terminate()
        out, _ = process.communicate(timeout=30)
    assert "all" not in out


def test_a_limit_the_host_cannot_enforce_is_an_error(rootless_box):
    if any(os.access(d, os.W_OK) for d in ("/sys/fs/cgroup/memory",)) and os.geteuid() != 0:
        pytest.skip("this user may create memory cgroups")
    done = rootless_box.run("--memory", "64M", "--", "true")
    assert done.returncode == 125
    assert len(done.stderr.splitlines()) == 1, "the error says all there is to say"
    assert done.stderr.startswith("ironclaw: ") and "memory limit cannot be enforced" in done.stderr


def test_rootless_says_in_one_line_what_is_missing(rootless_box):
    lines = rootless_box.run("--", "true").stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("ironclaw: warning: rootless:")


def test_resource_limits_are_set(box):
    limits = {line[:26].strip(): line[26:].split()[0] for line in box.sh("cat /proc/self/limits").splitlines()[1:]}
    assert limits["Max core file size"] == "0"
    assert int(limits["Max open files"]) <= 1024
    assert int(limits["Max locked memory"]) <= 64 << 10


# ---- data


def test_a_reader_that_goes_away_ends_the_command(box):
    with box.start("--", "yes", stderr=subprocess.DEVNULL) as process:
        assert process.stdout.readline() == "y\n"
        process.stdout.close()
        assert process.wait(timeout=30) == 128 + signal.SIGPIPE


# ---- the terminal


def test_a_terminal_of_its_own_with_the_callers_size(box):
    with Terminal(box, "-t", "--", "sh", "-c", "tty && stty size && echo a-terminal") as t:
        t.expect("/dev/pts/0")
        t.expect("33 77")
        t.expect("a-terminal")
        assert t.process.wait(timeout=30) == 0
        assert termios.tcgetattr(t.slave) == t.before


def test_the_terminal_has_the_callers_size_from_the_start(box):
    for _ in range(10):
        with Terminal(box, "-t", "--", "stty", "size") as t:
            t.expect("33 77")
            assert t.process.wait(timeout=30) == 0


# ---- nothing stays behind


# Directories of this suite, and of the commands that other tests run at the same time; those tests look after them.
OTHERS = re.compile("ironclaw-(test-|redteam\\.|bench\\.)")


def host_state(box):
    return {"mounts": open("/proc/self/mountinfo").read(),
            "state": sorted(str(p) for p in (box.base / "state").rglob("*")), "tmp": {n for n in os.listdir("/tmp") if "ironclaw" in n and not OTHERS.match(n)}}


def test_two_hundred_runs_leave_the_host_as_it_was(box):
    box.sh("true")
    before = host_state(box)
    pids = []
    for _ in range(200):
        process = box.start("--", "true", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert process.wait(timeout=30) == 0
        pids.append(process.pid)
    assert host_state(box) == before
    # gone when the command returns, not by a later sweep; other sandboxes of this host may come and go
    assert [g for g in cgroups() if int(g.rsplit("-", 1)[1]) in pids] == []


def test_killing_it_at_any_moment_leaves_no_process_and_no_mount(box):
    box.sh("true")
    mounts = open("/proc/self/mountinfo").read()
    marker = "6%06d" % random.randrange(10**6)
    pids = []
    for _ in range(50):
        process = box.start("--", "sleep", marker, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(random.random() * 0.03)  # not a wait: the moment of the kill is what varies
        process.kill()
        process.wait(timeout=30)
        pids.append(process.pid)
    eventually(lambda: not processes_of(marker))
    assert open("/proc/self/mountinfo").read() == mounts

    def swept():
        box.sh("true")
        return not [g for g in cgroups() if int(g.rsplit("-", 1)[1]) in pids]

    eventually(swept)
