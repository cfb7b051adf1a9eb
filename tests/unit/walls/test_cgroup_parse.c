/*
 * Where control groups are and which one is ours, from what kernels really print: v1, hybrid, v2, nested in a
 * container; and from what none should.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "walls/cgroup_parse.h"

/* Debian 12, Ubuntu 24.04: one hierarchy. */
static const char v2_mounts[] =
    "23 28 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw\n"
    "27 22 0:25 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 "
    "rw,nsdelegate,memory_recursiveprot\n"
    "28 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n";
static const char v2_own[] = "0::/user.slice/user-1000.slice/session-3.scope\n";

/* systemd's hybrid layout: controllers on v1, an empty v2 beside them. */
static const char hybrid_mounts[] =
    "30 25 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755\n"
    "31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw\n"
    "32 30 0:28 / /sys/fs/cgroup/systemd rw,nosuid shared:11 - cgroup cgroup rw,xattr,name=systemd\n"
    "35 30 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:15 - cgroup cgroup rw,cpu,cpuacct\n"
    "36 30 0:32 / /sys/fs/cgroup/cpuset rw,nosuid shared:16 - cgroup cgroup rw,cpuset\n"
    "37 30 0:33 / /sys/fs/cgroup/memory rw,nosuid shared:17 - cgroup cgroup rw,memory\n"
    "38 30 0:34 / /sys/fs/cgroup/pids rw,nosuid shared:18 - cgroup cgroup rw,pids\n";
static const char hybrid_own[] = "11:memory:/user.slice\n"
                                 "9:cpuset:/\n"
                                 "5:pids:/user.slice/user-0.slice/session-1.scope\n"
                                 "4:cpu,cpuacct:/user.slice\n"
                                 "1:name=systemd:/user.slice/user-0.slice/session-1.scope\n"
                                 "0::/user.slice/user-0.slice/session-1.scope\n";

/* Inside a container on a v1 host: mounts show a part of the hierarchy, paths count from its real root. */
static const char nested_mounts[] =
    "740 739 0:32 /docker/4f3c /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n"
    "741 739 0:32 /docker/4f3c /mnt/second rw - cgroup cgroup rw,memory\n";
static const char nested_own[] = "8:memory:/docker/4f3c\n0::/docker/4f3c\n";

static char out[64];

static const char *mount_of(const char *text, const char *controller)
{
    return cgroup_mount_point(text, controller, out, sizeof(out)) ? out : NULL;
}

static const char *own_of(const char *text, const char *controller)
{
    return cgroup_own_path(text, controller, out, sizeof(out)) ? out : NULL;
}

static void one_hierarchy_is_found_as_v2(void **state)
{
    (void)state;
    assert_string_equal(mount_of(v2_mounts, ""), "/sys/fs/cgroup");
    assert_string_equal(own_of(v2_own, ""), "/user.slice/user-1000.slice/session-3.scope");
    assert_null(mount_of(v2_mounts, "memory"));
    assert_null(own_of(v2_own, "memory"));
}

static void hybrid_controllers_are_found_one_by_one(void **state)
{
    (void)state;
    assert_string_equal(mount_of(hybrid_mounts, "memory"), "/sys/fs/cgroup/memory");
    assert_string_equal(mount_of(hybrid_mounts, "pids"), "/sys/fs/cgroup/pids");
    assert_string_equal(mount_of(hybrid_mounts, "cpu"), "/sys/fs/cgroup/cpu,cpuacct");
    assert_string_equal(mount_of(hybrid_mounts, "cpuacct"), "/sys/fs/cgroup/cpu,cpuacct");
    assert_string_equal(mount_of(hybrid_mounts, "cpuset"), "/sys/fs/cgroup/cpuset");
    assert_string_equal(mount_of(hybrid_mounts, ""), "/sys/fs/cgroup/unified");
    assert_string_equal(own_of(hybrid_own, "memory"), "/user.slice");
    assert_string_equal(own_of(hybrid_own, "cpu"), "/user.slice");
    assert_string_equal(own_of(hybrid_own, "pids"), "/user.slice/user-0.slice/session-1.scope");
    assert_string_equal(own_of(hybrid_own, ""), "/user.slice/user-0.slice/session-1.scope");
}

static void the_root_of_a_hierarchy_is_the_empty_path(void **state)
{
    (void)state;
    assert_string_equal(own_of(hybrid_own, "cpuset"), "");
    assert_string_equal(own_of("0::/\n", ""), "");
}

static void a_controller_is_a_whole_word(void **state)
{
    (void)state;
    assert_null(mount_of("36 30 0:32 / /c rw - cgroup cgroup rw,cpuset\n", "cpu"));
    assert_null(mount_of("36 30 0:32 / /c rw - cgroup cgroup rw,name=memory\n", "memory"));
    assert_null(own_of("9:cpuset:/a\n1:name=cpu:/b\n", "cpu"));
}

static void of_nested_mounts_the_first_counts(void **state)
{
    (void)state;
    assert_string_equal(mount_of(nested_mounts, "memory"), "/sys/fs/cgroup/memory");
    assert_string_equal(own_of(nested_own, "memory"), "/docker/4f3c");
}

static void a_group_outside_the_namespace_counts_as_the_root(void **state)
{
    (void)state;
    assert_string_equal(own_of("0::/..\n", ""), "");
    assert_string_equal(own_of("0::/../../etc\n", ""), "");
    assert_string_equal(own_of("4:memory:/a/../../../tmp\n", "memory"), "");
    assert_string_equal(own_of("4:memory:/a..b/...\n", "memory"), "/a..b/...");
}

static void a_path_may_hold_colons_and_spaces(void **state)
{
    (void)state;
    assert_string_equal(own_of("4:memory:/a:b::/c d\n", "memory"), "/a:b::/c d");
    assert_string_equal(own_of("4:memory:/gone (deleted)\n", "memory"), "/gone (deleted)");
}

/* The kernel escapes spaces, so a name cannot play the part of the words after it. */
static void a_mount_named_like_a_cgroup_is_none(void **state)
{
    (void)state;
    assert_null(
        mount_of("50 1 0:9 / /x\\040-\\040cgroup\\040cgroup\\040rw,memory rw - tmpfs t rw\n", "memory"));
    assert_null(mount_of("50 1 0:9 / /x rw - tmpfs cgroup rw,memory\n", "memory"));
    assert_null(mount_of("50 1 0:9 / /x rw - fuse.cgroup cgroup rw,memory\n", "memory"));
    assert_null(mount_of("50 1 0:9 / /x rw - cgroup2 cgroup2 rw,memory\n", "memory"));
}

static void what_does_not_fit_is_not_cut_short(void **state)
{
    char text[2048], wide[400];

    (void)state;
    memset(wide, 'x', sizeof(wide) - 1);
    wide[sizeof(wide) - 1] = 0;
    (void)snprintf(text, sizeof(text), "36 30 0:32 / /%s rw - cgroup cgroup rw,memory\n", wide);
    assert_null(mount_of(text, "memory"));
    (void)snprintf(text, sizeof(text), "36 30 0:32 / /%.100s rw - cgroup cgroup rw,memory\n", wide);
    assert_null(mount_of(text, "memory")); /* 64 bytes of room */
    (void)snprintf(text, sizeof(text), "4:memory:/%.100s\n", wide);
    assert_null(own_of(text, "memory"));
}

static void broken_text_gives_nothing(void **state)
{
    static const char *const texts[] = {"",
                                        "\n\n",
                                        ":",
                                        "::",
                                        "0:",
                                        "0::",
                                        "4:memory",
                                        "4:memory:",
                                        "4:memory:relative",
                                        " - cgroup ",
                                        " - cgroup \n",
                                        "1 2 3 - cgroup \n/a /b rw,memory",
                                        "36 30 0:32 / - cgroup cgroup rw,memory\n",
                                        "36 30 0:32 / relative rw - cgroup cgroup rw,memory\n",
                                        " - cgroup2 "};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        assert_null(mount_of(texts[i], "memory"));
        assert_null(mount_of(texts[i], ""));
        assert_null(own_of(texts[i], "memory"));
        assert_null(own_of(texts[i], ""));
    }
}

static void the_last_line_needs_no_newline(void **state)
{
    (void)state;
    assert_string_equal(mount_of("36 30 0:32 / /c rw - cgroup cgroup rw,memory", "memory"), "/c");
    assert_string_equal(own_of("4:memory:/a", "memory"), "/a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_hierarchy_is_found_as_v2),
        cmocka_unit_test(hybrid_controllers_are_found_one_by_one),
        cmocka_unit_test(the_root_of_a_hierarchy_is_the_empty_path),
        cmocka_unit_test(a_controller_is_a_whole_word),
        cmocka_unit_test(of_nested_mounts_the_first_counts),
        cmocka_unit_test(a_group_outside_the_namespace_counts_as_the_root),
        cmocka_unit_test(a_path_may_hold_colons_and_spaces),
        cmocka_unit_test(a_mount_named_like_a_cgroup_is_none),
        cmocka_unit_test(what_does_not_fit_is_not_cut_short),
        cmocka_unit_test(broken_text_gives_nothing),
        cmocka_unit_test(the_last_line_needs_no_newline),
    };

    return cmocka_run_group_tests_name("cgroup_parse", tests, NULL, NULL);
}
