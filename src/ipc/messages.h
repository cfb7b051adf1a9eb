/*
 * messages.h - every request that may cross between two processes of the control plane, and its fields in
 * order.
 *
 * Field notation: str (wire string), bytes, u8, u32, u64. "-> ..." is the reply. "notice" has no reply.
 * `session` is always a session id (io_valid_name, at most SESSION_ID_MAX characters).
 * Replies that can fail start with `u32 errno, str text`: errno 0 means success.
 */
#pragma once

enum peer {
    PEER_SUPERVISOR,
    PEER_API,        /* HTTP; holds no key, launches nothing */
    PEER_VAULT,      /* keys, queues, audit, gateway (tokens, registry, changes, sessions) */
    PEER_LAUNCHER,   /* walls; parses nothing from a sandbox */
    PEER_MODELPROXY, /* serves the model port to sandboxes; holds no key */
    PEER_UPSTREAM,   /* talks to providers; holds their keys; started on demand */
    PEER_EVENTS,     /* the event stream; answers refused system calls; holds no key, opens nothing */
    PEER_COUNT
};

enum {
    SESSION_ID_MAX = 40,       /* "s-" + 16 hex digits today */
    AGENT_NAME_MAX = 63,       /* io_valid_name() */
    MESSAGE_MAX = 256 * 1024,  /* one chat message, one queue frame, in bytes */
    API_BODY_MAX = 320 * 1024, /* one HTTP request body: a JSON-escaped message */
    TOKEN_TEXT_MAX = 128,
    PROVIDER_KEY_MAX = 4096,
    MODEL_BODY_MAX = 16 << 20, /* one request to the model port, in bytes */
};

/* ---- supervisor -> child (notices)
 * ------------------------------------------------------------------------- */
enum {
    CTL_LINK = 1, /* u32 peer; 1 fd: a fresh SOCK_SEQPACKET end to that peer (sent again whenever the peer was
                     restarted) */
    CTL_STOP,     /* -: finish what is acknowledged, then exit 0 */
    /* child -> supervisor (notices) */
    CTL_READY,  /* -: sealed and serving */
    CTL_WANT,   /* u32 peer: start it, if it is a process on demand and not running (modelproxy asks for
                   upstream) */
    CTL_NOTICE, /* str text: one line for the operator's terminal, printed on stdout (the bootstrap token) */
    /* events only: u32 sink (enum event_sink), u8 rotate (the file is full: keep it as PATH.1, begin a new
     * one)
     * -> u32 errno, str text; on success 1 fd to write to */
    CTL_SINK,
};

enum event_sink { EVENT_SINK_JSONL, EVENT_SINK_SYSLOG, EVENT_SINKS };

/* Why events were dropped; the first are the sinks. */
enum event_drop {
    DROP_JSONL,
    DROP_SYSLOG,
    DROP_BURST,    /* too many kinds within a second */
    DROP_NOTICES,  /* nobody took them: the events process was away or slow */
    DROP_LISTENER, /* sandboxes whose listener was lost with a process */
    DROPS
};

/* ---- api -> vault: one layout for every API operation
 * ------------------------------------------------------ */
/*
 * Request:  str token, str subject, u64 after, u32 limit, u32 wait_ms, bytes body (JSON text or empty)
 * Reply:    u32 http_status, bytes body (JSON text; an error is {"error":{"code","message"}})
 * The vault checks the token and its scope itself; api has no say in it. `subject` is the id or name in the
 * path. Streaming operations (API_SESSION_STREAM) reply with more = true for every event, each a JSON object.
 */
enum {
    API_BOOTSTRAP = 100, /* body {"token","name"} -> 201 {"id","token","scope":"admin"} */
    API_WHOAMI,          /* -> 200 {"id","name","scope"} */
    API_READY,           /* no token -> 200 {"ready":bool,"bootstrapped":bool} */
    API_METRICS,         /* read scope -> 200 {"text": "<Prometheus exposition format>"} */
    API_TOKEN_LIST,
    API_TOKEN_CREATE, /* body {"name","scope","expires_s"?} -> 201 {"id","token",...}: the only time the token
                         is shown */
    API_TOKEN_REVOKE, /* subject = token id -> 204 */
    API_AGENT_LIST,
    API_AGENT_GET,      /* subject = agent name */
    API_AGENT_CREATE,   /* body = agent document -> 202 change */
    API_AGENT_UPDATE,   /* subject, body = JSON merge patch (RFC 7396) of the agent document -> 202 change */
    API_AGENT_REMOVE,   /* subject -> 202 change */
    API_SESSION_LIST,   /* subject "" or an agent name */
    API_SESSION_GET,    /* subject = session id */
    API_SESSION_CREATE, /* body {"agent"} -> 201 {"id",...}; the sandbox is started */
    API_SESSION_STOP,   /* subject -> 200; sandbox ended, data kept; the next message starts it again */
    API_SESSION_REMOVE, /* subject -> 204; sandbox, queues, key and workspace are gone */
    API_SESSION_LOGS,   /* subject -> 200 {"text"}: the tail of what the sandbox wrote to stdout/stderr */
    API_SESSION_STATS,  /* subject -> 200 {"memory_bytes","cpu_us","pids"} */
    API_MESSAGE_SEND,   /* subject = session; body {"text","idempotency_key"?} -> 201 {"seq"}, once durable */
    API_MESSAGE_LIST,   /* subject; after, limit, wait_ms (long poll, at most 60 s) -> 200
                           {"messages":[...],"last":n} outbound records */
    API_HISTORY,        /* subject; after (a time in ms), limit -> 200
                           {"records":[{"direction","seq","kind","text","time"}]}: the newest of both directions */
    API_SESSION_STREAM, /* subject; after -> 200, one reply per event
                           {"event":"message|delta|state","data":{...}}; ends when api forgets or the session
                           is removed */
    API_STREAM_CANCEL,  /* notice: body empty, subject = decimal id of the streaming call */
    API_CHANGE_LIST,    /* subject "" | "pending"; after, limit; newest first */
    API_CHANGE_GET,     /* subject = change id; includes "diff" (unified, readable) */
    API_CHANGE_SUBMIT,  /* body {"kind","agent","document","reason"} -> 202 change */
    API_CHANGE_APPROVE, /* subject; body {"comment"?} -> 200 change; idempotent */
    API_CHANGE_REJECT,
    API_AUDIT_LIST,  /* after, limit -> 200 {"records":[...]} */
    API_AUDIT_KEY,   /* -> 200 {"public_key": hex Ed25519} */
    API_REPORT_SIGN, /* body {"digest": hex BLAKE2b-256 of a containment report} -> 200
                        {"public_key","signature"}: hex Ed25519 with the audit key, over a text of its own
                        kind (vault/report_format.h) */
    API_SEALING_KEY, /* -> 200 {"public_key": base64 X25519}: for crypto_box_seal of provider keys in the
                        client */
    API_PROVIDER_LIST,
    API_PROVIDER_SET, /* subject = provider name, body {"sealed_key": base64 of crypto_box_seal(key)} -> 204;
                         api never sees the key */
    API_PROVIDER_REMOVE, /* subject -> 204 */
    API_IMAGE_LIST,      /* -> 200 {"images":[{"name",...}]} */
    API_EVENT_LIST,      /* subject "" or a session; after, limit -> 200 {"events":[...],"last":n} */
    API_EVENT_STREAM,    /* the same from then on: one reply per event {"event":"event","data":{...}} */
    API_LAST
};

/* ---- vault -> launcher
 * ------------------------------------------------------------------------------------- */
enum {
    /*
     * str session, u32 uid_index (stable per session; the launcher adds its uid base), bytes spec (JSON, the
     * resolved sandbox spec below) -> u32 errno, str text; on success 4 fds: listening sockets made inside
     * the sandbox before any untrusted code ran: queue (unix), queue (TCP on the sandbox's own loopback),
     * model (unix), model (TCP). Spec:
     * {"agent","wall","image","command":[..],"env":["N=V"..],"memory":bytes,"cpus":number,"pids":n,
     *        "mounts":[{"source","target","mode":"ro|rw"}]}
     */
    LAUNCH_START = 200,
    LAUNCH_STOP, /* str session, u32 grace_ms (SIGTERM, then SIGKILL) -> u32 errno, str text, once everything
                    is gone */
    LAUNCH_REMOVE, /* str session -> u32 errno, str text: stops and deletes the workspace */
    LAUNCH_STATS,  /* str session -> u32 errno, str text, u64 memory_bytes, u64 cpu_us, u64 pids */
    LAUNCH_LOGS,   /* str session -> u32 errno, str text, bytes tail (at most 64 KiB) */
    LAUNCH_IMAGES, /* -> bytes JSON array of {"name","bytes"} */
    LAUNCH_PROBE,  /* -> bytes JSON array of {"wall","available":bool,"missing":str}: what this host can do */
    /* launcher -> vault */
    LAUNCH_EXITED, /* notice: str session, u32 code (0-255, 128+n if killed by signal n), str reason
                      ("exited","killed","oom","stopped") */
};

/* ---- vault -> modelproxy
 * ----------------------------------------------------------------------------------- */
enum {
    /* str session, str provider, str model ("" = whatever the client names), u32 requests_per_minute (0 = no
     * limit), u32 concurrency, u64 token_budget (0 = none), u64 tokens_used so far; 2 fds: model unix, model
     * TCP -> u32 errno, str text */
    PROXY_SESSION = 300,
    PROXY_END, /* notice: str session: close its listeners and connections */
    /* modelproxy -> vault */
    PROXY_CALL, /* notice, one per call, allowed or not: str session, str provider, str method, str path, u32
                 * status, u64 input_tokens, u64 output_tokens, u64 duration_ms, str outcome
                 * ("ok","rate","budget","path","upstream",...) */
};

/* ---- modelproxy -> upstream
 * -------------------------------------------------------------------------------- */
enum {
    /* str provider, str method, str path (canonical, from the allowlist), str content_type, str accept, str
     * extra
     * ("name: value\n" lines of allowlisted headers); 1 fd: sealed memfd with the body
     * -> several replies, u8 kind first: 'H' u32 status, str content_type, str extra ("name: value\n"
     * lines: request id, retry-after) | 'D' bytes (redacted) | 'E' u32 errno, str text (last) */
    UP_REQUEST = 400,
    UP_CANCEL, /* notice: u64 call id: the client went away */
    UP_PAUSE,  /* notice: u64 call id, u8 paused: back-pressure */
    /* upstream -> vault */
    UP_KEY, /* str provider -> u32 errno, str text, bytes key */
    /* vault -> upstream */
    UP_FORGET, /* notice: str provider: its key was replaced or removed; the next request asks for it again */
};

/* ---- to and from events
 * ------------------------------------------------------------------------------------ */
enum {
    /* launcher, vault -> events: notice: u32 type (enum event_type), str session, str agent, str wall, u64
     * count, then the values of that type (events/event.c): a str or a u64 each */
    EVENTS_NOTICE = 500,
    /* launcher -> events: notice: str session, str agent, str wall, u8 again (it ran before the events
     * process was restarted); 1 fd: the listener of its filter (events/listener.h), or none */
    EVENTS_SANDBOX,
    /* vault -> events: u64 after, u32 limit, u32 wait_ms (answer as soon as there is something), str session
     * ("": any)
     * -> u64 last (read on from here), u32 count, bytes lines (one event a line, each ended by a newline) */
    EVENTS_READ,
    /* events -> vault: notice, when they changed: u64 events, u64 evicted from the ring, u64 dropped for each
     * of enum event_drop */
    EVENTS_COUNTERS,
};
