/*
 * mm.h - the address space of a program. Mapping, protection, sharing and copying are the host's; what is
 * kept here is a list of what the program has mapped: for /proc/PID/maps, for the files that mappings hold,
 * and to know what may be overwritten.
 */
#pragma once
#include "cell/base/types.h"

struct file;
struct process;
struct text;

struct vma {
    u64 start, end;    /* page-aligned */
    u64 offset;        /* in file */
    struct file *file; /* reference, or NULL */
    u32 prot, flags;   /* PROT_*, MAP_SHARED/MAP_PRIVATE */
    const char *name;  /* "[heap]", "[stack]", or NULL */
};

struct mm {
    struct vma *areas; /* sorted */
    u32 count, capacity;
    u64 brk_start, brk, brk_mapped;
    u64 stack_start, stack_end;
    bool patching; /* arch/x86_64/patch.h */
};

struct mm *mm_create(void);
/* For fork: the same list; references are taken. NULL: out of memory. */
struct mm *mm_copy(const struct mm *mm);
void mm_free(struct mm *mm);

/* Unmaps everything that the current process's program has (the host's vDSO stays) and empties mm. */
void mm_clear(struct mm *mm);

/* mmap(2) for the current process: addr 0 means anywhere. `file` may be NULL. Address or -errno. */
long mm_map(u64 addr, size_t len, int prot, int flags, struct file *file, u64 offset, const char *name);
long mm_unmap(u64 addr, size_t len);
/* Protection at an address, -1 if nothing is mapped. */
int mm_prot_at(const struct mm *mm, u64 addr);
/* Notes what somebody else has mapped (patch.c, the vDSO). */
int mm_note(struct mm *mm, u64 start, u64 end, int prot, int flags, struct file *file, u64 offset,
            const char *name);

void mm_format_maps(struct process *p, struct text *t);
/* Where the host put the vDSO (image) and its data (somewhere in start .. image); 0s if there is none. */
void mm_set_vdso(u64 start, u64 image, u64 end);
/* The vDSO's address for AT_SYSINFO_EHDR, or 0. */
u64 mm_vdso(void);
