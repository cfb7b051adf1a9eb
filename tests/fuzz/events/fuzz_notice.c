/* A notice as another process might send it, and the event made of it: one line of ASCII that is JSON. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "events/notice.h"
#include "events/syslog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wire_in in = wire_in_init(data, size);
    char detail[EVENT_DETAIL_MAX], line[EVENT_LINE_MAX], message[SYSLOG_MAX];
    struct notice n;
    json_t *doc;
    size_t len;

    if (!notice_get(&in, &n))
        return 0;
    struct event_head h = {.seq = 1,
                           .time_ms = n.count,
                           .type = n.type,
                           .session = n.session,
                           .agent = n.agent,
                           .wall = n.wall,
                           .count = n.count};
    (void)event_detail(n.type, n.values, detail);
    len = event_line(&h, detail, line);
    if (len != strlen(line) || len + 1 >= EVENT_LINE_MAX)
        abort();
    for (size_t i = 0; i < len; i++)
        if (line[i] < 0x20 || line[i] > 0x7e)
            abort();
    doc = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
    if (!doc || json_object_size(json_object_get(doc, "detail")) != event_fields(n.type))
        abort();
    json_decref(doc);
    if (syslog_message(n.type, n.count % 4102444800000ULL, "host", line, message) + 1 >= SYSLOG_MAX)
        abort();
    return 0;
}
