#include "events/syscalls.h"

#include <linux/audit.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/cleanup.h"
#include "base/io.h"

enum shape { SHAPE_FAMILY, SHAPE_NAMESPACES, SHAPE_REQUEST, SHAPE_MODE, SHAPE_HEX };

enum { NR_fchmodat2 = 452, CLASS_OTHER = 0xffff, NEWTIME = 0x80 };

static const struct {
    int nr;
    unsigned argument;
    enum shape shape;
} classes[] = {
    {SYS_socket, 0, SHAPE_FAMILY},    {SYS_clone, 0, SHAPE_NAMESPACES}, {SYS_unshare, 0, SHAPE_NAMESPACES},
    {SYS_setns, 1, SHAPE_NAMESPACES}, {SYS_ptrace, 0, SHAPE_REQUEST},   {SYS_bpf, 0, SHAPE_REQUEST},
    {SYS_keyctl, 0, SHAPE_REQUEST},   {SYS_ioctl, 1, SHAPE_HEX},        {SYS_personality, 0, SHAPE_HEX},
    {SYS_fchmod, 1, SHAPE_MODE},      {SYS_fchmodat, 2, SHAPE_MODE},    {NR_fchmodat2, 2, SHAPE_MODE},
    {SYS_mknodat, 2, SHAPE_MODE},     {SYS_openat, 3, SHAPE_MODE},
#ifdef SYS_chmod
    {SYS_chmod, 1, SHAPE_MODE},       {SYS_creat, 1, SHAPE_MODE},       {SYS_mknod, 1, SHAPE_MODE},
    {SYS_open, 2, SHAPE_MODE},
#endif
};

static const struct {
    uint32_t flag;
    const char *name;
} namespaces[] = {
    {CLONE_NEWUSER, "CLONE_NEWUSER"}, {CLONE_NEWNS, "CLONE_NEWNS"},         {CLONE_NEWPID, "CLONE_NEWPID"},
    {CLONE_NEWNET, "CLONE_NEWNET"},   {CLONE_NEWIPC, "CLONE_NEWIPC"},       {CLONE_NEWUTS, "CLONE_NEWUTS"},
    {NEWTIME, "CLONE_NEWTIME"},       {CLONE_NEWCGROUP, "CLONE_NEWCGROUP"},
};

static const struct {
    uint32_t family;
    const char *name;
} families[] = {
    {AF_NETLINK, "AF_NETLINK"},     {AF_PACKET, "AF_PACKET"}, {AF_ALG, "AF_ALG"}, {AF_VSOCK, "AF_VSOCK"},
    {AF_BLUETOOTH, "AF_BLUETOOTH"}, {AF_CAN, "AF_CAN"},       {AF_KEY, "AF_KEY"}, {AF_RDS, "AF_RDS"},
    {AF_TIPC, "AF_TIPC"},           {AF_XDP, "AF_XDP"},       {AF_NFC, "AF_NFC"}, {AF_QIPCRTR, "AF_QIPCRTR"},
};

const char *syscall_name(int nr, char *dst, size_t cap)
{
    if (nr >= 0 && (size_t)nr < syscall_nnames && syscall_name_at[nr])
        return syscall_name_text + syscall_name_at[nr];
    (void)io_format(dst, cap, "syscall_%d", nr);
    return dst;
}

const char *syscall_arch(uint32_t arch, char *dst, size_t cap)
{
    if (arch == AUDIT_ARCH_X86_64)
        return "x86_64";
    if (arch == AUDIT_ARCH_AARCH64)
        return "aarch64";
    (void)io_format(dst, cap, "%#x", arch);
    return dst;
}

/* The row of `classes`, or -1. */
static int row(int nr)
{
    for (size_t i = 0; i < ARRAY_LEN(classes); i++)
        if (classes[i].nr == nr)
            return (int)i;
    return -1;
}

uint32_t syscall_class(int nr, const uint64_t args[6])
{
    int i = row(nr);
    uint32_t v = i < 0 ? 0 : (uint32_t)args[classes[i].argument], known = 0;

    if (i < 0)
        return 0;
    switch (classes[i].shape) {
    case SHAPE_NAMESPACES:
        for (size_t k = 0; k < ARRAY_LEN(namespaces); k++)
            known |= namespaces[k].flag;
        /* In clone(2) the lowest byte is a signal. */
        return v & known & (nr == SYS_clone ? ~0xffU : ~0U);
    case SHAPE_MODE:
        return v & 07777;
    case SHAPE_FAMILY:
        return v < 256 ? v : CLASS_OTHER;
    case SHAPE_REQUEST:
        return v < CLASS_OTHER ? v : CLASS_OTHER;
    case SHAPE_HEX:
        break;
    }
    return v;
}

static void namespace_text(uint32_t flags, char *dst, size_t cap)
{
    size_t len = 0;

    dst[0] = 0;
    for (size_t k = 0; k < ARRAY_LEN(namespaces); k++) {
        if (!(flags & namespaces[k].flag))
            continue;
        if (io_format(dst + len, cap - len, "%s%s", len > 0 ? "|" : "", namespaces[k].name))
            len += strlen(dst + len);
    }
}

const char *syscall_class_text(int nr, uint32_t class, char *dst, size_t cap)
{
    int i = row(nr);

    if (i < 0)
        return "";
    if (classes[i].shape == SHAPE_NAMESPACES) {
        namespace_text(class, dst, cap);
        return dst;
    }
    if (classes[i].shape == SHAPE_HEX)
        (void)io_format(dst, cap, "%#x", class);
    else if (classes[i].shape == SHAPE_MODE)
        (void)io_format(dst, cap, "mode %05o", class);
    else if (class == CLASS_OTHER)
        (void)io_format(dst, cap, "other");
    else
        (void)io_format(dst, cap, classes[i].shape == SHAPE_FAMILY ? "AF_%u" : "request %u", class);
    for (size_t k = 0; classes[i].shape == SHAPE_FAMILY && k < ARRAY_LEN(families); k++)
        if (families[k].family == class)
            return families[k].name;
    return dst;
}
