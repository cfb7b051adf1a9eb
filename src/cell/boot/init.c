#include "cell/boot/init.h"

#include <asm/errno.h>
#include <asm/signal.h>
#include <linux/fcntl.h>
#include <linux/futex.h>

#include "cell/arch/x86_64/host.h"
#include "cell/base/lock.h"
#include "cell/base/panic.h"
#include "cell/base/shared.h"
#include "cell/base/text.h"
#include "cell/fs/file.h"
#include "cell/fs/host_files.h"
#include "cell/fs/path.h"
#include "cell/ipc/stream.h"
#include "cell/mem/heap.h"
#include "cell/proc/calls.h"
#include "cell/proc/exec.h"
#include "cell/proc/exit.h"
#include "cell/proc/signal.h"
#include "cell/proc/timer.h"
#include "cell/tty/tty.h"

/* BOOT_KEPT: unmapping pages that another processor used costs more than a few pages are worth. */
enum { WORKLOAD_PID = 2, BOOT_KEPT = 64 << 10, REHEARSED_PAGES = 6 };

static void end_cell(u32 state)
{
    atomic_store(&HEADER->state, state);
    stream_ring_doorbell();
    host_exit_group(0);
}

static void cannot_execute(const char *name, long error)
{
    int code = error == -ENOENT || error == -ENOTDIR ? 127 : 126;

    (void)text_format(HEADER->message, sizeof(HEADER->message), "cannot execute %.512s in the sandbox: %s",
                      name,
                      error == -ENOENT    ? "No such file or directory"
                      : error == -EACCES  ? "Permission denied"
                      : error == -ENOEXEC ? "Exec format error"
                      : error == -ENOTDIR ? "Not a directory"
                      : error == -ELOOP   ? "Too many levels of symbolic links"
                      : error == -ENOMEM  ? "Cannot allocate memory"
                      : error == -E2BIG   ? "Argument list too long"
                                          : "it cannot be loaded");
    atomic_store(&HEADER->status, (u32)code << 8);
    end_cell(CELL_NOEXEC);
}

/* Nothing of the workload has run. */
static void cannot_start(const char *why)
{
    (void)text_format(HEADER->message, sizeof(HEADER->message), "%s", why);
    atomic_store(&HEADER->status, 125U << 8);
    end_cell(CELL_NOEXEC);
}

/* The strings that the warden left; many pages of them go back afterwards. */
static long take_strings(struct exec_request *r)
{
    const char *s = (const char *)(CELL_MEMORY + CELL_OFF_BOOT),
               *end = s + MIN(HEADER->boot_length, (u32)CELL_BOOT_SIZE);
    long rc = 0;

    for (u32 i = 0; i < HEADER->argc + HEADER->envc && rc == 0; i++) {
        size_t n = strnlen(s, (size_t)(end - s));
        if (s + n >= end)
            return -EINVAL;
        if (i == HEADER->argc)
            r->env_offset = r->length;
        rc = exec_add_string(r, s);
        s += n + 1;
    }
    r->argc = HEADER->argc;
    r->envc = HEADER->envc;
    if (r->envc == 0)
        r->env_offset = r->length;
    if (HEADER->boot_length > BOOT_KEPT)
        (void)host_madvise((void *)(CELL_MEMORY + CELL_OFF_BOOT), CELL_BOOT_SIZE, 9 /* MADV_REMOVE */);
    return rc;
}

static const char *find_env(const struct exec_request *r, const char *name)
{
    const char *s = r->strings + r->env_offset, *end = r->strings + r->length;
    size_t n = strlen(name);

    for (; s < end; s += strlen(s) + 1)
        if (strncmp(s, name, n) == 0 && s[n] == '=')
            return s + n + 1;
    return NULL;
}

/* As execvp(3) searches. *name: what was found, in `found`. */
static long find_command(struct exec_request *r, char *found, size_t cap)
{
    const char *command = r->strings, *path = find_env(r, "PATH");
    long rc, best = -ENOENT;

    if (!command)
        return -ENOENT;
    if (strchr(command, '/')) {
        text_copy(found, command, cap);
        return fs_open_exec(AT_FDCWD, found, 0, &r->file);
    }
    if (!path)
        path = "/bin:/usr/bin";
    if (!*command)
        return -ENOENT;
    for (;;) {
        size_t n = 0;
        while (path[n] && path[n] != ':')
            n++;
        (void)text_format(found, cap, "%.*s%s%s", (int)n, path, n ? "/" : "", command);
        rc = fs_open_exec(AT_FDCWD, found, 0, &r->file);
        if (rc == 0)
            return 0;
        if (rc == -EACCES)
            best = rc;
        if (!path[n])
            return best;
        path += n + 1;
    }
}

static char name[4096]; /* of the first program, as it was found */

/* Makes this process touch what a program's start will need, whatever the program is: a first touch costs
 * several microseconds, and here nobody waits for them. */
static void rehearse(void)
{
    struct link_target t = {0};
    void *pages[REHEARSED_PAGES];
    size_t n = 0;

    (void)*(volatile const char *)(CELL_MEMORY + CELL_OFF_BOOT);
    *(volatile char *)name = 0;
    (void)path_find(AT_FDCWD, "/bin/sh", WALK_FOLLOW, &t);
    link_target_put(&t);
    for (; n < REHEARSED_PAGES && (pages[n] = page_alloc(1)) != NULL; n++)
        *(volatile char *)pages[n] = 0;
    while (n > 0)
        page_free(pages[--n], 1);
}

/* Everything stands; what to run may come much later (docs/cell.md, "Ready cells"). */
static void await_activation(void)
{
    if (!atomic_load(&HEADER->activated))
        rehearse();
    kernel_unlock();
    while (!atomic_load(&HEADER->activated))
        (void)host_futex(&HEADER->activated, FUTEX_WAIT, 0, NULL, 0);
    kernel_lock();
}

static int enter_workspace(void)
{
    struct fs_context *c = &current_process->fs;
    struct link_target t;
    int rc = path_find(AT_FDCWD, "/workspace", WALK_FOLLOW | WALK_DIRECTORY, &t);

    if (rc == 0) {
        dentry_put(c->cwd);
        c->cwd = t.dentry;
        dentry_get(c->cwd);
    }
    link_target_put(&t);
    return rc;
}

/* The first program's process starts here. */
static void workload(void)
{
    struct exec_request r = {0};
    const char *why;
    long rc;

    kernel_lock();
    rc = host_files_load(&why);
    if (rc < 0)
        cannot_start(why);
    rc = enter_workspace();
    if (rc == 0)
        rc = tty_open_console(HEADER->flags & CELL_BOOT_TERMINAL);
    await_activation();
    if (rc == 0)
        rc = take_strings(&r);
    if (rc == 0) {
        rc = find_command(&r, name, sizeof(name));
        r.path = name;
    }
    if (rc == 0)
        rc = exec_program(&r);
    if (rc < 0)
        cannot_execute(r.strings ? r.strings : "", rc);
    exec_free(&r);
    kernel_unlock();
}

/* Signals that the host sends go to what the caller would think of as in front of it. */
static void take_signals(void)
{
    u64 set = atomic_exchange(&HEADER->signals, 0);
    int group = tty_foreground();

    for (int sig = 1; sig <= 64; sig++)
        if (set & SIGBIT(sig))
            signal_group(group > 0 ? group : WORKLOAD_PID, sig);
}

void init_run(void)
{
    u64 next;
    u32 pending;
    int rc;

    /* The filter stands. From here on the state is what the workload makes of it. */
    atomic_store(&HEADER->state, CELL_RUNNING);
    stream_ring_doorbell();
    rc = clone_first(workload);
    if (rc < 0)
        panic("cannot start the workload's process: %d", rc);
    for (;;) {
        if (SHARED->main_ended && host_files_idle())
            end_cell(CELL_EXITED);
        take_signals();
        tty_service();
        next = timers_run();
        pending = atomic_fetch_and(&current()->arch.pending, 0);
        if (pending & PENDING_CHILD)
            process_check_children(current_process, pending & PENDING_KILLED);
        if (!SHARED->main_ended || !host_files_idle())
            (void)thread_sleep(next);
    }
}
