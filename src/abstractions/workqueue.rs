// SPDX-License-Identifier: GPL-2.0

//! Workqueues of one's own, which can be waited for.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use crate::{
    abstractions::sync::rcu,
    bindings,
    prelude::*, //
};
use core::{
    ops::Deref,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    alloc::AllocError,
    sync::atomic::{
        Acquire,
        Atomic,
        Relaxed,
        Release, //
    },
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

/// A place for the one workqueue of a module, for a `static`.
///
/// # Invariants
///
/// `wq` is null, or a workqueue that is destroyed a grace period after it was taken out.
pub struct ModuleQueue {
    wq: Atomic<*mut bindings::workqueue_struct>,
}

/// Takes the workqueue out again on drop, and waits until all work that was queued has run. Sleeps.
pub struct ModuleQueueGuard(&'static ModuleQueue);

impl ModuleQueue {
    /// Without a workqueue.
    pub const fn new() -> Self {
        // INVARIANT: Null.
        Self {
            wq: Atomic::new(ptr::null_mut()),
        }
    }

    /// Puts a workqueue there. May sleep. `EBUSY` if there is one.
    pub fn fill(&'static self, queue: OwnedQueue) -> Result<ModuleQueueGuard> {
        // INVARIANT: The workqueue is owned by this place if there was none; the guard, of which
        // there is one, takes it out.
        if self
            .wq
            .cmpxchg(ptr::null_mut(), queue.wq.as_ptr(), Release)
            .is_err()
        {
            return Err(EBUSY);
        }
        core::mem::forget(queue);
        Ok(ModuleQueueGuard(self))
    }

    /// Calls `f` with the workqueue, if there is one. Any context; `f` must not sleep.
    pub fn with(&self, f: impl FnOnce(&Queue)) {
        let _guard = rcu::read_lock();
        let wq = self.wq.load(Acquire);
        if !wq.is_null() {
            // SAFETY: By the type invariant the workqueue is there until the read section ends.
            f(unsafe { Queue::from_raw(wq.cast()) });
        }
    }
}

impl Drop for ModuleQueueGuard {
    fn drop(&mut self) {
        let wq = self.0.wq.xchg(ptr::null_mut(), Relaxed);
        rcu::synchronize_rcu();
        // INVARIANT: It is this value's now.
        drop(NonNull::new(wq).map(|wq| OwnedQueue { wq }));
    }
}
