# SPDX-License-Identifier: GPL-2.0
"""A netlink socket that hides nothing: the caller decides on every byte."""

import errno as errnos
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from lib import attrs as nla
from lib import uapi
from lib.attrs import RawAttr


@dataclass(frozen=True)
class Message:
    """One netlink message; `header` bytes of family header come before the attributes."""
    kind: int
    flags: int
    seq: int
    portid: int
    payload: bytes
    header: int = 4

    @property
    def cmd(self) -> int:
        """Command of a generic netlink message."""
        return self.payload[0]

    @property
    def version(self) -> int:
        """Family version of a generic netlink message."""
        return self.payload[1]

    @property
    def attrs(self) -> list[RawAttr]:
        return nla.parse(self.payload[self.header:])

    def order(self) -> list[int]:
        """Attribute types as they follow each other on the wire."""
        return [kind for kind, _ in self.attrs]

    def __contains__(self, kind: int) -> bool:
        return kind in self.order()

    def raw(self, kind: int) -> bytes:
        """Payload of an attribute that is there exactly once."""
        found = [payload for have, payload in self.attrs if have == kind]
        if len(found) != 1:
            raise KeyError(f"attribute {kind}: {len(found)} times among {self.order()}")
        return found[0]


@dataclass
class Reply:
    """What one request brought: the messages, the errno of the ack, the extended ack."""
    errno: int = 0
    messages: list[Message] = field(default_factory=list)
    extack: str = ""
    offset: int | None = None
    missing: int | None = None

    def __str__(self) -> str:
        name = errnos.errorcode.get(self.errno, str(self.errno)) if self.errno else "ok"
        return f"{name} extack={self.extack!r} offset={self.offset} missing={self.missing}"

    @property
    def one(self):
        assert len(self.messages) == 1, self.messages
        return self.messages[0]


class NetlinkError(OSError):
    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.errno, f"{os.strerror(reply.errno)}: {reply.extack!r}")
        self.reply = reply


class Netlink:
    """One netlink socket, in the namespace of the thread that makes it."""

    message: type[Message] = Message

    def __init__(self, protocol: int, *, recv_size: int = 65536, rcvbuf: int | None = None,
                 timeout: float = 20.0) -> None:
        self.recv_size = recv_size
        self.sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        if rcvbuf is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.bind((0, 0))
        self.sock.settimeout(timeout)
        self.sock.setsockopt(uapi.SOL_NETLINK, uapi.NETLINK_EXT_ACK, 1)
        self.sock.setsockopt(uapi.SOL_NETLINK, uapi.NETLINK_CAP_ACK, 1)
        self.portid: int = self.sock.getsockname()[0]
        self._seq = 1000

    def close(self) -> None:
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def send(self, kind: int, payload: bytes, flags: int, seq: int | None = None) -> int:
        """Send one message, return its sequence number."""
        if seq is None:
            self._seq += 1
            seq = self._seq
        header = struct.pack("=IHHII", 16 + len(payload), kind, flags, seq, self.portid)
        self.sock.send(header + payload)
        return seq

    def recv(self) -> list[Message]:
        """The messages of the next datagram.

        The kernel makes the chunks of a dump as large as the largest read so far on the socket.
        """
        data, _, flags, _ = self.sock.recvmsg(self.recv_size)
        assert not flags & socket.MSG_TRUNC, f"datagram longer than {self.recv_size} bytes"
        return self.decode(data)

    def decode(self, data: bytes) -> list[Message]:
        out = []
        at = 0
        while at < len(data):
            length, kind, flags, seq, portid = struct.unpack_from("=IHHII", data, at)
            assert 16 <= length <= len(data) - at, f"message of {length} in {len(data) - at} bytes"
            out.append(self.message(kind, flags, seq, portid, data[at + 16:at + length]))
            at += length + (-length % 4)
        return out

    def request(self, kind: int, payload: bytes, flags: int = 0) -> Reply:
        """Send with REQUEST|ACK and read up to the ack; an error is a result, not an exception."""
        seq = self.send(kind, payload, uapi.NLM_F_REQUEST | uapi.NLM_F_ACK | flags)
        return self.read_reply(seq)

    def read_reply(self, seq: int) -> Reply:
        reply = Reply()
        while True:
            for message in self.recv():
                assert message.seq == seq, f"answer to {message.seq} instead of {seq}"
                if message.kind in (uapi.NLMSG_ERROR, uapi.NLMSG_DONE):
                    read_ack(message, reply)
                    return reply
                reply.messages.append(message)

    def read_dump(self, seq: int) -> Iterator[list[Message]]:
        """The messages of a dump, datagram by datagram, without the final DONE (status 0)."""
        while True:
            out = []
            for message in self.recv():
                assert message.seq == seq, f"answer to {message.seq} instead of {seq}"
                if message.kind == uapi.NLMSG_ERROR:
                    reply = Reply()
                    read_ack(message, reply)
                    raise NetlinkError(reply)
                if message.kind == uapi.NLMSG_DONE:
                    status = struct.unpack_from("=i", message.payload)[0]
                    assert status == 0, f"dump ended with {status}"
                    if out:
                        yield out
                    return
                out.append(message)
            yield out


def read_ack(message: Message, reply: Reply) -> None:
    """Errno and extended-ack attributes of an NLMSG_ERROR or NLMSG_DONE message."""
    reply.errno = -struct.unpack_from("=i", message.payload)[0]
    if not message.flags & uapi.NLM_F_ACK_TLVS:
        return
    start = 4 if message.kind == uapi.NLMSG_DONE else 20
    for kind, payload in nla.parse(message.payload[start:]):
        if kind == uapi.NLMSGERR_ATTR_MSG:
            reply.extack = payload.rstrip(b"\0").decode()
        elif kind == uapi.NLMSGERR_ATTR_OFFS:
            reply.offset = struct.unpack("=I", payload)[0]
        elif kind == uapi.NLMSGERR_ATTR_MISS_TYPE:
            reply.missing = struct.unpack("=I", payload)[0]
