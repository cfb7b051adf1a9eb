/*
 * table.h - which name a number stands for. Numbers are the cell's word for a file; names are what the host
 * has. Both are hostile: the table only ever yields a root and a list of checked names below it.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TABLE_NODES = 1 << 20, TABLE_DEPTH = 256, TABLE_PATH = 4096 };

struct table;

struct table *table_create(void);
void table_free(struct table *t);

/* A name that can be an entry of a directory: 1-255 bytes, no '/', no 0, not "." or "..". */
bool table_valid_name(const char *name, size_t length);

/* The node gets one more name. False: too many nodes, or out of memory. */
bool table_add(struct table *t, unsigned root, uint64_t ino, uint64_t parent, const char *name,
               size_t length);
/* The number behind a name of a directory; 0: unknown. */
uint64_t table_find(const struct table *t, unsigned root, uint64_t parent, const char *name, size_t length);
void table_remove(struct table *t, unsigned root, uint64_t parent, const char *name, size_t length);
/* The path below the root, without a leading '/'; "." for the root itself. False: no such node, too deep, too
 * long. */
bool table_path(const struct table *t, unsigned root, uint64_t ino, char *out, size_t cap);
