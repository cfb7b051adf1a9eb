"""The documents tell the truth that a machine can check: their commands work, their links and paths lead somewhere.

A fenced block marked `sh` is run; one marked `text`, `console`, `yaml` or not at all is for reading. The blocks of one page
run in order in one shell under `set -e`, against one control plane, with out/ on PATH and what a reader would have at that
point: IRONCLAW_STATE_DIR, IRONCLAW_TOKEN_FILE, SOCK, BOOTSTRAP (what the first start printed) and TOKEN. `./run VERB` lines
are only checked for the verb: they install packages.
"""
import glob
import os
import re
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.realpath(os.path.join(HERE, "../.."))
sys.path.insert(0, os.path.join(HERE, "../lib"))
from plane import OUT, Plane  # noqa: E402

PAGES = ["README.md", "SECURITY.md"] + sorted(os.path.relpath(p, ROOT) for p in glob.glob(os.path.join(ROOT, "docs/*.md")))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
RUN = re.compile(r"^\./run\b.*$", re.M)


def text_of(page):
    with open(os.path.join(ROOT, page)) as f:
        return f.read()


def blocks(text):
    """The `sh` blocks of a page, in order."""
    return [body for language, body in FENCE.findall(text) if language == "sh"]


def prose(text):
    return FENCE.sub("", text)


def script_of(text):
    """What is run: every block without its `./run` lines."""
    return "\n".join(RUN.sub("", body) for body in blocks(text))


def run_verbs(text):
    return [line.split()[1] for body in blocks(text) for line in RUN.findall(body) if len(line.split()) > 1]


def missing_links(page, text):
    """Relative link targets that do not exist, and anchors without a heading."""
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        path = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
        if not os.path.exists(os.path.join(ROOT, path)):
            found.append(target)
        elif anchor and anchor not in anchors(text_of(path)):
            found.append(target)
    return found


def anchors(text):
    heads = re.findall(r"^#+ (.*)$", prose(text), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in heads}


def missing_paths(text):
    """Paths of this tree that are named (src/..., docs/..., tests/...) and are not there. `{a,b}` and `*` as in a shell."""
    found = []
    for name in re.findall(r"(?<![\w/.$<-])((?:src|docs|tests|contrib|api|demo|man|completions)/[\w./*{},-]*[\w/*}])", text):
        parts = re.match(r"(.*)\{(.*)\}(.*)", name)
        for one in [parts[1] + middle + parts[3] for middle in parts[2].split(",")] if parts else [name]:
            if not glob.glob(os.path.join(ROOT, one)):
                found.append(one)
    return found


def missing_tests(text):
    """Tests that a page cites as `test_file.py::test_name` or `test_file.c::test_name` and that do not exist."""
    found = []
    for name, test in re.findall(r"`(test_\w+\.(?:py|c))::(\w+)`", text):
        files = glob.glob(os.path.join(ROOT, "tests/**", name), recursive=True)
        if not any(re.search(r"\b%s\(" % test, text_of(path)) for path in files):
            found.append("%s::%s" % (name, test))
    return found


def run_page(plane, script, bootstrapped, timeout=180):
    env = plane.environment(PATH=OUT + ":" + os.environ["PATH"], SOCK=os.path.join(plane.state, "api.sock"),
                            BOOTSTRAP=plane.bootstrap_token(), **({"TOKEN": plane.token} if bootstrapped else {}))
    return subprocess.run(["bash", "-c", "set -euo pipefail\n" + script], capture_output=True, text=True, timeout=timeout, env=env, cwd=plane.home,
                          stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("page", [p for p in PAGES if script_of(text_of(p)).strip()])
def test_the_commands_of_a_page_work(page):
    script = script_of(text_of(page))
    bootstrapped = "token bootstrap" not in script
    with Plane(bootstrap=bootstrapped) as plane:
        done = run_page(plane, script, bootstrapped)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_the_readme_shows_the_way_from_the_bootstrap_token_to_an_answer():
    script = script_of(text_of("README.md"))
    for step in ("token bootstrap", "agent create", "change approve", "chat", "ironclaw run", "audit verify"):
        assert step in script


def test_a_command_that_fails_would_be_noticed():
    with Plane() as plane:
        assert run_page(plane, "ironclaw agent show nobody\necho reached", True).returncode != 0
        assert run_page(plane, "ironclaw agent list", True).returncode == 0


@pytest.mark.parametrize("page", PAGES)
def test_the_build_script_has_every_verb_that_a_page_shows(page):
    with open(os.path.join(ROOT, "run")) as f:
        verbs = set(re.findall(r"^verb_(\w+)\(\)", f.read(), re.M))
    assert len(verbs) >= 5
    assert [v for v in run_verbs(text_of(page)) if v not in verbs] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    assert missing_links(page, text_of(page)) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_is_named_exists(page):
    assert missing_paths(text_of(page)) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_is_cited_exists(page):
    assert missing_tests(text_of(page)) == []


def test_the_checks_find_what_is_wrong():
    assert missing_links("README.md", "[a](docs/none.md) [b](#no-such-heading) [c](docs/api.md#tokens) [d](https://example.org)") == \
        ["docs/none.md", "#no-such-heading"]
    assert missing_paths("`src/none.c` and src/walls/wall.{c,x}") == ["src/none.c", "src/walls/wall.x"]
    assert missing_tests("`test_up_main.py::test_nothing` `test_none.py::test_x` `test_docs_commands.py::test_every_link_leads_somewhere`") == \
        ["test_up_main.py::test_nothing", "test_none.py::test_x"]
    assert missing_tests("`test_redact.c::no_such_test`, `test_redact.c::several_keys_are_known_at_once`") == ["test_redact.c::no_such_test"]
    assert script_of("```sh\n./run demo\ntrue\n```\n```text\nfalse\n```\n").split() == ["true"]
    assert run_verbs("```sh\n./run demo\n```\n") == ["demo"]
