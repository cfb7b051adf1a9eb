"""The main job through the whole control plane: bootstrap, agents, tools, held changes, a human who decides."""
import glob
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../lib"))
from openapi_check import Spec  # noqa: E402
from plane import Plane, UnixConnection, until  # noqa: E402

TOOLS = ["shell", "read_file", "request_change"]


@pytest.fixture(scope="module")
def plane():
    with Plane(bootstrap=False) as p:
        p.spec = Spec(p.json("GET", "/v1/openapi.json", token=None))
        p.before = {}
        for method, path in p.spec.operations:
            if not p.spec.public((method, path)):
                body = {} if "requestBody" in p.spec.operations[(method, path)][1] else None
                p.before[(method, path)] = p.http(method, re.sub(r"\{\w+\}", "x-1", path), body, token=None)[0]
        p.first = p.bootstrap_token()
        p.wrong = p.http("POST", "/v1/bootstrap", {"token": "ict_wrong", "name": "x"}, token=None)[0]
        p.bootstrap()
        yield p


@pytest.fixture(scope="module")
def coder(plane):
    plane.agent("coder", tools=TOOLS)
    session = plane.session("coder")
    plane.running(session)
    return session


def pending_of(plane, agent):
    return [c for c in plane.json("GET", "/v1/changes/pending")["changes"] if c["agent"] == agent]


def test_until_the_bootstrap_token_is_exchanged_every_other_endpoint_answers_403(plane):
    assert len(plane.before) > 25
    assert {key: status for key, status in plane.before.items() if status != 403} == {}


def test_the_bootstrap_token_is_exchanged_once_and_only_the_right_one(plane):
    assert plane.wrong in (401, 403)
    assert plane.http("POST", "/v1/bootstrap", {"token": plane.first, "name": "x"}, token=None)[0] in (401, 403, 409)
    assert plane.http("GET", "/v1/agents", token=plane.first)[0] == 401
    assert plane.json("GET", "/v1/whoami")["scope"] == "admin"
    assert os.stat(plane.token_file).st_mode & 0o777 == 0o600


def test_an_agent_does_not_exist_until_somebody_approves_it(plane):
    plane.cli("agent", "create", "late", "--tools", "shell")
    change, = pending_of(plane, "late")
    assert plane.http("GET", "/v1/agents/late")[0] == 404
    assert plane.http("POST", "/v1/sessions", {"agent": "late"})[0] == 404
    assert plane.run("chat", "late", "hello", "--timeout", "5").returncode != 0
    plane.cli("change", "approve", change["id"])
    assert "You said: hello" in plane.cli("chat", "late", "hello")


def test_the_agent_works_in_its_workspace_and_answers(plane, coder):
    assert plane.ask(coder, "hello").endswith("You said: hello")
    answer = plane.ask(coder, "run: echo sealed > /workspace/plan; cat /workspace/plan; id -u; hostname")
    assert "sealed\n1000\nsandbox" in answer and os.uname().nodename not in answer
    assert "sealed" in plane.ask(coder, "read: /workspace/plan")


def test_a_held_change_is_applied_to_the_live_session_by_its_approval(plane, coder):
    assert "write_file" not in plane.json("GET", "/v1/agents/coder")["tools"]
    plane.ask(coder, "write: /workspace/a: b")
    assert "No such file" in plane.ask(coder, "run: ls /workspace/a 2>&1")
    before = plane.sandboxes()
    assert "is held for a human" in plane.ask(coder, "need: write_file: to write")
    change, = pending_of(plane, "coder")
    assert change["submitted_by"].startswith("agent:coder") and "+" in plane.json("GET", "/v1/changes/" + change["id"])["diff"]
    assert plane.json("GET", "/v1/agents/coder")["tools"] == TOOLS, "held means not in force"
    plane.cli("change", "approve", change["id"])
    assert plane.json("GET", "/v1/agents/coder")["tools"] == TOOLS + ["write_file"], "what it had stays"
    plane.running(coder)
    assert not set(before) <= set(plane.sandboxes()), "the sandbox was restarted"
    plane.ask(coder, "write: /workspace/a: new rights")
    assert "new rights" in plane.ask(coder, "read: /workspace/a")


def test_a_rejected_change_changes_nothing_and_decisions_are_idempotent(plane, coder):
    before = plane.json("GET", "/v1/agents/coder")
    plane.ask(coder, "need: list_files: to look around")
    change, = pending_of(plane, "coder")
    path = "/v1/changes/" + change["id"]
    first = plane.json("POST", path + "/reject", {"comment": "no"}, expect=200)
    assert first["state"] == "rejected" and first["comment"] == "no"
    assert plane.json("POST", path + "/reject", {}, expect=200) == first
    assert plane.http("POST", path + "/approve", {})[0] == 409
    assert plane.json("GET", "/v1/agents/coder") == before and pending_of(plane, "coder") == []
    change = plane.json("PATCH", "/v1/agents/coder", {"instructions": "Be brief."}, expect=202)
    path = "/v1/changes/" + change["id"]
    first = plane.json("POST", path + "/approve", {}, expect=200)
    assert plane.json("POST", path + "/approve", {}, expect=200) == first
    assert plane.http("POST", path + "/reject", {})[0] == 409
    assert plane.json("GET", "/v1/agents/coder")["revision"] == before["revision"] + 1, "applied once"
    plane.running(coder)


def test_what_a_verifier_refuses_never_waits_for_a_human(plane, coder):
    answer = plane.ask(coder, "need: nonsense: because")
    assert "not known" in answer and pending_of(plane, "coder") == []


def test_only_an_admin_decides(plane):
    change = plane.json("PATCH", "/v1/agents/coder", {"instructions": "x"}, expect=202)
    for scope in ("read", "operator"):
        token = plane.json("POST", "/v1/tokens", {"name": scope, "scope": scope})["token"]
        for verb in ("approve", "reject"):
            assert plane.http("POST", "/v1/changes/%s/%s" % (change["id"], verb), {}, token=token)[0] == 403
    assert plane.json("GET", "/v1/changes/" + change["id"])["state"] == "pending"
    plane.json("POST", "/v1/changes/%s/reject" % change["id"], {})


def test_an_agent_has_no_way_to_decide(plane, coder):
    plane.ask(coder, "need: list_files: to look around")
    change, = pending_of(plane, "coder")
    for op in ("approve", "change_approve", "decide", "change_decide"):
        frame = json.dumps({"op": op, "id": change["id"]})
        answer = plane.ask(coder, "run: printf '\\000\\000\\000\\%03o%s' | nc -w 2 127.0.0.1 8470" % (len(frame), frame))
        assert "unknown_op" in answer, answer
    frame = json.dumps({"op": "change", "kind": "agent.create", "document": {"name": "twin"}, "reason": "r"})
    assert "not_allowed" in plane.ask(coder, "run: printf '\\000\\000\\000\\%03o%s' | nc -w 2 127.0.0.1 8470" % (len(frame), frame))
    seen = plane.ask(coder, "run: ls -A /run/ironclaw; find / -xdev -name api.sock; netstat -ltn")
    assert "queue.sock" in seen and "model.sock" in seen and "api.sock" not in seen
    # A cell's ports are no sockets of its own that could be listed.
    assert set(re.findall(r"127\.0\.0\.1:(\d+)", seen)) <= {"8470", "8471"} and "0.0.0.0:" not in seen.replace("0.0.0.0:*", "")
    assert "404" in plane.ask(coder, "run: wget -S -O- http://127.0.0.1:8471/v1/changes/%s/approve --post-data= 2>&1" % change["id"])
    assert plane.json("GET", "/v1/changes/" + change["id"])["state"] == "pending"
    plane.json("POST", "/v1/changes/%s/reject" % change["id"], {})


def test_with_four_eyes_nobody_approves_what_they_submitted():
    with Plane(config={"four_eyes": True}) as plane:
        other = plane.json("POST", "/v1/tokens", {"name": "second", "scope": "admin"})["token"]
        change = plane.json("POST", "/v1/agents", {"name": "coder", "tools": ["shell", "request_change"]}, expect=202)
        path = "/v1/changes/%s" % change["id"]
        assert plane.http("POST", path + "/approve", {})[0] == 403
        done = plane.run("agent", "create", "mine", "--approve")
        assert done.returncode != 0 and "another administrator" in done.stdout + done.stderr
        assert plane.json("POST", path + "/approve", {}, token=other)["state"] == "applied"
        session = plane.session("coder")
        plane.ask(session, "need: read_file: to read")  # the agent's own request: any admin may decide
        assert plane.json("POST", "/v1/changes/%s/approve" % pending_of(plane, "coder")[0]["id"], {})["state"] == "applied"


def test_each_step_stands_in_the_audit_log(plane, coder):
    records = plane.json("GET", "/v1/audit?limit=1000")["records"]
    types = {r.get("type") or r.get("event") for r in records}
    assert {"change.pending", "change.applied", "change.rejected", "change.refused", "session.created", "model.call"} <= types, types
    assert "ok" in plane.cli("audit", "verify")


# ---- another program in the agent's place ----

@pytest.fixture(scope="session")
def python_tree(tmp_path_factory):
    """A root file system with nothing but python3, its libraries and a shell."""
    root = str(tmp_path_factory.mktemp("python") / "rootfs")
    real = os.path.realpath("/usr/bin/python3")
    stdlib = subprocess.run([real, "-c", "import os; print(os.path.dirname(os.__file__))"], check=True, capture_output=True, text=True).stdout.strip()

    def add(path, target=None):
        os.makedirs(os.path.dirname(root + (target or path)), exist_ok=True)
        shutil.copy(os.path.realpath(path), root + (target or path))

    add(real, "/usr/bin/python3")
    add("/bin/busybox", "/bin/sh")
    programs = [real] + glob.glob(stdlib + "/lib-dynload/*.so")
    listed = subprocess.run(["ldd"] + programs, capture_output=True, text=True).stdout
    for library in set(re.findall(r"(/\S+\.so[.\d]*) \(0x", listed)):
        add(library)
    shutil.copytree(stdlib, root + stdlib, ignore=shutil.ignore_patterns("test", "tests", "idlelib", "__pycache__", "config-*", "ensurepip",
                                                                         "lib2to3", "tkinter", "dist-packages", "site-packages", "pydoc_data"))
    add(os.path.join(HERE, "agents/python_agent.py"), "/opt/agent.py")
    return root


def test_any_program_can_take_the_agents_place_over_the_loopback_ports(plane, python_tree):
    plane.cli("image", "import", "python", python_tree)
    plane.cli("agent", "create", "snake", "--image", "python", "--tools", "shell", "--approve", "--command", "/usr/bin/python3", "/opt/agent.py")
    session = plane.session("snake")
    assert plane.ask(session, "hello").endswith("You said: hello")
    assert "6 times 7 is 42" in plane.ask(session, "run: echo 6 times 7 is $((6*7))")
    assert plane.state_of(session)["restarts"] == 0


# ---- the document and the whole control plane ----

def test_every_endpoint_answers_as_its_document_says(plane):
    spec = plane.spec

    def call(method, path, body=None, expect=None, token="admin"):
        if body is not None:
            spec.check_request(method, path, body)
        status, headers, text = plane.http(method, path, body, token)
        assert expect is None or status == expect, (method, path, status, text)
        return spec.check(method, path, status, headers, text)

    with Plane(bootstrap=False) as fresh:
        status, headers, text = fresh.http("POST", "/v1/bootstrap", {"token": fresh.bootstrap_token(), "name": "first"}, token=None)
        assert spec.check("POST", "/v1/bootstrap", status, headers, text)["scope"] == "admin"
    for path in ("/healthz", "/readyz", "/v1/openapi.json"):
        call("GET", path, expect=200, token=None)
    call("POST", "/v1/agents", {"name": "doc", "tools": ["shell"]}, 202)
    change = pending_of(plane, "doc")[0]["id"]
    call("GET", "/v1/changes/pending", expect=200)
    call("GET", "/v1/changes/" + change, expect=200)
    call("POST", "/v1/changes/%s/approve" % change, {"comment": "c"}, 200)
    session = call("POST", "/v1/sessions", {"agent": "doc"}, 201)["id"]
    plane.running(session)
    call("POST", "/v1/sessions/%s/messages" % session, {"text": "hi", "idempotency_key": "k"}, 201)
    until("an answer", lambda: call("GET", "/v1/sessions/%s/messages?wait=5" % session, expect=200)["messages"])
    for path in ("/metrics", "/v1/whoami", "/v1/tokens", "/v1/agents", "/v1/agents/doc", "/v1/sessions", "/v1/sessions/" + session,
                 "/v1/sessions/%s/logs" % session, "/v1/sessions/%s/stats" % session, "/v1/sessions/%s/history" % session, "/v1/changes",
                 "/v1/audit", "/v1/audit/key", "/v1/sealing-key", "/v1/providers", "/v1/images"):
        call("GET", path, expect=200)
    token = call("POST", "/v1/tokens", {"name": "n", "scope": "read"}, 201)
    call("DELETE", "/v1/tokens/" + token["id"], expect=204)
    change = call("PATCH", "/v1/agents/doc", {"tools": []}, 202)["id"]
    call("POST", "/v1/changes/%s/reject" % change, {"comment": "c"}, 200)
    call("POST", "/v1/changes", {"kind": "tools", "agent": "doc", "document": {"tools": []}, "reason": "r"}, 202)
    with open(os.path.join(plane.dir, "key"), "w") as f:
        f.write("sk-test-0123456789abcdef")
    plane.cli("provider", "set", "openai", "--key-file", f.name)
    spec.seen.add(("PUT", "/v1/providers/{name}"))  # the command line did: the key is sealed there
    call("DELETE", "/v1/providers/openai", expect=204)
    listed = call("GET", "/v1/events?limit=1000&session=" + session, expect=200)
    assert "sandbox.launch" in [e["type"] for e in listed["events"]] and listed["last"] >= listed["events"][-1]["seq"]
    signed = call("POST", "/v1/reports/sign", {"digest": "0" * 64}, 200)
    assert signed["public_key"] == call("GET", "/v1/audit/key", expect=200)["public_key"]
    call("POST", "/v1/reports/sign", {"digest": "0" * 64}, 403, token=call("POST", "/v1/tokens", {"name": "r", "scope": "read"}, 201)["token"])
    stream_checked(plane, spec, session)
    event_stream_checked(plane, spec, listed["last"])
    call("POST", "/v1/sessions/%s/stop" % session, expect=200)
    call("DELETE", "/v1/sessions/" + session, expect=204)
    call("DELETE", "/v1/agents/doc", expect=202)
    for path in ("/v1/agents/none", "/v1/sessions/s-0", "/v1/changes/c-0", "/v1/sessions/s-0/logs"):
        call("GET", path, expect=404)
    call("GET", "/v1/agents", expect=401, token="ict_wrong")
    assert spec.untouched() == []


def events_of_stream(plane, spec, path, act, **headers):
    """Opens a stream, acts, and gives its events as they come: (name, data), each checked against the document."""
    connection = UnixConnection(os.path.join(plane.state, "api.sock"), 30)
    connection.request("GET", path, headers={"Authorization": "Bearer " + plane.token, **headers})
    answer = connection.getresponse()
    assert answer.status == 200 and answer.getheader("content-type").startswith("text/event-stream")
    act()
    event = None
    try:
        while line := answer.readline().decode():
            if line.startswith("event: "):
                event = line[7:].strip()
            elif line.startswith("data: ") and event:
                data = json.loads(line[6:])
                spec.check_event("GET", path, event, data)
                yield event, data
        raise AssertionError("the stream ended early")
    finally:
        connection.close()


def stream_checked(plane, spec, session):
    missing = {"delta", "message"}
    for name, _ in events_of_stream(plane, spec, "/v1/sessions/%s/stream" % session, lambda: plane.send(session, "one two three")):
        missing.discard(name)
        if not missing:
            break
    spec.seen.add(("GET", "/v1/sessions/{id}/stream"))


def event_stream_checked(plane, spec, after):
    held = []

    def act():
        held.append(plane.json("PATCH", "/v1/agents/doc", {"instructions": "streamed"}, expect=202)["id"])
    stream = events_of_stream(plane, spec, "/v1/events", act, **{"Accept": "text/event-stream", "Last-Event-ID": str(after)})
    seen = next(data for name, data in stream if name == "event" and data["type"] == "policy.held" and data["detail"]["change"] == held[0])
    assert seen["seq"] > after
    plane.json("POST", "/v1/changes/%s/reject" % held[0], {}, expect=200)
