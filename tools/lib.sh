# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
# What the scripts of this directory share. Sourced, never run.

# The kernel series; the point release is whatever apt offers.
KERNEL_SERIES=${L2TP_KERNEL_SERIES:-7.3}
# Debian's flavour of it: amd64, or cloud-amd64, which has no PPP.
KERNEL_FLAVOUR=${L2TP_KERNEL_FLAVOUR:-amd64}
# Where the checkout, the kernel and the cache appear inside the root file
# system, in the build chroot and in the guest alike: paths end up in objects.
IN_SRC=/usr/src/l2tp
IN_KERNEL=${L2TP_IN_KERNEL:-/usr/src/kernel}
IN_CACHE=/usr/src/cache
IN_DEBUG=/usr/src/debug

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
CACHE=${L2TP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/l2tp}
# Everything in the cache is named by a hash of what it was made from, so what
# exists is right, and checkouts of different age share a cache.
key_of() {
	local sum

	sum=$(sha256sum)
	printf '%s' "${sum:0:12}"
}
# DKMS has this machine's.
ROOTFS=${L2TP_ROOTFS:-$CACHE/rootfs-$(cat "$TOP/tools/packages" "$TOP/tools/setup-rootfs" | key_of)}
kernel_of() {
	echo "$CACHE/kernel-$KERNEL_SERIES-$1-$({ basename "$ROOTFS"; cat "$TOP/tools/setup-kernel"; } | key_of)"
}
KERNEL=$(kernel_of "$KERNEL_FLAVOUR")

# The kernels of our own: debug and kcsan with instruments, native without. There must be a KERNEL,
# whose source they are made from.
instrumented_kernel() {
	local made_of=("$KERNEL/version" "$TOP/tools/setup-$1" "$TOP/tools/$1.config")

	made_of+=("$TOP/tools/$(if [ "$1" = kcsan ]; then echo kcsan.patch; else echo uml.config; fi)")
	echo "$CACHE/$1-$({ basename "$KERNEL"; cat "${made_of[@]}"; } | key_of)"
}

say() { printf '%s\n' "$*" >&2; }
die() { say "${0##*/}: $*"; exit "${DIE_STATUS:-1}"; }

# Seconds since START (an $EPOCHREALTIME), one decimal.
elapsed() {
	local now=${EPOCHREALTIME/[.,]/} then=${1/[.,]/}

	printf '%d.%d' $(((now - then) / 1000000)) $(((now - then) / 100000 % 10))
}

is_ready() { [ -e "$ROOTFS.img" ] && [ -e "$KERNEL/version" ]; }
need_setup() { is_ready || "$TOP/tools/setup" || exit; }
# debug, kcsan or native
need_instrumented() {
	need_setup
	[ -e "$(instrumented_kernel "$1")/version" ] || "$TOP/tools/setup" "--$1" || exit
}

# The lines of a configuration WANTED that CONFIG does not have.
not_taken() {
	local line

	[ -r "$2" ] || { echo "$2"; return; }
	while read -r line; do
		case $line in
		CONFIG_*=n) ! grep -q "^${line%n}" "$2" || echo "$line" ;;
		CONFIG_*) grep -qxF -- "$line" "$2" || echo "$line" ;;
		esac
	done <"$1"
}

# Copies what kbuild needs to DIR, absolute or in the checkout: another build, that is not to meet
# the objects of the first one.
copy_sources() {
	(cd "$TOP" && mkdir -p "$1" && find Kbuild Kconfig src -type f -not -name '*.o' -not -name '.*' \
		-not -name bindings_generated.rs -exec cp -pu --parents {} "$1" \;)
}

# What goes with the module, below a directory or /.
install_files() {
	install -D -m 644 "$TOP/tools/l2tp-rust.conf" "$1/usr/lib/modprobe.d/l2tp-rust.conf"
	install -D -m 755 "$TOP/tools/switch" "$1/usr/sbin/l2tp-switch"
	install -d "$1/usr/share/man/man4"
	gzip -9n <"$TOP/Documentation/l2tp.4" >"$1/usr/share/man/man4/l2tp.4.gz"
}

# Runs PROGRAM[:NAME] of the root file system on this machine, without chroot,
# as NAME. Replaces the (sub)shell it is called in.
rootfs_exec() {
	local program=${1%%:*} name=${1#*:}

	shift
	exec "$ROOTFS/lib64/ld-linux-x86-64.so.2" --argv0 "$name" \
		--library-path "$ROOTFS/usr/lib/x86_64-linux-gnu" "$ROOTFS$program" "$@"
}

# Whether this user can be root in a namespace with a range of user ids, which
# is what unpacking Debian packages takes. Says what is missing.
can_be_root() {
	[ "$(id -u)" != 0 ] || return 0
	if ! command -v newuidmap >/dev/null; then
		say "${0##*/}: not root, and no newuidmap: run as root, or install the package uidmap"
	elif ! grep -qE "^($(id -un)|$(id -u)):" /etc/subuid ||
	     ! grep -qE "^($(id -un)|$(id -u)):" /etc/subgid; then
		say "${0##*/}: not root, and no subordinate ids: run as root, or have root run" \
			"'usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un)'"
	elif ! unshare --user --map-root-user --map-auto --mount true 2>/dev/null; then
		say "${0##*/}: not root, and this machine allows no user namespaces (see" \
			"user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns):" \
			"run as root, or have them allowed"
	else
		return 0
	fi
	return 1
}

# The unshare(1) options that make the caller root with mounts of its own.
ns_options() {
	if [ "$(id -u)" = 0 ]; then
		echo "--mount --propagation private"
	else
		echo "--user --map-root-user --map-auto --mount --propagation private"
	fi
}

# Mounts a root file system as a chroot; only in a mount namespace of its own.
# ROOT ro|rw [HOSTDIR:DIR…]
mount_root() {
	local root=$1 mode=$2 d m error

	shift 2
	mount --bind "$root" "$root"
	for m; do
		[ -d "$root${m#*:}" ] || mkdir -p "$root${m#*:}"
	done
	if [ "$mode" = ro ] && ! error=$(mount -o remount,bind,ro "$root" 2>&1); then
		say "warning: what runs in $root may change it, it stays writable: $error"
	fi
	for m; do
		mount --bind "${m%%:*}" "$root${m#*:}" || return
	done
	mount -t proc proc "$root/proc" 2>/dev/null || mount --rbind /proc "$root/proc" || return
	mount -t tmpfs -o mode=755 dev "$root/dev" || return
	for d in null zero full random urandom tty; do
		: >"$root/dev/$d"
		mount --bind "/dev/$d" "$root/dev/$d" || return
	done
	mkdir "$root/dev/pts" "$root/dev/shm"
	mount --bind /dev/pts "$root/dev/pts" 2>/dev/null ||
		error=$(mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts" 2>&1) ||
		say "warning: no terminals in $root (/dev/pts): $error"
	ln -s pts/ptmx "$root/dev/ptmx"
	ln -s /proc/self/fd "$root/dev/fd"
	ln -s /proc/self/fd/0 "$root/dev/stdin"
	ln -s /proc/self/fd/1 "$root/dev/stdout"
	ln -s /proc/self/fd/2 "$root/dev/stderr"
	mount -t tmpfs -o mode=1777 shm "$root/dev/shm" || return
	mount -t tmpfs -o mode=1777 tmp "$root/tmp" || return
	# The network as this machine sees it: its resolver and whom it trusts.
	for d in /etc/resolv.conf /etc/ssl/certs/ca-certificates.crt; do
		if [ -e "$root$d" ] && [ -s "$d" ]; then
			mount --bind "$(readlink -f "$d")" "$root$d" || return
		fi
	done
}

# The environment of everything that runs in a chroot.
chroot_clean() {
	local root=$1 v pass=()

	shift
	for v in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
		[ -z "${!v:-}" ] || pass+=("$v=${!v}")
	done
	${chroot_exec:-} env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		HOME=/tmp LANG=C.UTF-8 TERM="${TERM:-dumb}" CARGO_HOME=$IN_CACHE/cargo \
		DEBIAN_FRONTEND=noninteractive "${pass[@]}" chroot "$root" "$@"
}
