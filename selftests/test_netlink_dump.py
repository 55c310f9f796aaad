# SPDX-License-Identifier: GPL-2.0
"""abi 2.11: order, completeness and continuation of dumps."""

import random
from collections.abc import Callable

import pytest

from lib.attrs import string, u32
from lib.differences import expect
from lib.genl import L2tp
from lib.netns import NetNS
from lib.uapi import Attr, Cmd, Encap, PwType
from lib.wait import eventually

MANY = 230

# Chunks of a page, and a receive buffer that holds one: the kernel is one chunk ahead of us.
SMALL = {"recv_size": 4096, "rcvbuf": 1}


def many_tunnels(l2tp: L2tp, ids: list[int]) -> None:
    """L2TP/IP tunnels: the cheapest ones to make."""
    for tid in ids:
        l2tp.tunnel(tid, tid, encap=Encap.IP)


def tunnel_ids(messages: list) -> list[int]:
    return [message[Attr.CONN_ID] for message in messages]


def session_ids(messages: list) -> list[tuple[int, int]]:
    return [(message[Attr.CONN_ID], message[Attr.SESSION_ID]) for message in messages]


def test_empty(l2tp: L2tp) -> None:
    assert l2tp.dump(Cmd.TUNNEL_GET) == [] and l2tp.dump(Cmd.SESSION_GET) == []


@pytest.fixture(scope="module")
def crowd() -> "Crowd":
    crowd = Crowd()
    yield crowd
    crowd.ns.close()


class Crowd:
    """A namespace with many tunnels, and with many sessions in some of them."""

    def __init__(self) -> None:
        self.ns = NetNS("crowd")
        generator = random.Random(1)
        ids = generator.sample(range(1, 1 << 32), MANY - 2) + [0, 0xffffffff]
        generator.shuffle(ids)
        many_tunnels(self.ns.l2tp, ids)
        self.tunnels = sorted(ids)
        self.sessions = []
        owners = ids[:6]
        for number, sid in enumerate(generator.sample(range(1, 1 << 32), MANY - 2)
                                     + [0, 0xffffffff]):
            tid = owners[number % len(owners)]
            self.ns.l2tp.session(tid, sid)
            self.sessions.append((tid, sid))
        self.sessions.sort()


@pytest.mark.parametrize("recv_size,chunks_at_least", [(4096, 10), (8192, 5), (65536, 2)])
@pytest.mark.parametrize("rcvbuf", [None, 1], ids=["big", "small"])
def test_order_and_completeness(crowd: Crowd, rcvbuf: int | None, recv_size: int,
                                chunks_at_least: int) -> None:
    """2.11.1: ascending ids, unsigned; nothing missing, nothing twice."""
    client = crowd.ns.client(rcvbuf=rcvbuf, recv_size=recv_size)
    tunnels = list(client.dump_chunks(Cmd.TUNNEL_GET))
    sessions = list(client.dump_chunks(Cmd.SESSION_GET))
    assert tunnel_ids(sum(tunnels, [])) == crowd.tunnels
    assert session_ids(sum(sessions, [])) == crowd.sessions
    assert min(len(tunnels), len(sessions)) >= chunks_at_least, "no continuation was needed"


@pytest.mark.parametrize("attributes", [
    (u32(Attr.CONN_ID, 1),), (u32(Attr.SESSION_ID, 1),), (string(Attr.IFNAME, "none"),),
    (u32(Attr.CONN_ID, 0xfffffffe), u32(Attr.SESSION_ID, 0xfffffffe))],
    ids=["tunnel", "session", "name", "both"])
def test_request_attributes_are_ignored(l2tp: L2tp, attributes: tuple[bytes, ...]) -> None:
    """2.11.2"""
    many_tunnels(l2tp, [1, 2, 3])
    l2tp.session(1, 1)
    l2tp.session(2, 2)
    assert tunnel_ids(l2tp.dump(Cmd.TUNNEL_GET, *attributes)) == [1, 2, 3]
    assert session_ids(l2tp.dump(Cmd.SESSION_GET, *attributes)) == [(1, 1), (2, 2)]


def test_flags(crowd: Crowd) -> None:
    """MULTI on each entry, no interrupted-dump flag (2.11.3)."""
    for cmd in (Cmd.TUNNEL_GET, Cmd.SESSION_GET):
        assert {m.flags for m in crowd.ns.l2tp.dump(cmd)} == {0x2}


def test_colliding_and_zero_ids(l2tp: L2tp) -> None:
    """2.11.4: once per tunnel; v3 session 0 is shown."""
    for tid in (30, 10, 20):
        l2tp.tunnel(tid, sport=5000 + tid)
        l2tp.session(tid, 7)
    l2tp.session(10, 0)
    assert l2tp.sessions() == [(10, 0), (10, 7), (20, 7), (30, 7)]


def test_colliding_ids_among_others(ns: NetNS) -> None:
    """Each tunnel lists its own sessions, whatever else shares their ids."""
    l2tp = ns.client(**SMALL)
    wanted = []
    for tid in range(1, 9):
        l2tp.tunnel(tid, sport=5000 + tid)
        for sid in (1, tid + 1, 100, 1000 + tid):
            l2tp.session(tid, sid)
            wanted.append((tid, sid))
    assert l2tp.sessions() == sorted(wanted)


def test_v2_sessions(l2tp: L2tp) -> None:
    """Ascending with v3 ones of other tunnels between; v2 session 0 is hidden."""
    l2tp.tunnel(1, version=2, sport=5001)
    l2tp.tunnel(2, sport=5002)
    l2tp.tunnel(3, version=2, sport=5003)
    for tid, sid, pw_type in ((3, 9, PwType.PPP), (1, 5, PwType.PPP), (1, 0, PwType.PPP),
                              (2, 1, PwType.ETH), (1, 2, PwType.PPP)):
        l2tp.session(tid, sid, pw_type=pw_type)
    assert l2tp.sessions() == [(1, 2), (1, 5), (2, 1), (3, 9)]


# --- changes while a dump is under way (2.11.3)

def dump_with_interruption(client: L2tp, cmd: Cmd, change: Callable[[int], None]) -> list:
    """Dump chunk by chunk; after the first, `change` gets the last id seen."""
    out: list = []
    for number, chunk in enumerate(client.dump_chunks(cmd)):
        out += chunk
        if number == 0:
            change(chunk[-1][Attr.CONN_ID if cmd == Cmd.TUNNEL_GET else Attr.SESSION_ID])
    return out


def test_tunnels_change_during_the_dump(ns: NetNS) -> None:
    """Created below the cursor: missed.  Created above: seen.  Deleted: gone.  Rest: once each."""
    many_tunnels(ns.l2tp, list(range(1000, 1000 + 2 * MANY, 2)))
    client = ns.client(**SMALL)

    def change(cursor: int) -> None:
        assert 1000 < cursor < 1300, "first chunk"
        many_tunnels(ns.l2tp, [1, 1001, 1401, 9999])
        for tid in (1002, 1400, 1402):
            ns.l2tp.del_tunnel(tid)
            eventually(lambda tid=tid: not ns.l2tp.has_tunnel(tid))

    seen = tunnel_ids(dump_with_interruption(client, Cmd.TUNNEL_GET, change))
    full = set(range(1000, 1000 + 2 * MANY, 2))
    assert seen == sorted((full | {1401, 9999}) - {1400, 1402})
    assert set(ns.l2tp.tunnels()) == (full | {1, 1001, 1401, 9999}) - {1002, 1400, 1402}


def test_sessions_change_during_the_dump(ns: NetNS) -> None:
    ns.l2tp.tunnel(1, encap=Encap.IP)
    for sid in range(1000, 1000 + 2 * MANY, 2):
        ns.l2tp.session(1, sid)
    client = ns.client(**SMALL)

    def change(cursor: int) -> None:
        assert 1000 < cursor < 1300
        for sid in (1, 1001, 1401, 9999):
            ns.l2tp.session(1, sid)
        for sid in (1002, 1400, 1402):
            ns.l2tp.del_session(1, sid)
            eventually(lambda sid=sid: not ns.l2tp.has_session(1, sid))

    seen = [sid for _, sid in session_ids(
        dump_with_interruption(client, Cmd.SESSION_GET, change))]
    full = set(range(1000, 1000 + 2 * MANY, 2))
    assert seen == sorted((full | {1401, 9999}) - {1400, 1402})


def test_tunnel_of_the_cursor_is_deleted(ns: NetNS) -> None:
    """The session dump goes on with the next tunnel."""
    for tid in (1, 2, 3):
        ns.l2tp.tunnel(tid, encap=Encap.IP)
        for sid in range(tid * 1000, tid * 1000 + 40):
            ns.l2tp.session(tid, sid)
    client = ns.client(**SMALL)

    def change(cursor: int) -> None:
        assert 1000 <= cursor < 1039, "first chunk ends in tunnel 1"
        ns.l2tp.del_tunnel(1)
        eventually(lambda: not ns.l2tp.has_tunnel(1))

    seen = session_ids(dump_with_interruption(client, Cmd.SESSION_GET, change))
    others = [(tid, sid) for tid in (2, 3) for sid in range(tid * 1000, tid * 1000 + 40)]
    assert seen[-80:] == others
    # what was in flight when the tunnel went may still be seen: C's second chunk
    own = [sid for tid, sid in seen[:-80]]
    assert own == list(range(1000, 1000 + len(own))) and len(own) < 40


def test_everything_vanishes_during_the_dump(ns: NetNS) -> None:
    many_tunnels(ns.l2tp, list(range(1, MANY)))
    client = ns.client(**SMALL)

    def change(_: int) -> None:
        for tid in range(1, MANY):
            ns.l2tp.del_tunnel(tid)
        if expect("SYNC-DELETE", c=True, rust=False):
            eventually(lambda: not any(ns.l2tp.has_tunnel(tid) for tid in range(1, MANY)))
        assert ns.l2tp.tunnels() == []

    seen = tunnel_ids(dump_with_interruption(client, Cmd.TUNNEL_GET, change))
    assert seen == list(range(1, len(seen) + 1)) and len(seen) < MANY - 1


def test_two_dumps_at_once(crowd: Crowd) -> None:
    """Cursors belong to the socket, not to the family."""
    first, second = (crowd.ns.client(**SMALL) for _ in range(2))
    one, two = first.dump_chunks(Cmd.TUNNEL_GET), second.dump_chunks(Cmd.SESSION_GET)
    a, b = [], []
    for chunk in one:
        a += chunk
        b += next(two, [])
    for chunk in two:
        b += chunk
    assert tunnel_ids(a) == crowd.tunnels and session_ids(b) == crowd.sessions


def test_abandoned_dump(ns: NetNS) -> None:
    """A socket closed in the middle of its dump holds nothing."""
    many_tunnels(ns.l2tp, list(range(1, 100)))
    client = ns.client(**SMALL)
    next(client.dump_chunks(Cmd.TUNNEL_GET))
    client.close()
    for tid in range(1, 100):
        ns.l2tp.del_tunnel(tid)
    eventually(lambda: ns.l2tp.tunnels() == [])
