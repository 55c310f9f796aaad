# SPDX-License-Identifier: GPL-2.0
"""PPPoL2TP sockets: every call, every errno (abi 7.1 to 7.9)."""

import ctypes
import errno
import fcntl
import mmap
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from lib import pppox, system
from lib.differences import expect
from lib.netns import NetNS
from lib.pppox import Address, PppSocket, frame
from lib.uapi import Attr, Encap, PwType, Stat
from lib.wait import eventually

LCP = frame(pppox.PPP_LCP, b"echo, echo, echo")
#: What the kernel's C code and ours both call for, whatever the pointer: an address of its own.
KERNEL_ADDRESS = 0xffff800000000000
NEVER = 0xdead


class Ppp:
    """Sockets in one namespace, and UDP sockets for their tunnels."""

    def __init__(self, ns: NetNS) -> None:
        self.ns = ns
        self.made: list[PppSocket] = []

    def open(self) -> PppSocket:
        self.made.append(PppSocket(self.ns))
        return self.made[-1]

    def udp(self, port: int = 5000, peer: int = 5001, host: str = "127.0.0.1",
            peer_host: str = "127.0.0.2") -> socket.socket:
        return self.ns.udp((host, port), (peer_host, peer))

    def connected(self, address: Address) -> PppSocket:
        sock = self.open()
        sock.connect(address)
        return sock

    def tunnel(self, tid: int = 1, peer_tid: int = 2, version: int = 2, port: int = 5000,
               **kwargs) -> PppSocket:
        """A tunnel made by its management socket."""
        udp = self.udp(port, **kwargs)
        return self.connected(Address(tid, 0, peer_tid, 0, udp.fileno(), version))

    def session(self, tid: int = 1, sid: int = 10, peer_tid: int = 2,
                peer_sid: int = 20) -> PppSocket:
        return self.connected(Address(tid, sid, peer_tid, peer_sid))

    def close(self) -> None:
        for sock in self.made:
            sock.close()


@pytest.fixture
def ppp(ns: NetNS) -> Iterator[Ppp]:
    made = Ppp(ns)
    yield made
    made.close()


@pytest.fixture
def pair(ppp: Ppp) -> tuple[PppSocket, socket.socket]:
    """A session socket (1/10 to 2/20), and the peer's UDP socket."""
    ppp.tunnel()
    return ppp.session(), ppp.udp(5001, 5000, "127.0.0.2", "127.0.0.1")


def errno_of(call: Callable, *args) -> int:
    """The errno that a call fails with, or 0."""
    try:
        call(*args)
    except OSError as error:
        return error.errno or 0
    return 0


def gone(ns: NetNS, tid: int, sid: int) -> None:
    eventually(lambda: not ns.l2tp.has_tunnel(tid) or not ns.l2tp.has_session(tid, sid))


# --- creation (7.1)

@pytest.mark.parametrize("kind", [1, 2, 3, 5])
def test_any_type_makes_a_stream_socket(ns: NetNS, kind: int) -> None:
    with PppSocket(ns, kind) as sock:
        option = sock.sock.getsockopt
        assert option(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
        assert option(socket.SOL_SOCKET, socket.SO_PROTOCOL) == pppox.PX_PROTO_OL2TP
        assert option(socket.SOL_SOCKET, socket.SO_DOMAIN) == pppox.AF_PPPOX


def test_anybody_may_open_a_socket(ns: NetNS) -> None:
    assert system.in_child(lambda: errno_of(PppSocket, ns), uid=system.NOBODY) == errno.EPERM, \
        "entering the namespace takes privilege; this shows that the child has none"
    with ns:
        assert system.in_child(lambda: errno_of(socket.socket, 24, 2, 1), uid=system.NOBODY) == 0


def test_protocol_is_listed(ns: NetNS) -> None:
    with PppSocket(ns):
        rows = [line.split() for line in ns.read("protocols").splitlines()]
    assert [row[0] for row in rows].count("PPPOL2TP") == 1


def test_module_references(ns: NetNS) -> None:
    """Two for each socket (3.9), until it is gone."""
    name = system.module_of("l2tp_ppp")
    PppSocket(ns).close()  # loads it
    eventually(lambda: system.loaded()[name] == 0)
    sockets = [PppSocket(ns) for _ in range(3)]
    assert system.loaded()[name] == 6
    assert system.rmmod(name) != 0
    for sock in sockets:
        sock.close()
    eventually(lambda: system.loaded()[name] == 0)


# --- addresses (7.2, 7.3)

LAYOUTS = [(2, socket.AF_INET), (2, socket.AF_INET6), (3, socket.AF_INET), (3, socket.AF_INET6)]


@pytest.mark.parametrize("version,family", LAYOUTS)
def test_name_is_the_address(ppp: Ppp, version: int, family: int) -> None:
    """A tunnel and a session for each layout; their names have the tunnel's layout."""
    host, peer = ("127.0.0.1", "127.0.0.2") if family == socket.AF_INET else ("fd00::1", "fd00::2")
    fd = ppp.udp(5000, 6000, host, peer).fileno()
    address = Address(0x1122, 0, 0x3344, 0, fd, version, family)
    manager = ppp.connected(address)
    session = ppp.connected(replace(address, sid=0x5566, peer_sid=0x7788, fd=-1))
    wanted = replace(address, peer=(peer, 6000), pid=os.getpid())
    for sock, sids in ((manager, (0, 0)), (session, (0x5566, 0x7788))):
        name = sock.name()
        assert name == replace(wanted, sid=sids[0], peer_sid=sids[1])
        assert sock.raw_name(peer=True) == sock.raw_name()
    tunnel = ppp.ns.l2tp.get_tunnel(0x1122)
    assert (tunnel[Attr.PROTO_VERSION], tunnel[Attr.PEER_CONN_ID]) == (version, 0x3344)


@pytest.mark.parametrize("version,family", LAYOUTS)
@pytest.mark.parametrize("tunnel_version", [2, 3])
def test_any_layout_for_any_tunnel(ppp: Ppp, version: int, family: int,
                                   tunnel_version: int) -> None:
    """7.4.1"""
    ppp.ns.l2tp.tunnel(1, 2, version=tunnel_version)
    sock = ppp.connected(Address(1, 10, 2, 20, version=version, family=family))
    name = sock.name()
    assert (name.version, name.family, name.fd) == (tunnel_version, socket.AF_INET, -1)
    assert (name.tid, name.sid, name.peer_tid, name.peer_sid) == (1, 10, 2, 20)
    assert name.peer == ("127.0.0.2", 5001)


def test_name_over_ip_has_no_port(ppp: Ppp) -> None:
    ppp.ns.l2tp.tunnel(1, 2, encap=Encap.IP)
    assert ppp.session().name().peer == ("127.0.0.2", 0)


def test_lengths(ppp: Ppp) -> None:
    ppp.tunnel()
    sock = ppp.open()
    data = Address(1, 10, 2, 20).pack() + bytes(90)
    for length in set(range(129)) - {38, 46, 50, 58}:
        assert sock.errno_of_connect(data[:length]) == errno.EINVAL, length
    assert sock.errno_of_connect(data[:38]) == 0


@pytest.mark.parametrize("version,family", LAYOUTS)
def test_what_is_looked_at(ppp: Ppp, version: int, family: int) -> None:
    """The protocol and the tunnel id; not the family, the process and the internet address."""
    ppp.tunnel()
    address = Address(1, 10, 2, 20, version=version, family=family)
    sock = ppp.open()
    assert sock.errno_of_connect(replace(address, protocol=0)) == errno.EINVAL
    assert sock.errno_of_connect(replace(address, protocol=2)) == errno.EINVAL
    assert sock.errno_of_connect(replace(address, tid=0)) == errno.EINVAL
    assert sock.errno_of_connect(replace(address, sa_family=77, pid=4711)) == 0


def test_fd_errors(ppp: Ppp, other_ns: NetNS) -> None:
    def connect(fd: int) -> int:
        return ppp.open().errno_of_connect(Address(1, 0, 2, 0, fd))

    assert connect(-1) == errno.EBADF
    assert connect(9999) == errno.EBADF
    reader, writer = os.pipe()
    assert connect(reader) == errno.ENOTSOCK
    os.close(reader)
    os.close(writer)
    assert connect(other_ns.udp(("127.0.0.1", 1)).fileno()) == errno.EINVAL
    stream = ppp.ns.socket(socket.AF_INET, socket.SOCK_STREAM)
    assert connect(stream.fileno()) == errno.EPROTONOSUPPORT
    assert connect(ppp.ns.socket(proto=115).fileno()) == errno.EPROTONOSUPPORT
    udp = ppp.udp()
    assert connect(udp.fileno()) == 0
    assert ppp.open().errno_of_connect(Address(7, 0, 8, 0, udp.fileno())) == errno.EBUSY
    assert ppp.ns.l2tp.tunnels() == [1]


def test_connect_errors_in_order(ppp: Ppp) -> None:
    l2tp = ppp.ns.l2tp
    first = ppp.open()
    for ids in ((5, 10, 2, 20), (5, 0, 2, 20), (5, 10, 2, 0)):
        assert first.errno_of_connect(Address(*ids)) == errno.ENOENT
    l2tp.tunnel(1, 2, version=3)
    l2tp.session(1, 5, 6, ifname="wire")
    assert first.errno_of_connect(Address(1, 5, 2, 6)) == errno.EPROTOTYPE
    first.connect(Address(1, 10, 2, 20))
    # an unknown tunnel, then the socket itself, then the session
    assert first.errno_of_connect(Address(5, 10, 2, 20)) == errno.ENOENT
    assert first.errno_of_connect(Address(1, 5, 2, 6)) == errno.EBUSY
    assert first.errno_of_connect(Address(1, 10, 2, 20)) == errno.EBUSY
    assert ppp.open().errno_of_connect(Address(1, 10, 2, 20)) == errno.EEXIST
    assert l2tp.sessions() == [(1, 5), (1, 10)]


def test_refused_connect_leaves_nothing(ppp: Ppp) -> None:
    """A connected socket is told to make another tunnel."""
    ppp.tunnel()
    session = ppp.session()
    udp = ppp.udp(7000)
    assert session.errno_of_connect(Address(3, 0, 4, 0, udp.fileno())) == errno.EBUSY
    eventually(lambda: ppp.ns.l2tp.tunnels() == [1])
    assert session.name().sid == 10
    eventually(lambda: ppp.open().errno_of_connect(Address(3, 0, 4, 0, udp.fileno())) == 0)


USERNS = pytest.mark.parametrize("userns", [False, True], ids=["nobody", "root of a user namespace"])


@USERNS
def test_unprivileged(ppp: Ppp, userns: bool) -> None:
    """B23, PPP-CAP: what netlink asks a capability for."""
    ppp.tunnel()
    ppp.ns.l2tp.session(1, 11, 21, pw_type=PwType.PPP)
    udp = ppp.udp(7000)
    sockets = [ppp.open() for _ in range(4)]

    def connect() -> list[int]:
        return [sock.errno_of_connect(address) for sock, address in zip(sockets, (
            Address(3, 0, 4, 0, udp.fileno()), Address(1, 10, 2, 20), Address(1, 11, 2, 21),
            Address(0, 10, 2, 20)), strict=True)]

    refused = expect("PPP-CAP", c=0, rust=errno.EPERM)
    assert system.in_child(connect, uid=system.NOBODY, userns=userns) == [
        refused, refused, refused, errno.EINVAL]


@USERNS
def test_unprivileged_user_of_a_session(ppp: Ppp, userns: bool) -> None:
    """Whoever is handed a connected socket may do with it what its owner may."""
    ppp.tunnel()
    session = ppp.session()
    session.sock.setblocking(False)

    def calls() -> list[int]:
        return [errno_of(session.name), errno_of(session.sock.send, LCP),
                errno_of(session.sock.recv, 100),
                errno_of(session.set, pppox.SO_SENDSEQ, 1), errno_of(session.get, pppox.SO_SENDSEQ),
                errno_of(session.stats), session.errno_of(pppox.PPPIOCSMRU),
                errno_of(session.channel)]

    got = system.in_child(calls, uid=system.NOBODY, userns=userns)
    assert got == [0, 0, errno.EAGAIN, 0, 0, 0, 0, 0]


def connect_in_own_namespace(udp: socket.socket | None) -> int:
    """The errno of nobody, as root of namespaces, who makes a tunnel of this socket or his own."""
    libc = ctypes.CDLL(None, use_errno=True)

    def connect() -> int:
        mine = udp or socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        data = Address(1, 0, 2, 0, mine.fileno()).pack()
        with socket.socket(24, socket.SOCK_DGRAM, 1) as sock:
            return ctypes.get_errno() if libc.connect(sock.fileno(), data, len(data)) else 0

    return system.in_child(connect, uid=system.NOBODY, userns=True, netns=True)


def test_root_of_a_namespace_may(ppp: Ppp) -> None:
    """But not with a socket that he was handed from outside."""
    assert connect_in_own_namespace(None) == 0
    assert connect_in_own_namespace(ppp.udp(5000)) == errno.EINVAL
    assert ppp.ns.l2tp.tunnels() == []


# --- modes (7.4)

def test_session_of_the_old_interface(ppp: Ppp) -> None:
    """All defaults."""
    ppp.tunnel()
    ppp.session()
    session = ppp.ns.l2tp.get_session(1, 10)
    assert session[Attr.PW_TYPE] == PwType.PPP
    assert (session[Attr.PEER_CONN_ID], session[Attr.PEER_SESSION_ID]) == (2, 20)
    assert [session[kind] for kind in (Attr.RECV_SEQ, Attr.SEND_SEQ, Attr.LNS_MODE)] == [0, 0, 0]
    for kind in (Attr.IFNAME, Attr.RECV_TIMEOUT, Attr.COOKIE, Attr.PEER_COOKIE):
        assert kind not in session


def test_v3_session_of_the_old_interface(ppp: Ppp) -> None:
    """No sublayer (1.5.3)."""
    ppp.tunnel(version=3)
    ppp.connected(Address(1, 10, 2, 20, version=3)).sock.send(LCP)
    peer = ppp.udp(5001, 5000, "127.0.0.2", "127.0.0.1")
    ppp.made[-1].sock.send(LCP)
    assert peer.recv(100) == struct.pack("!HHI", 3, 0, 20) + b"\xff\x03" + LCP


def test_netlink_session(ppp: Ppp) -> None:
    """The address' peer ids do not matter; closing the socket deletes the session."""
    l2tp = ppp.ns.l2tp
    l2tp.tunnel(1, 2, version=2)
    l2tp.session(1, 10, 20, pw_type=PwType.PPP, lns_mode=1)
    sock = ppp.connected(Address(1, 10, 77, 88))
    name = sock.name()
    assert (name.peer_tid, name.peer_sid) == (2, 20)
    assert sock.get(pppox.SO_LNSMODE) == 1
    sock.close()
    gone(ppp.ns, 1, 10)
    assert l2tp.has_tunnel(1)


def test_closing_deletes_at_once(ppp: Ppp) -> None:
    """SYNC-DELETE: the next call may use the ids again."""
    ppp.tunnel()
    ppp.session().close()
    if expect("SYNC-DELETE", c=False, rust=True):
        assert not ppp.ns.l2tp.has_session(1, 10)
    eventually(lambda: ppp.open().errno_of_connect(Address(1, 10, 2, 20)) == 0)


def test_peer_tunnel_id_comes_later(ppp: Ppp) -> None:
    """7.4.2, also for sessions that were there before."""
    l2tp = ppp.ns.l2tp
    udp = ppp.udp()
    peer = ppp.udp(5001, 5000, "127.0.0.2", "127.0.0.1")
    ppp.connected(Address(1, 0, 0, 0, udp.fileno()))
    l2tp.session(1, 10, 20, pw_type=PwType.PPP)
    assert l2tp.get_tunnel(1)[Attr.PEER_CONN_ID] == 0
    early = ppp.connected(Address(1, 10, 0, 20))
    early.sock.send(LCP)
    assert peer.recv(100) == struct.pack("!HHH", 2, 0, 20) + b"\xff\x03" + LCP
    late = ppp.connected(Address(1, 11, 0x77, 21))
    assert l2tp.get_tunnel(1)[Attr.PEER_CONN_ID] == 0x77
    for sock, sid in ((late, 21), (early, 20)):
        sock.sock.send(LCP)
        assert peer.recv(100) == struct.pack("!HHH", 2, 0x77, sid) + b"\xff\x03" + LCP
    ppp.connected(Address(1, 12, 0x99, 22))
    assert l2tp.get_tunnel(1)[Attr.PEER_CONN_ID] == 0x77


def test_one_management_socket_for_a_v2_tunnel(ppp: Ppp) -> None:
    """7.4.3; the tunnel outlives it (3.8.4), and then has room for another."""
    manager = ppp.tunnel()
    again = Address(1, 0, 2, 0)
    assert ppp.open().errno_of_connect(again) == errno.EEXIST
    assert ppp.ns.l2tp.sessions() == []
    manager.close()
    eventually(lambda: ppp.open().errno_of_connect(again) == 0)
    assert ppp.ns.l2tp.tunnels() == [1]


def test_management_sockets_of_v3_tunnels(ppp: Ppp) -> None:
    """B2, PPP-MGMT: each tunnel has one, over IP as well."""
    l2tp = ppp.ns.l2tp
    ppp.tunnel(1, 2, 3, 5000)
    l2tp.tunnel(3, 4, sport=5002)
    l2tp.tunnel(5, 6, encap=Encap.IP)
    other = expect("PPP-MGMT", c=errno.EEXIST, rust=0)
    assert ppp.open().errno_of_connect(Address(3, 0, 4, 0, version=3)) == other
    assert ppp.open().errno_of_connect(Address(5, 0, 6, 0, version=3)) == other
    assert l2tp.sessions() == expect("PPP-MGMT", c=[(1, 0)], rust=[])


def test_tunnel_ends_with_its_udp_socket(ppp: Ppp) -> None:
    udp = ppp.udp()
    manager = ppp.connected(Address(1, 0, 2, 0, udp.fileno()))
    session = ppp.session()
    udp.close()
    eventually(lambda: ppp.ns.l2tp.tunnels() == [])
    for sock in (manager, session):
        eventually(lambda sock=sock: errno_of(sock.name) == errno.EBADF)


def test_session_0_with_a_peer(ppp: Ppp) -> None:
    """7.4.5: a session like others."""
    ppp.tunnel()
    manager = ppp.made[0]
    manager.close()
    eventually(lambda: errno_of(ppp.connected, Address(1, 0, 2, 20)) == 0)
    sock = ppp.made[-1]
    assert sock.get(pppox.SO_LNSMODE) == 0
    assert sock.channel() > 0


def test_session_id_of_17_bits(ppp: Ppp) -> None:
    """V2-IDS: of an id in a v3 address, a v2 tunnel takes 16 bits: 0x10000 is what it calls 0, and
    so in the way of the management socket, but it is a session like others."""
    manager = ppp.tunnel()
    wide = Address(1, 0x10000, 2, 20, version=3)
    assert ppp.open().errno_of_connect(wide) == errno.EEXIST
    manager.close()
    eventually(lambda: errno_of(ppp.connected, wide) == 0)
    sock = ppp.made[-1]
    assert (sock.name().sid, sock.name().peer_sid, sock.get(pppox.SO_LNSMODE)) == (0, 20, 0)
    peer = ppp.udp(5001, 5000, "127.0.0.2", "127.0.0.1")
    peer.send(message(LCP, 1, 0))
    assert sock.sock.recv(100) == LCP
    assert sock.channel() > 0
    assert ppp.open().errno_of_connect(Address(1, 0, 2, 0)) == errno.EEXIST
    sock.close()
    eventually(lambda: ppp.open().errno_of_connect(Address(1, 0, 2, 0)) == 0)


def test_session_is_looked_up_in_the_tunnel(ppp: Ppp) -> None:
    """PPP-TUNNEL: the id may be that of a session of another tunnel, too."""
    l2tp = ppp.ns.l2tp
    l2tp.tunnel(1, 2, sport=5000)
    l2tp.tunnel(3, 4, sport=5002)
    l2tp.session(1, 10, 20, pw_type=PwType.PPP)
    name = ppp.connected(Address(3, 10, 4, 21, version=3)).name()
    assert (name.tid, name.peer_sid) == expect("PPP-TUNNEL", c=(1, 20), rust=(3, 21))


def test_frames_without_a_socket(ppp: Ppp) -> None:
    """1.10.2: of a session that nobody has connected to; they are lost, and the log says so."""
    l2tp = ppp.ns.l2tp
    l2tp.tunnel(1, 2, version=2)
    l2tp.session(1, 10, 20, pw_type=PwType.PPP)
    peer = ppp.udp(5001, 5000, "127.0.0.2", "127.0.0.1")
    log = system.KernelLog()

    def logged() -> list[str]:  # not each time: there is a limit
        peer.send(message(LCP))
        return [line for line in log.new_lines() if "no socket" in line]

    line = eventually(logged)[0]
    assert line.endswith(": sess 1/10: no socket in recv")
    stats = l2tp.session_stats(1, 10)
    assert stats[Stat.RX_PACKETS] > 0 == stats[Stat.RX_ERRORS]
    log.close()
    sock = ppp.session()
    peer.send(message(LCP))
    assert sock.sock.recv(100) == LCP


# --- a session that goes while its socket stays (7.5.2)

@pytest.mark.parametrize("end", ["session", "tunnel", "udp"])
def test_detached(ppp: Ppp, end: str) -> None:
    udp = ppp.udp()
    ppp.connected(Address(1, 0, 2, 0, udp.fileno()))
    sock = ppp.session()
    if end == "session":
        ppp.ns.l2tp.del_session(1, 10)
    elif end == "tunnel":
        ppp.ns.l2tp.del_tunnel(1)
    else:
        udp.close()
    if expect("SYNC-DELETE", c=False, rust=True):
        assert errno_of(sock.name) == errno.EBADF
    eventually(lambda: errno_of(sock.name) == errno.EBADF)
    assert errno_of(sock.raw_name, True) == errno.EBADF
    assert errno_of(sock.sock.send, LCP) == errno.EBADF
    assert errno_of(sock.get, pppox.SO_DEBUG) == errno.ENOTCONN
    assert errno_of(sock.set, pppox.SO_DEBUG, 1) == errno.ENOTCONN
    for request in (pppox.PPPIOCGMRU, pppox.PPPIOCSMRU, pppox.PPPIOCGFLAGS, pppox.PPPIOCSFLAGS,
                    pppox.PPPIOCGL2TPSTATS):
        assert sock.errno_of(request) == errno.ENOTCONN
    assert sock.channel() > 0
    assert sock.errno_of_connect(Address(1, 10, 2, 20)) == (
        errno.EBUSY if end == "session" else errno.ENOENT)


def test_ids_of_a_deleted_session_are_free(ppp: Ppp) -> None:
    """The socket that is left does not stand in the way, nor does closing it harm the new one."""
    ppp.tunnel()
    old = ppp.session()
    ppp.ns.l2tp.del_session(1, 10)
    eventually(lambda: errno_of(old.name) == errno.EBADF)
    new = ppp.session()
    old.close()
    assert new.name().sid == 10
    assert ppp.ns.l2tp.has_session(1, 10)


# --- before it is connected

def test_unconnected(ppp: Ppp) -> None:
    sock = ppp.open()
    assert errno_of(sock.name) == errno.ENOTCONN
    assert errno_of(sock.raw_name, True) == errno.ENOTCONN
    assert errno_of(sock.sock.send, LCP) == errno.ENOTCONN
    assert errno_of(sock.get, pppox.SO_DEBUG) == errno.ENOTCONN
    assert errno_of(sock.set, pppox.SO_DEBUG, 1) == errno.ENOTCONN
    sock.sock.setblocking(False)
    assert errno_of(sock.sock.recv, 1) == errno.EAGAIN
    for request in (pppox.PPPIOCGCHAN, pppox.PPPIOCGMRU, pppox.PPPIOCSMRU, pppox.PPPIOCGFLAGS,
                    pppox.PPPIOCSFLAGS, pppox.PPPIOCGL2TPSTATS):
        assert sock.errno_of(request) == errno.ENOTCONN


def test_calls_that_there_are_not(ppp: Ppp) -> None:
    """7.7.4"""
    libc = ctypes.CDLL(None, use_errno=True)
    ppp.tunnel()
    for sock in (ppp.open(), ppp.session()):
        name = Address(1, 10, 2, 20).pack()
        for call, *args in ((libc.bind, name, len(name)), (libc.listen, 1),
                            (libc.accept, None, None), (libc.shutdown, 2)):
            assert call(sock.fd, *args) == -1 and ctypes.get_errno() == errno.EOPNOTSUPP
        assert errno_of(mmap.mmap, sock.fd, 4096) == errno.ENODEV
    pipe = (ctypes.c_int * 2)()
    assert libc.socketpair(24, 2, 1, pipe) == -1 and ctypes.get_errno() == errno.EOPNOTSUPP


# --- data (7.7)

def test_send(pair: tuple[PppSocket, socket.socket]) -> None:
    """ff 03 is added; each send is a message, whatever it contains."""
    sock, peer = pair
    header = struct.pack("!HHH", 2, 2, 20) + b"\xff\x03"
    for payload in (LCP, b"\xff\x03" + LCP, b"x", os.urandom(1400)):
        assert sock.sock.send(payload) == len(payload)
        assert peer.recv(65536) == header + payload
    # a destination and ancillary data are not looked at
    assert sock.sock.sendmsg([LCP[:5], LCP[5:]]) == len(LCP)
    assert peer.recv(100) == header + LCP
    assert sock.stats().traffic == (5, 5 * 8 + 2 * len(LCP) + len(LCP) + 2 + 1 + 1400, 0) + 5 * (0,)


def test_send_numbered(pair: tuple[PppSocket, socket.socket]) -> None:
    sock, peer = pair
    sock.set(pppox.SO_SENDSEQ, 1)
    for ns in range(3):
        sock.sock.send(LCP)
        assert peer.recv(100) == struct.pack("!HHHHH", 0x0802, 2, 20, ns, 0) + b"\xff\x03" + LCP


def test_send_too_much(pair: tuple[PppSocket, socket.socket]) -> None:
    """What does not fit in a datagram (PPP-SEND: C says that it was sent, and counts an error)."""
    sock, _ = pair
    assert sock.sock.send(bytes(65499)) == 65499  # with all headers 65507 + 8 + 20
    assert sock.stats().tx_packets == 1
    assert sock.sock.send(bytes(65500)) == 65500
    assert sock.stats().tx_errors == expect("TOO-LONG", c=0, rust=1)
    assert sock.sock.send(bytes(65520)) == 65520
    assert sock.stats().tx_errors == expect("TOO-LONG", c=1, rust=2)
    assert errno_of(sock.sock.send, bytes(65536)) == expect("PPP-SEND", c=0, rust=errno.EMSGSIZE)


def test_send_when_the_peer_is_unreachable(pair: tuple[PppSocket, socket.socket]) -> None:
    """7.7.1: the length, and an error counted."""
    sock, _ = pair
    sock.ns.del_addr("lo", "127.0.0.1/8")
    assert sock.sock.send(LCP) == len(LCP)
    assert sock.stats().tx_packets + sock.stats().tx_errors == 1


def test_management_socket_sends(ppp: Ppp) -> None:
    """A data message of session 0."""
    manager = ppp.tunnel()
    peer = ppp.udp(5001, 5000, "127.0.0.2", "127.0.0.1")
    manager.sock.send(LCP)
    assert peer.recv(100) == struct.pack("!HHH", 2, 2, 0) + b"\xff\x03" + LCP


def test_messages_of_session_0(ppp: Ppp) -> None:
    """PPP-MGMT-DATA: in C the management socket gets them, here the daemon, as of any session that
    there is not."""
    udp = ppp.udp()
    manager = ppp.connected(Address(1, 0, 2, 0, udp.fileno()))
    peer = ppp.udp(5001, 5000, "127.0.0.2", "127.0.0.1")
    message = struct.pack("!HHH", 2, 1, 0) + b"\xff\x03" + LCP
    peer.send(message)
    if expect("PPP-MGMT-DATA", c=True, rust=False):
        assert manager.sock.recv(100) == LCP
    else:
        assert udp.recv(100) == message
    assert manager.stats().rx_packets == expect("PPP-MGMT-DATA", c=1, rust=0)


def message(payload: bytes, tid: int = 1, sid: int = 10) -> bytes:
    return struct.pack("!HHH", 2, tid, sid) + payload


def test_receive(pair: tuple[PppSocket, socket.socket]) -> None:
    """1.10.2: ff 03 is removed if both are there."""
    sock, peer = pair
    for sent, got in ((b"\xff\x03" + LCP, LCP), (LCP, LCP), (b"\xff\x04" + LCP, b"\xff\x04" + LCP),
                      (b"\xff\x03\xff\x03" + LCP, b"\xff\x03" + LCP),
                      (b"\x03\xff" + LCP, b"\x03\xff" + LCP)):
        peer.send(message(sent))
        assert sock.sock.recv(100) == got
    assert sock.stats().traffic[3:5] == (5, 5 * (6 + len(LCP)) + 10)


def test_receive_offset_and_fragments(pair: tuple[PppSocket, socket.socket]) -> None:
    sock, peer = pair
    peer.send(struct.pack("!HHHHH", 0x4202, 99, 1, 10, 3) + b"pad" + b"\xff\x03" + LCP)
    assert sock.sock.recv(100) == LCP
    sock.ns.set_mtu("lo", 1500)
    large = frame(pppox.PPP_IP, os.urandom(9000))
    peer.send(message(b"\xff\x03" + large))
    assert sock.sock.recv(10000) == large


def test_truncated(pair: tuple[PppSocket, socket.socket]) -> None:
    """7.7.2: the length of what was copied; the rest is lost."""
    sock, peer = pair
    peer.send(message(LCP))
    peer.send(message(b"the next one"))
    data, _, flags, _ = sock.recvmsg(5)
    assert data == LCP[:5] and flags & socket.MSG_TRUNC
    assert sock.sock.recv(5, socket.MSG_PEEK) == b"the n"
    data, _, flags, _ = sock.recvmsg(100)
    assert data == b"the next one" and not flags & socket.MSG_TRUNC


def test_queue_full(pair: tuple[PppSocket, socket.socket]) -> None:
    """Each frame is counted as received; one that finds no room as an error, too."""
    sock, peer = pair
    sock.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    for _ in range(20):
        peer.send(message(bytes(1000)))
    stats = eventually(lambda: (s := sock.stats()).rx_packets == 20 and s)
    held = 0
    sock.sock.setblocking(False)
    while errno_of(sock.sock.recv, 2000) == 0:
        held += 1
    assert 0 < held < 20 and stats.rx_errors == 20 - held


def test_no_socket(ppp: Ppp) -> None:
    """A netlink session without socket counts what it drops as received (1.9.3)."""
    ppp.tunnel()
    peer = ppp.udp(5001, 5000, "127.0.0.2", "127.0.0.1")
    ppp.ns.l2tp.session(1, 10, 20, pw_type=PwType.PPP)
    peer.send(message(LCP))
    stats = eventually(lambda: (s := ppp.ns.l2tp.session_stats(1, 10))[Stat.RX_PACKETS] and s)
    assert stats[Stat.RX_ERRORS] == 0
    sock = ppp.session()
    peer.send(message(b"this one arrives"))
    assert sock.sock.recv(100) == b"this one arrives"


def test_short_frames(ppp: Ppp) -> None:
    """1.7.1: C gives messages of fewer than 14 bytes to the daemon."""
    udp = ppp.udp()
    ppp.connected(Address(1, 0, 2, 0, udp.fileno()))
    sock = ppp.session()
    peer = ppp.udp(5001, 5000, "127.0.0.2", "127.0.0.1")
    short = message(LCP[:7])
    peer.send(short)
    if expect("SHORT-V2", c=True, rust=False):
        assert udp.recv(100) == short
    else:
        assert sock.sock.recv(100) == LCP[:7]
    peer.send(message(LCP[:8]))
    assert sock.sock.recv(100) == LCP[:8]


def test_poll_and_blocking(pair: tuple[PppSocket, socket.socket]) -> None:
    sock, peer = pair
    timer = threading.Timer(0.2, peer.send, (message(LCP),))
    timer.start()
    assert sock.sock.recv(100) == LCP  # waits
    timer.join()
    sock.sock.setblocking(False)
    assert errno_of(sock.sock.recv, 1) == errno.EAGAIN


# --- options (7.8)

SWITCHES = (pppox.SO_RECVSEQ, pppox.SO_SENDSEQ, pppox.SO_LNSMODE)


def test_switches(ppp: Ppp) -> None:
    ppp.tunnel()
    sock = ppp.session()
    attrs = dict(zip(SWITCHES, (Attr.RECV_SEQ, Attr.SEND_SEQ, Attr.LNS_MODE), strict=True))
    for option in SWITCHES:
        for value in (1, 0, 1):
            sock.set(option, value)
            assert sock.get(option) == value
            assert ppp.ns.l2tp.get_session(1, 10)[attrs[option]] == value
        for value in (-1, 2, 256, 0x10000):
            assert errno_of(sock.set, option, value) == errno.EINVAL
        assert sock.get(option) == 1


def test_reorder_timeout(ppp: Ppp) -> None:
    """B9: no time is negative."""
    ppp.tunnel()
    sock = ppp.session()
    for ms in (1000, 0, 200):
        sock.set(pppox.SO_REORDERTO, ms)
        assert sock.get(pppox.SO_REORDERTO) == ms
        assert ppp.ns.l2tp.get_session(1, 10).get(Attr.RECV_TIMEOUT, 0) == ms
    assert errno_of(sock.set, pppox.SO_REORDERTO, -1) == expect("B9", c=0, rust=errno.EINVAL)
    assert sock.get(pppox.SO_REORDERTO) == expect("B9", c=sock.get(pppox.SO_REORDERTO), rust=200)


def test_debug_option(ppp: Ppp) -> None:
    """7.8.3: pppd's probe."""
    for sock in (ppp.tunnel(), ppp.session()):
        sock.set(pppox.SO_DEBUG, 15)
        assert sock.get(pppox.SO_DEBUG) == 0


def test_options_of_the_tunnel(ppp: Ppp) -> None:
    manager = ppp.tunnel()
    for option in SWITCHES + (pppox.SO_REORDERTO, 0, 6, -1):
        assert errno_of(manager.set, option, 1) == errno.ENOPROTOOPT
        assert errno_of(manager.get, option) == errno.ENOPROTOOPT


def test_options_in_general(ppp: Ppp) -> None:
    ppp.tunnel()
    sock = ppp.session()
    for option in (0, 6, 7, -1, 1 << 20):
        assert errno_of(sock.set, option, 1) == errno.ENOPROTOOPT
        assert errno_of(sock.get, option) == errno.ENOPROTOOPT
    for level in (0, 6, 17, 272, 274, 115):
        assert errno_of(sock.set, pppox.SO_LNSMODE, 1, level) == errno.EINVAL
        assert errno_of(sock.get, pppox.SO_LNSMODE, level) == errno.EINVAL
    for length in range(4):
        assert errno_of(sock.set, pppox.SO_LNSMODE, bytes(length)) == errno.EINVAL
    sock.set(pppox.SO_LNSMODE, b"\1\0\0\0junk")
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.setsockopt(sock.fd, 273, pppox.SO_LNSMODE, ctypes.c_void_p(NEVER), 4) == -1
    assert ctypes.get_errno() == errno.EFAULT
    room = ctypes.create_string_buffer(b"\xee" * 16, 16)
    for given, used in ((0, 0), (1, 1), (3, 3), (4, 4), (16, 4)):
        ctypes.memset(room, 0xee, 16)
        length = ctypes.c_int(given)
        assert libc.getsockopt(sock.fd, 273, pppox.SO_LNSMODE, room, ctypes.byref(length)) == 0
        assert length.value == used
        assert room.raw == b"\1\0\0\0"[:used] + b"\xee" * (16 - used)
    length = ctypes.c_int(-1)
    assert libc.getsockopt(sock.fd, 273, pppox.SO_LNSMODE, room, ctypes.byref(length)) == -1
    assert ctypes.get_errno() == errno.EINVAL


# --- ioctl (7.9)

def test_ioctls_of_a_session(ppp: Ppp) -> None:
    ppp.tunnel()
    sock = ppp.session()
    assert sock.number(pppox.PPPIOCGMRU) == 0
    assert sock.number(pppox.PPPIOCGFLAGS) == 0
    assert sock.errno_of(pppox.PPPIOCSMRU) == 0
    assert sock.errno_of(pppox.PPPIOCSFLAGS) == 0
    assert sock.errno_of(0x80047499) == errno.ENOTTY
    with ppp.ns:  # SIOCGIFINDEX goes on to the devices
        got = fcntl.ioctl(sock.fd, 0x8933, struct.pack("=16si20x", b"lo", 0))
    assert struct.unpack_from("=i", got, 16)[0] == ppp.ns.index("lo")


def test_ioctls_of_a_management_socket(ppp: Ppp) -> None:
    manager = ppp.tunnel()
    for request in (pppox.PPPIOCGMRU, pppox.PPPIOCSMRU, pppox.PPPIOCGFLAGS, pppox.PPPIOCSFLAGS):
        assert manager.errno_of(request) == errno.ENOSYS
    assert manager.channel() == -1


def test_bad_pointers(ppp: Ppp) -> None:
    manager = ppp.tunnel()
    sock = ppp.session()
    libc = ctypes.CDLL(None, use_errno=True)

    def ioctl(who: PppSocket, request: int, pointer: int) -> int:
        result = libc.ioctl(who.fd, ctypes.c_ulong(request), ctypes.c_void_p(pointer))
        return ctypes.get_errno() if result else 0

    assert ioctl(sock, pppox.PPPIOCGCHAN, NEVER) == errno.EINVAL
    for request in (pppox.PPPIOCGMRU, pppox.PPPIOCGFLAGS, pppox.PPPIOCGL2TPSTATS):
        assert ioctl(sock, request, NEVER) == errno.EFAULT
    for request in (pppox.PPPIOCSMRU, pppox.PPPIOCSFLAGS):
        assert ioctl(sock, request, KERNEL_ADDRESS) == errno.EFAULT
        assert ioctl(sock, request, NEVER) == ioctl(sock, request, 0) == 0  # nobody looks
    assert ioctl(manager, pppox.PPPIOCGL2TPSTATS, NEVER) == errno.EFAULT


def test_statistics(ppp: Ppp) -> None:
    """7.9.1, and they agree with netlink's."""
    manager = ppp.tunnel()
    one, two = ppp.session(), ppp.session(1, 11, 2, 21)
    peer = ppp.udp(5001, 5000, "127.0.0.2", "127.0.0.1")
    for sock, times in ((one, 3), (two, 1)):
        for _ in range(times):
            sock.sock.send(LCP)
            peer.send(message(LCP, 1, sock.name().sid))
            assert sock.sock.recv(100) == LCP
    size, got = 8 + len(LCP), 6 + len(LCP)
    wanted = {10: (3, 3 * size, 0, 3, 3 * got, 0, 0, 0), 11: (1, size, 0, 1, got, 0, 0, 0),
              0: (4, 4 * size, 0, 4, 4 * got, 0, 0, 0)}
    for sid, traffic in wanted.items():
        stats = manager.stats(sid)
        assert (stats.tunnel_id, stats.session_id, stats.using_ipsec) == (1, sid, 0)
        assert stats.traffic == traffic
    assert one.stats(11) == manager.stats(10)  # its own, whatever is asked
    for sid in (12, 9, 0xffff):
        assert errno_of(manager.stats, sid) == errno.EBADR
    netlink = ppp.ns.l2tp.session_stats(1, 10)
    assert (netlink[Stat.TX_PACKETS], netlink[Stat.TX_BYTES]) == (3, 3 * size)


def test_statistics_of_other_sessions(ppp: Ppp) -> None:
    """Neither those of Ethernet sessions nor those of other tunnels (PPP-TUNNEL)."""
    l2tp = ppp.ns.l2tp
    manager = ppp.tunnel(1, 2, 3)
    l2tp.tunnel(3, 4, sport=5002)
    l2tp.session(1, 5, 6, ifname="wire")
    l2tp.session(3, 7, 8, pw_type=PwType.PPP)
    assert errno_of(manager.stats, 5) == errno.EBADR
    assert errno_of(manager.stats, 7) == expect("PPP-TUNNEL", c=0, rust=errno.EBADR)


# --- races

def test_connect_and_delete_at_once(ns: NetNS) -> None:
    """Sockets come and go, sessions are deleted under them, the tunnel with them; nothing stays."""
    udp = ns.udp(("127.0.0.1", 5000), ("127.0.0.2", 5001))
    stop = threading.Event()
    failures: list[str] = []

    def sockets(own: int) -> None:
        done = 0
        while not stop.is_set() or done < 20:
            with PppSocket(ns) as manager, PppSocket(ns) as sock:
                results = [manager.errno_of_connect(Address(1, 0, 2, 0, udp.fileno())),
                           sock.errno_of_connect(Address(1, own, 2, 20)),
                           sock.errno_of_connect(Address(1, 10, 2, 20))]
                errno_of(sock.sock.send, LCP)
                sock.errno_of(pppox.PPPIOCGCHAN)
                errno_of(sock.name)
            strange = set(results) - {0, errno.EEXIST, errno.ENOENT, errno.ENODEV, errno.EBUSY}
            if strange:
                failures.append(str(strange))
            done += 1

    def deletes() -> None:
        with ns.client() as l2tp:
            for number in range(60):
                l2tp.try_session(1, 10, 20, pw_type=PwType.PPP)
                for sid in (10, 11, 12):
                    with_errno = errno_of(l2tp.del_session, 1, sid)
                    if with_errno not in (0, errno.ENODEV):
                        failures.append(str(with_errno))
                if number % 10 == 9:
                    errno_of(l2tp.del_tunnel, 1)
        stop.set()

    threads = [threading.Thread(target=sockets, args=(sid,), daemon=True) for sid in (11, 12)]
    threads.append(threading.Thread(target=deletes, daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    udp.close()
    eventually(lambda: ns.l2tp.tunnels() == [])
    name = system.module_of("l2tp_ppp")
    eventually(lambda: system.loaded()[name] == 0)


# --- /proc/net/pppol2tp (7.11)

HEADER = """\
PPPoL2TP driver info, V2.0
TUNNEL name, user-data-ok session-count
 debug tx-pkts/bytes/errs rx-pkts/bytes/errs
  SESSION name, addr/port src-tid/sid dest-tid/sid state user-data-ok
   mtu/mru/rcvseq/sendseq/lns debug reorderto
   nr/ns tx-pkts/bytes/errs rx-pkts/bytes/errs
"""


def test_proc_empty(ns: NetNS) -> None:
    PppSocket(ns).close()  # loads it
    assert ns.read("pppol2tp") == HEADER
    with ns:
        assert os.stat("/proc/thread-self/net/pppol2tp").st_mode & 0o777 == 0o444


def test_proc(ppp: Ppp, other_ns: NetNS) -> None:
    """Tunnels and sessions in the order of ids; version 3, session 0 and other namespaces not."""
    l2tp = ppp.ns.l2tp
    ppp.tunnel(0xabc, 0xdef, port=7000)
    one = ppp.session(0xabc, 0x15, 0xdef, 0x25)
    one.set(pppox.SO_LNSMODE, 1)
    one.set(pppox.SO_SENDSEQ, 1)
    one.set(pppox.SO_RECVSEQ, 1)
    one.set(pppox.SO_REORDERTO, 400)
    one.sock.send(LCP)
    one.channel()
    l2tp.session(0xabc, 4, 5, pw_type=PwType.PPP)
    l2tp.tunnel(7, 8, version=2, local="fd00::1", peer="fd00::2", sport=7001)
    l2tp.tunnel(1, 2, version=3, sport=7002)
    l2tp.session(1, 1, 2, pw_type=PwType.PPP)
    size = 12 + len(LCP)
    counts = [expect("PPP-PROC", c=c, rust=rust) for c, rust in ((1, 0), (4, 2))]
    assert ppp.ns.read("pppol2tp") == HEADER + f"""
TUNNEL 'tunl 7', Y {counts[0]}
 00000000 0/0/0 0/0/0

TUNNEL 'tunl 2748', Y {counts[1]}
 00000000 1/{size}/0 0/0/0
  SESSION 'sess 2748/4' 7F000001/7000 0ABC/0004 -> 0DEF/0005 0 N
   0/0/-/-/LAC 00000000 0
   0/0 0/0/0 0/0/0
  SESSION 'sess 2748/21' 7F000001/7000 0ABC/0015 -> 0DEF/0025 3 Y
   0/0/R/S/LNS 00000000 400
   0/1 1/{size}/0 0/0/0
   interface (null)
"""
    assert other_ns.read("pppol2tp") == HEADER


def test_proc_over_ipv6(ppp: Ppp) -> None:
    udp = ppp.udp(7000, 7001, "fd00::1", "fd00::2")
    ppp.connected(Address(1, 0, 2, 0, udp.fileno()))
    ppp.session()
    assert "  SESSION 'sess 1/10' 7F000006/7000 0001/000A -> 0002/0014 1 Y\n" \
        in ppp.ns.read("pppol2tp")


def test_proc_of_many(ns: NetNS) -> None:
    """B28. Every record once, read in pieces of any size while sessions come and go."""
    PppSocket(ns).close()
    l2tp = ns.l2tp
    for tid in (1, 2, 3):
        l2tp.tunnel(tid, 9, version=2, sport=7000 + tid)
        for sid in range(1, 41):
            l2tp.session(tid, sid, sid, pw_type=PwType.PPP)
    whole = ns.read("pppol2tp")
    assert whole.count("TUNNEL 'tunl") == 3 and whole.count("SESSION 'sess") == 120

    def opened() -> int:
        with ns:
            return os.open("/proc/thread-self/net/pppol2tp", os.O_RDONLY)

    for size in (1, 100, 65536):
        fd = opened()
        pieces = []
        while piece := os.read(fd, size):
            pieces.append(piece)
            assert len(piece) <= size
        assert b"".join(pieces).decode() == whole, size
        os.lseek(fd, 0, os.SEEK_SET)
        again = b"".join(iter(lambda: os.read(fd, 65536), b"")).decode()
        assert again == expect("PPP-REWIND", c=HEADER, rust=whole)
        os.close(fd)
    fd = opened()
    text = os.read(fd, 4096)
    l2tp.del_tunnel(2)
    eventually(lambda: l2tp.tunnels() == [1, 3])
    while piece := os.read(fd, 4096):
        text += piece
    assert text.count(b"TUNNEL 'tunl 3'") == 1 and text.count(b"SESSION 'sess 3/") == 40
    os.close(fd)


def test_proc_file_outlives_the_namespace_name(make_ns: Callable[[str], NetNS]) -> None:
    """An open file keeps the namespace."""
    ns = make_ns("gone")
    PppSocket(ns).close()
    with ns:
        fd = os.open("/proc/thread-self/net/pppol2tp", os.O_RDONLY)
    ns.close()
    assert os.read(fd, 4096).decode() == HEADER
    os.close(fd)
