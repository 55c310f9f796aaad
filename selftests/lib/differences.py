# SPDX-License-Identifier: GPL-2.0
"""Every place where the Rust module deliberately behaves unlike the C modules.

A test picks its expectation with `expect("ID", c=…, rust=…)`; test_suite.py checks that every
entry is used and every use has an entry.  Numbers are those of abi.md.
"""

from dataclasses import dataclass
from typing import TypeVar

from lib.system import impl

T = TypeVar("T")


@dataclass(frozen=True)
class Difference:
    abi: str
    why: str


_ALL: dict[str, Difference] = {}


def DIFF(name: str, abi: str, why: str) -> None:
    assert name not in _ALL, name
    _ALL[name] = Difference(abi, why)


def all_differences() -> dict[str, Difference]:
    return dict(_ALL)


def expect(name: str, *, c: T, rust: T) -> T:
    """The expectation for the implementation under test."""
    assert name in _ALL, f"{name} is not a known difference"
    return rust if impl() == "rust" else c


DIFF("B1", "2.6", "C accepts a second session with the same id in one v3 UDP tunnel and the first "
     "becomes unreachable; EEXIST is what every other row of the matrix gives.")
DIFF("B5", "2.4", "C takes an IPv6 address shorter than 16 bytes and reads past the attribute; "
     "refusing it cannot break a client that worked.")
DIFF("B6", "2.5.5", "C treats FD=-1 as 'no fd' but skips the address check and makes an "
     "unconnected kernel socket on an ephemeral port; ours checks the addresses.")
DIFF("B9", "2.8.1", "C turns a reorder timeout of 2^31 ms and more into a negative number of "
     "jiffies; ours refuses it or keeps a sane value.")
DIFF("VERSION", "2.5.1", "C accepts any PROTO_VERSION; tunnels other than 2 and 3 can never carry "
     "a frame, so EINVAL tells the caller what is wrong.")
DIFF("WRONG-TUNNEL", "2.5.19", "C finds a v3 session by id alone, through any existing tunnel id, "
     "and so modifies or deletes a session the caller did not name; ours answers ENODEV.")
DIFF("EXTACK", "11.5", "C gives no extended-ack messages of its own; ours names the attribute of "
     "each EINVAL.")
DIFF("SYNC-DELETE", "3.8.1", "C deletes from a worker after the reply, so a client that re-creates "
     "the object at once sees EEXIST; ours has freed ids, ports and names when the ACK arrives.")
DIFF("LINK-KIND", "5.1, 5.5", "C's device has no rtnl kind and 'ip link del' gives EOPNOTSUPP; "
     "ours has kind l2tpeth and deleting it deletes the session.")
DIFF("OTHERHOST", "1.13", "A frame for another host that is bridged into a tunnel to the host "
     "itself, over lo or a VRF, is dropped by IP at the far end, as C leaves the mark of it on the "
     "packet; ours takes it off.")
DIFF("ETHTOOL", "5.1", "Of a device of C's, ethtool knows nothing; of ours, the session's counters.")
DIFF("V2-IDS", "2.5.8", "C hides the sessions of a v2 tunnel whose id has more than 16 bits from "
     "dumps, though it finds them by id; ours shows what there is.")
DIFF("PW-AUTOLOAD", "2.12", "C asks modprobe for net-l2tp-type-<n>; the Rust module is one piece "
     "with no way for another module to add a pseudowire, so there is nothing to load.")
DIFF("B19", "11.4", "C hits BUG() when pktgen's shared skbs are sent straight onto l2tpeth; ours "
     "must survive, so the test runs for rust only.")
DIFF("QDISC", "5.1, T1", "C's device gets the default qdisc and pays its root lock per packet; "
     "ours is noqueue like other tunnel devices.")
DIFF("B8", "4.5.1", "C counts the number to send without a lock or an atomic, so that two processors "
     "may send the same one, which the peer drops; ours never does, so the test runs for rust only.")
DIFF("B17", "1.11", "C counts a packet as sent that a queue of the underlying device has dropped; ours "
     "counts it as an error, as other tunnel devices do.")
DIFF("B21", "1.13", "C's device counts received bytes with the L2TP header, sent bytes without; "
     "ours counts the frame both ways, as every other Ethernet device does.")
DIFF("B24", "1.7.4", "In C, an IP packet that guesses a session id and cookie reaches a session of a "
     "UDP tunnel, and the other way round, so that it gets past a firewall that knows one of them; "
     "ours refuses it and counts it at the tunnel; and so a message with other outer addresses than "
     "those of the tunnel, unless the sysctl net.l2tp.check_peer is 0.")
DIFF("V2-IP", "2.5.2", "C accepts a tunnel of version 2 over IP, which RFC 2661 does not know and which "
     "can receive nothing; EINVAL tells the caller.")
DIFF("NO-NAME", "2.5.18", "In C, an empty IFNAME finds, modifies or deletes the first session without "
     "a device; ours answers ENODEV.")
DIFF("SHORT-V2", "1.7.1", "C passes a v2 data message of less than 14 bytes up to the daemon, so that a "
     "short compressed PPP frame is lost; ours delivers it.")
DIFF("LOOP", "B20", "A frame that its own tunnel sends back through its device: C is saved by its queue "
     "only, and not without one; ours stops at a fixed depth, so the test runs for rust only.")
DIFF("B31", "1.8.4", "C registers no ICMP error handler for protocol 115, so an IPv6 path narrower "
     "than the first hop loses every large packet; ours learns from packet-too-big and redirects, "
     "and queues errors for sockets that ask for it (IP_RECVERR, IPV6_RECVERR), for no others.")
DIFF("IP-REFS", "3.9", "How many module references a kernel-made L2TP/IP socket holds is C's "
     "arrangement of modules; what matters is that the count returns to its start value.")
DIFF("OFFLOAD", "11.1, T2", "C's device has no offloads, so that each segment of a stream goes alone "
     "through the stack; ours takes unfinished frames, as other tunnel devices do.")
DIFF("GRO", "11.1, T2", "C's device hands each segment of a stream to the stack alone; ours merges "
     "those that come in together, as other tunnel devices do, unless frames are numbered.")
DIFF("HEADROOM", "5.2, T6", "C advertises too little headroom and demands more than it needs, so "
     "it may reallocate packet heads on transmit; ours must never.")
DIFF("UNREAD", "1.7.6", "C queues what it cannot use on the kernel socket of an unmanaged tunnel, "
     "which nobody reads, until its buffer is full; ours must not keep it.")
DIFF("SEQ-GAP", "1.11", "C uses up a sequence number for a frame that it then cannot send, and the "
     "peer discards up to five good frames behind the gap; ours takes the number last.")
DIFF("SEQ-FIRST", "4.2.2", "C refuses the first numbered frame of a session if its number is in the "
     "upper half, so that after a restart of one side nothing may pass for millions of frames; ours "
     "follows whatever comes first.")
DIFF("SEQ-LATE", "4.4.4", "C discards a frame that has waited in vain for one before it, and so loses "
     "two frames where the network lost one; ours delivers it.")
DIFF("SEQ-TIMER", "4.4.3", "C looks at the reorder queue only when another frame of the session "
     "arrives, so that a frame stays queued for ever on an idle session; ours has a timer.")
DIFF("SEQ-TWIN", "4.4.5", "C queues a duplicate of a queued frame, which then blocks the frames "
     "behind it until it expires; ours drops it, as it does a late duplicate.")
DIFF("SEQ-WRAP", "4.4.6", "C sorts the reorder queue by number and not by distance, so that frames "
     "reordered around the wrap of numbers are all lost; ours delivers them in order.")
DIFF("SEQ-RESYNC", "4.2.1", "C refuses what is outside the window for ever: a peer that starts again "
     "is not heard until it has caught up; ours follows it after 64 frames in a row.")
DIFF("SEQ-BOUND", "4.4.7", "C queues frames without limit while one is missing; ours holds 1024 of "
     "them, so that a peer cannot make us run out of memory.")
DIFF("B13", "6.3.2", "C's IPv4 socket keeps the address of a bind that failed with EADDRINUSE, and "
     "a later bind to any address does not clear it; ours is as it was before.")
DIFF("GETPEERNAME", "6.3.9", "C answers ENOTCONN for a connected socket whose peer has no port "
     "(IPv4) or the id 0 (IPv6); ours answers whenever the socket is connected.")
DIFF("DISCONNECT", "6.3.8", "C's IPv6 socket keeps its peer's address when it is disconnected, for "
     "getpeername and as the only one it hears; ours forgets it, as IPv4 does.")
DIFF("ERRQUEUE", "6.6.3", "C ignores MSG_ERRQUEUE over IPv4 and returns data as if it were an "
     "error; ours reads the error queue, as over IPv6.")
DIFF("FINAL", "1.8.6", "C's IPv6 handler is not marked as that of a payload: L2TP inside another "
     "encapsulation is thrown away, and groups are not checked for the source. Ours is.")
DIFF("FILTER", "6.4.2", "C runs a socket's filter twice for each packet, so that one that cuts a "
     "packet cuts it twice; ours runs it once.")
DIFF("DISCARDS", "6.4.2", "C tests the receive buffer twice; what the first test refuses it counts "
     "on the socket only; ours counts it as InDiscards as well, as C does after the second.")
DIFF("IN-USE", "6.4.2", "C puts a packet for a socket that a task owns aside until the task is "
     "done; ours queues it at once, as the queue has a lock of its own.")
DIFF("T4", "11.1", "C drops data for the tunnel of a socket that a task owns, so each control "
     "message that is being sent may lose frames; ours does not look at the socket lock.")
DIFF("UNCONNECTED", "2.5.7", "C sends what a kernel socket without a peer gets to the loopback "
     "address, port 0, and counts it as sent; ours drops it and counts that.")
DIFF("ERR-HOOK", "3.3", "C leaves its error hook on a socket whose tunnel was deleted: the owner "
     "can bring it back to life by setsockopt(UDP_ENCAP), when the module may be gone; ours takes "
     "it away.")
DIFF("UNHEARD-CLOSE", "3.3.1", "UDP says that a socket closes only if it has a type of encapsulation, "
     "which its owner can take away. Then C's tunnel stays, and keeps the socket's namespace; ours "
     "ends within seconds.")
DIFF("OTHER-ENCAP", "3.3.1", "Deleting a tunnel, C takes every hook from its UDP socket, those of "
     "another kind of encapsulation too, which the owner has set since; ours takes its own.")
DIFF("TWIN-SOCKETS", "3.4", "Of sockets with all addresses and ports in common, UDP picks one. If "
     "a session id is shared with some other tunnel, C looks for it in the tunnel of that socket "
     "only; ours in all that have these addresses and ports.")
DIFF("PPP-CAP", "7.4.6", "C lets any user make tunnels and sessions by connect(), and take over "
     "those of others; ours asks for CAP_NET_ADMIN in the namespace, as netlink does for the "
     "same things. pppd and every daemon have it.")
DIFF("PPP-MGMT", "7.4.3", "C looks for v3 session 0 in the whole namespace, so that only one v3 "
     "tunnel can have a management socket, and shows it in dumps; ours has one for each tunnel, "
     "hidden.")
DIFF("PPP-MGMT-DATA", "7.4, 1.7", "C queues data messages of session 0 on the management socket, "
     "which no program reads; ours passes them to the daemon, as those of any unknown session.")
DIFF("PPP-TUNNEL", "7.4.4", "C looks for a v3 session by id alone and may join one of another "
     "tunnel; ours joins a session of the tunnel that the address names.")
DIFF("PPP-SEND", "7.7.1", "C reports success for a frame that fits in no datagram, and allocates "
     "memory for it whatever its length; ours refuses more than 65535 bytes with EMSGSIZE.")
DIFF("TOO-LONG", "1.2, 7.7.1", "C sends messages over IPv4 that are longer than an IP packet can "
     "be, with a length that is not theirs, and counts them as sent; ours drops them and counts an "
     "error.")
DIFF("PPP-PROC", "7.11", "C shows a reference count where its header says session-count; ours "
     "shows the number of sessions.")
DIFF("PPP-REWIND", "7.11", "C's listing forgets to start over when the file is rewound, and "
     "shows nothing but the header then.")
DIFF("PPP-UNLOAD", "3.9, B4", "C's l2tp_ppp can be unloaded under sessions without socket, whose "
     "callbacks then point to freed memory; ours ends all sessions first.")
DIFF("PPP-BRIDGE-CSUM", "7.10.8", "C pulls headers of a frame whose outer checksum is left to the "
     "device (veth, virtio) without telling it; put into a tunnel with a shorter header, it "
     "fails the checksum. Ours hands on frames that need no checksum.")
DIFF("EVENTS", "2.10.2, 7.4.7", "C announces what netlink requests do, nothing else; ours every "
     "change, so that a listener's picture stays right: sessions that go with their tunnel or "
     "device, sockets that close, PPP sockets. Such events have no port and sequence number, so "
     "that nobody takes them for an answer.")
DIFF("DEBUGFS-REWIND", "8.1.1", "C's listing in debugfs goes on from where it was when the file is "
     "rewound, after its header; ours starts over.")
DIFF("TRACE-TEXT", "8.2", "C prints session ids in place of tunnel ids in the text of "
     "register_session, and takes the descriptor 0 for none in register_tunnel; trace-cmd, which prints "
     "by itself, gets numbers in place of names. Ours prints what the fields say.")
DIFF("TRACE-TYPE", "8.2", "Two fields of events are enumerations in C, so that bpftrace, which does not "
     "know what they are, cannot be used for these events; they are numbers in ours.")
DIFF("PKT-DROP", "8.2", "C has no event for a packet that is dropped, apart from two that are about "
     "sequence numbers; ours has one, with the reason.")
DIFF("DROP-REASON", "11.2 R8", "C frees what it drops without a reason, so that drop_monitor cannot "
     "tell a wrong cookie from an unknown session; ours gives the closest reason that the core has.")
