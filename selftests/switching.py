# SPDX-License-Identifier: GPL-2.0
"""tools/switch: from one implementation to the other and back, with everything that is there.

`tools/test switch` runs it: it takes too long for the suite.
"""

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lib import system
from lib.genl import Genl
from lib.netns import Hosts, NetNS, move
from lib.switch import switch, switched, tool
from lib.uapi import Attr, Cmd, Encap, L2Spec
from lib.wait import eventually

pytestmark = [pytest.mark.unloads, pytest.mark.usefixtures("ours_at_the_end"),
              pytest.mark.only("rust", "beside the C modules there is nothing to switch to")]


def only(entry: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: entry[key] for key in keys if key in entry}


def portrait(ns: NetNS) -> dict[str, Any]:
    """What people see of a namespace, but for indices and counters."""
    def ip(*arguments: str) -> list[dict[str, Any]]:
        return json.loads(ns.run("ip", "-json", "-details", *arguments).stdout or "[]")

    links = {}
    for link in ip("addr", "show"):
        links[link["ifname"]] = only(link, "mtu", "address", "flags", "master", "txqlen", "group",
                                     "link", "ifalias", "inet6_addr_gen_mode") | {
            "vlan": [only(kind, "id", "flags", "ingress_qos", "egress_qos")
                     for kind in [link.get("linkinfo", {}).get("info_data", {})]],
            "port": [only(port, "isolated", "hairpin", "learning", "cost", "priority",
                          "multicast_router", "group_fwd_mask")
                     for port in [link.get("linkinfo", {}).get("info_slave_data", {})]],
            "addresses": sorted((one["local"], one["prefixlen"], one["scope"],
                                 one.get("noprefixroute", False)) for one in link["addr_info"])}
    routes = [only(route, "dst", "gateway", "dev", "protocol", "metric", "nexthops", "nhid", "scope",
                   "prefsrc")
              for family in "46" for route in ip("-" + family, "route", "show", "table", "all")
              if route.get("table") != "local"]
    neighbours = [only(one, "dst", "dev", "lladdr")
                  for one in ip("neigh", "show", "nud", "permanent")]
    neighbours += [only(one, "dst", "dev", "proxy") for one in ip("neigh", "show", "proxy")]
    nexthops = [only(one, "id", "gateway", "dev", "group") for one in ip("nexthop", "show")]
    vlans = {entry["ifname"]: entry["vlans"]
             for entry in json.loads(ns.run("bridge", "-json", "vlan", "show").stdout)}
    with ns, Genl() as genl:
        rp_filter = {name: Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").read_text()
                     for name in links}
        objects = [[(kind, value) for kind, value in message.attrs
                    if kind not in (Attr.STATS, Attr.IFNAME)]
                   for command in (Cmd.TUNNEL_GET, Cmd.SESSION_GET) for message in genl.dump(command)]
    return {"links": links, "routes": sorted(map(json.dumps, routes)), "nexthops": nexthops,
            "neighbours": sorted(map(json.dumps, neighbours)), "vlans": vlans, "l2tp": objects,
            "rp_filter": rp_filter}


def looks_like(ns: NetNS, was: dict[str, Any]) -> None:
    """As it was, once the kernel has seen which links are up."""
    with contextlib.suppress(AssertionError):
        eventually(lambda: portrait(ns) == was, 5)
        return
    assert portrait(ns) == was


def l2spec(ns: NetNS) -> list[str]:
    text = ns.run("cat", "/sys/kernel/debug/l2tp/tunnels").stdout
    return [line.strip() for line in text.splitlines() if line.startswith("   offset ")][1:]


def build(hosts: Hosts, elsewhere: NetNS) -> None:
    """On either host: all kinds of tunnels, and devices that people have done things to."""
    for ns, near, far, me, peer in hosts.both():
        cookies = [b"\1\2\3\4", b"\5\6\7\x08\x09\x0a\x0b\x0c"][::1 if me == 1 else -1]
        ns.l2tp.tunnel(1, 1, local=near, peer=far, sport=1701, dport=1701)
        ns.l2tp.session(1, me, peer, cookie=cookies[0], peer_cookie=cookies[1], ifname="old")
        ns.rename("old", "wire")
        ns.l2tp.session(1, 10 + me, 10 + peer, ifname="port", l2spec=L2Spec.NONE)
        ns.l2tp.session(1, 50 + me, 50 + peer, ifname="bare")
        ns.l2tp.session(1, 20 + me, 20 + peer, ifname="away", send_seq=1, recv_seq=1,
                        recv_timeout=100)
        near6, far6 = (hosts.A6, hosts.B6) if me == 1 else (hosts.B6, hosts.A6)
        ns.l2tp.tunnel(2, 2, encap=Encap.IP, local=near6, peer=far6)
        ns.l2tp.session(2, 30 + me, 30 + peer, ifname="six")
        ns.run("sh", "-ec", f"""
            ip link set wire mtu 1300 address 02:00:00:00:00:0{me} txqueuelen 77 alias "to the peer"
            echo 2 >/proc/sys/net/ipv4/conf/wire/rp_filter
            ip link set wire up
            ip addr add 10.9.0.{me}/24 dev wire
            ip -6 addr add fd09::{me}/64 dev wire nodad
            ip link add link wire name wire.7 type vlan id 7 reorder_hdr off gvrp on \
                ingress-qos-map 1:2 egress-qos-map 3:4 5:6
            ip link set wire.7 up
            ip addr add 10.7.0.{me}/24 dev wire.7
            ip route add 10.20.0.0/16 via 10.9.0.{peer} metric 7
            ip route add 10.21.0.0/16 nexthop via 10.9.0.{peer} nexthop via 10.1.{peer}.1 weight 3
            ip -6 route add fd20::/64 via fd09::{peer}
            ip nexthop add id 5 via 10.9.0.{peer} dev wire
            ip route add 10.22.0.0/16 nhid 5
            ip route add 10.23.0.0/16 dev lo src 10.9.0.{me}
            ip -6 route add fd23::/64 dev lo src fd09::{me}
            ip neigh add proxy fd09::77 dev wire
            ip neigh add 10.9.0.99 lladdr 02:00:00:00:00:99 dev wire nud permanent
            ip link add br0 type bridge vlan_filtering 1
            echo fd09::5ec:{me} >/proc/sys/net/ipv6/conf/port/stable_secret
            ip link set port master br0
            ip link set port type bridge_slave isolated on hairpin on learning off cost 77 \
                priority 9 mcast_router 2 group_fwd_mask 8
            bridge vlan del dev port vid 1
            bridge vlan add dev port vid 5 pvid untagged
            bridge vlan add dev port vid 10-20
            ip link set bare master br0
            bridge vlan del dev bare vid 1
            ip link set br0 up
            ip link set port up
            ip link set six up""")
        # through the first one
        ns.l2tp.tunnel(3, 3, local=f"10.9.0.{me}", peer=f"10.9.0.{peer}", sport=1702, dport=1702)
        ns.l2tp.session(3, 40 + me, 40 + peer, ifname="inner")
        ns.run("sh", "-ec", f"ip link set inner up; ip addr add 10.8.0.{me}/24 dev inner")
    move("away", hosts.a, elsewhere)
    elsewhere.run("sh", "-ec", "ip link set away name br0 mtu 1200 up; "
                  "ip addr add 10.6.0.1/24 dev br0; ip route add default via 10.6.0.2")
    hosts.b.run("sh", "-ec", "ip link set away up; ip addr add 10.6.0.2/24 dev away")


def test_there_and_back(hosts: Hosts, other_ns: NetNS) -> None:
    build(hosts, other_ns)
    spaces = (hosts.a, hosts.b, other_ns)

    def works() -> bool:
        return (hosts.a.pings("10.9.0.2") and hosts.a.pings("10.7.0.2")
                and hosts.b.pings("10.8.0.1") and other_ns.pings("10.6.0.2"))

    assert works()
    before = [portrait(ns) for ns in spaces]
    kinds = [l2spec(ns) for ns in spaces]
    assert "offset 0 l2specific 0/0" in kinds[0] and "offset 0 l2specific 1/4" in kinds[0]
    for impl in ("c", "rust"):
        if impl == "rust":
            # as on a machine that has just got the package
            tool.CHOICE.unlink()
            system.rmmod("l2tp_debugfs")
        assert "6 tunnels and 12 sessions" in switched(impl)
        for ns, was, kind in zip(spaces, before, kinds):
            looks_like(ns, was)
            assert l2spec(ns) == kind
        eventually(works)
        said = switch("status").out
        assert f"live: {'the C modules' if impl == 'c' else 'l2tp (Rust)'}" in said
        assert said.splitlines()[-1].startswith("modprobe l2tp_eth loads: ")
        assert ("updates/l2tp.ko" in said.splitlines()[-1]) == (impl == "rust")
        # the kernel's own requests lead to what is live, too
        for alias in ("net-pf-16-proto-16-family-l2tp", "net-pf-2-proto-115-type-2"):
            found = subprocess.run(("modprobe", "-R", alias), capture_output=True, text=True)
            assert (found.stdout.split() == ["l2tp"]) == (impl == "rust")
    assert "live already" in switch("to", "rust").out


def test_namesakes(ns: NetNS, other_ns: NetNS) -> None:
    """Nothing tells which is which, if one of them has moved."""
    ns.l2tp.tunnel()
    ns.l2tp.session(1, 1, ifname="wire")
    move("wire", ns, other_ns)
    ns.l2tp.session(1, 2, ifname="wire")
    done = switch("to", "c")
    assert done.status == 1 and "which device wire" in done.err, done
    assert ns.l2tp.sessions() == [(1, 1), (1, 2)]


def test_back_if_it_fails(ns: NetNS) -> None:
    """The other one cannot be loaded: nothing has changed in the end."""
    ns.l2tp.tunnel()
    ns.l2tp.session(1, 1, ifname="wire", cookie=bytes(8))
    ns.run("sh", "-ec", "ip link set wire mtu 1280 up; ip addr add 10.9.0.1/24 dev wire")
    setting = Path("/proc/sys/net/l2tp/check_peer")
    with ns:
        setting.write_text("0")
    before = portrait(ns)
    module = subprocess.run(("modinfo", "-n", "-k", os.uname().release, "l2tp_eth"),
                            capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run(("mount", "--bind", "/dev/null", module), check=True)
    try:
        done = switch("to", "c")
    finally:
        subprocess.run(("umount", module), check=True)
    assert done.status == 2 and "live as before" in done.err, done
    assert set(system.loaded()) == {"l2tp"}
    looks_like(ns, before)
    with ns:
        assert setting.read_text() == "0\n"
    assert not tool.CHOICE.exists()


def test_back_if_it_is_in_use(ns: NetNS) -> None:
    """The module cannot go: it has not been needed to load it again."""
    ns.l2tp.tunnel()
    ns.l2tp.session(1, 1, ifname="wire")
    before = portrait(ns)
    with Path("/sys/kernel/debug/l2tp/tunnels").open():
        done = switch("to", "c")
    assert done.status == 2 and "cannot unload" in done.err and "live as before" in done.err, done
    assert set(system.loaded()) == {"l2tp"}
    looks_like(ns, before)


def test_back_from_anything(ns: NetNS, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in the tool: the tunnels are there in the end, all but one that cannot be made."""
    for tid in (1, 2):
        ns.l2tp.tunnel(tid, tid, sport=1700 + tid)
        ns.l2tp.session(tid, tid, ifname=f"wire{tid}")

    def make(_state: object) -> None:
        monkeypatch.undo()
        ns.udp(("127.0.0.1", 1701), ("127.0.0.2", 1))
        raise ZeroDivisionError

    monkeypatch.setattr(tool, "make", make)
    done = switch("to", "c")
    assert done.status == 2 and "live as before: l2tp (Rust), but not all" in done.err, done
    assert "ZeroDivisionError" in done.err and "tunnel 1 in namespace" in done.err
    ns.forget_clients()
    assert ns.l2tp.tunnels() == [2] and ns.l2tp.has_session(2, 2)


def test_what_comes_meanwhile(ns: NetNS, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tunnel that was not there to be noted is not taken down."""
    ns.l2tp.tunnel()
    ns.l2tp.session(1, 1, ifname="wire")
    save = tool.save

    def save_then_make(l2spec: int | None) -> Any:
        state = save(l2spec)
        ns.run("ip", "l2tp", "add", "tunnel", "tunnel_id", "9", "peer_tunnel_id", "9", "encap", "ip",
               "local", "127.0.0.1", "remote", "127.0.0.2")
        return state

    monkeypatch.setattr(tool, "save", save_then_make)
    done = switch("to", "c")
    assert done.status == 2 and "somebody has made tunnel 9" in done.err, done
    assert ns.l2tp.tunnels() == [1, 9] and ns.l2tp.has_session(1, 1)


def test_what_is_left_to_others(ns: NetNS, monkeypatch: pytest.MonkeyPatch) -> None:
    """What went for another reason, and what a routing daemon has to decide."""
    ns.l2tp.tunnel()
    ns.l2tp.session(1, 1, ifname="wire")
    ns.run("sh", "-ec", """ip link set wire up; ip addr add 10.9.0.1/24 dev wire
        ip link add v0 type veth peer v1; ip link set v0 up; ip addr add 10.5.0.1/24 dev v0
        ip route add 10.20.0.0/16 via 10.9.0.2 proto bird
        ip route add 10.21.0.0/16 via 10.9.0.2 proto static""")
    save = tool.save

    def save_then_delete(l2spec: int | None) -> Any:
        state = save(l2spec)
        ns.run("ip", "link", "del", "v0")
        return state

    monkeypatch.setattr(tool, "save", save_then_delete)
    switched("c")
    shown = ns.run("ip", "route", "show").stdout
    assert "10.21.0.0/16" in shown and "10.20.0.0/16" not in shown and "10.5.0" not in shown


def test_what_is_told_before(hosts: Hosts, other_ns: NetNS) -> None:
    """That would not come back."""
    ns = hosts.a
    ns.l2tp.tunnel(1, 1, local=hosts.A4, peer=hosts.B4)
    ns.l2tp.session(1, 1, ifname="wire")
    ns.run("sh", "-ec", """ip link add over type vxlan id 7 remote 10.9.0.2 dstport 4789 dev wire
        ip link add away link wire type macvlan""")
    move("away", ns, other_ns)
    ns.l2tp.tunnel(2, 2, encap=Encap.IP, local=hosts.A4, peer=hosts.B4)
    done = switch("to", "c")
    assert done.status == 1 and "over on wire" in done.err, done
    assert f"away in namespace {other_ns.name}, on wire" in done.err and "tunnel" not in done.err
    ns.run("ip", "addr", "flush", "dev", "eth0")
    assert "tunnel 2 in namespace" in switch("to", "c").err
