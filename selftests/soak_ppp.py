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
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from lib import memory
from lib.netns import Hosts
from lib.ppp_daemons import Host, Line, Unit, bridge, up
from lib.uapi import Encap
from lib.wait import eventually

SECONDS = int(os.environ.get("L2TP_SOAK", "20"))
KINDS = [(2, Encap.UDP, 4), (2, Encap.UDP, 6), (3, Encap.UDP, 4), (3, Encap.UDP, 6),
         (3, Encap.IP, 4), (3, Encap.IP, 6)]


class Steady:
    """A session that stays for a round, flooded from one end."""

    def __init__(self, hosts: Hosts) -> None:
        self.line = Line(hosts.a, hosts.b, hosts.addresses(4), tid=1, port=1701)
        self.units = []
        for end, ns in enumerate((hosts.a, hosts.b)):
            self.units.append(Unit(ns, self.line.session(end, 1)))
            ns.up(self.units[-1].name)
            ns.addr(self.units[-1].name, f"10.77.0.{end}/31")
        self.ping = hosts.a.popen("ping", "-f", "-q", "-s", "1372", "10.77.0.1")

    def close(self) -> None:
        self.ping.send_signal(signal.SIGKILL)
        self.ping.wait()
        for thing in (*self.units, self.line):
            thing.close()


def tunnel(hosts: Hosts, rnd: random.Random, number: int) -> None:
    """A tunnel with some sessions, used, and taken apart in any order."""
    version, encap, family = rnd.choice(KINDS)
    line = Line(hosts.a, hosts.b, hosts.addresses(family), version, encap,
                tid=100 + 2 * number, port=2000 + number)
    endings: list[Callable[[], None]] = [line.close]
    for n in range(rnd.randint(1, 6)):
        sid = 100 * (number + 1) + n
        socks = [line.session(end, sid) for end in (0, 1)]
        kind = rnd.choice(("units", "sockets", "bridge", "netlink"))
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
    rnd.shuffle(endings)
    for end in endings:
        # what another ending took away is no longer there to be taken away
        with contextlib.suppress(Exception):
            end()


def churn(seed: int, rounds: int, deadline: float) -> None:
    """Hosts of its own, tunnels on them, and at last the hosts go with what is left."""
    rnd = random.Random(seed)
    for _ in range(rounds):
        hosts = Hosts()
        steady = Steady(hosts)
        for number in range(20):
            tunnel(hosts, rnd, number)
            if time.monotonic() > deadline:
                break
        if rnd.random() < 0.5:
            steady.close()
            hosts.close()
        else:
            hosts.close()
            steady.close()
        if time.monotonic() > deadline:
            break


def workers(rounds: int, seconds: float) -> list[int]:
    """One process per processor."""
    pids = []
    for seed in range(os.cpu_count() or 2):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                churn(seed, rounds, time.monotonic() + seconds)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        pids.append(pid)
    return pids


def join(pids: list[int]) -> None:
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * len(pids)


def dial(folder: Path) -> None:
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


@pytest.mark.timeout(SECONDS + 600)
def test_sessions_come_and_go(tmp_path: Path) -> None:
    """Every processor makes and ends sessions; daemons dial beside them."""
    join(workers(1, 60))
    dial(tmp_path)
    before = memory.objects()
    pids = workers(1 << 30, SECONDS)
    deadline = time.monotonic() + SECONDS
    dials = 0
    try:
        while time.monotonic() < deadline - 30:
            dials += 1
            dial(tmp_path)
    finally:
        join(pids)
    print(f"{dials} calls by pppd")
    eventually(lambda: not kept(before), 60, what="return of all memory", interval=1)
    assert not memory.network_devices_waiting()


def kept(before: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in memory.growth(before, memory.objects()).items()
            if count > 60}


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
