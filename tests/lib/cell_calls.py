"""The system calls that a cell's kernel answers, read out of its tables in src/cell. Prints the table of docs/cell-kernel.md."""
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = {"fs": "files", "ipc": "pipes, readiness, events", "net": "sockets", "mem": "memory", "proc": "processes, signals, time, the machine"}
REFUSALS = {"sys_denied", "sys_refuse", "not_permitted"}
ENTRY = re.compile(r"\{\s*__NR_(\w+),\s*SYS_\w+,\s*\"\w+\",\s*(\w+)\s*\}|\bSAME\((\w+)\)|\bCALL\((\w+),\s*(\w+)\)")


def calls():
    """({folder: names that are answered}, names that are known and always refused)"""
    answered, refused = {}, set()
    for folder in FOLDERS:
        names = set()
        for source in sorted((ROOT / "src" / "cell" / folder).glob("*.c")):
            for table in re.findall(r"const struct syscall \w+\[\] = \{(.*?)\n\};", source.read_text(), re.S):
                for name, function, same, other, its in ENTRY.findall(table):
                    if (function or its) in REFUSALS:
                        refused.add(name or other)
                    else:
                        names.add(name or same or other)
        answered[folder] = sorted(names)
    return answered, sorted(refused)


def markdown():
    answered, refused = calls()
    lines = ["| family | calls |", "|---|---|"]
    lines += ["| %s (`src/cell/%s`) | %s |" % (FOLDERS[f], f, " ".join(n)) for f, n in answered.items()]
    return "\n".join(lines + ["| always refused with EPERM | %s |" % " ".join(refused)]) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
