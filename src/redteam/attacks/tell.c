#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "redteam/attacks/inside.h"

static int tell_fd = -1;

void tell_to(int fd)
{
    tell_fd = fd;
}

/* One write of less than PIPE_BUF bytes: lines of several processes do not mix (pipe(7)). */
static void line(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < 0x20 || (unsigned char)text[i] > 0x7e)
            text[i] = '?';
    text[len] = '\n';
    (void)!write(tell_fd, text, len + 1);
}

static void say(const char *head, const char *fmt, va_list ap)
{
    char text[1024];
    size_t len = (size_t)snprintf(text, 256, "%s", head);

    len = len < 255 ? len : 255;
    (void)vsnprintf(text + len, sizeof(text) - len - 1, fmt, ap);
    line(text, strlen(text));
}

void stepf(const char *name, long ret, const char *fmt, ...)
{
    int error = ret < 0 ? errno : 0;
    char head[160];
    va_list ap;

    (void)snprintf(head, sizeof(head), "step %.63s %ld %d ", name, ret, error);
    va_start(ap, fmt);
    say(head, fmt, ap);
    va_end(ap);
}

void step(const char *name, long ret)
{
    stepf(name, ret, "%s", ret < 0 ? strerror(errno) : "");
}

void fact(const char *key, const char *fmt, ...)
{
    char head[96];
    va_list ap;

    (void)snprintf(head, sizeof(head), "fact %.63s ", key);
    va_start(ap, fmt);
    say(head, fmt, ap);
    va_end(ap);
}

void claim(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say("claim ", fmt, ap);
    va_end(ap);
}

void proof(const char *name, const void *data, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *p = data;
    char text[1024];

    /* Overlapping pieces, so that a secret that lies across two of them still shows in one. */
    for (size_t at = 0; at < len; at += 384) {
        size_t n = len - at < 448 ? len - at : 448, used;
        used = (size_t)snprintf(text, 96, "proof %.63s ", name);
        for (size_t i = 0; i < n; i++) {
            text[used++] = digits[p[at + i] >> 4];
            text[used++] = digits[p[at + i] & 15];
        }
        line(text, used);
        if (n <= 384)
            break;
    }
}
