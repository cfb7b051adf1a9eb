"""What every wall promises alike, in every mode it has: the envelope seen from inside, exit statuses, signals, terminals, time limits,
resource limits, ports, workspaces, environment, large outputs, many short runs, and that nothing stays behind.

A wall that this host cannot give is skipped with the sentence of `ironclaw doctor`."""
import fcntl
import hashlib
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from plane import Plane, until  # noqa: E402
from sandbox import Terminal, cgroups, eventually, processes_of  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
AGENT = os.path.join(HERE, "agents")


@pytest.fixture
def box(any_box):
    return any_box


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    """A static program that makes one system call (syscall_probe.c)."""
    path = tmp_path_factory.mktemp("probe") / "syscall_probe"
    subprocess.run(["cc", "-static", "-D_GNU_SOURCE", "-O1", "-o", path, os.path.join(HERE, "syscall_probe.c")], check=True, timeout=60)
    return path


# ---- the envelope, seen from inside


def test_the_only_network_interface_is_loopback(box):
    assert re.findall(r"^\s*(\S+):", box.sh("cat /proc/net/dev"), re.M) == ["lo"]


def test_a_listener_on_the_hosts_loopback_is_out_of_reach(box):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        done = box.run("--", "nc", "-w", "3", "127.0.0.1", listener.getsockname()[1])
        assert done.returncode != 0
        listener.settimeout(0)
        try:
            listener.accept()
            raise AssertionError("the sandbox reached the host's loopback")
        except BlockingIOError:
            pass


def test_abstract_sockets_of_the_host_are_not_visible(box):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0ironclaw-test-%d" % os.getpid())
        listener.listen()
        assert "ironclaw-test" in open("/proc/net/unix").read()
        assert "ironclaw-test" not in box.sh("cat /proc/net/unix")


def test_every_capability_set_is_empty_and_the_filter_is_in_force(box):
    status = dict(line.split(":\t", 1) for line in box.sh("cat /proc/self/status").splitlines() if ":\t" in line)
    sets = {k: v for k, v in status.items() if k.startswith("Cap")}
    assert {"CapInh", "CapPrm", "CapEff", "CapBnd"} <= set(sets)
    assert {int(v, 16) for v in sets.values()} == {0}
    assert status["Seccomp"] == "2"
    assert status.get("NoNewPrivs", "1") == "1"  # gVisor's kernel does not show it; the filter could not be loaded without


def test_dangerous_system_calls_are_refused_and_ordinary_ones_work(box, probe):
    target = box.base / "syscall_probe"
    if not target.exists():
        target.write_bytes(probe.read_bytes())
        target.chmod(0o755)
    numbers = {"mount": 165, "ptrace": 101, "bpf": 321, "io_uring_setup": 425, "keyctl": 250, "setns": 308, "init_module": 175, "unshare": 272}
    script = "for n in %s; do echo $n $(/probe call $n 0x10000000); done; echo getpid $(/probe call 39)" % " ".join(map(str, numbers.values()))
    outcome = dict(line.split() for line in box.sh(script, "--mount", "%s:/probe" % target).splitlines())
    assert outcome.pop("getpid") == "ok"
    # EPERM; a cell has no modules to load, and says so: ENOSYS.
    assert set(outcome.values()) <= ({"1", "38"} if box.wall == "cell" else {"1"}), outcome


def test_the_program_is_uid_1000_without_groups_and_no_root_of_the_host(box):
    assert box.sh("id -u; id -g; cat /proc/self/status | grep -E '^Groups' | cut -f 2").split() == ["1000", "1000"]
    with box.start("--", "sh", "-c", "echo up; sleep 60") as process:
        assert process.stdout.readline() == "up\n"
        inside = [p for p in sandbox_processes(process.pid) if p != process.pid]
        uids = {uid for p in inside for uid in host_uids(p)}
        process.terminate()
        process.communicate(timeout=30)
    if box.mode == "root":
        assert inside and min(uids) > 65535, "every process of the sandbox, helpers as well, has an unprivileged uid"
    else:
        assert uids <= {box.uid}


def sandbox_processes(pid):
    """All descendants of the caller on the host."""
    found, new = set(), {pid}
    while new:
        found |= new
        new = {int(p) for p in os.listdir("/proc") if p.isdigit() and parent(int(p)) in found} - found
    return found


def parent(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return int(f.read().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def host_uids(pid):
    try:
        with open("/proc/%d/status" % pid) as f:
            return [int(n) for n in re.search(r"^Uid:(.*)", f.read(), re.M).group(1).split()]
    except OSError:
        return []


def test_the_runs_of_root_have_different_host_uids(any_root_box):
    uids = []
    for _ in range(2):
        with any_root_box.start("--", "sh", "-c", "echo up; sleep 60") as process:
            assert process.stdout.readline() == "up\n"
            uids.append({uid for p in sandbox_processes(process.pid) - {process.pid} for uid in host_uids(p)})
            process.terminate()
            process.communicate(timeout=30)
    assert uids[0] and uids[1] and not uids[0] & uids[1]


def test_only_the_workspace_and_the_temporary_directories_can_be_written(box):
    script = "for d in / /usr /usr/bin /etc /dev /dev/pts /run /run/ironclaw /proc /proc/sys /root /var /home /opt /workspace /tmp /dev/shm; do " \
        "(echo x >$d/probe) 2>/dev/null && echo $d; done; true"
    assert box.sh(script).split() == ["/workspace", "/tmp", "/dev/shm"]


def test_kernel_settings_cannot_be_changed(box):
    assert box.sh("for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/sys/vm/drop_caches /proc/1/oom_score_adj; do "
                  "(echo 1 >$f) 2>/dev/null && echo $f; done; true") == ""


def test_no_process_of_the_host_is_visible_and_nothing_of_its_sys(box):
    assert set(re.findall(r"^\d+$", box.sh("ls /proc"), re.M)) <= {str(n) for n in range(1, 9)}
    if box.wall == "cell":  # made up by its kernel: processors, loopback, and nothing that drives anything
        seen = set(box.sh("cd /sys && find . -type f").split())
        assert {f for f in seen if not f.startswith(("./devices/system/", "./kernel/mm/transparent_hugepage/", "./class/net/lo/"))} == set()
    else:
        assert box.sh("ls -A /sys 2>/dev/null; true") == ""


def test_no_descriptor_of_the_caller_is_inherited(box):
    secret = os.open("/etc", os.O_RDONLY | os.O_DIRECTORY)
    spare = [os.dup(secret) for _ in range(20)]
    try:
        names = box.sh("for f in /proc/self/fd/*; do readlink $f; done; true", pass_fds=[secret, *spare])
        assert "/etc" not in names.split()
        # 3 is the directory that ls itself lists
        assert set(box.sh("exec ls /proc/self/fd", pass_fds=[secret, *spare]).split()) <= {"0", "1", "2", "3"}
    finally:
        for fd in (secret, *spare):
            os.close(fd)


def test_a_directory_is_not_handed_in_as_standard_input(box):
    fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        done = box.run("--", "ls", stdin_fd=fd)
    finally:
        os.close(fd)
    assert done.returncode == 125
    assert "standard input is a directory" in done.stderr
    assert done.stdout == ""


def test_the_environment_is_what_was_listed(box):
    box_env = {**box.env, "SECRET": "s3cret", "GIVEN": "caller's"}
    out = box.run("--env", "GIVEN", "--env", "OWN=a b=c", "--", "env", env=box_env).stdout
    assert sorted(out.splitlines()) == [
        "GIVEN=caller's", "HOME=/workspace", "OWN=a b=c", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"]


def test_a_setuid_program_gives_no_rights(any_root_box, tmp_path):
    program = tmp_path / "tree/usr/bin/busybox"
    program.parent.mkdir(parents=True)
    source = next(any_root_box.base.glob("state/images/base/rootfs/usr/bin/busybox"), None)
    if source is None:
        any_root_box.sh("true")
        source = any_root_box.base / "state/images/base/rootfs/usr/bin/busybox"
    program.write_bytes(source.read_bytes())
    program.chmod(0o4755)
    os.chmod(tmp_path, 0o755)
    done = any_root_box.run("--rootfs", tmp_path / "tree", "--", "/usr/bin/busybox", "id", "-u")
    assert done.stdout == "1000\n", done


def test_no_set_uid_file_can_be_made_in_a_workspace(box):
    work = box.directory("suid")
    done = box.run("--workspace", work, "--", "sh", "-c", "cp /usr/bin/busybox a; chmod 4755 a; chmod 2755 a; chmod 755 a")
    assert done.returncode == 0
    assert (work / "a").stat().st_mode & 0o7777 == 0o755


# ---- exit statuses


@pytest.mark.parametrize("code", [0, 1, 125, 126, 127, 128, 255])
def test_the_exit_status_is_the_commands_own(box, code):
    assert box.run("--", "sh", "-c", "exit %d" % code).returncode == code


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV"])
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


# ---- signals and the timeout


@pytest.mark.parametrize("name", ["TERM", "INT", "USR1"])
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


def test_the_memory_limit_kills_and_says_so(any_root_box):
    done = any_root_box.run("--memory", "64M", "--", "sh", "-c", "x=0123456789abcdef; while :; do x=$x$x; done")
    assert done.returncode == 137
    assert "memory limit was reached" in done.stderr


def test_the_pids_limit_stops_a_fork_bomb(any_root_box):
    done = any_root_box.run("--pids", "12", "--", "sh", "-c", "(for i in $(seq 40); do sleep 2 & done; echo all); true")
    assert "can't fork" in done.stderr
    assert "all" not in done.stdout


def test_the_cpu_limit_is_in_the_kernels_file(any_root_box):
    process = any_root_box.start("--cpus", "0.25", "--", "sh", "-c", "echo ready; sleep 60")
    try:
        assert process.stdout.readline() == "ready\n"
        groups = [pathlib.Path(g) for g in cgroups() if g.endswith("run-%d" % process.pid)]
        text = [(g / n).read_text().split()[0] for g in groups for n in ("cpu.max", "cpu.cfs_quota_us") if (g / n).exists()]
        assert text == ["25000"]
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert not [g for g in cgroups() if g.endswith("run-%d" % process.pid)]


# ---- data


def test_ten_mebibytes_pass_both_ways_unchanged(box):
    data = os.urandom(10 << 20)
    done = box.run("--", "cat", text=False, stdin=data)
    assert done.returncode == 0
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_closed_standard_descriptors_become_the_null_device(box):
    line = " ".join(box.argv("--", "sh", "-c", "'cat; echo x; exit 5'"))
    done = subprocess.run(["sh", "-c", line + " <&- >&-"], capture_output=True, timeout=30, **box.options())
    assert done.returncode == 5


def test_two_streams_into_one_file_do_not_overwrite_each_other(box, tmp_path):
    out = tmp_path / "both"
    with open(out, "wb") as f:
        f.write(b"before\n")
        f.flush()
        done = subprocess.run(box.argv("--", "sh", "-c", "for i in 1 2 3; do echo out $i; echo err $i >&2; done"), stdout=f, stderr=f, timeout=30, **box.options())
    assert done.returncode == 0
    lines = [line for line in out.read_text().splitlines() if not line.startswith("ironclaw: warning:")]
    assert lines[0] == "before" and sorted(lines[1:]) == sorted("%s %d" % (s, i) for s in ("out", "err") for i in (1, 2, 3))


def test_input_from_a_file_starts_where_the_caller_stands(box, tmp_path):
    source = tmp_path / "lines"
    source.write_text("first\nsecond\n")
    with open(source, "rb") as f:
        os.lseek(f.fileno(), 6, os.SEEK_SET)
        assert box.run("--", "cat", stdin_fd=f).stdout == "second\n"


def test_a_reader_that_goes_away_ends_the_command(box):
    with box.start("--", "yes", stderr=subprocess.DEVNULL) as process:
        assert process.stdout.readline() == "y\n"
        process.stdout.close()
        assert process.wait(timeout=30) != 0


# ---- the terminal


def test_a_terminal_of_its_own_with_the_callers_size(box):
    with Terminal(box, "-t", "--", "sh", "-c", "[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all-three; read x; stty size && echo a-terminal") as t:
        t.expect("all-three")
        t.type(b"\n")
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


# ---- mounts and workspaces


def test_a_mount_is_read_only_unless_asked(box):
    source = box.directory("shared")
    (source / "file").write_text("text\n")
    script = "cat /data/file; (echo x >/data/new) 2>/dev/null && echo written; true"
    assert box.sh(script, "--mount", "%s:/data" % source) == "text\n"
    assert box.sh(script, "--mount", "%s:/data:ro" % source) == "text\n"
    assert box.sh(script, "--mount", "%s:/data:rw" % source) == "text\nwritten\n"
    assert (source / "new").stat().st_uid == box.uid


def test_a_mount_below_tmp_is_not_covered(box):
    source = box.directory("belowtmp")
    (source / "file").write_text("text\n")
    assert box.sh("cat /tmp/a/b/file", "--mount", "%s:/tmp/a/b" % source) == "text\n"


@pytest.mark.parametrize("target", ["/proc/self", "/dev", "/sys", "/run/ironclaw/x", "/tmp", "/workspace"])
def test_the_sandboxes_own_places_are_no_mount_targets(box, target):
    done = box.run("--mount", "/etc:" + target, "--", "true")
    assert done.returncode == 125
    assert "the sandbox's own" in done.stderr


def test_a_target_inside_the_image_must_exist(box):
    done = box.run("--mount", "/etc/hostname:/usr/new/file", "--", "true")
    assert done.returncode == 125
    assert "read-only" in done.stderr


@pytest.mark.parametrize("link", ["absolute", "relative", "magic"])
def test_a_link_in_an_image_does_not_lead_a_mount_to_the_host(box, tmp_path, link):
    box.sh("true")
    host = box.directory("host-" + link)
    tree = box.base / ("evil-" + link)
    shutil.copytree(box.base / "state/images/base/rootfs", tree, symlinks=True)
    target = {"absolute": host, "relative": "../../../../../../../.." + str(host), "magic": "/proc/self/fd/3"}[link]
    os.symlink(target, tree / "data")
    box.run("--rootfs", tree, "--mount", "/etc/hostname:/data/planted", "--", "true")
    assert list(host.iterdir()) == []


def test_a_workspace_keeps_what_is_written_for_its_owner(box):
    work = box.directory("kept")
    box.sh("echo first >a; mkdir d", "--workspace", work)
    assert box.sh("cat a; echo more >>a; rmdir d; ls -ld . | cut -c1-10", "--workspace", work).startswith("first\n")
    assert (work / "a").read_text() == "first\nmore\n"
    assert (work / "a").stat().st_uid == box.uid and not (work / "d").exists()


def test_a_workspace_of_another_user_stays_that_users(any_root_box):
    work = any_root_box.directory("others")
    os.chown(work, 4321, 8765)
    (work / "roots").write_text("root's\n")
    (work / "roots").chmod(0o600)
    done = any_root_box.run("--workspace", work, "--", "sh", "-c", "echo x >mine; cat roots; echo y >roots")
    assert "root's" not in done.stdout
    assert (work / "roots").read_text() == "root's\n"
    assert ((work / "mine").stat().st_uid, (work / "mine").stat().st_gid) == (4321, 8765)


def test_without_a_workspace_nothing_is_kept(box):
    assert box.sh("ls -A; echo x >a") == ""
    assert box.sh("ls -A") == ""


def test_a_missing_workspace_is_one_sentence(box):
    done = box.run("--workspace", "/nonexistent", "--", "true")
    assert done.returncode == 125
    assert "--workspace /nonexistent" in done.stderr


def test_a_root_file_system_without_the_command_is_127(box):
    tree = box.directory("empty-tree")
    done = box.run("--rootfs", tree, "--", "sh", "-c", "true")
    assert done.returncode == 127
    assert "cannot execute sh" in done.stderr


# ---- sessions: ports and what is kept


@pytest.fixture(scope="module", params=["container", "cell", "gvisor"])
def session(request, boxes):
    """A control plane as root with one running session under this wall: (plane, session)."""
    boxes(request.param, "root")  # skips where the host cannot give the wall
    with Plane() as plane:
        plane.agent("tester", wall=request.param, tools=["shell"])
        yield plane, plane.session("tester"), request.param


def run_inside(session, script):
    plane, name, _ = session
    return plane.ask(name, "run: " + script).split("answered: ", 1)[-1].strip()


def test_the_agent_reaches_queue_and_model_on_their_unix_sockets(session):
    assert run_inside(session, "ls /run/ironclaw | grep sock | tr '\\n' ' '").split() == ["model.sock", "queue.sock"]


def test_the_queue_answers_on_loopback(session):
    hello = '{"op":"hello"}'
    answer = run_inside(session, "(printf '\\000\\000\\000\\%03o%s'; sleep 1) | timeout 20 nc 127.0.0.1 8470 | tail -c +5" % (len(hello), hello))
    assert '"session":"%s"' % session[1] in answer.replace(" ", ""), answer


def test_the_model_answers_on_loopback(session):
    request = "GET /v1/models HTTP/1.1\\r\\nHost: model\\r\\nConnection: close\\r\\n\\r\\n"
    answer = run_inside(session, "(printf '%s'; sleep 1) | timeout 20 nc 127.0.0.1 8471" % request)
    assert answer.startswith("HTTP/1.1 200") and '"object"' in answer, answer


def test_what_is_put_in_the_workspace_survives_the_sandbox_and_nothing_else_does(session):
    plane, name, _ = session
    run_inside(session, "echo kept >/workspace/kept; echo gone >/tmp/gone; id -u")
    plane.cli("session", "stop", name)
    assert run_inside(session, "cat /workspace/kept; ls /tmp/gone 2>/dev/null; echo end") .split() == ["kept", "end"]
    path = os.path.join(plane.state, "workspaces", name, "kept")
    assert os.stat(path).st_uid == os.stat(os.path.dirname(path)).st_uid, "it belongs to the sandbox's uid on the host"


def test_statistics_and_the_wall_are_shown(session):
    plane, name, wall = session
    run_inside(session, "true")
    stats = plane.json("GET", "/v1/sessions/%s/stats" % name)
    assert stats["memory_bytes"] > 1 << 16 and stats["pids"] >= 2
    assert plane.json("GET", "/v1/sessions/" + name)["wall"] == wall


def test_a_killed_sandbox_is_started_again(session):
    plane, name, _ = session
    run_inside(session, "true")
    for pid in plane.sandboxes():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    assert run_inside(session, "echo back") == "back"


# ---- nothing stays behind


def host_state(box):
    return {"mounts": [m for m in open("/proc/self/mountinfo").read().splitlines() if str(box.base) in m],
            "state": sorted(str(p) for p in (box.base / "state").rglob("*")), "run": sorted(n for n in os.listdir("/run") if "ironclaw" in n)}


def test_many_short_runs_leave_the_host_as_it_was(box):
    box.sh("true")
    before, pids = host_state(box), []
    for _ in range(12):
        process = box.start("--", "true", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert process.wait(timeout=30) == 0
        pids.append(process.pid)
    assert host_state(box) == before
    assert [g for g in cgroups() if int(g.rsplit("-", 1)[1]) in pids] == []


def test_killing_the_caller_at_any_moment_leaves_nothing(box):
    marker = "6%06d" % random.randrange(10**6)
    box.sh("true")
    before, pids = host_state(box), []
    for _ in range(10):
        process = box.start("--", "sleep", marker, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(random.random() * (0.4 if box.wall == "gvisor" else 0.03))  # not a wait: the moment of the kill is what varies
        process.kill()
        process.wait(timeout=30)
        pids.append(process.pid)
    eventually(lambda: not processes_of(marker) and not [p for pid in pids for p in processes_of("run-%d" % pid)])

    def swept():
        box.sh("true")
        return not [g for g in cgroups() if int(g.rsplit("-", 1)[1]) in pids]

    eventually(swept)
    assert host_state(box) == before
