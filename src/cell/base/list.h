/*
 * list.h - a ring of nodes embedded in what they link; an empty list is a head that points to itself.
 */
#pragma once
#include "cell/base/types.h"

struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_insert_(struct list *node, struct list *prev, struct list *next)
{
    node->prev = prev;
    node->next = next;
    prev->next = node;
    next->prev = node;
}

static inline void list_add_tail(struct list *head, struct list *node)
{
    list_insert_(node, head->prev, head);
}

static inline void list_add(struct list *head, struct list *node)
{
    list_insert_(node, head, head->next);
}

/* The node is an empty list of its own afterwards: deleting it again does nothing. */
static inline void list_del(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

// NOLINTBEGIN(bugprone-macro-parentheses): names of variables and types
#define list_entry(p, type, member) container_of(p, type, member)
#define list_for_each(pos, head)    for (struct list *pos = (head)->next; pos != (head); pos = pos->next)
/* The current node may be deleted. */
#define list_for_each_safe(pos, head)                                                                        \
    for (struct list *pos = (head)->next, *next_##pos = pos->next; pos != (head);                            \
         pos = next_##pos, next_##pos = pos->next)
// NOLINTEND(bugprone-macro-parentheses)
