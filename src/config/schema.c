#include "config/schema.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"

#define MIB   1048576.0
#define WALLS "container|cell|gvisor|microvm"

/* clang-format off */
const struct config_key config_keys[] = {
    {"", CONFIG_SECTION, 0, 0, NULL, "{}", "The document itself."},
    {"state_dir", CONFIG_PATH, 0, 0, NULL, "\"\"",
     "Directory (mode 0700) of keys, queues, registry and audit log; the default is `$IRONCLAW_STATE_DIR`, else `/var/lib/ironclaw` for root, else `$XDG_STATE_HOME/ironclaw` or `~/.local/state/ironclaw`."},
    {"uid_base", CONFIG_INT, 65536, 4278190079.0, NULL, "1879048192",
     "First of the 2^24 host uids that sessions and our processes use when started as root."},
    {"listen", CONFIG_LIST, 0, 8, NULL, "[]",
     "TCP listeners of the API, always with TLS; none by default."},
    {"listen[]", CONFIG_SECTION, 0, 0, NULL, NULL, "One listener."},
    {"listen[].address", CONFIG_IP, 0, 0, NULL, "\"127.0.0.1\"", "Numeric address to listen on."},
    {"listen[].port", CONFIG_INT, 1, 65535, NULL, "8443", "TCP port."},
    {"listen[].certificate", CONFIG_PATH, 0, 0, NULL, NULL, "Certificate chain, PEM."},
    {"listen[].key", CONFIG_PATH, 0, 0, NULL, NULL, "Private key of the certificate, PEM, readable by its owner only."},
    {"api", CONFIG_SECTION, 0, 0, NULL, "{}", "Limits of the HTTP API."},
    {"api.rate_per_minute", CONFIG_INT, 1, 1000000, NULL, "1200",
     "Requests a minute for each token; unauthenticated requests share one such budget per peer."},
    {"api.body_timeout_s", CONFIG_INT, 1, 300, NULL, "10",
     "Seconds a client has to send one whole request."},
    {"api.max_connections", CONFIG_INT, 4, 4096, NULL, "128",
     "Connections open at once, for each listener; further ones wait."},
    {"four_eyes", CONFIG_BOOL, 0, 0, NULL, "false",
     "Nobody may approve a change that they submitted themselves."},
    {"wall_minimum", CONFIG_CHOICE, 0, 0, WALLS, "\"container\"",
     "Weakest wall that any agent may have."},
    {"gvisor", CONFIG_SECTION, 0, 0, NULL, "{}", "The gvisor wall."},
    {"gvisor.runtime", CONFIG_PATH, 0, 0, NULL, "\"\"",
     "The OCI runtime that runs its bundles: runsc, or another such as runc or crun; by default the runsc that is installed."},
    {"gvisor.platform", CONFIG_CHOICE, 0, 0, "auto|kvm|systrap|ptrace", "\"auto\"",
     "How runsc catches system calls; `auto` tries each with a time limit, best first."},
    {"limits_max", CONFIG_SECTION, 0, 0, NULL, "{}", "Most that one sandbox may be given."},
    {"limits_max.memory", CONFIG_SIZE, 4 * MIB, 16777216 * MIB, NULL, "1073741824", "Memory in bytes."},
    {"limits_max.cpus", CONFIG_NUMBER, 0.01, 1024, NULL, "2.0", "Processors; fractions are allowed."},
    {"limits_max.pids", CONFIG_INT, 4, 1048576, NULL, "512", "Processes and threads."},
    {"limits_default", CONFIG_SECTION, 0, 0, NULL, "{}", "What a sandbox gets when its agent does not say."},
    {"limits_default.memory", CONFIG_SIZE, 4 * MIB, 16777216 * MIB, NULL, "268435456", "Memory in bytes."},
    {"limits_default.cpus", CONFIG_NUMBER, 0.01, 1024, NULL, "1.0", "Processors; fractions are allowed."},
    {"limits_default.pids", CONFIG_INT, 4, 1048576, NULL, "64", "Processes and threads."},
    {"mounts_allowed", CONFIG_LIST, 0, 256, NULL, "[]",
     "Host directories that agents may be given (an approved change still decides which agent); none by default."},
    {"mounts_allowed[]", CONFIG_PATH, 0, 0, NULL, NULL, "One directory; what lies below it is included."},
    {"env_allowed", CONFIG_LIST, 0, 256, NULL, "[]",
     "Host environment variables that an agent's `env` may take by name; none by default."},
    {"env_allowed[]", CONFIG_ENV, 0, 0, NULL, NULL, "One variable."},
    {"providers", CONFIG_NAMED, 0, 64, NULL,
     "{\"anthropic\":{\"kind\":\"anthropic\",\"url\":\"https://api.anthropic.com\"},\"openai\":{\"kind\":\"openai\",\"url\":\"https://api.openai.com\"}}",
     "Model providers by name, added to the two defaults; `mock` always exists and cannot be redefined."},
    {"providers.*", CONFIG_SECTION, 0, 0, NULL, NULL, "One provider."},
    {"providers.*.kind", CONFIG_CHOICE, 0, 0, "anthropic|openai", NULL, "The protocol it speaks."},
    {"providers.*.url", CONFIG_URL, 0, 0, NULL, NULL,
     "Its base URL: `https://`, or `http://` to a loopback address only."},
    {"provider_ca_file", CONFIG_PATH, 0, 0, NULL, "\"\"",
     "Extra CA bundle (PEM) for upstream TLS; by default only the system's."},
    {"mock_script", CONFIG_PATH, 0, 0, NULL, "\"\"",
     "YAML file with the answers of the `mock` provider; by default its built-in behaviour."},
    {"tenants", CONFIG_NAMED, 0, 256, NULL, "{\"default\":{\"wall_minimum\":\"container\"}}",
     "Tenants by name; `default` always exists."},
    {"tenants.*", CONFIG_SECTION, 0, 0, NULL, "{}", "One tenant."},
    {"tenants.*.wall_minimum", CONFIG_CHOICE, 0, 0, WALLS, "\"container\"",
     "Weakest wall for its agents; the global `wall_minimum` holds as well."},
    {"model_defaults", CONFIG_SECTION, 0, 0, NULL, "{}",
     "Limits of a session at the model port when its agent does not say."},
    {"model_defaults.requests_per_minute", CONFIG_INT, 0, 1000000, NULL, "60", "Calls a minute; 0 is no limit."},
    {"model_defaults.concurrency", CONFIG_INT, 1, 256, NULL, "4", "Calls at the same time."},
    {"model_defaults.token_budget", CONFIG_INT, 0, 1e15, NULL, "0", "Tokens in total; 0 is no limit."},
    {"events", CONFIG_SECTION, 0, 0, NULL, "{}", "The event stream (docs/events.md)."},
    {"events.ring", CONFIG_SIZE, 16384, 64 * MIB, NULL, "262144",
     "Bytes of memory for the newest events; a sink or a reader that falls further behind loses some."},
    {"events.jsonl", CONFIG_PATH, 0, 0, NULL, "\"\"", "File to append events to, one JSON object a line; none by default."},
    {"events.jsonl_max_size", CONFIG_SIZE, 4096, 1048576 * MIB, NULL, "16777216",
     "Size at which that file is moved to the same name with `.1` added, replacing an older one."},
    {"events.syslog", CONFIG_SYSLOG, 0, 0, NULL, "\"\"", "Syslog daemon that gets events (RFC 5424); none by default."},
};
/* clang-format on */
const size_t config_nkeys = ARRAY_LEN(config_keys);

const struct config_key *config_key_find(const char *path)
{
    for (size_t i = 0; i < config_nkeys; i++)
        if (!strcmp(config_keys[i].path, path))
            return &config_keys[i];
    return NULL;
}

static const char *const type_names[] = {
    [CONFIG_SECTION] = "map",
    [CONFIG_NAMED] = "map of names",
    [CONFIG_LIST] = "list",
    [CONFIG_BOOL] = "true or false",
    [CONFIG_INT] = "integer",
    [CONFIG_NUMBER] = "number",
    [CONFIG_SIZE] = "size",
    [CONFIG_TEXT] = "text",
    [CONFIG_PATH] = "absolute path",
    [CONFIG_CHOICE] = "one of",
    [CONFIG_ENV] = "variable name",
    [CONFIG_IP] = "IP address",
    [CONFIG_URL] = "URL",
    [CONFIG_SYSLOG] = "`unix:/PATH` or `udp:ADDRESS:PORT`",
};

char *config_key_row(const struct config_key *k)
{
    CLEANUP_FREE char *range = x_strdup("");

    if (k->type == CONFIG_INT || k->type == CONFIG_NUMBER || k->type == CONFIG_SIZE) {
        free(range);
        range = x_asprintf(" %.15g to %.15g", k->min, k->max);
    } else if (k->type == CONFIG_CHOICE) {
        free(range);
        range = x_asprintf(" %s", k->choices);
        for (char *p = range; *p; p++)
            if (*p == '|')
                *p = ' ';
    } else if (k->type == CONFIG_LIST || k->type == CONFIG_NAMED) {
        free(range);
        range = x_asprintf(", at most %.0f", k->max);
    }
    return x_asprintf("| `%s` | %s%s | %s%s%s | %s |", k->path, type_names[k->type], range, k->def ? "`" : "",
                      k->def ? k->def : "required", k->def ? "`" : "", k->doc);
}
