"""The container wall from inside: namespaces, mounts, devices, pid 1. What every wall promises is in test_wall_conformance.py."""
import os
import re
import shutil
import subprocess

import pytest

NAMESPACES = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"]


def test_every_capability_set_is_empty_and_no_new_privileges_can_be_had(box):
    status = dict(line.split(":\t", 1) for line in box.sh("cat /proc/self/status").splitlines() if ":\t" in line)
    assert {k: int(status[k], 16) for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == dict.fromkeys(
        ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0)
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_the_program_is_uid_1000_and_nobody_else_is_mapped(box):
    uid, uid_map, gid_map = box.sh("id -u; cat /proc/self/uid_map /proc/self/gid_map").splitlines()
    assert uid == "1000"
    for line in (uid_map, gid_map):
        inside, outside, count = map(int, line.split())
        assert (inside, count) == (1000, 1)
        assert outside != 0


def test_two_sandboxes_of_root_run_under_different_host_uids(root_box):
    first, second = (root_box.start("--", "cat", "/proc/self/uid_map") for _ in range(2))
    uids = {int(p.communicate(timeout=30)[0].split()[1]) for p in (first, second)}
    assert len(uids) == 2
    assert min(uids) > 65535


def test_every_namespace_is_its_own(box):
    # busybox's readlink takes one name
    inside = dict(zip(NAMESPACES, box.sh("for n in %s; do readlink /proc/self/ns/$n; done" % " ".join(NAMESPACES)).splitlines()))
    for name in NAMESPACES:
        assert inside[name] != os.readlink("/proc/self/ns/" + name), name


def test_the_old_root_is_gone(box):
    mounts = [line.split() for line in box.sh("cat /proc/self/mountinfo").splitlines()]
    targets = {m[4] for m in mounts}
    assert not any(t.startswith(("/old", "/work/", "/mnt", "/sys", "/boot")) for t in targets), targets
    root = [m for m in mounts if m[4] == "/"]
    assert len(root) == 1 and " ".join(root[0]).split(" - ")[1].startswith("tmpfs")
    assert not any("master:" in " ".join(m) or "shared:" in " ".join(m) for m in mounts)
    assert sorted(box.sh("ls -A /..").split()) == sorted(box.sh("ls -A /").split())


def test_every_mount_but_the_writable_ones_is_read_only_and_none_gives_rights(box):
    mounts = {m[4]: set(m[5].split(",")) for m in (line.split() for line in box.sh("cat /proc/self/mountinfo").splitlines())}
    assert {"/", "/usr", "/etc", "/proc", "/workspace", "/tmp"} <= set(mounts)
    writable = {target for target, options in mounts.items() if "rw" in options}
    allowed = {"/workspace", "/tmp", "/dev/shm", "/dev/pts", "/proc"} | {t for t in mounts if re.match("/dev/[^/]+$|/proc/[^/]+$", t)}
    assert "ro" in mounts["/"]
    assert writable <= allowed, writable - allowed
    for target, options in mounts.items():
        assert "nosuid" in options, target
        # a device is what it is for in /dev, and the null device is what covers a file of /proc
        assert "nodev" in options or target.startswith(("/dev/", "/proc/")), target


def test_what_is_mounted_on_a_host_that_shares_its_mounts_does_not_get_inside_or_out(root_box):
    root_box.sh("true")
    line = " ".join(root_box.argv("--", "cat", "/proc/self/mountinfo"))
    done = subprocess.run(["unshare", "-m", "--propagation", "shared", "sh", "-c", "cat /proc/self/mountinfo >&2; %s; cat /proc/self/mountinfo >&2" % line],
                          capture_output=True, text=True, timeout=60, **root_box.options())
    assert done.returncode == 0 and "shared:" in done.stderr
    assert " /workspace " in done.stdout
    assert "shared:" not in done.stdout and "master:" not in done.stdout
    host = done.stderr.splitlines()
    assert host[:len(host) // 2] == host[len(host) // 2:]


def test_dev_holds_exactly_the_harmless_devices(box):
    assert box.sh("ls -A /dev").split() == sorted(
        "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero".split())
    assert box.sh("ls -A /dev/pts").split() == ["ptmx"]


def test_proc_shows_no_host_process_and_masks_kernel_memory(box):
    assert set(re.findall(r"^\d+$", box.sh("ls /proc"), re.M)) <= {str(n) for n in range(1, 9)}
    assert box.sh("for f in kcore keys timer_list kallsyms kpageflags vmallocinfo interrupts modules sched_debug; do "
                  "[ -e /proc/$f ] && head -c 1 /proc/$f; done 2>/dev/null; true") == ""


def test_pid_1_cannot_be_looked_into(box):
    assert box.sh("for f in mem environ maps exe cwd root fd auxv; do "
                  "(cat /proc/1/$f || ls /proc/1/$f/) >/dev/null 2>&1 && echo $f; done; true") == ""


def test_pid_1_takes_no_signal_from_inside(box):
    assert box.sh("for s in HUP INT QUIT TERM KILL STOP USR1 USR2 CONT CHLD WINCH ABRT SEGV; do kill -$s 1 2>/dev/null; done; "
                  "usleep 100000; echo still here") == "still here\n"


def test_a_sandbox_inside_a_sandbox_is_refused_with_one_sentence(box):
    done = box.run("--mount", "%s:/opt2" % (box.base / "out"), "--", "/opt2/ironclaw", "run", "--rootfs", "/", "--", "true")
    assert done.returncode == 125
    inner = [line for line in done.stderr.splitlines() if not line.startswith("ironclaw: warning:")]
    assert len(inner) == 1 and inner[0].startswith("ironclaw: "), done.stderr


def inside_bwrap(box, outer, *words):
    if not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed")
    help_text = subprocess.run(["bwrap", "--help"], capture_output=True, text=True, timeout=30).stdout
    if "--disable-userns" in outer and "--disable-userns" not in help_text:
        pytest.skip("this bubblewrap has no --disable-userns (0.8.0)")
    return subprocess.run(["bwrap", *outer, "--dev-bind", "/", "/", *box.argv(*words)], capture_output=True, text=True, timeout=60, **box.options())


def test_inside_a_sandbox_of_bubblewrap_the_wall_is_as_high(rootless_box):
    done = inside_bwrap(rootless_box, ["--unshare-user"], "--", "sh", "-c", "id -u; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; ls /sys 2>&1")
    assert done.returncode in (0, 1), done
    uid, *status, sys = done.stdout.splitlines()
    assert uid == "1000" and "No such file" in sys
    assert [line.split() for line in status] == [[k + ":", "0" * 16] for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")] + [
        ["NoNewPrivs:", "1"], ["Seccomp:", "2"]]


def test_an_outer_sandbox_that_forbids_user_namespaces_is_named(rootless_box):
    done = inside_bwrap(rootless_box, ["--unshare-user", "--disable-userns"], "--", "true")
    assert done.returncode == 125
    errors = [line for line in done.stderr.splitlines() if not line.startswith("ironclaw: warning:")]
    assert len(errors) == 1 and errors[0].startswith("ironclaw: container: cannot create the namespaces"), done.stderr
    assert "outer" in errors[0] and "user.max_" in errors[0]


def test_root_of_an_outer_sandbox_without_uids_to_give_is_told_so(root_box):
    done = inside_bwrap(root_box, ["--unshare-user"], "--", "true")
    assert done.returncode == 125
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("ironclaw: container: an outer container or sandbox maps no uid"), done.stderr
