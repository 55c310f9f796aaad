// SPDX-License-Identifier: GPL-2.0

//! A spinlock that is shared between process context and softirqs.
//!
//! C header: [`include/linux/spinlock.h`](srctree/include/linux/spinlock.h)

use crate::bindings;
use kernel::{
    ffi::c_char,
    sync::lock::{
        self,
        Lock, //
    }, //
};

/// A spinlock that disables bottom halves while it is held.
///
/// `kernel::sync::SpinLock` does not: taken in process context and then again by a softirq on the
/// same CPU, it would deadlock.
pub type SpinLockBh<T> = Lock<T, SpinLockBhBackend>;

/// The [`lock::Backend`] of [`SpinLockBh`].
pub struct SpinLockBhBackend;

// SAFETY: `spin_lock_bh` gives exclusive ownership until the matching `spin_unlock_bh`; the state
// is initialised by `__spin_lock_init` before it is used.
unsafe impl lock::Backend for SpinLockBhBackend {
    type State = kernel::bindings::spinlock_t;
    type GuardState = ();

    unsafe fn init(
        ptr: *mut Self::State,
        name: *const c_char,
        key: *mut kernel::bindings::lock_class_key,
    ) {
        // SAFETY: The safety requirements ensure that `ptr` is valid for writes, and that `name`
        // and `key` live for ever.
        unsafe { kernel::bindings::__spin_lock_init(ptr, name, key) }
    }

    #[inline]
    unsafe fn lock(ptr: *mut Self::State) {
        // SAFETY: The safety requirements ensure that `ptr` points to an initialised lock.
        unsafe { bindings::spin_lock_bh(ptr.cast()) }
    }

    #[inline]
    unsafe fn try_lock(ptr: *mut Self::State) -> Option<()> {
        // SAFETY: As for `lock`.
        unsafe { bindings::spin_trylock_bh(ptr.cast()) }.then_some(())
    }

    #[inline]
    unsafe fn unlock(ptr: *mut Self::State, _guard_state: &()) {
        // SAFETY: The safety requirements ensure that this context holds the lock.
        unsafe { bindings::spin_unlock_bh(ptr.cast()) }
    }

    #[inline]
    unsafe fn assert_is_held(ptr: *mut Self::State) {
        // SAFETY: The safety requirements ensure that `ptr` points to an initialised lock.
        unsafe { kernel::bindings::spin_assert_is_held(ptr) }
    }
}

/// Creates a [`SpinLockBh`] initialiser with a new lock class.
macro_rules! new_spinlock_bh {
    ($inner:expr, $name:literal) => {
        $crate::abstractions::sync::SpinLockBh::new(
            $inner,
            ::kernel::c_str!($name),
            ::kernel::static_lock_class!(),
        )
    };
}
pub(crate) use new_spinlock_bh;
