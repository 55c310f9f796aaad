// SPDX-License-Identifier: GPL-2.0

//! `l2tp/tunnels` in debugfs: the tunnels and sessions of the namespace of whoever opens it, for
//! people. The format is that of C, line by line.
//!
//! C has reference counts in it. Ours cannot be read: the numbers are those of references that are
//! known to be there, so that what is missing in them is not a leak.

use crate::{
    abstractions::net::{
        debugfs::{
            Directory,
            Slot, //
        },
        sock::Endpoints, //
    },
    listing::{
        show_counters,
        show_interface,
        show_seq,
        Format, //
    },
    prelude::*,
    session::Session,
    tunnel::Tunnel,
    wire::ids::{
        Cookie,
        EncapType,
        L2SpecType,
        PwType, //
    }, //
};
use core::net::IpAddr;
use kernel::{
    fmt,
    seq_file::{
        seq_print,
        SeqFile, //
    }, //
};

/// The file.
pub struct Tunnels;

/// The directory with the file in it. To be held by the module.
pub type Registration = Directory<Tunnels>;

static SLOT: Slot<Tunnels> = Slot::new();

/// Makes the file: see [`Directory::new`].
pub fn open(module: &'static ThisModule) -> Registration {
    Directory::new(c"l2tp", &SLOT, module)
}

/// A tunnel in the table of ids, that of sockets, and the registry.
const TUNNEL_REFS: usize = 3;

/// A session in a hash table and in the registry.
const SESSION_REFS: usize = 2;

impl Format for Tunnels {
    const NAME: &'static CStr = c"tunnels";

    fn wants(_tunnel: &Tunnel) -> bool {
        true
    }

    fn show_header(out: &SeqFile) {
        seq_print!(
            out,
            "TUNNEL ID, peer ID from IP to IP\n \
             L2TPv2/L2TPv3, UDP/IP\n \
             sessions session-count, refcnt refcnt/sk->refcnt\n \
             debug tx-pkts/bytes/errs rx-pkts/bytes/errs\n  \
             SESSION ID, peer ID, PWTYPE\n   \
             refcnt cnt\n   \
             offset OFFSET l2specific TYPE/LEN\n   \
             [ cookie ]\n   \
             [ peer cookie ]\n   \
             config mtu/mru/rcvseq/sendseq/dataseq/lns debug reorderto\n   \
             nr/ns tx-pkts/bytes/errs rx-pkts/bytes/errs\n"
        );
    }

    fn show_tunnel(out: &SeqFile, tunnel: &Tunnel, sessions: usize) {
        let sock = tunnel.sock();
        seq_print!(
            out,
            "\nTUNNEL {} peer {}",
            tunnel.tunnel_id().get(),
            tunnel.peer_tunnel_id().get()
        );
        if sock.is_inet6() {
            let (saddr, daddr) = sock.endpoints_v6();
            let (saddr, daddr) = (Address(saddr.into()), Address(daddr.into()));
            seq_print!(out, " from {saddr} to {daddr}\n");
        } else if let Endpoints::V4 { saddr, daddr } = sock.endpoints() {
            let (saddr, daddr) = (Address(saddr.into()), Address(daddr.into()));
            seq_print!(out, " from {saddr} to {daddr}\n");
        }
        if tunnel.encap() == EncapType::Udp {
            let (source, dest) = sock.ports();
            seq_print!(out, " source port {source}, dest port {dest}\n");
        }
        seq_print!(
            out,
            " L2TPv{}, {}\n {sessions} sessions, refcnt {}/{}\n 00000000",
            tunnel.version().get(),
            match tunnel.encap() {
                EncapType::Udp => "UDP",
                EncapType::Ip => "IP",
            },
            sock.ref_count(),
            sessions.saturating_add(TUNNEL_REFS)
        );
        show_counters(out, "tx ", "rx ", &tunnel.stats());
    }

    fn show_session(out: &SeqFile, session: &Session) {
        seq_print!(
            out,
            "  SESSION {}, peer {}, {}\n",
            session.session_id().get(),
            session.peer_session_id().get(),
            match session.pw_type() {
                PwType::Eth => "ETH",
                PwType::Ppp => "PPP",
                _ => "",
            }
        );
        let (ns, nr) = session.numbers();
        if session.send_seq() || session.recv_seq() {
            seq_print!(out, "   nr {nr}, ns {ns}\n");
        }
        let (recv, send, mode) = show_seq(session);
        let (l2spec, l2spec_len) = match session.l2spec() {
            L2SpecType::None => (0, 0),
            L2SpecType::Default => (1, 4),
        };
        seq_print!(
            out,
            "   refcnt {SESSION_REFS}\n   config 0/0/{recv}/{send}/-/{mode} 00000000 {}\n   \
             offset 0 l2specific {l2spec}/{l2spec_len}\n",
            session.reorder_timeout_ms()
        );
        show_cookie(out, "cookie", session.cookie());
        show_cookie(out, "peer cookie", session.peer_cookie());
        seq_print!(out, "   {nr}/{ns}");
        show_counters(out, "tx ", "rx ", &session.stats());
        show_interface(out, session);
    }
}

/// An address, as people write it.
struct Address(IpAddr);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::fmt::Display::fmt(&self.0, f)
    }
}

/// Four bytes, or eight if there are as many; those that are not there are zero.
fn show_cookie(out: &SeqFile, what: &str, cookie: &Cookie) {
    if cookie.is_empty() {
        return;
    }
    seq_print!(out, "   {what} ");
    let shown = if cookie.len() == 8 { 8 } else { 4 };
    for i in 0..shown {
        let byte = cookie.as_slice().get(i).unwrap_or(&0);
        seq_print!(out, "{byte:02x}");
    }
    seq_print!(out, "\n");
}
