# SPDX-License-Identifier: GPL-2.0
"""An L2TPv3 Ethernet pseudowire between the two hosts of a `Hosts` pair."""

import socket
import threading
from dataclasses import dataclass, field

from lib.differences import expect
from lib.netns import Hosts, NetNS
from lib.tracing import counting_calls
from lib.uapi import Encap, L2Spec

DEVICE = "l2tp"


@dataclass
class Wire:
    """What the two ends have in common; `up()` makes tunnels, sessions, devices, addresses."""
    hosts: Hosts
    encap: int = Encap.UDP
    family: int = 4
    cookie: int = 0
    l2spec: int = L2Spec.DEFAULT
    seq: bool = False
    recv_timeout: int = 0
    tid: int = 10
    sid: int = 20
    port: int = 5000
    device: str = DEVICE
    subnet: int = 0
    tunnel_extra: tuple[bytes, ...] = ()
    ends: list[NetNS] = field(default_factory=list)

    @property
    def outer(self) -> int:
        """Bytes around an inner Ethernet frame, IP header included."""
        ip = 20 if self.family == 4 else 40
        return ip + self.header + (8 if self.encap == Encap.UDP else 0)

    @property
    def header(self) -> int:
        """Bytes of the L2TP header."""
        return (4 + self.cookie + (4 if self.l2spec == L2Spec.DEFAULT else 0)
                + (4 if self.encap == Encap.UDP else 0))

    def inner(self, family: int) -> tuple[str, str]:
        if family == 4:
            return f"172.16.{self.subnet}.1", f"172.16.{self.subnet}.2"
        return f"fc00:{self.subnet:x}::1", f"fc00:{self.subnet:x}::2"

    def tunnel(self, end: int) -> None:
        """End 0 or 1: ids are tid/tid+1 and sid/sid+1, each end's own first."""
        ns = (self.hosts.a, self.hosts.b)[end]
        outer = self.hosts.addresses(self.family)
        ns.l2tp.tunnel(self.tid + end, self.tid + 1 - end, encap=self.encap, local=outer[end],
                       peer=outer[1 - end], sport=self.port, dport=self.port,
                       extra=self.tunnel_extra)

    def session(self, end: int) -> None:
        ns = (self.hosts.a, self.hosts.b)[end]
        cookies = [bytes(range(1 + 16 * n, 1 + 16 * n + self.cookie)) for n in (0, 1)]
        ns.l2tp.session(self.tid + end, self.sid + end, self.sid + 1 - end,
                        cookie=cookies[end] if self.cookie else None,
                        peer_cookie=cookies[1 - end] if self.cookie else None,
                        l2spec=self.l2spec, send_seq=int(self.seq), recv_seq=int(self.seq),
                        lns_mode=int(self.seq), recv_timeout=self.recv_timeout or None,
                        ifname=self.device)

    def addresses(self, end: int) -> None:
        ns = (self.hosts.a, self.hosts.b)[end]
        ns.sysctl(f"net/ipv6/conf/{self.device}/accept_dad", 0)
        ns.up(self.device)
        ns.addr(self.device, self.inner(4)[end] + "/24", self.inner(6)[end] + "/64")

    def up(self) -> "Wire":
        for end in (0, 1):
            self.tunnel(end)
            self.session(end)
            self.addresses(end)
        return self

    def silent(self) -> "Wire":
        """As `up()`, but without addresses: nothing crosses that the test has not sent."""
        for end, ns in enumerate((self.hosts.a, self.hosts.b)):
            self.tunnel(end)
            self.session(end)
            ns.sysctl(f"net/ipv6/conf/{self.device}/disable_ipv6", 1)
            ns.up(self.device)
        return self

    def ping(self, *options: str, family: int = 4, count: int = 2) -> None:
        self.hosts.a.ping(self.inner(family)[1], *options, count=count)

    def pings(self, *options: str, family: int = 4) -> bool:
        return self.hosts.a.pings(self.inner(family)[1], *options)

    def stats(self, end: int) -> dict:
        ns = (self.hosts.a, self.hosts.b)[end]
        return ns.l2tp.session_stats(self.tid + end, self.sid + end)


def tcp_transfer(client: NetNS, server: NetNS, address: str, size: int) -> bytes:
    """Send `size` patterned bytes by TCP and return what arrives."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = server.socket(family, socket.SOCK_STREAM, timeout=30)
    listener.bind((address, 7777))
    listener.listen()
    sender = client.socket(family, socket.SOCK_STREAM, timeout=30)
    sender.connect((address, 7777))
    receiver, _ = listener.accept()
    receiver.settimeout(30)
    data = pattern(size)

    def send() -> None:
        sender.sendall(data)
        sender.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    got = bytearray()
    try:
        while chunk := receiver.recv(1 << 16):
            got += chunk
    finally:
        for sock in (sender, receiver, listener):
            sock.close()
        thread.join()
    return bytes(got)


def check_headroom(hosts: Hosts, near: str, far: str) -> None:
    """T6, 7.10.4: the device between these addresses asks for the headroom that its packets need."""
    sock = hosts.a.udp((near, 9000), (far, 9000))
    receiver = hosts.b.udp((far, 9000))
    sock.send(b"resolve the neighbour")
    receiver.recv(100)
    with counting_calls("pskb_expand_head") as hits:
        for _ in range(20):
            sock.send(bytes(500))
            receiver.recv(1000)
    # one for each packet if there is too little; a stray one is somebody else's
    assert hits[0] < 20 or expect("HEADROOM", c=True, rust=False), hits


def pattern(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]
