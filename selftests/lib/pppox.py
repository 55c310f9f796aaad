# SPDX-License-Identifier: GPL-2.0
"""PPP over L2TP as programs see it: AF_PPPOX sockets, and /dev/ppp."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import socket
import struct
from dataclasses import astuple, dataclass

from lib.netns import NetNS

AF_PPPOX = 24
PX_PROTO_OL2TP = 1
SOL_PPPOL2TP = 273
SO_DEBUG, SO_RECVSEQ, SO_SENDSEQ, SO_LNSMODE, SO_REORDERTO = 1, 2, 3, 4, 5

PPPIOCGCHAN = 0x80047437
PPPIOCGMRU = 0x80047453
PPPIOCSMRU = 0x40047452
PPPIOCGFLAGS = 0x8004745A
PPPIOCSFLAGS = 0x40047459
PPPIOCGL2TPSTATS = 0x80487436
PPPIOCATTCHAN = 0x40047438
PPPIOCCONNECT = 0x4004743A
PPPIOCDISCONN = 0x7439
PPPIOCNEWUNIT = 0xC004743E
PPPIOCSMRRU = 0x4004743B
PPPIOCSNPMODE = 0x4008744B
PPPIOCBRIDGECHAN = 0x40047435
PPPIOCUNBRIDGECHAN = 0x7434
SC_MULTILINK = 0x400

PPP_IP, PPP_IPV6, PPP_LCP, PPP_IPCP = 0x0021, 0x0057, 0xC021, 0x8021

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


# --- addresses

@dataclass(frozen=True)
class Address:
    """One of the four address structures; which one is decided by `version` and `family`."""
    tid: int = 0
    sid: int = 0
    peer_tid: int = 0
    peer_sid: int = 0
    fd: int = -1
    version: int = 2
    family: int = socket.AF_INET
    peer: tuple[str, int] = ("0.0.0.0", 0)
    pid: int = 0
    protocol: int = PX_PROTO_OL2TP
    sa_family: int = AF_PPPOX

    def pack(self) -> bytes:
        head = struct.pack("=HIii", self.sa_family, self.protocol, self.pid, self.fd)
        ids = struct.pack("=4H" if self.version == 2 else "=4I", self.tid, self.sid,
                          self.peer_tid, self.peer_sid)
        host, port = self.peer
        if self.family == socket.AF_INET:
            packed = socket.inet_pton(socket.AF_INET, host)
            return head + struct.pack("=H", self.family) + struct.pack("!H", port) + packed \
                + bytes(8) + ids
        packed = socket.inet_pton(socket.AF_INET6, "::" if host == "0.0.0.0" else host)
        return head + ids + struct.pack("=H", self.family) + struct.pack("!H", port) + bytes(4) \
            + packed + bytes(4)

    @staticmethod
    def unpack(data: bytes) -> Address:
        version, family = {38: (2, socket.AF_INET), 50: (2, socket.AF_INET6),
                           46: (3, socket.AF_INET), 58: (3, socket.AF_INET6)}[len(data)]
        sa_family, protocol, pid, fd = struct.unpack_from("=HIii", data)
        ids = "=4H" if version == 2 else "=4I"
        width = struct.calcsize(ids)
        if family == socket.AF_INET:
            inet, numbers = data[14:30], data[30:]
            host = socket.inet_ntop(family, inet[4:8])
        else:
            numbers, inet = data[14:14 + width], data[14 + width:]
            host = socket.inet_ntop(family, inet[8:24])
        assert struct.unpack_from("=H", inet)[0] == family
        tid, sid, peer_tid, peer_sid = struct.unpack(ids, numbers)
        port = struct.unpack_from("!H", inet, 2)[0]
        return Address(tid, sid, peer_tid, peer_sid, fd, version, family, (host, port), pid,
                       protocol, sa_family)


# --- sockets

@dataclass(frozen=True)
class Stats:
    """struct pppol2tp_ioc_stats."""
    tunnel_id: int
    session_id: int
    using_ipsec: int
    tx_packets: int
    tx_bytes: int
    tx_errors: int
    rx_packets: int
    rx_bytes: int
    rx_seq_discards: int
    rx_oos_packets: int
    rx_errors: int

    FORMAT = "=HHI8Q"

    @property
    def traffic(self) -> tuple[int, ...]:
        return astuple(self)[3:]


class PppSocket:
    """An AF_PPPOX socket in a namespace."""

    def __init__(self, ns: NetNS, kind: int = socket.SOCK_DGRAM) -> None:
        self.ns = ns
        with ns:
            self.sock = socket.socket(AF_PPPOX, kind, PX_PROTO_OL2TP)
        self.sock.settimeout(10)

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> PppSocket:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def fd(self) -> int:
        return self.sock.fileno()

    def recvmsg(self, size: int) -> tuple:
        """As socket.recvmsg(), which does not know what addresses of this family look like."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, fileno=os.dup(self.fd)) as same:
            same.settimeout(10)
            return same.recvmsg(size)

    def connect(self, address: Address | bytes) -> None:
        data = address if isinstance(address, bytes) else address.pack()
        _check(_libc.connect(self.fd, data, len(data)))

    def errno_of_connect(self, address: Address | bytes) -> int:
        """0 if it succeeds."""
        try:
            self.connect(address)
        except OSError as error:
            return error.errno or 0
        return 0

    def name(self, peer: bool = False) -> Address:
        return Address.unpack(self.raw_name(peer))

    def raw_name(self, peer: bool = False) -> bytes:
        room = ctypes.create_string_buffer(128)
        length = ctypes.c_uint32(128)
        call = _libc.getpeername if peer else _libc.getsockname
        _check(call(self.fd, room, ctypes.byref(length)))
        return room.raw[:length.value]

    def set(self, option: int, value: int | bytes, level: int = SOL_PPPOL2TP) -> None:
        data = value if isinstance(value, bytes) else struct.pack("=i", value)
        self.sock.setsockopt(level, option, data)

    def get(self, option: int, level: int = SOL_PPPOL2TP) -> int:
        return struct.unpack("=i", self.sock.getsockopt(level, option, 4))[0]

    def number(self, request: int) -> int:
        """An ioctl that writes an int."""
        return struct.unpack("=i", fcntl.ioctl(self.fd, request, struct.pack("=i", -77)))[0]

    def channel(self) -> int:
        return self.number(PPPIOCGCHAN)

    def stats(self, session_id: int = 0) -> Stats:
        asked = struct.pack(Stats.FORMAT, 0, session_id, *(9 * (0,)))
        return Stats(*struct.unpack(Stats.FORMAT, fcntl.ioctl(self.fd, PPPIOCGL2TPSTATS, asked)))

    def errno_of(self, request: int) -> int:
        """The errno of an ioctl with room for its argument; 0 if it succeeds."""
        try:
            fcntl.ioctl(self.fd, request, bytes(128))
        except OSError as error:
            return error.errno or 0
        return 0


# --- /dev/ppp

class DevPpp:
    """An open /dev/ppp: a channel, a unit, or neither yet.  `ns` is where its ioctls happen."""

    def __init__(self, ns: NetNS) -> None:
        self.ns = ns
        with ns:
            self.fd = os.open("/dev/ppp", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> DevPpp:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def ioctl(self, request: int, value: int = 0) -> int:
        with self.ns:
            out = fcntl.ioctl(self.fd, request, struct.pack("=i", value))
        return struct.unpack("=i", out)[0]

    def errno_of(self, request: int, value: int = 0) -> int:
        try:
            self.ioctl(request, value)
        except OSError as error:
            return error.errno or 0
        return 0

    def attach(self, channel: int) -> DevPpp:
        self.ioctl(PPPIOCATTCHAN, channel)
        return self

    def read(self, timeout: float = 10.0) -> bytes:
        """The next frame for user space, or b"" at the end."""
        assert select.select([self.fd], [], [], timeout)[0], "no frame"
        return os.read(self.fd, 65536)

    def pending(self) -> list[bytes]:
        """What there is to read at the moment."""
        out = []
        while select.select([self.fd], [], [], 0)[0]:
            out.append(os.read(self.fd, 65536))
        return out

    def write(self, frame: bytes) -> None:
        os.write(self.fd, frame)


class Link:
    """A PPP device on a PPPoX socket, as pppd would make it, without any negotiation."""

    def __init__(self, sock: PppSocket) -> None:
        self.ns = sock.ns
        self.sock = sock
        self.index = sock.channel()
        self.channel = DevPpp(self.ns).attach(self.index)
        self.device = DevPpp(self.ns)
        self.unit = self.device.ioctl(PPPIOCNEWUNIT, -1)
        self.channel.ioctl(PPPIOCCONNECT, self.unit)
        for protocol in (PPP_IP, PPP_IPV6):
            with self.ns:
                fcntl.ioctl(self.device.fd, PPPIOCSNPMODE, struct.pack("=ii", protocol, 0))

    @property
    def ifname(self) -> str:
        return f"ppp{self.unit}"

    def up(self, address: str, peer: str) -> Link:
        self.ns.run("ip", "addr", "add", address, "peer", peer, "dev", self.ifname)
        self.ns.up(self.ifname)
        return self

    def close(self) -> None:
        self.channel.close()
        self.device.close()
        self.sock.close()

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def frame(protocol: int, payload: bytes = b"") -> bytes:
    """A PPP frame without address and control field."""
    return struct.pack("!H", protocol) + payload
