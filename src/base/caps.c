#include "base/caps.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CAP_NUMBERS = 64 };

int caps_drop_bounding(uint64_t keep, struct err *e)
{
    for (int cap = 0; cap < CAP_NUMBERS; cap++) {
        int in_set = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
        if (in_set < 0)
            break; /* EINVAL: above the last capability of this kernel */
        if (in_set == 1 && !(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return err_sys(e, errno, "cannot drop capability %d from the bounding set", cap);
    }
    return 0;
}

int caps_limit(uint64_t keep, struct err *e)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct data[2] = {{0}};

    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return err_sys(e, errno, "cannot clear the ambient capabilities");
    data[0].permitted = data[0].effective = (uint32_t)keep;
    data[1].permitted = data[1].effective = (uint32_t)(keep >> 32);
    if (syscall(SYS_capset, &head, data) < 0)
        return err_sys(e, errno, "cannot drop capabilities");
    return 0;
}

bool caps_have(uint64_t mask)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct data[2] = {{0}};
    uint64_t effective;

    if (syscall(SYS_capget, &head, data) < 0)
        return false;
    effective = (uint64_t)data[1].effective << 32 | data[0].effective;
    return (effective & mask) == mask;
}
