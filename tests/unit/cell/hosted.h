/*
 * hosted.h - the file side of the cell kernel in an ordinary program, under the sanitizers: real heap over a
 * real memory file at its real address, one process and thread, and a table of system calls to call by
 * number.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* image.c: the host's part. */
/* An image of what `build` makes in an empty directory, mapped at CELL_IMAGE; its size. Ends the program on
 * failure. */
uint64_t image_make(void (*build)(const char *dir));
/* The memory file at CELL_MEMORY. */
void memory_make(uint64_t size);
/* In the directory being built. */
void image_dir(const char *dir, const char *name, unsigned mode);
void image_file(const char *dir, const char *name, const void *data, size_t n, unsigned mode);
void image_link(const char *dir, const char *name, const char *target);
void image_nothing(const char *dir);
/* A new directory on a tmpfs of the host, removed at exit; the program is uid and gid 1000 from then on, if
 * it was root. umask 022. */
const char *hosted_directory(void);
/* SEED and STEPS of the environment, where they are set. */
void hosted_environment(uint64_t *seed, uint32_t *steps);

/* hosted.c: the kernel's part. */
void hosted_boot(uint64_t image_size);
/* A system call of the cell. */
long cell(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f);
#define CELL_(name, a, b, c, d, e, f, ...)                                                                   \
    cell(__NR_##name, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), (uint64_t)(e),             \
         (uint64_t)(f))
#define CELL(...) CELL_(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)

/* What happens when the thread goes to sleep, once; without it a signal ends the sleep. */
extern void (*hosted_on_sleep)(void);
/* The last signal that the thread sent itself, 0 after it was asked for. */
int hosted_signal(void);
void hosted_set_limit(int resource, uint64_t soft);
/* Pages of the heap in use. */
size_t hosted_pages(void);
/* Another process, alive, with the current one as its parent; switches to it and back (NULL: the first). */
struct process *hosted_fork(void);
void hosted_switch(struct process *p);
void hosted_exit(struct process *p);
