/*
 * yaml.c - libfyaml's event stream, folded into a tree of positioned values.
 *
 * Events are read one by one and an explicit stack holds the containers that are still open, so no input
 * makes us recurse. Whatever we refuse is refused at the event that brings it, before anything is built from
 * it.
 */
#include "config/yaml.h"

#include <errno.h>
#include <libfyaml.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"

struct builder {
    const char *name;
    struct fy_parser *parser;
    struct ynode *root;
    struct ynode *open[YAML_DEPTH_MAX];
    size_t depth;
    char *key; /* read, its value not yet */
    int key_line, key_column;
    int line, column; /* of the event at hand */
    size_t nodes;
    int documents;
    struct err *e;
};

void ynode_free(struct ynode *n)
{
    /* The tree is at most YAML_DEPTH_MAX deep, so recursion is bounded. */
    for (struct ynode *c = n ? n->first : NULL; c;) {
        struct ynode *next = c->next;
        ynode_free(c);
        c = next;
    }
    if (!n)
        return;
    json_decref(n->scalar);
    free(n->key);
    free(n);
}

const struct ynode *ynode_get(const struct ynode *map, const char *key)
{
    for (const struct ynode *c = map->first; c; c = c->next)
        if (c->key && !strcmp(c->key, key))
            return c;
    return NULL;
}

json_t *ynode_to_json(const struct ynode *n)
{
    json_t *out;

    if (n->kind == YNODE_SCALAR)
        return json_incref(n->scalar);
    out = n->kind == YNODE_LIST ? json_array() : json_object();
    for (const struct ynode *c = n->first; c; c = c->next) {
        if (n->kind == YNODE_LIST)
            (void)json_array_append_new(out, ynode_to_json(c));
        else
            (void)json_object_set_new_nocheck(out, c->key, ynode_to_json(c));
    }
    return out;
}

static int fail(struct builder *b, const char *what)
{
    return err_set(b->e, EINVAL, "%s:%d:%d: %s", b->name, b->line, b->column, what);
}

static struct ynode *new_node(struct builder *b, enum ynode_kind kind)
{
    struct ynode *n = x_calloc(1, sizeof(*n));

    n->kind = kind;
    n->line = b->line;
    n->column = b->column;
    return n;
}

/* Hangs n below the innermost open container. n is owned by the tree afterwards, or freed on failure. */
static int attach(struct builder *b, struct ynode *n)
{
    struct ynode *parent = b->depth > 0 ? b->open[b->depth - 1] : NULL;

    if (++b->nodes > YAML_NODES_MAX) {
        ynode_free(n);
        return fail(b, "the document has too many values; at most 20000 are allowed");
    }
    if (!parent) {
        b->root = n;
        return 0;
    }
    if (parent->kind == YNODE_MAP) {
        n->key = TAKE_PTR(b->key);
        n->key_line = b->key_line;
        n->key_column = b->key_column;
    }
    if (parent->last)
        parent->last->next = n;
    else
        parent->first = n;
    parent->last = n;
    return 0;
}

static bool key_expected(const struct builder *b)
{
    return b->depth > 0 && b->open[b->depth - 1]->kind == YNODE_MAP && !b->key;
}

static int open_container(struct builder *b, enum ynode_kind kind)
{
    struct ynode *n;

    if (key_expected(b))
        return fail(b, "a key must be plain text, not a list or a map");
    if (b->depth == YAML_DEPTH_MAX)
        return fail(b, "nested deeper than the 16 levels allowed");
    n = new_node(b, kind);
    if (attach(b, n) < 0)
        return -1;
    b->open[b->depth++] = n;
    return 0;
}

/* [-+]?digits */
static bool looks_integer(const char *s)
{
    s += *s == '-' || *s == '+';
    return *s && strspn(s, "0123456789") == strlen(s);
}

/* [-+]?digits[.digits][e[-+]digits], with at least a point or an exponent */
static bool looks_real(const char *s)
{
    size_t whole, fraction = 0;

    s += *s == '-' || *s == '+';
    whole = strspn(s, "0123456789");
    s += whole;
    if (*s == '.') {
        s++;
        fraction = strspn(s, "0123456789");
        s += fraction;
    }
    if (whole + fraction == 0)
        return false;
    if (*s != 'e' && *s != 'E')
        return *s == 0;
    s++;
    s += *s == '-' || *s == '+';
    return *s && strspn(s, "0123456789") == strlen(s);
}

/* Returns a new reference, or NULL after fail(). */
static json_t *resolve_plain(struct builder *b, const char *text, size_t len)
{
    if (len == 0 || !strcmp(text, "~") || !strcmp(text, "null"))
        return json_null();
    if (!strcmp(text, "true"))
        return json_true();
    if (!strcmp(text, "false"))
        return json_false();
    if (looks_integer(text)) {
        errno = 0;
        json_int_t v = strtoll(text, NULL, 10);
        if (errno) {
            (void)fail(b, "this integer does not fit in 64 bits");
            return NULL;
        }
        return json_integer(v);
    }
    if (looks_real(text)) {
        double v = strtod(text, NULL);
        if (!isfinite(v)) {
            (void)fail(b, "this number is out of range");
            return NULL;
        }
        return json_real(v);
    }
    return json_stringn(text, len);
}

static int on_scalar(struct builder *b, struct fy_token *value)
{
    size_t len = 0;
    const char *raw = value ? fy_token_get_text(value, &len) : "";
    CLEANUP_FREE char *text = x_strndup(raw ? raw : "", raw ? len : 0);
    bool plain = !value || fy_scalar_token_get_style(value) == FYSS_PLAIN;
    struct ynode *n;
    json_t *v;

    if (raw && memchr(raw, 0, len))
        return fail(b, "text must not contain a NUL character");
    if (key_expected(b)) {
        json_t *check = json_stringn(text, strlen(text));
        if (!check)
            return fail(b, "a key must be valid UTF-8");
        json_decref(check);
        if (ynode_get(b->open[b->depth - 1], text))
            return err_set(b->e, EINVAL, "%s:%d:%d: the key '%.64s' is there twice; keep one of them",
                           b->name, b->line, b->column, text);
        b->key = TAKE_PTR(text);
        b->key_line = b->line;
        b->key_column = b->column;
        return 0;
    }
    v = plain ? resolve_plain(b, text, strlen(text)) : json_stringn(text, strlen(text));
    if (!v)
        return b->e && b->e->code ? -1 : fail(b, "text must be valid UTF-8");
    n = new_node(b, YNODE_SCALAR);
    n->scalar = v;
    return attach(b, n);
}

/* An anchor or a tag in front of a value; returns -1 with its position when there is one. */
static int refuse_properties(struct builder *b, struct fy_token *anchor, struct fy_token *tag)
{
    struct fy_token *first = anchor ? anchor : tag;
    const struct fy_mark *mark = first ? fy_token_start_mark(first) : NULL;

    if (!first)
        return 0;
    if (mark) {
        b->line = mark->line + 1;
        b->column = mark->column + (anchor ? 0 : 1); /* libfyaml marks an anchor's name, after the '&' */
    }
    return fail(b, anchor ? "anchors (&name) are not allowed; write the value out"
                          : "tags (!name) are not allowed");
}

static int on_event(struct builder *b, struct fy_event *ev)
{
    const struct fy_mark *mark = fy_event_start_mark(ev);

    if (mark) {
        b->line = mark->line + 1;
        b->column = mark->column + 1;
        /* libfyaml marks the first character inside quotes; a reader looks for the quote. */
        if (ev->type == FYET_SCALAR && ev->scalar.value && b->column > 1) {
            enum fy_scalar_style style = fy_scalar_token_get_style(ev->scalar.value);
            b->column -= style == FYSS_SINGLE_QUOTED || style == FYSS_DOUBLE_QUOTED;
        }
    }
    switch (ev->type) {
    case FYET_DOCUMENT_START:
        return ++b->documents > 1 ? fail(b, "a second document starts here; only one is allowed") : 0;
    case FYET_ALIAS:
        return fail(b, "aliases (*name) are not allowed; write the value out");
    case FYET_SCALAR:
        if (refuse_properties(b, ev->scalar.anchor, ev->scalar.tag) < 0)
            return -1;
        return on_scalar(b, ev->scalar.value);
    case FYET_MAPPING_START:
        if (refuse_properties(b, ev->mapping_start.anchor, ev->mapping_start.tag) < 0)
            return -1;
        return open_container(b, YNODE_MAP);
    case FYET_SEQUENCE_START:
        if (refuse_properties(b, ev->sequence_start.anchor, ev->sequence_start.tag) < 0)
            return -1;
        return open_container(b, YNODE_LIST);
    case FYET_MAPPING_END:
    case FYET_SEQUENCE_END:
        if (b->depth > 0)
            b->depth--;
        return 0;
    default:
        return 0;
    }
}

/* libfyaml's first complaint, in our form. */
static int syntax_error(struct builder *b, struct fy_diag *diag)
{
    void *prev = NULL;
    const struct fy_diag_error *first = fy_diag_errors_iterate(diag, &prev);

    if (!first || !first->msg)
        return fail(b, "this is not valid YAML");
    b->line = first->line > 0 ? first->line : 1;
    b->column = first->column > 0 ? first->column : 1;
    return err_set(b->e, EINVAL, "%s:%d:%d: not valid YAML: %.200s", b->name, b->line, b->column, first->msg);
}

static int read_events(struct builder *b, struct fy_diag *diag)
{
    struct fy_event *ev;

    while ((ev = fy_parser_parse(b->parser))) {
        int rc = on_event(b, ev);
        fy_parser_event_free(b->parser, ev);
        if (rc < 0)
            return -1;
    }
    if (fy_parser_get_stream_error(b->parser))
        return syntax_error(b, diag);
    return 0;
}

/*
 * What no configuration needs is refused before libfyaml sees it, line by line: bytes that are not UTF-8,
 * control characters, and directives (%YAML, %TAG). Ill-formed directives make libfyaml 0.7 loop for ever.
 */
static int check_characters(struct builder *b, const char *text, size_t len)
{
    for (const char *line = text, *end = text + len; line < end; b->line++) {
        const char *nl = memchr(line, '\n', (size_t)(end - line));
        size_t n = (size_t)((nl ? nl : end) - line);
        json_t *valid;
        b->column = 1;
        if (n > 0 && line[0] == '%')
            return fail(b, "directives (%YAML, %TAG) are not allowed");
        for (size_t i = 0; i < n; i++) {
            unsigned char ch = (unsigned char)line[i];
            b->column = (int)i + 1;
            if ((ch < 0x20 && ch != '\t' && ch != '\r') || ch == 0x7f)
                return fail(b, "there is a control character here; is this a text file?");
        }
        b->column = 1;
        valid = json_stringn(line, n);
        if (!valid)
            return fail(b, "this line is not valid UTF-8");
        json_decref(valid);
        line += n + 1;
    }
    b->line = 1;
    return 0;
}

struct ynode *ynode_parse(const char *text, size_t len, const char *name, struct err *e)
{
    struct err local = ERR_INIT;
    struct builder b = {.name = name, .line = 1, .column = 1, .e = e ? e : &local};
    struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG | FYPCF_JSON_NONE};
    struct fy_diag_cfg dcfg;
    struct fy_diag *diag;
    int rc;

    b.e->code = 0;
    if (len > YAML_SIZE_MAX) {
        (void)err_set(e, EFBIG, "%s:1:1: the document is larger than the %d bytes allowed", name,
                      YAML_SIZE_MAX);
        return NULL;
    }
    if (len == 0)
        return new_node(&b, YNODE_MAP);
    if (check_characters(&b, text, len) < 0)
        return NULL;
    fy_diag_cfg_default(&dcfg);
    dcfg.fp = NULL;
    dcfg.colorize = false;
    diag = fy_diag_create(&dcfg);
    if (!diag)
        abort();
    fy_diag_set_collect_errors(diag, true);
    cfg.diag = diag;
    b.parser = fy_parser_create(&cfg);
    if (!b.parser || fy_parser_set_string(b.parser, text, len) < 0)
        abort();
    rc = read_events(&b, diag);
    fy_diag_reset_error(diag); /* the collected complaints hold tokens of the parser */
    fy_parser_destroy(b.parser);
    fy_diag_unref(diag);
    free(b.key);
    if (rc < 0) {
        ynode_free(b.root);
        return NULL;
    }
    if (!b.root)
        return new_node(&b, YNODE_MAP);
    return b.root;
}
