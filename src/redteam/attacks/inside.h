/*
 * inside.h - the hostile program: the part of the red team that runs inside a sandbox, as the sandbox's user.
 *
 * It is the agent program of a live session: orders come over the queue port and records of what it tried go
 * back the same way (redteam/attempt.h). It is static, so that it runs on any root, and it needs no help: it
 * stands for arbitrary code. Each attack runs in a child with a time limit, in a process group of its own.
 *
 *   main.c      orders in, records out; the child of each attack
 *   queue.c     the queue port, without a JSON library
 *   tell.c      the lines of a record
 *   hold.c      the other role: a victim that holds secrets and looks after them
 *   NN_*.c      the attacks, one file per family
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { ORDER_PARAMS_MAX = 64 };

/* "order NONCE VERB LIMIT_MS", then one "key value" per line. Strings lie in the order's own text. */
struct order {
    const char *nonce, *verb;
    unsigned limit_ms;
    const char *keys[ORDER_PARAMS_MAX], *values[ORDER_PARAMS_MAX];
    size_t n;
};
/* Cuts `text` up. False when it is no order. */
bool order_parse(struct order *o, char *text);
/* A parameter; "" when the host did not give it. */
const char *order_text(const struct order *o, const char *key);
long order_number(const struct order *o, const char *key);

struct inside_attack {
    const char *id;
    void (*run)(const struct order *o);
};
/* The attacks of each family; an entry without a function ends the list. */
extern const struct inside_attack inside_network[], inside_engines[], inside_siblings[], inside_hostfs[],
    inside_privilege[], inside_kernel[], inside_resources[], inside_selfmod[], inside_keys[], inside_queues[],
    inside_ports[], inside_supply[], inside_cell[];

/* ---- tell.c: lines of the record, from the attack's process or any descendant ---- */
void tell_to(int fd);
/* An attempt. ret < 0: errno is recorded as well. */
void step(const char *name, long ret);
void stepf(const char *name, long ret, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void fact(const char *key, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void claim(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void proof(const char *name, const void *data, size_t len);

/* ---- main.c: for attempts that may kill or hang their process ---- */
/*
 * Runs fn(arg) in a child, at most `ms`. Returns its exit status, 128 + N if signal N killed it (124: it was
 * still running and was killed), -1 if there could be no child.
 */
int in_child(int (*fn)(void *arg), void *arg, unsigned ms);
/* Reads at most cap - 1 bytes of a file, with a NUL behind. Returns the count, -1 with errno. */
ssize_t slurp(const char *path, char *buf, size_t cap);
/* Opens and reads: one step "NAME", and a proof of what came. True if something could be read. */
bool try_read(const char *name, const char *path);
uint64_t now_ms(void);
/* Carries out the attack of that id in this process. False if there is none. */
bool inside_run(const char *id, const struct order *o);

/* ---- hold.c ---- */
/* Takes the secrets of the order ("memory", "file", "tmp", "shm", ...) and holds them. Answers with facts. */
void hold_start(const struct order *o);
/* Are they all there and unchanged, was anybody at the doors? Facts "intact" and "visits". */
void hold_check(void);
/* Where in its memory a secret lies: fact "address". */
void hold_where(void);

/* ---- queue.c ---- */
int queue_open(void);
/* Sends a request (JSON text) and reads its answer, malloc'ed; NULL when the connection is gone. */
char *queue_ask(int fd, const char *json, size_t len);
/* The string member `key` in `json`, unescaped and malloc'ed; NULL if it is not there. */
char *json_text(const char *json, const char *key);
long long json_number(const char *json, const char *key);
/* {"op":"append",...} with `text` escaped; malloc'ed. consumed 0: none. */
char *queue_append_request(const char *kind, const char *text, long long consumed);
