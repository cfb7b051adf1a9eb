/*
 * heap.h - memory that all processes of the cell share: pages and small objects out of the memory file.
 * Addresses are the same in every process. The kernel lock is held.
 *
 * What is freed goes back to the host: whole pages are punched out of the file (MADV_REMOVE).
 */
#pragma once
#include "cell/base/types.h"

void heap_init(void);

/* `n` contiguous pages (any n), zeroed. NULL: the memory file is full. */
void *page_alloc(size_t n);
/* One page with whatever is in it, for those who write all that they will ever read. */
void *page_alloc_dirty(void);
/* The same n as given to page_alloc, or any part of it. */
void page_free(void *p, size_t n);
/* Offset of a heap address in the memory file, for mmap(2) of CELL_FD_MEMORY. */
u64 page_offset(const void *p);
/* Pages in use, pages in all. */
void page_count(size_t *used, size_t *total);

/* A zeroed object of any size; larger than half a page takes whole pages. NULL: out of memory. */
void *kmalloc(size_t size);
void kfree(void *p); /* NULL is fine */
char *kstrndup(const char *s, size_t n);
