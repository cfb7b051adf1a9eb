"""The vault alone, with a test in the place of supervisor, api, launcher, model proxy and upstream."""
import base64
import ctypes
import ctypes.util
import json
import os
import signal
import socket
import struct
import sys
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from icipc import M, Closed, Process, s, u32, u64  # noqa: E402

BUILD = os.environ.get("IRONCLAW_BUILD", "build")
VAULT = os.path.join(BUILD, "src/vault/ironclaw-vault")
UID_BASE = 1879048192
# The leak checker starts a tracing process, which a sealed process may not.
os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"


def config(state_dir, **more):
    base = {
        "state_dir": str(state_dir), "uid_base": UID_BASE, "four_eyes": False, "wall_minimum": "container",
        "limits_max": {"memory": 1 << 30, "cpus": 2.0, "pids": 512},
        "limits_default": {"memory": 256 << 20, "cpus": 1.0, "pids": 64},
        "mounts_allowed": ["/srv/data"], "env_allowed": ["TZ"], "host_env": {"TZ": "UTC"},
        "providers": {"anthropic": {"kind": "anthropic", "url": "https://api.anthropic.com"}},
        "tenants": {"default": {"wall_minimum": "container"}},
        "model_defaults": {"requests_per_minute": 60, "concurrency": 4, "token_budget": 0},
    }
    base.update(more)
    return base


class Reply:
    def __init__(self, fields):
        self.status = fields.u32()
        raw = fields.bytes()
        self.body = json.loads(raw) if raw else None

    @property
    def code(self):
        return self.body["error"]["code"]


class Vault:
    """One vault and the links to its peers. start() again after kill() or stop() is a restart on the same state."""

    def __init__(self, state_dir, passphrase=b"", **conf):
        self.state = str(state_dir)
        self.conf, self.passphrase, self.token = conf, passphrase, ""
        self.sandboxes = {}
        os.makedirs(self.state, mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(self.state, UID_BASE + 1, UID_BASE + 1)
            path = os.path.dirname(self.state)
            while path != "/":
                os.chmod(path, os.stat(path).st_mode | 0o011)
                path = os.path.dirname(path)

    def start(self, ready=True):
        secret = os.memfd_create("passphrase")
        os.write(secret, self.passphrase)
        os.lseek(secret, 0, 0)
        self.process = Process(VAULT, config(self.state, **self.conf),
                               ["PEER_API", "PEER_LAUNCHER", "PEER_MODELPROXY", "PEER_UPSTREAM"], [secret])
        os.close(secret)
        self.links = self.process.links
        if ready:
            self.process.ready()
        return self

    @property
    def bootstrap_token(self):
        return self.process.notice.split()[-1]

    def body(self, subject="", body=None, after=0, limit=0, wait=0, token=None):
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return (s(self.token if token is None else token) + s(subject) + u64(after) + u32(limit) + u32(wait) + s(raw))

    def begin(self, op, subject="", body=None, **more):
        return self.links["PEER_API"].start(M["API_" + op], self.body(subject, body, **more))

    def end(self, ident, timeout=10):
        for fields, _ in self.links["PEER_API"].replies(ident, timeout):
            return Reply(fields)

    def api(self, op, subject="", body=None, **more):
        return self.end(self.begin(op, subject, body, **more))

    def setup(self):
        self.token = self.api("BOOTSTRAP", body={"token": self.bootstrap_token, "name": "root"}).body["token"]
        return self

    def agent(self, name="coder", **document):
        change = self.api("AGENT_CREATE", body={"name": name, **document}).body
        return self.api("CHANGE_APPROVE", change["id"])

    def launcher(self, timeout=10):
        """The next request of the vault to the launcher."""
        return self.links["PEER_LAUNCHER"].recv(timeout)

    def serve_start(self):
        """Plays the launcher for one LAUNCH_START; returns the session id, its spec and a way to connect."""
        kind, ident, fields, _ = self.launcher()
        while kind == M["LAUNCH_STOP"]:
            self.links["PEER_LAUNCHER"].reply(ident, u32(0) + s(""))
            kind, ident, fields, _ = self.launcher()
        assert kind == M["LAUNCH_START"]
        session, index, spec = fields.str(), fields.u32(), json.loads(fields.bytes())
        ports = []
        for _ in range(4):
            port = socket.socket()
            port.bind(("127.0.0.1", 0))
            port.listen(64)
            ports.append(port)
        self.links["PEER_LAUNCHER"].reply(ident, u32(0) + s(""), [p.fileno() for p in ports])
        address = ports[0].getsockname()
        for p in ports:
            p.close()
        self.sandboxes[session] = address
        kind, ident, fields, fds = self.links["PEER_MODELPROXY"].recv()
        assert kind == M["PROXY_SESSION"] and fields.str() == session and len(fds) == 2
        for fd in fds:
            os.close(fd)
        self.links["PEER_MODELPROXY"].reply(ident, u32(0) + s(""))
        return session, index, spec

    def session(self, agent="coder"):
        made = self.api("SESSION_CREATE", body={"agent": agent})
        assert made.status == 201, made.body
        self.serve_start()
        return made.body["id"]

    def connect(self, session):
        return Queue(self.sandboxes[session])

    def stop(self):
        return self.process.stop()

    def kill(self):
        self.process.proc.send_signal(signal.SIGKILL)
        self.process.proc.communicate()


class Queue:
    """A program in the sandbox, at its queue port."""

    def __init__(self, address):
        self.sock = socket.create_connection(address, timeout=10)

    def send(self, request):
        raw = request if isinstance(request, bytes) else json.dumps(request).encode()
        self.sock.sendall(struct.pack(">I", len(raw)) + raw)

    def _exact(self, n):
        data = b""
        while len(data) < n:
            part = self.sock.recv(n - len(data))
            if not part:
                raise Closed()
            data += part
        return data

    def answer(self):
        return json.loads(self._exact(struct.unpack(">I", self._exact(4))[0]))

    def ask(self, **request):
        self.send(request)
        return self.answer()


@pytest.fixture
def vault(tmp_path):
    v = Vault(tmp_path / "state").start()
    yield v
    status, err = v.stop()
    assert "Sanitizer" not in err and "runtime error" not in err, err
    assert status == 0, err


@pytest.fixture
def ready(vault):
    vault.setup()
    assert vault.agent().body["state"] == "applied"
    return vault


# ---- tokens ----

def test_nothing_but_readiness_answers_before_the_bootstrap_token_is_exchanged(vault):
    assert vault.api("READY").body["bootstrapped"] is False
    for op in ("WHOAMI", "AGENT_LIST", "TOKEN_LIST", "AUDIT_LIST"):
        reply = vault.api(op, token=vault.bootstrap_token)
        assert (reply.status, reply.code) == (403, "not_bootstrapped")


def test_the_bootstrap_token_works_once(vault):
    token = vault.bootstrap_token
    assert vault.api("BOOTSTRAP", body={"token": "ict_wrong", "name": "root"}).status == 401
    assert vault.api("BOOTSTRAP", body={"token": token, "name": "root"}).status == 201
    assert vault.api("BOOTSTRAP", body={"token": token, "name": "root"}).status == 409


def test_a_scope_allows_what_it_says_and_no_more(ready):
    read = ready.api("TOKEN_CREATE", body={"name": "viewer", "scope": "read"}).body["token"]
    operator = ready.api("TOKEN_CREATE", body={"name": "op", "scope": "operator"}).body["token"]
    assert ready.api("AGENT_LIST", token=read).status == 200
    assert ready.api("AGENT_CREATE", body={"name": "x"}, token=read).code == "insufficient_scope"
    change = ready.api("AGENT_CREATE", body={"name": "x"}, token=operator)
    assert change.status == 202
    assert ready.api("CHANGE_APPROVE", change.body["id"], token=operator).status == 403
    assert ready.api("WHOAMI", token="").status == 401
    assert ready.api("WHOAMI", token="ict_" + "A" * 43).status == 401


def test_a_revoked_token_is_refused_and_the_last_admin_stays(ready):
    made = ready.api("TOKEN_CREATE", body={"name": "viewer", "scope": "read"}).body
    assert ready.api("TOKEN_REVOKE", made["id"]).status == 204
    assert ready.api("WHOAMI", token=made["token"]).code == "token_revoked"
    assert ready.api("TOKEN_REVOKE", ready.api("WHOAMI").body["id"]).code == "last_admin"


def test_no_token_and_no_message_stands_in_clear_on_disk(ready):
    session = ready.session()
    ready.api("MESSAGE_SEND", session, {"text": "the-plain-secret-text"})
    ready.stop()
    for folder, _, files in os.walk(ready.state):
        for name in files:
            data = open(os.path.join(folder, name), "rb").read()
            assert ready.token.encode() not in data, name
            assert b"the-plain-secret-text" not in data, name
    ready.start()


# ---- changes ----

def test_an_agent_exists_only_after_approval(vault):
    vault.setup()
    change = vault.api("AGENT_CREATE", body={"name": "coder", "limits": {"memory": "64M"}})
    assert (change.status, change.body["state"]) == (202, "pending")
    assert vault.api("AGENT_GET", "coder").status == 404
    assert [c["id"] for c in vault.api("CHANGE_LIST", "pending").body["changes"]] == [change.body["id"]]
    assert vault.api("CHANGE_APPROVE", change.body["id"]).body["state"] == "applied"
    agent = vault.api("AGENT_GET", "coder").body
    assert agent["revision"] == 1 and agent["limits"]["memory"] == 64 << 20


@pytest.mark.parametrize("verifier,document", [
    ("schema", {"colour": "red"}), ("schema", {"limits": {"pids": 0}}), ("schema", {"limits": {"memory": "lots"}}),
    ("limits", {"limits": {"memory": "2G"}}), ("wall", {"wall": "none"}), ("tools", {"tools": ["format_disk"]}),
    ("mounts", {"mounts": [{"source": "/etc", "target": "/data"}]}),
    ("mounts", {"mounts": [{"source": "/srv/data/../../etc", "target": "/data"}]}),
    ("mounts", {"mounts": [{"source": "/srv/database", "target": "/data"}]}),
    ("mounts", {"mounts": [{"source": "/srv/data", "target": "/proc/x"}]}),
    ("mounts", {"mounts": [{"source": "/srv/data", "target": "/workspace"}]}),
    ("env", {"env": ["SECRET"]}), ("env", {"env": ["1X=2"]}), ("env", {"env": ["LD_PRELOAD=/x"]}),
    ("provider", {"provider": "nobody"}), ("command", {"command": []}), ("command", {"command": ["sh"]}),
    ("tenant", {"tenant": "other"}), ("peers", {"peers": ["coder"]}),
])
def test_a_verifier_refuses_and_says_why(vault, verifier, document):
    vault.setup()
    change = vault.api("AGENT_CREATE", body={"name": "coder", **document}).body
    assert change["state"] == "refused"
    bad = [v for v in change["verdicts"] if not v["ok"]]
    assert [v["verifier"] for v in bad] == [verifier] and bad[0]["reason"]
    assert vault.api("CHANGE_APPROVE", change["id"]).status == 409


def test_a_wall_below_the_minimum_is_refused(tmp_path):
    v = Vault(tmp_path / "state", wall_minimum="cell").start().setup()
    assert v.api("AGENT_CREATE", body={"name": "a", "wall": "container"}).body["state"] == "refused"
    assert v.api("AGENT_CREATE", body={"name": "b", "wall": "microvm"}).body["state"] == "pending"
    v.stop()


def test_a_decision_is_idempotent_and_final(ready):
    change = ready.api("CHANGE_SUBMIT", body={"kind": "tools", "agent": "coder", "document": {"tools": ["shell"]},
                                              "reason": "needs it"}).body
    first = ready.api("CHANGE_APPROVE", change["id"], {"comment": "fine"})
    again = ready.api("CHANGE_APPROVE", change["id"])
    assert first.body == again.body and first.body["comment"] == "fine"
    assert ready.api("AGENT_GET", "coder").body["revision"] == 2
    assert ready.api("CHANGE_REJECT", change["id"]).status == 409
    diff = ready.api("CHANGE_GET", change["id"]).body["diff"]
    assert any(line.startswith("+") and "shell" in line for line in diff.splitlines())


def test_four_eyes(tmp_path):
    v = Vault(tmp_path / "state", four_eyes=True).start().setup()
    change = v.api("AGENT_CREATE", body={"name": "coder"}).body
    assert v.api("CHANGE_APPROVE", change["id"]).code == "four_eyes"
    other = v.api("TOKEN_CREATE", body={"name": "second", "scope": "admin"}).body["token"]
    assert v.api("CHANGE_APPROVE", change["id"], token=other).body["state"] == "applied"
    v.stop()


def test_a_kind_touches_only_its_part(ready):
    change = ready.api("CHANGE_SUBMIT", body={"kind": "tools", "agent": "coder", "document": {"wall": "microvm"}}).body
    assert change["state"] == "refused"


def test_applying_a_change_restarts_the_running_session(ready):
    session = ready.session()
    change = ready.api("CHANGE_SUBMIT", body={"kind": "env", "agent": "coder", "document": {"env": ["A=1", "TZ"]}}).body
    assert ready.api("CHANGE_APPROVE", change["id"]).body["state"] == "applied"
    again, _, spec = restart(ready)
    assert again == session and spec["env"][:2] == ["A=1", "TZ=UTC"]
    assert "IRONCLAW_SESSION=" + session in spec["env"] and "ANTHROPIC_API_KEY=ironclaw" in spec["env"]


def restart(v):
    assert v.links["PEER_MODELPROXY"].recv()[0] == M["PROXY_END"]
    return v.serve_start()


# ---- messages ----

def test_a_message_reaches_the_agent_and_its_answer_the_user(ready):
    session = ready.session()
    q = ready.connect(session)
    assert q.ask(op="hello")["session"] == session
    assert q.ask(op="recv", wait=0)["message"] is None
    sent = ready.api("MESSAGE_SEND", session, {"text": "hällo"})
    assert (sent.status, sent.body) == (201, {"seq": 1})
    message = q.ask(op="recv", wait=5)["message"]
    assert (message["seq"], message["text"]) == (1, "hällo")
    assert q.ask(op="append", kind="message", text="hi", consumed=1) == {"ok": True, "seq": 1}
    assert q.ask(op="recv")["message"] is None
    got = ready.api("MESSAGE_LIST", session).body
    assert got["last"] == 1 and got["messages"][0]["text"] == "hi" and got["messages"][0]["in_reply_to"] == 1
    assert [r["direction"] for r in q.ask(op="history")["records"]] == ["in", "out"]
    assert [r["text"] for r in ready.api("HISTORY", session).body["records"]] == ["hällo", "hi"]


def test_a_waiting_recv_is_answered_when_a_message_comes(ready):
    session = ready.session()
    q = ready.connect(session)
    q.send({"op": "recv", "wait": 30})
    ready.api("MESSAGE_SEND", session, {"text": "now"})
    assert q.answer()["message"]["text"] == "now"


def test_a_waiting_recv_ends_empty(ready):
    q = ready.connect(ready.session())
    assert q.ask(op="recv", wait=1) == {"ok": True, "message": None}


def test_a_long_poll_is_answered_by_an_append(ready):
    session = ready.session()
    q = ready.connect(session)
    poll = ready.begin("MESSAGE_LIST", session, after=0, wait=20000)
    assert ready.api("READY").status == 200
    q.ask(op="append", kind="question", text="may I?")
    assert ready.end(poll).body["messages"][0]["kind"] == "question"


def test_a_stream_shows_state_delta_and_message_in_order_until_cancelled(ready):
    session = ready.session()
    q = ready.connect(session)
    ident = ready.begin("SESSION_STREAM", session)
    q.ask(op="delta", text="par")
    q.ask(op="append", kind="message", text="partial")
    events = []
    for fields, _ in ready.links["PEER_API"].replies(ident):
        events.append(Reply(fields).body)
        if events[-1]["event"] == "message":
            break
    assert [e["event"] for e in events] == ["state", "delta", "message"]
    ready.links["PEER_API"].notify(M["API_STREAM_CANCEL"], ready.body(str(ident)))
    q.ask(op="delta", text="unseen")
    assert ready.api("READY").status == 200
    assert not any(frame[2] == ident for frame in ready.links["PEER_API"].queue)


def test_the_same_idempotency_key_stores_one_message(ready):
    session = ready.session()
    body = {"text": "once", "idempotency_key": "k1"}
    assert ready.api("MESSAGE_SEND", session, body).body == ready.api("MESSAGE_SEND", session, body).body
    assert ready.api("MESSAGE_SEND", session, {"text": "two", "idempotency_key": "k2"}).body == {"seq": 2}


def test_consuming_what_was_never_sent_is_refused(ready):
    q = ready.connect(ready.session())
    assert q.ask(op="append", kind="message", text="x", consumed=7)["error"]["code"] == "bad_consumed"


@pytest.mark.parametrize("raw,code", [
    (b"{", "not_json"), (b"[]", "not_json"), (b'{"op":5}', "unknown_op"), (b'{"op":"rewrite"}', "unknown_op"),
    (b'{"op":"append","kind":"message"}', "invalid"), (b'{"op":"append","kind":"x","text":"t"}', "invalid"),
    (b'{"op":"append","kind":"message","text":"\xff"}', "not_json"), (b'{"op":"recv","wait":61}', "invalid"),
    (b'{"op":"recv","wait":-1}', "invalid"), (b'{"op":"change","kind":"tools"}', "invalid"),
    (b'{"op":"append","kind":"message","text":"a\\u0000b"}', "not_json"), (b"\x00" * 32, "not_json"),
])
def test_a_bad_request_gets_one_answer_and_the_connection_goes_on(ready, raw, code):
    q = ready.connect(ready.session())
    q.send(raw)
    reply = q.answer()
    assert reply["ok"] is False and reply["error"]["code"] == code
    assert q.ask(op="hello")["ok"] is True


@pytest.mark.parametrize("length", [0, 262145, 0xffffffff])
def test_a_length_out_of_range_ends_the_connection(ready, length):
    q = ready.connect(ready.session())
    q.sock.sendall(struct.pack(">I", length))
    assert q.answer()["error"]["code"] == "bad_length"
    with pytest.raises((Closed, ConnectionError)):
        q.answer()


def test_the_seventeenth_connection_is_turned_away(ready):
    session = ready.session()
    first = [ready.connect(session) for _ in range(16)]
    assert first[15].ask(op="hello")["ok"]
    extra = ready.connect(session)
    assert extra.answer()["error"]["code"] == "too_many_connections"
    first[0].sock.close()
    assert first[1].ask(op="hello")["ok"]
    assert ready.connect(session).ask(op="hello")["ok"]


def test_a_message_of_the_largest_size_passes_both_ways(ready):
    session = ready.session()
    q = ready.connect(session)
    text = "x" * 261000
    assert ready.api("MESSAGE_SEND", session, {"text": text}).status == 201
    assert q.ask(op="recv")["message"]["text"] == text
    assert q.ask(op="append", kind="message", text=text, consumed=1)["ok"]
    assert ready.api("MESSAGE_LIST", session).body["messages"][0]["text"] == text
    assert ready.api("MESSAGE_SEND", session, {"text": "y" * 262144}).status == 413


def test_an_agent_proposes_for_itself_and_cannot_decide(ready):
    q = ready.connect(ready.session())
    change = q.ask(op="change", kind="tools", document={"tools": ["shell"]}, reason="to work")["change"]
    assert change["state"] == "pending" and change["verdicts"]
    assert q.ask(op="change_status", id=change["id"])["change"]["state"] == "pending"
    assert q.ask(op="change", kind="agent.create", document={"name": "evil"})["error"]["code"] == "not_allowed"
    assert q.ask(op="approve", id=change["id"])["error"]["code"] == "unknown_op"
    other = ready.api("AGENT_CREATE", body={"name": "other"}).body
    assert q.ask(op="change_status", id=other["id"])["error"]["code"] == "not_found"
    assert ready.api("CHANGE_APPROVE", change["id"]).body["state"] == "applied"


# ---- life cycle ----

def test_a_stopped_session_starts_again_with_the_next_message(ready):
    session = ready.session()
    call = ready.begin("SESSION_STOP", session)
    kind, ident, fields, _ = ready.launcher()
    assert kind == M["LAUNCH_STOP"] and fields.str() == session
    ready.links["PEER_LAUNCHER"].reply(ident, u32(0) + s(""))
    assert ready.end(call).body["state"] == "stopped"
    assert ready.links["PEER_MODELPROXY"].recv()[0] == M["PROXY_END"]
    ready.api("MESSAGE_SEND", session, {"text": "wake up"})
    assert ready.serve_start()[0] == session
    assert ready.connect(session).ask(op="recv")["message"]["text"] == "wake up"


def test_a_crashed_program_is_started_again_after_a_pause(ready):
    session = ready.session()
    ready.links["PEER_LAUNCHER"].notify(M["LAUNCH_EXITED"], s(session) + u32(139) + s("killed"))
    shown = ready.api("SESSION_GET", session).body
    assert shown["state"] == "restarting" and shown["last_exit"] == {"code": 139, "reason": "killed"}
    assert restart(ready)[0] == session
    assert ready.api("SESSION_GET", session).body["restarts"] == 1


def test_a_removed_session_leaves_nothing(ready):
    session = ready.session()
    folder = os.path.join(ready.state, "sessions", session)
    assert os.path.isdir(folder)
    call = ready.begin("SESSION_REMOVE", session)
    for expected in ("LAUNCH_STOP", "LAUNCH_REMOVE"):
        kind, ident, _, _ = ready.launcher()
        assert kind == M[expected]
        ready.links["PEER_LAUNCHER"].reply(ident, u32(0) + s(""))
    assert ready.end(call).status == 204
    assert not os.path.exists(folder)
    assert ready.api("SESSION_GET", session).status == 404


def test_a_new_launcher_gets_every_session_again(ready):
    session = ready.session()
    ready.links["PEER_LAUNCHER"].sock.close()
    ready.process.link("PEER_LAUNCHER")
    assert restart(ready)[0] == session


def test_a_new_model_proxy_gets_every_session_again(ready):
    session = ready.session()
    ready.links["PEER_MODELPROXY"].sock.close()
    kind, _, fields, fds = ready.process.link("PEER_MODELPROXY").recv()
    assert kind == M["PROXY_SESSION"] and fields.str() == session and len(fds) == 2
    for fd in fds:
        os.close(fd)


def test_sessions_run_again_after_the_vault_died(ready):
    session = ready.session()
    ready.api("MESSAGE_SEND", session, {"text": "before"})
    ready.kill()
    ready.start()
    assert ready.serve_start()[0] == session
    assert ready.connect(session).ask(op="recv")["message"]["text"] == "before"


# ---- keys, audit ----

def test_a_provider_key_is_sealed_for_the_vault_and_given_to_upstream_alone(ready):
    sodium = ctypes.CDLL(ctypes.util.find_library("sodium"))
    public = base64.b64decode(ready.api("SEALING_KEY").body["public_key"])
    key = b"sk-test-0123456789"
    box = ctypes.create_string_buffer(len(key) + 48)
    sodium.crypto_box_seal(box, key, ctypes.c_ulonglong(len(key)), public)
    sealed = base64.b64encode(box.raw).decode()
    assert ready.api("PROVIDER_SET", "anthropic", {"sealed_key": sealed}).status == 204
    assert ready.api("PROVIDER_SET", "anthropic", {"sealed_key": base64.b64encode(key).decode()}).status == 400
    fields, _ = ready.links["PEER_UPSTREAM"].call(M["UP_KEY"], s("anthropic"))
    assert (fields.u32(), fields.str(), fields.bytes()) == (0, "", key)
    assert [p["has_key"] for p in ready.api("PROVIDER_LIST").body["providers"] if p["name"] == "anthropic"] == [True]
    assert b"sk-test" not in open(os.path.join(ready.state, "audit.log"), "rb").read()
    fields, _ = ready.links["PEER_UPSTREAM"].call(M["UP_KEY"], s("openai"))
    assert fields.u32() != 0


def test_every_decision_is_in_the_audit_log(ready):
    types = [r["type"] for r in ready.api("AUDIT_LIST", limit=1000).body["records"]]
    for expected in ("token.created", "change.pending", "change.approved", "change.applied"):
        assert expected in types
    tail = ready.api("AUDIT_LIST", after=2, limit=1).body["records"]
    assert [r["seq"] for r in tail] == [3]


def test_token_use_survives_a_restart(ready):
    session = ready.session()
    call = s(session) + s("mock") + s("POST") + s("/v1/messages") + u32(200) + u64(10) + u64(5) + u64(3) + s("ok")
    ready.links["PEER_MODELPROXY"].notify(M["PROXY_CALL"], call)
    assert 'ironclaw_model_calls_total{outcome="ok"} 1' in ready.api("METRICS").body["text"]
    ready.stop()
    ready.start()
    kind, ident, _, _ = ready.launcher()
    ready.links["PEER_LAUNCHER"].reply(ident, u32(0) + s(""))
    kind, ident, _, _ = ready.launcher()
    pairs = [socket.socketpair()[0] for _ in range(4)]
    ready.links["PEER_LAUNCHER"].reply(ident, u32(0) + s(""), [p.fileno() for p in pairs])
    kind, _, fields, fds = ready.links["PEER_MODELPROXY"].recv()
    assert fields.str() == session and fields.str() == "mock" and fields.str() == ""
    assert (fields.u32(), fields.u32(), fields.u64(), fields.u64()) == (60, 4, 0, 15)


def test_a_flood_of_refused_model_calls_does_not_fill_the_audit_log(ready):
    session = ready.session()
    call = s(session) + s("mock") + s("GET") + s("/nope") + u32(404) + u64(0) + u64(0) + u64(0) + s("path")
    for _ in range(200):
        ready.links["PEER_MODELPROXY"].notify(M["PROXY_CALL"], call)
    end = time.monotonic() + 10
    while 'ironclaw_model_calls_total{outcome="refused"} 200' not in ready.api("METRICS").body["text"]:
        assert time.monotonic() < end
        time.sleep(0.01)
    ready.stop()
    ready.start()
    told = [r for r in ready.api("AUDIT_LIST", limit=1000).body["records"] if r.get("session") == session]
    assert len([r for r in told if r["type"] == "model.call"]) == 30
    assert [r["calls"] for r in told if r["type"] == "model.refused"] == [170], "none is lost: the rest is counted"


def test_large_changes_do_not_hide_the_ones_before_them(ready):
    ids = [ready.api("CHANGE_SUBMIT", body={"kind": "agent.create", "agent": "a%d" % n, "reason": "",
                                            "document": {"name": "a%d" % n, "instructions": "x" * 90000}}).body["id"]
           for n in range(8)]
    listed, after = [], 0
    while True:
        page = ready.api("CHANGE_LIST", after=after, limit=1000).body
        assert page["truncated"] == ("next" in page)
        listed += [c["id"] for c in page["changes"]]
        if not page["truncated"]:
            break
        after = page["next"]
    assert after and [i for i in listed if i in ids] == ids[::-1]
    pages = [ready.api("CHANGE_LIST", after=0, limit=1).body, ready.api("CHANGE_LIST", "rejected").body]
    assert pages[0]["truncated"] and len(pages[0]["changes"]) == 1
    assert pages[1] == {"changes": [], "truncated": False}


def test_an_agent_cannot_fill_the_registry_with_changes_that_are_refused(ready):
    q = ready.connect(ready.session())
    codes = [q.ask(op="change", kind="tools", document={"tools": ["no such tool"]}, reason="")
             for _ in range(101)]
    assert all(c["ok"] and c["change"]["state"] == "refused" for c in codes[:100])
    assert codes[100]["error"]["code"] == "too_many_changes"


def test_a_passphrase_unlocks_and_a_wrong_one_is_one_clear_error(tmp_path):
    v = Vault(tmp_path / "state", passphrase=b"correct horse\n").start().setup()
    v.stop()
    v.passphrase = b"wrong"
    v.start(ready=False)
    err = v.process.proc.communicate(timeout=20)[1].decode()
    assert v.process.proc.returncode == 1 and "wrong passphrase" in err
    v.passphrase = b"correct horse"
    v.start()
    assert v.api("WHOAMI").status == 200
    v.stop()


def test_files_are_private(ready):
    for name, mode in (("vault", 0o700), ("vault/master.key", 0o600), ("registry.db", 0o600), ("audit.log", 0o600)):
        assert os.stat(os.path.join(ready.state, name)).st_mode & 0o777 == mode, name
