# SPDX-License-Identifier: GPL-2.0
"""Counting kernel objects, to see whether something leaks."""

import contextlib
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from lib import system
from lib.netns import settle
from lib.wait import eventually

#: Caches that a leaked tunnel, session, device, socket, packet or namespace would show up in.
INTERESTING = re.compile(r"kmalloc(-rnd-\d+|-cg)?-\d+k?$|UDP|L2TP|RAW|sock_inode_cache|PACKET"
                         r"|net_namespace|skbuff|request_sock|dst_cache|rtable|fib|ip6_dst")

#: Where a debug kernel keeps the last 128 references to each device and namespace that were given
#: back; and in which cache.
TRACKERS, TRACKER = Path("/sys/kernel/debug/ref_tracker"), "kmalloc-32"


def objects() -> dict[str, int]:
    """Objects in use per interesting cache, after everything that can be given back was."""
    settle()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")
    for _ in range(2):
        time.sleep(0.2)  # deferred frees; there is no condition to wait for
        for name in system.slabs():
            shrink = Path("/sys/kernel/slab", name.replace("/", "!"), "shrink")
            if INTERESTING.search(name) and shrink.exists():
                shrink.write_text("1")
    counts: dict[str, int] = {}
    for name, count in system.slabs().items():
        if INTERESTING.search(name):
            # randomised copies of a size are one cache for us
            plain = re.sub(r"-rnd-\d+", "", name)
            counts[plain] = counts.get(plain, 0) + count
    if TRACKERS.exists():
        del counts[TRACKER]
    return counts


def growth(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: count - before.get(name, 0) for name, count in after.items()
            if count > before.get(name, 0)}


def expect_back(before: dict[str, int], noise: int) -> None:
    """No cache has, in the end, more than `noise` objects more than `before`."""
    kept = _kept(before, noise, 30)
    assert not kept, f"objects that are not given back: {kept}"


def expect_steady(work: Callable[[], object], noise: int, times: int = 1) -> None:
    """No cache has more than `noise` objects more after `work`, at least not each of three times: what
    leaks leaks again, but per-CPU caches that are full do not fill again. The work is done at least
    so many times."""
    leaks: list[dict[str, int]] = []
    for count in (1, 2, 3):
        before = objects()
        work()
        leaks.append(_kept(before, noise, 5))
        if count >= times and not set.intersection(*map(set, leaks)):
            return
    raise AssertionError(f"more objects each time: {leaks}")


def _kept(before: dict[str, int], noise: int, patience: float) -> dict[str, int]:
    """Growth above `noise`, once what is merely late on a busy machine is freed."""
    def kept() -> dict[str, int]:
        return {name: count for name, count in growth(before, objects()).items() if count > noise}

    with contextlib.suppress(AssertionError):
        eventually(lambda: not kept(), patience)
    return kept()


def network_devices_waiting() -> str:
    """Kernel log lines about devices that cannot die for want of references."""
    log = subprocess.run(("dmesg",), capture_output=True, text=True, check=True).stdout
    return "\n".join(line for line in log.splitlines() if "unregister_netdevice: waiting" in line)
