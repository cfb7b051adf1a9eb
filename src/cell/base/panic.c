#include "cell/base/panic.h"

#include <linux/futex.h>

#include "cell/arch/x86_64/host.h"
#include "cell/base/shared.h"
#include "cell/base/text.h"

/* The compiler's checks of a function's stack end here. */
void __stack_chk_fail(void);
void __stack_chk_fail(void)
{
    panic("a function of the kernel overran its stack, called from %p", __builtin_return_address(0));
}

static void leave(u32 as, const char *fmt, va_list ap)
{
    static const u64 one = 1;

    if (atomic_load(&HEADER->state) < CELL_EXITED) { /* the first one has the word */
        (void)text_vformat(HEADER->message, sizeof(HEADER->message), fmt, ap);
        atomic_store(&HEADER->state, as);
    }
    (void)host_call3(__NR_write, CELL_FD_DOORBELL, (long)&one, sizeof(one));
    host_exit_group(125);
}

void panic(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    leave(CELL_PANICKED, fmt, ap);
    va_end(ap);
    __builtin_unreachable();
}

void panic_killed(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    leave(CELL_KILLED, fmt, ap);
    va_end(ap);
    __builtin_unreachable();
}
