"""Sessions: apart from each other, stopped, removed, out of memory, crashing; damage and edits are found by name."""
import glob
import json
import os
import shutil
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from plane import Plane, until  # noqa: E402


@pytest.fixture(scope="module")
def plane():
    with Plane() as p:
        p.agent("coder", tools=["shell", "write_file"])
        p.agent("other", tools=["shell", "write_file"])
        p.agent("crasher", command=["/bin/sh", "-c", "echo I crash; exit 7"])
        p.crashing = p.session("crasher")  # its back-off goes on while other tests run
        yield p


@pytest.fixture(scope="module")
def session(plane):
    session = plane.session("coder")
    plane.running(session)
    return session


def test_two_sessions_share_nothing(plane, session):
    others = [plane.session("coder"), plane.session("other")]
    for other in others:
        plane.running(other)
    plane.ask(session, "write: /workspace/mine: canary-7f3a")
    plane.ask(session, "my secret is canary-7f3a")
    uids = {s: os.stat(os.path.join(plane.state, "workspaces", s)).st_uid for s in [session] + others}
    assert len(set(uids.values())) == 3 and min(uids.values()) > plane.uid_base, "a uid of its own for each"
    for other in others:
        assert "canary" not in plane.ask(other, "run: cat /workspace/mine /workspace/../%s/mine 2>&1; ls -A /workspace" % session)
        assert "canary" not in plane.ask(other, "run: grep -rs canar[y] / --exclude-dir=proc --exclude-dir=sys --exclude-dir=dev; echo done")
        frame = json.dumps({"op": "history", "limit": 50, "session": session})
        answer = plane.ask(other, "run: printf '\\000\\000\\000\\%03o%s' | nc -w 2 127.0.0.1 8470" % (len(frame), frame))
        assert "canary-7f3a" not in answer and '"records"' in answer
        frame = json.dumps({"op": "hello"})
        answer = plane.ask(other, "run: printf '\\000\\000\\000\\%03o%s' | nc -w 2 127.0.0.1 8470" % (len(frame), frame))
        assert other in answer and session not in answer, "the port says whose it is; nobody can choose"
        assert not any("canary-7f3a" in r["text"] for r in plane.history(other))
        plane.json("DELETE", "/v1/sessions/" + other, expect=204)
    # What is on disk is sealed.
    for path in glob.glob(plane.state + "/sessions/**/*", recursive=True) + [plane.state + "/audit.log", plane.state + "/registry.db"]:
        if os.path.isfile(path):
            with open(path, "rb") as f:
                assert b"canary-7f3a" not in f.read(), path


def test_a_session_cannot_use_anothers_model_budget(plane):
    plane.agent("thrifty", tools=["shell"], model_limits={"token_budget": 400, "requests_per_minute": 1000, "concurrency": 4})
    spender, saver = plane.session("thrifty"), plane.session("thrifty")
    until("the budget is used up", lambda: "budget" in plane.ask(spender, "spend " + "much " * 50))
    assert "budget" in plane.ask(spender, "more")
    assert plane.ask(saver, "hello").endswith("You said: hello")
    plane.kill("modelproxy")
    plane.service()
    plane.kill("vault")
    plane.service()
    assert "budget" in plane.ask(spender, "after a crash?"), "what is used stays used"


def test_a_stopped_session_keeps_its_data_and_the_next_message_starts_it(plane, session):
    plane.ask(session, "write: /workspace/kept: still here")
    assert plane.json("POST", "/v1/sessions/%s/stop" % session)["state"] == "stopped"
    assert plane.http("GET", "/v1/sessions/%s/stats" % session)[0] in (404, 409, 503)
    assert not [d for d in plane.cgroups() if session in d]
    assert "still here" in plane.ask(session, "run: cat /workspace/kept")
    assert plane.state_of(session)["state"] == "running"
    stats = plane.json("GET", "/v1/sessions/%s/stats" % session)
    assert stats["memory_bytes"] > 0 and stats["pids"] >= 2


def test_out_of_memory_is_named_and_the_session_comes_back(plane):
    plane.agent("hungry", tools=["shell"], limits={"memory": 32 << 20, "cpus": 1, "pids": 64},
                command=["/bin/sh", "-c", "[ -e /workspace/ate ] && exec /usr/bin/ironclaw-agent; touch /workspace/ate; exec tail /dev/zero"])
    session = plane.session("hungry")
    exit_ = until("it has run out of memory", lambda: plane.state_of(session)["last_exit"])
    assert (exit_["code"], exit_["reason"]) == (137, "oom")
    assert plane.ask(session, "back?").endswith("You said: back?")
    assert plane.state_of(session)["restarts"] == 1
    # What dies inside without taking the agent along is the agent's own affair.
    assert "survived" in plane.ask(session, "run: tail /dev/zero; echo survived")


def test_removal_takes_the_data_and_the_session_along(plane):
    session = plane.session("other")
    plane.ask(session, "write: /workspace/x: y")
    plane.cli("session", "rm", session)
    assert plane.http("GET", "/v1/sessions/" + session)[0] == 404
    assert not [p for p in glob.glob(plane.state + "/**/*", recursive=True) if session in p]
    assert not [d for d in plane.cgroups() if session in d]


def test_a_removed_agents_sessions_end_and_take_no_more_messages(plane):
    plane.agent("brief", tools=["shell"])
    session = plane.session("brief")
    plane.ask(session, "hello")
    change = plane.json("DELETE", "/v1/agents/brief", expect=202)
    assert plane.ask(session, "still there?"), "held: nothing happened yet"
    plane.json("POST", "/v1/changes/%s/approve" % change["id"], {})
    until("its sandbox ends", lambda: plane.state_of(session)["state"] == "stopped")
    assert plane.http("POST", "/v1/sessions/%s/messages" % session, {"text": "x"})[0] == 409
    assert plane.http("POST", "/v1/sessions", {"agent": "brief"})[0] == 404
    assert len(plane.history(session)) == 4, "what was said can still be read"
    plane.json("DELETE", "/v1/sessions/" + session, expect=204)


def test_edited_dropped_and_reordered_lines_of_the_audit_log_are_found(plane):
    with open(plane.state + "/audit.log") as f:
        lines = f.readlines()
    key = plane.dir + "/audit.pub"
    with open(key, "w") as f:
        f.write(plane.json("GET", "/v1/audit/key")["public_key"])

    def verify(forged):
        path = plane.dir + "/forged.log"
        with open(path, "w") as f:
            f.writelines(forged)
        return plane.run("audit", "verify", "--log", path, "--public-key", key)
    assert verify(lines).returncode == 0
    middle = len(lines) // 2
    forgeries = {
        "edit": lines[:middle] + [lines[middle].replace(":", ": ", 1)] + lines[middle + 1:],
        "drop": lines[:middle] + lines[middle + 1:],
        "drop the first": lines[1:],
        "reorder": lines[:middle] + [lines[middle + 1], lines[middle]] + lines[middle + 2:],
        "repeat": lines[:middle + 1] + lines[middle:],
        "cut a line": lines[:middle] + [lines[middle][:-10] + "\n"] + lines[middle + 1:],
    }
    for name, forged in forgeries.items():
        done = verify(forged)
        assert done.returncode != 0 and "line" in done.stdout + done.stderr, (name, done)
    assert "ok" in plane.cli("audit", "verify"), "the log itself holds"


def test_a_rolled_back_queue_is_refused_and_named():
    with Plane() as plane:
        plane.agent("coder", tools=["shell"])
        session, healthy = plane.session("coder"), plane.session("coder")
        plane.ask(session, "one")
        plane.ask(healthy, "one")
        plane.stop()
        queue = "%s/sessions/%s" % (plane.state, session)
        shutil.copytree(queue, plane.dir + "/old")
        plane.start()
        plane.ask(session, "two")
        plane.stop()
        for name in os.listdir(queue):
            os.unlink(os.path.join(queue, name))
        for name in os.listdir(plane.dir + "/old"):
            shutil.copy2(os.path.join(plane.dir, "old", name), queue)
            os.chown(os.path.join(queue, name), plane.uid_base + 1, plane.uid_base + 1)
        plane.start()
        assert plane.http("POST", "/v1/sessions/%s/messages" % session, {"text": "three"})[0] >= 409
        shown = until("its sandbox is gone", lambda: next((s for s in [plane.cli("session", "show", session)] if "stopping" not in s), None))
        assert "damaged" in shown and "rolled back" in shown.replace("-", " ").replace("_", " "), shown
        assert plane.ask(healthy, "and you?").endswith("You said: and you?"), "only that session is refused"


def test_a_crash_loop_backs_off_and_says_failed(plane):
    """The last: it has been backing off while the others ran."""
    shown = until("it has failed", lambda: (lambda s: s if s["state"] == "failed" else None)(plane.state_of(plane.crashing)), 60)
    assert shown["restarts"] == 5 and shown["last_exit"] == {"code": 7, "reason": "exited"}
    assert "status 7" in shown["reason"]
    plane.json("DELETE", "/v1/sessions/" + plane.crashing, expect=204)
