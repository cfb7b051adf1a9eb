/*
 * The one message that a warden takes: strings in a file, for they may be 2 MiB long, and the standard
 * streams.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fdpass.h"
#include "base/io.h"
#include "cell/abi/layout.h"
#include "walls/cell/cell.h"
#include "walls/handover.h"
#include "warden/warden.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x8U /* memfd_create(2), since Linux 6.3 */
#endif

static size_t measure(char *const *strings, uint32_t *count)
{
    size_t bytes = 0;

    for (*count = 0; strings[*count]; ++*count)
        bytes += strlen(strings[*count]) + 1;
    return bytes;
}

static char *append(char *at, char *const *strings)
{
    for (; *strings; strings++) {
        size_t n = strlen(*strings) + 1;
        memcpy(at, *strings, n);
        at += n;
    }
    return at;
}

static int write_strings(const struct sandbox_spec *spec, struct warden_activation *a, struct err *e)
{
    size_t words = measure(spec->argv, &a->argc), env = measure(spec->envp, &a->envc);
    CLEANUP_FREE char *text = NULL;
    CLEANUP_CLOSE int fd = -1;

    if (words > CELL_BOOT_SIZE || env > CELL_BOOT_SIZE - words)
        return err_set(e, E2BIG, "the command and its environment are longer than 2 MiB");
    a->length = (uint32_t)(words + env);
    text = x_malloc(words + env + 1);
    (void)append(append(text, spec->argv), spec->envp);
    fd = memfd_create("command", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = memfd_create("command", MFD_CLOEXEC);
    if (fd < 0 || io_write_all(fd, text, a->length) < 0)
        return err_sys(e, errno, "cannot hand over the command");
    return TAKE_FD(fd);
}

int cell_command_open(struct cell_command *c, const struct sandbox_spec *spec, struct err *e)
{
    *c = (struct cell_command){.message = {.kind = CONTROL_ACTIVATE}, .strings = -1, .null = -1};
    if (handover_check_stdio(spec, e) < 0 || (c->strings = write_strings(spec, &c->message, e)) < 0)
        return -1;
    c->fds[c->nfds++] = c->strings;
    for (int i = 0; i < 3 && !spec->terminal; i++) {
        if (spec->stdio[i] < 0 && c->null < 0 && (c->null = open("/dev/null", O_RDWR | O_CLOEXEC)) < 0) {
            (void)err_sys(e, errno, "cannot open /dev/null");
            cell_command_close(c);
            return -1;
        }
        c->fds[c->nfds++] = spec->stdio[i] >= 0 ? spec->stdio[i] : c->null;
    }
    return 0;
}

void cell_command_close(struct cell_command *c)
{
    if (c->strings >= 0)
        (void)close(c->strings);
    if (c->null >= 0)
        (void)close(c->null);
    c->strings = c->null = -1;
}

int cell_activate(int control, const struct cell_command *c, struct err *e)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)&c->message, .iov_len = sizeof(c->message)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    struct fdpass room;

    fdpass_attach(&msg, &room, c->fds, c->nfds);
    if (sendmsg(control, &msg, MSG_NOSIGNAL) < 0)
        return err_sys(e, errno, "cannot tell the cell what to run");
    return 0;
}
