/*
 * yaml.h - a YAML document as a tree in which every value knows the line and column it was written at.
 *
 * The subset is the one a configuration file needs: one document of maps, lists and scalars. Anchors,
 * aliases, tags, duplicate keys and keys that are not plain text are refused: each lets a short file mean
 * something long or something other than what its reader sees. Scalars follow the JSON-like part of the
 * YAML 1.2 core schema: `true`, `false`, `null`, `~`, decimal integers and floats; every other plain scalar,
 * and every quoted one, is text (so `yes` and `0x10` are text).
 */
#pragma once
#include <jansson.h>
#include <stddef.h>

#include "base/err.h"

enum {
    YAML_SIZE_MAX = 256 * 1024, /* bytes in one document */
    YAML_DEPTH_MAX = 16,        /* maps and lists inside each other */
    YAML_NODES_MAX = 20000,     /* values in one document: bounds memory whatever the text */
};

enum ynode_kind { YNODE_SCALAR, YNODE_LIST, YNODE_MAP };

/* One value. Children of a list or map hang on `first`, in the order written; a child of a map carries its
 * key. */
struct ynode {
    enum ynode_kind kind;
    int line, column;         /* of the value, counted from 1 */
    int key_line, key_column; /* of the key, when the parent is a map */
    char *key;                /* owned; NULL unless the parent is a map */
    json_t *scalar;           /* owned; only for YNODE_SCALAR */
    struct ynode *first, *last, *next;
};

/*
 * Parses `len` bytes (they need not end with NUL). An empty document is an empty map. Returns a tree for
 * ynode_free(), or NULL with e: "name:line:column: what is wrong".
 */
struct ynode *ynode_parse(const char *text, size_t len, const char *name, struct err *e);
void ynode_free(struct ynode *n);

/* The tree as JSON; a new reference. */
json_t *ynode_to_json(const struct ynode *n);

/* The child of a map with that key, or NULL. */
const struct ynode *ynode_get(const struct ynode *map, const char *key);
