# SPDX-License-Identifier: GPL-2.0
"""The kernel around the module: its log, modules, slab caches; children with fewer rights."""

import contextlib
import ctypes
import os
import pickle
import re
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

#: Log lines that fail a test, whatever else it found.  Not KCSAN's: tools/vm looks whose they are.
SPLAT = re.compile(
    r"BUG:(?! KCSAN)|kernel BUG at|WARNING: |Oops|general protection fault|Unable to handle kernel"
    r"|Call Trace|KASAN|UBSAN|kmemleak|ODEBUG: Out of memory|refcount_t:"
    r"|possible recursive locking|possible circular locking|possible irq lock|inconsistent lock state|suspicious RCU usage"
    r"|sleeping function called|lock held when returning|scheduling while atomic"
    r"|blocked for more than|self-detected stall|detected stalls"
    r"|soft lockup|hard LOCKUP|unregister_netdevice: waiting|IDR not empty|table not empty"
    r"|rust_kernel: panicked|panicked at|ref_tracker: .* users|leaked reference|Kernel panic"
    r"|list_(add|del) corruption"
    r"|Objects remaining in|Slab cache still has objects|kernel tried to execute|records lost")


class KernelLog:
    """Reads /dev/kmsg from the moment it is made."""

    def __init__(self) -> None:
        self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._fd, 0, os.SEEK_END)

    def close(self) -> None:
        os.close(self._fd)

    def new_lines(self) -> list[str]:
        lines = []
        while True:
            try:
                record = os.read(self._fd, 8192).decode(errors="replace")
            except BlockingIOError:
                return lines
            except BrokenPipeError:
                lines.append("(records lost: the log buffer wrapped)")
                continue
            lines.append(record.split("\n", 1)[0].split(";", 1)[-1])


def splats(lines: list[str]) -> list[str]:
    return [line for line in lines if SPLAT.search(line)]


# --- modules

C_MODULES = ("l2tp_ppp", "l2tp_eth", "l2tp_ip6", "l2tp_ip", "l2tp_debugfs", "l2tp_netlink",
             "l2tp_core")


def impl() -> str:
    """What runs under test: `c` or `rust`."""
    chosen = os.environ.get("IMPL", "")
    if chosen not in ("c", "rust"):
        raise RuntimeError("IMPL must be c or rust (tools/vm --impl sets it)")
    return chosen


def loaded() -> dict[str, int]:
    """Reference counts of the loaded l2tp modules, by name."""
    out = {}
    for line in Path("/proc/modules").read_text().splitlines():
        name, _, refs = line.split()[:3]
        if name == "l2tp" or name in C_MODULES:
            out[name] = int(refs)
    return out


def module_of(c_name: str) -> str:
    """The module that plays the part of a C module."""
    return "l2tp" if impl() == "rust" else c_name


def modprobe(*arguments: str, check: bool = True) -> int:
    done = subprocess.run(("modprobe", *arguments), capture_output=True, text=True)
    if check and done.returncode:
        raise AssertionError(f"modprobe {' '.join(arguments)}: {done.stderr}")
    return done.returncode


def unload() -> None:
    """Remove the implementation under test, completely.

    Call lib.netns.settle() first: C's l2tp_ppp can be unloaded under live sessions (B4).
    """
    present = [name for name in ("l2tp",) + C_MODULES if name in loaded()]
    if present:
        done = subprocess.run(("rmmod", *present), capture_output=True, text=True)
        assert done.returncode == 0 and not loaded(), f"{done.stderr}{loaded()}"


_DELETE_MODULE = 176  # on x86-64
_libc = ctypes.CDLL(None, use_errno=True)


def rmmod(name: str) -> int:
    """What rmmod does for one module, without a process: 0, or an errno."""
    if _libc.syscall(_DELETE_MODULE, name.encode(), os.O_NONBLOCK):
        return ctypes.get_errno()
    return 0


def load() -> None:
    """Load it, with all its parts."""
    wanted = ("l2tp",) if impl() == "rust" else ("l2tp_eth", "l2tp_ip", "l2tp_ip6")
    if not set(wanted) <= set(loaded()):
        modprobe("-a", *wanted)


# --- memory

def slabs() -> dict[str, int]:
    """Active objects per slab cache."""
    out = {}
    for line in Path("/proc/slabinfo").read_text().splitlines()[2:]:
        name, active = line.split()[:2]
        out[name] = int(active)
    return out


def jiffies_per_second() -> int:
    """CONFIG_HZ of the running kernel: what a clock is good for that only the tick moves."""
    return round(1 / time.clock_getres(6))  # CLOCK_MONOTONIC_COARSE


@contextlib.contextmanager
def nested_ppp_devices() -> Iterator[None]:
    """For a block that sends through a PPP device on top of another one.  ppp_generic has one class
    for the locks of all its devices: to lockdep, the second one is the first one again."""
    switch = Path("/proc/sys/kernel/prove_locking")
    if not switch.exists():
        yield
        return
    switch.write_text("0")
    try:
        yield
    finally:
        switch.write_text("1")


#: What a kernel may lack, and whether it does not.
FEATURES: dict[str, Callable[[], bool]] = {
    "fault injection": Path("/proc/self/fail-nth").exists,  # the debug kernel has it
    "kprobes": Path("/sys/kernel/tracing/kprobe_events").exists,  # all but User-mode Linux
    "trace events": Path("/sys/kernel/tracing/events").exists,  # CONFIG_EVENT_TRACING
    "BPF on events": Path("/sys/bus/event_source").exists,  # CONFIG_PERF_EVENTS; User-mode Linux has not
    "KCSAN": Path("/sys/kernel/debug/kcsan").exists,
    "fou": lambda: modprobe("-n", "-q", "fou", check=False) == 0,  # all but the debug kernel
}


def has(feature: str) -> bool:
    return FEATURES[feature]()


# --- children

NOBODY = 65534
_PR_SET_DUMPABLE = 4


def in_child(work: Callable[[], Any], *, uid: int | None = None, userns: bool = False,
             netns: bool = False) -> Any:
    """Result of `work` in a forked child: as another user, in new namespaces, or both.

    With `userns` the child is root in a user namespace of its own, made after the uid change;
    with `netns` it then also gets a network namespace owned by that user namespace.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reader)
            outcome: tuple[bool, Any]
            try:
                _drop(uid, userns, netns)
                outcome = (True, work())
            except BaseException as error:
                outcome = (False, f"{error!r}\n{traceback.format_exc()}")
            with os.fdopen(writer, "wb") as pipe:
                pickle.dump(outcome, pipe)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    assert data, "the child died without an answer"
    good, result = pickle.loads(data)
    if not good:
        raise AssertionError(f"in the child: {result}")
    return result


def _drop(uid: int | None, userns: bool, netns: bool) -> None:
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1)  # or /proc/self stays root's
    if userns:
        inside = os.geteuid()
        os.unshare(os.CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {inside} 1")
        Path("/proc/self/gid_map").write_text(f"0 {inside} 1")
    if netns:
        os.unshare(os.CLONE_NEWNET)
