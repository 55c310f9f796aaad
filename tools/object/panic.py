#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""panic.py OBJECT: nothing in the module panics, which was built against the kernel in $KDIR.

It refers to no panic function.  Of the kernel's own Rust code that it calls, whatever can reach one is
named, and says why it does not."""

import os
import sys
from collections import defaultdict
from pathlib import Path

from elf import Object, plain, reach, way
from entries import entries, path

# Everything that Rust calls to panic ends in one of these; C has its own.
PANICS = ("rust_begin_unwind", "rust_build_error", "rust_panic")
C_PANICS = {"panic", "fortify_panic", "__fortify_panic", "usercopy_abort"}

_NUMBER = "counts a number's digits, for a format string of ours: no width that could overflow"
_TEXT = "counts the characters of what is in memory, for a format string of ours"
_ERRNO = "formats a complaint if a function of the kernel returns a number that is no errno"

# What we call of the kernel's Rust that holds a panic, and why it does not come to that.
REVIEWED = {
    "<core::ffi::c_str::CStr>::from_bytes_until_nul": "adds 1 to the place of a byte that it has found in the slice",
    "core::slice::memchr::memchr_aligned": "is called for 16 bytes or more, and goes about within them",
    "<kernel::error::Error>::from_errno": _ERRNO,
    "kernel::error::to_result": _ERRNO,
    "<u8 as kernel::fmt::Display>::fmt": _NUMBER,
    "<u16 as kernel::fmt::Display>::fmt": _NUMBER,
    "<u32 as kernel::fmt::Display>::fmt": _NUMBER,
    "<u64 as kernel::fmt::Display>::fmt": _NUMBER,
    "<usize as kernel::fmt::Display>::fmt": _NUMBER,
    "<i32 as kernel::fmt::Display>::fmt": _NUMBER,
    "<u8 as core::fmt::LowerHex>::fmt": _NUMBER,
    "<u32 as core::fmt::UpperHex>::fmt": _NUMBER,
    "<core::net::ip_addr::IpAddr as core::fmt::Display>::fmt": "an address, which has a greatest length",
    "<char as kernel::fmt::Display>::fmt": _TEXT,
    "<str as kernel::fmt::Display>::fmt": _TEXT,
    "<core::ffi::c_str::CStr as kernel::fmt::Display>::fmt": _TEXT,
}

# BUG() in what C's headers inline, and why it is not met.
REVIEWED_BUGS = {
    "l2tp_helper_skb_orphan": "a packet that has a socket has a destructor: whoever set one set both",
    "l2tp_helper_rht64_insert": "asks whether the table has an obj_hashfn, which our constant does not",
    "l2tp_helper_rht128_insert": "the same",
}


def is_panic(name: str, text: str) -> bool:
    return text.startswith("core::panicking::") or path(text).endswith(PANICS)


def kernel_objects() -> list[Object]:
    """The kernel's own Rust code, as far as modules may call it."""
    return [Object(str(file)) for file in sorted(Path(os.environ["KDIR"], "rust").glob("*.o"))]


def check(module_path: str, kernel: list[Object], show: bool) -> list[str]:
    module = Object(module_path)
    wrong = []

    def kernel_refers(name: str) -> set[str]:
        return set().union(*(part.refers(part.name(name)) for part in kernel))

    users: defaultdict[str, set[str]] = defaultdict(set)
    for name in [*module.functions, *module.data]:
        for other in module.refers(name):
            users[other].add(name)

    def callers(name: str) -> set[str]:
        return users[name] & module.functions.keys()

    imports = sorted(name for name in module.undefined if name.startswith(("_R", "rust_")))
    imports = [name for name in imports if not name.startswith("rust_helper_")]
    seen = {name: reach([name], kernel_refers) for name in imports}
    texts = plain({*module.functions, *module.data, *imports}.union(*seen.values()))
    packet, task, _ = entries(module)

    if not module.functions:
        wrong.append(f"{module_path}: no functions in it")
    reviewed = {}
    for name in imports:
        text = texts[name]
        used = " and ".join(sorted(texts[user] for user in users[name])) or "nothing"
        ends = [other for other in seen[name] if is_panic(other, texts[other])]
        if is_panic(name, text):
            wrong.append(f"{text}: a panic, in {used}")
        elif not any(part.defines(name) for part in kernel):
            wrong.append(f"{text}: not in the kernel's Rust objects, who knows whether it panics: in {used}")
        elif ends and text not in REVIEWED:
            steps = " > ".join(texts[step] for step in way(seen[name], ends[0]))
            wrong.append(f"{text}: can panic ({steps}), and is not reviewed: in {used}")
        elif ends:
            reviewed[name] = text
    for name in sorted(module.undefined & C_PANICS):
        wrong.append(f"{name}: C's panic, in " + " and ".join(sorted(texts[user] for user in users[name])))
    for function in module.functions.values():
        text = texts[function.name]
        if function.traps:
            wrong.append(f"{text}: a trap at {function.traps[0]:#x} that is no BUG() or WARN()")
        if function.bugs and text not in REVIEWED_BUGS:
            wrong.append(f"{text}: a BUG() at {function.bugs[0]:#x} that is not reviewed")

    if show:
        bugs = [text for text in REVIEWED_BUGS if text in module.functions and module.functions[text].bugs]
        print(
            f"{len(module.functions)} functions, {len(imports)} symbols of the kernel's Rust code, of"
            f" which {len(reviewed)} hold a panic that they do not come to; {len(bugs)} BUG() of C's headers:"
        )
        for name, text in reviewed.items():
            above = reach([name], callers).keys()
            by = [what for what, some in (("packets", packet), ("tasks", task)) if some & above]
            print(f"  {text} (by {' and '.join(by)}): {REVIEWED[text]}")
        for text in bugs:
            print(f"  {text}: {REVIEWED_BUGS[text]}")
    return wrong


if __name__ == "__main__":
    complaints = check(sys.argv[1], kernel_objects(), True)
    for complaint in complaints:
        print(f"check-panic: {complaint}", file=sys.stderr)
    sys.exit(bool(complaints))
