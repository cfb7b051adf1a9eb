"""Negative controls of the red team: a build in which one protection after the other is left out, and an attack that has to notice each."""
import ctypes
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from plane import until  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = pathlib.Path(os.environ.get("IRONCLAW_OUT", ROOT / "out"))


def redteam(box, *words, **more):
    return subprocess.run([str(box.binary), "redteam", *map(str, words)], capture_output=True, text=True, timeout=280,
                          stdin=subprocess.DEVNULL, **{**box.options(), **more})


@pytest.fixture(scope="module")
def weakened():
    """The build whose protections can be switched off."""
    subprocess.run([str(ROOT / "run"), "weakened"], check=True, capture_output=True, timeout=580)
    return ROOT / "build/out-weakened/ironclaw"


def test_every_protection_that_is_taken_away_is_noticed(weakened, tmp_path):
    table = tmp_path / "controls.json"
    done = subprocess.run([str(weakened), "redteam", "--negative-controls", "--json", str(table)], capture_output=True, text=True, timeout=900,
                          stdin=subprocess.DEVNULL)
    rows = json.loads(table.read_text())
    missed = [(c["protection"], c["tried"]) for c in rows["controls"] if not c["noticed"]]
    assert missed == [] and rows["all_noticed"], missed
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(b["verdict"] in ("PASS", "GAP") for b in rows["baseline"]), "with every protection in place the same attacks are held off"
    assert len(rows["controls"]) >= (33 if os.geteuid() == 0 else 26)
    assert {c["wall"] for c in rows["controls"]} == {"container", "cell"}
    for c in rows["controls"]:
        noticed = [t for t in c["tried"] if t["verdict"] == "FAIL"]
        assert noticed and c["held_without_the_others"], c


def test_a_link_put_in_the_way_of_the_file_server_leads_nowhere(weakened):
    """Two may write to a mount: one changes modes in a cell, the other swaps the directory and a link. Without the empty root around the server,
    which would hide it, the kernel's resolution beneath the mount has to do."""
    base = pathlib.Path(tempfile.mkdtemp(prefix="ironclaw-test-", dir="/tmp"))  # what the weakened root shows
    shared, outside = base / "shared", base / "outside"
    options = {"env": {"PATH": os.environ["PATH"], "HOME": str(base), "IRONCLAW_WEAKEN": "cell-root"}}
    swap = ctypes.CDLL(None).renameat2
    try:
        base.chmod(0o755)
        for d in (shared / "d", outside):
            d.mkdir(parents=True)
            (d / "f").touch()
            (d / "f").chmod(0o600)
        (shared / "way").symlink_to(outside)
        shutil.copytree(weakened.parent, base / "out")
        if os.geteuid() == 0:  # rootless: else what is outside belongs to somebody else than the sandbox
            options.update(user=65534, group=65534, extra_groups=[])
            for path in [base, *base.rglob("*")]:
                os.chown(path, 65534, 65534, follow_symlinks=False)
        with subprocess.Popen([str(base / "out/ironclaw"), "run", "--wall", "cell", "--state-dir", str(base / "state"), "--mount", "%s:/shared:rw" % shared,
                               "--", "sh", "-c", "while :; do chmod 666 /shared/d/f; chmod 644 /shared/d/f; done"],
                              stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options) as run:
            until("the cell changes modes", lambda: (shared / "d/f").stat().st_mode & 0o777 != 0o600, 30)
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline:
                swap(-100, os.fsencode(shared / "d"), -100, os.fsencode(shared / "way"), 2)  # AT_FDCWD, RENAME_EXCHANGE
            alive_still = run.poll() is None
            run.kill()
        assert alive_still and (outside / "f").stat().st_mode & 0o777 == 0o600
    finally:
        shutil.rmtree(base, ignore_errors=True)


def test_the_controls_are_documented_row_by_row(weakened):
    page = (ROOT / "docs/red-team.md").read_text()
    source = (ROOT / "src/redteam/controls.c").read_text()
    protections = re.findall(r'^    \{"([^"]+)",', source, re.M)
    assert len(protections) >= 18
    assert [p for p in protections if "| %s |" % p not in page] == []


def test_no_release_binary_has_a_switch(boxes):
    names = set(re.findall(r'weakened\("([^"]+)"\)', "".join(p.read_text() for p in (ROOT / "src").rglob("*.c"))))
    assert len(names) >= 15
    distinct = {n for n in names if "-" in n} - {"no-new-privs"}  # the red team's own attack has that name
    for path in [OUT / "ironclaw", *sorted((OUT / "libexec/ironclaw").iterdir())]:
        data = path.read_bytes()
        assert b"WEAKEN" not in data and b"weaken" not in data, path
        # A name stands alone as a C string; "memory-limit" as a check of the red team's is not a switch of the wall's.
        if path.name != "ironclaw-redteam":
            assert [n for n in distinct if b"\0%s\0" % n.encode() in data] == [], path
        symbols = subprocess.run(["nm", "-a", str(path)], capture_output=True, text=True, timeout=60).stdout
        assert "weaken" not in symbols.lower(), path


def test_the_weakened_build_has_the_switches(weakened):
    assert b"IRONCLAW_WEAKEN" in (weakened.parent / "libexec/ironclaw/ironclaw-launcher").read_bytes()


def test_a_release_build_ignores_the_variable(root_box):
    done = redteam(root_box, "--attack", "net.host-loopback", env={**root_box.env, "IRONCLAW_WEAKEN": "network,seccomp,landlock"})
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_controls_are_no_option_of_a_release_build(root_box):
    done = redteam(root_box, "--negative-controls")
    assert done.returncode == 2 and "unknown option" in done.stderr
