"""`ironclaw bench` and `ironclaw capacity`: what they print is complete, measured, and says when a contender did not do its work.

No figure is compared with a bound here: that is what the benchmark itself is for."""
import json
import os
import pathlib
import shutil
import subprocess

import jsonschema
import pytest

from conftest import OUT, ROOT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="not root: the OCI peers need it")
SCHEMA = json.loads((ROOT / "docs" / "benchmarks" / "results.schema.json").read_text())
LOOPS = 9


@pytest.fixture
def ironclaw(tmp_path):
    def run(*words, only=None, timeout=280):
        """`only`: of all programs, just these are found; what is no file is a program of the host."""
        path = os.environ["PATH"]
        if only is not None:
            bin = tmp_path / "bin"
            bin.mkdir()
            for program in [*only, "cp", "install"]:
                (bin / os.path.basename(program)).symlink_to(program if "/" in program else shutil.which(program))
            path = str(bin)
        before = set(pathlib.Path("/tmp").glob("ironclaw-bench.*"))
        env = {**os.environ, "IRONCLAW_STATE_DIR": str(tmp_path / "state"), "PATH": path}
        done = subprocess.run([str(OUT / "ironclaw"), *words], capture_output=True, text=True, timeout=timeout, env=env, stdin=subprocess.DEVNULL)
        assert set(pathlib.Path("/tmp").glob("ironclaw-bench.*")) <= before, "a temporary directory stayed"
        return done

    return run


def results(directory):
    document = json.loads((directory / "results.json").read_text())
    jsonschema.validate(document, SCHEMA)
    return document["results"]


def test_the_report_holds_every_contender_with_figures_and_the_method(ironclaw, tmp_path):
    done = ironclaw("bench", "--quick", "--rounds", "3", "--wall", "container", "--only", "start,loops", "--out", str(tmp_path / "r"), only=["bwrap", "runc"])
    assert done.returncode == 0, done.stderr
    rows = results(tmp_path / "r")
    assert not [r for r in rows if "failed" in r], rows
    contenders = {r["contender"] for r in rows}
    assert {"ironclaw container", "bwrap", "runc"} <= contenders
    for who in contenders - {"native"}:
        warm = [r for r in rows if r["contender"] == who and r["what"] == "warm"]
        assert len(warm) == 1 and warm[0]["n"] == 3 and 0 < warm[0]["p10"] <= warm[0]["median"] <= warm[0]["p90"]
    for who in contenders:
        assert len([r for r in rows if r["contender"] == who and r["group"] == "loops"]) == LOOPS
    method = (tmp_path / "r" / "methodology.txt").read_text()
    for fact in ("kernel: ", "cpus: ", "memory: ", "cgroups: ", "versions:", "ironclaw container: ironclaw run --wall container", "bubblewrap "):
        assert fact in method, method
    table = (tmp_path / "r" / "results.md").read_text()
    assert "| start | ironclaw container |" in table and "| getppid, us |" in table


def test_charts_are_drawn(ironclaw, tmp_path):
    done = ironclaw("bench", "--quick", "--rounds", "2", "--wall", "container", "--only", "start,density", "--sandboxes", "10", "--out", str(tmp_path / "r"), only=["bwrap", "gnuplot"])
    assert done.returncode == 0, done.stderr
    for chart in ("start.svg", "memory.svg", "density.svg"):
        assert "</svg>" in (tmp_path / "r" / chart).read_text()
    parts = {r["what"]: r["median"] for r in results(tmp_path / "r") if r["contender"] == "ironclaw container" and r["group"] == "density"}
    assert parts["PSS of its processes, 10 running"] > 0 and parts["processes of one sandbox"] >= 2


@pytest.mark.parametrize("script", ["exit 0", "exit 3", "echo something else", "echo up; exit 1"], ids=["silent", "fails", "says-other", "fails-late"])
def test_a_contender_that_does_not_do_its_work_is_reported_and_never_timed(ironclaw, tmp_path, script):
    fake = tmp_path / "bwrap"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    done = ironclaw("bench", "--quick", "--rounds", "1", "--wall", "container", "--only", "start", "--out", str(tmp_path / "r"), only=[str(fake)])
    assert done.returncode == 0, done.stderr
    rows = [r for r in results(tmp_path / "r") if r["contender"] == "bwrap"]
    assert rows and all("failed" in r and "median" not in r for r in rows), rows
    assert "not measured: start, warm, bwrap: " in done.stdout


def test_the_control_plane_is_measured(ironclaw, tmp_path):
    done = ironclaw("bench", "--quick", "--sessions", "1", "--only", "plane", "--out", str(tmp_path / "r"))
    assert done.returncode == 0, done.stderr
    rows = {(r["what"], r["contender"]): r for r in results(tmp_path / "r")}
    assert rows["chat round trip, 1 sessions running", ""]["n"] == 60
    for name in (("durable appends, 1 agent", ""), ("durable appends, 8 agents at once", ""), ("lateness of a streamed chunk", "through the port"),
                 ("lateness of a streamed chunk", "direct"), ("chunks without a pause", "through the port")):
        assert rows[name]["median"] > 0


@pytest.mark.parametrize("words,sentence", [
    (["bench", "--rounds", "0"], "is not a number"),
    (["bench", "--nonsense"], "unknown option"),
    (["bench", "extra"], "unexpected argument 'extra'"),
    (["bench", "--wall", "nosuch", "--only", "start"], "no wall of that name"),
    (["capacity", "--reserve", "100"], "0 to 90"),
    (["capacity", "--sessions", "x"], "5 to 10000"),
    (["capacity", "--agent"], "unknown option or missing value"),
])
def test_wrong_options_are_one_clear_sentence(ironclaw, words, sentence):
    done = ironclaw(*words)
    assert done.returncode == 2 and sentence in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_capacity_says_what_a_session_costs_how_many_fit_and_what_runs_out_first(ironclaw):
    done = ironclaw("capacity", "--sessions", "10", "--reserve", "20", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["schema"] == "ironclaw-capacity/1" and report["reserve_percent"] == 20
    by_name = {r["resource"]: r for r in report["resources"]}
    assert by_name["processes and threads"]["per_session"] >= 2
    assert by_name["network namespaces"]["per_session"] == 1
    assert by_name["memory"]["per_session"] > 0
    fits = {name: r["sessions"] for name, r in by_name.items() if "sessions" in r}
    assert report["sessions"] == min(fits.values()) == fits[report["runs_out_first"]] > 0


def test_capacity_refuses_an_agent_that_cannot_be_read(ironclaw):
    done = ironclaw("capacity", "--agent", "nobody")
    assert done.returncode == 1 and "cannot read the agent nobody" in done.stderr
