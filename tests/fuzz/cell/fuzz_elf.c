/*
 * A program of any bytes, of a file that is as long as they are, or longer: what the parser lets through is
 * what the loader (src/cell/proc/exec.c) counts on. The seeds are heads of real programs: static, position-
 * independent, with an interpreter, with an executable stack.
 */
#include <asm/errno.h>
#include <asm/mman.h>
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "cell/proc/elf.h"

#define ADDRESS_END 0x800000000000ULL

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_segment(const struct elf_segment *s, const struct elf_image *image, u64 file_size)
{
    assert(s->memory_size > 0 && s->file_size <= s->memory_size);
    assert(s->offset <= file_size && s->file_size <= file_size - s->offset);
    assert(s->address % PAGE == s->offset % PAGE);
    assert(s->address < ADDRESS_END && s->memory_size <= ADDRESS_END - s->address);
    assert(s->address >= image->low && s->address + s->memory_size <= image->high);
    assert((s->prot & ~(u32)(PROT_READ | PROT_WRITE | PROT_EXEC)) == 0);
}

/* The program headers, as the program will find them: in memory that comes out of the file. */
static void check_headers(const struct elf_image *image)
{
    bool found = image->phdr == 0;

    for (u32 i = 0; i < image->nsegments; i++) {
        const struct elf_segment *s = &image->segments[i];
        found |= image->phdr >= s->address && image->phdr - s->address < s->file_size;
    }
    assert(found);
}

static void check(const struct elf_image *image, u64 file_size)
{
    assert(image->nsegments > 0 && image->nsegments <= ELF_SEGMENTS && image->phnum >= image->nsegments);
    assert(image->low % PAGE == 0 && image->high % PAGE == 0 && image->low < image->high &&
           image->high <= ADDRESS_END);
    assert(image->is_dynamic || image->low >= PAGE);
    for (u32 i = 0; i < image->nsegments; i++) {
        check_segment(&image->segments[i], image, file_size);
        if (i > 0)
            assert(image->segments[i].address >=
                   image->segments[i - 1].address + image->segments[i - 1].memory_size);
    }
    check_headers(image);
    if (image->interp_size) {
        assert(image->interp_size >= 2 && image->interp_size <= ELF_HEAD);
        assert(image->interp_offset <= file_size && image->interp_size <= file_size - image->interp_offset);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const u64 sizes[] = {size, size * 64, INT64_MAX};
    size_t n = size < ELF_HEAD ? size : ELF_HEAD;

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct elf_image image;
        int rc = elf_parse(data, n, sizes[i], &image);
        if (rc == 0)
            check(&image, sizes[i]);
        else
            assert(rc == -ENOEXEC || rc == -EINVAL);
    }
    return 0;
}
