"""The host's side of the cell wall, with a stand-in for the cell's kernel that keeps the rules or breaks them (fake_cell.c), and what the real one
must not change about it. What every wall promises is in test_wall_conformance.py."""
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from sandbox import cgroups, eventually  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
MODES = ["root", "rootless"]


@pytest.fixture(params=MODES)
def cell(request, boxes):
    """The real kernel."""
    return boxes("cell", request.param)


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    path = tmp_path_factory.mktemp("cell") / "ironclaw-cell"
    subprocess.run(["musl-gcc", "-static", "-std=gnu17", "-D_GNU_SOURCE", "-O1", "-I", HERE.parents[1] / "src", "-idirafter", "/usr/include",
                    "-idirafter", "/usr/include/x86_64-linux-gnu", "-o", path, HERE / "fake_cell.c"], check=True, timeout=60)
    return path


@pytest.fixture(params=MODES)
def fake(request, boxes, stand_in):
    """A copy of the binaries whose kernel is the stand-in; what runs is its first word."""
    real = boxes("cell", request.param)
    home = real.base / "fake"
    if not home.exists():
        shutil.copytree(real.base / "out", home / "out")
        shutil.copy(stand_in, home / "out/libexec/ironclaw/ironclaw-cell")
        (home / "out/libexec/ironclaw/ironclaw-cell").chmod(0o755)
        os.chown(home, real.uid, real.uid)
    box = type(real)(home, "cell", request.param)
    box.run("--", "exit", "0")  # makes the image
    return box


def children(pid):
    out = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, timeout=20).stdout
    return [int(p) for p in out.split()]


def warden_and_cell(run):
    """The two host processes of a run, once they are there."""
    found = []

    def there():
        found[:] = [(w, c[0]) for w in children(run.pid) for c in [children(w)] if c]
        return bool(found)

    eventually(there)
    return found[0]


# ---- the end


@pytest.mark.parametrize("status,code", [(0, 0), (7 << 8, 7), (255 << 8, 255), (signal.SIGTERM, 143), (signal.SIGSEGV | 0x80, 139)])
def test_the_exit_status_is_the_workloads(fake, status, code):
    assert fake.run("--", "exit", status).returncode == code


def test_output_before_the_end_arrives_and_input_ends(fake):
    data = os.urandom(3 << 20)
    done = fake.run("--", "echo", stdin=data, text=False)
    assert done.stdout == data
    assert done.returncode == 5 and done.stderr.endswith(b"end of input\n")


def test_the_end_of_the_output_arrives_before_the_end_of_the_cell(fake):
    process = fake.start("--", "echo", stdin=subprocess.PIPE)
    process.stdin.write("x")
    process.stdin.close()
    assert process.stdout.read() == "x"
    assert process.wait(timeout=20) == 5


def test_a_panic_is_reported_within_a_second(fake):
    before = time.monotonic()
    done = fake.run("--", "panic")
    assert time.monotonic() - before < 1.5
    assert done.returncode == 125
    assert "last words\n" in done.stderr
    assert "kernel panic in the cell: something ?[31mbroke?\n" in done.stderr


def test_a_panic_is_reported_although_nobody_reads_the_output(fake):
    process = fake.start("--", "flood-at-exit")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=2)  # the workload's last output waits for its reader
    process.stdout.read(1 << 20)
    assert process.wait(timeout=20) == 3
    process.stdout.close()


@pytest.mark.parametrize("word,sentence", [("early-panic", "kernel panic in the cell: no memory"), ("early-death", "did not start (status 6)")])
def test_a_kernel_that_does_not_start_is_a_launch_error(fake, word, sentence):
    done = fake.run("--", word)
    assert done.returncode == 125
    assert sentence in done.stderr and done.stderr.count("ironclaw:") == (2 if "warning" in done.stderr else 1)


@pytest.mark.parametrize("name,code,sentence", [("SEGV", 125, "killed by signal 11"), ("SYS", 125, "killed by its system call filter"),
                                                ("ABRT", 125, "killed by signal 6"), ("KILL", 137, "")])
def test_a_kernel_that_dies_without_a_word_is_reported(fake, name, code, sentence):
    done = fake.run("--", "die", int(getattr(signal, "SIG" + name)))
    assert done.returncode == code and done.stdout == "before\n"
    assert sentence in done.stderr


def test_a_command_that_cannot_be_executed_says_so(fake):
    done = fake.run("--", "noexec")
    assert done.returncode == 127 and "cannot execute it" in done.stderr


@pytest.mark.parametrize("state", [6, 77, 4294967295])
def test_a_state_that_is_none_ends_the_cell(fake, state):
    done = fake.run("--", "state", state)
    assert done.returncode == 125 and "ironclaw: " in done.stderr


# ---- the streams


def test_a_flood_ends_when_its_reader_does(fake):
    process = fake.start("--", "flood", text=False)
    assert len(process.stdout.read(10 << 20)) == 10 << 20
    process.stdout.close()
    assert process.wait(timeout=20) == 128 + signal.SIGPIPE


def test_the_end_of_the_workload_ends_a_flood_of_others(fake):
    assert fake.run("--", "flood-at-exit", text=False).returncode == 3


def test_every_stream_can_be_asked_for_and_comes_back(fake):
    assert fake.run("--", "connect").stdout == "253 refused\n"


@pytest.mark.parametrize("seed", range(4))
def test_a_cell_that_scribbles_over_everything_still_ends(fake, seed):
    done = fake.run("--timeout", "20s", "--", "scribble", seed, stdin=b"x" * 100000, text=False)
    assert done.returncode == 9, done.stderr


# ---- the envelope


def test_a_cell_has_three_descriptors_and_nothing_else_of_the_host(fake):
    said = fake.run("--", "look").stdout.splitlines()
    assert [line for line in said if line.startswith("fd ")] == ["fd 3", "fd 4", "fd 5"]
    assert "descriptors 3 of 0, a new one: No file descriptors available" in said
    assert {"image writable: no", "memory can shrink: no", "files: no no"} <= set(said)
    assert [line for line in said if line.startswith("uid ")] == [
        "uid 1000 pid 1 no_new_privs 1 bounding empty dies with the warden: yes, signals it: no"]


def test_signals_come_from_the_host_only(fake):
    process = fake.start("--", "signals")
    assert process.stdout.readline() == "ready\n"
    for sig in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
        process.send_signal(sig)
        assert process.stdout.readline() == "signal %d\n" % sig
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "signal 15\n"
    assert process.wait(timeout=20) == 143


def test_orphans_are_reaped(fake):
    if fake.mode == "rootless":
        pytest.skip("no pids limit to tell by")
    done = fake.run("--pids", "40", "--", "orphans")
    assert done.stdout == "all forked\n", done.stderr


# ---- violence


def test_nothing_is_left_whoever_is_killed(cell):
    for victim in ("warden", "kernel", "run"):
        process = cell.start("--", "sh", "-c", "sleep 100 & sleep 100")
        warden, kernel = warden_and_cell(process)
        time.sleep(random.random() * 0.05)
        os.kill({"warden": warden, "kernel": kernel, "run": process.pid}[victim], signal.SIGKILL)
        process.wait(timeout=20)
        eventually(lambda: not any(os.path.exists("/proc/%d" % p) for p in (warden, kernel)))
    cell.run("--", "true")
    assert not [g for g in cgroups() if g.endswith("run-%d" % process.pid)]


def test_a_fault_in_the_kernel_is_reported_and_not_survived(cell):
    process = cell.start("--", "sleep", "100")
    _, kernel = warden_and_cell(process)
    time.sleep(0.3)
    os.kill(kernel, signal.SIGSEGV)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 125 and "ironclaw: " in err, err


def test_a_cell_that_is_stopped_and_continued_goes_on(cell):
    process = cell.start("--", "sh", "-c", "sleep 1; echo done")
    warden, kernel = warden_and_cell(process)
    time.sleep(0.3)
    tree = [kernel]
    for p in tree:
        tree += children(p)
    for sig in (signal.SIGSTOP, signal.SIGCONT):
        for p in tree:
            os.kill(p, sig)
        time.sleep(0.2)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "done\n"), err


# ---- files of the host


def test_a_file_is_opened_with_the_rights_of_the_sandbox(cell):
    if cell.mode == "rootless":
        pytest.skip("the sandbox has the caller's rights")
    secret = cell.base / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)  # root's
    done = cell.run("--mount", "%s:/secret" % secret, "--", "cat", "/secret")
    assert done.returncode == 125 and "Permission denied" in done.stderr and "secret" not in done.stdout
    secret.chmod(0o644)
    assert cell.run("--mount", "%s:/secret" % secret, "--", "cat", "/secret").stdout == "secret"


# ---- the image


def test_an_image_is_made_once_and_goes_with_its_tree(cell):
    tree = cell.directory("tree")
    cell.sh("true")
    shutil.copytree(cell.base / "state/images/base/rootfs", tree / "root", symlinks=True)
    env = {**cell.env}
    subprocess.run([cell.binary, "image", "import", "mine", tree / "root"], check=True, timeout=60, **{**cell.options(), "env": env})
    place = cell.base / "state/images/mine"
    assert cell.run("--image", "mine", "--", "true").returncode == 0
    made = (place / "image.erofs").stat()
    assert cell.run("--image", "mine", "--", "true").returncode == 0
    assert (place / "image.erofs").stat().st_ino == made.st_ino
    assert sorted(p.name for p in place.iterdir()) == ["image.erofs", "rootfs"]
    subprocess.run([cell.binary, "image", "rm", "mine"], check=True, timeout=60, **{**cell.options(), "env": env})
    assert not place.exists()


def test_a_directory_as_root_is_read_as_it_is_now(cell):
    tree = cell.directory("changing")
    cell.sh("true")
    shutil.copytree(cell.base / "state/images/base/rootfs", tree / "root", symlinks=True)
    for text in ("first", "second"):
        (tree / "root/etc/said").write_text(text)
        assert cell.run("--rootfs", tree / "root", "--", "cat", "/etc/said").stdout == text
