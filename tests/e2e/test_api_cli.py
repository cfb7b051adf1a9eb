"""The `ironclaw` client: each verb against the real api process with a scripted vault."""
import base64
import ctypes
import ctypes.util
import json
import os
import pty
import re
import subprocess
import sys
import threading

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "../..")
sys.path.insert(0, os.path.join(HERE, "../lib"))
from api_harness import Api, eventually  # noqa: E402
from test_api_openapi import AGENT, ANSWERS, CHANGE, MESSAGE, SESSION  # noqa: E402

CTL = os.path.join(os.environ.get("IRONCLAW_BUILD", ""), "src/cli/ironclaw-ctl")


def environment(home, **more):
    return {"PATH": os.environ["PATH"], "HOME": str(home), "IRONCLAW_TOKEN_FILE": os.path.join(str(home), "token"), "LC_ALL": "C.UTF-8",
            "ASAN_OPTIONS": "detect_leaks=0", **more}


def ctl(api, *args, stdin=None, home="/nonexistent", **more):
    done = subprocess.run([CTL, *args], input=stdin, capture_output=True, timeout=60,
                          env=environment(home, **({"IRONCLAW_STATE_DIR": api.dir} if api else {}), **{"IRONCLAW_TOKEN": "tok", **more}))
    assert b"Sanitizer" not in done.stderr and b"runtime error" not in done.stderr, done.stderr.decode()
    return done


def help_verbs():
    """The titles of the Markdown help (verb and usage), and the whole text."""
    text = subprocess.run([CTL, "help", "--markdown"], capture_output=True, check=True).stdout.decode()
    return re.findall(r"^### ironclaw (.+)$", text, flags=re.M), text


@pytest.fixture(scope="module")
def api():
    with Api(lambda call: ANSWERS[call.op]) as running:
        yield running


# ---- the table, help, completion, pages ------------------------------------------------------------------------

def verbs():
    if not os.path.exists(CTL):
        return []
    titles, _ = help_verbs()
    return [re.match(r"[a-z ]+", title.split(" [")[0]).group().strip().split() for title in titles]


@pytest.mark.parametrize("verb", verbs(), ids=" ".join)
def test_every_verb_has_help_with_an_example_of_itself(verb):
    done = ctl(None, *verb, "--help")
    assert done.returncode == 0 and done.stderr == b""
    example = done.stdout.decode().split("Example:\n  ")[1]
    assert example.startswith("ironclaw " + " ".join(verb))


@pytest.mark.parametrize("verb", verbs(), ids=" ".join)
def test_every_verb_is_in_the_completion_the_man_page_and_docs(verb):
    completion = open(os.path.join(ROOT, "completions/ironclaw.bash")).read()
    assert re.search(r"^\s*%s\)" % verb[0], completion, flags=re.M) or len(verb) == 1
    assert re.search(r"\b%s\b" % verb[-1], completion)
    assert ".B ironclaw " + " ".join(verb) in open(os.path.join(ROOT, "man/ironclaw.1")).read()


def test_the_cli_page_holds_the_help_of_every_verb_as_it_is():
    _, text = help_verbs()
    assert text.strip() in open(os.path.join(ROOT, "docs/cli.md")).read(), "paste the output of 'ironclaw help --markdown' into docs/cli.md"


def test_the_completion_completes():
    script = "source %s/completions/ironclaw.bash; COMP_WORDS=(%s); COMP_CWORD=%d; _ironclaw; echo ${COMPREPLY[@]}"

    def complete(*words):
        return subprocess.run(["bash", "-c", script % (ROOT, " ".join(w or "''" for w in words), len(words) - 1)], capture_output=True,
                              check=True).stdout.decode().split()

    assert "agent" in complete("ironclaw", "")
    assert complete("ironclaw", "agent", "cr") == ["create"]
    assert "--tools" in complete("ironclaw", "agent", "create", "x", "--")
    assert "--key-file" in complete("ironclaw", "provider", "set", "x", "--k")


@pytest.mark.parametrize("args, says", [
    (["agnt"], "did you mean 'agent'"), (["agent", "lst"], "did you mean 'agent list'"), (["frobnicate"], "'ironclaw help' lists them"),
    (["agent", "show"], "something is missing"), (["agent", "show", "a", "b"], "this is too much"), (["agent", "list", "--frob"], "no option --frob"),
    (["agent", "show", "A/b"], "not the name of an agent"), (["agent", "create", "a", "--memory", "x"], "--memory takes a size"),
    (["agent", "create", "a", "--cpus", "0"], "--cpus takes a number"), (["agent", "create", "a", "--mount", "x:y"], "--mount takes"),
    (["agent", "update", "a"], "nothing to change"), (["token", "create"], "--scope"), (["provider", "set", "x"], "--key-file"),
    (["change", "submit", "tools", "a"], "--file"), (["chat", "a", ""], "a message has"), (["agent", "list", "--url", "http://x"], "https://"),
    (["agent", "list", "--json=1"], "takes no value"), (["agent", "list", "--state-dir"], "needs a value"),
])
def test_a_wrong_command_line_is_one_sentence_and_status_2(api, args, says):
    done = ctl(api, *args)
    assert done.returncode == 2 and done.stdout == b""
    assert says in done.stderr.decode() and done.stderr.count(b"\n") == 1


# ---- reaching the control plane --------------------------------------------------------------------------------

def test_status_4_when_nothing_answers(tmp_path):
    done = ctl(None, "agent", "list", "--state-dir", str(tmp_path))
    assert done.returncode == 4 and b"start it with 'ironclaw up'" in done.stderr


def test_status_3_when_refused_and_the_way_out_is_named(tmp_path):
    with Api(lambda call: (401, {"error": {"code": "no_token", "message": "a token is needed"}})) as api:
        done = ctl(api, "agent", "list", home=tmp_path, IRONCLAW_TOKEN="")
        assert done.returncode == 3 and b"ironclaw token bootstrap" in done.stderr
    with Api(lambda call: (403, {"error": {"code": "forbidden", "message": "the scope read may not do this"}})) as api:
        done = ctl(api, "session", "create", "coder")
        assert done.returncode == 3 and b"the scope read may not" in done.stderr


def test_a_token_comes_from_a_file_an_option_or_the_environment(api, tmp_path):
    (tmp_path / "token").write_text("from-file\n")
    (tmp_path / "other").write_text("from-option\n")
    for more, args, token in (({"IRONCLAW_TOKEN": ""}, [], "from-file"), ({"IRONCLAW_TOKEN": "from-env"}, [], "from-env"),
                              ({"IRONCLAW_TOKEN": "from-env"}, ["--token-file", str(tmp_path / "other")], "from-option")):
        assert ctl(api, "agent", "list", *args, home=tmp_path, **more).returncode == 0
        assert api.vault.calls[-1].token == token


def test_tls_needs_a_certificate_that_is_trusted():
    with Api(lambda call: ANSWERS[call.op], tls=True) as api:
        url = "https://localhost:%d" % api.port
        assert ctl(None, "agent", "list", "--url", url, "--ca-file", api.cert).returncode == 0
        assert ctl(None, "agent", "list", "--url", url).returncode == 4


# ---- verbs -----------------------------------------------------------------------------------------------------

def test_bootstrap_keeps_the_token_for_its_owner_only(api, tmp_path):
    done = ctl(api, "token", "bootstrap", "one-time", home=tmp_path, IRONCLAW_TOKEN="")
    assert done.returncode == 0, done.stderr
    call = api.vault.calls[-1]
    assert (call.op, call.token, call.json()) == ("API_BOOTSTRAP", "", {"token": "one-time", "name": "admin"})
    assert (tmp_path / "token").read_text() == "secret" and os.stat(tmp_path / "token").st_mode & 0o777 == 0o600
    assert b"secret" not in done.stdout


@pytest.mark.parametrize("args, op, out", [
    (["agent", "list"], "API_AGENT_LIST", "coder"), (["session", "list", "--agent", "coder"], "API_SESSION_LIST", "running"),
    (["session", "show", "s-1"], "API_SESSION_GET", "container"), (["session", "logs", "s-1"], "API_SESSION_LOGS", "log"),
    (["session", "stats", "s-1"], "API_SESSION_STATS", "PROCESSES"), (["session", "history", "s-1"], "API_HISTORY", "agent: hi"),
    (["change", "list"], "API_CHANGE_LIST", "c-1"), (["change", "pending"], "API_CHANGE_LIST", "pending"),
    (["change", "show", "c-1"], "API_CHANGE_GET", "+shell"), (["token", "list"], "API_TOKEN_LIST", "read"),
    (["token", "whoami"], "API_WHOAMI", "admin"), (["provider", "list"], "API_PROVIDER_LIST", "mock"), (["image", "list"], "API_IMAGE_LIST", "base"),
    (["audit", "show"], "API_AUDIT_LIST", '{"event":"x"}'), (["agent", "show", "coder"], "API_AGENT_GET", '"revision": 1'),
])
def test_what_is_shown_for_people_and_for_programs(api, args, op, out):
    done = ctl(api, *args)
    assert done.returncode == 0 and out in done.stdout.decode() and b"\033" not in done.stdout
    assert api.vault.calls[-1].op == op
    assert json.loads(ctl(api, *args, "--json").stdout) == ANSWERS[op][1]


@pytest.mark.parametrize("args, op, subject", [
    (["session", "stop", "s-1"], "API_SESSION_STOP", "s-1"), (["session", "rm", "s-1"], "API_SESSION_REMOVE", "s-1"),
    (["token", "revoke", "t-1"], "API_TOKEN_REVOKE", "t-1"), (["provider", "rm", "openai"], "API_PROVIDER_REMOVE", "openai"),
])
def test_what_is_done_without_a_word(api, args, op, subject):
    done = ctl(api, *args)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (api.vault.calls[-1].op, api.vault.calls[-1].subject) == (op, subject)


def test_agent_create_makes_the_document_from_file_and_options(api, tmp_path):
    (tmp_path / "a.yaml").write_text("instructions: be kind\ntools: [shell]\nlimits: {pids: 9}\n")
    done = ctl(api, "agent", "create", "coder", "--file", str(tmp_path / "a.yaml"), "--tools", "read_file,write_file", "--memory", "64M",
               "--cpus", "0.5", "--env", "A=1", "--env", "TZ", "--mount", "/srv:/data", "--mount", "/x:/y:rw", "--provider", "mock", "--model", "m",
               "--command", "python3", "agent.py", "--verbose")
    assert done.returncode == 0 and b"ironclaw change approve c-1" in done.stdout
    assert api.vault.calls[-1].json() == {
        "name": "coder", "instructions": "be kind", "tools": ["read_file", "write_file"], "limits": {"pids": 9, "memory": 67108864, "cpus": 0.5},
        "env": ["A=1", "TZ"], "mounts": [{"source": "/srv", "target": "/data", "mode": "ro"}, {"source": "/x", "target": "/y", "mode": "rw"}],
        "provider": "mock", "model": "m", "command": ["python3", "agent.py", "--verbose"]}


def test_approve_submits_and_approves(tmp_path):
    approved = {**CHANGE, "state": "applied"}
    with Api(lambda call: (200, approved) if call.op == "API_CHANGE_APPROVE" else ANSWERS[call.op]) as api:
        done = ctl(api, "agent", "create", "coder", "--approve")
        assert (done.returncode, done.stdout) == (0, b"c-1 applied\n")
        assert [c.op for c in api.vault.calls] == ["API_AGENT_CREATE", "API_CHANGE_APPROVE"]


def test_a_refused_change_names_its_verifier_and_is_status_3():
    refused = {**CHANGE, "state": "refused", "verdicts": [{"verifier": "wall", "ok": False, "reason": "below the minimum"}]}
    with Api(lambda call: (202, refused)) as api:
        done = ctl(api, "agent", "update", "coder", "--wall", "container")
        assert done.returncode == 3 and b"wall: below the minimum" in done.stderr


def test_change_submit_sends_kind_agent_document_and_reason(api):
    done = ctl(api, "change", "submit", "tools", "coder", "--file", "-", "--reason", "why", stdin=b"tools: [shell]\n")
    assert done.returncode == 0
    assert api.vault.calls[-1].json() == {"kind": "tools", "agent": "coder", "document": {"tools": ["shell"]}, "reason": "why"}


def test_a_provider_key_leaves_sealed_and_only_the_vault_can_open_it(tmp_path):
    sodium = ctypes.CDLL(ctypes.util.find_library("sodium"))
    pk, sk = ctypes.create_string_buffer(32), ctypes.create_string_buffer(32)
    assert sodium.sodium_init() >= 0 and sodium.crypto_box_keypair(pk, sk) == 0
    public = base64.b64encode(pk.raw).decode()
    with Api(lambda call: (200, {"public_key": public}) if call.op == "API_SEALING_KEY" else (204, None)) as api:
        assert ctl(api, "provider", "set", "anthropic", "--key-file", "-", stdin=b"sk-very-secret\n").returncode == 0
        call = api.vault.calls[-1]
        assert (call.op, call.subject) == ("API_PROVIDER_SET", "anthropic") and b"secret" not in call.body
        box = base64.b64decode(call.json()["sealed_key"])
        opened = ctypes.create_string_buffer(len(box) - 48)  # crypto_box_SEALBYTES
        assert sodium.crypto_box_seal_open(opened, box, ctypes.c_ulonglong(len(box)), pk, sk) == 0
        assert opened.raw == b"sk-very-secret"


@pytest.mark.parametrize("key", ["", "AAAA", "!" * 44])
def test_a_key_is_not_sent_to_what_is_not_a_sealing_key(key):
    with Api(lambda call: (200, {"public_key": key})) as api:
        done = ctl(api, "provider", "set", "x", "--key-file", "-", stdin=b"sk\n")
        assert done.returncode == 1 and [c.op for c in api.vault.calls] == ["API_SEALING_KEY"]


def test_text_from_a_sandbox_cannot_drive_the_terminal():
    evil = "a\x1b]0;owned\x07b\u009b31mc\n"
    with Api(lambda call: (200, {"text": evil})) as api:
        master, slave = pty.openpty()
        env = environment("/nonexistent", IRONCLAW_STATE_DIR=api.dir, IRONCLAW_TOKEN="t", TERM="xterm")
        done = subprocess.run([CTL, "session", "logs", "s-1"], stdout=slave, stderr=subprocess.PIPE, env=env, timeout=60)
        os.close(slave)
        out = os.read(master, 4096).decode()
        os.close(master)
        assert done.returncode == 0 and out == "a?]0;owned?b?31mc\r\n"
        assert ctl(api, "session", "logs", "s-1").stdout.decode() == evil, "a pipe gets what was written"


def on_a_terminal(api, *words):
    master, slave = pty.openpty()
    env = environment("/nonexistent", IRONCLAW_STATE_DIR=api.dir, IRONCLAW_TOKEN="t", TERM="dumb")
    done = subprocess.run([CTL, *words], stdout=slave, stderr=slave, env=env, timeout=60)
    os.close(slave)
    out = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        out += part
    os.close(master)
    return done.returncode, out.decode()


# Escape sequence, C1 control, right-to-left override and isolate, zero-width space, byte order mark, tag letter.
UNSAFE = "\x1b]0;x\x07|\u009b2J|\u202e|\u2066|\u200b|\ufeff|\U000e0041"


@pytest.mark.parametrize("words", [("change", "show", "c-1"), ("change", "show", "c-1", "--json"), ("change", "list"), ("change", "approve", "c-1")])
def test_a_change_that_is_shown_to_a_human_reads_as_what_it_is(words):
    change = {**CHANGE, "reason": "r" + UNSAFE, "submitted_by": "b" + UNSAFE, "error": "e" + UNSAFE, "diff": "+d" + UNSAFE + "\n",
              "verdicts": [{"verifier": "schema", "ok": False, "reason": "v" + UNSAFE}], "state": "refused"}
    with Api(lambda call: (200, {"changes": [change]} if call.op == "API_CHANGE_LIST" else change)) as api:
        _, out = on_a_terminal(api, *words)
        assert not set(out) & set("\x1b\x07\u009b\u202e\u2066\u200b\ufeff\U000e0041"), ascii(out)
        assert "?|?" in out


def test_all_pages_of_changes_are_shown():
    pages = {0: {"changes": [CHANGE], "truncated": True, "next": 7}, 7: {"changes": [{**CHANGE, "id": "c-old"}], "truncated": False}}
    with Api(lambda call: (200, pages[call.after])) as api:
        assert b"c-old" in ctl(api, "change", "pending").stdout


def test_a_list_that_is_not_whole_says_so():
    with Api(lambda call: (200, {"agents": [], "truncated": True})) as api:
        assert b"not whole" in ctl(api, "agent", "list").stderr


def test_an_error_of_the_control_plane_cannot_drive_the_terminal():
    with Api(lambda call: (500, {"error": {"code": "internal", "message": "m" + UNSAFE}})) as api:
        status, out = on_a_terminal(api, "change", "list")
        assert status == 1 and "m?]0;x?|?2J|?|?|?|?|?" in out


def test_words_of_any_language_are_shown_as_they_are():
    text = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u65e5\u672c\u8a9e \U0001f469\u200d\U0001f680 na\u00efve\n"
    with Api(lambda call: (200, {"text": text})) as api:
        assert on_a_terminal(api, "session", "logs", "s-1") == (0, text.replace("\n", "\r\n"))


# ---- chat ------------------------------------------------------------------------------------------------------

class Agent:
    """A scripted vault in which an agent answers each message: deltas, then the message."""

    def __init__(self, sessions=(SESSION,), reply="Hello there", kind="message", changes=()):
        self.sessions, self.reply, self.kind, self.changes = list(sessions), reply, kind, list(changes)
        self.stream, self.seq, self.inbound, self.silent, self.keys = None, 7, 0, False, {}

    def script(self, call):
        if call.op == "API_SESSION_LIST":
            return 200, {"sessions": self.sessions}
        if call.op == "API_SESSION_CREATE":
            return 201, {**SESSION, "id": "s-new"}
        if call.op == "API_MESSAGE_LIST":
            old = [{**MESSAGE, "seq": self.seq}] if call.after < self.seq else []
            return 200, {"messages": old, "last": self.seq}
        if call.op == "API_SESSION_STREAM":
            self.stream = call
            self.after = call.after
            return None
        if call.op == "API_MESSAGE_SEND":
            key = call.json()["idempotency_key"]
            if key in self.keys:
                return 201, {"seq": self.keys[key]}
            self.inbound += 1
            self.keys[key] = self.inbound
            if not self.silent:
                threading.Timer(0.05, self.answer, (self.inbound,)).start()
            return 201, {"seq": self.inbound}
        if call.op == "API_CHANGE_LIST":
            return 200, {"changes": self.changes}
        return None

    def answer(self, inbound):
        self.seq += 1
        self.vault.event(self.stream, "delta", {"text": self.reply[:5]})
        self.vault.event(self.stream, "delta", {"text": self.reply[5:]})
        self.vault.event(self.stream, "message", {"seq": self.seq, "kind": self.kind, "text": self.reply, "time": 1, "in_reply_to": inbound})

    def run(self):
        api = Api(self.script)
        self.vault = api.vault
        return api


def test_chat_prints_the_answer_to_its_own_message():
    agent = Agent()
    with agent.run() as api:
        done = ctl(api, "chat", "coder", "Hi")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"Hello there\n", b"")
        assert agent.after == 7, "what was said before is not an answer"
        sent = next(c for c in api.vault.calls if c.op == "API_MESSAGE_SEND")
        assert sent.json()["text"] == "Hi" and len(sent.json()["idempotency_key"]) == 32


def test_chat_starts_a_session_when_there_is_none_and_takes_the_newest_otherwise():
    agent = Agent(sessions=())
    with agent.run() as api:
        assert ctl(api, "chat", "coder", "Hi").returncode == 0
        assert agent.stream.subject == "s-new"
    agent = Agent(sessions=({**SESSION, "id": "s-old", "created": 1}, {**SESSION, "id": "s-newest", "created": 3}, {**SESSION, "created": 2}))
    with agent.run() as api:
        assert ctl(api, "chat", "coder", "Hi").returncode == 0
        assert agent.stream.subject == "s-newest"


def test_chat_shows_questions_and_held_changes():
    with Agent(kind="question", changes=[CHANGE, {**CHANGE, "id": "c-2", "agent": "other"}]).run() as api:
        done = ctl(api, "chat", "coder", "Hi")
        assert done.stdout == b"[question] Hello there\n"
        assert b"ironclaw change show c-1" in done.stderr and b"c-2" not in done.stderr


def test_chat_on_a_terminal_shows_deltas_once():
    with Agent().run() as api:
        master, slave = pty.openpty()
        env = environment("/nonexistent", IRONCLAW_STATE_DIR=api.dir, IRONCLAW_TOKEN="t")
        done = subprocess.run([CTL, "chat", "coder", "Hi"], stdout=slave, stderr=subprocess.PIPE, env=env, timeout=60)
        os.close(slave)
        assert done.returncode == 0 and os.read(master, 4096) == b"Hello there\r\n"
        os.close(master)


def test_chat_line_by_line_ends_with_the_input():
    agent = Agent()
    with agent.run() as api:
        done = ctl(api, "chat", "coder", stdin=b"one\n\ntwo\n")
        assert (done.returncode, done.stdout) == (0, b"Hello there\nHello there\n")
        assert [c.json()["text"] for c in api.vault.calls if c.op == "API_MESSAGE_SEND"] == ["one", "two"]


def test_chat_gives_up_after_its_timeout_and_says_where_the_answer_will_be():
    agent = Agent()
    agent.silent = True
    with agent.run() as api:
        done = ctl(api, "chat", "coder", "Hi", "--timeout", "1")
        assert done.returncode == 1 and b"ironclaw session history s-1" in done.stderr


def test_chat_survives_a_vault_that_restarts_before_the_answer():
    agent = Agent()
    agent.silent = True
    with agent.run() as api:
        result = {}
        thread = threading.Thread(target=lambda: result.update(done=ctl(api, "chat", "coder", "Hi")))
        thread.start()
        api.vault.wait_for("API_MESSAGE_SEND")
        first = agent.stream
        api.vault.die()
        agent.vault = api.start_vault()
        eventually(lambda: agent.stream is not first)
        agent.answer(1)
        thread.join(60)
        assert (result["done"].returncode, result["done"].stdout) == (0, b"Hello there\n")
        assert agent.inbound == 1, "the message was delivered twice"


# ---- the audit log, offline ------------------------------------------------------------------------------------

def test_audit_verify_of_what_cannot_be_read_says_so(tmp_path):
    done = ctl(None, "audit", "verify", "--log", str(tmp_path / "none"), "--public-key", str(tmp_path / "key"))
    assert done.returncode == 1 and b"cannot open" in done.stderr
    (tmp_path / "key").write_text("zz\n")
    done = ctl(None, "audit", "verify", "--log", str(tmp_path / "none"), "--public-key", str(tmp_path / "key"))
    assert done.returncode == 1 and b"64 hexadecimal digits" in done.stderr
