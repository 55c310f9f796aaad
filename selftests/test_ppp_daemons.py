# SPDX-License-Identifier: GPL-2.0
"""PPP over L2TP as people run it: xl2tpd, kl2tpd, pppd and strongSwan of Debian, unchanged.

xl2tpd carries the data itself when the kernel does not; `used()` tells the two apart.
"""

import contextlib
import json
import os
import re
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.netns import Hosts, NetNS
from lib.pair import pattern, tcp_transfer
from lib.ppp_daemons import (AF_PPPOX, LAC4, LAC_PPP, LNS4, PX_PROTO_OE, SECRET, USER,
                             Daemon, Dialup, Host, Line, Unit, bridge, pppox, up, used)
from lib.uapi import Attr, Encap, Stat
from lib.wait import eventually

LAC6, LNS6 = "fe80::2", "fe80::1"
SO_RCVBUFFORCE = 33
ECHO = "lcp-echo-interval 1\nlcp-echo-failure 3\n"


@pytest.fixture
def dialup(hosts: Hosts, tmp_path: Path) -> Iterator[Dialup]:
    made = Dialup(hosts, tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dialup]:
    """A connection for the tests that leave it as it was."""
    hosts = Hosts()
    made = Dialup(hosts, tmp_path_factory.mktemp("line"))
    made.start_lns("mtu 1460\nmru 1410\n")
    made.start_lac("mtu 1500\nmru 1450\n")
    made.redial()
    yield made
    made.close()
    hosts.close()


# --- xl2tpd at both ends

def test_connects(line: Dialup) -> None:
    """CHAP, IPv4 and IPv6 addresses as configured, packets of both through the kernel."""
    up(line.lac, line.lns, ipv6=True)
    assert "Peer alice authenticated with CHAP" in line.lns.ppp_log()
    assert (line.lac.address(), line.lac.address6()) == (LAC4, LAC6)
    assert (line.lns.address(), line.lns.address6()) == (LNS4, LNS6)
    line.works()
    for host, peer in ((line.lac, LNS6), (line.lns, LAC6)):
        used(host, f"{peer}%ppp0")
    (here,), (there,) = line.lac.sessions(), line.lns.sessions()
    assert [here[Attr.CONN_ID], here[Attr.SESSION_ID]] == \
        [there[Attr.PEER_CONN_ID], there[Attr.PEER_SESSION_ID]]
    assert (here[Attr.LNS_MODE], there[Attr.LNS_MODE]) == (0, 1)


def test_proc_names_the_session(line: Dialup) -> None:
    """/proc/net/pppol2tp has the one tunnel with the one session and its interface."""
    for host in (line.lac, line.lns):
        text, (session,) = host.ns.read("pppol2tp"), host.sessions()
        assert text.count("\nTUNNEL '") == text.count("\n  SESSION '") == 1
        assert f"'sess {session[Attr.CONN_ID]}/{session[Attr.SESSION_ID]}'" in text
        assert text.endswith("\n   interface ppp0\n")


def test_mtu_is_as_negotiated(line: Dialup) -> None:
    """Each side sends what it may and the other takes."""
    assert line.lac.ns.link("ppp0").mtu == 1410
    assert line.lns.ns.link("ppp0").mtu == 1450


@pytest.mark.parametrize("size", (28, 1400, 1410, 1411, 1450, 1500, 4000))
def test_packet_sizes(line: Dialup, size: int) -> None:
    """IP packets up to and beyond the MTU, which makes fragments of them."""
    used(line.lac, LNS4, "-s", str(size - 28), packets=2)


def test_throughput(line: Dialup) -> None:
    """iperf3 in both directions; and what arrives is what was sent."""
    for direction in ((), ("-R",)):
        server = line.lns.ns.popen("iperf3", "-s", "-1", "-B", LNS4)
        try:
            # not just any socket of that port: there are those of the last time, too
            eventually(lambda: re.search(":1451 00000000:0000 0A ", line.lns.ns.read("tcp")),
                       what="iperf3 to listen")
            done = line.lac.ns.run("iperf3", "-J", "-n", "1M", "-c", LNS4, *direction)
            server.wait(20)
        finally:
            server.kill()
            server.wait()
        assert json.loads(done.stdout)["end"]["sum_received"]["bytes"] >= 1 << 20
    assert tcp_transfer(line.lac.ns, line.lns.ns, LNS4, 300_000) == pattern(300_000)


def test_wire_down_and_up(line: Dialup) -> None:
    """A link that flaps costs packets but not the connection."""
    before = line.lac.sessions()[0][Attr.SESSION_ID]
    for _ in range(3):
        line.hosts.b.down("eth0")
        assert not line.lac.ns.pings(LNS4, timeout=0.2)
        line.hosts.b.up("eth0")
        line.lac.ns.ping(LNS4)
    line.works()
    assert line.lac.sessions()[0][Attr.SESSION_ID] == before


def test_hang_up(dialup: Dialup) -> None:
    """pppd ends at one side, then is killed at the other; at last the LAC ends the tunnel."""
    dialup.dial(ECHO)
    for host, number in ((dialup.lns, signal.SIGTERM), (dialup.lac, signal.SIGKILL)):
        dialup.works()
        host.signal("pppd", number)
        dialup.lac.no_call()
        dialup.lns.no_call()
        dialup.redial()
    dialup.works()
    dialup.lac.order("d far")
    dialup.lac.nothing_left()
    dialup.lns.nothing_left()


@pytest.mark.parametrize("victim", ("lac", "lns"))
def test_killed(dialup: Dialup, victim: str) -> None:
    """xl2tpd dies by SIGKILL; nothing stays at either end, and it all works again."""
    dialup.start_lns(ECHO)
    lac = dialup.start_lac(ECHO)
    dialup.redial()
    if victim == "lac":
        dialup.lac.signal("xl2tpd", signal.SIGKILL)
        dialup.lac.nothing_left()
        dialup.lns.no_call()
    else:
        dialup.lns.signal("xl2tpd", signal.SIGKILL)
        dialup.lns.nothing_left()
        dialup.lac.no_call()
        # it would try to reach the one that died for a minute
        lac.end()
        dialup.lac.nothing_left()
        dialup.start_lns(ECHO)
    dialup.start_lac(ECHO)
    dialup.redial().works()


def test_wrong_secret(dialup: Dialup) -> None:
    """No address for somebody who does not know the secret."""
    dialup.lac.secrets(secret="wrong")
    dialup.start_lns()
    dialup.start_lac()
    dialup.lac.order("c far")
    eventually(lambda: "CHAP authentication failed" in dialup.lac.ppp_log(), 30, interval=0.05)
    dialup.lac.no_call()
    dialup.lns.no_call()
    assert "local  IP address" not in dialup.lac.ppp_log() + dialup.lns.ppp_log()


def test_user_space_is_told_from_kernel(dialup: Dialup) -> None:
    """The check by itself: what xl2tpd carries without the kernel is not taken for ours."""
    dialup.dial(extra="force userspace = yes")
    dialup.lac.ns.ping(LNS4)
    assert not dialup.lac.sessions() and not dialup.lac.tunnels()
    with pytest.raises(AssertionError, match="did not leave through the kernel"):
        used(dialup.lac, LNS4)


def test_sequenced(dialup: Dialup) -> None:
    """Both sides number their packets and insist on it."""
    dialup.dial("pppol2tp_send_seq\npppol2tp_recv_seq\n")
    dialup.works()

    def errors() -> list[int]:
        out = []
        for host in (dialup.lac, dialup.lns):
            (session,) = host.sessions()
            assert (session[Attr.SEND_SEQ], session[Attr.RECV_SEQ]) == (1, 1)
            out += [session.stats[Stat.RX_SEQ_DISCARDS], session.stats[Stat.RX_ERRORS]]
        return out

    # IPv6 and pppd send at once when the link comes up, and may overtake each other
    before = errors()
    dialup.lac.ns.ping(LNS4, "-s", "1372", count=20)
    assert errors() == before
    for host in (dialup.lac, dialup.lns):
        ns_nr = [int(n) for n in host.ns.read("pppol2tp").splitlines()[-2].split()[0].split("/")]
        assert min(ns_nr) >= 20, ns_nr


# --- kl2tpd

def kl2tpd(host: Host, peer: str, ppp: str) -> Daemon:
    """Dial; it is a LAC only."""
    arguments = host.write("pppd-args", ppp)
    config = host.write("kl2tpd.toml", f"""
[tunnel.t1]
peer = "{peer}:1701"
version = "l2tpv2"
encap = "udp"
[tunnel.t1.session.s1]
pseudowire = "ppp"
pppd_args = "{arguments}"
""")
    return host.start("/usr/sbin/kl2tpd", "-verbose", "-config", str(config))


def test_kl2tpd_calls_xl2tpd(dialup: Dialup) -> None:
    """go-l2tp makes tunnel and session by netlink and joins them by connect()."""
    dialup.start_lns(ECHO)
    daemon = kl2tpd(dialup.lac, Hosts.B4, LAC_PPP + ECHO)
    up(dialup.lac, dialup.lns, ipv6=True)
    dialup.works()
    assert "Peer alice authenticated with CHAP" in dialup.lns.ppp_log()
    daemon.end()
    dialup.lac.nothing_left()
    dialup.lns.no_call()
    daemon = kl2tpd(dialup.lac, Hosts.B4, LAC_PPP + ECHO)
    up(dialup.lac, dialup.lns)
    dialup.works()
    daemon.end(signal.SIGKILL)
    dialup.lac.nothing_left()
    dialup.lns.no_call()


# --- pppd and nothing else

VARIANTS = [(2, Encap.UDP, 4), (2, Encap.UDP, 6), (3, Encap.UDP, 4), (3, Encap.UDP, 6),
            (3, Encap.IP, 4), (3, Encap.IP, 6)]


class Pair:
    """pppd at both ends of sessions that nobody negotiated."""

    def __init__(self, hosts: Hosts, folder: Path) -> None:
        self.hosts = hosts
        self.a = Host(hosts.a, folder)
        self.b = Host(hosts.b, folder)
        self.lines: list[Line] = []

    def line(self, version: int = 2, encap: int = Encap.UDP, family: int = 4, **kwargs) -> Line:
        self.lines.append(Line(self.hosts.a, self.hosts.b, self.hosts.addresses(family), version,
                               encap, **kwargs))
        return self.lines[-1]

    def close(self) -> None:
        self.a.close()
        self.b.close()
        for line in self.lines:
            line.close()


@pytest.fixture
def pair(hosts: Hosts, tmp_path: Path) -> Iterator[Pair]:
    made = Pair(hosts, tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("version,encap,family", VARIANTS,
                         ids=[f"v{v}-{e.name.lower()}-ip{f}" for v, e, f in VARIANTS])
def test_pppd(pair: Pair, version: int, encap: Encap, family: int) -> None:
    """Each kind of tunnel, with the plugin's options; one end hangs up, the other notices."""
    line = pair.line(version, encap, family)
    # connect() makes sessions of version 3 without a sublayer, which has the numbers
    numbered = version == 2 or encap == Encap.IP
    sequenced = ("pppol2tp_send_seq", "pppol2tp_recv_seq") if numbered else ()
    here = pair.a.pppd(line.session(0, 5), f"{LAC4}:{LNS4}", *sequenced)
    there = pair.b.pppd(line.session(1, 5), f"{LNS4}:{LAC4}", "pppol2tp_lns_mode",
                        "pppol2tp_tunnel_id", "11", "pppol2tp_session_id", "5", *sequenced)
    up(pair.a, pair.b)
    used(pair.a, LNS4, "-s", "1472")
    (session,) = used(pair.b, LAC4)
    assert (session[Attr.SESSION_ID], session[Attr.LNS_MODE], session[Attr.SEND_SEQ]) == \
        (5, 1, numbered)
    here.end()
    there.exits()
    pair.a.no_call()
    pair.b.no_call()


def test_openl2tp_plugin(pair: Pair) -> None:
    """openl2tp.so tells openl2tpd, whose part we play, when the interface is up and down."""
    path = "/tmp/openl2tp-event.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as events:
        events.settimeout(20)
        events.bind(path)
        try:
            line = pair.line()
            here = pair.a.pppd(line.session(0, 5), "pppol2tp_tunnel_id", "10",
                               "pppol2tp_session_id", "5", "plugin", "openl2tp.so",
                               f"{LAC4}:{LNS4}")
            pair.b.pppd(line.session(1, 5), f"{LNS4}:{LAC4}")
            up(pair.a, pair.b)
            used(pair.a, LNS4)
            assert openl2tp_event(events) == (10, 5, True)
            here.end()
            eventually(lambda: openl2tp_event(events) == (10, 5, False))
        finally:
            os.unlink(path)


def openl2tp_event(events: socket.socket) -> tuple[int, int, bool]:
    """Tunnel, session and whether it is up: of the first message that has a ppp interface."""
    while b"ppp0" not in (message := events.recv(4096)):
        pass
    values = {}
    position = 8
    while position + 4 <= len(message):
        kind, length = struct.unpack_from("=HH", message, position)
        values[kind] = int.from_bytes(message[position + 4:position + 4 + length], "little")
        position += 4 + (length + 3 & ~3)
    return values[0], values[1], bool(values[6])


def test_multilink(pair: Pair) -> None:
    """Two sessions make one interface; packets use both; one of them may go."""
    line = pair.line()
    for sid in (5, 6):
        last = pair.a.pppd(line.session(0, sid), "multilink", f"{LAC4}:{LNS4}")
        pair.b.pppd(line.session(1, sid), "multilink", f"{LNS4}:{LAC4}")
        up(pair.a, pair.b)
    for host in (pair.a, pair.b):
        eventually(lambda: "Link attached to ppp0" in host.ppp_log(), what="the second to join")
        assert host.units() == ["ppp0"]
    before = {s[Attr.SESSION_ID]: s.stats for s in pair.a.sessions()}
    used(pair.a, LNS4, "-s", "1372", packets=20)
    for session in pair.a.sessions():
        for kind in (Stat.TX_PACKETS, Stat.RX_PACKETS):
            assert session.stats[kind] >= before[session[Attr.SESSION_ID]][kind] + 5
    assert tcp_transfer(pair.a.ns, pair.b.ns, LNS4, 200_000) == pattern(200_000)
    last.end()
    for host in (pair.a, pair.b):
        eventually(lambda: [s[Attr.SESSION_ID] for s in host.sessions()] == [5], 20,
                   "the second to go")
        assert host.units() == ["ppp0"]
    used(pair.a, LNS4, "-s", "1372", packets=20)
    assert tcp_transfer(pair.a.ns, pair.b.ns, LNS4, 200_000) == pattern(200_000)


def test_hundred_sessions(pair: Pair) -> None:
    """One tunnel with a hundred: interfaces at one end, bare sockets at the other."""
    line = pair.line()
    units: list[Unit] = []
    far: list[socket.socket] = []
    try:
        for n in range(1, 101):
            far.append(line.session(1, n))
            far[-1].settimeout(10)
            units.append(Unit(pair.a.ns, line.session(0, n)))
            pair.a.ns.sysctl(f"net/ipv6/conf/{units[-1].name}/disable_ipv6", 1)
            pair.a.ns.up(units[-1].name)
            pair.a.ns.addr(units[-1].name, f"10.30.{n}.0/31")
        assert len(pair.a.sessions()) == len(pair.b.sessions()) == 100
        for n, sock in enumerate(far, 1):
            with pair.a.ns.udp((f"10.30.{n}.0", 999), (f"10.30.{n}.1", 999)) as client:
                client.send(bytes([n]))
                packet = sock.recv(2000)
                assert packet[:3] == b"\x00\x21\x45" and packet[30:] == bytes([n])
                # the same with its ends exchanged, which leaves the checksums right
                sock.send(packet[:14] + packet[18:22] + packet[14:18] + packet[22:])
                assert client.recv(100) == bytes([n])
        assert {s.stats[Stat.RX_PACKETS] for s in pair.a.sessions()} == {1}
    finally:
        for thing in (*units, *far):
            thing.close()
    pair.a.no_call()
    pair.b.no_call()


# --- switching

SHORTER = pytest.mark.only("rust", "PPP-BRIDGE-CSUM: C loses what goes to the shorter header")


@pytest.mark.parametrize("version", (2, pytest.param(3, marks=SHORTER)))
def test_bridge_l2tp(routed_hosts: Hosts, tmp_path: Path, version: int) -> None:
    """A switch in the middle joins a session of version 2 to another, unseen by PPP."""
    hosts, switch = routed_hosts, routed_hosts.router
    a, b = Host(hosts.a, tmp_path), Host(hosts.b, tmp_path)
    left = Line(hosts.a, switch, (hosts.A4, "10.1.1.254"), 2, tid=10)
    right = Line(switch, hosts.b, ("2001:db8:2::fe", hosts.B6), version, tid=20)
    ends = left.session(1, 5), right.session(0, 6)
    try:
        bridge(switch, *ends)
        a.pppd(left.session(0, 5), f"{LAC4}:{LNS4}")
        b.pppd(right.session(1, 6), f"{LNS4}:{LAC4}")
        up(a, b)
        used(a, LNS4, "-s", "1372")
        used(b, LAC4)
        assert tcp_transfer(a.ns, b.ns, LNS4, 200_000) == pattern(200_000)
    finally:
        a.close()
        b.close()
        for thing in (*ends, left, right):
            thing.close()


def test_bridge_pppoe(routed_hosts: Hosts, tmp_path: Path) -> None:
    """A DSL line: PPPoE as far as the switch, L2TP behind it."""
    hosts, switch = routed_hosts, routed_hosts.router
    a, b = Host(hosts.a, tmp_path), Host(hosts.b, tmp_path)
    right = Line(switch, hosts.b, ("10.1.2.254", hosts.B4))

    def mac(ns: NetNS, device: str) -> str:
        return ns.run("ip", "-j", "link", "show", device).stdout.split('"address":"')[1][:17]

    there = bytes.fromhex(mac(hosts.a, "eth0").replace(":", ""))
    ends = pppox(switch, PX_PROTO_OE, struct.pack("=HI2s6s16s", AF_PPPOX, PX_PROTO_OE,
                                                  struct.pack("!H", 7), there, b"eth1")), \
        right.session(0, 6)
    try:
        bridge(switch, *ends)
        a.start("/usr/sbin/pppd", "plugin", "pppoe.so", "pppoe-sess",
                f"7:{mac(switch, 'eth1')}", "nic-eth0", f"{LAC4}:{LNS4}")
        b.pppd(right.session(1, 6), "mru", "1492", "mtu", "1492", f"{LNS4}:{LAC4}")
        up(a, b)
        used(b, LAC4, "-s", "1372")
        assert tcp_transfer(a.ns, b.ns, LNS4, 200_000) == pattern(200_000)
    finally:
        a.close()
        b.close()
        for thing in (*ends, right):
            thing.close()


# --- under IPsec

def charon(host: Host, local: str, peer: str) -> Daemon:
    """strongSwan with what L2TP over IPsec is: UDP port 1701 in transport mode."""
    settings = host.write("strongswan.conf", """
charon {
  load = random nonce openssl sha1 sha2 hmac kdf kernel-netlink socket-default vici
  filelog { stderr { default = 1 } }
}
swanctl { load = pem random x509 }
""")
    host.write("swanctl.conf", f"""
connections {{ l2tp {{
  version = 2
  mobike = no
  local_addrs = {local}
  remote_addrs = {peer}
  local {{ auth = psk
    id = {local} }}
  remote {{ auth = psk
    id = {peer} }}
  children {{ l2tp {{
    mode = transport
    local_ts = dynamic[udp/1701]
    remote_ts = dynamic[udp/1701]
  }} }}
}} }}
secrets {{ ike-1 {{ secret = "{SECRET}" }} }}
""")
    daemon = host.start("/usr/lib/ipsec/charon", env={"STRONGSWAN_CONF": str(settings)})
    eventually((host.folder / "run/charon.vici").exists, 30, what="charon's socket")
    return daemon


def swanctl(host: Host, *command: str) -> str:
    tool = host.start("swanctl", *command,
                      env={"STRONGSWAN_CONF": str(host.folder / "strongswan.conf")})
    status = tool.exits(60)
    daemons = "".join(d.log()[-4000:] for d in host._started)
    assert status == 0, f"swanctl {command}: {status}\n{tool.log()}\n{daemons}"
    return tool.log()


def test_ipsec(routed_hosts: Hosts, tmp_path: Path) -> None:
    """L2TP over IPsec: the router between sees ESP and not one L2TP packet."""
    dialup = Dialup(routed_hosts, tmp_path)
    wire = routed_hosts.router.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
    wire.bind(("eth1", 0x0800))
    try:
        for host, ends in ((dialup.lac, (Hosts.A4, Hosts.B4)), (dialup.lns, (Hosts.B4, Hosts.A4))):
            charon(host, *ends)
            swanctl(host, "--load-all", "--file", str(host.folder / "swanctl.conf"))
        swanctl(dialup.lac, "--initiate", "--child", "l2tp")
        dialup.dial("mtu 1400\nmru 1400\n")
        dialup.works()
        used(dialup.lac, LNS4, "-s", "1372")
        assert tcp_transfer(dialup.lac.ns, dialup.lns.ns, LNS4, 200_000) == pattern(200_000)
        seen: list[int] = []
        wire.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = wire.recv(100)
                seen.append(packet[9])
                # key exchange, from port 500 to port 500
                assert seen[-1] == socket.IPPROTO_ESP or packet[20:24] == b"\x01\xf4" * 2
        assert seen.count(socket.IPPROTO_ESP) > 50, seen
    finally:
        dialup.close()
