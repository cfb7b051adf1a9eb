"""Options of `ironclaw run`: each bad value has one sentence, mounts and workspaces are what they promise, images repair themselves."""
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


# ---- mounts


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


@pytest.mark.parametrize("target", ["/proc", "/proc/self", "/dev", "/dev/null", "/sys", "/run/ironclaw/x", "/tmp", "/workspace"])
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


# ---- workspaces


def test_a_workspace_keeps_what_is_written_for_its_owner(box):
    work = box.directory("kept")
    box.sh("echo first >a; mkdir d", "--workspace", work)
    assert box.sh("cat a; echo more >>a; rmdir d; ls -ld . | cut -c1-10", "--workspace", work).startswith("first\n")
    assert (work / "a").read_text() == "first\nmore\n"
    assert (work / "a").stat().st_uid == box.uid and not (work / "d").exists()


def test_a_workspace_of_another_user_stays_that_users(root_box):
    work = root_box.directory("others")
    os.chown(work, 4321, 8765)
    (work / "roots").write_text("root's\n")
    (work / "roots").chmod(0o600)
    done = root_box.run("--workspace", work, "--", "sh", "-c", "echo x >mine; cat roots; echo y >roots")
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


# ---- root file systems and images


def test_a_root_file_system_must_be_a_directory(box):
    for path in ("/nonexistent", "/etc/passwd"):
        done = box.run("--rootfs", path, "--", "true")
        assert done.returncode == 125
        assert "is not a directory" in done.stderr


def test_a_root_file_system_without_the_command_is_127(box):
    tree = box.directory("empty-tree")
    done = box.run("--rootfs", tree, "--", "sh", "-c", "true")
    assert done.returncode == 127
    assert "cannot execute sh" in done.stderr


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
