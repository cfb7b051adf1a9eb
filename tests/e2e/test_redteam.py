"""`ironclaw redteam`: every attack is held off, a missing protection is noticed, and the report says so in a way that can be checked.

The run of all attacks is the promise itself. Everything else here is about the instrument: that it cannot be fooled into a pass,
that it names what is wrong with a command line or a report, and that it leaves nothing behind.
"""
import ctypes
import glob
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import jsonschema
import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from plane import Plane, alive, all_pids, status_of, until  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = pathlib.Path(os.environ.get("IRONCLAW_OUT", ROOT / "out"))
SCHEMA = json.loads((ROOT / "docs/red-team/report.schema.json").read_text())
# Short, and of several families: for tests about the instrument.
QUICK = ["--attack", "net.dns", "--attack", "engine.sockets", "--attack", "queue.replay"]


def redteam(box, *words, timeout=280, **more):
    return subprocess.run([str(box.binary), "redteam", *map(str, words)], capture_output=True, text=True, timeout=timeout,
                          stdin=subprocess.DEVNULL, **{**box.options(), **more})


def start(box, *words):
    return subprocess.Popen([str(box.binary), "redteam", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, **box.options())


def leftovers(box):
    """Temporary directories of red team runs that belong to this mode's user."""
    return [d for d in glob.glob("/tmp/ironclaw-redteam.*") if os.stat(d).st_uid == box.uid]


def descendants(pid):
    children = {}
    for p in all_pids():
        children.setdefault(int(status_of(p).get("PPid", 0)), []).append(p)
    found, todo = [], [pid]
    while todo:
        todo.extend(children.get(todo.pop(), []))
        found.extend(p for p in todo if p not in found)
    return found


# ---- the promise -------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def runs(boxes, tmp_path_factory):
    """One full run per wall and mode: (status, stdout, results, path of the report)."""
    made = {}

    def get(wall, mode):
        box = boxes(wall, mode)
        if (wall, mode) not in made:
            there = box.base / "redteam"
            there.mkdir()
            os.chown(there, box.uid, box.uid)
            chosen = [] if wall != "gvisor" else [w for a in json.loads(redteam(box, "list", "--json").stdout)
                                                  if a["attack"] not in SLOW_UNDER_GVISOR for w in ("--attack", a["attack"])]
            done = redteam(box, "--wall", wall, *chosen, "--json", there / "results.json", "--report", there / "report.json", timeout=580)
            assert (there / "results.json").exists(), done.stdout + done.stderr
            made[wall, mode] = (done, json.loads((there / "results.json").read_text()), there / "report.json", box)
        return made[wall, mode]
    return get


# A minute under gVisor's ptrace platform: `ironclaw redteam --wall gvisor` runs it as well.
SLOW_UNDER_GVISOR = {"port.parallel"}

FULL = [("container", "root"), ("container", "rootless"), ("cell", "root"), ("cell", "rootless"), ("gvisor", "root")]


@pytest.mark.parametrize("wall,mode", FULL)
def test_every_attack_is_tried_to_its_end_and_held_off(runs, wall, mode):
    done, results, _, _ = runs(wall, mode)
    bad = [(r["attack"], r["verdict"], r["why"]) for r in results["results"] if r["verdict"] not in ("PASS", "GAP")]
    assert bad == [], bad
    assert done.returncode == 0 and results["held"] is True


@pytest.mark.parametrize("wall,mode", FULL)
def test_every_family_of_the_wall_is_in_the_run(runs, wall, mode):
    _, results, _, _ = runs(wall, mode)
    assert {r["family"] for r in results["results"]} == set(range(1, 14 if wall == "cell" else 13))


@pytest.mark.parametrize("wall,mode", FULL)
def test_a_gap_is_one_that_the_table_documents_and_every_other_check_of_it_holds(runs, wall, mode):
    _, results, _, box = runs(wall, mode)
    table = {a["attack"]: a["gaps"] for a in json.loads(redteam(box, "list", "--json").stdout)}
    for r in results["results"]:
        failed = {c["check"] for c in r["checks"] if not c["ok"]}
        documented = {g["check"] for g in table[r["attack"]] if g["wall"] in (wall, "any")}
        assert failed <= documented, r["attack"]
        assert (r["verdict"] == "GAP") == bool(failed), r["attack"]


@pytest.mark.parametrize("wall,mode", FULL)
def test_every_row_has_wall_boundary_and_the_event_that_told(runs, wall, mode):
    done, results, _, _ = runs(wall, mode)
    for r in results["results"]:
        assert re.search(r"^%s +%s +%s +%s +\S" % (re.escape(r["attack"]), wall, r["boundary"], r["verdict"]), done.stdout, re.M), r["attack"]
        assert r["event"]
    assert {r["boundary"] for r in results["results"]} >= {"B1", "B2", "B3", "B4", "B5"}


def test_the_reachable_system_calls_are_counted_and_listed(runs):
    _, results, _, _ = runs("container", "root")
    figures = next(r for r in results["results"] if r["attack"] == "kernel.calls")["figures"]
    numbers = figures["reachable_numbers"]
    assert figures["reachable_calls"] == len(numbers) == len(set(numbers))
    assert {0, 1, 39} <= set(numbers), "read, write and getpid are reachable"
    assert not {101, 165, 321, 425} & set(numbers), "ptrace, mount, bpf and io_uring_setup are not"


def test_a_cell_reaches_few_calls_of_the_host(runs):
    _, results, _, _ = runs("cell", "root")
    figures = next(r for r in results["results"] if r["attack"] == "cell.host-calls")["figures"]
    numbers = set(figures["reachable_host_numbers"])
    assert 15 <= figures["reachable_host_calls"] == len(numbers) <= 24
    assert numbers >= {1, 9, 56, 202} and not numbers & {0, 2, 41, 59, 62, 257}, "mmap and futex, but neither read, open nor kill"


# ---- negative controls -------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def weakened():
    """The build whose protections can be switched off."""
    subprocess.run([str(ROOT / "run"), "weakened"], check=True, capture_output=True, timeout=580)
    return ROOT / "build/out-weakened/ironclaw"


def test_every_protection_that_is_taken_away_is_noticed(weakened, tmp_path):
    table = tmp_path / "controls.json"
    # The default wall's with every test run, all of them with `./run controls`.
    chosen = [] if os.environ.get("IRONCLAW_ALL_CONTROLS") else ["--wall", "cell"]
    done = subprocess.run([str(weakened), "redteam", "--negative-controls", *chosen, "--json", str(table)], capture_output=True, text=True, timeout=900,
                          stdin=subprocess.DEVNULL)
    rows = json.loads(table.read_text())
    missed = [(c["protection"], c["tried"]) for c in rows["controls"] if not c["noticed"]]
    assert missed == [] and rows["all_noticed"], missed
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(b["verdict"] in ("PASS", "GAP") for b in rows["baseline"]), "with every protection in place the same attacks are held off"
    assert len(rows["controls"]) >= ((15 if chosen else 33) if os.geteuid() == 0 else (9 if chosen else 26))
    assert {c["wall"] for c in rows["controls"]} == ({"cell"} if chosen else {"container", "cell"})
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


# ---- the report --------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def report(runs):
    """(box, path) of a full run's report on the container wall."""
    mode = "root" if os.geteuid() == 0 else "rootless"
    _, _, path, box = runs("container", mode)
    return box, path


def verify(box, path, key):
    return redteam(box, "verify", path, "--public-key", key, timeout=60)


def test_the_report_verifies_offline_with_the_public_key_alone(report):
    box, path = report
    done = verify(box, path, "%s.pub" % path)
    assert done.returncode == 0 and done.stdout.startswith("ok: the signature holds"), done.stderr
    assert leftovers(box) == [], "nothing of the control plane that signed is left"


def test_the_report_fits_its_schema(report):
    body = json.loads(report[1].read_text())
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(body, SCHEMA)
    assert body["report"]["complete"] is True


@pytest.mark.parametrize("change", [lambda r: r.pop("host"), lambda r: r.update(version=2), lambda r: r["results"][0].update(verdict="FINE"),
                                    lambda r: r["results"][0].pop("checks"), lambda r: r["ironclaw"]["binaries"].clear()])
def test_the_schema_can_refuse(report, change):
    body = json.loads(report[1].read_text())
    change(body["report"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(body, SCHEMA)


def test_the_report_binds_the_results_to_every_installed_program(report):
    box, path = report
    listed = {b["name"]: b["sha256"] for b in json.loads(path.read_text())["report"]["ironclaw"]["binaries"]}
    programs = [box.binary, *(box.binary.parent / "libexec/ironclaw").iterdir()]
    for program in programs:
        digest = subprocess.run(["sha256sum", str(program)], capture_output=True, text=True, timeout=60).stdout.split()[0]
        assert listed.pop(program.name) == digest
    assert listed == {}


def test_the_text_of_the_report_is_the_table(report):
    text = pathlib.Path("%s.txt" % report[1]).read_text()
    assert re.search(r"^net\.dns +container +B4 +PASS", text, re.M) and re.search(r"\d+ passed, \d+ known gaps, 0 failed, 0 errors", text)


@pytest.mark.parametrize("where", [0.0, 0.001, 0.1, 0.35, 0.5, 0.75, 0.97, 0.999, 1.0])
def test_one_changed_byte_anywhere_is_noticed(report, tmp_path, where):
    box, path = report
    data = bytearray(path.read_bytes())
    at = min(int(where * len(data)), len(data) - 1)
    data[at] ^= 1
    changed = box.base / "changed.json"
    changed.write_bytes(data)
    changed.chmod(0o644)
    done = verify(box, changed, "%s.pub" % path)
    assert done.returncode == 1 and "changed.json: " in done.stderr and done.stdout == "", (at, done)


@pytest.mark.parametrize("make,says", [
    (lambda data: data[:-1], "cut off"),
    (lambda data: data[:len(data) // 2], "cut off"),
    (lambda data: data + b"\n", "something follows"),
    (lambda data: b"", "no containment report"),
    (lambda data: b"{}", "no containment report"),
    (lambda data: b"not JSON at all, and long enough" * 20, "no containment report"),
    (lambda data: data + b" " * (16 << 20), "16"),
    (lambda data: data.replace(b'"held":true', b'"held":false', 1), "signature does not hold"),
], ids=["truncated", "half", "longer", "empty", "object", "no-json", "oversized", "edited"])
def test_what_is_not_the_signed_report_is_refused_with_a_sentence(report, make, says):
    box, path = report
    bad = box.base / "bad.json"
    bad.write_bytes(make(path.read_bytes()))
    bad.chmod(0o644)
    done = verify(box, bad, "%s.pub" % path)
    assert done.returncode == 1 and says in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("key,says", [("ab" * 32, "signature does not hold"), ("zz" * 32, "does not hold an Ed25519 public key"), ("", "public key")])
def test_another_key_does_not_verify(report, key, says):
    box, path = report
    other = box.base / "other.pub"
    other.write_text(key)
    other.chmod(0o644)
    done = verify(box, path, other)
    assert done.returncode == 1 and says in done.stderr, done.stderr


def test_a_report_about_another_build_is_named_as_that(report):
    box, path = report
    copy = box.base / "other-build"
    shutil.copytree(box.base / "out", copy)
    try:
        with open(copy / "libexec/ironclaw/ironclaw-vault", "ab") as f:
            f.write(b"\0")
        done = subprocess.run([str(copy / "ironclaw"), "redteam", "verify", str(path), "--public-key", "%s.pub" % path], capture_output=True,
                              text=True, timeout=60)
        assert done.returncode == 1 and "the installed ironclaw-vault is not the one that was attacked" in done.stderr
    finally:
        shutil.rmtree(copy)


def test_a_running_deployment_signs_with_its_own_key(root_box):
    with Plane(out=str(root_box.base / "out")) as plane:
        path = os.path.join(plane.dir, "report.json")
        done = redteam(root_box, *QUICK, "--report", path, "--state-dir", plane.state, env={**root_box.env, "IRONCLAW_TOKEN": plane.token})
        assert done.returncode == 0, done.stdout + done.stderr
        done = redteam(root_box, "verify", path, "--state-dir", plane.state, timeout=60)
        assert done.returncode == 0 and "only some attacks were run" in done.stdout, done.stderr
        assert verify(root_box, path, os.path.join(plane.state, "audit.pub")).returncode == 0
        signed = [r for r in plane.json("GET", "/v1/audit?limit=1000")["records"] if r["type"] == "report.signed"]
        assert len(signed) == 1 and re.fullmatch("[0-9a-f]{64}", signed[0]["digest"])


def test_only_an_administrator_has_reports_signed_and_only_digests():
    with Plane() as plane:
        for scope in ("read", "operator"):
            token = plane.json("POST", "/v1/tokens", {"name": scope, "scope": scope})["token"]
            assert plane.http("POST", "/v1/reports/sign", {"digest": "0" * 64}, token=token)[0] == 403
        for digest in ("", "0" * 63, "0" * 65, "A" * 64, "ironclaw audit checkpoint 1 7 1700000000000 " + "0" * 20, 7, None):
            assert plane.http("POST", "/v1/reports/sign", {"digest": digest})[0] == 400, digest
        answer = plane.json("POST", "/v1/reports/sign", {"digest": "0" * 64})
        assert answer["public_key"] == plane.json("GET", "/v1/audit/key")["public_key"]


# ---- the command -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("words,says", [
    (["--wall", "paper"], "there is no wall 'paper'"),
    (["--wall", "container,paper"], "there is no wall 'paper'"),
    (["--attack", "net.nothing"], "there is no attack or family 'net.nothing'"),
    (["--attack"], "missing value"),
    (["--bogus"], "--bogus"),
    (["stray"], "unexpected argument 'stray'"),
    (["list", "stray"], "unexpected argument 'stray'"),
    (["verify"], "takes one report"),
    (["verify", "a", "b"], "takes one report"),
    (["verify", "a", "--bogus"], "--bogus"),
])
def test_a_wrong_command_line_is_one_sentence_and_status_2(boxes, words, says):
    box = boxes("container", "rootless")
    done = redteam(box, *words, timeout=60)
    assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1, (done.returncode, done.stderr)
    assert leftovers(box) == []


def test_a_family_is_chosen_by_number_or_name(boxes):
    box = boxes("container", "rootless")
    done = redteam(box, "--attack", "2", "--attack", "network", "--json", "-")
    results = json.loads(done.stdout)["results"]
    assert {r["family"] for r in results} == {1, 2} and done.returncode == 0


def test_the_list_names_every_attack_once_with_family_and_boundary(boxes):
    box = boxes("container", "rootless")
    attacks = json.loads(redteam(box, "list", "--json").stdout)
    assert len({a["attack"] for a in attacks}) == len(attacks) >= 60
    assert {a["family"] for a in attacks} == set(range(1, 14))
    assert {a["family"] for a in attacks if a.get("wall") == "cell"} == {13}
    text = redteam(box, "list").stdout
    assert all(a["attack"] in text and a["title"] in text for a in attacks)


def test_every_attack_and_gap_is_on_the_page(boxes):
    page = (ROOT / "docs/red-team.md").read_text()
    attacks = json.loads(redteam(boxes("container", "rootless"), "list", "--json").stdout)
    assert [a["attack"] for a in attacks if "| `%s` |" % a["attack"] not in page] == []
    reasons = {g["reason"] for a in attacks for g in a["gaps"]}
    assert reasons and [r for r in reasons if r not in page] == []


def test_an_attack_that_the_inside_does_not_know_is_an_error_not_a_pass(boxes):
    """An attacker that answers nothing of what it was asked: the program of another build, say."""
    box = boxes("container", "rootless")
    copy = box.base / "mute"
    shutil.copytree(box.base / "out", copy)
    try:
        attacker = copy / "libexec/ironclaw/ironclaw-attacker"
        data = attacker.read_bytes()
        assert data.count(b"net.dns\0") == 1
        attacker.write_bytes(data.replace(b"net.dns\0", b"net.dnx\0"))
        done = subprocess.run([str(copy / "ironclaw"), "redteam", "--attack", "net.dns"], capture_output=True, text=True, timeout=280, **box.options())
        assert done.returncode == 1 and re.search(r"^net\.dns .* ERROR", done.stdout, re.M), done.stdout + done.stderr
        assert "was not tried to its end: unknown" in done.stdout
    finally:
        shutil.rmtree(copy)


# ---- ends --------------------------------------------------------------------------------------------------------------

def busy(box):
    """A run in the midst of its attacks, and the processes below it."""
    run = start(box, "--wall", box.wall)
    until("the sandboxes run", lambda: any("attack" in status_of(p).get("Name", "") for p in descendants(run.pid)), 60)
    return run, descendants(run.pid)


def test_interrupted_it_stops_its_control_plane_and_removes_everything(box):
    run, below = busy(box)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=90)
    assert run.returncode != 0 and "interrupted" in err
    until("every process is gone", lambda: not any(alive(p) for p in below))
    assert leftovers(box) == []


def test_killed_it_takes_its_control_plane_along_and_the_next_run_removes_the_rest(box):
    run, below = busy(box)
    run.kill()
    run.communicate(timeout=30)
    until("every process is gone", lambda: not any(alive(p) for p in below), 60)
    assert len(leftovers(box)) == 1
    done = redteam(box, "--attack", "net.dns")
    assert done.returncode == 0, done.stdout + done.stderr
    assert leftovers(box) == []


def test_a_run_that_is_going_on_is_not_swept_by_another(box):
    run, _ = busy(box)
    try:
        there = leftovers(box)
        assert redteam(box, "--attack", "net.dns").returncode == 0
        assert leftovers(box) == there and run.poll() is None
    finally:
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=90)
    assert leftovers(box) == []


def test_a_kept_directory_is_named_and_stays_until_it_is_removed(box):
    done = redteam(box, "--attack", "net.dns", "--keep")
    kept = re.search(r"directory is (/tmp/ironclaw-redteam\.\w+)", done.stderr).group(1)
    assert done.returncode == 0 and os.path.exists(os.path.join(kept, "state/audit.log"))
    shutil.rmtree(kept)


def test_progress_is_shown_on_a_terminal_only(boxes):
    box = boxes("container", "rootless")
    done = redteam(box, "--attack", "net.dns")
    assert done.stderr == "", "no terminal, no progress"
    master, slave = os.openpty()
    with subprocess.Popen([str(box.binary), "redteam", "--attack", "net.dns"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=slave,
                          **box.options()) as run:
        os.close(slave)
        seen, deadline = b"", time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                data = os.read(master, 4096)
            except OSError:
                break
            if not data:
                break
            seen += data
        run.wait(60)
    os.close(master)
    assert b"net.dns" in seen and run.returncode == 0
