/*
 * elf.h - what the loader needs to know of an ELF file (x86-64, little endian; elf(5)). Pure: works on the
 * first bytes of a file that may be anything.
 */
#pragma once
#include "cell/base/types.h"

enum { ELF_SEGMENTS = 32, ELF_HEAD = 4096 };

struct elf_segment {
    u64 offset, address, file_size, memory_size;
    u32 prot; /* PROT_* */
};

struct elf_image {
    bool is_dynamic; /* ET_DYN: anywhere */
    bool exec_stack;
    u64 entry, low, high; /* page-aligned range of all segments */
    u64 phdr;             /* address of the program headers, as linked; 0: not in a segment */
    u32 phnum;
    u64 interp_offset, interp_size; /* 0: no interpreter */
    u32 nsegments;
    struct elf_segment segments[ELF_SEGMENTS];
};

/* head: the first n bytes of a file of file_size bytes. 0, -ENOEXEC, or -EINVAL for one that contradicts
 * itself. */
int elf_parse(const u8 *head, size_t n, u64 file_size, struct elf_image *out);
