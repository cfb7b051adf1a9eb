#include "base/landlock.h"

#include <errno.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

/* Numbers and layouts from include/uapi/linux/landlock.h; defined here because distribution headers are older
 * than the kernels we run on. */
enum {
    SYS_CREATE_RULESET = 444,
    SYS_ADD_RULE = 445,
    SYS_RESTRICT_SELF = 446,
    CREATE_VERSION = 1,
    RULE_PATH_BENEATH = 1
};

#define FS_EXECUTE     (1ULL << 0)
#define FS_WRITE_FILE  (1ULL << 1)
#define FS_READ_FILE   (1ULL << 2)
#define FS_READ_DIR    (1ULL << 3)
#define FS_REMOVE_FILE (1ULL << 5)
#define FS_MAKE_REG    (1ULL << 8)
#define FS_ABI1        ((1ULL << 13) - 1) /* execute .. make_sym */
#define FS_REFER       (1ULL << 13)       /* ABI 2 */
#define FS_TRUNCATE    (1ULL << 14)       /* ABI 3 */
#define FS_IOCTL_DEV   (1ULL << 15)       /* ABI 5 */
#define NET_TCP        3ULL               /* bind, connect: ABI 4 */
#define SCOPE_ALL      3ULL               /* abstract unix sockets, signals: ABI 6 */

struct ruleset_attr {
    uint64_t handled_fs, handled_net, scoped;
};

struct path_beneath {
    uint64_t allowed;
    int32_t parent_fd;
} __attribute__((packed));

int landlock_abi(void)
{
    long v = syscall(SYS_CREATE_RULESET, NULL, 0, CREATE_VERSION);

    return v > 0 ? (int)v : 0;
}

static uint64_t known_fs(int abi)
{
    return FS_ABI1 | (abi >= 2 ? FS_REFER : 0) | (abi >= 3 ? FS_TRUNCATE : 0) | (abi >= 5 ? FS_IOCTL_DEV : 0);
}

int landlock_restrict(const struct landlock_path *paths, size_t n, bool no_tcp, bool scoped, struct err *e)
{
    int abi = landlock_abi();
    struct ruleset_attr attr = {.handled_fs = known_fs(abi)};
    /* The structure grew with the ABI; a kernel refuses trailing bytes that it does not know. */
    size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
    CLEANUP_CLOSE int ruleset = -1;

    if (abi == 0)
        return 0;
    attr.handled_net = abi >= 4 && no_tcp ? NET_TCP : 0;
    attr.scoped = abi >= 6 && scoped ? SCOPE_ALL : 0;
    ruleset = (int)syscall(SYS_CREATE_RULESET, &attr, size, 0);
    if (ruleset < 0)
        return err_sys(e, errno, "landlock: cannot create a ruleset");
    for (size_t i = 0; i < n; i++) {
        struct path_beneath rule = {.parent_fd = paths[i].fd};
        struct stat st;
        rule.allowed = FS_READ_FILE | FS_READ_DIR;
        if (paths[i].mode == LANDLOCK_READ)
            rule.allowed |= FS_EXECUTE;
        if (paths[i].mode == LANDLOCK_FILES)
            rule.allowed |= (FS_WRITE_FILE | FS_REMOVE_FILE | FS_MAKE_REG | FS_TRUNCATE) & attr.handled_fs;
        if (paths[i].mode == LANDLOCK_WRITE)
            rule.allowed = attr.handled_fs;
        if (fstat(rule.parent_fd, &st) < 0)
            return err_sys(e, errno, "landlock: cannot examine rule %zu", i);
        if (!S_ISDIR(st.st_mode)) /* directory rights on a file are refused with EINVAL */
            rule.allowed &= FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV;
        if (syscall(SYS_ADD_RULE, ruleset, RULE_PATH_BENEATH, &rule, 0) < 0)
            return err_sys(e, errno, "landlock: cannot add rule %zu", i);
    }
    if (syscall(SYS_RESTRICT_SELF, ruleset, 0) < 0)
        return err_sys(e, errno, "landlock: cannot restrict the process");
    return abi;
}
