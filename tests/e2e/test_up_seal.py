"""What the kernel says about each running process: filter, privileges, uid, root, network."""
import os
import re
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from plane import DAEMONS, Plane, status_of, until  # noqa: E402


@pytest.fixture(scope="module")
def plane():
    with Plane(config={"providers": {"anthropic": {"kind": "anthropic", "url": "https://127.0.0.1:1"}}}) as p:
        # The cell's processes are looked at by test_wall_conformance.py and the red team.
        p.agent("coder", tools=["shell"], wall="container")
        p.agent("real", tools=[], provider="anthropic", wall="container")
        p.one, p.two = p.session("coder"), p.session("coder")
        p.running(p.one), p.running(p.two)
        with open(os.path.join(p.home, "key"), "w") as f:
            f.write("sk-test-0123456789abcdef")
        p.cli("provider", "set", "anthropic", "--key-file", f.name)
        p.send(p.session("real"), "start the upstream process")
        until("upstream runs", lambda: "upstream" in p.daemons())
        until("it is sealed", lambda: status_of(p.daemons()["upstream"])["Seccomp"] == "2")
        yield p


def namespace(pid, kind):
    return os.readlink("/proc/%d/ns/%s" % (pid, kind))


def test_every_process_has_a_filter_and_gains_no_privileges(plane):
    for name, pid in plane.daemons().items():
        status = status_of(pid)
        assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1"), name
    for pid in plane.sandboxes():
        status = status_of(pid)
        assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1"), pid


def test_only_the_launcher_has_capabilities_and_not_all(plane):
    full = int(status_of(os.getpid())["CapBnd"], 16)
    for name, pid in plane.daemons().items():
        status = status_of(pid)
        sets = {key: int(status[key], 16) for key in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh")}
        if name == "launcher":
            assert sets["CapEff"] and not sets["CapEff"] & (1 << 16 | 1 << 17 | 1 << 19 | 1 << 22), "no modules, raw I/O, ptrace, boot"
            assert sets["CapBnd"] == sets["CapEff"] != full and sets["CapAmb"] == 0
        else:
            assert not any(sets.values()), (name, sets)
    for pid in plane.sandboxes():
        assert int(status_of(pid)["CapEff"], 16) == int(status_of(pid)["CapBnd"], 16) == 0


def test_every_process_but_the_launcher_has_a_uid_of_its_own(plane):
    uids = {name: status_of(pid)["Uid"].split() for name, pid in plane.daemons().items()}
    assert set(uids) == set(DAEMONS) | {"upstream"}
    for name, four in uids.items():
        assert len(set(four)) == 1, "no saved uid to go back to"
        assert name == "launcher" or int(four[0]) > plane.uid_base
    own = [four[0] for name, four in uids.items() if name != "launcher"]
    sandboxes = {status_of(p)["Uid"].split()[0] for p in plane.sandboxes()}
    assert len(set(own)) == 5 and len(sandboxes) == 3 and not sandboxes & set(own)


def test_their_root_is_confined(plane):
    daemons = plane.daemons()
    for name in ("vault", "api", "modelproxy", "events"):
        visible = os.listdir("/proc/%d/root" % daemons[name])
        assert "etc" not in visible and "proc" not in visible, (name, visible)
    assert "registry.db" in os.listdir("/proc/%d/root" % daemons["vault"])
    assert os.listdir("/proc/%d/root" % daemons["events"]) == os.listdir("/proc/%d/root" % daemons["api"]) == os.listdir("/proc/%d/root" % daemons["modelproxy"]) == []
    for pid in plane.sandboxes():
        visible = os.listdir("/proc/%d/root" % pid)
        assert "workspace" in visible and "boot" not in visible, visible
        assert not os.path.exists("/proc/%d/root%s" % (pid, plane.home)), "the host's files are not there"


def test_only_upstream_has_a_network(plane):
    daemons, host = plane.daemons(), namespace(os.getpid(), "net")
    assert namespace(daemons["upstream"], "net") == host
    for pid in [daemons["vault"], daemons["modelproxy"]] + plane.sandboxes():
        assert namespace(pid, "net") != host, pid
        with open("/proc/%d/net/dev" % pid) as f:
            devices = re.findall(r"^\s*(\w+):", f.read(), re.M)
        routed = open("/proc/%d/net/route" % pid).read().strip().split("\n")[1:]
        assert "eth0" not in devices and routed == [], (pid, devices)


def test_sandboxes_share_no_namespace_with_the_host_or_each_other(plane):
    pids = [p for p in plane.sandboxes() if status_of(p)["NSpid"].split()[-1] == "1"]
    assert len(pids) == 3
    for kind in ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup", "time"):
        seen = {namespace(p, kind) for p in pids} | {namespace(os.getpid(), kind)}
        assert len(seen) == 4, kind


def test_no_process_holds_a_descriptor_it_was_not_given(plane):
    daemons = plane.daemons()
    for name in ("api", "modelproxy"):
        for fd in os.listdir("/proc/%d/fd" % daemons[name]):
            target = os.readlink("/proc/%d/fd/%s" % (daemons[name], fd))
            assert not target.startswith("/") or target.split(" ")[0].startswith(("/dev/null", "/memfd:")) or target == plane.log_file, (name, target)
    for pid in plane.sandboxes():
        for fd in os.listdir("/proc/%d/fd" % pid):
            target = os.readlink("/proc/%d/fd/%s" % (pid, fd))
            assert not target.startswith("/") or target.startswith(("/dev/null", "/proc/", "/memfd:")), target


def test_the_state_directory_is_the_vaults_alone(plane):
    info = os.stat(plane.state)
    assert info.st_mode & 0o777 == 0o700 and info.st_uid == plane.uid_base + 1
    assert os.stat(plane.state + "/api.sock").st_mode & 0o777 == 0o600
    for directory, directories, names in os.walk(plane.state):
        if "/images" in directory or "/workspaces" in directory:
            continue
        for name in names:
            assert os.stat(os.path.join(directory, name)).st_mode & 0o077 == 0 or name == "audit.pub", name
