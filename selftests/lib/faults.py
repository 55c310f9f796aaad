# SPDX-License-Identifier: GPL-2.0
"""Allocations that fail: the first, the second, … of those that a system call makes."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

#: Of the calling thread; not there without CONFIG_FAULT_INJECTION.
FAIL_NTH = Path("/proc/thread-self/fail-nth")
_DEBUGFS = Path("/sys/kernel/debug")
_SETTINGS = {
    "failslab": {"verbose": "0", "ignore-gfp-wait": "N"},
    # single pages, too
    "fail_page_alloc": {"verbose": "0", "ignore-gfp-wait": "N", "min-order": "0"},
}


def _symbols() -> list[tuple[int, str, str]]:
    """Address, name and module ("" for none) of all functions, by address."""
    rows = (line.split() for line in Path("/proc/kallsyms").read_text().splitlines())
    return sorted((int(row[0], 16), row[2], row[3].strip("[]") if len(row) > 3 else "")
                  for row in rows if row[1] in "tT")


class Faults:
    """Set up once; then `nth()` around each call."""

    def __init__(self) -> None:
        for name, settings in _SETTINGS.items():
            for key, value in settings.items():
                (_DEBUGFS / name / key).write_text(value)
        self._fds: dict[int, int] = {}

    def close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)

    @contextlib.contextmanager
    def only_from(self, module: str) -> Iterator[None]:
        """Within the block, only what functions of `module` call may fail, or of any module if it is
        "", as when it has yet to find its place; but not the making of a slab cache, of which the
        kernel complains with a stack trace."""
        symbols = _symbols()
        inside = [address for address, _, where in symbols if where == module]
        first, last = min(inside), max(inside)
        if not module:
            first, last = last + 1, 2**64 - 2
        cache = next(i for i, symbol in enumerate(symbols)
                     if symbol[1].startswith("__kmem_cache_create_args"))
        settings = {"stacktrace-depth": 32, "require-start": first, "require-end": last + 1,
                    "reject-start": symbols[cache][0],
                    "reject-end": symbols[cache + 1][0]}
        defaults = {"require-start": 0, "require-end": 2**64 - 1, "reject-start": 0,
                    "reject-end": 0}
        self._set(settings)
        try:
            yield
        finally:
            self._set(defaults)

    @staticmethod
    def _set(settings: dict[str, int]) -> None:
        for name in _SETTINGS:
            for key, value in settings.items():
                (_DEBUGFS / name / key).write_text(hex(value) if "-depth" not in key else str(value))

    @contextlib.contextmanager
    def sometimes(self, percent: int) -> Iterator[None]:
        """Within the block, so many of all allocations that must not wait fail: those for packets,
        among others."""
        slab = _DEBUGFS / "failslab"
        (slab / "ignore-gfp-wait").write_text("Y")
        (slab / "times").write_text("-1")
        (slab / "probability").write_text(str(percent))
        try:
            yield
        finally:
            (slab / "probability").write_text("0")
            (slab / "ignore-gfp-wait").write_text("N")

    def nth(self, number: int, call: Callable[[], Any]) -> tuple[bool, Any]:
        """Makes allocation `number` of those in `call` fail.

        Whether there were so many; and what `call` returned, or the OSError that it raised.
        """
        thread = threading.get_ident()
        if thread not in self._fds:
            self._fds[thread] = os.open(FAIL_NTH, os.O_RDWR | os.O_CLOEXEC)
        fd = self._fds[thread]
        text = str(number).encode()
        result: Any
        gc.disable()
        try:
            os.pwrite(fd, text, 0)
            try:
                result = call()
            except OSError as error:
                result = error
            left = os.pread(fd, 16, 0)
        finally:
            os.pwrite(fd, b"0", 0)
            gc.enable()
        return int(left) == 0, result
