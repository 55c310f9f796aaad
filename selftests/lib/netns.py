# SPDX-License-Identifier: GPL-2.0
"""Network namespaces, links and addresses inside them, and hosts joined by veth."""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import itertools
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from lib import attrs as nla
from lib import rtnl
from lib.genl import L2tp, Listener
from lib.rtnl import Link, Rtnl
from lib.wait import eventually

_RUN = Path("/run/netns")
_MS_BIND = 0x1000
_MNT_DETACH = 2
_RTF_LOCAL = 0x80000000
_libc = ctypes.CDLL(None, use_errno=True)
_serial = itertools.count(1)


def _check(result: int, what: str) -> None:
    if result:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


class NetNS:
    """A named namespace; `with ns:` puts the calling thread into it.  close() lets it die.

    Whatever is created through it (clients, sockets) is closed by close() as well, so that
    nothing but what a test keeps on purpose holds the namespace.
    """

    def __init__(self, hint: str = "ns") -> None:
        self.name = f"l2t-{os.getpid()}-{next(_serial)}-{hint}"
        self.path = _RUN / self.name
        self._outer: list[int] = []
        self._resources = contextlib.ExitStack()
        self.fd = self._create()
        self._rtnl: Rtnl | None = None
        self._l2tp: L2tp | None = None
        self.up("lo")

    def _create(self) -> int:
        _RUN.mkdir(parents=True, exist_ok=True)
        outer = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.unshare(os.CLONE_NEWNET)
            fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            self.path.touch()
            _check(_libc.mount(b"/proc/thread-self/ns/net", bytes(self.path), b"none",
                               _MS_BIND, None), "bind mount of a namespace")
        finally:
            os.setns(outer, os.CLONE_NEWNET)
            os.close(outer)
        return fd

    def __enter__(self) -> "NetNS":
        outer = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        os.setns(self.fd, os.CLONE_NEWNET)
        self._outer.append(outer)
        return self

    def __exit__(self, *exc: object) -> None:
        outer = self._outer.pop()
        os.setns(outer, os.CLONE_NEWNET)
        os.close(outer)

    def close(self) -> None:
        """Drop every reference this object holds; the kernel tears the namespace down later."""
        if self.fd < 0:
            return
        self._resources.close()
        self._rtnl = self._l2tp = None
        _libc.umount2(bytes(self.path), _MNT_DETACH)
        self.path.unlink(missing_ok=True)
        os.close(self.fd)
        self.fd = -1

    # --- things that live in the namespace

    @property
    def rtnl(self) -> Rtnl:
        if self._rtnl is None:
            with self:
                self._rtnl = self._resources.enter_context(Rtnl())
        return self._rtnl

    @property
    def l2tp(self) -> L2tp:
        if self._l2tp is None:
            self._l2tp = self.client()
        return self._l2tp

    def client(self, **kwargs) -> L2tp:
        with self:
            return self._resources.enter_context(L2tp(**kwargs))

    def forget_clients(self) -> None:
        """After a reload of the module the family has another number."""
        self._l2tp = None

    def listener(self) -> Listener:
        with self:
            return self._resources.enter_context(Listener())

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_DGRAM,
               proto: int = 0, timeout: float = 10.0) -> socket.socket:
        with self:
            sock = self._resources.enter_context(socket.socket(family, kind, proto))
        sock.settimeout(timeout)
        return sock

    def udp(self, local: tuple | None = None, peer: tuple | None = None) -> socket.socket:
        """A UDP socket, IPv6 if the address says so."""
        family = socket.AF_INET6 if ":" in (local or peer or ("",))[0] else socket.AF_INET
        sock = self.socket(family)
        if local:
            sock.bind(local)
        if peer:
            sock.connect(peer)
        return sock

    def run(self, *command: str, check: bool = True,
            timeout: float = 60) -> subprocess.CompletedProcess:
        with self:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n"
                                 f"{done.stdout}{done.stderr}")
        return done

    def popen(self, *command: str, **kwargs) -> subprocess.Popen:
        """A background command; the caller ends it."""
        with self:
            return subprocess.Popen(command, stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL, **kwargs)

    def sysctl(self, key: str, setting: object) -> None:
        with self:
            Path("/proc/sys", key).write_text(str(setting))

    def sysctl_of(self, key: str) -> str:
        with self:
            return Path("/proc/sys", key).read_text().strip()

    def read(self, path: str) -> str:
        """A file below /proc/net of this namespace."""
        with self:
            return Path("/proc/thread-self/net", path).read_text()

    # --- links

    def index(self, ifname: str) -> int | None:
        """Interface index by name, None when there is none."""
        found = self.rtnl.find(ifname)
        return found.index if found else None

    def link(self, ifname: str) -> Link:
        found = self.rtnl.find(ifname)
        assert found, f"{self.name}: no interface {ifname}"
        return found

    def links(self) -> list[str]:
        lines = self.read("dev").splitlines()[2:]
        return sorted(line.split(":")[0].strip() for line in lines)

    def up(self, *ifnames: str) -> None:
        for ifname in ifnames:
            self.rtnl.set(self.link(ifname).index, up=True)

    def down(self, ifname: str) -> None:
        self.rtnl.set(self.link(ifname).index, up=False)

    def set_mtu(self, ifname: str, mtu: int) -> None:
        self.rtnl.set(self.link(ifname).index, nla.u32(rtnl.IFLA_MTU, mtu))

    def rename(self, ifname: str, name: str) -> None:
        self.rtnl.set(self.link(ifname).index, nla.string(rtnl.IFLA_IFNAME, name))

    def addr(self, ifname: str, *addresses: str) -> None:
        """Add `address/prefix`; IPv6 ones without duplicate address detection."""
        index = self.link(ifname).index
        for text in addresses:
            self.rtnl.add_addr(index, text)
            if ifname == "lo" and ":" in text:
                eventually(lambda text=text: self._is_routed(text), what=f"route to {text}")

    def _is_routed(self, text: str) -> bool:
        """Whether an IPv6 address of ours can be reached.  The kernel sees to that later.  A socket
        that is connected to it before has a route that leads nowhere, for good."""
        wanted = ipaddress.IPv6Interface(text).ip.packed.hex()
        routes = (line.split() for line in self.read("ipv6_route").splitlines())
        return any(route[0] == wanted and int(route[8], 16) & _RTF_LOCAL for route in routes)

    def del_addr(self, ifname: str, text: str) -> None:
        self.rtnl.del_addr(self.link(ifname).index, text)

    def counters(self, ifname: str) -> dict[str, int]:
        """Statistics of a link as rtnetlink reports them."""
        return self.link(ifname).stats

    def ping(self, address: str, *options: str, count: int = 1, timeout: float = 5) -> None:
        self.run("ping", "-n", "-q", "-c", str(count), "-i", "0.01", "-w", str(int(timeout) or 1),
                 *options, address)

    def pings(self, address: str, *options: str, timeout: float = 0.5) -> bool:
        """Whether one ping gets an answer."""
        done = self.run("ping", "-n", "-q", "-c", "1", "-W", str(timeout), *options, address,
                        check=False)
        return done.returncode == 0


def move(device: str, source: NetNS, target: NetNS) -> None:
    """Move a device to another namespace."""
    source.rtnl.set(source.link(device).index, nla.u32(rtnl.IFLA_NET_NS_FD, target.fd))


def veth(a: NetNS, a_name: str, b: NetNS, b_name: str) -> None:
    a.rtnl.add_veth(a_name, b_name, b.fd)
    a.up(a_name)
    b.up(b_name)


class Hosts:
    """Two hosts, `a` and `b`, that reach each other; with `router` set, through a third."""

    A4, B4 = "10.1.1.1", "10.1.2.1"
    A6, B6 = "2001:db8:1::1", "2001:db8:2::1"

    def __init__(self, routed: bool = False, mtu: int = 1500) -> None:
        self.a = NetNS("a")
        self.b = NetNS("b")
        self.router: NetNS | None = None
        for host in (self.a, self.b):
            host.sysctl("net/ipv6/conf/default/accept_dad", 0)
            host.sysctl("net/ipv6/conf/default/keep_addr_on_down", 1)
        if routed:
            self._join_by_router()
        else:
            self._join_directly()
        if mtu != 1500:
            self.a.set_mtu("eth0", mtu)
            self.b.set_mtu("eth0", mtu)

    def _join_directly(self) -> None:
        veth(self.a, "eth0", self.b, "eth0")
        self.a.addr("eth0", "10.1.1.1/16", "2001:db8:1::1/32")
        self.b.addr("eth0", "10.1.2.1/16", "2001:db8:2::1/32")

    def _join_by_router(self) -> None:
        self.router = router = NetNS("r")
        router.sysctl("net/ipv6/conf/default/accept_dad", 0)
        router.sysctl("net/ipv4/ip_forward", 1)
        router.sysctl("net/ipv6/conf/all/forwarding", 1)
        for number, host in ((1, self.a), (2, self.b)):
            veth(host, "eth0", router, f"eth{number}")
            router.addr(f"eth{number}", f"10.1.{number}.254/24", f"2001:db8:{number}::fe/64")
            host.addr("eth0", f"10.1.{number}.1/24", f"2001:db8:{number}::1/64")
            host.rtnl.add_route(f"10.1.{3 - number}.0/24", f"10.1.{number}.254")
            host.rtnl.add_route(f"2001:db8:{3 - number}::/64", f"2001:db8:{number}::fe")

    def addresses(self, family: int) -> tuple[str, str]:
        """(a, b) for 4 or 6."""
        return (self.A4, self.B4) if family == 4 else (self.A6, self.B6)

    def both(self) -> Iterator[tuple[NetNS, str, str, int, int]]:
        """For each host: namespace, own IPv4, peer IPv4, own number, peer number."""
        yield self.a, self.A4, self.B4, 1, 2
        yield self.b, self.B4, self.A4, 2, 1

    def close(self) -> None:
        for ns in (self.a, self.b, self.router):
            if ns is not None:
                ns.close()


def remove_stale() -> None:
    """Drop namespaces an earlier, killed run of the suite left behind."""
    for path in _RUN.glob("l2t-*"):
        _libc.umount2(bytes(path), _MNT_DETACH)
        path.unlink()


def settle(timeout: float = 60) -> None:
    """Wait until the kernel has torn down every namespace that was closed before now.

    It tears them down in order, so once the last one is gone all the others are; a device that
    only exists with that last one tells.
    """
    here, last = NetNS("here"), NetNS("last")
    here.rtnl.add_veth("probe", "probe", last.fd)
    last.close()
    eventually(lambda: "probe" not in here.links(), timeout, "teardown of old namespaces")
    here.close()
