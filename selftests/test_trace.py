# SPDX-License-Identifier: GPL-2.0
"""abi 8.2: the trace events; and why packets are dropped, for those who ask the kernel."""

import re
from collections.abc import Iterator
from pathlib import Path as File

import pytest

from lib.differences import expect
from lib.netns import NetNS
from lib.tracing import TRACING, Trace
from lib.uapi import Encap, PwType
from lib.wait import eventually
from lib.wire import Path, Session, Wire, frame, pattern

pytestmark = pytest.mark.needs("trace events")

_TUNNEL = ["char name[20]"]
_SESSION = ["char name[32]"]
_NUMBERS = ["char name[32]", "u32 ns", "u32 nr"]
_PACKET = ["char name[32]", "u32 pkt_ns", "u32 my_nr", "u32 reorder_q_len"]

_ENCAP = expect("TRACE-TYPE", c="enum l2tp_encap_type", rust="unsigned int")
_PWTYPE = expect("TRACE-TYPE", c="enum l2tp_pwtype", rust="unsigned int")

#: What each event has, in order.
FIELDS = {
    "register_tunnel": ["char name[20]", "int fd", "u32 tid", "u32 ptid", "int version",
                        f"{_ENCAP} encap"],
    "delete_tunnel": _TUNNEL, "free_tunnel": _TUNNEL,
    "register_session": ["char name[32]", "u32 tid", "u32 ptid", "u32 sid", "u32 psid",
                         f"{_PWTYPE} pwtype"],
    "delete_session": _SESSION, "free_session": _SESSION,
    "session_seqnum_lns_enable": _SESSION, "session_seqnum_lns_disable": _SESSION,
    "session_seqnum_update": _NUMBERS, "session_seqnum_reset": _NUMBERS,
    "session_pkt_expired": _PACKET, "session_pkt_outside_rx_window": _PACKET,
    "session_pkt_oos": _PACKET,
}
DROP = {"pkt_drop": ["u32 tid", "u32 sid", "u32 len", "u32 reason"]}

UDP = Path(4, Encap.UDP, 5010, 6010)
IP = Path(6, Encap.IP)
INNER = frame(pattern(46))


# Switching events on and off takes long: it changes instructions on all processors.

@pytest.fixture(scope="module")
def _trace() -> Iterator[Trace]:
    with Trace("l2tp") as made:
        yield made


@pytest.fixture
def trace(_trace: Trace) -> Trace:
    """All events of the group, from now on."""
    _trace.take()
    return _trace


@pytest.fixture(scope="module")
def freed() -> Iterator[Trace]:
    """Packets that are dropped, anywhere."""
    with Trace("skb/kfree_skb") as made:
        yield made


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    made = Wire()
    for tid, path in ((10, UDP), (11, IP)):
        made.l2tp.tunnel(tid, tid + 100, encap=path.encap, local=path.a, peer=path.b,
                         sport=path.sport, dport=path.dport)
    yield made
    made.close()


def test_fields() -> None:
    """Names, types and order, as scripts find them; sizes follow from these."""
    def fields(event: File) -> list[str]:
        lines = [line.strip() for line in (event / "format").read_text().splitlines()]
        found = [line[len("field:"):].split(";")[0] for line in lines if line.startswith("field:")]
        return [field for field in found if " common_" not in field]

    group = TRACING / "events/l2tp"
    assert {path.name: fields(path) for path in group.iterdir() if path.is_dir()} == expect(
        "PKT-DROP", c=FIELDS, rust=FIELDS | DROP)


def about(lines: list[tuple[str, str]], *tids: int) -> list[tuple[str, str]]:
    """Those of these tunnels and their sessions; others may still be going away."""
    return [line for line in lines
            if any(re.match(rf"(tunl {tid}|sess {tid}/\d+)(:|$)", line[1]) for tid in tids)]


def test_life(ns: NetNS, trace: Trace) -> None:
    """Each end of a tunnel and of its sessions."""
    v3, v2 = 7070, 9090
    ns.l2tp.tunnel(v3, 8)
    ns.l2tp.session(v3, 1, 2)
    ns.l2tp.session(v3, 3, 4, pw_type=PwType.PPP)
    sock = ns.udp(("127.0.0.1", 6000))
    ns.l2tp.tunnel(v2, 9, version=2, fd=sock.fileno())
    ids = expect("TRACE-TEXT", c={1: (1, 2), 3: (3, 4)}, rust={1: (v3, 8), 3: (v3, 8)})
    text = "sess {0}/{1}: pseudowire={3} sid={1} psid={2} tid={4} ptid={5}"
    assert about(trace.take(), v3, v2) == [
        ("register_tunnel",
         f"tunl {v3}: type=unmanaged encap=UDP version=L2TPv3 tid={v3} ptid=8 fd=-1"),
        ("register_session", text.format(v3, 1, 2, "ETH", *ids[1])),
        ("register_session", text.format(v3, 3, 4, "PPP", *ids[3])),
        ("register_tunnel",
         f"tunl {v2}: type=managed encap=UDP version=L2TPv2 tid={v2} ptid=9 fd={sock.fileno()}")]
    ns.l2tp.del_session(v3, 3)
    eventually(lambda: ("free_session", f"sess {v3}/3") in trace.lines())
    ns.l2tp.del_tunnel(v3)
    sock.close()
    names = (("session", f"sess {v3}/3"), ("session", f"sess {v3}/1"), ("tunnel", f"tunl {v3}"),
             ("tunnel", f"tunl {v2}"))
    eventually(lambda: len(about(trace.lines(), v3, v2)) >= 2 * len(names))
    lines = about(trace.take(), v3, v2)
    assert sorted(lines) == sorted((f"{what}_{kind}", name) for what in ("delete", "free")
                                   for kind, name in names)
    for kind, name in names:
        assert lines.index((f"delete_{kind}", name)) < lines.index((f"free_{kind}", name))


def test_encapsulation_by_name(ns: NetNS, trace: Trace) -> None:
    ns.l2tp.tunnel(6060, encap=Encap.IP)
    ((event, text),) = about(trace.take(), 6060)
    assert event == "register_tunnel" and "encap=IP version=L2TPv3" in text


def test_numbers(wire: Wire, trace: Trace) -> None:
    """What sequence numbers do, received and sent."""
    session = Session(10, 1000, UDP, "n0").create(wire)
    name = "sess 10/1000"

    def receive(*numbers: int | None) -> list[tuple[str, str]]:
        wire.inject(*(session.packet(INNER, ns) for ns in numbers))
        wire.delivered()
        return [line for line in about(trace.take(), 10) if line[0] != "pkt_drop"]

    trace.take()
    assert receive(5) == [
        ("session_seqnum_lns_enable", name),
        ("session_seqnum_reset", f"{name}: ns=0 nr=5"), ("session_seqnum_update", f"{name}: ns=0 nr=6")]
    assert receive(6) == [("session_seqnum_update", f"{name}: ns=0 nr=7")]
    assert receive(9) == [("session_pkt_oos", f"{name}: pkt_ns=9 my_nr=7 reorder_q_len=0")]
    assert receive(6) == [
        ("session_pkt_outside_rx_window", f"{name}: pkt_ns=6 my_nr=7 reorder_q_len=0")]
    wire.transmit(session.ifname, INNER)
    assert about(trace.take(), 10) == [("session_seqnum_update", f"{name}: ns=1 nr=7")]
    assert receive(None) == [("session_seqnum_lns_disable", name)]


def test_expiry(wire: Wire, trace: Trace) -> None:
    """Of a frame that has waited in vain; C looks when the next one comes, and drops the first."""
    session = Session(10, 1001, UDP, "e0").create(wire, recv_timeout=50)
    name = "sess 10/1001"
    wire.inject(session.packet(INNER, 0), session.packet(INNER, 2))

    def expired() -> list[tuple[str, str]]:
        wire.inject(session.packet(INNER, 3))
        return [line for line in about(trace.lines(), 10) if line[0] == "session_pkt_expired"]

    first = eventually(expired, interval=0.2)[0]
    assert first[1].startswith(f"{name}: pkt_ns=2 my_nr=1 reorder_q_len=")
    wire.delivered()


# --- why packets are dropped: core's reason, and, in ours, l2tp:pkt_drop

def dropped(wire: Wire, freed: Trace, trace: Trace,
            packet: bytes) -> tuple[list[str], list[tuple[str, str]]]:
    """What skb:kfree_skb says of packets that the module drops, and the group's own event."""
    freed.take()
    trace.take()
    wire.inject(packet)
    wire.delivered()
    reasons = [text.rsplit("reason: ", 1)[1] for _, text in freed.take() if "[l2tp" in text]
    return reasons, [line for line in trace.take() if line[0] == "pkt_drop"]


@pytest.mark.parametrize(("case", "reason", "name", "tid", "c"), [
    ("unknown session", "UNHANDLED_PROTO", "UNKNOWN_SESSION", 0, True),
    ("cookie over UDP", "TC_COOKIE_ERROR", "COOKIE", 10, True),
    ("cookie over IP", "TC_COOKIE_ERROR", "COOKIE", 11, True),
    ("no number", "TCP_INVALID_SEQUENCE", "UNNUMBERED", 10, True),
    ("old number", "TCP_INVALID_SEQUENCE", "OUTSIDE_WINDOW", 10, True),
    ("wrong encapsulation", "IP_NOPROTO", "WRONG_ENCAP", 10, False),
    ("stranger", "IP_RPFILTER", "NOT_THE_PEER", 11, False),
    ("short", "PKT_TOO_SMALL", "TOO_SHORT", 0, True),
    ("cut off", "HDR_TRUNC", "TRUNCATED", 11, True),
    ("control for nobody", "NO_SOCKET", "NO_LISTENER", 0, True),
])
def test_why(wire: Wire, freed: Trace, trace: Trace, case: str, reason: str, name: str, tid: int,
             c: bool) -> None:
    """C drops without a reason, or (wrong encapsulation, a stranger's message) not at all."""
    path = IP if case in ("unknown session", "cookie over IP", "wrong encapsulation", "stranger",
                          "short", "cut off", "control for nobody") else UDP
    sid = {10: 2000, 11: 3000}.get(tid, 0)
    session = Session(tid or 11, sid or 0x7fffffff, path, "d0", peer_cookie=b"good")
    if tid:
        session.create(wire, recv_seq=int(case in ("no number", "old number")))
    bad = session.header().replace(b"good", b"evil") + INNER
    packet = {
        "cookie over UDP": lambda: path.incoming(bad), "cookie over IP": lambda: path.incoming(bad),
        "stranger": lambda: path.incoming(session.header() + INNER, src="2001:db8::3"),
        "short": lambda: path.incoming(b"\0\0"), "cut off": lambda: path.incoming(session.header()[:6]),
        "control for nobody": lambda: path.incoming(bytes(4) + b"\xc8\x03\0\x0c" + bytes(8)),
    }.get(case, lambda: session.packet(INNER))()
    if case == "old number":
        wire.inject(session.packet(INNER, 7))
        wire.delivered()
        packet = session.packet(INNER, 3)
    reasons, events = dropped(wire, freed, trace, packet)
    if tid:
        wire.l2tp.del_session(tid, sid)
        eventually(lambda: "d0" not in wire.a.links())
    assert reasons == expect("DROP-REASON", c=["NOT_SPECIFIED"] if c else [], rust=[reason])
    shown = sid or (0x7fffffff if case == "unknown session" else 0)
    assert [text.rsplit(" len=", 1)[0] for _, text in events] == expect(
        "PKT-DROP", c=[], rust=[f"sess {tid}/{shown}: reason={name}"])


def test_no_far_side(wire: Wire, freed: Trace, trace: Trace) -> None:
    """A PPP session without a socket."""
    wire.l2tp.session(10, 4000, 1, PwType.PPP)
    session = Session(10, 4000, UDP, "", peer_cookie=b"")
    assert dropped(wire, freed, trace, session.packet(INNER)) == expect(
        "PKT-DROP", c=(["NOT_SPECIFIED"], []),
        rust=(["DEV_READY"], [("pkt_drop", f"sess 10/4000: reason=NO_FAR_SIDE len={len(INNER)}")]))
    wire.l2tp.del_session(10, 4000)


@pytest.mark.parametrize("size,up,reason,name", [
    (13, True, "PKT_TOO_SMALL", "TOO_SHORT"), (120, True, "PKT_TOO_BIG", "TOO_LONG"),
    (60, False, "DEV_READY", "NO_FAR_SIDE")])
def test_device_refuses(wire: Wire, freed: Trace, trace: Trace, size: int, up: bool, reason: str,
                        name: str) -> None:
    """A frame without a whole header, one beyond the MTU, one for a device that is down."""
    session = Session(10, 2000, UDP, "d0").create(wire)
    wire.a.set_mtu("d0", 100)
    if not up:
        wire.a.down("d0")
    reasons, events = dropped(wire, freed, trace, session.packet(bytes(size)))
    wire.l2tp.del_session(10, 2000)
    eventually(lambda: "d0" not in wire.a.links())
    assert reasons == expect("DROP-REASON", c=["NOT_SPECIFIED"] * len(reasons), rust=[reason])
    assert [text for _, text in events] == expect(
        "PKT-DROP", c=[], rust=[f"sess 10/2000: reason={name} len={size}"])


def test_trace_cmd(ns: NetNS, tmp_path: File) -> None:
    """The tool that people use."""
    data = str(tmp_path / "trace.dat")
    ns.run("trace-cmd", "record", "-q", "-e", "l2tp:register_tunnel", "-o", data, "ip", "l2tp", "add",
           "tunnel", "tunnel_id", "1", "peer_tunnel_id", "2", "encap", "ip", "local", "127.0.0.1",
           "remote", "127.0.0.2", timeout=120)
    report = ns.run("trace-cmd", "report", "-i", data, timeout=120).stdout
    text = "tunl 1: type=unmanaged encap=IP version=L2TPv3 tid=1 ptid=2 fd=-1"
    assert expect("TRACE-TEXT", c="tid=1 ptid=2 fd=-1", rust=text) in report


@pytest.mark.needs("BPF on events")
@pytest.mark.only("rust", "TRACE-TYPE: it does not know C's enumerations")
def test_bpftrace(ns: NetNS) -> None:
    """Another, which compiles what it does with each field."""
    out = ns.run("bpftrace", "-e", """tracepoint:l2tp:register_tunnel {
        printf("%s: %u -> %u, %d %d\\n", args.name, args.tid, args.ptid, args.version, args.fd)
    }""", "-c", "/usr/sbin/ip l2tp add tunnel tunnel_id 1 peer_tunnel_id 2 encap ip"
                 " local 127.0.0.1 remote 127.0.0.2", timeout=120).stdout
    assert "tunl 1: 1 -> 2, 3 -1" in out
