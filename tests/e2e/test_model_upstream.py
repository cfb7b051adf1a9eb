"""modelproxy + upstream against a local TLS server that plays Anthropic and OpenAI.

This test plays the supervisor, the vault (which has the provider keys), the sandbox, and the provider.
"""
import base64
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
from icipc import Closed, Fields, M, Process, s, u32, u64  # noqa: E402

os.environ["ASAN_OPTIONS"] = "detect_leaks=0:" + os.environ.get("ASAN_OPTIONS", "")
BUILD = os.environ.get("IRONCLAW_BUILD", "build")
PROXY = os.path.join(BUILD, "src/modelproxy/ironclaw-modelproxy")
UPSTREAM = os.path.join(BUILD, "src/upstream/ironclaw-upstream")
KEY = "sk-ant-test-0123456789/abcdefghijklmnopqrstuvwxyz"
OPENAI_KEY = "sk-openai-test-ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@pytest.fixture(scope="session")
def ca(tmp_path_factory):
    """A test CA, a certificate for localhost, and one for another name."""
    d = tmp_path_factory.mktemp("ca")

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=d, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
            "-subj", "/CN=Test CA", "-addext", "basicConstraints=critical,CA:TRUE")
    for name in ("localhost", "elsewhere.example"):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", name + ".key", "-out", name + ".csr", "-subj",
                "/CN=" + name)
        (d / (name + ".ext")).write_text("subjectAltName=DNS:" + name)
        openssl("x509", "-req", "-in", name + ".csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out",
                name + ".pem", "-days", "2", "-extfile", name + ".ext")
    return d


class Provider:
    """Plays a provider: records the raw bytes of each request, lets `behave(connection, request)` answer."""

    def __init__(self, ca, name="localhost", tls=True, host="127.0.0.1"):
        self.requests, self.behave = [], None
        self.context = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(ca / (name + ".pem"), ca / (name + ".key"))
        self.sock = socket.create_server((host, 0))
        self.port = self.sock.getsockname()[1]
        self.url = "%s://localhost:%d" % ("https" if tls else "http", self.port)
        self.accepted = 0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                c, _ = self.sock.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(c,), daemon=True).start()

    def _serve(self, c):
        try:
            if self.context:
                c = self.context.wrap_socket(c, server_side=True)
            f = c.makefile("rb")
            while True:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    line = f.readline()
                    if not line:
                        return
                    head += line
                lines = head.decode("latin-1").split("\r\n")
                headers = {}
                for line in lines[1:-2]:
                    name, _, value = line.partition(":")
                    headers.setdefault(name.lower(), []).append(value.strip())
                body = f.read(int(headers.get("content-length", ["0"])[0]))
                request = {"line": lines[0], "headers": headers, "body": body, "head": head}
                self.requests.append(request)
                self.behave(c, request)
        except (OSError, ssl.SSLError, ValueError):
            pass


def reply(c, body, status="200 OK", ctype="application/json", extra=""):
    body = body if isinstance(body, bytes) else body.encode()
    c.sendall(("HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n" % (status, ctype, len(body), extra))
              .encode() + body)


def chunk(c, data):
    data = data if isinstance(data, bytes) else data.encode()
    c.sendall(b"%x\r\n%s\r\n" % (len(data), data))


def stream_head(c):
    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")


ANSWER = json.dumps({"type": "message", "content": [{"type": "text", "text": "hello"}],
                     "usage": {"input_tokens": 11, "output_tokens": 22, "cache_read_input_tokens": 5}})


class World:
    def __init__(self, tmp, ca, providers, keys=None, ca_file=True):
        self.tmp, self.count = str(tmp), 0
        self.keys = {"anthropic": KEY, "openai": OPENAI_KEY} if keys is None else keys
        self.asked, self.notices = [], []
        self.config = {"uid_base": 1879048192, "providers": providers,
                       "provider_ca_file": str(ca / "ca.pem") if ca_file else ""}
        mock = os.memfd_create("script")
        self.proxy = Process(PROXY, self.config, peers=["PEER_VAULT"], extra=[mock])
        os.close(mock)
        self.proxy.ready()
        self.upstream = None
        threading.Thread(target=self._proxy_vault, daemon=True).start()
        self.registered = {}
        self.registered_cond = threading.Condition()

    def start_upstream(self):
        self.upstream = Process(UPSTREAM, self.config, peers=["PEER_VAULT"])
        self.upstream.ready()
        threading.Thread(target=self._vault, args=(self.upstream.links["PEER_VAULT"],), daemon=True).start()
        a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end, process, peer in ((a, self.proxy, "PEER_UPSTREAM"), (b, self.upstream, "PEER_MODELPROXY")):
            process.control.notify(M["CTL_LINK"], u32(M[peer]), [end.fileno()])
            end.close()
        return self

    def _vault(self, link):
        while True:
            try:
                kind, ident, fields, _ = link.recv(3600)
            except Exception:
                return
            assert kind == M["UP_KEY"]
            name = fields.str()
            self.asked.append(name)
            if name in self.keys:
                link.reply(ident, u32(0) + s("") + s(self.keys[name]))
            else:
                link.reply(ident, u32(2) + s("no key is set for provider " + name) + s(""))

    def _proxy_vault(self):
        link = self.proxy.links["PEER_VAULT"]
        while True:
            try:
                kind, flags, ident, data, _ = link._frame(3600)
            except Exception:
                return
            f = Fields(data)
            if flags & 1:
                with self.registered_cond:
                    self.registered[ident] = f.u32()
                    self.registered_cond.notify_all()
            else:
                self.notices.append({"session": f.str(), "provider": f.str(), "method": f.str(), "path": f.str(),
                                     "status": f.u32(), "input": f.u64(), "output": f.u64(), "ms": f.u64(),
                                     "outcome": f.str()})

    def session(self, provider="anthropic", model="", name=None):
        self.count += 1
        path = os.path.join(self.tmp, "model-%d.sock" % self.count)
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(path)
        unix.listen(8)
        tcp = socket.create_server(("127.0.0.1", 0))
        ident = self.proxy.links["PEER_VAULT"].start(
            M["PROXY_SESSION"], s(name or "s-%d" % self.count) + s(provider) + s(model) + u32(0) + u32(8) + u64(0) +
            u64(0), [unix.fileno(), tcp.fileno()])
        with self.registered_cond:
            assert self.registered_cond.wait_for(lambda: ident in self.registered, 10)
        assert self.registered[ident] == 0
        port = tcp.getsockname()[1]
        unix.close()
        tcp.close()
        return port

    def notice(self, count=1):
        deadline = time.monotonic() + 10
        while len(self.notices) < count:
            assert time.monotonic() < deadline, "no audit notice"
            time.sleep(0.01)
        return self.notices[count - 1]

    def stop(self):
        for process in (self.upstream, self.proxy):
            if process:
                status, err = process.stop()
                assert "AddressSanitizer" not in err and "runtime error" not in err, err
                assert KEY not in err and OPENAI_KEY not in err


@pytest.fixture
def world(tmp_path, ca):
    made = []

    def make(providers, start=True, **kwargs):
        made.append(World(tmp_path, ca, providers, **kwargs))
        return made[-1].start_upstream() if start else made[-1]

    yield make
    for w in made:
        w.stop()


@pytest.fixture
def anthropic(ca, world):
    provider = Provider(ca)
    provider.behave = lambda c, r: reply(c, ANSWER)
    return provider, world({"anthropic": {"kind": "anthropic", "url": provider.url}})


def post(port, target="/v1/messages", doc=None, headers=None):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    body = doc if isinstance(doc, (str, bytes)) else json.dumps(doc or {"model": "m", "messages": []})
    c.request("POST", target, body, {"content-type": "application/json", **(headers or {})})
    r = c.getresponse()
    return r, r.read()


def test_the_key_is_added_and_the_answer_passes_with_its_tokens_counted(anthropic):
    provider, w = anthropic
    r, body = post(w.session(), doc={"messages": [1]})
    assert r.status == 200 and body.decode() == ANSWER
    seen = provider.requests[0]
    assert seen["line"] == "POST /v1/messages HTTP/1.1"
    assert seen["headers"]["x-api-key"] == [KEY] and "authorization" not in seen["headers"]
    assert seen["headers"]["anthropic-version"] == ["2023-06-01"]
    assert json.loads(seen["body"]) == {"messages": [1]}
    n = w.notice()
    assert (n["status"], n["input"], n["output"], n["outcome"]) == (200, 16, 22, "ok")


def test_openai_gets_a_bearer_token(ca, world):
    provider = Provider(ca)
    provider.behave = lambda c, r: reply(c, '{"usage":{"prompt_tokens":3,"completion_tokens":4}}')
    w = world({"openai": {"kind": "openai", "url": provider.url}})
    assert post(w.session("openai"), "/v1/chat/completions")[0].status == 200
    assert provider.requests[0]["headers"]["authorization"] == ["Bearer " + OPENAI_KEY]
    assert (w.notice()["input"], w.notice()["output"]) == (3, 4)


def test_credentials_and_other_headers_of_the_client_do_not_reach_the_provider(anthropic):
    provider, w = anthropic
    post(w.session(), headers={"Authorization": "Bearer stolen", "x-api-key": "mine", "Cookie": "a=b", "X-Evil": "1",
                               "X-Forwarded-For": "1.2.3.4", "Accept-Encoding": "gzip", "anthropic-beta": "tools-1",
                               "Proxy-Authorization": "x", "anthropic-version": "2024-01-01", "User-Agent": "me"})
    headers = provider.requests[0]["headers"]
    assert set(headers) <= {"host", "user-agent", "content-type", "accept", "content-length", "x-api-key",
                            "anthropic-version", "anthropic-beta"}
    assert headers["x-api-key"] == [KEY] and headers["anthropic-beta"] == ["tools-1"]
    assert headers["anthropic-version"] == ["2024-01-01"] and headers["user-agent"][0].startswith("ironclaw/")


def test_the_vault_is_asked_once_for_a_busy_agent(anthropic):
    _, w = anthropic
    port = w.session()
    for _ in range(5):
        assert post(port)[0].status == 200
    assert w.asked == ["anthropic"]


def test_a_model_that_the_agent_must_use_replaces_the_one_in_the_request(anthropic):
    provider, w = anthropic
    post(w.session(model="small"), doc={"model": "huge", "messages": []})
    assert json.loads(provider.requests[0]["body"])["model"] == "small"
    assert post(w.session(model="small"), doc='{"model":"a","model":"b"}')[0].status == 400


def test_chunk_n_is_seen_by_the_client_before_the_provider_sends_chunk_n_plus_1(anthropic):
    provider, w = anthropic
    seen = [threading.Event() for _ in range(6)]

    def behave(c, r):
        stream_head(c)
        for i, event in enumerate(seen):
            chunk(c, 'event: x\ndata: {"n":%d}\n\n' % i)
            if not event.wait(10):
                return
        chunk(c, "")

    provider.behave = behave
    c = http.client.HTTPConnection("127.0.0.1", w.session(), timeout=10)
    c.request("POST", "/v1/messages", '{"stream":true}')
    r = c.getresponse()
    assert r.getheader("content-type") == "text/event-stream"
    for i, event in enumerate(seen):
        got = b""
        while b'{"n":%d}\n\n' % i not in got:
            part = r.read1(65536)
            assert part, "the stream ended early"
            got += part
        event.set()
    assert r.read() == b""


def test_tokens_of_a_stream_are_counted(anthropic):
    provider, w = anthropic

    def behave(c, r):
        stream_head(c)
        chunk(c, 'data: {"type":"message_start","message":{"usage":{"input_tokens":7,"output_tokens":1}}}\n\nda')
        chunk(c, 'ta: {"type":"message_delta","usage":{"output_tokens":40}}\n\n')
        chunk(c, "")

    provider.behave = behave
    post(w.session())
    assert (w.notice()["input"], w.notice()["output"]) == (7, 40)


FORMS = [KEY, KEY.encode().hex(), KEY.encode().hex().upper(), base64.b64encode(KEY.encode()).decode().rstrip("="),
         json.dumps(KEY).strip('"').replace("/", "\\/"), urllib.parse.quote(KEY, safe=""),
         "".join("\\u%04x" % ord(c) for c in KEY), base64.b64encode(b"u:" + KEY.encode()).decode(), base64.b64encode(b"u" + KEY.encode() + b"xy").decode()]


@pytest.mark.parametrize("form", FORMS)
def test_the_key_is_redacted_from_answers_in_any_spelling_and_any_cut(anthropic, form):
    provider, w = anthropic

    def behave(c, r):
        stream_head(c)
        for i in range(0, len(form), 5):
            chunk(c, ("before " if i == 0 else "") + form[i:i + 5])
            time.sleep(0.002)
        chunk(c, " after")
        chunk(c, "")

    provider.behave = behave
    _, body = post(w.session())
    assert form.encode() not in body and b"[redacted]" in body
    assert body.startswith(b"before ") and body.endswith(b" after")


def block(text):
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


def choice(text):
    return {"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


@pytest.mark.parametrize("kind,target,key,piece,closing,text_of", [
    ("anthropic", "/v1/messages", KEY, block, {"type": "content_block_stop", "index": 0},
     lambda e: e.get("delta", {}).get("text", "")),
    ("openai", "/v1/chat/completions", OPENAI_KEY, choice,
     {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
     lambda e: e["choices"][0]["delta"].get("content", "")),
])
@pytest.mark.parametrize("size", [1, 3, 20])
def test_a_key_said_piece_by_piece_is_redacted_and_nothing_else_is_lost(ca, world, kind, target, key, piece, closing,
                                                                       text_of, size):
    said = "my key is %s, not %s nor %s; yes" % (key, key[:-1], key[:9])
    provider = Provider(ca)

    def behave(c, r):
        stream_head(c)
        for at in range(0, len(said), size):
            chunk(c, "data: %s\n\n" % json.dumps(piece(said[at:at + size])))
        chunk(c, "data: %s\n\n" % json.dumps(closing))
        chunk(c, "")

    provider.behave = behave
    w = world({kind: {"kind": kind, "url": provider.url}})
    r, body = post(w.session(kind), target)
    assert r.status == 200
    events = [json.loads(e[len("data: "):]) for e in body.decode().split("\n\n") if e]
    assert "".join(text_of(e) for e in events) == said.replace(key, "[redacted]")
    assert events[-1] == closing, "what was held back comes before the event that ends the text"


def test_the_key_is_redacted_from_error_answers_and_headers(anthropic):
    provider, w = anthropic
    provider.behave = lambda c, r: reply(c, '{"error":"bad key %s"}' % KEY, "401 Unauthorized",
                                         extra="request-id: id-%s\r\nset-cookie: a=b\r\nx-other: 1\r\n" % KEY)
    r, body = post(w.session())
    assert r.status == 401 and KEY.encode() not in body and b"[redacted]" in body
    assert r.getheader("request-id") == "id-[redacted]"
    assert r.getheader("set-cookie") is None and r.getheader("x-other") is None


def test_retry_after_and_status_of_the_provider_pass(anthropic):
    provider, w = anthropic
    provider.behave = lambda c, r: reply(c, "{}", "529 Overloaded", extra="retry-after: 17\r\n")
    r, _ = post(w.session())
    assert (r.status, r.getheader("retry-after")) == (529, "17")
    assert w.notice()["outcome"] == "provider"


def test_redirects_are_not_followed(ca, anthropic):
    provider, w = anthropic
    other = Provider(ca)
    provider.behave = lambda c, r: reply(c, "", "307 Temporary Redirect", extra="Location: %s/v1/messages\r\n" % other.url)
    r, _ = post(w.session())
    assert r.status == 307 and r.getheader("location") is None and other.accepted == 0


@pytest.mark.parametrize("name", ["elsewhere.example"])
def test_a_certificate_for_another_name_is_refused_before_the_key_is_sent(ca, world, name):
    provider = Provider(ca, name)
    w = world({"anthropic": {"kind": "anthropic", "url": provider.url}})
    r, body = post(w.session())
    assert r.status == 502 and provider.requests == [] and provider.accepted == 1
    assert json.loads(body)["error"]["type"] == "api_error"


def test_a_certificate_of_an_unknown_ca_is_refused(ca, world):
    provider = Provider(ca)
    w = world({"anthropic": {"kind": "anthropic", "url": provider.url}}, ca_file=False)
    assert post(w.session())[0].status == 502 and provider.requests == []


def test_plain_http_works_to_loopback_only(ca, world):
    near = Provider(ca, tls=False)
    near.behave = lambda c, r: reply(c, "{}")
    w = world({"near": {"kind": "openai", "url": near.url},
               "far": {"kind": "openai", "url": "http://192.0.2.1:80"}}, keys={"far": OPENAI_KEY})
    assert post(w.session("near"), "/v1/chat/completions")[0].status == 200
    assert "authorization" not in near.requests[0]["headers"], "a local provider without a key is asked without one"
    r, body = post(w.session("far"), "/v1/chat/completions")
    assert r.status == 502 and b"loopback" in body


def test_proxies_in_the_environment_are_ignored(ca, tmp_path, monkeypatch):
    trap, provider = Provider(ca, tls=False), Provider(ca)
    provider.behave = lambda c, r: reply(c, ANSWER)
    for name in ("https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, trap.url)
    w = World(tmp_path, ca, {"anthropic": {"kind": "anthropic", "url": provider.url}}).start_upstream()
    try:
        assert post(w.session())[0].status == 200 and trap.accepted == 0
    finally:
        w.stop()


def test_without_a_key_the_error_says_so_and_the_provider_is_not_asked(ca, world):
    provider = Provider(ca)
    w = world({"anthropic": {"kind": "anthropic", "url": provider.url}}, keys={})
    r, body = post(w.session())
    assert r.status == 403 and b"no key is set" in body and provider.accepted == 0


SMUGGLED = [
    b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%s",
    b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 90\r\n\r\n{}%s",
    b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n%s",
    b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nX: a\nx-api-key: evil\nContent-Length: 2\r\n\r\n{}%s",
    b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nX: a\r\n x-api-key: evil\r\nContent-Length: 2\r\n\r\n{}%s",
    b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nanthropic-beta: a\r\n\tx-api-key: evil\r\nContent-Length: 2\r\n\r\n{}%s",
    b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nanthropic-beta: a\rx-api-key: evil\r\nContent-Length: 2\r\n\r\n{}%s",
    b"POST http://evil.example/v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}%s",
    b"POST /v1/messages/../../evil HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}%s",
    b"POST /v1/%%2e%%2e/evil HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}%s",
    b"POST /v1/messages?x=1%%0d%%0aEvil:%%20evil HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}%s",
]


@pytest.mark.parametrize("request_bytes", SMUGGLED)
def test_no_trick_with_headers_or_paths_reaches_the_provider(anthropic, request_bytes):
    provider, w = anthropic
    tail = b"POST /evil HTTP/1.1\r\nHost: evil\r\nContent-Length: 0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", w.session()), timeout=10) as c:
        c.sendall(request_bytes % tail)
        c.shutdown(socket.SHUT_WR)
        try:
            while c.recv(65536):
                pass
        except ConnectionResetError:
            pass
    for request in provider.requests:
        assert request["line"] == "POST /v1/messages HTTP/1.1"
        assert b"evil" not in request["head"].replace(b"anthropic-beta: a", b"") or \
            set(request["headers"].get("x-api-key", [])) == {KEY}
        assert request["headers"]["x-api-key"] == [KEY]
        assert b"POST /evil" not in request["body"]


def test_a_provider_that_breaks_off_a_document_cuts_the_client_off_too(anthropic):
    provider, w = anthropic

    def behave(c, r):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"half\":")
        c.shutdown(socket.SHUT_RDWR)

    provider.behave = behave
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        post(w.session())
    assert w.notice()["outcome"] == "upstream"


def test_a_provider_that_breaks_off_a_stream_gives_an_error_event(anthropic):
    provider, w = anthropic

    def behave(c, r):
        stream_head(c)
        chunk(c, "data: {}\n\n")
        c.shutdown(socket.SHUT_RDWR)

    provider.behave = behave
    _, body = post(w.session())
    assert b"event: error\n" in body and b"api_error" in body


def test_upstream_killed_in_mid_stream_gives_an_error_event_and_its_restart_works(anthropic):
    provider, w = anthropic
    begun, hold = threading.Event(), threading.Event()

    def behave(c, r):
        stream_head(c)
        chunk(c, "data: {}\n\n")
        begun.set()
        hold.wait(10)

    provider.behave = behave
    c = http.client.HTTPConnection("127.0.0.1", w.session(), timeout=10)
    c.request("POST", "/v1/messages", "{}")
    r = c.getresponse()
    assert begun.wait(10)
    w.upstream.proc.kill()
    assert b"event: error" in r.read()
    assert w.notice()["outcome"] == "upstream"
    hold.set()
    w.upstream.proc.communicate()
    w.start_upstream()
    provider.behave = lambda c, r: reply(c, ANSWER)
    assert post(w.session())[0].status == 200


def test_a_request_waits_for_the_upstream_process_to_come_up(ca, world):
    provider = Provider(ca)
    provider.behave = lambda c, r: reply(c, ANSWER)
    w = world({"anthropic": {"kind": "anthropic", "url": provider.url}}, start=False)
    port, got = w.session(), []
    asking = threading.Thread(target=lambda: got.append(post(port)))
    asking.start()
    asking.join(0.5)
    assert not got, "it was answered although nobody can have been asked"
    w.start_upstream()  # from this thread: the process dies with the thread that started it
    asking.join(10)
    assert got[0][0].status == 200, got[0][1]


def kill_upstream(w, provider, requests):
    """Once the provider has that many requests, and has answered none of them."""
    end = time.monotonic() + 10
    while len(provider.requests) < requests:
        assert time.monotonic() < end, "the provider was not asked"
        time.sleep(0.01)
    w.upstream.proc.kill()
    w.upstream.proc.communicate()


def test_a_request_without_any_answer_is_sent_once_more_when_upstream_ends_and_only_once(ca, world):
    provider, silent = Provider(ca), threading.Event()
    provider.behave = lambda c, r: silent.wait(30)
    w = world({"anthropic": {"kind": "anthropic", "url": provider.url}})
    port, got = w.session(), []
    for fails in (False, True):
        asked = len(provider.requests)
        asking = threading.Thread(target=lambda: got.append(post(port)))
        asking.start()
        kill_upstream(w, provider, asked + 1)
        if fails:
            w.start_upstream()
            kill_upstream(w, provider, asked + 2)
        else:
            provider.behave = lambda c, r: reply(c, ANSWER)
            w.start_upstream()
        asking.join(15)
        status = got.pop()[0].status
        assert (status, len(provider.requests)) == ((502, asked + 2) if fails else (200, asked + 2))
        provider.behave = lambda c, r: silent.wait(30)
    silent.set()
    w.start_upstream()


def test_without_an_upstream_process_the_answer_is_503(ca, world):
    w = world({"anthropic": {"kind": "anthropic", "url": "https://localhost:1"}}, start=False)
    assert post(w.session())[0].status == 503


def test_a_provider_that_refuses_connections_is_502(world):
    w = world({"anthropic": {"kind": "anthropic", "url": "https://localhost:1"}})
    assert post(w.session())[0].status == 502


def test_a_client_that_goes_away_ends_the_request_to_the_provider(anthropic):
    provider, w = anthropic
    ended = threading.Event()

    def behave(c, r):
        stream_head(c)
        try:
            for _ in range(1000):
                chunk(c, "data: {}\n\n")
                time.sleep(0.01)
        except OSError:
            ended.set()
            raise

    provider.behave = behave
    c = socket.create_connection(("127.0.0.1", w.session()))
    c.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
    c.recv(1)
    c.close()
    assert ended.wait(10)
    assert w.notice()["outcome"] == "client"


def test_a_slow_client_pauses_the_provider(anthropic):
    provider, w = anthropic
    sent = []
    size = 64 << 20

    def behave(c, r):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % size)
        while sum(sent) < size:
            c.sendall(b"x" * 65536)
            sent.append(65536)

    provider.behave = behave
    c = socket.create_connection(("127.0.0.1", w.session()), timeout=20)
    c.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
    last = -1
    while last != sum(sent) or last <= 0:
        last = sum(sent)
        time.sleep(0.5)
    assert last < size // 2, "the whole answer was taken although nobody reads it"
    total = 0
    while total < size:
        part = c.recv(1 << 20)
        assert part, "the answer ended early"
        total += part.count(b"x")
    c.close()


def test_an_answer_that_is_compressed_unasked_is_refused(anthropic):
    provider, w = anthropic
    provider.behave = lambda c, r: reply(c, b"\x1f\x8b123", extra="Content-Encoding: gzip\r\n")
    assert post(w.session())[0].status == 502


def test_the_key_is_in_no_command_line_and_in_no_readable_memory_of_the_proxy(anthropic):
    _, w = anthropic
    post(w.session())
    for process in (w.upstream, w.proxy):
        pid = process.proc.pid
        assert KEY.encode() not in open("/proc/%d/cmdline" % pid, "rb").read()
        limits = open("/proc/%d/limits" % pid).read()
        assert "Max core file size        0                    0" in limits
    if os.geteuid() == 0:
        found = False
        with open("/proc/%d/maps" % w.proxy.proc.pid) as maps, open("/proc/%d/mem" % w.proxy.proc.pid, "rb", 0) as mem:
            for line in maps:
                if not line.split()[1].startswith("rw") or "[v" in line:
                    continue
                start, end = (int(x, 16) for x in line.split()[0].split("-"))
                if end - start > 64 << 20:
                    continue  # the sanitizer's shadow
                try:
                    mem.seek(start)
                    found = found or KEY.encode() in mem.read(end - start)
                except OSError:
                    pass
        assert not found


def upstream_alone(config=None):
    p = Process(UPSTREAM, config or {"uid_base": 1879048192, "providers": {
        "anthropic": {"kind": "anthropic", "url": "https://localhost:1"}}}, peers=["PEER_VAULT", "PEER_MODELPROXY"])
    return p.ready(), p.links["PEER_MODELPROXY"]


def request_body(path="/v1/messages", method="POST", provider="anthropic", ctype="a/b", extra=""):
    return s(provider) + s(method) + s(path) + s(ctype) + s("") + s(extra)


def test_a_body_that_could_still_change_is_refused():
    process, link = upstream_alone()
    fd = os.memfd_create("body", os.MFD_ALLOW_SEALING)
    fields, _ = link.call(M["UP_REQUEST"], request_body(), [fd])
    assert chr(fields.u8()) == "E"
    assert fields.u32() != 0 and "sealed" in fields.str()
    os.close(fd)
    assert process.stop()[0] == 0


@pytest.mark.parametrize("body", [
    request_body(path="/v1/files"), request_body(path="/v1/messages?x"), request_body(method="DELETE"),
    request_body(ctype="a\r\nx-evil: 1"), request_body(path="/v1/messages/../x")])
def test_a_request_that_the_model_proxy_would_never_send_cuts_its_link(body):
    process, link = upstream_alone()
    fd = os.memfd_create("body", os.MFD_ALLOW_SEALING)
    link.start(M["UP_REQUEST"], body, [fd])
    with pytest.raises((ConnectionError, Closed)):
        link.recv(5)
    os.close(fd)
    assert process.stop()[0] == 0
