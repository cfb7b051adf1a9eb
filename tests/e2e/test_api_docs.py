"""The commands that docs/api.md shows work as they stand."""
import os
import re
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../lib"))
from api_harness import Api  # noqa: E402
from test_api_openapi import ANSWERS  # noqa: E402

PAGE = open(os.path.join(HERE, "../../docs/api.md")).read()
COMMANDS = [line for block in re.findall(r"```\n(.*?)```", PAGE, re.S) for line in block.split("\n") if line.startswith("curl ")]


@pytest.fixture(scope="module")
def api():
    with Api(lambda call: ANSWERS[call.op]) as running:
        yield running


def test_the_page_shows_commands():
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_succeeds(api, command):
    env = {"PATH": os.environ["PATH"], "SOCK": api.path, "TOKEN": "t", "BOOTSTRAP": "b", "CHANGE": "c-1", "SESSION": "s-1"}
    done = subprocess.run(["bash", "-c", command.replace("curl ", "curl -sSf ", 1)], capture_output=True, timeout=30, env=env)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout


def test_every_error_code_of_the_source_is_on_the_page():
    source = "".join(open(os.path.join(HERE, "../../src/api", name)).read() for name in ("head.c", "request.c", "stream.c", "server.c"))
    codes = set(re.findall(r'(?:refuse|request_fail)\(r, \d+, "(\w+)"', source)) - {"client_gone"}
    assert len(codes) >= 12
    assert [code for code in sorted(codes) if "`%s`" % code not in PAGE] == []
