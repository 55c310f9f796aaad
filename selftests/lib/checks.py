# SPDX-License-Identifier: GPL-2.0
"""Assertions and small operations that several test files share."""

import re

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
