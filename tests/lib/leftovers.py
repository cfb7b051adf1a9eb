"""What sandboxes may leave on a host, and whether they did. A Watch looks at the host before, notes what belongs to each sandbox while it
lives (namespaces, memory files, groups), and says afterwards what is left, one sentence each.

Other sandboxes may come and go meanwhile (tests run in two workers): then only what is known to be ours counts, and the numbers of
namespaces do not tell, for the kernel gives them again. With `alone` nothing else uses IronClaw on this host: whatever is new counts,
and so does what the kernel counts."""
import os
import pathlib
import re
import time

KINDS = ("net", "mnt", "pid", "ipc", "uts", "user", "cgroup")
MIB = 1024  # of /proc/meminfo's KiB
# Counters of the kernel, and by how much they may differ: caches that grow with use, and what others do.
MARGINS = {"Shmem": 16 * MIB, "SUnreclaim": 48 * MIB, "KernelStack": 4 * MIB, "Percpu": 32 * MIB,
           "groups, dying ones too": 40, "net_namespace": 8, "mnt_cache": 200, "shmem_inode_cache": 600, "sock_inode_cache": 300}


def read(path):
    try:
        return pathlib.Path(path).read_text(errors="replace")
    except OSError:
        return ""


def link(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""


def pids():
    return [int(p) for p in os.listdir("/proc") if p.isdigit()]


def namespaces_of(pid):
    return {link("/proc/%d/ns/%s" % (pid, kind)) for kind in KINDS} - {""}


def descriptors_of(pid):
    """[(what it leads to, device and inode)]"""
    found = []
    try:
        for fd in os.scandir("/proc/%d/fd" % pid):
            try:
                st = os.stat(fd.path)
                found.append((os.readlink(fd.path), (st.st_dev, st.st_ino)))
            except OSError:
                pass
    except OSError:
        pass
    return found


def mapped_by(pid):
    """Lines of memory files in its map."""
    return [line for line in read("/proc/%d/maps" % pid).splitlines() if "memfd:" in line]


def tree(top):
    return {os.path.join(d, name) for d, dirs, files in os.walk(top) for name in dirs + files}


def groups():
    """Directories of every hierarchy."""
    return {d for d, _, _ in os.walk("/sys/fs/cgroup")}


def mounts():
    """{mount namespace: its lines}, of all that some process is in."""
    found = {}
    for pid in pids():
        ns = link("/proc/%d/ns/mnt" % pid)
        if ns and ns not in found:
            found[ns] = set(read("/proc/%d/mountinfo" % pid).splitlines())
    return found


def unix_sockets():
    """Names, those of abstract ones with an @."""
    return {words[7] for words in (line.split(None, 7) for line in read("/proc/net/unix").splitlines()[1:]) if len(words) > 7}


def temporary():
    return {os.path.join(d, name) for d in ("/tmp", "/var/tmp", "/run", "/dev/shm") if os.path.isdir(d) for name in os.listdir(d) if "ironclaw" in name}


def counters():
    found = {words[0][:-1]: int(words[1]) for words in map(str.split, read("/proc/meminfo").splitlines()) if words[0][:-1] in MARGINS}
    stat = [words for words in map(str.split, read("/sys/fs/cgroup/cgroup.stat").splitlines()) if words[0].startswith("nr_")]
    if stat:  # version 2
        found["groups, dying ones too"] = sum(int(words[1]) for words in stat if words[0] in ("nr_descendants", "nr_dying_descendants"))
    else:
        found["groups, dying ones too"] = sum(int(words[2]) for words in map(str.split, read("/proc/cgroups").splitlines()[1:]) if words[0] == "memory")
    for words in map(str.split, read("/proc/slabinfo").splitlines()[2:]):
        if words[0] in MARGINS:
            found[words[0]] = int(words[1])
    return found


class Watch:
    def __init__(self, box, alone=False):
        self.box, self.alone, self.base = box, alone, str(box.base)
        self.namespaces, self.memory, self.owners = set(), set(), set()  # of ours
        self.host = namespaces_of(os.getpid())
        self.files, self.mounts = tree(box.base), mounts()
        self.sockets, self.temporary, self.groups = unix_sockets(), temporary(), groups()
        self.counters = counters()

    def note(self, owner, processes):
        """`owner` built a sandbox of these processes."""
        self.owners.add(owner)
        for pid in processes:
            self.namespaces |= namespaces_of(pid) - self.host
            self.memory |= {inode for to, inode in descriptors_of(pid) if to.startswith("/memfd:")}

    def is_ours(self, name):
        """run-PID or standby-PID, as groups and wardens are called."""
        found = re.search(r"\b(?:run|standby)-(\d+)\b", name)
        return bool(found) and int(found[1]) in self.owners

    def left(self):
        """Sentences."""
        found, inodes = [], {":%d" % inode for _, inode in self.memory}
        for pid in pids():
            command = read("/proc/%d/cmdline" % pid).replace("\0", " ").strip() or read("/proc/%d/comm" % pid).strip()
            who = "process %d (%s)" % (pid, command[:80])
            if pid == os.getpid():
                continue
            if link("/proc/%d/exe" % pid).startswith(self.base) or self.base in command or self.is_ours(command) or (self.alone and command.startswith("ironclaw-")):
                found.append(who + " is still there")
            for ns in namespaces_of(pid) & self.namespaces if self.alone else ():
                found.append("%s is in the namespace %s of a sandbox" % (who, ns))
            for to, inode in descriptors_of(pid):
                if inode in self.memory or (self.alone and to in self.namespaces) or (to.startswith(self.base) and to.endswith("(deleted)")):
                    found.append("%s holds %s (inode %d)" % (who, to, inode[1]))
            for line in mapped_by(pid):
                if ":" + line.split()[4] in inodes:
                    found.append("%s maps a sandbox's memory: %s" % (who, line))
        for group in groups() - self.groups:
            if os.path.basename(os.path.dirname(group)) == "ironclaw" and (self.alone or self.is_ours(os.path.basename(group))):
                found.append("the control group %s is still there" % group)
        for ns, lines in mounts().items():
            known = self.mounts.get(ns, set())
            found += ["the mount '%s' is new in %s" % (line, ns) for line in lines - known
                      if self.base in line or (self.alone and ns in self.mounts)]
        found += ["the file %s is new" % path for path in sorted(tree(self.base) - self.files)]
        found += ["the file %s is gone" % path for path in sorted(self.files - tree(self.base))]
        found += ["the unix socket %s is new" % name for name in unix_sockets() - self.sockets if self.base in name or (self.alone and "ironclaw" in name)]
        if self.alone:
            found += ["the file %s is new" % path for path in sorted(temporary() - self.temporary)]
            now = counters()
            found += ["%s was %d and is %d" % (name, was, now[name]) for name, was in self.counters.items() if now[name] > was + MARGINS[name]]
        return found

    def nothing_is_left(self, seconds=20):
        """Waits for what the kernel does behind an end. Returns what is left then."""
        deadline = time.monotonic() + seconds
        while (left := self.left()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return left
