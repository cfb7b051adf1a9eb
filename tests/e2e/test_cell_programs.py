"""The cell's kernel against the host's: the programs of tests/cell print what calls return, once in the container wall
(the host's kernel) and once in a cell. Then programs that people run, dynamic ones, out of this machine's packages."""
import errno
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import cell_calls  # noqa: E402
from plane import Plane, until  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = ROOT / "tests" / "cell"

# Lines that differ, and why: (container, cell).
FILTERED = "the container's filter refuses what the cell's kernel answers itself"
IMAGE = "the cell's root is a read-only file system, the container's a read-only mount: another check comes first"
OWNERS = "a user namespace with one uid cannot name another; in a cell there is no namespace to see"
DIFFERENCES = {
    "files": {
        "chown to root: -1 EINVAL": ("chown to root: -1 EPERM", OWNERS),
        "access root: -1 EACCES": ("access root: -1 EROFS", IMAGE),
        "write to /etc: -1 EACCES": ("write to /etc: -1 EROFS", IMAGE),
        "truncate /etc: -1 EACCES": ("truncate /etc: -1 EROFS", IMAGE),
    },
    "sockets": {"bad family: -1 EPERM": ("bad family: -1 EAFNOSUPPORT", FILTERED)},
}
FAMILIES = sorted(p.stem for p in SOURCES.glob("*.c"))
# Another libc, other call sites. Its pthread_join waits for ever for a thread that ended by a bare exit, on any kernel.
MUSL_FAMILIES = [name for name in FAMILIES if name != "threads"]
PROGRAMS = FAMILIES + ["musl-" + name for name in MUSL_FAMILIES]


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory, boxes):
    """The base image with the programs in it."""
    box = boxes("container", "root") if os.geteuid() == 0 else boxes("container", "rootless")
    box.sh("true")  # makes the base image
    tree = tmp_path_factory.mktemp("cell") / "rootfs"
    shutil.copytree(box.base / "state" / "images" / "base" / "rootfs", tree, symlinks=True)
    for name in FAMILIES:
        subprocess.run(["cc", "-static", "-O1", "-w", "-o", tree / "usr" / "bin" / name, SOURCES / (name + ".c"), "-lpthread"],
                       check=True, timeout=120)
    names = " ".join(f"CASE({name})" for name in errno.errorcode.values())
    for name in MUSL_FAMILIES:
        subprocess.run(["musl-gcc", "-static", "-O1", "-w", "-include", SOURCES / "musl.h", "-DERRNO_NAMES=" + names, "-o",
                        tree / "usr" / "bin" / ("musl-" + name), SOURCES / (name + ".c")], check=True, timeout=120)
    for parent in (tree, *tree.parents):
        if parent == pathlib.Path("/tmp"):
            break
        parent.chmod(0o755)
    return tree


@pytest.mark.parametrize("program", PROGRAMS)
def test_calls_answer_as_the_hosts_kernel_does(boxes, rootfs, program):
    mode = "root" if os.geteuid() == 0 else "rootless"
    host, cell = (boxes(wall, mode).run("--rootfs", rootfs, "--", program, timeout=120) for wall in ("container", "cell"))
    assert host.returncode == cell.returncode == 0, (host.stderr, cell.stderr)
    expected, got = host.stdout.splitlines(), cell.stdout.splitlines()
    assert len(expected) == len(got) > 10, (host.stdout, cell.stdout)
    known = DIFFERENCES.get(program.removeprefix("musl-"), {})
    wrong = [(e, g) for e, g in zip(expected, got) if e != g and known.get(e, ("",))[0] != g]
    assert not wrong, wrong


def test_the_documented_calls_are_those_of_the_tables():
    assert cell_calls.markdown() in (ROOT / "docs" / "cell-kernel.md").read_text(), "run tests/lib/cell_calls.py and put its table into docs/cell-kernel.md"


# ---- programs that people run


@pytest.fixture(scope="module")
def tools_state(tmp_path_factory):
    path = tmp_path_factory.mktemp("tools")
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def tools(boxes, tools_state):
    """bash, coreutils, python3, git, gcc and make of this machine as an image."""
    box = boxes("cell", "root" if os.geteuid() == 0 else "rootless")
    done = subprocess.run([ROOT / "run", "image", "tools"], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "IRONCLAW_STATE_DIR": str(tools_state)})
    assert done.returncode == 0, done.stdout + done.stderr

    def run(script, *options, shell="bash"):
        words = ["--state-dir", tools_state, "--image", "tools", "--memory", "1G", "--env", "HOME=/tmp", *options]
        done = box.run(*words, "--", *([shell, "-c", script] if shell != "python3" else ["python3", "-c", script]), timeout=120)
        assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
        return done.stdout
    return run


def test_bash_and_the_usual_tools(tools):
    out = tools(r"""cd /tmp; seq 100000 | awk '{s+=$1} END {printf "%.0f\n", s}'; seq 5 | sed s/3/x/ | tr '\n' ' '; echo
        a=(1 2 3); echo ${#a[@]}; cat < <(echo substituted); coproc cat; echo co >&${COPROC[1]}; read -r -u ${COPROC[0]} l; echo $l
        mkdir d; touch d/{1..50}; tar czf x.tgz d; tar tzf x.tgz | wc -l; find /usr/bin -name 'l*' | grep -c . >/dev/null && echo found
        trap 'echo trapped' USR1; kill -USR1 $$; (exit 9); echo $?; sleep 30 & kill %1; wait %1; echo $?""")
    assert out.split() == "5000050000 1 2 x 4 5 3 substituted co 51 found trapped 9 143".split()


def test_a_virtual_environment(tools):
    out = tools("cd /tmp && python3 -m venv --without-pip v && v/bin/python -c 'import sys; print(sys.prefix, sys.prefix != sys.base_prefix)'")
    assert out == "/tmp/v True\n"


def test_perl(tools):
    out = tools(r"""perl -e 'use Socket; use POSIX ":sys_wait_h"; socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, 0) or die;
        my $pid = fork; if (!$pid) { syswrite $b, join(",", sort { $b <=> $a } 1 .. 5); exit 3 } waitpid $pid, 0;
        sysread $a, my $text, 99; $SIG{ALRM} = sub { print "alarm\n" }; alarm 1; select undef, undef, undef, 3;
        open my $f, "-|", "ls", "/usr/bin" or die; my @l = <$f>; close $f; print "$text ", $? >> 8, " ", @l > 50 ? "many" : "few", "\n"'""")
    assert out == "alarm\n5,4,3,2,1 0 many\n"


def test_ip_lists_the_one_interface(tools):
    out = tools("ip -o addr; ip -o link | wc -l; python3 -c 'import socket; print(socket.if_nameindex(), socket.getaddrinfo(\"127.0.0.1\", 80)[0][4])'")
    assert "inet 127.0.0.1/8 scope host lo" in out and "inet6 ::1/128 scope host" in out, out
    assert out.splitlines()[-2:] == ["1", "[(1, 'lo')] ('127.0.0.1', 80)"], out


def test_python_with_threads_processes_sockets_and_libraries(tools):
    out = tools("""
import asyncio, json, multiprocessing, os, signal, sqlite3, ssl, subprocess, tempfile, threading
results = []
threads = [threading.Thread(target=results.append, args=(i,)) for i in range(16)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sorted(results) == list(range(16)))
print(subprocess.run(["sh", "-c", "echo out; exit 3"], capture_output=True).returncode)
try: subprocess.run(["/nonexistent"])
except FileNotFoundError: print("not found")
with multiprocessing.get_context("fork").Pool(3) as pool: print(pool.map(abs, [-1, -2]))
async def main():
    server = await asyncio.start_server(lambda r, w: (w.write(b"hello"), w.close()), "127.0.0.1", 0)
    reader, _ = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    print(await reader.read())
asyncio.run(main())
db = sqlite3.connect(tempfile.mktemp()); db.execute("create table t(x)"); db.execute("insert into t values(7)"); db.commit()
print(db.execute("select x from t").fetchone(), ssl.OPENSSL_VERSION.startswith("OpenSSL"))
signal.signal(signal.SIGALRM, lambda *_: print("alarm")); signal.alarm(1); signal.pause()
""", shell="python3")
    assert out.splitlines() == ["True", "3", "not found", "[1, 2]", "b'hello'", "(7,) True", "alarm"]


def test_git_on_many_files(tools):
    out = tools("""cd /tmp && git config --global user.email a@b && git config --global user.name n && git init -q r && cd r
        for i in $(seq 5000); do echo $i >f$i; done; git add . && git commit -qm one && git log --oneline | wc -l
        cd .. && git clone -q r copy && ls copy | wc -l && cd copy && echo changed >f7 && git status --short""")
    assert out.split() == ["1", "5000", "M", "f7"]


def test_a_compiler_and_make(tools):
    out = tools(r"""cd /tmp && printf 'all: a b\n%%: %%.c\n\tgcc -O1 $< -o $@\n' >Makefile
        for x in a b; do echo "#include <stdio.h>
int main(void){puts(\"$x\");}" >$x.c; done; make -s -j2 && ./a && ./b""")
    assert out.split() == ["a", "b"]


CURL = """cd /workspace; request='{"model":"mock","max_tokens":50,"messages":[{"role":"user","content":"say hello to curl"}]}'
for where in "--unix-socket /run/ironclaw/model.sock http://model" http://127.0.0.1:8471 http://localhost:8471; do
    curl -sS -m 20 -H 'content-type: application/json' -d "$request" $where/v1/messages >>answers 2>&1; echo >>answers
done
curl -sS -m 5 http://192.0.2.1/ >>answers 2>&1; echo the end >>answers; exec sleep 600"""


def test_curl_reaches_the_model_and_nothing_else(tools, tools_state):
    def answers():
        for path in pathlib.Path(plane.state).glob("**/answers"):
            text = path.read_text()
            if "the end" in text:
                return text
        return None

    with Plane() as plane:
        images = os.path.join(plane.state, "images")
        os.makedirs(images, exist_ok=True)
        subprocess.run(["cp", "-al", tools_state / "images" / "tools", images], check=True)
        plane.agent("curl", wall="cell", image="tools", command=["/bin/bash", "-c", CURL], limits={"memory": "1G"})
        plane.session("curl")
        lines = until("curl has answers", answers, 60).splitlines()
        assert len(lines) == 5, lines
        for line in lines[:3]:
            assert json.loads(line)["role"] == "assistant" and "hello" in line, line
        assert "connect" in lines[3]


def test_modules_that_python_tests_itself_with(tools):
    """Those that need a kernel most; more were run by hand (docs/cell.md)."""
    suite = subprocess.run(["/usr/bin/python3", "-c", "import os, test.test_os; print(os.path.dirname(test.test_os.__file__))"],
                           capture_output=True, text=True, check=True).stdout.strip()
    out = tools("cd /tmp && PYTHONPATH=/suite python3 -m test -q test_os test_select test_mmap test_tempfile test_shutil test_time 2>&1 | tail -40",
                "--mount", suite + ":/suite/test")
    assert "SUCCESS" in out, out
