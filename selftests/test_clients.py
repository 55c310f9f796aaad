# SPDX-License-Identifier: GPL-2.0
"""Programs that people use: go-l2tp and xl2tpd, systemd-networkd, and a broker of many tunnels.

What they leave behind is looked for in both hosts and in the module's reference count.
"""

import contextlib
import errno
import os
import random
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lib import system, uapi
from lib.daemons import Daemons
from lib.differences import expect
from lib.ipsocket import Sock
from lib.netns import Hosts, NetNS, settle
from lib.pair import pattern, tcp_transfer
from lib.uapi import Attr, Encap, Stat
from lib.wait import eventually

TUNNELS = int(os.environ.get("L2TP_BROKER_TUNNELS", "256" if system.impl() == "rust" else "48"))
KINDS = [pytest.param(encap, family, id=f"{encap.name.lower()}{family}")
         for encap in Encap for family in (4, 6)]
INNER = ("172.16.1.1", "172.16.1.2")
WIRE = "wire"


@pytest.fixture
def hosts(hosts: Hosts) -> Hosts:
    """Pseudowires carry nothing but what the test sends: a frame to a peer that is not there yet
    ends the tunnels of most daemons (B30)."""
    for ns in (hosts.a, hosts.b):
        ns.sysctl("net/ipv6/conf/default/disable_ipv6", 1)
    return hosts


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Daemons]:
    group = Daemons(tmp_path)
    yield group
    group.close()


def references() -> dict[str, int]:
    """Of the modules in use, without what other modules hold: a request may load more of them."""
    out = {}
    for line in Path("/proc/modules").read_text().splitlines():
        name, _, count, holders = line.split()[:4]
        own = int(count) - holders.count(",")
        if own and name in system.loaded():
            out[name] = own
    return out


@pytest.fixture(scope="module", autouse=True)
def _others_are_gone() -> None:
    settle()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """The modules are as free after a test as before it."""
    before = references()
    yield
    settle()
    eventually(lambda: references() == before, what="return of all module references")


def is_bare(ns: NetNS) -> bool:
    """No tunnel, no session, and no device but the host's own."""
    return not ns.l2tp.tunnels() and not ns.l2tp.sessions() and set(ns.links()) <= {"lo", "eth0"}


def is_free(ns: NetNS, encap: int, address: str, number: int) -> bool:
    """Whether a new socket gets the address: with a UDP port, or with a connection id."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with ns, socket.socket(family, socket.SOCK_DGRAM,
                           uapi.IPPROTO_L2TP if encap == Encap.IP else 0) as sock:
        try:
            if encap == Encap.IP:
                Sock.around(sock).bind(address, number)
            else:
                sock.bind((address, number))
        except OSError as error:
            assert error.errno == errno.EADDRINUSE
            return False
    return True


def carries(hosts: Hosts, addresses: tuple[str, str] = INNER) -> None:
    """Pings, and bulk in both directions."""
    hosts.a.ping(addresses[1], count=3)
    hosts.b.ping(addresses[0], "-s", "1300")
    size = 200_000
    assert tcp_transfer(hosts.a, hosts.b, addresses[1], size) == pattern(size)
    assert tcp_transfer(hosts.b, hosts.a, addresses[0], size) == pattern(size)


# --- ql2tpd

def tunnel_of(hosts: Hosts, end: int, encap: int, family: int, *, hello: int | None = None,
              **session: Any) -> dict[str, Any]:
    """The configuration of one end: ids 10 and 20 in tunnel 1 and 2, or the other way round."""
    outer = hosts.addresses(family)
    # over IP as well it wants a port, which means nothing
    outer = tuple(f"[{address}]:5000" if family == 6 else f"{address}:5000" for address in outer)
    return {"version": "l2tpv3", "encap": Encap(encap).name.lower(), "local": outer[end],
            "peer": outer[1 - end], "tid": 1 + end, "ptid": 2 - end, "hello_timeout": hello,
            "retry_timeout": 250, "max_retries": 3,
            "sessions": [{"pseudowire": "eth", "sid": 10 * (1 + end), "psid": 10 * (2 - end),
                          "interface_name": WIRE} | session]}


def plug(ns: NetNS, end: int) -> None:
    """The pseudowire is there: give it an address."""
    eventually(lambda: WIRE in ns.links())
    ns.addr(WIRE, INNER[end] + "/24")
    ns.up(WIRE)


@pytest.mark.parametrize("encap, family", KINDS)
def test_ql2tpd(hosts: Hosts, daemons: Daemons, encap: Encap, family: int) -> None:
    """Both ends by ql2tpd.  Killed, restarted and stopped, each leaves nothing behind."""
    # frames that two processors send at once may overtake each other
    more = {"seqnum": True, "reorder_timeout": 500} if family == 6 else {}
    config = [tunnel_of(hosts, end, encap, family, l2spec_type="default", **more)
              for end in (0, 1)]
    a = daemons.ql2tpd(hosts.a, config[0])
    b = daemons.ql2tpd(hosts.b, config[1])
    plug(hosts.a, 0)
    plug(hosts.b, 1)
    number = 5000 if encap == Encap.UDP else 1
    local = hosts.addresses(family)[0]
    assert not is_free(hosts.a, encap, local, number)
    carries(hosts)
    for ns, end in ((hosts.a, 0), (hosts.b, 1)):
        stats = ns.l2tp.session_stats(1 + end, 10 + 10 * end)
        assert stats[Stat.TX_PACKETS] and stats[Stat.RX_PACKETS]
        assert not stats[Stat.TX_ERRORS] and not stats[Stat.RX_ERRORS], stats

    # the other end keeps its tunnel as long as it sends nothing
    hosts.b.down(WIRE)
    a.kill()
    eventually(lambda: is_bare(hosts.a), what="end of all that a killed ql2tpd had")
    eventually(lambda: is_free(hosts.a, encap, local, number))
    if family == 6:
        # both start counting their frames from zero
        b.kill()
        eventually(lambda: is_bare(hosts.b))
        b = daemons.ql2tpd(hosts.b, config[1])
        plug(hosts.b, 1)
    a = daemons.ql2tpd(hosts.a, config[0])
    plug(hosts.a, 0)
    hosts.b.up(WIRE)
    carries(hosts)

    hosts.b.down(WIRE)
    assert a.stop() == 0
    eventually(lambda: is_bare(hosts.a), what="end of all that a stopped ql2tpd had")
    eventually(lambda: is_free(hosts.a, encap, local, number))
    b.kill()
    eventually(lambda: is_bare(hosts.b))


@pytest.mark.parametrize("encap", [Encap.UDP, Encap.IP], ids=["udp", "ip"])
def test_ql2tpd_keepalive(hosts: Hosts, daemons: Daemons, encap: Encap) -> None:
    """HELLO messages and their acknowledgements cross beside the traffic.

    ql2tpd 0.1.8 never looks for its HELLO among what was acknowledged (it is not in the list that
    processAckQueue walks), and so gives the tunnel up after its retries, with either kernel
    module: a daemon that closes its socket first, and deletes session and tunnel afterwards.
    """
    ends = [daemons.ql2tpd(ns, tunnel_of(hosts, end, encap, 4, hello=300))
            for end, ns in enumerate((hosts.a, hosts.b))]
    for end in ends:
        end.says("message=recv message_type=avpMsgTypeHello")
        end.says("transport down")
        end.says("message=close", times=2)
        assert "receive failed" not in end.log() and end.runs
    # one of them may have had a HELLO of its own to put it into
    assert any("message=send message_type=avpMsgTypeAck" in end.log() for end in ends)
    for end, ns in zip(ends, (hosts.a, hosts.b)):
        eventually(lambda ns=ns: is_bare(ns), what="end of a tunnel that its daemon gave up")
        assert end.stop() == 0


def test_ql2tpd_cookies(hosts: Hosts, daemons: Daemons) -> None:
    """ql2tpd sends its peer cookie as a second COOKIE, and what it then has is K (10.4.3): the
    last one is sent, none is required.  The other end is told so."""
    own, peer = b"own four"[:4], b"peer has"
    config = tunnel_of(hosts, 0, Encap.UDP, 4, cookie=own, peer_cookie=peer)
    daemons.ql2tpd(hosts.a, config).says("new static session")
    session = hosts.a.l2tp.get_session(1, 10)
    assert session[Attr.COOKIE] == peer and Attr.PEER_COOKIE not in session
    hosts.b.l2tp.tunnel(2, 1, local=hosts.B4, peer=hosts.A4, sport=5000, dport=5000)
    hosts.b.l2tp.session(2, 20, 10, peer_cookie=peer, l2spec=0, ifname=WIRE)
    plug(hosts.a, 0)
    plug(hosts.b, 1)
    hosts.a.ping(INNER[1], count=3)


def test_ql2tpd_many_tunnels(hosts: Hosts, daemons: Daemons) -> None:
    """One daemon with sixteen tunnels of two sessions: all work, and all go with it."""
    both = []
    for end, ns in enumerate((hosts.a, hosts.b)):
        outer = (hosts.A4, hosts.B4)
        both.append(daemons.ql2tpd(ns, *(
            {"version": "l2tpv3", "encap": "udp", "local": f"{outer[end]}:{5000 + number}",
             "peer": f"{outer[1 - end]}:{5000 + number}", "tid": number, "ptid": number,
             "sessions": [{"pseudowire": "eth", "sid": sid, "psid": sid,
                           "interface_name": f"w{number}-{sid}"} for sid in (1, 2)]}
            for number in range(1, 17))))
    for ns in (hosts.a, hosts.b):
        eventually(lambda ns=ns: len(ns.l2tp.sessions()) == 32)
    with Labels(hosts, [f"w{number}-{sid}" for number in range(1, 17) for sid in (1, 2)]) as labels:
        labels.exchange()
    both[0].kill()
    eventually(lambda: is_bare(hosts.a))
    both[1].stop()
    eventually(lambda: is_bare(hosts.b))


# --- kl2tpd

def lac(local: str, peer: str, **more: Any) -> dict[str, Any]:
    return {"version": "l2tpv2", "encap": "udp", "local": f"{local}:1701", "peer": f"{peer}:1701",
            "tid": 77} | more


def test_kl2tpd_is_a_lac_of_version_2(hosts: Hosts, daemons: Daemons) -> None:
    """Why kl2tpd is not on both ends of anything: it refuses version 3, and each of two refuses
    the other's SCCRQ.  It ends without a trace."""
    daemon = daemons.kl2tpd(hosts.a, tunnel_of(hosts, 0, Encap.UDP, 4))
    assert daemon.exits() == 1 and "unsupported tunnel protocol version" in daemon.log()
    ends = [daemons.kl2tpd(hosts.a, lac(hosts.A4, hosts.B4)),
            daemons.kl2tpd(hosts.b, lac(hosts.B4, hosts.A4))]
    eventually(lambda: any("message=recv message_type=avpMsgTypeSccrq" in end.log()
                           for end in ends))
    for end, ns in zip(ends, (hosts.a, hosts.b)):
        if end.runs:
            end.kill()
        assert "established" not in end.log()
        eventually(lambda ns=ns: is_bare(ns))


@pytest.mark.parametrize("ending", ["stop", "kill", "kill-peer"])
def test_kl2tpd_and_xl2tpd(hosts: Hosts, daemons: Daemons, ending: str) -> None:
    """A tunnel of version 2 from kl2tpd to xl2tpd, ended by each and in each way."""
    server = daemons.xl2tpd(hosts.b, hosts.B4)
    # with a HELLO the client would give up after a while, see test_ql2tpd_keepalive
    client = daemons.kl2tpd(hosts.a, lac(
        hosts.A4, hosts.B4, hello_timeout=200 if ending == "kill-peer" else None))
    client.says("control plane established")
    tunnel = eventually(lambda: hosts.a.l2tp.has_tunnel(77) and hosts.a.l2tp.get_tunnel(77))
    assert tunnel[Attr.PROTO_VERSION] == 2 and tunnel[Attr.UDP_DPORT] == 1701
    server.says(f"Local: {tunnel[Attr.PEER_CONN_ID]}, Remote: 77")
    assert "transport down" not in client.log()
    if ending == "stop":
        client.stop()
        server.says("Connection closed")
    elif ending == "kill":
        client.kill()
    else:
        server.kill()
        client.says("transport down")
    eventually(lambda: is_bare(hosts.a), what="end of the client's tunnel")
    eventually(lambda: ending == "kill-peer" or is_free(hosts.a, Encap.UDP, hosts.A4, 1701))
    if server.runs:
        server.stop()
    eventually(lambda: is_bare(hosts.b), what="end of the server's tunnel")


# --- systemd-networkd

def netdev(hosts: Hosts, end: int, encap: int, family: int) -> dict[str, str]:
    """One tunnel with two sessions; the second one has other options."""
    outer = hosts.addresses(family)
    udp = "UDPSourcePort=5000\nUDPDestinationPort=5000\nUDPChecksum=true\n"
    sessions = "".join(
        f"[L2TPSession]\nName=net{number}\nSessionId={10 * number + end}\n"
        f"PeerSessionId={10 * number + 1 - end}\nLayer2SpecificHeader={spec}\n"
        for number, spec in ((1, "default"), (2, "none")))
    files = {"10-tunnel.netdev": f"[NetDev]\nName=tunnel\nKind=l2tp\n[L2TP]\nTunnelId={1 + end}\n"
             f"PeerTunnelId={2 - end}\nLocal={outer[end]}\nRemote={outer[1 - end]}\n"
             f"EncapsulationType={Encap(encap).name.lower()}\n"
             f"{udp if encap == Encap.UDP else ''}{sessions}"}
    # an address counts only on a link that networkd manages
    files["30-eth0.network"] = (
        "[Match]\nName=eth0\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        f"KeepConfiguration=yes\nAddress={hosts.addresses(4)[end]}/16\n"
        f"Address={hosts.addresses(6)[end]}/32\n")
    for number in (1, 2):
        files[f"20-net{number}.network"] = (
            f"[Match]\nName=net{number}\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
            f"Address=172.16.{number}.{1 + end}/24\n")
    return files


@pytest.mark.parametrize("encap, family", KINDS[0:1] + KINDS[3:4])
def test_networkd(hosts: Hosts, daemons: Daemons, encap: Encap, family: int) -> None:
    """A .netdev file of kind l2tp makes a tunnel and its sessions, on both ends.  They outlive
    networkd, and a second run finds them there (EEXIST) and goes on."""
    sides = list(enumerate((hosts.a, hosts.b)))
    running = [daemons.networkd(ns, netdev(hosts, end, encap, family)) for end, ns in sides]

    def configured(ns: NetNS) -> bool:
        return {"net1", "net2"} <= set(ns.links()) and all(
            ns.run("ip", "-br", "-4", "addr", "show", "up", "dev", f"net{number}").stdout
            for number in (1, 2))

    for _, ns in sides:
        eventually(lambda ns=ns: configured(ns), 60, what="two configured links")
    expected = [[(1 + end, 10 + end), (1 + end, 20 + end)] for end, _ in sides]
    for end, ns in sides:
        assert ns.l2tp.sessions() == expected[end]
        assert ns.l2tp.get_session(1 + end, 10 + end)[Attr.IFNAME] == "net1"
    carries(hosts, ("172.16.1.1", "172.16.1.2"))
    hosts.a.ping("172.16.2.2")

    for end, _ in sides:
        running[end].stop()
    hosts.a.ping("172.16.1.2")
    again = daemons.networkd(hosts.a, netdev(hosts, 0, encap, family))
    again.says("L2TP session net1 exists, using existing without changing its parameters")
    again.says("L2TP session net2 exists, using existing without changing its parameters")
    again.stop()
    eventually(lambda: hosts.a.l2tp.sessions() == expected[0])
    hosts.a.ping("172.16.1.2")
    hosts.a.ping("172.16.2.2")
    for end, ns in sides:
        ns.l2tp.del_tunnel(1 + end)
        eventually(lambda ns=ns: is_bare(ns))


# --- a broker of a community network

SO_RCVBUFFORCE = 33
ETH_P_LABEL = 0x88b5  # for experiments
PORT = 8942


class Labels:
    """Frames that carry the name of the device that they are sent on.

    The devices of one pseudowire have the same name in both hosts, so that a frame which has lost
    its way shows.
    """

    def __init__(self, hosts: Hosts, names: list[str]) -> None:
        self._hosts = hosts
        self.names = names
        self.echoed: dict[str, int] = {}
        self._number = 0
        self._ends = [ns.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_LABEL))
                      for ns in (hosts.a, hosts.b)]
        for end in self._ends:
            end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        for ns in (hosts.a, hosts.b):
            for name in names:
                if name in ns.links():
                    ns.up(name)

    def __enter__(self) -> "Labels":
        return self

    def __exit__(self, *exc: object) -> None:
        for end in self._ends:
            end.close()

    def _send(self, end: int, name: str, number: int) -> None:
        frame = b"\xff" * 6 + b"\x02" + bytes(5) + struct.pack("!HI", ETH_P_LABEL, number) \
            + name.encode().ljust(16, b"\0") + pattern(random.choice((40, 700, 1300)))
        # a device that is just going is no mistake
        with contextlib.suppress(OSError):
            self._ends[end].sendto(frame, (name, ETH_P_LABEL))

    def _receive(self, end: int, timeout: float) -> Iterator[tuple[str, int]]:
        self._ends[end].settimeout(timeout)
        with contextlib.suppress(TimeoutError, BlockingIOError):
            while True:
                frame, address = self._ends[end].recvfrom(2000)
                if address[2] == socket.PACKET_OUTGOING:
                    continue
                number, = struct.unpack_from("!I", frame, 14)
                label = frame[18:34].rstrip(b"\0").decode()
                # the device may be gone since, with its name
                assert address[0] in (label, ""), f"a frame of {label} came out of {address[0]}"
                assert frame[34:] == pattern(len(frame) - 34), f"{label}: broken frame"
                yield label, number

    def round(self, names: list[str], timeout: float) -> None:
        """From a to b and back, on each."""
        self._number += 1
        for name in names:
            self._send(0, name, self._number)
        for name, number in self._receive(1, timeout):
            self._send(1, name, number)
        for name, _ in self._receive(0, timeout):
            self.echoed[name] = self.echoed.get(name, 0) + 1

    def exchange(self) -> None:
        """Each device has carried a frame both ways."""
        missing = list(self.names)
        for _ in range(20):
            self.round(missing, 0.3)
            missing = [name for name in self.names if name not in self.echoed]
            if not missing:
                return
        raise AssertionError(f"nothing came through {missing}")


class Member:
    """A tunnel as tunneldigger has it: the broker's end on the one port that all share, with a
    socket of its own that is connected to this member, and session 1 like everybody's."""

    def __init__(self, hosts: Hosts, number: int, option: int) -> None:
        self.hosts, self.number, self.option = hosts, number, option
        self.sockets: list[socket.socket] = []

    @property
    def name(self) -> str:
        return f"m{self.number}"

    @property
    def port(self) -> int:
        return 10000 + self.number

    @property
    def managed(self) -> bool:
        """Whether the member's end, too, is a socket of a program."""
        return self.number % 2 == 0

    def _socket(self, ns: NetNS, local: tuple, peer: tuple) -> socket.socket:
        sock = ns.socket()
        self.sockets.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, self.option, 1)
        sock.bind(local)
        sock.connect(peer)
        return sock

    def come(self) -> None:
        near, far = (self.hosts.B4, PORT), (self.hosts.A4, self.port)
        broker = self._socket(self.hosts.b, near, far)
        create(self.hosts.b, self.number, 1000 + self.number, fd=broker.fileno())
        fd = self._socket(self.hosts.a, far, near).fileno() if self.managed else None
        create(self.hosts.a, 1000 + self.number, self.number, local=far[0], peer=near[0],
               sport=far[1], dport=near[1], fd=fd)
        for ns, tid in ((self.hosts.b, self.number), (self.hosts.a, 1000 + self.number)):
            made(lambda ns=ns, tid=tid: ns.l2tp.try_session(tid, 1, 1, l2spec=0, ifname=self.name))
            ns.up(self.name)

    def go(self) -> None:
        """In one of the ways there are, for each end."""
        way = random.randrange(3)
        if way == 0:
            self.hosts.b.l2tp.del_tunnel(self.number)
        elif way == 1:
            self.hosts.b.l2tp.del_session(self.number, 1)
        if not self.managed or random.random() < 0.5:
            self.hosts.a.l2tp.del_tunnel(1000 + self.number)
        for sock in random.sample(self.sockets, len(self.sockets)):
            sock.close()
        self.sockets.clear()

    def is_gone(self) -> bool:
        return not self.hosts.a.l2tp.has_tunnel(1000 + self.number) and \
            not self.hosts.b.l2tp.has_tunnel(self.number)

    def keepalive(self) -> None:
        """A control message of tunneldigger reaches the socket of this tunnel, as it was sent."""
        for kind, sender, receiver in ((5, 1, 0), (6, 0, 1)):
            message = b"\x80\x73\xa7\x01" + bytes((kind, 4)) + self.number.to_bytes(4, "big") \
                + bytes(4)
            self.sockets[sender].send(message)
            assert self.sockets[receiver].recv(2000) == message


def made(request) -> None:
    """What was deleted before may take its time in C."""
    late = expect("SYNC-DELETE", c=(errno.EEXIST, errno.EADDRINUSE, errno.EBUSY, errno.ENODEV),
                  rust=())

    def done() -> bool:
        reply = request()
        assert reply.errno in (0,) + late, reply
        return reply.errno == 0

    eventually(done)


def create(ns: NetNS, tid: int, peer_tid: int, **where: Any) -> None:
    made(lambda: ns.l2tp.try_tunnel(tid, peer_tid, **where))


@pytest.mark.parametrize("option", [socket.SO_REUSEADDR, socket.SO_REUSEPORT],
                         ids=["reuseaddr", "reuseport"])
def test_broker(hosts: Hosts, option: int) -> None:
    """Hundreds of tunnels on one port, with one session id, while others come and go."""
    total = TUNNELS if option == socket.SO_REUSEADDR else min(TUNNELS, 32)
    members = [Member(hosts, number, option) for number in range(1, total + 1)]
    for member in members:
        member.come()
    assert hosts.b.l2tp.sessions() == [(member.number, 1) for member in members]
    assert sum(line.split()[1].endswith(f":{PORT:04X}") for line in
               hosts.b.read("udp").splitlines()) == total
    with Labels(hosts, [member.name for member in members]) as labels:
        labels.exchange()
        for member in members:
            if member.managed:
                member.keepalive()
        stay, move = members[:total // 4], members[total // 4:]
        come_and_go(labels, stay, move, changes=total // 6)
        labels.echoed.clear()
        labels.exchange()
    for member in stay:
        statistics = hosts.b.l2tp.session_stats(member.number, 1)
        assert not statistics[Stat.RX_ERRORS] and not statistics[Stat.TX_ERRORS], statistics
    for member in members:
        member.go()
    for ns in (hosts.a, hosts.b):
        eventually(lambda ns=ns: is_bare(ns), 60, what="end of all tunnels")
    assert is_free(hosts.b, Encap.UDP, hosts.B4, PORT)


def come_and_go(labels: Labels, stay: list[Member], move: list[Member], changes: int) -> None:
    """Frames cross all pseudowires meanwhile; those that stay lose none of their own."""
    enough = threading.Event()
    errors: list[BaseException] = []
    everybody = [member.name for member in stay + move]
    rounds = 0

    def traffic() -> None:
        nonlocal rounds
        try:
            while not enough.is_set():
                labels.round(random.sample(everybody, min(len(everybody), 64)), 0.02)
                rounds += 1
        except BaseException as error:
            errors.append(error)

    labels.echoed.clear()
    thread = threading.Thread(target=traffic)
    thread.start()
    try:
        for _ in range(changes):
            member = random.choice(move)
            member.go()
            member.come()
        eventually(lambda: errors or rounds > 1
                   and all(labels.echoed.get(member.name) for member in stay), 30,
                   what="frames on every tunnel that stayed")
    finally:
        enough.set()
        thread.join()
    if errors:
        raise errors[0]
