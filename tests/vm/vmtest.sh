#!/usr/bin/env bash
# Boots a distribution kernel under QEMU (TCG, no hardware virtualisation needed) with the release binaries in its
# initramfs, and runs the checks of guest.sh there: pure cgroup v2, a kernel that is not this host's.
set -euo pipefail
root=$(dirname "$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")")
work=$root/build/vm
mkdir -p "$work"
cd "$work"

# The kernel: taken out of its package, not installed here.
if [ ! -f vmlinuz ]; then
    meta=linux-image-cloud-amd64
    apt-cache show "$meta" >/dev/null 2>&1 || meta=linux-image-virtual
    package=$(apt-cache depends "$meta" | awk '/Depends: linux-image-[0-9]/ {print $2; exit}')
    apt-get download -qq "$package" 2>/dev/null
    rm -rf kernel && mkdir kernel
    dpkg-deb -x "$package"_*.deb kernel
    cp kernel/boot/vmlinuz-* vmlinuz
    rm -rf kernel "$package"_*.deb
fi

# The initramfs: our binaries, what the demo needs, and their libraries.
rm -rf tree
mkdir -p tree/{bin,dev,proc,sys,tmp,run,etc,root,var/lib,usr/bin,lib64}
ln -s /bin tree/sbin
programs=(bash cat chmod cp date dirname find grep head id kill ls mkdir mktemp mount mv ps pgrep readlink rm sed seq setfattr setpriv sleep sort stat tail
    timeout touch tr umount uname wc xargs env true false nproc mkfs.erofs)
copy_libs() {
    ldd "$1" 2>/dev/null | grep -oE '/[^ ]+' | while read -r lib; do
        [ -e "tree$lib" ] || { mkdir -p "tree$(dirname "$lib")"; cp -L "$lib" "tree$lib"; }
    done || true # a static program has none
}
for p in "${programs[@]}"; do
    path=$(command -v "$p") || continue
    [ -x "$path" ] && cp -L "$path" tree/bin/ && copy_libs "$path"
done
busybox=$(command -v busybox)
cp -L "$busybox" tree/bin/busybox
mkdir -p tree/ironclaw/out tree/ironclaw/demo
cp -r "$root/out/." tree/ironclaw/out/
for b in tree/ironclaw/out/libexec/ironclaw/*; do copy_libs "$b"; done
cp "$root/demo/demo.sh" tree/ironclaw/demo/
cp "$root/tests/vm/guest.sh" tree/guest.sh
printf 'root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/tmp:/bin/bash\n' >tree/etc/passwd
printf 'root:x:0:\nnogroup:x:65534:\n' >tree/etc/group
cat >tree/init <<'INIT'
#!/bin/busybox sh
# pivot_root cannot leave the initial ramfs: move to a tmpfs first.
/bin/busybox mount -t tmpfs -o mode=0755 none /run
for d in bin dev etc guest.sh ironclaw lib lib64 proc root sbin sys tmp usr var; do
    [ -e "/$d" ] && /bin/busybox cp -a "/$d" /run/
done
/bin/busybox mkdir -p /run/run
exec /bin/busybox switch_root /run /bin/bash /guest.sh
INIT
chmod +x tree/init tree/guest.sh
(cd tree && find . | cpio --quiet -o -H newc | gzip -1) >initramfs.gz

timeout 600 qemu-system-x86_64 -accel tcg -cpu max -m 1536 -smp 2 -nographic -no-reboot -kernel vmlinuz -initrd initramfs.gz \
    -append "console=ttyS0 quiet panic=-1 cgroup_no_v1=all lsm=landlock,lockdown,yama,apparmor" </dev/null | tee console.log | tr -d '\r' | sed -n '/== guest/,/^== end/p'
grep -aqE '^[0-9]+ passed, 0 failed' <(tr -d '\r' <console.log | tail -n 40) || { echo "vmtest: failed (console in build/vm/console.log)"; tail -n 15 console.log; exit 1; }
