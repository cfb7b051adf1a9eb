/*
 * The page allocator is a bitmap: the heap is at most a few hundred thousand pages, nearly always the hint
 * finds a free one at once. A page that is free in the bitmap is a hole of the memory file, so it reads as
 * zeros and costs the host nothing; a few single pages are kept back "hot", as punching and faulting in again
 * costs more than clearing.
 *
 * Small objects: one size class for a page, the free objects of a page linked through their first two bytes,
 * the pages of a class that have any in a ring. An empty page goes back.
 */
#include "cell/mem/heap.h"

#include <linux/mman.h>

#include "cell/arch/x86_64/host.h"
#include "cell/base/panic.h"
#include "cell/base/shared.h"
#include "cell/base/text.h"

enum { NO_OBJECT = 0xffff, KIND_NONE = 0, KIND_SMALL = 1, KIND_LARGE = 2 };

struct page_info {
    u32 next, prev; /* index+1 in the ring of the class; LARGE: next = number of pages */
    u16 free;       /* offset/8 of the first free object, NO_OBJECT */
    u16 used;       /* objects */
    u8 class, kind;
    u16 fresh; /* objects from here on were never used: offset/8 */
};

static const u16 class_size[HEAP_CLASSES] = {16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2032};

void heap_init(void)
{
    struct shared *s = SHARED;
    size_t bytes = HEADER->memory_size - CELL_OFF_HEAP, n = bytes / PAGE, reserved;

    s->bitmap = (u64 *)(void *)((u8 *)s + PAGE_UP(sizeof(*s)));
    s->pages = (struct page_info *)(void *)((u8 *)s->bitmap + PAGE_UP((n + 63) / 64 * 8));
    s->first = (u8 *)s;
    s->npages = n;
    reserved = PAGE_UP((size_t)((u8 *)s->pages - (u8 *)s) + n * sizeof(struct page_info)) / PAGE;
    for (size_t i = 0; i < reserved; i++)
        s->bitmap[i / 64] |= 1ULL << (i % 64);
    s->hint = reserved;
}

static bool is_used(size_t i)
{
    return SHARED->bitmap[i / 64] >> (i % 64) & 1;
}

static void mark(size_t first, size_t n, bool used)
{
    struct shared *s = SHARED;

    for (size_t i = first; i < first + n; i++) {
        if (used)
            s->bitmap[i / 64] |= 1ULL << (i % 64);
        else
            s->bitmap[i / 64] &= ~(1ULL << (i % 64));
    }
    s->used = used ? s->used + n : s->used - n;
}

/* n free pages in a row within [from, to), or `to`. */
static size_t find_run(size_t from, size_t to, size_t n)
{
    size_t run = 0;

    for (size_t i = from; i < to; i++) {
        if (i % 64 == 0 && run == 0 && i + 64 <= to && SHARED->bitmap[i / 64] == ~0ULL) {
            i += 63;
            continue;
        }
        run = is_used(i) ? 0 : run + 1;
        if (run == n)
            return i + 1 - n;
    }
    return to;
}

static u8 *take_hot(void)
{
    struct shared *s = SHARED;

    if (s->nhot == 0)
        return NULL;
    s->used++;
    return s->first + (size_t)s->hot[--s->nhot] * PAGE;
}

void *page_alloc_dirty(void)
{
    u8 *p = take_hot();

    return p ? p : page_alloc(1);
}

void *page_alloc(size_t n)
{
    struct shared *s = SHARED;
    size_t i;
    u8 *p;

    if (n == 0 || n > s->npages)
        return NULL;
    if (n == 1 && (p = take_hot()) != NULL)
        return memset(p, 0, PAGE);
    i = find_run(s->hint, s->npages, n);
    if (i == s->npages && (i = find_run(0, MIN(s->hint + n, s->npages), n)) == MIN(s->hint + n, s->npages))
        return NULL;
    mark(i, n, true);
    s->hint = i + n < s->npages ? i + n : 0;
    return s->first + i * PAGE;
}

void page_free(void *p, size_t n)
{
    struct shared *s = SHARED;
    size_t i = (size_t)((u8 *)p - s->first) / PAGE;

    ASSERT((u64)(uintptr_t)p % PAGE == 0 && i + n <= s->npages && is_used(i));
    if (n == 1 && s->nhot < HOT_PAGES) {
        s->hot[s->nhot++] = (u32)i;
        s->used--;
        return;
    }
    (void)host_madvise(p, n * PAGE, MADV_REMOVE);
    mark(i, n, false);
    if (i < s->hint)
        s->hint = i;
}

u64 page_offset(const void *p)
{
    return (u64)(uintptr_t)p - CELL_MEMORY;
}

void page_count(size_t *used, size_t *total)
{
    *used = SHARED->used;
    *total = SHARED->npages;
}

static void ring_add(u8 class, size_t i)
{
    struct shared *s = SHARED;
    struct page_info *p = &s->pages[i];
    u32 head = s->partial[class], self = (u32)i + 1;

    if (head == 0) {
        p->next = p->prev = self;
    } else {
        struct page_info *h = &s->pages[head - 1];
        p->next = head;
        p->prev = h->prev;
        s->pages[h->prev - 1].next = self;
        h->prev = self;
    }
    s->partial[class] = self;
}

static void ring_del(u8 class, size_t i)
{
    struct shared *s = SHARED;
    struct page_info *p = &s->pages[i];
    u32 self = (u32)i + 1;

    if (p->next == self) {
        s->partial[class] = 0;
    } else {
        s->pages[p->next - 1].prev = p->prev;
        s->pages[p->prev - 1].next = p->next;
        if (s->partial[class] == self)
            s->partial[class] = p->next;
    }
    p->next = p->prev = 0;
}

static void *small_alloc(u8 class)
{
    struct shared *s = SHARED;
    struct page_info *p;
    u8 *base, *object;
    size_t i;

    if (s->partial[class] == 0) {
        base = page_alloc(1);
        if (!base)
            return NULL;
        i = (size_t)(base - s->first) / PAGE;
        s->pages[i] = (struct page_info){.free = NO_OBJECT, .class = class, .kind = KIND_SMALL};
        ring_add(class, i);
    }
    i = s->partial[class] - 1;
    p = &s->pages[i];
    base = s->first + i * PAGE;
    if (p->free != NO_OBJECT) {
        object = base + (size_t)p->free * 8;
        p->free = *(u16 *)(void *)object;
    } else {
        object = base + (size_t)p->fresh * 8;
        p->fresh = (u16)(p->fresh + class_size[class] / 8);
    }
    p->used++;
    if (p->free == NO_OBJECT && ((size_t)p->fresh * 8 + class_size[class]) > PAGE)
        ring_del(class, i);
    return memset(object, 0, class_size[class]);
}

void *kmalloc(size_t size)
{
    void *p;

    for (size_t c = 0; c < HEAP_CLASSES; c++)
        if (size <= class_size[c])
            return small_alloc((u8)c);
    if (size > SIZE_MAX - PAGE)
        return NULL;
    p = page_alloc(PAGE_UP(size) / PAGE);
    if (p)
        SHARED->pages[(size_t)((u8 *)p - SHARED->first) / PAGE] =
            (struct page_info){.next = (u32)(PAGE_UP(size) / PAGE), .kind = KIND_LARGE};
    return p;
}

void kfree(void *object)
{
    struct shared *s = SHARED;
    size_t i = (size_t)((u8 *)object - s->first) / PAGE;
    struct page_info *p;
    bool was_full;

    if (!object)
        return;
    ASSERT(i < s->npages);
    p = &s->pages[i];
    if (p->kind == KIND_LARGE) {
        size_t n = p->next;
        *p = (struct page_info){0};
        page_free(object, n);
        return;
    }
    ASSERT(p->kind == KIND_SMALL && p->used > 0);
    was_full = p->free == NO_OBJECT && ((size_t)p->fresh * 8 + class_size[p->class]) > PAGE;
    *(u16 *)object = p->free;
    p->free = (u16)((size_t)((u8 *)object - s->first) % PAGE / 8);
    p->used--;
    if (was_full)
        ring_add(p->class, i);
    /* One page of a class stays, so that a single object that comes and goes costs nothing. */
    if (p->used == 0 && p->next != (u32)i + 1) {
        ring_del(p->class, i);
        *p = (struct page_info){0};
        page_free(s->first + i * PAGE, 1);
    }
}

char *kstrndup(const char *str, size_t n)
{
    size_t len = strnlen(str, n);
    char *copy = kmalloc(len + 1);

    if (copy)
        memcpy(copy, str, len);
    return copy;
}
