"""kill -9 of every process of the control plane, at random moments, while messages flow and changes are decided.

No acknowledged message is lost or doubled, the others keep running, the next start repairs what was left.
"""
import http.client
import json
import os
import random
import sys
import threading
import time
from collections import Counter

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from plane import DAEMONS, Plane, alive, status_of, until  # noqa: E402


@pytest.fixture
def plane():
    with Plane() as p:
        p.agent("coder", tools=["shell"])
        yield p


class Traffic:
    """A client that sends numbered messages, repeating each with its key until it is acknowledged."""

    def __init__(self, plane, session):
        self.plane, self.session, self.acknowledged, self.failure = plane, session, {}, None
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        number = 0
        try:
            while not self.ending.is_set():
                number += 1
                text = "message-%d." % number
                self.acknowledged[text] = self._send(text)
                self.ending.wait(0.005)
        except Exception as error:
            self.failure = error

    def _send(self, text):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                status, _, body = self.plane.http("POST", "/v1/sessions/%s/messages" % self.session, {"text": text, "idempotency_key": text}, timeout=20)
                if status == 201:
                    return json.loads(body)["seq"]
                assert status >= 500 or status == 429, (status, body)
            except (OSError, http.client.HTTPException):
                pass
            self.ending.wait(0.02)
        raise AssertionError("%s was not accepted for a minute" % text)

    def progress(self):
        """Waits until something more is acknowledged: the flow goes on."""
        before = len(self.acknowledged)
        until("messages flow", lambda: self.failure or len(self.acknowledged) > before + 2, 60)
        assert not self.failure, self.failure

    def check(self):
        """Ends it. Every message stands once, under its number, and is answered once."""
        self.ending.set()
        self.thread.join(90)
        assert not self.thread.is_alive() and not self.failure, self.failure
        plane, last = self.plane, max(self.acknowledged.values())
        answers, after = [], 0
        deadline = time.monotonic() + 90
        while not answers or max(a.get("in_reply_to", 0) for a in answers) < last:
            assert time.monotonic() < deadline, "not all are answered: %s of %d; %s" % (answers[-1:], last, plane.state_of(self.session))
            got = plane.answers(self.session, after, wait=5)
            answers += got
            after = max([after] + [a["seq"] for a in got])
        records = [r for r in plane.json("GET", "/v1/sessions/%s/history?limit=1000" % self.session)["records"] if r["direction"] == "in"]
        assert len(self.acknowledged) < 480, "more than one page of history"
        assert {r["text"]: r["seq"] for r in records} == self.acknowledged
        assert sorted(self.acknowledged.values()) == list(range(1, last + 1)), "each once, none between"
        replied = Counter(a["in_reply_to"] for a in answers if a.get("in_reply_to"))
        assert replied == Counter(range(1, last + 1)), "each is answered once: %s" % [x for x in replied.items() if x[1] > 1]
        assert "ok" in plane.cli("audit", "verify")


@pytest.mark.parametrize("victim", DAEMONS)
def test_the_end_of_one_process_loses_no_message_and_leaves_the_others_running(plane, victim):
    session = plane.session("coder")
    plane.running(session)
    traffic = Traffic(plane, session)
    for _ in range(2):
        traffic.progress()
        time.sleep(random.random() / 20)
        others = {n: p for n, p in plane.daemons().items() if n != victim}
        plane.kill(victim)
        plane.service()
        assert {n: p for n, p in plane.daemons().items() if n != victim} == others, "the others kept running"
        traffic.progress()
        plane.running(session)
    traffic.check()
    assert plane.ask(session, "are you back?").endswith("You said: are you back?")


def test_killed_supervisors_take_everything_along_and_the_next_start_repairs_it(plane):
    session = plane.session("coder")
    plane.running(session)
    traffic = Traffic(plane, session)
    for round_ in range(10):
        if round_ < 8:
            traffic.progress()
        time.sleep(random.random() / 10)
        daemons, sandboxes = list(plane.daemons().values()), plane.sandboxes()
        if round_ % 2:
            plane.kill("supervisor")
        else:
            plane.kill_all()
        until("no process is left behind", lambda: not any(alive(p) for p in daemons + sandboxes))
        assert os.path.exists(os.path.join(plane.state, "api.sock")), "the stale socket is there to be repaired"
        plane.start()
    plane.running(session)
    until("the stale cgroups are swept", lambda: len({os.path.basename(c) for c in plane.cgroups()}) == 1)
    traffic.check()
    names = [status_of(p)["Name"] for p in plane.sandboxes() if status_of(p)]
    assert len([n for n in names if n in ("ironclaw-init", "ironclaw-warden")]) == 1, names


def test_a_change_whose_application_is_interrupted_is_applied_exactly_once(plane):
    session = plane.session("coder")
    plane.running(session)
    for round_ in range(12):
        revision = plane.json("GET", "/v1/agents/coder")["revision"]
        change = plane.json("PATCH", "/v1/agents/coder", {"instructions": "round %d" % round_}, expect=202)["id"]

        def approve():
            try:
                plane.http("POST", "/v1/changes/%s/approve" % change, {}, timeout=20)
            except (OSError, http.client.HTTPException):
                pass
        thread = threading.Thread(target=approve)
        thread.start()
        time.sleep(random.random() * 0.008)
        if round_ % 3:
            plane.kill_all()
            thread.join(30)
            plane.start()
        else:
            plane.kill("vault")
            thread.join(30)
            plane.service()
        state = plane.json("GET", "/v1/changes/" + change)["state"]
        assert state in ("pending", "applied"), "decided and not applied: %s" % state
        plane.cli("change", "approve", change)
        plane.cli("change", "approve", change)
        agent = plane.json("GET", "/v1/agents/coder")
        assert (agent["revision"], agent["instructions"]) == (revision + 1, "round %d" % round_)
    assert plane.ask(session, "still there?").endswith("You said: still there?")
    assert "ok" in plane.cli("audit", "verify")
