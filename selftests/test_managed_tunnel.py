# SPDX-License-Identifier: GPL-2.0
"""abi 2.5.5-2.5.9, 3.1, 3.3, 3.7, 3.8: tunnels on sockets of daemons, whatever those do to them."""

import errno
import hashlib
import itertools
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from lib import attrs as nla
from lib import managed, memory, system, uapi
from lib.differences import expect
from lib.genl import L2tp
from lib.managed import KINDS, OVER_IP, OVER_UDP, Kind
from lib.netns import Hosts, NetNS, move, settle, veth
from lib.pair import tcp_transfer
from lib.uapi import Attr, Cmd, Encap, L2Spec, Stat
from lib.wait import eventually
from lib.wire import (Path, Session, Wire, checksum, data_header, frame, ip4, ip6, packed, pattern,
                      queued, tunnel_counts)

ALL = tuple(KINDS)
INNER = frame(pattern(46))
UNKNOWN = 0x7fffffff


class Tunnel:
    """A tunnel on a socket of one kind, perhaps with a session, and its place on the wire."""

    def __init__(self, wire: Wire, tid: int, kind: Kind, *, version: int = 3,
                 connected: bool = True, session: bool = True) -> None:
        self.wire, self.tid, self.kind = wire, tid, kind
        self.path = Path(kind.family, kind.encap, *(
            (5000 + tid, 6000 + tid) if kind.encap == Encap.UDP else (0, 0)))
        self.sock = kind.open(wire.a)
        kind.bind(self.sock, self.path.a, self.path.sport or tid)
        if connected:
            self.connect()
        wire.l2tp.tunnel(tid, tid + 100, version, kind.encap, fd=self.sock.fileno())
        self.session = Session(tid, tid << 16, self.path, f"m{tid}", L2Spec.DEFAULT, b"outgoing",
                               b"incoming")
        if session:
            self.session.create(wire)

    def connect(self) -> None:
        self.kind.connect(self.sock, self.path.b, self.path.dport or self.tid + 100)

    def sends(self, path: Path | None = None) -> None:
        """A frame of the device leaves as it must, and is counted."""
        session = self.session.over(path or self.path)
        with self.wire.counting(session.transmitted(INNER)):
            self.wire.transmit(session.ifname, INNER)
            (packet,) = self.wire.packets()
        ident = struct.unpack("!H", packet[4:6])[0] if session.path.family == 4 else 0
        assert packet == session.path.outgoing(session.sent(INNER), ident)

    def drops(self) -> None:
        """A frame of the device goes nowhere, and is counted as that."""
        session = self.session
        with self.wire.counting(session.counts(TX_ERRORS=1), session.tunnel_counts(TX_ERRORS=1),
                                session.device_counts(tx_dropped=1)):
            self.wire.transmit(session.ifname, INNER)
            assert self.wire.packets() == []

    def receives(self, path: Path | None = None) -> None:
        """A data message reaches the device, and is counted."""
        session = self.session.over(path or self.path)
        with self.wire.counting(session.received(INNER)):
            self.wire.inject(session.packet(INNER))
            assert self.wire.delivered() == [(session.ifname, INNER)]
        assert queued(self.sock) == []

    def works(self) -> None:
        self.sends()
        self.receives()

    def passes_up(self, *messages: bytes) -> None:
        """Each datagram arrives at the socket as it is, and nothing is counted."""
        with self.wire.counting():
            self.wire.inject(*(self.path.incoming(message) for message in messages))
            assert self.wire.delivered() == []
        assert queued(self.sock) == list(messages)

    def control(self, body: bytes) -> bytes:
        """A control message to this end, without the zero session id of IP."""
        return struct.pack("!HHIHH", 0xc803, 12 + len(body), self.tid, 1, 2) + body

    def close(self) -> None:
        self.sock.close()
        eventually(lambda: not self.wire.l2tp.has_tunnel(self.tid))
        eventually(lambda: self.wire.a.index(self.session.ifname) is None)


class Ends:
    def __init__(self) -> None:
        self.wire = Wire()
        self._ids = itertools.count(1)
        self.made: list[Tunnel] = []

    def tunnel(self, kind: str, **kwargs) -> Tunnel:
        self.made.append(Tunnel(self.wire, next(self._ids), KINDS[kind], **kwargs))
        return self.made[-1]


@pytest.fixture(scope="module")
def _ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.wire.close()


@pytest.fixture
def ends(_ends: Ends) -> Iterator[Ends]:
    """What a test has made is closed after it."""
    _ends.wire.packets()
    yield _ends
    while _ends.made:
        tunnel = _ends.made.pop()
        if tunnel.sock.fileno() >= 0:
            tunnel.wire.l2tp.ask(Cmd.TUNNEL_DELETE, nla.u32(Attr.CONN_ID, tunnel.tid))
            tunnel.close()
    assert _ends.wire.delivered() == []


# --- every kind of socket

@pytest.mark.parametrize("kind", ALL)
def test_data_and_control(ends: Ends, kind: str) -> None:
    """Data both ways, control both ways, byte by byte; then an ordinary socket again."""
    tunnel = ends.tunnel(kind)
    path = tunnel.path
    message = ends.wire.l2tp.get_tunnel(tunnel.tid)
    six = tunnel.kind.af == socket.AF_INET6
    source, target = ((Attr.IP6_SADDR, Attr.IP6_DADDR) if six else (Attr.IP_SADDR, Attr.IP_DADDR))
    assert message[source] == tunnel.kind.address(path.a)
    assert message[target] == tunnel.kind.address(path.b)
    if path.encap == Encap.UDP:
        assert (message[Attr.UDP_SPORT], message[Attr.UDP_DPORT]) == (path.sport, path.dport)
        assert managed.udp_encap(tunnel.sock) == uapi.UDP_ENCAP_L2TPINUDP
    tunnel.works()

    bodies = [b"", pattern(1), pattern(28), pattern(1400)]
    incoming = [tunnel.control(body) for body in bodies]
    prefix = bytes(4) if path.encap == Encap.IP else b""
    with ends.wire.counting():
        ends.wire.inject(*(path.incoming(prefix + message) for message in incoming))
        assert ends.wire.delivered() == []
    # a mapped L2TP/IP socket is not found by what comes over IPv4
    assert queued(tunnel.sock) == ([] if kind == "ip-mapped" else incoming)
    if kind != "ip-mapped":
        with ends.wire.counting():
            for message in incoming:
                tunnel.sock.send(message)
            packets = ends.wire.packets()
        assert len(packets) == len(incoming)
        for packet, message in zip(packets, incoming):
            if path.family == 4:  # an application's packets have DF
                packet = packet[:6] + bytes(2) + packet[8:10] + bytes(2) + packet[12:]
                sent = path.outgoing(prefix + message, struct.unpack("!H", packet[4:6])[0])
                sent = sent[:10] + bytes(2) + sent[12:]
            else:
                sent = path.outgoing(prefix + message)
            assert packet == sent
    tunnel.works()

    ends.wire.l2tp.del_tunnel(tunnel.tid)
    eventually(lambda: ends.wire.a.index(tunnel.session.ifname) is None)
    if path.encap == Encap.UDP:
        eventually(lambda: managed.udp_encap(tunnel.sock) == 0)
        tunnel.passes_up(*incoming, tunnel.session.header() + INNER)


@pytest.mark.parametrize("kind", ALL)
def test_version_2(ends: Ends, kind: str) -> None:
    """2.5.2: on every kind of socket; without a session, the socket gets all that UDP brings."""
    if KINDS[kind].encap == Encap.IP and expect("V2-IP", c=False, rust=True):
        with KINDS[kind].open(ends.wire.a) as sock:
            assert ends.wire.l2tp.try_tunnel(
                1, version=2, encap=Encap.IP, fd=sock.fileno()).errno == errno.EINVAL
        return
    tunnel = ends.tunnel(kind, version=2, session=False)
    message = ends.wire.l2tp.get_tunnel(tunnel.tid)
    assert (message[Attr.PROTO_VERSION], message[Attr.ENCAP_TYPE]) == (2, tunnel.kind.encap)
    if tunnel.path.encap == Encap.IP:
        return
    control = [struct.pack("!HHHHHH", 0xc802, 12 + length, tunnel.tid, 0, 1, 2) + pattern(length)
               for length in (0, 1, 28, 1400)]
    data = [struct.pack("!HHH", flags, tunnel.tid, 1) + pattern(40)
            for flags in (0x0002, 0x0802, 0x0202, 0x0102)]
    # versions that there are not, and v3 data of nobody
    other = [struct.pack("!HHI", version, 0, UNKNOWN) + pattern(40)
             for version in range(16) if version != 2]
    tunnel.passes_up(*control, *data, *other, b"", b"short")


@pytest.mark.parametrize("kind", OVER_UDP)
def test_data_of_nobody(ends: Ends, kind: str) -> None:
    """1.7 rows 1, 3, 4 and 6 on each kind of UDP socket."""
    tunnel = ends.tunnel(kind)
    data = [data_header(Encap.UDP, sid, flags=version) + INNER
            for sid in (0, UNKNOWN) for version in range(16) if version != 2]
    v2 = struct.pack("!HHH", 2, tunnel.tid, 1) + INNER
    tunnel.passes_up(*data, v2, b"", pattern(13))
    wrong = [tunnel.session.header(flags=version) + INNER for version in (0, 1, 4, 15)]
    with ends.wire.counting(tunnel_counts(tunnel.tid, RX_INVALID=len(wrong))):
        ends.wire.inject(*(tunnel.path.incoming(message) for message in wrong))
        assert ends.wire.delivered() == []
    assert queued(tunnel.sock) == wrong


# --- what is refused

@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("kind", OVER_IP)
def test_ip_socket_for_udp(ns: NetNS, kind: str, version: int) -> None:
    sock = KINDS[kind].open(ns)
    reply = ns.l2tp.try_tunnel(version=version, encap=Encap.UDP, fd=sock.fileno())
    assert reply.errno == errno.EPROTONOSUPPORT
    assert ns.l2tp.try_tunnel(encap=Encap.IP, fd=sock.fileno()).errno == 0
    sock.close()


@pytest.mark.parametrize("kind", OVER_UDP)
def test_udp_socket_for_ip(ns: NetNS, kind: str) -> None:
    sock = KINDS[kind].open(ns)
    reply = ns.l2tp.try_tunnel(encap=Encap.IP, fd=sock.fileno())
    assert reply.errno == errno.EPROTONOSUPPORT
    assert managed.udp_encap(sock) == 0
    assert ns.l2tp.try_tunnel(encap=Encap.UDP, fd=sock.fileno()).errno == 0
    sock.close()


@pytest.mark.parametrize("kind", ALL)
def test_one_tunnel_for_each_socket(ns: NetNS, kind: str) -> None:
    """EBUSY, by whatever descriptor, and only as long as there is one."""
    encap = KINDS[kind].encap
    sock = KINDS[kind].open(ns)
    copy = sock.dup()
    ns.l2tp.tunnel(1, encap=encap, fd=sock.fileno())
    for version in (2, 3):
        want = errno.EBUSY
        if (version, encap) == (2, Encap.IP):
            want = expect("V2-IP", c=errno.EBUSY, rust=errno.EINVAL)
        assert ns.l2tp.try_tunnel(2, version=version, encap=encap,
                                  fd=copy.fileno()).errno == want
    ns.l2tp.del_tunnel(1)
    eventually(lambda: can_register(ns.l2tp, 2, encap, copy))
    assert ns.l2tp.tunnels() == [2]
    sock.close()
    copy.close()


def can_register(l2tp: L2tp, tid: int, encap: int, sock: socket.socket) -> bool:
    """C lets go of the socket some time after the answer."""
    reply = l2tp.try_tunnel(tid, encap=encap, fd=sock.fileno())
    assert reply.errno in expect("SYNC-DELETE", c=(0, errno.EBUSY, errno.EEXIST), rust=(0,)), reply
    return reply.errno == 0


@pytest.mark.parametrize("kind", OVER_UDP)
def test_socket_with_user_data(ns: NetNS, kind: str) -> None:
    """2.5 #9: something else in the kernel has its data on the socket."""
    sock = KINDS[kind].open(ns)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("", 5000))
    array = managed.ReuseportArray()
    array.put(sock)
    assert ns.l2tp.try_tunnel(fd=sock.fileno()).errno == errno.EBUSY
    assert managed.udp_encap(sock) == 0
    array.remove()
    assert ns.l2tp.try_tunnel(fd=sock.fileno()).errno == 0
    array.close()
    sock.close()


def test_corked_socket(ns: NetNS) -> None:
    """The owner is in the middle of a datagram of its own, which is still sent."""
    sock, far = ns.udp(("127.0.0.1", 5000), ("127.0.0.2", 5001)), ns.udp(("127.0.0.2", 5001))
    sock.send(b"one ", socket.MSG_MORE)
    ns.l2tp.tunnel(fd=sock.fileno())
    ns.l2tp.session(ifname="dev")
    sock.send(b"datagram")
    assert far.recv(100) == b"one datagram"


def test_unconnected_kernel_socket(ends: Ends) -> None:
    """UNCONNECTED: a tunnel without a peer's port, which has nowhere to send to."""
    wire = ends.wire
    wire.l2tp.tunnel(900, 901, local=Wire.A4, peer=Wire.B4, sport=5900, dport=0)
    path = Path(4, Encap.UDP, 5900, 0)
    session = Session(900, 900 << 16, path, "m900").create(wire)
    before = wire.counters()
    wire.transmit("m900", INNER)
    assert wire.packets() == []
    changes = wire.changes(before)
    assert (f"session 900/{900 << 16} TX_ERRORS" in changes) == expect("UNCONNECTED", c=False,
                                                                       rust=True)
    # whoever sends to it is heard
    path = Path(4, Encap.UDP, 5900, 6900)
    session = session.over(path)
    with wire.counting(session.received(INNER)):
        wire.inject(session.packet(INNER))
        assert wire.delivered() == [("m900", INNER)]
    wire.l2tp.del_tunnel(900)
    eventually(lambda: wire.a.index("m900") is None)


# --- connected, reconnected, disconnected, shut down

@pytest.mark.parametrize("kind", ALL)
def test_connected_later(ends: Ends, kind: str) -> None:
    """1.11.5; and again after each time that it was disconnected."""
    tunnel = ends.tunnel(kind, connected=False)
    tunnel.receives()
    for _ in range(3):
        tunnel.drops()
        tunnel.connect()
        tunnel.works()
        if tunnel.path.encap == Encap.IP:
            # disconnecting resets the address, too (6.3.8): it is of no use any more
            managed.disconnect(tunnel.sock)
            tunnel.drops()
            tunnel.receives()
            break
        managed.disconnect(tunnel.sock)


@pytest.mark.parametrize("kind", OVER_UDP)
def test_reconnected(ends: Ends, kind: str) -> None:
    """2.7.1, 1.12.2: what is sent goes to the peer of the moment."""
    tunnel = ends.tunnel(kind)
    for port in (6500, 6501, 6000 + tunnel.tid, 6500):
        tunnel.kind.connect(tunnel.sock, tunnel.path.b, port)
        path = Path(tunnel.path.family, Encap.UDP, tunnel.path.sport, port)
        tunnel.sends(path)
        tunnel.receives(path)
        assert ends.wire.l2tp.get_tunnel(tunnel.tid)[Attr.UDP_DPORT] == port


def test_dual_stack_socket(ends: Ends) -> None:
    """From IPv6 to IPv4 and back, straight and by way of nowhere; headers are of the family."""
    six, four = KINDS["udp6"], KINDS["udp-mapped"]
    sock = six.open(ends.wire.a)
    sock.bind(("::", 5777))
    ends.wire.l2tp.tunnel(777, 877, fd=sock.fileno())
    paths = {6: Path(6, Encap.UDP, 5777, 6777), 4: Path(4, Encap.UDP, 5777, 6777)}
    tunnel = Tunnel.__new__(Tunnel)
    tunnel.wire, tunnel.tid, tunnel.kind, tunnel.sock = ends.wire, 777, six, sock
    tunnel.path = paths[6]
    tunnel.session = Session(777, 777 << 16, paths[6], "m777").create(ends.wire)
    ends.made.append(tunnel)
    tunnel.drops()
    for step in (6, 4, 6, 6, 4, 4, 0, 6, 0, 4, 4, 0, 6, 4, 0):
        if step == 0:
            managed.disconnect(sock)
            tunnel.drops()
            continue
        (six if step == 6 else four).connect(sock, paths[step].b, 6777)
        tunnel.sends(paths[step])
    tunnel.close()


@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR],
                         ids=["read", "write", "both"])
@pytest.mark.parametrize("kind", ["udp4", "udp6", "ip4", "ip6"])
def test_shut_down(ends: Ends, kind: str, how: int) -> None:
    """It concerns the application only: data goes on."""
    tunnel = ends.tunnel(kind)
    tunnel.sock.shutdown(how)
    tunnel.works()
    if how != socket.SHUT_RD and tunnel.path.encap == Encap.UDP:
        with pytest.raises(BrokenPipeError):
            tunnel.sock.send(b"no more")
    tunnel.works()


def test_v6_socket_that_becomes_a_v4_socket(ends: Ends) -> None:
    """IPV6_ADDRFORM: the socket changes its family and its methods under the tunnel."""
    tunnel = ends.tunnel("udp-mapped")
    tunnel.works()
    tunnel.sock.setsockopt(socket.IPPROTO_IPV6, 1, struct.pack("=i", socket.AF_INET))
    tunnel.sock = socket.socket(fileno=tunnel.sock.detach())
    assert tunnel.sock.family == socket.AF_INET
    tunnel.works()
    assert ends.wire.l2tp.get_tunnel(tunnel.tid)[Attr.IP_DADDR] == tunnel.path.b
    assert can_be_made_a_session(ends, tunnel)
    tunnel.sock.connect((tunnel.path.b, 6666))
    path = Path(4, Encap.UDP, tunnel.path.sport, 6666)
    tunnel.sends(path)
    tunnel.receives(path)
    tunnel.close()


def can_be_made_a_session(ends: Ends, tunnel: Tunnel) -> bool:
    ends.wire.l2tp.session(tunnel.tid, 0x7000, ifname="another")
    ends.wire.l2tp.del_session(tunnel.tid, 0x7000)
    eventually(lambda: ends.wire.a.index("another") is None)
    return True


@pytest.mark.parametrize("kind", OVER_UDP)
def test_encapsulation_switched_off(ends: Ends, kind: str) -> None:
    """3.3.1: setsockopt(UDP_ENCAP, 0) makes it an ordinary socket for what comes in; the tunnel
    stays, sends, and can be deleted."""
    tunnel = ends.tunnel(kind)
    tunnel.works()
    managed.set_udp_encap(tunnel.sock, 0)
    assert managed.udp_encap(tunnel.sock) == 0
    tunnel.sends()
    tunnel.passes_up(tunnel.session.header() + INNER, tunnel.control(b"body"))
    assert ends.wire.l2tp.try_tunnel(999, fd=tunnel.sock.fileno()).errno == errno.EBUSY
    ends.wire.l2tp.del_tunnel(tunnel.tid)
    eventually(lambda: not ends.wire.l2tp.has_tunnel(tunnel.tid))
    eventually(lambda: ends.wire.a.index(tunnel.session.ifname) is None)


def close_unheard(tunnel: Tunnel) -> None:
    managed.set_udp_encap(tunnel.sock, 0)
    tunnel.sock.close()


def ends_unheard(*tunnels: Tunnel) -> None:
    """Those whose sockets were closed like that go by themselves, or can be deleted."""
    for tunnel in tunnels:
        l2tp = tunnel.wire.l2tp
        if expect("UNHEARD-CLOSE", c=True, rust=False):
            assert l2tp.has_tunnel(tunnel.tid)
            l2tp.del_tunnel(tunnel.tid)
        eventually(lambda: not l2tp.has_tunnel(tunnel.tid), 30)
        eventually(lambda: tunnel.wire.a.index(tunnel.session.ifname) is None)


def test_unheard_close(ends: Ends) -> None:
    """UNHEARD-CLOSE: UDP does not say that a socket closes which has no type of encapsulation.  Its
    tunnel ends soon after, and no tunnel whose socket is open, whatever its type."""
    last = ends.tunnel("udp4")
    managed.set_udp_encap(last.sock, 0)
    tunnels = [ends.tunnel(kind) for kind in OVER_UDP]
    for tunnel in tunnels:
        close_unheard(tunnel)
    ends_unheard(*tunnels)
    last.sends()
    close_unheard(last)
    ends_unheard(last)


@pytest.mark.only("rust", "UNHEARD-CLOSE: C keeps the namespace until it is unloaded")
def test_unheard_close_in_a_namespace(make_ns) -> None:
    """The namespace of which nothing is left but the socket that such a tunnel counts."""
    left, observer = make_ns("left"), make_ns("observer")
    veth(left, "eth0", observer, "eth0")
    sock = KINDS["udp4"].open(left)
    left.l2tp.tunnel(1, 1, fd=sock.fileno())
    left.l2tp.session(1, 1, 1)
    managed.set_udp_encap(sock, 0)
    left.close()
    sock.close()
    eventually(lambda: observer.links() == ["lo"], 30)


@pytest.mark.parametrize("kind", OVER_UDP)
def test_other_encapsulation(ends: Ends, kind: str) -> None:
    """3.3.1: what the owner has made of the socket in the meantime outlives the tunnel."""
    tunnel = ends.tunnel(kind)
    managed.set_udp_encap(tunnel.sock, 0)
    managed.set_udp_encap(tunnel.sock, uapi.UDP_ENCAP_ESPINUDP)
    ends.wire.l2tp.del_tunnel(tunnel.tid)
    eventually(lambda: not ends.wire.l2tp.has_tunnel(tunnel.tid))
    eventually(lambda: ends.wire.a.index(tunnel.session.ifname) is None)
    left = expect("OTHER-ENCAP", c=0, rust=uapi.UDP_ENCAP_ESPINUDP)
    eventually(lambda: managed.udp_encap(tunnel.sock) == left)
    ends.wire.inject(tunnel.path.incoming(b"\0\0\0\1" + bytes(60)))
    assert ends.wire.delivered() == []
    assert len(queued(tunnel.sock)) == expect("OTHER-ENCAP", c=1, rust=0)


# --- 3.7: ICMP errors

def icmp(path: Path, kind: int, code: int, original: bytes, info: int = 0) -> bytes:
    """From the far end, about a packet of ours."""
    body = struct.pack("!BBHI", kind, code, 0, info) + original
    pseudo = b"" if path.family == 4 else packed(path.b) + packed(path.a) + struct.pack(
        "!II", len(body), 58)
    body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    return (ip4(path.b, path.a, 1, body) if path.family == 4 else
            ip6(path.b, path.a, 58, body))


def errors(family: int) -> list[tuple[int, int, int]]:
    """A hard one and a soft one: kind, code, errno."""
    if family == 4:
        return [(3, 3, errno.ECONNREFUSED), (3, 1, errno.EHOSTUNREACH)]
    return [(1, 4, errno.ECONNREFUSED), (1, 3, errno.EHOSTUNREACH)]


def reported(tunnel: Tunnel, kind: int, code: int) -> int:
    """What the socket says after an ICMP message about one of its datagrams."""
    tunnel.wire.inject(icmp(tunnel.path, kind, code, tunnel.path.outgoing(pattern(40))))
    assert tunnel.wire.delivered() == []
    return managed.pending_error(tunnel.sock)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "bound"])
@pytest.mark.parametrize("kind", OVER_UDP)
def test_icmp_errors(ends: Ends, kind: str, connected: bool, version: int) -> None:
    """3.7.1: hard or soft, connected or not; and those of an ordinary socket once it is one."""
    tunnel = ends.tunnel(kind, version=version, connected=connected, session=False)
    cases = errors(tunnel.path.family)
    for kind_, code, error in cases:
        assert reported(tunnel, kind_, code) == error
    managed.set_udp_encap(tunnel.sock, 0)
    plain = [reported(tunnel, kind_, code) for kind_, code, _ in cases]
    assert plain == [errno.ECONNREFUSED if connected else 0, 0]
    managed.set_udp_encap(tunnel.sock, uapi.UDP_ENCAP_L2TPINUDP)
    for kind_, code, error in cases:
        assert reported(tunnel, kind_, code) == error
    ends.wire.l2tp.del_tunnel(tunnel.tid)
    eventually(lambda: managed.udp_encap(tunnel.sock) == 0)
    assert [reported(tunnel, kind_, code) for kind_, code, _ in cases] == plain


@pytest.mark.parametrize("wait", [False, True], ids=["at-once", "later"])
@pytest.mark.parametrize("kind", ["udp4", "udp6"])
def test_error_hook_goes_with_the_tunnel(ends: Ends, kind: str, wait: bool) -> None:
    """ERR-HOOK: whatever the owner sets, the socket forgets the module, which may be unloaded; and
    what he sets stays."""
    tunnel = ends.tunnel(kind, session=False)
    kind_, code, error = errors(tunnel.path.family)[1]
    ends.wire.l2tp.del_tunnel(tunnel.tid)
    eventually(lambda: managed.udp_encap(tunnel.sock) == 0)
    if wait:
        settle()
    managed.set_udp_encap(tunnel.sock, uapi.UDP_ENCAP_L2TPINUDP)
    if expect("ERR-HOOK", c=True, rust=False):
        assert reported(tunnel, kind_, code) == error
    else:
        def silent() -> bool:
            assert {managed.udp_encap(tunnel.sock)
                    for _ in range(300)} == {uapi.UDP_ENCAP_L2TPINUDP}
            return reported(tunnel, kind_, code) == 0

        eventually(silent)
        assert silent()


def test_error_queue_of_a_mapped_socket(ends: Ends) -> None:
    """3.7.3: what it is to be told comes by the options of IPv4."""
    tunnel = ends.tunnel("udp-mapped")
    tunnel.sock.setsockopt(socket.IPPROTO_IP, uapi.IP_RECVERR, 1)
    message = tunnel.session.sent(INNER)
    ends.wire.inject(icmp(tunnel.path, 3, 3, tunnel.path.outgoing(message)))
    assert ends.wire.delivered() == []
    tunnel.sock.settimeout(0)
    data, ancillary, flags, _ = tunnel.sock.recvmsg(2000, 500, socket.MSG_ERRQUEUE)
    assert data == message and flags & socket.MSG_ERRQUEUE
    (number, origin, kind, code) = struct.unpack("=IBBB", ancillary[0][2][:7])
    assert (number, origin, kind, code) == (errno.ECONNREFUSED, 2, 3, 3)
    managed.pending_error(tunnel.sock)
    tunnel.works()


@pytest.mark.parametrize("kind", ["ip4", "ip6"])
def test_no_errors_for_ip_sockets(ends: Ends, kind: str) -> None:
    """3.7.6"""
    tunnel = ends.tunnel(kind)
    for kind_, code, _ in errors(tunnel.path.family):
        ends.wire.inject(icmp(tunnel.path, kind_, code,
                              tunnel.path.outgoing(tunnel.session.sent(INNER))))
    assert ends.wire.delivered() == []
    assert managed.pending_error(tunnel.sock) == 0
    tunnel.works()


# --- who holds the socket

@pytest.mark.parametrize("kind", ["udp4", "udp6", "ip4", "ip6"])
def test_descriptor_in_flight(ends: Ends, kind: str) -> None:
    """SCM_RIGHTS: a descriptor that nobody has received yet is one; so is the one received."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    tunnel = ends.tunnel(kind)
    managed.send_fd(here, tunnel.sock.fileno())
    tunnel.sock.close()
    fd = managed.receive_fd(there)
    tunnel.sock = socket.socket(fileno=fd)
    tunnel.works()
    managed.send_fd(here, fd)
    tunnel.sock.close()
    assert ends.wire.l2tp.has_tunnel(tunnel.tid)
    here.close()
    there.close()
    eventually(lambda: not ends.wire.l2tp.has_tunnel(tunnel.tid))
    eventually(lambda: ends.wire.a.index(tunnel.session.ifname) is None)


@pytest.mark.parametrize("kind", ["udp4", "udp6", "ip4", "ip6"])
def test_forked_owner(ends: Ends, kind: str) -> None:
    """The child that has inherited the socket keeps the tunnel, until it is killed."""
    tunnel = ends.tunnel(kind)
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    try:
        tunnel.works()
        tunnel.sock.close()
        assert ends.wire.l2tp.has_tunnel(tunnel.tid)
        with ends.wire.counting(tunnel.session.received(INNER)):
            ends.wire.inject(tunnel.session.packet(INNER))
            assert ends.wire.delivered() == [(tunnel.session.ifname, INNER)]
        tunnel.sends()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    eventually(lambda: not ends.wire.l2tp.has_tunnel(tunnel.tid))
    eventually(lambda: ends.wire.a.index(tunnel.session.ifname) is None)


# --- every order of ends

STEPS: dict[str, Callable[[NetNS, socket.socket], object]] = {
    "close": lambda ns, sock: sock.close(),
    "tunnel": lambda ns, sock: ns.l2tp.ask(Cmd.TUNNEL_DELETE, nla.u32(Attr.CONN_ID, 1)),
    "session": lambda ns, sock: ns.l2tp.ask(Cmd.SESSION_DELETE, nla.u32(Attr.CONN_ID, 1),
                                            nla.u32(Attr.SESSION_ID, 1)),
    "disconnect": lambda ns, sock: sock.fileno() < 0 or managed.disconnect(sock),
}


@pytest.mark.parametrize("kind", ["udp4", "udp6", "ip4", "ip6"])
def test_order_of_ends(ns: NetNS, kind: str) -> None:
    """Whatever comes first, in the end everything is gone and can be had again."""
    local, peer = {4: ("127.0.0.1", "127.0.0.2"), 6: ("fd00::1", "fd00::2")}[KINDS[kind].family]
    for order in itertools.permutations(STEPS):
        sock = KINDS[kind].open(ns)
        eventually(lambda: bound(KINDS[kind], sock, local))
        KINDS[kind].connect(sock, peer, 5001)
        eventually(lambda: can_register(ns.l2tp, 1, KINDS[kind].encap, sock))
        eventually(lambda: created(ns.l2tp))
        ns.up("dev")
        for step in order:
            STEPS[step](ns, sock)
            if step in ("close", "tunnel"):
                eventually(lambda: not ns.l2tp.has_tunnel(1))
        eventually(lambda: ns.links() == ["lo"], what=f"end by {order}")
        assert ns.l2tp.tunnels() == [] and ns.l2tp.sessions() == []


def bound(kind: Kind, sock: socket.socket, local: str) -> bool:
    """In C, a tunnel that is being freed may still keep its closed socket's id."""
    try:
        kind.bind(sock, local, 5000)
    except OSError as error:
        assert error.errno == expect("SYNC-DELETE", c=errno.EADDRINUSE, rust=None)
        return False
    return True


def created(l2tp: L2tp) -> bool:
    reply = l2tp.try_session(ifname="dev")
    assert reply.errno in expect("SYNC-DELETE", c=(0, errno.EEXIST), rust=(0,)), reply
    return reply.errno == 0


@pytest.mark.parametrize("kind", ["udp4", "udp6", "ip4", "ip6"])
def test_socket_keeps_its_namespace(make_ns, kind: str) -> None:
    """3.1: with the last user of a namespace gone, a managed tunnel goes on until its socket is
    closed, and then takes the namespace with it."""
    settle()
    left, observer = make_ns("left"), make_ns("observer")
    left.addr("lo", "fd00::1/128", "fd00::2/128")
    family = KINDS[kind].family
    sock = KINDS[kind].open(left)
    KINDS[kind].bind(sock, {4: "127.0.0.1", 6: "fd00::1"}[family], 5000)
    KINDS[kind].connect(sock, {4: "127.0.0.1", 6: "fd00::1"}[family], 5000)
    # to itself: what the device sends, the device receives
    left.l2tp.tunnel(1, 1, encap=KINDS[kind].encap, fd=sock.fileno())
    left.l2tp.session(1, 1, 1, ifname="moved")
    left.l2tp.session(1, 2, 2, ifname="stays")
    move("moved", left, observer)
    observer.up("moved")
    left.close()
    settle()
    with observer:
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with packets:
        eventually(lambda: packets.sendto(INNER, ("moved", 0))
                   and observer.counters("moved")["rx_packets"])
    sock.close()
    eventually(lambda: observer.links() == ["lo"], what="device of a closed socket")
    settle()


# --- integrity

@pytest.mark.parametrize("kind", ALL)
def test_transfer(hosts: Hosts, kind: str) -> None:
    """A TCP transfer each way between two managed tunnels, compared by its hash."""
    socks = []
    ends = hosts.addresses(KINDS[kind].family)
    for number, ns in enumerate((hosts.a, hosts.b)):
        sock = KINDS[kind].open(ns)
        KINDS[kind].bind(sock, ends[number], 5000 + number)
        KINDS[kind].connect(sock, ends[1 - number], 5001 - number)
        ns.l2tp.tunnel(1 + number, 2 - number, encap=KINDS[kind].encap, fd=sock.fileno())
        ns.l2tp.session(1 + number, 11 + number, 12 - number, cookie=b"biscuits",
                        peer_cookie=b"biscuits", ifname="wire")
        ns.up("wire")
        ns.addr("wire", f"172.16.0.{1 + number}/24")
        socks.append(sock)
    size = 300_000
    sent = hashlib.sha256((bytes(range(251)) * (size // 251 + 1))[:size]).hexdigest()
    for client, server, address in ((hosts.a, hosts.b, "172.16.0.2"),
                                    (hosts.b, hosts.a, "172.16.0.1")):
        got = tcp_transfer(client, server, address, size)
        assert hashlib.sha256(got).hexdigest() == sent
    for number, ns in enumerate((hosts.a, hosts.b)):
        stats = ns.l2tp.session_stats(1 + number, 11 + number)
        assert stats[Stat.RX_PACKETS] > 200 and stats[Stat.RX_ERRORS] == 0
        assert stats[Stat.TX_PACKETS] > 200
    for sock in socks:
        sock.close()
    for ns in (hosts.a, hosts.b):
        eventually(lambda ns=ns: "wire" not in ns.links())


# --- hundreds

MANY = 300 if system.impl() == "rust" else 100


def test_hundreds_of_tunnels(_ends: Ends) -> None:
    """A broker: one local port, a tunnel with a session for each client; all carry data, and all
    end when the broker is killed.  Nothing is left of them."""
    wire = _ends.wire
    tids = range(1000, 1000 + MANY)
    paths = {tid: Path(4 if tid % 2 else 6, Encap.UDP, 1701, tid) for tid in tids}
    sessions = [Session(tid, tid, paths[tid], f"n{tid}", L2Spec.NONE, b"4444") for tid in tids]
    before, references = memory.objects(), system.loaded()
    ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setns(wire.a.fd, os.CLONE_NEWNET)
            client = L2tp()
            socks = []
            for session in sessions:
                path = session.path
                af = socket.AF_INET if path.family == 4 else socket.AF_INET6
                sock = socket.socket(af, socket.SOCK_DGRAM)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((path.a, path.sport))
                sock.connect((path.b, path.dport))
                client.tunnel(session.tid, session.tid, fd=sock.fileno())
                client.session(session.tid, session.sid, session.peer_sid, l2spec=session.l2spec,
                               cookie=session.cookie, ifname=session.ifname)
                socks.append(sock)
            os.write(ready[1], b"ready")
            signal.pause()
        finally:
            os._exit(1)
    try:
        os.close(ready[1])
        assert os.read(ready[0], 10) == b"ready"
        assert wire.l2tp.tunnels() == list(tids)
        assert wire.l2tp.sessions() == [(tid, tid) for tid in tids]
        for session in sessions:
            wire.a.up(session.ifname)
        with wire.counting(*(session.received(INNER) for session in sessions),
                           *(session.transmitted(INNER) for session in sessions)):
            for session in sessions:
                wire.inject(session.packet(INNER))
                wire.transmit(session.ifname, INNER)
            assert wire.delivered() == [(session.ifname, INNER) for session in sessions]
            packets = wire.packets()
        for packet, session in zip(packets, sessions, strict=True):
            ident = struct.unpack("!H", packet[4:6])[0] if session.path.family == 4 else 0
            assert packet == session.path.outgoing(session.sent(INNER), ident)
    finally:
        os.close(ready[0])
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    eventually(lambda: wire.l2tp.tunnels() == [], 60)
    eventually(lambda: wire.a.links() == ["eth0", "lo"], 60)

    def kept() -> dict[str, int]:
        # of what is small the kernel keeps some for the first devices of a kind: see the soak
        grown = memory.growth(before, memory.objects())
        return {name: count for name, count in grown.items()
                if count >= MANY // 10 and not name.startswith("kmalloc")}

    eventually(lambda: not kept(), 30, what="return of all memory")
    assert system.loaded() == references
