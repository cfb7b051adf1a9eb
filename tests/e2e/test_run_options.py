"""Options of `ironclaw run`: each bad value has one sentence, images repair themselves."""
import os
import shutil
import subprocess
import time

import pytest

BAD = [
    ([], "no command given"),
    (["--"], "no command given"),
    (["--no-such-option", "--", "true"], "unknown option"),
    (["-x", "--", "true"], "unknown option"),
    (["--memory"], "missing value"),
    (["--wall", "paper", "--", "true"], "no wall 'paper'"),
    *[(["--memory", v, "--", "true"], "--memory takes") for v in ("", "0", "-1", "64X", "1.5G", "512K", "99999999999T")],
    *[(["--cpus", v, "--", "true"], "--cpus takes") for v in ("", "0", "0.0", "-1", "1.", ".5", "1.2345", "x", "5000", "1e2")],
    *[(["--pids", v, "--", "true"], "--pids takes") for v in ("", "0", "1", "-5", "x", "4194305")],
    *[(["--timeout", v, "--", "true"], "--timeout takes") for v in ("", "0", "0s", "5d", "-1s", "1.5s", "s", "99999999999s")],
    *[(["--env", v, "--", "true"], "--env takes") for v in ("", "=x", "A-B=1", "A B")],
    (["--env", "NOT_SET_ANYWHERE", "--", "true"], "no such variable"),
    *[(["--mount", v, "--", "true"], "--mount takes") for v in (
        "", "/etc", "etc:/x", "/etc:x", "/etc:/", "/etc:/a/../../b", "/etc:/x:rx", "/etc:/x:rw:ro", ":/x")],
]


@pytest.mark.parametrize("words,sentence", BAD, ids=[" ".join(w) or "nothing" for w, _ in BAD])
def test_a_bad_command_line_is_one_sentence_and_status_2(rootless_box, words, sentence):
    argv = rootless_box.argv(*words)
    if words[:1] == ["--wall"]:
        argv = [argv[0], "run", *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, **rootless_box.options())
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("ironclaw: ") and sentence in done.stderr, done.stderr


def test_help_ends_with_an_example(rootless_box):
    done = rootless_box.run("--help")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("example:")


# ---- root file systems and images


def test_a_root_file_system_must_be_a_directory(box):
    for path in ("/nonexistent", "/etc/passwd"):
        done = box.run("--rootfs", path, "--", "true")
        assert done.returncode == 125
        assert "is not a directory" in done.stderr


def test_an_unknown_image_is_one_sentence(box):
    done = box.run("--image", "never-made", "--", "true")
    assert done.returncode == 125
    assert "no image 'never-made'" in done.stderr
    assert box.run("--image", "../base", "--", "true").returncode == 125


def test_first_runs_at_the_same_time_share_one_image(box):
    state = box.directory("raced")
    racers = [box.start("--state-dir", state, "--", "echo", "ran") for _ in range(6)]
    assert [(r.communicate(timeout=60)[0], r.returncode) for r in racers] == [("ran\n", 0)] * 6
    assert os.listdir(state / "images") == ["base"]


def wait_for(path):
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, "%s did not appear" % path
        time.sleep(0.01)


class Running:
    """A sandbox that has started and waits; finish() lets it list its image and returns what it says."""

    def __init__(self, box, state, name):
        self.work = box.directory(name)
        self.process = box.start("--state-dir", state, "--workspace", self.work, "--", "/usr/bin/busybox", "sh", "-c",
                                 "echo >/workspace/up; while [ ! -e /workspace/go ]; do usleep 10000; done; ls /usr/bin/busybox /etc/passwd")
        wait_for(self.work / "up")

    def finish(self):
        (self.work / "go").touch()
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out.split(), err


def image(box, state, *words):
    return subprocess.run([str(box.binary), "image", *words], capture_output=True, text=True, timeout=30,
                          **{**box.options(), "env": {**box.env, "IRONCLAW_STATE_DIR": str(state)}})


def test_a_running_sandbox_keeps_its_image_while_it_is_replaced(box):
    state = box.directory("replaced")
    running = Running(box, state, "replaced-work")
    for _ in range(2):  # an outdated image is made anew, twice: the second build must not take the tree aside for rubbish
        (state / "images/base/manifest.json").write_text("{")
        assert box.sh("echo new", "--state-dir", state) == "new\n"
    aside = [n for n in os.listdir(state / "images") if n.startswith(".old.")]
    assert len(aside) == 1, "the tree in use, and not the one that nobody used, is kept"
    code, out, err = running.finish()
    assert (code, out) == (0, ["/etc/passwd", "/usr/bin/busybox"]), err
    assert image(box, state, "build", "base").returncode == 0
    assert os.listdir(state / "images") == ["base"]


def test_an_image_in_use_is_not_removed(box):
    state = box.directory("removed")
    running = Running(box, state, "removed-work")
    done = image(box, state, "rm", "base")
    assert done.returncode == 1
    assert done.stderr == "ironclaw: the image 'base' is in use: a sandbox runs on it (stop it first)\n"
    assert running.finish()[:2] == (0, ["/etc/passwd", "/usr/bin/busybox"])
    assert image(box, state, "rm", "base").returncode == 0
    assert os.listdir(state / "images") == []


def test_a_killed_owner_no_longer_holds_its_image(box):
    state = box.directory("killed-owner")
    running = Running(box, state, "killed-owner-work")
    running.process.kill()
    running.process.communicate(timeout=30)
    deadline = time.monotonic() + 20
    while (done := image(box, state, "rm", "base")).returncode != 0:
        assert "in use" in done.stderr and time.monotonic() < deadline, done.stderr
        time.sleep(0.02)
    assert os.listdir(state / "images") == []


def test_without_a_static_busybox_the_missing_package_is_named(root_box):
    state = root_box.directory("no-busybox")
    hide = "; ".join("[ ! -e %s ] || mount --bind /dev/null %s" % (p, p) for p in (
        "/bin/busybox", "/usr/bin/busybox", "/sbin/busybox", "/usr/local/bin/busybox"))
    line = " ".join(root_box.argv("--state-dir", state, "--", "true"))
    done = subprocess.run(["unshare", "-m", "sh", "-c", hide + "; exec " + line], capture_output=True, text=True, timeout=30, **root_box.options())
    assert done.returncode == 125
    assert done.stderr == "ironclaw: the base image needs a static busybox (as root: apt-get install busybox-static)\n"


def test_a_damaged_image_is_built_anew(box):
    state = box.directory("damaged")
    box.sh("true", "--state-dir", state)
    (state / "images/base/manifest.json").write_text("{")
    shutil.rmtree(state / "images/base/rootfs/usr")
    assert box.sh("echo whole", "--state-dir", state) == "whole\n"
