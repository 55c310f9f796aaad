#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""selftest.py panic|stack: whether the checks see what they are there for.  Compiles small objects,
with the kernel's own flags as far as they matter, and lets the check judge them."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import panic
import stack
from elf import Object

KDIR = os.environ["KDIR"]
RUSTC = f"""{os.environ.get("RUSTC", "rustc")} --edition=2021 --crate-type=rlib --crate-name=l2tp
    --sysroot=/dev/null -L {KDIR}/rust --target={KDIR}/scripts/target.json -Zunstable-options
    -Zcrate-attr=no_std -Cpanic=abort -Copt-level=2 -Coverflow-checks=y -Ccodegen-units=1
    -Csymbol-mangling-version=v0 -Crelocation-model=static -Ccode-model=kernel -Zno-jump-tables
    -Cno-redzone=y -Cforce-unwind-tables=n --emit=obj""".split()

# What packets enter by, around a body.
ENTRY = """
pub mod abstractions {{ pub mod net {{ pub mod {file} {{
    {more}
    pub extern "C" fn {name}(a: usize, b: *mut u8) -> usize {{ {body} }}
    #[used]
    static TABLE: extern "C" fn(usize, *mut u8) -> usize = {name};
}} }} }}
extern "C" {{ pub fn fill(at: *mut u8, n: usize); }}
"""


def entry(body: str, more: str = "", file: str = "udp_tunnel", name: str = "encap_rcv") -> str:
    return ENTRY.format(body=body, more=more, file=file, name=name)


def frame(size: int, **where: str) -> str:
    """Takes so much stack, which is in use during a call."""
    fill = f"let mut room = core::mem::MaybeUninit::<[u8; {size}]>::uninit();"
    call = "unsafe { crate::fill(room.as_mut_ptr().cast(), a); room.as_ptr().cast::<u8>().add(a).read().into() }"
    return entry(fill + call, **where)


TABLE = "pub static T: [u8; 4] = [1, 2, 3, 4];"

# Name, source, and the complaint that must come; none if it is empty.
CASES = {
    "panic": [
        ("nothing wrong", entry("a.wrapping_add(1)"), ""),
        ("an index", entry("T[a] as usize", TABLE), "panic_bounds_check: a panic, in .*encap_rcv"),
        ("a sum", entry("a + 1"), "panic_const_add_overflow: a panic"),
        ("a range", entry("T[a..].len()", TABLE), "slice_start_index_len_fail.* can panic"),
        ("unwrap", entry("T.get(a).copied().unwrap().into()", TABLE), "unwrap_failed.* can panic"),
        ("expect", entry("u8::try_from(a).expect(\"small\").into()"), "result::unwrap_failed.* can panic"),
        (
            "in a function that nobody seems to call",
            entry("a") + "pub fn idle(a: u64, b: u64) -> u64 { a / b }",
            "panic_const_div_by_zero: a panic, in l2tp::idle",
        ),
        (
            "through a function of core's",
            entry("core::str::from_utf8(&T).map_or(0, |t| t.split_at(a).0.len())", TABLE),
            "str::slice_error_fail.* can panic",
        ),
        (
            "through a pointer to a function of core's",
            entry("F as usize", "pub static F: fn(Option<u8>, &str) -> u8 = Option::expect;"),
            "expect_failed.* can panic",
        ),
        (
            "Rust from elsewhere",
            entry("unsafe { crate::other() }")
            + 'extern "C" { #[link_name = "_RNvC5other5other"] pub fn other() -> usize; }',
            "other::other: not in the kernel's Rust objects",
        ),
        ("a trap", entry('unsafe { core::arch::asm!("ud2") }; a'), "encap_rcv.*: a trap at"),
        ("C's panic", entry('unsafe { core::arch::asm!("call panic") }; a'), "panic: C's panic"),
    ],
    "stack": [
        ("512 bytes for a packet", frame(450), ""),
        ("more for a packet", frame(520), "encap_rcv: 5.. bytes of stack, more than 512"),
        (
            "more, further down",
            entry("inner(a, b) ^ 1", "#[inline(never)] " + re.search("pub extern.*", frame(520, name="inner"))[0]),
            "inner: 5.. bytes of stack, more than 512",
        ),
        ("1 KiB for a task", frame(960, file="genetlink", name="doit"), ""),
        ("more for a task", frame(1030, file="genetlink", name="doit"), "doit: 10.. bytes of stack, more than 1024"),
        ("no bound", entry('unsafe { core::arch::asm!("sub {0}, %rsp", in(reg) a, options(att_syntax)) }; a'), "no bound"),
        ("a new way in", entry("a", name="surprise"), "surprise: its address is taken"),
        (
            "recursion",
            entry("inner(a, b)", "#[inline(never)] pub fn inner(a: usize, b: *mut u8) -> usize { unsafe {"
            " if *b == 0 { return 0 } let n = inner(a, b.add(1)); crate::fill(b, n); n * 3 } }"),
            "a call that comes back",
        ),
    ],
}


def complaints(which: str, source: str, directory: str, kernel: list[Object]) -> list[str]:
    path = Path(directory, "probe.rs")
    path.write_text(source)
    target = path.with_suffix(".o")
    subprocess.run([*RUSTC, "-Awarnings", "-o", target, path], check=True, env={**os.environ, "RUSTC_BOOTSTRAP": "1"})
    if which == "panic":
        return panic.check(str(target), kernel, False)
    return stack.check(str(target), False)


def main() -> int:
    failed = 0
    which = sys.argv[1]
    kernel = panic.kernel_objects() if which == "panic" else []
    with tempfile.TemporaryDirectory() as directory:
        for name, source, wanted in CASES[which]:
            found = complaints(which, source, directory, kernel)
            good = any(re.search(wanted, line) for line in found) if wanted else not found
            failed += not good
            print(f"{'ok' if good else 'FAILED'}: {name}: {found[0][:200] if found else 'no complaint'}")
    print(f"check-{which} --self-test: {len(CASES[which]) - failed} passed, {failed} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
