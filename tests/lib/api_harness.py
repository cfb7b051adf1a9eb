"""ironclaw-api alone: started as the supervisor would, with a scripted vault behind it and raw sockets in front."""
import http.client
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time

from icipc import Closed, M, Process, s, u32

OPERATIONS = {number: name for name, number in M.items() if name.startswith("API_") and 100 <= number < M["API_LAST"]}


class Call:
    """One request as the vault sees it (ipc/messages.h)."""

    def __init__(self, kind, ident, fields):
        self.op, self.ident = OPERATIONS[kind], ident
        self.token, self.subject = fields.str(), fields.str()
        self.after, self.limit, self.wait_ms = fields.u64(), fields.u32(), fields.u32()
        self.body = fields.bytes()
        assert fields.at == len(fields.data), "fields left over"

    def json(self):
        return json.loads(self.body)


def reply_body(status, body):
    text = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return u32(status) + s(text)


class Vault(threading.Thread):
    """Answers each call with `script(call)`: (status, body), or None to leave it open. Keeps every call it saw."""

    def __init__(self, link, script):
        super().__init__(daemon=True)
        self.link, self.script, self.calls, self.stopping = link, script, [], False
        self.arrived = threading.Condition()

    def run(self):
        while not self.stopping:
            try:
                kind, ident, fields, _ = self.link.recv(0.2)
            except TimeoutError:
                continue
            except (Closed, OSError, ValueError):
                return
            call = Call(kind, ident, fields)
            answer = self.script(call)
            with self.arrived:
                self.calls.append(call)
                self.arrived.notify_all()
            if answer is not None:
                try:
                    self.link.reply(ident, reply_body(*answer))
                except OSError:
                    return

    def wait_for(self, op, timeout=10):
        """The first call of that kind, once it is there."""
        with self.arrived:
            ok = self.arrived.wait_for(lambda: any(c.op == op for c in self.calls), timeout)
            assert ok, "no %s arrived; got %s" % (op, [c.op for c in self.calls])
            return next(c for c in self.calls if c.op == op)

    def event(self, call, event, data, more=True):
        self.link.reply(call.ident, reply_body(200, {"event": event, "data": data}), more=more)

    def die(self):
        self.stopping = True
        self.link.sock.close()
        self.join(5)


class Api:
    """The process, its unix socket in a directory of its own, and its vault."""

    def __init__(self, script=lambda call: (200, {}), config=None, tls=False, vault=True):
        self.dir = tempfile.mkdtemp(prefix="ironclaw-api-")
        self.path = os.path.join(self.dir, "api.sock")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen(256)
        extra, conf = [listener.fileno()], {"uid_base": 1879048192, "listen": [],
                                            "api": {"rate_per_minute": 100000, "body_timeout_s": 10, "max_connections": 128}}
        for key, value in (config or {}).items():
            conf[key] = {**conf[key], **value} if isinstance(value, dict) else value
        files = []
        if tls:
            cert, key = self.certificate()
            tcp = socket.socket()
            tcp.bind(("127.0.0.1", 0))
            tcp.listen(64)
            self.port, self.cert = tcp.getsockname()[1], cert
            files = [open(cert), open(key)]
            extra += [tcp.fileno(), files[0].fileno(), files[1].fileno()]
            conf["listen"] = [{"address": "127.0.0.1", "port": self.port, "certificate": cert, "key": key}]
        binary = os.path.join(os.environ["IRONCLAW_BUILD"], "src/api/ironclaw-api")
        env = dict(os.environ, ASAN_OPTIONS="detect_leaks=0:abort_on_error=0")
        self.script = script
        self.process = Process(binary, conf, extra=extra, env=env)
        listener.close()
        for f in files:
            f.close()
        if tls:
            tcp.close()
        self.vault = None
        if vault:
            self.start_vault()
        self.process.ready()

    def start_vault(self, script=None):
        link = self.process.link("PEER_VAULT")
        self.vault = Vault(link, script or self.script)
        self.vault.start()
        return self.vault

    def certificate(self):
        cert, key = os.path.join(self.dir, "cert.pem"), os.path.join(self.dir, "key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                        "-keyout", key, "-out", cert], check=True, capture_output=True)
        return cert, key

    def connect(self, timeout=15):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout)
        sock.connect(self.path)
        return sock

    def raw(self, data, timeout=15):
        """Sends bytes, returns all that comes back until the other side closes (then self.closed) or is silent for a second."""
        self.closed = False
        with self.connect(timeout) as sock:
            try:
                sock.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass
            sock.settimeout(1.0)
            out = b""
            try:
                while chunk := sock.recv(65536):
                    out += chunk
                self.closed = True
            except ConnectionResetError:
                self.closed = True
            except TimeoutError:
                pass
            return out

    def request(self, method, path, body=None, headers=None, token="t0ken", timeout=15):
        """(status, headers, bytes)"""
        return unix_request(self.path, method, path, body, headers, token, timeout)

    def stop(self):
        """Stops the process and checks that it neither crashed nor complained of memory errors."""
        status, err = self.process.stop()
        if self.vault:
            self.vault.stopping = True
            self.vault.join(5)
        shutil.rmtree(self.dir, ignore_errors=True)
        assert "Sanitizer" not in err and "runtime error" not in err, err
        assert status == 0, (status, err)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            self.stop()
        except AssertionError:
            if kind is None:
                raise


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def unix_request(path, method, target, body=None, headers=None, token=None, timeout=15):
    connection = UnixConnection(path, timeout)
    send = {"Authorization": "Bearer " + token} if token else {}
    data = body
    if body is not None and not isinstance(body, bytes):
        data = json.dumps(body).encode()
    if data is not None:
        send["Content-Type"] = "application/json"
    send.update(headers or {})
    connection.request(method, target, data, send)
    answer = connection.getresponse()
    out = answer.status, dict((k.lower(), v) for k, v in answer.getheaders()), answer.read()
    connection.close()
    return out


def reset(sock):
    """Closes with a reset instead of an orderly end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def eventually(check, timeout=10):
    deadline = time.monotonic() + timeout
    while not check():
        assert time.monotonic() < deadline, "it did not happen within %s s" % timeout
        time.sleep(0.02)
