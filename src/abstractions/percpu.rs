// SPDX-License-Identifier: GPL-2.0

//! Per-CPU packet counters.
//!
//! C headers: [`include/linux/percpu.h`](srctree/include/linux/percpu.h),
//! [`include/linux/u64_stats_sync.h`](srctree/include/linux/u64_stats_sync.h)

use crate::{
    bindings,
    prelude::*, //
};
use core::{
    cell::UnsafeCell,
    ptr::NonNull, //
};
use kernel::alloc::AllocError;

use super::sync::bottom_half;

/// Packets and bytes that only grow, one set of `N` for each CPU.
///
/// Written without a lock or an atomic operation, by the CPU that owns the set, with bottom halves
/// disabled. Read by anyone, who sees whole numbers, on 32-bit machines too.
///
/// # Invariants
///
/// `slots` was returned by `alloc_percpu` for a [`Slot<N>`], each of which has been initialised.
pub struct Counters<const N: usize> {
    slots: NonNull<Slot<N>>,
}

/// A number of packets and the bytes they hold.
#[derive(Clone, Copy, Default)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

#[repr(C)]
struct Slot<const N: usize> {
    counts: UnsafeCell<[Count; N]>,
    sync: UnsafeCell<bindings::u64_stats_sync>,
}

// SAFETY: The slots are per-CPU memory, which is not tied to a thread.
unsafe impl<const N: usize> Send for Counters<N> {}
// SAFETY: `add` writes only this CPU's slot, with bottom halves disabled; `sum` reads with
// volatile loads under the sequence count.
unsafe impl<const N: usize> Sync for Counters<N> {}

impl<const N: usize> Counters<N> {
    /// Allocates zeroed counters. May sleep.
    pub fn new() -> Result<Self, AllocError> {
        // SAFETY: Any size and alignment may be asked for.
        let ptr = unsafe { bindings::alloc_percpu(size_of::<Slot<N>>(), align_of::<Slot<N>>()) };
        let slots = NonNull::new(ptr.cast::<Slot<N>>()).ok_or(AllocError)?;
        // INVARIANT: The memory is zeroed, which is a valid `Slot` but for the sequence count on
        // 32-bit machines; that is initialised here, before anyone else knows the counters.
        let this = Self { slots };
        this.for_each_cpu(|slot| {
            // SAFETY: `slot` is this CPU's part of memory nobody else knows yet.
            unsafe { bindings::u64_stats_init((*slot).sync.get()) }
        });
        Ok(this)
    }

    /// Counts packets of `bytes` bytes in all on counter `I`.
    #[inline]
    pub fn add<const I: usize>(&self, packets: usize, bytes: usize, _bh: &bottom_half::Guard) {
        const { assert!(I < N) };
        // SAFETY: By the type invariant the pointer is per-CPU memory for a `Slot`.
        let slot = unsafe { bindings::this_cpu_ptr(self.slots.as_ptr().cast()) };
        let slot = slot.cast::<Slot<N>>();
        // SAFETY: The slot is valid by the type invariant. The guard shows that we stay on this CPU
        // and that no softirq writes in between, so we are the only writer; readers use volatile
        // loads and the sequence count. `I` is within bounds, as asserted above.
        unsafe {
            // Nothing on others, and not worth calling a function.
            #[cfg(not(CONFIG_64BIT))]
            bindings::u64_stats_update_begin((*slot).sync.get());
            let count = (*slot).counts.get().cast::<Count>().add(I);
            let old = *count;
            // CAST: `usize` is at most 64 bits wide.
            (&raw mut (*count).packets).write_volatile(old.packets.wrapping_add(packets as u64));
            // CAST: As above.
            (&raw mut (*count).bytes).write_volatile(old.bytes.wrapping_add(bytes as u64));
            #[cfg(not(CONFIG_64BIT))]
            bindings::u64_stats_update_end((*slot).sync.get());
        }
    }

    /// The sums over all CPUs. Any context.
    pub fn sum(&self) -> [Count; N] {
        let mut total = [Count::default(); N];
        self.for_each_cpu(|slot| {
            let mut seen = [Count::default(); N];
            loop {
                // SAFETY: The slot is valid by the type invariant, and has `N` counts. Each word is
                // read by a volatile load of its own, as its writer runs on another CPU: a word is
                // whole on 64-bit machines, where nothing else protects it; on others all of it is
                // read again if a writer was active.
                unsafe {
                    let start = bindings::u64_stats_fetch_begin((*slot).sync.get());
                    let mut count = (*slot).counts.get().cast::<Count>();
                    for one in &mut seen {
                        one.packets = (&raw const (*count).packets).read_volatile();
                        one.bytes = (&raw const (*count).bytes).read_volatile();
                        count = count.add(1);
                    }
                    if !bindings::u64_stats_fetch_retry((*slot).sync.get(), start) {
                        break;
                    }
                }
            }
            for (sum, one) in total.iter_mut().zip(seen) {
                sum.packets = sum.packets.wrapping_add(one.packets);
                sum.bytes = sum.bytes.wrapping_add(one.bytes);
            }
        });
        total
    }

    fn for_each_cpu(&self, mut f: impl FnMut(*mut Slot<N>)) {
        // SAFETY: Always safe to call.
        let end = unsafe { bindings::nr_cpu_ids() };
        let mut cpu = -1;
        loop {
            // SAFETY: The argument is -1 or a possible CPU.
            let next = unsafe { bindings::cpumask_next_possible(cpu) };
            if next >= end {
                break;
            }
            // CAST: CPU numbers fit in an `int`.
            cpu = next as i32;
            // SAFETY: By the type invariant, and as `cpu` is a possible CPU.
            f(unsafe { bindings::per_cpu_ptr(self.slots.as_ptr().cast(), cpu) }.cast());
        }
    }
}

impl<const N: usize> Drop for Counters<N> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; `free_percpu` may be called in any context, and nobody
        // can hold a reference to the counters any more.
        unsafe { bindings::free_percpu(self.slots.as_ptr().cast()) }
    }
}
