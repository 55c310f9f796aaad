# SPDX-License-Identifier: GPL-2.0
"""How often the kernel does something, and what its trace events say."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

TRACING = Path("/sys/kernel/tracing")


@contextlib.contextmanager
def counting_calls(function: str) -> Iterator[list[int]]:
    """Hits of a kernel function while the block runs; filled in at its end."""
    events = TRACING / "kprobe_events"
    events.write_text(f"p:l2tptest/hits {function}\n")
    switch = TRACING / "events/l2tptest/hits/enable"
    result: list[int] = []
    try:
        switch.write_text("1")
        yield result
        switch.write_text("0")
        profile = (TRACING / "kprobe_profile").read_text()
        result.append(int(re.search(r"hits\s+(\d+)", profile)[1]))
    finally:
        switch.write_text("0")
        events.write_text("")  # truncation removes them all


_serial = itertools.count(1)


class Trace:
    """Trace events (`group` or `group/event`) in a buffer of their own, while it is open."""

    def __init__(self, events: str) -> None:
        self.path = TRACING / f"instances/l2tptest{next(_serial)}"
        self.path.mkdir()
        self._switch = self.path / "events" / events / "enable"
        self._switch.write_text("1")

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, *exc: object) -> None:
        self._switch.write_text("0")
        self.path.rmdir()

    def lines(self) -> list[tuple[str, str]]:
        """Name and text of each event so far."""
        text = (self.path / "trace").read_text()
        return [(name, rest.rstrip()) for name, rest in
                re.findall(r"^[^#\n]*?\d+\.\d+: (\w+): (.*)$", text, re.MULTILINE)]

    def take(self) -> list[tuple[str, str]]:
        """The same, which are not shown again."""
        lines = self.lines()
        (self.path / "trace").write_text("")
        return lines
