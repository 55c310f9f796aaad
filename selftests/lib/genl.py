# SPDX-License-Identifier: GPL-2.0
"""The generic netlink family `l2tp`, from raw requests up to one-line helpers."""

import contextlib
import errno as errnos
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from lib import attrs as nla
from lib import uapi
from lib.netlink import Message, Netlink, NetlinkError, Reply
from lib.uapi import Attr, Cmd, Stat


@dataclass(frozen=True)
class L2tpMessage(Message):
    """A message of the family; `message[Attr.X]` is the decoded value."""

    def __getitem__(self, kind: Attr):
        return nla.value(kind, self.raw(kind))

    def get(self, kind: Attr, default=None):
        return self[kind] if kind in self else default

    def names(self) -> list[str]:
        return [Attr(kind).name if kind <= uapi.ATTR_MAX else hex(kind) for kind in self.order()]

    @property
    def stats(self) -> dict[Stat, int]:
        return {Stat(kind): int.from_bytes(payload, "little")
                for kind, payload in nla.parse(self.raw(Attr.STATS))}


class Genl(Netlink):
    """One generic netlink socket."""

    message = L2tpMessage

    def __init__(self, *, recv_size: int = 65536, rcvbuf: int | None = None,
                 timeout: float = 20.0) -> None:
        super().__init__(uapi.NETLINK_GENERIC, recv_size=recv_size, rcvbuf=rcvbuf,
                         timeout=timeout)
        self._family: int | None = None

    @staticmethod
    def body(cmd: int, *attrs: bytes, version: int = 1, reserved: int = 0) -> bytes:
        return struct.pack("=BBH", cmd, version, reserved) + b"".join(attrs)

    def ctrl(self, name: str) -> Message | None:
        """CTRL_CMD_GETFAMILY; None when there is no such family."""
        reply = self.request(uapi.GENL_ID_CTRL, self.body(
            uapi.CTRL_CMD_GETFAMILY, nla.string(uapi.CTRL_ATTR_FAMILY_NAME, name)))
        if reply.errno:
            assert reply.errno == errnos.ENOENT, reply
            return None
        return reply.one

    @property
    def family(self) -> int:
        """Message type of the family."""
        if self._family is None:
            message = self.ctrl(uapi.FAMILY)
            assert message, "generic netlink family l2tp is not there"
            self._family = struct.unpack("=H", message.raw(uapi.CTRL_ATTR_FAMILY_ID))[0]
        return self._family

    def groups(self) -> dict[str, int]:
        """Multicast groups of the family: name to id."""
        message = self.ctrl(uapi.FAMILY)
        assert message
        out = {}
        for _, entry in nla.parse(message.raw(uapi.CTRL_ATTR_MCAST_GROUPS)):
            group = dict(nla.parse(entry))
            name = group[uapi.CTRL_ATTR_MCAST_GRP_NAME].rstrip(b"\0").decode()
            out[name] = struct.unpack("=I", group[uapi.CTRL_ATTR_MCAST_GRP_ID])[0]
        return out

    def ask(self, cmd: int, *attrs: bytes, flags: int = 0, version: int = 1,
            reserved: int = 0) -> Reply:
        """One l2tp request; look at `.errno` yourself."""
        body = self.body(cmd, *attrs, version=version, reserved=reserved)
        return self.request(self.family, body, flags)

    def call(self, cmd: int, *attrs: bytes) -> Reply:
        """One l2tp request that must succeed."""
        reply = self.ask(cmd, *attrs)
        if reply.errno:
            raise NetlinkError(reply)
        return reply

    def start_dump(self, cmd: int, *attrs: bytes) -> int:
        return self.send(self.family, self.body(cmd, *attrs),
                         uapi.NLM_F_REQUEST | uapi.NLM_F_DUMP)

    def dump_chunks(self, cmd: int, *attrs: bytes) -> Iterator[list[Message]]:
        """A dump datagram by datagram: a read makes the kernel prepare the next one."""
        yield from self.read_dump(self.start_dump(cmd, *attrs))

    def dump(self, cmd: int, *attrs: bytes) -> list:
        return [message for chunk in self.dump_chunks(cmd, *attrs) for message in chunk]


class Listener(Genl):
    """A member of the l2tp multicast group."""

    def __init__(self) -> None:
        super().__init__()
        self.sock.setsockopt(uapi.SOL_NETLINK, uapi.NETLINK_ADD_MEMBERSHIP,
                             self.groups()[uapi.GROUP])

    def pending(self, timeout: float = 0.0) -> list:
        """Everything queued so far; waits up to `timeout` for the first message."""
        out: list[Message] = []
        self.sock.settimeout(timeout)
        with contextlib.suppress(BlockingIOError, TimeoutError):
            while True:
                out += self.recv()
                self.sock.settimeout(0.0)
        return out


class L2tp(Genl):
    """The l2tp family with defaults for everyday use; keyword names follow the attributes."""

    def tunnel_attrs(self, tid: int = 1, peer_tid: int = 2, version: int = 3,
                     encap: int = uapi.Encap.UDP, *, local: str | None = "127.0.0.1",
                     peer: str | None = "127.0.0.2", sport: int | None = 5000,
                     dport: int | None = 5001, fd: int | None = None) -> list[bytes]:
        """Attributes of a TUNNEL_CREATE; with `fd`, addresses and ports are left out."""
        out = [nla.u32(Attr.CONN_ID, tid), nla.u32(Attr.PEER_CONN_ID, peer_tid),
               nla.u8(Attr.PROTO_VERSION, version), nla.u16(Attr.ENCAP_TYPE, encap)]
        if fd is not None:
            return out + [nla.u32(Attr.FD, fd & 0xffffffff)]
        if local is not None:
            out.append(address(local, Attr.IP_SADDR, Attr.IP6_SADDR))
        if peer is not None:
            out.append(address(peer, Attr.IP_DADDR, Attr.IP6_DADDR))
        if encap != uapi.Encap.IP:
            if sport is not None:
                out.append(nla.u16(Attr.UDP_SPORT, sport))
            if dport is not None:
                out.append(nla.u16(Attr.UDP_DPORT, dport))
        return out

    def try_tunnel(self, *args, extra: tuple[bytes, ...] = (), **kwargs) -> Reply:
        return self.ask(Cmd.TUNNEL_CREATE, *self.tunnel_attrs(*args, **kwargs), *extra)

    def tunnel(self, *args, extra: tuple[bytes, ...] = (), **kwargs) -> None:
        self.call(Cmd.TUNNEL_CREATE, *self.tunnel_attrs(*args, **kwargs), *extra)

    @staticmethod
    def session_attrs(tid: int = 1, sid: int = 1, peer_sid: int = 2,
                      pw_type: int = uapi.PwType.ETH, *, cookie: bytes | None = None,
                      peer_cookie: bytes | None = None, l2spec: int | None = None,
                      ifname: str | None = None, recv_seq: int | None = None,
                      send_seq: int | None = None, lns_mode: int | None = None,
                      recv_timeout: int | None = None) -> list[bytes]:
        out = [nla.u32(Attr.CONN_ID, tid), nla.u32(Attr.SESSION_ID, sid),
               nla.u32(Attr.PEER_SESSION_ID, peer_sid), nla.u16(Attr.PW_TYPE, pw_type)]
        if l2spec is not None:
            out.append(nla.u8(Attr.L2SPEC_TYPE, l2spec))
        if cookie is not None:
            out.append(nla.raw(Attr.COOKIE, cookie))
        if peer_cookie is not None:
            out.append(nla.raw(Attr.PEER_COOKIE, peer_cookie))
        if ifname is not None:
            out.append(nla.string(Attr.IFNAME, ifname))
        for kind, number in ((Attr.RECV_SEQ, recv_seq), (Attr.SEND_SEQ, send_seq),
                             (Attr.LNS_MODE, lns_mode), (Attr.RECV_TIMEOUT, recv_timeout)):
            if number is not None:
                out.append(nla.integer(kind, number))
        return out

    def try_session(self, *args, extra: tuple[bytes, ...] = (), **kwargs) -> Reply:
        return self.ask(Cmd.SESSION_CREATE, *self.session_attrs(*args, **kwargs), *extra)

    def session(self, *args, extra: tuple[bytes, ...] = (), **kwargs) -> None:
        self.call(Cmd.SESSION_CREATE, *self.session_attrs(*args, **kwargs), *extra)

    def get_tunnel(self, tid: int = 1) -> L2tpMessage:
        return self.call(Cmd.TUNNEL_GET, nla.u32(Attr.CONN_ID, tid)).one

    def get_session(self, tid: int = 1, sid: int = 1) -> L2tpMessage:
        return self.call(Cmd.SESSION_GET, nla.u32(Attr.CONN_ID, tid),
                         nla.u32(Attr.SESSION_ID, sid)).one

    def has_tunnel(self, tid: int) -> bool:
        return self._exists(self.ask(Cmd.TUNNEL_GET, nla.u32(Attr.CONN_ID, tid)))

    def has_session(self, tid: int, sid: int) -> bool:
        return self._exists(self.ask(Cmd.SESSION_GET, nla.u32(Attr.CONN_ID, tid),
                                     nla.u32(Attr.SESSION_ID, sid)))

    @staticmethod
    def _exists(reply: Reply) -> bool:
        assert reply.errno in (0, errnos.ENODEV), reply
        return reply.errno == 0

    def del_tunnel(self, tid: int = 1) -> None:
        self.call(Cmd.TUNNEL_DELETE, nla.u32(Attr.CONN_ID, tid))

    def del_session(self, tid: int = 1, sid: int = 1) -> None:
        self.call(Cmd.SESSION_DELETE, nla.u32(Attr.CONN_ID, tid), nla.u32(Attr.SESSION_ID, sid))

    def modify_session(self, tid: int, sid: int, *attrs: bytes) -> None:
        self.call(Cmd.SESSION_MODIFY, nla.u32(Attr.CONN_ID, tid), nla.u32(Attr.SESSION_ID, sid),
                  *attrs)

    def ifname(self, tid: int = 1, sid: int = 1) -> str:
        return self.get_session(tid, sid)[Attr.IFNAME]

    def tunnels(self) -> list[int]:
        return [m[Attr.CONN_ID] for m in self.dump(Cmd.TUNNEL_GET)]

    def sessions(self) -> list[tuple[int, int]]:
        return [(m[Attr.CONN_ID], m[Attr.SESSION_ID]) for m in self.dump(Cmd.SESSION_GET)]

    def session_stats(self, tid: int = 1, sid: int = 1) -> dict[Stat, int]:
        return self.get_session(tid, sid).stats

    def tunnel_stats(self, tid: int = 1) -> dict[Stat, int]:
        return self.get_tunnel(tid).stats


def address(text: str, kind4: Attr, kind6: Attr) -> bytes:
    return nla.ip6(kind6, text) if ":" in text else nla.ip4(kind4, text)
