#!/bin/sh
# Run a command under a kernel of its own with control groups of version 2: User Mode Linux, which is a program like any other.
#
#     tests/support/cgroup2.sh COMMAND...
#
# It sees this machine's files, read-only, but for an empty disk on /run and TMPDIR. The exit code is the command's.
set -eu

# The kernel starts this script again, as its first process.
if [ $$ = 1 ]; then
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mount /dev/ubda /run
    mkdir /run/host /run/home /dev/shm /dev/pts
    mount -t tmpfs tmpfs /dev/shm
    mount -t devpts devpts /dev/pts
    mount -t hostfs -o "$SCRATCH" hostfs /run/host
    for each in $(cat /sys/fs/cgroup/cgroup.controllers); do
        echo "+$each" >/sys/fs/cgroup/cgroup.subtree_control
    done
    export PATH TMPDIR=/run HOME=/run/home PYTHONDONTWRITEBYTECODE=1 CALLSTATS_REQUIRE_CGROUP2=1 CALLSTATS_TEST_PATIENCE=120
    cd "$FROM"
    # Each line is one word, whatever is in it.
    xargs -d '\n' -a /run/host/command sh -c '"$@"; echo $? >/run/host/code' sh </dev/null
    echo o >/proc/sysrq-trigger
    sleep 60
fi

linux=$(command -v linux.uml || ls build/cgroup2/usr/bin/linux.uml 2>/dev/null) || {
    echo "a kernel with control groups of version 2 needs User Mode Linux: apt-get install user-mode-linux, or without installing it:" >&2
    echo "    mkdir -p build/cgroup2 && cd build/cgroup2 && apt-get download user-mode-linux && dpkg -x user-mode-linux_*.deb ." >&2
    exit 1
}
scratch=$(mktemp -d -p /dev/shm)
trap 'rm -rf "$scratch"' EXIT
printf '%s\n' "$@" >"$scratch/command"
truncate -s 1G "$scratch/disk"
/sbin/mkfs.ext4 -q -F "$scratch/disk"
# The pipe keeps the kernel's hands off the terminal's settings.
"$linux" mem=2G root=none rootfstype=hostfs rootflags=/ ro loglevel=1 "init=$(realpath "$0")" "FROM=$PWD" "SCRATCH=$scratch" \
    "ubd0=$scratch/disk" "uml_dir=$scratch" con=null con0=null,fd:1 2>"$scratch/log" </dev/null | cat
[ -e "$scratch/code" ] || { cat "$scratch/log" >&2; exit 1; }
exit "$(cat "$scratch/code")"
