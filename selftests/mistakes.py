# SPDX-License-Identifier: GPL-2.0
"""Has the module make mistakes on purpose, and tells which of them the kernel's instruments have
noticed, and that it was our module that made them.  Run by tools/test mistakes, mistakes-kcsan."""

import re
import sys
import time
from pathlib import Path

from lib import attrs as nla
from lib import system
from lib.netns import NetNS
from lib.uapi import Attr, Cmd

FIRST = 0xbad00000
LEAKS = Path("/sys/kernel/debug/kmemleak")
PROVE_LOCKING = Path("/proc/sys/kernel/prove_locking")
#: The request, what the kernel says of it at once, or what it finds when it looks for leaks, and which
#: code of ours it names.  Lockdep comes first, as any report switches it off; kmemleak comes last, as
#: lockdep would complain of it on this architecture.
MISTAKES = (
    (3, "lock inversion", r"possible circular locking dependency detected"
     r".*invert_locks[^\n]*\[l2tp\]", None),
    (2, "sleep in atomic context", r"BUG: sleeping function called from invalid context"
     r".*sleep_in_atomic_context[^\n]*\[l2tp\]", None),
    (0, "use after free", r"BUG: KASAN: slab-use-after-free in [^\n]*use_after_free[^\n]*\[l2tp\]",
     None),
    (1, "leak", None, r"unreferenced object[^\n]*(\n [^\n]*)*\[l2tp\]"),
)
#: The same on a kernel with KCSAN, which has no other instrument.
RACES = (
    (4, "data race", r"BUG: KCSAN: data-race in [^\n]*racing_count[^\n]*\[l2tp\]", None),
)


def leaked() -> str:
    PROVE_LOCKING.write_text("0")
    time.sleep(6)  # what is younger is not looked at
    for _ in range(3):
        LEAKS.write_text("scan")
        time.sleep(1)
    return LEAKS.read_text()


def main() -> int:
    missed = 0
    ns = NetNS("mistakes")
    ns.l2tp.tunnel()
    log = system.KernelLog()
    for number, name, said, left in RACES if system.has("KCSAN") else MISTAKES:
        log.new_lines()
        ns.l2tp.call(Cmd.TUNNEL_MODIFY, nla.u32(Attr.CONN_ID, 1), nla.u32(Attr.DEBUG, FIRST + number))
        text = "\n".join(log.new_lines())
        if said is not None:
            seen = re.search(said, text, re.DOTALL)
        else:
            text = leaked()
            seen = re.search(left or "", text)
        print(f"{'SEEN' if seen else 'NOT SEEN'}: {name}", flush=True)
        if not seen:
            missed += 1
            print(text, flush=True)
    ns.close()
    return missed


if __name__ == "__main__":
    sys.exit(main())
