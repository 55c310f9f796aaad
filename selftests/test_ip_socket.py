# SPDX-License-Identifier: GPL-2.0
"""abi section 6: the calls of an IPPROTO_L2TP socket, each with what it refuses; IPv4 and IPv6.
What reaches which socket, and what leaves the host, is in test_ip_delivery.py."""

import errno
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from lib.differences import expect
from lib.ipsocket import (FAMILIES, MSG_CONFIRM, MSG_PROBE, SIOCINQ, SIOCOUTQ, SO_DOMAIN,
                          SO_PROTOCOL, SO_RCVBUFFORCE, SO_SNDBUFFORCE, SO_TIMESTAMP, V4, V6, Family, Name, Sock, Sockets, cmsg,
                          control, refused)
from lib.netns import NetNS
from lib.system import NOBODY, in_child
from lib.uapi import IP_RECVERR, IPPROTO_L2TP, IPV6_RECVERR
from lib.wait import eventually

IP_FREEBIND, IP_TRANSPARENT, IP_HDRINCL = 15, 19, 3
IPV6_FREEBIND, IPV6_TRANSPARENT, IPV6_FLOWINFO_SEND, IPV6_ADDRFORM = 78, 75, 33, 1
WRITABLE = select.POLLOUT
LINK_LOCAL, LINK_LOCAL_FAR = "fe80::11", "fe80::99"


@pytest.fixture(scope="module")
def host() -> Iterator[NetNS]:
    """A namespace with the addresses of lib.ipsocket, and a pair of devices v0 and v1."""
    ns = NetNS("sock")
    ns.addr("lo", "fd00::1/128", "fd00::2/128")
    ns.rtnl.add_veth("v0", "v1", ns.fd)
    ns.up("v0", "v1")
    ns.addr("v0", "192.0.2.1/24", "2001:db8::1/64", f"{LINK_LOCAL}/64")
    ns.addr("v1", "198.51.100.1/24", "fe80::12/64")
    yield ns
    ns.close()


@pytest.fixture
def sock(host: NetNS) -> Iterator[Sockets]:
    sockets = Sockets(host)
    yield sockets
    sockets.close()


@pytest.fixture
def v0(host: NetNS) -> int:
    return host.link("v0").index


@pytest.fixture
def v1(host: NetNS) -> int:
    return host.link("v1").index


def both(sock: Sockets, family: Family) -> tuple[Sock, Sock]:
    """Two sockets connected to each other, with ids 1 and 2."""
    a = sock(family).bind(family.near, 1)
    b = sock(family).bind(family.near2, 2)
    return a.connect(family.near2, 2), b.connect(family.near, 1)


# --- 6.1: creation

def _errno(call: Callable, *args: object) -> int:
    """What the call fails with, or 0."""
    try:
        call(*args)
    except OSError as error:
        return error.errno or 0
    return 0


def _try_socket(family: int, kind: int, protocol: int) -> int:
    return _errno(lambda: socket.socket(family, kind, protocol).close())


@FAMILIES
def test_creation(family: Family) -> None:
    """6.1.1: datagrams for everybody, raw for those who may, nothing else."""
    cases = {(socket.SOCK_DGRAM, IPPROTO_L2TP): 0, (socket.SOCK_RAW, IPPROTO_L2TP): 0,
             (socket.SOCK_STREAM, IPPROTO_L2TP): errno.EPROTONOSUPPORT,
             (socket.SOCK_SEQPACKET, IPPROTO_L2TP): errno.ESOCKTNOSUPPORT,
             (socket.SOCK_DGRAM, IPPROTO_L2TP + 256): errno.EINVAL}
    assert {case: _try_socket(family.af, *case) for case in cases} == cases

    def as_nobody() -> list[int]:
        return [_try_socket(family.af, kind, IPPROTO_L2TP)
                for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW)]

    assert in_child(as_nobody, uid=NOBODY) == [0, errno.EPERM]
    assert in_child(as_nobody, uid=NOBODY, userns=True) == [0, errno.EPERM]


@pytest.mark.parametrize("userns", [False, True], ids=["nobody", "root of a user namespace"])
@FAMILIES
def test_what_takes_privilege(host: NetNS, family: Family, userns: bool) -> None:
    """Control messages may be sent and received by anybody; options are the generic ones."""
    v6 = family.pick(False, True)
    options = {"SO_MARK": (socket.SOL_SOCKET, socket.SO_MARK, 1),
               "SO_PRIORITY": (socket.SOL_SOCKET, socket.SO_PRIORITY, 7),
               "SO_RCVBUFFORCE": (socket.SOL_SOCKET, SO_RCVBUFFORCE, 10000),
               "SO_SNDBUFFORCE": (socket.SOL_SOCKET, SO_SNDBUFFORCE, 10000),
               "TRANSPARENT": (family.level, IPV6_TRANSPARENT if v6 else IP_TRANSPARENT, 1),
               "FREEBIND": (family.level, IPV6_FREEBIND if v6 else IP_FREEBIND, 1)}

    def calls() -> dict[str, int]:
        a, b, c = (Sock(family) for _ in range(3))
        a.bind(family.near, 1)
        out = {name: _errno(a.set, *option) for name, option in options.items()}
        out["connect"] = _errno(b.bind(family.near2, 2).connect, family.near, 1)
        out["send"] = _errno(b.sock.send, control(1))
        out["receive"] = _errno(a.sock.recv, 100)
        out["taken"] = _errno(c.bind, family.near, 1)
        out["device"] = _errno(a.set_device, "lo")
        out["another device"] = _errno(a.set_device, "v0")
        return out

    with host:
        got = in_child(calls, uid=NOBODY, userns=userns)
    assert got == dict.fromkeys(options, errno.EPERM) | {
        "FREEBIND": 0, "connect": 0, "send": 0, "receive": 0, "taken": errno.EADDRINUSE,
        "device": 0, "another device": errno.EPERM}


@FAMILIES
def test_identity(sock: Sockets, family: Family) -> None:
    options = sock(family).sock.getsockopt
    found = [options(socket.SOL_SOCKET, option)
             for option in (SO_DOMAIN, socket.SO_TYPE, SO_PROTOCOL)]
    assert found == [family.af, socket.SOCK_DGRAM, IPPROTO_L2TP]


@FAMILIES
def test_in_proc(host: NetNS, sock: Sockets, family: Family) -> None:
    """6.1.2: a slab cache; which calls there are, from close to bind; no table."""
    sock(family).bind(family.near, 77)
    line, = (line.split() for line in host.read("protocols").splitlines()
             if line.split()[0] == family.protocol)
    # name size sockets memory pressure header slab module, then a column for each call
    assert line[3:6] == ["-1", "NI", "0"] and line[6] == "yes"
    calls = dict(zip("cl co di ac io in de sh ss gs se re bi".split(), line[8:]))
    assert {call for call, there in calls.items() if there == "n"} == {"ac", "sh"}
    with pytest.raises(FileNotFoundError):
        host.read("l2tp_ip")


# --- 6.3: bind

@FAMILIES
def test_bind_length_and_family(sock: Sockets, family: Family) -> None:
    s = sock(family)
    whole = family.name(family.near, 1)
    for length in range(family.size):
        with refused(errno.EINVAL):
            s.bind_raw(whole[:length])
    for wrong in (socket.AF_UNSPEC, V4.af if family is V6 else V6.af, 0xffff):
        with refused(errno.EINVAL):
            s.bind_raw(family.name(family.near, 1, family=wrong) + bytes(16))
    assert s.here() == Name(family.any)
    s.bind_raw(whole + b"more")
    assert s.here() == Name(family.near, 1)


@FAMILIES
def test_bind_once(sock: Sockets, family: Family) -> None:
    s = sock(family).bind(family.near, 1)
    for again in (family.near, family.any):
        with refused(errno.EINVAL):
            s.bind(again, 2)
    s.connect(family.near2)
    with refused(errno.EINVAL):
        s.bind(family.near, 2)
    assert s.here() == Name(family.near, 1)
    s.disconnect()
    with refused(errno.EINVAL):
        s.bind(family.near, 2)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "192.0.2.1", "0.0.0.0",
                                     "224.0.0.251", "239.1.2.3", "192.0.2.255",
                                     "255.255.255.255"])
def test_bind_address_v4(sock: Sockets, address: str) -> None:
    assert sock(V4).bind(address, 9, unused=5).here() == Name(address, 9)


@pytest.mark.parametrize("address", ["fd00::1", "2001:db8::1", "::1", "::"])
def test_bind_address_v6(sock: Sockets, address: str) -> None:
    """A scope that the address does not need is not looked at."""
    s = sock(V6).bind(address, 9, scope=9999, flow=0x12345, unused=5)
    assert s.here() == Name(address, 9) and s.device() == ""


@pytest.mark.parametrize("family,address", [
    *((V4, address) for address in (V4.far, "192.0.2.2", "240.0.0.1", "0.0.0.7")),
    *((V6, address) for address in (V6.far, "2001:db8::2", "ff02::fb", "ff05::2",
                                    "::ffff:127.0.0.1", "::ffff:0.0.0.0", "::127.0.0.1"))],
    ids=str)
def test_bind_foreign(host: NetNS, sock: Sockets, family: Family, address: str) -> None:
    """Neither the socket's options nor the host's help."""
    s = sock(family)
    host.sysctl(f"net/ipv{family.number}/ip_nonlocal_bind", 1)
    for option in family.pick((IP_FREEBIND, IP_TRANSPARENT), (IPV6_FREEBIND, IPV6_TRANSPARENT)):
        s.set(family.level, option, 1)
    with refused(errno.EADDRNOTAVAIL):
        s.bind(address, 9)
    host.sysctl(f"net/ipv{family.number}/ip_nonlocal_bind", 0)
    assert s.here() == Name(family.any)
    s.bind(family.near, 9)


def test_bind_link_local(sock: Sockets, v0: int, v1: int) -> None:
    """6.3.3: the scope says the device, or the device does; the socket is then bound to it."""
    s = sock(V6)
    for scope, error in ((0, errno.EINVAL), (9999, errno.ENODEV), (0x80000000, errno.ENODEV),
                         (v1, errno.EADDRNOTAVAIL), (1, errno.EADDRNOTAVAIL)):
        with refused(error):
            s.bind(LINK_LOCAL, 9, scope=scope)
    with refused(errno.EADDRNOTAVAIL):
        s.bind(LINK_LOCAL_FAR, 9, scope=v0)
    assert s.here() == Name("::") and s.device() == ""
    s.bind(LINK_LOCAL, 9, scope=v0)
    assert s.here() == Name(LINK_LOCAL, 9, scope=v0) and s.device() == "v0"

    s = sock(V6)
    s.set_device("v0")
    s.bind(LINK_LOCAL, 10)
    assert s.here() == Name(LINK_LOCAL, 10, scope=v0)

    s = sock(V6)
    s.set_device("v1")
    with refused(errno.EADDRNOTAVAIL):
        s.bind(LINK_LOCAL, 11)
    s.bind(LINK_LOCAL, 11, scope=v0)
    assert s.here() == Name(LINK_LOCAL, 11, scope=v0) and s.device() == "v0"


CONFLICTS = [
    (("near", "", 5), ("near", "", 5), True),
    (("near", "", 0), ("near", "", 0), True),
    (("near", "", 5), ("any", "", 5), True),
    (("any", "", 5), ("near", "", 5), True),
    (("any", "", 5), ("any", "", 5), True),
    (("any", "v0", 5), ("any", "", 5), True),
    (("any", "", 5), ("any", "v0", 5), True),
    (("near", "v0", 5), ("any", "v0", 5), True),
    (("any", "v0", 5), ("any", "v1", 5), False),
    (("near", "v0", 5), ("near", "v1", 5), False),
    (("near", "", 5), ("near2", "", 5), False),
    (("near", "", 5), ("near", "", 6), False),
    (("any", "", 0), ("any", "", 1), False),
    (("any", "", 1), ("any", "", 0x01000000), False),
    (("any", "", 0xffffffff), ("any", "", 0xffffffff), True),
]


@FAMILIES
def test_bind_conflict(sock: Sockets, family: Family) -> None:
    """6.3: an id is taken where address and device overlap; connecting changes nothing in that."""
    for first, second, clash in CONFLICTS:
        made = []
        for address, device, conn_id in (first, second):
            s = sock(family)
            if device:
                s.set_device(device)
            made.append((s, getattr(family, address), conn_id))
        (a, *place), (b, *other) = made
        a.bind(*place)
        if clash:
            with refused(errno.EADDRINUSE):
                b.bind(*other)
            if not first[1]:
                a.connect(family.near, 1)
                with refused(errno.EADDRINUSE):
                    b.bind(*other)
            a.close()
        b.bind(*other)
        assert b.here() == Name(*other), (first, second)
        sock.close()


@FAMILIES
def test_failed_bind_leaves_nothing(sock: Sockets, family: Family, v0: int) -> None:
    """6.3.2: C's IPv4 socket keeps the address that it could not have, for good (B13)."""
    sock(family).bind(family.near, 5)
    s = sock(family)
    with refused(errno.EADDRINUSE):
        s.bind(family.near, 5)
    kept = family.any if family is V6 else expect("B13", c=family.near, rust=family.any)
    assert s.here() == Name(kept)
    s.bind(family.any, 6)
    assert s.here() == Name(kept, 6)
    if family is V6:
        sock(V6).bind(LINK_LOCAL, 5, scope=v0)
        s = sock(V6)
        with refused(errno.EADDRINUSE):
            s.bind(LINK_LOCAL, 5, scope=v0)
        assert s.here() == Name("::") and s.device() == ""


# --- 6.3: connect, disconnect

@FAMILIES
def test_connect_length_and_family(sock: Sockets, family: Family) -> None:
    s = sock(family).bind(family.near, 1)
    whole = family.name(family.near2, 7)
    for length in range(family.size):
        with refused(errno.EINVAL):
            s.connect_raw(whole[:length])
    with refused(family.pick(errno.EAFNOSUPPORT, errno.EINVAL)):
        s.connect_raw(family.name(family.near2, 7, family=family.pick(V6.af, V4.af)) + bytes(16))
    with refused(errno.ENOTCONN):
        s.peer()
    s.connect_raw(whole + b"more")
    assert s.here() == Name(family.near, 1)


@FAMILIES
def test_connect_needs_bind(sock: Sockets, family: Family) -> None:
    """There is no id to choose for those who do not: not even 0, which one can bind to."""
    s = sock(family)
    with refused(errno.EINVAL):
        s.connect(family.near2, 7)
    s.disconnect()
    s.bind(family.any, 0)
    s.connect(family.near2, 7)


@FAMILIES
def test_connect_failure_keeps_the_peer(sock: Sockets, family: Family) -> None:
    s = sock(family).bind(family.any, 1)
    with refused(errno.ENETUNREACH):
        s.connect(family.far, 9, unused=1)
    with refused(errno.EINVAL):
        s.connect(family.pick("224.0.0.251", "ff02::fb"), 9, unused=1)
    with refused(errno.ENOTCONN):
        s.peer()
    s.connect(family.near2, 7, unused=1)
    before = s.peer()
    assert (before.address, before.conn_id) == (family.near2, 7)
    with refused(errno.ENETUNREACH):
        s.connect(family.far, 9, unused=1)
    assert s.peer() == before
    assert s.send(control(7)) == 22  # still connected


def test_connect_broadcast(sock: Sockets) -> None:
    s = sock(V4).bind("0.0.0.0", 1)
    for address in ("192.0.2.255", "255.255.255.255"):
        with refused(errno.ENETUNREACH if address[0] == "2" else errno.EACCES):
            s.connect(address)
    s.set(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    s.connect("192.0.2.255", unused=1)
    assert s.peer().address == "192.0.2.255" and s.here().address == "192.0.2.1"


@FAMILIES
def test_connect_fills_in_the_local_address(sock: Sockets, family: Family) -> None:
    s = sock(family).bind(family.any, 1)
    s.connect(family.near2, 7)
    assert s.here() == Name(family.pick("127.0.0.1", "fd00::2"), 1)
    s.connect(family.near2, 8)
    s.disconnect()
    assert s.here() == Name(family.any, 1)


def test_connect_to_oneself(sock: Sockets) -> None:
    """6.3.6: what `::` and 0.0.0.0 mean."""
    s = sock(V6).bind("::", 1).connect("::", 7)
    assert s.peer().address == "::1"
    s = sock(V4).bind("127.0.0.2", 1).connect("0.0.0.0", 7, unused=1)
    assert s.peer().address == "127.0.0.2"


def test_connect_mapped(host: NetNS, sock: Sockets) -> None:
    """6.3.6: over IPv4, unless the socket is for IPv6 only."""
    s = sock(V6).bind("::", 1).connect("::ffff:127.0.0.2", 7)
    assert s.peer() == Name("::ffff:127.0.0.2", 7)
    assert s.here() == Name("::ffff:127.0.0.1", 1)
    for to in (None, V6.name("::ffff:127.0.0.2")):  # for which there is no code
        with refused(errno.ENETUNREACH):
            s.send(control(7), to)
    with refused(errno.EINVAL):
        s.connect("::ffff:224.0.0.251")
    host.sysctl("net/ipv6/bindv6only", 1)
    only = sock(V6).bind("::", 2)
    host.sysctl("net/ipv6/bindv6only", 0)
    with refused(errno.ENETUNREACH):
        only.connect("::ffff:127.0.0.2")


def test_connect_link_local(sock: Sockets, v0: int, v1: int) -> None:
    s = sock(V6).bind("::", 1)
    with refused(errno.EINVAL):
        s.connect(LINK_LOCAL_FAR, 7)
    s.connect(LINK_LOCAL_FAR, 7, scope=v0)
    assert s.device() == "v0"
    assert s.peer() == Name(LINK_LOCAL_FAR, 7, scope=v0)
    assert s.here() == Name(LINK_LOCAL, 1, scope=v0)
    with refused(errno.EINVAL):
        s.connect(LINK_LOCAL_FAR, 7, scope=v1)


def test_flow_label(sock: Sockets) -> None:
    """6.3: getpeername tells it if the user chose to choose it."""
    s = sock(V6).bind("::1", 1).connect("::1", 7, flow=0x12345)
    assert s.peer() == Name("::1", 7)
    s.set(V6.level, IPV6_FLOWINFO_SEND, 1)
    s.connect("::1", 7, flow=0x12345)
    assert s.peer() == Name("::1", 7, flow=0x12345)
    s.send(control(7))


@FAMILIES
def test_getpeername(sock: Sockets, family: Family) -> None:
    """6.3.9: C asks an IPv4 socket for the port that it has not got, an IPv6 one for its peer's
    id, whether it is connected or not."""
    s = sock(family)
    with refused(errno.ENOTCONN):
        s.peer()
    s.bind(family.any, 1)
    with refused(errno.ENOTCONN):
        s.peer()
    s.connect(family.near2, 7, unused=0x1234)
    assert s.peer() == Name(family.near2, 7)
    s.connect(family.near2, 7)
    if family is V6 or expect("GETPEERNAME", c=False, rust=True):
        assert s.peer() == Name(family.near2, 7)
    else:
        with refused(errno.ENOTCONN):
            s.peer()
    s.connect(family.near, 0)
    if expect("GETPEERNAME", c=False, rust=True):
        assert s.peer() == Name(family.near, 0)
    else:
        with refused(errno.ENOTCONN):
            s.peer()


@FAMILIES
def test_name_in_little_room(sock: Sockets, family: Family) -> None:
    s = sock(family).bind(family.near, 0x12345678)
    whole = family.name(family.near, 0x12345678)
    for room in range(family.size + 1):
        assert s.getsockname_raw(room) == (whole[:room], family.size)


@FAMILIES
def test_disconnect(sock: Sockets, family: Family) -> None:
    """6.3.8: the id stays bound; address and device do not; nor does the peer, which C's IPv6
    socket keeps for getpeername and as the only one it hears."""
    s = sock(family)
    s.disconnect()  # as good as a no-op
    with refused(errno.EINVAL):
        s.connect_raw(b"\0")
    s.set_device("lo")
    s.bind(family.near, 5).connect(family.near2, 7, unused=1)
    s.disconnect()
    assert s.here() == Name(family.any, 5) and s.device() == ""
    gone = family is V4 or expect("DISCONNECT", c=False, rust=True)
    if gone:
        with refused(errno.ENOTCONN):
            s.peer()
    else:
        assert s.peer() == Name(family.near2, 7)
    with refused(errno.EDESTADDRREQ):
        s.send(control(7))
    with refused(errno.EADDRINUSE):
        sock(family).bind(family.near2, 5)
    other = sock(family).bind(family.near, 6)
    other.send(control(5), family.name(family.near2))
    assert s.all() == ([control(5)] if gone else [])
    s.connect(family.near, 6, unused=1)
    assert (s.peer().address, s.peer().conn_id) == (family.near, 6)
    other.send(control(5, b"again"), s.family.name(s.here().address))
    assert s.recv() == control(5, b"again")


# --- 6.5: sendmsg

@FAMILIES
def test_send_to_a_peer(sock: Sockets, family: Family) -> None:
    a, b = both(sock, family)
    for body in (b"", b"x", bytes(1000)):
        assert a.send(control(2, body)) == 12 + len(body)
        assert b.recv() == control(2, body)
    assert b.send(control(1)) == 22 and a.recv() == control(1)


@FAMILIES
def test_send_to_an_address(sock: Sockets, family: Family) -> None:
    """With an address or connected; the id in the address does not matter, nor does the peer."""
    a = sock(family).bind(family.near, 1)
    b = sock(family).bind(family.near2, 2)
    with refused(errno.EDESTADDRREQ):
        a.send(control(2))
    for conn_id in (0, 2, 99):
        a.send(control(2), family.name(family.near2, conn_id, unused=9))
        assert b.recv() == control(2)
    a.send(control(2), family.name(family.near2, family=0))  # AF_UNSPEC
    assert b.recv() == control(2)
    a.connect(family.near, 1)
    a.send(control(2), family.name(family.near2))
    assert b.recv() == control(2)
    with refused(errno.EAFNOSUPPORT):
        a.send(control(2), family.name(family.near2, family=family.pick(V6.af, V4.af)))
    with refused(errno.EHOSTUNREACH if family is V4 else errno.ENETUNREACH):
        a.send(control(2), family.name(family.far))
    assert b.all() == []


@FAMILIES
def test_send_without_binding(sock: Sockets, family: Family) -> None:
    b = sock(family).bind(family.near2, 2)
    sock(family).send(control(2), family.name(family.near2))
    assert family.parse_sender(b.recvmsg().name) == family.pick("127.0.0.1", "fd00::2")


@FAMILIES
def test_send_name_length(sock: Sockets, family: Family) -> None:
    """IPv6 takes the address without scope and id."""
    a, b = both(sock, family)
    whole = family.name(family.near2, 2)
    enough = family.pick(16, 24)
    for length in range(1, family.size + 1):
        if length < enough:
            with refused(errno.EINVAL):
                a.send(control(2), whole[:length])
        else:
            a.send(control(2), whole[:length])
            assert b.recv() == control(2)
    assert b.all() == []


@FAMILIES
def test_send_length(sock: Sockets, family: Family) -> None:
    """6.5: what fits in an IP packet, with the prefix; the loopback device takes it whole."""
    a, b = both(sock, family)
    for s in (a, b):
        s.set(socket.SOL_SOCKET, 32, 1 << 20)
        s.set(socket.SOL_SOCKET, 33, 1 << 20)
    most = 65535 - family.pick(20, 0) - 4
    big = control(2, bytes(most - 12))
    assert a.send(big) == most and b.recv() == big
    for length in (most + 2, 70000, 1 << 20):
        with refused(errno.EMSGSIZE):
            a.send(bytes(length))
    assert a.send(control(2)) == 22 and b.all() == [control(2)]
    assert a.send(b"") == 0 and b.all() == []  # too short to be for anybody


@FAMILIES
def test_send_from_nowhere(sock: Sockets, family: Family) -> None:
    a, b = both(sock, family)
    with refused(errno.EFAULT):
        a.send_memory(1, 100)
    assert a.ioctl(SIOCOUTQ) == 0 and a.send(control(2)) == 22 and b.recv() == control(2)


@FAMILIES
def test_send_oob(sock: Sockets, family: Family) -> None:
    a, b = both(sock, family)
    if family is V6:
        with refused(errno.EOPNOTSUPP):
            a.send(control(2), flags=socket.MSG_OOB)
    else:
        a.send(control(2), flags=socket.MSG_OOB)
    assert b.all() == ([control(2)] if family is V4 else [])


@FAMILIES
def test_send_more(sock: Sockets, family: Family) -> None:
    """One datagram in parts, for which there is one prefix; IPv4 sends each."""
    a, b = both(sock, family)
    parts = [control(2), b"part 2", b"part 3"]
    for part in parts[:2]:
        assert a.send(part, flags=socket.MSG_MORE) == len(part)
    if family is V6:
        assert b.all() == [] and a.ioctl(SIOCOUTQ) > 0
    assert a.send(parts[2]) == 6
    assert b.all() == ([b"".join(parts)] if family is V6 else [parts[0]])
    assert a.ioctl(SIOCOUTQ) == 0
    # what is not sent by then goes with the socket
    a.send(control(2), flags=socket.MSG_MORE)
    a.close()
    assert b.all() == ([] if family is V6 else [control(2)])


@FAMILIES
def test_send_control_messages(sock: Sockets, family: Family) -> None:
    """IPv4 does not look at them, IPv6 refuses those that are wrong."""
    a, b = both(sock, family)
    bad = [cmsg(V6.level, 9999, b"1234"), cmsg(V6.level, 50, b"short"),  # IPV6_PKTINFO
           struct.pack("=Qii", 3, family.level, 8)]
    for one in bad:
        if family is V6:
            with refused(errno.EINVAL):
                a.send(control(2), control=[one])
        else:
            a.send(control(2), control=[one])
    assert len(b.all()) == family.pick(3, 0)
    assert a.send(control(2)) == 22 and b.recv() == control(2)


@FAMILIES
def test_send_flags(sock: Sockets, family: Family) -> None:
    """MSG_CONFIRM is a hint; with MSG_PROBE nothing is sent over IPv6."""
    a, b = both(sock, family)
    for flags in (socket.MSG_DONTWAIT, MSG_CONFIRM, socket.MSG_DONTROUTE, socket.MSG_NOSIGNAL):
        assert a.send(control(2), flags=flags) == 22
        assert b.all() == [control(2)]
    for flags in (MSG_PROBE, MSG_PROBE | MSG_CONFIRM):
        assert a.send(control(2), flags=flags) == 22
        assert b.all() == ([control(2)] if family is V4 else [])
        assert a.send(b"", flags=flags) == 0


@FAMILIES
def test_send_after_shutdown(sock: Sockets, family: Family) -> None:
    a, b = both(sock, family)
    a.sock.shutdown(socket.SHUT_WR)
    if family is V6:
        with refused(errno.EPIPE):
            a.send(control(2), flags=socket.MSG_NOSIGNAL)
    else:
        a.send(control(2))
    assert b.all() == ([] if family is V6 else [control(2)])
    b.send(control(1))
    assert a.recv() == control(1)


# --- 6.6: recvmsg

@FAMILIES
def test_receive_name(sock: Sockets, family: Family) -> None:
    """6.6.2: of the size that an address has, with no id."""
    a, b = both(sock, family)
    a.send(control(2))
    assert b.recvmsg().name == family.name(family.near)
    a.send(control(2))
    got = b.recvmsg(names=0)
    assert (got.name, got.data) == (b"", control(2))


@FAMILIES
def test_receive_in_little_room(sock: Sockets, family: Family) -> None:
    a, b = both(sock, family)
    whole = control(2)
    for room in (0, 1, 21):
        for flags in (0, socket.MSG_TRUNC):
            a.send(whole)
            got = b.recvmsg(room, flags)
            assert got.data == whole[:room] and got.flags == socket.MSG_TRUNC
            assert got.length == (22 if flags else room)
    a.send(whole)
    got = b.recvmsg(22)
    assert (got.data, got.flags) == (whole, 0)
    assert b.all() == []


@FAMILIES
def test_peek(sock: Sockets, family: Family) -> None:
    a, b = both(sock, family)
    a.send(control(2, b"first"))
    a.send(control(2, b"second"))
    for _ in range(3):
        got = b.recvmsg(flags=socket.MSG_PEEK)
        assert (got.data, got.name) == (control(2, b"first"), family.name(family.near))
    assert b.recvmsg(5, socket.MSG_PEEK | socket.MSG_TRUNC).length == 17
    assert b.all() == [control(2, b"first"), control(2, b"second")]
    with refused(errno.EOPNOTSUPP):
        b.set(socket.SOL_SOCKET, 42, 0)  # SO_PEEK_OFF


@FAMILIES
def test_receive_nothing(sock: Sockets, family: Family) -> None:
    """EAGAIN if it is not to be waited for; the end of file after shutdown()."""
    a, _ = both(sock, family)
    for s in (a, sock(family)):
        with refused(errno.EAGAIN):
            s.recv(socket.MSG_DONTWAIT)
    a.set(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("=qq", 0, 10_000))
    with refused(errno.EAGAIN):
        a.recv()
    a.sock.shutdown(socket.SHUT_RD)
    got = a.recvmsg()
    assert (got.length, got.data, got.name, got.flags) == (0, b"", b"", 0)
    with refused(errno.EAGAIN):
        a.recv(socket.MSG_DONTWAIT)


@FAMILIES
def test_receive_to_nowhere(sock: Sockets, family: Family) -> None:
    """EFAULT; the datagram is gone."""
    a, b = both(sock, family)
    a.send(control(2))
    with refused(errno.EFAULT):
        b.recv_memory(1, 100)
    assert b.all() == []


@FAMILIES
def test_receive_flags(sock: Sockets, family: Family) -> None:
    """6.6.3"""
    a, b = both(sock, family)
    a.send(control(2))
    with refused(errno.EOPNOTSUPP):
        b.recv(socket.MSG_OOB)
    with refused(errno.EOPNOTSUPP):
        b.recv(socket.MSG_OOB | socket.MSG_ERRQUEUE)
    if family is V4 and expect("ERRQUEUE", c=True, rust=False):
        assert b.recv(socket.MSG_ERRQUEUE) == control(2)
    else:
        with refused(errno.EAGAIN):
            b.recv(socket.MSG_ERRQUEUE)
        assert b.recv() == control(2)


OPTIONS = [
    # family, option, received as, value
    (V4, 8, 8, None),  # IP_PKTINFO
    (V4, 12, 2, struct.pack("=i", 77)),  # IP_RECVTTL
    (V4, 13, 1, b"\x28"),  # IP_RECVTOS
    (V4, 20, 20, None),  # IP_RECVORIGDSTADDR
    (V6, 49, 50, None),  # IPV6_RECVPKTINFO
    (V6, 51, 52, struct.pack("=i", 77)),  # IPV6_RECVHOPLIMIT
    (V6, 66, 67, struct.pack("=i", 0x28)),  # IPV6_RECVTCLASS
    (V6, 74, 74, None),  # IPV6_RECVORIGDSTADDR
]


@pytest.mark.parametrize("family, option, kind, value", OPTIONS,
                         ids=lambda v: str(v) if isinstance(v, (Family, int)) else "")
def test_receive_control_messages(sock: Sockets, family: Family, option: int, kind: int,
                                  value: bytes | None) -> None:
    """6.6.4: those of the IP level, if asked for."""
    a, b = both(sock, family)
    if family is V4:
        a.set(V4.level, socket.IP_TTL, 77)
        a.set(V4.level, socket.IP_TOS, 0x28)
    else:
        a.set(V6.level, socket.IPV6_UNICAST_HOPS, 77)
        a.set(V6.level, socket.IPV6_TCLASS, 0x28)
    a.send(control(2))
    assert b.recvmsg().control == {}
    b.set(family.level, option, 1)
    a.send(control(2))
    found = b.recvmsg().control
    if option == 8:  # its middle is where to answer from, which C leaves empty
        value = struct.pack("=i4x", 1) + socket.inet_pton(V4.af, family.near2)
    elif option == 49:
        value = socket.inet_pton(V6.af, family.near2) + struct.pack("=i", 1)
    elif option in (20, 74):  # what lies at the place of the ports: the message, for C
        assert list(found) == [(family.level, kind)]
        assert found[family.level, kind][:2] == struct.pack("=H", family.af)
        assert socket.inet_pton(family.af, family.near2) in found[family.level, kind]
        return
    assert found == {(family.level, kind): value}


@FAMILIES
def test_time_stamp(sock: Sockets, family: Family) -> None:
    a, b = both(sock, family)
    b.set(socket.SOL_SOCKET, SO_TIMESTAMP, 1)
    a.send(control(2))
    a.send(control(2))
    stamps = [struct.unpack("=qq", b.recvmsg().control[socket.SOL_SOCKET, SO_TIMESTAMP])
              for _ in range(2)]
    assert (0, 0) < stamps[0] <= stamps[1]


def test_error_queue(sock: Sockets) -> None:
    """6.6.3: what IPv6 itself has against a message, for those who ask."""
    a, _ = both(sock, V6)
    a.set(V6.level, IPV6_RECVERR, 1)
    with refused(errno.EMSGSIZE):
        a.send(bytes(70000))
    assert a.events() & select.POLLERR
    got = a.recvmsg(flags=socket.MSG_ERRQUEUE)
    number, origin, kind, code, _, info, _ = struct.unpack(
        "=IBBBBII", got.control[V6.level, IPV6_RECVERR][:16])
    assert (number, origin, kind, code) == (errno.EMSGSIZE, 1, 0, 0) and info == 65536
    assert got.flags & socket.MSG_ERRQUEUE and got.name[8:24] == socket.inet_pton(V6.af, V6.near2)
    with refused(errno.EAGAIN):
        a.recvmsg(flags=socket.MSG_ERRQUEUE)


# --- 6.7: the rest

@FAMILIES
def test_ioctl(sock: Sockets, family: Family) -> None:
    a, b = both(sock, family)
    assert [s.ioctl(request) for s in (a, b) for request in (SIOCINQ, SIOCOUTQ)] == [0] * 4
    a.send(control(2, b"first"))
    a.send(control(2))
    assert b.ioctl(SIOCINQ) == 17
    b.recv()
    assert b.ioctl(SIOCINQ) == 22
    b.recv()
    assert b.ioctl(SIOCINQ) == 0
    with refused(errno.ENOTTY):
        a.ioctl(0x12345678)
    with refused(errno.ENOENT):
        a.ioctl(0x8906)  # SIOCGSTAMP_OLD, where no time stamp was taken


@FAMILIES
def test_options(sock: Sockets, family: Family) -> None:
    """6.7.2: the socket's and those of its IP; there are none of L2TP's own."""
    s = sock(family)
    for level, option, value in (
            (socket.SOL_SOCKET, socket.SO_PRIORITY, 5), (socket.SOL_SOCKET, 36, 7),
            *family.pick(((V4.level, socket.IP_TTL, 9), (V4.level, socket.IP_TOS, 0x28),
                          (V4.level, 10, 2), (V4.level, IP_RECVERR, 1)),
                         ((V6.level, socket.IPV6_UNICAST_HOPS, 9), (V6.level, 67, 0x28),
                          (V6.level, 23, 2), (V6.level, IPV6_RECVERR, 1),
                          (V4.level, socket.IP_TTL, 9)))):
        s.set(level, option, value)
        assert s.sock.getsockopt(level, option) == value
    for level in (IPPROTO_L2TP, socket.IPPROTO_UDP, socket.IPPROTO_TCP, 255, 273,
                  *family.pick([V6.level], [])):
        with refused(errno.ENOPROTOOPT):
            s.set(level, 1, 1)
        with refused(family.pick(errno.EOPNOTSUPP, errno.ENOPROTOOPT)):
            s.sock.getsockopt(level, 1)
    for option in family.pick((IP_HDRINCL,), (IPV6_ADDRFORM, 7)):  # IPV6_CHECKSUM
        with refused(errno.ENOPROTOOPT):
            s.set(family.level, option, 2)
    if family is V6:  # there is a port already, if one asks C
        with refused(errno.EINVAL):
            s.set(V6.level, socket.IPV6_V6ONLY, 1)


@FAMILIES
def test_unsupported(sock: Sockets, family: Family) -> None:
    """6.7.3"""
    a, _ = both(sock, family)
    with refused(errno.EOPNOTSUPP):
        a.sock.listen()
    with refused(errno.EOPNOTSUPP):
        a.sock.accept()
    with pytest.raises(OSError) as raised:
        socket.socketpair(family.af, socket.SOCK_DGRAM, IPPROTO_L2TP)
    assert raised.value.errno == errno.EOPNOTSUPP
    with refused(errno.ENODEV):
        a.mmap()
    with refused(errno.ENOTCONN):
        sock(family).sock.shutdown(socket.SHUT_RDWR)


@FAMILIES
def test_poll(sock: Sockets, family: Family) -> None:
    a, b = both(sock, family)
    assert b.events() == WRITABLE
    a.send(control(2))
    assert b.events() == select.POLLIN | WRITABLE
    b.recv()
    assert b.events() == WRITABLE
    b.sock.shutdown(socket.SHUT_RD)
    assert b.events() == select.POLLIN | WRITABLE | 0x2000  # POLLRDHUP
    b.sock.shutdown(socket.SHUT_WR)
    assert b.events() & select.POLLHUP
    assert sock(family).events() & WRITABLE


@FAMILIES
def test_wakes_who_waits(sock: Sockets, family: Family) -> None:
    """A task in recv(), and one in poll()."""
    a, b = both(sock, family)
    got: list[bytes] = []
    waiting = threading.Thread(target=lambda: got.append(b.recv()))
    waiting.start()
    a.send(control(2))
    waiting.join(10)
    assert got == [control(2)]
    poll = select.poll()
    poll.register(b.fd, select.POLLIN)
    found: list[tuple[int, int]] = []
    watching = threading.Thread(target=lambda: found.extend(poll.poll(10_000)))
    watching.start()
    a.send(control(2))
    watching.join(10)
    assert found == [(b.fd, select.POLLIN)]


@FAMILIES
def test_close_with_data_queued(host: NetNS, sock: Sockets, family: Family) -> None:
    """The id is free at once, and the sockets go for good, with what is queued."""
    def used() -> int:
        return int(host.read("sockstat").split()[2])

    before = used()
    for _ in range(50):
        a, b = both(sock, family)
        for _ in range(5):
            a.send(control(2, bytes(1000)))
        b.send(control(1), flags=socket.MSG_MORE)
        a.close()
        b.close()
    eventually(lambda: used() == before)


@FAMILIES
def test_many(sock: Sockets, family: Family) -> None:
    """Each gets its own."""
    made = [sock(family).bind(family.near, conn_id) for conn_id in range(100)]
    source = sock(family).bind(family.near2, 1)
    for conn_id in range(100):
        source.send(control(conn_id), family.name(family.near))
    for conn_id, s in enumerate(made):
        assert s.all() == [control(conn_id)]
