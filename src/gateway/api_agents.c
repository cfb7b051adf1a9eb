/*
 * api_agents.c - operations on agents and changes. Configuration is never written here: every operation that
 * alters an agent submits a change (202) for somebody to decide.
 *
 * agent: the document of agent_document.h and "revision". change: see change.h.
 */
#include <string.h>

#include "gateway/api.h"
#include "gateway/change.h"

static unsigned agents_list(struct api_call *c, json_t **reply, struct problem *p)
{
    bool truncated;
    json_t *agents = agent_list(c->h, &truncated, p);

    *reply = agents ? json_pack("{s:o,s:b}", "agents", agents, "truncated", (int)truncated) : NULL;
    return 200;
}

static unsigned agents_get(struct api_call *c, json_t **reply, struct problem *p)
{
    *reply = agent_get(c->h, c->subject, p);
    return 200;
}

static unsigned submit(struct api_call *c, const char *kind, const char *agent, const json_t *document,
                       const char *reason, json_t **reply, struct problem *p)
{
    char id[32];
    struct submitter by = {.id = id, .name = c->who.name};

    (void)snprintf(id, sizeof(id), "token:%s", c->who.id);
    *reply = change_submit(c->h, &by, kind, agent, document, reason, p);
    return 202;
}

static unsigned agents_create(struct api_call *c, json_t **reply, struct problem *p)
{
    const char *name = api_text(c, "name", NULL, p);

    return name ? submit(c, "agent.create", name, c->body, "", reply, p) : 0;
}

static unsigned agents_update(struct api_call *c, json_t **reply, struct problem *p)
{
    if (!c->body) {
        (void)problem_set(p, 400, "invalid", "the body must be a JSON merge patch of the agent's document");
        return 0;
    }
    return submit(c, "agent.update", c->subject, c->body, "", reply, p);
}

static unsigned agents_remove(struct api_call *c, json_t **reply, struct problem *p)
{
    json_t *none = json_object();
    unsigned status = submit(c, "agent.remove", c->subject, none, "", reply, p);

    json_decref(none);
    return status;
}

static unsigned changes_list(struct api_call *c, json_t **reply, struct problem *p)
{
    static const char *const states[] = {"pending", "refused", "rejected", "approved", "applied", "failed"};
    json_t *changes;
    uint64_t next;
    size_t i = 0;

    while (c->subject[0] && i < sizeof(states) / sizeof(states[0]) && strcmp(c->subject, states[i]) != 0)
        i++;
    if (i == sizeof(states) / sizeof(states[0])) {
        (void)problem_set(p, 400, "invalid",
                          "changes can be listed by pending, refused, rejected, approved, applied or failed");
        return 0;
    }
    changes = change_list(c->h, c->subject[0] ? c->subject : NULL, c->after, c->limit, &next, p);
    *reply = changes ? json_pack("{s:o,s:b}", "changes", changes, "truncated", (int)(next != 0)) : NULL;
    if (changes && next != 0)
        (void)json_object_set_new(*reply, "next", json_integer((json_int_t)next));
    return 200;
}

static unsigned changes_get(struct api_call *c, json_t **reply, struct problem *p)
{
    *reply = change_get(c->h, c->subject, true, p);
    return 200;
}

static unsigned changes_submit(struct api_call *c, json_t **reply, struct problem *p)
{
    const json_t *document = json_object_get(c->body, "document");
    const char *kind = api_text(c, "kind", NULL, p);
    const char *agent = kind ? api_text(c, "agent", NULL, p) : NULL;
    const char *reason = agent ? api_text(c, "reason", "", p) : NULL;
    unsigned status;
    json_t *none;

    if (!reason)
        return 0;
    none = json_object();
    status = submit(c, kind, agent, document ? document : none, reason, reply, p);
    json_decref(none);
    return status;
}

static unsigned decide(struct api_call *c, bool approve, json_t **reply, struct problem *p)
{
    const char *comment = api_text(c, "comment", "", p);

    if (!comment)
        return 0;
    *reply = change_decide(c->h, &c->who, c->subject, approve, comment, p);
    return 200;
}

static unsigned changes_approve(struct api_call *c, json_t **reply, struct problem *p)
{
    return decide(c, true, reply, p);
}

static unsigned changes_reject(struct api_call *c, json_t **reply, struct problem *p)
{
    return decide(c, false, reply, p);
}

const struct api_operation api_agent_operations[] = {
    {API_AGENT_LIST, "agent list", SCOPE_READ, agents_list},
    {API_AGENT_GET, "agent get", SCOPE_READ, agents_get},
    {API_AGENT_CREATE, "agent create", SCOPE_OPERATOR, agents_create},
    {API_AGENT_UPDATE, "agent update", SCOPE_OPERATOR, agents_update},
    {API_AGENT_REMOVE, "agent remove", SCOPE_OPERATOR, agents_remove},
    {API_CHANGE_LIST, "change list", SCOPE_READ, changes_list},
    {API_CHANGE_GET, "change get", SCOPE_READ, changes_get},
    {API_CHANGE_SUBMIT, "change submit", SCOPE_OPERATOR, changes_submit},
    {API_CHANGE_APPROVE, "change approve", SCOPE_ADMIN, changes_approve},
    {API_CHANGE_REJECT, "change reject", SCOPE_ADMIN, changes_reject},
    {0, NULL, SCOPE_NONE, NULL},
};
