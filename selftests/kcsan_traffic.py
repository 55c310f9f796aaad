# SPDX-License-Identifier: GPL-2.0
"""Everything that packets change is read, and everything they read is changed, while they flow on
all processors.

For a kernel with KCSAN, which tells of what meets without a mark; L2TP_RACE_SECONDS is for how long
each (default 15).  pytest runs this only if it is named.
"""

import contextlib
import itertools
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from lib import pppox
from lib.attrs import integer
from lib.genl import L2tp
from lib.netns import Hosts, NetNS
from lib.pair import Wire
from lib.pppox import Address, Link, PppSocket
from lib.uapi import Attr, Cmd, Encap, PwType, Stat
from lib.workers import Workers

SECONDS = float(os.environ.get("L2TP_RACE_SECONDS", "15"))


def for_a_while(*work: Callable[[], Callable[[], object]]) -> Counter[str]:
    """Each of `work`, in a process of its own and spread over the processors, makes what is to be
    done again and again; how often each was."""
    cpus = sorted(os.sched_getaffinity(0))

    def run(number: int) -> Counter[str]:
        os.sched_setaffinity(0, {cpus[number % len(cpus)]})
        action, deadline, count = work[number](), time.monotonic() + SECONDS, 0
        while time.monotonic() < deadline:
            action()
            count += 1
        return Counter({str(number): count})

    counts = Workers(len(work), run, SECONDS + 120).join()
    assert all(counts[str(number)] > 1 for number in range(len(work))), counts
    return counts


def sender(ns: NetNS, ifname: str, ppp: bool = False) -> Callable[[], Callable[[], object]]:
    """Sends frames from a device."""
    def make() -> Callable[[], object]:
        with ns:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM if ppp else socket.SOCK_RAW, 0)
        head = b"\x45" if ppp else b"\xff" * 6 + b"\x02\0\0\0\0\x01\x88\xb5"

        def send() -> None:
            with contextlib.suppress(OSError):
                for size in (60, 600, 1400):
                    sock.sendto(head + bytes(size), (ifname, 0x0800))
        return send
    return make


def reader(ns: NetNS, tid: int, sid: int) -> Callable[[], Callable[[], object]]:
    """Reads all that can be read of a tunnel and its session."""
    def make() -> Callable[[], object]:
        os.setns(ns.fd, os.CLONE_NEWNET)
        client = L2tp()
        files = [Path("/sys/kernel/debug/l2tp/tunnels"), Path("/proc/thread-self/net/dev"),
                 Path("/proc/thread-self/net/pppol2tp")]

        def read() -> None:
            for cmd in (Cmd.TUNNEL_GET, Cmd.SESSION_GET):
                client.dump(cmd)
            client.tunnel_stats(tid)
            client.session_stats(tid, sid)
            for file in files:
                assert file.read_text()
        return read
    return make


def changer(ns: NetNS, tid: int, sid: int) -> Callable[[], Callable[[], object]]:
    """Changes all that can be changed of a session, and of the namespace."""
    def make() -> Callable[[], object]:
        os.setns(ns.fd, os.CLONE_NEWNET)
        client = L2tp()
        settings = itertools.cycle(itertools.product((0, 1), (0, 1), (0, 5, 50)))

        def change() -> None:
            seq, check, patience = next(settings)
            client.modify_session(tid, sid, integer(Attr.SEND_SEQ, seq), integer(Attr.RECV_SEQ, 0),
                                  integer(Attr.LNS_MODE, seq),
                                  integer(Attr.RECV_TIMEOUT, patience))
            Path("/proc/sys/net/l2tp/check_peer").write_text(str(check))
            time.sleep(0.002)
        return change
    return make


def disturb(hosts: Hosts) -> None:
    """The underlay changes the order of what it carries."""
    for ns in (hosts.a, hosts.b):
        ns.run("tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "1ms", "2ms", "limit",
               "100")


@pytest.mark.parametrize("encap,family", [(Encap.UDP, 4), (Encap.UDP, 6), (Encap.IP, 4),
                                          (Encap.IP, 6)])
def test_traffic(hosts: Hosts, encap: Encap, family: int) -> None:
    """Frames both ways, from both processors, with numbers and without, in order and not."""
    wire = Wire(hosts, encap, family, seq=True, recv_timeout=20).silent()
    disturb(hosts)
    for_a_while(
        sender(hosts.a, wire.device), sender(hosts.a, wire.device),
        sender(hosts.b, wire.device), reader(hosts.a, 10, 20), changer(hosts.a, 10, 20),
        changer(hosts.b, 11, 21))
    for end in (0, 1):
        stats = wire.stats(end)
        assert stats[Stat.RX_PACKETS] and stats[Stat.TX_PACKETS]


@pytest.mark.parametrize("version", [2, 3])
def test_ppp(hosts: Hosts, version: int) -> None:
    """The same of PPP devices; the socket's options change, too."""
    links = []
    for end, ns in enumerate((hosts.a, hosts.b)):
        near, far = (hosts.A4, hosts.B4) if end == 0 else (hosts.B4, hosts.A4)
        ns.sysctl("net/ipv6/conf/default/disable_ipv6", 1)
        ns.l2tp.tunnel(1, 1, version, local=near, peer=far, sport=1701, dport=1701)
        ns.l2tp.session(1, 10, 10, PwType.PPP, send_seq=1, lns_mode=1, recv_timeout=20)
        sock = PppSocket(ns)
        sock.connect(Address(1, 10, 1, 10))
        links.append(Link(sock).up(f"10.9.0.{1 + end}", f"10.9.0.{2 - end}"))
    disturb(hosts)

    def options() -> Callable[[], object]:
        sock = links[0].sock
        settings = itertools.cycle((0, 1))

        def change() -> None:
            value = next(settings)
            for option in (pppox.SO_SENDSEQ, pppox.SO_LNSMODE):
                sock.set(option, value)
            sock.set(pppox.SO_REORDERTO, 20 * value)
            for option in (pppox.SO_SENDSEQ, pppox.SO_RECVSEQ, pppox.SO_REORDERTO):
                sock.get(option)
            sock.stats()
            time.sleep(0.002)
        return change

    for_a_while(
        sender(hosts.a, links[0].ifname, ppp=True), sender(hosts.a, links[0].ifname, ppp=True),
        sender(hosts.b, links[1].ifname, ppp=True), reader(hosts.a, 1, 10), options,
        changer(hosts.b, 1, 10))
    for link in links:
        stats = link.sock.stats()
        assert stats.rx_packets and stats.tx_packets
        link.close()
