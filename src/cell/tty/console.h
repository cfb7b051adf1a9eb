/*
 * console.h - the host's standard streams as files.
 */
#pragma once
#include "cell/base/types.h"

struct file;

/* stream: CELL_STREAM_CONSOLE, read or written by `flags`, or CELL_STREAM_ERROR. One reference; NULL: no
 * memory. */
struct file *console_open(u32 stream, unsigned flags);
