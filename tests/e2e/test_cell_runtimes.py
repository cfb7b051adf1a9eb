"""Programs whose runtimes ask much of a kernel: Node, and programs built by Go (fzf, gron) and by Rust (ripgrep). What they print is
the same in the container (the host's kernel) and in a cell."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from sandbox import Terminal  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODE = "root" if os.geteuid() == 0 else "rootless"
# By the distribution's path: a machine may have others of that name.
PROGRAMS = ["/usr/bin/node", "/usr/bin/fzf", "/usr/bin/gron", "/usr/bin/rg"]


def put(tree, path):
    to = tree / str(path).lstrip("/")
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(os.path.realpath(path), to)


@pytest.fixture(scope="module")
def image(boxes, tmp_path_factory):
    """{wall: its box}, each with the image `runtimes`: the base image, the programs and their libraries."""
    made = {wall: boxes(wall, MODE) for wall in ("container", "cell")}
    tree = tmp_path_factory.mktemp("runtimes") / "rootfs"
    made["cell"].sh("true")  # makes the base image
    shutil.copytree(made["cell"].base / "state" / "images" / "base" / "rootfs", tree, symlinks=True)
    for program in PROGRAMS:
        assert os.path.exists(program), program + " is missing: its package is among test_packages in ./run"
        libraries = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
        for path in [program, *re.findall(r"(/\S+) \(0x", libraries)]:
            put(tree, path)
    if os.path.isdir("/usr/share/nodejs"):  # Debian's node reads some of its own modules from there
        shutil.copytree("/usr/share/nodejs", tree / "usr/share/nodejs", symlinks=True, ignore_dangling_symlinks=True)
    shutil.copy(ROOT / "tests/cell/node.js", tree / "opt/node.js")
    (tree / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    for parent in tree.parents:
        if parent == pathlib.Path("/tmp"):
            break
        parent.chmod(0o755)
    for box in made.values():
        done = subprocess.run([box.binary, "image", "import", "runtimes", tree], capture_output=True, text=True, timeout=60, **box.options())
        assert done.returncode == 0, done.stderr
    return made


def both(image, *words):
    """What the words print in a cell, which is what they print in the container."""
    host, cell = (image[wall].run("--image", "runtimes", "--memory", "1G", "--", *words, timeout=120) for wall in ("container", "cell"))
    assert host.returncode == cell.returncode == 0, (host.stdout, host.stderr, cell.stdout, cell.stderr)
    assert cell.stdout == host.stdout
    assert cell.stderr == host.stderr
    return cell.stdout


def test_node(image):
    out = dict(line.split(" ", 1) for line in both(image, "node", "/opt/node.js").splitlines())
    assert list(out) == ["timers", "workers", "files", "children", "web", "pool"], out
    assert out["workers"] == "[%s,%s,[0,0,0,0],1]" % ('["ready","ready","ready","ready"]', "[80000,80000,80000,80000]")
    assert out["children"].startswith(r'["in","bad\n",3,"got one\ngot two\n",0,"SIGTERM",{"sum":6},0,"SIGTERM","ENOENT",')
    assert '"POST/728000","POST/99396000",100,"ECONNREFUSED"' in out["web"]


def test_several_nodes_at_once(image):
    out = both(image, "sh", "-c", "for i in 1 2 3; do node /opt/node.js >/tmp/$i & done; wait; for i in 1 2 3; do diff /tmp/1 /tmp/$i; wc -l </tmp/$i; done")
    assert out.split() == ["6"] * 3


def test_built_by_go_threads_and_pipes(image):
    out = both(image, "sh", "-c", """cd /tmp; seq 300000 | fzf --filter 9999 | md5sum; seq 300000 | fzf --filter "'12 !3 5$" | wc -l; seq 1000 | fzf -f x; echo $?
        for i in 1 2 3 4 5 6; do seq 50000 | fzf -f 77$i >f$i & done; wait; cat f? | wc -l""")
    assert out.splitlines()[1:3] == ["1437", "1"] and int(out.splitlines()[3]) > 600, out


def test_built_by_go_http(image):
    out = both(image, "sh", "-c", """cd /tmp; node -e 'require("http").createServer((request, response) => response.end(JSON.stringify(
            { url: request.url, list: Array.from({ length: 2000 }, (_, i) => ({ i, s: "x".repeat(i % 50) })) }))).listen(8080, "127.0.0.1", () => require("fs").writeFileSync("up", ""))' &
        while [ ! -e up ]; do sleep 0.01; done
        gron http://127.0.0.1:8080/path >g; wc -l <g; grep url g; gron --ungron g | md5sum; gron http://127.0.0.1:1/ 2>&1; kill $!""")
    assert out.splitlines()[:2] == ["6003", 'json.url = "/path";'] and "connection refused" in out, out


def test_built_by_go_on_a_terminal(image):
    with Terminal(image["cell"], "--image", "runtimes", "-t", "--", "sh", "-c", "seq 1000 | fzf; echo status $?") as terminal:
        terminal.expect("1000/1000")
        terminal.type(b"777")
        terminal.expect("1/1000")
        terminal.type(b"\r")
        terminal.expect("777\r\n")
        terminal.expect("status 0")
        assert terminal.process.wait(timeout=20) == 0


def test_built_by_rust(image):
    out = both(image, "sh", "-c", """cd /tmp; mkdir d; for i in $(seq 40); do mkdir d/$i; for f in a b c d e; do seq $i $((i * 500 + 999)) >d/$i/$f; done; done
        rg -j 8 -c '77$' d --sort path | md5sum; rg -j 8 -c 7 d | sort | md5sum; rg --mmap -j 4 -N --no-filename '^19.7$' d | sort | uniq -c; rg --files d | wc -l
        gzip d/7/a; rg -z -c 100 d/7 | sort; rg --pre cat -j 4 -c 12 d/1 | sort; rg nothing d; echo $?; seq 9 | rg -v 5 | wc -l; rg x /nowhere 2>&1; echo $?; rg 1 d | head -n 1 | wc -l""")
    lines = out.splitlines()
    assert "200" in lines and "d/7/a.gz:15" in lines and lines[-4:] == ["8", "/nowhere: No such file or directory (os error 2)", "2", "1"], out
