"""What ironclaw-api promises about single requests, with a scripted vault behind it."""
import concurrent.futures
import json
import os
import ssl
import sys
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from api_harness import Api, eventually, reset  # noqa: E402


@pytest.fixture()
def api():
    with Api() as running:
        yield running


def error(answer):
    status, _, body = answer
    return status, json.loads(body)["error"]["code"]


def test_a_request_reaches_the_vault_with_its_token_subject_and_parameters(api):
    status, headers, body = api.request("GET", "/v1/sessions/s-1/messages?after=7&limit=3&wait=2", token="abc-DEF_1")
    call = api.vault.calls[0]
    assert (status, body, call.op) == (200, b"{}", "API_MESSAGE_LIST")
    assert (call.token, call.subject, call.after, call.limit, call.wait_ms) == ("abc-DEF_1", "s-1", 7, 3, 2000)
    assert headers["content-type"] == "application/json"


def test_a_body_arrives_byte_for_byte(api):
    body = '{"text": "\\u00e4 ä \\n", "idempotency_key":"k"}'.encode()
    api.request("POST", "/v1/sessions/s-1/messages", body)
    assert api.vault.calls[0].body == body


def test_a_message_of_the_largest_size_passes(api):
    body = json.dumps({"text": "x" * (256 * 1024)}).encode()
    status, _, _ = api.request("POST", "/v1/sessions/s-1/messages", body)
    assert status == 200 and api.vault.calls[0].body == body


def test_every_answer_has_the_security_headers(api):
    for path in ("/healthz", "/v1/agents", "/nowhere"):
        headers = api.request("GET", path)[1]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers


def test_the_vaults_status_is_the_answer():
    with Api(lambda call: (403, {"error": {"code": "forbidden", "message": "no"}})) as api:
        assert error(api.request("GET", "/v1/agents")) == (403, "forbidden")
    with Api(lambda call: (401, {"error": {"code": "bad_token", "message": "no"}})) as api:
        assert api.request("GET", "/v1/agents")[1]["www-authenticate"].startswith("Bearer")
    with Api(lambda call: (204, None)) as api:
        status, _, body = api.request("DELETE", "/v1/tokens/t-1")
        assert (status, body) == (204, b"")


def test_without_a_token_the_vault_is_asked_without_one(api):
    api.request("GET", "/v1/agents", token=None)
    assert api.vault.calls[0].token == ""


@pytest.mark.parametrize("value", ["", "Basic YTpi", "Bearer", "Bearer ", "Bearer a b", "Bearer " + "x" * 200, "Bearer a\x80b"])
def test_a_malformed_authorization_is_401_and_never_reaches_the_vault(api, value):
    out = api.raw(b"GET /v1/agents HTTP/1.1\r\nHost: x\r\nAuthorization: " + value.encode("latin-1") + b"\r\n\r\n")
    assert b" 401 " in out.split(b"\r\n")[0] and not api.vault.calls


def test_unknown_paths_are_404_and_known_ones_list_their_methods(api):
    for path in ("/", "/v1", "/v1/", "/v1/agents/", "/v1/nothing", "/v1/agents/a/b", "//v1/agents", "/v1/agents/A", "/v1/agents/..",
                 "/v1/agents/" + "a" * 64, "/v1/agents/%61", "/v1%2fagents"):
        assert error(api.request("GET", path)) == (404, "not_found"), path
    status, headers, _ = api.request("PUT", "/v1/agents")
    assert status == 405 and headers["allow"] == "GET, POST"
    status, headers, _ = api.request("DELETE", "/v1/agents/a/stop")
    assert status == 404
    assert not api.vault.calls


@pytest.mark.parametrize("query", ["x=1", "after=1&after=2", "after=-1", "after=+1", "after=", "after", "after=1e3", "after=0x1",
                                   "after=99999999999999999999", "limit=0", "limit=1001", "wait=61", "agent=a", "after=%31"])
def test_a_query_is_read_strictly(api, query):
    assert error(api.request("GET", "/v1/sessions/s-1/messages?" + query)) == (400, "bad_parameter")
    assert not api.vault.calls


@pytest.mark.parametrize("body", [b"{", b"[]", b"1", b"null", b"{}{}", b'{"a":1,"a":2}', b"\xff", b"{\"a\":\"\xff\"}", b"[" * 100000,
                                  b'{"a":NaN}'])
def test_a_body_that_is_not_one_json_object_is_400(api, body):
    assert error(api.request("POST", "/v1/agents", body)) == (400, "bad_json")
    assert not api.vault.calls


def test_a_body_needs_the_json_content_type(api):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx", "application/json2; a=b", ""):
        answer = api.request("POST", "/v1/agents", b"{}", {"Content-Type": kind})
        assert error(answer) == (415, "unsupported_media_type"), kind
    assert api.request("POST", "/v1/agents", b"{}", {"Content-Type": "application/json; charset=utf-8"})[0] == 200


def test_a_body_where_none_belongs_and_none_where_one_belongs_are_400(api):
    assert error(api.request("GET", "/v1/agents", b"{}")) == (400, "no_body_allowed")
    assert error(api.request("POST", "/v1/agents")) == (400, "body_required")
    assert api.request("POST", "/v1/changes/c-1/approve")[0] == 200
    assert api.request("POST", "/v1/changes/c-1/approve", {"comment": "x"})[0] == 200


def test_a_body_over_the_limit_is_413_without_being_read(api):
    out = api.raw(b"POST /v1/agents HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 327681\r\n\r\n")
    assert b" 413 " in out.split(b"\r\n")[0] and b"body_too_large" in out
    out = api.raw(b"POST /v1/agents HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999999999999999\r\n\r\n")
    assert out.split(b"\r\n")[0].split()[1] in (b"400", b"413")
    assert not api.vault.calls


def test_headers_over_the_limit_are_refused(api):
    out = api.raw(b"GET /v1/agents HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40000 + b"\r\n\r\n")
    assert out.split(b" ")[1] in (b"413", b"431", b"400") and not api.vault.calls
    out = api.raw(b"GET /" + b"a" * 40000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert out == b"" or out.split(b" ")[1] in (b"414", b"400", b"431")
    assert api.request("GET", "/healthz")[0] == 200


SMUGGLED = b"GET /v1/tokens HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("head", [
    b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}",
    b"Content-Length: 2, 2\r\n\r\n{}",
    b"Content-Length: +2\r\n\r\n{}",
    b"Content-Length: -2\r\n\r\n{}",
    b"Content-Length: 0x2\r\n\r\n{}",
    b"Content-Length: 2 2\r\n\r\n{}",
    b"Content-Length : 2\r\n\r\n{}",
    b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"Transfer-Encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked, identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"Transfer-Encoding\x00: chunked\r\nContent-Length: 2\r\n\r\n{}",
    b" Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}",
    b"Transfer_Encoding : chunked\r\nContent-Length: 2\r\n\r\n{}",
    b"Host: y\r\nContent-Length: 2\r\n\r\n{}",
])
def test_what_two_parsers_could_frame_differently_ends_the_connection(api, head):
    out = api.raw(b"POST /v1/agents HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + head + SMUGGLED)
    assert not [call.op for call in api.vault.calls if call.op == "API_TOKEN_LIST"], "the smuggled request was served"
    assert api.closed and b"HTTP/1.1 2" not in out
    if out:
        assert out.split(b" ")[1] in (b"400", b"411"), out
    assert not api.vault.calls


def test_pipelined_requests_are_answered_in_order():
    with Api(lambda call: (200, {"subject": call.subject})) as api:
        many = b"".join(b"GET /v1/agents/a%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(20))
        out = api.raw(many)
        found = [part.split(b'"')[0] for part in out.split(b'"subject": "')[1:]]
        assert found == [b"a%d" % i for i in range(20)]


def test_a_client_that_sends_too_slowly_is_cut_off_and_the_others_are_served():
    with Api(config={"api": {"body_timeout_s": 1}}) as api:
        slow = [api.connect() for _ in range(3)]
        slow[0].sendall(b"GET /v1/ag")
        slow[1].sendall(b"POST /v1/agents HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        deadline = time.monotonic() + 15
        open_ones = set(slow)
        while open_ones and time.monotonic() < deadline:
            assert api.request("GET", "/v1/agents")[0] == 200
            for sock in list(open_ones):
                sock.settimeout(0.05)
                try:
                    sock.sendall(b"x")  # a byte now and then does not help
                    if sock.recv(1) == b"":
                        open_ones.discard(sock)
                except TimeoutError:
                    pass
                except OSError:
                    open_ones.discard(sock)
        for sock in slow:
            sock.close()
        assert not open_ones, "a slow client kept its connection"
        assert all(call.op == "API_AGENT_LIST" for call in api.vault.calls)


def test_two_hundred_parallel_connections_are_all_answered():
    with Api(lambda call: (200, {"subject": call.subject})) as api:
        with concurrent.futures.ThreadPoolExecutor(200) as pool:
            answers = list(pool.map(lambda i: api.request("GET", "/v1/agents/a%d" % i, timeout=30), range(200)))
        assert [json.loads(body)["subject"] for _, _, body in answers] == ["a%d" % i for i in range(200)]


def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind():
    with Api(lambda call: None if call.wait_ms else (200, {})) as api:
        fds = lambda: len(os.listdir("/proc/%d/fd" % api.process.proc.pid))  # noqa: E731
        assert api.request("GET", "/healthz")[0] == 200
        eventually(lambda: fds() > 0)
        before = fds()
        for i in range(30):
            sock = api.connect()
            sock.sendall([b"GET /v1/sessions/s-1/messages?wait=60 HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /v1/agents HTTP/1.1\r\nHo",
                          b"POST /v1/agents HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"][i % 3])
            if i % 3 == 0:
                eventually(lambda: len(api.vault.calls) > i // 3)
            (reset if i % 2 else lambda c: c.close())(sock)
        eventually(lambda: fds() <= before)


def test_the_rate_limit_answers_429_and_says_when_to_come_back():
    def script(call):
        return (200, {}) if call.token == "good" else (401, {"error": {"code": "bad_token", "message": "no"}})

    with Api(script, config={"api": {"rate_per_minute": 5}}) as api:
        assert api.request("GET", "/v1/agents", token="good")[0] == 200  # the vault accepted it: its own bucket from now on
        statuses = [api.request("GET", "/v1/agents", token="bad%d" % i)[0] for i in range(8)]
        assert statuses[:4] == [401] * 4 and statuses[4:] == [429] * 4, "guessed tokens share the peer's budget"
        statuses = [api.request("GET", "/v1/agents", token="good")[0] for _ in range(7)]
        assert statuses == [200] * 5 + [429] * 2
        status, headers, _ = api.request("GET", "/v1/agents", token="good")
        assert status == 429 and 1 <= int(headers["retry-after"]) <= 60


def test_health_is_ours_and_readiness_is_the_vaults():
    ready = {"value": False}
    with Api(lambda call: (200, {"ready": ready["value"], "bootstrapped": True}), vault=False) as api:
        assert api.request("GET", "/healthz", token=None)[0] == 200
        assert api.request("GET", "/readyz", token=None)[0] == 503
        assert error(api.request("GET", "/v1/agents")) == (503, "vault_unavailable")
        api.start_vault()
        eventually(lambda: json.loads(api.request("GET", "/readyz", token=None)[2]).get("bootstrapped"))
        assert api.request("GET", "/readyz", token=None)[0] == 503
        ready["value"] = True
        assert api.request("GET", "/readyz", token=None)[0] == 200


def test_metrics_are_plain_text():
    with Api(lambda call: (200, {"text": "ironclaw_sessions 3\n"})) as api:
        status, headers, body = api.request("GET", "/metrics")
        assert status == 200 and headers["content-type"].startswith("text/plain")
        assert b"ironclaw_sessions 3\n" in body and b"ironclaw_api_requests_total " in body
        assert api.vault.calls[0].op == "API_METRICS" and api.vault.calls[0].token == "t0ken"


def test_a_request_in_flight_when_the_vault_dies_is_503_and_the_next_vault_is_used():
    with Api(lambda call: None) as api:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(api.request, "POST", "/v1/sessions/s-1/messages", {"text": "x", "idempotency_key": "k"}) for _ in range(8)]
            eventually(lambda: len(api.vault.calls) == 8)
            api.vault.die()
            for answer in waiting:
                status, headers, body = answer.result()
                assert (status, json.loads(body)["error"]["code"]) == (503, "vault_restarted")
                assert "idempotency_key" in json.loads(body)["error"]["message"] and headers["retry-after"] == "1"
        api.start_vault(lambda call: (201, {"seq": 1}))
        eventually(lambda: api.request("POST", "/v1/sessions/s-1/messages", {"text": "x"})[0] == 201)


def test_a_vault_that_answers_nonsense_gives_502():
    with Api(lambda call: (77, {})) as api:
        assert error(api.request("GET", "/v1/agents")) == (502, "bad_reply")


def test_a_stop_answers_what_is_waiting():
    with Api(lambda call: None) as api:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(api.request, "GET", "/v1/agents")
            api.vault.wait_for("API_AGENT_LIST")
            api.stop()
            assert waiting.result()[0] == 503


def test_tcp_speaks_tls_only_and_needs_a_token_like_everywhere():
    import http.client
    import socket

    def script(call):
        return (200, {"agents": []}) if call.token == "good" else (401, {"error": {"code": "bad_token", "message": "no"}})

    with Api(script, tls=True) as api:
        context = ssl.create_default_context(cafile=api.cert)
        for token, status in ((None, 401), ("bad", 401), ("good", 200)):
            connection = http.client.HTTPSConnection("localhost", api.port, context=context, timeout=15)
            connection.request("GET", "/v1/agents", headers={"Authorization": "Bearer " + token} if token else {})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == status
            assert answer.getheader("Strict-Transport-Security")
            connection.close()
        with socket.create_connection(("127.0.0.1", api.port), timeout=15) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            plain.settimeout(15)
            try:
                assert b"alive" not in plain.recv(4096)
            except ConnectionResetError:
                pass
