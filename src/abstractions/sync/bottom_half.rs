// SPDX-License-Identifier: GPL-2.0

//! Bottom halves.
//!
//! C header: [`include/linux/bottom_half.h`](srctree/include/linux/bottom_half.h)

use crate::bindings;
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
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariant they were disabled by `new`. `NotThreadSafe` has kept the
        // guard in the task that did it.
        unsafe { bindings::local_bh_enable() };
    }
}
