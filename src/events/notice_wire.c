#include <string.h>

#include "base/io.h"
#include "events/notice.h"

static void put_text(struct wire_out *o, const char *text, size_t max)
{
    wire_put_bytes(o, text ? text : "", text ? strnlen(text, max) : 0);
}

void notice_put(struct wire_out *o, enum event_type type, const char *session, const char *agent,
                const char *wall, uint64_t count, const union event_value *values)
{
    wire_put_u32(o, type);
    put_text(o, session, SESSION_ID_MAX);
    put_text(o, agent, AGENT_NAME_MAX);
    put_text(o, wall, NOTICE_WALL_MAX);
    wire_put_u64(o, count);
    for (unsigned i = 0; i < event_fields(type); i++) {
        if (event_kinds[type].fields[i].kind == EVENT_TEXT)
            put_text(o, values[i].text, EVENT_VALUE_MAX);
        else
            wire_put_u64(o, values[i].number);
    }
}

bool notice_get(struct wire_in *in, struct notice *n)
{
    uint32_t type = wire_get_u32(in);

    if (in->failed || type >= EVENT_TYPES)
        return false;
    n->type = (enum event_type)type;
    wire_get_str(in, n->session, sizeof(n->session));
    wire_get_str(in, n->agent, sizeof(n->agent));
    wire_get_str(in, n->wall, sizeof(n->wall));
    n->count = wire_get_u64(in);
    for (unsigned i = 0; i < event_fields(n->type); i++) {
        if (event_kinds[type].fields[i].kind == EVENT_TEXT) {
            wire_get_str(in, n->texts[i], sizeof(n->texts[i]));
            n->values[i].text = n->texts[i];
        } else {
            n->values[i].number = wire_get_u64(in);
        }
    }
    return !in->failed && n->count > 0 && (!n->session[0] || io_valid_name(n->session)) &&
           (!n->agent[0] || io_valid_name(n->agent));
}
