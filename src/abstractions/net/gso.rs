// SPDX-License-Identifier: GPL-2.0

//! Generic segmentation offload: a packet that stands for several goes through the stack as one.
//!
//! C header: [`include/net/gso.h`](srctree/include/net/gso.h)
//!
//! # A tunnel that devices do not know
//!
//! How a packet may be cut is said by the bits of its `gso_type`, and a device that has all of them
//! among its features gets it whole. There is none for Ethernet frames in an IP protocol of their own,
//! and to borrow that of another tunnel would have network cards cut what they do not understand. So
//! it is marked by [`OPAQUE`], which devices have that are software only, and no card: those that end
//! on this machine hand the packet on as it is, and for most others the core calls
//! [`segment_ethernet`] first.
//!
//! # Identifications
//!
//! Whether the segments of a stream have the same identification of IPv4, or each the next, is said of
//! the outer header and of an inner one by a bit each. A frame that enters a tunnel, or leaves it,
//! takes its bit with it: the outer header of a tunnel may be fragmented, so that each packet needs
//! an identification of its own.

use super::{
    netdevice::ETH_HLEN,
    skbuff::{
        self,
        Skb, //
    }, //
};
use crate::{
    bindings,
    prelude::*, //
};
use core::{
    mem::ManuallyDrop,
    ptr::NonNull, //
};
use kernel::error::from_err_ptr;

/// What marks a packet that stands for several, and whose headers devices do not know: that of SCTP,
/// which is never the kind of a packet with TCP in it.
pub(super) const OPAQUE: u32 = bindings::SKB_GSO_SCTP;

/// The kinds that may be marked so. Not UDP: whether its segments fit in the path is not asked rightly
/// of a tunnel (`skb_gso_transport_seglen`).
const TCP: u32 = bindings::SKB_GSO_TCPV4 | bindings::SKB_GSO_TCPV6;

/// All segments have the same identification: in the outer header, in an inner one.
const FIXED: u32 = bindings::SKB_GSO_TCP_FIXEDID;
const FIXED_INNER: u32 = bindings::SKB_GSO_TCP_FIXEDID_INNER;

/// What a device may be left to do to segments: to gather them from pieces, and to fill in a checksum
/// wherever it is.
const LEFT: bindings::netdev_features_t = bindings::NETIF_F_SG
    | bindings::NETIF_F_FRAGLIST
    | bindings::NETIF_F_HIGHDMA
    | bindings::NETIF_F_HW_CSUM;

/// Whether a packet of that kind may be marked as [`OPAQUE`].
#[inline]
pub(super) fn may_be_opaque(gso_type: u32) -> bool {
    gso_type & TCP != 0 && gso_type & OPAQUE == 0
}

/// Whether a packet of that kind is marked as [`OPAQUE`].
#[inline]
pub(super) fn is_opaque(gso_type: u32) -> bool {
    gso_type & TCP != 0 && gso_type & OPAQUE != 0
}

/// What `gso_type` becomes when a packet enters a tunnel.
#[inline]
pub(super) fn entering(gso_type: u32) -> u32 {
    match gso_type & FIXED {
        0 => gso_type,
        _ => gso_type & !FIXED | FIXED_INNER,
    }
}

/// What `gso_type` becomes when a packet leaves a tunnel.
#[inline]
pub(super) fn leaving(gso_type: u32) -> u32 {
    let marked = if is_opaque(gso_type) { OPAQUE } else { 0 };
    let fixed = match gso_type & FIXED_INNER {
        0 => 0,
        _ => FIXED,
    };
    gso_type & !(marked | FIXED | FIXED_INNER) | fixed
}

/// Marks a packet that is going to stand for several, of which nothing is said yet, as [`OPAQUE`], in a
/// tunnel.
///
/// # Safety
///
/// `skb` must be a packet that GRO has put together, and that nobody else changes.
pub(super) unsafe fn mark(skb: *mut bindings::sk_buff) {
    if let Some(ptr) = NonNull::new(skb) {
        // SAFETY: By the safety requirement. The packet stays the caller's.
        let mut packet = ManuallyDrop::new(unsafe { Skb::from_raw(ptr) });
        packet.headers().set_encapsulation(1);
        packet.set_gso_type(OPAQUE);
    }
}

/// Cuts a packet, whose data is a header of some tunnel and an Ethernet frame, into several with the
/// same header. Returns them as C wants them.
///
/// # Safety
///
/// As `gso_segment` of `struct net_offload` is called: for a packet that is being segmented, that
/// nobody else changes, and whose data begins where its transport header is.
pub(super) unsafe extern "C" fn segment_ethernet(
    skb: *mut bindings::sk_buff,
    features: bindings::netdev_features_t,
) -> *mut bindings::sk_buff {
    let Some(ptr) = NonNull::new(skb) else {
        return EINVAL.to_ptr();
    };
    // SAFETY: The packet is valid, and nobody else changes it. It stays the caller's: it is not
    // dropped here.
    let mut packet = ManuallyDrop::new(unsafe { Skb::from_raw(ptr) });
    let packet = &mut *packet;
    let outer = Outer::of(packet);
    let Some(header_len) = outer.enter(packet) else {
        return EINVAL.to_ptr();
    };
    let dev = packet.device();
    let features = match dev.is_null() {
        true => 0,
        // SAFETY: A device that a packet is being cut for is there. Features change at any moment.
        false => features & LEFT & unsafe { (&raw const (*dev).hw_enc_features).read_volatile() },
    };
    // The level of encapsulation stays what IP has made it: see the module documentation.
    // SAFETY: The packet is valid, its data begins with an Ethernet header in a row, and its headers
    // are where they are said to be.
    let segments = unsafe { bindings::skb_mac_gso_segment(skb, features) };
    if segments.is_null() || from_err_ptr(segments).is_err() {
        outer.leave(packet, header_len);
        return segments;
    }
    // SAFETY: The packet is valid, and its Ethernet header where it is said to be.
    let outer_len = unsafe { bindings::skb_tnl_header_len(skb) };
    let mut next = segments;
    while let Some(ptr) = NonNull::new(next) {
        // SAFETY: The packets of the list are valid and new. They stay in it.
        let mut segment = ManuallyDrop::new(unsafe { Skb::from_raw(ptr) });
        // SAFETY: As above.
        next = unsafe { (*skbuff::links(ptr.as_ptr())).next };
        if outer
            .put_before(&mut segment, outer_len, header_len)
            .is_none()
        {
            // SAFETY: The list is ours to free, and the packet as it was when it was cut.
            unsafe { bindings::kfree_skb_list(segments) };
            outer.leave(packet, header_len);
            return ENOBUFS.to_ptr();
        }
    }
    segments
}

/// What a packet knows of the headers in front of an Ethernet frame in a tunnel.
struct Outer {
    protocol: u16,
    mac_header: u16,
    mac_len: u16,
}

impl Outer {
    fn of(skb: &mut Skb) -> Self {
        Self {
            protocol: skb.headers().protocol,
            mac_header: skb.headers().mac_header,
            mac_len: skb.mac_len(),
        }
    }

    /// Makes the frame what the packet is. Returns the length of what was in front of it, from the
    /// transport header on. [`None`], and nothing happens, if there is no frame: whoever has made up
    /// the packet may not have said where things are.
    fn enter(&self, skb: &mut Skb) -> Option<u16> {
        let headers = skb.headers();
        let (frame, network) = (headers.inner_mac_header, headers.inner_network_header);
        let header_len = frame.checked_sub(headers.transport_header)?;
        let ethernet_len = network.checked_sub(frame)?;
        if headers.encapsulation() == 0
            || header_len == 0
            || usize::from(ethernet_len) < ETH_HLEN
            || !is_opaque(skb.gso_type())
        {
            return None;
        }
        skb.pull_head(usize::from(header_len).wrapping_add(ethernet_len.into()))?;
        skb.pull(header_len.into())?;
        let headers = skb.headers();
        headers.set_encapsulation(0);
        headers.mac_header = frame;
        headers.network_header = network;
        // CAST: It is 16 bits wide.
        headers.protocol = (bindings::ETH_P_TEB as u16).to_be();
        skb.set_mac_len(ethernet_len);
        Some(header_len)
    }

    /// Undoes [`Outer::enter`].
    fn leave(&self, skb: &mut Skb, header_len: u16) {
        // SAFETY: The packet is valid; so many bytes have been pulled, and headers were there.
        unsafe {
            bindings::skb_gso_error_unwind(
                skb.as_ptr(),
                self.protocol,
                header_len.into(),
                self.mac_header,
                self.mac_len.into(),
            )
        };
    }

    /// Makes a segment, of a frame that was cut, what the whole packet was: `outer_len` bytes of
    /// headers are in front of it, the last `header_len` of them from the transport header on. [`None`]
    /// if there is no room for them.
    fn put_before(&self, segment: &mut Skb, outer_len: i32, header_len: u16) -> Option<()> {
        if segment.headers().ip_summed() == bindings::CHECKSUM_PARTIAL {
            // SAFETY: The packet is valid.
            unsafe { bindings::skb_reset_inner_headers(segment.as_ptr()) };
            segment.headers().set_encapsulation(1);
        }
        // What cuts a packet leaves room for its headers, and copies them there.
        let outer_len = u16::try_from(outer_len).ok()?;
        segment.unpull(outer_len.into())?;
        // CAST: Headers are within 64 KiB from the start of the buffer.
        let start = segment.head_room() as u16;
        let headers = segment.headers();
        headers.protocol = self.protocol;
        headers.mac_header = start;
        headers.network_header = start.wrapping_add(self.mac_len);
        headers.transport_header = start.wrapping_add(outer_len).wrapping_sub(header_len);
        segment.set_mac_len(self.mac_len);
        Some(())
    }
}
