# SPDX-License-Identifier: GPL-2.0
"""How often the kernel does something."""

import contextlib
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
