#include "events/notice.h"

#include "proc/daemon.h"

static uint64_t lost; /* notices that nobody took, of this process */

static bool send_one(struct link *l, enum event_type type, const char *session, const char *agent,
                     const char *wall, uint64_t count, const union event_value *values)
{
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;

    notice_put(&o, type, session, agent, wall, count, values);
    return link_notify(l, EVENTS_NOTICE, &o, NULL, 0) == 0;
}

void event_note(struct daemon *d, enum event_type type, const char *session, const char *agent,
                const char *wall, uint64_t count, const union event_value *values)
{
    struct link *l = d ? d->links[PEER_EVENTS] : NULL;

    if (!l || link_backlog(l) > NOTICE_BACKLOG_MAX) {
        lost += count;
        return;
    }
    if (lost > 0) {
        const union event_value why[EVENT_FIELDS_MAX] = {{.text = "notices"}, {.text = peer_name(d->self)}};
        if (send_one(l, EVENT_DROPPED, "", "", "", lost, why))
            lost = 0;
    }
    if (!send_one(l, type, session, agent, wall, count, values))
        lost += count;
}
