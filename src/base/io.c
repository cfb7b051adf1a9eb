#include "base/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

int io_write_all(int fd, const void *buf, size_t len)
{
    const uint8_t *p = buf;

    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

ssize_t io_read_full(int fd, void *buf, size_t len)
{
    size_t got = 0;

    while (got < len) {
        ssize_t n = read(fd, (uint8_t *)buf + got, len - got);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return (ssize_t)got;
}

int io_read_fd(int fd, const char *what, size_t max, char **out, size_t *len, struct err *e)
{
    size_t cap = 4096, used = 0;
    CLEANUP_FREE char *buf = NULL;
    struct stat st;

    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 && (uint64_t)st.st_size <= max)
        cap = (size_t)st.st_size + 1;
    buf = x_malloc(cap + 1);
    for (;;) {
        ssize_t n = io_read_full(fd, buf + used, cap - used);
        if (n < 0)
            return err_sys(e, errno, "cannot read %s", what);
        used += (size_t)n;
        if (used > max)
            return err_set(e, EFBIG, "%s is larger than the %zu bytes allowed", what, max);
        if (used < cap)
            break;
        cap *= 2;
        buf = x_realloc(buf, cap + 1);
    }
    buf[used] = 0;
    *out = TAKE_PTR(buf);
    if (len)
        *len = used;
    return 0;
}

int io_read_file(int dirfd, const char *path, size_t max, char **out, size_t *len, struct err *e)
{
    CLEANUP_CLOSE int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd < 0)
        return err_sys(e, errno, "cannot open %s", path);
    return io_read_fd(fd, path, max, out, len, e);
}

/* Flushes the directory entry of `path`, so that a rename survives power loss. */
static int sync_parent(int dirfd, const char *path)
{
    CLEANUP_FREE char *dir = x_strdup(path);
    char *slash = strrchr(dir, '/');
    CLEANUP_CLOSE int fd = -1;

    if (slash)
        *(slash == dir ? slash + 1 : slash) = 0;
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): dir is freed by its cleanup attribute */
    fd = openat(dirfd, slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -1 : fsync(fd);
}

int io_replace_file(int dirfd, const char *path, const void *data, size_t len, mode_t mode, struct err *e)
{
    CLEANUP_FREE char *tmp = x_asprintf("%s.tmp", path);
    CLEANUP_CLOSE int fd = -1;
    int code;

    (void)unlinkat(dirfd, tmp, 0);
    fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return err_sys(e, errno, "cannot create %s", tmp);
    if (fchmod(fd, mode) < 0 || io_write_all(fd, data, len) < 0 || fsync(fd) < 0 ||
        renameat(dirfd, tmp, dirfd, path) < 0 || sync_parent(dirfd, path) < 0) {
        code = errno;
        (void)unlinkat(dirfd, tmp, 0);
        return err_sys(e, code, "cannot write %s", path);
    }
    return 0;
}

int io_write_knob(int dirfd, const char *path, const char *value)
{
    CLEANUP_CLOSE int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return -errno;
    n = write(fd, value, strlen(value));
    if (n < 0)
        return -errno;
    return (size_t)n == strlen(value) ? 0 : -EIO;
}

int io_mkdirs(int dirfd, const char *path, mode_t mode, struct err *e)
{
    CLEANUP_FREE char *copy = x_strdup(path);

    for (char *p = copy + (copy[0] == '/'); p && *p;) {
        char *slash = strchr(p, '/');
        if (slash)
            *slash = 0;
        if (mkdirat(dirfd, copy, mode) < 0 && errno != EEXIST)
            return err_sys(e, errno, "cannot create the directory %s", copy);
        if (!slash)
            break;
        *slash = '/';
        p = slash + 1;
    }
    return 0; /* NOLINT(clang-analyzer-unix.Malloc): copy is freed by its cleanup attribute */
}

static int remove_below(int fd, dev_t dev, const char *name, int depth, struct err *e)
{
    DIR *dir;
    struct dirent *d;
    int rc = 0;

    if (depth > 512) {
        (void)close(fd);
        return err_set(e, ELOOP, "cannot remove %s: nested deeper than 512 directories", name);
    }
    dir = fdopendir(fd);
    if (!dir) {
        (void)close(fd);
        return err_sys(e, errno, "cannot list %s", name);
    }
    while (rc == 0 && (d = readdir(dir))) {
        struct stat st;
        if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
            continue;
        if (fstatat(fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            if (errno != ENOENT)
                rc = err_sys(e, errno, "cannot remove %s/%s", name, d->d_name);
            continue;
        }
        if (st.st_dev != dev) {
            rc = err_set(e, EXDEV, "cannot remove %s/%s: something is mounted there", name, d->d_name);
            break;
        }
        if (S_ISDIR(st.st_mode)) {
            int sub = openat(fd, d->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            if (sub < 0 && errno == EACCES && fchmodat(fd, d->d_name, 0700, 0) == 0)
                sub = openat(fd, d->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            if (sub < 0)
                rc = err_sys(e, errno, "cannot open %s/%s", name, d->d_name);
            else
                rc = remove_below(sub, dev, d->d_name, depth + 1, e);
        }
        if (rc == 0 && unlinkat(fd, d->d_name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0 && errno != ENOENT)
            rc = err_sys(e, errno, "cannot remove %s/%s", name, d->d_name);
    }
    (void)closedir(dir);
    return rc;
}

int io_remove_tree(int dirfd, const char *name, struct err *e)
{
    struct stat st;
    int fd;

    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_sys(e, errno, "cannot remove %s", name);
    if (S_ISDIR(st.st_mode)) {
        fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            return err_sys(e, errno, "cannot open %s", name);
        if (remove_below(fd, st.st_dev, name, 0, e) < 0)
            return -1;
    }
    if (unlinkat(dirfd, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0 && errno != ENOENT)
        return err_sys(e, errno, "cannot remove %s", name);
    return 0;
}

bool io_format(char *dst, size_t cap, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(dst, cap, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= cap) {
        if (cap > 0)
            dst[0] = 0;
        return false;
    }
    return true;
}

uint64_t io_monotonic_ns(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

uint64_t io_wall_ms(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000U + (uint64_t)t.tv_nsec / 1000000U;
}

void io_random(void *buf, size_t len)
{
    uint8_t *p = buf;

    while (len > 0) {
        ssize_t n = getrandom(p, len, 0);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            abort();
        }
        p += n;
        len -= (size_t)n;
    }
}

void io_hex(char *dst, const void *src, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = src;

    for (size_t i = 0; i < len; i++) {
        dst[2 * i] = digits[p[i] >> 4];
        dst[2 * i + 1] = digits[p[i] & 15];
    }
    dst[2 * len] = 0;
}

bool io_parse_u64(const char *text, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;

    if (!text || !*text)
        return false;
    for (const char *p = text; *p; p++) {
        uint64_t digit;
        if (*p < '0' || *p > '9')
            return false;
        digit = (uint64_t)(*p - '0');
        if (__builtin_mul_overflow(v, 10U, &v) || __builtin_add_overflow(v, digit, &v))
            return false;
    }
    if (v > max)
        return false;
    *out = v;
    return true;
}

bool io_parse_size(const char *text, uint64_t *bytes)
{
    char digits[24];
    size_t len = text ? strlen(text) : 0;
    uint64_t unit = 1, v;

    if (len == 0 || len >= sizeof(digits))
        return false;
    switch (text[len - 1]) {
    case 'K':
    case 'k':
        unit = 1ULL << 10;
        break;
    case 'M':
    case 'm':
        unit = 1ULL << 20;
        break;
    case 'G':
    case 'g':
        unit = 1ULL << 30;
        break;
    case 'T':
    case 't':
        unit = 1ULL << 40;
        break;
    default:
        break;
    }
    memcpy(digits, text, len + 1);
    if (unit > 1)
        digits[len - 1] = 0;
    if (!io_parse_u64(digits, UINT64_MAX, &v) || __builtin_mul_overflow(v, unit, &v) || v == 0 ||
        v > INT64_MAX)
        return false;
    *bytes = v;
    return true;
}

bool io_valid_name(const char *text)
{
    size_t len = text ? strlen(text) : 0;

    if (len < 1 || len > 63 || strstr(text, ".."))
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!alnum && (i == 0 || (c != '-' && c != '_' && c != '.')))
            return false;
    }
    return true;
}

static void *must(void *p)
{
    if (!p) {
        static const char text[] = "out of memory\n";
        (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
        abort();
    }
    return p;
}

void *x_malloc(size_t len)
{
    return must(malloc(len ? len : 1));
}

void *x_calloc(size_t n, size_t size)
{
    return must(calloc(n ? n : 1, size ? size : 1));
}

void *x_realloc(void *p, size_t len)
{
    return must(realloc(p, len ? len : 1));
}

char *x_strdup(const char *s)
{
    return must(strdup(s));
}

char *x_strndup(const char *s, size_t len)
{
    return must(strndup(s, len));
}

char *x_asprintf(const char *fmt, ...)
{
    va_list ap;
    char *out = NULL;
    int n;

    va_start(ap, fmt);
    n = vasprintf(&out, fmt, ap);
    va_end(ap);
    return must(n < 0 ? NULL : out);
}
