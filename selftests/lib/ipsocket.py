# SPDX-License-Identifier: GPL-2.0
"""Sockets of IPPROTO_L2TP by plain system calls: Python knows neither their addresses nor all that
recvmsg says of them.  What differs between IPv4 and IPv6 is in `Family`; the tests run for both."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from lib.netns import NetNS
from lib.uapi import IPPROTO_L2TP

SIOCINQ, SIOCOUTQ = 0x541b, 0x5411
SO_ATTACH_FILTER, SO_DETACH_FILTER, SO_PROTOCOL, SO_DOMAIN, SO_MEMINFO = 26, 27, 38, 39, 55
SO_RCVBUFFORCE, SO_SNDBUFFORCE, SO_BINDTODEVICE, SO_TIMESTAMP = 33, 32, 25, 29
MSG_PROBE, MSG_CONFIRM = 0x10, 0x800
_DROPS = 8  # in what SO_MEMINFO gives

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def _mmap(fd: int = -1) -> int:
    """A page of the file, or of memory."""
    kind = mmap.MAP_PRIVATE | (mmap.MAP_ANONYMOUS if fd < 0 else 0)
    return _libc.mmap(None, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE, kind, fd, 0)


def _checked(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


@contextlib.contextmanager
def refused(error: int) -> Iterator[None]:
    """The block fails with this errno."""
    with pytest.raises(OSError) as raised:
        yield
    assert raised.value.errno == error, errno.errorcode.get(raised.value.errno or 0)


# --- addresses

@dataclass(frozen=True)
class Name:
    """What a sockaddr_l2tpip or sockaddr_l2tpip6 says."""
    address: str
    conn_id: int = 0
    scope: int = 0
    flow: int = 0
    unused: int = 0


@dataclass(frozen=True)
class Family:
    """IPv4 or IPv6, and addresses of a host that has `near` and `near2` on its loopback; nobody
    has `far`, and there is no way to it."""
    number: int
    near: str
    near2: str
    far: str
    any: str

    def __str__(self) -> str:
        return f"ip{self.number}"

    @property
    def af(self) -> int:
        return socket.AF_INET if self.number == 4 else socket.AF_INET6

    @property
    def level(self) -> int:
        return socket.IPPROTO_IP if self.number == 4 else socket.IPPROTO_IPV6

    @property
    def size(self) -> int:
        """Of an address structure."""
        return 16 if self.number == 4 else 32

    @property
    def protocol(self) -> str:
        return "L2TP/IP" if self.number == 4 else "L2TP/IPv6"

    def pick(self, v4: Any, v6: Any) -> Any:
        return v4 if self.number == 4 else v6

    def name(self, address: str, conn_id: int = 0, *, scope: int = 0, flow: int = 0,
             unused: int = 0, family: int | None = None) -> bytes:
        packed = socket.inet_pton(self.af, address)
        head = struct.pack("=HH", self.af if family is None else family, unused)
        if self.number == 4:
            return head + packed + struct.pack("=I4x", conn_id)
        return head + struct.pack("!I", flow) + packed + struct.pack("=II", scope, conn_id)

    def parse(self, raw: bytes) -> Name:
        assert len(raw) == self.size, raw
        family, unused = struct.unpack("=HH", raw[:4])
        assert family == self.af
        if self.number == 4:
            assert raw[12:] == bytes(4)
            return Name(socket.inet_ntop(self.af, raw[4:8]),
                        struct.unpack("=I", raw[8:12])[0], unused=unused)
        flow, = struct.unpack("!I", raw[4:8])
        scope, conn_id = struct.unpack("=II", raw[24:])
        return Name(socket.inet_ntop(self.af, raw[8:24]), conn_id, scope, flow, unused)

    def parse_sender(self, raw: bytes) -> str:
        """The address in the name of a received message, which has nothing else."""
        name = self.parse(raw)
        assert name == Name(name.address)
        return name.address


V4 = Family(4, "127.0.0.1", "127.0.0.2", "203.0.113.9", "0.0.0.0")
V6 = Family(6, "fd00::1", "fd00::2", "2001:db8:9999::9", "::")
FAMILIES = pytest.mark.parametrize("family", [V4, V6], ids=str)


# --- messages

def control(conn_id: int, body: bytes = b"0123456789", *, flags: int = 0xc803) -> bytes:
    """A control message, as user space sees it."""
    return struct.pack("!HHIHH", flags, 12 + len(body), conn_id, 1, 2) + body


@dataclass(frozen=True)
class Received:
    data: bytes
    name: bytes
    flags: int
    length: int  # what the call returned
    control: dict[tuple[int, int], bytes]


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _Msghdr(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("namelen", ctypes.c_uint32),
                ("iov", ctypes.POINTER(_Iovec)), ("iovlen", ctypes.c_size_t),
                ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t),
                ("flags", ctypes.c_int)]


def cmsg(level: int, kind: int, data: bytes) -> bytes:
    size = 16 + len(data)
    return struct.pack("=Qii", size, level, kind) + data + bytes(-size % 8)


def _parse_control(raw: bytes) -> dict[tuple[int, int], bytes]:
    out = {}
    while len(raw) >= 16:
        size, level, kind = struct.unpack("=Qii", raw[:16])
        assert size >= 16
        out[level, kind] = raw[16:size]
        raw = raw[size + -size % 8:]
    return out


class Sock:
    """One socket; its calls give up after 10 s where they wait."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.sock = socket.socket(family.af, socket.SOCK_DGRAM, IPPROTO_L2TP)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self.set(socket.SOL_SOCKET, option, struct.pack("=qq", 10, 0))

    @classmethod
    def around(cls, sock: socket.socket) -> Sock:
        """The same calls on a socket that somebody else has made, of any protocol."""
        made = cls.__new__(cls)
        made.family, made.sock = V4 if sock.family == socket.AF_INET else V6, sock
        return made

    @property
    def fd(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        self.sock.close()

    # --- addresses

    def bind_raw(self, raw: bytes) -> None:
        _checked(_libc.bind(self.fd, raw, len(raw)))

    def bind(self, address: str | None = None, conn_id: int = 0, **kwargs: int) -> Sock:
        self.bind_raw(self.family.name(address or self.family.any, conn_id, **kwargs))
        return self

    def connect_raw(self, raw: bytes) -> None:
        _checked(_libc.connect(self.fd, raw, len(raw)))

    def connect(self, address: str, conn_id: int = 0, **kwargs: int) -> Sock:
        self.connect_raw(self.family.name(address, conn_id, **kwargs))
        return self

    def disconnect(self) -> None:
        self.connect_raw(struct.pack("=H", socket.AF_UNSPEC))

    def _getname(self, call: Callable[..., int], room: int) -> tuple[bytes, int]:
        out = ctypes.create_string_buffer(b"\xee" * 128, 128)
        length = ctypes.c_uint32(room)
        _checked(call(self.fd, out, ctypes.byref(length)))
        assert out.raw[room:] == b"\xee" * (128 - room)
        return out.raw[:min(room, length.value)], length.value

    def getsockname_raw(self, room: int) -> tuple[bytes, int]:
        """What fits, and how long the whole is."""
        return self._getname(_libc.getsockname, room)

    def here(self) -> Name:
        """getsockname()"""
        return self.family.parse(self._getname(_libc.getsockname, 128)[0])

    def peer(self) -> Name:
        """getpeername()"""
        return self.family.parse(self._getname(_libc.getpeername, 128)[0])

    # --- options

    def set(self, level: int, option: int, value: int | bytes) -> None:
        self.sock.setsockopt(level, option, value)

    def set_device(self, ifname: str) -> None:
        self.set(socket.SOL_SOCKET, SO_BINDTODEVICE, ifname.encode() + b"\0")

    def device(self) -> str:
        return self.sock.getsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, 16).split(b"\0")[0].decode()

    def set_filter(self, *program: tuple[int, int, int, int]) -> None:
        """A classic BPF program, or none."""
        if not program:
            self.set(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
            return
        code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *op) for op in program))
        self.set(socket.SOL_SOCKET, SO_ATTACH_FILTER,
                 struct.pack("=H6xQ", len(program), ctypes.addressof(code)))

    def drops(self) -> int:
        """Packets that found no room, or no favour."""
        raw = self.sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36)
        return struct.unpack("=9I", raw)[_DROPS]

    def ioctl(self, request: int) -> int:
        out = ctypes.c_int(-1)
        _checked(_libc.ioctl(self.fd, ctypes.c_ulong(request), ctypes.byref(out)))
        return out.value

    def events(self) -> int:
        """What poll() finds at once."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN | select.POLLOUT | select.POLLPRI | 0x2000)
        found = poll.poll(0)
        return found[0][1] if found else 0

    # --- data

    def send(self, data: bytes, to: bytes | None = None, control: Iterable[bytes] = (),
             flags: int = 0) -> int:
        buffer = ctypes.create_string_buffer(data, len(data))
        return self.send_memory(ctypes.addressof(buffer), len(data), to, control, flags)

    def send_memory(self, address: int, length: int, to: bytes | None = None,
                    control: Iterable[bytes] = (), flags: int = 0) -> int:
        name = ctypes.create_string_buffer(to or b"", len(to or b""))
        ancillary = b"".join(control)
        extra = ctypes.create_string_buffer(ancillary, len(ancillary))
        header = _Msghdr(ctypes.addressof(name) if to is not None else None, len(to or b""),
                         ctypes.pointer(_Iovec(address, length)), 1,
                         ctypes.addressof(extra) if ancillary else None, len(ancillary), 0)
        return _checked(_libc.sendmsg(self.fd, ctypes.byref(header), flags))

    def recvmsg(self, room: int = 1 << 16, flags: int = 0, names: int = 128) -> Received:
        data = ctypes.create_string_buffer(max(room, 1))
        name = ctypes.create_string_buffer(128)
        extra = ctypes.create_string_buffer(1024)
        header = _Msghdr(ctypes.addressof(name) if names else None, names,
                         ctypes.pointer(_Iovec(ctypes.addressof(data), room)), 1,
                         ctypes.addressof(extra), 1024, 0)
        length = _checked(_libc.recvmsg(self.fd, ctypes.byref(header), flags))
        return Received(data.raw[:min(length, room)], name.raw[:header.namelen], header.flags,
                        length, _parse_control(extra.raw[:header.controllen]))

    def recv_memory(self, address: int, room: int) -> int:
        return _checked(_libc.recv(self.fd, ctypes.c_void_p(address), ctypes.c_size_t(room), 0))

    def mmap(self) -> None:
        if _mmap(self.fd) == ctypes.c_void_p(-1).value:
            _checked(-1)

    def recv(self, flags: int = 0) -> bytes:
        return self.recvmsg(flags=flags).data

    def all(self) -> list[bytes]:
        """What waits to be received."""
        out = []
        while True:
            try:
                out.append(self.recv(socket.MSG_DONTWAIT))
            except BlockingIOError:
                return out


class Sockets:
    """Makes sockets in a namespace, and closes them."""

    def __init__(self, ns: NetNS) -> None:
        self.ns = ns
        self._open: list[Sock] = []

    def __call__(self, family: Family) -> Sock:
        with self.ns:
            self._open.append(Sock(family))
        return self._open[-1]

    def close(self) -> None:
        for sock in self._open:
            sock.close()
        self._open.clear()


# --- a task that stays inside a system call

class _Stuck:
    """A page of memory that whoever reads it waits for, until release()."""

    def __init__(self) -> None:
        self.size = mmap.PAGESIZE
        self.address = _mmap()
        self.fd = _checked(_libc.syscall(323, os.O_CLOEXEC | os.O_NONBLOCK))  # userfaultfd
        fcntl.ioctl(self.fd, 0xc018aa3f, struct.pack("=QQQ", 0xaa, 0, 0))  # UFFDIO_API
        fcntl.ioctl(self.fd, 0xc020aa00,  # UFFDIO_REGISTER, pages that are missing
                    struct.pack("=QQQQ", self.address, self.size, 1, 0))

    def reached(self) -> None:
        """Waits until somebody waits."""
        assert select.select([self.fd], [], [], 10)[0]
        os.read(self.fd, 32)

    def release(self) -> None:
        with contextlib.suppress(FileExistsError):
            fcntl.ioctl(self.fd, 0xc020aa04,  # UFFDIO_ZEROPAGE
                        struct.pack("=QQQQ", self.address, self.size, 0, 0))

    def close(self) -> None:
        self.release()
        os.close(self.fd)
        _libc.munmap(self.address, self.size)


@contextlib.contextmanager
def sending(sock: Sock, length: int, to: bytes | None = None) -> Iterator[Callable[[], None]]:
    """Within the block, a task is in the middle of sending `length` zero bytes and owns the socket;
    what the block gets lets it finish, which the end of the block does anyway."""
    page = _Stuck()
    results: list[object] = []

    def send() -> None:
        try:
            results.append(sock.send_memory(page.address, length, to))
        except OSError as error:
            results.append(error)

    thread = threading.Thread(target=send)
    thread.start()

    def finish() -> None:
        page.release()
        thread.join(10)
        assert results == [length]

    try:
        page.reached()
        yield finish
        finish()
    finally:
        page.release()
        thread.join(10)
        page.close()
