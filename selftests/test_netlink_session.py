# SPDX-License-Identifier: GPL-2.0
"""abi 2.5 for sessions and 2.6: creation, lookup, modification, uniqueness, with every errno."""

import errno

import pytest

from lib import system
from lib.attrs import ip4, raw, string, u8, u16, u32, u64
from lib.checks import refused
from lib.differences import expect
from lib.genl import L2tp
from lib.netlink import NetlinkError
from lib.netns import NetNS
from lib.uapi import Attr, Cmd, Encap, L2Spec, PwType
from lib.wait import eventually

LOOKUPS = pytest.mark.parametrize("cmd", [Cmd.SESSION_DELETE, Cmd.SESSION_MODIFY, Cmd.SESSION_GET],
                                  ids=lambda cmd: cmd.name)


@pytest.fixture
def tunnels(ns: NetNS) -> L2tp:
    """Tunnels 1 and 2 v3 over UDP, 3 v3 over IP, 4 and 5 v2 over UDP, 6 v3 over IP."""
    l2tp = ns.l2tp
    l2tp.tunnel(1, sport=5001)
    l2tp.tunnel(2, sport=5002)
    l2tp.tunnel(3, encap=Encap.IP)
    l2tp.tunnel(4, version=2, sport=5004)
    l2tp.tunnel(5, version=2, sport=5005)
    l2tp.tunnel(6, encap=Encap.IP)
    return l2tp


# --- SESSION_CREATE 1-7: attributes

def test_order_of_checks(tunnels: L2tp) -> None:
    """Each row of the table with everything that comes later wrong as well."""
    ask = tunnels.ask
    refused(ask(Cmd.SESSION_CREATE), errno.EINVAL, "CONN_ID")
    refused(ask(Cmd.SESSION_CREATE, u32(Attr.SESSION_ID, 1)), errno.EINVAL, "CONN_ID")
    refused(ask(Cmd.SESSION_CREATE, u32(Attr.CONN_ID, 99)), errno.ENODEV)
    one = u32(Attr.CONN_ID, 1)
    refused(ask(Cmd.SESSION_CREATE, one), errno.EINVAL, "SESSION_ID")
    refused(ask(Cmd.SESSION_CREATE, one, u32(Attr.PEER_SESSION_ID, 1), u16(Attr.PW_TYPE, 5)),
            errno.EINVAL, "SESSION_ID")
    refused(ask(Cmd.SESSION_CREATE, one, u32(Attr.SESSION_ID, 1)), errno.EINVAL,
            "PEER_SESSION_ID")
    ids = (u32(Attr.SESSION_ID, 1), u32(Attr.PEER_SESSION_ID, 2))
    refused(ask(Cmd.SESSION_CREATE, one, *ids), errno.EINVAL, "PW_TYPE")
    assert tunnels.sessions() == []


@pytest.mark.parametrize("tid", [1, 3, 4])
@pytest.mark.parametrize("pw_type", [12, 13, 255, 256 + 5, 0xffff])
def test_pw_type_out_of_range(tunnels: L2tp, tid: int, pw_type: int) -> None:
    refused(tunnels.try_session(tid, pw_type=pw_type), errno.EINVAL, "PW_TYPE")


def test_pw_types_of_v2(tunnels: L2tp) -> None:
    """Anything but PPP."""
    for pw_type in range(12):
        if pw_type != PwType.PPP:
            assert tunnels.try_session(4, pw_type=pw_type).errno == errno.EPROTONOSUPPORT


@pytest.mark.parametrize("tid", [1, 3])
@pytest.mark.parametrize("pw_type", [0, 1, 2, 3, 4, 6, 8, 9, 10, 11])
def test_pw_types_without_handler(tunnels: L2tp, tid: int, pw_type: int) -> None:
    """2.5.14"""
    assert tunnels.try_session(tid, pw_type=pw_type).errno == errno.EPROTONOSUPPORT


@pytest.mark.parametrize("tid", [1, 3, 4])
def test_ppp(tunnels: L2tp, tid: int) -> None:
    tunnels.session(tid, 50, pw_type=PwType.PPP)
    assert tunnels.sessions() == [(tid, 50)]


@pytest.mark.parametrize("l2spec", [2, 3, 128, 255])
def test_unknown_l2spec(tunnels: L2tp, l2spec: int) -> None:
    refused(tunnels.try_session(1, l2spec=l2spec), errno.EINVAL, "L2SPEC_TYPE")
    refused(tunnels.try_session(3, l2spec=l2spec), errno.EINVAL, "L2SPEC_TYPE")
    # after the version check, before the handler of the type is looked for
    assert tunnels.try_session(4, l2spec=l2spec).errno == errno.EPROTONOSUPPORT
    refused(tunnels.try_session(1, l2spec=l2spec, pw_type=4), errno.EINVAL, "L2SPEC_TYPE")


@pytest.mark.parametrize("l2spec", [L2Spec.NONE, L2Spec.DEFAULT])
def test_known_l2spec_is_not_reported(tunnels: L2tp, l2spec: int) -> None:
    tunnels.session(1, l2spec=l2spec)
    session = tunnels.get_session(1)
    assert Attr.L2SPEC_TYPE not in session and Attr.L2SPEC_LEN not in session


@pytest.mark.parametrize("sid", [0, 1, 65535, 65536, 0x80000000, 0xffffffff])
@pytest.mark.parametrize("tid", [1, 3])
def test_any_session_id(tunnels: L2tp, tid: int, sid: int) -> None:
    """2.5.12: 0 is not rejected."""
    tunnels.session(tid, sid, sid)
    assert tunnels.get_session(tid, sid)[Attr.PEER_SESSION_ID] == sid
    assert tunnels.sessions() == [(tid, sid)]
    tunnels.del_session(tid, sid)


@pytest.mark.parametrize("kind,value", [
    (Attr.COOKIE, b"1"), (Attr.COOKIE, b"1234"), (Attr.COOKIE, b"1234567"),
    (Attr.COOKIE, b"12345678"), (Attr.PEER_COOKIE, b"1"), (Attr.PEER_COOKIE, b"123"),
    (Attr.PEER_COOKIE, b"12345678"), (Attr.COOKIE, b""), (Attr.PEER_COOKIE, b"")],
    ids=lambda v: getattr(v, "name", None) or str(len(v)))
def test_cookies_are_kept(tunnels: L2tp, kind: Attr, value: bytes) -> None:
    tunnels.session(1, extra=(raw(kind, value),))
    session = tunnels.get_session(1)
    other = Attr.COOKIE if kind == Attr.PEER_COOKIE else Attr.PEER_COOKIE
    assert other not in session
    assert (session.raw(kind) if value else b"") == value
    assert (kind in session) == bool(value)


@pytest.mark.parametrize("value", [0, 1, 2, 3, 254, 255])
def test_booleans_use_bit_0(tunnels: L2tp, value: int) -> None:
    tunnels.session(1, recv_seq=value, send_seq=value ^ 1, lns_mode=value)
    tunnels.session(2, 20)
    tunnels.modify_session(2, 20, u8(Attr.RECV_SEQ, value), u8(Attr.SEND_SEQ, value ^ 1),
                           u8(Attr.LNS_MODE, value))
    for session in (tunnels.get_session(1), tunnels.get_session(2, 20)):
        got = [session[k] for k in (Attr.RECV_SEQ, Attr.SEND_SEQ, Attr.LNS_MODE)]
        assert got == [value & 1, (value ^ 1) & 1, value & 1]


# --- SESSION_CREATE 9: names of the device

@pytest.mark.parametrize("name,error", [
    ("lo", errno.EEXIST), ("a/b", errno.EINVAL), (".", errno.EINVAL), ("..", errno.EINVAL),
    ("a b", errno.EINVAL), ("a:b", errno.EINVAL), ("", errno.EINVAL), ("%s", errno.EINVAL),
    ("%d%d", errno.EINVAL)])
def test_bad_device_name(ns: NetNS, name: str, error: int) -> None:
    ns.l2tp.tunnel()
    reply = ns.l2tp.try_session(ifname=name)
    assert reply.errno == error, reply
    # 2.5.16: C frees the id from its worker, ours before it answers
    def again() -> bool:
        errors = expect("SYNC-DELETE", c=(0, errno.EEXIST), rust=(0,))
        found = ns.l2tp.try_session().errno
        assert found in errors
        return found == 0

    eventually(again)
    assert ns.l2tp.sessions() == [(1, 1)] and ns.links() == ["l2tpeth0", "lo"]


def test_failed_session_is_not_announced(ns: NetNS) -> None:
    ns.l2tp.tunnel()
    listener = ns.listener()
    assert ns.l2tp.try_session(ifname="lo").errno == errno.EEXIST
    assert [m.cmd for m in listener.pending()] == []
    eventually(lambda: ns.l2tp.sessions() == [])


def test_closing_tunnel_refuses_sessions(ns: NetNS) -> None:
    """3.8: ENODEV, or for C a short life (3.8.2)."""
    for sid in range(20):
        eventually(lambda: ns.l2tp.try_tunnel().errno == 0)
        ns.l2tp.del_tunnel()
        found = ns.l2tp.try_session(sid=sid).errno
        assert found in expect("SYNC-DELETE", c=(0, errno.ENODEV), rust=(errno.ENODEV,))
    eventually(lambda: ns.l2tp.sessions() == [] and ns.links() == ["lo"])


# --- lookup (2.5.17-2.5.19)

@LOOKUPS
def test_lookup_misses_give_enodev(tunnels: L2tp, cmd: Cmd) -> None:
    """Never EINVAL, whatever is missing."""
    tunnels.session(1, 10, ifname="name0")
    tid, sid = u32(Attr.CONN_ID, 1), u32(Attr.SESSION_ID, 10)
    for attributes in ((), (tid,), (sid,), (tid, u32(Attr.SESSION_ID, 11)),
                       (u32(Attr.CONN_ID, 99), sid), (tid, u32(Attr.PEER_SESSION_ID, 10)),
                       (string(Attr.IFNAME, "none"),), (string(Attr.IFNAME, ""),),
                       (string(Attr.IFNAME, "lo"),), (string(Attr.IFNAME, "name0") + b"", tid, sid,
                                                      string(Attr.IFNAME, "none"))):
        assert tunnels.ask(cmd, *attributes).errno == errno.ENODEV, attributes
    assert tunnels.sessions() == [(1, 10)]


@LOOKUPS
def test_empty_name_is_no_name(tunnels: L2tp, cmd: Cmd) -> None:
    """B15, 2.5.18: C takes it for the name of a session that has none."""
    made = tunnels.try_session(1, 50, pw_type=PwType.PPP).errno == 0
    reply = tunnels.ask(cmd, string(Attr.IFNAME, ""))
    assert reply.errno == expect("NO-NAME", c=0, rust=errno.ENODEV)
    if reply.errno:
        assert tunnels.sessions() == ([(1, 50)] if made else [])


@LOOKUPS
@pytest.mark.parametrize("ids", [(), (1, 11), (99, 99)], ids=["alone", "other-ids", "wrong-ids"])
def test_ifname_decides_alone(tunnels: L2tp, cmd: Cmd, ids: tuple[int, ...]) -> None:
    """2.5.17"""
    tunnels.session(1, 10, ifname="by-name")
    tunnels.session(1, 11, ifname="by-id")
    attributes = [string(Attr.IFNAME, "by-name")]
    if ids:
        attributes += [u32(Attr.CONN_ID, ids[0]), u32(Attr.SESSION_ID, ids[1])]
    reply = tunnels.ask(cmd, *attributes)
    assert reply.errno == 0
    if cmd == Cmd.SESSION_GET:
        assert reply.one[Attr.SESSION_ID] == 10
    elif cmd == Cmd.SESSION_DELETE:
        eventually(lambda: tunnels.sessions() == [(1, 11)])


def test_lookup_uses_the_name_given_at_creation(ns: NetNS) -> None:
    """B15, 2.5.18, 5.5: renaming the device changes nothing here."""
    ns.l2tp.tunnel()
    ns.l2tp.session(ifname="before")
    ns.rename("before", "after")
    find = ns.l2tp.ask
    assert find(Cmd.SESSION_GET, string(Attr.IFNAME, "before")).errno == 0
    assert find(Cmd.SESSION_GET, string(Attr.IFNAME, "after")).errno == errno.ENODEV
    assert ns.l2tp.ifname() == "before"
    # so two sessions may be recorded under one name; the lookup finds one of them
    ns.l2tp.session(1, 2, ifname="before")
    assert find(Cmd.SESSION_GET, string(Attr.IFNAME, "before")).one[Attr.SESSION_ID] in (1, 2)
    ns.l2tp.del_session(1, 1)
    eventually(lambda: "after" not in ns.links())
    assert find(Cmd.SESSION_GET, string(Attr.IFNAME, "before")).one[Attr.SESSION_ID] == 2


@pytest.mark.parametrize("order", [(1, 2, 3, 4), (4, 3, 2, 1), (2, 1, 4, 3), (3, 4, 1, 2)])
def test_namesakes(ns: NetNS, order: tuple[int, ...]) -> None:
    """As long as a session of the name is left, one is found; then none."""
    ns.l2tp.tunnel(1)
    ns.l2tp.tunnel(2, sport=6000)
    left = {1: 1, 2: 2, 3: 1, 4: 2}
    for sid, tid in left.items():
        ns.l2tp.session(tid, sid, ifname="same")
        ns.rename("same", f"was{sid}")
    for sid in order:
        assert ns.l2tp.ask(Cmd.SESSION_GET,
                           string(Attr.IFNAME, "same")).one[Attr.SESSION_ID] in left
        ns.l2tp.del_session(left.pop(sid), sid)
        eventually(lambda: f"was{sid}" not in ns.links())
    assert ns.l2tp.ask(Cmd.SESSION_GET, string(Attr.IFNAME, "same")).errno == errno.ENODEV
    # and with their tunnels
    for sid, tid in ((1, 1), (2, 2)):
        ns.l2tp.session(tid, sid, ifname="same")
        ns.rename("same", f"was{sid}")
    ns.l2tp.del_tunnel(1)
    eventually(lambda: "was1" not in ns.links())
    assert ns.l2tp.ask(Cmd.SESSION_GET, string(Attr.IFNAME, "same")).one[Attr.SESSION_ID] == 2
    ns.l2tp.del_tunnel(2)
    eventually(lambda: ns.links() == ["lo"])
    assert ns.l2tp.ask(Cmd.SESSION_GET, string(Attr.IFNAME, "same")).errno == errno.ENODEV


@LOOKUPS
@pytest.mark.parametrize("owner,other", [(1, 2), (1, 3), (3, 1), (1, 4), (3, 6)])
def test_lookup_through_another_tunnel(tunnels: L2tp, cmd: Cmd, owner: int, other: int) -> None:
    """B2, 2.5.19. Through a v2 tunnel a v3 session was never found."""
    tunnels.session(owner, 10)
    reply = tunnels.ask(cmd, u32(Attr.CONN_ID, other), u32(Attr.SESSION_ID, 10))
    found_by_c = other != 4
    want = expect("WRONG-TUNNEL", c=0 if found_by_c else errno.ENODEV, rust=errno.ENODEV)
    assert reply.errno == want
    if want == errno.ENODEV:
        assert tunnels.sessions() == [(owner, 10)]


def test_lookup_of_colliding_ids(tunnels: L2tp) -> None:
    """With the id in both tunnels, each is found through its own; never the other's."""
    tunnels.session(1, 10, 101)
    tunnels.session(2, 10, 102)
    for tid in (1, 2):
        assert tunnels.get_session(tid, 10)[Attr.PEER_SESSION_ID] == 100 + tid
    tunnels.modify_session(2, 10, u8(Attr.RECV_SEQ, 1))
    assert tunnels.get_session(1, 10)[Attr.RECV_SEQ] == 0
    tunnels.del_session(1, 10)
    eventually(lambda: tunnels.sessions() == [(2, 10)])
    assert tunnels.get_session(2, 10)[Attr.RECV_SEQ] == 1
    assert tunnels.ask(Cmd.SESSION_GET, u32(Attr.CONN_ID, 1), u32(Attr.SESSION_ID, 10)
                       ).errno == errno.ENODEV


# --- uniqueness (2.6)

V3_MATRIX = [  # new in, held by, errno
    (3, 3, errno.EEXIST), (3, 6, errno.EEXIST), (3, 1, errno.EEXIST), (1, 3, errno.EEXIST),
    (2, 1, 0), (1, 2, 0)]


@pytest.mark.parametrize("new,holder,error", V3_MATRIX)
def test_uniqueness_v3(tunnels: L2tp, new: int, holder: int, error: int) -> None:
    tunnels.session(holder, 10, 1)
    assert tunnels.try_session(new, 10, 2).errno == error
    assert tunnels.sessions() == sorted({(holder, 10)} | ({(new, 10)} if error == 0 else set()))
    assert tunnels.get_session(holder, 10)[Attr.PEER_SESSION_ID] == 1


def test_uniqueness_within_one_udp_tunnel(tunnels: L2tp) -> None:
    """B1"""
    tunnels.session(1, 10, 1)
    assert tunnels.try_session(1, 10, 2).errno == expect("B1", c=0, rust=errno.EEXIST)
    if expect("B1", c=False, rust=True):
        assert tunnels.sessions() == [(1, 10)]
        assert tunnels.get_session(1, 10)[Attr.PEER_SESSION_ID] == 1


def test_uniqueness_with_many_collisions(tunnels: L2tp) -> None:
    """Collision mode: a third, a fourth holder, deletion in every order, IP still refused."""
    for tid in range(10, 14):
        tunnels.tunnel(tid, sport=5000 + tid)
        tunnels.session(tid, 10, tid)
    assert tunnels.try_session(3, 10).errno == errno.EEXIST
    assert tunnels.try_session(11, 10).errno == expect("B1", c=0, rust=errno.EEXIST)
    for gone in (12, 10):
        tunnels.del_session(gone, 10)
    eventually(lambda: not any((tid, 10) in tunnels.sessions() for tid in (10, 12)))
    assert tunnels.get_session(13, 10)[Attr.PEER_SESSION_ID] == 13
    tunnels.session(10, 10, 77)
    assert tunnels.get_session(10, 10)[Attr.PEER_SESSION_ID] == 77
    assert tunnels.try_session(3, 10).errno == errno.EEXIST
    for tid in (10, 11, 13):
        tunnels.del_tunnel(tid)
    eventually(lambda: tunnels.try_session(3, 10).errno == 0)


@pytest.mark.parametrize("new,sid,held_by,held,error", [
    (4, 10, 4, 10, errno.EEXIST), (4, 10, 5, 10, 0), (4, 65537, 4, 1, errno.EEXIST),
    (4, 10, 1, 10, 0), (1, 10, 4, 10, 0)])
def test_uniqueness_v2(tunnels: L2tp, new: int, sid: int, held_by: int, held: int,
                       error: int) -> None:
    def pw_type(tid: int) -> int:
        return PwType.PPP if tid in (4, 5) else PwType.ETH

    tunnels.session(held_by, held, pw_type=pw_type(held_by))
    assert tunnels.try_session(new, sid, pw_type=pw_type(new)).errno == error


def test_v2_ids_above_16_bits(ns: NetNS) -> None:
    """2.5.8: keys collide, and in C dumps do not show sessions of such tunnels."""
    l2tp = ns.l2tp
    l2tp.tunnel(65537, version=2, sport=5001)
    l2tp.tunnel(1, version=2, sport=5002)
    l2tp.session(65537, 7, pw_type=PwType.PPP)
    assert l2tp.try_session(1, 7, pw_type=PwType.PPP).errno == errno.EEXIST
    assert l2tp.sessions() == expect("V2-IDS", c=[], rust=[(65537, 7)])


def test_v2_and_ppp_ignore_v3_attributes(tunnels: L2tp) -> None:
    """2.5.13"""
    tunnels.session(4, 7, pw_type=PwType.PPP, cookie=b"1234", peer_cookie=b"5678", l2spec=200,
                    ifname="unused")
    tunnels.session(1, 8, pw_type=PwType.PPP, cookie=b"1234", ifname="unused")
    v2, v3 = tunnels.get_session(4, 7), tunnels.get_session(1, 8)
    for kind in (Attr.COOKIE, Attr.PEER_COOKIE, Attr.IFNAME):
        assert kind not in v2
    assert Attr.IFNAME not in v3 and v3.raw(Attr.COOKIE) == b"1234"


# --- SESSION_MODIFY (2.5.20), RECV_TIMEOUT (2.8.1)

def test_modify_each_field_alone(tunnels: L2tp) -> None:
    tunnels.session(1, 10, recv_timeout=100)
    fields = (Attr.RECV_SEQ, Attr.SEND_SEQ, Attr.LNS_MODE)
    for kind in fields:
        for value in (1, 0):
            tunnels.modify_session(1, 10, u8(kind, value))
            session = tunnels.get_session(1, 10)
            assert session[kind] == value
            assert [session[k] for k in fields if k != kind] == [0, 0]
            assert session[Attr.RECV_TIMEOUT] == 100
    tunnels.modify_session(1, 10, u64(Attr.RECV_TIMEOUT, 0))
    assert Attr.RECV_TIMEOUT not in tunnels.get_session(1, 10)
    tunnels.modify_session(1, 10)
    assert Attr.RECV_TIMEOUT not in tunnels.get_session(1, 10)


def test_modify_ignores_everything_else(tunnels: L2tp) -> None:
    tunnels.session(1, 10, 20, cookie=b"abcd")
    before = tunnels.get_session(1, 10).attrs
    tunnels.modify_session(1, 10, u32(Attr.PEER_SESSION_ID, 9), u16(Attr.PW_TYPE, 99),
                           raw(Attr.COOKIE, b"zzzz"), u8(Attr.L2SPEC_TYPE, 77),
                           raw(Attr.PEER_COOKIE, b"zzzz"), ip4(Attr.IP_SADDR, "1.2.3.4"))
    assert tunnels.get_session(1, 10).attrs == before


TIMEOUTS = [0, 1, 2, 3, 4, 5, 10, 11, 99, 100, 1000, 1001, 60000, 0x7ffffffe]


@pytest.fixture(scope="module")
def hz() -> int:
    return system.jiffies_per_second()


@pytest.mark.parametrize("how", ["create", "modify"])
def test_recv_timeout_is_rounded_to_jiffies(tunnels: L2tp, hz: int, how: str) -> None:
    """2.8.1, up to the largest value that fits 31 bits."""
    tick = 1000 // hz if 1000 % hz == 0 else None
    assert tick, f"this test knows HZ 100, 250 and 1000, not {hz}"
    for sid, asked in enumerate(TIMEOUTS, 1):
        if how == "create":
            tunnels.session(1, sid, recv_timeout=asked)
        else:
            tunnels.session(1, sid, recv_timeout=7777)
            tunnels.modify_session(1, sid, u64(Attr.RECV_TIMEOUT, asked))
        rounded = -(-asked // tick) * tick
        assert tunnels.get_session(1, sid).get(Attr.RECV_TIMEOUT, 0) == rounded, asked


@pytest.mark.parametrize("how", ["create", "modify"])
@pytest.mark.parametrize("asked", [0x80000000, 0x80000001, 0xffffffff])
def test_huge_recv_timeout(tunnels: L2tp, hz: int, how: str, asked: int) -> None:
    """B9: C makes -2 jiffies of it."""
    try:
        if how == "create":
            tunnels.session(1, 1, recv_timeout=asked)
        else:
            tunnels.session(1, 1)
            tunnels.modify_session(1, 1, u64(Attr.RECV_TIMEOUT, asked))
    except NetlinkError as error:
        assert expect("B9", c=False, rust=error.errno in (errno.EINVAL, errno.ERANGE)), error
        return
    shown = tunnels.get_session(1, 1).get(Attr.RECV_TIMEOUT, 0)
    negative = (shown + 2 * 1000 // hz) & 0xffffffff == 0
    assert negative == expect("B9", c=True, rust=False), hex(shown)
    assert expect("B9", c=True, rust=0x7ffffffe <= shown <= asked + 1000 // hz), hex(shown)


def test_recv_timeout_above_32_bits(tunnels: L2tp) -> None:
    """Truncated by the kernel's own reader of such attributes; refusing would be sane as well."""
    reply = tunnels.try_session(1, 1, recv_timeout=0x100000000 + 100)
    if reply.errno:
        assert expect("B9", c=False, rust=reply.errno in (errno.EINVAL, errno.ERANGE)), reply
    else:
        shown = tunnels.get_session(1, 1)[Attr.RECV_TIMEOUT]
        assert shown in expect("B9", c=(100,), rust=(100, 0x100000000 + 100)), shown
