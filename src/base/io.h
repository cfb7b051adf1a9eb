/*
 * io.h - whole reads and writes, small files, paths, memory that must not run out.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* Writes all `len` bytes, retrying on EINTR and short writes. Returns 0, or -1 with errno set. */
int io_write_all(int fd, const void *buf, size_t len);

/* Reads up to `len` bytes until end of file, retrying on EINTR. Returns the count, or -1 with errno set. */
ssize_t io_read_full(int fd, void *buf, size_t len);

/*
 * Reads a whole file of at most `max` bytes. On success *out is a malloc'ed buffer with a NUL after the
 * *len bytes (caller frees). A larger file is an error that names the limit. dirfd as in openat(2).
 */
int io_read_file(int dirfd, const char *path, size_t max, char **out, size_t *len, struct err *e);

/* As io_read_file(), from an open descriptor (its offset is advanced). `what` names it in errors. */
int io_read_fd(int fd, const char *what, size_t max, char **out, size_t *len, struct err *e);

/*
 * Replaces `path` atomically: writes `path.tmp`, fsyncs it, renames it over `path`, fsyncs the directory.
 * After a crash the file holds either the old or the new contents.
 */
int io_replace_file(int dirfd, const char *path, const void *data, size_t len, mode_t mode, struct err *e);

/* Writes a short string to an existing file such as a /proc or cgroup knob: one open, one write. Returns 0 or
 * -errno. */
int io_write_knob(int dirfd, const char *path, const char *value);

/* mkdir -p below dirfd: parents are made with `mode`; an existing directory is fine. */
int io_mkdirs(int dirfd, const char *path, mode_t mode, struct err *e);

/* Removes `name` below dirfd with all it holds, never following a symbolic link or leaving the file system it
 * stands on. A missing name is success. */
int io_remove_tree(int dirfd, const char *name, struct err *e);

/* snprintf into a fixed buffer; returns false (and an empty string) if it did not fit. */
bool io_format(char *dst, size_t cap, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Monotonic clock in nanoseconds; wall clock in milliseconds since the epoch. */
uint64_t io_monotonic_ns(void);
uint64_t io_wall_ms(void);

/* Fills from getrandom(2); aborts if the kernel refuses (no fallback may exist). */
void io_random(void *buf, size_t len);

/* Lower-case hexadecimal; dst needs 2*len+1 bytes. */
void io_hex(char *dst, const void *src, size_t len);

/* Strict decimal: the whole string, digits only, <= max. Returns false otherwise. */
bool io_parse_u64(const char *text, uint64_t max, uint64_t *out);

/* A size such as "64M", "1G", "512K", "4096" in bytes (powers of 1024). Returns false if malformed, zero or
 * over INT64_MAX. */
bool io_parse_size(const char *text, uint64_t *bytes);

/* A name used in paths, ids and tokens: 1-63 of [a-z0-9-_.], starting with a letter or digit, no "..". */
bool io_valid_name(const char *text);

/* malloc family that aborts on exhaustion (a daemon is restarted by its supervisor and loses nothing
 * acknowledged). */
void *x_malloc(size_t len);
void *x_calloc(size_t n, size_t size);
void *x_realloc(void *p, size_t len);
char *x_strdup(const char *s);
char *x_strndup(const char *s, size_t len);
char *x_asprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
