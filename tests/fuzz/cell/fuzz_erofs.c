/* An image of any bytes: nothing outside of it is read, every walk ends, what is found is what a name may be.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cell/fs/erofs.h"

enum { STEPS = 2000, DEPTH = 6 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned steps;
static uint64_t sum;

static void read_all(const struct erofs *fs, const struct erofs_node *n)
{
    uint64_t at = 0, there;
    const uint8_t *p;

    while ((p = erofs_data(fs, n, at, &there)) != NULL) {
        assert(there > 0 && there <= n->size - at);
        assert(p >= fs->base && (uint64_t)(p - fs->base) + there <= fs->size);
        for (uint64_t i = 0; i < there; i += 61)
            sum += p[i];
        sum += p[there - 1];
        at += there;
        if (++steps > STEPS)
            return;
    }
    assert(at == n->size);
}

static void walk(const struct erofs *fs, uint64_t nid, unsigned depth)
{
    struct erofs_entry e, found;
    struct erofs_node n;
    uint64_t pos = 0;
    char name[256];

    if (++steps > STEPS || erofs_node(fs, nid, &n) < 0)
        return;
    read_all(fs, &n);
    if ((n.mode & 0170000) != 0040000 || depth == DEPTH)
        return;
    while (steps < STEPS && erofs_next(fs, &n, &pos, &e) > 0) {
        assert(e.length > 0 && e.length < sizeof(name) && !memchr(e.name, 0, e.length) &&
               !memchr(e.name, '/', e.length));
        memcpy(name, e.name, e.length);
        if (erofs_find(fs, &n, name, e.length, &found) == 0)
            assert(found.length == e.length && memcmp(found.name, name, e.length) == 0);
        (void)erofs_find(fs, &n, "bin", 3, &found);
        walk(fs, e.nid, depth + 1);
    }
    /* A position that a program made up. */
    pos = nid * 0x9e3779b97f4a7c15ULL;
    (void)erofs_next(fs, &n, &pos, &e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct erofs fs;

    steps = 0;
    if (erofs_open(&fs, data, size) == 0)
        walk(&fs, fs.root_nid, 0);
    return 0;
}
