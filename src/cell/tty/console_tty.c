/*
 * The console as a terminal: the host's end is raw, lines and signals are made here. Pid 1 takes what is
 * typed, so ^C reaches a program that computes.
 */
#include <asm/errno.h>
#include <asm/fcntl.h>

#include "cell/abi/layout.h"
#include "cell/base/shared.h"
#include "cell/fs/file.h"
#include "cell/fs/path.h"
#include "cell/fs/host_files.h"
#include "cell/ipc/stream.h"
#include "cell/mem/heap.h"
#include "cell/proc/calls.h"
#include "cell/proc/process.h"
#include "cell/proc/wait.h"
#include "cell/tty/console.h"
#include "cell/tty/tty.h"

static struct tty **console; /* in shared memory: the workload's process opens it, pid 1 serves it */

void console_tty_init(void)
{
    console = kmalloc(sizeof(struct tty *)); // NOLINT(bugprone-sizeof-expression)
}

struct tty *console_tty(void)
{
    return *console;
}

static void read_size(struct tty *t)
{
    u32 size = atomic_load(&HEADER->winsize);
    struct winsize w = {.ws_row = (u16)(size >> 16), .ws_col = (u16)size};

    tty_resize(t, &w);
}

static int open_terminal(void)
{
    struct tty *t = tty_create();

    if (!t)
        return -ENOMEM;
    t->stream = stream_fixed(CELL_STREAM_CONSOLE);
    t->stream->served = true;
    t->number = 0;
    read_size(t);
    *console = t;
    thread_wake(SHARED->init->leader); /* what was typed before this may be waiting already */
    tty_maybe_take(t, 0);
    for (int i = 0; i < 3; i++) {
        struct file *f = tty_open(t, O_RDWR);
        int rc = f ? fd_install(f, i, false) : -ENOMEM;
        if (rc < 0)
            return rc;
        file_set_path(f, "/dev/pts/0"); /* ttyname(3) */
    }
    return 0;
}

static int open_streams(void)
{
    static const struct {
        u32 stream;
        unsigned flags;
    } files[] = {
        {CELL_STREAM_CONSOLE, O_RDONLY}, {CELL_STREAM_CONSOLE, O_WRONLY}, {CELL_STREAM_ERROR, O_WRONLY}};

    for (int i = 0; i < 3; i++) {
        struct file *f = console_open(files[i].stream, files[i].flags);
        int rc = f ? fd_install(f, i, false) : -ENOMEM;
        if (rc < 0)
            return rc;
    }
    return 0;
}

int tty_open_console(bool terminal)
{
    return terminal ? open_terminal() : open_streams();
}

int tty_foreground(void)
{
    return *console ? (*console)->foreground : 0;
}

static void take_input(struct tty *t)
{
    u8 bytes[256];
    long n;

    while (t->length < TTY_INPUT - sizeof(bytes) && (n = stream_read(t->stream, bytes, sizeof(bytes))) > 0)
        (void)tty_type(t, bytes, (size_t)n);
    /* The host's end closed. */
    if (stream_available(t->stream) == 0 && (atomic_load(&STREAM(CELL_STREAM_CONSOLE)->rx_flags) & CELL_END))
        tty_hang_up(t);
}

void tty_service(void)
{
    if (*console) {
        atomic_store(&STREAM(CELL_STREAM_CONSOLE)->wake, CELL_WAKE_IRQ + 1);
        read_size(*console);
        take_input(*console);
    }
    host_files_service();
    streams_service();
}

const struct syscall tty_calls[] = {{0}};
