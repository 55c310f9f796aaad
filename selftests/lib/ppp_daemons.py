# SPDX-License-Identifier: GPL-2.0
"""Debian's PPP and L2TPv2 daemons, each on a host with a /run and an /etc/ppp of its own."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lib.daemons import Daemon
from lib.genl import L2tpMessage
from lib.netns import Hosts, NetNS
from lib.uapi import Attr, Cmd, Encap, PwType, Stat
from lib.wait import eventually

AF_PPPOX = 24
PX_PROTO_OE, PX_PROTO_OL2TP = 0, 1
PPPIOCGCHAN, PPPIOCATTCHAN, PPPIOCBRIDGECHAN = 0x80047437, 0x40047438, 0x40047435
PPPIOCNEWUNIT, PPPIOCCONNECT, PPPIOCSNPMODE = 0xc004743e, 0x4004743a, 0x4008744b
PPP_IP, NPMODE_PASS = 0x21, 0
SIOCGIFFLAGS, SIOCGIFADDR, IFF_UP = 0x8913, 0x8915, 1
USER, SECRET = "alice", "correct horse"
LAC4, LNS4 = "192.168.9.2", "192.168.9.1"
LNS = f"[lns default]\nip range = {LAC4}-192.168.9.250\nlocal ip = {LNS4}\nrequire chap = yes\n"
LNS_PPP = "name lns\nrequire-chap\nipv6 ::1,::2\n"
LAC_PPP = f"name {USER}\nipv6 ::2,::1\n"

#: What every pppd is told. No scripts, no compression; restart timers of one second.
OPTIONS = """
nodetach
debug
noauth
nolock
noccp
novj
noaccomp
nopcomp
nodefaultroute
lcp-restart 1
lcp-max-terminate 1
ipcp-restart 1
ipv6cp-restart 1
chap-restart 1
"""


class Host:
    """Starts daemons in a namespace. Whatever still runs there when it is closed is killed, also
    what the daemons started themselves."""

    def __init__(self, ns: NetNS, folder: Path, options: str = OPTIONS) -> None:
        self.ns = ns
        self.folder = folder / ns.name
        self._started: list[Daemon] = []
        for name in ("run", "ppp"):
            (self.folder / name).mkdir(parents=True)
        self.write("ppp/options", f"{options}logfile {self.folder}/pppd.log\n")
        self.secrets()

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    def secrets(self, user: str = USER, secret: str = SECRET) -> None:
        """The CHAP secrets pppd has, for any server and address."""
        self.write("ppp/chap-secrets", f'"{user}" * "{secret}" *\n')

    def start(self, *command: str, fds: Iterable[int] = (), env: dict | None = None) -> Daemon:
        """A command that sees this host's files; `fds` stay open in it."""
        log = self.folder / f"{len(self._started)}-{Path(command[0]).name}.log"
        script = ('mount --bind "$0/run" /run && mount --bind "$0/ppp" /etc/ppp && exec "$@"')
        with open(log, "wb") as output, self.ns:
            process = subprocess.Popen(
                ("unshare", "--mount", "sh", "-c", script, str(self.folder), *command),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=tuple(fds),
                env=env and {**os.environ, **env})
        self._started.append(Daemon(process, log))
        return self._started[-1]

    def pids(self, name: str = "") -> list[int]:
        """Processes whose network namespace is this host's, by command name."""
        here = os.fstat(self.ns.fd).st_ino
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                if (entry / "ns/net").stat().st_ino == here and \
                        name in ("", (entry / "comm").read_text().strip()):
                    found.append(int(entry.name))
        return found

    def signal(self, name: str, number: signal.Signals) -> None:
        """To every process of that name."""
        pids = self.pids(name)
        assert pids, f"no {name} runs in {self.ns.name}"
        for pid in pids:
            os.kill(pid, number)

    def ppp_log(self) -> str:
        """What all pppd of this host wrote."""
        path = self.folder / "pppd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def close(self) -> None:
        """What pytest shows of a failed test has all the logs."""
        for daemon in self._started:
            print(f"--- {self.ns.name}: {daemon.process.args[6]}\n{daemon.log()[-6000:]}")
        print(f"--- {self.ns.name}: pppd\n{self.ppp_log()[-12000:]}")
        for daemon in self._started:
            if daemon.runs:
                daemon.end(signal.SIGKILL)
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: not self.pids(), what=f"processes of {self.ns.name} to end")

    # --- xl2tpd

    def xl2tpd(self, address: str, section: str, ppp: str = "", extra: str = "") -> Daemon:
        """`section` is an [lns] or [lac] section; `ppp` are options for its pppd."""
        options = self.write("options.xl2tpd", ppp + "\n")
        config = self.write("xl2tpd.conf", f"[global]\nlisten-addr = {address}\n"
                            f"access control = no\n{extra}\n{section}\n"
                            f"pppoptfile = {options}\nppp debug = yes\n")
        # one that was killed leaves its pid file, whose number another process may have by now
        pid = self.folder / "pid"
        pid.unlink(missing_ok=True)
        self.control.unlink(missing_ok=True)
        daemon = self.start("/usr/sbin/xl2tpd", "-D", "-c", str(config), "-p", str(pid),
                            "-C", str(self.control))
        daemon.says("Listening on IP address")
        eventually(self.control.exists, what="xl2tpd's control pipe")
        return daemon

    @property
    def control(self) -> Path:
        return self.folder / "xl2tpd.control"

    def order(self, command: str) -> None:
        """Write to xl2tpd's control pipe: `c NAME` dials, `d NAME` hangs up."""
        with open(self.control, "w", encoding="ascii") as pipe:
            pipe.write(command)

    def pppd(self, sock: socket.socket, *options: str) -> Daemon:
        """pppd on a connected PPPoL2TP socket, which it has to itself from then on."""
        daemon = self.start("/usr/sbin/pppd", "plugin", "pppol2tp.so", "pppol2tp",
                            str(sock.fileno()), *options, fds=(sock.fileno(),))
        sock.close()
        return daemon

    # --- what the kernel has

    def sessions(self) -> list[L2tpMessage]:
        """PPP sessions in the kernel; number 0 is a tunnel's own, which C shows for version 3."""
        return [message for message in self.ns.l2tp.dump(Cmd.SESSION_GET)
                if message[Attr.PW_TYPE] == PwType.PPP and message[Attr.SESSION_ID]]

    def tunnels(self) -> list[int]:
        return self.ns.l2tp.tunnels()

    def units(self) -> list[str]:
        return [name for name in self.ns.links() if name.startswith("ppp")]

    def address(self, unit: str = "ppp0") -> str:
        """The IPv4 address of an interface that is up, or nothing."""
        with self.ns, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            request = struct.pack("16s16x8x", unit.encode())
            try:
                flags, = struct.unpack_from("=H", fcntl.ioctl(sock, SIOCGIFFLAGS, request), 16)
                return socket.inet_ntoa(fcntl.ioctl(sock, SIOCGIFADDR, request)[20:24]) \
                    if flags & IFF_UP else ""
            except OSError:
                return ""

    def address6(self, unit: str = "ppp0") -> str:
        """The IPv6 link-local address of an interface, or nothing."""
        for line in self.ns.read("if_inet6").splitlines():
            number, *_, name = line.split()
            if name == unit:
                return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(number))
        return ""

    def no_call(self, timeout: float = 20) -> None:
        """No ppp interface, no session and no pppd; a tunnel may wait for the next call."""
        self._none(lambda: [*self.units(), *self.sessions(), *self.pids("pppd")], timeout)

    def nothing_left(self, timeout: float = 20) -> None:
        """No tunnel either."""
        self._none(lambda: [*self.units(), *self.sessions(), *self.pids("pppd"),
                            *self.tunnels()], timeout)

    def _none(self, left: Callable[[], list], timeout: float) -> None:
        try:
            eventually(lambda: not left(), timeout, interval=0.05)
        except AssertionError:
            raise AssertionError(f"left on {self.ns.name}: {left()}") from None


def up(*hosts: Host, unit: str = "ppp0", ipv6: bool = False, timeout: float = 30) -> None:
    """Wait until each host has an address on its ppp interface."""
    for host in hosts:
        try:
            eventually(lambda: host.address(unit) and (not ipv6 or host.address6(unit)),
                       timeout, interval=0.05)
        except AssertionError:
            raise AssertionError(f"{unit} of {host.ns.name} does not come up") from None


def used(host: Host, peer: str, *options: str, packets: int = 3) -> list[L2tpMessage]:
    """Ping `peer` and see that the kernel's L2TP sessions carried the packets, both ways."""
    def total(kind: Stat) -> int:
        return sum(session.stats[kind] for session in host.sessions())
    sent, received = total(Stat.TX_PACKETS), total(Stat.RX_PACKETS)
    host.ns.ping(peer, *options, count=packets)
    assert total(Stat.TX_PACKETS) >= sent + packets, "the pings did not leave through the kernel"
    assert total(Stat.RX_PACKETS) >= received + packets, "the answers came some other way"
    return host.sessions()


class Dialup:
    """A LAC and an LNS, both xl2tpd; the hosts are `lac` and `lns`."""

    def __init__(self, hosts: Hosts, folder: Path) -> None:
        self.hosts = hosts
        self.lac = Host(hosts.a, folder)
        self.lns = Host(hosts.b, folder)

    def start_lns(self, ppp: str = "", extra: str = "") -> Daemon:
        return self.lns.xl2tpd(Hosts.B4, LNS, LNS_PPP + ppp, extra)

    def start_lac(self, ppp: str = "", extra: str = "") -> Daemon:
        return self.lac.xl2tpd(Hosts.A4, f"[lac far]\nlns = {Hosts.B4}\n", LAC_PPP + ppp, extra)

    def dial(self, ppp: str = "", extra: str = "", timeout: float = 30) -> Dialup:
        """Start both and connect; `ppp` and `extra` are for both."""
        self.start_lns(ppp, extra)
        self.start_lac(ppp, extra)
        return self.redial(timeout)

    def redial(self, timeout: float = 30) -> Dialup:
        self.lac.order("c far")
        up(self.lac, self.lns, timeout=timeout)
        return self

    def works(self) -> None:
        """Packets pass, through the kernel."""
        # the LNS gives out another address while it believes the old one to be in use
        for host, peer in ((self.lac, LNS4), (self.lns, self.lac.address())):
            assert len(used(host, peer)) == 1

    def close(self) -> None:
        self.lac.close()
        self.lns.close()


# --- PPPoL2TP sockets, for what no daemon does

_libc = ctypes.CDLL(None, use_errno=True)


def pppol2tp_address(version: int, peer: tuple[str, int], fd: int, tunnel: int, session: int,
                     peer_tunnel: int, peer_session: int) -> bytes:
    """A sockaddr_pppol2tp, -in6, -v3 or -v3in6."""
    packed_ids = struct.pack("=4H" if version == 2 else "=4I", tunnel, session, peer_tunnel,
                             peer_session)
    start = struct.pack("=HIii", AF_PPPOX, PX_PROTO_OL2TP, 0, fd)
    host, port = peer
    if ":" in host:
        packed = socket.inet_pton(socket.AF_INET6, host)
        return start + packed_ids + struct.pack("=H", socket.AF_INET6) + \
            struct.pack("!HI16sI", port, 0, packed, 0)
    return start + struct.pack("=H", socket.AF_INET) + \
        struct.pack("!H4s8x", port, socket.inet_aton(host)) + packed_ids


def pppox(ns: NetNS, protocol: int, address: bytes) -> socket.socket:
    """A connected PPPoX socket, blocking as pppd wants it."""
    with ns:
        sock = socket.socket(AF_PPPOX, socket.SOCK_DGRAM, protocol)
    if _libc.connect(sock.fileno(), address, len(address)):
        error = ctypes.get_errno()
        sock.close()
        raise OSError(error, os.strerror(error))
    return sock


def channel(sock: socket.socket) -> int:
    """PPPIOCGCHAN: the channel's index; its frames go to generic PPP from now on."""
    return struct.unpack("=i", fcntl.ioctl(sock, PPPIOCGCHAN, bytes(4)))[0]


def bridge(ns: NetNS, one: socket.socket, other: socket.socket) -> None:
    """PPPIOCBRIDGECHAN; lasts until one of the sockets is closed."""
    with ns, open("/dev/ppp", "r+b", buffering=0) as ppp:
        fcntl.ioctl(ppp, PPPIOCATTCHAN, struct.pack("=i", channel(one)))
        fcntl.ioctl(ppp, PPPIOCBRIDGECHAN, struct.pack("=i", channel(other)))


class Unit:
    """What pppd would have after a negotiation: pppN on a session, passing IPv4."""

    def __init__(self, ns: NetNS, sock: socket.socket) -> None:
        self._sock = sock
        with ns:
            self._channel = open("/dev/ppp", "r+b", buffering=0)
            self._unit = open("/dev/ppp", "r+b", buffering=0)
            fcntl.ioctl(self._channel, PPPIOCATTCHAN, struct.pack("=i", channel(sock)))
            number = fcntl.ioctl(self._unit, PPPIOCNEWUNIT, struct.pack("=i", -1))
            fcntl.ioctl(self._channel, PPPIOCCONNECT, number)
            fcntl.ioctl(self._unit, PPPIOCSNPMODE, struct.pack("=ii", PPP_IP, NPMODE_PASS))
        self.name = f"ppp{struct.unpack('=i', number)[0]}"

    def close(self) -> None:
        for thing in (self._unit, self._channel, self._sock):
            thing.close()


@dataclass
class Line:
    """A tunnel between two hosts without a control protocol: what both ends have agreed on."""
    a: NetNS
    b: NetNS
    addresses: tuple[str, str]
    version: int = 2
    encap: int = Encap.UDP
    tid: int = 10
    port: int = 1701
    _sockets: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        for end in (0, 1):
            if self.encap == Encap.IP:
                (self.a, self.b)[end].l2tp.tunnel(
                    self.tid + end, self.tid + 1 - end, encap=Encap.IP,
                    local=self.addresses[end], peer=self.addresses[1 - end])
            else:
                # as xl2tpd does: the socket's fd, and a connect() with session ids of 0
                udp = (self.a, self.b)[end].udp((self.addresses[end], self.port),
                                                (self.addresses[1 - end], self.port))
                self._sockets.append(udp)
                self._sockets.append(self.session(end, 0, udp.fileno()))

    def session(self, end: int, sid: int, fd: int = -1) -> socket.socket:
        """The PPPoL2TP socket of a session that has the same id at both ends."""
        ns = (self.a, self.b)[end]
        if self.encap == Encap.IP:
            # no connect() makes these: netlink does, and the socket joins them
            ns.l2tp.session(self.tid + end, sid, sid, PwType.PPP)
        return pppox(ns, PX_PROTO_OL2TP, pppol2tp_address(
            self.version, (self.addresses[1 - end], self.port), fd, self.tid + end, sid,
            self.tid + 1 - end, sid))

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()
        if self.encap == Encap.IP:
            for end in (0, 1):
                (self.a, self.b)[end].l2tp.del_tunnel(self.tid + end)
