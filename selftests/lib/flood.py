# SPDX-License-Identifier: GPL-2.0
"""A background sender that keeps a host's L2TP receive and transmit paths busy from outside.

It runs in a namespace of its own, so it never keeps the host under test alive.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import struct
import time
import traceback

from lib import uapi
from lib.netns import NetNS, veth
from lib.wire import checksum, ip4, packed

NEAR4, FAR4 = "10.9.0.1", "10.9.0.2"
NEAR6, FAR6 = "2001:db8:9::1", "2001:db8:9::2"
NEAR_PORT, FAR_PORT = 5000, 5001
BEYOND = "10.99.0.0/16"  # what the host under test routes into its pseudowire
SESSIONS = (1, 2, 3)


class Flood:
    """`attach(ns)` wires a host to it as eth0; then frames for SESSIONS arrive there, over UDP
    and IP, IPv4 and IPv6, along with plain packets to be forwarded into the device."""

    def __init__(self) -> None:
        self.ns = NetNS("flood")
        # The first encapsulating UDP socket makes the kernel patch its own UDP code, the last one
        # undoes it. QEMU without KVM can trap in code that is patched while another processor
        # runs it ("Oops: int3" in udp_queue_rcv_one_skb); so keep it patched under traffic.
        self._patched = [self.ns.socket(family) for family in (socket.AF_INET, socket.AF_INET6)]
        for sock in self._patched:
            sock.setsockopt(uapi.SOL_UDP, uapi.UDP_ENCAP, uapi.UDP_ENCAP_L2TPINUDP)
        self.ns.sysctl("net/ipv6/conf/default/accept_dad", 0)
        self._pid = 0

    def attach(self, host: NetNS) -> None:
        host.sysctl("net/ipv6/conf/default/accept_dad", 0)
        host.sysctl("net/ipv4/ip_forward", 1)
        veth(self.ns, "eth0", host, "eth0")
        # The host merges what comes in together.
        self.ns.run("ethtool", "-K", "eth0", "tx", "off")
        host.run("ethtool", "-K", "eth0", "gro", "on")
        host.addr("eth0", f"{NEAR4}/24", f"{NEAR6}/64")
        self.ns.addr("eth0", f"{FAR4}/24", f"{FAR6}/64")
        self.ns.rtnl.add_route(BEYOND, NEAR4)

    def detach(self) -> None:
        """For a host that stays; a host that dies takes the wire with it."""
        self.ns.rtnl.try_delete(self.ns.link("eth0").index)

    def start(self, pause: float = 0.002) -> None:
        """Fork the sender, which pauses after each round of packets."""
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.setns(self.ns.fd, os.CLONE_NEWNET)
                send_for_ever(pause)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)

    def close(self) -> None:
        self.ns.close()
        if self._pid:
            pid, self._pid = self._pid, 0
            died = os.waitpid(pid, os.WNOHANG)[0]
            if not died:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            assert not died, "the sender died early"


def use(host: NetNS, ifname: str) -> None:
    """Bring a pseudowire up and route the flood's plain packets into it."""
    link = host.link(ifname)
    host.rtnl.set(link.index, up=True, noarp=True)
    with contextlib.suppress(OSError):  # another device may have the route already
        host.rtnl.add_route(BEYOND, oif=link.index)


def stream() -> list[bytes]:
    """Frames of the same length with segments of a TCP stream."""
    frames = []
    for number in range(3):
        head = struct.pack("!HHIIBBHHH", 1, 2, 100 * number, 1, 5 << 4, 0x10, 9999, 0, 0)
        pseudo = packed(FAR4) + packed(NEAR4) + struct.pack("!II", 120, socket.IPPROTO_TCP)
        check = struct.pack("!H", checksum(pseudo + head + bytes(100)))
        segment = head[:16] + check + head[18:] + bytes(100)
        frames.append(FRAME + ip4(FAR4, NEAR4, socket.IPPROTO_TCP, segment, ident=number))
    return frames


FRAME = b"\xff" * 6 + b"\x02\0\0\0\0\x09\x08\x00"


def send_for_ever(pause: float) -> None:
    frame, segments = FRAME + bytes(46), stream()
    udp4 = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    raw4 = socket.socket(socket.AF_INET, socket.SOCK_RAW, uapi.IPPROTO_L2TP)
    raw6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, uapi.IPPROTO_L2TP)
    plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for sock in (udp4, udp6, raw4, raw6, plain):
        # nobody reads what comes back: do not let it pile up and look like a leak
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    udp6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    udp4.bind(("0.0.0.0", FAR_PORT))
    udp6.bind(("::", FAR_PORT))
    number = 0
    while True:
        for sid in SESSIONS + (99,):
            # sublayer with a sequence number now and then, in and out of order
            number = (number + random.choice((1, 1, 1, 2, -1))) & 0xffffff
            word = random.choice((0, 0x40000000 | number))
            data = struct.pack("!II", sid, word) + frame
            for sock, target, payload in (
                    (udp4, (NEAR4, NEAR_PORT), struct.pack("!HH", 3, 0) + data),
                    (udp6, (NEAR6, NEAR_PORT), struct.pack("!HH", 3, 0) + data),
                    (udp4, (NEAR4, NEAR_PORT), struct.pack("!HH", 0xc803, 12) + bytes(8)),
                    (raw4, (NEAR4, 0), data), (raw6, (NEAR6, 0), data),
                    (plain, ("10.99.0.1", 9), frame)):
                with contextlib.suppress(OSError):
                    sock.sendto(payload, socket.MSG_DONTWAIT, target)
            messages = [struct.pack("!HHII", 3, 0, sid, 0) + segment for segment in segments]
            together = (uapi.SOL_UDP, uapi.UDP_SEGMENT, struct.pack("=H", len(messages[0])))
            for sock, target in ((udp4, NEAR4), (udp6, NEAR6)):
                with contextlib.suppress(OSError):
                    sock.sendmsg(messages, [together], socket.MSG_DONTWAIT, (target, NEAR_PORT))
        time.sleep(pause)
