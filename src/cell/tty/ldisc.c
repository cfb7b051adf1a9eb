/*
 * The line discipline: what is typed becomes lines, echoes and signals; what is written becomes output.
 */
#include <asm/signal.h>

#include "cell/base/text.h"
#include "cell/ipc/stream.h"
#include "cell/proc/signal.h"
#include "cell/tty/tty.h"

enum { DEL = 0x7f, ESC_CARET = '^', TAB = 8 };

static bool is_lflag(const struct tty *t, u32 flag)
{
    return (t->termios.lflag & flag) != 0;
}

static bool is_cc(const struct tty *t, int which, u8 c)
{
    return t->termios.cc[which] != 0 && t->termios.cc[which] == c;
}

static bool mark_at(const struct tty *t, u32 i)
{
    return t->marks[i / 8] >> (i % 8) & 1;
}

static void set_mark(struct tty *t, u32 i, bool on)
{
    if (on)
        t->marks[i / 8] |= (u8)(1 << i % 8);
    else
        t->marks[i / 8] &= (u8) ~(1 << i % 8);
}

/* ---- output */

size_t tty_output_room(const struct tty *t)
{
    return t->stream ? stream_room(t->stream) : TTY_OUTPUT - (t->out_tail - t->out_head);
}

void tty_put_raw(struct tty *t, const u8 *data, size_t n)
{
    if (t->stream) {
        (void)stream_write(t->stream, data, n);
        return;
    }
    n = MIN(n, tty_output_room(t));
    for (size_t i = 0; i < n; i++)
        t->output[(t->out_tail + i) % TTY_OUTPUT] = data[i];
    t->out_tail += (u32)n;
    waitq_wake(&t->master_event);
}

static void count_column(struct tty *t, u8 c)
{
    if (c == '\r' || c == '\n')
        t->column = 0;
    else if (c == '\b')
        t->column -= t->column > 0;
    else if (c == '\t')
        t->column = (t->column | 7) + 1;
    else if (c >= ' ' && (c < 0x80 || c >= 0xc0)) /* not the second byte of a character */
        t->column++;
}

/* At most 8 bytes for one. */
static size_t process(struct tty *t, u8 c, u8 *out)
{
    u32 o = t->termios.oflag;

    if (!(o & OPOST)) {
        out[0] = c;
        return 1;
    }
    if (c == '\n' && (o & ONLCR)) {
        count_column(t, c);
        out[0] = '\r';
        out[1] = '\n';
        return 2;
    }
    if (c == '\r' && (o & OCRNL))
        c = '\n';
    if (c == '\r' && (o & ONOCR) && t->column == 0)
        return 0;
    if (c == '\t' && (o & TABDLY) == XTABS) {
        size_t n = TAB - t->column % TAB;
        memset(out, ' ', n);
        t->column += (u32)n;
        return n;
    }
    count_column(t, c);
    out[0] = c;
    return 1;
}

size_t tty_output(struct tty *t, const u8 *data, size_t n)
{
    u8 out[256] = {0};
    size_t used = 0, done = 0, room = tty_output_room(t);

    while (done < n && used + TAB <= room) {
        if (used + TAB > sizeof(out)) {
            tty_put_raw(t, out, used);
            room -= used;
            used = 0;
            continue;
        }
        used += process(t, data[done++], out + used);
    }
    tty_put_raw(t, out, used);
    return done;
}

static void echo_raw(struct tty *t, const char *s)
{
    (void)tty_output(t, (const u8 *)s, strlen(s));
}

void tty_echo(struct tty *t, u8 c)
{
    u8 shown[2] = {ESC_CARET, (u8)(c ^ 0x40)};

    if (!is_lflag(t, ECHO) && !(c == '\n' && is_lflag(t, ECHONL) && is_lflag(t, ICANON)))
        return;
    if (is_lflag(t, ECHOCTL) && (c < ' ' || c == DEL) && c != '\t' && c != '\n')
        (void)tty_output(t, shown, 2);
    else
        (void)tty_output(t, &c, 1);
}

/* ---- erasing in the line that is being typed */

static void rub_out(struct tty *t, u8 c)
{
    if (!is_lflag(t, ECHO))
        return;
    if (!is_lflag(t, ECHOE)) {
        tty_echo(t, t->termios.cc[VERASE]);
        return;
    }
    if (c == '\t') {
        /* How wide it was depends on what stands before it: once more from the start would be right; a step
         * of the cursor to the last stop is what is seen in practice. */
        echo_raw(t, "\b \b");
        return;
    }
    echo_raw(t, "\b \b");
    if (is_lflag(t, ECHOCTL) && (c < ' ' || c == DEL))
        echo_raw(t, "\b \b");
}

static bool erase_one(struct tty *t)
{
    u8 c;

    if (t->length == t->complete)
        return false;
    /* A character of UTF-8 goes as a whole. */
    do
        c = t->input[--t->length];
    while ((t->termios.iflag & IUTF8) && (c & 0xc0) == 0x80 && t->length > t->complete);
    rub_out(t, c);
    return true;
}

static void erase_word(struct tty *t)
{
    while (t->length > t->complete && t->input[t->length - 1] == ' ' && erase_one(t))
        ;
    while (t->length > t->complete && t->input[t->length - 1] != ' ' && erase_one(t))
        ;
}

static void erase_line(struct tty *t)
{
    if (is_lflag(t, ECHOK) && is_lflag(t, ECHOKE) && is_lflag(t, ECHOE)) {
        while (erase_one(t))
            ;
        return;
    }
    t->length = t->complete;
    tty_echo(t, t->termios.cc[VKILL]);
    if (is_lflag(t, ECHOK))
        echo_raw(t, "\n");
}

static void reprint(struct tty *t)
{
    tty_echo(t, t->termios.cc[VREPRINT]);
    echo_raw(t, "\n");
    for (u32 i = t->complete; i < t->length; i++)
        tty_echo(t, t->input[i]);
}

/* ---- input */

static void append(struct tty *t, u8 c, bool mark)
{
    if (t->length == TTY_INPUT)
        return;
    set_mark(t, t->length, mark);
    t->input[t->length++] = c;
}

static void finish_line(struct tty *t)
{
    t->complete = t->length;
    waitq_wake(&t->event);
}

static bool take_signal(struct tty *t, u8 c)
{
    int sig = is_cc(t, VINTR, c) ? SIGINT : is_cc(t, VQUIT, c) ? SIGQUIT : is_cc(t, VSUSP, c) ? SIGTSTP : 0;

    if (!sig || !is_lflag(t, ISIG))
        return false;
    if (!is_lflag(t, NOFLSH)) {
        t->length = t->complete = 0;
        if (!t->stream)
            t->out_head = t->out_tail;
    }
    tty_echo(t, c);
    if (t->foreground)
        signal_group(t->foreground, sig);
    return true;
}

static void type_canonical(struct tty *t, u8 c)
{
    if (is_cc(t, VERASE, c)) {
        (void)erase_one(t);
    } else if (is_cc(t, VWERASE, c) && is_lflag(t, IEXTEN)) {
        erase_word(t);
    } else if (is_cc(t, VKILL, c)) {
        erase_line(t);
    } else if (is_cc(t, VREPRINT, c) && is_lflag(t, IEXTEN)) {
        reprint(t);
    } else if (is_cc(t, VLNEXT, c) && is_lflag(t, IEXTEN)) {
        t->literal_next = true;
        if (is_lflag(t, ECHOCTL))
            echo_raw(t, "^\b");
    } else if (is_cc(t, VEOF, c)) {
        append(t, 0, true);
        finish_line(t);
    } else if (c == '\n' || is_cc(t, VEOL, c) || (is_cc(t, VEOL2, c) && is_lflag(t, IEXTEN))) {
        tty_echo(t, c);
        append(t, c, false);
        finish_line(t);
    } else if (t->length < TTY_INPUT - 1) { /* room for the end of the line stays */
        tty_echo(t, c);
        append(t, c, false);
    } else if (t->termios.iflag & IMAXBEL) {
        echo_raw(t, "\a");
    }
}

static void type_one(struct tty *t, u8 c)
{
    u32 i = t->termios.iflag;

    if (i & ISTRIP)
        c &= 0x7f;
    if (t->literal_next) {
        t->literal_next = false;
        tty_echo(t, c);
        append(t, c, false);
        if (!is_lflag(t, ICANON))
            finish_line(t);
        return;
    }
    if (c == '\r') {
        if (i & IGNCR)
            return;
        if (i & ICRNL)
            c = '\n';
    } else if (c == '\n' && (i & INLCR)) {
        c = '\r';
    }
    if ((i & IXON) && (is_cc(t, VSTOP, c) || is_cc(t, VSTART, c))) {
        t->stopped = is_cc(t, VSTOP, c);
        waitq_wake(&t->event);
        return;
    }
    if (take_signal(t, c))
        return;
    if (is_lflag(t, ICANON)) {
        type_canonical(t, c);
        return;
    }
    tty_echo(t, c);
    append(t, c, false);
    finish_line(t);
}

size_t tty_type(struct tty *t, const u8 *data, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        /* A full buffer takes nothing more; of a line that nobody could finish, the rest is lost instead. */
        if (t->length == TTY_INPUT && (!is_lflag(t, ICANON) || t->complete > 0))
            break;
        type_one(t, data[i]);
    }
    return i;
}

/* Next readable bytes: of one line in canonical mode. *end: an end of file, to be consumed, stands there. */
size_t tty_ready(const struct tty *t, bool *end)
{
    u32 limit = is_lflag(t, ICANON) ? t->complete : t->length;

    *end = false;
    if (!is_lflag(t, ICANON))
        return limit;
    for (u32 i = 0; i < limit; i++) {
        if (mark_at(t, i)) {
            *end = true;
            return i;
        }
        if (t->input[i] == '\n' || is_cc(t, VEOL, t->input[i]) || is_cc(t, VEOL2, t->input[i]))
            return i + 1;
    }
    return limit;
}

void tty_consume(struct tty *t, size_t n)
{
    u32 left = t->length - (u32)n;

    memmove(t->input, t->input + n, left);
    for (u32 i = 0; i < left; i++)
        set_mark(t, i, mark_at(t, i + (u32)n));
    t->length = left;
    t->complete = t->complete > n ? t->complete - (u32)n : 0;
}
