// SPDX-License-Identifier: GPL-2.0

//! The trace events of the group `l2tp`: what happens to tunnels, sessions, and numbered frames.
//!
//! Names and fields are those of C, so that scripts go on working. An event that is off costs nothing:
//! what it tells is worked out by a closure that is not called.

use crate::{
    abstractions::tracepoint::tracepoints,
    seq,
    session::Session,
    tunnel::Tunnel,
    wire::ids::{
        SessionId,
        TunnelId, //
    }, //
};

mod event {
    //! The tracepoints as C knows them.

    use super::tracepoints;

    tracepoints! {
        pub fn register_tunnel(fd: i32, tid: u32, ptid: u32, version: i32, encap: u16);
        pub fn delete_tunnel(tid: u32);
        pub fn free_tunnel(tid: u32);
        pub fn register_session(tid: u32, ptid: u32, sid: u32, psid: u32, pwtype: u16);
        pub fn delete_session(tid: u32, sid: u32);
        pub fn free_session(tid: u32, sid: u32);
        pub fn session_seqnum_lns_enable(tid: u32, sid: u32);
        pub fn session_seqnum_lns_disable(tid: u32, sid: u32);
        pub fn session_seqnum_update(tid: u32, sid: u32, ns: u32, nr: u32);
        pub fn session_seqnum_reset(tid: u32, sid: u32, ns: u32, nr: u32);
        pub fn session_pkt_expired(
            tid: u32, sid: u32, pkt_ns: u32, my_nr: u32, reorder_q_len: u32,
        );
        pub fn session_pkt_outside_rx_window(
            tid: u32, sid: u32, pkt_ns: u32, my_nr: u32, reorder_q_len: u32,
        );
        pub fn session_pkt_oos(
            tid: u32, sid: u32, pkt_ns: u32, my_nr: u32, reorder_q_len: u32,
        );
        pub fn pkt_drop(tid: u32, sid: u32, len: u32, reason: u32);
    }
}

pub use event::pkt_drop;

/// A tunnel can be found.
pub fn register_tunnel(tunnel: &Tunnel) {
    event::register_tunnel(|| {
        (
            tunnel.fd(),
            tunnel.tunnel_id().get(),
            tunnel.peer_tunnel_id().get(),
            tunnel.version().get().into(),
            tunnel.encap().get(),
        )
    });
}

/// A tunnel can be found no more.
pub fn delete_tunnel(tunnel: &Tunnel) {
    event::delete_tunnel(|| (tunnel.tunnel_id().get(),));
}

/// Tells, when it is dropped, that a tunnel is freed.
pub struct EndOfTunnel {
    /// Of the tunnel that this is in.
    pub tunnel_id: TunnelId,
}

impl Drop for EndOfTunnel {
    fn drop(&mut self) {
        event::free_tunnel(|| (self.tunnel_id.get(),));
    }
}

/// Ids of tunnel and session.
#[inline]
fn ids(session: &Session) -> (u32, u32) {
    (
        session.tunnel().tunnel_id().get(),
        session.session_id().get(),
    )
}

/// A session can be found.
pub fn register_session(session: &Session) {
    event::register_session(|| {
        let (tid, sid) = ids(session);
        (
            tid,
            session.tunnel().peer_tunnel_id().get(),
            sid,
            session.peer_session_id().get(),
            session.pw_type().get(),
        )
    });
}

/// A session can be found no more.
pub fn delete_session(session: &Session) {
    event::delete_session(|| ids(session));
}

/// Tells, when it is dropped, that a session is freed.
pub struct EndOfSession {
    /// Of the tunnel of the session that this is in.
    pub tunnel_id: TunnelId,
    /// Of the session.
    pub session_id: SessionId,
}

impl Drop for EndOfSession {
    fn drop(&mut self) {
        event::free_session(|| (self.tunnel_id.get(), self.session_id.get()));
    }
}

/// The peer, who is the LNS, has switched our sequence numbers on or off.
#[cold]
#[inline(never)]
pub fn seqnum_by_lns(session: &Session, on: bool) {
    if on {
        event::session_seqnum_lns_enable(|| ids(session));
    } else {
        event::session_seqnum_lns_disable(|| ids(session));
    }
}

/// A frame was sent with a number.
#[inline]
pub fn sent(session: &Session) {
    event::session_seqnum_update(|| {
        let ((tid, sid), (ns, nr)) = (ids(session), session.numbers());
        (tid, sid, ns, nr)
    });
}

/// A frame is about to be delivered. If it has a number, that has changed Nr.
#[inline]
pub fn delivered<T>(session: &Session, delivery: &seq::Delivery<T>) {
    let Some(pkt_ns) = delivery.ns else {
        return;
    };
    if delivery.reset {
        event::session_seqnum_reset(|| {
            let (tid, sid) = ids(session);
            (tid, sid, session.ns(), pkt_ns)
        });
    }
    event::session_seqnum_update(|| {
        let (tid, sid) = ids(session);
        (tid, sid, session.ns(), session.space().next(pkt_ns))
    });
}

/// A frame with the number `pkt_ns`, when `nr` was expected, with `waiting` others.
#[inline]
pub fn expired(session: &Session, pkt_ns: u32, nr: u32, waiting: usize) {
    event::session_pkt_expired(|| numbered(session, pkt_ns, nr, waiting));
}

/// As above: what is wrong with the number of a frame.
#[inline]
pub fn refused(session: &Session, reason: seq::Reason, pkt_ns: u32, nr: u32, waiting: usize) {
    match reason {
        seq::Reason::OutsideWindow => {
            event::session_pkt_outside_rx_window(|| numbered(session, pkt_ns, nr, waiting));
        }
        seq::Reason::OutOfSequence => {
            event::session_pkt_oos(|| numbered(session, pkt_ns, nr, waiting));
        }
        // C has no events for these.
        seq::Reason::Duplicate | seq::Reason::QueueFull => (),
    }
}

fn numbered(session: &Session, pkt_ns: u32, nr: u32, waiting: usize) -> (u32, u32, u32, u32, u32) {
    let (tid, sid) = ids(session);
    // CAST: A few frames.
    (tid, sid, pkt_ns, nr, waiting as u32)
}
