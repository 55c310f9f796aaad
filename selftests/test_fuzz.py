# SPDX-License-Identifier: GPL-2.0
"""Requests, socket calls and packets that nobody should send, and everything that ends a tunnel at
once: tools/fuzz, which says how it goes about it.

L2TP_FUZZ_COUNT is for how many operations of each kind, L2TP_FUZZ_SECONDS for how long at most,
L2TP_FUZZ_SEED for what they are (1), L2TP_FUZZ_ROUND for one round only, with each operation shown.
`make fuzz` takes a million of each.
"""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lib import memory, system
from lib.differences import expect
from lib.netns import settle
from lib.wait import eventually

PROGRAM = Path(".l2tp-fuzz/l2tp-fuzz").absolute()
SEED = os.environ.get("L2TP_FUZZ_SEED", "1")
SECONDS = os.environ.get("L2TP_FUZZ_SECONDS")
ROUND = os.environ.get("L2TP_FUZZ_ROUND")
COUNT = int(os.environ.get("L2TP_FUZZ_COUNT", "0"))
#: Of the suite: some seconds each.
SHORT = {"requests": 6000, "sockets": 6000, "packets": 6000, "races": 100}
#: Of a race, many at a time.
WORTH = {"races": 100}


@pytest.fixture(autouse=True)
def _no_autoload(request: pytest.FixtureRequest) -> Iterator[None]:
    """What is here is all there is: looking for a module takes longer than anything else."""
    if "packets" in request.node.name:
        system.modprobe("tun")
    system.modprobe("-a", "veth", "pppox", system.module_of("l2tp_ppp"))
    modprobe = Path("/proc/sys/kernel/modprobe")
    path = modprobe.read_text()
    modprobe.write_text("\n")
    yield
    modprobe.write_text(path)


def fuzz(what: str, count: int, lines: Callable[[], list[str]]) -> None:
    """Rounds of it, and a look into the log after each.  Something must be accepted."""
    options = ["--count", str(count), "--seed", SEED]
    # C spins for ever in a tunnel that is routed through itself, and runs freed code after l2tp_ppp
    # was unloaded under sessions: l2tp-fuzz packets --round 0, l2tp-fuzz races --round 0.  Its
    # namespaces do not end if a socket closes unheard.
    if what == "packets":
        options += expect("LOOP", c=["--tame"], rust=[])
    elif what == "races":
        options += expect("PPP-UNLOAD", c=["--tame"], rust=[])
    if SECONDS:
        options += ["--seconds", SECONDS]
    if ROUND:
        options += ["--round", ROUND, "--verbose"]
    assert PROGRAM.exists(), f"no {PROGRAM}: run tools/build-fuzz"
    done = accepted = 0
    with subprocess.Popen((PROGRAM, what, *options), stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.STDOUT) as program:
        assert program.stdout
        for line in program.stdout:
            print(line, end="", flush=True)
            if numbers := re.search(r"(\d+) done, (\d+) accepted", line):
                done, accepted = map(int, numbers.groups())
            bad = system.splats(lines()) if " round " in line else []
            if bad:
                program.kill()
                pytest.fail(f"the kernel complains in this round or before it: {line}"
                            + "\n".join(bad), pytrace=False)
    assert program.returncode == 0, "its last words say which seed and round: L2TP_FUZZ_ROUND=…"
    assert done and accepted > done // 50, "nothing is accepted"


@pytest.mark.parametrize("what", [
    "requests", "sockets", "packets", pytest.param("races", marks=pytest.mark.unloads)])
def test_fuzz(what: str, kernel_log: Callable[[], list[str]]) -> None:
    """It stays up, says nothing, and when all is deleted, nothing is left."""
    settle()
    references = system.loaded()
    before: dict[str, int] = {}
    if COUNT:
        fuzz(what, SHORT[what], kernel_log)  # fills caches
        before = memory.objects()
    count = COUNT // WORTH.get(what, 1) or (1 << 60 if SECONDS else SHORT[what])
    fuzz(what, count, kernel_log)
    eventually(lambda: system.loaded() == references, 30, "return of all references")
    assert not memory.network_devices_waiting()
    if COUNT:
        # what one round in a hundred leaves behind shows, in a long run
        memory.expect_back(before, 300)
