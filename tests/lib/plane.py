"""A whole control plane for a test: `ironclaw up` on a state directory of its own, real processes, real sandboxes.

    with Plane(config={"four_eyes": True}) as plane:      bootstrapped: plane.token is an admin token
        plane.agent("coder", tools=["shell"])             created and approved
        session = plane.session("coder")
        plane.ask(session, "run: id")                     the answer's text
        plane.cli("change", "pending")                    the command line; raises on a non-zero status
        plane.http("GET", "/v1/agents")                   (status, headers, body)
        plane.kill("vault"); plane.start()

Leaving the block stops it and checks that nothing is left: processes, cgroups, mounts, files.
Every plane has its own range of uids, so that its processes are told from any other's.
"""
import glob
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
OUT = os.path.realpath(os.environ.get("IRONCLAW_OUT", os.path.join(ROOT, "out")))
DAEMONS = ("events", "vault", "launcher", "modelproxy", "api")
UID_RANGE = 1 << 24


def until(what, condition, timeout=30):
    """Polls until condition() is true, and returns its value."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "not within %d s: %s" % (timeout, what)
        time.sleep(0.01)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def status_of(pid):
    """/proc/PID/status as a dictionary; empty when there is no such process."""
    try:
        with open("/proc/%d/status" % pid) as f:
            return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    except (OSError, ValueError):
        return {}


def alive(pid):
    return status_of(pid).get("State", "Z")[0] not in "ZX"


def all_pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def mounts():
    with open("/proc/self/mounts") as f:
        return sorted(f.read().split("\n"))


class Plane:
    def __init__(self, config=None, out=None, run_as=None, passphrase_file=None, bootstrap=True, start=True):
        """run_as: (uid, gid) of an unprivileged user; out must be where that user can read it."""
        self.dir = tempfile.mkdtemp(prefix="icp-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.out, self.run_as, self.passphrase_file = out or OUT, run_as, passphrase_file
        self.home = os.path.join(self.dir, "home")
        os.mkdir(self.home, 0o755)
        if run_as:
            os.chown(self.home, *run_as)
        self.state = os.path.join(self.home, "state")
        self.token_file = os.path.join(self.home, "token")
        self.log_file = os.path.join(self.dir, "up.log")
        self.uid_base = 65536 * random.randrange(1 << 10, (1 << 15) - 1) if not run_as else 0
        self.config = {"api": {"rate_per_minute": 1000000}, "model_defaults": {"requests_per_minute": 1000000}}
        if self.uid_base:
            self.config["uid_base"] = self.uid_base
        self.config.update(config or {})
        self.mounts = mounts()
        self.up, self.token, self.children, self.seen = None, None, {}, set()
        if start:
            try:
                self.start()
                if bootstrap:
                    self.bootstrap()
            except BaseException:
                self.destroy()
                raise

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            if self.up:
                status = self.stop()
                assert kind or status == 0, "ironclaw up ended with status %d\n%s" % (status, self.log())
            problems = self.leftovers() if not kind else []
        finally:
            log = self.log()
            if kind:
                print(log[-4000:])
            self.destroy()
        assert not problems, problems
        assert "AddressSanitizer" not in log and "runtime error" not in log, log[-8000:]

    def destroy(self):
        if self.up and self.up.poll() is None:
            self.up.kill()
            self.up.wait(30)
        shutil.rmtree(self.dir, ignore_errors=True)

    # ---- life ----

    def environment(self, **more):
        env = {"PATH": os.environ["PATH"], "HOME": self.home, "IRONCLAW_STATE_DIR": self.state, "IRONCLAW_TOKEN_FILE": self.token_file,
               "ASAN_OPTIONS": "detect_leaks=0"}
        env.update(more)
        return env

    def drop(self):
        if self.run_as:
            os.setgroups([])
            os.setgid(self.run_as[1])
            os.setuid(self.run_as[0])

    def log(self):
        try:
            with open(self.log_file, errors="replace") as f:
                return f.read()
        except OSError:
            return ""

    def command(self):
        config = os.path.join(self.dir, "config.yaml")
        with open(config, "w") as f:
            json.dump(self.config, f)  # JSON is YAML
        command = [os.path.join(self.out, "ironclaw"), "up", "--state-dir", self.state, "--config", config]
        return command + (["--passphrase-file", self.passphrase_file] if self.passphrase_file else [])

    def start(self, wait=True):
        offset = len(self.log().encode())
        with open(self.log_file, "ab") as log:
            self.up = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment(), cwd="/",
                                       preexec_fn=self.drop)

        def ready():
            assert self.up.poll() is None, "ironclaw up ended with status %d\n%s" % (self.up.poll(), self.log()[offset:])
            with open(self.log_file, "rb") as f:
                f.seek(offset)
                return b"ready on" in f.read()
        if wait:
            until("the control plane is ready", ready, 60)
            self.daemons()
        return self

    def refused(self):
        """Runs `ironclaw up`, which must end by itself with an error: its message."""
        done = subprocess.run(self.command(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, env=self.environment(), cwd="/",
                              preexec_fn=self.drop)
        assert done.returncode not in (0, 128 + signal.SIGKILL), done
        return done.stdout + done.stderr

    def stop(self):
        self.daemons()
        if self.up.poll() is None:
            self.up.terminate()
        status = self.up.wait(60)
        self.up = None
        return status

    def daemons(self):
        """Process ids of the running daemons by name; remembered for the check at the end."""
        found = {}
        for pid in all_pids():
            s = status_of(pid)
            if s and self.up and s.get("PPid") == str(self.up.pid) and s["State"][0] != "Z":
                found[s["Name"].replace("ironclaw-", "")] = pid  # names are cut to 15 characters
        found = {d: pid for d in DAEMONS + ("upstream",) for name, pid in found.items() if d.startswith(name)}
        self.children.update({pid: name for name, pid in found.items()})
        return found

    def kill(self, name):
        """kill -9 of one daemon, or of "supervisor"."""
        pid = self.up.pid if name == "supervisor" else until("%s runs" % name, lambda: self.daemons().get(name))
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        if name == "supervisor":
            self.up.wait(30)
            self.up = None
        return pid

    def kill_all(self):
        pids = [self.up.pid] + list(self.daemons().values())
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.up.wait(30)
        self.up = None
        until("every daemon is gone", lambda: not any(alive(p) for p in pids))

    def service(self):
        """Waits until requests are answered again after a crash."""
        def answers():
            try:
                status, _, body = self.http("GET", "/readyz", token=None, timeout=5)
                return status == 200 and json.loads(body)["ready"] and set(DAEMONS) <= set(self.daemons())
            except (OSError, http.client.HTTPException):
                return False
        until("the service is back", answers, 60)

    def sandboxes(self):
        """Processes with a session's uid (only when started as root)."""
        low = self.uid_base + 16
        def inside(pid):
            s = status_of(pid)
            # the gVisor wall's helpers have the sandbox's uid with its highest bit set
            return s and s["State"][0] not in "ZX" and low <= int(s["Uid"].split()[0]) & 0x7fffffff < self.uid_base + 65536
        return [p for p in all_pids() if self.uid_base and inside(p)]

    def cgroups(self):
        names = set(re.findall(r'"(s-[0-9a-f]{16})"', open(os.path.join(self.state, "audit.log"), errors="replace").read())) if \
            os.path.exists(os.path.join(self.state, "audit.log")) else set()
        self.seen |= names
        return [d for pattern in ("/sys/fs/cgroup/*/ironclaw/*", "/sys/fs/cgroup/ironclaw/*", "/sys/fs/cgroup/*/*/ironclaw/*", "/sys/fs/cgroup/*/*/*/ironclaw/*")
                for d in glob.glob(pattern) if os.path.basename(d)[:18] in self.seen]

    def leftovers(self):
        """What a stopped plane left, in words."""
        found = []
        try:
            until("processes are gone", lambda: not any(alive(p) for p in self.children) and not self.sandboxes(), 10)
        except AssertionError:
            found.append("processes: %s" % [(p, n) for p, n in self.children.items() if alive(p)] + str(self.sandboxes()))
        found += ["cgroup: " + c for c in self.cgroups()]
        found += ["mount: " + m for m in mounts() if self.dir in m and m not in self.mounts]
        if os.path.exists(os.path.join(self.state, "api.sock")):
            found.append("api.sock")
        return found

    # ---- talking to it ----

    def bootstrap_token(self):
        return re.search(r"ict_[A-Za-z0-9_-]+", self.log()).group(0)

    def bootstrap(self):
        self.cli("token", "bootstrap", self.bootstrap_token(), token=False)
        with open(self.token_file) as f:
            self.token = f.read().strip()

    def run(self, *args, token=None, input=None, timeout=60):
        """The command line: a CompletedProcess. token: another token than the admin's."""
        env = self.environment(**({"IRONCLAW_TOKEN": token} if token else {}))
        return subprocess.run([os.path.join(self.out, "ironclaw"), *args], capture_output=True, text=True, input=input, timeout=timeout, env=env, cwd="/",
                              preexec_fn=self.drop)

    def cli(self, *args, token=None, input=None, timeout=60):
        done = self.run(*args, token=token or None, input=input, timeout=timeout)
        assert done.returncode == 0, "ironclaw %s: status %d\n%s%s" % (" ".join(args), done.returncode, done.stdout, done.stderr)
        return done.stdout

    def http(self, method, path, body=None, token="admin", timeout=70):
        connection = UnixConnection(os.path.join(self.state, "api.sock"), timeout)
        headers = {"Connection": "close"}
        if token:
            headers["Authorization"] = "Bearer " + (self.token if token == "admin" else token)
        if body is not None:
            body = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def json(self, method, path, body=None, expect=(200, 201, 202, 204), token="admin"):
        status, _, text = self.http(method, path, body, token)
        assert status in (expect if isinstance(expect, tuple) else (expect,)), "%s %s -> %d %s" % (method, path, status, text.decode())
        return json.loads(text) if text else None

    def agent(self, name, **document):
        change = self.json("POST", "/v1/agents", {"name": name, **document}, expect=202)
        assert change["state"] == "pending", change
        change = self.json("POST", "/v1/changes/%s/approve" % change["id"], {})
        assert change["state"] == "applied", change
        return change

    def session(self, agent):
        return self.json("POST", "/v1/sessions", {"agent": agent}, expect=201)["id"]

    def state_of(self, session):
        return self.json("GET", "/v1/sessions/" + session)

    def running(self, session, timeout=60):
        return until("session %s runs" % session, lambda: self.state_of(session)["state"] == "running", timeout)

    def last(self, session):
        return self.json("GET", "/v1/sessions/%s/messages?limit=1" % session)["last"]

    def send(self, session, text, key=None):
        return self.json("POST", "/v1/sessions/%s/messages" % session, {"text": text, **({"idempotency_key": key} if key else {})}, expect=201)["seq"]

    def answers(self, session, after=0, wait=0):
        return self.json("GET", "/v1/sessions/%s/messages?after=%d&wait=%d&limit=200" % (session, after, wait))["messages"]

    def ask(self, session, text, timeout=60):
        """Sends a message and waits for the next record of the agent: its text."""
        history = self.json("GET", "/v1/sessions/%s/history?limit=1000" % session)["records"]
        after = max([r["seq"] for r in history if r["direction"] == "out"], default=0)
        self.send(session, text)
        return until("an answer to %r" % text, lambda: self.answers(session, after, wait=5), timeout)[0]["text"]

    def history(self, session):
        return self.json("GET", "/v1/sessions/%s/history?limit=1000" % session)["records"]
