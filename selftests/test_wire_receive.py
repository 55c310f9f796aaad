# SPDX-License-Identifier: GPL-2.0
"""abi 1.7-1.10, 3.4, 3.6, 3.7, 5.4: what becomes of every kind of packet, and what is counted."""

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from lib import attrs as nla
from lib.differences import expect
from lib.ipsocket import Sock
from lib.uapi import Attr, Encap, L2Spec, PwType
from lib.wait import eventually
from lib.wire import (PACKET_BROADCAST, PACKET_HOST, PACKET_MULTICAST, PACKET_OTHERHOST, Path,
                      Session, Wire, checksum, data_header, frame, ip4, ip6, merge, packed,
                      pattern, queued, tunnel_counts, udp)

#: Tunnels by name: id and path.  Those over UDP are on sockets of ours.
TUNNELS = {
    "udp4": (10, Path(4, Encap.UDP, 5010, 6010)),
    "udp6": (11, Path(6, Encap.UDP, 5011, 6011)),
    "ip4": (12, Path(4, Encap.IP)),
    "ip6": (13, Path(6, Encap.IP)),
}
OVER_UDP = ("udp4", "udp6")
OVER_IP = ("ip4", "ip6")
INNER = frame(pattern(46))
UNKNOWN = 0x7fffffff


class Ends:
    """A wire, the tunnels, and sessions with every length of cookie in those over IPv4."""

    def __init__(self) -> None:
        self.wire = Wire(mtu=9000)
        self._fresh = 100
        self.sockets: dict[str, socket.socket] = {}
        self.sessions: dict[str, list[Session]] = {}
        number = 0
        for name, (tid, path) in TUNNELS.items():
            if path.encap == Encap.UDP:
                sock = self.wire.a.udp((path.a, path.sport), (path.b, path.dport))
                self.sockets[name] = sock
                self.wire.l2tp.tunnel(tid, tid + 100, fd=sock.fileno())
            else:
                self.wire.l2tp.tunnel(tid, tid + 100, encap=Encap.IP, local=path.a, peer=path.b)
            made = self.sessions[name] = []
            for length in range(9) if path.family == 4 else (0, 4, 8):
                for l2spec in (L2Spec.NONE, L2Spec.DEFAULT):
                    number += 1
                    made.append(Session(tid, tid << 16 | number, path, f"r{number}", l2spec,
                                        peer_cookie=pattern(length, number)).create(self.wire))

    def session(self, tunnel: str, cookie_len: int, l2spec: int) -> Session:
        for session in self.sessions[tunnel]:
            if len(session.peer_cookie) == cookie_len and session.l2spec == l2spec:
                return session
        raise LookupError((tunnel, cookie_len, l2spec))

    def fresh(self, family: int) -> tuple[int, Path]:
        """A tunnel id and ports that no test has used."""
        self._fresh += 1
        return self._fresh, Path(family, Encap.UDP, 5000 + self._fresh, 6000 + self._fresh)

    def passed_up(self, tunnel: str) -> list[bytes]:
        return queued(self.sockets[tunnel])

    def nothing_passed_up(self) -> None:
        assert {name: queued(sock) for name, sock in self.sockets.items()} == {
            name: [] for name in self.sockets}


@pytest.fixture(scope="module")
def _ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.wire.close()


@pytest.fixture
def ends(_ends: Ends) -> Iterator[Ends]:
    """Nobody leaves anything behind."""
    yield _ends
    assert _ends.wire.delivered() == []
    _ends.nothing_passed_up()


@pytest.fixture
def wire(ends: Ends) -> Wire:
    return ends.wire


def delivers(ends: Ends, session: Session, *packets: bytes, inner: bytes = INNER) -> None:
    """Each of the packets brings `inner` to the device."""
    wire = ends.wire
    with wire.counting(session.received(*[inner] * len(packets))):
        wire.inject(*packets)
        assert wire.delivered() == [(session.ifname, inner)] * len(packets)
    ends.nothing_passed_up()


def passes_up(ends: Ends, tunnel: str, *messages: bytes, invalid: int | None = None) -> None:
    """Each message, sent to the tunnel, arrives at its socket as it is; `invalid` is the tunnel
    that counts it."""
    wire = ends.wire
    path = TUNNELS[tunnel][1]
    counts = {} if invalid is None else tunnel_counts(invalid, RX_INVALID=len(messages))
    with wire.counting(counts):
        wire.inject(*(path.incoming(message) for message in messages))
        assert wire.delivered() == []
        assert ends.passed_up(tunnel) == list(messages)
    ends.nothing_passed_up()


@contextmanager
def collecting(wire: Wire, counts: list[dict[str, int]]) -> Iterator[None]:
    """Like wire.counting(), for counts that the block itself collects."""
    before = wire.counters()
    yield
    assert wire.changes(before) == merge(*counts)


def vanishes(ends: Ends, *packets: bytes, counts: dict[str, int] | None = None) -> None:
    """Neither delivered nor passed up nor answered."""
    wire = ends.wire
    with wire.counting(counts or {}):
        wire.inject(*packets)
        assert wire.delivered() == []
        assert wire.packets() == []
    ends.nothing_passed_up()


# --- what is accepted

@pytest.mark.parametrize("tunnel", TUNNELS)
def test_every_header(ends: Ends, wire: Wire, tunnel: str) -> None:
    """1.2-1.5: every length of cookie, with and without sublayer; frames of several lengths."""
    sessions = ends.sessions[tunnel]
    inners = [frame(pattern(length, length)) for length in (0, 1, 46, 47, 1400)]
    with wire.counting(*(session.received(*inners) for session in sessions)):
        wire.inject(*(session.packet(inner) for session in sessions for inner in inners))
        assert wire.delivered() == [(session.ifname, inner)
                                    for session in sessions for inner in inners]
    ends.nothing_passed_up()


@pytest.mark.parametrize("tunnel", OVER_UDP)
def test_other_flags_are_ignored(ends: Ends, tunnel: str) -> None:
    """1.2: all but T and Ver, and the reserved word."""
    session = ends.session(tunnel, 4, L2Spec.DEFAULT)
    words = [(1 << bit | 3, 0) for bit in range(4, 15)] + [(0x7ff3, 0)]
    words += [(3, 1 << bit) for bit in range(16)] + [(3, 0xffff), (0x7ff3, 0xffff)]
    delivers(ends, session, *(session.packet(INNER, flags=flags, reserved=reserved)
                              for flags, reserved in words))


@pytest.mark.parametrize("tunnel", TUNNELS)
def test_other_bits_of_the_sublayer_are_ignored(ends: Ends, tunnel: str) -> None:
    """1.5: without S, none of them means anything."""
    session = ends.session(tunnel, 4, L2Spec.DEFAULT)
    words = [1 << bit for bit in range(32) if bit != 30] + [0xbfffffff]
    delivers(ends, session, *(session.packet(INNER, sublayer=word) for word in words))


@pytest.mark.parametrize("tunnel", ["udp4", "ip4"])
def test_no_sublayer_no_numbers(ends: Ends, wire: Wire, tunnel: str) -> None:
    """1.5.2: four bytes like a numbered sublayer are the beginning of the frame."""
    session = ends.session(tunnel, 0, L2Spec.NONE)
    inner = frame(pattern(46), dst=b"\x40\0\0\5\0\0")
    delivers(ends, session, session.packet(inner), inner=inner)


@pytest.mark.parametrize("tunnel", ["udp4", "ip4"])
def test_no_cookie_expected_but_sent(ends: Ends, tunnel: str) -> None:
    """1.4.3: it is taken for payload."""
    session = ends.session(tunnel, 0, L2Spec.NONE)
    delivers(ends, session, session.packet(b"COOKIE4U" + INNER), inner=b"COOKIE4U" + INNER)


def test_vlan_tags_and_kinds_of_destination(ends: Ends, wire: Wire) -> None:
    """5.4: the frame is as received on a wire of the device's own."""
    session = ends.session("udp4", 8, L2Spec.DEFAULT)
    mac = wire.a.link(session.ifname).message.raw(1)
    vlan = struct.pack("!HH", 0xe123, 0x88b5)
    inners = [(frame(vlan + pattern(60), ethertype=0x8100), PACKET_BROADCAST),
              (frame(struct.pack("!HH", 1, 0x8100) + vlan + pattern(60), ethertype=0x88a8),
               PACKET_BROADCAST),
              (frame(pattern(60), dst=mac), PACKET_HOST),
              (frame(pattern(60), dst=b"\1\0\x5e\0\0\1"), PACKET_MULTICAST),
              (frame(pattern(60), dst=b"\2\0\0\0\0\x99"), PACKET_OTHERHOST)]
    # no VLAN device is there to take the tagged ones from the device
    with wire.counting(session.received(*(inner for inner, _ in inners)),
                       session.device_counts(rx_dropped=2)):
        wire.inject(*(session.packet(inner) for inner, _ in inners))
        assert [(seen.data, seen.kind) for seen in wire.devices()] == inners


# --- tables 1.7 and 1.8

@pytest.mark.parametrize("tunnel", OVER_UDP)
def test_truncated_over_udp(ends: Ends, wire: Wire, tunnel: str) -> None:
    """1.7 rows 1 and 7, 1.10.1: every length from nothing to the smallest frame."""
    counts = []
    with collecting(wire, counts):
        for session in ends.sessions[tunnel]:
            message = session.header() + INNER[:14]
            header = len(session.header())
            cut = [message[:length] for length in range(len(message))]
            short = [part for part in cut if len(part) < 14]
            invalid = [part for part in cut if 14 <= len(part) < header]
            runts = [part[header:] for part in cut if len(part) >= max(14, header)]
            assert len(short) + len(invalid) + len(runts) == len(cut)
            wire.inject(*(session.path.incoming(part) for part in cut + [message]))
            assert wire.delivered() == [(session.ifname, INNER[:14])]
            assert ends.passed_up(tunnel) == short + invalid
            counts += [session.tunnel_counts(RX_INVALID=len(invalid)),
                       session.received(*runts, device=False), session.received(INNER[:14])]


@pytest.mark.parametrize("tunnel", OVER_IP)
def test_truncated_over_ip(ends: Ends, wire: Wire, tunnel: str) -> None:
    """1.8 rows 1 and 8, 1.10.1"""
    counts = []
    with collecting(wire, counts):
        for session in ends.sessions[tunnel]:
            message = session.header() + INNER[:14]
            cut = [message[:length] for length in range(len(message))]
            runts = [part[len(session.header()):] for part in cut[len(session.header()):]]
            wire.inject(*(session.path.incoming(part) for part in cut + [message]))
            assert wire.delivered() == [(session.ifname, INNER[:14])]
            counts += [session.received(*runts, device=False), session.received(INNER[:14])]
    assert wire.packets() == []


@pytest.mark.parametrize("tunnel", TUNNELS)
def test_wrong_cookie(ends: Ends, wire: Wire, tunnel: str) -> None:
    """1.9 a: a bit of each byte, and the bytes in another order."""
    counts = []
    with collecting(wire, counts):
        for session in ends.sessions[tunnel]:
            cookie = session.peer_cookie
            wrong = [cookie[:at] + bytes((cookie[at] ^ 1 << at,)) + cookie[at + 1:]
                     for at in range(len(cookie))]
            if len(cookie) > 1:
                wrong.append(cookie[1:] + cookie[:1])
            wire.inject(*(replace(session, peer_cookie=other).packet(INNER) for other in wrong),
                        session.packet(INNER))
            assert wire.delivered() == [(session.ifname, INNER)]
            counts += [session.received(INNER), session.counts(RX_COOKIE_DISCARDS=len(wrong),
                                                               RX_ERRORS=len(wrong))]


@pytest.mark.parametrize("tunnel", OVER_UDP)
def test_unknown_session_over_udp(ends: Ends, tunnel: str) -> None:
    """1.7 row 4, for every version but 2, and 1.7.5."""
    path = TUNNELS[tunnel][1]
    sids = (0, 1, UNKNOWN, 0xffffffff, ends.sessions[tunnel][0].sid ^ 0x80000000)
    passes_up(ends, tunnel, *(data_header(path.encap, sid, flags=version) + INNER
                              for sid in sids for version in range(16) if version != 2))


@pytest.mark.parametrize("tunnel", OVER_IP)
def test_unknown_session_over_ip(ends: Ends, tunnel: str) -> None:
    """1.8 row 7, 1.8.5"""
    path = TUNNELS[tunnel][1]
    sids = (1, UNKNOWN, 0xffffffff, ends.sessions[tunnel][0].sid ^ 0x80000000)
    vanishes(ends, *(path.incoming(data_header(Encap.IP, sid) + INNER) for sid in sids))


@pytest.mark.parametrize("tunnel", OVER_UDP)
def test_control_over_udp(ends: Ends, tunnel: str) -> None:
    """1.7 row 2: T in any version, even with the id of a session where data has it."""
    session = ends.session(tunnel, 4, L2Spec.DEFAULT)
    flags = [0x8000 | other | version for version in range(16) for other in (0, 0x4800, 0x7ff0)]
    passes_up(ends, tunnel, *(session.header(flags=word) + INNER for word in flags))


@pytest.mark.parametrize("tunnel", OVER_UDP)
def test_other_versions(ends: Ends, tunnel: str) -> None:
    """1.7 row 6: the session's tunnel counts it; and row 3: version 2 has its own ids."""
    session = ends.session(tunnel, 4, L2Spec.DEFAULT)
    for other in (0, 0x7ff0):
        passes_up(ends, tunnel, *(session.header(flags=other | version) + INNER
                                  for version in (0, 1, *range(4, 16))), invalid=session.tid)
        passes_up(ends, tunnel, session.header(flags=other & ~0x40f0 | 2) + INNER)
    tid, sid = session.tid, session.sid & 0xffff
    for flags in (0x0002, 0x4002, 0x0802, 0x0202, 0x4a02):
        body = struct.pack("!HHH", flags, tid, sid) + INNER
        with_length = struct.pack("!HHHH", flags, 6 + len(INNER), tid, sid) + INNER
        passes_up(ends, tunnel, with_length if flags & 0x4000 else body)


def test_any_tunnel_takes_any_session(ends: Ends, wire: Wire) -> None:
    """1.7.2-1.7.4: neither ports nor the socket are looked at.  B24: the encapsulation is, and the
    addresses."""
    counts = []
    with collecting(wire, counts):
        for name, (_, own) in TUNNELS.items():
            for session in (ends.session(name, 0, L2Spec.NONE),
                            ends.session(name, 8, L2Spec.DEFAULT)):
                kin = [other for other, (_, path) in TUNNELS.items()
                       if (path.encap, path.family) == (own.encap, own.family)]
                taken = expect("B24", c=list(TUNNELS), rust=kin)
                for other, (_, path) in TUNNELS.items():
                    met = session.over(path)
                    wire.inject(met.packet(INNER))
                    if other in taken:
                        assert wire.delivered() == [(session.ifname, INNER)]
                        counts.append(met.received(INNER))
                        continue
                    assert wire.delivered() == [] and wire.packets() == []
                    if path.encap == Encap.UDP != own.encap:
                        assert ends.passed_up(other) == [met.header() + INNER]
                    counts.append(session.tunnel_counts(RX_INVALID=1))
    ends.nothing_passed_up()


def test_other_versions_and_tunnels(ends: Ends) -> None:
    """1.7 rows 6 and 7 for a session of another tunnel: that one counts, this socket gets it."""
    for name in ("udp6", "ip4"):  # B24 makes no difference to what is refused anyway
        session = ends.session(name, 8, L2Spec.DEFAULT).over(TUNNELS["udp4"][1])
        passes_up(ends, "udp4", session.header(flags=5) + INNER, invalid=session.tid)
        # ours looks who it is from before it looks at more than the ids
        if expect("B24", c=True, rust=name == "ip4"):
            passes_up(ends, "udp4", session.header()[:15], invalid=session.tid)
        else:
            vanishes(ends, TUNNELS["udp4"][1].incoming(session.header()[:15]),
                     counts=session.tunnel_counts(RX_INVALID=1))


def test_deleted_session(ends: Ends, wire: Wire) -> None:
    """1.7 row 4, 1.8 row 7: its data goes where unknown data goes."""
    for number, name in enumerate(("udp4", "ip4")):
        tid, path = TUNNELS[name]
        session = Session(tid, 0x2000 + number, path, f"gone{number}").create(wire)
        delivers(ends, session, session.packet(INNER))
        wire.l2tp.del_session(tid, session.sid)
        eventually(lambda: not wire.l2tp.has_session(tid, session.sid))
        eventually(lambda: wire.a.index(session.ifname) is None)
        if path.encap == Encap.UDP:
            passes_up(ends, name, session.header() + INNER)
        else:
            vanishes(ends, session.packet(INNER))


def test_deleted_tunnel(ends: Ends, wire: Wire) -> None:
    """Its socket is an ordinary one again, even for data of sessions of other tunnels."""
    tid, path = ends.fresh(4)
    sock = wire.a.udp((path.a, path.sport), (path.b, path.dport))
    wire.l2tp.tunnel(tid, tid, fd=sock.fileno())
    session = Session(tid, 0x4000, path, "gone").create(wire)
    other = ends.session("udp4", 4, L2Spec.DEFAULT).over(path)
    delivers(ends, session, session.packet(INNER))
    delivers(ends, other, other.packet(INNER))
    wire.l2tp.del_tunnel(tid)
    eventually(lambda: wire.a.index("gone") is None)
    eventually(lambda: sock.getsockopt(17, 100) == 0)
    vanishes(ends, session.packet(INNER), other.packet(INNER))
    assert queued(sock) == [session.header() + INNER, other.header() + INNER]


# --- 3.4: one id in several UDP tunnels

def test_shared_session_id(ends: Ends, wire: Wire) -> None:
    paths = dict(ends.fresh(family) for family in (4, 4, 6))
    for tid, path in paths.items():
        wire.l2tp.tunnel(tid, tid, local=path.a, peer=path.b, sport=path.sport,
                         dport=path.dport)
    mine, yours, theirs = (Session(tid, 0x5000, path, f"s{tid}", peer_cookie=b"ABCD")
                           for tid, path in paths.items())
    udp4, over_ip = mine.over(TUNNELS["udp4"][1]), mine.over(TUNNELS["ip4"][1])

    # the only holder is found from anywhere; on ours from any UDP socket (B24)
    mine.create(wire)
    for path in (mine.path, yours.path, udp4.path):
        delivers(ends, mine.over(path), mine.over(path).packet(INNER))
    if expect("B24", c=True, rust=False):
        delivers(ends, over_ip, over_ip.packet(INNER))
    else:
        vanishes(ends, over_ip.packet(INNER), counts=mine.tunnel_counts(RX_INVALID=1))

    # of several, each by its own socket only
    yours.create(wire)
    delivers(ends, mine, mine.packet(INNER))
    delivers(ends, yours, yours.packet(INNER))
    theirs.create(wire)
    for session in (mine, yours, theirs):
        delivers(ends, session, session.packet(INNER))
        bad = replace(session, peer_cookie=b"ABCE")
        vanishes(ends, bad.packet(INNER), counts=session.counts(RX_COOKIE_DISCARDS=1, RX_ERRORS=1))
    passes_up(ends, "udp4", udp4.header() + INNER)
    vanishes(ends, over_ip.packet(INNER))

    # the survivor stays with its socket
    for session in (mine, theirs):
        wire.l2tp.del_session(session.tid, session.sid)
        eventually(lambda: wire.a.index(session.ifname) is None)
    delivers(ends, yours, yours.packet(INNER))
    passes_up(ends, "udp4", udp4.header() + INNER)
    vanishes(ends, over_ip.packet(INNER))

    # when all have left, the next one is alone again
    wire.l2tp.del_session(yours.tid, yours.sid)
    eventually(lambda: wire.a.index(yours.ifname) is None)
    passes_up(ends, "udp4", udp4.header() + INNER)
    mine.create(wire)
    delivers(ends, udp4, udp4.packet(INNER))
    for tid in paths:
        wire.l2tp.del_tunnel(tid)


# --- 1.9.3, 5.4: the device's part

def test_frames_longer_than_the_device_takes(ends: Ends, wire: Wire) -> None:
    """5.4.1: MTU + 14 + 4 passes, with or without a tag; one more does not."""
    for name in ("udp4", "ip6"):
        session = ends.session(name, 4, L2Spec.DEFAULT)
        mtu = int.from_bytes(wire.a.link(session.ifname).message.raw(4), "little")
        wire.a.set_mtu(session.ifname, 300)
        inner = frame(pattern(304))
        delivers(ends, session, session.packet(inner), inner=inner)
        tagged = frame(struct.pack("!HH", 7, 0x88b5) + pattern(300), ethertype=0x8100)
        # what drops it in the end is the stack, which finds no VLAN device
        with wire.counting(session.received(tagged), session.device_counts(rx_dropped=1)):
            wire.inject(session.packet(tagged))
            assert wire.delivered() == [(session.ifname, tagged)]
        for inner in (frame(pattern(305)), frame(pattern(1000))):
            vanishes(ends, session.packet(inner),
                     counts=merge(session.received(inner, device=False),
                                  session.device_counts(rx_dropped=1, rx_errors=1)))
        wire.a.set_mtu(session.ifname, mtu)


@pytest.mark.parametrize("tunnel", ["udp4", "ip4"])
def test_device_is_down(ends: Ends, wire: Wire, tunnel: str) -> None:
    session = ends.session(tunnel, 4, L2Spec.DEFAULT)
    wire.a.down(session.ifname)
    vanishes(ends, session.packet(INNER), session.packet(INNER),
             counts=merge(session.received(INNER, INNER, device=False),
                          session.device_counts(rx_dropped=2, rx_errors=2)))
    # a runt is gone before anybody looks at the device
    vanishes(ends, session.packet(INNER[:13]), counts=session.received(INNER[:13], device=False))
    wire.a.up(session.ifname)
    delivers(ends, session, session.packet(INNER))


# --- packets that are not in one piece

@pytest.mark.parametrize("size", [8, 16, 24, 56])
@pytest.mark.parametrize("tunnel", TUNNELS)
def test_fragments(ends: Ends, wire: Wire, tunnel: str, size: int) -> None:
    """The header is spread over several buffers; fragments in order, reversed, and mixed."""
    for session in (ends.session(tunnel, 8, L2Spec.DEFAULT), ends.session(tunnel, 0, L2Spec.NONE)):
        parts = session.path.fragments(session.packet(INNER), size, 0x1001)
        again = session.path.fragments(session.packet(INNER), size, 0x1002)
        with wire.counting(session.received(INNER, INNER)):
            wire.inject(*parts)
            assert wire.delivered() == [(session.ifname, INNER)]
            wire.inject(*again[::-2], *again[-2::-2])
            assert wire.delivered() == [(session.ifname, INNER)]


@pytest.mark.parametrize("tunnel", TUNNELS)
def test_fragments_of_what_is_not_delivered(ends: Ends, wire: Wire, tunnel: str) -> None:
    session = ends.session(tunnel, 8, L2Spec.DEFAULT)
    path = session.path
    bad = replace(session, peer_cookie=session.peer_cookie[:-1] + b"~").packet(INNER)
    vanishes(ends, *path.fragments(bad, 8, 0x2001),
             counts=session.counts(RX_COOKIE_DISCARDS=1, RX_ERRORS=1))
    runt = session.packet(INNER[:13])
    vanishes(ends, *path.fragments(runt, 8, 0x2002), counts=session.received(INNER[:13],
                                                                            device=False))
    cut = session.header()[:-1]
    if path.encap == Encap.IP:
        vanishes(ends, *path.fragments(path.incoming(cut), 8, 0x2003))
        return
    unknown = data_header(path.encap, UNKNOWN) + INNER
    control = session.header(flags=0xc803) + INNER
    with wire.counting(session.tunnel_counts(RX_INVALID=1)):
        for number, message in enumerate((cut, unknown, control, unknown[:13])):
            wire.inject(*path.fragments(path.incoming(message), 8, 0x2100 + number))
        assert wire.delivered() == []
        assert ends.passed_up(tunnel) == [cut, unknown, control, unknown[:13]]


@pytest.mark.parametrize("tunnel", TUNNELS)
def test_paged_buffers(ends: Ends, wire: Wire, tunnel: str) -> None:
    """Nothing of the packet but the Ethernet header is in the linear part of its buffer."""
    inner = frame(pattern(5000))
    for session in (ends.session(tunnel, 8, L2Spec.DEFAULT), ends.session(tunnel, 0, L2Spec.NONE)):
        path = session.path
        wire.a.set_mtu(session.ifname, 6000)
        bad = replace(session, peer_cookie=session.peer_cookie[:-1] + b"~").packet(inner)
        discarded = (session.counts(RX_COOKIE_DISCARDS=1, RX_ERRORS=1)
                     if session.peer_cookie else session.received(b"~" + inner))
        with wire.counting(session.received(inner), discarded):
            wire.inject_paged(session.packet(inner))
            wire.inject_paged(bad)
            got = wire.delivered()
        assert got == [(session.ifname, inner)] + (
            [] if session.peer_cookie else [(session.ifname, b"~" + inner)])
        if path.encap == Encap.UDP:
            message = session.header(flags=0xc803) + inner
            with wire.counting():
                wire.inject_paged(path.incoming(message))
                wire.devices()
                assert ends.passed_up(tunnel) == [message]


@pytest.mark.parametrize("tunnel", TUNNELS)
def test_cloned_buffers(ends: Ends, wire: Wire, tunnel: str) -> None:
    """A capture on the underlying device has clones of all packets: they stay as they are."""
    counts, packets = [], []
    with collecting(wire, counts), wire.copies("eth0") as copies:
        for session in (ends.session(tunnel, 8, L2Spec.DEFAULT),
                        ends.session(tunnel, 0, L2Spec.NONE)):
            part = session.path.fragments(session.packet(INNER), 8, 0x4001)
            sent = [session.packet(INNER), session.packet(INNER[:13]), *part]
            if session.peer_cookie:
                sent.append(replace(session, peer_cookie=b"notright").packet(INNER))
                counts.append(session.counts(RX_COOKIE_DISCARDS=1, RX_ERRORS=1))
            wire.inject(*sent)
            assert wire.delivered() == [(session.ifname, INNER)] * 2
            counts += [session.received(INNER, INNER),
                       session.received(INNER[:13], device=False)]
            packets += sent
        if session.path.encap == Encap.UDP:
            packets.append(session.path.incoming(session.header(flags=0xc803) + INNER))
            wire.inject(packets[-1])
            wire.devices()
            assert ends.passed_up(tunnel) == [session.header(flags=0xc803) + INNER]
    assert [copy[14:] for copy in copies if copy[12:14] != b"\x88\xb5"] == packets


@pytest.mark.parametrize("tunnel", TUNNELS)
def test_trailing_bytes(ends: Ends, wire: Wire, tunnel: str) -> None:
    """What follows the IP packet, or the datagram within it, belongs to nobody."""
    session = ends.session(tunnel, 4, L2Spec.DEFAULT)
    path = session.path
    packet = session.packet(INNER)
    kind = struct.pack("!H", 0x0800 if path.family == 4 else 0x86dd)
    with wire.counting(session.received(INNER)):
        wire.inject_frame(wire.MAC_A + wire.MAC_B + kind + packet + b"padding")
        assert wire.delivered() == [(session.ifname, INNER)]
    if path.encap == Encap.UDP:
        datagram = udp(path.b, path.a, path.dport, path.sport, session.header() + INNER)
        build = ip4 if path.family == 4 else ip6
        delivers(ends, session, build(path.b, path.a, 17, datagram + b"trailer"))
        message = session.header(flags=0xc803) + INNER
        datagram = udp(path.b, path.a, path.dport, path.sport, message)
        wire.inject(build(path.b, path.a, 17, datagram + b"trailer"))
        wire.devices()
        assert ends.passed_up(tunnel) == [message]


# --- 3.6: UDP checksums

@pytest.mark.parametrize("tunnel", OVER_UDP)
def test_wrong_checksum(ends: Ends, wire: Wire, tunnel: str) -> None:
    """Whatever the tunnel's own setting, for all that is delivered or passed up."""
    session = ends.session(tunnel, 4, L2Spec.DEFAULT)
    control = session.header(flags=0xc803) + INNER
    for message in (session.header() + INNER, control):
        good = session.path.incoming(message)
        at = session.path.outer_len - 2
        right = struct.unpack("!H", good[at:at + 2])[0]
        vanishes(ends, *(session.path.incoming(message, check=check)
                         for check in (right ^ 1, right ^ 0x8000, ~right & 0xffff)))


@pytest.mark.parametrize("name,accepted", [
    ("kernel4", True), ("kernel4-checksum", True), ("kernel6", False), ("kernel6-zero-rx", True),
    ("kernel6-zero-tx", False), ("fd4", True), ("fd6", False), ("fd6-zero-rx", True)])
def test_no_checksum(ends: Ends, wire: Wire, name: str, accepted: bool) -> None:
    tid, path = ends.fresh(6 if "6" in name else 4)
    if name.startswith("fd"):
        sock = wire.a.udp((path.a, path.sport), (path.b, path.dport))
        if name.endswith("rx"):
            sock.setsockopt(17, 102, 1)  # UDP_NO_CHECK6_RX
        wire.l2tp.tunnel(tid, tid, fd=sock.fileno())
    else:
        extra = {"kernel4-checksum": (nla.u8(Attr.UDP_CSUM, 1),),
                 "kernel6-zero-rx": (nla.flag(Attr.UDP_ZERO_CSUM6_RX),),
                 "kernel6-zero-tx": (nla.flag(Attr.UDP_ZERO_CSUM6_TX),)}.get(name, ())
        wire.l2tp.tunnel(tid, tid, local=path.a, peer=path.b, sport=path.sport, dport=path.dport,
                         extra=extra)
    session = Session(tid, 0x600000 + tid, path, f"z{tid}").create(wire)
    delivers(ends, session, session.packet(INNER))
    without = path.incoming(session.header() + INNER, check=0)
    wrong = path.incoming(session.header() + INNER, check=0x1234)
    vanishes(ends, wrong)
    if accepted:
        delivers(ends, session, without)
    else:
        vanishes(ends, without)
    wire.l2tp.del_tunnel(tid)


# --- control messages over IP

def control(conn_id: int, *, flags: int = 0xc803, body: bytes = b"0123456789") -> bytes:
    """From the zero session id on."""
    return struct.pack("!IHHIHH", 0, flags, 12 + len(body), conn_id, 1, 2) + body


@pytest.mark.parametrize("family", [4, 6])
def test_control_over_ip(ends: Ends, wire: Wire, family: int) -> None:
    """1.8 rows 2-4 and 6, 1.8.1: what a socket gets, and what nobody gets."""
    path = TUNNELS[f"ip{family}"][1]
    with wire.a:
        sock = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6,
                             socket.SOCK_DGRAM, 115)
    Sock.around(sock).bind(path.a, 777)
    good = [control(777), control(777, body=b""), control(777, flags=0xffff),
            control(777, flags=0xc000), control(777, body=pattern(1000))]
    bad = [control(777, body=b"")[:length] for length in range(16)]
    bad += [control(777, flags=flags) for flags in (0x0803, 0x8803, 0x4803, 0x3fff, 0)]
    bad += [control(conn_id) for conn_id in (0, 776, 777 << 8, 0xffffffff, 0x03090000)]
    with wire.counting():
        wire.inject(*(path.incoming(message) for message in [*bad, *good, *bad]))
        assert wire.delivered() == [] and wire.packets() == []
        assert queued(sock) == [message[4:] for message in good]
        parts = path.fragments(path.incoming(good[4]), 8, 0x3001)
        wire.inject(*parts)
        wire.devices()
        assert queued(sock) == [good[4][4:]]
    sock.close()
    vanishes(ends, path.incoming(control(777)))


@pytest.mark.parametrize("tunnel", OVER_IP)
def test_control_for_a_socket_of_the_kernel(ends: Ends, tunnel: str) -> None:
    """6.4.3: swallowed; data still passes afterwards."""
    tid, path = TUNNELS[tunnel]
    vanishes(ends, *[path.incoming(control(tid))] * 3)
    session = ends.session(tunnel, 4, L2Spec.DEFAULT)
    delivers(ends, session, session.packet(INNER))


# --- v2 tunnels

@pytest.mark.parametrize("family", [4, 6])
def test_v2_tunnel_without_sessions(ends: Ends, wire: Wire, family: int) -> None:
    """1.7 rows 1-4: all that an xl2tpd gets from its socket, and v3 data as everywhere."""
    tid, path = ends.fresh(family)
    sock = wire.a.udp((path.a, path.sport), (path.b, path.dport))
    wire.l2tp.tunnel(tid, tid, version=2, fd=sock.fileno())
    sent = [b"", b"\0", struct.pack("!HHHHHH", 0xc802, 12, tid, 0, 0, 0),
            struct.pack("!HHHHHH", 0xc802, 12, 0, 0, 0, 0),
            struct.pack("!HHHHHH", 0xc802, 40, tid, 1, 3, 2) + pattern(28)]
    for flags in (0x0002, 0x0802, 0x0102, 0x4002, 0x0202, 0x7ff2):
        length = struct.pack("!H", 99) if flags & 0x4000 else b""
        for ids in ((tid, 1), (tid, 0), (0, 0), (0xffff, 0xffff)):
            sent.append(struct.pack("!H", flags) + length + struct.pack("!HH", *ids)
                        + b"\xff\x03\0\x21" + pattern(30))
    sent += [data_header(Encap.UDP, UNKNOWN) + INNER, frame(pattern(1400))]
    vanishes(ends, *(path.incoming(message) for message in sent))
    assert queued(sock) == sent
    session = ends.session(f"udp{family}", 4, L2Spec.DEFAULT).over(path)
    delivers(ends, session, session.packet(INNER))
    wire.l2tp.del_tunnel(tid)


@pytest.mark.parametrize("payload", [b"", b"\x2d", b"\xc0\x21\5\7\0\4", b"\xc0\x21\5\7\0\4\0"])
@pytest.mark.parametrize("flags", [0x0002, 0x4002])
def test_short_v2_message(ends: Ends, wire: Wire, payload: bytes, flags: int) -> None:
    """B10, 1.7.1: a PPP frame of a few bytes, as a peer sends that compresses headers."""
    tid, path = ends.fresh(4)
    sock = wire.a.udp((path.a, path.sport), (path.b, path.dport))
    wire.l2tp.tunnel(tid, tid, version=2, fd=sock.fileno())
    made = wire.l2tp.try_session(tid, 1, pw_type=PwType.PPP).errno == 0
    length = struct.pack("!H", 8 + len(payload)) if flags & 0x4000 else b""
    message = struct.pack("!H", flags) + length + struct.pack("!HH", tid, 1) + payload
    wire.inject(path.incoming(message))
    assert wire.delivered() == []
    # nobody is there to take a frame of the session, but it is the session's
    taken = made and (len(message) >= 14 or expect("SHORT-V2", c=False, rust=True))
    assert queued(sock) == ([] if taken else [message])
    wire.l2tp.del_tunnel(tid)


# --- unmanaged tunnels

def test_kernel_socket_collects_nothing(ends: Ends, wire: Wire) -> None:
    """B14, UNREAD: nobody reads a kernel socket, so what would be passed up to it must not stay."""
    tid, path = ends.fresh(4)
    wire.l2tp.tunnel(tid, tid, local=path.a, peer=path.b, sport=path.sport, dport=path.dport)
    session = Session(tid, 0x8000, path, "kernel").create(wire)
    unknown = path.incoming(data_header(Encap.UDP, UNKNOWN) + INNER)
    invalid = path.incoming(session.header(flags=4) + INNER)
    from_peer = path.incoming(session.header(flags=0xc803) + INNER)
    with wire.counting(tunnel_counts(tid, RX_INVALID=1)):
        wire.inject(unknown, invalid, from_peer, path.incoming(b"short"))
        assert wire.delivered() == [] and wire.packets() == []
    (line,) = [line for line in wire.a.read("udp").splitlines() if f":{path.sport:04X} " in line]
    waiting = int(line.split()[4].split(":")[1], 16)
    assert (waiting > 0) == expect("UNREAD", c=True, rust=False)
    delivers(ends, session, session.packet(INNER))
    wire.l2tp.del_tunnel(tid)


# --- 3.7: ICMP errors on managed sockets

def icmp4(kind: int, code: int, info: int, original: bytes) -> bytes:
    body = struct.pack("!BBHI", kind, code, 0, info) + original
    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    return ip4(Wire.B4, Wire.A4, 1, body)


def icmp6(kind: int, code: int, info: int, original: bytes) -> bytes:
    body = struct.pack("!BBHI", kind, code, 0, info) + original
    pseudo = packed(Wire.B6) + packed(Wire.A6) + struct.pack("!II", len(body), 58)
    body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    return ip6(Wire.B6, Wire.A6, 58, body)


#: Kind, code, info, and what the socket reports: hard errors, then soft ones.
ICMP4 = [(3, 3, 0, errno.ECONNREFUSED), (3, 2, 0, errno.ENOPROTOOPT), (12, 0, 0, errno.EPROTO),
         (3, 0, 0, errno.ENETUNREACH), (3, 1, 0, errno.EHOSTUNREACH), (3, 5, 0, errno.EOPNOTSUPP),
         (3, 13, 0, errno.EHOSTUNREACH), (11, 0, 0, errno.EHOSTUNREACH),
         (3, 4, 1280, errno.EMSGSIZE)]
ICMP6 = [(1, 4, 0, errno.ECONNREFUSED), (1, 1, 0, errno.EACCES), (4, 0, 0, errno.EPROTO),
         (1, 0, 0, errno.ENETUNREACH), (1, 3, 0, errno.EHOSTUNREACH), (3, 0, 0, errno.EHOSTUNREACH),
         (2, 0, 1280, errno.EMSGSIZE)]


@pytest.mark.parametrize("recverr", [0, 1], ids=["plain", "recverr"])
@pytest.mark.parametrize("family", [4, 6])
def test_icmp_errors(ends: Ends, wire: Wire, family: int, recverr: int) -> None:
    """Hard or soft, caused by data or by control, with the error queue if it is wanted."""
    tid, path = ends.fresh(family)
    sock = wire.a.udp((path.a, path.sport), (path.b, path.dport))
    level, option = (0, 11) if family == 4 else (41, 25)
    sock.setsockopt(level, option, recverr)
    sock.settimeout(0)
    wire.l2tp.tunnel(tid, tid, fd=sock.fileno())
    session = Session(tid, tid << 16, path, f"i{tid}").create(wire)
    icmp, cases = (icmp4, ICMP4) if family == 4 else (icmp6, ICMP6)
    for kind, code, info, error in cases:
        for message in (session.sent(INNER), struct.pack("!HHIHH", 0xc803, 12, 1, 0, 0)):
            with wire.counting():
                wire.inject(icmp(kind, code, info, path.outgoing(message)))
                assert wire.delivered() == []
            if recverr:
                check_error_queue(sock, path, message, error, kind, code, info)
            else:
                with pytest.raises(OSError) as caught:
                    sock.recv(2000)
                assert caught.value.errno == error, (kind, code)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    # of another connection, or none of UDP's business
    stranger = Path(family, Encap.UDP, path.sport + 500, path.dport)
    kind, code, info, _ = cases[0]
    wire.inject(icmp(kind, code, info, stranger.outgoing(session.sent(INNER))))
    if family == 4:
        for kind, code in ((4, 0), (5, 1)):  # source quench, redirect
            wire.inject(icmp(kind, code, 0, path.outgoing(session.sent(INNER))))
    assert wire.delivered() == []
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    # and the tunnel goes on as before
    delivers(ends, session, session.packet(INNER))
    with wire.counting(session.transmitted(INNER)):
        wire.transmit(session.ifname, INNER)
        assert len(wire.packets()) == 1
    wire.l2tp.del_tunnel(tid)


def check_error_queue(sock: socket.socket, path: Path, message: bytes, error: int, kind: int,
                      code: int, info: int) -> None:
    """3.7.3: the payload that the error is about, and the extended error."""
    data, ancillary, flags, _ = sock.recvmsg(2000, 500, socket.MSG_ERRQUEUE)
    assert flags & socket.MSG_ERRQUEUE
    assert data == message
    level, option, origin = (0, 11, 2) if path.family == 4 else (41, 25, 3)
    ((got_level, got_option, extended),) = ancillary
    assert (got_level, got_option) == (level, option)
    number, got_origin, got_kind, got_code, _, got_info, _ = struct.unpack("=IBBBBII",
                                                                          extended[:16])
    assert (number, got_origin, got_kind, got_code, got_info) == (error, origin, kind, code, info)
    offender = (extended[20:24] if path.family == 4 else extended[24:40])
    assert offender == packed(path.b)
