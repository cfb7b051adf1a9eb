"""The built-in agent, against a queue played here and the real model proxy with the mock provider."""
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
from icipc import M, Process, s, u32, u64  # noqa: E402

os.environ["ASAN_OPTIONS"] = "detect_leaks=0:" + os.environ.get("ASAN_OPTIONS", "")
BUILD = os.environ.get("IRONCLAW_BUILD", "build")
AGENT = os.path.join(BUILD, "src/agent/ironclaw-agent")
PROXY = os.path.join(BUILD, "src/modelproxy/ironclaw-modelproxy")
PYTHON_AGENT = os.path.join(HERE, "agents", "python_agent.py")
ALL_TOOLS = ["shell", "read_file", "write_file", "list_files", "send_message", "ask_human", "request_change"]


class Queue:
    """The queue port: inbound messages in order, appended records kept, on any listening socket."""

    def __init__(self, listener, tools, history=()):
        self.listener, self.tools, self.history = listener, tools, list(history)
        self.inbound, self.seq, self.consumed = [], 0, 0
        self.out, self.deltas, self.changes, self.requests = [], [], [], []
        self.change_state = "pending"
        self.cond = threading.Condition()
        self.closing = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                c, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(c,), daemon=True).start()

    def _serve(self, c):
        f = c.makefile("rwb")
        while True:
            head = f.read(4)
            if len(head) < 4:
                return
            request = json.loads(f.read(struct.unpack(">I", head)[0]))
            answer = json.dumps(self._answer(request)).encode()
            try:
                f.write(struct.pack(">I", len(answer)) + answer)
                f.flush()
            except OSError:
                return

    def _answer(self, r):
        with self.cond:
            self.requests.append(r["op"])
            if r["op"] == "config":
                return {"ok": True, "config": {"instructions": "Be brief.", "tools": self.tools, "model": "m",
                                               "provider": "mock"}}
            if r["op"] == "history":
                return {"ok": True, "records": self.history}
            if r["op"] == "recv":
                self.cond.wait_for(lambda: self.inbound or self.closing, timeout=min(r["wait"], 20))
                return {"ok": True, "message": self.inbound[0] if self.inbound else None}
            if r["op"] == "append":
                consumed = r.get("consumed", 0)
                self.consumed = max(self.consumed, consumed)
                self.inbound = [m for m in self.inbound if m["seq"] > consumed]
                self.out.append(r)
                self.cond.notify_all()
                return {"ok": True, "seq": len(self.out)}
            if r["op"] == "delta":
                self.deltas.append(r["text"])
                return {"ok": True}
            if r["op"] == "change":
                self.changes.append(r)
                return {"ok": True, "change": {"id": "c-1", "state": self.change_state,
                                               "verdicts": ["no such tool"]}}
            return {"ok": False, "error": {"code": "op", "message": "unknown op"}}

    def send(self, text):
        with self.cond:
            self.seq += 1
            self.inbound.append({"seq": self.seq, "text": text, "time": 0})
            self.cond.notify_all()
            return self.seq

    def wait(self, count, timeout=30):
        with self.cond:
            assert self.cond.wait_for(lambda: len(self.out) >= count, timeout), self.out
            return self.out[count - 1]

    def ask(self, text):
        """Sends a message and returns the record that handled it."""
        seq = self.send(text)
        with self.cond:
            assert self.cond.wait_for(lambda: self.consumed >= seq, 40), self.out
            return self.out[-1]


class World:
    def __init__(self, tmp, tools=ALL_TOOLS, script="", history=(), command=None, queue_tcp=False):
        self.tmp = str(tmp)
        mock = os.memfd_create("script")
        os.write(mock, script.encode())
        os.lseek(mock, 0, 0)
        self.proxy = Process(PROXY, {"uid_base": 1879048192, "providers": {}}, peers=["PEER_VAULT"], extra=[mock])
        os.close(mock)
        self.proxy.ready()
        model_unix = socket.socket(socket.AF_UNIX)
        model_unix.bind(os.path.join(self.tmp, "model.sock"))
        model_unix.listen(8)
        model = socket.create_server(("127.0.0.1", 0))
        self.proxy.links["PEER_VAULT"].call(
            M["PROXY_SESSION"], s("s-1") + s("mock") + s("") + u32(0) + u32(4) + u64(0) + u64(0),
            [model_unix.fileno(), model.fileno()])
        self.model_port = model.getsockname()[1]
        model.close()
        if queue_tcp:
            listener = socket.create_server(("127.0.0.1", 0))
            self.queue_port = listener.getsockname()[1]
        else:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(os.path.join(self.tmp, "queue.sock"))
            listener.listen(8)
        self.queue = Queue(listener, tools, history)
        self.work = os.path.join(self.tmp, "workspace")
        os.mkdir(self.work)
        self.command = command(self) if command else [AGENT]
        self.start()

    def start(self):
        env = {"PATH": os.environ["PATH"], "IRONCLAW_QUEUE": os.path.join(self.tmp, "queue.sock"),
               "IRONCLAW_WORKSPACE": self.work, "ANTHROPIC_BASE_URL": "http://127.0.0.1:%d" % self.model_port}
        self.agent = subprocess.Popen(self.command, env=env, cwd=self.work, stderr=subprocess.PIPE)

    def stop(self):
        self.agent.kill()
        err = self.agent.communicate()[1].decode()
        assert "AddressSanitizer" not in err and "runtime error" not in err, err
        self.queue.listener.close()
        self.queue.closing = True
        self.proxy.stop()


@pytest.fixture
def world(tmp_path):
    made = []

    def make(**kwargs):
        made.append(World(tmp_path, **kwargs))
        return made[-1]

    yield make
    for w in made:
        w.stop()


def test_a_message_is_answered_and_consumed_in_one_step(world):
    w = world()
    record = w.queue.ask("good morning")
    assert record["kind"] == "message" and record["text"].endswith("You said: good morning")
    assert record["consumed"] == 1 and len(w.queue.out) == 1


def test_the_answer_is_shown_while_it_is_written(world):
    # Pieces further apart than the agent's batches (SHOW_AFTER_MS) are shown one by one.
    w = world(script='- chunks: ["one ", "two ", "three ", "four ", "five ", "six"]\n  stream_delay_ms: 100\n')
    record = w.queue.ask("count")
    assert record["text"] == "one two three four five six"
    assert len(w.queue.deltas) > 3 and "".join(w.queue.deltas) == record["text"]


def test_words_that_come_together_are_shown_together(world):
    w = world()
    record = w.queue.ask("one two three")
    assert len(w.queue.deltas) < len(record["text"].split()) and "".join(w.queue.deltas) == record["text"]


def test_the_shell_runs_in_the_workspace_and_its_output_is_in_the_answer(world):
    w = world()
    record = w.queue.ask("run: echo hello > f; pwd; cat f")
    assert record["text"] == "The tool shell answered: %s\nhello\n" % w.work
    assert os.path.exists(os.path.join(w.work, "f"))


def test_files_are_written_read_and_listed(world):
    w = world()
    assert "wrote 5 bytes" in w.queue.ask("write: deep/er/notes.txt: 12345")["text"]
    assert w.queue.ask("read: deep/er/notes.txt")["text"].endswith("12345")
    assert w.queue.ask("list: deep")["text"].endswith("er/\n")
    assert "No such file" in w.queue.ask("read: nowhere")["text"]
    assert "not a regular file" in w.queue.ask("read: deep")["text"]


def test_reading_a_pipe_or_an_endless_device_does_not_hang(world):
    w = world()
    os.mkfifo(os.path.join(w.work, "pipe"))
    assert "not a regular file" in w.queue.ask("read: pipe")["text"]
    assert "not a regular file" in w.queue.ask("read: /dev/zero")["text"]
    assert "cannot write" in w.queue.ask("write: pipe: x")["text"]


def test_a_failing_command_tells_its_status_and_both_streams(world):
    text = world().queue.ask("run: echo out; echo err >&2; exit 3")["text"]
    assert "out\nerr\n" in text and "[exit status 3]" in text


def test_oversized_output_is_cut_with_a_note_and_strange_bytes_do_no_harm(world):
    w = world()
    text = w.queue.ask("run: head -c 5000000 /dev/zero | tr '\\0' x")["text"]
    assert len(text) < 34000 and "[output cut here: 32768 of 5000000 bytes shown]" in text
    assert w.queue.ask("run: printf 'a\\377\\000b'")["text"].endswith("a??b")


def test_a_command_that_does_not_end_is_killed_with_all_it_started(world):
    script = """
- after_tool: "*"
  reply: "${result}"
- tool: {name: shell, input: {command: "sleep 300 & echo started; sleep 300", timeout_s: 1}}
"""
    w = world(script=script)
    text = w.queue.ask("go")["text"]
    assert "started" in text and "[killed after 1 s]" in text
    left = subprocess.run(["pgrep", "-P", str(w.agent.pid)], capture_output=True, text=True).stdout
    assert left.strip() == ""


def test_what_a_command_leaves_in_the_background_does_not_hold_the_answer(world):
    assert world().queue.ask("run: sleep 300 & echo done")["text"].endswith("done\n")


def test_a_tool_that_is_not_configured_is_refused_to_the_model_not_fatal(world):
    script = """
- after_tool: "*"
  reply: "${result}"
- match: ghost
  tool: {name: no_such_tool, input: {}}
  unoffered: true
- match: shell
  tool: {name: shell, input: {command: "touch pwned"}}
  unoffered: true
- match: bad
  tool: {name: read_file, input: {path: 7}}
- reply: "fine"
"""
    w = world(tools=["read_file"], script=script)
    assert "there is no tool \"no_such_tool\"" in w.queue.ask("ghost")["text"]
    assert "there is no tool \"shell\"" in w.queue.ask("shell")["text"]
    assert not os.path.exists(os.path.join(w.work, "pwned"))
    assert "must be a string" in w.queue.ask("bad")["text"]
    assert w.queue.ask("hello")["text"] == "fine"


def test_endless_tool_calls_are_stopped_after_16_rounds(world):
    w = world(script='- tool: {name: shell, input: {command: "echo x >> count"}}\n')
    record = w.queue.ask("go")
    assert record["kind"] == "notice" and "16 rounds" in record["text"]
    assert len(open(os.path.join(w.work, "count")).readlines()) == 16


def test_a_question_ends_the_turn_and_the_next_message_is_its_answer(world):
    w = world()
    record = w.queue.ask("ask: which colour?")
    assert (record["kind"], record["text"]) == ("question", "which colour?")
    assert w.queue.ask("blue")["text"] == "The tool ask_human answered: blue"


def test_a_request_for_rights_is_passed_on_and_the_agent_goes_on(world):
    w = world(tools=["request_change"])
    text = w.queue.ask("need: shell: to run the tests")["text"]
    assert "c-1 is held for a human" in text
    change = w.queue.changes[0]
    assert (change["kind"], change["reason"]) == ("tools", "to run the tests")
    assert change["document"] == {"tools": ["request_change", "shell"]}, "what it has stays"
    w.queue.ask("need: request_change: I have it already")
    assert w.queue.changes[1]["document"] == {"tools": ["request_change"]}, "no tool is named twice"
    w.queue.change_state = "refused"
    assert "no such tool" in w.queue.ask("need: nonsense: because")["text"]


def test_a_message_sent_by_a_tool_comes_before_the_answer(world):
    w = world()
    w.queue.ask("say: working on it")
    assert [r["text"] for r in w.queue.out][0] == "working on it" and len(w.queue.out) == 2
    assert "consumed" not in w.queue.out[0]


def test_a_model_that_fails_is_reported_as_a_notice_and_the_next_message_works(world):
    script = """
- match: fail
  error: {status: 400, message: "bad luck"}
- match: wait
  error: {status: 429, message: "later", retry_after: 3600}
- reply: "fine"
"""
    w = world(script=script)
    record = w.queue.ask("fail")
    assert record["kind"] == "notice" and "400" in record["text"] and "bad luck" in record["text"]
    assert "429" in w.queue.ask("wait")["text"]
    assert w.queue.ask("hello")["text"] == "fine"


def test_after_a_crash_the_history_is_known_and_the_unfinished_message_is_handled(world):
    script = """
- after_tool: "*"
  reply: "${result}"
- match: slow
  tool: {name: shell, input: {command: "test -e ran || { touch ran; sleep 300; }"}}
- reply: "${text}"
"""
    w = world(script=script, history=[
        {"direction": "in", "seq": 1, "kind": "message", "text": "first", "time": 0},
        {"direction": "out", "seq": 1, "kind": "message", "text": "answer", "time": 0}])
    w.queue.send("slow")
    while not os.path.exists(os.path.join(w.work, "ran")):
        assert w.agent.poll() is None
    w.agent.kill()
    w.agent.communicate()
    assert w.queue.out == []
    w.start()
    assert w.queue.wait(1)["consumed"] == 1


def test_sigterm_ends_it_while_idle_and_while_a_tool_runs(world):
    w = world()
    w.queue.ask("hello")
    w.agent.send_signal(signal.SIGTERM)
    assert w.agent.wait(10) == 0
    w.start()
    w.queue.send("run: touch started; sleep 300")
    while not os.path.exists(os.path.join(w.work, "started")):
        assert w.agent.poll() is None
    w.agent.send_signal(signal.SIGTERM)
    assert w.agent.wait(10) == 0
    assert len(w.queue.out) == 1, "the unfinished message must not be consumed"


def test_a_long_conversation_stays_within_bounds(world):
    w = world(script='- reply: "ok"\n')
    for _ in range(12):
        assert w.queue.ask("x" * 90000)["text"] == "ok"


def python_agent(w):
    return ["/usr/bin/python3", PYTHON_AGENT, "127.0.0.1:%d" % w.queue_port, "127.0.0.1:%d" % w.model_port]


def test_another_program_takes_the_agents_place_over_the_loopback_ports(world):
    w = world(command=python_agent, queue_tcp=True)
    assert w.queue.ask("hello there")["text"].endswith("You said: hello there")
    assert w.queue.ask("run: echo from python")["text"] == "The tool shell answered: from python\n"
    assert w.queue.out[-1]["consumed"] == 2
