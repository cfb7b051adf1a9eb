/*
 * tty.h - terminals: the line discipline (termios(3)), job control, pseudo-terminals, and the console's
 * terminal, whose other end is the host's. Kernel lock held.
 */
#pragma once
#include <asm/termbits.h>
#include <asm/termios.h>

#include "cell/proc/process.h"

struct file;
struct poll_table;
struct stream;

enum { TTY_INPUT = 4096, TTY_OUTPUT = 8192 };

/* A terminal is what programs open; `input` is what was typed and may be read, `output` what the other end
 * takes. */
struct tty {
    unsigned refs;
    int number; /* of /dev/pts; -1: the console */
    struct ktermios_ {
        u32 iflag, oflag, cflag, lflag;
        u8 line, cc[NCCS];
    } termios;
    struct winsize size;
    int session, foreground; /* 0: none */
    u8 *input; /* TTY_INPUT bytes: [0, complete) can be read in canonical mode, the rest is a line being typed
                */
    u32 length, complete;
    u32 column; /* of output, for tabs and erasing */
    bool hung_up, packet, literal_next, stopped;
    u8 *marks;          /* one bit for each byte of input: an end of file, or a line's end by VEOL */
    struct waitq event; /* readers and writers of the terminal */

    struct stream *stream; /* the console: its other end is the host */
    u8 *output;            /* a pty: bytes for the master, ring */
    u32 out_head, out_tail;
    bool master_open, locked, was_opened;
    struct waitq master_event;
    u8 packet_status;
};

/* Opens descriptors 0-2 of the calling process on the console: a terminal, or the host's three streams. */
int tty_open_console(bool terminal);
/* Process group in front of the console's terminal; 0: none. */
int tty_foreground(void);
/* Pid 1: input and window size of the console's terminal. */
void tty_service(void);
/* A session leader ended. */
void tty_session_ends(struct process *p);

struct tty *tty_create(void);
void tty_get(struct tty *t);
void tty_put(struct tty *t);
/* A file on the terminal; takes a reference of its own. NULL: out of memory. */
struct file *tty_open(struct tty *t, unsigned flags);
/* Without O_NOCTTY, a session leader without a terminal gets this one. */
void tty_maybe_take(struct tty *t, unsigned flags);
/* Bytes that were typed. Returns how many were taken. */
size_t tty_type(struct tty *t, const u8 *data, size_t n);
/* The other end is gone: SIGHUP to the session, end of file to readers. */
void tty_hang_up(struct tty *t);
void tty_resize(struct tty *t, const struct winsize *size);
long tty_ioctl(struct tty *t, struct file *f, unsigned cmd, unsigned long arg, bool is_master);

/* pty.c */
void pty_init(void);
struct tty *pty_find(int number);
int pty_open_master(unsigned flags, struct file **out);
/* ldisc.c: bytes written by a program, processed by OPOST. Returns how many were taken; 0: no room. */
size_t tty_output(struct tty *t, const u8 *data, size_t n);
void tty_echo(struct tty *t, u8 c);
size_t tty_output_room(const struct tty *t);
void tty_put_raw(struct tty *t, const u8 *data, size_t n);
/* Next readable bytes: of one line in canonical mode. *end: an end of file stands behind them. */
size_t tty_ready(const struct tty *t, bool *end);
void tty_consume(struct tty *t, size_t n);
