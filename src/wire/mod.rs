// SPDX-License-Identifier: GPL-2.0

//! L2TP on the wire: receive in two steps, transmit from a template.
//!
//! Receiving begins with [`peek_udp`] or [`peek_ip`], which need no state and yield the ids. The
//! rest of the header is parsed by [`v2::parse`] or [`v3::parse`] once the session is known. Both
//! steps return values and offsets, never a borrow of the packet, because what comes next changes
//! the packet.
//!
//! Nothing here may panic, whatever the bytes: no indexing, no unchecked arithmetic.

#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

pub mod ids;
pub mod outer;
pub mod v2;
pub mod v3;

use self::ids::{
    Cookie,
    EncapType,
    L2SpecType,
    SessionId,
    TunnelId,
    Version, //
};

/// T bit of the flags word: control message.
const HDR_FLAG_T: u16 = 0x8000;
/// L bit: the Length field is present.
const HDR_FLAG_L: u16 = 0x4000;
/// S bit: Ns and Nr are present.
const HDR_FLAG_S: u16 = 0x0800;
/// O bit: the Offset Size field is present.
const HDR_FLAG_O: u16 = 0x0200;
/// Protocol version.
const HDR_VER_MASK: u16 = 0x000f;

/// How many bytes [`peek_udp`] wants to see of a datagram that has them: the longest header of
/// version 2, and all of a v3 header that does not depend on the session.
pub const UDP_PEEK_LEN: usize = 14;

/// How many bytes [`peek_ip`] wants to see of a packet that has them; 4 are enough for data.
pub const IP_PEEK_LEN: usize = 16;

/// How many bytes precede the control header in a control message over IP (RFC 3931 section
/// 4.1.1.2): a session id of zero, which sockets do not get to see.
pub const IP_CONTROL_AT: usize = 4;

/// Reads two bytes in network order.
#[inline]
fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u16::from_be_bytes)
}

/// Reads four bytes in network order.
#[inline]
fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u32::from_be_bytes)
}

/// What a UDP datagram looks like before any session is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpPeek {
    /// Not for the datapath: a control message of any version, one without whole ids, or one that is
    /// not of version 2 and has fewer than [`UDP_PEEK_LEN`] bytes.
    PassUp,
    /// A v2 data message. Go on with [`v2::parse`].
    V2 {
        /// Tunnel the peer believes to be ours, 16 bits.
        tunnel_id: TunnelId,
        /// Session within that tunnel, 16 bits.
        session_id: SessionId,
    },
    /// A data message of any other version, read as v3. Go on with [`v3::parse`].
    V3 {
        /// Session the peer believes to be ours.
        session_id: SessionId,
        /// The Ver nibble, to be compared with the version of the session's tunnel.
        version: u8,
    },
}

/// Looks at a UDP payload, of which at least [`UDP_PEEK_LEN`] bytes must be given if it has them.
#[inline]
pub fn peek_udp(bytes: &[u8]) -> UdpPeek {
    try_peek_udp(bytes).unwrap_or(UdpPeek::PassUp)
}

#[inline]
fn try_peek_udp(bytes: &[u8]) -> Option<UdpPeek> {
    let flags = be16(bytes, 0)?;
    if flags & HDR_FLAG_T != 0 {
        return None;
    }

    let version = flags & HDR_VER_MASK;
    if version == 2 {
        // Its header may be as short as 6 bytes, and a compressed PPP frame even shorter.
        let (tunnel_id, session_id) = v2::ids(bytes, flags)?;
        Some(UdpPeek::V2 {
            tunnel_id,
            session_id,
        })
    } else {
        // With less, there is no frame in it: not an Ethernet frame, nor a PPP frame with the
        // address field that is always sent. User space gets to see it, as it always did.
        let bytes: &[u8; UDP_PEEK_LEN] = bytes.first_chunk()?;
        Some(UdpPeek::V3 {
            session_id: SessionId::new(be32(bytes, 4)?),
            // CAST: masked to four bits.
            version: version as u8,
        })
    }
}

/// What a packet of IP protocol 115 looks like before any session is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpPeek {
    /// Fewer than four bytes: drop.
    Short,
    /// A control message; the control header begins at [`IP_CONTROL_AT`]. Its version is not
    /// checked, and `conn_id` may be zero (SCCRQ).
    Control {
        /// Control Connection ID.
        conn_id: TunnelId,
    },
    /// Would be a control message, but is too short or lacks the T or the L bit: drop.
    BadControl,
    /// A data message. Go on with [`v3::parse`].
    Data {
        /// Session the peer believes to be ours, never zero.
        session_id: SessionId,
    },
}

/// Looks at an IP payload, of which at least [`IP_PEEK_LEN`] bytes must be given if it has them.
#[inline]
pub fn peek_ip(bytes: &[u8]) -> IpPeek {
    match be32(bytes, 0) {
        None => IpPeek::Short,
        Some(0) => match control_conn_id(bytes) {
            Some(conn_id) => IpPeek::Control { conn_id },
            None => IpPeek::BadControl,
        },
        Some(session_id) => IpPeek::Data {
            session_id: SessionId::new(session_id),
        },
    }
}

/// Reads the Control Connection ID of a control message over IP, if it is one.
fn control_conn_id(bytes: &[u8]) -> Option<TunnelId> {
    const REQUIRED: u16 = HDR_FLAG_T | HDR_FLAG_L;

    let bytes: &[u8; IP_PEEK_LEN] = bytes.first_chunk()?;
    if be16(bytes, IP_CONTROL_AT)? & REQUIRED != REQUIRED {
        return None;
    }
    Some(TunnelId::new(be32(bytes, 8)?))
}

/// The data header of one session, built once and then written in front of each payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataHeader {
    /// L2TPv2.
    V2(v2::Header),
    /// L2TPv3.
    V3(v3::Header),
}

impl DataHeader {
    /// Longest header of any kind, in bytes.
    pub const MAX_LEN: usize = v3::HDR_LEN_MAX;

    /// Prepares the header of a session.
    ///
    /// The ids are those of the *peer*; `cookie` is the one we send. Version 2 has one header for
    /// both encapsulations and knows neither cookies nor sublayers; version 3 does not write the
    /// tunnel id.
    pub fn new(
        version: Version,
        encap: EncapType,
        peer_tunnel_id: TunnelId,
        peer_session_id: SessionId,
        cookie: &Cookie,
        l2spec: L2SpecType,
    ) -> Self {
        match version {
            Version::V2 => Self::V2(v2::Header::new(peer_tunnel_id, peer_session_id)),
            Version::V3 => Self::V3(v3::Header::new(encap, peer_session_id, cookie, l2spec)),
        }
    }

    /// Returns whether a sequence number has a place in this header. Without one, numbers should
    /// not be used up.
    #[inline]
    pub const fn carries_ns(&self) -> bool {
        match self {
            Self::V2(_) => true,
            Self::V3(header) => header.carries_ns(),
        }
    }

    /// Returns the length in bytes of a header with or without a sequence number.
    #[inline]
    pub const fn len(&self, sequenced: bool) -> usize {
        match self {
            Self::V2(header) => header.len(sequenced),
            Self::V3(header) => header.hdr_len(),
        }
    }

    /// Returns the length to reckon with when room is reserved.
    #[inline]
    pub const fn max_len(&self) -> usize {
        self.len(true)
    }

    /// Writes exactly [`DataHeader::len`] bytes to the start of `out`.
    ///
    /// Returns [`None`], and writes nothing, if `out` is shorter.
    #[inline]
    pub fn emit(&self, out: &mut [u8], ns: Option<u32>) -> Option<()> {
        match self {
            Self::V2(header) => header.emit(out, ns),
            Self::V3(header) => header.emit(out, ns),
        }
    }
}
