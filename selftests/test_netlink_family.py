# SPDX-License-Identifier: GPL-2.0
"""abi 2.1 and 2.2: the family, its commands, who may use them, what the header may contain."""

import errno
import os
import struct

import pytest

from lib import attrs as nla
from lib import system, uapi
from lib.attrs import u16, u32
from lib.genl import Genl, L2tp, Listener
from lib.netns import NetNS
from lib.uapi import Attr, Cmd

# abi 2.2: admin permission in the netns' user ns, doit, dump, has policy
OP_FLAGS = {Cmd.NOOP: 0x0a, Cmd.TUNNEL_CREATE: 0x1a, Cmd.TUNNEL_DELETE: 0x1a,
            Cmd.TUNNEL_MODIFY: 0x1a, Cmd.TUNNEL_GET: 0x1e, Cmd.SESSION_CREATE: 0x1a,
            Cmd.SESSION_DELETE: 0x1a, Cmd.SESSION_MODIFY: 0x1a, Cmd.SESSION_GET: 0x1e}
PRIVILEGED = [cmd for cmd in Cmd if cmd != Cmd.NOOP]
DUMPABLE = [Cmd.TUNNEL_GET, Cmd.SESSION_GET]
NOT_DUMPABLE = [cmd for cmd in Cmd if cmd not in DUMPABLE]


def test_family_properties(scratch: L2tp) -> None:
    family = scratch.ctrl("l2tp")
    assert family
    number = {kind: int.from_bytes(payload, "little") for kind, payload in family.attrs
              if len(payload) <= 4}
    assert number[uapi.CTRL_ATTR_VERSION] == 1
    assert number[uapi.CTRL_ATTR_HDRSIZE] == 0
    assert number[uapi.CTRL_ATTR_MAXATTR] == 35
    assert list(scratch.groups()) == ["l2tp"]


def test_command_table(scratch: L2tp) -> None:
    family = scratch.ctrl("l2tp")
    assert family
    ops = {}
    for _, entry in nla.parse(family.raw(uapi.CTRL_ATTR_OPS)):
        op = dict(nla.parse(entry))
        cmd, flags = (struct.unpack("=I", op[kind])[0]
                      for kind in (uapi.CTRL_ATTR_OP_ID, uapi.CTRL_ATTR_OP_FLAGS))
        ops[cmd] = flags
    assert ops == {int(cmd): flags for cmd, flags in OP_FLAGS.items()}


# NL_ATTR_TYPE_* of the policy dump
_INT_KIND = {1: 2, 2: 3, 4: 4, 8: 5}
_BINARY, _NUL_STRING, _NESTED, _UINT = 10, 12, 13, 17


def test_policy_table(scratch: L2tp) -> None:
    """abi 2.3, the policy column, as the kernel itself describes it."""
    seq = scratch.send(uapi.GENL_ID_CTRL, scratch.body(
        uapi.CTRL_CMD_GETPOLICY, u16(uapi.CTRL_ATTR_FAMILY_ID, scratch.family)),
        uapi.NLM_F_REQUEST | uapi.NLM_F_DUMP)
    found = {}
    for chunk in scratch.read_dump(seq):
        for message in chunk:
            for kind, policies in message.attrs:
                if kind & 0x3fff == uapi.CTRL_ATTR_POLICY:
                    for _, attributes in nla.parse(policies):
                        for attribute, properties in nla.parse(attributes):
                            found[attribute & 0x3fff] = dict(nla.parse(properties))
    kinds = {kind: int.from_bytes(prop[1], "little") for kind, prop in found.items()}
    expected = {int(kind): _INT_KIND[size] for kind, size in nla.INTEGERS.items()}
    expected |= {int(kind): _BINARY for kind in
                 (Attr.COOKIE, Attr.PEER_COOKIE, Attr.IP6_SADDR, Attr.IP6_DADDR)}
    expected |= {int(Attr.IFNAME): _NUL_STRING, int(Attr.STATS): _NESTED,
                 int(Attr.RECV_TIMEOUT): _UINT}
    assert kinds == expected
    longest = {Attr(kind).name: int.from_bytes(prop[7], "little")
               for kind, prop in found.items() if 7 in prop}
    assert longest.items() >= {"COOKIE": 8, "PEER_COOKIE": 8, "IP6_SADDR": 16, "IP6_DADDR": 16,
                               "IFNAME": 15}.items()


def test_noop_reply(scratch: L2tp) -> None:
    reply = scratch.ask(Cmd.NOOP)
    assert reply.errno == 0
    answer = reply.one
    assert (answer.cmd, answer.version, answer.flags) == (Cmd.NOOP, 1, 0)
    assert answer.payload[2:4] == b"\0\0" and answer.attrs == []
    assert answer.portid == scratch.portid


@pytest.mark.parametrize("cmd", [9, 10, 100, 255])
@pytest.mark.parametrize("dump", [False, True], ids=["do", "dump"])
def test_unknown_command(scratch: L2tp, cmd: int, dump: bool) -> None:
    assert scratch.ask(cmd, flags=uapi.NLM_F_DUMP if dump else 0).errno == errno.EOPNOTSUPP


@pytest.mark.parametrize("cmd", NOT_DUMPABLE, ids=lambda cmd: cmd.name)
def test_dump_of_a_command_without_one(scratch: L2tp, cmd: Cmd) -> None:
    assert scratch.ask(cmd, flags=uapi.NLM_F_DUMP).errno == errno.EOPNOTSUPP


@pytest.mark.parametrize("userns", [False, True], ids=["nobody", "root of a user namespace"])
def test_unprivileged_user(ns: NetNS, userns: bool) -> None:
    """One fork for all: errno of every command and dump, asked by one who may do nothing here."""
    ns.l2tp.tunnel()
    sid, short = u32(Attr.SESSION_ID, 1), u16(Attr.CONN_ID, 1)
    tid = u32(Attr.CONN_ID, 1)

    def ask() -> dict[str, int]:
        genl = L2tp()
        out = {cmd.name: genl.ask(cmd, tid, sid).errno for cmd in Cmd}
        out |= {f"malformed {cmd.name}": genl.ask(cmd, short).errno for cmd in Cmd}
        out |= {f"dump {cmd.name}": genl.ask(cmd, flags=uapi.NLM_F_DUMP).errno for cmd in Cmd}
        out["unknown"] = genl.ask(9).errno
        Listener().close()
        return out

    with ns:
        got = system.in_child(ask, uid=system.NOBODY, userns=userns)
    want = {cmd.name: errno.EPERM for cmd in PRIVILEGED}
    want |= {f"malformed {cmd.name}": errno.EPERM for cmd in PRIVILEGED}
    want |= {f"dump {cmd.name}": errno.EPERM for cmd in DUMPABLE}
    want |= {f"dump {cmd.name}": errno.EOPNOTSUPP for cmd in NOT_DUMPABLE}
    want |= {"NOOP": 0, "malformed NOOP": errno.ERANGE, "unknown": errno.EOPNOTSUPP}
    assert got == want
    assert ns.l2tp.tunnels() == [1]


def test_root_on_the_socket_of_nobody(ns: NetNS) -> None:
    """Who opened the socket counts as well: it may be the standard output of a set-uid program."""
    ns.l2tp.tunnel()

    def ask() -> list[int]:
        os.seteuid(system.NOBODY)
        genl = L2tp()
        os.seteuid(0)
        return [genl.ask(cmd, u32(Attr.CONN_ID, 1)).errno for cmd in PRIVILEGED]

    with ns:
        assert system.in_child(ask) == [errno.EPERM] * len(PRIVILEGED)


def test_socket_from_outside_a_user_namespace(ns: NetNS) -> None:
    """Root of a network namespace makes no tunnel of a socket that it was handed by another."""
    sockets = [ns.udp(("127.0.0.1", 5000), ("127.0.0.2", 5001)),
               ns.socket(proto=uapi.IPPROTO_L2TP)]

    def create() -> list[int]:
        genl = L2tp()
        return [genl.try_tunnel(encap=encap, fd=sock.fileno()).errno
                for encap, sock in enumerate(sockets)]

    with ns:
        got = system.in_child(create, uid=system.NOBODY, userns=True, netns=True)
    assert got == [errno.EINVAL, errno.EINVAL]
    assert ns.l2tp.tunnels() == []


def test_unprivileged_listener_hears_events(ns: NetNS) -> None:
    """The group may be joined by anyone: join and read as nobody, cause the event as root."""
    def listen() -> list[int]:
        client = L2tp()
        os.seteuid(system.NOBODY)
        assert client.ask(Cmd.TUNNEL_GET, u32(Attr.CONN_ID, 1)).errno == errno.EPERM
        with Listener() as listener:
            os.seteuid(0)
            client.tunnel(77)
            os.seteuid(system.NOBODY)
            return [message[Attr.CONN_ID] for message in listener.pending(5)]

    with ns:
        assert system.in_child(listen) == [77]


@pytest.mark.parametrize("uid", [None, system.NOBODY], ids=["root", "nobody"])
def test_root_of_a_user_namespace(ns: NetNS, uid: int | None) -> None:
    """CAP_NET_ADMIN counts in the user namespace that owns the network namespace."""
    def own_netns() -> tuple[int, list[int], int]:
        genl = L2tp()
        created = genl.try_tunnel(7, local="127.0.0.1", peer="127.0.0.2", sport=0).errno
        return created, genl.tunnels(), genl.ask(Cmd.TUNNEL_DELETE, u32(Attr.CONN_ID, 7)).errno

    def others_netns() -> tuple[int, int]:
        genl = L2tp()
        return genl.try_tunnel(8).errno, genl.ask(Cmd.TUNNEL_GET, flags=uapi.NLM_F_DUMP).errno

    # Without a usable loopback route the kernel socket cannot connect: ENETUNREACH, not EPERM.
    created, tunnels, deleted = system.in_child(own_netns, uid=uid, userns=True, netns=True)
    assert created in (0, errno.ENETUNREACH, errno.EADDRNOTAVAIL)
    assert tunnels == ([7] if created == 0 else [])
    assert deleted == (0 if created == 0 else errno.ENODEV)
    with ns:
        got = system.in_child(others_netns, uid=uid, userns=True)
    assert got == (errno.EPERM, errno.EPERM)


def outcome(genl: Genl, cmd: Cmd, **header: int) -> tuple[int, int]:
    """Errno and number of answers to a request that names tunnel 1 and session 1."""
    reply = genl.ask(cmd, u32(Attr.CONN_ID, 1), u32(Attr.SESSION_ID, 1), **header)
    return reply.errno, len(reply.messages)


# What `outcome` is in a namespace where tunnel 1 exists and session 1 does not.
PLAIN = {Cmd.NOOP: (0, 1), Cmd.TUNNEL_CREATE: (errno.EINVAL, 0), Cmd.TUNNEL_MODIFY: (0, 0),
         Cmd.TUNNEL_GET: (0, 1), Cmd.SESSION_CREATE: (errno.EINVAL, 0),
         Cmd.SESSION_DELETE: (errno.ENODEV, 0), Cmd.SESSION_MODIFY: (errno.ENODEV, 0),
         Cmd.SESSION_GET: (errno.ENODEV, 0), Cmd.TUNNEL_DELETE: (0, 0)}


@pytest.mark.parametrize("header", [
    {}, {"version": 0}, {"version": 2}, {"version": 255}, {"reserved": 1}, {"reserved": 0xffff},
    {"flags": uapi.NLM_F_ECHO}, {"flags": uapi.NLM_F_ROOT}, {"flags": 0x200}, {"flags": 0x400},
    {"flags": 0x800}, {"flags": 0xf000}],
    ids=lambda header: ",".join(f"{k}={v:#x}" for k, v in header.items()) or "plain")
def test_lenient_header(l2tp: L2tp, header: dict[str, int]) -> None:
    """2.1.2: version, reserved field and odd flags change nothing, for all nine commands."""
    l2tp.tunnel()
    for cmd, expected in PLAIN.items():
        assert outcome(l2tp, cmd, **header) == expected, cmd.name


def test_ids_are_per_namespace(ns: NetNS, other_ns: NetNS) -> None:
    for namespace in (ns, other_ns):
        namespace.l2tp.tunnel(1)
        namespace.l2tp.session(1, 1, ifname="same")
    other_ns.l2tp.del_tunnel(1)
    assert ns.l2tp.tunnels() == [1] and ns.l2tp.sessions() == [(1, 1)]
    assert "same" in ns.links()


def test_request_without_ack_flag(ns: NetNS) -> None:
    """10.4.1: a SESSION_GET without NLM_F_ACK brings exactly one message."""
    genl = ns.l2tp
    genl.tunnel()
    genl.session()
    body = genl.body(Cmd.SESSION_GET, u32(Attr.CONN_ID, 1), u32(Attr.SESSION_ID, 1))
    first = genl.send(genl.family, body, uapi.NLM_F_REQUEST)
    second = genl.send(genl.family, genl.body(Cmd.NOOP), uapi.NLM_F_REQUEST)
    got = genl.recv() + genl.recv()
    assert [(m.seq, m.cmd) for m in got] == [(first, Cmd.SESSION_GET), (second, Cmd.NOOP)]
    genl.sock.settimeout(0)
    with pytest.raises(BlockingIOError):
        genl.recv()
