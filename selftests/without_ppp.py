# SPDX-License-Identifier: GPL-2.0
"""On a kernel without PPP: all but PPP works, and that is refused as C refuses it.

pytest runs this only if it is named: `tools/test guest-cloud` does, on Debian's flavour for clouds,
whose C modules come without l2tp_ppp.
"""

import errno
import os
import socket

import pytest

from lib import system
from lib.checks import refused
from lib.differences import expect
from lib.netns import Hosts, NetNS, settle
from lib.pair import Wire, pattern, tcp_transfer
from lib.pppox import AF_PPPOX, PX_PROTO_OL2TP
from lib.uapi import Encap, PwType


def test_kernel_has_no_ppp() -> None:
    """Or nothing here says anything."""
    assert "cloud" in os.uname().release
    for module in ("ppp_generic", "pppox"):
        assert system.modprobe("-n", module, check=False) != 0
    if system.impl() == "c":
        assert system.modprobe("-n", "l2tp_ppp", check=False) != 0


@pytest.mark.parametrize("version", [2, 3])
def test_session(ns: NetNS, version: int) -> None:
    """By netlink; nothing is left of it."""
    ns.l2tp.tunnel(version=version)
    for _ in range(2):
        reply = ns.l2tp.try_session(pw_type=PwType.PPP)
        refused(reply, errno.EPROTONOSUPPORT)
        assert expect("EXTACK", c=True, rust="without PPP" in reply.extack), reply
    assert ns.l2tp.sessions() == [] and ns.links() == ["lo"]
    if version == 3:
        ns.l2tp.session()


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_socket(kind: int) -> None:
    """The family of PPP sockets is not there."""
    with pytest.raises(OSError) as raised:
        socket.socket(AF_PPPOX, kind, PX_PROTO_OL2TP)
    assert raised.value.errno == errno.EAFNOSUPPORT


def test_no_listing(ns: NetNS) -> None:
    with pytest.raises(FileNotFoundError):
        ns.read("pppol2tp")


@pytest.mark.parametrize("encap", [Encap.UDP, Encap.IP], ids=["udp", "ip"])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("seq", [False, True], ids=["plain", "seq"])
def test_traffic(hosts: Hosts, encap: Encap, family: int, seq: bool) -> None:
    """An Ethernet pseudowire carries what it is given."""
    wire = Wire(hosts, encap, family, cookie=8, seq=seq, recv_timeout=100 if seq else 0).up()
    wire.ping(family=4)
    wire.ping(family=6)
    for sender, receiver, target in ((hosts.a, hosts.b, wire.inner(4)[1]),
                                     (hosts.b, hosts.a, wire.inner(6)[0])):
        assert tcp_transfer(sender, receiver, target, 60000) == pattern(60000)


@pytest.mark.unloads
def test_unload(ns: NetNS) -> None:
    """And load again."""
    ns.l2tp.tunnel()
    settle()
    system.unload()
    system.load()
    ns.forget_clients()
    ns.l2tp.tunnel()
    ns.l2tp.session(ifname="again")
    assert "again" in ns.links()
