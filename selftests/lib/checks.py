# SPDX-License-Identifier: GPL-2.0
"""Assertions and small operations that several test files share."""

import ctypes
import os
import re
import socket
import struct

from lib.differences import expect
from lib.netlink import Reply
from lib.uapi import Attr


def names(reply: Reply, attribute: str) -> bool:
    """EXTACK: whether the message or the missing-attribute field names the attribute."""
    def squeeze(text: str) -> str:
        return re.sub("[^a-z0-9]", "", text.lower())
    return squeeze(attribute) in squeeze(reply.extack) or reply.missing == Attr[attribute]


def refused(reply: Reply, error: int, attribute: str | None = None) -> None:
    """The errno, and for ours a message that names the culprit."""
    assert reply.errno == error, reply
    if attribute is not None:
        assert expect("EXTACK", c=True, rust=bool(reply.extack) and names(reply, attribute)), reply


def bind_l2tpip(sock: socket.socket, address: str, conn_id: int) -> None:
    """bind() with a sockaddr_l2tpip or _l2tpip6, which Python does not know."""
    packed = socket.inet_pton(sock.family, address)
    if sock.family == socket.AF_INET:
        sockaddr = struct.pack("=HH4sI4x", sock.family, 0, packed, conn_id)
    else:
        sockaddr = struct.pack("=HHI16sII", sock.family, 0, 0, packed, 0, conn_id)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.bind(sock.fileno(), sockaddr, len(sockaddr)):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
