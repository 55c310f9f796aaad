// SPDX-License-Identifier: GPL-2.0

//! Identifiers and small value types that both protocol versions share.
//!
//! All numbers here are in host order; only the `v2`, `v3` and `outer` modules see wire bytes.

/// L2TP protocol version, the `Ver` nibble of the flags word (RFC 2661 section 3.1, RFC 3931
/// section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Version {
    /// L2TPv2, RFC 2661.
    V2 = 2,
    /// L2TPv3, RFC 3931.
    V3 = 3,
}

impl Version {
    /// Converts from the number used on the wire and in the uapi.
    #[inline]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            2 => Some(Self::V2),
            3 => Some(Self::V3),
            _ => None,
        }
    }

    /// Returns the number used on the wire and in the uapi.
    #[inline]
    pub const fn get(self) -> u8 {
        // CAST: the discriminants are the numbers.
        self as u8
    }
}

/// What carries L2TP messages; the values are those of `enum l2tp_encap_type` in the uapi.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum EncapType {
    /// UDP datagrams, any port (RFC 2661 section 8.1, RFC 3931 section 4.1.2).
    Udp = 0,
    /// IP protocol 115 (RFC 3931 section 4.1.1).
    Ip = 1,
}

impl EncapType {
    /// Converts from the uapi value.
    #[inline]
    pub const fn from_u16(value: u16) -> Option<Self> {
        match value {
            0 => Some(Self::Udp),
            1 => Some(Self::Ip),
            _ => None,
        }
    }

    /// Returns the uapi value.
    #[inline]
    pub const fn get(self) -> u16 {
        // CAST: the discriminants are the numbers.
        self as u16
    }
}

/// Pseudowire type; the values are those of the IANA "L2TPv3 Pseudowire Types" registry and of
/// `enum l2tp_pwtype` in the uapi.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PwType {
    /// Ethernet with a VLAN tag (RFC 4719), 4.
    EthVlan,
    /// Ethernet port (RFC 4719), 5.
    Eth,
    /// PPP, 7.
    Ppp,
    /// PPP access concentrator, 8.
    PppAc,
    /// IP, 11.
    Ip,
    /// In the range of the uapi (below 12), but without a name there.
    Unnamed(u16),
}

impl PwType {
    /// Converts from the uapi value. The uapi calls everything from 12 on invalid.
    pub const fn from_u16(value: u16) -> Option<Self> {
        match value {
            4 => Some(Self::EthVlan),
            5 => Some(Self::Eth),
            7 => Some(Self::Ppp),
            8 => Some(Self::PppAc),
            11 => Some(Self::Ip),
            0..=10 => Some(Self::Unnamed(value)),
            _ => None,
        }
    }

    /// Returns the uapi value.
    pub const fn get(self) -> u16 {
        match self {
            Self::EthVlan => 4,
            Self::Eth => 5,
            Self::Ppp => 7,
            Self::PppAc => 8,
            Self::Ip => 11,
            Self::Unnamed(value) => value,
        }
    }
}

/// L2-specific sublayer of an L2TPv3 session (RFC 3931 section 4.6); the values are those of
/// `enum l2tp_l2spec_type` in the uapi.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum L2SpecType {
    /// No sublayer, hence no sequence numbers in either direction.
    None = 0,
    /// The default sublayer: four bytes, present in every data message.
    Default = 1,
}

impl L2SpecType {
    /// Converts from the uapi value.
    #[inline]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::None),
            1 => Some(Self::Default),
            _ => None,
        }
    }

    /// Returns the uapi value.
    #[inline]
    pub const fn get(self) -> u8 {
        // CAST: the discriminants are the numbers.
        self as u8
    }

    /// Returns how many bytes the sublayer takes on the wire.
    #[inline]
    pub const fn wire_len(self) -> usize {
        match self {
            Self::None => 0,
            Self::Default => 4,
        }
    }
}

macro_rules! id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl $name {
            /// Wraps a number in host order.
            #[inline]
            pub const fn new(id: u32) -> Self {
                Self(id)
            }

            /// Wraps the 16 bits of a v2 header.
            #[inline]
            pub const fn from_v2(id: u16) -> Self {
                // CAST: widening; `u32::from` is not const.
                Self(id as u32)
            }

            /// Returns the number in host order.
            #[inline]
            pub const fn get(self) -> u32 {
                self.0
            }

            /// Returns the 16 bits that a v2 header has room for.
            ///
            /// The uapi accepts 32-bit ids for v2 as well; the upper half is dropped.
            #[inline]
            pub const fn to_v2(self) -> u16 {
                // CAST: dropping the upper half is the point.
                (self.0 & 0xffff) as u16
            }
        }
    };
}

id! {
    /// Tunnel ID (v2), or Control Connection ID (v3), in host order.
    TunnelId
}

id! {
    /// Session ID, in host order.
    SessionId
}

/// Returns the key that identifies a v2 session within a network namespace.
///
/// A v2 session id means something only inside its tunnel, so the key holds the 16 bits of both.
#[inline]
pub const fn v2_key(tunnel_id: TunnelId, session_id: SessionId) -> u32 {
    (tunnel_id.0 << 16) | (session_id.0 & 0xffff)
}

/// Longest cookie of an L2TPv3 session, in bytes (RFC 3931 section 4.1).
pub const COOKIE_MAX: usize = 8;

/// Cookie of an L2TPv3 session: 0 to 8 opaque bytes (the RFC has only 0, 4 and 8).
///
/// Comparing two cookies, by `==` or by [`Cookie::ct_eq`], takes the same time wherever they
/// differ, so that a peer cannot guess a cookie byte by byte.
///
/// # Invariants
///
/// `len` is at most [`COOKIE_MAX`], and the bytes from `len` on are zero.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cookie {
    bytes: [u8; COOKIE_MAX],
    len: u8,
}

impl Cookie {
    /// The cookie of no bytes: nothing is sent, nothing is required.
    pub const EMPTY: Self = Self {
        bytes: [0; COOKIE_MAX],
        len: 0,
    };

    /// Copies a cookie, or returns [`None`] if `bytes` is longer than [`COOKIE_MAX`].
    #[inline]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        // The two lengths of the RFC come first: they are what a receive path meets, and a copy of
        // a known size is one load and one store.
        if bytes.is_empty() {
            return Some(Self::EMPTY);
        }
        if let Ok(&[a, b, c, d]) = <&[u8; 4]>::try_from(bytes) {
            return Some(Self {
                bytes: [a, b, c, d, 0, 0, 0, 0],
                len: 4,
            });
        }
        if let Ok(&bytes) = <&[u8; 8]>::try_from(bytes) {
            return Some(Self { bytes, len: 8 });
        }
        Self::from_odd_slice(bytes)
    }

    /// The lengths that only the uapi knows.
    #[cold]
    fn from_odd_slice(from: &[u8]) -> Option<Self> {
        if from.len() > COOKIE_MAX {
            return None;
        }
        let mut cookie = Self {
            bytes: [0; COOKIE_MAX],
            // CAST: checked to be small above.
            len: from.len() as u8,
        };
        for (to, from) in cookie.bytes.iter_mut().zip(from) {
            *to = *from;
        }
        // INVARIANT: at most `COOKIE_MAX` bytes were copied, over zeroes.
        Some(cookie)
    }

    /// Returns the bytes in wire order.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len()).unwrap_or_default()
    }

    /// Returns the length in bytes.
    #[inline]
    pub const fn len(&self) -> usize {
        // CAST: widening; `usize::from` is not const.
        self.len as usize
    }

    /// Returns whether the cookie has no bytes.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether `bytes` is this cookie, in a time that does not depend on where they differ.
    #[inline]
    pub fn ct_eq(&self, bytes: &[u8]) -> bool {
        match Self::from_slice(bytes) {
            Some(other) => *self == other,
            None => false,
        }
    }
}

impl PartialEq for Cookie {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        // One integer comparison for everything: there is no place for an early exit.
        let bytes = u64::from_ne_bytes(self.bytes) ^ u64::from_ne_bytes(other.bytes);
        let len = u64::from(self.len ^ other.len);
        (bytes | len) == 0
    }
}

impl Eq for Cookie {}

/// The bytes given are no cookie: there are more than [`COOKIE_MAX`] of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieTooLong;

impl TryFrom<&[u8]> for Cookie {
    type Error = CookieTooLong;

    fn try_from(bytes: &[u8]) -> Result<Self, CookieTooLong> {
        Self::from_slice(bytes).ok_or(CookieTooLong)
    }
}
