/*
 * ironclaw-bench-inside VERB:
 *
 *   loops MS TREE DIRECTORY [NAME]   every loop (or one) for MS milliseconds each; a line "NAME COUNT
 * NANOSECONDS" idle                             prints "ready" and waits to be killed exit N ends with status
 * N agent                            is the agent of a session (ports.c)
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/inside/loops.h"

/* Doubles the number of operations until they take the asked time: what starting a loop costs disappears. */
static void run_loop(const struct loop *l, uint64_t ns, const char *tree, const char *directory)
{
    uint64_t n = 1, took;

    if (l->prepare)
        l->prepare(tree, directory);
    l->run(1, tree, directory); /* warm */
    for (;; n *= 2) {
        uint64_t begin = loops_now();
        l->run(n, tree, directory);
        took = loops_now() - begin;
        if (took >= ns / 2 || n >= 1U << 30)
            break;
    }
    if (l->finish)
        l->finish(directory);
    (void)printf("%s %llu %llu\n", l->name, (unsigned long long)n, (unsigned long long)took);
    (void)fflush(stdout);
}

static void end(int sig)
{
    (void)sig;
    _exit(0);
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";

    if (!strcmp(verb, "loops") && argc >= 5) {
        uint64_t ns = strtoul(argv[2], NULL, 10) * 1000000U;
        for (size_t i = 0; i < nloops; i++)
            if (argc < 6 || !strcmp(argv[5], loops[i].name))
                run_loop(&loops[i], ns, argv[3], argv[4]);
        (void)puts("done");
        return 0;
    }
    if (!strcmp(verb, "idle")) {
        (void)signal(SIGTERM, end); /* as pid 1 it would be ignored otherwise */
        (void)puts("ready");
        (void)fflush(stdout);
        for (;;)
            (void)pause();
    }
    if (!strcmp(verb, "exit") && argc == 3)
        return (int)strtol(argv[2], NULL, 10);
    if (!strcmp(verb, "agent"))
        return ports_agent();
    (void)fputs("ironclaw-bench-inside is run by 'ironclaw bench'\n", stderr);
    return 2;
}
