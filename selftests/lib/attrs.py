# SPDX-License-Identifier: GPL-2.0
"""Netlink attributes to bytes and back.  An encoder returns one padded attribute."""

import socket
import struct
from collections.abc import Iterator

from lib.uapi import Attr

#: One decoded attribute: the type as on the wire (flag bits included) and its payload.
RawAttr = tuple[int, bytes]


def raw(kind: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """One attribute; `length` overrides the length field (to build broken ones)."""
    if length is None:
        length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + bytes(-len(payload) % 4)


def u8(kind: int, value: int) -> bytes:
    return raw(kind, struct.pack("=B", value))


def u16(kind: int, value: int) -> bytes:
    return raw(kind, struct.pack("=H", value))


def u32(kind: int, value: int) -> bytes:
    return raw(kind, struct.pack("=I", value))


def u64(kind: int, value: int) -> bytes:
    return raw(kind, struct.pack("=Q", value))


def flag(kind: int) -> bytes:
    return raw(kind)


def string(kind: int, text: str) -> bytes:
    return raw(kind, text.encode() + b"\0")


def ip4(kind: int, address: str) -> bytes:
    return raw(kind, socket.inet_pton(socket.AF_INET, address))


def ip6(kind: int, address: str) -> bytes:
    return raw(kind, socket.inet_pton(socket.AF_INET6, address))


def parse(data: bytes) -> list[RawAttr]:
    """All attributes of `data` in order; a broken length is an error of the sender."""
    return list(_walk(data))


def _walk(data: bytes) -> Iterator[RawAttr]:
    at = 0
    while at < len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4 or at + length > len(data):
            raise ValueError(f"attribute {kind} at {at}: length {length} of {len(data) - at}")
        yield kind, data[at + 4:at + length]
        at += length + (-length % 4)


_INTEGER_SIZES = {
    Attr.PW_TYPE: 2, Attr.ENCAP_TYPE: 2, Attr.OFFSET: 2, Attr.DATA_SEQ: 1, Attr.L2SPEC_TYPE: 1,
    Attr.L2SPEC_LEN: 1, Attr.PROTO_VERSION: 1, Attr.CONN_ID: 4, Attr.PEER_CONN_ID: 4,
    Attr.SESSION_ID: 4, Attr.PEER_SESSION_ID: 4, Attr.UDP_CSUM: 1, Attr.VLAN_ID: 2, Attr.DEBUG: 4,
    Attr.RECV_SEQ: 1, Attr.SEND_SEQ: 1, Attr.LNS_MODE: 1, Attr.USING_IPSEC: 1,
    Attr.RECV_TIMEOUT: 8, Attr.FD: 4, Attr.IP_SADDR: 4, Attr.IP_DADDR: 4, Attr.UDP_SPORT: 2,
    Attr.UDP_DPORT: 2, Attr.MTU: 2, Attr.MRU: 2,
}

#: Size in bytes of every integer attribute of the family's policy (abi 2.3).
INTEGERS: dict[Attr, int] = _INTEGER_SIZES


def integer(kind: Attr, value: int, size: int | None = None) -> bytes:
    """`value` in the attribute's own width, or in `size` bytes; little endian like the CPU."""
    width = _INTEGER_SIZES[kind] if size is None else size
    return raw(kind, value.to_bytes(width, "little"))


def value(kind: int, payload: bytes) -> int | str | bytes:
    """The natural Python value of one L2TP attribute; unexpected widths raise."""
    if kind in (Attr.IP_SADDR, Attr.IP_DADDR):
        return socket.inet_ntop(socket.AF_INET, payload)
    if kind in (Attr.IP6_SADDR, Attr.IP6_DADDR):
        return socket.inet_ntop(socket.AF_INET6, payload)
    if kind == Attr.IFNAME:
        if payload[-1:] != b"\0":
            raise ValueError(f"IFNAME without NUL: {payload!r}")
        return payload[:-1].decode()
    width = _INTEGER_SIZES.get(kind)  # type: ignore[call-overload]
    if width is None:
        return payload
    if len(payload) != width:
        raise ValueError(f"attribute {kind}: {len(payload)} bytes, not {width}")
    return int.from_bytes(payload, "little")
