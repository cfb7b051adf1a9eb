"""The parts of the OCI runtime specification (config.md, config-linux.md) that our bundles use, as a JSON schema. Strict: a property that
is not listed here is an error, so that a misspelt one cannot be ignored silently by a runtime."""

STRINGS = {"type": "array", "items": {"type": "string"}}
PATHS = {"type": "array", "items": {"type": "string", "pattern": "^/"}}
UINT32 = {"type": "integer", "minimum": 0, "maximum": 4294967295}
CAPABILITIES = {"type": "array", "items": {"type": "string", "pattern": "^CAP_[A-Z_]+$"}}


def record(required, **properties):
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


MAPPING = {"type": "array", "items": record(["containerID", "hostID", "size"], containerID=UINT32, hostID=UINT32, size=UINT32)}
SYSCALL = record(["names", "action"], names={"type": "array", "minItems": 1, "items": {"type": "string", "pattern": "^[a-z0-9_]+$"}},
                 action={"enum": ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"]}, errnoRet=UINT32,
                 args={"type": "array", "items": record(
                     ["index", "value", "op"], index={"type": "integer", "minimum": 0, "maximum": 5},
                     value={"type": "integer", "minimum": 0, "maximum": 2**64 - 1}, valueTwo={"type": "integer", "minimum": 0, "maximum": 2**64 - 1},
                     op={"enum": ["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"]})})

CONFIG = record(
    ["ociVersion", "process", "root", "mounts", "linux"],
    ociVersion={"type": "string", "pattern": r"^1\.\d+\.\d+"},
    hostname={"type": "string"},
    root=record(["path"], path={"type": "string"}, readonly={"type": "boolean"}),
    process=record(
        ["cwd", "args", "user"],
        terminal={"type": "boolean"}, cwd={"type": "string", "pattern": "^/"}, args={**STRINGS, "minItems": 1},
        env={"type": "array", "items": {"type": "string", "pattern": "="}}, noNewPrivileges={"type": "boolean"},
        user=record(["uid", "gid"], uid=UINT32, gid=UINT32, umask=UINT32, additionalGids={"type": "array", "items": UINT32}),
        capabilities=record([], bounding=CAPABILITIES, effective=CAPABILITIES, inheritable=CAPABILITIES, permitted=CAPABILITIES, ambient=CAPABILITIES),
        rlimits={"type": "array", "items": record(["type", "soft", "hard"], type={"type": "string", "pattern": "^RLIMIT_[A-Z]+$"},
                                                  soft={"type": "integer", "minimum": 0}, hard={"type": "integer", "minimum": 0})}),
    mounts={"type": "array", "items": record(["destination"], destination={"type": "string", "pattern": "^/"}, type={"type": "string"},
                                             source={"type": "string"}, options=STRINGS)},
    linux=record(
        [],
        namespaces={"type": "array", "items": record(["type"], path={"type": "string"},
                                                     type={"enum": ["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"]})},
        uidMappings=MAPPING, gidMappings=MAPPING, maskedPaths=PATHS, readonlyPaths=PATHS,
        rootfsPropagation={"enum": ["private", "shared", "slave", "unbindable"]},
        resources=record([], memory=record([], limit={"type": "integer"}, swap={"type": "integer"}),
                         cpu=record([], quota={"type": "integer"}, period={"type": "integer", "minimum": 1}), pids=record(["limit"], limit={"type": "integer"})),
        seccomp=record(["defaultAction"], defaultAction={"enum": ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"]}, defaultErrnoRet=UINT32,
                       architectures={"type": "array", "items": {"type": "string", "pattern": "^SCMP_ARCH_[A-Z0-9_]+$"}},
                       syscalls={"type": "array", "items": SYSCALL})))
