// SPDX-License-Identifier: GPL-2.0

//! Reading what is read for each packet.
//!
//! C header: [`include/linux/compiler.h`](srctree/include/linux/compiler.h)

use kernel::sync::atomic::{
    Atomic,
    AtomicType, //
};

/// As `cell.load(Relaxed)`, without a call of a function, which that is on this kernel.
#[inline]
pub fn read_once<T: AtomicType>(cell: &Atomic<T>) -> T {
    const { assert!(size_of::<T>() <= size_of::<usize>()) };
    // SAFETY: The pointer is valid and aligned, and writers use atomic stores: this is `READ_ONCE`
    // of no more than a word.
    unsafe { cell.as_ptr().read_volatile() }
}
