"""The model port with the provider "mock": paths, limits, shapes, streaming, robustness.

One modelproxy process; this test plays the supervisor, the vault and the programs in the sandboxes.
"""
import http.client
import json
import os
import socket
import sys
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from icipc import M, Closed, Process, s, u32, u64  # noqa: E402

# The leak checker needs system calls that a sealed process gave up.
os.environ["ASAN_OPTIONS"] = "detect_leaks=0:" + os.environ.get("ASAN_OPTIONS", "")
BUILD = os.environ.get("IRONCLAW_BUILD", "build")
BINARY = os.path.join(BUILD, "src/modelproxy/ironclaw-modelproxy")
CONFIG = {"uid_base": 1879048192, "providers": {}}


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path, timeout=10):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Proxy:
    def __init__(self, tmp_path, script="", config=CONFIG, peers=("PEER_VAULT",)):
        self.tmp, self.count = tmp_path, 0
        mock = os.memfd_create("script")
        os.write(mock, script.encode())
        os.lseek(mock, 0, 0)
        self.process = Process(BINARY, config, peers=peers, extra=[mock])
        os.close(mock)
        self.process.ready()
        self.vault = self.process.links["PEER_VAULT"]

    def session(self, name="s-1", provider="mock", model="", rpm=0, concurrency=8, budget=0, used=0, expect=0):
        self.count += 1
        path = os.path.join(self.tmp, "%s-%d.sock" % (name, self.count))
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(path)
        unix.listen(64)
        tcp = socket.create_server(("127.0.0.1", 0), backlog=64)
        body = s(name) + s(provider) + s(model) + u32(rpm) + u32(concurrency) + u64(budget) + u64(used)
        fields, _ = self.vault.call(M["PROXY_SESSION"], body, [unix.fileno(), tcp.fileno()])
        assert fields.u32() == expect
        port = tcp.getsockname()[1]
        unix.close()
        tcp.close()
        return path, port

    def notice(self):
        kind, _, f, _ = self.vault.recv()
        assert kind == M["PROXY_CALL"]
        return {"session": f.str(), "provider": f.str(), "method": f.str(), "path": f.str(), "status": f.u32(),
                "input": f.u64(), "output": f.u64(), "ms": f.u64(), "outcome": f.str()}


@pytest.fixture
def start(tmp_path):
    started = []

    def make(*args, **kwargs):
        started.append(Proxy(str(tmp_path), *args, **kwargs))
        return started[-1]

    yield make
    for proxy in started:
        status, err = proxy.process.stop()
        assert status == 0, err
        assert "runtime error" not in err and "AddressSanitizer" not in err, err


def post(path, target, doc, headers=None, connection=None):
    c = connection or UnixHTTP(path)
    c.request("POST", target, json.dumps(doc) if isinstance(doc, (dict, list)) else doc,
              {"content-type": "application/json", **(headers or {})})
    r = c.getresponse()
    return r, r.read()


def ask(text, **more):
    return {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": text}], **more}


def raw(port, data, timeout=10):
    """Sends bytes as they are; everything that comes back until the proxy closes or stays silent."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as c:
        c.sendall(data)
        c.shutdown(socket.SHUT_WR)
        got = b""
        while True:
            try:
                part = c.recv(65536)
            except ConnectionResetError:
                break
            if not part:
                break
            got += part
    return got


def test_an_ordinary_text_is_echoed_in_anthropic_shape_and_recorded_once(start):
    proxy = start()
    unix, port = proxy.session()
    r, body = post(unix, "/v1/messages", ask("good morning"))
    doc = json.loads(body)
    assert r.status == 200 and doc["type"] == "message" and doc["stop_reason"] == "end_turn"
    assert "You said: good morning" in doc["content"][0]["text"]
    n = proxy.notice()
    assert (n["session"], n["provider"], n["method"], n["path"]) == ("s-1", "mock", "POST", "/v1/messages")
    assert (n["status"], n["outcome"]) == (200, "ok")
    assert n["input"] == doc["usage"]["input_tokens"] and n["output"] == doc["usage"]["output_tokens"]


def test_the_same_service_answers_on_loopback_tcp_and_the_same_question_gets_the_same_bytes(start):
    proxy = start()
    unix, port = proxy.session()
    first = post(unix, "/v1/messages", ask("same"))[1]
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    assert post(None, "/v1/messages", ask("same"), connection=c)[1] == first


def test_tools_are_called_in_anthropic_shape_and_their_result_is_quoted(start):
    unix, _ = start().session()
    tools = [{"name": "shell", "input_schema": {"type": "object"}}]
    doc = json.loads(post(unix, "/v1/messages", ask("run: uname -a", tools=tools))[1])
    call = doc["content"][0]
    assert doc["stop_reason"] == "tool_use"
    assert (call["type"], call["name"], call["input"]) == ("tool_use", "shell", {"command": "uname -a"})
    messages = [{"role": "user", "content": "run: uname -a"}, {"role": "assistant", "content": [call]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call["id"], "content": "Linux!"}]}]
    doc = json.loads(post(unix, "/v1/messages", {"model": "m", "messages": messages, "tools": tools})[1])
    assert doc["content"][0]["text"] == "The tool shell answered: Linux!"


def test_tools_are_called_in_openai_shape_and_their_result_is_quoted(start):
    unix, _ = start().session()
    tools = [{"type": "function", "function": {"name": "read_file"}}]
    doc = json.loads(post(unix, "/v1/chat/completions", ask("read: notes.txt", tools=tools))[1])
    choice = doc["choices"][0]
    call = choice["message"]["tool_calls"][0]
    assert choice["finish_reason"] == "tool_calls" and call["function"]["name"] == "read_file"
    assert json.loads(call["function"]["arguments"]) == {"path": "notes.txt"}
    messages = [{"role": "user", "content": "x"}, choice["message"],
                {"role": "tool", "tool_call_id": call["id"], "content": "the notes"}]
    doc = json.loads(post(unix, "/v1/chat/completions", {"model": "m", "messages": messages, "tools": tools})[1])
    assert doc["choices"][0]["message"]["content"] == "The tool read_file answered: the notes"


def test_a_tool_that_is_not_offered_is_not_called(start):
    unix, _ = start().session()
    doc = json.loads(post(unix, "/v1/messages", ask("run: id"))[1])
    assert doc["content"][0]["type"] == "text" and "does not offer" in doc["content"][0]["text"]


@pytest.mark.parametrize("target,key", [("/v1/responses", "output"), ("/v1/embeddings", "data"),
                                        ("/v1/completions", "choices"), ("/v1/messages/count_tokens", "input_tokens")])
def test_every_allowed_path_is_answered(start, target, key):
    unix, _ = start().session()
    doc = {"model": "m", "input": "hi", "prompt": "hi", "messages": []}
    r, body = post(unix, target, doc)
    assert r.status == 200 and key in json.loads(body)


def test_models_are_listed(start):
    unix, _ = start().session()
    c = UnixHTTP(unix)
    c.request("GET", "/v1/models")
    assert json.loads(c.getresponse().read())["data"][0]["id"] == "mock"


def events(body):
    return [line[6:] for line in body.decode().split("\n") if line.startswith("data: ")]


def test_anthropic_streams_are_complete(start):
    unix, _ = start().session()
    r, body = post(unix, "/v1/messages", ask("tell me more", stream=True))
    docs = [json.loads(e) for e in events(body)]
    assert r.getheader("content-type") == "text/event-stream"
    assert [d["type"] for d in docs][0] == "message_start" and docs[-1]["type"] == "message_stop"
    text = "".join(d["delta"]["text"] for d in docs if d["type"] == "content_block_delta")
    assert text.endswith("You said: tell me more")


def test_openai_streams_are_complete_and_tell_their_usage_when_asked(start):
    proxy = start()
    unix, _ = proxy.session()
    _, body = post(unix, "/v1/chat/completions", ask("hello", stream=True, stream_options={"include_usage": True}))
    got = events(body)
    assert got[-1] == "[DONE]"
    docs = [json.loads(e) for e in got[:-1]]
    assert "".join(d["choices"][0]["delta"].get("content", "") for d in docs if d["choices"]).endswith("hello")
    assert docs[-1]["usage"]["completion_tokens"] == proxy.notice()["output"]


def test_chunks_reach_the_client_before_the_answer_is_complete(start):
    unix, _ = start("- chunks: [one, two, three]\n  stream_delay_ms: 400\n").session()
    c = UnixHTTP(unix)
    c.request("POST", "/v1/messages", json.dumps(ask("x", stream=True)))
    r = c.getresponse()
    got = b""
    while b"one" not in got:
        got += r.read1(65536)
    assert b"three" not in got
    while b"message_stop" not in got:
        got += r.read1(65536)
    assert b"three" in got


@pytest.mark.parametrize("target", [
    "/v1/message", "/v1/messages/", "/v1/messages/batches", "/v1//messages", "/v1/./messages", "/v1/x/../messages",
    "/v1/%6dessages", "/v1%2fmessages", "/V1/messages", "/v1/messages%00", "/v1/files", "/", "//v1/messages",
    "http://evil.example/v1/messages", "/v1/messages;x", "/v1/messages%3f"])
def test_a_path_that_is_not_an_allowed_one_byte_for_byte_is_404(start, target):
    proxy = start()
    _, port = proxy.session()
    got = raw(port, b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}" % target.encode())
    assert got.startswith(b"HTTP/1.1 404 "), got
    n = proxy.notice()
    assert (n["status"], n["outcome"]) == (404, "path")


def test_errors_have_the_shape_of_the_api_they_belong_to(start):
    unix, _ = start().session()
    _, body = post(unix, "/v1/messages/batches", {})
    assert json.loads(body)["type"] == "error" and json.loads(body)["error"]["type"] == "not_found_error"
    _, body = post(unix, "/v1/files", {})
    assert "type" not in json.loads(body) and json.loads(body)["error"]["code"] == "invalid_request_error"


def test_a_wrong_method_is_405(start):
    unix, _ = start().session()
    c = UnixHTTP(unix)
    c.request("GET", "/v1/messages")
    assert c.getresponse().status == 405


def test_requests_per_minute_are_limited_per_session(start):
    proxy = start()
    a, _ = proxy.session("s-a", rpm=3)
    b, _ = proxy.session("s-b", rpm=3)
    assert [post(a, "/v1/messages", ask("x"))[0].status for _ in range(3)] == [200] * 3
    r, body = post(a, "/v1/messages", ask("x"))
    assert r.status == 429 and 1 <= int(r.getheader("retry-after")) <= 21
    assert json.loads(body)["error"]["type"] == "rate_limit_error"
    assert post(b, "/v1/messages", ask("x"))[0].status == 200
    assert [proxy.notice()["outcome"] for _ in range(5)] == ["ok", "ok", "ok", "rate", "ok"]


def test_the_token_budget_ends_a_session_s_calls(start):
    proxy = start()
    unix, _ = proxy.session(budget=30)
    first = json.loads(post(unix, "/v1/messages", ask("x"))[1])
    assert first["usage"]["input_tokens"] + first["usage"]["output_tokens"] >= 30
    r, body = post(unix, "/v1/messages", ask("x"))
    assert r.status == 429 and r.getheader("retry-after") and b"budget" in body
    spent, _ = proxy.session("s-2", budget=100, used=100)
    assert post(spent, "/v1/messages", ask("x"))[0].status == 429


def test_calls_at_a_time_are_limited_per_session(start):
    proxy = start("- chunks: [a, b]\n  stream_delay_ms: 30000\n")
    unix, _ = proxy.session(concurrency=2)
    other, _ = proxy.session("s-2", concurrency=2)
    held = []
    for path in (unix, unix, other):
        c = UnixHTTP(path)
        c.request("POST", "/v1/messages", json.dumps(ask("x", stream=True)))
        assert c.getresponse().status == 200
        held.append(c)
    r, body = post(unix, "/v1/messages", ask("x"))
    assert r.status == 429 and b"under way" in body
    held[0].sock.shutdown(socket.SHUT_RDWR)  # a client that hangs up gives its place back
    assert proxy.notice()["outcome"] == "concurrency"
    n = proxy.notice()
    assert (n["session"], n["outcome"]) == ("s-1", "client")
    c = UnixHTTP(unix)
    c.request("POST", "/v1/messages", json.dumps(ask("x", stream=True)))
    assert c.getresponse().status == 200


def test_a_body_over_the_limit_is_413_whether_announced_or_chunked(start):
    _, port = start().session()
    got = raw(port, b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 16777217\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 413 ")
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    c.request("POST", "/v1/messages", iter([b"x" * (1 << 20)] * 17), encode_chunked=True,
              headers={"Transfer-Encoding": "chunked"})
    assert c.getresponse().status == 413


def test_a_large_body_within_the_limit_is_taken(start):
    unix, _ = start().session()
    r, body = post(unix, "/v1/messages", ask("y" * (8 << 20)))
    assert r.status == 200 and json.loads(body)["content"][0]["text"].endswith("y" * 1000)


@pytest.mark.parametrize("head", [
    b"Content-Length: 2\r\nTransfer-Encoding: chunked", b"Content-Length: 2\r\nContent-Length: 3",
    b"Content-Length: 2\r\nContent-Length: 2", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    b"Transfer-Encoding: xchunked", b"Content-Length: +2", b"Content-Length: 0x2", b"Content-Length: -1",
    b"Content-Length: 99999999999999999999999999"])
def test_ambiguous_lengths_are_refused_and_the_connection_is_closed(start, head):
    proxy = start()
    _, port = proxy.session()
    tail = b"{}0\r\n\r\nPOST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    got = raw(port, b"POST /v1/messages HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n" + tail)
    assert b"HTTP/1.1 2" not in got, got


def test_malformed_requests_are_refused_and_leave_the_port_working(start):
    proxy = start()
    unix, port = proxy.session()
    for data in (b"", b"\0" * 100 + b"\r\n\r\n", b"\x16\x03\x01\x02\x00\r\n\r\n", b"POST /v1/messages HTTP/9.9\r\n\r\n",
                 b"A" * 100000, b"POST /v1/messages HTTP/1.1\r\n" + b"X: y\r\n" * 20000,
                 b"POST " + b"/" * 70000 + b" HTTP/1.1\r\n\r\n"):
        try:
            assert b" 200 " not in raw(port, data)
        except (BrokenPipeError, ConnectionResetError, OSError):
            pass
    for doc in ("", "[]", "{", '{"messages":1}', "null", '{"messages":[1,null,{"content":[[]]}]}'):
        assert post(unix, "/v1/messages", doc)[0].status in (200, 400)
    assert post(unix, "/v1/messages", ask("still there"))[0].status == 200


def test_a_request_that_its_client_gave_up_half_way_is_let_go(start):
    proxy = start()
    unix, port = proxy.session()
    for data in (b"GET", b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nabc"):
        assert b" 200 " not in raw(port, data, timeout=25)
    assert post(unix, "/v1/messages", ask("still there"))[0].status == 200


def test_a_session_has_at_most_32_connections_and_others_do_not_suffer(start):
    proxy = start()
    greedy, port = proxy.session("s-greedy")
    modest, _ = proxy.session("s-modest")
    socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
    for c in socks:
        c.sendall(b"POST /v1/messages HTTP/1.1\r\n")
    assert post(modest, "/v1/messages", ask("x"))[0].status == 200
    fds = len(os.listdir("/proc/%d/fd" % proxy.process.proc.pid))
    assert fds < 32 + 40, "more than 32 connections of one session are held"
    for c in socks:
        c.close()
    assert post(greedy, "/v1/messages", ask("x"))[0].status == 200


def test_ending_a_session_closes_its_port_and_its_calls(start):
    proxy = start("- chunks: [a, b]\n  stream_delay_ms: 30000\n")
    unix, port = proxy.session()
    c = UnixHTTP(unix)
    c.request("POST", "/v1/messages", json.dumps(ask("x", stream=True)))
    r = c.getresponse()
    proxy.vault.notify(M["PROXY_END"], s("s-1"))
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        r.read()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=2)
    assert proxy.notice()["outcome"] == "client"


def test_the_vault_may_restart_sessions_are_registered_again_and_no_record_is_lost(start):
    proxy = start()
    unix, _ = proxy.session()
    proxy.vault.sock.close()
    time.sleep(0.2)
    assert post(unix, "/v1/messages", ask("meanwhile"))[0].status == 200
    proxy.vault = proxy.process.link("PEER_VAULT")
    n = proxy.notice()
    assert (n["path"], n["status"]) == ("/v1/messages", 200)
    again, _ = proxy.session()
    assert post(again, "/v1/messages", ask("after"))[0].status == 200


def test_an_unknown_provider_is_refused(start):
    start().session(provider="nobody", expect=2)


def test_an_ill_formed_request_of_the_vault_cuts_the_link_only(start):
    proxy = start()
    proxy.vault.notify(M["PROXY_END"], b"\xff\xff\xff\xff?")
    with pytest.raises((Closed, ConnectionError)):
        proxy.vault.recv()
    proxy.vault = proxy.process.link("PEER_VAULT")
    unix, _ = proxy.session()
    assert post(unix, "/v1/messages", ask("x"))[0].status == 200


SCRIPT = """
- match: weather
  reply: "It rains on ${model}. You asked: ${text}"
- regex: "^fail ([0-9]+)$"
  error: {status: 529, message: "overloaded by ${1}", retry_after: 7}
- regex: "^ghost$"
  tool: {name: no_such_tool, input: {}}
  unoffered: true
"""


def test_a_script_decides_the_answers(start):
    unix, _ = start(SCRIPT).session(model="forced-model")
    doc = json.loads(post(unix, "/v1/messages", ask("the weather?"))[1])
    assert doc["content"][0]["text"] == "It rains on forced-model. You asked: the weather?"
    r, body = post(unix, "/v1/messages", ask("fail 3"))
    assert r.status == 529 and r.getheader("retry-after") == "7"
    assert json.loads(body)["error"]["message"] == "overloaded by 3"
    assert json.loads(post(unix, "/v1/messages", ask("ghost"))[1])["content"][0]["name"] == "no_such_tool"
    assert post(unix, "/v1/messages", ask("nothing fits"))[0].status == 500


def test_a_wrong_script_stops_the_start_and_names_the_rule(tmp_path):
    mock = os.memfd_create("script")
    os.write(mock, b"- reply: fine\n- repyl: oops\n")
    os.lseek(mock, 0, 0)
    process = Process(BINARY, CONFIG, extra=[mock])
    os.close(mock)
    err = process.proc.communicate(timeout=15)[1].decode()
    assert process.proc.returncode == 1 and "rule 2" in err and "repyl" in err


def test_a_client_that_reads_slowly_does_not_make_the_proxy_buffer_everything(start):
    big = "z" * 200000
    script = json.dumps([{"chunks": ["${text}"] * 100}])
    proxy = start(script)
    unix, _ = proxy.session()
    c = UnixHTTP(unix)
    c.request("POST", "/v1/messages", json.dumps(ask(big, stream=True)))
    r = c.getresponse()
    total, got = 0, b""
    while True:
        got = r.read1(65536)
        if not got:
            break
        total += got.count(b"z")
    assert total == 100 * len(big)
