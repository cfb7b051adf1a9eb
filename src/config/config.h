/*
 * config.h - the one YAML configuration file, checked, with defaults filled in, as canonical JSON.
 *
 * Unknown keys, wrong types and values out of range are errors with file, line and column. The default of
 * every switch is the closed one. The supervisor loads it once; the other processes get the JSON below. Every
 * key with its type, range and default is a row of schema.c (`ironclaw config reference` prints them).
 *
 *  {
 *    "state_dir": "/var/lib/ironclaw",            // 0700; --state-dir overrides
 *    "uid_base": 1879048192,                      // first of 2^24 host uids (root only)
 *    "listen": [{"address":"127.0.0.1","port":8443,     // default none
 *                "certificate":"/..pem","key":"/..pem"}],
 *    "api": {"rate_per_minute": 1200, "body_timeout_s": 10, "max_connections": 128},
 *    "four_eyes": false,
 *    "wall_minimum": "container",                 // weakest wall any agent may have
 *    "gvisor": {"runtime":"","platform":"auto"},  // OCI runtime; "": the runsc that is installed
 *    "limits_max": {"memory": 1073741824, "cpus": 2.0, "pids": 512},
 *    "limits_default": {"memory": 268435456, "cpus": 1.0, "pids": 64},
 *    "mounts_allowed": ["/srv/data"],             // host directories that agents may be given; default none
 *    "env_allowed": ["TZ"],                       // host variables an agent may take; default none
 *    "host_env": {"TZ":"UTC"},                    // their values, read by config_load(); not a key
 *    "providers": {                               // "mock" always exists; default: the first two
 *       "anthropic": {"kind":"anthropic","url":"https://api.anthropic.com"},
 *       "openai":    {"kind":"openai","url":"https://api.openai.com"},
 *       "local":     {"kind":"openai","url":"http://127.0.0.1:11434"}  // plain HTTP: loopback only
 *    },
 *    "provider_ca_file": "",                      // extra CA bundle for upstream TLS; default the system's
 *    "mock_script": "",                           // YAML file for the mock provider; default its own
 *    "tenants": {"default": {"wall_minimum":"container"}},
 *    "model_defaults": {"requests_per_minute":60,"concurrency":4,"token_budget":0},
 *    "events": {"ring":262144,"jsonl":"","jsonl_max_size":16777216,"syslog":""}  // docs/events.md; sinks:
 * none
 *  }
 */
#pragma once
#include <jansson.h>

#include "base/err.h"

/*
 * Loads `path` (NULL: all defaults). Returns a new reference (json_decref) or NULL with e:
 * "file:line:column: what is wrong". Reads the environment: IRONCLAW_STATE_DIR, HOME and
 * XDG_STATE_HOME for state_dir, the variables of env_allowed for host_env.
 */
json_t *config_load(const char *path, struct err *e);

/*
 * As config_load() from memory, without the environment: state_dir may be "" and host_env is empty. `name`
 * stands for the file in errors. The fuzz target's entry.
 */
json_t *config_parse(const char *text, size_t len, const char *name, struct err *e);

/*
 * Any YAML document as JSON (strings, numbers, booleans, null, lists, maps), duplicate keys and aliases
 * refused. Used for agent documents and mock scripts. JSON itself is accepted: it is YAML.
 */
json_t *config_yaml_to_json(const char *text, size_t len, const char *name, struct err *e);
