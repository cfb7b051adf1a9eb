/*
 * cgroup_parse.h - where control groups are mounted and which one is ours, out of the kernel's two texts:
 * /proc/self/mountinfo (proc_pid_mountinfo(5)) and /proc/self/cgroup (cgroups(7)). Pure: nothing is opened.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* True if `word` is one of the words of `list`, which any of `separators` part. */
bool cgroup_has_word(const char *list, const char *word, const char *separators);

/*
 * Our own path in the hierarchy of `controller` ("" for v2): "" for the root of it, else starting with "/".
 * A group outside the cgroup namespace shows as "/.." and more: nothing here can name it, so it counts as the
 * root. Returns false if there is no such hierarchy, or the path does not fit.
 */
bool cgroup_own_path(const char *text, const char *controller, char *out, size_t cap);

/* Mount point of a v1 controller, or of cgroup2 when `controller` is "". The first one, if there are several.
 * Returns false if there is none, or it does not fit. */
bool cgroup_mount_point(const char *mountinfo, const char *controller, char *out, size_t cap);
