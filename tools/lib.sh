# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
# What the scripts of this directory share. Sourced, never run.

# The kernel series; the point release is whatever apt offers.
KERNEL_SERIES=${L2TP_KERNEL_SERIES:-7.3}
# Where the checkout and the kernel appear inside the root file system, in
# the build chroot and in the guest alike: paths end up in objects.
IN_SRC=/usr/src/l2tp
IN_KERNEL=/usr/src/kernel

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
CACHE=${L2TP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/l2tp}
ROOTFS=$CACHE/rootfs
KERNEL=$CACHE/kernel

say() { printf '%s\n' "$*" >&2; }
die() { say "${0##*/}: $*"; exit "${DIE_STATUS:-1}"; }

# Seconds since START (an $EPOCHREALTIME), one decimal.
elapsed() {
	local now=${EPOCHREALTIME/[.,]/} then=${1/[.,]/}

	printf '%d.%d' $(((now - then) / 1000000)) $(((now - then) / 100000 % 10))
}

# Runs PROGRAM[:NAME] of the root file system on this machine, without chroot,
# as NAME. Replaces the (sub)shell it is called in.
rootfs_exec() {
	local program=${1%%:*} name=${1#*:}

	shift
	exec "$ROOTFS/lib64/ld-linux-x86-64.so.2" --argv0 "$name" \
		--library-path "$ROOTFS/usr/lib/x86_64-linux-gnu" "$ROOTFS$program" "$@"
}
