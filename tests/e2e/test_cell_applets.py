"""The applets of the static busybox, one by one, in the container (the host's kernel) and in a cell: what they print and how they end is equal.
And what a cell's programs give back, the host gets back."""
import os
import pathlib
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from sandbox import cgroups, eventually  # noqa: E402

MAKE = "cd /tmp; mkdir d; echo one >a; printf 'b\\na\\nc\\nb\\n' >b; cp a d/; ln -s a l; ln a h; "
APPLETS = [
    "ash -c 'echo $((6*7))'", "awk '{print NR, $1}' b", "base64 a", "basename /x/y.c .c", "bunzip2 -t a", "bzip2 -k b; ls b.bz2", "cat a b", "chgrp 1000 a; stat -c %g a",
    "chmod 640 a; stat -c %a a", "cmp a b", "cp -r d e; ls e", "cut -c1 b", "date -u -d @0", "dc -e '2 3 + p'", "dd if=b of=c bs=2 count=2 2>/dev/null; cat c",
    "diff a b", "dirname /x/y", "dos2unix a; cat a", "du -s nothing", "echo -n x", "ed -s a </dev/null", "egrep 'a|c' b", "env -i X=1 env", "expand b", "expr 3 \\* 4", "factor 42",
    "fallocate -l 5 f; wc -c f", "false", "find . -name '[ab]' | sort", "fold -w 1 b", "getopt ab: -a -b c", "grep -n b b", "gzip -c b | gunzip",
    "head -n 2 b", "hexdump -C a", "hostname", "id", "ipcalc -n 10.1.2.3/8", "kill -l 9", "killall -q nobody", "link a k; ls k", "ln -sf b l; readlink l",
    "ls -1 /", "md5sum b", "mkdir -p x/y/z; ls x", "mkfifo p; stat -c %F p", "mktemp -u /tmp/XXXXXX | wc -c", "mv a z; ls", "nl b", "nohup echo x 2>/dev/null",
    "nproc | grep -c .", "od -c a", "paste a b", "patch -p0 </dev/null", "printf '%05d' 42", "ps >/dev/null", "pwd", "readlink -f l",
    "realpath l", "rev b", "rm b; ls", "rmdir d", "sed -n '2p' b", "seq 3", "setsid echo alone", "sha1sum b", "sha256sum b", "sha512sum b", "shred -u a; ls", "shuf -n 0 b", "sleep 0",
    "sort -u b", "stat -c '%s %F' a", "strings a", "stty -a </dev/null", "sync", "tac b", "tail -n 1 b", "tar cf t a b; tar tf t", "tee q <a; cat q",
    "test -f a", "time -p true 2>/dev/null", "timeout 1 sleep 5", "touch -d @5 a; stat -c %Y a", "tr a-z A-Z <b", "true", "truncate -s 3 a; wc -c a", "tty", "uname -s", "unexpand b", "uniq b",
    "unlink a; ls", "usleep 1", "uudecode a", "uuencode a <a", "wc b", "which sh", "whoami", "xargs echo <b", "xxd a", "xz -t a", "yes | head -n 2", "zcat a"]


# What differs, and why: the end of the cell's line.
DIFFERENT = {"id": (" groups=1000(agent)\n", "a cell's user is in its own group, a container's in none"), "ls -1 /": ("sys\n", "a cell has a /sys, with little in it")}


@pytest.fixture(scope="module")
def printed(boxes):
    """{wall: [what the n-th line printed and its status]}, all of a wall in one sandbox, each in a directory of its own."""
    script = "i=0; while IFS= read -r line; do rm -rf /tmp/*; (%s eval \"$line\") </dev/null 2>&1; echo \"= $?\"; done <<'END'\n%s\nEND" % (MAKE, "\n".join(APPLETS))
    return {wall: boxes(wall, "root" if os.geteuid() == 0 else "rootless").sh(script, timeout=120).split("= ") for wall in ("container", "cell")}


@pytest.mark.parametrize("number", range(len(APPLETS)), ids=lambda n: APPLETS[n].split()[0])
def test_an_applet_does_the_same_in_both(printed, number):
    assert len(printed["container"]) == len(printed["cell"]) == len(APPLETS) + 1
    outside, inside = printed["container"][number], printed["cell"][number]
    more, _ = DIFFERENT.get(APPLETS[number], ("", ""))
    assert inside == outside if not more else inside != outside and more in inside and inside.replace(more, "\n" if more[0] == " " else "") == outside
    assert "not found" not in inside, "this busybox has it"


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: no memory group to look at")
def test_memory_that_is_freed_inside_goes_back_to_the_host(boxes):
    run = boxes("cell", "root").start("--memory", "512M", "--", "sh", "-c", "head -c 150000000 /dev/zero >/tmp/f; echo full; read x; rm /tmp/f; echo empty; read x",
                                      stdin=-1)
    try:
        assert run.stdout.readline() == "full\n"
        groups = [pathlib.Path(g) for g in cgroups() if g.endswith("run-%d" % run.pid)]
        knob = next(k for g in groups for k in (g / "memory.usage_in_bytes", g / "memory.current") if k.exists())
        assert int(knob.read_text()) > 150000000
        run.stdin.write("\n")
        run.stdin.flush()
        assert run.stdout.readline() == "empty\n"
        eventually(lambda: int(knob.read_text()) < 20000000)
    finally:
        run.kill()
        run.communicate(timeout=20)


def test_heap_stack_and_vdso_lie_elsewhere_each_time(boxes):
    box = boxes("cell", "root" if os.geteuid() == 0 else "rootless")
    runs = [dict(line.split()[0::5] for line in box.sh("grep -E 'heap|stack|vdso' /proc/self/maps").splitlines()) for _ in range(6)]
    assert all(len(r) == 3 for r in runs), runs
    for name in ("[heap]", "[stack]", "[vdso]"):
        places = {at for r in runs for at, what in r.items() if what == name}
        assert len(places) > 1, (name, places)
