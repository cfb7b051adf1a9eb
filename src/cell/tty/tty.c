/*
 * What is there without terminals.
 */
#include "cell/tty/tty.h"

#include <asm/errno.h>
#include <asm/fcntl.h>

#include "cell/abi/layout.h"
#include "cell/fs/file.h"
#include "cell/ipc/stream.h"
#include "cell/proc/calls.h"
#include "cell/tty/console.h"

int tty_open_console(bool terminal)
{
    static const struct {
        u32 stream;
        unsigned flags;
    } files[] = {
        {CELL_STREAM_CONSOLE, O_RDONLY}, {CELL_STREAM_CONSOLE, O_WRONLY}, {CELL_STREAM_ERROR, O_WRONLY}};

    (void)terminal;
    for (int i = 0; i < 3; i++) {
        struct file *f = console_open(files[i].stream, files[i].flags);
        int rc = f ? fd_install(f, i, false) : -ENOMEM;
        if (rc < 0)
            return rc;
    }
    return 0;
}

int tty_foreground(void)
{
    return 0;
}

void tty_service(void)
{
    streams_service();
}

void tty_session_ends(struct process *p)
{
    p->tty = NULL;
}

const struct syscall tty_calls[] = {{0}};
