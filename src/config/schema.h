/*
 * schema.h - every configuration key in one table: its type, its range, its default and what it is for.
 *
 * Paths use '.' between keys, `[]` for the elements of a list and `*` for names the user chooses:
 * `listen[].port`, `providers.*.url`. The checker, the defaults, docs/configuration.md and `ironclaw config
 * reference` are all read from this table, so none of them can disagree with another.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

enum config_type {
    CONFIG_SECTION, /* a map with the keys below it */
    CONFIG_NAMED,   /* a map from names (io_valid_name) to sections */
    CONFIG_LIST,    /* a list; its elements are described by path + "[]" */
    CONFIG_BOOL,
    CONFIG_INT,    /* min..max */
    CONFIG_NUMBER, /* min..max; an integer or a decimal fraction */
    CONFIG_SIZE,   /* bytes: an integer, or text such as 256M; min..max in bytes */
    CONFIG_TEXT,   /* min..max bytes */
    CONFIG_PATH,   /* an absolute path, or "" where the default is "" */
    CONFIG_CHOICE, /* one of `choices` */
    CONFIG_ENV,    /* the name of an environment variable */
    CONFIG_IP,     /* a numeric IPv4 or IPv6 address */
    CONFIG_URL,    /* https, or http to a loopback address */
    CONFIG_SYSLOG, /* unix:/PATH or udp:ADDRESS:PORT, or "" where the default is "" */
};

struct config_key {
    const char *path;
    enum config_type type;
    double min, max;
    const char *choices; /* "a|b|c" for CONFIG_CHOICE */
    const char *def;     /* JSON text; NULL: must be given */
    const char *doc;     /* one sentence */
};

extern const struct config_key config_keys[];
extern const size_t config_nkeys;

const struct config_key *config_key_find(const char *path);

/* The row of docs/configuration.md for a key; malloc'ed, the caller frees it. */
char *config_key_row(const struct config_key *k);
