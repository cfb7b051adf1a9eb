/*
 * What a cell may tell its file server, and ask of it: records of any contents. No memory error, nothing
 * outside of the root changes, and nothing of it is answered, whatever names and links it makes.
 */
#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "files/files.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char place[] = "/dev/shm/fuzz-files.XXXXXX";
static int place_fd;
static uint64_t secret[2]; /* what stands outside */

/* In a way that tells the fuzzer nothing: it would put what it sees compared into its inputs. */
static bool is_secret(const char *p)
{
    uint64_t words[2];

    memcpy(words, p, sizeof(words));
    return ((words[0] ^ secret[0]) | (words[1] ^ secret[1])) == 0;
}

static bool has_secret(const char *data, size_t n)
{
    bool found = false;

    for (size_t i = 0; i + sizeof(secret) <= n; i++)
        found |= is_secret(data + i);
    return found;
}

/* ---- what an answer may be */

int files_send(const struct files_record *r, const void *name, const void *data)
{
    assert(r->magic == FILES_MAGIC && r->root == 0 && !name && r->name_length == 0 &&
           r->data_length <= FILES_DATA_MAX && r->size <= FILES_SIZE_MAX);
    assert(r->op == FILES_DATA || (r->op == FILES_FETCHED && r->data_length == 0));
    assert(!has_secret(data, r->data_length));
    return 0;
}

int files_send_two(const struct files_record *r, const void *data, const struct files_record *second)
{
    return files_send(r, NULL, data) + files_send(second, NULL, NULL);
}

bool files_heard(void)
{
    return true;
}

/* ---- the runs */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    int fd;

    (void)argc;
    (void)argv;
    assert(mkdtemp(place));
    place_fd = open(place, O_RDONLY | O_DIRECTORY);
    assert(place_fd >= 0);
    fd = openat(place_fd, "outside", O_WRONLY | O_CREAT | O_EXCL, 0640);
    assert(getrandom(secret, sizeof(secret), 0) == sizeof(secret));
    assert(fd >= 0 && write(fd, secret, sizeof(secret)) == sizeof(secret));
    assert(futimens(fd, (const struct timespec[2]){{1000000000, 0}, {1000000000, 0}}) == 0);
    return close(fd);
}

static void check_outside(void)
{
    char text[sizeof(secret) + 1];
    struct stat st;
    int fd = openat(place_fd, "outside", O_RDONLY), n = 0;
    DIR *dir = fdopendir(openat(place_fd, ".", O_RDONLY | O_DIRECTORY));

    assert(fd >= 0 && fstat(fd, &st) == 0 && st.st_size == sizeof(secret) && (st.st_mode & 07777) == 0640 &&
           st.st_nlink == 1 && st.st_mtim.tv_sec == 1000000000);
    assert(read(fd, text, sizeof(text)) == sizeof(secret) && is_secret(text));
    (void)close(fd);
    assert(dir);
    while (readdir(dir))
        n++;
    assert(n == 4); /* ".", "..", outside, root */
    (void)closedir(dir);
}

/* The records one after the other, as the server reads them; sizes are cut to keep a run short. */
static void serve(struct server *s, const uint8_t *data, size_t size)
{
    static char name[FILES_NAME_MAX + 1], bytes[FILES_DATA_MAX];
    struct files_record r;

    while (size >= sizeof(r)) {
        memcpy(&r, data, sizeof(r));
        data += sizeof(r);
        size -= sizeof(r);
        r.magic = FILES_MAGIC;
        r.root = 0;
        r.size %= 1U << 20;
        if (!files_valid(&r) || r.name_length + r.data_length > size)
            return;
        memcpy(name, data, r.name_length);
        memcpy(bytes, data + r.name_length, r.data_length);
        data += r.name_length + r.data_length;
        size -= r.name_length + r.data_length;
        if (r.name_length && !table_valid_name(name, r.name_length))
            return;
        if (r.op == FILES_FETCH)
            (void)files_fetch(s, &r);
        else if (r.op != FILES_SYNC)
            (void)files_apply(s, &r, name, bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct server s = {.cached = -1, .nroots = 1};

    assert(mkdirat(place_fd, "root", 0700) == 0);
    s.roots[0] = (struct root){
        .fd = openat(place_fd, "root", O_PATH | O_DIRECTORY), .writable = true, .target = "/workspace"};
    s.table = table_create();
    assert(s.table && s.roots[0].fd >= 0);
    serve(&s, data, size);
    if (s.cached >= 0)
        (void)close(s.cached);
    table_free(s.table);
    (void)close(s.roots[0].fd);
    check_outside();
    assert(io_remove_tree(place_fd, "root", NULL) == 0);
    return 0;
}
