// SPDX-License-Identifier: GPL-2.0

//! Packets that were received and are not wanted, and why.
//!
//! `skb:kfree_skb` and drop_monitor show a reason of the core's, the closest that there is: a module
//! cannot add any. The event `l2tp:pkt_drop` has the exact one, and the session.

use crate::{
    abstractions::net::skbuff::{
        DropReason,
        Skb, //
    },
    seq,
    session::Session,
    trace,
    uapi::drop_reason, //
};

/// Why a packet is dropped.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Reason {
    /// Over IP: not even a session id, or no whole control header behind a session id of zero. In a
    /// session: no whole Ethernet header.
    TooShort = drop_reason::TOO_SHORT,
    /// Over IP: neither data nor a control message.
    BadControl = drop_reason::BAD_CONTROL,
    /// A control message, or what nobody knows, for no socket that somebody reads.
    NoListener = drop_reason::NO_LISTENER,
    /// Over IP: there is no session with this id. Over UDP, such messages go to the socket's owner.
    UnknownSession = drop_reason::UNKNOWN_SESSION,
    /// Over IP: the session is of a UDP tunnel.
    WrongEncap = drop_reason::WRONG_ENCAP,
    /// It comes from another address than the peer's, or was sent to another than ours.
    NotThePeer = drop_reason::NOT_THE_PEER,
    /// Over IP, the header is not all there; or the offset of version 2 goes beyond the end.
    Truncated = drop_reason::TRUNCATED,
    /// The cookie is not the session's.
    Cookie = drop_reason::COOKIE,
    /// There is no sequence number, and one is required.
    Unnumbered = drop_reason::UNNUMBERED,
    /// See [`seq::Reason`].
    OutsideWindow = drop_reason::OUTSIDE_WINDOW,
    /// See [`seq::Reason`].
    OutOfSequence = drop_reason::OUT_OF_SEQUENCE,
    /// See [`seq::Reason`].
    Duplicate = drop_reason::DUPLICATE,
    /// See [`seq::Reason`].
    QueueFull = drop_reason::QUEUE_FULL,
    /// The session has been deleted.
    Closed = drop_reason::CLOSED,
    /// The session has no socket, or its device is down or going.
    NoFarSide = drop_reason::NO_FAR_SIDE,
    /// The frame does not fit in the MTU of the session's device.
    TooLong = drop_reason::TOO_LONG,
}

impl From<seq::Reason> for Reason {
    fn from(reason: seq::Reason) -> Self {
        match reason {
            seq::Reason::OutsideWindow => Self::OutsideWindow,
            seq::Reason::OutOfSequence => Self::OutOfSequence,
            seq::Reason::Duplicate => Self::Duplicate,
            seq::Reason::QueueFull => Self::QueueFull,
        }
    }
}

impl Reason {
    /// The closest one that the core has.
    const fn of_core(self) -> DropReason {
        match self {
            Self::TooShort => DropReason::PKT_TOO_SMALL,
            Self::BadControl => DropReason::INVALID_PROTO,
            Self::NoListener => DropReason::NO_SOCKET,
            Self::UnknownSession => DropReason::UNHANDLED_PROTO,
            Self::WrongEncap => DropReason::IP_NOPROTO,
            Self::NotThePeer => DropReason::IP_RPFILTER,
            Self::Truncated => DropReason::HDR_TRUNC,
            // Meant for another kind of cookie; but there is no other that says so.
            Self::Cookie => DropReason::TC_COOKIE_ERROR,
            // These are TCP's, and mean just this.
            Self::Unnumbered | Self::OutsideWindow | Self::OutOfSequence => {
                DropReason::TCP_INVALID_SEQUENCE
            }
            Self::Duplicate => DropReason::TCP_OLD_SEQUENCE,
            Self::QueueFull => DropReason::FULL_RING,
            Self::Closed => DropReason::QUEUE_PURGE,
            Self::NoFarSide => DropReason::DEV_READY,
            Self::TooLong => DropReason::PKT_TOO_BIG,
        }
    }
}

/// Drops a packet, of which no more is known than what it says is its session, or 0.
#[cold]
pub fn discard(skb: Skb, reason: Reason, session_id: u32) {
    // CAST: The enumerators are 32 bits wide, as are lengths of packets.
    trace::pkt_drop(|| (0, session_id, skb.len() as u32, reason as u32));
    skb.discard(reason.of_core());
}

/// Drops a packet of a session.
#[cold]
pub fn discard_of(session: &Session, skb: Skb, reason: Reason) {
    let (tunnel_id, session_id) = (session.tunnel().tunnel_id(), session.session_id());
    // CAST: As above.
    trace::pkt_drop(|| {
        (
            tunnel_id.get(),
            session_id.get(),
            skb.len() as u32,
            reason as u32,
        )
    });
    skb.discard(reason.of_core());
}
