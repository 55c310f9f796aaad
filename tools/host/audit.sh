#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Compile the pure rooms the way the kernel does and fail if the object refers to anything of the
# panic machinery. RUSTC and RUST_FLAGS may be set; with KEEP=file the object is left there.
set -eu

here=$(dirname "$0")
object=${KEEP:-$(mktemp)}
[ -n "${KEEP:-}" ] || trap 'rm -f "$object"' EXIT

"${RUSTC:-rustc}" --edition=2021 --crate-type=lib --crate-name=audit --emit=obj \
	-Copt-level=2 -Coverflow-checks=on -Cdebug-assertions=off -Ccodegen-units=1 -Cpanic=abort \
	${RUST_FLAGS:-} -o "$object" "$here/audit.rs"

nm "$object" | grep -q ' T audit_receive$' || { echo "audit: nothing was compiled" >&2; exit 1; }
if nm -u "$object" | grep -E 'panic|slice_index|index_fail|len_mismatch|unwrap|expect|cell'; then
	echo "audit: the object can panic" >&2
	exit 1
fi
echo "audit: no reference to the panic machinery; undefined symbols:"
nm -u "$object"
