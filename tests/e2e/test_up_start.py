"""Starting: what is refused with one sentence, the passphrase, the mock script, an unprivileged user."""
import grp
import json
import os
import pwd
import re
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from plane import OUT, Plane, until  # noqa: E402


def one_sentence(text, *words):
    """The message of a refused start: a line that names the words, and nothing that looks like a crash."""
    lines = [line for line in text.strip().split("\n") if all(word in line for word in words)]
    assert lines, "no line with %s in:\n%s" % (words, text)
    assert "AddressSanitizer" not in text and len(text.strip().split("\n")) <= 5, text


@pytest.fixture
def offline():
    """A plane that was not started."""
    plane = Plane(start=False)
    yield plane
    plane.destroy()


def test_a_passphrase_protects_the_master_key():
    plane = Plane(start=False)
    try:
        plane.passphrase_file = os.path.join(plane.dir, "passphrase")

        def phrase(text):
            with open(plane.passphrase_file, "w") as f:
                f.write(text)
        phrase("correct horse\n")
        with plane.start():
            plane.bootstrap()
            plane.agent("coder", tools=["shell"])
            session = plane.session("coder")
            assert plane.ask(session, "hello")
            plane.stop()
            phrase("wrong horse\n")
            one_sentence(plane.refused(), "passphrase")
            file, plane.passphrase_file = plane.passphrase_file, None
            one_sentence(plane.refused(), "passphrase")
            plane.passphrase_file = file
            phrase("")
            one_sentence(plane.refused(), "empty")
            os.unlink(file)
            one_sentence(plane.refused(), file)
            phrase("correct horse\n")
            plane.start()
            assert len(plane.history(session)) == 2
            for directory, _, names in os.walk(plane.state):
                for name in filter(lambda n: n != "api.sock", names):
                    with open(os.path.join(directory, name), "rb") as f:
                        assert b"correct horse" not in f.read(), name
    finally:
        plane.destroy()


def test_a_second_start_on_the_same_state_directory_is_refused_and_the_first_goes_on():
    with Plane() as plane:
        one_sentence(plane.refused(), "another", plane.state)
        plane.agent("coder", tools=["shell"])
        assert plane.ask(plane.session("coder"), "hello")


def test_a_state_directory_of_somebody_else_is_refused(offline):
    os.mkdir(offline.state)
    os.chown(offline.state, 12345, 12345)
    one_sentence(offline.refused(), "belongs to uid 12345")


def test_a_path_that_is_too_long_is_refused(offline):
    offline.state = os.path.join(offline.home, "x" * 100)
    one_sentence(offline.refused(), "longer than", "--state-dir")


def test_a_wrong_configuration_is_named_by_line_and_column(offline):
    offline.config = {}
    config = os.path.join(offline.dir, "config.yaml")

    def start(text):
        with open(config, "w") as f:
            f.write(text)
        done = subprocess.run([os.path.join(OUT, "ironclaw"), "up", "--state-dir", offline.state, "--config", config], capture_output=True, text=True,
                              timeout=30, env=offline.environment())
        assert done.returncode == 1, done
        return done.stderr
    one_sentence(start("four_eyes: true\nfour_eye: true\n"), "config.yaml:2:1", "unknown key 'four_eye'")
    one_sentence(start("limits_max:\n  memory: much\n"), "config.yaml:2:11", "memory")
    one_sentence(start("mock_script: /nonexistent/script.yaml\n"), "/nonexistent/script.yaml")
    os.unlink(config)
    one_sentence(offline_missing(offline, config), "config.yaml", "No such file")


def offline_missing(plane, config):
    done = subprocess.run([os.path.join(OUT, "ironclaw"), "up", "--state-dir", plane.state, "--config", config], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1, done
    return done.stderr


def test_a_mock_script_decides_what_the_mock_model_says(offline):
    script = os.path.join(offline.dir, "script.yaml")
    with open(script, "w") as f:
        f.write('- match: weather\n  reply: "It rains."\n- reply: "Scripted: ${text}"\n')
    offline.config["mock_script"] = script
    with offline.start():
        offline.bootstrap()
        offline.agent("coder", tools=[])
        session = offline.session("coder")
        assert offline.ask(session, "weather?") == "It rains."
        assert offline.ask(session, "x") == "Scripted: x"
        offline.kill("modelproxy")
        offline.service()
        assert offline.ask(session, "weather again") == "It rains.", "a restarted proxy reads it from the start"
        offline.stop()
        with open(script, "w") as f:
            f.write("- match: weather\n")
        text = offline.refused()
        assert "rule 1" in text and "modelproxy" in text, text


def test_an_unprivileged_user_can_run_it_all():
    """Rootless: the same main job, with one warning line where the host delegates nothing."""
    user = pwd.getpwnam("nobody")
    place = "/tmp/icp-out-%d" % os.getpid()
    shutil.copytree(OUT, place)
    os.chmod(place, 0o755)
    try:
        with Plane(out=place, run_as=(user.pw_uid, grp.getgrgid(user.pw_gid).gr_gid)) as plane:
            plane.cli("agent", "create", "coder", "--tools", "shell,write_file,request_change")
            change = re.search(r"c-[0-9a-f]+", plane.cli("change", "pending")).group(0)
            plane.cli("change", "approve", change)
            assert "id is 1000" in plane.cli("chat", "coder", "run: echo id is $(id -u)")
            session = json.loads(plane.cli("session", "list", "--json"))
            session = (session["sessions"] if isinstance(session, dict) else session)[0]["id"]
            plane.ask(session, "need: read_file: to read")
            change = re.search(r"c-[0-9a-f]+", plane.cli("change", "pending")).group(0)
            plane.cli("change", "approve", change)
            assert "read_file" in plane.cli("agent", "show", "coder")
            assert plane.ask(session, "back?").endswith("You said: back?")
            assert re.search(r"cgroup|delegat|limit", plane.log()), "what is not enforced is said: %s" % plane.log()
            for name, pid in plane.daemons().items():
                with open("/proc/%d/status" % pid) as f:
                    status = f.read()
                assert "Seccomp:\t2" in status and "NoNewPrivs:\t1" in status, name
            plane.kill_all()
            plane.start()
            assert plane.ask(session, "and after a crash?").endswith("crash?")
            assert "ok" in plane.cli("audit", "verify")
            plane.json("DELETE", "/v1/sessions/" + session, expect=204)
            until("the workspace is gone", lambda: not os.path.exists(os.path.join(plane.state, "workspaces", session)))
    finally:
        shutil.rmtree(place)
