/*
 * The list of areas: a sorted array, as a program has a few hundred at most and looks are far more frequent
 * than changes.
 */
#include "cell/mem/mm.h"

#include <asm/errno.h>
#include <asm/mman.h>
#include <linux/mman.h>

#include "cell/abi/layout.h"
#include "cell/arch/x86_64/host.h"
#include "cell/arch/x86_64/patch.h"
#include "cell/base/text.h"
#include "cell/fs/file.h"
#include "cell/fs/path.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/process.h"
#include "cell/proc/syscall.h"

enum { AREAS_MAX = 65530 }; /* sysctl vm.max_map_count */
#define USER_END 0x7ffffffff000ULL

static u64 vdso_start, vdso_end, vdso_image; /* set once at boot */

void mm_set_vdso(u64 start, u64 image, u64 end)
{
    vdso_start = start;
    vdso_image = image;
    vdso_end = end;
}

u64 mm_vdso(void)
{
    return vdso_image;
}

struct mm *mm_create(void)
{
    return kmalloc(sizeof(struct mm));
}

struct mm *mm_copy(const struct mm *mm)
{
    struct mm *copy = mm_create();

    if (!copy)
        return NULL;
    *copy = *mm;
    copy->areas = kmalloc((size_t)mm->capacity * sizeof(struct vma));
    if (mm->capacity && !copy->areas) {
        kfree(copy);
        return NULL;
    }
    for (u32 i = 0; i < mm->count; i++) {
        copy->areas[i] = mm->areas[i];
        if (copy->areas[i].file)
            file_get(copy->areas[i].file);
    }
    return copy;
}

static void forget_all(struct mm *mm)
{
    u32 n = mm->count;

    mm->count = 0;
    for (u32 i = 0; i < n; i++)
        if (mm->areas[i].file)
            file_put(mm->areas[i].file);
}

void mm_free(struct mm *mm)
{
    if (!mm)
        return;
    forget_all(mm);
    kfree(mm->areas);
    kfree(mm);
}

/* Index of the first area that ends behind addr. */
static u32 find(const struct mm *mm, u64 addr)
{
    u32 low = 0, high = mm->count;

    while (low < high) {
        u32 mid = (low + high) / 2;
        if (mm->areas[mid].end <= addr)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static int grow(struct mm *mm, u32 more)
{
    u32 capacity = mm->capacity ? mm->capacity : 20;
    struct vma *areas;

    while (capacity < mm->count + more)
        capacity *= 2;
    if (capacity > AREAS_MAX)
        return -ENOMEM;
    if (capacity == mm->capacity)
        return 0;
    areas = kmalloc((size_t)capacity * sizeof(*areas));
    if (!areas)
        return -ENOMEM;
    if (mm->count)
        memcpy(areas, mm->areas, mm->count * sizeof(*areas));
    kfree(mm->areas);
    mm->areas = areas;
    mm->capacity = capacity;
    return 0;
}

static void insert(struct mm *mm, u32 at, const struct vma *v)
{
    memmove(&mm->areas[at + 1], &mm->areas[at], (size_t)(mm->count - at) * sizeof(*v));
    mm->areas[at] = *v;
    mm->count++;
}

static void remove_at(struct mm *mm, u32 at)
{
    struct file *f = mm->areas[at].file;

    mm->count--;
    memmove(&mm->areas[at], &mm->areas[at + 1], (size_t)(mm->count - at) * sizeof(struct vma));
    if (f)
        file_put(f);
}

/* Cuts the area at index `at` in two at addr, which lies inside. The caller has grown the array. */
static void split(struct mm *mm, u32 at, u64 addr)
{
    struct vma right = mm->areas[at];

    right.offset += addr - right.start;
    right.start = addr;
    if (right.file)
        file_get(right.file);
    mm->areas[at].end = addr;
    insert(mm, at + 1, &right);
}

/* Afterwards no area crosses start or end. Returns the index of the first in the range, or -ENOMEM. */
static long isolate(struct mm *mm, u64 start, u64 end)
{
    u32 i;

    if (grow(mm, 3) < 0)
        return -ENOMEM;
    i = find(mm, start);
    if (i < mm->count && mm->areas[i].start < start) {
        split(mm, i, start);
        i++;
    }
    for (u32 j = i; j < mm->count && mm->areas[j].start < end; j++)
        if (mm->areas[j].end > end)
            split(mm, j, end);
    return i;
}

static long forget(struct mm *mm, u64 start, u64 end)
{
    long i = isolate(mm, start, end);

    if (i < 0)
        return i;
    while ((u32)i < mm->count && mm->areas[i].start < end)
        remove_at(mm, (u32)i);
    return 0;
}

static bool can_merge(const struct vma *a, const struct vma *b)
{
    return a->end == b->start && a->prot == b->prot && a->flags == b->flags && a->file == b->file &&
           a->name == b->name && (!a->file || a->offset + (a->end - a->start) == b->offset);
}

int mm_note(struct mm *mm, u64 start, u64 end, int prot, int flags, struct file *file, u64 offset,
            const char *name)
{
    struct vma v = {.start = start,
                    .end = end,
                    .offset = offset,
                    .file = file,
                    .prot = (u32)prot,
                    .flags = (u32)flags,
                    .name = name};
    u32 i;

    if (grow(mm, 1) < 0)
        return -ENOMEM;
    i = find(mm, start);
    if (i > 0 && can_merge(&mm->areas[i - 1], &v)) {
        mm->areas[i - 1].end = end;
        return 0;
    }
    if (file)
        file_get(file);
    insert(mm, i, &v);
    return 0;
}

int mm_prot_at(const struct mm *mm, u64 addr)
{
    u32 i = find(mm, addr);

    return i < mm->count && mm->areas[i].start <= addr ? (int)mm->areas[i].prot : -1;
}

void mm_clear(struct mm *mm)
{
    (void)host_munmap((void *)0x1000, CELL_KERNEL_START - 0x1000);
    if (vdso_start) {
        (void)host_munmap((void *)CELL_KERNEL_END, vdso_start - CELL_KERNEL_END);
        (void)host_munmap((void *)vdso_end, USER_END - vdso_end);
    } else {
        (void)host_munmap((void *)CELL_KERNEL_END, USER_END - CELL_KERNEL_END);
    }
    forget_all(mm);
    mm->brk_start = mm->brk = mm->brk_mapped = 0;
    mm->patching = false;
}

/* May a program map or change this range? */
static bool is_allowed(u64 addr, size_t len)
{
    u64 end = addr + len;

    if (end < addr || end > USER_END || addr < 0x1000)
        return false;
    if (addr < CELL_KERNEL_END && end > CELL_KERNEL_START)
        return false;
    if (current_process->mm->patching && addr < PATCH_END && end > PATCH_SLOTS)
        return false;
    return !vdso_start || addr >= vdso_end || end <= vdso_start;
}

static bool is_free(const struct mm *mm, u64 addr, size_t len)
{
    u32 i = find(mm, addr);

    return i == mm->count || mm->areas[i].start >= addr + len;
}

static int check_file(const struct file *f, int prot, int flags, u64 offset, size_t len)
{
    unsigned mode = f->flags & 3 /* O_ACCMODE */;

    if (!f->ops->map)
        return -ENODEV;
    if (offset % PAGE || offset + len < offset)
        return -EINVAL;
    if (mode == 1 /* O_WRONLY */)
        return -EACCES;
    if ((flags & MAP_TYPE) != MAP_PRIVATE && (prot & PROT_WRITE) && mode == 0)
        return -EACCES;
    return 0;
}

/* Does the file lie behind every page of the mapping? What lies behind its end is only to be reserved. */
static bool covers(const struct file *f, u64 offset, size_t len)
{
    u64 end = PAGE_UP(file_size(f));

    return offset <= end && len <= end - offset;
}

long mm_map(u64 addr, size_t len, int prot, int flags, struct file *file, u64 offset, const char *name)
{
    struct mm *mm = current_process->mm;
    int share = flags & MAP_TYPE, fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE), host_flags, rc;
    long at;

    if (len == 0)
        return -EINVAL;
    if (len > USER_END)
        return -ENOMEM;
    len = PAGE_UP(len);
    if (share == MAP_SHARED_VALIDATE)
        share = MAP_SHARED;
    if (share != MAP_SHARED && share != MAP_PRIVATE)
        return -EINVAL;
    if (fixed && addr % PAGE)
        return -EINVAL;
    addr = PAGE_DOWN(addr);
    if (fixed && !is_allowed(addr, len))
        return addr < 0x1000 ? -EPERM : -ENOMEM;
    if ((flags & MAP_FIXED_NOREPLACE) && !is_free(mm, addr, len))
        return -EEXIST;
    if (file && (rc = check_file(file, prot, share, offset, len)) < 0)
        return rc;
    if (!fixed && addr && (!is_allowed(addr, len) || !is_free(mm, addr, len)))
        addr = 0;
    if (!fixed && addr == 0 && (flags & MAP_32BIT))
        return -ENOMEM;
    if (fixed && forget(mm, addr, addr + len) < 0)
        return -ENOMEM;
    if (grow(mm, 1) < 0)
        return -ENOMEM;
    host_flags = MAP_ANONYMOUS |
                 (file ? MAP_PRIVATE | MAP_NORESERVE : share | (flags & (MAP_NORESERVE | MAP_POPULATE)));
    host_flags |=
        fixed || addr ? fixed && !(flags & MAP_FIXED_NOREPLACE) ? MAP_FIXED : MAP_FIXED_NOREPLACE : 0;
    at = file && (host_flags & MAP_FIXED) && covers(file, offset, len)
             ? (long)addr
             : host_mmap((void *)addr, len, file ? PROT_NONE : prot & 7, host_flags, -1, 0);
    if (at == -EEXIST && !fixed)
        at = host_mmap(NULL, len, file ? PROT_NONE : prot & 7, host_flags & ~MAP_FIXED_NOREPLACE, -1, 0);
    if (at < 0)
        return at;
    if (file && (rc = file_map(file, (u64)at, len, prot & 7, share, offset)) < 0) {
        (void)host_munmap((void *)at, len);
        return rc;
    }
    (void)mm_note(mm, (u64)at, (u64)at + len, prot & 7, share, file, offset, name);
    return at;
}

long mm_unmap(u64 addr, size_t len)
{
    struct mm *mm = current_process->mm;
    long rc;

    if (addr % PAGE || len == 0)
        return -EINVAL;
    if (len > USER_END)
        return -EINVAL;
    len = PAGE_UP(len);
    if (!is_allowed(addr, len))
        return -EINVAL;
    rc = host_munmap((void *)addr, len);
    return rc < 0 ? rc : forget(mm, addr, addr + len);
}

/* ---- system calls */

static long sys_mmap(u64 addr, u64 len, u64 prot, u64 flags, u64 fd, u64 offset)
{
    struct file *f = NULL;

    if (!(flags & MAP_ANONYMOUS)) {
        f = fd_file((int)fd);
        if (!f)
            return -EBADF;
    } else if (offset % PAGE) {
        return -EINVAL;
    }
    return mm_map(addr, len, (int)prot, (int)flags, f, f ? offset : 0, NULL);
}

static long sys_munmap(u64 addr, u64 len, u64 c, u64 d, u64 e, u64 f)
{
    (void)c, (void)d, (void)e, (void)f;
    return mm_unmap(addr, len);
}

static long sys_mprotect(u64 addr, u64 len, u64 prot, u64 d, u64 e, u64 f)
{
    struct mm *mm = current_process->mm;
    u64 end;
    long i, rc;

    (void)d, (void)e, (void)f;
    if (addr % PAGE || (prot & ~(u64)(7 | PROT_GROWSDOWN | PROT_GROWSUP)))
        return -EINVAL;
    if (len == 0)
        return 0;
    len = PAGE_UP(len);
    end = addr + len;
    if (!is_allowed(addr, len))
        return -ENOMEM;
    for (u32 k = find(mm, addr); k < mm->count && mm->areas[k].start < end; k++) {
        struct vma *v = &mm->areas[k];
        /* What an image or a file opened read-only holds does not become writable by way of the mapping. */
        if ((prot & PROT_WRITE) && v->file && v->flags == MAP_SHARED && (v->file->flags & 3) != 2)
            return -EACCES;
    }
    rc = host_mprotect((void *)addr, len, (int)prot & 7);
    if (rc < 0)
        return rc;
    i = isolate(mm, addr, end);
    if (i < 0)
        return i;
    for (; (u32)i < mm->count && mm->areas[i].start < end; i++)
        mm->areas[i].prot = (u32)prot & 7;
    return 0;
}

/* A mapping of a file becomes longer: mapped anew elsewhere. Private changes would be lost, so only shared
 * ones. */
static long remap_file(struct vma v, u64 old_len, u64 new_len, bool may_move)
{
    long at;

    if (v.flags != MAP_SHARED || !may_move)
        return -ENOMEM;
    at = mm_map(0, new_len, (int)v.prot, MAP_SHARED, v.file, v.offset, NULL);
    if (at >= 0)
        (void)mm_unmap(v.start, old_len);
    return at;
}

static long sys_mremap(u64 addr, u64 old_len, u64 new_len, u64 flags, u64 new_addr, u64 f)
{
    struct mm *mm = current_process->mm;
    struct vma v;
    long at;
    u32 i;

    (void)f;
    if (addr % PAGE || new_len == 0 || (flags & ~(u64)(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)))
        return -EINVAL;
    if (old_len > USER_END || new_len > USER_END)
        return -ENOMEM;
    old_len = PAGE_UP(old_len);
    new_len = PAGE_UP(new_len);
    if (!is_allowed(addr, old_len) ||
        ((flags & MREMAP_FIXED) && (new_addr % PAGE || !is_allowed(new_addr, new_len))))
        return -EINVAL;
    i = find(mm, addr);
    if (i == mm->count || mm->areas[i].start > addr || mm->areas[i].end < addr + old_len)
        return -EFAULT;
    v = mm->areas[i];
    v.offset += addr - v.start;
    v.start = addr;
    if (v.file && new_len > old_len)
        return remap_file(v, old_len, new_len, (flags & MREMAP_MAYMOVE) != 0);
    if (grow(mm, 4) < 0)
        return -ENOMEM;
    if (v.file)
        file_get(v.file); /* forgetting the old place must not free it */
    at = host_call6(__NR_mremap, (long)addr, (long)old_len, (long)new_len, (long)flags, (long)new_addr, 0);
    if (at >= 0) {
        if (!(flags & MREMAP_DONTUNMAP))
            (void)forget(mm, addr, addr + old_len);
        (void)forget(mm, (u64)at, (u64)at + new_len);
        (void)mm_note(mm, (u64)at, (u64)at + new_len, (int)v.prot, (int)v.flags, v.file, v.offset, v.name);
    }
    if (v.file)
        file_put(v.file);
    return at;
}

static long sys_madvise(u64 addr, u64 len, u64 advice, u64 d, u64 e, u64 f)
{
    (void)d, (void)e, (void)f;
    if (addr % PAGE)
        return -EINVAL;
    if (len == 0)
        return 0;
    if (!is_allowed(addr, PAGE_UP(len)))
        return -ENOMEM;
    switch (advice) {
    case MADV_DONTNEED:
    case MADV_FREE: {
        struct mm *mm = current_process->mm;
        u32 i = find(mm, addr);
        /* The tail page of a file may be a copy of ours (fs/erofs.c), which must not turn to zeros. */
        if (i < mm->count && mm->areas[i].file && mm->areas[i].start < addr + len)
            return advice == MADV_FREE ? -EINVAL : 0;
        return host_madvise((void *)addr, PAGE_UP(len), (int)advice);
    }
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_WILLNEED:
    case MADV_DONTFORK: /* a hint at best here */
    case MADV_DOFORK:
    case MADV_DONTDUMP:
    case MADV_DODUMP:
    case MADV_COLD:
    case MADV_PAGEOUT:
    case MADV_MERGEABLE:
    case MADV_UNMERGEABLE:
        return 0;
    default:
        return -EINVAL;
    }
}

static long sys_brk(u64 addr, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    struct mm *mm = current_process->mm;
    u64 end = PAGE_UP(addr), limit = current_process->rlimits[RLIMIT_DATA].rlim_cur;

    (void)b, (void)c, (void)d, (void)e, (void)f;
    if (addr < mm->brk_start || addr - mm->brk_start > limit)
        return (long)mm->brk;
    if (end > mm->brk_mapped) {
        if (mm_map(mm->brk_mapped, end - mm->brk_mapped, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, NULL, 0, "[heap]") < 0)
            return (long)mm->brk;
    } else if (end < mm->brk_mapped && mm_unmap(end, mm->brk_mapped - end) < 0) {
        return (long)mm->brk;
    }
    mm->brk_mapped = end;
    mm->brk = addr;
    return (long)addr;
}

static long sys_msync(u64 addr, u64 len, u64 flags, u64 d, u64 e, u64 f)
{
    struct mm *mm = current_process->mm;
    int rc = 0;

    (void)d, (void)e, (void)f;
    if (addr % PAGE || (flags & ~7UL) || len > USER_END)
        return -EINVAL;
    for (u32 i = find(mm, addr); i < mm->count && mm->areas[i].start < addr + len && rc == 0; i++) {
        struct file *file = mm->areas[i].file;
        if (!file || mm->areas[i].flags != MAP_SHARED || !file->ops->sync)
            continue;
        file_get(file); /* syncing may sleep */
        rc = file->ops->sync(file);
        file_put(file);
    }
    return rc;
}

static long sys_mincore(u64 addr, u64 len, u64 vec, u64 d, u64 e, u64 f)
{
    (void)d, (void)e, (void)f;
    if (addr % PAGE)
        return -EINVAL;
    for (u64 i = 0; i < PAGE_UP(len) / PAGE; i++) {
        u8 one = 1;
        if (mm_prot_at(current_process->mm, addr + i * PAGE) < 0)
            return -ENOMEM;
        if (copy_to_user((void *)(vec + i), &one, 1) < 0)
            return -EFAULT;
    }
    return 0;
}

static long sys_nothing(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    return 0;
}

const struct syscall mem_calls[] = {
    {__NR_mmap, SYS_LOCKED, "mmap", sys_mmap},
    {__NR_munmap, SYS_LOCKED, "munmap", sys_munmap},
    {__NR_mprotect, SYS_LOCKED, "mprotect", sys_mprotect},
    {__NR_mremap, SYS_LOCKED, "mremap", sys_mremap},
    {__NR_madvise, SYS_LOCKED, "madvise", sys_madvise},
    {__NR_brk, SYS_LOCKED, "brk", sys_brk},
    {__NR_msync, SYS_LOCKED, "msync", sys_msync},
    {__NR_mincore, SYS_LOCKED, "mincore", sys_mincore},
    /* Nothing is ever swapped. */
    {__NR_mlock, SYS_UNLOCKED, "mlock", sys_nothing},
    {__NR_munlock, SYS_UNLOCKED, "munlock", sys_nothing},
    {__NR_mlockall, SYS_UNLOCKED, "mlockall", sys_nothing},
    {__NR_munlockall, SYS_UNLOCKED, "munlockall", sys_nothing},
    {__NR_mlock2, SYS_UNLOCKED, "mlock2", sys_nothing},
    {0},
};

void mm_format_maps(struct process *p, struct text *t)
{
    struct mm *mm = p->mm;
    char *path = path_buffer();

    for (u32 i = 0; mm && i < mm->count; i++) {
        const struct vma *v = &mm->areas[i];
        text_add(t, "%08lx-%08lx %c%c%c%c %08lx %s %u", v->start, v->end, v->prot & PROT_READ ? 'r' : '-',
                 v->prot & PROT_WRITE ? 'w' : '-', v->prot & PROT_EXEC ? 'x' : '-',
                 v->flags == MAP_SHARED ? 's' : 'p', v->offset, v->file ? "00:01" : "00:00", 0);
        if (v->file && v->file->dentry && path && dentry_path(v->file->dentry, path, PATH_MAX_) >= 0)
            text_add(t, "%20s%s", "", path);
        else if (v->name)
            text_add(t, "%20s%s", "", v->name);
        text_add(t, "\n");
    }
    path_free(path);
    if (vdso_start)
        text_add(t, "%08lx-%08lx r-xp 00000000 00:00 0                          [vdso]\n", vdso_image,
                 vdso_end);
}
