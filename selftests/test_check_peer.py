# SPDX-License-Identifier: GPL-2.0
"""B24: data messages come from the tunnel's peer, unless net.l2tp.check_peer says that it does not
matter, as it does not to C."""

import errno
import itertools
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace

import pytest

from lib.differences import expect, impl
from lib.managed import KINDS, Kind
from lib.netns import NetNS
from lib.uapi import Attr, Encap, L2Spec
from lib.wait import eventually
from lib.wire import Path, Session, Wire, frame, packed, pattern

INNER = frame(pattern(46))
#: Who is not the peer, and another address of our end.
STRANGER = {4: "192.0.2.3", 6: "2001:db8::3"}
SECOND = {4: "192.0.2.9", 6: "2001:db8::9"}
GROUP = {4: "239.1.2.3", 6: "ff05::123"}
OTHER_GROUP = {4: "239.1.2.4", 6: "ff05::124"}
BROADCAST = ("192.0.2.255", "255.255.255.255")
SETTING = "net/l2tp/check_peer"

PATHS = pytest.mark.parametrize("family, encap", [(4, Encap.UDP), (6, Encap.UDP), (4, Encap.IP),
                                                  (6, Encap.IP)],
                                ids=["udp4", "udp6", "ip4", "ip6"])


#: Sockets of tunnels, which their file descriptors must outlive.
_sockets: list[socket.socket] = []


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    made = Wire()
    made.a.addr("eth0", f"{SECOND[4]}/24", f"{SECOND[6]}/64")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def default(wire: Wire) -> Iterator[None]:
    """Each test begins with what a namespace begins with, and with no tunnel."""
    yield
    check(wire, True)
    for tid in wire.l2tp.tunnels():
        wire.l2tp.del_tunnel(tid)
    while _sockets:
        _sockets.pop().close()
    eventually(lambda: not any(name.startswith("p") for name in wire.a.links()))


def check(wire: Wire, on: bool) -> None:
    if impl() == "rust":
        wire.a.sysctl(SETTING, int(on))


def tunnel(wire: Wire, tid: int, path: Path) -> Session:
    """Of the kernel's own, with a session."""
    wire.l2tp.tunnel(tid, tid, encap=path.encap, local=path.a, peer=path.b, sport=path.sport,
                     dport=path.dport)
    return Session(tid, tid << 8, path, f"p{tid}", L2Spec.NONE, peer_cookie=b"1234").create(wire)


def anyone(wire: Wire, tid: int, path: Path) -> socket.socket:
    """A tunnel on a socket that gets whatever is sent to the port, from anybody."""
    sock = wire.a.socket(socket.AF_INET if path.family == 4 else socket.AF_INET6)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("", path.sport))
    _sockets.append(sock)
    wire.l2tp.tunnel(tid, tid, fd=sock.fileno())
    return sock


def taken(wire: Wire, session: Session, packet: bytes) -> bool:
    """Whether a message is delivered; if it is not, the tunnel counts it."""
    before = wire.counters()
    wire.inject(packet)
    delivered = wire.delivered()
    counts = session.received(INNER) if delivered else session.tunnel_counts(RX_INVALID=1)
    assert wire.changes(before) == counts
    assert delivered in ([], [(session.ifname, INNER)])
    return bool(delivered)


def path_of(family: int, encap: Encap) -> Path:
    return Path(family, encap, 1701, 1702) if encap == Encap.UDP else Path(family, encap)


@PATHS
def test_stranger(wire: Wire, family: int, encap: Encap) -> None:
    path = path_of(family, encap)
    if encap == Encap.UDP:
        other = anyone(wire, 2, path)
        session = managed(wire, 1, path)
    else:
        other = None
        session = tunnel(wire, 1, path)
    message = session.header() + INNER
    forged = [path.incoming(message, src=STRANGER[family]),
              path.incoming(message, dst=SECOND[family]),
              path.incoming(message, src=STRANGER[family], dst=SECOND[family])]
    for on in (True, False, True):
        check(wire, on)
        assert taken(wire, session, path.incoming(message))
        for packet in forged:
            assert taken(wire, session, packet) == expect("B24", c=True, rust=not on)
    # not even a guess at the cookie is answered
    wrong = replace(session, peer_cookie=b"1235").header() + INNER
    before = wire.counters()
    wire.inject(path.incoming(wrong, src=STRANGER[family]))
    assert wire.delivered() == []
    assert wire.changes(before) == expect("B24", c=session.counts(RX_COOKIE_DISCARDS=1,
                                                                  RX_ERRORS=1),
                                          rust=session.tunnel_counts(RX_INVALID=1))
    if other is not None:
        # a stranger's message is no daemon's business either
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(100)


def kind_of(path: Path) -> Kind:
    return KINDS[f"{path.encap.name.lower()}{path.family}"]


def managed(wire: Wire, tid: int, path: Path, connect: bool = True, local: str = "",
            peer: str = "") -> Session:
    """On a connected socket that shares its port."""
    kind = kind_of(path)
    sock = kind.open(wire.a)
    _sockets.append(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kind.bind(sock, local or path.a, path.sport or tid)
    if connect:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, bool(peer))
        kind.connect(sock, peer or path.b, path.dport or tid)
    wire.l2tp.tunnel(tid, tid, encap=path.encap, fd=sock.fileno())
    return Session(tid, tid << 8, path, f"p{tid}", L2Spec.NONE, peer_cookie=b"1234").create(wire)


@pytest.mark.parametrize("family", [4, 6])
def test_another_port(wire: Wire, family: int) -> None:
    """The peer's NAT has found another port for it: its messages come to another socket."""
    path = path_of(family, Encap.UDP)
    anyone(wire, 2, path)
    session = managed(wire, 1, path)
    moved = replace(path, dport=999)
    assert taken(wire, session, moved.incoming(session.header() + INNER))


@pytest.mark.parametrize("family", [4, 6])
def test_socket_without_a_peer(wire: Wire, family: int) -> None:
    """A tunnel whose socket is not connected takes what comes to it, and to others."""
    path = path_of(family, Encap.UDP)
    session = managed(wire, 1, path, connect=False)
    message = session.header() + INNER
    other = replace(path, sport=1703)
    owner = _sockets[-1]
    anyone(wire, 2, other)
    assert taken(wire, session, path.incoming(message, src=STRANGER[family]))
    assert taken(wire, session, other.incoming(message, src=STRANGER[family]))
    # and when it has one, it does not
    owner.connect((path.b, path.dport))
    assert taken(wire, session, path.incoming(message))
    assert taken(wire, session, other.incoming(message))
    assert taken(wire, session, other.incoming(message, src=STRANGER[family])) \
        == expect("B24", c=True, rust=False)


@pytest.mark.parametrize("family", [4, 6])
def test_mapped_addresses(wire: Wire, family: int) -> None:
    """An IPv6 socket that is connected to an IPv4 peer; and the other family's packets."""
    path = path_of(4, Encap.UDP)
    sock = wire.a.socket(socket.AF_INET6)
    _sockets.append(sock)
    sock.connect((f"::ffff:{path.b}", path.dport))
    wire.l2tp.tunnel(1, 1, fd=sock.fileno())
    session = Session(1, 0x100, path, "p1", L2Spec.NONE, peer_cookie=b"1234").create(wire)
    anyone(wire, 2, path_of(family, Encap.UDP))
    message = session.header() + INNER
    via = path_of(family, Encap.UDP)
    assert taken(wire, session, via.incoming(message)) == expect("B24", c=True, rust=family == 4)
    assert taken(wire, session, via.incoming(message, src=STRANGER[family])) \
        == expect("B24", c=True, rust=False)


@pytest.mark.parametrize("family", [4, 6])
def test_group(wire: Wire, family: int) -> None:
    """Messages to a group are answered from other addresses.  (No tunnel over IP has one.)"""
    path = path_of(family, Encap.UDP)
    wire.l2tp.tunnel(1, 1, local=path.a, peer=GROUP[family], sport=path.sport, dport=path.dport)
    session = Session(1, 0x100, path, "p1", L2Spec.NONE, peer_cookie=b"1234").create(wire)
    via = replace(path, sport=1703)
    anyone(wire, 2, via)
    assert taken(wire, session, via.incoming(session.header() + INNER, src=STRANGER[family]))


#: In C, a tunnel that is being freed may still keep its closed socket's id.
tids = itertools.count(10)


def beside(wire: Wire, path: Path) -> Path:
    """As the path, but what comes by it comes to another socket, if there are ports."""
    if path.encap == Encap.IP:
        return path
    via = replace(path, sport=1703)
    anyone(wire, 2, via)
    return via


@pytest.mark.parametrize("kind, address", [
    (kind, address) for kind in ("udp4", "ip4") for address in (GROUP[4], *BROADCAST)
] + [("udp6", GROUP[6])])
def test_bound_to_a_group(wire: Wire, kind: str, address: str) -> None:
    """What the peer sends to a group, or to all, is for the tunnel whose socket is bound to that; and
    so is what it answers to where the socket sends from.  (Over IPv6, UDP can do so only.)"""
    family = KINDS[kind].family
    path = path_of(family, KINDS[kind].encap)
    member = wire.a.socket(KINDS[kind].af)
    _sockets.append(member)
    for group in (GROUP[family], OTHER_GROUP[family]):
        eth0 = wire.a.link("eth0").index
        if family == 4:
            member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                              packed(group) + struct.pack("=4xi", eth0))
        else:
            member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP,
                              packed(group) + struct.pack("=i", eth0))
    session = managed(wire, next(tids), path, local=address)
    via = beside(wire, path)
    message = session.header() + INNER
    source = wire.l2tp.get_tunnel(session.tid)[Attr.IP_SADDR if family == 4 else Attr.IP6_SADDR]
    assert taken(wire, session, via.incoming(message, dst=address))
    assert taken(wire, session, via.incoming(message, dst=source))
    for packet in (via.incoming(message, src=STRANGER[family], dst=address),
                   via.incoming(message, src=STRANGER[family], dst=source),
                   via.incoming(message, dst=OTHER_GROUP[family])):
        assert taken(wire, session, packet) == expect("B24", c=True, rust=False)


@pytest.mark.parametrize("peer", BROADCAST)
@pytest.mark.parametrize("encap", [Encap.UDP, Encap.IP], ids=["udp4", "ip4"])
def test_broadcast_peer(wire: Wire, encap: Encap, peer: str) -> None:
    """Messages to all are answered from other addresses.  That a socket may send them opens it to
    nobody else."""
    path = path_of(4, encap)
    session = managed(wire, next(tids), path, peer=peer)
    owner = _sockets[-1]
    packet = beside(wire, path).incoming(session.header() + INNER, src=STRANGER[4])
    assert taken(wire, session, packet)
    kind_of(path).connect(owner, path.b, path.dport or session.tid)
    assert taken(wire, session, packet) == expect("B24", c=True, rust=False)


@pytest.mark.only("rust", "B24: C has no such setting")
def test_setting(wire: Wire, other_ns: NetNS) -> None:
    """On in each namespace, of two values, and its own."""
    assert other_ns.sysctl_of(SETTING) == "1"
    wire.a.sysctl(SETTING, 0)
    assert wire.a.sysctl_of(SETTING) == "0"
    assert other_ns.sysctl_of(SETTING) == "1"
    for bad in (2, -1, "no"):
        with pytest.raises(OSError) as caught:
            wire.a.sysctl(SETTING, bad)
        assert caught.value.errno == errno.EINVAL
    assert wire.a.sysctl_of(SETTING) == "0"
