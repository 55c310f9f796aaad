# SPDX-License-Identifier: GPL-2.0
"""What is left to devices: checksums, and cutting large packets into segments, in tunnels.

Whether our device takes such frames or the stack finishes them first, the wire looks the same.
"""

import contextlib
import re
import struct
import time
from collections.abc import Iterator

import pytest

from lib import attrs as nla
from lib import pair, system
from lib.differences import expect
from lib.netns import Hosts
from lib.uapi import Attr, Encap, L2Spec, Stat
from lib.wait import eventually
from lib.wire import Path, Session, Wire, checksum, frame, ip4, ip6, packed, pattern

TUNNELS = {
    "udp4": (10, Path(4, Encap.UDP, 5010, 6010)),
    "udp4-zero": (11, Path(4, Encap.UDP, 5011, 6011, zero_checksum=True)),
    "udp6": (12, Path(6, Encap.UDP, 5012, 6012)),
    "udp6-zero": (13, Path(6, Encap.UDP, 5013, 6013, zero_checksum=True)),
    "ip4": (14, Path(4, Encap.IP)),
    "ip6": (15, Path(6, Encap.IP)),
}
EXTRA = {"udp4": (nla.u8(Attr.UDP_CSUM, 1),), "udp6-zero": (nla.flag(Attr.UDP_ZERO_CSUM6_TX),)}
MSS = 500


class Ends:
    """A wire with all tunnels, each with two sessions: one numbers its frames."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.sessions: dict[tuple[str, bool], Session] = {}
        self.ns = dict.fromkeys(TUNNELS, 0)
        self.nr = dict.fromkeys(TUNNELS, 0)
        for name, (tid, path) in TUNNELS.items():
            self.wire.l2tp.tunnel(tid, tid + 100, encap=path.encap, local=path.a, peer=path.b,
                                  sport=path.sport, dport=path.dport, extra=EXTRA.get(name, ()))
            for seq in (False, True):
                sid = tid << 16 | seq
                session = Session(tid, sid, path, f"x{sid:x}", L2Spec.DEFAULT, bytes(range(8)),
                                  bytes(range(8, 16)))
                self.sessions[name, seq] = session.create(self.wire, send_seq=int(seq))

    def numbers(self, tunnel: str, seq: bool, count: int) -> list[int | None]:
        """What the next frames must be numbered."""
        if not seq:
            return [None] * count
        self.ns[tunnel] += count
        return list(range(self.ns[tunnel] - count, self.ns[tunnel]))


@pytest.fixture(scope="module")
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.wire.close()


# --- inner packets

A4, B4, A6, B6 = "10.0.0.1", "10.0.0.2", "fc00::1", "fc00::2"


def tcp(family: int, payload: bytes, at: int, last: bool, partial: bool = False) -> bytes:
    """A segment at `at` of a stream; only the last one has PSH. `partial`: the checksum field has the
    sum over the pseudo header."""
    head = struct.pack("!HHIIBBHHH", 1000, 2000, 7000 + at, 1, 5 << 4, 0x18 if last else 0x10,
                       9999, 0, 0)
    src, dst = (A4, B4) if family == 4 else (A6, B6)
    pseudo = packed(src) + packed(dst) + struct.pack("!II", len(head) + len(payload), 6)
    check = ~checksum(pseudo) & 0xffff if partial else checksum(pseudo + head + payload)
    return head[:16] + struct.pack("!H", check) + head[18:] + payload


def inner(family: int, payload: bytes, at: int = 0, last: bool = True, *, partial: bool = False,
          vlan: bool = False) -> bytes:
    """A frame with one TCP segment; IPv4 counts its packets from 50 on."""
    segment = tcp(family, payload, at, last, partial)
    if family == 4:
        packet, kind = ip4(A4, B4, 6, segment, ident=50 + at // MSS), 0x0800
    else:
        packet, kind = ip6(A6, B6, 6, segment), 0x86dd
    if vlan:
        return frame(struct.pack("!HH", 5, kind) + packet, ethertype=0x8100)
    return frame(packet, ethertype=kind)


def segments(family: int, data: bytes, vlan: bool = False) -> list[bytes]:
    """Frames with the segments of a stream."""
    return [inner(family, data[at:at + MSS], at, at + MSS >= len(data), vlan=vlan)
            for at in range(0, len(data), MSS)]


def transport(family: int, vlan: bool) -> int:
    return 14 + 4 * vlan + (20 if family == 4 else 40)


def check_sent(ends: Ends, session: Session, wanted: list[bytes], numbers: list) -> None:
    """These frames are all that has come out at the far end."""
    packets = ends.wire.packets()
    assert len(packets) == len(wanted)
    for packet, data, number in zip(packets, wanted, numbers):
        ident = struct.unpack("!H", packet[4:6])[0] if session.path.family == 4 else 0
        assert packet == session.path.outgoing(session.sent(data, number), ident)
    if session.path.family == 4:
        idents = [struct.unpack("!H", packet[4:6])[0] for packet in packets]
        assert len(set(idents)) == len(idents)


def switch(wire: Wire, session: Session, on: bool) -> None:
    """Features of our device; C's has none."""
    if system.impl() == "rust":
        wire.checksum_offload(on, session.ifname)


TUNNEL = pytest.mark.parametrize("tunnel", TUNNELS)
SEQ = pytest.mark.parametrize("seq", [False, True], ids=["plain", "seq"])


@TUNNEL
@SEQ
def test_segments(ends: Ends, tunnel: str, seq: bool) -> None:
    """Every byte of every segment of a large frame; with a tag, too; features on and off."""
    session, wire = ends.sessions[tunnel, seq], ends.wire
    data = pattern(2 * MSS + 123)
    for family, vlan, on in ((4, False, True), (6, False, True), (4, True, True), (6, True, True),
                             (4, False, False), (6, True, False)):
        switch(wire, session, on)
        wanted = segments(family, data, vlan)
        numbers = ends.numbers(tunnel, seq, len(wanted))
        counts = session.transmitted(*wanted)
        before = wire.counters()
        wire.transmit_unfinished(session.ifname, inner(family, data, partial=True, vlan=vlan),
                                 transport(family, vlan), 16, MSS)
        check_sent(ends, session, wanted, numbers)
        # The device counts what it was given, session and tunnel what is on the wire.
        changes = wire.changes(before)
        for name, value in counts.items():
            assert name.startswith("device") or changes.get(name) == value, name
    switch(wire, session, True)


@TUNNEL
@SEQ
def test_checksum(ends: Ends, tunnel: str, seq: bool) -> None:
    """One that is left to the device is right on the wire, and so is the one around it."""
    session, wire = ends.sessions[tunnel, seq], ends.wire
    for on in (True, False):
        switch(wire, session, on)
        for family, vlan in ((4, False), (6, False), (4, True)):
            wire.transmit_unfinished(session.ifname,
                                     inner(family, pattern(99), partial=True, vlan=vlan),
                                     transport(family, vlan), 16)
            check_sent(ends, session, [inner(family, pattern(99), vlan=vlan)],
                       ends.numbers(tunnel, seq, 1))
    switch(wire, session, True)


@TUNNEL
def test_segments_larger_than_the_path(ends: Ends, tunnel: str) -> None:
    """Segments that do not fit are sent in fragments, as any other frame is."""
    session, wire = ends.sessions[tunnel, False], ends.wire
    data = pattern(2800)
    wire.a.set_mtu("eth0", 1300)
    try:
        wire.transmit_unfinished(session.ifname, inner(4, data, partial=True),
                                 transport(4, False), 16, 1400)
        packets = wire.packets()
    finally:
        wire.a.set_mtu("eth0", 1500)
    assert len(packets) == 4 and all(len(packet) <= 1300 for packet in packets)
    # of the last fragment, the end of the payload
    assert packets[1].endswith(data[1300:1400]) and packets[3].endswith(data[2700:])


# --- what comes in together


#: A tick of the kernel's clock, at least.
TICK = 1 / 100

UDP_TUNNEL = pytest.mark.parametrize("tunnel", [name for name in TUNNELS if "udp" in name])
STREAM = pattern(2 * MSS + 123)


def received(session: Session, parts: list[bytes], below: bytes | None = None) -> dict[str, int]:
    """Counters; the device counts one frame if it was given them merged."""
    if below is None:
        return session.received(*parts)
    return (session.received(*parts, device=False)
            | session.device_counts(rx_packets=1, rx_bytes=len(below)))


def check_received(ends: Ends, tunnel: str, family: int, vlan: bool, merged: bool,
                   below: bool = False) -> None:
    """Segments that come in together are counted one by one; if `merged`, they go on as one frame,
    whose checksum is that of the pseudo header, as they have been checked."""
    session, wire = ends.sessions[tunnel, False], ends.wire
    parts = segments(family, STREAM, vlan)
    whole = inner(family, STREAM, partial=True, vlan=vlan)
    with wire.counting(received(session, parts, whole if merged and below else None)):
        wire.inject_together(session.path, *(session.header() + part for part in parts))
        seen = [(frame.data, frame.partial) for frame in wire.devices()]
    assert seen == ([(whole, True)] if merged else [(part, False) for part in parts])


@UDP_TUNNEL
def test_merged(ends: Ends, tunnel: str) -> None:
    """A stream crosses the device in large frames, until that is switched off."""
    merged = expect("GRO", c=False, rust=True)
    for family, vlan in ((4, False), (6, False), (4, True), (6, True)):
        check_received(ends, tunnel, family, vlan, merged)
    device = ends.sessions[tunnel, False].ifname
    ends.wire.receive_offload(False, device)
    check_received(ends, tunnel, 4, False, False)
    ends.wire.receive_offload(True, device)
    check_received(ends, tunnel, 4, False, merged)


@UDP_TUNNEL
def test_merged_below(ends: Ends, tunnel: str) -> None:
    """The device that the datagrams come in on merges them: ours has nothing left to do."""
    device = ends.sessions[tunnel, False].ifname
    ends.wire.receive_offload(False, device)
    with ends.wire.merging():
        for family, vlan in ((4, False), (6, False), (4, True), (6, True)):
            check_received(ends, tunnel, family, vlan, expect("GRO", c=False, rust=True), True)
    check_received(ends, tunnel, 4, False, False)
    ends.wire.receive_offload(True, device)


@UDP_TUNNEL
def test_not_merged_into_lists(ends: Ends, tunnel: str) -> None:
    """A list of segments is no large one: what is in it is looked at alone."""
    device = ends.sessions[tunnel, False].ifname
    ends.wire.receive_offload(False, device)
    with ends.wire.merging():
        ends.wire.a.run("ethtool", "-K", "eth0", "rx-gro-list", "on")
        for family in (4, 6):
            check_received(ends, tunnel, family, False, False)
        ends.wire.a.run("ethtool", "-K", "eth0", "rx-gro-list", "off")
    ends.wire.receive_offload(True, device)


def flush(wire: Wire) -> None:
    """What waits on eth0 goes on."""
    time.sleep(2 * TICK)
    wire.inject(ip4(wire.B4, wire.A4, 253, b""))


@pytest.mark.parametrize("tunnel", [name for name in TUNNELS if "ip" in name])
def test_merged_below_over_ip(ends: Ends, tunnel: str) -> None:
    """As over UDP; a message with another header, or of a session that is not there, goes alone."""
    session, wire = ends.sessions[tunnel, False], ends.wire
    merged = expect("GRO", c=False, rust=True)
    wire.receive_offload(False, session.ifname)
    hold(wire, "eth0")

    def arrive(parts: list[bytes], headers: list[bytes], wanted: list[tuple[bytes, bool]]) -> bool:
        """Unless the clock ticks meanwhile."""
        for header, part in zip(headers, parts):
            wire.inject(session.path.incoming(header + part))
        flush(wire)
        seen = [(frame.data, frame.partial) for frame in wire.devices()]
        alone = [(part, False) for part, header in zip(parts, headers) if header == session.header()]
        assert merged or seen == alone
        return seen == (wanted if merged else alone)

    with wire.merging():
        for family, vlan in ((4, False), (6, True)):
            parts = segments(family, STREAM, vlan)
            whole = inner(family, STREAM, partial=True, vlan=vlan)
            eventually(lambda: arrive(parts, [session.header()] * 3, [(whole, True)]),
                       what="a whole frame")
        wrong = session.header()[:-5] + b"?" + session.header()[-4:]
        first, middle, last = segments(4, STREAM)
        assert arrive([first, middle, last], [session.header(), wrong, session.header()],
                      [(first, False), (last, False)])
    hold(wire, "eth0", 0)
    wire.receive_offload(True, session.ifname)


def test_streams_of_two_sessions(ends: Ends) -> None:
    """Each is merged with its own."""
    wire, path = ends.wire, TUNNELS["udp6"][1]
    one = ends.sessions["udp6", False]
    other = Session(12, 9, path, "other", L2Spec.DEFAULT, b"", bytes(8)).create(wire)
    parts, whole = segments(6, pattern(2 * MSS)), inner(6, pattern(2 * MSS), partial=True)
    below = expect("GRO", c=None, rust=whole)
    with wire.merging(), wire.counting(received(one, parts, below), received(other, parts, below)):
        wire.inject_together(path, *(session.header() + part for part in parts
                                     for session in (one, other)))
        seen = sorted(wire.delivered())
    assert seen == sorted((session.ifname, data) for session in (one, other)
                          for data in ([below] if below else parts))
    wire.l2tp.del_session(12, 9)


MERGING = pytest.mark.parametrize("below", [False, True], ids=["device", "below"])


def merging(wire: Wire, below: bool) -> contextlib.AbstractContextManager[None]:
    return wire.merging() if below else contextlib.nullcontext()


@MERGING
@UDP_TUNNEL
def test_numbered_not_merged(ends: Ends, tunnel: str, below: bool) -> None:
    """Frames with numbers keep their order, and so each is handed on alone."""
    session, wire = ends.sessions[tunnel, True], ends.wire
    parts = segments(4, STREAM)
    ends.nr[tunnel] += len(parts)
    numbers = range(ends.nr[tunnel] - len(parts), ends.nr[tunnel])
    with merging(wire, below), wire.counting(session.received(*parts)):
        wire.inject_together(session.path, *(session.header(number) + part
                                             for number, part in zip(numbers, parts)))
        assert wire.delivered() == [(session.ifname, part) for part in parts]


@MERGING
@UDP_TUNNEL
def test_not_merged_with_what_is_refused(ends: Ends, tunnel: str, below: bool) -> None:
    """A segment with a wrong cookie, and one with a wrong checksum."""
    session, wire = ends.sessions[tunnel, False], ends.wire
    first, middle, last = segments(4, STREAM)
    wrong = session.header()[:-5] + b"?" + session.header()[-4:]
    with merging(wire, below), wire.counting(session.received(first, last),
                       session.counts(RX_COOKIE_DISCARDS=1, RX_ERRORS=1)):
        wire.inject_together(session.path, session.header() + first, wrong + middle,
                             session.header() + last)
        assert wire.delivered() == [(session.ifname, first), (session.ifname, last)]
    bad = middle[:-1] + bytes([middle[-1] ^ 1])
    with merging(wire, below), wire.counting(session.received(first, bad, last)):
        wire.inject_together(session.path, *(session.header() + part
                                             for part in (first, bad, last)))
        # What nobody can merge overtakes what waits for more.
        assert sorted(wire.delivered()) == sorted((session.ifname, part)
                                                  for part in (first, bad, last))


def test_managed_not_merged_below(ends: Ends) -> None:
    """What comes to a process's socket is not merged before; it gets control messages as they came."""
    wire, path = ends.wire, Path(4, Encap.UDP, 5020, 6020)
    sock = wire.a.udp((path.a, path.sport), (path.b, path.dport))
    wire.l2tp.tunnel(20, 120, fd=sock.fileno())
    session = Session(20, 20 << 16, path, "managed").create(wire)
    wire.receive_offload(False, "managed")
    parts = segments(4, STREAM)
    control = [struct.pack("!HHIHH", 0xc803, 100, 20, ns, 0) + pattern(88, ns) for ns in range(3)]
    with wire.merging():
        with wire.counting(session.received(*parts)):
            wire.inject_together(path, *(session.header() + part for part in parts))
            assert wire.delivered() == [("managed", part) for part in parts]
        wire.inject_together(path, *control)
        assert [sock.recv(2000) for _ in control] == control
    sock.close()
    eventually(lambda: not wire.l2tp.has_tunnel(20), what="the end of the tunnel")


def hold(wire: Wire, device: str, seconds: int = 600) -> None:
    """What may be merged with others waits for so long, or until something comes later."""
    wire.a.run("unshare", "-m", "sh", "-c", "mount -t sysfs sys /sys && "
               f"echo {seconds}000000000 >/sys/class/net/{device}/gro_flush_timeout")


@pytest.mark.only("rust", "GRO: in C nothing waits")
@pytest.mark.parametrize("tunnel", ["udp4", "ip4", "ip6"])
def test_session_goes_while_messages_wait(ends: Ends, tunnel: str) -> None:
    """Messages were merged in which the frame begins where it would not in another session."""
    wire, (tid, path) = ends.wire, TUNNELS[tunnel]
    sid = 1 << 24 | tid
    session = Session(tid, sid, path, "before", peer_cookie=bytes(8)).create(wire)
    # The last one would be waited for by nobody.
    parts = segments(4, STREAM)[:-1]

    def waits() -> bool:
        """Unless the clock has ticked meanwhile."""
        before = wire.a.counters("before")["rx_packets"]
        for part in parts:
            wire.inject(path.incoming(session.header() + part))
        return wire.a.counters("before")["rx_packets"] == before or not wire.delivered()

    with wire.merging():
        hold(wire, "eth0")
        eventually(waits, what="messages that wait")
        wire.l2tp.del_session(tid, sid)
        Session(tid, sid, path, "after", peer_cookie=bytes(4)).create(wire)
        with wire.counting():
            flush(wire)
            assert wire.delivered() == []
        wire.l2tp.del_session(tid, sid)
    hold(wire, "eth0", 0)


@pytest.mark.only("rust", "GRO: in C nothing waits")
def test_device_goes_while_frames_wait(ends: Ends) -> None:
    """Frames that wait to be merged with others go with the device."""
    wire, path = ends.wire, TUNNELS["udp4"][1]
    session = Session(10, 9, path, "held").create(wire)
    hold(wire, "held")

    def waits() -> bool:
        """Unless the clock has ticked meanwhile."""
        wire.inject(session.packet(segments(4, STREAM)[0]))
        return not wire.delivered()

    eventually(waits, what="a frame that waits")
    wire.l2tp.del_session(10, 9)
    eventually(lambda: wire.a.index("held") is None, what="the end of the device")


# --- both ends on one machine


@pytest.mark.parametrize("seq", [False, True], ids=["plain", "seq"])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("encap", [Encap.UDP, Encap.IP])
def test_stream(hosts: Hosts, encap: Encap, family: int, seq: bool) -> None:
    """A TCP stream between two ends that finish nothing arrives as it was sent, and is counted in
    packets of the path's size, not in those that the ends hand over."""
    wire = pair.Wire(hosts, encap, family, cookie=8, seq=seq).up()
    wire.ping()
    for inner_family in (4, 6):
        data = pair.tcp_transfer(hosts.a, hosts.b, wire.inner(inner_family)[1], 300_000)
        assert data == pair.pattern(300_000)
    # Not exactly: a stream sends again what the backlog of a slow machine has dropped.
    sent, received = wire.stats(0), wire.stats(1)
    assert sent[Stat.TX_BYTES] >= received[Stat.RX_BYTES] > 600_000
    assert sent[Stat.TX_PACKETS] >= received[Stat.RX_PACKETS] > 600_000 // 1500
    assert sent[Stat.TX_ERRORS] == 0


@pytest.mark.parametrize("encap", [Encap.UDP, Encap.IP])
def test_stream_in_ipsec(hosts: Hosts, encap: Encap) -> None:
    """With IPsec below, which can leave nothing to others, a stream arrives as it was sent."""
    for host, here, there, _, _ in hosts.both():
        for source, target, spi, direction in ((here, there, 1, "out"), (there, here, 2, "in")):
            number = spi if host is hosts.a else 3 - spi
            host.run("ip", "xfrm", "state", "add", "src", source, "dst", target, "proto", "esp",
                     "spi", str(number), "mode", "transport", "enc", "cbc(aes)", "0x" + "42" * 16,
                     "auth", "hmac(sha256)", "0x" + "23" * 32)
            host.run("ip", "xfrm", "policy", "add", "src", source, "dst", target, "dir", direction,
                     "tmpl", "src", source, "dst", target, "proto", "esp", "mode", "transport")
    wire = pair.Wire(hosts, encap).up()
    wire.ping()
    data = pair.tcp_transfer(hosts.a, hosts.b, wire.inner(4)[1], 200_000)
    assert data == pair.pattern(200_000)
    states = hosts.b.run("ip", "-s", "xfrm", "state").stdout
    assert set(re.findall(r"replay \d+ failed \d+", states)) == {"replay 0 failed 0"}
    assert max(int(count) for count in re.findall(r"(\d+)\(packets\)", states)) > 20


@pytest.mark.only("rust", "OFFLOAD: C's device takes finished frames only")
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("encap", [Encap.UDP, Encap.IP])
def test_stream_crosses_in_large_packets(hosts: Hosts, encap: int, family: int) -> None:
    """Without numbers, what TCP has sent at once reaches the other end at once; until that is
    switched off."""
    wire = pair.Wire(hosts, encap, family).up()

    def packets(size: int) -> int:
        before = hosts.b.counters("eth0")["rx_packets"]
        assert pair.tcp_transfer(hosts.a, hosts.b, wire.inner(4)[1], size) == pair.pattern(size)
        return hosts.b.counters("eth0")["rx_packets"] - before

    size = 1_000_000
    # On a slow machine, TCP makes packets of two segments.
    assert packets(size) < size // 1500 * 3 // 4
    for host in (hosts.a, hosts.b):
        host.run("ethtool", "-K", wire.device, "tso", "off", "gso", "off")
    assert packets(size) > size // 1500


@pytest.mark.only("rust", "OFFLOAD: C's device takes finished frames only")
def test_features(hosts: Hosts) -> None:
    """Each can be switched off."""
    wire = pair.Wire(hosts).up()

    def features() -> dict[str, str]:
        lines = hosts.a.run("ethtool", "-k", wire.device).stdout.splitlines()[1:]
        return dict(line.strip().split(": ") for line in lines)

    names = ("tx-checksumming", "scatter-gather", "tx-tcp-segmentation")
    assert [features()[name] for name in names] == ["on"] * 3
    assert features()["tx-gso-list"] == "off [fixed]"
    hosts.a.run("ethtool", "-K", wire.device, "tx", "off")
    assert features()["tx-tcp-segmentation"].startswith("off")
    wire.ping()
    hosts.a.run("ethtool", "-K", wire.device, "tx", "on")
    assert [features()[name] for name in names] == ["on"] * 3

