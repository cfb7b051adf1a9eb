/*
 * What the walls are made of, tried in children: capabilities, Landlock; and the command line of `ironclaw
 * run`.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/caps.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/landlock.h"
#include "image/image.h"
#include "run/run.h"

/* Runs `body` in a child; its return value is the child's verdict. */
static int in_child(int (*body)(void))
{
    int status = -1;
    pid_t pid = fork();

    if (pid == 0)
        _exit(body());
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int restrict_to_tmp(void)
{
    struct err e = ERR_INIT;
    struct landlock_path paths[2] = {{open("/tmp", O_PATH | O_CLOEXEC), LANDLOCK_WRITE},
                                     {open("/usr", O_PATH | O_CLOEXEC), LANDLOCK_READ}};
    char name[64];
    int fd;

    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (landlock_restrict(paths, 2, true, true, &e) < 1)
        return 1;
    (void)io_format(name, sizeof(name), "/tmp/ironclaw-landlock-%d", (int)getpid());
    if ((fd = open(name, O_WRONLY | O_CREAT, 0600)) < 0 || unlink(name) < 0)
        return 2;
    if (open("/etc/passwd", O_RDONLY) >= 0 || errno != EACCES)
        return 3;
    if (open("/usr/bin/env", O_RDONLY) < 0)
        return 4;
    return open("/usr/ironclaw-landlock", O_WRONLY | O_CREAT, 0600) >= 0 ? 5 : 0;
}

static void landlock_leaves_the_listed_paths_and_nothing_else(void **state)
{
    (void)state;
    if (landlock_abi() == 0)
        skip();
    assert_int_equal(in_child(restrict_to_tmp), 0);
}

static int drop_all(void)
{
    struct err e = ERR_INIT;

    if (geteuid() == 0 && caps_drop_bounding(1ULL << 3, &e) < 0)
        return 1;
    if (geteuid() == 0 &&
        (prctl(PR_CAPBSET_READ, 3, 0, 0, 0) != 1 || prctl(PR_CAPBSET_READ, 21, 0, 0, 0) != 0))
        return 2;
    if (caps_limit(0, &e) < 0)
        return 3;
    return caps_have(1) || caps_have(1ULL << 21) || prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 0, 0, 0) != 0
               ? 4
               : 0;
}

static void dropped_capabilities_are_gone_from_every_set(void **state)
{
    (void)state;
    assert_int_equal(in_child(drop_all), 0);
}

/* Parses "run OPTION VALUE true". Returns run_parse()'s verdict. */
static int parse(const char *option, const char *value, struct run_options *o)
{
    struct err e = ERR_INIT;
    char *words[] = {x_strdup("run"), x_strdup(option), x_strdup(value), x_strdup("true"), NULL};
    int rc = run_parse(4, words, o, &e);

    if (rc < 0)
        assert_true(*e.text && !strchr(e.text, '\n'));
    for (size_t i = 0; o->env && o->env[i]; i++)
        free(o->env[i]);
    free(o->env);
    for (size_t i = 0; i < 4; i++)
        free(words[i]);
    return rc;
}

static void durations_have_a_unit_and_are_not_zero(void **state)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"30", 30000}, {"30s", 30000}, {"500ms", 500}, {"5m", 300000}, {"2h", 7200000}, {"1ms", 1}};
    static const char *const bad[] = {"", "0", "0ms", "s", "1d", "1s ", "-1", "1.5s", "10000000000"};
    struct run_options o;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(parse("--timeout", good[i].text, &o), 0);
        assert_int_equal(o.timeout_ms, good[i].ms);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(parse("--timeout", bad[i], &o), -1);
}

static void cpus_are_thousandths(void **state)
{
    static const struct {
        const char *text;
        uint32_t milli;
    } good[] = {{"1", 1000}, {"0.5", 500}, {"1.25", 1250}, {"0.001", 1}, {"2.050", 2050}, {"4096", 4096000}};
    static const char *const bad[] = {"",    "0",  "0.000", ".5",   "1.",  "1.0000",
                                      "1,5", "-1", "4097",  "1.5x", "1..5"};
    struct run_options o;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(parse("--cpus", good[i].text, &o), 0);
        assert_int_equal(o.limits.cpu_milli, good[i].milli);
        assert_true(o.limits.cpu_asked && !o.limits.memory_asked);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(parse("--cpus", bad[i], &o), -1);
}

static void only_a_static_busybox_will_do(void **state)
{
    static const char *const none[] = {"/nonexistent/busybox", "/etc/passwd", "/usr", "/dev/null"};
    static const char *const dynamic[] = {"/proc/self/exe"};
    const char *const mixed[] = {"/nonexistent/busybox", "/proc/self/exe", "/bin/busybox"};
    struct err e = ERR_INIT;

    (void)state;
    assert_null(image_find_busybox(none, ARRAY_LEN(none), &e));
    assert_int_equal(e.code, ENOENT);
    assert_non_null(strstr(e.text, "apt-get install busybox-static"));
    assert_null(image_find_busybox(dynamic, 1, &e)); /* this test is linked with shared libraries */
    assert_null(image_find_busybox(none, 0, &e));
    assert_ptr_equal(image_find_busybox(mixed, ARRAY_LEN(mixed), &e), mixed[2]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(landlock_leaves_the_listed_paths_and_nothing_else),
        cmocka_unit_test(dropped_capabilities_are_gone_from_every_set),
        cmocka_unit_test(durations_have_a_unit_and_are_not_zero),
        cmocka_unit_test(cpus_are_thousandths),
        cmocka_unit_test(only_a_static_busybox_will_do),
    };

    return cmocka_run_group_tests_name("walls", tests, NULL, NULL);
}
