"""kill -9 at any point costs nothing that was acknowledged; a decision is applied exactly once."""
import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from test_vault_spine import M, Closed, Vault, s, u32  # noqa: E402,F401


def outbound(v, session):
    got, after = {}, 0
    while True:
        page = v.api("MESSAGE_LIST", session, after=after, limit=1000).body
        if not page["messages"]:
            return got
        got.update({m["seq"]: m["text"] for m in page["messages"]})
        after = page["last"]


@pytest.mark.parametrize("seed", range(4))
def test_every_acknowledged_message_survives_kill_9(tmp_path, seed):
    rng = random.Random(seed)
    v = Vault(tmp_path / "state").start().setup()
    v.agent()
    session = v.session()
    acked = {}
    for life in range(3):
        q = v.connect(session)
        killer = threading.Timer(rng.uniform(0.02, 0.3), v.process.proc.kill)
        killer.start()
        try:
            for n in range(100000):
                text = "life %d message %d" % (life, n)
                acked[q.ask(op="append", kind="message", text=text)["seq"]] = text
        except (Closed, OSError):
            pass
        killer.join()
        v.process.proc.communicate()
        v.start()
        assert v.serve_start()[0] == session
        got = outbound(v, session)
        assert {k: got.get(k) for k in acked} == acked
        assert sorted(got) == list(range(1, len(got) + 1))
    v.stop()
    assert acked


def test_an_approved_change_that_was_not_applied_is_applied_at_start_exactly_once(tmp_path):
    v = Vault(tmp_path / "state").start().setup()
    v.agent()
    change = v.api("CHANGE_SUBMIT", body={"kind": "tools", "agent": "coder", "document": {"tools": ["shell"]}}).body
    v.stop()
    with sqlite3.connect(os.path.join(v.state, "registry.db")) as db:  # as if killed right after the decision
        db.execute("UPDATE changes SET state='approved', audited='approved', decided_by='root' WHERE id=?", (change["id"],))
    db.close()
    for _ in range(2):
        v.start()
        assert v.api("CHANGE_GET", change["id"]).body["state"] == "applied"
        agent = v.api("AGENT_GET", "coder").body
        assert (agent["revision"], agent["tools"]) == (2, ["shell"])
        v.stop()


def test_the_record_of_a_decision_is_written_at_start_when_it_is_owed(tmp_path):
    v = Vault(tmp_path / "state").start().setup()
    v.agent()
    v.stop()
    with sqlite3.connect(os.path.join(v.state, "registry.db")) as db:
        db.execute("UPDATE changes SET audited='approved'")
    db.close()
    v.start()
    records = v.api("AUDIT_LIST", limit=1000).body["records"]
    assert [r.get("recovered") for r in records if r["type"] == "change.applied"] == [None, True]
    v.stop()


def test_a_torn_audit_line_is_cut_off_and_that_is_recorded(tmp_path):
    v = Vault(tmp_path / "state").start().setup()
    v.kill()
    with open(os.path.join(v.state, "audit.log"), "ab") as f:
        f.write(b'{"seq":99,"time":')
    v.start()
    records = v.api("AUDIT_LIST", limit=1000).body["records"]
    assert [r["bytes_cut"] for r in records if r["type"] == "audit.repaired"] == [17]
    assert [r["seq"] for r in records] == list(range(1, len(records) + 1))
    v.stop()


def test_an_altered_last_audit_line_stops_the_start_with_one_sentence(tmp_path):
    v = Vault(tmp_path / "state").start().setup()
    v.stop()
    path = os.path.join(v.state, "audit.log")
    data = open(path, "rb").read()
    at = data.rindex(b'"time":') + 8
    open(path, "wb").write(data[:at] + (b"1" if data[at:at + 1] != b"1" else b"2") + data[at + 1:])
    v.start(ready=False)
    err = v.process.proc.communicate(timeout=20)[1].decode()
    assert v.process.proc.returncode == 1 and "altered" in err and "audit verify" in err


def two_sessions(v):
    v.setup()
    v.agent()
    sessions = [v.session(), v.session()]
    for session in sessions:
        for n in range(3):
            assert v.api("MESSAGE_SEND", session, {"text": "message %d" % n}).status == 201
    return sessions


def test_a_damaged_session_is_refused_by_name_and_the_others_work_on(tmp_path):
    v = Vault(tmp_path / "state").start()
    broken, sound = two_sessions(v)
    v.stop()
    path = os.path.join(v.state, "sessions", broken, "inbound.db")
    data = open(path, "rb").read()
    open(path, "wb").write(data[:len(data) // 2])
    v.start()
    for _ in range(2):
        v.serve_start()
    reply = v.api("MESSAGE_SEND", broken, {"text": "more"})
    assert (reply.status, reply.code) == (500, "damaged") and "truncated" in reply.body["error"]["message"]
    assert v.api("MESSAGE_SEND", sound, {"text": "more"}).body == {"seq": 4}
    kind, ident, fields, _ = v.launcher()
    assert kind == M["LAUNCH_STOP"] and fields.str() == broken
    v.links["PEER_LAUNCHER"].reply(ident, u32(0) + s(""))
    end = time.monotonic() + 10  # the launcher's answer and the question below come by different links
    while (shown := v.api("SESSION_GET", broken).body)["state"] == "stopping" and time.monotonic() < end:
        time.sleep(0.01)
    assert (shown["state"], shown["reason"]) == ("damaged", "truncated")
    v.stop()


def test_a_log_that_was_cut_back_to_a_signed_checkpoint_is_refused_by_name(tmp_path):
    v = Vault(tmp_path / "state").start().setup()
    v.stop()
    path = os.path.join(v.state, "audit.log")
    shorter = open(path, "rb").read()
    assert b'"type":"checkpoint"' in shorter.splitlines()[-1]
    v.start()
    v.agent()
    v.stop()
    whole = open(path, "rb").read()
    open(path, "wb").write(shorter)
    v.start(ready=False)
    err = v.process.proc.communicate(timeout=20)[1].decode()
    assert v.process.proc.returncode == 1 and "audit.log is refused: rolled-back" in err
    open(path, "wb").write(whole)
    v.start()
    v.stop()


def test_an_unfinished_creation_leaves_nothing(tmp_path):
    v = Vault(tmp_path / "state").start().setup()
    v.agent()
    session = v.session()
    v.stop()
    with sqlite3.connect(os.path.join(v.state, "registry.db")) as db:
        db.execute("UPDATE sessions SET phase='creating'")
    db.close()
    v.start()
    assert v.api("SESSION_LIST").body == {"sessions": [], "truncated": False}
    assert not os.path.exists(os.path.join(v.state, "sessions", session))
    v.stop()
