"""The host's side of the cell wall, with a stand-in for the cell's kernel that keeps the rules or breaks them (fake_cell.c), and what the real one
must not change about it. What every wall promises is in test_wall_conformance.py."""
import hashlib
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


def tree_of(cell, name, files, size):
    """A directory of files 000, 001 ..., each of `size` bytes: lines with its number. Made once for a mode."""
    place = cell.base / name
    if not place.exists():
        cell.directory(name)
        for k in range(files):
            (place / ("%03d" % k)).write_bytes(contents(k, size))
            os.chown(place / ("%03d" % k), cell.uid, cell.uid)
    return place


def limited(cell, memory):
    """A limit needs a cgroup, which not everybody may create."""
    return ("--memory", memory) if cell.mode == "root" else ()


def contents(k, size):
    return ((b"%03d " % k) * 255 + b"end\n") * (size // 1024)


def test_a_workspace_may_be_larger_than_the_memory(cell):
    size, n = 1 << 20, 300
    work = tree_of(cell, "large", n, size)
    options = (*limited(cell, "64M"), "--workspace", work)
    began = time.monotonic()
    cell.sh("true", *options)
    assert time.monotonic() - began < 3
    assert cell.sh("ls -l 007 | awk '{ print $5 }'; md5sum <007; du -k 007", *options).split() == [
        str(size), hashlib.md5(contents(7, size)).hexdigest(), "-", str(size // 1024), "007"]
    assert cell.sh("grep -rlF '123 end' . ; grep -rF 'end' . | wc -l", *options) == "./123\n%d\n" % (n * size // 1024)
    # What is changed early is dropped and comes back as it was changed; the time stamps of what is not written stay.
    cell.sh("""stat -c %Y * >/tmp/before
        for k in 000 111 299; do echo more >>$k; done
        cat * | wc -c
        for k in 000 111 299; do tail -n 1 $k | grep -q more || exit 3; stat -c %Y $k >>/tmp/times; done
        cat * >/dev/null
        for k in 000 111 299; do stat -c %Y $k; done | cmp - /tmp/times || exit 4
        stat -c %Y * | diff /tmp/before - | grep -c '^>' | grep -qx '[0-3]' || exit 5
        mv 001 moved && echo moved >>moved && rm 002 && head -c 40000000 /dev/zero >zeros""", *options)
    assert [(work / k).read_bytes() for k in ("000", "111", "299")] == [contents(k, size) + b"more\n" for k in (0, 111, 299)]
    assert (work / "moved").read_bytes() == contents(1, size) + b"moved\n" and not (work / "001").exists() and not (work / "002").exists()
    assert (work / "zeros").read_bytes() == bytes(40000000)
    shutil.rmtree(work)


def test_a_file_larger_than_the_memory_cannot_be_opened_and_others_can(cell):
    if not limited(cell, "64M"):
        pytest.skip("rootless: no limit")
    work = cell.directory("one")
    with open(work / "huge", "wb") as f:
        for _ in range(80):
            f.write(b"x" * (1 << 20))
    (work / "small").write_text("small")
    done = cell.run("--memory", "64M", "--workspace", work, "--", "sh", "-c", "stat -c %s huge; cat huge; cat small; : >huge; echo new >huge; cat huge")
    assert done.stdout == "%d\nsmallnew\n" % (80 << 20), done.stderr
    assert "huge" in done.stderr and "No space left on device" in done.stderr
    assert (work / "huge").read_text() == "new\n"


def test_what_the_host_changes_before_a_file_is_opened_is_seen_then(cell):
    work = cell.directory("changing-files")
    secret = cell.base / "outside-of-it"
    secret.write_text("secret")
    for name in ("open", "changed", "gone", "link", "directory", "fifo", "kept"):
        (work / name).write_text("first\n")
        os.chown(work / name, cell.uid, cell.uid)
    script = """exec 4<open; cat kept; echo up; read go; cat changed; stat -c %s changed; cat kept; cat <&4
        for f in gone link directory fifo; do cat $f && echo $f; done; ls | wc -l"""
    process = cell.start("--workspace", work, "--", "sh", "-c", script, stdin=subprocess.PIPE)
    assert (process.stdout.readline(), process.stdout.readline()) == ("first\n", "up\n")
    for name in ("changed", "kept", "open"):
        (work / name).write_text("second time\n")
    for name in ("gone", "link", "directory", "fifo"):
        (work / name).unlink()
    (work / "link").symlink_to(secret)
    (work / "directory").mkdir()
    os.mkfifo(work / "fifo")
    out, err = process.communicate("\n", timeout=30)
    # What was opened before is as it was then, what was not is as it is now, what cannot be had is an error.
    assert out == "second time\n12\nfirst\nfirst\n7\n", (out, err)
    assert "'gone': No such file or directory" in err and err.count("cat: ") == 4, err


def test_a_file_of_somebody_else_is_an_error_and_not_empty(cell):
    if os.geteuid() != 0:
        pytest.skip("not root: there is nobody else")
    work = cell.directory("others-meanwhile")
    (work / "theirs").write_text("secret")
    (work / "theirs").chmod(0o600)
    os.chown(work / "theirs", 12345, 12345)
    (work / "locked").write_text("mine")
    os.chown(work / "locked", cell.uid, cell.uid)
    (work / "locked").chmod(0o200)
    done = cell.run("--workspace", work, "--", "sh", "-c", "cat theirs; cat locked; chmod 600 locked; cat locked; echo more >>locked; chmod 0 locked")
    assert done.stdout == "mine" and done.stderr.count("Permission denied") == 2, done
    assert (work / "locked").read_text() == "minemore\n" and (work / "locked").stat().st_mode & 0o777 == 0


def test_a_file_can_be_mounted_and_is_read_when_it_is_opened(cell):
    file = cell.base / "mounted-file"
    file.write_bytes(contents(5, 1 << 20))
    os.chown(file, cell.uid, cell.uid)
    script = "stat -c %s /f; cmp /f /f && md5sum </f; (echo x >/f) 2>/dev/null || echo no"
    assert cell.sh(script, "--mount", "%s:/f" % file).split() == [str(1 << 20), hashlib.md5(file.read_bytes()).hexdigest(), "-", "no"]
    cell.sh("echo x >>/f; truncate -s 3 /f", "--mount", "%s:/f:rw" % file)
    assert file.read_bytes() == contents(5, 1024)[:3]


MANY = r"""
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
enum { THREADS = 16, FILES = 200, ROUNDS = 1 };
static int wrong;
static void *run(void *arg)
{
    unsigned seed = (unsigned)(long)arg;
    char name[16], *buf = malloc(1 << 20);
    for (int i = 0; i < FILES * ROUNDS; i++) {
        int k = rand_r(&seed) % FILES, fd;
        long n, size = 0;
        snprintf(name, sizeof(name), "%03d", k);
        fd = open(name, O_RDONLY);
        while (fd >= 0 && (n = read(fd, buf, 1 << 20)) > 0) {
            for (long at = 0; at < n; at += 4)
                if (memcmp(buf + at, name, 3) && memcmp(buf + at, "end", 3))
                    __atomic_fetch_add(&wrong, 1, __ATOMIC_SEQ_CST);
            size += n;
        }
        if (fd < 0 || size != 256 << 10)
            __atomic_fetch_add(&wrong, 1, __ATOMIC_SEQ_CST);
        close(fd);
    }
    return NULL;
}
int main(void)
{
    pthread_t t[THREADS];
    for (long i = 0; i < THREADS; i++)
        pthread_create(&t[i], NULL, run, (void *)(i + 1));
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    printf("wrong: %d\n", wrong);
    return 0;
}
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    path = tmp_path_factory.mktemp("many") / "many"
    subprocess.run(["musl-gcc", "-static", "-std=gnu17", "-D_GNU_SOURCE", "-O1", "-pthread", "-x", "c", "-", "-o", path], input=MANY.encode(), check=True,
                   timeout=60)
    path.parent.chmod(0o755)
    return path


def test_many_threads_open_many_files_at_once(cell, many):
    work = tree_of(cell, "many-files", 200, 256 << 10)
    shutil.copy(many, work / "run")
    (work / "run").chmod(0o755)
    # Room for some of them: they are dropped and come again all the time.
    done = cell.run(*limited(cell, "96M"), "--workspace", work, "--", "./run", timeout=120)
    assert (done.returncode, done.stdout) == (0, "wrong: 0\n"), done
    done = cell.run(*limited(cell, "96M"), "--workspace", work, "--", "sh", "-c", "./run & ./run & wait", timeout=120)
    assert (done.returncode, done.stdout) == (0, "wrong: 0\n" * 2), done


def file_server(run):
    warden, _ = warden_and_cell(run)
    names = {p: pathlib.Path("/proc/%d/cmdline" % p).read_bytes() for p in children(warden)}
    return next(p for p, name in names.items() if name.startswith(b"ironclaw-files"))


def test_a_file_server_that_is_killed_ends_a_wait_with_an_error(cell):
    work = tree_of(cell, "server", 3, 1 << 20)
    script = "cat 001 | wc -c; echo up; read go; cat 000; echo $?; cat 001 | wc -c; cat 002; echo $?"
    process = cell.start("--workspace", work, "--", "sh", "-c", script, stdin=subprocess.PIPE)
    assert (process.stdout.readline(), process.stdout.readline()) == ("%d\n" % (1 << 20), "up\n")
    server = file_server(process)
    os.kill(server, signal.SIGSTOP)
    process.stdin.write("\n")
    process.stdin.flush()
    time.sleep(0.5)  # it waits for the contents
    assert process.poll() is None
    os.kill(server, signal.SIGKILL)
    out, err = process.communicate(timeout=30)
    assert out == "1\n%d\n1\n" % (1 << 20) and err.count("Input/output error") == 2, (out, err)


def test_a_file_server_that_is_killed_while_it_sends_is_no_hang(cell):
    work = tree_of(cell, "sending", 60, 1 << 20)
    for _ in range(3):
        script = """echo up; read go; n=0; while test $n -lt 30 && cat * >/dev/null; do n=$((n + 1)); done 2>/tmp/errors
            grep -c 'Input/output error' /tmp/errors"""
        process = cell.start(*limited(cell, "128M"), "--workspace", work, "--", "sh", "-c", script, stdin=subprocess.PIPE)
        assert process.stdout.readline() == "up\n"
        server = file_server(process)
        process.stdin.write("\n")
        process.stdin.flush()
        time.sleep(random.random() * 0.1)
        os.kill(server, signal.SIGKILL)
        out, err = process.communicate(timeout=60)
        # Without a limit all of it may have been there already.
        assert cell.mode == "rootless" or int(out) >= 1, (out, err)


def test_a_program_that_waits_for_a_file_can_be_killed(cell):
    work = tree_of(cell, "waiting", 2, 1 << 20)
    script = "echo up; read go; cat 000 & sleep 0.3; kill -9 $!; wait $!; echo $?; timeout 0.3 cat 001; echo $?"
    process = cell.start("--workspace", work, "--", "sh", "-c", script, stdin=subprocess.PIPE)
    assert process.stdout.readline() == "up\n"
    server = file_server(process)
    os.kill(server, signal.SIGSTOP)
    process.stdin.write("\n")
    process.stdin.flush()
    assert [process.stdout.readline() for _ in range(2)] == ["137\n", "143\n"]
    os.kill(server, signal.SIGCONT)
    process.communicate(timeout=30)


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
