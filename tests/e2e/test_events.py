"""The event stream: each type really provoked, its shape, its delivery, and what happens when somebody does not read."""
import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading

import jsonschema
import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.realpath(os.path.join(HERE, "../.."))
sys.path.insert(0, os.path.join(HERE, "../lib"))
from plane import Plane, UnixConnection, until  # noqa: E402

SPEC = json.load(open(os.path.join(ROOT, "api/openapi.json")))
# The wall whose filter reports what it refuses.
AGENT_TOOLS = {"wall": "container", "tools": ["shell"], "limits": {"memory": 48 << 20, "cpus": 1.0, "pids": 24}}


def check(event):
    """An event is as the OpenAPI document says."""
    resolver = jsonschema.RefResolver("", SPEC)
    errors = list(jsonschema.Draft202012Validator(SPEC["components"]["schemas"]["Event"], resolver=resolver).iter_errors(event))
    assert not errors, (errors[0].message, event)
    return event


def listed(plane, session=None, after=0):
    events = []
    while True:
        page = plane.json("GET", "/v1/events?after=%d&limit=1000%s" % (after, "&session=" + session if session else ""))
        if not page["events"]:
            return events
        events += [check(e) for e in page["events"]]
        assert page["last"] >= page["events"][-1]["seq"]
        after = page["last"]


def expect(plane, kind, session=None, timeout=30, **detail):
    """Waits for an event of a type whose detail holds these members."""
    def find():
        return [e for e in listed(plane, session) if e["type"] == kind and detail.items() <= e["detail"].items()]
    return until("%s %s" % (kind, detail), find, timeout)[0]


def metric(plane, name):
    text = plane.http("GET", "/metrics")[2].decode()
    return int(re.search(r"^%s (\d+)$" % re.escape(name), text, re.M).group(1))


def attacker(plane, session, code):
    """Runs C inside the session as an ordinary program of the sandbox: it lies in the workspace."""
    directory = os.path.join(plane.state, "workspaces", session)
    source = os.path.join(plane.dir, "attack.c")
    with open(source, "w") as f:
        f.write("#define _GNU_SOURCE\n" + "".join("#include <%s>\n" % h for h in (
            "errno.h", "fcntl.h", "linux/filter.h", "linux/seccomp.h", "sched.h", "signal.h", "stdio.h", "stdlib.h", "string.h", "sys/prctl.h",
            "sys/ptrace.h", "sys/socket.h", "sys/stat.h", "sys/syscall.h", "sys/un.h", "sys/wait.h", "unistd.h", "stddef.h"))
            + "int main(int argc, char **argv)\n{\n(void)argc; (void)argv;\n" + code + "\nreturn 0;\n}\n")
    binary = os.path.join(directory, "attack")
    subprocess.run(["cc", "-static", "-O1", "-o", binary, source], check=True, timeout=60)
    os.chmod(binary, 0o755)
    return "/workspace/attack"


@pytest.fixture(scope="module")
def plane():
    with Plane() as p:
        p.agent("coder", **AGENT_TOOLS)
        yield p


@pytest.fixture(scope="module")
def session(plane):
    s = plane.session("coder")
    plane.running(s)
    return s


# ---- every type, provoked ----

def test_launch_and_exit_are_told_with_agent_and_wall(plane):
    s = plane.session("coder")
    plane.running(s)
    launch = expect(plane, "sandbox.launch", s)
    assert (launch["session"], launch["agent"], launch["wall"]) == (s, "coder", "container")
    assert launch["detail"] == {"syscalls_observed": True}
    plane.json("POST", "/v1/sessions/%s/stop" % s)
    ended = expect(plane, "sandbox.exit", s, reason="stopped")
    assert ended["seq"] > launch["seq"] and ended["agent"] == "coder"
    plane.json("DELETE", "/v1/sessions/" + s, expect=204)
    assert [e["type"] for e in listed(plane, s)] == ["sandbox.launch", "sandbox.exit"], "events outlive their session"


@pytest.mark.parametrize("name, code, argument", [
    ("mount", "syscall(SYS_mount, 0, 0, 0, 0, 0)", ""),
    ("ptrace", "ptrace(PTRACE_ATTACH, 1, 0, 0)", "request 16"),
    ("io_uring_setup", "syscall(SYS_io_uring_setup, 1, 0)", ""),
    ("bpf", "syscall(SYS_bpf, 5, 0, 0)", "request 5"),
    ("keyctl", "syscall(SYS_keyctl, 0, -3, 0)", "request 0"),
    ("perf_event_open", "syscall(SYS_perf_event_open, 0, 0, -1, -1, 0)", ""),
    ("unshare", "unshare(CLONE_NEWUSER | CLONE_NEWNS)", "CLONE_NEWUSER|CLONE_NEWNS"),
    ("socket", "socket(AF_PACKET, SOCK_RAW, 0)", "AF_PACKET"),
    ("chmod", 'chmod("/workspace", 04755)', "mode 04755"),
    ("ioctl", 'syscall(SYS_ioctl, 0, 0x5412, "x")', "0x5412"),
    ("syscall_1000", "syscall(1000)", ""),
])
def test_a_refused_system_call_is_answered_eperm_and_told(plane, session, name, code, argument):
    program = attacker(plane, session, 'int r = (int)%s, e = errno; printf("%%d %%d", r, e);' % code)
    answer = plane.ask(session, "run: %s" % program)
    assert "-1 1" in answer, "it is refused as without a listener: " + answer
    e = expect(plane, "syscall.denied", session, name=name)
    assert e["detail"]["argument"] == argument and e["detail"]["arch"] in ("x86_64", "aarch64") and e["detail"]["errno"] == 1
    assert (e["session"], e["agent"]) == (session, "coder")


def test_what_programs_try_as_a_matter_of_course_is_not_told(plane, session):
    program = attacker(plane, session, 'long a = syscall(435, 0, 0); int e = errno; long b = syscall(SYS_name_to_handle_at, 0, "", 0, 0, 0);'
                       'int f = errno; printf("%ld %d %ld %d", a, e, b, f);')
    assert "-1 38 -1 1" in plane.ask(session, "run: " + program), "clone3 falls back to clone; name_to_handle_at is refused"
    plane.ask(session, "run: mount -t tmpfs x /tmp")  # something after it that is told
    expect(plane, "syscall.denied", session, name="mount")
    assert not [e for e in listed(plane, session) if e["type"] == "syscall.denied" and e["detail"]["name"] in ("clone3", "name_to_handle_at")]


def test_the_workload_cannot_take_the_listener_s_place(plane, session):
    program = attacker(plane, session, '''
        struct sock_filter f = {6, 0, 0, 0x7fff0000}; struct sock_fprog p = {1, &f};
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &p); int e = errno;
        printf("%ld %d ", r, e);
        printf("%ld", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &p));''')
    assert "-1 16 0" in plane.ask(session, "run: " + program), "EBUSY; a filter without a listener is its own business"


def test_memory_is_told_when_a_process_dies_of_it(plane, session):
    program = attacker(plane, session, "for (;;) memset(malloc(1 << 20), 1, 1 << 20);")
    plane.ask(session, "run: %s; echo over" % program)
    e = expect(plane, "limit.memory", session)
    assert e["count"] >= 1 and e["detail"]["limit_bytes"] == 48 << 20


def test_refused_forks_are_told(plane, session):
    program = attacker(plane, session, "for (int i = 0; i < 60; i++) if (fork() == 0) { sleep(1); _exit(0); } while (wait(0) > 0);")
    plane.ask(session, "run: %s; echo over" % program)
    e = expect(plane, "limit.pids", session)
    assert e["count"] >= 10 and e["detail"]["limit"] == 24


def test_cpu_throttling_is_told(plane):
    plane.agent("slow", tools=["shell"], limits={"memory": 64 << 20, "cpus": 0.1, "pids": 32})
    s = plane.session("slow")
    plane.running(s)
    plane.ask(s, "run: i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; echo over", timeout=120)
    e = expect(plane, "limit.cpu", s)
    assert e["count"] >= 1 and e["detail"]["limit_milli"] == 100 and e["detail"]["throttled_us"] > 0
    plane.json("DELETE", "/v1/sessions/" + s, expect=204)


def test_a_killed_sandbox_is_told_before_its_end(plane):
    s = plane.session("coder")
    plane.running(s)
    until("its workload runs", lambda: len(inside(plane, s)) >= 2)
    os.kill(max(inside(plane, s)), signal.SIGKILL)
    killed = expect(plane, "sandbox.killed", s)
    assert killed["detail"] == {"signal": 9, "reason": "signal"}
    assert expect(plane, "sandbox.exit", s, code=137)["seq"] > killed["seq"]
    plane.json("DELETE", "/v1/sessions/" + s, expect=204)


def inside(plane, session):
    """The processes of one sandbox, by the cgroup of its id."""
    found = []
    for pattern in ("/sys/fs/cgroup/pids/ironclaw/%s-*/cgroup.procs", "/sys/fs/cgroup/pids/*/ironclaw/%s-*/cgroup.procs", "/sys/fs/cgroup/ironclaw/%s-*/cgroup.procs",
                    "/sys/fs/cgroup/pids/*/*/ironclaw/%s-*/cgroup.procs", "/sys/fs/cgroup/*/*/ironclaw/%s-*/cgroup.procs"):
        for path in glob.glob(pattern % session):
            found += [int(pid) for pid in open(path).read().split()]
    return sorted(set(found))


QUEUE = '''
    int s = socket(AF_UNIX, SOCK_STREAM, 0); struct sockaddr_un a = {.sun_family = AF_UNIX};
    strcpy(a.sun_path, "/run/ironclaw/%s.sock"); if (connect(s, (void *)&a, sizeof(a))) { perror("connect"); return 1; }
    send(s, "%s", %d, 0); char b[4096] = ""; printf("%%d", (int)recv(s, b, sizeof(b) - 1, 0) > 0); fflush(stdout);
'''


@pytest.mark.parametrize("frame, length, reason", [
    (r"\177\377\377\377", 4, "bad_length"),
    (r"\0\0\0\003abc", 7, "not_json"),
    (r"\0\0\0\013{\"op\":\"ow\"}", 15, "unknown_op"),
])
def test_the_queue_port_tells_what_it_refuses(plane, session, frame, length, reason):
    plane.ask(session, "run: %s" % attacker(plane, session, QUEUE % ("queue", frame, length)))
    e = expect(plane, "port.denied", session, port="queue", reason=reason)
    assert e["agent"] == "coder"


@pytest.mark.parametrize("request_text, reason", [
    ("GET /admin HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n", "path"),
    ("DELETE /v1/messages HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n", "method"),
    ("POST /v1/messages HTTP/1.1\\r\\nHost: x\\r\\nHost: y\\r\\nContent-Length: 0\\r\\n\\r\\n", "request"),
])
def test_the_model_port_tells_what_it_refuses(plane, session, request_text, reason):
    length = len(request_text.encode().decode("unicode_escape"))
    plane.ask(session, "run: %s" % attacker(plane, session, QUEUE % ("model", request_text, length)))
    expect(plane, "port.denied", session, port="model", reason=reason)


def test_changes_are_told_from_held_to_decided(plane):
    held = plane.json("POST", "/v1/agents", {"name": "kept", "tools": []}, expect=202)
    e = expect(plane, "policy.held", change=held["id"])
    assert e["agent"] == "kept" and e["detail"]["kind"] == "agent.create"
    plane.json("POST", "/v1/changes/%s/reject" % held["id"], {})
    assert expect(plane, "policy.rejected", change=held["id"])["detail"]["by"] == "admin"
    refused = plane.json("POST", "/v1/agents", {"name": "greedy", "limits": {"memory": 1 << 40}}, expect=202)
    assert refused["state"] == "refused"
    assert expect(plane, "policy.refused", change=refused["id"])["detail"]["verifiers"] != ""
    created = [e for e in listed(plane) if e["type"] == "policy.approved" and e["agent"] == "coder"]
    assert len(created) == 1


def test_denied_tokens_are_told_and_none_is_shown(plane):
    secret = "ict_" + "A" * 43
    assert plane.http("GET", "/v1/agents", token=secret)[0] == 401
    expect(plane, "auth.denied", reason="unknown")
    assert plane.http("GET", "/v1/agents", token=None)[0] == 401
    expect(plane, "auth.denied", reason="missing")
    reader = plane.json("POST", "/v1/tokens", {"name": "r", "scope": "read"}, expect=201)
    assert plane.http("POST", "/v1/sessions", {"agent": "coder"}, token=reader["token"])[0] == 403
    expect(plane, "auth.denied", reason="scope", token=reader["id"])
    plane.json("DELETE", "/v1/tokens/" + reader["id"], expect=204)
    assert plane.http("GET", "/v1/agents", token=reader["token"])[0] == 401
    expect(plane, "auth.denied", reason="revoked", token=reader["id"])
    assert secret not in json.dumps(listed(plane)) and reader["token"] not in json.dumps(listed(plane))


def test_events_need_a_token_that_may_read(plane):
    assert plane.http("GET", "/v1/events", token=None)[0] == 401
    reader = plane.json("POST", "/v1/tokens", {"name": "r2", "scope": "read"}, expect=201)
    assert plane.http("GET", "/v1/events", token=reader["token"])[0] == 200


# ---- delivery ----

class Follow:
    """`ironclaw events --follow --json`, read in the background."""

    def __init__(self, plane, *words):
        self.process = subprocess.Popen([os.path.join(plane.out, "ironclaw"), "events", "--follow", "--json", *words], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, env=plane.environment(), cwd="/")
        self.events = []
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            self.events.append(check(json.loads(line)))

    def has(self, kind, **detail):
        return until("following shows %s %s" % (kind, detail), lambda: [
            e for e in list(self.events) if e["type"] == kind and detail.items() <= e["detail"].items()], 30)

    def stop(self):
        self.process.kill()
        self.process.wait(10)
        self.thread.join(10)
        seqs = [e["seq"] for e in self.events]
        assert seqs == sorted(set(seqs)), "in order, none twice"


def held(plane, name):
    return plane.json("POST", "/v1/agents", {"name": name, "tools": []}, expect=202)["id"]


@pytest.mark.parametrize("victim", ["api", "vault", "events"])
def test_following_goes_on_after_a_part_was_killed(plane, victim):
    follow = Follow(plane)
    try:
        follow.has("policy.held", change=held(plane, "before-" + victim))
        pid = plane.kill(victim)
        until("it was started again", lambda: plane.daemons().get(victim, pid) != pid)
        plane.service()
        until("the vault has the events process back", lambda: metric(plane, 'ironclaw_process_up{process="events"}') == 1)
        follow.has("policy.held", change=held(plane, "after-" + victim))
    finally:
        follow.stop()


def test_following_one_session_shows_no_other(plane, session):
    follow = Follow(plane, "--session", session)
    other = plane.session("coder")
    plane.running(other)
    try:
        plane.ask(other, "run: mount -t tmpfs x /tmp")
        expect(plane, "syscall.denied", other, name="mount")
        plane.ask(session, "run: %s" % attacker(plane, session, QUEUE % ("queue", r"\177\377\377\377", 4)))
        follow.has("port.denied", reason="bad_length")
        assert {e["session"] for e in follow.events} == {session}
    finally:
        follow.stop()
        plane.json("DELETE", "/v1/sessions/" + other, expect=204)


def test_server_sent_events_are_numbered_and_resume_after_the_last(plane):
    first, second = held(plane, "sse-1"), held(plane, "sse-2")
    seq = expect(plane, "policy.held", change=first)["seq"]
    connection = UnixConnection(os.path.join(plane.state, "api.sock"), 20)
    connection.request("GET", "/v1/events", headers={"Authorization": "Bearer " + plane.token, "Accept": "text/event-stream", "Last-Event-ID": str(seq)})
    answer = connection.getresponse()
    assert answer.status == 200 and answer.getheader("Content-Type") == "text/event-stream"
    lines = {}
    while "data" not in lines:
        key, _, value = answer.readline().decode().rstrip("\n").partition(": ")
        lines[key] = value
    e = check(json.loads(lines["data"]))
    assert e["seq"] > seq and e["detail"]["change"] == second and (lines["event"], lines["id"]) == ("event", str(e["seq"]))
    answer.close()
    connection.close()


def test_the_command_line_prints_for_people_too(plane):
    change = held(plane, "people")
    expect(plane, "policy.held", change=change)
    assert re.search(r"policy\.held +people change=%s kind=agent\.create" % change, plane.cli("events"))
    assert len(plane.cli("events", "--limit", "2", "--json").splitlines()) == 2
    assert plane.run("events", "--limit", "x").returncode == 2


# ---- when somebody dies, floods or does not read ----

FLOOD = "for (long i = 0; i < %d; i++) syscall(SYS_mount, 0, 0, 0, 0, 0); printf(\"flooded\");"


def test_a_flood_of_refused_calls_costs_bounded_memory_and_evicts_nobody_else(plane):
    noisy, quiet = plane.session("coder"), plane.session("coder")
    plane.running(noisy), plane.running(quiet)
    plane.ask(quiet, "run: unshare -U true; echo done")
    expect(plane, "syscall.denied", quiet, name="unshare")
    program = attacker(plane, noisy, FLOOD % 100000)
    pid = plane.daemons()["events"]

    def pss():
        with open("/proc/%d/smaps_rollup" % pid) as f:
            return int(re.search(r"^Pss: +(\d+)", f.read(), re.M).group(1))
    before = pss()
    assert "flooded" in plane.ask(noisy, "run: " + program, timeout=120)

    def counted():
        return sum(e["count"] for e in listed(plane, noisy) if e["type"] == "syscall.denied" and e["detail"]["name"] == "mount")
    until("all are counted", lambda: counted() == 100000)
    told = [e for e in listed(plane, noisy) if e["type"] == "syscall.denied"]
    assert len(told) < 100, "many are told as few"
    assert pss() - before < 1024, "KiB"
    expect(plane, "syscall.denied", quiet, name="unshare")
    for s in (noisy, quiet):
        plane.json("DELETE", "/v1/sessions/" + s, expect=204)


def test_more_kinds_than_are_kept_apart_are_dropped_and_counted(plane):
    s = plane.session("coder")
    plane.running(s)
    before = metric(plane, 'ironclaw_events_dropped_total{sink="burst"}')
    program = attacker(plane, s, "for (int nr = 600; nr < 1000; nr++) syscall(nr);")
    plane.ask(s, "run: %s" % program)
    e = expect(plane, "events.dropped", s, sink="burst")
    told = until("all are told or counted as dropped", lambda: sum(
        e["count"] for e in listed(plane, s) if e["type"] == "events.dropped" or e["detail"].get("name", "").startswith("syscall_")) == 400)
    assert told and e["count"] >= 300
    until("the metric counts them", lambda: metric(plane, 'ironclaw_events_dropped_total{sink="burst"}') >= before + 300)
    plane.json("DELETE", "/v1/sessions/" + s, expect=204)


def test_refused_calls_stay_refused_and_nothing_hangs_when_the_events_process_is_killed(plane):
    s = plane.session("coder")
    plane.running(s)
    program = attacker(plane, s, '''
        long eperm = 0, enosys = 0, other = 0;
        for (long i = 0; i < 200000 && enosys < 1000; i++) {
            if (syscall(SYS_mount, 0, 0, 0, 0, 0) == 0) { printf("MOUNTED"); return 1; }
            if (errno == EPERM) eperm++; else if (errno == ENOSYS) enosys++; else other++;
        }
        printf("eperm=%d enosys=%d other=%ld", eperm > 0, enosys > 0, other);''')
    plane.send(s, "run: " + program)
    expect(plane, "syscall.denied", s, name="mount")
    plane.kill("events")
    answer = until("it goes on", lambda: plane.answers(s, 0, wait=5), 60)[-1]["text"]
    assert "eperm=1 enosys=1 other=0" in answer
    plane.service()
    until("the launcher has it back", lambda: metric(plane, 'ironclaw_process_up{process="events"}') == 1)
    lost = expect(plane, "events.dropped", s, sink="listener")
    assert (lost["agent"], lost["wall"]) == ("coder", "container")
    plane.json("POST", "/v1/sessions/%s/stop" % s)
    plane.ask(s, "run: mount -t tmpfs x /tmp")
    expect(plane, "syscall.denied", s, name="mount")
    plane.json("DELETE", "/v1/sessions/" + s, expect=204)


def test_a_task_that_is_killed_in_the_middle_of_a_refused_call_leaves_nothing_behind(plane):
    s = plane.session("coder")
    plane.running(s)
    program = attacker(plane, s, '''
        for (int round = 0; round < 50; round++) {
            pid_t pid = fork();
            if (pid == 0) for (;;) syscall(SYS_mount, 0, 0, 0, 0, 0);
            usleep(2000); kill(pid, SIGKILL); waitpid(pid, 0, 0);
        }
        long r = syscall(SYS_mount, 0, 0, 0, 0, 0); int e = errno;
        printf("all killed %ld %d", r, e);''')
    assert "all killed -1 1" in plane.ask(s, "run: " + program)
    plane.json("DELETE", "/v1/sessions/" + s, expect=204)


def test_a_session_that_ends_leaves_no_descriptor(plane):
    pid = plane.daemons()["events"]
    before = len(os.listdir("/proc/%d/fd" % pid))
    s = plane.session("coder")
    plane.running(s)
    until("its listener is held", lambda: len(os.listdir("/proc/%d/fd" % pid)) == before + 1)
    plane.json("DELETE", "/v1/sessions/" + s, expect=204)
    until("its listener is closed", lambda: len(os.listdir("/proc/%d/fd" % pid)) == before)


# ---- sinks ----

SYSLOG = re.compile(r"<(\d+)>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (\S+) ironclaw - (\S+) - (\{.*\})$", re.S)


class Syslog:
    """A receiver of datagrams, which reads only when it is told to."""

    def __init__(self, directory=None, reading=True):
        self.sock = socket.socket(socket.AF_UNIX if directory else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(os.path.join(directory, "log") if directory else ("127.0.0.1", 0))
        self.target = "unix:%s/log" % directory if directory else "udp:127.0.0.1:%d" % self.sock.getsockname()[1]
        self.sock.settimeout(0.1)
        self.messages, self.reading = [], threading.Event()
        self.done = False
        if reading:
            self.reading.set()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        while not self.done:
            if not self.reading.wait(0.1):
                continue
            try:
                self.messages.append(self.sock.recv(65536).decode("ascii"))
            except TimeoutError:
                pass

    def close(self):
        self.done = True
        self.thread.join(5)
        self.sock.close()


@pytest.mark.parametrize("kind", ["unix", "udp"])
def test_syslog_gets_rfc_5424_messages(kind, tmp_path):
    receiver = Syslog(str(tmp_path) if kind == "unix" else None)
    try:
        with Plane(config={"events": {"syslog": receiver.target}}) as plane:
            change = held(plane, "one")
            expect(plane, "policy.held", change=change)
            assert plane.http("GET", "/v1/agents", token="ict_no")[0] == 401
            until("both arrive", lambda: len(receiver.messages) >= 2)
            events = listed(plane)
        for message, event in zip(receiver.messages, events):
            priority, when, host, msgid, body = SYSLOG.match(message).groups()
            assert json.loads(body) == event and msgid == event["type"] and len(msgid) <= 32
            assert int(priority) == 3 * 8 + {"policy.held": 5, "auth.denied": 4}[msgid]
            assert host in (os.uname().nodename, "-") and len(message) < 8192
    finally:
        receiver.close()


def test_a_receiver_that_does_not_read_blocks_nothing_and_drops_are_counted(tmp_path):
    receiver = Syslog(str(tmp_path), reading=False)
    try:
        with Plane(config={"events": {"syslog": receiver.target, "ring": 16384}}) as plane:
            for i in range(120):
                held(plane, "agent-%d" % i)
            until("the metric counts", lambda: metric(plane, 'ironclaw_events_dropped_total{sink="syslog"}') > 0)
            told = expect(plane, "events.dropped", sink="syslog")
            assert told["count"] > 0 and told["session"] == ""
            receiver.reading.set()
            last = held(plane, "after")
            until("it goes on once it reads", lambda: any(last in m for m in receiver.messages))
            until("all are accounted for", lambda: metric(plane, 'ironclaw_events_dropped_total{sink="syslog"}') + len(
                [m for m in receiver.messages if "policy.held" in m]) == 121)
    finally:
        receiver.close()


def test_a_receiver_that_restarts_is_found_again(tmp_path):
    receiver = Syslog(str(tmp_path))
    with Plane(config={"events": {"syslog": receiver.target}}) as plane:
        first = held(plane, "first")
        until("it arrives", lambda: any(first in m for m in receiver.messages))
        receiver.close()
        os.unlink(os.path.join(tmp_path, "log"))
        second = held(plane, "second")
        expect(plane, "policy.held", change=second)
        receiver = Syslog(str(tmp_path))
        until("what happened meanwhile arrives", lambda: any(second in m for m in receiver.messages))
        receiver.close()


def lines_of(path):
    try:
        with open(path) as f:
            return [check(json.loads(line)) for line in f.read().splitlines()]
    except OSError:
        return []


def test_the_file_of_json_lines_is_rotated_by_size(tmp_path):
    path = str(tmp_path / "events.jsonl")
    with Plane(config={"events": {"jsonl": path, "jsonl_max_size": 4096}}) as plane:
        for i in range(40):
            held(plane, "agent-%d" % i)
        until("it was rotated", lambda: os.path.exists(path + ".1"))
        last = held(plane, "last")
        until("the newest is written", lambda: any(e["detail"].get("change") == last for e in lines_of(path)))
        assert os.path.getsize(path) < 8192 and os.path.getsize(path + ".1") < 8192
        assert oct(os.stat(path).st_mode & 0o777) == "0o600"
        listed(plane)
    assert sorted(os.listdir(tmp_path)) == ["events.jsonl", "events.jsonl.1"]


def test_a_file_that_was_removed_is_made_again_and_a_directory_that_was_removed_is_waited_for(tmp_path):
    directory = tmp_path / "log"
    directory.mkdir()
    path = str(directory / "events.jsonl")
    with Plane(config={"events": {"jsonl": path}}) as plane:
        held(plane, "one")
        until("it is written", lambda: len(lines_of(path)) == 1)
        os.unlink(path)
        os.rmdir(directory)
        held(plane, "two")
        until("the loss is noticed", lambda: "removed" in plane.log())
        directory.mkdir()
        third = held(plane, "three")
        until("it is written again", lambda: any(e["detail"]["change"] == third for e in lines_of(path)))


def test_a_full_disk_blocks_nothing_and_is_written_to_when_there_is_room(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", disk], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("not allowed to mount a small tmpfs: " + done.stderr)
    try:
        with open(disk / "ballast", "wb") as f:
            f.write(b"x" * 12288)
        path = str(disk / "events.jsonl")
        with Plane(config={"events": {"jsonl": path, "ring": 16384}}) as plane:
            for i in range(120):
                held(plane, "agent-%d" % i)
            until("drops are counted", lambda: metric(plane, 'ironclaw_events_dropped_total{sink="jsonl"}') > 0)
            expect(plane, "events.dropped", sink="jsonl")
            os.truncate(path, 0)
            os.unlink(disk / "ballast")
            last = held(plane, "after")
            until("it goes on", lambda: os.path.exists(path) and last in open(path).read())
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


# ---- `ironclaw run --events`, which needs no control plane ----

def run_events(tmp_path, *words, status=0):
    path = tmp_path / "run.jsonl"
    done = subprocess.run([os.path.join(os.environ.get("IRONCLAW_OUT", os.path.join(ROOT, "out")), "ironclaw"), "run", "--state-dir", str(tmp_path / "state"),
                           "--events", str(path), *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done
    return lines_of(path)


def test_run_tells_what_its_command_was_refused_and_how_it_ended(tmp_path):
    events = run_events(tmp_path, "--wall", "container", "--", "sh", "-c", "mount -t tmpfs x /tmp; mount -t tmpfs x /tmp; exit 3", status=3)
    assert [e["type"] for e in events if e["type"] != "syscall.denied"] == ["sandbox.launch", "sandbox.exit"]
    denied = [e for e in events if e["type"] == "syscall.denied"]
    assert sum(e["count"] for e in denied) == 2 and all(e["detail"]["name"] == "mount" for e in denied)
    assert events[-1]["detail"] == {"code": 3, "reason": "exited"}


def test_run_tells_of_limits_and_kills(tmp_path):
    events = run_events(tmp_path, "--", "sh", "-c", "kill -9 $$", status=137)
    assert [e["type"] for e in events] == ["sandbox.launch", "sandbox.killed", "sandbox.exit"]
    events = run_events(tmp_path, "--timeout", "300ms", "--", "sleep", "60", status=137)
    assert events[-1]["detail"]["reason"] == "timeout"


def test_run_tells_of_a_program_that_its_filter_killed(tmp_path):
    """In a cell: a call of the host's, from the kernel's text, that is not on the list. In a container: one of another architecture."""
    root = tmp_path / "root"
    for d in ("tmp", "proc", "dev", "workspace", "run"):
        (root / d).mkdir(parents=True)
    out = os.environ.get("IRONCLAW_OUT", os.path.join(ROOT, "out"))
    shutil.copy(os.path.join(out, "libexec/ironclaw/ironclaw-attacker"), root / "attacker")
    source = tmp_path / "old.c"
    source.write_text('int main(void) { __asm__ volatile("int $0x80" :: "a"(20)); return 0; }\n')
    subprocess.run(["cc", "-static", "-o", root / "old", source], check=True, timeout=60)
    for wall, words in (("cell", ["/attacker", "attack", "cell.forbidden"]), ("cell", ["/old"]), ("container", ["/old"])):
        (tmp_path / "run.jsonl").unlink(missing_ok=True)
        events = run_events(tmp_path, "--wall", wall, "--rootfs", str(root), "--", *words, status=128 + signal.SIGSYS)
        assert [e["type"] for e in events] == ["sandbox.launch", "sandbox.killed", "sandbox.exit"], wall
        assert events[1]["detail"] == {"signal": signal.SIGSYS, "reason": "signal"} and events[1]["wall"] == wall
        assert events[2]["detail"] == {"code": 128 + signal.SIGSYS, "reason": "killed"}


def test_run_without_the_option_installs_no_listener(tmp_path):
    """Else its refused calls would take the way over us: the kernel shows it in what a second listener is answered."""
    source = tmp_path / "listener.c"
    source.write_text('''#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void)
{
    struct sock_filter f = {6, 0, 0, 0x7fff0000};
    struct sock_fprog p = {1, &f};
    printf("%d", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &p) >= 0);
    return 0;
}
''')
    subprocess.run(["cc", "-static", "-o", tmp_path / "listener", source], check=True, timeout=60)
    command = [os.path.join(os.environ.get("IRONCLAW_OUT", os.path.join(ROOT, "out")), "ironclaw"), "run", "--wall", "container", "--state-dir", str(tmp_path / "state"),
               "--mount", "%s:/listener" % (tmp_path / "listener")]
    for options, wanted in (([], "1"), (["--events", str(tmp_path / "e")], "0")):
        done = subprocess.run([*command, *options, "--", "/listener"], capture_output=True, text=True, timeout=60)
        assert done.stdout == wanted, done
