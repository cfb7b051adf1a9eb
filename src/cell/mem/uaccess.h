/*
 * uaccess.h - reading and writing at addresses that a program gave. A wrong one is -EFAULT, never a fault of
 * the kernel. May be used with kernel addresses as well, so one read function serves programs and the
 * kernel's own needs.
 */
#pragma once
#include "cell/base/types.h"

/* All n bytes, or -EFAULT. */
int copy_to_user(USER void *dst, const void *src, size_t n);
int copy_from_user(void *dst, USER const void *src, size_t n);
/* As much as possible: the number of bytes NOT copied. */
size_t copy_user_partial(void *dst, const void *src, size_t n);
/* n bytes of 0, or -EFAULT. */
int clear_user(USER void *dst, size_t n);
/* Length without the final 0; -EFAULT; -ENAMETOOLONG if there is no 0 in the first cap bytes. */
long strncpy_from_user(char *dst, USER const char *src, size_t cap);
/*
 * Sees to it that the first `n` bytes at `dst` have pages, as far as they may be written. Called without the
 * kernel lock before a call that fills memory under it: should the host run out of memory for the program, it
 * kills whoever asks for more, and a thread that dies with the lock takes the whole cell along.
 */
void prepare_to_fill(USER void *dst, size_t n);
int get_user_u32(u32 *value, USER const void *src);
int get_user_u64(u64 *value, USER const void *src);
int put_user_u32(USER void *dst, u32 value);
int put_user_u64(USER void *dst, u64 value);
/* Atomically: if *p == expected, *p = desired. *seen gets what was there. */
int cmpxchg_user_u32(USER void *p, u32 expected, u32 desired, u32 *seen);

#define put_user(dst, value)                                                                                 \
    ({                                                                                                       \
        __typeof__(*(dst)) v_ = (value);                                                                     \
        copy_to_user((dst), &v_, sizeof(v_));                                                                \
    })
#define get_user(value, src) copy_from_user(&(value), (src), sizeof(value))
