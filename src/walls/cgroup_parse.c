#include "walls/cgroup_parse.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"

bool cgroup_has_word(const char *list, const char *word, const char *separators)
{
    CLEANUP_FREE char *copy = x_strdup(list);
    char *save = NULL;

    for (char *w = strtok_r(copy, separators, &save); w; w = strtok_r(NULL, separators, &save))
        if (!strcmp(w, word))
            return true;
    return false;
}

/* Each line is "id:controllers:path"; the path may hold colons. */
bool cgroup_own_path(const char *text, const char *controller, char *out, size_t cap)
{
    CLEANUP_FREE char *copy = x_strdup(text);
    char *save = NULL;

    for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *names = strchr(line, ':');
        char *path = names ? strchr(names + 1, ':') : NULL;
        if (!path || path[1] != '/')
            continue;
        *path++ = 0;
        names++;
        if (*controller ? cgroup_has_word(names, controller, ",") : !*names)
            return io_format(out, cap, "%s", !path[1] || cgroup_has_word(path, "..", "/") ? "" : path);
    }
    return false;
}

/*
 * "36 35 0:30 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory": the fifth word is the mount
 * point, the last lists the controllers of a v1 mount. Spaces inside words are escaped. Lines of other file
 * systems are passed over by one search: this runs at every start, on hosts with thousands of mounts.
 */
bool cgroup_mount_point(const char *mountinfo, const char *controller, char *out, size_t cap)
{
    const char *kind = *controller ? " - cgroup " : " - cgroup2 ";

    for (const char *at = strstr(mountinfo, kind); at; at = strstr(at + 1, kind)) {
        const char *start = at, *end = strchrnul(at, '\n');
        char line[1024], point[256];
        int after = 0;
        while (start > mountinfo && start[-1] != '\n')
            start--;
        /* NOLINTNEXTLINE(cert-err34-c): text, no number */
        if (!io_format(line, sizeof(line), "%.*s", (int)(end - start), start) ||
            sscanf(line, "%*s %*s %*s %*s %255s%n", point, &after) != 1 || line[after] != ' ' ||
            point[0] != '/')
            continue;
        if (!*controller || cgroup_has_word(strrchr(line, ' ') + 1, controller, ","))
            return io_format(out, cap, "%s", point);
    }
    return false;
}
