"""The gVisor wall: its OCI bundle and who else can run it, how runtime and platform are found, and what is left when any part is killed."""
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys

import jsonschema
import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from oci_schema import CONFIG  # noqa: E402
from sandbox import cgroups, eventually, processes_of  # noqa: E402


@pytest.fixture
def box(boxes):
    return boxes("gvisor", "root")


def bundle(box, name, *words):
    path = box.base / name
    shutil.rmtree(path, ignore_errors=True)
    done = box.run("--write-bundle", path, *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done
    return path, json.loads((path / "config.json").read_text())


# ---- the bundle


def test_the_bundle_is_valid_and_carries_the_whole_envelope(box):
    work = box.directory("bundle-work")
    _, config = bundle(box, "bundle-1", "--memory", "64M", "--cpus", "0.5", "--pids", "20", "--env", "QUOTE=a\"b\\c\n", "--workspace", work,
                       "--mount", "/etc/hostname:/data/name", "--", "echo", "ä \"x\"")
    jsonschema.validate(config, CONFIG)
    process, linux = config["process"], config["linux"]
    assert config["root"]["readonly"] is True
    assert set(process["capabilities"]) == {"bounding", "effective", "inheritable", "permitted", "ambient"}
    assert not any(process["capabilities"].values())
    assert process["noNewPrivileges"] is True and (process["user"]["uid"], process["user"]["gid"]) == (1000, 1000)
    assert process["args"][-2:] == ["echo", "ä \"x\""]
    assert sorted(v.split("=")[0] for v in process["env"]) == ["HOME", "PATH", "QUOTE"] and "QUOTE=a\"b\\c\n" in process["env"]
    assert {"pid", "network", "ipc", "uts", "mount", "cgroup", "user"} == {n["type"] for n in linux["namespaces"]}
    assert not any("path" in n for n in linux["namespaces"])
    assert all(m["hostID"] > 65535 and m["size"] == 1 for m in linux["uidMappings"] + linux["gidMappings"])
    assert linux["resources"] == {"memory": {"limit": 64 << 20, "swap": 64 << 20}, "cpu": {"quota": 50000, "period": 100000}, "pids": {"limit": 20}}
    assert {"/proc/kcore", "/proc/keys"} <= set(linux["maskedPaths"]) and "/proc/sys" in linux["readonlyPaths"]
    limits = {r["type"]: r["hard"] for r in process["rlimits"]}
    assert limits["RLIMIT_CORE"] == 0 and limits["RLIMIT_NPROC"] == 20
    assert linux["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    allowed = {name for s in linux["seccomp"]["syscalls"] if s["action"] == "SCMP_ACT_ALLOW" and not s.get("args") for name in s["names"]}
    assert {"read", "openat", "execve"} <= allowed
    assert not allowed & {"mount", "ptrace", "bpf", "keyctl", "clone", "unshare", "setns", "io_uring_setup", "init_module"}
    writable = {m["destination"] for m in config["mounts"] if "ro" not in m["options"]}
    assert writable == {"/proc", "/dev", "/dev/pts", "/dev/shm", "/tmp", "/workspace"}
    for m in config["mounts"]:
        assert "nosuid" in m["options"], m


def test_a_bundle_cannot_carry_bytes_that_are_not_utf8(box):
    done = subprocess.run([*box.argv("--"), b"echo", b"\xff"], capture_output=True, timeout=60, **box.options())
    assert done.returncode == 125
    assert b"UTF-8" in done.stderr


def test_a_bundle_is_written_to_a_new_directory_only(box):
    target = box.directory("not-empty")
    (target / "file").write_text("mine")
    done = box.run("--write-bundle", target, "--", "true")
    assert done.returncode == 125 and "not empty" in done.stderr
    assert os.listdir(target) == ["file"]


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_the_same_bundle_runs_under_another_runtime_by_hand(box, runtime):
    if not shutil.which(runtime):
        pytest.skip("%s is not installed" % runtime)
    path, _ = bundle(box, "bundle-" + runtime, "--", "sh", "-c",
                     "id -u; cat /proc/net/dev; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; echo x >/workspace/f; touch /x 2>/dev/null && echo WROTE; exit 9")
    name = "ironclaw-test-%d" % os.getpid()
    # crun takes a host with both cgroup versions for neither
    line = "umount /sys/fs/cgroup/unified 2>/dev/null; exec %s --root %s run --bundle %s %s" % (runtime, box.base / ("root-" + runtime), path, name)
    # a pipe: crun gives its standard streams to the container's uid, and as root it would give away the host's null device
    device = os.stat("/dev/null")
    done = subprocess.run(["unshare", "-m", "sh", "-c", line], capture_output=True, text=True, timeout=60, input="")
    after = os.stat("/dev/null")
    assert (after.st_uid, after.st_mode) == (device.st_uid, device.st_mode)
    assert done.returncode == 9, done
    assert done.stdout.startswith("1000\n") and "WROTE" not in done.stdout and "eth" not in done.stdout
    status = dict(part.split(":\t") for part in done.stdout.splitlines() if ":\t" in part)
    assert {int(v, 16) for k, v in status.items() if k.startswith("Cap")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_another_runtime_can_stand_in_its_place(box, runtime):
    if not shutil.which(runtime):
        pytest.skip("%s is not installed" % runtime)
    done = box.run("--oci-runtime", runtime, "--pids", "40", "--", "sh", "-c", "id -u; echo x >/workspace/f && ls /workspace; exit 4")
    assert (done.returncode, done.stdout) == (4, "1000\nf\n"), done


# ---- finding runtime and platform


def fake_runtime(box, name, body):
    path = box.base / name
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(0o755)
    return path


def test_a_missing_runtime_is_one_sentence(box):
    done = box.run("--oci-runtime", "no-such-runtime", "--", "true")
    assert done.returncode == 125
    assert "'no-such-runtime' is not installed" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_runtime_that_others_can_change_is_refused(box):
    path = fake_runtime(box, "writable-runtime", "exit 0\n")
    path.chmod(0o777)
    done = box.run("--oci-runtime", path, "--", "true")
    assert done.returncode == 125 and "can be changed by others" in done.stderr
    path.chmod(0o755)
    os.chown(path, 4242, 4242)
    assert "can be changed by others" in box.run("--oci-runtime", path, "--", "true").stderr


def test_a_platform_that_hangs_is_given_up_after_its_time(box):
    marker = "9%06d" % random.randrange(10**6)
    path = fake_runtime(box, "hanging-runtime", 'case "$*" in *--version*) echo "runsc version fake";; *flags*) printf "  -host-uds value\\n  -rootless\\n";; '
                        '*) exec sleep %s;; esac\n' % marker)
    done = box.run("--oci-runtime", path, "--platform", "ptrace", "--", "true", timeout=60)
    assert done.returncode == 125
    assert "no platform of" in done.stderr and "ptrace: gvisor: the sandbox did not stand within" in done.stderr
    assert not processes_of(marker)


@pytest.mark.parametrize("listed,used", [("  -host-uds value", "--host-uds=open"), ("  -fsgofer-host-uds", "--fsgofer-host-uds")])
def test_the_spelling_of_the_socket_option_is_the_one_that_the_runtime_knows(box, listed, used):
    path = fake_runtime(box, "spelling-runtime", 'case "$*" in *--version*) echo "runsc version fake";; *flags*) printf "%s\\n  -rootless\\n";; '
                        '*) for a; do case $a in *uds*) used=$a;; esac; done; echo "{\\"msg\\":\\"called with $used\\"}" >/state/log; exit 1;; esac\n' % listed)
    done = box.run("--oci-runtime", path, "--platform", "ptrace", "--", "true")
    assert done.returncode == 125 and "called with %s)" % used in done.stderr, done.stderr


def test_what_was_found_is_kept_and_belongs_to_this_binary(box):
    box.sh("true")
    kept = box.base / "state/gvisor.probe"
    first = kept.read_text()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert os.path.samefile(first.split()[1], shutil.which("runsc"))
    kept.write_text(first.replace(first.split()[2], "1"))  # another size: another binary
    box.sh("true")
    assert kept.read_text() == first


def test_an_ordinary_user_is_told_that_it_needs_root(rootless_box):
    argv = rootless_box.argv("--", "true")
    argv[argv.index("container")] = "gvisor"
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, **rootless_box.options())
    assert done.returncode == 125
    assert len(done.stderr.splitlines()) == 1 and "the gVisor wall needs root" in done.stderr


# ---- killing any part of it


def descendants(pid):
    children = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % name) as f:
                children.setdefault(int(f.read().rsplit(")", 1)[1].split()[1]), []).append(int(name))
        except OSError:
            pass
    found, new = [], [pid]
    while new:
        new = [c for p in new for c in children.get(p, [])]
        found += new
    return found


def command_line(pid):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            return f.read().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize("victim", ["runsc-sandbox", "runsc-gofer", "runtime --root", "keeper"])
def test_whichever_process_is_killed_the_run_ends_and_nothing_is_left(box, victim):
    process = box.start("--", "sh", "-c", "echo up; sleep 60")
    assert process.stdout.readline() == "up\n"
    family = descendants(process.pid)
    chosen = family[0] if victim == "keeper" else next(p for p in family if victim in command_line(p))
    os.kill(chosen, signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == 137
    assert not [p for p in family if command_line(p)]
    assert not [g for g in cgroups() if g.endswith("run-%d" % process.pid)]


def test_the_runtime_sees_neither_homes_nor_sockets_of_the_host(box):
    process = box.start("--", "sh", "-c", "echo up; sleep 60")
    try:
        assert process.stdout.readline() == "up\n"
        keeper = descendants(process.pid)[0]
        runtime = next(p for p in descendants(keeper) if command_line(p).startswith("runtime "))
        seen = set(os.listdir("/proc/%d/root" % runtime))
        assert not seen & {"home", "root", "var", "etc", "run", "opt", "srv"}, seen
        status = open("/proc/%d/status" % runtime).read()
        assert "NoNewPrivs:\t1" in status
        assert os.readlink("/proc/%d/ns/user" % runtime) != os.readlink("/proc/self/ns/user")
        assert "CapEff:\t0000000000000000" in open("/proc/%d/status" % keeper).read()
    finally:
        process.terminate()
        process.communicate(timeout=30)
    eventually(lambda: not os.path.exists("/proc/%d" % runtime))


def test_no_process_of_the_wall_keeps_what_its_starter_had_open(box, tmp_path):
    """The keeper is forked, not executed: descriptors of whoever starts sandboxes would live on in it."""
    foreign = (tmp_path / "foreign").open("w")
    process = box.start("--", "sh", "-c", "echo up; sleep 60", pass_fds=[foreign.fileno()])
    try:
        assert process.stdout.readline() == "up\n"
        tree = [p for p in descendants(process.pid)]
        assert len(tree) >= 2
        for pid in tree:
            held = [os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")]
            assert str(tmp_path / "foreign") not in held, (pid, held)
    finally:
        process.kill()
        process.wait()
