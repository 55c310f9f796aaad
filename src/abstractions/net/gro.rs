// SPDX-License-Identifier: GPL-2.0

//! Generic receive offload: packets of one stream go through the stack as one.
//!
//! C headers: [`include/net/gro_cells.h`](srctree/include/net/gro_cells.h),
//! [`include/net/gro.h`](srctree/include/net/gro.h)

use super::{
    netdevice::ETH_HLEN,
    skbuff::Skb, //
};
use crate::{
    bindings,
    prelude::*, //
};
use core::{
    mem::offset_of,
    ptr,
    slice, //
};
use kernel::{
    error::to_result,
    types::Opaque, //
};

/// Where packets that a device without hardware has received wait to be merged, one place for each
/// CPU.
///
/// What waits is handed on by code of the core, which knows nothing of the device's driver.
///
/// # Invariants
///
/// `cells` is as [`Cells::new`] made it, or as C leaves it.
pub(super) struct Cells {
    cells: Opaque<bindings::gro_cells>,
}

impl Cells {
    /// Without memory, and of no use yet.
    pub(super) const fn new() -> Self {
        // INVARIANT: It is new.
        Self {
            cells: Opaque::new(bindings::gro_cells {
                cells: ptr::null_mut(),
            }),
        }
    }

    /// Allocates the cells. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `dev` must be valid, and this must not have been called for it before; nobody else may use
    /// `self` meanwhile. If it succeeds, [`Cells::destroy`] must be called before `dev` goes.
    pub(super) unsafe fn init(&self, dev: *mut bindings::net_device) -> Result {
        // SAFETY: By the safety requirement.
        to_result(unsafe { bindings::gro_cells_init(self.cells.get(), dev) })
    }

    /// Drops what waits, and frees the memory, one grace period later. Does nothing if there is none.
    /// Sleeps.
    ///
    /// # Safety
    ///
    /// Nobody else may use `self` meanwhile.
    pub(super) unsafe fn destroy(&self) {
        // SAFETY: By the safety requirement.
        unsafe { bindings::gro_cells_destroy(self.cells.get()) };
    }

    /// Hands on a packet, merged with others or not. Without that, if the device does not want it, or
    /// the packet is one of several with the same data. False if it was dropped.
    ///
    /// # Safety
    ///
    /// [`Cells::init`] must have been called for the device that `skb` has come in on, and
    /// [`Cells::destroy`] may not be called until an RCU read section has ended that the caller is
    /// in. Bottom halves must be off.
    #[inline]
    pub(super) unsafe fn receive(&self, skb: Skb) -> bool {
        // SAFETY: By the safety requirement. The packet is given away.
        let ret = unsafe { bindings::gro_cells_receive(self.cells.get(), skb.into_raw()) };
        ret == super::netdevice::NET_RX_SUCCESS
    }
}

/// Where the protocol of an IP packet ends in an Ethernet frame, with a VLAN tag and without.
pub(super) const PROTOCOL_END: usize = ETH_HLEN + VLAN_HLEN + 10;

const VLAN_HLEN: usize = 4;

/// Bytes of an IP header and of a TCP header, at least.
const IP_TCP_LEN: usize = size_of::<bindings::iphdr>() + 20;
const IPV6_TCP_LEN: usize = size_of::<bindings::ipv6hdr>() + 20;

/// Where the IP header is in `packet`, of an Ethernet type in network order, and how long that and the
/// header of TCP are at least. [`None`] if it is not TCP, or after more than one VLAN tag or some
/// extension header.
#[inline]
pub(super) fn tcp_over(kind: u16, packet: &[u8]) -> Option<(usize, usize)> {
    // CAST: These are 16 bits wide.
    const IP: u16 = (bindings::ETH_P_IP as u16).to_be();
    const IPV6: u16 = (bindings::ETH_P_IPV6 as u16).to_be();
    const VLAN: u16 = (bindings::ETH_P_8021Q as u16).to_be();

    let (kind, start) = match (kind, packet) {
        (VLAN, &[_, _, a, b, ..]) => (u16::from_ne_bytes([a, b]), VLAN_HLEN),
        _ => (kind, 0),
    };
    let (at, len) = match kind {
        IP => (9, IP_TCP_LEN),
        IPV6 => (6, IPV6_TCP_LEN),
        _ => return None,
    };
    // CAST: It is 8 bits wide.
    (packet.get(start.wrapping_add(at)) == Some(&(bindings::IPPROTO_TCP as u8)))
        .then_some((start, len))
}

/// The same of an Ethernet frame, counted from its start.
#[inline]
fn tcp_in(frame: &[u8]) -> Option<(usize, usize)> {
    let &[a, b] = frame.get(ETH_HLEN - 2..)?.first_chunk()?;
    let (at, len) = tcp_over(u16::from_ne_bytes([a, b]), frame.get(ETH_HLEN..)?)?;
    Some((at.wrapping_add(ETH_HLEN), len))
}

/// Looks for a packet in `held` that one with an Ethernet frame in it can be merged with. `header`
/// returns the length of what is before the frame, one of `lens`, if it is such a packet; only those
/// with the same bytes there are merged. Returns what C wants to know.
///
/// # Safety
///
/// As `gro_receive` of `struct net_offload` is called: in an RCU read section, with a packet of which
/// at least a byte is left, and the list of those that wait.
#[inline]
pub(super) unsafe fn receive_ethernet(
    held: *mut bindings::list_head,
    skb: *mut bindings::sk_buff,
    lens: &[usize],
    header: impl FnOnce(&[u8]) -> Option<usize>,
) -> *mut bindings::sk_buff {
    const { assert!(offset_of!(bindings::sk_buff, __bindgen_anon_1) == 0) };
    // SAFETY: The packet is valid, and has come in on a device. Features change at any moment.
    let (at, left, features) = unsafe {
        let dev = (*skb)
            .__bindgen_anon_1
            .__bindgen_anon_1
            .__bindgen_anon_1
            .dev;
        (
            bindings::skb_gro_offset(skb),
            bindings::skb_gro_len(skb),
            (&raw const (*dev).features).read_volatile(),
        )
    };
    let most = lens
        .last()
        .map_or(0, |len| len.saturating_add(PROTOCOL_END));
    let wanted = u32::try_from(most).unwrap_or(u32::MAX).min(left);
    // SAFETY: The packet is valid, and has so many bytes.
    let start = unsafe { bindings::skb_gro_header(skb, at.wrapping_add(wanted), at) }.cast::<u8>();
    // What is merged into a list says of each packet that its checksum is right, and not that of a
    // whole one; that is forgotten when it leaves the tunnel.
    let found = if start.is_null() || features & bindings::NETIF_F_GRO_FRAGLIST != 0 {
        None
    } else {
        // SAFETY: So many bytes lie there in a row; nobody writes to them.
        // CAST: 32 bits fit.
        let message = unsafe { slice::from_raw_parts(start, wanted as usize) };
        let tcp_at = |len: usize| message.get(len..).and_then(tcp_in).is_some();
        // Where there are no others to merge with, looking for them costs more than there is to gain.
        // This test is cheaper than asking `header`.
        if lens.iter().any(|&len| tcp_at(len)) {
            header(message)
                .filter(|&len| tcp_at(len))
                .and_then(|len| message.get(..len))
        } else {
            None
        }
    };
    let Some(header) = found else {
        // SAFETY: The packet is valid.
        unsafe { bindings::skb_gro_flush_final(skb, ptr::null_mut(), 1) };
        return ptr::null_mut();
    };
    // SAFETY: The list is valid, and nobody changes it meanwhile; its links are at the start of the
    // packets. What is compared lies in a row, and nobody writes to it.
    // CAST: 32 bits fit; a header is shorter than 2^32.
    unsafe {
        let mut link = (*held).next;
        while !ptr::eq(link, held) {
            let other = link.cast::<bindings::sk_buff>();
            link = (*link).next;
            if bindings::skb_gro_same_flow(other) {
                let linear = (*other).len.wrapping_sub((*other).data_len) as usize;
                let bytes = slice::from_raw_parts((*other).data, linear);
                let same = bytes
                    .get(at as usize..)
                    .is_some_and(|bytes| bytes.starts_with(header));
                if !same {
                    bindings::skb_gro_other_flow(other);
                }
            }
        }
        bindings::skb_gro_postpull_rcsum(skb, header.as_ptr().cast(), header.len() as u32);
        bindings::skb_gro_pull(skb, header.len() as u32);
        bindings::call_eth_gro_receive(held, skb)
    }
}

/// Finishes a packet that [`receive_ethernet`] has merged others into, and that is going to be handed
/// on. Its message begins at `at`. If `header` has another opinion on it by now, it is dropped.
/// Returns what C wants to know.
///
/// # Safety
///
/// As `gro_complete` of `struct net_offload` is called: in an RCU read section, with a packet, and an
/// offset in it.
#[inline]
pub(super) unsafe fn complete_ethernet(
    skb: *mut bindings::sk_buff,
    at: i32,
    header: impl FnOnce(&[u8]) -> Option<usize>,
) -> i32 {
    let Ok(at) = usize::try_from(at) else {
        return EINVAL.to_errno();
    };
    // SAFETY: The packet is valid, and nobody writes to its linear part meanwhile.
    // CAST: 32 bits fit.
    let bytes = unsafe {
        let linear = (*skb).len.wrapping_sub((*skb).data_len) as usize;
        slice::from_raw_parts((*skb).data, linear)
    };
    // What follows takes for granted that the headers are there, and are where they were.
    let frame = bytes.get(at..).and_then(|message| {
        let len = header(message)?;
        let frame = message.get(len..)?;
        let (ip, len_from_ip) = tcp_in(frame)?;
        let frame_at = at.checked_add(len)?;
        // SAFETY: The packet is valid.
        let found = usize::from(unsafe { bindings::skb_gro_inner_network_offset(skb) });
        (frame_at.checked_add(ip)? == found && frame.len() >= ip.checked_add(len_from_ip)?)
            .then_some(frame_at)
    });
    match frame.and_then(|at| i32::try_from(at).ok()) {
        // SAFETY: The packet is valid, and has an Ethernet frame with TCP there.
        Some(at) => unsafe { bindings::eth_gro_complete(skb, at) },
        None => ENOENT.to_errno(),
    }
}
