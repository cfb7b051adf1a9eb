/*
 * agent_document.h - what an agent is: the JSON document that the registry holds and changes propose.
 *
 *  {
 *    "name": "coder",                    // io_valid_name(); immutable
 *    "tenant": "default",
 *    "image": "base",
 *    "wall": "cell",
 *    "command": ["/usr/bin/ironclaw-agent"],   // default: the built-in agent
 *    "instructions": "You are ...",      // persona, at most 16 KiB
 *    "tools": ["shell","read_file"],     // of: shell read_file write_file list_files send_message ask_human
 * request_change "env": ["LANG=C.UTF-8", "TZ"],      // NAME=VALUE, or NAME if the configuration's
 * env_allowed has it "limits": {"memory": 268435456, "cpus": 1.0, "pids": 64},      // memory also as "256M"
 *    "provider": "mock", "model": "",
 *    "model_limits": {"requests_per_minute": 60, "concurrency": 4, "token_budget": 0},
 *    "mounts": [{"source":"/srv/data","target":"/data","mode":"ro"}],
 *    "peers": ["other-agent"]
 *  }
 *
 * Change kinds and the part of the document each may touch:
 *    agent.create (whole) · agent.update (anything but name, as merge patch) · agent.remove · tools
 * {"tools":[..]} · env {"env":[..]} · image {"image":".."} · wall {"wall":".."} · limits {"limits":{..}} ·
 *    provider {"provider","model","model_limits"} · mounts {"mounts":[..]} · peers {"peers":[..]} ·
 *    instructions {"instructions":".."}
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

/* Checks types, names and ranges and fills defaults from the configuration. Unknown keys are errors. Returns
 * a new normalised document or NULL with e naming the key. */
json_t *agent_document_normalise(const json_t *input, const json_t *config, struct err *e);
