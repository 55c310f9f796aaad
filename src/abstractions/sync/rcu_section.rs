// SPDX-License-Identifier: GPL-2.0

//! RCU read sections that C is in.
//!
//! C header: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h)

use core::ptr::NonNull;
use kernel::sync::rcu;

/// Evidence for a read section that the caller has entered, so that it need not be entered again.
///
/// # Safety
///
/// The RCU read lock must be held for all of `'a`, and the result must stay in the current context.
#[inline]
pub unsafe fn assume<'a>() -> &'a rcu::Guard {
    const { assert!(size_of::<rcu::Guard>() == 0) };
    // SAFETY: A guard has no size, and says what the safety requirement does; it is not dropped.
    unsafe { NonNull::dangling().as_ref() }
}
