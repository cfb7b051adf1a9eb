"""Many sessions and many messages leave nothing behind."""
import glob
import os
import re
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from plane import Plane, all_pids, alive, mounts, until  # noqa: E402

SESSIONS, MESSAGES = 200, 1000


@pytest.fixture(scope="module")
def plane():
    with Plane() as p:
        p.agent("coder", tools=["shell"])
        yield p


def descriptors(plane):
    return {name: len(os.listdir("/proc/%d/fd" % pid)) for name, pid in plane.daemons().items()}


def own_memory(plane):
    """KiB of memory that a process has written, by process. Its share of programs and libraries is left out: that grows when
    another control plane, of a test beside this one, ends."""
    out = {}
    for name, pid in plane.daemons().items():
        with open("/proc/%d/smaps_rollup" % pid) as f:
            out[name] = int(re.search(r"^Anonymous: +(\d+)", f.read(), re.M).group(1))
    return out


def files(plane):
    return sorted(p for p in glob.glob(plane.state + "/**", recursive=True) if not p.endswith(("-wal", "-shm", "-journal")))


def use_once(plane):
    session = plane.session("coder")
    assert plane.ask(session, "run: echo used > /workspace/x; cat /workspace/x").endswith("used\n")
    plane.json("DELETE", "/v1/sessions/" + session, expect=204)


def test_200_sessions_used_once_and_removed_leave_the_host_as_it_was(plane):
    for _ in range(5):
        use_once(plane)
    before = (files(plane), mounts(), plane.daemons())
    held, memory = descriptors(plane), own_memory(plane)
    for _ in range(SESSIONS):
        use_once(plane)
    assert plane.json("GET", "/v1/sessions")["sessions"] == []
    until("no process is left", lambda: plane.sandboxes() == [])
    assert plane.cgroups() == []
    assert (files(plane), mounts(), plane.daemons()) == before, "files, mounts, processes"
    until("no descriptor is left", lambda: descriptors(plane) == held)
    grown = {name: kib - memory[name] for name, kib in own_memory(plane).items()}
    assert all(kib < 512 for kib in grown.values()), "KiB grown by process: %s" % grown


def test_1000_messages_grow_neither_memory_nor_descriptors(plane):
    session = plane.session("coder")
    for n in range(300):
        plane.ask(session, "warm up %d" % n)
    held, memory = descriptors(plane), own_memory(plane)
    sandbox = plane.json("GET", "/v1/sessions/%s/stats" % session)
    after = plane.last(session) and max(r["seq"] for r in plane.history(session) if r["direction"] == "out")
    for n in range(MESSAGES):
        plane.send(session, "message %d" % n)
        answer = until("an answer", lambda: plane.answers(session, after, wait=5))[0]
        assert answer["text"].endswith("You said: message %d" % n)
        after = answer["seq"]
    assert descriptors(plane) == held
    grown = {name: kib - memory[name] for name, kib in own_memory(plane).items()}
    assert all(kib < 512 for kib in grown.values()), "KiB grown by process: %s" % grown
    now = plane.json("GET", "/v1/sessions/%s/stats" % session)
    assert now["pids"] == sandbox["pids"] and now["memory_bytes"] < sandbox["memory_bytes"] + (2 << 20), (sandbox, now)
    plane.json("DELETE", "/v1/sessions/" + session, expect=204)


def test_many_sessions_at_once_are_all_answered_and_all_removed(plane):
    sessions = [plane.session("coder") for _ in range(30)]
    for session in sessions:
        plane.send(session, "hello %s" % session)
    for session in sessions:
        answer = until("an answer", lambda: plane.answers(session, 0, wait=10), 60)[0]
        assert answer["text"].endswith("hello " + session)
    pids = plane.sandboxes()
    assert len(pids) >= 60
    for session in sessions:
        plane.json("DELETE", "/v1/sessions/" + session, expect=204)
    until("no sandbox is left", lambda: not any(alive(p) for p in pids))
    assert set(plane.daemons().values()) <= set(all_pids())
