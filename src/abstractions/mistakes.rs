// SPDX-License-Identifier: GPL-2.0

//! Mistakes on request, to see that the kernel's instruments notice them in this module.
//!
//! Only with `CONFIG_L2TP_RUST_MISTAKES`, which tools/build-debug sets. KCSAN wants a kernel of its
//! own.

use super::{
    sync::new_spinlock_bh,
    workqueue::OwnedQueue, //
};
use crate::prelude::*;
use core::{
    cell::UnsafeCell,
    hint,
    mem, //
};
use kernel::new_mutex;

/// The requests: values that mean nothing else where they are taken.
const FIRST: u32 = 0xbad0_0000;

/// Makes the mistake that `request` stands for, if it stands for one. Sleeps.
pub fn make(request: u32) -> Result {
    match request.wrapping_sub(FIRST) {
        0 => use_after_free(),
        1 => leak(),
        2 => sleep_in_atomic_context(),
        3 => invert_locks(),
        4 => race(),
        _ => Ok(()),
    }
}

/// For KASAN.
#[inline(never)]
fn use_after_free() -> Result {
    let memory = KBox::new([1u64; 8], GFP_KERNEL)?;
    let first = memory.as_ptr();
    drop(memory);
    // SAFETY: There is no such argument: that is the mistake.
    let value = unsafe { first.read_volatile() };
    pr_info!("read {value} from freed memory\n");
    Ok(())
}

/// For kmemleak. Many, as the slab allocator's caches remember the last ones.
#[inline(never)]
fn leak() -> Result {
    for _ in 0..1024 {
        mem::forget(hint::black_box(KBox::new([2u64; 8], GFP_KERNEL)?));
    }
    Ok(())
}

/// For `DEBUG_ATOMIC_SLEEP`.
#[inline(never)]
fn sleep_in_atomic_context() -> Result {
    let outer = KBox::pin_init(new_spinlock_bh!((), "mistakes::outer"), GFP_KERNEL)?;
    let inner = KBox::pin_init(new_mutex!((), "mistakes::inner"), GFP_KERNEL)?;
    let atomic = outer.lock();
    drop(inner.lock());
    drop(atomic);
    Ok(())
}

/// For lockdep, which is satisfied with having seen both orders, one after the other.
#[inline(never)]
fn invert_locks() -> Result {
    let a = KBox::pin_init(new_mutex!((), "mistakes::a"), GFP_KERNEL)?;
    let b = KBox::pin_init(new_mutex!((), "mistakes::b"), GFP_KERNEL)?;
    let first = a.lock();
    drop(b.lock());
    drop(first);
    let first = b.lock();
    drop(a.lock());
    drop(first);
    Ok(())
}

/// A number without anything that protects it.
struct Shared(UnsafeCell<u64>);

// SAFETY: There is no such argument: that is the mistake.
unsafe impl Sync for Shared {}

/// For KCSAN, which looks at one access of many: so there are many, on two processors.
#[inline(never)]
fn race() -> Result {
    static COUNT: Shared = Shared(UnsafeCell::new(0));

    #[inline(never)]
    fn racing_count() {
        for _ in 0..1_000_000 {
            let count = hint::black_box(COUNT.0.get());
            // SAFETY: There is no such argument: that is the mistake.
            unsafe { *count = (*count).wrapping_add(1) };
        }
    }

    let queue = OwnedQueue::new(c"mistakes")?;
    queue.try_spawn(GFP_KERNEL, racing_count)?;
    racing_count();
    // The queue waits for the other one when it goes.
    Ok(())
}
