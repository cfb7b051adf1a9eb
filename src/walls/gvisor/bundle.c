/*
 * The OCI bundle of a sandbox: config.json carries all of the envelope, whichever runtime reads it. What a
 * runtime ignores (runsc: the system call filter) or cannot do, the keeper and the container's init do once
 * more.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "seccomp_profile.h" /* generated at build time */
#include "walls/gvisor/gvisor.h"
#include "walls/tree.h"

enum { CPU_PERIOD = 100000, NOFILE_SOFT = 1024, NOFILE_HARD = 65536 };

uint32_t bundle_root_id(uint32_t uid)
{
    return uid ^ 0x80000000U;
}

/* ---- text */

struct text {
    char *p;
    size_t len, cap;
    const char *bad; /* the first string that is not UTF-8 */
};

static void put(struct text *t, const char *s, size_t n)
{
    if (t->len + n + 1 > t->cap) {
        t->cap = (t->len + n + 1) * 2;
        t->p = x_realloc(t->p, t->cap);
    }
    memcpy(t->p + t->len, s, n);
    t->len += n;
    t->p[t->len] = 0;
}

static void puts_(struct text *t, const char *s)
{
    put(t, s, strlen(s));
}

static void __attribute__((format(printf, 2, 3))) putf(struct text *t, const char *fmt, ...)
{
    char line[512];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    if (n > 0)
        put(t, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

bool bundle_is_utf8(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;

    while (*s) {
        unsigned char lead = *s++;
        uint32_t c;
        int more;
        if (lead < 0x80)
            continue;
        more = lead >= 0xf0 && lead < 0xf5   ? 3
               : lead >= 0xe0 && lead < 0xf0 ? 2
               : lead >= 0xc2 && lead < 0xe0 ? 1
                                             : 0;
        if (more == 0)
            return false;
        c = lead & (0x3fU >> more);
        for (int i = 0; i < more; i++, s++) {
            if ((*s & 0xc0) != 0x80)
                return false;
            c = c << 6 | (*s & 0x3fU);
        }
        if ((more == 2 && (c < 0x800 || (c >= 0xd800 && c < 0xe000))) ||
            (more == 3 && (c < 0x10000 || c > 0x10ffff)))
            return false;
    }
    return true;
}

static void put_string(struct text *t, const char *s)
{
    if (!bundle_is_utf8(s) && !t->bad)
        t->bad = s;
    put(t, "\"", 1);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            putf(t, "\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            putf(t, "\\u%04x", (unsigned)*s);
        else
            put(t, s, 1);
    }
    put(t, "\"", 1);
}

static void put_strings(struct text *t, const char *const *list)
{
    put(t, "[", 1);
    for (size_t i = 0; list[i]; i++) {
        if (i)
            put(t, ",", 1);
        put_string(t, list[i]);
    }
    put(t, "]", 1);
}

/* ---- parts of config.json */

static void put_args(struct text *t, const struct bundle *b)
{
    const struct sandbox_spec *s = b->spec;
    size_t writable = 0;

    for (size_t i = 0; i < s->nmounts; i++)
        writable += s->mounts[i].writable;
    puts_(t, "\"args\":[\"/run/ironclaw/init\",");
    put_string(t, b->flags);
    putf(t, ",\"%zu\"", writable);
    for (size_t i = 0; i < s->nmounts; i++)
        if (s->mounts[i].writable) {
            put(t, ",", 1);
            put_string(t, s->mounts[i].target);
        }
    for (char *const *a = s->argv; *a; a++) {
        put(t, ",", 1);
        put_string(t, *a);
    }
    puts_(t, "]");
}

/* Never more than the caller was given: a runtime without the host's CAP_SYS_RESOURCE could not set it. */
static void put_rlimit(struct text *t, unsigned what, const char *name, rlim_t soft, rlim_t hard)
{
    struct rlimit now;

    if (getrlimit(what, &now) == 0 && now.rlim_max < hard)
        hard = now.rlim_max;
    if (t->p[t->len - 1] != '[')
        put(t, ",", 1);
    putf(t, "{\"type\":\"RLIMIT_%s\",\"soft\":%llu,\"hard\":%llu}", name,
         (unsigned long long)(soft < hard ? soft : hard), (unsigned long long)hard);
}

#define RLIMIT(t, name, soft, hard) put_rlimit(t, RLIMIT_##name, #name, soft, hard)

static void put_process(struct text *t, const struct bundle *b)
{
    uint64_t processes = b->spec->limits.pids ? b->spec->limits.pids : 4096;

    putf(t, "\"process\":{\"terminal\":%s,\"user\":{\"uid\":%d,\"gid\":%d,\"umask\":18},",
         b->spec->terminal ? "true" : "false", SANDBOX_UID, SANDBOX_UID);
    put_args(t, b);
    puts_(t, ",\"env\":");
    put_strings(t, (const char *const *)b->spec->envp);
    puts_(t, ",\"cwd\":\"/workspace\",\"capabilities\":{\"bounding\":[],\"effective\":[],\"inheritable\":[],"
             "\"permitted\":[],\"ambient\":[]},\"noNewPrivileges\":true,\"rlimits\":[");
    RLIMIT(t, CORE, 0, 0);
    RLIMIT(t, NOFILE, NOFILE_SOFT, NOFILE_HARD);
    RLIMIT(t, MEMLOCK, 64 << 10, 64 << 10);
    RLIMIT(t, MSGQUEUE, 819200, 819200);
    RLIMIT(t, SIGPENDING, 1024, 1024);
    RLIMIT(t, RTPRIO, 0, 0);
    RLIMIT(t, NICE, 0, 0);
    RLIMIT(t, NPROC, processes, processes);
    puts_(t, "]}");
}

static void put_mount(struct text *t, const char *target, const char *type, const char *source,
                      const char *const *options)
{
    if (t->p[t->len - 1] != '[')
        put(t, ",", 1);
    puts_(t, "{\"destination\":");
    put_string(t, target);
    puts_(t, ",\"type\":");
    put_string(t, type);
    puts_(t, ",\"source\":");
    put_string(t, source);
    puts_(t, ",\"options\":");
    put_strings(t, options);
    put(t, "}", 1);
}

static const char *const bind_ro[] = {"rbind", "ro", "nosuid", "nodev", NULL};
static const char *const bind_rw[] = {"rbind", "rw", "nosuid", "nodev", NULL};

static bool is_below_tmp(const char *target)
{
    return !strncmp(target, "/tmp/", 5);
}

/* The image's top-level directories and files, for a bundle whose rootfs holds only their names. */
static int put_image(struct text *t, const char *image, struct err *e)
{
    DIR *dir = opendir(image);
    const struct dirent *d;

    if (!dir)
        return err_sys(e, errno, "cannot open the root file system %s", image);
    while ((d = readdir(dir))) {
        struct stat st;
        char target[NAME_MAX + 2], source[PATH_MAX];
        if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, "..") || tree_is_own(d->d_name) ||
            fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)) ||
            !io_format(target, sizeof(target), "/%s", d->d_name) ||
            !io_format(source, sizeof(source), "%s/%s", image, d->d_name))
            continue;
        put_mount(t, target, "bind", source, bind_ro);
    }
    (void)closedir(dir);
    return 0;
}

static int put_mounts(struct text *t, const struct bundle *b, struct err *e)
{
    static const char *const proc[] = {"nosuid", "noexec", "nodev", NULL};
    static const char *const dev[] = {"nosuid", "strictatime", "mode=755", "size=65536k", NULL};
    static const char *const pts[] = {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", NULL};
    static const char *const shm[] = {"nosuid", "noexec", "nodev", "mode=1777", NULL};
    static const char *const tmp[] = {"nosuid", "nodev", "mode=1777", NULL};
    static const char *const sys[] = {"ro", "nosuid", "noexec", "nodev", "mode=555", "size=4k", NULL};
    static const char *const work[] = {"nosuid", "nodev", "mode=0700", "uid=1000", "gid=1000", NULL};
    const struct sandbox_spec *s = b->spec;
    char source[PATH_MAX];

    puts_(t, "\"mounts\":[");
    if (!b->assembled && put_image(t, s->rootfs, e) < 0)
        return -1;
    put_mount(t, "/proc", "proc", "proc", proc);
    put_mount(t, "/dev", "tmpfs", "tmpfs", dev);
    put_mount(t, "/dev/pts", "devpts", "devpts", pts);
    put_mount(t, "/dev/shm", "tmpfs", "shm", shm);
    put_mount(t, "/sys", "tmpfs", "none", sys); /* empty: runsc would show a /sys of its own */
    put_mount(t, "/tmp", "tmpfs", "tmpfs", tmp);
    (void)io_format(source, sizeof(source), "%s/workspace", b->place);
    if (s->workspace)
        put_mount(t, "/workspace", "bind", b->assembled ? source : s->workspace, bind_rw);
    else
        put_mount(t, "/workspace", "tmpfs", "tmpfs", work);
    (void)io_format(source, sizeof(source), "%s/run", b->place);
    put_mount(t, "/run/ironclaw", "bind", source, bind_ro);
    for (size_t i = 0; i < s->nmounts; i++) {
        const struct sandbox_mount *m = &s->mounts[i];
        (void)io_format(source, sizeof(source), "%s/m/%zu", b->place, i);
        if (!b->assembled || m->writable || is_below_tmp(m->target))
            put_mount(t, m->target, "bind", b->assembled ? source : m->source,
                      m->writable ? bind_rw : bind_ro);
    }
    puts_(t, "]");
    return 0;
}

static void put_resources(struct text *t, const struct cgroup_limits *l)
{
    const char *comma = "";

    puts_(t, ",\"resources\":{");
    if (l->memory_bytes) {
        putf(t, "\"memory\":{\"limit\":%llu,\"swap\":%llu}", (unsigned long long)l->memory_bytes,
             (unsigned long long)l->memory_bytes);
        comma = ",";
    }
    if (l->cpu_milli) {
        putf(t, "%s\"cpu\":{\"quota\":%llu,\"period\":%d}", comma,
             (unsigned long long)l->cpu_milli * CPU_PERIOD / 1000, CPU_PERIOD);
        comma = ",";
    }
    if (l->pids)
        putf(t, "%s\"pids\":{\"limit\":%u}", comma, l->pids);
    puts_(t, "}");
}

static void put_linux(struct text *t, const struct bundle *b)
{
    static const char *const namespaces[] = {"pid", "network", "ipc", "uts", "mount", "cgroup", "user", NULL};

    puts_(t, "\"linux\":{\"namespaces\":[");
    for (size_t i = 0; namespaces[i]; i++)
        putf(t, "%s{\"type\":\"%s\"}", i ? "," : "", namespaces[i]);
    puts_(t, "]");
    for (int group = 0; group < 2; group++)
        putf(t,
             ",\"%s\":[{\"containerID\":0,\"hostID\":%u,\"size\":1},{\"containerID\":%d,\"hostID\":%u,"
             "\"size\":1}]",
             group ? "gidMappings" : "uidMappings", b->root_id, SANDBOX_UID, b->user_id);
    if (b->resources)
        put_resources(t, &b->spec->limits);
    puts_(t, ",\"maskedPaths\":");
    put_strings(t, tree_masked);
    puts_(t, ",\"readonlyPaths\":");
    put_strings(t, tree_read_only);
    puts_(t, ",\"rootfsPropagation\":\"private\",\"seccomp\":");
    puts_(t, seccomp_profile);
    puts_(t, "}");
}

char *bundle_config(const struct bundle *b, struct err *e)
{
    struct text t = {0};

    puts_(&t, "{\"ociVersion\":\"1.0.2\",");
    put_process(&t, b);
    puts_(&t, ",\"root\":{\"path\":\"rootfs\",\"readonly\":true},\"hostname\":\"sandbox\",");
    if (put_mounts(&t, b, e) == 0) {
        puts_(&t, ",");
        put_linux(&t, b);
        puts_(&t, "}\n");
        if (!t.bad)
            return t.p;
        (void)err_set(e, EILSEQ,
                      "an OCI bundle can only carry UTF-8, which an argument, variable or path is not");
    }
    free(t.p);
    return NULL;
}

int bundle_make_own(int rootfs, struct err *e)
{
    /* runc gives a tmpfs the mode of what it covers. */
    static const struct {
        const char *name;
        mode_t mode;
    } own[] = {{"dev", 0755}, {"proc", 0555},         {"sys", 0555},      {"tmp", 01777},
               {"run", 0755}, {"run/ironclaw", 0755}, {"workspace", 0700}};

    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        if (tree_make_dir(rootfs, own[i].name, 0755, e) < 0)
            return -1;
        else if (fchmodat(rootfs, own[i].name, own[i].mode, 0) < 0)
            return err_sys(e, errno, "cannot set the mode of /%s", own[i].name);
    return 0;
}

/* ---- a bundle to keep */

static int copy_file(const char *source, int dir, const char *name, mode_t mode, struct err *e)
{
    CLEANUP_FREE char *data = NULL;
    size_t len;

    if (io_read_file(AT_FDCWD, source, 16 << 20, &data, &len, e) < 0)
        return -1;
    return io_replace_file(dir, name, data, len, mode, e);
}

/* A name in rootfs for whatever is mounted there. */
static int copy_names(const char *image, int rootfs, struct err *e)
{
    DIR *dir = opendir(image);
    const struct dirent *d;
    int rc = 0;

    if (!dir)
        return err_sys(e, errno, "cannot open the root file system %s", image);
    while (rc == 0 && (d = readdir(dir))) {
        struct stat st;
        if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, "..") || tree_is_own(d->d_name) ||
            fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (S_ISDIR(st.st_mode)) {
            rc = tree_make_dir(rootfs, d->d_name, 0755, e);
        } else if (S_ISREG(st.st_mode)) {
            rc = tree_make_file(rootfs, d->d_name, e);
        } else if (S_ISLNK(st.st_mode)) {
            char target[1024];
            ssize_t n = readlinkat(dirfd(dir), d->d_name, target, sizeof(target) - 1);
            target[n > 0 ? n : 0] = 0;
            if (n <= 0 || symlinkat(target, rootfs, d->d_name) < 0)
                rc = err_sys(e, errno, "cannot copy the link /%s", d->d_name);
        }
    }
    (void)closedir(dir);
    return rc;
}

static bool is_empty_dir(int fd)
{
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    int entries = 0;

    if (!dir) {
        if (copy >= 0)
            (void)close(copy);
        return false;
    }
    while (readdir(dir))
        entries++;
    (void)closedir(dir);
    return entries == 2;
}

int bundle_write(const struct sandbox_spec *spec, const char *dir, struct err *e)
{
    CLEANUP_CLOSE int fd = -1;
    CLEANUP_CLOSE int rootfs = -1;
    CLEANUP_FREE char *config = NULL;
    char place[PATH_MAX];
    struct bundle b = {.spec = spec,
                       .place = place,
                       .flags = "r",
                       .root_id = bundle_root_id(spec->uid),
                       .user_id = spec->uid,
                       .resources = true};

    if (mkdir(dir, 0755) < 0 && errno != EEXIST)
        return err_sys(e, errno, "cannot create %s", dir);
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || !realpath(dir, place))
        return err_sys(e, errno, "cannot open %s", dir);
    if (!is_empty_dir(fd))
        return err_set(e, ENOTEMPTY, "%s is not empty: a bundle is written to a new directory", dir);
    if (tree_make_dir(fd, "rootfs", 0755, e) < 0 || tree_make_dir(fd, "run", 0755, e) < 0)
        return -1;
    rootfs = openat(fd, "rootfs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (rootfs < 0)
        return err_sys(e, errno, "cannot open %s/rootfs", dir);
    if (bundle_make_own(rootfs, e) < 0)
        return -1;
    if (copy_names(spec->rootfs, rootfs, e) < 0 || copy_file(spec->init, fd, "run/init", 0555, e) < 0)
        return -1;
    config = bundle_config(&b, e);
    return config ? io_replace_file(fd, "config.json", config, strlen(config), 0644, e) : -1;
}
