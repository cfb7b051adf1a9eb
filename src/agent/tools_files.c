/*
 * tools_files.c - read, write and list files; relative paths start at the workspace.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/tools.h"
#include "base/cleanup.h"
#include "base/io.h"

static void run_read(struct queue *q, const json_t *input, struct tool_result *r)
{
    const char *path = tool_string(input, "path", r);
    json_int_t offset = json_integer_value(json_object_get(input, "offset"));
    CLEANUP_CLOSE int fd = -1;
    CLEANUP_FREE char *buf = NULL, *clean = NULL;
    struct stat st;
    ssize_t n;

    (void)q;
    if (!path)
        return;
    /* Non-blocking: opening a pipe that nobody writes must not hang the agent. */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) < 0) {
        tool_fail(r, "cannot open %s: %s", path, strerror(errno));
        return;
    }
    if (!S_ISREG(st.st_mode)) {
        tool_fail(r, "%s is not a regular file%s", path, S_ISDIR(st.st_mode) ? ": use list_files" : "");
        return;
    }
    if (offset < 0 || lseek(fd, (off_t)offset, SEEK_SET) < 0) {
        tool_fail(r, "the offset %lld is not within %s", (long long)offset, path);
        return;
    }
    buf = x_malloc(TOOL_OUTPUT_MAX + 1);
    n = io_read_full(fd, buf, TOOL_OUTPUT_MAX + 1);
    if (n < 0) {
        tool_fail(r, "cannot read %s: %s", path, strerror(errno));
        return;
    }
    if (n <= TOOL_OUTPUT_MAX) {
        r->text = n > 0 ? text_clean(buf, (size_t)n, TOOL_OUTPUT_MAX) : x_strdup("(the file is empty)");
        return;
    }
    clean = text_clean(buf, TOOL_OUTPUT_MAX, TOOL_OUTPUT_MAX);
    r->text = x_asprintf("%s\n[cut here: the file has %lld bytes; go on with offset %lld]", clean,
                         (long long)st.st_size, (long long)offset + TOOL_OUTPUT_MAX);
}

static void run_write(struct queue *q, const json_t *input, struct tool_result *r)
{
    const char *path = tool_string(input, "path", r), *slash;
    const char *content = path ? tool_string(input, "content", r) : NULL;
    bool append = json_is_true(json_object_get(input, "append"));
    CLEANUP_CLOSE int fd = -1;
    CLEANUP_FREE char *dir = NULL;
    struct err e = ERR_INIT;
    size_t len;

    (void)q;
    if (!content)
        return;
    len = strlen(content);
    if (len > TOOL_WRITE_MAX) {
        tool_fail(r, "the content has %zu bytes, more than the %d that one call may write", len,
                  TOOL_WRITE_MAX);
        return;
    }
    slash = strrchr(path, '/');
    if (slash && slash != path) {
        dir = x_strndup(path, (size_t)(slash - path));
        if (io_mkdirs(AT_FDCWD, dir, 0755, &e) < 0) {
            tool_fail(r, "%s", e.text);
            return;
        }
    }
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (append ? O_APPEND : O_TRUNC),
              0644);
    if (fd < 0 || io_write_all(fd, content, len) < 0) {
        tool_fail(r, "cannot write %s: %s", path, strerror(errno));
        return;
    }
    r->text = x_asprintf("wrote %zu bytes to %s", len, path);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void run_list(struct queue *q, const json_t *input, struct tool_result *r)
{
    const char *path = json_object_get(input, "path") ? tool_string(input, "path", r) : ".";
    CLEANUP_FREE char *joined = NULL;
    char *names[LIST_ENTRIES_MAX];
    size_t n = 0, size = 0, more = 0;
    struct dirent *d;
    FILE *to;
    DIR *dir;

    (void)q;
    if (!path)
        return;
    dir = opendir(path);
    if (!dir) {
        tool_fail(r, "cannot list %s: %s", path, strerror(errno));
        return;
    }
    while ((d = readdir(dir))) {
        if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
            continue;
        if (n < LIST_ENTRIES_MAX)
            names[n++] = x_asprintf("%s%s", d->d_name, d->d_type == DT_DIR ? "/" : "");
        else
            more++;
    }
    (void)closedir(dir);
    qsort(names, n, sizeof(names[0]), by_name);
    to = open_memstream(&joined, &size);
    if (!to)
        abort();
    for (size_t i = 0; i < n; i++) {
        (void)fprintf(to, "%s\n", names[i]);
        free(names[i]);
    }
    if (more > 0)
        (void)fprintf(to, "[and %zu more]\n", more);
    if (fclose(to) != 0)
        abort();
    r->text = size > 0 ? text_clean(joined, size, TOOL_OUTPUT_MAX) : x_strdup("(the directory is empty)");
}

const struct tool tools_files[] = {
    {"read_file", "Returns the contents of a file, at most 32 KiB at a time.",
     "{\"type\":\"object\",\"properties\":{\"path\":{\"type\":\"string\"},"
     "\"offset\":{\"type\":\"integer\",\"description\":\"byte to start at\"}},\"required\":[\"path\"]}",
     run_read},
    {"write_file", "Writes a file, replacing what was there; directories are made as needed.",
     "{\"type\":\"object\",\"properties\":{\"path\":{\"type\":\"string\"},\"content\":{\"type\":\"string\"},"
     "\"append\":{\"type\":\"boolean\"}},\"required\":[\"path\",\"content\"]}",
     run_write},
    {"list_files", "Lists a directory; names of directories end with a slash.",
     "{\"type\":\"object\",\"properties\":{\"path\":{\"type\":\"string\"}}}", run_list},
};
const size_t tools_files_n = ARRAY_LEN(tools_files);
