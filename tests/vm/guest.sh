#!/bin/bash
# The guest's side of vmtest.sh: pid 1 of a machine with nothing but cgroup v2.
export PATH=/bin:/usr/bin HOME=/root
busybox=/bin/busybox
$busybox mount -t proc none /proc
$busybox mount -t sysfs none /sys
$busybox mount -t devtmpfs none /dev
$busybox mkdir -p /dev/pts /dev/shm
$busybox mount -t devpts none /dev/pts
$busybox mount -t tmpfs none /tmp
$busybox mount -t cgroup2 none /sys/fs/cgroup
$busybox ip link set lo up
ironclaw=/ironclaw/out/ironclaw
passed=0 failed=0
ok() { passed=$((passed + 1)); echo "  ok    $1"; }
bad() { failed=$((failed + 1)); echo "  FAIL  $1"; printf '%s\n' "$2" | head -n 5; }
expect() { if grep -qE -- "$2" <<<"$3"; then ok "$1"; else bad "$1 (expected /$2/)" "$3"; fi; }
status() { if [ "$2" -eq "$3" ]; then ok "$1"; else bad "$1 (expected status $2, got $3)" "$4"; fi; }

echo "== guest: $(uname -r)"
doctor=$($ironclaw doctor 2>&1)
expect "doctor finds cgroup v2 with all limits" 'cgroup v2; limits that can be enforced: memory cpu pids' "$doctor"
mkfifo=/tmp/wait; $busybox mkfifo $mkfifo
echo "+memory +pids +cpu" >/sys/fs/cgroup/cgroup.subtree_control
$busybox mkdir -p /tmp/nobody; $busybox chown 65534:65534 /tmp/nobody
as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/tmp/nobody IRONCLAW_STATE_DIR=/tmp/nobody/state "$@"; }

# Everything that a wall does with cgroup v2, as root and as somebody else.
check_wall() {
local wall=$1 delegated=/sys/fs/cgroup/delegated-$1
echo "-- wall $wall"
out=$($ironclaw run --wall "$wall" -- echo hello 2>&1); status "a sealed command runs" 0 $? "$out"
expect "and prints" '^hello$' "$out"
expect "without a warning" '^hello$' "$(printf '%s' "$out" | head -n 1)"

# Limits are looked at from outside while the sandbox waits.
$ironclaw run --wall "$wall" --memory 48M --cpus 0.5 --pids 20 -- sh -c 'read x; exit 0' <$mkfifo >/tmp/out 2>&1 &
run=$!
exec 9>$mkfifo
for _ in $(seq 100); do group=$(find /sys/fs/cgroup/ironclaw -maxdepth 1 -name 'run-*' | head -n 1); [ -n "$group" ] && [ -s "$group/cgroup.procs" ] && break; sleep 0.1; done
expect "memory.max" '^50331648$' "$(cat "$group/memory.max")"
expect "no swap" '^0$|No such file' "$(cat "$group/memory.swap.max" 2>&1)"
expect "a limit kills the whole group" '^1$' "$(cat "$group/memory.oom.group")"
expect "cpu.max" '^50000 100000$' "$(cat "$group/cpu.max")"
expect "pids.max" '^20$' "$(cat "$group/pids.max")"
exec 9>&-
wait $run
status "ended" 0 $? "$(cat /tmp/out)"
expect "the cgroup is gone" '^$' "$(find /sys/fs/cgroup/ironclaw -mindepth 1 -name 'run-*' -type d)"
out=$($ironclaw run --wall "$wall" --memory 24M -- sh -c 'x=$(head -c 60000000 /dev/zero | tr "\0" x); echo survived ${#x}' 2>&1); rc=$?
status "the memory limit kills" 137 $rc "$out"
expect "and says so" 'memory limit' "$out"
out=$($ironclaw run --wall "$wall" --pids 10 -- sh -c 'i=0; while [ $i -lt 30 ]; do sleep 1 & i=$((i+1)); done; echo never' 2>&1)
expect "the pids limit holds" "can't fork|Resource temporarily" "$out"
out=$($ironclaw run --wall "$wall" --timeout 2s -- sleep 100 2>&1); status "the timeout kills" 137 $? "$out"
expect "inside it is the only cgroup" '^0::/$' "$($ironclaw run --wall "$wall" -- cat /proc/self/cgroup)"

# Rootless on v2, without and with delegation.
out=$(as_nobody $ironclaw run --wall "$wall" -- id 2>&1); status "rootless runs" 0 $? "$out"
expect "and names what it lacks in one line" 'warning: rootless.*limit' "$out"
out=$(as_nobody $ironclaw run --wall "$wall" --memory 32M -- true 2>&1); status "a limit that cannot be enforced is an error" 125 $? "$out"
$busybox mkdir -p "$delegated"
$busybox chown -R 65534:65534 "$delegated"
out=$(echo $BASHPID >"$delegated"/cgroup.procs; as_nobody $ironclaw run --wall "$wall" --memory 32M --pids 16 --cpus 1 -- echo limited 2>&1)
expect "with a delegated cgroup it enforces them" '^limited$' "$out"

out=$(echo $BASHPID >"$delegated"/ironclaw.self/cgroup.procs; as_nobody $ironclaw run --wall "$wall" --memory 32M -- echo again 2>&1)
expect "a second time as well" '^again$' "$out"
expect "without nesting deeper" '^1$' "$(find "$delegated" -name ironclaw.self | wc -l)"

}
check_wall cell
check_wall container

# Ready cells are joined to a group of v2 before it is known what they run.
$ironclaw run --standby 1 >/tmp/standby 2>&1 &
server=$!
for _ in $(seq 100); do grep -q 'stands ready' /tmp/standby && break; sleep 0.1; done
expect "a cell stands ready" '^1 cell stands ready' "$(cat /tmp/standby)"
expect "in a group of its own" '/standby-[0-9]+$' "$(find /sys/fs/cgroup/ironclaw -maxdepth 1 -name 'standby-*')"
out=$($ironclaw run -- sh -c 'echo taken; exit 3' 2>&1); status "a run takes it" 3 $? "$out"
kill $server; wait $server
for _ in $(seq 100); do [ -z "$(find /sys/fs/cgroup/ironclaw -maxdepth 1 -name 'standby-*')" ] && break; sleep 0.1; done
expect "and nothing is left of it" '^$' "$(find /sys/fs/cgroup/ironclaw -maxdepth 1 -name 'standby-*')"

# A group that systemd delegated to root's own service.
$busybox mkdir -p /sys/fs/cgroup/service
setfattr -n trusted.delegate -v 1 /sys/fs/cgroup/service 2>/dev/null
(echo $BASHPID >/sys/fs/cgroup/service/cgroup.procs; exec $ironclaw run --memory 32M -- sh -c 'read x; exit 0' <$mkfifo) &
run=$!
exec 9>$mkfifo
for _ in $(seq 100); do group=$(find /sys/fs/cgroup/service -name 'run-*' | head -n 1); [ -n "$group" ] && break; sleep 0.1; done
expect "a delegated service keeps its sandboxes below its own group" '/sys/fs/cgroup/service/ironclaw/run-' "$group"
exec 9>&-
wait $run

echo "-- the demo"
out=$(bash /ironclaw/demo/demo.sh 2>&1)
status "the demo passes" 0 $? "$(grep -E 'FAIL|passed' <<<"$out")"
grep -E 'FAIL' <<<"$out"
echo "$passed passed, $failed failed"
echo "== end"
echo o >/proc/sysrq-trigger
sleep 5
