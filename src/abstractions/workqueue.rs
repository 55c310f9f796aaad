// SPDX-License-Identifier: GPL-2.0

//! A workqueue of one's own, which can be waited for.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use crate::bindings;
use core::{
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    alloc::AllocError,
    prelude::*,
    workqueue::Queue, //
};

/// An unbound workqueue that is drained and destroyed on drop.
///
/// # Invariants
///
/// `wq` is a workqueue that this value owns.
pub struct OwnedQueue {
    wq: NonNull<bindings::workqueue_struct>,
}

// SAFETY: Workqueues are not tied to a thread.
unsafe impl Send for OwnedQueue {}
// SAFETY: The workqueue functions do their own locking.
unsafe impl Sync for OwnedQueue {}

impl OwnedQueue {
    /// Allocates an unbound workqueue. May sleep.
    pub fn new(name: &'static CStr) -> Result<Self, AllocError> {
        // SAFETY: The format takes one string, which lives for ever.
        let wq = unsafe {
            bindings::alloc_workqueue_noprof(
                c"%s".as_char_ptr(),
                bindings::wq_flags_WQ_UNBOUND,
                0,
                name.as_char_ptr(),
            )
        };
        // INVARIANT: It was just allocated.
        Ok(Self {
            wq: NonNull::new(wq).ok_or(AllocError)?,
        })
    }

    /// Waits until all work that was queued before has run. Sleeps; must not be called by that
    /// work, nor with a lock held that it takes.
    pub fn flush(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::__flush_workqueue(self.wq.as_ptr()) }
    }
}

impl Deref for OwnedQueue {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        // SAFETY: By the type invariant the workqueue lives as long as `self`.
        unsafe { Queue::from_raw(self.wq.as_ptr().cast()) }
    }
}

impl Drop for OwnedQueue {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; nobody can queue work through this value any more.
        unsafe { bindings::destroy_workqueue(self.wq.as_ptr()) }
    }
}
