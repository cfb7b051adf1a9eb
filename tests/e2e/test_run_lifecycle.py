"""Exit statuses, signals, the timeout, limits, data through the standard descriptors, and that nothing stays behind."""
import fcntl
import hashlib
import os
import pathlib
import pty
import random
import select
import signal
import struct
import subprocess
import termios
import time

import pytest


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


# ---- exit statuses


@pytest.mark.parametrize("code", [0, 1, 2, 63, 124, 125, 126, 127, 128, 200, 255])
def test_the_exit_status_is_the_commands_own(box, code):
    assert box.run("--", "sh", "-c", "exit %d" % code).returncode == code


@pytest.mark.parametrize("name", ["TERM", "KILL", "INT", "SEGV", "USR1"])
def test_death_by_a_signal_is_128_plus_its_number(box, name):
    assert box.run("--", "sh", "-c", "kill -%s $$; sleep 60" % name).returncode == 128 + getattr(signal, "SIG" + name)


@pytest.mark.parametrize("words,code,sentence", [
    (["--", "no-such-program"], 127, "cannot execute no-such-program"),
    (["--", "/etc"], 126, "cannot execute /etc"),
    (["--", "/etc/passwd"], 126, "cannot execute /etc/passwd"),
])
def test_a_command_that_cannot_run_says_so(box, words, code, sentence):
    done = box.run(*words)
    assert done.returncode == code
    assert sentence in done.stderr


def test_an_orphan_is_reaped_and_ends_with_the_command(box):
    marker = "8%06d" % random.randrange(10**6)
    assert box.sh("(sleep %s &) ; (true &) ; echo done" % marker) == "done\n"
    eventually(lambda: not processes_of(marker))


# ---- signals and the timeout


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1"])
def test_a_signal_to_the_caller_is_forwarded(box, name):
    process = box.start("--", "sh", "-c", "trap 'echo got %s; exit 7' %s; echo ready; while :; do sleep 0.1; done" % (name, name))
    assert process.stdout.readline() == "ready\n"
    process.send_signal(getattr(signal, "SIG" + name))
    out, _ = process.communicate(timeout=30)
    assert (out, process.returncode) == ("got %s\n" % name, 7)


def test_the_timeout_kills_a_tree_that_ignores_signals(box):
    marker = "7%06d" % random.randrange(10**6)
    done = box.run("--timeout", "500ms", "--", "sh", "-c",
                   "trap '' TERM INT HUP; for i in 1 2 3; do (trap '' TERM; setsid sleep %s) & done; sleep %s" % (marker, marker))
    assert done.returncode == 137
    assert "--timeout" in done.stderr
    eventually(lambda: not processes_of(marker))


def test_the_timeout_strikes_while_the_input_is_not_read(box):
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as endless:
        done = box.run("-t", "--timeout", "500ms", "--", "sleep", "60", stdin_fd=endless.stdout, timeout=20)
        endless.kill()
    assert done.returncode == 137


# ---- limits


def test_the_memory_limit_kills_and_says_so(root_box):
    done = root_box.run("--memory", "16M", "--", "sh", "-c", "x=0123456789abcdef; while :; do x=$x$x; done")
    assert done.returncode == 137
    assert "memory limit was reached" in done.stderr


def pids_group(pid):
    """The directory of that run's sandbox in the hierarchy that counts processes."""
    def found():
        return [p for p in map(pathlib.Path, cgroups()) if p.name == "run-%d" % pid and (p / "pids.max").exists()]

    eventually(found)
    return found()[0]


def test_the_pids_limit_stops_a_fork_bomb(root_box):
    process = root_box.start("--pids", "12", "--", "sh", "-c", "(for i in $(seq 40); do sleep 60 & done; echo all); read wait", stdin=subprocess.PIPE)
    try:
        group = pids_group(process.pid)
        assert (group / "pids.max").read_text() == "12\n"
        # The kernel counts the forks it refused (pids.events); a shell that was refused one ends, so 12 may be seen only briefly.
        eventually(lambda: int((group / "pids.events").read_text().split()[1]) > 0)
        assert "can't fork" in process.stderr.readline()
        assert (group / "pids.current").read_text() in ("11\n", "12\n")  # the shell that could not fork has ended or is about to
    finally:
        process.terminate()
        out, _ = process.communicate(timeout=30)
    assert "all" not in out


def test_the_cpu_limit_is_in_the_kernels_file(root_box):
    process = root_box.start("--cpus", "0.25", "--", "sh", "-c", "echo ready; sleep 60")
    try:
        assert process.stdout.readline() == "ready\n"
        groups = [pathlib.Path(g) for g in cgroups() if g.endswith("run-%d" % process.pid)]
        text = [(g / n).read_text().split()[0] for g in groups for n in ("cpu.max", "cpu.cfs_quota_us") if (g / n).exists()]
        assert text == ["25000"]
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert not [g for g in cgroups() if g.endswith("run-%d" % process.pid)]


def test_a_limit_the_host_cannot_enforce_is_an_error(rootless_box):
    if any(os.access(d, os.W_OK) for d in ("/sys/fs/cgroup/memory",)) and os.geteuid() != 0:
        pytest.skip("this user may create memory cgroups")
    done = rootless_box.run("--memory", "64M", "--", "true")
    assert done.returncode == 125
    assert len(done.stderr.splitlines()) == 1, "the error says all there is to say"
    assert done.stderr.startswith("ironclaw: ") and "memory limit cannot be enforced" in done.stderr


def test_rootless_says_in_one_line_what_is_missing(rootless_box):
    lines = rootless_box.run("--", "true").stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("ironclaw: warning: rootless:")


def test_resource_limits_are_set(box):
    limits = {line[:26].strip(): line[26:].split()[0] for line in box.sh("cat /proc/self/limits").splitlines()[1:]}
    assert limits["Max core file size"] == "0"
    assert int(limits["Max open files"]) <= 1024
    assert int(limits["Max locked memory"]) <= 64 << 10


# ---- data


def test_ten_mebibytes_pass_both_ways_unchanged(box):
    data = os.urandom(10 << 20)
    done = box.run("--", "cat", text=False, stdin=data)
    assert done.returncode == 0
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_a_reader_that_goes_away_ends_the_command(box):
    with box.start("--", "yes", stderr=subprocess.DEVNULL) as process:
        assert process.stdout.readline() == "y\n"
        process.stdout.close()
        assert process.wait(timeout=30) == 128 + signal.SIGPIPE


def test_closed_standard_descriptors_become_the_null_device(box):
    line = " ".join(box.argv("--", "sh", "-c", "'cat; echo x; exit 5'"))
    done = subprocess.run(["sh", "-c", line + " <&- >&-"], capture_output=True, timeout=30, **box.options())
    assert done.returncode == 5


# ---- the terminal


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


def test_a_terminal_of_its_own_with_the_callers_size(box):
    with Terminal(box, "-t", "--", "sh", "-c", "tty && stty size && echo a-terminal") as t:
        t.expect("/dev/pts/0")
        t.expect("33 77")
        t.expect("a-terminal")
        assert t.process.wait(timeout=30) == 0
        assert termios.tcgetattr(t.slave) == t.before


def test_a_new_window_size_arrives(box):
    with Terminal(box, "-t", "--", "sh", "-c", "trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done") as t:
        t.expect("ready")
        fcntl.ioctl(t.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 88, 0, 0))
        t.process.send_signal(signal.SIGWINCH)
        t.expect("44 88")


def test_control_c_interrupts_and_control_d_ends_the_input(box):
    with Terminal(box, "-t", "--", "sh", "-c", "trap 'echo int' INT; echo ready; cat; echo eof; cat; echo end") as t:
        t.expect("ready")
        t.type(b"hello\n")
        t.expect("hello\r\nhello")  # the echo of the terminal, then cat: it runs and reads
        t.type(b"\x03")
        t.expect("int")
        t.expect("eof")
        t.type(b"\x04")
        t.expect("end")
        assert t.process.wait(timeout=30) == 0
        assert termios.tcgetattr(t.slave) == t.before


def test_the_callers_terminal_never_gets_inside(box):
    with Terminal(box, "--", "sh", "-c", "for f in 0 1 2; do [ -t $f ] && echo LEAK; done; (: </dev/tty) 2>/dev/null && echo LEAK; echo checked") as t:
        t.expect("checked")
        assert b"LEAK" not in t.seen
        assert t.process.wait(timeout=30) == 0


# ---- nothing stays behind


def host_state(box):
    return {"mounts": open("/proc/self/mountinfo").read(),
            "state": sorted(str(p) for p in (box.base / "state").rglob("*")), "tmp": {n for n in os.listdir("/tmp") if "ironclaw" in n and "test" not in n}}


def test_two_hundred_runs_leave_the_host_as_it_was(box):
    box.sh("true")
    before = host_state(box)
    pids = []
    for _ in range(200):
        process = box.start("--", "true", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert process.wait(timeout=30) == 0
        pids.append(process.pid)
    assert host_state(box) == before
    # gone when the command returns, not by a later sweep; other sandboxes of this host may come and go
    assert [g for g in cgroups() if int(g.rsplit("-", 1)[1]) in pids] == []


def test_killing_it_at_any_moment_leaves_no_process_and_no_mount(box):
    box.sh("true")
    mounts = open("/proc/self/mountinfo").read()
    marker = "6%06d" % random.randrange(10**6)
    pids = []
    for _ in range(50):
        process = box.start("--", "sleep", marker, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(random.random() * 0.03)  # not a wait: the moment of the kill is what varies
        process.kill()
        process.wait(timeout=30)
        pids.append(process.pid)
    eventually(lambda: not processes_of(marker))
    assert open("/proc/self/mountinfo").read() == mounts

    def swept():
        box.sh("true")
        return not [g for g in cgroups() if int(g.rsplit("-", 1)[1]) in pids]

    eventually(swept)
