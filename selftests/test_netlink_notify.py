# SPDX-License-Identifier: GPL-2.0
"""abi 2.10: the six events, who gets them, and what causes them."""

import socket

import pytest

from lib import pppox
from lib.attrs import string, u8, u32
from lib.differences import expect
from lib.genl import Listener
from lib.netns import Hosts, NetNS
from lib.pppox import Address, PppSocket
from lib.uapi import Attr, Cmd
from lib.wait import eventually


def heard(listener: Listener, count: int) -> list[tuple[Cmd, int, int, int, int]]:
    """What a listener has got, once that is `count` events: command, who asked, which ids."""
    got = []
    while len(got) < count:
        more = listener.pending(2)
        assert more, f"{len(got)} events instead of {count}"
        got += more
    got += listener.pending()
    return [(Cmd(m.cmd), m.portid, m.seq, m[Attr.CONN_ID], m.get(Attr.SESSION_ID, 0)) for m in got]


def by_kernel(cmd: Cmd, tid: int, sid: int = 0) -> tuple[Cmd, int, int, int, int]:
    """An event that no request has caused."""
    return cmd, 0, 0, tid, sid


def test_the_six_events(ns: NetNS) -> None:
    """In order, with the requester's sequence number and port id, to everyone in the group."""
    l2tp, first, second = ns.l2tp, ns.listener(), ns.listener()
    tid, sid = u32(Attr.CONN_ID, 1), u32(Attr.SESSION_ID, 10)
    requests = [
        (Cmd.TUNNEL_CREATE, l2tp.tunnel_attrs(1)), (Cmd.TUNNEL_MODIFY, [tid]),
        (Cmd.SESSION_CREATE, l2tp.session_attrs(1, 10)),
        (Cmd.SESSION_MODIFY, [tid, sid, u8(Attr.RECV_SEQ, 1)]),
        (Cmd.SESSION_DELETE, [tid, sid]), (Cmd.TUNNEL_DELETE, [tid])]
    expected = []
    for cmd, attributes in requests:
        l2tp.call(cmd, *attributes)
        expected.append((cmd, l2tp._seq, l2tp.portid))
    for listener in (first, second):
        got = listener.pending(2)
        assert [(m.cmd, m.seq, m.portid) for m in got] == expected
        assert {m.kind for m in got} == {l2tp.family}
        assert got[3][Attr.RECV_SEQ] == 1  # sent after the change
        assert got[4][Attr.SESSION_ID] == 10 and got[5][Attr.CONN_ID] == 1


def test_requester_hears_itself_before_the_ack(ns: NetNS) -> None:
    listener = ns.listener()
    seq = listener.send(listener.family, listener.body(Cmd.TUNNEL_CREATE,
                                                       *ns.l2tp.tunnel_attrs(1)), 0x5)
    event, ack = listener.recv() + listener.recv()
    assert (event.cmd, event.seq, event.portid) == (Cmd.TUNNEL_CREATE, seq, listener.portid)
    assert (ack.kind, ack.seq) == (2, seq) and ack.payload[:4] == bytes(4)


def test_other_namespaces_hear_nothing(ns: NetNS, other_ns: NetNS) -> None:
    far = other_ns.listener()
    near = ns.listener()
    ns.l2tp.tunnel()
    assert len(near.pending(2)) == 1 and far.pending() == []


def test_failures_and_reads_are_silent(ns: NetNS) -> None:
    l2tp = ns.l2tp
    l2tp.tunnel()
    l2tp.session()
    listener = ns.listener()
    tid = u32(Attr.CONN_ID, 1)
    for cmd, attributes in (
            (Cmd.NOOP, ()), (Cmd.TUNNEL_GET, (tid,)), (Cmd.TUNNEL_DELETE, ()),
            (Cmd.SESSION_GET, (tid, u32(Attr.SESSION_ID, 1))), (Cmd.TUNNEL_CREATE, (tid,)),
            (Cmd.TUNNEL_MODIFY, (u32(Attr.CONN_ID, 9),)), (Cmd.SESSION_MODIFY, (tid,)),
            (Cmd.SESSION_DELETE, (tid, u32(Attr.SESSION_ID, 9))), (Cmd.SESSION_CREATE, (tid,))):
        l2tp.ask(cmd, *attributes)
    l2tp.try_tunnel(1)
    assert l2tp.try_session(1, 9, ifname="a/b").errno  # no name of a device
    l2tp.dump(Cmd.TUNNEL_GET)
    l2tp.dump(Cmd.SESSION_GET)
    assert listener.pending() == []


def test_sessions_of_a_deleted_tunnel(ns: NetNS) -> None:
    """2.10.2: C announces the tunnel, not its sessions; ours these first, as nobody's request."""
    ns.l2tp.tunnel()
    for sid in (3, 1, 2):
        ns.l2tp.session(1, sid)
    listener = ns.listener()
    ns.l2tp.del_tunnel()
    sessions = [by_kernel(Cmd.SESSION_DELETE, 1, sid) for sid in (1, 2, 3)]
    tunnel = [(Cmd.TUNNEL_DELETE, ns.l2tp.portid, ns.l2tp._seq, 1, 0)]
    expected = expect("EVENTS", c=tunnel, rust=sessions + tunnel)
    assert heard(listener, len(expected)) == expected
    eventually(lambda: ns.links() == ["lo"] and not ns.l2tp.has_tunnel(1))
    assert listener.pending() == []


def test_socket_close(ns: NetNS) -> None:
    sock = ns.udp(("127.0.0.1", 5000))
    ns.l2tp.tunnel(fd=sock.fileno())
    ns.l2tp.session()
    listener = ns.listener()
    sock.close()
    eventually(lambda: ns.links() == ["lo"] and not ns.l2tp.has_tunnel(1))
    assert heard(listener, expect("EVENTS", c=0, rust=2)) == expect("EVENTS", c=[], rust=[
        by_kernel(Cmd.SESSION_DELETE, 1, 1), by_kernel(Cmd.TUNNEL_DELETE, 1)])


@pytest.mark.only("rust", "LINK-KIND: C refuses to delete the device")
def test_ip_link_del(ns: NetNS, other_ns: NetNS) -> None:
    """Also of a device that is in another namespace: who hears of it is where the session is."""
    ns.l2tp.tunnel()
    ns.l2tp.session(ifname="dev")
    ns.l2tp.session(1, 2, ifname="away")
    ns.run("ip", "link", "set", "away", "netns", other_ns.name)
    listener, elsewhere = ns.listener(), other_ns.listener()
    assert ns.rtnl.try_delete(ns.link("dev").index) == 0
    assert other_ns.rtnl.try_delete(other_ns.link("away").index) == 0
    assert heard(listener, 2) == [by_kernel(Cmd.SESSION_DELETE, 1, sid) for sid in (1, 2)]
    assert not ns.l2tp.has_session(1, 1) and elsewhere.pending() == []


def test_ppp_sockets(ns: NetNS) -> None:
    """7.4.7: what connect, setsockopt and close do to tunnels and sessions, C keeps to itself."""
    udp = ns.udp(("127.0.0.1", 5000), ("127.0.0.2", 5001))
    listener = ns.listener()
    with PppSocket(ns) as management, PppSocket(ns) as session:
        management.connect(Address(1, 0, 0, 0, udp.fileno()))
        session.connect(Address(1, 10, 2, 20))
        session.set(pppox.SO_RECVSEQ, 1)
        session.set(pppox.SO_DEBUG, 1)
        assert session.errno_of_connect(Address(1, 11, 2, 21))
        with PppSocket(ns) as late:
            assert late.errno_of_connect(Address(1, 10, 2, 20))
    eventually(lambda: not ns.l2tp.has_session(1, 10))
    expected = [
        by_kernel(Cmd.TUNNEL_CREATE, 1), by_kernel(Cmd.TUNNEL_MODIFY, 1),  # now the peer is known
        by_kernel(Cmd.SESSION_CREATE, 1, 10), by_kernel(Cmd.SESSION_MODIFY, 1, 10),
        by_kernel(Cmd.SESSION_DELETE, 1, 10)]
    assert heard(listener, expect("EVENTS", c=0, rust=5)) == expect("EVENTS", c=[], rust=expected)


def test_session_events_by_name(ns: NetNS) -> None:
    ns.l2tp.tunnel()
    ns.l2tp.session(1, 10, ifname="dev")
    listener = ns.listener()
    ns.l2tp.call(Cmd.SESSION_MODIFY, string(Attr.IFNAME, "dev"))
    ns.l2tp.call(Cmd.SESSION_DELETE, string(Attr.IFNAME, "dev"))
    got = listener.pending(1)
    assert [(m.cmd, m[Attr.SESSION_ID]) for m in got] == [
        (Cmd.SESSION_MODIFY, 10), (Cmd.SESSION_DELETE, 10)]
    assert all(m[Attr.IFNAME] == "dev" for m in got)


def test_full_listener_does_not_fail_the_command(ns: NetNS) -> None:
    """2.10.2, second half: with the listener's buffer full, commands still succeed."""
    listener = ns.listener()
    listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    for tid in range(1, 60):
        ns.l2tp.tunnel(tid, sport=5000 + tid)
    assert len(ns.l2tp.tunnels()) == 59
    heard = 0
    listener.sock.settimeout(0)
    try:
        while True:
            heard += len(listener.recv())
    except BlockingIOError:
        pass
    except OSError as error:
        assert error.errno == 105  # ENOBUFS: told that events were lost
    assert heard < 59


def test_events_of_a_tunnel_in_use(hosts: Hosts) -> None:
    """Counters in an event are those of the moment."""
    for ns, own, peer, tid, peer_tid in hosts.both():
        ns.l2tp.tunnel(tid, peer_tid, local=own, peer=peer, sport=5000, dport=5000)
        ns.l2tp.session(tid, tid, peer_tid, ifname="l2tp")
        ns.up("l2tp")
        ns.addr("l2tp", f"172.16.0.{tid}/24")
    hosts.a.ping("172.16.0.2", count=3)
    listener = hosts.a.listener()
    hosts.a.l2tp.del_tunnel(1)
    event = listener.pending(1)[-1]
    assert min(event.stats[1], event.stats[4]) >= 3  # packets sent and received
