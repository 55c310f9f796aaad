# SPDX-License-Identifier: GPL-2.0
"""abi 1.8, 6.4-6.6: control messages between the wire and IPPROTO_L2TP sockets, byte by byte; what
ICMP says about them; sockets that somebody uses at the same moment.  IPv4 and IPv6."""

import errno
import os
import select
import socket
import struct
from collections.abc import Iterator

import pytest

from lib.differences import expect
from lib.ipsocket import (FAMILIES, SIOCINQ, SIOCOUTQ, V4, V6, Family, Received, Sock, Sockets,
                          cmsg, control, refused, sending)
from lib.uapi import IP_RECVERR, IPPROTO_L2TP, IPV6_RECVERR, Encap
from lib.wait import eventually
from lib.wire import (IP_DF, Path, Session, Wire, checksum, frame, ip4, ip6, merge, packed, pattern,
                      reassemble6, udp)

ICMP, ICMPV6 = 1, 58
#: What is behind the far end: a network for each family, to be reached through it.
BEYOND = {4: "198.51.100.{}", 6: "2001:db8:5::{}"}
LINK_LOCAL, LINK_LOCAL_FAR = "fe80::a", "fe80::b"
#: The same, by a router that may send redirects: of IPv6, only an address of the link may.
ROUTED = {4: BEYOND[4], 6: "2001:db8:6::{}"}


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    made = Wire()
    made.a.addr("lo", "fd00::1/128", "fd00::2/128")
    made.a.addr("eth0", "192.0.2.11/24", "2001:db8::11/64", f"{LINK_LOCAL}/64")
    for address in (LINK_LOCAL_FAR, "fe80::c", "192.0.2.3"):
        made.neighbour(address, mac=b"\2\0\0\0\0\x0c" if address[-1] in "c3" else Wire.MAC_B)
    made.a.rtnl.add_route("198.51.100.0/24", Wire.B4)
    made.a.rtnl.add_route("2001:db8:5::/64", Wire.B6)
    made.a.rtnl.add_route("2001:db8:6::/64", LINK_LOCAL_FAR, made.a.link("eth0").index)
    yield made
    made.close()


@pytest.fixture
def sock(wire: Wire) -> Iterator[Sockets]:
    sockets = Sockets(wire.a)
    yield sockets
    sockets.close()
    wire.all_packets()  # what one test sends, the next is not to find


@pytest.fixture
def eth0(wire: Wire) -> int:
    return wire.a.link("eth0").index


def ends(family: Family) -> tuple[str, str]:
    """The addresses of our end and of the far one."""
    return family.pick((Wire.A4, Wire.B4), (Wire.A6, Wire.B6))


def second(family: Family) -> str:
    """Our end's other address."""
    return family.pick("192.0.2.11", "2001:db8::11")


def packet(family: Family, src: str, dst: str, message: bytes, **kwargs: int) -> bytes:
    """An IP packet with a control message that begins with `message`."""
    return family.pick(ip4, ip6)(src, dst, IPPROTO_L2TP, bytes(4) + message, **kwargs)


def from_far(family: Family, message: bytes, dst: str = "", src: str = "", **kwargs: int) -> bytes:
    here, there = ends(family)
    return packet(family, src or there, dst or here, message, **kwargs)


def arrives(wire: Wire, *packets: bytes) -> None:
    """When this returns, the packets have been dealt with."""
    wire.inject(*packets)
    wire.devices()


def get(wire: Wire, s: Sock, *packets: bytes) -> Received:
    arrives(wire, *packets)
    return s.recvmsg(flags=socket.MSG_DONTWAIT)


# --- 6.4: which socket

@FAMILIES
def test_delivery(wire: Wire, sock: Sockets, family: Family) -> None:
    """1.8.1: any version, conn id 0 too; the prefix is gone, and padding and all else is there."""
    zero = sock(family).bind(family.any, 0)
    one = sock(family).bind(family.any, 1)
    messages = [control(0), control(1), control(1, flags=0xc000), control(1, b""),
                control(1, pattern(1400)), control(0, b"\0\1\2", flags=0xffff)]
    arrives(wire, *(from_far(family, m) for m in messages))
    assert zero.all() == [messages[0], messages[5]]
    assert one.all() == messages[1:5]
    arrives(wire, from_far(family, control(2)), from_far(family, control(1, flags=0x4803)),
            from_far(family, control(1, flags=0x8803)), from_far(family, control(1)[:11]))
    assert zero.all() == one.all() == [] and sent_to_wire(wire) == []


@FAMILIES
def test_match(wire: Wire, sock: Sockets, family: Family) -> None:
    """6.4 1-4: device, local address, peer, id; of several, the last bound or connected."""
    here, there = ends(family)
    other = BEYOND[family.number].format(7)
    by_address = sock(family).bind(here, 5)
    by_second = sock(family).bind(second(family), 5)
    connected = sock(family).bind(here, 6).connect(there, 9)
    on_device = sock(family)
    on_device.set_device("lo")
    on_device.bind(family.any, 7)
    on_eth0 = sock(family)
    on_eth0.set_device("eth0")
    on_eth0.bind(family.any, 7)
    cases = {
        from_far(family, control(5)): by_address,
        from_far(family, control(5), second(family)): by_second,
        from_far(family, control(5), src=other): by_address,
        from_far(family, control(6)): connected,
        from_far(family, control(6), src=other): None,
        from_far(family, control(6), second(family)): None,
        from_far(family, control(7)): on_eth0,
        from_far(family, control(8)): None,
        from_far(family, control(0x05000000)): None,
    }
    everyone = (by_address, by_second, connected, on_device, on_eth0)
    for number, (data, wanted) in enumerate(cases.items()):
        arrives(wire, data)
        got = [len(s.all()) for s in everyone]
        assert got == [int(s is wanted) for s in everyone], number


@FAMILIES
def test_latest_wins(wire: Wire, sock: Sockets, family: Family) -> None:
    """6.4: sockets that could not have been bound like this, but were disconnected or got rid of
    their device afterwards."""
    here, there = ends(family)
    first = sock(family).bind(here, 5).connect(there)
    last = sock(family).bind(second(family), 5).connect(there)
    for s in (first, last):
        s.disconnect()  # now both for any address
    assert get(wire, last, from_far(family, control(5))).data == control(5)
    first.connect(there)  # fills in an address
    for_both = from_far(family, control(5), first.here().address)
    assert get(wire, first, for_both).data == control(5)
    assert last.all() == []
    last.connect(there)
    assert get(wire, last, for_both).data == control(5)
    assert first.all() == []
    last.close()
    assert get(wire, first, for_both).data == control(5)


@FAMILIES
def test_a_device_set_later(wire: Wire, sock: Sockets, family: Family) -> None:
    s = sock(family).bind(family.any, 5)
    s.set_device("lo")
    arrives(wire, from_far(family, control(5)))
    assert s.all() == []
    s.set_device("")
    assert get(wire, s, from_far(family, control(5))).data == control(5)


@FAMILIES
def test_group(wire: Wire, sock: Sockets, family: Family, eth0: int) -> None:
    """Messages to a group that the socket has joined; bound to any address, over IPv4 also to the
    group."""
    group = family.pick("239.1.2.3", "ff05::123")
    s = sock(family).bind(family.any, 5)
    arrives(wire, from_far(family, control(5), group))
    assert s.all() == []
    if family is V4:
        s.set(V4.level, socket.IP_ADD_MEMBERSHIP, packed(group) + struct.pack("=4xi", eth0))
    else:
        s.set(V6.level, socket.IPV6_JOIN_GROUP, packed(group) + struct.pack("=i", eth0))
    assert get(wire, s, from_far(family, control(5), group)).data == control(5)
    if family is V4:
        bound = sock(V4).bind(group, 6)
        assert get(wire, bound, from_far(V4, control(6), group)).data == control(6)
        arrives(wire, from_far(V4, control(6)))
        assert bound.all() == []
        broadcast = sock(V4).bind("192.0.2.255", 7)
        assert get(wire, broadcast, from_far(V4, control(7), "192.0.2.255")).data == control(7)
        everywhere = sock(V4).bind("255.255.255.255", 8)
        assert get(wire, everywhere,
                   from_far(V4, control(8), "255.255.255.255")).data == control(8)
    s.close()  # leaves the group
    again = sock(family).bind(family.any, 5)
    arrives(wire, from_far(family, control(5), group))
    assert again.all() == []


def test_group_with_sources(wire: Wire, sock: Sockets, eth0: int) -> None:
    """1.8.6: C's handler is not 'final', so that IPv6 does not ask whether the group was joined for
    this source, too."""
    group, good, bad = "ff05::124", Wire.B6, "2001:db8:5::66"
    s = sock(V6).bind("::", 5)

    def name(address: str) -> bytes:
        return struct.pack("=HHI16s104x", V6.af, 0, 0, packed(address))

    s.set(V6.level, 46, struct.pack("=I4x", eth0) + name(group) + name(good))
    assert get(wire, s, from_far(V6, control(5), group, good)).data == control(5)
    arrives(wire, from_far(V6, control(5), group, bad))
    assert s.all() == expect("FINAL", c=[control(5)], rust=[])


@pytest.mark.needs("fou")
@FAMILIES
def test_in_udp(wire: Wire, sock: Sockets, family: Family) -> None:
    """1.8.6: L2TP over IP in a UDP port that says so (FOU); C's IPv6 throws it away."""
    here, there = ends(family)
    port = 5550 + family.number
    wire.a.run("modprobe", "fou")
    wire.a.run("ip", *family.pick([], ["-6"]), "fou", "add", "port", str(port), "ipproto", "115")
    s = sock(family).bind(family.any, 5)
    message = bytes(4) + control(5)
    datagram = udp(there, here, 4000, port, message)
    arrives(wire, family.pick(ip4, ip6)(there, here, socket.IPPROTO_UDP, datagram))
    got = s.all()
    wire.a.run("ip", *family.pick([], ["-6"]), "fou", "del", "port", str(port))
    assert got == ([control(5)] if family is V4 else expect("FINAL", c=[], rust=[control(5)]))


@FAMILIES
def test_raw_sockets_get_a_copy(wire: Wire, sock: Sockets, family: Family) -> None:
    """1.8.2"""
    s = sock(family).bind(family.any, 5)
    raw = wire.a.socket(family.af, socket.SOCK_RAW, IPPROTO_L2TP)
    raw.settimeout(0)
    for conn_id in (5, 6):
        arrives(wire, from_far(family, control(conn_id)))
        assert raw.recv(1 << 16)[family.pick(20, 0):] == bytes(4) + control(conn_id)
    raw.close()
    assert s.all() == [control(5)]


@FAMILIES
def test_socket_of_the_kernel(wire: Wire, sock: Sockets, family: Family) -> None:
    """6.4.3: a tunnel's own socket takes part, and shadows one that was bound before."""
    here, there = ends(family)
    s = sock(family).bind(here, 5).connect(there)
    with refused(errno.EADDRINUSE):
        sock(family).bind(here, 5)
    wire.l2tp.tunnel(6, 60, encap=Encap.IP, local=here, peer=there)
    arrives(wire, from_far(family, control(6)))
    with refused(errno.EADDRINUSE):
        sock(family).bind(family.any, 6)
    wire.l2tp.del_tunnel(6)

    def bind() -> Sock | None:
        try:
            return sock(family).bind(family.any, 6)
        except OSError as error:
            assert error.errno == errno.EADDRINUSE
            return None

    free = eventually(bind)
    assert get(wire, free, from_far(family, control(6))).data == control(6)
    assert s.all() == []


# --- 6.4.2: what a socket refuses

@FAMILIES
def test_policy(wire: Wire, sock: Sockets, family: Family) -> None:
    """1.8 row 5, 1.8.3: an IPsec policy of the socket's own, here one that lets nothing in."""
    wire.a.run("modprobe", "xfrm_user")
    s = sock(family).bind(family.any, 5)
    other = sock(family).bind(family.any, 6)
    selector = bytes(40) + struct.pack("=H", family.af) + bytes(14)
    block = selector + bytes(64 + 32 + 8) + struct.pack("=BBBB4x", 0, 1, 0, 0)
    s.set(family.level, family.pick(17, 35), block)  # IP_XFRM_POLICY, IPV6_XFRM_POLICY
    arrives(wire, from_far(family, control(5)), from_far(family, control(6)))
    assert s.all() == [] and other.all() == [control(6)]


@FAMILIES
def test_filter(wire: Wire, sock: Sockets, family: Family) -> None:
    """A program sees the message from its header on."""
    s = sock(family).bind(family.any, 5)
    # the fifth word must be 0x33343536
    s.set_filter((0x20, 0, 0, 15), (0x15, 0, 1, 0x33343536), (0x06, 0, 0, 0x40000), (0x06, 0, 0, 0))
    arrives(wire, from_far(family, control(5)), from_far(family, control(5, b"x" * 10)),
            from_far(family, control(5, b"")))
    assert s.all() == [control(5)]
    s.set_filter()
    assert get(wire, s, from_far(family, control(5, b""))).data == control(5, b"")


@FAMILIES
def test_filter_runs_once(wire: Wire, sock: Sockets, family: Family) -> None:
    """6.4.2: one that cuts off 4 bytes; C runs it again when it queues the packet."""
    s = sock(family).bind(family.any, 5)
    s.set_filter((0x80, 0, 0, 0), (0x14, 0, 0, 4), (0x16, 0, 0, 0))  # A = len; A -= 4; return A
    got = get(wire, s, from_far(family, control(5))).data
    assert got == expect("FILTER", c=control(5)[:-8], rust=control(5)[:-4])


def discards(wire: Wire) -> int:
    names, values = [line.split() for line in wire.a.read("snmp").splitlines()[:2]]
    return int(values[names.index("InDiscards")])


@FAMILIES
def test_full_buffer(wire: Wire, sock: Sockets, family: Family) -> None:
    """What does not fit is dropped, and the socket knows how much; then it goes on."""
    s = sock(family).bind(family.any, 5)
    s.set(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the smallest: 2 KiB and a bit
    before = discards(wire)
    sent = [control(5, bytes([n]) * 200) for n in range(20)]
    arrives(wire, *(from_far(family, m) for m in sent))
    dropped = s.drops()
    # where exactly C counts depends on which of two tests finds out first
    assert discards(wire) - before == expect("DISCARDS", c=0, rust=dropped)
    got = s.all()
    assert 0 < len(got) < 20 and got == sent[:len(got)] and dropped == 20 - len(got)
    assert get(wire, s, from_far(family, control(5))).data == control(5)


# --- 6.5: what leaves the host

def sent_to_wire(wire: Wire, protocol: int = IPPROTO_L2TP) -> list[bytes]:
    """IP packets of our protocol, without IPv4's identification and checksum."""
    return [data for data in wire.all_packets()
            if data[9 if data[0] >> 4 == 4 else 6] == protocol]


def plain(data: bytes) -> bytes:
    """Without what is free to vary: IPv4's identification, and the checksum that comes of it."""
    return data[:4] + bytes(2) + data[6:10] + bytes(2) + data[12:] if data[0] >> 4 == 4 else data


@FAMILIES
def test_sent_bytes(wire: Wire, sock: Sockets, family: Family) -> None:
    """6.5: connected or with an address; the prefix, and the socket's TTL and TOS."""
    here, there = ends(family)
    s = sock(family).bind(here, 5)
    fragment = {"frag": IP_DF} if family is V4 else {}
    for body in (b"", b"x", pattern(1400)):
        s.send(control(9, body), family.name(there, 1234))
        data, = sent_to_wire(wire)
        assert plain(data) == plain(packet(family, here, there, control(9, body), **fragment))
    s.connect(there, 1234)
    s.set(family.level, family.pick(socket.IP_TTL, socket.IPV6_UNICAST_HOPS), 9)
    s.set(family.level, family.pick(socket.IP_TOS, socket.IPV6_TCLASS), 0x28)
    s.send(control(9))
    data, = sent_to_wire(wire)
    assert plain(data) == plain(packet(family, here, there, control(9), ttl=9, tos=0x28,
                                       **fragment))
    s.send(b"anything")
    data, = sent_to_wire(wire)
    assert data.endswith(bytes(4) + b"anything")


@FAMILIES
def test_sent_with_options(wire: Wire, sock: Sockets, family: Family) -> None:
    """A socket option of the IP level changes the header: a record-route option; a destination
    option."""
    here, there = ends(family)
    s = sock(family).bind(here, 5)
    if family is V4:
        s.set(V4.level, 4, b"\x07\x07\x04" + bytes(4) + b"\0")  # IP_OPTIONS
    else:
        s.set(V6.level, 59, b"\0\0\1\4" + bytes(4))  # IPV6_DSTOPTS
    for _ in range(2):
        s.send(control(9), family.name(there))
        data = wire.all_packets()
        assert len(data) == 1
        if family is V4:
            assert data[0][0] == 0x47 and data[0][9] == 115
            assert data[0][28:] == bytes(4) + control(9)
        else:
            assert data[0][6] == 60 and data[0][40] == 115
            assert data[0][48:] == bytes(4) + control(9)
        s.connect(there)


@FAMILIES
def test_source_address(wire: Wire, sock: Sockets, family: Family) -> None:
    here, there = ends(family)
    s = sock(family).bind(second(family), 5)
    s.send(control(9), family.name(there))
    data, = sent_to_wire(wire)
    assert plain(data) == plain(packet(family, second(family), there, control(9),
                                       **({"frag": IP_DF} if family is V4 else {})))
    any_ = sock(family).bind(family.any, 6).connect(there)
    assert any_.here().address in (here, second(family))


@FAMILIES
def test_sent_too_long_for_the_link(wire: Wire, sock: Sockets, family: Family) -> None:
    """IPv4 refuses, unless told to fragment; IPv6 fragments, and does not let itself be told."""
    here, there = ends(family)
    s = sock(family).bind(here, 5).connect(there)
    message = control(9, pattern(3000))
    if family is V4:
        with refused(errno.EMSGSIZE):
            s.send(message)
        s.set(V4.level, 10, 0)  # IP_MTU_DISCOVER, IP_PMTUDISC_DONT
    assert s.send(message) == len(message)
    parts = wire.all_packets()
    assert len(parts) == 3
    if family is V6:
        assert reassemble6(parts) == packet(V6, here, there, message)
        s.set(V6.level, 62, 1)  # IPV6_DONTFRAG
        assert s.send(message) == len(message) and len(wire.all_packets()) == 3
    else:
        assert b"".join(part[20:] for part in parts) == bytes(4) + message


@FAMILIES
def test_send_broadcast_and_group(wire: Wire, sock: Sockets, family: Family, eth0: int) -> None:
    """6.5, sendmsg: neither connect()'s test of broadcasts nor that of groups; a group of the link
    goes where the scope says."""
    s = sock(family).bind(family.pick(Wire.A4, LINK_LOCAL), 5, **family.pick({}, {"scope": eth0}))
    s.set_device("")
    if family is V4:
        for address in ("192.0.2.255", "239.1.2.3"):
            s.send(control(9), V4.name(address))
            data, = sent_to_wire(wire)
            assert data[16:20] == packed(address)
        return
    free = sock(V6).bind("::", 6)
    for address in ("ff02::1:99", LINK_LOCAL_FAR):
        free.send(control(9), V6.name(address, scope=eth0))
        data, = sent_to_wire(wire)
        assert data[24:40] == packed(address) and data[8:24] == packed(LINK_LOCAL)
    with refused(errno.ENETUNREACH):
        free.send(control(9), V6.name("ff02::1:99", scope=9999))
    free.set(V6.level, socket.IPV6_MULTICAST_IF, eth0)
    free.send(control(9), V6.name("ff05::99"))
    data, = sent_to_wire(wire)
    assert data[24:40] == packed("ff05::99")


def test_send_v6_control_messages(wire: Wire, sock: Sockets, eth0: int) -> None:
    """6.5: source address, hop limit and traffic class for one message."""
    here, there = ends(V6)
    s = sock(V6).bind("::", 5).connect(there)
    s.send(control(9), control=[
        cmsg(V6.level, 50, packed(second(V6)) + struct.pack("=i", eth0)),  # IPV6_PKTINFO
        cmsg(V6.level, 52, struct.pack("=i", 3)), cmsg(V6.level, 67, struct.pack("=i", 0x48))])
    data, = sent_to_wire(wire)
    assert data == packet(V6, second(V6), there, control(9), ttl=3, tos=0x48)
    s.send(control(9), control=[cmsg(V6.level, 59, b"\0\0\1\4" + bytes(4))])  # IPV6_DSTOPTS
    data, = sent_to_wire(wire, 60)
    assert data[40] == 115 and data[48:] == bytes(4) + control(9)
    with refused(errno.EINVAL):
        s.send(control(9), control=[cmsg(V6.level, 50, packed("2001:db8::99")
                                         + struct.pack("=i", eth0))])


@FAMILIES
def test_send_buffer(wire: Wire, sock: Sockets, family: Family) -> None:
    """6.5: what waits for a neighbour to answer is charged to the socket; IPv4 fails at once."""
    silent = family.pick("192.0.2.200", "2001:db8::200")
    s = sock(family).bind(family.any, 5).connect(silent)
    s.set(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    sent = 0
    with refused(family.pick(errno.ENOMEM, errno.EAGAIN)):
        while sent < 100:
            s.send(control(9, bytes(500)), flags=socket.MSG_DONTWAIT)
            sent += 1
    assert 0 < sent < 100 and s.ioctl(SIOCOUTQ) >= 500 * sent and not s.events() & select.POLLOUT


@FAMILIES
def test_bound_to_a_device(wire: Wire, sock: Sockets, family: Family) -> None:
    """SO_BINDTODEVICE rules where messages leave."""
    s = sock(family).bind(family.any, 5)
    s.set_device("lo")
    with refused(errno.EHOSTUNREACH if family is V4 else errno.ENETUNREACH):
        s.send(control(9), family.name(ends(family)[1]))
        if family is V4:  # a device needs no route over IPv4
            raise OSError(errno.EHOSTUNREACH, "")
    s.set_device("eth0")
    s.send(control(9), family.name(ends(family)[1]))
    assert len(sent_to_wire(wire)) == 1


# --- 6.6: ancillary data that only the wire can show

@FAMILIES
def test_receive_details(wire: Wire, sock: Sockets, family: Family, eth0: int) -> None:
    """Who sent it, and by which device and header it came."""
    s = sock(family).bind(family.any, 5)
    for option in family.pick((8, 12, 13), (49, 51, 66)):
        s.set(family.level, option, 1)
    here, there = ends(family)
    got = get(wire, s, from_far(family, control(5), ttl=33, tos=0x44))
    assert got.name == family.name(there)
    values = {key[1]: value for key, value in got.control.items()}
    assert all(key[0] == family.level for key in got.control)
    if family is V4:
        assert values == {8: struct.pack("=i4x", eth0) + packed(here), 2: struct.pack("=i", 33),
                          1: b"\x44"}
    else:
        assert values == {50: packed(here) + struct.pack("=i", eth0), 52: struct.pack("=i", 33),
                          67: struct.pack("=i", 0x44)}
        got = get(wire, s, from_far(V6, control(5), LINK_LOCAL, LINK_LOCAL_FAR))
        assert got.name == V6.name(LINK_LOCAL_FAR, scope=eth0)


# --- ICMP

def icmp(family: Family, kind: int, code: int, info: bytes, quoted: bytes, src: str = "",
         **kwargs: int) -> bytes:
    """An ICMP message from the far end to ours; `info` is 4 bytes."""
    here, there = ends(family)
    there = src or there
    body = struct.pack("!BBH", kind, code, 0) + info + quoted
    if family is V4:
        body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
        return ip4(there, here, ICMP, body)
    here = LINK_LOCAL if src.startswith("fe80") else here
    pseudo = packed(there) + packed(here) + struct.pack("!II", len(body), ICMPV6)
    body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    return ip6(there, here, ICMPV6, body, **kwargs)


def too_big(family: Family, mtu: int, quoted: bytes) -> bytes:
    return icmp(family, *family.pick((3, 4), (2, 0)),
                struct.pack(family.pick("!xxH", "!I"), mtu), quoted)


def unreachable(family: Family, code: int, quoted: bytes) -> bytes:
    return icmp(family, family.pick(3, 1), code, bytes(4), quoted)


def route(wire: Wire, address: str, *how: str) -> str:
    return wire.a.run("ip", *(["-6"] if ":" in address else []), "route", "get", address,
                      *how).stdout


def peer(family: Family, number: int) -> str:
    """An address beyond the far end that no other test has sent anything to."""
    return BEYOND[family.number].format(number)


@FAMILIES
def test_path_mtu(wire: Wire, sock: Sockets, family: Family) -> None:
    """1.8.4: learnt for the peer of a connected socket, for no other, and from no message that
    quotes what we cannot have sent (B31)."""
    here, _ = ends(family)
    there, stranger = peer(family, 20), peer(family, 21)
    s = sock(family).bind(here, 5).connect(there, 9)
    quoted = packet(family, here, there, control(9))
    for wrong in (packet(family, here, stranger, control(9)),
                  packet(family, second(family), there, control(9)),
                  packet(family, there, here, control(9))):
        arrives(wire, too_big(family, 1300, wrong))
    assert "mtu" not in route(wire, there) and "mtu" not in route(wire, stranger)
    arrives(wire, too_big(family, 1300, quoted))
    assert ("mtu 1300" in route(wire, there)) == expect("B31", c=False, rust=True)
    assert "mtu" not in route(wire, stranger)
    s.send(control(9))
    assert s.all() == [] and len(sent_to_wire(wire)) == 1
    # a data message, and one of a tunnel's own socket
    number = 22
    wire.l2tp.tunnel(7, 70, encap=Encap.IP, local=here, peer=peer(family, number))
    data = family.pick(ip4, ip6)(here, peer(family, number), 115, struct.pack("!II", 77, 0))
    arrives(wire, too_big(family, 1290, data))
    assert ("mtu 1290" in route(wire, peer(family, number))) == expect("B31", c=False, rust=True)
    wire.l2tp.del_tunnel(7)
    # not after it is gone
    s.close()
    s = sock(family).bind(here, 6).connect(peer(family, 23))
    s.disconnect()
    arrives(wire, too_big(family, 1280, packet(family, here, peer(family, 23), control(9))))
    assert "mtu" not in route(wire, peer(family, 23))


@FAMILIES
@pytest.mark.parametrize("by", ["mark", "uid"])
def test_path_mtu_by_policy(wire: Wire, sock: Sockets, family: Family, by: str) -> None:
    """1.8.4: learnt for the way that the socket's packets take, which depends on its mark or on its
    owner, and for no other (B31)."""
    here, _ = ends(family)
    there = peer(family, {"mark": 25, "uid": 26}[by])
    ip = ["ip", *family.pick([], ["-6"])]
    rule = ["rule", "del", "lookup", "77", *{"mark": ["fwmark", "7"],
                                             "uid": ["uidrange", "4711-4711"]}[by]]
    wire.a.run(*ip, "route", "add", there, "via", family.pick("192.0.2.3", "fe80::c"), "dev", "eth0",
               "table", "77")
    wire.a.run(*ip, "rule", "add", *rule[2:])
    s = sock(family)
    if by == "mark":
        s.set(socket.SOL_SOCKET, 36, 7)  # SO_MARK
    else:
        os.fchown(s.fd, 4711, -1)
    s.bind(here, 5).connect(there, 9)
    arrives(wire, too_big(family, 1300, packet(family, here, there, control(9))))
    assert "mtu" not in route(wire, there)
    way = route(wire, there, by, {"mark": "7", "uid": "4711"}[by])
    assert family.pick("192.0.2.3", "fe80::c") in way
    assert ("mtu 1300" in way) == expect("B31", c=False, rust=True)
    s.send(control(9))
    assert len(sent_to_wire(wire)) == 1
    wire.a.run(*ip, *rule)
    wire.a.run(*ip, "route", "flush", "table", "77")


def redirect(family: Family, router: str, quoted: bytes, target: str) -> bytes:
    """From the router that we use, to another one: `router`."""
    if family is V4:
        return icmp(V4, 5, 1, packed(router), quoted)
    padded = quoted + bytes(-len(quoted) % 8)
    option = struct.pack("!BBHI", 4, 1 + len(padded) // 8, 0, 0) + padded
    return icmp(V6, 137, 0, bytes(4), packed(router) + packed(target) + option, LINK_LOCAL_FAR,
                ttl=255)


@FAMILIES
@pytest.mark.parametrize("owner", ["daemon", "kernel"])
def test_redirect(wire: Wire, sock: Sockets, family: Family, owner: str) -> None:
    """1.8.4: a better router on the link, for the peer of a daemon's socket or of a tunnel's own;
    C never hears of it (B31)."""
    here, better = ends(family)[0], family.pick("192.0.2.3", "fe80::c")
    number = {"daemon": 30, "kernel": 32}[owner]
    there, stranger = (ROUTED[family.number].format(n) for n in (number, number + 1))
    if owner == "daemon":
        s = sock(family).bind(here, 5).connect(there, 9)
        message = bytes(4) + control(9)
    else:
        wire.l2tp.tunnel(8, 80, encap=Encap.IP, local=here, peer=there)
        message = struct.pack("!III", 77, 0, 0)
    before = route(wire, there)
    assert f"via {better}" not in before and "via" in before
    for source, target in ((here, stranger), (second(family), there), (here, there)):
        assert f"via {better}" not in route(wire, there)
        quoted = family.pick(ip4, ip6)(source, target, IPPROTO_L2TP, message)
        arrives(wire, redirect(family, better, quoted, target))
    assert (f"via {better}" in route(wire, there)) == expect("B31", c=False, rust=True)
    assert f"via {better}" not in route(wire, stranger)
    if owner == "daemon":
        wire.all_packets()
        s.send(control(9))
        assert s.all() == [] and len(sent_to_wire(wire)) == 1
    else:
        wire.l2tp.del_tunnel(8)


@FAMILIES
def test_unreachable_is_not_for_everybody(wire: Wire, sock: Sockets, family: Family) -> None:
    """3.7, 1.8.4: no error for those who did not ask, connected or not, soft or hard."""
    here, _ = ends(family)
    there = peer(family, 40)
    connected = sock(family).bind(here, 5).connect(there, 9)
    bound = sock(family).bind(family.any, 6)
    for code in family.pick((0, 1, 2, 3, 13), (0, 1, 3, 4)):
        arrives(wire, unreachable(family, code, packet(family, here, there, control(9))))
    for s in (connected, bound):
        assert s.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        assert not s.events() & (select.POLLERR | select.POLLIN)
        s.send(control(9), family.name(there))
        assert s.all() == []


ERRORS = [
    # family, type, code, errno
    (V4, 3, 0, errno.ENETUNREACH), (V4, 3, 1, errno.EHOSTUNREACH), (V4, 3, 2, errno.ENOPROTOOPT),
    (V4, 3, 3, errno.ECONNREFUSED), (V4, 3, 4, errno.EMSGSIZE), (V4, 3, 15, errno.EHOSTUNREACH),
    (V4, 11, 0, errno.EHOSTUNREACH), (V4, 12, 0, errno.EPROTO),
    (V6, 1, 0, errno.ENETUNREACH), (V6, 1, 1, errno.EACCES), (V6, 1, 4, errno.ECONNREFUSED),
    (V6, 1, 99, errno.EPROTO), (V6, 2, 0, errno.EMSGSIZE), (V6, 3, 0, errno.EHOSTUNREACH),
    (V6, 4, 1, errno.EPROTO),
]


@FAMILIES
def test_recverr(wire: Wire, sock: Sockets, family: Family) -> None:
    """B31: those who ask by IP_RECVERR get the error and the message that it is about, without
    the prefix; C tells nobody."""
    here, there = ends(family)[0], peer(family, 50)
    option = family.pick(IP_RECVERR, IPV6_RECVERR)
    s = sock(family).bind(here, 5).connect(there, 9)
    s.set(family.level, option, 1)
    stranger = sock(family).bind(here, 6).connect(peer(family, 51))
    stranger.set(family.level, option, 1)
    tells = expect("B31", c=False, rust=True)
    for _, kind, code, error in (case for case in ERRORS if case[0] is family):
        quoted = packet(family, here, there, control(9))
        info = struct.pack("!xxH" if family is V4 else "!I", 1350) if error == errno.EMSGSIZE else (
            bytes(4))
        arrives(wire, icmp(family, kind, code, info, quoted))
        assert bool(s.events() & select.POLLERR) == tells
        if not tells:
            continue
        assert s.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == error, (kind, code)
        got = s.recvmsg(flags=socket.MSG_ERRQUEUE)
        assert got.data == control(9) and got.flags & socket.MSG_ERRQUEUE
        cause = got.control[family.level, option]
        number, origin, k, c, _, information, _ = struct.unpack("=IBBBBII", cause[:16])
        assert (number, origin, k, c) == (error, family.pick(2, 3), kind, code)
        assert information == (1350 if error == errno.EMSGSIZE else 0)
        offender = socket.inet_ntop(family.af, cause[20:24] if family is V4 else cause[24:40])
        assert offender == ends(family)[1]
        at = family.pick(slice(4, 8), slice(8, 24))
        assert got.name[at] == packed(there)
    assert s.events() == select.POLLOUT
    assert s.send(control(9)) == 22
    assert not stranger.events() & select.POLLERR
    # a data message is quoted as it was
    data = family.pick(ip4, ip6)(here, there, 115, struct.pack("!II", 77, 0x01020304))
    arrives(wire, unreachable(family, 1 if family is V4 else 0, data))
    if tells:
        assert s.recvmsg(flags=socket.MSG_ERRQUEUE).data == struct.pack("!II", 77, 0x01020304)


@FAMILIES
def test_quoted_in_part(wire: Wire, sock: Sockets, family: Family) -> None:
    """As few as 8 bytes after the header, or none: nothing bad happens."""
    here, there = ends(family)[0], peer(family, 60)
    s = sock(family).bind(here, 5).connect(there, 9)
    s.set(family.level, family.pick(IP_RECVERR, IPV6_RECVERR), 1)
    whole = packet(family, here, there, control(9))
    head = family.pick(20, 40)
    for length in (0, 1, head - 1, head, head + 3, head + 4, head + 7, head + 8, head + 12):
        arrives(wire, unreachable(family, 1, whole[:length]))
        got = []
        while s.events() & select.POLLERR:
            s.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            got.append(s.recvmsg(flags=socket.MSG_ERRQUEUE).data)
        tells = expect("B31", c=False, rust=length >= head + 8)
        assert got == ([whole[head + 4:length]] if tells else []), length


# --- while somebody uses the socket

@FAMILIES
def test_received_while_the_socket_is_in_use(wire: Wire, sock: Sockets, family: Family) -> None:
    """A packet that comes while a task owns the socket: C puts it aside until the task lets go,
    ours queues it at once.  Neither loses it."""
    there = ends(family)[1]
    s = sock(family).bind(family.any, 5)
    with sending(s, 50, family.name(there)) as finish:
        arrives(wire, from_far(family, control(5)))
        assert s.ioctl(SIOCINQ) == expect("IN-USE", c=0, rust=22)
        finish()
        assert s.all() == [control(5)]
    data, = sent_to_wire(wire)
    assert data.endswith(bytes(54))


def managed(wire: Wire, sock: Sockets, family: Family, path: Path) -> Sock:
    """The socket of tunnel 5, whose lock is held by who sends through it."""
    if path.encap == Encap.IP:
        s = sock(family).bind(path.a, 5).connect(path.b, 50)
    else:
        s = Sock.around(wire.a.udp((path.a, path.sport), (path.b, path.dport)))
        s.sock.setblocking(True)
        s.set(socket.IPPROTO_UDP, 1, 1)  # UDP_CORK: else no lock is taken
    wire.l2tp.tunnel(5, 50, encap=path.encap, fd=s.sock.fileno())
    return s


ENCAPS = pytest.mark.parametrize("encap", [Encap.IP, Encap.UDP],
                                 ids=lambda value: value.name.lower())


@FAMILIES
@ENCAPS
def test_transmit_while_the_socket_is_in_use(wire: Wire, sock: Sockets, family: Family,
                                             encap: Encap) -> None:
    """11.1 T4: a frame for the tunnel of a socket that a task owns, as each task does that sends:
    C drops it, and counts that."""
    path = Path(family.number, encap, 5000, 6000)
    s = managed(wire, sock, family, path)
    session = Session(5, 500, path, "x5").create(wire)
    inner = frame(pattern(60))
    wire.packets()
    lost = merge(session.counts(TX_ERRORS=1), session.tunnel_counts(TX_ERRORS=1),
                 session.device_counts(tx_dropped=1))
    with sending(s, 50):
        with wire.counting(expect("T4", c=lost, rust=session.transmitted(inner))):
            wire.transmit("x5", inner)
            packets = wire.packets()
    assert [p[path.outer_len:] for p in packets] == expect("T4", c=[], rust=[session.sent(inner)])
    s.close()
    eventually(lambda: not wire.l2tp.has_tunnel(5))


@FAMILIES
@ENCAPS
def test_deletion_while_the_socket_is_in_use(wire: Wire, sock: Sockets, family: Family,
                                             encap: Encap) -> None:
    """A request does not wait for a task that owns the socket, and may take its time; nor do those
    that come after it, of anybody."""
    path = Path(family.number, encap, 5000, 6000)
    s = managed(wire, sock, family, path)
    Session(5, 500, path, "x5").create(wire)
    with sending(s, 50):
        wire.l2tp.del_tunnel(5)
        eventually(lambda: wire.a.index("x5") is None)
        # a name that was in use just now, and a tunnel that makes it
        other = Path(family.number, encap, 5001, 6001)
        wire.l2tp.tunnel(6, 60, encap=encap, local=other.a, peer=other.b, sport=other.sport,
                         dport=other.dport)
        Session(6, 500, other, "x5").create(wire)
        wire.l2tp.del_tunnel(6)
    if encap == Encap.UDP:
        eventually(lambda: s.sock.getsockopt(socket.IPPROTO_UDP, 100) == 0)  # UDP_ENCAP
    s.close()
    eventually(lambda: wire.a.index("x5") is None)
