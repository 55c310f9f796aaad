# SPDX-License-Identifier: GPL-2.0
"""The module goes and comes while packets arrive, and while others open, use and close what it has.

L2TP_RELOADS is how often (default 20); `make soak` takes 1000.  pytest runs this only if it is named.
"""

import contextlib
import errno
import itertools
import os
import random
import select
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from lib import flood, memory, system
from lib.attrs import u32
from lib.flood import FAR4, FAR6, NEAR4, NEAR6, Flood
from lib.genl import L2tp
from lib.managed import KINDS
from lib.netns import NetNS, settle
from lib.pppox import Address, PppSocket
from lib.uapi import Attr, Cmd, Encap, PwType, Stat
from lib.wait import eventually
from lib.workers import Workers

RELOADS = int(os.environ.get("L2TP_RELOADS", "20"))
NEAR, FAR = {4: NEAR4, 6: NEAR6}, {4: FAR4, 6: FAR6}
#: What a request meets when the module is leaving, has left, or is coming; or a socket, while that
#: of a static tunnel just deleted is being closed. The last two are what the kernel says of sockets
#: of a protocol whose module is leaving.
GONE = (errno.ENOENT, errno.ENODEV, errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.EBADF,
        errno.ENOTCONN, errno.EADDRINUSE, errno.EINVAL, errno.ESRCH, errno.EAFNOSUPPORT, errno.ENETDOWN,
        errno.ENOMEM, errno.ENOBUFS)


@contextlib.contextmanager
def tolerant(counts: Counter[str], what: str) -> Iterator[None]:
    """Counts a block that was done to its end, and one that the module's absence has ended."""
    try:
        yield
        counts[what] += 1
    except OSError as error:
        assert error.errno in GONE, (what, error)
        counts[f"no {what}"] += 1
    except AssertionError as error:
        assert "is not there" in str(error), (what, error)  # the family
        counts[f"no {what}"] += 1


class User:
    """Tunnels of every kind, one after the other.  Naming the family or a protocol that is not there
    makes the kernel load the module."""

    def __init__(self, host: NetNS, seed: int) -> None:
        self.host = host
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()

    def run(self, stop: int) -> Counter[str]:
        """Until the other end of the pipe is closed."""
        names = itertools.cycle(KINDS)
        # in between, the module is free to go
        while not select.select([stop], [], [], self.random.uniform(0, 0.05))[0]:
            name = next(names)
            with tolerant(self.counts, name):
                self.use(name)
        return self.counts

    def use(self, name: str) -> None:
        kind = KINDS[name]
        with contextlib.ExitStack() as stack:
            with self.host:
                client = stack.enter_context(L2tp())
            client.ask(Cmd.TUNNEL_DELETE, u32(Attr.CONN_ID, 1))
            if self.random.random() < 0.5:
                client.tunnel(encap=kind.encap, local=NEAR[kind.family], peer=FAR[kind.family],
                              sport=flood.NEAR_PORT, dport=flood.FAR_PORT)
            else:
                sock = stack.enter_context(kind.open(self.host))
                kind.bind(sock, NEAR[kind.family], flood.NEAR_PORT if kind.encap == Encap.UDP else 1)
                kind.connect(sock, FAR[kind.family],
                             flood.FAR_PORT if kind.encap == Encap.UDP else 2)
                client.tunnel(encap=kind.encap, fd=sock.fileno())
            # sessions without a device do not keep the module
            client.session(1, 3, 3, PwType.PPP)
            if self.random.random() < 0.5:
                sock = stack.enter_context(PppSocket(self.host))
                sock.connect(Address(1, 3, 2, 3, version=3, peer=(FAR4, 0)))
            else:
                client.session(1, 1, 1, ifname="wire1")
                flood.use(self.host, "wire1")
            time.sleep(self.random.uniform(0, 0.02))
            self.counts["received"] += client.tunnel_stats()[Stat.RX_PACKETS]
            self.counts["sent"] += client.tunnel_stats()[Stat.TX_PACKETS]
            how = self.random.random()
            if how < 0.4:
                client.del_tunnel()
            elif how < 0.7:
                for sid in (1, 3):
                    client.ask(Cmd.SESSION_DELETE, u32(Attr.CONN_ID, 1), u32(Attr.SESSION_ID, sid))
            # else the sockets end it, and what has none is there when the module leaves


def reload(times: int, host: NetNS) -> Counter[str]:
    """That often, with traffic and a user."""
    rnd, counts = random.Random(times), Counter[str]()
    reader, writer = os.pipe()

    def use(seed: int) -> Counter[str]:
        os.close(writer)
        return User(host, seed).run(reader)

    begun = time.monotonic()
    user = Workers(1, use, 600 + 10 * times)
    try:
        while counts["unloaded"] < times:
            refused = system.rmmod("l2tp")
            if refused in (errno.EAGAIN, errno.EBUSY):
                counts["busy"] += 1
                time.sleep(rnd.uniform(0, 0.02))
                continue
            if not refused:
                counts["unloaded"] += 1
                if counts["unloaded"] % 50 == 0:
                    print(f"\n{counts['unloaded']} of {times}, {time.monotonic() - begun:.0f} s",
                          end="", flush=True)
                time.sleep(rnd.choice((0, 0, 0.02)))
            # the user's requests make the kernel do the same
            system.modprobe("l2tp", check=False)
            time.sleep(rnd.uniform(0, 0.1))
    finally:
        os.close(writer)
        os.close(reader)
    counts.update(user.join())
    return counts


@pytest.mark.only("rust", "PPP-UNLOAD: C's l2tp_ppp goes although sessions point to it")
@pytest.mark.unloads
def test_reload() -> None:
    host = NetNS("host")
    with contextlib.closing(Flood()) as traffic:
        traffic.attach(host)
        traffic.start(pause=0.005)
        settle()
        reload(min(5, RELOADS), host)  # fills caches
        before = memory.objects()
        begun = time.monotonic()
        counts = reload(RELOADS, host)
    print(f"\nreload: {time.monotonic() - begun:.0f} s:",
          ", ".join(f"{count} {name}" for name, count in sorted(counts.items())))

    system.load()
    for tid in host.l2tp.tunnels():
        host.l2tp.del_tunnel(tid)
    memory.expect_back(before, max(100, RELOADS // 10))
    host.close()
    settle()
    eventually(lambda: system.loaded() == {"l2tp": 0}, 30)
    assert not memory.network_devices_waiting()
    for what in (*KINDS, "received", "sent"):
        assert counts[what] > 0, counts
