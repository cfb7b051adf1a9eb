"""Shared fixtures: the release binaries (IRONCLAW_OUT) and `box`, `ironclaw run` under each wall, as root and rootless."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = pathlib.Path(os.environ.get("IRONCLAW_OUT", ROOT / "out"))
# Each wall in the modes that it promises: gVisor needs root.
WALLS = {"container": ["root", "rootless"], "cell": ["root", "rootless"], "gvisor": ["root"]}
NOBODY = 65534


class Box:
    """`ironclaw run` with one wall, in one mode, with a state directory of its own."""

    def __init__(self, base, wall, mode):
        self.base, self.wall, self.mode = base, wall, mode
        self.binary = base / "out" / "ironclaw"
        self.env = {"PATH": os.environ["PATH"], "HOME": str(base), "IRONCLAW_STATE_DIR": str(base / "state")}
        self.uid = os.geteuid() if mode == "root" else NOBODY if os.geteuid() == 0 else os.geteuid()

    def argv(self, *words):
        return [str(self.binary), "run", "--wall", self.wall, *map(str, words)]

    def options(self):
        """What makes a subprocess the caller of this mode."""
        options = {"env": self.env, "cwd": self.base}
        if self.uid != os.geteuid():
            options.update(user=self.uid, group=self.uid, extra_groups=[])
        return options

    def run(self, *words, timeout=60, stdin=b"", text=True, **more):
        more = {**self.options(), **more}
        if "stdin_fd" in more:
            source = {"stdin": more.pop("stdin_fd")}
        else:
            source = {"input": stdin if not text or isinstance(stdin, str) else stdin.decode()}
        return subprocess.run(self.argv(*words), capture_output=True, text=text, timeout=timeout, **source, **more)

    def sh(self, script, *options, **more):
        """Runs a shell script inside, which must succeed; returns what it printed."""
        done = self.run(*options, "--", "sh", "-c", script, **more)
        assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
        return done.stdout

    def start(self, *words, **more):
        more = {**self.options(), "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more}
        return subprocess.Popen(self.argv(*words), **more)

    def missing(self):
        """What this host lacks for this wall in this mode; empty if it can be used."""
        if self.wall == "container":
            return ""  # every host of ours can; what fails is a failure
        done = subprocess.run([str(self.binary), "doctor", "--json"], capture_output=True, text=True, timeout=120, **self.options())
        wall = next(w for w in json.loads(done.stdout)["walls"] if w["wall"] == self.wall)
        return "" if wall["available"] else "%s wall: %s" % (self.wall, wall["shortfall"])

    def directory(self, name):
        """A directory that belongs to the caller of this mode."""
        path = self.base / name
        path.mkdir()
        os.chown(path, self.uid, self.uid)
        return path


def pytest_collection_modifyitems(items):
    """With two workers, each file runs in one of them (--dist loadfile): the longest first, so that both end together."""
    items.sort(key=lambda item: item.path.name != "test_redteam.py")


@pytest.fixture(scope="session")
def boxes():
    """One copy of the binaries per mode, where an unprivileged user can reach them."""
    made = {}
    base = pathlib.Path(tempfile.mkdtemp(prefix="ironclaw-test-"))
    base.chmod(0o755)

    def get(wall, mode):
        if mode == "root" and os.geteuid() != 0:
            pytest.skip("not root: no sandbox with a host uid of its own")
        if (wall, mode) not in made:
            home = base / (wall + "-" + mode)
            shutil.copytree(OUT, home / "out")
            box = Box(home, wall, mode)
            os.chown(home, box.uid, box.uid)
            made[wall, mode] = (box, box.missing())
        box, missing = made[wall, mode]
        if missing:
            pytest.skip(missing)
        return box

    yield get
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(params=[("container", m) for m in WALLS["container"]], ids="-".join)
def box(request, boxes):
    """The container wall, in both modes: for what belongs to its mechanism."""
    return boxes(*request.param)


@pytest.fixture
def root_box(boxes):
    return boxes("container", "root")


@pytest.fixture
def rootless_box(boxes):
    return boxes("container", "rootless")


@pytest.fixture(params=[(w, m) for w in WALLS for m in WALLS[w]], ids="-".join)
def any_box(request, boxes):
    """Every wall in every mode: for what all walls promise alike."""
    return boxes(*request.param)


@pytest.fixture(params=[w for w in WALLS if "root" in WALLS[w]])
def any_root_box(request, boxes):
    return boxes(request.param, "root")
