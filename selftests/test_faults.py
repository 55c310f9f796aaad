# SPDX-License-Identifier: GPL-2.0
"""Each allocation of each request, socket call and ioctl fails once: the errno says so, everything
is as it was before, and nothing is lost (the debug kernel tells at the end what was)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import itertools
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lib import attrs as nla
from lib import pppox, rtnl, system, uapi
from lib.faults import Faults
from lib.genl import L2tp
from lib.ipsocket import FAMILIES, Family, Sockets, control
from lib.netlink import Netlink, Reply
from lib.netns import Hosts, NetNS, settle
from lib.pppox import Address, DevPpp, PppSocket, frame
from lib.uapi import Attr, Cmd, Encap, PwType
from lib.wait import eventually

pytestmark = pytest.mark.needs("fault injection")

#: What a call may say when there is no memory; without an inode for a socket, that there is no file.
NO_MEMORY = (errno.ENOMEM, errno.ENOBUFS, errno.ENFILE)
LCP = frame(pppox.PPP_LCP, b"echo")


@pytest.fixture(scope="module")
def faults() -> Iterator[Faults]:
    made = Faults()
    yield made
    made.close()


def state(ns: NetNS) -> object:
    """Everything that a call could leave behind."""
    l2tp = ns.l2tp
    ends = [line.split()[1:3] for name in ("udp", "udp6") for line in ns.read(name).splitlines()[1:]]
    counts = {row[0]: row[2] for row in map(str.split, ns.read("protocols").splitlines())
              if row[0] in ("UDP", "UDPv6", "L2TP/IP", "L2TP/IPv6", "PPPOL2TP")}
    ppp = ns.read("pppol2tp") if Path("/proc/net/pppol2tp").exists() else ""
    return ([message.payload for message in l2tp.dump(Cmd.TUNNEL_GET)],
            [message.payload for message in l2tp.dump(Cmd.SESSION_GET)],
            ns.links(), sorted(ends), counts, ppp, system.loaded())


class Request:
    """A netlink request that is ready to be sent."""

    def __init__(self, sock: Netlink, kind: int, body: bytes, flags: int = uapi.NLM_F_ACK) -> None:
        self.sock = sock
        self.data = struct.pack("=IHHII", 16 + len(body), kind, uapi.NLM_F_REQUEST | flags, 7,
                                sock.portid) + body
        self.dump = bool(flags & uapi.NLM_F_DUMP)

    @classmethod
    def l2tp(cls, l2tp: L2tp, cmd: int, *attrs: bytes, **kwargs: int) -> Request:
        return cls(l2tp, l2tp.family, l2tp.body(cmd, *attrs), **kwargs)

    def __call__(self) -> object:
        self.sock.sock.send(self.data)
        return list(self.sock.read_dump(7)) if self.dump else self

    def finish(self) -> Reply | None:
        """The answer.  None if it was lost: what was asked for has been done, or not."""
        if self.dump:
            return Reply()
        try:
            return self.sock.read_reply(7)
        except OSError as error:
            assert error.errno == errno.ENOBUFS
            # What comes before the acknowledgement may be there.
            timeout = self.sock.sock.gettimeout()
            self.sock.sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.sock.recv()
            self.sock.sock.settimeout(timeout)
            return None


def exhaust(faults: Faults, ns: NetNS, call: Callable[[], Any], undo: Callable[[Any], object],
            *, least: int = 1, errors: tuple[int, ...] = NO_MEMORY) -> None:
    """Runs `call` with each of its allocations failing in turn, until it makes no more.

    `undo` takes back what a call that succeeded has done.  At least `least` of the failures must
    make the call fail.
    """
    before = state(ns)
    refused = 0
    for number in itertools.count(1):
        injected, result = faults.nth(number, call)
        lost = False
        if isinstance(result, Request):
            reply = result.finish()
            if reply is None:
                lost = True
            elif reply.errno:
                result = OSError(reply.errno, reply.extack)
        if isinstance(result, OSError):
            assert injected, result
            assert result.errno in errors, (number, result)
            refused += 1
        elif lost:
            # The answer itself could not be made. Whoever asked looks at what there is.
            assert injected
            if state(ns) != before:
                undo(result)
        else:
            undo(result)
        eventually(lambda: state(ns) == before, what=f"the state before allocation {number} failed")
        if not injected:
            break
        assert number < 2000
    assert refused >= least, f"{refused} of {number - 1}"


def nothing(_result: object) -> None:
    """A call that changes nothing."""


# --- netlink

TUNNELS = {
    "udp4": {},
    "udp6": {"local": "fd00::1", "peer": "fd00::2"},
    "ip4": {"encap": Encap.IP},
    "ip6": {"encap": Encap.IP, "local": "fd00::1", "peer": "fd00::2"},
    "v2": {"version": 2},
}


@pytest.mark.parametrize("kind", [*TUNNELS, "managed"])
def test_tunnel_create(faults: Faults, ns: NetNS, kind: str) -> None:
    l2tp = ns.l2tp
    more = {"fd": ns.udp(("127.0.0.1", 6000)).fileno()} if kind == "managed" else TUNNELS[kind]
    create = Request.l2tp(l2tp, Cmd.TUNNEL_CREATE, *l2tp.tunnel_attrs(**more))
    exhaust(faults, ns, create, lambda _: l2tp.del_tunnel(), least=3)


SESSIONS = {
    "eth-udp": ("udp4", {"ifname": "wire"}),
    "eth-numbered": ("udp6", {"send_seq": 1}),
    "eth-ip": ("ip4", {}),
    "ppp-v3": ("udp4", {"pw_type": PwType.PPP}),
    "ppp-v2": ("v2", {"pw_type": PwType.PPP}),
}


@pytest.mark.parametrize("kind", SESSIONS)
def test_session_create(faults: Faults, ns: NetNS, kind: str) -> None:
    l2tp = ns.l2tp
    tunnel, more = SESSIONS[kind]
    if "ppp" in kind:
        PppSocket(ns).close()  # loads what there is to load
    l2tp.tunnel(**TUNNELS[tunnel])
    create = Request.l2tp(l2tp, Cmd.SESSION_CREATE, *l2tp.session_attrs(**more))
    # EINVAL is what the kernel says when there is no memory for the name of a device's kobject
    exhaust(faults, ns, create, lambda _: l2tp.del_session(), least=3,
            errors=NO_MEMORY + (errno.EINVAL,) * ("eth" in kind))


@pytest.mark.parametrize("others", [1, 2])
@pytest.mark.only("rust", "C has no state of its own for shared ids")
def test_session_create_shared(faults: Faults, ns: NetNS, others: int) -> None:
    """An id that sessions of other tunnels have."""
    l2tp = ns.l2tp
    for tid in range(1, others + 1):
        l2tp.tunnel(tid, sport=5000 + tid)
        l2tp.session(tid, pw_type=PwType.PPP)
    l2tp.tunnel(9, sport=5009)
    create = Request.l2tp(l2tp, Cmd.SESSION_CREATE, *l2tp.session_attrs(9, pw_type=PwType.PPP))
    exhaust(faults, ns, create, lambda _: l2tp.del_session(9), least=3)


@pytest.mark.parametrize("kind", SESSIONS)
def test_session_delete(faults: Faults, ns: NetNS, kind: str) -> None:
    """What was asked for is done, or, if the request could not even be read, not."""
    l2tp = ns.l2tp
    tunnel, more = SESSIONS[kind]
    l2tp.tunnel(**TUNNELS[tunnel])
    l2tp.session(**more)
    ids = nla.u32(Attr.CONN_ID, 1), nla.u32(Attr.SESSION_ID, 1)
    with ns.listener():
        exhaust(faults, ns, Request.l2tp(l2tp, Cmd.SESSION_DELETE, *ids),
                lambda _: eventually(lambda: l2tp.try_session(**more).errno == 0))


@pytest.mark.parametrize("kind", TUNNELS)
def test_tunnel_delete(faults: Faults, ns: NetNS, kind: str) -> None:
    l2tp = ns.l2tp
    session = {"pw_type": PwType.PPP} if kind == "v2" else {}
    l2tp.tunnel(**TUNNELS[kind])
    l2tp.session(**session)

    def again(_: object) -> None:
        eventually(lambda: l2tp.try_tunnel(**TUNNELS[kind]).errno == 0)
        eventually(lambda: l2tp.try_session(**session).errno == 0)

    with ns.listener():
        exhaust(faults, ns, Request.l2tp(l2tp, Cmd.TUNNEL_DELETE, nla.u32(Attr.CONN_ID, 1)), again)


@pytest.mark.parametrize("cmd", [Cmd.TUNNEL_MODIFY, Cmd.TUNNEL_GET, Cmd.SESSION_MODIFY,
                                 Cmd.SESSION_GET, Cmd.NOOP])
def test_look_and_modify(faults: Faults, ns: NetNS, cmd: Cmd) -> None:
    """B16: what cannot be answered says why."""
    l2tp = ns.l2tp
    l2tp.tunnel()
    l2tp.session(cookie=b"12345678", peer_cookie=b"1234", recv_timeout=100)
    request = Request.l2tp(l2tp, cmd, nla.u32(Attr.CONN_ID, 1), nla.u32(Attr.SESSION_ID, 1))
    with ns.listener():
        exhaust(faults, ns, request, nothing)


def test_modify_changes_all_or_nothing(faults: Faults, ns: NetNS) -> None:
    l2tp = ns.l2tp
    l2tp.tunnel()
    l2tp.session()
    request = Request.l2tp(l2tp, Cmd.SESSION_MODIFY, nla.u32(Attr.CONN_ID, 1),
                           nla.u32(Attr.SESSION_ID, 1), nla.u8(Attr.SEND_SEQ, 1),
                           nla.u8(Attr.RECV_SEQ, 1), nla.u64(Attr.RECV_TIMEOUT, 500))
    with ns.listener():
        exhaust(faults, ns, request, lambda _: l2tp.modify_session(
            1, 1, nla.u8(Attr.SEND_SEQ, 0), nla.u8(Attr.RECV_SEQ, 0),
            nla.u64(Attr.RECV_TIMEOUT, 0)))


@pytest.mark.parametrize("cmd", [Cmd.TUNNEL_GET, Cmd.SESSION_GET])
def test_dump(faults: Faults, ns: NetNS, cmd: Cmd) -> None:
    l2tp = ns.l2tp
    for tid in range(1, 41):
        l2tp.tunnel(tid, sport=5000 + tid)
        l2tp.session(tid, tid, pw_type=PwType.PPP)
    # A dump that ended in the middle leaves the socket in the middle of it.
    with ns.client() as other:
        assert other.family == l2tp.family

        def ask() -> object:
            sock = L2tp(timeout=1)
            try:
                return Request(sock, l2tp.family, l2tp.body(cmd), flags=uapi.NLM_F_DUMP)()
            finally:
                sock.close()

        with ns:
            exhaust(faults, ns, ask, nothing)


# --- rtnetlink

def test_link_delete(faults: Faults, ns: NetNS) -> None:
    l2tp = ns.l2tp
    l2tp.tunnel()
    l2tp.session(ifname="wire")
    index = ns.link("wire").index
    # The device that is made again has another number.
    made = [Request(ns.rtnl, rtnl.RTM_DELLINK, ns.rtnl._ifinfo(index))]

    def delete() -> object:
        return made[0]()

    def again(_: object) -> None:
        eventually(lambda: l2tp.try_session(ifname="wire").errno == 0)
        made[0] = Request(ns.rtnl, rtnl.RTM_DELLINK, ns.rtnl._ifinfo(ns.link("wire").index))

    exhaust(faults, ns, delete, again)


def test_link_up(faults: Faults, ns: NetNS) -> None:
    ns.sysctl("net/ipv6/conf/default/disable_ipv6", 1)
    ns.l2tp.tunnel()
    ns.l2tp.session(ifname="wire")
    index = ns.link("wire").index
    up = Request(ns.rtnl, rtnl.RTM_NEWLINK, ns.rtnl._ifinfo(index, rtnl.IFF_UP, rtnl.IFF_UP))
    exhaust(faults, ns, up, lambda _: ns.down("wire"))


# --- sockets of IP protocol 115

@pytest.fixture
def opened(ns: NetNS) -> Iterator[Sockets]:
    made = Sockets(ns)
    yield made
    made.close()


@FAMILIES
def test_ip_socket(faults: Faults, ns: NetNS, family: Family) -> None:
    with ns:
        exhaust(faults, ns,
                lambda: socket.socket(family.af, socket.SOCK_DGRAM, uapi.IPPROTO_L2TP),
                lambda sock: sock.close(), least=2)


@FAMILIES
def test_ip_bind(faults: Faults, ns: NetNS, opened: Sockets, family: Family) -> None:
    """Afterwards the id is free."""
    socks = [opened(family)]
    name = family.name(family.near, 5)

    def rebind(_: object) -> None:
        socks[0].close()
        socks[0] = opened(family)

    exhaust(faults, ns, lambda: socks[0].bind_raw(name), rebind, least=0)


@FAMILIES
def test_ip_connect(faults: Faults, ns: NetNS, opened: Sockets, family: Family) -> None:
    sock = opened(family).bind(family.near, 5)
    name = family.name(family.near2, 6)
    exhaust(faults, ns, lambda: sock.connect_raw(name), lambda _: sock.disconnect(), least=0)


@FAMILIES
def test_ip_send(faults: Faults, ns: NetNS, opened: Sockets, family: Family) -> None:
    sender = opened(family).bind(family.near, 5)
    receiver = opened(family).bind(family.near2, 6)
    name = family.name(family.near2, 6)
    data = control(6, bytes(3000))

    exhaust(faults, ns, lambda: sender.send(data, name), nothing)
    receiver.all()
    sender.send(data, name)
    assert receiver.recv() == data


@FAMILIES
def test_ip_receive(faults: Faults, ns: NetNS, opened: Sockets, family: Family) -> None:
    """A message that could not be given out is there still."""
    sender = opened(family).bind(family.near, 5)
    receiver = opened(family).bind(family.near2, 6)
    name = family.name(family.near2, 6)
    for _ in range(4):
        sender.send(control(6), name)
    for number in range(1, 4):
        faults.nth(number, lambda: receiver.recv(socket.MSG_PEEK))
    assert receiver.all() == [control(6)] * 4


# --- PPP sockets

@pytest.fixture
def ppp(ns: NetNS) -> Iterator[PppSocket]:
    """A socket, in a namespace that has v2 tunnel 1 with PPP session 10."""
    ns.l2tp.tunnel(version=2)
    ns.l2tp.session(1, 10, 20, PwType.PPP)
    sock = PppSocket(ns)
    yield sock
    sock.close()


def test_ppp_socket(faults: Faults, ns: NetNS) -> None:
    PppSocket(ns).close()
    with ns:
        exhaust(faults, ns, lambda: socket.socket(pppox.AF_PPPOX, socket.SOCK_DGRAM,
                                                  pppox.PX_PROTO_OL2TP),
                lambda sock: sock.close(), least=2)


def test_ppp_connect_to_session(faults: Faults, ns: NetNS, ppp: PppSocket) -> None:
    socks = [ppp]
    address = Address(1, 10, 2, 20)

    def again(_: object) -> None:
        # Closing it ends the session, too.
        socks[0].close()
        eventually(lambda: ns.l2tp.try_session(1, 10, 20, PwType.PPP).errno == 0)
        socks[0] = PppSocket(ns)

    exhaust(faults, ns, lambda: socks[0].connect(address), again)
    socks[0].close()


def test_ppp_connect_makes_session(faults: Faults, ns: NetNS, ppp: PppSocket) -> None:
    socks = [ppp]
    address = Address(1, 11, 2, 21)

    def again(_: object) -> None:
        socks[0].close()
        socks[0] = PppSocket(ns)

    exhaust(faults, ns, lambda: socks[0].connect(address), again, least=3)
    socks[0].close()


def test_ppp_connect_makes_tunnel(faults: Faults, ns: NetNS) -> None:
    udp = ns.udp(("127.0.0.1", 6000), ("127.0.0.2", 6001))
    socks = [PppSocket(ns)]
    address = Address(3, 0, 4, 0, udp.fileno())

    def again(_: object) -> None:
        socks[0].close()
        ns.l2tp.del_tunnel(3)
        socks[0] = PppSocket(ns)

    exhaust(faults, ns, lambda: socks[0].connect(address), again, least=3)
    socks[0].close()


def test_ppp_send(faults: Faults, ns: NetNS, ppp: PppSocket) -> None:
    """A frame is refused, or counted as lost; there is no third way."""
    ppp.connect(Address(1, 10, 2, 20))
    refused, number = 0, 0
    for number in itertools.count(1):
        injected, result = faults.nth(number, lambda: ppp.sock.send(LCP))
        if isinstance(result, OSError):
            assert injected and result.errno in NO_MEMORY
            refused += 1
        stats = ppp.stats()
        assert stats.tx_packets + stats.tx_errors == number - refused
        if not injected:
            break
    assert refused


def ioctl(fd: int, request: int, value: int) -> bytes:
    return fcntl.ioctl(fd, request, struct.pack("=i", value))


@pytest.mark.parametrize("call", ["channel", "stats", "option", "name", "attach", "bridge"])
def test_ppp_calls(faults: Faults, ns: NetNS, ppp: PppSocket, call: str) -> None:
    """Of an open session."""
    ppp.connect(Address(1, 10, 2, 20))
    device = DevPpp(ns)
    number = ppp.channel()
    ns.l2tp.session(1, 12, 22, PwType.PPP)
    other = PppSocket(ns)
    other.connect(Address(1, 12, 2, 22))
    if call == "bridge":
        device.attach(number)
        number = other.channel()
    calls: dict[str, Callable[[], Any]] = {
        "channel": lambda: fcntl.ioctl(ppp.fd, pppox.PPPIOCGCHAN, bytes(4)),
        "stats": lambda: fcntl.ioctl(ppp.fd, pppox.PPPIOCGL2TPSTATS, bytes(80)),
        "option": lambda: ppp.set(pppox.SO_LNSMODE, 0),
        "name": ppp.raw_name,
        "attach": lambda: ioctl(device.fd, pppox.PPPIOCATTCHAN, number),
        "bridge": lambda: ioctl(device.fd, pppox.PPPIOCBRIDGECHAN, number),
    }

    def again(_: object) -> None:
        nonlocal device
        if call == "attach":
            device.close()
            device = DevPpp(ns)
        elif call == "bridge":
            ioctl(device.fd, pppox.PPPIOCUNBRIDGECHAN, 0)

    with ns:
        exhaust(faults, ns, calls[call], again, least=0)
    device.close()
    other.close()


# --- namespaces and the module itself

def test_new_namespace(faults: Faults) -> None:
    """Where it is our part of a new namespace that fails, there is none; but rhashtable can do
    with less than it asks for."""
    refused = 0
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    with faults.only_from(system.module_of("l2tp_core")):
        for number in itertools.count(1):
            injected, result = faults.nth(number, lambda: os.unshare(os.CLONE_NEWNET))
            os.setns(here, os.CLONE_NEWNET)  # where no allocation is made to fail
            if isinstance(result, OSError):
                assert injected and result.errno == errno.ENOMEM, (number, result)
                refused += 1
            if not injected:
                break
    os.close(here)
    assert refused >= 3  # what we have of each namespace
    settle()


@pytest.mark.unloads
@pytest.mark.only("rust", "C comes in several modules")
def test_module_init(faults: Faults) -> None:
    """Loading it fails, and leaves nothing registered; the next attempt may succeed."""
    settle()
    with faults.only_from(""):
        system.unload()
        path = next(Path("/lib/modules", os.uname().release).rglob("l2tp.ko"))
        fd = os.open(path, os.O_RDONLY)
        libc = ctypes.CDLL(None, use_errno=True)

        def load() -> None:
            if libc.syscall(313, fd, b"", 0):  # finit_module
                raise OSError(ctypes.get_errno(), "finit_module")

        for number in itertools.count(1):
            injected, result = faults.nth(number, load)
            if not injected:
                break
            if isinstance(result, OSError):
                assert result.errno in NO_MEMORY, (number, result)
                assert not system.loaded()
            else:
                system.unload()
        os.close(fd)
    assert number > 10 and system.loaded()


# --- traffic

def test_traffic(faults: Faults, hosts: Hosts) -> None:
    """Frames are lost when there is no memory for them, and nothing else happens."""
    hosts.a.l2tp.tunnel(local=Hosts.A4, peer=Hosts.B4)
    hosts.b.l2tp.tunnel(local=Hosts.B4, peer=Hosts.A4, sport=5001, dport=5000)
    for host, address in ((hosts.a, "10.9.0.1/24"), (hosts.b, "10.9.0.2/24")):
        host.l2tp.session(1, 1, 1, send_seq=1, recv_timeout=50)
        device = host.l2tp.ifname()
        host.up(device)
        host.addr(device, address)
    hosts.a.ping("10.9.0.2")
    with faults.sometimes(10):
        hosts.a.run("ping", "-n", "-q", "-c", "300", "-i", "0.002", "-s", "2000", "-W", "1",
                    "10.9.0.2", check=False)
    hosts.a.ping("10.9.0.2", count=3)
