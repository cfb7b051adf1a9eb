#include "server.h"

#include <assert.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cell/abi/layout.h"

static pthread_t thread;
static pthread_mutex_t saying = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool running, silent;
static struct server_file files[SERVER_FILES];
static struct files_record heard[SERVER_LOG];
static atomic_uint nheard;

static struct cell_stream *stream(void)
{
    return (struct cell_stream *)(uintptr_t)(CELL_MEMORY + CELL_OFF_STREAMS) + CELL_STREAM_FILES;
}

static uint8_t *ring(unsigned direction)
{
    return (uint8_t *)(uintptr_t)(CELL_MEMORY + CELL_OFF_RINGS) +
           ((size_t)CELL_STREAM_FILES * 2 + direction) * CELL_RING_SIZE;
}

static void pause_a_moment(void)
{
    (void)nanosleep(&(const struct timespec){.tv_nsec = 20000}, NULL);
}

static void wake(void)
{
    uint32_t which = atomic_load(&stream()->wake);
    _Atomic uint32_t *word = (_Atomic uint32_t *)(uintptr_t)(CELL_MEMORY + CELL_OFF_WAKES) + which - 1;

    if (which == 0)
        return;
    atomic_fetch_add(word, 1);
    (void)syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void put(const uint8_t *bytes, size_t n)
{
    while (n > 0 && atomic_load(&running)) {
        uint32_t tail = atomic_load(&stream()->rx_tail), used = tail - atomic_load(&stream()->rx_head);
        if (used == CELL_RING_SIZE) {
            pause_a_moment();
            continue;
        }
        ring(1)[tail % CELL_RING_SIZE] = *bytes++;
        atomic_store(&stream()->rx_tail, tail + 1);
        n--;
        if (n == 0 || used + 1 == CELL_RING_SIZE)
            wake();
    }
}

void server_say_bytes(const void *bytes, size_t n)
{
    (void)pthread_mutex_lock(&saying);
    put(bytes, n);
    (void)pthread_mutex_unlock(&saying);
}

void server_say(const struct files_record *r, const void *name, const void *data)
{
    struct files_record copy = *r;

    copy.magic = FILES_MAGIC;
    (void)pthread_mutex_lock(&saying);
    put((const uint8_t *)&copy, sizeof(copy));
    put(name, r->name_length);
    put(data, r->data_length);
    (void)pthread_mutex_unlock(&saying);
}

void server_end(void)
{
    atomic_fetch_or(&stream()->rx_flags, CELL_END);
    wake();
}

static bool take(void *to, size_t n)
{
    uint8_t *out = to;

    while (n > 0) {
        uint32_t head = atomic_load(&stream()->tx_head);
        if (!atomic_load(&running))
            return false;
        if (atomic_load(&stream()->tx_tail) == head) {
            pause_a_moment();
            continue;
        }
        *out++ = ring(0)[head % CELL_RING_SIZE];
        atomic_store(&stream()->tx_head, head + 1);
        n--;
    }
    return true;
}

static void answer(const struct files_record *r)
{
    struct files_record done = {.op = FILES_FETCHED, .root = r->root, .ino = r->ino};
    const struct server_file *f = &files[r->ino % SERVER_FILES];

    done.mode = (uint32_t)f->error;
    done.size = f->size;
    done.mtime_sec = f->mtime;
    for (size_t at = 0, end = f->length * (f->times ? f->times : 1); at < end && !f->error;) {
        size_t from = at % f->length, left = f->length - from,
               n = left < FILES_DATA_MAX ? left : FILES_DATA_MAX;
        struct files_record piece = {
            .op = FILES_DATA, .root = r->root, .ino = r->ino, .size = at, .data_length = (uint32_t)n};
        server_say(&piece, NULL, (const uint8_t *)f->data + from);
        at += n;
    }
    server_say(&done, NULL, NULL);
}

static void *serve(void *unused)
{
    static uint8_t rest[FILES_NAME_MAX + FILES_DATA_MAX];
    struct files_record r;

    while (take(&r, sizeof(r))) {
        unsigned k = atomic_load(&nheard);
        assert(r.magic == FILES_MAGIC && r.name_length <= FILES_NAME_MAX && r.data_length <= FILES_DATA_MAX);
        if (!take(rest, r.name_length + r.data_length))
            break;
        heard[k % SERVER_LOG] = r;
        atomic_store(&nheard, k + 1);
        if (r.op == FILES_FETCH && !atomic_load(&silent))
            answer(&r);
    }
    return unused;
}

void server_stop(void)
{
    if (atomic_exchange(&running, false))
        (void)pthread_join(thread, NULL);
}

void server_start(void)
{
    server_stop();
    memset(stream(), 0, sizeof(*stream()));
    atomic_store(&stream()->state, CELL_OPEN);
    memset(files, 0, sizeof(files));
    atomic_store(&nheard, 0);
    atomic_store(&silent, false);
    atomic_store(&running, true);
    if (pthread_create(&thread, NULL, serve, NULL) != 0)
        __builtin_trap();
}

struct server_file *server_file(uint64_t ino)
{
    return &files[ino];
}

void server_keep_silent(void)
{
    atomic_store(&silent, true);
}

unsigned server_heard(void)
{
    while (atomic_load(&stream()->tx_head) != atomic_load(&stream()->tx_tail))
        pause_a_moment();
    return atomic_load(&nheard);
}

const struct files_record *server_record(unsigned k)
{
    return &heard[k % SERVER_LOG];
}
