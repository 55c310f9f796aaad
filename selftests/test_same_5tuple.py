# SPDX-License-Identifier: GPL-2.0
"""Many tunnels whose sockets have all addresses and ports in common.

UDP gives all that comes to one of the sockets, and the ids in it say whose it is: the first
limitation in the kernel's Documentation/networking/l2tp.rst.
"""

import socket
import struct
from collections.abc import Iterator
from dataclasses import replace

import pytest

from lib import attrs as nla
from lib import uapi
from lib.differences import expect
from lib.uapi import Attr, Cmd, Encap, L2Spec, PwType
from lib.wait import eventually
from lib.wire import Path, Session, Wire, frame, pattern, queued

COUNT = 20
INNER = frame(pattern(46))
FAMILIES = pytest.mark.parametrize("family", [4, 6])
VERSIONS = pytest.mark.parametrize("version", [2, 3])
SO_REUSE = (socket.SO_REUSEADDR, socket.SO_REUSEPORT)


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


class Twins:
    """COUNT tunnels on one 5-tuple; the sockets of one half are connected later."""

    def __init__(self, wire: Wire, family: int, version: int, reuse: int) -> None:
        self.wire = wire
        self.path = Path(family, Encap.UDP, 1701, 1702)
        self.tids = list(range(100, 100 + COUNT))
        self.sockets: dict[int, socket.socket] = {}
        for tid in self.tids:
            sock = wire.a.socket(socket.AF_INET if family == 4 else socket.AF_INET6)
            sock.setsockopt(socket.SOL_SOCKET, reuse, 1)
            sock.bind((self.path.a, self.path.sport))
            if tid % 2:
                sock.connect((self.path.b, self.path.dport))
            self.sockets[tid] = sock
            wire.l2tp.tunnel(tid, tid + 500, version, fd=sock.fileno())
        for tid in self.tids:
            self.sockets[tid].connect((self.path.b, self.path.dport))
        self.ends = {(message[Attr.UDP_SPORT], message[Attr.UDP_DPORT])
                     for message in map(wire.l2tp.get_tunnel, self.tids)}
        assert self.ends == {(1701, 1702)}

    def session(self, tid: int, sid: int, **kwargs) -> Session:
        return Session(tid, sid, self.path, f"w{tid}", L2Spec.DEFAULT, b"snd!", b"rcv!",
                       **kwargs).create(self.wire)

    def close(self) -> None:
        for sock in self.sockets.values():
            sock.close()
        eventually(lambda: not self.wire.l2tp.tunnels())
        eventually(lambda: self.wire.a.links() == ["eth0", "lo"])
        self.wire.packets()


@pytest.fixture
def twins(wire: Wire, request: pytest.FixtureRequest) -> Iterator[Twins]:
    made = Twins(wire, *request.param)
    yield made
    made.close()


def each(*versions: int) -> pytest.MarkDecorator:
    cases = [(family, version, reuse) for version in versions for family in (4, 6)
             for reuse in SO_REUSE]
    return pytest.mark.parametrize(
        "twins", cases, indirect=True,
        ids=[f"v{version}-ipv{family}-{'port' if reuse == socket.SO_REUSEPORT else 'addr'}"
             for family, version, reuse in cases])


def carry(twins: Twins, sessions: list[Session]) -> None:
    """Every session, both ways."""
    wire = twins.wire
    inners = {session.sid: frame(pattern(60, number)) for number, session in enumerate(sessions)}
    with wire.counting(*(session.received(inners[session.sid]) for session in sessions),
                       *(session.transmitted(inners[session.sid]) for session in sessions)):
        for session in sessions:
            wire.inject(session.packet(inners[session.sid]))
        assert wire.delivered() == [(session.ifname, inners[session.sid]) for session in sessions]
        for session in sessions:
            wire.transmit(session.ifname, inners[session.sid])
        packets = wire.packets()
    for packet, session in zip(packets, sessions, strict=True):
        ident = struct.unpack("!H", packet[4:6])[0] if session.path.family == 4 else 0
        assert packet == session.path.outgoing(session.sent(inners[session.sid]), ident)
    assert not any(queued(sock) for sock in twins.sockets.values() if sock.fileno() >= 0)


def chosen(twins: Twins, *messages: bytes) -> int:
    """The tunnel whose socket gets these datagrams, all of them, as they are."""
    twins.wire.inject(*(twins.path.incoming(message) for message in messages))
    assert twins.wire.delivered() == []
    got = {tid: queued(sock) for tid, sock in twins.sockets.items() if sock.fileno() >= 0}
    (tid,) = (tid for tid, queue in got.items() if queue)
    assert got[tid] == list(messages)
    return tid


@each(3)
def test_version_3(twins: Twins) -> None:
    """All carry data; also when some of the tunnels have gone, the socket that UDP picks among
    them."""
    sessions = [twins.session(tid, tid << 8 | 1) for tid in twins.tids]
    carry(twins, sessions)
    control = struct.pack("!HHIHH", 0xc803, 12, 1, 0, 0)
    for _ in range(3):
        tid = chosen(twins, control)
        twins.sockets[tid].close()
        eventually(lambda: not twins.wire.l2tp.has_tunnel(tid))
        eventually(lambda: twins.wire.a.index(f"w{tid}") is None)
        sessions = [session for session in sessions if session.tid != tid]
        carry(twins, sessions)
    # a session's end is nobody else's
    twins.wire.l2tp.del_session(sessions[0].tid, sessions[0].sid)
    eventually(lambda: twins.wire.a.index(sessions[0].ifname) is None)
    carry(twins, sessions[1:])


@each(2, 3)
def test_control(twins: Twins) -> None:
    """Control, and data of nobody, goes to the socket that would get it without any tunnels."""
    control = [struct.pack("!HHHHHH", 0xc802, 12, tid, 0, 0, 0) for tid in twins.tids]
    control += [struct.pack("!HHIHH", 0xc803, 12, tid, 0, 0) for tid in twins.tids]
    unknown = [struct.pack("!HHH", 2, tid, 99) + INNER for tid in twins.tids]
    unknown.append(struct.pack("!HHI", 3, 0, 99) + INNER)
    tid = chosen(twins, *control, *unknown)
    for other in twins.tids:
        twins.wire.l2tp.del_tunnel(other)
    eventually(lambda: twins.wire.l2tp.tunnels() == [])
    eventually(lambda: all(sock.getsockopt(uapi.SOL_UDP, uapi.UDP_ENCAP) == 0
                           for sock in twins.sockets.values()))
    assert chosen(twins, *control, *unknown) == tid


@pytest.mark.parametrize("twins", [(4, 3, socket.SO_REUSEADDR), (6, 3, socket.SO_REUSEPORT)],
                         indirect=True, ids=["ipv4", "ipv6"])
def test_ids_shared_with_others(twins: Twins) -> None:
    """TWIN-SOCKETS: an id of each tunnel is also that of a session on another port."""
    wire = twins.wire
    family = twins.path.family
    sessions = [twins.session(tid, tid << 8 | 1) for tid in twins.tids]
    away = Path(family, Encap.UDP, 2701, 2702)
    wire.l2tp.tunnel(900, 901, local=away.a, peer=away.b, sport=away.sport, dport=away.dport)
    others = [Session(900, session.sid, away, f"o{session.tid}", L2Spec.DEFAULT, b"snd!",
                      b"rcv!").create(wire) for session in sessions]
    for other in others:
        with wire.counting(other.received(INNER)):
            wire.inject(other.packet(INNER))
            assert wire.delivered() == [(other.ifname, INNER)]
    if expect("TWIN-SOCKETS", c=False, rust=True):
        carry(twins, sessions)
        # reconnected, it has no part in what comes to the old address
        moved = sessions[3]
        twins.sockets[moved.tid].connect((twins.path.b, 4444))
        unknown = replace(moved)
        assert chosen(twins, unknown.header() + INNER) != moved.tid
        there = moved.over(Path(family, Encap.UDP, twins.path.sport, 4444))
        with wire.counting(there.received(INNER)):
            wire.inject(there.packet(INNER))
            assert wire.delivered() == [(moved.ifname, INNER)]
        twins.sockets[moved.tid].connect((twins.path.b, twins.path.dport))
        carry(twins, sessions)
    else:
        # one of them has the socket that UDP picks
        for session in sessions:
            wire.inject(session.packet(INNER))
        assert len(wire.delivered()) == 1
        for sock in twins.sockets.values():
            queued(sock)
    for other in others[:COUNT // 2]:
        wire.l2tp.del_session(900, other.sid)
    wire.l2tp.del_tunnel(900)
    eventually(lambda: not any(name.startswith("o") for name in wire.a.links()))
    if expect("TWIN-SOCKETS", c=False, rust=True):
        carry(twins, sessions)


@pytest.mark.parametrize("twins", [(4, 3, socket.SO_REUSEADDR)], indirect=True, ids=["ipv4"])
def test_ids_shared_with_each_other(twins: Twins) -> None:
    """Nothing tells them apart: the tunnel of the socket that UDP picks has the session, and when
    it goes, the next one does."""
    wire = twins.wire
    sessions = {tid: twins.session(tid, 7) for tid in twins.tids}
    for _ in range(3):
        tid = chosen(twins, struct.pack("!HHIHH", 0xc803, 12, 1, 0, 0))
        with wire.counting(sessions[tid].received(INNER)):
            wire.inject(sessions[tid].packet(INNER))
            assert wire.delivered() == [(f"w{tid}", INNER)]
        twins.sockets[tid].close()
        eventually(lambda: wire.a.index(f"w{tid}") is None)


@pytest.mark.parametrize("twins", [(4, 3, socket.SO_REUSEADDR), (6, 3, socket.SO_REUSEPORT)],
                         indirect=True, ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("end", ["deleted", "reconnected", "closed"])
def test_sharers_without_the_socket(twins: Twins, end: str) -> None:
    """TWIN-SOCKETS: the tunnel whose socket UDP picks has no part in an id that three others share.
    One of these gets the data; when it goes, or its socket does, the next one does, to the last."""
    wire = twins.wire
    picked = chosen(twins, struct.pack("!HHIHH", 0xc803, 12, 1, 0, 0))
    sharers = [twins.session(tid, 7) for tid in [tid for tid in twins.tids if tid != picked][:3]]
    data = sharers[0].packet(INNER)
    while sharers and expect("TWIN-SOCKETS", c=False, rust=True):
        wire.inject(data)
        ((ifname, inner),) = wire.delivered()
        assert inner == INNER
        (gets,) = [session for session in sharers if session.ifname == ifname]
        sharers.remove(gets)
        if end == "deleted":
            wire.l2tp.del_session(gets.tid, gets.sid)
        elif end == "reconnected":
            twins.sockets[gets.tid].connect((twins.path.b, 4444))
        else:
            twins.sockets[gets.tid].close()
            eventually(lambda tid=gets.tid: not wire.l2tp.has_tunnel(tid))
    chosen(twins, data[twins.path.outer_len:])


@each(2)
def test_version_2(twins: Twins) -> None:
    """The tunnel id of each message says whose it is; PPP frames without a unit are for the
    session's socket."""
    wire = twins.wire
    ends: dict[int, socket.socket] = {}
    for tid in twins.tids:
        wire.l2tp.session(tid, 9, 10, PwType.PPP)
        with wire.a:
            ends[tid] = socket.socket(24, socket.SOCK_DGRAM, 1)  # PPPoX, PX_PROTO_OL2TP
        connect_pppol2tp(ends[tid], tid, 9)
    payloads = {tid: struct.pack("!H", 0xc021) + pattern(30, tid) for tid in twins.tids}
    for tid in twins.tids:
        wire.inject(twins.path.incoming(struct.pack("!HHH", 2, tid, 9) + b"\xff\x03"
                                        + payloads[tid]))
    wire.delivered()
    assert {tid: queued(sock) for tid, sock in ends.items()} == {
        tid: [payload] for tid, payload in payloads.items()}
    assert not any(queued(sock) for sock in twins.sockets.values())
    for tid in twins.tids:
        ends[tid].send(payloads[tid])
    packets = wire.packets()
    for packet, tid in zip(packets, twins.tids, strict=True):
        ident = struct.unpack("!H", packet[4:6])[0] if twins.path.family == 4 else 0
        message = struct.pack("!HHH", 2, tid + 500, 10) + b"\xff\x03" + payloads[tid]
        assert packet == twins.path.outgoing(message, ident)
    for sock in ends.values():
        sock.close()
    for tid in twins.tids:
        wire.l2tp.ask(Cmd.TUNNEL_DELETE, nla.u32(Attr.CONN_ID, tid))


def connect_pppol2tp(sock: socket.socket, tid: int, sid: int) -> None:
    """connect() with a sockaddr_pppol2tp, which Python does not know."""
    import ctypes
    address = struct.pack("=HIii16sHHHH", 24, 1, 0, -1, bytes(16), tid, sid, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.connect(sock.fileno(), address, len(address)) == 0, ctypes.get_errno()
