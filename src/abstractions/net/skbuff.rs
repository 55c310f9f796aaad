// SPDX-License-Identifier: GPL-2.0

//! Socket buffers that carry packets.
//!
//! C header: [`include/linux/skbuff.h`](srctree/include/linux/skbuff.h)

use super::gso;
use crate::{
    bindings,
    prelude::*, //
};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::{
        self,
        NonNull, //
    },
    slice, //
};
use kernel::error::{
    from_err_ptr,
    to_result, //
};

/// A packet, owned.
///
/// Dropping it frees it and counts a drop, for no reason: see [`Skb::discard`]. A packet that has
/// reached its destination is handed to C by one of the methods that take `self`.
///
/// # Invariants
///
/// `ptr` points to a valid `sk_buff`, and this value owns one reference to it. Unless it is shared
/// (see [`Skb::unshare`]), nobody else changes the `sk_buff` itself; its data may belong to clones.
pub struct Skb {
    ptr: NonNull<bindings::sk_buff>,
}

// SAFETY: A packet may be passed on to, and freed by, any context.
unsafe impl Send for Skb {}

impl Skb {
    /// Takes over a packet from C.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a valid `sk_buff`, one reference to which is given to the new value, and
    /// which nobody else uses meanwhile other than through clones or references of their own.
    #[inline]
    pub unsafe fn from_raw(ptr: NonNull<bindings::sk_buff>) -> Self {
        // INVARIANT: By the safety requirement.
        Self { ptr }
    }

    /// Hands the packet to C.
    #[inline]
    pub fn into_raw(self) -> *mut bindings::sk_buff {
        ManuallyDrop::new(self).ptr.as_ptr()
    }

    /// The C object.
    #[inline]
    pub fn as_ptr(&self) -> *mut bindings::sk_buff {
        self.ptr.as_ptr()
    }

    /// Returns a packet whose `sk_buff` is not shared: this one, or a clone of it in its place.
    /// [`None`] if there is no memory for the clone; the packet is freed then.
    #[inline]
    pub fn unshare(self) -> Option<Self> {
        if !self.is_shared() {
            return Some(self);
        }
        // SAFETY: We own a reference, which the call consumes.
        let ptr = unsafe { bindings::skb_share_check(self.into_raw(), bindings::GFP_ATOMIC) };
        // INVARIANT: We own a reference to what came back, and it is not shared.
        NonNull::new(ptr).map(|ptr| Self { ptr })
    }

    /// Whether others have references.
    #[inline]
    fn is_shared(&self) -> bool {
        // SAFETY: Valid by the type invariants. Others may give up their references meanwhile.
        let users = unsafe { (&raw const (*self.as_ptr()).users.refs.counter).read_volatile() };
        users != 1
    }

    /// Bytes in the packet, linear and not.
    #[inline]
    pub fn len(&self) -> usize {
        // SAFETY: Valid by the type invariants, which also say that nobody else changes it.
        // CAST: 32 bits fit.
        unsafe { (*self.as_ptr()).len as usize }
    }

    /// Bytes that lie in a row.
    #[inline]
    fn head_len(&self) -> usize {
        // SAFETY: As for `len`.
        // CAST: 32 bits fit.
        unsafe { (*self.as_ptr()).len.wrapping_sub((*self.as_ptr()).data_len) as usize }
    }

    /// Bytes free before the start.
    #[inline]
    pub(super) fn head_room(&self) -> usize {
        // SAFETY: As for `len`.
        let (data, head) = unsafe { ((*self.as_ptr()).data, (*self.as_ptr()).head) };
        data.addr().wrapping_sub(head.addr())
    }

    /// The fields that are copied with the packet.
    #[inline]
    pub(super) fn headers(&mut self) -> &mut bindings::sk_buff__bindgen_ty_4__bindgen_ty_1 {
        // SAFETY: Both members of the union are the same fields, one of them under a name; all of
        // them are integers, and initialised.
        // Nobody else has a reference to them: `self` is borrowed mutably.
        unsafe { (*self.as_ptr()).__bindgen_anon_4.__bindgen_anon_1.as_mut() }
    }

    /// The part of the packet that lies in a row: all of it, or only its start.
    #[inline]
    pub fn head(&self) -> &[u8] {
        // SAFETY: `data` points to `head_len` initialised bytes of the packet's head. Data that
        // clones share is not written by anyone.
        unsafe { slice::from_raw_parts((*self.as_ptr()).data, self.head_len()) }
    }

    /// The IP header of a received packet, and what follows it in the same piece of memory. Empty if
    /// nobody has found one.
    #[inline]
    pub fn ip_header(&self) -> &[u8] {
        // SAFETY: The packet is ours, and valid for the life of the slice.
        unsafe { network_header(self.as_ptr()) }
    }

    /// Makes the first `n` bytes lie in a row and returns what does, at least `n` bytes. [`None`]
    /// if the packet is shorter, or there is no memory.
    #[inline]
    pub fn pull_head(&mut self, n: usize) -> Option<&[u8]> {
        if self.head_len() < n {
            let n = u32::try_from(n).ok()?;
            // SAFETY: The packet is valid, and ours to rearrange.
            if !unsafe { bindings::pskb_may_pull(self.as_ptr(), n) } {
                return None;
            }
        }
        Some(self.head())
    }

    /// Removes `n` bytes from the start. [`None`], and nothing happens, if fewer lie in a row.
    #[inline]
    pub fn pull(&mut self, n: usize) -> Option<()> {
        if n > self.head_len() {
            return None;
        }
        let skb = self.as_ptr();
        // SAFETY: The packet is valid and ours. There are at least `n` bytes from `data` on in the
        // same allocation.
        // CAST: Not above `len`, which is 32 bits wide.
        unsafe {
            (*skb).len = (*skb).len.wrapping_sub(n as u32);
            (*skb).data = (*skb).data.add(n);
        }
        Some(())
    }

    /// Puts back `n` bytes that [`Skb::pull`] has removed. [`None`], and nothing happens, if there
    /// is less room before the start.
    #[inline]
    pub(super) fn unpull(&mut self, n: usize) -> Option<()> {
        self.push(n).map(|_| ())
    }

    /// Adds `n` bytes to the start and returns them to be written. The head must be our own: see
    /// [`Skb::prepend`]. [`None`], and nothing happens, if there is no room.
    #[inline]
    pub(super) fn push(&mut self, n: usize) -> Option<&mut [u8]> {
        if n > self.head_room() {
            return None;
        }
        let skb = self.as_ptr();
        // SAFETY: The packet is valid and ours. There are at least `n` bytes before `data` in the
        // same allocation; they are memory (with stale contents at worst), and nobody else uses
        // them: see `prepend`.
        // CAST: Headroom is far below 2^32.
        Some(unsafe {
            (*skb).len = (*skb).len.wrapping_add(n as u32);
            (*skb).data = (*skb).data.sub(n);
            slice::from_raw_parts_mut((*skb).data, n)
        })
    }

    /// Adds `n` bytes to the start and returns them to be written. Beforehand makes sure that the
    /// head is our own and has room for `reserve` bytes, of which what is not used now is left for
    /// headers to come.
    ///
    /// Fails with `ENOMEM`, or with `EBUSY` if the packet is shared: see [`Skb::unshare`].
    #[inline(always)]
    pub fn prepend(&mut self, reserve: usize, n: usize) -> Result<&mut [u8]> {
        if self.is_shared() {
            return Err(EBUSY);
        }
        self.make_room(reserve.max(n))?;
        self.push(n).ok_or(ENOMEM)
    }

    /// Makes sure that the head is our own and has room for `n` bytes before its start.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline]
    pub(super) fn make_room(&mut self, n: usize) -> Result {
        // SAFETY: As for `len`.
        let cloned = unsafe { (*self.as_ptr()).cloned() != 0 };
        if !cloned && n <= self.head_room() {
            return Ok(());
        }
        let n = u32::try_from(n).map_err(|_| EINVAL)?;
        // SAFETY: The packet is valid and ours.
        to_result(unsafe { bindings::skb_cow_head(self.as_ptr(), n) })
    }

    /// Copies what the packet has of the memory of a process, which may change it or want it back.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline]
    pub(super) fn orphan_frags(&mut self) -> Result {
        // SAFETY: The packet is valid and ours.
        if unsafe { (*self.shared_info()).flags } & bindings::SKBFL_ZEROCOPY_ENABLE == 0 {
            return Ok(());
        }
        // SAFETY: As above.
        to_result(unsafe { bindings::skb_orphan_frags(self.as_ptr(), bindings::GFP_ATOMIC) })
    }

    /// What clones share, at the end of the packet's head.
    #[inline]
    fn shared_info(&self) -> *const bindings::skb_shared_info {
        // SAFETY: The packet is valid. `end` is where its head ends: an offset, or a pointer if that
        // is no longer.
        unsafe {
            #[cfg(CONFIG_64BIT)]
            // CAST: 32 bits fit.
            return (*self.as_ptr())
                .head
                .add((*self.as_ptr()).end as usize)
                .cast();
            #[cfg(not(CONFIG_64BIT))]
            return (*self.as_ptr()).end.cast();
        }
    }

    /// Whether the packet stands for several, its segments.
    #[inline]
    pub fn is_gso(&self) -> bool {
        // SAFETY: The packet is valid; clones do not change this.
        unsafe { (*self.shared_info()).gso_size != 0 }
    }

    /// How the packet may be cut into its segments.
    #[inline]
    pub(super) fn gso_type(&self) -> u32 {
        // SAFETY: As for `is_gso`.
        unsafe { (*self.shared_info()).gso_type }
    }

    /// Sets how the packet may be cut. The head must be our own.
    #[inline]
    pub(super) fn set_gso_type(&mut self, gso_type: u32) {
        // SAFETY: The packet is valid and ours.
        unsafe { (*self.shared_info().cast_mut()).gso_type = gso_type };
    }

    /// Whether a tunnel that devices do not know may carry this packet as one.
    #[inline]
    pub fn may_be_opaque(&self) -> bool {
        gso::may_be_opaque(self.gso_type())
    }

    /// Whether something is left to the device that sends the packet: to fill in a checksum, or to
    /// cut it into segments.
    #[inline]
    fn has_offloads(&mut self) -> bool {
        self.headers().ip_summed() == bindings::CHECKSUM_PARTIAL || self.is_gso()
    }

    /// How many packets this stands for, and how many bytes of headers each of them but the first
    /// adds to those that are in it. `transport` is where the transport header is.
    fn segments_at(&self, transport: u16) -> (usize, usize) {
        if !self.is_gso() {
            return (1, 0);
        }
        // SAFETY: The packet is valid.
        let (segments, kind) = unsafe {
            let info = self.shared_info();
            (usize::from((*info).gso_segs), (*info).gso_type)
        };
        let start = usize::from(transport).saturating_sub(self.head_room());
        // Whoever has made the packet up may not have said where the header is.
        if start > self.head().len() {
            return (segments.max(1), 0);
        }
        // Of TCP, the length is in the header; others are as long as that of UDP.
        let transport_len = if kind & (bindings::SKB_GSO_TCPV4 | bindings::SKB_GSO_TCPV6) != 0 {
            let words = self
                .head()
                .get(start.saturating_add(12))
                .map(|byte| byte >> 4);
            usize::from(words.unwrap_or(0)).saturating_mul(4)
        } else {
            size_of::<bindings::udphdr>()
        };
        (segments.max(1), start.saturating_add(transport_len))
    }

    /// How many packets this stands for.
    #[inline]
    pub(super) fn gso_segments(&self) -> i32 {
        // SAFETY: The packet is valid.
        i32::from(unsafe { (*self.shared_info()).gso_segs }).max(1)
    }

    /// How many packets one that is being sent stands for, and how many bytes of headers each but
    /// the first has of its own.
    #[inline]
    pub fn segments(&mut self) -> (usize, usize) {
        if !self.is_gso() {
            return (1, 0);
        }
        let transport = self.headers().transport_header;
        self.segments_at(transport)
    }

    /// How many packets one that was received in a tunnel stands for, and how many bytes of headers
    /// each but the first has of its own; those of the tunnel not counted.
    #[inline]
    pub fn inner_segments(&mut self) -> (usize, usize) {
        if !self.is_gso() {
            return (1, 0);
        }
        let transport = self.headers().inner_transport_header;
        self.segments_at(transport)
    }

    /// Cuts a packet into the packets that it stands for. What begins at the data must be an
    /// Ethernet frame. Their checksums are left to the device.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EPROTONOSUPPORT` or `EINVAL` if it is not understood.
    pub fn segment(self) -> Result<Segments> {
        // SAFETY: The packet is valid and ours, and stays so.
        let segments = unsafe {
            bindings::skb_gso_segment(
                self.as_ptr(),
                bindings::NETIF_F_SG | bindings::NETIF_F_HW_CSUM,
            )
        };
        let first = from_err_ptr(segments)?;
        if first.is_null() || ptr::eq(first, self.as_ptr()) {
            return Err(EINVAL);
        }
        // SAFETY: We own a reference, which is given up. It is not a drop.
        unsafe { bindings::consume_skb(self.into_raw()) };
        // INVARIANT: C gives us a list of new packets.
        Ok(Segments { next: first })
    }

    /// Makes what is left to the device about an Ethernet frame apply to the frame in a tunnel, whose
    /// kind `gso_type` says if it is one that devices know. Headers may be put in front of the frame
    /// only after this.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline]
    pub(super) fn encapsulate(&mut self, gso_type: impl FnOnce() -> u32) -> Result {
        if !self.has_offloads() {
            // A device must not take the checksum of an outer header for that of an inner one.
            self.headers().set_encapsulation(0);
            return Ok(());
        }
        // CAST: One bit.
        // SAFETY: The packet is valid and ours.
        unsafe {
            to_result(bindings::iptunnel_handle_offloads(
                self.as_ptr(),
                gso_type() as i32,
            ))?;
            bindings::skb_set_inner_protocol(self.as_ptr(), (bindings::ETH_P_TEB as u16).to_be());
        }
        if self.is_gso() {
            // The call has seen to it that the head is our own.
            self.set_gso_type(gso::entering(self.gso_type()));
        }
        Ok(())
    }

    /// Forgets the checksum and the flow hash of the layers below. To be called when the data is what
    /// was in the tunnel. What is left to a device about that is so still: the other end of the
    /// tunnel may be on this machine, where checksums and segments are not needed.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline]
    pub fn decapsulate(&mut self) -> Result {
        if self.headers().encapsulation() != 0 || self.is_gso() {
            // SAFETY: The packet is valid and ours.
            to_result(unsafe { bindings::iptunnel_pull_offloads(self.as_ptr()) })?;
            if self.is_gso() {
                // The call has seen to it that the head is our own.
                self.set_gso_type(gso::leaving(self.gso_type()));
            }
        }
        // The checksum that is left to be filled in may be the tunnel's.
        let unfinished = self.headers().ip_summed() == bindings::CHECKSUM_PARTIAL
            // SAFETY: The packet is valid.
            && unsafe { bindings::skb_checksum_start_offset(self.as_ptr()) } >= 0;
        if !unfinished {
            self.headers().set_ip_summed(bindings::CHECKSUM_NONE);
        }
        let headers = self.headers();
        headers.hash = 0;
        headers.set_sw_hash(0);
        headers.set_l4_hash(0);
        Ok(())
    }

    /// Forgets what the layers above knew: control block, connection tracking, route, and that it was
    /// perhaps bridged, and for another host. The owning socket and the flow hash stay.
    #[inline(always)]
    pub fn reset_for_transmit(&mut self) {
        // CAST: Zero.
        self.headers().set_pkt_type(bindings::PACKET_HOST as u8);
        // SAFETY: The packet is valid and ours.
        unsafe {
            (*self.as_ptr()).cb = [0; 48];
            bindings::nf_reset_ct(self.as_ptr());
            bindings::skb_dst_drop(self.as_ptr());
        }
    }

    /// Forgets what the layers below knew: besides what [`Skb::decapsulate`] says, route, connection
    /// tracking and IPsec path.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline]
    pub fn reset_for_receive(&mut self) -> Result {
        self.decapsulate()?;
        // SAFETY: The packet is valid and ours.
        unsafe {
            bindings::secpath_reset(self.as_ptr());
            bindings::skb_dst_drop(self.as_ptr());
            bindings::nf_reset_ct(self.as_ptr());
        }
        Ok(())
    }

    /// Bytes of the link layer's header.
    #[inline]
    pub(super) fn mac_len(&self) -> u16 {
        // SAFETY: The packet is valid.
        unsafe { (*self.as_ptr()).mac_len }
    }

    /// Says how long the link layer's header is.
    #[inline]
    pub(super) fn set_mac_len(&mut self, len: u16) {
        // SAFETY: The packet is valid and ours.
        unsafe { (*self.as_ptr()).mac_len = len };
    }

    /// The device that the packet is being sent by, or has come in on; null for none. The packet must
    /// be in no list that uses the place of its device.
    #[inline]
    pub(super) fn device(&self) -> *mut bindings::net_device {
        // SAFETY: The packet is valid. The union holds pointers in each of its forms.
        unsafe {
            (*self.as_ptr())
                .__bindgen_anon_1
                .__bindgen_anon_1
                .__bindgen_anon_1
                .dev
        }
    }

    /// Sets the device that the packet is being sent by, null for none.
    ///
    /// # Safety
    ///
    /// The device must be valid for as long as somebody may look at it by way of the packet.
    #[inline]
    pub(super) unsafe fn set_device(&mut self, dev: *mut bindings::net_device) {
        // SAFETY: The packet is valid and ours, and in no list that uses the place of its device.
        unsafe {
            let skb = &raw mut (*self.as_ptr()).__bindgen_anon_1.__bindgen_anon_1;
            (*skb).__bindgen_anon_1.dev = dev;
        }
    }

    /// Releases the socket that the packet is charged to.
    #[inline]
    pub fn orphan(&mut self) {
        // SAFETY: The packet is valid and ours.
        unsafe { bindings::skb_orphan(self.as_ptr()) }
    }

    /// Says that the network header begins where the data does.
    #[inline]
    pub(super) fn reset_network_header(&mut self) {
        let offset = self.head_room();
        // CAST: As for `reset_transport_header`.
        self.headers().network_header = offset as u16;
    }

    /// Says that the transport header begins where the data does.
    #[inline]
    pub(super) fn reset_transport_header(&mut self) {
        let offset = self.head_room();
        // CAST: Headroom is limited to less, see `Route::headroom`; C truncates alike.
        self.headers().transport_header = offset as u16;
    }
}

/// Why a packet is dropped, as far as the core knows words for it: `enum skb_drop_reason`.
#[derive(Clone, Copy)]
pub struct DropReason(bindings::skb_drop_reason);

macro_rules! drop_reasons {
    ($($name:ident)*) => {
        ::kernel::macros::paste! {
            #[allow(missing_docs)]
            impl DropReason {
                $( pub const $name: Self = Self(bindings::[<skb_drop_reason_SKB_DROP_REASON_ $name>]); )*
            }
        }
    };
}

impl DropReason {
    /// A reason that C has given.
    #[cfg_attr(not(CONFIG_L2TP_RUST_PPP), expect(dead_code))]
    pub(super) fn from_raw(reason: bindings::skb_drop_reason) -> Self {
        Self(reason)
    }
}

drop_reasons! {
    NOT_SPECIFIED
    NO_SOCKET PKT_TOO_SMALL HDR_TRUNC INVALID_PROTO IP_NOPROTO IP_RPFILTER UNHANDLED_PROTO
    TC_COOKIE_ERROR TCP_INVALID_SEQUENCE TCP_OLD_SEQUENCE FULL_RING QUEUE_PURGE DEV_READY
    PKT_TOO_BIG
}

impl Skb {
    /// Drops the packet, and says why.
    #[inline]
    pub fn discard(self, reason: DropReason) {
        // SAFETY: We own a reference, which the call consumes.
        unsafe { bindings::sk_skb_reason_drop(ptr::null_mut(), self.into_raw(), reason.0) }
    }
}

impl Drop for Skb {
    #[inline]
    fn drop(&mut self) {
        let reason = DropReason::NOT_SPECIFIED;
        // SAFETY: By the type invariants we own a reference.
        unsafe { bindings::sk_skb_reason_drop(ptr::null_mut(), self.as_ptr(), reason.0) }
    }
}

/// The packets that another one stood for.
///
/// # Invariants
///
/// `next` is null or the first of a list of packets that are linked by `next`, with null at its end,
/// and belong to this value.
pub struct Segments {
    next: *mut bindings::sk_buff,
}

impl Iterator for Segments {
    type Item = Skb;

    fn next(&mut self) -> Option<Skb> {
        let ptr = NonNull::new(self.next)?;
        // SAFETY: The packet is valid and in the list, by the type invariants.
        // INVARIANT: The list goes on with what followed; the packet has left it.
        unsafe {
            let links = links(ptr.as_ptr());
            self.next = (*links).next;
            (*links).next = ptr::null_mut();
        }
        // INVARIANT: The list has given up its reference.
        Some(Skb { ptr })
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

/// A doubly linked list of packets, each with a `T` in its control block.
///
/// Without a lock: whoever owns it brings one.
///
/// # Invariants
///
/// `first` and `last` are both null, and `len` is 0, or they are the ends of a list of `len` packets
/// that are linked by `next` and `prev`, with null at both ends. The list owns a reference to each
/// packet, none of which is shared, and there is a `T` at the start of each one's control block.
pub struct SkbList<T: Copy> {
    first: *mut bindings::sk_buff,
    last: *mut bindings::sk_buff,
    len: usize,
    _slot: PhantomData<T>,
}

// SAFETY: Packets may be passed between contexts.
unsafe impl<T: Copy + Send> Send for SkbList<T> {}

impl<T: Copy> SkbList<T> {
    /// An empty list.
    pub const fn new() -> Self {
        const { assert!(size_of::<T>() <= 48 && align_of::<T>() <= 8) };
        // INVARIANT: The list is empty.
        Self {
            first: ptr::null_mut(),
            last: ptr::null_mut(),
            len: 0,
            _slot: PhantomData,
        }
    }

    /// Packets in the list.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// What belongs to the first packet.
    #[inline]
    pub fn front(&self) -> Option<T> {
        // SAFETY: By the type invariants there is a `T` in the control block.
        NonNull::new(self.first).map(|skb| unsafe { slot::<T>(skb.as_ptr()).read() })
    }

    /// Takes the first packet out.
    #[inline]
    pub fn pop_front(&mut self) -> Option<Skb> {
        let ptr = NonNull::new(self.first)?;
        // SAFETY: The packet is in the list, by the type invariants.
        let links = unsafe { links(ptr.as_ptr()) };
        // SAFETY: As above.
        let next = unsafe { (*links).next };
        // INVARIANT: What followed is the first now, and has nothing before it.
        self.first = next;
        self.len = self.len.wrapping_sub(1);
        if next.is_null() {
            self.last = ptr::null_mut();
        } else {
            // SAFETY: `next` is in the list.
            unsafe { (*self::links(next)).prev = ptr::null_mut() };
        }
        // SAFETY: As above; the packet has left the list.
        unsafe { (*links).next = ptr::null_mut() };
        // INVARIANT: The list has given up its reference.
        Some(Skb { ptr })
    }

    /// Adds a packet at the end.
    #[inline]
    pub fn push_back(&mut self, skb: Skb, value: T) {
        self.link(skb, value, self.last);
    }

    /// Walks from the last packet to the first, as long as `look` says so, which is shown `value` and
    /// that of the packet. Then inserts `skb` where it said; or gives it back.
    pub fn insert(
        &mut self,
        skb: Skb,
        mut value: T,
        mut look: impl FnMut(&mut T, &T) -> Step,
    ) -> Result<(), Skb> {
        // The packet to insert after, null for none.
        let mut place = self.last;
        let mut at = self.last;
        while !at.is_null() {
            // SAFETY: `at` is in the list; by the type invariants it has a `T` in its control
            // block.
            let (seen, before) = unsafe { (slot::<T>(at).read(), (*links(at)).prev) };
            match look(&mut value, &seen) {
                Step::Before => place = before,
                Step::Pass => (),
                Step::Stop => break,
                Step::Refuse => return Err(skb),
            }
            at = before;
        }
        self.link(skb, value, place);
        Ok(())
    }

    /// Links `skb` in after `place`, which is in the list, or at the start if that is null.
    fn link(&mut self, skb: Skb, value: T, place: *mut bindings::sk_buff) {
        let skb = skb.into_raw();
        // SAFETY: We own `skb`, which is in no list; its control block has room for a `T`, as `new`
        // asserts; `place` is in the list, or null.
        // INVARIANT: The packet is between `place` and what followed it, with a `T`; the list owns
        // it.
        unsafe {
            slot::<T>(skb).write(value);
            let next = if place.is_null() {
                self.first
            } else {
                (*links(place)).next
            };
            (*links(skb)).prev = place;
            (*links(skb)).next = next;
            if place.is_null() {
                self.first = skb;
            } else {
                (*links(place)).next = skb;
            }
            if next.is_null() {
                self.last = skb;
            } else {
                (*links(next)).prev = skb;
            }
        }
        self.len = self.len.wrapping_add(1);
    }
}

/// What [`SkbList::insert`] does about a packet that it meets.
pub enum Step {
    /// The new packet belongs before this one, or still further to the front.
    Before,
    /// This one does not matter.
    Pass,
    /// Enough seen.
    Stop,
    /// Do not insert.
    Refuse,
}

/// # Safety
///
/// `skb` must be valid.
#[inline]
pub(super) unsafe fn links(
    skb: *mut bindings::sk_buff,
) -> *mut bindings::sk_buff__bindgen_ty_1__bindgen_ty_1 {
    // SAFETY: `skb` is valid. The union is two pointers in each of its forms.
    unsafe { (&raw mut (*skb).__bindgen_anon_1).cast() }
}

/// # Safety
///
/// `skb` must be valid.
#[inline]
unsafe fn slot<T>(skb: *mut bindings::sk_buff) -> *mut T {
    // SAFETY: `skb` is valid. The control block is aligned to 8 bytes.
    unsafe { (&raw mut (*skb).cb).cast() }
}

impl<T: Copy> Drop for SkbList<T> {
    fn drop(&mut self) {
        while self.pop_front().is_some() {}
    }
}

/// What lies in a row from the network header of a packet on.
///
/// # Safety
///
/// `skb` must be a valid packet whose head nobody writes to during `'a`.
#[inline]
pub(super) unsafe fn network_header<'a>(skb: *const bindings::sk_buff) -> &'a [u8] {
    // SAFETY: The packet is valid; the offset is relative to `head`, as that of the end of the
    // linear part is computed here. Whoever has set a network header has done so within that part,
    // which is initialised; if not, the slice is empty.
    unsafe {
        let head = (*skb).head;
        let headers = &raw const (*skb).__bindgen_anon_4;
        let start = usize::from((*headers).__bindgen_anon_1.as_ref().network_header);
        // CAST: 32 bits fit.
        let linear = (*skb).len.wrapping_sub((*skb).data_len) as usize;
        let end = (*skb)
            .data
            .addr()
            .wrapping_sub(head.addr())
            .wrapping_add(linear);
        match end.checked_sub(start) {
            Some(len) => slice::from_raw_parts(head.add(start), len),
            None => &[],
        }
    }
}
