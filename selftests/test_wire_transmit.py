# SPDX-License-Identifier: GPL-2.0
"""abi 1.2-1.6, 1.11-1.13, 3.6, 5.3: what our end puts on the wire, byte by byte."""

import ctypes
import socket
import struct
from collections.abc import Iterator

import pytest

from lib import attrs as nla
from lib.differences import expect
from lib.uapi import Attr, Encap, L2Spec
from lib.wire import (IP_DF, Path, Session, Wire, checksum, frame, merge, packed, pattern,
                      reassemble4, reassemble6)

COOKIES = [pattern(length, 5) for length in range(9)]
L2SPECS = (L2Spec.NONE, L2Spec.DEFAULT)

#: Tunnels by name: id, path, whether all headers or only a few are tried.
TUNNELS = {
    "udp4": (10, Path(4, Encap.UDP, 5010, 6010, zero_checksum=True), True),
    "udp6": (11, Path(6, Encap.UDP, 5011, 6011), True),
    "ip4": (12, Path(4, Encap.IP), True),
    "ip6": (13, Path(6, Encap.IP), True),
    "udp4-checksum": (14, Path(4, Encap.UDP, 5014, 6014), False),
    "udp6-zero": (15, Path(6, Encap.UDP, 5015, 6015, zero_checksum=True), False),
    "fd4": (16, Path(4, Encap.UDP, 5016, 6016, ttl=7, tos=0x28), False),
    "fd4-zero": (17, Path(4, Encap.UDP, 5017, 6017, zero_checksum=True), False),
    "fd6": (18, Path(6, Encap.UDP, 5018, 6018, ttl=9, tos=0x48), False),
    "fd6-zero": (19, Path(6, Encap.UDP, 5019, 6019, zero_checksum=True), False),
}
FULL = [name for name, (_, _, full) in TUNNELS.items() if full]
OTHER = [name for name, (_, _, full) in TUNNELS.items() if not full]


def managed(wire: Wire, path: Path) -> socket.socket:
    """A socket with the options that show on the wire."""
    sock = wire.a.udp((path.a, path.sport), (path.b, path.dport))
    if path.family == 4:
        if path.ttl != 64:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, path.ttl)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, path.tos)
        sock.setsockopt(socket.SOL_SOCKET, 11, int(path.zero_checksum))  # SO_NO_CHECK
    else:
        if path.ttl != 64:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, path.ttl)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, path.tos)
        sock.setsockopt(17, 101, int(path.zero_checksum))  # UDP_NO_CHECK6_TX
    return sock


class Ends:
    """A wire with all the tunnels; sessions are made when they are first asked for."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.sockets: dict[str, socket.socket] = {}
        self.sessions: dict[tuple, Session] = {}
        self.ns: dict[int, int] = {}
        for name, (tid, path, _) in TUNNELS.items():
            if name.startswith("fd"):
                sock = self.sockets[name] = managed(self.wire, path)
                self.wire.l2tp.tunnel(tid, tid + 100, fd=sock.fileno())
                continue
            extra = {"udp4-checksum": (nla.u8(Attr.UDP_CSUM, 1),),
                     "udp6-zero": (nla.flag(Attr.UDP_ZERO_CSUM6_TX),)}.get(name, ())
            self.wire.l2tp.tunnel(tid, tid + 100, encap=path.encap, local=path.a, peer=path.b,
                                  sport=path.sport, dport=path.dport, extra=extra)

    def session(self, tunnel: str, cookie: bytes, l2spec: int, **kwargs) -> Session:
        key = (tunnel, cookie, l2spec)
        if key not in self.sessions:
            tid, path, _ = TUNNELS[tunnel]
            number = len(self.sessions) + 1
            session = Session(tid, tid << 16 | number, path, f"x{number}", l2spec, cookie)
            self.sessions[key] = session.create(self.wire)
        return self.sessions[key]

    def number(self, session: Session) -> int:
        """The Ns that must come next."""
        self.ns[session.sid] = self.ns.get(session.sid, -1) + 1
        return self.ns[session.sid]

    def set(self, session: Session, kind: Attr, value: int) -> None:
        self.wire.l2tp.modify_session(session.tid, session.sid, nla.integer(kind, value))


@pytest.fixture(scope="module")
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.wire.close()


def same_packet(got: bytes, path: Path, message: bytes) -> None:
    """Every byte, from the outer IP header on; IPv4's identification is free."""
    ident = struct.unpack("!H", got[4:6])[0] if path.family == 4 else 0
    assert got == path.outgoing(message, ident)


def sends(ends: Ends, session: Session, inner: bytes, ns: int | None = None) -> None:
    wire = ends.wire
    with wire.counting(session.transmitted(inner)):
        wire.transmit(session.ifname, inner)
        packets = wire.packets()
        assert len(packets) == 1
        same_packet(packets[0], session.path, session.sent(inner, ns))


@pytest.mark.parametrize("l2spec", L2SPECS, ids=lambda value: value.name.lower())
@pytest.mark.parametrize("tunnel", FULL)
def test_every_header(ends: Ends, tunnel: str, l2spec: int) -> None:
    """All lengths of cookie; Ns goes on where it stopped when numbering was switched off."""
    wire = ends.wire
    sessions = [ends.session(tunnel, cookie, l2spec) for cookie in COOKIES]
    inner = frame(pattern(46))
    before = wire.counters()
    expected = []
    counts = []
    for session in sessions:
        for numbered, count in ((0, 1), (1, 2), (0, 1), (1, 1)):
            ends.set(session, Attr.SEND_SEQ, numbered)
            for _ in range(count):
                # without a sublayer, numbering has no effect on the wire (1.5.2)
                ns = ends.number(session) if numbered and l2spec == L2Spec.DEFAULT else None
                expected.append((session.path, session.sent(inner, ns)))
                wire.transmit(session.ifname, inner)
        ends.set(session, Attr.SEND_SEQ, 0)
        counts.append(session.transmitted(*[inner] * 5))
    packets = wire.packets()
    assert len(packets) == len(expected)
    for packet, (path, message) in zip(packets, expected):
        same_packet(packet, path, message)
    assert wire.changes(before) == merge(*counts)


@pytest.mark.parametrize("tunnel", OTHER)
def test_checksum_ttl_and_tos(ends: Ends, tunnel: str) -> None:
    """3.6, 1.12.1; even and odd lengths, for the checksum."""
    session = ends.session(tunnel, COOKIES[3], L2Spec.DEFAULT)
    for length in (46, 47):
        sends(ends, session, frame(pattern(length)))


def test_checksum_of_all_ones(ends: Ends) -> None:
    """A checksum that comes out as 0 is sent as 0xffff."""
    for tunnel in ("udp4-checksum", "udp6"):
        session = ends.session(tunnel, b"", L2Spec.NONE)
        plain = frame(bytes(46))
        check = struct.unpack("!H", session.path.datagram(session.sent(plain))[6:8])[0]
        inner = plain[:-2] + struct.pack("!H", check)
        assert session.path.datagram(session.sent(inner))[6:8] == b"\xff\xff"
        sends(ends, session, inner)


@pytest.mark.parametrize("tunnel", ["udp4-checksum", "udp6"])
def test_checksum_left_to_the_device(ends: Ends, tunnel: str) -> None:
    """3.6: the field then holds the sum over the pseudo header; but fragments need the real one."""
    session = ends.session(tunnel, COOKIES[8], L2Spec.DEFAULT)
    path, wire = session.path, ends.wire
    inner, large = frame(pattern(60)), frame(pattern(3000))
    wire.a.set_mtu(session.ifname, 4000)
    wire.checksum_offload(True)
    try:
        wire.transmit(session.ifname, inner)
        (packet,) = wire.packets(partial=True)
        wire.transmit(session.ifname, large)
        fragments = wire.packets()
    finally:
        wire.checksum_offload(False)
    length = len(path.datagram(session.sent(inner)))
    pseudo = packed(path.a) + packed(path.b) + struct.pack("!II", length, 17)
    partial = struct.pack("!H", ~checksum(pseudo) & 0xffff)
    at = path.outer_len - 2
    ident = struct.unpack("!H", packet[4:6])[0] if path.family == 4 else 0
    whole = path.outgoing(session.sent(inner), ident)
    assert packet == whole[:at] + partial + whole[at + 2:]
    reassemble = reassemble4 if path.family == 4 else reassemble6
    same_packet(reassemble(fragments), path, session.sent(large))


@pytest.mark.parametrize("tunnel", FULL)
def test_shared_buffers(ends: Ends, tunnel: str) -> None:
    """A capture on the device shares the frame's buffer: it stays as it is."""
    session = ends.session(tunnel, COOKIES[8], L2Spec.DEFAULT)
    inners = [frame(pattern(length, length)) for length in (0, 60, 1000)]
    with ends.wire.copies(session.ifname) as copies:
        for inner in inners:
            sends(ends, session, inner)
    assert copies == inners


@pytest.mark.parametrize("family,tunnel", [(4, "fd4"), (6, "fd6")])
def test_options_of_the_socket_change(ends: Ends, family: int, tunnel: str) -> None:
    """They are the socket's as they are now, not as they were at registration."""
    session = ends.session(tunnel, b"", L2Spec.NONE)
    sock = ends.sockets[tunnel]
    level, ttl, tos = ((socket.IPPROTO_IP, socket.IP_TTL, socket.IP_TOS) if family == 4 else
                       (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, socket.IPV6_TCLASS))
    inner = frame(pattern(60))
    sock.setsockopt(level, ttl, 33)
    sock.setsockopt(level, tos, 0x10)
    ends.wire.transmit(session.ifname, inner)
    sock.setsockopt(level, ttl, session.path.ttl)
    sock.setsockopt(level, tos, session.path.tos)
    ends.wire.transmit(session.ifname, inner)
    changed, restored = ends.wire.packets()
    old = session.path
    same_packet(changed, Path(old.family, old.encap, old.sport, old.dport, ttl=33, tos=0x10),
                session.sent(inner))
    same_packet(restored, old, session.sent(inner))


@pytest.mark.parametrize("tunnel", FULL)
def test_short_frames_are_not_padded(ends: Ends, tunnel: str) -> None:
    """5.3.2"""
    session = ends.session(tunnel, COOKIES[4], L2Spec.DEFAULT)
    for length in (0, 1, 2, 45):
        sends(ends, session, frame(pattern(length)))


@pytest.mark.parametrize("tunnel", FULL)
def test_vlan_tags_are_part_of_the_frame(ends: Ends, tunnel: str) -> None:
    """One tag and two, of both kinds."""
    session = ends.session(tunnel, COOKIES[4], L2Spec.DEFAULT)
    vlan = struct.pack("!HH", 0xe123, 0x88b5)
    sends(ends, session, frame(vlan + pattern(60), ethertype=0x8100))
    sends(ends, session, frame(struct.pack("!HH", 0x2001, 0x8100) + vlan + pattern(60),
                               ethertype=0x88a8))


def test_vlan_device(ends: Ends) -> None:
    """A tag that the stack keeps beside the frame (a VLAN device) is in it on the wire."""
    session = ends.session("udp4", COOKIES[4], L2Spec.DEFAULT)
    wire = ends.wire
    wire.a.rtnl.add_vlan("v5", wire.a.index(session.ifname), 5)
    wire.a.up("v5")
    wire.transmit("v5", frame(pattern(60)))
    (packet,) = wire.packets()
    tagged = frame(struct.pack("!HH", 5, 0x88b5) + pattern(60), ethertype=0x8100)
    same_packet(packet, session.path, session.sent(tagged))
    assert wire.a.rtnl.try_delete(wire.a.index("v5")) == 0


@pytest.mark.parametrize("tunnel", FULL + ["udp4-checksum"])
def test_frames_larger_than_the_path(ends: Ends, tunnel: str) -> None:
    """1.11.7, 1.12.1: the first that does not fit, and many times the MTU: right fragments."""
    session = ends.session(tunnel, COOKIES[8], L2Spec.DEFAULT)
    wire = ends.wire
    wire.a.set_mtu(session.ifname, 9000)
    fits = 1500 - session.path.outer_len - len(session.sent(b"")) - 14
    sends(ends, session, frame(pattern(fits)))
    reassemble = reassemble4 if session.path.family == 4 else reassemble6
    for length, count in ((fits + 1, 2), (3000, 3), (9000, 7)):
        inner = frame(pattern(length))
        with wire.counting(session.transmitted(inner)):
            wire.transmit(session.ifname, inner)
            packets = wire.packets()
            assert len(packets) == count
            same_packet(reassemble(packets), session.path, session.sent(inner))


def test_dont_fragment_is_never_set(ends: Ends) -> None:
    """1.12.1: not even if the owner of the socket asks for path MTU discovery."""
    session = ends.session("fd4", b"", L2Spec.NONE)
    sock = ends.sockets["fd4"]
    for pmtudisc in (0, 1, 2, 3):  # IP_PMTUDISC_DONT, WANT, DO, PROBE
        sock.setsockopt(socket.IPPROTO_IP, 10, pmtudisc)
        ends.wire.transmit(session.ifname, frame(pattern(60)))
        (packet,) = ends.wire.packets()
        assert not struct.unpack("!H", packet[6:8])[0] & IP_DF
        same_packet(packet, session.path, session.sent(frame(pattern(60))))


def test_longer_than_a_datagram(ends: Ends) -> None:
    """1.11.6: dropped, and counted as that; the longest one that fits is sent."""
    session = ends.session("udp4", COOKIES[0], L2Spec.NONE)
    wire = ends.wire
    wire.a.set_mtu(session.ifname, 65535)
    longest = 65535 - 20 - 8 - len(session.sent(b"")) - 14
    inner = frame(pattern(longest))
    with wire.counting(session.transmitted(inner)):
        wire.transmit(session.ifname, inner)
        same_packet(reassemble4(wire.packets()), session.path, session.sent(inner))
    lost = {"TX_ERRORS": 1}
    with wire.counting(session.counts(**lost), session.tunnel_counts(**lost),
                       session.device_counts(tx_dropped=1)):
        wire.transmit(session.ifname, frame(pattern(longest + 20 + 1)))
        assert wire.packets() == []


@pytest.mark.parametrize("family", [4, 6])
def test_managed_socket_that_is_not_connected(ends: Ends, family: int) -> None:
    """1.11.5: dropped until the owner connects it, and after it disconnects it."""
    wire = ends.wire
    path = Path(family, Encap.UDP, 5020 + family, 6020 + family)
    sock = wire.a.udp((path.a, path.sport))
    tid = 20 + family
    wire.l2tp.tunnel(tid, tid + 100, fd=sock.fileno())
    session = Session(tid, tid << 16, path, f"u{family}").create(wire, send_seq=1)
    inner = frame(pattern(60))
    lost = merge(session.counts(TX_ERRORS=1), session.tunnel_counts(TX_ERRORS=1),
                 session.device_counts(tx_dropped=1))
    with wire.counting(lost):
        wire.transmit(session.ifname, inner)
        assert wire.packets() == []
    sock.connect((path.b, path.dport))
    with wire.counting(session.transmitted(inner)):
        wire.transmit(session.ifname, inner)
        (packet,) = wire.packets()
        ns = struct.unpack("!I", packet[path.outer_len + 8:path.outer_len + 12])[0] & 0xffffff
        assert ns == expect("SEQ-GAP", c=1, rust=0)
        same_packet(packet, path, session.sent(inner, ns))
    disconnect(sock)
    with wire.counting(lost):
        wire.transmit(session.ifname, inner)
        assert wire.packets() == []


def disconnect(sock: socket.socket) -> None:
    """connect() to AF_UNSPEC, which Python cannot say."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.connect(sock.fileno(), bytes(16), 16) == 0


def test_connected_socket_takes_another_peer(ends: Ends) -> None:
    """1.12.2: addresses and ports are the socket's."""
    wire = ends.wire
    path = Path(4, Encap.UDP, 5030, 6030)
    sock = wire.a.udp((path.a, path.sport), (path.b, path.dport))
    wire.l2tp.tunnel(30, 130, fd=sock.fileno())
    session = Session(30, 30 << 16, path, "u30").create(wire)
    inner = frame(pattern(60))
    sock.connect((path.b, 6031))
    wire.transmit(session.ifname, inner)
    (packet,) = wire.packets()
    same_packet(packet, Path(4, Encap.UDP, 5030, 6031), session.sent(inner))


def test_several_devices_at_once(ends: Ends) -> None:
    """Frames of sessions of all tunnels, mixed: each its own header, in order."""
    wire = ends.wire
    sessions = [ends.session(tunnel, COOKIES[4], L2Spec.DEFAULT) for tunnel in TUNNELS]
    inners = {session.sid: frame(pattern(100, number)) for number, session in enumerate(sessions)}
    with wire.counting(*(session.transmitted(inners[session.sid]) for session in sessions * 2)):
        for session in sessions * 2:
            wire.transmit(session.ifname, inners[session.sid])
        packets = wire.packets()
    assert len(packets) == 2 * len(sessions)
    for packet, session in zip(packets, sessions * 2):
        same_packet(packet, session.path, session.sent(inners[session.sid]))


@pytest.mark.parametrize("encap", (Encap.UDP, Encap.IP))
def test_too_long(ends: Ends, encap: Encap) -> None:
    """1.2: the longest message that fits in an IPv4 packet, and one byte more."""
    wire = ends.wire
    wire.a.up("lo")
    tid = 40 + encap
    wire.l2tp.tunnel(tid, 140, encap=encap, local="127.0.0.1", peer="127.0.0.2",
                     sport=5040, dport=6040)
    session = Session(tid, tid << 16, Path(4, encap, 5040, 6040), f"l{tid}").create(wire)
    wire.a.set_mtu(session.ifname, 65535)
    inner = bytes(65535 - 20 - (8 if encap == Encap.UDP else 0) - len(session.sent(b"")))
    errors = merge(session.counts(TX_ERRORS=1), session.tunnel_counts(TX_ERRORS=1),
                   session.device_counts(tx_dropped=1))
    with wire.counting(session.transmitted(inner)):
        wire.transmit(session.ifname, inner)
    with wire.counting(expect("TOO-LONG", c=session.transmitted(inner + b"x"), rust=errors)):
        wire.transmit(session.ifname, inner + b"x")
