/*
 * What a cell may tell its file server: records of any contents. No memory error, and nothing outside of the
 * root changes, whatever names and links it makes.
 */
#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "files/files.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char place[] = "/dev/shm/fuzz-files.XXXXXX";
static int place_fd;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    int fd;

    (void)argc;
    (void)argv;
    assert(mkdtemp(place));
    place_fd = open(place, O_RDONLY | O_DIRECTORY);
    assert(place_fd >= 0);
    fd = openat(place_fd, "outside", O_WRONLY | O_CREAT | O_EXCL, 0640);
    assert(fd >= 0 && write(fd, "untouched", 9) == 9);
    assert(futimens(fd, (const struct timespec[2]){{1000000000, 0}, {1000000000, 0}}) == 0);
    return close(fd);
}

static void check_outside(void)
{
    char text[16];
    struct stat st;
    int fd = openat(place_fd, "outside", O_RDONLY), n = 0;
    DIR *dir = fdopendir(openat(place_fd, ".", O_RDONLY | O_DIRECTORY));

    assert(fd >= 0 && fstat(fd, &st) == 0 && st.st_size == 9 && (st.st_mode & 07777) == 0640 &&
           st.st_nlink == 1 && st.st_mtim.tv_sec == 1000000000);
    assert(read(fd, text, sizeof(text)) == 9 && memcmp(text, "untouched", 9) == 0);
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
        if (r.op != FILES_SYNC)
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
