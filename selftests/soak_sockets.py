# SPDX-License-Identifier: GPL-2.0
"""Sockets, tunnels, sessions and namespaces come and go while packets arrive, on all processors.

L2TP_SOAK is for how many seconds (default 20); `make soak` takes 600.  pytest runs this only if
it is named.
"""

import contextlib
import errno
import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable

from lib import flood, managed, memory, system, uapi
from lib.attrs import u32
from lib.flood import Flood
from lib.genl import L2tp
from lib.managed import KINDS, Kind
from lib.netns import NetNS, settle
from lib.uapi import Attr, Cmd, Encap, Stat
from lib.wait import at_once, eventually
from lib.workers import Workers

SECONDS = int(os.environ.get("L2TP_SOAK", "20"))
WORKERS = 2
#: Cycles of a worker for each life of its namespace.
LIFE = 15
NEAR = {4: flood.NEAR4, 6: flood.NEAR6}
FAR = {4: flood.FAR4, 6: flood.FAR6}
#: What a request may meet when everything happens at once.
RACES = (0, errno.EEXIST, errno.EBUSY, errno.ENODEV, errno.EADDRINUSE, errno.EBADF, errno.ENOTSOCK,
         errno.EINVAL, errno.EPROTONOSUPPORT, errno.ENOENT)


def if_open(action: Callable[[], object]) -> Callable[[], None]:
    """The same for a socket that another thread may have closed."""
    def run() -> None:
        with contextlib.suppress(OSError):
            action()
    return run


class Worker:
    """One process, with a namespace that has its own source of packets."""

    def __init__(self, number: int) -> None:
        self.random = random.Random(number)
        self.traffic = Flood()
        self.traffic.start(pause=0.02)  # leave processors to the others
        self.counts: Counter[str] = Counter()
        self.host = self.new_host()

    def new_host(self) -> NetNS:
        host = NetNS("soak")
        eventually(lambda: "eth0" not in self.traffic.ns.links(), 60)
        self.traffic.attach(host)
        self.counts["namespaces"] += 1
        return host

    def run(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for _ in range(LIFE):
                self.cycle()
                self.counts["cycles"] += 1
                if time.monotonic() > deadline:
                    break
            stats = self.host.counters("eth0")
            self.counts["packets"] += stats["rx_packets"] + stats["tx_packets"]
            # the socket of the last cycle may be open still, and keep it alive for a while
            self.host.close()
            self.host = self.new_host()
        self.host.close()
        self.traffic.close()

    def ask(self, cmd: Cmd, *attributes: bytes) -> int:
        reply = self.host.l2tp.ask(cmd, *attributes)
        assert reply.errno in RACES, (cmd, reply)
        return reply.errno

    # --- one cycle

    def cycle(self) -> None:
        kind = KINDS[self.random.choice(list(KINDS))]
        socks: list[socket.socket] = []
        if self.random.random() < 0.75:
            socks = self.managed_tunnel(kind)
        else:
            self.counts["unmanaged"] += not self.host.l2tp.try_tunnel(
                1, encap=kind.encap, local=NEAR[kind.family], peer=FAR[kind.family],
                sport=flood.NEAR_PORT, dport=flood.FAR_PORT).errno
        for sid in flood.SESSIONS:
            self.counts["sessions"] += not self.ask(Cmd.SESSION_CREATE, *L2tp.session_attrs(
                1, sid, sid, ifname=f"wire{sid}", recv_timeout=20 if sid == 2 else None))
            with contextlib.suppress(AssertionError, OSError):
                flood.use(self.host, f"wire{sid}")
        time.sleep(self.random.choice((0, 0.005, 0.03)))
        if socks and self.random.random() < 0.5:
            at_once(*map(if_open, self.random.sample([
                lambda: self.reconnect(kind, socks[0]), lambda: self.toggle(kind, socks[0]),
                lambda: self.create_again(kind, socks[0]), lambda: self.transmit(),
                lambda: self.end(socks)], 3)))
            self.counts["races"] += 1
        self.count()
        self.end(socks)
        for sock in socks:
            sock.close()
        self.ask(Cmd.TUNNEL_DELETE, u32(Attr.CONN_ID, 1))
        eventually(lambda: not self.host.l2tp.has_tunnel(1))

    def managed_tunnel(self, kind: Kind) -> list[socket.socket]:
        """On a socket of ours, or on one that a child has as well."""
        sock = kind.open(self.host)
        if kind.encap == Encap.UDP:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # C may still have the id of an L2TP/IP socket
            kind.bind(sock, NEAR[kind.family], flood.NEAR_PORT)
            kind.connect(sock, FAR[kind.family], flood.FAR_PORT)
        version = 3 if self.random.random() < 0.8 else 2
        reply = self.host.l2tp.try_tunnel(1, version=version, encap=kind.encap, fd=sock.fileno())
        assert reply.errno in RACES, reply
        self.counts["managed"] += not reply.errno
        return [sock, sock.dup()] if self.random.random() < 0.3 else [sock]

    def count(self) -> None:
        with contextlib.suppress(OSError):
            stats = self.host.l2tp.tunnel_stats()
            self.counts["received"] += stats[Stat.RX_PACKETS]
            self.counts["sent"] += stats[Stat.TX_PACKETS]

    def end(self, socks: list[socket.socket]) -> None:
        how = self.random.choice(("close", "tunnel", "sessions", "kill", "nothing"))
        if how == "tunnel":
            self.host.l2tp.ask(Cmd.TUNNEL_DELETE, u32(Attr.CONN_ID, 1))
        elif how == "sessions":
            for sid in flood.SESSIONS:
                self.host.l2tp.ask(Cmd.SESSION_DELETE, u32(Attr.CONN_ID, 1),
                                   u32(Attr.SESSION_ID, sid))
        elif how == "close":
            for sock in socks:
                sock.close()
        elif how == "kill":
            self.owner_dies(socks)

    def owner_dies(self, socks: list[socket.socket]) -> None:
        """A child is the last to have the socket, and is killed."""
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(0)
        for sock in socks:
            sock.close()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    # --- things that happen at the same time

    def reconnect(self, kind: Kind, sock: socket.socket) -> None:
        others = [other for other in KINDS.values()
                  if other.encap == kind.encap and other.af == kind.af]
        for number in range(20):
            other = others[number % len(others)]
            with contextlib.suppress(OSError):
                other.connect(sock, FAR[other.family], flood.FAR_PORT)
                sock.send(b"\xc8\x03 and so on")
            if number % 5 == 4:
                managed.disconnect(sock)

    def toggle(self, kind: Kind, sock: socket.socket) -> None:
        for number in range(10):
            if kind.encap == Encap.UDP:
                managed.set_udp_encap(sock, number % 2 * uapi.UDP_ENCAP_L2TPINUDP)
            sock.shutdown(number % 3)

    def create_again(self, kind: Kind, sock: socket.socket) -> None:
        """With a client of its own: a netlink socket is for one thread."""
        with self.client() as client:
            for _ in range(3):
                client.ask(Cmd.TUNNEL_DELETE, u32(Attr.CONN_ID, 1))
                client.try_tunnel(1, encap=kind.encap, fd=max(sock.fileno(), 0))
                client.try_session(1, 1, 1, ifname="again")

    def client(self) -> L2tp:
        with self.host:
            return L2tp()

    def transmit(self) -> None:
        """While they last: sending to a name that nobody has makes the kernel run modprobe."""
        with self.host:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        with sock:
            for name in [name for name in self.host.links() if name.startswith("wire")]:
                with contextlib.suppress(OSError):
                    for _ in range(30):
                        sock.sendto(bytes(60), (name, 0))


def work(seconds: float) -> Counter[str]:
    """Let all workers work; the sum of what they count."""
    def one(number: int) -> Counter[str]:
        worker = Worker(number)
        try:
            worker.run(seconds)
        except BaseException:
            worker.traffic.close()
            raise
        return worker.counts

    return Workers(WORKERS, one, seconds + 120).join()


def test_soak() -> None:
    settle()
    references = system.loaded()
    work(min(5, SECONDS / 4))  # fills caches
    before = memory.objects()
    start = time.monotonic()
    total = work(SECONDS)
    elapsed = time.monotonic() - start

    def kept() -> dict[str, int]:
        # what a cycle in a hundred leaves behind shows, in a long run
        return {name: count for name, count in memory.growth(before, memory.objects()).items()
                if count > max(100, total["cycles"] // 100)}

    with contextlib.suppress(AssertionError):
        eventually(lambda: not kept(), 30)
    grown = memory.growth(before, memory.objects())
    print(f"\nsoak: {elapsed:.0f} s on {os.cpu_count()} processors:",
          ", ".join(f"{count} {name}" for name, count in sorted(total.items())))
    print("soak: objects more than before:",
          {name: count for name, count in sorted(grown.items()) if count > 20})
    assert kept() == {}
    eventually(lambda: system.loaded() == references, 30)
    assert not memory.network_devices_waiting()
    for what in ("managed", "unmanaged", "sessions", "races", "received", "sent"):
        assert total[what] > 0, total
