# SPDX-License-Identifier: GPL-2.0
"""Sockets of daemons: each kind that a tunnel can be put on, and what daemons do to them."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from dataclasses import dataclass

from lib import uapi
from lib.ipsocket import Sock
from lib.netns import NetNS
from lib.uapi import Encap

_libc = ctypes.CDLL(None, use_errno=True)
MAPPED = "::ffff:"


def disconnect(sock: socket.socket) -> None:
    """connect() to AF_UNSPEC, which Python cannot say."""
    Sock.around(sock).disconnect()


@dataclass(frozen=True)
class Kind:
    """A kind of socket; `family` is that of the packets."""
    name: str
    encap: Encap
    family: int
    af: int

    @property
    def is_mapped(self) -> bool:
        return self.family == 4 and self.af == socket.AF_INET6

    def address(self, text: str) -> str:
        """As a socket of this kind must be told it."""
        return MAPPED + text if self.is_mapped else text

    def open(self, ns: NetNS) -> socket.socket:
        """Neither bound nor connected, and nobody closes it but the caller."""
        proto = 0 if self.encap == Encap.UDP else uapi.IPPROTO_L2TP
        with ns:
            sock = socket.socket(self.af, socket.SOCK_DGRAM, proto)
        sock.settimeout(10)
        return sock

    def bind(self, sock: socket.socket, local: str, number: int) -> None:
        """`number` is the port or the connection id."""
        if self.encap == Encap.UDP:
            sock.bind((self.address(local), number))
        else:
            # a mapped address cannot be bound to
            Sock.around(sock).bind("::" if self.is_mapped else local, number)

    def connect(self, sock: socket.socket, peer: str, number: int) -> None:
        if self.encap == Encap.UDP:
            sock.connect((self.address(peer), number))
        else:
            Sock.around(sock).connect(self.address(peer), number)


KINDS = {kind.name: kind for kind in (
    Kind("udp4", Encap.UDP, 4, socket.AF_INET),
    Kind("udp6", Encap.UDP, 6, socket.AF_INET6),
    Kind("udp-mapped", Encap.UDP, 4, socket.AF_INET6),
    Kind("ip4", Encap.IP, 4, socket.AF_INET),
    Kind("ip6", Encap.IP, 6, socket.AF_INET6),
    Kind("ip-mapped", Encap.IP, 4, socket.AF_INET6),
)}
OVER_UDP = ("udp4", "udp6", "udp-mapped")
OVER_IP = ("ip4", "ip6", "ip-mapped")


def udp_encap(sock: socket.socket) -> int:
    return sock.getsockopt(uapi.SOL_UDP, uapi.UDP_ENCAP)


def set_udp_encap(sock: socket.socket, kind: int) -> None:
    sock.setsockopt(uapi.SOL_UDP, uapi.UDP_ENCAP, kind)


def pending_error(sock: socket.socket) -> int:
    """What an ICMP message has told the socket; asking takes it away."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


class ReuseportArray:
    """A BPF map of sockets: whoever is in it has something in sk_user_data."""

    _TYPE = 20  # BPF_MAP_TYPE_REUSEPORT_SOCKARRAY

    def __init__(self) -> None:
        self.fd = self._bpf(0, struct.pack("=IIII", self._TYPE, 4, 8, 1))

    @staticmethod
    def _bpf(cmd: int, attr: bytes) -> int:
        attr = attr.ljust(128, b"\0")
        result = _libc.syscall(321, cmd, attr, len(attr))
        if result < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        return result

    def put(self, sock: socket.socket) -> None:
        key = ctypes.create_string_buffer(4)
        value = ctypes.create_string_buffer(struct.pack("=Q", sock.fileno()), 8)
        self._bpf(2, struct.pack("=IxxxxQQ", self.fd, ctypes.addressof(key),
                                 ctypes.addressof(value)))

    def remove(self) -> None:
        key = ctypes.create_string_buffer(4)
        self._bpf(3, struct.pack("=IxxxxQ", self.fd, ctypes.addressof(key)))

    def close(self) -> None:
        os.close(self.fd)


def send_fd(channel: socket.socket, fd: int) -> None:
    """SCM_RIGHTS."""
    socket.send_fds(channel, [b"fd"], [fd])


def receive_fd(channel: socket.socket) -> int:
    _, fds, _, _ = socket.recv_fds(channel, 10, 1)
    assert len(fds) == 1
    return fds[0]
