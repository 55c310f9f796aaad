# SPDX-License-Identifier: GPL-2.0
"""Creation and deletion in every order under traffic: no splat, no leak, no hang.

L2TP_ROUNDS sets the number of rounds (default 200, for C, which is not on trial, 20: each
ending with each kind once).
"""

import errno
import itertools
import os
import random
import signal
import socket
from collections.abc import Callable, Iterator

import pytest

from lib import flood, memory, rtnl, system, uapi
from lib.attrs import string, u32
from lib.differences import expect
from lib.flood import Flood
from lib.genl import L2tp
from lib.netns import Hosts, NetNS, move, settle
from lib.pair import Wire
from lib.uapi import Attr, Cmd, Encap, Stat
from lib.wait import at_once, eventually

ROUNDS = int(os.environ.get("L2TP_ROUNDS", "200" if system.impl() == "rust" else "20"))
NEAR = {4: flood.NEAR4, 6: flood.NEAR6}
FAR = {4: flood.FAR4, 6: flood.FAR6}
KINDS = [(encap, family) for encap in (Encap.UDP, Encap.IP) for family in (4, 6)]
#: The ends of a tunnel that leads nowhere, on the loopback device.
ENDS = {4: ("127.0.0.1", "127.0.0.2"), 6: ("fd00::1", "fd00::2")}


@pytest.fixture
def traffic() -> Iterator[Flood]:
    source = Flood()
    source.start()
    yield source
    source.close()


class Round:
    """A host with one tunnel of several sessions under traffic, and one way to end it."""

    def __init__(self, host: NetNS, encap: int, family: int, managed: bool) -> None:
        self.host = host
        self.sock: socket.socket | None = None
        if managed and encap == Encap.UDP:
            self.sock = host.udp((NEAR[family], flood.NEAR_PORT), (FAR[family], flood.FAR_PORT))
        fd = self.sock.fileno() if self.sock else None
        eventually(lambda: done(host.l2tp.try_tunnel(
            encap=encap, local=NEAR[family], peer=FAR[family], sport=flood.NEAR_PORT,
            dport=flood.FAR_PORT, fd=fd)))
        for sid in flood.SESSIONS:
            eventually(lambda sid=sid: done(host.l2tp.try_session(
                1, sid, sid, ifname=f"wire{sid}", recv_timeout=20 if sid == 2 else None)))
            flood.use(host, f"wire{sid}")

    def is_busy(self) -> bool:
        """Frames have gone both ways."""
        stats = self.host.l2tp.tunnel_stats()
        return stats[Stat.RX_PACKETS] > 0 and stats[Stat.TX_PACKETS] > 0

    def is_gone(self) -> bool:
        names = self.host.links()
        return not self.host.l2tp.has_tunnel(1) and not any("wire" in name for name in names)

    # --- endings

    def by_sessions(self) -> None:
        for sid in flood.SESSIONS:
            self.host.l2tp.del_session(1, sid)
        self.host.l2tp.del_tunnel()

    def by_name_and_tunnel(self) -> None:
        self.host.l2tp.call(Cmd.SESSION_DELETE, string(Attr.IFNAME, "wire2"))
        self.host.l2tp.del_tunnel()

    def by_tunnel(self) -> None:
        self.host.l2tp.del_tunnel()

    def by_links(self) -> None:
        """ip link del, where that is possible."""
        for sid in flood.SESSIONS:
            link = self.host.rtnl.find(f"wire{sid}")
            assert link
            assert self.host.rtnl.try_delete(link.index) == expect(
                "LINK-KIND", c=errno.EOPNOTSUPP, rust=0)
        self.host.l2tp.del_tunnel()

    def by_socket(self) -> None:
        if self.sock:
            self.sock.close()
        else:
            self.host.l2tp.del_tunnel()


ENDINGS: list[Callable[[Round], None]] = [
    Round.by_sessions, Round.by_tunnel, Round.by_socket, Round.by_name_and_tunnel, Round.by_links]


def done(reply) -> bool:
    """Created; C may refuse while its worker still deletes the predecessor."""
    assert reply.errno in (0,) + expect("SYNC-DELETE", c=(
        errno.EEXIST, errno.EADDRINUSE, errno.EBUSY, errno.ENODEV), rust=()), reply
    return reply.errno == 0


def new_host(traffic: Flood) -> NetNS:
    host = NetNS("host")
    # the old host's end of the wire disappears with it
    eventually(lambda: "eth0" not in traffic.ns.links(), 30)
    traffic.attach(host)
    return host


@pytest.mark.unloads
def test_rounds(traffic: Flood) -> None:
    """Every ending with every kind of tunnel; every fifth round the whole namespace dies with
    everything in it, and every fifth the module is unloaded and loaded again."""
    settle()
    system.unload()
    system.load()
    references = system.loaded()

    numbers = iter(range(ROUNDS))

    def rounds(count: int) -> None:
        host = new_host(traffic)
        for number in itertools.islice(numbers, count):
            encap, family = KINDS[number % len(KINDS)]
            this = Round(host, encap, family, managed=number % 3 == 1)
            eventually(this.is_busy, what=f"traffic in round {number}")
            if number % 5 == 4:
                host.close()
                host = new_host(traffic)
            else:
                # each of them in turn in the fifth round's stead
                ENDINGS[(number + number // 5) % len(ENDINGS)](this)
                eventually(this.is_gone, what=f"end of round {number}")
                if this.sock:
                    this.sock.close()
            if number % 5 == 2:
                reload_under_traffic(host, references)
        host.close()
        eventually(lambda: system.loaded() == references)

    a_part = ROUNDS // 10 * 3
    rounds(ROUNDS - 3 * a_part)
    # one object in five rounds shows
    memory.expect_steady(lambda: rounds(a_part), 10, times=3)
    assert next(numbers, None) is None
    assert not memory.network_devices_waiting()


def reload_under_traffic(host: NetNS, references: dict[str, int]) -> None:
    """UDP tunnels hold no reference: they, and their sockets, vanish with the module (3.8)."""
    eventually(lambda: done(host.l2tp.try_tunnel(
        1, local=NEAR[4], peer=FAR[4], sport=flood.NEAR_PORT, dport=flood.FAR_PORT)))
    eventually(lambda: system.loaded() == references, 30)
    system.unload()
    assert f":{flood.NEAR_PORT:04X} " not in host.read("udp")
    system.load()
    host.forget_clients()
    assert host.l2tp.tunnels() == []


@pytest.mark.unloads
def test_unload_is_refused_while_devices_live(ns: NetNS) -> None:
    """3.9: each device holds the module."""
    ns.l2tp.tunnel()
    ns.l2tp.session(ifname="dev")
    ns.up("dev")
    module = system.module_of("l2tp_eth")
    assert system.rmmod(module) != 0
    assert module in system.loaded() and "dev" in ns.links()
    ns.l2tp.del_session()
    eventually(lambda: system.loaded()[module] == 0)


# --- everything at once

def ask_all(client: L2tp, cmd: Cmd, *requests: list[bytes]) -> Callable[[], None]:
    """Several requests that may find their object gone, or the device name still in use."""
    def run() -> None:
        for attributes in requests:
            reply = client.ask(cmd, *attributes)
            assert reply.errno in (0, errno.ENODEV, errno.EEXIST, errno.EADDRINUSE), reply
    return run


SIDS = range(1, 7)


@pytest.mark.parametrize("encap,family", KINDS,
                         ids=[f"{encap.name.lower()}{family}" for encap, family in KINDS])
def test_concurrent_deletion(ns: NetNS, encap: int, family: int) -> None:
    """B22. Sessions by id and by name, links, tunnel, dumps and new sessions, all at once."""
    local, peer = ENDS[family]
    tid = u32(Attr.CONN_ID, 1)
    clients = [ns.client() for _ in range(5)]
    generator = random.Random(encap * 10 + family)
    for _ in range(5):
        eventually(lambda: ns.l2tp.try_tunnel(encap=encap, local=local, peer=peer).errno == 0)
        for sid in SIDS:
            eventually(lambda sid=sid: ns.l2tp.try_session(1, sid, ifname=f"d{sid}").errno == 0)
        for sid in SIDS:
            ns.up(f"d{sid}")
        indices = [ns.index(f"d{sid}") for sid in SIDS]
        orders = [generator.sample(SIDS, len(SIDS)) for _ in range(3)]

        def delete_links() -> None:
            with ns, rtnl.Rtnl() as client:
                for index in indices:
                    assert client.try_delete(index) in (0, errno.ENODEV, errno.EOPNOTSUPP)

        def dump() -> None:
            for _ in range(3):
                for cmd in (Cmd.SESSION_GET, Cmd.TUNNEL_GET):
                    clients[3].dump(cmd)

        at_once(
            ask_all(clients[0], Cmd.SESSION_DELETE,
                    *([tid, u32(Attr.SESSION_ID, sid)] for sid in orders[0])),
            ask_all(clients[1], Cmd.SESSION_DELETE,
                    *([string(Attr.IFNAME, f"d{sid}")] for sid in orders[1])),
            ask_all(clients[2], Cmd.TUNNEL_DELETE, [tid], [tid]),
            ask_all(clients[4], Cmd.SESSION_CREATE,
                    *(L2tp.session_attrs(1, sid, ifname=f"d{sid}") for sid in orders[2])),
            delete_links, dump)
        # a session made just before the tunnel went may outlive nothing: all must be gone
        ns.l2tp.ask(Cmd.TUNNEL_DELETE, tid)
        eventually(lambda: ns.l2tp.tunnels() == [] and ns.links() == ["lo"])
        assert ns.l2tp.sessions() == []


def test_concurrent_with_namespace_exit(make_ns) -> None:
    """The namespace dies while sessions, tunnel and (elsewhere) devices are being deleted."""
    elsewhere = make_ns("elsewhere")
    settle()
    start = system.loaded()
    for number in range(6):
        dying = NetNS("dying")
        for tid in (1, 2):
            dying.l2tp.tunnel(tid, encap=(number + tid) % 2, sport=5000 + tid)
            for sid in range(4):
                dying.l2tp.session(tid, tid * 10 + sid, ifname=f"d{tid}{sid}")
                dying.up(f"d{tid}{sid}")
        move("d10", dying, elsewhere)
        index = elsewhere.index("d10")
        sessions, tunnels = L2tpIn(dying), L2tpIn(dying)

        def delete_sessions() -> None:
            for tid in (1, 2):
                for sid in range(4):
                    sessions.ask(Cmd.SESSION_DELETE, u32(Attr.CONN_ID, tid),
                                 u32(Attr.SESSION_ID, tid * 10 + sid))
            sessions.close()

        def delete_tunnels() -> None:
            tunnels.ask(Cmd.TUNNEL_DELETE, u32(Attr.CONN_ID, 2))
            tunnels.close()

        def delete_link() -> None:
            with elsewhere, rtnl.Rtnl() as client:
                client.try_delete(index)

        at_once(delete_sessions, delete_tunnels, delete_link, dying.close)
        eventually(lambda: elsewhere.links() == ["lo"])
    eventually(lambda: system.loaded() == start, 30)


#: Tunnels that one namespace takes along.
MANY = 5000 if system.impl() == "rust" else 500


def test_namespace_exit_with_thousands_of_tunnels() -> None:
    """Of all kinds, some with a device: nothing of them is left."""
    settle()
    references = system.loaded()

    def come_and_go() -> None:
        host = NetNS("many")
        host.addr("lo", *(f"{end}/128" for end in ENDS[6]))
        for tid in range(1, MANY + 1):
            encap, family = KINDS[tid % len(KINDS)]
            local, peer = ENDS[family]
            # only what fails is answered
            attrs = host.l2tp.tunnel_attrs(
                tid, encap=encap, local=local, peer=peer, sport=5000 + tid)
            host.l2tp.send(host.l2tp.family, host.l2tp.body(Cmd.TUNNEL_CREATE, *attrs),
                           uapi.NLM_F_REQUEST)
            if tid % 99 == 0:
                host.l2tp.session(tid, tid, ifname=f"wire{tid}")
                host.up(f"wire{tid}")
        assert sorted(host.l2tp.tunnels()) == list(range(1, MANY + 1))
        host.close()
        settle(300)
        eventually(lambda: system.loaded() == references, 30)

    # one object in two tunnels shows, even if they are few
    memory.expect_steady(come_and_go, 250)
    assert not memory.network_devices_waiting()


def L2tpIn(ns: NetNS) -> L2tp:
    """A client the namespace object does not close."""
    with ns:
        return L2tp()


def test_killed_owner(traffic: Flood, make_ns) -> None:
    """SIGKILL for a daemon with tunnel sockets under traffic: everything of it goes."""
    host = make_ns("host")
    traffic.attach(host)
    for family in (4, 6) * 3:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setns(host.fd, os.CLONE_NEWNET)
                af = socket.AF_INET if family == 4 else socket.AF_INET6
                sock = socket.socket(af, socket.SOCK_DGRAM)
                sock.bind((NEAR[family], flood.NEAR_PORT))
                sock.connect((FAR[family], flood.FAR_PORT))
                client = L2tp()
                client.tunnel(fd=sock.fileno())
                for sid in flood.SESSIONS:
                    client.session(1, sid, sid, ifname=f"wire{sid}")
                os.write(writer, b"ready")
                signal.pause()
            finally:
                os._exit(1)
        os.close(writer)
        try:
            assert os.read(reader, 10) == b"ready"
            for sid in flood.SESSIONS:
                flood.use(host, f"wire{sid}")
            eventually(lambda: host.l2tp.tunnel_stats()[Stat.RX_PACKETS] > 0)
        finally:
            os.close(reader)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        eventually(lambda: not host.l2tp.has_tunnel(1))
        eventually(lambda: host.links() == ["eth0", "lo"])


def test_churn_of_names_and_ids(ns: NetNS) -> None:
    """One name and one id, created and deleted as fast as it goes."""
    ns.l2tp.tunnel()
    for number in range(50):
        eventually(lambda: done(ns.l2tp.try_session(1, 7, number, ifname="same")))
        assert ns.l2tp.get_session(1, 7)[Attr.PEER_SESSION_ID] == number
        ns.l2tp.del_session(1, 7)
    eventually(lambda: ns.links() == ["lo"])


def test_traffic_survives_neighbours_deletion(hosts: Hosts) -> None:
    """One session of a tunnel carries a ping without loss while 40 others come and go."""
    wire = Wire(hosts).up()
    wire.ping()
    ping = hosts.a.popen("ping", "-q", "-i", "0.01", "-c", "100", "-W", "5", wire.inner(4)[1])
    for number in range(40):
        sid = 100 + number
        hosts.a.l2tp.session(wire.tid, sid)
        hosts.a.l2tp.del_session(wire.tid, sid)
    assert ping.wait(60) == 0
    stats = wire.stats(1)
    assert stats[Stat.RX_PACKETS] >= 100 and stats[Stat.RX_ERRORS] == 0


# --- pktgen

class Pktgen:
    """The kernel's packet generator, in one namespace, on one device."""

    def __init__(self, ns: NetNS, device: str) -> None:
        system.modprobe("pktgen")
        self.ns = ns
        self.device = device
        self._write("kpktgend_0", "rem_device_all")
        self._write("kpktgend_0", f"add_device {device}")

    def _write(self, file: str, command: str) -> None:
        with self.ns:
            with open(f"/proc/thread-self/net/pktgen/{file}", "w") as control:
                control.write(command + "\n")

    def configure(self, *commands: str) -> None:
        for command in commands:
            self._write(self.device, command)

    def run(self) -> None:
        self._write("pgctrl", "start")

    def result(self) -> str:
        return self.ns.read(f"pktgen/{self.device}")


PACKETS = 500


@pytest.mark.parametrize("encap,family", KINDS,
                         ids=[f"{encap.name.lower()}{family}" for encap, family in KINDS])
def test_pktgen_forwarded(make_ns, encap: int, family: int) -> None:
    """Into a veth whose packets are routed into the tunnel: C survives this one."""
    source = Flood()
    host = make_ns("host")
    source.attach(host)
    try:
        host.l2tp.tunnel(encap=encap, local=NEAR[family], peer=FAR[family])
        host.l2tp.session(1, 1, 1, ifname="wire1")
        flood.use(host, "wire1")
        generator = Pktgen(source.ns, "eth0")
        generator.configure(f"count {PACKETS}", "pkt_size 60", "dst 10.99.0.1",
                            f"dst_mac {host.link('eth0').mac.hex(':')}")
        generator.run()
        eventually(lambda: "Result: OK" in generator.result())
        eventually(lambda: host.l2tp.tunnel_stats()[Stat.TX_PACKETS] >= PACKETS)
    finally:
        source.close()


@pytest.mark.only("rust", "B19: C dies of BUG() here")
@pytest.mark.parametrize("encap,family", KINDS,
                         ids=[f"{encap.name.lower()}{family}" for encap, family in KINDS])
@pytest.mark.parametrize("mode", ["shared", "clone", "burst", "unshared"])
def test_pktgen_onto_the_device(make_ns, encap: int, family: int, mode: str) -> None:
    """Shared packets: every one arrives intact, although the generator keeps a reference."""
    source = Flood()
    host = make_ns("host")
    source.attach(host)
    try:
        host.l2tp.tunnel(encap=encap, local=NEAR[family], peer=FAR[family])
        host.l2tp.session(1, 1, 1, ifname="wire1", cookie=b"12345678")
        host.up("wire1")
        generator = Pktgen(host, "wire1")
        generator.configure(f"count {PACKETS}", "pkt_size 60", "dst 10.99.0.1",
                            "dst_mac 02:00:00:00:00:09")
        if mode == "unshared":
            generator.configure("flag !SHARED")
        elif mode in ("clone", "burst"):
            # refused where the driver forbids it, which is an answer as well
            try:
                generator.configure("clone_skb 100" if mode == "clone" else "burst 8")
            except OSError as error:
                assert error.errno in (errno.EOPNOTSUPP, 524)
        generator.run()
        eventually(lambda: "Result: OK" in generator.result())
        stats = host.l2tp.session_stats()
        assert stats[Stat.TX_PACKETS] >= PACKETS and stats[Stat.TX_ERRORS] == 0
    finally:
        source.close()
