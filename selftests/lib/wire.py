# SPDX-License-Identifier: GPL-2.0
"""Packets by hand: outer and L2TP headers, a wire whose far end is the test, exact counters.

Everything is struct and AF_PACKET: scapy alone takes longer to import under emulation than all
tests that would use it.
"""

from __future__ import annotations

import ctypes
import fcntl
import itertools
import os
import pathlib
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from lib import attrs as nla
from lib import netns
from lib.differences import expect
from lib.netlink import NetlinkError
from lib.netns import NetNS
from lib.uapi import Attr, Cmd, Encap, L2Spec, Stat

ETH_P_ALL, ETH_P_IP, ETH_P_IPV6, ETH_P_TEST = 3, 0x0800, 0x86dd, 0x88b5
PACKET_HOST, PACKET_BROADCAST, PACKET_MULTICAST, PACKET_OTHERHOST = 0, 1, 2, 3
_SOL_PACKET, _PACKET_AUXDATA, _PACKET_IGNORE_OUTGOING = 263, 8, 23
_TP_STATUS_CSUMNOTREADY, _TP_STATUS_VLAN_VALID, _TP_STATUS_VLAN_TPID_VALID = 0x08, 0x10, 0x40
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_BACKLOG = pathlib.Path("/proc/sys/net/core/netdev_max_backlog")

IP_MF, IP_DF = 0x2000, 0x4000


# --- headers

def checksum(data: bytes) -> int:
    """The internet checksum."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def ip4(src: str, dst: str, proto: int, payload: bytes, *, ttl: int = 64, tos: int = 0,
        ident: int = 0, frag: int = 0) -> bytes:
    """`frag` is the flags and the offset, as on the wire."""
    head = struct.pack("!BBHHHBBH4s4s", 0x45, tos, 20 + len(payload), ident, frag, ttl, proto, 0,
                       packed(src), packed(dst))
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ip6(src: str, dst: str, proto: int, payload: bytes, *, ttl: int = 64, tos: int = 0) -> bytes:
    """`tos` is the traffic class, `ttl` the hop limit; the flow label is 0."""
    return struct.pack("!IHBB16s16s", 6 << 28 | tos << 20, len(payload), proto, ttl,
                       packed(src), packed(dst)) + payload


def udp(src: str, dst: str, sport: int, dport: int, payload: bytes, *,
        check: int | None = None) -> bytes:
    """`check` overrides the right checksum; 0 means none."""
    length = 8 + len(payload)
    head = struct.pack("!HHHH", sport, dport, length, 0)
    if check is None:
        pseudo = packed(src) + packed(dst) + struct.pack("!II", length, socket.IPPROTO_UDP)
        check = checksum(pseudo + head + payload) or 0xffff
    return head[:6] + struct.pack("!H", check) + payload


def fragments4(packet: bytes, size: int, ident: int) -> list[bytes]:
    """An IPv4 packet without options in fragments of `size` bytes of payload, a multiple of 8."""
    src, dst = (socket.inet_ntop(socket.AF_INET, packet[at:at + 4]) for at in (12, 16))
    body = packet[20:]
    return [ip4(src, dst, packet[9], body[at:at + size], ident=ident,
                frag=at // 8 | (IP_MF if at + size < len(body) else 0))
            for at in range(0, len(body), size)]


def fragments6(packet: bytes, size: int, ident: int) -> list[bytes]:
    """The same for IPv6 without extension headers."""
    src, dst = (socket.inet_ntop(socket.AF_INET6, packet[at:at + 16]) for at in (8, 24))
    body = packet[40:]
    return [ip6(src, dst, 44, struct.pack("!BBHI", packet[6], 0,
                                          at | (at + size < len(body)), ident)
                + body[at:at + size])
            for at in range(0, len(body), size)]


def frame(payload: bytes = b"", *, dst: bytes = b"\xff" * 6, src: bytes = b"\2\0\0\0\0\x77",
          ethertype: int = ETH_P_TEST) -> bytes:
    """An Ethernet frame, 14 bytes and more: neither padded nor checked."""
    return dst + src + struct.pack("!H", ethertype) + payload


def pattern(length: int, seed: int = 1) -> bytes:
    """Bytes in which a shift, a swap or a hole shows."""
    return bytes((seed * 89 + n * 7 + (n >> 8) * 13) & 0xff for n in range(length))


@dataclass(frozen=True)
class Path:
    """What is around the L2TP messages of one tunnel: `a` is our end, `b` the test."""
    family: int
    encap: Encap = Encap.UDP
    sport: int = 0
    dport: int = 0
    zero_checksum: bool = False
    ttl: int = 64
    tos: int = 0

    @property
    def a(self) -> str:
        return Wire.A4 if self.family == 4 else Wire.A6

    @property
    def b(self) -> str:
        return Wire.B4 if self.family == 4 else Wire.B6

    @property
    def proto(self) -> int:
        return socket.IPPROTO_UDP if self.encap == Encap.UDP else 115

    @property
    def outer_len(self) -> int:
        return (20 if self.family == 4 else 40) + (8 if self.encap == Encap.UDP else 0)

    def _wrap(self, src: str, dst: str, payload: bytes, **kwargs) -> bytes:
        return (ip4 if self.family == 4 else ip6)(src, dst, self.proto, payload, **kwargs)

    def datagram(self, message: bytes) -> bytes:
        """What our end must send, from the UDP header on if there is one."""
        if self.encap == Encap.IP:
            return message
        return udp(self.a, self.b, self.sport, self.dport, message,
                   check=0 if self.zero_checksum else None)

    def outgoing(self, message: bytes, ident: int = 0) -> bytes:
        """The IP packet that our end must send; IPv4 has an identification, anything goes."""
        extra = {"ident": ident} if self.family == 4 else {}
        return self._wrap(self.a, self.b, self.datagram(message), ttl=self.ttl, tos=self.tos,
                          **extra)

    def incoming(self, message: bytes, *, check: int | None = None, src: str = "", dst: str = "",
                 **kwargs) -> bytes:
        """An IP packet from the far end, or as if from `src`, to `dst`."""
        src, dst = src or self.b, dst or self.a
        if self.encap == Encap.UDP:
            message = udp(src, dst, self.dport, self.sport, message, check=check)
        return self._wrap(src, dst, message, **kwargs)

    def fragments(self, packet: bytes, size: int, ident: int) -> list[bytes]:
        return (fragments4 if self.family == 4 else fragments6)(packet, size, ident)


def data_header(encap: Encap, sid: int, cookie: bytes = b"", l2spec: int = L2Spec.DEFAULT,
                ns: int | None = None, *, flags: int = 0x0003, reserved: int = 0,
                sublayer: int | None = None) -> bytes:
    """The header of a v3 data message."""
    out = struct.pack("!HH", flags, reserved) if encap == Encap.UDP else b""
    out += struct.pack("!I", sid) + cookie
    if l2spec == L2Spec.DEFAULT:
        if sublayer is None:
            sublayer = 0 if ns is None else 0x40000000 | ns
        out += struct.pack("!I", sublayer)
    return out


@dataclass(frozen=True)
class Session:
    """An Ethernet session as the wire sees it."""
    tid: int
    sid: int
    path: Path
    ifname: str
    l2spec: int = L2Spec.DEFAULT
    cookie: bytes = b""
    peer_cookie: bytes = b""

    def over(self, path: Path) -> Session:
        """The same session, met by packets with other outer headers."""
        return replace(self, path=path)

    @property
    def peer_sid(self) -> int:
        return self.sid ^ 0xa5000000

    def sent(self, inner: bytes, ns: int | None = None) -> bytes:
        """The message that our end must send."""
        return data_header(self.path.encap, self.peer_sid, self.cookie, self.l2spec, ns) + inner

    def header(self, ns: int | None = None, **kwargs) -> bytes:
        """The header of a message to our end."""
        return data_header(self.path.encap, self.sid, self.peer_cookie, self.l2spec, ns, **kwargs)

    def packet(self, inner: bytes, ns: int | None = None, **kwargs) -> bytes:
        """An IP packet with a message to our end."""
        return self.path.incoming(self.header(ns, **kwargs) + inner)

    def create(self, wire: Wire, **kwargs) -> Session:
        """Session and device, up."""
        wire.l2tp.session(self.tid, self.sid, self.peer_sid, l2spec=self.l2spec,
                          cookie=self.cookie, peer_cookie=self.peer_cookie, ifname=self.ifname,
                          **kwargs)
        wire.a.up(self.ifname)
        return self

    # --- what must have changed, for Wire.changes()

    def counts(self, **changes: int) -> dict[str, int]:
        return {f"session {self.tid}/{self.sid} {Stat[name].name}": value
                for name, value in changes.items() if value}

    def tunnel_counts(self, **changes: int) -> dict[str, int]:
        return tunnel_counts(self.tid, **changes)

    def device_counts(self, **changes: int) -> dict[str, int]:
        return {f"device {self.ifname} {name}": value for name, value in changes.items() if value}

    def received(self, *inners: bytes, device: bool = True) -> dict[str, int]:
        """Frames that reached the device (1.13; C's counts the L2TP headers, too);
        `device=False`: that it dropped unseen."""
        size = sum(map(len, inners)) + len(inners) * len(self.header())
        both = {"RX_PACKETS": len(inners), "RX_BYTES": size}
        out = self.counts(**both) | self.tunnel_counts(**both)
        if device:
            out |= self.device_counts(rx_packets=len(inners),
                                      rx_bytes=expect("B21", c=size, rust=sum(map(len, inners))))
        return out

    def transmitted(self, *inners: bytes) -> dict[str, int]:
        size = sum(map(len, inners))
        both = {"TX_PACKETS": len(inners), "TX_BYTES": size + len(inners) * len(self.sent(b""))}
        return (self.counts(**both) | self.tunnel_counts(**both)
                | self.device_counts(tx_packets=len(inners), tx_bytes=size))


def tunnel_counts(tid: int, **changes: int) -> dict[str, int]:
    return {f"tunnel {tid} {Stat[name].name}": value for name, value in changes.items() if value}


# --- the wire

@dataclass(frozen=True)
class Captured:
    ifname: str
    data: bytes
    kind: int
    partial: bool  # the device is to complete the checksum


class Wire:
    """Namespace `a` has the module's tunnels; from `b` the test reads and writes raw frames.

    `b` has no address and says nothing by itself.  While one is open, the process stays on one
    processor: then packets keep their order through every queue, and whatever was caused by
    packets sent earlier has happened when settle() returns.
    """

    A4, B4 = "192.0.2.1", "192.0.2.2"
    A6, B6 = "2001:db8::1", "2001:db8::2"
    MAC_A, MAC_B = b"\2\0\0\0\0\x0a", b"\2\0\0\0\0\x0b"

    def __init__(self, mtu: int = 1500) -> None:
        self._cpus = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(self._cpus)})
        # what leaves a reorder queue at once must not be lost behind it
        self._backlog = _BACKLOG.read_text()
        _BACKLOG.write_text("5000")
        self.a = NetNS("a")
        self.b = NetNS("b")
        self.b.sysctl("net/ipv6/conf/default/disable_ipv6", 1)
        self.a.sysctl("net/ipv6/auto_flowlabels", 0)
        # nobody asks for routers, now and then
        self.a.sysctl("net/ipv6/conf/default/router_solicitations", 0)
        netns.veth(self.a, "eth0", self.b, "eth0")
        for ns, mac in ((self.a, self.MAC_A), (self.b, self.MAC_B)):
            ns.rtnl.set(ns.link("eth0").index, nla.raw(1, mac), nla.u32(4, mtu))
        self.checksum_offload(False)
        self.a.addr("eth0", f"{self.A4}/24", f"{self.A6}/64")
        # our l2tpeth devices must not talk on their own
        self.a.sysctl("net/ipv6/conf/default/disable_ipv6", 1)
        for address in (self.B4, self.B6):
            self.neighbour(address)
        self._tap_a = self._tap(self.a)
        self._see_marks_only(self._tap_a)
        self._tap_b = self._tap(self.b)
        self._from_b: socket.socket | None = None
        self._unfinished: socket.socket | None = None
        self._marks = itertools.count(1)

    def close(self) -> None:
        self.a.close()
        self.b.close()
        _BACKLOG.write_text(self._backlog)
        os.sched_setaffinity(0, self._cpus)

    @property
    def l2tp(self):
        return self.a.l2tp

    def checksum_offload(self, on: bool, ifname: str = "eth0", ns: NetNS | None = None) -> None:
        """Off: checksums are complete in the frames that the far end sees, and none stands for
        several."""
        self._switch(0x17, on, ifname, ns or self.a)  # ETHTOOL_STXCSUM

    def receive_offload(self, on: bool, ifname: str) -> None:
        """Off: what has come in is not merged."""
        self._switch(0x2c, on, ifname, self.a)  # ETHTOOL_SGRO

    @contextmanager
    def merging(self) -> Iterator[None]:
        """As long as the block runs, our end's eth0 merges what comes in together."""
        self.checksum_offload(False, ns=self.b)
        self.receive_offload(True, "eth0")
        try:
            yield
        finally:
            self.receive_offload(False, "eth0")
            self.checksum_offload(True, ns=self.b)

    @staticmethod
    def _switch(command: int, on: bool, ifname: str, ns: NetNS) -> None:
        value = ctypes.create_string_buffer(struct.pack("=II", command, on))
        request = struct.pack("=16sQ16x", ifname.encode(), ctypes.addressof(value))
        fcntl.ioctl(ns.socket(), 0x8946, request)  # SIOCETHTOOL

    def neighbour(self, address: str, mac: bytes = MAC_B) -> None:
        """Our end knows where to send to an address on the wire."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        body = struct.pack("=BxxxiHBB", family, self.a.link("eth0").index, 0x80, 0, 1)
        body += nla.raw(1, packed(address)) + nla.raw(2, mac)
        reply = self.a.rtnl.request(28, body, 0x400)  # RTM_NEWNEIGH, CREATE
        if reply.errno:
            raise NetlinkError(reply)

    @staticmethod
    def _tap(ns: NetNS) -> socket.socket:
        sock = ns.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL), timeout=10)
        sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        sock.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)
        return sock

    def _see_marks_only(self, tap: socket.socket) -> None:
        """Of what comes in at our end's eth0.  A capture makes the kernel clone the buffer, which
        must be the exception: see copies()."""
        program = b"".join(struct.pack("=HBBI", *code) for code in (
            (0x20, 0, 0, 0xfffff000 + 8),  # A = interface index
            (0x15, 0, 2, self.a.link("eth0").index),
            (0x28, 0, 0, 12),  # A = ethertype
            (0x15, 0, 1, ETH_P_TEST),
            (0x06, 0, 0, 1 << 18),
            (0x06, 0, 0, 0)))
        code = ctypes.create_string_buffer(program)
        tap.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER,
                       struct.pack("=H6xQ", len(program) // 8, ctypes.addressof(code)))

    # --- sending and capturing

    @contextmanager
    def copies(self, ifname: str) -> Iterator[list[bytes]]:
        """All frames on one of our end's interfaces, both ways.  As long as the block runs, each
        buffer that the module gets has a clone, whose contents it must not touch."""
        tap = self.a.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        tap.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)
        tap.bind((ifname, ETH_P_ALL))
        out: list[bytes] = []
        yield out
        out += queued(tap)
        tap.close()

    def _read(self, tap: socket.socket) -> Captured:
        data, ancillary, flags, address = tap.recvmsg(1 << 17, 64)
        assert not flags & socket.MSG_TRUNC
        partial = False
        for level, kind, aux in ancillary:
            if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
                status, _, _, _, _, tci, tpid = struct.unpack("=IIIHHHH", aux[:20])
                partial = bool(status & _TP_STATUS_CSUMNOTREADY)
                if status & _TP_STATUS_VLAN_VALID:  # put back what the stack took out
                    assert status & _TP_STATUS_VLAN_TPID_VALID
                    data = data[:12] + struct.pack("!HH", tpid, tci) + data[12:]
        return Captured(address[0], data, address[2], partial)

    def _settle(self, sender: socket.socket, tap: socket.socket, dst: bytes) -> list[Captured]:
        """Everything captured up to a mark that follows whatever was caused before.

        Two marks: a frame that a packet before the first one brought may be queued behind it.
        """
        out = []
        for _ in range(2):
            mark = dst + b"mark\0\0" + struct.pack("!HI", ETH_P_TEST, next(self._marks))
            sender.sendto(mark, ("eth0", 0))
            while True:
                seen = self._read(tap)
                if seen.ifname == "eth0" and seen.data == mark:
                    break
                out.append(seen)
        return out

    def inject(self, *packets: bytes) -> None:
        """IP packets from the far end."""
        for packet in packets:
            kind = ETH_P_IP if packet[0] >> 4 == 4 else ETH_P_IPV6
            self._tap_b.sendto(self.MAC_A + self.MAC_B + struct.pack("!H", kind) + packet,
                               ("eth0", 0))

    def inject_frame(self, data: bytes) -> None:
        """With the Ethernet header, and perhaps padding."""
        self._tap_b.sendto(data, ("eth0", 0))

    @staticmethod
    def _vnet(ns: NetNS) -> socket.socket:
        """For frames that follow a struct virtio_net_hdr."""
        sock = ns.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sock.setsockopt(_SOL_PACKET, 15, 1)  # PACKET_VNET_HDR
        return sock

    def transmit_unfinished(self, ifname: str, data: bytes, checksum_from: int, checksum_at: int,
                            segment: int = 0) -> None:
        """A frame from our end's stack whose checksum is left to the device: that of the bytes from
        `checksum_from` on, to be stored `checksum_at` bytes further.  With `segment`, it is TCP,
        and is to be cut into segments of so many bytes."""
        if self._unfinished is None:
            self._unfinished = self._vnet(self.a)
        kind = 0
        if segment:
            kind = 4 if ETH_P_IPV6 in struct.unpack("!12x3H", data[:18]) else 1
        vnet = struct.pack("=BBHHHH", 1, kind, checksum_from + 20, segment, checksum_from,
                           checksum_at)
        self._unfinished.sendto(vnet + data, (ifname, 0))

    def inject_paged(self, packet: bytes) -> None:
        """A packet of a page and more, of which nothing but the Ethernet header is linear."""
        assert len(packet) > 4096
        self._inject_unfinished(packet, 0, 0, 14, 0, 0, 0)

    def inject_together(self, path: Path, *messages: bytes) -> None:
        """Datagrams from the far end that come in one after the other, with nothing in between.
        All messages but the last, which may be shorter, have the same length."""
        ip_len = path.outer_len - 8
        pseudo = (packed(path.b) + packed(path.a)
                  + struct.pack("!II", 8 + sum(map(len, messages)), socket.IPPROTO_UDP))
        # VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_UDP_L4
        self._inject_unfinished(path.incoming(b"".join(messages), check=~checksum(pseudo) & 0xffff),
                                1, 5, 14 + path.outer_len, len(messages[0]), 14 + ip_len, 6)

    def _inject_unfinished(self, packet: bytes, *vnet: int) -> None:
        if self._from_b is None:
            self._from_b = self._vnet(self.b)
        kind = ETH_P_IP if packet[0] >> 4 == 4 else ETH_P_IPV6
        self._from_b.sendto(struct.pack("=BBHHHH", *vnet) + self.MAC_A + self.MAC_B
                            + struct.pack("!H", kind) + packet, ("eth0", 0))

    def devices(self) -> list[Captured]:
        """What our devices received since the last call, in order."""
        return [seen for seen in self._settle(self._tap_b, self._tap_a, self.MAC_A)
                if seen.ifname not in ("eth0", "lo")]

    def delivered(self) -> list[tuple[str, bytes]]:
        return [(seen.ifname, seen.data) for seen in self.devices()]

    def transmit(self, ifname: str, *frames: bytes) -> None:
        """Frames from our end's stack onto one of its devices."""
        for data in frames:
            self._tap_a.sendto(data, (ifname, 0))

    def packets(self, partial: bool = False) -> list[bytes]:
        """The IP packets our end has sent to the far one since the last call."""
        pairs = {(packed(self.A4), packed(self.B4)), (packed(self.A6), packed(self.B6))}
        out = []
        for seen in self._settle(self._tap_a, self._tap_b, self.MAC_B):
            data = seen.data[14:]
            kind = struct.unpack("!H", seen.data[12:14])[0]
            ends = ((data[12:16], data[16:20]) if kind == ETH_P_IP else
                    (data[8:24], data[24:40]) if kind == ETH_P_IPV6 else None)
            if ends in pairs:
                assert seen.data[:12] == self.MAC_B + self.MAC_A and seen.partial == partial
                out.append(data)
        return out

    def all_packets(self) -> list[bytes]:
        """The IP packets our end has sent to anybody since the last call."""
        return [seen.data[14:] for seen in self._settle(self._tap_a, self._tap_b, self.MAC_B)
                if seen.data[12:14] in (b"\x08\x00", b"\x86\xdd")]

    # --- counters

    def counters(self) -> dict[bytes, bytes]:
        """Every tunnel, session and device with its counters, as the kernel wrote them."""
        out = {}
        for cmd in (Cmd.TUNNEL_GET, Cmd.SESSION_GET):
            for chunk in self.l2tp.dump_chunks(cmd):
                for message in chunk:
                    # begins with version and id, or with both ids
                    out[message.payload[:20]] = message.payload
        for line in self.a.read("dev").encode().splitlines()[2:]:
            ifname, _, rest = line.partition(b":")
            out[ifname.strip()] = rest
        del out[b"lo"], out[b"eth0"]
        return out

    def changes(self, before: dict[bytes, bytes]) -> dict[str, int]:
        """The counters that are not what they were, and send_seq."""
        out = {}
        for key, record in self.counters().items():
            old = before.get(key, b"")
            if record != old:
                was = dict(_numbers(key, old)) if old else {}
                out.update({name: value - was.get(name, 0) for name, value in _numbers(key, record)
                            if value != was.get(name, 0)})
        return out

    @contextmanager
    def counting(self, *expected: dict[str, int]) -> Iterator[None]:
        """The block changes these counters, by these amounts, and no others."""
        before = self.counters()
        yield
        changes, wanted = self.changes(before), merge(*expected)
        wrong = [f"{name}: {changes.get(name, 0):+}, expected {wanted.get(name, 0):+}"
                 for name in sorted(changes.keys() | wanted.keys())
                 if changes.get(name, 0) != wanted.get(name, 0)]
        assert not wrong, "counters:\n" + "\n".join(wrong)


_DEVICE_COLUMNS = ((0, "rx_bytes"), (1, "rx_packets"), (2, "rx_errors"), (3, "rx_dropped"),
                   (8, "tx_bytes"), (9, "tx_packets"), (10, "tx_errors"), (11, "tx_dropped"))


def _numbers(key: bytes, record: bytes) -> Iterator[tuple[str, int]]:
    """Names and values of the numbers in one record of Wire.counters()."""
    if len(key) < 20:
        values = record.split()
        for column, what in _DEVICE_COLUMNS:
            yield f"device {key.decode()} {what}", int(values[column])
        return
    found = dict(nla.parse(record[4:]))
    name = f"tunnel {_u32(found[Attr.CONN_ID])}"
    if Attr.SESSION_ID in found:
        name = f"session {_u32(found[Attr.CONN_ID])}/{_u32(found[Attr.SESSION_ID])}"
        yield f"{name} send_seq", found[Attr.SEND_SEQ][0]
    for kind, value in nla.parse(found[Attr.STATS]):
        yield f"{name} {Stat(kind).name}", int.from_bytes(value, "little")


def _u32(value: bytes) -> int:
    return struct.unpack("=I", value)[0]


def merge(*parts: dict[str, int]) -> dict[str, int]:
    """The sum of several changes."""
    out: dict[str, int] = {}
    for part in parts:
        for name, value in part.items():
            out[name] = out.get(name, 0) + value
    return {name: value for name, value in out.items() if value}


def queued(sock: socket.socket) -> list[bytes]:
    """The datagrams that wait on a socket."""
    out = []
    sock.settimeout(0)
    while True:
        try:
            out.append(sock.recv(1 << 16))
        except BlockingIOError:
            return out


def reassemble4(packets: Iterable[bytes]) -> bytes:
    """The whole IPv4 packet of these fragments, each of them checked, in order, without a gap."""
    whole, head, last = b"", b"", False
    for packet in packets:
        ident, frag = struct.unpack("!HH", packet[4:8])
        assert not last and frag & 0x1fff == len(whole) // 8 and len(whole) % 8 == 0
        assert packet == ip4(socket.inet_ntop(2, packet[12:16]), socket.inet_ntop(2, packet[16:20]),
                             packet[9], packet[20:], ttl=packet[8], tos=packet[1], ident=ident,
                             frag=frag)
        assert len(packet) <= 1500 and not frag & ~(IP_MF | 0x1fff)
        head = head or packet
        assert packet[4:6] == head[4:6]
        last = not frag & IP_MF
        whole += packet[20:]
    assert last
    return ip4(socket.inet_ntop(2, head[12:16]), socket.inet_ntop(2, head[16:20]), head[9], whole,
               ttl=head[8], tos=head[1], ident=struct.unpack("!H", head[4:6])[0])


def reassemble6(packets: Iterable[bytes]) -> bytes:
    whole, head, last = b"", b"", False
    for packet in packets:
        assert packet[6] == 44 and len(packet) <= 1500
        assert struct.unpack("!H", packet[4:6])[0] == len(packet) - 40
        kind, reserved, frag, ident = struct.unpack("!BBHI", packet[40:48])
        assert not last and frag & 0xfff8 == len(whole) and reserved == 0
        head = head or packet
        assert packet[:4] + packet[7:41] + packet[44:48] == head[:4] + head[7:41] + head[44:48]
        last = not frag & 1
        whole += packet[48:]
    assert last
    return (head[:4] + struct.pack("!HB", len(whole), head[40]) + head[7:40] + whole)
