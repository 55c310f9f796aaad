# SPDX-License-Identifier: GPL-2.0
"""abi 4: sequence numbers of received frames, over L2TPv3 with the default sublayer."""

import itertools
import struct
import time
from collections.abc import Iterator

import pytest

from lib import attrs as nla
from lib.differences import expect
from lib.uapi import Attr, Encap
from lib.wait import eventually
from lib.wire import Path, Session, Wire, frame, merge

TUNNELS = {"udp": (10, Path(4, Encap.UDP, 5010, 6010)), "ip": (11, Path(6, Encap.IP))}
LONG = 60_000  # a reorder timeout in ms that does not run out during a test
TOP = 0xffffff
WINDOW = 8388607
_numbers = itertools.count(1)


class Peer:
    """Sends numbered frames to one session; every frame differs from all others."""

    def __init__(self, wire: Wire, tunnel: str, **options: int) -> None:
        tid, path = TUNNELS[tunnel]
        number = next(_numbers)
        self.wire = wire
        self.session = Session(tid, tid << 16 | number, path, f"q{number}",
                               peer_cookie=b"seqs").create(wire, **options)
        self._serial = itertools.count()

    def set(self, kind: Attr, value: int) -> None:
        self.wire.l2tp.modify_session(self.session.tid, self.session.sid,
                                      nla.integer(kind, value))

    def frames(self, *numbers: int | None) -> list[bytes]:
        """Inner frames to be sent with these numbers."""
        return [frame(struct.pack("!Iq", next(self._serial), -1 if ns is None else ns))
                for ns in numbers]

    def send(self, *numbers: int | None) -> list[int | None]:
        """Send frames with these numbers (None: without); the numbers of those delivered."""
        inners = self.frames(*numbers)
        # over UDP without a checksum: sums cost more here than all the rest
        options = {"check": 0} if self.session.path.encap == Encap.UDP else {}
        self.wire.inject(*(self.session.path.incoming(self.session.header(ns) + inner, **options)
                           for ns, inner in zip(numbers, inners)))
        return self.delivered()

    def delivered(self) -> list[int | None]:
        out = []
        for ifname, inner in self.wire.delivered():
            assert ifname == self.session.ifname and len(inner) == 26
            ns = struct.unpack("!q", inner[18:])[0]
            out.append(None if ns < 0 else ns)
        return out

    def got(self, count: int) -> dict[str, int]:
        """The counters of this many delivered frames."""
        return self.session.received(*[bytes(26)] * count)

    def dropped(self, seq_discards: int = 0, errors: int | None = None, *,
                oos: int = 0) -> dict[str, int]:
        return self.session.counts(RX_SEQ_DISCARDS=seq_discards, RX_OOS_PACKETS=oos,
                                   RX_ERRORS=seq_discards if errors is None else errors)

    def send_seq(self, change: int) -> dict[str, int]:
        name = f"session {self.session.tid}/{self.session.sid} send_seq"
        return {name: change} if change else {}


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    made = Wire()
    for tid, path in TUNNELS.values():
        made.l2tp.tunnel(tid, tid + 100, encap=path.encap, local=path.a, peer=path.b,
                         sport=path.sport, dport=path.dport)
    yield made
    made.close()


@pytest.fixture
def peer(wire: Wire) -> Peer:
    """A new session without reordering."""
    return Peer(wire, "udp")


@pytest.fixture
def patient(wire: Wire) -> Peer:
    """A new session with reordering."""
    return Peer(wire, "udp", recv_timeout=LONG)


def receives(peer: Peer, sent: list[int | None], delivered: list[int | None],
             *counts: dict[str, int]) -> None:
    with peer.wire.counting(peer.got(len(delivered)), *counts):
        assert peer.send(*sent) == delivered


# --- 4.1

@pytest.mark.parametrize("tunnel", TUNNELS)
def test_policy(wire: Wire, tunnel: str) -> None:
    """All settings, with a numbered frame and one without."""
    peer = Peer(wire, tunnel)
    following = 0
    for numbered, recv_seq, lns_mode, send_seq in itertools.product((1, 0), repeat=4):
        peer.set(Attr.RECV_SEQ, recv_seq)
        peer.set(Attr.LNS_MODE, lns_mode)
        peer.set(Attr.SEND_SEQ, send_seq)
        ns = following if numbered else None
        if numbered:
            following += 1
            accepted, becomes = True, send_seq if lns_mode else 1
        else:
            accepted = not recv_seq and not (lns_mode and send_seq)
            becomes = send_seq if lns_mode or not accepted else 0
        change = peer.send_seq(becomes - send_seq)
        if accepted:
            receives(peer, [ns], [ns], change)
        else:
            receives(peer, [ns], [], change, peer.dropped(1))
        message = wire.l2tp.get_session(peer.session.tid, peer.session.sid)
        assert (message[Attr.RECV_SEQ], message[Attr.LNS_MODE],
                message[Attr.SEND_SEQ]) == (recv_seq, lns_mode, becomes)


def test_lac_follows_on_the_wire(wire: Wire, peer: Peer) -> None:
    """4.1.1 and 4.5.2: what we send is numbered while what comes is, from where it stopped."""
    inner = frame(b"out")
    expected = []
    for ns, ours in ((None, None), (0, 0), (1, 1), (None, None), (2, 2), (None, None)):
        assert peer.send(ns) == [ns]
        wire.transmit(peer.session.ifname, inner)
        expected.append(peer.session.sent(inner, ours))
    at = peer.session.path.outer_len
    assert [packet[at:] for packet in wire.packets()] == expected


def test_cookie_comes_before_policy(wire: Wire, peer: Peer) -> None:
    """1.9 a before c: a numbered frame with a wrong cookie changes nothing."""
    packet = peer.session.path.incoming(
        peer.session.header(5).replace(b"seqs", b"seqz") + frame(b"bad"))
    with wire.counting(peer.session.counts(RX_COOKIE_DISCARDS=1, RX_ERRORS=1)):
        wire.inject(packet)
        assert wire.delivered() == []
    receives(peer, [0, 1], [0, 1], peer.send_seq(1))


def test_other_bits_of_the_sublayer(wire: Wire, peer: Peer) -> None:
    """1.5: bits 31 and 29 to 24 are not part of the number."""
    inners = peer.frames(0, 1)
    with wire.counting(peer.got(2), peer.send_seq(1)):
        wire.inject(peer.session.packet(inners[0], sublayer=0xff000000),
                    peer.session.packet(inners[1], sublayer=0x7f000001))
        assert peer.delivered() == [0, 1]
    receives(peer, [2], [2])


# --- 4.2

def test_window(peer: Peer) -> None:
    """4.2.1: what is outside counts as an error only."""
    receives(peer, [WINDOW - 1], [WINDOW - 1], peer.send_seq(1))
    # Nr is WINDOW now
    receives(peer, [WINDOW - 1, 0, 1], [], peer.dropped(errors=3))
    last = 2 * WINDOW - 1
    receives(peer, [last], [], peer.dropped(1))
    receives(peer, [last + 1, TOP], [], peer.dropped(errors=2))
    receives(peer, [WINDOW], [WINDOW])
    receives(peer, [last + 1], [], peer.dropped(1))
    receives(peer, [WINDOW], [], peer.dropped(errors=1))


def test_window_with_reordering(patient: Peer) -> None:
    receives(patient, [0], [0], patient.send_seq(1))
    receives(patient, [0, WINDOW + 1, TOP], [], patient.dropped(errors=3))
    receives(patient, [WINDOW - 1, 1], [1], patient.dropped(oos=1))  # the first waits
    receives(patient, [1, WINDOW + 2, TOP], [], patient.dropped(errors=3))
    receives(patient, [WINDOW + 1], [])  # waits behind the other one


@pytest.mark.parametrize("timeout", [0, LONG])
def test_peer_starts_again(wire: Wire, timeout: int) -> None:
    """4.2.1: the peer's session was made anew, ours was not."""
    peer = Peer(wire, "udp", recv_timeout=timeout or None)
    receives(peer, [1000], [1000], peer.send_seq(1))
    again = list(range(70))
    lost = expect("SEQ-RESYNC", c=70, rust=64)
    receives(peer, again, again[lost:], peer.dropped(errors=lost))


@pytest.mark.parametrize("first", [1, 1000, WINDOW - 1])
def test_first_frame_sets_the_number(peer: Peer, first: int) -> None:
    """4.2.3"""
    receives(peer, [first, first + 1, first - 1], [first, first + 1], peer.dropped(errors=1),
             peer.send_seq(1))


@pytest.mark.parametrize("timeout", [0, LONG])
@pytest.mark.parametrize("first", [WINDOW, WINDOW + 1, TOP])
def test_first_frame_of_an_old_peer(wire: Wire, first: int, timeout: int) -> None:
    """B10, 4.2.2: our session is new, the peer's is not."""
    peer = Peer(wire, "udp", recv_timeout=timeout or None)
    sent = [first, (first + 1) & TOP, (first + 2) & TOP]
    if expect("SEQ-FIRST", c=False, rust=True):
        receives(peer, sent, sent, peer.send_seq(1))
    elif first == TOP:
        receives(peer, sent, sent[1:], peer.dropped(errors=1), peer.send_seq(1))
    else:  # the policy is applied all the same
        receives(peer, sent, [], peer.dropped(errors=3), peer.send_seq(1))


# --- 4.3

@pytest.mark.parametrize("tunnel", TUNNELS)
@pytest.mark.parametrize("sent,delivered", [
    ([0, 1, 2, 3], [0, 1, 2, 3]),
    ([0, 2, 3, 4, 5, 6, 7, 8], [0, 7, 8]),
    ([0, 2, 1], [0, 1]),
    ([0, 2, 1, 2, 3], [0, 1, 2, 3]),
    # another run begins at the 9
    ([0, 3, 4, 5, 9, 10, 11, 12, 13, 14, 15], [0, 14, 15]),
    # every second frame never makes a run
    ([0, *range(2, 40, 2)], [0]),
    # 4.3.3: what comes in sequence does not end a run
    ([0, 2, 3, 4, 1, 5, 6, 7, 8], [0, 1, 7, 8]),
])
def test_without_reordering(wire: Wire, tunnel: str, sent: list, delivered: list) -> None:
    peer = Peer(wire, tunnel, lns_mode=1, recv_seq=1)
    receives(peer, sent, delivered, peer.dropped(len(sent) - len(delivered)))


def test_frames_without_number_do_not_count(wire: Wire) -> None:
    peer = Peer(wire, "udp", lns_mode=1)
    receives(peer, [None, 0, None, 1, None, 3, None, 2], [None, 0, None, 1, None, None, 2],
             peer.dropped(1))


def go_to_the_top(peer: Peer) -> None:
    """Make 0xfffffe the next number: two jumps, each as far as the window lets it be."""
    assert peer.send(WINDOW - 1) == [WINDOW - 1]
    assert peer.send(*range(TOP - 7, TOP - 1)) == [TOP - 2]


def test_wrap_in_order(peer: Peer) -> None:
    go_to_the_top(peer)
    receives(peer, [TOP - 1, TOP, 0, 1], [TOP - 1, TOP, 0, 1])
    receives(peer, [TOP - 1, TOP, 0, 1], [], peer.dropped(errors=4))
    receives(peer, [3, WINDOW + 1], [], peer.dropped(2))


def test_run_across_the_wrap(peer: Peer) -> None:
    """Out of sequence from 0xffffff on; the sixth is 4."""
    go_to_the_top(peer)
    receives(peer, [TOP, 0, 1, 2, 3, 4, 5], [4, 5], peer.dropped(5))


# --- 4.4

@pytest.mark.parametrize("tunnel", TUNNELS)
@pytest.mark.parametrize("sent,oos", [([0, 1, 2], 0), ([0, 2, 1], 1), ([0, 3, 2, 1], 2),
                                      ([0, 2, 3, 4, 5, 6, 7, 8, 1], 1), ([5, 7, 8, 6, 10, 9], 2)])
def test_reordering(wire: Wire, tunnel: str, sent: list, oos: int) -> None:
    """4.4.1, 4.4.2"""
    peer = Peer(wire, tunnel, lns_mode=1, recv_timeout=LONG)
    receives(peer, sent, sorted(sent), peer.dropped(oos=oos))


def test_waiting(wire: Wire) -> None:
    """Nothing is delivered or counted before its turn."""
    peer = Peer(wire, "udp", lns_mode=1, recv_timeout=LONG)
    receives(peer, [0], [0])
    receives(peer, [3], [])
    receives(peer, [2], [], peer.dropped(oos=1))
    receives(peer, [5], [])
    receives(peer, [1], [1, 2, 3], peer.dropped(oos=1))
    receives(peer, [4], [4, 5], peer.dropped(oos=1))
    receives(peer, [3], [], peer.dropped(errors=1))


def test_frames_without_number_wait_too(wire: Wire) -> None:
    """4.4.7: behind those that wait already."""
    peer = Peer(wire, "udp", lns_mode=1, recv_timeout=LONG)
    receives(peer, [0, None], [0, None])
    receives(peer, [2, None], [])
    receives(peer, [1], [1, 2, None], peer.dropped(oos=1))
    receives(peer, [None, 3], [None, 3])


def test_expiry(wire: Wire) -> None:
    """4.4.3, 4.4.4: C gives up the 2 when the 3 comes; ours delivers it when its time has come."""
    peer = Peer(wire, "udp", lns_mode=1, recv_timeout=100)
    before = wire.counters()
    assert peer.send(0, 2) == [0]
    if expect("SEQ-TIMER", c=False, rust=True):
        eventually(lambda: wire.changes(before) == peer.got(2))
        assert peer.delivered() == [2]
    else:
        time.sleep(0.3)
        assert wire.changes(before) == peer.got(1)
    assert peer.send(3) == [3]
    assert wire.changes(before) == expect("SEQ-LATE", c=merge(peer.got(2), peer.dropped(1)),
                                          rust=peer.got(3))
    receives(peer, [4], [4])
    receives(peer, [1, 2, 3], [], peer.dropped(errors=3))


@pytest.mark.only("rust", "SEQ-TIMER: C waits for further traffic")
@pytest.mark.parametrize("tunnel", TUNNELS)
def test_expiry_of_several(wire: Wire, tunnel: str) -> None:
    """B7. All leave the queue without further traffic, in order."""
    peer = Peer(wire, tunnel, lns_mode=1, recv_timeout=200)
    before = wire.counters()
    assert peer.send(0, 4, 2, None) == [0]
    eventually(lambda: wire.changes(before) == merge(peer.got(4), peer.dropped(oos=1)))
    assert peer.delivered() == [2, 4, None]
    receives(peer, [5, 7, 6, 8], [5, 6, 7, 8], peer.dropped(oos=1))


@pytest.mark.only("rust", "SEQ-TIMER: C waits for further traffic")
def test_each_waits_for_its_own_time(wire: Wire) -> None:
    """The 9 arrives late enough to wait on when the 2 goes; then both go by the timer alone."""
    for _ in range(5):  # a slow machine may let both expire together
        peer = Peer(wire, "udp", lns_mode=1, recv_timeout=1500)
        assert peer.send(0, 2) == [0]
        time.sleep(0.5)
        if peer.send(9):
            continue
        seen: list[int | None] = []

        def arrived() -> bool:
            seen.extend(peer.delivered())
            return bool(seen)

        eventually(arrived)
        if seen != [2]:
            continue
        eventually(lambda: len(seen) > 1 or (arrived() and len(seen) > 1))
        assert seen == [2, 9]
        receives(peer, [10], [10])
        return
    raise AssertionError("the 9 never waited longer than the 2")


@pytest.mark.only("rust", "SEQ-TIMER: C waits for further traffic")
def test_nobody_waits_longer_for_a_frame_put_before_him(wire: Wire) -> None:
    """The 2 joins the 3 late, and both go when the time of the 3 is up: before a frame of another
    session that came before the 2."""
    for _ in range(5):  # a slow machine may let the 3 expire before that
        waiting, other = (Peer(wire, "udp", lns_mode=1, recv_timeout=1000) for _ in range(2))
        assert waiting.send(0, 3) == [0] and other.send(0) == [0]
        time.sleep(0.3)
        late = [other.session.packet(*other.frames(5), ns=5),
                waiting.session.packet(*waiting.frames(2), ns=2)]
        seen: list[str] = []

        def arrived(count: int) -> bool:
            seen.extend(ifname for ifname, _ in wire.delivered())
            return len(seen) == count

        wire.inject(late[0])
        time.sleep(0.3)  # timers that are closer together than some 30 ms may expire in any order
        if not arrived(0):
            eventually(lambda: arrived(2))
            continue
        wire.inject(late[1])
        eventually(lambda: arrived(3))
        assert seen == [waiting.session.ifname] * 2 + [other.session.ifname]
        receives(waiting, [4], [4])
        return
    raise AssertionError("the 2 never joined the 3")


def test_twin_of_a_waiting_frame(wire: Wire) -> None:
    """B7: in C those behind it wait for ever."""
    peer = Peer(wire, "udp", lns_mode=1, recv_timeout=LONG)
    receives(peer, [0, 2, 2, 1, 3], expect("SEQ-TWIN", c=[0, 1, 2], rust=[0, 1, 2, 3]),
             peer.dropped(errors=expect("SEQ-TWIN", c=0, rust=1), oos=1))


def test_reordering_across_the_wrap(wire: Wire) -> None:
    peer = Peer(wire, "udp", lns_mode=1)
    go_to_the_top(peer)
    peer.set(Attr.RECV_TIMEOUT, LONG)
    receives(peer, [TOP - 1, 0, TOP, 1],
             expect("SEQ-WRAP", c=[TOP - 1], rust=[TOP - 1, TOP, 0, 1]), peer.dropped(oos=1))


@pytest.mark.only("rust", "SEQ-WRAP: C loses them all")
@pytest.mark.parametrize("sent,oos", [([TOP, 0, TOP - 1], 1), ([0, TOP, TOP - 1], 2),
                                      ([2, 1, 0, TOP, TOP - 1], 4)])
def test_every_order_across_the_wrap(wire: Wire, sent: list, oos: int) -> None:
    """B7: C loses all of them."""
    peer = Peer(wire, "udp", lns_mode=1)
    go_to_the_top(peer)
    peer.set(Attr.RECV_TIMEOUT, LONG)
    receives(peer, sent, sorted(sent, key=lambda ns: (ns - TOP + 1) & TOP), peer.dropped(oos=oos))


def test_queue_has_a_limit(wire: Wire) -> None:
    peer = Peer(wire, "udp", lns_mode=1, recv_timeout=LONG)
    last = 1100
    kept = expect("SEQ-BOUND", c=last - 1, rust=1024)
    receives(peer, [0, *range(2, last + 1)], [0], peer.dropped(last - 1 - kept))
    receives(peer, [1], list(range(1, kept + 2)), peer.dropped(oos=1))
    receives(peer, [kept + 2], [kept + 2])
