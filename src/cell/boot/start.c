/*
 * The first steps of a cell: from a fresh host process with three descriptors to pid 1 of the cell, sealed by
 * the filter, with the workload beside it. Nothing untrusted has run before the filter stands.
 */
#include <asm/errno.h>
#include <asm/mman.h>
#include <linux/auxvec.h>
#include <linux/elf.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>

#include "cell/arch/x86_64/asm.h"
#include "cell/arch/x86_64/host.h"
#include "cell/arch/x86_64/traps.h"
#include "cell/base/lock.h"
#include "cell/base/panic.h"
#include "cell/base/shared.h"
#include "cell/base/text.h"
#include "cell/boot/filter.h"
#include "cell/boot/init.h"
#include "cell/fs/file.h"
#include "cell/fs/host_files.h"
#include "cell/fs/path.h"
#include "cell/ipc/stream.h"
#include "cell/mem/heap.h"
#include "cell/mem/mm.h"
#include "cell/net/net.h"
#include "cell/proc/dispatch.h"
#include "cell/proc/exec.h"
#include "cell/proc/process.h"
#include "cell/proc/signal.h"
#include "cell/proc/table.h"
#include "cell/tty/console.h"
#include "cell/tty/tty.h"

enum { HWCAP2_FSGSBASE = 2, VVAR_PAGES = 16 /* more than any kernel has had */ };

static u64 auxv_find(const u64 *auxv, u64 type)
{
    for (; auxv[0] != AT_NULL; auxv += 2)
        if (auxv[0] == type)
            return auxv[1];
    return 0;
}

/* Before there is a message to leave: the exit status alone tells. */
static void fail_early(int status)
{
    host_exit_group(status);
}

static void map_memory(void)
{
    const int rw = PROT_READ | PROT_WRITE;
    u64 size;

    if (host_mmap((void *)CELL_MEMORY, CELL_OFF_HEAP, rw, MAP_SHARED | MAP_FIXED_NOREPLACE, CELL_FD_MEMORY,
                  0) < 0)
        fail_early(121);
    size = HEADER->memory_size;
    if (HEADER->magic != CELL_MAGIC || HEADER->abi != CELL_ABI || size <= CELL_OFF_HEAP + 64 * PAGE ||
        size % PAGE || size > CELL_MEMORY_MAX)
        fail_early(122);
    if (host_mmap((void *)(CELL_MEMORY + CELL_OFF_HEAP), size - CELL_OFF_HEAP, rw,
                  MAP_SHARED | MAP_FIXED_NOREPLACE, CELL_FD_MEMORY, CELL_OFF_HEAP) < 0)
        panic("cannot map the memory file of %lu bytes", size);
    if (HEADER->image_size == 0 || HEADER->image_size > CELL_IMAGE_MAX ||
        host_mmap((void *)CELL_IMAGE, PAGE_UP(HEADER->image_size), PROT_READ,
                  MAP_PRIVATE | MAP_FIXED_NOREPLACE, CELL_FD_IMAGE, 0) < 0)
        panic("cannot map the image of %lu bytes", HEADER->image_size);
}

/* Before the filter stands one may still ask. */
static bool is_mapped(u64 page)
{
    u8 resident;

    return host_call3(__NR_mincore, (long)page, PAGE, (long)&resident) == 0;
}

/* The host's vDSO answers the time without a call. Its size stands in its ELF header. */
static void find_vdso(u64 image)
{
    const Elf64_Ehdr *e = (const Elf64_Ehdr *)image;
    u64 start = image, end = image + PAGE;

    if (!image)
        return;
    for (u32 i = 0; i < e->e_phnum; i++) {
        const Elf64_Phdr *p = (const Elf64_Phdr *)(image + e->e_phoff) + i;
        if (p->p_type == PT_LOAD)
            end = MAX(end, image + PAGE_UP(p->p_vaddr + p->p_memsz));
    }
    /* Its data lie right below. Programs are mapped next to it, so the page where it begins matters. */
    for (int i = 0; i < VVAR_PAGES && is_mapped(start - PAGE); i++)
        start -= PAGE;
    mm_set_vdso(start, image, end);
}

static void read_machine(const u64 *auxv)
{
    struct exec_machine m = {.hwcap = auxv_find(auxv, AT_HWCAP),
                             .hwcap2 = auxv_find(auxv, AT_HWCAP2),
                             .min_signal_stack = auxv_find(auxv, AT_MINSIGSTKSZ)};

    if (!(m.hwcap2 & HWCAP2_FSGSBASE))
        panic("the host does not let programs set %%gs (FSGSBASE)");
    if (m.min_signal_stack > ALT_STACK_SIZE - 2048)
        panic("the processor needs %lu bytes for a signal, there are %d", m.min_signal_stack, ALT_STACK_SIZE);
    exec_set_machine(&m);
    find_vdso(auxv_find(auxv, AT_SYSINFO_EHDR));
}

static void install_filter(void)
{
    if (host_call3(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)cell_filter()) < 0)
        panic("cannot install the system call filter");
}

/* On the stack of pid 1's thread: the host's own stack goes. */
static void continue_boot(void)
{
    struct thread *t = current();
    u64 none = 0;

    t->host_tid = (int)host_call3(__NR_gettid, 0, 0, 0);
    t->process->host_pid = t->host_pid = t->host_tid;
    traps_init();
    traps_thread_init(t);
    (void)host_sigprocmask(2 /* SIG_SETMASK */, &none, NULL);
    (void)host_call3(__NR_prctl, PR_SET_CHILD_SUBREAPER, 1, 0);
    (void)host_call3(__NR_prctl, PR_SET_PDEATHSIG, 9, 0);
    install_filter();
    kernel_lock();
    t->process->mm = mm_create();
    if (!t->process->mm)
        panic("out of memory at boot");
    mm_clear(t->process->mm);
    fs_context_init(&t->process->fs);
    init_run();
}

void cell_boot(unsigned long *stack)
{
    const u64 *auxv;
    struct thread *t;
    u64 *p = stack + 1 + stack[0] + 1; /* envp */

    while (*p)
        p++;
    auxv = p + 1;
    map_memory();
    SHARED->kernel_started_ns = monotonic_ns();
    heap_init();
    read_machine(auxv);
    t = table_init();
    __asm__ volatile("wrgsbase %0" : : "r"(t));
    streams_init();
    host_files_init();
    net_init();
    pty_init();
    console_tty_init();
    sigframe_init();
    dispatch_init();
    if (fs_init(HEADER) < 0)
        panic("the image is not one that the cell can read");
    cell_switch_stack((void *)t->arch.stack_top, continue_boot);
}
