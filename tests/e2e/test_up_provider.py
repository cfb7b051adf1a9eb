"""A real provider through the whole plane: agent, model port, TLS, streaming; and where its key is never seen."""
import json
import os
import threading
import re
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, "../lib"))
from plane import Plane, UnixConnection, all_pids, until  # noqa: E402
from test_model_upstream import Provider, ca, chunk, reply, stream_head  # noqa: E402, F401

KEY = "sk-ant-test-9876543210/zyxwvutsrqponmlkjihgfedcba"
FIRST_SEEN = threading.Event()


def event(c, kind, **data):
    chunk(c, "event: %s\ndata: %s\n\n" % (kind, json.dumps({"type": kind, **data})))


def play(c, request):
    """Anthropic, as far as the agent needs it: checks the key, streams the answer in pieces."""
    if request["headers"].get("x-api-key") != [KEY]:
        return reply(c, json.dumps({"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}), "401 Unauthorized")
    asked = json.loads(request["body"])["messages"][-1]["content"]
    asked = asked if isinstance(asked, str) else asked[-1].get("text", "")
    stream_head(c)
    event(c, "message_start", message={"id": "m", "type": "message", "role": "assistant", "content": [], "model": "m", "usage": {"input_tokens": 9, "output_tokens": 1}})
    event(c, "content_block_start", index=0, content_block={"type": "text", "text": ""})
    if "leak" in asked:
        data = b"event: content_block_delta\ndata: " + json.dumps({"type": "content_block_delta", "index": 0,
                                                                 "delta": {"type": "text_delta", "text": "it is %s!" % KEY}}).encode() + b"\n\n"
        for at in range(0, len(data), 7):
            chunk(c, data[at:at + 7])
    pieces = [] if "leak" in asked else ["real ", "pieces ", "for: ", asked]
    for i, piece in enumerate(pieces):
        if i == 1 and asked == "tell me":
            FIRST_SEEN.wait(20)  # the second piece exists only once the first was seen at the far end
        event(c, "content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    event(c, "content_block_stop", index=0)
    event(c, "message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 7})
    event(c, "message_stop")
    c.sendall(b"0\r\n\r\n")


@pytest.fixture(scope="module")
def plane(ca):  # noqa: F811
    provider = Provider(ca)
    provider.behave = play
    with Plane(config={"providers": {"anthropic": {"kind": "anthropic", "url": provider.url}}, "provider_ca_file": str(ca / "ca.pem")}) as p:
        p.provider = provider
        p.agent("coder", tools=["shell"], provider="anthropic", model="claude-test")
        p.key_file = os.path.join(p.home, "key")
        yield p


def set_key(plane, key):
    with open(plane.key_file, "w") as f:
        f.write(key + "\n")
    plane.cli("provider", "set", "anthropic", "--key-file", plane.key_file)
    os.unlink(plane.key_file)


@pytest.fixture(scope="module")
def session(plane):
    return plane.session("coder")


def test_without_a_key_the_agent_says_so(plane, session):
    answer = plane.ask(session, "hello")
    assert "cannot answer" in answer and "key" in answer and "anthropic" in answer, answer
    assert plane.provider.requests == [], "nothing is sent without one"


def test_a_wrong_key_gives_a_clear_notice_and_the_right_one_works_at_once(plane, session):
    set_key(plane, "sk-ant-wrong-000000000000000000")
    answer = plane.ask(session, "hello")
    assert "cannot answer" in answer and "401" in answer and "invalid x-api-key" in answer and "sk-ant" not in answer, answer
    set_key(plane, KEY)
    assert plane.ask(session, "hello") == "real pieces for: hello"


def test_the_answer_streams_to_whoever_watches(plane, session):
    connection = UnixConnection(os.path.join(plane.state, "api.sock"), 30)
    connection.request("GET", "/v1/sessions/%s/stream" % session, headers={"Authorization": "Bearer " + plane.token})
    answer = connection.getresponse()
    plane.send(session, "tell me")
    deltas, event_ = [], None
    while True:
        line = answer.readline().decode()
        assert line
        if line.startswith("event: "):
            event_ = line[7:].strip()
        elif line.startswith("data: ") and event_ == "delta":
            deltas.append(json.loads(line[6:])["text"])
            FIRST_SEEN.set()
        elif line.startswith("data: ") and event_ == "message" and "tell me" in line:
            break
    assert len(deltas) >= 2 and "".join(deltas) == "real pieces for: tell me"
    connection.close()
    assert "real pieces for: chat" in plane.cli("chat", "coder", "chat", "--session", session)


def test_tokens_are_counted_and_each_call_is_in_the_audit_log(plane, session):
    plane.ask(session, "count me")
    records = plane.json("GET", "/v1/audit?limit=1000")["records"]
    calls = [r for r in records if "model.call" in r.values()]
    assert calls and '"outcome":"ok"' in json.dumps(calls[-1], separators=(",", ":")) and '"anthropic"' in json.dumps(calls[-1])


def holders(needle):
    """Processes that show the needle in their arguments or environment."""
    found = []
    for pid in all_pids():
        for name in ("cmdline", "environ"):
            try:
                with open("/proc/%d/%s" % (pid, name), "rb") as f:
                    if needle in f.read():
                        found.append((pid, name))
            except OSError:
                pass
    return found


def memory_has(pid, needle):
    with open("/proc/%d/maps" % pid) as maps, open("/proc/%d/mem" % pid, "rb", 0) as mem:
        for line in maps:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) (r\S+) .*?(\[v\w+\])?$", line)
            if not m or m.group(4) or int(m.group(2), 16) - int(m.group(1), 16) > 1 << 30:  # reserved, not memory
                continue
            try:
                mem.seek(int(m.group(1), 16))
                if needle in mem.read(int(m.group(2), 16) - int(m.group(1), 16)):
                    return True
            except (OSError, ValueError):
                pass
    return False


def test_the_key_is_nowhere_but_in_the_process_that_uses_it(plane, session):
    needle = KEY.encode()
    plane.ask(session, "use the key once more")
    assert holders(needle) == []
    assert KEY not in plane.log()
    files = 0
    for directory, _, names in os.walk(plane.home):
        for name in names:
            path = os.path.join(directory, name)
            if os.path.isfile(path):
                files += 1
                with open(path, "rb") as f:
                    assert needle not in f.read(), path
    assert files > 5
    daemons = plane.daemons()
    assert memory_has(daemons["upstream"], needle), "the search works: this one has it"
    for name in ("api", "modelproxy", "launcher"):
        assert not memory_has(daemons[name], needle), name
    assert not memory_has(plane.up.pid, needle)
    sandboxes = plane.sandboxes()
    looked_at = 0
    for pid in sandboxes:
        try:
            assert not memory_has(pid, needle), pid
            looked_at += 1
        except FileNotFoundError:  # a command of the agent's that has just ended
            pass
    assert looked_at >= 2
    placeholder = plane.ask(session, "hello")
    assert KEY not in placeholder
    for name, pid in daemons.items():
        with open("/proc/%d/limits" % pid) as f:
            assert re.search(r"Max core file size +0 +0", f.read()), name
        assert os.stat("/proc/%d/mem" % pid).st_uid == 0 and plane.uid_base, "not dumpable: its /proc belongs to root"


def test_a_provider_that_repeats_the_key_does_not_get_it_to_the_agent(plane, session):
    answer = plane.ask(session, "leak it")
    assert KEY not in answer and KEY[-12:] not in answer and answer
    assert KEY not in json.dumps(plane.history(session))


def test_the_agent_finds_a_placeholder_only(plane):
    plane.agent("looker", tools=["shell"])
    session = plane.session("looker")
    seen = plane.ask(session, "run: env; cat /proc/1/environ /proc/*/cmdline 2>/dev/null | tr '\\000' ' '; grep -rs sk-an[t] / --exclude-dir=proc --exclude-dir=sys")
    assert "ANTHROPIC_API_KEY=ironclaw" in seen and "sk-ant" not in seen


def test_a_removed_key_is_used_no_more(plane, session):
    plane.json("DELETE", "/v1/providers/anthropic", expect=204)
    before = len(plane.provider.requests)
    answer = plane.ask(session, "hello")
    assert "cannot answer" in answer and len(plane.provider.requests) == before
    set_key(plane, KEY)
    until("it works again", lambda: plane.ask(session, "hello") == "real pieces for: hello")
