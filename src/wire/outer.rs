// SPDX-License-Identifier: GPL-2.0

//! Outer headers: IPv4 (RFC 791), IPv6 (RFC 8200) and UDP (RFC 768).
//!
//! All fields are in host order, addresses in wire order, and `emit` returns wire bytes.

/// Stores `bytes` at a constant place of an array that is known to be long enough.
#[inline(always)]
fn put<const N: usize>(out: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(out) = out.get_mut(at..).and_then(|out| out.first_chunk_mut()) {
        *out = bytes;
    }
}

/// Reads bytes at a place.
#[inline]
pub fn read<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// An IPv4 header without options. The fragment word is zero: not a fragment, and DF clear, since
/// tunnel packets may always be fragmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Header {
    /// Type of service.
    pub tos: u8,
    /// Length of header and payload in bytes.
    pub total_len: u16,
    /// Identification.
    pub id: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Source address.
    pub saddr: [u8; 4],
    /// Destination address.
    pub daddr: [u8; 4],
}

impl Ipv4Header {
    /// Length in bytes.
    pub const LEN: usize = 20;

    /// Source and destination of a received header, whatever its options. [`None`] if it is cut off,
    /// or of another version.
    #[inline]
    pub fn addresses(header: &[u8]) -> Option<([u8; 4], [u8; 4])> {
        if header.first()? >> 4 != 4 {
            return None;
        }
        Some((read(header, 12)?, read(header, 16)?))
    }

    /// Returns the header with its checksum.
    #[inline]
    pub fn emit(&self) -> [u8; Self::LEN] {
        let [l, m] = self.total_len.to_be_bytes();
        let [i, j] = self.id.to_be_bytes();
        let [s0, s1, s2, s3] = self.saddr;
        let [d0, d1, d2, d3] = self.daddr;
        let [c0, c1] = self.checksum().to_be_bytes();
        [
            0x45,
            self.tos,
            l,
            m,
            i,
            j,
            0,
            0,
            self.ttl,
            self.protocol,
            c0,
            c1,
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
        ]
    }

    /// One's complement of the one's complement sum of the ten header words, the checksum itself
    /// counted as zero (RFC 1071).
    #[inline]
    fn checksum(&self) -> u16 {
        let saddr = u32::from_be_bytes(self.saddr);
        let daddr = u32::from_be_bytes(self.daddr);
        // Nine 16-bit words cannot overflow 32 bits.
        let sum = u32::from(u16::from_be_bytes([0x45, self.tos]))
            .wrapping_add(u32::from(self.total_len))
            .wrapping_add(u32::from(self.id))
            .wrapping_add(u32::from(u16::from_be_bytes([self.ttl, self.protocol])))
            .wrapping_add(saddr >> 16)
            .wrapping_add(saddr & 0xffff)
            .wrapping_add(daddr >> 16)
            .wrapping_add(daddr & 0xffff);
        let sum = (sum & 0xffff).wrapping_add(sum >> 16);
        let sum = (sum & 0xffff).wrapping_add(sum >> 16);
        // CAST: two folds leave 16 bits.
        !(sum as u16)
    }
}

/// An IPv6 header without extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Header {
    /// Traffic class.
    pub traffic_class: u8,
    /// Flow label, of which the low 20 bits are used.
    pub flow_label: u32,
    /// Length of what follows this header in bytes.
    pub payload_len: u16,
    /// Protocol of the payload.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub saddr: [u8; 16],
    /// Destination address.
    pub daddr: [u8; 16],
}

impl Ipv6Header {
    /// Length in bytes.
    pub const LEN: usize = 40;

    /// Source and destination of a received header. [`None`] if it is cut off, or of another version.
    #[inline]
    pub fn addresses(header: &[u8]) -> Option<([u8; 16], [u8; 16])> {
        if header.first()? >> 4 != 6 {
            return None;
        }
        Some((read(header, 8)?, read(header, 24)?))
    }

    /// Returns the header.
    #[inline]
    pub fn emit(&self) -> [u8; Self::LEN] {
        let first =
            0x6000_0000 | (u32::from(self.traffic_class) << 20) | (self.flow_label & 0x000f_ffff);
        let mut out = [0; Self::LEN];
        put(&mut out, 0, first.to_be_bytes());
        put(&mut out, 4, self.payload_len.to_be_bytes());
        put(&mut out, 6, [self.next_header, self.hop_limit]);
        put(&mut out, 8, self.saddr);
        put(&mut out, 24, self.daddr);
        out
    }
}

/// A UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpHeader {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub dest: u16,
    /// Length of header and payload in bytes.
    pub len: u16,
    /// The checksum field as the caller wants it: zero for none, a finished checksum, or the folded
    /// pseudo header sum for hardware that completes it.
    pub check: u16,
}

impl UdpHeader {
    /// Length in bytes.
    pub const LEN: usize = 8;

    /// Returns the header.
    #[inline]
    pub fn emit(&self) -> [u8; Self::LEN] {
        let ports = (u64::from(self.source) << 48) | (u64::from(self.dest) << 32);
        let rest = (u64::from(self.len) << 16) | u64::from(self.check);
        (ports | rest).to_be_bytes()
    }
}
