# SPDX-License-Identifier: GPL-2.0
"""The network that tools/bench-guest and tools/bench-native measure.

A packet generator sends packets to host a, which forwards them through a tunnel to host b, which
forwards them to a device that drops them.  So each packet is encapsulated and decapsulated once.
"""

from __future__ import annotations

import contextlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "selftests"))

from lib.netns import NetNS, settle, veth  # noqa: E402
from lib.pppox import Address, Link, PppSocket  # noqa: E402
from lib.uapi import L2Spec, PwType  # noqa: E402
from lib.wait import eventually  # noqa: E402

SINK = "198.18.0.0/16"


@dataclass
class Way:
    """A way from a to b: the device on both hosts, and its address at the far end."""

    name: str
    device: str
    far: str


class Network:
    """gen, a, b: the generator, with as many devices as there are senders, and the two ends of the
    tunnels."""

    OUTER = {4: ("10.0.0.1", "10.0.0.2"), 6: ("fd00::1", "fd00::2")}

    def __init__(self, senders: int = 1) -> None:
        self.senders = senders
        self.gen, self.a, self.b = NetNS("gen"), NetNS("a"), NetNS("b")
        self.stack = contextlib.ExitStack()
        self.paths = 0
        for host in (self.gen, self.a, self.b):
            host.sysctl("net/ipv6/conf/default/accept_dad", 0)
            host.sysctl("net/ipv6/conf/default/addr_gen_mode", 1)
            host.sysctl("net/ipv4/conf/all/rp_filter", 0)
            host.sysctl("net/ipv4/conf/default/rp_filter", 0)
            host.sysctl("net/ipv4/ip_forward", 1)
        for number in range(senders):
            veth(self.gen, f"out{number}", self.a, f"in{number}")
            self.a.addr(f"in{number}", f"10.9.{number}.1/24")
        veth(self.a, "wire", self.b, "wire")
        for index, host in enumerate((self.a, self.b)):
            host.addr("wire", self.OUTER[4][index] + "/24", self.OUTER[6][index] + "/64")
        self.b.run("ip", "link", "add", "sink", "type", "dummy")
        self.b.up("sink")
        self.b.run("ip", "route", "add", SINK, "dev", "sink")
        for family in (4, 6):
            self._know("wire", *self.OUTER[family])

    def _know(self, device: str, *addresses: str) -> None:
        """Neighbours that need not be asked for again."""
        macs = [":".join(f"{byte:02x}" for byte in host.link(device).mac)
                for host in (self.a, self.b)]
        for host, address, mac in ((self.a, addresses[1], macs[1]), (self.b, addresses[0], macs[0])):
            host.run("ip", "neigh", "replace", address, "lladdr", mac, "dev", device,
                     "nud", "permanent")

    def inner(self, device: str, name: str, ethernet: bool = True) -> Way:
        """Addresses for a device that is there on both hosts."""
        self.paths += 1
        near, far = (f"10.1.{self.paths}.{end}" for end in (1, 2))
        for host, address, peer in ((self.a, near, far), (self.b, far, near)):
            if ethernet:
                host.addr(device, f"{address}/24")
            else:
                host.run("ip", "addr", "add", address, "peer", peer, "dev", device)
            host.up(device)
        if ethernet:
            self._know(device, near, far)
        return Way(name, device, far)

    # --- ways from a to b

    def plain(self) -> Way:
        return Way("plain", "wire", self.OUTER[4][1])

    def vxlan(self) -> Way:
        for host, end in ((self.a, 0), (self.b, 1)):
            host.run("ip", "link", "add", "vx", "type", "vxlan", "id", "1", "dstport", "4789",
                     "local", self.OUTER[4][end], "remote", self.OUTER[4][1 - end], "udpcsum")
        return self.inner("vx", "vxlan")

    def ethernet(self, name: str, encap: int, family: int = 4, cookie: bytes | None = None,
                 seq: bool = False) -> Way:
        number = 100 + self.paths
        device = f"eth{number}"
        for host, end in ((self.a, 0), (self.b, 1)):
            outer = self.OUTER[family]
            host.l2tp.tunnel(number, number, encap=encap, local=outer[end], peer=outer[1 - end],
                             sport=5000 + number, dport=5000 + number)
            host.l2tp.session(number, number, number, l2spec=L2Spec.DEFAULT, cookie=cookie,
                              peer_cookie=cookie, send_seq=int(seq), recv_seq=int(seq),
                              ifname=device)
        return self.inner(device, name)

    def ppp(self, name: str, version: int) -> Way:
        number = 100 + self.paths
        for host, end in ((self.a, 0), (self.b, 1)):
            host.l2tp.tunnel(number, number, version, local=self.OUTER[4][end],
                             peer=self.OUTER[4][1 - end], sport=1700 + version,
                             dport=1700 + version)
            host.l2tp.session(number, number, number, PwType.PPP)
            sock = PppSocket(host)
            sock.connect(Address(number, number, number, number, version=version))
            device = self.stack.enter_context(Link(sock)).ifname
        return self.inner(device, name, ethernet=False)

    def close(self) -> None:
        """Until the kernel has forgotten it."""
        self.stack.close()
        for host in (self.gen, self.a, self.b):
            host.close()
        settle()

    # --- packets

    def packets(self, path: Way, size: int, count: int, senders: int = 1,
                around: contextlib.AbstractContextManager[None] = contextlib.nullcontext()) -> int:
        """Sends as many packets from each of the senders, all of which must get there; the time it
        takes, in microseconds.  They are sent within the context `around`."""
        self.a.run("ip", "route", "replace", SINK, "via", path.far, "dev", path.device)
        wanted = self.b.counters("sink")["tx_packets"] + senders * count
        took = self._pktgen(senders, size, count, around)
        eventually(lambda: self.b.counters("sink")["tx_packets"] == wanted, 5,
                   f"{senders * count} packets through {path.name}")
        return took

    def _pktgen(self, senders: int, size: int, count: int,
                around: contextlib.AbstractContextManager[None]) -> int:
        def write(file: str, *commands: str) -> None:
            for command in commands:
                Path("/proc/net/pktgen", file).write_text(f"{command}\n")

        macs = [":".join(f"{byte:02x}" for byte in self.a.link(f"in{number}").mac)
                for number in range(senders)]
        with self.gen:
            for number in range(self.senders):
                write(f"kpktgend_{number}", "rem_device_all")
            for number, mac in enumerate(macs):
                source, sink = f"10.9.{number}.2", f"198.18.{number}.1"
                write(f"kpktgend_{number}", f"add_device out{number}")
                write(f"out{number}", f"count {count}", f"pkt_size {size}", "delay 0",
                      "clone_skb 0", f"dst_mac {mac}", f"src_min {source}", f"src_max {source}",
                      f"dst_min {sink}", f"dst_max {sink}", "udp_src_min 9", "udp_src_max 9",
                      "udp_dst_min 9", "udp_dst_max 9")
            with around:
                write("pgctrl", "start")
            texts = [Path(f"/proc/net/pktgen/out{number}").read_text()
                     for number in range(senders)]
        found = [re.search(r"Result: OK: (\d+)\(", text) for text in texts]
        if not all(found):
            raise SystemExit(f"pktgen: {texts}")
        return max(int(one[1]) for one in found if one)
