/*
 * console.h - the host's standard streams as files.
 */
#pragma once
#include "cell/base/types.h"

struct file;

/* stream: CELL_STREAM_CONSOLE, read or written by `flags`, or CELL_STREAM_ERROR. One reference; NULL: no
 * memory. */
struct file *console_open(u32 stream, unsigned flags);

/* The console's terminal, if it has one. */
struct tty;
void console_tty_init(void);
struct tty *console_tty(void);
