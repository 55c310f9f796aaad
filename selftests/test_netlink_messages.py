# SPDX-License-Identifier: GPL-2.0
"""abi 2.7, 2.8, 2.9: answers byte for byte, attribute by attribute."""

import errno
import socket
import struct

import pytest

from lib.differences import expect
from lib import attrs as nla
from lib import system, uapi
from lib.attrs import flag, ip4, ip6, raw, string, u8, u16, u32, u64
from lib.genl import Genl, L2tp
from lib.netns import Hosts, NetNS
from lib.uapi import Attr, Cmd, Encap, PwType, Stat

ZERO_STATS = raw(Attr.STATS, b"".join(u64(kind, 0) for kind in uapi.STATS_ORDER))


def tunnel_head(version: int, tid: int, peer: int, encap: int) -> bytes:
    return (u8(Attr.PROTO_VERSION, version) + u32(Attr.CONN_ID, tid) + u32(Attr.PEER_CONN_ID, peer)
            + u32(Attr.DEBUG, 0) + u16(Attr.ENCAP_TYPE, encap) + ZERO_STATS)


def ports(source: int, destination: int) -> bytes:
    return u16(Attr.UDP_SPORT, source) + u16(Attr.UDP_DPORT, destination)


FOUR = ip4(Attr.IP_SADDR, "127.0.0.1") + ip4(Attr.IP_DADDR, "127.0.0.2")
SIX = ip6(Attr.IP6_SADDR, "fd00::1") + ip6(Attr.IP6_DADDR, "fd00::2")
TX, RX = flag(Attr.UDP_ZERO_CSUM6_TX), flag(Attr.UDP_ZERO_CSUM6_RX)

TUNNELS = {
    "udp4": (dict(encap=0), (), u8(Attr.UDP_CSUM, 0) + ports(5000, 5001) + FOUR),
    "udp4-csum": (dict(encap=0), (u8(Attr.UDP_CSUM, 1),),
                  u8(Attr.UDP_CSUM, 1) + ports(5000, 5001) + FOUR),
    "ip4": (dict(encap=1), (), FOUR),
    "udp6": (dict(encap=0, local="fd00::1", peer="fd00::2"), (), ports(5000, 5001) + SIX),
    "udp6-tx": (dict(encap=0, local="fd00::1", peer="fd00::2"), (TX,),
                TX + ports(5000, 5001) + SIX),
    "udp6-rx": (dict(encap=0, local="fd00::1", peer="fd00::2"), (RX,),
                RX + ports(5000, 5001) + SIX),
    "udp6-tx-rx": (dict(encap=0, local="fd00::1", peer="fd00::2"), (RX, TX),
                   TX + RX + ports(5000, 5001) + SIX),
    "ip6": (dict(encap=1, local="fd00::1", peer="fd00::2"), (), SIX),
}


def everywhere(ns: NetNS, events: Genl, get: Cmd, *key: bytes) -> dict[str, tuple[int, bytes]]:
    """The object as in GET reply, dump and notification: header flags and attribute bytes."""
    modify = Cmd(get - 1)
    ns.l2tp.call(modify, *key)
    shown = {"get": ns.l2tp.call(get, *key).one, "dump": ns.l2tp.dump(get)[0],
             "event": events.recv()[0]}
    assert [m.cmd for m in shown.values()] == [get, get, modify]
    for message in shown.values():
        assert message.version == 1 and message.payload[2:4] == b"\0\0"
        assert message.kind == ns.l2tp.family
    return {where: (m.flags, m.payload[4:]) for where, m in shown.items()}


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("which", TUNNELS)
def test_tunnel_message(ns: NetNS, which: str, version: int) -> None:
    keywords, extra, tail = TUNNELS[which]
    if (version, keywords["encap"]) == (2, Encap.IP) and expect("V2-IP", c=False, rust=True):
        assert ns.l2tp.try_tunnel(1, 2, version, **keywords).errno == errno.EINVAL
        return
    ns.l2tp.tunnel(0x01020304, 0x0a0b0c0d, version, extra=extra, **keywords)
    listener = ns.listener()
    body = tunnel_head(version, 0x01020304, 0x0a0b0c0d, keywords["encap"]) + tail
    got = everywhere(ns, listener, Cmd.TUNNEL_GET, u32(Attr.CONN_ID, 0x01020304))
    assert got == {"get": (uapi.NLM_F_ACK, body), "dump": (uapi.NLM_F_MULTI, body),
                   "event": (uapi.NLM_F_ACK, body)}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("encap", [Encap.UDP, Encap.IP], ids=["udp", "ip"])
def test_managed_tunnel_message(ns: NetNS, family: int, encap: int) -> None:
    """An unbound, unconnected socket: all zero. SO_NO_CHECK off shows as UDP_CSUM 1."""
    af = socket.AF_INET if family == 4 else socket.AF_INET6
    sock = ns.socket(af, socket.SOCK_DGRAM, 0 if encap == Encap.UDP else uapi.IPPROTO_L2TP)
    ns.l2tp.tunnel(7, 8, encap=encap, fd=sock.fileno())
    tail = {4: ip4(Attr.IP_SADDR, "0.0.0.0") + ip4(Attr.IP_DADDR, "0.0.0.0"),
            6: ip6(Attr.IP6_SADDR, "::") + ip6(Attr.IP6_DADDR, "::")}[family]
    if encap == Encap.UDP:
        tail = (u8(Attr.UDP_CSUM, 1) if family == 4 else b"") + ports(0, 0) + tail
    assert ns.l2tp.get_tunnel(7).payload[4:] == tunnel_head(3, 7, 8, encap) + tail


SESSIONS = {
    "plain": ({}, ((0, 0, 0), 0)),
    "all": (dict(cookie=b"12345678", peer_cookie=b"abcd", recv_seq=1, send_seq=1, lns_mode=1,
                 recv_timeout=1000), ((1, 1, 1), 1000)),
    "cookie": (dict(cookie=b"xyz"), ((0, 0, 0), 0)),
    "peer-cookie": (dict(peer_cookie=b"1"), ((0, 0, 0), 0)),
    "recv-seq": (dict(recv_seq=1), ((1, 0, 0), 0)),
    "send-seq": (dict(send_seq=1), ((0, 1, 0), 0)),
    "lns": (dict(lns_mode=1), ((0, 0, 1), 0)),
    "timeout": (dict(recv_timeout=40), ((0, 0, 0), 40)),
}


def session_body(tid: int, sid: int, peer_tid: int, peer_sid: int, pw_type: int, ifname: str,
                 cookie: bytes, peer_cookie: bytes, switches: tuple[int, int, int],
                 timeout: int) -> bytes:
    out = (u32(Attr.CONN_ID, tid) + u32(Attr.SESSION_ID, sid) + u32(Attr.PEER_CONN_ID, peer_tid)
           + u32(Attr.PEER_SESSION_ID, peer_sid) + u32(Attr.DEBUG, 0) + u16(Attr.PW_TYPE, pw_type))
    if ifname:
        out += string(Attr.IFNAME, ifname)
    if cookie:
        out += raw(Attr.COOKIE, cookie)
    if peer_cookie:
        out += raw(Attr.PEER_COOKIE, peer_cookie)
    for kind, value in zip((Attr.RECV_SEQ, Attr.SEND_SEQ, Attr.LNS_MODE), switches):
        out += u8(kind, value)
    if timeout:
        out += u64(Attr.RECV_TIMEOUT, timeout)
    return out + ZERO_STATS


@pytest.mark.parametrize("encap", [Encap.UDP, Encap.IP], ids=["udp", "ip"])
@pytest.mark.parametrize("which", SESSIONS)
def test_session_message(ns: NetNS, which: str, encap: int) -> None:
    keywords, (switches, timeout) = SESSIONS[which]
    ns.l2tp.tunnel(0x01020304, 0x0a0b0c0d, encap=encap)
    ns.l2tp.session(0x01020304, 0x11121314, 0x21222324, ifname="some-name", **keywords)
    listener = ns.listener()
    body = session_body(0x01020304, 0x11121314, 0x0a0b0c0d, 0x21222324, PwType.ETH, "some-name",
                        keywords.get("cookie", b""), keywords.get("peer_cookie", b""), switches,
                        timeout)
    got = everywhere(ns, listener, Cmd.SESSION_GET, u32(Attr.CONN_ID, 0x01020304),
                     u32(Attr.SESSION_ID, 0x11121314))
    assert got == {"get": (0, body), "dump": (uapi.NLM_F_MULTI, body),
                   "event": (uapi.NLM_F_ACK, body)}


def test_ppp_session_message(ns: NetNS) -> None:
    """No interface name while no socket is attached."""
    ns.l2tp.tunnel(1, 2, version=2)
    ns.l2tp.session(1, 3, 4, pw_type=PwType.PPP)
    assert ns.l2tp.get_session(1, 3).payload[4:] == session_body(
        1, 3, 2, 4, PwType.PPP, "", b"", b"", (0, 0, 0), 0)


def test_using_ipsec(ns: NetNS) -> None:
    """A policy on the tunnel socket itself shows as USING_IPSEC=1, right after LNS_MODE."""
    sock = ns.udp(("127.0.0.1", 5000), ("127.0.0.2", 5001))
    ns.l2tp.tunnel(fd=sock.fileno())
    ns.l2tp.session(recv_timeout=40)
    assert Attr.USING_IPSEC not in ns.l2tp.get_session()
    system.modprobe("xfrm_user")
    # struct xfrm_userpolicy_info: direction out, action allow, all selectors and limits zero
    family = struct.pack("=40xH14x", socket.AF_INET)
    policy = family + bytes(64 + 32) + struct.pack("=IIBBBB4x", 0, 0, 1, 0, 0, 0)
    IP_XFRM_POLICY = 17
    sock.setsockopt(socket.IPPROTO_IP, IP_XFRM_POLICY, policy)
    message = ns.l2tp.get_session()
    assert message[Attr.USING_IPSEC] == 1
    order = message.order()
    at = order.index(Attr.USING_IPSEC)
    assert order[at - 1:at + 2] == [Attr.LNS_MODE, Attr.USING_IPSEC, Attr.RECV_TIMEOUT]


def test_stats_nest_has_no_flag_bit(l2tp: L2tp) -> None:
    l2tp.tunnel()
    l2tp.session()
    for message in (l2tp.get_tunnel(), l2tp.get_session()):
        assert Attr.STATS in message.order()  # 30, not 30 | NLA_F_NESTED
        order = [kind for kind, _ in nla.parse(message.raw(Attr.STATS))]
        assert order == list(uapi.STATS_ORDER)


def test_stats_count_data(hosts: Hosts) -> None:
    """2.9: what goes out of one end comes in at the other, with the L2TP header (1.13)."""
    a, b = hosts.a, hosts.b
    for ns, own, peer, tid, peer_tid in hosts.both():
        ns.l2tp.tunnel(tid, peer_tid, local=own, peer=peer, sport=5000, dport=5000)
        ns.l2tp.session(tid, tid, peer_tid, ifname="l2tp", cookie=b"1234", peer_cookie=b"1234")
        ns.sysctl("net/ipv6/conf/l2tp/disable_ipv6", 1)
        ns.up("l2tp")
    frame = bytes(range(60))
    with a:
        packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with packet:
        packet.bind(("l2tp", 0))
        for _ in range(5):
            packet.send(frame)
    size = 60 + 4 + 4 + 4 + 4  # frame, flags, session id, cookie, sublayer
    zero = dict.fromkeys(Stat, 0)
    sent = zero | {Stat.TX_PACKETS: 5, Stat.TX_BYTES: 5 * size}
    received = zero | {Stat.RX_PACKETS: 5, Stat.RX_BYTES: 5 * size}
    assert a.l2tp.session_stats(1, 1) == a.l2tp.tunnel_stats(1) == sent
    assert b.l2tp.session_stats(2, 2) == b.l2tp.tunnel_stats(2) == received
