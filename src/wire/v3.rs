// SPDX-License-Identifier: GPL-2.0

//! L2TPv3 data messages, RFC 3931 sections 4.1 and 4.6.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-------------------------------+
//! |T|x|x|x|x|x|x|x|x|x|x|x|  Ver  |          reserved             | UDP only
//! +-------------------------------+-------------------------------+
//! |                           Session ID                          |
//! +---------------------------------------------------------------+
//! |               cookie (optional, up to 64 bits) ...            |
//! +---------------------------------------------------------------+
//! |x|S|x x x x x x|              sequence number                  | default sublayer
//! +-+-+-----------+-----------------------------------------------+
//! ```
//!
//! Nothing in the packet tells how long the cookie is or whether the sublayer is there: the
//! session must be known first.

use super::ids::{
    Cookie,
    EncapType,
    L2SpecType,
    SessionId, //
};

/// Where the cookie begins in a data message over UDP, in bytes from the flags word.
pub const OPTIONS_AT_UDP: usize = 8;

/// Where the cookie begins in a data message over IP, in bytes from the session id.
pub const OPTIONS_AT_IP: usize = 4;

/// Longest transmitted header, in bytes: over UDP, with 8 bytes of cookie and the sublayer.
pub const HDR_LEN_MAX: usize = 20;

/// Usual lengths of a header over UDP: with and without the sublayer and a cookie.
pub const HDR_LENS_UDP: [usize; 4] = [8, 12, 16, HDR_LEN_MAX];

/// The same over IP.
pub const HDR_LENS_IP: [usize; 4] = [4, 8, 12, 16];

/// S bit of the default sublayer: the sequence number is valid.
const SL_FLAG_S: u32 = 0x4000_0000;

/// Sequence number of the default sublayer.
const SL_SEQ_MASK: u32 = 0x00ff_ffff;

/// What follows the session id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data {
    /// The cookie found, to be compared with the one required (`peer_cookie`).
    pub cookie: Cookie,
    /// Sequence number, 24 bits in host order, if the sublayer is there and its S bit is set.
    pub ns: Option<u32>,
    /// Where the payload begins, in bytes from the start of the slice that was parsed.
    pub payload: usize,
}

/// Returns how many bytes of cookie and sublayer follow the session id.
#[inline]
pub const fn options_len(cookie_len: usize, l2spec: L2SpecType) -> usize {
    cookie_len.saturating_add(l2spec.wire_len())
}

/// Parses cookie and sublayer, which begin `at` bytes into `bytes` ([`OPTIONS_AT_UDP`] or
/// [`OPTIONS_AT_IP`]).
///
/// Returns [`None`] if they are not fully present. Unused bits of the sublayer are ignored.
#[inline]
pub fn parse(bytes: &[u8], at: usize, cookie_len: usize, l2spec: L2SpecType) -> Option<Data> {
    let after_cookie = at.checked_add(cookie_len)?;
    let cookie = Cookie::from_slice(bytes.get(at..after_cookie)?)?;

    let (ns, payload) = match l2spec {
        L2SpecType::None => (None, after_cookie),
        L2SpecType::Default => {
            let sublayer = super::be32(bytes, after_cookie)?;
            let ns = if sublayer & SL_FLAG_S != 0 {
                Some(sublayer & SL_SEQ_MASK)
            } else {
                None
            };
            (ns, after_cookie.checked_add(4)?)
        }
    };

    Some(Data {
        cookie,
        ns,
        payload,
    })
}

/// The data header of one session, finished but for the sequence number.
///
/// The bytes are kept the way [`Header::emit`] stores them: whole words from the front, and one
/// word that ends where the header ends and overlaps the former. So every length takes two or
/// three stores of a fixed size, and the sublayer, always last, is patched in a register.
///
/// # Invariants
///
/// `len` is between 4 and [`HDR_LEN_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes 0 to 7, zero beyond `len`.
    first: [u8; 8],
    /// Bytes 8 to 15, zero beyond `len`.
    second: [u8; 8],
    /// The last bytes, as a big-endian number.
    tail: u64,
    /// Which bits of the sublayer a sequence number may set: none if there is no sublayer.
    sublayer_mask: u32,
    len: u8,
}

impl Header {
    /// Prepares headers that carry the id the *peer* assigned and the cookie the peer requires
    /// (`cookie`, not `peer_cookie`).
    pub fn new(
        encap: EncapType,
        peer_session_id: SessionId,
        cookie: &Cookie,
        l2spec: L2SpecType,
    ) -> Self {
        let flags: &[u8] = match encap {
            // T clear, version 3, and the reserved half.
            EncapType::Udp => &[0x00, 0x03, 0x00, 0x00],
            EncapType::Ip => &[],
        };
        let session_id = peer_session_id.get().to_be_bytes();
        let (sublayer, sublayer_mask): (&[u8], u32) = match l2spec {
            L2SpecType::None => (&[], 0),
            L2SpecType::Default => (&[0; 4], SL_FLAG_S | SL_SEQ_MASK),
        };

        let mut bytes = [0; HDR_LEN_MAX];
        let mut len = 0u8;
        let mut tail = 0;
        let header = flags
            .iter()
            .chain(&session_id)
            .chain(cookie.as_slice())
            .chain(sublayer);
        for (to, from) in bytes.iter_mut().zip(header) {
            *to = *from;
            tail = (tail << 8) | u64::from(*from);
            len = len.saturating_add(1);
        }

        let mut words = bytes
            .chunks_exact(8)
            .map(|word| word.first_chunk().copied());
        let mut word = || words.next().flatten().unwrap_or_default();
        // INVARIANT: the session id makes 4, and the iteration ended with `bytes`.
        Self {
            first: word(),
            second: word(),
            tail,
            sublayer_mask,
            len,
        }
    }

    /// Returns the header length in bytes; it is the same with and without a sequence number.
    #[inline]
    pub const fn hdr_len(&self) -> usize {
        // CAST: widening; `usize::from` is not const.
        self.len as usize
    }

    /// Returns whether there is a sublayer to put a sequence number in.
    #[inline]
    pub const fn carries_ns(&self) -> bool {
        self.sublayer_mask != 0
    }

    /// Writes a header to the first [`Header::hdr_len`] bytes of `out`.
    ///
    /// The sublayer holds the low 24 bits of the sequence number, or is zero without one. Without a
    /// sublayer the number is dropped. Returns [`None`], and writes nothing, if `out` is too short.
    #[inline]
    pub fn emit(&self, out: &mut [u8], ns: Option<u32>) -> Option<()> {
        let sublayer = match ns {
            None => 0,
            Some(ns) => (SL_FLAG_S | ns) & self.sublayer_mask,
        };
        let tail = self.tail | u64::from(sublayer);
        let len = self.hdr_len();
        let out = out.get_mut(..len)?;

        if len >= 8 {
            *out.first_chunk_mut()? = self.first;
            if len > 16 {
                *out.get_mut(8..)?.first_chunk_mut()? = self.second;
            }
            *out.last_chunk_mut()? = tail.to_be_bytes();
        } else {
            // Over IP with less than four bytes of cookie and no sublayer.
            let [a, b, c, d, ..] = self.first;
            let [.., w, x, y, z] = tail.to_be_bytes();
            *out.first_chunk_mut()? = [a, b, c, d];
            *out.last_chunk_mut()? = [w, x, y, z];
        }
        Some(())
    }
}
