#include "cell/fs/regular.h"

#include <asm/errno.h>
#include <linux/fs.h>

#include "cell/fs/inode.h"
#include "cell/proc/process.h"

long regular_seek(struct file *f, s64 offset, int whence)
{
    s64 size = (s64)f->inode->size;

    switch (whence) {
    case SEEK_SET:
        break;
    case SEEK_CUR:
        if (__builtin_add_overflow(offset, (s64)f->pos, &offset))
            return -EOVERFLOW;
        break;
    case SEEK_END:
        if (__builtin_add_overflow(offset, size, &offset))
            return -EOVERFLOW;
        break;
    case SEEK_DATA:
    case SEEK_HOLE:
        if (offset < 0 || offset >= size)
            return -ENXIO;
        if (whence == SEEK_HOLE)
            offset = size;
        break;
    default:
        return -EINVAL;
    }
    if (offset < 0)
        return -EINVAL;
    f->pos = (u64)offset;
    return offset;
}

long regular_limit(u64 pos, size_t len)
{
    u64 limit = current_process->rlimits[RLIMIT_FSIZE].rlim_cur;

    len = MIN(len, (size_t)0x7ffff000);
    if (pos >= limit && len > 0) {
        signal_self(SIGXFSZ);
        return -EFBIG;
    }
    return (long)MIN(len, limit - pos);
}
