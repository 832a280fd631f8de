#!/bin/sh
# The first process of a node, in fresh mount, UTS and PID namespaces: gives the node a root of its own, says "ready",
# and becomes the node's init.
# usage: node_root.sh DIRECTORY HOSTNAME [ro|rw SOURCE TARGET]... -- PROGRAM [ARG]...
# Standard output is the driver's; it is closed when the node is ready.
set -eu
directory=$1 hostname=$2
shift 2
mount -t tmpfs -o mode=0755,size=256m tmpfs "$directory"
cd "$directory"
mkdir upper work root
mount -t overlay -o "lowerdir=/,upperdir=$directory/upper,workdir=$directory/work" overlay root
mount -t proc proc root/proc
mount -t sysfs sysfs root/sys
mount --bind /dev root/dev
mount -t tmpfs -o mode=1777 tmpfs root/dev/shm
mount -t tmpfs -o mode=0755 tmpfs root/run
mount -t tmpfs -o mode=1777 tmpfs root/tmp
# The node knows its own name and asks nobody: a query to the host's resolver would wait for its whole time limit.
printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 %s\n' "$hostname" >root/etc/hosts
rm -f root/etc/resolv.conf
: >root/etc/resolv.conf
while [ "$1" != -- ]; do
    mode=$1 source=$2 target=root$3
    shift 3
    if [ -d "$source" ]; then
        mkdir -p "$target"
    elif [ ! -e "$target" ]; then
        mkdir -p "${target%/*}"
        : >"$target"
    fi
    mount --bind "$source" "$target"
    [ "$mode" = rw ] || mount -o remount,bind,ro "$target"
done
shift
hostname "$hostname"
cd root
mkdir -p .host
pivot_root . .host
# With the host's mounts goes the last hold on network namespaces of other labs.
umount -l /.host
rmdir /.host
cd /
echo ready
exec "$@" </dev/null >&2
