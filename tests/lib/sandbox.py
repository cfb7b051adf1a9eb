"""What tests of `ironclaw run` look at from the host's side: cgroups, processes, a terminal of the caller's."""
import fcntl
import os
import pathlib
import pty
import select
import struct
import termios
import time


def eventually(check, timeout=20):
    deadline = time.monotonic() + timeout
    while not check():
        assert time.monotonic() < deadline, "it did not happen within %s s" % timeout
        time.sleep(0.02)


def cgroups():
    """Directories of sandboxes in every hierarchy."""
    return sorted(str(p) for p in pathlib.Path("/sys/fs/cgroup").glob("**/ironclaw/run-*"))


def processes_of(marker):
    """Host processes whose command line holds the marker."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (entry / "cmdline").read_bytes() and int(entry.name) != os.getpid():
                found.append(int(entry.name))
        except OSError:
            pass
    return found


class Terminal:
    """`ironclaw run` under a pseudo-terminal of the test's."""

    def __init__(self, box, *words):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        self.slave, self.before, self.seen = slave, termios.tcgetattr(slave), b""
        self.process = box.start(*words, stdin=slave, stdout=slave, stderr=slave, text=False, start_new_session=True)

    def expect(self, text, timeout=30):
        deadline = time.monotonic() + timeout
        while text.encode() not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.master], [], [], 0.2)[0]:
                self.seen += os.read(self.master, 4096)
        self.seen = self.seen.split(text.encode(), 1)[1]

    def type(self, data):
        os.write(self.master, data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=30)
        os.close(self.master)
        os.close(self.slave)
