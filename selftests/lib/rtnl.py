# SPDX-License-Identifier: GPL-2.0
"""Links, addresses and routes by rtnetlink.

pyroute2 can do all this, but importing it takes longer under emulation than 100 of our tests.
"""

import errno as errnos
import ipaddress
import struct
from dataclasses import dataclass

from lib import attrs as nla
from lib import uapi
from lib.netlink import Message, Netlink, NetlinkError, Reply

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR = 20, 21
RTM_NEWROUTE, RTM_DELROUTE = 24, 25

IFF_UP, IFF_NOARP = 1, 0x80
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_QDISC = 1, 3, 4, 5, 6
IFLA_MASTER, IFLA_TXQLEN, IFLA_OPERSTATE, IFLA_LINKINFO, IFLA_STATS64 = 10, 13, 16, 18, 23
IFLA_NET_NS_FD, IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES, IFLA_CARRIER = 28, 31, 32, 33
IFLA_MIN_MTU, IFLA_MAX_MTU = 50, 51
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
VETH_INFO_PEER, IFLA_VLAN_ID = 1, 1
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFA_F_NODAD = 0x02
RTA_DST, RTA_OIF, RTA_GATEWAY = 1, 4, 5

_STATS64 = ("rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_errors", "tx_errors",
            "rx_dropped", "tx_dropped")


@dataclass(frozen=True)
class Link:
    """What RTM_GETLINK says about one interface."""
    message: Message

    @property
    def index(self) -> int:
        return struct.unpack_from("=i", self.message.payload, 4)[0]

    @property
    def type(self) -> int:
        return struct.unpack_from("=H", self.message.payload, 2)[0]

    @property
    def flags(self) -> int:
        return struct.unpack_from("=I", self.message.payload, 8)[0]

    def number(self, kind: int) -> int:
        return int.from_bytes(self.message.raw(kind), "little")

    def text(self, kind: int) -> str:
        return self.message.raw(kind).rstrip(b"\0").decode()

    @property
    def name(self) -> str:
        return self.text(IFLA_IFNAME)

    @property
    def mtu(self) -> int:
        return self.number(IFLA_MTU)

    @property
    def mac(self) -> bytes:
        return self.message.raw(IFLA_ADDRESS)

    @property
    def kind(self) -> str | None:
        """The rtnl link kind, as `ip -d link` shows it."""
        if IFLA_LINKINFO not in self.message:
            return None
        info = dict(nla.parse(self.message.raw(IFLA_LINKINFO)))
        kind = info.get(IFLA_INFO_KIND)
        return kind.rstrip(b"\0").decode() if kind else None

    @property
    def stats(self) -> dict[str, int]:
        return dict(zip(_STATS64, struct.unpack_from("=8Q", self.message.raw(IFLA_STATS64))))


class Rtnl(Netlink):
    """One rtnetlink socket."""

    message = Message

    def __init__(self) -> None:
        super().__init__(uapi.NETLINK_ROUTE)

    def _do(self, kind: int, payload: bytes, flags: int = 0) -> Reply:
        reply = self.request(kind, payload, flags)
        if reply.errno:
            raise NetlinkError(reply)
        return reply

    @staticmethod
    def _ifinfo(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
        return struct.pack("=BxHiII", 0, 0, index, flags, change)

    # --- links

    def find(self, ifname: str) -> Link | None:
        reply = self.request(RTM_GETLINK, self._ifinfo() + nla.string(IFLA_IFNAME, ifname))
        if reply.errno == errnos.ENODEV:
            return None
        if reply.errno:
            raise NetlinkError(reply)
        message = reply.one
        return Link(Message(message.kind, message.flags, message.seq, message.portid,
                            message.payload, header=16))

    def add(self, kind: str, ifname: str, *attrs: bytes, data: bytes = b"") -> None:
        info = nla.string(IFLA_INFO_KIND, kind)
        if data:
            info += nla.raw(IFLA_INFO_DATA, data)
        self._do(RTM_NEWLINK, self._ifinfo() + nla.string(IFLA_IFNAME, ifname) + b"".join(attrs)
                 + nla.raw(IFLA_LINKINFO, info), uapi.NLM_F_CREATE | uapi.NLM_F_EXCL)

    def add_veth(self, ifname: str, peer: str, peer_ns_fd: int) -> None:
        far = self._ifinfo() + nla.string(IFLA_IFNAME, peer) + nla.u32(IFLA_NET_NS_FD, peer_ns_fd)
        self.add("veth", ifname, data=nla.raw(VETH_INFO_PEER, far))

    def add_vlan(self, ifname: str, lower: int, vid: int) -> None:
        self.add("vlan", ifname, nla.u32(IFLA_LINK, lower), data=nla.u16(IFLA_VLAN_ID, vid))

    def set(self, index: int, *attrs: bytes, up: bool | None = None, noarp: bool = False) -> None:
        flags = (IFF_UP if up else 0) | (IFF_NOARP if noarp else 0)
        change = (0 if up is None else IFF_UP) | (IFF_NOARP if noarp else 0)
        self._do(RTM_NEWLINK, self._ifinfo(index, flags, change) + b"".join(attrs))

    def try_delete(self, index: int) -> int:
        """RTM_DELLINK; the errno, 0 if it worked."""
        return self.request(RTM_DELLINK, self._ifinfo(index)).errno

    # --- addresses and routes

    @staticmethod
    def _ifaddr(index: int, text: str) -> bytes:
        interface = ipaddress.ip_interface(text)
        family = 2 if interface.version == 4 else 10
        packed = interface.ip.packed
        head = struct.pack("=BBBBi", family, interface.network.prefixlen, 0, 0, index)
        out = head + nla.raw(IFA_LOCAL, packed) + nla.raw(IFA_ADDRESS, packed)
        if interface.version == 6:
            out += nla.u32(IFA_FLAGS, IFA_F_NODAD)
        return out

    def add_addr(self, index: int, text: str) -> None:
        self._do(RTM_NEWADDR, self._ifaddr(index, text), uapi.NLM_F_CREATE | uapi.NLM_F_EXCL)

    def del_addr(self, index: int, text: str) -> None:
        self._do(RTM_DELADDR, self._ifaddr(index, text))

    @staticmethod
    def _route(dst: str, gateway: str | None, oif: int | None) -> bytes:
        network = ipaddress.ip_network(dst)
        family = 2 if network.version == 4 else 10
        # table main, protocol boot, scope universe or link, unicast
        out = struct.pack("=BBBBBBBBI", family, network.prefixlen, 0, 0, 254, 3,
                          0 if gateway else 253, 1, 0)
        out += nla.raw(RTA_DST, network.network_address.packed)
        if gateway:
            out += nla.raw(RTA_GATEWAY, ipaddress.ip_address(gateway).packed)
        if oif:
            out += nla.u32(RTA_OIF, oif)
        return out

    def add_route(self, dst: str, gateway: str | None = None, oif: int | None = None) -> None:
        self._do(RTM_NEWROUTE, self._route(dst, gateway, oif),
                 uapi.NLM_F_CREATE | uapi.NLM_F_EXCL)

    def del_route(self, dst: str, gateway: str | None = None, oif: int | None = None) -> None:
        self._do(RTM_DELROUTE, self._route(dst, gateway, oif))
