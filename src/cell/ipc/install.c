#include <asm/errno.h>

#include "cell/fs/file.h"
#include "cell/ipc/calls.h"
#include "cell/mem/heap.h"

long ipc_install(const struct file_ops *ops, void *object, unsigned flags, bool cloexec)
{
    struct file *f = file_create_anon(ops, object, flags, 0600);
    int fd;

    if (!f) {
        struct file none = {.ops = ops, .priv = object};
        ops->release(&none);
        return -ENOMEM;
    }
    fd = fd_install(f, 0, cloexec);
    if (fd < 0)
        file_put(f);
    return fd;
}
