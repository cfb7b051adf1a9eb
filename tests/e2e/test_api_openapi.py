"""The OpenAPI document that the running binary serves, against what the running binary does."""
import json
import os
import re
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../lib"))
from api_harness import Api, M  # noqa: E402
from openapi_check import Spec  # noqa: E402

NOW = 1700000000000
CHANGE = {"id": "c-1", "kind": "tools", "agent": "coder", "state": "pending", "submitted_by": "t-1", "submitted_at": NOW, "reason": "r",
          "verdicts": [{"verifier": "schema", "ok": True, "reason": ""}], "decided_by": None, "decided_at": None, "comment": None, "error": None,
          "document": {"tools": ["shell"]}, "diff": "+shell\n"}
AGENT = {"name": "coder", "tenant": "default", "image": "base", "wall": "container", "command": ["/usr/bin/ironclaw-agent"],
         "instructions": "", "tools": ["shell"], "env": [], "limits": {"memory": 268435456, "cpus": 1.0, "pids": 64},
         "provider": "mock", "model": "", "model_limits": {"requests_per_minute": 60, "concurrency": 4, "token_budget": 0},
         "mounts": [], "peers": [], "revision": 1}
SESSION = {"id": "s-1", "agent": "coder", "state": "running", "created": NOW, "wall": "container", "restarts": 1, "last_exit": {"code": 137, "reason": "oom"}, "reason": ""}
TOKEN = {"id": "t-1", "name": "x", "scope": "read", "created": NOW, "expires": None, "revoked": None}
MESSAGE = {"seq": 1, "kind": "message", "text": "hi", "time": NOW}

# What a correct vault answers, by operation.
ANSWERS = {
    "API_BOOTSTRAP": (201, {"id": "t-1", "token": "secret", "name": "x", "scope": "admin", "created": NOW, "expires": None, "revoked": None}),
    "API_WHOAMI": (200, {"id": "t-1", "name": "x", "scope": "admin"}),
    "API_READY": (200, {"ready": True, "bootstrapped": True}),
    "API_METRICS": (200, {"text": "x 1\n"}),
    "API_TOKEN_LIST": (200, {"tokens": [TOKEN]}),
    "API_TOKEN_CREATE": (201, {**TOKEN, "token": "secret"}),
    "API_TOKEN_REVOKE": (204, None),
    "API_AGENT_LIST": (200, {"agents": [AGENT]}),
    "API_AGENT_GET": (200, AGENT),
    "API_AGENT_CREATE": (202, CHANGE), "API_AGENT_UPDATE": (202, CHANGE), "API_AGENT_REMOVE": (202, CHANGE),
    "API_SESSION_LIST": (200, {"sessions": [SESSION]}),
    "API_SESSION_GET": (200, SESSION), "API_SESSION_STOP": (200, SESSION), "API_SESSION_CREATE": (201, SESSION),
    "API_SESSION_REMOVE": (204, None),
    "API_SESSION_LOGS": (200, {"text": "log"}),
    "API_SESSION_STATS": (200, {"memory_bytes": 1, "cpu_us": 2, "pids": 3}),
    "API_MESSAGE_SEND": (201, {"seq": 1}),
    "API_MESSAGE_LIST": (200, {"messages": [MESSAGE], "last": 1}),
    "API_HISTORY": (200, {"records": [{**MESSAGE, "direction": "out"}]}),
    "API_SESSION_STREAM": (200, {"event": "message", "data": MESSAGE}),
    "API_CHANGE_LIST": (200, {"changes": [CHANGE]}),
    "API_CHANGE_GET": (200, CHANGE), "API_CHANGE_SUBMIT": (202, CHANGE), "API_CHANGE_APPROVE": (200, CHANGE), "API_CHANGE_REJECT": (200, CHANGE),
    "API_AUDIT_LIST": (200, {"records": [{"event": "x"}]}),
    "API_AUDIT_KEY": (200, {"public_key": "00" * 32}),
    "API_REPORT_SIGN": (200, {"public_key": "00" * 32, "signature": "00" * 64}),
    "API_SEALING_KEY": (200, {"public_key": "A" * 43 + "="}),
    "API_PROVIDER_LIST": (200, {"providers": [{"name": "mock", "kind": "mock", "url": "", "has_key": False}]}),
    "API_PROVIDER_SET": (204, None), "API_PROVIDER_REMOVE": (204, None),
    "API_EVENT_LIST": (200, {"events": [{"seq": 1, "time_ms": NOW, "type": "auth.denied", "session": "", "agent": "", "wall": "", "count": 1,
                                         "detail": {"reason": "unknown", "token": ""}}], "last": 1}),
    "API_IMAGE_LIST": (200, {"images": [{"name": "base", "bytes": 1}]}),
}
BODIES = {
    "/v1/bootstrap": {"token": "t", "name": "n"}, "/v1/tokens": {"name": "n", "scope": "read"}, "/v1/agents": {"name": "coder"},
    "/v1/agents/{name}": {"tools": ["shell"]}, "/v1/sessions": {"agent": "coder"},
    "/v1/sessions/{id}/messages": {"text": "hi", "idempotency_key": "k"},
    "/v1/changes": {"kind": "tools", "agent": "coder", "document": {"tools": []}, "reason": "r"},
    "/v1/changes/{id}/approve": {"comment": "c"}, "/v1/changes/{id}/reject": {"comment": "c"}, "/v1/providers/{name}": {"sealed_key": "AAAA"},
    "/v1/reports/sign": {"digest": "00" * 32},
}


@pytest.fixture(scope="module")
def api():
    with Api(lambda call: ANSWERS[call.op]) as running:
        yield running


@pytest.fixture(scope="module")
def spec(api):
    status, headers, body = api.request("GET", "/v1/openapi.json", token=None)
    assert status == 200 and headers["content-type"] == "application/json"
    return Spec(json.loads(body))


def target(path):
    return re.sub(r"\{\w+\}", "x-1", path)


def routes():
    """The route table of the source: (method, path, operation, flags)."""
    text = open(os.path.join(HERE, "../../src/api/routes.c")).read()
    return re.findall(r'\{"([A-Z]+)",\s+"([^"]+)",\s+(\w+),\s+([^,]+), ', text)


def test_the_document_and_the_route_table_name_the_same_operations(spec):
    assert {(method, path) for method, path, _, _ in routes()} == set(spec.operations)


def test_every_operation_of_the_vault_has_a_route():
    internal = {"API_STREAM_CANCEL", "API_LAST"}
    wanted = {name for name, number in M.items() if name.startswith("API_") and 100 <= number <= M["API_LAST"]} - internal
    assert wanted == {op for _, _, op, _ in routes() if op.startswith("API_")}


def test_every_answer_of_a_correct_vault_is_as_documented(api, spec):
    for method, path in spec.operations:
        body = BODIES.get(path) if "requestBody" in spec.operations[(method, path)][1] else None
        if body is not None:
            spec.check_request(method, target(path), body)
        status, headers, text = api.request(method, target(path), body)
        assert status < 300, (method, path, status, text)
        spec.check(method, target(path), status, headers, text)
    assert spec.untouched() == []


def test_every_documented_operation_exists_and_its_siblings_are_405(api, spec):
    for path in {path for _, path in spec.operations}:
        allowed = {method for method, p in spec.operations if p == path}
        for method in {"GET", "PUT", "POST", "DELETE", "PATCH"} - allowed:
            status, headers, text = api.request(method, target(path))
            assert status == 405, (method, path)
            # /v1/changes/pending shares its place with /v1/changes/{id}, and wins.
            assert set(headers["allow"].split(", ")) == allowed


def test_exactly_the_documented_query_parameters_are_taken(api, spec):
    values = {"after": "1", "limit": "1", "wait": "0", "agent": "coder"}
    for (method, path), (_, operation) in spec.operations.items():
        documented = spec.parameters((method, path))
        body = BODIES.get(path) if "requestBody" in operation else None
        for name, value in values.items():
            status, headers, text = api.request(method, "%s?%s=%s" % (target(path), name, value), body)
            assert (status < 300) == (name in documented), (method, path, name, status)
            if status >= 400:
                assert status == 400


def test_a_token_is_forwarded_except_where_the_document_says_public(api, spec):
    ours = {"/healthz", "/v1/openapi.json"}
    for method, path in spec.operations:
        if path in ours:
            assert spec.public((method, path))
            continue
        body = BODIES.get(path) if "requestBody" in spec.operations[(method, path)][1] else None
        before = len(api.vault.calls)
        api.request(method, target(path), body, token="sEcret")
        calls = [c for c in api.vault.calls[before:] if c.op != "API_STREAM_CANCEL"]
        assert [c.token for c in calls] == ["" if spec.public((method, path)) else "sEcret"], path


def test_errors_are_error_objects(api, spec):
    for method, path, body, headers in (("GET", "/v1/agents?x=1", None, None), ("POST", "/v1/agents", b"{", None), ("GET", "/v1/agents/A", None, None),
                                        ("POST", "/v1/agents", b"{}", {"Content-Type": "text/plain"}), ("GET", "/v1/agents", None, {"Authorization": "x"})):
        status, got, text = api.request(method, path, body, headers)
        assert status >= 400
        spec.check(method, path, status, got, text)


def test_a_wrong_answer_would_be_noticed(spec):
    good = json.dumps({"agents": [AGENT]}).encode()
    kind = {"content-type": "application/json"}
    spec.check("GET", "/v1/agents", 200, kind, good)
    for status, headers, body in ((418, kind, good), (200, {"content-type": "text/html"}, good), (200, kind, b"{}"),
                                  (200, kind, json.dumps({"agents": [{**AGENT, "extra": 1}]}).encode())):
        with pytest.raises(AssertionError):
            spec.check("GET", "/v1/agents", status, headers, body)
    with pytest.raises(AssertionError):
        spec.check_request("POST", "/v1/agents", {"nome": "x"})
