"""The system call filter: what is allowed is exactly the table, and the refused arguments are refused."""
import errno
import pathlib
import platform
import re
import signal
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TABLE = ROOT / "src/walls/container/seccomp_table.c"

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="system call numbers here are those of x86_64")

NEWNS = {"NEWTIME": 0x80, "NEWNS": 0x20000, "NEWCGROUP": 0x2000000, "NEWUTS": 0x4000000, "NEWIPC": 0x8000000,
         "NEWUSER": 0x10000000, "NEWPID": 0x20000000, "NEWNET": 0x40000000}
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, STREAM, DGRAM, RAW = 1, 2, 10, 16, 1, 2, 3


def numbers():
    """System call numbers by name, as the C compiler sees them."""
    text = subprocess.run(["cc", "-E", "-dM", "-include", "sys/syscall.h", "-x", "c", "/dev/null"],
                          capture_output=True, text=True, check=True, timeout=30).stdout
    return {name: int(nr) for name, nr in re.findall(r"#define __NR_(\w+) (\d+)", text)}


NR = numbers() if platform.machine() == "x86_64" else {}


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    directory = tmp_path_factory.mktemp("probe")
    path = directory / "syscall_probe"
    subprocess.run(["cc", "-static", "-D_GNU_SOURCE", "-O1", "-o", path, HERE / "syscall_probe.c"], check=True, timeout=60)
    return path


@pytest.fixture
def ask(box, probe):
    target = box.base / "syscall_probe"
    if not target.exists():
        target.write_bytes(probe.read_bytes())
        target.chmod(0o755)

    def run(*words, timeout=120):
        done = box.run("--mount", "%s:/probe" % target, "--", "/probe", *words, timeout=timeout)
        assert done.returncode == 0, done
        return done.stdout.strip()

    return run


def call(ask, name, *arguments):
    return ask("call", NR[name] if isinstance(name, str) else name, *("%#x" % (a & (1 << 64) - 1) for a in arguments))


def allowed_by_table():
    text = TABLE.read_text()
    groups = text[text.index("seccomp_allowed[]"):text.index("seccomp_nallowed")]
    names = set(re.findall(r"\bC\((\w+)\)", groups)) | set(re.findall(r"\bNR_(\w+)", groups))
    return {NR.get(n, {"cachestat": 451, "fchmodat2": 452}.get(n)) for n in names} - {None}


def test_every_call_outside_the_table_is_refused(ask):
    outcome = dict(line.split() for line in ask("all").splitlines())
    assert len(outcome) > 1000
    allowed = allowed_by_table() | {NR[n] for n in ("clone", "unshare", "personality", "socket")}
    for nr, what in outcome.items():
        if int(nr) in (335, 336):
            continue  # uretprobe, uprobe: the kernel takes them past any filter (Linux 6.14), and ends a caller that is no probe
        if int(nr) in (NR["clone3"], NR["openat2"]):
            assert what == "missing", nr
        elif int(nr) not in allowed:
            assert what == "refused", "system call %s was %s" % (nr, what)


def test_the_calls_of_the_table_reach_the_kernel(ask):
    outcome = dict(line.split() for line in ask("all").splitlines())
    # some answer EPERM themselves for want of privilege
    own = {NR[n] for n in ("setgroups", "chown", "mknod", "mknodat", "mlockall", "sched_setscheduler",
                              "setsid")}  # setsid: a session leader already
    refused = {n for n in allowed_by_table() - own if outcome.get(str(n)) in ("refused", "killed")}
    # all-ones arguments carry set-uid bits, which are refused below
    masked = {NR[n] for n in ("chmod", "fchmod", "fchmodat", "creat", "open", "openat")} | {452}
    assert refused - masked == set()


DANGEROUS = """io_uring_setup io_uring_enter io_uring_register bpf perf_event_open keyctl add_key request_key userfaultfd ptrace
process_vm_readv process_vm_writev mount umount2 pivot_root chroot move_mount open_tree fsopen fsconfig fsmount fspick mount_setattr
init_module finit_module delete_module kexec_load kexec_file_load open_by_handle_at name_to_handle_at setns reboot swapon swapoff
syslog quotactl acct settimeofday clock_settime adjtimex clock_adjtime iopl ioperm fanotify_init modify_ldt pidfd_getfd kcmp
lookup_dcookie vhangup sethostname setdomainname""".split()


@pytest.mark.parametrize("name", DANGEROUS)
def test_a_dangerous_call_is_refused(ask, name):
    assert call(ask, name, 0, 0, 0, 0) == str(errno.EPERM)


@pytest.mark.parametrize("flag", sorted(NEWNS))
def test_no_namespace_can_be_created(ask, flag):
    assert call(ask, "unshare", NEWNS[flag]) == str(errno.EPERM)
    assert call(ask, "unshare", NEWNS[flag] | 1 << 40) == str(errno.EPERM)
    if flag != "NEWTIME":  # that bit belongs to the exit signal in clone(2)
        assert call(ask, "clone", NEWNS[flag] | 17) == str(errno.EPERM)


def test_clone3_is_unknown_so_that_libc_falls_back(ask):
    assert call(ask, "clone3", 0, 0) == str(errno.ENOSYS)
    assert call(ask, "openat2", 0, 0, 0, 0) == str(errno.ENOSYS)


@pytest.mark.parametrize("request_number", [0x5412, 0x541C, 0x541D, 0x5423], ids=["TIOCSTI", "TIOCLINUX", "TIOCCONS", "TIOCSETD"])
@pytest.mark.parametrize("high", [0, 1 << 32, 0xFFFFFFFF << 32], ids=["plain", "bit32", "all-high-bits"])
def test_terminal_injection_is_refused_whatever_the_high_bits_say(ask, request_number, high):
    assert call(ask, "ioctl", 99, high | request_number, 0) == str(errno.EPERM)


def test_other_ioctls_reach_the_kernel(ask):
    assert call(ask, "ioctl", 99, 0x5413, 0) == str(errno.EBADF)


def test_personality_can_only_be_asked_or_left_native(ask):
    assert call(ask, "personality", 0xFFFFFFFF) == "ok"
    assert call(ask, "personality", 0) == "ok"
    for persona in (0x0040000, 0x0400000, 0x8, 0x100000000 | 0x0040000):
        assert call(ask, "personality", persona) == str(errno.EPERM)


@pytest.mark.parametrize("family", [f for f in range(0, 46) if f not in (AF_UNIX, AF_INET, AF_INET6, AF_NETLINK)])
def test_a_socket_family_outside_the_list_is_refused(ask, family):
    assert call(ask, "socket", family, RAW, 0) == str(errno.EPERM)
    assert call(ask, "socket", family | 1 << 32, DGRAM, 0) == str(errno.EPERM)


def test_the_listed_families_work(ask):
    for family in (AF_UNIX, AF_INET):
        assert call(ask, "socket", family, STREAM, 0) == "ok"
    assert call(ask, "socket", AF_NETLINK, RAW, 0) == "ok"


@pytest.mark.parametrize("protocol", [n for n in range(1, 23)])
def test_netlink_serves_routes_only(ask, protocol):
    assert call(ask, "socket", AF_NETLINK, RAW, protocol) == str(errno.EPERM)


@pytest.mark.parametrize("name,where", [("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("creat", 1), ("mknod", 1), ("mknodat", 2)])
@pytest.mark.parametrize("bit", [0o4000, 0o2000], ids=["set-uid", "set-gid"])
def test_no_set_id_file_can_be_made(ask, name, where, bit):
    def with_mode(mode):
        arguments = [~0, ~0, ~0, 0]
        arguments[where] = mode
        return call(ask, name, *arguments)

    assert with_mode(bit | 0o755) == str(errno.EPERM)
    assert with_mode(0o755) in (str(errno.EFAULT), str(errno.EBADF), str(errno.EINVAL))


def test_a_call_through_the_x32_entry_dies(ask):
    assert ask("x32") == "killed %d" % signal.SIGSYS


def test_a_call_through_the_32_bit_entry_dies(ask, probe):
    outside = subprocess.run([probe, "int80"], capture_output=True, text=True, timeout=30).stdout.strip()
    inside = ask("int80")
    if outside == "ok":
        assert inside == "killed %d" % signal.SIGSYS, "the kernel serves this entry, so the filter has to refuse it"
    else:
        # The kernel refuses the entry to everybody (no CONFIG_IA32_EMULATION, or ia32_emulation=off): the instruction
        # faults before a filter could see it.
        assert outside == inside == "killed %d" % signal.SIGSEGV


def test_landlock_stands_on_top_of_the_filter(ask, probe):
    """The kernel stacks 16 domains at most (landlock(7)): inside, one of them is taken by the wall's own."""
    outside = subprocess.run([probe, "landlock"], capture_output=True, text=True, timeout=30).stdout.strip()
    if outside == "missing":
        pytest.skip("this kernel has no Landlock")
    assert int(ask("landlock")) == int(outside) - 1
