/*
 * exec.h - what exec takes along from the old program: its strings live in memory that is about to go.
 */
#pragma once
#include "cell/base/types.h"

struct file;

enum {
    ARG_TOTAL_MAX = 0x200000,
    ARG_STRING_MAX = 0x20000
}; /* Linux: a quarter of the stack limit; MAX_ARG_STRLEN */

struct exec_request {
    struct file *file; /* reference, moves along */
    const char *path;  /* as given: AT_EXECFN and script arguments */
    /* argc + envc strings, each ended by 0, arguments first; kmalloc'ed, the request's. */
    char *strings;
    size_t length, capacity;
    u32 argc, envc;
    size_t env_offset; /* in strings */
};

/* What the host told the kernel about the machine: for the auxiliary vector. */
struct exec_machine {
    u64 hwcap, hwcap2, min_signal_stack;
};
void exec_set_machine(const struct exec_machine *m);
const struct exec_machine *exec_machine(void);

/* Strings of the request; -E2BIG, -ENOMEM, -EFAULT. */
int exec_add_string(struct exec_request *r, const char *s);
void exec_free(struct exec_request *r);
