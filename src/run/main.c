/*
 * The `ironclaw` command. It serves itself what must be fast or needs the host (run, doctor, image); every
 * other verb is a program of its own in libexec, so that starting a sandbox never pays for libraries it does
 * not use.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/paths.h"
#include "doctor/doctor.h"
#include "image/command.h"
#include "run/run.h"

static int version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    (void)printf("ironclaw %s\n", IRONCLAW_VERSION);
    return 0;
}

static const struct {
    const char *verb;
    int (*serve)(int argc, char **argv); /* argv[0] is the verb */
    const char *helper;                  /* or: the program in libexec that serves it, with argv as it came */
} verbs[] = {
    {"run", run_main, NULL},
    {"doctor", doctor_main, NULL},
    {"image", image_main, NULL},
    {"version", version, NULL},
    {"--version", version, NULL},
    {"up", NULL, "ironclaw-supervisor"},
    {"bench", NULL, "ironclaw-bench"},
    {"redteam", NULL, "ironclaw-redteam"},
    {"capacity", NULL, "ironclaw-bench"},
};

static int delegate(const char *helper, char **argv)
{
    struct err e = ERR_INIT;
    char path[PATHS_MAX_LEN];

    if (paths_helper(helper, path, sizeof(path), &e) == 0) {
        (void)execv(path, argv);
        (void)err_set(&e, 1, "cannot start %s", path);
    }
    (void)fprintf(stderr, "ironclaw: %s\n", e.text);
    return 125;
}

/* A caller may have closed 0, 1 or 2: what we open next must not take their place. */
static void fill_standard_descriptors(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)open("/dev/null", O_RDWR); /* takes the lowest free number: fd */
}

int main(int argc, char **argv)
{
    fill_standard_descriptors();
    for (size_t i = 0; argc > 1 && i < ARRAY_LEN(verbs); i++)
        if (!strcmp(argv[1], verbs[i].verb))
            return verbs[i].serve ? verbs[i].serve(argc - 1, argv + 1) : delegate(verbs[i].helper, argv);
    /* Everything that talks to the control plane, `help`, and unknown verbs with a suggestion. */
    return delegate("ironclaw-ctl", argv);
}
