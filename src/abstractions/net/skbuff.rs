// SPDX-License-Identifier: GPL-2.0

//! Socket buffers that carry packets.
//!
//! C header: [`include/linux/skbuff.h`](srctree/include/linux/skbuff.h)

use crate::bindings;
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::NonNull,
    slice, //
};
use kernel::{
    error::to_result,
    prelude::*,
    types::Opaque, //
};

/// A packet, owned.
///
/// Dropping it frees it and counts a drop; a packet that has reached its destination is handed to C
/// by one of the methods that take `self`.
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

    #[inline]
    fn raw(&self) -> &bindings::sk_buff {
        // SAFETY: Valid by the type invariants, which also say that nobody else changes it.
        unsafe { self.ptr.as_ref() }
    }

    #[inline]
    fn raw_mut(&mut self) -> &mut bindings::sk_buff {
        // SAFETY: Valid by the type invariants, which also say that nobody else uses it.
        unsafe { self.ptr.as_mut() }
    }

    /// Returns a packet whose `sk_buff` is not shared: this one, or a clone of it in its place.
    /// [`None`] if there is no memory for the clone; the packet is freed then.
    #[inline]
    pub fn unshare(self) -> Option<Self> {
        // SAFETY: We own a reference, which the call consumes.
        let ptr = unsafe { bindings::skb_share_check(self.into_raw(), bindings::GFP_ATOMIC) };
        // INVARIANT: We own a reference to what came back, and it is not shared.
        NonNull::new(ptr).map(|ptr| Self { ptr })
    }

    /// Bytes in the packet, linear and not.
    #[inline]
    pub fn len(&self) -> usize {
        // CAST: 32 bits fit.
        self.raw().len as usize
    }

    /// Bytes that lie in a row.
    #[inline]
    fn head_len(&self) -> usize {
        // CAST: 32 bits fit.
        self.raw().len.wrapping_sub(self.raw().data_len) as usize
    }

    /// Bytes free before the start.
    #[inline]
    fn head_room(&self) -> usize {
        self.raw().data.addr().wrapping_sub(self.raw().head.addr())
    }

    /// The fields that are copied with the packet.
    #[inline]
    pub(super) fn headers(&mut self) -> &mut bindings::sk_buff__bindgen_ty_4__bindgen_ty_1 {
        // SAFETY: Both members of the union are the same fields, one of them under a name; all of
        // them are integers, and initialised.
        unsafe { self.raw_mut().__bindgen_anon_4.__bindgen_anon_1.as_mut() }
    }

    /// The part of the packet that lies in a row: all of it, or only its start.
    #[inline]
    pub fn head(&self) -> &[u8] {
        // SAFETY: `data` points to `head_len` initialised bytes of the packet's head. Data that
        // clones share is not written by anyone.
        unsafe { slice::from_raw_parts(self.raw().data, self.head_len()) }
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
        let raw = self.raw_mut();
        // CAST: Not above `len`, which is 32 bits wide.
        raw.len = raw.len.wrapping_sub(n as u32);
        // SAFETY: There are at least `n` bytes from `data` on in the same allocation.
        raw.data = unsafe { raw.data.add(n) };
        Some(())
    }

    /// Puts back `n` bytes that [`Skb::pull`] has removed. [`None`], and nothing happens, if there
    /// is less room before the start.
    #[inline]
    pub fn unpull(&mut self, n: usize) -> Option<()> {
        self.push(n).map(|_| ())
    }

    #[inline]
    fn push(&mut self, n: usize) -> Option<&mut [u8]> {
        if n > self.head_room() {
            return None;
        }
        let raw = self.raw_mut();
        // CAST: Headroom is far below 2^32.
        raw.len = raw.len.wrapping_add(n as u32);
        // SAFETY: There are at least `n` bytes before `data` in the same allocation.
        raw.data = unsafe { raw.data.sub(n) };
        // SAFETY: These bytes were initialised when the packet was built (slab memory with stale
        // contents at worst, never read before it is written), and belong to us: see `prepend`.
        Some(unsafe { slice::from_raw_parts_mut(raw.data, n) })
    }

    /// Adds `n` bytes to the start and returns them to be written. Beforehand makes sure that the
    /// head is our own and has room for `reserve` bytes, of which what is not used now is left for
    /// headers to come.
    ///
    /// The packet must not be shared. Fails with `ENOMEM`.
    #[inline]
    pub fn prepend(&mut self, reserve: usize, n: usize) -> Result<&mut [u8]> {
        let room = u32::try_from(reserve.max(n)).map_err(|_| EINVAL)?;
        // SAFETY: The packet is valid and ours.
        to_result(unsafe { bindings::skb_cow_head(self.as_ptr(), room) })?;
        self.push(n).ok_or(ENOMEM)
    }

    /// Forgets what the layers above knew: control block, connection tracking, route. The owning
    /// socket and the flow hash stay.
    #[inline]
    pub fn reset_for_transmit(&mut self) {
        self.raw_mut().cb = [0; 48];
        // SAFETY: The packet is valid and ours.
        unsafe {
            bindings::nf_reset_ct(self.as_ptr());
            bindings::skb_dst_drop(self.as_ptr());
        }
    }

    /// Forgets what the layers below knew: checksum, flow hash, route, connection tracking, IPsec
    /// path.
    #[inline]
    pub fn reset_for_receive(&mut self) {
        self.headers().set_ip_summed(bindings::CHECKSUM_NONE);
        // SAFETY: The packet is valid and ours.
        unsafe {
            bindings::secpath_reset(self.as_ptr());
            bindings::skb_clear_hash(self.as_ptr());
            bindings::skb_dst_drop(self.as_ptr());
            bindings::nf_reset_ct(self.as_ptr());
        }
    }

    /// Releases the socket that the packet is charged to.
    #[inline]
    pub fn orphan(&mut self) {
        // SAFETY: The packet is valid and ours.
        unsafe { bindings::skb_orphan(self.as_ptr()) }
    }

    /// Says that `n` bytes from the start of the data the transport header begins.
    #[inline]
    pub fn set_transport_header(&mut self, n: usize) {
        let offset = self.head_room().wrapping_add(n);
        // CAST: Headers lie within the first 64 KiB of the head; C truncates alike.
        self.headers().transport_header = offset as u16;
    }

    /// Says that the network header begins where the data does.
    #[inline]
    pub fn reset_network_header(&mut self) {
        let offset = self.head_room();
        // CAST: As above.
        self.headers().network_header = offset as u16;
    }
}

impl Drop for Skb {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants we own a reference.
        unsafe {
            bindings::sk_skb_reason_drop(
                core::ptr::null_mut(),
                self.as_ptr(),
                bindings::skb_drop_reason_SKB_DROP_REASON_NOT_SPECIFIED,
            )
        }
    }
}

/// A doubly linked list of packets, each with a `T` in its control block.
///
/// Without a lock: whoever owns it brings one.
///
/// # Invariants
///
/// `list` is an initialised list whose packets it owns, one reference each, not shared; and there
/// is a `T` at the start of each one's control block.
#[pin_data(PinnedDrop)]
pub struct SkbList<T: Copy> {
    #[pin]
    list: Opaque<bindings::sk_buff_head>,
    _slot: PhantomData<T>,
}

// SAFETY: Packets may be passed between contexts.
unsafe impl<T: Copy + Send> Send for SkbList<T> {}

impl<T: Copy> SkbList<T> {
    /// An initialiser for an empty list.
    pub fn new() -> impl PinInit<Self> {
        const { assert!(size_of::<T>() <= 48 && align_of::<T>() <= 8) };
        pin_init!(Self {
            // INVARIANT: The list is empty.
            list <- Opaque::ffi_init(|list| {
                // SAFETY: `list` is valid for writes, and pinned.
                unsafe { bindings::__skb_queue_head_init(list) }
            }),
            _slot: PhantomData,
        })
    }

    /// Packets in the list.
    #[inline]
    pub fn len(&self) -> usize {
        // SAFETY: The list is initialised; whoever could change it has to borrow it mutably.
        // CAST: 32 bits fit.
        unsafe { (*self.list.get()).qlen as usize }
    }

    /// The sentinel, seen as a packet.
    #[inline]
    fn end(&self) -> *mut bindings::sk_buff {
        self.list.get().cast()
    }

    #[inline]
    fn first(&self) -> Option<NonNull<bindings::sk_buff>> {
        // SAFETY: The list is initialised, and is either its own successor or followed by a packet.
        let first = unsafe { next(self.end()) };
        if first == self.end() {
            None
        } else {
            NonNull::new(first)
        }
    }

    /// What belongs to the first packet.
    #[inline]
    pub fn front(&self) -> Option<T> {
        // SAFETY: By the type invariants there is a `T` in the control block.
        self.first().map(|skb| unsafe { slot::<T>(skb.as_ptr()).read() })
    }

    /// Takes the first packet out.
    #[inline]
    pub fn pop_front(&mut self) -> Option<Skb> {
        // SAFETY: The list is initialised and ours.
        let skb = unsafe { bindings::__skb_dequeue(self.list.get()) };
        // INVARIANT: The list has given up its reference.
        NonNull::new(skb).map(|ptr| Skb { ptr })
    }

    /// Walks from the last packet to the first, as long as `look` says so, then inserts `skb` where
    /// it said; or gives it back.
    pub fn insert(
        &mut self,
        skb: Skb,
        value: T,
        mut look: impl FnMut(&T) -> Step,
    ) -> Result<(), Skb> {
        let end = self.end();
        // The packet to insert after.
        // SAFETY: The list is initialised; its predecessor is itself or the last packet.
        let mut place = unsafe { prev(end) };
        let mut at = place;
        while at != end {
            // SAFETY: By the type invariants there is a `T` in the control block of each packet.
            let seen = unsafe { slot::<T>(at).read() };
            // SAFETY: `at` is in the list.
            let before = unsafe { prev(at) };
            match look(&seen) {
                Step::Before => place = before,
                Step::Pass => (),
                Step::Stop => break,
                Step::Refuse => return Err(skb),
            }
            at = before;
        }
        let skb = skb.into_raw();
        // SAFETY: We own `skb`, which is in no list; `place` is in this list, or is its sentinel.
        // The control block has room for a `T`, as `new` asserts.
        // INVARIANT: The list owns the packet now, and there is a `T` in its control block.
        unsafe {
            slot::<T>(skb).write(value);
            bindings::__skb_queue_after(self.list.get(), place, skb);
        }
        Ok(())
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
/// `skb` must be in a list, or be the sentinel of one.
#[inline]
unsafe fn next(skb: *mut bindings::sk_buff) -> *mut bindings::sk_buff {
    // SAFETY: Packets and sentinels begin with the same two pointers.
    unsafe { (*skb.cast::<[*mut bindings::sk_buff; 2]>())[0] }
}

/// # Safety
///
/// As for [`next`].
#[inline]
unsafe fn prev(skb: *mut bindings::sk_buff) -> *mut bindings::sk_buff {
    // SAFETY: Packets and sentinels begin with the same two pointers.
    unsafe { (*skb.cast::<[*mut bindings::sk_buff; 2]>())[1] }
}

/// # Safety
///
/// `skb` must be valid.
#[inline]
unsafe fn slot<T>(skb: *mut bindings::sk_buff) -> *mut T {
    // SAFETY: `skb` is valid. The control block is aligned to 8 bytes.
    unsafe { (&raw mut (*skb).cb).cast() }
}

#[pinned_drop]
impl<T: Copy> PinnedDrop for SkbList<T> {
    fn drop(self: Pin<&mut Self>) {
        loop {
            // SAFETY: The list is initialised and ours.
            let skb = unsafe { bindings::__skb_dequeue(self.list.get()) };
            let Some(ptr) = NonNull::new(skb) else {
                break;
            };
            // INVARIANT: The list has given up its reference.
            drop(Skb { ptr });
        }
    }
}
