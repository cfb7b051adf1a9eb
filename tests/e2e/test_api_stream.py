"""Server-sent events: sent as they happen, ended cleanly, never left behind."""
import json
import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from api_harness import Api, UnixConnection, eventually  # noqa: E402


class Stream:
    """Reads one event stream."""

    def __init__(self, api, path="/v1/sessions/s-1/stream", headers=None):
        self.connection = UnixConnection(api.path, 20)
        self.connection.request("GET", path, headers={"Authorization": "Bearer t", **(headers or {})})
        self.answer = self.connection.getresponse()

    def event(self):
        """The next event as a dict of its lines, comments left out; None at the end."""
        lines = {}
        while True:
            line = self.answer.readline()
            if not line:
                return None
            line = line.decode().rstrip("\n")
            if not line and lines:
                return lines
            if line and not line.startswith(":"):
                key, _, value = line.partition(": ")
                lines[key] = value

    def close(self):
        self.connection.close()
        self.answer.close()


@pytest.fixture()
def api():
    with Api(lambda call: None if call.op == "API_SESSION_STREAM" else (200, {})) as running:
        yield running


def test_events_arrive_as_they_happen_and_messages_are_numbered(api):
    stream = Stream(api, "/v1/sessions/s-1/stream?after=4")
    assert stream.answer.status == 200 and stream.answer.getheader("Content-Type") == "text/event-stream"
    call = api.vault.wait_for("API_SESSION_STREAM")
    assert (call.subject, call.after, call.token) == ("s-1", 4, "t")
    api.vault.event(call, "delta", {"text": "He"})
    assert stream.event() == {"event": "delta", "data": '{"text":"He"}'}
    text = "line\nline\r\n\ndata: x"
    api.vault.event(call, "message", {"seq": 5, "kind": "message", "text": text, "time": 1})
    got = stream.event()
    assert (got["event"], got["id"], json.loads(got["data"])["text"]) == ("message", "5", text)
    stream.close()


def test_a_large_message_passes_in_pieces(api):
    stream = Stream(api)
    call = api.vault.wait_for("API_SESSION_STREAM")
    api.vault.event(call, "message", {"seq": 1, "kind": "message", "text": "x" * 250000, "time": 1})
    assert len(json.loads(stream.event()["data"])["text"]) == 250000
    stream.close()


def test_last_event_id_continues_after_a_message(api):
    stream = Stream(api, headers={"Last-Event-ID": "41"})
    assert api.vault.wait_for("API_SESSION_STREAM").after == 41
    stream.close()


def test_an_error_before_the_first_event_is_an_ordinary_answer():
    with Api(lambda call: (404, {"error": {"code": "not_found", "message": "no such session"}})) as api:
        status, headers, body = api.request("GET", "/v1/sessions/s-9/stream")
        assert status == 404 and json.loads(body)["error"]["code"] == "not_found"


def test_the_end_of_the_session_ends_the_stream(api):
    stream = Stream(api)
    call = api.vault.wait_for("API_SESSION_STREAM")
    api.vault.event(call, "state", {"state": "removed"}, more=False)
    assert stream.event()["event"] == "state"
    assert stream.event() is None


def test_a_vault_that_dies_ends_the_stream_with_a_reason(api):
    stream = Stream(api)
    api.vault.wait_for("API_SESSION_STREAM")
    api.vault.die()
    got = stream.event()
    assert got["event"] == "error" and json.loads(got["data"])["code"] == "vault_restarted"
    assert stream.event() is None


def test_a_client_that_leaves_is_told_to_the_vault_at_once(api):
    stream = Stream(api)
    call = api.vault.wait_for("API_SESSION_STREAM")
    stream.close()
    assert api.vault.wait_for("API_STREAM_CANCEL").subject == str(call.ident)


def test_a_client_that_does_not_read_is_cut_off_and_the_vault_told(api):
    sock = api.connect()
    sock.sendall(b"GET /v1/sessions/s-1/stream HTTP/1.1\r\nHost: x\r\n\r\n")
    call = api.vault.wait_for("API_SESSION_STREAM")
    for _ in range(12):
        api.vault.event(call, "delta", {"text": "x" * 200000})
    sock.settimeout(15)
    total = 0
    while chunk := sock.recv(65536):
        total += len(chunk)
    sock.close()
    assert total < 12 * 200000, "everything was kept for it"
    api.vault.wait_for("API_STREAM_CANCEL")


def test_streams_never_take_every_connection():
    with Api(lambda call: None if call.op == "API_SESSION_STREAM" else (200, {}), config={"api": {"max_connections": 8}}) as api:
        streams = [Stream(api) for _ in range(4)]
        assert [s.answer.status for s in streams] == [200] * 4
        status, headers, body = api.request("GET", "/v1/sessions/s-1/stream")
        assert status == 503 and json.loads(body)["error"]["code"] == "too_many_streams"
        assert api.request("GET", "/v1/agents")[0] == 200
        for s in streams:
            s.close()
        eventually(lambda: api.request("GET", "/metrics")[0] == 200 and len([c for c in api.vault.calls if c.op == "API_STREAM_CANCEL"]) == 4)


def test_opened_and_closed_two_hundred_times_leaves_no_descriptor(api):
    fds = lambda: len(os.listdir("/proc/%d/fd" % api.process.proc.pid))  # noqa: E731
    Stream(api).close()
    eventually(lambda: len(api.vault.calls) == 2)
    before = fds()
    for _ in range(200):
        sock = api.connect()
        sock.sendall(b"GET /v1/sessions/s-1/stream HTTP/1.1\r\nHost: x\r\n\r\n")
        sock.close()
    eventually(lambda: fds() <= before)
