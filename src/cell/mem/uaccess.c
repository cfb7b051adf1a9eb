#include "cell/mem/uaccess.h"

#include <asm/errno.h>

#include "cell/arch/x86_64/asm.h"

/* Nobody asks for more at once who does not mean it; who asks for much, and gets little, keeps the pages. */
enum { FILL_MAX = 1 << 20 };

int copy_to_user(USER void *dst, const void *src, size_t n)
{
    return uaccess_copy(dst, src, n) == 0 ? 0 : -EFAULT;
}

int copy_from_user(void *dst, USER const void *src, size_t n)
{
    return uaccess_copy(dst, src, n) == 0 ? 0 : -EFAULT;
}

size_t copy_user_partial(void *dst, const void *src, size_t n)
{
    return uaccess_copy(dst, src, n);
}

int clear_user(USER void *dst, size_t n)
{
    return uaccess_zero(dst, n) == 0 ? 0 : -EFAULT;
}

long strncpy_from_user(char *dst, USER const char *src, size_t cap)
{
    long n = uaccess_string(dst, src, cap);

    return n < 0 ? -EFAULT : (size_t)n == cap ? -ENAMETOOLONG : n;
}

void prepare_to_fill(USER void *dst, size_t n)
{
    u64 at = (u64)(uintptr_t)dst, end = at + MIN(n, (size_t)FILL_MAX);

    if (n == 0 || end < at)
        return;
    for (; at < end; at = PAGE_DOWN(at) + PAGE)
        if (uaccess_touch((void *)at) != 0)
            return;
}

int get_user_u32(u32 *value, USER const void *src)
{
    return uaccess_load32(value, src) == 0 ? 0 : -EFAULT;
}

int get_user_u64(u64 *value, USER const void *src)
{
    return uaccess_load64(value, src) == 0 ? 0 : -EFAULT;
}

int put_user_u32(USER void *dst, u32 value)
{
    return uaccess_store32(dst, value) == 0 ? 0 : -EFAULT;
}

int put_user_u64(USER void *dst, u64 value)
{
    return uaccess_store64(dst, value) == 0 ? 0 : -EFAULT;
}

int cmpxchg_user_u32(USER void *p, u32 expected, u32 desired, u32 *seen)
{
    return uaccess_cmpxchg32(p, expected, desired, seen) == 0 ? 0 : -EFAULT;
}
