# SPDX-License-Identifier: GPL-2.0
"""PPP sessions coming and going under traffic for a long time: no splat, no leak, no hang.

L2TP_SOAK is for how many seconds (default 20); `make soak` takes 600.  pytest runs this only if
it is named.
"""

import contextlib
import itertools
import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from lib import memory, system
from lib.netns import Hosts, settle
from lib.ppp_daemons import Dialup, Host, Line, Unit, bridge, up
from lib.uapi import Encap, Stat
from lib.wait import eventually
from lib.workers import Workers

SECONDS = int(os.environ.get("L2TP_SOAK", "20"))
KINDS = [(2, Encap.UDP, 4), (2, Encap.UDP, 6), (3, Encap.UDP, 4), (3, Encap.UDP, 6),
         (3, Encap.IP, 4), (3, Encap.IP, 6)]
USES = ("units", "sockets", "bridge", "netlink")


class Steady:
    """A session that stays for a round, flooded from one end."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.line = Line(hosts.a, hosts.b, hosts.addresses(4), tid=1, port=1701)
        self.units = []
        for end, ns in enumerate((hosts.a, hosts.b)):
            self.units.append(Unit(ns, self.line.session(end, 1)))
            ns.up(self.units[-1].name)
            ns.addr(self.units[-1].name, f"10.77.0.{end}/31")
        self.ping = hosts.a.popen("ping", "-f", "-q", "-s", "1372", "10.77.0.1")

    def answers(self) -> int:
        """How many packets the flood has brought back."""
        return self.hosts.a.l2tp.session_stats(1, 1)[Stat.RX_PACKETS]

    def close(self) -> None:
        self.ping.send_signal(signal.SIGKILL)
        self.ping.wait()
        for thing in (*self.units, self.line):
            thing.close()


def tunnel(hosts: Hosts, rnd: random.Random, number: int, counts: Counter[str]) -> None:
    """A tunnel with some sessions, used, and taken apart in any order."""
    counts["tunnels"] += 1
    version, encap, family = rnd.choice(KINDS)
    line = Line(hosts.a, hosts.b, hosts.addresses(family), version, encap,
                tid=100 + 2 * number, port=2000 + number)
    endings: list[Callable[[], None]] = [line.close]
    for n in range(rnd.randint(1, 6)):
        sid = 100 * (number + 1) + n
        socks = [line.session(end, sid) for end in (0, 1)]
        kind = rnd.choice(USES)
        counts[kind] += 1
        if kind == "units":
            units = [Unit(ns, sock) for ns, sock in zip((hosts.a, hosts.b), socks)]
            for end, (ns, unit) in enumerate(zip((hosts.a, hosts.b), units)):
                ns.up(unit.name)
                ns.addr(unit.name, f"10.78.{number % 250}.{2 * n + end}/31")
            client = hosts.a.udp((f"10.78.{number % 250}.{2 * n}", 999),
                                 (f"10.78.{number % 250}.{2 * n + 1}", 999))
            for _ in range(50):
                with contextlib.suppress(ConnectionRefusedError):
                    client.send(bytes(rnd.randint(1, 3000)))
            client.close()
            endings += [unit.close for unit in units]
            continue
        for _ in range(20):
            for sock in socks:
                sock.send(b"\x00\x21" + bytes(rnd.randint(1, 1400)), socket.MSG_DONTWAIT)
        if kind == "bridge" and version == 2:
            other = line.session(0, sid + 50)
            bridge(hosts.a, socks[0], other)
            socks[1].send(b"\x00\x21" + bytes(100))
            endings.append(other.close)
        if kind == "netlink":
            endings.append(lambda sid=sid: hosts.a.l2tp.del_session(line.tid, sid))
        endings += [sock.close for sock in socks]
    counts["frames"] += hosts.b.l2tp.tunnel_stats(line.tid + 1)[Stat.RX_PACKETS]
    rnd.shuffle(endings)
    for end in endings:
        # what another ending took away is no longer there to be taken away
        with contextlib.suppress(OSError):
            end()


def churn(seed: int, rounds: int, seconds: float) -> Counter[str]:
    """Hosts of its own, tunnels on them, and at last the hosts go with what is left."""
    rnd, deadline = random.Random(seed), time.monotonic() + seconds
    counts: Counter[str] = Counter()
    for _ in range(rounds):
        hosts = Hosts()
        steady = Steady(hosts)
        counts["hosts"] += 2
        for number in range(20):
            tunnel(hosts, rnd, number, counts)
            if time.monotonic() > deadline:
                break
        counts["flood"] += steady.answers()
        for end in rnd.sample((steady.close, hosts.close), 2):
            end()
        if time.monotonic() > deadline:
            break
    return counts


def workers(rounds: int, seconds: float) -> Workers:
    """One process per processor."""
    return Workers(os.cpu_count() or 2, lambda seed: churn(seed, rounds, seconds), seconds + 120)


def dial_xl2tpd(folder: Path) -> None:
    """A call, ended by either side, by a killed daemon, or with everything."""
    hosts = Hosts()
    dialup = Dialup(hosts, folder)
    try:
        dialup.dial(timeout=60)
        dialup.works()
        ending = random.choice(("caller", "pppd", "xl2tpd", "everything"))
        if ending == "caller":
            dialup.lac.order("d far")
            dialup.lns.no_call(60)
        elif ending == "pppd":
            dialup.lns.signal("pppd", signal.SIGTERM)
            dialup.lac.no_call(60)
        elif ending == "xl2tpd":
            dialup.lns.signal("xl2tpd", signal.SIGKILL)
    finally:
        dialup.close()
        hosts.close()


def dial_pppd(folder: Path) -> None:
    """Two pppd on one session, ended by a signal, a closed tunnel or the end of a host."""
    hosts = Hosts()
    a, b = Host(hosts.a, folder), Host(hosts.b, folder)
    line = Line(hosts.a, hosts.b, hosts.addresses(4))
    try:
        here = a.pppd(line.session(0, 5), "10.79.0.1:10.79.0.2")
        b.pppd(line.session(1, 5), "10.79.0.2:10.79.0.1")
        up(a, b, timeout=60)
        a.ns.ping("10.79.0.2", "-s", "1472", count=20, timeout=30)
        random.choice((line.close, here.end, lambda: here.end(signal.SIGKILL), a.close))()
    finally:
        a.close()
        b.close()
        line.close()
        hosts.close()


DIALS = (dial_pppd, dial_xl2tpd)


@pytest.mark.timeout(SECONDS + 600)
def test_sessions_come_and_go(tmp_path: Path) -> None:
    """Every processor makes and ends sessions; daemons dial beside them."""
    settle()
    references = system.loaded()
    workers(1, 60).join()  # fills caches
    for dial in DIALS:
        dial(tmp_path)
    before = memory.objects()
    running = workers(1 << 30, SECONDS)
    deadline = time.monotonic() + SECONDS
    dials = 0
    try:
        while dials < len(DIALS) or time.monotonic() < deadline - 30:
            DIALS[dials % len(DIALS)](tmp_path)
            dials += 1
    finally:
        total = running.join()
    print(f"\nsoak: {dials} calls by daemons;",
          ", ".join(f"{count} {name}" for name, count in sorted(total.items())))

    def kept() -> dict[str, int]:
        return {name: count for name, count in memory.growth(before, memory.objects()).items()
                if count > 60}

    eventually(lambda: not kept(), 60, what="return of all memory", interval=1)
    eventually(lambda: system.loaded() == references, 30, what="return of all references")
    assert not memory.network_devices_waiting()
    for what in (*USES, "tunnels", "frames", "flood"):
        assert total[what] > 0, total


@pytest.mark.timeout(1200)
def test_hundred_calls(tmp_path: Path) -> None:
    """A hundred sessions in one tunnel, each with a pppd at both ends."""
    hosts = Hosts()
    a, b = Host(hosts.a, tmp_path), Host(hosts.b, tmp_path)
    line = Line(hosts.a, hosts.b, hosts.addresses(4))
    try:
        for n, (end, host) in itertools.product(range(1, 101), enumerate((a, b))):
            host.pppd(line.session(end, n), "unit", str(n), "lcp-max-configure", "200",
                      f"10.{30 + end}.0.{n}:10.{31 - end}.0.{n}")
            if end:
                up(a, b, unit=f"ppp{n}", timeout=60)
        assert len(a.sessions()) == len(b.sessions()) == 100
        for n in range(1, 101):
            a.ns.ping(f"10.31.0.{n}", "-I", f"10.30.0.{n}")
    finally:
        a.close()
        b.close()
        line.close()
        hosts.close()
