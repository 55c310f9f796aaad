# SPDX-License-Identifier: GPL-2.0
"""Documentation/netlink/specs/l2tp.yaml: valid, true, and enough for the kernel's own client."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lib import uapi
from lib.checks import names
from lib.differences import expect
from lib.netlink import Reply
from lib.netns import NetNS
from lib.uapi import Attr, Cmd, Encap, L2Spec, PwType, Stat

SPEC = Path(__file__).parent.parent / "Documentation/netlink/specs/l2tp.yaml"
SOURCE = Path("/usr/src/kernel/source")
SCHEMA = SOURCE / "Documentation/netlink/genetlink-legacy.yaml"

sys.path.append(str(SOURCE / "tools/net/ynl"))
from pyynl.lib import NlError, SpecFamily, YnlFamily  # noqa: E402

TUNNEL = {"conn-id": 1, "peer-conn-id": 2, "proto-version": 3, "encap-type": "udp",
          "ip-saddr": "127.0.0.1", "ip-daddr": "127.0.0.2", "udp-sport": 5000, "udp-dport": 5001}
SESSION = {"conn-id": 1, "session-id": 10, "peer-session-id": 20, "pw-type": "eth"}


@pytest.fixture(scope="module")
def spec() -> SpecFamily:
    return SpecFamily(str(SPEC), str(SCHEMA))


@pytest.fixture
def client(ns: NetNS) -> Iterator[Callable[[], YnlFamily]]:
    """Makes clients in `ns`, from the specification alone."""
    made = []

    def make() -> YnlFamily:
        with ns:
            made.append(YnlFamily(str(SPEC), ""))
        return made[-1]

    yield make
    for family in made:
        family.close()


def test_schema_and_numbers(spec: SpecFamily) -> None:
    """It passes the kernel's schema, and has every number of the uapi, and a text for each."""
    def numbers(entries: dict, number: str) -> dict[str, int]:
        return {name.upper().replace("-", "_"): getattr(entry, number)
                for name, entry in entries.items()}

    assert spec.name == uapi.FAMILY and spec.proto == "genetlink-legacy"
    assert numbers(spec.ops, "req_value") == {cmd.name: cmd.value for cmd in Cmd}
    assert numbers(spec.attr_sets["l2tp"].attrs, "value") == {a.name: a.value for a in Attr}
    stats = numbers(spec.attr_sets["stats"].attrs, "value")
    assert stats == {"STATS_NONE": 0, "STATS_PAD": 9} | {stat.name: stat.value for stat in Stat}
    for name, numbered in (("pwtype", PwType), ("l2spec-type", L2Spec), ("encap-type", Encap)):
        assert numbers(spec.consts[name].entries, "value") == {e.name: e.value for e in numbered}
    assert list(spec.mcast_groups) == [uapi.GROUP]
    for attr_set in spec.attr_sets.values():
        for name, attr in attr_set.attrs.items():
            assert "doc" in attr.yaml or attr.type in ("unused", "pad"), name
    events = {op.name: op.rsp_value for op in spec.ntfs.values()}
    assert events == {f"{cmd.name.lower().replace('_', '-')}-ntf": cmd.value for cmd in Cmd
                      if cmd not in (Cmd.NOOP, Cmd.TUNNEL_GET, Cmd.SESSION_GET)}


def test_policy(ns: NetNS, client: Callable[[], YnlFamily], spec: SpecFamily) -> None:
    """Types and lengths are those that the running kernel checks, for every command."""
    kinds = {"string": "nul-string", "nest": "nested"}
    expected = {}
    for name, attr in spec.attr_sets["l2tp"].attrs.items():
        # What has no entry in the policy, the kernel does not tell of.
        if attr.type not in ("unused", "pad", "flag"):
            expected[name] = kinds.get(attr.type, attr.type), attr.yaml.get("checks", {}).get("max-len")
    # 64 bits; but of a time in milliseconds the kernel says so.
    assert expected["recv-timeout"] == ("u64", None)
    expected["recv-timeout"] = ("uint", None)
    family = client()
    for op in spec.ops:
        with ns:
            policy = family.get_policy(op, "do")
        real = {name: (policy[name].type, policy[name].to_dict().get("max-length"))
                for name in policy}
        assert real == expected, op


def test_life_of_a_tunnel_and_a_session(client: Callable[[], YnlFamily], spec: SpecFamily) -> None:
    """Every command, every event; and no message has an attribute that is not listed."""
    listener = client()
    listener.ntf_subscribe(uapi.GROUP)
    family = client()
    assert family.noop({}) == {}
    assert family.tunnel_create(TUNNEL) is None
    assert family.session_create(SESSION | {
        "cookie": "01 02 03 04", "peer-cookie": "0506070809101112", "l2spec-type": "none",
        "ifname": "wire%d", "recv-timeout": 50}) is None

    tunnel = family.tunnel_get({"conn-id": 1})
    stats = tunnel.pop("stats")
    assert tunnel == TUNNEL | {"debug": 0, "udp-csum": 0}
    assert set(stats.values()) == {0} and len(stats) == len(Stat)
    session = family.session_get({"conn-id": 1, "session-id": 10})
    assert session.pop("stats") == stats and session.pop("recv-timeout") in range(1, 100)
    assert session == SESSION | {
        "peer-conn-id": 2, "debug": 0, "ifname": "wire0", "cookie": "01 02 03 04",
        "peer-cookie": "05 06 07 08 09 10 11 12", "recv-seq": 0, "send-seq": 0, "lns-mode": 0}

    assert family.session_modify({"ifname": "wire0", "recv-seq": 1, "recv-timeout": 0}) is None
    assert family.tunnel_modify({"conn-id": 1}) is None
    (changed,) = family.session_get({}, dump=True)
    assert changed["recv-seq"] == 1 and "recv-timeout" not in changed
    assert family.tunnel_create({
        "conn-id": 3, "peer-conn-id": 4, "proto-version": 3, "encap-type": "ip",
        "ip6-saddr": "fd00::1", "ip6-daddr": "fd00::2"}) is None
    first, second = family.tunnel_get({}, dump=True)
    assert first["conn-id"] == 1 and (second["ip6-saddr"], second["ip6-daddr"]) == (
        "fd00::1", "fd00::2")

    assert family.session_delete({"conn-id": 1, "session-id": 10}) is None
    assert family.tunnel_delete({"conn-id": 1}) is None
    events = []
    for event in listener.poll_ntf(5):
        events.append((event["name"], event["msg"]["conn-id"]))
        if event["name"] == "tunnel-delete-ntf":
            break
    assert events == [(f"{name}-ntf", tid) for name, tid in (
        ("tunnel-create", 1), ("session-create", 1), ("session-modify", 1), ("tunnel-modify", 1),
        ("tunnel-create", 3), ("session-delete", 1), ("tunnel-delete", 1))]

    replies = {op: spec.ops[op]["do"]["reply"]["attributes"] for op in ("tunnel-get", "session-get")}
    for message in (tunnel, first, second):
        assert message.keys() <= set(replies["tunnel-get"])
    for message in (session, changed):
        assert message.keys() <= set(replies["session-get"])


def test_refusal(client: Callable[[], YnlFamily]) -> None:
    """The client finds the attribute that ours blames."""
    with pytest.raises(NlError) as error:
        client().tunnel_create(TUNNEL | {"encap-type": 7})
    extack = error.value.nl_msg.extack or {}
    told = Reply(extack=extack.get("msg", ""))
    assert expect("EXTACK", c=not told.extack, rust=names(told, "ENCAP_TYPE"))
    assert extack.get("bad-attr") == expect("EXTACK", c=None, rust=".encap-type")
