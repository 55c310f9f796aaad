// SPDX-License-Identifier: GPL-2.0

//! Going through the tunnels and sessions of a namespace, for files that list them.
//!
//! A file is read in pieces, between which things come and go: a place is remembered by its ids, and
//! what is at it, or behind it, is looked for anew. Nothing is held from one piece to the next.

use crate::{
    abstractions::net::{
        net_namespace::Net,
        seq_net::List, //
    },
    l2tp_core::{
        session_order,
        Namespace, //
    },
    prelude::*,
    session::Session,
    stats::Snapshot,
    tunnel::Tunnel,
    wire::ids::{
        SessionId,
        TunnelId, //
    }, //
};
use kernel::{
    seq_file::{
        seq_print,
        SeqFile, //
    },
    sync::{
        Arc,
        ArcBorrow, //
    }, //
};

/// A file: which tunnels it lists, and how.
pub trait Format: 'static {
    /// The name of the file.
    const NAME: &'static CStr;

    /// Whether a tunnel, and with it its sessions, is listed.
    fn wants(tunnel: &Tunnel) -> bool;

    /// Writes what the lines mean.
    fn show_header(out: &SeqFile);

    /// Writes a tunnel, which has this many sessions.
    fn show_tunnel(out: &SeqFile, tunnel: &Tunnel, sessions: usize);

    /// Writes a session. May sleep.
    fn show_session(out: &SeqFile, session: &Session);
}

impl<F: Format> List for F {
    const NAME: &'static CStr = F::NAME;

    type Place = Place;
    type Record = Record;

    fn find(net: &Net, place: &mut Place) -> Option<Record> {
        find(net, place, F::wants)
    }

    fn pass(place: &mut Place) {
        pass(place);
    }

    fn show(record: &Record, out: &SeqFile) {
        match record {
            Record::Header => F::show_header(out),
            Record::Tunnel(tunnel, sessions) => F::show_tunnel(out, tunnel, *sessions),
            Record::Session(session) => F::show_session(out, session),
        }
    }
}

/// What is listed.
pub enum Record {
    /// What the lines mean.
    Header,
    /// A tunnel, and how many sessions it has.
    Tunnel(Arc<Tunnel>, usize),
    /// A session.
    Session(Arc<Session>),
}

/// One of the following, the lowest tunnel id, and in that tunnel the lowest session id.
pub type Place = [u64; 3];

const HEADER: u64 = 0;
const TUNNEL: u64 = 1;
const SESSION: u64 = 2;

/// The first record that is not before `place`, which moves there: of tunnels that are `wanted`, and
/// of their sessions. May sleep.
fn find(net: &Net, place: &mut Place, wanted: impl Fn(&Tunnel) -> bool) -> Option<Record> {
    let [mut kind, mut tunnel_id, session_id] = *place;
    if kind == HEADER {
        return Some(Record::Header);
    }
    let namespace = Namespace::of(net)?;
    loop {
        let from = TunnelId::new(u32::try_from(tunnel_id).ok()?);
        let tunnel = namespace.next_tunnel(from)?;
        let id = u64::from(tunnel.tunnel_id().get());
        if kind == SESSION && id == tunnel_id {
            if let Some(session) = next_session(namespace, &tunnel, session_id) {
                *place = [SESSION, id, order(&session)];
                return Some(Record::Session(session));
            }
        } else if wanted(&tunnel) {
            *place = [TUNNEL, id, 0];
            let sessions = namespace.session_count(&tunnel);
            return Some(Record::Tunnel(tunnel, sessions));
        }
        kind = TUNNEL;
        tunnel_id = id.wrapping_add(1);
    }
}

/// Moves to the place behind that of a record that was found.
fn pass(place: &mut Place) {
    let [kind, tunnel_id, session_id] = *place;
    *place = match kind {
        HEADER => [TUNNEL, 0, 0],
        TUNNEL => [SESSION, tunnel_id, 0],
        _ => [SESSION, tunnel_id, session_id.wrapping_add(1)],
    };
}

/// Where a session stands in the order of its tunnel.
fn order(session: &Session) -> u64 {
    session_order(session.tunnel(), session.session_id()).into()
}

/// The session with the lowest id that is not below `from`, and is not hidden.
fn next_session(
    namespace: ArcBorrow<'_, Namespace>,
    tunnel: &Tunnel,
    mut from: u64,
) -> Option<Arc<Session>> {
    loop {
        let id = SessionId::new(u32::try_from(from).ok()?);
        let session = namespace.next_session(tunnel, id)?;
        if !session.is_hidden() {
            return Some(session);
        }
        from = order(&session).wrapping_add(1);
    }
}

/// `R` if numbers are required, `S` if they are sent, and who decides about that.
pub fn show_seq(session: &Session) -> (char, char, &'static str) {
    (
        if session.recv_seq() { 'R' } else { '-' },
        if session.send_seq() { 'S' } else { '-' },
        if session.lns_mode() { "LNS" } else { "LAC" },
    )
}

/// Writes the counters: packets, bytes and errors, after a word for each way.
pub fn show_counters(out: &SeqFile, tx: &str, rx: &str, stats: &Snapshot) {
    seq_print!(
        out,
        " {tx}{}/{}/{} {rx}{}/{}/{}\n",
        stats.tx_packets,
        stats.tx_bytes,
        stats.tx_errors,
        stats.rx_packets,
        stats.rx_bytes,
        stats.rx_errors
    );
}

/// Writes the name of the interface at the far side of a session, if there is one.
pub fn show_interface(out: &SeqFile, session: &Session) {
    let Some(name) = session.pseudowire().interface() else {
        return;
    };
    if let Ok(name) = CStr::from_bytes_until_nul(&name) {
        seq_print!(out, "   interface {name}\n");
    }
}
