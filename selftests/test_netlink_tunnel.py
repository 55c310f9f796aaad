# SPDX-License-Identifier: GPL-2.0
"""abi 2.5 for tunnels and 3.1, 3.3, 3.5: what creates one, what is refused, with which errno."""

import errno
import os
import socket
import tempfile

import pytest

from lib import system, uapi
from lib.attrs import flag, ip4, ip6, u8, u16, u32
from lib.checks import refused
from lib.differences import expect
from lib.genl import L2tp
from lib.ipsocket import Sock
from lib.netns import NetNS, move
from lib.uapi import Attr, Cmd, Encap
from lib.wait import eventually

UDP, IP = Encap.UDP, Encap.IP
ENCAPS = pytest.mark.parametrize("encap", [UDP, IP], ids=["udp", "ip"])
FAMILIES = pytest.mark.parametrize("family", [4, 6])
LOCAL = {4: "127.0.0.1", 6: "fd00::1"}
PEER = {4: "127.0.0.2", 6: "fd00::2"}


# --- TUNNEL_CREATE 1-3: attributes

REQUIRED = ("CONN_ID", "PEER_CONN_ID", "PROTO_VERSION", "ENCAP_TYPE")


@pytest.mark.parametrize("first", range(4), ids=REQUIRED)
@pytest.mark.parametrize("others", [True, False], ids=["only", "and-all-after"])
def test_missing_attribute(scratch: L2tp, first: int, others: bool) -> None:
    attributes = scratch.tunnel_attrs()
    left = attributes[:first] + (attributes[first + 1:] if others else attributes[4:])
    refused(scratch.ask(Cmd.TUNNEL_CREATE, *left), errno.EINVAL, REQUIRED[first])


S4, D4 = ip4(Attr.IP_SADDR, "127.0.0.1"), ip4(Attr.IP_DADDR, "127.0.0.2")
S6, D6 = ip6(Attr.IP6_SADDR, "fd00::1"), ip6(Attr.IP6_DADDR, "fd00::2")


@pytest.mark.parametrize("addresses,missing", [
    ((), "ADDR"), ((S4,), "IP_DADDR"), ((D4,), "IP_SADDR"), ((S6,), "IP6_DADDR"),
    ((D6,), "IP6_SADDR"), ((S4, D6), "ADDR"), ((S6, D4), "ADDR")],
    ids=["none", "s4", "d4", "s6", "d6", "s4d6", "s6d4"])
@ENCAPS
def test_incomplete_addresses(scratch: L2tp, encap: int, addresses: tuple[bytes, ...],
                              missing: str) -> None:
    reply = scratch.try_tunnel(encap=encap, local=None, peer=None, extra=addresses)
    refused(reply, errno.EINVAL)
    assert expect("EXTACK", c=True, rust="addr" in reply.extack.lower()), (missing, reply)


@pytest.mark.parametrize("addresses,source", [
    ((S4, D4, S6), "127.0.0.1"), ((S4, D4, D6), "127.0.0.1"), ((S4, D4, S6, D6), "fd00::1"),
    ((S6, D6, S4), "fd00::1")], ids=["4+s6", "4+d6", "both", "6+s4"])
@ENCAPS
def test_ipv6_wins_if_complete(l2tp: L2tp, encap: int, addresses: tuple[bytes, ...],
                               source: str) -> None:
    """2.5.6"""
    l2tp.tunnel(encap=encap, local=None, peer=None, extra=addresses)
    tunnel = l2tp.get_tunnel()
    kind = Attr.IP6_SADDR if ":" in source else Attr.IP_SADDR
    assert tunnel[kind] == source
    assert (Attr.IP_SADDR in tunnel) != (Attr.IP6_SADDR in tunnel)


@pytest.mark.parametrize("encap", [2, 3, 255, 256, 0xffff])
def test_unknown_encapsulation(l2tp: L2tp, encap: int) -> None:
    refused(l2tp.try_tunnel(encap=encap), errno.EINVAL, "ENCAP_TYPE")
    # tested before the id and before the fd
    l2tp.tunnel()
    refused(l2tp.try_tunnel(encap=encap), errno.EINVAL, "ENCAP_TYPE")
    refused(l2tp.try_tunnel(9, encap=encap, fd=9999), errno.EINVAL, "ENCAP_TYPE")


@pytest.mark.parametrize("version", [0, 1, 4, 5, 255])
@ENCAPS
def test_unknown_version(l2tp: L2tp, version: int, encap: int) -> None:
    """B26: C takes any."""
    reply = l2tp.try_tunnel(version=version, encap=encap)
    refused(reply, expect("VERSION", c=0, rust=errno.EINVAL),
            None if reply.errno == 0 else "PROTO_VERSION")
    assert l2tp.has_tunnel(1) == expect("VERSION", c=True, rust=False)


# --- TUNNEL_CREATE 5: ids

@pytest.mark.parametrize("tid", [0, 1, 65535, 65536, 0x7fffffff, 0x80000000, 0xffffffff])
@pytest.mark.parametrize("version", [2, 3])
def test_any_id(l2tp: L2tp, tid: int, version: int) -> None:
    """2.5.4, 2.5.8"""
    l2tp.tunnel(tid, tid, version=version)
    assert l2tp.get_tunnel(tid)[Attr.PEER_CONN_ID] == tid
    assert l2tp.tunnels() == [tid]


@pytest.mark.parametrize("version,encap", [(2, UDP), (3, UDP), (2, IP), (3, IP)])
def test_id_taken(l2tp: L2tp, version: int, encap: int) -> None:
    """One id space for all versions and encapsulations, looked at before the fd."""
    l2tp.tunnel()
    want = errno.EEXIST
    if (version, encap) == (2, IP):
        want = expect("V2-IP", c=errno.EEXIST, rust=errno.EINVAL)
    assert l2tp.try_tunnel(version=version, encap=encap, sport=6000).errno == want
    assert l2tp.try_tunnel(version=version, encap=encap, fd=9999).errno == want
    assert l2tp.tunnels() == [1]


# --- TUNNEL_CREATE 6-9: the caller's socket

def bad_descriptors() -> dict[str, tuple[int, int, int]]:
    """name: (fd maker index, encapsulation, errno)"""
    return {
        "closed-udp": (0, UDP, errno.EBADF), "closed-ip": (0, IP, errno.EBADF),
        "file": (1, UDP, errno.ENOTSOCK), "pipe": (2, IP, errno.ENOTSOCK),
        "tcp": (3, UDP, errno.EPROTONOSUPPORT), "tcp-ip": (3, IP, errno.EPROTONOSUPPORT),
        "unix": (4, UDP, errno.EPROTONOSUPPORT), "raw": (5, IP, errno.EPROTONOSUPPORT),
        "udp-for-ip": (6, IP, errno.EPROTONOSUPPORT),
        "udp6-for-ip": (7, IP, errno.EPROTONOSUPPORT),
        "netlink": (8, UDP, errno.EPROTONOSUPPORT), "icmp": (9, UDP, errno.EPROTONOSUPPORT),
        "udplite-like-raw6": (10, IP, errno.EPROTONOSUPPORT)}


@pytest.mark.parametrize("maker,encap,error", bad_descriptors().values(),
                         ids=bad_descriptors().keys())
def test_bad_descriptor(ns: NetNS, maker: int, encap: int, error: int) -> None:
    s = socket
    with ns, tempfile.TemporaryFile() as file:
        ends = os.pipe()
        ns.sysctl("net/ipv4/ping_group_range", "0 0")
        sockets = [s.socket(*args) for args in (
            (s.AF_INET, s.SOCK_STREAM), (s.AF_UNIX, s.SOCK_DGRAM),
            (s.AF_INET, s.SOCK_RAW, uapi.IPPROTO_L2TP), (s.AF_INET, s.SOCK_DGRAM),
            (s.AF_INET6, s.SOCK_DGRAM), (s.AF_NETLINK, s.SOCK_DGRAM, 0),
            (s.AF_INET, s.SOCK_DGRAM, s.IPPROTO_ICMP),
            (s.AF_INET6, s.SOCK_RAW, uapi.IPPROTO_L2TP))]
        fds = [9999, file.fileno(), ends[0]] + [sock.fileno() for sock in sockets]
        assert ns.l2tp.try_tunnel(encap=encap, fd=fds[maker]).errno == error
        for sock in sockets:
            sock.close()
        for end in ends:
            os.close(end)
    # the reserved id is free again
    ns.l2tp.tunnel(encap=encap)


def test_socket_of_another_namespace(ns: NetNS, other_ns: NetNS) -> None:
    sock = other_ns.udp(("127.0.0.1", 5000))
    assert ns.l2tp.try_tunnel(fd=sock.fileno()).errno == errno.EINVAL
    tcp = other_ns.socket(kind=socket.SOCK_STREAM)
    assert ns.l2tp.try_tunnel(fd=tcp.fileno()).errno == errno.EINVAL  # tested before the type


@pytest.mark.parametrize("version", [2, 3])
def test_socket_that_is_a_tunnel_already(ns: NetNS, version: int) -> None:
    sock = ns.udp(("127.0.0.1", 5000), ("127.0.0.2", 5001))
    ns.l2tp.tunnel(1, fd=sock.fileno())
    assert ns.l2tp.try_tunnel(2, version=version, fd=sock.fileno()).errno == errno.EBUSY
    copy = sock.dup()
    assert ns.l2tp.try_tunnel(2, fd=copy.fileno()).errno == errno.EBUSY
    copy.close()
    assert ns.l2tp.tunnels() == [1]


@FAMILIES
@ENCAPS
def test_managed_tunnel(ns: NetNS, family: int, encap: int) -> None:
    """3.1: every kind of socket that is accepted, not bound and not connected."""
    af = socket.AF_INET if family == 4 else socket.AF_INET6
    sock = ns.socket(af, socket.SOCK_DGRAM, 0 if encap == UDP else uapi.IPPROTO_L2TP)
    ns.l2tp.tunnel(encap=encap, fd=sock.fileno())
    tunnel = ns.l2tp.get_tunnel()
    zero = tunnel[Attr.IP_SADDR] if family == 4 else tunnel[Attr.IP6_SADDR]
    assert zero == ("0.0.0.0" if family == 4 else "::")
    if encap == UDP:
        assert (tunnel[Attr.UDP_SPORT], tunnel[Attr.UDP_DPORT]) == (0, 0)


def test_managed_tunnel_ignores_addresses_and_ports(ns: NetNS) -> None:
    sock = ns.udp(("127.0.0.1", 5100), ("127.0.0.2", 5101))
    ns.l2tp.tunnel(fd=sock.fileno(), extra=(S6, D6, u16(Attr.UDP_SPORT, 1), S4, D4,
                                            u8(Attr.UDP_CSUM, 0)))
    tunnel = ns.l2tp.get_tunnel()
    assert (tunnel[Attr.UDP_SPORT], tunnel[Attr.UDP_DPORT]) == (5100, 5101)
    assert tunnel[Attr.IP_SADDR] == "127.0.0.1" and tunnel[Attr.UDP_CSUM] == 1


def test_descriptor_zero_is_managed(ns: NetNS) -> None:
    """3.1.1"""
    def create() -> int:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 5300))
        os.dup2(sock.fileno(), 0)
        genl = L2tp()
        genl.tunnel(3, fd=0)
        return genl.get_tunnel(3)[Attr.UDP_SPORT]

    with ns:
        assert system.in_child(create) == 5300
    eventually(lambda: not ns.l2tp.has_tunnel(3), what="tunnel 3 dies with the child's socket")


@pytest.mark.parametrize("fd", [-1, -2, -0x80000000])
@ENCAPS
def test_negative_descriptor_without_addresses(l2tp: L2tp, fd: int, encap: int) -> None:
    """B6"""
    reply = l2tp.try_tunnel(fd=fd, encap=encap)
    refused(reply, expect("B6", c=0, rust=errno.EINVAL))
    assert expect("B6", c=True, rust="addr" in reply.extack.lower()), reply


@pytest.mark.parametrize("fd", [-1, -2])
def test_negative_descriptor_with_addresses(l2tp: L2tp, fd: int) -> None:
    l2tp.tunnel(extra=(u32(Attr.FD, fd & 0xffffffff),))
    tunnel = l2tp.get_tunnel()
    assert tunnel[Attr.IP_DADDR] == expect("B6", c="0.0.0.0", rust="127.0.0.2")
    assert tunnel[Attr.UDP_DPORT] == expect("B6", c=0, rust=5001)


# --- TUNNEL_CREATE 10: the kernel's socket

def test_address_in_use(ns: NetNS) -> None:
    ns.l2tp.tunnel(1)
    assert ns.l2tp.try_tunnel(2).errno == errno.EADDRINUSE
    user = ns.udp(("127.0.0.1", 6000))
    assert ns.l2tp.try_tunnel(2, sport=6000).errno == errno.EADDRINUSE
    user.close()
    assert ns.l2tp.try_tunnel(2, sport=6000).errno == 0
    assert ns.l2tp.try_tunnel(3, local="127.0.0.3").errno == 0  # same port, other address


@FAMILIES
def test_ip_encap_address_in_use(ns: NetNS, family: int) -> None:
    """3.5.2: a daemon's L2TP/IP socket of the same connection id and address."""
    af = socket.AF_INET if family == 4 else socket.AF_INET6
    sock = ns.socket(af, socket.SOCK_DGRAM, uapi.IPPROTO_L2TP)
    Sock.around(sock).bind(LOCAL[family], 77)
    reply = ns.l2tp.try_tunnel(77, encap=IP, local=LOCAL[family], peer=PEER[family])
    assert reply.errno == errno.EADDRINUSE
    assert ns.l2tp.try_tunnel(78, encap=IP, local=LOCAL[family], peer=PEER[family]).errno == 0
    sock.close()
    assert ns.l2tp.try_tunnel(77, encap=IP, local=LOCAL[family], peer=PEER[family]).errno == 0


@FAMILIES
@ENCAPS
def test_foreign_source_address(l2tp: L2tp, family: int, encap: int) -> None:
    source = {4: "192.0.2.1", 6: "2001:db8::99"}[family]
    reply = l2tp.try_tunnel(encap=encap, local=source, peer=PEER[family])
    assert reply.errno == errno.EADDRNOTAVAIL
    assert l2tp.try_tunnel(encap=encap, local=LOCAL[family], peer=PEER[family]).errno == 0


@FAMILIES
@ENCAPS
def test_no_route(l2tp: L2tp, family: int, encap: int) -> None:
    wild = {4: "0.0.0.0", 6: "::"}[family]
    target = {4: "192.0.2.1", 6: "2001:db8::99"}[family]
    reply = l2tp.try_tunnel(encap=encap, local=wild, peer=target)
    assert reply.errno == errno.ENETUNREACH


@ENCAPS
def test_broadcast_peer(ns: NetNS, other_ns: NetNS, encap: int) -> None:
    ns.rtnl.add_veth("eth0", "eth0", other_ns.fd)
    ns.addr("eth0", "10.0.0.1/24")
    ns.up("eth0")
    reply = ns.l2tp.try_tunnel(encap=encap, local="10.0.0.1", peer="10.0.0.255")
    assert reply.errno == errno.EACCES


def test_ip_encap_multicast_peer(ns: NetNS) -> None:
    assert ns.l2tp.try_tunnel(encap=IP, peer="224.0.0.1").errno == errno.EINVAL
    assert ns.l2tp.try_tunnel(encap=IP, local="fd00::1", peer="ff02::1").errno == errno.EINVAL


@pytest.mark.parametrize("encap,error", [(UDP, errno.EINVAL), (IP, errno.EINVAL)])
def test_link_local_source_has_no_scope(ns: NetNS, other_ns: NetNS, encap: int,
                                        error: int) -> None:
    """The attributes carry no scope id, so link-local addresses cannot work."""
    ns.rtnl.add_veth("eth0", "eth0", other_ns.fd)
    ns.up("eth0")
    ns.addr("eth0", "fe80::1/64")
    assert ns.l2tp.try_tunnel(encap=encap, local="fe80::1", peer="fe80::2").errno == error


@FAMILIES
def test_failed_creation_leaves_nothing(ns: NetNS, family: int) -> None:
    """The id, the port and the socket are free again, and no event was sent."""
    listener = ns.listener()
    target = {4: "192.0.2.1", 6: "2001:db8::99"}[family]
    wild = {4: "0.0.0.0", 6: "::"}[family]
    for _ in range(3):
        assert ns.l2tp.try_tunnel(local=wild, peer=target).errno == errno.ENETUNREACH
    assert ns.l2tp.tunnels() == [] and listener.pending() == []
    assert "1388" not in ns.read("udp") + ns.read("udp6")  # port 5000
    ns.l2tp.tunnel(local=LOCAL[family], peer=PEER[family])


@pytest.mark.parametrize("version,encap", [(2, UDP), (2, IP), (3, UDP), (3, IP)])
@FAMILIES
def test_version_and_encapsulation(l2tp: L2tp, version: int, encap: int, family: int) -> None:
    """B26, 2.5.2, 2.5.3: C accepts all four."""
    reply = l2tp.try_tunnel(version=version, encap=encap, local=LOCAL[family], peer=PEER[family])
    if (version, encap) == (2, IP) and expect("V2-IP", c=False, rust=True):
        refused(reply, errno.EINVAL, "ENCAP_TYPE")
        assert l2tp.tunnels() == []
        return
    assert reply.errno == 0
    tunnel = l2tp.get_tunnel()
    assert (tunnel[Attr.PROTO_VERSION], tunnel[Attr.ENCAP_TYPE]) == (version, encap)


@FAMILIES
@pytest.mark.parametrize("sport", [None, 0])
def test_no_source_port(l2tp: L2tp, family: int, sport: int | None) -> None:
    """2.5.7: an ephemeral one."""
    l2tp.tunnel(local=LOCAL[family], peer=PEER[family], sport=sport)
    low, high = 32768, 60999
    assert low <= l2tp.get_tunnel()[Attr.UDP_SPORT] <= high


@FAMILIES
@pytest.mark.parametrize("dport", [None, 0])
def test_no_destination_port(ns: NetNS, family: int, dport: int | None) -> None:
    """2.5.7: the socket stays unconnected."""
    ns.l2tp.tunnel(local=LOCAL[family], peer=PEER[family], dport=dport)
    tunnel = ns.l2tp.get_tunnel()
    assert tunnel[Attr.UDP_DPORT] == 0
    assert tunnel[Attr.IP_DADDR if family == 4 else Attr.IP6_DADDR] in ("0.0.0.0", "::")
    assert proc_udp_state(ns, family, 5000) == 7  # not connected


def proc_udp_state(ns: NetNS, family: int, port: int) -> int | None:
    """State of the UDP socket bound to a port: 1 connected, 7 not; None if there is no such."""
    for line in ns.read("udp" if family == 4 else "udp6").splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rsplit(":", 1)[1], 16) == port:
            return int(fields[3], 16)
    return None


@FAMILIES
def test_kernel_socket_is_visible(ns: NetNS, family: int) -> None:
    """3.5.1: in /proc/net/udp[6] as an ordinary connected socket."""
    ns.l2tp.tunnel(local=LOCAL[family], peer=PEER[family])
    assert proc_udp_state(ns, family, 5000) == 1
    ns.l2tp.del_tunnel()
    eventually(lambda: proc_udp_state(ns, family, 5000) is None)


# --- checksum attributes (3.6, 2.7)

@pytest.mark.parametrize("extra,shown", [((), 0), ((u8(Attr.UDP_CSUM, 1),), 1),
                                         ((u8(Attr.UDP_CSUM, 0),), 1),
                                         ((u8(Attr.UDP_CSUM, 255),), 1)],
                         ids=["absent", "1", "0", "255"])
def test_udp_csum_counts_by_presence(l2tp: L2tp, extra: tuple[bytes, ...], shown: int) -> None:
    """B12: the value does not matter, K."""
    l2tp.tunnel(extra=extra)
    assert l2tp.get_tunnel()[Attr.UDP_CSUM] == shown


@pytest.mark.parametrize("tx", [False, True])
@pytest.mark.parametrize("rx", [False, True])
def test_zero_csum6_flags(l2tp: L2tp, tx: bool, rx: bool) -> None:
    extra = [flag(Attr.UDP_ZERO_CSUM6_TX)] * tx + [flag(Attr.UDP_ZERO_CSUM6_RX)] * rx
    l2tp.tunnel(local="fd00::1", peer="fd00::2", extra=tuple(extra))
    tunnel = l2tp.get_tunnel()
    assert (Attr.UDP_ZERO_CSUM6_TX in tunnel) == tx
    assert (Attr.UDP_ZERO_CSUM6_RX in tunnel) == rx
    assert Attr.UDP_CSUM not in tunnel


def test_zero_csum6_flags_do_not_matter_for_ipv4(l2tp: L2tp) -> None:
    """10.1: iproute2 sends them for IPv4 as well."""
    l2tp.tunnel(extra=(flag(Attr.UDP_ZERO_CSUM6_TX), flag(Attr.UDP_ZERO_CSUM6_RX)))
    tunnel = l2tp.get_tunnel()
    assert Attr.UDP_ZERO_CSUM6_TX not in tunnel and tunnel[Attr.UDP_CSUM] == 0


# --- TUNNEL_DELETE, TUNNEL_MODIFY, TUNNEL_GET

@pytest.mark.parametrize("cmd", [Cmd.TUNNEL_DELETE, Cmd.TUNNEL_MODIFY, Cmd.TUNNEL_GET],
                         ids=lambda cmd: cmd.name)
def test_lookup_errors(scratch: L2tp, cmd: Cmd) -> None:
    refused(scratch.ask(cmd), errno.EINVAL, "CONN_ID")
    refused(scratch.ask(cmd, u32(Attr.PEER_CONN_ID, 1), u32(Attr.SESSION_ID, 1)), errno.EINVAL,
            "CONN_ID")
    for tid in (0, 1, 0xffffffff):
        assert scratch.ask(cmd, u32(Attr.CONN_ID, tid)).errno == errno.ENODEV


def test_modify_changes_nothing(l2tp: L2tp) -> None:
    """2.5.10"""
    l2tp.tunnel()
    before = l2tp.get_tunnel().attrs
    l2tp.call(Cmd.TUNNEL_MODIFY, u32(Attr.CONN_ID, 1), u32(Attr.PEER_CONN_ID, 99),
              u8(Attr.PROTO_VERSION, 2), u8(Attr.UDP_CSUM, 1), u16(Attr.UDP_DPORT, 1), D6, S6)
    assert l2tp.get_tunnel().attrs == before


@ENCAPS
@FAMILIES
def test_delete_frees_everything(ns: NetNS, encap: int, family: int) -> None:
    """3.8.1: the same tunnel, port and device name can be had again; with ours, at once."""
    l2tp = ns.l2tp
    for _ in range(5):
        def create() -> bool:
            reply = l2tp.try_tunnel(encap=encap, local=LOCAL[family], peer=PEER[family])
            assert reply.errno in expect("SYNC-DELETE", c=(0, errno.EEXIST, errno.EADDRINUSE),
                                         rust=(0,)), reply
            return reply.errno == 0

        eventually(create)
        eventually(lambda: created(l2tp, "again"))
        assert "again" in ns.links()
        l2tp.del_tunnel()
        if expect("SYNC-DELETE", c=False, rust=True):
            # The device may go a moment later; the next round shows that it is in no one's way.
            assert not l2tp.has_tunnel(1) and not l2tp.has_session(1, 1)
    eventually(lambda: not l2tp.has_tunnel(1))
    eventually(lambda: "again" not in ns.links())


def created(l2tp: L2tp, ifname: str) -> bool:
    """C may still have the device of the round before: EEXIST."""
    reply = l2tp.try_session(ifname=ifname)
    assert reply.errno in expect("SYNC-DELETE", c=(0, errno.EEXIST), rust=(0,)), reply
    return reply.errno == 0


def test_delete_twice(l2tp: L2tp) -> None:
    l2tp.tunnel()
    l2tp.del_tunnel()
    again = l2tp.ask(Cmd.TUNNEL_DELETE, u32(Attr.CONN_ID, 1)).errno
    assert again in expect("SYNC-DELETE", c=(0, errno.ENODEV), rust=(errno.ENODEV,))


# --- the managed socket's life (3.1, 3.3, 2.7.1)

def udp_encap(sock: socket.socket) -> int:
    return sock.getsockopt(uapi.SOL_UDP, uapi.UDP_ENCAP)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("version", [2, 3])
def test_socket_after_netlink_delete(ns: NetNS, family: int, version: int) -> None:
    """A plain socket again, which can become a tunnel again."""
    local, peer = (LOCAL[family], 5000), (PEER[family], 5001)
    sock, far = ns.udp(local, peer), ns.udp(peer, local)
    assert udp_encap(sock) == 0
    for _ in range(3):
        eventually(lambda: register(ns.l2tp, sock, version))
        assert udp_encap(sock) == uapi.UDP_ENCAP_L2TPINUDP
        ns.l2tp.del_tunnel()
        eventually(lambda: udp_encap(sock) == 0)
        far.send(b"plain datagram")
        assert sock.recv(100) == b"plain datagram"
        sock.send(b"and back")
        assert far.recv(100) == b"and back"


def register(l2tp: L2tp, sock: socket.socket, version: int) -> bool:
    reply = l2tp.try_tunnel(version=version, fd=sock.fileno())
    assert reply.errno in expect("SYNC-DELETE", c=(0, errno.EEXIST, errno.EBUSY), rust=(0,)), reply
    return reply.errno == 0


@pytest.mark.parametrize("kind", ["udp4", "udp6", "ip4", "ip6"])
def test_close_deletes_the_tunnel(ns: NetNS, kind: str) -> None:
    """3.8: only the last descriptor counts; sessions and devices go as well."""
    family = int(kind[-1])
    af = socket.AF_INET if family == 4 else socket.AF_INET6
    encap = UDP if kind.startswith("udp") else IP
    sock = ns.socket(af, socket.SOCK_DGRAM, 0 if encap == UDP else uapi.IPPROTO_L2TP)
    ns.l2tp.tunnel(encap=encap, fd=sock.fileno())
    ns.l2tp.session(ifname="gone")
    copy = sock.dup()
    sock.close()
    assert ns.l2tp.has_tunnel(1) and "gone" in ns.links()
    copy.close()
    eventually(lambda: not ns.l2tp.has_tunnel(1))
    eventually(lambda: "gone" not in ns.links())
    assert ns.l2tp.sessions() == []


def test_get_shows_the_live_socket(ns: NetNS) -> None:
    """2.7.1: re-connecting the socket changes the answer."""
    sock = ns.udp(("127.0.0.1", 5000))
    ns.l2tp.tunnel(fd=sock.fileno())
    assert ns.l2tp.get_tunnel()[Attr.UDP_DPORT] == 0
    for host, port in (("127.0.0.2", 5001), ("127.0.0.9", 5999)):
        sock.connect((host, port))
        tunnel = ns.l2tp.get_tunnel()
        assert (tunnel[Attr.IP_DADDR], tunnel[Attr.UDP_DPORT]) == (host, port)
    sock.setsockopt(socket.SOL_SOCKET, 11, 1)  # SO_NO_CHECK
    assert ns.l2tp.get_tunnel()[Attr.UDP_CSUM] == 0


def test_mapped_socket_shows_ipv6_addresses(ns: NetNS) -> None:
    sock = ns.udp(("::ffff:127.0.0.1", 5000), ("::ffff:127.0.0.2", 5001))
    ns.l2tp.tunnel(fd=sock.fileno())
    tunnel = ns.l2tp.get_tunnel()
    assert tunnel[Attr.IP6_DADDR] == "::ffff:127.0.0.2" and Attr.IP_DADDR not in tunnel


def test_socket_of_dead_process_frees_the_tunnel(ns: NetNS) -> None:
    def create_and_die() -> bool:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 5000))
        genl = L2tp()
        genl.tunnel(fd=sock.fileno())
        genl.session()
        return genl.has_session(1, 1)

    with ns:
        assert system.in_child(create_and_die)
    eventually(lambda: not ns.l2tp.has_tunnel(1))
    eventually(lambda: ns.links() == ["lo"])


@FAMILIES
@ENCAPS
def test_namespace_exit_removes_unmanaged_tunnels(make_ns, family: int, encap: int) -> None:
    """3.1: a kernel socket does not keep its namespace alive."""
    dying, observer = make_ns("dying"), make_ns("observer")
    dying.addr("lo", "fd00::1/128", "fd00::2/128")
    dying.l2tp.tunnel(encap=encap, local=LOCAL[family], peer=PEER[family])
    dying.l2tp.session(ifname="moved")
    move("moved", dying, observer)
    assert "moved" in observer.links()
    dying.close()
    eventually(lambda: "moved" not in observer.links(), what="device of a dead namespace")
