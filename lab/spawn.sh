#!/bin/sh
# Start a node's init outside of the caller's life, and note the pid of its parent.
# usage: spawn.sh PIDFILE NETNS PROGRAM [ARG]...
set -eu
echo $$ >"$1"
netns=$2
shift 2
exec nsenter --net="/run/netns/$netns" unshare --mount --uts --ipc --pid --fork --kill-child --propagation private "$@"
