"""Plays the supervisor and the peers of one control-plane process, so that it can be tested alone.

The wire format is that of src/ipc/wire.h and src/ipc/link.c, the request numbers those of src/ipc/messages.h
(read from the header, so they cannot drift).
"""
import array
import json
import os
import re
import select
import socket
import struct
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def _enum_values():
    """Every enumerator of messages.h with its number."""
    text = open(os.path.join(ROOT, "src/ipc/messages.h")).read()
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    text = re.sub(r"//.*", "", text)
    values = {}
    for body in re.findall(r"enum(?:\s+\w+)?\s*\{(.*?)\}", text, flags=re.S):
        following = 0
        for item in body.split(","):
            item = item.strip()
            if not item:
                continue
            name, _, value = (part.strip() for part in item.partition("="))
            following = eval(value) if value else following  # integers of our own header only
            values[name] = following
            following += 1
    return values


M = _enum_values()


def s(text):
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<I", len(data)) + data


def u8(v):
    return struct.pack("<B", v)


def u32(v):
    return struct.pack("<I", v)


def u64(v):
    return struct.pack("<Q", v)


class Fields:
    """Reads the fields of a message one after the other."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def _take(self, n):
        part = self.data[self.at:self.at + n]
        assert len(part) == n, "message too short"
        self.at += n
        return part

    def u8(self):
        return self._take(1)[0]

    def u32(self):
        return struct.unpack("<I", self._take(4))[0]

    def u64(self):
        return struct.unpack("<Q", self._take(8))[0]

    def bytes(self):
        return self._take(self.u32())

    def str(self):
        return self.bytes().decode()


class Closed(Exception):
    pass


class Link:
    """Our end of a link. call() waits for the reply; requests from the other side go through recv() and reply()."""

    def __init__(self):
        self.sock, self.peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 212992)
        self.next_id, self.queue = 0, []

    def send(self, kind, body=b"", fds=(), flags=0, ident=0):
        anc = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([struct.pack("<IIQ", kind, flags, ident) + body], anc)

    def notify(self, kind, body=b"", fds=()):
        self.send(kind, body, fds)

    def start(self, kind, body=b"", fds=()):
        self.next_id += 1
        self.send(kind, body, fds, ident=self.next_id)
        return self.next_id

    def _frame(self, timeout):
        if not select.select([self.sock], [], [], timeout)[0]:
            raise TimeoutError("no message within %s s" % timeout)
        data, anc, _, _ = self.sock.recvmsg(1 << 20, socket.CMSG_SPACE(4 * 8))
        if not data:
            raise Closed()
        fds = []
        for _, _, raw in anc:
            fds += list(array.array("i", raw))
        kind, flags, ident = struct.unpack("<IIQ", data[:16])
        return kind, flags, ident, data[16:], fds

    def replies(self, ident, timeout=10):
        """Yields (fields, fds) for each reply to the call."""
        deadline = time.monotonic() + timeout
        while True:
            frame = self._frame(max(0, deadline - time.monotonic()))
            kind, flags, got, data, fds = frame
            if not flags & 1 or got != ident:
                self.queue.append(frame)
                continue
            yield Fields(data), fds
            if not flags & 2:
                return

    def call(self, kind, body=b"", fds=(), timeout=10):
        for fields, got in self.replies(self.start(kind, body, fds), timeout):
            return fields, got

    def recv(self, timeout=10):
        """The next request or notice of the other side: (kind, ident, fields, fds)."""
        for i, frame in enumerate(self.queue):
            if not frame[1] & 1:
                del self.queue[i]
                return frame[0], frame[2], Fields(frame[3]), frame[4]
        deadline = time.monotonic() + timeout
        while True:
            kind, flags, ident, data, fds = self._frame(max(0, deadline - time.monotonic()))
            if flags & 1:
                self.queue.append((kind, flags, ident, data, fds))
                continue
            return kind, ident, Fields(data), fds

    def reply(self, ident, body=b"", fds=(), more=False):
        self.send(0, body, fds, flags=1 | (2 if more else 0), ident=ident)


class Process:
    """One control-plane process, started as the supervisor would: fd 3 control, fd 4 configuration, `extra` from fd 5 on."""

    def __init__(self, binary, config, peers=(), extra=(), env=None):
        self.control = Link()
        self.links = {}
        conf = os.memfd_create("config")
        os.write(conf, json.dumps(config).encode())
        os.lseek(conf, 0, 0)
        # Descriptors above the targets first, so that no dup2 overwrites a source.
        sources = [os.dup(fd) for fd in (self.control.peer.fileno(), conf, *extra)]
        high = [__import__("fcntl").fcntl(fd, __import__("fcntl").F_DUPFD, 100) for fd in sources]
        targets = list(range(3, 3 + len(high)))

        def place():
            for src, dst in zip(high, targets):
                os.dup2(src, dst, inheritable=True)

        self.proc = subprocess.Popen([binary], preexec_fn=place, pass_fds=targets, close_fds=True,
                                     stderr=subprocess.PIPE, env=env)
        for fd in sources + high + [conf]:
            os.close(fd)
        self.control.peer.close()
        for peer in peers:
            self.link(peer)

    def link(self, peer):
        """(Re)connects a peer, as after its restart."""
        link = Link()
        self.control.notify(M["CTL_LINK"], u32(M[peer]), [link.peer.fileno()])
        link.peer.close()
        self.links[peer] = link
        return link

    def ready(self, timeout=15):
        while True:
            kind, _, fields, _ = self.control.recv(timeout)
            if kind == M["CTL_READY"]:
                return self
            if kind == M["CTL_NOTICE"]:
                self.notice = fields.str()

    def stop(self, timeout=10):
        """Orderly stop; returns (exit status, stderr)."""
        if self.proc.poll() is None:
            try:
                self.control.notify(M["CTL_STOP"])
            except OSError:
                pass
        try:
            err = self.proc.communicate(timeout=timeout)[1]
        except subprocess.TimeoutExpired:
            self.proc.kill()
            err = self.proc.communicate()[1]
        return self.proc.returncode, err.decode(errors="replace")
