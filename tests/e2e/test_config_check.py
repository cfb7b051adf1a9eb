"""`ironclaw config check`: what the documentation shows is accepted, mistakes are pointed at."""
import json
import os
import re
import subprocess

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
CTL = os.path.join(os.environ["IRONCLAW_BUILD"], "src/cli/ironclaw-ctl")


def check(path, **env):
    return subprocess.run([CTL, "config", "check", str(path)], capture_output=True, timeout=60, env={"HOME": "/home/x", "PATH": "/bin", **env})


def test_the_example_of_the_documentation_is_valid(tmp_path):
    page = open(os.path.join(ROOT, "docs/configuration.md")).read()
    (tmp_path / "c.yaml").write_text(re.search(r"```yaml\n(.*?)```", page, re.S).group(1))
    done = check(tmp_path / "c.yaml")
    assert done.returncode == 0, done.stderr
    conf = json.loads(done.stdout)
    assert conf["four_eyes"] is True and conf["limits_max"]["memory"] == 2 << 30 and set(conf["providers"]) == {"anthropic", "openai", "local"}


def test_a_mistake_is_named_with_file_line_and_column(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("four_eyes: true\napi:\n  rate: 5\n")
    done = check(path)
    assert done.returncode == 1 and done.stdout == b""
    assert done.stderr.decode() == "ironclaw: %s:3:3: unknown key 'rate' in 'api'; did you mean rate_per_minute\n" % path


def test_host_variables_are_captured_only_when_allowed(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("env_allowed: [TZ, MISSING]\n")
    conf = json.loads(check(path, TZ="UTC", SECRET="x").stdout)
    assert conf["host_env"] == {"TZ": "UTC"}


def test_the_state_directory_has_a_default(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("")
    want = "/var/lib/ironclaw" if os.geteuid() == 0 else "/s/ironclaw"
    assert json.loads(check(path, XDG_STATE_HOME="/s").stdout)["state_dir"] == want


def test_the_client_s_variable_names_the_state_directory_unless_the_file_does(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("")
    assert json.loads(check(path, IRONCLAW_STATE_DIR="/v").stdout)["state_dir"] == "/v"
    assert b"IRONCLAW_STATE_DIR must be an absolute path" in check(path, IRONCLAW_STATE_DIR="v").stderr
    path.write_text("state_dir: /f\n")
    assert json.loads(check(path, IRONCLAW_STATE_DIR="/v").stdout)["state_dir"] == "/f"


def test_a_missing_file_is_one_sentence(tmp_path):
    done = check(tmp_path / "none")
    assert done.returncode == 1 and b"cannot open" in done.stderr and done.stderr.count(b"\n") == 1
