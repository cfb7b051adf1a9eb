#include "vault/anchors.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/le.h"

/* A copy: generation u64, seq u64, hash 32, session id 48 (NUL-padded), MAC 32. */
enum { COPY = 128, SLOT = 2 * COPY, ID_AT = 48, ID_ROOM = 48, MAC_AT = 96 };

struct anchors_io anchors_io = {.pwrite = pwrite, .fdatasync = fdatasync};

struct anchors {
    int fd;
    const char *path; /* for messages */
    unsigned char key[KEY_BYTES];
    void (*later)(void *arg); /* arranges anchors_sync(); NULL: every write is synced at once */
    void *later_arg;
    bool owed; /* written, not yet synced */
};

struct copies {
    unsigned char raw[SLOT];
    uint64_t generation[2]; /* 0: not valid */
};

struct anchors *anchors_open(int state_fd, const char *path, const struct keys *k, struct err *e)
{
    struct anchors *a;
    int fd = openat(state_fd, path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0) {
        (void)err_sys(e, errno, "cannot open %s", path);
        return NULL;
    }
    {
        CLEANUP_CLOSE int dir = openat(state_fd, "vault", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0 || fsync(dir) < 0) {
            (void)err_sys(e, errno, "cannot sync the directory vault");
            (void)close(fd);
            return NULL;
        }
    }
    a = x_calloc(1, sizeof(*a));
    a->fd = fd;
    a->path = path;
    keys_derive(k, "ironclaw anchors 1", a->key);
    return a;
}

void anchors_close(struct anchors *a)
{
    if (!a)
        return;
    (void)anchors_sync(a, NULL);
    (void)close(a->fd);
    sodium_memzero(a, sizeof(*a));
    free(a);
}

static uint64_t slot_of(uint32_t uid_index, enum direction d)
{
    return (uint64_t)uid_index * 2 + (uint64_t)d;
}

static void mac_copy(const struct anchors *a, uint64_t slot, const unsigned char *copy, unsigned char out[32])
{
    unsigned char input[MAC_AT + 8];

    memcpy(input, copy, MAC_AT);
    le_put(input + MAC_AT, slot, 8);
    (void)crypto_generichash(out, 32, input, sizeof(input), a->key, KEY_BYTES);
}

/* Reads both copies of a slot; those that do not authenticate for this session get generation 0. */
static void read_copies(struct anchors *a, uint64_t slot, const char *session, struct copies *c)
{
    unsigned char mac[32];
    ssize_t n = pread(a->fd, c->raw, SLOT, (off_t)(slot * SLOT));

    if (n < 0)
        n = 0;
    memset(c->raw + n, 0, SLOT - (size_t)n);
    for (int i = 0; i < 2; i++) {
        const unsigned char *copy = c->raw + (ptrdiff_t)i * COPY;
        c->generation[i] = 0;
        mac_copy(a, slot, copy, mac);
        if (sodium_memcmp(mac, copy + MAC_AT, 32) == 0 &&
            strncmp((const char *)copy + ID_AT, session, ID_ROOM) == 0)
            c->generation[i] = le_get(copy, 8);
    }
}

enum damage anchors_read(struct anchors *a, uint32_t uid_index, enum direction d, const char *session,
                         struct anchor *out)
{
    struct copies c;
    const unsigned char *copy;

    read_copies(a, slot_of(uid_index, d), session, &c);
    if (c.generation[0] == 0 && c.generation[1] == 0)
        return DAMAGE_ANCHOR;
    copy = c.raw + (c.generation[1] > c.generation[0] ? COPY : 0);
    out->seq = le_get(copy + 8, 8);
    memcpy(out->hash, copy + 16, RECORD_HASH);
    return DAMAGE_NONE;
}

static int put_copy(struct anchors *a, uint64_t slot, unsigned which, const unsigned char *copy,
                    struct err *e)
{
    ssize_t n = anchors_io.pwrite(a->fd, copy, COPY, (off_t)slot * SLOT + (off_t)which * COPY);

    if (n != COPY)
        return err_sys(e, n < 0 ? errno : ENOSPC, "cannot write %s", a->path);
    a->owed = true;
    return 0;
}

int anchors_sync(struct anchors *a, struct err *e)
{
    if (!a->owed)
        return 0;
    if (anchors_io.fdatasync(a->fd) < 0)
        return err_sys(e, errno, "cannot sync %s", a->path);
    a->owed = false;
    return 0;
}

void anchors_defer(struct anchors *a, void (*later)(void *arg), void *arg)
{
    a->later = later;
    a->later_arg = arg;
}

/* Overwrites the older copy. */
static int put_newest(struct anchors *a, uint32_t uid_index, enum direction d, const char *session,
                      const struct anchor *value, struct err *e)
{
    uint64_t slot = slot_of(uid_index, d), newest;
    unsigned char copy[COPY] = {0};
    struct copies c;
    unsigned which;

    read_copies(a, slot, session, &c);
    which = c.generation[0] > c.generation[1] ? 1 : 0;
    newest = c.generation[which ? 0 : 1];
    le_put(copy, newest + 1, 8);
    le_put(copy + 8, value->seq, 8);
    memcpy(copy + 16, value->hash, RECORD_HASH);
    memcpy(copy + ID_AT, session, strnlen(session, ID_ROOM - 1));
    mac_copy(a, slot, copy, copy + MAC_AT);
    return put_copy(a, slot, which, copy, e);
}

int anchors_write(struct anchors *a, uint32_t uid_index, enum direction d, const char *session,
                  const struct anchor *value, struct err *e)
{
    return put_newest(a, uid_index, d, session, value, e) < 0 ? -1 : anchors_sync(a, e);
}

int anchors_write_soon(struct anchors *a, uint32_t uid_index, enum direction d, const char *session,
                       const struct anchor *value, struct err *e)
{
    if (!a->later)
        return anchors_write(a, uid_index, d, session, value, e);
    if (put_newest(a, uid_index, d, session, value, e) < 0)
        return -1;
    a->later(a->later_arg);
    return 0;
}

int anchors_clear(struct anchors *a, uint32_t uid_index, struct err *e)
{
    static const unsigned char empty[COPY];

    for (int d = 0; d < DIRECTION_COUNT; d++)
        for (unsigned which = 0; which < 2; which++)
            if (put_copy(a, slot_of(uid_index, (enum direction)d), which, empty, e) < 0)
                return -1;
    return anchors_sync(a, e);
}
