# SPDX-License-Identifier: GPL-2.0
"""PPP channels: /dev/ppp, devices, bridges, and every byte on the wire (abi 7.5, 7.10)."""

import errno
import hashlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from lib import pppox, system
from lib.differences import expect
from lib.netns import Hosts, NetNS, settle
from lib.pair import check_headroom
from lib.pppox import PPP_IP, PPP_IPCP, PPP_LCP, Address, DevPpp, Link, PppSocket, frame
from lib.uapi import Encap, L2Spec, PwType, Stat
from lib.wait import at_once, eventually
from lib.wire import Path, Wire, data_header, ip4, pattern, udp

ECHO = frame(PPP_LCP, b"echo request, say")


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@dataclass(frozen=True)
class Session:
    """A PPP session as the wire sees it."""
    path: Path
    version: int
    tid: int = 1
    sid: int = 10
    cookie: bytes = b""
    peer_cookie: bytes = b""

    def create(self, wire: Wire, **kwargs) -> PppSocket:
        path = self.path
        wire.l2tp.tunnel(self.tid, self.tid + 1, self.version, path.encap, local=path.a,
                         peer=path.b, sport=path.sport, dport=path.dport)
        more = {"l2spec": L2Spec.NONE} if self.version == 3 else {}
        wire.l2tp.session(self.tid, self.sid, self.sid + 1, PwType.PPP, cookie=self.cookie,
                          peer_cookie=self.peer_cookie, **more, **kwargs)
        sock = PppSocket(wire.a)
        sock.connect(Address(self.tid, self.sid, self.tid + 1, self.sid + 1))
        return sock

    def header(self, tid: int, sid: int, cookie: bytes, ns: int | None = None) -> bytes:
        if self.version == 2:
            if ns is not None:
                return struct.pack("!HHHHH", 0x0802, tid, sid, ns, 0)
            return struct.pack("!HHH", 2, tid, sid)
        return data_header(self.path.encap, sid, cookie, L2Spec.NONE)

    def sent(self, ppp_frame: bytes, ns: int | None = None) -> bytes:
        """What follows the IP header of a packet that our end sends."""
        message = self.header(self.tid + 1, self.sid + 1, self.cookie, ns) + b"\xff\x03" + ppp_frame
        return self.path.datagram(message)

    def packet(self, ppp_frame: bytes, control: bytes = b"\xff\x03",
               ns: int | None = None) -> bytes:
        """A packet to our end."""
        return self.path.incoming(self.header(self.tid, self.sid, self.peer_cookie, ns)
                                  + control + ppp_frame)


def kind(version: int, encap: Encap, family: int, tid: int = 1, sid: int = 10) -> Session:
    path = Path(family, encap, 5000 + tid, 6000 + tid,
                zero_checksum=encap == Encap.UDP and family == 4)
    cookies = (b"", b"") if version == 2 else (b"12345678", b"abcd")
    return Session(path, version, tid, sid, *cookies)


KINDS = [pytest.param(kind(version, encap, family), id=f"v{version}-{encap.name}-{family}")
         for version, encap in ((2, Encap.UDP), (3, Encap.UDP), (3, Encap.IP))
         for family in (4, 6)]
V2 = kind(2, Encap.UDP, 4)


def bodies(wire: Wire) -> list[bytes]:
    """What our end has sent, without the IP headers."""
    return [packet[20 if packet[0] >> 4 == 4 else 40:] for packet in wire.packets()]


def datagram(payload: bytes, src: str = "10.9.0.2", dst: str = "10.9.0.1") -> bytes:
    return ip4(src, dst, socket.IPPROTO_UDP, udp(src, dst, 7, 4000, payload))


# --- frames

@pytest.mark.parametrize("session", KINDS)
def test_channel_both_ways(wire: Wire, stack: ExitStack, session: Session) -> None:
    """Control frames, by /dev/ppp; with and without address and control field."""
    sock = stack.enter_context(session.create(wire))
    channel = stack.enter_context(DevPpp(wire.a)).attach(sock.channel())
    for length in (6, 20, 1000):
        out = frame(PPP_LCP, pattern(length))
        channel.write(out)
        assert bodies(wire) == [session.sent(out)]
    for control in (b"\xff\x03", b""):
        wire.inject(session.packet(ECHO, control))
        assert channel.read() == ECHO
    stats = sock.stats()
    assert (stats.tx_packets, stats.rx_packets, stats.tx_errors, stats.rx_errors) == (3, 2, 0, 0)
    sock.sock.setblocking(False)
    with pytest.raises(OSError) as refused:
        sock.sock.recv(1)
    assert refused.value.errno == errno.EIO
    sock.sock.send(ECHO)  # still allowed
    assert bodies(wire) == [session.sent(ECHO)]


@pytest.mark.parametrize("session", KINDS)
def test_device_both_ways(wire: Wire, stack: ExitStack, session: Session) -> None:
    """IP packets, small and as large as the path takes; larger ones are fragmented outside."""
    link = stack.enter_context(Link(session.create(wire))).up("10.9.0.1", "10.9.0.2")
    inner = wire.a.udp(("10.9.0.1", 4000), ("10.9.0.2", 7))
    room = 1500 - (20 if session.path.family == 4 else 40) - len(session.sent(frame(PPP_IP)))
    for length in (1, 100, room - 28):
        inner.send(pattern(length))
        (sent,) = bodies(wire)
        head = len(session.sent(frame(PPP_IP)))
        assert len(sent) == head + 28 + length and sent.endswith(pattern(length))
        # the rest is what the device was given
        assert session.sent(frame(PPP_IP, sent[head:])) == sent
        wire.inject(session.packet(frame(PPP_IP, datagram(pattern(length, 2)))))
        assert inner.recv(65536) == pattern(length, 2)
    inner.send(pattern(1472))
    assert len(bodies(wire)) == 2
    counters = wire.a.counters(link.ifname)
    assert (counters["tx_packets"], counters["rx_packets"]) == (4, 3)


def test_who_gets_what(wire: Wire, stack: ExitStack) -> None:
    """LCP to the channel; network control to the unit; data to the device; compressed protocol."""
    link = stack.enter_context(Link(V2.create(wire))).up("10.9.0.1", "10.9.0.2")
    inner = wire.a.udp(("10.9.0.1", 4000))
    ipcp = frame(PPP_IPCP, b"configure this")
    wire.inject(V2.packet(ECHO), V2.packet(ipcp), V2.packet(frame(PPP_IP, datagram(b"one"))),
                V2.packet(b"\x21" + datagram(b"two")))
    assert link.channel.read() == ECHO
    assert link.device.read() == ipcp
    assert [inner.recv(10), inner.recv(10)] == [b"one", b"two"]
    assert link.channel.pending() == link.device.pending() == []
    link.device.write(ipcp)
    assert bodies(wire) == [V2.sent(ipcp)]


def test_frames_that_came_early(wire: Wire, stack: ExitStack) -> None:
    """What the socket has queued goes to the channel when that is asked for (7.9)."""
    sock = stack.enter_context(V2.create(wire))
    frames = [frame(PPP_LCP, b"frame number %d" % n) for n in range(5)]
    wire.inject(*map(V2.packet, frames))
    eventually(lambda: sock.stats().rx_packets == 5)
    assert sock.sock.recv(100) == frames[0]
    channel = stack.enter_context(DevPpp(wire.a)).attach(sock.channel())
    assert [channel.read() for _ in range(4)] == frames[1:]


def test_odd_frames(wire: Wire, stack: ExitStack) -> None:
    """Nothing, half a protocol field, address without control: counted, and no harm done."""
    link = stack.enter_context(Link(V2.create(wire))).up("10.9.0.1", "10.9.0.2")
    offset = struct.pack("!HHHH", 0x0202, 1, 10, 8) + bytes(8)
    for payload in (b"", b"\xff", b"\xff\x03", b"\xff\x03\x00", b"\xff\x03\xc0", b"\x00", b"\x21"):
        wire.inject(V2.path.incoming(offset + payload))
    wire.inject(V2.packet(ECHO))
    # a lone byte of even value is half of a protocol field, an odd one all of a compressed one
    assert ECHO in (link.channel.read(), *link.channel.pending())
    assert link.sock.stats().rx_packets == 8
    assert wire.a.index(link.ifname)


def test_large_frames_in_pieces(stack: ExitStack) -> None:
    """Fragments of IP, and pages."""
    wire = Wire(16000)
    stack.callback(wire.close)
    link = stack.enter_context(Link(V2.create(wire))).up("10.9.0.1", "10.9.0.2")
    inner = wire.a.udp(("10.9.0.1", 4000))
    payload = pattern(9000)
    packet = V2.packet(frame(PPP_IP, datagram(payload)))
    wire.inject(*V2.path.fragments(packet, 1400, 1))
    wire.inject_paged(packet)
    assert [inner.recv(65536), inner.recv(65536)] == [payload, payload]
    assert wire.a.counters(link.ifname)["rx_errors"] == 0


# --- numbers (4)

def test_numbers_of_v2(wire: Wire, stack: ExitStack) -> None:
    """A LAC numbers as the LNS does; frames are put in order within the timeout."""
    sock = stack.enter_context(V2.create(wire))
    frames = [frame(PPP_LCP, b"frame number %d" % n) for n in range(6)]
    sock.sock.send(ECHO)
    wire.inject(V2.packet(frames[0], ns=0))
    assert sock.sock.recv(100) == frames[0]
    assert sock.get(pppox.SO_SENDSEQ) == 1
    sock.sock.send(ECHO)
    assert bodies(wire) == [V2.sent(ECHO), V2.sent(ECHO, ns=0)]
    sock.set(pppox.SO_REORDERTO, 10000)
    wire.inject(*(V2.packet(frames[n], ns=n) for n in (2, 3, 1)))
    assert [sock.sock.recv(100) for _ in range(3)] == frames[1:4]
    assert sock.stats().rx_oos_packets == 1
    wire.inject(V2.packet(frames[4]))
    assert sock.sock.recv(100) == frames[4]
    assert sock.get(pppox.SO_SENDSEQ) == 0


def test_numbers_of_an_lns(wire: Wire, stack: ExitStack) -> None:
    """It decides itself, and wants what it sends."""
    sock = stack.enter_context(V2.create(wire, lns_mode=1))
    wire.inject(V2.packet(ECHO, ns=0))
    assert sock.sock.recv(100) == ECHO
    assert sock.get(pppox.SO_SENDSEQ) == 0
    sock.set(pppox.SO_SENDSEQ, 1)
    wire.inject(V2.packet(ECHO), V2.packet(ECHO + b"!", ns=1))
    assert sock.sock.recv(100) == ECHO + b"!"
    stats = sock.stats()
    assert (stats.rx_packets, stats.rx_seq_discards, stats.rx_errors) == (2, 1, 1)


# --- the end (7.5)

def test_closing_the_socket_ends_the_channel(wire: Wire, stack: ExitStack) -> None:
    """pppd reads end of file, the device has no channel any more."""
    link = stack.enter_context(Link(V2.create(wire))).up("10.9.0.1", "10.9.0.2")
    link.sock.close()
    assert link.channel.read() == b""
    eventually(lambda: not wire.l2tp.has_session(1, 10))
    wire.packets()
    wire.a.udp(("10.9.0.1", 4000), ("10.9.0.2", 7)).send(b"nowhere to go")
    assert bodies(wire) == []
    assert wire.a.index(link.ifname)
    link.device.close()
    eventually(lambda: not wire.a.index(link.ifname))


@pytest.mark.parametrize("whole", [False, True], ids=["session", "tunnel"])
def test_session_is_deleted_under_a_device(wire: Wire, stack: ExitStack, whole: bool) -> None:
    """7.5.2: the device stays up, what is sent is dropped without a word."""
    link = stack.enter_context(Link(V2.create(wire))).up("10.9.0.1", "10.9.0.2")
    inner = wire.a.udp(("10.9.0.1", 4000), ("10.9.0.2", 7))
    wire.l2tp.del_tunnel(1) if whole else wire.l2tp.del_session(1, 10)
    eventually(lambda: link.sock.errno_of(pppox.PPPIOCGMRU) == errno.ENOTCONN)
    wire.packets()
    inner.send(b"never to be seen")
    link.channel.write(ECHO)
    if not whole:  # or ICMP would tell
        wire.inject(V2.packet(ECHO))
    assert bodies(wire) == []
    assert link.channel.pending() == []
    assert wire.a.link(link.ifname).flags & 1  # up
    assert wire.a.counters(link.ifname)["tx_errors"] == 0


def test_unit_moves_to_another_session(wire: Wire, stack: ExitStack) -> None:
    """A device is disconnected from one channel and connected to the next."""
    link = stack.enter_context(Link(V2.create(wire))).up("10.9.0.1", "10.9.0.2")
    wire.l2tp.session(1, 12, 13, PwType.PPP)
    second = stack.enter_context(PppSocket(wire.a))
    second.connect(Address(1, 12, 2, 13))
    channel = stack.enter_context(DevPpp(wire.a)).attach(second.channel())
    assert channel.errno_of(pppox.PPPIOCDISCONN) == errno.EINVAL
    link.channel.ioctl(pppox.PPPIOCDISCONN)
    channel.ioctl(pppox.PPPIOCCONNECT, link.unit)
    wire.a.udp(("10.9.0.1", 4000), ("10.9.0.2", 7)).send(b"by the second")
    (sent,) = bodies(wire)
    assert sent[8:16] == struct.pack("!HHH", 2, 2, 13) + b"\xff\x03"


# --- bridges (7.10.8)

def bridge(stack: ExitStack, one: PppSocket, two: PppSocket) -> tuple[DevPpp, int]:
    control = stack.enter_context(DevPpp(one.ns)).attach(one.channel())
    index = two.channel()
    control.ioctl(pppox.PPPIOCBRIDGECHAN, index)
    return control, index


@pytest.mark.parametrize("other", [
    pytest.param(kind(version, encap, family, 3, 30), id=f"v{version}-{encap.name}-{family}")
    for version, encap, family in ((2, Encap.UDP, 4), (3, Encap.UDP, 6), (3, Encap.IP, 4))])
def test_bridge(wire: Wire, stack: ExitStack, other: Session) -> None:
    """Between two sessions, both ways, until one of the sockets is closed."""
    one, two = stack.enter_context(V2.create(wire)), stack.enter_context(other.create(wire))
    control, index = bridge(stack, one, two)
    for payload in (ECHO, frame(PPP_IP, datagram(pattern(1300)))):
        wire.inject(V2.packet(payload))
        assert bodies(wire) == [other.sent(payload)]
        wire.inject(other.packet(payload, b""))
        assert bodies(wire) == [V2.sent(payload)]
    assert control.errno_of(pppox.PPPIOCBRIDGECHAN, index) == errno.EALREADY
    control.close()
    wire.inject(V2.packet(ECHO))
    assert bodies(wire) == [other.sent(ECHO)]
    two.close()
    wire.inject(V2.packet(ECHO))
    assert bodies(wire) == []


def test_bridge_errors(wire: Wire, stack: ExitStack) -> None:
    sock = stack.enter_context(V2.create(wire))
    control = stack.enter_context(DevPpp(wire.a)).attach(sock.channel())
    assert control.errno_of(pppox.PPPIOCBRIDGECHAN, 4711) == errno.ENXIO
    assert control.errno_of(pppox.PPPIOCUNBRIDGECHAN) == errno.EINVAL
    assert control.errno_of(pppox.PPPIOCGMRU) == errno.ENOTTY  # the channel has no ioctls


def test_bridge_to_pppoe(wire: Wire, stack: ExitStack) -> None:
    """What a L2TP access concentrator does."""
    system.modprobe("pppoe")
    tap = wire.b.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x8864))
    tap.bind(("eth0", 0x8864))
    sock = stack.enter_context(V2.create(wire))
    with wire.a:
        pppoe = PppSocket.__new__(PppSocket)
        pppoe.ns, pppoe.sock = wire.a, socket.socket(pppox.AF_PPPOX, socket.SOCK_STREAM, 0)
    stack.callback(pppoe.close)
    # struct sockaddr_pppox with struct pppoe_addr
    pppoe.connect(struct.pack("=HI", pppox.AF_PPPOX, 0) + struct.pack("!H6s16s", 0x77, wire.MAC_B,
                                                                      b"eth0"))
    bridge(stack, sock, pppoe)
    payload = frame(PPP_IP, datagram(pattern(1200)))
    head = wire.MAC_B + wire.MAC_A + struct.pack("!HBBHH", 0x8864, 0x11, 0, 0x77, len(payload))
    wire.inject(V2.packet(payload))
    assert tap.recv(2000) == head + payload
    wire.inject_frame(wire.MAC_A + wire.MAC_B + head[12:] + payload)
    assert bodies(wire) == [V2.sent(payload)]


# --- two hosts

def connect(hosts: Hosts, stack: ExitStack, sids: tuple[int, ...] = (10,), version: int = 2,
            family: int = 4, **kwargs) -> list[list[PppSocket]]:
    """Sockets of sessions between the hosts, for each host."""
    out = []
    addresses = hosts.addresses(family)
    for end, ns in enumerate((hosts.a, hosts.b)):
        tid, peer_tid = 1 + end, 2 - end
        ns.l2tp.tunnel(tid, peer_tid, version, local=addresses[end], peer=addresses[1 - end],
                       sport=1701, dport=1701)
        socks = []
        for sid in sids:
            ns.l2tp.session(tid, sid, sid, PwType.PPP, **kwargs)
            socks.append(stack.enter_context(PppSocket(ns)))
            socks[-1].connect(Address(tid, sid, peer_tid, sid))
        out.append(socks)
    return out


def transfer(source: NetNS, target: NetNS, address: str, size: int = 1 << 20) -> None:
    """TCP, of what is sent partly from pages of a file."""
    data = os.urandom(size)
    server = target.socket(socket.AF_INET, socket.SOCK_STREAM, timeout=60)
    server.bind((address, 5001))
    server.listen()
    got = hashlib.sha256()

    def serve() -> None:
        sock, _ = server.accept()
        sock.settimeout(60)
        while piece := sock.recv(65536):
            got.update(piece)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    client = source.socket(socket.AF_INET, socket.SOCK_STREAM, timeout=60)
    client.connect((address, 5001))
    client.setblocking(True)
    fd = os.memfd_create("data")
    os.write(fd, data)
    at = 0
    while at < size:
        at += os.sendfile(client.fileno(), fd, at, size - at)
    client.close()
    os.close(fd)
    thread.join()
    assert got.digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("seq", [0, 1])
def test_hosts_talk(hosts: Hosts, stack: ExitStack, seq: int) -> None:
    """TCP both ways through sessions with and without numbers; pings of both families.

    Several processors send and receive, and may overtake each other: frames wait for that.
    """
    (one,), (two,) = connect(hosts, stack, send_seq=seq, recv_seq=seq, recv_timeout=100)
    a = stack.enter_context(Link(one)).up("10.9.0.1", "10.9.0.2")
    b = stack.enter_context(Link(two)).up("10.9.0.2", "10.9.0.1")
    hosts.a.addr(a.ifname, "fc09::1/64")
    hosts.b.addr(b.ifname, "fc09::2/64")
    hosts.a.ping("10.9.0.2", "-s", "1472", count=3)
    eventually(lambda: hosts.a.pings("fc09::2"))
    transfer(hosts.a, hosts.b, "10.9.0.2")
    transfer(hosts.b, hosts.a, "10.9.0.1")
    for sock in (one, two):
        stats = sock.stats()
        assert stats.tx_errors == 0 and min(stats.tx_packets, stats.rx_packets) > 20


@pytest.mark.needs("kprobes")
@pytest.mark.parametrize("family", [4, 6])
def test_no_head_expansion(hosts: Hosts, stack: ExitStack, family: int) -> None:
    """7.10.4: the channel asks for the headroom that it needs."""
    (one,), (two,) = connect(hosts, stack, family=family)
    stack.enter_context(Link(one)).up("10.9.0.1", "10.9.0.2")
    stack.enter_context(Link(two)).up("10.9.0.2", "10.9.0.1")
    check_headroom(hosts, "10.9.0.1", "10.9.0.2")


@dataclass(frozen=True)
class Bundle:
    """One end of a device over two sessions."""
    link: Link
    socks: list[PppSocket]
    second: DevPpp  # the channel that `link` does not know of


def multilink(hosts: Hosts, stack: ExitStack) -> list[Bundle]:
    """One device over two sessions, at each end."""
    ends = []
    for socks, address, peer in zip(connect(hosts, stack, (10, 11)), ("10.9.0.1", "10.9.0.2"),
                                    ("10.9.0.2", "10.9.0.1"), strict=True):
        link = stack.enter_context(Link(socks[0]))
        second = stack.enter_context(DevPpp(link.ns)).attach(socks[1].channel())
        second.ioctl(pppox.PPPIOCCONNECT, link.unit)
        link.device.ioctl(pppox.PPPIOCSMRRU, 1500)
        link.device.ioctl(pppox.PPPIOCSFLAGS, pppox.SC_MULTILINK)
        ends.append(Bundle(link.up(address, peer), socks, second))
    return ends


def test_multilink(hosts: Hosts, stack: ExitStack) -> None:
    ends = multilink(hosts, stack)
    hosts.a.ping("10.9.0.2", "-s", "1400", count=3)
    transfer(hosts.a, hosts.b, "10.9.0.2", 1 << 18)
    for end in ends:
        # More than the pings; how many segments one acknowledgement is for is TCP's affair.
        assert all(sock.stats().tx_packets > 5 and sock.stats().rx_packets > 5
                   for sock in end.socks)


@pytest.mark.parametrize("number", [0, 1], ids=["first", "second"])
@pytest.mark.parametrize("how", ["socket", "session"])
def test_multilink_loses_a_link(hosts: Hosts, stack: ExitStack, how: str, number: int) -> None:
    """The other one carries everything, at once if a socket is closed. Of a session that is deleted
    PPP is not told (7.5.2), so that pieces of packets are lost until pppd lets the channel go."""
    ends = multilink(hosts, stack)
    hosts.a.ping("10.9.0.2", "-s", "1400", count=3)
    for tid, end in enumerate(ends, 1):
        if how == "socket":
            end.socks[number].close()
        else:
            end.link.ns.l2tp.del_session(tid, 10 + number)
    if how == "session":
        assert not hosts.a.pings("10.9.0.2", "-s", "1400")
        for end in ends:
            (end.link.channel, end.second)[number].ioctl(pppox.PPPIOCDISCONN)
        # what waits for its other half is given up
        eventually(lambda: hosts.a.pings("10.9.0.2", "-s", "1400"))
    left = [end.socks[1 - number] for end in ends]
    before = [sock.stats() for sock in left]
    hosts.a.ping("10.9.0.2", "-s", "1400", count=3)
    transfer(hosts.a, hosts.b, "10.9.0.2", 1 << 18)
    transfer(hosts.b, hosts.a, "10.9.0.1", 1 << 18)
    for sock, old in zip(left, before, strict=True):
        stats = sock.stats()
        assert stats.tx_errors == stats.rx_errors == 0
        assert min(stats.tx_packets - old.tx_packets, stats.rx_packets - old.rx_packets) > 100


def test_recursion(hosts: Hosts, stack: ExitStack) -> None:
    """7.10.9: a tunnel that is routed through its own device drops, and stands still no longer than
    the route is like that."""
    (one,), (two,) = connect(hosts, stack)
    a = stack.enter_context(Link(one)).up("10.9.0.1", "10.9.0.2")
    stack.enter_context(Link(two)).up("10.9.0.2", "10.9.0.1")
    hosts.a.ping("10.9.0.2")
    hosts.a.run("ip", "route", "add", f"{hosts.B4}/32", "dev", a.ifname)
    assert not hosts.a.pings("10.9.0.2")
    hosts.a.run("ip", "route", "del", f"{hosts.B4}/32", "dev", a.ifname)
    eventually(lambda: hosts.a.pings("10.9.0.2"))


@pytest.mark.only("rust", "LOOP: C goes on until its stack ends")
def test_nested_too_deeply(ns: NetNS, stack: ExitStack) -> None:
    """Each tunnel is routed through the device of the one before. A frame that gets no further is
    an error of the session where that is so."""
    ns.sysctl("net/ipv6/conf/default/disable_ipv6", 1)
    local, peer, deepest = "127.0.0.1", "127.0.0.2", 8
    for tid in range(1, deepest + 1):
        ns.l2tp.tunnel(tid, tid, version=2, local=local, peer=peer, sport=5000 + tid)
        sock = PppSocket(ns)
        sock.connect(Address(tid, 10, tid, 20))
        local, peer = f"10.9.{tid}.1", f"10.9.{tid}.2"
        stack.enter_context(Link(sock)).up(local, peer)
    sender = stack.enter_context(ns.socket())
    with system.nested_ppp_devices():
        sender.sendto(b"down we go", (peer, 9))
    stats = [ns.l2tp.session_stats(tid, 10) for tid in range(deepest, 0, -1)]
    counts = [(each[Stat.TX_PACKETS], each[Stat.TX_ERRORS]) for each in stats]
    sent = counts.count((1, 0))
    assert 0 < sent < deepest - 1
    assert counts == [(1, 0)] * sent + [(0, 1)] + [(0, 0)] * (deepest - 1 - sent)
    tunnel = ns.l2tp.tunnel_stats(deepest - sent)
    assert (tunnel[Stat.TX_PACKETS], tunnel[Stat.TX_ERRORS]) == (0, 1)


@pytest.mark.only("rust", "LOOP: in C, frames go round until the route is gone")
@pytest.mark.parametrize("many", [False, True], ids=["one link", "multilink"])
def test_recursion_with_a_queue(hosts: Hosts, stack: ExitStack, many: bool) -> None:
    """The same with a queue on the device, which PPP does not take for recursion, as the queue is
    left before the frame comes back: dropped and counted the first time it comes round."""
    for ns in (hosts.a, hosts.b):
        ns.sysctl("net/ipv6/conf/default/disable_ipv6", 1)  # which talks
    if many:
        end, _ = multilink(hosts, stack)
        ifname, socks = end.link.ifname, end.socks
    else:
        (one,), (two,) = connect(hosts, stack)
        ifname, socks = stack.enter_context(Link(one)).up("10.9.0.1", "10.9.0.2").ifname, [one]
        stack.enter_context(Link(two)).up("10.9.0.2", "10.9.0.1")
    hosts.a.run("tc", "qdisc", "add", "dev", ifname, "root", "pfifo", "limit", "100")
    hosts.a.ping("10.9.0.2", "-s", "1400")
    inner = hosts.a.udp(("10.9.0.1", 4000), ("10.9.0.2", 7))

    def counts() -> tuple[int, int]:
        stats = [sock.stats() for sock in socks]
        return sum(s.tx_packets for s in stats), sum(s.tx_errors for s in stats)

    hosts.a.run("ip", "route", "add", f"{hosts.B4}/32", "dev", ifname)
    sent, lost = counts()
    for number in range(80):
        inner.send(bytes(1 + 17 * number))
    eventually(lambda: hosts.a.counters(ifname)["tx_packets"] >= 80 and counts()[1] >= lost + 80)
    at_once(*[lambda cpu=cpu: flood_from(cpu, inner) for cpu in os.sched_getaffinity(0)])
    at_rest = eventually(lambda: unchanged(counts))
    assert at_rest[0] == sent
    hosts.a.run("ip", "route", "del", f"{hosts.B4}/32", "dev", ifname)
    eventually(lambda: hosts.a.pings("10.9.0.2"))


def flood_from(cpu: int, sock: socket.socket) -> None:
    """The calling thread stays on the processor."""
    os.sched_setaffinity(0, {cpu})
    for _ in range(200):
        sock.send(bytes(1400))


def unchanged(read: Callable[[], tuple[int, int]]) -> tuple[int, int] | None:
    """What there is to read, unless that changes in a while."""
    before = read()
    time.sleep(0.2)
    return before if read() == before else None


# --- namespaces and the module

def test_namespace_ends(make_ns) -> None:
    """Sessions with and without sockets; those keep their namespace until they are closed."""
    name = system.module_of("l2tp_ppp")
    ns = make_ns("ends")
    ns.l2tp.tunnel(1, 2, version=2)
    ns.l2tp.session(1, 10, 20, PwType.PPP)
    ns.l2tp.session(1, 11, 21, PwType.PPP)
    link = PppSocket(ns)
    link.connect(Address(1, 11, 2, 21))
    channel = DevPpp(ns).attach(link.channel())
    ns.close()
    assert link.name().sid == 11
    link.close()
    assert channel.read() == b""
    channel.close()
    eventually(lambda: system.loaded()[name] == 0)
    settle()


@pytest.mark.only("rust", "PPP-UNLOAD: C's l2tp_ppp can be unloaded under sessions, which then "
                          "call into freed code")
@pytest.mark.unloads
def test_unload_under_sessions(ns: NetNS) -> None:
    """B4: the module goes, and all sessions before it."""
    ns.l2tp.tunnel(1, 2, version=2)
    ns.l2tp.session(1, 10, 20, PwType.PPP)
    PppSocket(ns).close()
    settle()
    system.unload()
    with pytest.raises(OSError):
        ns.read("pppol2tp")
    system.load()
    ns.forget_clients()
    assert ns.l2tp.tunnels() == []
    with PppSocket(ns) as sock:
        ns.l2tp.tunnel(1, 2, version=2)
        sock.connect(Address(1, 10, 2, 20))
        assert ns.l2tp.session_stats(1, 10)[Stat.TX_PACKETS] == 0
