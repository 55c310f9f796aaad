// SPDX-License-Identifier: GPL-2.0

//! L2TPv2 data messages, RFC 2661 section 3.1.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-------------------------------+
//! |T|L|x|x|S|x|O|P|x|x|x|x|  Ver  |          Length (if L)        |
//! +-------------------------------+-------------------------------+
//! |           Tunnel ID           |           Session ID          |
//! +-------------------------------+-------------------------------+
//! |            Ns (if S)          |            Nr (if S)          |
//! +-------------------------------+-------------------------------+
//! |      Offset Size (if O)       |    offset pad ...             |
//! +-------------------------------+-------------------------------+
//! ```

use super::{
    be16,
    ids::{
        SessionId,
        TunnelId, //
    },
    HDR_FLAG_L,
    HDR_FLAG_O,
    HDR_FLAG_S, //
};

/// Flags word of a message with no optional fields.
const VER_2: u16 = 0x0002;

/// Longest fixed part of a data header, in bytes: everything but the offset pad.
pub const HDR_LEN_MAX: usize = 14;

/// Length of a transmitted header without sequence numbers, in bytes.
pub const HDR_LEN: usize = 6;

/// Length of a transmitted header with sequence numbers, in bytes.
pub const HDR_LEN_SEQ: usize = 10;

/// What the data header says beyond the ids that `peek_udp` has already read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data {
    /// Ns in host order, if the S bit was set. Nr means nothing in a data message.
    pub ns: Option<u16>,
    /// Where the payload begins, counted in bytes from the flags word, offset pad included.
    ///
    /// The pad size comes from the packet and is not checked: this may point beyond the packet.
    /// The caller compares, once the sequence policy has had its say (the order decides which
    /// counters move).
    pub payload: usize,
}

/// Finds the two ids, whose place depends on the L bit. `flags` is the first word of `bytes`.
#[inline]
pub(super) fn ids(bytes: &[u8], flags: u16) -> Option<(TunnelId, SessionId)> {
    let at = ids_at(flags);
    let tunnel_id = be16(bytes, at)?;
    let session_id = be16(bytes, at.checked_add(2)?)?;
    Some((TunnelId::from_v2(tunnel_id), SessionId::from_v2(session_id)))
}

#[inline]
const fn ids_at(flags: u16) -> usize {
    if flags & HDR_FLAG_L != 0 {
        4
    } else {
        2
    }
}

/// Parses the header of a v2 data message; `bytes` begins at the flags word.
///
/// Returns [`None`] if the fixed part is not fully present, which cannot happen with
/// [`HDR_LEN_MAX`] bytes. Length and Nr are skipped and never compared with anything; reserved
/// bits, P, T and Ver are not looked at (`peek_udp` did what is needed of that).
#[inline]
pub fn parse(bytes: &[u8]) -> Option<Data> {
    let flags = be16(bytes, 0)?;
    let mut at = ids_at(flags).checked_add(4)?;
    if bytes.len() < at {
        return None;
    }

    let ns = if flags & HDR_FLAG_S != 0 {
        let ns = be16(bytes, at)?;
        // Nr must be there although nobody reads it.
        be16(bytes, at.checked_add(2)?)?;
        at = at.checked_add(4)?;
        Some(ns)
    } else {
        None
    };

    if flags & HDR_FLAG_O != 0 {
        let pad = be16(bytes, at)?;
        at = at.checked_add(2)?.checked_add(usize::from(pad))?;
    }

    Some(Data { ns, payload: at })
}

/// What never changes in the data headers of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Peer tunnel id and peer session id in wire order.
    ids: [u8; 4],
}

impl Header {
    /// Prepares headers that carry the ids the *peer* assigned, cut to 16 bits.
    pub const fn new(peer_tunnel_id: TunnelId, peer_session_id: SessionId) -> Self {
        let [a, b] = peer_tunnel_id.to_v2().to_be_bytes();
        let [c, d] = peer_session_id.to_v2().to_be_bytes();
        Self { ids: [a, b, c, d] }
    }

    /// Returns the header length in bytes.
    #[inline]
    pub const fn len(&self, sequenced: bool) -> usize {
        if sequenced {
            HDR_LEN_SEQ
        } else {
            HDR_LEN
        }
    }

    /// Writes a header to the start of `out`: [`HDR_LEN`] bytes, or [`HDR_LEN_SEQ`] with a sequence
    /// number (its low 16 bits; Nr is always zero in data messages).
    ///
    /// Returns [`None`], and writes nothing, if `out` is too short.
    #[inline]
    pub fn emit(&self, out: &mut [u8], ns: Option<u32>) -> Option<()> {
        // Whole fields, not an array of single bytes: each of these is one store.
        match ns {
            None => {
                let out = out.first_chunk_mut::<HDR_LEN>()?;
                let (flags, out) = out.split_first_chunk_mut()?;
                *flags = VER_2.to_be_bytes();
                *out.first_chunk_mut()? = self.ids;
            }
            Some(ns) => {
                let out = out.first_chunk_mut::<HDR_LEN_SEQ>()?;
                let (flags, out) = out.split_first_chunk_mut()?;
                *flags = (HDR_FLAG_S | VER_2).to_be_bytes();
                let (ids, out) = out.split_first_chunk_mut()?;
                *ids = self.ids;
                // Ns in the upper half, Nr in the lower.
                *out.first_chunk_mut()? = (ns << 16).to_be_bytes();
            }
        }
        Some(())
    }
}
