"""Every release binary is hardened: position independent, full RELRO, no executable stack, stack protector, FORTIFY, CET."""
import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = pathlib.Path(os.environ.get("IRONCLAW_OUT", ROOT / "out"))
# Lies at a fixed address by design, as its filter is about that address, and in the address space of hostile code.
KERNEL = OUT / "libexec/ironclaw/ironclaw-cell"
BINARIES = [OUT / "ironclaw", *sorted(p for p in (OUT / "libexec/ironclaw").iterdir() if p != KERNEL)]
# Built with musl, which has no FORTIFY wrappers and, static, no dynamic linker to bind against.
MUSL = {"ironclaw", "ironclaw-init", "ironclaw-attacker", "ironclaw-bench-inside", "ironclaw-files", "ironclaw-warden"}
STATIC = MUSL | {"ironclaw-agent"}


def tool(*argv):
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.parametrize("path", BINARIES, ids=lambda p: p.name)
def test_release_binary_is_hardened(path):
    headers = tool("readelf", "-hlW", path)
    dynamic = tool("readelf", "-dW", path)
    assert re.search(r"Type:\s+DYN", headers), "not position independent"
    assert "GNU_RELRO" in headers
    assert re.search(r"NOW", dynamic), "not bound at start: RELRO is partial"
    stack = re.search(r"GNU_STACK.*", headers).group(0)
    assert "RWE" not in stack, "the stack is executable"
    assert not re.search(r"LOAD.* RWE ", headers), "a segment is writable and executable"
    if path.name in STATIC:
        assert "INTERP" not in headers, "needs a dynamic linker that its sandbox does not have"
    if path.name not in MUSL:
        symbols = tool("readelf", "-sW", path)
        assert "__stack_chk_fail" in symbols
        assert re.search(r"__\w+_chk\b", symbols.replace("__stack_chk", "")), "FORTIFY is not in force"


@pytest.mark.parametrize("path", BINARIES, ids=lambda p: p.name)
def test_code_carries_cet_landing_pads(path):
    code = tool("objdump", "-d", "--no-show-raw-insn", path)
    assert code.count("endbr64") >= 3, "compiled without -fcf-protection"


def test_the_cells_kernel_is_what_its_filter_and_its_programs_expect():
    headers = tool("readelf", "-hlW", KERNEL)
    assert re.search(r"Type:\s+EXEC", headers) and re.search(r"LOAD\s+\S+ 0x0000100000000000 .* R E ", headers), headers
    assert "INTERP" not in headers and "DYNAMIC" not in headers
    assert "RWE" not in headers, "a segment, or the stack, is writable and executable"
    code = tool("objdump", "-d", "--no-show-raw-insn", KERNEL)
    assert code.count("%gs:0x28") > 100, "compiled without the stack protector, or with the program's canary"
    assert not re.search(r"%[xyz]mm\d", code), "vector registers are the program's"


def test_the_filter_of_the_sandbox_is_not_empty():
    """The generated filter has an instruction for far more than a handful of calls: a broken generator would show here."""
    generated = list((ROOT / "build").glob("*/src/walls/seccomp_filters.h"))
    assert generated
    assert all(path.read_text().count("{0x0015,") > 100 for path in generated)
