// SPDX-License-Identifier: GPL-2.0

//! Timers that keep what they belong to alive while they are pending.
//!
//! C header: [`include/linux/timer.h`](srctree/include/linux/timer.h)

use crate::{
    bindings,
    prelude::*, //
};
use core::{
    marker::PhantomData,
    ptr, //
};
use kernel::{
    ffi,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    types::Opaque, //
};

/// What has a [`Timer`].
pub trait Expire: Send + Sync + Sized + 'static {
    /// The timer has expired. Softirq.
    fn expire(this: Arc<Self>);
}

/// A timer inside of a `T`.
///
/// While it is pending it owns a reference to its `T`, so that it need not be stopped before `T` is
/// dropped; but somebody has to stop it, or wait, for that to happen. The reference that `expire`
/// gets may be the last one: **`T` may be dropped in softirq context.**
///
/// # Invariants
///
/// `timer` is initialised. While it is pending, and until its callback has read `target`, `target` is
/// a reference to a `T` that came from `Arc::into_raw`.
#[pin_data]
pub struct Timer<T: Expire> {
    #[pin]
    timer: Opaque<bindings::timer_list>,
    target: Atomic<usize>,
    _target: PhantomData<Arc<T>>,
}

// SAFETY: Timers do their own locking, and `T` may be used and dropped by any thread.
unsafe impl<T: Expire> Send for Timer<T> {}
// SAFETY: As above.
unsafe impl<T: Expire> Sync for Timer<T> {}

impl<T: Expire> Timer<T> {
    /// An initialiser for a timer that is not pending.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            timer <- Opaque::ffi_init(|slot: *mut bindings::timer_list| {
                // SAFETY: `slot` is valid for writes, and pinned.
                unsafe { bindings::timer_setup(slot, Some(Self::callback)) }
            }),
            target: Atomic::new(0),
            _target: PhantomData,
        })
    }

    /// Makes the timer expire in `ticks`, or at the time it was already set for if that is sooner.
    /// `this` must be what the timer is inside of; otherwise nothing happens. Any context.
    pub fn start(&self, this: &Arc<T>, ticks: u64) {
        let offset = ptr::from_ref(self)
            .addr()
            .wrapping_sub(Arc::as_ptr(this).addr());
        if offset >= size_of::<T>() {
            return;
        }
        let target = Arc::into_raw(this.clone());
        self.target.store(target.expose_provenance(), Relaxed);
        // CAST: Later than the wrap of the counter is as good as never.
        let ticks = ticks.min(i32::MAX as u64) as ffi::c_ulong;
        // SAFETY: The timer is initialised. `timer_reduce` starts a timer that is not pending.
        let was_pending = unsafe { bindings::timer_start_by(self.timer.get(), ticks) };
        if was_pending != 0 {
            // SAFETY: The pending timer has its reference already; this one is ours.
            drop(unsafe { Arc::from_raw(target) });
        }
        // INVARIANT: Otherwise it is the timer's now.
    }

    /// Stops the timer and waits for `expire` to return, should it be running. May not be called
    /// with a lock held that `expire` takes. Process context.
    pub fn stop(&self) {
        // SAFETY: The timer is initialised.
        if unsafe { bindings::timer_delete_sync(self.timer.get()) } != 0 {
            let target = ptr::with_exposed_provenance(self.target.load(Relaxed));
            // SAFETY: The timer was pending, so it had this reference, and will not use it.
            drop(unsafe { Arc::<T>::from_raw(target) });
        }
    }

    /// # Safety
    ///
    /// For the timer core only, with the `timer` field of a `Timer<T>` that has expired.
    unsafe extern "C" fn callback(timer: *mut bindings::timer_list) {
        let this = Opaque::cast_from(timer.cast_const());
        // SAFETY: Each `timer_list` that has this callback is in a `Timer<T>`, which is alive, since
        // the timer that has expired owned a reference to what it is inside of.
        let this = unsafe { &*kernel::container_of!(this, Self, timer) };
        let target = ptr::with_exposed_provenance(this.target.load(Relaxed));
        // SAFETY: By the type invariants.
        T::expire(unsafe { Arc::from_raw(target) });
    }
}
