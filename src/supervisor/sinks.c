/*
 * Where events go besides the API. The events process may open nothing itself: it gets a descriptor, and
 * another one when the first broke or the file is full.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "config/syslog_target.h"
#include "supervisor/supervisor.h"

/* Never a link, never one that would wait for a reader. */
static int open_file(const char *path, struct err *e)
{
    struct stat st;
    CLEANUP_CLOSE int fd =
        open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0600);

    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(e, errno, "cannot open events.jsonl %s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(e, EINVAL, "events.jsonl %s is not a regular file", path);
    return TAKE_FD(fd);
}

/* Only a file that really is full moves: an older one goes for it. */
static int rotate_file(const json_t *conf, const char *path, struct err *e)
{
    CLEANUP_FREE char *old = x_asprintf("%s.1", path);
    struct stat st;

    if (lstat(path, &st) < 0 || st.st_size < json_integer_value(json_object_get(conf, "jsonl_max_size")))
        return 0;
    return rename(path, old) < 0 ? err_sys(e, errno, "cannot move %s to %s", path, old) : 0;
}

static int open_syslog(const char *text, struct err *e)
{
    struct syslog_target t;
    CLEANUP_CLOSE int fd = -1;

    if (!syslog_target_parse(text, &t))
        return err_set(e, EINVAL, "events.syslog '%s' is neither unix:/PATH nor udp:ADDRESS:PORT", text);
    fd = socket(t.address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&t.address, t.len) < 0)
        return err_sys(e, errno, "cannot reach syslog at %s", text);
    return TAKE_FD(fd);
}

int sinks_open(const json_t *conf, enum event_sink sink, bool rotate, struct err *e)
{
    const char *file = json_string_value(json_object_get(conf, "jsonl"));
    const char *target = json_string_value(json_object_get(conf, "syslog"));

    if (sink == EVENT_SINK_SYSLOG)
        return target && *target ? open_syslog(target, e)
                                 : err_set(e, ENOENT, "events.syslog is not configured");
    if (!file || !*file)
        return err_set(e, ENOENT, "events.jsonl is not configured");
    if (rotate && rotate_file(conf, file, e) < 0)
        return -1;
    return open_file(file, e);
}
