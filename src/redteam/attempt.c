#include "redteam/attempt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"

/* Cuts the next word off *at: up to a blank, which becomes NUL. "" at the end. */
static char *word(char **at)
{
    char *start = *at, *end = start + strcspn(start, " ");

    *at = *end ? end + 1 : end;
    *end = 0;
    return start;
}

static bool number(const char *text, long *out)
{
    char *end;

    errno = 0;
    *out = strtol(text, &end, 10);
    return *text && !*end && errno == 0;
}

static bool is_nonce(const char *text)
{
    return strlen(text) == ATTEMPT_NONCE_LEN && strspn(text, "0123456789abcdef") == ATTEMPT_NONCE_LEN;
}

static int take_step(struct attempt *a, char *rest, struct err *e)
{
    struct attempt_step *s = &a->steps[a->nsteps];
    long error;

    s->name = word(&rest);
    if (!io_valid_name(s->name) || !number(word(&rest), &s->ret) || !number(word(&rest), &error) ||
        error < 0 || error > 4095)
        return err_set(e, EPROTO, "a step of the attempt record is ill-formed");
    s->error = (int)error;
    s->detail = rest;
    a->nsteps++;
    return 0;
}

static int take_pair(struct attempt_pair *list, size_t *n, char *rest, struct err *e)
{
    struct attempt_pair *p = &list[*n];

    p->key = word(&rest);
    p->value = rest;
    if (!io_valid_name(p->key))
        return err_set(e, EPROTO, "a fact or proof of the attempt record is ill-formed");
    (*n)++;
    return 0;
}

static int take_line(struct attempt *a, char *line, struct err *e)
{
    const char *kind = word(&line);

    if (a->end)
        return err_set(e, EPROTO, "the attempt record goes on after its end");
    if (!a->nonce) {
        if (strcmp(kind, "report") != 0)
            return err_set(e, EPROTO, "this is no attempt record");
        a->nonce = word(&line);
        a->attack = line;
        if (!is_nonce(a->nonce) || !io_valid_name(a->attack))
            return err_set(e, EPROTO, "the head of the attempt record is ill-formed");
        return 0;
    }
    if (!strcmp(kind, "step"))
        return take_step(a, line, e);
    if (!strcmp(kind, "fact"))
        return take_pair(a->facts, &a->nfacts, line, e);
    if (!strcmp(kind, "proof"))
        return take_pair(a->proofs, &a->nproofs, line, e);
    if (!strcmp(kind, "claim")) {
        a->claims[a->nclaims++] = (struct attempt_pair){"", line};
        return 0;
    }
    if (strcmp(kind, "end") != 0)
        return err_set(e, EPROTO, "the attempt record has a line of an unknown kind");
    a->end = line;
    a->complete = !strcmp(line, "done");
    return 0;
}

int attempt_parse(struct attempt *a, const char *text, size_t len, struct err *e)
{
    size_t lines = 1;
    char *save = NULL;
    int rc = 0;

    memset(a, 0, sizeof(*a));
    if (len > ATTEMPT_TEXT_MAX || memchr(text, 0, len))
        return err_set(e, EPROTO, "the attempt record is too long, or no text");
    for (size_t i = 0; i < len; i++)
        lines += text[i] == '\n';
    if (lines > ATTEMPT_LINES_MAX)
        return err_set(e, EPROTO, "the attempt record has more than %d lines", ATTEMPT_LINES_MAX);
    a->text = x_strndup(text, len);
    a->steps = x_calloc(lines, sizeof(*a->steps));
    a->facts = x_calloc(lines, sizeof(*a->facts));
    a->claims = x_calloc(lines, sizeof(*a->claims));
    a->proofs = x_calloc(lines, sizeof(*a->proofs));
    for (char *line = strtok_r(a->text, "\n", &save); line && rc == 0; line = strtok_r(NULL, "\n", &save))
        rc = take_line(a, line, e);
    if (rc == 0 && !a->end)
        rc = err_set(e, EPROTO, "the attempt record has no end");
    if (rc < 0)
        attempt_free(a);
    return rc;
}

void attempt_free(struct attempt *a)
{
    free(a->text);
    free(a->steps);
    free(a->facts);
    free(a->claims);
    free(a->proofs);
    memset(a, 0, sizeof(*a));
}

const struct attempt_step *attempt_step_find(const struct attempt *a, const char *name)
{
    for (size_t i = 0; i < a->nsteps; i++)
        if (!strcmp(a->steps[i].name, name))
            return &a->steps[i];
    return NULL;
}

const char *attempt_fact(const struct attempt *a, const char *key)
{
    for (size_t i = 0; i < a->nfacts; i++)
        if (!strcmp(a->facts[i].key, key))
            return a->facts[i].value;
    return NULL;
}

long attempt_number(const struct attempt *a, const char *key, long missing)
{
    const char *value = attempt_fact(a, key);
    long v;

    return value && number(value, &v) ? v : missing;
}

/* The secret as hex stands in some proof: proofs are hex of what was read, so a plain search for the secret's
 * own hex finds it at any offset. */
static bool in_proofs(const struct attempt *a, const char *secret)
{
    size_t len = strlen(secret);
    CLEANUP_FREE char *hex = x_malloc(2 * len + 1);

    io_hex(hex, secret, len);
    for (size_t i = 0; i < a->nproofs; i++)
        if (strstr(a->proofs[i].value, hex))
            return true;
    return false;
}

bool attempt_leaks(const struct attempt *a, const char *secret)
{
    for (size_t i = 0; i < a->nsteps; i++)
        if (strstr(a->steps[i].detail, secret))
            return true;
    for (size_t i = 0; i < a->nfacts; i++)
        if (strstr(a->facts[i].value, secret))
            return true;
    for (size_t i = 0; i < a->nclaims; i++)
        if (strstr(a->claims[i].value, secret))
            return true;
    return in_proofs(a, secret);
}
