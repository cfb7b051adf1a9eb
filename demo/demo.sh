#!/usr/bin/env bash
# The main job, end to end, without a key or a network: a control plane, a sealed agent at work, its attempts to get out,
# its request for more rights, and the human who decides. Every line is checked; everything it starts is gone afterwards.
set -uo pipefail
root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
ironclaw=$root/out/ironclaw
wall=cell
case "${1:-}" in
--wall) wall=${2:?"--wall needs a name"} ;;
'') ;;
*) printf 'usage: %s [--wall cell|container|gvisor]\n' "$0" >&2; exit 2 ;;
esac
passed=0 failed=0 up=

state=$(mktemp -d /tmp/ironclaw-demo.XXXXXX) || exit 1
export IRONCLAW_STATE_DIR=$state/state IRONCLAW_TOKEN_FILE=$state/token
log=$state/up.log

if [ -t 1 ]; then bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'; else bold='' green='' red='' plain=''; fi
chapter() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }
ok() { passed=$((passed + 1)); printf '  %sok%s    %s\n' "$green" "$plain" "$1"; }
bad() { failed=$((failed + 1)); printf '  %sFAIL%s  %s\n' "$red" "$plain" "$1"; [ -z "${2:-}" ] || printf '%s\n' "$2" | head -n 12 | sed 's/^/          /'; }
# check WHAT CONDITION...: the condition is a command.
check() { local what=$1; shift; if "$@" >/dev/null 2>&1; then ok "$what"; else bad "$what"; fi; }
# expect WHAT PATTERN TEXT
expect() { if grep -qE -- "$2" <<<"$3"; then ok "$1"; else bad "$1 (expected /$2/)" "$3"; fi; }
# refuse WHAT PATTERN TEXT: the pattern must not be there, and the attempt must have been made (end marker).
refuse() {
    if ! grep -q 'attempt-made' <<<"$3"; then bad "$1 (the attempt was not made)" "$3"
    elif grep -qE -- "$2" <<<"$3"; then bad "$1" "$3"
    else ok "$1"; fi
}
say() { timeout 30 "$ironclaw" chat "$@" 2>&1; }
inside() { say "$1" "run: { $2; } 2>&1; echo attempt-made"; }

# shellcheck disable=SC2317,SC2329
finish() {
    if [ -n "$up" ] && kill -0 "$up" 2>/dev/null; then kill "$up"; wait "$up" 2>/dev/null; fi
    rm -rf "$state"
}
trap finish EXIT
trap 'exit 130' INT TERM

printf '%sIronClaw: an agent that nobody has to trust%s\n' "$bold" "$plain"

chapter "1. What this host can do"
doctor=$("$ironclaw" doctor 2>&1)
printf '%s\n' "$doctor" | sed 's/^/    /'
expect "the $wall wall is available" "wall $wall: available" "$doctor"

chapter "2. The control plane starts: separate, sealed processes"
"$ironclaw" up --state-dir "$IRONCLAW_STATE_DIR" >"$log" 2>&1 &
up=$!
for _ in $(seq 100); do grep -q 'ready on' "$log" && break; kill -0 "$up" 2>/dev/null || break; sleep 0.1; done
expect "the control plane is up" 'ready on' "$(cat "$log")"
bootstrap=$(grep -oE 'ict_[A-Za-z0-9_-]+' "$log" | head -n 1)
answer=$("$ironclaw" agent list 2>&1)
if [ $? -ne 0 ]; then ok "without a token nothing works: ${answer#ironclaw: }"; else bad "a call without a token was answered" "$answer"; fi
check "the one-time bootstrap token becomes an admin token" "$ironclaw" token bootstrap "$bootstrap"
if "$ironclaw" token bootstrap "$bootstrap" >/dev/null 2>&1; then bad "the bootstrap token worked twice"; else ok "it cannot be used a second time"; fi

chapter "3. An agent is created: held, then approved by a human"
created=$("$ironclaw" agent create coder --wall "$wall" --tools shell,read_file,write_file,list_files,request_change 2>&1)
printf '    %s\n' "$created"
change=$(grep -oE 'c-[0-9a-f]+' <<<"$created" | head -n 1)
expect "the new agent waits as a change" 'pending|held' "$created"
if say coder hello >/dev/null 2>&1; then bad "an unapproved agent answered"; else ok "until then it does not exist"; fi
check "a human approves it" "$ironclaw" change approve "$change"

chapter "4. A message, a tool, an answer"
answer=$(say coder "write: /workspace/plan.txt: sealed work")
expect "the agent writes a file in /workspace" 'plan.txt|wrote|bytes' "$answer"
answer=$(say coder "run: cat /workspace/plan.txt; echo; id -u; hostname")
printf '%s\n' "$answer" | sed 's/^/    /'
expect "the agent runs a tool there and answers" 'sealed work' "$answer"
expect "it runs as an unprivileged user" '^1000$' "$answer"
session=$("$ironclaw" session list --json 2>/dev/null | grep -oE 's-[0-9a-f]+' | head -n 1)

chapter "5. The agent asks for more: held until a human decides"
answer=$(say coder "need: ask_human: I would like to ask questions")
expect "the request is held" 'held|waits' "$answer"
pending=$("$ironclaw" change pending 2>&1)
printf '%s\n' "$pending" | sed 's/^/    /'
change=$(grep -oE 'c-[0-9a-f]+' <<<"$pending" | head -n 1)
shown=$("$ironclaw" change show "$change" 2>&1)
printf '%s\n' "$shown" | grep -E '^[ ]*[-+@]' | sed 's/^/    /'
expect "the difference is readable" '\+.*ask_human' "$shown"
tools=$("$ironclaw" agent show coder 2>&1)
if grep -q ask_human <<<"$tools"; then bad "the agent has the tool before anybody decided"; else ok "the agent does not have it yet"; fi
check "a human approves it" "$ironclaw" change approve "$change"
expect "now it has it" 'ask_human' "$("$ironclaw" agent show coder 2>&1)"

chapter "6. The agent tries to get out"
"$ironclaw" agent create sibling --wall "$wall" --tools shell,write_file --approve >/dev/null 2>&1
say sibling "write: /workspace/secret.txt: sibling-canary" >/dev/null
other=$("$ironclaw" session list --json 2>/dev/null | grep -oE 's-[0-9a-f]+' | sort -u | grep -v "^$session\$" | head -n 1)
printf 'host-canary\n' >"$state/host-file"
chmod 0644 "$state/host-file"
expect "its tools still work after the restart" 'sealed work' "$(inside coder 'cat /workspace/plan.txt')"
refuse "the network: only loopback, and nothing to connect to" 'eth|wlan|ens|connected-out' "$(inside coder 'cat /proc/net/dev; ip link; wget -T 3 -q -O- http://192.0.2.1/ && echo connected-out')"
refuse "the host's files" 'host-canary' "$(inside coder "cat $state/host-file /proc/1/root$state/host-file; find / -xdev -name host-file -exec cat {} +")"
refuse "the control plane's state directory" 'registry.db|audit.log' "$(inside coder "ls -la $IRONCLAW_STATE_DIR /proc/1/root$IRONCLAW_STATE_DIR; find / -xdev -name registry.db")"
refuse "another session's workspace" 'sibling-canary' "$(inside coder "cat /workspace/../$other/secret.txt $IRONCLAW_STATE_DIR/workspaces/$other/secret.txt; grep -r sibling-canar[y] / --exclude-dir=proc --exclude-dir=dev -s")"
refuse "another session's queue" 'inbound\.db|outbound\.db|sibling' "$(inside coder "ls /run/ironclaw; ls $IRONCLAW_STATE_DIR/sessions/$other; find / -xdev -name outbound.db; cat /proc/net/unix | grep $other")"
refuse "the vault's key" 'key-found|key-read|memory-read' "$(inside coder "find / -xdev -name master.key | grep -q . && echo key-found; cat $IRONCLAW_STATE_DIR/vault/master.key >/tmp/k && echo key-read; env >/tmp/e; tr '\\0' '\\n' </proc/1/environ | grep -vxFf /tmp/e && echo memory-read")"
refuse "root, capabilities, new namespaces" 'uid=0|CapEff:.*[1-9a-f]|unshare-worked' "$(inside coder 'grep Cap /proc/self/status; unshare -r id && echo unshare-worked; su -c id')"
refuse "the read-only root" 'root-written' "$(inside coder 'touch /usr/bin/x && echo root-written; mount -o remount,rw / && echo root-written')"
if find "$IRONCLAW_STATE_DIR" -name '*.db*' -exec grep -l 'sealed work' {} + | grep -q .; then bad "a message stands in the clear on disk"; else ok "on the host's disk no message stands in the clear"; fi

chapter "7. The audit trail"
audit=$("$ironclaw" audit verify 2>&1)
printf '    %s\n' "$audit"
expect "hash chain and signatures hold" '^ok' "$audit"
cp "$IRONCLAW_STATE_DIR/audit.log" "$state/forged.log" && sed -i '0,/coder/s//c0der/' "$state/forged.log"
forged=$("$ironclaw" audit verify --log "$state/forged.log" --public-key "$IRONCLAW_STATE_DIR/audit.pub" 2>&1)
expect "one changed letter is found" 'line [0-9]+' "$forged"

chapter "8. Nothing stays"
pids=$(pgrep -P "$up" | tr '\n' ' ')
kill "$up"
wait "$up"
check "the control plane stopped in order" test $? -eq 0
up=
left=0
for pid in $pids; do kill -0 "$pid" 2>/dev/null && left=$((left + 1)); done
check "its processes are gone" test "$left" -eq 0
check "no sandbox, mount or cgroup is left" test -z "$(find /sys/fs/cgroup -type d -path "*/ironclaw/$session-*" 2>/dev/null; grep -F "$state" /proc/self/mounts)"
rm -rf "$state"
check "no file is left" test ! -e "$state"

printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
