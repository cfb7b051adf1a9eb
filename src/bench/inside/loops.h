/*
 * loops.h - the program that `ironclaw bench` runs inside every sandbox, walls and peers alike: loops that
 * time themselves, an idle process, and a client of the ports. Static, so that it runs on any root.
 *
 * A loop repeats its operation for about the asked time and counts; every operation's result is checked, and
 * a wrong one ends the program with an error, so a figure is only ever printed for work that was done.
 */
#pragma once
#include <stdint.h>
#include <stddef.h>

uint64_t loops_now(void); /* CLOCK_MONOTONIC, nanoseconds */
_Noreturn void loops_die(const char *what);

struct loop {
    const char *name;
    /* Does the operation `n` times; `directory` is a writable place, `tree` the root of a file tree. */
    void (*run)(uint64_t n, const char *tree, const char *directory);
    void (*prepare)(const char *tree, const char *directory); /* may be NULL */
    void (*finish)(const char *directory);                    /* may be NULL */
};
extern const struct loop loops[];
extern const size_t nloops;

/* ports.c: the session's ports (docs/ports.md) */
int ports_agent(void);
