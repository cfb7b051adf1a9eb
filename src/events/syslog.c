#include "events/syslog.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "base/io.h"

enum { FACILITY_DAEMON = 3 };

size_t syslog_message(enum event_type type, uint64_t time_ms, const char *host, const char *line,
                      char dst[SYSLOG_MAX])
{
    time_t s = (time_t)(time_ms / 1000);
    struct tm t;
    char when[40];

    if (!gmtime_r(&s, &t) || strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &t) == 0)
        (void)io_format(when, sizeof(when), "1970-01-01T00:00:00");
    (void)io_format(dst, SYSLOG_MAX, "<%u>1 %s.%03uZ %s ironclaw - %s - %s",
                    FACILITY_DAEMON * 8 + event_kinds[type].severity, when, (unsigned)(time_ms % 1000), host,
                    event_kinds[type].name, line);
    return strlen(dst);
}

void syslog_host(char dst[SYSLOG_HOST_MAX])
{
    struct utsname u;

    (void)io_format(dst, SYSLOG_HOST_MAX, "-");
    if (uname(&u) < 0 || !*u.nodename)
        return;
    for (const char *p = u.nodename; *p; p++)
        if (*p <= ' ' || *p >= 0x7f)
            return;
    if (!io_format(dst, SYSLOG_HOST_MAX, "%s", u.nodename))
        (void)io_format(dst, SYSLOG_HOST_MAX, "-");
}
