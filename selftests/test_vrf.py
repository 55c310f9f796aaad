# SPDX-License-Identifier: GPL-2.0
"""Tunnels whose underlay is a VRF; L2TP/IP sockets bound to a VRF or to one of its ports (abi 6.4).

Of host a, the way to host b is in a VRF; what a tunnel carries is not."""

import errno
import socket
from collections.abc import Iterator

import pytest

from lib.ipsocket import (FAMILIES, SO_BINDTODEVICE, V4, V6, Family, Name, Sock, Sockets, control,
                          refused)
from lib.managed import KINDS
from lib.netns import Hosts, NetNS
from lib.pair import Wire
from lib.uapi import Encap
from lib.wait import eventually

LOCAL = {4: "10.3.3.1", 6: "fd03::1"}  # of host a, in no VRF
LINK_LOCAL = {"a": "fe80::a1", "b": "fe80::b1"}


def add_vrf(ns: NetNS, name: str, table: int, *ports: str) -> None:
    """With routes of its own only."""
    ns.run("ip", "link", "add", name, "type", "vrf", "table", str(table))
    for family in ("-4", "-6"):
        ns.run("ip", family, "route", "add", "unreachable", "default", "table", str(table),
               "metric", "4278198272")
    ns.up(name)
    for port in ports:
        ns.run("ip", "link", "set", port, "master", name)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    pair = Hosts()
    add_vrf(pair.a, "red", 10, "eth0")
    add_vrf(pair.a, "blue", 20)
    for name, ns in (("a", pair.a), ("b", pair.b)):
        ns.addr("eth0", f"{LINK_LOCAL[name]}/64")
    pair.a.addr("lo", f"{LOCAL[4]}/32", f"{LOCAL[6]}/128")
    for family, prefix in ((4, 32), (6, 128)):
        near, far = pair.addresses(family)
        pair.a.run("ip", f"-{family}", "route", "add", f"{far}/{prefix}", "dev", "red")
        pair.b.rtnl.add_route(f"{LOCAL[family]}/{prefix}", near)
    for family in (4, 6):
        eventually(lambda family=family: pair.b.pings(pair.addresses(family)[0]))
    yield pair
    pair.close()


@pytest.fixture
def sock(hosts: Hosts) -> Iterator[Sockets]:
    sockets = Sockets(hosts.a)
    yield sockets
    sockets.close()


@pytest.fixture
def wire(hosts: Hosts) -> Iterator[Wire]:
    """Whose tunnels are deleted."""
    yield Wire(hosts)
    for end, ns in enumerate((hosts.a, hosts.b)):
        if ns.l2tp.has_tunnel(10 + end):
            ns.l2tp.del_tunnel(10 + end)
        eventually(lambda ns=ns: not ns.l2tp.tunnels() and not ns.index("l2tp"))


def check(wire: Wire) -> None:
    """Both ways, whole and in pieces."""
    for end, ns in enumerate((wire.hosts.a, wire.hosts.b)):
        wire.addresses(end)
        ns.set_mtu(wire.device, 1600)  # it may have been that of the VRF, which is a large one
    for family in (4, 6):
        wire.ping(family=family)
        wire.ping("-s", "1472", family=family)
    for end in (0, 1):
        stats = {key.name: value for key, value in wire.stats(end).items()}
        assert not stats["TX_ERRORS"] and not stats["RX_ERRORS"] and stats["RX_PACKETS"] >= 8


@pytest.mark.parametrize("device", ["red", "eth0"])
@pytest.mark.parametrize("kind", KINDS)
def test_managed(hosts: Hosts, wire: Wire, kind: str, device: str) -> None:
    """The daemon binds its socket to the VRF, or to a port of it."""
    made = KINDS[kind]
    wire.encap, wire.family = made.encap, made.family
    local, peer = hosts.addresses(made.family)
    if kind in ("ip4", "ip6"):  # that bind to addresses outside of VRFs only
        local = {"ip4": "0.0.0.0", "ip6": "::"}[kind]
    with made.open(hosts.a) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, device.encode())
        made.bind(sock, local, wire.port if made.encap == Encap.UDP else wire.tid)
        made.connect(sock, peer, wire.port if made.encap == Encap.UDP else wire.tid + 1)
        hosts.a.l2tp.tunnel(wire.tid, wire.tid + 1, encap=made.encap, fd=sock.fileno())
        wire.session(0)
        wire.tunnel(1)
        wire.session(1)
        check(wire)


@pytest.mark.parametrize("encap", [Encap.UDP, Encap.IP], ids=["udp", "ip"])
@pytest.mark.parametrize("family", [4, 6])
def test_unmanaged(hosts: Hosts, wire: Wire, encap: Encap, family: int) -> None:
    """A tunnel of the kernel's is bound to no device, and cannot have an address of a VRF; but a
    route may lead into one.  UDP must be told to take what comes from there for such sockets."""
    near, far = hosts.addresses(family)
    wire.encap, wire.family = encap, family
    ours = {"encap": encap, "local": LOCAL[family], "peer": far, "sport": 5000, "dport": 5000}
    theirs = ours | {"local": far, "peer": LOCAL[family]}
    foreign = hosts.a.l2tp.try_tunnel(10, 11, **ours | {"local": near})
    assert foreign.errno == errno.EADDRNOTAVAIL, foreign
    hosts.a.sysctl("net/ipv4/udp_l3mdev_accept", 1)
    hosts.a.l2tp.tunnel(10, 11, **ours)
    hosts.b.l2tp.tunnel(11, 10, **theirs)
    wire.session(0)
    wire.session(1)
    check(wire)


def on(sock: Sockets, family: Family, device: str, conn_id: int) -> Sock:
    """A socket for any address, bound to a device if there is one."""
    made = sock(family)
    if device:
        made.set_device(device)
    return made.bind(family.any, conn_id)


@FAMILIES
def test_delivery(hosts: Hosts, sock: Sockets, family: Family) -> None:
    """6.4 1: what comes in by a port of a VRF comes from the VRF: a socket that is bound to the
    port never hears of it; one that is bound to nothing does."""
    near, far = hosts.addresses(family.number)
    sockets = {(device, conn_id): on(sock, family, device, conn_id)
               for device, conn_id in (("", 5), ("eth0", 6), ("red", 7), ("blue", 8), ("lo", 9),
                                       ("red", 10), ("blue", 10), ("eth0", 10))}
    with hosts.b:
        sender = Sock(family)
    sender.bind(family.any, 1)
    for conn_id in (*range(5, 11), 5):
        assert sender.send(control(conn_id), family.name(near)) == 22
    last = sockets["", 5]
    assert [last.recv(), last.recv()] == [control(5)] * 2  # and now all have come
    got = {key: made.all() for key, made in sockets.items()}
    heard = {("red", 7), ("red", 10)}
    assert got == {key: [control(key[1])] if key in heard else [] for key in sockets}
    sender.close()


@FAMILIES
def test_reply(hosts: Hosts, sock: Sockets, family: Family) -> None:
    """A message to a peer in the VRF leaves by it; connected to a peer there, too."""
    near, far = hosts.addresses(family.number)
    with hosts.b:
        receiver = Sock(family)
    receiver.bind(far, 1)
    bound = on(sock, family, "red", 5)
    bound.send(control(1), family.name(far))
    assert receiver.recv() == control(1)
    bound.connect(far, 1)
    assert bound.here() == Name(near, 5)
    bound.send(control(1, b"connected"))
    got = receiver.recvmsg()
    assert got.data == control(1, b"connected") and family.parse_sender(got.name) == near
    elsewhere = on(sock, family, "blue", 6)
    with refused(family.pick(errno.EHOSTUNREACH, errno.EADDRNOTAVAIL)):
        elsewhere.send(control(1), family.name(far))
    receiver.send(control(5, b"back"), family.name(near))
    assert bound.recv() == control(5, b"back")
    receiver.close()


def test_bind(hosts: Hosts, sock: Sockets) -> None:
    """6.3: the addresses of a VRF are nobody's, whatever the socket is bound to."""
    for device in ("", "red", "eth0"):
        for family in (V4, V6):
            made = sock(family)
            if device:
                made.set_device(device)
            with refused(errno.EADDRNOTAVAIL):
                made.bind(hosts.addresses(family.number)[0], 5)


def test_link_local(hosts: Hosts, sock: Sockets) -> None:
    """An address of a link belongs to the port, and a socket that is bound to it, too, which then
    hears nothing; but the VRF does."""
    port, vrf = (hosts.a.link(name).index for name in ("eth0", "red"))
    bound = sock(V6).bind(LINK_LOCAL["a"], 5, scope=port)
    of_vrf, free = on(sock, V6, "red", 6), on(sock, V6, "", 7)
    with refused(errno.EADDRNOTAVAIL):
        sock(V6).bind(LINK_LOCAL["a"], 8, scope=vrf)
    with hosts.b:
        sender = Sock(V6)
    sender.bind(LINK_LOCAL["b"], 1, scope=hosts.b.link("eth0").index)
    for conn_id in (5, 6, 7):
        sender.send(control(conn_id), V6.name(LINK_LOCAL["a"]))
    got = free.recvmsg()
    assert got.data == control(7) and V6.parse(got.name) == Name(LINK_LOCAL["b"], scope=vrf)
    assert bound.all() == [] and of_vrf.all() == [control(6)]
    bound.send(control(1), V6.name(LINK_LOCAL["b"], scope=port))
    assert sender.recv() == control(1)
    sender.close()
