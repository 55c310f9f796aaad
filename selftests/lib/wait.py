# SPDX-License-Identifier: GPL-2.0
"""Waiting for a condition instead of sleeping, and doing things at the same time."""

import faulthandler
import os
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
#: Kernels with instruments take their time.
PATIENCE = 6 if os.uname().release.endswith(("-debug", "-kcsan")) else 1


def eventually(condition: Callable[[], T], timeout: float = 10.0, what: str = "",
               interval: float = 0.01) -> T:
    """Call `condition` until it returns something true, and return that; fail after `timeout`."""
    timeout *= PATIENCE
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            name = what or getattr(condition, "__name__", "condition")
            raise AssertionError(f"not within {timeout} s: {name} (last: {result!r})")
        time.sleep(interval)


def at_once(*actions: Callable[[], object]) -> None:
    """Run all in threads that start together; what one raises is raised here."""
    barrier = threading.Barrier(len(actions))
    errors: list[BaseException] = []

    def run(action: Callable[[], object]) -> None:
        try:
            barrier.wait()
            action()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60 * PATIENCE)
        if thread.is_alive():
            faulthandler.dump_traceback()
            raise AssertionError("hang")
    if errors:
        raise errors[0]
