# SPDX-License-Identifier: GPL-2.0
"""Children that work at the same time, and count what they do."""

import faulthandler
import json
import os
import traceback
from collections import Counter
from collections.abc import Callable


class Workers:
    """`count` children, each of which does `work(number)`.  One that takes longer than `limit`
    seconds says where it is, and fails."""

    def __init__(self, count: int, work: Callable[[int], Counter[str]], limit: float) -> None:
        self._children = [self._start(number, work, limit) for number in range(count)]

    @staticmethod
    def _start(number: int, work: Callable[[int], Counter[str]], limit: float) -> tuple[int, int]:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writer)
            return pid, reader
        status = 1
        faulthandler.dump_traceback_later(limit, exit=True)
        try:
            os.close(reader)
            os.write(writer, json.dumps(work(number)).encode())
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def join(self) -> Counter[str]:
        """Waits for all; the sum of what they have counted."""
        total: Counter[str] = Counter()
        failed = 0
        for pid, reader in self._children:
            with os.fdopen(reader, "rb") as pipe:
                counts = pipe.read()
            if os.waitpid(pid, 0)[1]:
                failed += 1
            else:
                total.update(json.loads(counts))
        assert not failed, f"{failed} workers failed"
        return total
