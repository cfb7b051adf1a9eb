/*
 * exec in place: nothing is executed on the host. The old program is unmapped, the new one mapped, the
 * thread's registers set to its start.
 */
#include "cell/proc/exec.h"

#include <asm/errno.h>
#include <asm/mman.h>
#include <asm/unistd.h>
#include <linux/auxvec.h>
#include <linux/elf.h>
#include <linux/fcntl.h>
#include <linux/mman.h>

#include "cell/arch/x86_64/host.h"
#include "cell/arch/x86_64/patch.h"
#include "cell/base/panic.h"
#include "cell/base/text.h"
#include "cell/fs/file.h"
#include "cell/fs/path.h"
#include "cell/mem/heap.h"
#include "cell/mem/mm.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/calls.h"
#include "cell/proc/elf.h"
#include "cell/proc/exit.h"
#include "cell/proc/signal.h"
#include "cell/proc/timer.h"

enum { SCRIPT_DEPTH = 4, SCRIPT_LINE = 256, STACK_MAX = 64 << 20, AUXV_MAX = 24 };
#define PIE_BASE 0x555555554000ULL
enum { HEAP_RANDOM_PAGES = 0x2000 }; /* 32 MiB: as arch_randomize_brk() of Linux */

static struct exec_machine machine; /* set at boot */

void exec_set_machine(const struct exec_machine *m)
{
    machine = *m;
}

const struct exec_machine *exec_machine(void)
{
    return &machine;
}

/* What is loaded: the program, and the interpreter that starts it. */
struct load {
    struct elf_image program, interp;
    struct file *interp_file;
    u64 program_base, interp_base;
};

void exec_free(struct exec_request *r)
{
    kfree(r->strings);
    r->strings = NULL;
    if (r->file)
        file_put(r->file);
    r->file = NULL;
}

static int reserve(struct exec_request *r, size_t more)
{
    size_t capacity = r->capacity ? r->capacity : 2032;
    char *copy;

    if (more > ARG_TOTAL_MAX || r->length + more > ARG_TOTAL_MAX)
        return -E2BIG;
    while (capacity < r->length + more)
        capacity *= 2;
    if (capacity == r->capacity)
        return 0;
    copy = kmalloc(capacity);
    if (!copy)
        return -ENOMEM;
    if (r->length)
        memcpy(copy, r->strings, r->length);
    kfree(r->strings);
    r->strings = copy;
    r->capacity = capacity;
    return 0;
}

int exec_add_string(struct exec_request *r, const char *s)
{
    size_t n = strlen(s) + 1;
    int rc = reserve(r, n);

    if (rc < 0)
        return rc;
    memcpy(r->strings + r->length, s, n);
    r->length += n;
    return 0;
}

static int add_user_string(struct exec_request *r, const char *s)
{
    for (size_t room = 256;; room *= 8) {
        long n;
        int rc = reserve(r, room);
        if (rc < 0)
            return rc;
        n = strncpy_from_user(r->strings + r->length, s, room);
        if (n >= 0) {
            r->length += (size_t)n + 1;
            return 0;
        }
        if (n != -ENAMETOOLONG)
            return (int)n;
        if (room >= ARG_STRING_MAX)
            return -E2BIG;
    }
}

/* A NULL array is an empty one, as Linux has it. */
static int add_user_array(struct exec_request *r, u64 array, u32 *count)
{
    *count = 0;
    for (; array; array += 8) {
        u64 s;
        int rc;
        if (get_user_u64(&s, (void *)array) < 0)
            return -EFAULT;
        if (!s)
            break;
        if ((rc = add_user_string(r, (const char *)s)) < 0)
            return rc;
        ++*count;
    }
    return 0;
}

/* Puts strings in front: "#!" makes `interpreter [argument] path` of argv[0]. */
static int replace_first(struct exec_request *r, const char *interpreter, const char *argument,
                         const char *path)
{
    struct exec_request n = {0};
    size_t skip = r->argc > 0 ? strlen(r->strings) + 1 : 0;
    int rc;

    if ((rc = exec_add_string(&n, interpreter)) < 0 ||
        (*argument && (rc = exec_add_string(&n, argument)) < 0) || (rc = exec_add_string(&n, path)) < 0 ||
        (rc = reserve(&n, r->length - skip + 1)) < 0) {
        kfree(n.strings);
        return rc;
    }
    if (r->length > skip)
        memcpy(n.strings + n.length, r->strings + skip, r->length - skip);
    r->env_offset = r->env_offset - skip + n.length;
    r->length = n.length + r->length - skip;
    r->argc = (r->argc > 0 ? r->argc - 1 : 0) + (*argument ? 3 : 2);
    kfree(r->strings);
    r->strings = n.strings;
    r->capacity = n.capacity;
    return 0;
}

/* "#!interpreter argument\n": execve(2). */
static int follow_script(struct exec_request *r, char *line, size_t n)
{
    char *end, *p = line + 2, *interpreter, *argument;
    struct file *file;
    int rc;

    line[MIN(n, SCRIPT_LINE - 1)] = 0;
    end = strchr(line, '\n');
    if (!end)
        end = line + strlen(line);
    while (end > p && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *end = 0;
    while (*p == ' ' || *p == '\t')
        p++;
    interpreter = p;
    while (*p && *p != ' ' && *p != '\t')
        p++;
    argument = p;
    if (*p) {
        *p++ = 0;
        while (*p == ' ' || *p == '\t')
            p++;
        argument = p;
    }
    if (!*interpreter)
        return -ENOEXEC;
    if ((rc = fs_open_exec(AT_FDCWD, interpreter, 0, &file)) < 0)
        return rc;
    if ((rc = replace_first(r, interpreter, argument, r->path)) < 0) {
        file_put(file);
        return rc;
    }
    file_put(r->file);
    r->file = file;
    return 0;
}

static int read_elf(struct file *f, u8 *head, struct elf_image *out)
{
    long n = file_read_kernel(f, head, ELF_HEAD, 0);

    return n < 0 ? (int)n : elf_parse(head, (size_t)n, file_size(f), out);
}

static int find_program(struct exec_request *r, struct load *l, u8 *head)
{
    for (int depth = 0;; depth++) {
        long n = file_read_kernel(r->file, head, ELF_HEAD, 0);
        int rc;
        if (n < 0)
            return (int)n;
        if (n < 2 || head[0] != '#' || head[1] != '!')
            return elf_parse(head, (size_t)n, file_size(r->file), &l->program);
        if (depth == SCRIPT_DEPTH)
            return -ELOOP;
        if ((rc = follow_script(r, (char *)head, (size_t)n)) < 0)
            return rc;
    }
}

static int find_interpreter(const struct exec_request *r, struct load *l, u8 *head)
{
    u64 size = l->program.interp_size;
    int rc;

    if (size == 0)
        return 0;
    if (file_read_kernel(r->file, head, size, l->program.interp_offset) != (long)size || head[size - 1])
        return -ENOEXEC;
    if ((rc = fs_open_exec(AT_FDCWD, (char *)head, 0, &l->interp_file)) < 0)
        return rc;
    rc = read_elf(l->interp_file, head, &l->interp);
    return rc < 0 ? -ELIBBAD : 0;
}

/* ---- behind the point of no return: a failure ends the process */

static u64 random_pages(u64 mask)
{
    u64 r = 0;

    (void)host_getrandom(&r, sizeof(r), 0);
    return (r & mask) * PAGE;
}

static int map_segment(struct file *f, const struct elf_segment *s, u64 base)
{
    u64 start = base + PAGE_DOWN(s->address), skip = s->address % PAGE;
    u64 file_end = base + s->address + s->file_size, end = PAGE_UP(base + s->address + s->memory_size);
    u64 mapped = PAGE_UP(file_end);
    long rc;

    if (s->file_size == 0) {
        mapped = start;
    } else {
        rc = mm_map(start, s->file_size + skip, (int)s->prot, MAP_PRIVATE | MAP_FIXED, f, s->offset - skip,
                    NULL);
        if (rc < 0)
            return (int)rc;
        /* What lies behind the data in its last page is the file's, not the program's. */
        if (s->memory_size > s->file_size && (s->prot & PROT_WRITE) && file_end % PAGE &&
            clear_user((void *)file_end, mapped - file_end) < 0)
            return -EFAULT;
    }
    if (end > mapped) {
        rc = mm_map(mapped, end - mapped, (int)s->prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0,
                    NULL);
        if (rc < 0)
            return (int)rc;
    }
    return 0;
}

static int map_image(struct file *f, const struct elf_image *image, u64 *base, bool is_program)
{
    u64 size = image->high - image->low;
    int rc = 0;

    *base = 0;
    if (image->is_dynamic) {
        u64 hint = is_program ? PIE_BASE + random_pages(0xfffffff) : 0;
        long at = mm_map(hint, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, NULL, 0, NULL);
        if (at < 0)
            return (int)at;
        *base = (u64)at - image->low;
    }
    for (u32 i = 0; i < image->nsegments && rc == 0; i++)
        rc = map_segment(f, &image->segments[i], *base);
    /* Holes between segments of a fixed program are nobody's; those of a dynamic one stay without access. */
    return rc;
}

static u64 push_bytes(u64 *sp, const void *data, size_t n, int *error)
{
    *sp -= n;
    if (copy_to_user((void *)*sp, data, n) < 0)
        *error = -EFAULT;
    return *sp;
}

static void push_word(u64 *sp, u64 value, int *error)
{
    (void)push_bytes(sp, &value, 8, error);
}

struct auxv {
    u64 pairs[AUXV_MAX * 2];
    u32 n;
};

static void aux(struct auxv *a, u64 type, u64 value)
{
    ASSERT(a->n < AUXV_MAX);
    a->pairs[(size_t)a->n * 2] = type;
    a->pairs[(size_t)a->n * 2 + 1] = value;
    a->n++;
}

static void fill_auxv(struct auxv *a, const struct load *l, u64 random, u64 platform, u64 path)
{
    const struct elf_image *p = &l->program;

    if (mm_vdso())
        aux(a, AT_SYSINFO_EHDR, mm_vdso());
    if (machine.min_signal_stack)
        aux(a, AT_MINSIGSTKSZ, machine.min_signal_stack);
    aux(a, AT_HWCAP, machine.hwcap);
    aux(a, AT_HWCAP2, machine.hwcap2);
    aux(a, AT_PAGESZ, PAGE);
    aux(a, AT_CLKTCK, 100);
    aux(a, AT_PHDR, p->phdr ? l->program_base + p->phdr : 0);
    aux(a, AT_PHENT, sizeof(Elf64_Phdr));
    aux(a, AT_PHNUM, p->phnum);
    aux(a, AT_BASE, l->interp_file ? l->interp_base + l->interp.low : 0);
    aux(a, AT_FLAGS, 0);
    aux(a, AT_ENTRY, l->program_base + p->entry);
    aux(a, AT_UID, CELL_UID);
    aux(a, AT_EUID, CELL_UID);
    aux(a, AT_GID, CELL_GID);
    aux(a, AT_EGID, CELL_GID);
    aux(a, AT_SECURE, 0);
    aux(a, AT_RANDOM, random);
    aux(a, AT_PLATFORM, platform);
    aux(a, AT_EXECFN, path);
    aux(a, AT_NULL, 0);
}

/* argc, argv, NULL, envp, NULL, auxv, padding, strings: System V ABI, x86-64, 3.4.1. */
static int make_stack(const struct exec_request *r, const struct load *l)
{
    struct process *p = current_process;
    u64 size = MIN(p->rlimits[RLIMIT_STACK].rlim_cur, (u64)STACK_MAX), sp, strings, random, platform, path,
        at;
    struct auxv a = {.n = 0};
    u8 bytes[16];
    int error = 0;
    long base;

    size = PAGE_UP(MAX(size, 2UL * ARG_TOTAL_MAX));
    base = mm_map(0, size, PROT_READ | PROT_WRITE | (l->program.exec_stack ? PROT_EXEC : 0),
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, NULL, 0, "[stack]");
    if (base < 0)
        return (int)base;
    p->mm->stack_start = (u64)base;
    p->mm->stack_end = (u64)base + size;
    sp = p->mm->stack_end - 16;
    path = push_bytes(&sp, r->path, strlen(r->path) + 1, &error);
    strings = push_bytes(&sp, r->strings, r->length, &error);
    p->arg_start = strings;
    p->arg_end = p->env_start = strings + r->env_offset;
    p->env_end = strings + r->length;
    platform = push_bytes(&sp, "x86_64", 7, &error);
    (void)host_getrandom(bytes, sizeof(bytes), 0);
    sp &= ~15UL;
    random = push_bytes(&sp, bytes, sizeof(bytes), &error);
    fill_auxv(&a, l, random, platform, path);
    if ((r->argc + r->envc + 3) % 2)
        push_word(&sp, 0, &error);
    (void)push_bytes(&sp, a.pairs, (size_t)a.n * 16, &error);
    /* The two arrays of pointers, from the end. */
    sp -= ((u64)r->argc + r->envc + 3) * 8;
    at = sp;
    if (put_user_u64((void *)at, r->argc) < 0)
        return -EFAULT;
    at += 8;
    for (u32 i = 0; i < r->argc + r->envc; i++) {
        if (i == r->argc) {
            error = put_user_u64((void *)at, 0) < 0 ? -EFAULT : error;
            at += 8;
        }
        error = put_user_u64((void *)at, strings) < 0 ? -EFAULT : error;
        at += 8;
        strings += strlen(r->strings + (strings - p->arg_start)) + 1;
    }
    if (r->envc == 0)
        error = put_user_u64((void *)at, 0) < 0 ? -EFAULT : error, at += 8;
    error = put_user_u64((void *)at, 0) < 0 ? -EFAULT : error;
    current()->arch.regs.rsp = sp;
    return error;
}

static void reset_thread(struct thread *t)
{
    u64 sp = t->arch.regs.rsp;

    t->arch.regs = (struct regs){.orig_rax = (u64)-1, .rflags = 0x202, .rsp = sp};
    t->altstack_base = t->altstack_size = 0;
    t->altstack_flags = 0;
    t->clear_tid = t->robust_list = 0;
    t->tid = t->process->pid;
    t->process->leader = t;
    __asm__ volatile("wrfsbase %0" : : "r"(0UL));
}

static void name_process(struct process *p, const struct exec_request *r)
{
    const char *name = r->path;

    for (const char *s = r->path; *s; s++)
        if (*s == '/')
            name = s + 1;
    text_copy(p->name, name, sizeof(p->name));
    text_copy(current()->name, name, sizeof(p->name));
    kfree(p->cmdline);
    p->cmdline_len = (u32)MIN(r->env_offset, (size_t)2032);
    p->cmdline = kmalloc(p->cmdline_len);
    if (p->cmdline)
        memcpy(p->cmdline, r->strings, p->cmdline_len);
    else
        p->cmdline_len = 0;
}

/* Where the heap begins: somewhere behind the program, as on the host (randomize_va_space 2); behind the call
 * sites' table as well, which would end it after some 90 MiB. */
static u64 heap_start(const struct load *l)
{
    u64 behind = l->program_base + l->program.high + (l->program.is_dynamic ? 0 : PAGE);

    return MAX(behind, PATCH_END) + random_pages(HEAP_RANDOM_PAGES - 1);
}

static int replace(struct exec_request *r, struct load *l)
{
    struct process *p = current_process;
    struct thread *t = current();
    struct mm *mm = p->mm;
    int rc;

    mm_clear(mm);
    if ((rc = map_image(r->file, &l->program, &l->program_base, true)) < 0 ||
        (l->interp_file && (rc = map_image(l->interp_file, &l->interp, &l->interp_base, false)) < 0))
        return rc;
    patch_init();
    mm->brk_start = mm->brk = mm->brk_mapped = heap_start(l);
    if ((rc = make_stack(r, l)) < 0)
        return rc;
    reset_thread(t);
    t->arch.regs.rip = l->interp_file ? l->interp_base + l->interp.entry : l->program_base + l->program.entry;
    return 0;
}

long exec_program(struct exec_request *r)
{
    struct process *p = current_process;
    struct load *l = kmalloc(sizeof(*l));
    u8 *head = kmalloc(ELF_HEAD);
    long rc = -ENOMEM;

    if (l && head && (rc = find_program(r, l, head)) == 0)
        rc = find_interpreter(r, l, head);
    kfree(head);
    if (rc < 0) {
        if (l && l->interp_file)
            file_put(l->interp_file);
        kfree(l);
        return rc;
    }
    process_end_other_threads();
    timers_exec(p);
    rc = replace(r, l);
    if (rc < 0) {
        kfree(l);
        exec_free(r);
        process_exit(SIGKILL); /* as Linux: the old program is gone, the new one does not stand */
    }
    fd_table_close_on_exec(p->fds, p);
    signal_reset_on_exec(p);
    name_process(p, r);
    if (p->exe)
        file_put(p->exe);
    p->exe = r->file;
    file_get(p->exe);
    p->execed = true;
    process_vfork_done(p);
    if (l->interp_file)
        file_put(l->interp_file);
    kfree(l);
    return 0;
}

static int insert_empty(struct exec_request *r)
{
    int rc = reserve(r, 1);

    if (rc < 0)
        return rc;
    memmove(r->strings + 1, r->strings, r->length);
    r->strings[0] = 0;
    r->length++;
    r->env_offset++;
    r->argc = 1;
    return 0;
}

static long do_execve(int dirfd, u64 path, u64 argv, u64 envp, int flags)
{
    struct exec_request r = {0};
    char *name = kmalloc(4096);
    long rc = name ? 0 : -ENOMEM;

    if (flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))
        rc = -EINVAL;
    if (rc == 0)
        rc = strncpy_from_user(name, (const char *)path, 4096);
    if (rc >= 0)
        rc = fs_open_exec(dirfd, name, flags, &r.file);
    if (rc >= 0)
        rc = add_user_array(&r, argv, &r.argc);
    r.env_offset = r.length;
    if (rc >= 0)
        rc = add_user_array(&r, envp, &r.envc);
    /* A program without arguments gets an empty one: nothing expects argc to be 0 (Linux 5.18 likewise). */
    if (rc >= 0 && r.argc == 0) {
        rc = insert_empty(&r);
    }
    r.path = name;
    if (rc >= 0)
        rc = exec_program(&r);
    exec_free(&r);
    kfree(name);
    return rc;
}

static long sys_execve(u64 path, u64 argv, u64 envp, u64 d, u64 e, u64 f)
{
    (void)d, (void)e, (void)f;
    return do_execve(AT_FDCWD, path, argv, envp, 0);
}

static long sys_execveat(u64 dirfd, u64 path, u64 argv, u64 envp, u64 flags, u64 f)
{
    (void)f;
    return do_execve((int)dirfd, path, argv, envp, (int)flags);
}

const struct syscall exec_calls[] = {
    {__NR_execve, SYS_LOCKED, "execve", sys_execve},
    {__NR_execveat, SYS_LOCKED, "execveat", sys_execveat},
    {0},
};
