// SPDX-License-Identifier: GPL-2.0

//! Bottom halves.
//!
//! C header: [`include/linux/bottom_half.h`](srctree/include/linux/bottom_half.h)

use crate::bindings;
use core::ptr::NonNull;
use kernel::types::NotThreadSafe;

/// Evidence that softirqs do not run on this CPU, and that the current task stays on it.
///
/// # Invariants
///
/// Bottom halves are disabled on the current CPU while instances of this guard exist, or the
/// current context is a softirq.
pub struct Guard(NotThreadSafe);

impl Guard {
    /// Disables bottom halves. May be nested, and called in softirq context.
    #[inline]
    pub fn new() -> Self {
        // SAFETY: Always safe to call; the matching enable is in `drop`.
        unsafe { bindings::local_bh_disable() };
        // INVARIANT: They were just disabled.
        Self(NotThreadSafe)
    }

    /// Evidence for what C has disabled.
    ///
    /// # Safety
    ///
    /// Bottom halves must be disabled, or this a softirq, for all of `'a`, and the result must stay
    /// in the current context.
    #[inline]
    pub unsafe fn assume<'a>() -> &'a Self {
        // SAFETY: A `Guard` has no size.
        // INVARIANT: By the safety requirement.
        unsafe { NonNull::dangling().as_ref() }
    }
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariant they were disabled by `new`. `NotThreadSafe` has kept the
        // guard in the task that did it.
        unsafe { bindings::local_bh_enable() };
    }
}
