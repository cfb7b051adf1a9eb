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

int cell_activate(const struct sandbox *s, const struct sandbox_spec *spec, struct err *e)
{
    struct warden_activation a = {.kind = CONTROL_ACTIVATE};
    struct iovec iov = {.iov_base = &a, .iov_len = sizeof(a)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    CLEANUP_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    CLEANUP_CLOSE int strings = -1;
    int fds[WARDEN_ACTIVATION_FDS];
    struct fdpass room;

    if (handover_check_stdio(spec, e) < 0 || (strings = write_strings(spec, &a, e)) < 0)
        return -1;
    if (null < 0)
        return err_sys(e, errno, "cannot open /dev/null");
    fds[0] = strings;
    for (int i = 0; i < 3; i++)
        fds[i + 1] = spec->stdio[i] >= 0 ? spec->stdio[i] : null;
    fdpass_attach(&msg, &room, fds, spec->terminal ? 1 : WARDEN_ACTIVATION_FDS);
    if (sendmsg(s->control, &msg, MSG_NOSIGNAL) < 0)
        return err_sys(e, errno, "cannot tell the cell what to run");
    return 0;
}
