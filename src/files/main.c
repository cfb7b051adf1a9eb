/*
 * ironclaw-files: see files.h.
 */
#include "files/files.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { STREAM = 0, CANNOT = 125 };

/* What is said at the start is many short records: they are sent many at a time. */
static char held[1 << 16];
static size_t nheld;
static bool holding;

static int send_all(struct iovec v[3])
{
    size_t i = 0;

    while (i < 3) {
        ssize_t n = writev(STREAM, v + i, (int)(3 - i));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        while (i < 3 && (size_t)n >= v[i].iov_len)
            n -= (ssize_t)v[i++].iov_len;
        if (i < 3) {
            v[i].iov_base = (char *)v[i].iov_base + n;
            v[i].iov_len -= (size_t)n;
        }
    }
    return 0;
}

static int release(void)
{
    struct iovec v[3] = {{held, nheld}, {NULL, 0}, {NULL, 0}};

    nheld = 0;
    return v[0].iov_len > 0 ? send_all(v) : 0;
}

static char *append(char *at, const void *from, size_t n)
{
    if (n > 0)
        memcpy(at, from, n);
    return at + n;
}

int files_send(const struct files_record *r, const void *name, const void *data)
{
    size_t n = sizeof(*r) + r->name_length + r->data_length;

    if (nheld + n > sizeof(held) && release() < 0)
        return -1;
    if (holding && n <= sizeof(held)) {
        (void)append(append(append(held + nheld, r, sizeof(*r)), name, r->name_length), data, r->data_length);
        nheld += n;
        return 0;
    }
    return send_all((struct iovec[3]){{(void *)(uintptr_t)r, sizeof(*r)},
                                      {(void *)(uintptr_t)name, r->name_length},
                                      {(void *)(uintptr_t)data, r->data_length}});
}

int files_send_two(const struct files_record *r, const void *data, const struct files_record *second)
{
    return send_all((struct iovec[3]){{(void *)(uintptr_t)r, sizeof(*r)},
                                      {(void *)(uintptr_t)data, r->data_length},
                                      {(void *)(uintptr_t)second, sizeof(*second)}});
}

/* The warden ends its direction when the cell has ended, and discards what we say from then on: a cell must
 * not make its own end wait for files that it asked for before. */
bool files_heard(void)
{
    struct pollfd p = {.fd = STREAM, .events = POLLRDHUP};

    return ppoll(&p, 1, &(const struct timespec){0}, NULL) <= 0 || p.revents == 0;
}

/* All n bytes. False: the stream ended. */
static bool receive(void *to, size_t n)
{
    size_t done = 0;

    while (done < n) {
        ssize_t got = read(STREAM, (char *)to + done, n - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        done += (size_t)got;
    }
    return true;
}

/* Until the cell has ended, or says something that no cell says. */
static int serve(struct server *s)
{
    static char name[FILES_NAME_MAX + 1], data[FILES_DATA_MAX];
    struct files_record r;

    while (receive(&r, sizeof(r))) {
        int error;
        if (!files_valid(&r) || r.root >= s->nroots)
            return CANNOT;
        if (!receive(name, r.name_length) || !receive(data, r.data_length))
            return 0;
        if (r.name_length && !table_valid_name(name, r.name_length))
            return CANNOT;
        if (r.op == FILES_FETCH) {
            if (files_fetch(s, &r) < 0)
                return 0;
            continue;
        }
        error = files_apply(s, &r, name, data);
        if (error || r.op == FILES_SYNC) {
            struct files_record answer = {.magic = FILES_MAGIC,
                                          .op = error ? FILES_FAILED : FILES_SYNCED,
                                          .root = r.root,
                                          .ino = r.ino,
                                          .mode = (uint32_t)error};
            if (files_send(&answer, NULL, NULL) < 0)
                return 0;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    static struct server s = {.cached = -1};
    struct err e = ERR_INIT;
    bool failed;

    if (argc < 2 || argc > FILES_ROOTS + 1 || fcntl(FILES_FIRST_ROOT, F_GETFD) < 0) {
        (void)!write(2, "ironclaw-files is started by a cell's warden, not by hand\n", 58);
        return CANNOT;
    }
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)umask(0);
    /* The cell runs under the same uid: its one signal must not end us. */
    for (int sig = 1; sig < NSIG; sig++)
        (void)signal(sig, SIG_IGN);
    for (int i = 1; i < argc; i++)
        s.roots[s.nroots++] = (struct root){
            .fd = FILES_FIRST_ROOT + i - 1, .writable = argv[i][0] == 'w', .target = argv[i] + 1};
    s.table = table_create();
    holding = true;
    failed = !s.table || files_seal(&s, &e) < 0 || files_load(&s, &e) < 0;
    holding = false;
    if (release() < 0)
        return CANNOT;
    if (failed) {
        struct files_record r = {.magic = FILES_MAGIC,
                                 .op = FILES_FAILED,
                                 .mode = (uint32_t)e.code,
                                 .data_length = (uint32_t)strlen(e.text)};
        (void)files_send(&r, NULL, e.text);
        return CANNOT;
    }
    return serve(&s);
}
