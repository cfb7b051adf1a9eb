#include "cell/proc/elf.h"

#include <asm/errno.h>
#include <asm/mman.h>
#include <linux/elf.h>

#include "cell/base/text.h"

#define ADDRESS_MAX 0x7fffffffffffULL

static u32 prot_of(u32 flags)
{
    return (flags & PF_R ? PROT_READ : 0) | (flags & PF_W ? PROT_WRITE : 0) | (flags & PF_X ? PROT_EXEC : 0);
}

static int add_segment(struct elf_image *out, const Elf64_Phdr *p, u64 file_size)
{
    struct elf_segment *s, *last;

    if (p->p_memsz == 0)
        return 0;
    if (out->nsegments == ELF_SEGMENTS || p->p_filesz > p->p_memsz || p->p_offset > file_size ||
        p->p_filesz > file_size - p->p_offset || p->p_memsz > ADDRESS_MAX ||
        p->p_vaddr > ADDRESS_MAX - p->p_memsz || p->p_vaddr % PAGE != p->p_offset % PAGE)
        return -ENOEXEC;
    last = out->nsegments ? &out->segments[out->nsegments - 1] : NULL;
    if (last && p->p_vaddr < last->address + last->memory_size)
        return -ENOEXEC; /* elf(5): in ascending order */
    s = &out->segments[out->nsegments++];
    *s = (struct elf_segment){p->p_offset, p->p_vaddr, p->p_filesz, p->p_memsz, prot_of(p->p_flags)};
    if (!last)
        out->low = PAGE_DOWN(p->p_vaddr);
    out->high = PAGE_UP(p->p_vaddr + p->p_memsz);
    return 0;
}

int elf_parse(const u8 *head, size_t n, u64 file_size, struct elf_image *out)
{
    Elf64_Ehdr e;
    int rc;

    memset(out, 0, sizeof(*out));
    if (n < sizeof(e) || memcmp(head, ELFMAG, SELFMAG) != 0)
        return -ENOEXEC;
    memcpy(&e, head, sizeof(e));
    if (e.e_ident[EI_CLASS] != ELFCLASS64 || e.e_ident[EI_DATA] != ELFDATA2LSB || e.e_machine != EM_X86_64 ||
        (e.e_type != ET_EXEC && e.e_type != ET_DYN) || e.e_phentsize != sizeof(Elf64_Phdr) ||
        e.e_phnum == 0 || e.e_phoff > n || e.e_phnum > (n - e.e_phoff) / sizeof(Elf64_Phdr))
        return -ENOEXEC;
    out->is_dynamic = e.e_type == ET_DYN;
    out->entry = e.e_entry;
    out->phnum = e.e_phnum;
    for (u32 i = 0; i < e.e_phnum; i++) {
        Elf64_Phdr p;
        memcpy(&p, head + e.e_phoff + i * sizeof(p), sizeof(p));
        if (p.p_type == PT_LOAD && (rc = add_segment(out, &p, file_size)) < 0)
            return rc;
        if (p.p_type == PT_INTERP) {
            if (p.p_filesz < 2 || p.p_filesz > 4096 || p.p_offset > file_size ||
                p.p_filesz > file_size - p.p_offset)
                return -ENOEXEC;
            out->interp_offset = p.p_offset;
            out->interp_size = p.p_filesz;
        }
        if (p.p_type == PT_GNU_STACK)
            out->exec_stack = (p.p_flags & PF_X) != 0;
    }
    if (out->nsegments == 0 || (!out->is_dynamic && out->low < 0x1000))
        return -ENOEXEC;
    for (u32 i = 0; i < out->nsegments; i++) {
        const struct elf_segment *s = &out->segments[i];
        if (e.e_phoff >= s->offset && e.e_phoff - s->offset < s->file_size)
            out->phdr = s->address + (e.e_phoff - s->offset);
    }
    return 0;
}
