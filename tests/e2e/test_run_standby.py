"""Ready cells: `ironclaw run --standby N` keeps them, a later run of the same user, image and limits takes one. What such a run promises is
what every run does; that it took a ready cell shows in whose children its processes are."""
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from sandbox import eventually, processes_of  # noqa: E402

MODES = ["root", "rootless"]


@pytest.fixture(params=MODES)
def cell(request, boxes):
    return boxes("cell", request.param)


def groups():
    return [str(p) for p in pathlib.Path("/sys/fs/cgroup").glob("**/ironclaw/standby-*")]


def sockets(box):
    return sorted(p for p in (box.base / "state").glob("standby-*"))


def children(pid):
    try:
        return [int(p) for t in pathlib.Path("/proc/%d/task" % pid).iterdir() for p in (t / "children").read_text().split()]
    except OSError:
        return []


class Standby:
    """A server that is ready; its end must leave nothing."""

    def __init__(self, box, count, *options):
        self.box, others = box, set(sockets(box))
        self.process = box.start("--standby", count, *options)
        self.first_line = self.process.stdout.readline()
        assert "%d cell" % count in self.first_line, self.process.stderr.read()
        self.own = set(sockets(box)) - others

    def keepers(self):
        return children(self.process.pid)

    def wait_ready(self, count):
        eventually(lambda: len([k for k in self.keepers() if any(children(w) for w in children(k))]) == count)
        time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=20)
        assert not self.own & set(sockets(self.box))
        eventually(lambda: not [g for g in groups() if not pathlib.Path("/proc", g.rsplit("-", 1)[1]).exists()])


def read(path):
    try:
        return path.read_text()
    except OSError:
        return ""


def wardens():
    return [int(p.parent.name) for p in pathlib.Path("/proc").glob("[0-9]*/comm") if read(p) == "ironclaw-warden\n"]


def parent(pid):
    """0: it has ended."""
    stat = read(pathlib.Path("/proc/%d/stat" % pid))
    return int(stat.rsplit(")", 1)[1].split()[1]) if stat else 0


def is_idle(keeper):
    """It still listens."""
    names = [os.readlink(f) for f in pathlib.Path("/proc/%d/fd" % keeper).iterdir()]
    inodes = {n[len("socket:["):-1] for n in names if n.startswith("socket:[")}
    # A connection shows the path of the socket that it was made through; the one that listens has SO_ACCEPTCON.
    return any("/standby-" in line and line.split()[3] == "00010000" and line.split()[6] in inodes for line in read(pathlib.Path("/proc/net/unix")).splitlines()[1:])


def is_from(box, pid):
    try:
        return os.readlink("/proc/%d/exe" % pid) == str(box.binary)
    except OSError:
        return False


def leased(box):
    """Parents of cells that do not wait for anybody: keepers whose cell was taken, and runs that built their own."""
    found = []
    for warden in wardens():
        try:
            keeper = parent(warden)
            if is_from(box, keeper) and not is_idle(keeper):
                found.append(keeper)
        except (OSError, IndexError):
            pass
    return found


def start_leased(box, *words):
    """A run that has a ready cell, and no child of its own. On a busy machine it may lose patience and build one: once more, then."""
    for _ in range(10):
        run = box.start(*words)
        eventually(lambda: leased(box))
        if run.pid not in leased(box) and not children(run.pid):
            return run
        run.kill()
        run.communicate(timeout=20)
        eventually(lambda: run.pid not in leased(box))
    raise AssertionError("ten runs in a row built a cell of their own")


def test_a_run_takes_a_ready_cell_and_is_like_any_other(cell):
    with Standby(cell, 2) as server:
        done = cell.run("--env", "WORD=here", "--", "sh", "-c", "cat; echo $WORD; id -u; echo bad >&2; exit 7", stdin="from outside\n")
        assert (done.returncode, done.stdout) == (7, "from outside\nhere\n1000\n")
        assert [line for line in done.stderr.splitlines() if "warning" not in line] == ["bad"]
        run = start_leased(cell, "--", "sh", "-c", "echo started; exec sleep 30")
        assert run.stdout.readline() == "started\n"
        run.send_signal(signal.SIGTERM)
        assert run.wait(timeout=20) == 143


def test_every_run_gets_a_cell_of_its_own(cell):
    with Standby(cell, 1) as server:
        for i in range(6):
            done = cell.run("--", "sh", "-c", "ls -A /tmp; touch /tmp/here; echo %d" % i)
            assert done.stdout == "%d\n" % i
        server.wait_ready(1)


def test_many_runs_at_once_all_run_once(cell):
    with Standby(cell, 2):
        runs = [cell.start("--", "sh", "-c", "echo run %d" % i) for i in range(12)]
        assert [r.communicate(timeout=60)[0] for r in runs] == ["run %d\n" % i for i in range(12)]
        assert all(r.returncode == 0 for r in runs)


@pytest.mark.parametrize("options", [["--memory", "64M"], ["--pids", "16"], ["--workspace", "."], ["-t"]])
def test_what_does_not_fit_is_built_as_ever(cell, options):
    with Standby(cell, 1) as server:
        if "--workspace" in options:
            options = ["--workspace", cell.directory("fits-not")]
        before = server.keepers()
        done = cell.run(*options, "--", "echo", "fine")
        if "cannot be enforced" in done.stderr:  # where no cgroup is delegated: it went the usual way as well
            assert done.returncode == 125 and cell.mode == "rootless"
        else:
            assert done.stdout.strip() == "fine" and done.returncode == 0, done.stderr
        assert server.keepers() == before


def test_limits_of_its_own_can_be_kept_ready(boxes):
    cell = boxes("cell", "root")
    with Standby(cell, 1, "--memory", "64M", "--pids", "20"), Standby(cell, 1):
        run = start_leased(cell, "--memory", "64M", "--pids", "20", "--", "sleep", "30")
        assert any(pathlib.Path(g, "memory.limit_in_bytes").exists() and pathlib.Path(g, "memory.limit_in_bytes").read_text() == "67108864\n"
                   or pathlib.Path(g, "memory.max").exists() and pathlib.Path(g, "memory.max").read_text() == "67108864\n" for g in groups())
        run.kill()
        run.wait(timeout=20)
        done = cell.run("--memory", "64M", "--pids", "20", "--", "sh", "-c", "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo ${#x}", timeout=60)
        assert done.returncode != 0


def test_a_timeout_and_a_missing_command_are_told_as_ever(cell):
    with Standby(cell, 2):
        done = cell.run("--timeout", "300ms", "--", "sleep", "30")
        assert done.returncode == 137 and "still running after --timeout" in done.stderr
        done = cell.run("--", "no-such-command")
        assert done.returncode == 127 and "cannot execute no-such-command in the sandbox: No such file" in done.stderr
        directory = os.open("/", os.O_RDONLY)
        done = cell.run("--", "true", stdin_fd=directory)
        os.close(directory)
        assert done.returncode == 125 and "standard input is a directory" in done.stderr


def test_the_end_of_the_client_is_the_end_of_the_cell(cell):
    with Standby(cell, 1):
        run = start_leased(cell, "--", "sleep", "4242")
        keeper = leased(cell)[0]
        run.kill()
        run.wait(timeout=20)
        eventually(lambda: not pathlib.Path("/proc/%d" % keeper).exists())
        assert not [g for g in groups() if g.endswith("-%d" % keeper)]


def test_a_run_outlives_the_server(cell):
    server = Standby(cell, 1)
    run = start_leased(cell, "--", "sh", "-c", "sleep 2; echo to the end")
    server.process.kill()  # not even a chance to tidy up
    server.process.wait(timeout=20)
    assert run.communicate(timeout=20)[0] == "to the end\n"
    assert run.returncode == 0
    eventually(lambda: not [w for w in wardens() if is_from(cell, parent(w))])
    with Standby(cell, 1):  # what the killed one left is in nobody's way
        assert cell.run("--", "echo", "next").stdout == "next\n"


def test_a_killed_keeper_ends_its_run_and_is_replaced(cell):
    with Standby(cell, 2) as server:
        server.wait_ready(2)
        os.kill(server.keepers()[0], signal.SIGKILL)
        server.wait_ready(2)
        run = start_leased(cell, "--", "sleep", "30")
        os.kill(leased(cell)[0], signal.SIGKILL)
        assert run.wait(timeout=20) == 137


def test_two_servers_for_the_same_cells_are_one_too_many(cell):
    with Standby(cell, 1):
        done = cell.run("--standby", 1)
        assert done.returncode == 125 and "such cells are kept ready already" in done.stderr


@pytest.mark.parametrize("words,sentence", [
    (["--standby", "0"], "--standby takes a number from 1 to 256"), (["--standby", "1", "--", "true"], "--standby takes no command"),
    (["--standby", "1", "-t"], "goes with --image"), (["--standby", "1", "--timeout", "1s"], "goes with --image")])
def test_what_makes_no_sense_is_refused(cell, words, sentence):
    done = cell.run(*words)
    assert done.returncode == 2 and sentence in done.stderr


@pytest.mark.parametrize("message", [b"", b"x", b"\0" * 4096, b"A" * 620], ids=["nothing", "short", "long", "letters"])
def test_clients_that_talk_nonsense_take_nothing(cell, message):
    with Standby(cell, 1) as server:
        server.wait_ready(1)
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        uid = os.geteuid()
        try:
            os.seteuid(cell.uid)
            client.connect(str(next(p for p in sockets(cell) if not p.name.endswith(".lock"))))
        finally:
            os.seteuid(uid)
        if message:
            client.send(message)
            client.settimeout(5)
            assert client.recv(2048)[:1] in (b"N", b"")
        client.close()
        assert cell.run("--", "echo", "fine").stdout == "fine\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: there is no other user to be")
def test_another_users_client_is_refused_and_another_users_server_is_not_asked(boxes):
    cell = boxes("cell", "rootless")
    with Standby(cell, 1) as server:
        server.wait_ready(1)
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.connect(str(next(p for p in sockets(cell) if not p.name.endswith(".lock"))))  # as root: the permissions let it
        client.settimeout(5)
        assert client.recv(2048)[:1] in (b"N", b"")
        run = subprocess.run(cell.argv("--", "echo", "as root"), env=cell.env, cwd=cell.base, capture_output=True, text=True, timeout=60)
        assert run.stdout == "as root\n"
        server.wait_ready(1)


def test_a_replaced_image_is_noticed(boxes):
    cell = boxes("cell", "root")
    tree = cell.directory("standby-tree")
    subprocess.run(["cp", "-a", str(cell.base / "state/images/base/rootfs") + "/.", tree], check=True)
    with Standby(cell, 1, "--rootfs", tree):
        assert cell.run("--rootfs", tree, "--", "echo", "one").stdout == "one\n"
        os.rename(tree, str(tree) + ".old")
        subprocess.run(["cp", "-a", str(tree) + ".old", tree], check=True)
        (tree / "new").mkdir()
        assert "new\n" in cell.run("--rootfs", tree, "--", "ls", "/").stdout
        eventually(lambda: "new\n" in cell.run("--rootfs", tree, "--", "ls", "/").stdout)
