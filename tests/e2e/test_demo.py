"""The demo is the product's main job in one command: it passes as root and as an ordinary user."""
import os
import re
import shutil
import subprocess
import tempfile

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OUT = os.environ.get("IRONCLAW_OUT", os.path.join(ROOT, "out"))
NOBODY = 65534


@pytest.mark.parametrize("wall,mode", [("container", "root"), ("container", "rootless"), ("gvisor", "root")])
def test_every_line_of_the_demo_is_true(wall, mode, boxes):
    if mode == "root" and os.geteuid() != 0:
        pytest.skip("needs root")
    boxes(wall, mode)  # skips where the host cannot give the wall
    place = tempfile.mkdtemp(prefix="icdemo", dir="/tmp")
    try:
        # A copy: an ordinary user may not be able to read the checkout.
        shutil.copytree(OUT, os.path.join(place, "out"))
        shutil.copytree(os.path.join(ROOT, "demo"), os.path.join(place, "demo"))
        home = os.path.join(place, "home")
        os.mkdir(home)
        os.chmod(place, 0o755)
        command = [os.path.join(place, "demo/demo.sh"), "--wall", wall]
        if mode == "rootless" and os.geteuid() == 0:
            os.chown(home, NOBODY, NOBODY)
            command = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"] + command
        done = subprocess.run(command, env={"PATH": os.environ["PATH"], "HOME": home}, timeout=120,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        last = done.stdout.strip().splitlines()[-1]
        assert re.fullmatch(r"\d+ passed, 0 failed", last), done.stdout
        assert int(last.split()[0]) > 25, done.stdout
        assert done.returncode == 0
    finally:
        shutil.rmtree(place, ignore_errors=True)
