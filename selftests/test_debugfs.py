# SPDX-License-Identifier: GPL-2.0
"""abi 8.1: /sys/kernel/debug/l2tp/tunnels, line by line."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib import system
from lib.differences import expect
from lib.netns import NetNS
from lib.pppox import Address, PppSocket
from lib.uapi import Encap, L2Spec, PwType
from lib.wait import eventually

FILE = Path("/sys/kernel/debug/l2tp/tunnels")

HEADER = """\
TUNNEL ID, peer ID from IP to IP
 L2TPv2/L2TPv3, UDP/IP
 sessions session-count, refcnt refcnt/sk->refcnt
 debug tx-pkts/bytes/errs rx-pkts/bytes/errs
  SESSION ID, peer ID, PWTYPE
   refcnt cnt
   offset OFFSET l2specific TYPE/LEN
   [ cookie ]
   [ peer cookie ]
   config mtu/mru/rcvseq/sendseq/dataseq/lns debug reorderto
   nr/ns tx-pkts/bytes/errs rx-pkts/bytes/errs
"""

V3_UDP = """
TUNNEL 1 peer 2 from 127.0.0.1 to 127.0.0.2
 source port 5000, dest port 5001
 L2TPv3, UDP
 3 sessions, refcnt N/N
 00000000 tx 0/0/0 rx 0/0/0
  SESSION 9, peer 2, ETH
   refcnt N
   config 0/0/-/-/-/LAC 00000000 0
   offset 0 l2specific 1/4
   0/0 tx 0/0/0 rx 0/0/0
   interface new
  SESSION 10, peer 20, ETH
   nr 0, ns 0
   refcnt N
   config 0/0/R/S/-/LNS 00000000 100
   offset 0 l2specific 1/4
   cookie 0102030405060708
   peer cookie 11121314
   0/0 tx 0/0/0 rx 0/0/0
   interface wire
  SESSION 11, peer 2, PPP
   refcnt N
   config 0/0/-/-/-/LAC 00000000 0
   offset 0 l2specific 0/0
   cookie 01020000
   0/0 tx 0/0/0 rx 0/0/0
"""

V2_UDP = """
TUNNEL 3 peer 4 from 127.0.0.1 to 127.0.0.2
 source port 6000, dest port 6001
 L2TPv2, UDP
 1 sessions, refcnt N/N
 00000000 tx 0/0/0 rx 0/0/0
  SESSION 5, peer 6, PPP
   refcnt N
   config 0/0/-/-/-/LAC 00000000 0
   offset 0 l2specific 0/0
   0/0 tx 0/0/0 rx 0/0/0
   interface (null)
"""

V3_IP6 = """
TUNNEL 4000000000 peer 0 from fd00::1 to fd00::2
 L2TPv3, IP
 0 sessions, refcnt N/N
 00000000 tx 0/0/0 rx 0/0/0
"""


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> Iterator[None]:
    system.modprobe("l2tp_debugfs")
    yield


def listing(ns: NetNS) -> str:
    with ns:
        return re.sub(r"(refcnt) \d+(/\d+)?$", lambda m: f"{m[1]} N/N" if m[2] else f"{m[1]} N",
                      FILE.read_text(), flags=re.MULTILINE)


def test_content(ns: NetNS, other_ns: NetNS) -> None:
    """Everything that can be in it, in the order of ids; to whoever opens it there."""
    ns.l2tp.tunnel(4000000000, 0, encap=Encap.IP, local="fd00::1", peer="fd00::2")
    ns.l2tp.tunnel()
    ns.l2tp.session(1, 10, 20, cookie=bytes(range(1, 9)), peer_cookie=bytes(range(17, 21)),
                    recv_seq=1, send_seq=1, lns_mode=1, recv_timeout=100, ifname="wire")
    ns.l2tp.session(1, 9, ifname="old")
    ns.rename("old", "new")
    ns.l2tp.session(1, 11, pw_type=PwType.PPP, cookie=b"\1\2", l2spec=L2Spec.NONE)
    udp = ns.udp(("127.0.0.1", 6000), ("127.0.0.2", 6001))
    with PppSocket(ns) as management, PppSocket(ns) as session:
        management.connect(Address(3, 0, 4, 0, udp.fileno()))
        session.connect(Address(3, 5, 4, 6))
        assert listing(ns) == HEADER + V3_UDP + V2_UDP + V3_IP6
    assert listing(other_ns) == HEADER
    assert FILE.stat().st_mode & 0o7777 == 0o600 and FILE.stat().st_uid == 0


def test_references_of_the_socket(ns: NetNS) -> None:
    """What can be counted, is: another user of the socket shows."""
    sock = ns.udp(("127.0.0.1", 5000), ("127.0.0.2", 5001))
    ns.l2tp.tunnel(fd=sock.fileno())

    def references() -> list[int]:
        with ns:
            return [int(n) for n in re.findall(r", refcnt (\d+)/(\d+)$", FILE.read_text(), re.M)[0]]

    first, tunnel = references()
    assert first > 0 and tunnel > 0
    ns.l2tp.session()
    assert references()[1] > tunnel


def test_namespace_of_the_opener(ns: NetNS, other_ns: NetNS) -> None:
    """Not of the reader; the file keeps the namespace, and the module."""
    ns.l2tp.tunnel()
    name = system.module_of("l2tp_debugfs")
    before = system.loaded()[name]
    with ns:
        file = FILE.open()
    with file:
        with other_ns:
            assert "TUNNEL 1 peer 2" in file.read()
        assert system.loaded()[name] == before + 1
    eventually(lambda: system.loaded()[name] == before)


def test_rewind(ns: NetNS) -> None:
    ns.l2tp.tunnel()
    with ns, FILE.open() as file:
        text = file.read()
        file.seek(0)
        again = file.read()
    assert text.startswith(HEADER + "\nTUNNEL 1 ")
    assert again == expect("DEBUGFS-REWIND", c=HEADER, rust=text)


def test_many_sessions(ns: NetNS) -> None:
    """More than a buffer has room for, read in small pieces while they go."""
    sids = list(range(1, 201))
    ns.l2tp.tunnel()
    for sid in sids:
        ns.l2tp.session(1, sid, pw_type=PwType.PPP)
    with ns:
        fd = os.open(FILE, os.O_RDONLY)
    try:
        text = b""
        while piece := os.read(fd, 700):
            if len(text) < 6000 <= len(text + piece):
                ns.l2tp.del_session(1, 200)
                eventually(lambda: not ns.l2tp.has_session(1, 200))
            text += piece
    finally:
        os.close(fd)
    assert [int(sid) for sid in re.findall(rb"SESSION (\d+),", text)] == sids[:-1]
